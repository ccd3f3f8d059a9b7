//! Differentiation of whole computations, in reverse (vjp) and forward (jvp) mode.
//!
//! Both append nodes to the same graph, so that a derivative shares every value with what it is
//! derived from, and can be derived again.
//!
//! * An accumulating reduction has `d out_i = Σ_j dψ_ij` with its saved results held fixed
//!   ([`crate::reduce::Accumulate::linearise`]). Reverse mode sums the formula-level gradient of ψ:
//!   over the same index for variables of the kept rows, over the other index for those of the
//!   reduced rows, over the same index and then over rows for parameters. Saved results and
//!   cotangents enter as ordinary variables, so that second derivatives follow by the chain rule.
//! * A selecting reduction is differentiated through the entries that it selected: the formula is
//!   evaluated again on the rows that won, a `RowMap` on gathered rows. Indices are held fixed.
//!
//! The two sweeps are here; `rules` differentiates one reduction or row map (`tables` what looks
//! entries up), `function` asks a [`Function`](crate::outer::Function), and `computation` is what users
//! call.

mod computation;
mod function;
mod rules;
mod tables;

use crate::error::{DimError, GradError};
use crate::graph::MAX_NODES;
use crate::outer::{OuterGraph, OuterId, OuterNode, Port};
use crate::reduce::Family;
use std::collections::{HashMap, HashSet};

/// Contributions to cotangents, each with the value that it belongs to.
type Cotangents = Vec<(Port, Port)>;

/// A contribution to the cotangent of a value: to all its columns, or from one column on.
#[derive(Clone, Copy, Debug)]
enum Part {
    Whole(Port),
    Columns(usize, Port),
}

/// The nodes whose cotangents a reverse sweep needs, found before it: nodes that the sweep adds are not
/// among them.
struct Wanted(Vec<bool>);

impl Wanted {
    fn has(&self, node: OuterId) -> bool {
        self.0.get(node.0 as usize) == Some(&true)
    }
}

impl OuterGraph {
    /// Reverse mode: given the cotangents of some values, the cotangents of the values `wrt` (in
    /// reverse order of evaluation, each with exactly the batch shape of its value); `None` where
    /// no seed depends on it.
    ///
    /// # Errors
    /// [`GradError::NotDifferentiable`] if a seed is for indices, [`GradError::Dim`] if a
    /// cotangent does not have the dimension and category of its value.
    ///
    /// ```
    /// use keops_core::{genred::Genred, graph::Category, reduce::SUM, spec::Axis};
    /// let g: Genred = Genred::new("x * y", &["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J)?;
    /// let c = g.computation();
    /// let (mut graph, value) = (c.graph().clone(), c.outputs()[0].port);
    /// let [x, y] = [Category::I, Category::J].map(|kind| graph.input(kind as usize, 2, kind));
    /// let cotangent = graph.input(2, 2, Category::I);
    /// let gradients = graph.vjp(&[(value, cotangent)], &[x, y])?;
    /// // As the values that they belong to; nothing depends on the cotangent itself.
    /// let like: Vec<_> = gradients.iter().map(|g| graph.info(g.unwrap())).collect();
    /// assert_eq!(like, [graph.info(x), graph.info(y)]);
    /// assert_eq!(graph.vjp(&[(value, cotangent)], &[cotangent])?, [None]);
    /// let e = graph.vjp(&[(value, y)], &[x]).unwrap_err();
    /// let text = "cotangent: expected I rows of dimension 2, got J rows of dimension 2";
    /// assert_eq!(e.to_string(), text);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn vjp(
        &mut self,
        seeds: &[(Port, Port)],
        wrt: &[Port],
    ) -> Result<Vec<Option<Port>>, GradError> {
        for (value, cotangent) in seeds {
            self.check_pair(*value, *cotangent, "cotangent")?;
        }
        let needed = self.depends_on(wrt);
        let mut parts: HashMap<Port, Vec<Part>> = HashMap::new();
        let mut top = 0;
        for (value, cotangent) in seeds {
            let whole = Part::Whole(self.rebatch(*cotangent, *value));
            parts.entry(*value).or_default().push(whole);
            top = top.max(value.node.0);
        }
        let mut total: HashMap<Port, Port> = HashMap::new();
        for id in (0..=top).rev().map(OuterId) {
            if !needed.has(id) {
                continue;
            }
            self.check_size()?;
            if let OuterNode::Apply(a) = self.node(id) {
                let a = a.clone();
                self.apply_vjp(&a, id, &needed, &mut parts, &mut total)?;
                continue;
            }
            for output in 0..self.ports(id).len() as u32 {
                let value = Port { node: id, output };
                let Some(list) = parts.remove(&value) else { continue };
                let cotangent = self.total(value, list);
                total.insert(value, cotangent);
                for (target, part) in self.pull_back(value, cotangent, &needed) {
                    let part = match part {
                        Part::Whole(p) => Part::Whole(self.rebatch(p, target)),
                        Part::Columns(at, p) => Part::Columns(at, self.rebatch(p, target)),
                    };
                    parts.entry(target).or_default().push(part);
                }
            }
        }
        self.check_size()?;
        Ok(wrt.iter().map(|w| total.get(w).copied()).collect())
    }

    /// Forward mode: given the tangents of some values, the tangents of `outputs`, each with the
    /// batch shape of its value; `None` where it depends on none of them.
    ///
    /// # Errors
    /// As [`OuterGraph::vjp`].
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// let (x, t) = (g.input(0, 2, Category::I), g.input(1, 2, Category::I));
    /// let total = g.sum_rows(x);
    /// let along = g.jvp(&[total], &[(x, t)])?; // the sum of the tangents
    /// assert_eq!(g.info(along[0].unwrap()), g.info(total));
    /// assert_eq!(g.jvp(&[t], &[(x, t)])?, [None]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn jvp(
        &mut self,
        outputs: &[Port],
        tangents: &[(Port, Port)],
    ) -> Result<Vec<Option<Port>>, GradError> {
        self.push_forward(outputs, tangents, &[])
    }

    /// As [`OuterGraph::jvp`], with some values held fixed: neither these nor what they depend on
    /// is differentiated. With the operands and results of a function among `tangents` or `held`,
    /// this is the tangent of what a rule of a [`Function`](crate::outer::Function) made of them.
    ///
    /// # Errors
    /// As [`OuterGraph::vjp`].
    pub fn push_forward(
        &mut self,
        outputs: &[Port],
        tangents: &[(Port, Port)],
        held: &[Port],
    ) -> Result<Vec<Option<Port>>, GradError> {
        let mut tangent: HashMap<Port, Port> = HashMap::new();
        for (value, t) in tangents {
            self.check_pair(*value, *t, "tangent")?;
            let t = self.rebatch(*t, *value);
            tangent.insert(*value, t);
        }
        for port in outputs {
            self.check_differentiable(*port)?;
        }
        // Nodes all of whose values are known.
        let mut done: HashSet<OuterId> = HashSet::new();
        for id in tangents.iter().map(|(value, _)| value).chain(held).map(|p| p.node) {
            let known = |p: &Port| tangent.contains_key(p) || held.contains(p);
            if self.results(id).iter().all(|p| known(p) || self.info(*p).index) {
                done.insert(id);
            }
        }
        for id in self.live_until(outputs, &|id| done.contains(&id)) {
            self.check_size()?;
            let value = Port { node: id, output: 0 };
            if done.contains(&id) {
                continue;
            }
            let node = self.node(id).clone();
            if let OuterNode::Apply(a) = &node {
                self.apply_jvp(a, id, &mut tangent)?;
                let given = |p: &Port| tangents.iter().any(|(value, _)| value == p);
                held.iter()
                    .filter(|p| p.node == id && !given(p))
                    .for_each(|p| _ = tangent.remove(p));
                continue;
            }
            let t = match &node {
                OuterNode::Input { .. } | OuterNode::RowIndex { .. } => None,
                OuterNode::Reduce(r) => match &r.reduction.kind {
                    Family::Accumulate(a) => self.accumulate_jvp(a, r, (value, false), &tangent),
                    Family::Select(s) => self.select_jvp(s, r, id, &tangent),
                },
                OuterNode::RowMap(m) => self.row_map_jvp(m, &tangent),
                OuterNode::SumRows { x } => tangent.get(x).map(|&t| self.sum_rows(t)),
                OuterNode::GatherRows { x, at } => {
                    tangent.get(x).map(|&t| self.gather_rows(t, *at))
                }
                OuterNode::ScatterAddRows { x, at, category } => {
                    tangent.get(x).map(|&t| self.scatter_add_rows(t, *at, *category))
                }
                OuterNode::Scatter(s) => self.scatter_jvp(s, &tangent),
                OuterNode::Rebatch { x, like } => tangent.get(x).map(|&t| self.rebatch(t, *like)),
                OuterNode::Apply(_) => unreachable!("its results are differentiated above"),
            };
            if let Some(t) = t {
                let t = self.rebatch(t, value);
                tangent.insert(value, t);
            }
        }
        self.check_size()?;
        Ok(outputs.iter().map(|o| tangent.get(o).copied()).collect())
    }

    /// [`OuterGraph::vjp`] (or, `forward`, [`OuterGraph::jvp`]) of one value in one other, as a
    /// function of the result `saved` of an earlier evaluation where the reduction's derivative
    /// reads its result: log-sum-exp and its like.
    pub(crate) fn derivative_with_saved(
        &mut self,
        (value, saved): (Port, Port),
        (wrt, with): (Port, Port),
        forward: bool,
    ) -> Result<Option<Port>, GradError> {
        let node = self.node(value.node).clone();
        let (r, a) = match &node {
            OuterNode::Reduce(r) => match &r.reduction.kind {
                Family::Accumulate(a) if a.pivot.is_some() => (r, a),
                _ => return self.derivative_of(value, (wrt, with), forward),
            },
            _ => return self.derivative_of(value, (wrt, with), forward),
        };
        self.check_pair(value, saved, "saved result")?;
        if forward {
            self.check_pair(wrt, with, "tangent")?;
            let t = self.accumulate_jvp(a, r, (saved, true), &HashMap::from([(wrt, with)]));
            return Ok(t.map(|t| self.rebatch(t, value)));
        }
        self.check_pair(value, with, "cotangent")?;
        let list = self.accumulate_vjp(a, r, (saved, true), with, &|p| *p == wrt);
        let parts: Vec<Part> =
            list.into_iter().map(|(_, p)| Part::Whole(self.rebatch(p, wrt))).collect();
        Ok(if parts.is_empty() { None } else { Some(self.total(wrt, parts)) })
    }
    fn derivative_of(
        &mut self,
        value: Port,
        (wrt, with): (Port, Port),
        forward: bool,
    ) -> Result<Option<Port>, GradError> {
        Ok(if forward {
            self.jvp(&[value], &[(wrt, with)])?[0]
        } else {
            self.vjp(&[(value, with)], &[wrt])?[0]
        })
    }

    fn check_size(&self) -> Result<(), GradError> {
        if self.is_full() { Err(GradError::TooLarge { limit: MAX_NODES }) } else { Ok(()) }
    }
    /// What a value is, for messages.
    fn check_differentiable(&self, value: Port) -> Result<(), GradError> {
        if !self.info(value).index {
            return Ok(());
        }
        let what = match self.node(value.node) {
            OuterNode::Reduce(r) => r.reduction.name,
            _ => "an index",
        };
        Err(GradError::NotDifferentiable {
            what: what.into(),
            reason: "its results are indices".into(),
        })
    }
    fn check_pair(&self, value: Port, with: Port, what: &str) -> Result<(), GradError> {
        self.check_differentiable(value)?;
        let (v, w) = (self.info(value), self.info(with));
        if v == w {
            return Ok(());
        }
        let text =
            |p: crate::outer::PortInfo| format!("{:?} rows of dimension {}", p.category, p.dim);
        Err(DimError::new(what, text(v), text(w)).into())
    }
    /// For each node: does a value of it depend on `wrt`?
    fn depends_on(&self, wrt: &[Port]) -> Wanted {
        let mut needed = vec![false; self.len()];
        for k in 0..self.len() {
            let id = OuterId(k as u32);
            let through = |p: &Port| needed[p.node.0 as usize] && !self.info(*p).index;
            needed[k] =
                wrt.iter().any(|w| w.node == id) || self.node(id).operands().iter().any(through);
        }
        Wanted(needed)
    }
    /// The sum of all contributions to the cotangent of `value`.
    fn total(&mut self, value: Port, list: Vec<Part>) -> Port {
        let mut whole: Vec<Port> = vec![];
        let mut columns: Vec<(usize, Port)> = vec![];
        for part in list {
            match part {
                Part::Whole(p) => whole.push(p),
                Part::Columns(at, p) => columns.push((at, p)),
            }
        }
        columns.sort();
        let info = self.info(value);
        // Runs of disjoint columns are put side by side, so that the k columns of k winners cost
        // as much as one value.
        while !columns.is_empty() {
            let (mut rest, mut pieces, mut end) = (vec![], vec![], 0);
            for (at, p) in columns {
                if at < end {
                    rest.push((at, p));
                    continue;
                }
                if at > end {
                    pieces.push(self.zeros(at - end, info.category));
                }
                pieces.push(p);
                end = at + self.info(p).dim;
            }
            if end < info.dim {
                pieces.push(self.zeros(info.dim - end, info.category));
            }
            whole.push(self.concat(&pieces));
            columns = rest;
        }
        self.add(&whole)
    }

    /// Contributions of a value's cotangent `g` to the cotangents of the node's operands.
    fn pull_back(&mut self, value: Port, g: Port, needed: &Wanted) -> Vec<(Port, Part)> {
        let node = self.node(value.node).clone();
        let wanted = |p: &Port| needed.has(p.node);
        if let Some((x, start, 1, _)) = Self::as_columns(&node) {
            return vec![(x, Part::Columns(start, g))];
        }
        let one = |target: Port, p: Port| vec![(target, p)];
        let list = match &node {
            OuterNode::Input { .. } | OuterNode::RowIndex { .. } => vec![],
            OuterNode::Reduce(r) => match &r.reduction.kind {
                Family::Accumulate(a) => self.accumulate_vjp(a, r, (value, false), g, &wanted),
                Family::Select(s) => self.select_vjp(s, r, value.node, g, &wanted),
            },
            OuterNode::RowMap(m) => self.row_map_vjp(m, g, &wanted),
            OuterNode::SumRows { x } => {
                let category = self.info(*x).category;
                one(*x, self.map_rows(category, &[g], |_, g| g[0]))
            }
            OuterNode::GatherRows { x, at } => {
                let category = self.info(*x).category;
                one(*x, self.scatter_add_rows(g, *at, category))
            }
            OuterNode::ScatterAddRows { x, at, .. } => one(*x, self.gather_rows(g, *at)),
            OuterNode::Scatter(s) => self.scatter_vjp(s, g, &wanted),
            // The caller gives every contribution the batches of its target.
            OuterNode::Rebatch { x, .. } => one(*x, g),
            OuterNode::Apply(_) => unreachable!("all its results are differentiated together"),
        };
        list.into_iter().map(|(target, p)| (target, Part::Whole(p))).collect()
    }

    fn results(&self, node: OuterId) -> Vec<Port> {
        (0..self.ports(node).len() as u32).map(|output| Port { node, output }).collect()
    }
    /// Contributions of the cotangent of the result of one reduction or row map to those of its
    /// operands `wrt`, each with what it belongs to, without what the operands depend on
    /// themselves: the piece that rules of a [`Function`](crate::outer::Function) are made of.
    ///
    /// # Errors
    /// [`GradError::Dim`] if the cotangent does not fit the result.
    pub fn pull_back_one(
        &mut self,
        value: Port,
        cotangent: Port,
        wrt: &[Port],
    ) -> Result<Vec<(Port, Port)>, GradError> {
        self.check_pair(value, cotangent, "cotangent")?;
        let mut needed = vec![false; self.len()];
        wrt.iter().for_each(|p| needed[p.node.0 as usize] = true);
        let mut list = vec![];
        for (target, part) in self.pull_back(value, cotangent, &Wanted(needed)) {
            let part = match part {
                Part::Whole(p) => Part::Whole(self.rebatch(p, target)),
                Part::Columns(at, p) => Part::Columns(at, self.rebatch(p, target)),
            };
            list.push((target, self.total(target, vec![part])));
        }
        Ok(list.into_iter().filter(|(target, _)| wrt.contains(target)).collect())
    }
}

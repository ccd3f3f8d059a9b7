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
//!   evaluated again on the rows that won, a [`RowMap`] on gathered rows. Indices are held fixed.

mod tables;

use crate::autodiff;
use crate::error::{DimError, GradError};
use crate::graph::{Builder, Category, Ex, Graph, MAX_NODES, Node, NodeId, Var};
use crate::ops::IF_ELSE;
use crate::outer::{
    Application, Applied, Computation, InputDef, OuterGraph, OuterId, OuterNode, OutputDef, Port,
    Reduction, RowMap, Selected,
};
use crate::reduce::{self, Accumulate, Family, Select};
use crate::spec::Axis;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tables::{Parts, parts};

/// Contributions to cotangents, each with the value that it belongs to.
type Cotangents = Vec<(Port, Port)>;

/// A contribution to the cotangent of a value: to all its columns, or from one column on.
#[derive(Clone, Copy, Debug)]
enum Part {
    Whole(Port),
    Columns(usize, Port),
}

/// The gradient with respect to one variable, before the reduction or row map it is part of.
struct Gradient {
    var: Var,
    target: Port,
    value: NodeId,
}

/// How the gradients of one reduction or row map are evaluated.
enum Evaluate<'r> {
    /// A sum over this index, of the pairs of a reduction.
    Sum(&'r Reduction, Axis),
    Rows(Category, Option<Var>),
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
            if !needed[id.0 as usize] {
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
            return Ok(self.accumulate_jvp(a, r, (saved, true), &HashMap::from([(wrt, with)])));
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
    fn depends_on(&self, wrt: &[Port]) -> Vec<bool> {
        let mut needed = vec![false; self.len()];
        for k in 0..self.len() {
            let id = OuterId(k as u32);
            let through = |p: &Port| needed[p.node.0 as usize] && !self.info(*p).index;
            needed[k] =
                wrt.iter().any(|w| w.node == id) || self.node(id).operands().iter().any(through);
        }
        needed
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
    fn pull_back(&mut self, value: Port, g: Port, needed: &[bool]) -> Vec<(Port, Part)> {
        let node = self.node(value.node).clone();
        let wanted = |p: &Port| needed[p.node.0 as usize];
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

    /// The tangents of the results of a function that is defined elsewhere.
    fn apply_jvp(
        &mut self,
        a: &Applied,
        id: OuterId,
        tangent: &mut HashMap<Port, Port>,
    ) -> Result<(), GradError> {
        let own: Vec<_> = a.operands.iter().map(|p| tangent.get(p).copied()).collect();
        if own.iter().all(|t| t.is_none()) {
            return Ok(());
        }
        let results = self.results(id);
        let at = Application { operands: &a.operands, results: &results };
        let made = a.function.jvp(self, &at, &own)?;
        for (value, t) in results.into_iter().zip(made) {
            if let Some(t) = t.filter(|_| !tangent.contains_key(&value)) {
                self.check_pair(value, t, &format!("tangent from {}", a.function.name()))?;
                let t = self.rebatch(t, value);
                tangent.insert(value, t);
            }
        }
        Ok(())
    }
    /// The cotangents of the operands of a function that is defined elsewhere.
    fn apply_vjp(
        &mut self,
        a: &Applied,
        id: OuterId,
        needed: &[bool],
        parts: &mut HashMap<Port, Vec<Part>>,
        total: &mut HashMap<Port, Port>,
    ) -> Result<(), GradError> {
        let results = self.results(id);
        let mut cotangents = vec![];
        for &value in &results {
            let g = parts.remove(&value).map(|list| self.total(value, list));
            g.map(|g| total.insert(value, g));
            cotangents.push(g);
        }
        if cotangents.iter().all(|g| g.is_none()) {
            return Ok(());
        }
        let at = Application { operands: &a.operands, results: &results };
        let wanted = |p: &Port| needed.get(p.node.0 as usize) == Some(&true);
        for (target, p) in a.function.vjp(self, &at, &cotangents)? {
            if !a.operands.contains(&target) {
                let m = format!("cotangent from {}", a.function.name());
                return Err(DimError::new(&m, "one of an operand", "one of another value").into());
            }
            if wanted(&target) {
                self.check_pair(target, p, &format!("cotangent from {}", a.function.name()))?;
                let p = self.rebatch(p, target);
                parts.entry(target).or_default().push(Part::Whole(p));
            }
        }
        Ok(())
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
        for (target, part) in self.pull_back(value, cotangent, &needed) {
            let part = match part {
                Part::Whole(p) => Part::Whole(self.rebatch(p, target)),
                Part::Columns(at, p) => Part::Columns(at, self.rebatch(p, target)),
            };
            list.push((target, self.total(target, vec![part])));
        }
        Ok(list.into_iter().filter(|(target, _)| wrt.contains(target)).collect())
    }

    /// Evaluates gradients that belong to one reduction or row map together, so that they share
    /// its kernel evaluations; returns the contribution to each target.
    fn evaluate(
        &mut self,
        builder: Builder,
        parts: Parts,
        bindings: Bindings,
        how: Evaluate<'_>,
    ) -> (Cotangents, Vec<(RowMap, Port)>) {
        let (mut list, mut tables) = (vec![], vec![]);
        if parts.has_look_ups() {
            let graph = builder.graph().clone();
            (list, tables) = self.scattered(graph, &parts, &bindings.0, &how);
        }
        let gradients = &parts.variables;
        if gradients.is_empty() {
            return (list, tables);
        }
        let (root, dims) = {
            let parts: Vec<Ex<'_>> = gradients.iter().map(|g| builder.ex(g.value)).collect();
            let joined = Ex::concat(&parts);
            let root = match &how {
                Evaluate::Rows(_, Some(present)) => masked(builder.var(*present), joined),
                _ => joined,
            };
            (root.id, parts.iter().map(|p| p.dim()).collect::<Vec<_>>())
        };
        let graph = Arc::new(builder.into_graph());
        let bindings = bindings.used(&graph, &[root]);
        let joined = match how {
            Evaluate::Sum(of, axis) => {
                let node = self.reduce(sum_of(of, axis, graph, root, bindings));
                Port { node, output: 0 }
            }
            Evaluate::Rows(category, present) => {
                self.row_map(RowMap { graph, root, bindings, category, present })
            }
        };
        let mut at = 0;
        for (g, dim) in gradients.iter().zip(dims) {
            let mut p = self.columns(joined, at, dim);
            at += dim;
            if g.var.category == Category::Param && self.info(p).category != Category::Param {
                p = self.sum_rows(p);
            }
            list.push((g.target, p));
        }
        (list, tables)
    }

    fn row_map_vjp(
        &mut self,
        m: &RowMap,
        g: Port,
        wanted: &dyn Fn(&Port) -> bool,
    ) -> Vec<(Port, Port)> {
        let (mut list, tables) = self.row_map_step(m, g, wanted);
        self.pull_back_tables(tables, wanted, &mut list);
        list
    }

    fn row_map_step(
        &mut self,
        m: &RowMap,
        g: Port,
        wanted: &dyn Fn(&Port) -> bool,
    ) -> (Cotangents, Vec<(RowMap, Port)>) {
        let b = Builder::default();
        let (parts, bindings) = {
            let root = b.import(&m.graph, m.root);
            let mut bindings = Bindings::of(&m.bindings);
            let seed = bindings.fresh(&b, self, g);
            (parts(root, seed, &m.bindings, wanted), bindings)
        };
        self.evaluate(b, parts, bindings, Evaluate::Rows(m.category, m.present))
    }

    fn row_map_jvp(&mut self, m: &RowMap, tangent: &HashMap<Port, Port>) -> Option<Port> {
        let b = Builder::default();
        let (root, bindings) = {
            let root = b.import(&m.graph, m.root);
            let mut bindings = Bindings::of(&m.bindings);
            let t = bindings.tangents(&b, self, &m.bindings, tangent);
            let d = autodiff::jvp(root, &t)?;
            (m.present.map_or(d, |p| masked(b.var(p), d)).id, bindings)
        };
        let (graph, RowMap { category, present, .. }) = (Arc::new(b.into_graph()), m.clone());
        let bindings = bindings.used(&graph, &[root]);
        Some(self.row_map(RowMap { graph, root, bindings, category, present }))
    }

    /// ψ of an accumulating reduction in `b`, with the bindings of its variables. Where the result
    /// `out` is `given`, it serves for what can be had of it.
    fn linearised<'g>(
        &mut self,
        b: &'g Builder,
        a: &Accumulate,
        r: &Reduction,
        (out, given): (Port, bool),
    ) -> (Ex<'g>, Bindings) {
        let mut bindings = Bindings::of(&r.bindings);
        let f = b.import(&r.graph, r.formula);
        let w = r.weight.map(|w| b.import(&r.graph, w));
        let saved = a.saved.filter(|s| !(given && s.weighted)).map(|s| {
            let weight = r.weight.filter(|_| s.weighted);
            let saved = Reduction { reduction: s.reduction, weight, ..r.clone() };
            let bindings = Bindings::of(&r.bindings).used(&r.graph, &saved.roots());
            Port { node: self.reduce(Reduction { bindings, ..saved }), output: 0 }
        });
        let result = bindings.fresh(b, self, out);
        let saved = saved.map(|s| bindings.fresh(b, self, s));
        ((a.linearise)(f, w, result, saved), bindings)
    }

    fn accumulate_vjp(
        &mut self,
        a: &Accumulate,
        r: &Reduction,
        out: (Port, bool),
        g: Port,
        wanted: &dyn Fn(&Port) -> bool,
    ) -> Vec<(Port, Port)> {
        let mut list = vec![];
        // One reduction for each axis.
        for axis in [r.axis, r.axis.flip()] {
            let mine = |v: &Var| (v.category == r.axis.reduced()) == (axis != r.axis);
            if !r.bindings.iter().any(|(v, p)| mine(v) && wanted(p)) {
                continue;
            }
            let b = Builder::default();
            let (parts, bindings) = {
                let (psi, mut bindings) = self.linearised(&b, a, r, out);
                let own: Vec<_> = r.bindings.iter().filter(|(v, _)| mine(v)).copied().collect();
                let seed = bindings.fresh(&b, self, g);
                (parts(psi, seed, &own, wanted), bindings)
            };
            let how = Evaluate::Sum(r, axis);
            let (own, tables) = self.evaluate(b, parts, bindings, how);
            list.extend(own);
            self.pull_back_tables(tables, wanted, &mut list);
        }
        list
    }

    fn accumulate_jvp(
        &mut self,
        a: &Accumulate,
        r: &Reduction,
        out: (Port, bool),
        tangent: &HashMap<Port, Port>,
    ) -> Option<Port> {
        if !r.bindings.iter().any(|(_, p)| tangent.contains_key(p)) {
            return None;
        }
        let b = Builder::default();
        let (root, bindings) = {
            let (psi, mut bindings) = self.linearised(&b, a, r, out);
            let t = bindings.tangents(&b, self, &r.bindings, tangent);
            (autodiff::jvp(psi, &t)?.id, bindings)
        };
        let graph = Arc::new(b.into_graph());
        let bindings = bindings.used(&graph, &[root]);
        let node = self.reduce(sum_of(r, r.axis, graph, root, bindings));
        Some(Port { node, output: 0 })
    }

    /// The indices that a selecting reduction selected.
    fn selected(&mut self, s: &Select, r: &Reduction, id: OuterId) -> Option<Port> {
        if s.index {
            return Some(Port { node: id, output: s.value as u32 });
        }
        let indices = Select { value: false, index: true, ..*s };
        let reduction = reduce::ALL
            .iter()
            .copied()
            .find(|d| matches!(&d.kind, Family::Select(t) if *t == indices))?;
        let node = self.reduce(Reduction { reduction, ..r.clone() });
        Some(Port { node, output: 0 })
    }

    /// The formula on the rows that one column of a selecting reduction selected: component
    /// `at.column % dim` of the formula, with reduced variables gathered and the reduced index
    /// replaced by the selected one.
    fn winner(&mut self, r: &Reduction, at: Selected) -> RowMap {
        let (kept, reduced) = (r.axis.kept(), r.axis.reduced());
        let used = r.graph.variables(&[r.formula]);
        let mut bindings = vec![];
        for (v, p) in r.bindings.iter().filter(|(v, _)| used.contains(v)) {
            bindings.push(if v.category == reduced {
                (Var { category: kept, ..*v }, self.gather_rows(*p, at))
            } else {
                (*v, *p)
            });
        }
        let mut bindings = Bindings(bindings);
        let place = self.row_index(at);
        let position = bindings.fresh_var(self, place);
        let mut graph = Graph::default();
        let root = graph.import_nodes(&r.graph, &[r.formula], |g, node| match node {
            Node::Var(v) if v.category == reduced => {
                Some(g.intern(Node::Var(Var { category: kept, ..*v })))
            }
            Node::Index(c) if *c == reduced => Some(g.intern(Node::Var(position))),
            _ => None,
        })[0];
        let b = Builder::from_graph(graph);
        let component = at.column % r.graph.dim(r.formula);
        let root = b.ex(root).pick(component, 1, 1).id;
        let graph = Arc::new(b.into_graph());
        RowMap { graph, root, bindings: bindings.0, category: kept, present: Some(position) }
    }

    fn select_vjp(
        &mut self,
        s: &Select,
        r: &Reduction,
        id: OuterId,
        g: Port,
        wanted: &dyn Fn(&Port) -> bool,
    ) -> Vec<(Port, Port)> {
        let Some(index) = self.selected(s, r, id) else { return vec![] };
        let mut list = vec![];
        for column in 0..self.info(index).dim {
            // The caller sees that it is full.
            if self.is_full() {
                break;
            }
            let at = Selected { index, column };
            let winner = self.winner(r, at);
            // The source of each gathered row, where a gradient is wanted.
            let mut source: HashMap<Port, Port> = HashMap::new();
            for (v, p) in &r.bindings {
                if v.category == r.axis.reduced() && wanted(p) {
                    source.insert(self.gather_rows(*p, at), *p);
                }
            }
            let of_winner = |p: &Port| {
                source.contains_key(p) || ((p.node.0 as usize) < id.0 as usize && wanted(p))
            };
            let g = self.columns(g, column, 1);
            for (target, p) in self.row_map_vjp(&winner, g, &of_winner) {
                match source.get(&target) {
                    Some(&x) => list.push((x, self.scatter_add_rows(p, at, r.axis.reduced()))),
                    None => list.push((target, p)),
                }
            }
        }
        list
    }

    fn select_jvp(
        &mut self,
        s: &Select,
        r: &Reduction,
        id: OuterId,
        tangent: &HashMap<Port, Port>,
    ) -> Option<Port> {
        let active: Vec<_> =
            r.bindings.iter().filter_map(|(v, p)| tangent.get(p).map(|t| (*v, *p, *t))).collect();
        if active.is_empty() || !s.value {
            return None;
        }
        let index = self.selected(s, r, id)?;
        let mut parts = vec![];
        for column in 0..self.info(index).dim {
            if self.is_full() {
                return None;
            }
            let at = Selected { index, column };
            let winner = self.winner(r, at);
            let mut own: HashMap<Port, Port> = HashMap::new();
            for (v, p, t) in &active {
                if v.category == r.axis.reduced() {
                    own.insert(self.gather_rows(*p, at), self.gather_rows(*t, at));
                } else {
                    own.insert(*p, *t);
                }
            }
            let part = self.row_map_jvp(&winner, &own);
            parts.push(part.unwrap_or_else(|| self.zeros(1, r.axis.kept())));
        }
        Some(self.concat(&parts))
    }
}

/// `x` where `present >= 0`, exactly 0 elsewhere.
fn masked<'g>(present: Ex<'g>, x: Ex<'g>) -> Ex<'g> {
    Ex::apply(&IF_ELSE, &[present, x, x.lit(0.0)])
}

/// A sum over `axis` with the options of the reduction `of`.
fn sum_of(
    of: &Reduction,
    axis: Axis,
    graph: Arc<Graph>,
    formula: NodeId,
    bindings: Vec<(Var, Port)>,
) -> Reduction {
    let options = of.options;
    let (weight, k) = (None, 1);
    let (reduction, ranges) = (&reduce::SUM, of.ranges.clone());
    Reduction { graph, formula, weight, reduction, k, axis, options, bindings, ranges }
}

/// What the variables of a formula under construction stand for: the variables of the formula that
/// is differentiated, used or not (gradients are taken in all of them), and new ones. No two have
/// one index, as a new one is numbered after all others, and none is dropped before [`Self::used`].
struct Bindings(Vec<(Var, Port)>);

impl Bindings {
    /// Those of a reduction or row map: all of them.
    fn of(all: &[(Var, Port)]) -> Bindings {
        Bindings(all.to_vec())
    }
    /// A new variable that stands for `port`.
    fn fresh<'g>(&mut self, b: &'g Builder, outer: &OuterGraph, port: Port) -> Ex<'g> {
        b.var(self.fresh_var(outer, port))
    }
    fn fresh_var(&mut self, outer: &OuterGraph, port: Port) -> Var {
        let index = self.0.iter().map(|(v, _)| v.index + 1).max().unwrap_or(0);
        let info = outer.info(port);
        let var = Var { index, dim: info.dim, category: info.category };
        self.0.push((var, port));
        var
    }
    /// The variables of `own` whose values have tangents, with new variables for the tangents.
    fn tangents<'g>(
        &mut self,
        b: &'g Builder,
        outer: &OuterGraph,
        own: &[(Var, Port)],
        tangent: &HashMap<Port, Port>,
    ) -> Vec<(Ex<'g>, Ex<'g>)> {
        let active = own.iter().filter_map(|(v, p)| Some((*v, *tangent.get(p)?)));
        active.map(|(v, t)| (b.var(v), self.fresh(b, outer, t))).collect()
    }
    /// Those that `roots` read.
    fn used(self, graph: &Graph, roots: &[NodeId]) -> Vec<(Var, Port)> {
        let used = graph.variables(roots);
        self.0.into_iter().filter(|(v, _)| used.contains(v)).collect()
    }
}

/// Gradients of `f` with respect to those variables of `own` whose values are wanted.
fn gradients(
    f: Ex<'_>,
    seed: Ex<'_>,
    own: &[(Var, Port)],
    wanted: &dyn Fn(&Port) -> bool,
) -> Vec<Gradient> {
    let own: Vec<_> = own.iter().filter(|(_, p)| wanted(p)).collect();
    let leaves: Vec<_> = own.iter().map(|(v, _)| f.b.var(*v)).collect();
    let values = autodiff::vjp(f, seed, &leaves);
    let found = own.into_iter().zip(values);
    found
        .filter_map(|((var, target), value)| {
            Some(Gradient { var: *var, target: *target, value: value?.id })
        })
        .collect()
}

impl Computation {
    /// Reverse mode: the gradients of `Σ <result, cotangent>` with respect to arguments, one
    /// result for each argument in `wrt`. Every result of values gets a cotangent, an argument of
    /// the result's shape after those that there are; its name is `e` (or `e2`, `e3`, … where
    /// that is taken). Results that are indices are left out.
    ///
    /// # Errors
    /// [`GradError::UnknownVariable`] for an unknown name, [`GradError::NotDifferentiable`] if
    /// all results are indices.
    ///
    /// ```
    /// use keops_core::outer::Computation;
    /// # use keops_core::{parse::parse_formula, reduce::{ARG_MIN, SUM}, spec::Axis};
    /// let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)"];
    /// let f = parse_formula("Exp(-g * SqDist(x, y)) * b", None, &aliases)?;
    /// let c = Computation::reduction(f.clone(), &SUM, 1, Axis::J)?;
    /// let gradients = c.vjp(&["b", "g"])?; // of x, y, b, g and e, the cotangent: (M, 2)
    /// let e = &gradients.inputs()[4];
    /// assert_eq!((&e.name[..], &e.row[..]), ("e", &[2][..]));
    /// let rows: Vec<&[usize]> = gradients.outputs().iter().map(|o| &o.row[..]).collect();
    /// assert_eq!(rows, [&[2][..], &[1]]); // (N, 2) and (1)
    /// let e = c.vjp(&["z"]).unwrap_err();
    /// assert_eq!(e.to_string(), "no variable named `z`; the variables are `x`, `y`, `b`, `g`");
    /// let e = Computation::reduction(f, &ARG_MIN, 1, Axis::J)?.vjp(&["x"]).unwrap_err();
    /// assert_eq!(e.to_string(), "ArgMin has no derivative: its results are indices");
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn vjp(&self, wrt: &[&str]) -> Result<Computation, GradError> {
        let slots = self.slots(wrt)?;
        let values = self.values()?;
        let (mut graph, mut inputs) = ((*self.graph).clone(), self.inputs.clone());
        let ports: Vec<Port> = slots.iter().map(|&k| self.port(&mut graph, k)).collect();
        let mut seeds = vec![];
        for value in values {
            let name = unused(&inputs, "e");
            let seed = add_input(&mut graph, &mut inputs, name, value.row.clone(), value.port);
            seeds.push((value.port, seed));
        }
        let found = graph.vjp(&seeds, &ports)?;
        let rows = slots.iter().map(|&k| &self.inputs[k].row);
        Ok(self.derived(graph, inputs, found, ports.iter().zip(rows)))
    }

    /// Forward mode: the derivative of every result of values along tangents of the arguments
    /// `wrt`, which become arguments after those that there are, named `d_` and the name of the
    /// variable, of its shape.
    ///
    /// # Errors
    /// As [`Computation::vjp`].
    ///
    /// ```
    /// use keops_core::data::Element;
    /// use keops_core::outer::Computation;
    /// # use keops_core::{interp::Interpreter, parse::parse_formula, reduce::SUM};
    /// # use keops_core::spec::{Axis, Device};
    /// # use ndarray::array;
    /// let f = parse_formula("x * Square(y)", None, &["x = Vi(1)", "y = Vj(1)"])?;
    /// // Σ_j x_i 2 y_j d_y_j
    /// let along = Computation::reduction(f, &SUM, 1, Axis::J)?.jvp(&["y"])?;
    /// let (x, y, d_y) = (array![[3.0]], array![[1.0], [2.0]], array![[10.0], [1.0]]);
    /// let args = [&x, &y, &d_y].map(|a| f64::erase(a.view().into_dyn()));
    /// let out = along.run(&Device::new(Interpreter::new()), &args, None)?;
    /// assert_eq!(out[0].to_f64(), array![[72.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn jvp(&self, wrt: &[&str]) -> Result<Computation, GradError> {
        let slots = self.slots(wrt)?;
        let values = self.values()?;
        let (mut graph, mut inputs) = ((*self.graph).clone(), self.inputs.clone());
        let mut tangents = vec![];
        for &k in &slots {
            let port = self.port(&mut graph, k);
            let InputDef { name, row, .. } = &self.inputs[k];
            let name = unused(&inputs, &format!("d_{name}"));
            tangents.push((port, add_input(&mut graph, &mut inputs, name, row.clone(), port)));
        }
        let ports: Vec<Port> = values.iter().map(|o| o.port).collect();
        let found = graph.jvp(&ports, &tangents)?;
        Ok(self.derived(graph, inputs, found, ports.iter().zip(values.iter().map(|o| &o.row))))
    }

    /// Zeros stand in for derivatives that vanish identically.
    fn derived<'a>(
        &self,
        mut graph: OuterGraph,
        inputs: Vec<InputDef>,
        found: Vec<Option<Port>>,
        shapes: impl Iterator<Item = (&'a Port, &'a Vec<usize>)>,
    ) -> Computation {
        let outputs = found
            .into_iter()
            .zip(shapes)
            .map(|(port, (like, row))| {
                let info = graph.info(*like);
                let port = port.unwrap_or_else(|| {
                    let zeros = graph.zeros(info.dim, info.category);
                    graph.rebatch(zeros, *like)
                });
                OutputDef { port, row: row.clone() }
            })
            .collect();
        let (graph, prepared) = (Arc::new(graph), Arc::default());
        Computation { graph, inputs, outputs, primal: self.outputs.clone(), prepared }
    }
    fn slots(&self, names: &[&str]) -> Result<Vec<usize>, GradError> {
        let find = |name: &&str| {
            self.inputs.iter().position(|i| i.name == *name).ok_or_else(|| {
                let known: Vec<_> = self.inputs.iter().map(|i| format!("`{}`", i.name)).collect();
                GradError::UnknownVariable { name: name.to_string(), known: known.join(", ") }
            })
        };
        names.iter().map(find).collect()
    }
    fn values(&self) -> Result<Vec<OutputDef>, GradError> {
        let index = |o: &&OutputDef| self.graph.info(o.port).index;
        if let Some(first) = self.outputs.first()
            && self.outputs.iter().all(|o| index(&o))
        {
            self.graph.check_differentiable(first.port)?;
        }
        Ok(self.outputs.iter().filter(|o| !index(o)).cloned().collect())
    }
    fn port(&self, graph: &mut OuterGraph, slot: usize) -> Port {
        let InputDef { row, category, .. } = &self.inputs[slot];
        graph.input(slot, row.iter().product(), *category)
    }
}

fn add_input(
    graph: &mut OuterGraph,
    inputs: &mut Vec<InputDef>,
    name: String,
    row: Vec<usize>,
    like: Port,
) -> Port {
    let info = graph.info(like);
    let port = graph.input(inputs.len(), info.dim, info.category);
    inputs.push(InputDef { name, category: info.category, row, like: Some(like) });
    port
}

/// `base`, or `base2`, `base3`, … where it is taken.
fn unused(inputs: &[InputDef], base: &str) -> String {
    let mut name = base.to_string();
    let mut count = 1;
    while inputs.iter().any(|i| i.name == name) {
        count += 1;
        name = format!("{base}{count}");
    }
    name
}

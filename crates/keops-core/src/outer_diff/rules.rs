//! The rules of one node: contributions to the cotangents of its operands, and its tangent.

use super::Cotangents;
use super::tables::{Parts, parts};
use crate::autodiff;
use crate::graph::{Builder, Category, Ex, Graph, Node, NodeId, Var};
use crate::ops::IF_ELSE;
use crate::outer::{OuterGraph, OuterId, Port, Reduction, RowMap, Selected};
use crate::reduce::{self, Accumulate, Family, Select};
use crate::spec::Axis;
use std::collections::HashMap;
use std::sync::Arc;

/// The gradient with respect to one variable, before the reduction or row map it is part of.
pub(super) struct Gradient {
    pub(super) var: Var,
    pub(super) target: Port,
    pub(super) value: NodeId,
}

/// How the gradients of one reduction or row map are evaluated.
pub(super) enum Evaluate<'r> {
    /// A sum over this index, of the pairs of a reduction.
    Sum(&'r Reduction, Axis),
    Rows(Category, Option<Var>),
}

impl OuterGraph {
    /// Evaluates gradients that belong to one reduction or row map together, so that they share
    /// its kernel evaluations; returns the contribution to each target.
    pub(super) fn evaluate(
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

    pub(super) fn row_map_vjp(
        &mut self,
        m: &RowMap,
        g: Port,
        wanted: &dyn Fn(&Port) -> bool,
    ) -> Vec<(Port, Port)> {
        let (mut list, tables) = self.row_map_step(m, g, wanted);
        self.pull_back_tables(tables, wanted, &mut list);
        list
    }

    pub(super) fn row_map_step(
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

    pub(super) fn row_map_jvp(
        &mut self,
        m: &RowMap,
        tangent: &HashMap<Port, Port>,
    ) -> Option<Port> {
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
    pub(super) fn linearised<'g>(
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

    pub(super) fn accumulate_vjp(
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

    pub(super) fn accumulate_jvp(
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
    pub(super) fn selected(&mut self, s: &Select, r: &Reduction, id: OuterId) -> Option<Port> {
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
    pub(super) fn winner(&mut self, r: &Reduction, at: Selected) -> RowMap {
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

    pub(super) fn select_vjp(
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
            // The winner reads values that the reduction reads, which come before it, and gathered rows. Of
            // the rows, only those of a wanted source are targets.
            let is_operand = |p: &Port| p.node.0 < id.0;
            let of_winner = |p: &Port| source.contains_key(p) || (is_operand(p) && wanted(p));
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

    pub(super) fn select_jvp(
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
pub(super) fn masked<'g>(present: Ex<'g>, x: Ex<'g>) -> Ex<'g> {
    Ex::apply(&IF_ELSE, &[present, x, x.lit(0.0)])
}

/// A sum over `axis` with the options of the reduction `of`.
pub(super) fn sum_of(
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
pub(super) struct Bindings(pub(super) Vec<(Var, Port)>);

impl Bindings {
    /// Those of a reduction or row map: all of them.
    pub(super) fn of(all: &[(Var, Port)]) -> Bindings {
        Bindings(all.to_vec())
    }
    /// A new variable that stands for `port`.
    pub(super) fn fresh<'g>(&mut self, b: &'g Builder, outer: &OuterGraph, port: Port) -> Ex<'g> {
        b.var(self.fresh_var(outer, port))
    }
    pub(super) fn fresh_var(&mut self, outer: &OuterGraph, port: Port) -> Var {
        let index = self.0.iter().map(|(v, _)| v.index + 1).max().unwrap_or(0);
        let info = outer.info(port);
        let var = Var { index, dim: info.dim, category: info.category };
        self.0.push((var, port));
        var
    }
    /// The variables of `own` whose values have tangents, with new variables for the tangents.
    pub(super) fn tangents<'g>(
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
    pub(super) fn used(self, graph: &Graph, roots: &[NodeId]) -> Vec<(Var, Port)> {
        let used = graph.variables(roots);
        self.0.into_iter().filter(|(v, _)| used.contains(v)).collect()
    }
}

/// Gradients of `f` with respect to those variables of `own` whose values are wanted.
pub(super) fn gradients(
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

//! Derivatives of look-ups in tables of parameters.
//!
//! The gradient of `t[k_ij]` in the table `t` adds the cotangent of each pair to one entry. As a
//! formula it would be a vector of the length of the table for every pair; here it is a
//! [`Scatter`], whose cost is that of the pairs plus that of the table.

use super::Cotangents;
use super::rules::{Bindings, Evaluate, Gradient, gradients, masked, sum_of};
use crate::autodiff;
use crate::graph::{Builder, Category, Dependence, Ex, Graph, Node, NodeId, Var};
use crate::outer::{OuterGraph, Port, Reduction, RowMap, Scatter};
use crate::reduce;
use crate::spec::{Axis, ReduceOptions};
use std::collections::HashMap;
use std::sync::Arc;

/// Entries from which the gradient in a table is scattered. In shorter ones, comparing the index
/// with each entry is vector code without memory, and faster.
const TABLE: usize = 32;

/// What a look-up contributes to the cotangent of its table.
struct LookUp {
    table: NodeId,
    index: NodeId,
    cotangent: NodeId,
}

/// Gradients of a formula: those in variables, and those in the tables of look-ups.
pub(super) struct Parts {
    pub variables: Vec<Gradient>,
    look_ups: Vec<LookUp>,
}

impl Parts {
    pub fn has_look_ups(&self) -> bool {
        !self.look_ups.is_empty()
    }
}

/// As [`gradients`], with look-ups in tables of parameters apart where some of their parameters are
/// wanted.
pub(super) fn parts(
    f: Ex<'_>,
    seed: Ex<'_>,
    own: &[(Var, Port)],
    wanted: &dyn Fn(&Port) -> bool,
) -> Parts {
    let params = |g: &Graph, table: NodeId| {
        let wanted = |v: &Var| own.iter().any(|(w, p)| w == v && wanted(p));
        g.variables(&[table]).iter().any(wanted)
    };
    let found: Vec<(NodeId, NodeId, NodeId)> = {
        let g = f.b.graph();
        let look_up = |id: &NodeId| match *g.node(*id) {
            Node::Gather { table, index }
                if g.dependence(table) == Dependence::NONE && g.dim(table) >= TABLE =>
            {
                Some((*id, table, index))
            }
            _ => None,
        };
        let all = g.live(&[f.id]);
        all.iter().filter_map(look_up).filter(|(_, table, _)| params(&g, *table)).collect()
    };
    if found.is_empty() {
        return Parts { variables: gradients(f, seed, own, wanted), look_ups: vec![] };
    }
    let own: Vec<_> = own.iter().filter(|(_, p)| wanted(p)).collect();
    let leaves = own.iter().map(|(v, _)| f.b.var(*v)).chain(found.iter().map(|l| f.b.ex(l.0)));
    let mut values = autodiff::vjp(f, seed, &leaves.collect::<Vec<_>>());
    let of_look_ups = values.split_off(own.len());
    let variables = own.into_iter().zip(values).filter_map(|((var, target), value)| {
        Some(Gradient { var: *var, target: *target, value: value?.id })
    });
    let look_ups = found
        .into_iter()
        .zip(of_look_ups)
        .filter_map(|((_, table, index), c)| Some(LookUp { table, index, cotangent: c?.id }));
    Parts { variables: variables.collect(), look_ups: look_ups.collect() }
}

impl OuterGraph {
    /// The contributions of look-ups to parameters that are tables; and tables that are made of
    /// parameters, with their cotangents. `bindings` are those of all variables of `graph`.
    pub(super) fn scattered(
        &mut self,
        graph: Graph,
        parts: &Parts,
        bindings: &[(Var, Port)],
        how: &Evaluate<'_>,
    ) -> (Cotangents, Vec<(RowMap, Port)>) {
        let (mut list, mut pending) = (vec![], vec![]);
        let graph = Arc::new(graph);
        let bound = |roots: &[NodeId]| -> Vec<(Var, Port)> {
            let used = graph.variables(roots);
            bindings.iter().filter(|(v, _)| used.contains(v)).copied().collect()
        };
        for &LookUp { table, index, cotangent } in &parts.look_ups {
            let dim = graph.dim(table);
            let of_index = graph.dependence(index);
            let scatter = match *how {
                Evaluate::Rows(category, present) => {
                    let (graph, value) = match present {
                        None => (graph.clone(), cotangent),
                        Some(present) => {
                            let b = Builder::from_graph((*graph).clone());
                            let value = masked(b.var(present), b.ex(cotangent)).id;
                            (Arc::new(b.into_graph()), value)
                        }
                    };
                    let used = graph.variables(&[index, value]);
                    let own = bindings.iter().filter(|(v, _)| used.contains(v));
                    let (bindings, rows) = (own.copied().collect(), Some(category));
                    let ranges = None;
                    Scatter { graph, index, value, dim, rows, bindings, ranges }
                }
                // Where one row has one index, its pairs are added up first.
                Evaluate::Sum(of, _) => {
                    let axis = [of.axis, of.axis.flip()]
                        .into_iter()
                        .find(|a| of_index.within(a.kept().dependence()));
                    match axis {
                        None => {
                            let bindings = bound(&[index, cotangent]);
                            let (graph, value, rows) = (graph.clone(), cotangent, None);
                            let ranges = of.ranges.clone();
                            Scatter { graph, index, value, dim, rows, bindings, ranges }
                        }
                        Some(axis) => {
                            let own = bound(&[cotangent]);
                            let sum = sum_of(of, axis, graph.clone(), cotangent, own);
                            let sum = Port { node: self.reduce(sum), output: 0 };
                            let mut bindings = bound(&[index]);
                            let b = Builder::from_graph((*graph).clone());
                            let used = |(v, _): &(Var, Port)| v.index + 1;
                            let next = graph.variables(&[index, cotangent]);
                            let next = next.iter().map(|v| v.index + 1);
                            let next = next.chain(bindings.iter().map(used)).max().unwrap_or(0);
                            let info = self.info(sum);
                            let (dim_of_sum, category) = (info.dim, info.category);
                            let var = Var { index: next, dim: dim_of_sum, category };
                            bindings.push((var, sum));
                            let value = b.var(var).id;
                            let (graph, rows) = (Arc::new(b.into_graph()), Some(axis.kept()));
                            let ranges = None;
                            Scatter { graph, index, value, dim, rows, bindings, ranges }
                        }
                    }
                }
            };
            let sum = self.scatter(scatter);
            if let Node::Var(v) = graph.node(table) {
                let bound = bindings.iter().find(|(w, _)| w == v);
                list.extend(bound.map(|(_, target)| (*target, sum)));
                continue;
            }
            // What the table is made of: a formula of parameters.
            let m = RowMap {
                graph: graph.clone(),
                root: table,
                bindings: bound(&[table]),
                category: Category::Param,
                present: None,
            };
            pending.push((m, sum));
        }
        (list, pending)
    }

    /// The contributions to the wanted parameters that tables are made of. (Tables of entries of
    /// tables nest as deep as a formula.)
    pub(super) fn pull_back_tables(
        &mut self,
        mut tables: Vec<(RowMap, Port)>,
        wanted: &dyn Fn(&Port) -> bool,
        list: &mut Vec<(Port, Port)>,
    ) {
        while let Some((m, g)) = tables.pop() {
            let (own, more) = self.row_map_step(&m, g, wanted);
            list.extend(own);
            tables.extend(more);
        }
    }

    /// The product of the transposed Jacobian of a scatter with `g`: each pair takes the cotangent
    /// of its entry.
    pub(super) fn scatter_vjp(
        &mut self,
        s: &Scatter,
        g: Port,
        wanted: &dyn Fn(&Port) -> bool,
    ) -> Vec<(Port, Port)> {
        let mut list = vec![];
        let axes: &[Option<Axis>] = match s.rows {
            Some(_) => &[None],
            None => &[Some(Axis::J), Some(Axis::I)],
        };
        for axis in axes {
            // Parameters go with the first.
            let mine = |v: &Var| match axis {
                None => true,
                Some(Axis::J) => v.category != Category::J,
                Some(Axis::I) => v.category == Category::J,
            };
            if !s.bindings.iter().any(|(v, p)| mine(v) && wanted(p)) {
                continue;
            }
            let b = Builder::from_graph((*s.graph).clone());
            let (parts, bindings) = {
                let mut bindings = Bindings::of(&s.bindings);
                let cotangent = bindings.fresh(&b, self, g);
                let seed = b.ex(s.index).gather(cotangent);
                let own: Vec<_> = s.bindings.iter().filter(|(v, _)| mine(v)).copied().collect();
                (parts(b.ex(s.value), seed, &own, wanted), bindings)
            };
            let like = Reduction {
                graph: s.graph.clone(),
                formula: s.value,
                weight: None,
                reduction: &reduce::SUM,
                k: 1,
                axis: axis.unwrap_or(Axis::J),
                options: ReduceOptions::default(),
                bindings: vec![],
                ranges: s.ranges.clone(),
            };
            let how = match (axis, s.rows) {
                (Some(axis), _) => Evaluate::Sum(&like, *axis),
                (None, rows) => Evaluate::Rows(rows.unwrap_or(Category::Param), None),
            };
            let (own, tables) = self.evaluate(b, parts, bindings, how);
            list.extend(own);
            self.pull_back_tables(tables, wanted, &mut list);
        }
        list
    }

    /// The derivative of a scatter along tangents of what its values are made of.
    pub(super) fn scatter_jvp(
        &mut self,
        s: &Scatter,
        tangent: &HashMap<Port, Port>,
    ) -> Option<Port> {
        let b = Builder::from_graph((*s.graph).clone());
        let (value, bindings) = {
            let mut bindings = Bindings::of(&s.bindings);
            let t = bindings.tangents(&b, self, &s.bindings, tangent);
            (autodiff::jvp(b.ex(s.value), &t)?.id, bindings)
        };
        let graph = Arc::new(b.into_graph());
        let bindings = bindings.used(&graph, &[s.index, value]);
        Some(self.scatter(Scatter { graph, value, bindings, ..s.clone() }))
    }
}

//! Faults planted into what is judged, to see that the judge sees them.

use super::planted_solve::{Faulty, SolveFault, is_transposed};
use crate::naive::Op;
use crate::values::LazyFault;
use keops_core::genred::{Genred, Reduce};
use keops_core::graph::{Graph, Node, NodeId};
use keops_core::ops::OpDef;
use keops_core::outer::Formula;
use keops_core::outer::{
    Computation, InputDef, OuterGraph, OuterNode, OutputDef, Port, Reduction, RowMap, Scatter,
    Selected,
};
use keops_core::reduce::Definition;
use std::collections::HashMap;
use std::sync::Arc;

/// What is wrong with the keops under judgement.
#[derive(Clone, Copy, Default)]
pub struct Planted {
    /// An operation and what stands for it.
    pub operation: Option<(&'static OpDef, &'static OpDef)>,
    /// A reduction and what stands for it.
    pub reduction: Option<(Definition, Definition)>,
    /// A fault in what differentiation of computations appends.
    pub outer: Option<Outer>,
    /// An operation that a method of `LazyTensor` gets wrong.
    pub lazy: Option<(Op, LazyFault)>,
}

/// A fault in the nodes that a derivative appends to a computation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outer {
    /// Reductions are off by a part in a thousand.
    Reduce,
    /// Row maps are.
    RowMap,
    /// Sums of rows are.
    SumRows,
    /// Gathered rows are.
    GatherRows,
    /// Scattered rows are.
    ScatterAddRows,
    /// Gradients in tables are.
    Scatter,
    /// What is summed over batches is.
    Rebatch,
    /// Two variables of a reduction stand for each other.
    SwappedReduce,
    /// Two variables of a row map stand for each other.
    SwappedRowMap,
    /// Solutions are off by a part in a thousand.
    Solve,
    /// Systems with the transpose are solved, and differentiated, with the matrix itself.
    SolveTransposed,
    /// A rule of a solve is wrong.
    SolveRule(SolveFault),
}

impl Outer {
    /// All of them but those of the rules of solves.
    pub const ALL: [Outer; 11] = [
        Outer::Reduce,
        Outer::RowMap,
        Outer::SumRows,
        Outer::GatherRows,
        Outer::ScatterAddRows,
        Outer::Scatter,
        Outer::Rebatch,
        Outer::SwappedReduce,
        Outer::SwappedRowMap,
        Outer::Solve,
        Outer::SolveTransposed,
    ];
}

impl Planted {
    pub(super) fn formula(&self, f: Formula) -> Formula {
        let Some((from, to)) = self.operation else { return f };
        let mut graph = Graph::default();
        let mut ids: HashMap<NodeId, NodeId> = HashMap::new();
        for id in f.graph.live(&std::iter::once(f.root).chain(f.weight).collect::<Vec<_>>()) {
            let mut node = f.graph.node(id).clone();
            if let Node::Map { op, .. } = &mut node
                && *op == from
            {
                *op = to;
            }
            // Nodes are in order, so that they keep their numbers.
            ids.insert(id, graph.intern(node));
        }
        assert!(ids.iter().all(|(a, b)| a == b), "nodes of a formula that was read are all live");
        Formula { graph: graph.into(), ..f }
    }
    pub(super) fn reduce(&self, r: Reduce) -> Reduce {
        match self.reduction {
            Some((from, to)) if r.def == from => Reduce { def: to, ..r },
            _ => r,
        }
    }
    /// A derivative with the fault in the nodes that are not in `primal`.
    pub(super) fn derivative(&self, g: Genred, primal: usize) -> Genred {
        match self.outer {
            None | Some(Outer::SolveTransposed | Outer::SolveRule(_)) => g,
            Some(fault) => faulty(g.computation(), primal, fault).map_or(g, Genred::from),
        }
    }
    /// A function that is still to be differentiated, with the fault in the rules of its solves.
    pub(super) fn rules(&self, g: Genred) -> Genred {
        match self.outer {
            Some(fault @ (Outer::SolveTransposed | Outer::SolveRule(_))) => {
                faulty(g.computation(), 0, fault).map_or(g, Genred::from)
            }
            _ => g,
        }
    }
}

fn swapped<V: Copy + PartialEq>(bindings: &mut [(V, Port)], alike: impl Fn(&V, &V) -> bool) {
    for a in 0..bindings.len() {
        for b in a + 1..bindings.len() {
            if alike(&bindings[a].0, &bindings[b].0) && bindings[a].1 != bindings[b].1 {
                let port = bindings[a].1;
                bindings[a].1 = bindings[b].1;
                bindings[b].1 = port;
                return;
            }
        }
    }
}

fn faulty(c: &Computation, primal: usize, fault: Outer) -> Option<Computation> {
    let (old, mut new) = (c.graph(), OuterGraph::default());
    let mut at: HashMap<Port, Port> = HashMap::new();
    let likes = c.inputs().iter().filter_map(|i| i.like);
    let roots: Vec<Port> = c.outputs().iter().map(|o| o.port).chain(likes).collect();
    for id in old.live(&roots) {
        let appended = id.0 as usize >= primal;
        let select =
            |at: &HashMap<Port, Port>, s: &Selected| Selected { index: at[&s.index], ..*s };
        let kind;
        let mut made: Vec<Port> = vec![];
        match old.node(id) {
            OuterNode::Apply(a) => {
                kind = Some(Outer::Solve);
                let function = match fault {
                    Outer::SolveRule(rule) => Faulty::of(&a.function, rule),
                    Outer::SolveTransposed if is_transposed(&*a.function) => {
                        // What it is the transpose of says the same of itself otherwise.
                        let text = format!("{:?}", a.function);
                        let text = text.replace("transposed: true", "transposed: false");
                        old.live(&roots).iter().find_map(|id| match old.node(*id) {
                            OuterNode::Apply(b) if format!("{:?}", b.function) == text => {
                                Some(Arc::clone(&b.function))
                            }
                            _ => None,
                        })?
                    }
                    _ => Arc::clone(&a.function),
                };
                let operands: Vec<Port> = a.operands.iter().map(|p| at[p]).collect();
                made.extend(new.apply(function, &operands).ok()?);
            }
            OuterNode::Input { slot, dim, category } => {
                kind = None;
                made.push(new.input(*slot, *dim, *category));
            }
            OuterNode::Reduce(r) => {
                kind = Some(Outer::Reduce);
                let mut r = Reduction {
                    bindings: r.bindings.iter().map(|(v, p)| (*v, at[p])).collect(),
                    ..r.clone()
                };
                if appended && fault == Outer::SwappedReduce {
                    swapped(&mut r.bindings, |a, b| a.dim == b.dim && a.category == b.category);
                }
                let node = new.reduce(r);
                made.extend((0..new.ports(node).len() as u32).map(|output| Port { node, output }));
            }
            OuterNode::RowMap(m) => {
                kind = Some(Outer::RowMap);
                let mut m = RowMap {
                    graph: Arc::clone(&m.graph),
                    bindings: m.bindings.iter().map(|(v, p)| (*v, at[p])).collect(),
                    ..m.clone()
                };
                if appended && fault == Outer::SwappedRowMap {
                    swapped(&mut m.bindings, |a, b| a.dim == b.dim && a.category == b.category);
                }
                made.push(new.row_map(m));
            }
            OuterNode::SumRows { x } => {
                kind = Some(Outer::SumRows);
                made.push(new.sum_rows(at[x]));
            }
            OuterNode::GatherRows { x, at: s } => {
                kind = Some(Outer::GatherRows);
                let s = select(&at, s);
                made.push(new.gather_rows(at[x], s));
            }
            OuterNode::ScatterAddRows { x, at: s, category } => {
                kind = Some(Outer::ScatterAddRows);
                let s = select(&at, s);
                made.push(new.scatter_add_rows(at[x], s, *category));
            }
            OuterNode::Scatter(s) => {
                kind = Some(Outer::Scatter);
                let bindings = s.bindings.iter().map(|(v, p)| (*v, at[p])).collect();
                made.push(new.scatter(Scatter { bindings, ..s.clone() }));
            }
            OuterNode::RowIndex { at: s } => {
                kind = None;
                let s = select(&at, s);
                made.push(new.row_index(s));
            }
            OuterNode::Rebatch { x, like } => {
                kind = Some(Outer::Rebatch);
                made.push(new.rebatch(at[x], at[like]));
            }
        }
        for (output, mut port) in made.into_iter().enumerate() {
            let info = new.info(port);
            if appended && kind == Some(fault) && !info.index {
                port = new.map_rows(info.category, &[port], |_, x| x[0] * (1.0 + 1.0 / 1024.0));
            }
            at.insert(Port { node: id, output: output as u32 }, port);
        }
    }
    let inputs = c.inputs().iter().map(|i| InputDef { like: i.like.map(|p| at[&p]), ..i.clone() });
    let outputs = c
        .outputs()
        .iter()
        .map(|o| OutputDef { port: at[&o.port], row: o.row.clone(), like: o.like.map(|l| at[&l]) })
        .collect();
    Computation::new(new, inputs.collect(), outputs).ok()
}

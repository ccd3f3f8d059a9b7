//! Faults planted into what is judged, to see that the judge sees them.

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
}

impl Outer {
    /// All of them.
    pub const ALL: [Outer; 9] = [
        Outer::Reduce,
        Outer::RowMap,
        Outer::SumRows,
        Outer::GatherRows,
        Outer::ScatterAddRows,
        Outer::Scatter,
        Outer::Rebatch,
        Outer::SwappedReduce,
        Outer::SwappedRowMap,
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
            None => g,
            Some(fault) => faulty(g.computation(), primal, fault).map_or(g, Genred::from),
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
            OuterNode::Apply(_) => unreachable!("no case applies a function of another crate"),
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
    let outputs =
        c.outputs().iter().map(|o| OutputDef { port: at[&o.port], row: o.row.clone() }).collect();
    Computation::new(new, inputs.collect(), outputs).ok()
}

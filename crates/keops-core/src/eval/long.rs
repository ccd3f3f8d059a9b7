//! Sums of long parameter vectors, as derivatives in tables make them.
//!
//! A tile of code holds all components of a row, for as many rows as a vector has lanes. Of a
//! vector with millions of entries there is one row; here its entries are the rows.

use super::steps::Run;
use super::value::Value;
use crate::error::Error;
use crate::graph::{Category, Graph, MAX_DIM, Node, Var};
use crate::outer::{OuterId, Reduction, RowMap};
use crate::reduce;
use crate::spec::{Axis, CheckedArgs, ReduceOptions, ReduceSpec, Scheme};
use std::sync::Arc;

/// A map of long parameters as one of their entries, if each entry of the result is made of those at
/// the same place.
pub(super) fn by_entries(m: &RowMap) -> Option<Reduction> {
    let dim = m.graph.dim(m.root);
    if m.category != Category::Param || dim <= MAX_DIM {
        return None;
    }
    let row = |v: Var| if v.dim == dim { Var { dim: 1, category: Category::J, ..v } } else { v };
    let mut fits = true;
    let mut graph = Graph::default();
    let root = graph.import_nodes(&m.graph, &[m.root], |g, node| match node {
        Node::Var(v) => {
            fits &= v.dim == dim || v.dim == 1;
            Some(g.intern(Node::Var(row(*v))))
        }
        Node::Map { .. } | Node::Const(_) => None,
        // A number, as often as there are entries.
        Node::Contract { extents, operands, out } if extents[..] == [dim] && out[..] == [0] => {
            let mut operands = operands.clone();
            for o in &mut operands {
                let number = m.graph.node(o.node);
                fits &= o.axes.is_empty() && matches!(number, Node::Const(_));
                o.node = g.intern(number.clone());
            }
            Some(g.intern(Node::Contract { extents: vec![1], operands, out: out.clone() }))
        }
        _ => {
            fits = false;
            Some(g.intern(Node::Iota(1)))
        }
    });
    fits.then(|| Reduction {
        graph: Arc::new(graph),
        formula: root[0],
        weight: None,
        reduction: &reduce::SUM,
        k: 1,
        axis: Axis::I,
        options: ReduceOptions { scheme: Scheme::Direct, ..ReduceOptions::default() },
        bindings: m.bindings.iter().map(|(v, p)| (row(*v), *p)).collect(),
        ranges: None,
    })
}

impl<'a> Run<'_, 'a> {
    /// Evaluates such a reduction over `dim` entries.
    pub(super) fn by_entries(
        &mut self,
        id: OuterId,
        r: &Reduction,
        (batch, dim): (&[usize], usize),
    ) -> Result<Value<'a>, Error> {
        let dtype = self.sizes.dtype.compute();
        self.widen(r.bindings.iter().map(|(_, p)| p), dtype)?;
        let args = r.bindings.iter().map(|(v, p)| match (self.in_type(*p, dtype), v.category) {
            (given, Category::Param) => given,
            (given, _) => given.into_column(),
        });
        let args = args.collect();
        let check = |spec: &ReduceSpec| CheckedArgs::new(spec, args, None, Some(1), Some(dim));
        let (sizes, device) = (self.sizes, self.device);
        let mut out = self.computation.reduce(id, r, dtype, (sizes, device), None, check)?;
        let Some(buffer) = out.pop() else { unreachable!("a sum has one result") };
        Ok(Value::made(buffer.reshaped(&[batch, &[dim]].concat())))
    }
}

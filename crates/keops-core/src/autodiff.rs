//! Differentiation of formula graphs, in reverse (vjp) and forward (jvp) mode.
//!
//! Both are one sweep over the shared graph, so that a derivative shares every common value with
//! the formula and with the other derivatives; they return nodes of the same graph, which can be
//! differentiated again.

use crate::graph::{Ex, FoldOp, Node, NodeId};
use hashbrown::HashMap;

/// Reverse mode: for each node of `wrt` (leaves, usually variables) the product of the transposed
/// Jacobian of `out` with the cotangent `seed` (of dimension `out.dim()`, or 1 to broadcast).
/// `None` where `out` does not depend on the node.
/// Results are nodes of the same graph, simplified, of the dimension of their leaf.
///
/// ```
/// use keops_core::autodiff::vjp;
/// use keops_core::graph::{Builder, Category};
/// let b = Builder::default();
/// let (x, y, e) = (b.fresh(3, Category::I), b.fresh(3, Category::J), b.fresh(3, Category::I));
/// let gradients = vjp(x * y, e, &[x, y, e]); // of Σ_k e_k x_k y_k, in x, y and e
/// assert_eq!(gradients[0].map(|g| g.id), Some((e * y).id));
/// assert_eq!(gradients[1].map(|g| g.id), Some((e * x).id));
/// assert!(gradients[2].is_none()); // the seed is no part of the formula
/// ```
pub fn vjp<'g>(out: Ex<'g>, seed: Ex<'g>, wrt: &[Ex<'g>]) -> Vec<Option<Ex<'g>>> {
    let b = out.b;
    let order = b.graph().live(&[out.id]);
    // Only nodes that lead to `wrt` need a cotangent.
    let mut wanted: HashMap<NodeId, bool> = HashMap::new();
    for &id in &order {
        let mut needed = wrt.iter().any(|w| w.id == id);
        crate::graph::for_each_arg(b.graph().node(id), |a| needed |= wanted[&a]);
        wanted.insert(id, needed);
    }
    let mut adjoint: HashMap<NodeId, Ex<'g>> = HashMap::new();
    if wanted[&out.id] {
        adjoint.insert(out.id, seed.broadcast(out.dim()));
    }
    for &id in order.iter().rev() {
        let Some(&t) = adjoint.get(&id) else { continue };
        let node = b.graph().node(id).clone();
        let mut add = |arg: NodeId, contribution: &dyn Fn() -> Ex<'g>| {
            if !wanted[&arg] {
                return;
            }
            let (c, x) = (contribution(), b.ex(arg));
            if c.constant() == Some(0.0) {
                return;
            }
            let c = if x.dim() == 1 { c.sum() } else { c.broadcast(x.dim()) };
            let total = adjoint.get(&arg).map_or(c, |&a| a + c);
            adjoint.insert(arg, total);
        };
        match &node {
            Node::Var(_) | Node::Const(_) | Node::Index(_) | Node::Iota(_) => {}
            Node::Map { op, args } => {
                let x: Vec<_> = args.iter().map(|&a| b.ex(a)).collect();
                let d = (op.derivative)(&x, b.ex(id), t);
                for (&a, c) in args.iter().zip(d) {
                    // A scalar operand of a vector result collects every component, also where
                    // the partial derivative itself is a scalar.
                    add(a, &|| {
                        if c.constant() == Some(0.0) { c } else { c.broadcast(b.ex(id).dim()) }
                    });
                }
            }
            Node::Contract { extents, operands, out } => {
                for k in 0..operands.len() {
                    add(operands[k].node, &|| {
                        let mut others: Vec<(Ex<'g>, &[u8])> = operands
                            .iter()
                            .enumerate()
                            .filter(|(q, _)| *q != k)
                            .map(|(_, o)| (b.ex(o.node), &o.axes[..]))
                            .collect();
                        others.push((t, out));
                        t.contract(extents.clone(), &others, &operands[k].axes)
                    });
                }
            }
            Node::Pick { x, start, step, .. } => {
                let dim = b.ex(*x).dim();
                add(*x, &|| t.put(*start, *step, dim));
            }
            Node::Put { x, start, step, .. } => {
                let len = b.ex(*x).dim();
                add(*x, &|| t.pick(*start, *step, len));
            }
            Node::Concat(parts) => {
                let mut at = 0;
                for &p in parts {
                    let (start, d) = (at, b.ex(p).dim());
                    add(p, &|| t.pick(start, 1, d));
                    at += d;
                }
            }
            Node::Fold { op, x } => {
                let x = b.ex(*x);
                if let Some(winner) = winner(*op, x) {
                    add(x.id, &|| t * winner);
                }
            }
            Node::Gather { table, index } => {
                let (table, index) = (b.ex(*table), b.ex(*index));
                add(table.id, &|| scatter(index, t, table.dim()));
            }
        }
    }
    wrt.iter().map(|w| adjoint.get(&w.id).copied()).collect()
}

/// Forward mode: the product of the Jacobian of `out` with the tangents given for some leaves.
/// `None` where `out` depends on none of them.
/// The result has the dimension of `out`; a tangent that of its leaf, or 1 to broadcast.
///
/// ```
/// use keops_core::autodiff::jvp;
/// use keops_core::graph::{Builder, Category};
/// let b = Builder::default();
/// let (x, y, t) = (b.fresh(3, Category::I), b.fresh(3, Category::J), b.fresh(3, Category::I));
/// let along = jvp(x.dot(y), &[(x, t)]).unwrap();
/// assert_eq!(along.id, t.dot(y).id);
/// assert!(jvp(x, &[(y, t)]).is_none());
/// ```
pub fn jvp<'g>(out: Ex<'g>, tangents: &[(Ex<'g>, Ex<'g>)]) -> Option<Ex<'g>> {
    let b = out.b;
    let mut tangent: HashMap<NodeId, Ex<'g>> = HashMap::new();
    for (x, t) in tangents {
        tangent.insert(x.id, t.broadcast(x.dim()));
    }
    let order = b.graph().live(&[out.id]);
    for id in order {
        if tangent.contains_key(&id) {
            continue;
        }
        let node = b.graph().node(id).clone();
        let mut total: Option<Ex<'g>> = None;
        let mut add = |c: Ex<'g>| {
            if c.constant() != Some(0.0) {
                total = Some(total.map_or(c, |s| s + c));
            }
        };
        match &node {
            Node::Var(_) | Node::Const(_) | Node::Index(_) | Node::Iota(_) => {}
            Node::Map { op, args } => {
                let x: Vec<_> = args.iter().map(|&a| b.ex(a)).collect();
                for (k, a) in args.iter().enumerate() {
                    if let Some(&t) = tangent.get(a) {
                        add((op.derivative)(&x, b.ex(id), t)[k]);
                        // `f(x, x)` has the same operand twice: the other position is its own term.
                    }
                }
            }
            Node::Contract { extents, operands, out } => {
                for k in 0..operands.len() {
                    if let Some(&t) = tangent.get(&operands[k].node) {
                        let terms: Vec<(Ex<'g>, &[u8])> = operands
                            .iter()
                            .enumerate()
                            .map(|(q, o)| (if q == k { t } else { b.ex(o.node) }, &o.axes[..]))
                            .collect();
                        add(t.contract(extents.clone(), &terms, out));
                    }
                }
            }
            Node::Pick { x, start, step, len } => {
                if let Some(&t) = tangent.get(x) {
                    add(t.pick(*start, *step, *len));
                }
            }
            Node::Put { x, start, step, dim } => {
                if let Some(&t) = tangent.get(x) {
                    add(t.put(*start, *step, *dim));
                }
            }
            Node::Concat(parts) => {
                if parts.iter().any(|p| tangent.contains_key(p)) {
                    let pieces: Vec<_> = parts
                        .iter()
                        .map(|p| {
                            let d = b.ex(*p).dim();
                            tangent.get(p).copied().unwrap_or(b.lit(0.0).broadcast(d))
                        })
                        .collect();
                    add(Ex::concat(&pieces));
                }
            }
            Node::Fold { op, x } => {
                if let (Some(&t), Some(winner)) = (tangent.get(x), winner(*op, b.ex(*x))) {
                    add(t.dot(winner));
                }
            }
            Node::Gather { table, index } => {
                if let Some(&t) = tangent.get(table) {
                    add(b.ex(*index).gather(t));
                }
            }
        }
        if let Some(t) = total {
            tangent.insert(id, t.broadcast(b.ex(id).dim()));
        }
    }
    tangent.get(&out.id).copied()
}

/// The one-hot vector of the component that a fold takes (the first of equals).
fn winner(op: FoldOp, x: Ex<'_>) -> Option<Ex<'_>> {
    let arg = match op {
        FoldOp::Min => FoldOp::ArgMin,
        FoldOp::Max => FoldOp::ArgMax,
        FoldOp::ArgMin | FoldOp::ArgMax => return None,
    };
    Some(one_hot(x.fold(arg), x.dim()))
}

/// Zeros of dimension `dim` with a 1 at the rounded position `at`.
pub(crate) fn one_hot<'g>(at: Ex<'g>, dim: usize) -> Ex<'g> {
    let position = (at + 0.5).un(&crate::ops::FLOOR);
    Ex::apply(&crate::ops::EQUAL, &[at.iota(dim), position])
}

/// Adjoint of a gather: `out[index[k]] += t[k]`.
fn scatter<'g>(index: Ex<'g>, t: Ex<'g>, dim: usize) -> Ex<'g> {
    let one = |k: usize| t.pick(k, 1, 1) * one_hot(index.pick(k, 1, 1), dim);
    let fits = |_: &usize| !t.b.graph().is_full();
    (1..index.dim()).take_while(fits).fold(one(0), |sum, k| sum + one(k))
}

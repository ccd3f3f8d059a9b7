//! Local rewrites of structural nodes, applied at construction.
//!
//! No rewrite changes a value by more than rounding, none makes a NaN where the formula is finite.

use crate::graph::{Builder, Ex, Node, Operand};

/// Builds a contraction: nested broadcasts and outer products without a sum are merged into it,
/// labels of extent 1 are dropped.
pub(crate) fn contract<'g>(
    b: &'g Builder,
    mut extents: Vec<usize>,
    mut operands: Vec<Operand>,
    mut out: Vec<u8>,
) -> Ex<'g> {
    // Drop labels of extent 1: they index nothing.
    let keep: Vec<bool> = extents.iter().map(|&e| e != 1).collect();
    if keep.iter().any(|k| !k) {
        let mut number = vec![0u8; extents.len()];
        let mut next = 0;
        for (l, k) in keep.iter().enumerate() {
            number[l] = next;
            next += *k as u8;
        }
        let f = |ls: &[u8]| -> Vec<u8> {
            ls.iter().filter(|&&l| keep[l as usize]).map(|&l| number[l as usize]).collect()
        };
        out = f(&out);
        for o in &mut operands {
            o.axes = f(&o.axes);
        }
        extents.retain(|&e| e != 1);
    }
    let summed = |o: &Operand| o.axes.iter().any(|l| !out.contains(l));
    let mut merged: Vec<Operand> = Vec::with_capacity(operands.len());
    let mut products = 0;
    for op in operands {
        let inner = b.graph().node(op.node).clone();
        match inner {
            // A broadcast or outer product inside a contraction is more operands of it.
            // (It may also be read with other extents: a 2 × 2 product as a row of 4.)
            Node::Contract { extents: ie, operands: io, out: iout }
                if iout.len() == ie.len()
                    && iout.len() == op.axes.len()
                    && iout
                        .iter()
                        .zip(&op.axes)
                        .all(|(&a, &b)| ie[a as usize] == extents[b as usize]) =>
            {
                let relabel = |l: &u8| {
                    let at = iout.iter().position(|o| o == l).unwrap_or(0);
                    op.axes[at]
                };
                let more: Vec<Operand> = io
                    .into_iter()
                    .map(|o| Operand { node: o.node, axes: o.axes.iter().map(relabel).collect() })
                    .collect();
                // What a product multiplies first must stay first, and no factor may leave a sum:
                // 0 · (1e30 · 1e30) is not (0 · 1e30) · 1e30 where 1e60 overflows.
                let stays = !summed(&op) || more.iter().all(summed);
                if stays && more.len() == 1 {
                    merged.extend(more);
                } else if stays && merged.len() <= 1 && products == 0 {
                    products += 1;
                    merged.splice(0..0, more);
                } else {
                    merged.push(op);
                }
            }
            _ => merged.push(op),
        }
    }
    if merged.len() == 1 && merged[0].axes == out {
        let full =
            out.len() == extents.len() && out.iter().enumerate().all(|(k, &l)| l as usize == k);
        if full {
            return b.ex(merged[0].node);
        }
    }
    if extents.is_empty() {
        return merged.iter().map(|o| b.ex(o.node)).reduce(|a, c| a * c).unwrap_or(b.lit(1.0));
    }
    // Canonical labels, by first appearance, so that equal products are one node.
    let mut order: Vec<u8> = vec![];
    for l in out.iter().chain(merged.iter().flat_map(|o| &o.axes)) {
        if !order.contains(l) {
            order.push(*l);
        }
    }
    for l in 0..extents.len() as u8 {
        if !order.contains(&l) {
            order.push(l);
        }
    }
    let at = |l: &u8| order.iter().position(|o| o == l).unwrap_or(0) as u8;
    let extents = order.iter().map(|&l| extents[l as usize]).collect();
    let out = out.iter().map(at).collect();
    for o in &mut merged {
        o.axes = o.axes.iter().map(at).collect();
    }
    b.node(Node::Contract { extents, operands: merged, out })
}

/// Builds a pick: through concatenations, puts and picks where that is exact.
pub(crate) fn pick<'g>(x: Ex<'g>, start: usize, step: usize, len: usize) -> Ex<'g> {
    let step = if len <= 1 { 1 } else { step };
    if start == 0 && step == 1 && len == x.dim() {
        return x;
    }
    let node = x.b.graph().node(x.id).clone();
    match node {
        Node::Pick { x: y, start: s, step: t, .. } => {
            return pick(x.b.ex(y), s + start * t, t * step, len);
        }
        Node::Concat(parts) => {
            let mut at = 0;
            for p in parts {
                let d = x.b.graph().dim(p);
                if start >= at && start + (len - 1) * step < at + d {
                    return pick(x.b.ex(p), start - at, step, len);
                }
                at += d;
            }
        }
        Node::Put { x: y, start: s, step: t, .. } => {
            let d = x.b.graph().dim(y);
            if s == start && t == step && d == len {
                return x.b.ex(y);
            }
            if apart((s, t, d), (start, step, len)) {
                return x.lit(0.0).broadcast(len);
            }
        }
        // Of a transposed matrix, a part of one row or column. (A label that nothing reads would
        // be summed: a factor.)
        Node::Contract { extents, operands, out }
            if out == [0, 1] && extents.len() == 2 && operands.len() == 1 =>
        {
            let (rows, columns) = (extents[0], extents[1]);
            let (i, j) = (start / columns, start % columns);
            let y = x.b.ex(operands[0].node);
            match &operands[0].axes[..] {
                [1, 0] if step == 1 && j + len <= columns => {
                    return pick(y, j * rows + i, rows, len);
                }
                [1, 0] if step == columns => return pick(y, j * rows + i, 1, len),
                _ => {}
            }
        }
        _ => {}
    }
    x.b.node(Node::Pick { x: x.id, start, step, len })
}

/// Do two progressions `start + k step`, `k < len`, certainly have no number in common?
fn apart((s, t, d): (usize, usize, usize), (start, step, len): (usize, usize, usize)) -> bool {
    let other_phase = t == step && s % t != start % t;
    other_phase || s + (d - 1) * t < start || start + (len - 1) * step < s
}

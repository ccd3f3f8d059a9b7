//! Local rewrites of structural nodes, applied at construction.
//!
//! No rewrite changes a value by more than rounding, none makes a NaN where the formula is finite.
//!
//! Even functions of a norm or an absolute value are functions of its square: written as such, their
//! derivatives are right where it is 0, of every order. Squares with one factor are written so at once. What
//! may overflow or vanish where the formula as written does not (even functions, squares of several
//! factors) is when it is differentiated ([`smoothed`]).

use crate::graph::{Builder, Ex, Graph, Node, NodeId, Operand, map_args};
use crate::ops::{ABS, ADD, DIVIDE, EXP, MINUS, MULT, OpDef, SQRT, When};
use hashbrown::HashMap;

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
    pair_up(b, &mut operands);
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
    let (mut x, mut start, mut step) = (x, start, step);
    // (A loop: such nodes nest as deep as a formula does.)
    loop {
        step = if len <= 1 { 1 } else { step };
        if start == 0 && step == 1 && len == x.dim() {
            return x;
        }
        match picked_from(x, start, step, len) {
            From::Part(y, s, t) => (x, start, step) = (y, s, t),
            From::Made(y) => return y,
            From::Here => return x.b.node(Node::Pick { x: x.id, start, step, len }),
        }
    }
}

/// Where a pick takes its components from.
enum From<'g> {
    /// From an operand of the node: its start and step there.
    Part(Ex<'g>, usize, usize),
    /// It is this value.
    Made(Ex<'g>),
    /// From the node itself.
    Here,
}

fn picked_from<'g>(x: Ex<'g>, start: usize, step: usize, len: usize) -> From<'g> {
    let graph = x.b.graph();
    let part = |y: NodeId, start, step| From::Part(x.b.ex(y), start, step);
    match graph.node(x.id) {
        Node::Pick { x: y, start: s, step: t, .. } => part(*y, s + start * t, t * step),
        Node::Concat(parts) => {
            let mut at = 0;
            for &p in parts {
                let d = graph.dim(p);
                if start >= at && start + (len - 1) * step < at + d {
                    return part(p, start - at, step);
                }
                at += d;
            }
            From::Here
        }
        Node::Put { x: y, start: s, step: t, .. } => {
            let (y, s, t, d) = (*y, *s, *t, graph.dim(*y));
            drop(graph);
            match picked_of((s, t, d), (start, step, len)) {
                Picked::Same => From::Made(x.b.ex(y)),
                Picked::None => From::Made(x.lit(0.0).broadcast(len)),
                Picked::Whole { start, step } => From::Made(x.b.ex(y).put(start, step, len)),
                Picked::Part => From::Here,
            }
        }
        // Of a transposed matrix, a part of one row or column. (A label that nothing reads would
        // be summed: a factor.)
        Node::Contract { extents, operands, out }
            if *out == [0, 1] && extents.len() == 2 && operands.len() == 1 =>
        {
            let (rows, columns) = (extents[0], extents[1]);
            let (i, j) = (start / columns, start % columns);
            let y = operands[0].node;
            match &operands[0].axes[..] {
                [1, 0] if step == 1 && j + len <= columns => part(y, j * rows + i, rows),
                [1, 0] if step == columns => part(y, j * rows + i, 1),
                _ => From::Here,
            }
        }
        _ => From::Here,
    }
}

/// Which of the components that were put are picked.
pub(crate) enum Picked {
    /// Those, in that order, and nothing else.
    Same,
    /// None of them.
    None,
    /// All of them, and zeros: where they stand among those picked.
    Whole {
        /// The first.
        start: usize,
        /// Distance.
        step: usize,
    },
    /// Some, or it is not known.
    Part,
}

/// Of components put to `start + k step`, `k < len`, those at such a progression.
pub(crate) fn picked_of(
    (s, t, d): (usize, usize, usize),
    (start, step, len): (usize, usize, usize),
) -> Picked {
    let same_phase =
        s >= start && (s - start).is_multiple_of(step) && (d == 1 || t.is_multiple_of(step));
    let first = s.wrapping_sub(start) / step;
    if (s, t, d) == (start, step, len) {
        Picked::Same
    } else if apart((s, t, d), (start, step, len)) {
        Picked::None
    } else if same_phase && first + (d - 1) * (t / step) < len {
        Picked::Whole { start: first, step: t / step }
    } else {
        Picked::Part
    }
}

/// Do two progressions `start + k step`, `k < len`, certainly have no number in common?
fn apart((s, t, d): (usize, usize, usize), (start, step, len): (usize, usize, usize)) -> bool {
    let other_phase = t == step && s % t != start % t;
    other_phase || s + (d - 1) * t < start || start + (len - 1) * step < s
}

/// Steps into a formula that a rewrite looks for a root, or for a sign.
const DEPTH: usize = 8;

/// An element-wise operation and its operands.
fn map(graph: &Graph, id: NodeId) -> Option<(&'static OpDef, &[NodeId])> {
    match graph.node(id) {
        Node::Map { op, args } => Some((op, args)),
        _ => None,
    }
}

/// Is a value certainly not negative (or NaN)?
fn nonnegative(graph: &Graph, id: NodeId, depth: usize) -> bool {
    let go = |a: NodeId| depth > 0 && nonnegative(graph, a, depth - 1);
    match graph.node(id) {
        Node::Const(bits) => f64::from_bits(*bits) >= 0.0,
        Node::Map { op, args } => match *op {
            op if *op == ABS || *op == SQRT || *op == EXP => true,
            op if *op == MULT && args[0] == args[1] => true,
            op if *op == MULT || *op == ADD || *op == DIVIDE => args.iter().all(|&a| go(a)),
            _ => false,
        },
        // A product of squares and of such values.
        Node::Contract { operands, .. } => operands
            .iter()
            .all(|o| operands.iter().filter(|p| *p == o).count() % 2 == 0 || go(o.node)),
        Node::Pick { x, .. } | Node::Put { x, .. } | Node::Fold { x, .. } => go(*x),
        Node::Concat(parts) => parts.iter().all(|&p| go(p)),
        _ => false,
    }
}

/// The square root of something that is not negative, or the absolute value, that `id` is a
/// multiple of.
fn core(graph: &Graph, id: NodeId, depth: usize) -> Option<NodeId> {
    let (op, args) = map(graph, id)?;
    let go = |a: NodeId| if depth > 0 { core(graph, a, depth - 1) } else { None };
    match op {
        op if *op == ABS => Some(id),
        op if *op == SQRT => nonnegative(graph, args[0], DEPTH).then_some(id),
        op if *op == MINUS || *op == DIVIDE => go(args[0]),
        op if *op == MULT => go(args[0]).or_else(|| go(args[1])),
        _ => None,
    }
}

/// What is inside a [`core`], and whether that is an absolute value.
fn inside(b: &Builder, core: NodeId) -> (Ex<'_>, bool) {
    match b.graph().node(core) {
        Node::Map { op, args } => (b.ex(args[0]), **op == ABS),
        _ => unreachable!("a core is an operation"),
    }
}

/// How a multiple of a [`core`] is made of it.
#[derive(Clone, Copy)]
enum Step<'g> {
    Minus,
    Over(Ex<'g>),
    Times(Ex<'g>),
}

/// The steps from a core to `x`, the first first: the walk of [`core`], along the operands that led to it.
fn steps<'g>(mut x: Ex<'g>, core: NodeId) -> Option<Vec<Step<'g>>> {
    let mut found = vec![];
    for depth in (0..DEPTH).rev() {
        if x.id == core {
            break;
        }
        let (op, args) = operation(x)?;
        let leads = |a: Ex<'_>| self::core(&a.b.graph(), a.id, depth) == Some(core);
        let (step, next) = match op {
            op if *op == MINUS => (Step::Minus, args[0]),
            op if *op == DIVIDE => (Step::Over(args[1]), args[0]),
            _ if leads(args[0]) => (Step::Times(args[1]), args[0]),
            _ => (Step::Times(args[0]), args[1]),
        };
        found.push(step);
        x = next;
    }
    found.reverse();
    (x.id == core).then_some(found)
}

/// `x` without the absolute value that it is a multiple of, which no even function of `x` sees. (Its
/// square would overflow where the function is finite.)
pub(crate) fn without_absolute<'g>(x: Ex<'g>) -> Option<Ex<'g>> {
    let core = core(&x.b.graph(), x.id, DEPTH)?;
    let (inside, absolute) = inside(x.b, core);
    if !absolute {
        return None;
    }
    let step = |a: Ex<'g>, step: &Step<'g>| match *step {
        Step::Minus => -a,
        Step::Over(c) => a / c,
        Step::Times(c) => a * c,
    };
    Some(steps(x, core)?.iter().fold(inside, step))
}

/// The square of `x` as a function of the square of the root that it is a multiple of.
///
/// One factor stays beside the square: `c (c u)` overflows and vanishes only where `(c sqrt(u))²` does. The
/// product of several may do so earlier, which is for derivatives alone.
pub(crate) fn even_square(x: Ex<'_>, when: When) -> Option<Ex<'_>> {
    let core = core(&x.b.graph(), x.id, DEPTH)?;
    let (inside, absolute) = inside(x.b, core);
    if absolute {
        return None;
    }
    let mut steps = steps(x, core)?;
    steps.retain(|s| !matches!(s, Step::Minus));
    match steps[..] {
        [] => Some(inside),
        [Step::Over(c)] => Some(inside / c / c),
        _ if steps.len() > 1 && when == When::Built => None,
        _ => {
            let f = steps.iter().fold(x.lit(1.0), |f, step| match *step {
                Step::Minus => f,
                Step::Over(c) => f / c,
                Step::Times(c) => c * f,
            });
            Some(f * (f * inside))
        }
    }
}

/// The same function as `root`, to be differentiated: rewritten as operations ask for where they are
/// ([`When::Differentiated`]). The nodes of `leaves` stay what they are.
pub(crate) fn smoothed<'g>(root: Ex<'g>, leaves: &[NodeId]) -> Ex<'g> {
    let b = root.b;
    let mut new: HashMap<NodeId, NodeId> = HashMap::new();
    let order = b.graph().live(&[root.id]);
    for id in order {
        let mut node = b.graph().node(id).clone();
        let mut moved = false;
        map_args(&mut node, |a| {
            let to = new.get(&a).copied().unwrap_or(a);
            moved |= to != a;
            to
        });
        let rewritten = match &node {
            _ if leaves.contains(&id) => continue,
            Node::Map { op, args } => {
                let x: Vec<_> = args.iter().map(|&a| b.ex(a)).collect();
                (op.simplify)(&x, When::Differentiated)
            }
            _ => None,
        };
        match rewritten {
            Some(e) => new.insert(id, e.id),
            None if moved => new.insert(id, b.node(node).id),
            None => None,
        };
    }
    b.ex(new.get(&root.id).copied().unwrap_or(root.id))
}

/// An element-wise operation and its operands, as expressions.
fn operation(x: Ex<'_>) -> Option<(&'static OpDef, Vec<Ex<'_>>)> {
    let graph = x.b.graph();
    let (op, args) = map(&graph, x.id)?;
    Some((op, args.iter().map(|&a| x.b.ex(a)).collect()))
}

/// `a * b` without the root that both are multiples of: `sqrt(u) (c sqrt(u))` is `c u`.
pub(crate) fn product_of_roots<'g>(a: Ex<'g>, b: Ex<'g>, when: When) -> Option<Ex<'g>> {
    if a.id == b.id {
        return without_absolute(a).map(|a| a * a).or_else(|| even_square(a, when));
    }
    let find = |x: Ex<'_>| core(&x.b.graph(), x.id, 1);
    let core = find(a).filter(|_| find(a) == find(b))?;
    let multiple = if a.id == core {
        b
    } else if b.id == core {
        a
    } else {
        return None;
    };
    let (op, args) = operation(multiple)?;
    let (square, absolute) = inside(a.b, core);
    if absolute {
        return Some(square * without_absolute(multiple)?);
    }
    match op {
        op if *op == MINUS => Some(-square),
        op if *op == DIVIDE => Some(square / args[1]),
        op if *op == MULT && args[0].id == core => Some(args[1] * square),
        op if *op == MULT => Some(args[0] * square),
        _ => None,
    }
}

/// `|x|` twice over the same labels of a product is `x` twice.
fn pair_up(b: &Builder, operands: &mut [Operand]) {
    for k in 1..operands.len() {
        let (before, rest) = operands.split_at_mut(k);
        let absolute = match map(&b.graph(), rest[0].node) {
            Some((op, args)) if *op == ABS => args[0],
            _ => continue,
        };
        if let Some(other) = before.iter_mut().find(|o| **o == rest[0]) {
            other.node = absolute;
            rest[0].node = absolute;
        }
    }
}

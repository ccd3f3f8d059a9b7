//! Differentiation of formula graphs, in reverse (vjp) and forward (jvp) mode.
//!
//! Both are one sweep over the shared graph, so that a derivative shares every common value with
//! the formula and with the other derivatives; they return nodes of the same graph, which can be
//! differentiated again.
//!
//! # Selections
//! A value that a selection (`IfElse`, `ReLU`, `Max` of components, …) does not take has no part in
//! the result, whatever its derivative is: infinite, or NaN. Forward mode selects tangents. In reverse
//! mode a cotangent of 0 would not do: 0 · ∞ is NaN. So a cotangent that went through a selection is
//! carried on as it is, with the condition under which it counts (`Guard`), and is set to 0 elsewhere
//! where it leaves what the selection alone reads: at a leaf, or beside other cotangents of a node.
//! Where there is no selection there is no guard.
//!
//! A component is a selection as well, known beforehand: a cotangent of some components alone stays one
//! (`Components`), and those of other components are kept apart from it. What they pass through is
//! differentiated in these components only: beside them, 0 · ∞ would be NaN.

use crate::graph::{Builder, Ex, FoldOp, Node, NodeId, Operand};
use crate::ops::IF_ELSE;
use crate::simplify::{Picked, picked_of, smoothed};
use hashbrown::HashMap;

/// Where a cotangent counts: where `(condition >= 0) == holds`, component by component or for all
/// components at once. Elsewhere it may be anything.
#[derive(Clone, Copy)]
struct Guard<'g> {
    condition: Ex<'g>,
    holds: bool,
}

fn if_else<'g>(condition: Ex<'g>, yes: Ex<'g>, no: Ex<'g>) -> Ex<'g> {
    Ex::apply(&IF_ELSE, &[condition, yes, no])
}

impl<'g> Guard<'g> {
    fn same(self, other: Guard<'g>) -> bool {
        self.condition.id == other.condition.id && self.holds == other.holds
    }
    /// `yes` where it holds, else `no`.
    fn select(self, yes: Ex<'g>, no: Ex<'g>) -> Ex<'g> {
        let (a, b) = if self.holds { (yes, no) } else { (no, yes) };
        if_else(self.condition, a, b)
    }
    /// A condition that is at least 0 where it holds.
    fn positive(self) -> Ex<'g> {
        match self.holds {
            true => self.condition,
            false => self.select(self.condition.lit(0.0), self.condition.lit(-1.0)),
        }
    }
    fn and(self, other: Guard<'g>) -> Guard<'g> {
        if self.same(other) {
            return self;
        }
        let condition = self.select(other.positive(), self.condition.lit(-1.0));
        Guard { condition, holds: true }
    }
    fn or(self, other: Guard<'g>) -> Guard<'g> {
        let condition = self.select(self.condition.lit(0.0), other.positive());
        Guard { condition, holds: true }
    }
    /// Does it hold for any component?
    fn any(self) -> Guard<'g> {
        if self.condition.dim() == 1 {
            return self;
        }
        Guard { condition: self.positive().fold(FoldOp::Max), holds: true }
    }
    /// For some components of more, and for no other.
    fn put(self, (start, step, len): (usize, usize, usize), dim: usize) -> Guard<'g> {
        let b = self.condition.b;
        let put = |x: Ex<'g>| x.broadcast(len).put(start, step, dim);
        let condition = if_else(put(b.lit(1.0)) - 1.0, put(self.positive()), b.lit(-1.0));
        Guard { condition, holds: true }
    }
    /// For some components.
    fn pick(self, start: usize, step: usize, len: usize) -> Guard<'g> {
        if self.condition.dim() == 1 {
            return self;
        }
        Guard { condition: self.condition.pick(start, step, len), ..self }
    }
}

/// Some components of a vector: `start`, `start + step`, … of `dim`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Components {
    start: usize,
    step: usize,
    dim: usize,
}

/// A cotangent, or a contribution to one.
#[derive(Clone, Copy)]
struct Guarded<'g> {
    value: Ex<'g>,
    guard: Option<Guard<'g>>,
    /// The components that value and guard are of, if not all: the others are 0, whatever they meet.
    place: Option<Components>,
}

impl<'g> Guarded<'g> {
    fn new(value: Ex<'g>) -> Guarded<'g> {
        Guarded { value, guard: None, place: None }
    }
    /// `value` as part of what it stands for, under one more guard if it is a selection against 0.
    fn of(value: Ex<'g>, under: Option<Guard<'g>>) -> Guarded<'g> {
        let found = match value.b.graph().node(value.id) {
            Node::Map { op, args } if **op == IF_ELSE => {
                let [condition, yes, no] = [0, 1, 2].map(|k| value.b.ex(args[k]));
                match (yes.constant(), no.constant()) {
                    (_, Some(0.0)) => Some((yes, Guard { condition, holds: true })),
                    (Some(0.0), _) => Some((no, Guard { condition, holds: false })),
                    _ => None,
                }
            }
            _ => None,
        };
        match found {
            None => Guarded { value, guard: under, place: None },
            Some((taken, guard)) => Guarded {
                value: taken.broadcast(value.dim()),
                guard: Some(under.map_or(guard, |u| u.and(guard))),
                place: None,
            },
        }
    }
    /// The value, 0 where it does not count, with all components.
    fn masked(self) -> Ex<'g> {
        let value = self.guard.map_or(self.value, |g| g.select(self.value, self.value.lit(0.0)));
        self.place.map_or(value, |p| value.put(p.start, p.step, p.dim))
    }
    /// As one of all components.
    fn spread(self) -> Guarded<'g> {
        let Some(p) = self.place else { return self };
        let guard = self.guard.map(|g| g.put((p.start, p.step, self.value.dim()), p.dim));
        Guarded { value: self.value.put(p.start, p.step, p.dim), guard, place: None }
    }
    /// As one of the components that it has alone.
    fn local(self) -> Guarded<'g> {
        Guarded { place: None, ..self }
    }
    /// As one that counts or not for all components at once.
    fn whole(self) -> Guarded<'g> {
        match self.guard {
            Some(g) if g.condition.dim() > 1 => {
                let value = self.local().masked();
                Guarded { value, guard: Some(g.any()), ..self }
            }
            _ => self,
        }
    }
    fn pick(self, start: usize, step: usize, len: usize) -> Guarded<'g> {
        let Some(p) = self.place else {
            let guard = self.guard.map(|g| g.pick(start, step, len));
            return Guarded { value: self.value.pick(start, step, len), guard, place: None };
        };
        let step = if len == 1 { 1 } else { step };
        match picked_of((p.start, p.step, self.value.dim()), (start, step, len)) {
            Picked::Same => self.local(),
            Picked::None => Guarded::new(self.value.lit(0.0).broadcast(len)),
            Picked::Whole { start, step } => self.local().at(Components { start, step, dim: len }),
            Picked::Part => self.spread().pick(start, step, len),
        }
    }
    fn put(self, start: usize, step: usize, dim: usize) -> Guarded<'g> {
        self.at(match self.place {
            None => Components { start, step, dim },
            Some(p) => Components { start: start + p.start * step, step: p.step * step, dim },
        })
    }
    fn at(self, place: Components) -> Guarded<'g> {
        let len = self.value.dim();
        let step = if len == 1 { 1 } else { place.step };
        let all = len == place.dim;
        Guarded { place: (!all).then_some(Components { step, ..place }), ..self }
    }
    fn map(self, f: impl FnOnce(Ex<'g>) -> Ex<'g>) -> Guarded<'g> {
        Guarded { value: f(self.value), ..self }
    }
    /// Are both of the same components?
    fn beside(&self, other: &Guarded<'g>) -> bool {
        self.place == other.place && (self.place.is_none() || self.value.dim() == other.value.dim())
    }
}

/// The sum of contributions to one cotangent, which counts where one of them does.
fn total<'g>(parts: &[Guarded<'g>]) -> Guarded<'g> {
    let [first, rest @ ..] = parts else { unreachable!("there is a contribution") };
    let Some((second, more)) = rest.split_first() else { return *first };
    if rest.iter().any(|p| !p.beside(first)) {
        let all: Vec<_> = parts.iter().map(|p| p.spread()).collect();
        return total(&all);
    }
    if let (Some(a), Some(b), []) = (first.guard, second.guard, more)
        && a.condition.id == b.condition.id
    {
        // Both branches of one selection.
        return Guarded { value: a.select(first.value, second.value), guard: None, ..*first };
    }
    let counted = |p: &Guarded<'g>| p.local().masked();
    let value = rest.iter().fold(counted(first), |sum, p| sum + counted(p));
    let either = |a: Option<Guard<'g>>, p: &Guarded<'g>| Some(a?.or(p.guard?));
    Guarded { value, guard: rest.iter().fold(first.guard, either), place: first.place }
}

/// Is it 0 in every component, whatever the arguments are? Such a contribution is left out: it has no
/// guard, so that the total would count everywhere.
fn is_zero(x: Ex<'_>) -> bool {
    let mut id = x.id;
    loop {
        id = match x.b.graph().node(id) {
            Node::Const(bits) => return f64::from_bits(*bits) == 0.0,
            Node::Contract { operands, .. } if operands.len() == 1 => operands[0].node,
            Node::Pick { x, .. } | Node::Put { x, .. } => *x,
            _ => return false,
        };
    }
}

/// Has every component one of these?
fn all_covered<'g>(parts: impl Iterator<Item = Guarded<'g>>) -> bool {
    let places: Option<Vec<_>> = parts.map(|p| Some((p.place?, p.value.dim()))).collect();
    let Some(places) = places else { return true };
    let dim = places.first().map_or(0, |(p, _)| p.dim);
    if places.iter().map(|(_, len)| len).sum::<usize>() < dim {
        return false;
    }
    let mut found = vec![false; dim];
    for (p, len) in places {
        (0..len).for_each(|k| found[p.start + k * p.step] = true);
    }
    found.into_iter().all(|f| f)
}

/// The cotangent of a node as a sum of cotangents of different components, or of all of them.
fn shares<'g>(parts: &[Guarded<'g>]) -> Vec<Guarded<'g>> {
    let mut groups: Vec<Vec<Guarded<'g>>> = vec![];
    for part in parts {
        match groups.iter_mut().find(|g| g[0].beside(part)) {
            Some(g) => g.push(*part),
            None => groups.push(vec![*part]),
        }
    }
    // Together where each component has a contribution: no zero stands beside them then.
    if all_covered(groups.iter().map(|g| g[0])) {
        return vec![total(parts)];
    }
    groups.iter().map(|g| total(g)).collect()
}

/// Reverse mode: for each node of `wrt` (leaves, usually variables) the product of the transposed
/// Jacobian of `out` with the cotangent `seed` (of dimension `out.dim()`, or 1 to broadcast).
/// `None` where `out` does not depend on the node. A look-up in a table ([`Node::Gather`]) that is
/// in `wrt` counts as a leaf.
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
    let leaves: Vec<NodeId> = wrt.iter().map(|w| w.id).collect();
    let out = smoothed(out, &leaves);
    let order = b.graph().live(&[out.id]);
    // Only nodes that lead to `wrt` need a cotangent.
    let mut wanted: HashMap<NodeId, bool> = HashMap::new();
    for &id in &order {
        let mut needed = wrt.iter().any(|w| w.id == id);
        crate::graph::for_each_arg(b.graph().node(id), |a| needed |= wanted[&a]);
        wanted.insert(id, needed);
    }
    // Contributions under one guard are added as they come.
    let mut adjoint: HashMap<NodeId, Vec<Guarded<'g>>> = HashMap::new();
    if wanted[&out.id] {
        adjoint.insert(out.id, vec![Guarded::new(seed.broadcast(out.dim()))]);
    }
    for &id in order.iter().rev() {
        let Some(parts) = adjoint.get(&id) else { continue };
        let node = b.graph().node(id).clone();
        if matches!(node, Node::Var(_) | Node::Const(_) | Node::Index(_) | Node::Iota(_)) {
            continue;
        }
        let shares = shares(parts);
        let mut add = |arg: NodeId, contribution: &dyn Fn() -> Guarded<'g>| {
            if !wanted[&arg] {
                return;
            }
            let (c, x) = (contribution(), b.ex(arg));
            if is_zero(c.value) {
                return;
            }
            let c = match (x.dim(), c.value.dim()) {
                (1, 2..) => c.whole().local().map(Ex::sum),
                (1, _) => c.local(),
                _ if c.place.is_some() => c,
                (d, _) => c.map(|v| v.broadcast(d)),
            };
            let list = adjoint.entry(arg).or_default();
            let same = |p: &&mut Guarded<'g>| {
                let guards = match (p.guard, c.guard) {
                    (Some(a), Some(b)) => a.same(b),
                    (a, b) => a.is_none() && b.is_none(),
                };
                guards && p.beside(&c)
            };
            match list.iter_mut().find(same) {
                Some(p) => p.value = p.value + c.value,
                None => list.push(c),
            }
        };
        for all in shares {
            match &node {
                Node::Var(_) | Node::Const(_) | Node::Index(_) | Node::Iota(_) => {}
                Node::Map { op, args } => {
                    let y = b.ex(id);
                    let (t, len) = (all.local(), all.value.dim());
                    let part = |x: Ex<'g>| match all.place {
                        Some(p) if x.dim() > 1 => x.pick(p.start, p.step, len),
                        _ => x,
                    };
                    let x: Vec<_> = args.iter().map(|&a| part(b.ex(a))).collect();
                    let d = (op.derivative)(&x, part(y), t.value);
                    for (&a, c) in args.iter().zip(d) {
                        // A scalar operand of a vector result collects every component, also where
                        // the partial derivative itself is a scalar.
                        add(a, &|| match (c.constant(), all.place) {
                            (Some(0.0), _) => Guarded::new(c),
                            (_, place) => {
                                let c = Guarded::of(c, t.guard).map(|c| c.broadcast(len));
                                Guarded { place, ..c }
                            }
                        });
                    }
                }
                Node::Contract { extents, operands, out } => {
                    let found = all.place.and_then(|p| restricted(b, &node, p, all.value.dim()));
                    let (whole, part) = match found {
                        Some(part) => (all.local().whole(), part),
                        None => (all.spread().whole(), Product::new(b, extents, operands)),
                    };
                    for k in 0..operands.len() {
                        add(operands[k].node, &|| {
                            let factors = operands.iter().zip(&part.factors).enumerate();
                            let mut others: Vec<(Ex<'g>, &[u8])> = factors
                                .filter(|(q, _)| *q != k)
                                .map(|(_, (o, &x))| (x, &o.axes[..]))
                                .collect();
                            others.push((whole.value, out));
                            let extents = part.extents.clone();
                            let c = whole.map(|t| t.contract(extents, &others, &operands[k].axes));
                            let put =
                                |c: Guarded<'g>, p: &Components| c.put(p.start, p.step, p.dim);
                            part.places[k].iter().rev().fold(c, put)
                        });
                    }
                }
                Node::Pick { x, start, step, .. } => {
                    let dim = b.ex(*x).dim();
                    // A leaf is not differentiated further: no component of it has to be guarded.
                    let leaf = matches!(b.graph().node(*x), Node::Var(_));
                    let all = match leaf {
                        true => Guarded { guard: None, value: all.local().masked(), ..all },
                        false => all,
                    };
                    add(*x, &|| all.put(*start, *step, dim));
                }
                Node::Put { x, start, step, .. } => {
                    let len = b.ex(*x).dim();
                    add(*x, &|| all.pick(*start, *step, len));
                }
                Node::Concat(parts) => {
                    let mut at = 0;
                    for &p in parts {
                        let (start, d) = (at, b.ex(p).dim());
                        add(p, &|| all.pick(start, 1, d));
                        at += d;
                    }
                }
                Node::Fold { op, x } => {
                    let x = b.ex(*x);
                    if let Some(winner) = winner(*op, x) {
                        add(x.id, &|| {
                            Guarded::of(if_else(winner, all.value, b.lit(0.0)), all.guard)
                        });
                    }
                }
                Node::Gather { table, index } => {
                    // (The caller that asks for the cotangent of a look-up scatters it to the table.)
                    let (table, index) = (b.ex(*table), b.ex(*index));
                    if !wrt.iter().any(|w| w.id == id) {
                        let whole = all.spread().whole();
                        add(table.id, &|| whole.map(|t| scatter(index, t, table.dim())));
                    }
                }
            }
        }
    }
    wrt.iter()
        .map(|w| {
            let parts = adjoint.get(&w.id)?;
            Some(total(parts).masked().broadcast(w.dim()))
        })
        .collect()
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
    let leaves: Vec<NodeId> = tangents.iter().map(|t| t.0.id).collect();
    let out = smoothed(out, &leaves);
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
                    add(if_else(winner, t, b.lit(0.0)).sum());
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

/// The operands of a product in some of its components, and which components of theirs these are: of all
/// first, then of those, ….
struct Product<'g> {
    extents: Vec<usize>,
    factors: Vec<Ex<'g>>,
    places: Vec<Vec<Components>>,
}

impl<'g> Product<'g> {
    fn new(b: &'g Builder, extents: &[usize], operands: &[Operand]) -> Product<'g> {
        let factors = operands.iter().map(|o| b.ex(o.node)).collect();
        Product { extents: extents.to_vec(), factors, places: vec![vec![]; operands.len()] }
    }
    /// Keeps some values of a label; `None` where an operand has no arithmetic progression of them.
    fn keep(
        &mut self,
        operands: &[Operand],
        label: u8,
        (start, step, len): (usize, usize, usize),
    ) -> Option<()> {
        let extent = self.extents[label as usize];
        for (k, o) in operands.iter().enumerate() {
            let mut places = o.axes.iter().enumerate().filter(|(_, l)| **l == label);
            let Some((at, _)) = places.next() else { continue };
            if places.next().is_some() {
                return None;
            }
            let size =
                |axes: &[u8]| -> usize { axes.iter().map(|&l| self.extents[l as usize]).product() };
            let (before, after) = (size(&o.axes[..at]), size(&o.axes[at + 1..]));
            let (start, step, count) = match (before, after) {
                (1, 1) => (start, step, len),
                (1, _) if step == 1 || len == 1 => (start * after, 1, len * after),
                (_, 1) if len == 1 => (start, extent, before),
                _ => return None,
            };
            let x = &mut self.factors[k];
            self.places[k].push(Components { start, step, dim: x.dim() });
            *x = x.pick(start, step, count);
        }
        self.extents[label as usize] = len;
        Some(())
    }
}

/// What some components of a product are made of, if that is again one of parts of its operands.
fn restricted<'g>(
    b: &'g Builder,
    node: &Node,
    place: Components,
    len: usize,
) -> Option<Product<'g>> {
    let Node::Contract { extents, operands, out } = node else { return None };
    let mut part = Product::new(b, extents, operands);
    if let [label] = out[..] {
        part.keep(operands, label, (place.start, place.step, len))?;
        return Some(part);
    }
    // One component, one row, one matrix, …: the first labels have one value.
    let mut block = place.dim;
    let mut start = place.start;
    for &label in out {
        if block == len {
            break;
        }
        block /= extents[label as usize];
        part.keep(operands, label, (start / block, 1, 1))?;
        start %= block;
    }
    (block == len && start == 0 && (len == 1 || place.step == 1)).then_some(part)
}

/// A condition on components: 0 for the one that a fold takes (the first of equals), else -1.
fn winner(op: FoldOp, x: Ex<'_>) -> Option<Ex<'_>> {
    let arg = match op {
        FoldOp::Min => FoldOp::ArgMin,
        FoldOp::Max => FoldOp::ArgMax,
        FoldOp::ArgMin | FoldOp::ArgMax => return None,
    };
    Some(one_hot(x.fold(arg), x.dim()) - 1.0)
}

/// Zeros of dimension `dim` with a 1 at the rounded position `at`.
pub(crate) fn one_hot<'g>(at: Ex<'g>, dim: usize) -> Ex<'g> {
    let position = (at + 0.5).un(&crate::ops::FLOOR);
    Ex::apply(&crate::ops::EQUAL, &[at.iota(dim), position])
}

/// Adjoint of a gather: `out[index[k]] += t[k]`.
fn scatter<'g>(index: Ex<'g>, t: Ex<'g>, dim: usize) -> Ex<'g> {
    let at = |k: usize| one_hot(index.pick(k, 1, 1), dim) - 1.0;
    let one = |k: usize| if_else(at(k), t.pick(k, 1, 1), t.lit(0.0));
    let fits = |_: &usize| !t.b.graph().is_full();
    (1..index.dim()).take_while(fits).fold(one(0), |sum, k| sum + one(k))
}

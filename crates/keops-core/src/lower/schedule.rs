//! From scalar values to a stream: what is needed, in an order, inside the right loops, with
//! values of lower classes moved to their sections.

use super::derived::{Action, Derived};
use super::ssa::{Arena, Def, FoldKind};
use crate::graph::Dependence;
use crate::prim::{Kind, Prim};
use crate::program::{Affine, Loop, Op, SInst, Space, Stream};
use crate::vecmath::Val;
use hashbrown::HashMap;

/// Makes the stream that performs `actions` in order. With `hoist`, the class of the section,
/// values of lower classes are derived in their own sections.
pub fn schedule(
    arena: &mut Arena,
    derived: &mut Derived,
    actions: &[Action],
    hoist: Option<Dependence>,
) -> Stream {
    let mut s = Scheduler {
        hoist,
        out: vec![],
        done: vec![false; arena.values.len()],
        seen: vec![0; arena.values.len()],
        search: 0,
        arena,
        derived,
        moved: HashMap::new(),
        origin: HashMap::new(),
        extra: vec![],
    };
    let mut k = 0;
    while k < actions.len() {
        // Neighbours inside the same loops share them, unless one could load what another stores.
        let loops = action_loops(&actions[k]);
        let shares = |a: &Action| {
            matches!(a.space, None | Some(Space::Result | Space::Sums)) && action_loops(a) == loops
        };
        let mut end = k + 1;
        while end < actions.len() && shares(&actions[k]) && shares(&actions[end]) {
            end += 1;
        }
        let group = &actions[k..end];
        let roots: Vec<Val> = group.iter().map(|a| a.value).collect();
        s.nest(&roots, &loops, &mut vec![], &mut |s| {
            for a in group {
                let value = s.place(a.value);
                s.out.push(match a.space {
                    None => SInst::Emit { slot: a.at.clone(), value },
                    Some(space) => SInst::Store { space, at: a.at.clone(), value },
                });
            }
        });
        k = end;
    }
    let (out, extra) = (s.out, s.extra);
    renumber(out, |v| match v.0.checked_sub(TEMPORARY) {
        Some(k) => extra[k as usize],
        None => arena.value(v).kind,
    })
}

/// Values beyond the arena, which grows while streams are scheduled.
const TEMPORARY: u32 = 1 << 31;

fn action_loops(a: &Action) -> Vec<Loop> {
    a.at.terms.iter().map(|t| t.0).collect()
}

/// Numbers values by appearance, so that a stream does not show what else was in the arena.
fn renumber(mut insts: Vec<SInst>, kind: impl Fn(Val) -> Kind) -> Stream {
    let mut place: HashMap<Val, Val> = HashMap::with_capacity(insts.len());
    let mut new_kinds = vec![];
    for inst in &mut insts {
        let mut go = |v: &mut Val| {
            let next = Val(place.len() as u32);
            let n = *place.entry(*v).or_insert(next);
            if n == next {
                new_kinds.push(kind(*v));
            }
            *v = n;
        };
        match inst {
            SInst::Def { dst, args, .. } => {
                args.iter_mut().for_each(&mut go);
                go(dst);
            }
            SInst::Start { acc, value } | SInst::Update { acc, value } => {
                go(value);
                go(acc);
            }
            SInst::Emit { value, .. } | SInst::Store { value, .. } => go(value),
            SInst::Begin { .. } | SInst::End(_) => {}
        }
    }
    Stream { insts, kinds: new_kinds, buffer: 0 }
}

struct Scheduler<'s> {
    arena: &'s mut Arena,
    derived: &'s mut Derived,
    hoist: Option<Dependence>,
    out: Vec<SInst>,
    /// Is a value computed in an open scope?
    done: Vec<bool>,
    /// The last search that came by a value, and the number of searches.
    seen: Vec<u32>,
    search: u32,
    /// Values that were moved to another section, and the loads that stand for them.
    moved: HashMap<Val, Val>,
    /// The value that each of those loads stands for: its place in the order.
    origin: HashMap<Val, Val>,
    /// Kinds of temporaries beyond the arena.
    extra: Vec<Kind>,
}

impl Scheduler<'_> {
    /// The value that stands for `v` here.
    fn place(&self, v: Val) -> Val {
        self.moved.get(&v).copied().unwrap_or(v)
    }
    /// Moves `v` to the section of its class if it has a lower one.
    fn resolve(&mut self, v: Val) -> Val {
        if let Some(&m) = self.moved.get(&v) {
            return m;
        }
        let Some(section) = self.hoist else { return v };
        let value = self.arena.value(v);
        let stays = value.class == section
            || !value.loops.is_empty()
            || value.kind != Kind::Real
            || matches!(value.def, Def::Op(Op::Real(_) | Op::Load(..), _));
        if stays {
            return v;
        }
        let class = value.class;
        // (Every section can have its own constants.)
        if value.constant {
            return v;
        }
        let (space, at) = self.derived.reserve(class, 1);
        let at = Affine::constant(at);
        self.derived.push(class, Action { space: Some(space), at: at.clone(), value: v });
        let load = self.arena.load(space, at);
        self.moved.insert(v, load);
        self.origin.insert(load, v);
        load
    }
    fn is_done(&self, v: Val) -> bool {
        self.done.get(v.0 as usize) == Some(&true)
    }
    fn set_done(&mut self, v: Val) {
        let at = v.0 as usize;
        self.done.resize(self.done.len().max(at + 1), false);
        self.done[at] = true;
    }
    /// Is it the first time that this search comes by?
    fn is_new(&mut self, v: Val) -> bool {
        let at = v.0 as usize;
        self.seen.resize(self.seen.len().max(at + 1), 0);
        std::mem::replace(&mut self.seen[at], self.search) != self.search
    }
    fn temp(&mut self, kind: Kind) -> Val {
        self.extra.push(kind);
        Val(TEMPORARY + self.extra.len() as u32 - 1)
    }
    /// Opens `loops` one after the other, computing at each level what belongs there, then runs
    /// `tail` inside.
    fn nest(
        &mut self,
        roots: &[Val],
        loops: &[Loop],
        open: &mut Vec<Loop>,
        tail: &mut dyn FnMut(&mut Self),
    ) {
        let mut scopes = vec![self.scope(roots, open)];
        for &l in loops {
            self.out.push(SInst::Begin { id: l, extent: self.arena.extents[l.0 as usize] });
            open.push(l);
            scopes.push(self.scope(roots, open));
        }
        tail(self);
        for &l in loops.iter().rev() {
            self.out.push(SInst::End(l));
            open.pop();
            for v in scopes.pop().unwrap_or_default() {
                self.done[v.0 as usize] = false;
            }
        }
    }
    /// Computes what `roots` need and what belongs at this level; returns what it computed.
    fn scope(&mut self, roots: &[Val], open: &mut Vec<Loop>) -> Vec<Val> {
        let mut needed: Vec<Val> = vec![];
        let mut stack: Vec<Val> = roots.to_vec();
        self.search += 1;
        while let Some(v) = stack.pop() {
            let v = self.resolve(v);
            if self.is_done(v) || !self.is_new(v) {
                continue;
            }
            let value = self.arena.value(v);
            if value.loops.iter().all(|l| open.contains(l)) {
                needed.push(v);
            }
            match &value.def {
                Def::Op(_, args) => stack.extend(&args[..]),
                Def::Fold { x, position, .. } => {
                    stack.push(*x);
                    stack.extend(position);
                }
            }
        }
        needed.sort_by_cached_key(|v| self.origin.get(v).copied().unwrap_or(*v));
        let mut k = 0;
        while k < needed.len() {
            let v = needed[k];
            k += 1;
            if self.is_done(v) {
                continue;
            }
            match self.arena.value(v).def.clone() {
                Def::Op(op, args) => {
                    let args = args.iter().map(|a| self.place(*a)).collect();
                    self.out.push(SInst::Def { dst: v, op, args });
                    self.set_done(v);
                }
                Def::Fold { loops, .. } => {
                    // Folds over the same loops that are ready share them.
                    let mut group = vec![v];
                    for &w in &needed[k..] {
                        if let Def::Fold { loops: other, .. } = &self.arena.value(w).def
                            && *other == loops
                            && !self.is_done(w)
                            && self.ready(w, open)
                        {
                            group.push(w);
                        }
                    }
                    self.folds(&group, &loops, open);
                    group.into_iter().for_each(|v| self.set_done(v));
                }
            }
        }
        needed
    }
    /// Is everything computed that a fold needs from outside its loops?
    fn ready(&mut self, w: Val, open: &[Loop]) -> bool {
        let mut stack = vec![w];
        self.search += 1;
        while let Some(v) = stack.pop() {
            let v = self.resolve(v);
            if self.is_done(v) || !self.is_new(v) {
                continue;
            }
            let value = self.arena.value(v);
            if v != w && value.loops.iter().all(|l| open.contains(l)) {
                // Leaves can be made anywhere.
                if !matches!(&value.def, Def::Op(Op::Load(..) | Op::Real(_) | Op::Int(_), _)) {
                    return false;
                }
                continue;
            }
            match &value.def {
                Def::Op(_, args) => stack.extend(&args[..]),
                Def::Fold { x, position, .. } => {
                    stack.push(*x);
                    stack.extend(position);
                }
            }
        }
        true
    }
    fn define(&mut self, op: Op, args: Vec<Val>, kind: Kind) -> Val {
        let dst = self.temp(kind);
        self.out.push(SInst::Def { dst, op, args });
        dst
    }
    /// Several folds over the same loops.
    fn folds(&mut self, group: &[Val], loops: &[Loop], open: &mut Vec<Loop>) {
        struct Plan {
            acc: Val,
            key: Val,
            kind: FoldKind,
            x: Val,
            product: Option<(Val, Val)>,
            position: Option<Val>,
        }
        let mut plans = vec![];
        let mut roots = vec![];
        for &v in group {
            let Def::Fold { kind, x, position, .. } = self.arena.value(v).def.clone() else {
                unreachable!("a group of folds")
            };
            let product = match &self.arena.value(x).def {
                Def::Op(Op::Prim(Prim::Mul), a) if kind == FoldKind::Sum => Some((a[0], a[1])),
                _ => None,
            };
            match product {
                Some((a, b)) => roots.extend([a, b]),
                None => roots.push(x),
            }
            roots.extend(position);
            let start = match kind {
                FoldKind::Sum | FoldKind::Kahan => 0.0,
                FoldKind::Min => f64::INFINITY,
                FoldKind::Max => f64::NEG_INFINITY,
                // None yet: an infinity that follows NaN wins as well.
                FoldKind::ArgMin | FoldKind::ArgMax => f64::NAN,
            };
            let value = self.define(Op::Real(start), vec![], Kind::Real);
            // (Kahan's keeps what the sum has too much.)
            let two = position.is_some() || kind == FoldKind::Kahan;
            let key = if two { self.temp(Kind::Real) } else { v };
            self.out.push(SInst::Start { acc: key, value });
            if two {
                let zero = self.define(Op::Real(0.0), vec![], Kind::Real);
                self.out.push(SInst::Start { acc: v, value: zero });
            }
            plans.push(Plan { acc: v, key, kind, x, product, position });
        }
        self.nest(&roots, loops, open, &mut |s| {
            for p in &plans {
                let x = s.place(p.x);
                let prim = |s: &mut Self, op: Prim, args: &[Val]| {
                    s.define(Op::Prim(op), args.to_vec(), op.signature().1)
                };
                if let Some(at) = p.position {
                    let at = s.place(at);
                    let (a, b) = if p.kind == FoldKind::ArgMin { (p.key, x) } else { (x, p.key) };
                    let no_better = prim(s, Prim::Le, &[a, b]);
                    let better = prim(s, Prim::MaskNot, &[no_better]);
                    let number = prim(s, Prim::Eq, &[x, x]);
                    let better = prim(s, Prim::MaskAnd, &[better, number]);
                    let winner = prim(s, Prim::Select, &[better, at, p.acc]);
                    let key = prim(s, Prim::Select, &[better, x, p.key]);
                    s.out.push(SInst::Update { acc: p.acc, value: winner });
                    s.out.push(SInst::Update { acc: p.key, value: key });
                    continue;
                }
                if p.kind == FoldKind::Kahan {
                    let more = prim(s, Prim::Sub, &[x, p.key]);
                    let sum = prim(s, Prim::Add, &[p.acc, more]);
                    let grown = prim(s, Prim::Sub, &[sum, p.acc]);
                    let lost = prim(s, Prim::Sub, &[grown, more]);
                    // NaN where the sum is not finite: an infinite sum stays infinite.
                    let finite = prim(s, Prim::Eq, &[lost, lost]);
                    let zero = s.define(Op::Real(0.0), vec![], Kind::Real);
                    let lost = prim(s, Prim::Select, &[finite, lost, zero]);
                    s.out.push(SInst::Update { acc: p.key, value: lost });
                    s.out.push(SInst::Update { acc: p.acc, value: sum });
                    continue;
                }
                let new = match (p.kind, p.product) {
                    (FoldKind::Kahan, _) => unreachable!("done above"),
                    (FoldKind::Sum, Some((a, b))) => {
                        let (a, b) = (s.place(a), s.place(b));
                        prim(s, Prim::Fma, &[a, b, p.acc])
                    }
                    (FoldKind::Sum, None) => prim(s, Prim::Add, &[p.acc, x]),
                    (FoldKind::Min | FoldKind::ArgMin, _) => prim(s, Prim::Min, &[x, p.key]),
                    (FoldKind::Max | FoldKind::ArgMax, _) => prim(s, Prim::Max, &[x, p.key]),
                };
                s.out.push(SInst::Update { acc: p.key, value: new });
            }
        });
    }
}

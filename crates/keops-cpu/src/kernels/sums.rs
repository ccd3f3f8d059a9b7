//! Routines of the accumulating reductions.

use super::{
    Accumulation, Plan, StateLayout, StatePart, buffers, context, finite_max, steps, value,
};
use crate::translate::{Context, Emission, Sums, Writer, at, translate};
use crate::vcode::{Addr, Base, Inst, LoopKind, VCode, VReg};
use hashbrown::HashMap;
use keops_core::prim::{Kind, Prim};
use keops_core::program::Program;

/// The sums of a tile while a routine runs.
pub struct Accumulators<'p> {
    plan: &'p Plan,
    n: usize,
    layout: StateLayout,
    /// `[slot][row]` sums and, where the scheme has them, compensations or high halves.
    sums: Vec<Vec<VReg>>,
    second: Vec<Vec<VReg>>,
    /// Open partial sums of memory accumulators, by instruction and row.
    open: HashMap<(usize, usize), VReg>,
}

impl<'p> Accumulators<'p> {
    /// All of them in memory.
    pub fn in_memory(p: &Program, plan: &'p Plan) -> Self {
        let layout = StateLayout::new(p, plan);
        Accumulators { plan, n: p.sums, layout, sums: vec![], second: vec![], open: HashMap::new() }
    }
    fn new(w: &mut Writer, p: &Program, plan: &'p Plan) -> Self {
        let mut a = Self::in_memory(p, plan);
        if plan.registers {
            let two = matches!(plan.accumulation, Accumulation::Kahan | Accumulation::Wide);
            for _ in 0..a.n {
                a.sums.push((0..plan.rows).map(|_| w.reg(Kind::Real)).collect());
                if two {
                    a.second.push((0..plan.rows).map(|_| w.reg(Kind::Real)).collect());
                }
            }
        }
        a
    }
    fn persistent(&self) -> bool {
        !matches!(self.plan.accumulation, Accumulation::Block | Accumulation::Wide)
    }
    /// Where sums live during the block.
    fn place(&self) -> Sums<'_> {
        if self.plan.registers {
            Sums::Registers(&self.sums)
        } else {
            Sums::Memory(self.layout.start(self.section()))
        }
    }
    /// What columns are added to.
    fn section(&self) -> StatePart {
        if self.persistent() { StatePart::Total } else { StatePart::Block }
    }
    fn state(&self, section: StatePart, slot: usize, r: usize) -> Addr {
        at(Base::State, self.layout.at(section, slot, r * self.plan.lanes))
    }
    fn each(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let rows = self.plan.rows;
        (0..self.n).flat_map(move |s| (0..rows).map(move |r| (s, r)))
    }
    /// Starts the block's sums.
    fn start(&self, w: &mut Writer) {
        if self.plan.registers {
            for (s, r) in self.each() {
                if self.persistent() {
                    w.push(Inst::Load {
                        dst: self.sums[s][r],
                        addr: self.state(StatePart::Total, s, r),
                        broadcast: false,
                    });
                    if !self.second.is_empty() {
                        w.push(Inst::Load {
                            dst: self.second[s][r],
                            addr: self.state(StatePart::Lost, s, r),
                            broadcast: false,
                        });
                    }
                } else {
                    w.push(Inst::Const { dst: self.sums[s][r], value: 0.0 });
                    if !self.second.is_empty() {
                        w.push(Inst::Const { dst: self.second[s][r], value: 0.0 });
                    }
                }
            }
        } else if !self.persistent() {
            let zero = w.real(0.0);
            self.each_in_memory(w, |w, addr| {
                w.push(Inst::Store { addr: addr(StatePart::Block), src: zero })
            });
        }
    }
    /// Runs over all slots and rows in memory, by a loop where there are many.
    pub fn each_in_memory(
        &self,
        w: &mut Writer,
        mut f: impl FnMut(&mut Writer, &dyn Fn(StatePart) -> Addr),
    ) {
        let (lanes, vectors) = (self.plan.lanes, self.n * self.plan.rows);
        if vectors <= 8 {
            for v in 0..vectors {
                f(w, &|k| at(Base::State, self.layout.at(k, 0, v * lanes)));
            }
            return;
        }
        let l = w.begin(LoopKind::Fixed(vectors as u32));
        f(w, &|k| Addr {
            base: Base::State,
            offset: self.layout.start(k) as i32,
            terms: vec![(l, lanes as i32)],
        });
        w.end(l);
    }
    fn add(&mut self, w: &mut Writer, e: Emission, columns: usize, windows: Option<&Windows>) {
        let plan = self.plan;
        for r in 0..plan.rows {
            let mask = windows.map(|all| all.mask(w, plan, e.column, r));
            let v: Vec<VReg> = e.factors.iter().map(|f| f[r]).collect();
            if plan.registers {
                let s = e.slot.offset as usize;
                let second = self.second.get(s).map(|x| x[r]);
                self.add_to(w, self.sums[s][r], second, &v, mask);
                continue;
            }
            let place = |section: StatePart| self.layout.addr(section, &e.slot, r * plan.lanes);
            let section = self.section();
            let second = plan.accumulation == Accumulation::Kahan;
            let (a, b) = if e.column == 0 {
                let a = w.load(place(section), false);
                let b = second.then(|| w.load(place(StatePart::Lost), false));
                self.open.insert((e.number, r), a);
                if let Some(b) = b {
                    self.open.insert((e.number, r + plan.rows), b);
                }
                (a, b)
            } else {
                (self.open[&(e.number, r)], self.open.get(&(e.number, r + plan.rows)).copied())
            };
            self.add_to(w, a, b, &v, mask);
            if e.column == columns - 1 {
                w.push(Inst::Store { addr: place(section), src: a });
                if let Some(b) = b {
                    w.push(Inst::Store { addr: place(StatePart::Lost), src: b });
                }
                self.open.remove(&(e.number, r));
                self.open.remove(&(e.number, r + plan.rows));
            }
        }
    }
    fn add_to(
        &self,
        w: &mut Writer,
        sum: VReg,
        second: Option<VReg>,
        v: &[VReg],
        mask: Option<VReg>,
    ) {
        let product = |w: &mut Writer| {
            let p = if v.len() == 2 { w.op(Prim::Mul, v) } else { v[0] };
            let Some(mask) = mask else { return p };
            let zero = w.real(0.0);
            w.op(Prim::Select, &[mask, p, zero])
        };
        match (self.plan.accumulation, second) {
            (Accumulation::Block | Accumulation::Direct, _) if mask.is_some() => {
                let p = product(w);
                w.set(sum, Prim::Add, &[sum, p]);
            }
            (Accumulation::Block | Accumulation::Direct, _) => match *v {
                [a, b] => w.set(sum, Prim::Fma, &[a, b, sum]),
                _ => w.set(sum, Prim::Add, &[sum, v[0]]),
            },
            (Accumulation::Half, _) => {
                let p = product(w);
                let s = w.op(Prim::Add, &[sum, p]);
                w.set(sum, Prim::RoundF16, &[s]);
            }
            // Kahan (1965): `second` is what the sum has too much.
            (Accumulation::Kahan, Some(c)) => {
                let p = product(w);
                let y = w.op(Prim::Sub, &[p, c]);
                let t = w.op(Prim::Add, &[sum, y]);
                let d = w.op(Prim::Sub, &[t, sum]);
                let e = w.op(Prim::Sub, &[d, y]);
                // NaN where the sum is not finite: an infinite sum stays infinite.
                let (ok, zero) = (w.op(Prim::Eq, &[e, e]), w.real(0.0));
                w.set(c, Prim::Select, &[ok, e, zero]);
                w.copy(sum, t);
            }
            (Accumulation::Wide, Some(high)) => {
                let src = product(w);
                w.push(Inst::WideAdd { acc: [sum, high], src });
            }
            (Accumulation::Kahan | Accumulation::Wide, None) => unreachable!("two registers a sum"),
        }
    }
    /// Adds the block's sums to the totals.
    fn finish(&self, w: &mut Writer) {
        match (self.plan.accumulation, self.plan.registers) {
            (Accumulation::Wide, _) => {
                for (s, r) in self.each() {
                    // The address counts f32: an f64 vector is two of them.
                    let place = self.layout.wide(s, r * self.plan.lanes);
                    let src = [self.sums[s][r], self.second[s][r]];
                    w.push(Inst::WideStore { addr: at(Base::State, place), src });
                }
            }
            (Accumulation::Block, registers) => {
                if registers {
                    for (s, r) in self.each() {
                        two_sum(w, self.sums[s][r], &|k| self.state(k, s, r));
                    }
                } else {
                    self.each_in_memory(w, |w, addr| {
                        let b = w.load(addr(StatePart::Block), false);
                        two_sum(w, b, addr);
                    });
                }
            }
            (_, true) => {
                for (s, r) in self.each() {
                    w.push(Inst::Store {
                        addr: self.state(StatePart::Total, s, r),
                        src: self.sums[s][r],
                    });
                    if !self.second.is_empty() {
                        w.push(Inst::Store {
                            addr: self.state(StatePart::Lost, s, r),
                            src: self.second[s][r],
                        });
                    }
                }
            }
            (_, false) => {}
        }
    }
}

/// Knuth's error-free addition of `b` to the total, its error to the compensation. Infinite and NaN
/// totals keep the compensation out.
fn two_sum(w: &mut Writer, b: VReg, addr: &dyn Fn(StatePart) -> Addr) {
    let total = w.load(addr(StatePart::Total), false);
    let lost = w.load(addr(StatePart::Lost), false);
    let s = w.op(Prim::Add, &[total, b]);
    let bb = w.op(Prim::Sub, &[s, total]);
    let aa = w.op(Prim::Sub, &[s, bb]);
    let (eb, ea) = (w.op(Prim::Sub, &[b, bb]), w.op(Prim::Sub, &[total, aa]));
    let e = w.op(Prim::Add, &[ea, eb]);
    // e is NaN exactly where s is not finite.
    let ok = w.op(Prim::Eq, &[e, e]);
    let zero = w.real(0.0);
    let e = w.op(Prim::Select, &[ok, e, zero]);
    let lost = w.op(Prim::Add, &[lost, e]);
    w.push(Inst::Store { addr: addr(StatePart::Total), src: s });
    w.push(Inst::Store { addr: addr(StatePart::Lost), src: lost });
}

/// Rows that see a part of a call's columns each: those from a first number on to another, of which the
/// first columns of the scratch memory tell, `[first, after the last][row]`, as reals that count
/// from the first column of the call.
struct Windows {
    /// Number of the first column of the present turn.
    number: VReg,
}

impl Windows {
    /// To be made before anything else has scratch memory.
    fn new(w: &mut Writer, plan: &Plan) -> Windows {
        let first = w.scratch(2 * plan.width());
        debug_assert_eq!(first, 0, "the windows are the first of the scratch memory");
        let number = w.reg(Kind::Real);
        w.push(Inst::Const { dst: number, value: 0.0 });
        Windows { number }
    }
    /// Which rows of a row vector see a column of the turn?
    fn mask(&self, w: &mut Writer, plan: &Plan, column: usize, r: usize) -> VReg {
        let offset = w.real(column as f64);
        let here = w.op(Prim::Add, &[self.number, offset]);
        let first = w.load(at(Base::Scratch, r * plan.lanes), false);
        let end = w.load(at(Base::Scratch, plan.width() + r * plan.lanes), false);
        let (from, to) = (w.op(Prim::Le, &[first, here]), w.op(Prim::Lt, &[here, end]));
        w.op(Prim::MaskAnd, &[from, to])
    }
    fn advance(&self, w: &mut Writer, columns: usize) {
        let columns = w.real(columns as f64);
        w.set(self.number, Prim::Add, &[self.number, columns]);
    }
}

/// The routine that takes columns into the sums of a tile, all columns into each row or, `windowed`, into
/// the rows in whose [windows](Windows) they are.
pub fn sum_code(p: &Program, plan: &Plan, windowed: bool) -> VCode {
    let mut w = Writer::new(plan.ty, p.reduced.len);
    let windows = windowed.then(|| Windows::new(&mut w, plan));
    let windows = windows.as_ref();
    let mut acc = Accumulators::new(&mut w, p, plan);
    acc.start(&mut w);
    for columns in steps(plan.columns) {
        let buffer = buffers(&mut w, plan, columns, &p.add);
        let l = w.begin(LoopKind::Columns { step: plan.turn(columns) });
        let ctx = Context { buffer, ..context(plan, columns, Sums::Memory(0)) };
        translate(&mut w, &p.add, &ctx, &mut |w, e| acc.add(w, e, columns, windows));
        if let Some(windows) = windows {
            windows.advance(&mut w, columns);
        }
        w.end(l);
    }
    acc.finish(&mut w);
    w.finish()
}

/// The routine that takes columns into sums under a running maximum; `windowed` as for sums.
pub fn pivot_code(p: &Program, plan: &Plan, windowed: bool) -> VCode {
    let mut w = Writer::new(plan.ty, p.reduced.len);
    let windows = windowed.then(|| (Windows::new(&mut w, plan), w.reg(Kind::Real)));
    let (windows, turn) = (windows.as_ref().map(|w| &w.0), windows.as_ref().map(|w| w.1));
    let rows = plan.rows;
    let pivot: Vec<VReg> = (0..rows).map(|_| w.reg(Kind::Real)).collect();
    let first: Vec<VReg> = (0..rows).map(|_| w.reg(Kind::Real)).collect();
    let old: Vec<VReg> = (0..rows).map(|_| w.reg(Kind::Real)).collect();
    let layout = StateLayout::new(p, plan);
    let pivot_place = |r: usize| at(Base::State, layout.pivot(r * plan.lanes));
    for r in 0..rows {
        w.push(Inst::Load { dst: pivot[r], addr: pivot_place(r), broadcast: false });
        w.push(Inst::Load { dst: first[r], addr: pivot_place(r), broadcast: false });
    }
    let mut acc = Accumulators::new(&mut w, p, plan);
    acc.start(&mut w);
    let keys = w.scratch(plan.chunk * plan.width());
    let most = w.real(finite_max(plan.ty));
    for (chunk, columns) in [(plan.chunk, plan.columns), (1, 1)] {
        // One after the other, the streams of keys and addends use the same memory.
        let larger = if p.key.buffer > p.add.buffer { &p.key } else { &p.add };
        let buffer = buffers(&mut w, plan, columns, larger);
        let turns = chunk / columns;
        let l = w.begin(LoopKind::Columns { step: plan.turn(chunk) });
        for r in 0..rows {
            w.copy(old[r], pivot[r]);
        }
        if let (Some(windows), Some(turn)) = (windows, turn) {
            w.copy(turn, windows.number);
        }
        let inner = (turns > 1).then(|| w.begin(LoopKind::Fixed(turns as u32)));
        let column_loops: Vec<_> = inner.iter().map(|&l| (l, columns)).collect();
        let ctx = Context { column_loops, buffer, keys, ..context(plan, columns, Sums::Memory(0)) };
        translate(&mut w, &p.key, &ctx, &mut |w, e| {
            for (r, &running) in pivot.iter().enumerate() {
                let mut key = value(w, &e, r);
                if let Some(windows) = windows {
                    let (mask, none) =
                        (windows.mask(w, plan, e.column, r), w.real(f64::NEG_INFINITY));
                    key = w.op(Prim::Select, &[mask, key, none]);
                }
                let mut place =
                    at(Base::Scratch, keys as usize + (e.column * rows + r) * plan.lanes);
                if let Some(l) = inner {
                    place.terms.push((l, (columns * plan.width()) as i32));
                }
                w.push(Inst::Store { addr: place, src: key });
                w.set(running, Prim::Max, &[key, running]);
            }
        });
        if let Some(l) = inner {
            if let Some(windows) = windows {
                windows.advance(&mut w, columns);
            }
            w.end(l);
        }
        if let (Some(windows), Some(turn)) = (windows, turn) {
            w.copy(windows.number, turn);
        }
        for &m in &pivot {
            w.set(m, Prim::Min, &[m, most]);
        }
        rebase(&mut w, p, plan, &pivot, &old, &acc);
        let inner = (turns > 1).then(|| w.begin(LoopKind::Fixed(turns as u32)));
        let ctx = Context {
            column_loops: inner.iter().map(|&l| (l, columns)).collect(),
            buffer,
            keys,
            pivot: [&pivot, &old],
            ..context(plan, columns, Sums::Memory(0))
        };
        translate(&mut w, &p.add, &ctx, &mut |w, e| acc.add(w, e, columns, windows));
        if let Some(windows) = windows {
            windows.advance(&mut w, columns);
        }
        if let Some(l) = inner {
            w.end(l);
        }
        w.end(l);
    }
    if plan.accumulation == Accumulation::Block {
        // The totals still stand under the pivot of the call's start.
        for section in [StatePart::Total, StatePart::Lost] {
            let sums = Sums::Memory(layout.start(section));
            rebase_sums(&mut w, p, plan, &pivot, &first, sums);
        }
    }
    acc.finish(&mut w);
    for (r, &src) in pivot.iter().enumerate() {
        w.push(Inst::Store { addr: pivot_place(r), src });
    }
    w.finish()
}

fn rebase(
    w: &mut Writer,
    p: &Program,
    plan: &Plan,
    new: &[VReg],
    old: &[VReg],
    acc: &Accumulators<'_>,
) {
    rebase_sums(w, p, plan, new, old, acc.place());
    if plan.accumulation == Accumulation::Kahan {
        let second = if plan.registers {
            Sums::Registers(&acc.second)
        } else {
            Sums::Memory(acc.layout.start(StatePart::Lost))
        };
        rebase_sums(w, p, plan, new, old, second);
    }
}

fn rebase_sums(
    w: &mut Writer,
    p: &Program,
    plan: &Plan,
    new: &[VReg],
    old: &[VReg],
    sums: Sums<'_>,
) {
    let buffer = buffers(w, plan, 1, &p.rebase);
    let ctx = Context { pivot: [new, old], buffer, ..context(plan, 1, sums) };
    translate(w, &p.rebase, &ctx, &mut |_, _| unreachable!("rows emit nothing"));
}

/// The routine that brings totals and compensations under new pivots, which stand in the section
/// of the block's sums.
pub fn rebase_code(p: &Program, plan: &Plan) -> VCode {
    let mut w = Writer::new(plan.ty, p.reduced.len);
    let layout = StateLayout::new(p, plan);
    let load = |w: &mut Writer, first: usize| -> Vec<VReg> {
        let place = |r| at(Base::State, first + r * plan.lanes);
        (0..plan.rows).map(|r| w.load(place(r), false)).collect()
    };
    let new = load(&mut w, layout.start(StatePart::Block));
    let old = load(&mut w, layout.pivot(0));
    for section in [StatePart::Total, StatePart::Lost] {
        rebase_sums(&mut w, p, plan, &new, &old, Sums::Memory(layout.start(section)));
    }
    for (r, &src) in new.iter().enumerate() {
        w.push(Inst::Store { addr: at(Base::State, layout.pivot(r * plan.lanes)), src });
    }
    w.finish()
}

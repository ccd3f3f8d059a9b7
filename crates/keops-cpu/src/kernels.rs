//! The routines of a program: vector code for each mode, built from the streams by one generator.
//!
//! State of a tile of kept rows (in `Base::State`, `width = rows · lanes` elements a vector):
//!
//! | elements | sums | selections |
//! |---|---|---|
//! | `0 .. n·width` | totals | best keys |
//! | `n·width .. 2n·width` | their compensation | columns of the best keys (integers) |
//! | `2n·width .. 3n·width` | sums of the block (where registers do not suffice) | |
//! | `3n·width ..` | pivot | |

use crate::translate::{Context, Emission, Sums, Tile, Writer, at, translate};
use crate::vcode::{Addr, Base, Inst, LoopKind, Ty, VCode, VReg};
use keops_core::prim::{Kind, Prim};
use keops_core::program::{Mode, Op, Program, SInst, Stream};
use keops_core::reduce::Order;
use keops_core::vecmath::Precision;
use std::collections::HashMap;

/// How sums are added up inside a routine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accumulation {
    /// Plain sums of a block, then a compensated addition to the totals.
    Block,
    /// One plain sum.
    Direct,
    /// Kahan's summation.
    Kahan,
    /// Every addition rounded to f16.
    Half,
    /// f32 values, f64 sums, element by element.
    Wide,
}

/// Choices of the planner for one program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Compute type.
    pub ty: Ty,
    /// Lanes of a vector.
    pub lanes: usize,
    /// Row vectors of a tile.
    pub rows: usize,
    /// Columns of a tile.
    pub columns: usize,
    /// Columns whose instructions are interleaved.
    pub interleave: usize,
    /// Columns between two looks at the pivot (a multiple of `columns`).
    pub chunk: usize,
    /// Scheme.
    pub accumulation: Accumulation,
    /// Are sums (or best keys) kept in registers?
    pub registers: bool,
}

/// Vector registers that tiles may plan with.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Lanes of f32.
    pub lanes_f32: usize,
    /// Registers.
    pub registers: usize,
    /// Row vectors beyond one pay off only where several are in flight at once.
    pub single_row: bool,
}

/// Columns of one call in block summation: sums of so many f32 lose nothing that counts, and the
/// cost of adding them to the totals is small (measured, see docs/performance.md).
pub const BLOCK: usize = 256;

/// Chooses tile sizes.
pub fn plan(p: &Program, machine: Machine, accumulation: Accumulation) -> Plan {
    let (ty, lanes) = match p.precision {
        Precision::F32 => (Ty::F32, machine.lanes_f32),
        Precision::F64 => (Ty::F64, machine.lanes_f32 / 2),
    };
    let streams = [&p.key, &p.add];
    let size: usize = streams.iter().map(|s| s.insts.len()).sum();
    let looped = streams.iter().any(|s| s.insts.iter().any(|i| matches!(i, SInst::Begin { .. })));
    let folds = streams.iter().map(|s| accumulators(s)).max().unwrap_or(0);
    let slots = p.sums.max(if matches!(p.mode, Mode::Select { .. }) { p.keys } else { 0 });
    let rolled = streams.iter().any(|s| {
        s.insts.iter().any(|i| matches!(i, SInst::Emit { slot, .. } if !slot.terms.is_empty()))
    });
    let per_slot = match accumulation {
        Accumulation::Kahan | Accumulation::Wide => 2,
        _ => 1,
    };
    let wide = machine.registers >= 32;
    let selects = matches!(p.mode, Mode::Select { .. });
    // Row vectors, columns, and columns whose chains are interleaved: four independent chains
    // keep the pipes of wide cores busy (measured, see docs/performance.md).
    let (rows, columns, interleave) = if machine.single_row {
        (1, 1, 1)
    } else if looped {
        // Accumulators of inner products and the tile's row vectors share the registers.
        let (rows, columns) = match (folds, wide) {
            (0, true) => (2, 8),
            (0, false) => (2, 4),
            (1, true) => (3, 8),
            (1, false) => (2, 5),
            (2, true) => (2, 6),
            (2, false) => (1, 5),
            (f, true) => (1, (24 / f).max(1)),
            (f, false) => (1, (10 / f).max(1)),
        };
        (rows, columns, 1)
    } else if size > 600 {
        (1, 1, 1)
    } else if selects {
        // The index is looked at once in so many columns.
        (if wide || size <= 60 { 2 } else { 1 }, if size <= 100 { 8 } else { 4 }, 1)
    } else if wide {
        (2, 4, 2)
    } else {
        (if size > 60 { 1 } else { 2 }, 1, 1)
    };
    let chunk = columns * 32usize.div_ceil(columns);
    let budget = if wide { 12 } else { 6 };
    let registers =
        !rolled && (slots * rows * per_slot <= budget || accumulation == Accumulation::Wide);
    Plan { ty, lanes, rows, columns, interleave, chunk, accumulation, registers }
}

/// Accumulators of the pair's loops that are alive together.
fn accumulators(s: &Stream) -> usize {
    let (mut open, mut most) = (0usize, 0usize);
    let mut depth = 0;
    for i in &s.insts {
        match i {
            SInst::Begin { .. } => depth += 1,
            SInst::End(_) => {
                depth -= 1;
                if depth == 0 {
                    open = 0;
                }
            }
            SInst::Start { .. } => {
                open += 1;
                most = most.max(open);
            }
            _ => {}
        }
    }
    most
}

impl Plan {
    /// Elements of one vector of a tile.
    pub fn width(&self) -> usize {
        self.rows * self.lanes
    }
    /// Slots that the state has for sums or keys.
    pub fn slots(p: &Program) -> usize {
        p.sums.max(p.keys)
    }
    /// Elements of the state of a tile.
    pub fn state_len(&self, p: &Program) -> usize {
        let n = Self::slots(p);
        // Wide sums need twice the room.
        (4 * n + 1) * self.width()
    }
    /// First element of the pivot.
    pub fn pivot_at(&self, p: &Program) -> usize {
        (3 * Self::slots(p)) * self.width()
            + if self.accumulation == Accumulation::Wide {
                Self::slots(p) * self.width()
            } else {
                0
            }
    }
    fn tile(&self, columns: usize) -> Tile {
        Tile { rows: self.rows, columns, lanes: self.lanes, interleave: self.interleave }
    }
}

fn finite_max(ty: Ty) -> f64 {
    match ty {
        Ty::F32 => f32::MAX as f64,
        Ty::F64 => f64::MAX,
    }
}

/// Values of the state before the first column.
pub fn initial_state(p: &Program, plan: &Plan) -> Vec<f64> {
    let w = plan.width();
    let n = Plan::slots(p);
    let mut s = vec![0.0; plan.state_len(p)];
    match p.mode {
        Mode::Select { select, .. } => {
            let worst = if select.order == Order::Min { f64::INFINITY } else { f64::NEG_INFINITY };
            s[..n * w].fill(worst);
        }
        Mode::PivotSum => {
            let at = plan.pivot_at(p);
            s[at..at + w].fill(-finite_max(plan.ty));
        }
        Mode::Sum => {}
    }
    s
}

struct Accumulators<'p> {
    plan: &'p Plan,
    n: usize,
    /// `[slot][row]` sums and, where the scheme has them, compensations or high halves.
    sums: Vec<Vec<VReg>>,
    second: Vec<Vec<VReg>>,
    /// Open partial sums of memory accumulators, by instruction and row.
    open: HashMap<(usize, usize), VReg>,
}

impl<'p> Accumulators<'p> {
    fn new(w: &mut Writer, plan: &'p Plan, n: usize) -> Self {
        let mut a = Accumulators { plan, n, sums: vec![], second: vec![], open: HashMap::new() };
        if plan.registers {
            let two = matches!(plan.accumulation, Accumulation::Kahan | Accumulation::Wide);
            for _ in 0..n {
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
            Sums::Memory(self.block_at())
        }
    }
    fn block_at(&self) -> usize {
        if self.persistent() { 0 } else { 2 * self.n * self.plan.width() }
    }
    fn state(&self, section: usize, slot: usize, r: usize) -> Addr {
        at(Base::State, (section * self.n + slot) * self.plan.width() + r * self.plan.lanes)
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
                        addr: self.state(0, s, r),
                        broadcast: false,
                    });
                    if !self.second.is_empty() {
                        w.push(Inst::Load {
                            dst: self.second[s][r],
                            addr: self.state(1, s, r),
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
            self.each_in_memory(w, |w, addr| w.push(Inst::Store { addr: addr(2), src: zero }));
        }
    }
    /// Runs over all slots and rows in memory, by a loop where there are many.
    fn each_in_memory(
        &self,
        w: &mut Writer,
        mut f: impl FnMut(&mut Writer, &dyn Fn(usize) -> Addr),
    ) {
        let (n, lanes, vectors) = (self.n, self.plan.lanes, self.n * self.plan.rows);
        let section = n * self.plan.width();
        if vectors <= 8 {
            for v in 0..vectors {
                f(w, &|k| at(Base::State, k * section + v * lanes));
            }
            return;
        }
        let l = w.begin(LoopKind::Fixed(vectors as u32));
        f(w, &|k| Addr {
            base: Base::State,
            offset: (k * section) as i32,
            terms: vec![(l, lanes as i32)],
        });
        w.end(l);
    }
    fn add(&mut self, w: &mut Writer, e: Emission, columns: usize) {
        let plan = self.plan;
        for r in 0..plan.rows {
            let v: Vec<VReg> = e.factors.iter().map(|f| f[r]).collect();
            if plan.registers {
                let s = e.slot.offset as usize;
                let second = self.second.get(s).map(|x| x[r]);
                self.add_to(w, self.sums[s][r], second, &v);
                continue;
            }
            let width = plan.width();
            let place = |section: usize| Addr {
                base: Base::State,
                offset: ((section * self.n + e.slot.offset as usize) * width + r * plan.lanes)
                    as i32,
                terms: e.slot.terms.iter().map(|&(l, s)| (l, s * width as i32)).collect(),
            };
            let section = if self.persistent() { 0 } else { 2 };
            let second = plan.accumulation == Accumulation::Kahan;
            let (a, b) = if e.column == 0 {
                let a = w.load(place(section), false);
                let b = second.then(|| w.load(place(1), false));
                self.open.insert((e.number, r), a);
                if let Some(b) = b {
                    self.open.insert((e.number, r + plan.rows), b);
                }
                (a, b)
            } else {
                (self.open[&(e.number, r)], self.open.get(&(e.number, r + plan.rows)).copied())
            };
            self.add_to(w, a, b, &v);
            if e.column == columns - 1 {
                w.push(Inst::Store { addr: place(section), src: a });
                if let Some(b) = b {
                    w.push(Inst::Store { addr: place(1), src: b });
                }
                self.open.remove(&(e.number, r));
                self.open.remove(&(e.number, r + plan.rows));
            }
        }
    }
    fn add_to(&self, w: &mut Writer, sum: VReg, second: Option<VReg>, v: &[VReg]) {
        let product = |w: &mut Writer| if v.len() == 2 { w.op(Prim::Mul, v) } else { v[0] };
        match (self.plan.accumulation, second) {
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
                    let place = (2 * self.n * self.plan.width())
                        + 2 * (s * self.plan.width() + r * self.plan.lanes);
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
                        let b = w.load(addr(2), false);
                        two_sum(w, b, addr);
                    });
                }
            }
            (_, true) => {
                for (s, r) in self.each() {
                    w.push(Inst::Store { addr: self.state(0, s, r), src: self.sums[s][r] });
                    if !self.second.is_empty() {
                        w.push(Inst::Store { addr: self.state(1, s, r), src: self.second[s][r] });
                    }
                }
            }
            (_, false) => {}
        }
    }
}

/// Knuth's error-free addition of `b` to the total, its error to the compensation. Infinite and NaN
/// totals keep the compensation out.
fn two_sum(w: &mut Writer, b: VReg, addr: &dyn Fn(usize) -> Addr) {
    let total = w.load(addr(0), false);
    let lost = w.load(addr(1), false);
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
    w.push(Inst::Store { addr: addr(0), src: s });
    w.push(Inst::Store { addr: addr(1), src: lost });
}

fn context<'c>(plan: &Plan, columns: usize, sums: Sums<'c>) -> Context<'c> {
    Context {
        tile: plan.tile(columns),
        column_loop: None,
        buffer: 0,
        keys: 0,
        pivot: [&[], &[]],
        sums,
        row_space: None,
        raw_param: NOT_DERIVING,
    }
}

/// Scratch elements for the vector intermediates of a pair stream.
fn buffers(w: &mut Writer, plan: &Plan, columns: usize, s: &Stream) -> i32 {
    w.scratch(s.buffer * plan.width() * columns)
}

/// The routine that takes columns into the sums of a tile.
pub fn sum_code(p: &Program, plan: &Plan) -> VCode {
    let mut w = Writer::new(plan.ty, p.reduced.len);
    let mut acc = Accumulators::new(&mut w, plan, p.sums);
    acc.start(&mut w);
    for columns in steps(plan.columns) {
        let buffer = buffers(&mut w, plan, columns, &p.add);
        let l = w.begin(LoopKind::Columns { step: columns as u32 });
        let ctx = Context { buffer, ..context(plan, columns, Sums::Memory(0)) };
        translate(&mut w, &p.add, &ctx, &mut |w, e| acc.add(w, e, columns));
        w.end(l);
    }
    acc.finish(&mut w);
    w.finish()
}

/// Column loops that together take any number of columns.
fn steps(columns: usize) -> Vec<usize> {
    if columns == 1 { vec![1] } else { vec![columns, 1] }
}

/// The routine that takes columns into sums under a running maximum.
pub fn pivot_code(p: &Program, plan: &Plan) -> VCode {
    let mut w = Writer::new(plan.ty, p.reduced.len);
    let rows = plan.rows;
    let pivot: Vec<VReg> = (0..rows).map(|_| w.reg(Kind::Real)).collect();
    let first: Vec<VReg> = (0..rows).map(|_| w.reg(Kind::Real)).collect();
    let old: Vec<VReg> = (0..rows).map(|_| w.reg(Kind::Real)).collect();
    let pivot_place = |r: usize| at(Base::State, plan.pivot_at(p) + r * plan.lanes);
    for r in 0..rows {
        w.push(Inst::Load { dst: pivot[r], addr: pivot_place(r), broadcast: false });
        w.push(Inst::Load { dst: first[r], addr: pivot_place(r), broadcast: false });
    }
    let mut acc = Accumulators::new(&mut w, plan, p.sums);
    acc.start(&mut w);
    let keys = w.scratch(plan.chunk * plan.width());
    let most = w.real(finite_max(plan.ty));
    for (chunk, columns) in [(plan.chunk, plan.columns), (1, 1)] {
        let buffer =
            buffers(&mut w, plan, columns, &p.key).max(buffers(&mut w, plan, columns, &p.add));
        let turns = chunk / columns;
        let l = w.begin(LoopKind::Columns { step: chunk as u32 });
        for r in 0..rows {
            w.copy(old[r], pivot[r]);
        }
        let inner = (turns > 1).then(|| w.begin(LoopKind::Fixed(turns as u32)));
        let ctx =
            Context { column_loop: inner, buffer, keys, ..context(plan, columns, Sums::Memory(0)) };
        translate(&mut w, &p.key, &ctx, &mut |w, e| {
            for (r, &running) in pivot.iter().enumerate() {
                let key = value(w, &e, r);
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
            w.end(l);
        }
        for &m in &pivot {
            w.set(m, Prim::Min, &[m, most]);
        }
        rebase(&mut w, p, plan, &pivot, &old, &acc);
        let inner = (turns > 1).then(|| w.begin(LoopKind::Fixed(turns as u32)));
        let ctx = Context {
            column_loop: inner,
            buffer,
            keys,
            pivot: [&pivot, &old],
            ..context(plan, columns, Sums::Memory(0))
        };
        translate(&mut w, &p.add, &ctx, &mut |w, e| acc.add(w, e, columns));
        if let Some(l) = inner {
            w.end(l);
        }
        w.end(l);
    }
    if plan.accumulation == Accumulation::Block {
        // The totals still stand under the pivot of the call's start.
        for section in 0..2 {
            let sums = Sums::Memory(section * p.sums * plan.width());
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
            Sums::Memory(p.sums * plan.width())
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

fn value(w: &mut Writer, e: &Emission, r: usize) -> VReg {
    if e.factors.len() == 2 {
        w.op(Prim::Mul, &[e.factors[0][r], e.factors[1][r]])
    } else {
        e.factors[0][r]
    }
}

/// The routine that takes columns into the best key of every slot and, with `index`, the first
/// column of the tile turn that had it.
pub fn best_code(p: &Program, plan: &Plan, index: bool) -> VCode {
    let Mode::Select { select, .. } = p.mode else { unreachable!("a selection") };
    let mut w = Writer::new(plan.ty, p.reduced.len);
    let (rows, n, width) = (plan.rows, p.keys, plan.width());
    let (pick, worst) = match select.order {
        Order::Min => (Prim::Min, f64::INFINITY),
        Order::Max => (Prim::Max, f64::NEG_INFINITY),
    };
    let place = |section: usize, slot: &Addr, r: usize| Addr {
        base: Base::State,
        offset: ((section * n + slot.offset as usize) * width + r * plan.lanes) as i32,
        terms: slot.terms.iter().map(|&(l, s)| (l, s * width as i32)).collect(),
    };
    let constant = |s: usize| at(Base::State, s);
    let mut best: Vec<[VReg; 2]> = vec![];
    if plan.registers {
        for s in 0..n {
            for r in 0..rows {
                let k = w.load(place(0, &constant(s), r), false);
                let i = if index {
                    let bits = w.load(place(1, &constant(s), r), false);
                    let i = w.reg(Kind::Int);
                    w.set(i, Prim::ToBits, &[bits]);
                    i
                } else {
                    k
                };
                best.push([k, i]);
            }
        }
    }
    let worst = w.real(worst);
    for columns in steps(plan.columns) {
        let buffer = buffers(&mut w, plan, columns, &p.key);
        let l = w.begin(LoopKind::Columns { step: columns as u32 });
        let here = w.reg(Kind::Int);
        if index {
            w.push(Inst::ColumnIndex { dst: here });
        }
        let ctx = Context { buffer, ..context(plan, columns, Sums::Memory(0)) };
        let mut open: HashMap<(usize, usize), VReg> = HashMap::new();
        translate(&mut w, &p.key, &ctx, &mut |w, e| {
            for r in 0..rows {
                let key = value(w, &e, r);
                let before = open.get(&(e.number, r)).copied();
                let m = w.op(pick, &[key, before.unwrap_or(worst)]);
                open.insert((e.number, r), m);
                if e.column + 1 < columns {
                    continue;
                }
                let [k, i] = if plan.registers {
                    best[e.slot.offset as usize * rows + r]
                } else {
                    let k = w.load(place(0, &e.slot, r), false);
                    if index {
                        let bits = w.load(place(1, &e.slot, r), false);
                        [k, w.op(Prim::ToBits, &[bits])]
                    } else {
                        [k, k]
                    }
                };
                if index {
                    let better = match select.order {
                        Order::Min => w.op(Prim::Lt, &[m, k]),
                        Order::Max => w.op(Prim::Lt, &[k, m]),
                    };
                    w.set(i, Prim::SelectInt, &[better, here, i]);
                }
                w.set(k, pick, &[m, k]);
                if !plan.registers {
                    w.push(Inst::Store { addr: place(0, &e.slot, r), src: k });
                    if index {
                        w.push(Inst::Store { addr: place(1, &e.slot, r), src: i });
                    }
                }
            }
        });
        w.end(l);
    }
    if plan.registers {
        for s in 0..n {
            for r in 0..rows {
                let [k, i] = best[s * rows + r];
                w.push(Inst::Store { addr: place(0, &constant(s), r), src: k });
                if index {
                    w.push(Inst::Store { addr: place(1, &constant(s), r), src: i });
                }
            }
        }
    }
    w.finish()
}

/// Columns of a group in [`extremes_code`].
pub const GROUP: usize = 16;

/// The routine that writes the best key of every group of [`GROUP`] columns, `[group][slot][row
/// vector]`, to `Base::Out`; columns beyond the last whole group are left. `None` where the plan
/// has no such routine.
pub fn extremes_code(p: &Program, plan: &Plan) -> Option<VCode> {
    let Mode::Select { select, .. } = p.mode else { unreachable!("a selection") };
    let (rows, n, width) = (plan.rows, p.keys, plan.width());
    if !plan.registers || !GROUP.is_multiple_of(plan.columns) || !(n * width).is_multiple_of(GROUP)
    {
        return None;
    }
    let (pick, worst) = match select.order {
        Order::Min => (Prim::Min, f64::INFINITY),
        Order::Max => (Prim::Max, f64::NEG_INFINITY),
    };
    let mut w = Writer::new(plan.ty, p.reduced.len);
    // The pointer moves by GROUP times this from group to group.
    w.code.out_stride = (n * width / GROUP) as u32;
    let best: Vec<VReg> = (0..n * rows).map(|_| w.reg(Kind::Real)).collect();
    let worst = w.real(worst);
    let buffer = buffers(&mut w, plan, plan.columns, &p.key);
    let l = w.begin(LoopKind::Columns { step: GROUP as u32 });
    for &b in &best {
        w.copy(b, worst);
    }
    let inner = w.begin(LoopKind::Fixed((GROUP / plan.columns) as u32));
    let sums = Sums::Memory(0);
    let ctx = Context { column_loop: Some(inner), buffer, ..context(plan, plan.columns, sums) };
    translate(&mut w, &p.key, &ctx, &mut |w, e| {
        for r in 0..rows {
            let (key, b) = (value(w, &e, r), best[e.slot.offset as usize * rows + r]);
            w.set(b, pick, &[key, b]);
        }
    });
    w.end(inner);
    for (v, &src) in best.iter().enumerate() {
        w.push(Inst::Store { addr: at(Base::Out, v * plan.lanes), src });
    }
    w.end(l);
    Some(w.finish())
}

/// The routine that writes the keys of columns, `[column][slot][row vector]`, to `Base::Out`, and
/// with `masks` which of them beat the threshold in the state.
pub fn keys_code(p: &Program, plan: &Plan, masks: bool) -> VCode {
    let Mode::Select { select, .. } = p.mode else { unreachable!("a selection") };
    let mut w = Writer::new(plan.ty, p.reduced.len);
    let (rows, n, width) = (plan.rows, p.keys, plan.width());
    w.code.out_stride = (n * width) as u32;
    // Masks of long keys are not written: their slots are not constant.
    let masks = masks && plan.registers;
    w.code.mask_stride = if masks { (n * rows) as u32 } else { 0 };
    let mut threshold: Vec<VReg> = vec![];
    if masks {
        for v in 0..n * rows {
            threshold.push(w.load(at(Base::State, v * plan.lanes), false));
        }
    }
    for columns in steps(plan.columns) {
        let buffer = buffers(&mut w, plan, columns, &p.key);
        let l = w.begin(LoopKind::Columns { step: columns as u32 });
        let ctx = Context { buffer, ..context(plan, columns, Sums::Memory(0)) };
        translate(&mut w, &p.key, &ctx, &mut |w, e| {
            for r in 0..rows {
                let key = value(w, &e, r);
                let addr = Addr {
                    base: Base::Out,
                    offset: ((e.column * n + e.slot.offset as usize) * width + r * plan.lanes)
                        as i32,
                    terms: e.slot.terms.iter().map(|&(l, s)| (l, s * width as i32)).collect(),
                };
                w.push(Inst::Store { addr, src: key });
                if masks {
                    let v = e.slot.offset as usize * rows + r;
                    let m = match select.order {
                        Order::Min => w.op(Prim::Lt, &[key, threshold[v]]),
                        Order::Max => w.op(Prim::Lt, &[threshold[v], key]),
                    };
                    w.push(Inst::StoreMask { index: (e.column * n * rows + v) as i32, src: m });
                }
            }
        });
        w.end(l);
    }
    w.finish()
}

const NOT_DERIVING: usize = i64::MAX as usize;

/// The routine of the once section: derived parameters, one vector each, to the state.
pub fn once_code(p: &Program, plan: &Plan) -> VCode {
    derive(plan, &p.once, p.param.fields.iter().map(|f| f.dim).sum())
}

/// The routine of a row section: reads rows from `Base::Kept`, writes derived values to the state.
pub fn row_code(plan: &Plan, stream: &Stream) -> VCode {
    derive(plan, stream, NOT_DERIVING)
}

fn derive(plan: &Plan, stream: &Stream, raw_param: usize) -> VCode {
    let mut w = Writer::new(plan.ty, 0);
    let buffer = buffers(&mut w, plan, 1, stream);
    let ctx = Context {
        buffer,
        row_space: Some((Base::Kept, Base::State)),
        raw_param,
        ..context(plan, 1, Sums::Memory(0))
    };
    translate(&mut w, stream, &ctx, &mut |_, _| unreachable!("rows emit nothing"));
    w.finish()
}

/// The routine that makes results (in `Base::Out`, `[result][row vector]`) of the state.
pub fn finalise_code(p: &Program, plan: &Plan) -> VCode {
    let mut w = Writer::new(plan.ty, 0);
    let acc = Accumulators { plan, n: p.sums, sums: vec![], second: vec![], open: HashMap::new() };
    if plan.accumulation == Accumulation::Block {
        acc.each_in_memory(&mut w, |w, addr| {
            let (total, lost) = (w.load(addr(0), false), w.load(addr(1), false));
            let sum = w.op(Prim::Add, &[total, lost]);
            w.push(Inst::Store { addr: addr(0), src: sum });
        });
    }
    let mut pivot = vec![];
    if p.mode == Mode::PivotSum {
        for r in 0..plan.rows {
            pivot.push(w.load(at(Base::State, plan.pivot_at(p) + r * plan.lanes), false));
        }
    }
    let buffer = buffers(&mut w, plan, 1, &p.finalise);
    let ctx = Context {
        buffer,
        pivot: [&pivot, &pivot],
        row_space: Some((Base::Kept, Base::Out)),
        ..context(plan, 1, Sums::Memory(0))
    };
    translate(&mut w, &p.finalise, &ctx, &mut |_, _| unreachable!("rows emit nothing"));
    w.finish()
}

/// Does a stream read a table?
pub fn gathers(s: &Stream) -> bool {
    s.insts.iter().any(|i| matches!(i, SInst::Def { op: Op::Gather { .. }, .. }))
}

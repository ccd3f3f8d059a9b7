//! From program streams to vector code: every value of a stream becomes one register for each row
//! vector and each column of the tile that it depends on.

use crate::vcode::{Addr, Base, Inst, LoopId, LoopKind, Ty, VCode, VReg};
use hashbrown::HashMap;
use keops_core::prim::{Args, Kind, Prim};
use keops_core::program::{Affine, Loop, Op, SInst, Space, Stream};
use keops_core::vecmath::Val;

/// Vector code under construction.
pub struct Writer {
    /// The code so far.
    pub code: VCode,
    loops: u32,
    reals: HashMap<u64, VReg>,
    ints: HashMap<i64, VReg>,
    /// Number of instructions of the preamble: constants and invariant loads go there.
    preamble: Vec<Inst>,
}

impl Writer {
    pub fn new(ty: Ty, reduced_stride: usize) -> Writer {
        let code = VCode {
            ty,
            kinds: vec![],
            insts: vec![],
            reduced_stride: reduced_stride as u32,
            out_stride: 0,
            mask_stride: 0,
            scratch: 0,
        };
        Writer { code, loops: 0, reals: HashMap::new(), ints: HashMap::new(), preamble: vec![] }
    }
    /// The finished code: preamble first.
    pub fn finish(mut self) -> VCode {
        self.preamble.append(&mut self.code.insts);
        self.code.insts = self.preamble;
        self.code
    }
    pub fn reg(&mut self, kind: Kind) -> VReg {
        self.code.kinds.push(kind);
        VReg(self.code.kinds.len() as u32 - 1)
    }
    pub fn push(&mut self, inst: Inst) {
        self.code.insts.push(inst);
    }
    /// A constant, defined before everything else.
    pub fn real(&mut self, value: f64) -> VReg {
        if let Some(&r) = self.reals.get(&value.to_bits()) {
            return r;
        }
        let dst = self.reg(Kind::Real);
        self.preamble.push(Inst::Const { dst, value });
        self.reals.insert(value.to_bits(), dst);
        dst
    }
    pub fn int(&mut self, value: i64) -> VReg {
        if let Some(&r) = self.ints.get(&value) {
            return r;
        }
        let dst = self.reg(Kind::Int);
        self.preamble.push(Inst::ConstInt { dst, value });
        self.ints.insert(value, dst);
        dst
    }
    pub fn op(&mut self, op: Prim, args: &[VReg]) -> VReg {
        let dst = self.reg(op.signature().1);
        self.set(dst, op, args);
        dst
    }
    pub fn set(&mut self, dst: VReg, op: Prim, args: &[VReg]) {
        self.push(Inst::Op { dst, op, args: args.into() });
    }
    /// `dst = src` (a register that starts an accumulator).
    pub fn copy(&mut self, dst: VReg, src: VReg) {
        // Each of these returns its operand when both are the same.
        let op = match self.code.kinds[dst.0 as usize] {
            Kind::Mask => Prim::MaskOr,
            Kind::Int => Prim::IntOr,
            Kind::Real => Prim::Min,
        };
        self.push(Inst::Op { dst, op, args: [src, src].into() });
    }
    pub fn load(&mut self, addr: Addr, broadcast: bool) -> VReg {
        let dst = self.reg(Kind::Real);
        self.push(Inst::Load { dst, addr, broadcast });
        dst
    }
    pub fn begin(&mut self, kind: LoopKind) -> LoopId {
        let id = LoopId(self.loops);
        self.loops += 1;
        self.push(Inst::Begin { id, kind });
        id
    }
    pub fn end(&mut self, id: LoopId) {
        self.push(Inst::End { id });
    }
    /// Reserves scratch memory, in elements.
    pub fn scratch(&mut self, elements: usize) -> i32 {
        let at = self.code.scratch;
        self.code.scratch += elements;
        at as i32
    }
}

/// An address without loops.
pub fn at(base: Base, offset: usize) -> Addr {
    Addr { base, offset: offset as i32, terms: vec![] }
}

/// Elements within reach of the indices of a table of `len` elements: those that are too large, or
/// negative, are cut to this many bits.
pub fn table_room(len: usize) -> usize {
    len.next_power_of_two()
}

/// The tile that one turn of a column loop works on.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// Row vectors.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Lanes of a vector.
    pub lanes: usize,
    /// Columns whose instructions are interleaved.
    pub interleave: usize,
    /// Does the whole tile go through straight pieces of a stream stage by stage (say, all
    /// distances, then all exponentials, then all sums)? Stages meet where few values pass from one
    /// to the next. The chains of a stage are short, so that many of them fit into what the
    /// processor looks ahead.
    pub staged: bool,
}

/// Where the sums of a tile are kept.
#[derive(Clone, Copy, Debug)]
pub enum Sums<'c> {
    /// Registers `[slot][row vector]`.
    Registers(&'c [Vec<VReg>]),
    /// At this element of `Base::State`: slot `s`, row vector `r` at `(s * rows + r) * lanes`.
    Memory(usize),
}

/// What a translation asks of its surroundings.
pub struct Context<'c> {
    pub tile: Tile,
    /// Fixed loops around the tile, each with the columns that its turn takes.
    pub column_loops: Vec<(LoopId, usize)>,
    /// Lanes along the columns, `columns` of the tile counting vectors of them: then kept rows are
    /// broadcast from a tile of this many.
    pub across: Option<usize>,
    /// First element of the pair buffers in scratch memory.
    pub buffer: i32,
    /// First element of the keys saved in scratch memory, if any: key of column `c` and row
    /// vector `r` at `(c * rows + r) * lanes`.
    pub keys: i32,
    /// Registers of the pivot: new and old, one for each row vector.
    pub pivot: [&'c [VReg]; 2],
    /// Where the sums are.
    pub sums: Sums<'c>,
    /// For row streams: where they read their rows from, and where they write.
    pub row_space: Option<(Base, Base)>,
    /// Where the output holds derived parameters (the once section): elements of the parameters
    /// that are not derived. Else beyond all.
    pub raw_param: usize,
}

/// A component that the pairs of one column emit. Emissions of one instruction come column after
/// column, within one straight piece of code.
pub struct Emission {
    /// Component, affine in open loops (`base` has no meaning).
    pub slot: Addr,
    /// One factor, or two to be multiplied; a register for each row vector.
    pub factors: Vec<Vec<VReg>>,
    /// The column.
    pub column: usize,
    /// Identifies the emitting instruction.
    pub number: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Class {
    kept: bool,
    reduced: bool,
}

/// Translates a stream; `emit` receives what the pairs emit.
pub fn translate(
    w: &mut Writer,
    s: &Stream,
    ctx: &Context<'_>,
    emit: &mut dyn FnMut(&mut Writer, Emission),
) {
    Translation::new(w, s, ctx).run(emit);
}

struct Translation<'t, 'c> {
    w: &'t mut Writer,
    s: &'t Stream,
    ctx: &'t Context<'c>,
    class: Vec<Class>,
    uses: Vec<u32>,
    /// Registers of the instances of all values, and where those of each value start.
    regs: Vec<VReg>,
    first: Vec<Option<u32>>,
    loops: HashMap<Loop, LoopId>,
    counters: HashMap<Loop, VReg>,
    counted: Vec<Loop>,
}

impl<'t, 'c> Translation<'t, 'c> {
    fn new(w: &'t mut Writer, s: &'t Stream, ctx: &'t Context<'c>) -> Self {
        let n = s.kinds.len();
        let mut t = Translation {
            w,
            s,
            ctx,
            class: vec![Class::default(); n],
            uses: vec![0; n],
            regs: vec![],
            first: vec![None; n],
            loops: HashMap::new(),
            counters: HashMap::new(),
            counted: vec![],
        };
        t.classify();
        t
    }
    fn classify(&mut self) {
        // Accumulators get their class from later updates: a second pass settles them.
        for pass in 0..2 {
            for inst in &self.s.insts {
                let (dst, args, own) = match inst {
                    SInst::Def { dst, op, args } => {
                        let own = match op {
                            Op::Load(space, _) => match space {
                                Space::Kept
                                | Space::KeptInput
                                | Space::Sums
                                | Space::Pivot
                                | Space::Result => Class { kept: true, reduced: false },
                                Space::Reduced | Space::ReducedInput
                                    if self.ctx.row_space.is_none() =>
                                {
                                    Class { kept: false, reduced: true }
                                }
                                Space::Reduced | Space::ReducedInput => {
                                    Class { kept: true, reduced: false }
                                }
                                Space::Key | Space::Buffer => {
                                    Class { kept: true, reduced: self.ctx.row_space.is_none() }
                                }
                                Space::Param => Class::default(),
                            },
                            Op::Counter(a) => {
                                self.counted.extend(a.terms.iter().map(|t| t.0));
                                Class::default()
                            }
                            _ => Class::default(),
                        };
                        (*dst, &args[..], own)
                    }
                    SInst::Start { acc, value } | SInst::Update { acc, value } => {
                        (*acc, std::slice::from_ref(value), Class::default())
                    }
                    SInst::Emit { value, .. } | SInst::Store { value, .. } => {
                        if pass == 0 {
                            self.uses[value.0 as usize] += 1;
                        }
                        continue;
                    }
                    _ => continue,
                };
                let mut c = own;
                for a in args {
                    let k = self.class[a.0 as usize];
                    c.kept |= k.kept;
                    c.reduced |= k.reduced;
                    if pass == 0 {
                        self.uses[a.0 as usize] += 1;
                    }
                }
                let d = &mut self.class[dst.0 as usize];
                d.kept |= c.kept;
                d.reduced |= c.reduced;
            }
        }
    }
    fn count(&self, c: Class) -> usize {
        (if c.kept { self.ctx.tile.rows } else { 1 })
            * (if c.reduced { self.ctx.tile.columns } else { 1 })
    }
    fn index(&self, c: Class, r: usize, col: usize) -> usize {
        let columns = if c.reduced { self.ctx.tile.columns } else { 1 };
        (if c.kept { r } else { 0 }) * columns + if c.reduced { col } else { 0 }
    }
    fn reg_of(&mut self, v: Val, r: usize, col: usize) -> VReg {
        let c = self.class[v.0 as usize];
        let k = self.index(c, r, col);
        let first = match self.first[v.0 as usize] {
            Some(first) => first,
            None => {
                let (first, kind) = (self.regs.len() as u32, self.s.kinds[v.0 as usize]);
                for _ in 0..self.count(c) {
                    self.regs.push(self.w.reg(kind));
                }
                self.first[v.0 as usize] = Some(first);
                first
            }
        };
        self.regs[first as usize + k]
    }
    /// The registers of the instances of a value, where it gets none of its own.
    fn give(&mut self, v: Val, regs: &[VReg]) {
        self.first[v.0 as usize] = Some(self.regs.len() as u32);
        self.regs.extend_from_slice(regs);
    }
    /// One register for all instances of a value.
    fn give_one(&mut self, v: Val, reg: VReg) {
        let count = self.count(self.class[v.0 as usize]);
        self.first[v.0 as usize] = Some(self.regs.len() as u32);
        self.regs.extend(std::iter::repeat_n(reg, count));
    }
    fn address(&self, base: Base, offset: i64, scale: i64, a: &Affine) -> Addr {
        let terms = a.terms.iter().map(|&(l, s)| (self.loops[&l], (s * scale) as i32)).collect();
        Addr { base, offset: (offset + a.offset * scale) as i32, terms }
    }
    fn memory(
        &self,
        space: Space,
        a: &Affine,
        r: usize,
        col: usize,
        storing: bool,
    ) -> (Addr, bool) {
        let Tile { rows, columns, lanes, .. } = self.ctx.tile;
        let row = (rows * lanes) as i64;
        match space {
            // Derived parameters are in the output while they are being computed.
            Space::Param => match self.ctx.row_space {
                Some((_, out)) if storing || a.offset >= self.ctx.raw_param as i64 => {
                    // (The output holds nothing else.)
                    let first = -(self.ctx.raw_param as i64) * lanes as i64;
                    (self.address(out, first, lanes as i64, a), false)
                }
                _ => (self.address(Base::Param, 0, 1, a), true),
            },
            Space::Sums => {
                let Sums::Memory(start) = self.ctx.sums else { unreachable!("sums in registers") };
                (self.address(Base::State, (start + r * lanes) as i64, row, a), false)
            }
            Space::Kept | Space::KeptInput | Space::ReducedInput | Space::Result => {
                let base = match self.ctx.row_space {
                    // Derived values are in the output while they are being computed.
                    Some((_, out)) if storing || space == Space::Kept && out == Base::State => out,
                    Some((from, _)) => from,
                    None => Base::Kept,
                };
                match (self.ctx.row_space, self.ctx.across) {
                    (None, Some(width)) => (self.address(base, r as i64, width as i64, a), true),
                    _ => (self.address(base, (r * lanes) as i64, row, a), false),
                }
            }
            Space::Reduced => match self.ctx.row_space {
                Some((_, out)) => (self.address(out, (r * lanes) as i64, row, a), false),
                None => {
                    let one = if self.ctx.across.is_some() { lanes as i64 } else { 1 };
                    let stride = self.w.code.reduced_stride as i64 * one;
                    let mut addr = self.address(Base::Reduced, col as i64 * stride, one, a);
                    let loops = self.ctx.column_loops.iter();
                    addr.terms.extend(loops.map(|&(l, n)| (l, (n as i64 * stride) as i32)));
                    (addr, one == 1)
                }
            },
            Space::Buffer => {
                let one = (rows * columns * lanes) as i64;
                let place = self.ctx.buffer as i64 + ((r * columns + col) * lanes) as i64;
                (self.address(Base::Scratch, place, one, a), false)
            }
            Space::Key => {
                let place = self.ctx.keys as i64 + ((col * rows + r) * lanes) as i64;
                let mut addr = self.address(Base::Scratch, place, 0, &Affine::default());
                let loops = self.ctx.column_loops.iter();
                addr.terms.extend(loops.map(|&(l, n)| (l, n as i32 * row as i32)));
                (addr, false)
            }
            Space::Pivot => unreachable!("pivots are in registers"),
        }
    }
    fn run(&mut self, emit: &mut dyn FnMut(&mut Writer, Emission)) {
        let mut start = 0;
        let insts = &self.s.insts;
        for k in 0..=insts.len() {
            match insts.get(k) {
                Some(SInst::Begin { .. } | SInst::End(_)) | None => {}
                _ => continue,
            }
            self.segment(start, k, emit);
            start = k + 1;
            match insts.get(k) {
                Some(SInst::Begin { id, extent }) => {
                    if self.counted.contains(id) {
                        let (zero, c) = (self.w.int(0), self.w.reg(Kind::Int));
                        self.w.push(Inst::Op {
                            dst: c,
                            op: Prim::IntOr,
                            args: [zero, zero].into(),
                        });
                        self.counters.insert(*id, c);
                    }
                    let l = self.w.begin(LoopKind::Fixed(*extent as u32));
                    self.loops.insert(*id, l);
                }
                Some(SInst::End(id)) => {
                    if let Some(&c) = self.counters.get(id) {
                        let one = self.w.int(1);
                        self.w.set(c, Prim::IntAdd, &[c, one]);
                    }
                    self.w.end(self.loops[id]);
                }
                _ => {}
            }
        }
    }
    /// Straight-line instructions: first what does not depend on the column, then column by
    /// column with the row vectors interleaved.
    fn segment(&mut self, start: usize, end: usize, emit: &mut dyn FnMut(&mut Writer, Emission)) {
        let insts = &self.s.insts[start..end];
        if insts.is_empty() {
            return;
        }
        let mut skip = vec![false; insts.len()];
        // `acc := op(…, acc)` writes the accumulator at once; a product that is only emitted
        // becomes a fused multiply-add.
        let mut direct: HashMap<Val, Val> = HashMap::new();
        let mut products: HashMap<Val, [Val; 2]> = HashMap::new();
        for k in 0..insts.len() {
            match &insts[k] {
                SInst::Update { acc, value } if self.uses[value.0 as usize] == 1 => {
                    let defined = insts[..k]
                        .iter()
                        .rposition(|i| matches!(i, SInst::Def { dst, .. } if dst == value));
                    // No other use of the accumulator between its new value and the update.
                    let clear = defined.is_some_and(|d| {
                        insts[d + 1..k].iter().all(|i| match i {
                            SInst::Def { args, .. } => !args.contains(acc),
                            SInst::Update { value, acc: other } => value != acc && other != acc,
                            _ => true,
                        })
                    });
                    if clear && self.class[value.0 as usize] == self.class[acc.0 as usize] {
                        direct.insert(*value, *acc);
                        skip[k] = true;
                    }
                }
                SInst::Emit { value, .. } if self.uses[value.0 as usize] == 1 => {
                    let made = insts[..k].iter().position(
                        |i| matches!(i, SInst::Def { dst, op: Op::Prim(Prim::Mul), .. } if dst == value),
                    );
                    if let Some(d) = made
                        && let SInst::Def { args, .. } = &insts[d]
                    {
                        products.insert(*value, [args[0], args[1]]);
                        skip[d] = true;
                    }
                }
                _ => {}
            }
        }
        let columns_of = |t: &Self, inst: &SInst| match inst {
            SInst::Def { dst, .. } => t.class[dst.0 as usize].reduced,
            SInst::Start { acc, .. } | SInst::Update { acc, .. } => t.class[acc.0 as usize].reduced,
            SInst::Emit { .. } => true,
            SInst::Store { space, .. } => *space == Space::Buffer && t.ctx.row_space.is_none(),
            _ => false,
        };
        // Columns go in groups, instruction by instruction: the chains of a group are interleaved.
        let Tile { columns, interleave: group, staged, .. } = self.ctx.tile;
        let mut order: Vec<(usize, usize, bool)> = Vec::with_capacity(insts.len() * (columns + 1));
        order.extend((0..insts.len()).map(|k| (k, 0, false)));
        let ends = if staged && columns > group { self.stages(insts) } else { vec![insts.len()] };
        let mut stage = 0;
        for end in ends {
            for first in (0..columns).step_by(group) {
                for k in stage..end {
                    order.extend((first..columns.min(first + group)).map(|col| (k, col, true)));
                }
            }
            stage = end;
        }
        {
            for (k, col, per_column) in order {
                let inst = &insts[k];
                if skip[k] || columns_of(self, inst) != per_column {
                    continue;
                }
                match inst {
                    SInst::Def { dst, op, args } => {
                        let into = direct.get(dst).copied().unwrap_or(*dst);
                        let rows =
                            if self.class[dst.0 as usize].kept { self.ctx.tile.rows } else { 1 };
                        for r in 0..rows {
                            self.define(into, op, args, r, col);
                        }
                    }
                    SInst::Start { acc, value } | SInst::Update { acc, value } => {
                        let rows =
                            if self.class[acc.0 as usize].kept { self.ctx.tile.rows } else { 1 };
                        for r in 0..rows {
                            let (a, v) = (self.reg_of(*acc, r, col), self.reg_of(*value, r, col));
                            self.w.copy(a, v);
                        }
                    }
                    SInst::Emit { slot, value } => {
                        let factors = match products.get(value) {
                            Some(f) => f.to_vec(),
                            None => vec![*value],
                        };
                        let factors = factors
                            .into_iter()
                            .map(|f| {
                                (0..self.ctx.tile.rows).map(|r| self.reg_of(f, r, col)).collect()
                            })
                            .collect();
                        let slot = self.address(Base::State, 0, 1, slot);
                        emit(self.w, Emission { slot, factors, column: col, number: start + k });
                    }
                    SInst::Store { space, at, value } => {
                        for r in 0..self.ctx.tile.rows {
                            let src = self.reg_of(*value, r, col);
                            match self.ctx.sums {
                                Sums::Registers(sums) if *space == Space::Sums => {
                                    self.w.copy(sums[at.offset as usize][r], src);
                                }
                                _ => {
                                    let (addr, _) = self.memory(*space, at, r, col, true);
                                    self.w.push(Inst::Store { addr, src });
                                }
                            }
                        }
                    }
                    SInst::Begin { .. } | SInst::End(_) => unreachable!("segments are straight"),
                }
            }
        }
    }
    /// Ends of the stages of straight instructions: these are cut where the fewest values of a
    /// pair pass from one side to the other, and each half once more where it is as narrow
    /// somewhere. Of equals the last is taken.
    fn stages(&self, insts: &[SInst]) -> Vec<usize> {
        /// Operations of a stage.
        const LEAST: usize = 4;
        let n = insts.len();
        let mut last: HashMap<Val, usize> = HashMap::new();
        for (k, inst) in insts.iter().enumerate() {
            match inst {
                SInst::Def { args, .. } => last.extend(args.iter().map(|&a| (a, k))),
                SInst::Start { value, .. }
                | SInst::Update { value, .. }
                | SInst::Emit { value, .. }
                | SInst::Store { value, .. } => {
                    last.insert(*value, k);
                }
                SInst::Begin { .. } | SInst::End(_) => {}
            }
        }
        // Before each instruction: operations so far, and values that are needed from it on. What
        // can be loaded again does not count.
        let (mut operations, mut width) = (vec![0; n + 1], vec![0_isize; n + 2]);
        for (k, inst) in insts.iter().enumerate() {
            let paired = |v: &Val| self.class[v.0 as usize] == Class { kept: true, reduced: true };
            let counts = match inst {
                SInst::Def { op: Op::Load(..), .. } => false,
                SInst::Def { dst, .. } if paired(dst) => {
                    let end = last.get(dst).map_or(n, |&end| end.max(k));
                    width[k + 1] += 1;
                    width[end + 1] -= 1;
                    true
                }
                SInst::Emit { .. } => true,
                _ => false,
            };
            operations[k + 1] = operations[k] + usize::from(counts);
        }
        for k in 0..n {
            width[k + 1] += width[k];
        }
        let cut = |from: usize, to: usize| {
            let long = |a: usize, b: usize| operations[b] - operations[a] >= LEAST;
            (from + 1..to)
                .filter(|&k| width[k] > 0 && long(from, k) && long(k, to))
                .min_by_key(|&k| (width[k], std::cmp::Reverse(k)))
        };
        let Some(middle) = cut(0, n) else { return vec![n] };
        let narrow = |k: &usize| width[*k] <= width[middle];
        let halves = [cut(0, middle).filter(narrow), cut(middle, n).filter(narrow)];
        [halves[0], Some(middle), halves[1], Some(n)].into_iter().flatten().collect()
    }
    fn define(&mut self, dst: Val, op: &Op, args: &[Val], r: usize, col: usize) {
        match op {
            Op::Real(v) => {
                let c = self.w.real(*v);
                self.give_one(dst, c);
            }
            Op::Int(v) => {
                let c = self.w.int(*v);
                self.give_one(dst, c);
            }
            Op::Load(Space::Pivot, a) => {
                self.give(dst, self.ctx.pivot[a.offset as usize]);
            }
            Op::Load(space, a) => {
                if let (Space::Sums, Sums::Registers(sums)) = (space, self.ctx.sums) {
                    debug_assert!(a.terms.is_empty(), "the planner keeps such sums in memory");
                    return self.give(dst, &sums[a.offset as usize]);
                }
                let (addr, broadcast) = self.memory(*space, a, r, col, false);
                let reg = self.reg_of(dst, r, col);
                let inst = Inst::Load { dst: reg, addr, broadcast };
                // What no loop changes is loaded once, before the columns.
                let invariant = matches!(space, Space::Kept | Space::Param)
                    && a.terms.is_empty()
                    && self.ctx.row_space.is_none();
                if invariant { self.w.preamble.push(inst) } else { self.w.push(inst) }
            }
            Op::Gather { offset, len } => {
                let (d, idx) = (self.reg_of(dst, r, col), self.reg_of(args[0], r, col));
                // No change to an index within the table: whatever the index, it stays near.
                let most = self.w.int(table_room(*len) as i64 - 1);
                let idx = self.w.op(Prim::IntAnd, &[idx, most]);
                let addr = at(Base::Param, *offset as usize);
                self.w.push(Inst::Gather { dst: d, addr, idx });
            }
            Op::Counter(a) => {
                let mut sum = self.w.int(a.offset);
                for &(l, s) in &a.terms {
                    let c = self.counters[&l];
                    let mut term = c;
                    // Multiplication by a constant stride, by additions of shifts.
                    if s != 1 {
                        term = self.w.int(0);
                        for bit in 0..32 {
                            if s >> bit & 1 == 1 {
                                let shifted = self.w.op(Prim::IntShl(bit), &[c]);
                                term = self.w.op(Prim::IntAdd, &[term, shifted]);
                            }
                        }
                    }
                    sum = self.w.op(Prim::IntAdd, &[sum, term]);
                }
                self.give_one(dst, sum);
            }
            Op::Prim(p) => {
                let args: Args<VReg> = args.iter().map(|&a| self.reg_of(a, r, col)).collect();
                let dst = self.reg_of(dst, r, col);
                self.w.push(Inst::Op { dst, op: *p, args });
            }
            Op::Table(o) => unreachable!("{} was not expanded", o.name),
        }
    }
}

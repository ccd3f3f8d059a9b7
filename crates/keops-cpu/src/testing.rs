//! Random vector code with matching memory, to compare executors bit by bit, and a slow
//! interpreter that says what is right.
//!
//! ```ignore
//! let case = RandomCase::new(seed, Ty::F32, 16, 60);
//! let native = compile(&case.code, ...);
//! let got = case.run(|frame| unsafe { native.call(frame) });
//! case.assert_same(&got, &case.run_vm());
//! ```

use std::fmt::Write as _;
use std::ops::Range;

use keops_core::prim::{Kind, Prim, ScalarFn};

use crate::frame::Frame;
use crate::vcode::{Addr, Base, Inst, LoopId, LoopKind, Ty, VCode, VReg};
use crate::verify::verify;
use crate::vm::VmCode;

mod reference;
#[cfg(test)]
mod tests;

pub use reference::interpret;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Uniform in `low..=high`.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A real, often ordinary, sometimes special, sometimes any bits at all.
    fn real(&mut self, ty: Ty) -> f64 {
        let unit = |bits: u64| (bits >> 11) as f64 * (0.5f64).powi(53);
        match self.below(20) {
            0 => self.pick(&SPECIAL),
            1 if ty == Ty::F32 => f64::from(f32::from_bits(self.next() as u32)),
            1 => f64::from_bits(self.next()),
            2 => self.between(-20, 20) as f64,
            3 => (unit(self.next()) - 0.5) * 2f64.powi(self.between(-40, 40) as i32),
            _ => (unit(self.next()) - 0.5) * 8.0,
        }
    }
}

/// Values at which some primitive changes its mind, in either precision.
pub const SPECIAL: [f64; 40] = [
    0.0,
    -0.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -3.5,
    f32::MIN_POSITIVE as f64,
    -(f32::MIN_POSITIVE as f64),
    // Subnormal in f32: 2^-149, 3 * 2^-149, the largest.
    1.401_298_464_324_817e-45,
    4.203_895_392_974_451e-45,
    1.175_494_210_692_441_1e-38,
    f32::MAX as f64,
    f32::MIN as f64,
    f64::MIN_POSITIVE,
    5e-324,
    -1.5e-323,
    2.225_073_858_507_201e-308,
    f64::MAX,
    f64::MIN,
    1.999_999_880_790_710_4,
    1.999_999_999_999_999_8,
    // Around the limits of f16: largest, first to overflow, smallest normal, subnormal ties.
    65504.0,
    65519.996,
    65520.0,
    6.103_515_625e-5,
    6.100_535_392_761_23e-5,
    5.960_464_477_539_063e-8,
    2.980_232_238_769_531_3e-8,
    8.940_696_716_308_594e-8,
    // Halfway between two f16 numbers, even below and even above.
    2049.0,
    2051.0,
    // No fraction from here on, in f32 and f64.
    8_388_608.0,
    4_194_303.5,
    2_251_799_813_685_247.5,
];

fn cube_root_32(a: &[f32]) -> f32 {
    a[0].cbrt()
}
fn cube_root_64(a: &[f64]) -> f64 {
    a[0].cbrt()
}
fn angle_32(a: &[f32]) -> f32 {
    a[0].atan2(a[1])
}
fn angle_64(a: &[f64]) -> f64 {
    a[0].atan2(a[1])
}
fn weighted_32(a: &[f32]) -> f32 {
    a[0] * a[1] - 2.0 * a[2]
}
fn weighted_64(a: &[f64]) -> f64 {
    a[0] * a[1] - 2.0 * a[2]
}

/// Scalar functions of 1, 2 and 3 arguments, different in every argument.
pub static CALLS: [ScalarFn; 3] = [
    ScalarFn { name: "cube_root", arity: 1, f32: cube_root_32, f64: cube_root_64 },
    ScalarFn { name: "angle", arity: 2, f32: angle_32, f64: angle_64 },
    ScalarFn { name: "weighted", arity: 3, f32: weighted_32, f64: weighted_64 },
];

/// Every primitive, once, with some parameter where it has one.
pub fn all_prims() -> Vec<Prim> {
    let mut all = Prim::PLAIN.to_vec();
    all.extend([Prim::IntShl(3), Prim::IntShr(5)]);
    all.extend(CALLS.iter().flat_map(|f| [Prim::Call(f), Prim::CallIf(f)]));
    all
}

/// Elements around every buffer that nobody may touch.
const GUARD: usize = 64;

#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// Memory aligned to 64 bytes with guards on both sides.
#[derive(Clone)]
struct Buffer {
    lines: Vec<Line>,
    element: usize,
    elements: usize,
}

impl Buffer {
    fn new(element: usize, len: usize) -> Buffer {
        let elements = len + 2 * GUARD;
        let lines = vec![Line([0xA5; 64]); (elements * element).div_ceil(64)];
        Buffer { lines, element, elements }
    }

    fn pointer(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast::<u8>().wrapping_add(GUARD * self.element)
    }

    /// Element, counted from the pointer: guards have negative and large numbers.
    fn get(&self, at: i64) -> u64 {
        let at = (at + GUARD as i64) as usize * self.element;
        let byte = |k: usize| self.lines[k / 64].0[k % 64];
        (0..self.element).rev().fold(0, |bits, k| bits << 8 | u64::from(byte(at + k)))
    }

    fn set(&mut self, at: usize, bits: u64) {
        for k in 0..self.element {
            let at = (at + GUARD) * self.element + k;
            self.lines[at / 64].0[at % 64] = (bits >> (8 * k)) as u8;
        }
    }
}

/// How the bits of a part of memory are compared.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Class {
    /// All NaN are equal.
    Real,
    /// Pairs of single-precision elements that hold one double, of which all NaN are equal.
    Wide,
    /// Bit by bit.
    Exact,
}

/// Everything that a run has written.
pub struct Outputs {
    state: Buffer,
    out: Buffer,
    masks: Buffer,
    scratch: Buffer,
}

fn is_nan(ty: Ty, bits: u64) -> bool {
    match ty {
        Ty::F32 => f32::from_bits(bits as u32).is_nan(),
        Ty::F64 => f64::from_bits(bits).is_nan(),
    }
}

/// Random code and the memory to run it on. All code passes the verifier, and no result depends
/// on the payload or the sign of a NaN, nor on what the primitives leave open.
pub struct RandomCase {
    /// Seed that makes this case again.
    pub seed: u64,
    /// Lanes of a vector.
    pub lanes: usize,
    /// The code.
    pub code: VCode,
    columns: usize,
    first_column: i64,
    kept: Buffer,
    reduced: Buffer,
    param: Buffer,
    start: Outputs,
    /// Elements of `Base::State` that hold integers and wide accumulators.
    exact: Vec<Range<usize>>,
    wide: Vec<Range<usize>>,
    /// Elements of `Base::State` that hold every register that lives at the end.
    dump: Range<usize>,
}

impl RandomCase {
    /// About `size` statements over vectors of `lanes` lanes; the same seed gives the same case.
    pub fn new(seed: u64, ty: Ty, lanes: usize, size: usize) -> RandomCase {
        Generator::new(seed, ty, lanes).case(seed, size)
    }

    /// Runs an executor on a fresh copy of the memory.
    pub fn run(&self, execute: impl FnOnce(&Frame)) -> Outputs {
        let (mut kept, mut reduced) = (self.kept.clone(), self.reduced.clone());
        let mut param = self.param.clone();
        let Outputs { state, out, masks, scratch } = &self.start;
        let mut written = Outputs {
            state: state.clone(),
            out: out.clone(),
            masks: masks.clone(),
            scratch: scratch.clone(),
        };
        execute(&Frame {
            kept: kept.pointer().cast(),
            reduced: reduced.pointer().cast(),
            param: param.pointer().cast(),
            state: written.state.pointer().cast(),
            out: written.out.pointer().cast(),
            masks: written.masks.pointer().cast(),
            scratch: written.scratch.pointer().cast(),
            columns: self.columns,
            first_column: self.first_column,
        });
        written
    }

    /// Runs the portable machine.
    pub fn run_vm(&self) -> Outputs {
        let vm = VmCode::new(&self.code, self.lanes).expect("generated code is right");
        let mut workspace = vec![std::mem::MaybeUninit::uninit(); vm.workspace_bytes()];
        // SAFETY: the generator keeps every address within the buffers and every index within
        // the table, and all buffers are initialised.
        self.run(|frame| unsafe { vm.call(frame, &mut workspace) })
    }

    /// Runs the slow interpreter.
    pub fn run_reference(&self) -> Outputs {
        // SAFETY: as in `run_vm`.
        self.run(|frame| unsafe { interpret(&self.code, self.lanes, frame) })
    }

    /// Panics with the first few differences, the seed and the code if two runs differ.
    pub fn assert_same(&self, got: &Outputs, expected: &Outputs) {
        if let Some(difference) = self.difference(got, expected) {
            panic!(
                "seed {}, {} lanes, {} columns\n{difference}{}",
                self.seed, self.lanes, self.columns, self.code
            );
        }
    }

    /// The first few differences between two runs.
    pub fn difference(&self, got: &Outputs, expected: &Outputs) -> Option<String> {
        let mut text = String::new();
        let ty = self.code.ty;
        let buffers = [
            ("state", &got.state, &expected.state),
            ("out", &got.out, &expected.out),
            ("masks", &got.masks, &expected.masks),
            ("scratch", &got.scratch, &expected.scratch),
        ];
        for (name, got, expected) in buffers {
            let mut count = 0;
            for at in 0..got.elements {
                let at = at as i64 - GUARD as i64;
                let (a, b) = (got.get(at), expected.get(at));
                let class = match name {
                    "masks" => Class::Exact,
                    "state" => self.state_class(at),
                    _ => Class::Real,
                };
                let same = match class {
                    Class::Exact => false,
                    Class::Real => is_nan(ty, a) && is_nan(ty, b),
                    Class::Wide => {
                        let both = |x: &Buffer| x.get(at & !1) | x.get(at | 1) << 32;
                        is_nan(Ty::F64, both(got)) && is_nan(Ty::F64, both(expected))
                    }
                };
                if a != b && !same {
                    count += 1;
                    if count <= 4 {
                        let reals = match ty {
                            Ty::F32 => format!(
                                "{:e}, expected {:e}",
                                f32::from_bits(a as u32),
                                f32::from_bits(b as u32)
                            ),
                            Ty::F64 => {
                                format!("{:e}, expected {:e}", f64::from_bits(a), f64::from_bits(b))
                            }
                        };
                        let _ = writeln!(text, "{name}[{at}]: {a:x}, expected {b:x} ({reals})");
                    }
                }
            }
            if count > 4 {
                let _ = writeln!(text, "{name}: {} more", count - 4);
            }
        }
        (!text.is_empty()).then_some(text)
    }

    fn state_class(&self, at: i64) -> Class {
        let within = |ranges: &[Range<usize>]| {
            usize::try_from(at).is_ok_and(|at| ranges.iter().any(|r| r.contains(&at)))
        };
        if within(&self.exact) {
            Class::Exact
        } else if within(&self.wide) {
            Class::Wide
        } else {
            Class::Real
        }
    }
}

/// Registers that may be read, by kind.
#[derive(Clone, Default)]
struct Live {
    real: Vec<VReg>,
    mask: Vec<VReg>,
    int: Vec<VReg>,
}

impl Live {
    fn of(&mut self, kind: Kind) -> &mut Vec<VReg> {
        match kind {
            Kind::Real => &mut self.real,
            Kind::Mask => &mut self.mask,
            Kind::Int => &mut self.int,
        }
    }
}

struct Generator {
    rng: Rng,
    lanes: usize,
    code: VCode,
    live: Live,
    wide: Vec<[VReg; 2]>,
    /// Open fixed loops and their counts.
    open: Vec<(LoopId, u32)>,
    loops: u32,
    /// Columns per turn where in a loop over columns.
    step: Option<usize>,
    /// Runs of the current statement, without those of the columns.
    runs: usize,
    prims: Vec<Prim>,
}

/// Extents in vectors.
const KEPT: usize = 6;
const PARAM: usize = 4;
const STATE_REALS: usize = 8;
const STATE_INTS: usize = 3;
const SCRATCH: usize = 5;
/// Elements of a table to gather from, a power of two.
const TABLE: usize = 32;

impl Generator {
    fn new(seed: u64, ty: Ty, lanes: usize) -> Generator {
        let mut rng = Rng(seed);
        let code = VCode {
            ty,
            kinds: Vec::new(),
            insts: Vec::new(),
            reduced_stride: {
                let wide = rng.between(lanes as i64, 2 * lanes as i64);
                let narrow = rng.between(1, 6);
                if rng.chance(30) { wide as u32 } else { narrow as u32 }
            },
            out_stride: rng.between(lanes as i64, 3 * lanes as i64) as u32,
            mask_stride: rng.below(4) as u32,
            scratch: SCRATCH * lanes + rng.below(lanes),
        };
        Generator {
            rng,
            lanes,
            code,
            live: Live::default(),
            wide: Vec::new(),
            open: Vec::new(),
            loops: 0,
            step: None,
            runs: 1,
            prims: all_prims(),
        }
    }

    fn case(mut self, seed: u64, size: usize) -> RandomCase {
        let lanes = self.lanes;
        self.prologue();
        self.block(size / 4, 0);
        for _ in 0..self.rng.between(1, 2) {
            let steps: &[usize] = match self.rng.below(6) {
                0 => &[1],
                1 => &[4, 1],
                2 => &[2, 1],
                3 => &[3],
                4 => &[4, 2, 1],
                _ => &[2],
            };
            for &step in steps {
                self.columns(step, size / (2 * steps.len()));
            }
            self.block(size / 6, 0);
        }

        // Every register that lives now, wide accumulators first.
        let first = (STATE_REALS + STATE_INTS) * lanes;
        let mut at = first;
        let mut put = |code: &mut VCode, inst: &dyn Fn(Addr) -> Inst, vectors: usize| {
            let addr = Addr { base: Base::State, offset: at as i32, terms: Vec::new() };
            code.insts.push(inst(addr));
            at += vectors * lanes;
            at - vectors * lanes..at
        };
        let (mut exact, mut wide) = (Vec::new(), Vec::new());
        exact.push(STATE_REALS * lanes..first);
        for pair in self.wide.clone() {
            wide.push(put(&mut self.code, &|addr| Inst::WideStore { addr, src: pair }, 2));
        }
        for src in self.live.real.clone() {
            put(&mut self.code, &|addr| Inst::Store { addr, src }, 1);
        }
        let (one, zero) = (self.const_int(1), self.const_int(0));
        for mask in self.live.mask.clone() {
            let int = self.fresh(Kind::Int);
            self.op_to(int, Prim::SelectInt, &[mask, one, zero]);
            self.live.int.push(int);
        }
        for src in self.live.int.clone() {
            exact.push(put(&mut self.code, &|addr| Inst::Store { addr, src }, 1));
        }
        let dump = first..at;
        if let Err(error) = verify(&self.code, lanes) {
            panic!("generated code is wrong: {error}\n{}", self.code);
        }

        let columns = self.rng.below(14);
        let (code, rng) = (self.code, &mut self.rng);
        let ty = code.ty;
        let mut reals = |len: usize| {
            let mut buffer = Buffer::new(ty.size(), len);
            for k in 0..len {
                let value = rng.real(ty);
                buffer.set(
                    k,
                    match ty {
                        Ty::F32 => u64::from((value as f32).to_bits()),
                        Ty::F64 => value.to_bits(),
                    },
                );
            }
            buffer
        };
        // Pointers that move end behind the last column.
        let turns = columns + 4;
        RandomCase {
            seed,
            lanes,
            columns,
            kept: reals(KEPT * lanes),
            reduced: reals(turns * code.reduced_stride as usize + 2 * lanes),
            param: reals(PARAM * lanes + TABLE),
            start: Outputs {
                state: reals(at),
                out: reals(turns * code.out_stride as usize),
                masks: Buffer::new(4, turns * code.mask_stride as usize * lanes.div_ceil(32)),
                scratch: reals(code.scratch),
            },
            first_column: rng.between(-5, 1 << 20),
            code,
            exact,
            wide,
            dump,
        }
    }

    /// A few values of every kind, so that every statement finds arguments.
    fn prologue(&mut self) {
        for _ in 0..3 {
            self.load();
            let value = self.rng.next() as i64;
            let int = self.const_int(value);
            self.live.int.push(int);
            let args = [self.arg(Kind::Real), self.arg(Kind::Real)];
            let mask = self.op(Prim::Lt, &args);
            self.live.mask.push(mask);
        }
        if self.code.ty == Ty::F32 {
            for _ in 0..self.rng.below(3) {
                let pair = [self.constant(0.0), self.constant(0.0)];
                self.wide.push(pair);
            }
        }
    }

    fn columns(&mut self, step: usize, budget: usize) {
        let before = self.live.clone();
        let id = LoopId(self.loops);
        self.loops += 1;
        self.code.insts.push(Inst::Begin { id, kind: LoopKind::Columns { step: step as u32 } });
        self.step = Some(step);
        self.block(budget, 0);
        // Something of this turn goes out.
        for _ in 0..2 {
            self.store();
        }
        self.step = None;
        self.code.insts.push(Inst::End { id });
        self.live = before;
    }

    fn block(&mut self, budget: usize, depth: usize) {
        let mut left = budget;
        while left > 0 {
            let count = self.rng.between(1, 5) as u32;
            let runs = self.runs * count as usize;
            if left >= 4 && depth < 3 && runs <= 100 && self.rng.chance(8 + 8 * depth) {
                let part = self.rng.between(left as i64 / 3, left as i64 - 1) as usize;
                left -= part;
                let id = LoopId(self.loops);
                self.loops += 1;
                self.code.insts.push(Inst::Begin { id, kind: LoopKind::Fixed(count) });
                self.open.push((id, count));
                let before = std::mem::replace(&mut self.runs, runs);
                self.block(part, depth + 1);
                self.runs = before;
                self.open.pop();
                self.code.insts.push(Inst::End { id });
            } else {
                left -= 1;
                self.statement();
            }
        }
    }

    fn statement(&mut self) {
        match self.rng.below(100) {
            0..=13 => self.load(),
            14..=21 => self.store(),
            22..=25 if self.step.is_some() && self.code.mask_stride > 0 => {
                let count = self.step.unwrap_or(1) * self.code.mask_stride as usize;
                let (index, src) = (self.rng.below(count) as i32, self.arg(Kind::Mask));
                self.code.insts.push(Inst::StoreMask { index, src });
            }
            26..=28 => {
                let (x, most) = (self.arg(Kind::Int), self.const_int(TABLE as i64 - 1));
                let idx = self.op(Prim::IntAnd, &[x, most]);
                let offset = self.rng.below(PARAM * self.lanes) as i32;
                let addr = Addr { base: Base::Param, offset, terms: Vec::new() };
                let dst = self.dst(Kind::Real);
                self.code.insts.push(Inst::Gather { dst, addr, idx });
            }
            29..=30 if self.step.is_some() => {
                let dst = self.dst(Kind::Int);
                self.code.insts.push(Inst::ColumnIndex { dst });
            }
            31..=35 if !self.wide.is_empty() => {
                let (acc, src) = (self.rng.pick(&self.wide), self.arg(Kind::Real));
                self.code.insts.push(Inst::WideAdd { acc, src });
            }
            36..=39 => {
                let dst = self.dst(Kind::Real);
                let value = self.rng.real(self.code.ty);
                self.code.insts.push(Inst::Const { dst, value });
            }
            40..=41 => {
                let (dst, value) = (self.dst(Kind::Int), self.rng.next() as i64 >> 20);
                self.code.insts.push(Inst::ConstInt { dst, value });
            }
            // Keeps values from drifting to NaN and the infinities.
            42..=47 => {
                let (a, limit) = (self.arg(Kind::Real), self.constant(9.0));
                let b = self.op(Prim::Min, &[a, limit]);
                let limit = self.constant(-9.0);
                self.op_any(Prim::Max, &[b, limit]);
            }
            48..=66 => {
                let op = self.rng.pick(&[Prim::Add, Prim::Mul, Prim::Sub, Prim::Fma, Prim::Fnma]);
                self.operation(op);
            }
            _ => {
                let op = self.rng.pick(&self.prims);
                self.operation(op);
            }
        }
    }

    /// `op` on random arguments, made harmless where the primitive leaves the result open.
    fn operation(&mut self, op: Prim) {
        let bits = 8 * self.code.ty.size();
        let op = match op {
            Prim::IntShl(_) => Prim::IntShl(self.rng.below(bits) as u8),
            Prim::IntShr(_) => Prim::IntShr(self.rng.below(bits) as u8),
            op => op,
        };
        let mut args: Vec<VReg> = op.signature().0.iter().map(|kind| self.arg(*kind)).collect();
        match op {
            Prim::Scale => args[1] = self.exponent(args[1], &mut args),
            Prim::Significand => args[0] = self.with_exponent(args[0]),
            Prim::ToBits => {
                let one = self.constant(1.0);
                let number = self.op(Prim::Eq, &[args[0], args[0]]);
                args[0] = self.op(Prim::Select, &[number, args[0], one]);
            }
            Prim::ToInt => {
                let limit = if bits == 32 { 2f64.powi(22) - 1.0 } else { 2f64.powi(51) - 1.0 };
                args[0] = self.clamp(args[0], limit);
            }
            Prim::FromInt => {
                let width = if bits == 32 { 22 } else { 51 };
                let (low, middle) =
                    (self.const_int((1 << width) - 1), self.const_int(1 << (width - 1)));
                let low = self.op(Prim::IntAnd, &[args[0], low]);
                args[0] = self.op(Prim::IntSub, &[low, middle]);
            }
            _ => {}
        }
        self.op_any(op, &args);
    }

    /// An integer-valued exponent for `Scale`, infinite only beside a finite non-zero argument.
    fn exponent(&mut self, from: VReg, args: &mut [VReg]) -> VReg {
        if self.rng.chance(15) {
            let a = self.with_exponent(args[0]);
            let one = self.constant(1.0);
            let number = self.op(Prim::Eq, &[a, a]);
            args[0] = self.op(Prim::Select, &[number, a, one]);
            let infinite = self.rng.pick(&[f64::INFINITY, f64::NEG_INFINITY]);
            return self.constant(infinite);
        }
        let (stretch, limit) = match (self.rng.below(3), self.code.ty) {
            (0, _) => (1.0, 40.0),
            (1, Ty::F32) => (100.0, 300.0),
            (1, Ty::F64) => (800.0, 2200.0),
            _ => (1e6, 1e9),
        };
        let stretch = self.constant(stretch);
        let stretched = self.op(Prim::Mul, &[from, stretch]);
        let clamped = self.clamp(stretched, limit);
        self.op(Prim::RoundEven, &[clamped])
    }

    /// `x`, or 1 where it is zero or infinite.
    fn with_exponent(&mut self, x: VReg) -> VReg {
        let (zero, infinity, one) =
            (self.constant(0.0), self.constant(f64::INFINITY), self.constant(1.0));
        let abs = self.op(Prim::Abs, &[x]);
        let (is_zero, is_infinite) =
            (self.op(Prim::Eq, &[x, zero]), self.op(Prim::Eq, &[abs, infinity]));
        let without = self.op(Prim::MaskOr, &[is_zero, is_infinite]);
        self.op(Prim::Select, &[without, one, x])
    }

    fn clamp(&mut self, x: VReg, limit: f64) -> VReg {
        let high = self.constant(limit);
        let x = self.op(Prim::Min, &[x, high]);
        let low = self.constant(-limit);
        self.op(Prim::Max, &[x, low])
    }

    fn load(&mut self) {
        let broadcast = self.rng.chance(50);
        let len = if broadcast { 1 } else { self.lanes };
        let stride = self.code.reduced_stride as usize;
        let (base, extent) = match self.rng.below(5) {
            0 => (Base::Kept, KEPT * self.lanes),
            1 => (Base::Reduced, self.step.unwrap_or(1) * stride + 2 * self.lanes - 1),
            2 => (Base::Param, PARAM * self.lanes + TABLE),
            3 => (Base::State, (STATE_REALS + STATE_INTS) * self.lanes),
            _ => (Base::Scratch, self.code.scratch),
        };
        let addr = self.addr(base, extent, len);
        let dst = self.dst(Kind::Real);
        self.code.insts.push(Inst::Load { dst, addr, broadcast });
    }

    fn store(&mut self) {
        let lanes = self.lanes;
        if self.rng.chance(15) {
            let src = self.arg(Kind::Int);
            let mut addr = self.addr(Base::State, STATE_INTS * lanes, lanes);
            addr.offset += (STATE_REALS * lanes) as i32;
            self.code.insts.push(Inst::Store { addr, src });
            return;
        }
        let (base, extent) = match self.rng.below(3) {
            0 => (Base::State, STATE_REALS * lanes),
            1 => (Base::Out, self.step.unwrap_or(1) * self.code.out_stride as usize),
            _ => (Base::Scratch, self.code.scratch),
        };
        let (addr, src) = (self.addr(base, extent, lanes), self.arg(Kind::Real));
        self.code.insts.push(Inst::Store { addr, src });
    }

    /// A random address, affine in some open loops, of `len` elements within `extent`.
    fn addr(&mut self, base: Base, extent: usize, len: usize) -> Addr {
        let room = (extent - len) as i64;
        let mut terms = Vec::new();
        let (mut low, mut high) = (0, 0);
        for &(id, count) in &self.open {
            let most = if self.rng.chance(50) { self.lanes as i64 } else { 3 };
            let stride = self.rng.between(-most, most);
            let reach = stride * i64::from(count - 1);
            if self.rng.chance(60) && high - low + reach.abs() <= room {
                terms.push((id, stride as i32));
                (low, high) = (low + reach.min(0), high + reach.max(0));
            }
        }
        Addr { base, offset: self.rng.between(-low, room - high) as i32, terms }
    }

    fn fresh(&mut self, kind: Kind) -> VReg {
        self.code.kinds.push(kind);
        VReg(self.code.kinds.len() as u32 - 1)
    }

    /// A constant that nothing else assigns.
    fn constant(&mut self, value: f64) -> VReg {
        let dst = self.fresh(Kind::Real);
        self.code.insts.push(Inst::Const { dst, value });
        dst
    }

    fn const_int(&mut self, value: i64) -> VReg {
        let dst = self.fresh(Kind::Int);
        self.code.insts.push(Inst::ConstInt { dst, value });
        dst
    }

    /// A new register, or one that other statements know.
    fn dst(&mut self, kind: Kind) -> VReg {
        if self.rng.chance(35) && !self.live.of(kind).is_empty() {
            return self.arg(kind);
        }
        let dst = self.fresh(kind);
        self.live.of(kind).push(dst);
        dst
    }

    fn arg(&mut self, kind: Kind) -> VReg {
        let live = self.live.of(kind);
        let recent = live.len().min(4);
        let at = if self.rng.chance(40) {
            live.len() - 1 - self.rng.below(recent)
        } else {
            self.rng.below(live.len())
        };
        live[at]
    }

    fn op_to(&mut self, dst: VReg, op: Prim, args: &[VReg]) {
        self.code.insts.push(Inst::Op { dst, op, args: args.into() });
    }

    fn op(&mut self, op: Prim, args: &[VReg]) -> VReg {
        let dst = self.fresh(op.signature().1);
        self.op_to(dst, op, args);
        dst
    }

    fn op_any(&mut self, op: Prim, args: &[VReg]) {
        let dst = self.dst(op.signature().1);
        self.op_to(dst, op, args);
    }
}

//! The machine against the slow interpreter.

use std::mem::MaybeUninit;

use keops_core::prim::{Kind, Prim};

use super::{CHUNK_BYTES, VmCode, call_any};
use crate::frame::Frame;
use crate::testing::{RandomCase, SPECIAL, all_prims, interpret};
use crate::vcode::{Addr, Base, Inst, LoopId, LoopKind, Ty, VCode, VReg};

fn compare(seeds: std::ops::Range<u64>, ty: Ty, lanes: usize, size: usize) {
    for seed in seeds {
        let case = RandomCase::new(seed, ty, lanes, size);
        case.assert_same(&case.run_vm(), &case.run_reference());
    }
}

#[test]
fn random_code_f32() {
    for (k, lanes) in [4, 8, 16, 32, 64, 128].into_iter().enumerate() {
        let first = 10_000 * k as u64;
        compare(first..first + 250, Ty::F32, lanes, 60);
        compare(first + 5_000..first + 5_020, Ty::F32, lanes, 400);
    }
}

#[test]
fn random_code_f64() {
    for (k, lanes) in [1, 4, 8, 16, 32, 64].into_iter().enumerate() {
        let first = 100_000 + 10_000 * k as u64;
        compare(first..first + 250, Ty::F64, lanes, 60);
        compare(first + 5_000..first + 5_020, Ty::F64, lanes, 400);
    }
}

/// What runs where the processor has no AVX2, or is of another kind.
#[test]
fn random_code_without_vector_extensions() {
    for seed in 0..60 {
        for (ty, lanes) in [(Ty::F32, 32), (Ty::F64, 4)] {
            let case = RandomCase::new(200_000 + seed, ty, lanes, 80);
            let vm = VmCode::new(&case.code, lanes).expect("right code");
            let mut workspace = vec![0u8; vm.workspace_bytes()];
            let start = workspace.as_mut_ptr();
            let start = start.wrapping_add(start.align_offset(CHUNK_BYTES));
            // SAFETY: as in `RandomCase::run_vm`; the workspace has slack for the alignment.
            let got = case.run(|frame| unsafe { call_any(&vm.decoded, ty, frame, start) });
            case.assert_same(&got, &case.run_reference());
        }
    }
}

/// Builds code by hand.
struct Builder(VCode);

impl Builder {
    fn new(ty: Ty) -> Builder {
        Builder(VCode {
            ty,
            kinds: Vec::new(),
            insts: Vec::new(),
            reduced_stride: 0,
            out_stride: 0,
            mask_stride: 0,
            scratch: 0,
        })
    }

    fn reg(&mut self, kind: Kind) -> VReg {
        self.0.kinds.push(kind);
        VReg(self.0.kinds.len() as u32 - 1)
    }

    fn op(&mut self, op: Prim, args: &[VReg]) -> VReg {
        let dst = self.reg(op.signature().1);
        self.0.insts.push(Inst::Op { dst, op, args: args.into() });
        dst
    }

    fn constant(&mut self, value: f64) -> VReg {
        let dst = self.reg(Kind::Real);
        self.0.insts.push(Inst::Const { dst, value });
        dst
    }

    fn load(&mut self, base: Base, offset: usize, broadcast: bool) -> VReg {
        let dst = self.reg(Kind::Real);
        let addr = Addr { base, offset: offset as i32, terms: Vec::new() };
        self.0.insts.push(Inst::Load { dst, addr, broadcast });
        dst
    }

    fn store(&mut self, offset: usize, src: VReg) {
        let addr = Addr { base: Base::State, offset: offset as i32, terms: Vec::new() };
        self.0.insts.push(Inst::Store { addr, src });
    }
}

/// A frame of vectors; the state is written.
fn frame<T>(kept: &[T], reduced: &[T], state: &mut [T], columns: usize) -> Frame {
    Frame {
        kept: kept.as_ptr().cast(),
        reduced: reduced.as_ptr().cast(),
        param: std::ptr::null(),
        state: state.as_mut_ptr().cast(),
        out: std::ptr::null_mut(),
        masks: std::ptr::null_mut(),
        scratch: std::ptr::null_mut(),
        columns,
        first_column: 0,
    }
}

trait Real: Copy + Default + PartialEq + std::fmt::Debug {
    const TY: Ty;
    fn of(value: f64) -> Self;
    fn to(self) -> f64;
    /// Bits, the same for all NaN.
    fn code(self) -> u64;
    fn int_bits(self) -> i64;
}
impl Real for f32 {
    const TY: Ty = Ty::F32;
    fn of(value: f64) -> f32 {
        value as f32
    }
    fn to(self) -> f64 {
        self.into()
    }
    fn code(self) -> u64 {
        if self.is_nan() { u64::MAX } else { self.to_bits().into() }
    }
    fn int_bits(self) -> i64 {
        (self.to_bits() as i32).into()
    }
}
impl Real for f64 {
    const TY: Ty = Ty::F64;
    fn of(value: f64) -> f64 {
        value
    }
    fn to(self) -> f64 {
        self
    }
    fn code(self) -> u64 {
        if self.is_nan() { u64::MAX } else { self.to_bits() }
    }
    fn int_bits(self) -> i64 {
        self.to_bits() as i64
    }
}

fn run<T: Real>(code: &VCode, lanes: usize, kept: &[T], reduced: &[T], columns: usize) -> Vec<T> {
    let vm = VmCode::new(code, lanes).expect("right code");
    let mut out = vec![T::default(); lanes];
    let mut workspace = vec![MaybeUninit::uninit(); vm.workspace_bytes()];
    // SAFETY: the tests' code keeps within these slices.
    unsafe { vm.call(&frame(kept, reduced, &mut out, columns), &mut workspace) };
    out
}

/// One operation on vectors of kept memory: reals as they are, integers by their bits, masks
/// where they are positive.
fn single<T: Real>(op: Prim, lanes: usize) -> VCode {
    let mut b = Builder::new(T::TY);
    let (zero, one) = (b.constant(0.0), b.constant(1.0));
    let mut args = Vec::new();
    for (k, kind) in op.signature().0.iter().enumerate() {
        let x = b.load(Base::Kept, k * lanes, false);
        args.push(match kind {
            Kind::Real => x,
            Kind::Mask => b.op(Prim::Lt, &[zero, x]),
            Kind::Int => b.op(Prim::ToBits, &[x]),
        });
    }
    let result = b.op(op, &args);
    let result = if op.signature().1 == Kind::Mask {
        b.op(Prim::Select, &[result, one, zero])
    } else {
        result
    };
    b.store(0, result);
    b.0
}

/// Whether the definition of `op` says what comes out of these arguments.
fn defined<T: Real>(op: Prim, args: &[T]) -> bool {
    let limit = if T::TY == Ty::F32 { 22 } else { 51 };
    let x = args[0].to();
    match op {
        Prim::Scale => {
            let b = args[1].to();
            let undefined =
                (b == f64::INFINITY && x == 0.0) || (b == f64::NEG_INFINITY && x.is_infinite());
            b.is_nan() || (b == b.trunc() && !undefined)
        }
        Prim::Significand => x.is_nan() || (x != 0.0 && x.is_finite()),
        Prim::ToInt => x.abs() < 2f64.powi(limit),
        Prim::FromInt => args[0].int_bits().unsigned_abs() < 1 << limit,
        _ => true,
    }
}

/// Every primitive on every combination of special values (the first ones where there are many
/// arguments), against the definitions.
fn special_values<T: Real>() {
    const LANES: usize = 16;
    for op in all_prims() {
        let arity = op.signature().0.len();
        let mut values: Vec<f64> = SPECIAL.to_vec();
        if matches!(op, Prim::Scale) {
            values.extend((-1100..1100).step_by(25).map(f64::from));
            values.extend((-150..-120).map(f64::from));
        }
        if matches!(op, Prim::FromInt) {
            // Small integers have the bits of subnormal numbers.
            values.extend((0..200).map(|k| f64::from_bits(k * k * k * 7919)));
            values.extend((0..200u32).map(|k| f64::from(f32::from_bits(k * k * 97))));
        }
        values.truncate([0, 400, 400, 40, 13, 8][arity]);
        let mut tuples: Vec<Vec<T>> = vec![Vec::new()];
        for _ in 0..arity {
            tuples = tuples
                .iter()
                .flat_map(|head| values.iter().map(|v| [&head[..], &[T::of(*v)]].concat()))
                .collect();
        }
        tuples.retain(|args| defined(op, args));
        assert!(tuples.len() >= 20, "{op:?}: {} combinations", tuples.len());
        let code = single::<T>(op, LANES);
        for batch in tuples.chunks(LANES) {
            let at = |k: usize| &batch[k.min(batch.len() - 1)];
            let kept: Vec<T> = (0..arity).flat_map(|a| (0..LANES).map(move |k| at(k)[a])).collect();
            let got = run(&code, LANES, &kept, &[], 0);
            let mut expected = vec![T::default(); LANES];
            // SAFETY: as in `run`.
            unsafe { interpret(&code, LANES, &frame(&kept, &[], &mut expected, 0)) };
            for k in 0..LANES {
                let same = got[k].code() == expected[k].code();
                assert!(same, "{op:?} {:?}: {:?}, expected {:?}", at(k), got[k], expected[k]);
            }
        }
    }
}

#[test]
fn special_values_f32() {
    special_values::<f32>();
}

#[test]
fn special_values_f64() {
    special_values::<f64>();
}

/// Facts about the primitives that follow from IEEE 754 by hand.
#[test]
fn known_results() {
    const LANES: usize = 16;
    let single32 = |op, args: &[f32]| {
        let kept: Vec<f32> = args.iter().flat_map(|a| [*a; LANES]).collect();
        run(&single::<f32>(op, LANES), LANES, &kept, &[], 0)[LANES - 1]
    };
    let single64 = |op, args: &[f64]| {
        let kept: Vec<f64> = args.iter().flat_map(|a| [*a; LANES]).collect();
        run(&single::<f64>(op, LANES), LANES, &kept, &[], 0)[LANES - 1]
    };
    // Ties between subnormal numbers go to the even one; 11/8 units round to 1, although rounding
    // after each halving would give 2.
    let unit = f32::from_bits(1);
    assert_eq!(single32(Prim::Scale, &[1.5, -149.0]), 2.0 * unit);
    assert_eq!(single32(Prim::Scale, &[1.0, -150.0]), 0.0);
    assert_eq!(single32(Prim::Scale, &[11.0 * unit, -3.0]), unit);
    assert_eq!(single32(Prim::Scale, &[unit, 276.0]), 2f32.powi(127));
    assert_eq!(single32(Prim::Scale, &[-1.0, 128.0]), f32::NEG_INFINITY);
    let unit = f64::from_bits(1);
    assert_eq!(single64(Prim::Scale, &[1.5, -1074.0]), 2.0 * unit);
    assert_eq!(single64(Prim::Scale, &[1.0, -1075.0]), 0.0);
    assert_eq!(single64(Prim::Scale, &[11.0 * unit, -3.0]), unit);
    assert_eq!(single64(Prim::Scale, &[unit, 2097.0]), 2f64.powi(1023));
    assert_eq!(single64(Prim::Scale, &[-1.0, 1024.0]), f64::NEG_INFINITY);
    assert_eq!(single64(Prim::Scale, &[3.0, f64::NEG_INFINITY]), 0.0);

    assert_eq!(single32(Prim::Exponent, &[f32::from_bits(5)]), -147.0);
    assert_eq!(single32(Prim::Significand, &[f32::from_bits(5)]), 1.25);
    assert_eq!(single64(Prim::Exponent, &[f64::from_bits(5)]), -1072.0);
    assert_eq!(single64(Prim::Significand, &[-f64::from_bits(5)]), -1.25);
    assert_eq!(single64(Prim::Exponent, &[0.0]), f64::NEG_INFINITY);
    assert_eq!(single64(Prim::Exponent, &[f64::NEG_INFINITY]), f64::INFINITY);

    // f16 has 11 bits, its smallest number is 2^-24, its largest 65504.
    for (x, rounded) in [
        (2049.0, 2048.0),
        (2051.0, 2052.0),
        (65519.0, 65504.0),
        (65520.0, f64::INFINITY),
        (-1e9, f64::NEG_INFINITY),
        (1.5 * 2f64.powi(-24), 2f64.powi(-23)),
        (0.5 * 2f64.powi(-24), 0.0),
    ] {
        assert_eq!(single64(Prim::RoundF16, &[x]), rounded);
        assert_eq!(f64::from(single32(Prim::RoundF16, &[x as f32])), rounded);
    }
    // Just above a tie: through single precision it would become the tie and go down to 2048.
    assert_eq!(single64(Prim::RoundF16, &[2049.0 + 2f64.powi(-40)]), 2050.0);

    // `b` where either is NaN, and for equal arguments of different sign.
    assert_eq!(single64(Prim::Min, &[f64::NAN, 3.0]), 3.0);
    assert!(single64(Prim::Max, &[3.0, f64::NAN]).is_nan());
    assert!(single64(Prim::Min, &[0.0, -0.0]).is_sign_negative());
    assert!(single64(Prim::Max, &[-0.0, 0.0]).is_sign_positive());
    assert!(single32(Prim::RoundEven, &[-0.5]).is_sign_negative());
}

/// `sum_j exp(-|x_i - y_j|^2) b_j` in three dimensions.
fn gaussian(ty: Ty, lanes: usize) -> VCode {
    let mut b = Builder::new(ty);
    b.0.reduced_stride = 4;
    let x: Vec<VReg> = (0..3).map(|c| b.load(Base::Kept, c * lanes, false)).collect();
    let log2_e = b.constant(-std::f64::consts::LOG2_E);
    // Taylor series of 2^f: ln(2)^k / k!.
    let mut term = 1.0;
    let mut coefficients = Vec::new();
    for k in 1..=12 {
        coefficients.push(b.constant(term));
        term *= std::f64::consts::LN_2 / f64::from(k);
    }
    let sum = b.constant(0.0);
    b.0.insts.push(Inst::Begin { id: LoopId(0), kind: LoopKind::Columns { step: 1 } });
    let mut d2 = b.constant(0.0);
    for (c, x) in x.iter().enumerate() {
        let y = b.load(Base::Reduced, c, true);
        let d = b.op(Prim::Sub, &[*x, y]);
        d2 = b.op(Prim::Fma, &[d, d, d2]);
    }
    let t = b.op(Prim::Mul, &[d2, log2_e]);
    let n = b.op(Prim::RoundEven, &[t]);
    let f = b.op(Prim::Sub, &[t, n]);
    let power = coefficients.iter().rev().copied().reduce(|p, c| b.op(Prim::Fma, &[p, f, c]));
    let e = b.op(Prim::Scale, &[power.expect("coefficients"), n]);
    let weight = b.load(Base::Reduced, 3, true);
    b.0.insts.push(Inst::Op { dst: sum, op: Prim::Fma, args: [e, weight, sum].into() });
    b.0.insts.push(Inst::End { id: LoopId(0) });
    b.store(0, sum);
    b.0
}

fn gaussian_is_right<T: Real>(lanes: usize, tolerance: f64) {
    const COLUMNS: usize = 50;
    let point = |k: usize| T::of((k as f64 * 0.618).fract() * 2.0 - 1.0);
    let kept: Vec<T> = (0..3 * lanes).map(point).collect();
    let reduced: Vec<T> = (0..4 * COLUMNS).map(|k| point(k + 1000)).collect();
    let got = run(&gaussian(T::TY, lanes), lanes, &kept, &reduced, COLUMNS);
    for (i, got) in got.iter().enumerate() {
        let (mut sum, mut scale) = (0.0, 0.0);
        for column in reduced.chunks(4) {
            let d2: f64 = (0..3).map(|c| (kept[c * lanes + i].to() - column[c].to()).powi(2)).sum();
            sum += (-d2).exp() * column[3].to();
            scale += (-d2).exp() * column[3].to().abs();
        }
        assert!((got.to() - sum).abs() <= tolerance * scale, "{i}: {got:?}, expected {sum}");
    }
}

#[test]
fn gaussian_reduction() {
    // Per term: rounding of |x - y|^2 log2(e) up to 17, whose absolute error the exponential
    // turns into a relative one, and some units for the rest.
    gaussian_is_right::<f32>(64, 20.0 * f64::from(f32::EPSILON));
    gaussian_is_right::<f64>(32, 20.0 * f64::EPSILON);
}

#[test]
fn any_workspace_will_do() {
    let case = RandomCase::new(7, Ty::F32, 64, 100);
    let vm = VmCode::new(&case.code, 64).expect("right code");
    let expected = case.run_reference();
    for shift in [0, 1, 3, 24, 63] {
        let mut workspace = vec![MaybeUninit::new(0xff); vm.workspace_bytes() + shift];
        // SAFETY: as in `RandomCase::run_vm`.
        let got = case.run(|frame| unsafe { vm.call(frame, &mut workspace[shift..]) });
        case.assert_same(&got, &expected);
    }
}

#[test]
#[should_panic(expected = "workspace too small")]
fn a_small_workspace_is_refused() {
    let code = gaussian(Ty::F32, 64);
    let vm = VmCode::new(&code, 64).expect("right code");
    let mut workspace = vec![MaybeUninit::uninit(); vm.workspace_bytes() - 1];
    let (kept, mut out) = ([0f32; 192], [0f32; 64]);
    // SAFETY: no column is read; the store has 64 elements.
    unsafe { vm.call(&frame(&kept, &[], &mut out, 0), &mut workspace) };
}

#[test]
fn long_code_stays_in_few_slots() {
    let mut b = Builder::new(Ty::F32);
    let mut x = b.load(Base::Kept, 0, false);
    for _ in 0..1000 {
        let y = b.op(Prim::Abs, &[x]);
        x = b.op(Prim::Add, &[x, y]);
    }
    b.store(0, x);
    let vm = VmCode::new(&b.0, 64).expect("right code");
    // At most three registers live at a time.
    assert!(vm.workspace_bytes() <= 3 * 256 + 3 * 64, "{} bytes", vm.workspace_bytes());
}

//! Largest errors of the expansions of `vecmath`, in units in the last place (ulp).
//!
//! Single precision is compared with the double-precision functions of the standard library, over
//! a stride of all bit patterns; double precision with a table from multi-precision arithmetic
//! (`scripts/vecmath_reference.py`) and with the standard library at random arguments.

mod common;

use common::Random;
use keops_core::prim::Prim;
use keops_core::prim_eval::{LaneValue, PrimReal, eval, eval1, eval2};
use keops_core::vecmath::{self as vm, Bound, Precision, PrimBuilder, Scaling, Val};

type Unary = fn(&mut dyn PrimBuilder, Val) -> Val;
type Binary = fn(&mut dyn PrimBuilder, Val, Val) -> Val;
/// Name, expansion, and arguments with their values.
type UnaryPoints<'a> = (&'a str, Unary, &'a [(f64, f64)]);
/// Name, expansion, and reference.
type BinaryCase = (&'static str, Binary, fn(f64, f64) -> f64);

/// A recorded expansion, to be evaluated many times.
struct Tape<R> {
    inputs: usize,
    start: Vec<LaneValue<R>>,
    /// Operations with the position of their result.
    steps: Vec<(Prim, Vec<usize>, usize)>,
    result: usize,
    scaling: Scaling,
    /// What is promised of the input.
    bound: Bound,
}

impl<R: PrimReal> PrimBuilder for Tape<R> {
    fn precision(&self) -> Precision {
        R::PRECISION
    }
    fn real(&mut self, v: f64) -> Val {
        self.start.push(LaneValue::Real(R::from_f64(v)));
        Val(self.start.len() as u32 - 1)
    }
    fn int(&mut self, v: i64) -> Val {
        self.start.push(LaneValue::Int(R::wrap(v)));
        Val(self.start.len() as u32 - 1)
    }
    fn prim(&mut self, op: Prim, args: &[Val]) -> Val {
        let args = args.iter().map(|v| v.0 as usize).collect();
        self.start.push(LaneValue::Mask(false));
        self.steps.push((op, args, self.start.len() - 1));
        Val(self.start.len() as u32 - 1)
    }
    fn scaling(&self) -> Scaling {
        self.scaling
    }
    fn bound(&self, v: Val) -> Bound {
        if v == Val(0) { self.bound } else { Bound::Unknown }
    }
}

impl<R: PrimReal> Tape<R> {
    fn record(inputs: usize, build: impl FnOnce(&mut Self, &[Val]) -> Val) -> Self {
        let tape = Self {
            inputs,
            start: vec![],
            steps: vec![],
            result: 0,
            scaling: Scaling::Exact,
            bound: Bound::Unknown,
        };
        tape.recorded(build)
    }

    /// A target that adds exponents to bits.
    fn by_bits(f: Unary, bound: Bound) -> Self {
        let mut tape = Self::unary(f);
        (tape.start, tape.steps) = (vec![], vec![]);
        (tape.scaling, tape.bound) = (Scaling::Integer, bound);
        tape.recorded(|tape, v| f(tape, v[0]))
    }

    fn recorded(mut self, build: impl FnOnce(&mut Self, &[Val]) -> Val) -> Self {
        let (inputs, tape) = (self.inputs, &mut self);
        let vals: Vec<Val> = (0..inputs).map(|_| tape.real(0.0)).collect();
        tape.result = build(tape, &vals).0 as usize;
        self
    }

    fn unary(f: Unary) -> Self {
        Self::record(1, |tape, v| f(tape, v[0]))
    }

    fn binary(f: Binary) -> Self {
        Self::record(2, |tape, v| f(tape, v[0], v[1]))
    }

    fn run(&mut self, inputs: &[R]) -> R {
        assert_eq!(inputs.len(), self.inputs);
        for (slot, &v) in self.start.iter_mut().zip(inputs) {
            *slot = LaneValue::Real(v);
        }
        for (op, args, at) in &self.steps {
            let mut lanes = [LaneValue::Mask(false); 5];
            for (lane, &arg) in lanes.iter_mut().zip(args) {
                *lane = self.start[arg];
            }
            self.start[*at] = eval(*op, &lanes[..args.len()]);
        }
        self.start[self.result].real()
    }
}

/// Error of the f32 number `y` against a double-precision value, in ulp of the latter's binade;
/// infinite for a wrong special value or sign of zero.
fn ulps_f32(y: f32, exact: f64) -> f64 {
    if exact.is_nan() || y.is_nan() {
        return if exact.is_nan() && y.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if exact == 0.0 || y == 0.0 {
        if y.is_sign_negative() != exact.is_sign_negative() {
            return f64::INFINITY;
        }
        if exact == 0.0 {
            return if y == 0.0 { 0.0 } else { f64::INFINITY };
        }
    }
    if y.is_infinite() || (exact as f32).is_infinite() {
        // Half a unit beyond the largest number rounds to infinity; allow one more around it.
        let close = exact.abs() > f64::from(f32::MAX) * (1.0 - 2e-7);
        let same = y == exact as f32 || (close && y.abs() >= f32::MAX && exact.is_finite());
        return if same && y.is_sign_negative() == exact.is_sign_negative() {
            0.0
        } else {
            f64::INFINITY
        };
    }
    let exponent = exact.exponent().max(-126.0);
    ((f64::from(y) - exact) * 2f64.powf(23.0 - exponent)).abs()
}

/// Position of a double on the line of all doubles, in ulp; both zeros at 0.
fn ordinal(v: f64) -> i64 {
    let bits = v.to_bits() as i64;
    if bits < 0 { i64::MIN - bits } else { bits }
}

/// Error of `y` against `rounded + residual ulp`.
fn ulps_f64(y: f64, rounded: f64, residual: f64) -> f64 {
    if y.is_nan() || rounded.is_nan() {
        return if y.is_nan() && rounded.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if y.is_sign_negative() != rounded.is_sign_negative() {
        return f64::INFINITY;
    }
    ((ordinal(y) - ordinal(rounded)) as f64 - residual).abs()
}

/// Name, expansion, reference, and the documented bounds and counts in single and double precision.
struct Case {
    name: &'static str,
    expansion: Unary,
    reference: fn(f64) -> f64,
    single: f64,
    double: f64,
    /// Numbers of primitives.
    counts: (usize, usize),
}

const fn case(
    name: &'static str,
    expansion: Unary,
    reference: fn(f64) -> f64,
    single: f64,
    double: f64,
    counts: (usize, usize),
) -> Case {
    Case { name, expansion, reference, single, double, counts }
}

/// The bounds of the table in the documentation of `vecmath`.
const CASES: &[Case] = &[
    case("exp", vm::exp, f64::exp, 1.0, 1.0, (13, 18)),
    case("exp2", vm::exp2, f64::exp2, 1.0, 1.0, (10, 15)),
    case("expm1", vm::expm1, f64::exp_m1, 1.6, 2.0, (19, 24)),
    case("log", vm::log, f64::ln, 1.0, 1.0, (21, 26)),
    case("log2", vm::log2, f64::log2, 1.5, 1.0, (24, 27)),
    case("log1p", vm::log1p, f64::ln_1p, 1.7, 1.2, (36, 39)),
    case("sin", vm::sin, f64::sin, 2.2, 1.7, (25, 29)),
    case("cos", vm::cos, f64::cos, 2.2, 1.7, (21, 25)),
    case("tan", vm::tan, f64::tan, 2.7, 2.3, (28, 35)),
    case("asin", vm::asin, f64::asin, 2.0, 2.2, (21, 28)),
    case("acos", vm::acos, f64::acos, 1.2, 1.2, (25, 32)),
    case("atan", vm::atan, f64::atan, 1.4, 1.5, (24, 35)),
    case("sinh", vm::sinh, f64::sinh, 2.4, 2.3, (27, 32)),
    case("cosh", vm::cosh, f64::cosh, 1.4, 1.4, (17, 22)),
    case("tanh", vm::tanh, f64::tanh, 2.6, 2.6, (27, 32)),
    case("asinh", vm::asinh, libm::asinh, 1.8, 1.3, (53, 56)),
    case("acosh", vm::acosh, acosh, 2.4, 1.9, (45, 48)),
    case("atanh", vm::atanh, libm::atanh, 2.0, 1.2, (46, 49)),
    case("sigmoid", vm::sigmoid, sigmoid, 2.2, 1.2, (19, 24)),
    case("softplus", vm::softplus, softplus, 1.9, 1.0, (54, 62)),
];

/// (Below -1, `libm` gives numbers.)
fn acosh(x: f64) -> f64 {
    if x < 1.0 { f64::NAN } else { libm::acosh(x) }
}
fn sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}
fn softplus(x: f64) -> f64 {
    if x < 0.0 { x.exp().ln_1p() } else { x + (-x).exp().ln_1p() }
}

/// Largest error over every `stride`-th bit pattern, with its argument.
fn worst_single(case: &Case, stride: usize) -> (f64, f32) {
    let mut tape = Tape::<f32>::unary(case.expansion);
    let mut worst = (0.0, 0.0);
    for bits in (0..=u32::MAX).step_by(stride) {
        let x = f32::from_bits(bits);
        let error = ulps_f32(tape.run(&[x]), (case.reference)(x.into()));
        if error > worst.0 {
            worst = (error, x);
        }
    }
    worst
}

/// Documented bounds of the functions of two arguments, single and double.
const ATAN2: (f64, f64) = (1.7, 1.5);
const POW: (f64, f64) = (1.0, 1.0);

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Prints the worst error and notes a failure.
fn judge(
    name: &str,
    kind: &str,
    (error, at): (f64, String),
    bound: f64,
    failures: &mut Vec<String>,
) {
    println!("{name:8} {kind} {error:.3} ulp at {at}");
    if error > bound {
        failures.push(format!("{name}: {error:.3} ulp at {at}, documented {bound}"));
    }
}

#[test]
fn single_precision() {
    // KEOPS_ULP_STRIDE=1 tests all 2^32 arguments.
    let stride = setting("KEOPS_ULP_STRIDE", 4099);
    let mut failures = vec![];
    for case in CASES {
        let (error, x) = worst_single(case, stride);
        judge(case.name, "f32", (error, format!("{x:e}")), case.single, &mut failures);
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn single_precision_of_two_arguments() {
    let count = setting("KEOPS_ULP_COUNT", 400_000);
    let mut failures = vec![];
    let (mut pow, mut atan2) = (Tape::<f32>::binary(vm::pow), Tape::<f32>::binary(vm::atan2));
    let (mut worst_pow, mut worst_atan2) = ((0.0, String::new()), (0.0, String::new()));
    let mut random = Random::new(1);
    for k in 0..count {
        // Any x, and y such that x^y spans the range of the type; or x near 1; or any two numbers.
        let any = |b: &mut Random| f32::from_bits(b.bits() as u32);
        let (x, y) = match k % 3 {
            0 => (any(&mut random).abs(), random.within(-155.0, 133.0) as f32),
            1 => (1.0 + random.within(-0.3, 0.3) as f32, random.within(-155.0, 133.0) as f32),
            _ => (any(&mut random), any(&mut random)),
        };
        let y = if k % 3 < 2 { (f64::from(y) / f64::from(x).log2()) as f32 } else { y };
        let error = ulps_f32(pow.run(&[x, y]), f64::from(x).powf(y.into()));
        if error > worst_pow.0 {
            worst_pow = (error, format!("({x:e}, {y:e})"));
        }
        let (y, x) = match k % 3 {
            0 => (any(&mut random), any(&mut random)),
            _ => (random.within(-2.0, 2.0) as f32, random.within(-2.0, 2.0) as f32),
        };
        let error = ulps_f32(atan2.run(&[y, x]), f64::from(y).atan2(x.into()));
        if error > worst_atan2.0 {
            worst_atan2 = (error, format!("({y:e}, {x:e})"));
        }
    }
    judge("pow", "f32", worst_pow, POW.0, &mut failures);
    judge("atan2", "f32", worst_atan2, ATAN2.0, &mut failures);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn double_precision_against_table() {
    let path = std::env::var("KEOPS_ULP_TABLE")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vecmath_f64.txt").into());
    let table = std::fs::read_to_string(&path).unwrap();
    let mut failures = vec![];
    let mut check = |name: &str, bound: f64, mut tape: Tape<f64>| {
        let mut worst = (0.0, String::new());
        let mut points = 0;
        for line in table.lines().filter(|l| l.split(' ').next() == Some(name)) {
            let field: Vec<&str> = line.split(' ').collect();
            let number = |k: usize| f64::from_bits(u64::from_str_radix(field[k], 16).unwrap());
            let (x, y, residual) = (number(1), number(2), field[4].parse().unwrap());
            let value = tape.run(&[x, y][..tape.inputs]);
            let error = ulps_f64(value, number(3), residual);
            if error > worst.0 {
                worst = (error, format!("({x:e}, {y:e})"));
            }
            points += 1;
        }
        assert!(points >= 100, "{name}: {points} reference points");
        judge(name, "f64", worst, bound, &mut failures);
    };
    for case in CASES {
        check(case.name, case.double, Tape::unary(case.expansion));
    }
    check("atan2", ATAN2.1, Tape::binary(vm::atan2));
    check("pow", POW.1, Tape::binary(vm::pow));
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn double_precision_against_standard_library() {
    // The standard library is itself within 1 ulp in most and 2 ulp in all of its functions.
    let allowance = 2.0;
    let mut failures = vec![];
    for case in CASES {
        let mut tape = Tape::<f64>::unary(case.expansion);
        let mut random = Random::new(2);
        let mut worst = (0.0, String::new());
        for k in 0..100_000 {
            let x = match k % 3 {
                0 => f64::from_bits(random.bits()),
                1 => random.within(-800.0, 800.0),
                _ => random.within(-1.0, 1.0),
            };
            let error = ulps_f64(tape.run(&[x]), (case.reference)(x), 0.0);
            if error > worst.0 {
                worst = (error, format!("{x:e}"));
            }
        }
        judge(case.name, "f64 std", worst, case.double + allowance, &mut failures);
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Bits, with one pattern for all NaN.
fn pattern<R: PrimReal>(v: R) -> i64 {
    if v.to_f64().is_nan() { i64::MAX } else { v.to_int_bits() }
}

/// Special values: results are exact, including the sign of zero.
fn special_values<R: PrimReal>() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let subnormal = R::from_int_bits(1).to_f64();
    let unary: &[UnaryPoints] = &[
        (
            "exp",
            vm::exp,
            &[
                (0.0, 1.0),
                (-0.0, 1.0),
                (inf, inf),
                (-inf, 0.0),
                (nan, nan),
                (1e30, inf),
                (-1e30, 0.0),
                (subnormal, 1.0),
            ],
        ),
        (
            "exp2",
            vm::exp2,
            &[
                (0.0, 1.0),
                (10.0, 1024.0),
                (inf, inf),
                (-inf, 0.0),
                (nan, nan),
                (1e30, inf),
                (-1e30, 0.0),
            ],
        ),
        (
            "exp2_cheap",
            vm::exp2_cheap,
            &[(0.0, 1.0), (-3.0, 0.125), (inf, inf), (-inf, 0.0), (nan, nan), (-1e30, 0.0)],
        ),
        (
            "exp_cheap",
            vm::exp_cheap,
            &[(0.0, 1.0), (inf, inf), (-inf, 0.0), (nan, nan), (-1e30, 0.0)],
        ),
        (
            "asinh",
            vm::asinh,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (inf, inf),
                (-inf, -inf),
                (nan, nan),
                (subnormal, subnormal),
            ],
        ),
        (
            "acosh",
            vm::acosh,
            &[(1.0, 0.0), (inf, inf), (0.5, nan), (-1e30, nan), (-inf, nan), (nan, nan)],
        ),
        (
            "atanh",
            vm::atanh,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (1.0, inf),
                (-1.0, -inf),
                (1.5, nan),
                (-inf, nan),
                (nan, nan),
                (-subnormal, -subnormal),
            ],
        ),
        (
            "sigmoid",
            vm::sigmoid,
            &[(0.0, 0.5), (-0.0, 0.5), (inf, 1.0), (-inf, 0.0), (nan, nan), (-1e30, 0.0)],
        ),
        (
            "softplus",
            vm::softplus,
            &[(inf, inf), (-inf, 0.0), (nan, nan), (1e30, 1e30), (-1e30, 0.0)],
        ),
        (
            "expm1",
            vm::expm1,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (inf, inf),
                (-inf, -1.0),
                (nan, nan),
                (subnormal, subnormal),
                (-subnormal, -subnormal),
                (1e30, inf),
            ],
        ),
        (
            "log",
            vm::log,
            &[
                (1.0, 0.0),
                (0.0, -inf),
                (-0.0, -inf),
                (inf, inf),
                (-inf, nan),
                (-1.0, nan),
                (nan, nan),
                (-subnormal, nan),
            ],
        ),
        (
            "log2",
            vm::log2,
            &[
                (1.0, 0.0),
                (8.0, 3.0),
                (
                    subnormal,
                    f64::from(1 - R::BITS as i32) + if R::BITS == 32 { -118.0 } else { -1011.0 },
                ),
                (0.0, -inf),
                (-0.0, -inf),
                (inf, inf),
                (-1.0, nan),
                (nan, nan),
            ],
        ),
        (
            "log1p",
            vm::log1p,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (-1.0, -inf),
                (-2.0, nan),
                (inf, inf),
                (-inf, nan),
                (nan, nan),
                (subnormal, subnormal),
            ],
        ),
        (
            "sin",
            vm::sin,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (inf, nan),
                (-inf, nan),
                (nan, nan),
                (subnormal, subnormal),
            ],
        ),
        (
            "cos",
            vm::cos,
            &[(0.0, 1.0), (-0.0, 1.0), (inf, nan), (-inf, nan), (nan, nan), (subnormal, 1.0)],
        ),
        (
            "tan",
            vm::tan,
            &[(0.0, 0.0), (-0.0, -0.0), (inf, nan), (nan, nan), (-subnormal, -subnormal)],
        ),
        (
            "asin",
            vm::asin,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (1.0, std::f64::consts::FRAC_PI_2),
                (1.5, nan),
                (-inf, nan),
                (nan, nan),
                (subnormal, subnormal),
            ],
        ),
        (
            "acos",
            vm::acos,
            &[
                (1.0, 0.0),
                (-1.0, std::f64::consts::PI),
                (1.5, nan),
                (-1.5, nan),
                (inf, nan),
                (nan, nan),
            ],
        ),
        (
            "atan",
            vm::atan,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (inf, std::f64::consts::FRAC_PI_2),
                (nan, nan),
                (subnormal, subnormal),
            ],
        ),
        (
            "sinh",
            vm::sinh,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (inf, inf),
                (-inf, -inf),
                (nan, nan),
                (subnormal, subnormal),
                (1e30, inf),
            ],
        ),
        ("cosh", vm::cosh, &[(0.0, 1.0), (inf, inf), (-inf, inf), (nan, nan), (-1e30, inf)]),
        (
            "tanh",
            vm::tanh,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (inf, 1.0),
                (-inf, -1.0),
                (nan, nan),
                (subnormal, subnormal),
                (-1e30, -1.0),
            ],
        ),
        ("rsqrt", vm::rsqrt, &[(4.0, 0.5), (0.0, inf), (inf, 0.0), (-1.0, nan), (nan, nan)]),
    ];
    for (name, f, points) in unary {
        for &(x, expected) in *points {
            let got = eval1(f, R::from_f64(x));
            let expected = R::from_f64(expected);
            assert_eq!(
                pattern(got),
                pattern(expected),
                "{name}({x:e}): {got:?}, expected {expected:?}"
            );
        }
    }
    // Every pair of these values, against the standard library, which follows C's annex F.
    let values = [0.0, 1.0, 0.5, 2.0, 3.0, 2.5, 1e30, 4503599627370497.0, inf, subnormal, nan];
    let binary: [BinaryCase; 2] = [("pow", vm::pow, f64::powf), ("atan2", vm::atan2, f64::atan2)];
    for (name, f, reference) in binary {
        for (x, y) in values.iter().flat_map(|x| values.iter().map(move |y| (*x, *y))) {
            for (x, y) in [(x, y), (-x, y), (x, -y), (-x, -y)] {
                let (a, b) = (R::from_f64(x), R::from_f64(y));
                let got = eval2(f, a, b);
                let exact = reference(a.to_f64(), b.to_f64());
                let error = if R::BITS == 32 {
                    ulps_f32(got.to_f64() as f32, exact)
                } else {
                    ulps_f64(got.to_f64(), exact, 0.0)
                };
                assert!(error <= 2.0, "{name}({x:e}, {y:e}): {got:?}, expected {exact:e}");
            }
        }
    }
}

#[test]
fn special_values_single() {
    special_values::<f32>();
}

#[test]
fn special_values_double() {
    special_values::<f64>();
}

#[test]
fn cheap_exponentials_err_as_documented() {
    let mut tape = Tape::<f32>::unary(vm::exp_cheap);
    let mut double = Tape::<f64>::unary(vm::exp_cheap);
    let mut tape2 = Tape::<f32>::unary(vm::exp2_cheap);
    let mut double2 = Tape::<f64>::unary(vm::exp2_cheap);
    let mut tape3 = Tape::<f32>::unary(watched);
    let mut double3 = Tape::<f64>::unary(watched);
    assert_eq!((tape3.run(&[0.0]), double3.run(&[0.0])), (1.0, 1.0));
    let mut random = Random::new(3);
    for _ in 0..200_000 {
        let x = random.within(-80.0, 80.0) as f32;
        let error = ulps_f32(tape.run(&[x]), f64::from(x).exp());
        assert!(error <= 2.5 + 1.25 * f64::from(x.abs()), "exp_cheap({x}): {error} ulp");
        let error = ulps_f32(tape2.run(&[x]), f64::from(x).exp2());
        assert!(error <= 2.5, "exp2_cheap({x}): {error} ulp");
        let error = ulps_f32(tape3.run(&[x]), f64::from(x).exp2());
        assert!(error <= 3.0, "exp2_watched({x}): {error} ulp");
        let x = random.within(-700.0, 700.0);
        // Half an ulp for the standard library's value.
        let error = ulps_f64(double2.run(&[x]), x.exp2(), 0.0);
        assert!(error <= 3.5, "exp2_cheap({x}): {error} ulp");
        let error = ulps_f64(double3.run(&[x]), x.exp2(), 0.0);
        assert!(error <= 4.0, "exp2_watched({x}): {error} ulp");
        let error = ulps_f64(double.run(&[x]), x.exp(), 0.0);
        assert!(error <= 4.0 + 1.25 * x.abs(), "exp_cheap({x}): {error} ulp");
    }
}

/// `exp2_watched` times its factor.
fn watched(b: &mut dyn PrimBuilder, t: Val) -> Val {
    let (y, leading) = vm::exp2_watched(b, t);
    let leading = b.real(leading);
    b.prim(Prim::Mul, &[y, leading])
}

/// The results of both differ by at most so many units in the last place.
fn same<R: PrimReal>(mut a: Tape<R>, mut b: Tape<R>, ulp: u64, x: impl Iterator<Item = f64>) {
    for x in x.map(R::from_f64) {
        let (a, b) = (a.run(&[x]), b.run(&[x]));
        assert!(pattern(a).abs_diff(pattern(b)) <= ulp, "{x:?}: {a:?}, {b:?}");
    }
}

fn exponentials_by_bits<R: PrimReal>() {
    // Every limit of both types, and numbers between.
    let arguments = |most: f64| {
        let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, -1e30, 1e30];
        let limits = [-1200.0, -1075.0, -1074.5, -1022.0, -190.0, -150.0, -149.5, -126.0];
        let grid = (-24_000..22_000).map(|k| f64::from(k) / 20.0 + 0.013);
        let (limits, special) = (limits.into_iter(), special.into_iter());
        special
            .chain(limits.flat_map(|l| [l, l - 0.25, l + 0.25]))
            .chain(grid)
            .filter(move |&x| x.is_nan() || x <= most)
    };
    let (cheap, exact) = (vm::exp2_cheap, vm::exp2);
    for f in [exact, cheap] {
        same::<R>(Tape::unary(f), Tape::by_bits(f, Bound::Unknown), 0, arguments(f64::INFINITY));
    }
    for bound in [Bound::Nonpositive, Bound::NonpositiveOrInfinite] {
        let infinite = |x: &f64| bound == Bound::NonpositiveOrInfinite && *x == f64::INFINITY;
        let all = || arguments(0.0).chain([f64::INFINITY].into_iter().filter(infinite));
        same::<R>(Tape::unary(exact), Tape::by_bits(exact, bound), 0, all());
        // Another polynomial: both are within their bounds.
        same::<R>(Tape::unary(cheap), Tape::by_bits(cheap, bound), 4, all());
        same::<R>(Tape::unary(cheap), Tape::by_bits(watched, bound), 4, all());
        // Any NaN stays one, whatever its bits.
        for f in [exact, cheap] {
            for bound in [bound, Bound::Unknown] {
                for bits in 1..2000 {
                    let nan = R::from_int_bits(R::from_f64(f64::INFINITY).to_int_bits() + bits);
                    assert!(nan.to_f64().is_nan());
                    for x in [nan, R::from_f64(-nan.to_f64())] {
                        assert!(Tape::by_bits(f, bound).run(&[x]).to_f64().is_nan(), "{bits}");
                    }
                }
            }
        }
    }
    // What is watched: as before, or not finite.
    let mut by_bits = Tape::<R>::by_bits(watched, Bound::Unknown);
    let (mut by_scaling, mut plain) = (Tape::<R>::unary(watched), Tape::<R>::unary(cheap));
    for x in arguments(f64::INFINITY).map(R::from_f64) {
        let plain = plain.run(&[x]);
        let large = plain.to_f64() >= if R::PRECISION == Precision::F32 { 1e21 } else { 1e270 };
        for got in [by_bits.run(&[x]), by_scaling.run(&[x])] {
            let close = pattern(got).abs_diff(pattern(plain)) <= 4;
            assert!(close || (large && !got.to_f64().is_finite()), "{x:?}: {got:?}, {plain:?}");
        }
    }
}

#[test]
fn exponentials_by_bits_are_those_by_scaling() {
    exponentials_by_bits::<f32>();
    exponentials_by_bits::<f64>();
}

#[test]
fn integer_powers_are_repeated_multiplications() {
    for x in [0.0, -0.0, 1.25f64, -3.0, 1e200, f64::NAN] {
        for n in 0..40 {
            let got = eval1(|b, v| vm::powi(b, v, n), x);
            let expected = match n {
                0 => 1.0,
                1 => x,
                2 => x * x,
                3 => x * (x * x),
                4 => (x * x) * (x * x),
                5 => x * ((x * x) * (x * x)),
                _ => x.powi(n),
            };
            if n <= 5 {
                assert_eq!(pattern(got), pattern(expected), "{x}^{n}");
            } else {
                // About n/2 roundings of either sequence of products.
                assert!(ulps_f64(got, expected, 0.0) <= f64::from(n), "{x}^{n}: {got}");
            }
            let inverse = eval1(|b, v| vm::powi(b, v, -n), x);
            assert_eq!(pattern(inverse), pattern(1.0 / got), "{x}^-{n}");
        }
    }
    assert_eq!(eval1(|b, v| vm::powi(b, v, i32::MIN), 2f64), 0.0);
    assert_eq!(eval1(|b, v| vm::powi(b, v, i32::MIN), -1f64), 1.0);
}

/// Number of primitives of an expansion.
fn count<R: PrimReal>(f: Unary) -> usize {
    Tape::<R>::unary(f).steps.len()
}

#[test]
fn numbers_of_primitives_are_the_documented_ones() {
    // The inner loops of reductions count on these.
    for case in CASES {
        let counts = (count::<f32>(case.expansion), count::<f64>(case.expansion));
        assert_eq!(counts, case.counts, "{}", case.name);
    }
    let pair = |f: Binary| (Tape::<f32>::binary(f).steps.len(), Tape::<f64>::binary(f).steps.len());
    assert_eq!((pair(vm::atan2), pair(vm::pow)), ((41, 52), (64, 73)));
    assert_eq!((count::<f32>(vm::exp2_cheap), count::<f64>(vm::exp2_cheap)), (9, 14));
    assert_eq!((count::<f32>(vm::exp_cheap), count::<f64>(vm::exp_cheap)), (10, 15));
}

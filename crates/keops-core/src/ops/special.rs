//! Inverse hyperbolic functions, sigmoids, and the error and gamma functions.

use super::{ABS, Code, EXP, IF_ELSE, OpDef, RSQRT, Value, keep};
use crate::graph::Ex;
use crate::prim::{Prim, ScalarFn};
use crate::vecmath::{self, PrimBuilder, Val};
use std::f64::consts::FRAC_2_SQRT_PI;

scalar!(ERF_CALL, "erf", 1, ERF);
scalar!(ERFC_CALL, "erfc", 1, ERFC);
scalar!(LGAMMA_CALL, "lgamma", 1, LGAMMA);
scalar!(POLYGAMMA_CALL, "polygamma", 2, POLYGAMMA);

/// Largest order of [`POLYGAMMA`].
const MOST_ORDER: f64 = 8.0;
/// Bernoulli numbers B_2, B_4, … of the asymptotic series.
const BERNOULLI: [f64; 10] = [
    1.0 / 6.0,
    -1.0 / 30.0,
    1.0 / 42.0,
    -1.0 / 30.0,
    5.0 / 66.0,
    -691.0 / 2730.0,
    7.0 / 6.0,
    -3617.0 / 510.0,
    43867.0 / 798.0,
    -174611.0 / 330.0,
];

fn asinh(x: f64) -> f64 {
    libm::asinh(x)
}
/// The standard library's loses digits near 1 and overflows; that of `libm` gives numbers below -1.
fn acosh(x: f64) -> f64 {
    if x < 1.0 { f64::NAN } else { libm::acosh(x) }
}
fn atanh(x: f64) -> f64 {
    libm::atanh(x)
}
/// With `e = exp(-|x|)`: neither side overflows or loses a small value.
fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}
fn softplus(x: f64) -> f64 {
    (if x < 0.0 { 0.0 } else { x }) + (-x.abs()).exp().ln_1p()
}
fn erf(x: f64) -> f64 {
    libm::erf(x)
}
fn erfc(x: f64) -> f64 {
    libm::erfc(x)
}
/// `log Γ(x)` for `x >= 0`.
fn lgamma(x: f64) -> f64 {
    if x < 0.0 { f64::NAN } else { libm::lgamma(x) }
}

/// The derivative of order `n` of the digamma function: recurrence up to 20, from where the
/// asymptotic series holds (DLMF 5.5.2, 5.11.2 and 5.15.8-9).
fn polygamma(order: f64, x: f64) -> f64 {
    let order = (order + 0.5).floor();
    if !(0.0..=MOST_ORDER).contains(&order) || x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    let n = order as i32;
    let sign = if n % 2 == 0 { -1.0 } else { 1.0 };
    let factorial = |m: i32| (1..=m).map(f64::from).product::<f64>();
    if x == 0.0 {
        return sign * f64::INFINITY;
    }
    if x == f64::INFINITY {
        return if n == 0 { x } else { 0.0 };
    }
    let (mut below, mut shifted) = (0.0, x);
    while shifted < 20.0 {
        below += factorial(n) * shifted.powi(-n - 1);
        shifted += 1.0;
    }
    let inverse = 1.0 / shifted;
    // Both sides of the series for n > 0 are multiplied by x^n, so that no power underflows early.
    let mut series = if n == 0 { -shifted.ln() } else { factorial(n - 1) };
    series += 0.5 * factorial(n) * inverse;
    let mut power = inverse * inverse;
    for (k, b) in (1i32..).zip(BERNOULLI) {
        // (2k + n - 1)! / (2k)!
        let ratio = (2 * k..2 * k + n).map(f64::from).product::<f64>() / f64::from(2 * k);
        series += b * ratio * power;
        power *= inverse * inverse;
    }
    sign * (below + series * inverse.powi(n))
}

/// Code of a scalar function, called for each lane.
fn call(b: &mut dyn PrimBuilder, f: &'static ScalarFn, a: &[Val]) -> Val {
    b.prim(Prim::Call(f), a)
}
const POLYGAMMA_CUDA: &str = "[](double q, double x) -> T { \
    const double order = floor(q + 0.5); \
    if (!(order >= 0 && order <= 8) || !(x >= 0)) return KEOPS_NAN; \
    const int n = int(order); \
    const double sign = n % 2 == 0 ? -1.0 : 1.0; \
    if (x == 0) return T(sign / x); \
    if (x - x != 0) return T(n == 0 ? x : 0.0); \
    double below = 0, shifted = x, lower = 1, factorial = 1; \
    for (int i = 1; i <= n; i++) { lower = factorial; factorial *= i; } \
    for (; shifted < 20; shifted += 1) { \
      double p = 1 / shifted; \
      for (int i = 0; i < n; i++) p /= shifted; \
      below += factorial * p; } \
    const double inverse = 1 / shifted; \
    const double b[10] = {1.0 / 6, -1.0 / 30, 1.0 / 42, -1.0 / 30, 5.0 / 66, -691.0 / 2730, 7.0 / 6, \
      -3617.0 / 510, 43867.0 / 798, -174611.0 / 330}; \
    double series = (n == 0 ? -log(shifted) : lower) + 0.5 * factorial * inverse; \
    double power = inverse * inverse; \
    for (int k = 1; k <= 10; k++) { \
      double ratio = 1.0 / (2 * k); \
      for (int i = 0; i < n; i++) ratio *= 2 * k + i; \
      series += b[k - 1] * ratio * power; power *= inverse * inverse; } \
    for (int i = 0; i < n; i++) series *= inverse; \
    return T(sign * (below + series)); }(double({0}), double({1}))";

/// `1 / sqrt(1 + a^2)`, which neither overflows nor vanishes early.
fn inverse_hypotenuse(a: Ex<'_>) -> Ex<'_> {
    let size = a.un(&ABS);
    Ex::apply(&IF_ELSE, &[size - 1e9, size.lit(1.0) / size, (a * a + 1.0).un(&RSQRT)])
}

/// Inverse hyperbolic sine.
pub static ASINH: OpDef = OpDef {
    name: "Asinh",
    doc: "inverse hyperbolic sine",
    arity: 1,
    value: in_f64!(asinh, a),
    derivative: |x, _, t| vec![t * inverse_hypotenuse(x[0])],
    simplify: keep,
    cuda: "asinh({0})",
    code: Code::Expand(|b, a| vecmath::asinh(b, a[0])),
    domain: (-3.0, 3.0),
    kinks: &[],
    ulps: 4.0,
};
/// Inverse hyperbolic cosine.
pub static ACOSH: OpDef = OpDef {
    name: "Acosh",
    doc: "inverse hyperbolic cosine, NaN below 1; its derivative at 1 is taken as 0",
    arity: 1,
    value: in_f64!(acosh, a),
    derivative: |x, _, t| vec![t * (x[0] - 1.0).un(&RSQRT) * (x[0] + 1.0).un(&RSQRT)],
    simplify: keep,
    cuda: "acosh({0})",
    code: Code::Expand(|b, a| vecmath::acosh(b, a[0])),
    domain: (1.1, 4.0),
    kinks: &[1.0],
    ulps: 4.0,
};
/// Inverse hyperbolic tangent.
pub static ATANH: OpDef = OpDef {
    name: "Atanh",
    doc: "inverse hyperbolic tangent, infinite at ±1, NaN beyond",
    arity: 1,
    value: in_f64!(atanh, a),
    derivative: |x, _, t| vec![t / ((-x[0] + 1.0) * (x[0] + 1.0))],
    simplify: keep,
    cuda: "atanh({0})",
    code: Code::Expand(|b, a| vecmath::atanh(b, a[0])),
    domain: (-0.8, 0.8),
    kinks: &[],
    ulps: 4.0,
};
/// Logistic sigmoid.
pub static SIGMOID: OpDef = OpDef {
    name: "Sigmoid",
    doc: "1 / (1 + exp(-a))",
    arity: 1,
    value: in_f64!(sigmoid, a),
    derivative: |x, y, t| vec![t * y * (-x[0]).un(&SIGMOID)],
    simplify: keep,
    cuda: "({0} >= 0 ? T(1) / (T(1) + exp(-{0})) : exp({0}) / (T(1) + exp({0})))",
    code: Code::Expand(|b, a| vecmath::sigmoid(b, a[0])),
    domain: (-3.0, 3.0),
    kinks: &[],
    ulps: 4.0,
};
/// Smooth positive part.
pub static SOFTPLUS: OpDef = OpDef {
    name: "Softplus",
    doc: "log(1 + exp(a)), for any a",
    arity: 1,
    value: in_f64!(softplus, a),
    derivative: |x, _, t| vec![t * x[0].un(&SIGMOID)],
    simplify: keep,
    cuda: "(({0} < 0 ? T(0) : {0}) + log1p(exp(-abs({0}))))",
    code: Code::Expand(|b, a| vecmath::softplus(b, a[0])),
    domain: (-3.0, 3.0),
    kinks: &[],
    ulps: 4.0,
};
/// Error function.
pub static ERF: OpDef = OpDef {
    name: "Erf",
    doc: "error function 2/sqrt(π) ∫ exp(-t²) dt over [0, a]; a scalar function",
    arity: 1,
    value: in_f64!(erf, a),
    derivative: |x, _, t| vec![t * (-(x[0] * x[0])).un(&EXP) * FRAC_2_SQRT_PI],
    simplify: keep,
    cuda: "erf({0})",
    code: Code::Expand(|b, a| call(b, &ERF_CALL, a)),
    domain: (-2.0, 2.5),
    kinks: &[],
    ulps: 4.0,
};
/// Complementary error function.
pub static ERFC: OpDef = OpDef {
    name: "Erfc",
    doc: "1 - Erf(a), without cancellation; a scalar function",
    arity: 1,
    value: in_f64!(erfc, a),
    derivative: |x, _, t| vec![-(t * (-(x[0] * x[0])).un(&EXP) * FRAC_2_SQRT_PI)],
    simplify: keep,
    cuda: "erfc({0})",
    code: Code::Expand(|b, a| call(b, &ERFC_CALL, a)),
    domain: (-2.0, 2.5),
    kinks: &[],
    ulps: 4.0,
};
/// Logarithm of the gamma function.
pub static LGAMMA: OpDef = OpDef {
    name: "Lgamma",
    doc: "log Γ(a), infinite at 0, NaN below; a scalar function",
    arity: 1,
    value: in_f64!(lgamma, a),
    derivative: |x, _, t| vec![t * Ex::apply(&POLYGAMMA, &[x[0].lit(0.0), x[0]])],
    simplify: keep,
    cuda: "({0} < 0 ? T(KEOPS_NAN) : lgamma({0}))",
    code: Code::Expand(|b, a| call(b, &LGAMMA_CALL, a)),
    domain: (0.2, 3.5),
    kinks: &[],
    ulps: 4.0,
};
/// Digamma function and its derivatives.
pub static POLYGAMMA: OpDef = OpDef {
    name: "Polygamma",
    doc: "Polygamma(n, a): derivative of order n + 1 of Lgamma(a), integer n to 8, rounded, of derivative 0; a scalar function",
    arity: 2,
    value: in_f64!(polygamma, n, a),
    derivative: |x, _, t| vec![t.lit(0.0), t * Ex::apply(&POLYGAMMA, &[x[0] + 1.0, x[1]])],
    simplify: keep,
    cuda: POLYGAMMA_CUDA,
    code: Code::Expand(|b, a| call(b, &POLYGAMMA_CALL, a)),
    domain: (0.6, 3.4),
    kinks: &[],
    ulps: 4.0,
};

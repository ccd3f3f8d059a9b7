//! Inverse hyperbolic functions, sigmoids, and the error and gamma functions.

use super::{ABS, COSH, Code, EXP, IF_ELSE, OpDef, RSQRT, Value, keep};
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

/// `s` and the rest that `x + n` loses to rounding.
fn shifted(x: f64, n: f64) -> (f64, f64) {
    let s = x + n;
    let added = s - x;
    (s, (x - (s - added)) + (n - added))
}
/// `c / (s + low)^m`, within about two units in the last place: roundings of the power are made
/// good. In two halves, so that no power vanishes or overflows before the quotient does.
fn over_power(c: f64, (s, low): (f64, f64), m: u32) -> f64 {
    // The power, and what it lacks as a part of it.
    let power = |m: u32| {
        let (mut p, mut rest) = (1.0, 0.0);
        for _ in 0..m {
            let next: f64 = p * s;
            rest = rest * s + f64::mul_add(p, s, -next);
            p = next;
        }
        (p, rest / p)
    };
    let ((p, p_rest), (q, q_rest)) = (power(m / 2), power(m - m / 2));
    let rest = p_rest + q_rest + f64::from(m) * low / s;
    let c = if rest.is_finite() { c - c * rest } else { c };
    c / p / q
}

/// The digamma function for finite `x > 0`: on [1, 3] a polynomial times the distance from the
/// zero, so that no digit is lost there; the recurrence leads to it, in positive terms from above
/// (DLMF 5.5.2); the asymptotic series from 8 on (DLMF 5.11.2).
fn digamma(x: f64) -> f64 {
    // (s + low) ψ(s + low) / (s + low - zero) by powers of s - 2; low is a rounding error.
    let near = |(s, low): (f64, f64)| {
        let distance = (s - DIGAMMA_ZERO.0) - (DIGAMMA_ZERO.1 - low);
        distance * (DIGAMMA.iter().rev().fold(0.0, |sum, c| sum * (s - 2.0) + c) / s)
    };
    if x < 1.0 {
        return near(shifted(x, 1.0)) - 1.0 / x;
    }
    if x < 8.0 {
        let steps = if x < 3.0 { 0 } else { x as i32 - 2 };
        let base = near((x - f64::from(steps), 0.0));
        return (1..=steps).fold(base, |sum, n| sum + 1.0 / (x - f64::from(n)));
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let (mut series, mut power) = (0.0, square);
    for (k, b) in (1i32..).zip(BERNOULLI) {
        series += b / f64::from(2 * k) * power;
        power *= square;
    }
    x.ln() - (0.5 * inverse + series)
}

/// The derivative of order `n` of the digamma function: recurrence up to 20, from where the
/// asymptotic series holds (DLMF 5.15.5 and 5.15.8-9).
fn polygamma(order: f64, x: f64) -> f64 {
    let order = (order + 0.5).floor();
    if !(0.0..=MOST_ORDER).contains(&order) || x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    let n = order as u32;
    let sign = if n.is_multiple_of(2) { -1.0 } else { 1.0 };
    if x == 0.0 {
        return sign * f64::INFINITY;
    }
    if x == f64::INFINITY {
        return if n == 0 { x } else { 0.0 };
    }
    if n == 0 {
        return digamma(x);
    }
    let factorial = |m: u32| (1..=m).map(f64::from).product::<f64>();
    let steps = (20.0 - x).ceil().max(0.0) as u32;
    let last = shifted(x, f64::from(steps));
    let inverse = 1.0 / last.0;
    // Both sides of the series are multiplied by x^n, so that no power underflows early.
    let mut series = 0.0;
    let mut power = inverse * inverse;
    for (k, b) in (1u32..).zip(BERNOULLI) {
        // (2k + n - 1)! / (2k)!
        let ratio = (2 * k..2 * k + n).map(f64::from).product::<f64>() / f64::from(2 * k);
        series += b * ratio * power;
        power *= inverse * inverse;
    }
    let series = factorial(n - 1) + (0.5 * factorial(n) * inverse + series);
    // From the smallest term to the largest.
    let sum = (0..steps).rev().fold(over_power(series, last, n), |sum, i| {
        sum + over_power(factorial(n), shifted(x, f64::from(i)), n + 1)
    });
    sign * sum
}

/// Code of a scalar function, called for each lane.
fn call(b: &mut dyn PrimBuilder, f: &'static ScalarFn, a: &[Val]) -> Val {
    b.prim(Prim::Call(f), a)
}
/// The coefficients of the digamma function between 1 and 3, for code of both kinds.
macro_rules! digamma {
    ($zero:literal + $rest:literal; $($c:literal),*) => {
        /// The zero of the digamma function as a sum of two numbers.
        const DIGAMMA_ZERO: (f64, f64) = ($zero, $rest);
        /// `x ψ(x) / (x - zero)` by powers of `x - 2`.
        const DIGAMMA: &[f64] = &[$($c),*];
        const POLYGAMMA_CUDA: &str = concat!(
            "[](double q, double x) -> T { \
    const double order = floor(q + 0.5); \
    if (!(order >= 0 && order <= 8) || !(x >= 0)) return KEOPS_NAN; \
    const int n = int(order); \
    const double sign = n % 2 == 0 ? -1.0 : 1.0; \
    if (x == 0) return T(sign / x); \
    if (x - x != 0) return T(n == 0 ? x : 0.0); \
    const double b[10] = {1.0 / 6, -1.0 / 30, 1.0 / 42, -1.0 / 30, 5.0 / 66, -691.0 / 2730, 7.0 / 6, \
      -3617.0 / 510, 43867.0 / 798, -174611.0 / 330}; \
    auto lost = [](double x, double n) -> double { \
      const double s = x + n, added = s - x; return (x - (s - added)) + (n - added); }; \
    if (n == 0) { \
      if (x >= 8) { \
        const double square = 1 / x / x; double series = 0, power = square; \
        for (int k = 1; k <= 10; k++) { series += b[k - 1] / (2 * k) * power; power *= square; } \
        return T(log(x) - (0.5 / x + series)); } \
      const double c[] = {",
            $($c, ", ",)*
            "}; \
      const int steps = x < 3 ? 0 : int(x) - 2; \
      const double s = x < 1 ? x + 1 : x - steps, low = x < 1 ? lost(x, 1) : 0.0; \
      double sum = 0; \
      for (int k = int(sizeof(c) / sizeof(c[0])) - 1; k >= 0; k--) sum = sum * (s - 2) + c[k]; \
      sum = ((s - ", $zero, ") - (", $rest, " - low)) * (sum / s); \
      if (x < 1) return T(sum - 1 / x); \
      for (int k = 1; k <= steps; k++) sum += 1 / (x - k); \
      return T(sum); } \
    auto over = [](double c, double s, double low, int m) -> double { \
      double p[2], rest = m * low / s; \
      for (int half = 0; half < 2; half++) { \
        double y = 1, r = 0; \
        for (int i = half ? m - m / 2 : m / 2; i > 0; i--) { \
          const double next = y * s; r = r * s + fma(y, s, -next); y = next; } \
        p[half] = y; rest += r / y; } \
      return (rest - rest == 0 ? c - c * rest : c) / p[0] / p[1]; }; \
    const int steps = x < 20 ? int(ceil(20 - x)) : 0; \
    const double inverse = 1 / (x + steps); \
    double series = 0, power = inverse * inverse, lower = 1, factorial = 1; \
    for (int i = 1; i <= n; i++) { lower = factorial; factorial *= i; } \
    for (int k = 1; k <= 10; k++) { \
      double ratio = 1.0 / (2 * k); \
      for (int i = 0; i < n; i++) ratio *= 2 * k + i; \
      series += b[k - 1] * ratio * power; power *= inverse * inverse; } \
    series = lower + (0.5 * factorial * inverse + series); \
    double sum = over(series, x + steps, lost(x, steps), n); \
    for (int i = steps - 1; i >= 0; i--) sum += over(factorial, x + i, lost(x, i), n + 1); \
    return T(sign * sum); }(double({0}), double({1}))"
        );
    };
}
// Interpolation at 22 Chebyshev points (mpmath, 60 digits), which is right to 5e-17 of the value;
// `x ψ(x)` has its next pole at -1.
digamma! {
    1.4616321449683622 + 9.549995429965697e-17;
    1.5706150772082106,
    0.2638296292381025,
    -0.04273912064774364,
    0.009897851182280131,
    -0.0026564137225807017,
    0.0007704444910697313,
    -0.00023392420064047517,
    7.310840481735818e-05,
    -2.328865220566858e-05,
    7.515452320984161e-06,
    -2.447247952442441e-06,
    8.019945263273589e-07,
    -2.640883741492983e-07,
    8.722728942443085e-08,
    -2.876036749440204e-08,
    9.538728472794557e-09,
    -3.3111577360970643e-09,
    1.1007749260813127e-09,
    -2.593304064351991e-10,
    8.627521254873579e-11,
    -7.371239911406656e-11,
    2.455499019219194e-11
}

/// `1 / sqrt(1 + a^2)`, which neither overflows nor vanishes early.
fn inverse_hypotenuse(a: Ex<'_>) -> Ex<'_> {
    let size = a.un(&ABS);
    Ex::apply(&IF_ELSE, &[size - 1e9, size.lit(1.0) / size, (a * a + 1.0).un(&RSQRT)])
}

/// `exp(-a²)`. Beyond 30 it is 0 in every type, and so are its derivatives, where a factor of them
/// overflows.
fn gauss(a: Ex<'_>) -> Ex<'_> {
    Ex::apply(&IF_ELSE, &[a.un(&ABS) - 30.0, a.lit(0.0), (-(a * a)).un(&EXP)])
}
/// `1 - a²`: the square where the difference does not cancel, factors near ±1. (The derivative of
/// the factors would cancel near 0.)
pub(super) fn one_minus_square(a: Ex<'_>) -> Ex<'_> {
    let near = -a.un(&ABS) + 0.5;
    Ex::apply(&IF_ELSE, &[near, -(a * a) + 1.0, (-a + 1.0) * (a + 1.0)])
}
/// `e / (1 + e)²` with `e = exp(-|a|)`, whose derivatives cancel near 0.
pub(super) fn logistic_tail(a: Ex<'_>) -> Ex<'_> {
    let e = (-a.un(&ABS)).un(&EXP);
    e / ((e + 1.0) * (e + 1.0))
}
/// The slope of the sigmoid: near 0, where its derivatives of odd order are to have all digits,
/// by the hyperbolic cosine, which overflows elsewhere.
fn logistic_density(a: Ex<'_>) -> Ex<'_> {
    let near = a.lit(0.5) / (a.un(&COSH) + 1.0);
    Ex::apply(&IF_ELSE, &[-a.un(&ABS) + 2.0, near, logistic_tail(a)])
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
    derivative: |x, _, t| vec![t / one_minus_square(x[0])],
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
    derivative: |x, _, t| vec![t * logistic_density(x[0])],
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
    derivative: |x, _, t| vec![t * gauss(x[0]) * FRAC_2_SQRT_PI],
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
    derivative: |x, _, t| vec![-(t * gauss(x[0]) * FRAC_2_SQRT_PI)],
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

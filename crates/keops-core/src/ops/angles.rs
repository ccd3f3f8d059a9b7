//! Sine, cosine, tangent and their inverses, in radians, with slopes that keep their digits where a quotient
//! cancels or a square would overflow.

use super::special::one_minus_square;
use super::{
    ABS, COS_SQRT, Code, IF_ELSE, OpDef, RSQRT, SINC_SQRT, Value, divided, even, keep, range_scale,
    unless_zero,
};
use crate::graph::Ex;
use crate::prim::Prim;
use crate::vecmath;

/// Slope of `sin(a) / a`. `(cos a - sin(a) / a) / a` cancels near 0: there its series,
/// Σ (-1)^k 2k a^(2k-1) / (2k+1)!, of which eight terms are exact to f64 for |a| <= 1/2.
fn sinc_slope(a: Ex<'_>) -> Ex<'_> {
    const DIVISORS: [f64; 8] =
        [3.0, -30.0, 840.0, -45360.0, 3991680.0, -518918400.0, 93405312000.0, -22230464256000.0];
    let (near, square) = (-a.un(&ABS) + 0.5, a * a);
    let sum = DIVISORS.iter().rev().fold(a.lit(0.0), |s, d| s * square - 1.0 / d);
    let safe = Ex::apply(&IF_ELSE, &[near, a.lit(1.0), a]);
    let slope = (safe.un(&COS) - safe.un(&SIN) / safe) / safe;
    Ex::apply(&IF_ELSE, &[near, a * sum, slope])
}
/// `1 / (1 + a²)`, without the square where it may overflow: derivatives were NaN at infinity.
fn atan_slope(a: Ex<'_>) -> Ex<'_> {
    let (size, one) = (a.un(&ABS), a.lit(1.0));
    let inverse = one / size;
    Ex::apply(&IF_ELSE, &[size - 1e9, inverse * inverse, one / (a * a + 1.0)])
}
/// `t b / (a² + b²)` and `-t a / (a² + b²)`, 0 at (0, 0).
fn angle_slopes<'g>(a: Ex<'g>, b: Ex<'g>, t: Ex<'g>) -> Vec<Ex<'g>> {
    let p = range_scale(a, b);
    let (a, b) = (a * p, b * p);
    let s = divided(t, a * a + b * b);
    vec![s * b * p, -(s * a * p)]
}

/// Sine of radians.
pub static SIN: OpDef = OpDef {
    name: "Sin",
    doc: "sine (radians)",
    arity: 1,
    value: value!(|a| a.sin()),
    derivative: |x, _, t| vec![t * x[0].un(&COS)],
    simplify: keep,
    cuda: "sin({0})",
    code: Code::Expand(|b, a| vecmath::sin(b, a[0])),
    domain: (-4.0, 4.0),
    kinks: &[],
    ulps: 2.0,
};
/// Cosine of radians.
pub static COS: OpDef = OpDef {
    name: "Cos",
    doc: "cosine (radians)",
    arity: 1,
    value: value!(|a| a.cos()),
    derivative: |x, _, t| vec![-(t * x[0].un(&SIN))],
    simplify: |x, when| even(&COS, |u| u.un(&COS_SQRT), x[0], when),
    cuda: "cos({0})",
    code: Code::Expand(|b, a| vecmath::cos(b, a[0])),
    domain: (-4.0, 4.0),
    kinks: &[],
    ulps: 2.0,
};
/// Tangent of radians.
pub static TAN: OpDef = OpDef {
    name: "Tan",
    doc: "tangent (radians)",
    arity: 1,
    value: value!(|a| a.tan()),
    derivative: |_, y, t| vec![t * (y * y + 1.0)],
    simplify: keep,
    cuda: "tan({0})",
    code: Code::Expand(|b, a| vecmath::tan(b, a[0])),
    domain: (-1.2, 1.2),
    kinks: &[],
    ulps: 4.0,
};
/// `sin(a) / a`, 1 at 0.
pub static SIN_X_DIV_X: OpDef = OpDef {
    name: "SinXDivX",
    doc: "sin(a) / a, 1 at 0",
    arity: 1,
    value: value!(|a| if a == 0.0 { 1.0 } else { a.sin() / a }),
    derivative: |x, _, t| vec![t * sinc_slope(x[0])],
    simplify: |x, when| even(&SIN_X_DIV_X, |u| u.un(&SINC_SQRT), x[0], when),
    cuda: "({0} == T(0) ? T(1) : sin({0}) / {0})",
    code: Code::Expand(|b, a| {
        let sin = vecmath::sin(b, a[0]);
        unless_zero(b, a[0], 1.0, Prim::Div, &[sin, a[0]])
    }),
    domain: (0.2, 3.0),
    kinks: &[0.0],
    ulps: 3.0,
};
/// Arcsine.
pub static ASIN: OpDef = OpDef {
    name: "Asin",
    doc: "arcsine; its derivative at ±1 is taken as 0",
    arity: 1,
    value: value!(|a| a.asin()),
    derivative: |x, _, t| vec![t * one_minus_square(x[0]).un(&RSQRT)],
    simplify: keep,
    cuda: "asin({0})",
    code: Code::Expand(|b, a| vecmath::asin(b, a[0])),
    domain: (-0.8, 0.8),
    kinks: &[-1.0, 1.0],
    ulps: 4.0,
};
/// Arccosine.
pub static ACOS: OpDef = OpDef {
    name: "Acos",
    doc: "arccosine; its derivative at ±1 is taken as 0",
    arity: 1,
    value: value!(|a| a.acos()),
    derivative: |x, _, t| vec![-(t * one_minus_square(x[0]).un(&RSQRT))],
    simplify: keep,
    cuda: "acos({0})",
    code: Code::Expand(|b, a| vecmath::acos(b, a[0])),
    domain: (-0.8, 0.8),
    kinks: &[-1.0, 1.0],
    ulps: 4.0,
};
/// Arctangent.
pub static ATAN: OpDef = OpDef {
    name: "Atan",
    doc: "arctangent, in (-π/2, π/2)",
    arity: 1,
    value: value!(|a| a.atan()),
    derivative: |x, _, t| vec![t * atan_slope(x[0])],
    simplify: keep,
    cuda: "atan({0})",
    code: Code::Expand(|b, a| vecmath::atan(b, a[0])),
    domain: (-3.0, 3.0),
    kinks: &[],
    ulps: 4.0,
};
/// Angle of the point (b, a).
pub static ATAN2: OpDef = OpDef {
    name: "Atan2",
    doc: "Atan2(a, b): angle of the point (b, a); its gradient at (0, 0) is taken as 0",
    arity: 2,
    value: value!(|a, b| a.atan2(b)),
    derivative: |x, _, t| angle_slopes(x[0], x[1], t),
    simplify: keep,
    cuda: "atan2({0}, {1})",
    code: Code::Expand(|b, a| vecmath::atan2(b, a[0], a[1])),
    domain: (0.3, 2.0),
    kinks: &[0.0],
    ulps: 4.0,
};

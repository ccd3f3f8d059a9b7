//! Inverse hyperbolic functions and sigmoids, by the logarithm of `1 + x`.

use super::math::Math;
use super::{PrimBuilder, Val, exp, log1p};
use std::f64::consts::LN_2;

/// Inverse hyperbolic sine.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::asinh};
/// assert_eq!(eval1(asinh, 1e-20_f64), 1e-20);
/// assert!((eval1(asinh, -1e300_f64) + 691.4686750787736).abs() < 1e-12);
/// ```
pub fn asinh(b: &mut dyn PrimBuilder, x: Val) -> Val {
    // asinh a = log1p(a + a / (h + 1/a)) with h = sqrt(1 + 1/a²), where no square overflows.
    let m = &Math::new(b);
    let (a, one) = (m.abs(x), m.c(1.0));
    let inverse = m.div(one, a);
    let h = m.sqrt(m.fma(inverse, inverse, one));
    let argument = m.add(a, m.div(a, m.add(h, inverse)));
    // 2 a overflows for the largest numbers.
    let large = m.lt(m.pick(1e30, 1e300), a);
    let safe = m.select(large, m.mul(a, m.c(0.25)), argument);
    let shift = m.select(large, m.c(3.0 * LN_2), m.c(0.0));
    let y = log1p(b, safe);
    let m = &Math::new(b);
    m.with_sign_of(m.add(y, shift), x)
}

/// Inverse hyperbolic cosine, NaN below 1.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::acosh};
/// assert_eq!(eval1(acosh, 1.0_f64), 0.0);
/// assert!(eval1(acosh, 0.5_f32).is_nan());
/// ```
pub fn acosh(b: &mut dyn PrimBuilder, x: Val) -> Val {
    // acosh x = log1p(u + sqrt(u) sqrt(u + 2)) with u = x - 1; log(2 x) where that is rounding.
    let m = &Math::new(b);
    let u = m.sub(x, m.c(1.0));
    let near = m.fma(m.sqrt(u), m.sqrt(m.add(u, m.c(2.0))), u);
    let large = m.lt(m.c(1e18), x);
    let argument = m.select(large, u, near);
    let shift = m.select(large, m.c(LN_2), m.c(0.0));
    let y = log1p(b, argument);
    let m = &Math::new(b);
    m.add(y, shift)
}

/// Inverse hyperbolic tangent, NaN outside [-1, 1].
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::atanh};
/// assert_eq!([-1.0, 1e-20_f64].map(|x| eval1(atanh, x)), [f64::NEG_INFINITY, 1e-20]);
/// ```
pub fn atanh(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    let a = m.abs(x);
    let argument = m.div(m.add(a, a), m.sub(m.c(1.0), a));
    let y = log1p(b, argument);
    let m = &Math::new(b);
    m.with_sign_of(m.mul(y, m.c(0.5)), x)
}

/// `1 / (1 + e^-x)`, accurate for any x.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::sigmoid};
/// assert_eq!([-f64::INFINITY, 0.0, 800.0].map(|x| eval1(sigmoid, x)), [0.0, 0.5, 1.0]);
/// ```
pub fn sigmoid(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let e = exp_of_minus_size(b, x);
    let m = &Math::new(b);
    let one = m.c(1.0);
    m.div(m.select(m.lt(x, m.c(0.0)), e, one), m.add(one, e))
}

/// `log(1 + e^x)`, accurate for any x.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::softplus};
/// assert_eq!([-f64::INFINITY, 800.0].map(|x| eval1(softplus, x)), [0.0, 800.0]);
/// ```
pub fn softplus(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let e = exp_of_minus_size(b, x);
    let tail = log1p(b, e);
    let m = &Math::new(b);
    let zero = m.c(0.0);
    m.add(m.select(m.lt(x, zero), zero, x), tail)
}

fn exp_of_minus_size(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    let size = m.sub(m.c(0.0), m.abs(x));
    exp(b, size)
}

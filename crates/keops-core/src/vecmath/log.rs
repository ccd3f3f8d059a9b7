//! Logarithms.

use super::coef::{LN2_PARTS, LOG_DOUBLE, LOG_SINGLE, LOG2E};
use super::math::Math;
use super::{PrimBuilder, Val};
use std::f64::consts::{LN_2, SQRT_2};

/// `(e, f)` with `x = 2^e (1 + f)` and `1 + f` in `[top / 2, top)`; `e` is infinite for 0 and
/// infinities, and then `f` is finite.
pub(super) fn centred(m: &Math, x: Val, top: f64) -> (Val, Val) {
    let e = m.exponent(x);
    let s = m.significand(x);
    let one = m.c(1.0);
    let below = m.lt(s, m.c(top));
    let f = m.select(below, m.sub(s, one), m.fms(s, m.c(0.5), one));
    (m.select(below, e, m.add(e, one)), f)
}

/// [`centred`] for [`log1p_minus`]: `f` in `[-1/3, 1/3]` for its polynomial in `f`, and `1 + f` in
/// `[sqrt(1/2), sqrt(2)]`, the interval that is symmetric for atanh.
fn centred_for_log(m: &Math, x: Val) -> (Val, Val) {
    centred(m, x, if m.single() { 4.0 / 3.0 } else { SQRT_2 })
}

/// `log(1 + f) - f` for `f` of [`centred`].
fn log1p_minus(m: &Math, f: Val) -> Val {
    if m.single() {
        return m.mul(m.mul(f, f), m.poly(f, LOG_SINGLE));
    }
    // With s = f / (2 + f), log(1 + f) = 2 atanh(s) = f - (f^2/2 - s (f^2/2 + R(s^2))), as in
    // fdlibm's e_log.c: the division costs less than the eleven further terms of a series in f.
    let s = m.div(f, m.add(m.c(2.0), f));
    let z = m.mul(s, s);
    let h = m.mul(m.mul(f, m.c(0.5)), f);
    let u = m.fma(m.poly(z, LOG_DOUBLE), z, h);
    m.fms(s, u, h)
}

/// NaN where `x < 0`, else `y`.
fn nan_if_negative(m: &Math, x: Val, y: Val) -> Val {
    m.select(m.lt(x, m.c(0.0)), m.c(f64::NAN), y)
}

/// Natural logarithm: -inf for ±0, NaN below.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::log};
/// let inf = f64::INFINITY;
/// assert_eq!([1.0, -0.0, inf].map(|x| eval1(log, x)), [0.0, -inf, inf]);
/// assert!((eval1(log, 10.0_f64) - std::f64::consts::LN_10).abs() < 1e-15);
/// assert!(eval1(log, -1.0_f64).is_nan());
/// ```
pub fn log(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    let (e, f) = centred_for_log(m, x);
    let y = if m.single() {
        let p = m.fma(m.mul(f, f), m.poly(f, LOG_SINGLE), f);
        m.fma(e, m.c(LN_2), p)
    } else {
        let lo = m.fma(e, m.coef(&LN2_PARTS, 1), log1p_minus(m, f));
        m.fma(e, m.coef(&LN2_PARTS, 0), m.add(f, lo))
    };
    nan_if_negative(m, x, y)
}

/// Binary logarithm: -inf for ±0, NaN below, exact for powers of two.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::log2};
/// assert_eq!(eval1(log2, f64::from_bits(1)), -1074.0); // the smallest subnormal number
/// ```
pub fn log2(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    let (e, f) = centred_for_log(m, x);
    // (f + t) log2(e), the largest product last.
    let t = log1p_minus(m, f);
    let (hi, lo) = (m.coef(&LOG2E, 0), m.coef(&LOG2E, 1));
    let p = m.fma(f, hi, m.fma(t, hi, m.mul(f, lo)));
    nan_if_negative(m, x, m.add(e, p))
}

/// `log(1 + x)`, accurate near 0: -inf for -1, NaN below.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::log1p};
/// assert_eq!(eval1(log1p, 1e-20_f64), 1e-20); // log(1 + 1e-20) would be 0
/// assert_eq!(eval1(log1p, -1.0_f32), f32::NEG_INFINITY);
/// ```
pub fn log1p(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    let one = m.c(1.0);
    let sum = m.add(x, one);
    // 1 + x = 2^e (1 + f) with e from the rounded sum and f = 2^-e x + (2^-e - 1), rounded once.
    let (e, rough) = centred_for_log(m, sum);
    let s = m.scale(one, m.sub(m.c(0.0), e));
    let f = m.fma(x, s, m.sub(s, one));
    // The pole and infinity, where s is infinite or 0.
    let f = m.select(m.lt(m.abs(e), m.c(f64::INFINITY)), f, rough);
    let lo = m.fma(e, m.coef(&LN2_PARTS, 1), log1p_minus(m, f));
    let y = m.fma(e, m.coef(&LN2_PARTS, 0), m.add(f, lo));
    // The sign only matters for -0.
    let y = m.real_of_bits(m.int_or(m.to_bits(y), m.sign_bit(x)));
    nan_if_negative(m, sum, y)
}

//! Logarithms and powers.

use super::coef::{EXP2, LN2_PARTS, LOG_DOUBLE, LOG_SINGLE, LOG2E, POW_C, POW_D, POW_Q};
use super::math::Math;
use super::power::POWER;
use super::{PrimBuilder, Val};
use std::f64::consts::{LN_2, SQRT_2};

/// `(e, f)` with `x = 2^e (1 + f)` and `1 + f` in `[top / 2, top)`; `e` is infinite for 0 and
/// infinities, and then `f` is finite.
fn centred(m: &Math, x: Val, top: f64) -> (Val, Val) {
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

/// `hi + lo = log2(x)` to about 1.3 times the digits of the type, for finite `x > 0`.
///
/// `log2(m) = s (C + z (D + z Q(z)))` with `s = (m - 1) / (m + 1)`, `z = s^2`; every quantity but
/// `Q` is an unevaluated sum of two numbers, with error-free products by fused multiply-add and
/// Dekker's fast two-sum.
fn log2_parts(m: &Math, x: Val) -> (Val, Val) {
    let (e, f) = centred(m, x, SQRT_2);
    let two = m.c(2.0);
    let d = m.add(f, two);
    let d_lo = m.sub(f, m.sub(d, two));
    let inverse = m.div(m.c(1.0), d);
    let s = m.mul(f, inverse);
    let remainder = m.fnma(s, d_lo, m.fnma(s, d, f));
    let s_lo = m.mul(remainder, inverse);

    let z = m.mul(s, s);
    let z_lo = m.fma(m.add(s, s), s_lo, m.fms(s, s, z));
    let w = m.mul(z, m.poly(z, m.list(&POW_Q)));
    let (t, t_lo) = fast_two_sum(m, m.coef(&POW_D, 0), w);
    let t_lo = m.add(t_lo, m.coef(&POW_D, 1));
    let u = m.mul(z, t);
    let u_lo = m.fma(z_lo, t, m.fma(z, t_lo, m.fms(z, t, u)));
    let (v, v_lo) = fast_two_sum(m, m.coef(&POW_C, 0), u);
    let v_lo = m.add(v_lo, m.add(u_lo, m.coef(&POW_C, 1)));
    let p = m.mul(s, v);
    let p_lo = m.fma(s_lo, v, m.fma(s, v_lo, m.fms(s, v, p)));
    let (l, l_lo) = fast_two_sum(m, e, p);
    (l, m.add(l_lo, p_lo))
}

/// `a + b` as rounded sum and error, for `|a| >= |b|` or `a = 0`.
fn fast_two_sum(m: &Math, a: Val, b: Val) -> (Val, Val) {
    let sum = m.add(a, b);
    (sum, m.add(m.sub(a, sum), b))
}

/// `x^y` with the corner cases of IEEE 754-2019, 9.2.1 (C's `pow`).
///
/// ```
/// use keops_core::{prim_eval::eval2, vecmath::pow};
/// assert_eq!([eval2(pow, 2.0_f64, 10.0), eval2(pow, -2.0_f64, 3.0)], [1024.0, -8.0]);
/// assert_eq!([eval2(pow, f64::NAN, 0.0), eval2(pow, 1.0, f64::NAN)], [1.0, 1.0]);
/// assert!(eval2(pow, -2.0_f64, 0.5).is_nan());
/// ```
pub fn pow(b: &mut dyn PrimBuilder, x: Val, y: Val) -> Val {
    let m = &Math::new(b);
    let (product, value) = positive_power(m, x, y);
    // Beyond the bound the error of the product exceeds its integer part. The comparison also
    // finds infinite and NaN arguments and x = 0.
    let inside = m.lt(m.abs(product), m.c(POWER_BOUND));
    let rest = m.not(m.and(inside, m.lt(m.c(0.0), x)));
    m.call_if(&POWER, rest, value, &[x, y])
}

/// Largest `|y log2(x)|` of [`positive_power`], far beyond overflow.
pub(super) const POWER_BOUND: f64 = 1048576.0;

/// `(y log2(x), x^y)` for finite `x > 0` and products up to [`POWER_BOUND`].
pub(super) fn positive_power(m: &Math, x: Val, y: Val) -> (Val, Val) {
    let (l, l_lo) = log2_parts(m, x);
    let q = m.mul(y, l);
    let q_lo = m.fma(y, l_lo, m.fms(y, l, q));
    let n = m.round(q);
    let f = m.add(m.sub(q, n), q_lo);
    (q, m.scale(m.one_plus(f, m.list(&EXP2)), n))
}

/// `x^n` by binary powering: repeated multiplication, then the inverse for `n < 0`; `x^0 = 1`.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::powi};
/// assert_eq!([3, 0, -2].map(|n| eval1(|m, x| powi(m, x, n), -2.0_f32)), [-8.0, 1.0, 0.25]);
/// ```
pub fn powi(b: &mut dyn PrimBuilder, x: Val, n: i32) -> Val {
    let m = &Math::new(b);
    let mut rest = n.unsigned_abs();
    let (mut square, mut product) = (x, None);
    while rest != 0 {
        if rest & 1 == 1 {
            product = Some(product.map_or(square, |p| m.mul(p, square)));
        }
        rest >>= 1;
        if rest != 0 {
            square = m.mul(square, square);
        }
    }
    let one = m.c(1.0);
    match product {
        None => one,
        Some(p) if n < 0 => m.div(one, p),
        Some(p) => p,
    }
}

/// `1 / sqrt(x)`: infinity for 0, NaN below.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::rsqrt};
/// assert_eq!([4.0_f32, 0.0, f32::INFINITY].map(|x| eval1(rsqrt, x)), [0.5, f32::INFINITY, 0.0]);
/// assert!(eval1(rsqrt, -1.0_f32).is_nan());
/// ```
pub fn rsqrt(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    m.div(m.c(1.0), m.sqrt(x))
}

//! Trigonometric functions and their inverses.

use super::coef::{ASIN, ATAN, HALF_PI_PARTS, PI_PARTS, SIN, TAN};
use super::math::{Coefs, Math};
use super::trig_large::{COSINE, SINE, TANGENT};
use super::{PrimBuilder, Val};
use std::f64::consts::{FRAC_1_PI, FRAC_2_PI};

/// Mask of the arguments for which [`remainder`] is not accurate: infinite ones and those from
/// 2^17 (f32) or 2^40 (f64) on.
fn large(m: &Math, x: Val) -> Val {
    m.le(m.pick(131072.0, 1099511627776.0), m.abs(x))
}

/// Rounds a sum to the nearest integer `n`: an integer with the low bits of `n`, and `n` itself.
///
/// `shifted` adds the sum to 3/2 of the number whose last place counts units.
fn nearest(m: &Math, shifted: impl FnOnce(Val) -> Val) -> (Val, Val) {
    let magic = m.pick(12582912.0, 6755399441055744.0);
    let s = shifted(magic);
    (m.to_bits(s), m.sub(s, magic))
}

/// `x - n unit` with three parts of the unit (Cody and Waite): with fused multiply-adds the first
/// step is exact and the others round once each, the last one by less than the result's last place
/// unless the result nearly vanishes.
fn remainder(m: &Math, x: Val, n: Val, unit: &Coefs) -> Val {
    (0..3).fold(x, |r, k| m.fnma(n, m.coef(unit, k), r))
}

/// `sin(r)` for `|r| <= pi / 2 + 0.01`.
pub(super) fn sin_reduced(m: &Math, r: Val) -> Val {
    let z = m.mul(r, r);
    m.fma(m.mul(r, z), m.poly(z, m.list(&SIN)), r)
}

/// `tan(r)` for `|r| <= pi / 4`.
pub(super) fn tan_reduced(m: &Math, r: Val) -> Val {
    let z = m.mul(r, r);
    m.fma(m.mul(r, z), m.poly(z, m.list(&TAN)), r)
}

/// `-a` where the last bit of `n` is set.
fn flip_if_odd(m: &Math, a: Val, n: Val) -> Val {
    m.flip_sign(a, m.shl(n, if m.single() { 31 } else { 63 }))
}

/// Sine of an angle in radians, however large; NaN for infinities.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::sin};
/// assert!((eval1(sin, std::f64::consts::FRAC_PI_6) - 0.5).abs() < 1e-15);
/// assert!((eval1(sin, 1e22_f64) + 0.8522008497671888).abs() < 1e-15);
/// assert!(eval1(sin, f32::INFINITY).is_nan());
/// ```
pub fn sin(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    // Multiples of pi rather than pi/2: a longer polynomial, but one instead of two.
    // The sign of x comes last, because the sums would lose that of -0.
    let a = m.abs(x);
    let (n, real_n) = nearest(m, |magic| m.fma(a, m.c(FRAC_1_PI), magic));
    let r = remainder(m, a, real_n, &PI_PARTS);
    let y = m.flip_sign(flip_if_odd(m, sin_reduced(m, r), n), m.sign_bit(x));
    m.call_if(&SINE, large(m, x), y, &[x])
}

/// Cosine of an angle in radians, however large; NaN for infinities.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::cos};
/// assert_eq!(eval1(cos, 0.0_f32), 1.0);
/// assert!((eval1(cos, std::f64::consts::FRAC_PI_3) - 0.5).abs() < 1e-15);
/// ```
pub fn cos(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    // cos(x) = (-1)^(n+1) sin(x - (n + 1/2) pi), hence a remainder of opposite sign.
    let half = m.c(0.5);
    let (n, real_n) = nearest(m, |magic| m.add(m.fms(x, m.c(FRAC_1_PI), half), magic));
    let k = m.add(real_n, half);
    let r = m.fms(k, m.coef(&PI_PARTS, 0), x);
    let r = m.fma(k, m.coef(&PI_PARTS, 1), r);
    let r = m.fma(k, m.coef(&PI_PARTS, 2), r);
    let y = flip_if_odd(m, sin_reduced(m, r), n);
    m.call_if(&COSINE, large(m, x), y, &[x])
}

/// Tangent of an angle in radians, however large; NaN for infinities.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::tan};
/// assert!((eval1(tan, std::f64::consts::FRAC_PI_4) - 1.0).abs() < 1e-15);
/// ```
pub fn tan(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    let a = m.abs(x);
    let (n, real_n) = nearest(m, |magic| m.fma(a, m.c(FRAC_2_PI), magic));
    let t = tan_reduced(m, remainder(m, a, real_n, &HALF_PI_PARTS));
    let even = m.int_eq(m.int_and(n, m.int(1)), m.int(0));
    let y = m.select(even, t, m.div(m.c(-1.0), t));
    let y = m.flip_sign(y, m.sign_bit(x));
    m.call_if(&TANGENT, large(m, x), y, &[x])
}

/// `asin(t)` for `0 <= t <= 1/2`, `z = t^2`.
fn asin_reduced(m: &Math, t: Val, z: Val) -> Val {
    m.fma(m.mul(t, z), m.poly(z, m.list(&ASIN)), t)
}

/// `(small, asin(t))` with `t = |x|` where small, that is `|x| < 1/2`, and else
/// `t = sqrt((1 - |x|) / 2)`, which is NaN for `|x| > 1`.
fn asin_parts(m: &Math, x: Val) -> (Val, Val) {
    let (a, half) = (m.abs(x), m.c(0.5));
    let small = m.lt(a, half);
    let z = m.select(small, m.mul(a, a), m.fnma(half, a, half));
    let t = m.select(small, a, m.sqrt(z));
    (small, asin_reduced(m, t, z))
}

/// Arc sine in radians; NaN outside of [-1, 1].
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::asin};
/// assert!((eval1(asin, 0.5_f64) - std::f64::consts::FRAC_PI_6).abs() < 1e-15);
/// assert!(eval1(asin, 1.0001_f32).is_nan());
/// ```
pub fn asin(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    // asin(a) = pi/2 - 2 asin(sqrt((1 - a) / 2))
    let (small, p) = asin_parts(m, x);
    let rest = m.fnma(m.c(2.0), p, m.coef(&HALF_PI_PARTS, 0));
    let y = m.select(small, p, m.add(rest, m.coef(&HALF_PI_PARTS, 1)));
    m.with_sign_of(y, x)
}

/// Arc cosine in radians, within [0, π]; NaN outside of [-1, 1].
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::acos};
/// assert_eq!([eval1(acos, 1.0_f64), eval1(acos, -1.0_f64)], [0.0, std::f64::consts::PI]);
/// ```
pub fn acos(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    // With s = ±asin(t): pi/2 - s where small, else 2 s for x > 0 and pi + 2 s for x < 0.
    let (small, p) = asin_parts(m, x);
    let s = m.flip_sign(p, m.sign_bit(x));
    let zero = m.c(0.0);
    let far = m.select(m.lt(x, zero), m.coef(&PI_PARTS, 0), zero);
    let base = m.select(small, m.coef(&HALF_PI_PARTS, 0), far);
    let factor = m.select(small, m.c(-1.0), m.c(2.0));
    m.add(m.fma(factor, s, low_part(m, base)), base)
}

/// What `base`, a multiple of the high part of pi, lacks.
fn low_part(m: &Math, base: Val) -> Val {
    let parts = m.list(&PI_PARTS);
    m.mul(base, m.c(parts[1] / parts[0]))
}

/// `base + atan(t)` for `|t| <= 1` and a base of 0, pi/2 or pi (high part).
fn atan_onto(m: &Math, t: Val, base: Val) -> Val {
    let z = m.mul(t, t);
    let p = m.fma(m.mul(t, z), m.poly(z, m.list(&ATAN)), t);
    m.add(m.add(p, low_part(m, base)), base)
}

/// Arc tangent in radians.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::atan};
/// assert_eq!(eval1(atan, f64::INFINITY), std::f64::consts::FRAC_PI_2);
/// assert_eq!(eval1(atan, 1e-20_f64), 1e-20);
/// ```
pub fn atan(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    // atan(a) = pi/2 + atan(-1 / a)
    let a = m.abs(x);
    let big = m.lt(m.c(1.0), a);
    let t = m.select(big, m.div(m.c(-1.0), a), a);
    let base = m.select(big, m.coef(&HALF_PI_PARTS, 0), m.c(0.0));
    m.with_sign_of(atan_onto(m, t, base), x)
}

/// Angle of the point `(x, y)` in `[-pi, pi]`, with the signed zeros and infinities of C's
/// `atan2`.
///
/// ```
/// use keops_core::{prim_eval::eval2, vecmath::atan2};
/// use std::f64::consts::{FRAC_PI_2, PI};
/// assert_eq!([eval2(atan2, 1.0, 0.0), eval2(atan2, -0.0, -1.0)], [FRAC_PI_2, -PI]);
/// ```
pub fn atan2(b: &mut dyn PrimBuilder, y: Val, x: Val) -> Val {
    let m = &Math::new(b);
    let (zero, one) = (m.c(0.0), m.c(1.0));
    let (a, h) = (m.abs(x), m.abs(y));
    // In the upper half plane: pi/2 - atan(x / h) where h > |x|, else (0 or pi) + atan(h / x).
    let steep = m.lt(a, h);
    let t = m.div(m.select(steep, m.sub(zero, x), h), m.select(steep, h, x));
    // 0 / 0 counts as 0, inf / ±inf as ±1.
    let undefined = m.and(m.eq(a, h), m.eq(a, m.add(a, a)));
    let t = m.select(undefined, m.with_sign_of(m.min(a, one), x), t);
    let left = m.int_lt(m.to_bits(x), m.int(0));
    let flat = m.select(left, m.coef(&PI_PARTS, 0), zero);
    let base = m.select(steep, m.coef(&HALF_PI_PARTS, 0), flat);
    m.with_sign_of(atan_onto(m, t, base), y)
}

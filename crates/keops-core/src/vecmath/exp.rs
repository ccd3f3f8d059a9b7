//! Exponentials and hyperbolic functions.

use super::coef::{EXP, EXP2, EXP2_CHEAP, EXP2_LEADING, EXP2_MONIC, EXPM1, LN2_PARTS};
use super::math::Math;
use super::{Bound, PrimBuilder, Scaling, Val};

/// `e^x`, right over the whole range: 0 and infinity beyond the range of the type, subnormal
/// results rounded once more, NaN for NaN.
///
/// `x = n ln 2 + r` with `n ln2_hi` exact (Cody and Waite), then `2^n e^r`.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::exp};
/// assert_eq!(eval1(exp, 0.0_f32), 1.0);
/// assert!((eval1(exp, 1.0_f64) - std::f64::consts::E).abs() <= f64::EPSILON * 2.0); // one ulp
/// assert_eq!([100.0_f32, f32::NEG_INFINITY].map(|x| eval1(exp, x)), [f32::INFINITY, 0.0]);
/// ```
pub fn exp(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    let (n, r) = reduce(m, x);
    m.scale(m.one_plus(r, m.list(&EXP)), n)
}

/// `(n, r)` with `x = n ln 2 + r`, `|r| <= ln 2 / 2`, for `x` cut to a range outside of which even
/// `e^x / 2` is 0 or infinite; in it `2^(n-2)` is finite.
fn reduce(m: &Math, x: Val) -> (Val, Val) {
    // Argument order: both keep a NaN.
    let x = m.max(m.pick(-104.0, -746.0), x);
    let x = m.min(m.pick(89.7, 710.8), x);
    let n = m.round(m.mul(x, m.c(std::f64::consts::LOG2_E)));
    let r = m.fnma(n, m.coef(&LN2_PARTS, 0), x);
    (n, m.fnma(n, m.coef(&LN2_PARTS, 1), r))
}

/// `y 2^n factor` with `t = n + f`, `|f| <= 1/2` and `y` the polynomial of `f`, between 1/2 and
/// 2^30; `y factor` is about 1. Zero for -inf, infinity for +inf.
fn scaled(m: &Math, t: Val, factor: f64, polynomial: impl Fn(Val) -> Val) -> Val {
    if m.scaling() == Scaling::Integer {
        return scaled_by_bits(m, t, m.bound(t), factor, polynomial);
    }
    let n = m.round(t);
    // Infinite t: the difference is NaN, the minimum 1/2, and the scale gives 0 or infinity.
    let f = m.sub(t, n);
    let f = if m.scaling() == Scaling::AbsorbsNan { f } else { m.min(f, m.c(0.5)) };
    m.times(m.scale(polynomial(f), n), factor)
}

/// The same by products with powers of two that are made of bits. A subnormal result is the
/// product of two normal numbers, so that it is rounded once.
fn scaled_by_bits(
    m: &Math,
    t: Val,
    bound: Bound,
    factor: f64,
    polynomial: impl Fn(Val) -> Val,
) -> Val {
    if bound != Bound::Unknown {
        let (y, down) = raised(m, t, bound, polynomial);
        return m.mul(y, m.c(factor * down));
    }
    // y 2^h 2^(n - h) with h = floor(n / 2)
    let (mantissa, bias) = layout(m);
    // Below this bound results are 0. Argument order: it keeps a NaN.
    let t = m.max(m.pick(-165.0, -1090.0), t);
    let t = m.min(m.pick(130.0, 1030.0), t);
    let (bits, y) = split(m, t, 2 * bias, polynomial);
    let half = m.shl(m.shr(bits, 1), mantissa);
    let rest = m.int_sub(m.shl(bits, mantissa), half);
    let y = m.mul(m.mul(y, m.real_of_bits(half)), m.real_of_bits(rest));
    m.times(y, factor)
}

/// `(y 2^(n + up), 2^-up)` where n is not large: the first is a normal number where the product of
/// both is not 0, 0 for the least n, and infinite for the greatest.
fn raised(m: &Math, t: Val, bound: Bound, polynomial: impl Fn(Val) -> Val) -> (Val, f64) {
    let (mantissa, bias) = layout(m);
    let up = if m.single() { 44 } else { 80 };
    // The least n makes the bits of the power of two 0. Argument order: it keeps a NaN.
    let mut t = m.max(m.c(f64::from(-bias - up)), t);
    if bound != Bound::Nonpositive {
        t = m.min(m.c(f64::from(bias + 1 - up)), t);
    }
    let (bits, y) = split(m, t, bias + up, polynomial);
    (m.mul(y, m.real_of_bits(m.shl(bits, mantissa))), (-f64::from(up)).exp2())
}

/// Bits of the mantissa, and the bias of the exponent.
fn layout(m: &Math) -> (u8, i32) {
    if m.single() { (23, 127) } else { (52, 1023) }
}

/// `n + more` in the low bits of an integer, and the polynomial of f, for `t = n + f`.
fn split(m: &Math, t: Val, more: i32, polynomial: impl Fn(Val) -> Val) -> (Val, Val) {
    // Added to 3/2 2^mantissa, n stands in the low bits of the sum, rounded to nearest even.
    let magic = m.c(1.5 * f64::from(layout(m).0).exp2() + f64::from(more));
    let shifted = m.add(t, magic);
    (m.to_bits(shifted), polynomial(m.sub(t, m.sub(shifted, magic))))
}

/// `2^f` divided by its leading coefficient: the first step of Horner's rule is an addition, which
/// runs beside the fused operations of the others instead of among them.
fn monic(m: &Math, f: Val) -> Val {
    let (highest, rest) = m.list(&EXP2_MONIC).split_last().expect("a list of coefficients");
    rest.iter().rev().fold(m.add(f, m.c(*highest)), |p, &c| m.fma(p, f, m.c(c)))
}

/// `2^t`, right over the whole range; exact for integers.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::exp2};
/// let powers = [-149.0_f32, 10.0, 128.0].map(|t| eval1(exp2, t));
/// assert_eq!(powers, [f32::from_bits(1), 1024.0, f32::INFINITY]);
/// ```
pub fn exp2(b: &mut dyn PrimBuilder, t: Val) -> Val {
    let m = &Math::new(b);
    scaled(m, t, 1.0, |f| m.one_plus(f, m.list(&EXP2)))
}

/// `2^t` with one polynomial term less, exactly 1 at 0: relative error 2.0 ulp (f32) and 1.6 ulp
/// (f64). Right over the whole range.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::exp2_cheap};
/// assert_eq!(eval1(exp2_cheap, 0.0_f32), 1.0);
/// let relative = eval1(exp2_cheap, 0.5_f32) / std::f32::consts::SQRT_2 - 1.0;
/// assert!(relative.abs() <= 2.0 * f32::EPSILON);
/// ```
pub fn exp2_cheap(b: &mut dyn PrimBuilder, t: Val) -> Val {
    let m = &Math::new(b);
    if leading_is_free(m, t) {
        scaled(m, t, m.list(&EXP2_LEADING)[0], |f| monic(m, f))
    } else {
        scaled(m, t, 1.0, |f| m.one_plus(f, m.list(&EXP2_CHEAP)))
    }
}

/// Is there a multiplication by a constant in the exponential that takes the leading coefficient?
fn leading_is_free(m: &Math, t: Val) -> bool {
    m.scaling() == Scaling::Integer && m.bound(t) != Bound::Unknown
}

/// `(y, leading)` with `2^t = leading · y`, as accurate as [`exp2_cheap`] and faster than it, for
/// terms of sums whose constant factors are taken out of the sum.
///
/// `y` may overflow where `2^t` does not (from 2^70 or 2^900 on): the caller must watch for results that
/// are infinite or NaN, and then run the program that was lowered without
/// [`factor_sums`](crate::lower::LowerOptions::factor_sums). `leading` may be small; `y` is then
/// never subnormal.
///
/// ```
/// use keops_core::prim_eval::{LaneValue, Scalar};
/// use keops_core::vecmath::exp2_watched;
/// let mut m = Scalar::<f64>::new();
/// let t = m.input(LaneValue::Real(-1.0));
/// let (y, leading) = exp2_watched(&mut m, t);
/// assert!((leading * m.value(y).real() - 0.5).abs() < 1e-15);
/// ```
pub fn exp2_watched(b: &mut dyn PrimBuilder, t: Val) -> (Val, f64) {
    let m = &Math::new(b);
    let leading = m.list(&EXP2_LEADING)[0];
    let polynomial = |f| monic(m, f);
    if m.scaling() == Scaling::Integer {
        // Large results may be infinite.
        let bound = match m.bound(t) {
            Bound::Unknown => Bound::NonpositiveOrInfinite,
            known => known,
        };
        let (y, down) = raised(m, t, bound, polynomial);
        (y, leading * down)
    } else {
        (scaled(m, t, 1.0, polynomial), leading)
    }
}

/// `e^x` as [`exp2_cheap`]`(x log2(e))`, for terms of sums.
///
/// The rounded product adds a relative error of up to `1.25 |x| 2^-p`, p = 24 (f32) or 53 (f64),
/// which is harmless where many terms are added: a term small enough to be so wrong hardly counts.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::exp_cheap};
/// let relative = eval1(exp_cheap, -10.0_f64) / (-10.0_f64).exp() - 1.0;
/// assert!(relative.abs() < 20.0 * f64::EPSILON);
/// assert_eq!(eval1(exp_cheap, f64::NEG_INFINITY), 0.0);
/// ```
pub fn exp_cheap(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let log2e = b.real(std::f64::consts::LOG2_E);
    let t = b.prim(crate::prim::Prim::Mul, &[x, log2e]);
    exp2_cheap(b, t)
}

/// `(e^x - 1) / 4`, a form that is finite where `e^x / 2` is.
fn quarter_expm1(m: &Math, x: Val) -> Val {
    let (n, r) = reduce(m, x);
    let p = m.fma(m.mul(r, r), m.poly(r, m.list(&EXPM1)), r);
    // (2^n (e^r - 1) + 2^n - 1) / 4
    let s = m.scale(m.c(0.25), n);
    m.fma(s, p, m.sub(s, m.c(0.25)))
}

/// `x` where `a = |x|` is so small that `y` equals it to the last place and that the halves in the
/// computation of `y` could have lost digits of a subnormal number.
fn unless_tiny(m: &Math, a: Val, y: Val, x: Val) -> Val {
    m.select(m.lt(a, m.pick(1e-30, 1e-290)), x, y)
}

/// `e^x - 1`, accurate near 0.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::expm1};
/// assert_eq!(eval1(expm1, 1e-20_f64), 1e-20); // exp(1e-20) - 1 would be 0
/// assert_eq!(eval1(expm1, f64::NEG_INFINITY), -1.0);
/// ```
pub fn expm1(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    let y = m.mul(quarter_expm1(m, x), m.c(4.0));
    unless_tiny(m, m.abs(x), y, x)
}

/// Hyperbolic sine.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::sinh};
/// assert_eq!(eval1(sinh, 1e-20_f64), 1e-20);
/// assert!((eval1(sinh, 1.0_f64) - 1.1752011936438014).abs() < 1e-15);
/// ```
pub fn sinh(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    // With h = (e^|x| - 1) / 2: sinh |x| = h + h / (2 h + 1), and q = h / 2.
    let a = m.abs(x);
    let q = quarter_expm1(m, a);
    let h = m.add(q, q);
    let y = m.add(h, m.div(q, m.add(h, m.c(0.5))));
    m.with_sign_of(unless_tiny(m, a, y, a), x)
}

/// Hyperbolic cosine, without overflow before its own.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::cosh};
/// assert_eq!(eval1(cosh, 0.0_f32), 1.0);
/// assert!(eval1(cosh, 89.0_f32).is_finite()); // exp(89) is not
/// ```
pub fn cosh(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    // With h = e^|x| / 2: cosh x = h + 1 / (4 h).
    let (n, r) = reduce(m, m.abs(x));
    let h = m.scale(m.mul(m.one_plus(r, m.list(&EXP)), m.c(0.5)), n);
    m.add(h, m.div(m.c(0.25), h))
}

/// Hyperbolic tangent, within [-1, 1].
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::tanh};
/// assert_eq!([-f32::INFINITY, -0.0, 50.0].map(|x| eval1(tanh, x)), [-1.0, 0.0, 1.0]);
/// ```
pub fn tanh(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    // With q = (e^(2|x|) - 1) / 4: tanh |x| = q / (q + 1/2), which is 1 long before the bound.
    let a = m.min(m.c(20.0), m.abs(x));
    let q = quarter_expm1(m, m.add(a, a));
    let y = m.div(q, m.add(q, m.c(0.5)));
    m.with_sign_of(unless_tiny(m, a, y, a), x)
}

//! Exponentials and hyperbolic functions.

use super::coef::{EXP, EXP2, EXP2_CHEAP, EXPM1, LN2_PARTS};
use super::math::Math;
use super::{PrimBuilder, Val};

/// `e^x`, right over the whole range: 0 and infinity beyond the range of the type, subnormal
/// results rounded once more, NaN for NaN.
///
/// `x = n ln 2 + r` with `n ln2_hi` exact (Cody and Waite), then `2^n e^r`.
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

/// `2^t` by a polynomial `1 + f (c[0] + …)` of the fraction.
fn exp2_with(m: &Math, t: Val, c: &[f64]) -> Val {
    let n = m.round(t);
    // Infinite t: the difference is NaN, the minimum 1/2, and the scale gives 0 or infinity.
    let f = m.sub(t, n);
    let f = if m.scale_absorbs_nan() { f } else { m.min(f, m.c(0.5)) };
    m.scale(m.one_plus(f, c), n)
}

/// `2^t`, right over the whole range.
pub fn exp2(b: &mut dyn PrimBuilder, t: Val) -> Val {
    let m = &Math::new(b);
    exp2_with(m, t, m.list(&EXP2))
}

/// `2^t` with one polynomial term less, exactly 1 at 0: relative error 2.0 ulp (f32) and 1.6 ulp
/// (f64). Right over the whole range.
pub fn exp2_cheap(b: &mut dyn PrimBuilder, t: Val) -> Val {
    let m = &Math::new(b);
    exp2_with(m, t, m.list(&EXP2_CHEAP))
}

/// `e^x` as [`exp2_cheap`]`(x log2(e))`, for terms of sums.
///
/// The rounded product adds a relative error of up to `1.25 |x| 2^-p`, p = 24 (f32) or 53 (f64),
/// which is harmless where many terms are added: a term small enough to be so wrong hardly counts.
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
pub fn expm1(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    let y = m.mul(quarter_expm1(m, x), m.c(4.0));
    unless_tiny(m, m.abs(x), y, x)
}

/// Hyperbolic sine.
pub fn sinh(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    // With h = (e^|x| - 1) / 2: sinh |x| = h + h / (2 h + 1), and q = h / 2.
    let a = m.abs(x);
    let q = quarter_expm1(m, a);
    let h = m.add(q, q);
    let y = m.add(h, m.div(q, m.add(h, m.c(0.5))));
    m.with_sign_of(unless_tiny(m, a, y, a), x)
}

/// Hyperbolic cosine.
pub fn cosh(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    // With h = e^|x| / 2: cosh x = h + 1 / (4 h).
    let (n, r) = reduce(m, m.abs(x));
    let h = m.scale(m.mul(m.one_plus(r, m.list(&EXP)), m.c(0.5)), n);
    m.add(h, m.div(m.c(0.25), h))
}

/// Hyperbolic tangent.
pub fn tanh(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    // With q = (e^(2|x|) - 1) / 4: tanh |x| = q / (q + 1/2), which is 1 long before the bound.
    let a = m.min(m.c(20.0), m.abs(x));
    let q = quarter_expm1(m, m.add(a, a));
    let y = m.div(q, m.add(q, m.c(0.5)));
    m.with_sign_of(unless_tiny(m, a, y, a), x)
}

//! Radial functions of a squared distance, for orders that are known when code is made.

use super::math::Math;
use super::{PrimBuilder, Val, cos, exp, log, pow, powi, sin};
use crate::prim::ScalarFn;

/// Factor of `s² P_{n-2}` in the recurrence of the polynomials of Matérn functions, `n >= 2`.
pub(crate) fn matern_ratio(n: u32) -> f64 {
    1.0 / f64::from((2 * n - 1) * (2 * n - 3))
}

/// `(s, r)` with `s + r = sqrt(u)` to about twice the digits, for `u >= 0` far from overflow.
fn root(m: &Math, u: Val) -> (Val, Val) {
    let s = m.sqrt(u);
    // Argument order: it keeps a NaN.
    let safe = m.max(m.pick(1e-30, 1e-300), s);
    (s, m.mul(m.c(0.5), m.div(m.fnma(s, s, u), safe)))
}

/// `exp(-s) P_p(s)` with `s = sqrt(w)`: the Matérn function of order `p + 1/2`; 0 for infinity, NaN
/// below 0. The rounding of `s`, which `exp` makes large, is made good.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::matern};
/// let s = 1.5_f64;
/// let expected = [1.0, 1.0 + s, 1.0 + s + s * s / 3.0].map(|p| p * (-s).exp());
/// for (p, expected) in expected.into_iter().enumerate() {
///     assert!((eval1(|b, w| matern(b, w, p as u32), s * s) - expected).abs() < 1e-15);
/// }
/// ```
pub fn matern(b: &mut dyn PrimBuilder, w: Val, p: u32) -> Val {
    let (w, s, low, half) = {
        let m = &Math::new(b);
        // Beyond these the result is 0, and polynomials are finite. Argument order: it keeps a NaN.
        let w = m.min(m.pick(48400.0, 2560000.0), w);
        let (s, low) = root(m, w);
        (w, s, low, m.mul(s, m.c(-0.5)))
    };
    let half = exp(b, half);
    let m = &Math::new(b);
    let one = m.c(1.0);
    let (mut before, mut last) = (one, m.add(one, s));
    for n in 2..=p {
        let step = m.mul(w, m.c(matern_ratio(n)));
        (before, last) = (last, m.fma(step, before, last));
    }
    // The exponential in two factors: where it is 0 or subnormal the product need not be.
    let y = m.mul(if p == 0 { half } else { m.mul(half, last) }, half);
    m.fnma(y, low, y)
}

/// The polynomial `q` with `I^k (1 - r)^l = (1 - r)^(l + k) q(r)`, lowest power first, where
/// `I f(r) = ∫_r^1 x f(x) dx`. In integers: of `l <= 12`, `k <= 4` nothing is rounded but the end.
pub(crate) fn wendland_polynomial(l: u32, k: u32) -> Vec<f64> {
    let (l, k) = (i128::from(l), k as usize);
    let denominator: i128 = (l + 1..=l + 2 * k as i128).product();
    // Coefficients of t^(l + j), t^(l + j + 1), … with t = 1 - r, times the denominator; each path
    // of the recurrence divides by different ones of its factors.
    let mut c = vec![denominator];
    for j in 1..=k {
        let power = |i: usize| l + (j + i) as i128;
        let mut next = vec![0; j + 1];
        for (i, &c) in c.iter().enumerate() {
            next[i] += c / power(i);
            next[i + 1] -= c / power(i + 1);
        }
        c = next;
    }
    // Powers of t = 1 - r, by Horner's rule.
    let mut q = vec![0; k + 1];
    for &c in c.iter().rev() {
        for i in (1..=k).rev() {
            q[i] -= q[i - 1];
        }
        q[0] += c;
    }
    q.iter().map(|&c| c as f64 / denominator as f64).collect()
}

/// `I^k (1 - r)^l` for `r = sqrt(u) < 1`, else 0, with `I f(r) = ∫_r^1 x f(x) dx`; `l + k > 0`.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::wendland};
/// let value = |u: f64| 20.0 * eval1(|b, u| wendland(b, u, 3, 1), u);
/// // (1 - r)^4 (4 r + 1)
/// assert!((value(0.25) - 0.1875).abs() < 1e-15 && value(0.0) == 1.0);
/// assert_eq!([1.0, 9.0].map(value), [0.0, 0.0]);
/// ```
pub fn wendland(b: &mut dyn PrimBuilder, u: Val, l: u32, k: u32) -> Val {
    let (t, q) = {
        let m = &Math::new(b);
        let one = m.c(1.0);
        // Argument order: it keeps a NaN.
        let u = m.min(one, u);
        let r = m.sqrt(u);
        // 1 - r without cancelling.
        let t = m.div(m.sub(one, u), m.add(one, r));
        (t, m.poly(r, &wendland_polynomial(l, k)))
    };
    let power = powi(b, t, (l + k) as i32);
    Math::new(b).mul(power, q)
}

/// `u^p log(u)^k` for `u >= 0`; at 0 the limit where it is finite, else 0; NaN below 0.
///
/// ```
/// use keops_core::{prim_eval::eval2, vecmath::pow_log};
/// let at = |u: f64, p: f64, k| eval2(|b, u, p| pow_log(b, u, p, k), u, p);
/// assert_eq!([at(0.0, 1.0, 1), at(0.0, -1.0, 0), at(0.0, 0.0, 0)], [0.0, 0.0, 1.0]);
/// assert_eq!([at(4.0, 1.5, 0), at(1.0, 1.0, 1)], [8.0, 0.0]);
/// ```
pub fn pow_log(b: &mut dyn PrimBuilder, u: Val, p: Val, k: u32) -> Val {
    let known = b.constant(p);
    let small = known.filter(|p| (2.0 * p).fract() == 0.0 && p.abs() <= 8.0);
    let y = match small {
        _ if k == 0 => power(b, u, p, small),
        // The last product alone may be subnormal: a logarithm would make its rounding large.
        Some(p) if p >= 1.0 => {
            let y = times_logs(b, u, k, |b| half_power(b, u, p - 1.0));
            Math::new(b).mul(y, u)
        }
        Some(p) if p <= -1.0 => {
            let y = times_logs(b, u, k, |b| half_power(b, u, p + 1.0));
            Math::new(b).div(y, u)
        }
        Some(p) => times_logs(b, u, k, |b| half_power(b, u, p)),
        None => {
            let half = {
                let m = Math::new(b);
                m.mul(p, m.c(0.5))
            };
            let root = pow(b, u, half);
            let y = times_logs(b, u, k, |_| root);
            Math::new(b).mul(y, root)
        }
    };
    let m = &Math::new(b);
    let zero = m.c(0.0);
    let at_zero = match known {
        Some(p) => m.c(if p == 0.0 && k == 0 { 1.0 } else { 0.0 }),
        None if k == 0 => m.select(m.eq(p, zero), m.c(1.0), zero),
        None => zero,
    };
    // 0 times a logarithm of infinity is 0.
    let gone = m.and(m.eq(u, m.c(f64::INFINITY)), m.lt(p, zero));
    let y = m.select(m.eq(u, zero), at_zero, m.select(gone, zero, y));
    // Powers are numbers where u or p is NaN (x^0 = 1) and where u < 0.
    let valid = m.and(m.le(zero, u), m.eq(p, p));
    m.select(valid, y, m.c(f64::NAN))
}

/// `u^p`, by multiplication where the exponent is known and small.
fn power(b: &mut dyn PrimBuilder, u: Val, p: Val, small: Option<f64>) -> Val {
    match small {
        Some(p) => half_power(b, u, p),
        None => pow(b, u, p),
    }
}
/// The same for a multiple of 1/2.
fn half_power(b: &mut dyn PrimBuilder, u: Val, p: f64) -> Val {
    // (The inverse of a power that overflows would lose subnormal results.)
    let base = if p <= -1.0 {
        let m = Math::new(b);
        m.div(m.c(1.0), u)
    } else {
        u
    };
    let power = powi(b, base, p.trunc().abs() as i32);
    if p.fract() == 0.0 {
        return power;
    }
    let m = &Math::new(b);
    let root = m.sqrt(u);
    if p > 0.0 { m.mul(power, root) } else { m.div(power, root) }
}
/// A factor times `log(u)^k`.
fn times_logs(
    b: &mut dyn PrimBuilder,
    u: Val,
    k: u32,
    factor: impl FnOnce(&mut dyn PrimBuilder) -> Val,
) -> Val {
    let l = log(b, u);
    let (logs, factor) = (powi(b, l, k as i32), factor(b));
    Math::new(b).mul(factor, logs)
}

/// Mask of the arguments for which a sine or cosine of the corrected root is not accurate, or that
/// are negative.
fn rare(m: &Math, u: Val) -> Val {
    let (zero, most) = (m.c(0.0), m.pick(16777216.0, 1e16));
    m.not(m.and(m.le(zero, u), m.le(u, most)))
}

/// `cos(sqrt(u))`, with `rest` where `u` is negative or large. The rounding of the root is made
/// good.
///
/// ```
/// use keops_core::{ops::COS_SQRT, prim::ScalarFn, prim_eval::eval1, vecmath::cos_sqrt};
/// static REST: ScalarFn =
///     ScalarFn { name: "rest", arity: 1, f32: COS_SQRT.value.f32, f64: COS_SQRT.value.f64 };
/// let at = |u: f64| eval1(|b, u| cos_sqrt(b, u, &REST), u);
/// assert!((at(4.0) - 2f64.cos()).abs() < 1e-15 && (at(-4.0) - 2f64.cosh()).abs() < 1e-14);
/// ```
pub fn cos_sqrt(b: &mut dyn PrimBuilder, u: Val, rest: &'static ScalarFn) -> Val {
    let (s, low) = root(&Math::new(b), u);
    let (cosine, sine) = (cos(b, s), sin(b, s));
    let m = &Math::new(b);
    m.call_if(rest, rare(m, u), m.fnma(low, sine, cosine), &[u])
}

/// `sin(sqrt(u)) / sqrt(u)`, with `rest` where `u` is negative or large.
///
/// ```
/// use keops_core::{ops::SINC_SQRT, prim::ScalarFn, prim_eval::eval1, vecmath::sinc_sqrt};
/// static REST: ScalarFn =
///     ScalarFn { name: "rest", arity: 1, f32: SINC_SQRT.value.f32, f64: SINC_SQRT.value.f64 };
/// let at = |u: f64| eval1(|b, u| sinc_sqrt(b, u, &REST), u);
/// assert_eq!(at(0.0), 1.0);
/// assert!((at(4.0) - 2f64.sin() / 2.0).abs() < 1e-15);
/// ```
pub fn sinc_sqrt(b: &mut dyn PrimBuilder, u: Val, rest: &'static ScalarFn) -> Val {
    let (s, low) = root(&Math::new(b), u);
    let (cosine, sine) = (cos(b, s), sin(b, s));
    let m = &Math::new(b);
    let (one, zero) = (m.c(1.0), m.c(0.0));
    let y = m.div(m.fma(low, cosine, sine), s);
    let y = m.fnma(y, m.div(low, s), y);
    m.call_if(rest, rare(m, u), m.select(m.eq(s, zero), one, y), &[u])
}

//! Functions of a squared distance whose derivatives are right at 0, of every order.
//!
//! A kernel is smooth as a function of the squared distance `u` where it is smooth as a function
//! of the points, also where the formula in `r = sqrt(u)` has a square root in it: `(1 + r) exp(-r)`
//! is `1 - u/2 + O(u^{3/2})`. Each family here is closed under `d/du`, up to a factor `1/r`
//! where the function stops being smooth; that one follows the convention of `Rsqrt`, 0 at 0.
//! A derivative that is infinite at 0 counts as 0 there: it only occurs beside a factor that
//! vanishes (`(x - y)(x - y)ᵀ f''`), or where no derivative exists.

use super::{Code, IF_ELSE, OpDef, RELU, RSQRT, Value, keep};
use crate::graph::Ex;
use crate::prim::{Prim, ScalarFn};
use crate::vecmath::{self, PrimBuilder, Val};

/// Largest order `p` of [`MATERN_HALF`]: its polynomial stays finite in f32 up to there.
pub(crate) const MOST_HALF_ORDER: u32 = 20;
/// Largest exponent and number of integrations of [`WENDLAND_INTEGRAL`].
const MOST_WENDLAND: (u32, u32) = (12, 4);
/// Largest power of the logarithm.
const MOST_LOGS: u32 = 8;
/// Largest order of [`EXTENDED_GAMMA`] on both sides of 0.
const MOST_ORDER: f64 = 60.0;

/// An operand that is an integer, rounded as indices are; none beyond `most`.
fn whole(q: f64, most: u32) -> Option<u32> {
    let r = (q + 0.5).floor();
    (0.0..=f64::from(most)).contains(&r).then_some(r as u32)
}
/// The same in a formula.
fn rounded(q: Ex<'_>) -> Ex<'_> {
    (q + 0.5).un(&super::FLOOR)
}
/// An integer operand that code is generated for.
fn constant(b: &dyn PrimBuilder, q: Val, most: u32) -> Option<u32> {
    b.constant(q).and_then(|q| whole(q, most))
}
scalar!(MATERN_CALL, "matern_of_any_order", 2, MATERN_HALF);
scalar!(WENDLAND_CALL, "wendland_of_any_order", 3, WENDLAND_INTEGRAL);
scalar!(POW_LOG_CALL, "pow_log_of_any_order", 3, POW_LOG);
scalar!(EXTENDED_GAMMA_CALL, "extended_gamma", 3, EXTENDED_GAMMA);
scalar!(COS_SQRT_CALL, "cos_sqrt", 1, COS_SQRT);
scalar!(SINC_SQRT_CALL, "sinc_sqrt", 1, SINC_SQRT);

/// `s + low = sqrt(u)` to about twice the digits.
fn root(u: f64) -> (f64, f64) {
    let s = u.sqrt();
    let low = (-s).mul_add(s, u) / (2.0 * s);
    (s, if low.is_finite() { low } else { 0.0 })
}

/// `exp(-s) P_p(s)`, the Matérn function of order p + 1/2, with `P_0 = 1`, `P_1 = 1 + s` and
/// `P_n = P_{n-1} + s² P_{n-2} / ((2n - 1)(2n - 3))`: the reverse Bessel polynomials, divided by
/// their values at 0 (Rasmussen & Williams, *Gaussian Processes for Machine Learning*, eq. 4.16).
fn matern(w: f64, q: f64) -> f64 {
    let Some(p) = whole(q, MOST_HALF_ORDER) else { return f64::NAN };
    let w = if w > 2.56e6 { 2.56e6 } else { w };
    let (s, low) = root(w);
    let (mut before, mut last) = (1.0, 1.0 + s);
    for n in 2..=p {
        (before, last) = (last, last + w * before * vecmath::matern_ratio(n));
    }
    let half = (-0.5 * s).exp();
    let y = half * (if p == 0 { 1.0 } else { last }) * half;
    y - y * low
}
fn matern_code(b: &mut dyn PrimBuilder, a: &[Val]) -> Val {
    match constant(b, a[1], MOST_HALF_ORDER) {
        Some(p) => vecmath::matern(b, a[0], p),
        None => b.prim(Prim::Call(&MATERN_CALL), a),
    }
}
/// `d/dw` of order p is order p - 1 times `-1 / (2 (2p - 1))`, and `exp(-s)` has `-exp(-s) / (2s)`.
fn matern_slope<'g>(x: &[Ex<'g>], y: Ex<'g>, t: Ex<'g>) -> Vec<Ex<'g>> {
    let (w, p) = (x[0], rounded(x[1]));
    let lower = |p: Ex<'g>| {
        let ratio = (p * 2.0 - 1.0) * -2.0;
        Ex::apply(&MATERN_HALF, &[w, p - 1.0]) / ratio
    };
    let slope = match p.constant() {
        Some(p) if p < 1.0 => y * (w.un(&RSQRT) * -0.5),
        Some(_) => lower(p),
        None => {
            let least = (p - 1.0).un(&RELU) + 1.0;
            Ex::apply(&IF_ELSE, &[p - 1.0, lower(least), y * (w.un(&RSQRT) * -0.5)])
        }
    };
    vec![t * slope, t.lit(0.0)]
}
const MATERN_CUDA: &str = "[](T w, T q) -> T { \
    if (!(q >= T(-0.5) && q < T(20.5))) return KEOPS_NAN; \
    const T most = sizeof(T) == 4 ? T(48400) : T(2560000); \
    w = w > most ? most : w; \
    const T s = sqrt(w), low = s > T(0) ? fma(-s, s, w) / (T(2) * s) : T(0); \
    T before = T(1), last = T(1) + s; \
    const int p = int(floor(q + T(0.5))); \
    for (int n = 2; n <= p; n++) { \
      const T next = last + w * before / T((2 * n - 1) * (2 * n - 3)); before = last; last = next; } \
    const T half = exp(T(-0.5) * s), y = half * (p == 0 ? T(1) : last) * half; \
    return y - y * low; }({0}, {1})";

/// Matérn function of half-integer order.
pub static MATERN_HALF: OpDef = OpDef {
    name: "MaternHalf",
    doc: "MaternHalf(w, p): Matérn function of order p + 1/2 of s = sqrt(w), exp(-s) for p = 0; p from 0 to 20, rounded",
    arity: 2,
    value: in_f64!(matern, w, q),
    derivative: matern_slope,
    simplify: keep,
    cuda: MATERN_CUDA,
    code: Code::Expand(matern_code),
    domain: (0.2, 3.0),
    kinks: &[0.0, 0.5, 1.5, 2.5],
    ulps: 6.0,
};

/// `I^k (1 - r)^l` for `r < 1`, else 0, with `I f(r) = ∫_r^1 x f(x) dx` (Wendland 1995).
fn wendland(u: f64, l: f64, k: f64) -> f64 {
    let (Some(l), Some(k)) = (whole(l, MOST_WENDLAND.0), whole(k, MOST_WENDLAND.1)) else {
        return f64::NAN;
    };
    if u >= 1.0 {
        return 0.0;
    }
    let r = u.sqrt();
    let t = (1.0 - u) / (1.0 + r);
    let q = vecmath::wendland_polynomial(l, k);
    t.powi((l + k) as i32) * q.iter().rev().fold(0.0, |s, c| s * r + c)
}
fn wendland_code(b: &mut dyn PrimBuilder, a: &[Val]) -> Val {
    match (constant(b, a[1], MOST_WENDLAND.0), constant(b, a[2], MOST_WENDLAND.1)) {
        // (A step is no polynomial.)
        (Some(l), Some(k)) if l + k > 0 => vecmath::wendland(b, a[0], l, k),
        _ => b.prim(Prim::Call(&WENDLAND_CALL), a),
    }
}
/// `d/du I^k f = -I^{k-1} f / 2`, and `(1 - r)^l` has `-l (1 - r)^{l-1} / (2r)`.
fn wendland_slope<'g>(x: &[Ex<'g>], _: Ex<'g>, t: Ex<'g>) -> Vec<Ex<'g>> {
    let (u, l, k) = (x[0], rounded(x[1]), rounded(x[2]));
    let of = |l, k| Ex::apply(&WENDLAND_INTEGRAL, &[u, l, k]);
    let edge = || l * of((l - 1.0).un(&RELU), l.lit(0.0)) * u.un(&RSQRT);
    let slope = match k.constant() {
        Some(k) if k < 1.0 => edge(),
        Some(_) => of(l, k - 1.0),
        None => Ex::apply(&IF_ELSE, &[k - 1.0, of(l, (k - 1.0).un(&RELU)), edge()]),
    };
    let zero = t.lit(0.0);
    vec![
        if l.constant() == Some(0.0) && k.constant() == Some(0.0) {
            zero
        } else {
            t * (slope * -0.5)
        },
        zero,
        zero,
    ]
}
const WENDLAND_CUDA: &str = "[](T u, T a, T b) -> T { \
    if (!(a >= T(-0.5) && a < T(12.5) && b >= T(-0.5) && b < T(4.5))) return KEOPS_NAN; \
    if (u >= T(1)) return T(0); \
    const int l = int(floor(a + T(0.5))), k = int(floor(b + T(0.5))); \
    double c[5] = {1, 0, 0, 0, 0}; \
    for (int j = 1; j <= k; j++) for (int i = j; i >= 0; i--) \
      c[i] = (i < j ? c[i] / (l + j + i) : 0.0) - (i > 0 ? c[i - 1] / (l + j + i) : 0.0); \
    const T r = sqrt(u), t = (T(1) - u) / (T(1) + r); \
    double q = 0; T y = T(1); \
    for (int i = k; i >= 0; i--) q = q * double(t) + c[i]; \
    for (int i = 0; i < l + k; i++) y *= t; \
    return y * T(q); }({0}, {1}, {2})";

/// Repeated integral of a truncated power.
pub static WENDLAND_INTEGRAL: OpDef = OpDef {
    name: "WendlandIntegral",
    doc: "WendlandIntegral(u, l, k): (1 - r)^l for r = sqrt(u) < 1, else 0, integrated k times by f(r) → ∫_r^1 x f(x) dx; integers l to 12, k to 4, rounded",
    arity: 3,
    value: in_f64!(wendland, u, l, k),
    derivative: wendland_slope,
    simplify: keep,
    cuda: WENDLAND_CUDA,
    code: Code::Expand(wendland_code),
    domain: (0.2, 3.0),
    kinks: &[0.0, 0.5, 1.0, 1.5, 2.5],
    ulps: 24.0,
};

/// `u^p log(u)^k`, at 0 its limit where that is finite, else 0.
fn pow_log(u: f64, p: f64, q: f64) -> f64 {
    let Some(k) = whole(q, MOST_LOGS) else { return f64::NAN };
    if u < 0.0 || u.is_nan() || p.is_nan() {
        return f64::NAN;
    }
    if u == 0.0 {
        return if p == 0.0 && k == 0 { 1.0 } else { 0.0 };
    }
    if k == 0 {
        return u.powf(p);
    }
    // The last product alone may be subnormal.
    let half = u.powf(0.5 * p);
    if half == 0.0 { 0.0 } else { half * u.ln().powi(k as i32) * half }
}
fn pow_log_code(b: &mut dyn PrimBuilder, a: &[Val]) -> Val {
    match constant(b, a[2], MOST_LOGS) {
        Some(k) => vecmath::pow_log(b, a[0], a[1], k),
        None => b.prim(Prim::Call(&POW_LOG_CALL), a),
    }
}
fn pow_log_slope<'g>(x: &[Ex<'g>], _: Ex<'g>, t: Ex<'g>) -> Vec<Ex<'g>> {
    let (u, p, k) = (x[0], x[1], rounded(x[2]));
    let of = |p, k| Ex::apply(&POW_LOG, &[u, p, k]);
    let first = (p.constant() != Some(0.0)).then(|| p * of(p - 1.0, k));
    let second = (k.constant() != Some(0.0)).then(|| k * of(p - 1.0, (k - 1.0).un(&RELU)));
    let slope = first.into_iter().chain(second).reduce(|a, b| a + b);
    let zero = t.lit(0.0);
    vec![slope.map_or(zero, |s| t * s), t * of(p, k + 1.0), zero]
}
const POW_LOG_CUDA: &str = "[](T u, T p, T q) -> T { \
    if (!(q >= T(-0.5) && q < T(8.5) && u >= T(0)) || p != p) return KEOPS_NAN; \
    const int k = int(floor(q + T(0.5))); \
    if (u == T(0)) return p == T(0) && k == 0 ? T(1) : T(0); \
    if (k == 0) return pow(u, p); \
    const T half = pow(u, T(0.5) * p), l = log(u); \
    if (half == T(0)) return T(0); \
    T y = half; \
    for (int i = 0; i < k; i++) y *= l; \
    return y * half; }({0}, {1}, {2})";

/// Power times power of the logarithm.
pub static POW_LOG: OpDef = OpDef {
    name: "PowLog",
    doc: "PowLog(u, p, k): u^p log(u)^k for u >= 0, its limit at 0 where that is finite, else 0; integer k from 0 to 8, rounded",
    arity: 3,
    value: in_f64!(pow_log, u, p, q),
    derivative: pow_log_slope,
    simplify: keep,
    cuda: POW_LOG_CUDA,
    code: Code::Expand(pow_log_code),
    domain: (0.3, 2.7),
    kinks: &[0.0, 0.5, 1.5, 2.5],
    ulps: 10.0,
};

/// The variable of the integral of [`EXTENDED_GAMMA`] is divided by this, so that the gamma function
/// of every order fits into f32.
pub(crate) const GAMMA_SCALE: f64 = 20.0;

/// `∫ t^(a-1) (log t)^k exp(-20 t - b / (20 t)) dt` over t > 0.
fn extended_gamma(b: f64, a: f64, q: f64) -> f64 {
    let Some(k) = whole(q, MOST_LOGS) else { return f64::NAN };
    if !(b >= 0.0 && a.abs() <= MOST_ORDER) {
        return f64::NAN;
    }
    if b == f64::INFINITY || (b == 0.0 && a <= 0.0) {
        return 0.0;
    }
    if b > 0.0 || a >= 1.0 {
        return gamma_integral(b, a, k);
    }
    // The gamma function and its derivatives near the pole, where the integrand is long: with
    // G_k = ∫ t^(a-1) (log t)^k exp(-20 t) dt, by parts, 20 G_k(a + 1) = a G_k(a) + k G_(k-1)(a).
    let mut last = 0.0;
    for j in 0..=k {
        let above = GAMMA_SCALE * gamma_integral(0.0, a + 1.0, j);
        last = (above - f64::from(j) * last) / a;
    }
    last
}
/// The trapezoidal rule in log t, from the largest entry outwards. It converges exponentially
/// (Trefethen & Weideman 2014): the integrand is analytic for |Im log t| < π/2. Steps of 1/8 are
/// exact to f64 for |a|, sqrt(b) up to 15; beyond, steps shrink with the width of the peak.
fn gamma_integral(b: f64, a: f64, k: u32) -> f64 {
    let scale = (a * a + 4.0 * b).sqrt();
    // Where the exponent a τ - e^τ - b e^{-τ} is largest: e^τ = (a + scale) / 2, without cancelling.
    let top = if a > 0.0 { 0.5 * (a + scale) } else { 2.0 * b / (scale - a) };
    // (A peak at the end of the range of numbers is as good as one at 0.)
    if top == 0.0 || !top.is_finite() {
        return 0.0;
    }
    let (h, centre) = (0.125f64.min(0.7 / scale.sqrt()), (top / GAMMA_SCALE).ln());
    let largest = a * centre - top - b / top;
    // The integral is less than a number of 60 digits times the largest entry. (Exponents of huge
    // peaks are rounding errors alone, which may overflow.)
    if largest < -1000.0 {
        return 0.0;
    }
    let log_rest = (b / top).ln();
    let side = |step: f64, first: i32| {
        let mut sum = 0.0;
        for n in first.. {
            // Differences to the largest exponent, so that large ones do not cancel.
            let d = step * f64::from(n);
            // Far below, e^-d overflows where its product with a tiny b / top does not.
            let rest = if d < -700.0 { (log_rest - d).exp() } else { (b / top) * (-d).exp_m1() };
            let fall = a * d - top * d.exp_m1() - rest;
            let log = centre + d;
            let term = fall.exp() * log.powi(k as i32);
            sum += term;
            // (A logarithm may vanish where the integrand does not.)
            if fall < -45.0 || n == 20_000 {
                break;
            }
        }
        sum
    };
    let sum = side(h, 0) + side(-h, 1);
    // In two steps: the exponential alone may be 0.
    (0.5 * largest).exp() * (h * sum) * (0.5 * largest).exp()
}
const EXTENDED_GAMMA_CUDA: &str = "[](double b, double a, double q) -> T { \
    if (!(q >= -0.5 && q < 8.5 && b >= 0 && a >= -60 && a <= 60)) return KEOPS_NAN; \
    if (b - b != 0 || (b == 0 && a <= 0)) return T(0); \
    auto integral = [](double b, double a, int k) -> double { \
      const double scale = sqrt(a * a + 4 * b), top = a > 0 ? (a + scale) / 2 : 2 * b / (scale - a); \
      if (top == 0 || top - top != 0) return 0; \
      const double w = 0.7 / sqrt(scale), h = w < 0.125 ? w : 0.125, centre = log(top / 20); \
      const double largest = a * centre - top - b / top, half = exp(0.5 * largest), rest = log(b / top); \
      if (largest < -1000) return 0; \
      double sum = 0; \
      for (int side = 0; side < 2; side++) for (int n = side; n <= 20000; n++) { \
        const double d = side ? -h * n : h * n; \
        const double last = d < -700 ? exp(rest - d) : b / top * expm1(-d); \
        const double fall = a * d - top * expm1(d) - last; \
        double term = exp(fall); \
        for (int i = 0; i < k; i++) term *= centre + d; \
        sum += term; \
        if (fall < -45) break; } \
      return half * (h * sum) * half; }; \
    const int k = int(floor(q + 0.5)); \
    if (b > 0 || a >= 1) return T(integral(b, a, k)); \
    double last = 0; \
    for (int j = 0; j <= k; j++) last = (20 * integral(0, a + 1, j) - j * last) / a; \
    return T(last); }(double({0}), double({1}), double({2}))";

/// Extended gamma function (Chaudhry & Zubair 1994), and its derivatives in the order.
pub static EXTENDED_GAMMA: OpDef = OpDef {
    name: "ExtendedGamma",
    doc: "ExtendedGamma(b, a, k): ∫ t^(a-1) (log t)^k exp(-20 t - b/(20 t)) dt over t > 0, which is 2 b^(a/2) K_a(2 sqrt(b)) / 20^a for k = 0; 0 where that is infinite; a within ±60, integer k to 8, rounded; a scalar function",
    arity: 3,
    value: in_f64!(extended_gamma, b, a, q),
    derivative: |x, _, t| {
        let of = |a, k| Ex::apply(&EXTENDED_GAMMA, &[x[0], a, k]);
        vec![t * of(x[1] - 1.0, x[2]) * (-1.0 / GAMMA_SCALE), t * of(x[1], x[2] + 1.0), t.lit(0.0)]
    },
    simplify: keep,
    cuda: EXTENDED_GAMMA_CUDA,
    code: Code::Expand(|b, a| b.prim(Prim::Call(&EXTENDED_GAMMA_CALL), a)),
    domain: (0.3, 2.7),
    kinks: &[0.0, 0.5, 1.5, 2.5],
    ulps: 2.0,
};

/// `cos(s + low)`, or `cosh` for the root of `-u`.
fn cos_sqrt(u: f64) -> f64 {
    let (s, low) = root(u.abs());
    if u < 0.0 {
        let (cosh, sinh) = (s.cosh(), s.sinh());
        return if cosh.is_finite() { cosh + low * sinh } else { cosh };
    }
    s.cos() * low.cos() - s.sin() * low.sin()
}
/// `sin(s + low) / (s + low)`, or that of `sinh` for the root of `-u`.
fn sinc_sqrt(u: f64) -> f64 {
    let (s, low) = root(u.abs());
    if s == 0.0 {
        return 1.0;
    }
    let sine = if u < 0.0 {
        let (sinh, cosh) = (s.sinh(), s.cosh());
        if cosh.is_finite() { sinh + low * cosh } else { sinh }
    } else {
        s.sin() * low.cos() + s.cos() * low.sin()
    };
    let y = sine / s;
    y - y.clamp(-f64::MAX, f64::MAX) * (low / s)
}
/// `j_1(s) / s = (sin(s)/s - cos(s)) / u`, which cancels near 0: there its series,
/// Σ (-u/2)^k / (k! (2k + 3)!!), of which 14 terms are exact to f64 for |u| <= 4.
fn bessel_1_over_s(u: Ex<'_>) -> Ex<'_> {
    let mut term = 1.0 / 3.0;
    let mut series = vec![term];
    for k in 1..18 {
        term *= -0.5 / (f64::from(k) * f64::from(2 * k + 3));
        series.push(term);
    }
    let near = -u.un(&super::ABS) + 4.0;
    // (An infinite or NaN argument stays what it is in the branch that is taken.)
    let (inside, safe) =
        (Ex::apply(&IF_ELSE, &[near, u, u.lit(0.0)]), Ex::apply(&IF_ELSE, &[near, u.lit(5.0), u]));
    let sum = series.iter().rev().fold(u.lit(0.0), |s, &c| s * inside + c);
    let far = (safe.un(&SINC_SQRT) - safe.un(&COS_SQRT)) / safe;
    Ex::apply(&IF_ELSE, &[near, sum, far])
}

/// Cosine of a square root, entire.
pub static COS_SQRT: OpDef = OpDef {
    name: "CosSqrt",
    doc: "cos(sqrt(u)), which is cosh(sqrt(-u)) for u < 0",
    arity: 1,
    value: in_f64!(cos_sqrt, u),
    derivative: |x, _, t| vec![t * (x[0].un(&SINC_SQRT) * -0.5)],
    simplify: keep,
    cuda: COS_SQRT_CUDA,
    code: Code::Expand(|b, a| vecmath::cos_sqrt(b, a[0], &COS_SQRT_CALL)),
    domain: (-3.0, 3.0),
    kinks: &[],
    ulps: 5.0,
};
/// `sin(s) / s` of a square root, entire.
pub static SINC_SQRT: OpDef = OpDef {
    name: "SincSqrt",
    doc: "sin(sqrt(u)) / sqrt(u), 1 at 0, which is sinh(sqrt(-u)) / sqrt(-u) for u < 0",
    arity: 1,
    value: in_f64!(sinc_sqrt, u),
    derivative: |x, _, t| vec![t * (bessel_1_over_s(x[0]) * -0.5)],
    simplify: keep,
    cuda: SINC_SQRT_CUDA,
    code: Code::Expand(|b, a| vecmath::sinc_sqrt(b, a[0], &SINC_SQRT_CALL)),
    domain: (-3.0, 3.0),
    kinks: &[],
    ulps: 5.0,
};
const COS_SQRT_CUDA: &str = "[](double u) -> T { \
    const double s = sqrt(abs(u)), r = fma(-s, s, abs(u)) / (2 * s), low = r - r == 0 ? r : 0.0; \
    if (u < 0) return T(cosh(s) - cosh(s) != 0 ? cosh(s) : cosh(s) + low * sinh(s)); \
    return T(cos(s) * cos(low) - sin(s) * sin(low)); }(double({0}))";
const SINC_SQRT_CUDA: &str = "[](double u) -> T { \
    const double s = sqrt(abs(u)), r = fma(-s, s, abs(u)) / (2 * s), low = r - r == 0 ? r : 0.0; \
    if (s == 0) return T(1); \
    if (u < 0) return T((cosh(s) - cosh(s) != 0 ? sinh(s) : sinh(s) + low * cosh(s)) / (s + low)); \
    return T((sin(s) * cos(low) + cos(s) * sin(low)) / (s + low)); }(double({0}))";

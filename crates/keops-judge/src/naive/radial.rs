//! Functions of a squared distance, by other formulas than the tables have.

use super::ops::Op;
use super::scalar::Real;

/// An order: an integer, halves rounded up; none if out of range.
fn order<T: Real>(q: T, most: i64) -> Option<i64> {
    let r = (q + T::from(0.5)).floor().f64();
    (r >= 0.0 && r <= most as f64).then_some(r as i64)
}

/// The value of an operation; NaN where it has none.
pub(super) fn value<T: Real>(op: Op, a: &[T], literal: i64) -> T {
    let r = |v: f64| T::from(v);
    let nan = r(f64::NAN);
    let (zero, one, two) = (r(0.0), r(1.0), r(2.0));
    let known = match op {
        Op::MaternHalf => order(a[1], 20).map(|p| matern(a[0].sqrt(), p)),
        Op::Matern => {
            let nu = a[1].f64();
            if nu - 0.5 == (nu - 0.5).floor() && (0.5..=20.5).contains(&nu) {
                Some(matern((two * a[1] * a[0]).sqrt(), (nu - 0.5) as i64))
            } else {
                let at = |b: T| extended_gamma(b, a[1], 0);
                Some(at(a[1] * a[0] / two) / at(zero))
            }
        }
        Op::WendlandIntegral => {
            let orders = (order(a[1], 12), order(a[2], 4));
            if let (Some(l), Some(k)) = orders { Some(wendland(a[0], l, k)) } else { None }
        }
        Op::Wendland => {
            Some(wendland(a[0], literal + 2, literal) / wendland(zero, literal + 2, literal))
        }
        Op::RationalQuadratic => Some((one + a[0] / (two * a[1])).powf(-a[1])),
        Op::ThinPlate => Some(pow_log(a[0], r(literal as f64), 1) / two),
        Op::RadialPower => Some(pow_log(a[0], a[1], 0)),
        Op::PowLog => order(a[2], 8).map(|k| pow_log(a[0], a[1], k)),
        Op::ExtendedGamma => order(a[2], 8).map(|k| extended_gamma(a[0], a[1], k)),
        Op::CosSqrt if a[0] < zero => Some((-a[0]).sqrt().cosh()),
        Op::CosSqrt => Some(a[0].sqrt().cos()),
        Op::SincSqrt if a[0] == zero => Some(one),
        Op::SincSqrt if a[0] < zero => Some((-a[0]).sqrt().sinh() / (-a[0]).sqrt()),
        Op::SincSqrt => Some(a[0].sqrt().sin() / a[0].sqrt()),
        _ => None,
    };
    known.unwrap_or(nan)
}

/// `exp(-s) p! / (2p)! Σ_i (p + i)! / (i! (p - i)!) (2s)^(p - i)`
fn matern<T: Real>(s: T, p: i64) -> T {
    if s.f64() > 1500.0 {
        return T::from(0.0);
    }
    let product = |from: i64, to: i64| (from..=to).fold(T::from(1.0), |q, k| q * T::from(k as f64));
    let term = |i: i64| {
        let c = product(1, p + i) / product(1, i) / product(1, p - i);
        c * (s * T::from(2.0)).powi(p - i)
    };
    let sum = (1..=p).fold(term(0), |q, i| q + term(i));
    // The sum may be as large as the exponential is small.
    let half = (-s / T::from(2.0)).exp();
    half * (sum / product(p + 1, 2 * p)) * half
}

/// `(1 - r)^l`, `k` times integrated by `∫_r^1 x f(x) dx`, as a polynomial of r.
fn wendland<T: Real>(u: T, l: i64, k: i64) -> T {
    let (zero, one) = (T::from(0.0), T::from(1.0));
    if u >= one {
        return zero;
    }
    let mut c = vec![one];
    for _ in 0..l {
        let mut next = c.clone();
        next.push(zero);
        for (i, v) in c.iter().enumerate() {
            next[i + 1] = next[i + 1] - *v;
        }
        c = next;
    }
    for _ in 0..k {
        // Σ c_i x^(i + 1), integrated from r to 1.
        let mut next = vec![zero; c.len() + 2];
        for (i, v) in c.iter().enumerate() {
            let v = *v / T::from((i + 2) as f64);
            next[0] = next[0] + v;
            next[i + 2] = next[i + 2] - v;
        }
        c = next;
    }
    let r = u.sqrt();
    c.iter().rev().fold(zero, |s, v| s * r + *v)
}

/// `u^p log(u)^k`, the limit at 0 where it is finite, else 0.
fn pow_log<T: Real>(u: T, p: T, k: i64) -> T {
    let zero = T::from(0.0);
    if u == zero {
        return T::from(if p == zero && k == 0 { 1.0 } else { 0.0 });
    }
    if u < zero || u.is_nan() || p.is_nan() {
        return T::from(f64::NAN);
    }
    if u.f64() == f64::INFINITY && p < zero {
        return zero;
    }
    let power = u.powf(p);
    if k == 0 { power } else { power * u.ln().powi(k) }
}

/// `∫ τ^k exp(a τ - 20 e^τ - b e^-τ / 20) dτ` by the trapezoidal rule, whose steps here are exact to
/// thirty digits.
fn extended_gamma<T: Real>(b: T, a: T, k: i64) -> T {
    let (bf, af) = (b.f64(), a.f64());
    if !(bf >= 0.0 && af.abs() <= 60.0) {
        return T::from(f64::NAN);
    }
    if bf == f64::INFINITY || (bf == 0.0 && af <= 0.0) {
        return T::from(0.0);
    }
    if bf == 0.0 && af < 1.0 {
        // d/da of Γ(a + 1) / 20^a = 20 a Γ(a) / 20^(a + 1), k times.
        let twenty = T::from(20.0);
        let from_above = |j: i64| twenty * extended_gamma(b, a + T::from(1.0), j);
        return (0..=k)
            .fold(T::from(0.0), |last, j| (from_above(j) - T::from(j as f64) * last) / a);
    }
    let scale = (af * af + 4.0 * bf).sqrt();
    let centre = if af > 0.0 { 0.5 * (af + scale) } else { 2.0 * bf / (scale - af) }.ln();
    if !centre.is_finite() {
        return T::from(0.0);
    }
    // b e^-t, in logarithms: e^-t may overflow where the product does not, and 0 times it is 0.
    let rest = |t: f64| if bf == 0.0 { 0.0 } else { (bf.ln() - t).exp() };
    let exponent = |t: f64| af * t - t.exp() - rest(t);
    let h = 0.125f64.min(0.5 / scale.sqrt());
    let mut sum = T::from(0.0);
    for side in [h, -h] {
        for n in i32::from(side < 0.0)..40_000 {
            let t = centre + side * f64::from(n);
            if exponent(t) < exponent(centre) - 80.0 {
                break;
            }
            let t = T::from(t);
            let rest = match t.f64() {
                _ if bf == 0.0 => T::from(0.0),
                far if far < -700.0 => (b.ln() - t).exp(),
                _ => b * (-t).exp(),
            };
            let log = t - T::from(20.0).ln();
            sum = sum + log.powi(k) * (a * log - t.exp() - rest).exp();
        }
    }
    sum * T::from(h)
}

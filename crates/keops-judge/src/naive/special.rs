//! Inverse hyperbolic functions, sigmoids, error and gamma functions, by textbook series.

use super::ops::Op;
use super::scalar::Real;

/// The value of one of them.
pub fn value<T: Real>(op: Op, a: &[T]) -> T {
    let r = |v: f64| T::from(v);
    let (x, zero, one) = (a[0], r(0.0), r(1.0));
    let odd = |f: &dyn Fn(T) -> T| if x < zero { -f(-x) } else { f(x) };
    if a.iter().any(|v| v.is_nan()) {
        return r(f64::NAN);
    }
    match op {
        Op::Asinh => odd(&|a| {
            if a > r(1e8) {
                return a.ln() + r(2.0).ln(); // 1 / (4 a²) is left out
            }
            (a + a * a / (one + (one + a * a).sqrt())).ln_1p()
        }),
        Op::Acosh if x > r(1e8) => x.ln() + r(2.0).ln(),
        Op::Acosh => (x - one + ((x - one) * (x + one)).sqrt()).ln_1p(),
        Op::Atanh => odd(&|a| {
            if a > one { r(f64::NAN) } else { ((a + a) / (one - a)).ln_1p() / r(2.0) }
        }),
        Op::Sigmoid if x < zero => x.exp() / (one + x.exp()),
        Op::Sigmoid => one / (one + (-x).exp()),
        Op::Softplus if x < zero => x.exp().ln_1p(),
        Op::Softplus => x + (-x).exp().ln_1p(),
        Op::Erf => odd(&|a| if a < r(2.0) { erf(a) } else { one - erfc(a) }),
        Op::Erfc if x > r(2.0) => erfc(x),
        Op::Erfc if x < r(-2.0) => r(2.0) - erfc(-x),
        Op::Erfc => one - odd(&erf),
        Op::Lgamma => log_gamma(x),
        _ => polygamma((x + r(0.5)).floor(), a[1]),
    }
}

/// `2/sqrt(π) exp(-x²) Σ 2^n x^(2n+1) / (2n+1)!!` (Abramowitz & Stegun 7.1.6), for `0 <= x`.
fn erf<T: Real>(x: T) -> T {
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term = term * x * x * T::from(2.0) / T::from(f64::from(2 * n + 1));
        sum = sum + term;
    }
    sum * (-(x * x)).exp() * T::from(2.0) / T::pi().sqrt()
}
/// Continued fraction (Abramowitz & Stegun 7.1.14), from the end, for `2 <= x`.
fn erfc<T: Real>(x: T) -> T {
    if x > T::from(40.0) {
        return T::from(0.0);
    }
    let mut fraction = x;
    for n in (1..400).rev() {
        fraction = x + T::from(f64::from(n) / 2.0) / fraction;
    }
    (-(x * x)).exp() / (fraction * T::pi().sqrt())
}

/// Bernoulli numbers B_2, B_4, … as fractions.
const BERNOULLI: [(f64, f64); 9] = [
    (1.0, 6.0),
    (-1.0, 30.0),
    (1.0, 42.0),
    (-1.0, 30.0),
    (5.0, 66.0),
    (-691.0, 2730.0),
    (7.0, 6.0),
    (-3617.0, 510.0),
    (43867.0, 798.0),
];
/// From where the asymptotic series are used: the first term left out is below 1e-31.
const FAR: f64 = 60.0;

/// Stirling's series (Abramowitz & Stegun 6.1.41) after recurrence.
fn log_gamma<T: Real>(x: T) -> T {
    let r = |v: f64| T::from(v);
    if x < r(0.0) {
        return r(f64::NAN);
    }
    if x == r(0.0) || x == r(f64::INFINITY) {
        return r(f64::INFINITY);
    }
    let (mut z, mut below) = (x, r(0.0));
    while z < r(FAR) {
        below = below + z.ln();
        z = z + r(1.0);
    }
    let mut sum = r(0.0);
    let mut power = z;
    for (k, (p, q)) in (1..).zip(BERNOULLI) {
        sum = sum + r(p) / (r(q) * r(f64::from(2 * k * (2 * k - 1))) * power);
        power = power * z * z;
    }
    // In this order: z log z overflows only where the result does.
    (z - r(0.5)) * (z.ln() - r(1.0)) - r(0.5) + (r(2.0) * T::pi()).ln() / r(2.0) + sum - below
}

/// Abramowitz & Stegun 6.4.11 after recurrence; the digamma function for `n = 0` (6.3.18).
fn polygamma<T: Real>(n: T, x: T) -> T {
    let r = |v: f64| T::from(v);
    let order = n.f64();
    if !(0.0..=8.0).contains(&order) || x < r(0.0) {
        return r(f64::NAN);
    }
    let n = order as i64;
    let sign = if n % 2 == 0 { r(-1.0) } else { r(1.0) };
    if x == r(0.0) {
        return sign * r(f64::INFINITY);
    }
    if x == r(f64::INFINITY) {
        return if n == 0 { x } else { r(0.0) };
    }
    let factorial = |m: i64| r((1..=m).map(|k| k as f64).product());
    let inverse_power = |z: T, m: i64| (0..m).fold(r(1.0), |p, _| p / z);
    let (mut z, mut sum) = (x, r(0.0));
    while z < r(FAR) {
        sum = sum + factorial(n) * inverse_power(z, n + 1);
        z = z + r(1.0);
    }
    sum = sum + if n == 0 { -z.ln() } else { factorial(n - 1) * inverse_power(z, n) };
    sum = sum + factorial(n) * inverse_power(z, n + 1) / r(2.0);
    for (k, (p, q)) in (1i64..).zip(BERNOULLI) {
        let ratio: f64 = (2 * k..2 * k + n).map(|m| m as f64).product();
        sum = sum + r(p) / r(q) * r(ratio) / r(2.0 * k as f64) * inverse_power(z, 2 * k + n);
    }
    sign * sum
}

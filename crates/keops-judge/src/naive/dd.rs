//! Double-double arithmetic: 106 bits, the exponents of f64 (Dekker 1971; Hida, Li and Bailey,
//! "Library for double-double and quad-double arithmetic", 2007).
//!
//! The crates for it lose half of their digits in the exponential, of which differences of the
//! third order leave nothing.

use super::scalar::Real;
use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// The unevaluated sum of two f64, the second at most half an ulp of the first.
/// Infinities and NaN have 0 as their second part.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Dd {
    hi: f64,
    lo: f64,
}

const LN_2: Dd = Dd { hi: std::f64::consts::LN_2, lo: 2.319_046_813_846_299_6e-17 };
const PI: Dd = Dd { hi: std::f64::consts::PI, lo: 1.224_646_799_147_353_2e-16 };
const HALF_PI: Dd = Dd { hi: std::f64::consts::FRAC_PI_2, lo: 6.123_233_995_736_766e-17 };

impl Dd {
    /// Parts of an exact sum, which need not be normalised.
    fn made(a: f64, b: f64) -> Dd {
        let s = a + b;
        if !s.is_finite() {
            return Dd { hi: s, lo: 0.0 };
        }
        let t = s - a;
        Dd { hi: s, lo: (a - (s - t)) + (b - t) }
    }
    fn scaled(self, f: f64) -> Dd {
        Dd::made(self.hi * f, self.lo * f) // exact for powers of 2
    }
    /// `exp(r) - 1` for |r| < 0.4: of r/512 by its series, doubled nine times by
    /// `(1 + s)² - 1 = 2s + s²`, which keeps relative accuracy.
    fn small_exp_m1(self) -> Dd {
        let r = self.scaled(1.0 / 512.0);
        let mut s = Dd::from(1.0);
        for n in (2..=9).rev() {
            s = Dd::from(1.0) + r * s / Dd::from(n as f64);
        }
        let mut s = r * s;
        for _ in 0..9 {
            s = s.scaled(2.0) + s * s;
        }
        s
    }
    /// Sine and cosine.
    fn sin_cos(self) -> (Dd, Dd) {
        if !self.hi.is_finite() {
            return (Dd::from(f64::NAN), Dd::from(f64::NAN));
        }
        if self.hi.abs() > 1e12 {
            // Too few digits of π here: as accurate as f64.
            return (Dd::from(self.hi.sin()), Dd::from(self.hi.cos()));
        }
        let k = (self.hi / HALF_PI.hi).round();
        let r = self - HALF_PI * Dd::from(k);
        let r2 = r * r;
        // 1 - r²/(a (a+1)) (1 - r²/((a+2)(a+3)) (…))
        let series = |first: f64| {
            let mut s = Dd::from(1.0);
            for n in (0..14).rev() {
                let a = first + 2.0 * n as f64;
                s = Dd::from(1.0) - r2 * s / Dd::from(a * (a + 1.0));
            }
            s
        };
        let (s, c) = (r * series(2.0), series(1.0));
        match k.rem_euclid(4.0) as i64 {
            0 => (s, c),
            1 => (c, -s),
            2 => (-s, -c),
            _ => (-c, s),
        }
    }
    fn atan_of(self) -> Dd {
        if self.hi.abs() > 1.0 {
            let side = if self.hi > 0.0 { HALF_PI } else { -HALF_PI };
            return side - (Dd::from(1.0) / self).atan_of();
        }
        let y = Dd::from(self.hi.atan());
        let (s, c) = y.sin_cos();
        // tan(atan x - y) = (x - t)/(1 + x t), and its arctangent is itself up to its cube.
        y + (self * c - s) / (c + self * s)
    }
}

impl From<f64> for Dd {
    fn from(v: f64) -> Dd {
        Dd { hi: v, lo: 0.0 }
    }
}
impl PartialOrd for Dd {
    fn partial_cmp(&self, o: &Dd) -> Option<Ordering> {
        match self.hi.partial_cmp(&o.hi)? {
            Ordering::Equal => self.lo.partial_cmp(&o.lo),
            other => Some(other),
        }
    }
}
impl Neg for Dd {
    type Output = Dd;
    fn neg(self) -> Dd {
        Dd { hi: -self.hi, lo: -self.lo }
    }
}
impl Add for Dd {
    type Output = Dd;
    fn add(self, o: Dd) -> Dd {
        let (a, b) = (Dd::made(self.hi, o.hi), Dd::made(self.lo, o.lo));
        if !a.hi.is_finite() {
            return a;
        }
        let c = Dd::made(a.hi, a.lo + b.hi);
        Dd::made(c.hi, c.lo + b.lo)
    }
}
impl Sub for Dd {
    type Output = Dd;
    fn sub(self, o: Dd) -> Dd {
        self + -o
    }
}
impl Mul for Dd {
    type Output = Dd;
    fn mul(self, o: Dd) -> Dd {
        let p = self.hi * o.hi;
        if !p.is_finite() || p == 0.0 {
            return Dd { hi: p, lo: 0.0 };
        }
        let e = self.hi.mul_add(o.hi, -p);
        Dd::made(p, e + (self.hi * o.lo + self.lo * o.hi))
    }
}
impl Div for Dd {
    type Output = Dd;
    fn div(self, o: Dd) -> Dd {
        let q = self.hi / o.hi;
        if !q.is_finite() || q == 0.0 || !o.hi.is_finite() {
            return Dd { hi: q, lo: 0.0 };
        }
        let r = self - o * Dd::from(q);
        let q2 = r.hi / o.hi;
        let r = r - o * Dd::from(q2);
        Dd::made(q, q2) + Dd::from(r.hi / o.hi)
    }
}

impl Real for Dd {
    // Fourth-order differences: truncation 1e-17, rounding 1e-26.
    const STEP: f64 = 1.0 / 16384.0;
    fn f64(self) -> f64 {
        self.hi
    }
    fn pi() -> Dd {
        PI
    }
    fn floor(self) -> Dd {
        let f = self.hi.floor();
        if f != self.hi || !f.is_finite() {
            return Dd::from(f);
        }
        Dd::made(f, self.lo.floor())
    }
    fn sqrt(self) -> Dd {
        let y = self.hi.sqrt();
        if y == 0.0 || !y.is_finite() {
            return Dd::from(y);
        }
        let y = Dd::from(y);
        y + (self - y * y) / y.scaled(2.0)
    }
    fn exp(self) -> Dd {
        if !(self.hi > -740.0 && self.hi < 709.0) {
            return Dd::from(self.hi.exp());
        }
        let k = (self.hi / LN_2.hi).round();
        let r = self - LN_2 * Dd::from(k);
        let e = Dd::from(1.0) + r.small_exp_m1();
        // In two steps, as 2^k may be subnormal.
        let half = (k / 2.0).floor();
        e.scaled(half.exp2()).scaled((k - half).exp2())
    }
    fn exp_m1(self) -> Dd {
        if self.hi.abs() < 0.3 { self.small_exp_m1() } else { self.exp() - Dd::from(1.0) }
    }
    fn ln(self) -> Dd {
        let y = self.hi.ln();
        if !y.is_finite() {
            return Dd::from(y);
        }
        if self.hi < 1e-290 {
            // The reciprocal of a subnormal number overflows.
            return self.scaled(332f64.exp2()).ln() - LN_2 * Dd::from(332.0);
        }
        // One step of Newton's method on exp.
        let y = Dd::from(y);
        y + (self * (-y).exp() - Dd::from(1.0))
    }
    fn ln_1p(self) -> Dd {
        if self.hi.abs() > 0.3 {
            return (Dd::from(1.0) + self).ln();
        }
        let y = Dd::from(self.hi.ln_1p());
        y + (self - y.exp_m1()) / y.exp()
    }
    fn sin(self) -> Dd {
        self.sin_cos().0
    }
    fn cos(self) -> Dd {
        self.sin_cos().1
    }
    fn atan2(self, x: Dd) -> Dd {
        if !self.hi.is_finite() || !x.hi.is_finite() || self.hi == 0.0 || x.hi == 0.0 {
            // Multiples of π/4, or NaN.
            let quarters = self.hi.atan2(x.hi) / std::f64::consts::FRAC_PI_4;
            return PI * Dd::from(quarters.round()) / Dd::from(4.0);
        }
        let a = (self / x).atan_of();
        match (x.hi > 0.0, self.hi > 0.0) {
            (true, _) => a,
            (false, true) => a + PI,
            (false, false) => a - PI,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from mpmath at 40 digits, as the sum of two doubles.
    #[test]
    fn functions_have_thirty_digits() {
        let x = Dd::from(0.7);
        for (name, got, hi, lo) in include!("dd_values.in") {
            let want = Dd { hi, lo };
            let error = ((got - want) / want).f64().abs();
            assert!(error < 3e-30, "{name}: {got:?}, relative error {error:e}");
        }
    }

    #[test]
    fn identities_hold_over_a_range() {
        let mut worst = [0f64; 6];
        for n in -400..400 {
            let x = Dd::from(n as f64) / Dd::from(130.0) + Dd::from(1e-4);
            let at = |k: usize, v: Dd, worst: &mut [f64; 6]| worst[k] = worst[k].max(v.f64().abs());
            at(0, x.exp() * (-x).exp() - Dd::from(1.0), &mut worst);
            at(1, x.exp().ln() - x, &mut worst);
            at(2, x.sin() * x.sin() + x.cos() * x.cos() - Dd::from(1.0), &mut worst);
            at(3, (x.atan().sin() / x.atan().cos() - x) / (Dd::from(1.0) + x * x), &mut worst);
            at(4, (x.abs().sqrt() * x.abs().sqrt() - x.abs()) / x, &mut worst);
            at(5, x.exp_m1().ln_1p() - x, &mut worst);
        }
        assert!(worst.iter().all(|w| *w < 1e-29), "{worst:?}");
    }
}

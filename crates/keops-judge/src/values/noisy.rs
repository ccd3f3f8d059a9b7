//! Numbers that are rounded at random: what a formula is sensitive to, its samples show.
//!
//! Random rounding (Vignes, "Discrete stochastic arithmetic", 2004): every result is moved by up to
//! a few units in the last place. Where samples scatter, no implementation can be held to one of
//! them; where they do not, every implementation has to give the same.
//!
//! Some samples keep some of what leaves the range of the type until a function, a comparison or the result asks for
//! it, as fused multiplication does and other orders of sums and products: what only an overflow in the order
//! as written decides is open as well.

use crate::naive::Real;
use std::cell::Cell;
use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// How numbers are rounded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rounding {
    /// To f32 instead of f64.
    pub single: bool,
    /// Seed of the noise; 0 is none.
    pub noise: u64,
    /// Do sums, products and quotients keep what is beyond the range of the type?
    pub wide: bool,
}

thread_local! {
    static ROUNDING: Cell<Rounding> = const { Cell::new(Rounding { single: false, noise: 0, wide: false }) };
}

thread_local! {
    static OVERFLOWED: Cell<bool> = const { Cell::new(false) };
}

/// Did a finite product overflow in the last evaluation?
pub fn overflowed() -> bool {
    OVERFLOWED.with(Cell::get)
}

/// Evaluates with a rounding.
pub fn with<R>(rounding: Rounding, f: impl FnOnce() -> R) -> R {
    ROUNDING.with(|r| r.set(rounding));
    OVERFLOWED.with(|o| o.set(false));
    f()
}

/// A number of the current rounding: `.0 2^.1`. The exponent is 0 but for what only [`Rounding::wide`] keeps.
#[derive(Clone, Copy, Debug)]
pub struct Noisy(f64, i32);

impl Noisy {
    /// As the type has it: 0 or infinite beyond its range.
    fn narrow(self) -> f64 {
        match self.1 {
            0 => self.0,
            1.. => self.0 * f64::INFINITY,
            _ => self.0 * 0.0,
        }
    }
    /// A fraction in [1/2, 1) and an exponent; 0 and what is not finite as they are.
    fn parts(self) -> (f64, i32) {
        if self.0 == 0.0 || !self.0.is_finite() {
            return (self.0, 0);
        }
        let lifted = self.0 * 2f64.powi(64); // normal; beyond the range only for large numbers
        let (v, lift) = if lifted.is_finite() { (lifted, 64) } else { (self.0, 0) };
        let exponent = ((v.to_bits() >> 52) & 0x7ff) as i32 - 1022;
        (
            v * 2f64.powi(-exponent / 2) * 2f64.powi(-exponent + exponent / 2),
            exponent - lift + self.1,
        )
    }
}

/// `fraction 2^exponent` with noise, which may be beyond the range of the type.
fn wide_of(fraction: f64, exponent: i32, ulps: f64) -> Noisy {
    let (single, u) = (single(), unit().unwrap_or(0.0));
    let roundoff = if single { f64::from(f32::EPSILON) / 2.0 } else { f64::EPSILON / 2.0 };
    let noisy = fraction * (1.0 + 2.0 * u * ulps * roundoff);
    let (fraction, shift) = Noisy(if single { f64::from(noisy as f32) } else { noisy }, 0).parts();
    if fraction == 0.0 || !fraction.is_finite() {
        return Noisy(fraction, 0);
    }
    let exponent = exponent + shift;
    let range = if single { -125..=128 } else { -1021..=1024 };
    match range.contains(&exponent) {
        true => Noisy(fraction * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2), 0),
        false => Noisy(fraction, exponent),
    }
}
/// Does a result have to be computed beyond the range of the type?
fn beyond(operands: [Noisy; 2], plain: f64) -> bool {
    let least = if single() { f64::from(f32::MIN_POSITIVE) } else { f64::MIN_POSITIVE };
    let normal = plain.is_finite() && plain.abs() >= least;
    let finite = operands.iter().all(|a| a.0.is_finite());
    // One product may be rounded to infinity before another is fused with it.
    let kept = || unit().is_none_or(|u| u < 0.0);
    ROUNDING.with(|r| r.get().wide)
        && (operands.iter().any(|a| a.1 != 0) || (finite && !normal && kept()))
}

fn unit() -> Option<f64> {
    ROUNDING.with(|cell| {
        let mut r = cell.get();
        if r.noise == 0 {
            return None;
        }
        r.noise ^= r.noise << 13;
        r.noise ^= r.noise >> 7;
        r.noise ^= r.noise << 17;
        cell.set(r);
        Some((r.noise >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    })
}
fn single() -> bool {
    ROUNDING.with(|r| r.get().single)
}

/// `v`, wrong by up to this many units of the last place where it is not exact.
fn rounded(v: f64, ulps: f64, exact: bool) -> Noisy {
    let single = single();
    let (unit_roundoff, least) = match single {
        true => (f64::from(f32::EPSILON) / 2.0, f64::from(f32::MIN_POSITIVE)),
        false => (f64::EPSILON / 2.0, f64::MIN_POSITIVE),
    };
    let nearest = |v: f64| if single { f64::from(v as f32) } else { v };
    let plain = nearest(v);
    if v == 0.0 {
        // The sign of a zero is left open.
        return Noisy(if unit().is_some_and(|u| u < 0.0) { -v } else { v }, 0);
    }
    if !v.is_finite() || (exact && plain == v && v.abs() >= least) {
        return Noisy(plain, 0);
    }
    let Some(u) = unit() else { return Noisy(plain, 0) };
    if v.abs() < least {
        // Numbers below the normal ones may be flushed.
        return Noisy(if u < 0.0 { 0.0 } else { plain }, 0);
    }
    Noisy(nearest(v * (1.0 + 2.0 * u * ulps * unit_roundoff)), 0)
}
/// Is the sum exact in f64? (Knuth's two-sum.)
fn sum_is_exact(a: f64, b: f64) -> bool {
    let s = a + b;
    let t = s - a;
    (a - (s - t)) + (b - t) == 0.0
}

impl From<f64> for Noisy {
    fn from(v: f64) -> Noisy {
        Noisy(if single() { f64::from(v as f32) } else { v }, 0)
    }
}
impl PartialEq for Noisy {
    fn eq(&self, o: &Noisy) -> bool {
        self.partial_cmp(o) == Some(Ordering::Equal)
    }
}
impl PartialOrd for Noisy {
    fn partial_cmp(&self, o: &Noisy) -> Option<Ordering> {
        self.narrow().partial_cmp(&o.narrow())
    }
}
impl Neg for Noisy {
    type Output = Noisy;
    fn neg(self) -> Noisy {
        Noisy(-self.0, self.1)
    }
}
impl Add for Noisy {
    type Output = Noisy;
    fn add(self, o: Noisy) -> Noisy {
        let sum = self.0 + o.0;
        if beyond([self, o], if self.0 == 0.0 || o.0 == 0.0 { 1.0 } else { Noisy::from(sum).0 }) {
            let ((a, n), (b, m)) = (self.parts(), o.parts());
            let top = match (a == 0.0, b == 0.0) {
                (true, _) => m,
                (_, true) => n,
                _ => n.max(m),
            };
            let at = |v: f64, e: i32| v * 2f64.powi((e - top).clamp(-1000, 0));
            return wide_of(at(a, n) + at(b, m), top, 2.0);
        }
        rounded(sum, 2.0, sum_is_exact(self.0, o.0))
    }
}
impl Sub for Noisy {
    type Output = Noisy;
    fn sub(self, o: Noisy) -> Noisy {
        self + -o
    }
}
impl Mul for Noisy {
    type Output = Noisy;
    fn mul(self, o: Noisy) -> Noisy {
        let p = self.0 * o.0;
        let product = Noisy::from(p).0;
        if product.is_infinite() && self.0.is_finite() && o.0.is_finite() {
            OVERFLOWED.with(|o| o.set(true));
        }
        let zero = self.0 == 0.0 || o.0 == 0.0;
        if beyond([self, o], if zero { 1.0 } else { product }) {
            let ((a, n), (b, m)) = (self.parts(), o.parts());
            return wide_of(a * b, n + m, 2.0);
        }
        rounded(p, 2.0, self.0.mul_add(o.0, -p) == 0.0)
    }
}
impl Div for Noisy {
    type Output = Noisy;
    fn div(self, o: Noisy) -> Noisy {
        let q = self.0 / o.0;
        let zero = self.0 == 0.0 || o.0 == 0.0;
        if beyond([self, o], if zero { 1.0 } else { Noisy::from(q).0 }) {
            let ((a, n), (b, m)) = (self.parts(), o.parts());
            return wide_of(a / b, n - m, 4.0);
        }
        rounded(q, 4.0, q.mul_add(o.0, -self.0) == 0.0)
    }
}

/// A function of the library, with the error that vector code may have.
fn function(v: f64, ulps: f64) -> Noisy {
    rounded(v, ulps, false)
}

/// A number of so few digits that everybody has the same.
fn short(v: f64) -> bool {
    let steps = v * 1_048_576.0;
    steps.fract() == 0.0 && steps.abs() < 1e15
}

impl Real for Noisy {
    const STEP: f64 = f64::STEP;
    /// What is computed of constants beforehand may be rounded once, or each step of it.
    fn constant(v: f64) -> Noisy {
        rounded(v, 1.0, short(v))
    }
    /// What was subtracted from 1 ends in zeros, of which products are exact: others have digits there.
    fn computed(self) -> Noisy {
        if self.1 == 0 { rounded(self.0, 2.0, short(self.0)) } else { self }
    }
    /// Samples of what overflows add in any order, too.
    fn order(terms: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..terms).collect();
        if ROUNDING.with(|r| r.get().wide) {
            let below = |n: usize| ((unit().unwrap_or(0.0) + 1.0) * 0.5 * n as f64) as usize;
            (1..terms).for_each(|k| order.swap(k, below(k + 1).min(k)));
        }
        order
    }
    fn f64(self) -> f64 {
        self.narrow()
    }
    fn pi() -> Noisy {
        function(std::f64::consts::PI, 1.0)
    }
    fn floor(self) -> Noisy {
        Noisy(self.narrow().floor(), 0)
    }
    fn sqrt(self) -> Noisy {
        function(self.narrow().sqrt(), 2.0)
    }
    fn exp(self) -> Noisy {
        let x = self.narrow();
        let e = x.exp();
        // An argument that was computed carries its rounding: see docs/accuracy.md.
        let ulps = 4.0 + 2.0 * x.abs();
        // It may be a product with a power of two, which keeps its size inside a fused sum.
        if Noisy::from(e).0.is_infinite() {
            OVERFLOWED.with(|o| o.set(true));
            if beyond([Noisy(1.0, 0); 2], f64::INFINITY) {
                let power = (x * std::f64::consts::LOG2_E).clamp(0.0, 1e6).floor(); // also of infinity
                let rest = (-power).mul_add(std::f64::consts::LN_2, x).clamp(0.0, 1.0);
                return wide_of(rest.exp(), power as i32, ulps);
            }
        }
        function(e, ulps)
    }
    fn exp_m1(self) -> Noisy {
        function(self.narrow().exp_m1(), 6.0 + 2.0 * self.narrow().abs())
    }
    fn ln(self) -> Noisy {
        function(self.narrow().ln(), 4.0)
    }
    fn ln_1p(self) -> Noisy {
        function(self.narrow().ln_1p(), 4.0)
    }
    fn sin(self) -> Noisy {
        function(self.narrow().sin(), 6.0)
    }
    fn cos(self) -> Noisy {
        function(self.narrow().cos(), 6.0)
    }
    fn atan2(self, x: Noisy) -> Noisy {
        function(self.narrow().atan2(x.narrow()), 6.0)
    }
    fn sinh(self) -> Noisy {
        function(self.narrow().sinh(), 8.0 + 2.0 * self.narrow().abs())
    }
    fn cosh(self) -> Noisy {
        function(self.narrow().cosh(), 8.0 + 2.0 * self.narrow().abs())
    }
    fn tanh(self) -> Noisy {
        function(self.narrow().tanh(), 8.0)
    }
    fn powf(self, b: Noisy) -> Noisy {
        let p = self.narrow().powf(b.narrow());
        function(p, 6.0 + 2.0 * (b.narrow() * self.narrow().abs().ln()).abs().min(1e6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::{Declared, Env, parse, value};

    /// Half of the samples keep what leaves the range of the type, or some of it.
    #[test]
    fn what_overflows_may_come_back() {
        let mut declared = Declared::read(["x = Pm(1)"]).unwrap();
        for (text, single, narrow, kept) in [
            ("x * x / x", false, f64::INFINITY, 1e200),
            ("x * x - x * x * 2", false, f64::NAN, f64::NEG_INFINITY),
            ("1 / (x * x) * x", false, 0.0, 1e-200),
            ("Exp(x / 1e30) * 0.5", true, f64::INFINITY, 0.5 * 89f64.exp()),
        ] {
            let e = parse(text, &mut declared).unwrap();
            let x = if single { 89.0 * 1e30 } else { 1e200 };
            let sample = |wide, noise| {
                with(Rounding { single, noise, wide }, || {
                    let mut env = Env { vars: vec![vec![Noisy::from(x)]], i: 0, j: 0 };
                    value(&e, &mut env).unwrap()[0].f64()
                })
            };
            let near =
                |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a / b - 1.0).abs() < 1e-4;
            assert!(near(sample(false, 5), narrow), "{text}: {}", sample(false, 5));
            let samples = (1..=16u64).map(|k| sample(true, k.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let samples: Vec<f64> = samples.collect();
            for wanted in [narrow, kept] {
                assert!(samples.iter().any(|s| near(*s, wanted)), "{text}: {samples:?}");
            }
        }
    }

    /// Each operation has noise of its own: of `a d - b c` of equal products there is as much left as
    /// fused multiplication leaves, the rounding error of one of them. So there is where `1 - Erf(x)`
    /// ends in zeros.
    #[test]
    fn equal_products_are_rounded_apart() {
        let mut declared = Declared::read(["x = Pm(1)"]).unwrap();
        for text in ["x * 0.7 - 0.7 * x", "Erfc(x) * 3 - 3 * Erfc(x)"] {
            let e = parse(text, &mut declared).unwrap();
            let sample = |noise| {
                with(Rounding { single: false, noise, wide: false }, || {
                    let mut env = Env { vars: vec![vec![Noisy::from(1.1)]], i: 0, j: 0 };
                    value(&e, &mut env).unwrap()[0].0.abs()
                })
            };
            assert_eq!(sample(0), 0.0);
            let samples = (1..=6u64).map(|k| sample(k.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let spread = samples.fold(0.0, f64::max);
            assert!(spread > 1e-17 && spread < 1e-12, "{text}: {spread:e}");
        }
    }
}

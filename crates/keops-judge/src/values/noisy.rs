//! Numbers that are rounded at random: what a formula is sensitive to, its samples show.
//!
//! Random rounding (Vignes, "Discrete stochastic arithmetic", 2004): every result is moved by up to
//! a few units in the last place. Where samples scatter, no implementation can be held to one of
//! them; where they do not, every implementation has to give the same.

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
}

thread_local! {
    static ROUNDING: Cell<Rounding> = const { Cell::new(Rounding { single: false, noise: 0 }) };
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

/// A number of the current rounding.
#[derive(Clone, Copy, Debug)]
pub struct Noisy(f64);

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
        return Noisy(if unit().is_some_and(|u| u < 0.0) { -v } else { v });
    }
    if !v.is_finite() || (exact && plain == v && v.abs() >= least) {
        return Noisy(plain);
    }
    let Some(u) = unit() else { return Noisy(plain) };
    if v.abs() < least {
        // Numbers below the normal ones may be flushed.
        return Noisy(if u < 0.0 { 0.0 } else { plain });
    }
    Noisy(nearest(v * (1.0 + 2.0 * u * ulps * unit_roundoff)))
}
/// Is the sum exact in f64? (Knuth's two-sum.)
fn sum_is_exact(a: f64, b: f64) -> bool {
    let s = a + b;
    let t = s - a;
    (a - (s - t)) + (b - t) == 0.0
}

impl From<f64> for Noisy {
    fn from(v: f64) -> Noisy {
        Noisy(if single() { f64::from(v as f32) } else { v })
    }
}
impl PartialEq for Noisy {
    fn eq(&self, o: &Noisy) -> bool {
        self.0 == o.0
    }
}
impl PartialOrd for Noisy {
    fn partial_cmp(&self, o: &Noisy) -> Option<Ordering> {
        self.0.partial_cmp(&o.0)
    }
}
impl Neg for Noisy {
    type Output = Noisy;
    fn neg(self) -> Noisy {
        Noisy(-self.0)
    }
}
impl Add for Noisy {
    type Output = Noisy;
    fn add(self, o: Noisy) -> Noisy {
        rounded(self.0 + o.0, 2.0, sum_is_exact(self.0, o.0))
    }
}
impl Sub for Noisy {
    type Output = Noisy;
    fn sub(self, o: Noisy) -> Noisy {
        rounded(self.0 - o.0, 2.0, sum_is_exact(self.0, -o.0))
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
        rounded(p, 2.0, self.0.mul_add(o.0, -p) == 0.0)
    }
}
impl Div for Noisy {
    type Output = Noisy;
    fn div(self, o: Noisy) -> Noisy {
        let q = self.0 / o.0;
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
        rounded(self.0, 2.0, short(self.0))
    }
    fn f64(self) -> f64 {
        self.0
    }
    fn pi() -> Noisy {
        function(std::f64::consts::PI, 1.0)
    }
    fn floor(self) -> Noisy {
        Noisy(self.0.floor())
    }
    fn sqrt(self) -> Noisy {
        function(self.0.sqrt(), 2.0)
    }
    fn exp(self) -> Noisy {
        // It may be a product with a power of two, which keeps its size inside a fused sum.
        let e = Noisy::from(self.0.exp()).0;
        if e.is_infinite() && self.0.is_finite() {
            OVERFLOWED.with(|o| o.set(true));
        }
        // An argument that was computed carries its rounding: see docs/accuracy.md.
        function(self.0.exp(), 4.0 + 2.0 * self.0.abs())
    }
    fn exp_m1(self) -> Noisy {
        function(self.0.exp_m1(), 6.0 + 2.0 * self.0.abs())
    }
    fn ln(self) -> Noisy {
        function(self.0.ln(), 4.0)
    }
    fn ln_1p(self) -> Noisy {
        function(self.0.ln_1p(), 4.0)
    }
    fn sin(self) -> Noisy {
        function(self.0.sin(), 6.0)
    }
    fn cos(self) -> Noisy {
        function(self.0.cos(), 6.0)
    }
    fn atan2(self, x: Noisy) -> Noisy {
        function(self.0.atan2(x.0), 6.0)
    }
    fn sinh(self) -> Noisy {
        function(self.0.sinh(), 8.0 + 2.0 * self.0.abs())
    }
    fn cosh(self) -> Noisy {
        function(self.0.cosh(), 8.0 + 2.0 * self.0.abs())
    }
    fn tanh(self) -> Noisy {
        function(self.0.tanh(), 8.0)
    }
    fn powf(self, b: Noisy) -> Noisy {
        let p = self.0.powf(b.0);
        function(p, 6.0 + 2.0 * (b.0 * self.0.abs().ln()).abs().min(1e6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::{Declared, Env, parse, value};

    /// Each operation has noise of its own: of `a d - b c` of equal products there is as much left as
    /// fused multiplication leaves, the rounding error of one of them. So there is where `1 - Erf(x)`
    /// ends in zeros.
    #[test]
    fn equal_products_are_rounded_apart() {
        let mut declared = Declared::read(["x = Pm(1)"]).unwrap();
        for text in ["x * 0.7 - 0.7 * x", "Erfc(x) * 3 - 3 * Erfc(x)"] {
            let e = parse(text, &mut declared).unwrap();
            let sample = |noise| {
                with(Rounding { single: false, noise }, || {
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

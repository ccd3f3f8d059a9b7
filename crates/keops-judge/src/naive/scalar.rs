//! Numbers that formulas are evaluated in.

use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A real number with the functions of formulas.
pub trait Real:
    Copy
    + Debug
    + PartialOrd
    + Send
    + Sync
    + From<f64>
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    /// Step of differences inside formulas (`Grad`, `Laplacian`, …).
    const STEP: f64;
    /// A constant of a formula.
    fn constant(v: f64) -> Self {
        Self::from(v)
    }
    /// The result of a function that others compute otherwise.
    fn computed(self) -> Self {
        self
    }
    /// The order in which so many terms are added.
    fn order(terms: usize) -> Vec<usize> {
        (0..terms).collect()
    }
    /// Rounded to f64.
    fn f64(self) -> f64;
    /// π.
    fn pi() -> Self;
    /// Largest integer not above.
    fn floor(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Exponential.
    fn exp(self) -> Self;
    /// Exponential minus 1.
    fn exp_m1(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Logarithm of 1 + x.
    fn ln_1p(self) -> Self;
    /// Sine.
    fn sin(self) -> Self;
    /// Cosine.
    fn cos(self) -> Self;
    /// Angle of the point (x, self).
    fn atan2(self, x: Self) -> Self;

    /// Is it not a number?
    fn is_nan(self) -> bool {
        self.f64().is_nan()
    }
    /// Absolute value.
    fn abs(self) -> Self {
        if self < Self::from(0.0) { -self } else { self }
    }
    /// Arctangent.
    fn atan(self) -> Self {
        self.atan2(Self::from(1.0))
    }
    /// Hyperbolic sine, by a form that is accurate near 0.
    fn sinh(self) -> Self {
        let a = self.abs();
        if a.f64() > 40.0 {
            let e = (a - Self::from(2.0).ln()).exp();
            return if self < Self::from(0.0) { -e } else { e };
        }
        let e = self.exp_m1();
        (e + e / (e + Self::from(1.0))) / Self::from(2.0)
    }
    /// Hyperbolic cosine.
    fn cosh(self) -> Self {
        let a = self.abs();
        if a.f64() > 40.0 {
            return (a - Self::from(2.0).ln()).exp();
        }
        let e = a.exp();
        (e + Self::from(1.0) / e) / Self::from(2.0)
    }
    /// Hyperbolic tangent.
    fn tanh(self) -> Self {
        let two = Self::from(2.0);
        let e = (self.abs() * two).exp_m1();
        let t = if e.f64() > 1e40 { Self::from(1.0) } else { e / (e + two) };
        if self < Self::from(0.0) { -t } else { t }
    }
    /// To an integer power, by repeated multiplication.
    fn powi(self, n: i64) -> Self {
        let mut p = Self::from(1.0);
        for _ in 0..n.unsigned_abs() {
            p = p * self;
        }
        if n < 0 { Self::from(1.0) / p } else { p }
    }
    /// To a real power.
    fn powf(self, b: Self) -> Self {
        let (zero, one) = (Self::from(0.0), Self::from(1.0));
        let (af, bf) = (self.f64(), b.f64());
        if self == zero || b == zero || !af.is_finite() || !bf.is_finite() {
            return Self::from(af.powf(bf)); // IEEE 754 says what these are
        }
        if self > zero {
            return (b * self.ln()).exp();
        }
        if b.floor() != b {
            return Self::from(f64::NAN);
        }
        let p = (b * (-self).ln()).exp();
        let half = b / Self::from(2.0);
        if half.floor() == half { p } else { zero - p * one }
    }
}

impl Real for f64 {
    // Fourth-order differences lose about as much to rounding as to truncation here.
    const STEP: f64 = 1e-3;
    fn f64(self) -> f64 {
        self
    }
    fn pi() -> f64 {
        std::f64::consts::PI
    }
    fn floor(self) -> f64 {
        self.floor()
    }
    fn sqrt(self) -> f64 {
        self.sqrt()
    }
    fn exp(self) -> f64 {
        self.exp()
    }
    fn exp_m1(self) -> f64 {
        self.exp_m1()
    }
    fn ln(self) -> f64 {
        self.ln()
    }
    fn ln_1p(self) -> f64 {
        self.ln_1p()
    }
    fn sin(self) -> f64 {
        self.sin()
    }
    fn cos(self) -> f64 {
        self.cos()
    }
    fn atan2(self, x: f64) -> f64 {
        self.atan2(x)
    }
    fn sinh(self) -> f64 {
        self.sinh()
    }
    fn cosh(self) -> f64 {
        self.cosh()
    }
    fn tanh(self) -> f64 {
        self.tanh()
    }
    fn powf(self, b: f64) -> f64 {
        self.powf(b)
    }
}

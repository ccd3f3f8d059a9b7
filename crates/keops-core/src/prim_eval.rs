//! Exact scalar evaluation of every primitive: the reference that code generators are compared
//! with, and the machine that evaluates an expansion of [`crate::vecmath`] immediately.

use crate::prim::Prim;
use crate::vecmath::{Precision, PrimBuilder, Val};
use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A compute type, f32 or f64, with the primitives that the standard operators do not give.
///
/// Integers of both widths travel as `i64`; [`PrimReal::wrap`] brings a result back to the width
/// of the type.
///
/// The methods are the primitives of [`Prim`] of one or two reals; [`eval`] gives all of them.
///
/// ```
/// use keops_core::prim_eval::PrimReal;
/// /// The length of a gap between a number and the next, for normal numbers.
/// fn spacing<R: PrimReal>(x: R) -> R {
///     let digits = if R::BITS == 32 { 23.0 } else { 52.0 };
///     R::from_f64(1.0).scale(x.exponent() - R::from_f64(digits))
/// }
/// assert_eq!(spacing(1.5_f32), f32::EPSILON);
/// assert_eq!(spacing(1000.0_f64), 512.0 * f64::EPSILON);
/// ```
pub trait PrimReal:
    Copy
    + Debug
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// Which of the two types this is.
    const PRECISION: Precision;
    /// Bits of the type, 32 or 64.
    const BITS: u32;

    /// Nearest number to `v`, halves to even; infinite beyond the range.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!(<f32 as PrimReal>::from_f64(16_777_217.0), 16_777_216.0);
    /// ```
    fn from_f64(v: f64) -> Self;
    /// The same number in double precision, exactly.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!(PrimReal::to_f64(0.1_f32), 0.100000001490116119384765625);
    /// ```
    fn to_f64(self) -> f64;
    /// `self * b + c`, rounded once.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// let x = 1.0 + f64::EPSILON; // the square has a last term ε², beyond the digits of x
    /// assert_eq!(x.fma(x, -x * x), f64::EPSILON * f64::EPSILON);
    /// ```
    fn fma(self, b: Self, c: Self) -> Self;
    /// `|self|`: the sign bit is cleared, also that of a zero or a NaN.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!((-0.0_f32).magnitude().to_bits(), 0);
    /// ```
    fn magnitude(self) -> Self;
    /// Correctly rounded square root; NaN below 0, -0 for -0.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!(6.25_f32.root(), 2.5);
    /// assert!(PrimReal::root(-1.0_f64).is_nan());
    /// ```
    fn root(self) -> Self;
    /// Largest integer not above `self`.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!([2.5_f64, -2.5].map(PrimReal::floor_int), [2.0, -3.0]);
    /// ```
    fn floor_int(self) -> Self;
    /// Nearest integer, halves to even.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!([2.5_f64, 3.5, -2.5].map(PrimReal::nearest_int), [2.0, 4.0, -2.0]);
    /// ```
    fn nearest_int(self) -> Self;
    /// Integer part, towards zero.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!([2.5_f64, -2.5].map(PrimReal::trunc_int), [2.0, -2.0]);
    /// ```
    fn trunc_int(self) -> Self;
    /// [`Prim::Scale`]: `self · 2^b`, rounded once.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!(3.0_f32.scale(4.0), 48.0);
    /// assert_eq!(1.5_f64.scale(-1074.0), 2.0 * f64::from_bits(1)); // a half, to even
    /// assert_eq!(1.0_f64.scale(f64::NEG_INFINITY), 0.0);
    /// ```
    fn scale(self, b: Self) -> Self;
    /// [`Prim::Exponent`]: `floor(log2 |self|)`.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!((-10.0_f64).exponent(), 3.0);
    /// assert_eq!(f32::from_bits(1).exponent(), -149.0); // the smallest subnormal number
    /// assert_eq!(0.0_f32.exponent(), f32::NEG_INFINITY);
    /// ```
    fn exponent(self) -> Self;
    /// [`Prim::Significand`]: of 1 ≤ |significand| < 2.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!((-10.0_f64).significand(), -1.25); // -1.25 · 2³
    /// ```
    fn significand(self) -> Self;
    /// [`Prim::RoundF16`]: the nearest number of half precision.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!(0.1_f32.round_f16(), half::f16::from_f32(0.1).to_f32());
    /// assert_eq!(65520.0_f64.round_f16(), f64::INFINITY);
    /// ```
    fn round_f16(self) -> Self;
    /// Bits, sign-extended.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!(1.0_f64.to_int_bits(), 1023 << 52);
    /// assert_eq!((-0.0_f32).to_int_bits(), i64::from(i32::MIN));
    /// ```
    fn to_int_bits(self) -> i64;
    /// The number with the given (low) bits.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!(f32::from_int_bits(127 << 23), 1.0);
    /// ```
    fn from_int_bits(bits: i64) -> Self;
    /// Two's complement value of the low [`PrimReal::BITS`] bits.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!(f32::wrap((1 << 31) + 5), i64::from(i32::MIN) + 5);
    /// assert_eq!(f64::wrap((1 << 31) + 5), (1 << 31) + 5);
    /// ```
    fn wrap(v: i64) -> i64;
    /// The low [`PrimReal::BITS`] bits without sign.
    ///
    /// ```
    /// use keops_core::prim_eval::PrimReal;
    /// assert_eq!([f32::unsigned(-1), f64::unsigned(-1)], [u32::MAX.into(), u64::MAX]);
    /// ```
    fn unsigned(v: i64) -> u64;
    /// The value of the scalar function in this precision; `args` has the length of its arity.
    ///
    /// ```
    /// use keops_core::prim::ScalarFn;
    /// use keops_core::prim_eval::PrimReal;
    /// let third = ScalarFn { name: "third", arity: 1, f32: |a| a[0] / 3.0, f64: |a| a[0] / 3.0 };
    /// assert_eq!(PrimReal::call(&third, &[1.0_f32]), 1.0 / 3.0_f32);
    /// assert_eq!(PrimReal::call(&third, &[1.0_f64]), 1.0 / 3.0_f64);
    /// ```
    fn call(f: &crate::prim::ScalarFn, args: &[Self]) -> Self;
}

/// `a * 2^b` for `a` finite and not 0 and any integer-valued or infinite `b`, rounded once.
fn scale_f64(a: f64, b: f64) -> f64 {
    // |a| is in [2^-1074, 2^1024): beyond these bounds the result no longer changes.
    let b = b.clamp(-2200.0, 2200.0) as i32;
    let (m, e) = split(a);
    let e = (e + b).clamp(-1200, 1100);
    if e > 1023 {
        f64::INFINITY.copysign(a)
    } else if e >= -1022 {
        m * power_of_two(e)
    } else {
        // m 2^-1000 is exact, so that the last product alone rounds.
        m * power_of_two(-1000) * power_of_two(e + 1000)
    }
}

/// `2^e` for a normal result.
fn power_of_two(e: i32) -> f64 {
    debug_assert!((-1022..=1023).contains(&e));
    f64::from_bits(((e + 1023) as u64) << 52)
}

/// `(m, e)` with `a = m 2^e` and `1 <= |m| < 2`, for `a` finite and not 0.
fn split(a: f64) -> (f64, i32) {
    let biased = |x: f64| ((x.to_bits() >> 52) & 0x7ff) as i32;
    let (a, shift) = if biased(a) == 0 { (a * power_of_two(64), 64) } else { (a, 0) };
    let m = f64::from_bits((a.to_bits() & !(0x7ff << 52)) | (1023 << 52));
    (m, biased(a) - 1023 - shift)
}

/// Nearest half-precision number, halves to even: multiples of `2^(max(e, -14) - 10)` for `a` in
/// `[2^e, 2^(e+1))`, infinite from 65520 on.
fn nearest_f16(a: f64) -> f64 {
    if a == 0.0 || !a.is_finite() {
        return a;
    }
    let quantum = f64::from(split(a).1.max(-14) - 10);
    let r = scale_f64(scale_any(a, -quantum).round_ties_even(), quantum);
    if r.abs() > 65504.0 { f64::INFINITY.copysign(a) } else { r }
}

/// [`scale_f64`] that also takes 0, infinities and NaN.
fn scale_any(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 || a.is_infinite() {
        // 0 * 2^inf and inf * 2^-inf have no value.
        match b {
            f64::INFINITY | f64::NEG_INFINITY => a * if b > 0.0 { f64::INFINITY } else { 0.0 },
            _ => a,
        }
    } else {
        scale_f64(a, b)
    }
}

fn exponent_f64(a: f64) -> f64 {
    if a.is_nan() {
        a
    } else if a == 0.0 {
        f64::NEG_INFINITY
    } else if a.is_infinite() {
        f64::INFINITY
    } else {
        f64::from(split(a).1)
    }
}

fn significand_f64(a: f64) -> f64 {
    if a.is_nan() {
        a
    } else if a == 0.0 || a.is_infinite() {
        1f64.copysign(a)
    } else {
        split(a).0
    }
}

macro_rules! prim_real {
    ($t:ident, $int:ident, $uint:ident, $precision:ident) => {
        impl PrimReal for $t {
            const PRECISION: Precision = Precision::$precision;
            const BITS: u32 = $int::BITS;

            fn from_f64(v: f64) -> Self {
                v as $t
            }
            fn to_f64(self) -> f64 {
                self.into()
            }
            fn fma(self, b: Self, c: Self) -> Self {
                self.mul_add(b, c)
            }
            fn magnitude(self) -> Self {
                self.abs()
            }
            fn root(self) -> Self {
                self.sqrt()
            }
            fn floor_int(self) -> Self {
                self.floor()
            }
            fn nearest_int(self) -> Self {
                self.round_ties_even()
            }
            fn trunc_int(self) -> Self {
                self.trunc()
            }
            // For f32 the double-precision result is rounded once more only where it was exact:
            // a 24-bit significand times a power of two, down to 2^-2200 or to zero.
            fn scale(self, b: Self) -> Self {
                let b = f64::from(b);
                let b = if $int::BITS == 32 && b.is_finite() { b.clamp(-400.0, 400.0) } else { b };
                scale_any(self.into(), b) as $t
            }
            fn exponent(self) -> Self {
                exponent_f64(self.into()) as $t
            }
            fn significand(self) -> Self {
                significand_f64(self.into()) as $t
            }
            fn round_f16(self) -> Self {
                nearest_f16(self.into()) as $t
            }
            fn to_int_bits(self) -> i64 {
                (self.to_bits() as $int).into()
            }
            fn from_int_bits(bits: i64) -> Self {
                $t::from_bits(bits as $uint)
            }
            fn wrap(v: i64) -> i64 {
                (v as $int).into()
            }
            fn unsigned(v: i64) -> u64 {
                (v as $uint).into()
            }
            fn call(f: &crate::prim::ScalarFn, args: &[Self]) -> Self {
                (f.$t)(args)
            }
        }
    };
}
prim_real!(f32, i32, u32, F32);
prim_real!(f64, i64, u64, F64);

/// Value of one lane.
///
/// ```
/// use keops_core::prim::Prim;
/// use keops_core::prim_eval::{LaneValue::{self, Int, Mask, Real}, eval};
/// let below: LaneValue<f64> = eval(Prim::Lt, &[Real(1.0), Real(2.0)]);
/// assert_eq!(below, Mask(true));
/// assert_eq!(eval(Prim::Select, &[below, Real(7.0), Real(8.0)]), Real(7.0));
/// assert_eq!(eval(Prim::ToInt, &[Real(2.5_f64)]), Int(2));
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum LaneValue<R> {
    /// Floating-point number.
    Real(R),
    /// Integer of the width of `R`, sign-extended.
    Int(i64),
    /// Truth value.
    Mask(bool),
}

impl<R: PrimReal> LaneValue<R> {
    /// The number; panics for another kind (the caller built an ill-typed operation).
    ///
    /// ```
    /// use keops_core::prim_eval::LaneValue;
    /// assert_eq!(LaneValue::Real(0.5_f32).real(), 0.5);
    /// ```
    pub fn real(self) -> R {
        match self {
            LaneValue::Real(v) => v,
            other => panic!("expected a real lane value, got {other:?}"),
        }
    }
    /// The integer; panics for another kind (the caller built an ill-typed operation).
    ///
    /// ```
    /// use keops_core::prim_eval::LaneValue;
    /// assert_eq!(LaneValue::<f32>::Int(-3).int(), -3);
    /// ```
    pub fn int(self) -> i64 {
        match self {
            LaneValue::Int(v) => v,
            other => panic!("expected an integer lane value, got {other:?}"),
        }
    }
    /// The truth value; panics for another kind (the caller built an ill-typed operation).
    ///
    /// ```
    /// use keops_core::prim_eval::LaneValue;
    /// assert!(LaneValue::<f32>::Mask(true).mask());
    /// ```
    pub fn mask(self) -> bool {
        match self {
            LaneValue::Mask(v) => v,
            other => panic!("expected a mask lane value, got {other:?}"),
        }
    }
}

/// Result of one primitive. Panics when the number or the kinds of the arguments do not match
/// [`Prim::signature`].
///
/// ```
/// use keops_core::prim::Prim;
/// use keops_core::prim_eval::{LaneValue::Real, eval};
/// // A NaN is never smaller: the second argument is taken.
/// assert_eq!(eval(Prim::Min, &[Real(f32::NAN), Real(1.0)]), Real(1.0));
/// assert!(eval(Prim::Min, &[Real(1.0), Real(f32::NAN)]).real().is_nan());
/// ```
pub fn eval<R: PrimReal>(op: Prim, args: &[LaneValue<R>]) -> LaneValue<R> {
    let arity = op.signature().0.len();
    assert_eq!(args.len(), arity, "{op:?} takes {arity} arguments");
    let r = |k: usize| args[k].real();
    let i = |k: usize| args[k].int();
    let m = |k: usize| args[k].mask();
    let real = LaneValue::Real;
    let int = |v: i64| LaneValue::Int(R::wrap(v));
    let mask = LaneValue::Mask;
    match op {
        Prim::Add => real(r(0) + r(1)),
        Prim::Sub => real(r(0) - r(1)),
        Prim::Mul => real(r(0) * r(1)),
        Prim::Div => real(r(0) / r(1)),
        Prim::Fma => real(r(0).fma(r(1), r(2))),
        Prim::Fnma => real((-r(0)).fma(r(1), r(2))),
        Prim::Fms => real(r(0).fma(r(1), -r(2))),
        Prim::Neg => real(-r(0)),
        Prim::Abs => real(r(0).magnitude()),
        Prim::Sqrt => real(r(0).root()),
        Prim::Min => real(if r(0) < r(1) { r(0) } else { r(1) }),
        Prim::Max => real(if r(0) > r(1) { r(0) } else { r(1) }),
        Prim::Floor => real(r(0).floor_int()),
        Prim::RoundEven => real(r(0).nearest_int()),
        Prim::Trunc => real(r(0).trunc_int()),
        Prim::Scale => real(r(0).scale(r(1))),
        Prim::Exponent => real(r(0).exponent()),
        Prim::Significand => real(r(0).significand()),
        Prim::RoundF16 => real(r(0).round_f16()),
        Prim::Lt => mask(r(0) < r(1)),
        Prim::Le => mask(r(0) <= r(1)),
        Prim::Eq => mask(r(0) == r(1)),
        Prim::MaskAnd => mask(m(0) && m(1)),
        Prim::MaskOr => mask(m(0) || m(1)),
        Prim::MaskNot => mask(!m(0)),
        Prim::Select => real(if m(0) { r(1) } else { r(2) }),
        Prim::SelectInt => int(if m(0) { i(1) } else { i(2) }),
        Prim::ToBits => int(r(0).to_int_bits()),
        Prim::FromBits => real(R::from_int_bits(i(0))),
        Prim::ToInt => int(r(0).nearest_int().to_f64() as i64),
        Prim::FromInt => real(R::from_f64(i(0) as f64)),
        Prim::IntAdd => int(i(0).wrapping_add(i(1))),
        Prim::IntSub => int(i(0).wrapping_sub(i(1))),
        Prim::IntAnd => int(i(0) & i(1)),
        Prim::IntOr => int(i(0) | i(1)),
        Prim::IntXor => int(i(0) ^ i(1)),
        Prim::IntShl(s) => int(R::unsigned(i(0)).checked_shl(s.into()).unwrap_or(0) as i64),
        Prim::IntShr(s) => int(R::unsigned(i(0)).checked_shr(s.into()).unwrap_or(0) as i64),
        Prim::IntEq => mask(i(0) == i(1)),
        Prim::IntLt => mask(i(0) < i(1)),
        Prim::Call(f) => {
            let values: Vec<R> = args.iter().map(|a| a.real()).collect();
            real(R::call(f, &values))
        }
        Prim::CallIf(f) => {
            let values: Vec<R> = args[1..].iter().map(|a| a.real()).collect();
            real(if m(0) { R::call(f, &values[1..]) } else { values[0] })
        }
    }
}

/// A builder that evaluates every operation at once on a single lane.
///
/// ```
/// use keops_core::prim::Prim;
/// use keops_core::prim_eval::{LaneValue, Scalar};
/// use keops_core::vecmath::PrimBuilder;
/// let mut m = Scalar::<f64>::new();
/// let x = m.input(LaneValue::Real(3.0));
/// let two = m.real(2.0);
/// let y = m.prim(Prim::Fma, &[x, x, two]); // 3 · 3 + 2
/// assert_eq!(m.value(y), LaneValue::Real(11.0));
/// assert_eq!(m.len(), 3);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Scalar<R> {
    values: Vec<LaneValue<R>>,
}

impl<R: PrimReal> Scalar<R> {
    /// A machine without values.
    ///
    /// ```
    /// use keops_core::prim_eval::Scalar;
    /// assert!(Scalar::<f32>::new().is_empty());
    /// ```
    pub fn new() -> Self {
        Self { values: Vec::new() }
    }

    /// Enters any lane value.
    ///
    /// ```
    /// use keops_core::prim_eval::{LaneValue, Scalar};
    /// let mut m = Scalar::<f32>::new();
    /// let yes = m.input(LaneValue::Mask(true));
    /// assert_eq!(m.value(yes), LaneValue::Mask(true));
    /// ```
    pub fn input(&mut self, v: LaneValue<R>) -> Val {
        self.values.push(v);
        Val(self.values.len() as u32 - 1)
    }

    /// Value of `v`, which this machine has made; panics for another.
    ///
    /// ```
    /// use keops_core::prim_eval::{LaneValue, Scalar};
    /// use keops_core::vecmath::PrimBuilder;
    /// let mut m = Scalar::<f32>::new();
    /// let tenth = m.real(0.1); // rounded to the type of the machine
    /// assert_eq!(m.value(tenth), LaneValue::Real(0.1_f32));
    /// ```
    pub fn value(&self, v: Val) -> LaneValue<R> {
        self.values[v.0 as usize]
    }

    /// Number of values made so far (inputs, constants and operations): a measure of the cost of an
    /// expansion.
    ///
    /// ```
    /// use keops_core::prim_eval::{LaneValue, Scalar};
    /// use keops_core::vecmath;
    /// let mut m = Scalar::<f32>::new();
    /// let x = m.input(LaneValue::Real(4.0));
    /// vecmath::powi(&mut m, x, 8); // squared three times; a constant 1, for powers below 1
    /// assert_eq!(m.len(), 1 + 3 + 1);
    /// ```
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the machine has made no value yet.
    ///
    /// ```
    /// use keops_core::{prim_eval::Scalar, vecmath::PrimBuilder};
    /// let mut m = Scalar::<f64>::new();
    /// m.int(1);
    /// assert!(!m.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl<R: PrimReal> PrimBuilder for Scalar<R> {
    fn precision(&self) -> Precision {
        R::PRECISION
    }
    fn real(&mut self, v: f64) -> Val {
        self.input(LaneValue::Real(R::from_f64(v)))
    }
    fn int(&mut self, v: i64) -> Val {
        self.input(LaneValue::Int(R::wrap(v)))
    }
    fn prim(&mut self, op: Prim, args: &[Val]) -> Val {
        // No primitive takes more than five arguments.
        let mut lanes = [LaneValue::Mask(false); 5];
        for (lane, &arg) in lanes.iter_mut().zip(args) {
            *lane = self.value(arg);
        }
        let v = eval(op, &lanes[..args.len()]);
        self.input(v)
    }
}

/// Value at `x` of a one-argument expansion.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath};
/// assert_eq!(eval1(vecmath::log2, 8.0_f64), 3.0);
/// assert!(eval1(vecmath::log2, -1.0_f32).is_nan());
/// ```
pub fn eval1<R: PrimReal>(f: impl FnOnce(&mut dyn PrimBuilder, Val) -> Val, x: R) -> R {
    let mut machine = Scalar::new();
    let x = machine.input(LaneValue::Real(x));
    let y = f(&mut machine, x);
    machine.value(y).real()
}

/// Value at `(x, y)` of a two-argument expansion.
///
/// ```
/// use keops_core::{prim_eval::eval2, vecmath};
/// assert_eq!(eval2(vecmath::pow, 2.0_f32, 0.0), 1.0);
/// assert_eq!(eval2(vecmath::atan2, 0.0_f64, -1.0), std::f64::consts::PI);
/// ```
pub fn eval2<R: PrimReal>(f: impl FnOnce(&mut dyn PrimBuilder, Val, Val) -> Val, x: R, y: R) -> R {
    let mut machine = Scalar::new();
    let x = machine.input(LaneValue::Real(x));
    let y = machine.input(LaneValue::Real(y));
    let z = f(&mut machine, x, y);
    machine.value(z).real()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `2^e` from 2^-1074 on.
    fn p2(e: i32) -> f64 {
        if e < -1000 { p2(e + 1000) * 2f64.powi(-1000) } else { 2f64.powi(e) }
    }

    #[test]
    fn scale_rounds_once_at_every_distance() {
        // In single precision the product is exact in double precision.
        for bits in (0..u32::MAX).step_by(1_000_003) {
            let a = f32::from_bits(bits);
            for b in [-300i16, -149, -127, -24, -1, 0, 1, 5, 127, 128, 277, 300] {
                let got = a.scale(b.into());
                let exact = (f64::from(a) * p2(b.into())) as f32;
                assert!(got == exact || (got.is_nan() && exact.is_nan()), "{a:e} * 2^{b}: {got:e}");
            }
        }
        let smallest = f64::from_bits(1);
        // 3/2 of the smallest number lies half way and goes to the even 2, 5/2 too, and just
        // above 1/2 to 1; two roundings would give 0 for the last.
        assert_eq!(1.5f64.scale(-1074.0), 2.0 * smallest);
        assert_eq!(2.5f64.scale(-1074.0), 2.0 * smallest);
        assert_eq!(0.5f64.scale(-1074.0), 0.0);
        assert_eq!((0.5 + f64::EPSILON).scale(-1074.0), smallest);
        assert_eq!((-0.25f64).scale(-1074.0).to_bits(), (-0.0f64).to_bits());
        assert_eq!(f64::MAX.scale(-2098.0), smallest);
        assert_eq!(smallest.scale(2097.0), p2(1023));
        assert_eq!(smallest.scale(2098.0), f64::INFINITY);
        assert_eq!(1f64.scale(1e300), f64::INFINITY);
        assert_eq!((-1f64).scale(f64::NEG_INFINITY).to_bits(), (-0.0f64).to_bits());
        assert_eq!((-1f64).scale(f64::INFINITY), f64::NEG_INFINITY);
        assert!(f64::NAN.scale(f64::INFINITY).is_nan() && 1f64.scale(f64::NAN).is_nan());
        assert!(1f32.scale(f32::NAN).is_nan() && f32::NAN.scale(f32::NEG_INFINITY).is_nan());
    }

    #[test]
    fn exponent_and_significand_rebuild_every_number() {
        for bits in (1..0x7f80_0000u32).step_by(100_003).chain([1, 2, 3, 0x7f_ffff, 0x80_0000]) {
            let a = -f32::from_bits(bits);
            let (s, e) = (a.significand(), a.exponent());
            assert!((1.0..2.0).contains(&-s), "{a:e}: significand {s}");
            assert_eq!(s.scale(e), a);
        }
        for a in [f64::from_bits(1), f64::from_bits(3), f64::MIN_POSITIVE, 0.1, f64::MAX] {
            assert!((1.0..2.0).contains(&a.significand()));
            assert_eq!(a.significand().scale(a.exponent()), a);
        }
        assert_eq!(f64::from_bits(1).exponent(), -1074.0);
        assert_eq!(0f32.exponent(), f32::NEG_INFINITY);
        assert_eq!(f32::NEG_INFINITY.exponent(), f32::INFINITY);
        assert!(f32::NAN.exponent().is_nan() && f32::NAN.significand().is_nan());
        assert!(0f64.significand().is_finite() && f64::INFINITY.significand().is_finite());
    }

    #[test]
    fn half_precision_rounds_once() {
        for bits in (0..u32::MAX).step_by(60_013) {
            let a = f32::from_bits(bits);
            let (got, exact) = (a.round_f16(), half::f16::from_f32(a).to_f32());
            assert!(got.to_bits() == exact.to_bits() || (got.is_nan() && exact.is_nan()), "{a:e}");
        }
        // Half way between 1 and the next half-precision number, and a little above: by way of
        // single precision it would become 1.
        assert_eq!((1.0 + p2(-11)).round_f16(), 1.0);
        assert_eq!((1.0 + p2(-11) + p2(-40)).round_f16(), 1.0 + p2(-10));
        assert_eq!((p2(-25) + p2(-60)).round_f16(), p2(-24));
        assert_eq!(p2(-25).round_f16(), 0.0);
        assert_eq!(65519.999f64.round_f16(), 65504.0);
        assert_eq!((-65520f64).round_f16(), f64::NEG_INFINITY);
    }

    #[test]
    fn minimum_and_maximum_return_the_second_argument_for_nan() {
        let real = |v: f64| LaneValue::Real(v);
        for op in [Prim::Min, Prim::Max] {
            assert_eq!(eval(op, &[real(f64::NAN), real(1.0)]), real(1.0));
            assert!(eval(op, &[real(1.0), real(f64::NAN)]).real().is_nan());
            // Neither zero is smaller: again the second argument.
            let zero = eval(op, &[real(0.0), real(-0.0)]).real();
            assert!(zero.is_sign_negative());
        }
    }

    #[test]
    fn integers_wrap_at_the_width_of_the_type() {
        let int = LaneValue::<f32>::Int;
        let max = i64::from(i32::MAX);
        assert_eq!(eval(Prim::IntAdd, &[int(max), int(1)]), int(i32::MIN.into()));
        assert_eq!(eval(Prim::IntShr(31), &[int(-1)]), int(1));
        assert_eq!(eval(Prim::IntShl(31), &[int(1)]), int(i32::MIN.into()));
        let int = LaneValue::<f64>::Int;
        assert_eq!(eval(Prim::IntAdd, &[int(i64::MAX), int(1)]), int(i64::MIN));
        assert_eq!(eval(Prim::IntShr(63), &[int(-1)]), int(1));
    }

    #[test]
    fn conditional_call_leaves_other_lanes_alone() {
        static NEGATE: crate::prim::ScalarFn =
            crate::prim::ScalarFn { name: "negate", arity: 1, f32: |a| -a[0], f64: |a| -a[0] };
        let run = |mask: bool| {
            eval(
                Prim::CallIf(&NEGATE),
                &[LaneValue::Mask(mask), LaneValue::Real(5.0f64), LaneValue::Real(3.0)],
            )
        };
        assert_eq!(run(true), LaneValue::Real(-3.0));
        assert_eq!(run(false), LaneValue::Real(5.0));
        assert_eq!(eval(Prim::Call(&NEGATE), &[LaneValue::Real(3.0f32)]), LaneValue::Real(-3.0));
    }
}

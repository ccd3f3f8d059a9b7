//! Elementary functions as expansions into primitives, so that every code generator has them.
//!
//! Every function is right over the whole range of its type: subnormal arguments and results,
//! both zeros, infinities and NaN follow IEEE 754-2019 (C's annex F).
//!
//! Bounds of the error in units in the last place (ulp), over the whole range, and numbers of
//! primitives; f32 / f64:
//!
//! | function | error | primitives |
//! |---|---|---|
//! | [`exp`] | 1.0 / 1.0 | 13 / 18 |
//! | [`exp2`] | 1.0 / 1.0 | 10 / 15 |
//! | [`expm1`] | 1.6 / 2.0 | 19 / 24 |
//! | [`log`] | 1.0 / 1.0 | 21 / 26 |
//! | [`log2`] | 1.5 / 1.0 | 24 / 27 |
//! | [`log1p`] | 1.7 / 1.2 | 36 / 39 |
//! | [`sin`] | 2.2 / 1.7 | 25 / 29 |
//! | [`cos`] | 2.2 / 1.7 | 21 / 25 |
//! | [`tan`] | 2.7 / 2.3 | 28 / 35 |
//! | [`asin`] | 2.0 / 2.2 | 21 / 28 |
//! | [`acos`] | 1.2 / 1.2 | 25 / 32 |
//! | [`atan`] | 1.4 / 1.5 | 24 / 35 |
//! | [`sinh`] | 2.4 / 2.3 | 27 / 32 |
//! | [`cosh`] | 1.4 / 1.4 | 17 / 22 |
//! | [`tanh`] | 2.6 / 2.6 | 27 / 32 |
//! | [`asinh`] | 1.8 / 1.3 | 53 / 56 |
//! | [`acosh`] | 2.4 / 1.9 | 45 / 48 |
//! | [`atanh`] | 2.0 / 1.2 | 46 / 49 |
//! | [`sigmoid`] | 2.2 / 1.2 | 19 / 24 |
//! | [`softplus`] | 1.9 / 1.0 | 54 / 62 |
//! | [`atan2`] | 1.7 / 1.5 | 41 / 52 |
//! | [`pow`] | 1.0 / 1.0 | 64 / 73 |
//! | [`exp2_cheap`] | 2.5 / 3.5, for a given product with log2(e) | 9 / 14 |
//! | [`exp_cheap`] | 2.5 + 1.25 abs(x) / 4 + 1.25 abs(x) | 10 / 15 |
//!
//! These are the bounds that `tests/vecmath_accuracy.rs` asserts; the largest errors seen, over
//! every 97th f32 number and 20 000 f64 numbers per function, are a little lower.

mod coef;
mod exp;
mod hyperbolic;
mod log;
mod math;
mod power;
mod radial;
mod trig;
mod trig_large;

pub use exp::{cosh, exp, exp_cheap, exp2, exp2_cheap, exp2_watched, expm1, sinh, tanh};
pub use hyperbolic::{acosh, asinh, atanh, sigmoid, softplus};
pub use log::{log, log1p, log2};
pub use power::{pow, powi, rsqrt};
pub use radial::{cos_sqrt, matern, pow_log, sinc_sqrt, wendland};
pub(crate) use radial::{matern_ratio, wendland_polynomial};
pub use trig::{acos, asin, atan, atan2, cos, sin, tan};

use crate::prim::Prim;

/// A value under construction.
///
/// ```
/// use keops_core::prim_eval::{LaneValue, Scalar};
/// use keops_core::vecmath::{PrimBuilder, Val};
/// let mut m = Scalar::<f64>::new();
/// assert_eq!([m.real(2.0), m.real(3.0)], [Val(0), Val(1)]);
/// assert_eq!(m.value(Val(1)), LaneValue::Real(3.0));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Default)]
pub struct Val(
    /// Number given by the builder.
    pub u32,
);

/// Precision of the compute type.
///
/// ```
/// use keops_core::prim_eval::PrimReal;
/// use keops_core::vecmath::Precision;
/// assert_eq!([f32::PRECISION, f64::PRECISION], [Precision::F32, Precision::F64]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Precision {
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
}

/// How a target multiplies by powers of two.
///
/// ```
/// use keops_core::prim::Prim;
/// use keops_core::vecmath::{self, Bound, Precision, PrimBuilder, Scaling, Val};
/// /// Keeps the primitives, for a target that scales in this way.
/// struct Recorder(Scaling, Vec<Prim>);
/// impl PrimBuilder for Recorder {
///     fn precision(&self) -> Precision { Precision::F32 }
///     fn real(&mut self, _: f64) -> Val { Val(0) }
///     fn int(&mut self, _: i64) -> Val { Val(0) }
///     fn prim(&mut self, op: Prim, _: &[Val]) -> Val { self.1.push(op); Val(0) }
///     fn scaling(&self) -> Scaling { self.0 }
///     fn bound(&self, _: Val) -> Bound { Bound::Nonpositive }
/// }
/// let scales = |scaling| {
///     let mut r = Recorder(scaling, vec![]);
///     vecmath::exp2_cheap(&mut r, Val(0));
///     r.1.contains(&Prim::Scale)
/// };
/// assert!(scales(Scaling::Exact) && !scales(Scaling::Integer));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scaling {
    /// By [`Prim::Scale`], as it is specified.
    #[default]
    Exact,
    /// By [`Prim::Scale`], which gives zero or infinity also for a NaN with an exponent of -inf or
    /// +inf (AVX-512): an exponential of an infinite argument then needs no guard.
    AbsorbsNan,
    /// [`Prim::Scale`] is a long sequence (AVX2): where exponents are bounded, they are better
    /// added to the bits.
    Integer,
}

/// What is known of the exponent of an exponential (which may be NaN always).
///
/// ```
/// use keops_core::vecmath::{Bound, PrimBuilder};
/// let mut m = keops_core::prim_eval::Scalar::<f32>::new();
/// let x = m.real(-1.0);
/// assert_eq!(m.bound(x), Bound::Unknown); // unless the builder keeps track of signs
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// Nothing.
    Unknown,
    /// At most 0.
    Nonpositive,
    /// At most 0, or +inf.
    NonpositiveOrInfinite,
}

/// Whatever collects primitives: a code generator's lowering, or a machine that evaluates them at
/// once ([`crate::prim_eval::Scalar`]).
///
/// ```
/// use keops_core::prim::Prim;
/// use keops_core::vecmath::{self, Precision, PrimBuilder, Val};
/// /// Writes an expansion down.
/// #[derive(Default)]
/// struct Text(Vec<String>);
/// impl Text {
///     fn line(&mut self, text: String) -> Val {
///         self.0.push(text);
///         Val(self.0.len() as u32)
///     }
/// }
/// impl PrimBuilder for Text {
///     fn precision(&self) -> Precision {
///         Precision::F64
///     }
///     fn real(&mut self, v: f64) -> Val {
///         self.line(format!("{v}"))
///     }
///     fn int(&mut self, v: i64) -> Val {
///         self.line(format!("{v}"))
///     }
///     fn prim(&mut self, op: Prim, args: &[Val]) -> Val {
///         let args: Vec<String> = args.iter().map(|a| format!("%{}", a.0)).collect();
///         self.line(format!("{op:?} {}", args.join(" ")))
///     }
/// }
/// let mut text = Text::default();
/// vecmath::powi(&mut text, Val(0), 3); // of %0
/// assert_eq!(text.0, ["Mul %0 %0", "Mul %0 %1", "1"]);
/// ```
pub trait PrimBuilder {
    /// Precision of all reals.
    ///
    /// ```
    /// use keops_core::{prim_eval::Scalar, vecmath::{Precision, PrimBuilder}};
    /// assert_eq!(Scalar::<f32>::new().precision(), Precision::F32);
    /// ```
    fn precision(&self) -> Precision;
    /// Constant of the compute type, `v` rounded to it.
    ///
    /// ```
    /// use keops_core::{prim_eval::{LaneValue, Scalar}, vecmath::PrimBuilder};
    /// let mut m = Scalar::<f32>::new();
    /// let v = m.real(1.0 + 1e-9);
    /// assert_eq!(m.value(v), LaneValue::Real(1.0));
    /// ```
    fn real(&mut self, v: f64) -> Val;
    /// Integer constant of the width of the compute type.
    ///
    /// ```
    /// use keops_core::{prim_eval::{LaneValue, Scalar}, vecmath::PrimBuilder};
    /// let mut m = Scalar::<f32>::new();
    /// let v = m.int(-5);
    /// assert_eq!(m.value(v), LaneValue::Int(-5));
    /// ```
    fn int(&mut self, v: i64) -> Val;
    /// Result of a primitive; number and kinds of the arguments are those of its signature.
    ///
    /// ```
    /// use keops_core::prim::Prim;
    /// use keops_core::{prim_eval::{LaneValue, Scalar}, vecmath::PrimBuilder};
    /// let mut m = Scalar::<f32>::new();
    /// let (a, b) = (m.real(2.0), m.real(-3.0));
    /// let below = m.prim(Prim::Lt, &[b, a]);
    /// let least = m.prim(Prim::Select, &[below, b, a]);
    /// assert_eq!(m.value(least), LaneValue::Real(-3.0));
    /// ```
    fn prim(&mut self, op: Prim, args: &[Val]) -> Val;
    /// How results are best multiplied by powers of two.
    ///
    /// ```
    /// use keops_core::{prim_eval::Scalar, vecmath::{PrimBuilder, Scaling}};
    /// assert_eq!(Scalar::<f32>::new().scaling(), Scaling::Exact);
    /// ```
    fn scaling(&self) -> Scaling {
        Scaling::Exact
    }
    /// The number of a constant. Functions of an order know it when code is made, or ask for a
    /// scalar function.
    ///
    /// ```
    /// use keops_core::{prim_eval::Scalar, vecmath::PrimBuilder};
    /// let mut m = Scalar::<f64>::new();
    /// let x = m.real(1.0);
    /// assert_eq!(m.constant(x), None); // a machine that evaluates need not remember
    /// ```
    fn constant(&self, _v: Val) -> Option<f64> {
        None
    }
    /// What is known of a value of which an exponential is taken.
    ///
    /// ```
    /// use keops_core::{prim_eval::Scalar, vecmath::{Bound, PrimBuilder}};
    /// let mut m = Scalar::<f64>::new();
    /// let x = m.real(1.0);
    /// assert_eq!(m.bound(x), Bound::Unknown);
    /// ```
    fn bound(&self, _v: Val) -> Bound {
        Bound::Unknown
    }
}

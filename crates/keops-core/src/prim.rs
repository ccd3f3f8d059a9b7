//! The primitives: the only operations that a code generator has to know.
//!
//! Every element-wise operation of the formula language is either one of these or an expansion
//! into them (see [`crate::ops`]). Code generators match this enumeration exhaustively, so that
//! adding a primitive makes the compiler list every place that has to learn it.
//!
//! Semantics are exact: for equal inputs every CPU target produces equal bits (NaN payloads
//! excepted), whichever instruction set it uses.

/// Kind of a value held in the lanes of a vector register.
///
/// ```
/// use keops_core::prim::{Kind, Prim};
/// assert_eq!(Prim::Lt.signature().1, Kind::Mask); // what a comparison gives
/// assert_eq!(Prim::Select.signature().0[0], Kind::Mask); // decides here
/// assert_eq!(Prim::ToBits.signature(), (&[Kind::Real][..], Kind::Int));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Floating-point number of the compute type (f32 or f64).
    Real,
    /// Truth value.
    Mask,
    /// Signed integer as wide as the compute type (i32 beside f32, i64 beside f64).
    Int,
}

/// A scalar function that is called lane by lane where straight-line vector code cannot be right
/// or does not exist yet. Both precisions take `arity` arguments.
///
/// ```
/// use keops_core::prim::{Prim, ScalarFn};
/// use keops_core::prim_eval::{LaneValue, eval};
/// static HYPOT: ScalarFn = ScalarFn {
///     name: "hypot",
///     arity: 2,
///     f32: |a| a[0].hypot(a[1]),
///     f64: |a| a[0].hypot(a[1]),
/// };
/// let sides = [3.0, 4.0].map(LaneValue::Real);
/// assert_eq!(eval(Prim::Call(&HYPOT), &sides), LaneValue::Real(5.0_f64));
/// ```
#[derive(Clone, Copy)]
pub struct ScalarFn {
    /// Name in text forms; a function is identified by its place in memory.
    pub name: &'static str,
    /// Number of arguments, 1 to 3.
    pub arity: usize,
    /// Single-precision value.
    pub f32: fn(&[f32]) -> f32,
    /// Double-precision value.
    pub f64: fn(&[f64]) -> f64,
}

impl PartialEq for ScalarFn {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
impl Eq for ScalarFn {}
impl std::hash::Hash for ScalarFn {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::hash(self, state);
    }
}
impl std::fmt::Debug for ScalarFn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Most arguments of a primitive: a conditional call has a mask, a value and three arguments.
pub const MOST_ARGS: usize = 5;

/// Arguments of an operation, in place: code has thousands of short lists.
///
/// ```
/// use keops_core::prim::Args;
/// use keops_core::vecmath::Val;
/// let args: Args<Val> = [Val(3), Val(1)].into();
/// assert_eq!(args[..], [Val(3), Val(1)]);
/// assert_eq!(args, args.iter().copied().collect());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Args<T> {
    count: u8,
    all: [T; MOST_ARGS],
}

impl<T: Copy + Default> FromIterator<T> for Args<T> {
    /// # Panics
    /// If there are more than [`MOST_ARGS`].
    fn from_iter<I: IntoIterator<Item = T>>(args: I) -> Args<T> {
        let mut to = Args::default();
        for a in args {
            to.all[usize::from(to.count)] = a;
            to.count += 1;
        }
        to
    }
}
impl<T: Copy + Default> From<&[T]> for Args<T> {
    /// # Panics
    /// If there are more than [`MOST_ARGS`].
    fn from(args: &[T]) -> Args<T> {
        args.iter().copied().collect()
    }
}
impl<T: Copy + Default, const N: usize> From<[T; N]> for Args<T> {
    /// # Panics
    /// If there are more than [`MOST_ARGS`].
    fn from(args: [T; N]) -> Args<T> {
        args.into_iter().collect()
    }
}
impl<T> std::ops::Deref for Args<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.all[..usize::from(self.count)]
    }
}
impl<T> std::ops::DerefMut for Args<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.all[..usize::from(self.count)]
    }
}

/// Writes the enumeration with a list of the primitives that have no parameter.
macro_rules! prims {
    ($($(#[$plain:meta])* $name:ident,)* ; $($(#[$doc:meta])* $with:ident($parameter:ty),)*) => {
        /// A primitive operation on lanes. `a`, `b`, `c` name the arguments in order.
        ///
        /// ```
        /// use keops_core::prim::{Kind, Prim};
        /// use keops_core::prim_eval::{LaneValue, eval};
        /// let real = |v: f32| LaneValue::Real(v);
        /// // Rounded once: 2^-24 is lost between product and sum otherwise.
        /// let (a, b) = (1.0 + f32::EPSILON, 1.0 - f32::EPSILON / 2.0);
        /// let residue = eval(Prim::Fms, &[real(a), real(b), real(a * b)]);
        /// assert_eq!(residue.real() as f64, a as f64 * b as f64 - (a * b) as f64);
        /// assert_ne!(residue, real(0.0));
        /// assert!(Prim::PLAIN.contains(&Prim::Fms) && !Prim::PLAIN.contains(&Prim::IntShl(3)));
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Prim {
            $($(#[$plain])* $name,)*
            $($(#[$doc])* $with($parameter),)*
        }
        impl Prim {
            /// Every primitive without a parameter.
            pub const PLAIN: &[Prim] = &[$(Prim::$name),*];
        }
    };
}
prims! {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// `a * b + c`, rounded once.
    Fma,
    /// `c - a * b`, rounded once.
    Fnma,
    /// `a * b - c`, rounded once.
    Fms,
    /// `-a` (sign bit flipped).
    Neg,
    /// `|a|` (sign bit cleared).
    Abs,
    /// Correctly rounded square root.
    Sqrt,
    /// `a < b ? a : b`, hence `b` if either is NaN.
    Min,
    /// `a > b ? a : b`, hence `b` if either is NaN.
    Max,
    /// Largest integer not above `a`.
    Floor,
    /// Nearest integer, halves to even.
    RoundEven,
    /// Integer part, towards zero.
    Trunc,
    /// `a * 2^b` for integer-valued `b`, rounded once, right for subnormal results and for any
    /// `b` (`b = -inf` gives zero for finite `a`, `b = +inf` gives infinity for `a != 0`; NaN
    /// propagates). NaN `a` with infinite `b` is left open: the AVX-512 instruction gives zero or
    /// infinity there, which expansions must not rely on.
    Scale,
    /// `floor(log2 |a|)` as a real, exact for subnormals; 0 gives -inf, infinities +inf.
    Exponent,
    /// `a / 2^Exponent(a)`, in `[1, 2)` with the sign of `a`; meaningless for 0 and infinities
    /// (some finite value), NaN for NaN.
    Significand,
    /// Rounds to the nearest half-precision (f16) number, halves to even.
    RoundF16,
    /// Mask: `a < b`, false if either is NaN.
    Lt,
    /// Mask: `a <= b`, false if either is NaN.
    Le,
    /// Mask: `a == b`, false if either is NaN.
    Eq,
    /// Mask: `a && b`.
    MaskAnd,
    /// Mask: `a || b`.
    MaskOr,
    /// Mask: `!a`.
    MaskNot,
    /// `a ? b : c` with a mask `a` and reals `b`, `c`.
    Select,
    /// `a ? b : c` with a mask `a` and integers `b`, `c`.
    SelectInt,
    /// Bits of a real as an integer (no code).
    ToBits,
    /// Integer bits as a real (no code).
    FromBits,
    /// Nearest integer (halves to even) of a real with `|a| < 2^22` (f32) or `2^51` (f64).
    ToInt,
    /// Real of an integer with `|a| < 2^22` (f32) or `2^51` (f64), exact.
    FromInt,
    /// Integer `a + b`, wrapping.
    IntAdd,
    /// Integer `a - b`, wrapping.
    IntSub,
    /// Integer bitwise and.
    IntAnd,
    /// Integer bitwise or.
    IntOr,
    /// Integer bitwise exclusive or.
    IntXor,
    /// Mask: integer `a == b`.
    IntEq,
    /// Mask: signed integer `a < b`.
    IntLt,
    ;
    /// Integer shift left by a constant.
    IntShl(u8),
    /// Integer logical shift right by a constant.
    IntShr(u8),
    /// The scalar function applied to every lane.
    Call(&'static ScalarFn),
    /// `a ? f(c, …) : b` with a mask `a` and reals: the scalar function in the lanes whose mask is
    /// set, the already computed value `b` in all others. Code generators skip the call when no
    /// lane is set, so that rare arguments (huge angles, corner cases of a power) cost one test.
    CallIf(&'static ScalarFn),
}

impl Prim {
    /// Kinds of the arguments, and of the result.
    ///
    /// ```
    /// use keops_core::prim::{Kind::*, Prim};
    /// assert_eq!(Prim::Fma.signature(), (&[Real, Real, Real][..], Real));
    /// assert_eq!(Prim::SelectInt.signature(), (&[Mask, Int, Int][..], Int));
    /// ```
    pub fn signature(self) -> (&'static [Kind], Kind) {
        use Kind::{Int, Mask, Real};
        use Prim::*;
        match self {
            Add | Sub | Mul | Div | Min | Max | Scale => (&[Real, Real], Real),
            Fma | Fnma | Fms => (&[Real, Real, Real], Real),
            Neg | Abs | Sqrt | Floor | RoundEven | Trunc | Exponent | Significand | RoundF16 => {
                (&[Real], Real)
            }
            Lt | Le | Eq => (&[Real, Real], Mask),
            MaskAnd | MaskOr => (&[Mask, Mask], Mask),
            MaskNot => (&[Mask], Mask),
            Select => (&[Mask, Real, Real], Real),
            SelectInt => (&[Mask, Int, Int], Int),
            ToBits | ToInt => (&[Real], Int),
            FromBits | FromInt => (&[Int], Real),
            IntAdd | IntSub | IntAnd | IntOr | IntXor => (&[Int, Int], Int),
            IntShl(_) | IntShr(_) => (&[Int], Int),
            IntEq | IntLt => (&[Int, Int], Mask),
            Call(f) => (&[Real, Real, Real][..f.arity], Real),
            CallIf(f) => (&[Mask, Real, Real, Real, Real][..2 + f.arity], Real),
        }
    }
}

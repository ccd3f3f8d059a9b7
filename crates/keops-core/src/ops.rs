//! The table of element-wise operations: the one place where each is defined.
//!
//! Arithmetic, exponentials, roots and powers stand here, the others in the files of `ops/`.
//! An entry has no default fields, so that a half-defined operation does not compile. The parser,
//! the `LazyTensor` methods, differentiation, every code generator, the reference page and the
//! conformance suite read this table. Ask first whether a composition will do
//! ([`crate::composite`]): it needs none of this.

use crate::graph::{Builder, Category, Ex, Node};
use crate::prim::Prim;
use crate::simplify::{even_square, product_of_roots, without_absolute};
use crate::vecmath::{self, PrimBuilder, Val};
use hashbrown::HashMap;
use std::sync::LazyLock;

/// Writes the same body for f32 and f64.
macro_rules! value {
    (|$($x:ident),*| $body:expr) => {
        Value {
            f32: |a| { let [$($x),*] = *a else { unreachable!("operands are counted") }; $body },
            f64: |a| { let [$($x),*] = *a else { unreachable!("operands are counted") }; $body },
        }
    };
}
/// Both precisions of a function that is computed in f64.
macro_rules! in_f64 {
    ($f:ident, $($x:ident),*) => {
        Value {
            f32: |a| { let [$($x),*] = *a else { unreachable!("operands are counted") };
                $f($(f64::from($x)),*) as f32 },
            f64: |a| { let [$($x),*] = *a else { unreachable!("operands are counted") }; $f($($x),*) },
        }
    };
}
/// A scalar function with the value of an operation, for arguments that no code is made for.
macro_rules! scalar {
    ($name:ident, $text:literal, $arity:literal, $op:ident) => {
        static $name: ScalarFn = ScalarFn {
            name: $text,
            arity: $arity,
            f32: |a| ($op.value.f32)(a),
            f64: |a| ($op.value.f64)(a),
        };
    };
}

mod angles;
mod jumps;
mod radial;
mod range_scale;
mod special;

pub use angles::{ACOS, ASIN, ATAN, ATAN2, COS, SIN, SIN_X_DIV_X, TAN};
pub use jumps::{
    ABS, EQUAL, FLOOR, IF_ELSE, LESS_OR_EQUAL, LESS_THAN, NOT_EQUAL, RELU, SIGN, STEP,
};
pub(crate) use radial::MOST_HALF_ORDER;
pub use radial::{COS_SQRT, EXTENDED_GAMMA, MATERN_HALF, POW_LOG, SINC_SQRT, WENDLAND_INTEGRAL};
pub use range_scale::RANGE_SCALE;
pub(crate) use range_scale::range_scale;
use special::logistic_tail;
pub use special::{ACOSH, ASINH, ATANH, ERF, ERFC, LGAMMA, POLYGAMMA, SIGMOID, SOFTPLUS};

/// Everything the system knows about one element-wise operation.
/// See the guide `docs/adding-an-operation.md` for an entry with explanations.
///
/// ```
/// use keops_core::ops;
/// let exp = &ops::EXP;
/// assert_eq!((exp.name, exp.arity), ("Exp", 1));
/// assert_eq!((exp.value.f64)(&[0.0]), 1.0);
/// assert!(ops::ALL.iter().all(|op| op.domain.0 < op.domain.1));
/// ```
pub struct OpDef {
    /// Name in formulas, for people: a definition is identified by its place in memory.
    pub name: &'static str,
    /// One line for the reference page.
    pub doc: &'static str,
    /// Number of operands.
    pub arity: usize,
    /// Value, at both precisions.
    pub value: Value,
    /// `(operands, result, t) -> ∂result/∂operand_k · t` for each `k`, element-wise. It serves
    /// reverse mode with `t` the cotangent of the result and forward mode with `t` the tangent
    /// of operand `k`.
    pub derivative: for<'g> fn(&[Ex<'g>], Ex<'g>, Ex<'g>) -> Vec<Ex<'g>>,
    /// Rewrite applied at construction (`None` keeps the node). Must be exact up to rounding and
    /// must not make a NaN where the operation is finite. (Where a node is about to be
    /// differentiated it may be NaN where no digit of the operation is left.)
    pub simplify: for<'g> fn(&[Ex<'g>], When) -> Option<Ex<'g>>,
    /// CUDA C++ expression; `{0}` … are the operands, `T` is the compute type.
    pub cuda: &'static str,
    /// Code of CPU targets.
    pub code: Code,
    /// Interval from which tests draw operands.
    pub domain: (f64, f64),
    /// Operand values at which the derivative jumps; tests stay away from them.
    pub kinks: &'static [f64],
    /// Bound on the error of compiled code, in units in the last place of the result.
    pub ulps: f64,
}

/// When a rewrite is asked for.
///
/// ```
/// use keops_core::{graph::{Builder, Category}, ops::{COS, SQRT, When}};
/// let b = Builder::default();
/// let x = b.fresh(1, Category::I);
/// let r = (x * x).un(&SQRT) * 2.0;
/// // The value of cos(2 r) is that of this formula; what is differentiated has no kink at 0.
/// assert!((COS.simplify)(&[r], When::Built).is_none());
/// assert!((COS.simplify)(&[r], When::Differentiated).is_some());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// The node is built.
    Built,
    /// The node is about to be differentiated.
    Differentiated,
}

/// The value of an operation, at both precisions.
///
/// ```
/// use keops_core::ops::ATAN2;
/// assert_eq!((ATAN2.value.f64)(&[1.0, 1.0]), std::f64::consts::FRAC_PI_4);
/// assert_eq!((ATAN2.value.f32)(&[1.0, 1.0]), std::f32::consts::FRAC_PI_4);
/// ```
pub struct Value {
    /// Single precision.
    pub f32: fn(&[f32]) -> f32,
    /// Double precision.
    pub f64: fn(&[f64]) -> f64,
}

/// How CPU targets compute an operation.
///
/// ```
/// use keops_core::ops::{self, Code};
/// use keops_core::prim::Prim;
/// assert!(matches!(ops::ADD.code, Code::Prim(Prim::Add)));
/// assert!(matches!(ops::EXP.code, Code::Expand(_)));
/// ```
#[derive(Clone, Copy)]
pub enum Code {
    /// It is a primitive.
    Prim(Prim),
    /// It is expanded into primitives.
    Expand(fn(&mut dyn PrimBuilder, &[Val]) -> Val),
}

impl OpDef {
    /// For each operand: is the derivative in it 0 everywhere? The value is constant or jumps as
    /// such an operand moves.
    pub(crate) fn jumps(&'static self) -> Vec<bool> {
        let b = Builder::default();
        let x: Vec<_> = (0..self.arity).map(|_| b.fresh(1, Category::I)).collect();
        let seed = b.fresh(1, Category::I);
        let y = b.node(Node::Map { op: self, args: x.iter().map(|e| e.id).collect() });
        (self.derivative)(&x, y, seed).iter().map(|d| d.constant() == Some(0.0)).collect()
    }
    /// Is that constant an order (operand `k`, without a derivative) for which the operation is NaN?
    pub(crate) fn undefined_order(&'static self, k: usize, constant: f64) -> bool {
        let mut x = vec![0.5 * (self.domain.0 + self.domain.1); self.arity];
        x[k] = constant;
        self.arity > 1 && (self.value.f64)(&x).is_nan() && self.jumps()[k]
    }
}

// A definition is itself: two of one name are two.
impl PartialEq for OpDef {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
impl Eq for OpDef {}
impl std::hash::Hash for OpDef {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::hash(self, state);
    }
}
impl std::fmt::Debug for OpDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

fn keep<'g>(_: &[Ex<'g>], _: When) -> Option<Ex<'g>> {
    None
}
fn is(x: Ex<'_>, v: f64) -> bool {
    x.constant() == Some(v)
}
/// `a` where `x == 0`, else `b`: `-|x| >= 0` holds only at 0 (nor for NaN).
fn if_zero<'g>(x: Ex<'g>, a: Ex<'g>, b: Ex<'g>) -> Ex<'g> {
    Ex::apply(&IF_ELSE, &[-x.un(&ABS), a, b])
}
/// `a + 0` is `a`.
fn without_zero<'g>(x: &[Ex<'g>], _: When) -> Option<Ex<'g>> {
    match (x[0].constant(), x[1].constant()) {
        (Some(0.0), _) if x[0].dim() <= x[1].dim() => Some(x[1]),
        (_, Some(0.0)) => Some(x[0]),
        _ => None,
    }
}
/// `a * 1` is `a`, `a * -1` is `-a`, a square of a norm has no root.
fn without_unit<'g>(x: &[Ex<'g>], when: When) -> Option<Ex<'g>> {
    match (x[0].constant(), x[1].constant()) {
        (Some(1.0), _) => Some(x[1]),
        (_, Some(1.0)) => Some(x[0]),
        (Some(-1.0), _) => Some(-x[1]),
        (_, Some(-1.0)) => Some(-x[0]),
        _ => product_of_roots(x[0], x[1], when),
    }
}
/// `op`, which is even, of a multiple of an absolute value without it, and of a multiple of a norm as
/// `of_square` of its square, which overflows earlier: for derivatives alone.
fn even<'g>(
    op: &'static OpDef,
    of_square: fn(Ex<'g>) -> Ex<'g>,
    x: Ex<'g>,
    when: When,
) -> Option<Ex<'g>> {
    let square = |x| if when == When::Built { None } else { even_square(x, when) };
    without_absolute(x).map(|x| x.un(op)).or_else(|| square(x).map(of_square))
}
/// `-(-a)` is `a`.
fn without_minus(x: Ex<'_>) -> Option<Ex<'_>> {
    match x.b.graph().node(x.id) {
        Node::Map { op, args } if *op == &MINUS => Some(x.b.ex(args[0])),
        _ => None,
    }
}
/// `1 - y²` with `y = tanh a`; far from 0, where that cancels, `4 e / (1 + e)²` with `e = exp(-2 |a|)`.
fn tanh_slope<'g>(a: Ex<'g>, y: Ex<'g>) -> Ex<'g> {
    let (near, tail) = (-(y * y) + 1.0, logistic_tail(a * 2.0) * 4.0);
    Ex::apply(&IF_ELSE, &[-a.un(&ABS) + 1.0, near, tail])
}
/// `t b a^(b - 1)`, 0 where `a == 0` and `0 <= b < 1`: there the slope is infinite, or that of a
/// constant. Elsewhere the limit: 0 for b > 1, infinite for b < 0.
fn powf_slope<'g>(a: Ex<'g>, b: Ex<'g>, t: Ex<'g>) -> Ex<'g> {
    let zero = t.lit(0.0);
    let slope = t * (b * Ex::apply(&POWF, &[a, b - 1.0]));
    let [low, high] = [(&LESS_OR_EQUAL, zero, b), (&LESS_THAN, b, t.lit(1.0))]
        .map(|(op, x, y)| Ex::apply(op, &[x, y]));
    if is(low, 0.0) || is(high, 0.0) {
        return slope;
    }
    let kink = Ex::apply(&EQUAL, &[a, zero]) * (low * high);
    Ex::apply(&IF_ELSE, &[kink - 1.0, zero, slope])
}
/// `t slope(x)`, 0 where both `t` and `x` are 0 and the slope is infinite. (A condition on t alone would
/// give the derivative in t of what is put there.)
fn along<'g>(t: Ex<'g>, slope: Ex<'g>, x: Ex<'g>) -> Ex<'g> {
    if_zero(x.un(&ABS) + t.un(&ABS), t.lit(0.0), t * slope)
}
/// `t / r`, 0 where `r == 0`.
fn divided<'g>(t: Ex<'g>, r: Ex<'g>) -> Ex<'g> {
    if_zero(r, r.lit(0.0), t / if_zero(r, r.lit(1.0), r))
}
/// `op(args)`, but `limit` where `a == 0`, in code.
fn unless_zero(b: &mut dyn PrimBuilder, a: Val, limit: f64, op: Prim, args: &[Val]) -> Val {
    let (zero, limit, value) = (b.real(0.0), b.real(limit), b.prim(op, args));
    let at_zero = b.prim(Prim::Eq, &[a, zero]);
    b.prim(Prim::Select, &[at_zero, limit, value])
}
fn inverse_root(b: &mut dyn PrimBuilder, a: &[Val]) -> Val {
    let (one, root) = (b.real(1.0), b.prim(Prim::Sqrt, &[a[0]]));
    unless_zero(b, a[0], 0.0, Prim::Div, &[one, root])
}

/// `a + b`
pub static ADD: OpDef = OpDef {
    name: "Add",
    doc: "a + b",
    arity: 2,
    value: value!(|a, b| a + b),
    derivative: |_, _, t| vec![t, t],
    simplify: without_zero,
    cuda: "({0} + {1})",
    code: Code::Prim(Prim::Add),
    domain: (-2.0, 2.0),
    kinks: &[],
    ulps: 0.5,
};
/// `a - b`
pub static SUBTRACT: OpDef = OpDef {
    name: "Subtract",
    doc: "a - b",
    arity: 2,
    value: value!(|a, b| a - b),
    derivative: |_, _, t| vec![t, -t],
    simplify: |x, _| if is(x[1], 0.0) { Some(x[0]) } else { None },
    cuda: "({0} - {1})",
    code: Code::Prim(Prim::Sub),
    domain: (-2.0, 2.0),
    kinks: &[],
    ulps: 0.5,
};
/// `a * b`
pub static MULT: OpDef = OpDef {
    name: "Mult",
    doc: "a * b",
    arity: 2,
    value: value!(|a, b| a * b),
    derivative: |x, _, t| vec![t * x[1], t * x[0]],
    simplify: without_unit,
    cuda: "({0} * {1})",
    code: Code::Prim(Prim::Mul),
    domain: (-2.0, 2.0),
    kinks: &[],
    ulps: 0.5,
};
/// `a / b`
pub static DIVIDE: OpDef = OpDef {
    name: "Divide",
    doc: "a / b",
    arity: 2,
    value: value!(|a, b| a / b),
    derivative: |x, y, t| vec![t / x[1], -((t * y) / x[1])],
    simplify: |x, _| if is(x[1], 1.0) { Some(x[0]) } else { None },
    cuda: "({0} / {1})",
    code: Code::Prim(Prim::Div),
    domain: (0.3, 2.0),
    kinks: &[],
    ulps: 0.5,
};
/// `-a`
pub static MINUS: OpDef = OpDef {
    name: "Minus",
    doc: "-a",
    arity: 1,
    value: value!(|a| -a),
    derivative: |_, _, t| vec![-t],
    simplify: |x, _| without_minus(x[0]),
    cuda: "(-{0})",
    code: Code::Prim(Prim::Neg),
    domain: (-2.0, 2.0),
    kinks: &[],
    ulps: 0.0,
};
/// Exponential.
pub static EXP: OpDef = OpDef {
    name: "Exp",
    doc: "exponential",
    arity: 1,
    value: value!(|a| a.exp()),
    derivative: |_, y, t| vec![t * y],
    simplify: keep,
    cuda: "exp({0})",
    code: Code::Expand(|b, a| vecmath::exp(b, a[0])),
    domain: (-3.0, 3.0),
    kinks: &[],
    ulps: 2.0,
};
/// Natural logarithm.
pub static LOG: OpDef = OpDef {
    name: "Log",
    doc: "natural logarithm",
    arity: 1,
    value: value!(|a| a.ln()),
    derivative: |x, _, t| vec![t / x[0]],
    simplify: keep,
    cuda: "log({0})",
    code: Code::Expand(|b, a| vecmath::log(b, a[0])),
    domain: (0.2, 3.0),
    kinks: &[],
    ulps: 2.0,
};
/// Hyperbolic sine.
pub static SINH: OpDef = OpDef {
    name: "Sinh",
    doc: "hyperbolic sine",
    arity: 1,
    value: value!(|a| a.sinh()),
    derivative: |x, _, t| vec![t * x[0].un(&COSH)],
    simplify: keep,
    cuda: "sinh({0})",
    code: Code::Expand(|b, a| vecmath::sinh(b, a[0])),
    domain: (-3.0, 3.0),
    kinks: &[],
    ulps: 3.0,
};
/// Hyperbolic cosine.
pub static COSH: OpDef = OpDef {
    name: "Cosh",
    doc: "hyperbolic cosine",
    arity: 1,
    value: value!(|a| a.cosh()),
    derivative: |x, _, t| vec![t * x[0].un(&SINH)],
    simplify: |x, when| even(&COSH, |u| (-u).un(&COS_SQRT), x[0], when),
    cuda: "cosh({0})",
    code: Code::Expand(|b, a| vecmath::cosh(b, a[0])),
    domain: (-3.0, 3.0),
    kinks: &[],
    ulps: 2.0,
};
/// Hyperbolic tangent.
pub static TANH: OpDef = OpDef {
    name: "Tanh",
    doc: "hyperbolic tangent",
    arity: 1,
    value: value!(|a| a.tanh()),
    derivative: |x, y, t| vec![t * tanh_slope(x[0], y)],
    simplify: keep,
    cuda: "tanh({0})",
    code: Code::Expand(|b, a| vecmath::tanh(b, a[0])),
    domain: (-3.0, 3.0),
    kinks: &[],
    ulps: 3.0,
};
/// `exp(a) - 1`, accurate near 0.
pub static EXPM1: OpDef = OpDef {
    name: "Expm1",
    doc: "exp(a) - 1, accurate near 0",
    arity: 1,
    value: value!(|a| a.exp_m1()),
    // (The result plus 1 would cancel far below 0.)
    derivative: |x, _, t| vec![t * x[0].un(&EXP)],
    simplify: keep,
    cuda: "expm1({0})",
    code: Code::Expand(|b, a| vecmath::expm1(b, a[0])),
    domain: (-3.0, 3.0),
    kinks: &[],
    ulps: 2.0,
};
/// `log(1 + a)`, accurate near 0.
pub static LOG1P: OpDef = OpDef {
    name: "Log1p",
    doc: "log(1 + a), accurate near 0",
    arity: 1,
    value: value!(|a| a.ln_1p()),
    derivative: |x, _, t| vec![t / (x[0] + 1.0)],
    simplify: keep,
    cuda: "log1p({0})",
    code: Code::Expand(|b, a| vecmath::log1p(b, a[0])),
    domain: (-0.7, 3.0),
    kinks: &[],
    ulps: 2.0,
};
/// Square root.
pub static SQRT: OpDef = OpDef {
    name: "Sqrt",
    doc: "square root; its derivative at 0 is taken as 0",
    arity: 1,
    value: value!(|a| a.sqrt()),
    derivative: |x, _, t| vec![t * (x[0].un(&RSQRT) * 0.5)],
    simplify: keep,
    cuda: "sqrt({0})",
    code: Code::Prim(Prim::Sqrt),
    domain: (0.1, 3.0),
    kinks: &[0.0],
    ulps: 0.5,
};
/// `1 / sqrt(a)`, 0 at 0.
pub static RSQRT: OpDef = OpDef {
    name: "Rsqrt",
    doc: "1 / sqrt(a), taken as 0 at 0",
    arity: 1,
    value: value!(|a| if a == 0.0 { 0.0 } else { 1.0 / a.sqrt() }),
    // (The cube of y would leave the range long before the product does.)
    derivative: |_, y, t| vec![(t * y) * ((y * y) * -0.5)],
    simplify: keep,
    cuda: "({0} == T(0) ? T(0) : T(1) / sqrt({0}))",
    code: Code::Expand(inverse_root),
    domain: (0.1, 3.0),
    kinks: &[0.0],
    ulps: 1.5,
};

/// `a log a`, 0 at 0.
pub static X_LOG_X: OpDef = OpDef {
    name: "XLogX",
    doc: "a log(a), 0 at 0",
    arity: 1,
    value: value!(|a| if a == 0.0 { 0.0 } else { a * a.ln() }),
    derivative: |x, _, t| vec![along(t, x[0].un(&LOG) + 1.0, x[0])],
    simplify: keep,
    cuda: "({0} == T(0) ? T(0) : {0} * log({0}))",
    code: Code::Expand(|b, a| {
        let log = vecmath::log(b, a[0]);
        unless_zero(b, a[0], 0.0, Prim::Mul, &[a[0], log])
    }),
    domain: (0.1, 3.0),
    kinks: &[0.0],
    ulps: 3.0,
};
/// An even power of a norm is a power of its square.
fn even_power<'g>(x: &[Ex<'g>], when: When) -> Option<Ex<'g>> {
    let half = x[1].constant().map(|p| 0.5 * p).filter(|h| *h >= 1.0 && h.fract() == 0.0)?;
    let square = product_of_roots(x[0], x[0], when)?;
    Some(if half == 1.0 { square } else { Ex::apply(&POWF, &[square, x[1].lit(half)]) })
}
/// Real power.
pub static POWF: OpDef = OpDef {
    name: "Powf",
    doc: "Powf(a, b): a to the real power b; its derivative in a at 0 is taken as 0 for 0 <= b < 1",
    arity: 2,
    value: value!(|a, b| a.powf(b)),
    derivative: |x, y, t| {
        vec![powf_slope(x[0], x[1], t), if_zero(y, t.lit(0.0), t * (x[0].un(&LOG) * y))]
    },
    simplify: even_power,
    cuda: "pow({0}, {1})",
    code: Code::Expand(|b, a| vecmath::pow(b, a[0], a[1])),
    domain: (0.3, 2.0),
    kinks: &[0.0],
    ulps: 4.0,
};

/// Entries in these files.
macro_rules! entries_of {
    ($($file:literal),*) => { 0 $(+ entries(include_str!($file), "\npub static "))* };
}
// The compiler rejects an entry that is not in the list. (`ALL` is one of those that are counted.)
const _: () = assert!(
    entries_of!(
        "ops.rs",
        "ops/angles.rs",
        "ops/jumps.rs",
        "ops/radial.rs",
        "ops/range_scale.rs",
        "ops/special.rs"
    ) == ALL.len() + 1
);

/// How often a text occurs in another.
pub(crate) const fn entries(text: &str, marker: &str) -> usize {
    let (text, marker) = (text.as_bytes(), marker.as_bytes());
    let (mut at, mut count) = (0, 0);
    while at + marker.len() <= text.len() {
        let mut k = 0;
        while k < marker.len() && text[at + k] == marker[k] {
            k += 1;
        }
        count += (k == marker.len()) as usize;
        at += 1;
    }
    count
}

/// Every element-wise operation.
pub static ALL: &[&OpDef] = &[
    &ADD,
    &SUBTRACT,
    &MULT,
    &DIVIDE,
    &MINUS,
    &EXP,
    &LOG,
    &SIN,
    &COS,
    &ATAN,
    &SQRT,
    &RSQRT,
    &ABS,
    &SIGN,
    &STEP,
    &RELU,
    &FLOOR,
    &IF_ELSE,
    &EQUAL,
    &NOT_EQUAL,
    &LESS_THAN,
    &LESS_OR_EQUAL,
    &X_LOG_X,
    &SIN_X_DIV_X,
    &ASIN,
    &ACOS,
    &ATAN2,
    &RANGE_SCALE,
    &POWF,
    &TAN,
    &SINH,
    &COSH,
    &TANH,
    &EXPM1,
    &LOG1P,
    &MATERN_HALF,
    &WENDLAND_INTEGRAL,
    &POW_LOG,
    &EXTENDED_GAMMA,
    &COS_SQRT,
    &SINC_SQRT,
    &ASINH,
    &ACOSH,
    &ATANH,
    &SIGMOID,
    &SOFTPLUS,
    &ERF,
    &ERFC,
    &LGAMMA,
    &POLYGAMMA,
];

/// The operation of that name.
///
/// ```
/// use keops_core::ops;
/// assert_eq!(ops::by_name("Exp"), Some(&ops::EXP));
/// assert_eq!(ops::by_name("SqDist"), None); // a composite: `composite::by_name`
/// ```
pub fn by_name(name: &str) -> Option<&'static OpDef> {
    static BY_NAME: LazyLock<HashMap<&str, &OpDef>> =
        LazyLock::new(|| ALL.iter().map(|o| (o.name, *o)).collect());
    BY_NAME.get(name).copied()
}

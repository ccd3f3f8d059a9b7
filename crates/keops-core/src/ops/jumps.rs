//! Operations that jump or have a kink: absolute value, sign, floor, comparisons and the choice by a condition.
//! Values that jump have the derivative 0; where a kink has no slope, a convention stands in `doc`.

use super::{Code, OpDef, Value, keep};
use crate::graph::Ex;
use crate::prim::Prim;
use crate::vecmath::{PrimBuilder, Val};

/// Mask: `a < 0`
fn negative(b: &mut dyn PrimBuilder, a: Val) -> Val {
    let zero = b.real(0.0);
    b.prim(Prim::Lt, &[a, zero])
}
fn sign(b: &mut dyn PrimBuilder, a: &[Val]) -> Val {
    let zero = b.real(0.0);
    let (above, below) = (b.prim(Prim::Lt, &[zero, a[0]]), b.prim(Prim::Lt, &[a[0], zero]));
    let (p, n) = (indicator(b, above), indicator(b, below));
    b.prim(Prim::Sub, &[p, n])
}
fn if_else(b: &mut dyn PrimBuilder, a: &[Val]) -> Val {
    let zero = b.real(0.0);
    let yes = b.prim(Prim::Le, &[zero, a[0]]);
    b.prim(Prim::Select, &[yes, a[1], a[2]])
}
/// A test of two operands by a primitive: 1 or 0.
fn test(b: &mut dyn PrimBuilder, prim: Prim, a: &[Val]) -> Val {
    let m = b.prim(prim, a);
    indicator(b, m)
}
/// 1 where the mask holds, else 0.
fn indicator(b: &mut dyn PrimBuilder, mask: Val) -> Val {
    let (one, zero) = (b.real(1.0), b.real(0.0));
    b.prim(Prim::Select, &[mask, one, zero])
}

/// Absolute value.
pub static ABS: OpDef = OpDef {
    name: "Abs",
    doc: "absolute value; its derivative at 0 is taken as 0",
    arity: 1,
    value: value!(|a| a.abs()),
    derivative: |x, _, t| vec![t * x[0].un(&SIGN)],
    simplify: keep,
    cuda: "abs({0})",
    code: Code::Prim(Prim::Abs),
    domain: (-2.0, 2.0),
    kinks: &[0.0],
    ulps: 0.0,
};
/// Sign, 0 at 0.
pub static SIGN: OpDef = OpDef {
    name: "Sign",
    doc: "-1, 0 or 1",
    arity: 1,
    value: value!(|a| (i8::from(a > 0.0) - i8::from(a < 0.0)).into()),
    derivative: |_, _, t| vec![t.lit(0.0)],
    simplify: keep,
    cuda: "(T({0} > T(0)) - T({0} < T(0)))",
    code: Code::Expand(sign),
    domain: (-2.0, 2.0),
    kinks: &[0.0],
    ulps: 0.0,
};
/// 0 below 0, else 1.
pub static STEP: OpDef = OpDef {
    name: "Step",
    doc: "0 if a < 0, else 1",
    arity: 1,
    value: value!(|a| if a < 0.0 { 0.0 } else { 1.0 }),
    derivative: |_, _, t| vec![t.lit(0.0)],
    simplify: keep,
    cuda: "({0} < T(0) ? T(0) : T(1))",
    code: Code::Expand(|b, a| {
        let (below, zero, one) = (negative(b, a[0]), b.real(0.0), b.real(1.0));
        b.prim(Prim::Select, &[below, zero, one])
    }),
    domain: (-2.0, 2.0),
    kinks: &[0.0],
    ulps: 0.0,
};
/// Rectifier.
pub static RELU: OpDef = OpDef {
    name: "ReLU",
    doc: "0 if a < 0, else a; its derivative at 0 is taken as 1",
    arity: 1,
    value: value!(|a| if a < 0.0 { 0.0 } else { a }),
    derivative: |x, _, t| vec![Ex::apply(&IF_ELSE, &[x[0].un(&STEP) - 1.0, t, t.lit(0.0)])],
    simplify: keep,
    cuda: "({0} < T(0) ? T(0) : {0})",
    code: Code::Expand(|b, a| {
        let (below, zero) = (negative(b, a[0]), b.real(0.0));
        b.prim(Prim::Select, &[below, zero, a[0]])
    }),
    domain: (-2.0, 2.0),
    kinks: &[0.0],
    ulps: 0.0,
};
/// Largest integer not above.
pub static FLOOR: OpDef = OpDef {
    name: "Floor",
    doc: "largest integer not above a",
    arity: 1,
    value: value!(|a| a.floor()),
    derivative: |_, _, t| vec![t.lit(0.0)],
    simplify: keep,
    cuda: "floor({0})",
    code: Code::Prim(Prim::Floor),
    domain: (-2.9, 2.9),
    kinks: &[-2.0, -1.0, 0.0, 1.0, 2.0],
    ulps: 0.0,
};
/// `b` where `c >= 0`, else `a`.
pub static IF_ELSE: OpDef = OpDef {
    name: "IfElse",
    doc: "IfElse(f, a, b): a where f >= 0, else b",
    arity: 3,
    value: value!(|f, a, b| if f >= 0.0 { a } else { b }),
    derivative: |x, _, t| {
        let (of, zero) = (|a, b| Ex::apply(&IF_ELSE, &[x[0], a, b]), t.lit(0.0));
        vec![zero, of(t, zero), of(zero, t)]
    },
    simplify: |x, _| (x[1].id == x[2].id && x[0].dim() <= x[1].dim()).then_some(x[1]),
    cuda: "({0} >= T(0) ? {1} : {2})",
    code: Code::Expand(if_else),
    domain: (-2.0, 2.0),
    kinks: &[0.0],
    ulps: 0.0,
};
/// 1 if a == b, else 0.
pub static EQUAL: OpDef = OpDef {
    name: "Equal",
    doc: "1 if a == b, else 0",
    arity: 2,
    value: value!(|a, b| if a == b { 1.0 } else { 0.0 }),
    derivative: |_, _, t| vec![t.lit(0.0), t.lit(0.0)],
    simplify: keep,
    cuda: "T({0} == {1})",
    code: Code::Expand(|b, a| test(b, Prim::Eq, a)),
    domain: (-2.0, 2.0),
    kinks: &[],
    ulps: 0.0,
};
/// 1 if a != b, else 0.
pub static NOT_EQUAL: OpDef = OpDef {
    name: "NotEqual",
    doc: "1 if a != b, else 0",
    arity: 2,
    value: value!(|a, b| if a != b { 1.0 } else { 0.0 }),
    derivative: |_, _, t| vec![t.lit(0.0), t.lit(0.0)],
    simplify: keep,
    cuda: "T({0} != {1})",
    code: Code::Expand(|b, a| {
        let equal = b.prim(Prim::Eq, a);
        test(b, Prim::MaskNot, &[equal])
    }),
    domain: (-2.0, 2.0),
    kinks: &[],
    ulps: 0.0,
};
/// 1 if a < b, else 0.
pub static LESS_THAN: OpDef = OpDef {
    name: "LessThan",
    doc: "1 if a < b, else 0",
    arity: 2,
    value: value!(|a, b| if a < b { 1.0 } else { 0.0 }),
    derivative: |_, _, t| vec![t.lit(0.0), t.lit(0.0)],
    simplify: keep,
    cuda: "T({0} < {1})",
    code: Code::Expand(|b, a| test(b, Prim::Lt, a)),
    domain: (-2.0, 2.0),
    kinks: &[],
    ulps: 0.0,
};
/// 1 if a <= b, else 0.
pub static LESS_OR_EQUAL: OpDef = OpDef {
    name: "LessOrEqual",
    doc: "1 if a <= b, else 0",
    arity: 2,
    value: value!(|a, b| if a <= b { 1.0 } else { 0.0 }),
    derivative: |_, _, t| vec![t.lit(0.0), t.lit(0.0)],
    simplify: keep,
    cuda: "T({0} <= {1})",
    code: Code::Expand(|b, a| test(b, Prim::Le, a)),
    domain: (-2.0, 2.0),
    kinks: &[],
    ulps: 0.0,
};

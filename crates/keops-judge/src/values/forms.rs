//! Formulas as people write them, operations on variables as they are, and data of all kinds.

use crate::derivatives::{Maker, random::Random};
use crate::naive::{Array, Category, Expr, Op, Variable};

/// A number that decides something, or an ordinary one.
pub fn number(r: &mut Random, special: f64, single: bool) -> f64 {
    if !r.chance(special) {
        return 4.0 * r.unit() - 2.0;
    }
    let (huge, tiny, least) = match single {
        true => (1e38, 1e-38, 1e-42),
        false => (1e307, 1e-307, 1e-315),
    };
    let v = *r.of(&[
        0.0,
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        0.5,
        f64::INFINITY,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        huge,
        -huge,
        tiny,
        least,
        1e10,
        -100.0,
        88.0,
        710.0,
        1e-5,
    ]);
    if single { f64::from(v as f32) } else { v }
}

/// An array of such numbers.
pub fn array(r: &mut Random, shape: Vec<usize>, special: f64, single: bool) -> Array<f64> {
    let all = (0..shape.iter().product()).map(|_| {
        let v = number(r, special, single);
        if single { f64::from(v as f32) } else { v }
    });
    let data = all.collect();
    Array { shape, data }
}

fn un(op: Op, x: Expr) -> Expr {
    Expr::of(op, [x])
}
fn bin(op: Op, x: Expr, y: Expr) -> Expr {
    Expr::of(op, [x, y])
}

/// The operations whose operands are vectors of any dimension, one of them or equal ones.
const UNARY: &[Op] = &[
    Op::Exp,
    Op::Log,
    Op::Sin,
    Op::Cos,
    Op::Atan,
    Op::Sqrt,
    Op::Rsqrt,
    Op::Abs,
    Op::Sign,
    Op::Step,
    Op::ReLU,
    Op::Floor,
    Op::XLogX,
    Op::SinXDivX,
    Op::Asin,
    Op::Acos,
    Op::Tan,
    Op::Sinh,
    Op::Cosh,
    Op::Tanh,
    Op::Expm1,
    Op::Log1p,
    Op::Asinh,
    Op::Acosh,
    Op::Atanh,
    Op::Sigmoid,
    Op::Softplus,
    Op::Erf,
    Op::Erfc,
    Op::Lgamma,
    Op::Square,
    Op::Inv,
    Op::Sinc,
    Op::Sum,
    Op::SqNorm2,
    Op::Norm2,
    Op::Normalize,
    Op::RangeScale,
    Op::Max,
    Op::Min,
    Op::ArgMax,
    Op::ArgMin,
    Op::Minus,
];
const BINARY: &[Op] = &[
    Op::Add,
    Op::Subtract,
    Op::Mult,
    Op::Divide,
    Op::Equal,
    Op::NotEqual,
    Op::LessThan,
    Op::LessOrEqual,
    Op::Atan2,
    Op::Powf,
    Op::Scalprod,
    Op::SqDist,
];

fn scalar(r: &mut Random, variables: &[Variable], usable: &[usize]) -> Expr {
    let mut m = Maker { random: r, variables, usable, budget: 0 };
    m.formula(1, 0)
}

/// A distance, a scale, and where people put it.
fn kernel(r: &mut Random, variables: &[Variable], usable: &[usize]) -> Expr {
    let d = *r.of(&[1, 2, 3]);
    let mut m = Maker { random: r, variables, usable, budget: 0 };
    let (x, y) = (m.formula(d, 0), m.formula(d, 0));
    let distance = match r.below(7) {
        0 => un(Op::Norm2, bin(Op::Subtract, x, y)),
        1 => un(Op::Sum, un(Op::Abs, bin(Op::Subtract, x, y))),
        2 => un(Op::Sqrt, bin(Op::SqDist, x, y)),
        3 => bin(Op::Scalprod, x, y),
        4 => un(Op::SqNorm2, bin(Op::Subtract, x, y)),
        _ => bin(Op::SqDist, x, y),
    };
    let g = scalar(r, variables, usable);
    let g = match r.below(6) {
        0 => un(Op::Square, g),
        1 => un(Op::Inv, g),
        2 => bin(Op::Mult, g, scalar(r, variables, usable)),
        3 => bin(Op::Divide, Expr::Num(1.0), un(Op::Square, g)),
        _ => g,
    };
    let minus = |x: Expr| un(Op::Minus, x);
    let exponent = match r.below(8) {
        0 => bin(Op::Mult, minus(distance), g),
        1 => bin(Op::Mult, minus(g), distance),
        2 => minus(bin(Op::Mult, distance, g)),
        3 => minus(bin(Op::Divide, distance, g)),
        4 => bin(Op::Divide, minus(distance), bin(Op::Mult, Expr::Num(2.0), g)),
        5 => minus(un(Op::Square, bin(Op::Divide, distance, g))),
        6 => bin(Op::Subtract, g, distance),
        _ => bin(Op::Mult, g, distance),
    };
    match r.below(6) {
        0 => exponent,
        1 => un(Op::Inv, bin(Op::Add, Expr::Num(1.0), exponent)),
        _ => un(Op::Exp, exponent),
    }
}

/// A formula: a kernel with what is put beside it, an operation on variables as they are, or
/// anything.
pub fn formula(
    r: &mut Random,
    variables: &[Variable],
    usable: &[usize],
    featured: Op,
    dim: usize,
) -> Expr {
    let pick = |r: &mut Random| match usable.is_empty() {
        true => (Expr::Num(1.5), 1),
        false => {
            let k = *r.of(usable);
            (Expr::Var(k), variables[k].dim)
        }
    };
    let (e, have) = match r.below(14) {
        0..=2 => {
            let k = kernel(r, variables, usable);
            let (b, d) = pick(r);
            match r.below(8) {
                0 => (bin(Op::Mult, k, b), d),
                1 => (bin(Op::Mult, b, k), d),
                2 => (bin(Op::Divide, b, k), d),
                3 => (bin(Op::Add, b, k), d),
                // Masks by a product, and by a selection.
                4 => {
                    let mask = bin(Op::NotEqual, Expr::Row(Category::I), Expr::Row(Category::J));
                    (bin(Op::Mult, mask, k), 1)
                }
                5 => {
                    let near = bin(Op::Subtract, Expr::Num(1.0), k.clone());
                    (Expr::of(Op::IfElse, [near, bin(Op::Mult, b, k), Expr::Num(0.0)]), d)
                }
                _ => (k, 1),
            }
        }
        3..=5 => {
            let (x, d) = pick(r);
            let op = *r.of(UNARY);
            let scalar = matches!(
                op,
                Op::Sum | Op::SqNorm2 | Op::Norm2 | Op::Max | Op::Min | Op::ArgMax | Op::ArgMin
            );
            let e = un(op, x);
            let have = if scalar { 1 } else { d };
            match r.below(3) {
                0 => {
                    let s = scalar_of(r, variables, usable);
                    (bin(*r.of(&[Op::Mult, Op::Divide, Op::Add, Op::Subtract]), e, s), have)
                }
                _ => (e, have),
            }
        }
        6 => {
            let (x, d) = pick(r);
            let mut m = Maker { random: r, variables, usable, budget: 0 };
            let y = m.formula(d, 0);
            let op = *r.of(BINARY);
            let have = if matches!(op, Op::Scalprod | Op::SqDist) { 1 } else { d };
            (bin(op, x, y), have)
        }
        _ => {
            let depth = 1 + r.below(3);
            let mut m = Maker { random: r, variables, usable, budget: 8 };
            m.featuring(featured, depth)
        }
    };
    let mut m = Maker { random: r, variables, usable, budget: 0 };
    m.fit(e, have, dim)
}
fn scalar_of(r: &mut Random, variables: &[Variable], usable: &[usize]) -> Expr {
    scalar(r, variables, usable)
}

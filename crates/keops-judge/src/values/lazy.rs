//! The same formulas, made by operators and methods of `LazyTensor` instead of text.

use super::Case;
use crate::naive::{Category, Expr, Op};
use keops_core::composite::Literal;
use keops_core::data::{Buffer, Element};
use keops_core::genred::{IntoArgs, Reduce, Reference};
use keops_core::lazy::LazyTensor;
use keops_core::spec::{Axis, Device};
use ndarray::{ArrayD, Slice};

type Lazy<T> = LazyTensor<T, Reference>;

/// What is wrong with a method or an operator of `LazyTensor`, to judge the judge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LazyFault {
    /// The result has the other sign.
    Negated,
    /// The first two operands stand for each other.
    Swapped,
    /// Another operation: of one operand its fourth power, of more the sum of the first and twice the last.
    Other,
}

/// Can the case be written so? Arrays have no batches, and what a formula does not use says nothing about
/// the number of rows.
pub fn fits(case: &Case) -> bool {
    let uses = |e: &Expr, k: usize| e.uses(k);
    let r = &case.reduction;
    let all = (0..case.variables.len())
        .all(|k| uses(&r.formula, k) || r.weight.as_ref().is_some_and(|w| uses(w, k)));
    let plain = case
        .variables
        .iter()
        .zip(&case.args)
        .all(|(v, a)| a.shape.len() == if v.category == Category::Parameter { 1 } else { 2 });
    // `Einsum` and `Put` are forms of the text alone.
    let mut written = false;
    for f in std::iter::once(&r.formula).chain(&r.weight) {
        f.walk(&mut |e| written |= matches!(e, Expr::Apply(Op::Einsum | Op::Put, ..)));
    }
    all && plain && !written && case.blocks.is_none()
}

/// Results of the reduction of the formula on a device.
pub fn call<T: Element>(
    case: &Case,
    arrays: &[ArrayD<T>],
    reduce: Reduce,
    axis: Axis,
    device: &Device,
    planted: Option<(Op, LazyFault)>,
) -> Result<Vec<Buffer>, String> {
    let leaf = |(k, a): (usize, &ArrayD<T>)| match case.variables[k].category {
        Category::I => Lazy::vi(a.clone()),
        Category::J => Lazy::vj(a.clone()),
        Category::Parameter => Lazy::pm(a.clone()),
    };
    let leaves = arrays.iter().enumerate().map(leaf).collect();
    let mut maker = Maker { leaves, turn: 0, planted };
    let r = &case.reduction;
    let formula = maker.make(&r.formula).at(device.clone());
    let made = match &r.weight {
        None => formula.reduce(reduce, axis),
        Some(w) => {
            let weight = maker.make(w).at(device.clone());
            let bound = formula.bound_weighted(&weight, reduce, axis).map_err(|e| e.to_string())?;
            bound.function().run(&(&bound).into_args())
        }
    };
    made.map_err(|e| e.to_string())
}

struct Maker<T> {
    leaves: Vec<Lazy<T>>,
    turn: usize,
    planted: Option<(Op, LazyFault)>,
}

impl<T: Element> Maker<T> {
    /// A number: a constant of the formula, or one more parameter.
    fn number(&mut self, v: f64) -> Lazy<T> {
        self.turn += 1;
        if self.turn.is_multiple_of(2) { Lazy::constant(v) } else { Lazy::scalar(v) }
    }
    fn make(&mut self, e: &Expr) -> Lazy<T> {
        match e {
            Expr::Var(k) => self.leaves[*k].clone(),
            Expr::Num(v) => self.number(*v),
            Expr::Row(Category::J) => Lazy::j(),
            Expr::Row(_) => Lazy::i(),
            Expr::Slice(x, start, stop, step) => {
                let range = Slice::new(*start as isize, Some(*stop as isize), *step as isize);
                self.make(x).components(range)
            }
            Expr::Apply(op, x, literals) => self.operation(*op, x, literals),
        }
    }
    fn operation(&mut self, op: Op, x: &[Expr], literals: &[Vec<i64>]) -> Lazy<T> {
        let whole = |k: usize| literals[k][0] as f64;
        match op {
            Op::Zero => return Lazy::constant(0.0).sumt(literals[0][0] as usize),
            Op::Iota => return Lazy::iota(literals[0][0] as usize),
            Op::IntCst => return Lazy::constant(whole(0)),
            Op::IntInv => return Lazy::constant(1.0) / Lazy::constant(whole(0)),
            Op::RatCst => return Lazy::constant(whole(0)) / Lazy::constant(whole(1)),
            // (Its order is a number of the formula.)
            Op::Matern => {
                if let [u, Expr::Num(nu)] = x {
                    return self.make(u).matern(*nu);
                }
            }
            _ => {}
        }
        let mut x: Vec<Lazy<T>> = x.iter().map(|x| self.make(x)).collect();
        let fault = self.planted.filter(|(planted, _)| *planted == op).map(|p| p.1);
        if fault == Some(LazyFault::Swapped) && x.len() > 1 {
            x.swap(0, 1);
        }
        match fault {
            Some(LazyFault::Negated) => -apply(op, &x, literals),
            Some(LazyFault::Other) => match &x[..] {
                [a] => a.square().square(),
                [a, .., b] => a + b + b,
                [] => unreachable!("operations without operands are above"),
            },
            _ => apply(op, &x, literals),
        }
    }
}

/// An operation of one operand has a method; of more it may have one with another order of operands.
macro_rules! methods {
    ($op:expr, $x:expr; $($unary:ident $u:ident,)*; $($binary:ident $b:ident,)*; $($ternary:ident $t:ident,)*) => {
        match ($op, $x) {
            $((Op::$unary, [a]) => Some(a.$u()),)*
            $((Op::$binary, [a, b]) => Some(a.$b(b)),)*
            $((Op::$ternary, [a, b, c]) => Some(a.$t(b, c)),)*
            _ => None,
        }
    };
}

/// By an operator or a method where there is one, else by the name.
fn apply<T: Element>(op: Op, x: &[Lazy<T>], literals: &[Vec<i64>]) -> Lazy<T> {
    let made = match (op, x) {
        (Op::Add, [a, b]) => Some(a + b),
        (Op::Subtract, [a, b]) => Some(a - b),
        (Op::Mult, [a, b]) => Some(a * b),
        (Op::Divide, [a, b]) => Some(a / b),
        (Op::Scalprod, [a, b]) => Some(a | b),
        (Op::Minus, [a]) => Some(-a),
        // Weights come first in the text.
        (Op::WeightedSqNorm, [w, a]) => Some(a.weightedsqnorm(w)),
        (Op::WeightedSqDist, [w, a, b]) => Some(a.weightedsqdist(b, w)),
        (Op::LessThan, [a, b]) if literals.is_empty() => Some(b.greater_than(a)),
        (Op::LessOrEqual, [a, b]) if literals.is_empty() => Some(b.greater_or_equal(a)),
        _ => methods!(op, x;
            Abs abs, Exp exp, Log log, XLogX xlogx, Sin sin, Cos cos, Tan tan, Sinh sinh, Cosh cosh, Tanh tanh,
            Expm1 expm1, Log1p log1p, Asinh asinh, Acosh acosh, Atanh atanh, Sigmoid sigmoid,
            Softplus softplus, Erf erf, Erfc erfc, Lgamma lgamma, SinXDivX sinxdivx, CosSqrt cos_sqrt,
            SincSqrt sinc_sqrt, Asin asin, Acos acos, Atan atan, Sqrt sqrt, Rsqrt rsqrt, Square square,
            Inv inv, Sign sign, Step step, ReLU relu, Floor floor, Sinc sinc, SqNorm2 sqnorm2, Norm2 norm2,
            Normalize normalize, Sum sum_components, Min min_components, Max max_components,
            ArgMin argmin_components, ArgMax argmax_components, MatDet matdet, MatInv matinv,;
            Atan2 atan2, Equal equal, NotEqual not_equal, SqDist sqdist, MatVecMult matvecmult,
            VecMatMult vecmatmult, TensorProd tensorprod, DifferenceMatrix difference_matrix,
            MatSolve matsolve, Concat concat, Gather gather, RationalQuadratic rational_quadratic,;
            Clamp clamp, IfElse ifelse, Select select, Mod modulo, SoftDTW_SqDist softdtw_sqdist,),
    };
    let (Some((first, others)), None) = (x.split_first(), &made) else {
        return made.unwrap_or_else(|| unreachable!("operations without operands are above"));
    };
    let lists = matches!(op.literals(), crate::naive::ops::Lists::Lists);
    let literal = |l: &Vec<i64>| match lists {
        true => Literal::List(l.clone()),
        false => Literal::Int(l[0]),
    };
    let literals: Vec<Literal> = literals.iter().map(literal).collect();
    first.call(op.name(), &others.iter().collect::<Vec<_>>(), &literals)
}

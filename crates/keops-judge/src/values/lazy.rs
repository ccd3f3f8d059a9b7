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
) -> Result<Vec<Buffer>, String> {
    let leaf = |(k, a): (usize, &ArrayD<T>)| match case.variables[k].category {
        Category::I => Lazy::vi(a.clone()),
        Category::J => Lazy::vj(a.clone()),
        Category::Parameter => Lazy::pm(a.clone()),
    };
    let mut maker = Maker { leaves: arrays.iter().enumerate().map(leaf).collect(), turn: 0 };
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
        let x: Vec<Lazy<T>> = x.iter().map(|x| self.make(x)).collect();
        match (op, &x[..]) {
            (Op::Add, [a, b]) => a + b,
            (Op::Subtract, [a, b]) => a - b,
            (Op::Mult, [a, b]) => a * b,
            (Op::Divide, [a, b]) => a / b,
            (Op::Scalprod, [a, b]) => a | b,
            (Op::Minus, [a]) => -a,
            (_, [first, others @ ..]) => {
                let lists = matches!(op.literals(), crate::naive::ops::Lists::Lists);
                let literal = |l: &Vec<i64>| match lists {
                    true => Literal::List(l.clone()),
                    false => Literal::Int(l[0]),
                };
                let literals: Vec<Literal> = literals.iter().map(literal).collect();
                first.call(op.name(), &others.iter().collect::<Vec<_>>(), &literals)
            }
            (_, []) => unreachable!("operations without operands are above"),
        }
    }
}

//! Where a convention holds and not mathematics.
//!
//! A derivative is put together from those of operations. Where one of these has a kink its derivative
//! there is a convention (docs/semantics.md), and what is put together may miss a derivative that exists:
//! `Norm2(x)**4` is as smooth as can be at 0, but each factor passes through the kink of the norm. The
//! first derivative is right all the same. On the cut of an angle the sign of a zero decides, which is
//! left open. Of rows that tie the first one wins, and a half that is rounded belongs to one side.

use super::case::Case;
use super::wanted;
use crate::naive::reduce::canonical;
use crate::naive::{Expr, Op, Reduction, Variable};

/// What is 0 where the derivative of an operation is taken as 0 by convention, of the second order on.
fn kink(op: Op, x: &[Expr]) -> Option<Expr> {
    let of = |op: Op| Some(Expr::of(op, [x[0].clone()]));
    match op {
        Op::Abs | Op::Sqrt | Op::Rsqrt => of(Op::Abs),
        Op::Norm2 | Op::Normalize => of(Op::SqNorm2),
        Op::ComplexAbs => of(Op::ComplexSquareAbs),
        _ => None,
    }
}

/// What is 0 where the derivative is that of one side, whatever is beside it: at a tie of `Min` the first
/// row counts, of `Max` the first component, and `Select(y, y, c)` is y also where y = c = 0.
fn side(op: Op, x: &[Expr]) -> Option<Expr> {
    if matches!(op, Op::Max | Op::Min) {
        // 2 less the number of components that are the best.
        let best = Expr::of(Op::Equal, [x[0].clone(), Expr::of(op, [x[0].clone()])]);
        let more = Expr::of(Op::Subtract, [Expr::Num(2.0), Expr::of(Op::Sum, [best])]);
        return Some(Expr::of(Op::ReLU, [more]));
    }
    let sided = matches!(op, Op::ReLU | Op::IfElse | Op::Select);
    sided.then(|| Expr::of(Op::Abs, [x[0].clone()]))
}

/// What is 0 at a jump: where a look-up rounds a half, and, inside of a differential operator, whose
/// differences reach over it, where a step or a comparison changes.
fn jump(op: Op, x: &[Expr], differential: bool) -> Option<Expr> {
    // 0 within 1e-12 of a whole number.
    let whole = |e: Expr| {
        let nearest = Expr::of(Op::Floor, [Expr::of(Op::Add, [e.clone(), Expr::Num(0.5)])]);
        let gap = Expr::of(Op::Abs, [Expr::of(Op::Subtract, [e, nearest])]);
        Expr::of(Op::ReLU, [Expr::of(Op::Subtract, [gap, Expr::Num(1e-12)])])
    };
    let half = |e: &Expr| whole(Expr::of(Op::Add, [e.clone(), Expr::Num(0.5)]));
    match op {
        Op::OneHot => Some(half(&x[0])),
        Op::Gather => Some(half(&x[1])),
        Op::Floor if differential => Some(whole(x[0].clone())),
        Op::Step | Op::Sign if differential => Some(Expr::of(Op::Abs, [x[0].clone()])),
        Op::Equal | Op::NotEqual | Op::LessThan | Op::LessOrEqual if differential => {
            Some(Expr::of(Op::Abs, [Expr::of(Op::Subtract, [x[0].clone(), x[1].clone()])]))
        }
        _ => None,
    }
}

/// What is 0 where the value itself is left open.
fn cut(op: Op, x: &[Expr]) -> Option<Expr> {
    let (sine, cosine) = match op {
        Op::Atan2 => (x[0].clone(), x[1].clone()),
        Op::ComplexAngle => {
            let part = |op: Op| Expr::of(op, [x[0].clone()]);
            (part(Op::ComplexImag), part(Op::ComplexReal))
        }
        _ => return None,
    };
    let parts = [Expr::of(Op::Abs, [sine]), Expr::of(Op::ReLU, [cosine])];
    Some(Expr::of(Op::Add, parts))
}

/// Does a convention decide about the derivative of this case, for any pair of rows?
pub fn at_convention(case: &Case) -> bool {
    let mut differential = false;
    let outer = std::iter::once(&case.outer);
    for r in outer.chain(case.inner.as_ref().map(|i| &i.1)) {
        for f in std::iter::once(&r.formula).chain(&r.weight) {
            f.walk(&mut |e| {
                differential |= matches!(e, Expr::Apply(op, ..) if op.is_differential())
            });
        }
    }
    let higher = differential || case.steps.len() > 1;
    let zero = |case: &Case| {
        let r = &case.outer;
        std::iter::once(&r.formula).chain(&r.weight).any(|f| {
            let mut distances = vec![];
            f.walk(&mut |e| {
                let Expr::Apply(op, x, _) = e else { return };
                distances.extend(kink(*op, x).filter(|_| higher));
                distances.extend(side(*op, x));
                distances.extend(jump(*op, x, differential));
                distances.extend(cut(*op, x));
            });
            distances.into_iter().any(|d| {
                let formula = Expr::of(Op::Min, [d]);
                let over = r.over;
                let outer = Reduction { name: "Min".into(), k: 1, over, formula, weight: None };
                let least = wanted::value(&Case { outer, outer_solve: None, ..case.clone() });
                least.is_ok_and(|v| v.data.contains(&0.0))
            })
        })
    };
    let open = |case: &Case| zero(case) || tied(case);
    open(case) || inner(case).is_some_and(|c| open(&c))
}

/// Do rows tie of which a selection takes one? The first counts, and the derivative is its own.
fn tied(case: &Case) -> bool {
    let r = &case.outer;
    let (largest, many) = match canonical(&r.name) {
        "Max" | "ArgMax" | "Max_ArgMax" => (true, 1),
        "Min" | "ArgMin" | "Min_ArgMin" => (false, 1),
        name if name.contains('K') => (false, r.k),
        _ => return false,
    };
    let formula = match largest {
        true => Expr::of(Op::Minus, [r.formula.clone()]),
        false => r.formula.clone(),
    };
    let k = many + 1;
    let outer = Reduction { name: "KMin".into(), k, over: r.over, formula, weight: None };
    let best = wanted::value(&Case { outer, outer_solve: None, ..case.clone() });
    best.is_ok_and(|v| {
        let dim = v.shape.last().copied().unwrap_or(1).max(1);
        let ties = |rows: &[f64]| {
            let next = rows.iter().skip(dim);
            rows.iter().zip(next).any(|(a, b)| a.is_finite() && (a - b).abs() <= 1e-14 * a.abs())
        };
        v.data.chunks(k * dim).any(ties)
    })
}

/// The inner function as one of its own.
fn inner(case: &Case) -> Option<Case> {
    let (hole, r) = case.inner.as_ref()?;
    let close = |k: usize| if k > *hole { k - 1 } else { k };
    let closed = |e: &Expr| e.renamed(&close);
    let variables: Vec<Variable> =
        case.inputs().iter().map(|k| case.variables[*k].clone()).collect();
    let outer = Reduction {
        formula: closed(&r.formula),
        weight: r.weight.as_ref().map(closed),
        ..r.clone()
    };
    let outer_solve = case.inner_solve.map(|s| s.renamed(&close));
    Some(Case { outer, outer_solve, variables, inner: None, inner_solve: None, ..case.clone() })
}

//! What a chain of derivatives ought to be, by nested central differences of values.
//!
//! With `<G(args), u>` for what a function gives, summed against a seed `u`:
//! of a vjp in `v` with cotangent `e` it is `d/dt <F(v + t u), e>`, of a jvp along `d` it is
//! `d/dt <F(v + t d), u>`; so that a chain of k steps is a k-fold difference of values. With 31
//! digits and steps of 1e-6 it is right to 1e-11.

use super::case::{Case, rows};
use crate::naive::reduce::canonical;
use crate::naive::solve::condition as condition_of;
use crate::naive::{
    Array, Category, Dd, Expr, Op, Pairs, Real, Reduction, Solve, Variable, evaluate, solve,
};

type Args = Vec<Array<Dd>>;

/// A reduction, or the solution of its systems, of variables.
struct Stage {
    reduction: Reduction,
    solve: Option<Solve>,
    variables: Vec<Variable>,
}

impl Stage {
    fn value(&self, args: &[Array<Dd>], pairs: Option<&Pairs>) -> Result<Array<Dd>, String> {
        let (r, variables) = (&self.reduction, &self.variables[..]);
        match &self.solve {
            Some(by) => solve((r, by), variables, args, pairs),
            None => evaluate(r, variables, args, pairs)?.values.ok_or_else(|| "no values".into()),
        }
    }
    fn condition(&self, args: &[Array<Dd>], pairs: Option<&Pairs>) -> Result<f64, String> {
        let Some(by) = &self.solve else { return Ok(1.0) };
        let args: Vec<Array<f64>> = args.iter().map(|a| a.map(|v| v.f64())).collect();
        condition_of((&self.reduction, by), &self.variables, &args, pairs)
    }
}

/// The function of a case, ready to be evaluated.
pub struct Primal<'a> {
    case: &'a Case,
    pairs: Option<Pairs>,
    outer: Stage,
    /// The inner function, of all variables but the hole.
    inner: Option<Stage>,
    /// Of `Max_SumShiftExp`: the sum for maxima that are not differentiated, and the maxima.
    pivot: Option<(Stage, Array<Dd>)>,
    /// What the result of the inner function is moved by.
    noise: f64,
}

/// Irregular and of both signs, so that no tie is kept, and each size in its own way.
fn moved(data: &mut [Dd], noise: f64, t: &mut f64) {
    for a in data {
        *t = (*t * 7.31 + 0.173).fract();
        *a = *a + Dd::from(noise * if *t < 0.5 { *t - 1.0 } else { *t });
    }
}
fn first(noise: f64) -> f64 {
    0.37 + (noise.abs() * 1e5).fract() / 3.0
}

impl<'a> Primal<'a> {
    /// # Errors
    /// What does not fit.
    pub fn new(case: &'a Case) -> Result<Primal<'a>, String> {
        let pairs = case
            .blocks
            .as_ref()
            .map(|b| Pairs::from_ranges(rows(case), &b.rows, &b.ends, &b.columns, Category::J));
        let outer = Stage {
            reduction: case.outer.clone(),
            solve: case.outer_solve,
            variables: case.variables.clone(),
        };
        let inner = case.inner.as_ref().map(|(hole, r)| {
            let close = |k: usize| if k > *hole { k - 1 } else { k };
            let closed = |e: &Expr| e.renamed(&close);
            let weight = r.weight.as_ref().map(closed);
            Stage {
                reduction: Reduction { formula: closed(&r.formula), weight, ..r.clone() },
                solve: case.inner_solve.map(|s| s.renamed(&close)),
                variables: case.inputs().iter().map(|k| case.variables[*k].clone()).collect(),
            }
        });
        let mut primal = Primal { case, pairs, outer, inner, pivot: None, noise: 0.0 };
        if canonical(&case.outer.name) == "Max_SumShiftExp" {
            let args: Args = case.args.iter().map(|a| a.map(Dd::from)).collect();
            let top = Reduction { name: "Max".into(), weight: None, ..case.outer.clone() };
            let top = evaluate(&top, &case.variables, &args, primal.pairs.as_ref())?;
            let kept = if case.outer.over == Category::J { Category::I } else { Category::J };
            let mut variables = case.variables.clone();
            variables.push(Variable { name: "m".into(), category: kept, dim: 1 });
            let m = Expr::Var(variables.len() - 1);
            let share =
                Expr::of(Op::Exp, [Expr::of(Op::Subtract, [case.outer.formula.clone(), m])]);
            let term = match &case.outer.weight {
                Some(w) => Expr::of(Op::Mult, [share, w.clone()]),
                None => share,
            };
            let formula = Expr::of(Op::Concat, [Expr::Num(0.0), term]);
            let reduction =
                Reduction { name: "Sum".into(), formula, weight: None, ..case.outer.clone() };
            primal.pivot = top.values.map(|v| (Stage { reduction, solve: None, variables }, v));
        }
        Ok(primal)
    }
    /// The arguments, with the result of the inner function among them.
    fn complete(&self, args: &[Array<Dd>]) -> Result<Args, String> {
        let mut all = args.to_vec();
        if let (Some((hole, _)), Some(inner)) = (&self.case.inner, &self.inner) {
            let mut made = inner.value(args, self.pairs.as_ref())?;
            // A result may tie with what it was made of wherever the arguments are.
            moved(&mut made.data, self.noise, &mut first(1.1 * self.noise));
            all.insert(*hole, made);
        }
        Ok(all)
    }
    /// # Errors
    /// What does not fit.
    pub fn value(&self, args: &[Array<Dd>]) -> Result<Array<Dd>, String> {
        if let Some((sum, m)) = &self.pivot {
            return sum.value(&[args, std::slice::from_ref(m)].concat(), self.pairs.as_ref());
        }
        match &self.inner {
            None => self.outer.value(args, self.pairs.as_ref()),
            Some(_) => self.outer.value(&self.complete(args)?, self.pairs.as_ref()),
        }
    }
    /// The result of the chain, summed against its seed.
    fn chain(&self, k: usize, args: Args, seed: &[Array<Dd>], h: f64) -> Result<Dd, String> {
        let Some(step) = k.checked_sub(1).map(|k| &self.case.steps[k]) else {
            let value = self.value(&args)?;
            let products = value.data.iter().zip(&seed[0].data).map(|(a, b)| *a * *b);
            return Ok(products.fold(Dd::from(0.0), |s, v| s + v));
        };
        let before = args.len() - step.with.len();
        let with = args[before..].to_vec();
        let (along, seed) = if step.forward { (&with[..], seed) } else { (seed, &with[..]) };
        let side = |t: f64| {
            let mut args = args[..before].to_vec();
            for (v, u) in step.wrt.iter().zip(along) {
                for (a, u) in args[*v].data.iter_mut().zip(&u.data) {
                    *a = *a + Dd::from(t) * *u;
                }
            }
            self.chain(k - 1, args, seed, h)
        };
        Ok((side(h)? - side(-h)?) / Dd::from(2.0 * h))
    }
}

/// The value of the function.
///
/// # Errors
/// What does not fit.
pub fn value(case: &Case) -> Result<Array<f64>, String> {
    let args: Args = case.args.iter().map(|a| a.map(Dd::from)).collect();
    Ok(Primal::new(case)?.value(&args)?.map(|v| v.f64()))
}

/// A bound on the product of the conditions of the systems.
///
/// # Errors
/// What does not fit.
pub fn condition(case: &Case) -> Result<f64, String> {
    let primal = Primal::new(case)?;
    let args: Args = case.args.iter().map(|a| a.map(Dd::from)).collect();
    let pairs = primal.pairs.as_ref();
    let inner = primal.inner.as_ref().map_or(Ok(1.0), |s| s.condition(&args, pairs))?;
    Ok(inner * primal.outer.condition(&primal.complete(&args)?, pairs)?)
}

/// Is the function continuous? A comparison may hold at the point alone, where differences do not look.
pub fn continuous(case: &Case) -> bool {
    let args: Args = case.args.iter().map(|a| a.map(Dd::from)).collect();
    let Ok(primal) = Primal::new(case) else { return false };
    let at = |noise: f64| {
        let (mut args, mut t) = (args.clone(), first(noise));
        args.iter_mut().for_each(|a| moved(&mut a.data, noise, &mut t));
        primal.value(&args)
    };
    let (Ok(here), Ok(near)) = (at(0.0), at(1e-15)) else { return false };
    here.data.iter().zip(&near.data).all(|(a, b)| {
        let (a, b) = (a.f64(), b.f64());
        a == b || (a - b).abs() <= 1e-11 * (1.0 + a.abs())
    })
}

/// The derivative of the case, summed against its seed, by steps of `h`; the arguments of the
/// function, and the result of the inner one, are moved by `noise` first.
///
/// # Errors
/// What does not fit.
pub fn derivative(case: &Case, h: f64, noise: f64) -> Result<f64, String> {
    let primal = Primal { noise, ..Primal::new(case)? };
    let mut args: Args = case.args.iter().map(|a| a.map(Dd::from)).collect();
    let mut t = first(noise);
    args.iter_mut().for_each(|a| moved(&mut a.data, noise, &mut t));
    for step in &case.steps {
        args.extend(step.with.iter().map(|a| a.map(Dd::from)));
    }
    let seed: Args = case.seed.iter().map(|a| a.map(Dd::from)).collect();
    Ok(primal.chain(case.steps.len(), args, &seed, h)?.f64())
}

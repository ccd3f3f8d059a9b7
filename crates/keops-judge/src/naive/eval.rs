//! A formula at one pair of rows. Differential operators are differences of values.

use super::expr::Expr;
use super::ops::{Op, apply};
use super::reduce::Category;
use super::scalar::Real;

/// One pair of rows.
#[derive(Clone, Debug)]
pub struct Env<T> {
    /// Row of each argument.
    pub vars: Vec<Vec<T>>,
    /// Number of the row of `i`.
    pub i: usize,
    /// Number of the row of `j`.
    pub j: usize,
}

/// The value of a formula; dimensions that do not fit are an error.
///
/// # Errors
/// A sentence about the operation.
pub fn value<T: Real>(e: &Expr, env: &mut Env<T>) -> Result<Vec<T>, String> {
    match e {
        Expr::Var(k) => Ok(env.vars[*k].clone()),
        Expr::Num(v) => Ok(vec![T::constant(*v)]),
        Expr::Row(Category::J) => Ok(vec![T::from(env.j as f64)]),
        Expr::Row(_) => Ok(vec![T::from(env.i as f64)]),
        Expr::Slice(x, start, stop, step) => {
            let x = value(x, env)?;
            if *stop > x.len() || start >= stop {
                return Err(format!("components {start}:{stop} of {}", x.len()));
            }
            Ok(x[*start..*stop].iter().step_by(*step).copied().collect())
        }
        Expr::Apply(op, x, literals) => {
            if let Some(v) = differential(*op, x, env)? {
                return Ok(v);
            }
            let x: Vec<Vec<T>> = x.iter().map(|x| value(x, env)).collect::<Result<_, _>>()?;
            apply(*op, &x, literals)
        }
    }
}

/// The derivative of `f` in the variable `v` along `u`, by differences of the fourth order.
fn along<T: Real>(f: &Expr, v: usize, u: &[T], env: &mut Env<T>) -> Result<Vec<T>, String> {
    let at = env.vars[v].clone();
    let mut sample = |steps: f64| {
        let h = T::from(steps * T::STEP);
        env.vars[v] = at.iter().zip(u).map(|(a, u)| *a + h * *u).collect();
        value(f, env)
    };
    let samples = [-2.0, -1.0, 1.0, 2.0].map(&mut sample);
    env.vars[v] = at;
    let [a, b, c, d] = samples;
    let (a, b, c, d) = (a?, b?, c?, d?);
    let h12 = T::from(12.0 * T::STEP);
    let slope = |k: usize| (a[k] - d[k] + T::from(8.0) * (c[k] - b[k])) / h12;
    Ok((0..a.len()).map(slope).collect())
}
fn unit<T: Real>(d: usize, k: usize) -> Vec<T> {
    (0..d).map(|l| T::from((k == l) as u8 as f64)).collect()
}

/// `None` if the operation is no differential operator.
fn differential<T: Real>(op: Op, x: &[Expr], env: &mut Env<T>) -> Result<Option<Vec<T>>, String> {
    use Op::*;
    if !op.is_differential() {
        return Ok(None);
    }
    let Some(Expr::Var(v)) = x.get(1) else {
        return Err(format!("{}: the second operand must be a variable", op.name()));
    };
    let (f, v) = (&x[0], *v);
    let d = env.vars[v].len();
    // Columns of the Jacobian, or of the matrix of a linear function.
    let jacobian = |env: &mut Env<T>| -> Result<Vec<Vec<T>>, String> {
        (0..d).map(|k| along(f, v, &unit(d, k), env)).collect()
    };
    let matrix = |env: &mut Env<T>| -> Result<Vec<Vec<T>>, String> {
        let at = env.vars[v].clone();
        let column = |k: usize| {
            env.vars[v] = unit(d, k);
            value(f, env)
        };
        let columns = (0..d).map(column).collect();
        env.vars[v] = at;
        columns
    };
    let dot = |a: &[T], b: &[T]| -> T {
        let at = |k: usize| (a[k.min(a.len() - 1)], b[k.min(b.len() - 1)]);
        (0..a.len().max(b.len())).map(at).fold(T::from(0.0), |s, (a, b)| s + a * b)
    };
    Ok(Some(match op {
        Grad => {
            let e = value(&x[2], env)?;
            jacobian(env)?.iter().map(|c| dot(c, &e)).collect()
        }
        Diff => {
            let u = value(&x[2], env)?;
            let u: Vec<T> = (0..d).map(|k| u[k.min(u.len() - 1)]).collect();
            along(f, v, &u, env)?
        }
        GradMatrix => {
            let columns = jacobian(env)?;
            (0..columns[0].len()).flat_map(|r| columns.iter().map(move |c| c[r])).collect()
        }
        Divergence => {
            let columns = jacobian(env)?;
            vec![(0..d).fold(T::from(0.0), |s, k| s + columns[k][k.min(columns[k].len() - 1)])]
        }
        Laplacian => {
            let mut total = T::from(0.0);
            for k in 0..d {
                let slope = Expr::of(Diff, [f.clone(), Expr::Var(v), axis(d, k)]);
                total = total + along(&slope, v, &unit(d, k), env)?[0];
            }
            vec![total]
        }
        TraceOperator => {
            let columns = matrix(env)?;
            let w = match x.get(2) {
                Some(w) => value(w, env)?,
                None => vec![T::from(1.0)],
            };
            let entry = |k: usize| columns[k][k.min(columns[k].len() - 1)] * w[k.min(w.len() - 1)];
            vec![(0..d).map(entry).fold(T::from(0.0), |s, v| s + v)]
        }
        AdjointOperator => {
            let u = value(&x[2], env)?;
            matrix(env)?.iter().map(|c| dot(c, &u)).collect()
        }
        _ => {
            let columns = matrix(env)?;
            let side = |k: usize, n: usize, env: &mut Env<T>| match x.get(k) {
                Some(w) => value(w, env),
                None => Ok(vec![T::from(1.0); n]),
            };
            let l = side(2, columns[0].len(), env)?;
            let r = side(3, d, env)?;
            let term = |k: usize| r[k.min(r.len() - 1)] * dot(&columns[k], &l);
            vec![(0..d).map(term).fold(T::from(0.0), |s, v| s + v)]
        }
    }))
}
/// A unit vector as a formula.
fn axis(d: usize, k: usize) -> Expr {
    Expr::with(Op::ElemT, vec![Expr::Num(1.0)], &[d as i64, k as i64])
}

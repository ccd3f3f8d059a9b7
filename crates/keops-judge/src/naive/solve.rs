//! Kernel systems, solved by elimination: `(K + αI) a = b` where `K` is the matrix of a sum.

use super::eval::{Env, value};
use super::reduce::{Array, Category, Pairs, Reduction, Variable, broadcast, own_batch};
use super::scalar::Real;

/// What is added to the diagonal.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Ridge {
    /// A number.
    Number(f64),
    /// A declared parameter of dimension 1.
    Variable(usize),
}

/// How a sum is made a system: what is solved for, whose argument is the right-hand side.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Solve {
    /// The variable in which the formula is linear.
    pub unknown: usize,
    /// The ridge.
    pub ridge: Ridge,
}

impl Solve {
    /// With other numbers of variables.
    pub fn renamed(&self, to: &impl Fn(usize) -> usize) -> Solve {
        let ridge = match self.ridge {
            Ridge::Variable(k) => Ridge::Variable(to(k)),
            number => number,
        };
        Solve { unknown: to(self.unknown), ridge }
    }
    /// Is this variable its ridge or what it solves for?
    pub fn uses(&self, k: usize) -> bool {
        self.unknown == k || self.ridge == Ridge::Variable(k)
    }
}

/// One system for each batch element: the matrix with its ridge, by rows, and the right-hand side.
struct System<T> {
    matrix: Vec<Vec<T>>,
    b: Vec<T>,
    ridge: T,
}

/// The systems, and the shape of their solutions.
fn systems<T: Real>(
    (r, solve): (&Reduction, &Solve),
    variables: &[Variable],
    args: &[Array<T>],
    pairs: Option<&Pairs>,
) -> Result<(Vec<System<T>>, Vec<usize>), String> {
    let split: Vec<(&[usize], usize)> =
        args.iter().zip(variables).map(|(a, v)| a.split(v.category)).collect();
    let batch = broadcast(split.iter().map(|s| s.0))?;
    // As many rows as the right-hand side has.
    let (n, d) = (split[solve.unknown].1, variables[solve.unknown].dim);
    if variables.iter().zip(&split).any(|(v, s)| v.category != Category::Parameter && s.1 != n) {
        return Err("the system is not square".into());
    }
    let mut made = vec![];
    for number in 0..batch.iter().product() {
        let row = |k: usize, i: usize, j: usize| {
            let at = match variables[k].category {
                Category::I => i,
                Category::J => j,
                Category::Parameter => 0,
            };
            let (d, own) = (variables[k].dim, own_batch(split[k].0, &batch, number));
            args[k].data[(own * split[k].1 + at) * d..][..d].to_vec()
        };
        let b = (0..n).flat_map(|k| row(solve.unknown, k, k)).collect();
        let ridge = match solve.ridge {
            Ridge::Number(v) => T::from(v),
            Ridge::Variable(k) => row(k, 0, 0)[0],
        };
        let mut matrix = vec![vec![T::from(0.0); n * d]; n * d];
        for (to, from) in (0..n).flat_map(|to| (0..n).map(move |from| (to, from))) {
            let (i, j) = if r.over == Category::J { (to, from) } else { (from, to) };
            if pairs.is_some_and(|p| !p.there[i * p.columns + j]) {
                continue;
            }
            let mut env = Env { vars: (0..variables.len()).map(|k| row(k, i, j)).collect(), i, j };
            for c in 0..d {
                env.vars[solve.unknown] = (0..d).map(|l| T::from((l == c) as u8 as f64)).collect();
                let column = value(&r.formula, &mut env)?;
                if column.len() != d {
                    return Err(format!("{} components of {d}", column.len()));
                }
                for (l, v) in column.into_iter().enumerate() {
                    matrix[to * d + l][from * d + c] = v;
                }
            }
        }
        for (k, row) in matrix.iter_mut().enumerate() {
            row[k] = row[k] + ridge;
        }
        made.push(System { matrix, b, ridge });
    }
    Ok((made, [&batch[..], &[n, d]].concat()))
}

/// The solutions, of the rows and the dimension of the right-hand side.
///
/// # Errors
/// What does not fit.
pub fn solve<T: Real>(
    system: (&Reduction, &Solve),
    variables: &[Variable],
    args: &[Array<T>],
    pairs: Option<&Pairs>,
) -> Result<Array<T>, String> {
    let (systems, shape) = systems(system, variables, args, pairs)?;
    let data = systems.into_iter().flat_map(|s| eliminate(s.matrix, s.b)).collect();
    Ok(Array { shape, data })
}

/// A bound on the condition of the systems with symmetric positive semidefinite matrices: the
/// largest row sum over the ridge.
///
/// # Errors
/// What does not fit.
pub fn condition(
    system: (&Reduction, &Solve),
    variables: &[Variable],
    args: &[Array<f64>],
    pairs: Option<&Pairs>,
) -> Result<f64, String> {
    let (systems, _) = systems(system, variables, args, pairs)?;
    let sum = |row: &Vec<f64>| row.iter().map(|v| v.abs()).sum();
    let of = |s: &System<f64>| s.matrix.iter().map(sum).fold(0.0, f64::max) / s.ridge;
    Ok(systems.iter().map(of).fold(1.0, f64::max))
}

/// Gaussian elimination with the largest pivot of each column.
fn eliminate<T: Real>(mut m: Vec<Vec<T>>, mut b: Vec<T>) -> Vec<T> {
    let n = b.len();
    for c in 0..n {
        let size = |r: usize| m[r][c].f64().abs();
        let pivot = (c..n).fold(c, |best, r| if size(r) > size(best) { r } else { best });
        m.swap(c, pivot);
        b.swap(c, pivot);
        let (above, below) = m.split_at_mut(c + 1);
        let top = &above[c];
        for (k, row) in below.iter_mut().enumerate() {
            let factor = row[c] / top[c];
            row.iter_mut().zip(top).for_each(|(v, t)| *v = *v - factor * *t);
            b[c + 1 + k] = b[c + 1 + k] - factor * b[c];
        }
    }
    for r in (0..n).rev() {
        let known = (r + 1..n).fold(T::from(0.0), |s, k| s + m[r][k] * b[k]);
        b[r] = (b[r] - known) / m[r][r];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::super::{Dd, Declared, parse};
    use super::*;

    /// `[[2, 1], [1, 3]] + I` for (5, 7): by 3 · 4 - 1 · 1 = 11, a = (4 · 5 - 7, 3 · 7 - 5) / 11.
    #[test]
    fn a_system_by_hand() {
        let mut d = Declared::read(["m = Vi(2)", "e = Vj(2)", "b = Vj(1)"]).unwrap();
        let formula = parse("(m | e) * b", &mut d).unwrap();
        let r = Reduction { name: "Sum".into(), k: 1, over: Category::J, formula, weight: None };
        let two = |data: [f64; 4]| Array { shape: vec![2, 2], data: data.map(Dd::from).to_vec() };
        let b = Array { shape: vec![2, 1], data: vec![Dd::from(5.0), Dd::from(7.0)] };
        let args = [two([2.0, 1.0, 1.0, 3.0]), two([1.0, 0.0, 0.0, 1.0]), b];
        let system = Solve { unknown: 2, ridge: Ridge::Number(1.0) };
        let got = solve((&r, &system), &d.variables, &args, None).unwrap();
        assert_eq!(got.shape, [2, 1]);
        for (got, want) in got.data.iter().zip([13.0, 16.0]) {
            assert!((*got - Dd::from(want) / Dd::from(11.0)).f64().abs() < 1e-30, "{got:?}");
        }
    }
}

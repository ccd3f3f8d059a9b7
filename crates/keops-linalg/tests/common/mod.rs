//! Dense references and data.
#![allow(dead_code)] // each test file uses its own part

use keops_core::genred::Genred;
use keops_core::reduce::SUM;
use keops_core::spec::Axis;
use keops_linalg::{LinearOperator, SolveError, SolveInfo, SolveOptions, Solver};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Ix2, IxDyn};

/// Random numbers and arrays of them.
pub struct Random(keops_core::random::Random);
impl Random {
    pub fn new(seed: u64) -> Random {
        Random(keops_core::random::Random::new(seed))
    }
    /// Uniform in [0, 1).
    pub fn next(&mut self) -> f64 {
        self.0.unit()
    }
    /// Normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.next()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.next()).cos()
    }
    pub fn array(&mut self, shape: &[usize]) -> ArrayD<f64> {
        ArrayD::from_shape_simple_fn(IxDyn(shape), || self.next())
    }
    pub fn matrix(&mut self, rows: usize, columns: usize) -> Array2<f64> {
        Array2::from_shape_simple_fn((rows, columns), || self.next())
    }
}

pub fn sum(formula: &str, aliases: &[&str], axis: Axis) -> Genred {
    Genred::new(formula, aliases, &SUM, axis).unwrap()
}
/// `exp(-s |x_i - y_j|²) b_j` with columns of b, over j.
pub fn gaussian(dim: usize, columns: usize) -> Genred {
    let aliases = [
        format!("x = Vi({dim})"),
        format!("y = Vj({dim})"),
        format!("b = Vj({columns})"),
        "s = Pm(1)".into(),
    ];
    Genred::new("Exp(-s * SqDist(x, y)) * b", &aliases, &SUM, Axis::J).unwrap()
}
/// The matrix of that.
pub fn gaussian_matrix(x: &Array2<f64>, y: &Array2<f64>, s: f64) -> Array2<f64> {
    Array2::from_shape_fn((x.nrows(), y.nrows()), |(i, j)| {
        let d = &x.row(i) - &y.row(j);
        (-s * d.dot(&d)).exp()
    })
}

pub fn two(a: &ArrayD<f64>) -> ArrayView2<'_, f64> {
    a.view().into_dimensionality::<Ix2>().unwrap()
}

/// Solves `(k + ridge) a = b` by Cholesky's factorisation.
pub fn cholesky_solve(k: &Array2<f64>, ridge: f64, b: &ArrayView2<'_, f64>) -> Array2<f64> {
    let n = k.nrows();
    let mut l = k.clone();
    for j in 0..n {
        let own = l[[j, j]] + ridge - (0..j).map(|m| l[[j, m]] * l[[j, m]]).sum::<f64>();
        assert!(own > 0.0, "the reference needs a positive definite matrix");
        l[[j, j]] = own.sqrt();
        for i in j + 1..n {
            let rest: f64 = (0..j).map(|m| l[[i, m]] * l[[j, m]]).sum();
            l[[i, j]] = (l[[i, j]] - rest) / l[[j, j]];
        }
    }
    let mut a = b.to_owned();
    for mut c in a.columns_mut() {
        for i in 0..n {
            let rest: f64 = (0..i).map(|m| l[[i, m]] * c[m]).sum();
            c[i] = (c[i] - rest) / l[[i, i]];
        }
        for i in (0..n).rev() {
            let rest: f64 = (i + 1..n).map(|m| l[[m, i]] * c[m]).sum();
            c[i] = (c[i] - rest) / l[[i, i]];
        }
    }
    a
}

/// The largest difference relative to the largest entry of `b`.
pub fn distance<'a>(
    a: impl IntoIterator<Item = &'a f64>,
    b: impl IntoIterator<Item = &'a f64>,
) -> f64 {
    let (a, b): (Vec<f64>, Vec<f64>) =
        (a.into_iter().copied().collect(), b.into_iter().copied().collect());
    assert_eq!(a.len(), b.len());
    let size = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(a.iter().chain(&b).all(|v| v.is_finite()));
    a.iter().zip(&b).fold(0.0f64, |m, (a, b)| m.max((a - b).abs())) / size
}

/// `‖b - (k + ridge) a‖ / ‖b‖` of each column.
pub fn residuals(
    k: &Array2<f64>,
    ridge: f64,
    a: &ArrayView2<'_, f64>,
    b: &ArrayView2<'_, f64>,
) -> Vec<f64> {
    let r = b - &k.dot(a) - &(ridge * a);
    let norm = |m: &Array2<f64>, c: usize| m.column(c).dot(&m.column(c)).sqrt();
    (0..b.ncols()).map(|c| norm(&r, c) / norm(&b.to_owned(), c)).collect()
}

/// Solves with an operator of one's own.
pub fn conjugate_gradients(
    operator: &dyn LinearOperator,
    b: &Array3<f64>,
    guess: Option<&Array3<f64>>,
    options: &SolveOptions,
) -> Result<(Array3<f64>, SolveInfo), SolveError> {
    let solver = Solver::of(operator).options(*options);
    match guess {
        Some(guess) => solver.first_guess(guess).solve(b),
        None => solver.solve(b),
    }
}

/// An array that scripts/golden/krylov.py made.
pub fn golden<D: ndarray::Dimension>(name: &str) -> ndarray::Array<f64, D> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/linalg/krylov.npz");
    let mut file = ndarray_npy::NpzReader::new(std::fs::File::open(path).unwrap()).unwrap();
    file.by_name(name).unwrap()
}

//! Partial Cholesky factorisations with pivots, of a few rows of the matrix.

use super::{Preconditioner, check_diagonal, misfit};
use crate::entries::{Diagonal, Rows};
use crate::krylov::small;
use crate::layout::{VECTOR, dense, row_major};
use keops_core::error::{Error, InputError};
use keops_core::memory;
use keops_core::random::Random;
use ndarray::linalg::{general_mat_mul, general_mat_vec_mul};
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis};

/// Eigenvalues of the factor below this part of the largest one are rounding.
const NOISE: f64 = 1e-14;
/// What is left of the diagonal is rounding below this part of it.
const DONE: f64 = 1e-14;
/// Name of the factor in errors where there is no memory for it.
const FACTOR: &str = "the factor of a preconditioner";

/// `(L Lᵀ + αI)⁻¹`, of a partial Cholesky factorisation `K ≈ L Lᵀ` of some rank, which looks at as
/// many rows of K and its diagonal. For kernels that are smooth at the scale of the points it takes
/// most of what makes the system hard.
///
/// Pivots are drawn with probabilities proportional to the diagonal that is left (Y. Chen,
/// E. Epperly, J. Tropp, R. Webber, Randomly pivoted Cholesky, 2023, Algorithm 2.1), or are its
/// largest entries. By the eigenvectors U of `L Lᵀ` and its eigenvalues s, the inverse is
/// `(r - U diag(s / (s + α)) Uᵀ r) / α`, the identity of Woodbury, for any α.
///
/// Memory is `rank` numbers for each unknown, time to make it `rank²` for each, and `rank` products
/// with a unit vector. A rank of about the square root of ten times the number of unknowns is a
/// fair beginning.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{KernelOperator, PivotedCholesky};
/// use ndarray::Array2;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
/// let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J)?;
/// let x = Array2::from_shape_fn((100, 1), |(k, _)| k as f64 / 50.0);
/// let k = KernelOperator::new(&sum, "b", (&x, &x))?;
/// let b = x.mapv(|x| (20.0 * x).sin());
/// let plain = k.solver().ridge(1e-3).solve(&b)?.info.iterations;
/// let p = PivotedCholesky::new(&k, 10)?;
/// let info = k.solver().ridge(1e-3).preconditioner(&p).solve(&b)?.info;
/// assert!(info.converged() && info.iterations < plain / 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PivotedCholesky {
    factors: Vec<Factor>,
}

/// Of one matrix.
#[derive(Clone, Debug)]
struct Factor {
    /// Eigenvectors, by rows, and their eigenvalues.
    u: Array2<f64>,
    s: Array1<f64>,
    /// Mean of the diagonal that is left: takes the place of a ridge that is too small.
    left: f64,
}

/// How the next pivot is found.
enum Pivots<'c> {
    Random(Random),
    Greedy,
    Given(std::slice::Iter<'c, usize>),
}

/// A product with dense vectors waits for memory: it takes this many times as long as its operations
/// alone, beside those of a kernel.
const SLOW: f64 = 8.0;
/// Part of the time that a preconditioner is to save that making it may take, and part of a product
/// that applying it may take.
const SHARE: f64 = 0.25;
/// Digits that a solver is expected to gain, where it is guessed how many iterations it takes.
const TOLERANCE: f64 = 1e-6;

impl PivotedCholesky {
    /// Of at most this many pivots, drawn at random (the same in every run).
    ///
    /// # Errors
    /// [`InputError::Option`] if the diagonal has a negative entry; [`InputError::OutOfMemory`];
    /// from the device.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::{KernelOperator, PivotedCholesky};
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let sum: Genred = Genred::new("x * y * b", aliases, &SUM, Axis::J)?;
    /// let x = ndarray::array![[1.0], [2.0], [3.0]];
    /// let k = KernelOperator::new(&sum, "b", (&x, &x))?;
    /// assert_eq!(PivotedCholesky::new(&k, 3)?.rank(0), 1); // all that there is
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new<O: Diagonal + Rows + ?Sized>(
        operator: &O,
        rank: usize,
    ) -> Result<PivotedCholesky, Error> {
        PivotedCholesky::of(operator, rank, 0.0, || Pivots::Random(Random::new(0)))
    }
    /// The same with the largest entries as pivots: better where few points matter, worse where
    /// outliers do.
    ///
    /// # Errors
    /// As [`PivotedCholesky::new`].
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::{KernelOperator, PivotedCholesky};
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J)?;
    /// let x = ndarray::array![[0.0], [0.1], [5.0]];
    /// let k = KernelOperator::new(&sum, "b", (&x, &x))?;
    /// assert_eq!(PivotedCholesky::greedy(&k, 2)?.rank(0), 2); // the first point, and the last one
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn greedy<O: Diagonal + Rows + ?Sized>(
        operator: &O,
        rank: usize,
    ) -> Result<PivotedCholesky, Error> {
        PivotedCholesky::of(operator, rank, 0.0, || Pivots::Greedy)
    }
    /// Nyström's approximation from chosen centres, which are unknowns ([`Diagonal::diagonal`]).
    /// Those that add nothing to the ones before are left out.
    ///
    /// # Errors
    /// As [`PivotedCholesky::new`]; [`InputError::Option`] for a centre that there is not.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::{KernelOperator, PivotedCholesky};
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J)?;
    /// let x = ndarray::array![[0.0], [0.0], [5.0]];
    /// let k = KernelOperator::new(&sum, "b", (&x, &x))?;
    /// assert_eq!(PivotedCholesky::nystrom(&k, &[0, 1, 2])?.rank(0), 2); // two points are one
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn nystrom<O: Diagonal + Rows + ?Sized>(
        operator: &O,
        centres: &[usize],
    ) -> Result<PivotedCholesky, Error> {
        let [rows, dim] = operator.domain();
        let unknowns = rows * if operator.columns_independent() { 1 } else { dim };
        if let Some(k) = centres.iter().find(|k| **k >= unknowns) {
            let m = format!("centre {k}, but there are {unknowns} unknowns");
            return Err(InputError::Option(m).into());
        }
        PivotedCholesky::of(operator, centres.len(), 0.0, || Pivots::Given(centres.iter()))
    }
    /// Of a rank that fits the matrix and the ridge: random pivots until what is left is below the
    /// ridge, but no more than pay. It takes three products to find the largest eigenvalue, of which
    /// the number of iterations without a preconditioner follows, `√(λ / ridge) ln(2 / 1e-6) / 2`;
    /// making the preconditioner takes a quarter of their time at most, and applying it a quarter of
    /// a product ([`crate::LinearOperator::cost`]).
    ///
    /// # Errors
    /// As [`PivotedCholesky::new`]; [`InputError::Option`] for a ridge that is negative or not finite.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::{KernelOperator, PivotedCholesky};
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J)?;
    /// let x = ndarray::Array2::from_shape_fn((200, 1), |(k, _)| k as f64 / 200.0);
    /// let k = KernelOperator::new(&sum, "b", (&x, &x))?;
    /// let rank = PivotedCholesky::automatic(&k, 1e-3)?.rank(0);
    /// assert!((3..12).contains(&rank), "{rank}"); // eigenvalues fall fast
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn automatic<O: Diagonal + Rows + ?Sized>(
        operator: &O,
        ridge: f64,
    ) -> Result<PivotedCholesky, Error> {
        if !(ridge.is_finite() && ridge >= 0.0) {
            let what = format!("the ridge must be finite and at least 0, got {ridge}");
            return Err(InputError::Option(what).into());
        }
        let ([rows, dim], batches) = (operator.domain(), operator.matrices());
        let n = (rows * if operator.columns_independent() { 1 } else { dim }) as f64;
        let mut random = Random::new(1);
        let mut v = Array3::from_shape_simple_fn((batches, rows, dim), || random.unit() - 0.5);
        let mut largest = 0.0f64;
        for _ in 0..3 {
            let size = v.iter().map(|v| v * v).sum::<f64>().sqrt();
            v /= if size > 0.0 { size } else { 1.0 };
            v = operator.apply(&v)?;
            largest = v.iter().map(|v| v * v).sum::<f64>().sqrt();
        }
        let own = operator.cost().flops;
        // (Of an operator that does not say: a few operations for each entry.)
        let product = if own.is_nan() { 4.0 * n * n } else { own };
        let iterations = 0.5 * (largest / ridge).sqrt() * (2.0 / TOLERANCE).ln();
        // A row takes a product's n-th part, a rank of r this many rows and 3 r² n operations.
        let of_rows = SHARE * iterations * n / 2.0;
        let of_algebra = (SHARE * iterations * product / 2.0 / (3.0 * SLOW * n)).sqrt();
        let of_apply = SHARE * product / (4.0 * SLOW * n);
        let rank = of_rows.min(of_algebra).min(of_apply).min(n).max(1.0);
        PivotedCholesky::of(operator, rank as usize, ridge, || Pivots::Random(Random::new(0)))
    }
    /// Rank reached for a matrix of the operator: less than asked for where nothing is left.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::{KernelOperator, PivotedCholesky};
    /// # let aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"];
    /// let sum: Genred = Genred::new("(x | y) * b", aliases, &SUM, Axis::J)?; // of rank 2
    /// let x = ndarray::array![[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]];
    /// let k = KernelOperator::new(&sum, "b", (&x, &x))?;
    /// assert_eq!(PivotedCholesky::new(&k, 3)?.rank(0), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rank(&self, matrix: usize) -> usize {
        self.factors.get(matrix).map_or(0, |f| f.s.len())
    }

    fn of<'c, O: Diagonal + Rows + ?Sized>(
        operator: &O,
        rank: usize,
        enough: f64,
        pivots: impl Fn() -> Pivots<'c>,
    ) -> Result<PivotedCholesky, Error> {
        let diagonal = operator.diagonal()?;
        check_diagonal(&diagonal)?;
        let factors = diagonal.outer_iter().enumerate().map(|(matrix, d)| {
            let row = |k: usize| -> Result<Array1<f64>, Error> {
                let rows = operator.rows_at(matrix, &[k])?;
                if rows.dim() != (1, d.len()) {
                    let expected = format!("shape (1, {})", d.len());
                    let got = rows.shape().to_vec();
                    let name = "rows of the operator".into();
                    return Err(InputError::Shape { name, expected, got }.into());
                }
                Ok(rows.index_axis_move(Axis(0), 0))
            };
            let own = memory::collected(d.iter().copied(), VECTOR)?;
            factor(own.into(), (rank, enough), row, pivots())
        });
        Ok(PivotedCholesky { factors: factors.collect::<Result<_, _>>()? })
    }
}

/// Factorises the matrix with diagonal `d`, of which `row` gives rows, until the rank is reached or
/// the trace left is small enough.
fn factor(
    mut d: Array1<f64>,
    (rank, enough): (usize, f64),
    row: impl Fn(usize) -> Result<Array1<f64>, Error>,
    mut pivots: Pivots<'_>,
) -> Result<Factor, Error> {
    let n = d.len();
    let (rank, trace) = (rank.min(n), d.sum());
    let mut l = dense(rank, n, FACTOR)?; // Lᵀ: its rows lie in one piece
    let mut made = 0;
    while made < rank && d.sum() > enough.max(DONE * trace) {
        let pivot = match &mut pivots {
            Pivots::Random(random) => {
                let mut target = random.unit() * d.sum();
                let reached = |d: &f64| {
                    target -= d;
                    target < 0.0 && *d > 0.0
                };
                d.iter().position(reached)
            }
            Pivots::Given(list) => match list.next() {
                Some(&pivot) => Some(pivot),
                None => break,
            },
            Pivots::Greedy => (0..n).max_by(|&a, &b| d[a].total_cmp(&d[b])),
        };
        // (Rounding of the sum may leave the last row.)
        let Some(pivot) = pivot.or_else(|| (0..n).rev().find(|&k| d[k] > 0.0)) else { break };
        let known = l.slice_axis(Axis(0), (..made).into());
        let mut next = row(pivot)?;
        general_mat_vec_mul(-1.0, &known.t(), &known.column(pivot), 1.0, &mut next);
        let own = next[pivot];
        if own.is_nan() || own <= DONE * trace / n as f64 || next.iter().any(|v| !v.is_finite()) {
            d[pivot] = 0.0; // what is left there is rounding
            continue;
        }
        next /= own.sqrt();
        d.zip_mut_with(&next, |d, v| *d = (*d - v * v).max(0.0));
        d[pivot] = 0.0;
        l.row_mut(made).assign(&next);
        made += 1;
    }
    if made == 0 {
        let left = d.sum() / n.max(1) as f64;
        return Ok(Factor { u: dense(0, n, FACTOR)?, s: Array1::zeros(0), left });
    }
    l.slice_axis_inplace(Axis(0), (..made).into());
    let gram = l.dot(&l.t());
    if gram.iter().any(|v| !v.is_finite()) {
        let what = "the rows of the operator are far too large";
        return Err(InputError::Option(what.into()).into());
    }
    let (values, eigenvectors) = small(gram.view())?;
    let top = values.iter().fold(0.0f64, |m, v| m.max(*v));
    let kept: Vec<usize> = (0..made).filter(|&k| values[k] > NOISE * top).collect();
    let vectors = Array2::from_shape_fn((kept.len(), made), |(k, i)| {
        eigenvectors[[kept[k], i]] / values[kept[k]].sqrt()
    });
    let left = (d.sum() / n as f64).max(NOISE * top);
    let mut u = dense(kept.len(), n, FACTOR)?;
    general_mat_mul(1.0, &vectors, &l, 0.0, &mut u);
    Ok(Factor { u, s: values.select(Axis(0), &kept), left })
}

impl Preconditioner for PivotedCholesky {
    fn apply(
        &self,
        matrix: usize,
        ridge: f64,
        r: ArrayView2<'_, f64>,
    ) -> Result<Array2<f64>, Error> {
        let (rows, dim) = r.dim();
        let unknowns = self.factors.first().map_or(0, |f| f.u.ncols());
        let wanted = self
            .factors
            .get(matrix)
            .filter(|f| f.u.ncols() == rows || f.u.ncols() == rows.saturating_mul(dim));
        let Some(factor) = wanted else {
            return Err(misfit("Cholesky", unknowns, self.factors.len()));
        };
        // Columns, or all of them as one.
        let columns = if unknowns == rows { dim } else { 1 };
        let flat = row_major(&r)?.into_shape_with_order((unknowns, columns));
        let Ok(mut flat) = flat else { unreachable!("row-major, of that size") };
        let ridge = ridge.max(NOISE * factor.s.iter().fold(0.0f64, |m, v| m.max(*v)));
        let ridge = if ridge > NOISE * factor.left { ridge } else { factor.left };
        // (An operator of zeros leaves nothing, not even a scale.)
        let ridge = if ridge > 0.0 { ridge } else { 1.0 };
        let mut inner = dense(factor.s.len(), columns, VECTOR)?;
        general_mat_mul(1.0, &factor.u, &flat, 0.0, &mut inner);
        for (mut row, s) in inner.outer_iter_mut().zip(&factor.s) {
            row *= s / (s + ridge);
        }
        general_mat_mul(-1.0, &factor.u.t(), &inner, 1.0, &mut flat);
        flat /= ridge;
        match flat.into_shape_with_order((rows, dim)) {
            Ok(z) => Ok(z),
            Err(_) => unreachable!("row-major, of that size"),
        }
    }
}

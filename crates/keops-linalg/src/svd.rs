//! Singular values of operators that need not be square: randomised subspace iteration (N. Halko,
//! P. Martinsson, J. Tropp, Finding structure with randomness: probabilistic algorithms for
//! constructing approximate matrix decompositions, SIAM Rev. 53, 2011, Algorithms 4.4 and 5.1).
//!
//! Products with random vectors span a space Q that holds what the operator does most; `QᵀA` is a
//! matrix of a few rows, which is factorised densely.

use crate::algebra::Adjoint;
use crate::control::{Control, Progress, control_method};
use crate::entries::AdjointOperator;
use crate::krylov::{Products, epsilon, finite, normal, norms, orthonormal, rows, single};
use crate::stack::roomy;
use faer::Mat;
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::random::Random;
use ndarray::{Array1, Array2, ArrayView2};
use std::fmt;

/// Random vectors that the error is estimated with: the bound fails with probability 10⁻¹⁰.
const PROBES: usize = 10;

/// Singular values and vectors of an operator, `A ≈ U diag(s) Vᵀ`.
///
/// ```
/// use keops_linalg::{Diag, Svds};
/// let svd = Svds::of(&Diag::new(ndarray::array![1.0, -3.0, 2.0], 1)).rank(2).run()?;
/// assert!((svd.values[0] - 3.0).abs() < 1e-12 && (svd.values[1] - 2.0).abs() < 1e-12);
/// assert!(svd.u[[1, 0]] * svd.v[[1, 0]] < 0.0);
/// assert!((1.0..20.0).contains(&svd.error)); // a bound: what is left out has the norm 1
/// # Ok::<(), keops_linalg::SvdError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct SingularTriplets {
    /// Orthonormal left vectors, of shape (unknowns of the range, rank). Unknowns are as in
    /// [`crate::Diagonal::diagonal`].
    pub u: Array2<f64>,
    /// Singular values, the largest first.
    pub values: Array1<f64>,
    /// Orthonormal right vectors, of shape (unknowns of the domain, rank).
    pub v: Array2<f64>,
    /// `‖A v - s u‖` of each triplet, recomputed (`‖Aᵀu - s v‖` is rounding): a singular value of A is
    /// as near to s. Where it is too large, more iterations make it smaller.
    pub residuals: Array1<f64>,
    /// A bound of `‖A - U diag(s) Vᵀ‖`, the largest singular value of what is left out, by ten products
    /// with new random vectors (Halko et al., equation 4.3). It holds with probability 1 - 10⁻¹⁰, and is
    /// some ten times too large.
    pub error: f64,
    /// Products with the operator and with its adjoint; one takes as many vectors as it has
    /// independent columns.
    pub products: usize,
}

/// No singular values.
///
/// ```
/// use keops_linalg::{Diag, SvdError, Svds};
/// let e = Svds::of(&Diag::new(ndarray::array![1.0, f64::NAN], 1)).run().unwrap_err();
/// assert!(matches!(e, SvdError::NotFinite { product: 2 }), "{e}");
/// ```
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SvdError {
    /// NaN or infinity in a product.
    #[error("NaN or infinity in product {product} (check the arguments of the kernel)")]
    NotFinite {
        /// Number of the product, from 1.
        product: usize,
    },
    /// `<u, A v>` differs from `<Aᵀu, v>` by more than rounding.
    #[error(
        "what the operator calls its adjoint is not: <u, A v> and <Aᵀu, v> differ by {gap:.1e} of the \
         norm (laws::adjoint and laws::linear tell more)"
    )]
    NotAdjoint {
        /// Difference relative to the norm of the operator.
        gap: f64,
    },
    /// The observer asked for it.
    #[error("cancelled at product {product}")]
    Cancelled {
        /// Products done.
        product: usize,
    },
    /// An argument or option does not fit, or the device failed.
    #[error(transparent)]
    Core(#[from] Error),
}
impl From<InputError> for SvdError {
    fn from(e: InputError) -> SvdError {
        SvdError::Core(e.into())
    }
}
impl From<OutOfMemory> for SvdError {
    fn from(e: OutOfMemory) -> SvdError {
        SvdError::Core(e.into())
    }
}

/// Finds the largest singular values of an operator and their vectors, and how well they approximate
/// it. An operator with several independent columns (`v = Vj(4)`) multiplies as many vectors at once.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{KernelOperator, Svds};
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
/// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?; // x yᵀ
/// let (x, y) = (ndarray::array![[1.0], [2.0], [2.0]], ndarray::array![[3.0], [4.0]]);
/// let svd = Svds::of(&KernelOperator::new(&sum, "v", (&x, &y))?).rank(1).run()?;
/// assert!((svd.values[0] - 15.0).abs() < 1e-12 && svd.error < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Svds<'s> {
    operator: &'s dyn AdjointOperator,
    rank: usize,
    oversampling: usize,
    iterations: usize,
    control: Control<'s>,
}

impl fmt::Debug for Svds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Svds");
        f.field("rank", &self.rank).field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl<'s> Svds<'s> {
    /// Of an operator: the largest singular value, until told otherwise.
    pub fn of(operator: &'s dyn AdjointOperator) -> Svds<'s> {
        Svds { operator, rank: 1, oversampling: 10, iterations: 4, control: Control::default() }
    }
    /// As many singular values.
    pub fn rank(mut self, rank: usize) -> Self {
        self.rank = rank;
        self
    }
    /// Random vectors above the rank; 10 by default.
    pub fn oversampling(mut self, vectors: usize) -> Self {
        self.oversampling = vectors;
        self
    }
    /// Subspace iterations, of two products each; 4 by default. Errors fall by the ratio of singular
    /// values inside and outside the space, squared, with each.
    pub fn iterations(mut self, iterations: usize) -> Self {
        self.iterations = iterations;
        self
    }
    control_method! {
        /// Of the random vectors; the same ones in every run by default.
        seed of control
    }
    control_method! {
        /// Calls a function after each product of all vectors, without residuals; `Break` ends with
        /// [`SvdError::Cancelled`].
        observe of control
    }

    /// The singular values.
    ///
    /// # Errors
    /// [`SvdError`].
    pub fn run(self) -> Result<SingularTriplets, SvdError> {
        let [n, m] = single(self.operator)?;
        if self.rank > n.min(m) {
            let what =
                format!("{} singular values of an operator of {n} × {m} unknowns", self.rank);
            return Err(InputError::Option(what).into());
        }
        let unit = epsilon(self.operator);
        let mut random = Random::new(self.control.seed);
        let adjoint = Adjoint::of(self.operator);
        let operator = self.operator;
        let width = self.rank.saturating_add(self.oversampling).min(n.min(m));
        let (rank, steps) = (self.rank, self.iterations);
        let start = normal(&mut random, width, m)?;
        let mut forward = Products::new(operator);
        let first = forward.apply(start.view())?;
        let back = Products::new(&adjoint).like(&forward);
        let mut run = Run { forward, back, control: self.control };
        run.look(&first)?;
        // (Rows that others explain to rounding are replaced by random ones.)
        let basis = |v: Array2<f64>, random: &mut Random| {
            let noise = unit * norms(v.view()).iter().fold(0.0f64, |m, v| m.max(*v));
            orthonormal(v, &[], noise, width, random)
        };
        let (mut q, _) = basis(first, &mut random)?;
        for _ in 0..steps {
            let (z, _) = basis(run.back(q.view())?, &mut random)?;
            (q, _) = basis(run.forward(z.view())?, &mut random)?;
        }
        // A ≈ Q B with the rows of B, Aᵀq = R z, and a dense decomposition of R.
        let (z, r) = basis(run.back(q.view())?, &mut random)?;
        let core = Mat::from_fn(width, width, |i, j| r[[i, j]]);
        let core = roomy(|| core.svd())?.map_err(|_| {
            InputError::Option("a projected matrix has no singular values: it is not finite".into())
        })?;
        let values = Array1::from_shape_fn(rank, |k| core.S()[k]);
        let own = |of: faer::MatRef<'_, f64>, basis: &Array2<f64>| {
            Array2::from_shape_fn((rank, width), |(k, i)| of[(i, k)]).dot(basis)
        };
        let (u, v) = (own(core.U(), &q), own(core.V(), &z));
        // What is true of them.
        let images = run.forward(v.view())?;
        let residual = |k: usize| {
            let r = &images.row(k) - &(values[k] * &u.row(k));
            r.dot(&r).sqrt()
        };
        let residuals = Array1::from_shape_fn(rank, residual);
        let gap = |k: usize| (images.row(k).dot(&u.row(k)) - values[k]).abs();
        let gap = (0..rank).map(gap).fold(0.0, f64::max);
        let largest = values.first().copied().unwrap_or(0.0);
        if gap > unit.powf(2.0 / 3.0) * largest * (n.max(m) as f64).sqrt().max(8.0) {
            return Err(SvdError::NotAdjoint { gap: gap / largest });
        }
        let probes = normal(&mut random, PROBES, m)?;
        let mut left = run.forward(probes.view())?;
        left -= &(probes.dot(&v.t()) * &values).dot(&u);
        let largest = norms(rows(&left, ..)).iter().fold(0.0f64, |m, v| m.max(*v));
        let error = 10.0 * (2.0 / std::f64::consts::PI).sqrt() * largest;
        let unscaled = |v: f64| run.forward.unscaled(v);
        Ok(SingularTriplets {
            u: u.reversed_axes(),
            values: values.mapv(unscaled),
            v: v.reversed_axes(),
            residuals: residuals.mapv(unscaled),
            error: unscaled(error),
            products: run.count(),
        })
    }
}

/// Products in both directions.
struct Run<'o, 's> {
    forward: Products<'o>,
    back: Products<'o>,
    control: Control<'s>,
}
impl Run<'_, '_> {
    fn count(&self) -> usize {
        self.forward.count + self.back.count
    }
    fn forward(&mut self, v: ArrayView2<'_, f64>) -> Result<Array2<f64>, SvdError> {
        let made = self.forward.apply(v)?;
        self.look(&made)?;
        Ok(made)
    }
    fn back(&mut self, v: ArrayView2<'_, f64>) -> Result<Array2<f64>, SvdError> {
        let made = self.back.apply(v)?;
        self.look(&made)?;
        Ok(made)
    }
    fn look(&mut self, made: &Array2<f64>) -> Result<(), SvdError> {
        let product = self.count();
        if !finite(made) {
            return Err(SvdError::NotFinite { product });
        }
        match self.control.ends(&Progress { iteration: product, products: product, residuals: &[] })
        {
            true => Err(SvdError::Cancelled { product }),
            false => Ok(()),
        }
    }
}

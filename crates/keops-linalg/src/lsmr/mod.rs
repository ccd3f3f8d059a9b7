//! Least squares with operators that need not be square: LSMR (D. Fong, M. Saunders, LSMR: an
//! iterative algorithm for sparse least-squares problems, SIAM J. Sci. Comput. 33, 2011), with the
//! names and the stopping rules of its implementation in SciPy.
//!
//! The Golub-Kahan process of A and b makes a lower bidiagonal matrix, which two sequences of plane
//! rotations factorise as it grows. `‖Aᵀr‖` falls in every iteration. All systems share products, and
//! what is reported is recomputed with the operator and its adjoint.

mod process;

use crate::control::{Control, Progress, control_method};
use crate::entries::AdjointOperator;
use crate::info::SystemId;
use crate::layout::{SYSTEMS, VECTOR};
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::memory;
use ndarray::{Array, ArrayD, ArrayRef, Dimension, IxDyn};
use process::{Process, State};
use std::fmt;

/// Why the iteration ended with a right-hand side.
///
/// ```
/// use keops_linalg::{Diag, Lsmr, LsmrReason};
/// let d = Diag::new(ndarray::array![2.0, 0.0], 1);
/// let fit = Lsmr::of(&d).solve(&ndarray::array![4.0, 0.0])?;
/// assert_eq!(fit.info.systems[0].reason, LsmrReason::Compatible);
/// let fit = Lsmr::of(&d).solve(&ndarray::array![4.0, 1.0])?;
/// assert_eq!(fit.info.systems[0].reason, LsmrReason::LeastSquares);
/// # Ok::<(), keops_linalg::LsmrError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LsmrReason {
    /// `‖A x - b‖` is small: the system has a solution.
    Compatible,
    /// `‖Aᵀ (b - A x) - δ² x‖` is small: the least squares problem is solved.
    LeastSquares,
    /// See [`LsmrError::Condition`].
    Condition,
    /// See [`LsmrError::IterationLimit`].
    IterationLimit,
    /// See [`LsmrError::Inaccurate`].
    Inaccurate,
    /// See [`LsmrError::NotFinite`].
    NotFinite,
    /// See [`LsmrError::Cancelled`].
    Cancelled,
}

impl LsmrReason {
    /// The gravest failure is the smallest; `None` for a success.
    fn gravity(self) -> Option<u8> {
        match self {
            LsmrReason::Compatible | LsmrReason::LeastSquares => None,
            LsmrReason::NotFinite => Some(0),
            LsmrReason::Inaccurate => Some(1),
            LsmrReason::Condition => Some(2),
            LsmrReason::IterationLimit => Some(3),
            LsmrReason::Cancelled => Some(4),
        }
    }
}

/// Report about one right-hand side.
///
/// ```
/// use keops_linalg::{Diag, Lsmr};
/// let fit = Lsmr::of(&Diag::new(ndarray::array![2.0, 0.0], 1)).solve(&ndarray::array![4.0, 1.0])?;
/// let system = &fit.info.systems[0];
/// assert!((system.residual - 1.0).abs() < 1e-12 && system.gradient < 1e-12);
/// # Ok::<(), keops_linalg::LsmrError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct LsmrSystem {
    /// Which.
    pub system: SystemId,
    /// Iterations that it took part in: one product with the operator and one with its adjoint each.
    pub iterations: usize,
    /// `‖b - A x‖`, recomputed.
    pub residual: f64,
    /// `‖Aᵀ (b - A x) - δ² x‖`, recomputed: half the slope of what is minimised.
    pub gradient: f64,
    /// Estimate of the Frobenius norm of A above δI.
    pub norm: f64,
    /// Estimate of the condition number of A above δI, from below.
    pub condition: f64,
    /// Why the iteration ended.
    pub reason: LsmrReason,
}

/// Report of [`Lsmr`].
///
/// ```
/// use keops_linalg::{Diag, Lsmr};
/// let d = Diag::new(ndarray::array![2.0, 3.0], 2);
/// let info = Lsmr::of(&d).solve(&ndarray::array![[4.0, 0.0], [0.0, 3.0]])?.info;
/// assert_eq!((info.iterations, info.systems.len()), (1, 2)); // both are eigenvectors
/// # Ok::<(), keops_linalg::LsmrError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct LsmrInfo {
    /// Iterations of the slowest system.
    pub iterations: usize,
    /// Products with the operator and with its adjoint, checks included; all systems share each.
    pub products: usize,
    /// Each right-hand side: batch elements in row-major order, within them columns.
    pub systems: Vec<LsmrSystem>,
}

/// What minimises `‖A x - b‖² + δ² ‖x‖²`.
///
/// ```
/// use keops_linalg::{Diag, LeastSquares, Lsmr};
/// let d = Diag::new(ndarray::array![2.0, 3.0], 1);
/// let LeastSquares { solution, .. } = Lsmr::of(&d).solve(&ndarray::array![4.0, 3.0])?;
/// assert!((solution - ndarray::array![2.0, 1.0]).iter().all(|g| g.abs() < 1e-12));
/// # Ok::<(), keops_linalg::LsmrError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct LeastSquares<D: Dimension = IxDyn> {
    /// With the rows of the operator's domain, in the shape of the right-hand side otherwise. Where
    /// there are many minimisers, the one of smallest norm.
    pub solution: Array<f64, D>,
    /// How it was found.
    pub info: LsmrInfo,
}

/// A least squares problem was not solved: of several, the variant tells about the gravest failure.
///
/// ```
/// use keops_linalg::{Diag, Lsmr, LsmrError};
/// let d = Diag::new(ndarray::Array1::from_shape_fn(50, |k| (k + 1) as f64), 1);
/// let e = Lsmr::of(&d).max_iterations(3).solve(&ndarray::Array1::ones(50)).unwrap_err();
/// assert!(matches!(e, LsmrError::IterationLimit { limit: 3, .. }), "{e}");
/// assert_eq!(e.partial().unwrap().solution.shape(), [50]);
/// ```
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LsmrError {
    /// NaN or infinity in the right-hand side or in a product.
    #[error(
        "{system}: NaN or infinity at iteration {iteration} (check the arguments of the kernel and the right-hand side)"
    )]
    NotFinite {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed before.
        iteration: usize,
        /// What there is.
        partial: Box<LeastSquares>,
    },
    /// The estimate of the condition number is above the limit.
    #[error(
        "{system}: the condition number of the problem is above {condition:.1e} at iteration \
         {iteration}: what is returned would be mostly noise; add damping, or allow a larger \
         condition"
    )]
    Condition {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed.
        iteration: usize,
        /// The estimate.
        condition: f64,
        /// The iterate, which is a regularised solution.
        partial: Box<LeastSquares>,
    },
    /// The iteration limit was reached.
    #[error(
        "{system}: ‖Aᵀr‖ is {gradient:.1e} of ‖A‖ ‖r‖ after the limit of {limit} iterations \
         (condition about {condition:.0e}); allow more iterations or a larger tolerance, or add \
         damping"
    )]
    IterationLimit {
        /// Which right-hand side.
        system: SystemId,
        /// The limit.
        limit: usize,
        /// `‖Aᵀr‖ / (‖A‖ ‖r‖)`, recomputed.
        gradient: f64,
        /// Estimate of the condition number.
        condition: f64,
        /// What there is.
        partial: Box<LeastSquares>,
    },
    /// The iteration has converged, but recomputed residuals are larger.
    #[error(
        "{system}: ‖Aᵀr‖ is {gradient:.1e} of ‖A‖ ‖r‖ where the iteration had converged, at \
         iteration {iteration}: rounding limits it (allow a larger tolerance, or use a wider type), \
         or what the operator calls its adjoint is not (laws::adjoint tells)"
    )]
    Inaccurate {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed.
        iteration: usize,
        /// `‖Aᵀr‖ / (‖A‖ ‖r‖)`, recomputed.
        gradient: f64,
        /// What there is.
        partial: Box<LeastSquares>,
    },
    /// The observer asked for it.
    #[error("{system}: cancelled at iteration {iteration}")]
    Cancelled {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed.
        iteration: usize,
        /// What there is.
        partial: Box<LeastSquares>,
    },
    /// An argument or option does not fit, or the device failed.
    #[error(transparent)]
    Core(#[from] Error),
}
impl From<InputError> for LsmrError {
    fn from(e: InputError) -> LsmrError {
        LsmrError::Core(e.into())
    }
}
impl From<OutOfMemory> for LsmrError {
    fn from(e: OutOfMemory) -> LsmrError {
        LsmrError::Core(e.into())
    }
}
impl LsmrError {
    /// Iterates and what is known of them; `None` for what was refused before.
    pub fn partial(&self) -> Option<&LeastSquares> {
        match self {
            LsmrError::NotFinite { partial, .. }
            | LsmrError::Condition { partial, .. }
            | LsmrError::IterationLimit { partial, .. }
            | LsmrError::Inaccurate { partial, .. }
            | LsmrError::Cancelled { partial, .. } => Some(partial),
            LsmrError::Core(_) => None,
        }
    }
    fn of(worst: LsmrSystem, limit: usize, partial: Box<LeastSquares>) -> LsmrError {
        let LsmrSystem { system, iterations: iteration, condition, .. } = worst;
        let gradient = worst.gradient / (worst.norm * worst.residual);
        match worst.reason {
            LsmrReason::NotFinite => LsmrError::NotFinite { system, iteration, partial },
            LsmrReason::Condition => LsmrError::Condition { system, iteration, condition, partial },
            LsmrReason::IterationLimit => {
                LsmrError::IterationLimit { system, limit, gradient, condition, partial }
            }
            LsmrReason::Cancelled => LsmrError::Cancelled { system, iteration, partial },
            LsmrReason::Inaccurate | LsmrReason::Compatible | LsmrReason::LeastSquares => {
                LsmrError::Inaccurate { system, iteration, gradient, partial }
            }
        }
    }
}

/// A solver of least squares problems: minimises `‖A x - b‖² + δ² ‖x‖²` for any operator that
/// multiplies by its transpose, as kernels do.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{KernelOperator, Lsmr};
/// use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
/// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?;
/// let (x, y) = (array![[1.0], [2.0], [2.0]], array![[3.0]]);
/// let k = KernelOperator::new(&sum, "v", (&x, &y))?; // (3, 6, 6), a column
/// let fit = Lsmr::of(&k).solve(&array![3.0, 6.0, 15.0])?;
/// assert!((fit.solution[0] - (9.0 + 36.0 + 90.0) / 81.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lsmr<'s> {
    operator: &'s dyn AdjointOperator,
    damping: f64,
    gradient: f64,
    residual: f64,
    condition: f64,
    limit: Option<usize>,
    control: Control<'s>,
}

impl fmt::Debug for Lsmr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Lsmr");
        f.field("damping", &self.damping).field("tolerance", &self.gradient);
        f.finish_non_exhaustive()
    }
}

impl<'s> Lsmr<'s> {
    /// With an operator, without damping.
    pub fn of(operator: &'s dyn AdjointOperator) -> Lsmr<'s> {
        Lsmr {
            operator,
            damping: 0.0,
            gradient: 1e-6,
            residual: 1e-6,
            condition: 1e8,
            limit: None,
            control: Control::default(),
        }
    }
    /// `δ`, at least 0: the square root of the ridge of the normal equations.
    pub fn damping(mut self, damping: f64) -> Self {
        self.damping = damping;
        self
    }
    /// `atol` of SciPy: a problem is solved where `‖Aᵀr‖ ≤ tolerance ‖A‖ ‖r‖`, with the residual r of
    /// A above δI; 1e-6 by default, in [0, 1). With 0 it is the rounding of the operator.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.gradient = tolerance;
        self
    }
    /// `btol` of SciPy: a system is solved where `‖r‖ ≤ this ‖b‖ + tolerance ‖A‖ ‖x‖`; 1e-6 by default,
    /// in [0, 1).
    pub fn residual_tolerance(mut self, tolerance: f64) -> Self {
        self.residual = tolerance;
        self
    }
    /// `conlim` of SciPy: the iteration ends where the estimate of the condition number is above this;
    /// 1e8 by default, infinite for no limit.
    pub fn max_condition(mut self, condition: f64) -> Self {
        self.condition = condition;
        self
    }
    /// Most iterations; by default ten times the smaller number of unknowns, 100 at least.
    pub fn max_iterations(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
    control_method! {
        /// Calls a function after each iteration, with `‖r‖ / ‖b‖` of each system as the iteration has
        /// it; `Break` ends with [`LsmrError::Cancelled`].
        observe of control
    }

    /// The minimiser, for `b` of shape `(rows)`, `(rows, columns)` or `(batches, rows, columns)`. Each
    /// column is a problem, or each batch element where columns are not independent.
    ///
    /// # Errors
    /// [`LsmrError`]: what went wrong at which iteration, with the iterate.
    pub fn solve<D: Dimension>(self, b: &ArrayRef<f64, D>) -> Result<LeastSquares<D>, LsmrError> {
        let (range, domain) = (self.operator.range(), self.operator.domain());
        let shape = b.shape();
        let batches = match shape {
            [rows] if [*rows, 1] == range => 1,
            [rows, dim] if [*rows, *dim] == range => 1,
            [batches, rows, dim] if [*rows, *dim] == range => *batches,
            _ => {
                let expected = format!("({}, {}), or a batch of such", range[0], range[1]);
                let (name, got) = ("right-hand side".into(), shape.to_vec());
                return Err(InputError::Shape { name, expected, got }.into());
            }
        };
        let mut made = D::zeros(shape.len());
        let new = [batches, domain[0], domain[1]];
        let new = match shape.len() {
            1 if domain[1] != 1 => {
                let what = format!("solutions have {} columns: give b as a matrix", domain[1]);
                return Err(InputError::Option(what).into());
            }
            1 => &new[1..2],
            2 => &new[1..],
            _ => &new[..],
        };
        made.slice_mut().copy_from_slice(new);
        let b = memory::collected(b.iter().copied(), VECTOR)?;
        self.run(b, batches, made)
    }

    fn check(&self) -> Result<(), InputError> {
        let option = |what: &str, got: f64| Err(InputError::Option(format!("{what}, got {got}")));
        if !(self.damping.is_finite() && self.damping >= 0.0) {
            return option("the damping must be finite and at least 0", self.damping);
        }
        for tolerance in [self.gradient, self.residual] {
            if !(0.0..1.0).contains(&tolerance) {
                return option("tolerances must be at least 0 and below 1", tolerance);
            }
        }
        if self.condition.is_nan() || self.condition < 1.0 {
            return option("the largest condition must be at least 1", self.condition);
        }
        let ([_, from], [_, to]) = (self.operator.domain(), self.operator.range());
        if self.operator.columns_independent() && from != to {
            let what = "an operator with independent columns has as many on both sides";
            return Err(InputError::Option(format!("{what}, got {from} and {to}")));
        }
        Ok(())
    }

    fn run<D: Dimension>(
        mut self,
        b: Vec<f64>,
        batches: usize,
        shape: D,
    ) -> Result<LeastSquares<D>, LsmrError> {
        self.check()?;
        let ([n, _], [m, _]) = (self.operator.domain(), self.operator.range());
        let limit = self.limit.unwrap_or(n.min(m).saturating_mul(10).max(100));
        let mut process = Process::new(&self, b, batches)?;
        process.start()?;
        for iteration in 1..=limit {
            if process.states.iter().all(|s| s.ended.is_some()) {
                break;
            }
            process.step(&self, iteration)?;
            let residual = |s: &State| if s.b > 0.0 { s.residual / s.b } else { 0.0 };
            let residuals = memory::collected(process.states.iter().map(residual), SYSTEMS)?;
            let products = process.products;
            if self.control.ends(&Progress { iteration, products, residuals: &residuals }) {
                process.end(LsmrReason::Cancelled);
            }
        }
        process.end(LsmrReason::IterationLimit);
        let (x, info) = process.finish(&self)?;
        let solution = match Array::from_shape_vec(shape, x) {
            Ok(solution) => solution,
            Err(_) => unreachable!("as many unknowns as the domain has"),
        };
        let failed = info.systems.iter().filter(|s| s.reason.gravity().is_some());
        match failed.min_by_key(|s| s.reason.gravity()).cloned() {
            None => Ok(LeastSquares { solution, info }),
            Some(worst) => {
                let solution: ArrayD<f64> = solution.into_dyn();
                Err(LsmrError::of(worst, limit, Box::new(LeastSquares { solution, info })))
            }
        }
    }
}

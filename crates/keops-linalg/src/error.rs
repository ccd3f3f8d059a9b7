//! Errors of operators and solvers.

use crate::info::{SolveInfo, SystemId};
use keops_core::error::{Error, GradError, InputError, OutOfMemory};
use ndarray::ArrayD;

/// A reduction cannot be seen as a matrix.
///
/// ```
/// use keops_core::{genred::Genred, reduce::MAX, spec::Axis};
/// use keops_linalg::{KernelOperator, OperatorError};
/// let largest: Genred = Genred::new("x * v", ["x = Vi(1)", "v = Vj(1)"], &MAX, Axis::J)?;
/// let x = ndarray::array![[1.0], [2.0]];
/// let e = KernelOperator::new(&largest, "v", (&x,)).unwrap_err();
/// assert!(matches!(e, OperatorError::NotASum { .. }), "{e}");
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OperatorError {
    /// No variable of that name.
    #[error("no variable named `{name}`; the variables are {known}")]
    UnknownVariable {
        /// Name asked for.
        name: String,
        /// Names there are.
        known: String,
    },
    /// Only a plain sum of a formula of the arguments is linear.
    #[error("a linear operator is a Sum of one formula of its arguments, got {got}")]
    NotASum {
        /// What it is instead.
        got: String,
    },
    /// The variable does not run over the reduced index.
    #[error(
        "`{variable}` must be indexed by what is reduced: expected {expected}, got {got} \
         (the axis of the reduction may be the other one)"
    )]
    Category {
        /// Variable.
        variable: String,
        /// Keyword of the reduced index.
        expected: &'static str,
        /// Keyword of the variable.
        got: &'static str,
    },
    /// The formula is not linear in the variable.
    #[error("the formula is not linear in `{variable}`: {operation} {reason}")]
    NotLinear {
        /// Variable.
        variable: String,
        /// Operation where linearity is lost.
        operation: String,
        /// Why.
        reason: String,
    },
    /// The formula cannot be read, or an argument does not fit.
    #[error(transparent)]
    Core(#[from] Error),
}

impl From<InputError> for OperatorError {
    fn from(e: InputError) -> OperatorError {
        OperatorError::Core(e.into())
    }
}

/// What a solver that did not reach its tolerance leaves behind.
///
/// ```
/// use keops_core::spec::Axis;
/// use keops_linalg::{KernelSolve, SolveError, SolveOptions};
/// # use ndarray::{Array2, array};
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
/// let solve: KernelSolve = KernelSolve::new("Exp(-SqDist(x, y)) * b", aliases, "b", Axis::J)?;
/// let x = Array2::from_shape_fn((20, 1), |(k, _)| k as f64 / 5.0);
/// let b = x.mapv(f64::cos);
/// let options = SolveOptions { max_iterations: Some(2), ..SolveOptions::ridge(0.01) };
/// let e = solve.call((&x, &x, &b), &options).unwrap_err();
/// assert!(matches!(e, SolveError::IterationLimit { limit: 2, .. }), "{e}");
/// let partial = e.partial().unwrap(); // as far as it came: a first guess for later
/// assert_eq!((partial.solution.shape(), partial.info.iterations), (&[20, 1][..], 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Partial {
    /// The last iterate, of the shape of the right-hand side. Conjugate gradients decrease the
    /// error in the energy norm with each iteration; of stagnating systems it is the iterate with
    /// the smallest residual. Systems that did converge hold their solution.
    pub solution: ArrayD<f64>,
    /// Iterations, residuals and the reason for each system.
    pub info: SolveInfo,
}

/// A linear system was not solved.
///
/// With several right-hand sides, a failing one does not stop the others: the variant tells about
/// the gravest failure, [`SolveError::partial`] holds everything.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{KernelOperator, SolveError, SolveOptions};
/// # use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
/// let sum: Genred = Genred::new("(x | y) * v", aliases, &SUM, Axis::J)?;
/// let (x, y) = (array![[1.0]], array![[1.0], [2.0]]);
/// let k = KernelOperator::new(&sum, "v", (&x, &y))?;
/// let e = k.solve(&array![[1.0]], &SolveOptions::default()).unwrap_err();
/// assert!(matches!(e, SolveError::NotSquare { rows: 1, columns: 2, .. }), "{e}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SolveError {
    /// Only square systems have a solution.
    #[error(
        "the operator is not square: it maps {columns} rows of dimension {column_dim} to {rows} \
         rows of dimension {row_dim}"
    )]
    NotSquare {
        /// Rows of results.
        rows: usize,
        /// Components of each.
        row_dim: usize,
        /// Rows of arguments.
        columns: usize,
        /// Components of each.
        column_dim: usize,
    },
    /// NaN or infinity in the right-hand side, in the first guess (both at iteration 0) or in a
    /// product with the operator.
    #[error(
        "{system}: NaN or infinity at iteration {iteration} (check the arguments of the kernel, the right-hand side and the first guess)"
    )]
    NotFinite {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed before.
        iteration: usize,
        /// What there is.
        partial: Box<Partial>,
    },
    /// `<u, Kv>` differs from `<Ku, v>` by more than rounding.
    #[error(
        "{system}: the operator is not symmetric (relative asymmetry {asymmetry:.1e}, seen at \
         iteration {iteration}); conjugate gradients need a symmetric one"
    )]
    NotSymmetric {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed before.
        iteration: usize,
        /// `|<u, Kv> - <Ku, v>|` relative to the norms, for random u, v.
        asymmetry: f64,
        /// What there is.
        partial: Box<Partial>,
    },
    /// A direction of negative curvature.
    #[error(
        "{system}: the operator is indefinite: <p, (K + ridge) p> / <p, p> = {curvature:.3e} at \
         iteration {iteration} (a larger ridge makes it definite)"
    )]
    Indefinite {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed before.
        iteration: usize,
        /// Rayleigh quotient of the direction, the ridge included.
        curvature: f64,
        /// What there is.
        partial: Box<Partial>,
    },
    /// The residual does not fall any more: rounding errors of the operator limit it.
    #[error(
        "{system}: the residual stagnates at {residual:.1e} of the right-hand side after \
         {iteration} iterations, where rounding in {precision} limits it (condition about \
         {condition:.0e}); raise the tolerance or the ridge, or use a wider type"
    )]
    Stagnated {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed.
        iteration: usize,
        /// Recomputed residual relative to the right-hand side.
        residual: f64,
        /// Type in which the operator computes.
        precision: &'static str,
        /// Estimate of the condition number.
        condition: f64,
        /// What there is.
        partial: Box<Partial>,
    },
    /// The iteration limit was reached.
    #[error(
        "{system}: the residual is {residual:.1e} of the right-hand side after the limit of \
         {limit} iterations (condition about {condition:.0e})"
    )]
    IterationLimit {
        /// Which right-hand side.
        system: SystemId,
        /// The limit.
        limit: usize,
        /// Recomputed residual relative to the right-hand side.
        residual: f64,
        /// Estimate of the condition number.
        condition: f64,
        /// What there is.
        partial: Box<Partial>,
    },
    /// An argument or option does not fit, or the device failed.
    #[error(transparent)]
    Core(#[from] Error),
}

impl SolveError {
    /// Iterates and residuals, where the iteration had begun; `None` for what was refused before.
    ///
    /// ```
    /// use keops_core::spec::Axis;
    /// use keops_linalg::{KernelSolve, SolveOptions};
    /// # use ndarray::array;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let solve: KernelSolve = KernelSolve::new("-(x | y) * b", aliases, "b", Axis::J)?;
    /// let (x, b) = (array![[2.0]], array![[1.0]]);
    /// let indefinite = solve.call((&x, &x, &b), &SolveOptions::ridge(1.0)).unwrap_err();
    /// assert_eq!(indefinite.partial().unwrap().solution.shape(), [1, 1]);
    /// let refused = solve.call((&x, &x, &b), &SolveOptions::ridge(f64::NAN)).unwrap_err();
    /// assert!(refused.partial().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn partial(&self) -> Option<&Partial> {
        match self {
            SolveError::NotFinite { partial, .. }
            | SolveError::NotSymmetric { partial, .. }
            | SolveError::Indefinite { partial, .. }
            | SolveError::Stagnated { partial, .. }
            | SolveError::IterationLimit { partial, .. } => Some(partial),
            SolveError::NotSquare { .. } | SolveError::Core(_) => None,
        }
    }
    /// As [`SolveError::partial`], to change the shape of the iterate.
    pub(crate) fn partial_mut(&mut self) -> Option<&mut Partial> {
        match self {
            SolveError::NotFinite { partial, .. }
            | SolveError::NotSymmetric { partial, .. }
            | SolveError::Indefinite { partial, .. }
            | SolveError::Stagnated { partial, .. }
            | SolveError::IterationLimit { partial, .. } => Some(partial),
            SolveError::NotSquare { .. } | SolveError::Core(_) => None,
        }
    }
}

impl From<OutOfMemory> for SolveError {
    fn from(e: OutOfMemory) -> SolveError {
        SolveError::Core(e.into())
    }
}
impl From<InputError> for SolveError {
    fn from(e: InputError) -> SolveError {
        SolveError::Core(e.into())
    }
}
impl From<GradError> for SolveError {
    fn from(e: GradError) -> SolveError {
        SolveError::Core(e.into())
    }
}

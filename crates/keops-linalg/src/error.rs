//! Errors of operators and solvers.

use crate::info::{Reason, SolveInfo, SystemId, SystemInfo};
use keops_core::data::DType;
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
/// let partial = e.partial().unwrap(); // as near as it came: a first guess for later
/// assert_eq!((partial.solution.shape(), partial.info.iterations), (&[20, 1][..], 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Partial {
    /// Of each system the iterate of smallest residual, which is zero where no iterate was better;
    /// of the shape of the right-hand side, broadcast to the batch shape of the kernel. Systems
    /// that did converge hold their solution.
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
         iteration {iteration}); solvers need a symmetric one: the same points on \
         both sides, and a formula that does not change when they are exchanged"
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
         iteration {iteration} (a larger ridge makes it definite; Method::Minres takes it as it is)"
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
    /// The operator is singular, to its precision, and the right-hand side has a part that it does
    /// not reach.
    #[error(
        "{system}: the operator is singular in {precision} and does not reach the right-hand side: \
         the smallest residual of {iteration} iterations is {residual:.1e} of it (points that \
         coincide make an operator singular); {}",
        what_helps(1.0, precision)
    )]
    Singular {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed before.
        iteration: usize,
        /// Smallest recomputed residual relative to the right-hand side.
        residual: f64,
        /// Type in which the operator computes.
        precision: &'static str,
        /// What there is.
        partial: Box<Partial>,
    },
    /// The residual does not fall any more: rounding errors of the operator limit it.
    #[error(
        "{system}: the residual stagnates at {residual:.1e} of the right-hand side after \
         {iteration} iterations, where rounding in {precision} limits it (condition about \
         {condition:.0e}); {}",
        what_helps(*residual, precision)
    )]
    Stagnated {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed.
        iteration: usize,
        /// Smallest recomputed residual relative to the right-hand side.
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
        "{system}: the smallest residual is {residual:.1e} of the right-hand side after the limit \
         of {limit} iterations (condition about {condition:.0e}); allow more iterations, begin \
         from what is reached, take a larger ridge, or a preconditioner"
    )]
    IterationLimit {
        /// Which right-hand side.
        system: SystemId,
        /// The limit.
        limit: usize,
        /// Smallest recomputed residual relative to the right-hand side.
        residual: f64,
        /// Estimate of the condition number.
        condition: f64,
        /// What there is.
        partial: Box<Partial>,
    },
    /// The numbers of the solution overflow or vanish in the type that it is returned in.
    #[error(
        "{system}: the solution, found after {iteration} iterations, is outside the range of \
         {dtype}; use a wider type, or multiply the right-hand side by a number that brings it back"
    )]
    OutOfRange {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed.
        iteration: usize,
        /// Type of the solution.
        dtype: &'static str,
        /// What there is: zero for this system.
        partial: Box<Partial>,
    },
    /// The preconditioner is not positive definite, or not finite.
    #[error(
        "{system}: the preconditioner is not positive definite at iteration {iteration}: <r, M r> \
         is not positive; leave it out, or make it for this operator"
    )]
    Preconditioner {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed before.
        iteration: usize,
        /// What there is.
        partial: Box<Partial>,
    },
    /// The observer asked for it.
    #[error(
        "{system}: cancelled at iteration {iteration}, where the smallest residual is \
         {residual:.1e} of the right-hand side"
    )]
    Cancelled {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed.
        iteration: usize,
        /// Smallest recomputed residual relative to the right-hand side.
        residual: f64,
        /// What there is.
        partial: Box<Partial>,
    },
    /// An argument or option does not fit, or the device failed.
    #[error(transparent)]
    Core(#[from] Error),
}

/// What helps where rounding limits the residual.
fn what_helps(residual: f64, precision: &str) -> String {
    let mut ways = vec!["take a larger ridge".to_string()];
    if precision == "f32" {
        ways.push("use f64".into());
    }
    // (Zero has residual 1: a tolerance near it asks for nothing.)
    if residual < 0.1 {
        ways.push(format!("allow a tolerance of {:.0e}", 2.0 * residual));
    }
    ways.join(", or ")
}

impl SolveError {
    /// For the system that failed worst.
    pub(crate) fn of(
        worst: SystemInfo,
        partial: Box<Partial>,
        limit: usize,
        precision: DType,
    ) -> SolveError {
        let (condition, precision) = (worst.condition(), precision.name());
        let SystemInfo { system, iterations: iteration, residual, reason, .. } = worst;
        match reason {
            Reason::NotFinite => SolveError::NotFinite { system, iteration, partial },
            Reason::NotSymmetric { asymmetry } => {
                SolveError::NotSymmetric { system, iteration, asymmetry, partial }
            }
            Reason::Indefinite { curvature } => {
                SolveError::Indefinite { system, iteration, curvature, partial }
            }
            Reason::Singular => {
                SolveError::Singular { system, iteration, residual, precision, partial }
            }
            Reason::Stagnated => {
                SolveError::Stagnated { system, iteration, residual, precision, condition, partial }
            }
            Reason::IterationLimit => {
                SolveError::IterationLimit { system, limit, residual, condition, partial }
            }
            Reason::Preconditioner => SolveError::Preconditioner { system, iteration, partial },
            Reason::Cancelled => SolveError::Cancelled { system, iteration, residual, partial },
            Reason::OutOfRange { dtype } => {
                SolveError::OutOfRange { system, iteration, dtype, partial }
            }
            Reason::Converged => unreachable!("a failure"),
        }
    }
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
            | SolveError::Singular { partial, .. }
            | SolveError::Stagnated { partial, .. }
            | SolveError::OutOfRange { partial, .. }
            | SolveError::Preconditioner { partial, .. }
            | SolveError::Cancelled { partial, .. }
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
            | SolveError::Singular { partial, .. }
            | SolveError::Stagnated { partial, .. }
            | SolveError::OutOfRange { partial, .. }
            | SolveError::Preconditioner { partial, .. }
            | SolveError::Cancelled { partial, .. }
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

//! Options of solvers, and what solvers report.

use std::fmt;

/// An iterative method.
///
/// ```
/// use keops_linalg::{Diag, LinearOperator, Method, Solver};
/// use ndarray::{Array3, array};
/// let indefinite = Diag::new(array![1.0, -2.0, 4.0], 1);
/// let solver = Solver::of(&indefinite as &dyn LinearOperator).ridge(0.0);
/// let (a, info) = solver.method(Method::Minres).solve(&Array3::ones((1, 3, 1)))?;
/// assert!((a[[0, 1, 0]] + 0.5).abs() < 1e-12 && info.iterations == 3);
/// # Ok::<(), keops_linalg::SolveError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Method {
    /// Conjugate gradients, for symmetric positive definite systems.
    #[default]
    ConjugateGradients,
    /// MINRES, for symmetric systems that may be indefinite: the residual of every iterate is the
    /// smallest of its Krylov space. The preconditioner has to be positive definite all the same.
    /// Three vectors and their updates more than conjugate gradients take.
    Minres,
}

/// Options of a solver.
///
/// ```
/// use keops_linalg::SolveOptions;
/// let options = SolveOptions { tolerance: 1e-8, ..SolveOptions::ridge(0.1) };
/// assert_eq!(options.ridge, 0.1);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SolveOptions {
    /// `α` of `(K + αI) a = b`, at least 0; 1e-10 by default.
    pub ridge: f64,
    /// A system has converged when its residual, recomputed, is at most this many times the norm
    /// of its right-hand side; 1e-6 by default, in (0, 1).
    pub tolerance: f64,
    /// Most iterations; by default ten times the number of unknowns of one system.
    pub max_iterations: Option<usize>,
    /// Tell operators that are not symmetric from those that are. It costs nothing unless the
    /// directions of the first two iterations or a failure are suspicious, two products then.
    pub check_symmetry: bool,
    /// The method.
    pub method: Method,
}

impl Default for SolveOptions {
    fn default() -> SolveOptions {
        let method = Method::default();
        SolveOptions {
            ridge: 1e-10,
            tolerance: 1e-6,
            max_iterations: None,
            check_symmetry: true,
            method,
        }
    }
}
impl SolveOptions {
    /// The defaults with another ridge.
    ///
    /// ```
    /// use keops_linalg::SolveOptions;
    /// let options = SolveOptions { ridge: 0.5, ..SolveOptions::default() };
    /// assert_eq!(SolveOptions::ridge(0.5), options);
    /// ```
    pub fn ridge(ridge: f64) -> SolveOptions {
        SolveOptions { ridge, ..SolveOptions::default() }
    }
}

/// One of the linear systems that are solved together.
///
/// ```
/// use keops_linalg::SystemId;
/// let system = SystemId { batch: 2, column: Some(1) };
/// assert_eq!(system.to_string(), "right-hand side of batch element 2, column 1");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SystemId {
    /// Batch element, counted in row-major order.
    pub batch: usize,
    /// Column of the right-hand side; absent where all columns together are one system, as for
    /// matrix-valued kernels.
    pub column: Option<usize>,
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "right-hand side")?;
        if self.batch > 0 {
            write!(f, " of batch element {}", self.batch)?;
        }
        self.column.map_or(Ok(()), |c| write!(f, ", column {c}"))
    }
}

/// Why a solver stopped with a system.
///
/// ```
/// use keops_core::spec::Axis;
/// use keops_linalg::{KernelSolve, Reason, SolveOptions};
/// # use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
/// let solve: KernelSolve = KernelSolve::new("-(x | y) * b", aliases, "b", Axis::J)?;
/// let x = array![[2.0]];
/// let e = solve.call((&x, &x, &array![[1.0]]), &SolveOptions::ridge(1.0)).unwrap_err();
/// let reason = e.partial().unwrap().info.systems[0].reason;
/// assert_eq!(reason, Reason::Indefinite { curvature: -3.0 }); // of the matrix (1 - 4)
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The recomputed residual is within the tolerance.
    Converged,
    /// See [`crate::SolveError::IterationLimit`].
    IterationLimit,
    /// See [`crate::SolveError::Stagnated`].
    Stagnated,
    /// See [`crate::SolveError::Singular`].
    Singular,
    /// See [`crate::SolveError::Indefinite`].
    Indefinite {
        /// Rayleigh quotient of a direction, the ridge included.
        curvature: f64,
    },
    /// See [`crate::SolveError::NotSymmetric`].
    NotSymmetric {
        /// `|<u, Kv> - <Ku, v>|` relative to the norms.
        asymmetry: f64,
    },
    /// See [`crate::SolveError::NotFinite`].
    NotFinite,
    /// See [`crate::SolveError::Preconditioner`].
    Preconditioner,
    /// See [`crate::SolveError::Cancelled`].
    Cancelled,
    /// See [`crate::SolveError::OutOfRange`].
    OutOfRange {
        /// Name of the type of the solution.
        dtype: &'static str,
    },
}

impl Reason {
    /// The gravest failure is 0.
    pub(crate) fn gravity(self) -> u8 {
        match self {
            Reason::NotFinite => 0,
            Reason::NotSymmetric { .. } => 1,
            Reason::Indefinite { .. } => 2,
            Reason::Preconditioner => 3,
            Reason::Singular => 4,
            Reason::Stagnated => 5,
            Reason::OutOfRange { .. } => 6,
            Reason::IterationLimit => 7,
            Reason::Cancelled => 8,
            Reason::Converged => 9,
        }
    }
}

/// Report about one system.
///
/// ```
/// use keops_linalg::{Reason, SystemId, SystemInfo};
/// let (system, reason) = (SystemId { batch: 0, column: Some(0) }, Reason::Converged);
/// let eigenvalues = Some([0.5, 20.0]);
/// let info = SystemInfo { system, iterations: 7, residual: 1e-8, eigenvalues, reason };
/// assert_eq!(info.condition(), 40.0);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct SystemInfo {
    /// Which.
    pub system: SystemId,
    /// Iterations that it took part in.
    pub iterations: usize,
    /// `‖b - (K + αI) a‖ / ‖b‖` of the `a` returned, recomputed with products of the operator, in
    /// its precision; never above 1, which is that of zero. 0 where b is 0, NaN where b, the first
    /// guess or the first product is not finite.
    pub residual: f64,
    /// Estimates of the smallest and the largest eigenvalue of `K + αI` (the extreme Ritz values
    /// of the iteration, inside the spectrum); with a preconditioner, of `K + αI` times it. Of
    /// [`Method::Minres`] they are rough estimates of the magnitudes, from its triangular factor.
    /// Absent without an iteration.
    pub eigenvalues: Option<[f64; 2]>,
    /// Why the iteration ended.
    pub reason: Reason,
}

impl SystemInfo {
    /// Estimate of the condition number, from below; 1 without an iteration, infinite where the
    /// estimate of the smallest eigenvalue is not positive.
    ///
    /// ```
    /// use keops_linalg::{Reason, SystemId, SystemInfo};
    /// let system = SystemId { batch: 0, column: None };
    /// let (reason, residual) = (Reason::NotFinite, f64::NAN);
    /// let none = SystemInfo { system, iterations: 0, residual, eigenvalues: None, reason };
    /// assert_eq!(none.condition(), 1.0);
    /// ```
    pub fn condition(&self) -> f64 {
        self.eigenvalues
            .map_or(1.0, |[low, high]| if low > 0.0 { high / low } else { f64::INFINITY })
    }
}

/// Report of a solver.
///
/// ```
/// use keops_core::spec::Axis;
/// use keops_linalg::{KernelSolve, SolveOptions};
/// use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(2)"];
/// let solve: KernelSolve = KernelSolve::new("Exp(-SqDist(x, y)) * b", aliases, "b", Axis::J)?;
/// let (x, b) = (array![[0.0], [1.0]], array![[1.0, 1.0], [0.0, 1.0]]);
/// let info = solve.call((&x, &x, &b), &SolveOptions::ridge(1.0))?.info;
/// // (1, 1) is an eigenvector: its system takes one step, the other two, and sees both eigenvalues,
/// // 2 + e and 2 - e with e = exp(-1).
/// assert_eq!([info.systems[0].iterations, info.systems[1].iterations], [2, 1]);
/// assert!(info.converged() && info.residual() < 1e-6);
/// let (e, condition) = ((-1f64).exp(), info.systems[0].condition());
/// assert!((condition - (2.0 + e) / (2.0 - e)).abs() < 1e-3); // an estimate
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct SolveInfo {
    /// Iterations of the slowest system.
    pub iterations: usize,
    /// Products with the operator, checks included; all systems share each.
    pub products: usize,
    /// Each system: batch elements in row-major order, within them columns.
    pub systems: Vec<SystemInfo>,
}

impl SolveInfo {
    /// The largest relative residual; 0 without systems, NaN if one is not finite.
    ///
    /// ```
    /// use keops_linalg::SolveInfo;
    /// assert_eq!(SolveInfo { iterations: 0, products: 0, systems: vec![] }.residual(), 0.0);
    /// ```
    pub fn residual(&self) -> f64 {
        let larger = |a: f64, b: f64| if a >= b || a.is_nan() { a } else { b };
        self.systems.iter().map(|s| s.residual).fold(0.0, larger)
    }
    /// The largest estimate of a condition number; 1 without systems.
    ///
    /// ```
    /// use keops_linalg::SolveInfo;
    /// assert_eq!(SolveInfo { iterations: 0, products: 0, systems: vec![] }.condition(), 1.0);
    /// ```
    pub fn condition(&self) -> f64 {
        self.systems.iter().map(SystemInfo::condition).fold(1.0, f64::max)
    }
    /// Have all systems converged?
    ///
    /// ```
    /// use keops_linalg::{Reason, SolveInfo, SystemId, SystemInfo};
    /// let system = SystemId { batch: 0, column: Some(0) };
    /// let reason = Reason::Stagnated;
    /// let stuck = SystemInfo { system, iterations: 9, residual: 1e-3, eigenvalues: None, reason };
    /// assert!(!SolveInfo { iterations: 9, products: 10, systems: vec![stuck] }.converged());
    /// ```
    pub fn converged(&self) -> bool {
        self.systems.iter().all(|s| s.reason == Reason::Converged)
    }
}

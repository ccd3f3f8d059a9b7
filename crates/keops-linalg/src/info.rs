//! Options of solvers, and what solvers report.

use std::fmt;

/// Options of a solver.
///
/// ```
/// use keops_linalg::SolveOptions;
/// let options = SolveOptions { tolerance: 1e-8, ..SolveOptions::ridge(0.1) };
/// assert_eq!(options.ridge, 0.1);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SolveOptions {
    /// `α` of `(K + αI) a = b`; 1e-10 by default.
    pub ridge: f64,
    /// A system has converged when its residual, recomputed, is at most this many times the norm
    /// of its right-hand side; 1e-6 by default, in (0, 1).
    pub tolerance: f64,
    /// Most iterations; by default ten times the number of unknowns of one system.
    pub max_iterations: Option<usize>,
    /// Tell operators that are not symmetric from those that are. It costs nothing unless the
    /// directions of the first two iterations or a failure are suspicious, two products then.
    pub check_symmetry: bool,
}

impl Default for SolveOptions {
    fn default() -> SolveOptions {
        SolveOptions { ridge: 1e-10, tolerance: 1e-6, max_iterations: None, check_symmetry: true }
    }
}
impl SolveOptions {
    /// The defaults with another ridge.
    pub fn ridge(ridge: f64) -> SolveOptions {
        SolveOptions { ridge, ..SolveOptions::default() }
    }
}

/// One of the linear systems that are solved together.
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
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The recomputed residual is within the tolerance.
    Converged,
    /// See [`crate::SolveError::IterationLimit`].
    IterationLimit,
    /// See [`crate::SolveError::Stagnated`].
    Stagnated,
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
}

/// Report about one system.
#[derive(Clone, PartialEq, Debug)]
pub struct SystemInfo {
    /// Which.
    pub system: SystemId,
    /// Iterations that it took part in.
    pub iterations: usize,
    /// `‖b - (K + αI) a‖ / ‖b‖`, recomputed for the solution returned; 0 where b is 0, NaN where
    /// it is not finite.
    pub residual: f64,
    /// Estimates of the smallest and the largest eigenvalue of `K + αI` (the extreme Ritz values
    /// of the iteration, inside the spectrum); absent without an iteration.
    pub eigenvalues: Option<[f64; 2]>,
    /// Why the iteration ended.
    pub reason: Reason,
}

impl SystemInfo {
    /// Estimate of the condition number, from below; 1 without an iteration.
    pub fn condition(&self) -> f64 {
        self.eigenvalues
            .map_or(1.0, |[low, high]| if low > 0.0 { high / low } else { f64::INFINITY })
    }
}

/// Report of a solver.
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
    pub fn residual(&self) -> f64 {
        let larger = |a: f64, b: f64| if a >= b || a.is_nan() { a } else { b };
        self.systems.iter().map(|s| s.residual).fold(0.0, larger)
    }
    /// The largest estimate of a condition number.
    pub fn condition(&self) -> f64 {
        self.systems.iter().map(SystemInfo::condition).fold(1.0, f64::max)
    }
    /// Have all systems converged?
    pub fn converged(&self) -> bool {
        self.systems.iter().all(|s| s.reason == Reason::Converged)
    }
}

//! Kernel matrices as linear operators, and solvers that report.
//!
//! A sum `out_i = Σ_j F(x_i, y_j, v_j)` that is linear in `v` is a matrix that is never stored:
//! [`KernelOperator`]. [`KernelSolve`] solves `(K + αI) a = b` by conjugate gradients and
//! differentiates the solution; [`Solve`] does so for LazyTensors. Solvers have options with defaults ([`SolveOptions`]), a report
//! ([`SolveInfo`]) and errors that say at which iteration and why ([`SolveError`]).
#![forbid(unsafe_code)]

mod cg;
mod error;
mod harness;
mod info;
mod lanczos;
mod layout;
mod lazy;
mod linear;
mod operator;
mod solve;
mod space;
#[cfg(feature = "sprs")]
mod sparse;

pub use cg::conjugate_gradients;
pub use error::{OperatorError, Partial, SolveError};
pub use info::{Reason, SolveInfo, SolveOptions, SystemId, SystemInfo};
pub use lazy::{LazySolve, Solve};
pub use operator::{KernelOperator, LinearOperator};
pub use solve::{KernelSolve, Solution, SolveGradient};
#[cfg(feature = "sprs")]
pub use sparse::{SparseClusters, SparseRanges};

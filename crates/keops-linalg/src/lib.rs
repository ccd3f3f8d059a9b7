//! Kernel matrices as linear operators, and solvers that report.
//!
//! A sum `out_i = Σ_j F(x_i, y_j, v_j)` that is linear in `v` is a matrix that is never stored:
//! [`KernelOperator`]. [`KernelSolve`] solves `(K + αI) a = b` by conjugate gradients or MINRES ([`Method`]) and
//! differentiates the solution; [`Solve`] does so for LazyTensors. All solve through one builder,
//! [`Solver`], which takes options ([`SolveOptions`]), a [`Preconditioner`] such as
//! [`PivotedCholesky`], a first guess and an observer. What comes out is a report ([`SolveInfo`]),
//! or an error that says at which iteration and why ([`SolveError`]).
//! [`Lsmr`] solves least squares problems with operators that need not be square.
//! [`Eigsh`] finds eigenpairs (by Lanczos or LOBPCG), [`Svds`] singular values, [`MatrixFunction`] log-determinants, traces and products with
//! functions of operators; [`GaussianProcess`] is regression in a few lines. Operators add, multiply and combine without being stored ([`Algebra`]); [`laws`] are what one's
//! own operators can be tested by. `Neighbours` makes sparse graphs in any metric, [`KMeans`]
//! and [`GaussianMixture`] clusters. [`SolveFunction`] makes a solve part of larger functions, which
//! are differentiated as a whole, and [`Objective`] minimises them by the optimisers of argmin.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../../../docs/adding-a-preconditioner.md")]
struct AddingAPreconditioner;

mod algebra;
mod cg;
mod control;
mod eigen;
mod entries;
mod error;
mod function;
mod harness;
mod info;
mod kmeans;
mod krylov;
mod lanczos;
pub mod laws;
mod layout;
mod lazy;
pub mod line_search;
mod linear;
mod lobpcg;
mod lsmr;
mod matrix_function;
mod minres;
mod mixture;
#[cfg(feature = "sprs")]
mod neighbours;
#[cfg(feature = "argmin")]
mod objective;
mod operator;
mod precondition;
mod process;
mod solve;
mod solver;
mod space;
#[cfg(feature = "sprs")]
mod sparse;
mod stack;
mod svd;

#[cfg(feature = "sprs")]
pub use algebra::Sparse;
pub use algebra::{
    Adjoint, Algebra, Blocks, Cost, Diag, Kronecker, Plus, Restricted, Scaled, Shifted, Times,
    to_dense,
};
pub use control::Progress;
pub use eigen::{EigenError, EigenMethod, Eigenpairs, Eigsh, Which};
pub use entries::{AdjointOperator, Diagonal, Rows};
pub use error::{OperatorError, Partial, SolveError};
pub use function::{Entries, SolveFunction};
pub use info::{Method, Reason, SolveInfo, SolveOptions, SystemId, SystemInfo};
pub use kmeans::{Clustering, KMeans};
pub use lazy::{LazySolve, Solve};
pub use lsmr::{LeastSquares, Lsmr, LsmrError, LsmrInfo, LsmrReason, LsmrSystem};
pub use matrix_function::{Estimate, FunctionError, LogDetGradient, MatrixFunction};
pub use mixture::{GaussianMixture, Mixture};
#[cfg(feature = "sprs")]
pub use neighbours::Neighbours;
#[cfg(feature = "argmin")]
pub use objective::{HessianAt, Objective, Value};
pub use operator::{KernelOperator, LinearOperator};
pub use precondition::{BlockJacobi, Jacobi, PivotedCholesky, Preconditioner};
pub use process::{FittedProcess, GaussianProcess, ProcessError};
pub use solve::{KernelSolve, Solution, SolveGradient};
pub use solver::Solver;
#[cfg(feature = "sprs")]
pub use sparse::{SparseClusters, SparseRanges};
pub use svd::{SingularTriplets, SvdError, Svds};

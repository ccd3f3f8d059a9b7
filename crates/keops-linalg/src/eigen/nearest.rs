//! Eigenvalues near a number: the inverse of the shifted operator, by solves.

use crate::error::SolveError;
use crate::info::{Method, Reason, SystemInfo};
use crate::operator::LinearOperator;
use crate::precondition::Preconditioner;
use crate::solver::Solver;
use keops_core::data::DType;
use keops_core::error::Error;
use ndarray::{Array3, ArrayViewD, Axis};
use std::cell::RefCell;

/// The operator minus a number.
pub(super) struct Shifted<'o> {
    pub of: &'o dyn LinearOperator,
    pub shift: f64,
}
impl LinearOperator for Shifted<'_> {
    fn domain(&self) -> [usize; 2] {
        self.of.domain()
    }
    fn range(&self) -> [usize; 2] {
        self.of.range()
    }
    fn precision(&self) -> DType {
        self.of.precision()
    }
    fn columns_independent(&self) -> bool {
        self.of.columns_independent()
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let mut product = self.of.apply(v)?;
        product.scaled_add(-self.shift, v);
        Ok(product)
    }
}

/// Largest residual of a solve that is taken as one, where rounding ends it: more would mix the
/// eigenvectors beside the shift.
const COARSE: f64 = 1e-3;

/// The inverse of an operator, by solving.
///
/// A residual r of `(A - σ) x = v` is a part `r / ‖x‖` of the residual of the pair that comes out. So a
/// solve that rounding ends is accurate enough where that is less than what pairs may have, which is
/// relative to the norm of A: beside an eigenvalue far larger than those near the shift, no solve
/// reaches its tolerance.
pub(super) struct Inverse<'o> {
    pub of: &'o dyn LinearOperator,
    pub tolerance: f64,
    /// Residual that a pair may have from its solves.
    pub enough: f64,
    pub preconditioner: Option<&'o dyn Preconditioner>,
    pub failure: RefCell<Option<SolveError>>,
    pub products: RefCell<usize>,
}
impl Inverse<'_> {
    /// The iterate of solves that rounding has ended, or the limit of iterations, where it is accurate enough.
    fn rounded(&self, v: &Array3<f64>, e: &SolveError) -> Option<(Array3<f64>, usize)> {
        let partial = e.partial()?;
        let x: Array3<f64> = partial.solution.clone().into_dimensionality().ok()?;
        let independent = self.of.columns_independent();
        let size = |a: ArrayViewD<'_, f64>| a.iter().map(|v| v * v).sum::<f64>().sqrt();
        let norm = |a: &Array3<f64>, column: Option<usize>| match column {
            Some(c) if independent => size(a.index_axis(Axis(2), c).into_dyn()),
            _ => size(a.view().into_dyn()),
        };
        let fits = |s: &SystemInfo| match s.reason {
            Reason::Converged => true,
            Reason::Stagnated | Reason::IterationLimit => {
                let (x, v) = (norm(&x, s.system.column), norm(v, s.system.column));
                s.residual <= COARSE && s.residual * v <= self.enough * x
            }
            _ => false,
        };
        let all = partial.info.systems.iter().all(fits);
        all.then_some((x, partial.info.products))
    }
}
impl LinearOperator for Inverse<'_> {
    fn domain(&self) -> [usize; 2] {
        self.of.range()
    }
    fn range(&self) -> [usize; 2] {
        self.of.domain()
    }
    fn precision(&self) -> DType {
        self.of.precision()
    }
    fn columns_independent(&self) -> bool {
        self.of.columns_independent()
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let solver =
            Solver::of(self.of).method(Method::Minres).ridge(0.0).tolerance(self.tolerance);
        let solver = match self.preconditioner {
            Some(p) => solver.preconditioner(p),
            None => solver,
        };
        match solver.solve(v) {
            Ok((a, info)) => {
                *self.products.borrow_mut() += info.products;
                Ok(a)
            }
            Err(e) => {
                if let Some((a, products)) = self.rounded(v, &e) {
                    *self.products.borrow_mut() += products;
                    return Ok(a);
                }
                *self.failure.borrow_mut() = Some(e.clone());
                Err(match e {
                    SolveError::Core(e) => e,
                    e => Error::function("the inverse of an operator", e),
                })
            }
        }
    }
}

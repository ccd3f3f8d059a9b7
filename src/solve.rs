//! Systems of LazyTensors.

use crate::Error;
use keops_core::data::Element;
use keops_core::genred::Place;
use keops_core::graph::Category;
use keops_core::lazy::LazyTensor;
use keops_core::reduce::SUM;
use keops_core::spec::Axis;
use keops_linalg::{KernelOperator, Solution, SolveOptions};
use ndarray::{ArrayRef, Axis as NdAxis, Dimension};

/// Systems of a symbolic matrix.
pub trait Solve<T: Element> {
    /// Solves `(K + ridge I) a = b` by conjugate gradients, for a symmetric positive definite K;
    /// `b` has shape `(batch…, M, columns)`, or `(M)`, as has the solution.
    ///
    /// ```
    /// use keops::prelude::*;
    /// use ndarray::Array2;
    ///
    /// let x = Array2::from_shape_fn((50, 2), |(i, k)| ((3 * i + k) as f64).sin());
    /// let b = Array2::from_shape_fn((50, 1), |(i, _)| (i as f64).cos());
    /// let k = (-vi(&x).sqdist(vj(&x))).exp();
    /// let a = k.solve(&b, &SolveOptions::ridge(0.1))?.value;
    /// let residual = k.matmul(&a)? + 0.1 * &a - &b;
    /// assert!(residual.iter().all(|r| r.abs() < 1e-4));
    /// # Ok::<(), keops::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Formula`] and [`Error::Operator`] if the matrix or `b` do not fit,
    /// [`Error::Solve`] if the iteration breaks down or does not converge.
    fn solve<D: Dimension>(
        &self,
        b: &ArrayRef<T, D>,
        options: &SolveOptions,
    ) -> Result<Solution<T>, Error>;
}

impl<T: Element, P: Place + Default> Solve<T> for LazyTensor<T, P> {
    fn solve<D: Dimension>(
        &self,
        b: &ArrayRef<T, D>,
        options: &SolveOptions,
    ) -> Result<Solution<T>, Error> {
        let vector = b.ndim() == 1;
        let mut b = b.view().into_dyn();
        if vector {
            b.insert_axis_inplace(NdAxis(1));
        }
        let columns = b.shape().last().copied().unwrap_or(0);
        let products = self * LazyTensor::var(0, columns, Category::J);
        let bound = products.bound(&SUM, Axis::J)?;
        let operator = KernelOperator::new(bound.function(), &bound.free()[0], &bound)?;
        let mut solution = operator.solve(&b, options)?;
        if vector {
            solution.value.index_axis_inplace(NdAxis(1), 0);
        }
        Ok(solution)
    }
}

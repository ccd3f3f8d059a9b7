//! Kernel operators as solvers see them: on block vectors.

use super::{KernelOperator, LinearOperator};
use crate::algebra::Cost;
use crate::layout::VECTOR;
use keops_core::data::{Buffer, DType, Element};
use keops_core::error::{Error, InputError, RunError};
use keops_core::genred::Place;
use ndarray::Array3;

/// A [`KernelOperator`] on block vectors of a given batch shape.
pub(crate) struct Over<'o, 'a, P> {
    pub(super) operator: &'o KernelOperator<'a, P>,
    pub(super) batch: Vec<usize>,
}

impl<P: Place> LinearOperator for Over<'_, '_, P> {
    fn domain(&self) -> [usize; 2] {
        [self.operator.columns(), self.operator.domain_dim()]
    }
    fn range(&self) -> [usize; 2] {
        [self.operator.rows(), self.operator.range_dim()]
    }
    fn precision(&self) -> DType {
        self.operator.dtype
    }
    fn columns_independent(&self) -> bool {
        self.operator.linear.independent
    }
    fn matrices(&self) -> usize {
        LinearOperator::matrices(self.operator)
    }
    fn cost(&self) -> Cost {
        self.operator.estimate()
    }
    /// Batch shapes broadcast from the right.
    fn matrix_of(&self, batch: usize) -> usize {
        let (own, mut rest, mut matrix, mut stride) = (&self.operator.batch, batch, 0, 1);
        for (k, &n) in self.batch.iter().rev().enumerate() {
            let at = rest % n.max(1);
            rest /= n.max(1);
            if k < own.len() {
                let size = own[own.len() - 1 - k];
                matrix += stride * if size == 1 { 0 } else { at };
                stride *= size;
            }
        }
        matrix
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let shape = [&self.batch[..], &self.domain()].concat();
        if v.len() != shape.iter().product::<usize>() {
            let (name, got) = (self.operator.linear.variable.clone(), v.shape().to_vec());
            let expected = format!("batches of shape {:?} and {:?}", self.batch, self.domain());
            return Err(InputError::Shape { name, expected, got }.into());
        }
        let mut vector = Buffer::zeros(Some(self.operator.dtype), &shape).ok_or_else(|| {
            let bytes = shape.iter().fold(8usize, |a, &b| a.saturating_mul(b));
            RunError::OutOfMemory { what: VECTOR.into(), bytes }
        })?;
        match &mut vector {
            Buffer::F32(a) => a.iter_mut().zip(v).for_each(|(o, e)| *o = *e as f32),
            Buffer::F64(a) => a.iter_mut().zip(v).for_each(|(o, e)| *o = *e),
            _ => unreachable!("compute types are f32 and f64"),
        }
        let out = self.operator.product(&vector)?;
        let [rows, dim] = self.range();
        match f64::take(out)?.into_shape_with_order((v.dim().0, rows, dim)) {
            Ok(out) => Ok(out),
            Err(_) => unreachable!("results are row-major and have the batch shape of vectors"),
        }
    }
}

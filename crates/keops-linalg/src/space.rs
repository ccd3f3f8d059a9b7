//! Products as recurrences see them: of the size of their arguments, and counted.

use crate::layout::{Layout, VECTOR, exponent, scaled};
use crate::operator::LinearOperator;
use crate::precondition::Preconditioner;
use keops_core::data::DType;
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::memory;
use ndarray::{Array3, ArrayView3, Axis};

/// `(K + αI) / 2^e`, with an exponent for each system, found by the first product: whatever the
/// sizes of K and α, squares of products neither overflow nor vanish. A power of two, so that
/// nothing is rounded.
pub(crate) struct Space<'r> {
    operator: &'r dyn LinearOperator,
    ridge: f64,
    preconditioner: Option<&'r dyn Preconditioner>,
    pub layout: Layout,
    /// Products so far.
    pub products: usize,
    exponents: Vec<Option<i32>>,
    /// As the preconditioner is scaled.
    inverse: Vec<Option<i32>>,
    /// Largest `‖Kv‖ / ‖v‖` seen: the norm of the operator, from below.
    pub largest: Vec<f64>,
}

impl<'r> Space<'r> {
    pub fn new(
        operator: &'r dyn LinearOperator,
        ridge: f64,
        preconditioner: Option<&'r dyn Preconditioner>,
        layout: Layout,
    ) -> Result<Space<'r>, OutOfMemory> {
        let (exponents, largest) = (layout.each_system(None)?, layout.each_system(0.0)?);
        let inverse = layout.each_system(None)?;
        let products = 0;
        Ok(Space { operator, ridge, preconditioner, layout, products, exponents, inverse, largest })
    }
    /// In the type of the operator.
    pub fn rounded(&self, v: f64) -> f64 {
        if self.precision() == DType::F64 { v } else { f64::from(v as f32) }
    }
    pub fn precision(&self) -> DType {
        self.operator.precision()
    }
    /// Of the type of the operator.
    pub fn epsilon(&self) -> f64 {
        if self.precision() == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) }
    }
    pub fn exponent(&self, system: usize) -> i32 {
        self.exponents[system].unwrap_or(0)
    }
    /// Eigenvalues of the operator, preconditioned, are `2^e` times those that a system sees.
    pub fn eigenvalue_exponent(&self, system: usize) -> i32 {
        self.exponent(system) + self.inverse[system].unwrap_or(0)
    }
    /// The preconditioner's `(K + αI)⁻¹ r`, over a power of two; `r` itself without one.
    pub fn precondition(&mut self, r: &[f64]) -> Result<Vec<f64>, Error> {
        let Some(preconditioner) = self.preconditioner else { return Ok(crate::layout::copy(r)?) };
        let layout = self.layout;
        let Ok(block) = ArrayView3::from_shape(layout.shape(), r) else {
            unreachable!("block vectors have the size of the right-hand side")
        };
        let mut z = memory::room(r.len(), VECTOR)?;
        for (k, r) in block.outer_iter().enumerate() {
            let made = preconditioner.apply(self.operator.matrix_of(k), self.ridge, r)?;
            if made.dim() != r.dim() {
                let name = "result of the preconditioner".into();
                let (expected, got) = (format!("shape {:?}", r.dim()), made.shape().to_vec());
                return Err(InputError::Shape { name, expected, got }.into());
            }
            z.extend(made.lanes(Axis(1)).into_iter().flatten());
        }
        if self.inverse.contains(&None) {
            let sizes = layout.largest(r)?.into_iter().zip(layout.largest(&z)?);
            for (e, (argument, made)) in self.inverse.iter_mut().zip(sizes) {
                if e.is_none() && argument > 0.0 {
                    *e = Some(exponent(made / argument));
                }
            }
        }
        layout.each(|s, k| z[k] = scaled(z[k], -self.inverse[s].unwrap_or(0)));
        Ok(z)
    }
    /// The ridge as a system sees it.
    pub fn ridge(&self, system: usize) -> f64 {
        scaled(self.ridge, -self.exponent(system))
    }
    /// `(K + αI) v / 2^e`, without a copy of `v`.
    pub fn product(&mut self, v: &mut Vec<f64>) -> Result<Vec<f64>, Error> {
        self.products += 1;
        let (layout, shape) = (self.layout, self.layout.shape());
        let block = match Array3::from_shape_vec(shape, std::mem::take(v)) {
            Ok(block) => block,
            Err(_) => unreachable!("block vectors have the size of the right-hand side"),
        };
        let product = self.operator.apply(&block);
        *v = block.into_raw_vec_and_offset().0;
        let product = product?;
        if product.dim() != shape {
            let (name, expected) = ("product of the operator".into(), format!("shape {shape:?}"));
            let got = product.shape().to_vec();
            return Err(InputError::Shape { name, expected, got }.into());
        }
        let mut q = memory::collected(product.iter().copied(), VECTOR)?;
        if self.exponents.contains(&None) {
            let sizes = layout.largest(v)?.into_iter().zip(layout.largest(&q)?);
            for (e, (argument, product)) in self.exponents.iter_mut().zip(sizes) {
                if e.is_none() && argument > 0.0 {
                    let size = (product / argument).max(self.ridge);
                    *e = Some(exponent(size));
                }
            }
        }
        let mut scales = layout.each_system((1.0, 0.0, 0.0))?;
        for (k, scale) in scales.iter_mut().enumerate() {
            let half = self.exponent(k) / 2;
            let other = self.exponent(k) - half;
            *scale = (2f64.powi(-half), 2f64.powi(-other), self.ridge(k));
        }
        layout.each(|s, k| q[k] = q[k] * scales[s].0 * scales[s].1 + scales[s].2 * v[k]);
        let sizes = layout.norms(v)?.into_iter().zip(layout.norms(&q)?);
        for (largest, (argument, product)) in self.largest.iter_mut().zip(sizes) {
            let ratio = product / argument;
            if argument > 0.0 && ratio.is_finite() {
                *largest = largest.max(ratio);
            }
        }
        Ok(q)
    }
}

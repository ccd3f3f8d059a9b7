//! Weighted sums of attachments: several features of a shape, or one at several scales.

use std::fmt;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

use super::{Attachment, Prepared, Setting};
use crate::error::LddmmError;
use crate::sum::zeros;

/// Σ_m w_m A_m.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::attachment::{Landmarks, Matching, WeightedSum, varifold};
/// use keops_lddmm::{builtin::curve_pair, kernel::Kernel};
/// let (source, target) = curve_pair(20)?;
/// // Coarse and fine at once, and a little of the correspondence.
/// let scales = WeightedSum::of_scales(&[1.0, 0.25], |s| Ok(varifold(Kernel::gaussian(s)?)))?;
/// let sum = scales.and(0.5, Landmarks)?;
/// assert_eq!(sum.to_string(), "1 (varifold, exp(-|x-y|²/1²)) + 1 (varifold, exp(-|x-y|²/0.25²)) + 0.5 (landmarks)");
/// let device = Device::new(Interpreter::new());
/// let matching = Matching::<f64>::new(&sum, &source, &target, &device)?;
/// assert!(matching.value(source.vertices())? > 0.1);
/// assert!(matching.value(target.vertices())?.abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct WeightedSum {
    terms: Vec<(f64, Arc<dyn Attachment>)>,
}

impl WeightedSum {
    /// One term.
    ///
    /// # Errors
    /// When the weight is not positive and finite.
    pub fn new(
        weight: f64,
        attachment: impl Attachment + 'static,
    ) -> Result<WeightedSum, LddmmError> {
        WeightedSum { terms: vec![] }.and(weight, attachment)
    }
    /// The same attachment at several scales, each with weight 1.
    ///
    /// # Errors
    /// When there is no scale, and what `attachment` returns.
    pub fn of_scales<A: Attachment + 'static>(
        scales: &[f64],
        attachment: impl Fn(f64) -> Result<A, LddmmError>,
    ) -> Result<WeightedSum, LddmmError> {
        if scales.is_empty() {
            return Err(LddmmError::parameter("scales", "at least one", "none"));
        }
        let none = WeightedSum { terms: vec![] };
        scales.iter().try_fold(none, |sum, &scale| sum.and(1.0, attachment(scale)?))
    }
    /// One term more.
    ///
    /// # Errors
    /// When the weight is not positive and finite.
    pub fn and(
        mut self,
        weight: f64,
        attachment: impl Attachment + 'static,
    ) -> Result<WeightedSum, LddmmError> {
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(LddmmError::parameter("weight", "a positive number", weight));
        }
        self.terms.push((weight, Arc::new(attachment)));
        Ok(self)
    }
}

impl fmt::Display for WeightedSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (k, (weight, attachment)) in self.terms.iter().enumerate() {
            write!(f, "{}{weight} ({attachment})", if k > 0 { " + " } else { "" })?;
        }
        Ok(())
    }
}

impl Attachment for WeightedSum {
    fn prepare(&self, at: &Setting<'_>) -> Result<Box<dyn Prepared>, LddmmError> {
        let terms = self.terms.iter().map(|(w, a)| Ok((*w, a.prepare(at)?)));
        Ok(Box::new(Terms(terms.collect::<Result<_, LddmmError>>()?)))
    }
}

struct Terms(Vec<(f64, Box<dyn Prepared>)>);

impl Prepared for Terms {
    fn value_and_gradient(&self, x: ArrayView2<'_, f64>) -> Result<(f64, Array2<f64>), LddmmError> {
        let mut all = (0.0, zeros(x.dim())?);
        for (weight, term) in &self.0 {
            let (value, gradient) = term.value_and_gradient(x)?;
            all.0 += weight * value;
            all.1.scaled_add(*weight, &gradient);
        }
        Ok(all)
    }
    fn hessian_product(
        &self,
        x: ArrayView2<'_, f64>,
        direction: ArrayView2<'_, f64>,
    ) -> Result<Array2<f64>, LddmmError> {
        let mut all = zeros(x.dim())?;
        for (weight, term) in &self.0 {
            all.scaled_add(*weight, &term.hessian_product(x, direction)?);
        }
        Ok(all)
    }
    /// That of the term that sees the target best.
    fn overlap(&self, x: ArrayView2<'_, f64>) -> Result<Option<f64>, LddmmError> {
        let mut best: Option<f64> = None;
        for (_, term) in &self.0 {
            if let Some(overlap) = term.overlap(x)? {
                best = Some(best.map_or(overlap, |b| b.max(overlap)));
            }
        }
        Ok(best)
    }
}

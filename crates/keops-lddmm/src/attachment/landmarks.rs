//! Vertices in correspondence.

use ndarray::{Array2, ArrayView2};

use super::{Attachment, Prepared, Setting};
use crate::error::LddmmError;
use crate::sum::{copied, dot};

/// Σ_i |x_i − y_i|² of vertices in correspondence.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::attachment::{Landmarks, Matching};
/// use keops_lddmm::shape::{Cells, Shape};
/// use ndarray::array;
/// let cloud = |points| Shape::new(points, Cells::Points);
/// let (x, y) = (array![[0.0, 0.0], [1.0, 1.0]], array![[3.0, 4.0], [1.0, 2.0]]);
/// let device = Device::new(Interpreter::new());
/// let (source, target) = (cloud(x.clone())?, cloud(y)?);
/// let matching = Matching::<f64>::new(&Landmarks, &source, &target, &device)?;
/// assert_eq!(matching.value(x.view())?, 26.0); // 3² + 4² + 1²
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Landmarks;

impl std::fmt::Display for Landmarks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("landmarks")
    }
}

impl Attachment for Landmarks {
    fn prepare(&self, at: &Setting<'_>) -> Result<Box<dyn Prepared>, LddmmError> {
        let (n, m) = (at.source.vertex_count(), at.target.vertex_count());
        if n != m {
            let expected = format!("{n} vertices in the target, as in the source");
            return Err(LddmmError::mismatch("landmarks", expected, m));
        }
        Ok(Box::new(Places(copied(at.target.vertices())?)))
    }
}

/// The vertices of the target.
struct Places(Array2<f64>);

impl Prepared for Places {
    fn value_and_gradient(&self, x: ArrayView2<'_, f64>) -> Result<(f64, Array2<f64>), LddmmError> {
        let mut gap = copied(x)?;
        gap -= &self.0;
        let value = dot(gap.view(), gap.view());
        gap *= 2.0;
        Ok((value, gap))
    }
    fn hessian_product(
        &self,
        _: ArrayView2<'_, f64>,
        direction: ArrayView2<'_, f64>,
    ) -> Result<Array2<f64>, LddmmError> {
        let mut product = copied(direction)?;
        product *= 2.0;
        Ok(product)
    }
}

//! A radial kernel, given by its formula: gradients, codes and second derivatives follow.

use keops::lddmm::LddmmError;
use keops::lddmm::kernel::Kernel;

/// `1 / (1 + |x-y|²/σ²)²`
pub fn student(sigma: f64) -> Result<Kernel, LddmmError> {
    Kernel::custom(&format!("Student of scale {sigma}"), move |squared| {
        let u = squared * (1.0 / (sigma * sigma)) + 1.0;
        squared.lit(1.0) / (u * u)
    })
}

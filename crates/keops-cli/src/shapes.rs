//! What the commands of shapes share: reading them, and how they are compared.

use crate::failure::{About, Done, Failure};
use crate::session::Session;
use keops::lddmm::attachment::{
    Attachment, Landmarks, Sinkhorn, current, measure, oriented_varifold, varifold,
};
use keops::lddmm::kernel::Kernel;
use keops::shapes::Shape;
use keops::shapes::io::read_shape;
use std::path::Path;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Debug, clap::ValueEnum)]
pub enum Family {
    /// k ⟨u,u'⟩² per size: orientation does not matter
    Varifold,
    /// Gaussian of the directions, orientation matters
    Oriented,
    /// k ⟨n,n'⟩: orientation matters
    Current,
    /// Sizes only; for point clouds
    Measure,
    /// Optimal transport of sizes, blurred at the scale
    Sinkhorn,
    /// Vertices in correspondence
    Landmarks,
}

impl Family {
    /// As an attachment, at a scale that is asked for where it has one.
    pub fn attachment(self, scale: impl Fn() -> Done<f64>) -> Done<Arc<dyn Attachment>> {
        let kernel = || -> Done<Kernel> { Kernel::gaussian(scale()?).about("attachment") };
        Ok(match self {
            Family::Varifold => Arc::new(varifold(kernel()?)),
            Family::Oriented => Arc::new(oriented_varifold(kernel()?, 0.5)),
            Family::Current => Arc::new(current(kernel()?)),
            Family::Measure => Arc::new(measure(kernel()?)),
            Family::Sinkhorn => Arc::new(Sinkhorn::new(scale()?).about("attachment")?),
            Family::Landmarks => Arc::new(Landmarks),
        })
    }
}

/// Reads a shape without its degenerate cells.
pub fn read(path: &Path, session: &Session) -> Done<Shape> {
    let (shape, report) = read_shape(path)?;
    session.note(&format!("{}: {report}", path.display()));
    let (shape, left_out) =
        shape.cleaned().about(format!("{}: without degenerate cells", path.display()))?;
    if !left_out.is_empty() {
        session.note(&format!("{}: {left_out}", path.display()));
    }
    Ok(shape)
}

/// Reads two shapes; curves in the plane z = 0 are planar.
pub fn read_pair(first: &Path, second: &Path, session: &Session) -> Done<(Shape, Shape)> {
    let (a, b) = (read(first, session)?, read(second, session)?);
    match (a.to_planar(), b.to_planar()) {
        (Ok(planar_a), Ok(planar_b)) => Ok((planar_a, planar_b)),
        _ => Ok((a, b)),
    }
}

/// A scale that was given, or a fifth of the size of a shape.
pub fn scale(option: &str, given: Option<f64>, shape: &Shape) -> Done<f64> {
    let (low, high) = shape.bounding_box();
    let edge = high - low;
    let size = edge.dot(&edge).sqrt();
    match given {
        Some(sigma) => Ok(sigma),
        None if size > 0.0 => Ok(round(0.2 * size)),
        None => Err(Failure::Error(format!(
            "{option} is needed: the points of the source coincide, so that it has no size"
        ))),
    }
}

/// Two significant digits.
pub fn round(x: f64) -> f64 {
    format!("{x:.1e}").parse().unwrap_or(x)
}

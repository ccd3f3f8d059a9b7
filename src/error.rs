//! One error for programs that use several parts, and the narrower errors of formulas. What calls of
//! formulas return is a [`FormulaError`]; `?` makes an [`Error`] of it and of every
//! other error here.
//!
//! ```
//! use keops::error::{FormulaError, InputError};
//! use keops::{Error, prelude::*};
//! let sum = Genred::new("x", ["x = Vj(1)"], Sum, Over::J)?;
//! match sum.call((&ndarray::array![[1.0, 2.0]],)).map_err(Error::from) {
//!     Err(Error::Formula(FormulaError::Input(InputError::Shape { name, got, .. }))) => {
//!         assert_eq!((&name[..], &got[..]), ("x", &[1, 2][..]));
//!     }
//!     other => panic!("{other:?}"),
//! }
//! # Ok::<(), keops::Error>(())
//! ```

use keops_core::error as core;
pub use keops_core::error::{
    CompileError, DimError, FormulaError, GradError, InputError, OutOfMemory, ParseError, RunError,
};

/// Any error of this crate: what `?` turns the errors of its parts into.
///
/// ```
/// use keops::{Error, prelude::*};
/// fn nearest(points: &ndarray::Array2<f32>) -> Result<f32, Error> {
///     let least = Genred::new("SqDist(x, y)", ["x = Vi(3)", "y = Vj(3)"], Min, Over::J)?;
///     Ok(least.vjp("x")?.with_primal().call_all((points, points, points))?[1][[0, 0]])
/// }
/// let e = nearest(&ndarray::Array2::zeros((5, 2))).unwrap_err();
/// assert!(matches!(e, Error::Formula(_)));
/// assert!(e.to_string().starts_with("argument `x`: expected shape (M, 3)"), "{e}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A formula, its arguments, its compilation or its run.
    #[error(transparent)]
    Formula(#[from] core::FormulaError),
    /// A backend that is not available.
    #[error(transparent)]
    Unavailable(#[from] keops_core::spec::Unavailable),
    /// A linear operator that could not be made.
    #[cfg(feature = "linalg")]
    #[error(transparent)]
    Operator(#[from] keops_linalg::OperatorError),
    /// A system that was not solved.
    #[cfg(feature = "linalg")]
    #[error(transparent)]
    Solve(#[from] keops_linalg::SolveError),
    /// Shooting and registration.
    #[cfg(feature = "lddmm")]
    #[error(transparent)]
    Lddmm(#[from] keops_lddmm::LddmmError),
    /// A registration that ended early, with what it had reached.
    #[cfg(feature = "lddmm")]
    #[error(transparent)]
    Registration(#[from] keops_lddmm::registration::RegistrationError),
    /// A shape that is none.
    #[cfg(feature = "shapes")]
    #[error(transparent)]
    Shape(#[from] keops_shapes::shape::ShapeError),
    /// A built-in shape that does not exist.
    #[cfg(feature = "shapes")]
    #[error(transparent)]
    Builtin(#[from] keops_shapes::builtin::BuiltinError),
    /// Points and shapes that have no distance.
    #[cfg(feature = "shapes")]
    #[error(transparent)]
    Distance(#[from] keops_shapes::distance::DistanceError),
    /// A file of a shape that could not be read.
    #[cfg(feature = "shapes")]
    #[error(transparent)]
    Read(#[from] keops_shapes::io::ReadError),
    /// A file of a shape that could not be written.
    #[cfg(feature = "shapes")]
    #[error(transparent)]
    Write(#[from] keops_shapes::io::WriteError),
    /// Shapes that could not be aligned.
    #[cfg(feature = "shapes")]
    #[error(transparent)]
    Align(#[from] keops_shapes::align::AlignError),
    /// A picture that could not be drawn.
    #[cfg(feature = "shapes")]
    #[error(transparent)]
    Picture(#[from] keops_shapes::picture::PictureError),
    /// Results that could not be exported.
    #[cfg(feature = "lddmm")]
    #[error(transparent)]
    Export(#[from] keops_lddmm::export::ExportError),
}

macro_rules! narrow {
    ($($t:ident)*) => {$(
        impl From<core::$t> for Error {
            fn from(e: core::$t) -> Error {
                Error::Formula(e.into())
            }
        }
    )*};
}
narrow!(ParseError DimError GradError InputError CompileError RunError OutOfMemory);

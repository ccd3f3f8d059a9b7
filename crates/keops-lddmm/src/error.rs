//! Errors of dynamics, attachments and registrations.

/// Why something could not be set up or computed.
///
/// ```
/// use keops_lddmm::{LddmmError, kernel::Kernel};
/// let e = Kernel::gaussian(f64::NAN).unwrap_err();
/// let LddmmError::Parameter { name, got, .. } = e else { unreachable!() };
/// assert_eq!((&name[..], &got[..]), ("sigma", "NaN"));
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LddmmError {
    /// A parameter is out of its domain.
    #[error("{name}: expected {expected}, got {got}")]
    Parameter {
        /// The parameter.
        name: String,
        /// Its domain, in words.
        expected: String,
        /// The value given.
        got: String,
    },
    /// An array has another shape than the others require.
    #[error("`{name}`: expected {expected}, got shape {got:?}")]
    Array {
        /// The array.
        name: String,
        /// The required shape, in words.
        expected: String,
        /// Its shape.
        got: Vec<usize>,
    },
    /// Two shapes, or a shape and an attachment, do not go together.
    #[error("{what}: expected {expected}, got {got}")]
    Mismatch {
        /// What does not fit.
        what: String,
        /// What is needed.
        expected: String,
        /// What was given.
        got: String,
    },
    /// Positions or momenta are no longer finite numbers.
    #[error(
        "the flow broke down in step {step} of {steps}: positions or momenta are not finite \
         (smaller momenta, a larger kernel or more steps may help)"
    )]
    Breakdown {
        /// The step, from 1.
        step: usize,
        /// Number of steps.
        steps: usize,
    },
    /// The equation of a step of an implicit scheme was not solved.
    #[error(
        "the equation of step {step} of {steps} was not solved: an implicit scheme needs more steps, \
         or smaller momenta"
    )]
    Implicit {
        /// The step, from 1.
        step: usize,
        /// Number of steps.
        steps: usize,
    },
    /// A cost is not a number to be minimised.
    #[error("the {what} is {value} at the start: expected a finite number")]
    NotFinite {
        /// Which cost.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// A system of kernel interpolation was not solved.
    #[error(transparent)]
    Solve(#[from] keops_linalg::SolveError),
    /// A formula could not be compiled or run, or there was no memory.
    #[error(transparent)]
    Device(#[from] keops_core::error::Error),
}

impl From<crate::distance::DistanceError> for LddmmError {
    fn from(e: crate::distance::DistanceError) -> LddmmError {
        match e {
            crate::distance::DistanceError::OutOfMemory(e) => e.into(),
            e => LddmmError::mismatch("the target", "as many coordinates as the source has", e),
        }
    }
}

macro_rules! of_formulas {
    ($($t:ident)*) => {$(
        impl From<keops_core::error::$t> for LddmmError {
            fn from(e: keops_core::error::$t) -> LddmmError {
                LddmmError::Device(e.into())
            }
        }
    )*};
}
of_formulas!(ParseError DimError GradError InputError CompileError RunError OutOfMemory);

impl LddmmError {
    pub(crate) fn parameter(
        name: impl Into<String>,
        expected: impl Into<String>,
        got: impl std::fmt::Display,
    ) -> LddmmError {
        LddmmError::Parameter { name: name.into(), expected: expected.into(), got: got.to_string() }
    }
    pub(crate) fn mismatch(
        what: impl Into<String>,
        expected: impl Into<String>,
        got: impl std::fmt::Display,
    ) -> LddmmError {
        LddmmError::Mismatch { what: what.into(), expected: expected.into(), got: got.to_string() }
    }
    /// An error unless both shapes are planar, or both spatial.
    pub(crate) fn check_dimension(
        source: &crate::shape::Shape,
        target: &crate::shape::Shape,
    ) -> Result<(), LddmmError> {
        if source.dim() == target.dim() {
            return Ok(());
        }
        let expected = format!("{} coordinates, as the source has", source.dim());
        Err(LddmmError::mismatch("the target", expected, target.dim()))
    }
    /// An error unless `array` has the given numbers of rows (`None`: any) and columns.
    pub(crate) fn check_array<F>(
        name: &str,
        array: ndarray::ArrayView2<'_, F>,
        rows: Option<usize>,
        columns: usize,
    ) -> Result<(), LddmmError> {
        if array.ncols() == columns && rows.is_none_or(|n| n == array.nrows()) {
            return Ok(());
        }
        let n = rows.map_or_else(|| "n".into(), |n| n.to_string());
        Err(LddmmError::Array {
            name: name.into(),
            expected: format!("shape ({n}, {columns})"),
            got: array.shape().to_vec(),
        })
    }
}

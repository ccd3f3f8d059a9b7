//! Preconditioners: approximate inverses of `K + αI`.

mod block_jacobi;
mod cholesky;

pub use block_jacobi::BlockJacobi;
pub use cholesky::PivotedCholesky;

use crate::entries::Diagonal;
use crate::layout::row_major;
use keops_core::error::{Error, InputError};
use ndarray::{Array2, ArrayView2};

/// An approximate inverse of `K + αI`, symmetric and positive definite. How good it is decides how
/// many iterations a solver takes, not what it returns: residuals are those of the system itself.
///
/// ```
/// use keops_linalg::{Preconditioner, Solver};
/// use ndarray::{Array2, ArrayView2};
#[doc = include_str!("../operator_example.txt")]
/// /// The inverse of diag(1, 2, 3, …) + ridge.
/// struct Inverse;
/// impl Preconditioner for Inverse {
///     fn apply(
///         &self,
///         _matrix: usize,
///         ridge: f64,
///         r: ArrayView2<'_, f64>,
///     ) -> Result<Array2<f64>, Error> {
///         let entry = |(k, c)| r[[k, c]] / ((k + 1) as f64 + ridge);
///         Ok(Array2::from_shape_fn(r.dim(), entry))
///     }
/// }
/// let (operator, b) = (Diagonal(50), Array3::ones((1, 50, 1)));
/// let (a, info) = Solver::of(&operator as &dyn LinearOperator).preconditioner(&Inverse).solve(&b)?;
/// assert_eq!(info.iterations, 1); // it is exact
/// # Ok::<(), keops_linalg::SolveError>(())
/// ```
pub trait Preconditioner {
    /// Approximates `(K + ridge I)⁻¹ r`, for matrix number `matrix` of the operator (0 without
    /// batches, see [`crate::LinearOperator::matrix_of`]) and `r` of shape `(rows, components)`,
    /// as the result. The ridge is that of the system, at least 0.
    ///
    /// # Errors
    /// Where it does not fit; they end the solver.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use keops_linalg::{Jacobi, KernelOperator, Preconditioner};
    /// use ndarray::array;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let sum: Genred = Genred::new("x * y * b", aliases, &SUM, Axis::J)?;
    /// let x = array![[1.0], [2.0]];
    /// let jacobi = Jacobi::new(&KernelOperator::new(&sum, "b", (&x, &x))?)?; // diagonal (1, 4)
    /// let z = jacobi.apply(0, 1.0, array![[2.0], [10.0]].view())?;
    /// assert_eq!(z, array![[1.0], [2.0]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn apply(
        &self,
        matrix: usize,
        ridge: f64,
        r: ArrayView2<'_, f64>,
    ) -> Result<Array2<f64>, Error>;
}

/// Error of a preconditioner that was made for another operator.
fn misfit(name: &str, unknowns: usize, matrices: usize) -> Error {
    let what =
        format!("the {name} preconditioner is for {matrices} matrices of {unknowns} unknowns");
    InputError::Option(format!("{what}: it was made for another operator")).into()
}

/// Division by the diagonal of `K + αI`. It helps where the diagonal varies, so not for kernels of
/// distances.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{Jacobi, KernelOperator, SolveOptions};
/// use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
/// let sum: Genred = Genred::new("(i == j) * x * y * b", aliases, &SUM, Axis::J)?;
/// let x = array![[1.0], [20.0], [300.0]];
/// let k = KernelOperator::new(&sum, "b", (&x, &x))?; // diagonal
/// let jacobi = Jacobi::new(&k)?;
/// let b = array![[1.0], [1.0], [1.0]];
/// assert_eq!(k.solver().ridge(1.0).preconditioner(&jacobi).solve(&b)?.info.iterations, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Jacobi {
    /// Of shape (matrices, unknowns).
    diagonal: Array2<f64>,
}

impl Jacobi {
    /// Of an operator.
    ///
    /// # Errors
    /// From the device; [`InputError::Option`] if an entry is negative or not finite.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use keops_linalg::{Jacobi, KernelOperator};
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let sum: Genred = Genred::new("-x * y * b", aliases, &SUM, Axis::J)?;
    /// let x = ndarray::array![[1.0], [2.0]];
    /// let e = Jacobi::new(&KernelOperator::new(&sum, "b", (&x, &x))?).unwrap_err();
    /// assert!(e.to_string().contains("diagonal entry 0 is -1"), "{e}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new<O: Diagonal + ?Sized>(operator: &O) -> Result<Jacobi, Error> {
        let diagonal = operator.diagonal()?;
        check_diagonal(&diagonal)?;
        Ok(Jacobi { diagonal })
    }
}

/// Matrices without negative eigenvalues have no negative entries on the diagonal.
fn check_diagonal(diagonal: &Array2<f64>) -> Result<(), InputError> {
    let wrong = diagonal.indexed_iter().find(|(_, d)| !(d.is_finite() && **d >= 0.0));
    wrong.map_or(Ok(()), |((_, k), d)| {
        let what = format!("diagonal entry {k} is {d}");
        Err(InputError::Option(format!(
            "the operator is not positive semi-definite: {what}, expected a finite number of at \
             least 0"
        )))
    })
}

impl Preconditioner for Jacobi {
    fn apply(
        &self,
        matrix: usize,
        ridge: f64,
        r: ArrayView2<'_, f64>,
    ) -> Result<Array2<f64>, Error> {
        let (matrices, unknowns) = self.diagonal.dim();
        let (rows, dim) = r.dim();
        // Rows, or elements of rows.
        let step = if unknowns == rows { 1 } else { dim };
        if matrix >= matrices || unknowns * dim != rows * dim * step {
            return Err(misfit("Jacobi", unknowns, matrices));
        }
        let mut z = row_major(&r)?;
        for ((k, c), z) in z.indexed_iter_mut() {
            let own = self.diagonal[[matrix, if step == 1 { k } else { k * dim + c }]] + ridge;
            // A row of zeros without a ridge is left alone.
            *z /= if own > 0.0 { own } else { 1.0 };
        }
        Ok(z)
    }
}

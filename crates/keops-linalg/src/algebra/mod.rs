//! Operators made of operators: nothing is stored but the parts, and a product is products of
//! these.

/// What an operator made of one other, `of`, says as that does.
macro_rules! matrices_as_of {
    () => {
        fn precision(&self) -> DType {
            self.of.precision()
        }
        fn columns_independent(&self) -> bool {
            self.of.columns_independent()
        }
        fn matrices(&self) -> usize {
            self.of.matrices()
        }
        fn matrix_of(&self, batch: usize) -> usize {
            self.of.matrix_of(batch)
        }
    };
}
/// What an operator made of two others, `first` and `second`, says of both.
macro_rules! as_both {
    () => {
        fn precision(&self) -> DType {
            coarser(self.first.precision(), self.second.precision())
        }
        fn columns_independent(&self) -> bool {
            self.first.columns_independent() && self.second.columns_independent()
        }
        fn matrices(&self) -> usize {
            self.matrices
        }
        fn matrix_of(&self, batch: usize) -> usize {
            matrix_of(&self.first, &self.second, batch)
        }
    };
}

mod leaves;
mod parts;
mod rows;

pub use leaves::Diag;
#[cfg(feature = "sprs")]
pub use leaves::Sparse;
pub use parts::{Adjoint, Plus, Scaled, Shifted, Times};
pub use rows::{Blocks, Kronecker, Restricted};

use crate::entries::{AdjointOperator, Diagonal, Rows};
use crate::layout::{VECTOR, dense};
use crate::operator::LinearOperator;
use keops_core::data::DType;
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::memory;
use ndarray::{Array2, Array3};

/// What one product with a vector takes: estimates, to compare operators by.
///
/// ```
/// use keops_linalg::{Algebra, Diag, LinearOperator};
/// let d = Diag::new(ndarray::Array1::ones(100), 1);
/// let cost = (&d).times((&d).scaled(2.0))?.cost();
/// assert_eq!(cost.flops, 300.0); // two diagonals and a factor
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Cost {
    /// Scalar operations; an exponential or a root is one.
    pub flops: f64,
    /// Bytes of what the operator is made of: arguments, entries, indices.
    pub bytes: f64,
}

impl std::ops::Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}
impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(all: I) -> Cost {
        all.fold(Cost::default(), |a, b| a + b)
    }
}

/// Operators of operators, by value or by reference. What is made has an adjoint, a diagonal or
/// rows where its parts have what that takes.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{Algebra, Diag, Diagonal, KernelOperator, to_dense};
/// use ndarray::array;
/// let sum: Genred = Genred::new("x * y * v", ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"], &SUM, Axis::J)?;
/// let x = array![[1.0], [2.0]];
/// let k = KernelOperator::new(&sum, "v", (&x, &x))?; // [1 2; 2 4]
/// let noise = Diag::new(array![0.5, 0.25], 1);
/// let system = (&k).scaled(2.0).plus(&noise)?;
/// assert_eq!(to_dense(&system)?.outer_iter().next().unwrap(), array![[2.5, 4.0], [4.0, 8.25]]);
/// assert_eq!(system.diagonal()?, array![[2.5, 8.25]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Algebra: LinearOperator + Sized {
    /// `A + B`.
    ///
    /// # Errors
    /// [`InputError`] if shapes or numbers of matrices differ.
    fn plus<B: LinearOperator>(self, other: B) -> Result<Plus<Self, B>, InputError> {
        Plus::new(self, other)
    }
    /// `A B`.
    ///
    /// # Errors
    /// [`InputError`] if the range of `B` is not the domain of `A`.
    fn times<B: LinearOperator>(self, other: B) -> Result<Times<Self, B>, InputError> {
        Times::new(self, other)
    }
    /// `c A`.
    fn scaled(self, factor: f64) -> Scaled<Self> {
        Scaled { of: self, factor }
    }
    /// `A + c I`, of a square operator; `c` may be negative.
    ///
    /// # Errors
    /// [`InputError`] if it is not square, or `c` is not finite.
    fn shifted(self, shift: f64) -> Result<Shifted<Self>, InputError> {
        Shifted::new(self, shift)
    }
    /// `Aᵀ`.
    fn adjoint(self) -> Adjoint<Self>
    where
        Self: AdjointOperator,
    {
        Adjoint::of(self)
    }
    /// Rows and columns of these numbers: `A[rows, columns]`. Indices may repeat.
    ///
    /// # Errors
    /// [`InputError`] if there is no such row.
    fn restricted(
        self,
        rows: Vec<usize>,
        columns: Vec<usize>,
    ) -> Result<Restricted<Self>, InputError> {
        Restricted::new(self, rows, columns, false)
    }
    /// `A` with zeros in rows and columns other than these, of the same size.
    ///
    /// # Errors
    /// [`InputError`] if there is no such row.
    fn masked(self, rows: Vec<usize>, columns: Vec<usize>) -> Result<Restricted<Self>, InputError> {
        Restricted::new(self, rows, columns, true)
    }
    /// `A ⊗ B`: row `i p + k` of a result is of row i of A and row k of the p of B. Both have
    /// independent columns, as many.
    ///
    /// # Errors
    /// [`InputError`] if that is not so, or if they are batches of matrices.
    fn kronecker<B: LinearOperator>(self, other: B) -> Result<Kronecker<Self, B>, InputError> {
        Kronecker::new(self, other)
    }
}
impl<O: LinearOperator> Algebra for O {}

/// The matrices of an operator, of shape (matrices, unknowns of the range, unknowns of the
/// domain), by products with unit vectors: for small ones.
///
/// # Errors
/// From products; [`InputError::OutOfMemory`].
///
/// ```
/// use keops_linalg::{Diag, to_dense};
/// let d = to_dense(&Diag::new(ndarray::array![1.0, 2.0], 3))?;
/// assert_eq!(d, ndarray::array![[[1.0, 0.0], [0.0, 2.0]]]);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub fn to_dense<O: LinearOperator + ?Sized>(operator: &O) -> Result<Array3<f64>, Error> {
    let ([n, dim], [m, width]) = (operator.domain(), operator.range());
    let independent = operator.columns_independent();
    let (parts, across) = if independent { (1, 1) } else { (dim, width) };
    if independent && dim == 0 {
        let expected = "an operator on vectors of at least one column".into();
        return fail("a dense matrix", expected, "none".into())?;
    }
    let batches = operator.matrices();
    let mut all = block((batches, m * across, n * parts))?;
    for column in 0..n * parts {
        let mut v = block((batches, n, dim))?;
        for b in 0..batches {
            v[[b, column / parts, column % parts]] = 1.0;
        }
        let product = operator.apply(&v)?;
        for ((b, row, c), value) in product.indexed_iter().filter(|((.., c), _)| *c < across) {
            all[[operator.matrix_of(b), row * across + c, column]] = *value;
        }
    }
    Ok(all)
}

/// A block vector of zeros.
fn block(shape: (usize, usize, usize)) -> Result<Array3<f64>, OutOfMemory> {
    let len = shape.0.saturating_mul(shape.1).saturating_mul(shape.2);
    match Array3::from_shape_vec(shape, memory::filled(len, 0.0, VECTOR)?) {
        Ok(zeros) => Ok(zeros),
        Err(_) => unreachable!("as many zeros as entries"),
    }
}
fn fail<T>(what: &str, expected: String, got: String) -> Result<T, InputError> {
    Err(InputError::Option(format!("{what}: expected {expected}, got {got}")))
}
/// f64 if both are.
fn coarser(a: DType, b: DType) -> DType {
    if a == DType::F64 { b } else { a }
}
/// The number of matrices of two operators together.
fn matrices(a: &impl LinearOperator, b: &impl LinearOperator) -> Result<usize, InputError> {
    match (a.matrices(), b.matrices()) {
        (n, 1) | (1, n) => Ok(n),
        (n, m) if n == m => Ok(n),
        (n, m) => fail("operators of batches", format!("{n} matrices, or 1"), format!("{m}")),
    }
}
fn matrix_of(a: &impl LinearOperator, b: &impl LinearOperator, batch: usize) -> usize {
    if a.matrices() == 1 { b.matrix_of(batch) } else { a.matrix_of(batch) }
}
/// A diagonal in the unknowns of an operator that may be one with independent columns or not, for
/// this many matrices.
fn unknowns(
    d: Array2<f64>,
    rows: usize,
    parts: usize,
    matrices: usize,
) -> Result<Array2<f64>, OutOfMemory> {
    if d.dim() == (matrices, rows * parts) {
        return Ok(d);
    }
    let repeat = if d.ncols() == rows { parts } else { 1 };
    let mut all = dense(matrices, rows * parts, "the diagonal")?;
    for ((b, k), value) in all.indexed_iter_mut() {
        *value = d[[if d.nrows() == 1 { 0 } else { b }, k / repeat]];
    }
    Ok(all)
}
/// Components of a row that are unknowns of their own.
fn parts(operator: &impl LinearOperator) -> usize {
    if operator.columns_independent() { 1 } else { operator.domain()[1] }
}

macro_rules! through {
    ($($pointer:ty),*) => {$(
        impl<O: LinearOperator + ?Sized> LinearOperator for $pointer {
            fn domain(&self) -> [usize; 2] {
                (**self).domain()
            }
            fn range(&self) -> [usize; 2] {
                (**self).range()
            }
            fn precision(&self) -> DType {
                (**self).precision()
            }
            fn columns_independent(&self) -> bool {
                (**self).columns_independent()
            }
            fn matrices(&self) -> usize {
                (**self).matrices()
            }
            fn matrix_of(&self, batch: usize) -> usize {
                (**self).matrix_of(batch)
            }
            fn cost(&self) -> Cost {
                (**self).cost()
            }
            fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
                (**self).apply(v)
            }
        }
        impl<O: AdjointOperator + ?Sized> AdjointOperator for $pointer {
            fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
                (**self).apply_adjoint(v)
            }
        }
        impl<O: Diagonal + ?Sized> Diagonal for $pointer {
            fn diagonal(&self) -> Result<Array2<f64>, Error> {
                (**self).diagonal()
            }
        }
        impl<O: Rows + ?Sized> Rows for $pointer {
            fn rows_at(&self, matrix: usize, indices: &[usize]) -> Result<Array2<f64>, Error> {
                (**self).rows_at(matrix, indices)
            }
            fn diagonal_blocks(
                &self,
                matrix: usize,
                groups: &[Vec<usize>],
            ) -> Result<Vec<Array2<f64>>, Error> {
                (**self).diagonal_blocks(matrix, groups)
            }
        }
    )*};
}
through!(&O, Box<O>);

//! Sums, products, multiples and shifts.

use super::{Cost, coarser, fail, matrices, matrix_of, parts, unknowns};
use crate::entries::{AdjointOperator, Diagonal, Rows};
use crate::operator::LinearOperator;
use keops_core::data::DType;
use keops_core::error::{Error, InputError};
use ndarray::{Array2, Array3};

/// `A + B`: see [`super::Algebra::plus`].
///
/// ```
/// use keops_linalg::{Algebra, Diag, to_dense};
/// use ndarray::array;
/// let d = Diag::new(array![1.0, 2.0], 1);
/// assert_eq!(to_dense(&(&d).plus(&d)?)?, array![[[2.0, 0.0], [0.0, 4.0]]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Plus<A, B> {
    first: A,
    second: B,
    matrices: usize,
}
impl<A: LinearOperator, B: LinearOperator> Plus<A, B> {
    pub(super) fn new(first: A, second: B) -> Result<Plus<A, B>, InputError> {
        let shape = |o: &dyn LinearOperator| format!("{:?} to {:?}", o.domain(), o.range());
        if (first.domain(), first.range()) != (second.domain(), second.range()) {
            return fail("a sum of operators", format!("from {}", shape(&first)), shape(&second));
        }
        let matrices = matrices(&first, &second)?;
        Ok(Plus { first, second, matrices })
    }
}
impl<A: LinearOperator, B: LinearOperator> LinearOperator for Plus<A, B> {
    fn domain(&self) -> [usize; 2] {
        self.first.domain()
    }
    fn range(&self) -> [usize; 2] {
        self.first.range()
    }
    as_both!();
    fn cost(&self) -> Cost {
        let [rows, dim] = self.range();
        let sum = Cost { flops: (rows * dim) as f64, bytes: 0.0 };
        self.first.cost() + self.second.cost() + sum
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        Ok(self.first.apply(v)? + self.second.apply(v)?)
    }
}
impl<A: AdjointOperator, B: AdjointOperator> AdjointOperator for Plus<A, B> {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        Ok(self.first.apply_adjoint(v)? + self.second.apply_adjoint(v)?)
    }
}
impl<A: Diagonal, B: Diagonal> Diagonal for Plus<A, B> {
    fn diagonal(&self) -> Result<Array2<f64>, Error> {
        let (rows, parts) = (self.domain()[0], parts(self));
        let of = |d| unknowns(d, rows, parts, self.matrices);
        Ok(of(self.first.diagonal()?)? + of(self.second.diagonal()?)?)
    }
}
/// Of operators that both have independent columns, or both not.
impl<A: Rows, B: Rows> Rows for Plus<A, B> {
    fn rows_at(&self, matrix: usize, indices: &[usize]) -> Result<Array2<f64>, Error> {
        if self.first.columns_independent() != self.second.columns_independent() {
            let (wanted, got) =
                ("operators of the same unknowns".into(), "one by components".into());
            return fail("rows of a sum", wanted, got)?;
        }
        let own = |n: usize| if n == 1 { 0 } else { matrix };
        let first = self.first.rows_at(own(self.first.matrices()), indices)?;
        Ok(first + self.second.rows_at(own(self.second.matrices()), indices)?)
    }
}

/// `A B`: see [`super::Algebra::times`].
///
/// ```
/// use keops_linalg::{Algebra, Diag, to_dense};
/// use ndarray::array;
/// let d = Diag::new(array![1.0, 2.0], 1);
/// assert_eq!(to_dense(&(&d).times(&d)?)?, array![[[1.0, 0.0], [0.0, 4.0]]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Times<A, B> {
    first: A,
    second: B,
    matrices: usize,
}
impl<A: LinearOperator, B: LinearOperator> Times<A, B> {
    pub(super) fn new(first: A, second: B) -> Result<Times<A, B>, InputError> {
        let (expected, got) = (first.domain(), second.range());
        if expected != got {
            let expected = format!("a second one with results of shape {expected:?}");
            return fail("a product of operators", expected, format!("{got:?}"));
        }
        let matrices = matrices(&first, &second)?;
        Ok(Times { first, second, matrices })
    }
}
impl<A: LinearOperator, B: LinearOperator> LinearOperator for Times<A, B> {
    fn domain(&self) -> [usize; 2] {
        self.second.domain()
    }
    fn range(&self) -> [usize; 2] {
        self.first.range()
    }
    as_both!();
    fn cost(&self) -> Cost {
        self.first.cost() + self.second.cost()
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        self.first.apply(&self.second.apply(v)?)
    }
}
impl<A: AdjointOperator, B: AdjointOperator> AdjointOperator for Times<A, B> {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        self.second.apply_adjoint(&self.first.apply_adjoint(v)?)
    }
}

/// `c A`: see [`super::Algebra::scaled`].
///
/// ```
/// use keops_linalg::{Algebra, Diag, to_dense};
/// use ndarray::array;
/// let d = Diag::new(array![1.0, 2.0], 1);
/// assert_eq!(to_dense(&(&d).scaled(3.0))?, array![[[3.0, 0.0], [0.0, 6.0]]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Scaled<A> {
    pub(super) of: A,
    pub(super) factor: f64,
}
/// `A + c I`: see [`super::Algebra::shifted`].
///
/// ```
/// use keops_linalg::{Algebra, Diag, to_dense};
/// use ndarray::array;
/// let d = Diag::new(array![1.0, 2.0], 1);
/// assert_eq!(to_dense(&(&d).shifted(3.0)?)?, array![[[4.0, 0.0], [0.0, 5.0]]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Shifted<A> {
    of: A,
    shift: f64,
}
impl<A: LinearOperator> Shifted<A> {
    pub(super) fn new(of: A, shift: f64) -> Result<Shifted<A>, InputError> {
        let (domain, range) = (of.domain(), of.range());
        if domain != range {
            let expected = format!("results of shape {domain:?}, as arguments");
            return fail("a shift of an operator", expected, format!("{range:?}"));
        }
        if !shift.is_finite() {
            return Err(InputError::Option(format!("the shift must be finite, got {shift}")));
        }
        Ok(Shifted { of, shift })
    }
}

/// What is as of the only part.
macro_rules! as_of {
    () => {
        fn domain(&self) -> [usize; 2] {
            self.of.domain()
        }
        fn range(&self) -> [usize; 2] {
            self.of.range()
        }
        matrices_as_of!();
        fn cost(&self) -> Cost {
            let [rows, dim] = self.range();
            self.of.cost() + Cost { flops: (rows * dim) as f64, bytes: 0.0 }
        }
    };
}
impl<A: LinearOperator> LinearOperator for Scaled<A> {
    as_of!();
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        Ok(self.of.apply(v)? * self.factor)
    }
}
impl<A: AdjointOperator> AdjointOperator for Scaled<A> {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        Ok(self.of.apply_adjoint(v)? * self.factor)
    }
}
impl<A: Diagonal> Diagonal for Scaled<A> {
    fn diagonal(&self) -> Result<Array2<f64>, Error> {
        Ok(self.of.diagonal()? * self.factor)
    }
}
impl<A: Rows> Rows for Scaled<A> {
    fn rows_at(&self, matrix: usize, indices: &[usize]) -> Result<Array2<f64>, Error> {
        Ok(self.of.rows_at(matrix, indices)? * self.factor)
    }
}
impl<A: LinearOperator> LinearOperator for Shifted<A> {
    as_of!();
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let mut out = self.of.apply(v)?;
        out.scaled_add(self.shift, v);
        Ok(out)
    }
}
impl<A: AdjointOperator> AdjointOperator for Shifted<A> {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let mut out = self.of.apply_adjoint(v)?;
        out.scaled_add(self.shift, v);
        Ok(out)
    }
}
impl<A: Diagonal> Diagonal for Shifted<A> {
    fn diagonal(&self) -> Result<Array2<f64>, Error> {
        Ok(self.of.diagonal()? + self.shift)
    }
}
impl<A: Rows> Rows for Shifted<A> {
    fn rows_at(&self, matrix: usize, indices: &[usize]) -> Result<Array2<f64>, Error> {
        let mut rows = self.of.rows_at(matrix, indices)?;
        for (mut row, &k) in rows.outer_iter_mut().zip(indices) {
            row[k] += self.shift;
        }
        Ok(rows)
    }
}

/// `Aᵀ`: see [`super::Algebra::adjoint`].
///
/// ```
/// use keops_linalg::{Adjoint, Diag, to_dense};
/// use ndarray::array;
/// let d = Diag::new(array![1.0, 2.0], 1);
/// assert_eq!(to_dense(&Adjoint::of(&d))?, array![[[1.0, 0.0], [0.0, 2.0]]]);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Adjoint<A> {
    of: A,
}
impl<A: AdjointOperator> Adjoint<A> {
    /// Of an operator, by value or by reference.
    pub fn of(operator: A) -> Adjoint<A> {
        Adjoint { of: operator }
    }
}
impl<A: AdjointOperator> LinearOperator for Adjoint<A> {
    fn domain(&self) -> [usize; 2] {
        self.of.range()
    }
    fn range(&self) -> [usize; 2] {
        self.of.domain()
    }
    matrices_as_of!();
    fn cost(&self) -> Cost {
        self.of.cost()
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        self.of.apply_adjoint(v)
    }
}
impl<A: AdjointOperator> AdjointOperator for Adjoint<A> {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        self.of.apply(v)
    }
}
impl<A: AdjointOperator + Diagonal> Diagonal for Adjoint<A> {
    fn diagonal(&self) -> Result<Array2<f64>, Error> {
        self.of.diagonal()
    }
}

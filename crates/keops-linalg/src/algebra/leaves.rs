//! Operators with entries of their own: diagonals and sparse matrices.

use super::{Cost, fail};
use crate::entries::{AdjointOperator, Diagonal, Rows};
use crate::layout::dense;
use crate::operator::LinearOperator;
use keops_core::data::DType;
use keops_core::error::{Error, InputError};
use ndarray::{Array1, Array2, Array3, Axis};

/// A diagonal matrix.
///
/// ```
/// use keops_linalg::{Diag, LinearOperator};
/// use ndarray::{Array3, array};
/// let d = Diag::new(array![1.0, 2.0], 1);
/// assert_eq!(d.apply(&Array3::ones((1, 2, 1)))?.as_slice(), Some(&[1.0, 2.0][..]));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Diag {
    entries: Array1<f64>,
    columns: usize,
}

impl Diag {
    /// Of these entries, for vectors of this many columns.
    pub fn new(entries: Array1<f64>, columns: usize) -> Diag {
        Diag { entries, columns }
    }
}

/// Is this a vector of these rows and components?
pub(super) fn check(v: &Array3<f64>, shape: [usize; 2]) -> Result<(), InputError> {
    if v.shape()[1..] == shape {
        return Ok(());
    }
    let (name, got) = ("a vector".into(), v.shape().to_vec());
    Err(InputError::Shape { name, expected: format!("(batches, {}, {})", shape[0], shape[1]), got })
}

impl LinearOperator for Diag {
    fn domain(&self) -> [usize; 2] {
        [self.entries.len(), self.columns]
    }
    fn range(&self) -> [usize; 2] {
        self.domain()
    }
    fn precision(&self) -> DType {
        DType::F64
    }
    fn columns_independent(&self) -> bool {
        true
    }
    fn cost(&self) -> Cost {
        let n = self.entries.len() as f64;
        Cost { flops: n * self.columns as f64, bytes: 8.0 * n }
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        check(v, self.domain())?;
        let mut out = super::block(v.dim())?;
        out.assign(v);
        for (mut row, d) in out.axis_iter_mut(Axis(1)).zip(&self.entries) {
            row *= *d;
        }
        Ok(out)
    }
}
impl AdjointOperator for Diag {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        self.apply(v)
    }
}
impl Diagonal for Diag {
    fn diagonal(&self) -> Result<Array2<f64>, Error> {
        let mut d = dense(1, self.entries.len(), "the diagonal")?;
        d.row_mut(0).assign(&self.entries);
        Ok(d)
    }
}
impl Rows for Diag {
    fn rows_at(&self, _: usize, indices: &[usize]) -> Result<Array2<f64>, Error> {
        let n = self.entries.len();
        let mut rows = dense(indices.len(), n, "rows of the matrix")?;
        for (mut row, &k) in rows.outer_iter_mut().zip(indices) {
            match (row.get_mut(k), self.entries.get(k)) {
                (Some(entry), Some(d)) => *entry = *d,
                _ => return fail("rows", format!("fewer than {n}"), k.to_string())?,
            }
        }
        Ok(rows)
    }
}

/// A sparse matrix.
///
/// ```
/// use keops_linalg::{Sparse, to_dense};
/// use sprs::CsMat;
/// let eye: CsMat<f64> = CsMat::eye(2);
/// assert_eq!(to_dense(&Sparse::new(eye, 3))?, ndarray::array![[[1.0, 0.0], [0.0, 1.0]]]);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[cfg(feature = "sprs")]
#[derive(Clone, Debug)]
pub struct Sparse {
    matrix: sprs::CsMat<f64>,
    columns: usize,
}

#[cfg(feature = "sprs")]
impl Sparse {
    /// In either storage, for vectors of this many columns.
    pub fn new(matrix: sprs::CsMat<f64>, columns: usize) -> Sparse {
        Sparse { matrix, columns }
    }
    fn product(&self, v: &Array3<f64>, transposed: bool) -> Result<Array3<f64>, Error> {
        let (domain, range) = (self.domain(), self.range());
        let (from, to) = if transposed { (range, domain) } else { (domain, range) };
        check(v, from)?;
        let mut out = super::block((v.dim().0, to[0], to[1]))?;
        for (&value, (i, j)) in &self.matrix {
            let (to, from) = if transposed { (j, i) } else { (i, j) };
            out.index_axis_mut(Axis(1), to).scaled_add(value, &v.index_axis(Axis(1), from));
        }
        Ok(out)
    }
}

#[cfg(feature = "sprs")]
impl LinearOperator for Sparse {
    fn domain(&self) -> [usize; 2] {
        [self.matrix.cols(), self.columns]
    }
    fn range(&self) -> [usize; 2] {
        [self.matrix.rows(), self.columns]
    }
    fn precision(&self) -> DType {
        DType::F64
    }
    fn columns_independent(&self) -> bool {
        true
    }
    fn cost(&self) -> Cost {
        let entries = self.matrix.nnz() as f64;
        Cost { flops: 2.0 * entries * self.columns as f64, bytes: 16.0 * entries }
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        self.product(v, false)
    }
}
#[cfg(feature = "sprs")]
impl AdjointOperator for Sparse {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        self.product(v, true)
    }
}
#[cfg(feature = "sprs")]
impl Diagonal for Sparse {
    fn diagonal(&self) -> Result<Array2<f64>, Error> {
        let (n, m) = (self.matrix.rows(), self.matrix.cols());
        if n != m {
            return fail(
                "the diagonal of a sparse matrix",
                "a square one".into(),
                format!("{n} × {m}"),
            )?;
        }
        let mut d = dense(1, n, "the diagonal")?;
        for (&value, (i, _)) in self.matrix.iter().filter(|(_, (i, j))| i == j) {
            d[[0, i]] += value;
        }
        Ok(d)
    }
}
#[cfg(feature = "sprs")]
impl Rows for Sparse {
    fn rows_at(&self, _: usize, indices: &[usize]) -> Result<Array2<f64>, Error> {
        let n = self.matrix.rows();
        if let Some(k) = indices.iter().find(|k| **k >= n) {
            return fail("rows", format!("fewer than {n}"), k.to_string())?;
        }
        let mut rows = dense(indices.len(), self.matrix.cols(), "rows of the matrix")?;
        for (&value, (i, j)) in &self.matrix {
            for (k, _) in indices.iter().enumerate().filter(|(_, index)| **index == i) {
                rows[[k, j]] += value;
            }
        }
        Ok(rows)
    }
}

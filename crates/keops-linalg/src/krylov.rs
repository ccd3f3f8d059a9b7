//! Several vectors at once, by rows of matrices: products, and orthonormal bases.

use crate::layout::{VECTOR, dense, exponent, scaled};
use crate::operator::LinearOperator;
use crate::stack::roomy;
use faer::{Mat, Side};
use keops_core::data::DType;
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::memory;
use keops_core::random::Random;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, Array3, ArrayView2, ArrayViewMut2, Axis, Slice};

// (`ndarray::s!` allows unsafe code for itself, which this crate forbids.)
/// Some rows.
pub(crate) fn rows<'v>(
    v: impl Into<ArrayView2<'v, f64>>,
    at: impl Into<Slice>,
) -> ArrayView2<'v, f64> {
    let mut own = v.into();
    own.slice_axis_inplace(Axis(0), at.into());
    own
}
pub(crate) fn rows_mut(v: &mut Array2<f64>, at: impl Into<Slice>) -> ArrayViewMut2<'_, f64> {
    v.slice_axis_mut(Axis(0), at.into())
}
/// Some rows and columns.
pub(crate) fn part(
    v: &Array2<f64>,
    at: impl Into<Slice>,
    columns: impl Into<Slice>,
) -> ArrayView2<'_, f64> {
    let mut own = rows(v, at);
    own.slice_axis_inplace(Axis(1), columns.into());
    own
}
pub(crate) fn part_mut(
    v: &mut Array2<f64>,
    at: impl Into<Slice>,
    columns: impl Into<Slice>,
) -> ArrayViewMut2<'_, f64> {
    let mut own = rows_mut(v, at);
    own.slice_axis_inplace(Axis(1), columns.into());
    own
}

/// Unknowns of the rows of block vectors: rows where columns are independent, else elements.
pub(crate) fn unknowns(operator: &dyn LinearOperator, [rows, dim]: [usize; 2]) -> usize {
    rows.saturating_mul(if operator.columns_independent() { 1 } else { dim })
}
/// An operator of one matrix, and its size: unknowns of the range and of the domain.
pub(crate) fn single(operator: &dyn LinearOperator) -> Result<[usize; 2], InputError> {
    match operator.matrices() {
        1 => Ok([unknowns(operator, operator.range()), unknowns(operator, operator.domain())]),
        n => {
            let what = format!("the operator is a batch of {n} matrices, expected one");
            Err(InputError::Option(format!("{what}: take its elements one after the other")))
        }
    }
}
pub(crate) fn epsilon(operator: &dyn LinearOperator) -> f64 {
    match operator.precision() {
        DType::F64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    }
}

/// Multiplies vectors; as many at once as the operator has independent columns.
pub(crate) struct Products<'o> {
    operator: &'o dyn LinearOperator,
    /// Products of the operator so far.
    pub count: usize,
    /// Results are divided by a power of two, found by the first product, so that squares neither
    /// overflow nor vanish.
    exponent: Option<i32>,
}

impl<'o> Products<'o> {
    pub fn new(operator: &'o dyn LinearOperator) -> Products<'o> {
        Products { operator, count: 0, exponent: None }
    }
    /// Over the same power of two as others.
    pub fn like(mut self, other: &Products<'_>) -> Products<'o> {
        self.exponent = other.exponent;
        self
    }
    pub fn operator(&self) -> &'o dyn LinearOperator {
        self.operator
    }
    /// Vectors that one product takes.
    pub fn width(&self) -> usize {
        if self.operator.columns_independent() { self.operator.domain()[1].max(1) } else { 1 }
    }
    /// What has the size of a product, as it is.
    pub fn unscaled(&self, v: f64) -> f64 {
        scaled(v, self.exponent.unwrap_or(0))
    }
    /// The products with vectors, which are rows, as rows, over the power of two.
    pub fn apply(&mut self, v: ArrayView2<'_, f64>) -> Result<Array2<f64>, Error> {
        let operator = self.operator;
        let (to, from) = (operator.range(), operator.domain());
        let width = self.width();
        let mut out = dense(v.nrows(), unknowns(operator, to), VECTOR)?;
        for start in (0..v.nrows()).step_by(width) {
            let group = rows(v, start..(start + width).min(v.nrows()));
            let block = Array3::from_shape_vec(
                (1, from[0], from[1]),
                memory::filled(from[0].saturating_mul(from[1]), 0.0, VECTOR)?,
            );
            let Ok(mut block) = block else { unreachable!("as many numbers as entries") };
            if operator.columns_independent() {
                for (mut to, v) in
                    block.index_axis_mut(Axis(0), 0).columns_mut().into_iter().zip(group.rows())
                {
                    to.assign(&v);
                }
            } else {
                block.iter_mut().zip(group).for_each(|(to, v)| *to = *v);
            }
            self.count += 1;
            let product = operator.apply(&block)?;
            if product.dim() != (1, to[0], to[1]) {
                let expected = format!("shape (1, {}, {})", to[0], to[1]);
                let (name, got) = ("product of the operator".into(), product.shape().to_vec());
                return Err(InputError::Shape { name, expected, got }.into());
            }
            if operator.columns_independent() {
                let all = product.index_axis(Axis(0), 0);
                for (mut to, v) in
                    rows_mut(&mut out, start..).rows_mut().into_iter().zip(all.columns())
                {
                    to.assign(&v);
                }
            } else {
                out.row_mut(start).iter_mut().zip(&product).for_each(|(to, v)| *to = *v);
            }
        }
        if self.exponent.is_none() {
            let largest = |m: f64, v: &f64| m.max(v.abs());
            let (size, made) = (v.iter().fold(0.0, largest), out.iter().fold(0.0, largest));
            if size > 0.0 && made > 0.0 {
                self.exponent = Some(exponent(made / size));
            }
        }
        let e = self.exponent.unwrap_or(0);
        if e != 0 {
            let (half, other) = (2f64.powi(-(e / 2)), 2f64.powi(-(e - e / 2)));
            out.mapv_inplace(|v| v * half * other);
        }
        Ok(out)
    }
}

/// The row that is not finite, if there is one.
pub(crate) fn finite(v: &Array2<f64>) -> bool {
    v.iter().all(|v| v.is_finite())
}

/// Takes what rows have of an orthonormal basis out of them, twice; the coefficients, of shape
/// (rows, basis).
pub(crate) fn project(
    basis: ArrayView2<'_, f64>,
    mut v: ArrayViewMut2<'_, f64>,
) -> Result<Array2<f64>, OutOfMemory> {
    let mut all = dense(v.nrows(), basis.nrows(), VECTOR)?;
    if basis.nrows() == 0 {
        return Ok(all);
    }
    for _ in 0..2 {
        let own = v.dot(&basis.t());
        general_mat_mul(-1.0, &own, &basis, 1.0, &mut v);
        all += &own;
    }
    Ok(all)
}

/// Rows of random numbers.
pub(crate) fn random(
    random: &mut Random,
    rows: usize,
    n: usize,
) -> Result<Array2<f64>, OutOfMemory> {
    let mut v = dense(rows, n, VECTOR)?;
    v.mapv_inplace(|_| random.unit() - 0.5);
    Ok(v)
}

/// Rows of normal numbers, by Box and Muller.
pub(crate) fn normal(
    random: &mut Random,
    rows: usize,
    n: usize,
) -> Result<Array2<f64>, OutOfMemory> {
    let mut v = dense(rows, n, VECTOR)?;
    v.mapv_inplace(|_| {
        let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * random.unit()).cos()
    });
    Ok(v)
}
/// Norms of rows.
pub(crate) fn norms(v: ArrayView2<'_, f64>) -> Array1<f64> {
    v.rows().into_iter().map(|v| v.dot(&v).sqrt()).collect()
}

/// Makes rows orthonormal among each other and to the bases. Of a row that the others explain to
/// `noise`, a random one takes the place, while `room` is left; the others are dropped. Returns the
/// orthonormal rows, and the coefficients of the given rows in them.
pub(crate) fn orthonormal(
    mut v: Array2<f64>,
    bases: &[ArrayView2<'_, f64>],
    noise: f64,
    room: usize,
    source: &mut Random,
) -> Result<(Array2<f64>, Array2<f64>), OutOfMemory> {
    let (given, n) = v.dim();
    let width = given.min(room);
    let mut q = dense(width, n, VECTOR)?;
    let mut r = dense(given, width, VECTOR)?;
    let mut made = 0;
    for k in 0..given {
        let mut own = rows_mut(&mut v, k..k + 1);
        let part = project(rows(&q, ..made), own.view_mut())?;
        part_mut(&mut r, k..k + 1, ..made).assign(&part);
        let norm = own.iter().map(|v| v * v).sum::<f64>().sqrt();
        if norm > noise && made < width {
            own /= norm;
            // (What is small loses its angles to the bases by rounding.)
            for basis in bases {
                project(basis.view(), own.view_mut())?;
            }
            let again = own.iter().map(|v| v * v).sum::<f64>().sqrt();
            own /= again;
            q.row_mut(made).assign(&own.row(0));
            r[[k, made]] = norm;
            made += 1;
        }
    }
    while made < width {
        let mut new = random(source, 1, n)?;
        for _ in 0..2 {
            for basis in bases {
                project(basis.view(), new.view_mut())?;
            }
            project(rows(&q, ..made), new.view_mut())?;
            let norm = new.iter().map(|v| v * v).sum::<f64>().sqrt();
            new /= norm;
        }
        q.row_mut(made).assign(&new.row(0));
        made += 1;
    }
    Ok((q, r))
}

/// Eigenvalues of a small symmetric matrix, ascending, and its eigenvectors, as rows.
pub(crate) fn small(matrix: ArrayView2<'_, f64>) -> Result<(Array1<f64>, Array2<f64>), Error> {
    let n = matrix.nrows();
    let own = Mat::from_fn(n, n, |i, j| 0.5 * (matrix[[i, j]] + matrix[[j, i]]));
    let eigen = roomy(|| own.self_adjoint_eigen(Side::Lower))?.map_err(|_| {
        InputError::Option("a projected matrix has no eigenvalues: it is not finite".into())
    })?;
    let values = Array1::from_shape_fn(n, |k| eigen.S()[k]);
    Ok((values, Array2::from_shape_fn((n, n), |(k, i)| eigen.U()[(i, k)])))
}

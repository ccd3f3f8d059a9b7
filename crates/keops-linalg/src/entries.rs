//! What operators can give besides products: the transpose, the diagonal, rows by their indices.

use crate::algebra::Cost;
use crate::layout::{VECTOR, dense};
use crate::operator::{KernelOperator, LinearOperator};
use keops_core::data::{Buffer, DType};
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::genred::Place;
use keops_core::memory;
use keops_core::ranges::{Pattern, Ranges};
use keops_core::spec::Axis;
use ndarray::{Array2, Array3, ArrayD, Axis as NdAxis};
use std::sync::Arc;

/// An operator that multiplies by its transpose.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{AdjointOperator, KernelOperator};
/// use ndarray::{Array3, array};
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
/// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?;
/// let (x, y) = (array![[1.0], [2.0]], array![[3.0], [4.0], [5.0]]);
/// let k = KernelOperator::new(&sum, "v", (&x, &y))?;
/// let product = k.apply_adjoint(&Array3::ones((1, 2, 1)))?; // (3, 4, 5) times 1 + 2
/// assert_eq!(product.as_slice(), Some(&[9.0, 12.0, 15.0][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait AdjointOperator: LinearOperator {
    /// The product of the transpose with a block vector, of shape `(batches, rows, components)` as
    /// [`LinearOperator::range`] says; the result is as [`LinearOperator::domain`] says.
    ///
    /// # Errors
    /// As [`LinearOperator::apply`].
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use keops_linalg::{AdjointOperator, KernelOperator};
    /// use ndarray::{Array3, array};
    /// let sum: Genred = Genred::new("x * v", ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"], &SUM, Axis::J)?;
    /// let x = array![[1.0], [2.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &x))?; // [1 1; 2 2]
    /// let product = k.apply_adjoint(&Array3::ones((1, 2, 1)))?;
    /// assert_eq!(product.as_slice(), Some(&[3.0, 3.0][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error>;
}

/// A square operator that gives its diagonal.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{Diagonal, KernelOperator};
/// use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
/// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?;
/// let x = array![[1.0], [2.0], [3.0]];
/// let k = KernelOperator::new(&sum, "v", (&x, &x))?;
/// assert_eq!(k.diagonal()?, array![[1.0, 4.0, 9.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Diagonal: LinearOperator {
    /// The diagonals of its matrices, of shape (matrices, unknowns). Unknowns are rows where
    /// columns are independent, else elements of rows, in order.
    ///
    /// # Errors
    /// As [`LinearOperator::apply`].
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use keops_linalg::{Diagonal, KernelOperator};
    /// use ndarray::array;
    /// let aliases = ["x = Vi(2)", "y = Vj(2)", "v = Vj(2)"];
    /// let sum: Genred = Genred::new("(y | v) * x", aliases, &SUM, Axis::J)?; // blocks x yᵀ
    /// let x = array![[1.0, 2.0], [3.0, 4.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &x))?;
    /// assert_eq!(k.diagonal()?, array![[1.0, 4.0, 9.0, 16.0]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn diagonal(&self) -> Result<Array2<f64>, Error>;
}

/// An operator that gives rows of its matrices.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{KernelOperator, Rows};
/// use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
/// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?;
/// let x = array![[1.0], [2.0], [3.0]];
/// let k = KernelOperator::new(&sum, "v", (&x, &x))?;
/// assert_eq!(k.rows_at(0, &[2, 0])?, array![[3.0, 6.0, 9.0], [1.0, 2.0, 3.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Rows: LinearOperator {
    /// Rows of one matrix (see [`LinearOperator::matrix_of`]), of shape (indices, unknowns of the
    /// domain); indices and unknowns are as in [`Diagonal::diagonal`].
    ///
    /// # Errors
    /// As [`LinearOperator::apply`]; an error for an index that there is not.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use keops_linalg::{KernelOperator, Rows};
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
    /// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?;
    /// let x = ndarray::array![[1.0], [2.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &x))?;
    /// assert!(k.rows_at(0, &[2]).unwrap_err().to_string().contains("row 2 of 2"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn rows_at(&self, matrix: usize, indices: &[usize]) -> Result<Array2<f64>, Error>;

    /// What groups of rows have to do with themselves: for each group, which is of rows of block
    /// vectors, the square block of one matrix at their unknowns, a row after the other. No row is in
    /// two groups.
    ///
    /// # Errors
    /// As [`Rows::rows_at`]; [`InputError::Option`] if groups overlap, or the operator is not square.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use keops_linalg::{KernelOperator, Rows};
    /// use ndarray::array;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
    /// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?;
    /// let x = array![[1.0], [2.0], [3.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &x))?;
    /// let blocks = k.diagonal_blocks(0, &[vec![2, 0], vec![1]])?;
    /// assert_eq!(blocks, [array![[9.0, 3.0], [3.0, 1.0]], array![[4.0]]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn diagonal_blocks(
        &self,
        matrix: usize,
        groups: &[Vec<usize>],
    ) -> Result<Vec<Array2<f64>>, Error> {
        let (parts, _) = grouped(self, groups)?;
        let block = |group: &Vec<usize>| {
            let own: Vec<usize> =
                group.iter().flat_map(|row| row * parts..(row + 1) * parts).collect();
            Ok(self.rows_at(matrix, &own)?.select(NdAxis(1), &own))
        };
        groups.iter().map(block).collect()
    }
}

/// Unknowns of each row, and the group of each row.
fn grouped<O: LinearOperator + ?Sized>(
    operator: &O,
    groups: &[Vec<usize>],
) -> Result<(usize, Vec<Option<usize>>), Error> {
    let [n, dim] = operator.domain();
    let option = |what: String| Err(InputError::Option(what).into());
    if operator.range() != [n, dim] {
        return option("diagonal blocks of an operator that is not square".into());
    }
    let mut of = memory::filled(n, None, ROWS)?;
    for (k, group) in groups.iter().enumerate() {
        for &row in group {
            match of.get_mut(row) {
                Some(own @ None) => *own = Some(k),
                Some(Some(other)) => {
                    return option(format!("row {row} is in groups {other} and {k}, expected one"));
                }
                None => return option(format!("group {k} has row {row} of {n} rows")),
            }
        }
    }
    Ok((if operator.columns_independent() { 1 } else { dim }, of))
}

impl<P: Place> LinearOperator for KernelOperator<'_, P> {
    fn domain(&self) -> [usize; 2] {
        [self.columns(), self.domain_dim()]
    }
    fn range(&self) -> [usize; 2] {
        [KernelOperator::rows(self), self.range_dim()]
    }
    fn precision(&self) -> keops_core::data::DType {
        KernelOperator::precision(self)
    }
    fn columns_independent(&self) -> bool {
        KernelOperator::columns_independent(self)
    }
    fn matrices(&self) -> usize {
        self.batch().iter().product()
    }
    fn matrix_of(&self, batch: usize) -> usize {
        if self.batch().is_empty() { 0 } else { batch }
    }
    fn cost(&self) -> Cost {
        self.estimate()
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let own = self.batch().to_vec();
        self.over(if own.is_empty() { vec![v.dim().0] } else { own }).apply(v)
    }
}

impl<P: Place> AdjointOperator for KernelOperator<'_, P> {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        LinearOperator::apply(&self.clone().transpose()?, v)
    }
}

/// Names of what memory is for, in errors.
const DIAGONAL: &str = "the diagonal";
const ROWS: &str = "rows of the matrix";
const RANGES: &str = "ranges";

/// A vector of zeros, of any batch shape.
fn zeros(shape: &[usize]) -> Result<ArrayD<f64>, OutOfMemory> {
    match Buffer::zeros(Some(DType::F64), shape) {
        Some(Buffer::F64(zeros)) => Ok(zeros),
        _ => {
            let len = shape.iter().fold(1usize, |a, &b| a.saturating_mul(b));
            Err(memory::refused::<f64>(len, VECTOR))
        }
    }
}

/// Ranges that leave, of all pairs that a sum goes over, those of rows `[start, end)` and columns
/// `of(row)`.
fn only(
    all: Option<&Ranges>,
    axis: Axis,
    rows: std::ops::Range<usize>,
    of: impl Fn(usize) -> [usize; 2],
) -> Result<Ranges, Error> {
    let own = all.map(|r| r.pattern(axis)).transpose()?;
    let mut pattern = Pattern::default();
    let mut block = 0;
    for row in rows {
        let [start, end] = of(row);
        match own {
            None if start < end => memory::push(&mut pattern.reduced, [start, end], RANGES)?,
            None => {}
            Some(own) => {
                while own.blocks.get(block).is_some_and(|b| b[1] <= row) {
                    block += 1;
                }
                if own.blocks.get(block).is_some_and(|b| b[0] <= row) {
                    let parts = own.of_block(block).iter();
                    let parts = parts.map(|r| [r[0].max(start), r[1].min(end)]);
                    for part in parts.filter(|r| r[0] < r[1]) {
                        memory::push(&mut pattern.reduced, part, RANGES)?;
                    }
                }
            }
        }
        memory::push(&mut pattern.blocks, [row, row + 1], RANGES)?;
        memory::push(&mut pattern.slices, pattern.reduced.len(), RANGES)?;
    }
    let ranges = Ranges::from_pattern(pattern)?;
    Ok(if axis == Axis::J { ranges } else { ranges.swap_axes() })
}

impl<P: Place> Diagonal for KernelOperator<'_, P> {
    /// One sum over the pairs of the diagonal for each component, on the device.
    fn diagonal(&self) -> Result<Array2<f64>, Error> {
        let [n, dim] = self.domain();
        if self.range() != [n, dim] {
            let what = "the diagonal of an operator that is not square".into();
            return Err(InputError::Option(what).into());
        }
        let diagonal =
            self.with_ranges(Arc::new(only(self.ranges(), self.axis(), 0..n, |k| [k, k + 1])?));
        let batch = self.batch();
        let parts = if self.columns_independent() { 1 } else { dim };
        let matrices = self.matrices();
        let mut all = dense(matrices, n.saturating_mul(parts), DIAGONAL)?;
        for c in 0..parts {
            let mut v = zeros(&[batch, &[n, dim]].concat())?;
            v.index_axis_mut(NdAxis(batch.len() + 1), c).fill(1.0);
            let product = diagonal.apply(&v)?;
            let own = product.index_axis(NdAxis(batch.len() + 1), c);
            for (k, value) in own.iter().enumerate() {
                all[[k / n.max(1), (k % n.max(1)) * parts + c]] = *value;
            }
        }
        Ok(all)
    }
}

impl<P: Place> Rows for KernelOperator<'_, P> {
    /// Sums over the pairs of one row each, on the device.
    fn rows_at(&self, matrix: usize, indices: &[usize]) -> Result<Array2<f64>, Error> {
        let ([n, dim], [m, width]) = (self.range(), self.domain());
        let parts = if self.columns_independent() { 1 } else { dim };
        let wrong = indices.iter().find(|&&k| k >= n * parts);
        let input = |m: String| Error::from(InputError::Option(m));
        if let Some(k) = wrong {
            return Err(input(format!("row {k} of {} rows", n * parts)));
        }
        if matrix >= self.matrices() {
            return Err(input(format!("matrix {matrix} of {}", self.matrices())));
        }
        // Row k is column k of the transpose, which reduces over what the operator keeps.
        let one = self.element(matrix)?;
        let (axis, given) = (self.axis(), self.ranges());
        let transpose = one.transpose()?;
        let across = if parts == 1 { 1 } else { width };
        let mut all = dense(indices.len(), m.saturating_mul(across), ROWS)?;
        for (&index, mut row) in indices.iter().zip(all.outer_iter_mut()) {
            let (k, c) = (index / parts, index % parts);
            // Rows that the sum keeps are those of the operator, or of its transpose.
            let ranges = match self.is_transposed() {
                false => only(given, axis, k..k + 1, |_| [0, m])?,
                true => only(given, axis, 0..m, |_| [k, k + 1])?,
            };
            let mut v = zeros(&[n, dim])?;
            v[[k, c]] = 1.0;
            let product = transpose.with_ranges(Arc::new(ranges)).apply(&v)?;
            let product = product.into_shape_with_order((m, width));
            let Ok(product) = product else { unreachable!("of the shape of the domain") };
            if across == 1 {
                row.assign(&product.column(0));
            } else {
                row.iter_mut().zip(&product).for_each(|(r, v)| *r = *v);
            }
        }
        Ok(all)
    }
    /// A sum for each row of the largest group, of one pair for each row.
    fn diagonal_blocks(
        &self,
        matrix: usize,
        groups: &[Vec<usize>],
    ) -> Result<Vec<Array2<f64>>, Error> {
        let (parts, of) = grouped(self, groups)?;
        let [n, dim] = self.domain();
        if matrix >= self.matrices() {
            let what = format!("matrix {matrix} of {}", self.matrices());
            return Err(InputError::Option(what).into());
        }
        if self.is_transposed() {
            let blocks = self.clone().transpose()?.diagonal_blocks(matrix, groups)?;
            return Ok(blocks.into_iter().map(Array2::reversed_axes).collect());
        }
        let one = self.element(matrix)?;
        let room = |g: &Vec<usize>| dense(g.len() * parts, g.len() * parts, ROWS);
        let mut blocks = groups.iter().map(room).collect::<Result<Vec<_>, _>>()?;
        for s in 0..groups.iter().map(Vec::len).max().unwrap_or(0) {
            // Row s of each group meets all of its group.
            let other = |row: usize| of[row].and_then(|k| groups[k].get(s)).copied();
            let meets = |row: usize| other(row).map_or([0, 0], |j| [j, j + 1]);
            let ranges = Arc::new(only(self.ranges(), self.axis(), 0..n, meets)?);
            let sum = one.with_ranges(ranges);
            for c in 0..parts {
                let mut v = zeros(&[n, dim])?;
                groups.iter().filter_map(|g| g.get(s)).for_each(|&j| v[[j, c]] = 1.0);
                let product = sum.apply(&v)?;
                for (block, group) in blocks.iter_mut().zip(groups) {
                    for (k, &row) in group.iter().enumerate().filter(|_| s < group.len()) {
                        for d in 0..parts {
                            block[[k * parts + d, s * parts + c]] = product[[row, d]];
                        }
                    }
                }
            }
        }
        Ok(blocks)
    }
}

impl<P: Place> KernelOperator<'_, P> {
    /// The gradient of `Σ W_ij K_ij` with respect to arguments, by their names; a row at a time, so
    /// that each pair is evaluated once. Columns have to be independent.
    pub(crate) fn weighted_gradient(
        &self,
        wrt: &[&str],
        weights: &Array2<f64>,
    ) -> Result<Vec<ArrayD<f64>>, Error> {
        let ([n, dim], [m, _]) = (self.range(), self.domain());
        if wrt.is_empty() {
            return Ok(vec![]);
        }
        let gradient = self.form_gradient_of(wrt)?;
        let mut total: Vec<ArrayD<f64>> = vec![];
        for (k, row) in weights.outer_iter().enumerate() {
            let ranges = Arc::new(only(self.ranges(), self.axis(), k..k + 1, |_| [0, m])?);
            let (mut u, mut v) = (zeros(&[n, dim])?, zeros(&[m, dim])?);
            u[[k, 0]] = 1.0;
            v.index_axis_mut(NdAxis(1), 0).assign(&row);
            let made = self.form_with(&gradient.clone().ranges(ranges), &u, &v)?;
            match total.is_empty() {
                true => total = made,
                false => total.iter_mut().zip(&made).for_each(|(t, g)| *t += g),
            }
        }
        if total.is_empty() {
            // Of no points: zeros.
            total = self.form_with(&gradient, &zeros(&[n, dim])?, &zeros(&[m, dim])?)?;
        }
        Ok(total)
    }
}

//! Laws that every operator obeys: property tests check them, of your own operators too.

use crate::entries::{AdjointOperator, Diagonal, Rows};
use crate::operator::LinearOperator;
use crate::to_dense;
use keops_core::data::DType;
use keops_core::error::{Error, InputError};
use keops_core::random::Random;
use ndarray::Array3;

/// A law that an operator breaks, for vectors of a seed.
///
/// ```
/// use keops_linalg::{Diag, laws};
/// assert!(laws::all(&Diag::new(ndarray::array![1.0, -2.0], 3), 7).is_ok());
/// ```
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Broken {
    /// Values that should be equal are not.
    #[error("{law}: the difference is {difference:.1e} of the size, more than {tolerance:.1e}")]
    Law {
        /// The law.
        law: &'static str,
        /// Largest difference relative to the largest values.
        difference: f64,
        /// Rounding of the operator's precision, many times over.
        tolerance: f64,
    },
    /// A product failed, or has the wrong shape.
    #[error(transparent)]
    Core(#[from] Error),
}

/// Units of rounding, times the square root of the unknowns, that values may differ by.
const UNITS: f64 = 1e3;

fn tolerance<O: LinearOperator + ?Sized>(o: &O) -> f64 {
    let epsilon = if o.precision() == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    let unknowns = o.domain()[0] * o.domain()[1] + o.range()[0] * o.range()[1];
    UNITS * epsilon * (unknowns as f64).sqrt()
}
fn vector(random: &mut Random, batches: usize, [rows, dim]: [usize; 2]) -> Array3<f64> {
    // Representable in f32, so that an operator does not round it.
    Array3::from_shape_simple_fn((batches, rows, dim), || {
        f64::from((2.0 * random.unit() - 1.0) as f32)
    })
}
fn size(v: &Array3<f64>) -> f64 {
    v.iter().fold(0.0, |m, v| m.max(v.abs()))
}
fn shaped(v: Array3<f64>, batches: usize, [rows, dim]: [usize; 2]) -> Result<Array3<f64>, Broken> {
    if v.dim() == (batches, rows, dim) {
        return Ok(v);
    }
    let (name, got) = ("a product of the operator".into(), v.shape().to_vec());
    let expected = format!("({batches}, {rows}, {dim})");
    Err(Error::from(InputError::Shape { name, expected, got }).into())
}
fn judge(law: &'static str, difference: f64, size: f64, tolerance: f64) -> Result<(), Broken> {
    let difference = if difference == 0.0 { 0.0 } else { difference / size };
    if difference <= tolerance {
        return Ok(());
    }
    Err(Broken::Law { law, difference, tolerance })
}

/// `A (2u - 4v) = 2 A u - 4 A v`, and products have the shape that the operator says.
///
/// ```
/// use keops_linalg::{Diag, laws};
/// let d = Diag::new(ndarray::array![1.0, -2.0], 3);
/// laws::linear(&d, 1)?;
/// # Ok::<(), keops_linalg::laws::Broken>(())
/// ```
///
/// # Errors
/// [`Broken`].
pub fn linear<O: LinearOperator + ?Sized>(o: &O, seed: u64) -> Result<(), Broken> {
    let (mut random, n) = (Random::new(seed), o.matrices());
    let (u, v) = (vector(&mut random, n, o.domain()), vector(&mut random, n, o.domain()));
    let (au, av) = (o.apply(&u)?, o.apply(&v)?);
    let (au, av) = (shaped(au, n, o.range())?, shaped(av, n, o.range())?);
    let both = o.apply(&(&u * 2.0 - &v * 4.0))?;
    let expected = &au * 2.0 - &av * 4.0;
    // (Terms may cancel in the product: bounded by the sizes of both.)
    let scale = size(&au).max(size(&av)).max(size(&both));
    judge("linear: A (2u - 4v) = 2 A u - 4 A v", size(&(both - expected)), scale, tolerance(o))
}
/// `<u, A v> = <Aᵀ u, v>`.
///
/// ```
/// use keops_linalg::{Diag, laws};
/// let d = Diag::new(ndarray::array![1.0, -2.0], 3);
/// laws::adjoint(&d, 1)?;
/// # Ok::<(), keops_linalg::laws::Broken>(())
/// ```
///
/// # Errors
/// [`Broken`].
pub fn adjoint<O: AdjointOperator + ?Sized>(o: &O, seed: u64) -> Result<(), Broken> {
    let (mut random, n) = (Random::new(seed), o.matrices());
    let (u, v) = (vector(&mut random, n, o.range()), vector(&mut random, n, o.domain()));
    let av = shaped(o.apply(&v)?, n, o.range())?;
    let back = shaped(o.apply_adjoint(&u)?, n, o.domain())?;
    products("adjoint: <u, A v> = <Aᵀ u, v>", (&u, &av), (&back, &v), tolerance(o))
}
/// `<u, A v> = <A u, v>`.
///
/// ```
/// use keops_linalg::{Diag, laws};
/// let d = Diag::new(ndarray::array![1.0, -2.0], 3);
/// laws::symmetric(&d, 1)?;
/// # Ok::<(), keops_linalg::laws::Broken>(())
/// ```
///
/// # Errors
/// [`Broken`].
pub fn symmetric<O: LinearOperator + ?Sized>(o: &O, seed: u64) -> Result<(), Broken> {
    let (mut random, n) = (Random::new(seed), o.matrices());
    let (u, v) = (vector(&mut random, n, o.domain()), vector(&mut random, n, o.domain()));
    let av = shaped(o.apply(&v)?, n, o.domain())?;
    let au = shaped(o.apply(&u)?, n, o.domain())?;
    products("symmetric: <u, A v> = <A u, v>", (&u, &av), (&au, &v), tolerance(o))
}
fn products(
    law: &'static str,
    (u, av): (&Array3<f64>, &Array3<f64>),
    (au, v): (&Array3<f64>, &Array3<f64>),
    tolerance: f64,
) -> Result<(), Broken> {
    let dot = |a: &Array3<f64>, b: &Array3<f64>| (a * b).sum();
    let norm = |a: &Array3<f64>| dot(a, a).sqrt();
    let scale = (norm(u) * norm(av)).max(norm(au) * norm(v));
    judge(law, (dot(u, av) - dot(au, v)).abs(), scale, tolerance)
}
/// The diagonal is that of products with unit vectors; for small ones.
///
/// ```
/// use keops_linalg::{Diag, laws};
/// let d = Diag::new(ndarray::array![1.0, -2.0], 3);
/// laws::diagonal(&d)?;
/// # Ok::<(), keops_linalg::laws::Broken>(())
/// ```
///
/// # Errors
/// [`Broken`].
pub fn diagonal<O: Diagonal + ?Sized>(o: &O) -> Result<(), Broken> {
    let (dense, d) = (to_dense(o)?, o.diagonal()?);
    let scale = size(&dense);
    let gap = |((b, k), d): ((usize, usize), &f64)| (d - dense[[b, k, k]]).abs();
    if d.dim() != (dense.dim().0, dense.dim().1) {
        let (name, got) = ("the diagonal".into(), d.shape().to_vec());
        let expected = format!("{:?}", &dense.shape()[..2]);
        return Err(Error::from(InputError::Shape { name, expected, got }).into());
    }
    let difference = d.indexed_iter().map(gap).fold(0.0, f64::max);
    judge("diagonal: <e, A e>", difference, scale, tolerance(o))
}
/// Rows and diagonal blocks are those of products with unit vectors; for small ones.
///
/// ```
/// use keops_linalg::{Diag, laws};
/// let d = Diag::new(ndarray::array![1.0, -2.0], 3);
/// laws::rows(&d)?;
/// # Ok::<(), keops_linalg::laws::Broken>(())
/// ```
///
/// # Errors
/// [`Broken`].
pub fn rows<O: Rows + ?Sized>(o: &O) -> Result<(), Broken> {
    let dense = to_dense(o)?;
    let scale = size(&dense);
    let indices: Vec<usize> = (0..dense.dim().1).rev().collect();
    for (matrix, dense) in dense.outer_iter().enumerate() {
        let rows = o.rows_at(matrix, &indices)?;
        if rows.dim() != dense.dim() {
            let (name, got) = ("rows".into(), rows.shape().to_vec());
            let expected = format!("{:?}", dense.shape());
            return Err(Error::from(InputError::Shape { name, expected, got }).into());
        }
        let gap = |((r, c), v): ((usize, usize), &f64)| (v - dense[[indices[r], c]]).abs();
        let difference = rows.indexed_iter().map(gap).fold(0.0, f64::max);
        judge("rows: eᵀ A", difference, scale, tolerance(o))?;
        // Every third row is of a group, in descending order.
        let ([n, dim], independent) = (o.domain(), o.columns_independent());
        if o.range() != [n, dim] {
            continue;
        }
        let parts = if independent { 1 } else { dim };
        let groups: Vec<Vec<usize>> =
            (0..3).map(|g| (0..n).rev().filter(|k| k % 3 == g).collect()).collect();
        let mut difference = 0.0f64;
        for (block, group) in o.diagonal_blocks(matrix, &groups)?.iter().zip(&groups) {
            let at = |k: usize| group[k / parts] * parts + k % parts;
            let gap = |((r, c), v): ((usize, usize), &f64)| (v - dense[[at(r), at(c)]]).abs();
            difference = block.indexed_iter().map(gap).fold(difference, f64::max);
        }
        judge("diagonal blocks: those of rows", difference, scale, tolerance(o))?;
    }
    Ok(())
}
/// Linear, and with the adjoint it gives.
///
/// ```
/// use keops_linalg::{Diag, laws};
/// let d = Diag::new(ndarray::array![1.0, -2.0], 3);
/// laws::all(&d, 1)?;
/// # Ok::<(), keops_linalg::laws::Broken>(())
/// ```
///
/// # Errors
/// [`Broken`].
pub fn all<O: AdjointOperator + ?Sized>(o: &O, seed: u64) -> Result<(), Broken> {
    linear(o, seed)?;
    adjoint(o, seed)
}

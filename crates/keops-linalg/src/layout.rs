//! Which numbers of a block vector belong together.

use crate::info::SystemId;
use keops_core::error::OutOfMemory;
use keops_core::memory;
use ndarray::{Array2, ArrayView2};

/// Name of vectors in errors where there is no memory for them.
pub(crate) const VECTOR: &str = "a vector";
/// Name of the numbers of each system in such errors.
pub(crate) const SYSTEMS: &str = "the state of each system";

/// Block vectors of shape `(batches, rows, dim)`, and the system that each element belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub batches: usize,
    pub rows: usize,
    pub dim: usize,
    /// Is each column a system, not each batch element?
    pub independent: bool,
}

impl Layout {
    pub fn shape(self) -> (usize, usize, usize) {
        (self.batches, self.rows, self.dim)
    }
    pub fn systems(self) -> usize {
        self.batches * if self.independent { self.dim } else { 1 }
    }
    pub fn id(self, system: usize) -> SystemId {
        match self.independent {
            true => SystemId { batch: system / self.dim, column: Some(system % self.dim) },
            false => SystemId { batch: system, column: None },
        }
    }
    /// Calls `f` with the system and the position of every element.
    #[inline]
    pub fn each(self, mut f: impl FnMut(usize, usize)) {
        let mut at = 0;
        for batch in 0..self.batches {
            for _ in 0..self.rows {
                for c in 0..self.dim {
                    f(if self.independent { batch * self.dim + c } else { batch }, at);
                    at += 1;
                }
            }
        }
    }
    /// The dot products of each system.
    pub fn dots(self, x: &[f64], y: &[f64]) -> Result<Vec<f64>, OutOfMemory> {
        let mut sums = self.each_system(0.0)?;
        self.each(|s, k| sums[s] += x[k] * y[k]);
        Ok(sums)
    }
    /// The norms of each system.
    pub fn norms(self, x: &[f64]) -> Result<Vec<f64>, OutOfMemory> {
        let mut squares = self.dots(x, x)?;
        squares.iter_mut().for_each(|v| *v = v.sqrt());
        Ok(squares)
    }
    /// The largest magnitude in each system; infinite if an element is not finite.
    pub fn largest(self, x: &[f64]) -> Result<Vec<f64>, OutOfMemory> {
        let mut largest = self.each_system(0.0f64)?;
        self.each(|s, k| {
            let size = if x[k].is_finite() { x[k].abs() } else { f64::INFINITY };
            largest[s] = largest[s].max(size);
        });
        Ok(largest)
    }
    /// A value for each system.
    pub fn each_system<T: Clone>(self, value: T) -> Result<Vec<T>, OutOfMemory> {
        memory::filled(self.systems(), value, SYSTEMS)
    }
    /// Copies the elements of the systems marked.
    pub fn copy(self, from: &[f64], to: &mut [f64], marked: &[bool]) {
        self.each(|s, k| {
            if marked[s] {
                to[k] = from[k];
            }
        });
    }
}

pub(crate) fn copy(v: &[f64]) -> Result<Vec<f64>, OutOfMemory> {
    memory::collected(v.iter().copied(), VECTOR)
}

/// A row-major matrix of zeros; `what` is its name in errors.
pub(crate) fn dense(rows: usize, columns: usize, what: &str) -> Result<Array2<f64>, OutOfMemory> {
    let zeros = memory::filled(rows.saturating_mul(columns), 0.0, what)?;
    Ok(shaped(rows, columns, zeros))
}
/// A row-major copy, whatever the layout of the matrix is.
pub(crate) fn row_major(m: &ArrayView2<'_, f64>) -> Result<Array2<f64>, OutOfMemory> {
    let (rows, columns) = m.dim();
    Ok(shaped(rows, columns, memory::collected(m.iter().copied(), VECTOR)?))
}
fn shaped(rows: usize, columns: usize, numbers: Vec<f64>) -> Array2<f64> {
    match Array2::from_shape_vec((rows, columns), numbers) {
        Ok(matrix) => matrix,
        Err(_) => unreachable!("as many numbers as entries"),
    }
}

/// Exponent of the largest power of two that is at most `size`, where squares of quotients neither
/// overflow nor vanish; 0 for 0 and what is not finite.
pub(crate) fn exponent(size: f64) -> i32 {
    match size > 0.0 && size.is_finite() {
        true => (size.log2().floor() as i32).clamp(-1000, 1000),
        false => 0,
    }
}
/// `v 2^e`, rounded once: in two steps, the power itself may be out of range.
pub(crate) fn scaled(v: f64, e: i32) -> f64 {
    let half = e / 2;
    v * 2f64.powi(half) * 2f64.powi(e - half)
}

//! Kernel reductions written by hand with AVX-512 and AVX2 intrinsics: the yardstick of the code
//! that the CPU backend generates.
//!
//! Every kernel is packed once ([`GaussianD3::pack`] and its siblings: scales folded into the
//! coordinates, rows gathered into tiles of whole vectors) and then run any number of times. Rows sit in the lanes, columns are broadcast from memory, tiles of
//! rows are distributed over the current rayon thread pool. The partition does not depend on the
//! number of threads, so neither do the results.
//!
//! Coordinates must be finite, and squared distances times γ·log₂e must not overflow.

// Registers in arrays are worked on in lockstep, by index.
#![allow(clippy::needless_range_loop)]

mod gaussian;
mod log_sum_exp;
mod nearest;
pub mod simd;
mod wide;

pub use gaussian::{GaussianD3, GaussianGradientD3};
pub use log_sum_exp::LogSumExpD3;
pub use nearest::{ArgKMinD3, ArgMinD3, K, Selection};
pub use wide::{DistanceForm, GaussianWide};

use rayon::prelude::*;
use simd::{Avx2, Avx512, Real, Tile, Token, Vector};

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// AVX-512 F, DQ, BW and VL: vectors of 512 bits.
    Avx512,
    /// AVX2 and FMA: vectors of 256 bits.
    Avx2,
}

impl Level {
    /// Both levels, the wider first.
    pub const ALL: [Self; 2] = [Self::Avx512, Self::Avx2];

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Avx512 => Avx512::detect().is_some(),
            Self::Avx2 => Avx2::detect().is_some(),
        }
    }

    /// Lanes of a vector of `T`.
    fn lanes<T: Real>(self) -> usize {
        match self {
            Self::Avx512 => T::Zmm::LANES,
            Self::Avx2 => T::Ymm::LANES,
        }
    }

    /// The instruction set, or the error that this CPU lacks it.
    fn require(self) -> Result<Self, Error> {
        if self.is_available() { Ok(self) } else { Err(Error::Unavailable(self)) }
    }
}

/// What a caller can get wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// This CPU does not have the instruction set.
    #[error("this CPU does not have {0:?}")]
    Unavailable(Level),
    /// An array has the wrong number of elements.
    #[error("{variable}: expected {expected} elements, got {got}")]
    Length {
        /// The argument.
        variable: &'static str,
        /// What was expected, in words.
        expected: String,
        /// Its number of elements.
        got: usize,
    },
    /// γ is not a positive finite number.
    #[error("gamma: expected a positive finite number, got {0}")]
    Gamma(f64),
}

/// The number of points in `points`, rows of `dim` coordinates.
fn count_points<T>(variable: &'static str, points: &[T], dim: usize) -> Result<usize, Error> {
    if dim > 0 && points.len().is_multiple_of(dim) {
        Ok(points.len() / dim)
    } else {
        let expected = format!("a multiple of {dim}");
        Err(Error::Length { variable, expected, got: points.len() })
    }
}

/// Checks that `variable` has exactly `expected` elements.
fn check_len<T>(variable: &'static str, values: &[T], expected: usize) -> Result<(), Error> {
    if values.len() == expected {
        Ok(())
    } else {
        Err(Error::Length { variable, expected: expected.to_string(), got: values.len() })
    }
}

/// √(γ·log₂e): with coordinates scaled by it, e^(−γ|x−y|²) is 2^(−|x−y|²).
fn coordinate_scale<T: Real>(gamma: T) -> Result<f64, Error> {
    let gamma = gamma.to_f64();
    if gamma.is_finite() && gamma > 0.0 {
        Ok((gamma * core::f64::consts::LOG2_E).sqrt())
    } else {
        Err(Error::Gamma(gamma))
    }
}

/// Gathers rows of `dim` coordinates into tiles of `width` rows, stored coordinate by coordinate;
/// the last tile is filled with zeros.
fn pack_tiles<T: Real>(
    x: &[T],
    dim: usize,
    width: usize,
    transform: impl Fn(usize, f64) -> f64,
) -> Vec<T> {
    let rows = x.len() / dim;
    let mut packed = vec![T::default(); rows.div_ceil(width) * width * dim];
    for (tile, rows) in packed.chunks_exact_mut(width * dim).zip(x.chunks(width * dim)) {
        for (i, row) in rows.chunks_exact(dim).enumerate() {
            for (d, &coordinate) in row.iter().enumerate() {
                tile[d * width + i] = T::of(transform(d, coordinate.to_f64()));
            }
        }
    }
    packed
}

/// Interleaves columns with their weights: y₀, y₁, y₂, b for each.
fn pack_weighted<T: Real>(y: &[T], b: &[T], scale: f64, weight: f64) -> Vec<T> {
    y.chunks_exact(3)
        .zip(b)
        .flat_map(|(y, b)| {
            [
                y[0].to_f64() * scale,
                y[1].to_f64() * scale,
                y[2].to_f64() * scale,
                b.to_f64() * weight,
            ]
        })
        .map(T::of)
        .collect()
}

/// Runs a kernel on all tiles (`x_len` packed numbers and `out_len` results each) and keeps the
/// first `len` results.
fn run_tiles<V: Vector, K: Tile<V>>(
    kernel: &K,
    x: &[V::Elem],
    x_len: usize,
    out_len: usize,
    len: usize,
) -> Vec<K::Out> {
    let token = V::Token::detect().expect("packing has checked the instruction set");
    let mut out = vec![K::Out::default(); x.len() / x_len * out_len];
    out.par_chunks_exact_mut(out_len)
        .zip(x.par_chunks_exact(x_len))
        .for_each(|(out, x)| token.tile::<V, K>(kernel, x, out));
    out.truncate(len);
    out
}

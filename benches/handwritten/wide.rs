//! Gaussian sums in many dimensions, one signal column: register tiles of rows × columns.

use super::gaussian::Compensated;
use super::simd::{Real, Tile, Vector, exp2_leading, exp2_monic};
use super::{Error, Level, check_len, coordinate_scale, count_points, pack_tiles, run_tiles};

/// Panels of columns per block of the sums.
const BLOCK: usize = 32;

/// How squared distances are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistanceForm {
    /// Σ_d (x_d − y_d)²: exact to a few ulp of the distance.
    Differences,
    /// |x|² + |y|² − 2⟨x, y⟩ about the centroid of y: half of the operations (which gains nothing
    /// where additions have pipes of their own), an error of a few ulp of |x|² + |y|².
    InnerProducts,
}

/// out_i = Σ_j exp(−γ|x_i − y_j|²)·b_j in any dimension, packed.
#[derive(Clone, Debug)]
pub struct GaussianWide<T> {
    level: Level,
    form: DistanceForm,
    dim: usize,
    rows: usize,
    /// Tiles of rows: `dim` lines of coordinates and, for inner products, a line of |x|².
    x: Vec<T>,
    /// Panels of columns: `dim` lines of coordinates, a line of −|y|² (zero for differences) and
    /// a line of weights.
    y: Vec<T>,
}

/// (vectors of rows, columns) of the register tile: for every type and form the fastest on Zen 5,
/// or within 1 % of it.
const fn tile_shape(level: Level) -> (usize, usize) {
    match level {
        Level::Avx512 => (3, 5),
        Level::Avx2 => (2, 6),
    }
}

impl<T: Real> GaussianWide<T> {
    /// Packs `x` (M×dim), `y` (N×dim) and `b` (N), all row-major, `dim` ≥ 1.
    ///
    /// # Errors
    /// A CPU without `level`, arrays of inconsistent lengths, γ not positive and finite.
    pub fn pack(
        level: Level,
        form: DistanceForm,
        dim: usize,
        (x, y, b): (&[T], &[T], &[T]),
        gamma: T,
    ) -> Result<Self, Error> {
        let level = level.require()?;
        let rows = count_points("x", x, dim)?;
        let columns = count_points("y", y, dim)?;
        check_len("b", b, columns)?;
        let scale = coordinate_scale(gamma)?;
        let leading = match level {
            Level::Avx512 => exp2_leading::<T::Zmm>(),
            Level::Avx2 => exp2_leading::<T::Ymm>(),
        };
        let mut centre = vec![0.0; dim];
        if form == DistanceForm::InnerProducts {
            for y in y.chunks_exact(dim) {
                for (centre, y) in centre.iter_mut().zip(y) {
                    *centre += y.to_f64() / columns as f64;
                }
            }
        }

        let (r, c) = tile_shape(level);
        let width = r * level.lanes::<T>();
        let coordinate = |d: usize, x: f64| (x - centre[d]) * scale;
        let mut packed_x = pack_tiles(x, dim, width, coordinate);
        let mut packed_y = vec![T::default(); columns.div_ceil(c) * c * (dim + 2)];
        for (panel, (y, b)) in
            packed_y.chunks_exact_mut(c * (dim + 2)).zip(y.chunks(c * dim).zip(b.chunks(c)))
        {
            for (j, (y, b)) in y.chunks_exact(dim).zip(b).enumerate() {
                let mut norm = 0.0;
                for (d, y) in y.iter().enumerate() {
                    let y = T::of(coordinate(d, y.to_f64()));
                    norm += y.to_f64() * y.to_f64();
                    panel[d * c + j] = y;
                }
                if form == DistanceForm::InnerProducts {
                    panel[dim * c + j] = T::of(-norm);
                }
                panel[(dim + 1) * c + j] = T::of(b.to_f64() * leading);
            }
        }
        if form == DistanceForm::InnerProducts {
            packed_x = with_norms(&packed_x, dim, width);
        }
        Ok(Self { level, form, dim, rows, x: packed_x, y: packed_y })
    }

    /// The M sums.
    pub fn run(&self) -> Vec<T> {
        const ZMM: (usize, usize) = tile_shape(Level::Avx512);
        const YMM: (usize, usize) = tile_shape(Level::Avx2);
        match (self.level, self.form) {
            (Level::Avx512, DistanceForm::Differences) => {
                self.run_on::<T::Zmm, { ZMM.0 }, { ZMM.1 }, false>()
            }
            (Level::Avx512, DistanceForm::InnerProducts) => {
                self.run_on::<T::Zmm, { ZMM.0 }, { ZMM.1 }, true>()
            }
            (Level::Avx2, DistanceForm::Differences) => {
                self.run_on::<T::Ymm, { YMM.0 }, { YMM.1 }, false>()
            }
            (Level::Avx2, DistanceForm::InnerProducts) => {
                self.run_on::<T::Ymm, { YMM.0 }, { YMM.1 }, true>()
            }
        }
    }

    fn run_on<V: Vector<Elem = T>, const R: usize, const C: usize, const INNER: bool>(
        &self,
    ) -> Vec<T> {
        let lines = self.dim + usize::from(INNER);
        let kernel = Sum::<_, R, C, INNER> { dim: self.dim, y: &self.y };
        let width = R * V::LANES;
        run_tiles::<V, _>(&kernel, &self.x, lines * width, width, self.rows)
    }
}

/// Doubles the coordinates of the tiles and appends a line of |x|² to each.
fn with_norms<T: Real>(x: &[T], dim: usize, width: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(x.len() / dim * (dim + 1));
    for tile in x.chunks_exact(dim * width) {
        out.extend(tile.iter().map(|x| T::of(2.0 * x.to_f64())));
        for i in 0..width {
            let norm: f64 = tile.iter().skip(i).step_by(width).map(|x| x.to_f64().powi(2)).sum();
            out.push(T::of(norm));
        }
    }
    out
}

/// Kernel of [`GaussianWide`]: `R` vectors of rows × `C` columns in registers.
struct Sum<'a, T, const R: usize, const C: usize, const INNER: bool> {
    dim: usize,
    y: &'a [T],
}

impl<V: Vector, const R: usize, const C: usize, const INNER: bool> Tile<V>
    for Sum<'_, V::Elem, R, C, INNER>
{
    type Out = V::Elem;

    #[inline(always)]
    fn tile(&self, token: V::Token, x: &[V::Elem], out: &mut [V::Elem]) {
        let zero = V::splat(token, V::Elem::of(0.0));
        let lines = self.dim * R * V::LANES;
        let panel_len = (self.dim + 2) * C;
        let mut total = [Compensated::zero(token); R];
        for block in self.y.chunks(BLOCK * panel_len) {
            let mut sum = [zero; R];
            for panel in block.chunks_exact(panel_len) {
                let (coordinates, rest) = panel.split_at(self.dim * C);
                let (minus_norms, weights) = rest.split_at(C);
                let mut t = [[zero; R]; C];
                for c in 0..C {
                    t[c] = [V::splat(token, minus_norms[c]); R];
                }
                for (x, y) in x[..lines].chunks_exact(R * V::LANES).zip(coordinates.chunks_exact(C))
                {
                    let mut rows = [zero; R];
                    for r in 0..R {
                        rows[r] = V::load(token, &x[r * V::LANES..]);
                    }
                    for c in 0..C {
                        let y = V::splat(token, y[c]);
                        for r in 0..R {
                            t[c][r] = if INNER {
                                rows[r].mul_add(y, t[c][r])
                            } else {
                                let d = rows[r] - y;
                                d.neg_mul_add(d, t[c][r])
                            };
                        }
                    }
                }
                for c in 0..C {
                    if INNER {
                        for r in 0..R {
                            let norm = V::load(token, &x[lines + r * V::LANES..]);
                            t[c][r] = (t[c][r] - norm).min(zero);
                        }
                    }
                    let k = exp2_monic(token, t[c]);
                    let weight = V::splat(token, weights[c]);
                    for r in 0..R {
                        sum[r] = k[r].mul_add(weight, sum[r]);
                    }
                }
            }
            for r in 0..R {
                total[r].add(sum[r]);
            }
        }
        for r in 0..R {
            total[r].value().store(&mut out[r * V::LANES..]);
        }
    }
}

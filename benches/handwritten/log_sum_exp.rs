//! Log-sum-exp of minus squared distances in three dimensions.

use super::gaussian::{differences, load_rows};
use super::simd::{Real, Tile, Vector, exp2_leading, exp2_monic};
use super::{Error, Level, coordinate_scale, count_points, pack_tiles, run_tiles};

/// Columns per block.
const BLOCK: usize = 36;

/// Columns in flight: the fastest on Zen 5, or within 1 % of it.
const UNROLL: usize = 6;

/// How far (in powers of two) a block may exceed the maximum that its exponentials are divided
/// by before it is done again with its own: 2⁶⁰ times any number of columns fits in f32.
const SLACK: f64 = 60.0;

/// out_i = log Σ_j exp(−γ|x_i − y_j|²), packed.
#[derive(Clone, Debug)]
pub struct LogSumExpD3<T> {
    level: Level,
    rows: usize,
    /// Tiles of one vector of rows.
    x: Vec<T>,
    /// Columns y₀, y₁, y₂.
    y: Vec<T>,
}

impl<T: Real> LogSumExpD3<T> {
    /// Packs `x` (M×3) and `y` (N×3, N ≥ 1), row-major.
    ///
    /// # Errors
    /// A CPU without `level`, lengths that are not multiples of 3, no columns, γ not positive
    /// and finite.
    pub fn pack(level: Level, x: &[T], y: &[T], gamma: T) -> Result<Self, Error> {
        let level = level.require()?;
        let rows = count_points("x", x, 3)?;
        if count_points("y", y, 3)? == 0 {
            let expected = "at least 3".to_owned();
            return Err(Error::Length { variable: "y", expected, got: 0 });
        }
        let scale = coordinate_scale(gamma)?;
        Ok(Self {
            level,
            rows,
            x: pack_tiles(x, 3, level.lanes::<T>(), |_, x| x * scale),
            y: y.iter().map(|y| T::of(y.to_f64() * scale)).collect(),
        })
    }

    /// The M logarithms.
    pub fn run(&self) -> Vec<T> {
        match self.level {
            Level::Avx512 => self.run_on::<T::Zmm>(),
            Level::Avx2 => self.run_on::<T::Ymm>(),
        }
    }

    fn run_on<V: Vector<Elem = T>>(&self) -> Vec<T> {
        let kernel = LogSumExp(&self.y);
        run_tiles::<V, _>(&kernel, &self.x, 3 * V::LANES, V::LANES, self.rows)
    }
}

/// Kernel of [`LogSumExpD3`].
///
/// One pass: a block is summed relative to the maximum of the blocks before it (which starts the
/// squared distance, so that subtracting it costs nothing) while its own maximum is taken on the
/// side; only a block that exceeds the old maximum by [`SLACK`] is summed again.
struct LogSumExp<'a, T>(&'a [T]);

/// −|x − y|² − max for `N` columns.
#[inline(always)]
fn exponents<V: Vector, const N: usize>(
    token: V::Token,
    x: &[V; 3],
    y: &[V::Elem],
    minus_max: V,
) -> [V; N] {
    let d = differences::<V, N, 3>(token, x, y);
    let mut t = [minus_max; N];
    for axis in 0..3 {
        for n in 0..N {
            t[n] = d[n][axis].neg_mul_add(d[n][axis], t[n]);
        }
    }
    t
}

impl<T: Real> LogSumExp<'_, T> {
    /// Adds `N` columns to a block's sum and maximum.
    #[inline(always)]
    fn step<V: Vector<Elem = T>, const N: usize>(
        token: V::Token,
        x: &[V; 3],
        y: &[T],
        minus_max: V,
        (sum, max): (&mut V, &mut V),
    ) {
        let t = exponents::<V, N>(token, x, y, minus_max);
        for n in 0..N {
            *max = max.max(t[n]);
        }
        let k = exp2_monic(token, t);
        let leading = V::splat(token, T::of(exp2_leading::<V>()));
        for n in 0..N {
            *sum = k[n].mul_add(leading, *sum);
        }
    }
}

impl<V: Vector> Tile<V> for LogSumExp<'_, V::Elem> {
    type Out = V::Elem;

    #[inline(always)]
    fn tile(&self, token: V::Token, x: &[V::Elem], out: &mut [V::Elem]) {
        let x = load_rows::<V>(token, x);
        let zero = V::splat(token, V::Elem::of(0.0));
        let slack = V::splat(token, V::Elem::of(SLACK));
        let leading = V::splat(token, V::Elem::of(exp2_leading::<V>()));

        let [mut start] = exponents::<V, 1>(token, &x, self.0, zero);
        for y in self.0.chunks_exact(3).take(BLOCK) {
            start = start.max(exponents::<V, 1>(token, &x, y, zero)[0]);
        }
        let mut minus_max = zero - start;
        let mut total = zero;
        for block in self.0.chunks(3 * BLOCK) {
            loop {
                let (mut sum, mut max) = (zero, zero);
                let columns = block.chunks_exact(3 * UNROLL);
                let rest = columns.remainder();
                for y in columns {
                    Self::step::<V, UNROLL>(token, &x, y, minus_max, (&mut sum, &mut max));
                }
                for y in rest.chunks_exact(3) {
                    Self::step::<V, 1>(token, &x, y, minus_max, (&mut sum, &mut max));
                }
                if slack.lt(max) == 0 {
                    total = total + sum;
                    break;
                }
                minus_max = minus_max - max;
                let [factor] = exp2_monic(token, [zero - max]);
                total = total * (factor * leading);
            }
        }
        let (mut sums, mut minus_maxima) = ([V::Elem::default(); 16], [V::Elem::default(); 16]);
        total.store(&mut sums);
        minus_max.store(&mut minus_maxima);
        for ((out, sum), minus_max) in out.iter_mut().zip(sums).zip(minus_maxima) {
            let log2 = sum.to_f64().log2() - minus_max.to_f64();
            *out = V::Elem::of(log2 * core::f64::consts::LN_2);
        }
    }
}

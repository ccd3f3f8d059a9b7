//! Gaussian sums in three dimensions, one signal column, and their gradient in x.

use super::simd::{Real, Tile, Vector, exp2_leading, exp2_monic};
use super::{
    Error, Level, check_len, coordinate_scale, count_points, pack_tiles, pack_weighted, run_tiles,
};

/// Columns per block of the sums: single precision adds at most this many terms naively, the
/// sums of the blocks are added with compensation.
const BLOCK: usize = 252;

/// out_i = Σ_j exp(−γ|x_i − y_j|²)·b_j, packed.
#[derive(Clone, Debug)]
pub struct GaussianD3<T>(Packed<T>);

/// out_i = Σ_j −2γ·exp(−γ|x_i − y_j|²)·b_j·(x_i − y_j), packed: the gradient in x_i of Σ_i
/// e_i·Σ_j exp(−γ|x_i − y_j|²)·b_j with the cotangent e = 1.
#[derive(Clone, Debug)]
pub struct GaussianGradientD3<T> {
    packed: Packed<T>,
    /// From sums of scaled differences to the gradient: −2γ/√(γ·log₂e).
    factor: f64,
}

/// Tiles of one vector of rows; columns y₀, y₁, y₂, b.
#[derive(Clone, Debug)]
struct Packed<T> {
    level: Level,
    rows: usize,
    x: Vec<T>,
    y: Vec<T>,
}

impl<T: Real> Packed<T> {
    fn new(level: Level, x: &[T], y: &[T], b: &[T], gamma: T) -> Result<Self, Error> {
        let level = level.require()?;
        let rows = count_points("x", x, 3)?;
        check_len("b", b, count_points("y", y, 3)?)?;
        let scale = coordinate_scale(gamma)?;
        let leading = match level {
            Level::Avx512 => exp2_leading::<T::Zmm>(),
            Level::Avx2 => exp2_leading::<T::Ymm>(),
        };
        Ok(Self {
            level,
            rows,
            x: pack_tiles(x, 3, level.lanes::<T>(), |_, x| x * scale),
            y: pack_weighted(y, b, scale, leading),
        })
    }
}

impl<T: Real> GaussianD3<T> {
    /// Packs `x` (M×3), `y` (N×3) and `b` (N), all row-major.
    ///
    /// # Errors
    /// A CPU without `level`, arrays of inconsistent lengths, γ not positive and finite.
    pub fn pack(level: Level, x: &[T], y: &[T], b: &[T], gamma: T) -> Result<Self, Error> {
        Packed::new(level, x, y, b, gamma).map(Self)
    }

    /// The M sums.
    pub fn run(&self) -> Vec<T> {
        // Columns in flight: the fastest on Zen 5.
        match (self.0.level, size_of::<T>()) {
            (Level::Avx512, 4) => self.run_on::<T::Zmm, 3>(),
            (Level::Avx512, _) => self.run_on::<T::Zmm, 6>(),
            (Level::Avx2, _) => self.run_on::<T::Ymm, 6>(),
        }
    }

    fn run_on<V: Vector<Elem = T>, const U: usize>(&self) -> Vec<T> {
        let Packed { rows, x, y, .. } = &self.0;
        run_tiles::<V, _>(&Sum::<_, U>(y), x, 3 * V::LANES, V::LANES, *rows)
    }
}

impl<T: Real> GaussianGradientD3<T> {
    /// Packs `x` (M×3), `y` (N×3) and `b` (N), all row-major.
    ///
    /// # Errors
    /// A CPU without `level`, arrays of inconsistent lengths, γ not positive and finite.
    pub fn pack(level: Level, x: &[T], y: &[T], b: &[T], gamma: T) -> Result<Self, Error> {
        let factor = -2.0 * gamma.to_f64() / coordinate_scale(gamma)?;
        Ok(Self { packed: Packed::new(level, x, y, b, gamma)?, factor })
    }

    /// The gradient, M×3 row-major.
    pub fn run(&self) -> Vec<T> {
        match self.packed.level {
            Level::Avx512 => self.run_on::<T::Zmm, 2>(),
            Level::Avx2 => self.run_on::<T::Ymm, 4>(),
        }
    }

    fn run_on<V: Vector<Elem = T>, const U: usize>(&self) -> Vec<T> {
        let Packed { rows, x, y, .. } = &self.packed;
        let kernel = Gradient::<_, U> { y, factor: T::of(self.factor) };
        run_tiles::<V, _>(&kernel, x, 3 * V::LANES, 3 * V::LANES, 3 * rows)
    }
}

/// The three coordinates of one vector of rows.
#[inline(always)]
pub(super) fn load_rows<V: Vector>(token: V::Token, x: &[V::Elem]) -> [V; 3] {
    [V::load(token, x), V::load(token, &x[V::LANES..]), V::load(token, &x[2 * V::LANES..])]
}

/// x − y for `U` columns of `STRIDE` numbers each.
#[inline(always)]
pub(super) fn differences<V: Vector, const U: usize, const STRIDE: usize>(
    token: V::Token,
    x: &[V; 3],
    y: &[V::Elem],
) -> [[V; 3]; U] {
    let mut d = [*x; U];
    for axis in 0..3 {
        for u in 0..U {
            d[u][axis] = x[axis] - V::splat(token, y[STRIDE * u + axis]);
        }
    }
    d
}

/// −|d|² for `U` differences, one step for all of them before the next.
#[inline(always)]
fn exponents<V: Vector, const U: usize>(d: &[[V; 3]; U]) -> [V; U] {
    let mut t = [d[0][0]; U];
    for u in 0..U {
        t[u] = d[u][0] * d[u][0];
    }
    for u in 0..U {
        t[u] = d[u][1].neg_mul_sub(d[u][1], t[u]);
    }
    for u in 0..U {
        t[u] = d[u][2].neg_mul_add(d[u][2], t[u]);
    }
    t
}

/// A compensated sum (Kahan): `total` and what it has lost.
#[derive(Clone, Copy)]
pub(super) struct Compensated<V> {
    total: V,
    lost: V,
}

impl<V: Vector> Compensated<V> {
    #[inline(always)]
    pub(super) fn zero(token: V::Token) -> Self {
        let zero = V::splat(token, V::Elem::of(0.0));
        Self { total: zero, lost: zero }
    }

    #[inline(always)]
    pub(super) fn add(&mut self, term: V) {
        let term = term - self.lost;
        let total = self.total + term;
        self.lost = (total - self.total) - term;
        self.total = total;
    }

    #[inline(always)]
    pub(super) fn value(self) -> V {
        self.total
    }
}

/// Kernel of [`GaussianD3`], `U` columns in flight.
struct Sum<'a, T, const U: usize>(&'a [T]);

impl<T, const U: usize> Sum<'_, T, U> {
    /// Adds `N` columns.
    #[inline(always)]
    fn step<V: Vector<Elem = T>, const N: usize>(token: V::Token, x: &[V; 3], y: &[T], sum: &mut V)
    where
        T: Real,
    {
        let k = exp2_monic(token, exponents(&differences::<V, N, 4>(token, x, y)));
        for u in 0..N {
            *sum = k[u].mul_add(V::splat(token, y[4 * u + 3]), *sum);
        }
    }
}

impl<V: Vector, const U: usize> Tile<V> for Sum<'_, V::Elem, U> {
    type Out = V::Elem;

    #[inline(always)]
    fn tile(&self, token: V::Token, x: &[V::Elem], out: &mut [V::Elem]) {
        let x = load_rows::<V>(token, x);
        let mut total = Compensated::zero(token);
        for block in self.0.chunks(4 * BLOCK) {
            let mut sum = V::splat(token, V::Elem::of(0.0));
            let columns = block.chunks_exact(4 * U);
            let rest = columns.remainder();
            for y in columns {
                Self::step::<V, U>(token, &x, y, &mut sum);
            }
            for y in rest.chunks_exact(4) {
                Self::step::<V, 1>(token, &x, y, &mut sum);
            }
            total.add(sum);
        }
        total.value().store(out);
    }
}

/// Kernel of [`GaussianGradientD3`], `U` columns in flight.
struct Gradient<'a, T, const U: usize> {
    y: &'a [T],
    factor: T,
}

impl<T, const U: usize> Gradient<'_, T, U> {
    /// Adds `N` columns.
    #[inline(always)]
    fn step<V: Vector<Elem = T>, const N: usize>(
        token: V::Token,
        x: &[V; 3],
        y: &[T],
        sum: &mut [V; 3],
    ) where
        T: Real,
    {
        let d = differences::<V, N, 4>(token, x, y);
        let mut k = exp2_monic(token, exponents(&d));
        for u in 0..N {
            k[u] = k[u] * V::splat(token, y[4 * u + 3]);
        }
        for axis in 0..3 {
            for u in 0..N {
                sum[axis] = k[u].mul_add(d[u][axis], sum[axis]);
            }
        }
    }
}

impl<V: Vector, const U: usize> Tile<V> for Gradient<'_, V::Elem, U> {
    type Out = V::Elem;

    #[inline(always)]
    fn tile(&self, token: V::Token, x: &[V::Elem], out: &mut [V::Elem]) {
        let x = load_rows::<V>(token, x);
        let mut total = [Compensated::zero(token); 3];
        for block in self.y.chunks(4 * BLOCK) {
            let mut sum = [V::splat(token, V::Elem::of(0.0)); 3];
            let columns = block.chunks_exact(4 * U);
            let rest = columns.remainder();
            for y in columns {
                Self::step::<V, U>(token, &x, y, &mut sum);
            }
            for y in rest.chunks_exact(4) {
                Self::step::<V, 1>(token, &x, y, &mut sum);
            }
            for axis in 0..3 {
                total[axis].add(sum[axis]);
            }
        }
        let mut lanes = [V::Elem::default(); 16];
        for axis in 0..3 {
            (total[axis].value() * V::splat(token, self.factor)).store(&mut lanes);
            for (row, &lane) in out.chunks_exact_mut(3).zip(&lanes) {
                row[axis] = lane;
            }
        }
    }
}

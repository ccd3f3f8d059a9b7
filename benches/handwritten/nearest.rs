//! The nearest columns of each row in three dimensions, by squared distance.

use super::simd::{Real, Tile, Vector};
use super::{Error, Level, count_points, pack_tiles, run_tiles};

/// Columns of [`ArgKMinD3`].
pub const K: usize = 10;

/// Columns per group: a group's minimum is kept, and its columns are looked at one by one only
/// where that minimum matters.
const GROUP: usize = 64;

/// Numbers of groups are exact as f32.
const MAX_COLUMNS: usize = GROUP << 24;

/// Groups per pass of [`Selection::GroupMinima`]: their minima stay in the second-level cache.
const GROUPS: usize = 512;

/// The tallest tile, in rows.
const MAX_WIDTH: usize = 64;

/// Vectors of rows in flight: the fastest on Zen 5, or within 1 % of it.
const ARG_MIN_ROWS: usize = 4;
const INSERTION_ROWS: usize = 2;
const GROUP_MINIMA_ROWS: usize = 2;

/// Index of the nearest column (the first of several), packed.
#[derive(Clone, Debug)]
pub struct ArgMinD3<T>(Packed<T>);

/// How [`ArgKMinD3`] finds the nearest columns. The results are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Each vector of distances is compared with the K-th best so far of its rows; the rare
    /// smaller ones are inserted into sorted lists one by one.
    Insertion,
    /// Minima of groups of columns first: the K-th smallest of them (kept by an unconditional
    /// insertion network, all lanes at once) bounds the K-th smallest distance, and only groups
    /// below the bound are searched for insertions. About K insertions per row instead of
    /// K·(1 + ln(N/K)).
    GroupMinima,
}

/// Indices of the [`K`] nearest columns in ascending order of distance (of index where equal),
/// packed.
#[derive(Clone, Debug)]
pub struct ArgKMinD3<T> {
    packed: Packed<T>,
    selection: Selection,
}

/// Tiles of rows; groups of columns, coordinate by coordinate, the last one filled with points
/// at infinity.
#[derive(Clone, Debug)]
struct Packed<T> {
    level: Level,
    rows: usize,
    x: Vec<T>,
    y: Vec<T>,
}

impl<T: Real> Packed<T> {
    fn new(level: Level, x: &[T], y: &[T], vectors: usize, least: usize) -> Result<Self, Error> {
        let level = level.require()?;
        let rows = count_points("x", x, 3)?;
        let columns = count_points("y", y, 3)?;
        if columns < least || columns > MAX_COLUMNS {
            let expected = format!("{} to {}", 3 * least, 3 * MAX_COLUMNS);
            return Err(Error::Length { variable: "y", expected, got: y.len() });
        }
        let mut packed = vec![T::of(f64::INFINITY); columns.div_ceil(GROUP) * GROUP * 3];
        for (group, y) in packed.chunks_exact_mut(3 * GROUP).zip(y.chunks(3 * GROUP)) {
            for (j, y) in y.chunks_exact(3).enumerate() {
                for (d, &y) in y.iter().enumerate() {
                    group[d * GROUP + j] = y;
                }
            }
        }
        let x = pack_tiles(x, 3, vectors * level.lanes::<T>(), |_, x| x);
        Ok(Self { level, rows, x, y: packed })
    }
}

impl<T: Real> ArgMinD3<T> {
    /// Packs `x` (M×3) and `y` (N×3, 1 ≤ N ≤ 2³⁰), row-major.
    ///
    /// # Errors
    /// A CPU without `level`, lengths that are not multiples of 3, too few or too many columns.
    pub fn pack(level: Level, x: &[T], y: &[T]) -> Result<Self, Error> {
        Packed::new(level, x, y, ARG_MIN_ROWS, 1).map(Self)
    }

    /// The M indices.
    pub fn run(&self) -> Vec<u32> {
        match self.0.level {
            Level::Avx512 => self.run_on::<T::Zmm>(),
            Level::Avx2 => self.run_on::<T::Ymm>(),
        }
    }

    fn run_on<V: Vector<Elem = T>>(&self) -> Vec<u32> {
        let Packed { rows, x, y, .. } = &self.0;
        let width = ARG_MIN_ROWS * V::LANES;
        run_tiles::<V, _>(&ArgMin(y), x, 3 * width, width, *rows)
    }
}

impl<T: Real> ArgKMinD3<T> {
    /// Packs `x` (M×3) and `y` (N×3, [`K`] ≤ N ≤ 2³⁰), row-major.
    ///
    /// # Errors
    /// A CPU without `level`, lengths that are not multiples of 3, too few or too many columns.
    pub fn pack(level: Level, selection: Selection, x: &[T], y: &[T]) -> Result<Self, Error> {
        let vectors = match selection {
            Selection::Insertion => INSERTION_ROWS,
            Selection::GroupMinima => GROUP_MINIMA_ROWS,
        };
        Ok(Self { packed: Packed::new(level, x, y, vectors, K)?, selection })
    }

    /// The indices, M×[`K`] row-major.
    pub fn run(&self) -> Vec<u32> {
        match self.packed.level {
            Level::Avx512 => self.run_on::<T::Zmm>(),
            Level::Avx2 => self.run_on::<T::Ymm>(),
        }
    }

    fn run_on<V: Vector<Elem = T>>(&self) -> Vec<u32> {
        let Packed { rows, x, y, .. } = &self.packed;
        match self.selection {
            Selection::Insertion => {
                let width = INSERTION_ROWS * V::LANES;
                run_tiles::<V, _>(&Insertion(y), x, 3 * width, K * width, K * rows)
            }
            Selection::GroupMinima => {
                let width = GROUP_MINIMA_ROWS * V::LANES;
                run_tiles::<V, _>(&GroupMinima(y), x, 3 * width, K * width, K * rows)
            }
        }
    }
}

/// Squared distances; the same operations in the same order wherever a distance is computed, so
/// that the same pair always gives the same bits.
#[inline(always)]
fn squared_distance<V: Vector>(x: &[V; 3], y: &[V; 3]) -> V {
    let (d0, d1, d2) = (x[0] - y[0], x[1] - y[1], x[2] - y[2]);
    d2.mul_add(d2, d1.mul_add(d1, d0 * d0))
}

/// Column `j` of a group in all lanes.
#[inline(always)]
fn column<V: Vector>(token: V::Token, group: &[V::Elem], j: usize) -> [V; 3] {
    [
        V::splat(token, group[j]),
        V::splat(token, group[GROUP + j]),
        V::splat(token, group[2 * GROUP + j]),
    ]
}

/// `V::LANES` columns of a group from `j` on, one per lane.
#[inline(always)]
fn columns<V: Vector>(token: V::Token, group: &[V::Elem], j: usize) -> [V; 3] {
    [
        V::load(token, &group[j..]),
        V::load(token, &group[GROUP + j..]),
        V::load(token, &group[2 * GROUP + j..]),
    ]
}

/// `R` vectors of rows of a tile.
#[inline(always)]
fn load_rows<V: Vector, const R: usize>(token: V::Token, x: &[V::Elem]) -> [[V; 3]; R] {
    let mut rows = [[V::splat(token, V::Elem::default()); 3]; R];
    for r in 0..R {
        for d in 0..3 {
            rows[r][d] = V::load(token, &x[(d * R + r) * V::LANES..]);
        }
    }
    rows
}

/// Row `i` of a tile of `width` rows in all lanes.
#[inline(always)]
fn row<V: Vector>(token: V::Token, x: &[V::Elem], width: usize, i: usize) -> [V; 3] {
    [V::splat(token, x[i]), V::splat(token, x[width + i]), V::splat(token, x[2 * width + i])]
}

/// The minimum over a group for `R` vectors of rows.
#[inline(always)]
fn group_minimum<V: Vector, const R: usize>(
    token: V::Token,
    rows: &[[V; 3]; R],
    group: &[V::Elem],
) -> [V; R] {
    let group = &group[..3 * GROUP];
    let mut minimum = [V::splat(token, V::Elem::of(f64::INFINITY)); R];
    for j in 0..GROUP {
        let y = column(token, group, j);
        for r in 0..R {
            minimum[r] = squared_distance(&rows[r], &y).min_nonnegative(minimum[r]);
        }
    }
    minimum
}

/// Kernel of [`ArgMinD3`]: minima of groups, and the number of the group that improved; at the
/// end each row searches its group.
struct ArgMin<'a, T>(&'a [T]);

impl<V: Vector> Tile<V> for ArgMin<'_, V::Elem> {
    type Out = u32;

    #[inline(always)]
    fn tile(&self, token: V::Token, x: &[V::Elem], out: &mut [u32]) {
        const R: usize = ARG_MIN_ROWS;
        let rows = load_rows::<V, R>(token, x);
        let one = V::splat(token, V::Elem::of(1.0));
        let mut best = [V::splat(token, V::Elem::of(f64::INFINITY)); R];
        // Exact as floats: 2²⁴ groups hold 2³⁰ columns.
        let mut number = V::splat(token, V::Elem::of(0.0));
        let mut best_group = [number; R];
        for group in self.0.chunks_exact(3 * GROUP) {
            let minimum = group_minimum(token, &rows, group);
            for r in 0..R {
                best_group[r] = minimum[r].lt_select(best[r], number, best_group[r]);
                best[r] = minimum[r].min(best[r]);
            }
            number = number + one;
        }
        let (mut values, mut groups) = ([V::Elem::default(); 16], [V::Elem::default(); 16]);
        for r in 0..R {
            best[r].store(&mut values);
            best_group[r].store(&mut groups);
            for l in 0..V::LANES {
                let i = r * V::LANES + l;
                let x = row::<V>(token, x, R * V::LANES, i);
                let value = V::splat(token, values[l]);
                let group = groups[l].to_f64() as usize;
                let y = &self.0[3 * GROUP * group..][..3 * GROUP];
                let mut j = 0;
                while j < GROUP {
                    let found = squared_distance(&x, &columns(token, y, j)).le(value);
                    if found != 0 {
                        j += found.trailing_zeros() as usize;
                        break;
                    }
                    j += V::LANES;
                }
                out[i] = (group * GROUP + j) as u32;
            }
        }
    }
}

/// The K smallest values of a row so far, ascending, and their indices.
#[derive(Clone, Copy)]
struct Shortlist<T> {
    values: [T; K],
    indices: [u32; K],
}

impl<T: Real> Shortlist<T> {
    fn new() -> Self {
        Self { values: [T::of(f64::INFINITY); K], indices: [0; K] }
    }

    /// Inserts a value smaller than the last one, after its equals.
    #[inline(always)]
    fn insert(&mut self, value: T, index: u32) {
        let mut k = K - 1;
        while k > 0 && self.values[k - 1] > value {
            self.values[k] = self.values[k - 1];
            self.indices[k] = self.indices[k - 1];
            k -= 1;
        }
        self.values[k] = value;
        self.indices[k] = index;
    }
}

/// Kernel of [`Selection::Insertion`].
struct Insertion<'a, T>(&'a [T]);

impl<V: Vector> Tile<V> for Insertion<'_, V::Elem> {
    type Out = u32;

    #[inline(always)]
    fn tile(&self, token: V::Token, x: &[V::Elem], out: &mut [u32]) {
        const R: usize = INSERTION_ROWS;
        let rows = load_rows::<V, R>(token, x);
        let infinity = V::splat(token, V::Elem::of(f64::INFINITY));
        let mut threshold = [infinity; R];
        let mut thresholds = [[V::Elem::of(f64::INFINITY); 16]; R];
        let mut lists = [Shortlist::new(); MAX_WIDTH];
        let mut values = [V::Elem::default(); 16];
        let mut first = 0;
        for group in self.0.chunks_exact(3 * GROUP) {
            for j in 0..GROUP {
                let y = column(token, group, j);
                let mut distance = [infinity; R];
                let mut hits = [0; R];
                let mut any = 0;
                for r in 0..R {
                    distance[r] = squared_distance(&rows[r], &y);
                    hits[r] = distance[r].lt(threshold[r]);
                    any |= hits[r];
                }
                if any == 0 {
                    continue;
                }
                for r in 0..R {
                    if hits[r] == 0 {
                        continue;
                    }
                    distance[r].store(&mut values);
                    while hits[r] != 0 {
                        let l = hits[r].trailing_zeros() as usize;
                        hits[r] &= hits[r] - 1;
                        let list = &mut lists[r * V::LANES + l];
                        list.insert(values[l], first + j as u32);
                        thresholds[r][l] = list.values[K - 1];
                    }
                    threshold[r] = V::load(token, &thresholds[r]);
                }
            }
            first += GROUP as u32;
        }
        for (out, list) in out.chunks_exact_mut(K).zip(&lists) {
            out.copy_from_slice(&list.indices);
        }
    }
}

/// Kernel of [`Selection::GroupMinima`].
struct GroupMinima<'a, T>(&'a [T]);

impl<V: Vector> Tile<V> for GroupMinima<'_, V::Elem> {
    type Out = u32;

    #[inline(always)]
    fn tile(&self, token: V::Token, x: &[V::Elem], out: &mut [u32]) {
        const R: usize = GROUP_MINIMA_ROWS;
        let rows = load_rows::<V, R>(token, x);
        let infinity = V::splat(token, V::Elem::of(f64::INFINITY));
        let mut minima = [[infinity; R]; GROUPS];
        let mut lists = [Shortlist::new(); MAX_WIDTH];
        let mut bounds = [V::Elem::default(); 16];
        let mut first = 0;
        for pass in self.0.chunks(3 * GROUP * GROUPS) {
            let mut smallest = [[infinity; K]; R];
            for (group, minima) in pass.chunks_exact(3 * GROUP).zip(&mut minima) {
                *minima = group_minimum(token, &rows, group);
                for r in 0..R {
                    let mut value = minima[r];
                    for k in 0..K {
                        let smaller = smallest[r][k].min(value);
                        value = smallest[r][k].max(value);
                        smallest[r][k] = smaller;
                    }
                }
            }
            for r in 0..R {
                for l in 0..V::LANES {
                    bounds[l] = lists[r * V::LANES + l].values[K - 1];
                }
                // Columns as good as the K-th best group are wanted, and so are those that beat
                // (or, harmlessly, equal) the list.
                let bound = V::load(token, &bounds).min(smallest[r][K - 1]);
                bound.store(&mut bounds);
                for (g, (group, minima)) in pass.chunks_exact(3 * GROUP).zip(&minima).enumerate() {
                    let mut hits = minima[r].le(bound);
                    while hits != 0 {
                        let l = hits.trailing_zeros() as usize;
                        hits &= hits - 1;
                        let i = r * V::LANES + l;
                        let x = row::<V>(token, x, R * V::LANES, i);
                        let index = first + (g * GROUP) as u32;
                        search(token, &x, group, bounds[l], index, &mut lists[i]);
                    }
                }
            }
            first += (GROUP * GROUPS) as u32;
        }
        for (out, list) in out.chunks_exact_mut(K).zip(&lists) {
            out.copy_from_slice(&list.indices);
        }
    }
}

/// Inserts the columns of a group (the first is `index`) that are within `bound` of one row.
#[inline(always)]
fn search<V: Vector>(
    token: V::Token,
    x: &[V; 3],
    group: &[V::Elem],
    bound: V::Elem,
    index: u32,
    list: &mut Shortlist<V::Elem>,
) {
    let bound = V::splat(token, bound);
    let mut values = [V::Elem::default(); 16];
    let mut j = 0;
    while j < GROUP {
        let distance = squared_distance(x, &columns(token, group, j));
        let mut hits = distance.le(bound);
        if hits != 0 {
            distance.store(&mut values);
            while hits != 0 {
                let l = hits.trailing_zeros() as usize;
                hits &= hits - 1;
                if values[l] < list.values[K - 1] {
                    list.insert(values[l], index + (j + l) as u32);
                }
            }
        }
        j += V::LANES;
    }
}

//! Block-sparse reductions: which blocks of rows meet which ranges of columns.
//!
//! ```
//! use keops_core::ranges::Ranges;
//! use keops_core::spec::Axis;
//!
//! // Rows of one group meet columns of the same group (labels are sorted).
//! let ranges = Ranges::same_labels(&["a", "a", "b"], &["a", "b", "b", "c"])?;
//! assert_eq!(ranges.pairs(), 2 * 1 + 1 * 2);
//! assert_eq!(ranges.pattern(Axis::J)?.blocks, [[0, 2], [2, 3]]);
//! assert_eq!(ranges.pattern(Axis::J)?.of_block(1), [[1, 3]]);
//! // The same pairs, for reductions over i and for gradients:
//! assert_eq!(ranges.pattern(Axis::I)?.blocks, [[0, 1], [1, 3]]);
//! # Ok::<(), keops_core::error::Error>(())
//! ```

mod clusters;
mod grid;

pub use clusters::{Clusters, MAX_CLUSTERS, cluster_ranges, sort_clusters};
pub use grid::{cluster_centroids, grid_cluster};

use crate::error::{InputError, OutOfMemory};
use crate::memory;
use crate::spec::Axis;
use std::any::Any;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Blocks of kept rows, each with the ranges of reduced rows that it meets.
///
/// ```
/// use keops_core::ranges::{Pattern, Ranges};
/// // Rows 0..2 meet columns 0..4, rows 2..5 meet columns 0..1 and 3..4.
/// let pattern = Pattern {
///     blocks: vec![[0, 2], [2, 5]],
///     slices: vec![1, 3],
///     reduced: vec![[0, 4], [0, 1], [3, 4]],
/// };
/// assert_eq!(Ranges::from_pattern(pattern)?.pairs(), 2 * 4 + 3 * 2);
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pattern {
    /// `[start, end)` of kept rows.
    pub blocks: Vec<[usize; 2]>,
    /// One past the last entry of `reduced` of each block (an implicit 0 comes first).
    pub slices: Vec<usize>,
    /// `[start, end)` of reduced rows.
    pub reduced: Vec<[usize; 2]>,
}

/// Names of the parts of a pattern, for messages: those of KeOps.
const NAMES: [[&str; 3]; 2] =
    [["ranges_i", "slices_i", "redranges_j"], ["ranges_j", "slices_j", "redranges_i"]];

/// What memory is for, in messages.
const WHAT: &str = "ranges";

fn fail<T>(message: String) -> Result<T, InputError> {
    Err(InputError::Ranges(message))
}

impl Pattern {
    /// Ranges of reduced rows that block `k` meets; none if there is no such block.
    ///
    /// ```
    /// use keops_core::{ranges::Ranges, spec::Axis};
    /// let ranges = Ranges::from_clusters(&[2, 5], &[1, 4], &[true, false, true, true])?;
    /// let over_j = ranges.pattern(Axis::J)?;
    /// assert_eq!(over_j.of_block(0), [[0, 1]]);
    /// assert_eq!(over_j.of_block(1), [[0, 1], [1, 4]]);
    /// assert!(over_j.of_block(2).is_empty());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn of_block(&self, k: usize) -> &[[usize; 2]] {
        let end = self.slices.get(k).copied().unwrap_or(0);
        let start = if k == 0 { 0 } else { self.slices.get(k - 1).copied().unwrap_or(0) };
        self.reduced.get(start..end).unwrap_or(&[])
    }
    /// Checks everything but the numbers of rows.
    fn check(&self, names: [&str; 3]) -> Result<(), InputError> {
        if self.slices.len() != self.blocks.len() {
            return fail(format!(
                "{} has {} entries, {} has {} blocks: they must agree",
                names[1],
                self.slices.len(),
                names[0],
                self.blocks.len()
            ));
        }
        for (list, name) in [(&self.blocks, names[0]), (&self.reduced, names[2])] {
            if let Some(k) = list.iter().position(|[a, b]| a > b) {
                let [a, b] = list[k];
                return fail(format!("{name}[{k}] = [{a}, {b}] ends before it starts"));
            }
        }
        let mut last = 0;
        for (k, &s) in self.slices.iter().enumerate() {
            if s < last || s > self.reduced.len() {
                return fail(format!(
                    "{}[{k}] = {s} must lie between {last} and the {} entries of {}",
                    names[1],
                    self.reduced.len(),
                    names[2]
                ));
            }
            last = s;
        }
        if let Some([a, b]) = overlap(&self.blocks)? {
            return fail(format!(
                "{}: [{}, {}) and [{}, {}) overlap, so rows would have two results",
                names[0], a[0], a[1], b[0], b[1]
            ));
        }
        for k in 0..self.blocks.len() {
            if let Some([a, b]) = overlap(self.of_block(k))? {
                return fail(format!(
                    "{}: [{}, {}) and [{}, {}) of block {k} overlap, so pairs would count twice",
                    names[2], a[0], a[1], b[0], b[1]
                ));
            }
        }
        Ok(())
    }
    fn check_rows(&self, kept: usize, reduced: usize, names: [&str; 3]) -> Result<(), InputError> {
        for (list, name, limit) in
            [(&self.blocks, names[0], kept), (&self.reduced, names[2], reduced)]
        {
            if let Some(k) = list.iter().position(|[_, b]| *b > limit) {
                let [a, b] = list[k];
                return fail(format!("{name}[{k}] = [{a}, {b}] is not within the {limit} rows"));
            }
        }
        Ok(())
    }
    /// Every block with each range that it meets.
    fn rectangles(&self) -> impl Iterator<Item = Rectangle> + Clone + '_ {
        (0..self.blocks.len())
            .flat_map(move |k| self.of_block(k).iter().map(move |r| (self.blocks[k], *r)))
    }
    /// Adds a block with what it meets.
    fn push(
        &mut self,
        block: [usize; 2],
        meets: impl IntoIterator<Item = [usize; 2]>,
    ) -> Result<(), OutOfMemory> {
        memory::push(&mut self.blocks, block, WHAT)?;
        meets.into_iter().try_for_each(|range| memory::push(&mut self.reduced, range, WHAT))?;
        memory::push(&mut self.slices, self.reduced.len(), WHAT)
    }
}

/// Two ranges that overlap.
fn overlap(list: &[[usize; 2]]) -> Result<Option<[[usize; 2]; 2]>, OutOfMemory> {
    let mut sorted = memory::collected(list.iter().copied(), WHAT)?;
    sorted.retain(|b| b[0] < b[1]);
    sorted.sort_unstable();
    Ok(sorted.windows(2).find(|w| w[0][1] > w[1][0]).map(|w| [w[0], w[1]]))
}

/// One half of KeOps' six arrays: blocks of kept rows, ends of their slices of the last, and
/// ranges of reduced rows.
///
/// ```
/// use keops_core::ranges::{Ranges, Triple};
/// let over_j: Triple<'_> = (&[[0, 2]], &[1], &[[1, 4]]); // rows 0..2 meet columns 1..4
/// assert_eq!(Ranges::from_arrays(Some(over_j), None)?.pairs(), 6);
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
pub type Triple<'a> = (&'a [[i64; 2]], &'a [i64], &'a [[i64; 2]]);

/// Block-sparse ranges for both axes, as KeOps' six arrays: the pairs of rows that exist.
///
/// Ranges are about the rows of one batch element and the same for all. They hold for reductions
/// over either index and for every derivative. Rows outside all blocks get the value of a
/// reduction over nothing. Clones share their memory. Of a pattern that is given for one axis the other
/// one is made, once, where a reduction first needs it. Ranges are equal if they mean the same pairs.
///
/// ```
/// use keops_core::{genred::Genred, ranges::Ranges, reduce::MIN, spec::Axis};
/// use ndarray::array;
/// let least: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &MIN, Axis::J)?;
/// let (x, y) = (array![[1.0], [2.0], [3.0]], array![[5.0], [4.0]]);
/// let ranges = Ranges::same_labels(&["a", "b", "c"], &["a", "b"])?;
/// let out = least.ranges(ranges).call((&x, &y))?;
/// assert_eq!(out, array![[5.0], [8.0], [f64::INFINITY]].into_dyn()); // row 2 meets nothing
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ranges {
    over_j: Arc<Half>,
    over_i: Arc<Half>,
}

/// The pattern of one axis, given or yet to be made of the other one.
#[derive(Debug, Default)]
struct Half {
    pattern: OnceLock<Pattern>,
    /// Held by the thread that makes it.
    making: Mutex<()>,
    /// The largest ends of its blocks, and of what they meet.
    ends: OnceLock<[usize; 2]>,
    /// See [`Ranges::derived`]; the last one comes last.
    derived: Mutex<Vec<Derived>>,
}

/// What a backend made of a pattern, by its key.
type Derived = ([usize; 4], Arc<dyn Any + Send + Sync>);

/// As many are kept with a pattern: for the values and the gradients of one reduction.
const DERIVED: usize = 2;

impl From<Pattern> for Half {
    fn from(pattern: Pattern) -> Half {
        Half { pattern: pattern.into(), ..Half::default() }
    }
}

impl PartialEq for Ranges {
    fn eq(&self, other: &Ranges) -> bool {
        let half = |a: &Arc<Half>, b: &Arc<Half>| match (a.pattern.get(), b.pattern.get()) {
            _ if Arc::ptr_eq(a, b) => true,
            (Some(a), Some(b)) => a == b,
            _ => false,
        };
        // Other blocks may mean the same pairs.
        half(&self.over_j, &other.over_j)
            || half(&self.over_i, &other.over_i)
            || matches!(differ(self.rectangles(), other.rectangles()), Ok(None))
    }
}
impl Eq for Ranges {}

impl Ranges {
    /// From the pattern over `j`; the one over `i` is derived by transposition.
    ///
    /// ```
    /// use keops_core::ranges::{Pattern, Ranges};
    /// use keops_core::spec::Axis;
    /// let pattern = |blocks| Pattern { blocks, slices: vec![1, 2], reduced: vec![[0, 2], [1, 3]] };
    /// let ranges = Ranges::from_pattern(pattern(vec![[0, 1], [1, 2]]))?;
    /// assert_eq!(ranges.pattern(Axis::I)?.blocks, [[0, 1], [1, 2], [2, 3]]); // columns
    /// let e = Ranges::from_pattern(pattern(vec![[0, 2], [1, 3]])).unwrap_err();
    /// assert!(e.to_string().contains("[0, 2) and [1, 3) overlap"), "{e}");
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Ranges`] if lengths disagree, if slices do not ascend, or if blocks, or
    /// ranges of one block, overlap; [`InputError::OutOfMemory`], as everywhere here, if there is no
    /// room for the ranges or for what they are checked with.
    pub fn from_pattern(over_j: Pattern) -> Result<Ranges, InputError> {
        over_j.check(NAMES[0])?;
        Ok(Ranges::new(Half::default(), over_j))
    }
    fn new(over_i: impl Into<Half>, over_j: impl Into<Half>) -> Ranges {
        Ranges { over_i: Arc::new(over_i.into()), over_j: Arc::new(over_j.into()) }
    }
    /// From KeOps' six arrays: `(ranges_i, slices_i, redranges_j)` for reductions over j, and
    /// `(ranges_j, slices_j, redranges_i)` for reductions over i and gradients in j-variables. One
    /// that is missing is derived from the other.
    ///
    /// ```
    /// use keops_core::ranges::Ranges;
    /// let over_j = (&[[0, 2], [2, 5]][..], &[1, 3][..], &[[0, 4], [0, 1], [3, 4]][..]);
    /// let ranges = Ranges::from_arrays(Some(over_j), None)?;
    /// assert_eq!(ranges.pairs(), 2 * 4 + 3 * 2);
    /// // Rows [0, 2) meet column 1 in the first, but not in the second:
    /// let over_i = (&[[0, 1], [3, 4]][..], &[1, 2][..], &[[0, 5], [0, 5]][..]);
    /// assert!(Ranges::from_arrays(Some(over_j), Some(over_i)).is_err());
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Ranges::from_pattern`]; [`InputError::Ranges`] for negative entries, if both are
    /// missing, or if the two mean different pairs.
    pub fn from_arrays(
        over_j: Option<Triple<'_>>,
        over_i: Option<Triple<'_>>,
    ) -> Result<Ranges, InputError> {
        let pattern = |(blocks, slices, reduced): Triple<'_>, names: [&str; 3]| {
            let size = |v: i64, k: usize, name: &str| {
                usize::try_from(v).map_err(|_| {
                    InputError::Ranges(format!("{name}[{k}] holds {v}, expected 0 or more"))
                })
            };
            let pairs = |list: &[[i64; 2]], name: &str| -> Result<Vec<[usize; 2]>, InputError> {
                let mut out = memory::room(list.len(), WHAT)?;
                for (k, [a, b]) in list.iter().enumerate() {
                    out.push([size(*a, k, name)?, size(*b, k, name)?]);
                }
                Ok(out)
            };
            let mut ends = memory::room(slices.len(), WHAT)?;
            for (k, &v) in slices.iter().enumerate() {
                ends.push(size(v, k, names[1])?);
            }
            let pattern = Pattern {
                blocks: pairs(blocks, names[0])?,
                slices: ends,
                reduced: pairs(reduced, names[2])?,
            };
            pattern.check(names)?;
            Ok::<Pattern, InputError>(pattern)
        };
        let over_j = over_j.map(|t| pattern(t, NAMES[0])).transpose()?;
        let over_i = over_i.map(|t| pattern(t, NAMES[1])).transpose()?;
        Ok(match (over_j, over_i) {
            (Some(over_j), Some(over_i)) => {
                agree(&over_j, &over_i)?;
                Ranges::new(over_i, over_j)
            }
            (Some(over_j), None) => Ranges::new(Half::default(), over_j),
            (None, Some(over_i)) => Ranges::new(over_i, Half::default()),
            (None, None) => return fail("both halves of the six arrays are missing".into()),
        })
    }
    /// The pattern that a reduction over `axis` uses. Where only that of the other axis was given, the
    /// first call makes it.
    ///
    /// ```
    /// use keops_core::{ranges::Ranges, spec::Axis};
    /// let ranges = Ranges::from_clusters(&[2, 5], &[3], &[true, false])?; // rows 2..5 meet nothing
    /// assert_eq!(ranges.pattern(Axis::J)?.of_block(0), [[0, 3]]);
    /// assert_eq!(ranges.pattern(Axis::I)?.of_block(0), [[0, 2]]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`OutOfMemory`] if there is no room to make it. The next call tries again.
    pub fn pattern(&self, axis: Axis) -> Result<&Pattern, OutOfMemory> {
        let (half, other) = match axis {
            Axis::J => (&self.over_j, &self.over_i),
            Axis::I => (&self.over_i, &self.over_j),
        };
        if let Some(pattern) = half.pattern.get() {
            return Ok(pattern);
        }
        // The others wait, as they need it too.
        let _making = half.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pattern) = half.pattern.get() {
            return Ok(pattern);
        }
        let made = match other.pattern.get() {
            Some(given) => transpose(given)?,
            None => unreachable!("one half was given"),
        };
        Ok(half.pattern.get_or_init(|| made))
    }
    /// The rectangles of pairs, of i and j each.
    fn rectangles(&self) -> impl Iterator<Item = Rectangle> + Clone + '_ {
        let over_j = self.over_j.pattern.get();
        let over_i = if over_j.is_none() { self.over_i.pattern.get() } else { None };
        let swapped = over_i.into_iter().flat_map(Pattern::rectangles).map(|(j, i)| (i, j));
        over_j.into_iter().flat_map(Pattern::rectangles).chain(swapped)
    }
    /// What `make` makes of the pattern of an axis, which is kept with it: the next call with the same
    /// type and key has it again. For backends, whose lists of tiles take as long as the products of a
    /// thin pattern; two are kept.
    ///
    /// ```
    /// use keops_core::{ranges::Ranges, spec::Axis};
    /// let ranges = Ranges::same_labels(&["a", "a", "b"], &["a", "b", "b"])?;
    /// let longest = |key| {
    ///     ranges.derived(Axis::J, key, |p| Ok(p.blocks.iter().map(|b| b[1] - b[0]).max()))
    /// };
    /// let made = longest([0; 4])?;
    /// assert_eq!(*made, Some(2));
    /// assert!(std::sync::Arc::ptr_eq(&made, &longest([0; 4])?));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`OutOfMemory`]
    pub fn derived<T: Any + Send + Sync>(
        &self,
        axis: Axis,
        key: [usize; 4],
        make: impl FnOnce(&Pattern) -> Result<T, OutOfMemory>,
    ) -> Result<Arc<T>, OutOfMemory> {
        let half = if axis == Axis::J { &self.over_j } else { &self.over_i };
        // What a thread that panicked left is whole: it is a list.
        let all = || half.derived.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all().iter().find(|(k, v)| *k == key && v.is::<T>()).map(|(_, v)| v.clone());
        if let Some(made) = known.and_then(|v| v.downcast().ok()) {
            return Ok(made);
        }
        let made = Arc::new(make(self.pattern(axis)?)?);
        let mut all = all();
        if all.len() >= DERIVED {
            all.remove(0);
        }
        memory::push(&mut all, (key, made.clone() as Arc<dyn Any + Send + Sync>), WHAT)?;
        Ok(made)
    }
    /// `i` and `j` exchanged: the ranges of the transposed matrix.
    ///
    /// ```
    /// use keops_core::{ranges::Ranges, spec::Axis};
    /// let ranges = Ranges::same_labels(&["a", "a", "b"], &["a", "b", "b"])?;
    /// assert_eq!(ranges.pairs(), 2 * 1 + 1 * 2);
    /// assert_eq!(ranges.swap_axes().pattern(Axis::J)?, ranges.pattern(Axis::I)?);
    /// assert!(ranges.check(3, 3).is_ok() && ranges.check(2, 3).is_err());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn swap_axes(&self) -> Ranges {
        Ranges { over_j: self.over_i.clone(), over_i: self.over_j.clone() }
    }
    /// Number of pairs of rows.
    /// No more than `u64::MAX`.
    ///
    /// ```
    /// use keops_core::ranges::Ranges;
    /// let ranges = Ranges::same_labels(&[0, 0, 1], &[0, 1, 1, 1])?;
    /// assert_eq!(ranges.pairs(), 2 * 1 + 1 * 3); // of 12
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    pub fn pairs(&self) -> u64 {
        let length = |r: [usize; 2]| (r[1] - r[0]) as u64;
        let area = |(b, r)| length(b).saturating_mul(length(r));
        self.rectangles().map(area).fold(0, u64::saturating_add)
    }
    /// Checks that there are this many rows.
    /// Calls do this themselves.
    ///
    /// ```
    /// use keops_core::ranges::Ranges;
    /// let ranges = Ranges::from_clusters(&[2, 5], &[4], &[true, true])?;
    /// assert!(ranges.check(5, 4).is_ok());
    /// let e = ranges.check(4, 4).unwrap_err().to_string();
    /// assert_eq!(e, "ranges: ranges_i[1] = [2, 5] is not within the 4 rows");
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Ranges`] naming the array, the entry and the number of rows.
    pub fn check(&self, rows_i: usize, rows_j: usize) -> Result<(), InputError> {
        let within = |half: &Half, kept: usize, reduced: usize, names| {
            let Some(pattern) = half.pattern.get() else { return Ok(()) };
            let end = |list: &[[usize; 2]]| list.iter().map(|r| r[1]).max().unwrap_or(0);
            let ends = half.ends.get_or_init(|| [end(&pattern.blocks), end(&pattern.reduced)]);
            if ends[0] <= kept && ends[1] <= reduced {
                return Ok(());
            }
            pattern.check_rows(kept, reduced, names)
        };
        within(&self.over_j, rows_i, rows_j, NAMES[0])?;
        // What was made of the other half fits where that does.
        within(&self.over_i, rows_j, rows_i, NAMES[1])
    }
}

/// A rectangle of pairs: rows of i, and rows of j.
type Rectangle = ([usize; 2], [usize; 2]);

/// Where two lists of rectangles do not mean the same pairs: the first pair that only one has, and
/// is it the first one? A sum of indicators of rectangles is determined by its mixed second
/// difference, which is ±1 at the corners of each.
fn differ(
    a: impl Iterator<Item = Rectangle> + Clone,
    b: impl Iterator<Item = Rectangle> + Clone,
) -> Result<Option<([usize; 2], bool)>, OutOfMemory> {
    let count = a.clone().count() + b.clone().count();
    let mut corners: Vec<([usize; 2], i64)> = memory::room(count.saturating_mul(4), WHAT)?;
    let mut add = |(i, j): Rectangle, weight: i64| {
        for (k, l) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            corners.push(([i[k], j[l]], if k == l { weight } else { -weight }));
        }
    };
    a.for_each(|r| add(r, 1));
    b.for_each(|r| add(r, -1));
    corners.sort_unstable();
    // Before the first corner that is left, in the order of i, then j, nothing differs.
    let sums = corners.chunk_by(|a, b| a.0 == b.0).map(|c| (c[0].0, c.iter().map(|c| c.1).sum()));
    let first = sums.into_iter().find(|&(_, w): &(_, i64)| w != 0);
    Ok(first.map(|(corner, w)| (corner, w > 0)))
}

/// An error unless both mean the same pairs.
fn agree(over_j: &Pattern, over_i: &Pattern) -> Result<(), InputError> {
    match differ(over_j.rectangles(), over_i.rectangles().map(|(j, i)| (i, j)))? {
        None => Ok(()),
        Some(([i, j], first)) => fail(format!(
            "the two triples mean different pairs: row {i} meets column {j} only in {}",
            NAMES[usize::from(!first)].join(", ")
        )),
    }
}

/// The same pairs seen from the reduced side, by a sweep over the reduced rows: between two cuts
/// they meet the same blocks, of which adjacent ones make one range.
fn transpose(p: &Pattern) -> Result<Pattern, OutOfMemory> {
    /// From this row on the block belongs to the rectangles, or no longer does.
    type Event = (usize, [usize; 2], bool);
    let count = p.rectangles().count();
    let mut events: Vec<Event> = memory::room(count.saturating_mul(2), WHAT)?;
    for (block, range) in p.rectangles() {
        if block[0] < block[1] && range[0] < range[1] {
            events.extend([(range[0], block, true), (range[1], block, false)]);
        }
    }
    events.sort_unstable();
    let mut out = Pattern::default();
    // Blocks met since `start`, in order: they are disjoint. Those met next are merged with events.
    let (mut met, mut next, mut start) = (vec![], vec![], 0);
    for at_cut in events.chunk_by(|a, b| a.0 == b.0) {
        let at = at_cut[0].0;
        // A block whose range ends where its next one starts goes on.
        let changes = || at_cut.chunk_by(|a, b| a.1 == b.1).filter(|c| c.len() == 1).map(|c| c[0]);
        if changes().next().is_none() {
            continue;
        }
        if !met.is_empty() {
            let joined = met.chunk_by(|a: &[usize; 2], b| a[1] == b[0]);
            out.push([start, at], joined.map(|all| [all[0][0], all[all.len() - 1][1]]))?;
        }
        start = at;
        next.clear();
        let mut old = met.iter().copied().peekable();
        for (_, block, enters) in changes() {
            while let Some(before) = old.next_if(|b| b < &block) {
                memory::push(&mut next, before, WHAT)?;
            }
            if enters {
                memory::push(&mut next, block, WHAT)?;
            } else {
                old.next_if_eq(&block);
            }
        }
        old.try_for_each(|block| memory::push(&mut next, block, WHAT))?;
        std::mem::swap(&mut met, &mut next);
    }
    Ok(out)
}

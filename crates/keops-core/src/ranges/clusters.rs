//! Ranges from clusters, labels and bands.

use super::{Pattern, Ranges, WHAT, fail};
use crate::error::{InputError, OutOfMemory};
use crate::memory;
use crate::spec::Axis;
use ndarray::ArrayView2;

/// Largest number of clusters, so largest label, of [`cluster_ranges`].
///
/// ```
/// use keops_core::ranges::{MAX_CLUSTERS, cluster_ranges};
/// assert!(cluster_ranges(&[MAX_CLUSTERS]).is_err());
/// ```
pub const MAX_CLUSTERS: usize = 1 << 24;

/// The order of rows in which labels ascend; rows of one label keep theirs.
///
/// ```
/// use keops_core::ranges::{cluster_ranges, sort_clusters};
/// use ndarray::{Axis, array};
///
/// let (x, labels) = (array![[0.1], [9.0], [0.2]], [0, 1, 0]);
/// let order = sort_clusters(&labels)?;
/// let sorted: Vec<usize> = order.iter().map(|&k| labels[k]).collect();
/// assert_eq!(x.select(Axis(0), &order), array![[0.1], [0.2], [9.0]]);
/// assert_eq!(cluster_ranges(&sorted)?, [[0, 2], [2, 3]]);
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
///
/// # Errors
/// [`InputError::OutOfMemory`], as everywhere here, if there is no room for the result or for what is
/// needed on the way.
pub fn sort_clusters<L: Ord>(labels: &[L]) -> Result<Vec<usize>, InputError> {
    let mut order = memory::collected(0..labels.len(), "the order of labels")?;
    // A stable sort would ask for more memory.
    order.sort_unstable_by(|&a, &b| labels[a].cmp(&labels[b]).then(a.cmp(&b)));
    Ok(order)
}

/// The rows `[start, end)` of each label, from sorted labels `0, 1, …`; a label that does not occur
/// has an empty range. See [`sort_clusters`].
///
/// ```
/// use keops_core::ranges::cluster_ranges;
/// assert_eq!(cluster_ranges(&[0, 0, 2])?, [[0, 2], [2, 2], [2, 3]]);
/// assert!(cluster_ranges(&[1, 0]).is_err()); // not sorted
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
///
/// # Errors
/// [`InputError::Ranges`] if labels are not sorted, or not below [`MAX_CLUSTERS`].
pub fn cluster_ranges(labels: &[usize]) -> Result<Vec<[usize; 2]>, InputError> {
    sorted(labels, "the labels")?;
    let count = labels.last().map_or(0, |l| l.saturating_add(1));
    if count > MAX_CLUSTERS {
        return fail(format!("label {} is too large, expected below {MAX_CLUSTERS}", count - 1));
    }
    let start = |label: usize| labels.partition_point(|&l| l < label);
    Ok(memory::collected((0..count).map(|label| [start(label), start(label + 1)]), WHAT)?)
}

fn sorted<L: Ord>(labels: &[L], what: &str) -> Result<(), InputError> {
    match labels.windows(2).position(|w| w[0] > w[1]) {
        Some(k) => fail(format!(
            "{what} are not sorted: that of row {} is less than that of row {k}",
            k + 1
        )),
        None => Ok(()),
    }
}

/// Contiguous clusters, by their ends.
fn contiguous(ends: &[usize]) -> Result<Vec<[usize; 2]>, OutOfMemory> {
    let mut last = 0;
    memory::collected(ends.iter().map(|&end| [std::mem::replace(&mut last, end), end]), WHAT)
}

impl Ranges {
    /// From clusters of rows `[start, end)` and the matrix of those that meet (KeOps'
    /// `from_matrix`).
    ///
    /// ```
    /// use keops_core::ranges::Ranges;
    /// use ndarray::array;
    /// let keep = array![[true, false], [true, true]];
    /// let ranges = Ranges::from_matrix(&[[0, 3], [3, 4]], &[[0, 1], [1, 3]], keep.view())?;
    /// assert_eq!(ranges.pairs(), 3 + 1 + 2);
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Ranges`] if the matrix has another shape, or if clusters overlap.
    pub fn from_matrix(
        clusters_i: &[[usize; 2]],
        clusters_j: &[[usize; 2]],
        keep: ArrayView2<'_, bool>,
    ) -> Result<Ranges, InputError> {
        if keep.dim() != (clusters_i.len(), clusters_j.len()) {
            return fail(format!(
                "the mask has shape {:?}, expected ({}, {}), the numbers of clusters",
                keep.shape(),
                clusters_i.len(),
                clusters_j.len()
            ));
        }
        Ranges::where_clusters(clusters_i, clusters_j, |k, l| keep[[k, l]])
    }
    /// As [`Ranges::from_matrix`], for contiguous clusters, which are given by their ends, and a
    /// row-major mask.
    ///
    /// ```
    /// use keops_core::ranges::Ranges;
    /// // Rows 0..3 and 3..4, columns 0..1 and 1..3; the first rows meet the first column only.
    /// let ranges = Ranges::from_clusters(&[3, 4], &[1, 3], &[true, false, true, true])?;
    /// assert_eq!(ranges.pairs(), 3 + 1 + 2);
    /// assert!(Ranges::from_clusters(&[3, 4], &[1, 3], &[true]).is_err());
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Ranges`] if the mask has another length, or if ends do not ascend.
    pub fn from_clusters(
        ends_i: &[usize],
        ends_j: &[usize],
        mask: &[bool],
    ) -> Result<Ranges, InputError> {
        if ends_i.len().checked_mul(ends_j.len()) != Some(mask.len()) {
            return fail(format!(
                "the mask has {} entries, expected {} x {}",
                mask.len(),
                ends_i.len(),
                ends_j.len()
            ));
        }
        let meets = |k: usize, l: usize| mask[k * ends_j.len() + l];
        Ranges::where_clusters(&contiguous(ends_i)?, &contiguous(ends_j)?, meets)
    }
    /// From clusters of rows `[start, end)` and a rule that tells which meet: it is asked once for
    /// each pair of clusters.
    ///
    /// ```
    /// use keops_core::ranges::Ranges;
    /// // Clusters whose numbers differ by at most one.
    /// let clusters = [[0, 10], [10, 20], [20, 30]];
    /// let near = Ranges::where_clusters(&clusters, &clusters, |k, l| k.abs_diff(l) <= 1)?;
    /// assert_eq!(near.pairs(), 7 * 100);
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Ranges`] if clusters overlap.
    pub fn where_clusters(
        clusters_i: &[[usize; 2]],
        clusters_j: &[[usize; 2]],
        mut meets: impl FnMut(usize, usize) -> bool,
    ) -> Result<Ranges, InputError> {
        // The clusters of j that each one of i meets, one after the other, and where they end.
        let mut met: Vec<usize> = vec![];
        let mut slices = memory::room(clusters_i.len(), WHAT)?;
        for k in 0..clusters_i.len() {
            for l in (0..clusters_j.len()).filter(|&l| meets(k, l)) {
                memory::push(&mut met, l, WHAT)?;
            }
            slices.push(met.len());
        }
        // The other way round: first where they start, which moves to the end as they come in.
        let mut ends = memory::filled(clusters_j.len(), 0, WHAT)?;
        met.iter().for_each(|&l| ends[l] += 1);
        let mut total = 0;
        for e in &mut ends {
            total += std::mem::replace(e, total);
        }
        let mut reduced = memory::filled(met.len(), [0; 2], WHAT)?;
        let mut start = 0;
        for (block, &end) in clusters_i.iter().zip(&slices) {
            for &l in &met[std::mem::replace(&mut start, end)..end] {
                reduced[ends[l]] = *block;
                ends[l] += 1;
            }
        }
        let blocks = |clusters: &[[usize; 2]]| memory::collected(clusters.iter().copied(), WHAT);
        let over_i = Pattern { blocks: blocks(clusters_j)?, slices: ends, reduced };
        let reduced = memory::collected(met.iter().map(|&l| clusters_j[l]), WHAT)?;
        let over_j = Pattern { blocks: blocks(clusters_i)?, slices, reduced };
        over_j.check(super::NAMES[0])?;
        over_i.check(super::NAMES[1])?;
        Ok(Ranges::new(over_i, over_j))
    }
    /// From sorted labels `0, 1, …` of rows and columns, and the matrix of labels that meet.
    ///
    /// ```
    /// use keops_core::ranges::Ranges;
    /// use ndarray::array;
    /// let keep = array![[true, false], [false, true]];
    /// let ranges = Ranges::from_labels(&[0, 0, 1], &[0, 1, 1, 1], keep.view())?;
    /// assert_eq!(ranges.pairs(), 2 * 1 + 1 * 3);
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// As [`cluster_ranges`]; [`InputError::Ranges`] if a label has no row or column of the
    /// matrix.
    pub fn from_labels(
        labels_i: &[usize],
        labels_j: &[usize],
        keep: ArrayView2<'_, bool>,
    ) -> Result<Ranges, InputError> {
        let clusters = |labels: &[usize], index: &str, count: usize| {
            let mut all = cluster_ranges(labels)?;
            if all.len() > count {
                let last = all.len() - 1;
                return fail(format!("label {last} of {index}: the mask has {count} of them"));
            }
            let more = count - all.len();
            all.try_reserve_exact(more).map_err(|_| memory::refused::<[usize; 2]>(count, WHAT))?;
            all.resize(count, [labels.len(); 2]);
            Ok(all)
        };
        let clusters_i = clusters(labels_i, "i", keep.nrows())?;
        let clusters_j = clusters(labels_j, "j", keep.ncols())?;
        Ranges::from_matrix(&clusters_i, &clusters_j, keep)
    }
    /// Rows and columns of equal label, for sorted labels of any kind: many small problems side
    /// by side, as one.
    ///
    /// ```
    /// use keops_core::{ranges::Ranges, spec::Axis};
    /// let ranges = Ranges::same_labels(&["cat", "cat", "dog"], &["bird", "cat", "dog", "dog"])?;
    /// assert_eq!(ranges.pairs(), 2 * 1 + 1 * 2);
    /// assert_eq!(ranges.pattern(Axis::J)?.of_block(1), [[2, 4]]);
    /// assert!(Ranges::same_labels(&[2, 1], &[1, 2]).is_err()); // not sorted
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Ranges`] if labels are not sorted.
    pub fn same_labels<L: Ord>(labels_i: &[L], labels_j: &[L]) -> Result<Ranges, InputError> {
        sorted(labels_i, "labels of i")?;
        sorted(labels_j, "labels of j")?;
        let (mut over_j, mut over_i) = (Pattern::default(), Pattern::default());
        let mut i = 0;
        while let Some(label) = labels_i.get(i) {
            let end = i + labels_i[i..].partition_point(|l| l <= label);
            let j = labels_j.partition_point(|l| l < label);
            let range = [j, j + labels_j[j..].partition_point(|l| l <= label)];
            if range[0] < range[1] {
                over_j.push([i, end], [range])?;
                over_i.push(range, [[i, end]])?;
            }
            i = end;
        }
        Ok(Ranges::new(over_i, over_j))
    }
    /// A band: row i meets the columns from `i - below` to `i + above`. Every row is a block of its
    /// own: where speed matters more than the exact border, use clusters of rows
    /// ([`Ranges::where_clusters`]), with a mask in the formula if need be.
    ///
    /// ```
    /// use keops_core::{ranges::Ranges, spec::Axis};
    /// let ranges = Ranges::band(4, 3, 1, 0)?;
    /// assert_eq!(ranges.pattern(Axis::J)?.reduced, [[0, 1], [0, 2], [1, 3], [2, 3]]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Ranges`] if that makes more than [`MAX_CLUSTERS`] blocks.
    pub fn band(
        rows_i: usize,
        rows_j: usize,
        below: usize,
        above: usize,
    ) -> Result<Ranges, InputError> {
        let band = |kept: usize, reduced: usize, below: usize, above: usize| {
            let rows = kept.min(reduced.saturating_add(below));
            // Rows that meet all columns are one block, any other row is one of its own.
            let first = reduced.saturating_sub(above.saturating_add(1)).min(rows);
            let whole = first..below.saturating_add(1).min(rows).max(first);
            if rows - whole.len().saturating_sub(1) > MAX_CLUSTERS {
                return fail(format!("a band of {kept} x {reduced} rows has too many blocks"));
            }
            let mut p = Pattern::default();
            let mut push = |rows: [usize; 2]| {
                let end = rows[0].saturating_add(above).saturating_add(1).min(reduced);
                p.push(rows, [[rows[0].saturating_sub(below), end]])
            };
            (0..whole.start).try_for_each(|k| push([k, k + 1]))?;
            if !whole.is_empty() {
                push([whole.start, whole.end])?;
            }
            (whole.end..rows).try_for_each(|k| push([k, k + 1]))?;
            Ok(p)
        };
        let over_j = band(rows_i, rows_j, below, above)?;
        Ok(Ranges::new(band(rows_j, rows_i, above, below)?, over_j))
    }
    /// Clusters and the pairs of clusters that meet, row-major: the other way round than
    /// [`Ranges::from_matrix`]. Columns are cut where a range starts or ends.
    ///
    /// ```
    /// use keops_core::ranges::Ranges;
    /// let ranges = Ranges::from_clusters(&[2, 3], &[1, 4], &[true, false, true, true])?;
    /// let (rows, columns, pairs) = ranges.clusters()?;
    /// assert_eq!((rows, columns), (vec![[0, 2], [2, 3]], vec![[0, 1], [1, 4]]));
    /// assert_eq!(pairs, [(0, 0), (1, 0), (1, 1)]);
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::OutOfMemory`]
    pub fn clusters(&self) -> Result<Clusters, InputError> {
        let p = self.pattern(Axis::J)?;
        let mut cuts = memory::room(p.reduced.len().saturating_mul(2), WHAT)?;
        cuts.extend(p.reduced.iter().flatten().copied());
        cuts.sort_unstable();
        cuts.dedup();
        let at = |row: usize| cuts.partition_point(|&c| c < row);
        let mut pairs: Vec<(usize, usize)> = vec![];
        for k in 0..p.blocks.len() {
            let mut met = p.of_block(k).iter().flat_map(|r| at(r[0])..at(r[1]));
            met.try_for_each(|l| memory::push(&mut pairs, (k, l), WHAT))?;
        }
        pairs.sort_unstable();
        // Columns between two cuts that nobody meets are no cluster. Of the others: one more than
        // their place.
        let mut place = memory::filled(cuts.len().saturating_sub(1), 0, WHAT)?;
        pairs.iter().for_each(|&(_, l)| place[l] = 1);
        let mut columns = vec![];
        for (w, place) in cuts.windows(2).zip(&mut place).filter(|(_, p)| **p > 0) {
            memory::push(&mut columns, [w[0], w[1]], WHAT)?;
            *place = columns.len();
        }
        pairs.iter_mut().for_each(|(_, l)| *l = place[*l] - 1);
        Ok((memory::collected(p.blocks.iter().copied(), WHAT)?, columns, pairs))
    }
}

/// Clusters of rows, clusters of columns, and the pairs of them that meet.
pub type Clusters = (Vec<[usize; 2]>, Vec<[usize; 2]>, Vec<(usize, usize)>);

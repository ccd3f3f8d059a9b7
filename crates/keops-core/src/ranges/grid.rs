//! Clusters of points: the cells of a grid, and their centres.

use super::{MAX_CLUSTERS, fail};
use crate::data::Element;
use crate::error::InputError;
use crate::memory;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

/// Cells are counted from the origin up to here, where f64 still holds every integer.
const FARTHEST: f64 = (1u64 << 53) as f64;

/// The cell of a grid in which each point (row of `x`, in any dimension) lies: cells have these
/// edges, one for each axis or one for all, and corners at the origin. Point `x` is in cell
/// `floor(x / edge)`. Labels `0, 1, …` are those of the cells that hold points, in lexicographic
/// order of cells (KeOps' `grid_cluster`, for three axes at most there).
///
/// ```
/// use keops_core::ranges::{Ranges, cluster_centroids, cluster_ranges, grid_cluster, sort_clusters};
/// use ndarray::{Axis, array};
///
/// let x = array![[0.1, 0.2], [7.0, -3.0], [0.3, 0.4], [-0.1, 0.1]];
/// let labels = grid_cluster(x.view(), &[0.5])?;
/// assert_eq!(labels, [1, 2, 1, 0]);
/// // Rows in the order of cells: clusters are contiguous.
/// let order = sort_clusters(&labels)?;
/// let (x, labels) = (x.select(Axis(0), &order), order.iter().map(|&k| labels[k]).collect::<Vec<_>>());
/// let rows = cluster_ranges(&labels)?;
/// let (centres, sizes) = cluster_centroids(x.view(), &labels, None)?;
/// assert_eq!((&rows[1], sizes[1]), (&[1, 3], 2.0));
/// // Points in cells whose centres are near meet each other.
/// let near = |k, l| (&centres.row(k) - &centres.row(l)).mapv(|d| d * d).sum() < 1.0;
/// let ranges = Ranges::where_clusters(&rows, &rows, near)?;
/// assert_eq!(ranges.pairs(), 3 * 3 + 1);
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
///
/// # Errors
/// [`InputError::Ranges`] if an edge is not positive and finite or there are as many as neither one
/// nor the axes; if a coordinate is not finite, or more than 2^53 edges from the origin, where
/// neighbouring cells cannot be told apart; [`InputError::OutOfMemory`] if there is no memory.
pub fn grid_cluster<T: Element>(
    x: ArrayView2<'_, T>,
    edges: &[f64],
) -> Result<Vec<usize>, InputError> {
    let (n, d) = x.dim();
    if edges.len() != 1 && edges.len() != d {
        return fail(format!(
            "{} edges of cells, expected 1 or {d}, one for each axis",
            edges.len()
        ));
    }
    if let Some(edge) = edges.iter().find(|e| !(e.is_finite() && **e > 0.0)) {
        return fail(format!("cells of edge {edge}, expected a positive number"));
    }
    let mut cells: Vec<i64> = memory::room(n.saturating_mul(d), "cells")?;
    for (i, row) in x.outer_iter().enumerate() {
        for (k, v) in row.iter().enumerate() {
            let cell = (v.to_f64() / edges[k % edges.len()]).floor();
            if cell.is_nan() || cell.abs() > FARTHEST {
                let (v, edge) = (v.to_f64(), edges[k % edges.len()]);
                return fail(format!("coordinate {k} of row {i} is {v}: no cell of edge {edge}"));
            }
            cells.push(cell as i64);
        }
    }
    let cell = |i: usize| &cells[i * d..(i + 1) * d];
    let mut order = memory::collected(0..n, "the order of cells")?;
    order.sort_unstable_by(|&a, &b| cell(a).cmp(cell(b)));
    let mut labels = memory::filled(n, 0, "labels")?;
    for pair in order.windows(2) {
        let next = cell(pair[0]) != cell(pair[1]);
        labels[pair[1]] = labels[pair[0]] + usize::from(next);
    }
    Ok(labels)
}

/// The centre and the weight of each cluster: the mean of its points (rows of `x`), weighted by
/// `weights` if there are any, and the sum of the weights, or else the number of points. Labels
/// `0, 1, …` may be in any order. A cluster whose points all have weight 0 has their plain mean as
/// its centre; a label that does not occur has weight 0 and no centre, NaN, of which no comparison
/// holds. (KeOps' `cluster_centroids`; see [`grid_cluster`] for an example.)
///
/// ```
/// use keops_core::ranges::cluster_centroids;
/// use ndarray::{array, aview1};
/// let (x, labels) = (array![[1f64], [5.0], [2.0]], [0, 2, 0]);
/// let (centres, sizes) = cluster_centroids(x.view(), &labels, None)?;
/// assert_eq!((centres[[0, 0]], centres[[2, 0]], sizes), (1.5, 5.0, array![2.0, 0.0, 1.0]));
/// assert!(centres[[1, 0]].is_nan());
/// let (centres, weights) = cluster_centroids(x.view(), &labels, Some(aview1(&[3.0, 1.0, 1.0])))?;
/// assert_eq!((centres[[0, 0]], weights[0]), (1.25, 4.0));
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
///
/// # Errors
/// [`InputError::Ranges`] if there are not as many labels and weights as points; if a label is not
/// below [`MAX_CLUSTERS`], a weight negative or not finite, a coordinate not finite;
/// [`InputError::OutOfMemory`] if there is no memory.
pub fn cluster_centroids<T: Element>(
    x: ArrayView2<'_, T>,
    labels: &[usize],
    weights: Option<ArrayView1<'_, T>>,
) -> Result<(Array2<T>, Array1<T>), InputError> {
    let (n, d) = x.dim();
    for (what, len) in [("labels", labels.len()), ("weights", weights.map_or(n, |w| w.len()))] {
        if len != n {
            return fail(format!("{len} {what} of {n} points"));
        }
    }
    let count = labels.iter().max().map_or(0, |l| l.saturating_add(1));
    if count > MAX_CLUSTERS {
        return fail(format!("label {} is too large, expected below {MAX_CLUSTERS}", count - 1));
    }
    let weight = |i: usize| weights.map_or(1.0, |w| w[i].to_f64());
    if let Some(i) = (0..n).find(|&i| !(weight(i) >= 0.0 && weight(i).is_finite())) {
        return fail(format!("the weight of row {i} is {}, expected 0 or more", weight(i)));
    }
    for (i, row) in x.outer_iter().enumerate() {
        if let Some((k, v)) = row.iter().enumerate().find(|(_, v)| !v.to_f64().is_finite()) {
            return fail(format!("coordinate {k} of row {i} is {}", v.to_f64()));
        }
    }
    let zeros = |len: usize| memory::filled(len, 0.0, "clusters");
    // In units of the power of two below the largest weight of the cluster, sums of weights cannot
    // overflow, nor can means, which are sums of shares.
    let (mut units, mut sizes, mut totals) = (zeros(count)?, zeros(count)?, zeros(count)?);
    for (i, &label) in labels.iter().enumerate() {
        units[label] = weight(i).max(units[label]);
        sizes[label] += 1.0;
    }
    units.iter_mut().filter(|u| **u > 0.0).for_each(|u| {
        *u = f64::from_bits(u.to_bits() & f64::INFINITY.to_bits()).max(f64::MIN_POSITIVE);
    });
    let relative = |i: usize, unit: f64| if unit > 0.0 { weight(i) / unit } else { 1.0 };
    for (i, &label) in labels.iter().enumerate() {
        totals[label] += relative(i, units[label]);
    }
    let mut means = zeros(count.saturating_mul(d))?;
    for (i, &label) in labels.iter().enumerate() {
        let share = relative(i, units[label]) / totals[label];
        let mean = &mut means[label * d..(label + 1) * d];
        mean.iter_mut().zip(x.row(i)).for_each(|(m, v)| *m += share * v.to_f64());
    }
    means.iter_mut().enumerate().for_each(|(at, m)| {
        if sizes[at / d] == 0.0 {
            *m = f64::NAN;
        }
    });
    units.iter_mut().zip(totals).for_each(|(u, t)| *u *= t);
    let narrow = |list: Vec<f64>| memory::collected(list.into_iter().map(T::of_f64), "clusters");
    match Array2::from_shape_vec((count, d), narrow(means)?) {
        Ok(centres) => Ok((centres, Array1::from_vec(narrow(units)?))),
        Err(e) => unreachable!("as many means as clusters and axes: {e}"),
    }
}

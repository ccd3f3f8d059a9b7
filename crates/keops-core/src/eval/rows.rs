//! Steps that are done on the host: rows gathered and scattered, batches repeated and summed.

use crate::data::{Element, batch_matrix};
use crate::spec::broadcast;
use ndarray::{ArrayD, ArrayView2, Dimension, IxDyn};

/// All multi-indices of a shape, in order.
pub(super) fn indices_of(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    ndarray::indices(IxDyn(shape)).into_iter().map(|i| Dimension::slice(&i).to_vec())
}

pub(super) fn gather<T: Element, O: Element>(
    out: &mut ArrayD<O>,
    x: &ndarray::ArrayViewD<'_, T>,
    index: &ArrayD<i64>,
    column: usize,
    batch: &[usize],
) {
    let index = index.view();
    for (b, to) in indices_of(batch).zip(blocks(out, batch)) {
        let x: ArrayView2<'_, T> = batch_matrix(x, &b, true);
        let at = batch_matrix(&index, &b, true);
        for (row, &at) in to.chunks_exact_mut(x.ncols()).zip(at.column(column)) {
            if let Ok(at) = usize::try_from(at) {
                row.iter_mut().zip(x.row(at)).for_each(|(o, v)| *o = O::of_f64(v.to_f64()));
            }
        }
    }
}

pub(super) fn scatter_add<T: Element>(
    out: &mut ArrayD<f64>,
    x: &ndarray::ArrayViewD<'_, T>,
    index: &ArrayD<i64>,
    column: usize,
    batch: &[usize],
) {
    let index = index.view();
    for (b, to) in indices_of(batch).zip(blocks(out, batch)) {
        let x: ArrayView2<'_, T> = batch_matrix(x, &b, true);
        let at = batch_matrix(&index, &b, true);
        let dim = x.ncols();
        for (row, &at) in x.rows().into_iter().zip(at.column(column)) {
            if let Ok(at) = usize::try_from(at) {
                let to = &mut to[at * dim..(at + 1) * dim];
                to.iter_mut().zip(row).for_each(|(o, v)| *o += v.to_f64());
            }
        }
    }
}

/// The values of each batch element of a row-major array.
pub(super) fn blocks<'o, O>(
    out: &'o mut ArrayD<O>,
    batch: &[usize],
) -> impl Iterator<Item = &'o mut [O]> {
    let count: usize = batch.iter().product();
    let all = out.as_slice_mut().unwrap_or_default();
    let size = all.len() / count.max(1);
    all.chunks_mut(size.max(1)).take(count)
}

/// See [`OuterNode::Rebatch`]; `tail` is the number of values of a batch element.
pub(super) fn rebatch(
    x: &ArrayD<f64>,
    from: &[usize],
    out: &mut ArrayD<f64>,
    to: &[usize],
    tail: usize,
) {
    let (Some(x), Some(out)) = (x.as_slice(), out.as_slice_mut()) else { return };
    if x.is_empty() || out.is_empty() {
        return;
    }
    let all = broadcast(from, to).unwrap_or_default();
    // Number of the batch element that an index of the common shape means in `shape`.
    let number = |index: &[usize], shape: &[usize]| {
        let own = &index[index.len() - shape.len()..];
        own.iter().zip(shape).fold(0, |n, (&i, &e)| n * e + if e == 1 { 0 } else { i })
    };
    for index in indices_of(&all) {
        let (source, target) = (number(&index, from) * tail, number(&index, to) * tail);
        let values = &x[source..source + tail];
        out[target..target + tail].iter_mut().zip(values).for_each(|(o, v)| *o += v);
    }
}

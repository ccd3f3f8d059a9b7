//! Fallible, aligned memory of one worker, and packing.

use keops_core::data::{ArgView, Element, batch_matrix};
use keops_core::error::RunError;
use keops_core::program::{Field, Source};
use keops_core::with_view;
use ndarray::{ArrayView2, s};

/// A compute type: f32 or f64.
pub trait Lane: Element + Default + PartialOrd {
    /// Bits as an unsigned number.
    fn bits(self) -> u64;
    /// Rounds an f64.
    fn round(v: f64) -> Self;
    /// The next number, upwards or downwards; infinities and NaN stay.
    fn beyond(self, up: bool) -> Self;
}
impl Lane for f32 {
    fn bits(self) -> u64 {
        self.to_bits() as u64
    }
    fn round(v: f64) -> Self {
        v as f32
    }
    fn beyond(self, up: bool) -> Self {
        if up { self.next_up() } else { self.next_down() }
    }
}
impl Lane for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn round(v: f64) -> Self {
        v
    }
    fn beyond(self, up: bool) -> Self {
        if up { self.next_up() } else { self.next_down() }
    }
}

/// Elements aligned to a cache line.
pub struct Aligned<T> {
    all: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// Zeros (no memory for none of them), or an error if memory cannot be had.
    pub fn new(len: usize, what: &str) -> Result<Aligned<T>, RunError> {
        const LINE: usize = 64;
        if len == 0 {
            return Ok(Aligned { all: vec![], start: 0, len });
        }
        let slack = LINE / size_of::<T>();
        let mut all: Vec<T> = vec![];
        let total = len.checked_add(slack);
        let out = || RunError::OutOfMemory {
            what: what.to_string(),
            bytes: len.saturating_mul(size_of::<T>()),
        };
        all.try_reserve_exact(total.ok_or_else(out)?).map_err(|_| out())?;
        all.resize(len + slack, T::default());
        let start = all.as_ptr().align_offset(LINE).min(slack);
        Ok(Aligned { all, start, len })
    }
}
impl<T> std::ops::Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.all[self.start..self.start + self.len]
    }
}
impl<T> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.all[self.start..self.start + self.len]
    }
}

fn convert<S: Element, T: Lane>(v: S) -> T {
    T::round(v.to_f64())
}

/// Packs rows `first .. end` of an argument into a tile `[component][row]` of `width` rows; rows
/// beyond `end` repeat the last one.
fn pack_tile<S: Element, T: Lane>(
    m: ArrayView2<'_, S>,
    rows: (usize, usize),
    width: usize,
    tile: &mut [T],
) {
    let (first, end) = rows;
    let dim = m.ncols();
    if let Some(all) = m.as_slice() {
        for k in 0..width {
            let row = (first + k).min(end - 1);
            for (c, v) in all[row * dim..(row + 1) * dim].iter().enumerate() {
                tile[c * width + k] = convert(*v);
            }
        }
        return;
    }
    for k in 0..width {
        for (c, v) in m.row((first + k).min(end - 1)).iter().enumerate() {
            tile[c * width + k] = convert(*v);
        }
    }
}

/// Packs the fields of a row record for a tile.
pub fn pack_kept<T: Lane>(
    fields: &[Field],
    args: &[ArgView<'_>],
    batch: &[usize],
    rows: (usize, usize),
    width: usize,
    tile: &mut [T],
) {
    for f in fields {
        let part = &mut tile[f.offset * width..(f.offset + f.dim) * width];
        match f.source {
            Source::Argument(k) => {
                with_view!(&args[k], v => pack_tile(batch_matrix(v, batch, true), rows, width, part));
            }
            Source::RowNumber => {
                for (k, p) in part.iter_mut().enumerate() {
                    *p = T::round((rows.0 + k).min(rows.1 - 1) as f64);
                }
            }
        }
    }
}

/// Packs the fields of reduced rows `first .. end`, record after record.
pub fn pack_reduced<T: Lane>(
    fields: &[Field],
    args: &[ArgView<'_>],
    batch: &[usize],
    (first, end): (usize, usize),
    stride: usize,
    records: &mut [T],
) {
    fn put<S: Element, T: Lane>(
        m: ArrayView2<'_, S>,
        (first, end): (usize, usize),
        offset: usize,
        stride: usize,
        out: &mut [T],
    ) {
        let m = m.slice_move(s![first..end, ..]);
        let dim = m.ncols();
        match m.as_slice() {
            Some(all) if dim > 0 => {
                for (record, row) in out.chunks_exact_mut(stride).zip(all.chunks_exact(dim)) {
                    for (o, v) in record[offset..offset + dim].iter_mut().zip(row) {
                        *o = convert(*v);
                    }
                }
            }
            _ => {
                for (record, row) in out.chunks_exact_mut(stride).zip(m.rows()) {
                    for (o, v) in record[offset..offset + dim].iter_mut().zip(row) {
                        *o = convert(*v);
                    }
                }
            }
        }
    }
    for f in fields {
        match f.source {
            Source::Argument(k) => {
                with_view!(&args[k], v => {
                    let m = batch_matrix(v, batch, true);
                    put(m, (first, end), f.offset, stride, records)
                });
            }
            Source::RowNumber => {
                let numbered = (first..end).zip(records.chunks_exact_mut(stride));
                numbered.for_each(|(j, r)| r[f.offset] = T::round(j as f64));
            }
        }
    }
}

/// Packs the fields of reduced rows `first .. end` into panels of `lanes` of them, `[panel]
/// [component][row]` with `stride` components; rows beyond `end` repeat the last one.
pub fn pack_panels<T: Lane>(
    fields: &[Field],
    args: &[ArgView<'_>],
    batch: &[usize],
    (first, end): (usize, usize),
    (stride, lanes): (usize, usize),
    panels: &mut [T],
) {
    fn put<S: Element, T: Lane>(
        m: ArrayView2<'_, S>,
        (first, end): (usize, usize),
        offset: usize,
        (stride, lanes): (usize, usize),
        panels: &mut [T],
    ) {
        let dim = m.ncols();
        let mut start = first;
        for panel in panels.chunks_exact_mut(stride * lanes) {
            let part = &mut panel[offset * lanes..(offset + dim) * lanes];
            match m.as_slice() {
                Some(all) if start + lanes <= end => {
                    let rows = &all[start * dim..(start + lanes) * dim];
                    for (c, line) in part.chunks_exact_mut(lanes).enumerate() {
                        for (l, o) in line.iter_mut().enumerate() {
                            *o = convert(rows[l * dim + c]);
                        }
                    }
                }
                _ => pack_tile(m, (start.min(end - 1), end), lanes, part),
            }
            start += lanes;
        }
    }
    for f in fields {
        match f.source {
            Source::Argument(k) => {
                with_view!(&args[k], v => {
                    let m = batch_matrix(v, batch, true);
                    put(m, (first, end), f.offset, (stride, lanes), panels)
                });
            }
            Source::RowNumber => {
                for (p, panel) in panels.chunks_exact_mut(stride * lanes).enumerate() {
                    for (l, o) in panel[f.offset * lanes..][..lanes].iter_mut().enumerate() {
                        *o = T::round((first + p * lanes + l).min(end - 1) as f64);
                    }
                }
            }
        }
    }
}

/// Packs parameters.
pub fn pack_param<T: Lane>(fields: &[Field], args: &[ArgView<'_>], batch: &[usize], out: &mut [T]) {
    for f in fields {
        if let Source::Argument(k) = f.source {
            with_view!(&args[k], v => {
                for (o, v) in out[f.offset..].iter_mut().zip(batch_matrix(v, batch, false).row(0)) {
                    *o = convert(*v);
                }
            });
        }
    }
}

//! Fallible, aligned memory of one worker, and packing.

use crate::vcode::Ty;
use keops_core::data::{ArgView, Element, HostView, OnHost, batch_matrix};
use keops_core::error::RunError;
use keops_core::program::{Field, Source};
use keops_core::with_view;
use ndarray::{ArrayView2, ArrayViewD, s};

/// A compute type: f32 or f64.
pub trait Lane: Element + Default + PartialOrd {
    /// The type as a value.
    const TYPE: Ty;
    /// Bits as an unsigned number.
    fn bits(self) -> u64;
    /// Rounds an f64.
    fn round(v: f64) -> Self;
    /// The next number, upwards or downwards; infinities and NaN stay.
    fn beyond(self, up: bool) -> Self;
    /// A key with its column, in an order: smaller (or, with `min` false, larger) keys first, of
    /// equal ones the lower column. Zeros are equal; the key is not NaN.
    type Ranked: Copy + Ord + Send + Sync;
    fn ranked(self, min: bool, column: u32) -> Self::Ranked;
    /// The key and its column (a zero comes back as +0).
    fn unranked(ranked: Self::Ranked, min: bool) -> (Self, u32);
}
impl Lane for f32 {
    const TYPE: Ty = Ty::F32;
    fn bits(self) -> u64 {
        self.to_bits() as u64
    }
    fn round(v: f64) -> Self {
        v as f32
    }
    fn beyond(self, up: bool) -> Self {
        if up { self.next_up() } else { self.next_down() }
    }
    type Ranked = u64;
    fn ranked(self, min: bool, column: u32) -> u64 {
        // Numbers of the same sign are in the order of their bits, negative ones in reverse.
        let bits = (self + 0.0).to_bits();
        let order = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        u64::from(if min { order } else { !order }) << 32 | u64::from(column)
    }
    fn unranked(ranked: u64, min: bool) -> (Self, u32) {
        let order = (ranked >> 32) as u32;
        let order = if min { order } else { !order };
        let bits = if order >> 31 == 1 { order & !(1 << 31) } else { !order };
        (Self::from_bits(bits), ranked as u32)
    }
}
impl Lane for f64 {
    const TYPE: Ty = Ty::F64;
    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn round(v: f64) -> Self {
        v
    }
    fn beyond(self, up: bool) -> Self {
        if up { self.next_up() } else { self.next_down() }
    }
    type Ranked = u128;
    fn ranked(self, min: bool, column: u32) -> u128 {
        // Numbers of the same sign are in the order of their bits, negative ones in reverse.
        let bits = (self + 0.0).to_bits();
        let order = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
        u128::from(if min { order } else { !order }) << 32 | u128::from(column)
    }
    fn unranked(ranked: u128, min: bool) -> (Self, u32) {
        let order = (ranked >> 32) as u64;
        let order = if min { order } else { !order };
        let bits = if order >> 63 == 1 { order & !(1 << 63) } else { !order };
        (Self::from_bits(bits), ranked as u32)
    }
}

/// Elements aligned to a cache line.
#[derive(Default)]
pub struct Aligned<T> {
    all: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// Nothing.
    pub fn empty() -> Aligned<T> {
        Aligned { all: vec![], start: 0, len: 0 }
    }
    /// Zeros (no memory for none of them), or an error if memory cannot be had.
    pub fn new(len: usize, what: &str) -> Result<Aligned<T>, RunError> {
        const LINE: usize = 64;
        if len == 0 {
            return Ok(Aligned::empty());
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
    /// Makes it this many zeros, in the memory that it has if that is enough.
    pub fn reset(&mut self, len: usize, what: &str) -> Result<(), RunError> {
        if self.all.len() - self.start < len {
            *self = Aligned::new(len, what)?;
        } else {
            self.len = len;
            self.fill(T::default());
        }
        Ok(())
    }
    /// Bytes of the memory that it has.
    pub fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<T>()
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

/// An argument in memory of the host.
pub fn local<'s>(arg: &'s ArgView<'_>) -> OnHost<'s> {
    match arg.on_host() {
        Some(view) => view,
        None => unreachable!("a run begins with a look at where its arguments are"),
    }
}

/// Calls a function of an argument in memory of the host; a view that was given is not moved.
#[inline(always)]
pub fn on_host<R>(arg: &ArgView<'_>, function: impl FnOnce(&HostView<'_>) -> R) -> R {
    match arg {
        ArgView::Host(view) => function(view),
        ArgView::Resident(_) => function(&local(arg)),
    }
}

fn convert<S: Element, T: Lane>(v: S) -> T {
    T::round(v.to_f64())
}

/// The rows of one batch element of an argument, in whatever layout.
enum Rows<'a, S> {
    /// One after the other, this many components each.
    Dense(&'a [S], usize),
    Strided(ArrayView2<'a, S>),
}

impl<S: Element> Rows<'_, S> {
    /// Calls a function of the rows of a batch element. A row-major matrix, the most frequent
    /// argument, stays in registers: a call with few rows would wait for what is written and read back.
    #[inline(always)]
    fn of(v: &ArrayViewD<'_, S>, batch: &[usize], mut function: impl FnMut(&Rows<'_, S>)) {
        if let (&[_, dim], Some(all)) = (v.shape(), v.as_slice()) {
            return function(&Rows::Dense(all, dim));
        }
        let m = batch_matrix(v, batch, true);
        match m.to_slice() {
            Some(all) => function(&Rows::Dense(all, m.ncols())),
            None => function(&Rows::Strided(m)),
        }
    }
}

/// Calls a function of rows of a known number of components where there are few, so that their
/// loop is unrolled.
macro_rules! unrolled {
    ($dim:expr, $function:ident ($($arg:expr),*), else $general:expr) => {
        match $dim {
            1 => $function::<S, T, 1>($($arg),*),
            2 => $function::<S, T, 2>($($arg),*),
            3 => $function::<S, T, 3>($($arg),*),
            4 => $function::<S, T, 4>($($arg),*),
            _ => $general,
        }
    };
}

/// Lines of `width` elements, one for each component.
fn transpose<S: Element, T: Lane, const N: usize>(rows: &[S], width: usize, tile: &mut [T]) {
    let mut lines = tile.chunks_exact_mut(width);
    for c in 0..N {
        let Some(line) = lines.next() else { return };
        for (o, row) in line.iter_mut().zip(rows.as_chunks::<N>().0) {
            *o = convert(row[c]);
        }
    }
}

/// Records of `stride` elements; the components come from `offset` on.
fn spread<S: Element, T: Lane, const N: usize>(
    rows: &[S],
    offset: usize,
    stride: usize,
    out: &mut [T],
) {
    let mut at = offset;
    for row in rows.as_chunks::<N>().0 {
        let Some(part) = out.get_mut(at..).and_then(|o| o.first_chunk_mut::<N>()) else { return };
        *part = row.map(convert);
        at += stride;
    }
}

/// Packs rows `first .. end` of an argument into a tile `[component][row]` of `width` rows; rows
/// beyond `end` repeat the last one.
fn pack_tile<S: Element, T: Lane>(
    rows: &Rows<'_, S>,
    (first, end): (usize, usize),
    width: usize,
    tile: &mut [T],
) {
    let there = (end - first).min(width);
    match rows {
        Rows::Dense(all, dim) => {
            let all = &all[first * dim..(first + there) * dim];
            unrolled!(*dim, transpose(all, width, tile), else {
                for (c, line) in tile.chunks_exact_mut(width).enumerate() {
                    for (o, v) in line.iter_mut().zip(all.iter().skip(c).step_by(*dim)) {
                        *o = convert(*v);
                    }
                }
            });
        }
        Rows::Strided(m) => {
            for (c, line) in tile.chunks_exact_mut(width).enumerate() {
                for (o, v) in line.iter_mut().zip(m.slice(s![first.., c])) {
                    *o = convert(*v);
                }
            }
        }
    }
    for line in tile.chunks_exact_mut(width) {
        let last = line[there - 1];
        line[there..].fill(last);
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
                on_host(&args[k], |view| {
                    with_view!(view, v => {
                        Rows::of(v, batch, |all| pack_tile(all, rows, width, part))
                    });
                });
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
        rows: &Rows<'_, S>,
        (first, end): (usize, usize),
        offset: usize,
        stride: usize,
        out: &mut [T],
    ) {
        match rows {
            Rows::Dense(all, dim) => {
                let all = &all[first * dim..end * dim];
                unrolled!(*dim, spread(all, offset, stride, out), else {
                    for (record, row) in out.chunks_exact_mut(stride).zip(all.chunks_exact(*dim)) {
                        for (o, v) in record[offset..offset + dim].iter_mut().zip(row) {
                            *o = convert(*v);
                        }
                    }
                });
            }
            Rows::Strided(m) => {
                let rows = m.slice(s![first..end, ..]);
                for (record, row) in out.chunks_exact_mut(stride).zip(rows.rows()) {
                    for (o, v) in record[offset..offset + row.len()].iter_mut().zip(row) {
                        *o = convert(*v);
                    }
                }
            }
        }
    }
    for f in fields {
        match f.source {
            Source::Argument(k) => {
                on_host(&args[k], |view| {
                    with_view!(view, v => Rows::of(v, batch, |rows| {
                        put(rows, (first, end), f.offset, stride, records)
                    }));
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
        rows: &Rows<'_, S>,
        dim: usize,
        (first, end): (usize, usize),
        offset: usize,
        (stride, lanes): (usize, usize),
        panels: &mut [T],
    ) {
        let mut start = first;
        for panel in panels.chunks_exact_mut(stride * lanes) {
            let part = &mut panel[offset * lanes..(offset + dim) * lanes];
            match rows {
                Rows::Dense(all, _) if start + lanes <= end => {
                    let rows = &all[start * dim..(start + lanes) * dim];
                    for (c, line) in part.chunks_exact_mut(lanes).enumerate() {
                        for (l, o) in line.iter_mut().enumerate() {
                            *o = convert(rows[l * dim + c]);
                        }
                    }
                }
                _ => pack_tile(rows, (start.min(end - 1), end), lanes, part),
            }
            start += lanes;
        }
    }
    for f in fields {
        match f.source {
            Source::Argument(k) => {
                on_host(&args[k], |view| {
                    with_view!(view, v => Rows::of(v, batch, |rows| {
                        put(rows, f.dim, (first, end), f.offset, (stride, lanes), panels)
                    }));
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
    fn put<'v, S: Element, T: Lane>(values: impl Iterator<Item = &'v S>, out: &mut [T]) {
        for (o, v) in out.iter_mut().zip(values) {
            *o = convert(*v);
        }
    }
    for f in fields {
        if let Source::Argument(k) = f.source {
            on_host(&args[k], |view| {
                with_view!(view, v => match v.as_slice() {
                    Some(all) if v.ndim() == 1 => put(all.iter(), &mut out[f.offset..]),
                    _ => put(batch_matrix(v, batch, false).row(0).iter(), &mut out[f.offset..]),
                });
            });
        }
    }
}

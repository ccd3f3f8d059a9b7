//! Random arguments: values, awkward layouts, ranges.

use super::formula::Kind;
use crate::data::{ArgView, Buffer, DType, Element, HostView};
use crate::random::Random;
use crate::ranges::{Pattern, Ranges};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};

/// Integer data lie below this.
const INTEGERS: usize = 6;

/// Values that are not like the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    /// None.
    No,
    /// Zeros, ones, subnormals and large numbers.
    Mild,
    /// NaN, infinities and the largest numbers too, a few in each array.
    Wild,
}

/// One entry of an argument of `entries` entries.
pub fn entry(
    random: &mut Random,
    kind: Kind,
    dtype: DType,
    special: Special,
    entries: usize,
) -> f64 {
    let chance = match special {
        Special::No => 0.0,
        Special::Mild => 0.05,
        // NaN spreads: many of them would hide all else.
        Special::Wild => 1.5 / entries.max(10) as f64,
    };
    if random.unit() < chance {
        let (smallest, largest) = match dtype {
            DType::F16 => (2f64.powi(-24), 65504.0),
            DType::BF16 => (2f64.powi(-133), 3e38),
            DType::F32 => (2f64.powi(-149), f64::from(f32::MAX)),
            DType::F64 => (f64::from_bits(1), f64::MAX),
        };
        let inf = f64::INFINITY;
        let list = [0.0, -0.0, 1.0, -1.0, smallest, -smallest, 1e3, largest, inf, -inf, f64::NAN];
        let mild = list.len() - 4;
        return list[random.below(if special == Special::Mild { mild } else { list.len() })];
    }
    match kind {
        Kind::Signed => random.within(-2.0, 2.0),
        Kind::Positive => random.within(0.3, 0.8),
        Kind::Grid => random.below(17) as f64 / 4.0 - 2.0,
        Kind::Integer => random.below(INTEGERS) as f64,
    }
}

/// A row-major array of random entries.
pub fn array(
    random: &mut Random,
    dtype: DType,
    shape: &[usize],
    kind: Kind,
    special: Special,
) -> Option<Buffer> {
    fn fill<T: Element>(a: &mut ArrayD<T>, mut f: impl FnMut() -> f64) {
        a.iter_mut().for_each(|v| *v = T::of_f64(f()));
    }
    let mut buffer = Buffer::zeros(Some(dtype), shape)?;
    let entries = shape.iter().product();
    let next = || entry(random, kind, dtype, special, entries);
    match &mut buffer {
        Buffer::F16(a) => fill(a, next),
        Buffer::BF16(a) => fill(a, next),
        Buffer::F32(a) => fill(a, next),
        Buffer::F64(a) => fill(a, next),
        Buffer::I64(_) => return None,
    }
    Some(buffer)
}

/// How an argument lies in memory.
///
/// ```
/// use keops_core::conformance::{Layout, strategies::arrays};
/// use proptest::prelude::*;
/// proptest!(|(a in arrays::<f64>(&[4, 3]))| {
///     let (view, layout) = (a.view(), a.layout());
///     prop_assert_eq!(layout == Layout::Fortran, view.strides() == [1, 4]);
///     prop_assert_eq!(layout == Layout::Repeated, view.strides()[0] == 0);
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Row-major.
    Standard,
    /// Column-major.
    Fortran,
    /// Every second entry of a larger array along every axis.
    Strided,
    /// Backwards along every axis.
    Reversed,
    /// All rows are one row, with stride 0.
    Repeated,
}

/// Every layout; mostly the plain one.
pub const LAYOUTS: [Layout; 8] = [
    Layout::Standard,
    Layout::Standard,
    Layout::Standard,
    Layout::Standard,
    Layout::Fortran,
    Layout::Strided,
    Layout::Reversed,
    Layout::Repeated,
];

/// An argument in a layout, and the same in row-major order.
///
/// ```
/// use keops_core::conformance::{Case, Layout};
/// let simplest = Case { header: vec![0; 16], instructions: vec![[0; 3]] }.build()?;
/// let argument = &simplest.arguments[0];
/// assert_eq!(argument.layout(), Layout::Standard);
/// assert_eq!(argument.view().unwrap().shape(), argument.plain.shape());
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
pub struct Argument {
    shape: Vec<usize>,
    layout: Layout,
    stored: Buffer,
    /// Row-major.
    pub plain: Buffer,
}

impl Argument {
    /// Lays out random entries.
    pub(super) fn new(
        random: &mut Random,
        dtype: DType,
        shape: &[usize],
        kind: Kind,
        special: Special,
        layout: Layout,
    ) -> Option<Argument> {
        let stored = array(random, dtype, &stored_shape(shape, layout), kind, special)?;
        let mut a =
            Argument { shape: shape.to_vec(), layout, stored, plain: Buffer::zeros(None, &[])? };
        a.plain = match &*a.view()?.host().ok()? {
            HostView::F16(v) => Buffer::F16(v.as_standard_layout().into_owned()),
            HostView::BF16(v) => Buffer::BF16(v.as_standard_layout().into_owned()),
            HostView::F32(v) => Buffer::F32(v.as_standard_layout().into_owned()),
            HostView::F64(v) => Buffer::F64(v.as_standard_layout().into_owned()),
        };
        Some(a)
    }
    /// Its layout.
    ///
    /// ```
    /// use keops_core::conformance::{Case, all_features};
    /// let problem = Case { header: (3..19).collect(), instructions: vec![[5, 6, 7]] }.build()?;
    /// for argument in &problem.arguments {
    ///     let feature = format!("{:?} layout", argument.layout()).to_lowercase();
    ///     assert!(problem.features.contains(&feature) && all_features().contains(&feature));
    /// }
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    pub fn layout(&self) -> Layout {
        self.layout
    }
    /// In its layout: the values of `plain`.
    ///
    /// ```
    /// use keops_core::conformance::Case;
    /// let problem = Case { header: (0..16).collect(), instructions: vec![[1, 2, 3]] }.build()?;
    /// let argument = &problem.arguments[0];
    /// assert_eq!(argument.view().unwrap().shape(), argument.plain.shape());
    /// assert_eq!(argument.view().unwrap().dtype(), problem.spec.dtype);
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    pub fn view(&self) -> Option<ArgView<'_>> {
        Some(match &self.stored {
            Buffer::F16(a) => half::f16::erase(arrange(a, self.layout, &self.shape)),
            Buffer::BF16(a) => half::bf16::erase(arrange(a, self.layout, &self.shape)),
            Buffer::F32(a) => f32::erase(arrange(a, self.layout, &self.shape)),
            Buffer::F64(a) => f64::erase(arrange(a, self.layout, &self.shape)),
            Buffer::I64(_) => return None,
        })
    }
}

/// Shape of the array of which one of `shape` in that layout is a view.
pub fn stored_shape(shape: &[usize], layout: Layout) -> Vec<usize> {
    match layout {
        Layout::Standard | Layout::Reversed => shape.to_vec(),
        Layout::Fortran => shape.iter().rev().copied().collect(),
        // What lies between must never be read.
        Layout::Strided => shape.iter().map(|n| 2 * n + 1).collect(),
        Layout::Repeated => {
            let mut s = shape.to_vec();
            if let [.., rows, _] = &mut s[..] {
                *rows = 1;
            }
            s
        }
    }
}

/// The view in that layout.
pub fn arrange<'a, T>(stored: &'a ArrayD<T>, layout: Layout, shape: &[usize]) -> ArrayViewD<'a, T> {
    let mut v = stored.view();
    match layout {
        Layout::Standard => v,
        Layout::Fortran => v.reversed_axes(),
        Layout::Strided => {
            for k in 0..v.ndim() {
                v.slice_axis_inplace(Axis(k), Slice::new(1, None, 2));
            }
            v
        }
        Layout::Reversed => {
            (0..v.ndim()).for_each(|k| v.invert_axis(Axis(k)));
            v
        }
        Layout::Repeated => stored.broadcast(IxDyn(shape)).unwrap_or(v),
    }
}

/// Random blocks of rows `0..m` with the ranges of `0..n` that they meet.
pub fn ranges(random: &mut Random, m: usize, n: usize) -> Ranges {
    let cuts = |random: &mut Random, n: usize, pieces: usize| {
        let mut c: Vec<usize> = (0..pieces).map(|_| random.below(n + 1)).collect();
        c.sort_unstable();
        c
    };
    let mut pattern = Pattern::default();
    let pieces = 2 * (1 + random.below(4));
    for block in cuts(random, m, pieces).chunks(2) {
        pattern.blocks.push([block[0], block[1]]);
        let pieces = 2 * random.below(5);
        for range in cuts(random, n, pieces).chunks(2) {
            pattern.reduced.push([range[0], range[1]]);
        }
        pattern.slices.push(pattern.reduced.len());
    }
    match Ranges::from_pattern(pattern) {
        Ok(ranges) => ranges,
        Err(e) => unreachable!("sorted cuts make disjoint ranges: {e}"),
    }
}

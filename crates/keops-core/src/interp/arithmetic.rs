//! What the interpreter computes with: exact-ish f64, rounded f32, or (in [`super::bounded`])
//! values with error bounds.

use crate::data::DType;
use crate::error::OutOfMemory;
use crate::graph::FoldOp;
use crate::memory;
use crate::ops::OpDef;
use crate::reduce::Order;
use crate::spec::Scheme;
use half::f16;

/// What is being added up, which decides how much a device may lose in it.
#[derive(Clone, Copy, Debug)]
pub enum Sum {
    /// Components of a vector.
    Components,
    /// Rows, inside a reduction.
    Rows {
        /// Scheme asked for.
        scheme: Scheme,
        /// Accumulation type asked for.
        accumulate: Option<DType>,
        /// Are sums rescaled when a running maximum moves?
        pivot: bool,
    },
}

impl Sum {
    /// Is every addition rounded to f16?
    pub fn in_f16(self) -> bool {
        matches!(self, Sum::Rows { accumulate: Some(DType::F16), .. })
    }
}

/// One entry taken by a selecting reduction.
#[derive(Clone, Debug)]
pub struct Winner<V> {
    /// Its key.
    pub value: V,
    /// Its row, -1 where there is none.
    pub index: i64,
    /// Rows that a device may take instead, where rounding decides; else empty.
    pub alternatives: Vec<i64>,
}

/// What [`Arithmetic::select`] gives.
pub type Selected<V> = Result<Vec<Winner<V>>, OutOfMemory>;

/// A number system.
pub trait Arithmetic {
    /// A number.
    type V: Copy;
    /// A sum under way.
    type Acc: Clone;
    /// A number that devices hold exactly: data, indices.
    fn exact(&self, v: f64) -> Self::V;
    /// A constant of the formula.
    fn constant(&self, v: f64) -> Self::V;
    /// The plain number.
    fn value(&self, v: Self::V) -> f64;
    /// An element-wise operation.
    fn map(&self, op: &'static OpDef, x: &[Self::V]) -> Self::V;
    /// A product of a contraction.
    fn multiply(&self, a: Self::V, b: Self::V) -> Self::V;
    /// A reduction over components.
    fn fold(&self, op: FoldOp, x: &[Self::V]) -> Self::V;
    /// An entry of a table.
    fn gather(&self, table: &[Self::V], index: Self::V) -> Self::V;
    /// The running maximum of a reduction that shows it: by definition it is not differentiated,
    /// neither where it is shown nor in the sums beside it. Those belong to the number that the
    /// type of the result holds: `exp(f - m)` of both divided by the other is a softmax.
    fn shown(&self, pivot: Self::V, _: DType) -> Self::V {
        pivot
    }
    /// An empty sum.
    fn accumulator(&self, sum: Sum) -> Self::Acc;
    /// Adds a term.
    fn add(&self, acc: &mut Self::Acc, v: Self::V);
    /// The sum.
    fn total(&self, acc: &Self::Acc) -> Self::V;
    /// The first `k` candidates in ascending (`Min`) or descending order of key, then of row; NaN
    /// is no candidate. `same`: the key does not depend on the row, so that every device has the
    /// same number for all of them.
    fn select(
        &self,
        order: Order,
        k: usize,
        candidates: &[(Self::V, i64)],
        same: bool,
    ) -> Selected<Self::V>;
    /// May candidates that are not among the first `k` be forgotten?
    const PRUNES: bool;
}

/// The position that a real index means, if it lies in `0..len`: rounded, halves up.
pub fn position(index: f64, len: usize) -> Option<usize> {
    let k = (index + 0.5).floor();
    (k >= 0.0 && k < len as f64).then_some(k as usize)
}

/// The component that a fold takes.
pub fn winner(op: FoldOp, x: impl Iterator<Item = f64>) -> Option<(usize, f64)> {
    let largest = matches!(op, FoldOp::Max | FoldOp::ArgMax);
    x.enumerate().filter(|(_, v)| !v.is_nan()).reduce(|a, b| {
        let better = if largest { b.1 > a.1 } else { b.1 < a.1 };
        if better { b } else { a }
    })
}

/// The result of a fold whose winner is known.
pub fn folded(op: FoldOp, winner: Option<(usize, f64)>) -> f64 {
    match op {
        FoldOp::Min => winner.map_or(f64::INFINITY, |w| w.1),
        FoldOp::Max => winner.map_or(f64::NEG_INFINITY, |w| w.1),
        // All NaN: position 0, as no component is better than the first.
        FoldOp::ArgMin | FoldOp::ArgMax => winner.map_or(0.0, |w| w.0 as f64),
    }
}

/// Stable selection on plain numbers.
pub fn select_plain<V: Copy>(
    order: Order,
    k: usize,
    candidates: &[(V, i64)],
    value: impl Fn(V) -> f64,
    pad: V,
) -> Selected<V> {
    let k = k.max(1);
    let mut sorted: Vec<(V, i64)> = memory::room(candidates.len().max(k), "candidates")?;
    sorted.extend(candidates.iter().filter(|c| !value(c.0).is_nan()));
    // Rows differ, so that the order is one, whatever the sort.
    sorted.sort_unstable_by(|a, b| {
        let by_value = value(a.0).partial_cmp(&value(b.0)).unwrap_or(std::cmp::Ordering::Equal);
        (if order == Order::Min { by_value } else { by_value.reverse() }).then(a.1.cmp(&b.1))
    });
    sorted.resize(k, (pad, -1));
    let winner = |(value, index)| Winner { value, index, alternatives: vec![] };
    memory::collected(sorted.into_iter().map(winner), "winners")
}

/// The neutral key of an order.
pub fn neutral(order: Order) -> f64 {
    if order == Order::Min { f64::INFINITY } else { f64::NEG_INFINITY }
}

/// Neumaier's compensated sum; infinities and NaN as in a plain sum.
#[derive(Clone, Copy, Default, Debug)]
pub struct Compensated {
    sum: f64,
    lost: f64,
}

impl Compensated {
    /// Adds a term.
    pub fn add(&mut self, v: f64) {
        let t = self.sum + v;
        self.lost +=
            if self.sum.abs() >= v.abs() { (self.sum - t) + v } else { (v - t) + self.sum };
        self.sum = t;
    }
    /// The sum.
    pub fn total(&self) -> f64 {
        if self.sum.is_finite() { self.sum + self.lost } else { self.sum }
    }
}

/// A plain sum under way.
#[derive(Clone, Copy, Debug)]
pub struct PlainSum {
    how: Sum,
    sum: Compensated,
    rounded: f32,
}

impl PlainSum {
    fn new(how: Sum) -> Self {
        PlainSum { how, sum: Compensated::default(), rounded: 0.0 }
    }
}

/// f64, sums compensated.
#[derive(Clone, Copy, Debug)]
pub struct Exact;

impl Arithmetic for Exact {
    type V = f64;
    type Acc = PlainSum;
    const PRUNES: bool = true;
    fn shown(&self, pivot: f64, compute: DType) -> f64 {
        if compute == DType::F64 { pivot } else { f64::from(pivot as f32) }
    }
    fn exact(&self, v: f64) -> f64 {
        v
    }
    fn constant(&self, v: f64) -> f64 {
        v
    }
    fn value(&self, v: f64) -> f64 {
        v
    }
    fn map(&self, op: &'static OpDef, x: &[f64]) -> f64 {
        (op.value.f64)(x)
    }
    fn multiply(&self, a: f64, b: f64) -> f64 {
        a * b
    }
    fn fold(&self, op: FoldOp, x: &[f64]) -> f64 {
        folded(op, winner(op, x.iter().copied()))
    }
    fn gather(&self, table: &[f64], index: f64) -> f64 {
        position(index, table.len()).map_or(f64::NAN, |k| table[k])
    }
    fn accumulator(&self, sum: Sum) -> PlainSum {
        PlainSum::new(sum)
    }
    fn add(&self, acc: &mut PlainSum, v: f64) {
        if acc.how.in_f16() {
            acc.rounded = f16::from_f32(acc.rounded + v as f32).to_f32();
        } else {
            acc.sum.add(v);
        }
    }
    fn total(&self, acc: &PlainSum) -> f64 {
        if acc.how.in_f16() { f64::from(acc.rounded) } else { acc.sum.total() }
    }
    fn select(&self, order: Order, k: usize, c: &[(f64, i64)], _: bool) -> Selected<f64> {
        select_plain(order, k, c, |v| v, neutral(order))
    }
}

/// f32, every operation rounded.
#[derive(Clone, Copy, Debug)]
pub struct Single;

impl Arithmetic for Single {
    type V = f32;
    type Acc = PlainSum;
    const PRUNES: bool = true;
    fn exact(&self, v: f64) -> f32 {
        v as f32
    }
    fn constant(&self, v: f64) -> f32 {
        v as f32
    }
    fn value(&self, v: f32) -> f64 {
        f64::from(v)
    }
    fn map(&self, op: &'static OpDef, x: &[f32]) -> f32 {
        (op.value.f32)(x)
    }
    fn multiply(&self, a: f32, b: f32) -> f32 {
        a * b
    }
    fn fold(&self, op: FoldOp, x: &[f32]) -> f32 {
        folded(op, winner(op, x.iter().map(|&v| f64::from(v)))) as f32
    }
    fn gather(&self, table: &[f32], index: f32) -> f32 {
        position(f64::from(index), table.len()).map_or(f32::NAN, |k| table[k])
    }
    fn accumulator(&self, sum: Sum) -> PlainSum {
        PlainSum::new(sum)
    }
    fn add(&self, acc: &mut PlainSum, v: f32) {
        match acc.how {
            Sum::Components | Sum::Rows { scheme: Scheme::Direct, accumulate: None, .. } => {
                acc.rounded += v;
            }
            how if how.in_f16() => acc.rounded = f16::from_f32(acc.rounded + v).to_f32(),
            _ => acc.sum.add(f64::from(v)),
        }
    }
    fn total(&self, acc: &PlainSum) -> f32 {
        match acc.how {
            Sum::Components | Sum::Rows { scheme: Scheme::Direct, accumulate: None, .. } => {
                acc.rounded
            }
            how if how.in_f16() => acc.rounded,
            _ => acc.sum.total() as f32,
        }
    }
    fn select(&self, order: Order, k: usize, c: &[(f32, i64)], _: bool) -> Selected<f32> {
        select_plain(order, k, c, f64::from, neutral(order) as f32)
    }
}

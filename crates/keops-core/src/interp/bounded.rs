//! Running error analysis: every value carries a bound on the error that compiled code may have
//! made up to there (Higham, *Accuracy and Stability of Numerical Algorithms*, §3.3).
//!
//! The errors of operands are propagated through an operation by evaluating it at the ends of
//! their intervals, at zero and at its kinks, so no operation needs data for this beyond its
//! tolerance class ([`OpDef::ulps`]). A value that rounding may push over a jump (a comparison, a
//! floor, the sign of zero under a division, an overflow of the compute type) has the bound
//! +inf: nothing is known about it. A NaN or an infinity with the bound 0 is certain.

use super::arithmetic::{
    Arithmetic, Compensated, Selected, Sum, Winner, folded, neutral, position, winner,
};
use super::{Job, copied};
use crate::data::DType;
use crate::error::Error;
use crate::graph::FoldOp;
use crate::ops::{self, OpDef};
use crate::reduce::{Family, Order};
use crate::spec::{CheckedArgs, ReduceSpec, Scheme};
use std::collections::{BTreeMap, HashMap};

/// Rows that [`Scheme::Block`] adds up in the accumulation type before it compensates; the most
/// that a backend may choose.
const BLOCK: f64 = 256.0;
/// Fewest rows between two changes of the running maximum of a backend.
const REBASE: f64 = 32.0;
/// Rounding errors of one such change: an exponential, a difference and a product, in units of
/// half an ulp.
const REBASE_ERRORS: f64 = 7.0;
/// How much a value may move per unit of the movement of a predicate's operands without being
/// taken for a jump: `Clamp` and `Max` of two formulas are continuous, `Floor` is not.
const JUMP: f64 = 16.0;

/// An output of a reduction with bounds on the error of compiled code.
/// See [`evaluate_with_bounds`].
///
/// ```
/// use keops_core::interp::Bounded;
/// // An index, with two that are right: their keys differ by less than rounding does.
/// let alternatives = [(0, vec![3, 7])].into_iter().collect();
/// let nearest = Bounded { values: vec![3.0], bounds: vec![0.0], alternatives };
/// assert!(nearest.alternatives[&0].contains(&7));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounded {
    /// Values, or indices as reals, row-major over `(batch…, rows, dim)`.
    pub values: Vec<f64>,
    /// Largest error of each value; +inf where rounding decides, and nothing is known.
    pub bounds: Vec<f64>,
    /// For indices that rounding decides: every index that is right, by position.
    pub alternatives: BTreeMap<usize, Vec<i64>>,
}

/// Evaluates a reduction in f64, with a bound on the error of a computation in the compute type
/// of the data. The bounds cover the error of the f64 evaluation itself.
///
/// # Errors
/// If a variable of the formula is not among those of the reduction, or memory cannot be had.
///
/// ```
/// use keops_core::data::{DType, Element};
/// use keops_core::interp::evaluate_with_bounds;
/// use keops_core::spec::CheckedArgs;
/// # use keops_core::{parse::parse_formula, reduce::SUM, spec::Axis};
/// let f = parse_formula("Exp(y)", None, &["y = Vj(1)"])?;
/// let spec = f.spec(&SUM, Axis::J, DType::F32);
/// let y = ndarray::array![[0.0_f32], [1.0]].into_dyn();
/// let args = CheckedArgs::new(&spec, vec![f32::erase(y.view())], None, None, None)?;
/// let [sum] = &evaluate_with_bounds(&spec, &args)?[..] else { unreachable!() };
/// assert!((sum.values[0] - (1.0 + std::f64::consts::E)).abs() < 1e-12);
/// // What f32 does must lie within a few of its roundings, 2^-24 each.
/// assert!(sum.bounds[0] > 0.0 && sum.bounds[0] < 1e-5);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub fn evaluate_with_bounds(
    spec: &ReduceSpec,
    args: &CheckedArgs<'_>,
) -> Result<Vec<Bounded>, Error> {
    let job = Job::new(spec)?;
    let arithmetic = Running::new(spec);
    let outputs = spec.outputs();
    let mut result = vec![Bounded::default(); outputs.len()];
    let input =
        |k: usize, batch: &[usize]| copied(args, k, &spec.vars[k], batch, |v| arithmetic.exact(v));
    job.run(&arithmetic, args, &input, &mut |k, w| {
        let out = &mut result[k];
        if outputs[k].index {
            if !w.alternatives.is_empty() {
                out.alternatives.insert(out.values.len(), w.alternatives);
            }
            out.values.push(w.index as f64);
            out.bounds.push(0.0);
        } else {
            out.values.push(w.value.v);
            out.bounds.push(w.value.e);
        }
    })?;
    Ok(result)
}

/// A value and a bound on the distance of the device's value from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Approx {
    v: f64,
    e: f64,
}

impl Approx {
    fn unknown(v: f64) -> Approx {
        Approx { v, e: f64::INFINITY }
    }
    fn low(self) -> f64 {
        if self.e == f64::INFINITY { f64::NEG_INFINITY } else { self.v - self.e }
    }
    fn high(self) -> f64 {
        if self.e == f64::INFINITY { f64::INFINITY } else { self.v + self.e }
    }
    fn finite(self) -> bool {
        self.v.is_finite() && self.e.is_finite()
    }
}

/// `|a - b|`, 0 for equal infinities and for two NaN, +inf if only one of them is special.
fn distance(a: f64, b: f64) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let d = (a - b).abs();
    if d.is_nan() { f64::INFINITY } else { d }
}

/// The number system of error bounds for one compute type.
pub struct Running {
    single: bool,
    /// Half the distance from 1 to the next number.
    unit: f64,
    /// Smallest positive number.
    tiny: f64,
    /// Largest number.
    max: f64,
    /// Relative error of an exponential per unit of its argument, in ulp: the reduction of the
    /// argument in one step, which the summands of sums may use.
    cheap_exp: f64,
    /// Are addends scaled by a pivot?
    pivots: bool,
    /// For each operation: operands whose derivative is 0 everywhere. The value is constant or
    /// jumps as they move.
    predicates: HashMap<&'static str, Vec<bool>>,
}

impl Running {
    fn new(spec: &ReduceSpec) -> Running {
        let single = spec.dtype.compute() == DType::F32;
        let (unit, tiny, max) = if single {
            (2f64.powi(-24), 2f64.powi(-149), f64::from(f32::MAX))
        } else {
            (2f64.powi(-53), f64::from_bits(1), f64::MAX)
        };
        let (cheap_exp, pivots) = match &spec.reduction.kind {
            Family::Select(_) => (0.0, false),
            // With a pivot, rescaling a sum does it once more.
            Family::Accumulate(a) => (1.0 + f64::from(a.pivot.is_some()), a.pivot.is_some()),
        };
        let predicates = ops::ALL.iter().map(|op| (op.name, op.jumps())).collect();
        Running { single, unit, tiny, max, cheap_exp, pivots, predicates }
    }
    /// Errors of the reference count too where it is no more precise than the device.
    fn sides(&self) -> f64 {
        if self.single { 1.0 } else { 2.0 }
    }
    /// Distance of neighbouring numbers at `v`.
    fn ulp(&self, v: f64) -> f64 {
        let power = f64::from_bits(v.to_bits() & (0x7ff << 52));
        (power * self.unit * 2.0).max(self.tiny)
    }
    /// An exact value as the device holds it.
    fn stored(&self, v: f64) -> f64 {
        if self.single { distance(f64::from(v as f32), v) } else { 0.0 }
    }
    /// Adds the rounding of an operation with ulp bound `ulps` to a propagated error `e`.
    fn rounded(&self, ulps: f64, v: f64, e: f64, exact: bool) -> Approx {
        if !v.is_finite() || e == f64::INFINITY {
            return Approx { v, e };
        }
        let more = if ulps == 0.0 || (exact && v == 0.0) {
            0.0
        } else if exact && ulps <= 0.5 && self.single {
            // A correctly rounded result of known operands is known, and so is the exact one that
            // a fused operation goes on with.
            self.stored(v)
        } else {
            // The device's result may be in the next binade.
            let most = v.abs() + e + ulps * self.ulp(v.abs() + e);
            // Half of the smallest number is not one.
            (ulps * self.ulp(most) * self.sides()).max(f64::from_bits(1))
        };
        self.checked(v, e + more)
    }
    /// A sum of two finite numbers whose errors add up to `e`.
    fn sum_of_two(&self, a: f64, b: f64, e: f64, exact: bool) -> Approx {
        let v = a + b;
        // Knuth's two-sum: what the addition lost.
        let part = v - a;
        let lost = (a - (v - part)) + (b - part);
        self.combined(ops::ADD.ulps, v, e, exact && (self.single || lost == 0.0))
    }
    /// A sum or a product of finite numbers: an overflow may not happen in a fused operation.
    fn combined(&self, ulps: f64, v: f64, e: f64, exact: bool) -> Approx {
        if v.is_infinite() { Approx::unknown(v) } else { self.rounded(ulps, v, e, exact) }
    }
    fn checked(&self, v: f64, e: f64) -> Approx {
        let overflow = v.abs() + e > self.max;
        Approx { v, e: if overflow { f64::INFINITY } else { e } }
    }
    /// Largest movement of `op` while its operands move within their bounds.
    fn spread(&self, op: &'static OpDef, x: &[Approx], v: f64) -> f64 {
        let none = vec![];
        let predicate = self.predicates.get(op.name).unwrap_or(&none);
        let is_predicate = |k: usize| predicate.get(k).copied().unwrap_or(false);
        let mut samples: Vec<Vec<f64>> = x.iter().map(|a| samples(op, *a)).collect();
        if x.len() == 2 && is_predicate(0) && is_predicate(1) {
            // A comparison of two values jumps where they meet.
            for k in 0..2 {
                let (own, other) = (x[k], x[1 - k]);
                let meets = [other.low(), other.v, other.high()];
                let inside = meets.into_iter().filter(|&m| own.low() <= m && m <= own.high());
                samples[k].extend(inside);
            }
        }
        let total: f64 = x.iter().map(|a| a.e).sum();
        let mut worst = 0.0f64;
        let mut place = vec![0; x.len()];
        let mut at: Vec<f64> = samples.iter().map(|s| s[0]).collect();
        loop {
            let moved = distance((op.value.f64)(&at), v);
            let only_predicates = (0..x.len()).all(|k| place[k] == 0 || is_predicate(k));
            if only_predicates && moved > JUMP * total {
                return f64::INFINITY;
            }
            worst = worst.max(moved);
            // Next combination of samples.
            let Some(k) = (0..x.len()).find(|&k| place[k] + 1 < samples[k].len()) else {
                // An oscillating operation moves further between the points of a wide interval, and
                // at random where the interval holds many periods.
                let widest = x.iter().map(|a| a.e).fold(0.0, f64::max);
                let more = if widest > 1.0 {
                    8.0
                } else if widest > WIDE {
                    2.0
                } else {
                    1.0
                };
                return more * worst;
            };
            for q in 0..k {
                place[q] = 0;
                at[q] = samples[q][0];
            }
            place[k] += 1;
            at[k] = samples[k][place[k]];
        }
    }
    fn fold_bound(&self, op: FoldOp, x: &[Approx]) -> Approx {
        let sign = if matches!(op, FoldOp::Max | FoldOp::ArgMax) { -1.0 } else { 1.0 };
        let best = winner(op, x.iter().map(|a| a.v));
        let v = folded(op, best);
        // As a minimum: NaN is absent, an unknown value may be absent or anything.
        let ends = |a: &Approx| {
            let (l, h) = (sign * a.low(), sign * a.high());
            if sign > 0.0 { (l, h) } else { (h.min(l), h.max(l)) }
        };
        let candidates = || x.iter().filter(|a| !(a.v.is_nan() && a.e == 0.0));
        if matches!(op, FoldOp::Min | FoldOp::Max) {
            let least = |f: &dyn Fn(&Approx) -> f64| {
                candidates().map(f).fold(f64::INFINITY, f64::min) * sign
            };
            let (low, high) = (least(&|a| ends(a).0), least(&|a| ends(a).1));
            return Approx { v, e: distance(v, low).max(distance(v, high)) };
        }
        let decided = match best {
            None => candidates().next().is_none(),
            Some((b, _)) => {
                let (_, high) = ends(&x[b]);
                x[b].e != f64::INFINITY
                    && x.iter().enumerate().all(|(k, a)| {
                        let low = ends(a).0;
                        let absent = a.v.is_nan() && a.e == 0.0;
                        k == b || absent || low > high || (low == high && k > b)
                    })
            }
        };
        if decided { Approx { v, e: 0.0 } } else { Approx::unknown(v) }
    }
}

/// What rounding took from the result `v` of a correctly rounded operation on known operands, up
/// to a factor; not 0 where that is not known.
fn residual(op: &OpDef, x: &[Approx], v: f64) -> f64 {
    if !v.is_finite() {
        return 0.0;
    }
    if std::ptr::eq(op, &ops::MULT) {
        x[0].v.mul_add(x[1].v, -v)
    } else if std::ptr::eq(op, &ops::DIVIDE) {
        v.mul_add(x[1].v, -x[0].v)
    } else if std::ptr::eq(op, &ops::SQRT) {
        v.mul_add(v, -x[0].v)
    } else {
        f64::NAN
    }
}

/// Half width from which an interval counts as wide.
const WIDE: f64 = 0.1;

/// Points of an operand's interval at which an operation is tried; the first is the centre.
fn samples(op: &OpDef, a: Approx) -> Vec<f64> {
    let mut s = vec![a.v];
    if a.v == 0.0 {
        // The sign of a computed zero depends on the order of additions.
        s.push(-a.v);
    }
    if a.e == 0.0 || (a.v.is_nan() && a.e.is_finite()) {
        return s;
    }
    if a.e == f64::INFINITY {
        s.extend([f64::NEG_INFINITY, f64::INFINITY, f64::NAN]);
    } else {
        s.extend([a.low(), a.high()]);
        // A power of a negative number is a number where the exponent is an integer, of a sign
        // that depends on its parity.
        let first = a.low().ceil();
        s.extend([first, first + 1.0].iter().filter(|&&p| p < a.high()));
        if a.e > WIDE {
            // The extremum of a wide interval may be inside. The fractions have no common measure:
            // no period of an oscillating operation divides all of the steps.
            let fractions = [5f64.sqrt() - 2.0, 2f64.sqrt() - 1.0, 3f64.sqrt() - 1.0];
            s.extend(fractions.iter().flat_map(|t| [a.v - t * a.e, a.v + t * a.e]));
        }
    }
    let special = [0.0, -0.0].iter().chain(op.kinks);
    s.extend(special.filter(|&&p| a.low() < p && p < a.high()));
    s
}

/// A sum with bounds under way.
#[derive(Clone, Debug)]
pub struct BoundedSum {
    how: Sum,
    terms: f64,
    sum: Compensated,
    magnitude: f64,
    error: f64,
    nan: bool,
    infinite: [bool; 2],
    unknown: bool,
}

impl Arithmetic for Running {
    type V = Approx;
    type Acc = BoundedSum;
    const PRUNES: bool = false;
    fn exact(&self, v: f64) -> Approx {
        Approx { v, e: 0.0 }
    }
    fn constant(&self, v: f64) -> Approx {
        Approx { v, e: self.stored(v) }
    }
    fn value(&self, v: Approx) -> f64 {
        v.v
    }
    fn map(&self, op: &'static OpDef, x: &[Approx]) -> Approx {
        let exact = x.iter().all(|a| a.e == 0.0);
        if let [a, b] = x
            && a.finite()
            && b.finite()
        {
            // The same as sampling, without its cost.
            if std::ptr::eq(op, &ops::ADD) {
                return self.sum_of_two(a.v, b.v, a.e + b.e, exact);
            } else if std::ptr::eq(op, &ops::SUBTRACT) {
                return self.sum_of_two(a.v, -b.v, a.e + b.e, exact);
            } else if std::ptr::eq(op, &ops::MULT) {
                return self.multiply(*a, *b);
            }
        }
        let mut at = [0.0; 3];
        at.iter_mut().zip(x).for_each(|(p, a)| *p = a.v);
        let v = (op.value.f64)(&at[..x.len()]);
        let steady = exact && x.iter().all(|a| a.v != 0.0);
        let e = if steady { 0.0 } else { self.spread(op, x, v) };
        // Divisions by constants may be products with their inverse, which is exact for powers of
        // two and otherwise one more rounding.
        let inverse = std::ptr::eq(op, &ops::DIVIDE) && x[1].v.to_bits() << 12 != 0 && v != 0.0;
        let rounds = op.ulps == 0.5 && !self.single && residual(op, x, v) != 0.0;
        let known = exact && e == 0.0 && !inverse && !rounds;
        let mut y = self.rounded(op.ulps + inverse as u8 as f64, v, e, known);
        if std::ptr::eq(op, &ops::TAN) && !exact && x[0].v.cos().abs() <= x[0].e {
            return Approx::unknown(v); // There is a pole in the interval.
        }
        if std::ptr::eq(op, &ops::EXP) && y.finite() && x[0].v.is_finite() {
            let cheap = self.cheap_exp * 2.0 * self.unit * x[0].v.abs() * (y.v.abs() + y.e);
            // Beside the pivot of another part of the row it may not underflow, and zero is not the
            // only number whose product with an infinite weight is wanted.
            let underflow = if self.pivots && y.v == 0.0 { f64::from_bits(1) } else { 0.0 };
            y = self.checked(y.v, (y.e + cheap).max(underflow));
        }
        y
    }
    fn multiply(&self, a: Approx, b: Approx) -> Approx {
        if !(a.finite() && b.finite()) {
            let v = a.v * b.v;
            return Approx { v, e: self.spread(&ops::MULT, &[a, b], v) };
        }
        let e = a.v.abs() * b.e + b.v.abs() * a.e + a.e * b.e;
        let exact = a.e == 0.0 && b.e == 0.0;
        let known = exact && (self.single || residual(&ops::MULT, &[a, b], a.v * b.v) == 0.0);
        self.combined(ops::MULT.ulps, a.v * b.v, e, known)
    }
    fn fold(&self, op: FoldOp, x: &[Approx]) -> Approx {
        self.fold_bound(op, x)
    }
    fn gather(&self, table: &[Approx], index: Approx) -> Approx {
        let at = |v: f64| position(v, table.len());
        let entry = |k: Option<usize>| k.map_or(Approx { v: f64::NAN, e: 0.0 }, |k| table[k]);
        let k = at(index.v);
        if index.v.is_nan() && index.e == 0.0 {
            return entry(None);
        }
        // Halves are rounded up by an addition, which rounds itself.
        let whole = index.v == index.v.floor() && index.e == 0.0;
        let e = if whole { 0.0 } else { index.e + self.ulp(index.v.abs() + 1.0) };
        let (low, high) = (index.v - e, index.v + e);
        // Out of range on both sides says nothing of what lies between.
        let around = low < 0.0 && high > 0.0;
        let steady = e.is_finite() && at(low) == k && at(high) == k && (k.is_some() || !around);
        if steady { entry(k) } else { Approx::unknown(entry(k).v) }
    }
    fn accumulator(&self, how: Sum) -> BoundedSum {
        BoundedSum {
            how,
            terms: 0.0,
            sum: Compensated::default(),
            magnitude: 0.0,
            error: 0.0,
            nan: false,
            infinite: [false; 2],
            unknown: false,
        }
    }
    fn add(&self, acc: &mut BoundedSum, a: Approx) {
        if a.e == f64::INFINITY {
            acc.unknown = true;
        } else if a.v.is_nan() {
            acc.nan = true;
        } else if a.v.is_infinite() {
            acc.infinite[(a.v > 0.0) as usize] = true;
        }
        // Adding zeros is exact.
        if a.v.is_finite() && (a.v != 0.0 || a.e != 0.0) {
            acc.terms += 1.0;
            acc.sum.add(a.v);
            acc.magnitude += a.v.abs() + a.e;
            acc.error += a.e;
        }
    }
    fn total(&self, acc: &BoundedSum) -> Approx {
        let certain = |v| Approx { v, e: 0.0 };
        // Finite terms may overflow to the other infinity on the way.
        let max = if acc.how.in_f16() { f64::from(half::f16::MAX) } else { self.max };
        let unknown = acc.unknown || acc.magnitude > 0.5 * max;
        match (acc.nan, acc.infinite, unknown) {
            (true, ..) | (_, [true, true], _) => return certain(f64::NAN),
            (_, [false, false], _) if !acc.unknown => {}
            (_, _, true) => return Approx::unknown(acc.sum.total()),
            (_, [true, false], _) => return certain(f64::NEG_INFINITY),
            (_, [false, true], _) => return certain(f64::INFINITY),
            _ => {}
        }
        let v = acc.sum.total();
        let n = acc.terms;
        if n <= 1.0 && !acc.how.in_f16() {
            return self.checked(v, acc.error);
        }
        // Units of half an ulp of the sum of magnitudes; errors of order n² u² are below the 1 %.
        let mut errors = match acc.how {
            Sum::Components | Sum::Rows { scheme: Scheme::Direct, accumulate: None, .. } => n - 1.0,
            Sum::Rows { accumulate: Some(DType::F16), .. } => n * 2f64.powi(13),
            Sum::Rows { accumulate: Some(DType::F64), .. } if self.single => 1.0,
            Sum::Rows { scheme: Scheme::Block, .. } => n.min(BLOCK) + 1.0,
            Sum::Rows { scheme: Scheme::Kahan, .. } => 3.0,
            Sum::Rows { .. } => n - 1.0,
        };
        if let Sum::Rows { pivot: true, .. } = acc.how {
            let per = if acc.how.in_f16() { 2f64.powi(13) } else { 1.0 };
            errors += per * REBASE_ERRORS * (2.0 + n / REBASE);
        }
        if !self.single {
            errors += 2.0; // of the reference
        }
        let subnormal = if acc.how.in_f16() { n * 2f64.powi(-25) } else { 0.0 };
        let rounding = 1.01 * errors * self.unit * acc.magnitude + subnormal;
        // Partial sums are no larger than the sum of magnitudes, in whatever order.
        let overflow = acc.magnitude + rounding > max;
        if overflow { Approx::unknown(v) } else { self.checked(v, acc.error + rounding) }
    }
    fn select(&self, order: Order, k: usize, c: &[(Approx, i64)], same: bool) -> Selected<Approx> {
        Ok(select_bounded(order, k, c, same))
    }
}

/// A candidate as a smallest key: its interval, and whether it may be a NaN.
struct Candidate {
    v: f64,
    low: f64,
    high: f64,
    index: i64,
    unknown: bool,
}

impl Candidate {
    /// Is `self` taken before `other` on every device?
    fn before(&self, other: &Candidate) -> bool {
        !self.unknown
            && (self.high < other.low || (self.high == other.low && self.index < other.index))
    }
}

/// The value of rank k lies between the k-th smallest of the lower and of the upper ends.
fn select_bounded(order: Order, k: usize, c: &[(Approx, i64)], same: bool) -> Vec<Winner<Approx>> {
    let sign = if order == Order::Min { 1.0 } else { -1.0 };
    let mut all: Vec<Candidate> = c
        .iter()
        .filter(|(a, _)| a.e == f64::INFINITY || !a.v.is_nan())
        .map(|&(a, index)| {
            let (l, h) = (sign * a.low(), sign * a.high());
            let unknown = a.e == f64::INFINITY;
            Candidate { v: sign * a.v, low: l.min(h), high: l.max(h), index, unknown }
        })
        .collect();
    // -0 and 0 tie; an unknown NaN comes last.
    all.sort_by(|a, b| {
        let by_value = a.v.partial_cmp(&b.v).unwrap_or(a.v.is_nan().cmp(&b.v.is_nan()));
        by_value.then(a.index.cmp(&b.index))
    });
    let ends = |f: fn(&Candidate) -> f64| {
        let mut e: Vec<f64> = all.iter().map(f).collect();
        e.sort_by(f64::total_cmp);
        e
    };
    let (lows, highs) = (ends(|c| c.low), ends(|c| c.high));
    let certain = all.iter().filter(|c| !c.unknown).count();
    let at = |e: &[f64], rank: usize| e.get(rank).copied().unwrap_or(f64::INFINITY);
    (0..k)
        .map(|rank| {
            let (low, high) = (at(&lows, rank), at(&highs, rank));
            let own = all.get(rank).filter(|c| !c.v.is_nan());
            let v = own.map_or(f64::INFINITY, |c| c.v);
            let e = distance(v, low).max(distance(v, high));
            let decided = match own {
                None => all.len() <= rank,
                // One number for all rows: they tie, and the lowest rows come first.
                Some(own) if same => !own.unknown,
                Some(own) => {
                    let others = || all.iter().enumerate().filter(move |(q, _)| *q != rank);
                    !own.unknown
                        && others()
                            .all(|(q, c)| if q < rank { c.before(own) } else { own.before(c) })
                }
            };
            let mut alternatives = vec![];
            if !decided {
                let fits = |c: &&Candidate| c.low <= high && c.high >= low;
                alternatives.extend(all.iter().filter(fits).map(|c| c.index));
                if certain <= rank {
                    alternatives.push(-1);
                }
            }
            let v = if own.is_none() { neutral(order) } else { sign * v };
            Winner { value: Approx { v, e }, index: own.map_or(-1, |c| c.index), alternatives }
        })
        .collect()
}

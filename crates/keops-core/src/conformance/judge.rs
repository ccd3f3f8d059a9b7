//! Is a result within its bounds?

use crate::data::Buffer;
use crate::interp::Bounded;

/// Error ratios by powers of two: entry `k` counts ratios in `[2^(k-1), 2^k) · 2^-FINEST`; the
/// first also everything smaller.
pub const RATIOS: usize = 14;
/// Ratios up to `2^-FINEST` fall into the first entry of the histogram.
const FINEST: i32 = 12;

/// What a comparison found.
///
/// ```
/// use keops_core::conformance::{Judgement, judge};
/// use keops_core::{data::Buffer, interp::Bounded};
/// let reference = Bounded { values: vec![2.0], bounds: vec![0.25], ..Bounded::default() };
/// let at = |v: f64| judge(&reference, &Buffer::F64(ndarray::arr2(&[[v]]).into_dyn()), 1);
/// let Judgement { entries, worst, wrong, .. } = at(2.125);
/// assert!(entries == 1 && (worst - 0.5).abs() < 1e-12 && wrong.is_none());
/// assert!(at(2.5).wrong.unwrap().starts_with("entry 0: got 2.5e0, expected 2e0"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Entries of the output.
    pub entries: usize,
    /// Largest ratio of error and bound.
    pub worst: f64,
    /// Ratios of the entries with an error bound above 0.
    pub ratios: [usize; RATIOS],
    /// The first entry that is wrong.
    pub wrong: Option<String>,
}

/// Backends may merge constant factors or take factors out of sums: among subnormal numbers that
/// shows as some units of the smallest for each term.
const UNDERFLOW: f64 = 4096.0;

/// Roundings, in units of the result, that are free: backends may multiply a sum by a factor
/// instead of every term.
const AFTER: f64 = 3.0;

/// Compares an output with the reference.
///
/// A finite reference wants `|got - reference| <= bound`. Where the reference is certain (bound 0)
/// an infinity wants the same infinity and NaN wants NaN. Where the bound is +inf any value
/// passes; an index that rounding decides has to be one of the candidates within the bounds, and
/// no two ranks may name the same one.
///
/// ```
/// use keops_core::{conformance::judge, data::Buffer, interp::Bounded};
/// // Rounding decides between rows 1 and 4; row 2 is wrong.
/// let alternatives = [(0, vec![1, 4])].into_iter().collect();
/// let reference = Bounded { values: vec![1.0], bounds: vec![0.0], alternatives };
/// let found = |row: i64| judge(&reference, &Buffer::I64(ndarray::arr2(&[[row]]).into_dyn()), 1);
/// assert_eq!([1, 4, 2].map(|row| found(row).wrong.is_some()), [false, false, true]);
/// ```
pub fn judge(reference: &Bounded, got: &Buffer, ranks: usize) -> Judgement {
    let mut j = Judgement { entries: reference.values.len(), ..Judgement::default() };
    let found = got.to_f64();
    if found.len() != reference.values.len() {
        j.wrong = Some(format!("{} entries, expected {}", found.len(), reference.values.len()));
        return j;
    }
    let index = got.indices().is_some();
    let (least, unit) = match got {
        Buffer::F64(_) => (f64::from_bits(1), f64::EPSILON / 2.0),
        Buffer::I64(_) => (0.0, 0.0),
        _ => (f64::from(f32::from_bits(1)), f64::from(f32::EPSILON / 2.0)),
    };
    for (at, &got) in found.iter().enumerate() {
        let (expected, bound) = (reference.values[at], reference.bounds[at]);
        if let Some(alternatives) = reference.alternatives.get(&at) {
            if !alternatives.contains(&(got as i64)) && j.wrong.is_none() {
                j.wrong =
                    Some(format!("entry {at}: got index {got}, expected one of {alternatives:?}"));
            }
            continue;
        }
        if bound == f64::INFINITY {
            continue;
        }
        let error = if got == expected || (got.is_nan() && expected.is_nan()) {
            0.0
        } else {
            (got - expected).abs()
        };
        let error = if error <= UNDERFLOW * least { 0.0 } else { error };
        let free = AFTER * unit * expected.abs();
        let error = if error.is_finite() { (error - free).max(0.0) } else { error };
        let ratio = match error {
            0.0 => 0.0,
            _ if bound == 0.0 || !error.is_finite() => f64::INFINITY,
            _ => error / bound,
        };
        j.worst = j.worst.max(ratio);
        if bound > 0.0 {
            let power = ratio.max(1e-300).log2().floor() as i32 + 1 + FINEST;
            j.ratios[power.clamp(0, RATIOS as i32 - 1) as usize] += 1;
        }
        if ratio > 1.0 && j.wrong.is_none() {
            j.wrong = Some(format!(
                "entry {at}: got {got:e}, expected {expected:e} within {bound:.3e} (off by {ratio:.3} bounds)"
            ));
        }
    }
    if index && ranks > 1 && j.wrong.is_none() {
        j.wrong = repeated(got, ranks);
    }
    j
}

/// Two ranks of one row and component with the same index.
fn repeated(got: &Buffer, ranks: usize) -> Option<String> {
    let all: Vec<i64> = got.indices()?.iter().copied().collect();
    let width = *got.shape().last()?;
    let dim = width / ranks;
    for (row, entries) in all.chunks(width.max(1)).enumerate() {
        for c in 0..dim {
            let mut seen: Vec<i64> =
                (0..ranks).map(|r| entries[r * dim + c]).filter(|&i| i >= 0).collect();
            seen.sort_unstable();
            if let Some(w) = seen.windows(2).find(|w| w[0] == w[1]) {
                return Some(format!("row {row}, component {c}: index {} twice", w[0]));
            }
        }
    }
    None
}

/// A histogram of ratios in words.
pub fn distribution(ratios: &[usize; RATIOS]) -> String {
    let total: usize = ratios.iter().sum();
    let mut text = String::new();
    for (k, n) in ratios.iter().enumerate().filter(|(_, n)| **n > 0) {
        let power = k as i32 - FINEST;
        text += &format!("  < 2^{power}: {:.2} %\n", 100.0 * *n as f64 / total as f64);
    }
    text
}

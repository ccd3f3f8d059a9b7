//! Hyper-dual numbers (Fike & Alonso 2011): every value carries its derivatives along two
//! directions and the mixed second one.
//!
//! The derivatives of element-wise operations come from differences of their *values*, products
//! and sums have their own rules here, and folds and selections follow the entry that they take.
//! Nothing is shared with the rules of differentiation, which are judged by this.

use super::arithmetic::{
    Arithmetic, Compensated, Selected, Sum, folded, neutral, position, winner,
};
use super::{Job, copied};
use crate::data::DType;
use crate::error::Error;
use crate::graph::FoldOp;
use crate::ops::OpDef;
use crate::reduce::Order;
use crate::spec::{CheckedArgs, ReduceSpec};

/// A value with its derivatives along two directions. NaN derivatives mean that there are none:
/// the value has a kink or a jump at that point.
/// [`evaluate_with_tangents`] gives them.
///
/// ```
/// use keops_core::interp::HyperDual;
/// // x³ at 2, along dx = 1 and along dx = 10.
/// let cube = HyperDual { value: 8.0, first: [12.0, 120.0], second: 12.0 * 10.0 };
/// assert_eq!(cube.second, 6.0 * 2.0 * 1.0 * 10.0);
/// assert_eq!(HyperDual::default().first, [0.0, 0.0]); // a constant
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct HyperDual {
    /// The value.
    pub value: f64,
    /// Derivatives along the first and along the second direction.
    pub first: [f64; 2],
    /// The derivative along the second direction of the one along the first.
    pub second: f64,
}

/// Evaluates a reduction in f64 with its derivatives along two directions: `tangents` holds the
/// directions, arguments of the same shapes as `args`. One list of entries for each output,
/// row-major over `(batch…, rows, dim)`; the derivatives of indices are 0, and so are those of a
/// maximum `m` that is shown beside sums of `exp(f - m)`, which are those for a fixed `m`.
///
/// First derivatives are right to about 1e-10, second ones to about 1e-7 of the largest values and
/// slopes on the way.
///
/// # Errors
/// If a variable of the formula is not among those of the reduction, or memory cannot be had.
///
/// # Examples
/// ```
/// use keops_core::data::{DType, Element};
/// use keops_core::graph::{Builder, Category, Var};
/// use keops_core::interp::evaluate_with_tangents;
/// use keops_core::spec::{Axis, CheckedArgs, ReduceOptions, ReduceSpec};
/// use keops_core::{ops, reduce};
/// use ndarray::array;
///
/// // Σ_j sin(y_j), along dy = 1 and again along dy = 1.
/// let b = Builder::default();
/// let y = Var { index: 0, dim: 1, category: Category::J };
/// let formula = b.var(y).un(&ops::SIN).id;
/// let spec = ReduceSpec {
///     graph: b.into_graph().into(), formula, weight: None, reduction: &reduce::SUM, k: 1,
///     axis: Axis::J, vars: vec![y], names: vec!["y".into()], dtype: DType::F64,
///     options: ReduceOptions::default(),
/// };
/// let (y, one) = (array![[0.1], [0.2]].into_dyn(), array![[1.0], [1.0]].into_dyn());
/// let args = |a| CheckedArgs::new(&spec, vec![f64::erase(a)], None, None, None);
/// let (at, along) = (args(y.view())?, args(one.view())?);
/// let sum = evaluate_with_tangents(&spec, &at, [&along, &along])?[0][0];
/// assert!((sum.first[0] - (0.1f64.cos() + 0.2f64.cos())).abs() < 1e-10);
/// assert!((sum.second + (0.1f64.sin() + 0.2f64.sin())).abs() < 1e-7);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub fn evaluate_with_tangents(
    spec: &ReduceSpec,
    args: &CheckedArgs<'_>,
    tangents: [&CheckedArgs<'_>; 2],
) -> Result<Vec<Vec<HyperDual>>, Error> {
    let job = Job::new(spec)?;
    let mut outputs = vec![vec![]; spec.outputs().len()];
    let input = |k: usize, batch: &[usize]| {
        let plain = |args: &CheckedArgs<'_>| copied(args, k, &spec.vars[k], batch, |v| v);
        let (values, [a, b]) = (plain(args)?, [plain(tangents[0])?, plain(tangents[1])?]);
        let all = values.into_iter().zip(a).zip(b);
        Ok(all.map(|((value, a), b)| HyperDual { value, first: [a, b], second: 0.0 }).collect())
    };
    job.run(&Dual, args, &input, &mut |k, w| outputs[k].push(w.value))?;
    for (o, list) in spec.outputs().iter().zip(&mut outputs) {
        if o.index {
            list.iter_mut().for_each(|v| *v = constant(v.value));
        }
    }
    Ok(outputs)
}

fn constant(value: f64) -> HyperDual {
    HyperDual { value, ..HyperDual::default() }
}

/// The number system.
struct Dual;

/// Derivatives of an element-wise operation from differences of its values: along `a`, along `b`,
/// and the mixed second one; NaN where it has a kink or a jump. Directions have as many entries as
/// there are operands, the others are 0.
pub(crate) fn slopes(op: &OpDef, at: &[f64], a: [f64; 3], b: [f64; 3]) -> ([f64; 2], f64) {
    let first = [a, b].map(|d| Dual::along(op, at, d)[0]);
    let mixed = if a == [0.0; 3] || b == [0.0; 3] {
        0.0
    } else if a == b {
        Dual::along(op, at, a)[1]
    } else {
        // By polarisation.
        let combined = |sign: f64| [0, 1, 2].map(|k: usize| a[k] + sign * b[k]);
        let [p, m] = [1.0, -1.0].map(|s| Dual::along(op, at, combined(s))[1]);
        0.25 * (p - m)
    };
    (first, mixed)
}

/// First and second derivative of `f` at 0 by central differences of order 8, with steps from
/// `1/32` down; NaN if no two steps agree.
fn differences(f: &dyn Fn(f64) -> f64) -> [f64; 2] {
    const FIRST: [f64; 4] = [4.0 / 5.0, -1.0 / 5.0, 4.0 / 105.0, -1.0 / 280.0];
    const SECOND: [f64; 4] = [8.0 / 5.0, -1.0 / 5.0, 8.0 / 315.0, -1.0 / 560.0];
    let centre = f(0.0);
    let step = |k: i32| 2f64.powi(-5 - 2 * k);
    let with_step = |h: f64| {
        let (mut first, mut second) = (0.0, 0.0);
        for k in 0..4 {
            let at = (k + 1) as f64 * h;
            let (up, down) = (f(at), f(-at));
            first += FIRST[k] * (up - down);
            second += SECOND[k] * ((up - centre) + (down - centre));
        }
        [first / h, second / (h * h)]
    };
    let estimates: Vec<[f64; 2]> = (0..12).map(|k| with_step(step(k))).collect();
    [0, 1].map(|order| {
        // What is not known: the movement from step to step, and the rounding of the values.
        let doubt = |(k, w): (usize, &[[f64; 2]])| {
            let noise = 2e-16 * centre.abs() / step(k as i32 + 1).powi(order as i32 + 1);
            (w[1][order], (w[0][order] - w[1][order]).abs() + noise)
        };
        let all = estimates.windows(2).enumerate().map(doubt);
        let best = all.filter(|(_, d)| d.is_finite()).min_by(|a, b| a.1.total_cmp(&b.1));
        match best {
            Some((v, doubt)) if doubt <= 1e-4 * (1.0 + v.abs()) => v,
            _ => f64::NAN,
        }
    })
}

impl Dual {
    /// Derivatives of an operation at `x` along a direction.
    fn along(op: &OpDef, x: &[f64], direction: [f64; 3]) -> [f64; 2] {
        // Steps are relative to large operands.
        let scaled = direction.iter().zip(x).map(|(d, x)| d.abs() / x.abs().max(1.0));
        let length = scaled.fold(0.0, f64::max);
        if length == 0.0 {
            return [0.0; 2];
        }
        let f = |s: f64| {
            let mut at = [0.0; 3];
            for ((p, x), d) in at.iter_mut().zip(x).zip(direction) {
                *p = x + s * (d / length);
            }
            (op.value.f64)(&at[..x.len()])
        };
        let [first, second] = differences(&f);
        [first * length, second * length * length]
    }
}

impl Arithmetic for Dual {
    type V = HyperDual;
    type Acc = [Compensated; 4];
    const PRUNES: bool = true;
    fn exact(&self, v: f64) -> HyperDual {
        constant(v)
    }
    fn constant(&self, v: f64) -> HyperDual {
        constant(v)
    }
    fn value(&self, v: HyperDual) -> f64 {
        v.value
    }
    fn map(&self, op: &'static OpDef, x: &[HyperDual]) -> HyperDual {
        let (mut at, mut of) = ([0.0; 3], [[0.0; 3]; 3]);
        for (k, v) in x.iter().enumerate() {
            at[k] = v.value;
            [of[0][k], of[1][k], of[2][k]] = [v.first[0], v.first[1], v.second];
        }
        let at = &at[..x.len()];
        let value = (op.value.f64)(at);
        let (first, mixed) = slopes(op, at, of[0], of[1]);
        HyperDual { value, first, second: mixed + Dual::along(op, at, of[2])[0] }
    }
    fn multiply(&self, p: HyperDual, q: HyperDual) -> HyperDual {
        let first = [0, 1].map(|k| p.first[k] * q.value + p.value * q.first[k]);
        let mixed = p.first[0] * q.first[1] + p.first[1] * q.first[0];
        let second = p.second * q.value + mixed + p.value * q.second;
        HyperDual { value: p.value * q.value, first, second }
    }
    fn fold(&self, op: FoldOp, x: &[HyperDual]) -> HyperDual {
        let best = winner(op, x.iter().map(|v| v.value));
        match (op, best) {
            (FoldOp::Min | FoldOp::Max, Some((k, _))) => x[k],
            _ => constant(folded(op, best)),
        }
    }
    fn gather(&self, table: &[HyperDual], index: HyperDual) -> HyperDual {
        position(index.value, table.len()).map_or(constant(f64::NAN), |k| table[k])
    }
    fn shown(&self, pivot: HyperDual, _: DType) -> HyperDual {
        constant(pivot.value)
    }
    fn accumulator(&self, _: Sum) -> [Compensated; 4] {
        Default::default()
    }
    fn add(&self, acc: &mut [Compensated; 4], v: HyperDual) {
        let parts = [v.value, v.first[0], v.first[1], v.second];
        acc.iter_mut().zip(parts).for_each(|(a, p)| a.add(p));
    }
    fn total(&self, acc: &[Compensated; 4]) -> HyperDual {
        let [value, a, b, second] = [0, 1, 2, 3].map(|k: usize| acc[k].total());
        HyperDual { value, first: [a, b], second }
    }
    fn select(
        &self,
        order: Order,
        k: usize,
        candidates: &[(HyperDual, i64)],
        _: bool,
    ) -> Selected<HyperDual> {
        let value = |v: HyperDual| v.value;
        super::arithmetic::select_plain(order, k, candidates, value, constant(neutral(order)))
    }
}

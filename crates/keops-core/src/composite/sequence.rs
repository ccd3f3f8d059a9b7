//! B-splines and time warping.

use super::{Below, Built, CompositeDef, Drawn, Literal, dim, entry, fail, scalar, size};
use crate::graph::Ex;
use crate::ops::*;

/// Most cells of a soft-DTW, which is unrolled.
const MAX_CELLS: usize = 1024;

pub(super) const ALL: &[CompositeDef] = &[
    entry(
        "BSpline",
        2,
        "BSpline(knots, x, k): the B-splines of order k at the scalar x, for ascending knots",
        checked_b_splines,
    )
    .literals(1, 1, knots_and_scalar),
    entry(
        "SoftDTW_SqDist",
        3,
        "SoftDTW_SqDist(x, y, gamma): soft dynamic time warping of scalar series",
        checked_soft_dtw,
    )
    .drawn(|below| (vec![1 + below(4), 1 + below(4), 1], vec![])),
];

fn checked_soft_dtw<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    scalar("SoftDTW_SqDist", x[2])?;
    match x[0].dim().saturating_mul(x[1].dim()) {
        0..=MAX_CELLS => Ok(soft_dtw(x[0], x[1], x[2])),
        n => fail("SoftDTW_SqDist", format!("at most {MAX_CELLS} cells"), n),
    }
}

fn knots_and_scalar(below: Below<'_>) -> Drawn {
    let k = below(4);
    (vec![k + 1 + dim(below), 1], vec![k.into()])
}
fn checked_b_splines<'g>(x: &[Ex<'g>], l: &[Literal]) -> Built<'g> {
    scalar("BSpline", x[1])?;
    if x[0].dim() < 2 {
        return fail("BSpline", "at least 2 knots", x[0].dim());
    }
    Ok(b_splines(x[0], x[1], size("BSpline", &l[0], 0, x[0].dim() - 2)?))
}

/// Recursion of Cox and de Boor on half-open intervals, 0/0 being 0 where knots coincide.
fn b_splines<'g>(knots: Ex<'g>, x: Ex<'g>, order: usize) -> Ex<'g> {
    let n = knots.dim();
    let (low, high) = (knots.pick(0, 1, n - 1), knots.pick(1, 1, n - 1));
    let inside = [Ex::apply(&LESS_OR_EQUAL, &[low, x]), Ex::apply(&LESS_THAN, &[x, high])];
    let mut basis = inside[0] * inside[1];
    // The basis is 0 outside all knots: there the ratios only have to be finite.
    let x = super::arithmetic::clamp(x, knots.pick(0, 1, 1), knots.pick(n - 1, 1, 1));
    for p in 1..=order {
        // Width of the support of each spline of order p - 1.
        let m = n - p;
        let (start, end) = (knots.pick(0, 1, m), knots.pick(p, 1, m));
        let width = end - start;
        let safe = Ex::apply(&IF_ELSE, &[-width.un(&ABS), x.lit(1.0), width]);
        let share = Ex::apply(&IF_ELSE, &[-width.un(&ABS), x.lit(0.0), basis / safe]);
        let (rise, fall) = ((x - start) * share, (end - x) * share);
        basis = rise.pick(0, 1, m - 1) + fall.pick(1, 1, m - 1);
    }
    basis
}

/// Soft-DTW of Cuturi & Blondel (2017) on squared differences, unrolled over its cells:
/// r_kl = (x_k - y_l)² + softmin(r_{k-1,l}, r_{k,l-1}, r_{k-1,l-1}).
fn soft_dtw<'g>(x: Ex<'g>, y: Ex<'g>, gamma: Ex<'g>) -> Ex<'g> {
    // -γ log(exp(-a/γ) + exp(-b/γ)). Backends fuse products and sums: the difference of a cost d²
    // and the same cost, rounded, is the rounding error of d², which may be many times γ. So the
    // smaller value is not compared with itself, and the gap is bounded below (by -γ, so that the
    // slope at ties is that of the formula). Where both overflow there is no gap: no path goes there.
    let soft_min = |a: Ex<'g>, b: Ex<'g>| -> Ex<'g> {
        let order = b - a;
        let least = Ex::apply(&IF_ELSE, &[order, a, b]);
        let other = Ex::apply(&IF_ELSE, &[order, b, a]);
        let gap = ((other - least) / gamma + 1.0).un(&RELU);
        let gap = Ex::apply(&IF_ELSE, &[x.lit(f64::MAX) - least, gap, x.lit(1.0)]);
        least - gamma * (x.lit(1.0) - gap).un(&EXP).un(&LOG1P)
    };
    let mut row: Vec<Ex<'g>> = vec![];
    for k in 0..x.dim() {
        let mut next: Vec<Ex<'g>> = Vec::with_capacity(y.dim());
        for l in 0..y.dim() {
            let d = x.pick(k, 1, 1) - y.pick(l, 1, 1);
            let mut c: Vec<Ex<'g>> = vec![];
            if k > 0 {
                c.push(row[l]);
            }
            if l > 0 {
                c.push(next[l - 1]);
            }
            if k > 0 && l > 0 {
                c.push(row[l - 1]);
            }
            let cost = d * d;
            let before = c.into_iter().reduce(soft_min);
            next.push(before.map_or(cost, |before| cost + before));
        }
        row = next;
    }
    row[y.dim() - 1]
}

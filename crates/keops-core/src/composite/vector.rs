//! Components of vectors: selection, insertion, extremes, tables.

use super::{Below, Built, CompositeDef, Drawn, Literal, dim, entry, fail, limit, scalar, size};
use crate::autodiff;
use crate::graph::{Dependence, Ex, FoldOp, MAX_DIM};

pub(super) const ALL: &[CompositeDef] = &[
    entry("Concat", 1, "Concat(a, b, …): components one after the other", |x, _| {
        limit("Concat", x.iter().try_fold(0usize, |d, e| d.checked_add(e.dim())))?;
        Ok(Ex::concat(x))
    })
    .up_to(usize::MAX),
    entry("Elem", 1, "Elem(a, m): component m, counted from 0", |x, l| {
        Ok(x[0].pick(size("Elem", &l[0], 0, x[0].dim() - 1)?, 1, 1))
    })
    .literals(1, 1, |below| {
        let d = dim(below);
        (vec![d], vec![below(d).into()])
    }),
    entry("ElemT", 1, "ElemT(a, n, m): zeros of dimension n with the scalar a at m", elem_t)
        .literals(2, 2, |below| {
            let d = dim(below);
            (vec![1], vec![d.into(), below(d).into()])
        }),
    entry("Extract", 1, "Extract(a, start, d): d components from start", |x, l| {
        let start = size("Extract", &l[0], 0, x[0].dim() - 1)?;
        Ok(x[0].pick(start, 1, size("Extract", &l[1], 1, x[0].dim() - start)?))
    })
    .literals(2, 2, |below| {
        let (start, d, after) = (below(3), dim(below), below(3));
        (vec![start + d + after], vec![start.into(), d.into()])
    }),
    entry(
        "ExtractT",
        1,
        "ExtractT(a, start, n): zeros of dimension n with a from start",
        extract_t,
    )
    .literals(2, 2, part_of_zeros),
    entry("Max", 1, "Max(a): largest component", |x, _| Ok(x[0].fold(FoldOp::Max))),
    entry("Min", 1, "Min(a): smallest component", |x, _| Ok(x[0].fold(FoldOp::Min))),
    entry("ArgMax", 1, "ArgMax(a): position of the first largest component", |x, _| {
        Ok(x[0].fold(FoldOp::ArgMax))
    }),
    entry("ArgMin", 1, "ArgMin(a): position of the first smallest component", |x, _| {
        Ok(x[0].fold(FoldOp::ArgMin))
    }),
    entry(
        "OneHot",
        1,
        "OneHot(a, d): 1 at the position a (rounded half up), zeros if out of range",
        one_hot,
    )
    .literals(1, 1, |below| (vec![1], vec![dim(below).into()])),
    entry(
        "Gather",
        2,
        "Gather(table, k): entries k (rounded) of a parameter vector; NaN out of range",
        gather,
    )
    .long(),
];

fn elem_t<'g>(x: &[Ex<'g>], l: &[Literal]) -> Built<'g> {
    scalar("ElemT", x[0])?;
    let n = size("ElemT", &l[0], 1, MAX_DIM)?;
    Ok(x[0].put(size("ElemT", &l[1], 0, n - 1)?, 1, n))
}
fn one_hot<'g>(x: &[Ex<'g>], l: &[Literal]) -> Built<'g> {
    scalar("OneHot", x[0])?;
    Ok(autodiff::one_hot(x[0], size("OneHot", &l[0], 1, MAX_DIM)?))
}
fn gather<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    match x[0].dependence() {
        Dependence::NONE => Ok(x[1].gather(x[0])),
        _ => fail("Gather", "a table that depends on parameters only", "a formula of i or j"),
    }
}
fn part_of_zeros(below: Below<'_>) -> Drawn {
    let (start, d, after) = (below(3), dim(below), below(3));
    (vec![d], vec![start.into(), (start + d + after).into()])
}
fn extract_t<'g>(x: &[Ex<'g>], l: &[Literal]) -> Built<'g> {
    let n = size("ExtractT", &l[1], x[0].dim(), MAX_DIM)?;
    Ok(x[0].put(size("ExtractT", &l[0], 0, n - x[0].dim())?, 1, n))
}

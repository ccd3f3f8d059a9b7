//! Differential operators. They differentiate with respect to a variable, of any operation.

use super::{Built, CompositeDef, Literal, dims, entry, fail, limit, same, scalar};
use crate::autodiff;
use crate::error::DimError;
use crate::graph::{Ex, MAX_NODES, Node};

pub(super) const ALL: &[CompositeDef] = &[
    entry("Grad", 3, "Grad(f, v, e): transposed Jacobian of f in the variable v, times e", grad),
    entry("Diff", 3, "Diff(f, v, u): Jacobian of f in the variable v, times u", |x, _| {
        check("Diff", x[0], x[1], 1)?;
        same("Diff", &[x[1], x[2]])?;
        Ok(derivative(x[0], x[1], x[2]))
    }),
    entry(
        "GradMatrix",
        2,
        "GradMatrix(f, v): Jacobian of f in the variable v, row-major (f × v)",
        grad_matrix,
    ),
    entry(
        "Divergence",
        2,
        "Divergence(f, v): trace of the Jacobian of f in the variable v",
        divergence,
    ),
    entry(
        "Laplacian",
        2,
        "Laplacian(f, v): sum of second derivatives of a scalar f in v",
        laplacian,
    ),
    entry(
        "TraceOperator",
        2,
        "TraceOperator(f, v[, w]): trace of diag(w) A for f(v) = A v; a row A is repeated",
        trace_operator,
    )
    .up_to(3),
    entry(
        "AdjointOperator",
        3,
        "AdjointOperator(f, v, u): Aᵀ u for f(v) = A v with a variable v",
        adjoint_operator,
    ),
    entry(
        "SumLinOperator",
        2,
        "SumLinOperator(f, v[, l[, r]]): sum of l_k A_km r_m for f(v) = A v",
        sum_of_entries,
    )
    .up_to(4),
    entry("Factorize", 2, "Factorize(f, g): f, as equal parts are shared anyway", |x, _| Ok(x[0])),
    entry("AutoFactorize", 1, "AutoFactorize(f): f, as Factorize", |x, _| Ok(x[0])),
];

fn grad<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    check("Grad", x[0], x[1], 1)?;
    same("Grad", &[x[0], x[2]])?;
    Ok(gradient(x[0], x[1], x[2]))
}
fn divergence<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    check("Divergence", x[0], x[1], x[1].dim())?;
    same("Divergence", x)?;
    Ok(trace(x[0], x[1], x[0].lit(1.0)))
}
fn adjoint_operator<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    linear("AdjointOperator", x[0], x[1])?;
    same("AdjointOperator", &[x[0], x[2]])?;
    Ok(gradient(x[0], x[1], x[2]))
}
fn sum_of_entries<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    let (l, r) = (weight("SumLinOperator", x, 2, x[0])?, weight("SumLinOperator", x, 3, x[1])?);
    linear("SumLinOperator", x[0], x[1])?;
    Ok(derivative(x[0], x[1], r.broadcast(x[1].dim())).dot(l))
}

fn trace_operator<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    let w = weight("TraceOperator", x, 2, x[1])?;
    linear("TraceOperator", x[0], x[1])?;
    match x[0].dim() {
        1 => Ok(derivative(x[0], x[1], w.broadcast(x[1].dim()))),
        d if d == x[1].dim() => Ok(trace(x[0], x[1], w)),
        _ => fail("TraceOperator", "f of dimension 1 or that of v", dims(x)),
    }
}

fn laplacian<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    check("Laplacian", x[0], x[1], x[1].dim())?;
    scalar("Laplacian", x[0])?;
    let g = gradient(x[0], x[1], x[0].lit(1.0));
    check("Laplacian", g, x[1], x[1].dim())?;
    Ok(trace(g, x[1], x[0].lit(1.0)))
}

fn grad_matrix<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    let n = x[0].dim();
    check("GradMatrix", x[0], x[1], n)?;
    limit("GradMatrix", n.checked_mul(x[1].dim()))?;
    let row = |k: usize| gradient(x[0], x[1], x[0].lit(1.0).put(k, 1, n));
    Ok(Ex::concat(&(0..n).map(row).collect::<Vec<_>>()))
}

/// Most nodes to differentiate, counted once for each derivative.
const MAX_DERIVED: usize = MAX_NODES / 2;

/// Is `v` a variable, and is there room for this many derivatives of `f`?
fn check(op: &str, f: Ex<'_>, v: Ex<'_>, times: usize) -> Result<(), DimError> {
    if !matches!(v.b.graph().node(v.id), Node::Var(_)) {
        return fail(op, "a variable to differentiate with respect to", "a formula");
    }
    // A node has a handful of nodes in its derivative.
    let nodes = f.b.graph().live(&[f.id]).len();
    match nodes.saturating_mul(times) {
        0..=MAX_DERIVED => Ok(()),
        n => fail(op, format!("at most {MAX_DERIVED} nodes to differentiate"), n),
    }
}
fn gradient<'g>(f: Ex<'g>, v: Ex<'g>, e: Ex<'g>) -> Ex<'g> {
    autodiff::vjp(f, e, &[v])[0].unwrap_or(f.lit(0.0).broadcast(v.dim()))
}
fn derivative<'g>(f: Ex<'g>, v: Ex<'g>, u: Ex<'g>) -> Ex<'g> {
    autodiff::jvp(f, &[(v, u)]).unwrap_or(f.lit(0.0).broadcast(f.dim()))
}
/// Trace of the Jacobian with its rows multiplied by `w` (of dimension 1 or `v.dim()`).
fn trace<'g>(f: Ex<'g>, v: Ex<'g>, w: Ex<'g>) -> Ex<'g> {
    let d = v.dim();
    let entry = |k: usize| {
        let t = autodiff::jvp(f, &[(v, f.lit(1.0).put(k, 1, d))])?.pick(k, 1, 1);
        Some(if w.dim() == 1 { t } else { t * w.pick(k, 1, 1) })
    };
    let sum = (0..d).filter_map(entry).reduce(|a, b| a + b).unwrap_or(f.lit(0.0));
    if w.dim() == 1 { sum * w } else { sum }
}
/// Is `f` linear in `v` (up to a constant)? Its derivative then does not depend on `v`.
fn linear(op: &str, f: Ex<'_>, v: Ex<'_>) -> Result<(), DimError> {
    check(op, f, v, v.dim())?;
    let tangent = f.b.fresh(v.dim(), crate::graph::Category::Param);
    let j = derivative(f, v, tangent);
    let graph = f.b.graph();
    if graph.live(&[j.id]).contains(&v.id) {
        fail(op, "a formula that is linear in the variable", "one that is not")
    } else {
        Ok(())
    }
}
/// Operand `k`, or 1 where there is none; of dimension 1 or that of `like`.
fn weight<'g>(op: &str, x: &[Ex<'g>], k: usize, like: Ex<'g>) -> Result<Ex<'g>, DimError> {
    match x.get(k) {
        None => Ok(like.lit(1.0)),
        Some(w) if w.dim() == 1 || w.dim() == like.dim() => Ok(*w),
        Some(w) => {
            let expected = format!("weights of dimension 1 or {}", like.dim());
            fail(op, expected, format!("dimension {}", w.dim()))
        }
    }
}

//! Sums of components, scalar products, norms and distances.

use super::{
    Below, Built, CompositeDef, Drawn, Literal, dim, dims, entry, fail, same, scalar, size,
};
use crate::error::DimError;
use crate::graph::{Ex, FoldOp, MAX_DIM};
use crate::ops::*;

pub(super) const ALL: &[CompositeDef] = &[
    entry("Sum", 1, "Sum(a): sum of components", |x, _| Ok(x[0].sum())),
    entry("SumT", 1, "SumT(a, d): a scalar repeated d times", |x, l| {
        scalar("SumT", x[0])?;
        Ok(x[0].broadcast(size("SumT", &l[0], 1, MAX_DIM)?))
    })
    .literals(1, 1, |below| (vec![1], vec![dim(below).into()])),
    entry("Scalprod", 2, "Scalprod(a, b) or a | b: scalar product", |x, _| {
        if x[0].dim() != 1 && x[1].dim() != 1 {
            same("Scalprod", x)?;
        }
        Ok(x[0].dot(x[1]))
    }),
    entry("SqNorm2", 1, "SqNorm2(a): sum of squares", |x, _| Ok(x[0].dot(x[0]))),
    entry("Norm2", 1, "Norm2(a): Euclidean norm; its gradient at 0 is taken as 0", |x, _| {
        Ok(x[0].dot(x[0]).un(&SQRT))
    }),
    entry("Normalize", 1, "Normalize(a): a / |a|, 0 at 0", |x, _| {
        let v = x[0] * x[0].un(&ABS).fold(FoldOp::Max).un(&RANGE_SCALE);
        Ok(v.dot(v).un(&RSQRT) * v)
    }),
    entry("SqDist", 2, "SqDist(a, b): squared Euclidean distance", |x, _| {
        let d = difference("SqDist", x[0], x[1])?;
        Ok(d.dot(d))
    }),
    entry("SqNormIso", 2, "SqNormIso(s, x): s |x|²", |x, _| {
        scalar("SqNormIso", x[0])?;
        Ok(x[0] * x[1].dot(x[1]))
    }),
    entry("SqNormDiag", 2, "SqNormDiag(s, x): sum of s_k x_k²", |x, _| {
        same("SqNormDiag", x)?;
        Ok(x[0].dot(x[1] * x[1]))
    }),
    entry("SymSqNorm", 2, "SymSqNorm(A, x): sum of A_kl x_k x_l, A row-major", sym_sq_norm).drawn(
        |below| {
            let d = dim(below);
            (vec![d * d, d], vec![])
        },
    ),
    entry(
        "WeightedSqNorm",
        2,
        "WeightedSqNorm(s, x): SqNormIso, SqNormDiag or SymSqNorm by the dimension of s",
        |x, _| weighted("WeightedSqNorm", x[0], x[1]),
    )
    .drawn(weights_and_vector),
    entry("WeightedSqDist", 3, "WeightedSqDist(s, x, y): WeightedSqNorm(s, x - y)", |x, _| {
        weighted("WeightedSqDist", x[0], difference("WeightedSqDist", x[1], x[2])?)
    })
    .drawn(|below| {
        let d = dim(below);
        (vec![[1, d, d * d][below(3)], d, d], vec![])
    }),
];

/// `Σ_kl a_kl x_k x_l` for a row-major square matrix.
fn sym_sq_norm<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    if Some(x[0].dim()) != x[1].dim().checked_pow(2) {
        return fail("SymSqNorm", "dimensions d² and d", dims(x));
    }
    Ok(quadratic(x[0], x[1]))
}
fn weights_and_vector(below: Below<'_>) -> Drawn {
    let d = dim(below);
    (vec![[1, d, d * d][below(3)], d], vec![])
}
fn quadratic<'g>(a: Ex<'g>, x: Ex<'g>) -> Ex<'g> {
    let d = x.dim();
    a.contract(vec![d, d], &[(a, &[0, 1]), (x, &[0]), (x, &[1])], &[])
}
fn weighted<'g>(op: &str, s: Ex<'g>, x: Ex<'g>) -> Result<Ex<'g>, DimError> {
    let d = x.dim();
    let square = d.saturating_mul(d);
    match s.dim() {
        1 => Ok(s * x.dot(x)),
        n if n == d => Ok(s.dot(x * x)),
        n if n == square => Ok(quadratic(s, x)),
        n => fail(op, format!("weights of dimension 1, {d} or {square}"), format!("dimension {n}")),
    }
}
fn difference<'g>(op: &str, x: Ex<'g>, y: Ex<'g>) -> Result<Ex<'g>, DimError> {
    same(op, &[x, y])?;
    Ok(x - y)
}

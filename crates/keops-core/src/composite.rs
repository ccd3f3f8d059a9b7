//! The table of composite operations: expansions into graph nodes.
//!
//! An entry has a name, a line of documentation, its operands and a builder that checks
//! dimensions. Gradients and code of every target follow from the expansion.

use crate::autodiff;
use crate::error::DimError;
use crate::graph::{Ex, FoldOp, MAX_DIM, Node};
use crate::ops::*;

/// A literal parameter of a composite.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Literal {
    /// An integer.
    Int(i64),
    /// A list of integers.
    List(Vec<i64>),
}

/// What a composite builds from: operands and literal parameters.
pub type Build = for<'g> fn(&[Ex<'g>], &[Literal]) -> Result<Ex<'g>, DimError>;

/// A composite operation.
pub struct CompositeDef {
    /// Name in formulas.
    pub name: &'static str,
    /// One line for the reference page, with the signature.
    pub doc: &'static str,
    /// Number of formula operands (smallest and largest).
    pub operands: (usize, usize),
    /// Number of literal parameters after them (smallest and largest).
    pub literals: (usize, usize),
    /// Expansion.
    pub build: Build,
}

fn fail<T>(
    op: &str,
    expected: impl Into<String>,
    got: impl std::fmt::Display,
) -> Result<T, DimError> {
    Err(DimError::new(op, expected, got))
}
fn dims(x: &[Ex<'_>]) -> String {
    let d: Vec<_> = x.iter().map(|e| e.dim()).collect();
    format!("dimensions {d:?}")
}
/// A literal as a size in `low..=high`.
fn size(op: &str, l: &Literal, low: usize, high: usize) -> Result<usize, DimError> {
    match l {
        Literal::Int(v) if *v >= low as i64 && *v <= high as i64 => Ok(*v as usize),
        other => fail(op, format!("an integer in {low}..={high}"), format!("{other:?}")),
    }
}
fn scalar(op: &str, x: Ex<'_>) -> Result<(), DimError> {
    if x.dim() == 1 {
        Ok(())
    } else {
        fail(op, "an operand of dimension 1", format!("dimension {}", x.dim()))
    }
}
fn variable(op: &str, x: Ex<'_>) -> Result<(), DimError> {
    if matches!(x.b.graph().node(x.id), Node::Var(_)) {
        Ok(())
    } else {
        fail(op, "a variable to differentiate with respect to", "a formula")
    }
}
/// `x` to an integer power by repeated squaring.
fn power<'g>(x: Ex<'g>, n: i64) -> Ex<'g> {
    let (mut base, mut left, mut result) = (x, n.unsigned_abs(), None::<Ex<'g>>);
    while left > 0 {
        if left & 1 == 1 {
            result = Some(result.map_or(base, |r| r * base));
        }
        left >>= 1;
        if left > 0 {
            base = base * base;
        }
    }
    let p = result.unwrap_or(x.lit(1.0).broadcast(x.dim()));
    if n < 0 { x.lit(1.0) / p } else { p }
}
/// `x` kept within `[a, b]`: NaN stays NaN, and `x` has the gradient at both bounds unless they
/// are equal.
fn clamp<'g>(x: Ex<'g>, a: Ex<'g>, b: Ex<'g>) -> Ex<'g> {
    let unless = |test: Ex<'g>, yes, no| Ex::apply(&IF_ELSE, &[-test, yes, no]);
    let inside = match (a.constant(), b.constant()) {
        (Some(a), Some(b)) if a < b => x,
        _ => unless(Ex::apply(&LESS_OR_EQUAL, &[b, a]), x, b),
    };
    let below = unless(Ex::apply(&LESS_THAN, &[b, x]), inside, b);
    unless(Ex::apply(&LESS_THAN, &[x, a]), below, a)
}
fn sq_norm(x: Ex<'_>) -> Ex<'_> {
    x.dot(x)
}
/// `Σ_kl a_kl x_k x_l` for a row-major square matrix.
fn quadratic<'g>(a: Ex<'g>, x: Ex<'g>) -> Ex<'g> {
    let d = x.dim();
    a.contract(vec![d, d], &[(a, &[0, 1]), (x, &[0]), (x, &[1])], &[])
}
fn weighted_sq_norm<'g>(op: &str, s: Ex<'g>, x: Ex<'g>) -> Result<Ex<'g>, DimError> {
    let d = x.dim();
    match s.dim() {
        1 => Ok(s * sq_norm(x)),
        n if n == d => Ok(s.dot(x * x)),
        n if n == d * d => Ok(quadratic(s, x)),
        n => {
            fail(op, format!("weights of dimension 1, {d} or {}", d * d), format!("dimension {n}"))
        }
    }
}
fn same<'g>(op: &str, x: &[Ex<'g>]) -> Result<(), DimError> {
    if x.iter().all(|e| e.dim() == x[0].dim()) {
        Ok(())
    } else {
        fail(op, "operands of one dimension", dims(x))
    }
}
fn difference<'g>(op: &str, x: Ex<'g>, y: Ex<'g>) -> Result<Ex<'g>, DimError> {
    same(op, &[x, y])?;
    Ok(x - y)
}
/// Soft-DTW of Cuturi & Blondel (2017) on squared differences, unrolled over its cells:
/// r_kl = (x_k - y_l)² + softmin(r_{k-1,l}, r_{k,l-1}, r_{k-1,l-1}).
fn soft_dtw<'g>(x: Ex<'g>, y: Ex<'g>, gamma: Ex<'g>) -> Ex<'g> {
    let minimum = |a: Ex<'g>, b: Ex<'g>| Ex::apply(&IF_ELSE, &[b - a, a, b]);
    let soft_min = |c: &[Ex<'g>]| -> Ex<'g> {
        if c.len() == 1 {
            return c[0];
        }
        let least = c[1..].iter().fold(c[0], |m, &v| minimum(m, v));
        let total = c.iter().map(|&v| ((least - v) / gamma).un(&EXP)).reduce(|a, b| a + b);
        least - gamma * total.unwrap_or(least).un(&LOG)
    };
    let mut row: Vec<Ex<'g>> = vec![];
    for k in 0..x.dim() {
        let mut next: Vec<Ex<'g>> = Vec::with_capacity(y.dim());
        for l in 0..y.dim() {
            let d = x.pick(k, 1, 1) - y.pick(l, 1, 1);
            let mut c = vec![];
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
            next.push(if c.is_empty() { cost } else { cost + soft_min(&c) });
        }
        row = next;
    }
    row[y.dim() - 1]
}

macro_rules! composites {
    ($($name:literal, $operands:expr, $literals:expr, $doc:literal, $build:expr;)*) => {
        /// Every composite.
        pub static ALL: &[CompositeDef] = &[$(CompositeDef {
            name: $name, doc: $doc, operands: $operands, literals: $literals, build: $build,
        }),*];
    };
}

composites! {
    "Square", (1, 1), (0, 0), "Square(a): a²", |x, _| Ok(x[0] * x[0]);
    "Inv", (1, 1), (0, 0), "Inv(a): 1 / a", |x, _| Ok(x[0].lit(1.0) / x[0]);
    "Pow", (1, 1), (1, 1), "Pow(a, n): a to the integer power n, by repeated multiplication",
        |x, l| match l[0] {
            Literal::Int(n) => Ok(power(x[0], n)),
            _ => fail("Pow", "an integer exponent", "a list"),
        };
    "Sum", (1, 1), (0, 0), "Sum(a): sum of components", |x, _| Ok(x[0].sum());
    "SumT", (1, 1), (1, 1), "SumT(a, d): a scalar repeated d times", |x, l| {
        scalar("SumT", x[0])?;
        Ok(x[0].broadcast(size("SumT", &l[0], 1, MAX_DIM)?))
    };
    "Scalprod", (2, 2), (0, 0), "Scalprod(a, b) or a | b: scalar product", |x, _| {
        if x[0].dim() != 1 && x[1].dim() != 1 {
            same("Scalprod", x)?;
        }
        Ok(x[0].dot(x[1]))
    };
    "SqNorm2", (1, 1), (0, 0), "SqNorm2(a): sum of squares", |x, _| Ok(sq_norm(x[0]));
    "Norm2", (1, 1), (0, 0), "Norm2(a): Euclidean norm; its gradient at 0 is taken as 0",
        |x, _| Ok(sq_norm(x[0]).un(&SQRT));
    "Normalize", (1, 1), (0, 0), "Normalize(a): a / |a|, 0 at 0",
        |x, _| Ok(sq_norm(x[0]).un(&RSQRT) * x[0]);
    "SqDist", (2, 2), (0, 0), "SqDist(a, b): squared Euclidean distance",
        |x, _| Ok(sq_norm(difference("SqDist", x[0], x[1])?));
    "SqNormIso", (2, 2), (0, 0), "SqNormIso(s, x): s |x|²", |x, _| {
        scalar("SqNormIso", x[0])?;
        Ok(x[0] * sq_norm(x[1]))
    };
    "SqNormDiag", (2, 2), (0, 0), "SqNormDiag(s, x): sum of s_k x_k²", |x, _| {
        same("SqNormDiag", x)?;
        Ok(x[0].dot(x[1] * x[1]))
    };
    "SymSqNorm", (2, 2), (0, 0), "SymSqNorm(A, x): sum of A_kl x_k x_l, A row-major", |x, _| {
        if x[0].dim() != x[1].dim() * x[1].dim() {
            return fail("SymSqNorm", "a matrix of dimension d² and a vector of dimension d", dims(x));
        }
        Ok(quadratic(x[0], x[1]))
    };
    "WeightedSqNorm", (2, 2), (0, 0),
        "WeightedSqNorm(s, x): SqNormIso, SqNormDiag or SymSqNorm by the dimension of s",
        |x, _| weighted_sq_norm("WeightedSqNorm", x[0], x[1]);
    "WeightedSqDist", (3, 3), (0, 0), "WeightedSqDist(s, x, y): WeightedSqNorm(s, x - y)", |x, _| {
        weighted_sq_norm("WeightedSqDist", x[0], difference("WeightedSqDist", x[1], x[2])?)
    };
    "Clamp", (3, 3), (0, 0), "Clamp(x, a, b): x kept within [a, b]; its derivative is 1 at both bounds",
        |x, _| {
            let d = x.iter().map(|e| e.dim()).max().unwrap_or(1);
            if x.iter().any(|e| e.dim() != 1 && e.dim() != d) {
                return fail("Clamp", "operands of one dimension (or of dimension 1)", dims(x));
            }
            Ok(clamp(x[0], x[1], x[2]))
        };
    "ClampInt", (1, 1), (2, 2), "ClampInt(x, a, b): Clamp with integer bounds", |x, l| match l {
        [Literal::Int(a), Literal::Int(b)] => {
            Ok(clamp(x[0], x[0].lit(*a as f64), x[0].lit(*b as f64)))
        }
        _ => fail("ClampInt", "two integers", format!("{l:?}")),
    };
    "Mod", (3, 3), (0, 0), "Mod(x, n, d): x - n floor((x - d) / n)", |x, _| {
        let q = Ex::map(&DIVIDE, &[Ex::map(&SUBTRACT, &[x[0], x[2]])?, x[1]])?;
        Ex::map(&SUBTRACT, &[x[0], Ex::map(&MULT, &[x[1], q.un(&FLOOR)])?])
    };
    "Concat", (1, usize::MAX), (0, 0), "Concat(a, b, …): components one after the other", |x, _| {
        let total: usize = x.iter().map(|e| e.dim()).sum();
        if total > MAX_DIM {
            return fail("Concat", format!("at most {MAX_DIM} components"), total);
        }
        Ok(Ex::concat(x))
    };
    "Elem", (1, 1), (1, 1), "Elem(a, m): component m, counted from 0",
        |x, l| Ok(x[0].pick(size("Elem", &l[0], 0, x[0].dim() - 1)?, 1, 1));
    "ElemT", (1, 1), (2, 2), "ElemT(a, n, m): zeros of dimension n with the scalar a at m", |x, l| {
        scalar("ElemT", x[0])?;
        let n = size("ElemT", &l[0], 1, MAX_DIM)?;
        Ok(x[0].put(size("ElemT", &l[1], 0, n - 1)?, 1, n))
    };
    "Extract", (1, 1), (2, 2), "Extract(a, start, d): d components from start", |x, l| {
        let start = size("Extract", &l[0], 0, x[0].dim() - 1)?;
        Ok(x[0].pick(start, 1, size("Extract", &l[1], 1, x[0].dim() - start)?))
    };
    "ExtractT", (1, 1), (2, 2), "ExtractT(a, start, n): zeros of dimension n with a from start", |x, l| {
        let n = size("ExtractT", &l[1], x[0].dim(), MAX_DIM)?;
        Ok(x[0].put(size("ExtractT", &l[0], 0, n - x[0].dim())?, 1, n))
    };
    "Max", (1, 1), (0, 0), "Max(a): largest component", |x, _| Ok(x[0].fold(FoldOp::Max));
    "Min", (1, 1), (0, 0), "Min(a): smallest component", |x, _| Ok(x[0].fold(FoldOp::Min));
    "ArgMax", (1, 1), (0, 0), "ArgMax(a): position of the first largest component",
        |x, _| Ok(x[0].fold(FoldOp::ArgMax));
    "ArgMin", (1, 1), (0, 0), "ArgMin(a): position of the first smallest component",
        |x, _| Ok(x[0].fold(FoldOp::ArgMin));
    "OneHot", (1, 1), (1, 1), "OneHot(a, d): 1 at the position a (rounded half up), zeros if out of range",
        |x, l| {
            scalar("OneHot", x[0])?;
            Ok(autodiff::one_hot(x[0], size("OneHot", &l[0], 1, MAX_DIM)?))
        };
    "MatVecMult", (2, 2), (0, 0), "MatVecMult(A, b): A b, A row-major", |x, _| {
        let (n, p) = (x[0].dim() / x[1].dim(), x[1].dim());
        if n * p != x[0].dim() || n == 0 {
            return fail("MatVecMult", "dimensions n·p and p", dims(x));
        }
        Ok(x[0].contract(vec![n, p], &[(x[0], &[0, 1]), (x[1], &[1])], &[0]))
    };
    "VecMatMult", (2, 2), (0, 0), "VecMatMult(b, A): bᵀ A, A row-major", |x, _| {
        let (n, p) = (x[0].dim(), x[1].dim() / x[0].dim());
        if n * p != x[1].dim() || p == 0 {
            return fail("VecMatMult", "dimensions n and n·p", dims(x));
        }
        Ok(x[0].contract(vec![p, n], &[(x[0], &[1]), (x[1], &[1, 0])], &[0]))
    };
    "TensorProd", (2, 2), (0, 0), "TensorProd(a, b): outer product, row-major", |x, _| {
        let (n, p) = (x[0].dim(), x[1].dim());
        if n * p > MAX_DIM {
            return fail("TensorProd", format!("at most {MAX_DIM} components"), n * p);
        }
        Ok(x[0].contract(vec![n, p], &[(x[0], &[0]), (x[1], &[1])], &[0, 1]))
    };
    "Gather", (2, 2), (0, 0),
        "Gather(table, k): entries k (rounded) of a parameter vector; NaN out of range",
        |x, _| {
            if x[0].dependence() != crate::graph::Dependence::NONE {
                return fail("Gather", "a table that depends on parameters only", "a formula of i or j");
            }
            Ok(x[1].gather(x[0]))
        };
    "SoftDTW_SqDist", (3, 3), (0, 0),
        "SoftDTW_SqDist(x, y, gamma): soft dynamic time warping of scalar series",
        |x, _| {
            scalar("SoftDTW_SqDist", x[2])?;
            let cells = x[0].dim().saturating_mul(x[1].dim());
            if cells > 1024 {
                return fail("SoftDTW_SqDist", "at most 1024 cells", cells);
            }
            Ok(soft_dtw(x[0], x[1], x[2]))
        };
    "Grad", (3, 3), (0, 0), "Grad(f, v, e): transposed Jacobian of f in the variable v, times e", |x, _| {
        variable("Grad", x[1])?;
        same("Grad", &[x[0], x[2]])?;
        let zero = x[0].lit(0.0).broadcast(x[1].dim());
        Ok(autodiff::vjp(x[0], x[2], &[x[1]])[0].unwrap_or(zero))
    };
    "Diff", (3, 3), (0, 0), "Diff(f, v, u): Jacobian of f in the variable v, times u", |x, _| {
        variable("Diff", x[1])?;
        same("Diff", &[x[1], x[2]])?;
        Ok(autodiff::jvp(x[0], &[(x[1], x[2])]).unwrap_or(x[0].lit(0.0).broadcast(x[0].dim())))
    };
    "GradMatrix", (2, 2), (0, 0), "GradMatrix(f, v): Jacobian of f in the variable v, row-major (f × v)",
        |x, _| {
            variable("GradMatrix", x[1])?;
            let (n, d) = (x[0].dim(), x[1].dim());
            if n * d > MAX_DIM {
                return fail("GradMatrix", format!("at most {MAX_DIM} components"), n * d);
            }
            let zero = x[0].lit(0.0).broadcast(d);
            let rows: Vec<_> = (0..n)
                .map(|k| {
                    let e = x[0].lit(1.0).put(k, 1, n);
                    autodiff::vjp(x[0], e, &[x[1]])[0].unwrap_or(zero)
                })
                .collect();
            Ok(Ex::concat(&rows))
        };
    "Divergence", (2, 2), (0, 0), "Divergence(f, v): trace of the Jacobian of f in the variable v", |x, _| {
        variable("Divergence", x[1])?;
        same("Divergence", x)?;
        Ok(divergence(x[0], x[1]))
    };
    "Laplacian", (2, 2), (0, 0), "Laplacian(f, v): sum of second derivatives of a scalar f in v", |x, _| {
        variable("Laplacian", x[1])?;
        scalar("Laplacian", x[0])?;
        let gradient = autodiff::vjp(x[0], x[0].lit(1.0), &[x[1]])[0];
        Ok(gradient.map_or(x[0].lit(0.0), |g| divergence(g, x[1])))
    };
}

fn divergence<'g>(f: Ex<'g>, v: Ex<'g>) -> Ex<'g> {
    let d = v.dim();
    let term =
        |k: usize| autodiff::jvp(f, &[(v, f.lit(1.0).put(k, 1, d))]).map(|t| t.pick(k, 1, 1));
    (0..d).filter_map(term).reduce(|a, b| a + b).unwrap_or(f.lit(0.0))
}

/// The composite of that name.
pub fn by_name(name: &str) -> Option<&'static CompositeDef> {
    ALL.iter().find(|c| c.name == name)
}

//! Products of matrices and tensors (row-major), and small dense matrices.

use super::{Below, Built, CompositeDef, Drawn, Literal, dim, dims, entry, fail, limit};
use crate::error::DimError;
use crate::graph::{Ex, FoldOp};
use crate::ops::{ABS, FLOOR, LOG, POWF};

/// Largest side of a matrix that is inverted by its cofactors.
const MAX_SIDE: usize = 4;
/// Most axes of a tensor product.
const MAX_AXES: usize = 16;
/// Most terms of a tensor product.
const MAX_TERMS: usize = 1 << 40;

pub(super) const ALL: &[CompositeDef] = &[
    entry("MatVecMult", 2, "MatVecMult(A, b): A b, A row-major", mat_vec).drawn(|below| {
        let (n, p) = (dim(below), dim(below));
        (vec![n * p, p], vec![])
    }),
    entry("VecMatMult", 2, "VecMatMult(b, A): bᵀ A, A row-major", vec_mat).drawn(|below| {
        let (n, p) = (dim(below), dim(below));
        (vec![n, n * p], vec![])
    }),
    entry("TensorProd", 2, "TensorProd(a, b): outer product, row-major", |x, _| {
        let (n, p) = (x[0].dim(), x[1].dim());
        limit("TensorProd", n.checked_mul(p))?;
        Ok(x[0].contract(vec![n, p], &[(x[0], &[0]), (x[1], &[1])], &[0, 1]))
    }),
    entry("DifferenceMatrix", 2, "DifferenceMatrix(a, b): all a_k - b_l, row-major", |x, _| {
        let (n, p) = (x[0].dim(), x[1].dim());
        limit("DifferenceMatrix", n.checked_mul(p))?;
        let repeat = |e: Ex<'_>, axis: u8| e.contract(vec![n, p], &[(e, &[axis])], &[0, 1]).id;
        let b = x[0].b;
        Ok(b.ex(repeat(x[0], 0)) - b.ex(repeat(x[1], 1)))
    }),
    entry(
        "TensorDot",
        2,
        "TensorDot(a, b, dims of a, dims of b, axes of a, axes of b[, perm]): sum over pairs of \
         axes; kept axis k becomes axis perm[k] of the result",
        |x, l| tensor_dot("TensorDot", x, &lists("TensorDot", l)?),
    )
    .literals(4, 5, sample_tensor_dot),
    entry("Kron", 2, "Kron(a, b, dims of a, dims of b): Kronecker product", kron).literals(
        2,
        2,
        sample_kron,
    ),
    entry("MatDet", 1, "MatDet(A): determinant of a matrix of at most 4 × 4", |x, _| {
        let m = Small::new("MatDet", x[0])?;
        Ok(m.determinant())
    })
    .drawn(|below| (vec![[1, 4, 9, 16][below(4)]], vec![])),
    entry("MatInv", 1, "MatInv(A): inverse of a matrix of at most 4 × 4", |x, _| {
        let (m, scale) = Small::scaled("MatInv", x[0])?;
        Ok(m.adjugate() / m.determinant() * scale)
    })
    .drawn(|below| (vec![[1, 4, 9, 16][below(4)]], vec![])),
    entry("MatSolve", 2, "MatSolve(A, B): A⁻¹ B, A of at most 4 × 4, B of as many rows", mat_solve)
        .drawn(|below| {
            let n = 1 + below(4);
            (vec![n * n, n * [1, 1, 2, 3][below(4)]], vec![])
        }),
];

fn mat_solve<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    let (m, scale) = Small::scaled("MatSolve", x[0])?;
    let (n, p) = (m.n, x[1].dim() / m.n);
    if n * p != x[1].dim() || p == 0 {
        return fail("MatSolve", format!("dimensions {0}·{0} and {0}·p", n), dims(x));
    }
    let product = [(m.adjugate(), &[0, 2][..]), (x[1] * scale, &[2, 1])];
    Ok(x[0].contract(vec![n, p, n], &product, &[0, 1]) / m.determinant())
}

fn kron<'g>(x: &[Ex<'g>], l: &[Literal]) -> Built<'g> {
    let l = lists("Kron", l)?;
    let r = l[0].len();
    if l[1].len() != r {
        return fail(
            "Kron",
            "tensors with equally many axes",
            format!("{:?} and {:?}", l[0], l[1]),
        );
    }
    let perm = (0..2 * r).map(|k| if k < r { 2 * k } else { 2 * (k - r) + 1 }).collect();
    tensor_dot("Kron", x, &[l[0].clone(), l[1].clone(), vec![], vec![], perm])
}
fn sample_kron(below: Below<'_>) -> Drawn {
    let mut extents = || (0..2).map(|_| 1 + below(3)).collect::<Vec<usize>>();
    let (a, b) = (extents(), extents());
    (vec![a.iter().product(), b.iter().product()], vec![a[..].into(), b[..].into()])
}

fn vec_mat<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    let (n, p) = (x[0].dim(), x[1].dim() / x[0].dim());
    if n * p != x[1].dim() || p == 0 {
        return fail("VecMatMult", "dimensions n and n·p", dims(x));
    }
    Ok(x[0].contract(vec![p, n], &[(x[0], &[1]), (x[1], &[1, 0])], &[0]))
}

fn mat_vec<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    let (n, p) = (x[0].dim() / x[1].dim(), x[1].dim());
    if n * p != x[0].dim() || n == 0 {
        return fail("MatVecMult", "dimensions n·p and p", dims(x));
    }
    Ok(x[0].contract(vec![n, p], &[(x[0], &[0, 1]), (x[1], &[1])], &[0]))
}

/// Literals that are lists of sizes.
fn lists(op: &str, l: &[Literal]) -> Result<Vec<Vec<usize>>, DimError> {
    let one = |l: &Literal| match l {
        Literal::List(v) => v.iter().map(|&v| usize::try_from(v).ok()).collect(),
        Literal::Int(_) => None,
    };
    match l.iter().map(one).collect() {
        Some(v) => Ok(v),
        None => fail(op, "lists of non-negative integers", format!("{l:?}")),
    }
}

/// `[dims of a, dims of b, summed axes of a, of b, perm]`, the last optional.
fn tensor_dot<'g>(op: &str, x: &[Ex<'g>], l: &[Vec<usize>]) -> Result<Ex<'g>, DimError> {
    let (da, db, ca, cb) = (&l[0], &l[1], &l[2], &l[3]);
    for (e, d) in x.iter().zip([da, db]) {
        if d.iter().try_fold(1usize, |p, &d| p.checked_mul(d)) != Some(e.dim()) {
            return fail(op, format!("extents with the product {}", e.dim()), format!("{d:?}"));
        }
    }
    if da.len() + db.len() > MAX_AXES {
        return fail(op, format!("at most {MAX_AXES} axes"), da.len() + db.len());
    }
    let distinct = |c: &[usize]| c.iter().enumerate().all(|(k, v)| !c[..k].contains(v));
    let extent = |d: &[usize], c: &[usize]| -> Option<Vec<usize>> {
        c.iter().map(|&k| d.get(k).copied()).collect()
    };
    let (ea, eb) = (extent(da, ca), extent(db, cb));
    if ea.is_none() || ea != eb || !distinct(ca) || !distinct(cb) {
        let got = format!("axes {ca:?} of {da:?} and {cb:?} of {db:?}");
        return fail(op, "distinct axes of pairwise equal extents", got);
    }
    // Labels: the axes of a, then those of b; a summed axis of b has the label of its partner.
    let a: Vec<u8> = (0..da.len() as u8).collect();
    let b: Vec<u8> = (0..db.len())
        .map(|k| cb.iter().position(|&c| c == k).map_or(da.len() + k, |p| ca[p]) as u8)
        .collect();
    let kept_a = a.iter().filter(|&&l| !ca.contains(&(l as usize)));
    let kept: Vec<u8> =
        kept_a.chain(b.iter().filter(|&&l| l as usize >= da.len())).copied().collect();
    let mut out = kept.clone();
    if let Some(perm) = l.get(4) {
        if perm.len() != kept.len() || !distinct(perm) || perm.iter().any(|&p| p >= kept.len()) {
            let expected = format!("a permutation of the {} axes that are kept", kept.len());
            return fail(op, expected, format!("{perm:?}"));
        }
        perm.iter().zip(kept).for_each(|(&p, l)| out[p] = l);
    }
    // Labels of summed axes of b are not used: they have extent 1.
    let extents: Vec<usize> = (da.iter().copied())
        .chain(db.iter().enumerate().map(|(k, &d)| if cb.contains(&k) { 1 } else { d }))
        .collect();
    limit(op, out.iter().try_fold(1usize, |p, &l| p.checked_mul(extents[l as usize])))?;
    match extents.iter().try_fold(1usize, |p, &d| p.checked_mul(d)) {
        Some(terms) if terms <= MAX_TERMS => {}
        _ => return fail(op, format!("at most {MAX_TERMS} products"), format!("{extents:?}")),
    }
    Ok(x[0].contract(extents, &[(x[0], &a), (x[1], &b)], &out))
}

fn sample_tensor_dot(below: Below<'_>) -> Drawn {
    let mut extents = |n: usize| (0..n).map(|_| 1 + below(3)).collect::<Vec<usize>>();
    let (da, mut db) = (extents(3), extents(2));
    let shared = below(3);
    // The last axes of a are summed with the first of b in reverse.
    let ca: Vec<usize> = (0..shared).map(|k| 2 - k).collect();
    let cb: Vec<usize> = (0..shared).collect();
    ca.iter().zip(&cb).for_each(|(&k, &l)| db[l] = da[k]);
    let kept = 5 - 2 * shared;
    let mut literals: Vec<Literal> =
        vec![da[..].into(), db[..].into(), ca[..].into(), cb[..].into()];
    if below(2) == 1 {
        let turn = below(kept);
        let perm: Vec<usize> = (0..kept).map(|k| (k * (kept - 1) + turn) % kept).collect();
        literals.push(perm[..].into());
    }
    (vec![da.iter().product(), db.iter().product()], literals)
}

/// A small square matrix by its entries.
struct Small<'g> {
    n: usize,
    entries: Vec<Ex<'g>>,
}

impl<'g> Small<'g> {
    fn new(op: &str, a: Ex<'g>) -> Result<Self, DimError> {
        let Some(n) = (1..=MAX_SIDE).find(|n| n * n == a.dim()) else {
            return fail(
                op,
                "a matrix of dimension 1, 4, 9 or 16",
                format!("dimension {}", a.dim()),
            );
        };
        Ok(Small { n, entries: (0..n * n).map(|k| a.pick(k, 1, 1)).collect() })
    }
    /// The matrix times a power of two, and that power, such that products of four entries neither
    /// overflow nor vanish: 2^k with k = -0.8 log₂ of the largest entry, rounded. (All of the
    /// logarithm would overflow itself for subnormal numbers.)
    fn scaled(op: &str, a: Ex<'g>) -> Result<(Self, Ex<'g>), DimError> {
        let m = Small::new(op, a)?;
        if m.n == 1 {
            return Ok((m, a.lit(1.0)));
        }
        let largest = a.un(&ABS).fold(FoldOp::Max);
        let k = (largest.un(&LOG) * (-0.8 / std::f64::consts::LN_2) + 0.5).un(&FLOOR);
        let scale = Ex::apply(&POWF, &[a.lit(2.0), k]);
        Ok((Small::new(op, a * scale)?, scale))
    }
    /// Determinant of some rows and as many columns, by Laplace's expansion; equal minors are
    /// one node.
    fn minor(&self, rows: &[usize], columns: &[usize]) -> Ex<'g> {
        let [row, below @ ..] = rows else { return self.entries[0].lit(1.0) };
        let term = |k: usize| {
            let others: Vec<usize> = columns.iter().copied().filter(|&c| c != columns[k]).collect();
            self.entries[row * self.n + columns[k]] * self.minor(below, &others)
        };
        let signed = |sum, k| if k % 2 == 0 { sum + term(k) } else { sum - term(k) };
        (1..columns.len()).fold(term(0), signed)
    }
    fn determinant(&self) -> Ex<'g> {
        let all: Vec<usize> = (0..self.n).collect();
        self.minor(&all, &all)
    }
    /// Transposed cofactors, row-major.
    fn adjugate(&self) -> Ex<'g> {
        let but = |k: usize| (0..self.n).filter(|&l| l != k).collect::<Vec<_>>();
        let cofactor = |k: usize| {
            let (i, j) = (k % self.n, k / self.n);
            let minor = self.minor(&but(i), &but(j));
            if (i + j) % 2 == 0 { minor } else { -minor }
        };
        Ex::concat(&(0..self.n * self.n).map(cofactor).collect::<Vec<_>>())
    }
}

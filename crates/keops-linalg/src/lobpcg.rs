//! Extreme eigenpairs with a preconditioner: the locally optimal block preconditioned conjugate
//! gradient method (A. Knyazev, Toward the optimal preconditioned eigensolver, SIAM J. Sci. Comput.
//! 23, 2001).
//!
//! Rayleigh's and Ritz's procedure over the iterates X, their preconditioned residuals W and the last
//! directions P. All are kept orthonormal, so that the projected problem is a standard one: W against
//! X and P by Gram and Schmidt, twice, and P against X in the coordinates of the last space, where it
//! is exact (J. Duersch, M. Shao, C. Yang, M. Gu, A robust and efficient implementation of LOBPCG,
//! SIAM J. Sci. Comput. 40, 2018, section 4.2). Pairs that have converged stay in X, and leave W and
//! P (soft locking).

use crate::eigen::{EigenError, Ended, Failure, Found, Run};
use crate::krylov::{Products, finite, norms, orthonormal, part, part_mut, random, rows, small};
use crate::layout::{VECTOR, dense};
use crate::operator::LinearOperator;
use crate::precondition::Preconditioner;
use keops_core::error::{Error, InputError, OutOfMemory};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// Vectors above those wanted: the pairs beside the last one wanted decide how fast it converges.
const GUARD: usize = 5;

/// Vectors, and the products with them.
struct Block {
    v: Array2<f64>,
    av: Array2<f64>,
}
impl Block {
    /// Some combinations of the rows of several blocks.
    fn of(blocks: &[&Block], y: &Array2<f64>) -> Result<Block, OutOfMemory> {
        let n = blocks.iter().map(|b| b.v.ncols()).max().unwrap_or(0);
        let (mut v, mut av) = (dense(y.nrows(), n, VECTOR)?, dense(y.nrows(), n, VECTOR)?);
        let mut at = 0;
        for block in blocks {
            let own = part(y, .., at..at + block.v.nrows());
            general_mat_mul(1.0, &own, &block.v, 1.0, &mut v);
            general_mat_mul(1.0, &own, &block.av, 1.0, &mut av);
            at += block.v.nrows();
        }
        Ok(Block { v, av })
    }
}

/// The inner products of all rows of blocks with all products.
fn gram(blocks: &[&Block]) -> Result<Array2<f64>, OutOfMemory> {
    let size = blocks.iter().map(|b| b.v.nrows()).sum();
    let mut all = dense(size, size, VECTOR)?;
    let mut i = 0;
    for a in blocks {
        let mut k = 0;
        for b in blocks {
            let (to_i, to_k) = (i + a.v.nrows(), k + b.v.nrows());
            part_mut(&mut all, i..to_i, k..to_k).assign(&a.v.dot(&b.av.t()));
            k = to_k;
        }
        i += a.v.nrows();
    }
    Ok(all)
}

/// `M r` for residuals, which are rows.
fn precondition(
    preconditioner: Option<&dyn Preconditioner>,
    operator: &dyn LinearOperator,
    r: Array2<f64>,
) -> Result<Array2<f64>, Error> {
    let Some(preconditioner) = preconditioner else { return Ok(r) };
    let [n, dim] = operator.domain();
    let mut out = dense(r.nrows(), r.ncols(), VECTOR)?;
    let apply = |r: ArrayView2<'_, f64>| {
        let made = preconditioner.apply(0, 0.0, r)?;
        if made.dim() != r.dim() || made.iter().any(|v| !v.is_finite()) {
            let name = "result of the preconditioner".into();
            let expected = format!("finite numbers of shape {:?}", r.dim());
            return Err(Error::from(InputError::Shape {
                name,
                expected,
                got: made.shape().to_vec(),
            }));
        }
        Ok(made)
    };
    if operator.columns_independent() {
        out.assign(&apply(r.t())?.t());
        return Ok(out);
    }
    for (mut to, r) in out.outer_iter_mut().zip(r.outer_iter()) {
        let Ok(own) = r.into_shape_with_order((n, dim)) else { unreachable!("of the domain") };
        to.iter_mut().zip(&apply(own)?).for_each(|(to, v)| *to = *v);
    }
    Ok(out)
}

impl Run<'_> {
    fn product(&self, products: &mut Products<'_>, v: Array2<f64>) -> Result<Block, EigenError> {
        let av = products.apply(v.view())?;
        match finite(&av) {
            true => Ok(Block { v, av }),
            false => Err(EigenError::NotFinite { product: products.count }),
        }
    }

    /// Ritz pairs of a space, the wanted first: values, and coefficients by rows.
    fn ritz_pairs(
        &mut self,
        blocks: &[&Block],
        product: usize,
    ) -> Result<(Array1<f64>, Array2<f64>), EigenError> {
        let g = gram(blocks)?;
        let size = g.iter().fold(self.norm, |m, h| m.max(h.abs()));
        let gap = g.indexed_iter().fold(0.0f64, |m, ((i, k), h)| m.max((h - g[[k, i]]).abs()));
        if gap > self.asymmetry_bound() * size {
            return Err(EigenError::NotSymmetric { product, asymmetry: gap / size });
        }
        let (values, y) = small(g.view())?;
        self.norm = values.iter().fold(self.norm, |m, v| m.max(v.abs()));
        let order = self.order(&values);
        Ok((values.select(Axis(0), &order), y.select(Axis(0), &order)))
    }

    pub(crate) fn lobpcg(
        &mut self,
        products: &mut Products<'_>,
        preconditioner: Option<&dyn Preconditioner>,
    ) -> Result<Ended, EigenError> {
        let (n, want) = (self.n, self.want);
        let block = want.saturating_add(want.min(GUARD)).min(n);
        if want == 0 {
            return Ok((Found { values: vec![], vectors: dense(0, n, VECTOR)? }, None));
        }
        let start = random(&mut self.random, block, n)?;
        let (start, _) = orthonormal(start, &[], 0.0, n, &mut self.random)?;
        let mut x = self.product(products, start)?;
        let (all, y) = self.ritz_pairs(&[&x], products.count)?;
        let mut values = all;
        x = Block::of(&[&x], &y)?;
        let mut p = Block { v: dense(0, n, VECTOR)?, av: dense(0, n, VECTOR)? };
        // Are the products with x made of others, which carries rounding along?
        let mut carried = false;
        loop {
            let mut r = x.av.clone();
            for ((mut r, x), value) in r.outer_iter_mut().zip(x.v.outer_iter()).zip(&values) {
                r.scaled_add(-value, &x);
            }
            let sizes = norms(r.view());
            let scale = self.norm.max(f64::MIN_POSITIVE);
            self.residuals = sizes.iter().take(want).map(|r| r / scale).collect();
            let found = |x: &Block, values: &Array1<f64>| Found {
                values: values.iter().take(want).copied().collect(),
                vectors: rows(&x.v, ..want).to_owned(),
            };
            if self.cancelled(products) {
                return Ok((found(&x, &values), Some(Failure::Cancelled)));
            }
            let done = self.residuals.iter().all(|r| *r <= self.tolerance);
            if done && carried {
                // From products of their own.
                let (own, _) = orthonormal(x.v, &[], 0.0, n, &mut self.random)?;
                x = self.product(products, own)?;
                let (all, y) = self.ritz_pairs(&[&x], products.count)?;
                (values, x, carried) = (all, Block::of(&[&x], &y)?, false);
                p = Block { v: dense(0, n, VECTOR)?, av: dense(0, n, VECTOR)? };
                continue;
            }
            if done || block == n {
                return Ok((found(&x, &values), None));
            }
            if products.count >= self.limit {
                return Ok((found(&x, &values), Some(Failure::Limit)));
            }
            let active: Vec<usize> =
                (0..block).filter(|&k| sizes[k] > 0.1 * self.tolerance * scale).collect();
            let own = r.select(Axis(0), &active);
            let mut w = precondition(preconditioner, products.operator(), own)?;
            let sizes = norms(w.view());
            for (mut row, size) in w.outer_iter_mut().zip(&sizes) {
                row /= if *size > 0.0 { *size } else { 1.0 };
            }
            let bases = [x.v.view(), p.v.view()];
            for basis in &bases {
                crate::krylov::project(basis.view(), w.view_mut())?;
            }
            let room = n - block - p.v.nrows();
            let (w, _) = orthonormal(w, &bases, 4.0 * f64::EPSILON, room, &mut self.random)?;
            let w = self.product(products, w)?;
            let space = [&x, &w, &p];
            let (all, y) = self.ritz_pairs(&space, products.count)?;
            let best = rows(&y, ..block).to_owned();
            // What is new in the iterates, as it is orthogonal to them.
            let mut new = best.select(Axis(0), &active);
            part_mut(&mut new, .., ..block).fill(0.0);
            let size = y.ncols();
            let (new, _) =
                orthonormal(new, &[best.view()], f64::EPSILON, size - block, &mut self.random)?;
            let next = Block::of(&space, &best)?;
            let room = (n - block) / 2;
            p = Block::of(&space, &rows(&new, ..new.nrows().min(room)).to_owned())?;
            values = all.iter().take(block).copied().collect();
            (x, carried) = (next, true);
            self.restarts += 1;
        }
    }
}

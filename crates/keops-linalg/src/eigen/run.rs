//! The iteration: sweeps of thick-restart Lanczos, and the verdict on what was found.

use super::{EigenError, Eigenpairs, Which};
use crate::control::{Control, Progress};
use crate::krylov::{
    Products, finite, orthonormal, part, part_mut, project, random, rows, rows_mut, small,
};
use crate::layout::{VECTOR, dense};
use keops_core::data::DType;
use keops_core::error::OutOfMemory;
use keops_core::random::Random;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// Vectors found, as rows, by the order of their values.
pub(crate) struct Found {
    pub values: Vec<f64>,
    pub vectors: Array2<f64>,
}

/// Products that estimate the norm of an operator whose inverse was looked at.
const POWER: usize = 5;

/// How a sweep, or all of them, ended before their end.
pub(crate) enum Failure {
    Limit,
    Cancelled,
}

pub(crate) struct Run<'s> {
    pub(super) which: Which,
    pub want: usize,
    pub tolerance: f64,
    pub(super) unit: f64,
    pub(super) size: usize,
    pub limit: usize,
    pub n: usize,
    /// Largest magnitude of a Ritz value, as products are scaled.
    pub norm: f64,
    /// Of [`Which::Nearest`], the norm of the operator itself, as its products are scaled.
    pub(super) whole: f64,
    pub restarts: usize,
    /// Relative residuals at the last restart.
    pub residuals: Vec<f64>,
    pub(super) control: Control<'s>,
    pub random: Random,
}

/// The pairs as they are, and why there are no better ones.
pub(crate) type Ended = (Found, Option<Failure>);

impl Run<'_> {
    /// Larger is wanted before smaller.
    fn key(&self, value: f64) -> f64 {
        match self.which {
            Which::Largest => value,
            Which::Smallest => -value,
            Which::Nearest(_) => value.abs(),
        }
    }
    /// Numbers of values, the wanted first.
    pub fn order(&self, values: &Array1<f64>) -> Vec<usize> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| self.key(values[b]).total_cmp(&self.key(values[a])));
        order
    }
    /// Between the rounding of long sums and any asymmetry that would disturb the iteration.
    pub fn asymmetry_bound(&self) -> f64 {
        self.unit.powf(2.0 / 3.0) * (self.n as f64).sqrt().max(8.0)
    }
    /// What a residual is compared with.
    fn scale(&self, value: f64) -> f64 {
        match self.which {
            Which::Nearest(_) => value.abs(), // by (A - σ) r / θ, see `Inverse`
            _ => self.norm,
        }
    }

    pub(super) fn all(&mut self, products: &mut Products<'_>) -> Result<Ended, EigenError> {
        let mut found = Found { values: vec![], vectors: dense(0, self.n, VECTOR)? };
        if self.want == 0 {
            return Ok((found, None));
        }
        let (mut new, mut failed) = self.sweep(products, &found, self.want, None)?;
        loop {
            found.values.extend(new.values);
            let joined = ndarray::concatenate(Axis(0), &[found.vectors.view(), new.vectors.view()]);
            let Ok(joined) = joined else { unreachable!("vectors of as many unknowns") };
            let mut order: Vec<usize> = (0..found.values.len()).collect();
            order.sort_by(|&a, &b| self.key(found.values[b]).total_cmp(&self.key(found.values[a])));
            order.truncate(self.want);
            let values: Vec<f64> = order.iter().map(|&k| found.values[k]).collect();
            found = Found { vectors: joined.select(Axis(0), &order), values };
            if failed.is_some() || self.n == found.values.len() {
                return Ok((found, failed));
            }
            let last = found.values.last().map(|v| self.key(*v));
            (new, failed) = self.sweep(products, &found, 1, last)?;
            if new.values.is_empty() {
                return Ok((found, failed));
            }
        }
    }

    /// Iterates orthogonally to what is found until `want` more pairs have converged; with a
    /// threshold, which must be wanted more than that, none if there is no such pair.
    fn sweep(
        &mut self,
        products: &mut Products<'_>,
        found: &Found,
        want: usize,
        threshold: Option<f64>,
    ) -> Result<Ended, EigenError> {
        let n = self.n;
        let space = n - found.values.len();
        let none = || Found { values: vec![], vectors: Array2::zeros((0, n)) };
        let want = want.min(space);
        if want == 0 {
            return Ok((none(), None));
        }
        let mut width = products.width().min(space);
        let size = self.size.max(want + 2 * width).min(space);
        let capacity = (size + 2 * width).min(space + width);
        let mut v = dense(capacity, n, VECTOR)?;
        let mut t = dense(capacity, capacity, VECTOR)?;
        let locked = found.vectors.view();
        let mut start = random(&mut self.random, width, n)?;
        project(locked, start.view_mut())?;
        let (q, _) = orthonormal(start, &[locked], 0.0, space, &mut self.random)?;
        rows_mut(&mut v, ..width).assign(&q);
        let mut made = 0;
        loop {
            // The coefficients of the last residuals in the next block.
            let mut coupling = dense(0, 0, VECTOR)?;
            let mut last = (made, 0);
            while made < size && width > 0 {
                if products.count >= self.limit {
                    return self.ended(rows(&v, ..made), &t, made, want, Failure::Limit);
                }
                let to = made + width;
                let mut w = products.apply(rows(&v, made..to))?;
                if !finite(&w) {
                    return Err(EigenError::NotFinite { product: products.count });
                }
                project(locked, w.view_mut())?;
                let own = project(rows(&v, ..to), w.view_mut())?;
                self.symmetric(&own, &t, made, products.count)?;
                for (i, row) in own.outer_iter().enumerate() {
                    for (k, h) in row.indexed_iter() {
                        let mirrored = if k >= made { own[[k - made, made + i]] } else { *h };
                        let h = 0.5 * (h + mirrored);
                        (t[[made + i, k]], t[[k, made + i]]) = (h, h);
                    }
                }
                let size = own.iter().fold(0.0f64, |m, h| m.max(h.abs()));
                self.norm = self.norm.max(size);
                let noise = 4.0 * self.unit * self.norm;
                let bases = [locked, rows(&v, ..to)];
                let (q, r) = orthonormal(w, &bases, noise, space - to, &mut self.random)?;
                let next = q.nrows();
                rows_mut(&mut v, to..to + next).assign(&q);
                part_mut(&mut t, to..to + next, ..to).fill(0.0);
                part_mut(&mut t, to..to + next, made..to).assign(&r.t());
                (last, made, width, coupling) = ((made, to), to, next, r);
                if self.cancelled(products) {
                    return self.ended(rows(&v, ..made), &t, made, want, Failure::Cancelled);
                }
            }
            let (values, y) = small(part(&t, ..made, ..made))?;
            let mut order = self.order(&values);
            let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            self.norm = self.norm.max(largest);
            let tail = |k: usize| part(&y, k..k + 1, last.0..last.1).row(0).dot(&coupling);
            let residual = |k: usize| tail(k).dot(&tail(k)).sqrt();
            let relative = |k: &usize| residual(*k) / self.scale(values[*k]).max(f64::MIN_POSITIVE);
            let now: Vec<f64> = order.iter().take(want).map(relative).collect();
            let done = now.iter().all(|r| *r <= self.tolerance);
            if let Some(threshold) = threshold {
                // A pair that does not reach the threshold once it is known well enough.
                let (first, r) = (order[0], residual(order[0]));
                let gap = threshold - self.key(values[first]);
                let slack = self.tolerance * self.scale(values[first]);
                if (gap > 0.0 && r <= 0.1 * gap) || (gap >= -slack && r <= slack) {
                    return Ok((none(), None));
                }
            } else {
                self.residuals = now;
            }
            if done || width == 0 {
                order.truncate(want);
                return Ok((ritz(&v, &values, &y, &order, made)?, None));
            }
            // Restart from the best Ritz vectors and the block that follows.
            let keep = (want + (size - want) * 2 / 5).min(size - width.min(size)).max(want);
            order.truncate(keep.min(made));
            let kept = ritz(&v, &values, &y, &order, made)?;
            let keep = order.len();
            let block = rows(&v, made..made + width).to_owned();
            let tails: Vec<Array1<f64>> = order.iter().map(|&k| tail(k)).collect();
            rows_mut(&mut v, ..keep).assign(&kept.vectors);
            rows_mut(&mut v, keep..keep + width).assign(&block);
            t.fill(0.0);
            for (k, tail) in tails.iter().enumerate() {
                t[[k, k]] = kept.values[k];
                part_mut(&mut t, keep..keep + width, k..k + 1).column_mut(0).assign(tail);
            }
            made = keep;
            self.restarts += 1;
        }
    }

    /// Compares products with the coefficients that symmetry makes known before.
    fn symmetric(
        &self,
        own: &Array2<f64>,
        t: &Array2<f64>,
        made: usize,
        product: usize,
    ) -> Result<(), EigenError> {
        if let Which::Nearest(_) = self.which {
            return Ok(()); // MINRES looks
        }
        let mut gap = 0.0f64;
        for ((i, k), h) in own.indexed_iter() {
            let mirrored = if k >= made { own[[k - made, made + i]] } else { t[[made + i, k]] };
            gap = gap.max((h - mirrored).abs());
        }
        let size = own.iter().fold(self.norm, |m, h| m.max(h.abs()));
        let asymmetry = gap / size;
        match asymmetry > self.asymmetry_bound() {
            true => Err(EigenError::NotSymmetric { product, asymmetry }),
            false => Ok(()),
        }
    }

    pub fn cancelled(&mut self, products: &Products<'_>) -> bool {
        let (iteration, residuals) = (products.count, &self.residuals[..]);
        self.control.ends(&Progress { iteration, products: iteration, residuals })
    }

    /// What there is where the iteration is ended.
    fn ended(
        &self,
        v: ArrayView2<'_, f64>,
        t: &Array2<f64>,
        made: usize,
        want: usize,
        why: Failure,
    ) -> Result<Ended, EigenError> {
        let (values, y) = small(part(t, ..made, ..made))?;
        let mut order = self.order(&values);
        order.truncate(want);
        Ok((ritz(&v.to_owned(), &values, &y, &order, made)?, Some(why)))
    }

    /// Rayleigh's and Ritz's procedure once more, with products of the operator itself, and the
    /// verdict.
    pub(super) fn finish(
        self,
        products: &mut Products<'_>,
        (found, failed): Ended,
    ) -> Result<Eigenpairs, EigenError> {
        let count = found.values.len();
        let images = products.apply(found.vectors.view())?;
        if !finite(&images) {
            return Err(EigenError::NotFinite { product: products.count });
        }
        let (values, y) = small(found.vectors.dot(&images.t()).view())?;
        let rank = |v: f64| match self.which {
            Which::Nearest(shift) => -(products.unscaled(v) - shift).abs(),
            _ => self.key(v),
        };
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|&a, &b| rank(values[b]).total_cmp(&rank(values[a])));
        let y = y.select(Axis(0), &order);
        let values = values.select(Axis(0), &order);
        let (vectors, images) = (y.dot(&found.vectors), y.dot(&images));
        let residual = |k: usize| {
            let r = &images.row(k) - &(values[k] * &vectors.row(k));
            r.dot(&r).sqrt()
        };
        let residuals = Array1::from_shape_fn(count, residual);
        let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let norm = match self.which {
            Which::Nearest(_) => self.whole.max(largest),
            _ => self.norm.max(largest),
        };
        let worst = (0..count).max_by(|&a, &b| residuals[a].total_cmp(&residuals[b]));
        let relative = |k: usize| if residuals[k] == 0.0 { 0.0 } else { residuals[k] / norm };
        let converged = (0..count).filter(|&k| relative(k) <= self.tolerance).count();
        let largest = worst.map_or(0.0, relative);
        let pairs = Eigenpairs {
            values: values.mapv(|v| products.unscaled(v)),
            vectors: vectors.reversed_axes(),
            residuals: residuals.mapv(|v| products.unscaled(v)),
            norm: products.unscaled(norm),
            products: products.count,
            restarts: self.restarts,
        };
        let (wanted, partial) = (self.want, Box::new(pairs));
        match (failed, worst) {
            (Some(Failure::Limit), _) => Err(EigenError::Limit {
                limit: self.limit,
                converged,
                wanted,
                residual: largest,
                partial,
            }),
            (Some(Failure::Cancelled), _) => {
                let product = partial.products;
                Err(EigenError::Cancelled { product, converged, wanted, partial })
            }
            // (Rounding of the last products and rotations.)
            (None, Some(pair)) if largest > 2.0 * self.tolerance => {
                let (residual, tolerance) = (largest, self.tolerance);
                Err(EigenError::Inaccurate {
                    pair,
                    residual,
                    tolerance,
                    precision: self.precision(),
                    partial,
                })
            }
            _ => Ok(*partial),
        }
    }
    /// The norm of the operator from below, by the power method from a random vector.
    pub(super) fn power(&mut self, products: &mut Products<'_>) -> Result<f64, EigenError> {
        let mut v = random(&mut self.random, 1, self.n)?;
        let mut norm = 0.0f64;
        for _ in 0..POWER {
            let size = v.iter().map(|v| v * v).sum::<f64>().sqrt();
            if size == 0.0 {
                break;
            }
            v /= size;
            v = products.apply(v.view())?;
            if !finite(&v) {
                return Err(EigenError::NotFinite { product: products.count });
            }
            norm = norm.max(v.iter().map(|v| v * v).sum::<f64>().sqrt());
        }
        Ok(norm)
    }
    fn precision(&self) -> &'static str {
        if self.unit == f64::EPSILON { DType::F64.name() } else { DType::F32.name() }
    }
}

/// The Ritz vectors of the numbers given.
fn ritz(
    v: &Array2<f64>,
    values: &Array1<f64>,
    y: &Array2<f64>,
    order: &[usize],
    made: usize,
) -> Result<Found, OutOfMemory> {
    let mut vectors = dense(order.len(), v.ncols(), VECTOR)?;
    let y = y.select(Axis(0), order);
    general_mat_mul(1.0, &y, &rows(v, ..made), 0.0, &mut vectors);
    Ok(Found { values: order.iter().map(|&k| values[k]).collect(), vectors })
}

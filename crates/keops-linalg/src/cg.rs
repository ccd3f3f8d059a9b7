//! Conjugate gradients for symmetric positive definite systems (M. Hestenes, E. Stiefel, Methods
//! of conjugate gradients for solving linear systems, J. Res. NBS 49, 1952).
//!
//! With a preconditioner, `z` takes the place of the residual in directions and step lengths
//! (Y. Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., Algorithm 9.1).
//!
//! Directions are rounded to the type of the operator, so that what is applied is what is added.

use crate::harness::{Moved, Recurrence};
use crate::info::Reason;
use crate::lanczos::Lanczos;
use crate::layout::{Layout, SYSTEMS, VECTOR, copy, scaled};
use crate::space::Space;
use keops_core::error::{Error, OutOfMemory};
use keops_core::memory;

/// Negative curvatures of less than this many units of rounding of the largest one have no sign.
const NOISE: f64 = 16.0;
/// Where the ridge is below this many units of rounding of the largest curvature, it does not tell
/// a curvature that is smaller than one unit from rounding. (Errors of sums over many columns
/// average out, so that a ridge of less than one unit still counts.)
const BURIED: f64 = 1.0 / 64.0;

/// The recurrence.
pub(crate) struct Conjugate {
    r: Vec<f64>,
    p: Vec<f64>,
    /// `<r, z>` of each system, where `z` is what the preconditioner makes of `r`.
    rz: Vec<f64>,
    lanczos: Vec<Lanczos>,
    /// The direction of the first step, before the second.
    first: Option<Vec<f64>>,
    steps: usize,
    suspicious: bool,
}

impl Conjugate {
    pub fn new(layout: Layout) -> Result<Conjugate, OutOfMemory> {
        let len = layout.batches * layout.rows * layout.dim;
        Ok(Conjugate {
            r: memory::filled(len, 0.0, VECTOR)?,
            p: memory::filled(len, 0.0, VECTOR)?,
            rz: layout.each_system(0.0)?,
            lanczos: layout.each_system(Lanczos::default())?,
            first: None,
            steps: 0,
            suspicious: false,
        })
    }
    /// In exact arithmetic directions are conjugate to the one before, `<p_0, K p_1> = 0`,
    /// whatever the operator is, as long as it is symmetric. Costs no product.
    fn look(&mut self, space: &Space<'_>, q: &[f64]) -> Result<(), OutOfMemory> {
        self.suspicious = false;
        self.steps += 1;
        if self.steps == 1 {
            self.first = Some(copy(&self.p)?);
        } else if let Some(before) = self.first.take() {
            let layout = space.layout;
            let (cross, active) = (layout.dots(&before, q)?, layout.dots(&self.p, &self.p)?);
            let (before, q) = (layout.norms(&before)?, layout.norms(q)?);
            let bound = space.epsilon().sqrt();
            self.suspicious = (0..cross.len())
                .any(|s| active[s] > 0.0 && cross[s].abs() > bound * before[s] * q[s]);
        }
        Ok(())
    }
}

impl Recurrence for Conjugate {
    fn restart(
        &mut self,
        space: &mut Space<'_>,
        residuals: &[f64],
        marked: &[bool],
    ) -> Result<(), Error> {
        let layout = space.layout;
        let z = space.precondition(residuals)?;
        layout.each(|s, k| {
            if marked[s] {
                (self.r[k], self.p[k]) = (residuals[k], space.rounded(z[k]));
            }
        });
        let products = layout.dots(residuals, &z)?;
        for (k, product) in products.into_iter().enumerate().filter(|(k, _)| marked[*k]) {
            self.rz[k] = product;
            self.lanczos[k].restart();
        }
        Ok(())
    }

    fn step(
        &mut self,
        space: &mut Space<'_>,
        active: &[bool],
        x: &mut [f64],
    ) -> Result<Vec<Moved>, Error> {
        let layout = space.layout;
        layout.each(|s, k| {
            if !active[s] {
                self.p[k] = 0.0;
            }
        });
        let q = space.product(&mut self.p)?;
        self.look(space, &q)?;
        let (pp, pq) = (layout.dots(&self.p, &self.p)?, layout.dots(&self.p, &q)?);
        let qq = layout.dots(&q, &q)?;
        let mut steps = layout.each_system(0.0)?;
        let mut moved = memory::room(steps.len(), SYSTEMS)?;
        for (k, &active) in active.iter().enumerate() {
            let (curvature, largest) = (pq[k] / pp[k], space.largest[k]);
            let unit = space.epsilon() * largest;
            let buried = space.ridge(k) <= BURIED * unit;
            moved.push(if !active {
                Moved::Not
            } else if !(pq[k].is_finite() && qq[k].is_finite()) {
                Moved::Stopped(Reason::NotFinite)
            } else if self.rz[k].is_nan() || self.rz[k] <= 0.0 {
                Moved::Stopped(Reason::Preconditioner)
            } else if curvature < -NOISE * unit {
                let curvature = scaled(curvature, space.exponent(k));
                Moved::Stopped(Reason::Indefinite { curvature })
            } else if curvature.is_nan() || curvature <= 0.0 || buried && curvature <= unit {
                Moved::Stopped(Reason::Singular)
            } else {
                steps[k] = self.rz[k] / pq[k];
                Moved::To(0.0)
            });
        }
        let r = &mut self.r;
        layout.each(|s, k| {
            if steps[s] != 0.0 {
                x[k] += steps[s] * self.p[k];
                r[k] -= steps[s] * q[k];
            }
        });
        let norms = layout.norms(r)?;
        let z = space.precondition(&self.r)?;
        let rz = layout.dots(&self.r, &z)?;
        let mut ratio = layout.each_system(0.0)?;
        for (k, moved) in moved.iter_mut().enumerate() {
            if let Moved::To(norm) = moved {
                ratio[k] = rz[k] / self.rz[k];
                self.lanczos[k].push(steps[k], ratio[k].max(0.0));
                self.rz[k] = rz[k];
                *norm = norms[k];
            }
        }
        layout.each(|s, k| self.p[k] = space.rounded(z[k] + ratio[s] * self.p[k]));
        Ok(moved)
    }

    fn suspicious(&self) -> bool {
        self.suspicious
    }
    fn eigenvalues(&self, system: usize) -> Option<[f64; 2]> {
        self.lanczos[system].extremes()
    }
}

//! MINRES for symmetric systems, definite or not (C. Paige, M. Saunders, Solution of sparse
//! indefinite systems of linear equations, SIAM J. Numer. Anal. 12, 1975; the preconditioned form is
//! that of Saunders' implementation).
//!
//! The Lanczos process of `M A` makes a tridiagonal matrix, which plane rotations factorise as it
//! grows. Products `A w` with the directions are carried along, so that the residual is that of the
//! iterate to the rounding of products, in the Euclidean norm whatever the preconditioner is.

use crate::harness::{Moved, Recurrence};
use crate::info::Reason;
use crate::layout::{Layout, SYSTEMS, VECTOR, copy};
use crate::space::Space;
use keops_core::error::{Error, OutOfMemory};
use keops_core::memory;

/// The residual solves the least squares problem where `‖A r‖` is below this many units of rounding
/// of `‖A‖ ‖r‖`: nothing reduces it further.
const NOTHING: f64 = 10.0;
/// Where `‖A r‖` was below the square root of a unit of rounding, and so many iterations have not
/// reduced the residual by this part, it does not come nearer than that by rounding.
const WINDOW: usize = 100;
const PROGRESS: f64 = 1e-3;

/// Scalars of a system, named as in Saunders' implementation.
#[derive(Clone, Copy)]
struct State {
    beta: f64,
    old_beta: f64,
    delta_bar: f64,
    epsilon: f64,
    phi_bar: f64,
    rotation: (f64, f64),
    /// Square of the norm of the tridiagonal matrix, from below.
    size: f64,
    /// Smallest and largest diagonal entry of its triangular factor.
    diagonal: Option<[f64; 2]>,
    definite: bool,
    /// Smallest `‖A r‖ / (‖A‖ ‖r‖)` of the window, its first residual, and its iterations.
    reachable: f64,
    since: (f64, usize),
}

const START: State = State {
    beta: 0.0,
    old_beta: 0.0,
    delta_bar: 0.0,
    epsilon: 0.0,
    phi_bar: 0.0,
    rotation: (-1.0, 0.0),
    size: 0.0,
    diagonal: None,
    definite: true,
    reachable: f64::INFINITY,
    since: (f64::INFINITY, 0),
};

/// How a system moves: the coefficients of its new direction, and the step along it.
#[derive(Clone, Copy)]
struct Direction {
    older: f64,
    newer: f64,
    scale: f64,
    step: f64,
}

/// The recurrence.
pub(crate) struct Minres {
    r: Vec<f64>,
    /// The last two Lanczos vectors before they are normalised, and the preconditioner's product
    /// with the last one.
    lanczos: [Vec<f64>; 2],
    y: Vec<f64>,
    /// The last two directions, and the products with them.
    w: [Vec<f64>; 2],
    aw: [Vec<f64>; 2],
    states: Vec<State>,
    /// The first direction and its product, before the second.
    first: Option<[Vec<f64>; 2]>,
    steps: usize,
    suspicious: bool,
}

impl Minres {
    pub fn new(layout: Layout) -> Result<Minres, OutOfMemory> {
        let len = layout.batches * layout.rows * layout.dim;
        let zeros = || memory::filled(len, 0.0, VECTOR);
        Ok(Minres {
            r: zeros()?,
            lanczos: [zeros()?, zeros()?],
            y: zeros()?,
            w: [zeros()?, zeros()?],
            aw: [zeros()?, zeros()?],
            states: layout.each_system(START)?,
            first: None,
            steps: 0,
            suspicious: false,
        })
    }
    /// `<v₁, A v₂> = <A v₁, v₂>` for the first two directions. Costs no product.
    fn look(&mut self, space: &Space<'_>, v: &[f64], q: &[f64]) -> Result<(), OutOfMemory> {
        self.suspicious = false;
        self.steps += 1;
        if self.steps == 1 {
            self.first = Some([copy(v)?, copy(q)?]);
        } else if let Some([v1, q1]) = self.first.take() {
            let layout = space.layout;
            let (left, right) = (layout.dots(&v1, q)?, layout.dots(&q1, v)?);
            let (n1, n2) = (layout.norms(&v1)?, layout.norms(v)?);
            let (m1, m2) = (layout.norms(&q1)?, layout.norms(q)?);
            let bound = space.epsilon().sqrt();
            self.suspicious = (0..left.len())
                .any(|s| (left[s] - right[s]).abs() > bound * (n1[s] * m2[s] + m1[s] * n2[s]));
        }
        Ok(())
    }
}

/// `<r, M r>` of a preconditioner, where rounding may have made 0 negative; `None` if it is not
/// positive.
fn square(product: f64, r: f64, z: f64) -> Option<f64> {
    let noise = f64::EPSILON * r * z;
    match product.is_finite() && product >= -16.0 * noise {
        true => Some(product.max(0.0)),
        false => None,
    }
}

impl Recurrence for Minres {
    fn restart(
        &mut self,
        space: &mut Space<'_>,
        residuals: &[f64],
        marked: &[bool],
    ) -> Result<(), Error> {
        let layout = space.layout;
        let z = space.precondition(residuals)?;
        let ([older, newer], [w1, w2], [aw1, aw2]) = (&mut self.lanczos, &mut self.w, &mut self.aw);
        layout.each(|s, k| {
            if marked[s] {
                (self.r[k], newer[k], self.y[k]) = (residuals[k], residuals[k], z[k]);
                (older[k], w1[k], w2[k], aw1[k], aw2[k]) = (0.0, 0.0, 0.0, 0.0, 0.0);
            }
        });
        let products = layout.dots(residuals, &z)?;
        for (k, product) in products.into_iter().enumerate().filter(|(k, _)| marked[*k]) {
            let State { diagonal, size, .. } = self.states[k];
            let beta = if product > 0.0 { product.sqrt() } else { 0.0 };
            let definite = product > 0.0;
            self.states[k] = State { beta, phi_bar: beta, diagonal, size, definite, ..START };
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
        let states = &self.states;
        let mut v = memory::filled(x.len(), 0.0, VECTOR)?;
        layout.each(|s, k| {
            if active[s] && states[s].beta > 0.0 {
                v[k] = space.rounded(self.y[k] / states[s].beta);
            }
        });
        let product = space.product(&mut v)?;
        self.look(space, &v, &product)?;
        // The next Lanczos vector.
        let (alpha, sizes) = (layout.dots(&v, &product)?, layout.dots(&product, &product)?);
        let mut q = copy(&product)?;
        let states = &self.states;
        let [older, newer] = &mut self.lanczos;
        layout.each(|s, k| {
            let State { beta, old_beta, .. } = states[s];
            if beta > 0.0 {
                let second = if old_beta > 0.0 { beta / old_beta * older[k] } else { 0.0 };
                q[k] -= second + alpha[s] / beta * newer[k];
            }
        });
        std::mem::swap(older, newer);
        *newer = q;
        self.y = space.precondition(newer)?;
        let squares = layout.dots(newer, &self.y)?;
        let before = layout.norms(&self.r)?;
        let (norms, images) = (layout.norms(newer)?, layout.norms(&self.y)?);
        let unit = space.epsilon();
        let mut moved = memory::room(states.len(), SYSTEMS)?;
        let mut directions: Vec<Option<Direction>> = layout.each_system(None)?;
        for (k, state) in self.states.iter_mut().enumerate() {
            if !active[k] {
                moved.push(Moved::Not);
                continue;
            }
            if !state.definite {
                moved.push(Moved::Stopped(Reason::Preconditioner));
                continue;
            }
            if state.beta == 0.0 {
                // An invariant subspace, which does not hold the solution.
                moved.push(Moved::Stopped(Reason::Singular));
                continue;
            }
            if !(alpha[k].is_finite() && sizes[k].is_finite()) {
                moved.push(Moved::Stopped(Reason::NotFinite));
                continue;
            }
            let Some(square) = square(squares[k], norms[k], images[k]) else {
                moved.push(Moved::Stopped(Reason::Preconditioner));
                continue;
            };
            let (old_beta, mut beta) = (state.beta, square.sqrt());
            let own = alpha[k] * alpha[k] + square;
            state.size = state.size.max(own + state.old_beta * state.old_beta);
            let size = state.size.sqrt();
            if beta <= unit * size {
                beta = 0.0; // rounding
            }
            let (c, s) = state.rotation;
            let older = state.epsilon;
            let newer = c * state.delta_bar + s * alpha[k];
            let gamma_bar = s * state.delta_bar - c * alpha[k];
            (state.epsilon, state.delta_bar) = (s * beta, -c * beta);
            let reachable = gamma_bar.hypot(state.delta_bar);
            let gamma = gamma_bar.hypot(beta);
            state.reachable = state.reachable.min(reachable / size);
            let stale = state.since.1 >= WINDOW && state.reachable <= unit.sqrt();
            let stale = stale && before[k] >= (1.0 - PROGRESS) * state.since.0;
            if gamma <= unit * size || reachable <= NOTHING * unit * size || stale {
                moved.push(Moved::Stopped(Reason::Singular));
                continue;
            }
            state.since.1 += 1;
            if state.since.1 > WINDOW {
                (state.since, state.reachable) = ((before[k], 1), f64::INFINITY);
            }
            let [low, high] = state.diagonal.unwrap_or([gamma, gamma]);
            state.diagonal = Some([low.min(gamma), high.max(gamma)]);
            state.rotation = (gamma_bar / gamma, beta / gamma);
            let step = state.rotation.0 * state.phi_bar;
            state.phi_bar *= state.rotation.1;
            (state.old_beta, state.beta) = (old_beta, beta);
            directions[k] = Some(Direction { older, newer, scale: 1.0 / gamma, step });
            moved.push(Moved::To(0.0));
        }
        let ([w1, w2], [aw1, aw2], r) = (&mut self.w, &mut self.aw, &mut self.r);
        layout.each(|s, k| {
            if let Some(d) = directions[s] {
                w1[k] = (v[k] - d.older * w1[k] - d.newer * w2[k]) * d.scale;
                aw1[k] = (product[k] - d.older * aw1[k] - d.newer * aw2[k]) * d.scale;
                x[k] += d.step * w1[k];
                r[k] -= d.step * aw1[k];
            }
        });
        std::mem::swap(w1, w2);
        std::mem::swap(aw1, aw2);
        for (moved, norm) in moved.iter_mut().zip(layout.norms(r)?) {
            if let Moved::To(own) = moved {
                *own = norm;
            }
        }
        Ok(moved)
    }

    fn suspicious(&self) -> bool {
        self.suspicious
    }
    fn eigenvalues(&self, system: usize) -> Option<[f64; 2]> {
        self.states[system].diagonal
    }
}

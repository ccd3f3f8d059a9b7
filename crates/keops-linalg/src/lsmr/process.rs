//! The Golub-Kahan process and the rotations of LSMR, for all systems at once.

use super::{Lsmr, LsmrInfo, LsmrReason, LsmrSystem};
use crate::algebra::Adjoint;
use crate::entries::AdjointOperator;
use crate::krylov::epsilon;
use crate::layout::{Layout, SYSTEMS, VECTOR, copy, exponent, scaled};
use crate::operator::LinearOperator;
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::memory;
use ndarray::Array3;

/// Recomputed residuals may be above what the iteration has by this factor, and by so many units of
/// rounding of products.
const SLACK: f64 = 2.0;
const ROUNDING: f64 = 100.0;

/// Scalars of a system, named as in SciPy's implementation. Right-hand sides and operator are scaled
/// by powers of two.
#[derive(Clone, Copy)]
pub(super) struct State {
    pub ended: Option<LsmrReason>,
    iterations: usize,
    /// Norm of b, its exponent, and that of the operator.
    pub b: f64,
    exponents: [i32; 2],
    damping: f64,
    alpha: f64,
    beta: f64,
    alpha_bar: f64,
    zeta: f64,
    zeta_bar: f64,
    rho: f64,
    rho_bar: f64,
    rotation_bar: (f64, f64),
    // The estimate of ‖r‖.
    beta_dd: f64,
    beta_d: f64,
    rho_d: f64,
    tau_tilde: f64,
    theta_tilde: f64,
    d: f64,
    pub residual: f64,
    // The estimates of ‖A‖² and of the condition number.
    square: f64,
    extremes: [f64; 2],
    condition: f64,
}

/// How the vectors of a system move.
#[derive(Clone, Copy, Default)]
struct Move {
    h_bar: f64,
    x: f64,
    h: f64,
}

/// The rotation that makes (a, b) a multiple of the first unit vector: its cosine, its sine, and the
/// length.
fn rotation(a: f64, b: f64) -> (f64, f64, f64) {
    let r = a.hypot(b);
    if r > 0.0 { (a / r, b / r, r) } else { (1.0, 0.0, 0.0) }
}

/// The Golub-Kahan process, and the iterates.
pub(super) struct Process<'o> {
    operator: &'o dyn AdjointOperator,
    /// Of the range and of the domain.
    range: Layout,
    domain: Layout,
    pub states: Vec<State>,
    b: Vec<f64>,
    u: Vec<f64>,
    v: Vec<f64>,
    h: Vec<f64>,
    h_bar: Vec<f64>,
    x: Vec<f64>,
    pub products: usize,
}

impl<'o> Process<'o> {
    pub fn new(
        how: &Lsmr<'o>,
        mut b: Vec<f64>,
        batches: usize,
    ) -> Result<Process<'o>, OutOfMemory> {
        let operator = how.operator;
        let independent = operator.columns_independent();
        let layout = |[rows, dim]: [usize; 2]| Layout { batches, rows, dim, independent };
        let (range, domain) = (layout(operator.range()), layout(operator.domain()));
        let sizes = range.largest(&b)?;
        range.each(|s, k| {
            let finite = sizes[s].is_finite();
            b[k] = if finite { scaled(b[k], -exponent(sizes[s])) } else { 0.0 };
        });
        let norms = range.norms(&b)?;
        let state = |s: usize| State {
            ended: match sizes[s] {
                size if !size.is_finite() => Some(LsmrReason::NotFinite),
                0.0 => Some(LsmrReason::Compatible),
                _ => None,
            },
            iterations: 0,
            b: norms[s],
            exponents: [exponent(sizes[s]), 0],
            damping: how.damping,
            alpha: 0.0,
            beta: norms[s],
            alpha_bar: 0.0,
            zeta: 0.0,
            zeta_bar: 0.0,
            rho: 1.0,
            rho_bar: 1.0,
            rotation_bar: (1.0, 0.0),
            beta_dd: norms[s],
            beta_d: 0.0,
            rho_d: 1.0,
            tau_tilde: 0.0,
            theta_tilde: 0.0,
            d: 0.0,
            residual: norms[s],
            square: 0.0,
            extremes: [f64::INFINITY, 0.0],
            condition: 1.0,
        };
        let states = memory::collected((0..range.systems()).map(state), SYSTEMS)?;
        let zeros = || memory::filled(batches * domain.rows * domain.dim, 0.0, VECTOR);
        let (v, h, h_bar, x) = (zeros()?, zeros()?, zeros()?, zeros()?);
        let u = copy(&b)?;
        Ok(Process { operator, range, domain, states, b, u, v, h, h_bar, x, products: 0 })
    }
    pub fn end(&mut self, reason: LsmrReason) {
        for s in &mut self.states {
            s.ended = s.ended.or(Some(reason));
        }
    }

    /// The product of the operator or its adjoint, over the powers of two.
    fn product(&mut self, v: &[f64], adjoint: bool) -> Result<Vec<f64>, Error> {
        let transposed = Adjoint::of(self.operator);
        let operator: &dyn LinearOperator = if adjoint { &transposed } else { self.operator };
        let (from, to) =
            if adjoint { (self.range, self.domain) } else { (self.domain, self.range) };
        let block = Array3::from_shape_vec(from.shape(), copy(v)?);
        let Ok(block) = block else { unreachable!("block vectors have the size of the layout") };
        self.products += 1;
        let product = operator.apply(&block)?;
        if product.dim() != to.shape() {
            let (name, got) = ("product of the operator".into(), product.shape().to_vec());
            let expected = format!("shape {:?}", to.shape());
            return Err(InputError::Shape { name, expected, got }.into());
        }
        let mut out = memory::collected(product.iter().copied(), VECTOR)?;
        to.each(|s, k| out[k] = scaled(out[k], -self.states[s].exponents[1]));
        Ok(out)
    }

    /// The first vectors, and the scale of the operator.
    pub fn start(&mut self) -> Result<(), Error> {
        let (range, domain) = (self.range, self.domain);
        let states = &self.states;
        range.each(|s, k| {
            if states[s].beta > 0.0 {
                self.u[k] /= states[s].beta;
            }
        });
        let u = copy(&self.u)?;
        let mut v = self.product(&u, true)?;
        let sizes = range.largest(&u)?.into_iter().zip(domain.largest(&v)?);
        for (s, (argument, made)) in self.states.iter_mut().zip(sizes) {
            if s.ended.is_none() && !made.is_finite() {
                s.ended = Some(LsmrReason::NotFinite);
            }
            let size = (made / argument).max(s.damping);
            s.exponents[1] = if argument > 0.0 { exponent(size) } else { 0 };
            s.damping = scaled(s.damping, -s.exponents[1]);
        }
        let states = &self.states;
        domain.each(|s, k| {
            let taken = states[s].ended.is_none();
            v[k] = if taken { scaled(v[k], -states[s].exponents[1]) } else { 0.0 };
        });
        for (s, alpha) in self.states.iter_mut().zip(domain.norms(&v)?) {
            (s.alpha, s.alpha_bar, s.zeta_bar) = (alpha, alpha, alpha * s.beta);
            s.square = alpha * alpha;
            if s.ended.is_none() && alpha == 0.0 {
                s.ended = Some(LsmrReason::LeastSquares); // of nothing that the operator reaches
            }
        }
        let states = &self.states;
        domain.each(|s, k| {
            if states[s].alpha > 0.0 {
                v[k] /= states[s].alpha;
            }
        });
        self.h.copy_from_slice(&v);
        self.v = v;
        Ok(())
    }

    pub fn step(&mut self, how: &Lsmr<'_>, iteration: usize) -> Result<(), Error> {
        let (range, domain, unit) = (self.range, self.domain, epsilon(self.operator));
        let v = copy(&self.v)?;
        let product = self.product(&v, false)?;
        let states = &self.states;
        let mut u = std::mem::take(&mut self.u);
        range.each(|s, k| u[k] = product[k] - states[s].alpha * u[k]);
        let betas = range.norms(&u)?;
        range.each(|s, k| {
            // (What has ended waits; its vectors are zeros.)
            let taken = self.states[s].ended.is_none() && betas[s].is_finite() && betas[s] > 0.0;
            u[k] = if taken { u[k] / betas[s] } else { 0.0 };
        });
        let product = self.product(&u, true)?;
        self.u = u;
        let mut v = std::mem::take(&mut self.v);
        domain.each(|s, k| {
            if betas[s] > 0.0 {
                v[k] = product[k] - betas[s] * v[k];
            }
        });
        let alphas = domain.norms(&v)?;
        let mut moves = domain.each_system(Move::default())?;
        let mut active = domain.each_system(false)?;
        for (k, s) in self.states.iter_mut().enumerate().filter(|(_, s)| s.ended.is_none()) {
            let alpha = if betas[k] > 0.0 { alphas[k] } else { s.alpha };
            if !(alpha.is_finite() && betas[k].is_finite()) {
                s.ended = Some(LsmrReason::NotFinite);
                continue;
            }
            (moves[k], active[k], s.iterations) = (s.advance(alpha, betas[k]), true, iteration);
        }
        domain.each(|s, k| {
            let alpha = self.states[s].alpha;
            if !active[s] {
                v[k] = 0.0;
                return;
            }
            if betas[s] > 0.0 && alpha > 0.0 {
                v[k] /= alpha;
            }
            let Move { h_bar, x, h } = moves[s];
            self.h_bar[k] = self.h[k] - h_bar * self.h_bar[k];
            self.x[k] += x * self.h_bar[k];
            self.h[k] = v[k] - h * self.h[k];
        });
        self.v = v;
        let sizes = domain.norms(&self.x)?;
        for (k, s) in self.states.iter_mut().enumerate().filter(|(k, _)| active[*k]) {
            s.ended = s.stops(how, sizes[k], unit);
        }
        Ok(())
    }

    /// Solutions, and what is true of them.
    pub fn finish(mut self, how: &Lsmr<'_>) -> Result<(Vec<f64>, LsmrInfo), Error> {
        let (range, domain, unit) = (self.range, self.domain, epsilon(self.operator));
        let x = copy(&self.x)?;
        let mut r = self.product(&x, false)?;
        r.iter_mut().zip(&self.b).for_each(|(r, b)| *r = b - *r);
        let mut gradient = self.product(&r, true)?;
        domain.each(|s, k| gradient[k] -= self.states[s].damping.powi(2) * x[k]);
        let (residuals, gradients) = (range.norms(&r)?, domain.norms(&gradient)?);
        let sizes = domain.norms(&x)?;
        let mut systems = memory::room(self.states.len(), SYSTEMS)?;
        for (k, s) in self.states.iter().enumerate() {
            let (norm, size) = (s.square.sqrt(), sizes[k]);
            let above = residuals[k].hypot(s.damping * size);
            let noise = ROUNDING * unit * (norm * size + s.b);
            // What the rules say, of true residuals.
            let small = above <= SLACK * (how.residual * s.b + how.gradient * norm * size) + noise;
            let flat = gradients[k] <= SLACK * how.gradient * norm * above + norm * noise;
            let [b, a] = s.exponents;
            let finite = scaled(size, b - a).is_finite() && residuals[k].is_finite();
            let reason = match s.ended.unwrap_or(LsmrReason::IterationLimit) {
                LsmrReason::Compatible | LsmrReason::LeastSquares if !finite => {
                    LsmrReason::NotFinite
                }
                LsmrReason::Compatible if !small => LsmrReason::Inaccurate,
                LsmrReason::LeastSquares if !flat => LsmrReason::Inaccurate,
                reason => reason,
            };
            systems.push(LsmrSystem {
                system: range.id(k),
                iterations: s.iterations,
                residual: scaled(residuals[k], b),
                gradient: scaled(gradients[k], a + b),
                norm: scaled(norm, a),
                condition: s.condition,
                reason,
            });
        }
        let mut x = x;
        domain.each(|s, k| {
            let [b, a] = self.states[s].exponents;
            x[k] = scaled(x[k], b - a);
        });
        let iterations = systems.iter().map(|s| s.iterations).max().unwrap_or(0);
        Ok((x, LsmrInfo { iterations, products: self.products, systems }))
    }
}

impl State {
    /// The next column of the bidiagonal matrix.
    fn advance(&mut self, alpha: f64, beta: f64) -> Move {
        (self.alpha, self.beta) = (alpha, beta);
        // Damping is a row of its own, which a rotation takes in.
        let (c_hat, s_hat, alpha_hat) = rotation(self.alpha_bar, self.damping);
        let old_rho = self.rho;
        let (c, s, rho) = rotation(alpha_hat, beta);
        self.rho = rho;
        let theta_new = s * alpha;
        self.alpha_bar = c * alpha;
        let (c_bar, s_bar) = self.rotation_bar;
        let (old_rho_bar, old_zeta) = (self.rho_bar, self.zeta);
        let (theta_bar, rho_temp) = (s_bar * rho, c_bar * rho);
        let (c_bar, s_bar, rho_bar) = rotation(rho_temp, theta_new);
        (self.rotation_bar, self.rho_bar) = ((c_bar, s_bar), rho_bar);
        self.zeta = c_bar * self.zeta_bar;
        self.zeta_bar *= -s_bar;
        let over = |a: f64, b: f64| if b == 0.0 { 0.0 } else { a / b };
        let moved = Move {
            h_bar: over(theta_bar * rho, old_rho * old_rho_bar),
            x: over(self.zeta, rho * rho_bar),
            h: over(theta_new, rho),
        };
        // ‖r‖.
        let (acute, check) = (c_hat * self.beta_dd, -s_hat * self.beta_dd);
        let beta_hat = c * acute;
        self.beta_dd = -s * acute;
        let old_theta_tilde = self.theta_tilde;
        let (c_tilde, s_tilde, rho_tilde) = rotation(self.rho_d, theta_bar);
        self.theta_tilde = s_tilde * rho_bar;
        self.rho_d = c_tilde * rho_bar;
        self.beta_d = c_tilde * beta_hat - s_tilde * self.beta_d;
        self.tau_tilde = over(old_zeta - old_theta_tilde * self.tau_tilde, rho_tilde);
        let tau_d = over(self.zeta - self.theta_tilde * self.tau_tilde, self.rho_d);
        self.d += check * check;
        self.residual = (self.d + (self.beta_d - tau_d).powi(2) + self.beta_dd.powi(2)).sqrt();
        // ‖A‖ and the condition number. (The damping is part of the matrix from its first row on.)
        self.square += beta * beta;
        let [low, high] = self.extremes;
        if self.iterations > 0 {
            self.extremes = [low.min(old_rho_bar), high.max(old_rho_bar)];
        }
        let [low, high] = self.extremes;
        self.condition = high.max(rho_temp) / low.min(rho_temp);
        moved
    }

    /// The rules of SciPy, the last of which decides.
    fn stops(&mut self, how: &Lsmr<'_>, size: f64, unit: f64) -> Option<LsmrReason> {
        let norm = self.square.sqrt();
        let (residual, gradient) = (self.residual / self.b, self.zeta_bar.abs());
        let (reach, relative) = (norm * size / self.b, gradient / (norm * self.residual));
        let singular = self.condition >= how.condition.min(2.0 / unit);
        // (Below half a unit of rounding nothing changes any more.)
        let (gradient, own) = (how.gradient.max(0.5 * unit), how.residual.max(0.5 * unit));
        let own = own + gradient * reach;
        self.square += self.alpha * self.alpha;
        match () {
            _ if residual <= own => Some(LsmrReason::Compatible),
            _ if relative <= gradient || self.zeta_bar == 0.0 => Some(LsmrReason::LeastSquares),
            _ if singular => Some(LsmrReason::Condition),
            _ => None,
        }
    }
}

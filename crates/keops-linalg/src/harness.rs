//! What all iterative solvers share: systems that end on their own, scaling, residuals that are
//! recomputed, restarts, and the report. What one iteration does is a [`Recurrence`].
//!
//! The systems share each product with the operator, but nothing else: step lengths, convergence
//! and failures are their own. Vectors and dot products are f64 whatever the type of the operator.
//!
//! The residual that a recurrence carries drifts from the true one by rounding (A. Greenbaum,
//! Estimating the attainable accuracy of recursively computed residual methods, SIAM J. Matrix
//! Anal. 18, 1997). It says which iterate to look at, and what is said of an iterate is decided by
//! a recomputed residual. Each system keeps the iterate of smallest recomputed residual, which is
//! what comes out, however the iteration ends. Zero is the first of them.
//!
//! Where the true residual is above that of the recurrence by more than a factor, the iteration
//! restarts from it. A system whose residual does not halve from restart to restart stagnates.

use crate::control::{Control, Progress};
use crate::error::{Partial, SolveError};
use crate::info::{Reason, SolveInfo, SolveOptions, SystemInfo};
use crate::layout::{Layout, SYSTEMS, VECTOR, copy, exponent, scaled};
use crate::operator::LinearOperator;
use crate::space::Space;
use keops_core::data::{DType, Element};
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::memory;
use keops_core::random::Random;
use ndarray::Array3;

/// The recurrence claims convergence a little below the tolerance: the residual that decides is
/// then rarely above it, and one restart costs more iterations than the margin.
const MARGIN: f64 = 0.9;
/// Residuals of this many units of rounding are looked at, whatever the tolerance: below, they are
/// of the recurrence alone.
const FINEST: f64 = 0.01;
/// Most iterations between looks at whether rounding limits a system.
const WINDOW: usize = 50;
/// Rounding may limit a residual of this many units of rounding of `‖K‖ ‖a‖ + ‖b‖`.
const SUSPECT: f64 = 100.0;
/// True residuals of more than this many times those of the recurrence are due to rounding.
const DRIFT: f64 = 2.0;

/// What an iteration did to a system.
pub(crate) enum Moved {
    /// Nothing: it is not active.
    Not,
    /// Its iterate has moved; the norm of its residual, by the recurrence.
    To(f64),
    /// Nothing, and it cannot go on.
    Stopped(Reason),
}

/// What one iteration of a method does to all systems that are active.
pub(crate) trait Recurrence {
    /// The systems marked start from iterates with these residuals.
    fn restart(
        &mut self,
        space: &mut Space<'_>,
        residuals: &[f64],
        marked: &[bool],
    ) -> Result<(), Error>;
    /// Moves the iterates `x` of the systems that are active.
    fn step(
        &mut self,
        space: &mut Space<'_>,
        active: &[bool],
        x: &mut [f64],
    ) -> Result<Vec<Moved>, Error>;
    /// Do the vectors of the last step contradict the symmetry of the operator?
    fn suspicious(&self) -> bool;
    /// Extreme Ritz values of a system.
    fn eigenvalues(&self, system: usize) -> Option<[f64; 2]>;
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Active,
    /// Its lowest iterate is to be verified: the recurrence is below the tolerance, or cannot go
    /// on. If the residual is too large, the iteration restarts, or ends for the reason given.
    Claimed(Option<Reason>),
    Ended(Reason),
}

/// State of one system. Right-hand sides, and the operator ([`Space`]), are scaled by powers of
/// two, which is exact, so that neither squares nor the range of f32 matter.
struct System {
    phase: Phase,
    exponent: i32,
    /// Norm of the scaled right-hand side.
    norm: f64,
    iterations: usize,
    /// Smallest residual of the recurrence since the start, that of the iterate in `low`.
    low: f64,
    /// Is `low` a better iterate than when it was verified?
    fresh: bool,
    /// Recomputed residual, relative, of the iterate in `best`.
    residual: f64,
    /// The same at the last restart.
    before: f64,
    /// Iteration of the last restart, and most iterations until the residual must have halved.
    started: usize,
    patience: usize,
}

pub(crate) struct Harness<'r, R> {
    options: SolveOptions,
    control: Control<'r>,
    /// Type of the solution returned.
    output: DType,
    recurrence: R,
    space: Space<'r>,
    limit: usize,
    systems: Vec<System>,
    b: Vec<f64>,
    x: Vec<f64>,
    /// Iterates of smallest residual by the recurrence, and of smallest recomputed residual.
    low: Vec<f64>,
    best: Vec<f64>,
}

/// Checks what all solvers need.
pub(crate) fn check(
    operator: &dyn LinearOperator,
    b: &Array3<f64>,
    guess: Option<&Array3<f64>>,
    options: &SolveOptions,
) -> Result<(), SolveError> {
    let (domain, range) = (operator.domain(), operator.range());
    if domain != range {
        let ([rows, row_dim], [columns, column_dim]) = (range, domain);
        return Err(SolveError::NotSquare { rows, row_dim, columns, column_dim });
    }
    let shape = |name: &str, got: &[usize], expected: String| InputError::Shape {
        name: name.into(),
        expected,
        got: got.to_vec(),
    };
    if b.shape()[1..] != domain {
        let expected = format!("(batches, {}, {})", domain[0], domain[1]);
        return Err(shape("right-hand side", b.shape(), expected).into());
    }
    if let Some(g) = guess.filter(|g| g.shape() != b.shape()) {
        let expected = format!("{:?} as the right-hand side", b.shape());
        return Err(shape("first guess", g.shape(), expected).into());
    }
    let option = |what: &str, got: f64| InputError::Option(format!("{what}, got {got}"));
    if !(options.ridge.is_finite() && options.ridge >= 0.0) {
        return Err(option("the ridge must be finite and at least 0", options.ridge).into());
    }
    if !(options.tolerance > 0.0 && options.tolerance < 1.0) {
        return Err(option("the tolerance must be between 0 and 1", options.tolerance).into());
    }
    Ok(())
}

impl<'r, R: Recurrence> Harness<'r, R> {
    /// For what [`check`] found right; `recurrence` makes a recurrence for block vectors.
    pub fn new(
        operator: &'r dyn LinearOperator,
        b: &Array3<f64>,
        options: SolveOptions,
        control: Control<'r>,
        output: DType,
        recurrence: impl FnOnce(Layout) -> Result<R, OutOfMemory>,
    ) -> Result<Harness<'r, R>, Error> {
        let (batches, rows, dim) = b.dim();
        let layout = Layout { batches, rows, dim, independent: operator.columns_independent() };
        let mut b = memory::collected(b.iter().copied(), VECTOR)?;
        let sizes = layout.largest(&b)?;
        let exponents = memory::collected(sizes.iter().map(|&size| exponent(size)), SYSTEMS)?;
        // Systems that are not finite or zero take no part: their elements are zeros.
        layout.each(|s, k| {
            b[k] = if sizes[s].is_finite() { scaled(b[k], -exponents[s]) } else { 0.0 };
        });
        let norms = layout.norms(&b)?;
        let system = |s: usize| {
            let (phase, residual) = match (sizes[s].is_finite(), sizes[s] > 0.0) {
                (false, _) => (Phase::Ended(Reason::NotFinite), f64::NAN),
                (true, false) => (Phase::Ended(Reason::Converged), 0.0),
                (true, true) => (Phase::Active, 1.0),
            };
            System {
                phase,
                exponent: exponents[s],
                norm: norms[s],
                iterations: 0,
                low: norms[s],
                fresh: false,
                residual,
                before: f64::INFINITY,
                started: 0,
                patience: usize::MAX,
            }
        };
        let unknowns = rows.saturating_mul(if layout.independent { 1 } else { dim });
        let zeros = || memory::filled(b.len(), 0.0, VECTOR);
        Ok(Harness {
            options,
            space: Space::new(operator, options.ridge, control.preconditioner, layout)?,
            control,
            output,
            recurrence: recurrence(layout)?,
            limit: options.max_iterations.unwrap_or(unknowns.saturating_mul(10)),
            systems: memory::collected((0..layout.systems()).map(system), SYSTEMS)?,
            x: zeros()?,
            low: zeros()?,
            best: zeros()?,
            b,
        })
    }

    fn layout(&self) -> Layout {
        self.space.layout
    }
    fn any(&self, phase: impl Fn(Phase) -> bool) -> bool {
        self.systems.iter().any(|s| phase(s.phase))
    }
    fn marked(&self, phase: impl Fn(&System) -> bool) -> Result<Vec<bool>, OutOfMemory> {
        memory::collected(self.systems.iter().map(phase), SYSTEMS)
    }

    /// Systems start from a guess where its residual is below that of zero; the residuals.
    fn start(&mut self, guess: Option<&Array3<f64>>) -> Result<Vec<f64>, Error> {
        let mut r = copy(&self.b)?;
        let Some(guess) = guess.filter(|_| self.any(|p| p == Phase::Active)) else {
            return Ok(r);
        };
        let layout = self.layout();
        let mut v = memory::collected(guess.iter().copied(), VECTOR)?;
        let sizes = layout.largest(&v)?;
        for (s, size) in self.systems.iter_mut().zip(&sizes) {
            if s.phase == Phase::Active && !size.is_finite() {
                (s.phase, s.residual) = (Phase::Ended(Reason::NotFinite), f64::NAN);
            }
        }
        let exponents = memory::collected(sizes.iter().map(|&size| exponent(size)), SYSTEMS)?;
        layout.each(|s, k| {
            let used = self.systems[s].phase == Phase::Active;
            v[k] = if used { self.space.rounded(scaled(v[k], -exponents[s])) } else { 0.0 };
        });
        let mut q = self.space.product(&mut v)?;
        // Of `a`, the guess, `v` is `a 2^-g`; scaled systems have the unknown `a 2^(e - b)`.
        layout.each(|s, k| {
            let e = exponents[s] + self.space.exponent(s) - self.systems[s].exponent;
            v[k] = scaled(v[k], e);
            q[k] = self.b[k] - scaled(q[k], e);
        });
        let norms = layout.norms(&q)?;
        let mut used = layout.each_system(false)?;
        for (k, s) in self.systems.iter_mut().enumerate() {
            let residual = norms[k] / s.norm;
            if s.phase == Phase::Active && residual < s.residual {
                used[k] = true;
                (s.residual, s.low) = (residual, norms[k]);
                if residual <= self.options.tolerance {
                    s.phase = Phase::Ended(Reason::Converged);
                }
            }
        }
        for to in [&mut self.x, &mut self.low, &mut self.best] {
            layout.copy(&v, to, &used);
        }
        layout.copy(&q, &mut r, &used);
        Ok(r)
    }

    pub fn solve(
        mut self,
        guess: Option<&Array3<f64>>,
    ) -> Result<(Array3<f64>, SolveInfo), SolveError> {
        let r = self.start(guess)?;
        let active = self.marked(|s| s.phase == Phase::Active)?;
        if active.contains(&true) {
            self.recurrence.restart(&mut self.space, &r, &active)?;
        }
        drop(r);
        let mut next = WINDOW / 10;
        for iteration in 0.. {
            if iteration == next {
                self.verify(iteration, true)?;
                next += (iteration / 4).clamp(1, WINDOW);
            }
            while !self.any(|p| p == Phase::Active) && self.any(|p| matches!(p, Phase::Claimed(_)))
            {
                self.verify(iteration, false)?;
            }
            if !self.any(|p| p == Phase::Active) {
                break;
            }
            if iteration == self.limit {
                // The limit is for all: what only claims to have converged is judged as it is. (One
                // that could not go on may be allowed to restart: then the limit is what ends it.)
                while self.any(|p| !matches!(p, Phase::Ended(_))) {
                    for s in &mut self.systems {
                        if matches!(s.phase, Phase::Active | Phase::Claimed(None)) {
                            s.phase = Phase::Claimed(Some(Reason::IterationLimit));
                        }
                    }
                    self.verify(iteration, false)?;
                }
                break;
            }
            self.step(iteration + 1)?;
            if self.cancelled(iteration + 1)? {
                for s in &mut self.systems {
                    use Phase::{Active, Claimed};
                    if matches!(s.phase, Active | Claimed(None | Some(Reason::Singular))) {
                        s.phase = Claimed(Some(Reason::Cancelled));
                    }
                }
            }
        }
        self.finish()
    }

    /// Tells the observer; does it want to end?
    fn cancelled(&mut self, iteration: usize) -> Result<bool, OutOfMemory> {
        if self.control.observer.is_none() {
            return Ok(false);
        }
        let residual = |s: &System| {
            if s.norm > 0.0 { (s.low / s.norm).min(s.residual) } else { s.residual }
        };
        let residuals = memory::collected(self.systems.iter().map(residual), SYSTEMS)?;
        let products = self.space.products;
        Ok(self.control.ends(&Progress { iteration, products, residuals: &residuals }))
    }

    fn step(&mut self, iteration: usize) -> Result<(), Error> {
        let layout = self.layout();
        let active = self.marked(|s| s.phase == Phase::Active)?;
        let moved = self.recurrence.step(&mut self.space, &active, &mut self.x)?;
        if self.options.check_symmetry && self.recurrence.suspicious() {
            self.end_asymmetric(|phase| phase == Phase::Active)?;
        }
        let finest = FINEST * self.space.epsilon();
        let mut lower = layout.each_system(false)?;
        for ((s, moved), lower) in self.systems.iter_mut().zip(moved).zip(&mut lower) {
            if s.phase != Phase::Active {
                continue;
            }
            match moved {
                Moved::Not => {}
                // (Before any iterate but zero, nothing is known of the operator but this.)
                Moved::Stopped(Reason::NotFinite) if s.iterations == 0 => {
                    (s.phase, s.residual) = (Phase::Ended(Reason::NotFinite), f64::NAN);
                }
                Moved::Stopped(reason) => s.phase = Phase::Claimed(Some(reason)),
                Moved::To(norm) => {
                    s.iterations = iteration;
                    if !norm.is_finite() {
                        s.phase = Phase::Claimed(Some(Reason::NotFinite));
                        continue;
                    }
                    if norm < s.low {
                        (s.low, s.fresh, *lower) = (norm, true, true);
                    }
                    if norm <= s.norm * (MARGIN * self.options.tolerance).max(finest) {
                        s.phase = Phase::Claimed(None);
                    }
                }
            }
        }
        layout.copy(&self.x, &mut self.low, &lower);
        Ok(())
    }

    /// Recomputes the residuals of systems that claim something; of a look, also of those that
    /// rounding may limit, and of those that have had their time.
    fn verify(&mut self, iteration: usize, look: bool) -> Result<(), Error> {
        let (layout, epsilon) = (self.layout(), self.space.epsilon());
        let sizes = layout.norms(&self.low)?;
        let floor = |k: usize, s: &System| epsilon * (self.space.largest[k] * sizes[k] + s.norm);
        let mut looked = layout.each_system(false)?;
        for (k, s) in self.systems.iter().enumerate() {
            looked[k] = match s.phase {
                Phase::Active if look => {
                    s.low <= SUSPECT * floor(k, s) || iteration - s.started >= s.patience
                }
                Phase::Active | Phase::Ended(_) => false,
                Phase::Claimed(_) => true,
            };
        }
        if !looked.contains(&true) {
            return Ok(());
        }
        let mut r = vec![];
        if (0..looked.len()).any(|k| looked[k] && self.systems[k].fresh) {
            let mut low = std::mem::take(&mut self.low);
            layout.each(|s, k| {
                if looked[s] {
                    low[k] = self.space.rounded(low[k]);
                }
            });
            let product = self.space.product(&mut low);
            self.low = low;
            r = product?;
            r.iter_mut().zip(&self.b).for_each(|(q, b)| *q = b - *q);
        }
        let norms = if r.is_empty() { layout.each_system(0.0)? } else { layout.norms(&r)? };
        let (mut restart, mut better) = (layout.each_system(false)?, layout.each_system(false)?);
        for (k, s) in self.systems.iter_mut().enumerate().filter(|(k, _)| looked[*k]) {
            // What is not fresh was verified before, and did not do.
            let fresh = std::mem::replace(&mut s.fresh, false);
            let residual = if fresh { norms[k] / s.norm } else { f64::INFINITY };
            if residual < s.residual {
                (s.residual, better[k]) = (residual, true);
            }
            let explained = s.residual * s.norm
                <= SUSPECT * epsilon * (self.space.largest[k] * sizes[k] + s.norm);
            let halved = residual <= 0.5 * s.before;
            s.phase = match s.phase {
                _ if residual <= self.options.tolerance => Phase::Ended(Reason::Converged),
                _ if fresh && !residual.is_finite() => Phase::Ended(Reason::NotFinite),
                Phase::Claimed(Some(reason @ Reason::Singular)) => match fresh && halved {
                    true => Phase::Claimed(None),
                    // Of a singular operator with a solution, rounding is what limits.
                    false if explained => Phase::Ended(Reason::Stagnated),
                    false => Phase::Ended(reason),
                },
                Phase::Claimed(Some(reason)) => Phase::Ended(reason),
                Phase::Claimed(None) if halved => Phase::Claimed(None),
                Phase::Claimed(None) => Phase::Ended(Reason::Stagnated),
                Phase::Active if fresh && residual * s.norm > DRIFT * s.low => match halved {
                    true => Phase::Claimed(None),
                    false => Phase::Ended(Reason::Stagnated),
                },
                Phase::Active
                    if iteration - s.started >= s.patience && s.residual > 0.5 * s.before =>
                {
                    Phase::Ended(Reason::Stagnated)
                }
                phase => phase,
            };
            if s.phase == Phase::Claimed(None) {
                (restart[k], s.phase) = (true, Phase::Active);
                (s.before, s.low) = (residual, norms[k]);
                s.patience = (iteration - s.started).max(WINDOW);
                s.started = iteration;
            }
        }
        layout.copy(&self.low, &mut self.best, &better);
        if restart.contains(&true) {
            layout.copy(&self.low, &mut self.x, &restart);
            self.recurrence.restart(&mut self.space, &r, &restart)?;
        }
        Ok(())
    }

    /// Compares `<u, Kv>` with `<Ku, v>` for random u, v; systems that differ by more than
    /// rounding end, if their phase is among those meant.
    fn end_asymmetric(&mut self, meant: impl Fn(Phase) -> bool) -> Result<(), Error> {
        let layout = self.layout();
        let mut random = Random::new(0);
        let mut draw = || {
            let all = (0..self.b.len()).map(|_| self.space.rounded(0.5 + random.unit()));
            memory::collected(all, VECTOR)
        };
        let (mut u, mut v) = (draw()?, draw()?);
        let (ku, kv) = (self.space.product(&mut u)?, self.space.product(&mut v)?);
        let (left, right) = (layout.dots(&u, &kv)?, layout.dots(&ku, &v)?);
        let (u, v, ku, kv) =
            (layout.norms(&u)?, layout.norms(&v)?, layout.norms(&ku)?, layout.norms(&kv)?);
        // Between the rounding of long sums and any asymmetry that would disturb the iteration.
        let bound = self.space.epsilon().powf(2.0 / 3.0);
        for (k, s) in self.systems.iter_mut().enumerate() {
            let asymmetry = (left[k] - right[k]).abs() / (u[k] * kv[k] + ku[k] * v[k]);
            if meant(s.phase) && asymmetry > bound {
                let reason = Reason::NotSymmetric { asymmetry };
                s.phase = match s.phase {
                    Phase::Active => Phase::Claimed(Some(reason)),
                    _ => Phase::Ended(reason),
                };
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Array3<f64>, SolveInfo), SolveError> {
        let layout = self.layout();
        let suspect = |p: Phase| {
            use Reason::{Indefinite, Singular, Stagnated};
            matches!(p, Phase::Ended(Indefinite { .. } | Stagnated | Singular))
        };
        if self.options.check_symmetry && self.any(suspect) {
            self.end_asymmetric(suspect)?;
        }
        // Back to the size of the right-hand side, where the type of the solution may be too narrow.
        let sizes = layout.largest(&self.best)?;
        let mut exponents = layout.each_system(Some(0))?;
        for (k, s) in self.systems.iter_mut().enumerate() {
            let e = s.exponent - self.space.exponent(k);
            exponents[k] = Some(e);
            let back = scaled(rounded(scaled(sizes[k], e), self.output), -e);
            // (Rounding to bf16 changes less.)
            let off = (back - sizes[k]).abs();
            if off.is_nan() || off > 0.01 * sizes[k] {
                (exponents[k], s.residual) = (None, 1.0);
                s.phase = Phase::Ended(Reason::OutOfRange { dtype: self.output.name() });
            }
        }
        let mut x = self.best;
        layout.each(|s, k| x[k] = exponents[s].map_or(0.0, |e| scaled(x[k], e)));
        let report = |(k, s): (usize, &System)| SystemInfo {
            system: layout.id(k),
            iterations: s.iterations,
            residual: s.residual,
            eigenvalues: self
                .recurrence
                .eigenvalues(k)
                .map(|pair| pair.map(|v| scaled(v, self.space.eigenvalue_exponent(k)))),
            reason: match s.phase {
                Phase::Ended(reason) => reason,
                _ => unreachable!("all systems have ended"),
            },
        };
        let systems = memory::collected(self.systems.iter().enumerate().map(report), SYSTEMS);
        let systems = systems.map_err(Error::from)?;
        let iterations = systems.iter().map(|s| s.iterations).max().unwrap_or(0);
        let info = SolveInfo { iterations, products: self.space.products, systems };
        let x = match Array3::from_shape_vec(layout.shape(), x) {
            Ok(x) => x,
            Err(_) => unreachable!("block vectors have the size of the right-hand side"),
        };
        let failed = info.systems.iter().filter(|s| s.reason != Reason::Converged);
        match failed.min_by_key(|s| s.reason.gravity()) {
            None => Ok((x, info)),
            Some(worst) => {
                let worst = worst.clone();
                let partial = Box::new(Partial { solution: x.into_dyn(), info });
                Err(SolveError::of(worst, partial, self.limit, self.space.precision()))
            }
        }
    }
}

/// `v` in a type.
fn rounded(v: f64, dtype: DType) -> f64 {
    fn through<T: Element>(v: f64) -> f64 {
        T::of_f64(v).to_f64()
    }
    match dtype {
        DType::F16 => through::<half::f16>(v),
        DType::BF16 => through::<half::bf16>(v),
        DType::F32 => through::<f32>(v),
        _ => v,
    }
}

//! Conjugate gradients for several symmetric positive definite systems at once (M. Hestenes,
//! E. Stiefel, Methods of conjugate gradients for solving linear systems, J. Res. NBS 49, 1952).
//!
//! The systems share each product with the operator, but nothing else: step lengths, convergence
//! and failures are their own. Vectors and dot products are f64 whatever the type of the operator;
//! directions are rounded to that type, so that what is applied is what is added.
//!
//! The residual that the recurrence carries drifts from the true one by rounding. Convergence is
//! therefore claimed by the recurrence and decided by a recomputed residual; where that is too
//! large, the iteration restarts from it. A restart that does not halve the residual stagnates.

use crate::error::{Partial, SolveError};
use crate::info::{Reason, SolveInfo, SolveOptions, SystemId, SystemInfo};
use crate::lanczos::Lanczos;
use crate::operator::{LinearOperator, VECTOR};
use keops_core::data::DType;
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::memory;
use keops_core::random::Random;
use ndarray::Array3;

/// The recurrence claims convergence a little below the tolerance: the residual that decides is
/// then rarely above it, and one restart costs more iterations than the margin.
const MARGIN: f64 = 0.9;
/// Curvatures of less than this many units of rounding of the largest one have no sign.
const NOISE: f64 = 16.0;

/// Solves `(K + αI) a = b`; `b` and `guess` have shape `(batches, rows, components)`. Of an
/// operator with independent columns, each column of each batch element is a system, else each
/// batch element.
///
/// # Errors
/// [`SolveError`]: [`SolveError::NotSquare`], [`SolveError::Core`] for shapes and options that do
/// not fit, else what went wrong at which iteration, with the last iterate.
///
/// ```
#[doc = include_str!("operator_example.txt")]
/// // Diagonal(n) is the operator of the example of LinearOperator: row k times k + 1.
/// let b = Array3::from_elem((1, 2, 1), 6.0);
/// let (a, info) = conjugate_gradients(&Diagonal(2), &b, None, &SolveOptions::ridge(1.0))?;
/// assert!((a[[0, 0, 0]] - 3.0).abs() < 1e-12 && (a[[0, 1, 0]] - 2.0).abs() < 1e-12);
/// // From the solution nothing is left to do.
/// let (_, again) = conjugate_gradients(&Diagonal(2), &b, Some(&a), &SolveOptions::ridge(1.0))?;
/// assert_eq!((info.iterations, again.iterations), (2, 0));
/// # Ok::<(), keops_linalg::SolveError>(())
/// ```
pub fn conjugate_gradients(
    operator: &dyn LinearOperator,
    b: &Array3<f64>,
    guess: Option<&Array3<f64>>,
    options: &SolveOptions,
) -> Result<(Array3<f64>, SolveInfo), SolveError> {
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
        return Err(shape(
            "right-hand side",
            b.shape(),
            format!("(batches, {}, {})", domain[0], domain[1]),
        )
        .into());
    }
    if let Some(g) = guess.filter(|g| g.shape() != b.shape()) {
        return Err(shape(
            "first guess",
            g.shape(),
            format!("{:?} as the right-hand side", b.shape()),
        )
        .into());
    }
    let option = |what: &str, got: f64| InputError::Option(format!("{what}, got {got}"));
    if !options.ridge.is_finite() {
        return Err(option("the ridge must be finite", options.ridge).into());
    }
    if !(options.tolerance > 0.0 && options.tolerance < 1.0) {
        return Err(option("the tolerance must be between 0 and 1", options.tolerance).into());
    }
    Run::new(operator, b, guess, options)?.solve()
}

/// What is called so in errors where there is no memory for it.
const SYSTEMS: &str = "the state of each system";

/// Which system an element of a block vector belongs to.
#[derive(Clone, Copy)]
struct Layout {
    batches: usize,
    rows: usize,
    dim: usize,
    independent: bool,
}

impl Layout {
    fn systems(self) -> usize {
        self.batches * if self.independent { self.dim } else { 1 }
    }
    fn id(self, system: usize) -> SystemId {
        match self.independent {
            true => SystemId { batch: system / self.dim, column: Some(system % self.dim) },
            false => SystemId { batch: system, column: None },
        }
    }
    /// Calls `f` with the system and the position of every element.
    #[inline]
    fn each(self, mut f: impl FnMut(usize, usize)) {
        let mut at = 0;
        for batch in 0..self.batches {
            for _ in 0..self.rows {
                for c in 0..self.dim {
                    f(if self.independent { batch * self.dim + c } else { batch }, at);
                    at += 1;
                }
            }
        }
    }
    /// The dot products of each system.
    fn dots(self, x: &[f64], y: &[f64]) -> Result<Vec<f64>, OutOfMemory> {
        let mut sums = self.each_system(0.0)?;
        self.each(|s, k| sums[s] += x[k] * y[k]);
        Ok(sums)
    }
    /// A value for each system.
    fn each_system<T: Clone>(self, value: T) -> Result<Vec<T>, OutOfMemory> {
        memory::filled(self.systems(), value, SYSTEMS)
    }
}

fn copy(v: &[f64]) -> Result<Vec<f64>, OutOfMemory> {
    memory::collected(v.iter().copied(), VECTOR)
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Active,
    /// To be verified: the recurrence is below the tolerance, or cannot go on. If the residual is
    /// too large, the iteration restarts, or ends for the reason given.
    Claimed {
        otherwise: Option<Reason>,
    },
    Ended(Reason),
}

/// State of one system. Right-hand sides are scaled by a power of two, which is exact, so that
/// neither squares nor the range of f32 matter.
struct System {
    phase: Phase,
    scale: f64,
    /// Norm of the scaled right-hand side.
    norm: f64,
    /// `‖r‖²`
    rr: f64,
    iterations: usize,
    /// Recomputed residual, relative.
    residual: Option<f64>,
    /// Largest `‖Kp‖ / ‖p‖` seen.
    largest: f64,
    lanczos: Lanczos,
}

struct Run<'r> {
    operator: &'r dyn LinearOperator,
    options: &'r SolveOptions,
    layout: Layout,
    limit: usize,
    products: usize,
    systems: Vec<System>,
    b: Vec<f64>,
    x: Vec<f64>,
    r: Vec<f64>,
    p: Vec<f64>,
    /// The iterates of the last restart: a restart may do worse.
    kept: Vec<f64>,
}

impl<'r> Run<'r> {
    fn new(
        operator: &'r dyn LinearOperator,
        b: &Array3<f64>,
        guess: Option<&Array3<f64>>,
        options: &'r SolveOptions,
    ) -> Result<Run<'r>, Error> {
        let (batches, rows, dim) = b.dim();
        let layout = Layout { batches, rows, dim, independent: operator.columns_independent() };
        let mut b = memory::collected(b.iter().copied(), VECTOR)?;
        let mut x = match guess {
            Some(g) => memory::collected(g.iter().copied(), VECTOR)?,
            None => memory::filled(b.len(), 0.0, VECTOR)?,
        };
        let mut largest = layout.each_system(0.0f64)?;
        let mut finite = layout.each_system(true)?;
        layout.each(|s, k| {
            largest[s] = largest[s].max(b[k].abs());
            finite[s] &= b[k].is_finite() && x[k].is_finite();
        });
        let power = |(&m, &finite): (&f64, &bool)| match finite && m > 0.0 {
            true => 2f64.powi((m.log2().floor() as i32).max(-1000)),
            false => 1.0,
        };
        let scale = memory::collected(largest.iter().zip(&finite).map(power), SYSTEMS)?;
        // Systems that are not finite or zero take no part: their elements are zeros.
        layout.each(|s, k| {
            if finite[s] && largest[s] > 0.0 {
                b[k] /= scale[s];
                x[k] /= scale[s];
            } else {
                (b[k], x[k]) = (0.0, 0.0);
            }
        });
        let norms = layout.dots(&b, &b)?;
        let system = |s: usize| System {
            phase: match (finite[s], largest[s] > 0.0) {
                (false, _) => Phase::Ended(Reason::NotFinite),
                (true, false) => Phase::Ended(Reason::Converged),
                (true, true) => Phase::Active,
            },
            scale: scale[s],
            norm: norms[s].sqrt(),
            rr: norms[s],
            iterations: 0,
            residual: (finite[s] && largest[s] == 0.0).then_some(0.0),
            largest: 0.0,
            lanczos: Lanczos::default(),
        };
        let unknowns = rows.saturating_mul(if layout.independent { 1 } else { dim });
        let mut run = Run {
            operator,
            options,
            layout,
            limit: options.max_iterations.unwrap_or(unknowns.saturating_mul(10)),
            products: 0,
            systems: memory::collected((0..layout.systems()).map(system), SYSTEMS)?,
            r: copy(&b)?,
            p: vec![],
            kept: vec![],
            b,
            x,
        };
        if guess.is_some() && run.any(Phase::Active) {
            run.r = run.true_residual()?;
            let rr = layout.dots(&run.r, &run.r)?;
            for (system, rr) in run.systems.iter_mut().zip(rr) {
                system.rr = rr;
            }
            run.judge(0);
        }
        run.p = memory::collected(run.r.iter().map(|&v| run.rounded(v)), VECTOR)?;
        run.silence();
        Ok(run)
    }

    fn any(&self, phase: Phase) -> bool {
        self.systems.iter().any(|s| s.phase == phase)
    }
    fn claimed(&self) -> bool {
        self.systems.iter().any(|s| matches!(s.phase, Phase::Claimed { .. }))
    }
    /// In the type of the operator.
    fn rounded(&self, v: f64) -> f64 {
        if self.operator.precision() == DType::F64 { v } else { f64::from(v as f32) }
    }
    fn epsilon(&self) -> f64 {
        if self.operator.precision() == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) }
    }
    /// `(K + αI) v`, without a copy of `v`.
    fn product(&mut self, v: &mut Vec<f64>) -> Result<Vec<f64>, Error> {
        self.products += 1;
        let Layout { batches, rows, dim, .. } = self.layout;
        let shape = (batches, rows, dim);
        let block = match Array3::from_shape_vec(shape, std::mem::take(v)) {
            Ok(block) => block,
            Err(_) => unreachable!("block vectors have the size of the right-hand side"),
        };
        let product = self.operator.apply(&block);
        *v = block.into_raw_vec_and_offset().0;
        let product = product?;
        if product.dim() != shape {
            let (name, expected) = ("product of the operator".into(), format!("shape {shape:?}"));
            let got = product.shape().to_vec();
            return Err(InputError::Shape { name, expected, got }.into());
        }
        let ridge = self.options.ridge;
        let sums = product.iter().zip(&*v).map(|(q, v)| q + ridge * v);
        Ok(memory::collected(sums, VECTOR)?)
    }
    fn true_residual(&mut self) -> Result<Vec<f64>, Error> {
        let mut x = std::mem::take(&mut self.x);
        let product = self.product(&mut x);
        self.x = x;
        let mut q = product?;
        q.iter_mut().zip(&self.b).for_each(|(q, b)| *q = b - *q);
        Ok(q)
    }
    /// After a change of residuals: ends or claims active systems.
    fn judge(&mut self, iteration: usize) {
        for s in self.systems.iter_mut().filter(|s| s.phase == Phase::Active) {
            s.iterations = iteration;
            if !s.rr.is_finite() {
                s.phase = Phase::Ended(Reason::NotFinite);
            } else if s.rr.sqrt() <= MARGIN * self.options.tolerance * s.norm {
                s.phase = Phase::Claimed { otherwise: None };
            }
        }
    }
    /// Systems that are not active have no direction.
    fn silence(&mut self) {
        let (systems, p) = (&self.systems, &mut self.p);
        self.layout.each(|s, k| {
            if systems[s].phase != Phase::Active {
                p[k] = 0.0;
            }
        });
    }

    fn solve(mut self) -> Result<(Array3<f64>, SolveInfo), SolveError> {
        let mut first: Option<Vec<f64>> = None;
        for iteration in 0.. {
            while !self.any(Phase::Active) && self.claimed() {
                self.verify()?;
            }
            if !self.any(Phase::Active) {
                break;
            }
            if iteration == self.limit {
                // The limit is for all: what only claims to have converged is judged as it is.
                for s in &mut self.systems {
                    if matches!(s.phase, Phase::Active | Phase::Claimed { otherwise: None }) {
                        s.phase = Phase::Claimed { otherwise: Some(Reason::IterationLimit) };
                    }
                }
                self.verify()?;
                break;
            }
            let mut p = std::mem::take(&mut self.p);
            let q = self.product(&mut p)?;
            let steps = self.steps(&p, &q)?;
            if iteration == 0 && self.options.check_symmetry {
                first = Some(copy(&p)?);
            } else if let Some(before) = first.take()
                && self.alarm(&before, &p, &q)?
            {
                self.end_asymmetric(|phase| phase == Phase::Active)?;
            }
            self.advance(iteration + 1, p, &q, &steps)?;
        }
        self.finish()
    }

    /// Step lengths; 0 for systems that end here or are not active.
    fn steps(&mut self, p: &[f64], q: &[f64]) -> Result<Vec<f64>, OutOfMemory> {
        let layout = self.layout;
        let (pp, pq, qq) = (layout.dots(p, p)?, layout.dots(p, q)?, layout.dots(q, q)?);
        let noise = NOISE * self.epsilon();
        let mut steps = layout.each_system(0.0)?;
        for (k, s) in self.systems.iter_mut().enumerate() {
            if s.phase != Phase::Active {
                continue;
            }
            if !(pq[k].is_finite() && qq[k].is_finite()) {
                s.phase = Phase::Ended(Reason::NotFinite);
                continue;
            }
            s.largest = s.largest.max((qq[k] / pp[k]).sqrt());
            let curvature = pq[k] / pp[k];
            if curvature > 0.0 {
                steps[k] = s.rr / pq[k];
            } else if curvature < -noise * s.largest {
                s.phase = Phase::Ended(Reason::Indefinite { curvature });
            } else if s.largest == 0.0 {
                // A product that is exactly zero: the operator is singular.
                s.phase = Phase::Ended(Reason::Indefinite { curvature: 0.0 });
            } else {
                s.phase = Phase::Claimed { otherwise: Some(Reason::Stagnated) };
            }
        }
        Ok(steps)
    }

    /// Moves along the directions and finds the next ones.
    fn advance(
        &mut self,
        iteration: usize,
        mut p: Vec<f64>,
        q: &[f64],
        steps: &[f64],
    ) -> Result<(), OutOfMemory> {
        let layout = self.layout;
        let (x, r) = (&mut self.x, &mut self.r);
        layout.each(|s, k| {
            if steps[s] != 0.0 {
                x[k] += steps[s] * p[k];
                r[k] -= steps[s] * q[k];
            }
        });
        let rr = layout.dots(&self.r, &self.r)?;
        let mut ratio = layout.each_system(0.0)?;
        for (k, s) in self.systems.iter_mut().enumerate() {
            if s.phase == Phase::Active {
                ratio[k] = rr[k] / s.rr;
                s.lanczos.push(steps[k], ratio[k]);
                s.rr = rr[k];
            }
        }
        self.judge(iteration);
        layout.each(|s, k| p[k] = self.rounded(self.r[k] + ratio[s] * p[k]));
        self.p = p;
        self.silence();
        Ok(())
    }

    /// Recomputes the residuals of systems that claim convergence.
    fn verify(&mut self) -> Result<(), Error> {
        let layout = self.layout;
        let mut x = std::mem::take(&mut self.x);
        layout.each(|s, k| {
            if matches!(self.systems[s].phase, Phase::Claimed { .. }) {
                x[k] = self.rounded(x[k]);
            }
        });
        self.x = x;
        let r = self.true_residual()?;
        let rr = layout.dots(&r, &r)?;
        let (mut restart, mut restore) = (layout.each_system(false)?, layout.each_system(false)?);
        for (k, s) in self.systems.iter_mut().enumerate() {
            let Phase::Claimed { otherwise } = s.phase else { continue };
            let residual = rr[k].sqrt() / s.norm;
            let before = s.residual.replace(residual);
            s.phase = if !residual.is_finite() {
                Phase::Ended(Reason::NotFinite)
            } else if residual <= self.options.tolerance {
                Phase::Ended(Reason::Converged)
            } else {
                let stagnates = before.is_some_and(|b| residual > 0.5 * b);
                match otherwise.or(stagnates.then_some(Reason::Stagnated)) {
                    Some(reason) => {
                        if let Some(b) = before.filter(|b| *b < residual) {
                            (restore[k], s.residual) = (true, Some(b));
                        }
                        Phase::Ended(reason)
                    }
                    None => {
                        restart[k] = true;
                        s.rr = rr[k];
                        s.lanczos.restart();
                        Phase::Active
                    }
                }
            };
        }
        if restart.contains(&true) && self.kept.is_empty() {
            self.kept = copy(&self.x)?;
        }
        let Run { x, r: residual, kept, p, .. } = self;
        layout.each(|s, k| {
            if restart[s] {
                (residual[k], p[k], kept[k]) = (r[k], r[k], x[k]);
            } else if restore[s] {
                x[k] = kept[k];
            }
        });
        let mut p = std::mem::take(&mut self.p);
        p.iter_mut().for_each(|v| *v = self.rounded(*v));
        self.p = p;
        self.silence();
        Ok(())
    }
    /// In exact arithmetic directions are conjugate to the one before, `<p_0, K p_1> = 0`,
    /// whatever the operator is, as long as it is symmetric. Costs no product.
    fn alarm(&self, before: &[f64], p: &[f64], q: &[f64]) -> Result<bool, OutOfMemory> {
        let layout = self.layout;
        let (cross, pp, qq) =
            (layout.dots(before, q)?, layout.dots(before, before)?, layout.dots(q, q)?);
        let bound = self.epsilon().sqrt();
        let active = layout.dots(p, p)?;
        Ok((0..self.systems.len())
            .any(|s| active[s] > 0.0 && cross[s].abs() > bound * (pp[s] * qq[s]).sqrt()))
    }
    /// Compares `<u, Kv>` with `<Ku, v>` for random u, v; systems that differ by more than
    /// rounding end, if their phase is among those meant.
    fn end_asymmetric(&mut self, meant: impl Fn(Phase) -> bool) -> Result<(), Error> {
        let layout = self.layout;
        let mut random = Random::new(0);
        let mut draw = || {
            let all = (0..self.b.len()).map(|_| self.rounded(0.5 + random.unit()));
            memory::collected(all, VECTOR)
        };
        let (mut u, mut v) = (draw()?, draw()?);
        let (ku, kv) = (self.product(&mut u)?, self.product(&mut v)?);
        let (left, right) = (layout.dots(&u, &kv)?, layout.dots(&ku, &v)?);
        let squares = |x: &[f64]| layout.dots(x, x);
        let (u, v, ku, kv) = (squares(&u)?, squares(&v)?, squares(&ku)?, squares(&kv)?);
        // Between the rounding of long sums and any asymmetry that would disturb the iteration.
        let bound = self.epsilon().powf(2.0 / 3.0);
        for (k, s) in self.systems.iter_mut().enumerate() {
            let scale = u[k].sqrt() * kv[k].sqrt() + ku[k].sqrt() * v[k].sqrt();
            let asymmetry = (left[k] - right[k]).abs() / scale;
            if meant(s.phase) && asymmetry > bound {
                s.phase = Phase::Ended(Reason::NotSymmetric { asymmetry });
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Array3<f64>, SolveInfo), SolveError> {
        let indefinite =
            |p: Phase| matches!(p, Phase::Ended(Reason::Indefinite { .. } | Reason::Stagnated));
        if self.options.check_symmetry && self.systems.iter().any(|s| indefinite(s.phase)) {
            self.end_asymmetric(indefinite)?;
        }
        let open = |s: &System| s.residual.is_none() && s.phase != Phase::Ended(Reason::NotFinite);
        if self.systems.iter().any(open) {
            let r = self.true_residual()?;
            let rr = self.layout.dots(&r, &r)?;
            for (s, rr) in self.systems.iter_mut().zip(rr).filter(|(s, _)| open(s)) {
                s.residual = Some(rr.sqrt() / s.norm);
            }
        }
        let layout = self.layout;
        let report = |(k, s): (usize, &System)| SystemInfo {
            system: layout.id(k),
            iterations: s.iterations,
            residual: s.residual.unwrap_or(f64::NAN),
            eigenvalues: s.lanczos.extremes(),
            reason: match s.phase {
                Phase::Ended(reason) => reason,
                _ => unreachable!("all systems have ended"),
            },
        };
        let systems = memory::collected(self.systems.iter().enumerate().map(report), SYSTEMS);
        let systems = systems.map_err(Error::from)?;
        let iterations = systems.iter().map(|s| s.iterations).max().unwrap_or(0);
        let info = SolveInfo { iterations, products: self.products, systems };
        let mut x = self.x;
        layout.each(|s, k| x[k] *= self.systems[s].scale);
        let x = match Array3::from_shape_vec((layout.batches, layout.rows, layout.dim), x) {
            Ok(x) => x,
            Err(_) => unreachable!("block vectors have the size of the right-hand side"),
        };
        match info
            .systems
            .iter()
            .filter(|s| s.reason != Reason::Converged)
            .min_by_key(|s| gravity(s.reason))
        {
            None => Ok((x, info)),
            Some(worst) => {
                Err(failure(worst.clone(), x, info, self.limit, self.operator.precision()))
            }
        }
    }
}

/// The gravest failure first.
fn gravity(reason: Reason) -> u8 {
    match reason {
        Reason::NotFinite => 0,
        Reason::NotSymmetric { .. } => 1,
        Reason::Indefinite { .. } => 2,
        Reason::Stagnated => 3,
        Reason::IterationLimit => 4,
        Reason::Converged => 5,
    }
}

fn failure(
    worst: SystemInfo,
    x: Array3<f64>,
    info: SolveInfo,
    limit: usize,
    precision: DType,
) -> SolveError {
    let partial = Box::new(Partial { solution: x.into_dyn(), info });
    let condition = worst.condition();
    let SystemInfo { system, iterations: iteration, residual, reason, .. } = worst;
    match reason {
        Reason::NotFinite => SolveError::NotFinite { system, iteration, partial },
        Reason::NotSymmetric { asymmetry } => {
            SolveError::NotSymmetric { system, iteration, asymmetry, partial }
        }
        Reason::Indefinite { curvature } => {
            SolveError::Indefinite { system, iteration, curvature, partial }
        }
        Reason::Stagnated => {
            let precision = precision.name();
            SolveError::Stagnated { system, iteration, residual, precision, condition, partial }
        }
        Reason::IterationLimit => {
            SolveError::IterationLimit { system, limit, residual, condition, partial }
        }
        Reason::Converged => unreachable!("a failure"),
    }
}

//! Runs of a registration: the minimisation, watched, saved and gone on with.

use std::ops::ControlFlow;
use std::time::Duration;

use ndarray::{Array1, Array2, ArrayView2};

use super::checkpoint::{Checkpoint, Context};
use super::evidence::evidence;
use super::problem::Registration;
use crate::error::LddmmError;
use crate::optimise::{Calls, CostAndGradient, Lbfgs, Optimiser, State, minimise, norm};
use crate::report::{CostSplit, Report};
use crate::shape::Shape;
use crate::shooting::Trajectory;
use crate::sum::{Real, copied, zeros};

/// Where a registration is, after an iteration.
///
/// ```
#[doc = include_str!("../registration_example.txt")]
/// let mut costs = vec![];
/// registration.run(None, &mut |p: &Progress<'_>| {
///     println!("{p}"); // iteration, cost in its parts, gradient, time
///     costs.push(p.cost);
///     assert_eq!(p.cost, p.energy + p.attachment);
///     ControlFlow::Continue(())
/// })?;
/// assert!(costs.windows(2).all(|pair| pair[1] <= pair[0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Iterations made, those before a resumption among them.
    pub iteration: usize,
    /// Evaluations of cost and gradient made.
    pub evaluations: usize,
    /// γH + A.
    pub cost: f64,
    /// γH.
    pub energy: f64,
    /// A.
    pub attachment: f64,
    /// Euclidean norm of the gradient in the momenta.
    pub gradient_norm: f64,
    /// Euclidean length of the step in the momenta.
    pub step: f64,
    /// Time since the start.
    pub elapsed: Duration,
    /// At most this long, should all iterations be made and take as long as those before.
    pub remaining: Duration,
    /// The momenta reached, shape (n, d).
    pub momenta: ArrayView2<'a, f64>,
    pub(super) state: &'a State,
    pub(super) context: &'a Context,
}

impl Progress<'_> {
    /// All that is needed to go on from here, bit for bit: see [`Registration::resume`].
    ///
    /// # Errors
    /// When there is no memory for it.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let mut saved = None;
    /// let whole = registration.run(None, &mut |p: &Progress<'_>| {
    ///     if p.iteration == 2 {
    ///         saved = p.checkpoint().ok();
    ///     }
    ///     ControlFlow::Continue(())
    /// })?;
    /// let rest = registration.resume(&saved.unwrap(), &mut silent)?;
    /// assert_eq!(rest.momenta, whole.momenta);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checkpoint(&self) -> Result<Checkpoint, LddmmError> {
        Checkpoint::new(self.context, self.state, self.elapsed)
    }
}

impl std::fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "iteration {:4}  cost {:.6e} = energy {:.4e} + attachment {:.4e}  |gradient| {:.2e}  \
             step {:.2e}  evaluations {:4}  {:.1} s, at most {:.0} s more",
            self.iteration,
            self.cost,
            self.energy,
            self.attachment,
            self.gradient_norm,
            self.step,
            self.evaluations,
            self.elapsed.as_secs_f64(),
            self.remaining.as_secs_f64()
        )
    }
}

/// Watches a registration and may stop it. Closures of [`Progress`] are observers.
///
/// ```
/// use keops_lddmm::registration::{Observer, Progress};
/// use std::ops::ControlFlow;
/// /// Stops when the cost is low enough, or after too much work.
/// struct Enough {
///     cost: f64,
///     evaluations: usize,
/// }
/// fn stop_if(yes: bool) -> ControlFlow<()> {
///     if yes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
/// }
/// impl Observer for Enough {
///     fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
///         stop_if(progress.cost < self.cost)
///     }
///     fn evaluation(&mut self, made: usize) -> ControlFlow<()> {
///         stop_if(made >= self.evaluations)
///     }
/// }
/// let mut enough = Enough { cost: 0.1, evaluations: 50 };
/// assert_eq!(enough.evaluation(50), ControlFlow::Break(()));
/// ```
pub trait Observer {
    /// After each iteration; a break ends the minimisation ([`crate::optimise::Stop::Interrupted`]).
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let mut first = |_: &Progress<'_>| ControlFlow::Break(());
    /// let report = registration.run(None, &mut first)?.report;
    /// assert_eq!((report.iterations, report.stop), (1, Stop::Interrupted));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()>;
    /// Before each evaluation but the first, with the number of those made; a break ends the
    /// minimisation, which returns the best momenta so far. By default it goes on.
    ///
    /// ```
    /// use keops_lddmm::registration::{Observer, Progress};
    /// use std::ops::ControlFlow;
    /// let mut silent = |_: &Progress<'_>| ControlFlow::<()>::Continue(());
    /// assert!(silent.evaluation(1000).is_continue());
    /// ```
    fn evaluation(&mut self, made: usize) -> ControlFlow<()> {
        let _ = made;
        ControlFlow::Continue(())
    }
}
impl<T: FnMut(&Progress<'_>) -> ControlFlow<()>> Observer for T {
    fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self(progress)
    }
}

/// A registration that could not go on.
///
/// ```
#[doc = include_str!("../registration_example.txt")]
/// let e = registration.run(Some(Array2::zeros((5, 2)).view()), &mut silent).unwrap_err();
/// assert_eq!(e.to_string(), "`momenta`: expected shape (12, 2), got shape [5, 2]");
/// assert!(e.reached.is_none() && e.checkpoint.is_none()); // there was no start
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct RegistrationError {
    /// Why.
    #[source]
    pub error: LddmmError,
    /// The best momenta that were reached, shape (n, d), if the start could be evaluated.
    pub reached: Option<Box<Array2<f64>>>,
    /// Where to go on from, if the start could be evaluated: the end of the last iteration.
    pub checkpoint: Option<Box<Checkpoint>>,
}

impl From<LddmmError> for RegistrationError {
    fn from(error: LddmmError) -> RegistrationError {
        RegistrationError { error, reached: None, checkpoint: None }
    }
}

/// What a registration reached.
///
/// ```
#[doc = include_str!("../registration_example.txt")]
/// let Outcome { momenta, trajectory, result, report, .. } = registration.run(None, &mut silent)?;
/// assert_eq!((momenta.dim(), trajectory.states().len()), ((12, 2), 5));
/// assert_eq!(result.cells(), source.cells());
/// assert!(report.distances_after.mean() < report.distances_before.mean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Outcome<F> {
    /// Momenta at time 0, shape (n, d).
    pub momenta: Array2<f64>,
    /// The flow, in coordinates relative to [`Registration::centre`].
    pub trajectory: Trajectory<F>,
    /// The source deformed.
    pub result: Shape,
    /// Costs, evidence, distances and warnings.
    pub report: Report,
    /// Where to go on from: the end of the last iteration.
    pub checkpoint: Checkpoint,
}

/// Momenta that are kept flat, as rows.
fn rows(flat: &Array1<f64>, dim: (usize, usize)) -> ArrayView2<'_, f64> {
    match flat.view().into_shape_with_order(dim) {
        Ok(rows) => rows,
        Err(_) => unreachable!("momenta are flattened from {dim:?}"),
    }
}
fn flat(rows: ArrayView2<'_, f64>) -> Result<Array1<f64>, LddmmError> {
    Ok(copied(rows)?.into_raw_vec_and_offset().0.into())
}

impl<F: Real> Registration<F> {
    /// Minimises the cost from the momenta `start`, of shape (n, d), or from zero.
    ///
    /// The best momenta that were evaluated are returned whatever ended the minimisation: limits,
    /// the observer, or a failure (in the error).
    ///
    /// # Errors
    /// [`LddmmError::NotFinite`] or [`LddmmError::Breakdown`] at the start; what
    /// [`Registration::evaluate`] may return other than breakdowns, which only bound the steps.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let first = registration.run(None, &mut silent)?;
    /// // On from where the limit of iterations stopped it, with a new memory.
    /// let more = registration.run(Some(first.momenta.view()), &mut silent)?;
    /// assert_eq!(more.report.before.cost, first.report.after.cost);
    /// assert!(more.report.after.cost <= first.report.after.cost);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run(
        &self,
        start: Option<ArrayView2<'_, f64>>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<F>, RegistrationError> {
        self.run_with(&mut Lbfgs, start, observer)
    }

    /// As [`Registration::run`], by another optimiser than [`Lbfgs`].
    ///
    /// # Errors
    /// As [`Registration::run`]; what the optimiser returns.
    pub fn run_with(
        &self,
        optimiser: &mut dyn Optimiser,
        start: Option<ArrayView2<'_, f64>>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<F>, RegistrationError> {
        let dim = self.momenta_dim();
        let point = match start {
            Some(p) => {
                LddmmError::check_array("momenta", p, Some(dim.0), dim.1)?;
                flat(p)?
            }
            None => zeros::<f64>(dim).map_err(LddmmError::from)?.into_raw_vec_and_offset().0.into(),
        };
        let clock = std::time::Instant::now();
        let before = self.value(&point)?;
        for (what, value) in
            [("cost", before.cost), ("norm of the gradient", norm(&before.gradient))]
        {
            if !value.is_finite() {
                return Err(LddmmError::NotFinite { what, value }.into());
            }
        }
        let first_step = self.first_step(rows(&before.gradient, dim))?;
        let context = Context::new(self, CostSplit::of(&before), clock.elapsed());
        let state = State::new(point, before, first_step, self.options().limits.memory);
        self.go_on(optimiser, state, context, observer, None)
    }

    /// Goes on from a checkpoint of this registration, with the limits of this one: all numbers are
    /// then, bit for bit, those of a run without the interruption, on the same device. Iterations,
    /// evaluations and times are counted from the first start.
    ///
    /// # Errors
    /// [`LddmmError::Mismatch`] for a checkpoint of another registration, with what differs first;
    /// otherwise as [`Registration::run`].
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let checkpoint = registration.run(None, &mut silent)?.checkpoint; // 4 iterations
    /// let limits = Limits { iterations: 6, ..options.limits };
    /// let longer = Options { limits, ..options.clone() };
    /// let longer = Registration::<f64>::new(&source, &target, &longer, &device)?;
    /// let resumed = longer.resume(&checkpoint, &mut silent)?;
    /// assert_eq!(resumed.momenta, longer.run(None, &mut silent)?.momenta);
    ///
    /// let other = Options { gamma: 0.5, ..options };
    /// let other = Registration::<f64>::new(&source, &target, &other, &device)?;
    /// let e = other.resume(&checkpoint, &mut silent).unwrap_err();
    /// assert_eq!(e.to_string(), "gamma of the checkpoint: expected 0.5, got 0.01");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(
        &self,
        checkpoint: &Checkpoint,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<F>, RegistrationError> {
        self.resume_with(&mut Lbfgs, checkpoint, observer)
    }

    /// As [`Registration::resume`], by another optimiser than [`Lbfgs`]. It begins where the last iteration
    /// ended, and with what it remembers itself: a method without memory, or the value that ran before, goes
    /// on as if there had been no interruption.
    ///
    /// # Errors
    /// As [`Registration::resume`]; what the optimiser returns.
    pub fn resume_with(
        &self,
        optimiser: &mut dyn Optimiser,
        checkpoint: &Checkpoint,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<F>, RegistrationError> {
        let context = checkpoint.context_for(self)?;
        let elsewhere = checkpoint.device().to_string();
        let elsewhere = (elsewhere != self.device()).then_some(elsewhere);
        self.go_on(optimiser, checkpoint.state()?, context, observer, elsewhere)
    }

    fn momenta_dim(&self) -> (usize, usize) {
        self.rest().q().dim()
    }
    fn value(&self, p: &Array1<f64>) -> Result<CostAndGradient, LddmmError> {
        let e = self.evaluate(rows(p, self.momenta_dim()))?;
        Ok(CostAndGradient {
            cost: e.cost,
            energy: self.options().gamma * e.hamiltonian,
            attachment: e.attachment,
            gradient: e.momenta.into_raw_vec_and_offset().0.into(),
        })
    }

    fn go_on(
        &self,
        optimiser: &mut dyn Optimiser,
        state: State,
        context: Context,
        observer: &mut dyn Observer,
        elsewhere: Option<String>,
    ) -> Result<Outcome<F>, RegistrationError> {
        let clock = std::time::Instant::now();
        let (dim, limits) = (self.momenta_dim(), &self.options().limits);
        let made_before = state.iterations;
        let observer = std::cell::RefCell::new(observer);
        let mut evaluate = |p: &Array1<f64>| self.value(p);
        let mut before = |made: usize| observer.borrow_mut().evaluation(made);
        let mut after = |s: &State, elapsed: Duration| {
            let left = limits.iterations.saturating_sub(s.iterations) as f64;
            let each = elapsed.as_secs_f64() / (s.iterations - made_before) as f64;
            observer.borrow_mut().iteration(&Progress {
                iteration: s.iterations,
                evaluations: s.evaluations,
                cost: s.value.cost,
                energy: s.value.energy,
                attachment: s.value.attachment,
                gradient_norm: norm(&s.value.gradient),
                step: s.step,
                elapsed: context.elapsed + elapsed,
                remaining: Duration::try_from_secs_f64(left * each).unwrap_or(Duration::MAX),
                momenta: rows(&s.point, dim),
                state: s,
                context: &context,
            })
        };
        let mut calls = Calls { evaluate: &mut evaluate, before: &mut before, after: &mut after };
        let mut reached = minimise(optimiser, state, limits, &mut calls);
        let elapsed = context.elapsed + clock.elapsed();
        let failure = reached.failure.take();
        // (From here on an error has what was reached with it.)
        let momenta = copied(rows(reached.best().0, dim)).map_err(LddmmError::from)?;
        let checkpoint = Checkpoint::new(&context, &reached.state, elapsed)?;
        let finish = || -> Result<_, LddmmError> {
            if let Some(error) = failure {
                return Err(error);
            }
            let trajectory = self.shoot(momenta.view())?;
            let result = self.deformed(trajectory.end())?;
            let report = evidence(
                self,
                &trajectory,
                &result,
                context.before,
                &reached,
                elapsed.as_secs_f64(),
                elsewhere,
            )?;
            Ok((trajectory, result, report))
        };
        match finish() {
            Ok((trajectory, result, report)) => {
                Ok(Outcome { momenta, trajectory, result, report, checkpoint })
            }
            Err(error) => Err(RegistrationError {
                error,
                reached: Some(Box::new(momenta)),
                checkpoint: Some(Box::new(checkpoint)),
            }),
        }
    }
}

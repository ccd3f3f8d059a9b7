//! Minimisation of the cost of a registration by an exchangeable [`Optimiser`], watched and stopped from
//! outside, that always returns the best point it has seen.
//!
//! The optimiser decides where to evaluate ([`Minimisation::evaluate`]) and which point ends an iteration
//! ([`Minimisation::accept`]); limits, observers, failures and the best point are kept here. All that is known
//! between two iterations is a [`State`]. [`Lbfgs`] keeps its pairs in it: who goes on from a state goes on
//! bit for bit as if there had been no interruption.

mod lbfgs;
mod line_search;
mod param;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use keops_core::error::Error;
use keops_core::memory;
use ndarray::Array1;
use serde::{Deserialize, Serialize};

use crate::error::LddmmError;
pub use lbfgs::Lbfgs;
use lbfgs::Memory;

/// When to stop. By default 300 iterations, 1000 evaluations, tolerances of 1e-8 and 1e-9, and a
/// memory of 10.
///
/// ```
#[doc = include_str!("../registration_example.txt")]
/// let limits = Limits { evaluations: 3, ..Limits::default() };
/// let options = Options { limits, ..options };
/// let registration = Registration::<f64>::new(&source, &target, &options, &device)?;
/// let report = registration.run(None, &mut silent)?.report;
/// assert_eq!((report.evaluations, report.stop), (3, Stop::EvaluationLimit));
/// let none = Options { limits: Limits { memory: 0, ..limits }, ..options };
/// assert!(Registration::<f64>::new(&source, &target, &none, &device).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Most iterations.
    pub iterations: usize,
    /// Most evaluations of cost and gradient.
    pub evaluations: usize,
    /// Stop when the norm of the gradient is at most this times its norm at the start.
    pub gradient_tolerance: f64,
    /// Stop when an iteration lowers the cost by at most this times the cost; one that raises it, as
    /// optimisers of one's own may, is no end.
    pub cost_tolerance: f64,
    /// Pairs of steps and gradient differences that [`Lbfgs`] keeps.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            iterations: 300,
            evaluations: 1000,
            gradient_tolerance: 1e-8,
            cost_tolerance: 1e-9,
            memory: 10,
        }
    }
}

impl Limits {
    pub(crate) fn check(&self) -> Result<(), LddmmError> {
        if self.memory == 0 || self.memory > 1000 {
            return Err(LddmmError::parameter("memory", "1..=1000", self.memory));
        }
        if self.evaluations == 0 {
            return Err(LddmmError::parameter("evaluations", "at least 1", 0));
        }
        for (name, t) in [
            ("gradient_tolerance", self.gradient_tolerance),
            ("cost_tolerance", self.cost_tolerance),
        ] {
            if !(0.0..1.0).contains(&t) {
                return Err(LddmmError::parameter(name, "a number from 0 to below 1", t));
            }
        }
        Ok(())
    }
}

/// Why a minimisation ended.
///
/// ```
#[doc = include_str!("../registration_example.txt")]
/// let start = registration.run(None, &mut |_: &Progress<'_>| ControlFlow::Break(()))?;
/// assert_eq!(start.report.stop.to_string(), "interrupted");
/// // It goes on as far as its limit of 4 iterations.
/// let report = registration.run(Some(start.momenta.view()), &mut silent)?.report;
/// assert_eq!((report.iterations, report.stop), (4, Stop::IterationLimit));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The gradient is small enough.
    GradientTolerance,
    /// The cost hardly falls any more.
    CostTolerance,
    /// No step in the direction of steepest descent lowers the cost: the precision of the cost is
    /// exhausted.
    Precision,
    /// The limit of iterations was reached.
    IterationLimit,
    /// The limit of evaluations was reached.
    EvaluationLimit,
    /// The observer asked for it.
    Interrupted,
    /// An evaluation failed; the error is reported beside it.
    Failed,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stop::GradientTolerance => "the gradient is small enough",
            Stop::CostTolerance => "the cost hardly falls any more",
            Stop::Precision => "the precision of the cost is exhausted",
            Stop::IterationLimit => "the limit of iterations was reached",
            Stop::EvaluationLimit => "the limit of evaluations was reached",
            Stop::Interrupted => "interrupted",
            Stop::Failed => "an evaluation failed",
        })
    }
}

/// Vectors in files: plain lists of numbers.
mod vector {
    use ndarray::Array1;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(v: &Array1<f64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(v)
    }
    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Array1<f64>, D::Error> {
        Ok(Vec::deserialize(from)?.into())
    }
}

/// The cost of a registration at some momenta, in its parts, and its gradient.
///
/// ```
/// use keops_lddmm::registration::CostAndGradient;
/// let gradient = ndarray::array![3.0, -4.0];
/// let value = CostAndGradient { cost: 3.0, energy: 1.0, attachment: 2.0, gradient };
/// assert_eq!(value.gradient_norm(), 5.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostAndGradient {
    /// γH + A.
    pub cost: f64,
    /// γH.
    pub energy: f64,
    /// A.
    pub attachment: f64,
    /// Gradient in the momenta, row after row.
    #[serde(with = "vector")]
    pub gradient: Array1<f64>,
}

impl CostAndGradient {
    /// Euclidean norm of the gradient.
    pub fn gradient_norm(&self) -> f64 {
        norm(&self.gradient)
    }
}

/// Euclidean norm.
pub(crate) fn norm(v: &Array1<f64>) -> f64 {
    v.dot(v).sqrt()
}
fn copied(v: &Array1<f64>) -> Result<Array1<f64>, LddmmError> {
    let copy = memory::collected(v.iter().copied(), "vectors of the minimisation");
    Ok(copy.map_err(Error::from)?.into())
}

/// Everything that a minimisation knows between two iterations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Iterations made.
    pub iterations: usize,
    /// Evaluations made.
    pub evaluations: usize,
    #[serde(with = "vector")]
    pub point: Array1<f64>,
    pub value: CostAndGradient,
    /// Norm of the gradient at the very start.
    first_norm: f64,
    /// Length of the last step; before the first, the length to try.
    pub step: f64,
    /// What the last iteration took off the cost, negative where it rose; `None` before the first.
    decrease: Option<f64>,
    /// Pairs that were given to `memory`, which keeps the last ones; none of other optimisers.
    pairs: usize,
    memory: Memory,
}

impl State {
    /// Before the first iteration, at a point that has been evaluated (which counts). The first step
    /// along the steepest descent will have the length `first_step`; L-BFGS keeps `memory` pairs.
    pub(crate) fn new(
        point: Array1<f64>,
        value: CostAndGradient,
        first_step: f64,
        memory: usize,
    ) -> State {
        State {
            iterations: 0,
            evaluations: 1,
            first_norm: norm(&value.gradient),
            point,
            value,
            step: first_step,
            decrease: None,
            pairs: 0,
            memory: Memory::new(first_step, memory),
        }
    }
    /// A copy, or an error where there is no memory for it.
    pub(crate) fn copy(&self) -> Result<State, LddmmError> {
        lbfgs::ask(2 * self.pairs.min(1000), self.point.len())?;
        Ok(State {
            point: copied(&self.point)?,
            value: CostAndGradient { gradient: copied(&self.value.gradient)?, ..self.value },
            memory: self.memory.clone(),
            ..*self
        })
    }
    /// Are all vectors of this length, and all numbers finite?
    pub(crate) fn is_sound(&self, length: usize) -> bool {
        let CostAndGradient { cost, energy, attachment, .. } = self.value;
        let numbers = [cost, energy, attachment, self.first_norm, self.step];
        let vectors = [&self.point, &self.value.gradient];
        vectors.iter().all(|v| v.len() == length && v.iter().all(|x| x.is_finite()))
            && numbers.iter().chain(&self.decrease).all(|x| x.is_finite())
            && self.memory.is_sound(self.pairs, length)
            && self.evaluations > 0
    }

    /// Why to stop here, if there is a reason.
    fn finished(&self, limits: &Limits) -> Option<Stop> {
        let small = limits.cost_tolerance * self.value.cost.abs();
        if norm(&self.value.gradient) <= limits.gradient_tolerance * self.first_norm {
            Some(Stop::GradientTolerance)
        } else if self.decrease.is_some_and(|d| (0.0..=small).contains(&d)) {
            Some(Stop::CostTolerance)
        } else if self.iterations >= limits.iterations {
            Some(Stop::IterationLimit)
        } else {
            None
        }
    }

    /// Ends an iteration at a point. Is the curvature along the step positive?
    fn advance(&mut self, point: Array1<f64>, value: CostAndGradient, evaluations: usize) -> bool {
        let before = std::mem::replace(&mut self.value, value);
        let (mut length, mut curvature, mut change) = (0.0, 0.0, 0.0);
        ndarray::Zip::from(&point)
            .and(&self.point)
            .and(&self.value.gradient)
            .and(&before.gradient)
            .for_each(|new, old, g, before| {
                length += (new - old).powi(2);
                curvature += (new - old) * (g - before);
                change += (g - before).powi(2);
            });
        self.point = point;
        self.iterations += 1;
        self.evaluations = evaluations;
        self.step = length.sqrt();
        self.decrease = Some(before.cost - self.value.cost);
        curvature > 0.0 && (curvature / change).is_normal()
    }
    /// Forgets the pairs of L-BFGS, which goes on with steepest descent, by a step as long as the last one.
    fn forget(&mut self, most: usize) {
        (self.pairs, self.memory) = (0, Memory::new(self.step, most));
    }
}

/// What a minimisation reached.
#[derive(Clone, Debug)]
pub(crate) struct Minimum {
    /// Where to go on from: the end of the last iteration.
    pub state: State,
    /// The best point, if it is lower than the state.
    pub better: Option<(Array1<f64>, CostAndGradient)>,
    /// All evaluations made.
    pub evaluations: usize,
    pub stop: Stop,
    /// What failed, if `stop` is [`Stop::Failed`].
    pub failure: Option<LddmmError>,
}

impl Minimum {
    /// The best point seen, with its value.
    pub(crate) fn best(&self) -> (&Array1<f64>, &CostAndGradient) {
        match &self.better {
            Some((point, value)) => (point, value),
            None => (&self.state.point, &self.state.value),
        }
    }
}

/// What is called on the way.
pub(crate) struct Calls<'c> {
    pub evaluate: &'c mut dyn FnMut(&Array1<f64>) -> Result<CostAndGradient, LddmmError>,
    /// Before each evaluation, with the number of those made.
    pub before: &'c mut dyn FnMut(usize) -> ControlFlow<()>,
    /// After each iteration, with the time since the start.
    pub after: &'c mut dyn FnMut(&State, Duration) -> ControlFlow<()>,
}

/// Why a minimisation has to end: a limit, a tolerance, the observer, or a failure. An [`Optimiser`]
/// returns what it is given; its own failures become one by `?`.
///
/// ```
/// use keops_lddmm::{LddmmError, registration::Ended};
/// let e = LddmmError::NotFinite { what: "step", value: f64::NAN };
/// assert!(format!("{:?}", Ended::from(e)).contains("step"));
/// ```
#[derive(Clone, Debug)]
pub struct Ended(End);
#[derive(Clone, Debug)]
enum End {
    Stop(Stop),
    Failed(LddmmError),
}
impl From<Stop> for Ended {
    fn from(stop: Stop) -> Ended {
        Ended(End::Stop(stop))
    }
}
impl From<LddmmError> for Ended {
    fn from(e: LddmmError) -> Ended {
        Ended(End::Failed(e))
    }
}

/// A method that minimises the cost of a registration: [`Lbfgs`], or one of your own, which
/// [`run_with`](crate::registration::Registration::run_with) takes (`docs/adding-an-optimiser.md`).
///
/// ```
#[doc = include_str!("../registration_example.txt")]
/// use keops_lddmm::registration::{Ended, Minimisation, Optimiser};
/// /// Steepest descent by steps of one length, until the cost no longer falls.
/// struct Steps;
/// impl Optimiser for Steps {
///     fn minimise(&mut self, run: &mut Minimisation<'_, '_>) -> Result<Stop, Ended> {
///         let scale = run.step() / run.value().gradient_norm();
///         loop {
///             let point = run.point() - &(scale * &run.value().gradient);
///             let value = run.evaluate(&point)?;
///             if value.cost >= run.value().cost {
///                 return Ok(Stop::Precision);
///             }
///             run.accept(point, value)?; // ends at limits, tolerances, or if the observer asks for it
///         }
///     }
/// }
/// let report = registration.run_with(&mut Steps, None, &mut silent)?.report;
/// assert!(report.after.cost < report.before.cost && report.iterations <= 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Optimiser {
    /// Minimises from [`Minimisation::point`]. The best point of all that were evaluated in the run, accepted
    /// or not, the first among them, is the result; `Ok` says why the method sees no better one.
    ///
    /// What the method remembers lives in it, if it is to serve [`resume_with`] too: of other methods than
    /// [`Lbfgs`] checkpoints hold points, costs and counts alone.
    ///
    /// [`resume_with`]: crate::registration::Registration::resume_with
    ///
    /// # Errors
    /// [`Ended`], as `run` returns it, or a failure of the method.
    fn minimise(&mut self, run: &mut Minimisation<'_, '_>) -> Result<Stop, Ended>;
}

/// A minimisation that is under way, as its [`Optimiser`] sees it. Momenta are vectors here, row after row.
///
/// An example stands at [`Optimiser`].
///
/// ```
/// use keops_lddmm::registration::{Ended, Minimisation};
/// fn halved(run: &mut Minimisation<'_, '_>) -> Result<f64, Ended> {
///     let half = 0.5 * run.point();
///     Ok(run.evaluate(&half)?.cost)
/// }
/// ```
pub struct Minimisation<'m, 'c> {
    state: State,
    limits: &'m Limits,
    calls: &'m mut Calls<'c>,
    clock: Instant,
    evaluations: usize,
    /// The lowest point that was evaluated, if it is lower than the state.
    best: Option<(Array1<f64>, CostAndGradient)>,
}

impl Minimisation<'_, '_> {
    /// Where the last iteration ended, or the start.
    pub fn point(&self) -> &Array1<f64> {
        &self.state.point
    }
    /// Cost and gradient there.
    pub fn value(&self) -> &CostAndGradient {
        &self.state.value
    }
    /// Euclidean length of the last step. Before the first, the length of a step along the gradient that
    /// moves the fastest vertex by a twentieth of the size of the shapes.
    pub fn step(&self) -> f64 {
        self.state.step
    }
    /// Iterations made, those before a resumption among them.
    pub fn iterations(&self) -> usize {
        self.state.iterations
    }
    /// The limits of the registration, which `evaluate` and `accept` look at.
    pub fn limits(&self) -> &Limits {
        self.limits
    }
    /// Cost and gradient at a point: infinite costs and a gradient of zeros where the flow breaks down,
    /// which is too far.
    ///
    /// # Errors
    /// [`Ended`] at the limit of evaluations, if the observer asks for it, or if the evaluation fails; for
    /// a point of another length.
    pub fn evaluate(&mut self, point: &Array1<f64>) -> Result<CostAndGradient, Ended> {
        self.check("the point", point)?;
        let value = self.value_at(point)?;
        if value.cost < self.lowest() {
            let gradient = copied(&value.gradient)?;
            self.best = Some((copied(point)?, CostAndGradient { gradient, ..value }));
        }
        Ok(value)
    }
    /// Ends an iteration at a point, with what [`evaluate`](Self::evaluate) gave there.
    ///
    /// # Errors
    /// [`Ended`] at the limit of iterations, within a tolerance, or if the observer asks for it; for values
    /// that are not finite or of another length.
    pub fn accept(&mut self, point: Array1<f64>, value: CostAndGradient) -> Result<(), Ended> {
        self.check("the point", &point)?;
        self.check("the gradient", &value.gradient)?;
        let parts = [value.cost, value.energy, value.attachment];
        let mut all = point.iter().chain(&value.gradient).chain(&parts);
        if let Some(&value) = all.find(|v| !v.is_finite()) {
            return Err(LddmmError::NotFinite { what: "end of an iteration", value }.into());
        }
        self.advance(point, value)?;
        self.state.forget(self.limits.memory);
        self.ended()
    }

    /// The lowest cost so far.
    fn lowest(&self) -> f64 {
        self.best.as_ref().map_or(self.state.value.cost, |(_, v)| v.cost)
    }
    /// As [`State::advance`]; where the cost rises, the point that is left may be the best one.
    fn advance(&mut self, point: Array1<f64>, value: CostAndGradient) -> Result<bool, LddmmError> {
        let left = &self.state;
        if self.best.is_none() && left.value.cost < value.cost {
            let gradient = copied(&left.value.gradient)?;
            let value = CostAndGradient { gradient, ..left.value };
            self.best = Some((copied(&left.point)?, value));
        }
        Ok(self.state.advance(point, value, self.evaluations))
    }

    fn check(&self, what: &'static str, v: &Array1<f64>) -> Result<(), LddmmError> {
        match (v.len(), self.state.point.len()) {
            (got, expected) if got != expected => Err(LddmmError::mismatch(
                format!("{what} of an optimiser"),
                format!("{expected} numbers"),
                got,
            )),
            _ => Ok(()),
        }
    }
    /// Counts, asks the observer, and evaluates.
    fn value_at(&mut self, point: &Array1<f64>) -> Result<CostAndGradient, Ended> {
        if self.evaluations >= self.limits.evaluations {
            return Err(Stop::EvaluationLimit.into());
        }
        if (self.calls.before)(self.evaluations).is_break() {
            return Err(Stop::Interrupted.into());
        }
        self.evaluations += 1;
        match (self.calls.evaluate)(point) {
            Ok(value) if norm(&value.gradient).is_finite() => Ok(value),
            // Too far: the search steps back.
            Ok(_) | Err(LddmmError::Breakdown { .. } | LddmmError::Implicit { .. }) => {
                let gradient = memory::filled(point.len(), 0.0, "vectors of the minimisation");
                let gradient = gradient.map_err(LddmmError::from)?.into();
                let [cost, energy, attachment] = [f64::INFINITY; 3];
                Ok(CostAndGradient { cost, energy, attachment, gradient })
            }
            Err(e) => Err(e.into()),
        }
    }
    /// After an iteration: tells the observer, and is there a reason to stop?
    fn ended(&mut self) -> Result<(), Ended> {
        self.best = self.best.take().filter(|(_, v)| v.cost < self.state.value.cost);
        if (self.calls.after)(&self.state, self.clock.elapsed()).is_break() {
            return Err(Stop::Interrupted.into());
        }
        self.state.finished(self.limits).map_or(Ok(()), |stop| Err(stop.into()))
    }
}

/// Minimises from a state.
pub(crate) fn minimise(
    optimiser: &mut dyn Optimiser,
    state: State,
    limits: &Limits,
    calls: &mut Calls<'_>,
) -> Minimum {
    let (clock, evaluations) = (Instant::now(), state.evaluations);
    let mut run = Minimisation { state, limits, calls, clock, evaluations, best: None };
    let ended = match run.state.finished(limits) {
        Some(stop) => Ok(stop),
        None => optimiser.minimise(&mut run),
    };
    let (stop, failure) = match ended {
        Ok(stop) | Err(Ended(End::Stop(stop))) => (stop, None),
        Err(Ended(End::Failed(e))) => (Stop::Failed, Some(e)),
    };
    let Minimisation { state, best, evaluations, .. } = run;
    Minimum { state, better: best, evaluations, stop, failure }
}

#[cfg(test)]
mod tests;

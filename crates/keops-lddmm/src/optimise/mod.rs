//! Minimisation by argmin's L-BFGS (Nocedal & Wright 2006, algorithm 7.5) with a strong Wolfe line
//! search, watched and stopped from outside, that always returns the best point it has seen.
//!
//! All that the method knows between two iterations is a [`State`], argmin's solver with the pairs
//! that it remembers in it: who goes on from one goes on bit for bit as if there had been no
//! interruption.

mod line_search;
mod param;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use argmin::core::{
    self as argmin_core, CostFunction, Gradient, IterState, Problem, Solver, State as _,
};
use argmin::solver::quasinewton::LBFGS;
use keops_core::error::Error;
use keops_core::memory;
use ndarray::Array1;
use serde::{Deserialize, Serialize};

use crate::error::LddmmError;
use line_search::StrongWolfe;
use param::Param;

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
    /// Stop when an iteration lowers the cost by at most this times the cost.
    pub cost_tolerance: f64,
    /// Pairs of steps and gradient differences that L-BFGS keeps.
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

/// A cost with its two parts and its gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Value {
    pub cost: f64,
    pub energy: f64,
    pub attachment: f64,
    #[serde(with = "vector")]
    pub gradient: Array1<f64>,
}

/// Euclidean norm.
pub(crate) fn norm(v: &Array1<f64>) -> f64 {
    v.dot(v).sqrt()
}
fn copied(v: &Array1<f64>) -> Result<Array1<f64>, LddmmError> {
    let copy = memory::collected(v.iter().copied(), "vectors of the minimisation");
    Ok(copy.map_err(Error::from)?.into())
}

/// Asks for the memory of `vectors` vectors and gives it back: argmin cannot be told that there is
/// none.
fn ask(vectors: usize, length: usize) -> Result<(), LddmmError> {
    memory::room::<f64>(vectors.saturating_mul(length), "vectors of the minimisation")
        .map(drop)
        .map_err(|e| Error::from(e).into())
}

/// argmin's L-BFGS.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Memory(LBFGS<StrongWolfe, Param, Param, f64>);

/// What argmin remembers, under the names of its fields, which are private but for serde.
#[derive(Debug, PartialEq, Deserialize)]
struct Remembered {
    linesearch: StrongWolfe,
    m: usize,
    /// Steps, the oldest first.
    s: Vec<Param>,
    /// Differences of the gradients at their ends.
    y: Vec<Param>,
    l1_coeff: Option<f64>,
}

impl Memory {
    /// Without pairs. The first step will have the length `first_step`.
    fn new(first_step: f64, most: usize) -> Memory {
        Memory(LBFGS::new(StrongWolfe::new(first_step), most))
    }
    fn remembered(&self) -> Result<Remembered, serde_json::Error> {
        serde_json::from_value(serde_json::to_value(self)?)
    }
}
impl PartialEq for Memory {
    fn eq(&self, other: &Memory) -> bool {
        matches!((self.remembered(), other.remembered()), (Ok(a), Ok(b)) if a == b)
    }
}
impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.remembered())
    }
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
    pub value: Value,
    /// Norm of the gradient at the very start.
    first_norm: f64,
    /// Length of the last step; before the first, the length to try.
    pub step: f64,
    /// What the last iteration took off the cost; `None` before the first.
    decrease: Option<f64>,
    /// Pairs that were given to `memory`, which keeps the last ones.
    pairs: usize,
    memory: Memory,
}

impl State {
    /// Before the first iteration, at a point that has been evaluated (which counts). The first step
    /// along the steepest descent will have the length `first_step`; L-BFGS keeps `memory` pairs.
    pub(crate) fn new(point: Array1<f64>, value: Value, first_step: f64, memory: usize) -> State {
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
        ask(2 * self.pairs.min(1000), self.point.len())?;
        Ok(State {
            point: copied(&self.point)?,
            value: Value { gradient: copied(&self.value.gradient)?, ..self.value },
            memory: self.memory.clone(),
            ..*self
        })
    }
    /// Are all vectors of this length, and all numbers finite?
    pub(crate) fn is_sound(&self, length: usize) -> bool {
        let Ok(Remembered { linesearch, m, s, y, l1_coeff: None }) = self.memory.remembered()
        else {
            return false;
        };
        let pairs = s.iter().chain(&y).map(|v| &v.0);
        let mut vectors = [&self.point, &self.value.gradient].into_iter().chain(pairs);
        let Value { cost, energy, attachment, .. } = self.value;
        let numbers =
            [cost, energy, attachment, self.first_norm, self.step, linesearch.first_step()];
        vectors.all(|v| v.len() == length && v.iter().all(|x| x.is_finite()))
            && numbers.iter().chain(&self.decrease).all(|x| x.is_finite())
            && (s.len(), y.len()) == (self.pairs.min(m), self.pairs.min(m))
            && self.evaluations > 0
    }

    /// Why to stop here, if there is a reason.
    fn finished(&self, limits: &Limits) -> Option<Stop> {
        let small = limits.cost_tolerance * self.value.cost.abs();
        if norm(&self.value.gradient) <= limits.gradient_tolerance * self.first_norm {
            Some(Stop::GradientTolerance)
        } else if self.decrease.is_some_and(|d| d <= small) {
            Some(Stop::CostTolerance)
        } else if self.iterations >= limits.iterations {
            Some(Stop::IterationLimit)
        } else {
            None
        }
    }

    /// Goes to a better point, of which `memory` knows.
    fn accept(&mut self, point: Array1<f64>, value: Value, evaluations: usize, most: usize) {
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
        self.pairs += 1;
        self.evaluations = evaluations;
        self.step = length.sqrt();
        self.decrease = Some(before.cost - self.value.cost);
        // Without positive curvature along the step the approximation of the inverse Hessian is not
        // positive definite; a search that gave up early can end at such a point.
        let positive = curvature > 0.0 && (curvature / change).is_normal();
        if !positive {
            self.forget(most);
        }
    }
    /// Goes on with steepest descent, by a step as long as the last one.
    fn forget(&mut self, most: usize) {
        (self.pairs, self.memory) = (0, Memory::new(self.step, most));
    }
}

/// What a minimisation reached.
#[derive(Clone, Debug)]
pub(crate) struct Minimum {
    /// Where to go on from: the end of the last iteration.
    pub state: State,
    /// The best point, if it is one of an iteration that was not finished.
    pub better: Option<(Array1<f64>, Value)>,
    /// All evaluations made.
    pub evaluations: usize,
    pub stop: Stop,
    /// What failed, if `stop` is [`Stop::Failed`].
    pub failure: Option<LddmmError>,
}

impl Minimum {
    /// The best point seen, with its value.
    pub(crate) fn best(&self) -> (&Array1<f64>, &Value) {
        match &self.better {
            Some((point, value)) => (point, value),
            None => (&self.state.point, &self.state.value),
        }
    }
}

/// What is called on the way.
pub(crate) struct Calls<'c> {
    pub evaluate: &'c mut dyn FnMut(&Array1<f64>) -> Result<Value, LddmmError>,
    /// Before each evaluation, with the number of those made.
    pub before: &'c mut dyn FnMut(usize) -> ControlFlow<()>,
    /// After each iteration, with the time since the start.
    pub after: &'c mut dyn FnMut(&State, Duration) -> ControlFlow<()>,
}

/// Why an iteration was left.
enum Left {
    Stop(Stop),
    Failed(LddmmError),
}
impl From<LddmmError> for Left {
    fn from(e: LddmmError) -> Left {
        Left::Failed(e)
    }
}

/// The function and what is known of it, for argmin, which moves copies of its problem about.
struct Shared<'s, 'c> {
    calls: &'s mut Calls<'c>,
    most: usize,
    evaluations: usize,
    /// Where this iteration starts.
    start: f64,
    /// The lowest point below the start, if there is one.
    best: Option<(Array1<f64>, Value)>,
    /// The last point, if it is not the best one, with cost and gradient.
    last: Option<(Array1<f64>, f64, Array1<f64>)>,
    left: Option<Left>,
}

impl Shared<'_, '_> {
    /// Gives cost and gradient to `take`. argmin asks for one after the other, and again for those
    /// of the point that a search returned: each point is evaluated once.
    fn at<T>(
        &mut self,
        point: &Array1<f64>,
        take: impl Fn(f64, &Array1<f64>) -> Result<T, LddmmError>,
    ) -> Result<T, argmin_core::Error> {
        self.evaluated(point)
            .and_then(|()| match (&self.best, &self.last) {
                (Some((at, value)), _) if at == point => Ok(take(value.cost, &value.gradient)?),
                (_, Some((_, cost, gradient))) => Ok(take(*cost, gradient)?),
                _ => unreachable!("one of them is this point"),
            })
            .map_err(|left| {
                self.left = Some(left);
                argmin_core::Error::msg("the minimisation was left")
            })
    }
    fn evaluated(&mut self, point: &Array1<f64>) -> Result<(), Left> {
        let known = self.best.iter().map(|b| &b.0).chain(self.last.iter().map(|l| &l.0));
        if known.into_iter().any(|at| at == point) {
            return Ok(());
        }
        if self.evaluations >= self.most {
            return Err(Left::Stop(Stop::EvaluationLimit));
        }
        if (self.calls.before)(self.evaluations).is_break() {
            return Err(Left::Stop(Stop::Interrupted));
        }
        self.evaluations += 1;
        let at = copied(point)?;
        match (self.calls.evaluate)(point) {
            Ok(value) if norm(&value.gradient).is_finite() => {
                let lowest = self.best.as_ref().map_or(self.start, |(_, v)| v.cost);
                if value.cost < lowest {
                    (self.best, self.last) = (Some((at, value)), None);
                } else {
                    self.last = Some((at, value.cost, value.gradient));
                }
            }
            // Too far: the search steps back.
            Ok(_) | Err(LddmmError::Breakdown { .. } | LddmmError::Implicit { .. }) => {
                let gradient = memory::filled(point.len(), 0.0, "vectors of the minimisation");
                self.last = Some((at, f64::INFINITY, gradient.map_err(LddmmError::from)?.into()));
            }
            Err(e) => return Err(Left::Failed(e)),
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Function<'r, 's, 'c>(&'r RefCell<Shared<'s, 'c>>);

impl CostFunction for Function<'_, '_, '_> {
    type Param = Param;
    type Output = f64;
    fn cost(&self, point: &Param) -> Result<f64, argmin_core::Error> {
        self.0.borrow_mut().at(&point.0, |cost, _| Ok(cost))
    }
}
impl Gradient for Function<'_, '_, '_> {
    type Param = Param;
    type Gradient = Param;
    fn gradient(&self, point: &Param) -> Result<Param, argmin_core::Error> {
        self.0.borrow_mut().at(&point.0, |_, gradient| Ok(Param(copied(gradient)?)))
    }
}

/// Minimises from a state.
pub(crate) fn minimise(mut state: State, limits: &Limits, calls: &mut Calls<'_>) -> Minimum {
    let clock = Instant::now();
    let mut evaluations = state.evaluations;
    let mut best = None;
    let left = loop {
        if let Some(stop) = state.finished(limits) {
            break Left::Stop(stop);
        }
        match iterate(&mut state, limits, calls, &mut evaluations, &mut best) {
            Err(left) => break left,
            Ok(Some((point, value))) => state.accept(point, value, evaluations, limits.memory),
            Ok(None) if state.pairs == 0 => break Left::Stop(Stop::Precision),
            // What was learnt on the way misleads here: steepest descent again.
            Ok(None) => {
                state.forget(limits.memory);
                state.evaluations = evaluations;
                continue;
            }
        }
        if (calls.after)(&state, clock.elapsed()).is_break() {
            break Left::Stop(Stop::Interrupted);
        }
    };
    let (stop, failure) = match left {
        Left::Stop(stop) => (stop, None),
        Left::Failed(e) => (Stop::Failed, Some(e)),
    };
    Minimum { state, better: best, evaluations, stop, failure }
}

/// An iteration of argmin, a function of the state alone: a better point, or none where the search
/// finds none. `best` is the lowest point of an iteration that was left in the middle.
fn iterate(
    state: &mut State,
    limits: &Limits,
    calls: &mut Calls<'_>,
    evaluations: &mut usize,
    best: &mut Option<(Array1<f64>, Value)>,
) -> Result<Option<(Array1<f64>, Value)>, Left> {
    // The vectors that argmin and the search make in an iteration, the new pair among them.
    ask(24, state.point.len())?;
    let shared = RefCell::new(Shared {
        calls,
        most: limits.evaluations,
        evaluations: *evaluations,
        start: state.value.cost,
        best: None,
        last: None,
        left: None,
    });
    let mut at: IterState<Param, Param, (), (), (), f64> = IterState::new()
        .param(Param(copied(&state.point)?))
        .gradient(Param(copied(&state.value.gradient)?))
        .cost(state.value.cost);
    // By this number L-BFGS knows when it has as many pairs as it may keep.
    at.iter = state.pairs as u64;
    let went = state.memory.0.next_iter(&mut Problem::new(Function(&shared)), at);
    let shared = shared.into_inner();
    *evaluations = shared.evaluations;
    if let Some(left) = shared.left {
        *best = shared.best;
        return Err(left);
    }
    // (The search ends at the lowest of its points.)
    match went {
        Ok((at, _)) if !at.terminated() => Ok(shared.best),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chained Rosenbrock function: least, 0, at (1, …, 1).
    fn rosenbrock(x: &Array1<f64>) -> Value {
        let mut gradient = Array1::zeros(x.len());
        let mut cost = 0.0;
        for i in 0..x.len() - 1 {
            let d = x[i + 1] - x[i] * x[i];
            cost += 100.0 * d * d + (1.0 - x[i]).powi(2);
            gradient[i] += -400.0 * x[i] * d - 2.0 * (1.0 - x[i]);
            gradient[i + 1] += 200.0 * d;
        }
        Value { cost, energy: 0.0, attachment: cost, gradient }
    }
    fn begin(first_step: f64) -> State {
        let x = Array1::from_shape_fn(20, |i| if i % 2 == 0 { -1.2 } else { 1.0 });
        let v = rosenbrock(&x);
        State::new(x, v, first_step, TIGHT.memory)
    }
    const TIGHT: Limits = Limits {
        iterations: 1000,
        evaluations: 2000,
        gradient_tolerance: 1e-12,
        cost_tolerance: 0.0,
        memory: 10,
    };
    type Function<'f> = &'f mut dyn FnMut(&Array1<f64>) -> Result<Value, LddmmError>;
    fn go_from(state: State, limits: &Limits, evaluate: Function<'_>) -> Minimum {
        let mut last = state.value.cost;
        let after = &mut |s: &State, _: Duration| {
            assert!(s.value.cost < last, "the cost falls in every iteration");
            last = s.value.cost;
            ControlFlow::Continue(())
        };
        let before = &mut |_: usize| ControlFlow::Continue(());
        minimise(state, limits, &mut Calls { evaluate, before, after })
    }
    fn go(first: f64, limits: &Limits, f: Function<'_>) -> Minimum {
        go_from(begin(first), limits, f)
    }

    #[test]
    fn a_state_goes_on_bit_for_bit() {
        let whole = go(1.0, &TIGHT, &mut |x| Ok(rosenbrock(x)));
        for cut in [0, 1, 7, 23, 40] {
            let limits = Limits { iterations: cut, ..TIGHT };
            let part = go(1.0, &limits, &mut |x| Ok(rosenbrock(x)));
            assert_eq!((part.stop, part.state.iterations), (Stop::IterationLimit, cut));
            let text = serde_json::to_string(&part.state).unwrap();
            let state: State = serde_json::from_str(&text).unwrap();
            assert!(state == part.state && state.is_sound(20) && !state.is_sound(19));
            let rest = go_from(state, &TIGHT, &mut |x| Ok(rosenbrock(x)));
            assert_eq!(rest.state, whole.state, "cut after {cut}");
            assert_eq!((rest.stop, rest.evaluations), (whole.stop, whole.evaluations));
        }
        // Of an iteration that was left in the middle nothing is kept but its best point.
        for most in 2..60 {
            let limits = Limits { evaluations: most, ..TIGHT };
            let part = go(1.0, &limits, &mut |x| Ok(rosenbrock(x)));
            let (point, value) = part.best();
            assert!(*value == rosenbrock(point) && value.cost <= part.state.value.cost);
            let rest = go_from(part.state, &TIGHT, &mut |x| Ok(rosenbrock(x)));
            assert_eq!(rest.state, whole.state, "left before evaluation {most}");
        }
    }

    #[test]
    fn rosenbrock_to_its_minimum_from_any_first_step() {
        for first in [1e-6, 1.0, 1e3] {
            let m = go(first, &TIGHT, &mut |x| Ok(rosenbrock(x)));
            let point = m.best().0;
            assert!(point.iter().all(|x| (x - 1.0).abs() < 1e-8), "{first}: {point:?}");
            assert!(m.evaluations < 400, "{first}: {}", m.evaluations);
        }
    }

    #[test]
    fn points_where_the_flow_breaks_down_are_avoided() {
        let m = go(100.0, &TIGHT, &mut |x| {
            if x.iter().any(|x| x.abs() > 2.5) {
                return Err(LddmmError::Breakdown { step: 1, steps: 10 });
            }
            Ok(rosenbrock(x))
        });
        assert!(m.best().1.cost < 1e-15, "{:e} {:?}", m.best().1.cost, m.stop);
    }

    #[test]
    fn every_way_to_stop_returns_the_best_point() {
        let start = begin(1.0).value.cost;
        let m = go(1.0, &Limits { iterations: 5, ..TIGHT }, &mut |x| Ok(rosenbrock(x)));
        assert_eq!((m.stop, m.state.iterations), (Stop::IterationLimit, 5));
        let (point, value) = m.best();
        assert!(value.cost < start && rosenbrock(point).cost == value.cost);
        let m = go(1.0, &Limits { evaluations: 7, ..TIGHT }, &mut |x| Ok(rosenbrock(x)));
        assert_eq!((m.stop, m.evaluations), (Stop::EvaluationLimit, 7));
        assert!(m.best().1.cost < start);
        let m = go(1.0, &Limits { gradient_tolerance: 0.1, ..TIGHT }, &mut |x| Ok(rosenbrock(x)));
        assert_eq!(m.stop, Stop::GradientTolerance);
        let m = go(1.0, &Limits { cost_tolerance: 0.5, ..TIGHT }, &mut |x| Ok(rosenbrock(x)));
        assert_eq!(m.stop, Stop::CostTolerance);
        let mut count = 0;
        let m = go(1.0, &TIGHT, &mut |x| {
            count += 1;
            let fault = LddmmError::parameter("disk", "space", "none");
            if count > 9 { Err(fault) } else { Ok(rosenbrock(x)) }
        });
        assert_eq!(m.stop, Stop::Failed);
        assert!(m.failure.is_some() && m.best().1.cost < start);
        let mut f = |x: &Array1<f64>| Ok(rosenbrock(x));
        let mut calls = Calls {
            evaluate: &mut f,
            before: &mut |n: usize| {
                if n == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
            after: &mut |_: &State, _: Duration| ControlFlow::Continue(()),
        };
        let m = minimise(begin(1.0), &TIGHT, &mut calls);
        assert_eq!((m.stop, m.evaluations), (Stop::Interrupted, 4));
        // Noise of the size of rounding: the search must give up, not run for ever.
        let mut k = 0.0;
        let m = go(1.0, &TIGHT, &mut |x| {
            k += 1.0f64;
            let mut v = rosenbrock(x);
            v.cost = 1e9 + v.cost + 1e-3 * (k * 7.7).sin();
            Ok(v)
        });
        assert!(m.evaluations < 1000 && m.stop != Stop::EvaluationLimit, "{:?}", m.stop);
    }
}

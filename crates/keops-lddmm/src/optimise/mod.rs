//! Minimisation by L-BFGS (argmin) with a strong Wolfe line search, watched and stopped from
//! outside, that always returns the best point it has seen.

mod line_search;
mod param;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use argmin::core::{CostFunction, Error, Gradient, IterState, Problem, Solver, State};
use argmin::solver::quasinewton::LBFGS;
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

/// A cost with its two parts and its gradient.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub cost: f64,
    pub energy: f64,
    pub attachment: f64,
    pub gradient: Array1<f64>,
}

/// Where a minimisation is after an iteration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Iteration<'a> {
    pub iteration: usize,
    pub evaluations: usize,
    pub point: &'a Array1<f64>,
    pub value: &'a Value,
    /// Length of the step just taken.
    pub step: f64,
    pub elapsed: Duration,
}

/// What a minimisation reached.
#[derive(Clone, Debug)]
pub(crate) struct Minimum {
    pub point: Array1<f64>,
    pub value: Value,
    pub iterations: usize,
    pub evaluations: usize,
    pub stop: Stop,
    /// What failed, if `stop` is [`Stop::Failed`].
    pub failure: Option<LddmmError>,
}

/// The function and what is known of it, shared by the copies that argmin moves about.
struct Shared<'f> {
    evaluate: &'f mut dyn FnMut(&Array1<f64>) -> Result<Value, LddmmError>,
    before: &'f mut dyn FnMut(usize) -> ControlFlow<()>,
    most: usize,
    evaluations: usize,
    /// argmin's variable is the point divided by this.
    scale: f64,
    best: (Array1<f64>, Value),
    /// The last point in argmin's variable, with cost and gradient there.
    last: Option<(Array1<f64>, f64, Array1<f64>)>,
    best_scaled: Option<Array1<f64>>,
    stop: Option<Stop>,
    failure: Option<LddmmError>,
}

impl Shared<'_> {
    fn stop_with<T>(&mut self, stop: Stop) -> Result<T, Error> {
        self.stop = Some(stop);
        Err(Error::msg(stop.to_string()))
    }
    /// Cost and gradient in argmin's variable. The last point and the best one are remembered:
    /// argmin asks for cost and gradient one after the other, and again for those of the point
    /// that a search returned.
    fn at(&mut self, z: &Array1<f64>) -> Result<(f64, Array1<f64>), Error> {
        if let Some((at, cost, gradient)) = &self.last
            && at == z
        {
            return Ok((*cost, gradient.clone()));
        }
        if self.best_scaled.as_ref() == Some(z) {
            let value = &self.best.1;
            return Ok((value.cost, &value.gradient * self.scale));
        }
        if self.evaluations >= self.most {
            return self.stop_with(Stop::EvaluationLimit);
        }
        if (self.before)(self.evaluations).is_break() {
            return self.stop_with(Stop::Interrupted);
        }
        self.evaluations += 1;
        let point = z * self.scale;
        let (cost, gradient) = match (self.evaluate)(&point) {
            Ok(value) => {
                let found = (value.cost, &value.gradient * self.scale);
                if value.cost < self.best.1.cost {
                    self.best = (point, value);
                    self.best_scaled = Some(z.clone());
                }
                found
            }
            // Too far: a search steps back.
            Err(LddmmError::Breakdown { .. }) => (f64::INFINITY, Array1::zeros(z.raw_dim())),
            Err(e) => {
                self.failure = Some(e);
                return self.stop_with(Stop::Failed);
            }
        };
        self.last = Some((z.clone(), cost, gradient.clone()));
        Ok((cost, gradient))
    }
}

#[derive(Clone, Copy)]
struct Adapter<'s, 'f>(&'s RefCell<Shared<'f>>);

impl CostFunction for Adapter<'_, '_> {
    type Param = Param;
    type Output = f64;
    fn cost(&self, z: &Param) -> Result<f64, Error> {
        Ok(self.0.borrow_mut().at(&z.0)?.0)
    }
}
impl Gradient for Adapter<'_, '_> {
    type Param = Param;
    type Gradient = Param;
    fn gradient(&self, z: &Param) -> Result<Param, Error> {
        Ok(Param(self.0.borrow_mut().at(&z.0)?.1))
    }
}

/// Minimises from `start`, where the function has been evaluated (which counts). The first step
/// along the steepest descent has the length `first_step`. `before` is called before each
/// evaluation with the number of those made, `after` after each iteration.
pub(crate) fn minimise(
    start: (Array1<f64>, Value),
    first_step: f64,
    limits: &Limits,
    evaluate: &mut dyn FnMut(&Array1<f64>) -> Result<Value, LddmmError>,
    before: &mut dyn FnMut(usize) -> ControlFlow<()>,
    after: &mut dyn FnMut(&Iteration<'_>) -> ControlFlow<()>,
) -> Minimum {
    let clock = Instant::now();
    let norm = |g: &Array1<f64>| g.dot(g).sqrt();
    let smallest = limits.gradient_tolerance * norm(&start.1.gradient);
    let shared = RefCell::new(Shared {
        evaluate,
        before,
        most: limits.evaluations,
        evaluations: 1,
        scale: 1.0,
        best: start,
        last: None,
        best_scaled: None,
        stop: None,
        failure: None,
    });
    let mut iterations = 0;
    let mut step = first_step;
    let stop = 'restart: loop {
        // L-BFGS starts with the direction −g in its variable z; with p = √(step/|g|) z this
        // moves p by `step`.
        let (z, cost, gradient) = {
            let s = &mut *shared.borrow_mut();
            let (point, value) = &s.best;
            let g = norm(&value.gradient);
            if g <= smallest {
                break Stop::GradientTolerance;
            }
            s.scale = (step / g).sqrt();
            let z = point / s.scale;
            s.best_scaled = Some(z.clone());
            s.last = None;
            (z, value.cost, &value.gradient * s.scale)
        };
        let mut solver: LBFGS<StrongWolfe, Param, Param, f64> =
            LBFGS::new(StrongWolfe::default(), limits.memory);
        let mut problem = Problem::new(Adapter(&shared));
        let mut state: IterState<Param, Param, (), (), (), f64> =
            IterState::new().param(Param(z)).gradient(Param(gradient)).cost(cost);
        for since_restart in 0.. {
            if iterations >= limits.iterations {
                break 'restart Stop::IterationLimit;
            }
            let (from, cost_before) = {
                let s = shared.borrow();
                (s.best.0.clone(), s.best.1.cost)
            };
            // A search that finds nothing better takes the state's point away.
            state = match solver.next_iter(&mut problem, state) {
                Ok((s, _)) if !s.terminated() && problem.problem.is_some() => s,
                _ => {
                    if let Some(stop) = shared.borrow().stop {
                        break 'restart stop;
                    }
                    if since_restart == 0 {
                        break 'restart Stop::Precision;
                    }
                    continue 'restart;
                }
            };
            state.increment_iter();
            iterations += 1;
            let s = shared.borrow();
            let (point, value) = &s.best;
            step = norm(&(point - &from));
            let at = Iteration {
                iteration: iterations,
                evaluations: s.evaluations,
                point,
                value,
                step,
                elapsed: clock.elapsed(),
            };
            if after(&at).is_break() {
                break 'restart Stop::Interrupted;
            }
            if norm(&value.gradient) <= smallest {
                break 'restart Stop::GradientTolerance;
            }
            if cost_before - value.cost <= limits.cost_tolerance * value.cost.abs() {
                break 'restart Stop::CostTolerance;
            }
        }
    };
    let s = shared.into_inner();
    let (point, value) = s.best;
    Minimum { point, value, iterations, evaluations: s.evaluations, stop, failure: s.failure }
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
    fn begin() -> (Array1<f64>, Value) {
        let x = Array1::from_shape_fn(20, |i| if i % 2 == 0 { -1.2 } else { 1.0 });
        let v = rosenbrock(&x);
        (x, v)
    }
    const TIGHT: Limits = Limits {
        iterations: 1000,
        evaluations: 2000,
        gradient_tolerance: 1e-12,
        cost_tolerance: 0.0,
        memory: 10,
    };
    fn go(
        first: f64,
        limits: &Limits,
        f: &mut dyn FnMut(&Array1<f64>) -> Result<Value, LddmmError>,
    ) -> Minimum {
        let go_on = &mut |_: usize| ControlFlow::Continue(());
        let mut last = f64::INFINITY;
        minimise(begin(), first, limits, f, go_on, &mut |i| {
            assert!(i.value.cost < last, "the cost falls in every iteration");
            last = i.value.cost;
            ControlFlow::Continue(())
        })
    }

    #[test]
    fn rosenbrock_to_its_minimum_from_any_first_step() {
        for first in [1e-6, 1.0, 1e3] {
            let m = go(first, &TIGHT, &mut |x| Ok(rosenbrock(x)));
            assert!(m.point.iter().all(|x| (x - 1.0).abs() < 1e-8), "{first}: {:?}", m.point);
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
        assert!(m.value.cost < 1e-15, "{:e} {:?}", m.value.cost, m.stop);
    }

    #[test]
    fn every_way_to_stop_returns_the_best_point() {
        let start = begin().1.cost;
        let m = go(1.0, &Limits { iterations: 5, ..TIGHT }, &mut |x| Ok(rosenbrock(x)));
        assert_eq!((m.stop, m.iterations), (Stop::IterationLimit, 5));
        assert!(m.value.cost < start && rosenbrock(&m.point).cost == m.value.cost);
        let m = go(1.0, &Limits { evaluations: 7, ..TIGHT }, &mut |x| Ok(rosenbrock(x)));
        assert_eq!((m.stop, m.evaluations), (Stop::EvaluationLimit, 7));
        assert!(m.value.cost < start);
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
        assert!(m.failure.is_some() && m.value.cost < start);
        let mut f = |x: &Array1<f64>| Ok(rosenbrock(x));
        let after = &mut |_: &Iteration<'_>| ControlFlow::Continue(());
        let halt = &mut |n: usize| {
            if n == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let m = minimise(begin(), 1.0, &TIGHT, &mut f, halt, after);
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

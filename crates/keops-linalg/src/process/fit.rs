//! Parameters of the largest marginal likelihood, by argmin's L-BFGS over their logarithms.
//!
//! Where a step leads to parameters without a likelihood (their exponential overflows, or the matrix
//! has no Cholesky factor), the line search takes a shorter one.

use super::{FittedProcess, GaussianProcess, ProcessError};
use crate::line_search::{Trial, strong_wolfe};
use argmin::core::{
    CostFunction, Error, Executor, Gradient, IterState, KV, LineSearch, Problem, Solver, State,
    TerminationReason,
};
use argmin::solver::quasinewton::LBFGS;
use keops_core::error::InputError;
use keops_core::genred::Place;
use ndarray::{Array1, ArrayRef1, ArrayRef2};
use std::cell::RefCell;

/// Most likelihoods, and the memory of L-BFGS.
const LIKELIHOODS: usize = 500;
const MEMORY: usize = 10;
/// Derivatives in logarithms, for each point, that count as 0: see [`FittedProcess::converged`].
const STATIONARY: f64 = 1e-6;
/// The length of the first step along the steepest descent, whose own length means nothing (it grows
/// with the square of the values), and the largest change of a logarithm that a search tries first.
const FIRST: f64 = 0.5;
const LONGEST: f64 = 2.0;

/// The negative log-likelihood of the logarithms of parameters and noise.
struct Likelihood<'p, P> {
    process: &'p GaussianProcess<P>,
    x: &'p ArrayRef2<f64>,
    y: &'p ArrayRef1<f64>,
    met: &'p RefCell<Met<P>>,
}
/// A process where it was asked for, with the derivatives of its negative log-likelihood.
#[derive(Clone)]
struct Point<P> {
    logs: Vec<f64>,
    slopes: Vec<f64>,
    process: FittedProcess<P>,
}
/// The best that was met, the last one, and how many.
struct Met<P> {
    best: Point<P>,
    last: Point<P>,
    count: usize,
    /// What is not for want of a likelihood.
    failure: Option<ProcessError>,
}

impl<P: Place> Point<P> {
    fn of(logs: Vec<f64>, process: FittedProcess<P>) -> Result<Point<P>, ProcessError> {
        let (parameters, noise) = process.gradient()?;
        let all = parameters.iter().flatten().copied().chain([noise]);
        let values = process.parameters.iter().flatten().chain([&process.noise]);
        let slopes = all.zip(values).map(|(g, v)| -g * v).collect();
        Ok(Point { logs, slopes, process })
    }
    fn stationary(&self) -> bool {
        let most = STATIONARY * self.process.y.len() as f64;
        self.slopes.iter().all(|g| g.abs() <= most)
    }
}

impl<P: Place> Likelihood<'_, P> {
    /// The process there; none where it does not exist.
    fn at(&self, logs: &[f64]) -> Result<Option<Point<P>>, Error> {
        let mut met = self.met.borrow_mut();
        for known in [&met.last, &met.best] {
            if known.logs == logs {
                return Ok(Some(known.clone()));
            }
        }
        if met.count >= LIKELIHOODS {
            return Err(Error::msg("as many likelihoods as a fit may compute"));
        }
        let values: Vec<f64> = logs.iter().map(|l| l.exp()).collect();
        if !values.iter().all(|v| v.is_finite() && *v > 0.0) {
            return Ok(None);
        }
        let mut rest = values.into_iter();
        let parameters: Vec<Array1<f64>> = (self.process.parameters.iter())
            .map(|(_, dim)| rest.by_ref().take(*dim).collect())
            .collect();
        let noise = rest.next().unwrap_or(0.0);
        met.count += 1;
        let made = self.process.condition(self.x, self.y, &parameters, noise);
        match made.and_then(|made| Point::of(logs.to_vec(), made)) {
            Ok(point) => {
                if !point.slopes.iter().all(|g| g.is_finite()) {
                    return Ok(None);
                }
                if point.process.log_likelihood > met.best.process.log_likelihood {
                    met.best = point.clone();
                }
                met.last = point.clone();
                Ok(Some(point))
            }
            Err(e @ (ProcessError::Operator(_) | ProcessError::Core(_))) => {
                met.failure = Some(e);
                Err(Error::msg("the device failed"))
            }
            Err(_) => Ok(None),
        }
    }
}
impl<P: Place> CostFunction for Likelihood<'_, P> {
    type Param = Vec<f64>;
    type Output = f64;
    fn cost(&self, logs: &Vec<f64>) -> Result<f64, Error> {
        Ok(self.at(logs)?.map_or(f64::NAN, |p| -p.process.log_likelihood))
    }
}
impl<P: Place> Gradient for Likelihood<'_, P> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;
    fn gradient(&self, logs: &Vec<f64>) -> Result<Vec<f64>, Error> {
        Ok(self.at(logs)?.map_or_else(|| vec![f64::NAN; logs.len()], |p| p.slopes))
    }
}

/// Steps of the strong Wolfe conditions for argmin; a whole search is one iteration.
#[derive(Clone)]
struct Search {
    direction: Vec<f64>,
}
impl LineSearch<Vec<f64>, f64> for Search {
    fn search_direction(&mut self, direction: Vec<f64>) {
        self.direction = direction;
    }
    fn initial_step_length(&mut self, _: f64) -> Result<(), Error> {
        Ok(()) // (L-BFGS scales its directions for the step 1.)
    }
}
type Iter = IterState<Vec<f64>, Vec<f64>, (), (), (), f64>;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl<O> Solver<O, Iter> for Search
where
    O: CostFunction<Param = Vec<f64>, Output = f64>
        + Gradient<Param = Vec<f64>, Gradient = Vec<f64>>,
{
    fn name(&self) -> &str {
        "Moré–Thuente"
    }
    fn next_iter(
        &mut self,
        problem: &mut Problem<O>,
        mut state: Iter,
    ) -> Result<(Iter, Option<KV>), Error> {
        let (Some(origin), Some(gradient)) = (state.take_param(), state.take_gradient()) else {
            return Err(Error::msg("the search has no start"));
        };
        let steepest = self.direction.iter().zip(&gradient).all(|(d, g)| *d == -g);
        let largest = self.direction.iter().fold(0.0f64, |m, d| m.max(d.abs()));
        let scale = if steepest { FIRST / largest } else { (LONGEST / largest).min(1.0) };
        let direction: Vec<f64> = self.direction.iter().map(|d| d * scale).collect();
        let slope = dot(&gradient, &direction);
        let start = Trial { at: 0.0, value: state.get_cost(), slope };
        let mut best: Option<(f64, Vec<f64>)> = None;
        strong_wolfe(start, |at| {
            let point: Vec<f64> = origin.iter().zip(&direction).map(|(o, d)| o + at * d).collect();
            let value = problem.cost(&point)?;
            let slope = match value.is_finite() {
                true => dot(&problem.gradient(&point)?, &direction),
                false => f64::NAN,
            };
            if value < best.as_ref().map_or(start.value, |b| b.0) {
                best = Some((value, point));
            }
            Ok::<_, Error>(Trial { at, value, slope })
        })?;
        let (value, point) = best.ok_or_else(|| Error::msg("no decrease along the direction"))?;
        let end = state.param(point).cost(value);
        Ok((end.terminate_with(TerminationReason::SolverConverged), None))
    }
}

impl<P: Place> GaussianProcess<P> {
    /// Conditions on values with the parameters and the noise of the largest marginal likelihood,
    /// found by L-BFGS over their logarithms: all have to be positive. What comes out is never
    /// worse than the start, and [`FittedProcess::converged`] says whether it is stationary. A
    /// likelihood has several maxima as a rule: which one is found depends on the start.
    ///
    /// # Errors
    /// As [`GaussianProcess::condition`], of the start.
    pub fn fit(
        &self,
        x: &ArrayRef2<f64>,
        y: &ArrayRef1<f64>,
        start: &[Array1<f64>],
        noise: f64,
    ) -> Result<FittedProcess<P>, ProcessError> {
        let mut all = start.iter().flatten().chain([&noise]);
        if let Some(v) = all.find(|v| v.is_nan() || **v <= 0.0) {
            let what = format!("parameters and noise to fit must be positive, got {v}");
            return Err(InputError::Option(what).into());
        }
        let begun = self.condition(x, y, start, noise)?;
        let logs: Vec<f64> = start.iter().flatten().chain([&noise]).map(|v| v.ln()).collect();
        let begun = Point::of(logs, begun)?;
        let met = RefCell::new(Met { last: begun.clone(), best: begun, count: 1, failure: None });
        loop {
            let before = met.borrow().best.clone();
            if before.stationary() {
                break;
            }
            let problem = Likelihood { process: self, x, y, met: &met };
            // Iterations end where the likelihood is stationary, which is asked for below.
            let most = STATIONARY * y.len() as f64;
            let solver = LBFGS::new(Search { direction: vec![] }, MEMORY)
                .with_tolerance_grad(most)
                .and_then(|s| s.with_tolerance_cost(0.0));
            let Ok(solver) = solver else { unreachable!("tolerances are at least 0") };
            // (Why a run ends does not matter: what it has met is looked at.)
            let _ = Executor::new(problem, solver)
                .configure(|s| s.param(before.logs.clone()).max_iters(LIKELIHOODS as u64))
                .run();
            let mut now = met.borrow_mut();
            if let Some(e) = now.failure.take() {
                return Err(e);
            }
            // From a new start the pairs that misled it are forgotten; steepest descent goes on, until it
            // gains nothing either.
            let gained = now.best.process.log_likelihood > before.process.log_likelihood;
            if !gained || now.count >= LIKELIHOODS {
                break;
            }
        }
        let Met { best, count, .. } = met.into_inner();
        let converged = best.stationary();
        Ok(FittedProcess { evaluations: count, converged, ..best.process })
    }
}

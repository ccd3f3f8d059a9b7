//! argmin's L-BFGS (Nocedal & Wright 2006, algorithm 7.5) with a strong Wolfe line search, one iteration at a
//! time: the pairs that it remembers are part of the [`super::State`].

use std::cell::RefCell;

use argmin::core::{
    self as argmin_core, CostFunction, Gradient, IterState, Problem, Solver, State as _,
};
use argmin::solver::quasinewton::LBFGS;
use keops_core::error::Error;
use keops_core::memory;
use ndarray::Array1;
use serde::{Deserialize, Serialize};

use super::line_search::StrongWolfe;
use super::param::Param;
use super::{CostAndGradient, Ended, Minimisation, Optimiser, Stop, copied};
use crate::error::LddmmError;

/// L-BFGS, the optimiser of [`Registration::run`](crate::registration::Registration::run); it keeps
/// [`Limits::memory`](crate::registration::Limits::memory) pairs, and goes on from a checkpoint bit for bit.
///
/// ```
#[doc = include_str!("../registration_example.txt")]
/// use keops_lddmm::registration::Lbfgs;
/// let named = registration.run_with(&mut Lbfgs, None, &mut silent)?;
/// assert_eq!(named.momenta, registration.run(None, &mut silent)?.momenta);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Lbfgs;

impl Optimiser for Lbfgs {
    fn minimise(&mut self, run: &mut Minimisation<'_, '_>) -> Result<Stop, Ended> {
        let most = run.limits.memory;
        loop {
            match iterate(run)? {
                Some((point, value)) => {
                    run.state.pairs += 1;
                    // Without positive curvature along the step the approximation of the inverse Hessian
                    // is not positive definite; a search that gave up early can end at such a point.
                    if !run.advance(point, value)? {
                        run.state.forget(most);
                    }
                    run.ended()?;
                }
                None if run.state.pairs == 0 => return Ok(Stop::Precision),
                // What was learnt on the way misleads here: steepest descent again.
                None => {
                    run.state.forget(most);
                    run.state.evaluations = run.evaluations;
                }
            }
        }
    }
}

/// Asks for the memory of `vectors` vectors and gives it back: argmin cannot be told that there is
/// none.
pub(super) fn ask(vectors: usize, length: usize) -> Result<(), LddmmError> {
    memory::room::<f64>(vectors.saturating_mul(length), "vectors of the minimisation")
        .map(drop)
        .map_err(|e| Error::from(e).into())
}

/// argmin's L-BFGS.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Memory(LBFGS<StrongWolfe, Param, Param, f64>);

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
    pub(super) fn new(first_step: f64, most: usize) -> Memory {
        Memory(LBFGS::new(StrongWolfe::new(first_step), most))
    }
    fn remembered(&self) -> Result<Remembered, serde_json::Error> {
        serde_json::from_value(serde_json::to_value(self)?)
    }
    /// Does it hold what is left of that many pairs of vectors of this length, all finite?
    pub(super) fn is_sound(&self, pairs: usize, length: usize) -> bool {
        let Ok(Remembered { linesearch, m, s, y, l1_coeff: None }) = self.remembered() else {
            return false;
        };
        let mut vectors = s.iter().chain(&y).map(|v| &v.0);
        vectors.all(|v| v.len() == length && v.iter().all(|x| x.is_finite()))
            && linesearch.first_step().is_finite()
            && (s.len(), y.len()) == (pairs.min(m), pairs.min(m))
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

/// The minimisation and what is known of this iteration, for argmin, which moves copies of its problem about.
struct Shared<'s, 'm, 'c> {
    run: &'s mut Minimisation<'m, 'c>,
    /// The lowest point of the search, if it is lower than the state.
    lowest: Option<(Array1<f64>, CostAndGradient)>,
    /// The last point, if it is not the lowest one, with cost and gradient.
    last: Option<(Array1<f64>, f64, Array1<f64>)>,
    left: Option<Ended>,
}

impl Shared<'_, '_, '_> {
    /// Gives cost and gradient to `take`. argmin asks for one after the other, and again for those
    /// of the point that a search returned: each point is evaluated once.
    fn at<T>(
        &mut self,
        point: &Array1<f64>,
        take: impl Fn(f64, &Array1<f64>) -> Result<T, LddmmError>,
    ) -> Result<T, argmin_core::Error> {
        self.evaluated(point)
            .and_then(|()| match (&self.lowest, &self.last) {
                (Some((at, value)), _) if at == point => Ok(take(value.cost, &value.gradient)?),
                (_, Some((_, cost, gradient))) => Ok(take(*cost, gradient)?),
                _ => unreachable!("one of them is this point"),
            })
            .map_err(|left| {
                self.left = Some(left);
                argmin_core::Error::msg("the minimisation was left")
            })
    }
    fn evaluated(&mut self, point: &Array1<f64>) -> Result<(), Ended> {
        let lowest = self.lowest.iter().map(|b| &b.0);
        if lowest.chain(self.last.iter().map(|l| &l.0)).any(|at| at == point) {
            return Ok(());
        }
        let value = self.run.value_at(point)?;
        let at = copied(point)?;
        let lowest = self.lowest.as_ref().map_or(self.run.state.value.cost, |(_, v)| v.cost);
        if value.cost < lowest {
            (self.lowest, self.last) = (Some((at, value)), None);
        } else {
            self.last = Some((at, value.cost, value.gradient));
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Function<'r, 's, 'm, 'c>(&'r RefCell<Shared<'s, 'm, 'c>>);

impl CostFunction for Function<'_, '_, '_, '_> {
    type Param = Param;
    type Output = f64;
    fn cost(&self, point: &Param) -> Result<f64, argmin_core::Error> {
        self.0.borrow_mut().at(&point.0, |cost, _| Ok(cost))
    }
}
impl Gradient for Function<'_, '_, '_, '_> {
    type Param = Param;
    type Gradient = Param;
    fn gradient(&self, point: &Param) -> Result<Param, argmin_core::Error> {
        self.0.borrow_mut().at(&point.0, |_, gradient| Ok(Param(copied(gradient)?)))
    }
}

/// An iteration of argmin, a function of the state alone: a better point, or none where the search
/// finds none. Where it is left in the middle, `run` has its lowest point.
fn iterate(
    run: &mut Minimisation<'_, '_>,
) -> Result<Option<(Array1<f64>, CostAndGradient)>, Ended> {
    let state = &mut run.state;
    // The vectors that argmin and the search make in an iteration, the new pair among them.
    ask(24, state.point.len())?;
    let mut at: IterState<Param, Param, (), (), (), f64> = IterState::new()
        .param(Param(copied(&state.point)?))
        .gradient(Param(copied(&state.value.gradient)?))
        .cost(state.value.cost);
    // By this number L-BFGS knows when it has as many pairs as it may keep.
    at.iter = state.pairs as u64;
    let most = run.limits.memory;
    let mut memory = std::mem::replace(&mut state.memory, Memory::new(state.step, most));
    let shared = RefCell::new(Shared { run, lowest: None, last: None, left: None });
    let went = memory.0.next_iter(&mut Problem::new(Function(&shared)), at);
    let Shared { run, lowest, left, .. } = shared.into_inner();
    run.state.memory = memory;
    // (The search ends at the lowest of its points.)
    match (left, went) {
        (None, Ok((at, _))) if !at.terminated() => Ok(lowest),
        (left, _) => {
            if let Some(own) = lowest.filter(|(_, v)| v.cost < run.lowest()) {
                run.best = Some(own);
            }
            left.map_or(Ok(None), Err)
        }
    }
}

//! The line search of `keops_linalg` (strong Wolfe conditions) for argmin's L-BFGS: momenta where a
//! shooting breaks down only bound the step, and the best point is returned.

use argmin::core::{
    CostFunction, Error, Gradient, IterState, KV, LineSearch, Problem, Solver, State,
    TerminationReason,
};
use keops_linalg::line_search::{Trial, strong_wolfe};
use serde::{Deserialize, Serialize};

use super::norm;
use super::param::Param;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StrongWolfe {
    /// Length of the first step to try along the steepest descent, whose scale means nothing.
    first_step: f64,
    /// Where L-BFGS wants to go in this iteration.
    #[serde(skip)]
    direction: Option<Param>,
}

impl StrongWolfe {
    pub(super) fn new(first_step: f64) -> StrongWolfe {
        StrongWolfe { first_step, direction: None }
    }
    pub(super) fn first_step(&self) -> f64 {
        self.first_step
    }
}

impl LineSearch<Param, f64> for StrongWolfe {
    fn search_direction(&mut self, direction: Param) {
        self.direction = Some(direction);
    }
    fn initial_step_length(&mut self, _: f64) -> Result<(), Error> {
        // L-BFGS scales its directions for the step 1.
        Ok(())
    }
}

type Iter = IterState<Param, Param, (), (), (), f64>;

impl<O> Solver<O, Iter> for StrongWolfe
where
    O: CostFunction<Param = Param, Output = f64> + Gradient<Param = Param, Gradient = Param>,
{
    fn name(&self) -> &str {
        "Moré–Thuente"
    }
    /// The whole search is one iteration.
    fn next_iter(
        &mut self,
        problem: &mut Problem<O>,
        mut state: Iter,
    ) -> Result<(Iter, Option<KV>), Error> {
        let (Some(origin), Some(gradient), Some(Param(mut direction))) =
            (state.take_param(), state.take_gradient(), self.direction.take())
        else {
            return Err(Error::msg("the search has no start or no direction"));
        };
        let steepest = direction.iter().zip(&gradient.0).all(|(d, g)| *d == -g);
        if steepest {
            direction *= self.first_step / norm(&direction);
        }
        let start = Trial { at: 0.0, value: state.get_cost(), slope: gradient.0.dot(&direction) };
        let mut best: Option<(f64, Param)> = None;
        strong_wolfe(start, |at| {
            let mut point = origin.clone();
            point.0.scaled_add(at, &direction);
            let value = problem.cost(&point)?;
            let slope = problem.gradient(&point)?.0.dot(&direction);
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

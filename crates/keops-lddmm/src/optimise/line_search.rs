//! A step that satisfies the strong Wolfe conditions, by the method of Moré & Thuente (ACM TOMS
//! 20, 1994), as in `dcsrch` and `dcstep` of MINPACK-2, for argmin's L-BFGS.
//!
//! argmin has a search of this name, but trial points where the cost does not exist end it (a
//! shooting breaks down where momenta are too large), and it forgets the best point when it gives
//! up. Here such points only bound the step, and the best point is returned.

use argmin::core::{
    CostFunction, Error, Gradient, IterState, KV, LineSearch, Problem, Solver, State,
    TerminationReason,
};
use serde::{Deserialize, Serialize};

use super::{Param, norm};

/// Sufficient decrease: f(α) ≤ f(0) + DECREASE α f'(0).
const DECREASE: f64 = 1e-4;
/// Curvature: |f'(α)| ≤ CURVATURE |f'(0)|.
const CURVATURE: f64 = 0.9;
/// Smallest relative width of the interval that holds the step.
const WIDTH: f64 = 1e-10;
/// Most trial points.
const TRIALS: usize = 25;
const LONGEST: f64 = 1e10;

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
        search(start, |at| {
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

/// Step length with value and slope there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    pub at: f64,
    pub value: f64,
    pub slope: f64,
}

/// Tries steps until one satisfies both conditions, or none can be told to be better; none at all
/// where the cost does not fall along the direction. What is to be kept is kept by `evaluate`, whose
/// errors end the search.
pub(super) fn search<E>(
    start: Trial,
    mut evaluate: impl FnMut(f64) -> Result<Trial, E>,
) -> Result<(), E> {
    if start.slope.is_nan() || start.slope >= 0.0 {
        return Ok(());
    }
    let test = DECREASE * start.slope;
    let mut longest = LONGEST;
    // x is the best end of the interval, y the other one.
    let (mut x, mut y) = (start, start);
    let mut step = 1.0f64;
    let (mut bracketed, mut first_stage) = (false, true);
    let (mut low, mut high) = (0.0, 5.0 * step);
    let (mut width, mut width_before) = (longest, 2.0 * longest);
    for _ in 0..TRIALS {
        let t = evaluate(step)?;
        if !(t.value.is_finite() && t.slope.is_finite()) {
            // Nothing is known there but that it is too far.
            longest = longest.min(step);
            step = x.at + 0.25 * (step - x.at);
            high = high.min(longest);
            if step == x.at {
                return Ok(());
            }
            continue;
        }
        let enough = start.value + step * test;
        if t.value <= enough && t.slope.abs() <= -CURVATURE * start.slope {
            return Ok(());
        }
        let stuck = bracketed && (step <= low || step >= high || high - low <= WIDTH * high);
        if stuck || (step >= longest && t.value <= enough && t.slope <= test) {
            return Ok(());
        }
        if first_stage && t.value <= enough && t.slope >= 0.0 {
            first_stage = false;
        }
        if first_stage && t.value <= x.value && t.value > enough {
            // The auxiliary function ψ(α) = f(α) − DECREASE α f'(0) is used.
            let tilt = |p: Trial, sign: f64| Trial {
                at: p.at,
                value: p.value - sign * p.at * test,
                slope: p.slope - sign * test,
            };
            let (mut xm, mut ym) = (tilt(x, 1.0), tilt(y, 1.0));
            step = next_step(&mut xm, &mut ym, tilt(t, 1.0), &mut bracketed, low, high);
            (x, y) = (tilt(xm, -1.0), tilt(ym, -1.0));
        } else {
            step = next_step(&mut x, &mut y, t, &mut bracketed, low, high);
        }
        if bracketed {
            if (y.at - x.at).abs() >= 0.66 * width_before {
                step = x.at + 0.5 * (y.at - x.at);
            }
            width_before = width;
            width = (y.at - x.at).abs();
            (low, high) = (x.at.min(y.at), x.at.max(y.at));
        } else {
            low = step + 1.1 * (step - x.at);
            high = step + 4.0 * (step - x.at);
        }
        step = step.clamp(0.0, longest);
        if !step.is_finite()
            || bracketed && (step <= low || step >= high || high - low <= WIDTH * high)
        {
            // Rounding leaves nothing to gain.
            return Ok(());
        }
    }
    Ok(())
}

/// The next trial step, and the new interval: cubic and quadratic interpolation, safeguarded
/// (section 4 of Moré & Thuente).
fn next_step(
    x: &mut Trial,
    y: &mut Trial,
    t: Trial,
    bracketed: &mut bool,
    low: f64,
    high: f64,
) -> f64 {
    // The minimiser of the cubic through a and b, as a fraction of the way from b to a; `floor`
    // keeps the discriminant from being negative.
    let cubic = |a: Trial, b: Trial, floor: bool| {
        let theta = 3.0 * (a.value - b.value) / (b.at - a.at) + a.slope + b.slope;
        let s = theta.abs().max(a.slope.abs()).max(b.slope.abs());
        let square = (theta / s).powi(2) - (a.slope / s) * (b.slope / s);
        let root = s * if floor { square.max(0.0) } else { square }.sqrt();
        (theta, root)
    };
    let opposite = t.slope * x.slope.signum() < 0.0;
    let next = if t.value > x.value {
        // A higher value: the minimum is bracketed. The cubic step if it is closer to x, else the
        // mean of the cubic and the quadratic one.
        let (theta, root) = cubic(*x, t, false);
        let gamma = if t.at < x.at { -root } else { root };
        let r = ((gamma - x.slope) + theta) / (((gamma - x.slope) + gamma) + t.slope);
        let cubic_step = x.at + r * (t.at - x.at);
        let secant = (x.value - t.value) / (t.at - x.at) + x.slope;
        let quadratic = x.at + 0.5 * (x.slope / secant) * (t.at - x.at);
        *bracketed = true;
        if (cubic_step - x.at).abs() < (quadratic - x.at).abs() {
            cubic_step
        } else {
            cubic_step + 0.5 * (quadratic - cubic_step)
        }
    } else if opposite {
        // A lower value and a slope of the other sign: bracketed. The farther of both steps.
        let (theta, root) = cubic(*x, t, false);
        let gamma = if t.at > x.at { -root } else { root };
        let r = ((gamma - t.slope) + theta) / (((gamma - t.slope) + gamma) + x.slope);
        let cubic_step = t.at + r * (x.at - t.at);
        let secant = t.at + t.slope / (t.slope - x.slope) * (x.at - t.at);
        *bracketed = true;
        if (cubic_step - t.at).abs() > (secant - t.at).abs() { cubic_step } else { secant }
    } else if t.slope.abs() < x.slope.abs() {
        // A lower value, the slope smaller but of the same sign: the cubic step only where the
        // cubic tends to infinity or has its minimum beyond t.
        let (theta, root) = cubic(*x, t, true);
        let gamma = if t.at > x.at { -root } else { root };
        let r = ((gamma - t.slope) + theta) / ((gamma + (x.slope - t.slope)) + gamma);
        let cubic_step = if r < 0.0 && gamma != 0.0 {
            t.at + r * (x.at - t.at)
        } else if t.at > x.at {
            high
        } else {
            low
        };
        let secant = t.at + t.slope / (t.slope - x.slope) * (x.at - t.at);
        let nearer = (cubic_step - t.at).abs() < (secant - t.at).abs();
        if *bracketed {
            let step = if nearer { cubic_step } else { secant };
            let limit = t.at + 0.66 * (y.at - t.at);
            if t.at > x.at { step.min(limit) } else { step.max(limit) }
        } else {
            if nearer { secant } else { cubic_step }.clamp(low.min(high), high.max(low))
        }
    } else if *bracketed {
        let (theta, root) = cubic(t, *y, false);
        let gamma = if t.at > y.at { -root } else { root };
        let r = ((gamma - t.slope) + theta) / (((gamma - t.slope) + gamma) + y.slope);
        t.at + r * (y.at - t.at)
    } else if t.at > x.at {
        high
    } else {
        low
    };
    if t.value > x.value {
        *y = t;
    } else {
        if opposite {
            *y = *x;
        }
        *x = t;
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(f: impl Fn(f64) -> (f64, f64), start_slope_scale: f64) -> (f64, usize) {
        let at = |a: f64| {
            let (value, slope) = f(a * start_slope_scale);
            Trial { at: a, value, slope: slope * start_slope_scale }
        };
        let mut last = f64::NAN;
        let mut count = 0;
        let searched: Result<(), ()> = search(at(0.0), |a| {
            (last, count) = (a, count + 1);
            Ok(at(a))
        });
        searched.unwrap();
        let (s, t) = (at(0.0), at(last));
        assert!(t.value <= s.value + DECREASE * last * s.slope, "{last}");
        assert!(t.slope.abs() <= -CURVATURE * s.slope, "{last}");
        (last * start_slope_scale, count)
    }

    /// Functions 1 and 2 of Moré & Thuente (section 5) from starts that are far too short and far
    /// too long.
    #[test]
    fn functions_of_the_paper() {
        let first = |a: f64| (-a / (a * a + 2.0), (a * a - 2.0) / (a * a + 2.0).powi(2));
        let second = |a: f64| {
            let b = a + 0.004;
            (b.powi(5) - 2.0 * b.powi(4), 5.0 * b.powi(4) - 8.0 * b.powi(3))
        };
        for start in [1e-3, 0.1, 10.0, 1e3] {
            let (_, count) = run(first, start);
            assert!(count <= 15, "{start}: {count}");
            let (a, count) = run(second, start);
            assert!(count <= 20 && a > 0.0 && a < 2.0, "{start}: {a} {count}");
        }
    }

    #[test]
    fn points_without_a_value_bound_the_step() {
        // −log(1 − a) − 3a: not a number from 1 on, least at 2/3.
        let barrier = |a: f64| {
            if a < 1.0 {
                (-(1.0 - a).ln() - 3.0 * a, 1.0 / (1.0 - a) - 3.0)
            } else {
                (f64::NAN, 0.0)
            }
        };
        for start in [0.5, 1.0, 3.0, 1e4] {
            let (a, _) = run(barrier, start);
            assert!(a > 0.0 && a < 1.0);
        }
    }

    #[test]
    fn nothing_is_tried_uphill() {
        for slope in [0.0, 1.0, f64::NAN] {
            let start = Trial { at: 0.0, value: 1.0, slope };
            assert_eq!(search(start, |_| Err("tried")), Ok(()));
        }
    }
}

//! A step that satisfies the strong Wolfe conditions, by the method of Moré & Thuente (ACM TOMS
//! 20, 1994), as in `dcsrch` and `dcstep` of MINPACK-2.
//!
//! argmin has a search of this name, but trial points where the cost does not exist end it (a
//! covariance has no Cholesky factor, a shooting breaks down), and it forgets the best point when it
//! gives up. Here such points only bound the step, and whoever evaluates keeps the best point.

/// Sufficient decrease: f(α) ≤ f(0) + DECREASE α f'(0).
const DECREASE: f64 = 1e-4;
/// Curvature: |f'(α)| ≤ CURVATURE |f'(0)|.
const CURVATURE: f64 = 0.9;
/// Smallest relative width of the interval that holds the step.
const WIDTH: f64 = 1e-10;
/// Most trial points.
const TRIALS: usize = 25;
const LONGEST: f64 = 1e10;

/// A step length, with what a function has there.
///
/// ```
/// // x² / 2 from x = -2 with the direction 1: at the step 1 it is 1/2, and falls with the slope -1.
/// let trial = keops_linalg::line_search::Trial { at: 1.0, value: 0.5, slope: -1.0 };
/// assert!(trial.value < 2.0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The step length.
    pub at: f64,
    /// The value.
    pub value: f64,
    /// The derivative in the step length.
    pub slope: f64,
}

/// Tries steps until one satisfies both conditions, or none can be told to be better; none at all
/// where the cost does not fall along the direction. What is to be kept is kept by `evaluate`, whose
/// errors end the search. Values and slopes that are not finite only say that the step is too long.
///
/// The first step is 1: the caller scales the direction.
///
/// # Errors
/// Those of `evaluate`.
///
/// ```
/// use keops_linalg::line_search::{Trial, strong_wolfe};
/// // -log(1 - a) - 3a has no value from 1 on, and is least at 2/3.
/// let at = |a: f64| Trial { at: a, value: -(1.0 - a).ln() - 3.0 * a, slope: 1.0 / (1.0 - a) - 3.0 };
/// let mut best = at(0.0);
/// strong_wolfe(best, |a| {
///     let trial = at(a);
///     if trial.value < best.value {
///         best = trial;
///     }
///     Ok::<_, ()>(trial)
/// }).unwrap();
/// assert!(best.at > 0.1 && best.at < 0.95 && best.slope.abs() < 1.8);
/// ```
pub fn strong_wolfe<E>(
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
        let searched: Result<(), ()> = strong_wolfe(at(0.0), |a| {
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
            assert_eq!(strong_wolfe(start, |_| Err("tried")), Ok(()));
        }
    }
}

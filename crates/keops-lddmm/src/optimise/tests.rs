//! Minimisations of functions in closed form: where they end, and with which point.

use super::*;

/// The chained Rosenbrock function: least, 0, at (1, …, 1).
fn rosenbrock(x: &Array1<f64>) -> CostAndGradient {
    let mut gradient = Array1::zeros(x.len());
    let mut cost = 0.0;
    for i in 0..x.len() - 1 {
        let d = x[i + 1] - x[i] * x[i];
        cost += 100.0 * d * d + (1.0 - x[i]).powi(2);
        gradient[i] += -400.0 * x[i] * d - 2.0 * (1.0 - x[i]);
        gradient[i + 1] += 200.0 * d;
    }
    CostAndGradient { cost, energy: 0.0, attachment: cost, gradient }
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
type Function<'f> = &'f mut dyn FnMut(&Array1<f64>) -> Result<CostAndGradient, LddmmError>;
fn go_from(state: State, limits: &Limits, evaluate: Function<'_>) -> Minimum {
    let mut last = state.value.cost;
    let after = &mut |s: &State, _: Duration| {
        assert!(s.value.cost < last, "the cost falls in every iteration");
        last = s.value.cost;
        ControlFlow::Continue(())
    };
    let before = &mut |_: usize| ControlFlow::Continue(());
    minimise(&mut Lbfgs, state, limits, &mut Calls { evaluate, before, after })
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
    let m = minimise(&mut Lbfgs, begin(1.0), &TIGHT, &mut calls);
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

/// An optimiser that evaluates points at these distances along the gradient of the start, and accepts those
/// that are marked.
struct Along(Vec<(f64, bool)>);
impl Optimiser for Along {
    fn minimise(&mut self, run: &mut Minimisation<'_, '_>) -> Result<Stop, Ended> {
        let (start, down) = (run.point().clone(), run.value().gradient.clone());
        for &(length, accepted) in &self.0 {
            let point = &start - &(length * &down);
            let value = run.evaluate(&point)?;
            if accepted {
                run.accept(point, value)?;
            }
        }
        Ok(Stop::Precision)
    }
}

/// The best point is the result whichever were accepted, and a rise is no convergence. The function is
/// half the square of the distance from 0, whose gradient is the point: by a step of length t the cost is
/// (1 − t)² times that of the start, 2.
#[test]
fn the_best_point_is_kept_where_the_cost_rises() {
    let bowl = |x: &Array1<f64>| {
        let cost = 0.5 * x.dot(x);
        CostAndGradient { cost, energy: 0.0, attachment: cost, gradient: x.clone() }
    };
    let run = |steps: &[(f64, bool)], limits: &Limits| {
        let x = Array1::from_vec(vec![2.0, 0.0]);
        let value = bowl(&x);
        let mut calls = Calls {
            evaluate: &mut |x: &Array1<f64>| Ok(bowl(x)),
            before: &mut |_: usize| ControlFlow::Continue(()),
            after: &mut |_: &State, _: Duration| ControlFlow::Continue(()),
        };
        minimise(&mut Along(steps.to_vec()), State::new(x, value, 1.0, 10), limits, &mut calls)
    };
    let lowest = |steps: &[(f64, bool)]| {
        let m = run(steps, &TIGHT);
        assert_eq!(m.stop, Stop::Precision, "{steps:?}");
        let (point, value) = m.best();
        assert_eq!(*value, bowl(point), "{steps:?}");
        value.cost
    };
    let (low, lower, high) = (0.5, 0.75, -0.5); // costs of 0.5, 0.125 and 4.5
    assert_eq!(lowest(&[(high, true)]), 2.0);
    assert_eq!(lowest(&[(high, false)]), 2.0);
    assert_eq!(lowest(&[(low, true), (high, true)]), 0.5);
    assert_eq!(lowest(&[(low, false), (high, true)]), 0.5);
    assert_eq!(lowest(&[(low, true), (high, true), (lower, true)]), 0.125);
    assert_eq!(lowest(&[(lower, true), (high, true), (low, true), (high, true)]), 0.125);
    assert_eq!(lowest(&[(lower, false), (high, true), (low, true), (high, true)]), 0.125);
    assert_eq!(lowest(&[(high, true), (low, false), (2.0 * high, true)]), 0.5);
    // Tolerances look at falls: from 2 to 0.5, a rise to 4.5, and one by less than a tenth.
    let tenth = Limits { cost_tolerance: 0.1, ..TIGHT };
    let m = run(&[(low, true), (high, true), (-0.49, true), (lower, true)], &tenth);
    assert_eq!((m.stop, m.state.iterations), (Stop::CostTolerance, 3));
    assert_eq!(m.best().1.cost, 0.5);
}

/// L-BFGS that another method begins does not take that method's best point for its own.
#[test]
fn a_method_hands_over_to_another() {
    struct Both;
    impl Optimiser for Both {
        fn minimise(&mut self, run: &mut Minimisation<'_, '_>) -> Result<Stop, Ended> {
            let far = Array1::from_elem(20, 1.0);
            run.evaluate(&far)?; // the minimum, which is not accepted
            Lbfgs.minimise(run)
        }
    }
    let ends = |optimiser: &mut dyn Optimiser| {
        let mut costs = vec![];
        let mut calls = Calls {
            evaluate: &mut |x: &Array1<f64>| Ok(rosenbrock(x)),
            before: &mut |_: usize| ControlFlow::Continue(()),
            after: &mut |s: &State, _: Duration| {
                costs.push(s.value.cost);
                ControlFlow::Continue(())
            },
        };
        let best = minimise(optimiser, begin(1.0), &TIGHT, &mut calls).best().1.cost;
        (costs, best)
    };
    let ((both, best), (alone, _)) = (ends(&mut Both), ends(&mut Lbfgs));
    assert_eq!(both, alone);
    assert_eq!(best, 0.0);
}

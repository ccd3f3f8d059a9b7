//! Objectives against closed forms, by the methods of argmin.

mod common;
use argmin::core::{Executor, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::newton::NewtonCG;
use argmin::solver::quasinewton::LBFGS;
use argmin::solver::trustregion::{Steihaug, TrustRegion};
use common::*;
use keops_core::error::Error;
use keops_core::genred::Genred;
use keops_core::spec::Axis;
use keops_linalg::{KernelSolve, Objective, SolveOptions};
use ndarray::{Array2, array};

fn close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= tolerance * (1.0 + w.abs()), "{got:?} not {want:?}");
    }
}

/// `Σ_i (exp x_i - y_i x_i)` has its minimum at `x_i = ln y_i`, and the Hessian diag(exp x).
fn convex() -> (Objective, Vec<f64>, Vec<f64>) {
    let f = sum("Exp(x) - y * x", &["x = Vi(1)", "y = Vi(1)"], Axis::J);
    let y = array![[0.5], [1.0], [3.0], [8.0]];
    let x = Array2::<f64>::zeros((4, 1));
    let objective = Objective::new().free("x", &x).unwrap();
    let objective = objective.term(1.0, &f, ["x".into(), (&*y).into()]).unwrap();
    (objective, vec![0.3; 4], y.iter().map(|y: &f64| y.ln()).collect())
}

#[test]
fn quasi_newton() {
    let (f, start, want) = convex();
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), 7).with_tolerance_grad(1e-10).unwrap();
    let run = Executor::new(f, solver).configure(|s| s.param(start).max_iters(100)).run().unwrap();
    close(run.state.get_best_param().unwrap(), &want, 1e-8);
}

#[test]
fn newton_by_conjugate_gradients() {
    let (f, start, want) = convex();
    let solver = NewtonCG::new(MoreThuenteLineSearch::new());
    let run = Executor::new(f.clone(), solver)
        .configure(|s| s.param(start).max_iters(200))
        .run()
        .unwrap();
    println!("{} iterations, {:?}", run.state.get_iter(), run.state.get_termination_status());
    close(run.state.get_best_param().unwrap(), &want, 1e-5);
    assert!(f.failure().is_none());
}

#[test]
fn trust_region() {
    let (f, start, want) = convex();
    let solver = TrustRegion::new(Steihaug::new().with_max_iters(10));
    let run = Executor::new(f, solver).configure(|s| s.param(start).max_iters(40)).run().unwrap();
    close(run.state.get_best_param().unwrap(), &want, 1e-6);
}

/// `Σ_ij |x_i - x_j|²`, one array on both sides: gradient 4 (N x_i - Σ x), Hessian likewise; and
/// `Σ_ij |x_i - y_j|²` with both free: the mixed part is -2 for each pair.
#[test]
fn derivatives_of_quadratics() {
    let (n, m) = (5, 3);
    let mut random = Random::new(1);
    let (x, y, v, w) =
        (random.matrix(n, 2), random.matrix(m, 2), random.matrix(n, 2), random.matrix(m, 2));
    let f = sum("SqDist(x, y)", &["x = Vi(2)", "y = Vj(2)"], Axis::J);
    let own = Objective::new().free("x", &x).unwrap();
    let own = own.term(1.0, &f, ["x".into(), "x".into()]).unwrap();
    let formula = |x: &Array2<f64>| (x * n as f64 - x.sum_axis(ndarray::Axis(0))) * 4.0;
    let at = own.pack(&[&x]).unwrap();
    close(&own.gradient_at(&at).unwrap(), formula(&x).as_slice().unwrap(), 1e-12);
    let along = own.hessian_product(&at, &own.pack(&[&v]).unwrap()).unwrap();
    close(&along, formula(&v).as_slice().unwrap(), 1e-12);
    let both = Objective::new().free("y", &y).unwrap().free("x", &x).unwrap();
    let both = both.term(0.5, &f, ["x".into(), "y".into()]).unwrap();
    let at = both.pack(&[&y, &x]).unwrap();
    let naive: f64 =
        x.outer_iter().map(|x| y.outer_iter().map(|y| (&x - &y).powi(2).sum()).sum::<f64>()).sum();
    close(&[both.value(&at).unwrap()], &[0.5 * naive], 1e-12);
    let along = both.hessian_product(&at, &both.pack(&[&w, &v]).unwrap()).unwrap();
    let sums = (w.sum_axis(ndarray::Axis(0)), v.sum_axis(ndarray::Axis(0)));
    let (hy, hx) = (&w * n as f64 - &sums.1, &v * m as f64 - &sums.0);
    close(&along, &both.pack(&[&hy, &hx]).unwrap(), 1e-12);
    assert_eq!(both.unpack(&at)[1], x.view().into_dyn());
}

/// Leave-in residual of a kernel ridge solve in the scale of its kernel, by L-BFGS: a composition
/// with a solve inside. One point: a = b / (k + α), k = exp(-s d²), loss (a - t)²: minimum at
/// k = b / t - α, so s = -ln(b / t - α) / d².
#[test]
fn through_a_solve() {
    let solve: KernelSolve = KernelSolve::new(
        "Exp(-s * SqDist(x, y)) * b",
        ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)", "s = Pm(1)"],
        "b",
        Axis::J,
    )
    .unwrap();
    let options = SolveOptions { tolerance: 1e-13, ..SolveOptions::ridge(0.5) };
    let a = solve.function(options).genred().unwrap();
    let loss = sum("Square(a - t)", &["a = Vj(1)", "t = Vj(1)"], Axis::J).compose("a", &a).unwrap();
    assert_eq!(loss.arguments().collect::<Vec<_>>(), ["t", "x", "y", "b", "s"]);
    let (t, x, y, b) = (array![[2.0]], array![[0.0]], array![[1.5]], array![[2.0]]);
    let f = Objective::new().free("s", &array![0.1]).unwrap();
    let args = [(&*t).into(), (&*x).into(), (&*y).into(), (&*b).into(), "s".into()];
    let f = f.term(1.0, &loss, args).unwrap();
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), 5).with_tolerance_grad(1e-9).unwrap();
    let run =
        Executor::new(f, solver).configure(|s| s.param(vec![0.1]).max_iters(60)).run().unwrap();
    close(run.state.get_best_param().unwrap(), &[-(0.5f64.ln()) / 2.25], 1e-6);
}

#[test]
fn what_does_not_fit() {
    let f = sum("SqDist(x, y)", &["x = Vi(2)", "y = Vj(2)"], Axis::J);
    let x = Array2::<f64>::zeros((3, 2));
    let o: Objective = Objective::new().free("x", &x).unwrap();
    let text = |r: Result<Objective, Error>| r.unwrap_err().to_string();
    assert!(text(o.clone().free("x", &x)).contains("two free variables are named `x`"));
    let e = text(o.clone().term(1.0, &f, ["x".into(), "z".into()]));
    assert!(e.contains("no free variable is named `z`, only x"), "{e}");
    assert!(text(o.clone().term(1.0, &f, ["x".into()])).contains("2"));
    let wrong = Array2::<f64>::zeros((3, 1));
    assert!(o.clone().term(1.0, &f, ["x".into(), (&*wrong).into()]).is_err());
    let o = o.term(1.0, &f, ["x".into(), "x".into()]).unwrap();
    assert!(o.value(&[0.0; 5]).is_err());
    assert!(o.pack(&[&wrong]).is_err());
    let _: &Genred = &f;
}

//! MINRES beside SciPy's, on indefinite and singular systems, and with preconditioners.
//! Expected values: scripts/golden/krylov.py.

mod common;
use common::*;
use keops_core::genred::Genred;
use keops_core::spec::Axis;
use keops_linalg::{
    Algebra, Diag, Jacobi, KernelOperator, KernelSolve, LinearOperator, Method, PivotedCholesky,
    Reason, SolveError, SolveOptions, Solver,
};
use ndarray::{Array1, Array2, Array3, Axis as NdAxis, array};
use proptest::prelude::*;
use std::ops::ControlFlow;

fn minres(operator: &dyn LinearOperator) -> Solver<'_, dyn LinearOperator + '_> {
    Solver::of(operator).method(Method::Minres).ridge(0.0)
}
fn kernel(formula: &str) -> Genred {
    sum(&format!("{formula} * b"), &["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"], Axis::J)
}
fn column(b: &[f64]) -> Array3<f64> {
    Array3::from_shape_vec((1, b.len(), 1), b.to_vec()).unwrap()
}

#[test]
fn an_indefinite_kernel_system_as_scipy_solves_it() {
    let (x, b): (Array2<f64>, Array2<f64>) = (golden("x"), golden("b"));
    let gauss = kernel("Exp(-SqDist(x, y) / 0.18)");
    let k = KernelOperator::new(&gauss, "b", (&x, &x)).unwrap();
    let shifted = (&k).shifted(-0.5).unwrap();
    let b = b.insert_axis(NdAxis(0));
    let (a, info) = minres(&shifted).tolerance(1e-12).solve(&b).unwrap();
    assert!(distance(&a, &golden::<ndarray::Ix2>("minres")) < 1e-9);
    assert!(info.converged() && info.systems[0].eigenvalues.unwrap()[0] > 0.0);
    // Conjugate gradients say what it is, and what takes it.
    let e = Solver::of(&shifted as &dyn LinearOperator).ridge(0.0).solve(&b).unwrap_err();
    assert!(e.to_string().contains("Method::Minres"), "{e}");
    // A preconditioner of the definite part: the same solution.
    let jacobi = Jacobi::new(&k).unwrap();
    let solver = minres(&shifted).tolerance(1e-12);
    let (again, _) = solver.preconditioner(&jacobi).solve(&b).unwrap();
    assert!(distance(&again, &a) < 1e-9);
}

#[test]
fn definite_systems_take_as_many_iterations_as_conjugate_gradients() {
    let mut random = Random::new(3);
    let x = random.matrix(200, 2);
    let b = random.matrix(200, 1);
    let solve = KernelSolve::from_sum(kernel("Exp(-SqDist(x, y) / 0.18)"), "b").unwrap();
    let options = SolveOptions { tolerance: 1e-8, ..SolveOptions::ridge(1e-2) };
    let cg = solve.call((&x, &x, &b), &options).unwrap();
    let options = SolveOptions { method: Method::Minres, ..options };
    let own = solve.call((&x, &x, &b), &options).unwrap();
    let (took, least) = (own.info.iterations, cg.info.iterations);
    assert!(10 * took <= 11 * least, "{took} beside {least}");
    assert!(distance(&own.value, &cg.value) < 1e-6);
    let k = KernelOperator::new(solve.sum(), "b", (&x, &x)).unwrap();
    let p = PivotedCholesky::new(&k, 60).unwrap();
    let helped = k.solver().options(options).preconditioner(&p).solve(&b).unwrap();
    assert!(3 * helped.info.iterations < own.info.iterations, "{}", helped.info.iterations);
    assert!(distance(&helped.value, &cg.value) < 1e-6);
    // A gradient solves with the same method.
    let e = random.matrix(200, 1);
    let wrt = &["x"][..];
    let own = solve.vjp((&x, &x, &b), &own.value, &e, wrt, &options).unwrap();
    let options = SolveOptions { method: Method::ConjugateGradients, ..options };
    let cg = solve.vjp((&x, &x, &b), &cg.value, &e, wrt, &options).unwrap();
    assert!(distance(&own.arguments[0], &cg.arguments[0]) < 1e-5);
}

#[test]
fn what_has_no_solution_ends_soon_with_the_smallest_residual() {
    // diag(1, -2, 0) reaches nothing of the third coordinate.
    let d = Diag::new(array![1.0, -2.0, 0.0], 1);
    let e = minres(&d).solve(&column(&[1.0, 1.0, 1.0])).unwrap_err();
    let SolveError::Singular { iteration, residual, partial, .. } = &e else { panic!("{e}") };
    assert!(*iteration <= 3 && (residual - 1.0 / 3f64.sqrt()).abs() < 1e-12);
    let a: Vec<f64> = partial.solution.iter().copied().collect();
    assert!((a[0] - 1.0).abs() < 1e-12 && (a[1] + 0.5).abs() < 1e-12);
    // But one that is consistent is solved.
    let (a, _) = minres(&d).solve(&column(&[1.0, 1.0, 0.0])).unwrap();
    assert!(distance(&a, &[1.0, -0.5, 0.0]) < 1e-12);
    // A large one: eigenvalues on both sides and a null space.
    let d = Array1::from_shape_fn(300, |k| if k % 10 == 0 { 0.0 } else { k as f64 / 100.0 - 1.4 });
    let e = minres(&Diag::new(d, 1)).solve(&column(&[1.0; 300])).unwrap_err();
    let SolveError::Singular { iteration, residual, .. } = &e else { panic!("{e}") };
    assert!(*iteration < 900 && (residual - 0.1f64.sqrt()).abs() < 1e-6, "{e}");
}

#[test]
fn what_goes_wrong_is_said() {
    let ones = column(&[1.0; 4]);
    let nan = Diag::new(array![1.0, f64::NAN, 1.0, 1.0], 1);
    assert!(matches!(minres(&nan).solve(&ones), Err(SolveError::NotFinite { iteration: 0, .. })));
    let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    let skew = sum("(2 + x - y) * b", &aliases, Axis::J);
    let x = array![[0.1], [0.5], [0.9], [0.2]];
    let k = KernelOperator::new(&skew, "b", (&x, &x)).unwrap();
    let e = k.solver().ridge(0.1).method(Method::Minres).solve(&x).unwrap_err();
    assert!(matches!(e, SolveError::NotSymmetric { .. }), "{e}");
    let d = Diag::new(array![1.0, -2.0, 3.0, -4.0], 1);
    let e = minres(&d).max_iterations(2).solve(&ones).unwrap_err();
    let SolveError::IterationLimit { limit: 2, residual, partial, .. } = &e else { panic!("{e}") };
    assert!(*residual < 1.0 && partial.info.systems[0].reason == Reason::IterationLimit);
    let e = minres(&d).observe(|_| ControlFlow::Break(())).solve(&ones).unwrap_err();
    assert!(matches!(e, SolveError::Cancelled { iteration: 1, .. }), "{e}");
    // A preconditioner that is not positive definite.
    struct Minus;
    impl keops_linalg::Preconditioner for Minus {
        fn apply(
            &self,
            _: usize,
            _: f64,
            r: ndarray::ArrayView2<'_, f64>,
        ) -> Result<Array2<f64>, keops_core::error::Error> {
            Ok(-&r)
        }
    }
    let e = minres(&d).preconditioner(&Minus).solve(&ones).unwrap_err();
    assert!(matches!(e, SolveError::Preconditioner { .. }), "{e}");
    // Nothing, one, and a right-hand side of zeros.
    let empty = Diag::new(Array1::zeros(0), 1);
    assert_eq!(minres(&empty).solve(&column(&[])).unwrap().0.len(), 0);
    let one = Diag::new(array![-4.0], 1);
    assert_eq!(minres(&one).solve(&column(&[2.0])).unwrap().0[[0, 0, 0]], -0.5);
    assert_eq!(minres(&d).solve(&column(&[0.0; 4])).unwrap().1.iterations, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Residuals of MINRES fall, whatever the signs of eigenvalues; the order of unknowns is
    /// nothing to it.
    #[test]
    fn residuals_fall(seed in 0u64..1000, n in 2usize..60) {
        let mut random = Random::new(seed);
        let d = Array1::from_shape_simple_fn(n, || random.normal());
        prop_assume!(d.iter().all(|v| v.abs() > 1e-3));
        let b = column(&Array1::from_shape_simple_fn(n, || random.normal()).to_vec());
        let mut seen = vec![1.0];
        let operator = Diag::new(d.clone(), 1);
        let solver = minres(&operator).observe(|p| {
            seen.push(p.residual());
            ControlFlow::Continue(())
        });
        let (a, info) = solver.tolerance(1e-9).solve(&b).unwrap();
        prop_assert!(seen.windows(2).all(|w| w[1] <= w[0] * (1.0 + 1e-10)));
        prop_assert!(info.residual() <= 1e-9);
        let (back, turned) = (Diag::new(d.slice(ndarray::s![..;-1]).to_owned(), 1), b.slice(ndarray::s![.., ..;-1, ..]).to_owned());
        let (other, _) = minres(&back).tolerance(1e-9).solve(&turned).unwrap();
        let other = other.slice(ndarray::s![.., ..;-1, ..]).to_owned();
        prop_assert!(distance(&other, &a) < 1e-5);
    }
}

//! LSMR beside SciPy's and beside normal equations, with damping, of deficient rank, at any scale,
//! and what goes wrong. Expected values: scripts/golden/krylov.py.

mod common;
use common::*;
use keops_core::data::DType;
use keops_core::error::Error;
use keops_core::spec::Axis;
use keops_linalg::{
    AdjointOperator, Algebra, Diag, KernelOperator, LinearOperator, Lsmr, LsmrError, LsmrReason,
    laws,
};
use ndarray::{Array1, Array2, Array3, Axis as NdAxis, Ix1, Ix2, array, s};
use proptest::prelude::*;
use std::ops::ControlFlow;

/// A matrix; the adjoint may be that of another one.
struct Dense(Array2<f64>, Array2<f64>);
impl Dense {
    fn new(a: Array2<f64>) -> Dense {
        Dense(a.clone(), a)
    }
}
impl LinearOperator for Dense {
    fn domain(&self) -> [usize; 2] {
        [self.0.ncols(), 1]
    }
    fn range(&self) -> [usize; 2] {
        [self.0.nrows(), 1]
    }
    fn precision(&self) -> DType {
        DType::F64
    }
    fn columns_independent(&self) -> bool {
        true
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let product: Array2<f64> = self.0.dot(&v.slice(s![0, .., ..]));
        Ok(product.insert_axis(NdAxis(0)))
    }
}
impl AdjointOperator for Dense {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let product: Array2<f64> = self.1.t().dot(&v.slice(s![0, .., ..]));
        Ok(product.insert_axis(NdAxis(0)))
    }
}
const GAUSS: &str = "Exp(-SqDist(x, y) / 0.18) * v";
const ALIASES: [&str; 3] = ["x = Vi(2)", "y = Vj(2)", "v = Vj(1)"];

fn size<'a>(v: impl IntoIterator<Item = &'a f64>) -> f64 {
    v.into_iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[test]
fn solutions_and_reports_are_those_of_scipy() {
    let [x, y, b] = ["x", "y", "b"].map(golden::<Ix2>);
    let gauss = sum(GAUSS, &ALIASES, Axis::J);
    let k = KernelOperator::new(&gauss, "v", (&x, &y)).unwrap();
    let dense = gaussian_matrix(&x, &y, 1.0 / 0.18);
    let exact = |damping: f64| {
        let solver = Lsmr::of(&k).damping(damping).tolerance(0.0).residual_tolerance(0.0);
        solver.max_condition(f64::INFINITY).max_iterations(5000).solve(&b)
    };
    let damped = exact(0.5).unwrap();
    assert!(distance(&damped.solution, &golden::<Ix2>("lsmr_damped")) < 1e-9);
    assert!(distance(&dense.dot(&damped.solution), &golden::<Ix2>("lsmr_damped_fit")) < 1e-9);
    // (Without damping, the condition is beyond 1e8: what is determined is the fit.)
    let plain = match exact(0.0) {
        Ok(plain) => plain.solution.into_dyn(),
        Err(e) => e.partial().unwrap().solution.clone(),
    };
    assert!(distance(&dense.dot(&two(&plain)), &golden::<Ix2>("lsmr_fit")) < 1e-6);
    // At the default tolerances, iteration by iteration. (Without damping, rounding decides when the
    // process has seen everything.)
    for (name, damping, digits) in [("lsmr_report", 0.0, 1e-3), ("lsmr_damped_report", 5.0, 1e-6)] {
        let want = golden::<Ix1>(name);
        let fit = Lsmr::of(&k).damping(damping).solve(&b).unwrap();
        let system = &fit.info.systems[0];
        assert_eq!(system.reason, LsmrReason::LeastSquares);
        let iterations = system.iterations as f64;
        let many = if damping > 0.0 { 0.0 } else { 10.0 };
        assert!((iterations - want[0]).abs() <= many, "{system:?} and {want}");
        let length = size(&fit.solution);
        let above = system.residual.hypot(damping * length);
        assert!((above / want[1] - 1.0).abs() < digits && (length / want[5] - 1.0).abs() < digits);
        assert!(system.gradient <= 1.01e-6 * system.norm * above);
        assert!((0.7..1.3).contains(&(system.norm / want[3])), "{system:?} and {}", want[3]);
        assert!((0.3..3.0).contains(&(system.condition / want[4])), "{system:?} and {}", want[4]);
        if damping > 0.0 {
            assert!((system.gradient / want[2] - 1.0).abs() < digits);
        }
        let r = &b - &dense.dot(&fit.solution);
        let gradient = dense.t().dot(&r) - damping * damping * &fit.solution;
        assert!((size(&r) - system.residual).abs() < 1e-12);
        assert!((size(&gradient) - system.gradient).abs() < 1e-12);
        assert_eq!(fit.info.products, 2 * fit.info.iterations + 3);
    }
}

/// Columns, batches, components that belong together, f32.
#[test]
fn shapes_and_types() {
    let mut random = Random::new(3);
    let (x, y) = (random.matrix(20, 2), random.matrix(6, 2));
    let gauss = gaussian(2, 3);
    let scale = array![2.0];
    let k = KernelOperator::new(&gauss, "b", (&x, &y, &scale)).unwrap();
    laws::all(&k, 1).unwrap();
    let dense = gaussian_matrix(&x, &y, 2.0);
    let b = random.matrix(20, 3);
    let expected =
        |b: &Array2<f64>| cholesky_solve(&dense.t().dot(&dense), 0.01, &dense.t().dot(b).view());
    let solver = || Lsmr::of(&k).damping(0.1).tolerance(1e-12);
    let fit = solver().solve(&b).unwrap();
    assert!(distance(&fit.solution, &expected(&b)) < 1e-8 && fit.info.systems.len() == 3);
    let both = ndarray::stack![NdAxis(0), b, 2.0 * &b];
    let fit = solver().solve(&both).unwrap();
    assert_eq!((fit.solution.dim(), fit.info.systems.len()), ((2, 6, 3), 6));
    assert!(distance(fit.solution.index_axis(NdAxis(0), 1), &(2.0 * &expected(&b))) < 1e-8);
    assert_eq!(
        fit.info.systems[5].system.to_string(),
        "right-hand side of batch element 1, column 2"
    );
    // The adjoint is an operator like others: more unknowns than equations.
    let wide = (&k).adjoint();
    laws::all(&wide, 2).unwrap();
    let c = random.matrix(6, 3);
    let fit = Lsmr::of(&wide).tolerance(1e-13).residual_tolerance(1e-12).solve(&c).unwrap();
    let weights = cholesky_solve(&dense.t().dot(&dense), 0.0, &c.view());
    assert!(distance(&fit.solution, &dense.dot(&weights)) < 1e-6); // of smallest norm
    assert!(fit.info.systems.iter().all(|s| s.reason == LsmrReason::Compatible));
    // Blocks x yᵀ: components are one unknown vector.
    let blocks = sum("(y | v) * x", &["x = Vi(2)", "y = Vj(2)", "v = Vj(2)"], Axis::J);
    let k = KernelOperator::new(&blocks, "v", (&x, &y)).unwrap();
    let b = &x * 3.0; // of z yᵀ v: v = 3 y / |y|²
    let fit = Lsmr::of(&k).tolerance(1e-14).solve(&b).unwrap();
    let square = y.iter().map(|v| v * v).sum::<f64>();
    assert!(distance(&fit.solution, &(&y * (3.0 / square))) < 1e-12);
    assert_eq!(fit.info.systems[0].system.column, None);
    // In f32 the default tolerances are reached.
    let gauss = sum(GAUSS, &ALIASES, Axis::J);
    let (x32, y32) = (x.mapv(|v| v as f32), y.mapv(|v| v as f32));
    let k = KernelOperator::new(&gauss, "v", (&x32, &y32)).unwrap();
    let fit = Lsmr::of(&k).damping(0.1).solve(&b.column(0)).unwrap();
    let dense = gaussian_matrix(&x, &y, 1.0 / 0.18);
    let b = b.slice(s![.., ..1]);
    let want = cholesky_solve(&dense.t().dot(&dense), 0.01, &dense.t().dot(&b).view());
    assert!(distance(&fit.solution, &want) < 1e-4);
}

#[test]
fn deficient_ranks_and_scales() {
    // Two columns alike: the solution of smallest norm halves.
    let a = array![[1.0, 1.0, 0.0], [2.0, 2.0, 1.0], [0.0, 0.0, 3.0], [1.0, 1.0, 1.0]];
    let b = a.dot(&array![2.0, 4.0, -1.0]);
    for scale in [1e-200, 1.0, 1e150] {
        let fit = Lsmr::of(&Dense::new(&a * scale)).solve(&b).unwrap();
        let want = array![3.0, 3.0, -1.0] / scale;
        assert!(distance(&fit.solution, &want) < 1e-6, "{}", fit.solution);
        assert!((fit.info.systems[0].norm / (scale * size(&a)) - 1.0).abs() < 0.5);
        let fit = Lsmr::of(&Dense::new(a.clone())).solve(&(&b * scale)).unwrap();
        assert!(distance(&fit.solution, &(array![3.0, 3.0, -1.0] * scale)) < 1e-6);
    }
    // Nothing to do: b = 0, b that the operator does not reach, no unknowns.
    let d = Diag::new(array![1.0, 0.0], 1);
    let fit = Lsmr::of(&d).solve(&array![0.0, 0.0]).unwrap();
    assert_eq!((fit.solution, fit.info.iterations), (array![0.0, 0.0], 0));
    let fit = Lsmr::of(&d).solve(&array![0.0, 5.0]).unwrap();
    assert_eq!((fit.solution, fit.info.systems[0].residual), (array![0.0, 0.0], 5.0));
    assert_eq!(fit.info.systems[0].reason, LsmrReason::LeastSquares);
    let empty = Diag::new(Array1::zeros(0), 1);
    assert_eq!(Lsmr::of(&empty).solve(&Array1::zeros(0)).unwrap().solution.len(), 0);
}

#[test]
fn what_goes_wrong_is_said() {
    let d = Diag::new(Array1::from_shape_fn(30, |k| 10f64.powi(-(k as i32) / 2)), 1);
    let ones = Array1::<f64>::ones(30);
    let e = Lsmr::of(&d).max_condition(1e3).tolerance(1e-12).residual_tolerance(0.0).solve(&ones);
    let e = e.unwrap_err();
    let LsmrError::Condition { condition, partial, .. } = &e else { panic!("{e}") };
    assert!(*condition >= 1e3 && partial.solution.len() == 30, "{condition}");
    let e = Lsmr::of(&d).max_iterations(2).solve(&ones).unwrap_err();
    assert!(matches!(e, LsmrError::IterationLimit { limit: 2, .. }), "{e}");
    let mut seen = vec![];
    let e = Lsmr::of(&d).observe(|p| {
        seen.push(p.residual());
        if p.iteration == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let e = e.solve(&ones).unwrap_err();
    assert!(matches!(e, LsmrError::Cancelled { iteration: 3, .. }), "{e}");
    assert!(seen.len() == 3 && seen.windows(2).all(|w| w[1] < w[0]));
    let mut random = Random::new(1);
    let (a, other) = (random.matrix(20, 10), random.matrix(20, 10));
    let e =
        Lsmr::of(&Dense(a.clone(), &a + &(0.1 * &other))).tolerance(1e-10).solve(&Array1::ones(20));
    let e = e.unwrap_err();
    assert!(matches!(e, LsmrError::Inaccurate { .. } | LsmrError::IterationLimit { .. }), "{e}");
    for (bad, b) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, 1.0)] {
        let d = Diag::new(array![1.0, bad], 2);
        let e = Lsmr::of(&d).solve(&array![[1.0, 1.0], [0.0, b]]).unwrap_err();
        assert!(matches!(e, LsmrError::NotFinite { .. }), "{e}");
        // (The other column is solved, where the operator lets it.)
        if b.is_nan() {
            let partial = e.partial().unwrap();
            assert_eq!(partial.info.systems[0].reason, LsmrReason::Compatible);
            assert!((partial.solution[[0, 0]] - 1.0).abs() < 1e-12);
        }
    }
    let e = Lsmr::of(&d).solve(&Array1::ones(29)).unwrap_err().to_string();
    assert!(e.contains("right-hand side") && e.contains("(30, 1)"), "{e}");
    assert!(Lsmr::of(&d).damping(-1.0).solve(&ones).is_err());
    assert!(Lsmr::of(&d).tolerance(f64::NAN).solve(&ones).is_err());
    assert!(Lsmr::of(&d).max_condition(0.0).solve(&ones).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Beside the normal equations, and invariant to the order of equations.
    #[test]
    fn normal_equations(seed in 0u64..1000, n in 1usize..40, m in 1usize..40, damped in any::<bool>()) {
        let mut random = Random::new(seed);
        let a = random.matrix(n, m) - 0.5;
        let damping = if damped || n <= m + 5 { 0.3 } else { 0.0 };
        let b = Array1::from_shape_simple_fn(n, || random.normal());
        let dense = Dense::new(a.clone());
        laws::adjoint(&dense, seed).unwrap();
        let solver = |o| Lsmr::of(o).damping(damping).tolerance(1e-12).max_iterations(2000);
        let fit = solver(&dense).solve(&b).unwrap();
        let gram = a.t().dot(&a);
        let right = a.t().dot(&b).insert_axis(NdAxis(1));
        let want = cholesky_solve(&gram, damping * damping, &right.view());
        prop_assert!(distance(&fit.solution, &want) < 1e-6);
        let back = Dense::new(a.slice(s![..;-1, ..]).to_owned());
        let other = solver(&back).solve(&b.slice(s![..;-1]).to_owned()).unwrap();
        prop_assert!(distance(&other.solution, &fit.solution) < 1e-6);
    }
}

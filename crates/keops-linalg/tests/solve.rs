//! Solving: against dense factorisations, on what goes wrong, and as properties.

mod common;
use common::*;
use half::f16;
use keops_core::data::{DType, Element};
use keops_core::error::{Error, InputError};
use keops_core::genred::Genred;
use keops_core::ranges::Ranges;
use keops_core::spec::{Axis, Device};
use keops_linalg::{
    KernelOperator, KernelSolve, LinearOperator, Reason, SolveError, SolveOptions, SystemId,
};
use ndarray::{Array2, Array3, ArrayD, Axis as NdAxis, array, concatenate, s};
use proptest::prelude::*;

fn tight(ridge: f64) -> SolveOptions {
    SolveOptions { tolerance: 1e-12, ..SolveOptions::ridge(ridge) }
}
fn solver(formula: &str, aliases: &[&str], axis: Axis) -> KernelSolve {
    KernelSolve::new(formula, aliases, "b", axis).unwrap()
}

#[test]
fn solutions_are_those_of_a_dense_factorisation() {
    let mut random = Random::new(1);
    let (x, b) = (random.matrix(60, 2), random.matrix(60, 3));
    let s = array![3.0];
    let dense = gaussian_matrix(&x, &x, 3.0);
    let expected = cholesky_solve(&dense, 0.1, &b.view());
    let over_j = KernelSolve::from_sum(gaussian(2, 3), "b").unwrap();
    let over_i = solver(
        "b * Exp(-s * SqDist(y, x))",
        &["x=Vi(2)", "y=Vj(2)", "b=Vi(3)", "s=Pm(1)"],
        Axis::I,
    );
    for solve in [over_j, over_i] {
        let solution = solve.call((&x, &x, &b, &s), &tight(0.1)).unwrap();
        // The condition number is about 60 / 0.1, the residual below 1e-12.
        assert!(distance(&solution.value, &expected) < 1e-10);
        let info = solution.info;
        assert!(info.converged() && info.systems.len() == 3);
        for (c, (system, own)) in info
            .systems
            .iter()
            .zip(residuals(&dense, 0.1, &two(&solution.value), &b.view()))
            .enumerate()
        {
            assert_eq!(system.system, SystemId { batch: 0, column: Some(c) });
            assert!(system.iterations > 3 && system.iterations <= info.iterations);
            assert!(
                own <= 1e-12 && (own - system.residual).abs() < 1e-14,
                "{own} and {}",
                system.residual
            );
        }
        assert_eq!(info.residual(), info.systems.iter().map(|s| s.residual).fold(0.0, f64::max));
    }
}

/// Blocks `k(x_i, x_j) I + x_i x_jᵀ`: one system for all components.
#[test]
fn matrix_valued_kernels_are_one_system() {
    let mut random = Random::new(2);
    let (x, b) = (random.matrix(20, 3), random.matrix(20, 3));
    let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(3)"];
    let solve = solver("Exp(-SqDist(x, y)) * b + (y | b) * x", &aliases, Axis::J);
    let solution = solve.call((&x, &x, &b), &tight(0.2)).unwrap();
    let k = gaussian_matrix(&x, &x, 1.0);
    let dense = Array2::from_shape_fn((60, 60), |(p, q)| {
        let ((i, c), (j, d)) = ((p / 3, p % 3), (q / 3, q % 3));
        (c == d) as u8 as f64 * k[[i, j]] + x[[i, c]] * x[[j, d]]
    });
    let column = b.into_shape_with_order((60, 1)).unwrap();
    let expected = cholesky_solve(&dense, 0.2, &column.view());
    assert!(distance(&solution.value, &expected) < 1e-10);
    assert_eq!(solution.info.systems.len(), 1);
    assert_eq!(solution.info.systems[0].system, SystemId { batch: 0, column: None });
}

/// With one step length for all columns, as in KeOps, the easy columns would wait for the hard
/// one, and the scale of one would decide when all stop.
#[test]
fn columns_converge_on_their_own() {
    let mut random = Random::new(3);
    let x = random.matrix(80, 2);
    let dense = gaussian_matrix(&x, &x, 1.0);
    let (ridge, options) = (1e-3, SolveOptions::ridge(1e-3));
    let mut b = random.matrix(80, 4);
    b.column_mut(0).fill(0.0);
    // Nearly an eigenvector: the power method.
    let mut top = b.column(1).to_owned();
    for _ in 0..200 {
        top = dense.dot(&top);
        top /= top.dot(&top).sqrt();
    }
    b.column_mut(1).assign(&top);
    b.column_mut(2).mapv_inplace(|v| 1e-90 * v);
    b.column_mut(3).mapv_inplace(|v| 1e150 * v);
    let solve = KernelSolve::from_sum(gaussian(2, 4), "b").unwrap();
    let one = KernelSolve::from_sum(gaussian(2, 1), "b").unwrap();
    let args = array![1.0];
    let all = solve.call((&x, &x, &b, &args), &options).unwrap();
    let iterations: Vec<_> = all.info.systems.iter().map(|s| s.iterations).collect();
    assert_eq!(iterations[0], 0);
    assert!(iterations[1] <= 2 && iterations[2] > 10 && iterations[3] > 10, "{iterations:?}");
    assert_eq!(all.info.iterations, *iterations.iter().max().unwrap());
    assert!(two(&all.value).column(0).iter().all(|&v| v == 0.0));
    let residual =
        residuals(&dense, ridge, &two(&all.value).slice(s![.., 1..3]), &b.slice(s![.., 1..3]));
    assert!(residual.iter().all(|&r| r <= 1e-6), "{residual:?}");
    for (c, &iterations) in iterations.iter().enumerate().skip(1) {
        let own = one.call((&x, &x, &b.slice(s![.., c..c + 1]), &args), &options).unwrap();
        assert!(own.info.iterations.abs_diff(iterations) <= 2);
        assert!(distance(own.value.iter(), two(&all.value).column(c)) < 1e-4);
    }
}

#[test]
fn batches_are_systems_of_their_own() {
    let mut random = Random::new(4);
    // Three kernels, two right-hand sides for each.
    let (x, s, b) =
        (random.array(&[3, 25, 2]), random.array(&[3, 1]), random.array(&[2, 1, 25, 1]));
    let s = s + 1.0;
    let solve = KernelSolve::from_sum(gaussian(2, 1), "b").unwrap();
    let all = solve.call((&x, &x, &b, &s), &tight(0.1)).unwrap();
    assert_eq!(all.value.shape(), [2, 3, 25, 1]);
    assert_eq!(all.info.systems.len(), 6);
    for (k, system) in all.info.systems.iter().enumerate() {
        assert_eq!(system.system, SystemId { batch: k, column: Some(0) });
        let x = x.index_axis(NdAxis(0), k % 3).to_owned();
        let x = two(&x).to_owned();
        let dense = gaussian_matrix(&x, &x, s[[k % 3, 0]]);
        let b = b.slice(s![k / 3, 0, .., ..]);
        let got = all.value.slice(s![k / 3, k % 3, .., ..]);
        assert!(distance(got.iter(), &cholesky_solve(&dense, 0.1, &b)) < 1e-10);
    }
}

#[test]
fn block_sparse_ranges_keep_clusters_apart() {
    let mut random = Random::new(5);
    let (x, b) = (random.matrix(30, 2), random.matrix(30, 1));
    let ends = [12, 30];
    let ranges = Ranges::from_clusters(&ends, &ends, &[true, false, false, true]).unwrap();
    let solve = KernelSolve::from_sum(gaussian(2, 1).ranges(ranges), "b").unwrap();
    let all = solve.call((&x, &x, &b, &array![2.0]), &tight(0.05)).unwrap();
    let part = |a: usize, z: usize| {
        let own = x.slice(s![a..z, ..]).to_owned();
        cholesky_solve(&gaussian_matrix(&own, &own, 2.0), 0.05, &b.slice(s![a..z, ..]))
    };
    let expected = concatenate![NdAxis(0), part(0, 12), part(12, 30)];
    assert!(distance(&all.value, &expected) < 1e-10);
}

#[test]
fn narrow_types() {
    let mut random = Random::new(6);
    let (x, b) =
        (random.matrix(50, 2).mapv(f16::from_f64), random.matrix(50, 1).mapv(f16::from_f64));
    let s = array![2.0];
    let exact = x.mapv(f64::from);
    let dense = gaussian_matrix(&exact, &exact, 2.0);
    let expected = cholesky_solve(&dense, 0.5, &b.mapv(f64::from).view());
    let options = SolveOptions::ridge(0.5);

    let (x32, b32, s32) = (x.mapv(f32::from), b.mapv(f32::from), array![2.0f32]);
    let solve = KernelSolve::from_sum(gaussian(2, 1), "b").unwrap();
    let single = solve.call((&x32, &x32, &b32, &s32), &options).unwrap();
    let wide = single.value.mapv(f64::from);
    assert!(distance(&wide, &expected) < 1e-5);
    let residual = residuals(&dense, 0.5, &two(&wide), &b.mapv(f64::from).view())[0];
    assert!(residual < 2e-6, "{residual}");

    let s16 = s.mapv(f16::from_f64);
    let half = solve.call((&x, &x, &b, &s16), &options).unwrap();
    assert_eq!(half.value, single.value.mapv(|v| f16::of_f64(v.to_f64())));
    let operator = KernelOperator::new(solve.sum(), "b", (&x, &x, &s16)).unwrap();
    assert_eq!(operator.solve(&b32, &options).unwrap(), single);
}

#[test]
fn a_first_guess_saves_its_iterations() {
    let mut random = Random::new(7);
    let (x, b, s) = (random.matrix(80, 2), random.matrix(80, 1), array![1.0]);
    let solve = KernelSolve::from_sum(gaussian(2, 1), "b").unwrap();
    let options = SolveOptions::ridge(1e-2);
    let rough = solve.call((&x, &x, &b, &s), &SolveOptions { tolerance: 1e-2, ..options }).unwrap();
    let cold = solve.call((&x, &x, &b, &s), &options).unwrap();
    let warm =
        solve.solver().options(options).first_guess(&rough.value).call((&x, &x, &b, &s)).unwrap();
    assert!(warm.info.converged() && warm.info.iterations < cold.info.iterations);
    let again =
        solve.solver().options(options).first_guess(&warm.value).call((&x, &x, &b, &s)).unwrap();
    assert_eq!((again.info.iterations, &again.value), (0, &warm.value));
    // Of a zero right-hand side the guess does not matter.
    let zero =
        solve.solver().options(options).first_guess(&b).call((&x, &x, &(0.0 * &b), &s)).unwrap();
    assert!(zero.value.iter().all(|&v| v == 0.0) && zero.info.products == 0);
}

#[test]
fn nothing_to_solve() {
    let solve = KernelSolve::from_sum(gaussian(2, 2), "b").unwrap();
    let (x, b, s) = (Array2::<f64>::zeros((0, 2)), Array2::<f64>::zeros((0, 2)), array![1.0]);
    let none = solve.call((&x, &x, &b, &s), &SolveOptions::default()).unwrap();
    assert_eq!((none.value.shape(), none.info.iterations), (&[0, 2][..], 0));
    assert_eq!((none.info.residual(), none.info.condition()), (0.0, 1.0));
    let x = Random::new(8).matrix(3, 2);
    let b = ArrayD::<f64>::zeros(&[0, 3, 2][..]);
    let none = solve.call((&x, &x, &b, &s), &SolveOptions::default()).unwrap();
    assert_eq!((none.value.shape(), none.info.systems.len()), (&[0, 3, 2][..], 0));
}

#[test]
fn shapes_and_options_are_checked() {
    let mut random = Random::new(9);
    let (x, y, b, s) = (random.matrix(6, 2), random.matrix(5, 2), random.matrix(5, 1), array![1.0]);
    let solve = KernelSolve::from_sum(gaussian(2, 1), "b").unwrap();
    let options = SolveOptions::default();
    assert_eq!(
        solve.call((&x, &y, &b, &s), &options).err(),
        Some(SolveError::NotSquare { rows: 6, row_dim: 1, columns: 5, column_dim: 1 })
    );
    let input = |r: Result<_, SolveError>| match r {
        Err(SolveError::Core(Error::Input(e))) => e,
        other => panic!("{other:?}"),
    };
    match input(solve.call((&x, &x, &b, &s), &options)) {
        InputError::Disagree { name, expected, got, .. } => {
            assert!(["b", "y"].contains(&&name[..]) && expected + got == 11, "{name}");
        }
        other => panic!("{other:?}"),
    }
    let flat = array![1.0, 2.0];
    assert!(
        matches!(input(solve.call((&x, &x, &flat, &s), &options)), InputError::Shape { name, .. } if name == "b")
    );
    assert!(matches!(
        input(solve.call((&x, &x, &b), &options)),
        InputError::Count { expected: 4, got: 3, .. }
    ));
    let guess = random.matrix(6, 1);
    let r = solve.solver().options(options).first_guess(&guess).call((&y, &y, &b, &s));
    assert!(matches!(input(r), InputError::Shape { name, .. } if name.contains("guess")));
    for bad in [
        SolveOptions::ridge(f64::NAN),
        SolveOptions { tolerance: 0.0, ..options },
        SolveOptions { tolerance: f64::NAN, ..options },
    ] {
        assert!(matches!(input(solve.call((&y, &y, &b, &s), &bad)), InputError::Option(_)));
    }
}

/// What is not finite is seen at iteration 0, and stays in its column.
#[test]
fn not_finite() {
    let mut random = Random::new(10);
    let (x, mut b, s) = (random.matrix(10, 2), random.matrix(10, 3), array![1.0]);
    let solve = KernelSolve::from_sum(gaussian(2, 3), "b").unwrap();
    let options = SolveOptions::ridge(0.1);
    let good = solve.call((&x, &x, &b, &s), &options).unwrap();
    for bad in [f64::NAN, f64::INFINITY] {
        b[[4, 1]] = bad;
        match solve.call((&x, &x, &b, &s), &options) {
            Err(SolveError::NotFinite { system, iteration: 0, partial }) => {
                assert_eq!(system, SystemId { batch: 0, column: Some(1) });
                let reasons: Vec<_> = partial.info.systems.iter().map(|s| s.reason).collect();
                assert_eq!(reasons, [Reason::Converged, Reason::NotFinite, Reason::Converged]);
                for c in [0, 2] {
                    assert!(
                        distance(two(&partial.solution).column(c), two(&good.value).column(c))
                            < 1e-12
                    );
                }
                assert!(partial.info.residual().is_nan());
            }
            other => panic!("{other:?}"),
        }
    }
    b[[4, 1]] = 1.0;
    let mut guess = Array2::zeros((10, 3));
    guess[[0, 2]] = f64::NAN;
    let r = solve.solver().options(options).first_guess(&guess).call((&x, &x, &b, &s));
    assert!(
        matches!(r, Err(SolveError::NotFinite { iteration: 0, system, .. }) if system.column == Some(2))
    );
    let mut holes = x.clone();
    holes[[3, 0]] = f64::NAN;
    let r = solve.call((&x, &holes, &b, &s), &options);
    assert!(matches!(r, Err(SolveError::NotFinite { iteration: 0, .. })));
    let r = solve.call((&x, &x, &b, &array![f64::NAN]), &options);
    assert!(matches!(r, Err(SolveError::NotFinite { iteration: 0, .. })));
}

#[test]
fn indefinite_and_not_symmetric() {
    let mut random = Random::new(11);
    let (x, b) = (random.matrix(30, 1), random.matrix(30, 1));
    let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    // -|x - y| is conditionally positive definite: one eigenvalue is negative.
    let distances = solver("-Norm2(x - y) * b", &aliases, Axis::J);
    match distances.call((&x, &x, &b), &SolveOptions::default()) {
        Err(SolveError::Indefinite { iteration, curvature, partial, .. }) => {
            assert!(curvature < 0.0 && iteration < 30);
            assert_eq!(partial.info.systems[0].reason, Reason::Indefinite { curvature });
        }
        other => panic!("{other:?}"),
    }
    let shifted = distances.call((&x, &x, &b), &SolveOptions::ridge(30.0)).unwrap();
    assert!(shifted.info.converged());
    // The zero operator.
    let zero = solver("IntCst(0) * x * b", &aliases, Axis::J);
    let r = zero.call((&x, &x, &b), &SolveOptions::ridge(0.0));
    assert!(matches!(r, Err(SolveError::Singular { iteration: 0, .. })), "{r:?}");

    // Positive definite symmetric part, but not symmetric.
    let skew = solver("(Exp(-Square(x - y)) + x - y) * b", &aliases, Axis::J);
    match skew.call((&x, &x, &b), &SolveOptions::ridge(10.0)) {
        Err(SolveError::NotSymmetric { iteration: 1, asymmetry, .. }) => assert!(asymmetry > 1e-3),
        other => panic!("{other:?}"),
    }
    // Other points on the two sides, by mistake.
    let gauss = KernelSolve::from_sum(gaussian(1, 1), "b").unwrap();
    let y = random.matrix(30, 1);
    let r = gauss.call((&x, &y, &b, &array![30.0]), &SolveOptions::ridge(1e-3));
    assert!(matches!(r, Err(SolveError::NotSymmetric { .. })), "{r:?}");
    // Without the check, the iteration fails all the same, but cannot say why.
    let unchecked = SolveOptions { check_symmetry: false, ..SolveOptions::ridge(1e-3) };
    let r = gauss.call((&x, &y, &b, &array![30.0]), &unchecked);
    assert!(!matches!(r, Ok(_) | Err(SolveError::NotSymmetric { .. })), "{r:?}");
}

#[test]
fn the_limit_leaves_the_best_iterate() {
    let mut random = Random::new(12);
    let (x, b, s) = (random.matrix(60, 2), random.matrix(60, 2), array![4.0]);
    let dense = gaussian_matrix(&x, &x, 4.0);
    let solve = KernelSolve::from_sum(gaussian(2, 2), "b").unwrap();
    let options = SolveOptions { max_iterations: Some(5), ..SolveOptions::ridge(1e-3) };
    match solve.call((&x, &x, &b, &s), &options) {
        Err(SolveError::IterationLimit { limit: 5, residual, partial, .. }) => {
            let own = residuals(&dense, 1e-3, &two(&partial.solution), &b.view());
            for (info, own) in partial.info.systems.iter().zip(&own) {
                assert!((info.residual - own).abs() < 1e-10 && *own > 1e-6, "{own}");
                assert_eq!((info.iterations, info.reason), (5, Reason::IterationLimit));
            }
            assert_eq!(residual, partial.info.systems[0].residual);
            // Nothing is lost: the iteration can go on from there.
            let rest = solve
                .solver()
                .options(SolveOptions::ridge(1e-3))
                .first_guess(&partial.solution)
                .call((&x, &x, &b, &s));
            assert!(rest.unwrap().info.converged());
        }
        other => panic!("{other:?}"),
    }
    let none = SolveOptions { max_iterations: Some(0), ..options };
    match solve.call((&x, &x, &b, &s), &none) {
        Err(SolveError::IterationLimit { limit: 0, residual, .. }) => assert_eq!(residual, 1.0),
        other => panic!("{other:?}"),
    }
}

/// In f32, an operator of condition 1e10 is singular, with negative eigenvalues of the size of
/// rounding, and does not reach any right-hand side to 1e-6: an error says so, with what was
/// reached, long before the limit; in f64 it does.
#[test]
fn rounding_makes_singular() {
    let mut random = Random::new(13);
    let (x, b) = (random.matrix(60, 1), random.matrix(60, 1));
    let solve = KernelSolve::from_sum(gaussian(1, 1), "b").unwrap();
    let options = SolveOptions { max_iterations: Some(100_000), ..SolveOptions::ridge(1e-9) };
    let wide = solve.call((&x, &x, &b, &array![1.0]), &options).unwrap();
    assert!(wide.info.condition() > 1e9, "{}", wide.info.condition());
    let (x, b) = (x.mapv(|v| v as f32), b.mapv(|v| v as f32));
    match solve.call((&x, &x, &b, &array![1.0f32]), &options) {
        Err(e @ SolveError::Singular { .. }) => {
            assert!(e.to_string().contains("singular in f32") && e.to_string().contains("use f64"));
            let system = &e.partial().unwrap().info.systems[0];
            assert!(system.iterations < 1000 && system.residual > 1e-6 && system.residual < 1.0);
        }
        other => panic!("{other:?}"),
    }
}

/// Extreme Ritz values against a known spectrum: `1 1ᵀ + ridge I` has eigenvalues ridge and
/// `ridge + n`.
#[test]
fn the_condition_estimate() {
    let ones = solver("x * y * b", &["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"], Axis::J);
    let x = Array2::<f64>::ones((40, 1));
    let b = Random::new(14).matrix(40, 1);
    let info = ones.call((&x, &x, &b), &SolveOptions::ridge(0.5)).unwrap().info;
    let [low, high] = info.systems[0].eigenvalues.unwrap();
    assert!((low / 0.5 - 1.0).abs() < 1e-3 && (high / 40.5 - 1.0).abs() < 1e-3, "{low}, {high}");
    assert!((info.condition() / 81.0 - 1.0).abs() < 1e-3);
    // Two eigenvalues, two iterations; one more product verifies.
    assert_eq!((info.iterations, info.products), (2, 3));
}

/// A dense operator whose product number k is wrong by the factor `1 + fault(k)`.
struct Faulty {
    matrix: Array2<f64>,
    fault: fn(usize) -> f64,
    products: std::cell::Cell<usize>,
}
impl LinearOperator for Faulty {
    fn domain(&self) -> [usize; 2] {
        [self.matrix.ncols(), 1]
    }
    fn range(&self) -> [usize; 2] {
        [self.matrix.nrows(), 1]
    }
    fn precision(&self) -> DType {
        DType::F64
    }
    fn columns_independent(&self) -> bool {
        true
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let factor = 1.0 + (self.fault)(self.products.get());
        self.products.set(self.products.get() + 1);
        let column = v.index_axis(NdAxis(0), 0);
        Ok((factor * self.matrix.dot(&column)).insert_axis(NdAxis(0)))
    }
}

/// The recurrence does not notice a product that was wrong: recomputed residuals do.
#[test]
fn drift_is_repaired_or_reported() {
    let mut random = Random::new(15);
    let x = random.matrix(40, 2);
    let matrix = gaussian_matrix(&x, &x, 2.0);
    let b = Array3::from_shape_simple_fn((1, 40, 1), || random.next());
    let options =
        SolveOptions { tolerance: 1e-9, check_symmetry: false, ..SolveOptions::ridge(0.1) };
    let run = |fault: fn(usize) -> f64| {
        let operator = Faulty { matrix: matrix.clone(), fault, products: Default::default() };
        conjugate_gradients(&operator, &b, None, &options)
    };
    let right = |a: &Array3<f64>| {
        let (a, b) = (a.index_axis(NdAxis(0), 0), b.index_axis(NdAxis(0), 0));
        residuals(&matrix, 0.1, &a, &b)[0]
    };
    let (a, exact) = run(|_| 0.0).unwrap();
    assert!(right(&a) <= 1e-9 && exact.products == exact.iterations + 1);
    // Once: a restart repairs it.
    let (a, info) = run(|k| if k == 3 { 1e-4 } else { 0.0 }).unwrap();
    assert!(right(&a) <= 1e-9 && info.iterations > exact.iterations);
    assert!(info.products > info.iterations + 1);
    // Always: no residual can be trusted below that.
    match run(|k| 1e-5 * (k % 3) as f64) {
        Err(SolveError::Stagnated { residual, partial, .. }) => {
            let a = partial.solution.into_dimensionality().unwrap();
            assert!(residual > 1e-9 && residual < 1e-3 && right(&a) < 1e-3, "{residual}");
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Residuals are true, whatever the system; points and right-hand sides may be permuted and
    /// scaled (by powers of two: to the bit).
    #[test]
    fn residuals_permutations_scales(
        seed in any::<u64>(),
        n in 1usize..40,
        columns in 1usize..4,
        log_ridge in -6i32..1,
        exponent in -400i32..400,
    ) {
        let mut random = Random::new(seed);
        let (x, b, s) = (random.matrix(n, 2), random.matrix(n, columns), array![1.0 + 4.0 * random.next()]);
        let ridge = 10f64.powi(log_ridge);
        let options = SolveOptions::ridge(ridge);
        let solve = KernelSolve::from_sum(gaussian(2, columns), "b").unwrap();
        let first = solve.call((&x, &x, &b, &s), &options).unwrap();
        let dense = gaussian_matrix(&x, &x, s[0]);
        for r in residuals(&dense, ridge, &two(&first.value), &b.view()) {
            prop_assert!(r <= 1e-6 * (1.0 + 1e-6), "{r}");
        }

        let scale = 2f64.powi(exponent);
        let scaled = solve.call((&x, &x, &(scale * &b), &s), &options).unwrap();
        prop_assert_eq!(&scaled.value, &(scale * &first.value));
        prop_assert_eq!(scaled.info.iterations, first.info.iterations);

        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&k| (k * 7919 + seed as usize % 97) % 101);
        let (px, pb) = (x.select(NdAxis(0), &order), b.select(NdAxis(0), &order));
        let permuted = solve.call((&px, &px, &pb, &s), &options).unwrap().value;
        let mut back = permuted.clone();
        for (k, &at) in order.iter().enumerate() {
            back.index_axis_mut(NdAxis(0), at).assign(&permuted.index_axis(NdAxis(0), k));
        }
        for r in residuals(&dense, ridge, &two(&back), &b.view()) {
            prop_assert!(r <= 1e-6 * (1.0 + 1e-6), "{r}");
        }
    }
}

/// 3,000 uniform points in the unit cube, σ = 0.3, ridge 1e-3, smooth right-hand side and noise:
/// plain conjugate gradients need about 1,460 iterations to 1e-6 (measured with NumPy).
#[test]
fn iterations_on_three_thousand_points() {
    let mut random = Random::new(16);
    let x = random.matrix(3000, 3);
    let b = Array2::from_shape_fn((3000, 1), |(i, _)| {
        let p = x.row(i);
        (4.0 * p[0]).sin() + (3.0 * p[1]).cos() * p[2] + 0.1 * random.normal()
    });
    let sum: Genred = gaussian(3, 1);
    let solve = KernelSolve::from_sum(sum.at(Device::new(keops_cpu::Cpu::new())), "b").unwrap();
    let s = array![1.0 / 0.09];
    let solution = solve.call((&x, &x, &b, &s), &SolveOptions::ridge(1e-3)).unwrap();
    let (iterations, condition) = (solution.info.iterations, solution.info.condition());
    println!("{iterations} iterations, condition {condition:.2e}");
    assert!(iterations <= 1752 && solution.info.products <= iterations + 4);
    // Checked against the matrix, row by row.
    let a = two(&solution.value);
    let mut r2 = 0.0;
    for i in 0..3000 {
        let row = gaussian_matrix(&x.slice(s![i..i + 1, ..]).to_owned(), &x, s[0]);
        r2 += (b[[i, 0]] - 1e-3 * a[[i, 0]] - row.row(0).dot(&a.column(0))).powi(2);
    }
    let relative = (r2 / b.iter().map(|v| v * v).sum::<f64>()).sqrt();
    assert!(relative <= 1e-6 * (1.0 + 1e-6), "{relative}");
}

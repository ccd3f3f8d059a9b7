//! What is reported is true of what is returned, and no worse than zero, however a solver ends.
//! Residuals are recomputed by dense products in f64.

mod common;
use common::*;
use keops_core::data::{DType, Element};
use keops_core::error::Error;
use keops_core::genred::Genred;
use keops_core::lazy::LazyTensor;
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use keops_linalg::{
    KernelOperator, KernelSolve, LinearOperator, Method, Reason, Solve, SolveError, SolveInfo,
    SolveOptions,
};
use ndarray::{Array1, Array2, Array3, Axis as NdAxis, array, s};
use proptest::prelude::*;

/// A matrix, one for each batch element, of numbers that have the type that it multiplies in.
struct Dense {
    matrices: Vec<Array2<f64>>,
    single: bool,
}
impl LinearOperator for Dense {
    fn domain(&self) -> [usize; 2] {
        [self.matrices[0].ncols(), 1]
    }
    fn range(&self) -> [usize; 2] {
        [self.matrices[0].nrows(), 1]
    }
    fn precision(&self) -> DType {
        if self.single { DType::F32 } else { DType::F64 }
    }
    fn columns_independent(&self) -> bool {
        true
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let mut out = Array3::zeros(v.dim());
        for (k, matrix) in self.matrices.iter().enumerate() {
            let column = v.slice(s![k, .., 0]);
            let product = match self.single {
                true => {
                    let product: Array1<f32> =
                        matrix.mapv(|v| v as f32).dot(&column.mapv(|v| v as f32));
                    product.mapv(f64::from)
                }
                false => matrix.dot(&column),
            };
            out.slice_mut(s![k, .., 0]).assign(&product);
        }
        Ok(out)
    }
}

fn norm<'a>(v: impl IntoIterator<Item = &'a f64>) -> f64 {
    // (Scaled: right-hand sides here are as large as numbers can be.)
    let v: Vec<f64> = v.into_iter().copied().collect();
    let size = v.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if size == 0.0 { 0.0 } else { size * v.iter().map(|v| (v / size).powi(2)).sum::<f64>().sqrt() }
}

/// Solution and report, of a success or of a failure.
fn outcome(r: Result<(Array3<f64>, SolveInfo), SolveError>) -> (Array3<f64>, SolveInfo) {
    match r {
        Ok(both) => both,
        Err(e) => {
            let p = e.partial().unwrap_or_else(|| panic!("{e}")).clone();
            (p.solution.into_dimensionality().unwrap(), p.info)
        }
    }
}

/// Checks residuals of one system against a dense product. `size` is that of the matrix, `unit`
/// the rounding of its products.
fn check(
    matrix: &Array2<f64>,
    ridge: f64,
    a: &[f64],
    b: &[f64],
    info: &keops_linalg::SystemInfo,
    tolerance: f64,
    unit: f64,
) -> Result<(), TestCaseError> {
    if b.iter().any(|v| !v.is_finite()) {
        prop_assert!(info.residual.is_nan() && info.reason == Reason::NotFinite);
        prop_assert!(a.iter().all(|&v| v == 0.0));
        return Ok(());
    }
    let size = norm(b);
    if size == 0.0 {
        prop_assert!(info.residual == 0.0 && a.iter().all(|&v| v == 0.0));
        return Ok(());
    }
    let (a, b) = (Array1::from(a.to_vec()), Array1::from(b.to_vec()));
    let scaled = &b / size - matrix.dot(&(&a / size)) - ridge * (&a / size);
    let own = norm(&scaled);
    // Any order of summation: n units of rounding of the sum of magnitudes.
    let n = a.len() as f64;
    let slack = 4.0 * n * unit * ((norm(matrix) + ridge) * norm(&(&a / size)) + 1.0);
    prop_assert!(
        (own - info.residual).abs() <= slack,
        "reported {:e}, true {own:e}, rounding explains {slack:e}, {info:?}",
        info.residual
    );
    prop_assert!(info.residual <= 1.0, "worse than zero: {info:?}");
    prop_assert_eq!(info.reason == Reason::Converged, info.residual <= tolerance, "{:?}", info);
    Ok(())
}

/// A random symmetric matrix with eigenvalues given, by Householder reflections.
fn symmetric(random: &mut Random, eigenvalues: &[f64]) -> Array2<f64> {
    let n = eigenvalues.len();
    let mut m = Array2::from_diag(&Array1::from(eigenvalues.to_vec()));
    for _ in 0..3 {
        let mut u = Array1::from_shape_simple_fn(n, || random.normal());
        u /= u.dot(&u).sqrt();
        let h = Array2::eye(n)
            - 2.0 * &u.view().insert_axis(NdAxis(1)).dot(&u.view().insert_axis(NdAxis(0)));
        m = h.dot(&m).dot(&h);
    }
    (&m + &m.t()) / 2.0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Definite, singular (with a solution and without), indefinite and asymmetric systems, of any
    /// scale, in both types, several at once, with and without a guess and enough iterations.
    #[test]
    fn reported_residuals_are_those_of_what_is_returned(
        seed in any::<u64>(),
        n in 1usize..24,
        single in any::<bool>(),
        kinds in prop::collection::vec(0usize..9, 1..4),
        log_condition in 0.0f64..18.0,
        exponents in (-60i32..60, -60i32..60),
        log_ridge in prop::option::of(-14i32..2),
        log_tolerance in prop::sample::select(vec![-3, -6, -9, -12, -100, -300]),
        limit in prop::sample::select(vec![None, None, Some(0), Some(1), Some(5), Some(3000)]),
        guess in prop::sample::select(vec![None, None, Some(1.0), Some(1e-6), Some(1e20), Some(1e300)]),
    ) {
        let mut random = Random::new(seed);
        let round = |v: f64| if single { f64::from(v as f32) } else { v };
        let (mut matrices, mut b) = (vec![], Array3::zeros((kinds.len(), n, 1)));
        for (k, kind) in kinds.iter().enumerate() {
            let mut values: Vec<f64> = (0..n)
                .map(|i| 10f64.powf(-log_condition * i as f64 / n.max(2) as f64))
                .collect();
            match kind {
                2 | 3 => values[n / 2..].fill(0.0),
                4 => values[n / 2] *= -1.0,
                5 => values.fill(0.0),
                _ => {}
            }
            let mut m = symmetric(&mut random, &values) * 2f64.powi(exponents.0);
            if *kind == 6 {
                // Points that coincide.
                for i in 0..n / 2 {
                    let row = m.row(2 * i).to_owned();
                    m.row_mut(2 * i + 1).assign(&row);
                    let column = m.column(2 * i).to_owned();
                    m.column_mut(2 * i + 1).assign(&column);
                }
            }
            if *kind == 7 {
                m[[0, n - 1]] += 0.1 * 2f64.powi(exponents.0);
            }
            let m = m.mapv(round);
            let mut own = Array1::from_shape_simple_fn(n, || random.normal());
            if *kind == 2 {
                own = m.dot(&own);
            }
            if *kind == 8 {
                own[n / 2] = [f64::NAN, f64::INFINITY, 0.0][seed as usize % 3];
            }
            if *kind == 1 && seed % 4 == 0 {
                own.fill(0.0);
            }
            own *= 2f64.powi(exponents.1);
            b.slice_mut(s![k, .., 0]).assign(&own.mapv(round));
            matrices.push(m);
        }
        let ridge = log_ridge.map_or(0.0, |e| 10f64.powi(e) * 2f64.powi(exponents.0));
        let guess = guess.map(|size| b.mapv(|_| size * random.normal()));
        let operator = Dense { matrices, single };
        for method in [Method::ConjugateGradients, Method::Minres] {
            let options = SolveOptions {
                ridge,
                tolerance: 10f64.powi(log_tolerance),
                max_iterations: limit,
                check_symmetry: seed % 2 == 0,
                method,
            };
            let (a, info) = outcome(conjugate_gradients(&operator, &b, guess.as_ref(), &options));
            let unit = if single { f64::from(f32::EPSILON) } else { f64::EPSILON };
            for (k, matrix) in operator.matrices.iter().enumerate() {
                let (own, b) = (a.slice(s![k, .., 0]).to_vec(), b.slice(s![k, .., 0]).to_vec());
                check(matrix, ridge, &own, &b, &info.systems[k], options.tolerance, unit)?;
            }
        }
    }
}

fn on_cpu(formula: &str, columns: usize) -> Genred<Device> {
    let aliases = ["x = Vi(3)".into(), "y = Vj(3)".into(), format!("b = Vj({columns})")];
    let sum: Genred = Genred::new(formula, &aliases, &keops_core::reduce::SUM, Axis::J).unwrap();
    sum.at(Device::new(Cpu::new()))
}

/// Tolerances out of reach and more iterations than anyone needs: recurrences go on below
/// rounding until their numbers mean nothing.
#[test]
fn iterations_beyond_rounding_lose_nothing() {
    let n = 40;
    let x = Array2::<f32>::from_shape_fn((n, 3), |(i, k)| ((i * 37 + k * 11) % 101) as f32 / 101.0);
    let b = Array2::<f32>::from_shape_fn((n, 1), |(i, _)| ((i * 53) % 17) as f32 / 17.0 - 0.5);
    let wide = x.mapv(f64::from);
    let gauss = gaussian_matrix(&wide, &wide, 1.0);
    let eye = Array2::eye(n);
    let decay = Array2::from_diag(&Array1::from_shape_fn(n, |i| (-0.1 * i as f64).exp()));
    for (formula, matrix, ridge) in [
        ("(i==j)*b", &eye, 1e-3),
        ("(i==j)*b", &eye, 1.0),
        ("(i==j)*Exp(-0.1*i)*b", &decay, 1e-3),
        ("Exp(-SqDist(x,y))*b", &gauss, 1.0),
        ("Exp(-SqDist(x,y))*b", &gauss, 1e-2),
        ("Exp(-SqDist(x,y))*b", &gauss, 0.0),
    ] {
        for tolerance in [1e-6, 1e-12, 1e-100, 1e-300] {
            for (max_iterations, method) in [
                (None, Method::ConjugateGradients),
                (Some(2000), Method::ConjugateGradients),
                (Some(2000), Method::Minres),
            ] {
                let solve = KernelSolve::from_sum(on_cpu(formula, 1), "b").unwrap();
                let options =
                    SolveOptions { ridge, tolerance, max_iterations, check_symmetry: true, method };
                let (a, info) = match solve.call((&x, &x, &b), &options) {
                    Ok(solution) => (solution.value.mapv(f64::from), solution.info),
                    Err(e) => {
                        let p = e.partial().unwrap();
                        (p.solution.clone(), p.info.clone())
                    }
                };
                // (f32, so that the solution as returned is the one that was verified.)
                assert!(a.iter().all(|&v| v == f64::from(v as f32)));
                let own = residuals(matrix, ridge, &two(&a), &b.mapv(f64::from).view())[0];
                let rounding = f64::from(f32::EPSILON)
                    * (norm(matrix) * norm(&a) / norm(&b.mapv(f64::from)) + 1.0);
                let reported = info.residual();
                assert!(
                    (own - reported).abs() <= 4.0 * rounding && reported <= 1.0,
                    "{formula} {ridge} {tolerance} {max_iterations:?}: {reported:e} and {own:e}"
                );
                if ridge > 0.0 {
                    assert!(
                        own < 1e-4,
                        "{formula} {ridge} {tolerance} {max_iterations:?}: {own:e}"
                    );
                }
            }
        }
    }
}

/// Of points that coincide and values that differ there is no interpolation: the smallest residual
/// is that of means. Nothing that comes out is worse than zero, and the advice is one that helps.
#[test]
fn singular_systems_say_so() {
    let x = array![[0.0], [0.0], [1.0], [1.0], [0.3], [0.7], [0.3], [2.0]];
    let b = array![1.0, -1.0, 0.5, 2.0, -3.0, 0.1, 1.0, 1.0];
    let k = LazyTensor::<f64, keops_core::genred::Reference>::vi(&x);
    let k = (-k.sqdist(LazyTensor::vj(&x)).sqrt()).exp();
    let dense = Array2::from_shape_fn((8, 8), |(i, j)| (-(x[[i, 0]] - x[[j, 0]]).abs()).exp());
    let e = k.solve(&b, &SolveOptions::ridge(0.0)).unwrap_err();
    assert!(matches!(e, SolveError::Singular { .. }), "{e}");
    let text = e.to_string();
    assert!(text.contains("larger ridge") && !text.contains("tolerance"), "{text}");
    let p = e.partial().unwrap();
    assert_eq!(p.solution.shape(), [8]);
    let a = p.solution.clone().insert_axis(NdAxis(1));
    let column = b.clone().insert_axis(NdAxis(1));
    let own = residuals(&dense, 0.0, &two(&a), &column.view())[0];
    assert!((own - p.info.residual()).abs() < 1e-12 && own <= 1.0, "{own}");
    // The differences of each pair, (1, -0.75, -2), cannot be reached: their part is the least.
    let least = (2.0f64 * (1.0 + 0.75f64.powi(2) + 4.0)).sqrt() / norm(&b);
    assert!(own >= least - 1e-12);

    // Nothing is what the zero matrix reaches; it is not indefinite.
    let zero: KernelSolve = KernelSolve::new(
        "IntCst(0) * x * b",
        ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"],
        "b",
        Axis::J,
    )
    .unwrap();
    match zero.call((&x, &x, &column), &SolveOptions::ridge(0.0)) {
        Err(SolveError::Singular { iteration: 0, residual: 1.0, partial, .. }) => {
            assert!(partial.solution.iter().all(|&v| v == 0.0));
        }
        other => panic!("{other:?}"),
    }
}

/// Shapes of what a failure leaves, by every door.
#[test]
fn partial_solutions_have_the_shape_of_the_right_hand_side() {
    let mut random = Random::new(3);
    let x = random.matrix(10, 1);
    let once = SolveOptions { max_iterations: Some(1), ..SolveOptions::ridge(1e-3) };
    let shape = |e: SolveError| e.partial().unwrap().solution.shape().to_vec();
    let k = LazyTensor::<f64, keops_core::genred::Reference>::vi(&x);
    let k = (-k.sqdist(LazyTensor::vj(&x))).exp();
    let b = random.array(&[10]);
    assert_eq!(shape(k.solve(&b, &once).unwrap_err()), [10]);
    assert_eq!(shape(k.solve(&random.matrix(10, 3), &once).unwrap_err()), [10, 3]);
    let column = random.matrix(10, 1);
    assert_eq!(shape(k.system(1).unwrap().call((&column,), &once).unwrap_err()), [10, 1]);
    let sum = gaussian(1, 2);
    let solve = KernelSolve::from_sum(sum.clone(), "b").unwrap();
    let (many, one) = (random.array(&[4, 10, 2]), array![1.0]);
    let failed = |r: Result<_, SolveError>| shape(r.err().unwrap());
    assert_eq!(failed(solve.call((&x, &x, &many, &one), &once)), [4, 10, 2]);
    let kernels = random.array(&[3, 1, 1]) + 1.0;
    assert_eq!(
        failed(solve.call(
            (
                &x,
                &x,
                &many.slice(s![0, .., ..]),
                &kernels.clone().into_shape_with_order((3, 1)).unwrap()
            ),
            &once
        )),
        [3, 10, 2]
    );
    assert_eq!(
        failed(solve.solver().options(once).first_guess(&many).call((&x, &x, &many, &one))),
        [4, 10, 2]
    );
    let k = KernelOperator::new(&sum, "b", (&x, &x, &one)).unwrap();
    assert_eq!(shape(k.solve(&many, &once).unwrap_err()), [4, 10, 2]);
    let e = solve.vjp((&x, &x, &many, &one), &many, &many, &["x"], &once).unwrap_err();
    assert_eq!(shape(e), [4, 10, 2]);
}

/// Numbers near the ends of their types: solved, or refused for a reason that is true.
#[test]
fn extreme_numbers() {
    let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    let identity: KernelSolve = KernelSolve::new("(i==j)*b", aliases, "b", Axis::J).unwrap();
    let x = Array2::<f64>::zeros((3, 1));
    for v in [f64::MAX, f64::MAX / 2.0, 1e308, 8.98e307, 1e300, f64::MIN_POSITIVE, 5e-324, 1e-310] {
        let b = Array2::from_elem((3, 1), v);
        let solution = identity.call((&x, &x, &b), &SolveOptions::default()).unwrap();
        assert!(solution.value.iter().all(|a| (a / v - 1.0).abs() < 1e-6), "{v:e}");
        assert!(solution.info.residual() <= 1e-6);
        // 1e300 and 1 differ by more than digits: a is b / 1e300.
        match identity.call((&x, &x, &b), &SolveOptions::ridge(1e300)) {
            Ok(s) => assert!(s.value.iter().all(|a| (a / (v / 1e300) - 1.0).abs() < 1e-6), "{v:e}"),
            Err(SolveError::OutOfRange { dtype: "f64", partial, .. }) => {
                assert!(v < 1e-22 && partial.info.residual() == 1.0, "{v:e}");
                assert!(partial.solution.iter().all(|&a| a == 0.0));
            }
            other => panic!("{v:e}: {other:?}"),
        }
    }
    let b = Array2::from_elem((3, 1), f32::MAX);
    let x = x.mapv(|v| v as f32);
    let solution = identity.call((&x, &x, &b), &SolveOptions::default()).unwrap();
    assert!(solution.value.iter().all(|a| (a / f32::MAX - 1.0).abs() < 1e-6));
    // 2 · 6e4 is beyond f16, 2 f32::MAX beyond f32.
    let half: KernelSolve = KernelSolve::new("0.5 * (i==j) * b", aliases, "b", Axis::J).unwrap();
    let r = half.call((&x, &x, &b), &SolveOptions::ridge(0.0));
    assert!(matches!(r, Err(SolveError::OutOfRange { dtype: "f32", .. })), "{r:?}");
    let x = x.mapv(|v| half::f16::of_f64(f64::from(v)));
    let b = Array2::from_elem((3, 1), half::f16::of_f64(6e4));
    let r = half.call((&x, &x, &b), &SolveOptions::ridge(0.0));
    assert!(matches!(r, Err(SolveError::OutOfRange { dtype: "f16", .. })), "{r:?}");
    let e = r.unwrap_err().to_string();
    assert!(e.contains("outside the range of f16") && e.contains("wider type"), "{e}");
}

/// Columns end in their own ways: solved, zero, not finite, beyond the iterations allowed.
#[test]
fn columns_of_mixed_fates() {
    let mut random = Random::new(4);
    let x = random.matrix(30, 3);
    let mut b = random.matrix(30, 4);
    let dense = gaussian_matrix(&x, &x, 1.0);
    b.column_mut(0).fill(0.0);
    b[[3, 2]] = f64::NAN;
    let mut top = b.column(1).to_owned();
    for _ in 0..200 {
        top = dense.dot(&top);
        top /= top.dot(&top).sqrt();
    }
    b.column_mut(1).assign(&top);
    let solve = KernelSolve::from_sum(on_cpu("Exp(-SqDist(x, y)) * b", 4), "b").unwrap();
    let options = SolveOptions { max_iterations: Some(6), ..SolveOptions::ridge(1e-4) };
    let e = solve.call((&x, &x, &b), &options).unwrap_err();
    let p = e.partial().unwrap();
    let reasons: Vec<Reason> = p.info.systems.iter().map(|s| s.reason).collect();
    use Reason::{Converged, IterationLimit, NotFinite};
    assert_eq!(reasons, [Converged, Converged, NotFinite, IterationLimit]);
    let own = residuals(&dense, 1e-4, &two(&p.solution), &b.view());
    for c in [1, 3] {
        assert!((own[c] - p.info.systems[c].residual).abs() < 1e-12, "{own:?}");
    }
    assert!(own[1] <= 1e-6 && own[3] <= 1.0 && own[3] > 1e-6, "{own:?}");
    assert!(two(&p.solution).column(2).iter().all(|&v| v == 0.0));
}

#[test]
fn negative_ridges_are_refused() {
    let x = array![[0.0], [1.0]];
    let solve = KernelSolve::from_sum(gaussian(1, 1), "b").unwrap();
    let e = solve.call((&x, &x, &x, &array![1.0]), &SolveOptions::ridge(-1e-3)).unwrap_err();
    assert!(e.partial().is_none() && e.to_string().contains("at least 0, got -0.001"), "{e}");
}

/// In f32, noise that the ridge hardly damps cannot be fitted to the tolerance: said soon.
#[test]
fn stagnation_is_seen_soon() {
    let mut random = Random::new(5);
    let n = 1000;
    let x = random.matrix(n, 3);
    let b =
        Array2::from_shape_fn((n, 1), |(i, _)| (4.0 * x[[i, 0]]).sin() + 1e-2 * random.normal());
    let (x, b) = (x.mapv(|v| v as f32), b.mapv(|v| v as f32));
    let solve = KernelSolve::from_sum(on_cpu("Exp(-SqDist(x, y)) * b", 1), "b").unwrap();
    match solve.call((&x, &x, &b), &SolveOptions::ridge(1e-4)) {
        Err(SolveError::Stagnated { iteration, residual, .. }) => {
            println!("{iteration} iterations, residual {residual:e}");
            assert!(iteration < 1000 && residual < 1e-2);
        }
        other => panic!("{:?}", other.map(|s| s.info)),
    }
}

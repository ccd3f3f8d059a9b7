//! Functions of matrices beside dense ones: values within their error bars over many seeds,
//! gradients, square roots, and what goes wrong. Expected values: scripts/golden/krylov.py.

mod common;
use common::*;
use keops_core::genred::Genred;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use keops_linalg::{Diag, FunctionError, KernelOperator, MatrixFunction};
use ndarray::{Array1, Array2, Array3, Axis as NdAxis, Ix1, array};
use std::ops::ControlFlow;

fn gauss(columns: usize) -> Genred<Device> {
    let aliases = ["x = Vi(2)", "y = Vj(2)", "s = Pm(1)", &format!("v = Vj({columns})")];
    let sum: Genred = Genred::new("Exp(-s * SqDist(x, y)) * v", aliases, &SUM, Axis::J).unwrap();
    sum.at(Device::new(Cpu::new()))
}
fn number(name: &str) -> f64 {
    golden::<Ix1>(name)[0]
}

/// Errors in units of the standard error: of 40 seeds at most one is beyond 4 (one in 16,000 of
/// normal ones, more for 16 probes), and they are neither all small nor all of one sign.
fn judge(units: &[f64]) {
    assert!(units.iter().filter(|u| u.abs() > 4.0).count() <= 1, "{units:?}");
    let square = units.iter().map(|u| u * u).sum::<f64>() / units.len() as f64;
    assert!((0.3..3.0).contains(&square), "{square} of {units:?}");
    let positive = units.iter().filter(|u| **u > 0.0).count();
    assert!((8..=32).contains(&positive), "{units:?}");
}

#[test]
fn estimates_are_as_near_as_they_say() {
    let (x, s): (Array2<f64>, Array1<f64>) = (golden("x"), array![1.0 / 0.18]);
    let sum = gauss(4);
    let k = KernelOperator::new(&sum, "v", (&x, &x, &s)).unwrap();
    let (mut log_det, mut inverse, mut slope, mut ridge) = (vec![], vec![], vec![], vec![]);
    for seed in 0..40 {
        let of = || MatrixFunction::of(&k).ridge(0.1).probes(16).seed(seed);
        let e = of().log_det().unwrap();
        log_det.push((e.value - number("log_det")) / e.standard_error);
        let e = of().trace(|v| 1.0 / v).unwrap();
        inverse.push((e.value - number("trace_inverse")) / e.standard_error);
        let g = of().log_det_gradient(&["s"]).unwrap();
        slope.push((g.arguments[0][[0]] - number("log_det_slope")) / g.standard_errors[0][[0]]);
        ridge.push((g.ridge - number("trace_inverse")) / g.ridge_error);
    }
    judge(&log_det);
    judge(&inverse);
    judge(&slope);
    judge(&ridge);
    let one = MatrixFunction::of(&k).ridge(0.1).probes(1).log_det().unwrap();
    assert_eq!(one.standard_error, f64::INFINITY);
}

/// All names of points and parameters: the gradient of the mean over many probes is that of
/// differences of dense determinants.
#[test]
fn gradients_in_points_are_those_of_differences() {
    let mut random = Random::new(4);
    let (x, s) = (random.matrix(12, 2), array![1.5]);
    let sum = gauss(8);
    let k = KernelOperator::new(&sum, "v", (&x, &x, &s)).unwrap();
    let g = MatrixFunction::of(&k).ridge(0.5).probes(1600).log_det_gradient(&["x", "y"]).unwrap();
    let log_det = |x: &Array2<f64>| {
        let m = gaussian_matrix(x, x, 1.5) + 0.5 * Array2::<f64>::eye(12);
        let own = faer::Mat::from_fn(12, 12, |i, j| m[[i, j]]);
        own.determinant().ln()
    };
    for (i, c) in [(0, 0), (5, 1), (11, 0)] {
        let h = 1e-5;
        let (mut high, mut low) = (x.clone(), x.clone());
        (high[[i, c]], low[[i, c]]) = (x[[i, c]] + h, x[[i, c]] - h);
        let want = (log_det(&high) - log_det(&low)) / (2.0 * h);
        let got = g.arguments[0][[i, c]] + g.arguments[1][[i, c]];
        let error = g.standard_errors[0][[i, c]] + g.standard_errors[1][[i, c]];
        assert!((got - want).abs() < 4.0 * error, "{got} {want} {error}");
        assert!(error < 0.5 * want.abs().max(0.4), "{error} {want}");
    }
}

#[test]
fn roots_are_those_of_scipy_and_square() {
    let (x, s, b): (Array2<f64>, _, Array2<f64>) = (golden("x"), array![1.0 / 0.18], golden("b"));
    let sum = gauss(1);
    let k = KernelOperator::new(&sum, "v", (&x, &x, &s)).unwrap();
    let b = b.insert_axis(NdAxis(0));
    let root = |v: &Array3<f64>| {
        MatrixFunction::of(&k).ridge(0.1).tolerance(1e-12).apply(f64::sqrt, v).unwrap()
    };
    let once = root(&b);
    assert!(distance(&once, &golden::<ndarray::Ix2>("root")) < 1e-10);
    let system = gaussian_matrix(&x, &x, 1.0 / 0.18) + 0.1 * Array2::<f64>::eye(80);
    let want = system.dot(&b.index_axis(NdAxis(0), 0));
    assert!(distance(&root(&once), &want) < 1e-10);
    // The order of points is nothing to it.
    let order: Vec<usize> = (0..80).map(|k| (k * 7) % 80).collect();
    let turned = x.select(NdAxis(0), &order);
    let k = KernelOperator::new(&sum, "v", (&turned, &turned, &s)).unwrap();
    let turned = b.select(NdAxis(1), &order);
    let other = MatrixFunction::of(&k).ridge(0.1).tolerance(1e-12);
    let other = other.apply(f64::sqrt, &turned).unwrap();
    assert!(distance(&other, &once.select(NdAxis(1), &order)) < 1e-9);
    // Of zeros, of nothing, and of one number; of components that belong together.
    let zeros = MatrixFunction::of(&k).apply(f64::exp, &Array3::zeros((2, 80, 1))).unwrap();
    assert!(zeros.iter().all(|v| *v == 0.0));
    let empty = Diag::new(Array1::zeros(0), 1);
    assert_eq!(
        MatrixFunction::of(&empty).apply(f64::exp, &Array3::zeros((1, 0, 1))).unwrap().len(),
        0
    );
    assert_eq!(MatrixFunction::of(&empty).log_det().unwrap().value, 0.0);
    let one = Diag::new(array![9.0], 1);
    let root = MatrixFunction::of(&one).apply(f64::sqrt, &Array3::from_elem((1, 1, 1), 2.0));
    assert!((root.unwrap()[[0, 0, 0]] - 6.0).abs() < 1e-14);
    let log_det = MatrixFunction::of(&one).log_det().unwrap().value;
    assert!((log_det - 9f64.ln()).abs() < 1e-14);
}

#[test]
fn what_goes_wrong_is_said() {
    let d = Diag::new(array![3.0, -1.0, 2.0, 1.0], 1);
    let e = MatrixFunction::of(&d).log_det().unwrap_err();
    assert!(matches!(e, FunctionError::Undefined { at } if (at + 1.0).abs() < 1e-9), "{e}");
    MatrixFunction::of(&d).ridge(1.5).log_det().unwrap();
    let nan = Diag::new(array![1.0, f64::NAN], 1);
    let e = MatrixFunction::of(&nan).log_det().unwrap_err();
    assert!(matches!(e, FunctionError::NotFinite { product: 1 }), "{e}");
    let skew =
        sum("Exp(x - y) * (1 + x * y * y) * v", &["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"], Axis::J);
    let x = Array2::from_shape_fn((9, 1), |(k, _)| k as f64 / 9.0);
    let k = KernelOperator::new(&skew, "v", (&x, &x)).unwrap();
    let e = MatrixFunction::of(&k).ridge(1.0).log_det().unwrap_err();
    assert!(matches!(e, FunctionError::NotSymmetric { .. }), "{e}");
    let e = MatrixFunction::of(&k).log_det_gradient(&["z"]).unwrap_err();
    assert!(e.to_string().contains("`z`"), "{e}");
    let e = MatrixFunction::of(&k).log_det_gradient(&["v"]).unwrap_err();
    assert!(e.to_string().contains("`v`"), "{e}");
    let wide = Diag::new(Array1::from_shape_fn(500, |k| 1e-6 + k as f64), 1);
    let e = MatrixFunction::of(&wide).steps(8).probes(4).log_det().unwrap_err();
    let FunctionError::Steps { steps: 8, partial: Some(p), .. } = &e else { panic!("{e}") };
    assert!(p.value.is_finite());
    let stop = MatrixFunction::of(&wide).observe(|p| match p.products {
        3 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let e = stop.log_det().unwrap_err();
    assert!(matches!(e, FunctionError::Cancelled { product: 3 }), "{e}");
    let of = || MatrixFunction::of(&d);
    assert!(of().probes(0).log_det().is_err() && of().ridge(f64::NAN).log_det().is_err());
    assert!(of().apply(f64::exp, &Array3::zeros((1, 3, 1))).is_err());
    assert!(of().apply(f64::exp, &Array3::from_elem((1, 4, 1), f64::NAN)).is_err());
}

/// Functions that are 0 on most of the spectrum: a result that steps do not change says nothing. What
/// comes is right, or an error; sums over the known eigenvalues.
#[test]
fn functions_that_vanish_on_most_of_the_spectrum() {
    let n = 2000;
    let value = |k: usize| (k as f64 + 0.5) / n as f64;
    let d = Diag::new(Array1::from_shape_fn(n, value), 1);
    type Function = fn(f64) -> f64;
    let functions: [(&str, Function); 6] = [
        ("max(x - 0.99, 0)", |x| (x - 0.99).max(0.0)),
        ("x > 0.99", |x| f64::from(x > 0.99)),
        ("x < 0.001", |x| f64::from(x < 0.001)),
        ("1 + (x > 0.999)", |x| 1.0 + 1e3 * f64::from(x > 0.999)),
        ("0.3 < x < 0.32", |x| f64::from((0.3..0.32).contains(&x))),
        ("|x - 0.3|", |x| (x - 0.3).abs()),
    ];
    let ones = Array3::ones((1, n, 1));
    for (name, f) in functions {
        let want: f64 = (0..n).map(|k| f(value(k))).sum();
        // (Probes of signs are exact for diagonal matrices.)
        let refused = |e: &FunctionError| {
            matches!(e, FunctionError::Unresolved { .. } | FunctionError::Steps { .. })
        };
        match MatrixFunction::of(&d).probes(2).steps(60).trace(f) {
            Ok(e) => assert!((e.value / want - 1.0).abs() < 1e-6, "{name}: {e:?}, not {want}"),
            Err(e) => assert!(refused(&e), "{name}: {e}"),
        }
        match MatrixFunction::of(&d).steps(60).apply(f, &ones) {
            Ok(v) => (0..n).for_each(|k| {
                assert!((v[[0, k, 0]] - f(value(k))).abs() < 1e-6, "{name}: {k}");
            }),
            Err(e) => assert!(refused(&e), "{name}: {e}"),
        }
    }
    // Smooth ones come as before, with ends of the spectrum that are not known yet.
    let smooth: [(&str, Function); 3] =
        [("exp", f64::exp), ("square", |x| x * x), ("1 / (1 + x)", |x| 1.0 / (1.0 + x))];
    for (name, f) in smooth {
        let want: f64 = (0..n).map(|k| f(value(k))).sum();
        let own = MatrixFunction::of(&d).probes(2).trace(f).unwrap();
        assert!((own.value / want - 1.0).abs() < 1e-9, "{name}: {own:?}, not {want}");
        assert!(own.products <= 2 * 25, "{name}: {own:?}");
    }
}

/// A log-determinant of 0 has nothing that its error could be relative to, but the sizes of its terms.
#[test]
fn a_log_determinant_of_zero() {
    let n = 2000;
    let d =
        Diag::new(Array1::from_shape_fn(n, |k| ((2.0 * k as f64 + 1.0) / n as f64 - 1.0).exp()), 1);
    let own = MatrixFunction::of(&d).probes(4).log_det().unwrap();
    // tr |log A| is n / 2.
    assert!(own.value.abs() < 1e-8 * n as f64 && own.standard_error < 1e-8 * n as f64, "{own:?}");
}

#[test]
fn one_step_and_one_probe_say_what_they_know() {
    let d = Diag::new(Array1::from_shape_fn(50, |k| 1.0 + k as f64), 1);
    let e = MatrixFunction::of(&d).steps(1).trace(f64::sqrt).unwrap_err().to_string();
    assert!(e.contains("1 steps give one result, and nothing to compare it with"), "{e}");
    let e = MatrixFunction::of(&d).probes(1).trace(|x| x).unwrap();
    assert!(e.standard_error.is_infinite(), "{e:?}");
}

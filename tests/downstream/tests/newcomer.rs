//! What people stumbled over in their first hour: each stumble as they wrote it, with the answer that it
//! has now. Prelude of ndarray first, as it stands in most programs.

use keops::lddmm::attachment::varifold;
use keops::lddmm::kernel::Kernel;
use keops::lddmm::registration::{Limits, Options, Progress};
use keops::lddmm::report::Warning;
use keops::linalg::SolveError;
use keops::ndarray;
use keops::ndarray::prelude::*;
use keops::prelude::*;
use keops::shapes::builtin::{closed_curve, icosphere};
use std::ops::ControlFlow;

fn points(rows: usize, dim: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, dim), |(i, k)| (1.3 * i as f64 + k as f64).sin())
}
/// The message, which has all these parts.
fn says<T, E: std::fmt::Display>(result: Result<T, E>, parts: &[&str]) {
    let Err(e) = result else { panic!("no error, expected one with {parts:?}") };
    let message = e.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn a_planar_and_a_spatial_shape() {
    let curve = closed_curve(30, |t| [t.cos(), t.sin()]).unwrap();
    let sphere = icosphere(1).unwrap();
    let (kernel, near) = (Kernel::gaussian(1.0).unwrap(), Kernel::gaussian(0.5).unwrap());
    let options = Options::new(kernel, varifold(near));
    says(keops::registration::<f64, _>(&curve, &sphere, &options), &["the target", "coordinates", "2", "3"]);
    says(keops::registration::<f64, _>(&sphere, &curve, &options), &["the target", "coordinates", "2", "3"]);
}

#[test]
fn an_iterate_has_the_shape_of_the_right_hand_side_and_the_smallest_residual() {
    // Each point twice: singular, and the right-hand side is not in its range.
    let x = Array2::from_shape_fn((10, 1), |(i, _)| (i / 2) as f64);
    let b = Array1::from_shape_fn(10, |i| i as f64);
    let k = (-vi(&x).sqdist(vj(&x))).exp();
    let e = k.solve(&b, &SolveOptions::ridge(0.0)).unwrap_err();
    let partial = e.partial().unwrap();
    assert_eq!(partial.solution.shape(), [10]);
    let a = partial.solution.clone().into_dimensionality::<Ix1>().unwrap();
    let r = k.matmul(&a).unwrap() - &b;
    assert!(r.dot(&r).sqrt() <= b.dot(&b).sqrt() * (1.0 + 1e-12)); // 0 is one of the iterates
    let message = e.to_string();
    assert!(message.contains("take a larger ridge") && !message.contains("allow a tolerance of"), "{message}");
}

#[test]
fn a_limit_of_iterations_says_what_to_do() {
    let x = Array2::from_shape_fn((60, 1), |(i, _)| i as f64 / 60.0);
    let b = Array1::from_shape_fn(60, |i| (7.7 * i as f64).sin());
    let k = (-vi(&x).sqdist(vj(&x))).exp();
    let options = SolveOptions { max_iterations: Some(5), ..SolveOptions::ridge(1e-9) };
    let e = k.solve(&b, &options).unwrap_err();
    assert!(matches!(e, SolveError::IterationLimit { limit: 5, .. }), "{e}");
    says(Err::<(), _>(e), &["allow more iterations", "larger ridge", "preconditioner"]);
    let negative = k.solve(&b, &SolveOptions::ridge(-1e-3));
    says(negative, &["the ridge must be", "at least 0"]);
}

#[test]
fn a_comparison_is_no_condition_of_ifelse() {
    let x = points(6, 2);
    let d = vi(&x).sqdist(vj(&x)).sqrt();
    says(d.less_than(0.5).ifelse(1.0, 0.0).sum(Over::J), &["`Select(mask, a, b)`"]);
    let counted = d.less_than(0.5).select(1.0, 0.0).sum(Over::J).unwrap();
    let near = |i: usize| {
        let gap = |j: usize| (&x.row(i) - &x.row(j)).mapv(|v| v * v).sum().sqrt();
        (0..6).filter(|&j| gap(j) < 0.5).count() as f64
    };
    assert_eq!(counted, Array2::from_shape_fn((6, 1), |(i, _)| near(i)).into_dyn());
}

#[test]
fn arrays_of_other_axes() {
    let (x, b) = (points(6, 2), Array1::from_shape_fn(6, |i| i as f64));
    // One number in a matrix of one row and column is a parameter, not a batch.
    let genred = Genred::new("p * x", ["p = Pm(1)", "x = Vj(2)"], Sum, Over::J).unwrap();
    assert_eq!(genred.call((&array![[2.0]], &x)).unwrap().ndim(), 2);
    // (N) is a column, and 0-d is a parameter, for `Genred` as for `vj` and `pm`.
    let genred = Genred::new("b * p", ["b = Vj(1)", "p = Pm(1)"], Sum, Over::J).unwrap();
    assert_eq!(genred.call((&b, &arr0(2.0))).unwrap(), array![[30.0]].into_dyn());
    let lazy = (vj(&b) * pm(&arr0(2.0))).sum(Over::J).unwrap();
    assert_eq!(lazy, array![[30.0]].into_dyn());
    // Results have the number of axes of what was given, or that of their type.
    let k = (-vi(&x).sqdist(vj(&x))).exp();
    let product: Array1<f64> = k.matmul(&b).unwrap();
    let solved: Array1<f64> = k.solve(&b, &SolveOptions::ridge(1.0)).unwrap().value;
    let matrix: Array2<f64> = k.sum(Over::J).unwrap().shaped().unwrap();
    let vector: Array1<f64> = k.sum(Over::J).unwrap().shaped().unwrap();
    assert_eq!((product.len(), solved.len(), matrix.dim(), vector.len()), (6, 6, (6, 1), 6));
}

#[test]
fn a_target_out_of_sight_is_a_warning() {
    let curve = closed_curve(30, |t| [t.cos(), t.sin()]).unwrap();
    let far = curve.with_vertices(curve.vertices().to_owned() + array![50.0, 0.0]).unwrap();
    let (kernel, near) = (Kernel::gaussian(1.0).unwrap(), Kernel::gaussian(0.5).unwrap());
    let limits = Limits { iterations: 3, ..Limits::default() };
    let options = Options { limits, ..Options::new(kernel, varifold(near)) };
    let registration = keops::registration::<f64, _>(&curve, &far, &options).unwrap();
    let go_on = &mut |_: &Progress<'_>| ControlFlow::Continue(());
    let warnings = registration.run(None, go_on).unwrap().report.warnings;
    let seen = |w: &Warning| matches!(w, Warning::TargetOutOfSight { .. });
    assert!(warnings.iter().any(seen), "{warnings:?}");
    // Whatever the unit, a warning has digits.
    let grew = Warning::DistanceGrew { distance: "mean".into(), before: 1.2e-6, after: 3.4e-6 };
    assert!(grew.to_string().contains("grew from 1.200e-6 to 3.400e-6"), "{grew}");
}

#[test]
fn operators_of_other_languages() {
    let x = ["x = Vi(2)", "y = Vj(2)"];
    says(Genred::new("x ^ 2", x, Sum, Over::J), &["'^'", "a ** b"]);
    says(Genred::new("x @ y", x, Sum, Over::J), &["'@'", "matmul"]);
    says(Genred::new("Expo(x - y)", x, Sum, Over::J), &["did you mean `Exp`?"]);
}

#[test]
fn rows_of_the_other_side() {
    let (x, y) = (points(6, 2), points(4, 2));
    says((vi(&x) - vi(&y)).sum(Over::J), &["rows", "is one of them `vj`"]);
    says((vj(&x) - vj(&y)).sum(Over::J), &["rows", "is one of them `vi`"]);
    // One query as a vector: a column of numbers, whose dimension does not fit, or whose rows do not.
    says((vi(x.row(0)) - vi(&x)).sqnorm2().sum(Over::J), &["rows", "`pm` for a single row?"]);
    let one = (pm(x.row(0)) - vj(&x)).sqnorm2().sum(Over::J).unwrap();
    assert!(one.len() == 1 && one[[0, 0]] > 0.0);
    let genred = Genred::new("SqDist(q, x)", ["q = Vi(2)", "x = Vj(2)"], Sum, Over::J).unwrap();
    says(genred.call((&x.row(0), &x)), &["(1, 2)", "`Pm`"]);
}

#[test]
fn a_cotangent_of_another_shape() {
    let (x, b) = (points(6, 2), points(6, 1));
    let genred = Genred::new("Exp(-SqDist(x, y)) * b", ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"], Sum, Over::J);
    let gradient = genred.unwrap().vjp("x").unwrap();
    let short = points(5, 1);
    says(gradient.call((&x, &x, &b, &short)), &["`e`", "5", "6"]);
    let wide = points(6, 2);
    says(gradient.call((&x, &x, &b, &wide)), &["`e`", "cotangent", "[6, 2]"]);
}

#[test]
fn a_right_hand_side_is_named_as_it_was_given() {
    let x = points(6, 2);
    let k = (-vi(&x).sqdist(vj(&x))).exp();
    let five = Array1::<f64>::ones(5);
    says(k.solve(&five, &SolveOptions::ridge(1.0)), &["right-hand side", "shape (6)", "[5]"]);
}

#[test]
fn a_gradient_in_a_new_variable() {
    let x = points(6, 2);
    let sum = (-vi(&x).sqdist(vj(&x))).exp().sum_reduction(Over::J).unwrap();
    says(sum.vjp(&vi(&x)), &["keep a clone of the one in the formula"]);
}

#[test]
fn what_is_refused_says_where() {
    let x = points(6, 2);
    let wrong = (vi(&x) - vj(points(4, 3))).sqnorm2().sum(Over::J);
    says(wrong, &["newcomer.rs", "2", "3"]);
    let _ = ndarray::array![1.0]; // the ndarray that the crate uses comes with it
}

//! Right-hand sides and points of shapes that no method takes: errors that name what was given and what was
//! expected, and that point to the line of the caller.

use keops_core::genred::{Genred, Reference};
use keops_core::lazy::LazyTensor;
use keops_core::reduce::SUM;
use keops_core::spec::Axis;
use keops_linalg::{
    GaussianProcess, KMeans, KernelOperator, KernelSolve, Lsmr, Neighbours, Solve, SolveOptions,
};
use ndarray::{Array1, Array2, Array3, arr0, array};

type Lazy = LazyTensor<f64, Reference>;

/// The message, which has all these parts, and no place in the library's own source.
fn says<T, E: std::fmt::Display>(result: Result<T, E>, parts: &[&str]) {
    let Err(e) = result else { panic!("no error, expected one with {parts:?}") };
    let message = e.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(!message.contains("src/"), "{message}");
}
fn points(n: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, 2), |(i, k)| (1.3 * i as f64 + k as f64).sin())
}
fn ridge() -> SolveOptions {
    SolveOptions::ridge(1.0)
}

#[test]
fn of_symbolic_matrices() {
    let x = points(6);
    let k = (-Lazy::vi(&x).sqdist(Lazy::vj(&x))).exp();
    let side = "the right-hand side";
    says(k.solve(&arr0(1.0), &ridge()), &[side, "shape (M)", "got shape []"]);
    says(k.solve(&Array2::zeros((6, 0)), &ridge()), &[side, "a column at least", "[6, 0]"]);
    says(k.solve(&Array3::zeros((2, 6, 0)), &ridge()), &[side, "[2, 6, 0]"]);
    says(k.solve(&Array1::zeros(0), &ridge()), &[side, "shape (6)", "[0]"]);
    says(k.solve(&Array1::ones(5), &ridge()), &[side, "shape (6)", "[5]"]);
    says(
        k.solve(&Array2::ones((5, 1)), &ridge()),
        &[side, "(6) or (batches…, 6, columns)", "[5, 1]"],
    );
    says(k.system(0), &["`columns` is at least 1"]);
    // A matrix of several components beside columns: the line is this one.
    let wide = Lazy::vi(&x) + Lazy::vj(&x) + array![1.0, 2.0];
    let line = format!("right_hand_sides.rs:{}", line!() + 1);
    says(wide.solve(&Array2::ones((6, 3)), &ridge()), &[&line]);
    let line = format!("right_hand_sides.rs:{}", line!() + 1);
    says(wide.solver().solve(&Array2::ones((6, 3))), &[&line]);
    let line = format!("right_hand_sides.rs:{}", line!() + 1);
    says(wide.system(3), &[&line]);
    // No points, no equations: nothing to find.
    let none = Array2::<f64>::zeros((0, 2));
    let k = (-Lazy::vi(&none).sqdist(Lazy::vj(&none))).exp();
    assert_eq!(k.solve(&Array1::zeros(0), &ridge()).unwrap().value.len(), 0);
}

#[test]
fn of_operators() {
    let x = points(6);
    let aliases = ["x = Vi(2)", "y = Vj(2)", "v = Vj(1)"];
    let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * v", aliases, &SUM, Axis::J).unwrap();
    let k = KernelOperator::new(&sum, "v", (&x, &x)).unwrap();
    for shape in [&[][..], &[6, 0], &[0], &[0, 1], &[5, 1]] {
        let b = ndarray::ArrayD::<f64>::zeros(shape);
        let got = format!("{shape:?}");
        says(k.apply(&b), &["`v`", "shape (6, 1)", &got]);
        says(k.solve(&b, &ridge()), &["`v`", "shape (6, 1)", &got]);
        if shape != [0].as_slice() || shape.is_empty() {
            says(Lsmr::of(&k).solve(&b), &["right-hand side", "(6, 1)", &got]);
        }
    }
    let solve: KernelSolve = KernelSolve::new(
        "Exp(-SqDist(x, y)) * b",
        ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"],
        "b",
        Axis::J,
    )
    .unwrap();
    says(solve.call((&x, &x, &arr0(1.0)), &ridge()), &["`b`", "got shape []"]);
    says(solve.call((&x, &x, &Array2::zeros((6, 0))), &ridge()), &["`b`", "[6, 0]"]);
    says(solve.call((&x, &x, &Array2::ones((5, 1))), &ridge()), &["`b`", "5", "6"]);
}

#[test]
fn of_points() {
    let aliases = ["x = Vi(2)", "y = Vj(2)"];
    let process: GaussianProcess = GaussianProcess::new("Exp(-SqDist(x, y))", aliases).unwrap();
    let x = points(6);
    says(process.condition(&x, &Array1::ones(5), &[], 0.1), &["the values", "6", "[5]"]);
    let flat = Array2::zeros((6, 0));
    says(
        process.condition(&flat, &Array1::ones(6), &[], 0.1),
        &["the points", "(points, 2)", "[6, 0]"],
    );
    let neighbours: Neighbours = Neighbours::new("SqDist(x, y)", aliases).unwrap();
    says(neighbours.nearest(2, (&x, &flat)), &["`y`", "(N, 2)", "[6, 0]"]);
    let cube = Array3::<f64>::zeros((2, 6, 2));
    says(neighbours.nearest(2, (&cube, &x)), &["points as a matrix", "[2, 6, 2]"]);
    says(
        KMeans::<Reference>::new(2).fit(&Array2::<f64>::zeros((0, 2))),
        &["2 clusters of 0 points"],
    );
    says(KMeans::<Reference>::new(2).fit(&Array2::<f64>::zeros((6, 0))), &["points", "(6, 0)"]);
}

//! Gradients of solutions against central differences of a dense, not necessarily symmetric solve:
//! each argument moves alone.

mod common;
use common::*;
use keops_core::error::{Error, GradError, InputError};
use keops_core::genred::Genred;
use keops_core::spec::Axis;
use keops_linalg::{KernelSolve, Method, SolveError, SolveGradient, SolveOptions};
use ndarray::{Array2, ArrayD, Axis as NdAxis, IxDyn};

const OPTIONS: SolveOptions = SolveOptions {
    ridge: 0.5,
    tolerance: 1e-13,
    max_iterations: None,
    check_symmetry: true,
    method: Method::ConjugateGradients,
};

/// The solution by Gaussian elimination with pivoting, of the matrix that `sum` is in its
/// argument number `slot`.
fn dense_solution(sum: &Genred, slot: usize, args: &[ArrayD<f64>], ridge: f64) -> ArrayD<f64> {
    let b = &args[slot];
    let n = b.len();
    let mut m = Array2::<f64>::zeros((n, n + 1));
    for c in 0..n {
        let mut args = args.to_vec();
        args[slot].fill(0.0);
        args[slot].as_slice_mut().unwrap()[c] = 1.0;
        let column = sum.call(&args.iter().collect::<Vec<_>>()[..]).unwrap();
        m.column_mut(c).iter_mut().zip(&column).for_each(|(m, v)| *m = *v);
        m[[c, c]] += ridge;
    }
    m.column_mut(n).iter_mut().zip(b).for_each(|(m, v)| *m = *v);
    for c in 0..n {
        let pivot = (c..n).max_by(|&i, &j| m[[i, c]].abs().total_cmp(&m[[j, c]].abs())).unwrap();
        for k in 0..=n {
            m.swap([c, k], [pivot, k]);
        }
        for i in (0..n).filter(|&i| i != c) {
            let factor = m[[i, c]] / m[[c, c]];
            for k in c..=n {
                m[[i, k]] -= factor * m[[c, k]];
            }
        }
    }
    ArrayD::from_shape_vec(b.shape(), (0..n).map(|i| m[[i, n]] / m[[i, i]]).collect()).unwrap()
}

fn dot(a: &ArrayD<f64>, b: &ArrayD<f64>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn gradient(
    solve: &KernelSolve,
    args: &[ArrayD<f64>],
    e: &ArrayD<f64>,
    wrt: &[&str],
) -> SolveGradient<f64> {
    let views: Vec<&ArrayD<f64>> = args.iter().collect();
    let a = solve.call(&views[..], &OPTIONS).unwrap().value;
    let gradient = solve.vjp(&views[..], &a, e, wrt, &OPTIONS).unwrap();
    assert!(gradient.info.converged());
    gradient
}

/// Every entry of every gradient, and the ridge; the variable is named b.
fn check(sum: Genred, args: &[ArrayD<f64>], random: &mut Random) {
    let names: Vec<String> = sum.arguments().map(String::from).collect();
    let names: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
    let slot = names.iter().position(|n| *n == "b").unwrap();
    let solve = KernelSolve::from_sum(sum.clone(), "b").unwrap();
    let e = random.array(args[slot].shape());
    let all = gradient(&solve, args, &e, &names);
    // A central difference of step h has an error of h².
    let h = 1e-4;
    let close = |what: &str, got: f64, expected: f64| {
        assert!(
            (got - expected).abs() < 1e-7 * (1.0 + expected.abs()),
            "{what}: {got}, {expected}"
        );
    };
    for (k, name) in names.iter().enumerate() {
        assert_eq!(all.arguments[k].shape(), args[k].shape(), "{name}");
        for c in 0..args[k].len() {
            let moved = |h: f64| {
                let mut args = args.to_vec();
                args[k].as_slice_mut().unwrap()[c] += h;
                dot(&dense_solution(&sum, slot, &args, OPTIONS.ridge), &e)
            };
            let difference = (moved(h) - moved(-h)) / (2.0 * h);
            close(&format!("d/d{name}[{c}]"), all.arguments[k].as_slice().unwrap()[c], difference);
        }
    }
    let ridge = |h: f64| dot(&dense_solution(&sum, slot, args, OPTIONS.ridge + h), &e);
    close("d/dridge", all.ridge, (ridge(h) - ridge(-h)) / (2.0 * h));
    // Some of them, in any order.
    let some = gradient(&solve, args, &e, &["b", "x"]);
    let x = names.iter().position(|n| *n == "x").unwrap();
    assert_eq!(some.arguments, [all.arguments[slot].clone(), all.arguments[x].clone()]);
    assert_eq!(gradient(&solve, args, &e, &["b"]).arguments, some.arguments[..1]);
    assert!(gradient(&solve, args, &e, &[]).arguments.is_empty());
}

#[test]
fn of_kernels_times_columns() {
    let mut random = Random::new(1);
    let x = random.array(&[6, 2]);
    let args = [x.clone(), x, random.array(&[6, 2]), random.array(&[1])];
    check(gaussian(2, 2), &args, &mut random);
}

#[test]
fn of_matrix_valued_kernels_over_i() {
    let mut random = Random::new(2);
    let aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vi(2)"];
    let g = sum("Exp(-SqDist(x, y)) * b + (x | b) * y", &aliases, Axis::I);
    let x = random.array(&[5, 2]);
    check(g, &[x.clone(), x, random.array(&[5, 2])], &mut random);
}

/// The right-hand side and the scale are shared by three kernels: their gradients are sums.
#[test]
fn of_batches() {
    let mut random = Random::new(3);
    let solve = KernelSolve::from_sum(gaussian(2, 1), "b").unwrap();
    let (x, b, s) = (random.array(&[3, 6, 2]), random.array(&[1, 6, 1]), random.array(&[1]));
    let e = random.array(&[3, 6, 1]);
    let wrt = ["x", "y", "b", "s"];
    let all = gradient(&solve, &[x.clone(), x.clone(), b.clone(), s.clone()], &e, &wrt);
    let mut sums = [ArrayD::zeros(IxDyn(&[1, 6, 1])), ArrayD::zeros(IxDyn(&[1]))];
    let mut ridge = 0.0;
    for k in 0..3 {
        let at = |a: &ArrayD<f64>| a.index_axis(NdAxis(0), k).to_owned();
        let b = b.index_axis(NdAxis(0), 0).to_owned();
        let own = gradient(&solve, &[at(&x), at(&x), b, s.clone()], &at(&e), &wrt);
        for side in 0..2 {
            assert!(distance(&at(&all.arguments[side]), &own.arguments[side]) < 1e-10);
        }
        sums[0] += &own.arguments[2];
        sums[1] += &own.arguments[3];
        ridge += own.ridge;
    }
    assert!(distance(&all.arguments[2], &sums[0]) < 1e-10);
    assert!(distance(&all.arguments[3], &sums[1]) < 1e-10);
    assert!((all.ridge - ridge).abs() < 1e-10 * ridge.abs());
}

#[test]
fn errors() {
    let mut random = Random::new(4);
    let solve = KernelSolve::from_sum(gaussian(2, 1), "b").unwrap();
    let (x, b, s) = (random.array(&[4, 2]), random.array(&[4, 1]), random.array(&[1]));
    let r = solve.vjp((&x, &x, &b, &s), &b, &b, &["x", "c"], &OPTIONS);
    assert!(
        matches!(r, Err(SolveError::Core(Error::Grad(GradError::UnknownVariable { name, .. }))) if name == "c")
    );
    let r = solve.vjp((&x, &x, &b, &s), &b, &x, &["x"], &OPTIONS);
    assert!(
        matches!(r, Err(SolveError::Core(Error::Input(InputError::Shape { name, .. }))) if name == "the cotangent")
    );
    let mut bad = b.clone();
    bad[[2, 0]] = f64::NAN;
    let r = solve.vjp((&x, &x, &b, &s), &b, &bad, &["x"], &OPTIONS);
    assert!(matches!(r, Err(SolveError::NotFinite { iteration: 0, .. })));
}

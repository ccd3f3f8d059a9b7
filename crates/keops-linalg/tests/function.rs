//! Solves as nodes of computations: values by dense elimination, first and second derivatives in
//! all modes and arguments, alone, inside sums and inside each other, against differences of it.
//! The matrices move without staying symmetric, as each argument moves alone.

mod common;
use common::*;
use keops_core::error::Error;
use keops_core::genred::Genred;
use keops_core::graph::Category;
use keops_core::outer::{Computation, InputDef, OuterGraph, OutputDef};
use keops_core::spec::Axis;
use keops_linalg::{KernelSolve, Method, PivotedCholesky, SolveError, SolveFunction, SolveOptions};
use ndarray::{Array2, ArrayD, Axis as NdAxis, array};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

const OPTIONS: SolveOptions = SolveOptions {
    ridge: 0.7,
    tolerance: 1e-13,
    max_iterations: None,
    check_symmetry: true,
    method: Method::ConjugateGradients,
};

type Arrays<'a> = &'a [ArrayD<f64>];

fn dot(a: &ArrayD<f64>, b: &ArrayD<f64>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
/// `(m + ridge I)⁻¹ b` by elimination with pivoting, for matrices that are not symmetric.
fn eliminate(mut m: Array2<f64>, ridge: f64, b: &ArrayD<f64>) -> ArrayD<f64> {
    let mut b = two(b).to_owned();
    let n = b.nrows();
    (0..n).for_each(|k| m[[k, k]] += ridge);
    for c in 0..n {
        let pivot = (c..n).max_by(|&i, &j| m[[i, c]].abs().total_cmp(&m[[j, c]].abs())).unwrap();
        (0..n).for_each(|k| m.swap([c, k], [pivot, k]));
        (0..b.ncols()).for_each(|k| b.swap([c, k], [pivot, k]));
        for i in (0..n).filter(|&i| i != c) {
            let factor = m[[i, c]] / m[[c, c]];
            (0..n).for_each(|k| m[[i, k]] -= factor * m[[c, k]]);
            (0..b.ncols()).for_each(|k| b[[i, k]] -= factor * b[[c, k]]);
        }
    }
    for i in 0..n {
        b.row_mut(i).mapv_inplace(|v| v / m[[i, i]]);
    }
    b.into_dyn()
}
fn kernel(x: &ArrayD<f64>, y: &ArrayD<f64>, s: f64) -> Array2<f64> {
    gaussian_matrix(&two(x).to_owned(), &two(y).to_owned(), s)
}

/// Values against `naive`, first and second derivatives in all modes and variables against
/// differences of it.
fn check(what: &str, g: &Genred, at: Arrays<'_>, naive: &dyn Fn(Arrays<'_>) -> ArrayD<f64>) {
    let names: Vec<String> = g.arguments().map(String::from).collect();
    assert_eq!(names.len(), at.len(), "{names:?}");
    let mut random = Random::new(99);
    let out = naive(at);
    let e = random.array(out.shape());
    let call = |g: &Genred, more: &[&ArrayD<f64>]| {
        let args: Vec<&ArrayD<f64>> = at.iter().chain(more.iter().copied()).collect();
        g.call(&args[..]).unwrap()
    };
    let close = |what: &str, got: f64, want: f64, tolerance: f64| {
        assert!((got - want).abs() <= tolerance * (1.0 + want.abs()), "{what}: {got} not {want}");
    };
    let got = call(g, &[]);
    assert_eq!(got.shape(), out.shape(), "{what}");
    got.iter().zip(&out).for_each(|(g, w)| close(what, *g, *w, 1e-10));
    let moved = |steps: &[(usize, &ArrayD<f64>, f64)]| {
        let mut at = at.to_vec();
        steps.iter().for_each(|(k, u, h)| at[*k] = &at[*k] + &(*u * *h));
        dot(&e, &naive(&at))
    };
    for v in 0..at.len() {
        let u = random.array(at[v].shape());
        let h = 1e-3;
        // Fourth order: (8 (f₊ - f₋) - (f₊₊ - f₋₋)) / 12 h.
        let f = |t: f64| moved(&[(v, &u, t * h)]);
        let first = (8.0 * (f(1.0) - f(-1.0)) - (f(2.0) - f(-2.0))) / (12.0 * h);
        let what = format!("{what}, d {}", names[v]);
        let (back, along) = (g.vjp(&names[v]).unwrap(), g.jvp(&names[v]).unwrap());
        close(&what, dot(&call(&back, &[&e]), &u), first, 1e-8);
        close(&what, dot(&call(&along, &[&u]), &e), first, 1e-8);
        for w in 0..at.len() {
            let t = random.array(at[w].shape());
            let h = 2e-3;
            let f = |a: f64, b: f64| moved(&[(v, &u, a * h), (w, &t, b * h)]);
            let second =
                |s: f64| (f(s, s) - f(s, -s) - f(-s, s) + f(-s, -s)) / (4.0 * s * s * h * h);
            let second = (4.0 * second(1.0) - second(2.0)) / 3.0;
            let what = format!("{what} d {}", names[w]);
            let of = |g: Result<Genred, _>, a: &ArrayD<f64>, b: &ArrayD<f64>, c: &ArrayD<f64>| {
                dot(&call(&g.unwrap(), &[a, b]), c)
            };
            close(&format!("{what}, rr"), of(back.vjp(&names[w]), &e, &u, &t), second, 1e-6);
            close(&format!("{what}, rf"), of(back.jvp(&names[w]), &e, &t, &u), second, 1e-6);
            close(&format!("{what}, fr"), of(along.vjp(&names[w]), &u, &e, &t), second, 1e-6);
            close(&format!("{what}, ff"), of(along.jvp(&names[w]), &u, &t, &e), second, 1e-6);
        }
    }
}

fn gaussian_solve(dim: usize, columns: usize) -> SolveFunction {
    KernelSolve::from_sum(gaussian(dim, columns), "b").unwrap().function(OPTIONS)
}

#[test]
fn in_every_argument_and_the_ridge() {
    let mut random = Random::new(1);
    let x = random.array(&[5, 2]);
    let at = [x.clone(), x, random.array(&[5, 2]), array![0.8].into_dyn(), array![0.6].into_dyn()];
    let f = gaussian_solve(2, 2).ridge_as("alpha").genred().unwrap();
    check("solve", &f, &at, &|v| eliminate(kernel(&v[0], &v[1], v[3][[0]]), v[4][[0]], &v[2]));
}

/// A kernel that is a matrix for each pair, summed over i.
#[test]
fn of_matrix_valued_kernels_over_i() {
    let mut random = Random::new(2);
    let aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vi(2)"];
    let g = sum("Exp(-SqDist(x, y)) * b + (x | b) * y", &aliases, Axis::I);
    let x = random.array(&[4, 2]);
    let f = KernelSolve::from_sum(g, "b").unwrap().function(OPTIONS).genred().unwrap();
    check("matrix-valued", &f, &[x.clone(), x, random.array(&[4, 2])], &|v| {
        let (x, y) = (&v[0], &v[1]);
        let k = kernel(y, x, 1.0);
        // Row (j, c), column (i, d): k(x_i, y_j) δ_cd + y_jc x_id.
        let m = Array2::from_shape_fn((8, 8), |(r, s)| {
            let (j, c, i, d) = (r / 2, r % 2, s / 2, s % 2);
            f64::from(u8::from(c == d)) * k[[j, i]] + y[[j, c]] * x[[i, d]]
        });
        let b = v[2].clone().into_shape_with_order((8, 1)).unwrap().into_dyn();
        eliminate(m, 0.7, &b).into_shape_with_order((4, 2)).unwrap().into_dyn()
    });
}

/// Σ_j sin(x_i y_j) a_j² of a solution a.
#[test]
fn inside_a_sum() {
    let mut random = Random::new(3);
    let outer = sum("Sin(z | y) * Square(a)", &["z = Vi(2)", "y = Vj(2)", "a = Vj(1)"], Axis::J);
    let f = outer.compose("a", &gaussian_solve(2, 1).genred().unwrap()).unwrap();
    assert_eq!(f.arguments().collect::<Vec<_>>(), ["z", "y", "x", "b", "s"]);
    let x = random.array(&[5, 2]);
    let at = [random.array(&[5, 2]), x.clone(), x, random.array(&[5, 1]), array![0.9].into_dyn()];
    check("Σ sin(z y) a²", &f, &at, &|v| {
        let a = eliminate(kernel(&v[2], &v[1], v[4][[0]]), 0.7, &v[3]);
        let (z, y) = (two(&v[0]), two(&v[1]));
        let term = |i: usize, j: usize| z.row(i).dot(&y.row(j)).sin() * a[[j, 0]].powi(2);
        let of = |(i, _)| (0..5).map(|j| term(i, j)).sum();
        Array2::from_shape_fn((5, 1), of).into_dyn()
    });
}

/// `(K(x, y) + α)⁻¹ (L(x, y) + α)⁻¹ b`: a solve whose right-hand side is one.
#[test]
fn of_a_solve() {
    let mut random = Random::new(4);
    let aliases = ["x = Vi(2)", "y = Vj(2)", "c = Vj(1)"];
    let inner = KernelSolve::from_sum(sum("c / (1 + SqDist(x, y))", &aliases, Axis::J), "c");
    let inner = inner.unwrap().function(OPTIONS).genred().unwrap();
    let f = gaussian_solve(2, 1).genred().unwrap().compose("b", &inner).unwrap();
    assert_eq!(f.arguments().collect::<Vec<_>>(), ["x", "y", "s", "c"]);
    let x = random.array(&[5, 2]);
    let at = [x.clone(), x, array![1.3].into_dyn(), random.array(&[5, 1])];
    check("solve of a solve", &f, &at, &|v| {
        let cauchy = |d: f64| 1.0 / (1.0 - d.ln()); // of exp(-d²)
        let b = eliminate(kernel(&v[0], &v[1], 1.0).mapv(cauchy), 0.7, &v[3]);
        eliminate(kernel(&v[0], &v[1], v[2][[0]]), 0.7, &b)
    });
}

/// One array on both sides, the right-hand side too: `(exp(-|x_i - x_j|²) + α)⁻¹ x`, and its
/// square as the argument of the kernel of the next.
#[test]
fn with_one_array_everywhere() {
    let mut graph = OuterGraph::default();
    let x = graph.input(0, 1, Category::J);
    let x_i = graph.recast(x, Category::I).unwrap();
    let solve: KernelSolve = KernelSolve::new(
        "Exp(-SqDist(x, y)) * b",
        ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"],
        "b",
        Axis::J,
    )
    .unwrap();
    let f = solve.function(OPTIONS);
    let a = f.apply(&mut graph, &[x_i, x, x]).unwrap();
    let a_i = graph.recast(a, Category::I).unwrap();
    let port = f.apply(&mut graph, &[a_i, a, a]).unwrap();
    let input = InputDef { name: "x".into(), category: Category::J, row: vec![1], like: None };
    let c =
        Computation::new(graph, vec![input], vec![OutputDef { port, row: vec![1], like: None }])
            .unwrap();
    let x = Random::new(5).array(&[5, 1]);
    check("one array", &c.into(), &[x], &|v| {
        let a = eliminate(kernel(&v[0], &v[0], 1.0), 0.7, &v[0]);
        eliminate(kernel(&a, &a, 1.0), 0.7, &a)
    });
}

/// Batches of kernels, of right-hand sides and of ridges.
#[test]
fn of_batches() {
    let mut random = Random::new(6);
    let x = random.array(&[3, 4, 2]);
    let ridge = array![[0.5], [0.9], [0.7]].into_dyn();
    let at = [x.clone(), x, random.array(&[4, 1]), array![0.8].into_dyn(), ridge];
    let f = gaussian_solve(2, 1).ridge_as("alpha").genred().unwrap();
    check("batches", &f, &at, &|v| {
        let mut out = ArrayD::zeros(vec![3, 4, 1]);
        for k in 0..3 {
            let of = |a: &ArrayD<f64>| a.index_axis(NdAxis(0), k).to_owned();
            let m = kernel(&of(&v[0]), &of(&v[1]), v[3][[0]]);
            out.index_axis_mut(NdAxis(0), k).assign(&eliminate(m, v[4][[k, 0]], &v[2]));
        }
        out
    });
}

#[test]
fn in_f32() {
    let mut random = Random::new(7);
    let (x, b) = (random.matrix(20, 2), random.matrix(20, 1));
    let options = SolveOptions { tolerance: 1e-5, ..OPTIONS };
    let f = KernelSolve::from_sum(gaussian(2, 1), "b").unwrap().function(options).genred().unwrap();
    let single = |m: &Array2<f64>| m.mapv(|v| v as f32);
    let e = Array2::<f32>::ones((20, 1));
    let g = f.vjp("b").unwrap();
    let (x32, b32) = (single(&x), single(&b));
    let got = g.call((&x32, &x32, &b32, &array![1f32], &e)).unwrap();
    let want = eliminate(gaussian_matrix(&x, &x, 1.0), 0.7, &Array2::ones((20, 1)).into_dyn());
    assert!(got.iter().zip(&want).all(|(g, w)| (f64::from(*g) - w).abs() < 1e-4));
}

/// The solves of a gradient and of a product with the Hessian take the preconditioner of the
/// first; all report.
#[test]
fn one_preconditioner_for_all_derivatives() {
    let mut random = Random::new(8);
    let x = random.matrix(60, 1);
    let (made, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(vec![])));
    let (count, list) = (made.clone(), seen.clone());
    let options = SolveOptions { ridge: 1e-4, ..OPTIONS };
    let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    let solve: KernelSolve =
        KernelSolve::new("Exp(-SqDist(x, y)) * b", aliases, "b", Axis::J).unwrap();
    let f = solve
        .function(SolveOptions { tolerance: 1e-9, ..options })
        .preconditioner(move |k| {
            count.fetch_add(1, Relaxed);
            Ok(Arc::new(PivotedCholesky::new(k, 20)?))
        })
        .observe(move |info| list.lock().unwrap().push(info.clone()));
    assert!(f.last_report().is_none());
    let g = f.genred().unwrap().vjp("x").unwrap().jvp("x").unwrap();
    let ones = Array2::ones((60, 1));
    g.call((&x, &x, &x, &ones, &ones)).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(made.load(Relaxed), 1);
    assert_eq!(seen.len(), 4); // a, λ, and their tangents
    assert!(seen.iter().all(|info| info.converged() && info.iterations <= 4), "{seen:?}");
    assert_eq!(f.last_report().as_ref(), seen.last());
    drop(seen);
    // Other points, another preconditioner.
    f.genred().unwrap().call((&ones, &ones, &x)).unwrap();
    assert_eq!(made.load(Relaxed), 2);
}

#[test]
fn errors() {
    let f = gaussian_solve(2, 1).ridge_as("alpha").genred().unwrap();
    let mut random = Random::new(9);
    let (x, b) = (random.matrix(5, 2), random.matrix(5, 1));
    let e = f.call((&x, &x, &b, &array![1.0], &array![-1.0])).unwrap_err();
    assert!(e.to_string().contains("the ridge must be finite and at least 0"), "{e}");
    let y = random.matrix(5, 2);
    let e = f.call((&x, &y, &b, &array![1.0], &array![1.0])).unwrap_err();
    let Error::Function { source, .. } = &e else { panic!("{e}") };
    let partial = source.downcast_ref::<SolveError>().and_then(|e| e.partial());
    assert!(partial.is_some_and(|p| p.solution.shape() == [5, 1]), "{e}");
    let few = (random.matrix(4, 2), random.matrix(4, 1));
    let e = f.call((&x, &few.0, &few.1, &array![1.0], &array![1.0])).unwrap_err().to_string();
    assert_eq!(e, "KernelSolve: it takes as many rows of i as of j, but there are 5 and 4");
    let e = gaussian_solve(2, 1).ridge_as("x").genred().unwrap_err();
    assert!(e.to_string().contains("two arguments are named `x`"), "{e}");
    let mut g = OuterGraph::default();
    let x = g.input(0, 2, Category::I);
    let e = gaussian_solve(2, 1).apply(&mut g, &[x]).unwrap_err();
    assert_eq!(e.to_string(), "KernelSolve: expected 4 operands, got 1");
    // As many rows as columns.
    let c = g.recast(x, Category::J).unwrap();
    let both = g.input(1, 2, Category::J);
    let port = g.add(&[c, both]);
    let input =
        |name: &str, category| InputDef { name: name.into(), category, row: vec![2], like: None };
    let inputs = vec![input("x", Category::I), input("y", Category::J)];
    let c: Genred = Computation::new(g, inputs, vec![OutputDef { port, row: vec![2], like: None }])
        .unwrap()
        .into();
    let e = c.call((&random.matrix(5, 2), &random.matrix(4, 2))).unwrap_err();
    assert!(e.to_string().contains("there are 5 and 4"), "{e}");
}

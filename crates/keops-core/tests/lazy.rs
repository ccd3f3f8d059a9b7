//! Symbolic matrices against plain loops, the same formulas as text, and misuse.

use half::f16;
use keops_core::composite::Literal;
use keops_core::data::DType;
use keops_core::error::Error;
use keops_core::genred::{Genred, Reference};
use keops_core::graph::Category;
use keops_core::interp::Interpreter;
use keops_core::lazy::{BoundReduction, LazyTensor as Lazy};
use keops_core::outer::OuterGraph;
use keops_core::ranges::Ranges;
use keops_core::reduce::{K_MIN, LOG_SUM_EXP, SUM};
use keops_core::spec::{Axis, Device, ReduceOptions, Scheme};
use ndarray::{Array, Array1, Array2, Array3, Dimension, array, s};

type LazyTensor<T> = Lazy<T, Reference>;

fn points(n: usize, d: usize, phase: f64) -> Array2<f64> {
    Array2::from_shape_fn((n, d), |(i, k)| ((i * d + k) as f64 * 0.7 + phase).sin())
}
fn close<A: Dimension, B: Dimension>(got: &Array<f64, A>, want: &Array<f64, B>) {
    assert_eq!(got.shape(), want.shape());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= 1e-13 * w.abs().max(1.0), "got {g}, expected {w}");
    }
}
fn text(formula: &str, aliases: &[&str]) -> Genred {
    Genred::new(formula, aliases, &SUM, Axis::J).unwrap()
}

#[test]
fn operators_mix_values_references_and_scalars() {
    let (x, y) = (points(4, 3, 0.0), points(5, 3, 1.0));
    let (x_i, y_j) = (LazyTensor::vi(&x), LazyTensor::vj(&y));
    let sigma = 0.8;
    let k = (-x_i.sqdist(&y_j) / (2.0 * sigma * sigma)).exp();
    let f = 2 * &k * (&x_i - &y_j) + 1.5 * (x_i.clone() | &y_j) - &y_j * 0.25f32 + 3 - &x_i / 7;
    let aliases = ["x = Vi(3)", "y = Vj(3)"];
    let same = "2*Exp(-SqDist(x,y)/(2*0.8*0.8))*(x-y) + 1.5*(x|y) - y*0.25 + 3 - x/7";
    close(&f.sum(Axis::J).unwrap(), &text(same, &aliases).call((&x, &y)).unwrap());
    // The other index, by transposition.
    close(&f.t().sum(Axis::I).unwrap(), &f.sum(Axis::J).unwrap());
    assert_eq!(f.t().shape().unwrap(), [5, 4, 3]);
}

#[test]
fn scalars_become_parameters_unless_they_simplify() {
    let x = LazyTensor::vi(points(3, 1, 0.0));
    let formula = |l: &LazyTensor<f64>| l.formula().unwrap().to_string();
    assert_eq!(formula(&(2.0 * &x + 0.5 * &x)), "v0 * v1 + v2 * v1");
    assert_eq!(formula(&(1.0 * &x + 0)), "v0");
    assert_eq!(formula(&(0.5 * &x + (&x + 0.5))), "v0 * v1 + (v1 + v0)");
    assert_eq!(formula(&x.clamp(-1, f64::INFINITY)), formula(&x.clamp(-1.0, f32::INFINITY)));
    assert_eq!(formula(&x.pow(2)), "v0 * v0");
    assert_eq!(formula(&(&x * LazyTensor::constant(0.5))), "v0 * 0.5");
    // One array is one variable, however often it occurs.
    assert_eq!((&x * &x + x.exp()).formula().unwrap().vars.len(), 1);
}

#[test]
fn matrix_products_keep_the_shape_of_vectors() {
    let (x, y) = (points(4, 2, 0.0), points(6, 2, 2.0));
    let b = points(6, 3, 0.5);
    let k = LazyTensor::vi(&x).sqdist(LazyTensor::vj(&y));
    let dense =
        Array2::from_shape_fn((4, 6), |(i, j)| (&x.row(i) - &y.row(j)).mapv(|v| v * v).sum());
    close(&k.matmul(&b).unwrap(), &dense.dot(&b));
    let vector = b.column(1);
    close(&k.matmul(vector).unwrap(), &dense.dot(&vector));
    close(&k.t().matmul(Array1::ones(4)).unwrap(), &dense.sum_axis(ndarray::Axis(0)));
}

#[test]
fn reductions_give_values_and_indices() {
    let (x, y) = (array![[0.0], [2.9]], array![[3.0], [1.0], [-1.0]]);
    let d = LazyTensor::vi(&x).sqdist(LazyTensor::vj(&y)); // [9 1 1], [0.01 3.61 15.21]
    let axis = Axis::J;
    assert_eq!(d.min(axis).unwrap()[[0, 0]], 1.0);
    assert_eq!(d.max(axis).unwrap()[[0, 0]], 9.0);
    assert_eq!(d.argmin(axis).unwrap(), array![[1], [0]].into_dyn());
    assert_eq!(d.argmax(axis).unwrap(), array![[0], [2]].into_dyn());
    assert_eq!(d.argmin(Axis::I).unwrap(), array![[1], [0], [0]].into_dyn());
    let (v, i) = d.kmin_argkmin(2, axis).unwrap();
    assert_eq!((v[[0, 1]], i), (1.0, array![[1, 2], [0, 1]].into_dyn()));
    assert_eq!(d.kmin(5, axis).unwrap()[[0, 3]], f64::INFINITY);
    assert_eq!(d.argkmin(4, axis).unwrap(), array![[1, 2, 0, -1], [0, 1, 2, -1]].into_dyn());
    let (v, i) = d.max_argmax(axis).unwrap();
    assert_eq!((v[[0, 0]], i[[1, 0]]), (9.0, 2));
    assert_eq!(d.min_argmin(axis).unwrap().1, d.argmin(axis).unwrap());
    let lse = |row: [f64; 3]| row.iter().map(|v| v.exp()).sum::<f64>().ln();
    let e = d.logsumexp(axis).unwrap();
    assert!((e[[0, 0]] - lse([9.0, 1.0, 1.0])).abs() < 1e-14);
    let w = LazyTensor::vj(array![[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]);
    let (s, l) = (d.sumsoftmaxweight(&w, axis).unwrap(), d.logsumexp_weighted(&w, axis).unwrap());
    assert!((s[[0, 1]] - (1.0 - lse([9.0, 1.0, 1.0])).exp()).abs() < 1e-15);
    assert!((l[[0, 0]] - 9.0).abs() < 1e-14);
}

#[test]
fn components_and_derivatives() {
    let (x, y, e) = (points(3, 3, 0.2), points(4, 3, 0.9), points(3, 1, 0.1));
    let (x_i, y_j, e_i) = (LazyTensor::vi(&x), LazyTensor::vj(&y), LazyTensor::vi(&e));
    let k = (-x_i.sqdist(&y_j)).exp();
    let aliases = ["x = Vi(3)", "y = Vj(3)", "e = Vi(1)"];
    let check = |l: LazyTensor<f64>, formula: &str| {
        close(&l.sum(Axis::J).unwrap(), &text(formula, &aliases).call((&x, &y, &e)).unwrap());
    };
    check(k.grad(&x_i, &e_i), "Grad(Exp(-SqDist(x,y)), x, e)");
    check(k.laplacian(&y_j), "Laplacian(Exp(-SqDist(x,y)), y)");
    check(x_i.concat(&y_j).extract(2, 3).elem(1), "[x, y][2:5][1]");
    check(x_i.weightedsqdist(&y_j, &e_i), "WeightedSqDist(e, x, y)");
    check(x_i.greater_than(&y_j), "x > y");
    check(y_j.atan2(&x_i).abs().powf(0.5), "Powf(Abs(Atan2(y, x)), 0.5)");
    check((LazyTensor::i() - LazyTensor::j()).abs() * &k, "Abs(i-j)*Exp(-SqDist(x,y))");
    check(e_i.call("SqNormIso", &[&y_j], &[]), "SqNormIso(e, y)");
    check(
        x_i.call("ClampInt", &[], &[Literal::Int(0), Literal::Int(1)]) * &y_j,
        "ClampInt(x,0,1)*y",
    );
}

#[test]
fn layouts_types_and_batches() {
    let x = points(6, 4, 0.0);
    let strided = x.slice(s![..;-2, 1..3]);
    let y = points(5, 2, 1.0);
    let direct = LazyTensor::vi(strided).sqdist(LazyTensor::vj(&y)).sum(Axis::J).unwrap();
    let copied = LazyTensor::vi(strided.to_owned()).sqdist(LazyTensor::vj(y.clone())).sum(Axis::J);
    assert_eq!(direct, copied.unwrap());
    let half = |a: &Array2<f64>| a.mapv(f16::from_f64);
    // 0.1 is not rounded to f16 before it is used.
    let out = (LazyTensor::vi(half(&y)) * 0.1 * LazyTensor::vj(Array1::from_elem(1, f16::ONE)))
        .reduce(&SUM, Axis::J)
        .unwrap();
    assert_eq!(out[0].view().unwrap().dtype(), DType::F32);
    let exact = half(&y).mapv(|v| v.to_f64() * 0.1);
    assert!(out[0].to_f64().iter().zip(&exact).all(|(g, w)| (g - w).abs() <= 1e-7));
    // Batches broadcast; a vector is rows of dimension 1.
    let batch = Array3::from_shape_fn((2, 3, 1), |(b, i, _)| (b * 3 + i) as f32);
    let l = LazyTensor::vi(&batch) * LazyTensor::vj(&Array1::<f32>::from(vec![1.0, 2.0]));
    assert_eq!(l.shape().unwrap(), [2, 3, 2, 1]);
    assert_eq!(l.sum(Axis::J).unwrap().shape(), [2, 3, 1]);
    assert_eq!(l.sum(Axis::J).unwrap()[[1, 2, 0]], 15.0);
    let p = LazyTensor::pm(ndarray::arr0(2f32)) + LazyTensor::pm(array![1f32, 2.0]);
    assert_eq!((p * l).max(Axis::J).unwrap().shape(), [2, 3, 2]);
}

#[test]
fn options_and_ranges_follow_the_formula() {
    let (x, y) = (points(4, 1, 0.0), points(4, 1, 1.0));
    let ranges = Ranges::from_clusters(&[2, 4], &[1, 4], &[true, false, false, true]).unwrap();
    let k = LazyTensor::vi(&x) * LazyTensor::vj(&y);
    let masked = (2 * k.clone().ranges(ranges.clone())).sum(Axis::J).unwrap();
    assert!((masked[[0, 0]] - 2.0 * x[[0, 0]] * y[[0, 0]]).abs() < 1e-15);
    let t = k.clone().ranges(ranges).t();
    assert!((t.sum(Axis::I).unwrap()[[0, 0]] * 2.0 - masked[[0, 0]]).abs() < 1e-15);
    let kahan = ReduceOptions { scheme: Scheme::Kahan, ..ReduceOptions::default() };
    assert!(k.clone().options(kahan).sum(Axis::J).is_ok());
    assert!(k.options(kahan).min(Axis::J).is_err());
}

#[test]
fn symbolic_formulas_make_functions() {
    let x = LazyTensor::<f64>::var(0, 2, Category::I);
    let y = LazyTensor::var(1, 2, Category::J);
    let f = -x.sqdist(&y) * 0.5;
    let g = f.genred(&LOG_SUM_EXP, Axis::J).unwrap();
    let (a, b) = (points(3, 2, 0.0), points(5, 2, 1.0));
    let same =
        Genred::<Reference>::new("-SqDist(x,y)*0.5", ["x=Vi(2)", "y=Vj(2)"], &LOG_SUM_EXP, Axis::J);
    assert_eq!(g.call((&a, &b)).unwrap(), same.unwrap().call((&a, &b)).unwrap());
    assert_eq!(g.vjp("v1").unwrap().arguments().collect::<Vec<_>>(), ["v0", "v1", "e"]);
    assert!(f.genred((&K_MIN, 2), Axis::I).is_ok());
    let error = |e: Result<Genred, Error>| e.unwrap_err().to_string();
    assert!(
        error((&f * LazyTensor::vj(&b)).genred(&SUM, Axis::J)).contains("is bound to an array")
    );
    let gap = &x * LazyTensor::var(2, 2, Category::J);
    assert!(error(gap.genred(&SUM, Axis::J)).contains("no variable has position 1"));
    assert!(f.sum(Axis::J).unwrap_err().to_string().contains("v0 is symbolic"));
    let clash = (&x + LazyTensor::var(0, 2, Category::J)).check().unwrap_err().to_string();
    assert!(clash.contains("position 0 is Vi(2) and Vj(2)"), "{clash}");
}

#[test]
fn the_first_error_is_carried_with_its_place() {
    let x = LazyTensor::vi(points(4, 3, 0.0));
    let y = LazyTensor::vj(points(5, 2, 0.0));
    let line = line!() + 1;
    let bad = x.sqdist(&y);
    let later = (bad.exp() + 1.0).norm2() * &y.elem(7);
    let e = later.sum(Axis::J).unwrap_err().to_string();
    assert!(e.contains("SqDist: expected operands of one dimension, got dimensions [3, 2]"), "{e}");
    assert!(e.contains(&format!("lazy.rs:{line}:")), "{e}");
    assert_eq!(later.check().unwrap_err().to_string(), e);
    assert_eq!(format!("{later:?}"), e);
    let line = line!() + 1;
    let e = (&x - &y).check().unwrap_err().to_string();
    assert!(e.contains(&format!("lazy.rs:{line}:")), "{e}");

    let rows = (&x + LazyTensor::vi(points(7, 3, 0.0))).check().unwrap_err().to_string();
    assert!(rows.contains("has 7 rows, but `Vi(3) at "), "{rows}");
    let shape = LazyTensor::<f64>::vi(Array2::zeros((4, 0))).check().unwrap_err().to_string();
    assert!(shape.contains("Vi") && shape.contains("[4, 0]"), "{shape}");
    assert!(LazyTensor::<f64>::vi(ndarray::arr0(1.0)).check().is_err());
    assert!(LazyTensor::<f64>::var(0, 0, Category::I).check().is_err());
    assert!(x.elem(3).check().is_err() && x.one_hot(2).check().is_err());
    assert!(x.elem(usize::MAX).check().is_err());
    for (range, got) in [
        (x.components(1..9), "got 1..9"),
        (x.components(ndarray::Slice::new(2, Some(1), 1)), "got 2..1"),
        (x.components(ndarray::Slice::new(5, None, 2)), "got 5.. by 2"),
    ] {
        let e = range.check().unwrap_err().to_string();
        assert!(e.contains("one of the 3 components") && e.contains(got), "{e}");
    }
    assert!(x.call("Nothing", &[], &[]).check().is_err());
    assert!(x.call("Exp", &[&x], &[]).check().is_err());
    assert!(x.call("Pow", &[], &[]).check().is_err());
    assert!(x.logsumexp(Axis::J).is_err(), "entries of dimension 3 have no log-sum-exp");
    assert!(x.kmin(0, Axis::J).is_err());
    assert!(format!("{:?}", &x * 2.5).starts_with("v0 * v1 where v0 = Vi(3) at "));
}

#[test]
fn bound_reductions_leave_symbols_open() {
    let (x, y, b) = (points(4, 3, 0.0), points(5, 3, 1.0), points(5, 2, 2.0));
    let k = (-LazyTensor::vi(&x).sqdist(LazyTensor::vj(&y)) * 0.7).exp();
    let open = &k * LazyTensor::var(0, 2, Category::J);
    let bound = open.bound(&SUM, Axis::J).unwrap();
    assert_eq!(bound.free(), ["v0"]);
    let mut args = keops_core::genred::IntoArgs::into_args(&bound);
    let at = bound.function().arguments().position(|n| n == "v0").unwrap();
    args.insert(at, keops_core::genred::AsArg::as_arg(&b));
    let out = bound.function().run(&args).unwrap().swap_remove(0).to_f64();
    close(&out, &k.matmul(&b).unwrap());
}

#[test]
fn repeated_formulas_share_all_but_arrays_and_names() {
    let device = Device::new(Interpreter::new());
    let (a, b) = (points(4, 2, 0.1), points(5, 2, 0.9));
    let nearness = |x: &Array2<f64>, y: &Array2<f64>, scale: f64| {
        let x = LazyTensor::vi(x).at(device.clone());
        let y = LazyTensor::vj(y).at(device.clone());
        let scale = LazyTensor::<f64>::scalar(scale).at(device.clone());
        (-(scale * x.sqdist(&y))).exp()
    };
    fn graph(bound: &BoundReduction<f64, Device>) -> *const OuterGraph {
        bound.function().computation().graph()
    }
    let first = nearness(&a, &b, 0.5).bound(&SUM, Axis::J).unwrap();
    let again = nearness(&b, &a, 1.5).bound(&SUM, Axis::J).unwrap();
    assert!(std::ptr::eq(graph(&first), graph(&again)));
    let expected = |x: &Array2<f64>, y: &Array2<f64>, scale: f64| {
        let row = |i: usize| {
            let d2 = |j: usize| (&x.row(i) - &y.row(j)).mapv(|v| v * v).sum();
            (0..y.nrows()).map(|j| (-scale * d2(j)).exp()).sum::<f64>()
        };
        Array2::from_shape_fn((x.nrows(), 1), |(i, _)| row(i)).into_dyn()
    };
    close(&first.call(()).unwrap(), &expected(&a, &b, 0.5));
    close(&again.call(()).unwrap(), &expected(&b, &a, 1.5));

    // Whatever changes the computation makes another one.
    let kahan = ReduceOptions { scheme: Scheme::Kahan, ..ReduceOptions::default() };
    let other = [
        nearness(&a, &b, 0.5).bound(&SUM, Axis::I).unwrap(),
        nearness(&a, &b, 0.5).bound(&LOG_SUM_EXP, Axis::J).unwrap(),
        nearness(&a, &b, 0.5).options(kahan).bound(&SUM, Axis::J).unwrap(),
        nearness(&a, &b, 0.0).bound(&SUM, Axis::J).unwrap(), // a constant of the formula
        nearness(&points(4, 3, 0.1), &points(5, 3, 0.9), 0.5).bound(&SUM, Axis::J).unwrap(),
    ];
    for (k, o) in other.iter().enumerate() {
        assert!(!std::ptr::eq(graph(&first), graph(o)), "{k}");
        assert!(other[..k].iter().all(|p| !std::ptr::eq(graph(p), graph(o))), "{k}");
    }
    // Arguments are named after their own places.
    let here = LazyTensor::vi(&a).at(device.clone()).bound(&SUM, Axis::I).unwrap();
    let there = LazyTensor::vi(&a).at(device.clone()).bound(&SUM, Axis::I).unwrap();
    assert!(std::ptr::eq(graph(&here), graph(&there)));
    let name =
        |b: &BoundReduction<f64, Device>| b.function().arguments().next().unwrap().to_string();
    assert_ne!(name(&here), name(&there));
}

/// Calls of formulas that were met before make no graph of them: nothing but what the formula is
/// may decide which one it was.
#[test]
fn formulas_that_differ_in_one_thing_have_their_own_results() {
    let device = Device::new(Interpreter::new());
    let lazy = |a: &Array2<f64>| LazyTensor::vi(a).at(device.clone());
    let [a, b] = [0.1, 0.9].map(|phase| points(4, 2, phase).mapv(|v| v.abs() + 0.1));
    let (x, y) = (lazy(&a), lazy(&b));
    let each =
        |f: &dyn Fn(f64, f64) -> f64| ndarray::Zip::from(&a).and(&b).map_collect(|&u, &v| f(u, v));
    let column = |k: usize| a.slice(ndarray::s![.., k..k + 1]).to_owned();
    let p = |v: f64| LazyTensor::<f64>::scalar(v).at(device.clone());
    type Made = Lazy<f64, Device>;
    type Make<'m> = Box<dyn Fn() -> Made + 'm>;
    let cases: Vec<(Make<'_>, Array2<f64>)> = vec![
        (Box::new(|| &x - &y), each(&|u, v| u - v)),
        (Box::new(|| &y - &x), each(&|u, v| v - u)),
        (Box::new(|| &x - &x), each(&|_, _| 0.0)),
        (Box::new(|| &x - lazy(&a)), each(&|_, _| 0.0)), // as the first, of equal arrays
        (Box::new(|| x.pow(2)), each(&|u, _| u * u)),
        (Box::new(|| x.pow(3)), each(&|u, _| u * u * u)),
        (Box::new(|| x.power(p(3.0))), each(&|u, _| u * u * u)),
        (Box::new(|| x.power(p(0.5))), each(&|u, _| u.sqrt())),
        (Box::new(|| x.elem(0)), column(0)),
        (Box::new(|| x.elem(1)), column(1)),
        (Box::new(|| x.components(1..)), column(1)),
        (Box::new(|| x.components(..1)), column(0)),
        (Box::new(|| &x * p(0.25)), each(&|u, _| u * 0.25)),
        (Box::new(|| &x * p(0.75)), each(&|u, _| u * 0.75)),
        (Box::new(|| &x * p(3.0)), each(&|u, _| u * 3.0)),
        (Box::new(|| &x * p(5.0)), each(&|u, _| u * 5.0)),
        (Box::new(|| &x * p(0.25) + p(0.5)), each(&|u, _| u * 0.25 + 0.5)),
        (Box::new(|| &x * p(0.5) + p(0.5)), each(&|u, _| u * 0.5 + 0.5)), // one parameter, not two
        (Box::new(|| (&x + &y) + &x), each(&|u, v| 2.0 * u + v)),
        (Box::new(|| (&x + &y) + &y), each(&|u, v| u + 2.0 * v)),
        (Box::new(|| x.t().t() - &y), each(&|u, v| u - v)),
    ];
    for round in 0..3 {
        for (k, (make, want)) in cases.iter().enumerate() {
            let made = make();
            if round == 2 {
                made.check().unwrap(); // the graph is there before the call
            }
            close(&made.sum(Axis::J).unwrap(), &want.clone().into_dyn());
            assert_eq!(made.sum(Axis::I).unwrap().shape(), [1, want.ncols()], "case {k}");
        }
    }
    // Values of parameters of narrow types are constants of the formula.
    let half = array![f16::ONE];
    let narrow = |v: f64| {
        let x = LazyTensor::<f16>::vi(&half).at(device.clone());
        let v = LazyTensor::<f16>::scalar(v).at(device.clone());
        (x * v).sum(Axis::J).unwrap()[[0, 0]].to_f64()
    };
    assert_eq!([narrow(0.5), narrow(0.25), narrow(0.5)], [0.5, 0.25, 0.5]);
}

/// Terms are shared: a formula that doubles a hundred times is a hundred operations. Long sums are
/// built, and taken apart, one by one.
#[test]
fn long_formulas_and_shared_parts() {
    let a = array![1.0, 3.0];
    let mut doubled = LazyTensor::<f64>::vi(&a);
    for _ in 0..100 {
        doubled = &doubled + &doubled;
    }
    let most = 2f64.powi(100);
    assert_eq!(doubled.sum(Axis::J).unwrap(), array![[most], [3.0 * most]].into_dyn());

    let (x, count) = (LazyTensor::<f64>::vi(&a), 3000);
    let mut sum = x.clone();
    for k in 1..count {
        sum += &x * k;
    }
    let total = 1.0 + f64::from(count * (count - 1) / 2);
    assert_eq!(sum.sum(Axis::J).unwrap(), array![[total], [3.0 * total]].into_dyn());
    let mut never_built = x.clone();
    for _ in 0..200_000 {
        never_built += &x;
    }
    drop(never_built);
}

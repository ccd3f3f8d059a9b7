//! Derivatives of whole computations against central differences, in both modes, to second and
//! third order: every reduction, axis and category of variables, batches, ranges, missing entries.

mod common;

use common::Random;
use keops_core::data::{ArgView, Element};
use keops_core::genred::{Genred, Reduce};
use keops_core::graph::{Builder, Category, Ex, Node, Var};
use keops_core::ops::{EXP, IF_ELSE, LOG, SIN};
use keops_core::outer::Formula;
use keops_core::ranges::{Pattern, Ranges};
use keops_core::reduce::*;
use keops_core::spec::Axis;
use ndarray::{ArrayD, IxDyn};

const M: usize = 5;
const N: usize = 4;

/// `Σ <a, b>` over the entries where `a` is finite: no entry moves to or from infinity.
fn dot(a: &[ArrayD<f64>], b: &[ArrayD<f64>]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mut sum = 0.0;
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.shape(), b.shape());
        sum += a.iter().zip(b).filter(|(a, _)| a.is_finite()).map(|(a, b)| a * b).sum::<f64>();
    }
    sum
}
fn call(g: &Genred, args: &[ArrayD<f64>]) -> Vec<ArrayD<f64>> {
    let args: Vec<&ArrayD<f64>> = args.iter().collect();
    g.call_all(&args[..]).unwrap()
}
fn close(what: &str, got: f64, expected: f64) {
    assert!(got.is_finite(), "{what}: {got}");
    let tolerance = 2e-7 * (1.0 + expected.abs());
    assert!((got - expected).abs() <= tolerance, "{what}: got {got}, expected {expected}");
}

/// Checks both modes of `g` at `args`, and `orders - 1` more derivatives of its gradient.
fn check(label: &str, g: &Genred, args: &[ArrayD<f64>], orders: usize, random: &mut Random) {
    let names: Vec<String> = g.arguments().map(String::from).collect();
    let names: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
    let out = call(g, args);
    let e: Vec<_> = out.iter().map(|o| random.array(o.shape())).collect();
    let u: Vec<_> = args.iter().map(|a| random.array(a.shape())).collect();

    let reverse = g.vjp_all().unwrap();
    let with_e = [args, &e].concat();
    let gradients = call(&reverse, &with_e);
    assert_eq!(gradients.len(), args.len());
    // Each entry of each gradient against a central difference (error of order h²).
    let h = 1e-5;
    for (k, gradient) in gradients.iter().enumerate() {
        assert_eq!(
            gradient.shape(),
            args[k].shape(),
            "{label}: shape of the gradient in {}",
            names[k]
        );
        for c in 0..gradient.len() {
            let moved = |h: f64| {
                let mut args = args.to_vec();
                args[k].as_slice_mut().unwrap()[c] += h;
                dot(&call(g, &args), &e)
            };
            let difference = (moved(h) - moved(-h)) / (2.0 * h);
            let got = gradient.as_slice().unwrap()[c];
            close(&format!("{label}: d/d{}[{c}]", names[k]), got, difference);
        }
    }
    // <J u, e> = <u, Jᵀ e>, to rounding.
    let along = call(&g.jvp_of(&names).unwrap(), &[args, &u].concat());
    let (forward, backward) = (dot(&along, &e), dot(&gradients, &u));
    let size = 1.0 + forward.abs();
    assert!((forward - backward).abs() <= 1e-11 * size, "{label}: {forward} and {backward}");
    if orders > 1 {
        check(&format!("{label}, derived"), &reverse, &with_e, orders - 1, random);
    }
}

const X: Var = Var { index: 0, dim: 2, category: Category::I };
const Y: Var = Var { index: 1, dim: 2, category: Category::J };
const B: Var = Var { index: 2, dim: 2, category: Category::J };
const A: Var = Var { index: 3, dim: 1, category: Category::I };
const S: Var = Var { index: 4, dim: 2, category: Category::Param };
const ALL_VARS: [Var; 5] = [X, Y, B, A, S];

type Weight = for<'g> fn([Ex<'g>; 5]) -> Ex<'g>;

fn formula(
    root: impl for<'g> Fn(&'g Builder, [Ex<'g>; 5]) -> Ex<'g>,
    weight: Option<Weight>,
) -> Formula {
    let b = Builder::default();
    let (root, weight) = {
        let v = ALL_VARS.map(|v| b.var(v));
        (root(&b, v).id, weight.map(|w| w(v).id))
    };
    let names = ["x", "y", "b", "a", "s"].map(String::from).to_vec();
    Formula { graph: b.into_graph().into(), root, weight, vars: ALL_VARS.to_vec(), names }
}
/// exp(-Σ s (x - y)²) a b
fn gauss<'g>([x, y, b, a, s]: [Ex<'g>; 5]) -> Ex<'g> {
    let d = x - y;
    (-s.dot(d * d)).un(&EXP) * a * b
}
/// A scalar with every category in it.
fn score<'g>([x, y, b, a, s]: [Ex<'g>; 5]) -> Ex<'g> {
    s.dot((x * y).un(&SIN)) + a * b.sum() - (x - y).dot(x - y)
}
/// The row numbers are part of the formula: a gathered row must keep its own.
fn numbered<'g>(b: &'g Builder, v: [Ex<'g>; 5]) -> Ex<'g> {
    let (i, j) = (b.node(Node::Index(Category::I)), b.node(Node::Index(Category::J)));
    gauss(v) * ((i * 0.7 + j * 1.9).un(&SIN) + 1.3)
}
/// -inf with infinite derivatives in the rows of zeros that stand for nothing.
fn singular<'g>(_: &'g Builder, [x, y, _, a, s]: [Ex<'g>; 5]) -> Ex<'g> {
    y.un(&LOG) * x + a / y + s
}
/// -inf unless i >= 1 and j <= 2.
fn masked<'g>(b: &'g Builder, v: [Ex<'g>; 5]) -> Ex<'g> {
    let (i, j) = (b.node(Node::Index(Category::I)), b.node(Node::Index(Category::J)));
    let outside = Ex::apply(&IF_ELSE, &[i - 1.0, j - 2.5, b.lit(1.0)]);
    Ex::apply(&IF_ELSE, &[outside, b.lit(f64::NEG_INFINITY), score(v)])
}
/// A positive vector with every category in it.
fn positive<'g>([x, y, b, a, s]: [Ex<'g>; 5]) -> Ex<'g> {
    x * y * b + a * s
}
fn args(random: &mut Random) -> Vec<ArrayD<f64>> {
    [&[M, 2][..], &[N, 2], &[N, 2], &[M, 1], &[2]].map(|s| random.array(s)).to_vec()
}
fn genred(f: Formula, r: impl Into<Reduce>, axis: Axis) -> Genred {
    Genred::from_formula(f, r, axis).unwrap()
}

#[test]
fn accumulating_reductions() {
    for axis in [Axis::I, Axis::J] {
        let random = &mut Random::new(1);
        let at = args(random);
        let g = genred(formula(|_, v| gauss(v), None), &SUM, axis);
        check(&format!("Sum {axis:?}"), &g, &at, 2, random);
        let g = genred(formula(|_, v| score(v), None), &LOG_SUM_EXP, axis);
        check(&format!("LogSumExp {axis:?}"), &g, &at, 2, random);
        let g = genred(formula(|_, v| score(v), Some(positive)), &LOG_SUM_EXP, axis);
        check(&format!("weighted LogSumExp {axis:?}"), &g, &at, 2, random);
        let g = genred(formula(|_, v| score(v), Some(positive)), &SUM_SOFT_MAX_WEIGHT, axis);
        check(&format!("SumSoftMaxWeight {axis:?}"), &g, &at, 2, random);
    }
}

#[test]
fn selecting_reductions() {
    let f = || formula(numbered, None);
    for axis in [Axis::I, Axis::J] {
        let random = &mut Random::new(2);
        let at = args(random);
        for r in [&MIN, &MAX, &MIN_ARG_MIN, &MAX_ARG_MAX] {
            check(&format!("{} {axis:?}", r.name), &genred(f(), r, axis), &at, 2, random);
        }
        for r in [&K_MIN, &K_MIN_ARG_K_MIN] {
            check(&format!("{} {axis:?}", r.name), &genred(f(), (r, 3), axis), &at, 2, random);
        }
    }
}

/// Entries masked by -inf count for nothing, also where all of a row are.
#[test]
fn masked_entries() {
    for axis in [Axis::I, Axis::J] {
        let random = &mut Random::new(10);
        let at = args(random);
        let cases: [(&'static ReductionDef, Option<Weight>); 3] = [
            (&LOG_SUM_EXP, None),
            (&LOG_SUM_EXP, Some(positive)),
            (&SUM_SOFT_MAX_WEIGHT, Some(positive)),
        ];
        for (r, weight) in cases {
            let g = genred(formula(masked, weight), r, axis);
            check(&format!("masked {} {axis:?}", r.name), &g, &at, 2, random);
        }
        let g = genred(formula(masked, None), &LOG_SUM_EXP, axis);
        assert!(call(&g, &at)[0].iter().any(|v| *v == f64::NEG_INFINITY));
    }
}

#[test]
fn third_order() {
    let random = &mut Random::new(3);
    let small: Vec<_> =
        [&[3, 2][..], &[2, 2], &[2, 2], &[3, 1], &[2]].map(|s| random.array(s)).to_vec();
    let g = genred(formula(|_, v| score(v), None), &LOG_SUM_EXP, Axis::J);
    check("LogSumExp", &g, &small, 3, random);
    let g = genred(formula(|_, v| gauss(v), None), (&K_MIN, 2), Axis::J);
    check("KMin", &g, &small, 3, random);
}

#[test]
fn batches_are_summed_to_the_shape_of_each_argument() {
    let random = &mut Random::new(4);
    // Batches (2, 3) in all; every argument has its own part of them.
    let shapes: [&[usize]; 5] = [&[2, 1, 3, 2], &[3, 2, 2], &[2, 2], &[1, 3, 1], &[2, 1, 2]];
    let at: Vec<_> = shapes.iter().map(|s| random.array(s)).collect();
    let cases: [(&'static ReductionDef, Option<Weight>); 3] =
        [(&SUM, None), (&MIN, None), (&SUM_SOFT_MAX_WEIGHT, Some(positive))];
    for (r, weight) in cases {
        let scalar = weight.is_some();
        let f = formula(|_, v| if scalar { score(v) } else { gauss(v) }, weight);
        let g = genred(f, r, Axis::J);
        assert_eq!(call(&g, &at)[0].shape(), [2, 3, 3, 2]);
        check(&format!("{} in batches", r.name), &g, &at, 2, random);
    }
    // Linear in y: the derivative in y does not contain y, nor its batches.
    let g = genred(formula(|_, [x, y, ..]| x + y, None), &SUM, Axis::J);
    check("linear in batches", &g, &at, 2, random);
    // Its derivative along y alone is the same in all batches of x; there are still all of them.
    let u = random.array(&[3, 2, 2]);
    let along = &call(&g.jvp("y").unwrap(), &[&at[..], std::slice::from_ref(&u)].concat())[0];
    let out = &call(&g, &at)[0];
    assert_eq!(along.shape(), out.shape());
    assert!((along[[1, 2, 0, 1]] - u[[2, 0, 1]] - u[[2, 1, 1]]).abs() < 1e-15);
    // A cotangent without batch axes stands for the same one in all batches.
    let e = random.array(&[3, 2]);
    let full = e.broadcast(out.shape()).unwrap().to_owned();
    let reverse = g.vjp_all().unwrap();
    let (few, all) = ([&at[..], &[e]].concat(), [&at[..], &[full]].concat());
    assert_eq!(call(&reverse, &few), call(&reverse, &all));
}

#[test]
fn ranges_restrict_derivatives() {
    // Rows 1..3 meet columns 0..2, rows 3..5 meet all; row 0 meets none.
    let pattern = Pattern {
        blocks: vec![[1, 3], [3, 5]],
        slices: vec![1, 3],
        reduced: vec![[0, 2], [0, 1], [1, 4]],
    };
    let ranges = std::sync::Arc::new(Ranges::from_pattern(pattern).unwrap());
    let random = &mut Random::new(5);
    let at = args(random);
    for axis in [Axis::I, Axis::J] {
        for (r, k) in [(&SUM, 1), (&LOG_SUM_EXP, 1), (&MAX, 1), (&K_MIN, 3)] {
            let f = formula(|_, v| if r.name == "LogSumExp" { score(v) } else { gauss(v) }, None);
            let g = genred(f, (r, k), axis).ranges(ranges.clone());
            check(&format!("{} {axis:?} in ranges", r.name), &g, &at, 2, random);
        }
    }
    let g = genred(formula(|_, v| score(v), None), &LOG_SUM_EXP, Axis::J).ranges(ranges);
    assert_eq!(call(&g, &at)[0][[0, 0]], f64::NEG_INFINITY);
    let e = random.array(&[M, 1]);
    let gx = g.vjp("x").unwrap().call((&at[0], &at[1], &at[2], &at[3], &at[4], &e)).unwrap();
    assert_eq!([gx[[0, 0]], gx[[0, 1]]], [0.0, 0.0]);
}

#[test]
fn winners_that_are_missing_have_no_gradient() {
    let random = &mut Random::new(6);
    let at = args(random);
    for axis in [Axis::I, Axis::J] {
        let g = genred(formula(singular, None), (&K_MIN, 7), axis);
        let found = call(&g, &at)[0].iter().filter(|v| v.is_finite()).count();
        assert_eq!(found, M * N * 2);
        check(&format!("KMin of few {axis:?}"), &g, &at, 2, random);
    }
    // No columns at all.
    let mut none = at.clone();
    none[1] = ArrayD::zeros(IxDyn(&[0, 2]));
    none[2] = ArrayD::zeros(IxDyn(&[0, 2]));
    for (r, v) in [(&MIN, f64::INFINITY), (&SUM, 0.0)] {
        let g = genred(formula(singular, None), r, Axis::J);
        assert!(call(&g, &none)[0].iter().all(|o| *o == v));
        let e = random.array(&[M, 2]);
        let gradients = call(&g.vjp_all().unwrap(), &[&none[..], &[e]].concat());
        for (gradient, arg) in gradients.iter().zip(&none) {
            assert_eq!(gradient.shape(), arg.shape());
            assert!(gradient.iter().all(|g| *g == 0.0));
        }
    }
}

#[test]
fn variables_that_do_not_matter() {
    let random = &mut Random::new(7);
    let at = args(random);
    // Nothing depends on i or on the parameter; there are still M results.
    let g = genred(formula(|_, [_, y, ..]| y * y, None), &SUM, Axis::J);
    assert_eq!(call(&g, &at)[0].shape(), [M, 2]);
    check("Σ y²", &g, &at, 2, random);
    // Nothing depends on j: N equal terms.
    let g = genred(formula(|_, [x, ..]| x * x, None), &SUM, Axis::J);
    let out = &call(&g, &at)[0];
    assert!((out[[1, 1]] - N as f64 * at[0][[1, 1]].powi(2)).abs() < 1e-14);
    check("Σ x²", &g, &at, 2, random);
    // The derivative vanishes identically.
    let g = genred(formula(|b, [x, ..]| b.lit(2.0) + x * 0.0, None), &SUM, Axis::I);
    let zero = genred(formula(|b, _| b.lit(2.0), None), &SUM, Axis::I);
    for g in [g, zero] {
        check("a constant", &g, &at, 2, random);
    }
}

/// The gradient of log Σ_j exp(-|x_i - y_j|²) and its Hessian by hand.
#[test]
fn log_sum_exp_by_hand() {
    let random = &mut Random::new(8);
    let at = args(random);
    let f = formula(|_, [x, y, ..]| -((x - y).dot(x - y)), None);
    let g = genred(f, &LOG_SUM_EXP, Axis::J);
    let e = random.array(&[M, 1]);
    let (w, first) = (random.array(&[M, 2]), [&at[..], std::slice::from_ref(&e)].concat());
    let gx = &call(&g.vjp("x").unwrap(), &first)[0];
    let second = g.vjp("x").unwrap().vjp("x").unwrap();
    let hw = &call(&second, &[&first[..], std::slice::from_ref(&w)].concat())[0];
    for i in 0..M {
        let d = |j: usize, k: usize| at[0][[i, k]] - at[1][[j, k]];
        let weight = |j: usize| (-d(j, 0).powi(2) - d(j, 1).powi(2)).exp();
        let total: f64 = (0..N).map(weight).sum();
        let p = |j: usize| weight(j) / total;
        // ∂/∂x = E[-2d]; the Hessian is Cov(-2d) - 2 I.
        let mean: Vec<f64> = (0..2).map(|k| (0..N).map(|j| p(j) * -2.0 * d(j, k)).sum()).collect();
        for k in 0..2 {
            close("gradient", gx[[i, k]], e[[i, 0]] * mean[k]);
            let mut row = -2.0 * w[[i, k]];
            for l in 0..2 {
                let both: f64 = (0..N).map(|j| p(j) * 4.0 * d(j, k) * d(j, l)).sum();
                row += (both - mean[k] * mean[l]) * w[[i, l]];
            }
            close("Hessian", hw[[i, k]], e[[i, 0]] * row);
        }
    }
}

/// Only -inf counts as masked: a number beyond the range of f32 is one in f64.
#[test]
fn masks_are_those_of_the_type() {
    let far = -1e39;
    let (x, y) = (ArrayD::from_elem(IxDyn(&[1, 1]), far), ArrayD::zeros(IxDyn(&[1, 1])));
    let one = ArrayD::from_elem(IxDyn(&[1, 1]), 1.0);
    let aliases = ["x = Vi(1)", "y = Vj(1)", "w = Vj(1)"];
    let gradient = |g: &Genred, of: &str, x: &ArrayD<f64>, w: Option<&ArrayD<f64>>| {
        let args = [Some(x), Some(&y), w, Some(&one)].into_iter().flatten().cloned();
        call(&g.vjp(of).unwrap(), &args.collect::<Vec<_>>())[0][[0, 0]]
    };
    let lse = Genred::new("x + y", &aliases[..2], &LOG_SUM_EXP, Axis::J).unwrap();
    assert_eq!(gradient(&lse, "x", &x, None), 1.0);
    let masked = ArrayD::from_elem(IxDyn(&[1, 1]), f64::NEG_INFINITY);
    assert_eq!(gradient(&lse, "x", &masked, None), 0.0);
    for r in [&LOG_SUM_EXP, &SUM_SOFT_MAX_WEIGHT] {
        let g = Genred::weighted("x + y", "w", aliases, r, Axis::J).unwrap();
        assert_eq!(gradient(&g, "w", &x, Some(&one)), 1.0, "{}", r.name);
        assert_eq!(gradient(&g, "w", &masked, Some(&one)), 0.0, "{}", r.name);
    }
    // A maximum that is shown stays a number beside NaN, if it is one in its type.
    let shown = Genred::new("x + y", &aliases[..2], &MAX_SUM_SHIFT_EXP, Axis::J).unwrap();
    let columns = ArrayD::from_shape_vec(IxDyn(&[2, 1]), vec![0.0, f64::NAN]).unwrap();
    for (x, m) in [(far, far), (-far, -far), (f64::NEG_INFINITY, f64::NEG_INFINITY)] {
        let x = ArrayD::from_elem(IxDyn(&[1, 1]), x);
        assert_eq!(call(&shown, &[x, columns.clone()])[0][[0, 0]], m);
    }
}

/// Views of any layout, and all element types, in gradients.
#[test]
fn layouts_and_element_types() {
    let random = &mut Random::new(9);
    let at = args(random);
    let g = genred(formula(|_, v| gauss(v), None), &SUM, Axis::J);
    let e = random.array(&[M, 2]);
    let gradient = g.vjp_of(&["y", "s"]).unwrap();
    let all = [&at[..], &[e]].concat();
    let expected = call(&gradient, &all);
    // The same values behind negative strides and transposed axes.
    let flipped: Vec<ArrayD<f64>> = all
        .iter()
        .map(|a| {
            let mut t = a.clone();
            t.invert_axis(ndarray::Axis(0));
            t.as_standard_layout().into_owned()
        })
        .collect();
    let views: Vec<ArgView<'_>> = flipped
        .iter()
        .map(|a| {
            let mut v = a.view();
            v.invert_axis(ndarray::Axis(0));
            f64::erase(v)
        })
        .collect();
    for (got, expected) in gradient.run(&views).unwrap().into_iter().zip(&expected) {
        assert_eq!(&got.to_f64(), expected);
    }
    // Half precision: intermediate values are f32, results are rounded once.
    fn rounded<T: Element>(all: &[ArrayD<f64>]) -> Vec<ArrayD<T>> {
        all.iter().map(|a| a.mapv(T::of_f64)).collect()
    }
    fn compare<T: Element>(g: &Genred, all: &[ArrayD<f64>], unit: f64) {
        let narrow = rounded::<T>(all);
        let exact: Vec<ArrayD<f64>> = narrow.iter().map(|a| a.mapv(|v| v.to_f64())).collect();
        let expected = call(g, &exact);
        let args: Vec<_> = narrow.iter().collect();
        for (got, expected) in g.call_all(&args[..]).unwrap().iter().zip(&expected) {
            for (got, expected) in got.iter().zip(expected) {
                let error = (got.to_f64() - expected).abs();
                assert!(error <= unit * (expected.abs() + 1e-3), "{} {expected}", got.to_f64());
            }
        }
    }
    let second = gradient.vjp_of(&["x", "e"]).unwrap();
    let (w1, w2) = (random.array(&[N, 2]), random.array(&[2]));
    let more = [&all[..], &[w1, w2]].concat();
    for (g, all) in [(&gradient, &all), (&second, &more)] {
        compare::<f32>(g, all, 4e-7);
        compare::<half::f16>(g, all, 6e-4);
        compare::<half::bf16>(g, all, 4.5e-3);
    }
}

/// A component has the derivatives that it has alone, whatever is beside it: here infinities.
#[test]
fn components_beside_infinite_ones() {
    let x = 2.0;
    // First and second derivative in x, the other components left out.
    for (text, first, second) in [
        ("Elem(Inv([x, h - h]), 0)", -0.25, 0.25),
        ("Inv([h - h, x])[1]", -0.25, 0.25),
        ("Elem(Log([h - h, x]), 1)", 0.5, -0.25),
        ("Sum(Inv([x, 2 * x, h - h])[0:2])", -0.375, 0.375),
        ("Inv([x, 2 * x, h - h])[0] * Inv([x, 2 * x, h - h])[1]", -0.125, 3.0 / 16.0),
        ("Sum(Inv([x, h - h, 2 * x])[0:3:2])", -0.375, 0.375),
        ("Elem(Square(x) * Inv([x, h - h]), 0)", 1.0, 0.0),
        ("Elem(MatVecMult(Inv([x, h - h]), Square(x)), 0)", 1.0, 0.0),
        ("Elem(MatVecMult(Inv([x, 1, h - h, h]), [x**2, x]), 0)", 2.0, 0.0),
        ("Elem(VecMatMult([x**2, x], Inv([x, h - h, 1, h])), 0)", 2.0, 0.0),
        ("Sum(Extract(TensorProd(Inv([h - h, x]), [x**2, x**3]), 2, 2))", 5.0, 2.0),
        ("Elem(TensorProd([x**2, x**3], Inv([x, h - h])), 2)", 4.0, 2.0),
        ("Elem(Exp(Log([x, h - h]) * 2), 0)", 4.0, 2.0),
        ("Elem(Inv(Inv([x, h - h])), 0)", 1.0, 0.0),
    ] {
        let g: Genred = Genred::new(text, ["x = Vj(1)", "h = Vj(1)"], &SUM, Axis::J).unwrap();
        let one = |v: f64| ArrayD::from_elem(IxDyn(&[1, 1]), v);
        let [point, e, t] = [vec![one(x), one(0.5)], vec![one(3.0)], vec![one(5.0)]];
        let got = |g: Genred, with: &[&[ArrayD<f64>]]| {
            call(&g, &[&[&point[..]], with].concat().concat())[0].clone()
        };
        for (name, first, second) in [("x", first, second), ("h", 0.0, 0.0)] {
            let check = |what: &str, got: ArrayD<f64>, want: f64| {
                close(&format!("{what} in {name} of {text}"), got[[0, 0]], want);
            };
            let (vjp, jvp) = (g.vjp(name).unwrap(), g.jvp(name).unwrap());
            check("vjp", got(vjp.clone(), &[&e]), 3.0 * first);
            check("jvp", got(jvp.clone(), &[&t]), 5.0 * first);
            check("vjp, jvp", got(vjp.jvp("x").unwrap(), &[&e, &t]), 15.0 * second);
            check("vjp, vjp", got(vjp.vjp("x").unwrap(), &[&e, &t]), 15.0 * second);
            check("jvp, vjp", got(jvp.vjp("x").unwrap(), &[&t, &e]), 15.0 * second);
            check("jvp, jvp", got(jvp.jvp("x").unwrap(), &[&t, &e]), 15.0 * second);
        }
        for (operator, want) in [("Divergence", first), ("Laplacian", second)] {
            let text = format!("{operator}({text}, x)");
            let g: Genred = Genred::new(&text, ["x = Vj(1)", "h = Vj(1)"], &SUM, Axis::J).unwrap();
            close(&text, call(&g, &point)[0][[0, 0]], want);
        }
    }
}

/// A branch that is not taken, of a vector whose parts are variables: the one that is taken is a constant,
/// so that every derivative is 0. A cotangent of one part has none of the other: that is no contribution,
/// which would count where the branch does not.
#[test]
fn parts_in_a_branch_that_is_not_taken() {
    let (c, z) = (ndarray::array![[1.0, 0.5]], ndarray::array![[-0.5, -1.0]]);
    let seeds = [ndarray::array![[0.25, 1.0]], ndarray::array![[-0.9, -1.3]]];
    let e = ndarray::array![[1.1]];
    for q in [
        "SqDist([z, c], [z, c])",
        "SqNorm2([z - z, c - c])",
        "SqNorm2([z, c] - [z, c]) + SqNorm2(c - c)",
        "SqNorm2([c - c, z - z, c - c])",
        "SqNorm2([z, c][1:3] - [z, c][1:3])",
    ] {
        let text = format!("IfElse({q} - 1, Inv({q}), 1)");
        let of: Genred = Genred::new(&text, ["c = Vj(2)", "z = Vj(2)"], &SUM, Axis::I).unwrap();
        for way in 0..8 {
            let name = |k: usize| if way >> k & 1 == 0 { "z" } else { "c" };
            let third = [0, 1, 2].iter().fold(of.clone(), |g, &k| g.vjp(name(k)).unwrap());
            let got = third.call((&c, &z, &e, &seeds[0], &seeds[1])).unwrap();
            assert!(
                got.iter().all(|g| *g == 0.0),
                "{text} in {}, {}, {}: {got}",
                name(0),
                name(1),
                name(2)
            );
        }
    }
}

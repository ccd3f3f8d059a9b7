//! Derivatives of every reduction, over both axes, with respect to variables of every category and
//! to second order, against hyper-dual numbers.

mod common;

use common::Random;
use keops_core::data::{ArgView, DType, Element};
use keops_core::error::GradError;
use keops_core::genred::Genred;
use keops_core::graph::{Builder, Category, Ex, Node, Var};
use keops_core::interp::{HyperDual, evaluate_with_tangents};
use keops_core::ops::{EXP, SIN};
use keops_core::outer::Formula;
use keops_core::ranges::{Pattern, Ranges};
use keops_core::reduce::{self, Family, ReductionDef, WeightRule};
use keops_core::spec::{Axis, CheckedArgs, ReduceSpec};
use ndarray::ArrayD;
use std::sync::Arc;

const M: usize = 5;
const N: usize = 4;
const VARS: [Var; 4] = [
    Var { index: 0, dim: 2, category: Category::I },
    Var { index: 1, dim: 2, category: Category::J },
    Var { index: 2, dim: 2, category: Category::Param },
    Var { index: 3, dim: 1, category: Category::J },
];
const NAMES: [&str; 4] = ["x", "y", "s", "b"];

/// A scalar with every category in it, not linear in any; the row numbers make ties impossible.
fn score<'g>(g: &'g Builder, [x, y, s, b]: [Ex<'g>; 4]) -> Ex<'g> {
    let (i, j) = (g.node(Node::Index(Category::I)), g.node(Node::Index(Category::J)));
    let place = (i * 0.7 + j * 1.9).un(&SIN);
    (s * s).dot((x * y).un(&SIN)) * b + place - (x - y).dot(x - y) * b * b
}
/// A vector with every category in it, not linear in any.
fn vector<'g>([x, y, s, b]: [Ex<'g>; 4]) -> Ex<'g> {
    let d = x - y;
    (-(s * s).dot(d * d)).un(&EXP) * (b * b) * (x + y * s)
}

/// The formula for a reduction: scalar where there is a pivot.
fn formula(reduction: &ReductionDef, weighted: bool) -> Formula {
    let b = Builder::default();
    let (root, weight) = {
        let v = VARS.map(|v| b.var(v));
        let scalar = matches!(&reduction.kind, Family::Accumulate(a) if a.pivot.is_some());
        let f = match &reduction.kind {
            _ if scalar => score(&b, v),
            Family::Select(_) => vector(v) + score(&b, v),
            Family::Accumulate(_) => vector(v),
        };
        (f.id, weighted.then(|| (vector(v) + 1.5).id))
    };
    let graph: Arc<_> = b.into_graph().into();
    let names = NAMES.map(String::from).to_vec();
    Formula { graph, root, weight, vars: VARS.to_vec(), names }
}

fn values(g: &Genred, args: &[&ArrayD<f64>]) -> ArrayD<f64> {
    let views: Vec<ArgView<'_>> = args.iter().map(|a| f64::erase(a.view())).collect();
    // Indices come after the values.
    g.run(&views).unwrap().swap_remove(0).to_f64()
}
fn dot(a: &ArrayD<f64>, b: impl IntoIterator<Item = f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Largest error of differences of second order, relative to the values that they are made of.
const TOLERANCE: f64 = 2e-7;

fn close(what: &str, got: f64, expected: f64, size: f64) {
    let error = (got - expected).abs();
    assert!(error <= TOLERANCE * (1.0 + size), "{what}: got {got}, expected {expected}");
}

/// The first output with its derivatives along two directions.
fn duals(
    spec: &ReduceSpec,
    ranges: Option<&Ranges>,
    at: &[ArrayD<f64>],
    directions: [&[ArrayD<f64>]; 2],
) -> Vec<HyperDual> {
    let [at, a, b] = [at, directions[0], directions[1]].map(|arrays| {
        let views = arrays.iter().map(|a| f64::erase(a.view())).collect();
        CheckedArgs::new(spec, views, ranges, None, None).unwrap()
    });
    evaluate_with_tangents(spec, &at, [&a, &b]).unwrap().swap_remove(0)
}

/// Checks one reduction: all pairs of variables, all combinations of modes.
fn check(reduction: &'static ReductionDef, weighted: bool, axis: Axis, ranges: Option<&Ranges>) {
    let random = &mut Random::new(1);
    let f = formula(reduction, weighted);
    let k = if matches!(&reduction.kind, Family::Select(s) if s.many) { 3 } else { 1 };
    let spec = ReduceSpec { k, ..f.spec(reduction, axis, DType::F64) };
    let mut g = Genred::from_formula(f, (reduction, k), axis).unwrap();
    if let Some(r) = ranges {
        g = g.ranges(r.clone());
    }
    let at: Vec<ArrayD<f64>> =
        [&[M, 2][..], &[N, 2], &[2], &[N, 1]].iter().map(|s| random.array(s)).collect();
    let all: Vec<&ArrayD<f64>> = at.iter().collect();
    let out = values(&g, &all);
    let e = random.array(out.shape());
    let along = |v: usize, u: &ArrayD<f64>| -> Vec<ArrayD<f64>> {
        let zeros = at.iter().map(|a| ArrayD::zeros(a.raw_dim()));
        zeros.enumerate().map(|(k, z)| if k == v { u.clone() } else { z }).collect()
    };
    for v in 0..VARS.len() {
        for w in 0..VARS.len() {
            let what = format!(
                "{}{} over {axis:?}, {} then {}",
                reduction.name,
                if weighted { " with weight" } else { "" },
                NAMES[v],
                NAMES[w]
            );
            let (u, t) = (random.array(at[v].shape()), random.array(at[w].shape()));
            let (du, dt) = (along(v, &u), along(w, &t));
            let dual = duals(&spec, ranges, &at, [&du, &dt]);
            assert_eq!(dual.len(), out.len(), "{what}");
            let (names, other) = (&NAMES[v..=v], &NAMES[w..=w]);
            // Values, and first derivatives in both modes.
            let forward = g.jvp_of(names).unwrap();
            let tangent = values(&forward, &[&all[..], &[&u]].concat());
            let backward = g.vjp_of(names).unwrap();
            let gradient = values(&backward, &[&all[..], &[&e]].concat());
            let mut size = 0.0;
            for (k, d) in dual.iter().enumerate() {
                let got = out.as_slice().unwrap()[k];
                let same = got == d.value || (got - d.value).abs() <= 1e-12 * (1.0 + got.abs());
                assert!(same, "{what}: value {k}");
                let got = tangent.as_slice().unwrap()[k];
                close(&format!("{what}, tangent {k}"), got, d.first[0], d.first[0].abs());
                size += d.first[0].abs() + d.second.abs();
            }
            let expected = dot(&e, dual.iter().map(|d| d.first[0]));
            close(&format!("{what}, gradient"), dot(&gradient, u.iter().copied()), expected, size);
            // Second derivatives in all four combinations.
            let expected: Vec<f64> = dual.iter().map(|d| d.second).collect();
            let sum = dot(&e, expected.iter().copied());
            let ff = values(&forward.jvp_of(other).unwrap(), &[&all[..], &[&u, &t]].concat());
            for (k, (got, want)) in ff.iter().zip(&expected).enumerate() {
                close(&format!("{what}, forward forward {k}"), *got, *want, want.abs());
            }
            let fr = values(&forward.vjp_of(other).unwrap(), &[&all[..], &[&u, &e]].concat());
            close(&format!("{what}, reverse of forward"), dot(&fr, t.iter().copied()), sum, size);
            let rf = values(&backward.jvp_of(other).unwrap(), &[&all[..], &[&e, &t]].concat());
            close(&format!("{what}, forward of reverse"), dot(&rf, u.iter().copied()), sum, size);
            let rr = values(&backward.vjp_of(other).unwrap(), &[&all[..], &[&e, &u]].concat());
            close(&format!("{what}, reverse of reverse"), dot(&rr, t.iter().copied()), sum, size);
        }
    }
}

/// Every entry of the table, without and with a weight where it takes one.
fn entries() -> impl Iterator<Item = (&'static ReductionDef, bool)> {
    reduce::ALL.iter().flat_map(|r| {
        let weights: &[bool] = match r.weight {
            WeightRule::Never => &[false],
            WeightRule::Optional => &[false, true],
            WeightRule::Required => &[true],
        };
        weights.iter().map(|w| (*r, *w))
    })
}
/// Does the table give it values, which have derivatives? Otherwise its results are indices.
fn has_values(r: &ReductionDef) -> bool {
    match &r.kind {
        Family::Accumulate(_) => true,
        Family::Select(s) => s.value,
    }
}

#[test]
fn every_reduction_axis_and_category_to_second_order() {
    for (reduction, weighted) in entries() {
        for axis in [Axis::I, Axis::J] {
            if has_values(reduction) {
                check(reduction, weighted, axis, None);
            } else {
                has_no_derivative(reduction, weighted, axis);
            }
        }
    }
}

#[test]
fn with_ranges() {
    // Rows 1..3 meet columns 0..2, rows 3..5 meet all but one; row 0 meets none, or one.
    let (mut blocks, mut slices) = (vec![[1, 3], [3, 5]], vec![1, 3]);
    let mut reduced = vec![[0, 2], [0, 1], [2, 4]];
    let pattern = |blocks: &Vec<_>, slices: &Vec<_>, reduced: &Vec<_>| {
        let (blocks, slices, reduced) = (blocks.clone(), slices.clone(), reduced.clone());
        Ranges::from_pattern(Pattern { blocks, slices, reduced }).unwrap()
    };
    let some = pattern(&blocks, &slices, &reduced);
    blocks.push([0, 1]);
    slices.push(4);
    reduced.push([3, 4]);
    let all = pattern(&blocks, &slices, &reduced);
    for (reduction, weighted) in entries().filter(|(r, _)| has_values(r)) {
        for axis in [Axis::I, Axis::J] {
            check(reduction, weighted, axis, Some(&all));
        }
        // Logarithms of nothing have no differences; `derivatives.rs` has their gradients.
        if !matches!(&reduction.kind, Family::Accumulate(a) if a.pivot.is_some()) {
            check(reduction, weighted, Axis::J, Some(&some));
        }
    }
}

fn has_no_derivative(reduction: &'static ReductionDef, weighted: bool, axis: Axis) {
    let f = formula(reduction, weighted);
    let g: Genred = Genred::from_formula(f, reduction, axis).unwrap();
    let refused = |r: Result<Genred, GradError>| match r {
        Err(GradError::NotDifferentiable { what, .. }) => assert_eq!(what, reduction.name),
        other => panic!("{} has a derivative: {}", reduction.name, other.is_ok()),
    };
    for name in NAMES {
        refused(g.vjp(name));
        refused(g.jvp(name));
    }
}

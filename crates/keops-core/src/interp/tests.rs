//! The interpreter against values worked out by hand.

use super::*;
use crate::graph::Ex;
use crate::ranges::{Pattern, Ranges};
use crate::reduce::{self, ReductionDef};
use ndarray::{ArrayD, IxDyn, arr2};

fn spec(
    reduction: &'static ReductionDef,
    axis: Axis,
    k: usize,
    formula: impl for<'g> Fn(Ex<'g>, Ex<'g>) -> (Ex<'g>, Option<Ex<'g>>),
) -> ReduceSpec {
    let b = Builder::default();
    let x = Var { index: 0, dim: 1, category: Category::I };
    let y = Var { index: 1, dim: 1, category: Category::J };
    let (f, w) = formula(b.var(x), b.var(y));
    let (f, w): (NodeId, Option<NodeId>) = (f.id, w.map(|w| w.id));
    let graph: Graph = b.into_graph();
    ReduceSpec {
        graph: Arc::new(graph),
        formula: f,
        weight: w,
        reduction,
        k,
        axis,
        vars: vec![x, y],
        names: vec!["x".into(), "y".into()],
        dtype: DType::F64,
        options: ReduceOptions::default(),
    }
}

fn run(spec: &ReduceSpec, x: &[f64], y: &[f64], ranges: Option<&Ranges>) -> Vec<ArrayD<f64>> {
    let column = |v: &[f64]| ArrayD::from_shape_vec(IxDyn(&[v.len(), 1]), v.to_vec()).unwrap();
    let (x, y) = (column(x), column(y));
    let args = vec![f64::erase(x.view()), f64::erase(y.view())];
    let args = CheckedArgs::new(spec, args, ranges, None, None).unwrap();
    let mut out = args.allocate(spec).unwrap();
    Interpreter::new().compile(spec).unwrap().run(&args, &mut out).unwrap();
    out.iter().map(Buffer::to_f64).collect()
}

const INF: f64 = f64::INFINITY;

#[test]
fn sums_over_both_axes() {
    let (x, y) = ([1.0, 2.0], [10.0, 20.0, 30.0]);
    let over_j = run(&spec(&reduce::SUM, Axis::J, 1, |x, y| (x * y, None)), &x, &y, None);
    assert_eq!(over_j[0], arr2(&[[60.0], [120.0]]).into_dyn());
    let over_i = run(&spec(&reduce::SUM, Axis::I, 1, |x, y| (x * y, None)), &x, &y, None);
    assert_eq!(over_i[0], arr2(&[[30.0], [60.0], [90.0]]).into_dyn());
}

#[test]
fn log_sum_exp_of_infinities_and_nothing() {
    let lse = spec(&reduce::LOG_SUM_EXP, Axis::J, 1, |x, y| (x + y, None));
    let of = |y: &[f64]| run(&lse, &[0.0], y, None)[0][[0, 0]];
    assert_eq!(of(&[]), -INF);
    assert_eq!(of(&[-INF, -INF]), -INF);
    assert_eq!(of(&[-INF, 3.0]), 3.0);
    assert_eq!(of(&[1.0, INF]), INF);
    assert!(of(&[1.0, f64::NAN]).is_nan());
    assert!((of(&[1000.0, 1000.0]) - (1000.0 + 2f64.ln())).abs() < 1e-12);
    let mean = spec(&reduce::SUM_SOFT_MAX_WEIGHT, Axis::J, 1, |x, y| (x * 0.0 + y, Some(y)));
    assert_eq!(run(&mean, &[0.0], &[], None)[0][[0, 0]], 0.0);
    // (0·1 + ln 3 · 3) / 4
    let mean = run(&mean, &[0.0], &[0.0, 3f64.ln()], None)[0][[0, 0]];
    assert!((mean - 0.75 * 3f64.ln()).abs() < 1e-15);
}

#[test]
fn shifted_sums_show_their_maximum() {
    let pair = spec(&reduce::MAX_SUM_SHIFT_EXP, Axis::J, 1, |x, y| (x + y, None));
    let of = |s: &ReduceSpec, y: &[f64]| {
        let out = run(s, &[0.0], y, None).remove(0);
        [out[[0, 0]], out[[0, 1]]]
    };
    assert_eq!(of(&pair, &[]), [-INF, 0.0]);
    assert_eq!(of(&pair, &[-INF, -INF]), [-INF, 0.0]);
    assert_eq!(of(&pair, &[1.0, INF]), [INF, INF]);
    // Far below all numbers of single precision.
    assert_eq!(of(&pair, &[-1e300, -1e300]), [-1e300, 2.0]);
    assert_eq!(of(&pair, &[5.0, -INF, 5.0]), [5.0, 2.0]);
    for (y, m) in [(&[f64::NAN][..], -INF), (&[f64::NAN, 2.0], 2.0), (&[INF, f64::NAN], INF)] {
        let [max, sum] = of(&pair, y);
        assert!(max == m && sum.is_nan(), "{y:?}: {max}, {sum}");
    }
    // Weights 0 or of sum 0 do not hide the maximum.
    let weighted = spec(&reduce::MAX_SUM_SHIFT_EXP, Axis::J, 1, |x, y| (x * 0.0 + 3.0, Some(y)));
    assert_eq!(of(&weighted, &[0.0, 0.0]), [3.0, 0.0]);
    assert_eq!(of(&weighted, &[2.0, -2.0]), [3.0, 0.0]);
    let zero = spec(&reduce::ZERO, Axis::J, 1, |_, y| (y, None));
    assert_eq!(run(&zero, &[0.0, 0.0], &[f64::NAN], None)[0], arr2(&[[0.0], [0.0]]).into_dyn());
}

#[test]
fn selection_is_stable_skips_nan_and_pads() {
    let k = spec(&reduce::K_MIN_ARG_K_MIN, Axis::J, 4, |x, y| (x + y, None));
    let out = run(&k, &[0.0], &[2.0, f64::NAN, INF, 2.0, -1.0], None);
    assert_eq!(out[0], arr2(&[[-1.0, 2.0, 2.0, INF]]).into_dyn());
    assert_eq!(out[1], arr2(&[[4.0, 0.0, 3.0, 2.0]]).into_dyn());
    let out = run(&k, &[0.0], &[5.0], None);
    assert_eq!(out[1], arr2(&[[0.0, -1.0, -1.0, -1.0]]).into_dyn());
    let max = spec(&reduce::MAX_ARG_MAX, Axis::J, 1, |x, y| (x + y, None));
    let out = run(&max, &[0.0], &[1.0, 7.0, 7.0, f64::NAN], None);
    assert_eq!((out[0][[0, 0]], out[1][[0, 0]]), (7.0, 1.0));
    let out = run(&max, &[0.0], &[f64::NAN], None);
    assert_eq!((out[0][[0, 0]], out[1][[0, 0]]), (-INF, -1.0));
}

#[test]
fn long_selections_forget_nothing() {
    let k = spec(&reduce::ARG_K_MIN, Axis::J, 3, |x, y| (x + y, None));
    // 7919 is prime: a permutation of 0..5000 mod 5000.
    let y: Vec<f64> = (0..5000).map(|j| (j * 7919 % 5000) as f64).collect();
    let out = run(&k, &[0.0], &y, None);
    let place = |v: f64| y.iter().position(|&w| w == v).unwrap() as f64;
    assert_eq!(out[0], arr2(&[[place(0.0), place(1.0), place(2.0)]]).into_dyn());
}

#[test]
fn rows_outside_ranges_are_neutral() {
    let pattern = Pattern { blocks: vec![[1, 2]], slices: vec![2], reduced: vec![[0, 1], [2, 3]] };
    let ranges = Ranges::from_pattern(pattern).unwrap();
    let sum = spec(&reduce::SUM, Axis::J, 1, |x, y| (x * y, None));
    let out = run(&sum, &[1.0, 2.0, 3.0], &[1.0, 10.0, 100.0], Some(&ranges));
    assert_eq!(out[0], arr2(&[[0.0], [202.0], [0.0]]).into_dyn());
    let sum = spec(&reduce::SUM, Axis::I, 1, |x, y| (x * y, None));
    let out = run(&sum, &[1.0, 2.0, 3.0], &[1.0, 10.0, 100.0], Some(&ranges));
    assert_eq!(out[0], arr2(&[[2.0], [0.0], [200.0]]).into_dyn());
}

#[test]
fn half_precision_sums_stop_growing() {
    let mut s = spec(&reduce::SUM, Axis::J, 1, |x, y| (x * y, None));
    s.dtype = DType::F16;
    s.options.accumulate = Some(DType::F16);
    let one = ArrayD::from_elem(IxDyn(&[3000, 1]), half::f16::ONE);
    let x = ArrayD::from_elem(IxDyn(&[1, 1]), half::f16::ONE);
    let args = vec![half::f16::erase(x.view()), half::f16::erase(one.view())];
    let args = CheckedArgs::new(&s, args, None, None, None).unwrap();
    let mut out = args.allocate(&s).unwrap();
    Interpreter::new().compile(&s).unwrap().run(&args, &mut out).unwrap();
    // 2048 + 1 is not an f16: halves go to even.
    assert_eq!(out[0].to_f64()[[0, 0]], 2048.0);
}

#[test]
fn bounds_know_what_rounding_decides() {
    let column = |v: &[f32]| ArrayD::from_shape_vec(IxDyn(&[v.len(), 1]), v.to_vec()).unwrap();
    let (x, y) = (column(&[0.1]), column(&[0.3, 0.1, 0.1, 0.7]));
    let bounds = |mut spec: ReduceSpec| {
        spec.dtype = DType::F32;
        let args = vec![f32::erase(x.view()), f32::erase(y.view())];
        let args = CheckedArgs::new(&spec, args, None, None, None).unwrap();
        evaluate_with_bounds(&spec, &args).unwrap().remove(0)
    };
    let sine = crate::ops::by_name("Sin").unwrap();
    let floor = crate::ops::by_name("Floor").unwrap();
    // Rounded keys of equal rows may differ; other rows are no candidates.
    let tie = bounds(spec(&reduce::ARG_MIN, Axis::J, 1, move |x, y| ((x * y).un(sine), None)));
    assert_eq!(tie.alternatives.into_values().collect::<Vec<_>>(), [vec![1, 2]]);
    // A key that is one number for all rows: the first row wins.
    let same = bounds(spec(&reduce::ARG_MIN, Axis::J, 1, move |x, _| (x.un(sine), None)));
    assert_eq!((same.values[0], same.alternatives.len()), (0.0, 0));
    // 10 · 0.1 in f32 is 1 or the number below, so its floor is 1 or 0.
    let jump =
        bounds(spec(&reduce::MIN, Axis::J, 1, move |x, y| ((x * 10.0 + y * 0.0).un(floor), None)));
    assert_eq!(jump.bounds, [INF]);
    // One rounding of a product: at most half an ulp of 0.07 in f32.
    let product = bounds(spec(&reduce::MAX, Axis::J, 1, |x, y| (x * y, None)));
    assert!(product.bounds[0] > 0.0 && product.bounds[0] <= 2f64.powi(-28));
}

#[test]
fn formulas_beyond_the_limit_are_refused() {
    let b = Builder::default();
    let var = Var { index: 0, dim: 1 << 20, category: Category::J };
    let formula = (0..16).fold(b.var(var), |f, _| f.un(&crate::ops::SIN)).id;
    let spec = ReduceSpec {
        graph: Arc::new(b.into_graph()),
        formula,
        weight: None,
        reduction: &reduce::SUM,
        k: 1,
        axis: Axis::J,
        vars: vec![var],
        names: vec!["y".into()],
        dtype: DType::F32,
        options: ReduceOptions::default(),
    };
    match Interpreter::new().compile(&spec) {
        Err(CompileError::Limit { limit, got, .. }) => {
            assert_eq!((limit, got), (MAX_COMPONENTS, 17 << 20));
        }
        _ => panic!("17 million components are too many"),
    }
}

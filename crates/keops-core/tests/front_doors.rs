//! What first users met: long formulas, whole numbers, masks, vectors as arguments, hints in messages.

use keops_core::genred::{Genred, Reference, Shaped};
use keops_core::graph::Category;
use keops_core::lazy::LazyTensor;
use keops_core::reduce::{ARG_MIN, SUM};
use keops_core::spec::{Axis, Device};
use keops_core::{interp::Interpreter, ranges::Ranges};
use ndarray::{Array1, Array2, arr0, array};
use std::sync::Arc;

type Lazy = LazyTensor<f64, Reference>;

/// 60,000 operations take a moment where each costs the same, and hours where each costs as much as
/// all before it.
#[test]
fn long_formulas_take_as_much_as_their_length() {
    const MANY: usize = 60_000;
    let (x, y) = (Lazy::vi(array![1.0, 2.0]), Lazy::vj(array![3.0]));
    type Step = fn(&Lazy, Lazy) -> Lazy;
    let long = |step: Step| (0..MANY).fold(&x * &y, |l, _| step(&x, l));
    let forms: [(&str, Step); 6] = [
        ("x + l", |x, l| x + l),
        ("l + x", |x, l| l + x),
        ("x - l", |x, l| x - l),
        ("l * x", |x, l| l * x),
        ("sin l", |_, l| l.sin()),
        ("new + l", |_, l| Lazy::vi(array![1.0, 2.0]) + l),
    ];
    for (name, step) in forms {
        let l = long(step);
        assert_eq!(l.dim().unwrap(), 1, "{name}");
        drop(l);
    }
    // The value of a shorter one: 3 x + 1000 x.
    let sum = (0..1000).fold(&x * &y, |l, _| &x + l).sum(Axis::J).unwrap();
    assert_eq!(sum, array![[1003.0], [2006.0]].into_dyn());
}

#[test]
fn positions_that_clash_are_told_where_they_meet() {
    let (x, y) = (Lazy::var(0, 1, Category::I), Lazy::var(0, 1, Category::J));
    let (left, right) = (x.exp(), y.sin());
    let line = line!() + 1;
    let e = (&left + &right).check().unwrap_err().to_string();
    assert!(e.starts_with("position 0 is Vi(1) and Vj(1)"), "{e}");
    assert!(e.contains(&format!("front_doors.rs:{line}:")), "{e}");
    // An error inside an operand comes before.
    let e = (left + (right + Lazy::list(&[1.0, 2.0]).concat(1) * Lazy::list(&[1.0, 2.0])))
        .check()
        .unwrap_err();
    assert!(e.to_string().contains("dimensions [3, 2]"), "{e}");
}

#[test]
fn whole_factors_are_parameters() {
    let device = Device::new(Interpreter::new());
    let x = Lazy::vi(array![1.0, 2.0]);
    for k in 2..20 {
        let sum = (f64::from(k) * &x - k).at(device.clone()).sum(Axis::J).unwrap();
        assert_eq!(sum, array![[0.0], [f64::from(k)]].into_dyn());
    }
    assert_eq!(device.cached(), 1, "one code for all factors");
    // Exponents are constants, so that negative numbers have whole powers.
    let y = Lazy::vi(array![-3.0]);
    assert_eq!(y.powf(2).sum(Axis::J).unwrap(), array![[9.0]].into_dyn());
    assert_eq!(y.power(3).sum(Axis::J).unwrap(), array![[-27.0]].into_dyn());
    assert_eq!((y * 16_777_217).sum(Axis::J).unwrap(), array![[-50_331_651.0]].into_dyn());
}

#[test]
fn masks_select() {
    let (x, y) = (Lazy::vi(array![0.0, 1.0, 2.0]), Lazy::vj(array![0.0, 1.0, 2.0]));
    let d = (&x - &y).abs();
    // Nearest other point: the diagonal is masked.
    let other = d.equal(0).select(f64::INFINITY, &d).argmin(Axis::J).unwrap();
    assert_eq!(other, array![[1], [0], [1]].into_dyn());
    let near = d.less_than(1.5).select(1, 0).sum(Axis::J).unwrap();
    assert_eq!(near, array![[2.0], [3.0], [2.0]].into_dyn());
    // Both masks, and what is not a mask is taken as one: where it is not 0.
    let both = (d.less_than(1.5) * d.greater_than(0.5)).select(10, 3).sum(Axis::J).unwrap();
    assert_eq!(both, array![[16.0], [23.0], [16.0]].into_dyn());
    assert_eq!(x.select(5, 7).sum(Axis::J).unwrap(), array![[7.0], [5.0], [5.0]].into_dyn());
    let text = Genred::<Reference>::new(
        "Select(x == y, x, -1)",
        ["x = Vi(1)", "y = Vj(1)"],
        &SUM,
        Axis::J,
    );
    let out = text.unwrap().call((&array![2.0, 5.0], &array![5.0, 6.0])).unwrap();
    assert_eq!(out, array![[-2.0], [4.0]].into_dyn());
}

#[test]
fn masks_are_no_conditions_of_ifelse() {
    let (x, y) = (Lazy::vi(array![0.0, 1.0]), Lazy::vj(array![0.0, 1.0]));
    let masks = [
        x.less_than(&y),
        x.equal(&y),
        x.not_equal(&y),
        x.step(),
        x.less_than(&y) * x.equal(&y),
        1 - x.less_or_equal(&y),
    ];
    for mask in masks {
        let e = mask.ifelse(1, 0).check().unwrap_err().to_string();
        assert!(e.contains("Select(mask, a, b)"), "{e}");
    }
    let signs = [x.clone(), x.less_than(&y) - 0.5, -x.equal(&y), x.sign(), &x - x.less_than(&y)];
    for sign in signs {
        assert!(sign.ifelse(1, 0).check().is_ok(), "{sign:?}");
    }
    let e =
        Genred::<Reference>::new("IfElse(x < y, 1, 0)", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J);
    let e = e.unwrap_err().to_string();
    assert!(e.contains("Select(mask, a, b)") && e.contains('^'), "{e}");
}

#[test]
fn vectors_are_rows_of_one_component() {
    let aliases = ["x = Vi(1)", "y = Vj(1)", "p = Pm(1)"];
    let sum: Genred = Genred::new("p * x * y", aliases, &SUM, Axis::J).unwrap();
    let (x, y, p) = (array![1.0, 2.0], array![10.0, 20.0, 30.0], arr0(2.0));
    let out = sum.call((&x, &y, &p)).unwrap();
    assert_eq!(out, array![[120.0], [240.0]].into_dyn());
    let gradient = sum.vjp("y").unwrap().call((&x, &y, &p, &array![1.0, 1.0])).unwrap();
    assert_eq!(gradient, array![6.0, 6.0, 6.0].into_dyn());
    let mut kept = Array2::zeros((2, 1));
    sum.call_into((&x, &y, &p), &mut kept).unwrap();
    let vector: Array1<f64> = out.shaped().unwrap();
    assert_eq!((kept, vector), (array![[120.0], [240.0]], array![120.0, 240.0]));
    // Vectors of rows of two components stay an error, with a hint.
    let two: Genred = Genred::new("x * p", ["x = Vi(2)", "p = Pm(1)"], &SUM, Axis::J).unwrap();
    let e = two.call((&array![1.0, 2.0], &arr0(1.0))).unwrap_err().to_string();
    assert!(e.contains("one row has shape (1, 2)"), "{e}");
}

#[test]
fn messages_say_what_to_do() {
    let text = |formula: &str| {
        let made = Genred::<Reference>::new(formula, ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J);
        made.unwrap_err().to_string()
    };
    assert!(text("x ^ 2").starts_with("unexpected character '^': powers are written `a ** b`"));
    assert!(text("x @ y").contains("matmul"));
    let e = (Lazy::vi(array![1.0, 2.0]) - Lazy::vi(array![1.0, 2.0, 3.0])).check().unwrap_err();
    assert!(e.to_string().contains("is one of them `vj`"), "{e}");
    let x = array![1.0, 2.0];
    let sum = Lazy::vi(&x).exp().sum_reduction(Axis::J).unwrap();
    let e = sum.vjp(&Lazy::vi(&x)).unwrap_err().to_string();
    assert!(e.contains("keep a clone"), "{e}");
    let sum: Genred = Genred::new("x * y", ["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J).unwrap();
    let (x, e) = (array![[1.0, 2.0]], array![[1.0]]);
    let e = sum.vjp("x").unwrap().call((&x, &x, &e)).unwrap_err().to_string();
    assert!(e.contains("cotangent or tangent"), "{e}");
}

#[test]
fn explanations_show_every_stage() {
    let nearest: Genred =
        Genred::new("SqDist(x, y)", ["x = Vi(3)", "y = Vj(3)"], &ARG_MIN, Axis::J).unwrap();
    let text = nearest.explain(keops_core::data::DType::F32).unwrap();
    for part in ["x: Vi(3)", "ArgMin over J", "root %", "runs on interpreter in f32"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

/// The other half is made where it is needed, once for all threads; ranges that mean the same
/// pairs are equal however they are cut.
#[test]
fn the_other_half_of_ranges_is_made_when_it_is_needed() {
    let n = 300;
    let band = Ranges::band(n, n, 7, 3).unwrap();
    let p = band.pattern(Axis::J).unwrap().clone();
    let made = Arc::new(Ranges::from_pattern(p).unwrap());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let made = made.clone();
            std::thread::spawn(move || std::ptr::from_ref(made.pattern(Axis::I).unwrap()).addr())
        })
        .collect();
    let places: Vec<usize> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert!(places.windows(2).all(|w| w[0] == w[1]));
    assert_eq!(*made, band);
    assert_ne!(*made, Ranges::band(n, n, 7, 4).unwrap());
    assert_eq!(made.swap_axes().pairs(), band.pairs());
    // A half for i alone: rows of j are its blocks, and it is what messages name.
    let over_i = (&[[0, 2]][..], &[1][..], &[[1, 4]][..]);
    let half = Ranges::from_arrays(None, Some(over_i)).unwrap();
    assert_eq!((half.pairs(), half.check(4, 2).is_ok()), (6, true));
    let e = half.check(3, 2).unwrap_err().to_string();
    assert!(e.contains("redranges_i[0] = [1, 4] is not within the 3 rows"), "{e}");
    assert_eq!(half.pattern(Axis::J).unwrap().blocks, [[1, 4]]);
    assert_eq!(half, Ranges::from_clusters(&[1, 4], &[2], &[false, true]).unwrap());
}

/// A mask of 0 and 1 beside infinite branches does not leak.
#[test]
fn selections_of_infinite_branches() {
    let x = Lazy::vi(array![0.0, 2.0]);
    let safe = x.equal(0).select(0, x.inv()).sum(Axis::J).unwrap();
    assert_eq!(safe, array![[0.0], [0.5]].into_dyn());
}

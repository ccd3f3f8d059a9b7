//! What goes into LazyTensors and Genreds, in which shape, and what comes out: against plain loops.

use half::{bf16, f16};
use keops_core::data::{DType, Element};
use keops_core::error::Error;
use keops_core::genred::{Genred, Reference};
use keops_core::graph::Category;
use keops_core::lazy::LazyTensor;
use keops_core::ranges::Ranges;
use keops_core::reduce::{ARG_MIN, K_MIN, LOG_SUM_EXP, MIN_ARG_MIN, SUM};
use keops_core::spec::Axis;
use ndarray::{
    Array, Array1, Array2, Array3, ArrayD, ArrayView2, Axis as NdAxis, Dimension, IxDyn,
    ShapeBuilder, Slice, arr0, array, s,
};

type Lazy = LazyTensor<f64, Reference>;

fn fill(shape: &[usize], phase: f64) -> ArrayD<f64> {
    let mut k = 0.0;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        k += 1.0;
        (k * 0.7 + phase).sin()
    })
}
fn close<A: Dimension, B: Dimension>(got: &Array<f64, A>, want: &Array<f64, B>) {
    assert_eq!(got.shape(), want.shape());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= 1e-12 * w.abs().max(1.0), "got {g}, expected {w}");
    }
}
fn error<T: std::fmt::Debug>(r: Result<T, Error>) -> String {
    r.unwrap_err().to_string()
}

#[test]
fn every_constructor_form() {
    let x = fill(&[5, 3], 0.0).into_dimensionality::<ndarray::Ix2>().unwrap();
    let sum = |l: &Lazy| l.sum(Axis::J).unwrap();
    let shape = |l: &Lazy| l.shape().unwrap();
    let vi = Lazy::vi(&x);
    // A dummy axis tells the category, as in KeOps.
    let dummy = Lazy::new(x.clone().insert_axis(NdAxis(1)));
    assert_eq!((shape(&dummy), sum(&dummy)), (vec![5, 1, 3], sum(&vi)));
    let dummy = Lazy::new(x.view().insert_axis(NdAxis(0)));
    assert_eq!((shape(&dummy), sum(&dummy)), (vec![1, 5, 3], Lazy::vj(&x).sum(Axis::J).unwrap()));
    let batch = fill(&[2, 1, 4, 1, 3], 0.0);
    assert_eq!(shape(&Lazy::new(&batch)), [2, 1, 4, 1, 3]);
    assert_eq!(Lazy::new(&batch).batch_shape().unwrap(), [2, 1]);
    assert_eq!(shape(&Lazy::new(fill(&[2, 7, 1, 4, 3], 0.0))), [2, 7, 1, 4, 3]);
    assert_eq!(shape(&Lazy::new(fill(&[7, 1, 1, 3], 0.0))), [7, 1, 1, 3]);
    // Numbers, lists and vectors are parameters; 0, 1, -1 and `constant` are constants.
    assert_eq!(shape(&Lazy::new(arr0(2.5))), [1, 1, 1]);
    assert_eq!(shape(&Lazy::new(array![1.0, 2.0])), [1, 1, 2]);
    assert_eq!(shape(&Lazy::list(&[1.0, 2.0, 3.0])), [1, 1, 3]);
    assert_eq!(Lazy::scalar(3.0).formula().unwrap().vars.len(), 1);
    assert_eq!(Lazy::scalar(-1.0).formula().unwrap().vars.len(), 0);
    assert_eq!(Lazy::scalar(0.3).formula().unwrap().vars.len(), 1);
    assert_eq!(Lazy::constant(0.3).formula().unwrap().vars.len(), 0);
    let symbol = Lazy::var(3, 2, Category::J) + Lazy::var(0, 2, Category::Param);
    let expected = [(0, 2, Category::Param), (3, 2, Category::J)];
    assert_eq!(symbol.symbolic_variables().unwrap(), expected);
    assert_eq!(vi.symbolic_variables().unwrap(), []);
    assert_eq!(vi.dtype(), DType::F64);
    // On either side of an operator.
    let by = |f: &dyn Fn(usize, usize) -> f64| Array2::from_shape_fn((5, 3), |(i, k)| f(i, k));
    let list = [2.0, 3.0, 5.0];
    let want = by(&|i, k| list[k] * x[[i, k]] + list[k]).into_dyn();
    let vector = Array1::from(list.to_vec());
    close(&sum(&(list * &vi + list.to_vec())), &want);
    close(&sum(&(&vi * &vector + vector.view())), &want);
    close(&sum(&(&vi * &list[..] + list)), &want);
    close(&sum(&(list.to_vec() - vi.clone())), &by(&|i, k| list[k] - x[[i, k]]).into_dyn());
    let both = &vi * x.view().insert_axis(NdAxis(0));
    assert_eq!(shape(&both), [5, 5, 3]);

    for refused in [x.clone().into_dyn(), fill(&[4, 5, 3], 0.0), fill(&[2, 4, 5, 3], 0.0)] {
        let line = line!() + 1;
        let e = error(Lazy::new(&refused).check());
        assert!(e.contains("a matrix needs `vi`, `vj` or `pm`"), "{e}");
        assert!(e.contains(&format!("{:?}", refused.shape())) && e.contains(&format!(":{line}:")));
    }
    for empty in [Lazy::list(&[]), Lazy::new(fill(&[3, 1, 0], 0.0)), Lazy::concatenate(&[])] {
        assert!(empty.check().is_err());
    }
    assert!(Lazy::iota(0).check().is_err() && Lazy::iota(usize::MAX).check().is_err());
    assert!(Lazy::var(usize::MAX, usize::MAX, Category::I).check().is_err());
    assert!(vi.exp().named("k").check().is_err());
}

/// Sums over j of x_i · y_j + p under NumPy's broadcasting of leading axes.
#[test]
fn batch_axes_broadcast_as_in_numpy() {
    let (m, n, d) = (3, 4, 2);
    let shapes: [&[usize]; 6] = [&[], &[1], &[3], &[2, 1], &[2, 3], &[5, 1, 3]];
    for bx in shapes {
        for by in shapes {
            for bp in [&[][..], &[3], &[2, 1]] {
                let x = fill(&[bx, &[m, d]].concat(), 0.0);
                let y = fill(&[by, &[n, d]].concat(), 1.0);
                let p = fill(&[bp, &[1]].concat(), 2.0);
                let all = [&bx, &by, &bp].iter().map(|b| b.len()).max().unwrap();
                let at = |b: &[usize], k: usize| (k + b.len()).checked_sub(all).map_or(1, |k| b[k]);
                let batch: Result<Vec<usize>, ()> = (0..all)
                    .map(|k| {
                        let e = [at(bx, k), at(by, k), at(bp, k)];
                        let most = e.into_iter().max().unwrap();
                        e.iter().all(|v| *v == 1 || *v == most).then_some(most).ok_or(())
                    })
                    .collect();
                let l = (Lazy::vi(&x) | Lazy::vj(&y)) + Lazy::pm(&p);
                let Ok(batch) = batch else {
                    assert!(error(l.check()).contains("batch elements"), "{bx:?} {by:?} {bp:?}");
                    assert!(l.sum(Axis::J).is_err());
                    continue;
                };
                assert_eq!(l.shape().unwrap(), [&batch[..], &[m, n, 1]].concat());
                let wide = |a: &ArrayD<f64>, tail: &[usize]| {
                    a.broadcast(IxDyn(&[&batch[..], tail].concat())).unwrap().to_owned()
                };
                let (x, y, p) = (wide(&x, &[m, d]), wide(&y, &[n, d]), wide(&p, &[1]));
                let count = batch.iter().product::<usize>();
                let flat = |a: ArrayD<f64>, tail: [usize; 2]| {
                    a.into_shape_with_order((count, tail[0], tail[1])).unwrap()
                };
                let (x, y, p) = (flat(x, [m, d]), flat(y, [n, d]), flat(p, [1, 1]));
                let want = Array3::from_shape_fn((count, m, 1), |(b, i, _)| {
                    (0..n)
                        .map(|j| x.slice(s![b, i, ..]).dot(&y.slice(s![b, j, ..])) + p[[b, 0, 0]])
                        .sum()
                });
                let shape = [&batch[..], &[m, 1]].concat();
                let want = want.into_shape_with_order(IxDyn(&shape)).unwrap();
                close(&l.sum(Axis::J).unwrap(), &want);
            }
        }
    }
}

#[test]
fn products_with_vectors_matrices_and_batches() {
    let (x, y) = (fill(&[2, 4, 3], 0.0), fill(&[5, 3], 1.0));
    let k = Lazy::vi(&x).sqdist(Lazy::vj(&y));
    let dense = |q: usize, i: usize, j: usize| {
        (0..3).map(|c| (x[[q, i, c]] - y[[j, c]]).powi(2)).sum::<f64>()
    };
    let (vector, matrix, batch) = (fill(&[5], 2.0), fill(&[5, 2], 3.0), fill(&[2, 5, 2], 4.0));
    let product = |b: &dyn Fn(usize, usize, usize) -> f64, c: usize| {
        Array3::from_shape_fn((2, 4, c), |(q, i, l)| {
            (0..5).map(|j| dense(q, i, j) * b(q, j, l)).sum()
        })
    };
    let want = product(&|_, j, _| vector[[j]], 1).index_axis_move(NdAxis(2), 0).into_dyn();
    close(&k.matmul(&vector).unwrap(), &want);
    close(&k.matvec(&vector).unwrap(), &want);
    close(&k.matmul(&matrix).unwrap(), &product(&|_, j, l| matrix[[j, l]], 2).into_dyn());
    close(&k.matmul(&batch).unwrap(), &product(&|q, j, l| batch[[q, j, l]], 2).into_dyn());
    let left = fill(&[2, 4, 1], 5.0);
    let want = Array3::from_shape_fn((2, 5, 1), |(q, j, _)| {
        (0..4).map(|i| dense(q, i, j) * left[[q, i, 0]]).sum()
    });
    close(&k.rmatvec(&left).unwrap(), &want.clone().into_dyn());
    close(&k.t().matmul(&left).unwrap(), &want.into_dyn());
    assert_eq!(k.t().t().shape().unwrap(), k.shape().unwrap());
    assert!(error(k.matmul(arr0(1.0))).contains("shape (batches…, rows, dim)"));
    assert!(error(k.matmul(fill(&[6], 0.0))).contains("6 rows"));
}

/// Arrays that would take more memory than there is, and numbers beyond all bounds.
#[test]
fn absurd_inputs_are_errors_or_work() {
    let one = Array2::from_elem((1, 1), 1.5);
    // Axes that repeat take no memory: 2^40 batches are described, not stored, …
    let many = one.broadcast((1 << 40, 1, 1)).unwrap();
    let l = Lazy::vi(many);
    assert_eq!(l.shape().unwrap(), [1 << 40, 1, 1, 1]);
    assert!(l.sum(Axis::J).is_err(), "the result would take 8 TB");
    let rows = one.broadcast((1 << 34, 1)).unwrap();
    assert!(error(Lazy::vi(rows).sum(Axis::J)).contains("too large"));
    // … a few are all there.
    let few = Array2::from_elem((1, 2), 1.5);
    let few = few.broadcast((3, 2)).unwrap();
    assert_eq!(Lazy::vi(few).sum(Axis::J).unwrap(), Array2::from_elem((3, 2), 1.5).into_dyn());
    let wide = one.broadcast((1, 1 << 30)).unwrap();
    assert!(Lazy::vi(wide).check().is_err() && Lazy::pm(wide).check().is_err());

    let x = Lazy::vi(fill(&[3, 2], 0.0));
    for bad in [
        x.elem(usize::MAX),
        x.extract(usize::MAX, usize::MAX),
        x.components(isize::MIN..),
        x.components(isize::MAX..),
        x.components(Slice::new(isize::MIN, Some(isize::MIN), 1)),
        x.components(Slice::new(0, Some(isize::MAX), isize::MIN)),
        x.elem(0).one_hot(usize::MAX),
        x.elem(0).sumt(0),
        x.tensordot(&x, &[usize::MAX, 2], &[2], &[7], &[9]),
        x.kron(&x, &[], &[0]),
        x.sumt(usize::MAX),
        x.concat(x.elem(0).sumt(1 << 20)),
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
    for round in [i32::MIN, i32::MAX] {
        let _ = x.round(round).sum(Axis::J);
    }
    let _ = x.components(Slice::new(0, None, isize::MIN)).sum(Axis::J);
    assert!(x.abs().pow(i32::MAX).sum(Axis::J).is_ok());
    assert!(x.pow(i32::MIN).power(1e300).power(f64::NAN).sum(Axis::J).is_ok());
    assert!(x.kmin(usize::MAX, Axis::J).is_err());
    assert!(x.var_free(), "no symbols");
    let long = (0..40).fold(x.elem(0), |l, _| &l * &l + 1);
    assert!(long.sum(Axis::J).is_ok());
}
trait VarFree {
    fn var_free(&self) -> bool;
}
impl VarFree for Lazy {
    fn var_free(&self) -> bool {
        self.symbolic_variables().unwrap().is_empty()
    }
}

#[test]
fn errors_tell_the_place_and_the_name() {
    let x = Lazy::vi(fill(&[4, 3], 0.0)).named("x");
    let y = Lazy::vj(fill(&[5, 3], 0.0)).named("y");
    let at = |e: String, line: u32| assert!(e.contains(&format!("front_ends.rs:{line}:")), "{e}");
    // Errors of the reduction, not of the formula, tell where the reduction is.
    let d = &x - &y;
    at(error(d.logsumexp(Axis::J)), line!());
    at(error(d.kmin(0, Axis::J)), line!());
    at(error(d.sumsoftmaxweight(&y, Axis::J)), line!());
    at(error(d.matmul(fill(&[7, 1], 0.0))), line!());
    at(error(d.matmul(fill(&[5, 2], 0.0))), line!());
    at(error(d.rmatvec(fill(&[4, 2], 0.0))), line!());
    at(error(d.bound(&LOG_SUM_EXP, Axis::J)), line!());
    at(error(d.genred(&SUM, Axis::J)), line!());
    at(error(d.sum_reduction(Axis::J).unwrap().vjp(&d)), line!());
    at(error(Lazy::concatenate(&[]).check()), line!());
    let e = error((&x + Lazy::vi(fill(&[6, 3], 0.0)).named("z")).sum(Axis::J));
    assert!(e.contains("argument `z` has 6 rows, but `x` has 4"), "{e}");
    let f = d.sum_reduction(Axis::J).unwrap();
    let other = Lazy::vi(fill(&[4, 3], 0.0)).named("other");
    let e = error(f.vjp(&other));
    assert!(e.contains("no variable named `other`; the variables are `x`, `y`"), "{e}");
    let open = (&d * Lazy::var(0, 1, Category::J)).sum_reduction(Axis::J).unwrap();
    assert!(error(open.call(())).contains("expected 1 arguments (v0), got 0"));
    assert!(
        error((&d * Lazy::var(1, 1, Category::J)).sum_reduction(Axis::J)).contains("position 0")
    );
    let e = error(open.call((&fill(&[4, 1], 0.0),)));
    assert!(e.contains("`v0` has 4 rows, but `y` has 5"), "{e}");
}

#[test]
fn reductions_that_are_not_yet_called() {
    let (x, y, w) = (fill(&[4, 2], 0.0), fill(&[6, 2], 1.0), fill(&[6, 1], 2.0));
    let (x_i, y_j, w_j) = (Lazy::vi(&x), Lazy::vj(&y), Lazy::vj(&w));
    let d = x_i.sqdist(&y_j) * 0.7;
    for axis in [Axis::I, Axis::J] {
        let now = [d.sum(axis), d.min(axis), d.max(axis), d.logsumexp(axis), d.kmin(2, axis)];
        let later = [
            d.sum_reduction(axis),
            d.min_reduction(axis),
            d.max_reduction(axis),
            d.logsumexp_reduction(axis),
            d.kmin_reduction(2, axis),
        ];
        for (now, later) in now.into_iter().zip(later) {
            let later = later.unwrap();
            assert_eq!(later.call(()).unwrap(), now.unwrap());
            assert!(later.free().is_empty());
        }
        let now = [d.argmin(axis), d.argmax(axis), d.argkmin(2, axis)];
        let later =
            [d.argmin_reduction(axis), d.argmax_reduction(axis), d.argkmin_reduction(2, axis)];
        for (now, later) in now.into_iter().zip(later) {
            assert_eq!(later.unwrap().call_indices(()).unwrap(), now.unwrap());
        }
        let (v, i) = d.min_argmin(axis).unwrap();
        let later = d.min_argmin_reduction(axis).unwrap();
        assert_eq!((later.call(()).unwrap(), later.call_indices(()).unwrap()), (v, i));
        assert!(d.max_argmax_reduction(axis).is_ok() && d.kmin_argkmin_reduction(3, axis).is_ok());
    }
    let weighted = d.bound_weighted(&w_j, &LOG_SUM_EXP, Axis::J).unwrap();
    // Weights of either sign: NaN where the sum is negative.
    let (a, b) = (weighted.call(()).unwrap(), d.logsumexp_weighted(&w_j, Axis::J).unwrap());
    assert!(a.iter().zip(&b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan())));
    // Arguments come in the order of positions, whatever that of appearance.
    let (p, q) = (Lazy::var(1, 1, Category::J), Lazy::var(0, 1, Category::J));
    let f = (&d * p / q).sum_reduction(Axis::J).unwrap();
    assert_eq!(f.free(), ["v0", "v1"]);
    let (b, c) = (fill(&[6, 1], 3.0), fill(&[6, 1], 4.0) + 2.0);
    close(&f.call((&c, &b)).unwrap(), &d.matmul(&b / &c).unwrap());
    let mut out = Array2::from_elem((4, 1), f64::NAN);
    f.call_into((&c, &b), &mut out).unwrap();
    assert_eq!(out.into_dyn(), f.call((&c, &b)).unwrap());
}

/// exp(-p |x - y|²) b, summed: third derivatives by composition of vjp and jvp, against differences
/// of second derivatives that are in closed form here.
#[test]
fn what_derivatives_return_is_derived_again() {
    let (x, y, b) =
        (array![[0.3], [1.1]], array![[0.2], [-0.4], [0.9]], array![[1.0], [-2.0], [0.5]]);
    let p = array![0.7];
    let (x_i, y_j, b_j) = (Lazy::vi(&x), Lazy::vj(&y), Lazy::vj(&b));
    let p_ = Lazy::pm(&p);
    let f = ((-x_i.sqdist(&y_j) * &p_).exp() * &b_j).sum_reduction(Axis::J).unwrap();
    let pair = |i: usize, j: usize| {
        let d = x[[i, 0]] - y[[j, 0]];
        (d, (-p[0] * d * d).exp() * b[[j, 0]])
    };
    // The derivatives of k = exp(-p d²) in d.
    let first = |d: f64| -2.0 * p[0] * d;
    let second = |d: f64| 4.0 * p[0] * p[0] * d * d - 2.0 * p[0];
    let third = |d: f64| -8.0 * p[0].powi(3) * d.powi(3) + 12.0 * p[0] * p[0] * d;
    let e = array![[1.0], [0.5]];
    let sum = |i: usize, h: &dyn Fn(f64) -> f64| {
        (0..3).map(|j| pair(i, j).1 * h(pair(i, j).0)).sum::<f64>()
    };
    let of_x = |h: &dyn Fn(f64) -> f64| {
        Array2::from_shape_fn((2, 1), |(i, _)| sum(i, h) * e[[i, 0]]).into_dyn()
    };
    let one = Array2::ones((2, 1));
    // In x alone: three times reverse, and mixed.
    let g = f.vjp(&x_i).unwrap();
    close(&g.call((&e,)).unwrap(), &of_x(&first));
    let gg = g.vjp(&x_i).unwrap();
    close(&gg.call((&e, &one)).unwrap(), &of_x(&second));
    let ggg = gg.vjp(&x_i).unwrap();
    assert_eq!(ggg.free(), ["e", "e2", "e3"]);
    close(&ggg.call((&e, &one, &one)).unwrap(), &of_x(&third));
    close(&gg.jvp(&x_i).unwrap().call((&e, &one, &one)).unwrap(), &of_x(&third));
    close(&g.jvp(&x_i).unwrap().jvp(&x_i).unwrap().call((&e, &one, &one)).unwrap(), &of_x(&third));
    let along = f.jvp(&x_i).unwrap().jvp(&x_i).unwrap().jvp(&x_i).unwrap();
    let along = along.call((&one, &one, &one)).unwrap() * &e;
    close(&along, &of_x(&third));
    // In x, y and the parameter: d/dp of d²/dx dy.
    let mixed = g.jvp(&y_j).unwrap().vjp(&p_).unwrap();
    let t = array![[0.4], [-1.0], [0.3]];
    let w = array![[1.0], [-0.7]];
    // Σ_ij w_i e_i t_j (-k''), and its derivative in p: -d² k'' - (8 p d² - 2) k.
    let want: f64 = (0..6)
        .map(|q| {
            let (i, j) = (q / 3, q % 3);
            let (d, k) = pair(i, j);
            let slope = -d * d * second(d) + 8.0 * p[0] * d * d - 2.0;
            -w[[i, 0]] * e[[i, 0]] * t[[j, 0]] * slope * k
        })
        .sum();
    close(&mixed.call((&e, &t, &w)).unwrap(), &array![want].into_dyn());
    // A value and gradients of all variables in one.
    let all = f.vjp_of(&[&x_i, &y_j, &b_j, &p_]).unwrap().with_primal();
    let made = all.call_all((&e,)).unwrap();
    assert_eq!(made.len(), 5);
    close(&made[0], &of_x(&first));
    close(&made[4], &f.call(()).unwrap());
    let in_p: f64 = (0..2).map(|i| e[[i, 0]] * sum(i, &|d| -d * d)).sum();
    close(&made[3], &array![in_p].into_dyn());
    let tangents = f.jvp_of(&[&x_i, &b_j]).unwrap().call((&one, &b)).unwrap();
    close(
        &tangents,
        &Array2::from_shape_fn((2, 1), |(i, _)| sum(i, &first) + sum(i, &|_| 1.0)).into_dyn(),
    );
}

/// A function inside another one, and derivatives through both.
#[test]
fn functions_of_functions() {
    let genred = |f: &str, aliases: &[&str], axis| -> Genred {
        Genred::new(f, aliases, &SUM, axis).unwrap()
    };
    let inner = genred("x * y * p", &["x = Vi(1)", "y = Vj(1)", "p = Pm(1)"], Axis::I);
    let outer = genred("Exp(x * m)", &["m = Vj(1)", "x = Vi(1)"], Axis::J);
    let both = outer.compose("m", &inner).unwrap();
    assert_eq!(both.arguments().collect::<Vec<_>>(), ["x", "y", "p"]);
    let (x, y, p) = (array![[0.1], [0.4]], array![[1.0], [-0.5], [0.3]], array![0.7]);
    let value = |x: &Array2<f64>, p: f64| {
        let total = x.sum();
        Array2::from_shape_fn((2, 1), |(i, _)| {
            y.iter().map(|y| (x[[i, 0]] * total * y * p).exp()).sum()
        })
    };
    close(&both.call((&x, &y, &p)).unwrap(), &value(&x, 0.7).into_dyn());
    // d out_i / dx_k = Σ_j exp(x_i s y_j p) y_j p (δ_ik s + x_i).
    let e = array![[1.0], [-2.0]];
    let slope = |i: usize, h: &dyn Fn(f64) -> f64| -> f64 {
        y.iter().map(|y| (x[[i, 0]] * 0.5 * y * 0.7).exp() * h(*y)).sum()
    };
    let gradient = both.vjp("x").unwrap().call((&x, &y, &p, &e)).unwrap();
    let want = Array2::from_shape_fn((2, 1), |(k, _)| {
        (0..2)
            .map(|i| {
                e[[i, 0]] * slope(i, &|y| y * 0.7) * (if i == k { 0.5 } else { 0.0 } + x[[i, 0]])
            })
            .sum()
    });
    close(&gradient, &want.into_dyn());
    let second = both.vjp("x").unwrap().jvp("p").unwrap();
    let h = 1e-5;
    let at = |p: f64| both.vjp("x").unwrap().call((&x, &y, &array![p], &e)).unwrap();
    let differences = (at(0.7 + h) - at(0.7 - h)) / (2.0 * h);
    let got = second.call((&x, &y, &p, &e, &array![1.0])).unwrap();
    assert!((&got - &differences).iter().all(|d| d.abs() < 1e-8));
    // The cotangent of one function may be the result of another.
    let loss = genred("2 * x * z", &["x = Vi(1)", "z = Vj(1)"], Axis::J);
    let chained = both.vjp("x").unwrap().compose("e", &loss).unwrap();
    let z = array![[0.5], [0.25], [0.1]];
    let e = loss.call((&x, &z)).unwrap();
    let direct = both.vjp("x").unwrap().call((&x, &y, &p, &e)).unwrap();
    close(&chained.call((&x, &y, &p, &z)).unwrap(), &direct);

    let message = |r: Result<Genred, keops_core::error::InputError>| r.unwrap_err().to_string();
    assert!(message(outer.compose("q", &inner)).contains("no variable named `q`"));
    assert!(message(outer.compose("x", &inner)).contains("`x` is Vi[1], the result"));
    let other = genred("x * y", &["x = Vi(1)", "y = Vj(1)", "m = Pm(2)"], Axis::I);
    let outer = genred("m * x * y", &["m = Vj(1)", "x = Vi(1)", "y = Vi(1)"], Axis::J);
    assert!(message(outer.compose("m", &other)).contains("`y` is Vi[1] in one function and Vj[1]"));
    let indices: Genred = Genred::new("x*y", ["x=Vi(1)", "y=Vj(1)"], &ARG_MIN, Axis::I).unwrap();
    assert!(message(outer.compose("m", &indices)).contains("indices"));
    let ranges = Ranges::band(2, 3, 0, 0).unwrap();
    // Each part keeps its ranges: m_j = x_j y_j where there is a row j of x, and all pairs outside.
    let banded = genred("x * y", &["x = Vi(1)", "y = Vj(1)"], Axis::I).ranges(ranges);
    let of_banded =
        genred("x * m", &["m = Vj(1)", "x = Vi(1)"], Axis::J).compose("m", &banded).unwrap();
    let diagonal: f64 = (0..2).map(|k| x[[k, 0]] * y[[k, 0]]).sum();
    close(&of_banded.call((&x, &y)).unwrap(), &(&x * diagonal).into_dyn());
    // The values of a reduction that also gives indices are its second result or its first.
    let least: Genred = Genred::new("x*y", ["x=Vi(1)", "y=Vj(1)"], &MIN_ARG_MIN, Axis::I).unwrap();
    let of_least =
        genred("x * m", &["m = Vj(1)", "x = Vi(1)"], Axis::J).compose("m", &least).unwrap();
    let out = of_least.call((&x, &y)).unwrap();
    let least: f64 = y.iter().map(|y| (x[[0, 0]] * y).min(x[[1, 0]] * y)).sum();
    close(&out, &(&x * least).into_dyn());
}

/// Results land in arrays of any layout, and nothing of what was there before remains.
#[test]
fn outputs_of_any_layout() {
    let conv: Genred = Genred::new("x * y", ["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J).unwrap();
    let (x, y) = (fill(&[5, 2], 0.0), fill(&[7, 2], 1.0));
    let want = conv.call((&x, &y)).unwrap();
    let check = |out: ArrayView2<'_, f64>| assert_eq!(out.to_owned().into_dyn(), want);
    let mut c = Array2::from_elem((5, 2), f64::NAN);
    let memory = c.as_ptr();
    conv.call_into((&x, &y), &mut c).unwrap();
    check(c.view());
    assert_eq!(c.as_ptr(), memory, "the memory is that of the caller");
    let mut f = Array::from_elem((5, 2).f(), f64::NAN);
    let memory = f.as_ptr();
    conv.call_into((&x, &y), &mut f).unwrap();
    check(f.view());
    assert_eq!((f.as_ptr(), f.strides()), (memory, &[1, 5][..]));
    let mut wide = Array2::from_elem((10, 6), -1.0);
    let mut view = wide.slice_mut(s![..;-2, 1..;3]);
    conv.call_into((&x, &y), &mut view).unwrap();
    check(wide.slice(s![..;-2, 1..;3]));
    assert_eq!(wide.iter().filter(|v| **v == -1.0).count(), 50);
    // A gradient with respect to a parameter, batches and selections.
    let sum: Genred =
        Genred::new("p * x * y", ["p = Pm(1)", "x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J).unwrap();
    let (p, e) = (fill(&[3, 1], 0.0), fill(&[3, 5, 2], 0.0));
    let gradient = sum.vjp("p").unwrap();
    let mut out = Array2::from_elem((3, 1), f64::NAN);
    gradient.call_into((&p, &x, &y, &e), &mut out).unwrap();
    assert_eq!(out.into_dyn(), gradient.call((&p, &x, &y, &e)).unwrap());
    let few: Genred =
        Genred::new("x * y", ["x = Vi(2)", "y = Vj(2)"], (&K_MIN, 3), Axis::J).unwrap();
    let mut out = Array3::from_elem((5, 3, 2), f64::NAN);
    few.call_into((&x, &y), &mut out).unwrap();
    assert_eq!(out.into_dyn(), few.call((&x, &y)).unwrap());
    // Rows outside all ranges are written too.
    let ranges = Ranges::from_clusters(&[2, 5], &[7], &[false, true]).unwrap();
    let mut out = Array2::from_elem((5, 2), f64::NAN);
    conv.clone().ranges(ranges).call_into((&x, &y), &mut out).unwrap();
    assert!(out.slice(s![..2, ..]).iter().all(|v| *v == 0.0));
    assert_eq!(out.slice(s![2.., ..]), want.slice(s![2.., ..]));
    // What does not fit is left alone, but for its values after an error while running.
    let mut bad = Array2::from_elem((5, 3), 1.0);
    let e = error(conv.call_into((&x, &y), &mut bad));
    assert!(e.contains("`the output`: expected shape [5, 2], got shape [5, 3]"), "{e}");
    assert_eq!(bad, Array2::from_elem((5, 3), 1.0));
    assert!(conv.call_into((&x, &x.slice(s![.., ..1])), &mut bad).is_err());
    // Narrow types are rounded once, at the end.
    let (hx, hy) = (x.mapv(f16::from_f64), y.mapv(f16::from_f64));
    let mut out = Array2::from_elem((5, 2), f16::NAN);
    conv.call_into((&hx, &hy), &mut out).unwrap();
    assert_eq!(out.into_dyn(), conv.call((&hx, &hy)).unwrap());
}

/// One function of every element type and layout: the same values as of plain copies in f64.
fn types<T: Element + std::fmt::Debug + PartialEq>(unit: f64) {
    let conv: Genred = Genred::new(
        "Exp(-SqDist(x, y)) * b",
        ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"],
        &SUM,
        Axis::J,
    )
    .unwrap();
    let narrow = |a: ArrayD<f64>| a.mapv(T::of_f64);
    let (x, y, b) =
        (narrow(fill(&[9, 6], 0.0)), narrow(fill(&[2, 8], 1.0)), narrow(fill(&[1, 1], 2.0)));
    // Strided and reversed, Fortran's order, repeated.
    let x = x.slice(s![..;-2, 1..;3]);
    let y = y.t();
    let b = b.broadcast((8, 1)).unwrap();
    assert!(x.strides()[0] < 0 && y.strides()[0] == 1 && b.strides()[0] == 0);
    let out = conv.call((&x, &y, &b)).unwrap();
    assert_eq!(out.shape(), [5, 1]);
    for i in 0..5 {
        let exact: f64 = (0..8)
            .map(|j| {
                let at = |k: usize| x[[i, k]].to_f64() - y[[j, k]].to_f64();
                (-at(0) * at(0) - at(1) * at(1)).exp() * b[[j, 0]].to_f64()
            })
            .sum();
        let got = out[[i, 0]].to_f64();
        assert!(
            (got - exact).abs() <= unit * (exact.abs() + 1.0),
            "{}: {got} {exact}",
            T::DTYPE.name()
        );
    }
    let (x_i, y_j) = (LazyTensor::<T, Reference>::vi(x), LazyTensor::vj(y));
    let lazy = (-x_i.sqdist(&y_j)).exp().matmul(b).unwrap();
    assert_eq!(lazy.into_dyn(), out);
}

#[test]
fn every_element_type_and_layout() {
    types::<f64>(1e-15);
    types::<f32>(1e-6);
    types::<f16>(1e-3);
    types::<bf16>(8e-3);
}

#[test]
fn small_sizes_and_none_at_all() {
    for (m, n) in [(0, 0), (0, 3), (3, 0), (1, 1)] {
        let d = Lazy::vi(fill(&[m, 2], 0.0)).sqdist(Lazy::vj(fill(&[n, 2], 1.0)));
        assert_eq!(d.sum(Axis::J).unwrap().shape(), [m, 1]);
        assert_eq!(d.matmul(fill(&[n], 0.0)).unwrap().shape(), [m]);
        let (v, i) = d.min_argmin(Axis::J).unwrap();
        if n == 0 {
            assert!(v.iter().all(|v| *v == f64::INFINITY) && i.iter().all(|i| *i == -1));
            assert!(d.logsumexp(Axis::J).unwrap().iter().all(|v| *v == f64::NEG_INFINITY));
        }
        assert_eq!(d.kmin(2, Axis::J).unwrap().shape(), [m, 2]);
    }
    // No array at all: one row and one column.
    assert_eq!((Lazy::i() + 2).sum(Axis::J).unwrap(), array![[2.0]].into_dyn());
}

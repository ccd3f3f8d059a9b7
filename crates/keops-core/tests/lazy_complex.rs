//! Complex symbolic matrices against complex arithmetic.

use keops_core::genred::Reference;
use keops_core::graph::Category;
use keops_core::lazy::{ComplexLazyTensor, LazyTensor};
use keops_core::ranges::Ranges;
use keops_core::spec::{Axis, ReduceOptions, Scheme};
use ndarray::{Array, Array1, Array2, Array3, Axis as NdAxis, Dimension, arr0, array, s};
use num_complex::{Complex32, Complex64 as C};

type Lazy = LazyTensor<f64, Reference>;
type Z = ComplexLazyTensor<f64, Reference>;

fn numbers(rows: usize, d: usize, phase: f64) -> Array2<C> {
    Array2::from_shape_fn((rows, d), |(i, k)| {
        let t = (i * d + k) as f64 * 1.3 + phase;
        C::new(t.sin(), 0.5 + (2.0 * t).cos())
    })
}
fn close<A: Dimension, B: Dimension>(got: &Array<C, A>, want: &Array<C, B>) {
    assert_eq!(got.shape(), want.shape());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).norm() <= 1e-13 * w.norm().max(1.0), "got {g}, expected {w}");
    }
}

/// An operation of x_i and y_j, summed over j, against the same of numbers.
fn check(op: impl Fn(&Z, &Z) -> Z, plain: impl Fn(&[C], &[C]) -> Vec<C>) {
    let (x, y) = (numbers(4, 3, 0.2), numbers(5, 3, 1.1));
    // What depends on no j has one column: all are to have five.
    let (x_i, y_j) = (Z::vi(&x), Z::vj(&y));
    let got = (op(&x_i, &y_j) + 0.5 * y_j.elem(0) - 0.5 * y_j.elem(0)).sum(Axis::J).unwrap();
    for i in 0..4 {
        let rows = (0..5).map(|j| plain(&x.row(i).to_vec(), &y.row(j).to_vec()));
        let want = rows.reduce(|a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect()).unwrap();
        close(&got.index_axis(NdAxis(0), i).to_owned(), &Array1::from(want).into_dyn());
    }
}
fn each(f: impl Fn(C, C) -> C) -> impl Fn(&[C], &[C]) -> Vec<C> {
    move |x, y| x.iter().zip(y).map(|(&a, &b)| f(a, b)).collect()
}
/// A real operation.
fn real(op: impl Fn(&Z, &Z) -> Lazy, plain: impl Fn(&[C], &[C]) -> Vec<f64>) {
    check(|x, y| op(x, y).real2complex(), |x, y| plain(x, y).into_iter().map(C::from).collect());
}

#[test]
fn arithmetic() {
    check(|x, y| x + y, each(|a, b| a + b));
    check(|x, y| x - y.clone(), each(|a, b| a - b));
    check(|x, y| x * y, each(|a, b| a * b));
    check(|x, y| x / y, each(|a, b| a / b));
    check(|x, y| -x + -(y.clone()), each(|a, b| -a - b));
    check(|x, y| x.conj() * y.exp(), each(|a, b| a.conj() * b.exp()));
    // Numbers and real matrices on either side.
    let c = C::new(0.3, -2.0);
    check(|x, y| c * x + y * c, each(|a, b| c * a + b * c));
    check(|x, y| c / x - c + (y - c), each(|a, b| c / a - c + b - c));
    check(|x, y| 2 * x + 0.25 * y - 1 + 3.5 / x, each(|a, b| a * 2.0 + b * 0.25 - 1.0 + 3.5 / a));
    check(|x, y| Complex32::new(0.5, 2.0) * x * y.real(), each(|a, b| C::new(0.5, 2.0) * a * b.re));
    check(|x, y| x / y.real() - &y.imag(), each(|a, b| a / b.re - b.im));
    check(|x, y| x.real().real2complex() / y, each(|a, b| a.re / b));
    // One number beside every component, complex and real.
    check(|x, y| x.elem(1) * y, |x, y| y.iter().map(|b| x[1] * b).collect());
    check(|x, y| x * y.elem(0) + y.elem(2), |x, y| x.iter().map(|a| a * y[0] + y[2]).collect());
    check(|x, y| x * y.real().elem(1), |x, y| x.iter().map(|a| a * y[1].re).collect());
}

#[test]
fn parts_and_components() {
    real(|x, _| x.real(), |x, _| x.iter().map(|z| z.re).collect());
    real(|x, _| x.imag(), |x, _| x.iter().map(|z| z.im).collect());
    real(|x, _| x.abs(), |x, _| x.iter().map(|z| z.norm()).collect());
    real(|x, _| x.square_abs(), |x, _| x.iter().map(|z| z.norm_sqr()).collect());
    real(|x, _| x.angle(), |x, _| x.iter().map(|z| z.arg()).collect());
    check(|x, _| x.sum_components(), |x, _| vec![x.iter().sum()]);
    check(|x, y| x.scalprod(y), |x, y| vec![x.iter().zip(y).map(|(a, b)| a * b).sum()]);
    check(|x, y| x.concat(y.elem(1)), |x, y| [x, &y[1..2]].concat());
    check(
        |x, y| x.concat(y.real()),
        |x, y| {
            let parts: Vec<C> = y.iter().map(|z| z.re.into()).collect();
            [x, &parts].concat()
        },
    );
    check(|x, _| x.extract(1, 2), |x, _| x[1..].to_vec());
    check(|x, y| (x.real() + y.imag()).exp1j(), each(|a, b| C::new(0.0, a.re + b.im).exp()));
    check(|x, y| x.imag().imag2complex() - y, each(|a, b| C::new(0.0, a.im) - b));
    check(|x, _| x.interleaved().as_complex(), |x, _| x.to_vec());
    let z = Z::vi(numbers(4, 3, 0.0));
    assert_eq!((z.dim().unwrap(), z.shape().unwrap()), (3, vec![4, 1, 3]));
    assert_eq!(z.t().shape().unwrap(), [1, 4, 3]);
    assert!(z.elem(3).check().is_err() && z.extract(usize::MAX, 2).check().is_err());
    assert!((&z * Z::vj(numbers(4, 2, 0.0))).check().is_err());
    assert!(Lazy::vi(array![[1.0, 2.0, 3.0]]).as_complex().check().is_err());
}

#[test]
fn arrays_of_every_form() {
    let x = numbers(6, 4, 0.0);
    let strided = x.slice(s![..;-2, 1..3]);
    let sum = |z: &Z| z.sum(Axis::J).unwrap();
    assert_eq!(sum(&Z::vi(strided)), strided.to_owned().into_dyn());
    assert_eq!(sum(&Z::vi(x.t())), x.t().to_owned().into_dyn());
    let one = array![C::i(), C::new(2.0, 1.0)];
    assert_eq!(sum(&Z::vi(&one)), one.clone().insert_axis(NdAxis(1)).into_dyn());
    assert_eq!(Z::pm(arr0(C::i())).shape().unwrap(), [1, 1, 1]);
    assert_eq!(Z::pm(&one).shape().unwrap(), [1, 1, 2]);
    assert_eq!(Z::new(x.clone().insert_axis(NdAxis(1))).shape().unwrap(), [6, 1, 4]);
    assert_eq!(Z::new(x.view().insert_axis(NdAxis(0))).shape().unwrap(), [1, 6, 4]);
    assert_eq!(Z::new(&one).shape().unwrap(), [1, 1, 2]);
    let repeated = one.broadcast((3, 2)).unwrap();
    assert_eq!(sum(&Z::vi(repeated)), repeated.to_owned().into_dyn());
    for refused in [Z::new(&x), Z::vi(arr0(C::i())), Z::vi(Array2::<C>::zeros((3, 0)))] {
        assert!(refused.check().is_err());
    }
    let huge = Array2::from_elem((1, 1), C::i());
    assert!(Z::vi(huge.broadcast((1, 1 << 40)).unwrap()).check().is_err());
    assert!(Z::vi(huge.broadcast((1 << 40, 1)).unwrap()).sum(Axis::J).is_err());
    assert!(Z::var(0, usize::MAX, Category::I).check().is_err());
    // Single precision comes back as such.
    let x = array![[Complex32::new(1.5, -2.0)]];
    let z = ComplexLazyTensor::<f32, Reference>::vi(&x);
    assert_eq!((2 * z).sum(Axis::J).unwrap(), (x * 2.0).into_dyn());
}

#[test]
fn products_batches_options_and_ranges() {
    let (x, y) = (numbers(4, 2, 0.0), numbers(5, 2, 1.0));
    let k = Z::vi(&x).scalprod(Z::vj(&y).conj());
    let dense = Array2::from_shape_fn((4, 5), |(i, j)| {
        x.row(i).iter().zip(y.row(j)).map(|(a, b)| a * b.conj()).sum::<C>()
    });
    let b = numbers(5, 3, 2.0);
    close(&k.matmul(&b).unwrap(), &dense.dot(&b));
    close(&k.matmul(b.column(1)).unwrap(), &dense.dot(&b.column(1)));
    let left = numbers(4, 1, 3.0);
    close(&k.t().matmul(&left).unwrap(), &dense.t().dot(&left));
    assert!(k.matmul(numbers(4, 1, 0.0)).is_err());
    // A batch of right-hand sides.
    let batch = Array3::from_shape_fn((2, 5, 1), |(q, j, _)| b[[j, q]]);
    let got = k.matmul(&batch).unwrap();
    for q in 0..2 {
        let want = dense.dot(&b.slice(s![.., q..q + 1]));
        close(&got.index_axis(NdAxis(0), q).to_owned(), &want.into_dyn());
    }
    let ranges = Ranges::from_clusters(&[2, 4], &[3, 5], &[true, false, false, true]).unwrap();
    let kahan = ReduceOptions { scheme: Scheme::Kahan, ..ReduceOptions::default() };
    let part =
        k.clone().ranges(ranges).options(kahan).at(Reference::default()).sum(Axis::J).unwrap();
    let want = Array2::from_shape_fn((4, 1), |(i, _)| {
        dense.slice(s![i, if i < 2 { 0..3 } else { 3..5 }]).sum()
    });
    close(&part, &want.into_dyn());
    let sum = k.sum(Axis::I).unwrap();
    close(&sum, &dense.sum_axis(NdAxis(0)).insert_axis(NdAxis(1)).into_dyn());
}

/// Of |Σ_j exp(i x_i y_j) b_j|², real and imaginary parts of b.
#[test]
fn gradients_are_pairs_of_partial_derivatives() {
    let (x, y, b) = (array![[0.4], [1.3]], array![[0.5], [-1.0], [2.0]], numbers(3, 1, 0.7));
    let b_j = Z::vj(&b);
    let f = (Lazy::vi(&x) * Lazy::vj(&y)).exp1j() * &b_j;
    let sums = f.sum(Axis::J).unwrap();
    // d Σ_i |s_i|² = 2 Σ_i Re(conj(s_i) ds_i): the cotangent of s_i is 2 s_i as a pair.
    let cotangent =
        Array2::from_shape_fn((2, 2), |(i, c)| 2.0 * [sums[[i, 0]].re, sums[[i, 0]].im][c]);
    let gradient = f.sum_reduction(Axis::J).unwrap().vjp(b_j.interleaved()).unwrap();
    let gradient = gradient.call((&cotangent,)).unwrap();
    for j in 0..3 {
        let of = |d: C| -> f64 {
            (0..2)
                .map(|i| {
                    2.0 * (sums[[i, 0]].conj() * C::new(0.0, x[[i, 0]] * y[[j, 0]]).exp() * d).re
                })
                .sum()
        };
        assert!((gradient[[j, 0]] - of(C::new(1.0, 0.0))).abs() < 1e-13);
        assert!((gradient[[j, 1]] - of(C::i())).abs() < 1e-13);
    }
    // The same of symbols, for real arrays in which the parts alternate.
    let symbol = Z::var(0, 1, Category::J);
    let open = ((Lazy::vi(&x) * Lazy::vj(&y)).exp1j() * &symbol).sum_reduction(Axis::J).unwrap();
    let parts = Array2::from_shape_fn((3, 2), |(j, c)| [b[[j, 0]].re, b[[j, 0]].im][c]);
    let got = open.call((&parts,)).unwrap();
    for i in 0..2 {
        assert!((C::new(got[[i, 0]], got[[i, 1]]) - sums[[i, 0]]).norm() < 1e-14);
    }
}

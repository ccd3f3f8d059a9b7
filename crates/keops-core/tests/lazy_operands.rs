//! Everything that can stand beside a LazyTensor, on both sides of every operator, with batches, in
//! single and double precision, real and complex: against numbers.

use keops_core::data::Element;
use keops_core::genred::Reference;
use keops_core::lazy::{ComplexLazyTensor, LazyTensor};
use keops_core::spec::Axis;
use ndarray::{Array1, ArrayD, Axis as NdAxis, Dimension, IxDyn, array};
use num_complex::{Complex, Complex64 as C};

type Lazy<T> = LazyTensor<T, Reference>;
type Z<T> = ComplexLazyTensor<T, Reference>;

const M: usize = 4;
const N: usize = 5;
const D: usize = 2;

/// Of x, of shape (2, 1, M, D), and of y, of shape (3, N, D).
fn numbers<T: Element>() -> (ArrayD<T>, ArrayD<T>) {
    let fill = |shape: &[usize], phase: f64| {
        let mut k = 0.0;
        ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            k += 1.0;
            T::of_f64(2.0 + (1.7 * k + phase).sin())
        })
    };
    (fill(&[2, 1, M, D], 0.3), fill(&[3, N, D], 1.1))
}

/// Checks a formula against a function of the entries of x and y and of the component.
fn check<T: Element>(formula: Lazy<T>, plain: impl Fn(f64, f64, usize) -> f64) {
    check_complex(formula.real2complex(), |x, y, k| plain(x, y, k).into());
}
fn check_complex<T: Element>(formula: Z<T>, plain: impl Fn(f64, f64, usize) -> C) {
    let (x, y) = numbers::<T>();
    let tolerance = if T::DTYPE == f64::DTYPE { 1e-14 } else { 1e-5 };
    for j in 0..N {
        // A sum that sees one column.
        let column = (&formula * Lazy::j().equal(j as i32)).sum(Axis::J).unwrap();
        assert_eq!(column.shape(), [2, 3, M, D], "{formula:?}");
        for (at, got) in column.indexed_iter() {
            let (p, q, i, k) = (at[0], at[1], at[2], at[3]);
            let want = plain(x[[p, 0, i, k]].to_f64(), y[[q, j, k]].to_f64(), k);
            let got = C::new(got.re.to_f64(), got.im.to_f64());
            let near = (got - want).norm() <= tolerance * (1.0 + want.norm());
            assert!(near, "{formula:?} at {at:?}, column {j}: {got}, expected {want}");
        }
    }
}

/// `left op right` for each operator, as formulas and as numbers.
macro_rules! each_operator {
    ($check:ident, $left:expr, $right:expr, $a:expr, $b:expr) => {
        $check($left + $right, |x, y, k| $a(x, y, k) + $b(x, y, k));
        $check($left - $right, |x, y, k| $a(x, y, k) - $b(x, y, k));
        $check($left * $right, |x, y, k| $a(x, y, k) * $b(x, y, k));
        $check($left / $right, |x, y, k| $a(x, y, k) / $b(x, y, k));
    };
}
/// Both orders of operands.
macro_rules! both_orders {
    ($check:ident, $one:expr, $other:expr, $a:expr, $b:expr) => {
        each_operator!($check, $one, $other, $a, $b);
        each_operator!($check, $other, $one, $b, $a);
    };
}

fn real_operands<T: Element>() {
    let (x, y) = numbers::<T>();
    let (x_i, y_j) = (&Lazy::vi(&x), &Lazy::vj(&y));
    let (a, b) = (|x: f64, _: f64, _: usize| x, |_: f64, y: f64, _: usize| y);
    both_orders!(check, x_i, y_j, a, b);
    both_orders!(check, x_i.clone(), y_j, a, b);
    both_orders!(check, x_i.clone(), y_j.clone(), a, b);
    // Numbers and lists, beside something with both indices.
    let f = &(x_i * y_j);
    let p = |x: f64, y: f64, _: usize| x * y;
    both_orders!(check, f, 3, p, |_, _, _| 3.0);
    both_orders!(check, f, 0.25, p, |_, _, _| 0.25);
    each_operator!(check, f, 0.3f32, p, |_, _, _| f64::from(0.3f32));
    each_operator!(check, f, half::f16::from_f32(0.75), p, |_, _, _| 0.75);
    let second = |_: f64, _: f64, k: usize| [1.5, -2.0][k];
    both_orders!(check, f, [1.5, -2.0], p, second);
    both_orders!(check, f, vec![1.5, -2.0], p, second);
    each_operator!(check, f, &[1.5, -2.0], p, second);
    each_operator!(check, f, &[1.5, -2.0][..], p, second);
    each_operator!(check, f, &vec![1.5, -2.0], p, second);
    // Arrays: parameters, rows, columns, with and without batches.
    let list = Array1::from_vec(vec![T::of_f64(1.5), T::of_f64(-2.0)]);
    both_orders!(check, f, &list, p, second);
    both_orders!(check, f, list.view(), p, second);
    both_orders!(check, f, list.clone(), p, second);
    let rows = x.view().insert_axis(NdAxis(3)); // (2, 1, M, 1, D)
    both_orders!(check, f, rows.view(), p, a);
    let columns = y.view().insert_axis(NdAxis(1)); // (3, 1, N, D)
    both_orders!(check, f, columns.view(), p, b);
    both_orders!(check, f, columns.to_owned(), p, b);
    // The scalar product, and what replaces its left side.
    let dot = |v: Lazy<T>| v.sumt(D);
    for same in [dot(f | [0.5, 0.5]), dot([0.5, 0.5] | f), dot(f.clone() | [0.5, 0.5])] {
        check(same - dot((f * 0.5).sum_components()) + f, p);
    }
    let mut g = f.clone();
    g += y_j;
    g -= 0.5;
    g *= [1.5, -2.0];
    g /= x_i.clone();
    check(-g, |x, y, k| -((x * y + y - 0.5) * [1.5, -2.0][k] / x));
}

#[test]
fn real_operators_take_every_operand() {
    real_operands::<f64>();
    real_operands::<f32>();
}

fn complex_operands<T: Element>() {
    let (x, y) = numbers::<T>();
    let (x_i, y_j) = (&Lazy::vi(&x), &Lazy::vj(&y));
    let (a, b) = (|x: f64, _: f64, _: usize| C::from(x), |_: f64, y: f64, _: usize| C::from(y));
    // A complex matrix of both indices.
    let z = &(x_i.real2complex() + y_j.imag2complex());
    let c = |x: f64, y: f64, _: usize| C::new(x, y);
    both_orders!(check_complex, z, z.clone(), c, c);
    // Real LazyTensors, numbers, lists and arrays.
    both_orders!(check_complex, z, x_i, c, a);
    both_orders!(check_complex, z.clone(), y_j, c, b);
    both_orders!(check_complex, z, y_j.clone(), c, b);
    both_orders!(check_complex, z, 3, c, |_, _, _| C::from(3.0));
    both_orders!(check_complex, z, 0.25, c, |_, _, _| C::from(0.25));
    each_operator!(check_complex, z, 0.3f32, c, |_, _, _| C::from(f64::from(0.3f32)));
    let second = |_: f64, _: f64, k: usize| C::from([1.5, -2.0][k]);
    both_orders!(check_complex, z, [1.5, -2.0], c, second);
    both_orders!(check_complex, z, vec![1.5, -2.0], c, second);
    both_orders!(check_complex, z, x.view().insert_axis(NdAxis(3)), c, a);
    // Complex numbers and arrays, beside complex and real LazyTensors.
    let w = C::new(0.5, -1.5);
    both_orders!(check_complex, z, w, c, |_, _, _| w);
    both_orders!(check_complex, z, Complex::<f32>::new(0.5, -1.5), c, |_, _, _| w);
    let f = &(x_i * y_j);
    let p = |x: f64, y: f64, _: usize| C::from(x * y);
    both_orders!(check_complex, f, w, p, |_, _, _| w);
    both_orders!(check_complex, f.clone(), Complex::<f32>::new(0.5, -1.5), p, |_, _, _| w);
    let of = |v: C| Complex { re: T::of_f64(v.re), im: T::of_f64(v.im) };
    let list = array![of(w), of(-w)];
    let listed = |_: f64, _: f64, k: usize| [w, -w][k];
    both_orders!(check_complex, z, &list, c, listed);
    both_orders!(check_complex, f, list.clone(), p, listed);
    let columns = y.mapv(|v| Complex { re: v, im: T::of_f64(1.0) }).insert_axis(NdAxis(1));
    let column = |_: f64, y: f64, _: usize| C::new(y, 1.0);
    both_orders!(check_complex, f, &columns, p, column);
    let mut g = z.clone();
    g += x_i;
    g -= w;
    g *= 2;
    g /= y_j;
    check_complex(-g, |x, y, _| -(C::new(x, y) + x - w) * 2.0 / y);
}

#[test]
fn complex_operators_take_every_operand() {
    complex_operands::<f64>();
    complex_operands::<f32>();
}

/// `Σ_j <k_ij, b_j>` by plain loops, in batches.
#[test]
fn products_with_arrays_and_formulas() {
    let (x, y) = numbers::<f64>();
    let (x_i, y_j) = (Lazy::vi(&x), Lazy::vj(&y));
    let k = x_i.sqdist(&y_j);
    let entry = |p: usize, q: usize, i: usize, j: usize| -> f64 {
        (0..D).map(|c| (x[[p, 0, i, c]] - y[[q, j, c]]).powi(2)).sum()
    };
    let close = |got: &ArrayD<f64>, want: &dyn Fn(&[usize]) -> f64| {
        for (at, got) in got.indexed_iter() {
            let want = want(at.slice());
            assert!((got - want).abs() <= 1e-13 * want.abs(), "{at:?}: {got}, expected {want}");
        }
    };
    // A formula of columns, an array with batches of its own, a vector.
    let of_y = y_j.square();
    let squares = k.matmul(&of_y).unwrap();
    assert_eq!(squares.shape(), [2, 3, M, D]);
    close(&squares, &|at| {
        let of = |j| entry(at[0], at[1], at[2], j) * y[[at[1], j, at[3]]].powi(2);
        (0..N).map(of).sum()
    });
    assert_eq!(k.matmul(of_y).unwrap(), squares);
    assert_eq!(k.matvec(y.mapv(|v| v * v).into_dyn()).unwrap(), squares);
    let vector = Array1::from_iter((0..N).map(|j| j as f64 - 1.5));
    let product = k.matmul(vector.clone().into_dyn()).unwrap();
    assert_eq!(product.shape(), [2, 3, M]);
    close(&product, &|at| (0..N).map(|j| entry(at[0], at[1], at[2], j) * vector[j]).sum());
    // The transposed matrix.
    let left = k.t().matmul(Lazy::vj(&x)).unwrap();
    close(&left, &|at| {
        (0..M).map(|i| entry(at[0], at[1], i, at[2]) * x[[at[0], 0, i, at[3]]]).sum()
    });
    assert_eq!(k.rmatvec(&x).unwrap().into_dyn(), left);
    let z = k.real2complex();
    let w = x.mapv(|v| C::new(v, 1.0));
    close(&z.rmatvec(&w).unwrap().mapv(|v| v.re), &|at| left[at]);
    let w = y.mapv(|v| C::new(0.5, v * v)).into_dyn();
    close(&z.matvec(&w).unwrap().mapv(|v| v.im), &|at| squares[at]);
    // What does not fit is an error; the type of a vector has no place for batches.
    let e = k.matmul(&vector).unwrap_err().to_string();
    assert!(e.contains("the product has shape [2, 3, ") && e.contains("into_dyn()"), "{e}");
    assert!(k.matmul(Array1::<f64>::zeros(N + 1)).is_err());
    assert!(k.matmul(Lazy::vj(array![[1.0]])).is_err());
    let symbol = Lazy::var(0, 1, keops_core::graph::Category::J);
    assert!(k.matmul(&symbol).unwrap_err().to_string().contains("v0 is symbolic"));
}

/// Weighted reductions that are called later are those that are called at once.
#[test]
fn weighted_reductions_later() {
    let (x, y) = numbers::<f64>();
    let (x_i, y_j) = (Lazy::vi(&x), Lazy::vj(&y));
    let scores = x_i.scalprod(&y_j);
    for axis in [Axis::I, Axis::J] {
        let later = scores.sumsoftmaxweight_reduction(&y_j, axis).unwrap();
        assert_eq!(later.call(()).unwrap(), scores.sumsoftmaxweight(&y_j, axis).unwrap());
        let later = scores.logsumexp_weighted_reduction(x_i.exp(), axis).unwrap();
        assert_eq!(later.call(()).unwrap(), scores.logsumexp_weighted(x_i.exp(), axis).unwrap());
    }
    assert!(x_i.logsumexp_weighted_reduction(&y_j, Axis::J).is_err(), "f has two components");
}

#[test]
fn components_of_complex_entries() {
    let entry: Vec<C> = (0..5).map(|k| C::new(f64::from(k), -0.5 * f64::from(k))).collect();
    let z = Z::<f64>::vi(Array1::from_vec(entry.clone()).insert_axis(NdAxis(0)));
    let whole = ndarray::Array1::from_vec(entry);
    let slices = [
        ndarray::Slice::from(1..4),
        ndarray::Slice::from(-2..),
        ndarray::Slice::new(0, None, 2),
        ndarray::Slice::new(1, Some(-1), -2),
        ndarray::Slice::new(0, None, -1),
        ndarray::Slice::new(4, None, 9),
    ];
    for slice in slices {
        let want = whole.slice_axis(NdAxis(0), slice).to_owned().insert_axis(NdAxis(0));
        assert_eq!(z.components(slice).sum(Axis::J).unwrap(), want.into_dyn(), "{slice:?}");
    }
    assert!(z.components(3..3).check().is_err() && z.components(0..6).check().is_err());
    // As many one by one as the documentation says, in any order.
    let long = Lazy::<f64>::pm(ndarray::Array1::zeros(2 << 13)).as_complex();
    assert!(long.components(ndarray::Slice::new(0, None, 2)).check().is_ok());
    let e = long.components(ndarray::Slice::new(0, None, -1)).check().unwrap_err().to_string();
    assert!(e.contains("at most 4096"), "{e}");
}

//! Inverses and solutions of small matrices of any magnitude, with their gradients, on every device:
//! well-conditioned matrices whose determinants would overflow or vanish.

use keops_core::data::Element;
use keops_core::genred::Reference;
use keops_core::interp::{Interpreter, Rounding};
use keops_core::lazy::LazyTensor;
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use ndarray::{Array2, ArrayD, array};

fn devices() -> Vec<(String, Device)> {
    let levels = [Level::Avx512, Level::Avx2, Level::Portable];
    let compiled = levels
        .into_iter()
        .filter_map(|l| Some((format!("{l:?}"), Device::new(Cpu::with_level(l).ok()?))));
    let interpreter = Interpreter::with_rounding(Rounding::Compute);
    compiled.chain([("interpreter".to_string(), Device::new(interpreter))]).collect()
}
/// Condition numbers below 10.
fn matrix(n: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, n), |(i, j)| {
        f64::from(u8::from(i == j)) * 2.0 + 0.7 * ((3 * i + 5 * j) as f64 * 1.3).sin()
    })
}
fn square(flat: &ArrayD<f64>, n: usize) -> Array2<f64> {
    Array2::from_shape_vec((n, n), flat.iter().copied().collect()).unwrap()
}
fn close(what: &str, got: &Array2<f64>, want: &Array2<f64>, tolerance: f64) {
    let size = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= tolerance * size, "{what}: {got}, expected {want}");
    }
}

fn check<T: Element>(exponents: &[i32], epsilon: f64) {
    for (name, device) in devices() {
        for (n, &e) in (2..=4).flat_map(|n| exponents.iter().map(move |e| (n, e))) {
            let what = format!("{name}, {n} x {n}, 2^{e}");
            let scale = 2f64.powi(e);
            let a = matrix(n) * scale;
            let flat = |m: &Array2<f64>| m.iter().map(|v| T::of_f64(*v)).collect::<Vec<T>>();
            let row = |m: &Array2<f64>| Array2::from_shape_vec((1, m.len()), flat(m)).unwrap();
            let wide = |x: ArrayD<T>| x.mapv(|v| v.to_f64());
            let a_i = LazyTensor::<T, Reference>::vi(row(&a)).at(device.clone());
            let inverse = square(&wide(a_i.matinv().sum(Axis::J).unwrap()), n);
            // As exact as the type, whatever the magnitude.
            let tolerance = 100.0 * epsilon;
            close(&what, &a.dot(&inverse), &Array2::eye(n), tolerance);
            // d A⁻¹ = -A⁻¹ dA A⁻¹
            let seed = matrix(n).t().to_owned() * scale;
            let backward = a_i.matinv().sum_reduction(Axis::J).unwrap().vjp(&a_i).unwrap();
            let gradient = square(&wide(backward.call((&row(&seed),)).unwrap()), n);
            let by_hand = -inverse.t().dot(&seed).dot(&inverse.t());
            close(&format!("{what}, gradient"), &gradient, &by_hand, tolerance);
            // Solutions, of right-hand sides of the same magnitude.
            let b = matrix(n).slice(ndarray::s![.., ..2]).to_owned() * scale;
            let b_i = LazyTensor::<T, Reference>::vi(row(&b)).at(device.clone());
            let solution = a_i.matsolve(&b_i);
            let got = wide(solution.sum(Axis::J).unwrap());
            let got = Array2::from_shape_vec((n, 2), got.iter().copied().collect()).unwrap();
            close(&format!("{what}, solution"), &got, &inverse.dot(&b), tolerance);
            let seed = Array2::from_elem((n, 2), 1.0);
            let seed_row = row(&seed);
            let backward = solution.sum_reduction(Axis::J).unwrap();
            let of_b = wide(backward.vjp(&b_i).unwrap().call((&seed_row,)).unwrap());
            let of_b = Array2::from_shape_vec((n, 2), of_b.iter().copied().collect()).unwrap();
            let by_hand = inverse.t().dot(&seed);
            close(&format!("{what}, gradient in b"), &of_b, &by_hand, tolerance);
            let of_a = wide(backward.vjp(&a_i).unwrap().call((&seed_row,)).unwrap());
            let by_hand = -by_hand.dot(&got.t());
            close(&format!("{what}, gradient in A"), &square(&of_a, n), &by_hand, tolerance);
        }
    }
}

#[test]
fn any_magnitude_in_single_precision() {
    check::<f32>(&[-120, -60, -50, -20, 0, 20, 60, 120], f64::from(f32::EPSILON));
}

#[test]
fn any_magnitude_in_double_precision() {
    check::<f64>(&[-1000, -500, -300, -50, 0, 50, 300, 500, 1000], f64::EPSILON);
}

/// No inverse is no number, never a wrong one.
#[test]
fn matrices_without_an_inverse() {
    for (name, device) in devices() {
        for a in [array![[0.0, 0.0, 0.0, 0.0]], array![[1.0, f64::NAN, 0.0, 1.0]]] {
            let a_i = LazyTensor::<f64, Reference>::vi(&a).at(device.clone());
            let inverse = a_i.matinv().sum(Axis::J).unwrap();
            assert!(inverse.iter().any(|v| !v.is_finite()), "{name}, {a}: {inverse}");
        }
    }
}

//! Sums over many components are as accurate as sums over many rows.

mod common;

use common::levels;
use keops_core::data::DType;
use keops_core::genred::{Genred, Reference};
use keops_core::interp::Interpreter;
use keops_core::reduce::{MIN, SUM};
use keops_core::spec::{Axis, Device, ReduceOptions, Scheme};
use keops_cpu::Cpu;
use ndarray::{Array2, ArrayD};

fn devices() -> Vec<Device> {
    let each = levels().into_iter().map(|l| Device::new(Cpu::with_level(l).expect("available")));
    each.chain([Device::new(Interpreter::new())]).collect()
}

fn x(rows: usize, d: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, d), |(i, c)| (((c + i) * 7919 % 10007) as f32 / 103.0).sin())
}
fn y(rows: usize, d: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, d), |(j, c)| (((c + j) * 104729 % 10009) as f32 / 113.0).cos())
}

fn worst(got: &ArrayD<f32>, want: &Array2<f64>, size: f64) -> f64 {
    got.iter().zip(want).map(|(&g, &w)| (f64::from(g) - w).abs() / size).fold(0.0, f64::max)
}

#[test]
fn sums_of_components_keep_their_digits() {
    let (m, n) = (3, 2);
    for d in [255, 256, 257, 511, 512, 515, 1000, 10_000, 100_000] {
        let (x, y) = (x(m, d), y(n, d));
        let pair = |i: usize, j: usize, f: &dyn Fn(f64, f64) -> f64| -> f64 {
            (0..d).map(|c| f(x[[i, c]].into(), y[[j, c]].into())).sum()
        };
        let aliases = [format!("x = Vi({d})"), format!("y = Vj({d})")];
        type Term = fn(f64, f64) -> f64;
        let forms: [(&str, Term); 3] = [
            ("SqDist(x, y)", |a, b| (a - b) * (a - b)),
            ("(x | y)", |a, b| a * b),
            ("Sum(Abs(x - y))", |a, b| (a - b).abs()),
        ];
        for device in devices() {
            for (text, f) in forms {
                for (scheme, accumulate, most) in [
                    (Scheme::Block, None, 8e-7),
                    (Scheme::Kahan, None, 1.5e-7),
                    (Scheme::Block, Some(DType::F64), 1e-7),
                ] {
                    let names = [aliases[0].as_str(), aliases[1].as_str()];
                    let all: Genred<Reference> =
                        Genred::new(text, names, &SUM, Axis::J).expect("valid");
                    let options = ReduceOptions { scheme, accumulate };
                    let all = all.options(options).at(device.clone());
                    let got: ArrayD<f32> = all.call((&x, &y)).expect("sums");
                    let want = Array2::from_shape_fn((m, 1), |(i, _)| {
                        (0..n).map(|j| pair(i, j, &f)).sum::<f64>()
                    });
                    // Relative to the sum of the sizes of all terms.
                    let size: f64 = (0..n).map(|j| pair(0, j, &|a, b| f(a, b).abs())).sum();
                    let error = worst(&got, &want, size);
                    assert!(
                        error <= most,
                        "{text}, D = {d}, {scheme:?} {accumulate:?} on {}: {error:e}",
                        device.backend().target()
                    );
                }
            }
        }
    }
}

/// The long dimension inside: rows of a matrix times a vector, a tensor product that is summed, and
/// distances that are selected.
#[test]
fn products_with_long_inner_dimensions_keep_their_digits() {
    let (d, e) = (3000, 7);
    let (a, v) = (x(2, d * e), y(2, d));
    let product = |i: usize, j: usize, r: usize, transposed: bool| -> f64 {
        let at = |c: usize| if transposed { c * e + r } else { r * d + c };
        (0..d).map(|c| f64::from(a[[i, at(c)]]) * f64::from(v[[j, c]])).sum()
    };
    let names = [format!("a = Vi({})", d * e), format!("v = Vj({d})")];
    let names = [names[0].as_str(), names[1].as_str()];
    for device in devices() {
        for (text, transposed) in [("MatVecMult(a, v)", false), ("VecMatMult(v, a)", true)] {
            let f: Genred<Reference> = Genred::new(text, names, &SUM, Axis::J).expect("valid");
            let got: ArrayD<f32> = f.at(device.clone()).call((&a, &v)).expect("sums");
            let want = Array2::from_shape_fn((2, e), |(i, r)| {
                (0..2).map(|j| product(i, j, r, transposed)).sum::<f64>()
            });
            let error = worst(&got, &want, d as f64);
            assert!(error <= 8e-7, "{text} on {}: {error:e}", device.backend().target());
        }
        // Two long axes at once: sum over c and r of a[c, r] v[c] w[r].
        let text = "Sum(MatVecMult(a, v))";
        let f: Genred<Reference> = Genred::new(text, names, &MIN, Axis::J).expect("valid");
        let got: ArrayD<f32> = f.at(device.clone()).call((&a, &v)).expect("least");
        let want = Array2::from_shape_fn((2, 1), |(i, _)| {
            let sum = |j: usize| (0..e).map(|r| product(i, j, r, false)).sum::<f64>();
            sum(0).min(sum(1))
        });
        let error = worst(&got, &want, (d * e) as f64);
        assert!(error <= 8e-7, "{text} on {}: {error:e}", device.backend().target());
    }
}

#[test]
fn infinite_and_nan_components_stay() {
    let d = 1000;
    let aliases = [format!("x = Vi({d})"), format!("y = Vj({d})")];
    let names = [aliases[0].as_str(), aliases[1].as_str()];
    let mut x = Array2::<f32>::zeros((4, d));
    x[[1, 700]] = f32::INFINITY;
    x[[2, 300]] = f32::NAN;
    (x[[3, 10]], x[[3, 990]]) = (f32::INFINITY, f32::NEG_INFINITY);
    let y = Array2::<f32>::ones((1, d));
    for scheme in [Scheme::Block, Scheme::Kahan] {
        let f: Genred<Reference> = Genred::new("(x | y)", names, &SUM, Axis::J).expect("valid");
        let f = f.options(ReduceOptions { scheme, accumulate: None });
        for device in devices() {
            let got: ArrayD<f32> = f.clone().at(device).call((&x, &y)).expect("sums");
            assert_eq!((got[[0, 0]], got[[1, 0]]), (0.0, f32::INFINITY));
            assert!(got[[2, 0]].is_nan() && got[[3, 0]].is_nan(), "{got:?}");
        }
    }
}

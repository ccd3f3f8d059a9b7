//! Quotients of complex numbers, moduli, unit vectors and slopes of angles are right as far as the type
//! reaches: no square on the way to them overflows or vanishes.

use keops_core::data::Element;
use keops_core::genred::{Genred, Reference};
use keops_core::interp::Interpreter;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use ndarray::ArrayD;

fn devices() -> Vec<Device> {
    let levels = Level::available().into_iter().map(|l| Device::new(Cpu::with_level(l).unwrap()));
    std::iter::once(Device::new(Interpreter::default())).chain(levels).collect()
}

/// A formula of rows z and w of two components, or its derivative in one of them for the cotangent
/// (1, 0, …): what it gives everywhere, component by component.
fn run<T: Element>(
    formula: &str,
    derivative: Option<&str>,
    rows: &[([f64; 2], [f64; 2])],
) -> Vec<Vec<f64>> {
    let array = |d: usize, at: &dyn Fn(usize, usize) -> f64| -> ArrayD<T> {
        let all = (0..rows.len() * d).map(|k| T::of_f64(at(k / d, k % d)));
        ArrayD::from_shape_vec(vec![rows.len(), d], all.collect()).unwrap()
    };
    let (z, w) = (array(2, &|r, k| rows[r].0[k]), array(2, &|r, k| rows[r].1[k]));
    let plain: Genred<Reference> =
        Genred::new(formula, ["z = Vi(2)", "w = Vi(2)"], &SUM, Axis::J).unwrap();
    let run = |device: Device| -> Vec<f64> {
        let out = match derivative {
            None => plain.clone().at(device).call(&[&z, &w][..]).unwrap(),
            Some(name) => {
                let d = plain.call(&[&z, &w][..]).unwrap().shape()[1];
                let e = array(d, &|_, k| f64::from(u8::from(k == 0)));
                plain.vjp(name).unwrap().at(device).call(&[&z, &w, &e][..]).unwrap()
            }
        };
        out.into_iter().map(|v: T| v.to_f64()).collect()
    };
    devices().into_iter().map(run).collect()
}

/// Compares as vectors: the error beside the length of each.
#[track_caller]
fn check<T: Element>(
    (formula, derivative): (&str, Option<&str>),
    rows: &[([f64; 2], [f64; 2])],
    wanted: &[Vec<f64>],
    (eps, least): (f64, f64),
) {
    for got in run::<T>(formula, derivative, rows) {
        let d = wanted[0].len();
        assert_eq!(got.len(), d * rows.len());
        for ((got, want), row) in got.chunks(d).zip(wanted).zip(rows) {
            let size = want.iter().fold(least, |m, v| m.max(v.abs()));
            let near = |g: &f64, w: &f64| (g - w).abs() <= 16.0 * eps * size;
            assert!(
                got.iter().zip(want).all(|(g, w)| near(g, w)),
                "{formula} {derivative:?} at {row:?}: {got:?}, not {want:?}"
            );
        }
    }
}

/// The formula, the variable of a derivative, and the result at z = (3 + 4i) 2^a, w = (1 - 2i) 2^b: a
/// vector times a power of two.
type Known = (&'static str, Option<&'static str>, &'static [f64], fn(i32, i32) -> i32);
const KNOWN: &[Known] = &[
    // (3 + 4i) / (1 - 2i) = -1 + 2i, 1 / (1 - 2i) = (1 + 2i) / 5.
    ("ComplexDivide(z, w)", None, &[-1.0, 2.0], |a, b| a - b),
    ("ComplexDivide(z, w)", Some("z"), &[0.2, -0.4], |_, b| -b),
    ("ComplexDivide(z, w)", Some("w"), &[1.0, 0.0], |a, b| a - 2 * b),
    ("ComplexAbs(z)", None, &[5.0], |a, _| a),
    ("ComplexAbs(z)", Some("z"), &[0.6, 0.8], |_, _| 0),
    ("Normalize(z)", None, &[0.6, 0.8], |_, _| 0),
    // (I - n nᵀ) (1, 0) / 5
    ("Normalize(z)", Some("z"), &[0.128, -0.096], |a, _| -a),
    ("Atan2(z[0], z[1])", Some("z"), &[0.16, -0.12], |a, _| -a),
    ("ComplexAngle(w)", Some("w"), &[0.4, 0.2], |_, b| -b),
];

fn powers<T: Element>(step: usize, (least, most): (i32, i32), eps: f64) {
    for &(formula, derivative, vector, power) in KNOWN {
        let all = || (least..most - 2).step_by(step);
        let pairs: Vec<(i32, i32)> = all()
            .flat_map(|a| all().map(move |b| (a, b)))
            // With room for the parts of a sum and a cotangent of them.
            .filter(|&(a, b)| (least + 6..most - 5).contains(&power(a, b)))
            .collect();
        assert!(pairs.len() > 100);
        let at = |(a, b): (i32, i32)| {
            let (p, q) = (2f64.powi(a), 2f64.powi(b));
            ([3.0 * p, 4.0 * p], [q, -2.0 * q])
        };
        let rows: Vec<_> = pairs.iter().copied().map(at).collect();
        let want = |&(a, b): &(i32, i32)| -> Vec<f64> {
            vector.iter().map(|v| v * 2f64.powi(power(a, b))).collect()
        };
        let wanted: Vec<_> = pairs.iter().map(want).collect();
        check::<T>((formula, derivative), &rows, &wanted, (eps, 0.0));
    }
}

#[test]
fn single_precision_is_right_over_its_range() {
    powers::<f32>(5, (-125, 127), f32::EPSILON.into());
}
#[test]
fn double_precision_is_right_over_its_range() {
    powers::<f64>(41, (-1021, 1023), f64::EPSILON);
}

/// Parts of all sizes, none of which are as large as the other: what f64 gives for f32 data, whose squares are far
/// from the limits of f64.
#[test]
fn parts_of_different_sizes() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut unit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    let mut number = || {
        let size = 2f64.powf(250.0 * unit() - 124.0);
        f64::from((if unit() < 0.5 { -size } else { size }) as f32)
    };
    let rows: Vec<_> = (0..5000).map(|_| ([number(), number()], [number(), number()])).collect();
    type Right = fn([f64; 2], [f64; 2]) -> Vec<f64>;
    let cases: [(&str, Right); 3] = [
        ("ComplexDivide(z, w)", |z, w| {
            let s = w[0] * w[0] + w[1] * w[1];
            vec![(z[0] * w[0] + z[1] * w[1]) / s, (z[1] * w[0] - z[0] * w[1]) / s]
        }),
        ("ComplexAbs(z)", |z, _| vec![z[0].hypot(z[1])]),
        ("Normalize(z)", |z, _| z.map(|v| v / z[0].hypot(z[1])).to_vec()),
    ];
    let (eps, least) = (f32::EPSILON.into(), f32::MIN_POSITIVE.into());
    for (formula, right) in cases {
        let in_range = |v: &Vec<f64>| v.iter().all(|v| v.abs() < f64::from(f32::MAX) / 4.0);
        let kept: Vec<_> = rows.iter().copied().filter(|r| in_range(&right(r.0, r.1))).collect();
        let wanted: Vec<_> = kept.iter().map(|r| right(r.0, r.1)).collect();
        assert!(kept.len() > 2000);
        check::<f32>((formula, None), &kept, &wanted, (eps, least));
    }
}

/// Of the least number there is, a square must not vanish either: the slopes of an angle are its inverse, beyond
/// the range, and 0.
#[test]
fn the_least_number() {
    fn slopes<T: Element>(least: f64) {
        let inf = f64::INFINITY;
        let rows = [([0.0, least], [1.0; 2]), ([-least, 0.0], [1.0; 2])];
        for got in run::<T>("Atan2(z[0], z[1])", Some("z"), &rows) {
            assert_eq!(got, [inf, 0.0, 0.0, inf], "{least:e}");
        }
        let rows = [([1.0; 2], [least, 0.0]), ([1.0; 2], [0.0, least])];
        for got in run::<T>("ComplexAngle(w)", Some("w"), &rows) {
            assert_eq!(got, [0.0, inf, -inf, 0.0], "{least:e}");
        }
        for (formula, want) in [("ComplexAbs(w)", [0.0, 1.0]), ("Normalize(w)", [0.0, 1.0])] {
            let derivative = formula.starts_with("Complex").then_some("w");
            for got in run::<T>(formula, derivative, &rows[1..]) {
                assert_eq!(got, want, "{formula} {least:e}");
            }
        }
    }
    slopes::<f32>(f64::from(f32::from_bits(1)));
    slopes::<f64>(f64::from_bits(1));
}

/// Zeros, infinities and what is no number are what the formulas give.
#[test]
fn special_values() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let rows = [([0.0, 0.0], [0.0, 0.0]), ([inf, 1.0], [1.0, 0.5]), ([nan, 1.0], [inf, 1.0])];
    let is = |got: &[f64], want: &[f64]| {
        got.iter().zip(want).all(|(g, w)| g == w || (g.is_nan() && w.is_nan()))
    };
    for (formula, derivative, wanted) in [
        ("ComplexAbs(z)", None, vec![0.0, inf, nan]),
        ("ComplexAbs(w)", Some("w"), vec![0.0, 0.0, 0.8f64.sqrt(), 0.2f64.sqrt(), nan, 0.0]),
        ("Normalize(z)", None, vec![0.0, 0.0, nan, 0.0, nan, nan]),
        ("Atan2(z[0], z[1])", Some("z"), vec![0.0, 0.0]),
        ("ComplexDivide(z, w)", None, vec![nan, nan]),
    ] {
        for got in run::<f64>(formula, derivative, &rows) {
            let close: Vec<f64> = got
                .iter()
                .zip(&wanted)
                .map(|(g, w)| if (g - w).abs() < 1e-15 { *w } else { *g })
                .collect();
            assert!(is(&close, &wanted), "{formula} {derivative:?}: {got:?}, not {wanted:?}");
        }
    }
}

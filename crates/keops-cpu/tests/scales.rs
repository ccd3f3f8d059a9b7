//! Scales, factors and signs of every size, in the places where people write them, against naive
//! loops: what is folded, joined or taken out of sums must not change what a formula says.

mod common;

use common::levels;
use keops_core::data::Element;
use keops_core::genred::{Genred, Reduce, Reference};
use keops_core::interp::{Interpreter, Rounding};
use keops_core::reduce::{K_MIN, LOG_SUM_EXP, MIN, ReductionDef, SUM, SUM_SOFT_MAX_WEIGHT};
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use ndarray::{ArrayD, IxDyn};

/// A formula of `x`, `y` and a scale `g`, and the same for one pair, in f64 and in f32. `d` is the
/// squared distance, `r` the distance.
macro_rules! forms {
    ($($text:literal: |$d:ident, $r:ident, $g:ident| $value:expr;)*) => {
        fn forms_f64() -> Vec<(&'static str, fn(f64, f64) -> f64)> {
            vec![$(($text, |r, $g| { let ($d, $r) = (r * r, r); let _ = ($d, $r); $value }),)*]
        }
        fn forms_f32() -> Vec<(&'static str, fn(f32, f32) -> f32)> {
            vec![$(($text, |r, $g| { let ($d, $r) = (r * r, r); let _ = ($d, $r); $value }),)*]
        }
    };
}

forms! {
    "Exp(-SqDist(x, y) * g)": |d, r, g| (-d * g).exp();
    "Exp(-g * SqDist(x, y))": |d, r, g| (-g * d).exp();
    "Exp(-(SqDist(x, y) * g))": |d, r, g| (-(d * g)).exp();
    "Exp(-(g * SqDist(x, y)))": |d, r, g| (-(g * d)).exp();
    "Exp(g * SqDist(x, y))": |d, r, g| (g * d).exp();
    "Exp(-SqDist(x, y) / g)": |d, r, g| (-d / g).exp();
    "Exp(-SqDist(x, y) * Inv(g))": |d, r, g| (-d * (1.0 / g)).exp();
    "Exp(-SqDist(x, y) * Square(g))": |d, r, g| (-d * (g * g)).exp();
    "Exp(-Square(g) * SqDist(x, y))": |d, r, g| (-(g * g) * d).exp();
    "Exp(-SqDist(x, y) / Square(g))": |d, r, g| (-d / (g * g)).exp();
    "Exp(-SqDist(x, y) / (2 * Square(g)))": |d, r, g| (-d / (2.0 * (g * g))).exp();
    "Exp(-0.5 * SqDist(x, y) * Inv(Square(g)))": |d, r, g| (-0.5 * d * (1.0 / (g * g))).exp();
    "Exp(-2 * g * SqDist(x, y))": |d, r, g| (-2.0 * g * d).exp();
    "Exp(g * SqDist(x, y) * -0.25)": |d, r, g| (g * d * -0.25).exp();
    "Exp(-(SqDist(x, y) * g + SqDist(x, y) * g))": |d, r, g| (-(d * g + d * g)).exp();
    "Exp(-SqDist(x, y) * g) + Exp(-2 * SqDist(x, y))": |d, r, g| (-d * g).exp() + (-2.0 * d).exp();
    "Exp(-SqDist(x, y) * g * g)": |d, r, g| (-d * g * g).exp();
    "Exp(-Sqrt(SqDist(x, y)) * g)": |d, r, g| (-d.sqrt() * g).exp();
    "Exp(-Norm2(x - y) * g)": |d, r, g| (-d.sqrt() * g).exp();
    "Exp(-g * Abs(x - y))": |d, r, g| (-g * r.abs()).exp();
    "Exp(-Abs(x - y) / g)": |d, r, g| (-r.abs() / g).exp();
    "Exp(-Square((x - y) * g))": |d, r, g| (-((r * g) * (r * g))).exp();
    "Exp(-Square((x - y) / g))": |d, r, g| (-((r / g) * (r / g))).exp();
    "ReLU(Exp(-SqDist(x, y) * g) - 0.5)": |d, r, g| {
        let v = (-d * g).exp() - 0.5;
        if v.is_nan() || v > 0.0 { v } else { 0.0 }
    };
    "IfElse(Exp(-SqDist(x, y) * g) - 0.5, x - x, 1)": |d, r, g| {
        if (-d * g).exp() - 0.5 >= 0.0 { r * 0.0 } else { 1.0 }
    };
    "g * Exp(-SqDist(x, y))": |d, r, g| g * (-d).exp();
    "Exp(-SqDist(x, y)) * g * g": |d, r, g| (-d).exp() * g * g;
    "Exp(-SqDist(x, y)) / g": |d, r, g| (-d).exp() / g;
    "-g * Exp(-g * SqDist(x, y))": |d, r, g| -g * (-g * d).exp();
    "Square(g) * Exp(-SqDist(x, y) * g)": |d, r, g| (g * g) * (-d * g).exp();
    "-SqDist(x, y) * g": |d, r, g| -d * g;
    "g * SqDist(x, y)": |d, r, g| g * d;
    "SqDist(x, y) / g": |d, r, g| d / g;
}

/// Distances and scales of every kind: zeros, subnormal, small, ordinary, large, infinite, NaN.
fn distances<T: Element>(large: f64, tiny: f64) -> Vec<T> {
    [0.0, 1.0, -0.5, 3.0, tiny.sqrt() / 4.0, large.sqrt() / 2.0, 2.0 / large.sqrt(), f64::INFINITY]
        .into_iter()
        .chain([f64::NAN])
        .map(T::of_f64)
        .collect()
}
fn scales<T: Element>(large: f64, tiny: f64, step: f64) -> Vec<T> {
    let positive =
        [0.0, step, 8.0 * tiny, tiny.sqrt(), 0.3, 1.0, 7.0, 0.25 * large, 0.9 * large, large];
    let all = positive.into_iter().chain([f64::INFINITY]).flat_map(|g| [g, -g]);
    all.chain([f64::NAN]).map(T::of_f64).collect()
}

fn column<T: Element>(v: &[T]) -> ArrayD<T> {
    ArrayD::from_shape_vec(IxDyn(&[v.len(), 1]), v.to_vec()).expect("one column")
}

macro_rules! judged {
    ($name:ident, $t:ident, $forms:ident) => {
        mod $name {
            use super::*;

            /// The reduction of values of pairs, with signals `b`.
            fn naive(reduction: &ReductionDef, v: &[$t], b: &[$t]) -> $t {
                let sum = |f: &dyn Fn(usize) -> $t| (0..v.len()).map(f).sum::<$t>();
                // NaN is passed over by extremes, but for the sums.
                let most = v.iter().fold(-$t::MAX, |m, &v| if v > m { v } else { m });
                let m = most.min($t::MAX);
                match reduction.name {
                    "Sum" => sum(&|k| v[k]),
                    "LogSumExp" => m + sum(&|k| (v[k] - m).exp()).ln(),
                    "SumSoftMaxWeight" => {
                        // The mean of nothing is 0.
                        let total = sum(&|k| (v[k] - m).exp());
                        if total == 0.0 { 0.0 } else { sum(&|k| (v[k] - m).exp() * b[k]) / total }
                    }
                    _ => v.iter().fold($t::INFINITY, |m, &v| if v < m { v } else { m }),
                }
            }
            /// As close as a few roundings of the argument of an exponential allow.
            fn same(got: $t, want: $t, size: $t) -> bool {
                let near = (got - want).abs() <= size * $t::EPSILON + 4.0 * $t::from_bits(1);
                got == want || got.is_nan() && want.is_nan() || near
            }
            /// An error of one ulp in an argument of up to ln(MAX) is as many in the exponential.
            fn tolerance(v: &[$t], b: &[$t], want: $t) -> $t {
                let all = v.iter().zip(b).map(|(v, b)| v.abs() * (1.0 + b.abs())).sum::<$t>();
                1000.0 * if all.is_finite() { all + want.abs() } else { want.abs() }
            }

            #[test]
            fn scales_of_every_size_mean_what_a_loop_computes() {
                let (large, tiny) = (f64::from($t::MAX), f64::from($t::MIN_POSITIVE));
                let distances: Vec<$t> = distances(large, tiny);
                let scales: Vec<$t> = scales(large, tiny, f64::from($t::from_bits(1)));
                let devices: Vec<Device> = levels()
                    .into_iter()
                    .map(|l| Device::new(Cpu::with_level(l).expect("available")))
                    .chain([Device::new(Interpreter::with_rounding(Rounding::Compute))])
                    .collect();
                let b: Vec<$t> = vec![1.0, -0.5, 2.0];
                let mut wrong = vec![];
                for (text, value) in $forms() {
                    for reduction in [&SUM, &LOG_SUM_EXP, &SUM_SOFT_MAX_WEIGHT, &MIN, &K_MIN] {
                        for place in ["Pm", "Vi", "Vj"] {
                            check(&devices, text, value, reduction, place, &distances, &scales, &b, &mut wrong);
                        }
                    }
                }
                let first: Vec<&String> = wrong.iter().step_by(1 + wrong.len() / 20).collect();
                assert!(wrong.is_empty(), "{} wrong values: {first:#?}", wrong.len());
            }

            /// Gradients in `x`, and sums of few rows over many columns, which take other ways.
            #[test]
            fn gradients_and_few_rows() {
                let (large, tiny) = (f64::from($t::MAX), f64::from($t::MIN_POSITIVE));
                let distances: Vec<$t> = distances(large, tiny);
                let scales: Vec<$t> = scales(large, tiny, f64::from($t::from_bits(1)));
                // The derivative of the exponent in r, and the exponent.
                type Pair = fn($t, $t) -> [$t; 2];
                let slopes: [(&str, Pair); 5] = [
                    ("Exp(-SqDist(x, y) * g)", |r, g| [-(2.0 * r) * g, -(r * r) * g]),
                    ("Exp(-g * SqDist(x, y))", |r, g| [-g * (2.0 * r), -g * (r * r)]),
                    ("Exp(-SqDist(x, y) / g)", |r, g| [-(2.0 * r) / g, -(r * r) / g]),
                    ("Exp(-0.5 * SqDist(x, y) * g)", |r, g| [-r * g, -0.5 * (r * r) * g]),
                    ("Exp(-SqDist(x, y) * Square(g))", |r, g| {
                        [-(2.0 * r) * (g * g), -(r * r) * (g * g)]
                    }),
                ];
                let n = 5000;
                let many: Vec<$t> = (0..n).map(|j| (j % 7) as $t * 0.125).collect();
                for level in levels() {
                    let device = Device::new(Cpu::with_level(level).expect("available"));
                    for (text, pair) in slopes {
                        let aliases = ["x = Vi(1)", "y = Vj(1)", "g = Pm(1)"];
                        let f: Genred<Reference> =
                            Genred::new(text, aliases, &SUM, Axis::J).expect("valid");
                        let f = f.at(device.clone());
                        let gradient = f.vjp("x").expect("smooth");
                        for &g in &scales {
                            let g_all = ArrayD::from_elem(IxDyn(&[1]), g);
                            let x = column(&distances);
                            let (y, one) = (column(&[0.0 as $t]), x.mapv(|_| 1.0 as $t));
                            let got = gradient.call((&x, &y, &g_all, &one)).expect("a gradient");
                            for (k, &r) in distances.iter().enumerate() {
                                let [slope, exponent] = pair(r, g);
                                // Order may make a product overflow, or vanish, or not.
                                let value = exponent.exp();
                                let want = value * slope;
                                let edge = |v: $t| v.abs() > $t::MAX / 8.0 || v.abs() < 16.0 * $t::MIN_POSITIVE;
                                let exact = [r, g].iter().all(|v| *v == 0.0 || !v.is_finite() || !edge(*v));
                                if exact {
                                    assert!(
                                        same(got[[k, 0]], want, 1000.0 * want.abs()),
                                        "gradient of {text}, {}, g = {g:e}, x = {r:e}: {:e}, not {want:e}",
                                        level.name(),
                                        got[[k, 0]],
                                    );
                                }
                            }
                            for &r in &distances {
                                let (x, y) = (column(&[r]), column(&many));
                                let got: ArrayD<$t> = f.call((&x, &y, &g_all)).expect("a sum");
                                let v: Vec<$t> =
                                    many.iter().map(|&y| pair(r - y, g)[1].exp()).collect();
                                let want = naive(&SUM, &v, &[]);
                                assert!(
                                    same(got[[0, 0]], want, n as $t * want.abs()),
                                    "{text} of one row, {}, g = {g:e}, x = {r:e}: {:e}, not {want:e}",
                                    level.name(),
                                    got[[0, 0]],
                                );
                            }
                        }
                    }
                }
            }

            #[allow(clippy::too_many_arguments)]
            fn check(
                devices: &[Device],
                text: &str,
                value: fn($t, $t) -> $t,
                reduction: &'static ReductionDef,
                place: &str,
                distances: &[$t],
                scales: &[$t],
                b: &[$t],
                wrong: &mut Vec<String>,
            ) {
                let aliases = ["x = Vi(1)", "y = Vj(1)", &format!("g = {place}(1)"), "b = Vj(1)"];
                let all: Genred<Reference> = if reduction.name == "SumSoftMaxWeight" {
                    Genred::weighted(text, "b", aliases, reduction, Axis::J)
                } else {
                    Genred::new(text, aliases, Reduce::from((reduction, 1)), Axis::J)
                }
                .unwrap_or_else(|e| panic!("{text}: {e}"));
                for device in devices {
                    let f = all.clone().at(device.clone());
                    for &g in scales {
                        // Each distance alone, in rows; then behind ordinary ones, in columns.
                        for tail in [0, 2] {
                            let y: Vec<$t> = vec![0.0, -1.0, 0.25][..1 + tail].to_vec();
                            let n = match place {
                                "Pm" => 1,
                                "Vi" => distances.len(),
                                _ => y.len(),
                            };
                            let g_all = column(&vec![g; n]);
                            let g_all = if place == "Pm" {
                                g_all.into_shape_with_order(IxDyn(&[1])).expect("one number")
                            } else {
                                g_all
                            };
                            let (x, ys, bs) = (column(distances), column(&y), column(&b[..y.len()]));
                            let out: ArrayD<$t> = f
                                .call(&[&x, &ys, &g_all, &bs][..])
                                .unwrap_or_else(|e| panic!("{text}: {e}"));
                            for (k, &r) in distances.iter().enumerate() {
                                let v: Vec<$t> = y.iter().map(|&y| value(r - y, g)).collect();
                                let want = naive(reduction, &v, b);
                                let got = out[[k, 0]];
                                if !same(got, want, tolerance(&v, b, want)) {
                                    wrong.push(format!(
                                        "{} of {text}, {}, {}, g = {g:e} in {place}, x = {r:e}, \
                                         y = {y:?}: {got:e}, not {want:e}",
                                        reduction.name,
                                        stringify!($t),
                                        device.backend().target(),
                                    ));
                                }
                            }
                        }
                    }
                }
            }
        }
    };
}

judged!(single, f32, forms_f32);
judged!(double, f64, forms_f64);

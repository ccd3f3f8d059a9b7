//! What random runs found, by hand: every level of this machine against exact results.

use keops_core::data::{Buffer, Element};
use keops_core::genred::Genred;
use keops_core::interp::Interpreter;
use keops_core::reduce::{LOG_SUM_EXP, MAX, SUM};
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use ndarray::{Array1, Array2, ArrayD};

/// All levels, and the interpreter.
fn devices() -> Vec<(String, Device)> {
    let cpu = |l: Level| (l.name().into(), Device::new(Cpu::with_level(l).expect("available")));
    let mut all: Vec<(String, Device)> = Level::available().into_iter().map(cpu).collect();
    all.push(("interpreter".into(), Device::new(Interpreter::new())));
    all
}
fn column<T: Element>(v: impl IntoIterator<Item = f64>) -> ArrayD<T> {
    let v: Vec<T> = v.into_iter().map(T::of_f64).collect();
    Array2::from_shape_vec((v.len(), 1), v).unwrap().into_dyn()
}
fn run<T: Element>(g: &Genred, device: &Device, args: &[&ArrayD<T>]) -> ArrayD<f64> {
    let views: Vec<_> = args.iter().map(|a| T::erase(a.view())).collect();
    g.clone().at(device.clone()).run(&views).unwrap().iter().map(Buffer::to_f64).next().unwrap()
}

/// A division by a constant decides the jump of a floor: multiples are whole.
#[test]
fn quotients_that_are_rounded_down_are_exact() {
    fn check<T: Element>() {
        for divisor in [3u32, 7, 41, 49, 93] {
            let multiples = column::<T>((0..500).map(|k| f64::from(k * divisor)));
            for (text, expected) in [("Floor(k / D)", 1.0), ("Mod(k, D, 0)", 0.0)] {
                let text = text.replace('D', &divisor.to_string());
                let g: Genred = Genred::new(&text, ["k = Vi(1)"], &SUM, Axis::J).unwrap();
                for (name, device) in devices() {
                    let got = run(&g, &device, &[&multiples]);
                    let right = got.iter().enumerate().all(|(k, v)| *v == expected * k as f64);
                    assert!(right, "{text} on {name}: {got}");
                }
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

/// What multiplies a huge number by 0 first is not to be multiplied by the huge number first.
#[test]
fn products_keep_their_order() {
    let aliases = ["b = Vj(1)", "k = Vj(1)", "e = Vi(1)"];
    let [b, k, e] = [7e3, 3e38, 0.5].map(|v| column::<f32>([v]));
    for (text, expected) in [
        ("b * (k * 0)", 0.0),
        ("e / b * (0 * k)", 0.0),
        ("IfElse(b, e * b, e) * (k * 0)", 0.0),
        ("Exp(e * (b * (k * 0)))", 1.0),
        ("b * (k * 1e-30) * e", 3500.0 * 3e8),
    ] {
        let g: Genred = Genred::new(text, aliases, &SUM, Axis::J).unwrap();
        for (name, device) in devices() {
            let got = run(&g, &device, &[&b, &k, &e])[[0, 0]];
            assert!((got - expected).abs() <= 1e-6 * expected, "{text} on {name}: {got}");
        }
    }
}

/// A table takes the category of its tangent.
#[test]
fn tables_of_columns_are_added_up() {
    for dim in [2, 40] {
        tables_of_columns(dim);
    }
}
fn tables_of_columns(dim: usize) {
    let aliases = [&format!("p = Pm({dim})"), &format!("y = Vj({dim})"), "x = Vi(1)", "c = Pm(1)"];
    let y = Array2::from_shape_fn((200, dim), |(j, k)| (j + 1000 * k) as f32).into_dyn();
    let p = Array1::from_elem(dim, 7f32).into_dyn();
    let (x, c) = (column::<f32>([1.0]), Array1::from_elem(1, 1f32).into_dyn());
    for (table, zeroth) in
        [("p", 19_900.0), ("(p * 1)", 19_900.0), ("Sin(p)", 19_900.0 * 7f64.cos())]
    {
        for (at, plus) in [("0", 0.0), ("1", 1.0), ("c", 1.0), ("x", 1.0), ("Step(p[0])", 1.0)] {
            let text = format!("Diff(Gather({table}, {at}), p, y)");
            let expected = zeroth * (1.0 + plus * 200_000.0 / 19_900.0);
            let g: Genred = Genred::new(&text, aliases, &SUM, Axis::J).unwrap();
            for (name, device) in devices() {
                let got = run(&g, &device, &[&p, &y, &x, &c])[[0, 0]];
                assert!((got - expected).abs() < 1e-5 * expected.abs(), "{text} on {name}: {got}");
            }
        }
    }
}

/// 0 · 3e38 is 0; its square is not `0² · (3e38)²`.
#[test]
fn factors_stay_inside_the_sums_of_contractions() {
    let aliases = ["b = Vj(4)", "q = Pm(1)"];
    let b = Array2::from_elem((3, 4), 3e38f32).into_dyn();
    let zero = Array1::from_elem(1, 0f32).into_dyn();
    for text in ["SqNorm2(MatVecMult(b, q))", "MatVecMult(TensorProd(q, b), b)"] {
        let g: Genred = Genred::new(text, aliases, &SUM, Axis::J).unwrap();
        for (name, device) in devices() {
            assert_eq!(run(&g, &device, &[&b, &zero])[[0, 0]], 0.0, "{text} on {name}");
        }
    }
}

/// Products of tiny factors of a sum would lose their digits below the normal numbers.
#[test]
fn tiny_factors_keep_their_digits() {
    let aliases = ["s = Vi(1)", "p = Pm(1)", "y = Vj(1)"];
    let g: Genred = Genred::new("p * (y * (p * (s * y)))", aliases, &SUM, Axis::J).unwrap();
    let (s, p) = (column::<f32>([3.3e9]), Array1::from_elem(1, 1.7e-22f32).into_dyn());
    let y = column::<f32>((0..100).map(|k| 2e8 * (1.0 + f64::from(k) / 7.0)));
    let exact = run(&g, &Device::new(Interpreter::new()), &[&s, &p, &y])[[0, 0]];
    for (name, device) in devices() {
        let got = run(&g, &device, &[&s, &p, &y])[[0, 0]];
        assert!((got - exact).abs() <= 1e-6 * exact, "{name}: {got:e}, expected {exact:e}");
    }
}

/// The key of a pair is the table of a gather.
#[test]
fn keys_can_be_gathered_from() {
    let aliases = ["k = Vj(1)", "p = Pm(1)"];
    let (f, w) = ("Gather(GradMatrix(k, k), p - p) * 0 + 1", "2 * Gather(GradMatrix(k, k), p - p)");
    let g: Genred = Genred::weighted(f, w, aliases, &LOG_SUM_EXP, Axis::J).unwrap();
    let (k, p) = (column::<f64>([0.1, 0.2, 0.3]), Array1::from_elem(1, 0.7f64).into_dyn());
    for (name, device) in devices() {
        let got = run(&g, &device, &[&k, &p])[[0, 0]];
        assert!((got - (1.0 + 6f64.ln())).abs() < 1e-14, "{name}: {got}");
    }
}

/// Long vectors of a pair in the key of a reduction with a pivot, none in what is added up.
#[test]
fn keys_with_long_vectors_under_a_pivot() {
    let aliases = ["a = Vi(40)", "y = Vj(40)", "w = Vj(1)"];
    let f = "Max(Concat(a * y, a + y)) + Sum(Concat(a - y, a * y))";
    let g: Genred = Genred::weighted(f, "w", aliases, &LOG_SUM_EXP, Axis::J).unwrap();
    let keys: Genred = Genred::new(f, aliases, &MAX, Axis::J).unwrap();
    let entry = |(i, k): (usize, usize)| ((i * 40 + k) as f64 * 0.37).sin();
    let a = Array2::from_shape_fn((5, 40), entry).into_dyn();
    let y = Array2::from_shape_fn((33, 40), |(j, k)| entry((k, j))).into_dyn();
    let w = column::<f64>((0..33).map(|j| 1.0 + f64::from(j)));
    let exact = run(&g, &Device::new(Interpreter::new()), &[&a, &y, &w]);
    let top = run(&keys, &Device::new(Interpreter::new()), &[&a, &y, &w]);
    for (name, device) in devices() {
        let got = run(&g, &device, &[&a, &y, &w]);
        for i in 0..5 {
            let error = (got[[i, 0]] - exact[[i, 0]]).abs();
            assert!(error < 1e-12 * (1.0 + exact[[i, 0]].abs()), "{name}: off by {error:e}");
            // Weights are at least 1 and add up to 561.
            let more = got[[i, 0]] - top[[i, 0]];
            assert!((0.0..561f64.ln()).contains(&more), "{name}: {more}");
        }
    }
}

/// A table that is gathered from a table that is gathered from a table.
#[test]
fn tables_are_made_of_tables() {
    let aliases = ["x = Vi(1)", "p = Pm(3)", "q = Pm(3)"];
    let g: Genred =
        Genred::new("Gather(Gather(Gather(Gather(p, q), q), q), x)", aliases, &SUM, Axis::J)
            .unwrap();
    let x = column::<f64>([0.0, 1.0, 2.0]);
    // q permutes in a cycle of three: three times is none.
    let p = Array1::from(vec![10.0, 20.0, 30.0]).into_dyn();
    let q = Array1::from(vec![2.0, 0.0, 1.0]).into_dyn();
    for (name, device) in devices() {
        let got = run(&g, &device, &[&x, &p, &q]);
        assert_eq!(got.iter().copied().collect::<Vec<_>>(), [10.0, 20.0, 30.0], "{name}");
    }
}

/// Even functions of a multiple of a norm are functions of its square where they are differentiated.
/// Their values are those of the formula as it is written, also where the square overflows or vanishes.
#[test]
fn even_functions_of_multiples_of_norms() {
    let (one, sine) = (1.0f64, 1e25f64 as f32 as f64);
    let aliases = ["x = Vj(1)", "a = Pm(1)", "b = Pm(1)"];
    for (text, a, b, expected) in [
        ("Cos(a * (b * Norm2(x)))", 1.0, 1e25, sine.cos()),
        ("Cos(a * (b * Norm2(x)))", 1e-25, 1e25, one.cos()),
        ("Cos(a * (b * Norm2(x)))", 1e30, 1e-30, one.cos()),
        ("Cosh(a * (b * Norm2(x)))", 1e-25, 1e25, one.cosh()),
        ("Cosh(Norm2(x) / a / b)", 1e30, 1e-30, one.cosh()),
        ("SinXDivX(a * (Norm2(x) * b))", 1e30, 1e-30, one.sin()),
        ("SinXDivX(a * (Norm2(x) * b))", 1.0, 1e25, 0.0),
        ("Sinc(a * (Norm2(x) * b))", 1e-25, 0.5e25, 2.0 / std::f64::consts::PI),
        ("Square(a * (b * Norm2(x)))", 1e-25, 1e25, 1.0),
        ("Square(a * (b * Norm2(x)))", 1e30, 1e-30, 1.0),
        ("Pow(a * (b * Sqrt(x * x)), 4)", 1e30, 1e-30, 1.0),
        // A norm of 0 times what overflows.
        ("Cos(a * (b * Norm2(x - x)))", 1e30, 1e30, 1.0),
        ("Square(a * (b * Norm2(x - x)))", 1e30, 1e30, 0.0),
    ] {
        let g: Genred = Genred::new(text, aliases, &SUM, Axis::J).unwrap();
        let (x, [a, b]) = (column::<f32>([-1.0]), [a, b].map(parameter));
        for (name, device) in devices() {
            let got = run(&g, &device, &[&x, &a, &b])[[0, 0]];
            let near = (got - expected).abs() <= 2e-6 * expected.abs() + 1e-24;
            assert!(near, "{text} on {name}: {got}, not {expected}");
        }
    }
    // Slopes at 1 are those of the formula as written, curvatures at 0 those of the function.
    let [a, b, e] = [parameter(1e25), parameter(1e-25), column::<f32>([1.0])];
    let g: Genred = Genred::new("Cos(a * (b * Norm2(x)))", aliases, &SUM, Axis::J).unwrap();
    let second = g.vjp("x").unwrap().jvp("x").unwrap();
    for (name, device) in devices() {
        let x = column::<f32>([1.0]);
        let slope = run(&g.vjp("x").unwrap(), &device, &[&x, &a, &b, &e])[[0, 0]];
        assert!((slope + one.sin()).abs() < 1e-6, "{name}: {slope}");
        let zero = column::<f32>([0.0]);
        let curvature = run(&second, &device, &[&zero, &a, &b, &e, &e])[[0, 0]];
        assert!((curvature + 1.0).abs() < 1e-6, "{name}: {curvature}");
    }
}
fn parameter(v: f64) -> ArrayD<f32> {
    ArrayD::from_elem(vec![1], v as f32)
}

/// A soft time warp takes no path over costs that overflow, and is infinite where there is no other.
#[test]
fn time_warps_go_around_costs_that_overflow() {
    fn check<T: Element>(huge: f64) {
        let row = |v: &[f64]| -> ArrayD<T> {
            let v: Vec<T> = v.iter().map(|v| T::of_f64(*v)).collect();
            Array2::from_shape_vec((1, v.len()), v).unwrap().into_dyn()
        };
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let gamma = row(&[0.5]);
        for (x, y, expected) in [
            // Only the diagonal is finite: one path, of cost 0.
            ([1.0, -huge, 2.0], [1.0, -huge, 2.0], 0.0),
            ([1.0, huge, 2.0], [1.0, 2.0, 3.0], inf),
            ([huge, huge, 0.0], [huge, 0.0, 0.0], 0.0),
            // Three paths of cost 0.
            ([huge, 0.0, 0.0], [huge, 0.0, 0.0], -0.5 * 3f64.ln()),
            ([1.0, nan, 2.0], [1.0, -huge, 2.0], nan),
        ] {
            let aliases = ["x = Vj(3)", "y = Vj(3)", "g = Vj(1)"];
            let g: Genred = Genred::new("SoftDTW_SqDist(x, y, g)", aliases, &SUM, Axis::J).unwrap();
            for (name, device) in devices() {
                let got = run(&g, &device, &[&row(&x), &row(&y), &gamma])[[0, 0]];
                let right = got == expected
                    || (got - expected).abs() < 1e-6
                    || got.is_nan() && expected.is_nan();
                assert!(right, "{x:?} and {y:?} on {name}: {got}, not {expected}");
            }
        }
    }
    check::<f32>(1e30);
    check::<f64>(1e200);
}

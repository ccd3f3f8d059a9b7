//! Gradients of look-ups in tables of parameters: the right values, for the price of the pairs and
//! the table.

use keops_core::genred::{AsArg, Genred};
use keops_core::interp::Interpreter;
use keops_core::ranges::{Pattern, Ranges};
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use ndarray::{Array1, Array2, Array3, ArrayD};

fn devices() -> Vec<Device> {
    let cpu = |l| Device::new(Cpu::with_level(l).expect("available"));
    let mut all: Vec<Device> = Level::available().into_iter().map(cpu).collect();
    all.push(Device::new(Interpreter::new()));
    all
}

fn run(g: &Genred, device: &Device, args: &[&ArrayD<f64>]) -> ArrayD<f64> {
    let views: Vec<_> = args.iter().map(|a| a.as_arg()).collect();
    let out = g.clone().at(device.clone()).run(&views).unwrap_or_else(|e| panic!("{e}"));
    out[0].to_f64()
}

const P: usize = 100;
const ALIASES: [&str; 4] = ["t = Pm(100)", "a = Vi(1)", "b = Vj(1)", "w = Vj(1)"];

struct Data {
    t: ArrayD<f64>,
    a: ArrayD<f64>,
    b: ArrayD<f64>,
    w: ArrayD<f64>,
    e: ArrayD<f64>,
}

/// Indices up to 108: some are out of range.
fn data(m: usize, n: usize) -> Data {
    let column = |n: usize, f: &dyn Fn(usize) -> f64| {
        Array2::from_shape_fn((n, 1), |(k, _)| f(k)).into_dyn()
    };
    Data {
        t: Array1::from_shape_fn(P, |k| 1.0 + k as f64 / 64.0).into_dyn(),
        a: column(m, &|k| (k * 7 % 50) as f64),
        b: column(n, &|k| (k * 11 % 59) as f64),
        w: column(n, &|k| (k % 5) as f64 - 1.0),
        e: column(m, &|k| (k % 3) as f64 + 1.0),
    }
}

/// Pairs with their weights, and what is looked up.
fn expected(
    d: &Data,
    index: impl Fn(usize, usize) -> usize,
    slope: impl Fn(f64) -> f64,
) -> ArrayD<f64> {
    let mut out = Array1::<f64>::zeros(P);
    for i in 0..d.a.len() {
        for j in 0..d.b.len() {
            let at = index(i, j);
            if at < P {
                out[at] += slope(d.t[at]) * d.w[[j, 0]] * d.e[[i, 0]];
            }
        }
    }
    out.into_dyn()
}

fn close(got: &ArrayD<f64>, expected: &ArrayD<f64>, what: &str) {
    assert_eq!(got.shape(), expected.shape(), "{what}");
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() <= 1e-11 * (1.0 + e.abs()), "{what}: {g}, not {e}");
    }
}

#[test]
fn gradients_in_tables() {
    let d = data(37, 23);
    let (at, bt) = (|i: usize| i * 7 % 50, |j: usize| j * 11 % 59);
    type Index<'f> = &'f dyn Fn(usize, usize) -> usize;
    type Case<'a> = (&'a str, Index<'a>, fn(f64) -> f64);
    let cases: [Case<'_>; 6] = [
        ("Gather(t, a + b) * w", &|i, j| at(i) + bt(j), |_| 1.0),
        ("Gather(t, b) * w", &|_, j| bt(j), |_| 1.0),
        ("Gather(t, a) * w", &|i, _| at(i), |_| 1.0),
        ("Gather(t, 3.2) * w", &|_, _| 3, |_| 1.0),
        ("Gather(t, i + j) * w", &|i, j| i + j, |_| 1.0),
        // Tables that are made of parameters, and functions of what is looked up.
        ("Exp(Gather(Square(t), a + b) * 0.5) * w", &|i, j| at(i) + bt(j), |v| {
            v * (0.5 * v * v).exp()
        }),
    ];
    for device in devices() {
        for (text, index, slope) in &cases {
            let g: Genred = Genred::new(text, ALIASES, &SUM, Axis::J).expect("a formula");
            let gradient = g.vjp("t").expect("a gradient");
            let what = format!("{text} on {:?}", device);
            // Pairs out of range are NaN; nothing is added for them.
            let got = run(&gradient, &device, &[&d.t, &d.a, &d.b, &d.w, &d.e]);
            close(&got, &expected(&d, index, slope), &what);
        }
    }
}

#[test]
fn second_derivatives_and_tangents() {
    let d = data(20, 15);
    // Indices of columns, and of pairs that mean the same.
    for text in ["Square(Gather(t, b)) * w", "Square(Gather(t, a * 0 + b)) * w"] {
        second_derivatives(text, &d);
    }
}

fn second_derivatives(text: &str, d: &Data) {
    let g: Genred = Genred::new(text, ALIASES, &SUM, Axis::J).expect("a formula");
    let direction = d.t.mapv(|v| (v * 9.0).sin());
    let gradient = g.vjp("t").expect("a gradient");
    for device in devices() {
        // The Hessian is diagonal: 2 w e at what is looked up.
        let args = [&d.t, &d.a, &d.b, &d.w, &d.e, &direction];
        let index = |_: usize, j: usize| j * 11 % 59;
        let hessian = expected(d, index, |_| 2.0) * &direction;
        let along = gradient.jvp("t").expect("a derivative");
        close(&run(&along, &device, &args), &hessian, "forward over reverse");
        let twice = gradient.vjp("t").expect("a derivative");
        close(&run(&twice, &device, &args), &hessian, "reverse over reverse");
        // The gradient of <gradient, direction> in the weights.
        let in_weights = gradient.vjp("w").expect("a derivative");
        let mut weights = Array2::<f64>::zeros((15, 1));
        for j in 0..15 {
            let at = index(0, j);
            weights[[j, 0]] = 2.0 * d.t[at] * direction[at] * d.e.sum();
        }
        close(&run(&in_weights, &device, &args), &weights.into_dyn(), "in weights");
    }
}

#[test]
fn batches_and_ranges() {
    let d = data(12, 9);
    let g: Genred = Genred::new("Gather(t, a + b) * w", ALIASES, &SUM, Axis::J).expect("a formula");
    let gradient = g.vjp("t").expect("a gradient");
    // Two batches of tables and of indices; the second has its indices moved by 1.
    let a = Array3::from_shape_fn((2, 12, 1), |(b, k, _)| d.a[[k, 0]] + b as f64).into_dyn();
    let e = Array3::from_shape_fn((2, 12, 1), |(_, k, _)| d.e[[k, 0]]).into_dyn();
    let t = Array2::from_shape_fn((2, P), |(_, k)| d.t[k]).into_dyn();
    let met = |i: usize| (0..9).filter(move |j| (i + j).is_multiple_of(3));
    let reduced: Vec<[usize; 2]> = (0..12).flat_map(met).map(|j| [j, j + 1]).collect();
    let ends = (0..12).scan(0, |end, i| {
        *end += met(i).count();
        Some(*end)
    });
    let (blocks, slices) = ((0..12).map(|i| [i, i + 1]).collect(), ends.collect());
    let ranges = Ranges::from_pattern(Pattern { blocks, slices, reduced }).expect("ranges");
    for device in devices() {
        let got = run(&gradient, &device, &[&t, &a, &d.b, &d.w, &e]);
        for b in 0..2 {
            let index = |i: usize, j: usize| i * 7 % 50 + b + j * 11 % 59;
            let part = got.index_axis(ndarray::Axis(0), b).to_owned();
            close(&part, &expected(&d, index, |_| 1.0), "a batch");
        }
        let mut within = Array1::<f64>::zeros(P);
        for i in 0..12 {
            for j in met(i) {
                let at = i * 7 % 50 + j * 11 % 59;
                if at < P {
                    within[at] += d.w[[j, 0]] * d.e[[i, 0]];
                }
            }
        }
        let g = gradient.clone().at(device.clone()).ranges(ranges.clone());
        let args = [&d.t, &d.a, &d.b, &d.w, &d.e].map(|a| a.as_arg());
        let got = g.run(&args).unwrap_or_else(|e| panic!("{e}"))[0].to_f64();
        close(&got, &within.into_dyn(), "ranges");
    }
}

/// The bits do not depend on threads, and a long table costs no more than its length.
#[test]
fn long_tables() {
    let p = 1 << 20;
    let aliases = [format!("t = Pm({p})"), "a = Vi(1)".into(), "b = Vj(1)".into()];
    let g: Genred = Genred::new("Gather(t, a * 1000 + b)", aliases, &SUM, Axis::J).expect("");
    let gradient = g.vjp("t").expect("a gradient");
    let device = Device::new(Cpu::new());
    let column = |n: usize| Array2::from_shape_fn((n, 1), |(k, _)| k as f64).into_dyn();
    let (t, a, b) = (Array1::<f64>::zeros(p).into_dyn(), column(1000), column(1000));
    let e = column(1000).mapv(|v| (v * 0.1).sin());
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| run(&gradient, &device, &[&t, &a, &b, &e]))
    };
    let one = on(1);
    assert_eq!(one, on(3));
    for (k, v) in one.iter().enumerate() {
        assert_eq!(*v, if k < 1_000_000 { e[[k / 1000, 0]] } else { 0.0 });
    }
}

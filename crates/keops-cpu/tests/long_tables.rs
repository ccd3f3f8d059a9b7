//! Tables with more entries than formulas have components: right values and gradients of every
//! entry, also those whose number is no number in f32.

use keops_core::genred::{AsArg, Genred};
use keops_core::graph::{EXACT_INDEX, MAX_TABLE};
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use ndarray::{Array1, Array2, Array3, ArrayD};

fn devices() -> impl Iterator<Item = Device> {
    Level::available().into_iter().map(|l| Device::new(Cpu::with_level(l).expect("available")))
}
fn formula(text: &str, p: usize) -> Genred {
    let aliases =
        [format!("t = Pm({p})"), "g = Pm(1)".into(), "a = Vi(1)".into(), "b = Vj(1)".into()];
    Genred::new(text, aliases, &SUM, Axis::J).expect("a formula")
}
fn run(f: &Genred, device: &Device, args: &[&ArrayD<f32>]) -> ArrayD<f64> {
    let views: Vec<_> = args.iter().map(|a| a.as_arg()).collect();
    f.clone().at(device.clone()).run(&views).unwrap_or_else(|e| panic!("{e}"))[0].to_f64()
}

/// Whole numbers, which differ among neighbours; their sums are exact.
fn entry(k: usize) -> f32 {
    (k * 7 % 1009) as f32
}
struct Data {
    t: ArrayD<f32>,
    g: ArrayD<f32>,
    a: ArrayD<f32>,
    b: ArrayD<f32>,
    e: ArrayD<f32>,
}
const BASE: usize = 1 << 14;
/// Rows `a` and columns `b`, which mean the entries `a * 2^14 + b`: odd ones, also at the end.
fn data(p: usize) -> Data {
    let column = |v: &[usize]| Array2::from_shape_fn((v.len(), 1), |(k, _)| v[k] as f32).into_dyn();
    let last = p - 1;
    Data {
        t: Array1::from_shape_fn(p, entry).into_dyn(),
        g: Array1::from_vec(vec![0.5]).into_dyn(),
        a: column(&[0, 511, 512, 1023, last / BASE]),
        b: column(&[0, 1, 2, 4095, last % BASE, 16_383]),
        e: column(&[1, 2, 3, 4, 5]),
    }
}
impl Data {
    fn at(&self, i: usize, j: usize) -> usize {
        self.a[[i, 0]] as usize * BASE + self.b[[j, 0]] as usize
    }
    fn pairs(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let n = self.b.len();
        (0..self.a.len() * n).map(move |k| (k / n, k % n, self.at(k / n, k % n)))
    }
}

const P: usize = 30_000_000;

#[test]
fn every_entry_is_reached() {
    // (One pair of the last row lies behind the table.)
    let d = data(P);
    for device in devices() {
        let all = [&d.t, &d.g, &d.a, &d.b];
        let got = run(&formula("Gather(t, a * 16384 + b) * Square(g)", P), &device, &all);
        let mut expected = [0.0; 5];
        for (i, _, at) in d.pairs() {
            expected[i] += if at < P { f64::from(entry(at)) / 4.0 } else { f64::NAN };
        }
        assert!(expected[4].is_nan());
        assert_eq!(got.as_slice().expect("in order")[..4], expected[..4]);
        assert!(got[[4, 0]].is_nan());
    }
}

#[test]
fn gradients_in_long_tables() {
    let d = data(P);
    type Slope = fn(f64) -> f64;
    let cases: [(&str, Slope); 3] = [
        ("Gather(t, a * 16384 + b)", |_| 1.0),
        ("Square(Gather(t, a * 16384 + b)) * g", |v| v),
        // Two look-ups, whose gradients are added up.
        ("Gather(t, a * 16384 + b) + 2 * Gather(t, a * 16384 + b + 0 * g)", |_| 3.0),
    ];
    for (text, slope) in cases {
        let mut expected = vec![0.0; P];
        for (i, _, at) in d.pairs().filter(|p| p.2 < P) {
            expected[at] += slope(f64::from(entry(at))) * f64::from(d.e[[i, 0]]);
        }
        let gradient = formula(text, P).vjp("t").expect("a gradient");
        for device in devices() {
            let got = run(&gradient, &device, &[&d.t, &d.g, &d.a, &d.b, &d.e]);
            assert_eq!(got.shape(), [P]);
            let wrong = got.iter().zip(&expected).position(|(g, e)| g != e);
            assert_eq!(wrong, None, "{text}");
        }
    }
}

#[test]
fn derivatives_along_long_tables() {
    // The Hessian of the sum of squares at what is looked up, applied to a direction.
    let d = data(P);
    let f = formula("Square(Gather(t, a * 16384 + b)) * g", P).vjp("t").expect("a gradient");
    let f = f.jvp("t").expect("a derivative");
    let direction = Array1::from_shape_fn(P, |k| (k % 11) as f32).into_dyn();
    let mut expected = vec![0.0; P];
    for (i, _, at) in d.pairs().filter(|p| p.2 < P) {
        expected[at] += (at % 11) as f64 * f64::from(d.e[[i, 0]]);
    }
    let device = Device::new(Cpu::new());
    let got = run(&f, &device, &[&d.t, &d.g, &d.a, &d.b, &d.e, &direction]);
    assert_eq!(got.iter().zip(&expected).position(|(g, e)| g != e), None);
}

#[test]
fn one_table_of_all_batches() {
    let d = data(P);
    // 30 batches of rows, the table is theirs together.
    let a = Array3::from_shape_fn((30, 3, 1), |(b, i, _)| (b * 3 + i) as f32).into_dyn();
    let f = formula("Gather(t, a * 16384 + b)", P);
    for device in devices() {
        let got = run(&f, &device, &[&d.t, &d.g, &a, &d.b]);
        assert_eq!(got.shape(), [30, 3, 1]);
        for (row, v) in got.iter().enumerate() {
            let entries = d.b.iter().map(|b| f64::from(entry(row * BASE + *b as usize)));
            assert_eq!(*v, entries.sum::<f64>());
        }
    }
}

#[test]
fn last_entries_of_tables_in_f32() {
    // Half a step above an index is a number as long as the table is within the limit.
    for p in [EXACT_INDEX, EXACT_INDEX + 1] {
        let t = Array1::from_shape_fn(p, entry).into_dyn();
        let b = Array2::from_shape_fn((5, 1), |(k, _)| (p - 1 - k) as f32).into_dyn();
        let (g, a) = (Array1::zeros(1).into_dyn(), Array2::zeros((1, 1)).into_dyn());
        let expected: f64 = (p - 5..p).map(|k| f64::from(entry(k))).sum();
        for device in devices() {
            let got = run(&formula("Gather(t, b)", p), &device, &[&t, &g, &a, &b]);
            assert_eq!(got.as_slice(), Some(&[expected][..]));
        }
    }
}

#[test]
fn what_is_no_table_has_a_limit() {
    let p = (1 << 20) + 1;
    let aliases = [format!("t = Pm({p})"), "b = Vj(1)".into()];
    let refused = |text: &str| -> String {
        let made: Result<Genred, _> = Genred::new(text, &aliases, &SUM, Axis::J);
        made.map(|_| ()).expect_err(text).to_string()
    };
    assert!(refused("t").contains("`t` has 1048577 components"), "{}", refused("t"));
    for text in
        ["t * b", "Sum(t) * b", "(t | t) * b", "Gather(t * 2, b)", "Elem(t, 3)", "Gather(t, t)"]
    {
        assert!(refused(text).contains("1048576"), "{text}: {}", refused(text));
    }
    let long = [format!("t = Pm({})", MAX_TABLE + 1), "b = Vj(1)".into()];
    let made: Result<Genred, _> = Genred::new("Gather(t, b)", long, &SUM, Axis::J);
    assert!(made.expect_err("too long").to_string().contains("134217728"));
}

/// `cargo test --release -p keops-cpu --test long_tables -- --ignored --nocapture`
#[test]
#[ignore = "takes 3 GB; prints times"]
fn a_hundred_million_entries() {
    let p = 100_000_000;
    let d = data(p);
    let f = formula("Gather(t, a * 16384 + b)", p);
    let (gradient, device) = (f.vjp("t").expect("a gradient"), Device::new(Cpu::new()));
    for (name, f) in [("value", &f), ("gradient", &gradient)] {
        let all = [&d.t, &d.g, &d.a, &d.b, &d.e];
        let args = &all[..f.arguments().count()];
        for _ in 0..2 {
            let start = std::time::Instant::now();
            let got = run(f, &device, args);
            println!("{name}: {:.2} s for {} numbers", start.elapsed().as_secs_f64(), got.len());
        }
    }
}

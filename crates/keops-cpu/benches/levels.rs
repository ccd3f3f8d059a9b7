//! Levels of one processor beside each other, and block-sparse selections beside sums.
//!
//! `cargo bench -p keops-cpu --bench levels`: one thread; all contenders of a row in turn, the minimum of
//! many. `new` is what [`Cpu::new`] chooses.

use keops_core::data::Element;
use keops_core::genred::{AsArg, Genred, Reduce};
use keops_core::ranges::{Pattern, Ranges};
use keops_core::reduce::{ARG_MIN, K_MIN, LOG_SUM_EXP, SUM};
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use ndarray::{ArrayD, IxDyn};
use std::time::Instant;

fn array<T: Element>(shape: &[usize], seed: u64) -> ArrayD<T> {
    let mut s = seed;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        T::of_f64((s >> 40) as f64 / (1u64 << 24) as f64)
    })
}

/// Least times in seconds of functions called in turn.
fn least(runs: &mut [Box<dyn FnMut() + '_>], times: usize) -> Vec<f64> {
    let mut best = vec![f64::INFINITY; runs.len()];
    for _ in 0..times {
        for (run, best) in runs.iter_mut().zip(&mut best) {
            let start = Instant::now();
            run();
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    best
}

fn levels<T: Element>(
    name: &str,
    formula: &str,
    reduce: impl Into<Reduce>,
    gradient: bool,
    d: usize,
) {
    let n = (60_000 / d).clamp(700, 4_000);
    let aliases =
        [format!("x = Vi({d})"), format!("y = Vj({d})"), "b = Vj(1)".into(), "g = Pm(1)".into()];
    let f: Genred = Genred::new(formula, aliases, reduce, Axis::J).expect("a formula");
    let f = if gradient { f.vjp("x").expect("a gradient") } else { f };
    let (x, y, b, e) = (
        array::<T>(&[n, d], 1),
        array::<T>(&[n, d], 2),
        array::<T>(&[n, 1], 3),
        array::<T>(&[n, 1], 4),
    );
    let g = ArrayD::from_elem(IxDyn(&[1]), T::of_f64(1.0 / d as f64));
    let all = [x.as_arg(), y.as_arg(), b.as_arg(), g.as_arg(), e.as_arg()];
    let args = &all[..f.arguments().count()];
    let cpus = [Level::Avx512, Level::Avx2].map(|l| Cpu::with_level(l).expect("both levels"));
    let devices = [Device::new(cpus[0]), Device::new(cpus[1]), Device::new(Cpu::new())];
    let mut runs: Vec<Box<dyn FnMut() + '_>> = vec![];
    for device in devices {
        let f = f.clone().at(device);
        runs.push(Box::new(move || {
            f.run(args).expect("a value");
        }));
    }
    let t = least(&mut runs, 25);
    let ns = |t: f64| t * 1e9 / (n * n) as f64;
    println!(
        "{name:9} {} D={d:4}: avx512 {:7.3} ns, avx2 {:7.3} ns, avx512/avx2 {:.3}, new/best {:.3}",
        T::DTYPE.name(),
        ns(t[0]),
        ns(t[1]),
        t[0] / t[1],
        t[2] / t[0].min(t[1]),
    );
}

/// Rows of one range each, and blocks of 64 rows: 129 columns for each row.
fn ranges() {
    let n = 2_048;
    let of = |rows: usize| {
        let reduced: Vec<_> = (0..n / rows)
            .map(|k| [(k * rows).saturating_sub(64), (k * rows + 65).min(n)])
            .collect();
        let blocks: Vec<_> = (0..n / rows).map(|k| [k * rows, (k + 1) * rows]).collect();
        let slices = (1..=blocks.len()).collect();
        Ranges::from_pattern(Pattern { blocks, slices, reduced }).expect("ranges")
    };
    let (x, b) = (array::<f32>(&[n, 3], 1), array::<f32>(&[n, 1], 3));
    let args = [x.as_arg(), x.as_arg(), b.as_arg()];
    let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"];
    for (name, formula, reduce) in [
        ("Sum", "Exp(-SqDist(x, y)) * b", Reduce::from(&SUM)),
        ("ArgMin", "SqDist(x, y)", (&ARG_MIN).into()),
        ("KMin", "SqDist(x, y)", (&K_MIN, 10).into()),
    ] {
        let f: Genred = Genred::new(formula, aliases, reduce, Axis::J).expect("a formula");
        let f = f.at(Device::new(Cpu::new()));
        let mut runs: Vec<Box<dyn FnMut() + '_>> = vec![];
        for rows in [1, 64] {
            let (f, args) = (f.clone().ranges(of(rows)), &args);
            runs.push(Box::new(move || {
                f.run(args).expect("a value");
            }));
        }
        let t = least(&mut runs, 40);
        println!("ranges, {name}: rows alone {:.3} ms, 64 rows {:.3} ms", t[0] * 1e3, t[1] * 1e3);
    }
}

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| {
        ranges();
        if !Level::available().contains(&Level::Avx512) {
            return println!("this processor has no AVX-512");
        }
        for d in [3, 16, 32, 50, 64, 128] {
            let gaussian = "Exp(-g * SqDist(x, y)) * b";
            macro_rules! both {
                ($($a:expr),*) => {
                    levels::<f32>($($a),*, d);
                    levels::<f64>($($a),*, d);
                };
            }
            both!("Gaussian", gaussian, &SUM, false);
            both!("gradient", gaussian, &SUM, true);
            both!("LSE", "-g * SqDist(x, y)", &LOG_SUM_EXP, false);
            both!("ArgMin", "SqDist(x, y)", &ARG_MIN, false);
            both!("KMin", "SqDist(x, y)", (&K_MIN, 10), false);
        }
    });
}

//! Work whose time once jumped, beside a yardstick of the same run: large K, gradients in tables,
//! ranges of one row, long chains of operators, numbers as factors, patterns that are never transposed.
//!
//! `cargo bench --bench cliffs -- [band]`: contenders in turn, least times; the last column is the ratio and
//! what it is meant to stay below.

use keops::prelude::*;
use keops::ranges::{Pattern, Ranges};
use ndarray::{Array1, Array2};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

/// Least seconds of two functions, called in turn.
fn least(
    times: usize,
    mut ours: impl FnMut() -> Result<(), Failure>,
    mut yardstick: impl FnMut() -> Result<(), Failure>,
) -> Result<[f64; 2], Failure> {
    let mut best = [f64::INFINITY; 2];
    for _ in 0..times {
        for (k, run) in [&mut ours as &mut dyn FnMut() -> _, &mut yardstick].into_iter().enumerate()
        {
            let start = Instant::now();
            run()?;
            best[k] = best[k].min(start.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}

fn line(name: &str, yardstick: &str, [ours, other]: [f64; 2], goal: f64) {
    let ms = |t: f64| format!("{:.4} ms", t * 1e3);
    let ratio = ours / other;
    let verdict = if ratio <= goal { "" } else { " SHORT" };
    println!(
        "| {name} | {} | {yardstick}: {} | {ratio:.2} of {goal}{verdict} |",
        ms(ours),
        ms(other)
    );
}

fn points(rows: usize, dim: usize, step: f32) -> Array2<f32> {
    Array2::from_shape_fn((rows, dim), |(i, c)| ((i * dim + c) as f32 * step).sin())
}

/// The K nearest of 20,000 points, against all distances and a sort of them by hand, on one thread.
fn many_winners() -> Result<(), Failure> {
    let (x, y) = (points(64, 3, 0.7), points(20_000, 3, 0.37));
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    for k in [100, 1_000, 4_000, 20_000] {
        let nearest = vi(&x).sqdist(vj(&y)).argkmin_reduction(k, Over::J)?;
        let ours = || {
            one.install(|| nearest.call_indices(()))?;
            Ok(())
        };
        let by_hand = || {
            let mut winners = Array2::<i64>::zeros((x.nrows(), k));
            for (xi, mut out) in x.rows().into_iter().zip(winners.rows_mut()) {
                let d2 = |yj: ndarray::ArrayView1<'_, f32>| {
                    xi.iter().zip(yj).map(|(a, b)| (a - b) * (a - b)).sum::<f32>()
                };
                let mut keys: Vec<(f32, u32)> =
                    y.rows().into_iter().zip(0..).map(|(yj, j)| (d2(yj), j)).collect();
                let order = |a: &(f32, u32), b: &(f32, u32)| a.partial_cmp(b).expect("numbers");
                if k < keys.len() {
                    keys.select_nth_unstable_by(k - 1, order);
                }
                keys[..k].sort_unstable_by(order);
                out.iter_mut().zip(&keys).for_each(|(o, key)| *o = i64::from(key.1));
            }
            black_box(winners);
            Ok(())
        };
        line(
            &format!("argKmin, K = {k} of 20,000, 64 rows, f32"),
            "selection and sort by hand",
            least(5, ours, by_hand)?,
            1.0,
        );
    }
    Ok(())
}

/// The gradient of a table, against its values with as many numbers written.
fn gradient_of_a_table() -> Result<(), Failure> {
    let entries = 100_000;
    let table = Array1::from_shape_fn(entries, |k| k as f64);
    let i = Array2::from_shape_fn((200, 1), |(k, _)| (k * 7919 % entries) as f64);
    let (j, e) = (Array2::<f64>::zeros((200, 1)), Array2::<f64>::ones((200, 1)));
    let t = pm(&table);
    let values = t.gather(vi(&i) + vj(&j)).sum_reduction(Over::J)?;
    let gradient = values.vjp(&t)?;
    let ours = || {
        gradient.call((&e,))?;
        Ok(())
    };
    let yardstick = || {
        values.call(())?;
        black_box(&table * 0.0);
        Ok(())
    };
    let t = least(20, ours, yardstick)?;
    line("gradient in a table of 100,000 entries, 40,000 pairs, f64", "its values", t, 10.0);
    Ok(())
}

/// Rows of one range each, against blocks of 64 rows; 129 columns for each row. A tile of 32 rows of a
/// band meets 160 columns, 62 of which ask each row: as much work as 191 columns.
fn ranges_of_one_row() -> Result<(), Failure> {
    let n = 2_048;
    let of = |rows: usize| {
        let mut p = Pattern::default();
        for k in 0..n / rows {
            p.blocks.push([k * rows, (k + 1) * rows]);
            p.reduced.push([(k * rows).saturating_sub(64), (k * rows + 65).min(n)]);
            p.slices.push(k + 1);
        }
        Ranges::from_pattern(p)
    };
    let (x, b) = (points(n, 3, 0.7), points(n, 1, 0.31));
    let args = (&x, &x, &b);
    let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"];
    let (band, blocks) = (Ranges::band(n, n, 64, 64)?, of(64)?);
    let sum = Genred::new("Exp(-SqDist(x, y)) * b", aliases, Sum, Over::J)?;
    let largest = Genred::new("-SqDist(x, y) + b", aliases, LogSumExp, Over::J)?;
    let nearest = Genred::new("SqDist(x, y) + b", aliases, ArgKMin(10), Over::J)?;
    for (name, f) in [("sum", sum), ("log-sum-exp", largest), ("argKmin, K = 10", nearest)] {
        let (alone, together) = (f.clone().ranges(band.clone()), f.ranges(blocks.clone()));
        let run = |f: &Genred| -> Result<(), Failure> {
            match name.starts_with("arg") {
                true => drop(f.call_indices(args)?),
                false => drop(f.call(args)?),
            }
            Ok(())
        };
        let t = least(40, || run(&alone), || run(&together))?;
        line(&format!("{name} over a band of 129 diagonals, f32"), "blocks of 64 rows", t, 2.0);
    }
    Ok(())
}

/// A pattern from six arrays of which three are given, against reading them.
fn patterns_from_arrays() -> Result<(), Failure> {
    // 20,000 blocks of one row, each of which meets nearly all columns: transposed, this is 4e8 pairs.
    let n = 20_000i64;
    let blocks: Vec<[i64; 2]> = (0..n).map(|k| [k, k + 1]).collect();
    let slices: Vec<i64> = (1..=n).collect();
    let reduced: Vec<[i64; 2]> = (0..n).map(|k| [k / 2, n - k / 3]).collect();
    let ours = || {
        black_box(Ranges::from_arrays(Some((&blocks, &slices, &reduced)), None)?);
        Ok(())
    };
    let yardstick = || {
        black_box((blocks.clone(), slices.clone(), reduced.clone()));
        Ok(())
    };
    line("pattern of 100,000 numbers from arrays", "their copy", least(20, ours, yardstick)?, 30.0);
    Ok(())
}

/// Additions in front of a chain of 8,000, against half as many, and against additions behind.
fn long_chains() -> Result<(), Failure> {
    let (x, y) = (Array2::<f64>::ones((3, 1)), Array2::<f64>::ones((4, 1)));
    let chain = |terms: usize, before: bool| -> Result<(), Failure> {
        let z = vi(&x);
        let mut sum = vi(&x) * vj(&y);
        for _ in 0..terms {
            sum = if before { &z + sum } else { sum + &z };
        }
        sum.sum(Over::J)?;
        Ok(())
    };
    let t = least(3, || chain(8_000, true), || chain(4_000, true))?;
    line("`l = &z + l` 8,000 times", "4,000 times", t, 2.5);
    let t = least(3, || chain(8_000, true), || chain(8_000, false))?;
    line("`l = &z + l` 8,000 times", "`l = l + &z`", t, 2.0);
    Ok(())
}

/// Another whole number as a factor at each call, against another fraction.
fn numbers_as_factors() -> Result<(), Failure> {
    let (x, y) = (points(10, 3, 0.7), points(12, 3, 0.3));
    let number = Cell::new(0.0);
    let call = |part: f32| -> Result<(), Failure> {
        number.set(number.get() + 1.0);
        (vi(&x).sqdist(vj(&y)) * (number.get() as f32 + part)).sum(Over::J)?;
        Ok(())
    };
    let t = least(2_000, || call(0.0), || call(0.5))?;
    line("LazyTensor times a new whole number, 10 × 12 points", "a new fraction", t, 1.2);
    Ok(())
}

fn main() -> Result<(), Failure> {
    type Work = fn() -> Result<(), Failure>;
    let all: [(&str, Work); 6] = [
        ("winners", many_winners),
        ("table", gradient_of_a_table),
        ("band", ranges_of_one_row),
        ("pattern", patterns_from_arrays),
        ("chain", long_chains),
        ("number", numbers_as_factors),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    println!("| work | ours | yardstick | ratio |\n|---|---|---|---|");
    for (name, run) in all {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            run()?;
        }
    }
    Ok(())
}

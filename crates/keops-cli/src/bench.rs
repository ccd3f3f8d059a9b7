//! `keops bench`: what this machine does.

use crate::data::TypeName;
use crate::failure::Done;
use crate::inputs::{AxisName, Reduction};
use crate::session::{Chosen, Session};
use keops::data::{Buffer, DType, Element};
use keops::genred::Place;
use ndarray::ArrayD;
use serde_json::json;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  keops bench
  keops bench --points 30000 --dtype f64 --threads 1 --json

The best of repeated calls, compiled before; nothing else should run meanwhile.
benches/rows.json of the repository has many more rows, beside other libraries.";

/// Measure some reductions on this machine: time, and time per pair of points
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Command {
    /// Points on each side
    #[arg(long, default_value_t = 10_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    points: u32,
    /// Type of the arrays
    #[arg(long, value_enum, default_value_t = TypeName::F32, value_name = "TYPE")]
    dtype: TypeName,
    /// Seconds for each row, at least three calls
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    seconds: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (0.0..=3600.0).contains(&s) => Ok(s),
        _ => Err("expected a number of seconds from 0 to 3600".into()),
    }
}

/// A row: its variables are x and y of some dimension, b of dimension 1, and the cotangent.
struct Row {
    name: &'static str,
    formula: &'static str,
    reduction: &'static str,
    k: Option<usize>,
    dim: usize,
    gradient: bool,
}

const GAUSS: &str = "Exp(-SqDist(x, y)) * b";
const ROWS: [Row; 7] = [
    row("Gaussian product, D = 3", GAUSS, "Sum", None, 3, false),
    row("its gradient in x", GAUSS, "Sum", None, 3, true),
    row("Gaussian product, D = 50", GAUSS, "Sum", None, 50, false),
    row("inverse distances, D = 3", "b / (1 + Norm2(x - y))", "Sum", None, 3, false),
    row("log-sum-exp, D = 3", "b - SqDist(x, y)", "LogSumExp", None, 3, false),
    row("nearest, D = 3", "SqDist(x, y) + 0 * b", "ArgMin", None, 3, false),
    row("ten nearest, D = 3", "SqDist(x, y) + 0 * b", "ArgKMin", Some(10), 3, false),
];

const fn row(
    name: &'static str,
    formula: &'static str,
    reduction: &'static str,
    k: Option<usize>,
    dim: usize,
    gradient: bool,
) -> Row {
    Row { name, formula, reduction, k, dim, gradient }
}

/// Numbers in (0, 1) that are spread evenly (multiples of the golden ratio; Weyl 1916), others for
/// each seed.
fn spread(rows: usize, dim: usize, seed: usize, dtype: DType) -> Done<Buffer> {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let value = |k: usize| ((k + 7919 * seed + 1) as f64 * golden * (1.0 + seed as f64)).fract();
    macro_rules! made {
        ($t:ty) => {{
            let mut values: Vec<$t> = crate::memory::room(rows * dim)?;
            values.extend((0..rows * dim).map(|k| <$t>::of_f64(value(k))));
            <$t>::buffer(ArrayD::from_shape_vec(vec![rows, dim], values)?)
        }};
    }
    Ok(match dtype {
        DType::F16 => made!(half::f16),
        DType::BF16 => made!(half::bf16),
        DType::F32 => made!(f32),
        DType::F64 => made!(f64),
    })
}

pub fn run(c: &Command, session: &Session) -> Done {
    let n = c.points as usize;
    let dtype = DType::from(c.dtype);
    let pairs = n as f64 * n as f64;
    let device = Chosen.device(n as u64 * n as u64).backend().target();
    let threads = rayon::current_num_threads();
    let (mut rows, mut text) = (vec![], String::new());
    text += &format!("{n} x {n} points, {}, {device}, {threads} threads\n", dtype.name());
    text += &format!("{:<28}{:>12}{:>14}{:>10}\n", "", "ms", "ns per pair", "calls");
    for r in &ROWS {
        let reduction =
            Reduction { reduction: r.reduction.into(), k: r.k, weight: None, axis: AxisName::J };
        let aliases =
            [format!("x = Vi({})", r.dim), format!("y = Vj({})", r.dim), "b = Vj(1)".into()];
        let f = reduction.of(r.formula, &aliases)?;
        let f = if r.gradient { f.vjp("x")? } else { f };
        let mut arrays =
            vec![spread(n, r.dim, 0, dtype)?, spread(n, r.dim, 1, dtype)?, spread(n, 1, 2, dtype)?];
        if r.gradient {
            arrays.push(spread(n, 1, 3, dtype)?);
        }
        let views: Vec<_> = arrays.iter().filter_map(Buffer::view).collect();
        f.run(&views)?; // compiles
        let (mut best, mut calls, begun) = (Duration::MAX, 0, Instant::now());
        while calls < 3 || begun.elapsed().as_secs_f64() < c.seconds {
            let start = Instant::now();
            f.run(&views)?;
            best = best.min(start.elapsed());
            calls += 1;
        }
        let time = best.as_secs_f64();
        let each = time / pairs * 1e9;
        rows.push(json!({
            "name": r.name, "formula": r.formula, "reduction": r.reduction, "dim": r.dim,
            "seconds": time, "ns_per_pair": each, "calls": calls,
        }));
        text += &format!("{:<28}{:>12.3}{each:>14.4}{calls:>10}\n", r.name, time * 1e3);
    }
    let report = json!({
        "points": n, "dtype": dtype.name(), "device": device, "threads": threads, "rows": rows,
    });
    session.report(&report, &text)
}

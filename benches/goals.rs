//! Every row of `rows.json`: generated code, beside code written by hand where there is some.
//!
//! - `cargo bench --bench goals -- [filter]`: with criterion. `^gaussian/f32` is one row.
//! - `cargo bench --bench goals -- --serve`: answers `scripts/bench/compare.py`, line by line.

#[cfg(target_arch = "x86_64")]
#[allow(dead_code, reason = "not every kernel has a row")]
mod handwritten;
mod rows;

use criterion::{Criterion, SamplingMode, Throughput};
use keops::cpu::{Cpu, Level};
use keops::data::{Buffer, Element};
use ndarray::ArrayD;
use ndarray_npy::{ReadableElement, WritableElement, read_npy, write_npy};
use rows::{Kind, Problem, Row, Runs};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn main() {
    let done = if std::env::args().any(|a| a == "--serve") { serve() } else { measure() };
    if let Err(e) = done {
        eprintln!("{e}");
        std::process::exit(1);
    }
}

/// With criterion, on numbers made here.
fn measure() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
        .configure_from_args();
    for row in Row::all() {
        compare::<f32>(&mut criterion, &row)?;
        compare::<f64>(&mut criterion, &row)?;
    }
    criterion.final_summary();
    Ok(())
}

fn compare<T: rows::Real>(criterion: &mut Criterion, row: &Row) -> Result<(), Box<dyn Error>> {
    let cpu = Cpu::new();
    let mut group = criterion.benchmark_group(format!("{}/{}", row.name, T::DTYPE.name()));
    let problem = Problem::<T>::new(row, cpu, |name, shape| row.values(name, shape))?;
    if matches!(row.kind, Kind::Reduce | Kind::Ranges) {
        group.throughput(Throughput::Elements(problem.pairs() as u64));
    }
    if row.kind == Kind::Solve {
        group.sampling_mode(SamplingMode::Flat);
    }
    problem.run()?;
    for (name, run) in problem.runs(cpu.level()) {
        group.bench_function(name, |b| b.iter(&run));
    }
    group.finish();
    Ok(())
}

/// What the script asks for.
#[derive(Deserialize)]
struct Request {
    row: String,
    dtype: String,
    /// A name of [`Problem::runs`]; AVX2 code where it ends so.
    contender: String,
    /// A folder of arrays, `name.npy`.
    data: PathBuf,
    /// Runs until so much time has gone by.
    seconds: f64,
    /// Where the result goes, if it is wanted.
    result: Option<PathBuf>,
}

/// The answer; no time where there is no such contender.
#[derive(Serialize, Default)]
struct Answer {
    /// Seconds of every run, those of short ones together.
    seconds: Vec<f64>,
    pairs: usize,
    error: Option<String>,
}

/// What follows the name of a contender that is not to use the best level.
const AVX2: &str = ", AVX2";

/// Answers requests on standard input, until it ends.
fn serve() -> Result<(), Box<dyn Error>> {
    let all = Row::all();
    let mut single: Problems<f32> = HashMap::new();
    let mut double: Problems<f64> = HashMap::new();
    for line in std::io::stdin().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let row = all.iter().find(|r| r.name == request.row).ok_or("no such row")?;
        let answer = match &*request.dtype {
            "f32" => answer(&request, row, &mut single),
            _ => answer(&request, row, &mut double),
        };
        let answer =
            answer.unwrap_or_else(|e| Answer { error: Some(e.to_string()), ..Answer::default() });
        println!("{}", serde_json::to_string(&answer)?);
    }
    Ok(())
}

/// Problems stay for the whole process.
type Problems<T> = HashMap<(String, Level), (&'static Problem<T>, Runs<'static>)>;

fn answer<T: rows::Real + ReadableElement + WritableElement>(
    request: &Request,
    row: &Row,
    known: &mut Problems<T>,
) -> Result<Answer, Box<dyn Error>> {
    let (contender, cpu) = match request.contender.strip_suffix(AVX2) {
        Some(name) => (name, Cpu::with_level(Level::Avx2)?),
        None => (&*request.contender, Cpu::new()),
    };
    let key = (row.name.clone(), cpu.level());
    if !known.contains_key(&key) {
        let mut failed = None;
        let array = |name: &str, shape: &[usize]| {
            read(&request.data.join(format!("{name}.npy"))).unwrap_or_else(|e| {
                failed = Some(e);
                ArrayD::from_elem(shape, T::of_f64(0.0))
            })
        };
        let problem = Problem::<T>::new(row, cpu, array)?;
        failed.map_or(Ok(()), Err)?;
        let problem: &'static Problem<T> = Box::leak(Box::new(problem));
        known.insert(key.clone(), (problem, problem.runs(cpu.level())));
    }
    let (problem, runs) = &known[&key];
    let mut answer = Answer { pairs: problem.pairs(), ..Answer::default() };
    let Some((_, run)) = runs.iter().find(|(name, _)| *name == contender) else {
        return Ok(answer);
    };
    if let Some(path) = &request.result {
        let result = problem.run()?.pop().ok_or("no result")?;
        match result {
            Buffer::I64(a) => write_npy(path, &a)?,
            other => write_npy(path, &other.to_f64())?,
        }
        return Ok(answer);
    }
    let start = Instant::now();
    run();
    // Short runs are timed by the thousand, or for about a millisecond.
    let once = start.elapsed().as_secs_f64();
    let many = (1e-3 / once).clamp(1.0, 1000.0) as u32;
    let start = Instant::now();
    while answer.seconds.is_empty() || start.elapsed().as_secs_f64() < request.seconds {
        let start = Instant::now();
        (0..many).for_each(|_| run());
        answer.seconds.push(start.elapsed().as_secs_f64() / f64::from(many));
    }
    Ok(answer)
}

fn read<T: Element + ReadableElement>(path: &Path) -> Result<ArrayD<T>, Box<dyn Error>> {
    read_npy(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

//! Registers one shape to another and leaves a report, shapes, a ParaView series and a picture.
//!
//! ```sh
//! cargo run --release --example registration                    # two built-in surfaces
//! cargo run --release --example registration -- --curves        # two built-in curves
//! cargo run --release --example registration -- a.ply b.ply --sigma 10 --gamma 1
//! ```
//!
//! Ctrl-C (and SIGTERM) ends the minimisation; what was reached is written, with a checkpoint from
//! which `--resume` goes on, bit for bit as if there had been no interruption. Checkpoints are also
//! written on the way, so that a run that is killed loses little. The exit code is 0 for a run that
//! ended by itself, 130 for one that was interrupted, 1 for an error and where the report could not
//! be printed (results are written before).

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use keops::Auto;
use keops::lddmm::Real;
use keops::lddmm::attachment::{
    Attachment, Landmarks, Matching, current, measure, oriented_varifold, varifold,
};
use keops::lddmm::export::{ExportError, earlier_results, export};
use keops::lddmm::kernel::Kernel;
use keops::lddmm::registration::{
    Autosave, Checkpoint, Every, Limits, Observer, Options, Progress, Stop,
};
use keops::lddmm::shooting::Integrator;
use keops::shapes::Shape;
use keops::shapes::builtin::{curve_pair, surface_pair};
use keops::shapes::distance::distances;
use keops::shapes::io::read_shape;

/// Registers a source shape to a target by geodesic shooting (LDDMM).
///
/// Without files a pair of built-in shapes is registered. Lengths are in units of the coordinates;
/// kernels are exp(-|x-y|²/σ²).
#[derive(Parser, Debug)]
#[command(name = "registration")]
struct Arguments {
    /// Source shape: VTK, PLY, OBJ, STL or npy
    #[arg(requires = "target")]
    source: Option<PathBuf>,
    /// Target shape
    target: Option<PathBuf>,
    /// Register built-in planar curves rather than surfaces
    #[arg(long, conflicts_with = "source")]
    curves: bool,
    /// Resolution of the built-in shapes
    #[arg(long, default_value_t = 3, conflicts_with = "source", value_parser = clap::value_parser!(u8).range(0..=6))]
    level: u8,
    /// Scale σ of the deformations [default: 0.2 of the size of the source]
    #[arg(long, allow_negative_numbers = true)]
    sigma: Option<f64>,
    /// Distance between shapes
    #[arg(long, value_enum, default_value_t = Family::Varifold)]
    attachment: Family,
    /// Scale σ of the attachment [default: 0.2 of the size of the source]
    #[arg(long, allow_negative_numbers = true)]
    varifold_sigma: Option<f64>,
    /// Weight of the energy [default: 1e-4 A(0)/m², with the attachment and the mean distance m
    /// before]
    #[arg(long, allow_negative_numbers = true)]
    gamma: Option<f64>,
    /// Steps of the flow
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Integrator of the flow: euler, midpoint, heun, ralston, rk4 or implicit-midpoint
    #[arg(long, default_value_t = Integrator::Ralston)]
    integrator: Integrator,
    /// Most iterations of L-BFGS
    #[arg(long, default_value_t = 100)]
    iterations: usize,
    /// Stop when an iteration lowers the cost by at most this part of it
    #[arg(long, default_value_t = 1e-6)]
    tolerance: f64,
    /// Compute in single precision
    #[arg(long)]
    f32: bool,
    /// Folder of the results
    #[arg(long, default_value = "out/registration")]
    out: PathBuf,
    /// Replace the results of another run in that folder
    #[arg(long)]
    overwrite: bool,
    /// Go on from the checkpoint in that folder (with the options of the first run; --iterations
    /// counts from its start)
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Write a checkpoint every so many iterations (20) or seconds (60s)
    #[arg(long, default_value = "30s", value_parser = every)]
    checkpoint: Every,
}

fn every(text: &str) -> Result<Every, String> {
    let number = |text: &str| match text.parse::<u64>() {
        Ok(n) if n > 0 => Ok(n),
        _ => {
            Err("expected a number of iterations (20) or of seconds (60s), at least 1".to_string())
        }
    };
    Ok(match text.strip_suffix('s') {
        Some(seconds) => Every::Time(Duration::from_secs(number(seconds)?)),
        None => Every::Iterations(number(text)? as usize),
    })
}

/// The checkpoint in the folder of the results.
const CHECKPOINT: &str = "checkpoint.keops";

#[derive(Clone, Copy, PartialEq, Debug, ValueEnum)]
enum Family {
    /// k ⟨u,u'⟩² per size: orientation does not matter
    Varifold,
    /// Gaussian of the directions, orientation matters
    Oriented,
    /// k ⟨n,n'⟩: orientation matters
    Current,
    /// Sizes only; for point clouds
    Measure,
    /// Vertices in correspondence
    Landmarks,
}

/// Prints what can be printed: a full disk or a closed pipe is no reason to lose a result.
#[derive(Default)]
struct Printer {
    failed: bool,
}

impl Printer {
    fn say(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        self.failed |= writeln!(out, "{text}").and_then(|()| out.flush()).is_err();
    }
}

/// As [`Printer::say`], to standard error, which has no part in the exit code.
fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut printer = Printer::default();
    let done = if arguments.f32 {
        run::<f32>(&arguments, &mut printer)
    } else {
        run::<f64>(&arguments, &mut printer)
    };
    match done {
        // As a shell reports a program that Ctrl-C ended.
        Ok(Stop::Interrupted) => ExitCode::from(130),
        Ok(_) if printer.failed => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            warn(&format!("error: {e}"));
            ExitCode::FAILURE
        }
    }
}

/// The checkpoint to go on from. Before the work, not after it, the folder is made and looked at.
fn prepare(a: &Arguments, file: &Path) -> Result<Option<Checkpoint>, Box<dyn Error>> {
    std::fs::create_dir_all(&a.out).map_err(|e| format!("{}: {e}", a.out.display()))?;
    if a.resume {
        let read = Checkpoint::read(file);
        return Ok(Some(read.map_err(|e| format!("--resume: {}: {e}", file.display()))?));
    }
    let mut found = earlier_results(&a.out)?;
    if file.try_exists()? {
        found.push(CHECKPOINT.into());
    }
    if !a.overwrite && !found.is_empty() {
        return Err(format!(
            "{} holds another run ({}): --overwrite replaces it, --resume goes on with it, --out \
             gives another folder",
            a.out.display(),
            found.join(", ")
        )
        .into());
    }
    Ok(None)
}

fn run<F: Real>(a: &Arguments, printer: &mut Printer) -> Result<Stop, Box<dyn Error>> {
    let file = a.out.join(CHECKPOINT);
    let checkpoint = prepare(a, &file)?;
    let (source, target, title) = shapes(a, printer)?;
    let options = options(a, &source, &target)?;
    let registration = keops::registration::<F, _>(&source, &target, &options)?;
    let mut watch = Watch::new(a.iterations)?;
    let bar = watch.bar.clone();
    let mut saving = Autosave::new(&file, a.checkpoint, &mut watch);
    let done = match &checkpoint {
        Some(checkpoint) => registration.resume(checkpoint, &mut saving),
        None => registration.run(None, &mut saving),
    };
    bar.finish_and_clear();
    if let Some(e) = saving.failure() {
        warn(&format!("the last checkpoint was not written: {e}"));
    }
    let reached = match &done {
        Ok(outcome) => Some(&outcome.checkpoint),
        Err(e) => e.checkpoint.as_deref(),
    };
    let saved = reached.map(|c| c.write(&file)).transpose();
    if let Err(e) = &saved {
        warn(&format!("the checkpoint was not written: {e}"));
    }
    // What was reached is kept, whatever went wrong: here, or in the checkpoint.
    let kept = match saved {
        Ok(Some(())) => format!("; what was reached is in {} (--resume)", file.display()),
        _ => String::new(),
    };
    let outcome = done.map_err(|e| format!("{e}{kept}"))?;
    let files = export(&a.out, &title, &registration, &outcome).map_err(|e| match e {
        ExportError::Views { .. } => format!("not all was written: {e}{kept}"),
        _ => format!("the results were not written: {e}{kept}"),
    })?;
    printer.say(&outcome.report.to_string());
    let files = files.join(", ");
    printer.say(&format!("results            {}: {files}, {CHECKPOINT}", a.out.display()));
    Ok(outcome.report.stop)
}

/// The options asked for; scales and weights that were not given come from the shapes.
fn options(a: &Arguments, source: &Shape, target: &Shape) -> Result<Options, Box<dyn Error>> {
    let diagonal = |shape: &Shape| {
        let (low, high) = shape.bounding_box();
        let edge = high - low;
        edge.dot(&edge).sqrt()
    };
    let size = diagonal(source);
    let scale = |name: &str, given: Option<f64>| match given {
        Some(sigma) => Ok(sigma),
        None if size > 0.0 => Ok(round(0.2 * size)),
        None => Err(format!(
            "--{name} is needed: the points of the source coincide, so that it has no size"
        )),
    };
    let wide = || -> Result<Kernel, Box<dyn Error>> {
        let sigma = scale("varifold-sigma", a.varifold_sigma)?;
        Ok(Kernel::gaussian(sigma).map_err(|e| format!("attachment: {e}"))?)
    };
    let attachment: Arc<dyn Attachment> = match a.attachment {
        Family::Varifold => Arc::new(varifold(wide()?)),
        Family::Oriented => Arc::new(oriented_varifold(wide()?, 0.5)),
        Family::Current => Arc::new(current(wide()?)),
        Family::Measure => Arc::new(measure(wide()?)),
        Family::Landmarks => Arc::new(Landmarks),
    };
    let gamma = match a.gamma {
        Some(gamma) => gamma,
        None => {
            let matching = Matching::<f64>::new(&attachment, source, target, &Auto)?;
            let mean = distances(source, target)?.mean();
            let gamma = round(1e-4 * matching.value(source.vertices())? / (mean * mean));
            if gamma.is_finite() { gamma } else { 0.0 }
        }
    };
    let sigma = scale("sigma", a.sigma)?;
    let kernel = Kernel::gaussian(sigma).map_err(|e| format!("deformation: {e}"))?;
    Ok(Options {
        gamma,
        integrator: a.integrator,
        steps: a.steps,
        limits: Limits {
            iterations: a.iterations,
            cost_tolerance: a.tolerance,
            ..Limits::default()
        },
        ..Options::new(kernel, attachment)
    })
}

/// Source, target and a title.
fn shapes(a: &Arguments, printer: &mut Printer) -> Result<(Shape, Shape, String), Box<dyn Error>> {
    let (Some(source), Some(target)) = (&a.source, &a.target) else {
        let (source, target) =
            if a.curves { curve_pair(25 << a.level)? } else { surface_pair(usize::from(a.level))? };
        return Ok((source, target, "Registration of built-in shapes".into()));
    };
    let mut read = |path: &PathBuf| -> Result<Shape, Box<dyn Error>> {
        let (shape, report) = read_shape(path)?;
        printer.say(&format!("{}: {report}", path.display()));
        let (shape, left_out) = shape
            .cleaned()
            .map_err(|e| format!("{}: without degenerate cells {e}", path.display()))?;
        if !left_out.is_empty() {
            printer.say(&format!("{}: {left_out}", path.display()));
        }
        Ok(shape)
    };
    let (mut s, mut t) = (read(source)?, read(target)?);
    // Curves in the plane z = 0 are planar.
    if let (Ok(planar_s), Ok(planar_t)) = (s.to_planar(), t.to_planar()) {
        (s, t) = (planar_s, planar_t);
    }
    let name = |p: &PathBuf| p.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok((s, t, format!("{} to {}", name(source), name(target))))
}

/// Two significant digits.
fn round(x: f64) -> f64 {
    format!("{x:.1e}").parse().unwrap_or(x)
}

/// A progress bar on a terminal, else a line every two seconds. Ctrl-C and SIGTERM end the
/// minimisation.
struct Watch {
    bar: ProgressBar,
    terminal: bool,
    last_line: Duration,
    interrupted: Arc<AtomicBool>,
}

impl Watch {
    fn new(iterations: usize) -> Result<Watch, Box<dyn Error>> {
        let bar = ProgressBar::new(iterations as u64);
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                // The second time at once.
                std::process::exit(130);
            }
            warn("stopping after this evaluation (once more: at once)");
        })?;
        let terminal = std::io::stderr().is_terminal();
        Ok(Watch { bar, terminal, last_line: Duration::ZERO, interrupted })
    }
}

impl Observer for Watch {
    fn iteration(&mut self, p: &Progress<'_>) -> ControlFlow<()> {
        if self.terminal {
            self.bar.set_position(p.iteration as u64);
            self.bar.set_message(format!(
                "cost {:.5e} = energy {:.2e} + attachment {:.2e}, |gradient| {:.1e}, at most {:.0} s",
                p.cost,
                p.energy,
                p.attachment,
                p.gradient_norm,
                p.remaining.as_secs_f64()
            ));
        } else if p.iteration == 1 || p.elapsed >= self.last_line + Duration::from_secs(2) {
            self.last_line = p.elapsed;
            warn(&p.to_string());
        }
        ControlFlow::Continue(())
    }
    fn evaluation(&mut self, _: usize) -> ControlFlow<()> {
        if self.interrupted.load(Ordering::SeqCst) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

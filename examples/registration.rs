//! Registers one shape to another and leaves a report, shapes, a ParaView series and a picture.
//!
//! ```sh
//! cargo run --release --example registration                    # two built-in surfaces
//! cargo run --release --example registration -- --curves        # two built-in curves
//! cargo run --release --example registration -- a.ply b.ply --sigma 10 --gamma 1
//! ```

use std::error::Error;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use keops_core::spec::Device;
use keops_lddmm::Real;
use keops_lddmm::attachment::{Attachment, Matching};
use keops_lddmm::builtin::{curve_pair, surface_pair};
use keops_lddmm::distance::distances;
use keops_lddmm::export::export;
use keops_lddmm::io::read_shape;
use keops_lddmm::kernel::Kernel;
use keops_lddmm::registration::{Limits, Observer, Options, Progress, Registration, Stop};
use keops_lddmm::shape::Shape;
use keops_lddmm::shooting::Scheme;

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
    /// Scheme of the flow: euler, midpoint, heun, ralston or rk4
    #[arg(long, default_value_t = Scheme::Ralston)]
    scheme: Scheme,
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
}

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

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.f32 { run::<f32>(&arguments) } else { run::<f64>(&arguments) };
    match done {
        // As a shell reports a program that Ctrl-C ended.
        Ok(Stop::Interrupted) => ExitCode::from(130),
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run<F: Real>(a: &Arguments) -> Result<Stop, Box<dyn Error>> {
    // Before the work, not after it.
    std::fs::create_dir_all(&a.out).map_err(|e| format!("{}: {e}", a.out.display()))?;
    let (source, target, title) = shapes(a)?;
    let device = Device::new(keops_cpu::Cpu::new());
    let (low, high) = source.bounding_box();
    let edge = high - low;
    let size = edge.dot(&edge).sqrt();
    let scale = |given: Option<f64>| given.unwrap_or_else(|| round(0.2 * size));
    let kernel =
        Kernel::gaussian(scale(a.varifold_sigma)).map_err(|e| format!("attachment: {e}"))?;
    let attachment = match a.attachment {
        Family::Varifold => Attachment::Varifold { kernel },
        Family::Oriented => Attachment::OrientedVarifold { kernel, normal_sigma: 0.5 },
        Family::Current => Attachment::Current { kernel },
        Family::Measure => Attachment::Measure { kernel },
        Family::Landmarks => Attachment::Landmarks,
    };
    let gamma = match a.gamma {
        Some(gamma) => gamma,
        None => {
            let matching = Matching::<f64>::new(&attachment, &source, &target, &device)?;
            let mean = distances(&source, &target)?.mean();
            let gamma = round(1e-4 * matching.value(source.vertices())? / (mean * mean));
            if gamma.is_finite() { gamma } else { 0.0 }
        }
    };
    let options = Options {
        kernel: Kernel::gaussian(scale(a.sigma)).map_err(|e| format!("deformation: {e}"))?,
        attachment,
        gamma,
        scheme: a.scheme,
        steps: a.steps,
        control_points: None,
        limits: Limits {
            iterations: a.iterations,
            cost_tolerance: a.tolerance,
            ..Limits::default()
        },
    };
    let registration = Registration::<F>::new(&source, &target, &options, &device)?;
    let mut watch = Watch::new(a.iterations)?;
    let outcome = registration.run(None, &mut watch)?;
    watch.bar.finish_and_clear();
    println!("{}", outcome.report);
    let files = export(&a.out, &title, &registration, &outcome)?;
    println!("results            {}: {}", a.out.display(), files.join(", "));
    Ok(outcome.report.stop)
}

/// Source, target and a title.
fn shapes(a: &Arguments) -> Result<(Shape, Shape, String), Box<dyn Error>> {
    let (Some(source), Some(target)) = (&a.source, &a.target) else {
        let (source, target) =
            if a.curves { curve_pair(25 << a.level)? } else { surface_pair(usize::from(a.level))? };
        return Ok((source, target, "Registration of built-in shapes".into()));
    };
    let read = |path: &PathBuf| -> Result<Shape, Box<dyn Error>> {
        let (shape, report) = read_shape(path)?;
        println!("{}: {report}", path.display());
        let (shape, left_out) = shape
            .cleaned()
            .map_err(|e| format!("{}: without degenerate cells {e}", path.display()))?;
        if !left_out.is_empty() {
            println!("{}: {left_out}", path.display());
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

/// A progress bar on a terminal, else a line every two seconds. Ctrl-C ends the minimisation; what
/// was reached is written.
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
            eprintln!("stopping after this evaluation (once more: at once)");
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
            eprintln!("{p}");
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

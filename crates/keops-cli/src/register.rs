//! `keops register`: one shape to another; leaves a report, shapes, a ParaView series and a picture.
//!
//! Ctrl-C (and SIGTERM) ends the minimisation; what was reached is written, with a checkpoint from
//! which `--resume` goes on, bit for bit as if there had been no interruption. Checkpoints are also
//! written on the way, so that a run that is killed loses little.

use crate::failure::{About, Done, Failure, error};
use crate::session::{Chosen, Session, catch_interruption, interrupted, say};
use crate::shapes::{Family, read_pair, round, scale};
use indicatif::{ProgressBar, ProgressStyle};
use keops::lddmm::Real;
use keops::lddmm::attachment::Matching;
use keops::lddmm::export::{ExportError, earlier_results, export};
use keops::lddmm::kernel::Kernel;
use keops::lddmm::registration::{
    Autosave, Checkpoint, Every, Limits, Observer, Options, Progress, Registration, Stop,
};
use keops::lddmm::shooting::Integrator;
use keops::shapes::Shape;
use keops::shapes::builtin::{curve_pair, surface_pair};
use keops::shapes::distance::distances;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  # two built-in surfaces, to see what comes out
  keops register

  keops register a.ply b.ply --sigma 10 --gamma 1 --out out/a-to-b
  keops register a.ply b.ply --out out/a-to-b --resume --iterations 500

The folder gets report.json, the shapes as VTK, the momenta, a series of the
deformation for ParaView, a picture (SVG) and a checkpoint. Ctrl-C ends the run
and writes what was reached; --resume goes on from there, bit for bit.";

/// Register a shape to another by geodesic shooting (LDDMM)
///
/// Without files a pair of built-in shapes is registered. Lengths are in units of the coordinates;
/// kernels are exp(-|x-y|²/σ²).
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Command {
    /// Source shape: VTK, PLY, OBJ, STL or npy
    #[arg(requires = "target")]
    source: Option<PathBuf>,
    /// Target shape
    target: Option<PathBuf>,
    /// Register built-in planar curves rather than surfaces
    #[arg(long, conflicts_with = "source")]
    curves: bool,
    /// Resolution of the built-in shapes, from 0 to 6
    #[arg(long, default_value_t = 3, conflicts_with = "source", value_name = "N",
          value_parser = clap::value_parser!(u8).range(0..=6))]
    resolution: u8,
    /// Scale σ of the deformations [default: 0.2 of the size of the source]
    #[arg(long, allow_negative_numbers = true)]
    sigma: Option<f64>,
    /// Distance between shapes
    #[arg(long, value_enum, default_value_t = Family::Varifold)]
    attachment: Family,
    /// Scale σ of the attachment [default: 0.2 of the size of the source]
    #[arg(long, allow_negative_numbers = true, value_name = "SIGMA")]
    attachment_sigma: Option<f64>,
    /// Weight of the energy [default: 1e-4 A(0)/m², with the attachment and
    /// the mean distance m before]
    #[arg(long, allow_negative_numbers = true)]
    gamma: Option<f64>,
    /// Steps of the flow
    #[arg(long, default_value_t = 10, value_name = "N")]
    steps: usize,
    /// Integrator of the flow: euler, midpoint, heun, ralston, rk4 or
    /// implicit-midpoint
    #[arg(long, default_value_t = Integrator::Ralston, value_name = "NAME")]
    integrator: Integrator,
    /// Most iterations of L-BFGS
    #[arg(long, default_value_t = 100, value_name = "N")]
    iterations: usize,
    /// Stop when an iteration lowers the cost by at most this part of it
    #[arg(long, default_value_t = 1e-6)]
    tolerance: f64,
    /// Compute in single precision
    #[arg(long)]
    f32: bool,
    /// Folder of the results; --force replaces those of another run
    #[arg(long, default_value = "out/registration", value_name = "FOLDER")]
    out: PathBuf,
    /// Go on from the checkpoint in that folder (with the options of the first
    /// run; --iterations counts from its start)
    #[arg(long, conflicts_with = "force")]
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

pub fn run(c: &Command, session: &Session) -> Done {
    if c.f32 { register::<f32>(c, session) } else { register::<f64>(c, session) }
}

/// The checkpoint to go on from. Before the work, not after it, the folder is made and looked at.
fn prepare(c: &Command, session: &Session, file: &Path) -> Done<Option<Checkpoint>> {
    std::fs::create_dir_all(&c.out).about(c.out.display())?;
    if c.resume {
        return Ok(Some(Checkpoint::read(file).about(format!("--resume: {}", file.display()))?));
    }
    let mut found = earlier_results(&c.out)?;
    if file.try_exists()? {
        found.push(CHECKPOINT.into());
    }
    if !session.force && !found.is_empty() {
        return error(format!(
            "{} holds another run ({}): --force replaces it, --resume goes on with it, --out gives \
             another folder",
            c.out.display(),
            found.join(", ")
        ));
    }
    Ok(None)
}

fn register<F: Real>(c: &Command, session: &Session) -> Done {
    let file = c.out.join(CHECKPOINT);
    let checkpoint = prepare(c, session, &file)?;
    let (source, target, title) = shapes(c, session)?;
    let options = options(c, &source, &target)?;
    let registration = Registration::<F>::new(&source, &target, &options, &Chosen)?;
    catch_interruption()?;
    let mut watch = Watch::new(c.iterations, session)?;
    let bar = watch.bar.clone();
    let mut saving = Autosave::new(&file, c.checkpoint, &mut watch);
    let done = match &checkpoint {
        Some(checkpoint) => registration.resume(checkpoint, &mut saving),
        None => registration.run(None, &mut saving),
    };
    bar.finish_and_clear();
    if let Some(e) = saving.failure() {
        session.note(&format!("the last checkpoint was not written: {e}"));
    }
    let reached = match &done {
        Ok(outcome) => Some(&outcome.checkpoint),
        Err(e) => e.checkpoint.as_deref(),
    };
    let saved = reached.map(|c| c.write(&file)).transpose();
    if let Err(e) = &saved {
        session.note(&format!("the checkpoint was not written: {e}"));
    }
    // What was reached is kept, whatever went wrong: here, or in the checkpoint.
    let kept = match saved {
        Ok(Some(())) => format!("; what was reached is in {} (--resume)", file.display()),
        _ => String::new(),
    };
    let failed = |e: String| Failure::Error(format!("{e}{kept}"));
    let outcome = done.map_err(|e| failed(e.to_string()))?;
    let files = export(&c.out, &title, &registration, &outcome).map_err(|e| match e {
        ExportError::Views { .. } => failed(format!("not all was written: {e}")),
        _ => failed(format!("the results were not written: {e}")),
    })?;
    let text = format!(
        "{}\nresults            {}: {}, {CHECKPOINT}",
        outcome.report,
        c.out.display(),
        files.join(", ")
    );
    let told = match session.json {
        true => say(&serde_json::to_string(&outcome.report)?),
        false => say(&text),
    };
    match outcome.report.stop {
        // Whether the report could be printed or not.
        Stop::Interrupted => Err(Failure::Interrupted),
        _ => told,
    }
}

/// The options asked for; scales and weights that were not given come from the shapes.
fn options(c: &Command, source: &Shape, target: &Shape) -> Done<Options> {
    let wide = || scale("--attachment-sigma", c.attachment_sigma, source);
    let attachment = c.attachment.attachment(wide)?;
    let gamma = match c.gamma {
        Some(gamma) => gamma,
        None => {
            let matching = Matching::<f64>::new(&attachment, source, target, &Chosen)?;
            let mean = distances(source, target)?.mean();
            let gamma = round(1e-4 * matching.value(source.vertices())? / (mean * mean));
            if gamma.is_finite() { gamma } else { 0.0 }
        }
    };
    let kernel = Kernel::gaussian(scale("--sigma", c.sigma, source)?).about("deformation")?;
    Ok(Options {
        gamma,
        integrator: c.integrator,
        steps: c.steps,
        limits: Limits {
            iterations: c.iterations,
            cost_tolerance: c.tolerance,
            ..Limits::default()
        },
        ..Options::new(kernel, attachment)
    })
}

/// Source, target and a title.
fn shapes(c: &Command, session: &Session) -> Done<(Shape, Shape, String)> {
    let (Some(source), Some(target)) = (&c.source, &c.target) else {
        let (source, target) = match c.curves {
            true => curve_pair(25 << c.resolution)?,
            false => surface_pair(usize::from(c.resolution))?,
        };
        return Ok((source, target, "Registration of built-in shapes".into()));
    };
    let (s, t) = read_pair(source, target, session)?;
    let name = |p: &PathBuf| p.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok((s, t, format!("{} to {}", name(source), name(target))))
}

/// A progress bar on a terminal, else a line every two seconds.
struct Watch<'s> {
    bar: ProgressBar,
    session: &'s Session,
    terminal: bool,
    last_line: Duration,
}

impl<'s> Watch<'s> {
    fn new(iterations: usize, session: &'s Session) -> Done<Watch<'s>> {
        let bar = match session.shows_progress() {
            true => ProgressBar::new(iterations as u64),
            false => ProgressBar::hidden(),
        };
        bar.set_style(ProgressStyle::with_template("{bar:20} {pos}/{len} {msg}")?);
        let terminal = std::io::stderr().is_terminal();
        Ok(Watch { bar, session, terminal, last_line: Duration::ZERO })
    }
}

impl Observer for Watch<'_> {
    fn iteration(&mut self, p: &Progress<'_>) -> ControlFlow<()> {
        if self.terminal {
            self.bar.set_position(p.iteration as u64);
            self.bar.set_message(format!(
                "cost {:.4e}, |gradient| {:.1e}, at most {:.0} s",
                p.cost,
                p.gradient_norm,
                p.remaining.as_secs_f64()
            ));
        } else if self.session.shows_progress()
            && (p.iteration == 1 || p.elapsed >= self.last_line + Duration::from_secs(2))
        {
            self.last_line = p.elapsed;
            self.session.note(&p.to_string());
        }
        ControlFlow::Continue(())
    }
    fn evaluation(&mut self, _: usize) -> ControlFlow<()> {
        if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

//! `keops distance`: how far two shapes are from each other.

use crate::failure::Done;
use crate::session::{Chosen, Session};
use crate::shapes::{Family, read_pair, scale};
use keops::lddmm::attachment::Matching;
use keops::shapes::distance::{OneSided, distances};
use serde_json::json;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  keops distance a.ply b.ply
  keops distance a.ply b.ply --attachment varifold --sigma 5 --json

Distances are those of vertices to the nearest point of the other shape: of each
vertex of the first (forward) and of the second (backward).";

/// Measure how far two shapes are from each other
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Command {
    /// First shape: VTK, PLY, OBJ, STL or npy
    first: PathBuf,
    /// Second shape
    second: PathBuf,
    /// Also the squared distance that registrations minimise
    #[arg(long, value_enum)]
    attachment: Option<Family>,
    /// Scale σ of the attachment [default: 0.2 of the size of the first]
    #[arg(long, requires = "attachment", allow_negative_numbers = true)]
    sigma: Option<f64>,
}

pub fn run(c: &Command, session: &Session) -> Done {
    let (a, b) = read_pair(&c.first, &c.second, session)?;
    let found = distances(&a, &b)?;
    let mut report = json!({
        "forward": found.forward,
        "backward": found.backward,
        "mean": found.mean(),
        "hausdorff": found.hausdorff(),
    });
    let row = |name: &str, d: &OneSided| {
        format!("{name:<10}{:>12.5e}{:>12.5e}{:>12.5e}{:>12.5e}\n", d.mean, d.rms, d.p95, d.max)
    };
    let mut text = format!("{:<10}{:>12}{:>12}{:>12}{:>12}\n", "", "mean", "rms", "95 %", "max");
    text += &row("forward", &found.forward);
    text += &row("backward", &found.backward);
    text += &format!("hausdorff {:>12.5e}\n", found.hausdorff());
    if let Some(family) = c.attachment {
        let attachment = family.attachment(|| scale("--sigma", c.sigma, &a))?;
        let value = Matching::<f64>::new(&attachment, &a, &b, &Chosen)?.value(a.vertices())?;
        report["attachment"] = value.into();
        text += &format!("attachment{value:>12.5e}\n");
    }
    session.report(&report, &text)
}

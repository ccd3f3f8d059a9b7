//! `keops shoot`: a shape along the geodesic that momenta begin.

use crate::data;
use crate::failure::{About, Done, error, usage};
use crate::session::{Chosen, Destination, Session};
use crate::shapes;
use keops::lddmm::kernel::Kernel;
use keops::lddmm::registration::Checkpoint;
use keops::lddmm::shooting::{Integrator, Shooting};
use keops::lddmm::state::State;
use keops::shapes::io::write_shape;
use ndarray::Array2;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  # a registration again, from what it has found (its σ is in report.json)
  keops shoot a.ply --momenta out/registration/checkpoint.keops --sigma 10 \\
      -o end.ply

  keops shoot a.ply --momenta p.npy --sigma 10 --integrator rk4 -o end.vtk

The kernel is exp(-|x-y|²/σ²); momenta are one vector for each vertex.";

/// Carry a shape along the geodesic that momenta at its vertices begin
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = EXAMPLES,
    override_usage = "keops shoot [OPTIONS] <SHAPE> --momenta <FILE> --sigma <SIGMA> -o <FILE>"
)]
pub struct Command {
    /// Shape: VTK, PLY, OBJ, STL or npy
    shape: PathBuf,
    /// Momenta: an array (vertices, dimension) in a .npy, .csv or .txt file, or
    /// a checkpoint of `keops register`
    #[arg(long, value_name = "FILE")]
    momenta: PathBuf,
    /// Scale σ of the deformation
    #[arg(long, allow_negative_numbers = true)]
    sigma: f64,
    /// Steps of the flow
    #[arg(long, default_value_t = 10, value_name = "N")]
    steps: usize,
    /// Integrator of the flow: euler, midpoint, heun, ralston, rk4 or
    /// implicit-midpoint
    #[arg(long, default_value_t = Integrator::Ralston, value_name = "NAME")]
    integrator: Integrator,
    /// File of the shape at time 1 (.vtk, .vtp, .ply, .obj or .stl)
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

pub fn run(c: &Command, session: &Session) -> Done {
    let to = Destination::new(&c.output, session)?;
    if !["vtk", "vtp", "ply", "obj", "stl"].contains(&to.extension().as_str()) {
        let name = c.output.display();
        return usage(format!("--output: {name}: expected a .vtk, .vtp, .ply, .obj or .stl file"));
    }
    let shape = shapes::read(&c.shape, session)?;
    let momenta: Array2<f64> = match c.momenta.extension().is_some_and(|e| e == "keops") {
        true => Checkpoint::read(&c.momenta).about(c.momenta.display())?.momenta().to_owned(),
        false => data::read(&c.momenta)?.matrix()?,
    };
    let shape = match (shape.dim(), momenta.ncols()) {
        (3, 2) => shape.to_planar().about(c.shape.display())?,
        _ => shape,
    };
    if momenta.dim() != shape.vertices().dim() {
        return error(format!(
            "{}: expected momenta of shape {:?}, as {} has vertices, got {:?}",
            c.momenta.display(),
            shape.vertices().dim(),
            c.shape.display(),
            momenta.dim()
        ));
    }
    if let Some(v) = momenta.iter().find(|v| !v.is_finite()) {
        return error(format!("{}: a momentum is {v}", c.momenta.display()));
    }
    let kernel = Kernel::gaussian(c.sigma).about("--sigma")?;
    let shooting: Shooting<f64> =
        Shooting::new(&kernel, shape.dim(), c.integrator, c.steps, &Chosen)?;
    let start = State::new(shape.vertices(), momenta.view())?;
    let energy = shooting.dynamics().energy(&start)?;
    let trajectory = shooting.shoot(start)?;
    let end = trajectory.end();
    let after = shooting.dynamics().energy(end)?;
    let moved = shape.with_vertices(end.q().to_owned()).about("the shape at time 1")?;
    // Written beside, then given its name with all rules of outputs.
    let beside =
        c.output.with_file_name(format!(".{}.{}.{}", std::process::id(), "shape", to.extension()));
    let bytes = write_shape(&beside, &moved)
        .about(c.output.display())
        .and_then(|()| std::fs::read(&beside).about(c.output.display()));
    let _ = std::fs::remove_file(&beside);
    let bytes = bytes?;
    to.write(|file| file.write_all(&bytes))?;
    let report = json!({
        "file": c.output.display().to_string(),
        "vertices": moved.vertex_count(),
        "energy": energy,
        "energy_at_the_end": after,
    });
    let text = format!(
        "{}: {} vertices; energy {energy:.6e}, at the end {after:.6e}",
        c.output.display(),
        moved.vertex_count()
    );
    session.report(&report, &text)
}

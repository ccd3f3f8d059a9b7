//! Files that a registration leaves in a folder.

use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView2, Axis};

use crate::builtin::grid_lines;
use crate::error::LddmmError;
use crate::io::{PointData, VtkEncoding, WriteError, write_file, write_pvd, write_vtk, write_vtp};
use crate::picture::{PictureError, RegistrationPicture};
use crate::registration::{Outcome, Registration};
use crate::shape::{Cells, Shape};
use crate::sum::{Real, narrowed, widened};

/// Why files were not written.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// use keops_lddmm::export::{ExportError, export};
/// let outcome = registration.run(None, &mut silent)?;
/// let file = std::env::temp_dir().join(format!("keops-no-folder-{}", std::process::id()));
/// std::fs::write(&file, "a file")?;
/// let e = export(file.join("below"), "", &registration, &outcome).unwrap_err();
/// assert!(matches!(&e, ExportError::Write(_)), "{e}");
/// # std::fs::remove_file(&file)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A file or the folder could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What should be written could not be computed.
    #[error(transparent)]
    Lddmm(#[from] LddmmError),
    /// The picture could not be drawn.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The report cannot be written as JSON.
    #[error("the report: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes into `folder`, which is made if need be:
///
/// | file | content |
/// |---|---|
/// | report.json | [`crate::report::Report`] |
/// | source.vtk, target.vtk, result.vtk | the shapes; the result with its displacement |
/// | momenta.vtk | landmarks at time 0 with their momenta |
/// | deformation.pvd, deformation/ | the source at every step, a time series for ParaView |
/// | picture.svg | before, deformation, after |
///
/// Returns the names of the files in the folder.
///
/// # Errors
/// [`ExportError`]; files written before it stay.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// use keops_lddmm::export::export;
/// let outcome = registration.run(None, &mut silent)?;
/// let folder = std::env::temp_dir().join(format!("keops-export-{}", std::process::id()));
/// let names = export(&folder, "A circle grows", &registration, &outcome)?;
/// assert!(names.iter().all(|name| folder.join(name).is_file()));
/// let (result, _) = keops_lddmm::io::read_shape(folder.join("result.vtk"))?;
/// assert_eq!(result.to_planar()?, outcome.result);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn export<F: Real>(
    folder: impl AsRef<Path>,
    title: &str,
    registration: &Registration<F>,
    outcome: &Outcome<F>,
) -> Result<Vec<String>, ExportError> {
    let folder = folder.as_ref();
    let series = folder.join("deformation");
    std::fs::create_dir_all(&series)
        .map_err(|source| WriteError::Io { path: series.clone(), source })?;
    let (source, target, result) = (registration.source(), registration.target(), &outcome.result);

    let json = serde_json::to_string_pretty(&outcome.report)?;
    write_file(folder.join("report.json"), (json + "\n").as_bytes())?;
    let vtk = |name: &str, shape: &Shape, data: &[PointData<'_>]| {
        write_vtk(folder.join(name), shape, data, VtkEncoding::Binary)
    };
    let displacement = &result.vertices() - &source.vertices();
    vtk("source.vtk", source, &[])?;
    vtk("target.vtk", target, &[])?;
    vtk("result.vtk", result, &[data("displacement", displacement.view())])?;
    let landmarks = Shape::new(registration.landmarks(), Cells::Points)
        .map_err(|e| LddmmError::mismatch("the landmarks", "acceptable points", e))?;
    vtk("momenta.vtk", &landmarks, &[data("momentum", outcome.momenta.view())])?;

    let states = outcome.trajectory.states();
    let mut steps: Vec<(f64, PathBuf)> = Vec::with_capacity(states.len());
    for (k, state) in states.iter().enumerate() {
        let shape = registration.deformed(state)?;
        let name = Path::new("deformation").join(format!("step_{k:04}.vtp"));
        let velocity =
            registration.shooting().dynamics().velocity(state, registration.vertices(state))?;
        let velocity = widened(velocity.view());
        let moved = &shape.vertices() - &source.vertices();
        let length = moved.map_axis(Axis(1), |v| v.dot(&v).sqrt()).insert_axis(Axis(1));
        let all = [data("velocity", velocity.view()), data("distance moved", length.view())];
        write_vtp(folder.join(&name), &shape, &all)?;
        steps.push((k as f64 / (states.len() - 1) as f64, name));
    }
    write_pvd(folder.join("deformation.pvd"), &steps)?;

    let grid = if source.dim() == 2 { Some(carried_grid(registration, outcome)?) } else { None };
    let report = &outcome.report;
    let figures = [
        ("cost", format!("{:.4} → {:.4}", report.before.cost, report.after.cost)),
        ("evaluations", report.evaluations.to_string()),
        ("energy H", format!("{:.4}", report.conservation.hamiltonian)),
        ("det of Jacobian", format!("{:.3} to {:.3}", report.jacobian.min, report.jacobian.max)),
    ];
    let picture = RegistrationPicture {
        title,
        source,
        target,
        result,
        grid: grid.as_ref(),
        figures: &figures,
    };
    write_file(folder.join("picture.svg"), picture.svg()?.as_bytes())?;
    let names = [
        "report.json",
        "source.vtk",
        "target.vtk",
        "result.vtk",
        "momenta.vtk",
        "deformation.pvd",
        "picture.svg",
    ];
    Ok(names.map(String::from).to_vec())
}

fn data<'a>(name: &'a str, values: ArrayView2<'a, f64>) -> PointData<'a> {
    PointData { name, values }
}

/// Grid lines over source and target, carried by the deformation.
fn carried_grid<F: Real>(
    registration: &Registration<F>,
    outcome: &Outcome<F>,
) -> Result<Shape, LddmmError> {
    let (low, high) = registration.source().bounding_box();
    let (low_t, high_t) = registration.target().bounding_box();
    let corner = |k: usize| (low[k].min(low_t[k]), high[k].max(high_t[k]));
    let (x, y) = (corner(0), corner(1));
    let refused = |e: &dyn std::fmt::Display| {
        LddmmError::mismatch("the grid of the picture", "acceptable points", e)
    };
    let grid = grid_lines([x.0, y.0], [x.1, y.1], 21, 81).map_err(|e| refused(&e))?;
    let centred = narrowed::<F>((&grid.vertices() - registration.centre()).view());
    let places = registration.shooting().carry(&outcome.trajectory, centred.view())?;
    let end: Array2<f64> = match places.last() {
        Some(end) => widened(end.view()) + registration.centre(),
        None => unreachable!("a flow has a first state"),
    };
    grid.with_vertices(end).map_err(|e| refused(&e))
}

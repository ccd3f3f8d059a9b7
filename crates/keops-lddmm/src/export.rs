//! Files that a registration leaves in a folder.

use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView2};

use crate::builtin::grid_lines;
use crate::error::LddmmError;
use crate::io::{PointData, Staged, VtkEncoding, WriteError};
use crate::picture::{PictureError, RegistrationPicture};
use crate::registration::{Outcome, Registration};
use crate::shape::{Cells, Shape};
use crate::sum::{Real, difference, lengths, narrowed, widened};

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
    /// The result is in the folder; the time series and the picture are not.
    #[error("{source}; the folder holds {}, without the time series and the picture", kept.join(", "))]
    Views {
        /// Files that were written.
        kept: Vec<String>,
        /// Why the others were not.
        source: Box<ExportError>,
    },
}

/// Files that hold what was found, in the order in which they are renamed: the report is last.
const RESULTS: [&str; 5] = [MOMENTA, "result.vtk", "source.vtk", "target.vtk", "report.json"];
/// Files that show it, beside the time series.
const VIEWS: [&str; 2] = ["deformation.pvd", "picture.svg"];
/// Landmarks at time 0 with their momenta; of a model without landmarks there is no such file.
const MOMENTA: &str = "momenta.vtk";
/// Folder of the time series.
const SERIES: &str = "deformation";

/// What of an earlier [`export`] is in a folder: the names of its files, without the time series.
///
/// # Errors
/// When the folder is there but cannot be read.
///
/// ```
/// use keops_lddmm::export::earlier_results;
/// let folder = std::env::temp_dir().join(format!("keops-earlier-{}", std::process::id()));
/// assert!(earlier_results(&folder)?.is_empty()); // no folder
/// std::fs::create_dir(&folder)?;
/// std::fs::write(folder.join("report.json"), "{}")?;
/// assert_eq!(earlier_results(&folder)?, ["report.json"]);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn earlier_results(folder: impl AsRef<Path>) -> Result<Vec<String>, ExportError> {
    let folder = folder.as_ref();
    let mut found = vec![];
    for name in VIEWS.into_iter().chain(RESULTS) {
        let path = folder.join(name);
        match path.try_exists() {
            Ok(true) => found.push(name.to_string()),
            Ok(false) => {}
            Err(source) => return Err(WriteError::Io { path, source }.into()),
        }
    }
    if !steps(folder)?.is_empty() {
        found.push(SERIES.into());
    }
    Ok(found)
}

/// The number of a file of a time series.
fn step(name: &str) -> Option<usize> {
    name.strip_prefix("step_")?.strip_suffix(".vtp")?.parse().ok()
}

/// The files of a time series in a folder of results, with their numbers.
fn steps(folder: &Path) -> Result<Vec<(usize, PathBuf)>, WriteError> {
    let series = folder.join(SERIES);
    let failed = |source| WriteError::Io { path: series.clone(), source };
    let entries = match std::fs::read_dir(&series) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(failed(e)),
    };
    let mut found = vec![];
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(number) = step(&name) {
            found.push((number, path));
        }
    }
    Ok(found)
}

/// Writes into `folder`, which is made if need be:
///
/// | file | content |
/// |---|---|
/// | report.json | [`crate::report::Report`] |
/// | source.vtk, target.vtk, result.vtk | the shapes; the result with its displacement |
/// | momenta.vtk | landmarks at time 0 with their momenta, if the model has landmarks |
/// | deformation.pvd, deformation/ | the source at every step, a time series for ParaView |
/// | picture.svg | before, deformation, after |
///
/// All files are written under temporary names and take their own when all are complete, so that a
/// failure (a full disk) leaves earlier results as they were. Where there are none, the report and the
/// shapes are kept without the time series and the picture, which are larger
/// ([`ExportError::Views`]). Steps of an earlier, longer series are removed when all is complete;
/// [`earlier_results`] tells whether there is something that would be replaced.
///
/// Returns the names of the files in the folder.
///
/// # Errors
/// [`ExportError`].
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
    let series = folder.join(SERIES);
    let fresh = earlier_results(folder)?.is_empty();
    std::fs::create_dir_all(&series)
        .map_err(|source| WriteError::Io { path: series.clone(), source })?;
    let has_landmarks = registration.shooting().dynamics().has_landmarks();
    let named = |names: &[&str]| -> Vec<String> {
        let written = names.iter().filter(|name| has_landmarks || **name != MOMENTA);
        written.map(|name| name.to_string()).collect()
    };

    Staged::remove_leftovers(folder, |name| VIEWS.contains(&name) || RESULTS.contains(&name))?;
    Staged::remove_leftovers(&series, |name| step(name).is_some())?;
    let results = stage_results(folder, registration, outcome)?;
    let views = match stage_views(folder, title, registration, outcome) {
        Ok(views) => views,
        Err(e) if fresh => {
            results.commit()?;
            return Err(ExportError::Views { kept: named(&RESULTS), source: Box::new(e) });
        }
        Err(e) => return Err(e),
    };
    // The report is last: where it is, all is.
    views.commit()?;
    results.commit()?;
    for (number, path) in steps(folder)? {
        if number >= outcome.trajectory.states().len() {
            std::fs::remove_file(&path).map_err(|source| WriteError::Io { path, source })?;
        }
    }
    Ok(named(&[&VIEWS[..], &RESULTS[..]].concat()))
}

/// Writes the files of [`RESULTS`] under temporary names.
fn stage_results<F: Real>(
    folder: &Path,
    registration: &Registration<F>,
    outcome: &Outcome<F>,
) -> Result<Staged, ExportError> {
    let (source, result) = (registration.source(), &outcome.result);
    let mut files = Staged::default();
    let mut vtk = |name: &str, shape: &Shape, data: &[PointData<'_>]| -> Result<(), WriteError> {
        files.add_vtk(folder.join(name), shape, data, VtkEncoding::Binary)
    };
    if registration.shooting().dynamics().has_landmarks() {
        let landmarks = Shape::new(registration.landmarks(), Cells::Points)
            .map_err(|e| LddmmError::mismatch("the landmarks", "acceptable points", e))?;
        vtk(MOMENTA, &landmarks, &[data("momentum", outcome.momenta.view())])?;
    }
    let displacement = difference(result.vertices(), source.vertices()).map_err(device)?;
    vtk("result.vtk", result, &[data("displacement", displacement.view())])?;
    vtk("source.vtk", source, &[])?;
    vtk("target.vtk", registration.target(), &[])?;
    let json = serde_json::to_string_pretty(&outcome.report)?;
    files.add(folder.join("report.json"), (json + "\n").as_bytes())?;
    Ok(files)
}

/// Writes the time series and the files of [`VIEWS`] under temporary names.
fn stage_views<F: Real>(
    folder: &Path,
    title: &str,
    registration: &Registration<F>,
    outcome: &Outcome<F>,
) -> Result<Staged, ExportError> {
    let (source, target, result) = (registration.source(), registration.target(), &outcome.result);
    let mut files = Staged::default();
    let states = outcome.trajectory.states();
    let mut times: Vec<(f64, PathBuf)> = Vec::with_capacity(states.len());
    for (k, state) in states.iter().enumerate() {
        let shape = registration.deformed(state)?;
        let name = Path::new(SERIES).join(format!("step_{k:04}.vtp"));
        let velocity = registration.shooting().dynamics().velocity(state, state.vertices())?;
        let velocity = widened(velocity.view()).map_err(device)?;
        let moved = difference(shape.vertices(), source.vertices()).map_err(device)?;
        let length = lengths(moved.view()).map_err(device)?;
        let length = length.view().insert_axis(ndarray::Axis(1));
        let all = [data("velocity", velocity.view()), data("distance moved", length)];
        files.add_vtp(folder.join(&name), &shape, &all)?;
        times.push((k as f64 / (states.len() - 1) as f64, name));
    }
    files.add_pvd(folder.join("deformation.pvd"), &times)?;

    let grid = if source.dim() == 2 { Some(carried_grid(registration, outcome)?) } else { None };
    let report = &outcome.report;
    let figures = [
        ("cost", format!("{:.3e} → {:.3e}", report.before.cost, report.after.cost)),
        ("evaluations", report.evaluations.to_string()),
        ("energy H", format!("{:.3e}", report.conservation.hamiltonian)),
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
    files.add(folder.join("picture.svg"), picture.svg()?.as_bytes())?;
    Ok(files)
}

fn device(e: keops_core::error::Error) -> LddmmError {
    e.into()
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
    let centred = narrowed::<F>((&grid.vertices() - registration.centre()).view())?;
    let places = registration.shooting().carry(&outcome.trajectory, centred.view())?;
    let end: Array2<f64> = match places.last() {
        Some(end) => widened(end.view())? + registration.centre(),
        None => unreachable!("a flow has a first state"),
    };
    grid.with_vertices(end).map_err(|e| refused(&e))
}

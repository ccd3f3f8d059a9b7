//! The report of a registration: costs, conserved quantities, Jacobians, distances, warnings.
//! (`registration/evidence.rs` makes it.)

use serde::{Deserialize, Serialize};

use crate::distance::Distances;
use crate::optimise::{CostAndGradient, Limits, Stop};
use crate::shape::Shape;
use crate::shooting::Integrator;

/// A shape in figures.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// let report = registration.run(None, &mut silent)?.report;
/// assert_eq!((report.source.vertices, &report.source.cell[..]), (12, "segment"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShapeSummary {
    /// Number of vertices.
    pub vertices: usize,
    /// Number of cells.
    pub cells: usize,
    /// `"point"`, `"segment"` or `"triangle"`.
    pub cell: String,
}

impl ShapeSummary {
    pub(crate) fn of(shape: &Shape) -> ShapeSummary {
        ShapeSummary {
            vertices: shape.vertex_count(),
            cells: shape.cell_count(),
            cell: shape.cells().name().into(),
        }
    }
}

/// What was asked for.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// let settings = registration.run(None, &mut silent)?.report.settings;
/// assert_eq!((&settings.kernel[..], settings.landmarks), ("exp(-|x-y|²/1²)", 12));
/// assert_eq!((&settings.precision[..], settings.control_points), ("f64", false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Kernel of the deformations, D = |x − y|².
    pub kernel: String,
    /// The attachment with its kernel.
    pub attachment: String,
    /// Weight of the energy.
    pub gamma: f64,
    /// Integrator of the flow.
    pub integrator: Integrator,
    /// Steps of the flow.
    pub steps: usize,
    /// Number of landmarks that carry the shape.
    pub landmarks: usize,
    /// Are the landmarks control points rather than the vertices?
    pub control_points: bool,
    /// Precision of flow and attachment, `"f32"` or `"f64"`.
    pub precision: String,
    /// What the reductions ran on.
    pub device: String,
    /// Limits of the minimisation.
    pub limits: Limits,
}

/// A cost in its parts.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// let report = registration.run(None, &mut silent)?.report;
/// // At the start there is no energy; at the end it pays.
/// assert!(report.before.energy == 0.0 && report.after.energy > 0.0);
/// assert!((report.after.cost - report.after.energy - report.after.attachment).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostSplit {
    /// γH + A.
    pub cost: f64,
    /// γH.
    pub energy: f64,
    /// A.
    pub attachment: f64,
    /// Euclidean norm of the gradient in the momenta.
    pub gradient_norm: f64,
}

impl CostSplit {
    pub(crate) fn of(v: &CostAndGradient) -> CostSplit {
        CostSplit {
            cost: v.cost,
            energy: v.energy,
            attachment: v.attachment,
            gradient_norm: v.gradient_norm(),
        }
    }
}

/// How well the discrete flow keeps what the exact flow conserves.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// let kept = registration.run(None, &mut silent)?.report.conservation;
/// assert!(kept.linear_momentum_drift < 1e-12); // by rounding alone
/// // By four steps of a scheme of order 4.
/// assert!(kept.hamiltonian_drift < 1e-3 && kept.reversal_error < 1e-3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conservation {
    /// H(q0, p0).
    pub hamiltonian: f64,
    /// Largest |H(t) − H(0)| over H(0).
    pub hamiltonian_drift: f64,
    /// Largest |Σ p(t) − Σ p(0)| over Σ |p(0)|: rounding for every Runge–Kutta scheme.
    pub linear_momentum_drift: f64,
    /// Largest |L(t) − L(0)| over Σ |q(0)| |p(0)|, L = Σ q ∧ p about the centre of the source.
    pub angular_momentum_drift: f64,
    /// Largest distance of a landmark from its start after shooting back, in units of the
    /// coordinates.
    pub reversal_error: f64,
}

/// Determinants of the Jacobian of the deformation over a grid.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// let jacobian = registration.run(None, &mut silent)?.report.jacobian;
/// assert_eq!(jacobian.points, 1600); // 40 × 40 in the plane, 12³ in space
/// assert!(jacobian.min > 0.0 && jacobian.max > 1.0); // it grows, without a fold
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jacobians {
    /// Number of grid points: a box a tenth larger than the source on each side.
    pub points: usize,
    /// Smallest determinant; positive for a deformation without folds.
    pub min: f64,
    /// Largest determinant.
    pub max: f64,
}

/// What may be wrong with a registration although it ended without an error.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// assert_eq!(registration.run(None, &mut silent)?.report.warnings, []);
/// // A kernel of the deformations that is far narrower than the gaps between the landmarks.
/// let narrow = options.with_kernel(Kernel::gaussian(1e-3)?);
/// let narrow = Registration::<f64>::new(&source, &target, &narrow, &device)?;
/// let report = narrow.run(None, &mut silent)?.report;
/// assert!(report.warnings[0].to_string().starts_with("each landmark moves by itself"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum Warning {
    /// The kernel of the attachment is too narrow, or the target too far away, for the attachment to
    /// see where the target is.
    TargetOutOfSight {
        /// ⟨S,T⟩ / (|S| |T|) at the start.
        overlap: f64,
    },
    /// The kernel of the deformation is so narrow that landmarks do not carry each other.
    LandmarksApart,
    /// A distance is larger at the end than at the start.
    DistanceGrew {
        /// `"mean"` or `"Hausdorff"`.
        distance: String,
        /// At the start, in units of the coordinates.
        before: f64,
        /// At the end.
        after: f64,
    },
    /// The cost was not lowered, although its gradient is not 0.
    NothingGained,
    /// The deformation folds the space.
    Folded {
        /// The smallest determinant of its Jacobian on the grid.
        min: f64,
    },
    /// The run was resumed on another device: its last digits are not those of a run on one.
    ResumedElsewhere {
        /// The device before.
        before: String,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Warning::TargetOutOfSight { overlap } => write!(
                f,
                "the attachment hardly sees the target (overlap {overlap:.1e} at the start): a \
                 larger sigma of the attachment, or shapes that are closer, may help"
            ),
            Warning::LandmarksApart => f.write_str(
                "each landmark moves by itself: the sigma of the deformation is far smaller than \
                 the gaps between landmarks",
            ),
            Warning::DistanceGrew { distance, before, after } => write!(
                f,
                "the {distance} distance to the target grew from {before:.3e} to {after:.3e}: the \
                 attachment may not measure what is wanted, or the flow may need other parameters"
            ),
            Warning::NothingGained => {
                f.write_str("the cost was not lowered, although its gradient is not 0")
            }
            Warning::Folded { min } => write!(
                f,
                "the deformation folds (det of Jacobian down to {min:.2e}): more steps, a larger \
                 sigma of the deformation or a larger gamma may help"
            ),
            Warning::ResumedElsewhere { before } => write!(
                f,
                "begun on another device ({before}): the last digits are not those of a run on one"
            ),
        }
    }
}

/// Everything about a registration but its shapes; it prints as a table, and is written as JSON.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// use keops_lddmm::report::Report;
/// let report = registration.run(None, &mut silent)?.report;
/// assert!(report.to_string().starts_with("source             12 vertices, 12 segments\n"));
/// let json = serde_json::to_string(&report)?;
/// assert_eq!(serde_json::from_str::<Report>(&json)?, report);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The source.
    pub source: ShapeSummary,
    /// The target.
    pub target: ShapeSummary,
    /// What was asked for.
    pub settings: Settings,
    /// The cost at the start.
    pub before: CostSplit,
    /// The cost at the end.
    pub after: CostSplit,
    /// Iterations made.
    pub iterations: usize,
    /// Evaluations of cost and gradient.
    pub evaluations: usize,
    /// Why it ended.
    pub stop: Stop,
    /// Time of the minimisation.
    pub seconds: f64,
    /// Conserved quantities.
    pub conservation: Conservation,
    /// Jacobians of the deformation.
    pub jacobian: Jacobians,
    /// Source to target.
    pub distances_before: Distances,
    /// Result to target.
    pub distances_after: Distances,
    /// What may be wrong.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shape = |s: &ShapeSummary| match s.cell.as_str() {
            "point" => format!("{} points", s.vertices),
            cell => format!("{} vertices, {} {cell}s", s.vertices, s.cells),
        };
        let Report { settings: s, before, after, conservation: c, jacobian: j, .. } = self;
        writeln!(f, "source             {}", shape(&self.source))?;
        writeln!(f, "target             {}", shape(&self.target))?;
        let what = if s.control_points { "control points" } else { "landmarks (vertices)" };
        writeln!(f, "deformation        {}, {} {what}", s.kernel, s.landmarks)?;
        writeln!(f, "attachment         {}, gamma {}", s.attachment, s.gamma)?;
        writeln!(
            f,
            "flow               {}, {} steps, {}, {}",
            s.integrator, s.steps, s.precision, s.device
        )?;
        for (name, v) in [("cost before", before), ("cost after", after)] {
            writeln!(
                f,
                "{name:18} {:.6e} = energy {:.6e} + attachment {:.6e}, |gradient| {:.2e}",
                v.cost, v.energy, v.attachment, v.gradient_norm
            )?;
        }
        writeln!(
            f,
            "minimisation       {} iterations, {} evaluations, {:.2} s ({:.2} ms each): {}",
            self.iterations,
            self.evaluations,
            self.seconds,
            1e3 * self.seconds / self.evaluations as f64,
            self.stop
        )?;
        let (a, b) = (&self.distances_before, &self.distances_after);
        writeln!(f, "mean distance      {:.3e} before, {:.3e} after", a.mean(), b.mean())?;
        writeln!(
            f,
            "Hausdorff distance {:.3e} before, {:.3e} after",
            a.hausdorff(),
            b.hausdorff()
        )?;
        writeln!(f, "det of Jacobian    {:.2e} to {:.2e} on {} points", j.min, j.max, j.points)?;
        write!(
            f,
            "drifts             energy {:.1e}, linear momentum {:.1e}, angular momentum {:.1e}, \
             reversal {:.1e}",
            c.hamiltonian_drift,
            c.linear_momentum_drift,
            c.angular_momentum_drift,
            c.reversal_error
        )?;
        self.warnings.iter().try_for_each(|w| write!(f, "\nwarning            {w}"))
    }
}

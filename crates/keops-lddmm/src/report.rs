//! The evidence that a registration leaves: costs, conserved quantities, Jacobians, distances.

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::distance::{Distances, distances};
use crate::error::LddmmError;
use crate::optimise::{Limits, Minimum, Stop, Value};
use crate::registration::Registration;
use crate::shape::Shape;
use crate::shooting::{Scheme, Trajectory};
use crate::state::State;
use crate::sum::{Real, lengths, narrowed, widened, zeros};

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
    fn of(shape: &Shape) -> ShapeSummary {
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
    /// Scheme of the flow.
    pub scheme: Scheme,
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
    pub(crate) fn of(v: &Value) -> CostSplit {
        CostSplit {
            cost: v.cost,
            energy: v.energy,
            attachment: v.attachment,
            gradient_norm: v.gradient.dot(&v.gradient).sqrt(),
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
                "the {distance} distance to the target grew from {before:.4} to {after:.4}: the \
                 attachment may not measure what is wanted, or the flow may need other parameters"
            ),
            Warning::NothingGained => {
                f.write_str("the cost was not lowered, although its gradient is not 0")
            }
            Warning::Folded { min } => write!(
                f,
                "the deformation folds (det of Jacobian down to {min:.3}): more steps, a larger \
                 sigma of the deformation or a larger gamma may help"
            ),
            Warning::ResumedElsewhere { before } => write!(
                f,
                "begun on another device ({before}): the last digits are not those of a run on one"
            ),
        }
    }
}

/// Below this cosine of the angle between source and target an attachment does not see the target.
/// Pairs of shapes that were registered successfully have 0.05 and more.
const LEAST_OVERLAP: f64 = 1e-3;
/// Up to this sum of k(|q_i − q_j|²)/k(0) over the landmarks j, for half of the landmarks i, they do
/// not carry each other.
const LEAST_COMPANY: f64 = 1.01;

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
            s.scheme, s.steps, s.precision, s.device
        )?;
        for (name, v) in [("cost before", before), ("cost after", after)] {
            writeln!(
                f,
                "{name:18} {:.6} = energy {:.6} + attachment {:.6}, |gradient| {:.2e}",
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
        writeln!(f, "mean distance      {:.4} before, {:.4} after", a.mean(), b.mean())?;
        writeln!(f, "Hausdorff distance {:.4} before, {:.4} after", a.hausdorff(), b.hausdorff())?;
        writeln!(f, "det of Jacobian    {:.3} to {:.3} on {} points", j.min, j.max, j.points)?;
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

/// Largest of some numbers; NaN if one is.
fn largest(all: impl Iterator<Item = f64>) -> f64 {
    all.fold(0.0, |m, v| if m.is_nan() || v <= m { m } else { v })
}
/// `a / b`, 0 if both are 0.
fn ratio(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { a / b }
}
fn norm(v: ndarray::ArrayView1<'_, f64>) -> f64 {
    v.dot(&v).sqrt()
}

/// Collects the report of a finished minimisation.
pub(crate) fn evidence<F: Real>(
    registration: &Registration<F>,
    trajectory: &Trajectory<F>,
    result: &Shape,
    before: CostSplit,
    reached: &Minimum,
    seconds: f64,
    elsewhere: Option<String>,
) -> Result<Report, LddmmError> {
    let (source, target) = (registration.source(), registration.target());
    let options = registration.options();
    let mut report = Report {
        source: ShapeSummary::of(source),
        target: ShapeSummary::of(target),
        settings: Settings {
            kernel: options.deformation.text.clone(),
            attachment: options.attachment.to_string(),
            gamma: options.gamma,
            scheme: options.scheme,
            steps: options.steps,
            landmarks: trajectory.end().q().nrows(),
            control_points: options.deformation.control_points.is_some(),
            precision: F::DTYPE.name().into(),
            device: registration.device().into(),
            limits: options.limits,
        },
        before,
        after: CostSplit::of(reached.best().1),
        iterations: reached.state.iterations,
        evaluations: reached.evaluations,
        stop: reached.stop,
        seconds,
        conservation: conservation(registration, trajectory)?,
        jacobian: jacobians(registration, trajectory)?,
        distances_before: distances(source, target)?,
        distances_after: distances(result, target)?,
        warnings: vec![],
    };
    report.warnings = warnings(registration, &report, trajectory)?;
    report.warnings.extend(elsewhere.map(|before| Warning::ResumedElsewhere { before }));
    Ok(report)
}

fn warnings<F: Real>(
    registration: &Registration<F>,
    report: &Report,
    trajectory: &Trajectory<F>,
) -> Result<Vec<Warning>, LddmmError> {
    let mut all = vec![];
    let start = &trajectory.states()[0];
    let overlap = registration.matching().overlap(start.vertices())?;
    if let Some(overlap) = overlap.filter(|o| o.abs() < LEAST_OVERLAP) {
        all.push(Warning::TargetOutOfSight { overlap });
    }
    if registration.shooting().dynamics().has_landmarks() && landmarks_apart(registration, start)? {
        all.push(Warning::LandmarksApart);
    }
    let (before, after) = (&report.distances_before, &report.distances_after);
    for (distance, before, after) in [
        ("mean", before.mean(), after.mean()),
        ("Hausdorff", before.hausdorff(), after.hausdorff()),
    ] {
        // (Not by rounding alone.)
        if after > before * (1.0 + 1e-6) {
            all.push(Warning::DistanceGrew { distance: distance.into(), before, after });
        }
    }
    if report.after.cost >= report.before.cost
        && report.before.gradient_norm > 0.0
        && report.stop == Stop::Precision
    {
        all.push(Warning::NothingGained);
    }
    if report.jacobian.min <= 0.0 {
        all.push(Warning::Folded { min: report.jacobian.min });
    }
    Ok(all)
}

/// Is k(|q_i − q_j|²) nothing beside k(0) for most landmarks?
fn landmarks_apart<F: Real>(
    registration: &Registration<F>,
    start: &State<F>,
) -> Result<bool, LddmmError> {
    let n = start.q().nrows();
    if n == 1 {
        return Ok(false);
    }
    let velocities = |q: ArrayView2<'_, F>| -> Result<_, LddmmError> {
        let mut p = zeros::<F>(q.dim())?;
        p.column_mut(0).fill(F::one());
        let state = State::new(q, p.view())?;
        let v = registration.shooting().dynamics().velocity(&state, q)?;
        Ok(widened(v.view())?)
    };
    let own = velocities(start.q().slice_axis_move(Axis(0), (..1).into()))?[[0, 0]];
    let all = velocities(start.q())?;
    let alone = all.column(0).iter().filter(|&&v| v <= LEAST_COMPANY * own).count();
    Ok(2 * alone > n)
}

fn conservation<F: Real>(
    registration: &Registration<F>,
    trajectory: &Trajectory<F>,
) -> Result<Conservation, LddmmError> {
    let shooting = registration.shooting();
    let states = trajectory.states();
    let mut hamiltonian = Vec::with_capacity(states.len());
    for state in states {
        hamiltonian.push(shooting.dynamics().energy(state)?);
    }
    let wide = |s: &State<F>| -> Result<_, LddmmError> { Ok((widened(s.q())?, widened(s.p())?)) };
    let (q0, p0) = wide(&states[0])?;
    let angular = |q: &Array2<f64>, p: &Array2<f64>| {
        let m = q.t().dot(p);
        &m - &m.t()
    };
    let (linear0, angular0) = (p0.sum_axis(Axis(0)), angular(&q0, &p0));
    let (mut linear, mut turned) = (0.0, 0.0);
    for state in states {
        let (q, p) = wide(state)?;
        let moved = norm((p.sum_axis(Axis(0)) - &linear0).view());
        linear = largest([linear, moved].into_iter());
        let gap = angular(&q, &p) - &angular0;
        turned = largest(std::iter::once(turned).chain(gap.iter().map(|v| v.abs())));
    }
    let end = trajectory.end();
    // (Of landmarks, points that are carried do not change the way.)
    let mut start_back = match shooting.dynamics().has_landmarks() {
        true => State::new(end.q(), end.p())?,
        false => end.copy()?,
    };
    start_back.p_mut().mapv_inplace(|v| -v);
    let back = shooting.shoot(start_back)?;
    let returned = lengths((widened(back.end().q())? - &q0).view())?;
    let (q0, p0) = (lengths(q0.view())?, lengths(p0.view())?);
    let h0 = hamiltonian[0];
    Ok(Conservation {
        hamiltonian: h0,
        hamiltonian_drift: ratio(largest(hamiltonian.iter().map(|h| (h - h0).abs())), h0.abs()),
        linear_momentum_drift: ratio(linear, p0.sum()),
        angular_momentum_drift: ratio(turned, q0.dot(&p0)),
        reversal_error: largest(returned.iter().copied()),
    })
}

fn jacobians<F: Real>(
    registration: &Registration<F>,
    trajectory: &Trajectory<F>,
) -> Result<Jacobians, LddmmError> {
    let (low, high) = registration.source().bounding_box();
    let margin = 0.1 * norm((&high - &low).view());
    let d = low.len();
    let along: usize = if d == 2 { 40 } else { 12 };
    let points = Array2::from_shape_fn((along.pow(d as u32), d), |(i, k)| {
        let t = (i / along.pow(k as u32) % along) as f64 / (along - 1) as f64;
        (1.0 - t) * (low[k] - margin) + t * (high[k] + margin) - registration.centre()[k]
    });
    let (_, det) = registration
        .shooting()
        .carry_with_jacobian(trajectory, narrowed::<F>(points.view())?.view())?;
    let fold = |init: f64, op: fn(f64, f64) -> f64| det.iter().copied().fold(init, op);
    Ok(Jacobians {
        points: det.len(),
        min: fold(f64::INFINITY, f64::min),
        max: fold(f64::NEG_INFINITY, f64::max),
    })
}

//! Collects the evidence that a registration leaves: conserved quantities, Jacobians, distances, and what may
//! be wrong.

use ndarray::{Array2, ArrayView2, Axis};

use super::problem::Registration;
use crate::distance::distances;
use crate::error::LddmmError;
use crate::optimise::{Minimum, Stop};
use crate::report::{Conservation, CostSplit, Jacobians, Report, Settings, ShapeSummary, Warning};
use crate::shape::Shape;
use crate::shooting::Trajectory;
use crate::state::State;
use crate::sum::{Real, lengths, narrowed, widened, zeros};

/// Below this cosine of the angle between source and target an attachment does not see the target.
/// Pairs of shapes that were registered successfully have 0.05 and more.
const LEAST_OVERLAP: f64 = 1e-3;
/// Up to this sum of k(|q_i − q_j|²)/k(0) over the landmarks j, for half of the landmarks i, they do
/// not carry each other.
const LEAST_COMPANY: f64 = 1.01;

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
            integrator: options.integrator,
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

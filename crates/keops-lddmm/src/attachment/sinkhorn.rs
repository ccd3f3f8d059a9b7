//! Optimal transport: the Sinkhorn divergence of shapes.
//!
//! S = OT(a, b) − ½ OT(a, a) − ½ OT(b, b) for the measures a, b of the centres of cells, weighted by
//! their sizes, which add up to 1 (Feydy et al., *Interpolating between optimal transport and MMD*,
//! 2019). OT is regularised by ε times the entropy relative to a ⊗ b, its dual is solved by
//! Sinkhorn's iteration in the log domain: f_i = −ε log Σ_j b_j exp((g_j − |x_i − y_j|²/2)/ε), a
//! log-sum-exp. The gradient is that at fixed potentials, which is exact at their fixed point.
//!
//! A step changes f_i by −ε times the logarithm of what row i of the plan adds up to, over a_i: changes
//! beside ε are the errors of the plan's marginals. Costs beside ε say how well these can be known: where
//! rounding of the potentials hides them there is an error, and where ε is far above the costs the
//! logarithm is taken of 1 plus a small sum, since numbers as large as ε would cancel.

use keops_core::genred::Genred;
use keops_core::reduce::{LOG_SUM_EXP, SUM};
use keops_core::spec::{Axis, Device};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis as Along, Ix2};

use super::cells::Features;
use super::{Attachment, Prepared, Setting};
use crate::error::LddmmError;
use crate::shape::{Shape, cell_geometry, cell_geometry_adjoint};
use crate::sum::zeros;

/// Most iterations of Sinkhorn's method at the last ε.
const MOST: usize = 20_000;
/// Errors of the plan's marginals (changes of potentials, as a part of ε) at which they count as
/// solved; and changes as a part of the potentials, where these are below ε. Errors of value and
/// gradient are about as large, times the number of iterations that halve them.
const TOLERANCE: f64 = 1e-12;
/// The same, and most iterations, at each larger ε on the way: what one leaves over costs the next one
/// more than four times as many iterations, since steps are about as long as ε.
const STAGE: (f64, usize) = (1e-2, 500);
/// Rounding of an update of a potential, as a part of the potentials' size: that of g/ε, of the squared
/// distance, of their difference, of its log-sum-exp and of the product with ε.
const ROUNDING: f64 = 4.0 * f64::EPSILON;
/// What rounding may hide of the marginals: gradients are right to about four digits then, values to
/// twice as many, because they are stationary in the potentials.
const HIDDEN: f64 = 1e-4;

/// The Sinkhorn divergence with the cost |x − y|²/2 and ε = blur²: near 0 differences finer than the
/// blur do not count, and there is no distance at which shapes do not see each other. Computed in
/// double precision whatever that of the registration is.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::attachment::{Matching, Sinkhorn};
/// use keops_lddmm::builtin::closed_curve;
/// let circle = |x: f64| closed_curve(12, move |t| [x + t.cos(), t.sin()]);
/// let (here, there) = (circle(0.0)?, circle(40.0)?);
/// let device = Device::new(Interpreter::new());
/// let matching = Matching::<f64>::new(&Sinkhorn::new(0.5)?, &here, &there, &device)?;
/// // To move all by 40 costs half of 40².
/// assert!((matching.value(here.vertices())? - 800.0).abs() < 1e-6);
/// assert!(matching.value(there.vertices())?.abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sinkhorn {
    blur: f64,
}

impl Sinkhorn {
    /// With a blur in units of the coordinates. The smaller it is beside the size of the shapes, the
    /// more iterations are needed; below about 3e-6 of how far points are moved double precision does not
    /// tell the plan of transport, and evaluations are errors that say which blur will do.
    ///
    /// # Errors
    /// When the blur is not in 1e-20..=1e20.
    pub fn new(blur: f64) -> Result<Sinkhorn, LddmmError> {
        if !(1e-20..=1e20).contains(&blur) {
            return Err(LddmmError::parameter("blur", "a number between 1e-20 and 1e20", blur));
        }
        Ok(Sinkhorn { blur })
    }
}

impl std::fmt::Display for Sinkhorn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sinkhorn divergence, blur {}", self.blur)
    }
}

impl Attachment for Sinkhorn {
    fn prepare(&self, at: &Setting<'_>) -> Result<Box<dyn Prepared>, LddmmError> {
        let transport = Transport::new(at.source.dim(), self.blur * self.blur, at.device)?;
        let target = Measure::of(at.target, at.target.vertices())?;
        let potential = transport.own_potential(&target)?;
        Ok(Box::new(ToTarget { source: at.source.clone(), transport, target, potential }))
    }
}

/// Points with weights that add up to 1.
struct Measure {
    points: Array2<f64>,
    weights: Array1<f64>,
    /// Logarithms of the weights; −∞ for cells without extent.
    logs: Array1<f64>,
}

impl Measure {
    fn of(shape: &Shape, vertices: ArrayView2<'_, f64>) -> Result<Measure, LddmmError> {
        let geometry = cell_geometry(vertices, shape.cells())?;
        Measure::new(geometry.centres, geometry.measures)
    }
    fn new(points: Array2<f64>, sizes: Array1<f64>) -> Result<Measure, LddmmError> {
        let total = sizes.sum();
        if !(total > 0.0 && total.is_finite()) {
            let expected = "cells with extent (attachment: Sinkhorn divergence)";
            return Err(LddmmError::mismatch("the shape", expected, format!("size {total}")));
        }
        let weights = sizes / total;
        let logs = weights.mapv(f64::ln);
        Ok(Measure { points, weights, logs })
    }
    /// Square of the diagonal of the box around it and `other`: costs are at most half of it.
    fn square(&self, other: &Measure) -> f64 {
        let mut square = 0.0;
        for k in 0..self.points.ncols() {
            let all = self.points.column(k).into_iter().chain(other.points.column(k));
            let (low, high) =
                all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
            square += (high - low).powi(2);
        }
        square
    }
}

/// The reductions of Sinkhorn's method.
struct Transport {
    /// log Σ_j exp(h_j − |x_i − y_j|² s)
    log_sum: Genred<Device>,
    /// Its gradient in x.
    gradient: Genred<Device>,
    /// Σ_j b_j (exp(g_j s − |x_i − y_j|² s/2) − 1)
    small_sum: Genred<Device>,
    epsilon: f64,
}

impl Transport {
    fn new(dim: usize, epsilon: f64, device: &Device) -> Result<Transport, LddmmError> {
        let [x, y] = [format!("x = Vi({dim})"), format!("y = Vj({dim})")];
        let aliases = [&x, &y, "h = Vj(1)", "s = Pm(1)"];
        let log_sum: Genred = Genred::new("h - s * SqDist(x, y)", aliases, &LOG_SUM_EXP, Axis::J)?;
        let log_sum = log_sum.at(device.clone());
        let gradient = log_sum.vjp("x")?;
        let aliases = [&x, &y, "g = Vj(1)", "b = Vj(1)", "s = Pm(1)"];
        let small_sum = "b * Expm1((g - SqDist(x, y) / 2) * s)";
        let small_sum: Genred = Genred::new(small_sum, aliases, &SUM, Axis::J)?;
        Ok(Transport { log_sum, gradient, small_sum: small_sum.at(device.clone()), epsilon })
    }
    /// −ε log Σ_j w_j exp((g_j − |x_i − y_j|²/2)/ε) for the points y and weights w of `to`.
    fn soft_minimum(
        &self,
        x: &Measure,
        to: &Measure,
        g: ArrayView1<'_, f64>,
        epsilon: f64,
    ) -> Result<Array1<f64>, LddmmError> {
        if 0.5 * x.square(to) <= epsilon {
            // Exponents are between −2 and 1. Weights add up to 1, of which the logarithm is 0.
            let (g, w) = (g.insert_axis(Along(1)), to.weights.view().insert_axis(Along(1)));
            let s = Array1::from_elem(1, 1.0 / epsilon);
            let out = self.small_sum.call((&x.points, &to.points, &g, &w, &s))?;
            return Ok(out.iter().map(|v| -epsilon * v.ln_1p()).collect());
        }
        let h = (&g / epsilon + &to.logs).insert_axis(Along(1));
        let s = Array1::from_elem(1, 0.5 / epsilon);
        let out = self.log_sum.call((&x.points, &to.points, &h, &s))?;
        Ok(out.iter().map(|v| -epsilon * v).collect())
    }
    /// Scales from the square of a diameter down to above ε, each a quarter of the last: ε-scaling, after
    /// which few iterations are left (Kosowsky & Yuille 1994; Schmitzer 2019).
    fn scales(&self, square: f64) -> impl Iterator<Item = f64> + use<> {
        let epsilon = self.epsilon;
        std::iter::successors(Some(square), |e| Some(0.25 * e)).take_while(move |e| *e > epsilon)
    }
    /// Iterates `step`, which gives the largest change of the potentials and their size, until the
    /// marginals of the plan are right.
    fn solve(
        &self,
        mut step: impl FnMut(f64) -> Result<(f64, f64), LddmmError>,
        square: f64,
    ) -> Result<(), LddmmError> {
        if !square.is_finite() {
            let expected = "points whose squared distances are numbers (Sinkhorn divergence)";
            return Err(LddmmError::mismatch("the shapes", expected, square));
        }
        let (part, most) = STAGE;
        for epsilon in self.scales(square) {
            for _ in 0..most {
                let (change, size) = step(epsilon)?;
                if change <= part * epsilon + ROUNDING * size {
                    break;
                }
            }
        }
        let blur = self.epsilon.sqrt();
        let mut last = f64::NAN;
        for _ in 0..MOST {
            let (change, size) = step(self.epsilon)?;
            if change <= TOLERANCE * self.epsilon.min(size) + ROUNDING * size {
                let least = (ROUNDING * size / HIDDEN).sqrt();
                if blur >= least {
                    return Ok(());
                }
                let expected = format!(
                    "at least {least:.1e} for these shapes: rounding of costs beside its square hides \
                     the plan of transport"
                );
                return Err(LddmmError::parameter("blur", expected, format!("{blur:e}")));
            }
            last = change;
            if last.is_nan() {
                break;
            }
        }
        let expected = format!("potentials that settle within {MOST} iterations (a larger blur)");
        let got = format!("changes of {:.1e} of its square at the end", last / self.epsilon);
        Err(LddmmError::parameter("blur", expected, got))
    }
    /// The potential p of OT(a, a), whose value is 2 Σ a p.
    fn own_potential(&self, a: &Measure) -> Result<Array1<f64>, LddmmError> {
        let mut p = Array1::zeros(a.weights.len());
        let step = |epsilon: f64| {
            // The mean of both sides of the symmetric equation converges fast.
            let new = 0.5 * (self.soft_minimum(a, a, p.view(), epsilon)? + &p);
            let change = difference(&new, &p);
            p = new;
            Ok((change, largest(&p)))
        };
        self.solve(step, a.square(a))?;
        self.soft_minimum(a, a, p.view(), self.epsilon)
    }
    /// The potentials (f, g) of OT(a, b), whose value is Σ a f + Σ b g.
    fn potentials(&self, a: &Measure, b: &Measure) -> Result<[Array1<f64>; 2], LddmmError> {
        let (mut f, mut g) = (Array1::zeros(a.weights.len()), Array1::zeros(b.weights.len()));
        let step = |epsilon: f64| {
            let new = self.soft_minimum(a, b, g.view(), epsilon)?;
            let change = difference(&new, &f);
            f = new;
            g = self.soft_minimum(b, a, f.view(), epsilon)?;
            Ok((change, largest(&f) + largest(&g)))
        };
        self.solve(step, a.square(b))?;
        let f = self.soft_minimum(a, b, g.view(), self.epsilon)?;
        Ok([f, g])
    }
    /// a_i (x_i − the mean of y under the plan of row i), the gradient of OT(a, b) in x.
    fn pull(
        &self,
        a: &Measure,
        b: &Measure,
        g: ArrayView1<'_, f64>,
    ) -> Result<Array2<f64>, LddmmError> {
        let h = (&g / self.epsilon + &b.logs).insert_axis(Along(1));
        let s = Array1::from_elem(1, 0.5 / self.epsilon);
        // ∂/∂x of −ε log Σ exp
        let e = (&a.weights * -self.epsilon).insert_axis(Along(1));
        let out = self.gradient.call((&a.points, &b.points, &h, &s, &e))?;
        match out.into_dimensionality::<Ix2>() {
            Ok(rows) => Ok(rows),
            Err(_) => unreachable!("a gradient has the shape of its variable"),
        }
    }
}

/// Largest of numbers, or NaN if there is one.
fn greatest(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |most, v| if v <= most || most.is_nan() { most } else { v })
}
fn largest(v: &Array1<f64>) -> f64 {
    greatest(v.iter().map(|x| x.abs()))
}
fn difference(new: &Array1<f64>, old: &Array1<f64>) -> f64 {
    greatest(new.iter().zip(old).map(|(a, b)| (a - b).abs()))
}

/// A divergence with the gradients in the points, shape (n, d), and in the weights, shape (n).
struct Divergence {
    value: f64,
    points: Array2<f64>,
    weights: Array1<f64>,
}

struct ToTarget {
    source: Shape,
    transport: Transport,
    target: Measure,
    /// Of OT(b, b).
    potential: Array1<f64>,
}

impl ToTarget {
    fn divergence(&self, a: &Measure) -> Result<Divergence, LddmmError> {
        let (t, b) = (&self.transport, &self.target);
        let own = t.own_potential(a)?;
        let [f, g] = t.potentials(a, b)?;
        let weights = f - &own;
        let value = a.weights.dot(&weights) + b.weights.dot(&(&g - &self.potential));
        // OT(a, a) moves with both of its arguments: twice the gradient, of which S has half.
        let points = t.pull(a, b, g.view())? - t.pull(a, a, own.view())?;
        Ok(Divergence { value, points, weights })
    }
}

impl Prepared for ToTarget {
    fn value_and_gradient(&self, x: ArrayView2<'_, f64>) -> Result<(f64, Array2<f64>), LddmmError> {
        let cells = self.source.cells();
        let geometry = cell_geometry(x, cells)?;
        let total = geometry.measures.sum();
        let a = Measure::new(geometry.centres.clone(), geometry.measures.clone())?;
        let Divergence { value, points, weights } = self.divergence(&a)?;
        let d = points.ncols();
        let mut bars = zeros((points.nrows(), d + 1))?;
        bars.slice_axis_mut(Along(1), (..d).into()).assign(&points);
        // Weights are sizes over their sum.
        let mean = a.weights.dot(&weights);
        bars.column_mut(d).assign(&((weights - mean) / total));
        let (centres, normals) = Features::Sizes.pull_back(&geometry, &bars)?;
        Ok((value, cell_geometry_adjoint(x, cells, centres.view(), normals.view())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Cells;
    use keops_cpu::Cpu;
    use ndarray_npy::NpzReader;
    use std::fs::File;
    use std::path::Path;

    /// Values and gradients in the points, at fixed weights, of an independent iteration in extended
    /// precision and of differences of it.
    #[test]
    fn points_with_weights() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/lddmm");
        let text = std::fs::read_to_string(folder.join("attachments.json")).unwrap();
        let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut arrays =
            NpzReader::new(File::open(folder.join("attachments.npz")).unwrap()).unwrap();
        let mut count = 0;
        for case in cases.as_array().unwrap() {
            if case["spec"]["type"] != "sinkhorn_divergence" {
                continue;
            }
            let key = case["key"].as_str().unwrap();
            let name = |part: &str| format!("{key}_{part}.npy");
            let mut points = |part: &str| -> Array2<f64> { arrays.by_name(&name(part)).unwrap() };
            let (x, y, expected) = (points("points"), points("target_points"), points("grad"));
            let mut weights = |part: &str| -> Array1<f64> { arrays.by_name(&name(part)).unwrap() };
            let (a, b) = (weights("weights"), weights("target_weights"));
            let blur = case["spec"]["blur"].as_f64().unwrap();
            let device = Device::new(Cpu::new());
            let transport = Transport::new(x.ncols(), blur * blur, &device).unwrap();
            let source = Shape::new(x.clone(), Cells::Points).unwrap();
            let (a, target) = (Measure::new(x, a).unwrap(), Measure::new(y, b).unwrap());
            let potential = transport.own_potential(&target).unwrap();
            let to = ToTarget { source, transport, target, potential };
            let found = to.divergence(&a).unwrap();
            let value = case["value"].as_f64().unwrap();
            let far = (found.value / value - 1.0).abs();
            let size = expected.fold(0.0f64, |m, v| m.max(v.abs()));
            let gap = (found.points - &expected).fold(0.0f64, |m, v| m.max(v.abs())) / size;
            assert!(far < 1e-8 && gap < 1e-8, "{key}: value {far:e}, gradient {gap:e}");
            count += 1;
        }
        assert!(count >= 3);
    }
}

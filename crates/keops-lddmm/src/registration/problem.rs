//! The problem: what is minimised, with its gradients.

use std::sync::Arc;

use keops_core::genred::Place;
use ndarray::{Array1, Array2, ArrayView2};

use super::options::{Deformation, Description, Ground, Options};
use crate::attachment::Matching;
use crate::error::LddmmError;
use crate::shape::Shape;
use crate::shooting::{Shooting, Trajectory};
use crate::state::State;
use crate::sum::{Real, combined, copied, dot, narrow, narrowed, widened};

/// Cost and gradients at given momenta.
///
/// ```
#[doc = include_str!("../registration_example.txt")]
/// let e = registration.evaluate(Array2::zeros((12, 2)).view())?; // no deformation
/// assert_eq!((e.hamiltonian, e.vertices), (0.0, None));
/// assert!((e.cost - 12.0 * 0.25).abs() < 1e-12); // twelve vertices half a unit away
/// assert_eq!((e.momenta.dim(), e.positions.dim()), ((12, 2), (12, 2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// H(q0, p0).
    pub hamiltonian: f64,
    /// A(q1).
    pub attachment: f64,
    /// γH + A.
    pub cost: f64,
    /// Gradient in the momenta, shape (n, d).
    pub momenta: Array2<f64>,
    /// Gradient in the positions of the landmarks at time 0, shape (n, d); where these are the
    /// vertices, the shape moves with them.
    pub positions: Array2<f64>,
    /// With control points, the gradient in the vertices at time 0.
    pub vertices: Option<Array2<f64>>,
}

/// A source and a target with everything that is needed to evaluate costs. `F` is the precision
/// of the flow and of the attachment; the optimiser works in f64.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::attachment::Landmarks;
/// use keops_lddmm::builtin::closed_curve;
/// use keops_lddmm::kernel::Kernel;
/// use keops_lddmm::registration::{Limits, Options, Progress, Registration};
/// use std::ops::ControlFlow;
///
/// // A circle is to grow by a half.
/// let circle = |r: f64| closed_curve(12, move |t| [r * t.cos(), r * t.sin()]);
/// let options = Options {
///     gamma: 0.01,
///     steps: 4,
///     limits: Limits { iterations: 20, ..Limits::default() },
///     ..Options::new(Kernel::gaussian(1.0)?, Landmarks)
/// };
/// let device = Device::new(Interpreter::new());
/// let registration = Registration::<f64>::new(&circle(1.0)?, &circle(1.5)?, &options, &device)?;
/// let outcome = registration.run(None, &mut |_: &Progress<'_>| ControlFlow::Continue(()))?;
/// assert!(outcome.report.distances_after.hausdorff() < 0.05);
/// // Outwards, each the same.
/// let (q, p) = (registration.landmarks(), &outcome.momenta);
/// assert!(q.outer_iter().zip(p.outer_iter()).all(|(q, p)| q.dot(&p) > 0.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Registration<F> {
    source: Shape,
    target: Shape,
    options: Options<Description>,
    device: String,
    shooting: Shooting<F>,
    matching: Matching<F>,
    centre: Array1<f64>,
    /// Landmarks and silent points at time 0, relative to the centre; momenta zero.
    rest: State<F>,
}

impl<F: Real> Registration<F> {
    /// Prepares a registration of `source` to `target` on a device, or where a place (such as
    /// `keops::Auto`) says for this many pairs of cells or vertices.
    ///
    /// # Errors
    /// [`LddmmError::Parameter`], [`LddmmError::Array`] or [`LddmmError::Mismatch`] for options or
    /// shapes that do not fit (a planar shape and a spatial one among them); [`LddmmError::Device`].
    pub fn new<D: Deformation<F>>(
        source: &Shape,
        target: &Shape,
        options: &Options<D>,
        place: &impl Place,
    ) -> Result<Registration<F>, LddmmError> {
        options.check()?;
        LddmmError::check_dimension(source, target)?;
        let most = source.vertex_count().max(source.cell_count()).max(target.cell_count()) as u64;
        let device = place.device(most * most);
        // Differences of coordinates far from the origin lose digits in f32.
        let (low, high) = source.bounding_box();
        let centre = 0.5 * low + 0.5 * high;
        let moved = |shape: &Shape| {
            let mut vertices = copied(shape.vertices())?;
            vertices -= &centre;
            shape.with_vertices(vertices).map_err(|e| {
                LddmmError::mismatch("the shapes", "coordinates that can be centred", e)
            })
        };
        let (centred, centred_target) = (moved(source)?, moved(target)?);
        let vertices = narrowed::<F>(centred.vertices())?;
        let ground = Ground {
            vertices: vertices.view(),
            centre: centre.view(),
            device: &device,
            reductions: options.reductions,
        };
        let (model, rest) = options.deformation.prepare(&ground)?;
        let dim = rest.vertices().dim();
        if dim != vertices.dim() {
            let expected = format!("{:?} vertices", vertices.dim());
            return Err(LddmmError::mismatch("the state at rest", expected, format!("{dim:?}")));
        }
        Ok(Registration {
            shooting: Shooting::of(Arc::clone(&model), options.integrator, options.steps)?,
            matching: Matching::with_options(
                &options.attachment,
                &centred,
                &centred_target,
                &device,
                options.reductions,
            )?,
            device: device.backend().target(),
            source: source.clone(),
            target: target.clone(),
            options: options.described(Deformation::<F>::describe(&options.deformation)),
            centre,
            rest,
        })
    }
    /// The source.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// assert_eq!(registration.source(), &source);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn source(&self) -> &Shape {
        &self.source
    }
    /// The target.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// assert_eq!(registration.target(), &target);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn target(&self) -> &Shape {
        &self.target
    }
    /// The options, with the deformation in words.
    pub fn options(&self) -> &Options<Description> {
        &self.options
    }
    /// What the reductions run on.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// assert!(!registration.device().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn device(&self) -> &str {
        &self.device
    }
    /// The attachment to the target, of vertices relative to [`Registration::centre`].
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let centred = &source.vertices() - registration.centre();
    /// let value = registration.matching().value(centred.view())?;
    /// assert!((value - 12.0 * 0.25).abs() < 1e-12); // twelve vertices half a unit away
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn matching(&self) -> &Matching<F> {
        &self.matching
    }
    /// The point, of dimension d, that trajectories have their origin in: the middle of the box
    /// around the source.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// assert!(registration.centre().iter().all(|c| c.abs() < 1e-15)); // of a circle about 0
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn centre(&self) -> &Array1<f64> {
        &self.centre
    }
    /// The flow.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// assert_eq!(registration.shooting().integrator(), Integrator::Rk4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shooting(&self) -> &Shooting<F> {
        &self.shooting
    }
    /// Positions of the landmarks at time 0, shape (n, d). Of a model without landmarks these are its
    /// coordinates, without the centre.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let gap = registration.landmarks() - &source.vertices(); // no control points
    /// assert!(gap.iter().all(|g| g.abs() < 1e-15));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn landmarks(&self) -> Array2<f64> {
        let q = self.rest.q().mapv(keops_core::data::Element::to_f64);
        if self.shooting.dynamics().has_landmarks() { q + &self.centre } else { q }
    }

    /// The state at time 0, without momenta.
    pub(crate) fn rest(&self) -> &State<F> {
        &self.rest
    }
    /// The state at time 0 with these momenta.
    pub(crate) fn state(&self, momenta: ArrayView2<'_, f64>) -> Result<State<F>, LddmmError> {
        let (n, d) = self.rest.q().dim();
        LddmmError::check_array("momenta", momenta, Some(n), d)?;
        let mut state = self.rest.copy()?;
        state.p_mut().zip_mut_with(&momenta, |p, &v| *p = narrow(v));
        Ok(state)
    }
    /// The flow of momenta of shape (n, d) at time 0.
    ///
    /// # Errors
    /// [`LddmmError::Array`], [`LddmmError::Breakdown`] or [`LddmmError::Device`].
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let still = registration.shoot(Array2::zeros((12, 2)).view())?;
    /// assert_eq!(still.end().q(), still.states()[0].q());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shoot(&self, momenta: ArrayView2<'_, f64>) -> Result<Trajectory<F>, LddmmError> {
        self.shooting.shoot(self.state(momenta)?)
    }
    /// The source carried by a flow to the time of a state.
    ///
    /// # Errors
    /// [`LddmmError::Mismatch`] when coordinates became too large for a shape.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let outwards = 0.1 * &source.vertices();
    /// let flow = registration.shoot(outwards.view())?;
    /// let (_, high) = registration.deformed(flow.end())?.bounding_box();
    /// assert!(high[0] > 1.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deformed(&self, state: &State<F>) -> Result<Shape, LddmmError> {
        let mut vertices = widened(state.vertices())?;
        vertices += &self.centre;
        self.source
            .with_vertices(vertices)
            .map_err(|e| LddmmError::mismatch("the deformed shape", "acceptable vertices", e))
    }
    /// Cost and gradients at momenta of shape (n, d).
    ///
    /// # Errors
    /// As [`Registration::shoot`].
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let outwards = 0.1 * &source.vertices();
    /// let (start, step) = (Array2::zeros((12, 2)), 1e-6);
    /// let gradient = registration.evaluate(start.view())?.momenta;
    /// let cost = |h: f64| registration.evaluate((h * &outwards).view()).map(|e| e.cost);
    /// let slope = (cost(step)? - cost(-step)?) / (2.0 * step);
    /// assert!((slope - (gradient * &outwards).sum()).abs() < 1e-6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn evaluate(&self, momenta: ArrayView2<'_, f64>) -> Result<Evaluation, LddmmError> {
        let start = self.state(momenta)?;
        let rates = self.shooting.dynamics().rates(&start)?;
        let hamiltonian = if self.shooting.dynamics().has_landmarks() {
            0.5 * dot(start.p(), rates.q())
        } else {
            self.shooting.dynamics().energy(&start)?
        };
        let at_end = |end: &State<F>| {
            let (attachment, gradient) = self.matching.value_and_gradient(end.vertices())?;
            let mut cotangent = end.try_zeros_like()?;
            cotangent.vertices_mut().assign(&gradient);
            Ok((attachment, cotangent))
        };
        let (attachment, pulled) = if self.options.sparse {
            self.shooting.shoot_and_pull_back(start, at_end)?
        } else {
            let trajectory = self.shooting.shoot(start)?;
            let (attachment, cotangent) = at_end(trajectory.end())?;
            (attachment, self.shooting.pull_back(&trajectory, cotangent)?)
        };
        let gamma = self.options.gamma;
        // ∂H/∂p = q̇ and ∂H/∂q = −ṗ.
        Ok(Evaluation {
            hamiltonian,
            attachment,
            cost: gamma * hamiltonian + attachment,
            momenta: combined(pulled.p(), gamma, rates.q())?,
            positions: combined(pulled.q(), -gamma, rates.p())?,
            vertices: match pulled.x().nrows() {
                0 => None,
                _ => Some(widened(pulled.x())?),
            },
        })
    }

    /// The derivative of the gradient in the momenta along a direction, both of shape (n, d): what
    /// Newton's method with conjugate gradients asks for. By central differences of gradients, which are
    /// exact: about eight digits in double precision, two in single, for two evaluations.
    ///
    /// # Errors
    /// As [`Registration::evaluate`].
    pub fn hessian_product(
        &self,
        momenta: ArrayView2<'_, f64>,
        direction: ArrayView2<'_, f64>,
    ) -> Result<Array2<f64>, LddmmError> {
        let (n, d) = self.rest.q().dim();
        LddmmError::check_array("direction", direction, Some(n), d)?;
        let mut direction = copied(direction)?;
        if let Some(bad) = direction.iter().find(|x| !x.is_finite()) {
            return Err(LddmmError::parameter("direction", "finite numbers", bad));
        }
        // Squares of its entries stay within the range.
        let largest = direction.fold(0.0f64, |m, x| m.max(x.abs()));
        if largest == 0.0 {
            return Ok(direction);
        }
        direction /= largest;
        let norm = direction.fold(0.0, |s, x| s + x * x).sqrt();
        // Steps that move the vertices by 5e-6 (5e-4 in single precision) of the size of the shapes.
        let part = if F::epsilon() < narrow(1e-10) { 1e-4 } else { 1e-2 };
        let h = part * self.first_step(direction.view())? / norm;
        let at = |h: f64| -> Result<Array2<f64>, LddmmError> {
            Ok(self.evaluate(combined(momenta, h, direction.view())?.view())?.momenta)
        };
        let mut product = at(h)?;
        product -= &at(-h)?;
        product /= 2.0 * h;
        product *= largest;
        Ok(product)
    }

    /// Length of the first step in the momenta: steepest descent should move the fastest vertex by a twentieth of the shapes' size.
    pub(crate) fn first_step(&self, gradient: ArrayView2<'_, f64>) -> Result<f64, LddmmError> {
        let norm = gradient.fold(0.0, |s, x| s + x * x).sqrt();
        if norm == 0.0 {
            return Ok(1.0);
        }
        // Of unit size, so that nothing overflows in single precision.
        let mut unit = copied(gradient)?;
        unit /= norm;
        let state = self.state(unit.view())?;
        let velocity =
            widened(self.shooting.dynamics().velocity(&state, state.vertices())?.view())?;
        let fastest = velocity.rows().into_iter().fold(0.0f64, |m, v| m.max(v.dot(&v).sqrt()));
        let extent = |shape: &Shape| {
            let (low, high) = shape.bounding_box();
            let edge = high - low;
            edge.dot(&edge).sqrt()
        };
        let size = extent(&self.source).max(extent(&self.target));
        let step = 0.05 * size / fastest;
        Ok(if step.is_finite() && step > 0.0 { step } else { 1.0 })
    }
}

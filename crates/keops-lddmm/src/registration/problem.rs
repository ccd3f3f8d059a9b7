//! The problem: what is minimised, with its gradients.

use keops_core::spec::Device;
use ndarray::{Array1, Array2, ArrayView2};

use crate::attachment::{Attachment, Matching};
use crate::error::LddmmError;
use crate::hamiltonian::State;
use crate::kernel::Kernel;
use crate::optimise::Limits;
use crate::shape::Shape;
use crate::shooting::{Scheme, Shooting, Trajectory};
use crate::sum::{Real, combined, copied, dot, narrow, narrowed, widened, zeros};

/// What to minimise, and how.
///
/// ```
/// use keops_lddmm::attachment::Attachment;
/// use keops_lddmm::kernel::Kernel;
/// use keops_lddmm::registration::{Limits, Options};
/// use keops_lddmm::shooting::Scheme;
/// let options = Options {
///     kernel: Kernel::gaussian(0.5)?, // deformations are smooth at half a unit
///     attachment: Attachment::Varifold { kernel: Kernel::gaussian(0.2)? },
///     gamma: 1e-3,
///     scheme: Scheme::Ralston,
///     steps: 10,
///     control_points: None,
///     limits: Limits::default(),
/// };
/// // The same on a coarse grid of control points, however many vertices the shapes have.
/// let grid = ndarray::Array2::from_shape_fn((16, 2), |(i, k)| [i / 4, i % 4][k] as f64);
/// let coarse = Options { control_points: Some(grid), ..options };
/// # assert_eq!(coarse.control_points.map(|c| c.nrows()), Some(16));
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Kernel of the deformations.
    pub kernel: Kernel,
    /// Distance between the deformed source and the target.
    pub attachment: Attachment,
    /// Weight γ of the energy, at least 0.
    pub gamma: f64,
    /// Scheme of the flow.
    pub scheme: Scheme,
    /// Steps of the flow over the time from 0 to 1.
    pub steps: usize,
    /// Landmarks that carry the vertices, shape (n, d); `None`: the vertices themselves.
    pub control_points: Option<Array2<f64>>,
    /// When to stop.
    pub limits: Limits,
}

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
/// use keops_lddmm::attachment::Attachment;
/// use keops_lddmm::builtin::closed_curve;
/// use keops_lddmm::kernel::Kernel;
/// use keops_lddmm::registration::{Limits, Options, Progress, Registration};
/// use keops_lddmm::shooting::Scheme;
/// use std::ops::ControlFlow;
///
/// // A circle is to grow by a half.
/// let circle = |r: f64| closed_curve(12, move |t| [r * t.cos(), r * t.sin()]);
/// let options = Options {
///     kernel: Kernel::gaussian(1.0)?,
///     attachment: Attachment::Landmarks,
///     gamma: 0.01,
///     scheme: Scheme::Rk4,
///     steps: 4,
///     control_points: None,
///     limits: Limits { iterations: 20, ..Limits::default() },
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
    options: Options,
    device: String,
    shooting: Shooting<F>,
    matching: Matching<F>,
    centre: Array1<f64>,
    /// Landmarks and silent points at time 0, relative to the centre; momenta zero.
    rest: State<F>,
}

impl<F: Real> Registration<F> {
    /// Prepares a registration of `source` to `target` on a device.
    ///
    /// # Errors
    /// [`LddmmError::Parameter`], [`LddmmError::Array`] or [`LddmmError::Mismatch`] for options or
    /// shapes that do not fit (a planar shape and a spatial one among them); [`LddmmError::Device`].
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let negative = Options { gamma: -1.0, ..options };
    /// let Err(e) = Registration::<f64>::new(&source, &target, &negative, &device) else {
    ///     unreachable!("an energy is not to grow")
    /// };
    /// assert_eq!(e.to_string(), "gamma: expected a number that is not negative, got -1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(
        source: &Shape,
        target: &Shape,
        options: &Options,
        device: &Device,
    ) -> Result<Registration<F>, LddmmError> {
        let Options { kernel, attachment, gamma, scheme, steps, control_points, limits } = options;
        if !(*gamma >= 0.0 && gamma.is_finite()) {
            return Err(LddmmError::parameter("gamma", "a number that is not negative", gamma));
        }
        limits.check()?;
        let d = source.dim();
        LddmmError::check_dimension(source, target)?;
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
        let rest = match control_points {
            None => State::new(vertices.view(), zeros(vertices.dim())?.view())?,
            Some(points) => {
                LddmmError::check_array("control_points", points.view(), None, d)?;
                if let Some(bad) = points.iter().find(|x| !x.is_finite()) {
                    return Err(LddmmError::parameter("control_points", "finite numbers", bad));
                }
                let mut points = copied(points.view())?;
                points -= &centre;
                let points = narrowed::<F>(points.view())?;
                State::new(points.view(), zeros(points.dim())?.view())?
                    .with_silent(vertices.view())?
            }
        };
        Ok(Registration {
            shooting: Shooting::new(kernel, d, *scheme, *steps, device)?,
            matching: Matching::new(attachment, &centred, &centred_target, device)?,
            device: device.backend().target(),
            source: source.clone(),
            target: target.clone(),
            options: options.clone(),
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
    /// The options.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// assert_eq!(registration.options().steps, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn options(&self) -> &Options {
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
    /// assert_eq!(registration.shooting().scheme(), Scheme::Rk4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shooting(&self) -> &Shooting<F> {
        &self.shooting
    }
    /// Positions of the landmarks at time 0, shape (n, d).
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let gap = registration.landmarks() - &source.vertices(); // no control points
    /// assert!(gap.iter().all(|g| g.abs() < 1e-15));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn landmarks(&self) -> Array2<f64> {
        self.rest.q().mapv(keops_core::data::Element::to_f64) + &self.centre
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
    /// The vertices in a state.
    pub(crate) fn vertices<'s>(&self, state: &'s State<F>) -> ArrayView2<'s, F> {
        if self.options.control_points.is_some() { state.x() } else { state.q() }
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
        let mut vertices = widened(self.vertices(state))?;
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
        let hamiltonian = 0.5 * dot(start.p(), rates.q());
        let trajectory = self.shooting.shoot(start)?;
        let end = trajectory.end();
        let (attachment, gradient) = self.matching.value_and_gradient(self.vertices(end))?;
        let mut cotangent = end.try_zeros_like()?;
        if self.options.control_points.is_some() {
            cotangent.x_mut().assign(&gradient);
        } else {
            cotangent.q_mut().assign(&gradient);
        }
        let pulled = self.shooting.pull_back(&trajectory, cotangent)?;
        let gamma = self.options.gamma;
        // ∂H/∂p = q̇ and ∂H/∂q = −ṗ.
        Ok(Evaluation {
            hamiltonian,
            attachment,
            cost: gamma * hamiltonian + attachment,
            momenta: combined(pulled.p(), gamma, rates.q())?,
            positions: combined(pulled.q(), -gamma, rates.p())?,
            vertices: match self.options.control_points {
                Some(_) => Some(widened(pulled.x())?),
                None => None,
            },
        })
    }

    /// Length of the first step in the momenta: steepest descent should move the fastest landmark
    /// by a twentieth of the shapes' size.
    pub(crate) fn first_step(&self, gradient: ArrayView2<'_, f64>) -> Result<f64, LddmmError> {
        let norm = gradient.fold(0.0, |s, x| s + x * x).sqrt();
        if norm == 0.0 {
            return Ok(1.0);
        }
        // Of unit size, so that nothing overflows in single precision.
        let mut unit = copied(gradient)?;
        unit /= norm;
        let state = self.state(unit.view())?;
        let velocity = widened(self.shooting.dynamics().velocity(&state, state.q())?.view())?;
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

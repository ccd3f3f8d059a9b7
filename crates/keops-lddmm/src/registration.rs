//! Registration: momenta that carry a source shape onto a target.
//!
//! The cost is γ H(q0, p0) + A(q1), with the energy H of [`crate::hamiltonian`] and an attachment A
//! of the shape at time 1. Landmarks are the vertices of the source, or control points that carry
//! them. The gradient is exact for the discrete flow; L-BFGS minimises over the momenta p0.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use keops_core::spec::Device;
use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::attachment::{Attachment, Matching};
use crate::error::LddmmError;
use crate::hamiltonian::State;
use crate::kernel::Kernel;
use crate::optimise::{Iteration, Value, minimise};
pub use crate::optimise::{Limits, Stop};
use crate::report::{Report, evidence};
use crate::shape::Shape;
use crate::shooting::{Scheme, Shooting, Trajectory};
use crate::sum::{Real, narrow, narrowed, widened};

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

/// Where a registration is, after an iteration.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// let mut costs = vec![];
/// registration.run(None, &mut |p: &Progress<'_>| {
///     println!("{p}"); // iteration, cost in its parts, gradient, time
///     costs.push(p.cost);
///     assert_eq!(p.cost, p.energy + p.attachment);
///     ControlFlow::Continue(())
/// })?;
/// assert!(costs.windows(2).all(|pair| pair[1] <= pair[0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Iterations made.
    pub iteration: usize,
    /// Evaluations of cost and gradient made.
    pub evaluations: usize,
    /// γH + A.
    pub cost: f64,
    /// γH.
    pub energy: f64,
    /// A.
    pub attachment: f64,
    /// Euclidean norm of the gradient in the momenta.
    pub gradient_norm: f64,
    /// Euclidean length of the step in the momenta.
    pub step: f64,
    /// Time since the start.
    pub elapsed: Duration,
    /// At most this long, should all iterations be made and take as long as those before.
    pub remaining: Duration,
    /// The momenta reached, shape (n, d): enough to go on from here.
    pub momenta: ArrayView2<'a, f64>,
}

impl std::fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "iteration {:4}  cost {:.6e} = energy {:.4e} + attachment {:.4e}  |gradient| {:.2e}  \
             step {:.2e}  evaluations {:4}  {:.1} s, at most {:.0} s more",
            self.iteration,
            self.cost,
            self.energy,
            self.attachment,
            self.gradient_norm,
            self.step,
            self.evaluations,
            self.elapsed.as_secs_f64(),
            self.remaining.as_secs_f64()
        )
    }
}

/// Watches a registration and may stop it. Closures of [`Progress`] are observers.
///
/// ```
/// use keops_lddmm::registration::{Observer, Progress};
/// use std::ops::ControlFlow;
/// /// Stops when the cost is low enough, or after too much work.
/// struct Enough {
///     cost: f64,
///     evaluations: usize,
/// }
/// fn stop_if(yes: bool) -> ControlFlow<()> {
///     if yes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
/// }
/// impl Observer for Enough {
///     fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
///         stop_if(progress.cost < self.cost)
///     }
///     fn evaluation(&mut self, made: usize) -> ControlFlow<()> {
///         stop_if(made >= self.evaluations)
///     }
/// }
/// let mut enough = Enough { cost: 0.1, evaluations: 50 };
/// assert_eq!(enough.evaluation(50), ControlFlow::Break(()));
/// ```
pub trait Observer {
    /// After each iteration; a break ends the minimisation ([`Stop::Interrupted`]).
    ///
    /// ```
    #[doc = include_str!("registration_example.txt")]
    /// let mut first = |_: &Progress<'_>| ControlFlow::Break(());
    /// let report = registration.run(None, &mut first)?.report;
    /// assert_eq!((report.iterations, report.stop), (1, Stop::Interrupted));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()>;
    /// Before each evaluation but the first, with the number of those made; a break ends the
    /// minimisation, which returns the best momenta so far. By default it goes on.
    ///
    /// ```
    /// use keops_lddmm::registration::{Observer, Progress};
    /// use std::ops::ControlFlow;
    /// let mut silent = |_: &Progress<'_>| ControlFlow::<()>::Continue(());
    /// assert!(silent.evaluation(1000).is_continue());
    /// ```
    fn evaluation(&mut self, made: usize) -> ControlFlow<()> {
        let _ = made;
        ControlFlow::Continue(())
    }
}
impl<T: FnMut(&Progress<'_>) -> ControlFlow<()>> Observer for T {
    fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self(progress)
    }
}

/// Cost and gradients at given momenta.
///
/// ```
#[doc = include_str!("registration_example.txt")]
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

/// A registration that could not go on.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// let e = registration.run(Some(Array2::zeros((5, 2)).view()), &mut silent).unwrap_err();
/// assert_eq!(e.to_string(), "`momenta`: expected shape (12, 2), got shape [5, 2]");
/// assert!(e.reached.is_none()); // there was no start
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct RegistrationError {
    /// Why.
    #[source]
    pub error: LddmmError,
    /// The best momenta that were reached, shape (n, d), if the start could be evaluated.
    pub reached: Option<Box<Array2<f64>>>,
}

impl From<LddmmError> for RegistrationError {
    fn from(error: LddmmError) -> RegistrationError {
        RegistrationError { error, reached: None }
    }
}

/// What a registration reached.
///
/// ```
#[doc = include_str!("registration_example.txt")]
/// let Outcome { momenta, trajectory, result, report } = registration.run(None, &mut silent)?;
/// assert_eq!((momenta.dim(), trajectory.states().len()), ((12, 2), 5));
/// assert_eq!(result.cells(), source.cells());
/// assert!(report.distances_after.mean() < report.distances_before.mean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Outcome<F> {
    /// Momenta at time 0, shape (n, d).
    pub momenta: Array2<f64>,
    /// The flow, in coordinates relative to [`Registration::centre`].
    pub trajectory: Trajectory<F>,
    /// The source deformed.
    pub result: Shape,
    /// Costs, evidence and distances.
    pub report: Report,
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
    pub(crate) source: Shape,
    pub(crate) target: Shape,
    pub(crate) options: Options,
    pub(crate) device: String,
    pub(crate) shooting: Shooting<F>,
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
    /// shapes that do not fit; [`LddmmError::Device`].
    ///
    /// ```
    #[doc = include_str!("registration_example.txt")]
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
        // Differences of coordinates far from the origin lose digits in f32.
        let (low, high) = source.bounding_box();
        let centre = 0.5 * low + 0.5 * high;
        let moved = |shape: &Shape| {
            let vertices = &shape.vertices() - &centre;
            shape.with_vertices(vertices).map_err(|e| {
                LddmmError::mismatch("the shapes", "coordinates that can be centred", e)
            })
        };
        let (centred, centred_target) = (moved(source)?, moved(target)?);
        let vertices = narrowed::<F>(centred.vertices());
        let rest = match control_points {
            None => State::new(vertices.view(), Array2::zeros(vertices.raw_dim()).view())?,
            Some(points) => {
                LddmmError::check_array("control_points", points.view(), None, d)?;
                if let Some(bad) = points.iter().find(|x| !x.is_finite()) {
                    return Err(LddmmError::parameter("control_points", "finite numbers", bad));
                }
                let points = narrowed::<F>((points - &centre).view());
                State::new(points.view(), Array2::zeros(points.raw_dim()).view())?
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
    #[doc = include_str!("registration_example.txt")]
    /// assert_eq!(registration.source(), &source);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn source(&self) -> &Shape {
        &self.source
    }
    /// The target.
    ///
    /// ```
    #[doc = include_str!("registration_example.txt")]
    /// assert_eq!(registration.target(), &target);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn target(&self) -> &Shape {
        &self.target
    }
    /// The options.
    ///
    /// ```
    #[doc = include_str!("registration_example.txt")]
    /// assert_eq!(registration.options().steps, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn options(&self) -> &Options {
        &self.options
    }
    /// The point, of dimension d, that trajectories have their origin in: the middle of the box
    /// around the source.
    ///
    /// ```
    #[doc = include_str!("registration_example.txt")]
    /// assert!(registration.centre().iter().all(|c| c.abs() < 1e-15)); // of a circle about 0
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn centre(&self) -> &Array1<f64> {
        &self.centre
    }
    /// The flow.
    ///
    /// ```
    #[doc = include_str!("registration_example.txt")]
    /// assert_eq!(registration.shooting().scheme(), Scheme::Rk4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shooting(&self) -> &Shooting<F> {
        &self.shooting
    }
    /// Positions of the landmarks at time 0, shape (n, d).
    ///
    /// ```
    #[doc = include_str!("registration_example.txt")]
    /// let gap = registration.landmarks() - &source.vertices(); // no control points
    /// assert!(gap.iter().all(|g| g.abs() < 1e-15));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn landmarks(&self) -> Array2<f64> {
        widened(self.rest.q()) + &self.centre
    }

    fn state(&self, momenta: ArrayView2<'_, f64>) -> Result<State<F>, LddmmError> {
        let (n, d) = self.rest.q().dim();
        LddmmError::check_array("momenta", momenta, Some(n), d)?;
        let mut state = self.rest.clone();
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
    #[doc = include_str!("registration_example.txt")]
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
    #[doc = include_str!("registration_example.txt")]
    /// let outwards = 0.1 * &source.vertices();
    /// let flow = registration.shoot(outwards.view())?;
    /// let (_, high) = registration.deformed(flow.end())?.bounding_box();
    /// assert!(high[0] > 1.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deformed(&self, state: &State<F>) -> Result<Shape, LddmmError> {
        let vertices = widened(self.vertices(state)) + &self.centre;
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
    #[doc = include_str!("registration_example.txt")]
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
        let hamiltonian = 0.5 * crate::sum::dot(start.p(), rates.q());
        let trajectory = self.shooting.shoot(start)?;
        let end = trajectory.end();
        let (attachment, gradient) = self.matching.value_and_gradient(self.vertices(end))?;
        let mut cotangent = end.zeros_like();
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
            momenta: widened(pulled.p()) + &(widened(rates.q()) * gamma),
            positions: widened(pulled.q()) - &(widened(rates.p()) * gamma),
            vertices: self.options.control_points.as_ref().map(|_| widened(pulled.x())),
        })
    }

    /// Minimises the cost from the momenta `start`, of shape (n, d), or from zero.
    ///
    /// The best momenta that were evaluated are returned whatever ended the minimisation: limits,
    /// the observer, or a failure (in the error).
    ///
    /// # Errors
    /// [`LddmmError::NotFinite`] or [`LddmmError::Breakdown`] at the start; what
    /// [`Registration::evaluate`] may return other than breakdowns, which only bound the steps.
    ///
    /// ```
    #[doc = include_str!("registration_example.txt")]
    /// let first = registration.run(None, &mut silent)?;
    /// // On from where the limit of iterations stopped it.
    /// let more = registration.run(Some(first.momenta.view()), &mut silent)?;
    /// assert_eq!(more.report.before.cost, first.report.after.cost);
    /// assert!(more.report.after.cost <= first.report.after.cost);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run(
        &self,
        start: Option<ArrayView2<'_, f64>>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<F>, RegistrationError> {
        let clock = Instant::now();
        let dim = self.rest.q().raw_dim();
        let shaped = |p: &Array1<f64>| match p.view().into_shape_with_order(dim) {
            Ok(v) => v.to_owned(),
            Err(_) => unreachable!("momenta are flattened from {dim:?}"),
        };
        let mut evaluate = |p: &Array1<f64>| {
            let e = self.evaluate(shaped(p).view())?;
            Ok(Value {
                cost: e.cost,
                energy: self.options.gamma * e.hamiltonian,
                attachment: e.attachment,
                gradient: e.momenta.flatten().to_owned(),
            })
        };
        let point = match start {
            Some(p) => {
                LddmmError::check_array("momenta", p, Some(dim[0]), dim[1])?;
                p.flatten().to_owned()
            }
            None => Array1::zeros(dim[0] * dim[1]),
        };
        let before = evaluate(&point)?;
        for (what, value) in [
            ("cost", before.cost),
            ("norm of the gradient", before.gradient.dot(&before.gradient).sqrt()),
        ] {
            if !value.is_finite() {
                return Err(LddmmError::NotFinite { what, value }.into());
            }
        }
        let first_step = self.first_step(&before.gradient, shaped(&before.gradient).view())?;
        let limits = &self.options.limits;
        let observer = std::cell::RefCell::new(observer);
        let mut after = |i: &Iteration<'_>| {
            let left = limits.iterations.saturating_sub(i.iteration) as f64;
            let each = i.elapsed.as_secs_f64() / i.iteration as f64;
            let momenta = shaped(i.point);
            observer.borrow_mut().iteration(&Progress {
                iteration: i.iteration,
                evaluations: i.evaluations,
                cost: i.value.cost,
                energy: i.value.energy,
                attachment: i.value.attachment,
                gradient_norm: i.value.gradient.dot(&i.value.gradient).sqrt(),
                step: i.step,
                elapsed: i.elapsed,
                remaining: Duration::try_from_secs_f64(left * each).unwrap_or(Duration::MAX),
                momenta: momenta.view(),
            })
        };
        let mut before_each = |made: usize| observer.borrow_mut().evaluation(made);
        let begin = (point, before.clone());
        let reached =
            minimise(begin, first_step, limits, &mut evaluate, &mut before_each, &mut after);
        let momenta = shaped(&reached.point);
        let failed = |error| RegistrationError { error, reached: Some(Box::new(momenta.clone())) };
        if let Some(error) = reached.failure {
            return Err(failed(error));
        }
        let seconds = clock.elapsed().as_secs_f64();
        let trajectory = self.shoot(momenta.view()).map_err(failed)?;
        let result = self.deformed(trajectory.end()).map_err(failed)?;
        let report =
            evidence(self, &trajectory, &result, &before, &reached, seconds).map_err(failed)?;
        Ok(Outcome { momenta, trajectory, result, report })
    }

    /// Length of the first step in the momenta: steepest descent should move the fastest landmark
    /// by a twentieth of the shapes' size.
    fn first_step(
        &self,
        gradient: &Array1<f64>,
        shaped: ArrayView2<'_, f64>,
    ) -> Result<f64, LddmmError> {
        let norm = gradient.dot(gradient).sqrt();
        if norm == 0.0 {
            return Ok(1.0);
        }
        // Of unit size, so that nothing overflows in single precision.
        let state = self.state((&shaped / norm).view())?;
        let velocity = self.shooting.dynamics().velocity(&state, state.q())?;
        let fastest = widened(velocity.view())
            .map_axis(Axis(1), |v| v.dot(&v).sqrt())
            .fold(0.0f64, |m, &v| m.max(v));
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

//! What to minimise, and how.

use std::fmt::Debug;
use std::sync::Arc;

use keops_core::ranges::Ranges;
use keops_core::spec::{Device, ReduceOptions};
use ndarray::{Array2, ArrayView1, ArrayView2};

use crate::attachment::Attachment;
use crate::error::LddmmError;
use crate::hamiltonian::Dynamics;
use crate::kernel::Kernel;
use crate::model::Model;
use crate::optimise::Limits;
use crate::shooting::Integrator;
use crate::state::State;
use crate::sum::{Real, copied, narrowed, zeros};

/// What to minimise, and how: [`Options::new`] for landmarks under a kernel, [`Options::with_model`] for
/// any other model of deformations.
///
/// ```
/// use keops_lddmm::attachment::varifold;
/// use keops_lddmm::kernel::Kernel;
/// use keops_lddmm::registration::Options;
/// use keops_lddmm::shooting::Integrator;
/// // Deformations are smooth at half a unit, shapes are compared at a fifth.
/// let (smooth, near) = (Kernel::gaussian(0.5)?, Kernel::gaussian(0.2)?);
/// let options = Options { gamma: 1e-3, integrator: Integrator::Rk4, ..Options::new(smooth, varifold(near)) };
/// assert_eq!(options.steps, 10); // the default
/// // The same on a coarse grid of control points, however many vertices the shapes have.
/// let grid = ndarray::Array2::from_shape_fn((16, 2), |(i, k)| [i / 4, i % 4][k] as f64);
/// let coarse = options.with_control_points(grid);
/// # assert_eq!(coarse.deformation.control_points.map(|c| c.nrows()), Some(16));
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options<D = KernelFlow> {
    /// How points move.
    pub deformation: D,
    /// Distance between the deformed source and the target.
    pub attachment: Arc<dyn Attachment>,
    /// Weight γ of the energy, at least 0.
    pub gamma: f64,
    /// Integrator of the flow.
    pub integrator: Integrator,
    /// Steps of the flow over the time from 0 to 1.
    pub steps: usize,
    /// When to stop.
    pub limits: Limits,
    /// Keep no more than about 2 √steps states of a flow for the gradient, and make the steps between
    /// them once more: less memory, a third more time, the same bits. For many steps of large shapes.
    pub sparse: bool,
    /// How sums are added.
    pub reductions: ReduceOptions,
}

impl Options {
    /// Landmarks at the vertices of the source, under a kernel; by default γ = 10⁻³, ten steps of
    /// Ralston's scheme, and [`Limits::default`].
    pub fn new(kernel: Kernel, attachment: impl Attachment + 'static) -> Options {
        Options::of(KernelFlow { kernel, control_points: None, ranges: None }, attachment)
    }
    /// With landmarks at other places, of shape (n, d), that carry the vertices.
    pub fn with_control_points(self, points: Array2<f64>) -> Options {
        let deformation = KernelFlow { control_points: Some(points), ..self.deformation };
        Options { deformation, ..self }
    }
    /// With another kernel of the deformations.
    pub fn with_kernel(self, kernel: Kernel) -> Options {
        Options { deformation: KernelFlow { kernel, ..self.deformation }, ..self }
    }
}

impl<F: Real> Options<Arc<dyn Model<F>>> {
    /// Any model of deformations, with the defaults of [`Options::new`].
    pub fn with_model(
        model: Arc<dyn Model<F>>,
        attachment: impl Attachment + 'static,
    ) -> Options<Arc<dyn Model<F>>> {
        Options::of(model, attachment)
    }
}

impl<D> Options<D> {
    fn of(deformation: D, attachment: impl Attachment + 'static) -> Options<D> {
        Options {
            deformation,
            attachment: Arc::new(attachment),
            gamma: 1e-3,
            integrator: Integrator::Ralston,
            steps: 10,
            limits: Limits::default(),
            sparse: false,
            reductions: ReduceOptions::default(),
        }
    }
    /// With another attachment.
    pub fn with_attachment(self, attachment: impl Attachment + 'static) -> Options<D> {
        Options { attachment: Arc::new(attachment), ..self }
    }
    pub(crate) fn described(&self, deformation: Description) -> Options<Description> {
        Options {
            deformation,
            attachment: self.attachment.clone(),
            gamma: self.gamma,
            integrator: self.integrator,
            steps: self.steps,
            limits: self.limits,
            sparse: self.sparse,
            reductions: self.reductions,
        }
    }
    pub(crate) fn check(&self) -> Result<(), LddmmError> {
        let gamma = self.gamma;
        if !(gamma >= 0.0 && gamma.is_finite()) {
            return Err(LddmmError::parameter("gamma", "a number that is not negative", gamma));
        }
        self.limits.check()
    }
}

/// A deformation in words.
///
/// ```
/// use keops_lddmm::kernel::Kernel;
/// use keops_lddmm::registration::{Deformation, KernelFlow};
/// let flow = KernelFlow { kernel: Kernel::gaussian(2.0)?, control_points: None, ranges: None };
/// assert_eq!(Deformation::<f64>::describe(&flow).text, "exp(-|x-y|²/2²)");
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The kernel, or the text of the model.
    pub text: String,
    /// The control points, if there are any.
    pub control_points: Option<Array2<f64>>,
    /// Names and values of what is to be the same when a run is resumed, beside these.
    pub more: Vec<(String, String)>,
}

/// What a [`Deformation`] is prepared for.
///
/// ```
/// use keops_lddmm::registration::Ground;
/// fn vertices(ground: &Ground<'_, f32>) -> usize {
///     ground.vertices.nrows()
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ground<'a, F> {
    /// Vertices of the source relative to the centre, shape (n, d).
    pub vertices: ArrayView2<'a, F>,
    /// The middle of the box around the source.
    pub centre: ArrayView1<'a, f64>,
    /// Where reductions run.
    pub device: &'a Device,
    /// How sums are added.
    pub reductions: ReduceOptions,
}

/// A model, and the state of the source at time 0 with momenta 0.
pub type AtRest<F> = (Arc<dyn Model<F>>, State<F>);

/// How a registration comes by its [`Model`] and the state of the source at rest. A model is a
/// deformation, in an [`Arc`].
///
/// ```
/// use keops_lddmm::registration::{Deformation, KernelFlow};
/// fn is_one<F: keops_lddmm::Real, D: Deformation<F>>() {}
/// is_one::<f32, KernelFlow>();
/// is_one::<f64, std::sync::Arc<dyn keops_lddmm::model::Model<f64>>>();
/// ```
pub trait Deformation<F: Real> {
    /// The model and the state of the source at time 0, with momenta 0.
    ///
    /// # Errors
    /// For parameters and vertices that do not fit.
    fn prepare(&self, ground: &Ground<'_, F>) -> Result<AtRest<F>, LddmmError>;
    /// What stands in reports and checkpoints.
    fn describe(&self) -> Description;
}

/// Landmarks that flow under a kernel: LDDMM.
///
/// ```
/// use keops_lddmm::attachment::Landmarks;
/// use keops_lddmm::kernel::Kernel;
/// use keops_lddmm::registration::Options;
/// let options = Options::new(Kernel::cauchy(2.0)?, Landmarks);
/// assert!(options.deformation.control_points.is_none());
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
#[derive(Clone, Debug)]
pub struct KernelFlow {
    /// Kernel of the deformations.
    pub kernel: Kernel,
    /// Landmarks that carry the vertices, shape (n, d); `None`: the vertices themselves.
    pub control_points: Option<Array2<f64>>,
    /// Pairs of landmarks that interact; `None`: all ([`Dynamics::with_ranges`]).
    pub ranges: Option<Ranges>,
}

impl<F: Real> Deformation<F> for KernelFlow {
    fn prepare(&self, at: &Ground<'_, F>) -> Result<AtRest<F>, LddmmError> {
        let d = at.vertices.ncols();
        let mut dynamics = Dynamics::<F>::with_options(&self.kernel, d, at.device, at.reductions)?;
        if let Some(ranges) = &self.ranges {
            dynamics = dynamics.with_ranges(ranges.clone())?;
        }
        let rest = match &self.control_points {
            None => dynamics.rest(at.vertices)?,
            Some(points) => {
                LddmmError::check_array("control_points", points.view(), None, d)?;
                if let Some(bad) = points.iter().find(|x| !x.is_finite()) {
                    return Err(LddmmError::parameter("control_points", "finite numbers", bad));
                }
                let mut points = copied(points.view())?;
                points -= &at.centre;
                let points = narrowed::<F>(points.view())?;
                State::new(points.view(), zeros(points.dim())?.view())?.with_silent(at.vertices)?
            }
        };
        Ok((Arc::new(dynamics), rest))
    }
    fn describe(&self) -> Description {
        let pairs =
            self.ranges.as_ref().map(|r| ("the pairs".into(), format!("{} pairs", r.pairs())));
        Description {
            text: self.kernel.to_string(),
            control_points: self.control_points.clone(),
            more: pairs.into_iter().collect(),
        }
    }
}

impl<F: Real> Deformation<F> for Arc<dyn Model<F>> {
    fn prepare(&self, at: &Ground<'_, F>) -> Result<AtRest<F>, LddmmError> {
        Ok((self.clone(), self.rest(at.vertices)?))
    }
    fn describe(&self) -> Description {
        Description { text: self.to_string(), control_points: None, more: vec![] }
    }
}

//! Attachments: how far a deformed shape is from its target, with gradients in its vertices.
//!
//! An [`Attachment`] says what is measured; [`Attachment::prepare`] computes what depends on the
//! target alone and compiles sums, once; what it returns is [`Prepared`] for any vertices. Distances
//! of currents, varifolds and measures are entries of one table ([`cells`]); [`Landmarks`],
//! [`WeightedSum`] and what other crates define are attachments like these.

pub mod cells;
mod landmarks;
mod sinkhorn;
mod sum;

use std::fmt::{Debug, Display};
use std::sync::Arc;

use keops_core::data::DType;
use keops_core::genred::Place;
use keops_core::spec::{Device, ReduceOptions};
use ndarray::{Array2, ArrayView2};

use crate::error::LddmmError;
use crate::shape::Shape;
use crate::sum::{Real, narrowed, widened};
pub use cells::{CellDistance, current, measure, oriented_varifold, unoriented_varifold, varifold};
pub use landmarks::Landmarks;
pub use sinkhorn::Sinkhorn;
pub use sum::WeightedSum;

/// What an attachment is prepared for.
///
/// ```
/// use keops_lddmm::attachment::Setting;
/// fn vertices(setting: &Setting<'_>) -> usize {
///     setting.source.vertices().nrows()
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Setting<'a> {
    /// The shape that will be deformed: its cells and the number of its vertices.
    pub source: &'a Shape,
    /// The shape to come to, of the same dimension.
    pub target: &'a Shape,
    /// Where reductions run.
    pub device: &'a Device,
    /// The precision of a registration, [`DType::F32`] or [`DType::F64`]: vertices are rounded to it.
    pub precision: DType,
    /// How sums are added.
    pub reductions: ReduceOptions,
}

/// A distance between shapes that can be prepared for a target. Its text ([`Display`]) stands in
/// reports and checkpoints, and should have all parameters in it: runs are resumed only where it
/// is the same.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::LddmmError;
/// use keops_lddmm::attachment::{Attachment, Matching, Prepared, Setting};
/// use keops_lddmm::builtin::curve_pair;
/// use ndarray::{Array1, Array2, ArrayView2, Axis};
///
/// /// The squared distance of the mean vertices, times the number of vertices.
/// #[derive(Debug)]
/// struct Means;
/// impl std::fmt::Display for Means {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str("means")
///     }
/// }
/// struct MeanOfTarget(Array1<f64>);
/// impl Attachment for Means {
///     fn prepare(&self, at: &Setting<'_>) -> Result<Box<dyn Prepared>, LddmmError> {
///         Ok(Box::new(MeanOfTarget(at.target.vertices().sum_axis(Axis(0)) / at.target.vertex_count() as f64)))
///     }
/// }
/// impl Prepared for MeanOfTarget {
///     fn value_and_gradient(&self, x: ArrayView2<'_, f64>) -> Result<(f64, Array2<f64>), LddmmError> {
///         let n = x.nrows() as f64;
///         let gap = x.sum_axis(Axis(0)) / n - &self.0;
///         let gradient = Array2::from_shape_fn(x.dim(), |(_, k)| 2.0 * gap[k]);
///         Ok((n * gap.dot(&gap), gradient))
///     }
/// }
///
/// let (source, target) = curve_pair(30)?;
/// let device = Device::new(Interpreter::new());
/// let matching = Matching::<f64>::new(&Means, &source, &target, &device)?;
/// assert!(matching.value(source.vertices())? > 0.01);
/// assert!(matching.value(target.vertices())? < 1e-20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Attachment: Display + Debug + Send + Sync {
    /// Computes what depends on the target, and compiles what will be evaluated.
    ///
    /// # Errors
    /// For shapes that do not fit: [`LddmmError::Mismatch`].
    fn prepare(&self, setting: &Setting<'_>) -> Result<Box<dyn Prepared>, LddmmError>;
}

impl<A: Attachment + ?Sized> Attachment for Arc<A> {
    fn prepare(&self, setting: &Setting<'_>) -> Result<Box<dyn Prepared>, LddmmError> {
        (**self).prepare(setting)
    }
}

/// An [`Attachment`] to a given target, of shapes with given cells.
///
/// ```
/// use keops_lddmm::{LddmmError, attachment::Prepared};
/// use ndarray::{Array2, ArrayView2, array};
/// /// Half the squared distance to the origin.
/// struct Origin;
/// impl Prepared for Origin {
///     fn value_and_gradient(&self, x: ArrayView2<'_, f64>) -> Result<(f64, Array2<f64>), LddmmError> {
///         Ok((0.5 * (&x * &x).sum(), x.to_owned()))
///     }
/// }
/// let (x, along) = (array![[3.0, 4.0]], array![[1.0, -2.0]]);
/// assert_eq!(Origin.value_and_gradient(x.view())?.0, 12.5);
/// // Without a rule of its own the Hessian is that of differences of gradients.
/// let product = Origin.hessian_product(x.view(), along.view())?;
/// assert!((product - along).iter().all(|gap| gap.abs() < 1e-9));
/// # Ok::<(), LddmmError>(())
/// ```
pub trait Prepared: Send + Sync {
    /// The distance of the shape with the given vertices, of shape (n, d), which are as many as those
    /// of the source, and its gradient in them, of the same shape.
    ///
    /// # Errors
    /// When the device fails or there is no memory.
    fn value_and_gradient(
        &self,
        vertices: ArrayView2<'_, f64>,
    ) -> Result<(f64, Array2<f64>), LddmmError>;

    /// The derivative of the gradient in the vertices along a direction of the same shape; by central
    /// differences of gradients unless there is a rule, about eight digits in double precision.
    ///
    /// # Errors
    /// As [`Prepared::value_and_gradient`].
    fn hessian_product(
        &self,
        vertices: ArrayView2<'_, f64>,
        direction: ArrayView2<'_, f64>,
    ) -> Result<Array2<f64>, LddmmError> {
        let largest = |a: ArrayView2<'_, f64>| a.fold(0.0f64, |m, v| m.max(v.abs()));
        let length = largest(direction);
        if length == 0.0 {
            return Ok(direction.to_owned());
        }
        // The third root of the rounding balances it with the next term of the series.
        let h = 6e-6 * largest(vertices).max(f64::MIN_POSITIVE) / length;
        let at = |h: f64| -> Result<Array2<f64>, LddmmError> {
            let moved = crate::sum::combined(vertices, h, direction)?;
            Ok(self.value_and_gradient(moved.view())?.1)
        };
        Ok((at(h)? - at(-h)?) / (2.0 * h))
    }

    /// The cosine of the angle between the shape with the given vertices and the target, ⟨S,T⟩ / (|S| |T|),
    /// where the attachment has one: near 0 where it is too narrow to see the target.
    ///
    /// # Errors
    /// As [`Prepared::value_and_gradient`].
    fn overlap(&self, vertices: ArrayView2<'_, f64>) -> Result<Option<f64>, LddmmError> {
        let _ = vertices;
        Ok(None)
    }
}

/// An attachment to a given target in the precision `F` of a registration, for deformed shapes with
/// given cells; arguments are checked here.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::attachment::{Matching, varifold};
/// use keops_lddmm::{builtin::curve_pair, kernel::Kernel};
/// let (ellipse, bean) = curve_pair(30)?;
/// let attachment = varifold(Kernel::gaussian(0.5)?);
/// let device = Device::new(Interpreter::new());
/// let matching = Matching::<f64>::new(&attachment, &ellipse, &bean, &device)?;
/// // Of the target itself there is no distance, and nothing to gain.
/// let (at_start, at_target) = (ellipse.vertices(), bean.vertices());
/// assert!(matching.value(at_start)? > 0.1 && matching.value(at_target)?.abs() < 1e-12);
/// let (_, gradient) = matching.value_and_gradient(at_target)?;
/// assert!(gradient.iter().all(|g| g.abs() < 1e-12));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Matching<F> {
    dim: (usize, usize),
    prepared: Box<dyn Prepared>,
    precision: std::marker::PhantomData<F>,
}

impl<F: Real> Matching<F> {
    /// Prepares the attachment of shapes with the cells of `source` to `target`.
    ///
    /// # Errors
    /// [`LddmmError::Mismatch`] when dimensions differ, and what [`Attachment::prepare`] may return.
    pub fn new<A: Attachment + ?Sized>(
        attachment: &A,
        source: &Shape,
        target: &Shape,
        place: &impl Place,
    ) -> Result<Matching<F>, LddmmError> {
        Matching::with_options(attachment, source, target, place, ReduceOptions::default())
    }
    /// As [`Matching::new`], with a way to add.
    ///
    /// # Errors
    /// As [`Matching::new`].
    pub fn with_options<A: Attachment + ?Sized>(
        attachment: &A,
        source: &Shape,
        target: &Shape,
        place: &impl Place,
        reductions: ReduceOptions,
    ) -> Result<Matching<F>, LddmmError> {
        LddmmError::check_dimension(source, target)?;
        let device = place.device(source.cell_count() as u64 * target.cell_count() as u64);
        let setting = Setting { source, target, device: &device, precision: F::DTYPE, reductions };
        Ok(Matching {
            dim: source.vertices().dim(),
            prepared: attachment.prepare(&setting)?,
            precision: std::marker::PhantomData,
        })
    }

    fn check(&self, name: &str, rows: ArrayView2<'_, F>) -> Result<Array2<f64>, LddmmError> {
        LddmmError::check_array(name, rows, Some(self.dim.0), self.dim.1)?;
        Ok(widened(rows)?)
    }
    /// The distance of the shape with the given vertices, of shape (n, d), and its gradient in them.
    /// The value is added in double precision. Cells without extent count with size 0, and have no
    /// part in the gradient where it does not exist.
    ///
    /// # Errors
    /// When there are not as many vertices as in the source, or the device fails.
    pub fn value_and_gradient(
        &self,
        vertices: ArrayView2<'_, F>,
    ) -> Result<(f64, Array2<F>), LddmmError> {
        let (value, gradient) =
            self.prepared.value_and_gradient(self.check("vertices", vertices)?.view())?;
        LddmmError::check_array("the gradient", gradient.view(), Some(self.dim.0), self.dim.1)?;
        Ok((value, narrowed(gradient.view())?))
    }
    /// The derivative of the gradient along a direction, of shape (n, d): [`Prepared::hessian_product`].
    ///
    /// # Errors
    /// As [`Matching::value_and_gradient`].
    pub fn hessian_product(
        &self,
        vertices: ArrayView2<'_, F>,
        direction: ArrayView2<'_, F>,
    ) -> Result<Array2<F>, LddmmError> {
        let (x, along) = (self.check("vertices", vertices)?, self.check("direction", direction)?);
        let product = self.prepared.hessian_product(x.view(), along.view())?;
        Ok(narrowed(product.view())?)
    }
    /// The cosine of the angle between source and target, where the attachment has one: see
    /// [`Prepared::overlap`].
    ///
    /// # Errors
    /// As [`Matching::value_and_gradient`].
    pub fn overlap(&self, vertices: ArrayView2<'_, F>) -> Result<Option<f64>, LddmmError> {
        self.prepared.overlap(self.check("vertices", vertices)?.view())
    }
    /// The distance alone.
    ///
    /// # Errors
    /// As [`Matching::value_and_gradient`].
    pub fn value(&self, vertices: ArrayView2<'_, F>) -> Result<f64, LddmmError> {
        Ok(self.value_and_gradient(vertices)?.0)
    }
}

//! Reductions of formulas over typed arrays: the front door.
//!
//! ```
//! use keops_core::genred::Genred;
//! use keops_core::{reduce::SUM, spec::Axis};
//! use ndarray::array;
//!
//! // v_i = Σ_j exp(-|x_i - y_j|²) b_j
//! let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
//! let conv: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J)?;
//!
//! let (x, y, b) =
//!     (array![[0.0], [1.0]], array![[0.0], [1.0], [2.0]], array![[1.0], [2.0], [0.5]]);
//! let v = conv.call((&x, &y, &b))?; // shape (2, 1)
//! assert!((v[[0, 0]] - (1.0 + 2.0 * (-1f64).exp() + 0.5 * (-4f64).exp())).abs() < 1e-15);
//!
//! // The gradient of Σ_i <v_i, e_i> in x, and one more derivative.
//! let e = array![[1.0], [0.0]]; // of the shape of v
//! let gx = conv.vjp("x")?.call((&x, &y, &b, &e))?; // of the shape of x
//! assert!((gx[[0, 0]] - (4.0 * (-1f64).exp() + 2.0 * (-4f64).exp())).abs() < 1e-15);
//! assert_eq!(gx[[1, 0]], 0.0);
//! let w = array![[1.0], [1.0]]; // of the shape of gx
//! let hessian = conv.vjp("x")?.vjp("x")?.call((&x, &y, &b, &e, &w))?;
//! assert!((hessian[[0, 0]] - (-2.0 + 4.0 * (-1f64).exp() + 7.0 * (-4f64).exp())).abs() < 1e-14);
//! # Ok::<(), keops_core::error::Error>(())
//! ```

mod compose;
mod explain;
mod output;

pub use output::{IntoOutput, Shaped};

use crate::data::{ArgView, Buffer, Element};
use crate::error::{FormulaError, GradError, InputError};
use crate::interp::Interpreter;
use crate::outer::{Computation, Formula};
use crate::ranges::Ranges;
use crate::reduce::{Definition, DerivedDef, ReductionDef};
use crate::spec::{Axis, Device, ReduceOptions, Resident};
use ndarray::{ArrayBase, ArrayD, ArrayRef, Data, Dimension};
use std::sync::Arc;

/// A reduction and its number of winners.
///
/// Functions take `impl Into<Reduce>`: `&SUM`, or `(&K_MIN, 10)`.
///
/// ```
/// use keops_core::reduce::{K_MIN, SUM};
/// use keops_core::genred::Reduce;
/// let (sum, nearest): (Reduce, Reduce) = ((&SUM).into(), (&K_MIN, 10).into());
/// assert_eq!((sum.def.name(), sum.k), ("Sum", 1));
/// assert_eq!((nearest.def.name(), nearest.k), ("KMin", 10));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reduce {
    /// Which reduction.
    pub def: Definition,
    /// Number of winners, for reductions that take several; else 1.
    pub k: usize,
}

macro_rules! reduce_from {
    ($($definition:ty)*) => {$(
        impl From<$definition> for Reduce {
            fn from(def: $definition) -> Reduce {
                Reduce { def: def.into(), k: 1 }
            }
        }
        impl From<($definition, usize)> for Reduce {
            fn from((def, k): ($definition, usize)) -> Reduce {
                Reduce { def: def.into(), k }
            }
        }
    )*};
}
reduce_from!(&'static ReductionDef &'static DerivedDef Definition);

/// Where reductions run.
/// [`Device`] is one, and [`Reference`] another. Your own place may choose by size:
///
/// ```
/// use keops_core::genred::{Genred, Place};
/// use keops_core::spec::{Axis, Device};
/// use keops_core::{interp::Interpreter, reduce::SUM};
///
/// #[derive(Clone)]
/// struct BySize {
///     small: Device,
///     large: Device,
/// }
/// impl Place for BySize {
///     fn device(&self, pairs: u64) -> Device {
///         if pairs < 1000 { self.small.clone() } else { self.large.clone() }
///     }
/// }
/// let device = || Device::new(Interpreter::new()); // or devices of two backends
/// let place = BySize { small: device(), large: device() };
/// let sum: Genred = Genred::new("x", ["x = Vj(1)"], &SUM, Axis::J)?;
/// sum.at(place.clone()).call((&ndarray::array![[1.0], [2.0]],))?;
/// assert_eq!((place.small.cached(), place.large.cached()), (1, 0));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait Place: Clone + Send + Sync {
    /// The device for a problem of this many pairs of rows.
    ///
    /// ```
    /// use keops_core::genred::{Place, Reference};
    /// assert_eq!(Reference::default().device(1_000_000).backend().name(), "interpreter");
    /// ```
    fn device(&self, pairs: u64) -> Device;
}

impl Place for Device {
    fn device(&self, _: u64) -> Device {
        self.clone()
    }
}

/// The reference interpreter: slow, and right.
///
/// ```
/// use keops_core::genred::{Genred, Reference};
/// use keops_core::{reduce::SUM, spec::Axis};
/// let sum: Genred<Reference> = Genred::new("x", ["x = Vj(1)"], &SUM, Axis::J)?;
/// assert_eq!(sum.call((&ndarray::array![[1.0], [2.0]],))?, ndarray::array![[3.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reference(Device);

impl Default for Reference {
    fn default() -> Reference {
        Reference(Device::new(Interpreter::new()))
    }
}
impl Place for Reference {
    fn device(&self, _: u64) -> Device {
        self.0.clone()
    }
}

/// Something that can be an argument: an owned array, a view or a reference of any shape and
/// layout (strides may be zero or negative).
///
/// ```
/// use keops_core::{data::DType, genred::AsArg};
/// use ndarray::{array, s};
/// let points = array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
/// assert_eq!(points.slice(s![.., ..;-1]).as_arg().shape(), [2, 3]); // backwards, not copied
/// assert_eq!(points.as_arg().dtype(), DType::F32);
/// ```
pub trait AsArg {
    /// Element type.
    type Elem: Element;
    /// The array, borrowed.
    ///
    /// ```
    /// use keops_core::genred::AsArg;
    /// let row = ndarray::array![1.0, 2.0];
    /// assert_eq!(row.broadcast((5, 2)).unwrap().as_arg().shape(), [5, 2]); // stride 0
    /// ```
    fn as_arg(&self) -> ArgView<'_>;
}
impl<T: Element, S: Data<Elem = T>, D: Dimension> AsArg for ArrayBase<S, D, T> {
    type Elem = T;
    fn as_arg(&self) -> ArgView<'_> {
        T::erase(self.view().into_dyn())
    }
}
impl<T: Element, D: Dimension> AsArg for ArrayRef<T, D> {
    type Elem = T;
    fn as_arg(&self) -> ArgView<'_> {
        T::erase(self.view().into_dyn())
    }
}

/// Arguments of one element type: a tuple of up to twelve references to arrays of any dimensions,
/// or a slice of references to arrays of one kind.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use ndarray::array;
/// let sum: Genred = Genred::new("p * x", ["p = Pm(1)", "x = Vj(1)"], &SUM, Axis::J)?;
/// let (p, x) = (array![10.0], array![[1.0], [2.0]]);
/// assert_eq!(sum.call((&p, &x))?, array![[30.0]].into_dyn()); // arrays of any dimensions
/// let (p, x) = (p.into_dyn(), x.into_dyn());
/// assert_eq!(sum.call(&[&p, &x][..])?, array![[30.0]].into_dyn()); // arrays of one kind
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait IntoArgs<'a> {
    /// Element type.
    type Elem: Element;
    /// The arrays in order.
    ///
    /// ```
    /// use keops_core::genred::IntoArgs;
    /// let (p, x) = (ndarray::array![10.0], ndarray::array![[1.0], [2.0]]);
    /// let args = (&p, &x).into_args();
    /// assert_eq!((args[0].shape(), args[1].shape()), (&[1][..], &[2, 1][..]));
    /// ```
    fn into_args(self) -> Vec<ArgView<'a>>;
}
impl<'a, A: AsArg + ?Sized> IntoArgs<'a> for &[&'a A] {
    type Elem = A::Elem;
    fn into_args(self) -> Vec<ArgView<'a>> {
        self.iter().map(|a| a.as_arg()).collect()
    }
}

macro_rules! tuples {
    ($($first:ident $($rest:ident)*)?) => {$(
        impl<'a, T: Element, $first: AsArg<Elem = T> + ?Sized, $($rest: AsArg<Elem = T> + ?Sized),*>
            IntoArgs<'a> for (&'a $first, $(&'a $rest),*)
        {
            type Elem = T;
            #[allow(non_snake_case)]
            fn into_args(self) -> Vec<ArgView<'a>> {
                let ($first, $($rest),*) = self;
                vec![$first.as_arg(), $($rest.as_arg()),*]
            }
        }
        tuples!($($rest)*);
    )?};
}
tuples!(A B C D E F G H I J K L);

/// A reduction of a formula, or derivatives of one, as a function of named arrays.
///
/// Arguments come in the order of the variables: `(batch…, M, dim)` for variables of category `I`,
/// `(batch…, N, dim)` for `J`, `(batch…, dim)` for parameters; batch axes broadcast. Without batches
/// the axis of a dimension 1 may be missing: `(M)`, `(N)`, and `()` for a parameter. Results have
/// shape `(batch…, rows, dim)`; those of reductions with k winners `(batch…, rows, k)`, or
/// `(batch…, rows, k, dim)` where the formula has more than one component. Gradients have the
/// shape of the argument: over batch axes along which it was broadcast they are summed.
///
/// Values are returned in the element type of the arguments; f16 and bf16 data are computed in
/// f32 and rounded once at the end ([`Genred::run`] returns the f32 values).
///
/// Immutable, cheap to clone, and safe to share between threads. `P` says where it runs.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use ndarray::{Array2, Array3};
/// let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"];
/// let conv: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J)?;
/// let x = Array3::<f32>::zeros((4, 10, 3)); // four batches
/// let (y, b) = (Array2::zeros((20, 3)), Array3::ones((4, 20, 2)));
/// let out = conv.call((&x, &y, &b))?;
/// assert_eq!(out.shape(), [4, 10, 2]);
/// assert!(out.iter().all(|v| *v == 20.0));
/// let e = conv.call((&x, &b, &y)).unwrap_err(); // in another order
/// assert_eq!(
///     e.to_string(),
///     "argument `y`: expected shape (N, 3) or (batches…, N, 3), got shape [4, 20, 2]"
/// );
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Genred<P = Reference> {
    computation: Computation,
    ranges: Option<Arc<Ranges>>,
    place: P,
}

impl<P: Place + Default> Genred<P> {
    /// A reduction of a formula that is already a graph. `Genred::new` and `Genred::weighted`
    /// ([`crate::parse`]) read it from text.
    ///
    /// ```
    /// use keops_core::reduce::{LOG_SUM_EXP, MAX};
    /// use keops_core::{genred::Genred, parse::parse_formula, spec::Axis};
    /// let formula = parse_formula("x * y", None, &["x = Vi(2)", "y = Vj(2)"])?;
    /// let largest: Genred = Genred::from_formula(formula.clone(), &MAX, Axis::J)?;
    /// let (x, y) = (ndarray::array![[1.0, -1.0]], ndarray::array![[3.0, 4.0], [5.0, 2.0]]);
    /// assert_eq!(largest.call((&x, &y))?, ndarray::array![[5.0, -2.0]].into_dyn());
    /// let of_vectors =
    ///     Genred::<keops_core::genred::Reference>::from_formula(formula, &LOG_SUM_EXP, Axis::J);
    /// assert!(of_vectors.is_err()); // takes a formula of dimension 1
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Option`] if formula, weight, reduction and number of winners do not fit.
    pub fn from_formula(
        formula: Formula,
        reduction: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<Genred<P>, InputError> {
        let Reduce { def, k } = reduction.into();
        Ok(Computation::reduction(formula, def, k, axis)?.into())
    }
}

impl<P: Place + Default> From<Computation> for Genred<P> {
    fn from(computation: Computation) -> Genred<P> {
        Genred { computation, ranges: None, place: P::default() }
    }
}

impl<P: Place> Genred<P> {
    pub(crate) fn of(computation: Computation, place: P) -> Genred<P> {
        Genred { computation, ranges: None, place }
    }
    /// The same function at another place, such as your own device.
    ///
    /// ```
    /// use keops_core::spec::{Axis, Device};
    /// use keops_core::{genred::Genred, interp::Interpreter, reduce::SUM};
    /// let device = Device::new(Interpreter::new());
    /// let sum: Genred = Genred::new("x", ["x = Vj(1)"], &SUM, Axis::J)?;
    /// let sum: Genred<Device> = sum.at(device.clone());
    /// sum.call((&ndarray::array![[1.0], [2.0]],))?;
    /// assert_eq!(device.cached(), 1); // that is where it was compiled
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn at<Q: Place>(self, place: Q) -> Genred<Q> {
        Genred { computation: self.computation, ranges: self.ranges, place }
    }
    /// Accumulation type and scheme of the sums inside, also in derivatives. What the type of the data
    /// does not allow is an error of the call.
    ///
    /// ```
    /// use keops_core::spec::{Axis, ReduceOptions, Scheme};
    /// use keops_core::{data::DType, genred::Genred, reduce::SUM};
    /// let sum: Genred = Genred::new("y", ["y = Vj(1)"], &SUM, Axis::J)?;
    /// let wide = ReduceOptions { accumulate: Some(DType::F64), scheme: Scheme::Direct };
    /// let y = ndarray::array![[16_777_216f32], [1.0], [1.0]]; // 2^24
    /// let exact = sum.clone().options(wide).call((&y,))?;
    /// assert_eq!(exact, ndarray::array![[16_777_218.0]].into_dyn());
    /// let narrow = ReduceOptions { accumulate: Some(DType::F16), ..wide };
    /// assert!(sum.options(narrow).call((&y,)).is_err());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn options(self, options: ReduceOptions) -> Genred<P> {
        Genred { computation: self.computation.with_options(options), ..self }
    }
    /// Restricts every reduction, also in derivatives, to block-sparse ranges.
    ///
    /// ```
    /// use keops_core::{genred::Genred, ranges::Ranges, reduce::SUM, spec::Axis};
    /// use ndarray::array;
    ///
    /// // Two clusters of rows each: the first meets the first, the second meets both.
    /// let ranges = Ranges::from_clusters(&[1, 2], &[2, 3], &[true, false, true, true])?;
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// let (x, y) = (array![[1.0], [10.0]], array![[1.0], [2.0], [4.0]]);
    /// assert_eq!(sum.ranges(ranges).call((&x, &y))?, array![[3.0], [70.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn ranges(self, ranges: impl Into<Arc<Ranges>>) -> Genred<P> {
        Genred { ranges: Some(ranges.into()), ..self }
    }
    /// The ranges that it was given, if any.
    ///
    /// ```
    /// use keops_core::{genred::Genred, ranges::Ranges, reduce::SUM, spec::Axis};
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// assert!(sum.given_ranges().is_none());
    /// let sum = sum.ranges(Ranges::from_clusters(&[2], &[3], &[true])?);
    /// assert_eq!(sum.given_ranges().map(Ranges::pairs), Some(6));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn given_ranges(&self) -> Option<&Ranges> {
        self.ranges.as_deref()
    }
    /// Where it runs.
    pub fn place(&self) -> &P {
        &self.place
    }
    /// The computation behind it.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::ARG_MIN, spec::Axis};
    /// let nearest: Genred =
    ///     Genred::new("SqDist(x, y)", ["x = Vi(3)", "y = Vj(3)"], &ARG_MIN, Axis::J)?;
    /// let computation = nearest.computation();
    /// assert_eq!(computation.inputs()[1].name, "y");
    /// assert!(computation.is_index(0));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn computation(&self) -> &Computation {
        &self.computation
    }
    /// Names of the arguments in order.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// assert_eq!(sum.arguments().collect::<Vec<_>>(), ["x", "y"]);
    /// let hessian = sum.vjp("x")?.vjp("y")?;
    /// assert_eq!(hessian.arguments().collect::<Vec<_>>(), ["x", "y", "e", "e2"]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.computation.inputs().iter().map(|i| i.name.as_str())
    }
    fn derived(&self, computation: Computation) -> Genred<P> {
        Genred { computation, ranges: self.ranges.clone(), place: self.place.clone() }
    }

    /// The gradient of `Σ <result, e>` with respect to one argument, a function of the same
    /// arguments and of the cotangent `e`, which has the shape of the result. It can be derived
    /// again: the next cotangent is named `e2`. See [`Computation::vjp`].
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use ndarray::array;
    /// let sum: Genred = Genred::new("Square(x) * y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// let (x, y) = (array![[2.0], [3.0]], array![[5.0], [7.0]]); // 12 x_i²
    /// let e = array![[1.0], [10.0]];
    /// let gradient = sum.vjp("x")?;
    /// assert_eq!(gradient.call((&x, &y, &e))?, array![[48.0], [720.0]].into_dyn()); // 24 x_i e_i
    /// let second = gradient.vjp("x")?.call((&x, &y, &e, &array![[1.0], [1.0]]))?;
    /// assert_eq!(second, array![[24.0], [240.0]].into_dyn());
    /// let message = sum.vjp("z").unwrap_err().to_string();
    /// assert_eq!(message, "no variable named `z`; the variables are `x`, `y`");
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`GradError`] for an unknown name, or if the result is indices.
    pub fn vjp(&self, name: &str) -> Result<Genred<P>, GradError> {
        self.vjp_of(&[name])
    }
    /// The gradients with respect to several arguments, which share their kernel evaluations:
    /// one result for each.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use ndarray::array;
    /// let aliases = ["a = Pm(1)", "x = Vi(1)", "y = Vj(1)"];
    /// let sum: Genred = Genred::new("a * x * y", aliases, &SUM, Axis::J)?;
    /// let (a, x, y) = (array![2.0], array![[1.0], [3.0]], array![[5.0], [7.0]]);
    /// let e = array![[1.0], [1.0]];
    /// let gradients = sum.vjp_of(&["y", "a"])?.call_all((&a, &x, &y, &e))?;
    /// assert_eq!(gradients[0], array![[8.0], [8.0]].into_dyn()); // a Σ_i x_i
    /// assert_eq!(gradients[1], array![48.0].into_dyn()); // Σ_i x_i Σ_j y_j, of the shape of a
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::vjp`].
    pub fn vjp_of(&self, names: &[&str]) -> Result<Genred<P>, GradError> {
        Ok(self.derived(self.computation.vjp(names)?))
    }
    /// The gradients with respect to every argument.
    ///
    /// # Errors
    /// As [`Genred::vjp`].
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use ndarray::array;
    ///
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// let (x, y, e) = (array![[2.0], [3.0]], array![[5.0], [7.0]], array![[1.0], [10.0]]);
    /// let gradients = sum.vjp_all()?.call_all((&x, &y, &e))?;
    /// assert_eq!(gradients[0], array![[12.0], [120.0]].into_dyn()); // e_i Σ_j y_j
    /// assert_eq!(gradients[1], array![[32.0], [32.0]].into_dyn()); // Σ_i e_i x_i
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn vjp_all(&self) -> Result<Genred<P>, GradError> {
        self.vjp_of(&self.arguments().collect::<Vec<_>>())
    }
    /// The derivative of the result along a tangent of one argument, a function of the same
    /// arguments and of the tangent, `d_` and the name, which has the shape of that argument.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::MIN, spec::Axis};
    /// use ndarray::array;
    ///
    /// let least: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &MIN, Axis::J)?;
    /// let (x, y) = (array![[1.0], [-1.0]], array![[3.0], [5.0]]);
    /// let d_y = array![[0.1], [0.2]]; // moves y_0, the winner of row 0, and y_1, that of row 1
    /// let along = least.jvp("y")?.call((&x, &y, &d_y))?;
    /// assert_eq!(along, array![[0.1], [-0.2]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::vjp`].
    pub fn jvp(&self, name: &str) -> Result<Genred<P>, GradError> {
        self.jvp_of(&[name])
    }
    /// The derivative along tangents of several arguments at once.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use ndarray::array;
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// let along = sum.jvp_of(&["x", "y"])?;
    /// assert_eq!(along.arguments().collect::<Vec<_>>(), ["x", "y", "d_x", "d_y"]);
    /// let (x, y) = (array![[2.0], [3.0]], array![[5.0], [7.0]]);
    /// let (d_x, d_y) = (array![[1.0], [0.0]], array![[0.0], [1.0]]);
    /// assert_eq!(along.call((&x, &y, &d_x, &d_y))?, array![[12.0 + 2.0], [3.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::vjp`].
    pub fn jvp_of(&self, names: &[&str]) -> Result<Genred<P>, GradError> {
        Ok(self.derived(self.computation.jvp(names)?))
    }
    /// After the results of a derivative, also those of what was derived: a value and its
    /// gradient from one evaluation.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::LOG_SUM_EXP, spec::Axis};
    /// use ndarray::array;
    ///
    /// let aliases = ["x = Vi(1)", "y = Vj(1)"];
    /// let lse: Genred = Genred::new("x * y", aliases, &LOG_SUM_EXP, Axis::J)?;
    /// let (x, y, e) = (array![[0.0]], array![[1.0], [3.0]], array![[1.0]]);
    /// let both = lse.vjp("x")?.with_primal().call_all((&x, &y, &e))?;
    /// assert_eq!(both[0], array![[2.0]].into_dyn()); // the mean of y
    /// assert_eq!(both[1], array![[2f64.ln()]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn with_primal(self) -> Genred<P> {
        Genred { computation: self.computation.with_primal(), ..self }
    }

    /// The result, in the element type of the arguments.
    ///
    /// ```
    /// use half::f16;
    /// use keops_core::{data::Element, genred::Genred, reduce::SUM, spec::Axis};
    /// use ndarray::array;
    /// let sum: Genred = Genred::new("x - y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// let (x, y) = (array![[1.0], [5.0]], array![[1.0], [2.0], [3.0]]);
    /// assert_eq!(sum.call((&x, &y))?, array![[-3.0], [9.0]].into_dyn());
    /// let (x, y) = (x.mapv(f16::of_f64), y.mapv(f16::of_f64));
    /// assert_eq!(sum.call((&x, &y))?[[1, 0]], f16::of_f64(9.0)); // the type of the arguments
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`FormulaError::Input`] if the arguments do not fit, or if there is not exactly one result of
    /// values; [`FormulaError::Compile`] and [`FormulaError::Run`] from the device.
    pub fn call<'a, A: IntoArgs<'a>>(&self, args: A) -> Result<ArrayD<A::Elem>, FormulaError> {
        self.only_value()?;
        match self.call_all(args)?.pop() {
            Some(v) => Ok(v),
            None => unreachable!("results are counted"),
        }
    }
    /// Number of the only result of values.
    fn only_value(&self) -> Result<usize, InputError> {
        let count = self.computation.outputs().len();
        let values: Vec<usize> = (0..count).filter(|&k| !self.computation.is_index(k)).collect();
        match values[..] {
            [one] => Ok(one),
            [] => Err(InputError::Option("the results are indices: use `call_indices`".into())),
            _ => {
                let n = values.len();
                Err(InputError::Option(format!("there are {n} results: use `call_all`")))
            }
        }
    }
    /// All results that are values.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use ndarray::array;
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// let args = (&array![[2.0]], &array![[5.0], [7.0]], &array![[1.0]]);
    /// let gradients = sum.vjp_all()?;
    /// assert_eq!(gradients.call_all(args)?[1], array![[2.0], [2.0]].into_dyn());
    /// assert!(gradients.call(args).is_err()); // there are two results
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::call`].
    pub fn call_all<'a, A: IntoArgs<'a>>(
        &self,
        args: A,
    ) -> Result<Vec<ArrayD<A::Elem>>, FormulaError> {
        let buffers = self.run(&args.into_args())?;
        let values = buffers.into_iter().filter(|b| b.indices().is_none());
        Ok(values.map(Element::take).collect::<Result<_, _>>()?)
    }
    /// The result that is indices: rows of the reduced index, -1 where there is none.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::ARG_K_MIN, spec::Axis};
    /// use ndarray::array;
    ///
    /// let aliases = ["x = Vi(1)", "y = Vj(1)"];
    /// let nearest: Genred = Genred::new("SqDist(x, y)", aliases, (&ARG_K_MIN, 3), Axis::J)?;
    /// let found = nearest.call_indices((&array![[0.0]], &array![[5.0], [1.0]]))?;
    /// assert_eq!(found, array![[1, 0, -1]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::call`].
    pub fn call_indices<'a, A: IntoArgs<'a>>(&self, args: A) -> Result<ArrayD<i64>, FormulaError> {
        let index = (0..self.computation.outputs().len()).find(|&k| self.computation.is_index(k));
        let Some(k) = index else {
            return Err(InputError::Option("no result is indices: use `call`".into()).into());
        };
        match self.run(&args.into_args())?.swap_remove(k) {
            Buffer::I64(a) => Ok(a),
            _ => unreachable!("result {k} is indices"),
        }
    }
    /// All results, in the compute type of the arguments; indices in i64.
    ///
    /// ```
    /// use keops_core::genred::{AsArg, Genred};
    /// use keops_core::{reduce::MAX_ARG_MAX, spec::Axis};
    /// use ndarray::array;
    /// let largest: Genred = Genred::new("y", ["y = Vj(1)"], &MAX_ARG_MAX, Axis::J)?;
    /// let results = largest.run(&[array![[1.0], [4.0], [2.0]].as_arg()])?;
    /// assert_eq!(results[0].to_f64(), array![[4.0]].into_dyn());
    /// assert_eq!(results[1].indices(), Some(&array![[1]].into_dyn()));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::call`].
    pub fn run(&self, args: &[ArgView<'_>]) -> Result<Vec<Buffer>, FormulaError> {
        let given = args;
        let (args, sizes) = self.computation.fit(given)?;
        let args = &*args;
        let device = self.place.device(sizes.pairs());
        let made =
            self.computation.run_sized(&sizes, &device, args, self.ranges.as_deref(), None)?;
        Ok(self.computation.as_given(given, made))
    }
    /// The only result of values, held by the device, in the compute type.
    pub(crate) fn run_resident(
        &self,
        args: &[ArgView<'_>],
    ) -> Result<(Resident, Device), FormulaError> {
        let k = self.only_value()?;
        let given = args;
        let (args, sizes) = self.computation.fit(given)?;
        let args = &*args;
        let device = self.place.device(sizes.pairs());
        let ranges = self.ranges.as_deref();
        let made = self.computation.run_resident(k, &sizes, &device, args, ranges)?;
        let made = match self.computation.shape_given(k, given) {
            Some(shape) => made.reshaped(shape),
            None => made,
        };
        Ok((made, device))
    }
    /// As [`Genred::run`], on a given device and with given ranges.
    ///
    /// ```
    /// use keops_core::genred::{AsArg, Genred};
    /// use keops_core::spec::{Axis, Device};
    /// use keops_core::{interp::Interpreter, ranges::Ranges, reduce::SUM};
    /// use ndarray::array;
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// let (device, diagonal) =
    ///     (Device::new(Interpreter::new()), Ranges::same_labels(&[0, 1], &[0, 1])?);
    /// let (x, y) = (array![[1.0], [2.0]], array![[3.0], [4.0]]);
    /// let out = sum.call_with(&device, &[x.as_arg(), y.as_arg()], Some(&diagonal))?;
    /// assert_eq!(out[0].to_f64(), array![[3.0], [8.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::call`].
    pub fn call_with(
        &self,
        device: &Device,
        args: &[ArgView<'_>],
        ranges: Option<&Ranges>,
    ) -> Result<Vec<Buffer>, FormulaError> {
        self.computation.run(device, args, ranges)
    }
}

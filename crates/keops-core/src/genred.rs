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
//! let (x, y, b) = (array![[0.0], [1.0]], array![[0.0], [1.0], [2.0]], array![[1.0], [2.0], [0.5]]);
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
mod output;

pub use output::IntoOutput;

use crate::data::{ArgView, Buffer, Element};
use crate::error::{Error, GradError, InputError};
use crate::interp::Interpreter;
use crate::outer::{Computation, Formula};
use crate::ranges::Ranges;
use crate::reduce::ReductionDef;
use crate::spec::{Axis, Device, ReduceOptions};
use ndarray::{ArrayBase, ArrayD, ArrayRef, Data, Dimension};
use std::sync::Arc;

/// A reduction and its number of winners.
///
/// Functions take `impl Into<Reduce>`: `&SUM`, or `(&K_MIN, 10)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reduce {
    /// Which reduction.
    pub def: &'static ReductionDef,
    /// Number of winners, for reductions that take several; else 1.
    pub k: usize,
}

impl From<&'static ReductionDef> for Reduce {
    fn from(def: &'static ReductionDef) -> Reduce {
        Reduce { def, k: 1 }
    }
}
impl From<(&'static ReductionDef, usize)> for Reduce {
    fn from((def, k): (&'static ReductionDef, usize)) -> Reduce {
        Reduce { def, k }
    }
}

/// Where reductions run.
pub trait Place: Clone + Send + Sync {
    /// The device for a problem of so many pairs of rows.
    fn device(&self, pairs: u64) -> Device;
}

impl Place for Device {
    fn device(&self, _: u64) -> Device {
        self.clone()
    }
}

/// The reference interpreter: slow, and right.
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
pub trait AsArg {
    /// Element type.
    type Elem: Element;
    /// The array, borrowed.
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
pub trait IntoArgs<'a> {
    /// Element type.
    type Elem: Element;
    /// The arrays in order.
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
/// `(batch…, N, dim)` for `J`, `(batch…, dim)` for parameters; batch axes broadcast. Results have
/// shape `(batch…, rows, dim)`; those of reductions with k winners `(batch…, rows, k)`, or
/// `(batch…, rows, k, dim)` where the formula has more than one component. Gradients have the
/// shape of the argument: over batch axes along which it was broadcast they are summed.
///
/// Values are returned in the element type of the arguments; f16 and bf16 data are computed in
/// f32 and rounded once at the end ([`Genred::run`] returns the f32 values).
///
/// Immutable, cheap to clone, and safe to share between threads. `P` says where it runs.
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
    /// The same function at another place.
    pub fn at<Q: Place>(self, place: Q) -> Genred<Q> {
        Genred { computation: self.computation, ranges: self.ranges, place }
    }
    /// Accumulation type and scheme of the sums inside.
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
    /// The computation behind it.
    pub fn computation(&self) -> &Computation {
        &self.computation
    }
    /// Names of the arguments in order.
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
    /// # Errors
    /// [`GradError`] for an unknown name, or if the result is indices.
    pub fn vjp(&self, name: &str) -> Result<Genred<P>, GradError> {
        self.vjp_of(&[name])
    }
    /// The gradients with respect to several arguments, which share their kernel evaluations:
    /// one result for each.
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
    /// # Errors
    /// [`Error::Input`] if the arguments do not fit, or if there is not exactly one result of
    /// values; [`Error::Compile`] and [`Error::Run`] from the device.
    pub fn call<'a, A: IntoArgs<'a>>(&self, args: A) -> Result<ArrayD<A::Elem>, Error> {
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
    /// # Errors
    /// As [`Genred::call`].
    pub fn call_all<'a, A: IntoArgs<'a>>(&self, args: A) -> Result<Vec<ArrayD<A::Elem>>, Error> {
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
    pub fn call_indices<'a, A: IntoArgs<'a>>(&self, args: A) -> Result<ArrayD<i64>, Error> {
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
    /// # Errors
    /// As [`Genred::call`].
    pub fn run(&self, args: &[ArgView<'_>]) -> Result<Vec<Buffer>, Error> {
        let sizes = self.computation.sizes(args)?;
        let device = self.place.device(sizes.pairs());
        self.computation.run_sized(&sizes, &device, args, self.ranges.as_deref(), None)
    }
    /// As [`Genred::run`], on a given device and with given ranges.
    ///
    /// # Errors
    /// As [`Genred::call`].
    pub fn call_with(
        &self,
        device: &Device,
        args: &[ArgView<'_>],
        ranges: Option<&Ranges>,
    ) -> Result<Vec<Buffer>, Error> {
        self.computation.run(device, args, ranges)
    }
}

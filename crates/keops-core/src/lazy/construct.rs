//! Where LazyTensors come from: arrays of any layout, numbers, lists, symbols.

use super::kept::{IntoArray, Kept};
use super::term::{Bound, Location, Name, Source, Term};
use super::{LazyTensor, located};
use crate::data::Element;
use crate::error::{DimError, FormulaError, InputError};
use crate::genred::Place;
use crate::graph::{Category, MAX_DIM, MAX_TABLE, Node, Var};
use crate::memory;
use crate::spec::ReduceOptions;
use ndarray::Array1;
use std::marker::PhantomData;
use std::panic::Location as Caller;
use std::sync::{Arc, OnceLock};

impl<T, P: Place + Default> LazyTensor<T, P> {
    fn of(term: Term) -> Self {
        LazyTensor {
            term: Arc::new(term),
            built: OnceLock::new(),
            options: ReduceOptions::default(),
            ranges: None,
            place: P::default(),
            element: PhantomData,
        }
    }
    pub(super) fn failed(location: Location, e: impl Into<FormulaError>) -> Self {
        LazyTensor::of(Term::Built(Arc::new(Err(located(location, e)))))
    }
    fn source(category: Category, dim: usize, value: Bound, name: Name) -> Self {
        let var = Var { index: 0, dim, category };
        LazyTensor::of(Term::Source(Source { var, value, name }))
    }
    fn leaf(node: Node) -> Self {
        LazyTensor::of(Term::Leaf(node))
    }
    /// The number of a row, `i`.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// let x = LazyTensor::<f64, Reference>::vi(ndarray::array![1.0, 2.0, 4.0]);
    /// // Products with all columns but the one of the row itself.
    /// let others = LazyTensor::i().not_equal(LazyTensor::j()) * (&x * x.t());
    /// assert_eq!(others.sum(Axis::J)?, ndarray::array![[6.0], [10.0], [12.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn i() -> Self {
        LazyTensor::leaf(Node::Index(Category::I))
    }
    /// The number of a column, `j`.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(array![1.0, 2.0]);
    /// let y = Lazy::vj(array![5.0, 5.0, 5.0]);
    /// let at = (x * y + Lazy::j()).argmax(Axis::J)?; // later columns are larger
    /// assert_eq!(at, array![[2], [2]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn j() -> Self {
        LazyTensor::leaf(Node::Index(Category::J))
    }
    /// A constant of the formula, of dimension 1 (KeOps' `IntCst`, for any number).
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(array![2.0]);
    /// assert_eq!((&x * Lazy::constant(0.5)).formula()?.to_string(), "v0 * 0.5");
    /// assert_eq!((&x * 0.5).formula()?.to_string(), "v0 * v1"); // a parameter
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn constant(value: f64) -> Self {
        LazyTensor::leaf(Node::Const(value.to_bits()))
    }
    /// The vector `0, 1, …, dim - 1`. An error is carried if `dim` is not in 1..=[`MAX_DIM`].
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(array![10.0, 20.0]);
    /// assert_eq!(
    ///     (x + Lazy::iota(3)).sum(Axis::J)?,
    ///     array![[10.0, 11.0, 12.0], [20.0, 21.0, 22.0]].into_dyn()
    /// );
    /// assert!(Lazy::iota(0).check().is_err());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn iota(dim: usize) -> Self {
        match Self::dimension("Iota", dim, Caller::caller()) {
            Err(failed) => failed,
            Ok(dim) => LazyTensor::leaf(Node::Iota(dim)),
        }
    }
    fn dimension(op: &str, dim: usize, location: Location) -> Result<usize, Self> {
        if (1..=MAX_DIM).contains(&dim) {
            return Ok(dim);
        }
        let e = DimError::new(op, format!("a dimension in 1..={MAX_DIM}"), dim);
        Err(LazyTensor::failed(location, e))
    }
    /// A scalar: a parameter, so that another value does not mean new code; 0, 1 and -1, with which
    /// formulas are simplified, infinities and NaN are constants. So are exponents that are whole numbers
    /// ([`LazyTensor::power`], [`LazyTensor::powf`]).
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(array![1.0, 2.0]);
    /// let product = &x * Lazy::scalar(0.25); // the same as `&x * 0.25`
    /// assert_eq!(product.sum(Axis::J)?, array![[0.25], [0.5]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn scalar(value: f64) -> Self {
        // Whole numbers that f32 does not hold stay what they are.
        let exact = value.fract() != 0.0 || value.abs() <= f64::from(1 << f32::MANTISSA_DIGITS);
        if [0.0, 1.0, -1.0].contains(&value) || !value.is_finite() || !exact {
            return LazyTensor::constant(value);
        }
        let name = Name::Scalar(value, Caller::caller());
        LazyTensor::source(Category::Param, 1, Bound::Scalar(value), name)
    }
    /// Argument `position`, with `dim` components, of a function that [`LazyTensor::genred`] or a
    /// `…_reduction` method makes: one row for each i, one for each j, or a parameter. It is named
    /// `v0`, `v1`, … unless [`LazyTensor::named`] otherwise. An error is carried if `dim` is not in
    /// 1..=[`MAX_DIM`].
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::{graph::Category, reduce::SUM};
    /// let (x, y) = (Lazy::var(0, 2, Category::I), Lazy::var(1, 2, Category::J));
    /// let dots = (x | y).genred(&SUM, Axis::J)?; // a function of x and y
    /// let (x, y) = (array![[1.0, 2.0]], array![[3.0, 4.0], [5.0, 6.0]]);
    /// assert_eq!(dots.call((&x, &y))?, array![[11.0 + 17.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn var(position: usize, dim: usize, category: Category) -> Self {
        match Self::dimension("Var", dim, Caller::caller()) {
            Err(failed) => failed,
            Ok(dim) => {
                LazyTensor::source(category, dim, Bound::Symbol(position), Name::Symbol(position))
            }
        }
    }
}

impl<T: Element, P: Place + Default> LazyTensor<T, P> {
    /// From an array whose shape tells what it is, as KeOps' constructor: `(batch…, M, 1, dim)`
    /// are rows of i, `(batch…, 1, N, dim)` rows of j, `(batch…, 1, 1, dim)` is a parameter, and so
    /// is an array with one axis (`dim`) or none. A matrix can be either: an error is carried, see
    /// [`LazyTensor::vi`], [`LazyTensor::vj`] and [`LazyTensor::pm`].
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor};
    /// use ndarray::{Array1, Array3, Array4};
    /// type Lazy = LazyTensor<f64, Reference>;
    ///
    /// let x_i = Lazy::new(Array3::zeros((5, 1, 3)));
    /// let y_j = Lazy::new(Array4::zeros((2, 1, 7, 3))); // two batches
    /// let sigma = Lazy::new(Array1::ones(1));
    /// assert_eq!((x_i.sqdist(&y_j) / sigma).shape()?, [2, 5, 7, 1]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn new(array: impl IntoArray<Elem = T>) -> Self {
        let location = Caller::caller();
        let array = match array.into_array() {
            Ok(array) => array,
            Err(e) => return LazyTensor::failed(location, e),
        };
        let n = array.shape().len();
        let (category, array) = match *array.shape() {
            [] | [_] => (Category::Param, array),
            [_, _] => (Category::Param, array), // refused below
            [.., 1, 1, _] => (Category::Param, array.remove_axis(n - 2).remove_axis(n - 3)),
            [.., 1, _, _] => (Category::J, array.remove_axis(n - 3)),
            [.., _, 1, _] => (Category::I, array.remove_axis(n - 2)),
            _ => (Category::Param, array), // refused below
        };
        if n >= 2 && array.shape().len() == n {
            let e = InputError::Shape {
                name: "LazyTensor".into(),
                expected: "shape (batches…, M, 1, dim), (batches…, 1, N, dim) or (dim); a matrix \
                           needs `vi`, `vj` or `pm`"
                    .into(),
                got: array.shape().to_vec(),
            };
            return LazyTensor::failed(location, e);
        }
        Self::array(Ok(array), category, location)
    }
    /// Rows indexed by `i`: an array of shape `(batch…, M, dim)`, or `(M)` for dimension 1. Other
    /// shapes are an error that is carried.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor};
    /// use ndarray::{Array2, s};
    /// let points = Array2::<f32>::zeros((10, 3));
    /// let x = LazyTensor::<f32, Reference>::vi(points.slice(s![..;2, ..2]));
    /// assert_eq!(x.shape()?, [5, 1, 2]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn vi(array: impl IntoArray<Elem = T>) -> Self {
        Self::array(array.into_array(), Category::I, Caller::caller())
    }
    /// Rows indexed by `j`: an array of shape `(batch…, N, dim)`, or `(N)` for dimension 1. Other
    /// shapes are an error that is carried.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let y = Lazy::vj(array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    /// assert_eq!(y.shape()?, [1, 3, 2]);
    /// assert_eq!(y.sum(Axis::J)?, array![[9.0, 12.0]].into_dyn());
    /// assert!(Lazy::vj(ndarray::arr0(1.0)).check().is_err()); // no axis of rows
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn vj(array: impl IntoArray<Elem = T>) -> Self {
        Self::array(array.into_array(), Category::J, Caller::caller())
    }
    /// A parameter: an array of shape `(batch…, dim)`, or without axes for dimension 1. Other
    /// shapes are an error that is carried.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let weights = Lazy::pm(array![2.0, 3.0]);
    /// let x = Lazy::vi(array![[1.0, 1.0], [4.0, 5.0]]);
    /// assert_eq!((x * weights).sum(Axis::J)?, array![[2.0, 3.0], [8.0, 15.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn pm(array: impl IntoArray<Elem = T>) -> Self {
        Self::array(array.into_array(), Category::Param, Caller::caller())
    }
    /// A parameter from a list of numbers, rounded to `T`. An empty list is an error that is
    /// carried.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// let x = LazyTensor::<f64, Reference>::vi(ndarray::array![[1.0, 2.0]]);
    /// // Wherever a LazyTensor is expected, a list will do.
    /// assert_eq!((&x * [3.0, 5.0]).sum(Axis::J)?, ndarray::array![[3.0, 10.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn list(values: &[f64]) -> Self {
        let values = memory::collected(values.iter().map(|&v| T::of_f64(v)), "a list of numbers");
        let array = values.map_err(InputError::from).and_then(|v| Array1::from_vec(v).into_array());
        Self::array(array, Category::Param, Caller::caller())
    }
    pub(super) fn array(
        array: Result<Kept<T>, InputError>,
        category: Category,
        location: Location,
    ) -> Self {
        let array = match array {
            Ok(array) => array,
            Err(e) => return LazyTensor::failed(location, e),
        };
        let own = if category == Category::Param { 1 } else { 2 };
        let given = array.shape().len();
        let array = if given + 1 == own { array.insert_axis(own - 1) } else { array };
        let dim = array.shape().last().copied().unwrap_or(0);
        let most = if own == 1 { MAX_TABLE } else { MAX_DIM };
        if array.shape().len() < own || dim == 0 || dim > most {
            let letters = ["(batches…, dim)", "(batches…, rows, dim)"][own - 1];
            let e = InputError::Shape {
                name: category.keyword().into(),
                expected: format!("shape {letters} with a dimension in 1..={most}"),
                got: array.shape()[..given].to_vec(),
            };
            return LazyTensor::failed(location, e);
        }
        let name = Name::Array(category, dim, location);
        LazyTensor::source(category, dim, Bound::Array(Arc::new(array)), name)
    }
}

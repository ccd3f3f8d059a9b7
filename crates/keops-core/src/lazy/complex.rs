//! Complex symbolic matrices.

use super::kept::Kept;
use super::operators::{in_place, operator};
use super::reductions::with_axes_of_factor;
use super::term::{Location, Rule};
use super::{BoundReduction, LazyOperand, LazyTensor, RealOperand};
use crate::data::Element;
use crate::error::{FormulaError, InputError, OutOfMemory};
use crate::genred::Place;
use crate::graph::Category;
use crate::memory;
use crate::outer::Formula;
use crate::reduce;
use crate::spec::Axis;
use ndarray::{Array, ArrayBase, ArrayD, Axis as NdAxis, Data, Dimension, IxDyn, Slice};
use num_complex::Complex;
use std::fmt;
use std::panic::Location as Caller;

/// A symbolic matrix with entries in C^dim: as [`LazyTensor`], of arrays of [`Complex`] numbers
/// that come back as such from its reductions.
///
/// Behind it is a real LazyTensor of twice the dimension ([`ComplexLazyTensor::interleaved`]), in
/// which real and imaginary parts alternate. A complex number of dimension 1 beside others of
/// dimension d is used for each component; real LazyTensors, numbers and arrays may stand on either
/// side ([`ComplexOperand`]).
///
/// ```
/// use keops_core::genred::Reference;
/// use keops_core::lazy::{ComplexLazyTensor, LazyTensor};
/// use keops_core::spec::Axis;
/// use ndarray::array;
/// use num_complex::Complex64 as C;
///
/// // A Fourier transform at arbitrary points: F_i = Σ_j exp(-2πi x_i y_j) f_j.
/// let x = LazyTensor::<f64, Reference>::vi(array![0.0, 0.25]);
/// let y = LazyTensor::vj(array![0.0, 1.0, 2.0]);
/// let waves = (&x * &y * (-std::f64::consts::TAU)).exp1j();
/// let f = array![C::new(1.0, 0.0), C::new(2.0, 0.0), C::new(0.0, 3.0)];
/// let transform = waves.matmul(&f)?;
/// assert!((transform[[0]] - C::new(3.0, 3.0)).norm() < 1e-15);
/// assert!((transform[[1]] - C::new(1.0, -5.0)).norm() < 1e-14);
///
/// let z = [C::new(3.0, 4.0), C::i()];
/// let z = ComplexLazyTensor::<f64, Reference>::vi(array![z]); // (1, 2)
/// assert_eq!(z.abs().sum(Axis::J)?, array![[5.0, 1.0]].into_dyn());
/// assert_eq!(
///     (2 * z.conj()).sum(Axis::J)?,
///     array![[C::new(6.0, -8.0), C::new(0.0, -2.0)]].into_dyn()
/// );
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub struct ComplexLazyTensor<T, P = crate::genred::Reference> {
    parts: LazyTensor<T, P>,
}

impl<T, P: Clone> Clone for ComplexLazyTensor<T, P> {
    fn clone(&self) -> Self {
        ComplexLazyTensor { parts: self.parts.clone() }
    }
}
impl<T, P: Place> fmt::Debug for ComplexLazyTensor<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "complex: {:?}", self.parts)
    }
}

/// An array of complex numbers to take over, of any layout; see [`IntoArray`](super::IntoArray).
///
/// ```
#[doc = include_str!("complex_example.txt")]
/// let z = array![[C::new(1.0, 2.0), C::new(3.0, 4.0)]];
/// assert_eq!(Complex::vi(&z).shape()?, [1, 1, 2]); // a row of two complex components
/// assert_eq!(Complex::vi(z.t()).shape()?, [2, 1, 1]);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait IntoComplexArray {
    /// Type of the real and imaginary parts.
    type Elem: Element;
    /// Number of axes, where the type says it; else `IxDyn`.
    type Dim: Dimension;
    /// Number of axes.
    ///
    /// ```
    /// use keops_core::lazy::IntoComplexArray;
    /// let z = ndarray::array![[num_complex::Complex32::i()]];
    /// assert_eq!(IntoComplexArray::axes(&z), 2);
    /// ```
    fn axes(&self) -> usize;
    /// The array with real and imaginary parts alternating along the last axis, which is made if
    /// there are but `least - 1` axes.
    ///
    /// ```
    /// use {keops_core::lazy::IntoComplexArray, num_complex::Complex64 as C};
    /// let z = ndarray::array![C::new(1.0, 2.0), C::new(3.0, 4.0)];
    /// assert_eq!((&z).into_interleaved(1)?.shape(), [4]); // 1 2 3 4: a vector
    /// assert_eq!((&z).into_interleaved(2)?.shape(), [2, 2]); // rows 1 2 and 3 4
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Shape`] if there are fewer axes, [`InputError::TooLarge`] if there are too many
    /// components, [`InputError::OutOfMemory`] if there is no memory for it.
    fn into_interleaved(self, least: usize) -> Result<Kept<Self::Elem>, InputError>;
}
impl<T: Element, S: Data<Elem = Complex<T>>, D: Dimension> IntoComplexArray
    for &ArrayBase<S, D, Complex<T>>
{
    type Elem = T;
    type Dim = D;
    fn axes(&self) -> usize {
        self.ndim()
    }
    fn into_interleaved(self, least: usize) -> Result<Kept<T>, InputError> {
        let mut view = self.view().into_dyn();
        if view.ndim() + 1 == least {
            view.insert_axis_inplace(NdAxis(least - 1));
        }
        let got = view.shape().to_vec();
        if got.len() < least {
            let expected = format!("an array with {} axes or more", least - 1);
            return Err(InputError::Shape { name: "a complex array".into(), expected, got });
        }
        if got.last().is_some_and(|d| *d > crate::graph::MAX_DIM) {
            let (what, detail) = ("a complex array".into(), format!("{got:?}"));
            return Err(InputError::TooLarge { what, detail });
        }
        Kept::copy(view, 1, |a| {
            let mut shape = a.shape().to_vec();
            if let Some(last) = shape.last_mut() {
                *last *= 2;
            }
            let mut parts = memory::room(2 * a.len(), "the parts of a complex array")?;
            parts.extend(a.iter().flat_map(|z| [z.re, z.im]));
            match ArrayD::from_shape_vec(IxDyn(&shape), parts) {
                Ok(parts) => Ok(parts),
                Err(e) => unreachable!("two parts for each number: {e}"),
            }
        })
    }
}
impl<T: Element, S: Data<Elem = Complex<T>>, D: Dimension> IntoComplexArray
    for ArrayBase<S, D, Complex<T>>
{
    type Elem = T;
    type Dim = D;
    fn axes(&self) -> usize {
        self.ndim()
    }
    fn into_interleaved(self, least: usize) -> Result<Kept<T>, InputError> {
        (&self).into_interleaved(least)
    }
}

/// Pairs of real results as complex numbers.
fn complex<T: Element>(parts: ArrayD<T>) -> Result<ArrayD<Complex<T>>, OutOfMemory> {
    let mut shape = parts.shape().to_vec();
    if let Some(last) = shape.last_mut() {
        *last /= 2;
    }
    let mut numbers = memory::room(parts.len() / 2, "a complex result")?;
    let mut each = parts.iter().copied();
    while let (Some(re), Some(im)) = (each.next(), each.next()) {
        numbers.push(Complex { re, im });
    }
    match ArrayD::from_shape_vec(IxDyn(&shape), numbers) {
        Ok(a) => Ok(a),
        Err(e) => unreachable!("results have an even number of components: {e}"),
    }
}

impl<T: Element, P: Place + Default> ComplexLazyTensor<T, P> {
    /// Rows indexed by `i`: an array of shape `(batch…, M, dim)`, or `(M)` for dimension 1. Other
    /// shapes are an error that is carried.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::vi(array![C::new(3.0, 4.0), C::i()]);
    /// assert_eq!(z.shape()?, [2, 1, 1]);
    /// assert_eq!(z.square_abs().sum(Axis::J)?, array![[25.0], [1.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn vi(array: impl IntoComplexArray<Elem = T>) -> Self {
        Self::array(array.into_interleaved(2), Category::I, Caller::caller())
    }
    /// Rows indexed by `j`: an array of shape `(batch…, N, dim)`, or `(N)` for dimension 1.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::vj(array![C::new(3.0, 4.0), C::i()]);
    /// assert_eq!(z.sum(Axis::J)?, array![[C::new(3.0, 5.0)]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn vj(array: impl IntoComplexArray<Elem = T>) -> Self {
        Self::array(array.into_interleaved(2), Category::J, Caller::caller())
    }
    /// A parameter: an array of shape `(batch…, dim)`, or without axes for dimension 1.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let (z, turn) = (Complex::vi(array![C::new(3.0, 4.0)]), Complex::pm(array![C::i()]));
    /// assert_eq!((z * turn).sum(Axis::J)?, array![[C::new(-4.0, 3.0)]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn pm(array: impl IntoComplexArray<Elem = T>) -> Self {
        Self::array(array.into_interleaved(1), Category::Param, Caller::caller())
    }
    /// From an array whose shape tells what it is: see [`LazyTensor::new`].
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::new(ndarray::Array3::<C>::zeros((1, 5, 2))); // (1, N, dim)
    /// assert_eq!(z.shape()?, [1, 5, 2]);
    /// assert!(Complex::new(ndarray::Array2::<C>::zeros((5, 2))).check().is_err());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn new(array: impl IntoComplexArray<Elem = T>) -> Self {
        match array.into_interleaved(1) {
            Ok(parts) => ComplexLazyTensor { parts: LazyTensor::new(parts) },
            Err(e) => ComplexLazyTensor { parts: LazyTensor::failed(Caller::caller(), e) },
        }
    }
    fn array(parts: Result<Kept<T>, InputError>, category: Category, location: Location) -> Self {
        ComplexLazyTensor { parts: LazyTensor::array(parts, category, location) }
    }
}

impl<T: Element, P: Place> ComplexLazyTensor<T, P> {
    /// The sum over the index of an axis, of shape `(batch…, rows, dim)`.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let (z, w) = (Complex::vi(array![C::new(1.0, 0.0), C::i()]), Complex::vj(array![C::i()]));
    /// let product = z * w;
    /// assert_eq!(product.sum(Axis::J)?, array![[C::i()], [C::new(-1.0, 0.0)]].into_dyn());
    /// assert_eq!(product.sum(Axis::I)?, array![[C::new(-1.0, 1.0)]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    #[track_caller]
    pub fn sum(&self, axis: Axis) -> Result<ArrayD<Complex<T>>, FormulaError> {
        Ok(complex(self.parts.sum(axis)?)?)
    }
    /// [`ComplexLazyTensor::sum`], not yet called: a real reduction in which real and imaginary
    /// parts alternate. With respect to `z = a + ib`, `vjp` gives the pairs (∂/∂a, ∂/∂b).
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::vi(array![C::new(3.0, 4.0)]);
    /// let square = (&z * &z).sum_reduction(Axis::J)?; // a² - b² + 2abi
    /// assert_eq!(square.call(())?, array![[-7.0, 24.0]].into_dyn());
    /// let real_part = array![[1.0, 0.0]];
    /// let gradient = square.vjp(z.interleaved())?.call((&real_part,))?;
    /// assert_eq!(gradient, array![[6.0, -8.0]].into_dyn()); // (2a, -2b)
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::bound`].
    #[track_caller]
    pub fn sum_reduction(&self, axis: Axis) -> Result<BoundReduction<T, P>, FormulaError> {
        self.parts.bind(None, (&reduce::SUM).into(), axis, Caller::caller())
    }
    /// The matrix product `Σ_j k_ij b_j`: `b` has shape `(batch…, N, dim)`, or `(N)` for a result
    /// of shape `(M)`. The result has as many axes as `b`.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let k = Complex::vi(array![C::new(1.0, 0.0), C::i()])
    ///     * Complex::vj(array![C::i(), C::new(2.0, 0.0)]);
    /// let b = array![C::new(1.0, 0.0), C::new(0.0, 1.0)];
    /// assert_eq!(k.matmul(b)?, array![C::new(0.0, 3.0), C::new(-3.0, 0.0)]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    #[track_caller]
    pub fn matmul<B: IntoComplexArray<Elem = T>>(
        &self,
        b: B,
    ) -> Result<Array<Complex<T>, B::Dim>, FormulaError> {
        let location = Caller::caller();
        let vector = b.axes() == 1;
        let b = ComplexLazyTensor::<T>::array(b.into_interleaved(2), Category::J, location);
        let b = b.at(self.parts.place.clone());
        let rule = Rule::by_name("ComplexMult", &[]);
        let product = LazyTensor::apply(location, rule, &self.parts, &[&b.parts], vec![]);
        let out = complex(product.values(None, (&reduce::SUM).into(), Axis::J, location)?)?;
        with_axes_of_factor(out, vector, location)
    }
    /// [`ComplexLazyTensor::matmul`] under the name of linear operators.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::ComplexLazyTensor};
    /// # use ndarray::array;
    /// # use num_complex::Complex64 as C;
    /// let k = ComplexLazyTensor::<f64, Reference>::vj(array![C::i(), C::new(2.0, 0.0)]);
    /// assert_eq!(k.matvec(array![C::i(), C::new(1.0, 1.0)])?, array![C::new(1.0, 2.0)]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    #[track_caller]
    pub fn matvec<B: IntoComplexArray<Elem = T>>(
        &self,
        b: B,
    ) -> Result<Array<Complex<T>, B::Dim>, FormulaError> {
        self.matmul(b)
    }
    /// The product of the transposed matrix, `Σ_i k_ij b_i`, without conjugation: `b` has M rows.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::ComplexLazyTensor};
    /// # use ndarray::array;
    /// # use num_complex::Complex64 as C;
    /// let k = ComplexLazyTensor::<f64, Reference>::vi(array![C::i(), C::new(2.0, 0.0)]);
    /// assert_eq!(k.rmatvec(array![C::i(), C::new(1.0, 1.0)])?, array![C::new(1.0, 2.0)]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    #[track_caller]
    pub fn rmatvec<B: IntoComplexArray<Elem = T>>(
        &self,
        b: B,
    ) -> Result<Array<Complex<T>, B::Dim>, FormulaError> {
        self.t().matmul(b)
    }
}

impl<T, P: Place + Default> ComplexLazyTensor<T, P> {
    /// A complex number: a parameter or, if its parts are whole numbers, a constant.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::vi(array![C::new(3.0, 4.0)]);
    /// assert_eq!(
    ///     (&z - Complex::scalar(C::new(1.0, 1.0))).abs().sum(Axis::J)?,
    ///     array![[13f64.sqrt()]].into_dyn()
    /// );
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn scalar(value: Complex<f64>) -> Self {
        let (re, im) = (LazyTensor::scalar(value.re), LazyTensor::scalar(value.im));
        ComplexLazyTensor { parts: re.call("Concat", &[&im], &[]) }
    }
    /// Argument `position` of a function: see [`LazyTensor::var`]. Its arrays are real, of `2 dim`
    /// components, in which real and imaginary parts alternate.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// use keops_core::graph::Category;
    /// let square = Complex::var(0, 1, Category::I).square_abs().sum_reduction(Axis::J)?;
    /// assert_eq!(square.call((&array![[3.0, 4.0], [1.0, 0.0]],))?, array![[25.0], [1.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn var(position: usize, dim: usize, category: Category) -> Self {
        ComplexLazyTensor { parts: LazyTensor::var(position, dim.saturating_mul(2), category) }
    }
}

impl<T, P: Place> LazyTensor<T, P> {
    /// `a + 0i`
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// # use num_complex::Complex64 as C;
    /// let x = Lazy::vi(array![2.0]);
    /// assert_eq!((x.real2complex() * C::i()).sum(Axis::J)?, array![[C::new(0.0, 2.0)]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn real2complex(&self) -> ComplexLazyTensor<T, P> {
        ComplexLazyTensor { parts: self.call("Real2Complex", &[], &[]) }
    }
    /// `0 + ai`
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// # use num_complex::Complex64 as C;
    /// let z = Lazy::vi(array![2.0]).imag2complex();
    /// assert_eq!(z.sum(Axis::J)?, array![[C::new(0.0, 2.0)]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn imag2complex(&self) -> ComplexLazyTensor<T, P> {
        ComplexLazyTensor { parts: self.call("Imag2Complex", &[], &[]) }
    }
    /// `exp(ia) = cos a + i sin a`
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// # use num_complex::Complex64 as C;
    /// let turns = (Lazy::vi(array![0.0, 0.5]) * std::f64::consts::PI).exp1j().sum(Axis::J)?;
    /// assert!((turns[[0, 0]] - C::new(1.0, 0.0)).norm() < 1e-15);
    /// assert!((turns[[1, 0]] - C::i()).norm() < 1e-15);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn exp1j(&self) -> ComplexLazyTensor<T, P> {
        ComplexLazyTensor { parts: self.call("ComplexExp1j", &[], &[]) }
    }
    /// The components of `self` as pairs of real and imaginary parts. An odd number of components
    /// is an error that is carried.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// # use num_complex::Complex64 as C;
    /// let parts = Lazy::vi(array![[3.0, 4.0, 0.0, 1.0]]); // 3 + 4i and i
    /// assert_eq!(parts.as_complex().abs().sum(Axis::J)?, array![[5.0, 1.0]].into_dyn());
    /// assert!(parts.extract(0, 3).as_complex().check().is_err());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn as_complex(&self) -> ComplexLazyTensor<T, P> {
        // Conjugation checks the dimension; twice it is nothing.
        let conj = self.call("Conj", &[], &[]);
        match conj.check() {
            Err(_) if self.check().is_ok() => ComplexLazyTensor { parts: conj },
            _ => ComplexLazyTensor { parts: self.clone() },
        }
    }
}

impl<T, P: Place> ComplexLazyTensor<T, P> {
    /// The real LazyTensor behind it, of twice the dimension: real and imaginary parts alternate.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::vi(array![C::new(3.0, 4.0)]);
    /// assert_eq!(z.interleaved().sum(Axis::J)?, array![[3.0, 4.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn interleaved(&self) -> &LazyTensor<T, P> {
        &self.parts
    }
    /// The error that it carries, or that its arrays do not fit each other.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let (z, w) =
    ///     (Complex::vi(array![[C::i(), C::i()]]), Complex::vj(array![[C::i(), C::i(), C::i()]]));
    /// assert!(z.check().is_ok() && (z * w).check().is_err()); // dimensions 2 and 3
    /// ```
    ///
    /// # Errors
    /// The first error, with its place in the caller's source.
    pub fn check(&self) -> Result<(), FormulaError> {
        self.parts.check()
    }
    /// Number of complex components of an entry.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::vi(array![[C::i(), C::i()]]);
    /// assert_eq!((z.dim()?, z.interleaved().dim()?), (2, 4));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn dim(&self) -> Result<usize, FormulaError> {
        Ok(self.parts.dim()? / 2)
    }
    /// `(batch…, M, N, dim)`, of complex components.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let (z, w) =
    ///     (Complex::vi(array![[C::i(), C::i()]]), Complex::vj(array![[C::i()], [C::i()], [C::i()]]));
    /// assert_eq!((z * w).shape()?, [1, 3, 2]); // w is used for both components of z
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn shape(&self) -> Result<Vec<usize>, FormulaError> {
        let mut shape = self.parts.shape()?;
        shape.iter_mut().last().into_iter().for_each(|d| *d /= 2);
        Ok(shape)
    }
    /// The (real) formula: see [`LazyTensor::formula`].
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let formula = Complex::vi(array![C::i()]).conj().formula()?;
    /// assert_eq!(formula.vars[0].dim, 2); // real and imaginary part
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn formula(&self) -> Result<Formula, FormulaError> {
        self.parts.formula()
    }
    /// The transposed matrix: `i` and `j` exchanged, without conjugation.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let k = Complex::vi(array![C::i(), C::i()]) + Complex::vj(array![C::i(), C::i(), C::i()]);
    /// assert_eq!(k.t().shape()?, [3, 2, 1]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn t(&self) -> Self {
        ComplexLazyTensor { parts: self.parts.t() }
    }
    /// A name for a variable: see [`LazyTensor::named`].
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::vi(array![C::i(), C::i()]).named("signal");
    /// let short = Complex::vi(array![C::i()]);
    /// let e = (short + z).check().unwrap_err().to_string();
    /// assert!(e.contains("`signal` has 2 rows"), "{e}");
    /// ```
    #[track_caller]
    pub fn named(&self, name: &str) -> Self {
        ComplexLazyTensor { parts: self.parts.named(name) }
    }
    /// Accumulation type and scheme of sums: see [`LazyTensor::options`].
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// use keops_core::spec::{ReduceOptions, Scheme};
    /// let kahan = ReduceOptions { scheme: Scheme::Kahan, accumulate: None };
    /// let z = Complex::vj(array![C::new(1e16, 0.0), C::new(1.0, 1.0), C::new(-1e16, 0.0)]);
    /// assert_eq!(z.options(kahan).sum(Axis::J)?, array![[C::new(1.0, 1.0)]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn options(self, options: crate::spec::ReduceOptions) -> Self {
        ComplexLazyTensor { parts: self.parts.options(options) }
    }
    /// Block-sparse ranges: entries outside count as absent. See [`LazyTensor::ranges`].
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// use keops_core::ranges::Ranges;
    /// let z = Complex::vi(array![C::i(), C::i()]) + Complex::vj(array![C::i(), C::i()]);
    /// let diagonal = Ranges::same_labels(&[0, 1], &[0, 1])?;
    /// let sum = z.ranges(diagonal).sum(Axis::J)?;
    /// assert_eq!(sum, array![[2.0 * C::i()], [2.0 * C::i()]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn ranges(self, ranges: impl Into<std::sync::Arc<crate::ranges::Ranges>>) -> Self {
        ComplexLazyTensor { parts: self.parts.ranges(ranges) }
    }
    /// The same matrix, to be reduced elsewhere: see [`LazyTensor::at`].
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// let z = Complex::vi(array![C::i()]).at(Device::new(Interpreter::new()));
    /// assert_eq!(z.conj().sum(Axis::J)?, array![[-C::i()]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn at<Q: Place>(self, place: Q) -> ComplexLazyTensor<T, Q> {
        ComplexLazyTensor { parts: self.parts.at(place) }
    }
    /// `len` components from `start`, counted from 0.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::vi(array![[C::new(1.0, 2.0), C::new(3.0, 4.0), C::new(5.0, 6.0)]]);
    /// let last = array![[C::new(3.0, 4.0), C::new(5.0, 6.0)]];
    /// assert_eq!(z.extract(1, 2).sum(Axis::J)?, last.into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn extract(&self, start: usize, len: usize) -> Self {
        let (start, len) = (start.saturating_mul(2), len.saturating_mul(2));
        ComplexLazyTensor { parts: self.parts.extract(start, len) }
    }
    /// Component `index`, counted from 0.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::vi(array![[C::new(1.0, 2.0), C::new(3.0, 4.0)]]);
    /// assert_eq!(z.elem(1).sum(Axis::J)?, array![[C::new(3.0, 4.0)]].into_dyn());
    /// assert!(z.elem(2).check().is_err());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn elem(&self, index: usize) -> Self {
        self.extract(index, 1)
    }
    /// The components of a range: see [`LazyTensor::components`].
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::ComplexLazyTensor, spec::Axis};
    /// use ndarray::array;
    /// use num_complex::Complex64 as C;
    /// let z = [C::new(1.0, 2.0), C::new(3.0, 4.0), C::new(5.0, 6.0)];
    /// let last = ComplexLazyTensor::<f64, Reference>::vi(array![z]).components(-2..);
    /// assert_eq!(last.sum(Axis::J)?, array![[z[1], z[2]]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn components(&self, range: impl Into<Slice>) -> Self {
        ComplexLazyTensor { parts: self.parts.groups(2, range.into()) }
    }
    /// The components of `other` after those of `self`.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::vi(array![C::new(1.0, 2.0)]);
    /// assert_eq!(z.concat(&z.conj()).concat(7).dim()?, 3);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn concat(&self, other: impl ComplexOperand<T, P>) -> Self {
        ComplexLazyTensor { parts: self.parts.call("Concat", &[&other.operand().complex()], &[]) }
    }
    /// Scalar product `Σ_k a_k b_k`, without conjugation.
    ///
    /// ```
    #[doc = include_str!("complex_example.txt")]
    /// let z = Complex::vi(array![[C::new(1.0, 2.0), C::i()]]);
    /// assert_eq!(z.scalprod(z.conj()).sum(Axis::J)?, array![[C::new(6.0, 0.0)]].into_dyn()); // |z|²
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn scalprod(&self, other: impl ComplexOperand<T, P>) -> Self {
        (self * other).sum_components()
    }
}

/// Methods, each with an example: `name = "Operation" -> kind where z = [numbers] => [result]`.
macro_rules! unary {
    ($($(#[$doc:meta])* $method:ident = $name:literal -> $kind:ident
        where z = $given:expr => $result:expr;)*) => {
        /// Operations.
        impl<T, P: Place> ComplexLazyTensor<T, P> {$(
            $(#[$doc])*
            ///
            /// ```
            /// # use keops_core::{genred::Reference, lazy::ComplexLazyTensor, spec::Axis};
            /// # use ndarray::array;
            /// # use num_complex::Complex64 as C;
            #[doc = concat!("let z = ComplexLazyTensor::<f64, Reference>::vi(array![", stringify!($given), "]);")]
            #[doc = concat!("let result = array![", stringify!($result), "].into_dyn();")]
            #[doc = concat!("assert_eq!(z.", stringify!($method), "().sum(Axis::J)?, result);")]
            /// # Ok::<(), keops_core::error::Error>(())
            /// ```
            #[track_caller]
            pub fn $method(&self) -> unary!($kind) {
                unary!($kind self.parts.call($name, &[], &[]))
            }
        )*}
        /// The operations of complex numbers that have a method or an operator.
        #[cfg(test)]
        pub(super) const OPERATIONS: &[&str] = &[
            $($name,)* "Real2Complex", "Imag2Complex", "ComplexExp1j", "ComplexAdd",
            "ComplexSubtract", "ComplexMult", "ComplexDivide", "ComplexRealScal",
        ];
    };
    (complex) => { ComplexLazyTensor<T, P> };
    (real) => { LazyTensor<T, P> };
    (complex $e:expr) => { ComplexLazyTensor { parts: $e } };
    (real $e:expr) => { $e };
}
unary! {
    /// Real parts, of the same dimension.
    real = "ComplexReal" -> real
        where z = [C::new(3.0, 4.0), C::i()] => [3.0, 0.0];
    /// Imaginary parts.
    imag = "ComplexImag" -> real
        where z = [C::new(3.0, 4.0), C::i()] => [4.0, 1.0];
    /// Angles, in radians within `[-π, π]`.
    angle = "ComplexAngle" -> real
        where z = [C::new(-1.0, 0.0), C::i()] => [std::f64::consts::PI, std::f64::consts::FRAC_PI_2];
    /// Absolute values; their gradient at 0 is taken as 0.
    abs = "ComplexAbs" -> real
        where z = [C::new(3.0, 4.0), C::i()] => [5.0, 1.0];
    /// Squares of absolute values.
    square_abs = "ComplexSquareAbs" -> real
        where z = [C::new(3.0, 4.0), C::i()] => [25.0, 1.0];
    /// Conjugates.
    conj = "Conj" -> complex
        where z = [C::new(3.0, 4.0), C::i()] => [C::new(3.0, -4.0), -C::i()];
    /// Exponentials.
    exp = "ComplexExp" -> complex
        where z = [C::new(2f64.ln(), 0.0), C::new(0.0, 0.0)] => [C::new(2.0, 0.0), C::new(1.0, 0.0)];
    /// Sum of the components of each entry, of dimension 1.
    sum_components = "ComplexSum" -> complex
        where z = [C::new(3.0, 4.0), C::i()] => [C::new(3.0, 5.0)];
}

/// A complex or real operand.
pub struct Operand<T, P> {
    parts: LazyTensor<T, P>,
    real: bool,
}
impl<T, P: Place> Operand<T, P> {
    #[track_caller]
    fn complex(self) -> LazyTensor<T, P> {
        if self.real { self.parts.call("Real2Complex", &[], &[]) } else { self.parts }
    }
}

/// What can stand beside a [`ComplexLazyTensor`]: another one, a complex or real number, a real
/// [`LazyTensor`], a list of real numbers, an array of complex or real numbers as
/// [`LazyTensor::new`] takes it.
///
/// ```
/// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
/// use ndarray::array;
/// use num_complex::Complex64 as C;
/// let x = LazyTensor::<f64, Reference>::vi(array![2.0]);
/// // A complex number makes a real LazyTensor complex.
/// let z = &x * C::i() + 1;
/// assert_eq!((&x * z / 2).sum(Axis::J)?, array![[C::new(1.0, 2.0)]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait ComplexOperand<T, P> {
    /// As an operand, for the operators of this module.
    #[doc(hidden)]
    #[track_caller]
    fn operand(self) -> Operand<T, P>;
}
impl<T, P> ComplexOperand<T, P> for ComplexLazyTensor<T, P> {
    fn operand(self) -> Operand<T, P> {
        Operand { parts: self.parts, real: false }
    }
}
impl<T, P: Place> ComplexOperand<T, P> for &ComplexLazyTensor<T, P> {
    fn operand(self) -> Operand<T, P> {
        Operand { parts: self.parts.clone(), real: false }
    }
}
impl<T, P: Place + Default> ComplexOperand<T, P> for Complex<f64> {
    #[track_caller]
    fn operand(self) -> Operand<T, P> {
        ComplexLazyTensor::scalar(self).operand()
    }
}
impl<T, P: Place + Default> ComplexOperand<T, P> for Complex<f32> {
    #[track_caller]
    fn operand(self) -> Operand<T, P> {
        Complex::<f64>::new(self.re.into(), self.im.into()).operand()
    }
}
macro_rules! array_operands {
    ($($array:ty)*) => {$(
        impl<T: Element, P: Place + Default, S: Data<Elem = Complex<T>>, D: Dimension>
            ComplexOperand<T, P> for $array
        {
            #[track_caller]
            fn operand(self) -> Operand<T, P> {
                ComplexLazyTensor::new(self).operand()
            }
        }
    )*};
}
array_operands!(ArrayBase<S, D, Complex<T>> &ArrayBase<S, D, Complex<T>>);

impl<T, P: Place, R: LazyOperand<T, P> + RealOperand> ComplexOperand<T, P> for R {
    #[track_caller]
    fn operand(self) -> Operand<T, P> {
        Operand { parts: self.lazy(), real: true }
    }
}

/// The operation of that name; products with a real factor need half the work, unless that has more
/// components than the one complex number beside it.
#[track_caller]
fn combine<T, P: Place>(name: &str, a: Operand<T, P>, b: Operand<T, P>) -> ComplexLazyTensor<T, P> {
    let scales = |s: &Operand<T, P>, z: &Operand<T, P>| {
        let dims = (s.parts.dim(), z.parts.dim());
        s.real && !z.real && !matches!(dims, (Ok(d), Ok(2)) if d > 1)
    };
    let (a, b, name) = match name {
        "ComplexMult" if scales(&a, &b) || scales(&b, &a) => (a.parts, b.parts, "ComplexRealScal"),
        "ComplexDivide" if scales(&b, &a) => {
            (b.parts.call("Inv", &[], &[]), a.parts, "ComplexRealScal")
        }
        name => (a.complex(), b.complex(), name),
    };
    ComplexLazyTensor { parts: a.call(name, &[&b], &[]) }
}

macro_rules! operators {
    ($($op:ident $method:ident $name:literal;)*) => {$(
        operators!(pair [T, P: Place, R: ComplexOperand<T, P>]
            ComplexLazyTensor<T, P>, R, $op $method $name);
        operators!(pair [T, P: Place, R: ComplexOperand<T, P>]
            &ComplexLazyTensor<T, P>, R, $op $method $name);
        operators!(real [T, P: Place] LazyTensor<T, P>, $op $method $name);
        operators!(real [T, P: Place] &LazyTensor<T, P>, $op $method $name);
        operators!(real [T, P: Place + Default] f64, $op $method $name);
        operators!(real [T, P: Place + Default] i32, $op $method $name);
        operators!(real [T: Element, P: Place + Default, const N: usize] [f64; N], $op $method $name);
        operators!(real [T: Element, P: Place + Default] Vec<f64>, $op $method $name);
        operators!(
            real [T: Element, P: Place + Default, S: Data<Elem = T>, D: Dimension]
                ArrayBase<S, D, T>, $op $method $name
        );
        operators!(
            real [T: Element, P: Place + Default, S: Data<Elem = T>, D: Dimension]
                &ArrayBase<S, D, T>, $op $method $name
        );
        operators!(complex [T, P: Place + Default] Complex<f64>, $op $method $name);
        operators!(complex [T, P: Place + Default] Complex<f32>, $op $method $name);
        operators!(
            complex [T: Element, P: Place + Default, S: Data<Elem = Complex<T>>, D: Dimension]
                ArrayBase<S, D, Complex<T>>, $op $method $name
        );
        operators!(
            complex [T: Element, P: Place + Default, S: Data<Elem = Complex<T>>, D: Dimension]
                &ArrayBase<S, D, Complex<T>>, $op $method $name
        );
    )*};
    // On the left of what is complex.
    (real [$($generic:tt)*] $left:ty, $op:ident $method:ident $name:literal) => {
        operators!(pair [$($generic)*] $left, ComplexLazyTensor<T, P>, $op $method $name);
        operators!(pair [$($generic)*] $left, &ComplexLazyTensor<T, P>, $op $method $name);
    };
    // On the left of anything, and on the right of what is real.
    (complex [$($generic:tt)*] $z:ty, $op:ident $method:ident $name:literal) => {
        operators!(real [$($generic)*] $z, $op $method $name);
        operators!(pair [$($generic)*] $z, LazyTensor<T, P>, $op $method $name);
        operators!(pair [$($generic)*] $z, &LazyTensor<T, P>, $op $method $name);
        operators!(pair [$($generic)*] LazyTensor<T, P>, $z, $op $method $name);
        operators!(pair [$($generic)*] &LazyTensor<T, P>, $z, $op $method $name);
    };
    (pair [$($generic:tt)*] $left:ty, $right:ty, $op:ident $method:ident $name:literal) => {
        operator!($op $method [$($generic)*] $left, $right => ComplexLazyTensor<T, P>: |a, b| {
            let a = ComplexOperand::<T, P>::operand(a);
            combine($name, a, ComplexOperand::<T, P>::operand(b))
        });
    };
}
operators! {
    Add add "ComplexAdd";
    Sub sub "ComplexSubtract";
    Mul mul "ComplexMult";
    Div div "ComplexDivide";
}
in_place!(ComplexLazyTensor, ComplexOperand, |a| ComplexLazyTensor {
    parts: a.parts.call("Minus", &[], &[])
});

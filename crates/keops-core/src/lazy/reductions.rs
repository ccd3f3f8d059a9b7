//! Reductions of LazyTensors: at once, or not yet called.

use super::term::{Location, Rule};
use super::{BoundReduction, IntoArray, LazyOperand, LazyTensor, located};
use crate::data::{Buffer, Element};
use crate::error::{FormulaError, InputError};
use crate::genred::{Place, Reduce};
use crate::graph::Category;
use crate::ops;
use crate::reduce::{self, Definition};
use crate::spec::Axis;
use ndarray::{Array, ArrayD, Axis as NdAxis, Dimension, IxDyn};
use std::panic::Location as Caller;

fn many(def: impl Into<Definition>, k: usize) -> Reduce {
    Reduce { def: def.into(), k }
}

/// Both forms of the reductions without a weight, each with an example: `name, name_reduction
/// (winners) -> what = DEF where f = formula => result`.
macro_rules! reductions {
    ($($(#[$doc:meta])* $now:ident $later:ident($($k:ident)?) -> $what:ident $out:ty = $def:ident
        where f = $formula:expr => $result:expr;)*) => {
        /// Reductions over the index of an axis: over `Axis::J` one result for each i, over
        /// `Axis::I` one for each j. Results have shape `(batch…, rows, dim)`; errors are those of
        /// [`LazyTensor::reduce`]. The `…_reduction` methods give the same, not yet called.
        ///
        /// ```
        /// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
        /// use ndarray::array;
        /// let x = LazyTensor::<f64, Reference>::vi(array![0.0, 4.0]);
        /// let d = (x - LazyTensor::vj(array![1.0, 3.0, 6.0])).abs();
        /// assert_eq!(d.sum(Axis::J)?, array![[10.0], [6.0]].into_dyn());
        /// assert_eq!(d.max(Axis::I)?, array![[3.0], [3.0], [6.0]].into_dyn());
        /// assert_eq!(d.argkmin(2, Axis::J)?, array![[0, 1], [1, 2]].into_dyn());
        /// let (least, at) = d.min_argmin(Axis::J)?;
        /// assert_eq!((least, at), (array![[1.0], [1.0]].into_dyn(), array![[0], [1]].into_dyn()));
        /// # Ok::<(), keops_core::error::Error>(())
        /// ```
        impl<T: Element, P: Place> LazyTensor<T, P> {$(
            $(#[$doc])*
            ///
            /// ```
            /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
            /// # use ndarray::array;
            /// # type Lazy = LazyTensor<f64, Reference>;
            /// let (x, y) = (Lazy::vi(array![0.0, 4.0]), Lazy::vj(array![1.0, 3.0, 6.0]));
            #[doc = concat!("let f = ", stringify!($formula), ";")]
            #[doc = concat!("assert_eq!(f.", stringify!($now), "(", reductions!(text $($k)?), "Axis::J)?, ", stringify!($result), ");")]
            /// # Ok::<(), keops_core::error::Error>(())
            /// ```
            ///
            /// # Errors
            /// As [`LazyTensor::reduce`].
            #[track_caller]
            pub fn $now(&self, $($k: usize,)? axis: Axis) -> Result<$out, FormulaError> {
                let reduce = many(&reduce::$def, reductions!(count $($k)?));
                self.$what(None, reduce, axis, Caller::caller())
            }
            #[doc = concat!("[`LazyTensor::", stringify!($now), "`], not yet called: a function of the")]
            /// symbolic variables in the formula, if there are any.
            ///
            /// ```
            /// # use keops_core::{genred::Reference, graph::Category, lazy::LazyTensor, spec::Axis};
            /// # use ndarray::array;
            /// # type Lazy = LazyTensor<f64, Reference>;
            /// let (x, y) = (Lazy::var(0, 1, Category::I), Lazy::vj(array![1.0, 3.0, 6.0]));
            #[doc = concat!("let f = ", stringify!($formula), ";")]
            #[doc = concat!("let of_x = f.", stringify!($later), "(", reductions!(text $($k)?), "Axis::J)?;")]
            /// let x = array![[0.0], [4.0]];
            #[doc = concat!("assert_eq!(", reductions!(call $what), ", ", stringify!($result), ");")]
            /// # Ok::<(), keops_core::error::Error>(())
            /// ```
            ///
            /// # Errors
            /// As [`LazyTensor::bound`].
            #[track_caller]
            pub fn $later(&self, $($k: usize,)? axis: Axis) -> Result<BoundReduction<T, P>, FormulaError> {
                let reduce = many(&reduce::$def, reductions!(count $($k)?));
                self.bind(None, reduce, axis, Caller::caller())
            }
        )*}
    };
    (count) => { 1 };
    (count $k:ident) => { $k };
    (text) => { "" };
    (text $k:ident) => { "2, " };
    (call values) => { "of_x.call((&x,))?" };
    (call indices) => { "of_x.call_indices((&x,))?" };
    (call both) => { "(of_x.call((&x,))?, of_x.call_indices((&x,))?)" };
}

reductions! {
    /// Sum.
    sum sum_reduction() -> values ArrayD<T> = SUM
        where f = (&x - &y).abs() => array![[10.0], [6.0]].into_dyn();
    /// `log Σ exp`; -inf over nothing.
    logsumexp logsumexp_reduction() -> values ArrayD<T> = LOG_SUM_EXP
        where f = &x + &y * 0 => array![[3f64.ln()], [4.0 + 3f64.ln()]].into_dyn();
    /// Mean; NaN over nothing.
    mean mean_reduction() -> values ArrayD<T> = MEAN
        where f = (&x - &y).abs() * 3.0 => array![[10.0], [6.0]].into_dyn();
    /// Mean squared distance to the mean (not corrected), component by component; NaN over nothing.
    variance variance_reduction() -> values ArrayD<T> = VARIANCE
        where f = (&x - &y).abs() * 3.0 => array![[38.0], [6.0]].into_dyn();
    /// Smallest value; +inf over nothing.
    min min_reduction() -> values ArrayD<T> = MIN
        where f = (&x - &y).abs() => array![[1.0], [1.0]].into_dyn();
    /// Largest value; -inf over nothing.
    max max_reduction() -> values ArrayD<T> = MAX
        where f = (&x - &y).abs() => array![[6.0], [3.0]].into_dyn();
    /// Index of the smallest value, the first of equals; -1 over nothing.
    argmin argmin_reduction() -> indices ArrayD<i64> = ARG_MIN
        where f = (&x - &y).abs() => array![[0], [1]].into_dyn();
    /// Index of the largest value, the first of equals; -1 over nothing.
    argmax argmax_reduction() -> indices ArrayD<i64> = ARG_MAX
        where f = (&x - &y).abs() => array![[2], [0]].into_dyn();
    /// Smallest value and its index.
    min_argmin min_argmin_reduction() -> both (ArrayD<T>, ArrayD<i64>) = MIN_ARG_MIN
        where f = (&x - &y).abs() => (array![[1.0], [1.0]].into_dyn(), array![[0], [1]].into_dyn());
    /// Largest value and its index.
    max_argmax max_argmax_reduction() -> both (ArrayD<T>, ArrayD<i64>) = MAX_ARG_MAX
        where f = (&x - &y).abs() => (array![[6.0], [3.0]].into_dyn(), array![[2], [0]].into_dyn());
    /// The `k` smallest values in order, shape `(batch…, rows, k)`, or `(batch…, rows, k, dim)`
    /// for entries of more than one component; +inf where there are fewer.
    kmin kmin_reduction(k) -> values ArrayD<T> = K_MIN
        where f = (&x - &y).abs() => array![[1.0, 3.0], [1.0, 2.0]].into_dyn();
    /// Indices of the `k` smallest values in order, shaped as [`LazyTensor::kmin`]; -1 where there
    /// are fewer.
    argkmin argkmin_reduction(k) -> indices ArrayD<i64> = ARG_K_MIN
        where f = (&x - &y).abs() => array![[0, 1], [1, 2]].into_dyn();
    /// The `k` smallest values and their indices.
    kmin_argkmin kmin_argkmin_reduction(k) -> both (ArrayD<T>, ArrayD<i64>) = K_MIN_ARG_K_MIN
        where f = (&x - &y).abs()
        => (array![[1.0, 3.0], [1.0, 2.0]].into_dyn(), array![[0, 1], [1, 2]].into_dyn());
}

/// Both forms of the reductions with a weight.
macro_rules! weighted_reductions {
    ($($(#[$doc:meta])* $now:ident $later:ident = $def:ident;)*) => {
        /// Reductions with a weight, over the index of an axis.
        impl<T: Element, P: Place> LazyTensor<T, P> {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// As [`LazyTensor::reduce`].
            #[track_caller]
            pub fn $now(
                &self,
                weight: impl LazyOperand<T, P>,
                axis: Axis,
            ) -> Result<ArrayD<T>, FormulaError> {
                self.values(Some(&weight.lazy()), (&reduce::$def).into(), axis, Caller::caller())
            }
            #[doc = concat!("[`LazyTensor::", stringify!($now), "`], not yet called.")]
            ///
            /// ```
            /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
            /// # use ndarray::array;
            /// # type Lazy = LazyTensor<f64, Reference>;
            /// let (f, w) = (Lazy::vi(array![0.0, 2.0]), Lazy::vj(array![1.0, 3.0]));
            #[doc = concat!("let later = f.", stringify!($later), "(&w, Axis::J)?;")]
            #[doc = concat!("assert_eq!(later.call(())?, f.", stringify!($now), "(&w, Axis::J)?);")]
            /// // The gradient in the weights, a function of the cotangent of the result.
            /// let gradient = later.vjp(&w)?.call((&array![[1.0], [0.0]],))?;
            /// assert_eq!(gradient.shape(), [2, 1]);
            /// # Ok::<(), keops_core::error::Error>(())
            /// ```
            ///
            /// # Errors
            /// As [`LazyTensor::bound`].
            #[track_caller]
            pub fn $later(
                &self,
                weight: impl LazyOperand<T, P>,
                axis: Axis,
            ) -> Result<BoundReduction<T, P>, FormulaError> {
                self.bound_weighted(weight, &reduce::$def, axis)
            }
        )*}
    };
}
weighted_reductions! {
    /// `log Σ w exp`, of the dimension of `weight`, for a formula of dimension 1; -inf over nothing.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let (f, w) = (Lazy::vi(array![0.0, 2.0]), Lazy::vj(array![1.0, 3.0]));
    /// let lse = f.logsumexp_weighted(&w, Axis::J)?;
    /// assert_eq!(lse, array![[4f64.ln()], [2.0 + 4f64.ln()]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    logsumexp_weighted logsumexp_weighted_reduction = LOG_SUM_EXP;
    /// `Σ w exp / Σ exp`: the mean of `weight` under the softmax; 0 over nothing.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// use ndarray::array;
    /// let queries = LazyTensor::<f64, Reference>::vi(array![[0.0, 0.0]]);
    /// let keys = LazyTensor::vj(array![[1.0, 2.0], [3.0, 4.0]]);
    /// let values = LazyTensor::vj(array![[10.0], [30.0]]);
    /// assert_eq!((queries | keys).sumsoftmaxweight(values, Axis::J)?, array![[20.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    sumsoftmaxweight sumsoftmaxweight_reduction = SUM_SOFT_MAX_WEIGHT;
}

/// What a symbolic matrix is multiplied with: an array of shape `(batch…, N, dim)`, or `(N)` for a
/// result of shape `(M)`; or a LazyTensor of rows of j.
///
/// ```
/// # use keops_core::{error::Error, genred::Reference, lazy::{Factor, LazyTensor}};
/// # use ndarray::{Array1, Ix1, array};
/// # type Lazy = LazyTensor<f64, Reference>;
/// // Means of f with weights from a kernel (Nadaraya and Watson).
/// fn regression(k: &Lazy, f: impl Factor<f64, Reference, Dim = Ix1>) -> Result<Array1<f64>, Error> {
///     Ok(k.matmul(f)? / k.matmul(array![1.0, 1.0])?)
/// }
/// let k = (-(Lazy::vi(array![0.0, 1.0]) - Lazy::vj(array![0.0, 1.0])).abs()).exp();
/// let means = regression(&k, &array![0.0, 1.0])?;
/// assert!((means[0] + means[1] - 1.0).abs() < 1e-15);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait Factor<T, P> {
    /// Number of axes, which is that of the product; `IxDyn` where the type does not say it.
    type Dim: Dimension;
    /// As a LazyTensor to be reduced at `place`, and whether it has one axis.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::{Factor, LazyTensor}};
    /// let (b, vector): (LazyTensor<f64, Reference>, bool) =
    ///     ndarray::array![1.0, 2.0, 3.0].factor(&Reference::default());
    /// assert_eq!((b.shape()?, vector), (vec![1, 3, 1], true));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    fn factor(self, place: &P) -> (LazyTensor<T, P>, bool);
}
impl<T: Element, P: Place, A: IntoArray<Elem = T>> Factor<T, P> for A {
    type Dim = A::Dim;
    fn factor(self, place: &P) -> (LazyTensor<T, P>, bool) {
        let b = self.into_array();
        let vector = b.as_ref().is_ok_and(|b| b.shape().len() == 1);
        let b = LazyTensor::<T>::array(b, Category::J, Caller::caller());
        (b.at(place.clone()), vector)
    }
}
impl<T, P: Place> Factor<T, P> for &LazyTensor<T, P> {
    type Dim = IxDyn;
    fn factor(self, _: &P) -> (LazyTensor<T, P>, bool) {
        (self.clone(), false)
    }
}
impl<T, P: Place> Factor<T, P> for LazyTensor<T, P> {
    type Dim = IxDyn;
    fn factor(self, _: &P) -> (LazyTensor<T, P>, bool) {
        (self, false)
    }
}

/// A product with the axes of the factor: of a vector, without the last axis, which is one component.
pub(super) fn with_axes_of_factor<A, D: Dimension>(
    out: ArrayD<A>,
    vector: bool,
    location: Location,
) -> Result<Array<A, D>, FormulaError> {
    let last = NdAxis(out.ndim() - 1);
    let out = if vector && out.len_of(last) == 1 { out.remove_axis(last) } else { out };
    let got = out.raw_dim();
    out.into_dimensionality().map_err(|_| {
        let m = format!(
            "the product has shape {:?}, and the factor has {} axes: give it as many, or \
             `into_dyn()` for a product whose number of axes is found when it runs",
            got.slice(),
            D::NDIM.unwrap_or(got.ndim())
        );
        located(location, InputError::Option(m))
    })
}

impl<T: Element, P: Place> LazyTensor<T, P> {
    /// Reduces over one index: all results, values in the compute type (f32 for f16 and bf16),
    /// indices in i64; shapes as for [`crate::genred::Genred`].
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::reduce::MIN_ARG_MIN;
    /// let (x, y) = (Lazy::vi(array![0.0, 4.0]), Lazy::vj(array![1.0, 3.0, 6.0]));
    /// let both = x.sqdist(&y).reduce(&MIN_ARG_MIN, Axis::J)?;
    /// assert_eq!(both[0].to_f64(), array![[1.0], [1.0]].into_dyn());
    /// assert_eq!(both[1].indices(), Some(&array![[0], [1]].into_dyn()));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// The error that it carries; [`FormulaError::Input`] if formula, reduction and arrays do not fit;
    /// [`FormulaError::Compile`] and [`FormulaError::Run`] from the device; each with its place in the caller's
    /// source.
    #[track_caller]
    pub fn reduce(
        &self,
        reduction: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<Vec<Buffer>, FormulaError> {
        self.evaluate(None, reduction.into(), axis, Caller::caller())
    }
    /// All that such a reduction goes through, as text: its formula, and what
    /// [`Genred::explain`](crate::genred::Genred::explain) tells.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::reduce::SUM;
    /// let k = (-Lazy::vi(array![0.0, 4.0]).sqdist(Lazy::vj(array![1.0, 3.0]))).exp();
    /// let text = k.explain(&SUM, Axis::J)?;
    /// assert!(text.starts_with("formula\n    t0 = v0 - v1; Exp(-(t0 * t0)) where v0 = "));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::bound`] and [`Genred::explain`](crate::genred::Genred::explain).
    #[track_caller]
    pub fn explain(
        &self,
        reduction: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<String, FormulaError> {
        let bound = self.bind(None, reduction.into(), axis, Caller::caller())?;
        Ok(format!("formula\n    {self:?}\n{}", bound.explain()?))
    }
    pub(super) fn values(
        &self,
        w: Option<&Self>,
        r: Reduce,
        axis: Axis,
        location: Location,
    ) -> Result<ArrayD<T>, FormulaError> {
        match self.evaluate(w, r, axis, location)?.swap_remove(0) {
            Buffer::I64(_) => unreachable!("the first result is values"),
            b => Ok(T::take(b)?),
        }
    }
    fn indices(
        &self,
        w: Option<&Self>,
        r: Reduce,
        axis: Axis,
        location: Location,
    ) -> Result<ArrayD<i64>, FormulaError> {
        match self.evaluate(w, r, axis, location)?.pop() {
            Some(Buffer::I64(a)) => Ok(a),
            _ => unreachable!("the last result is indices"),
        }
    }
    fn both(
        &self,
        w: Option<&Self>,
        r: Reduce,
        axis: Axis,
        location: Location,
    ) -> Result<(ArrayD<T>, ArrayD<i64>), FormulaError> {
        let mut made = self.evaluate(w, r, axis, location)?;
        match (made.pop(), made.pop()) {
            (Some(Buffer::I64(i)), Some(v)) => Ok((T::take(v)?, i)),
            _ => unreachable!("the results are values and indices"),
        }
    }
    /// The matrix product `Σ_j k_ij b_j`: `b` has shape `(batch…, N, dim)`, or `(N)` for a result
    /// of shape `(M)`, or is a LazyTensor. The result has as many axes as `b`, in its type too.
    /// Entries of dimension 1 multiply all components of `b`. Batch axes broadcast: where the matrix
    /// has more than `b`, give `b` as an array of `IxDyn`.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor};
    /// use ndarray::array;
    /// let x = LazyTensor::<f64, Reference>::vi(array![1.0, 2.0]);
    /// let y = LazyTensor::vj(array![1.0, 0.0, 3.0]);
    /// let k = &x * &y;
    /// assert_eq!(k.matmul(array![1.0, 1.0, 1.0])?, array![4.0, 8.0]);
    /// assert_eq!(k.matmul(y.square())?, array![[28.0], [56.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`]; [`InputError::Option`] if the product has more axes than the type of
    /// `b` says.
    #[track_caller]
    pub fn matmul<B: Factor<T, P>>(&self, b: B) -> Result<Array<T, B::Dim>, FormulaError> {
        let location = Caller::caller();
        let (b, vector) = b.factor(&self.place);
        let product = Self::apply(location, Ok(Rule::Map(&ops::MULT)), self, &[&b], vec![]);
        let out = product.values(None, (&reduce::SUM).into(), Axis::J, location)?;
        with_axes_of_factor(out, vector, location)
    }
    /// [`LazyTensor::matmul`] under the name of linear operators.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let k = Lazy::vi(array![1.0, 2.0]).equal(Lazy::vj(array![2.0, 1.0, 2.0]));
    /// assert_eq!(k.matvec(array![1.0, 10.0, 100.0])?, array![10.0, 101.0]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    #[track_caller]
    pub fn matvec<B: Factor<T, P>>(&self, b: B) -> Result<Array<T, B::Dim>, FormulaError> {
        self.matmul(b)
    }
    /// The product of the transposed matrix, `Σ_i k_ij b_i`: `b` has shape `(batch…, M, dim)`, or `(M)`
    /// for a result of shape `(N)`.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let k = Lazy::vi(array![1.0, 2.0]).equal(Lazy::vj(array![2.0, 1.0, 2.0])); // 2 × 3
    /// assert_eq!(k.rmatvec(array![1.0, 10.0])?, array![10.0, 1.0, 10.0]);
    /// assert!(k.rmatvec(array![1.0, 10.0, 100.0]).is_err());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::matmul`].
    #[track_caller]
    pub fn rmatvec<B: IntoArray<Elem = T>>(&self, b: B) -> Result<Array<T, B::Dim>, FormulaError> {
        self.t().matmul(b)
    }
}

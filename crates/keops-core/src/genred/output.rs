//! Results written into arrays of the caller.

use super::{Genred, IntoArgs, Place};
use crate::data::{Buffer, Element};
use crate::error::{FormulaError, InputError};
use ndarray::{Array, ArrayD, ArrayViewMut, Axis, Dimension};

/// An array to write a result into: an owned array, or a mutable view of any layout.
/// [`Genred::call_into`] writes into one; there is no need to call its methods.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use ndarray::{Array2, array, s};
/// let sum: Genred = Genred::new("x", ["x = Vi(1)"], &SUM, Axis::J)?;
/// let mut table = Array2::zeros((2, 2));
/// sum.call_into((&array![[1.0], [2.0]],), &mut table.slice_mut(s![.., ..1]))?;
/// assert_eq!(table, array![[1.0, 0.0], [2.0, 0.0]]);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait IntoOutput {
    /// Element type.
    type Elem: Element;
    /// Shape.
    ///
    /// ```
    /// use keops_core::genred::IntoOutput;
    /// assert_eq!(IntoOutput::shape(&ndarray::Array2::<f64>::zeros((3, 1))), [3, 1]);
    /// ```
    fn shape(&self) -> &[usize];
    /// Its memory, if it is owned and row-major; the array is empty until [`IntoOutput::put`].
    ///
    /// ```
    /// use keops_core::genred::IntoOutput;
    /// let mut out = ndarray::array![[1.0, 2.0]];
    /// assert!(out.view_mut().take().is_none()); // not owned
    /// assert_eq!(out.take(), Some(ndarray::array![[1.0, 2.0]].into_dyn()));
    /// assert!(out.is_empty());
    /// ```
    fn take(&mut self) -> Option<ArrayD<Self::Elem>>;
    /// The values, of the shape it has, or had before [`IntoOutput::take`].
    ///
    /// ```
    /// use keops_core::genred::IntoOutput;
    /// let mut out = ndarray::array![[1.0, 2.0]];
    /// out.view_mut().put(ndarray::array![[3.0, 4.0]].into_dyn());
    /// assert_eq!(out, ndarray::array![[3.0, 4.0]]);
    /// ```
    fn put(&mut self, values: ArrayD<Self::Elem>);
}
impl<T: Element, D: Dimension> IntoOutput for Array<T, D> {
    type Elem = T;
    fn shape(&self) -> &[usize] {
        (**self).shape()
    }
    fn take(&mut self) -> Option<ArrayD<T>> {
        if !self.is_standard_layout() {
            return None;
        }
        let empty = Array::from_shape_vec(D::zeros(self.ndim()), vec![]).ok()?;
        Some(std::mem::replace(self, empty).into_dyn())
    }
    fn put(&mut self, values: ArrayD<T>) {
        // What keeps its own layout is assigned to; memory that was taken comes back.
        if self.shape() == values.shape() && !self.is_standard_layout() {
            self.zip_mut_with(&values, |o, v| *o = *v);
        } else if let Ok(values) = values.into_dimensionality() {
            *self = values;
        }
    }
}
impl<T: Element, D: Dimension> IntoOutput for ArrayViewMut<'_, T, D> {
    type Elem = T;
    fn shape(&self) -> &[usize] {
        (**self).shape()
    }
    fn take(&mut self) -> Option<ArrayD<T>> {
        None
    }
    fn put(&mut self, values: ArrayD<T>) {
        self.zip_mut_with(&values, |o, v| *o = *v);
    }
}

/// Results with a known number of axes.
///
/// ```
/// use keops_core::genred::{Genred, Shaped};
/// use keops_core::{reduce::SUM, spec::Axis};
/// use ndarray::{Array1, Array2, array};
/// let sum: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
/// let (x, y) = (array![1.0, 2.0], array![3.0, 4.0]);
/// let column: Array2<f64> = sum.call((&x, &y))?.shaped()?; // (2, 1)
/// let vector: Array1<f64> = sum.call((&x, &y))?.shaped()?;
/// assert_eq!((column, vector), (array![[7.0], [14.0]], array![7.0, 14.0]));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait Shaped: Sized {
    /// Type of the elements.
    type Elem;
    /// The same with the number of axes of `D`; the last axis goes, if there is one too many and if it
    /// has extent 1. Nothing is copied.
    ///
    /// ```
    /// use keops_core::genred::Shaped;
    /// use ndarray::{ArrayD, Ix1};
    /// let rows = ArrayD::<f32>::zeros(vec![5, 3]);
    /// let e = rows.shaped::<Ix1>().unwrap_err();
    /// assert_eq!(e.to_string(), "argument `the result`: expected 1 axis, got shape [5, 3]");
    /// ```
    ///
    /// # Errors
    /// [`InputError::Shape`] if there is another number of axes.
    fn shaped<D: Dimension>(self) -> Result<Array<Self::Elem, D>, InputError>;
}
impl<A> Shaped for ArrayD<A> {
    type Elem = A;
    fn shaped<D: Dimension>(self) -> Result<Array<A, D>, InputError> {
        let (shape, wanted) = (self.shape().to_vec(), D::NDIM.unwrap_or(self.ndim()));
        let spare = shape.len() == wanted + 1 && shape.last() == Some(&1);
        let all = if spare { self.index_axis_move(Axis(wanted), 0) } else { self };
        all.into_dimensionality().map_err(|_| InputError::Shape {
            name: "the result".into(),
            expected: format!("{wanted} ax{}s", if wanted == 1 { "i" } else { "e" }),
            got: shape,
        })
    }
}

impl<P: Place> Genred<P> {
    /// The result of [`Genred::call`], written into an array of its shape. The memory of a
    /// row-major owned array of f32 or f64 is written by the device itself; a view, another layout
    /// or a narrow type is filled by a copy at the end, from memory of the size of the result that
    /// is given back then. After an error an array that was to be written by the device keeps its
    /// shape, not its values; if there is no memory for them, it is left without elements.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use ndarray::{Array2, array, s};
    ///
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// let (x, y) = (array![[1.0], [2.0]], array![[3.0], [4.0]]);
    /// let mut out = Array2::zeros((2, 1));
    /// for _ in 0..10 {
    ///     sum.call_into((&x, &y), &mut out)?; // no allocation of results
    /// }
    /// assert_eq!(out, array![[7.0], [14.0]]);
    /// let mut columns = Array2::zeros((2, 3));
    /// sum.call_into((&x, &y), &mut columns.slice_mut(s![.., 1..2]))?;
    /// assert_eq!(columns, array![[0.0, 7.0, 0.0], [0.0, 14.0, 0.0]]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::call`]; [`InputError::Shape`] if the array has another shape.
    pub fn call_into<'a, A: IntoArgs<'a>>(
        &self,
        args: A,
        out: &mut impl IntoOutput<Elem = A::Elem>,
    ) -> Result<(), FormulaError> {
        let k = self.only_value()?;
        let given = args.into_args();
        let (args, sizes) = self.computation.fit(&given)?;
        let args = &*args;
        let expected = match self.computation.shape_given(k, &given) {
            Some(shape) => shape.to_vec(),
            None => self.computation.shape_of(k, args)?,
        };
        if out.shape() != expected {
            return Err(InputError::Shape {
                name: "the output".into(),
                expected: format!("shape {expected:?}"),
                got: out.shape().to_vec(),
            }
            .into());
        }
        let device = self.place.device(sizes.pairs());
        let memory = out.take().map(Element::buffer);
        let taken = memory.is_some();
        let made =
            self.computation.run_sized(&sizes, &device, args, self.ranges.as_deref(), memory);
        let made = made.map(|made| self.computation.as_given(&given, made));
        match made.and_then(|mut made| Ok(A::Elem::take(made.swap_remove(k))?)) {
            Ok(made) => out.put(made),
            Err(e) => {
                let zeros = taken.then(|| Buffer::zeros(Some(A::Elem::DTYPE), &expected)).flatten();
                if let Some(Ok(zeros)) = zeros.map(Element::take) {
                    out.put(zeros);
                }
                return Err(e);
            }
        }
        Ok(())
    }
}

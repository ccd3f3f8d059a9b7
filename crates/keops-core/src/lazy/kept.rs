//! Arrays that LazyTensors keep, and what is taken for one.

use crate::data::{ArgView, Element};
use crate::error::{InputError, OutOfMemory};
use crate::memory;
use crate::spec::Resident;
use ndarray::{
    ArrayBase, ArrayD, ArrayViewD, Axis as NdAxis, Data, Dimension, IxDyn, RemoveAxis, Slice,
};

/// An array of any element type.
pub(super) trait Stored: Send + Sync {
    fn view(&self) -> ArgView<'_>;
}
impl<T: Element> Stored for ArrayD<T> {
    fn view(&self) -> ArgView<'_> {
        T::erase(ndarray::ArrayRef::view(self))
    }
}
impl<T: Element> Stored for Kept<T> {
    fn view(&self) -> ArgView<'_> {
        match &self.base {
            Base::Host(base) => T::erase(self.broadcast(base)),
            Base::Resident(array) => array.into(),
        }
    }
}

/// An array that a LazyTensor keeps. Axes along which it repeats (of stride zero) take no memory.
/// Given wherever an array is taken ([`IntoArray`]), it is not copied again.
///
/// ```
/// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
/// # use ndarray::array;
/// # type Lazy = LazyTensor<f64, Reference>;
/// use keops_core::lazy::IntoArray;
/// use ndarray::Array1;
/// let row = Array1::from(vec![1.0, 2.0]);
/// let rows = row.broadcast((1_000_000, 2)).unwrap().into_array()?; // two numbers in memory
/// assert_eq!(Lazy::vi(rows).shape()?, [1_000_000, 1, 2]);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Kept<T> {
    base: Base<T>,
    shape: IxDyn,
}

#[derive(Clone, Debug)]
enum Base<T> {
    /// Its axes of extent 1 may repeat.
    Host(ArrayD<T>),
    /// Of element type `T`.
    Resident(Resident),
}

impl<T> Kept<T> {
    /// Shape.
    ///
    /// ```
    /// use keops_core::lazy::IntoArray;
    /// assert_eq!(ndarray::Array2::<f32>::zeros((4, 3)).into_array()?.shape(), [4, 3]);
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    pub fn shape(&self) -> &[usize] {
        self.shape.slice()
    }
    /// `convert` may change the last `whole` axes, which are copied even if they repeat.
    pub(super) fn copy<A: Clone>(
        mut view: ArrayViewD<'_, A>,
        whole: usize,
        convert: impl FnOnce(ArrayD<A>) -> Result<ArrayD<T>, OutOfMemory>,
    ) -> Result<Kept<T>, InputError> {
        let mut shape = view.raw_dim();
        let repeats = shape.ndim().saturating_sub(whole);
        for (k, &extent) in shape.slice()[..repeats].iter().enumerate() {
            if extent > 1 && view.strides()[k] == 0 {
                view.slice_axis_inplace(NdAxis(k), Slice::from(..1));
            }
        }
        let copy = match view.as_slice() {
            Some(all) => memory::collected(all.iter().cloned(), "the copy of an array")?,
            None => memory::collected(view.iter().cloned(), "the copy of an array")?,
        };
        let base = match ArrayD::from_shape_vec(view.raw_dim(), copy) {
            Ok(base) => convert(base)?,
            Err(e) => unreachable!("as many elements as the view has: {e}"),
        };
        shape.slice_mut()[repeats..].clone_from_slice(&base.shape()[repeats..]);
        Ok(Kept { base: Base::Host(base), shape })
    }
    /// An array that a device holds, of element type `T`.
    pub(crate) fn resident(array: Resident) -> Kept<T> {
        Kept { shape: IxDyn(array.shape()), base: Base::Resident(array) }
    }
    pub(super) fn insert_axis(self, at: usize) -> Kept<T> {
        let shape = self.shape.insert_axis(NdAxis(at));
        let base = match self.base {
            Base::Host(base) => Base::Host(base.insert_axis(NdAxis(at))),
            Base::Resident(array) => Base::Resident(array.reshaped(shape.slice())),
        };
        Kept { base, shape }
    }
    /// Without an axis of extent 1.
    pub(super) fn remove_axis(self, at: usize) -> Kept<T> {
        let shape = self.shape.remove_axis(NdAxis(at));
        let base = match self.base {
            Base::Host(base) => Base::Host(base.index_axis_move(NdAxis(at), 0)),
            Base::Resident(array) => Base::Resident(array.reshaped(shape.slice())),
        };
        Kept { base, shape }
    }
    fn broadcast<'s>(&self, base: &'s ArrayD<T>) -> ArrayViewD<'s, T> {
        if base.shape() == self.shape() {
            return ndarray::ArrayRef::view(base);
        }
        match base.broadcast(self.shape.clone()) {
            Some(view) => view,
            None => unreachable!("the shape is that of the base, with axes repeated"),
        }
    }
    /// The array, row-major, or the one that a device holds.
    pub(crate) fn into_owned(self) -> Result<Result<ArrayD<T>, Resident>, OutOfMemory>
    where
        T: Element,
    {
        Ok(match &self.base {
            Base::Host(base) if base.shape() != self.shape() || !base.is_standard_layout() => {
                Ok(memory::mapped(&self.broadcast(base), |v| v, "the copy of an array")?)
            }
            _ => match self.base {
                Base::Host(base) => Ok(base),
                Base::Resident(array) => Err(array),
            },
        })
    }
}

/// An array to take over or to copy: any owned array, view or reference, of any layout. Owned
/// arrays are moved; what is borrowed is copied once, so that no LazyTensor has a lifetime.
///
/// ```
/// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
/// # use ndarray::array;
/// # type Lazy = LazyTensor<f64, Reference>;
/// use ndarray::s;
/// let points = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
/// let plane = Lazy::vi(points.slice(s![.., ..2])); // a view is copied
/// let all = Lazy::vi(points); // an owned array is moved
/// assert_eq!((plane.dim()?, all.dim()?), (2, 3));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait IntoArray {
    /// Element type.
    type Elem: Element;
    /// Number of axes, where the type says it; else `IxDyn`.
    type Dim: Dimension;
    /// The array.
    ///
    /// ```
    /// use keops_core::lazy::IntoArray;
    /// let columns = ndarray::array![[1.0, 2.0], [3.0, 4.0]];
    /// assert_eq!(columns.t().into_array()?.shape(), [2, 2]);
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::OutOfMemory`] if there is no memory for a copy.
    fn into_array(self) -> Result<Kept<Self::Elem>, InputError>;
}
impl<T: Element, S: Data<Elem = T>, D: Dimension> IntoArray for ArrayBase<S, D, T> {
    type Elem = T;
    type Dim = D;
    fn into_array(self) -> Result<Kept<T>, InputError> {
        match self.try_into_owned_nocopy() {
            Ok(owned) => {
                let base = owned.into_dyn();
                Ok(Kept { shape: base.raw_dim(), base: Base::Host(base) })
            }
            Err(borrowed) => Kept::copy(borrowed.view().into_dyn(), 0, Ok),
        }
    }
}
impl<T: Element, S: Data<Elem = T>, D: Dimension> IntoArray for &ArrayBase<S, D, T> {
    type Elem = T;
    type Dim = D;
    fn into_array(self) -> Result<Kept<T>, InputError> {
        Kept::copy(self.view().into_dyn(), 0, Ok)
    }
}
impl<T: Element> IntoArray for Kept<T> {
    type Elem = T;
    type Dim = IxDyn;
    fn into_array(self) -> Result<Kept<T>, InputError> {
        Ok(self)
    }
}

//! Operators between LazyTensors and scalars, lists and arrays.

use super::LazyTensor;
use crate::data::Element;
use crate::genred::Place;
use ndarray::{ArrayBase, Data, Dimension};

/// What can stand beside a LazyTensor: a LazyTensor or a reference to one; a number; a list of
/// numbers, which is a parameter; an array, as [`LazyTensor::new`] takes it.
///
/// ```
/// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
/// # use ndarray::array;
/// # type Lazy = LazyTensor<f64, Reference>;
/// let x = Lazy::vi(array![[1.0, 2.0]]);
/// let y = Lazy::vj(array![[10.0, 20.0]]);
/// let f = (&x + &y) * [1.0, -1.0] - 2 * &x / array![0.5, 1.0]; // lists and arrays are parameters
/// assert_eq!(f.sum(Axis::J)?, array![[11.0 - 4.0, -22.0 - 4.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait LazyOperand<T, P> {
    /// As a LazyTensor.
    ///
    /// ```
    /// use keops_core::lazy::{LazyOperand, LazyTensor};
    /// let half: LazyTensor<f32> = 0.5.lazy();
    /// let list: LazyTensor<f32> = [1.0, 2.0, 3.0].lazy();
    /// assert_eq!((half.dim()?, list.dim()?), (1, 3));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    fn lazy(self) -> LazyTensor<T, P>;
}
impl<T, P> LazyOperand<T, P> for LazyTensor<T, P> {
    fn lazy(self) -> LazyTensor<T, P> {
        self
    }
}
impl<T, P: Place> LazyOperand<T, P> for &LazyTensor<T, P> {
    fn lazy(self) -> LazyTensor<T, P> {
        self.clone()
    }
}
macro_rules! scalar_operands {
    ($($s:ty)*) => {$(
        impl<T, P: Place + Default> LazyOperand<T, P> for $s {
            #[track_caller]
            fn lazy(self) -> LazyTensor<T, P> {
                LazyTensor::scalar(f64::from(self))
            }
        }
    )*};
}
scalar_operands!(f64 f32 i32);

macro_rules! list_operands {
    ($([$($generic:tt)*] $list:ty;)*) => {$(
        impl<T: Element, P: Place + Default, $($generic)*> LazyOperand<T, P> for $list {
            #[track_caller]
            fn lazy(self) -> LazyTensor<T, P> {
                LazyTensor::list(&self[..])
            }
        }
    )*};
}
list_operands! {
    [const N: usize] [f64; N];
    [const N: usize] &[f64; N];
    [] &[f64];
    [] &Vec<f64>;
    [] Vec<f64>;
}
impl<T, P, S, D> LazyOperand<T, P> for ArrayBase<S, D, T>
where
    T: Element,
    P: Place + Default,
    S: Data<Elem = T>,
    D: Dimension,
{
    #[track_caller]
    fn lazy(self) -> LazyTensor<T, P> {
        LazyTensor::new(self)
    }
}
impl<T, P, S, D> LazyOperand<T, P> for &ArrayBase<S, D, T>
where
    T: Element,
    P: Place + Default,
    S: Data<Elem = T>,
    D: Dimension,
{
    #[track_caller]
    fn lazy(self) -> LazyTensor<T, P> {
        LazyTensor::new(self)
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $name:literal;)*) => {$(
        impl<T, P: Place, R: LazyOperand<T, P>> std::ops::$trait<R> for LazyTensor<T, P> {
            type Output = LazyTensor<T, P>;
            #[track_caller]
            fn $method(self, other: R) -> LazyTensor<T, P> {
                self.call($name, &[&other.lazy()], &[])
            }
        }
        impl<T, P: Place, R: LazyOperand<T, P>> std::ops::$trait<R> for &LazyTensor<T, P> {
            type Output = LazyTensor<T, P>;
            #[track_caller]
            fn $method(self, other: R) -> LazyTensor<T, P> {
                self.call($name, &[&other.lazy()], &[])
            }
        }
        // On the left f64 and i32 only, so that literals have one type.
        operators!(left [] f64, $trait $method $name);
        operators!(left [] i32, $trait $method $name);
        operators!(left [T: Element, const N: usize] [f64; N], $trait $method $name);
        operators!(left [T: Element] Vec<f64>, $trait $method $name);
    )*};
    (left [] $left:ty, $trait:ident $method:ident $name:literal) => {
        operators!(left [T] $left, $trait $method $name);
    };
    (left [$($generic:tt)+] $left:ty, $trait:ident $method:ident $name:literal) => {
        operators!(one [$($generic)+] $left, LazyTensor<T, P>, $trait $method $name);
        operators!(one [$($generic)+] $left, &LazyTensor<T, P>, $trait $method $name);
    };
    (one [T $(: $bound:ident)? $(, const $n:ident: usize)?] $left:ty, $right:ty, $trait:ident $method:ident $name:literal) => {
        impl<T $(: $bound)?, P: Place + Default $(, const $n: usize)?> std::ops::$trait<$right> for $left {
            type Output = LazyTensor<T, P>;
            #[track_caller]
            fn $method(self, other: $right) -> LazyTensor<T, P> {
                LazyOperand::<T, P>::lazy(self).call($name, &[&other], &[])
            }
        }
    };
}
operators! {
    Add add "Add";
    Sub sub "Subtract";
    Mul mul "Mult";
    Div div "Divide";
    BitOr bitor "Scalprod";
}

impl<T, P: Place> std::ops::Neg for LazyTensor<T, P> {
    type Output = LazyTensor<T, P>;
    #[track_caller]
    fn neg(self) -> LazyTensor<T, P> {
        self.call("Minus", &[], &[])
    }
}
impl<T, P: Place> std::ops::Neg for &LazyTensor<T, P> {
    type Output = LazyTensor<T, P>;
    #[track_caller]
    fn neg(self) -> LazyTensor<T, P> {
        self.call("Minus", &[], &[])
    }
}

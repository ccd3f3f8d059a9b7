//! Operators between LazyTensors and scalars, lists and arrays.

use super::LazyTensor;
use crate::data::Element;
use crate::genred::Place;
use half::{bf16, f16};
use ndarray::{ArrayBase, Data, Dimension};

/// What can stand beside a LazyTensor: a LazyTensor or a reference to one; a number; a list of
/// numbers, which is a parameter; an array, as [`LazyTensor::new`] takes it.
///
/// On the left of an operator numbers are `f64` and `i32` only, so that literals have one type:
/// `f64::from(s) * x`, or `x * s`, for a single `s`.
///
/// ```
/// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
/// use ndarray::array;
/// let x = LazyTensor::<f64, Reference>::vi(array![[1.0, 2.0]]);
/// let scale = array![10.0, 100.0]; // one axis: a parameter
/// let mut y = 2 * &x - 0.5f32; // (1.5, 3.5)
/// y += [0.5, 0.5];
/// assert_eq!((&scale * y).sum(Axis::J)?, array![[20.0, 400.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait LazyOperand<T, P>: RealOperand {
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
/// Marks a [`LazyOperand`], which is real. (As it has no type parameters, nobody else can give it to a
/// [`ComplexLazyTensor`](super::ComplexLazyTensor), so that the compiler knows what the result of an
/// operator is.)
///
/// ```
/// # use keops_core::{genred::Reference, lazy::{LazyOperand, LazyTensor, RealOperand}, spec::Axis};
/// /// An angle, in radians as an operand.
/// struct Degrees(f64);
/// impl RealOperand for Degrees {}
/// impl LazyOperand<f64, Reference> for Degrees {
///     fn lazy(self) -> LazyTensor<f64, Reference> {
///         self.0.to_radians().lazy()
///     }
/// }
/// let x = LazyTensor::<f64, Reference>::vi(ndarray::array![2.0]);
/// assert_eq!((x * Degrees(90.0)).sum(Axis::J)?[[0, 0]], std::f64::consts::PI);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait RealOperand {}

impl<T, P> RealOperand for LazyTensor<T, P> {}
impl<T, P> LazyOperand<T, P> for LazyTensor<T, P> {
    fn lazy(self) -> LazyTensor<T, P> {
        self
    }
}
impl<T, P> RealOperand for &LazyTensor<T, P> {}
impl<T, P: Place> LazyOperand<T, P> for &LazyTensor<T, P> {
    fn lazy(self) -> LazyTensor<T, P> {
        self.clone()
    }
}
macro_rules! scalar_operands {
    ($($s:ty)*) => {$(
        impl RealOperand for $s {}
        impl<T, P: Place + Default> LazyOperand<T, P> for $s {
            #[track_caller]
            fn lazy(self) -> LazyTensor<T, P> {
                LazyTensor::scalar(f64::from(self))
            }
        }
    )*};
}
scalar_operands!(f64 f32 i32 f16 bf16);

macro_rules! list_operands {
    ($([$($generic:tt)*] $list:ty;)*) => {$(
        impl<$($generic)*> RealOperand for $list {}
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
macro_rules! array_operands {
    ($($array:ty)*) => {$(
        impl<T: Element, S: Data<Elem = T>, D: Dimension> RealOperand for $array {}
        impl<T: Element, P: Place + Default, S: Data<Elem = T>, D: Dimension> LazyOperand<T, P>
            for $array
        {
            #[track_caller]
            fn lazy(self) -> LazyTensor<T, P> {
                LazyTensor::new(self)
            }
        }
    )*};
}
array_operands!(ArrayBase<S, D, T> &ArrayBase<S, D, T>);

/// One operator between two types. (Closures would lose the place of the caller.)
macro_rules! operator {
    ($trait:ident $method:ident [$($generic:tt)*] $left:ty, $right:ty => $out:ty: |$a:ident, $b:ident| $value:expr) => {
        impl<$($generic)*> std::ops::$trait<$right> for $left {
            type Output = $out;
            #[track_caller]
            fn $method(self, $b: $right) -> $out {
                let $a = self;
                $value
            }
        }
    };
}
pub(super) use operator;

macro_rules! operators {
    ($($op:ident $method:ident $name:literal;)*) => {$(
        operators!(right LazyTensor<T, P>, $op $method $name);
        operators!(right &LazyTensor<T, P>, $op $method $name);
        operators!(left [T] f64, $op $method $name);
        operators!(left [T] i32, $op $method $name);
        operators!(left [T: Element, const N: usize] [f64; N], $op $method $name);
        operators!(left [T: Element] Vec<f64>, $op $method $name);
        operators!(
            left [T: Element, S: Data<Elem = T>, D: Dimension] ArrayBase<S, D, T>, $op $method $name
        );
        operators!(
            left [T: Element, S: Data<Elem = T>, D: Dimension] &ArrayBase<S, D, T>, $op $method $name
        );
    )*};
    (right $left:ty, $op:ident $method:ident $name:literal) => {
        operator!(
            $op $method [T, P: Place, R: LazyOperand<T, P> + RealOperand] $left, R
                => LazyTensor<T, P>: |a, b| a.call($name, &[&b.lazy()], &[])
        );
    };
    (left [$($generic:tt)*] $left:ty, $op:ident $method:ident $name:literal) => {
        operator!(
            $op $method [P: Place + Default, $($generic)*] $left, LazyTensor<T, P>
                => LazyTensor<T, P>: |a, b| LazyOperand::<T, P>::lazy(a).call($name, &[&b], &[])
        );
        operator!(
            $op $method [P: Place + Default, $($generic)*] $left, &LazyTensor<T, P>
                => LazyTensor<T, P>: |a, b| LazyOperand::<T, P>::lazy(a).call($name, &[b], &[])
        );
    };
}
operators! {
    Add add "Add";
    Sub sub "Subtract";
    Mul mul "Mult";
    Div div "Divide";
    BitOr bitor "Scalprod";
}

/// Operators that replace what is on the left, and the sign.
macro_rules! in_place {
    ($tensor:ident, $operand:ident, |$a:ident| $minus:expr) => {
        in_place!($tensor, $operand, AddAssign add_assign Add add);
        in_place!($tensor, $operand, SubAssign sub_assign Sub sub);
        in_place!($tensor, $operand, MulAssign mul_assign Mul mul);
        in_place!($tensor, $operand, DivAssign div_assign Div div);
        in_place!($tensor<T, P>, |$a| $minus);
        in_place!(&$tensor<T, P>, |$a| $minus);
    };
    ($tensor:ident, $operand:ident, $assign:ident $method:ident $op:ident $plain:ident) => {
        impl<T, P: Place, R: $operand<T, P>> std::ops::$assign<R> for $tensor<T, P> {
            #[track_caller]
            fn $method(&mut self, other: R) {
                *self = std::ops::$op::$plain(&*self, other);
            }
        }
    };
    ($left:ty, |$a:ident| $minus:expr) => {
        impl<T, P: Place> std::ops::Neg for $left {
            type Output = <Self as std::ops::Add<LazyTensor<T, P>>>::Output;
            #[track_caller]
            fn neg(self) -> Self::Output {
                let $a = self;
                $minus
            }
        }
    };
}
pub(super) use in_place;
in_place!(LazyTensor, LazyOperand, |a| a.call("Minus", &[], &[]));

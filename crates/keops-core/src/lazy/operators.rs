//! Operators between LazyTensors and scalars.

use super::LazyTensor;
use crate::genred::Place;

/// What can stand beside a LazyTensor: a LazyTensor, a reference to one, or a scalar.
pub trait LazyOperand<T, P> {
    /// As a LazyTensor.
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

macro_rules! operators {
    ($($trait:ident $method:ident $name:literal;)*) => {$(
        impl<T, P: Place, R: LazyOperand<T, P>> std::ops::$trait<R> for LazyTensor<T, P> {
            type Output = LazyTensor<T, P>;
            #[track_caller]
            fn $method(self, other: R) -> LazyTensor<T, P> {
                LazyTensor::call($name, &[&self, &other.lazy()], &[])
            }
        }
        impl<T, P: Place, R: LazyOperand<T, P>> std::ops::$trait<R> for &LazyTensor<T, P> {
            type Output = LazyTensor<T, P>;
            #[track_caller]
            fn $method(self, other: R) -> LazyTensor<T, P> {
                LazyTensor::call($name, &[self, &other.lazy()], &[])
            }
        }
        operators!(scalar f64 $trait $method $name);
        operators!(scalar f32 $trait $method $name);
        operators!(scalar i32 $trait $method $name);
    )*};
    (scalar $s:ident $trait:ident $method:ident $name:literal) => {
        impl<T, P: Place + Default> std::ops::$trait<LazyTensor<T, P>> for $s {
            type Output = LazyTensor<T, P>;
            #[track_caller]
            fn $method(self, other: LazyTensor<T, P>) -> LazyTensor<T, P> {
                LazyTensor::call($name, &[&self.lazy(), &other], &[])
            }
        }
        impl<T, P: Place + Default> std::ops::$trait<&LazyTensor<T, P>> for $s {
            type Output = LazyTensor<T, P>;
            #[track_caller]
            fn $method(self, other: &LazyTensor<T, P>) -> LazyTensor<T, P> {
                LazyTensor::call($name, &[&self.lazy(), other], &[])
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
        LazyTensor::call("Minus", &[&self], &[])
    }
}
impl<T, P: Place> std::ops::Neg for &LazyTensor<T, P> {
    type Output = LazyTensor<T, P>;
    #[track_caller]
    fn neg(self) -> LazyTensor<T, P> {
        LazyTensor::call("Minus", &[self], &[])
    }
}

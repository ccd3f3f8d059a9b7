//! Vectors for argmin: argmin-math's own implementations stop at ndarray 0.16.

use argmin_math::{
    ArgminAdd, ArgminDot, ArgminL1Norm, ArgminL2Norm, ArgminMinMax, ArgminMul, ArgminSignum,
    ArgminSub, ArgminZeroLike,
};
use ndarray::{Array1, Zip};
use serde::{Deserialize, Serialize};

/// A point, gradient or direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Param(#[serde(with = "super::vector")] pub Array1<f64>);

impl ArgminDot<Param, f64> for Param {
    fn dot(&self, o: &Param) -> f64 {
        self.0.dot(&o.0)
    }
}
impl ArgminAdd<Param, Param> for Param {
    fn add(&self, o: &Param) -> Param {
        Param(&self.0 + &o.0)
    }
}
impl ArgminAdd<f64, Param> for Param {
    fn add(&self, o: &f64) -> Param {
        Param(&self.0 + *o)
    }
}
impl ArgminSub<Param, Param> for Param {
    fn sub(&self, o: &Param) -> Param {
        Param(&self.0 - &o.0)
    }
}
impl ArgminSub<f64, Param> for Param {
    fn sub(&self, o: &f64) -> Param {
        Param(&self.0 - *o)
    }
}
impl ArgminMul<f64, Param> for Param {
    fn mul(&self, o: &f64) -> Param {
        Param(&self.0 * *o)
    }
}
impl ArgminMul<Param, Param> for Param {
    fn mul(&self, o: &Param) -> Param {
        Param(&self.0 * &o.0)
    }
}
impl ArgminL1Norm<f64> for Param {
    fn l1_norm(&self) -> f64 {
        self.0.fold(0.0, |s, x| s + x.abs())
    }
}
impl ArgminL2Norm<f64> for Param {
    fn l2_norm(&self) -> f64 {
        self.0.dot(&self.0).sqrt()
    }
}
impl ArgminSignum for Param {
    fn signum(self) -> Param {
        Param(self.0.mapv_into(f64::signum))
    }
}
impl ArgminZeroLike for Param {
    fn zero_like(&self) -> Param {
        Param(Array1::zeros(self.0.raw_dim()))
    }
}
impl ArgminMinMax for Param {
    fn min(x: &Param, y: &Param) -> Param {
        Param(Zip::from(&x.0).and(&y.0).map_collect(|a, b| a.min(*b)))
    }
    fn max(x: &Param, y: &Param) -> Param {
        Param(Zip::from(&x.0).and(&y.0).map_collect(|a, b| a.max(*b)))
    }
}

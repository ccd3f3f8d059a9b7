//! Methods of LazyTensors: operations by name, and reductions.

use super::{IntoArray, LazyOperand, LazyTensor};
use crate::composite::Literal;
use crate::data::{Buffer, Element};
use crate::error::Error;
use crate::genred::{Place, Reduce};
use crate::reduce::{self, ReductionDef};
use crate::spec::Axis;
use ndarray::{ArrayD, Axis as NdAxis};
use std::panic::Location;

/// Methods of operations: `name(this, operands; literals) = "Operation"(order of operands)`.
macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident($this:ident $(, $x:ident)*; $($l:ident),*) = $name:literal($($arg:ident),+);)*) => {
        /// Operations. Each carries an error where dimensions do not fit.
        impl<T, P: Place> LazyTensor<T, P> {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $method(&self $(, $x: impl LazyOperand<T, P>)* $(, $l: usize)*) -> LazyTensor<T, P> {
                let $this = self;
                $(let $x = &$x.lazy();)*
                LazyTensor::call($name, &[$($arg),+], &[$(Literal::from($l)),*])
            }
        )*}
    };
}

methods! {
    /// `|a|`
    abs(this;) = "Abs"(this);
    /// Exponential.
    exp(this;) = "Exp"(this);
    /// Natural logarithm.
    log(this;) = "Log"(this);
    /// `a log a`, 0 at 0.
    xlogx(this;) = "XLogX"(this);
    /// Sine.
    sin(this;) = "Sin"(this);
    /// Cosine.
    cos(this;) = "Cos"(this);
    /// `sin(a) / a`, 1 at 0.
    sinxdivx(this;) = "SinXDivX"(this);
    /// Arcsine.
    asin(this;) = "Asin"(this);
    /// Arccosine.
    acos(this;) = "Acos"(this);
    /// Arctangent.
    atan(this;) = "Atan"(this);
    /// Square root.
    sqrt(this;) = "Sqrt"(this);
    /// `1 / sqrt(a)`, 0 at 0.
    rsqrt(this;) = "Rsqrt"(this);
    /// Square.
    square(this;) = "Square"(this);
    /// `1 / a`
    inv(this;) = "Inv"(this);
    /// -1, 0 or 1.
    sign(this;) = "Sign"(this);
    /// 0 below 0, else 1.
    step(this;) = "Step"(this);
    /// `max(a, 0)`
    relu(this;) = "ReLU"(this);
    /// Largest integer not above.
    floor(this;) = "Floor"(this);
    /// Squared Euclidean norm.
    sqnorm2(this;) = "SqNorm2"(this);
    /// Euclidean norm.
    norm2(this;) = "Norm2"(this);
    /// `a / |a|`, 0 at 0.
    normalize(this;) = "Normalize"(this);
    /// Sum of the components of each entry.
    sum_components(this;) = "Sum"(this);
    /// Smallest component of each entry.
    min_components(this;) = "Min"(this);
    /// Largest component of each entry.
    max_components(this;) = "Max"(this);
    /// Position of the smallest component of each entry, as a real.
    argmin_components(this;) = "ArgMin"(this);
    /// Position of the largest component of each entry, as a real.
    argmax_components(this;) = "ArgMax"(this);

    /// Angle of the point (x, self).
    atan2(this, x;) = "Atan2"(this, x);
    /// Real power; see [`LazyTensor::pow`] for integers.
    powf(this, exponent;) = "Powf"(this, exponent);
    /// 1 where equal, else 0.
    equal(this, other;) = "Equal"(this, other);
    /// 1 where not equal, else 0.
    not_equal(this, other;) = "NotEqual"(this, other);
    /// 1 where `self < other`, else 0.
    less_than(this, other;) = "LessThan"(this, other);
    /// 1 where `self <= other`, else 0.
    less_or_equal(this, other;) = "LessOrEqual"(this, other);
    /// 1 where `self > other`, else 0.
    greater_than(this, other;) = "LessThan"(other, this);
    /// 1 where `self >= other`, else 0.
    greater_or_equal(this, other;) = "LessOrEqual"(other, this);
    /// Squared Euclidean distance.
    sqdist(this, other;) = "SqDist"(this, other);
    /// Scalar product, also written `a | b`.
    scalprod(this, other;) = "Scalprod"(this, other);
    /// Squared norm with weights: a scalar, one for each component, or a symmetric matrix.
    weightedsqnorm(this, weights;) = "WeightedSqNorm"(weights, this);
    /// Squared distance with weights as in [`LazyTensor::weightedsqnorm`].
    weightedsqdist(this, other, weights;) = "WeightedSqDist"(weights, this, other);
    /// Matrix (row-major) times vector.
    matvecmult(this, vector;) = "MatVecMult"(this, vector);
    /// Vector times matrix (row-major).
    vecmatmult(this, matrix;) = "VecMatMult"(this, matrix);
    /// Outer product, row-major.
    tensorprod(this, other;) = "TensorProd"(this, other);
    /// The components of `other` after those of `self`.
    concat(this, other;) = "Concat"(this, other);
    /// Entries `index` (rounded) of the parameter vector `self`; NaN out of range.
    gather(this, index;) = "Gather"(this, index);
    /// Kept within `[low, high]`.
    clamp(this, low, high;) = "Clamp"(this, low, high);
    /// `yes` where `self >= 0`, else `no`.
    ifelse(this, yes, no;) = "IfElse"(this, yes, no);
    /// `self - n floor((self - offset) / n)`
    modulo(this, n, offset;) = "Mod"(this, n, offset);
    /// Soft dynamic time warping of two scalar series, with smoothing gamma.
    softdtw_sqdist(this, other, gamma;) = "SoftDTW_SqDist"(this, other, gamma);

    /// Component `index`, counted from 0.
    elem(this; index) = "Elem"(this);
    /// `len` components from `start`.
    extract(this; start, len) = "Extract"(this);
    /// A scalar repeated `dim` times.
    sumt(this; dim) = "SumT"(this);
    /// 1 at the position that is the value, rounded; zeros where that is out of range.
    one_hot(this; dim) = "OneHot"(this);

    /// Transposed Jacobian with respect to a variable, times `e`.
    grad(this, variable, e;) = "Grad"(this, variable, e);
    /// Jacobian with respect to a variable, times `u`.
    diff(this, variable, u;) = "Diff"(this, variable, u);
    /// Jacobian with respect to a variable, row-major.
    grad_matrix(this, variable;) = "GradMatrix"(this, variable);
    /// Trace of the Jacobian with respect to a variable.
    divergence(this, variable;) = "Divergence"(this, variable);
    /// Sum of the second derivatives with respect to a variable.
    laplacian(this, variable;) = "Laplacian"(this, variable);
}

impl<T, P: Place> LazyTensor<T, P> {
    /// Integer power, by repeated multiplication.
    #[track_caller]
    pub fn pow(&self, exponent: i32) -> LazyTensor<T, P> {
        LazyTensor::call("Pow", &[self], &[Literal::Int(exponent.into())])
    }
}

/// Reductions, over the index of `axis`. Results have shape `(batch…, rows, dim)`; errors are those
/// of [`LazyTensor::reduce`].
impl<T: Element, P: Place + Default> LazyTensor<T, P> {
    fn values(
        &self,
        w: Option<&Self>,
        r: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<ArrayD<T>, Error> {
        match self.evaluate(w, r.into(), axis)?.swap_remove(0) {
            Buffer::I64(_) => unreachable!("the first result is values"),
            b => Ok(T::take(b)),
        }
    }
    fn indices(&self, r: impl Into<Reduce>, axis: Axis) -> Result<ArrayD<i64>, Error> {
        match self.evaluate(None, r.into(), axis)?.pop() {
            Some(Buffer::I64(a)) => Ok(a),
            _ => unreachable!("the last result is indices"),
        }
    }
    fn both(&self, r: impl Into<Reduce>, axis: Axis) -> Result<(ArrayD<T>, ArrayD<i64>), Error> {
        let mut made = self.evaluate(None, r.into(), axis)?;
        match (made.pop(), made.pop()) {
            (Some(Buffer::I64(i)), Some(v)) => Ok((T::take(v), i)),
            _ => unreachable!("the results are values and indices"),
        }
    }
    /// Sum.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn sum(&self, axis: Axis) -> Result<ArrayD<T>, Error> {
        self.values(None, &reduce::SUM, axis)
    }
    /// The matrix product `Σ_j k_ij b_j`: `b` has shape `(batch…, N, dim)`, or `(N)` for a result
    /// of shape `(M)`. Entries of dimension 1 multiply all components of `b`.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    #[track_caller]
    pub fn matmul(&self, b: impl IntoArray<Elem = T>) -> Result<ArrayD<T>, Error> {
        let b = b.into_array();
        let vector = b.ndim() == 1;
        let b = LazyTensor::array(b, crate::graph::Category::J, Location::caller());
        let out = LazyTensor::call("Mult", &[self, &b], &[]).sum(Axis::J)?;
        let last = NdAxis(out.ndim() - 1);
        Ok(if vector && out.len_of(last) == 1 { out.remove_axis(last) } else { out })
    }
    /// `log Σ exp`; -inf over nothing.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn logsumexp(&self, axis: Axis) -> Result<ArrayD<T>, Error> {
        self.values(None, &reduce::LOG_SUM_EXP, axis)
    }
    /// `log Σ w exp`
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn logsumexp_weighted(
        &self,
        weight: impl LazyOperand<T, P>,
        axis: Axis,
    ) -> Result<ArrayD<T>, Error> {
        self.values(Some(&weight.lazy()), &reduce::LOG_SUM_EXP, axis)
    }
    /// `Σ w exp / Σ exp`: the mean of `weight` under the softmax; 0 over nothing.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn sumsoftmaxweight(
        &self,
        weight: impl LazyOperand<T, P>,
        axis: Axis,
    ) -> Result<ArrayD<T>, Error> {
        self.values(Some(&weight.lazy()), &reduce::SUM_SOFT_MAX_WEIGHT, axis)
    }
    /// Smallest value; +inf over nothing.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn min(&self, axis: Axis) -> Result<ArrayD<T>, Error> {
        self.values(None, &reduce::MIN, axis)
    }
    /// Largest value; -inf over nothing.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn max(&self, axis: Axis) -> Result<ArrayD<T>, Error> {
        self.values(None, &reduce::MAX, axis)
    }
    /// Index of the smallest value, the first of equals; -1 over nothing.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn argmin(&self, axis: Axis) -> Result<ArrayD<i64>, Error> {
        self.indices(&reduce::ARG_MIN, axis)
    }
    /// Index of the largest value, the first of equals; -1 over nothing.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn argmax(&self, axis: Axis) -> Result<ArrayD<i64>, Error> {
        self.indices(&reduce::ARG_MAX, axis)
    }
    /// Smallest value and its index.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn min_argmin(&self, axis: Axis) -> Result<(ArrayD<T>, ArrayD<i64>), Error> {
        self.both(&reduce::MIN_ARG_MIN, axis)
    }
    /// Largest value and its index.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn max_argmax(&self, axis: Axis) -> Result<(ArrayD<T>, ArrayD<i64>), Error> {
        self.both(&reduce::MAX_ARG_MAX, axis)
    }
    /// The `k` smallest values in order, shape `(batch…, rows, k)`, or `(batch…, rows, k, dim)`
    /// for entries of more than one component; +inf where there are fewer.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn kmin(&self, k: usize, axis: Axis) -> Result<ArrayD<T>, Error> {
        self.values(None, many(&reduce::K_MIN, k), axis)
    }
    /// Indices of the `k` smallest values in order, shaped as [`LazyTensor::kmin`]; -1 where there
    /// are fewer.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn argkmin(&self, k: usize, axis: Axis) -> Result<ArrayD<i64>, Error> {
        self.indices(many(&reduce::ARG_K_MIN, k), axis)
    }
    /// The `k` smallest values and their indices.
    ///
    /// # Errors
    /// As [`LazyTensor::reduce`].
    pub fn kmin_argkmin(&self, k: usize, axis: Axis) -> Result<(ArrayD<T>, ArrayD<i64>), Error> {
        self.both(many(&reduce::K_MIN_ARG_K_MIN, k), axis)
    }
}

fn many(def: &'static ReductionDef, k: usize) -> Reduce {
    Reduce { def, k }
}

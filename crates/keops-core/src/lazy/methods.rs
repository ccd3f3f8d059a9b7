//! Methods of operations: each is a call of the table by name.

use super::{LazyOperand, LazyTensor, located};
use crate::composite::Literal;
use crate::error::{DimError, InputError};
use crate::genred::Place;
use crate::graph::{Ex, Node};
use crate::parse;
use ndarray::Slice;
use std::panic::Location;

/// Methods of operations: `name(this, operands; literals) = "Operation"(order of operands)`.
macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident($this:ident $(, $x:ident)*; $($l:ident: $t:ty),*)
        = $name:literal($first:ident $(, $arg:ident)*);)*) => {
        /// Operations. Each carries an error where dimensions do not fit.
        ///
        /// ```
        /// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
        /// use ndarray::array;
        /// let x = LazyTensor::<f64, Reference>::vi(array![[3.0, -4.0]]);
        /// let value = |f: &LazyTensor<f64, Reference>| f.sum(Axis::J);
        /// assert_eq!(value(&x.abs())?, array![[3.0, 4.0]].into_dyn());
        /// assert_eq!(value(&x.norm2())?, array![[5.0]].into_dyn());
        /// assert_eq!(value(&x.clamp(-1, 1))?, array![[1.0, -1.0]].into_dyn());
        /// assert_eq!(value(&x.less_than([4.0, -5.0]))?, array![[1.0, 0.0]].into_dyn());
        /// assert_eq!(value(&x.tensorprod(&x))?, array![[9.0, -12.0, -12.0, 16.0]].into_dyn());
        /// assert_eq!(value(&x.sqnorm2().grad(&x, 1))?, array![[6.0, -8.0]].into_dyn());
        /// # Ok::<(), keops_core::error::Error>(())
        /// ```
        impl<T, P: Place> LazyTensor<T, P> {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $method(&self $(, $x: impl LazyOperand<T, P>)* $(, $l: $t)*) -> LazyTensor<T, P> {
                let $this = self;
                $(let $x = &$x.lazy();)*
                $first.call($name, &[$($arg),*], &[$(Literal::from($l)),*])
            }
        )*}
        /// Methods and the operations that they call.
        #[cfg(test)]
        pub(super) const METHODS: &[(&str, &str)] = &[$((stringify!($method), $name)),*];
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
    /// `sin(π a) / (π a)`, 1 at 0.
    sinc(this;) = "Sinc"(this);
    /// Rounded to so many decimal places (before the point, if negative), halves away from 0.
    round(this; digits: i32) = "Round"(this);
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
    /// All differences of a component of `self` and one of `other`, row-major.
    difference_matrix(this, other;) = "DifferenceMatrix"(this, other);
    /// Product of two arrays of components, summed over pairs of axes, as NumPy's `tensordot`: the
    /// shapes of both, and the axes of both that are summed. The result has the other axes, those
    /// of `self` first.
    tensordot(this, other; shape: &[usize], other_shape: &[usize], axes: &[usize], other_axes: &[usize])
        = "TensorDot"(this, other);
    /// Kronecker product of two arrays of components, of these shapes.
    kron(this, other; shape: &[usize], other_shape: &[usize]) = "Kron"(this, other);
    /// Determinant of a small square matrix, row-major.
    matdet(this;) = "MatDet"(this);
    /// Inverse of a small square matrix, row-major.
    matinv(this;) = "MatInv"(this);
    /// `A⁻¹ b` for a small square matrix `self`, row-major.
    matsolve(this, b;) = "MatSolve"(this, b);
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

    /// The B-splines of order `k` at the scalar `self`, for ascending knots: as many as there are
    /// knots, less `k + 1`.
    bspline(this, knots; k: usize) = "BSpline"(knots, this);
    /// `self`: equal parts of a formula are computed once anyway.
    factorize(this, part;) = "Factorize"(this, part);
    /// `self`: equal parts of a formula are computed once anyway.
    auto_factorize(this;) = "AutoFactorize"(this);

    /// Component `index`, counted from 0.
    elem(this; index: usize) = "Elem"(this);
    /// `len` components from `start`.
    extract(this; start: usize, len: usize) = "Extract"(this);
    /// A scalar repeated `dim` times.
    sumt(this; dim: usize) = "SumT"(this);
    /// 1 at the position that is the value, rounded; zeros where that is out of range.
    one_hot(this; dim: usize) = "OneHot"(this);

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
    /// Trace of the linear map that `self` is of a variable.
    trace_operator(this, variable;) = "TraceOperator"(this, variable);
    /// Adjoint, at `u`, of the linear map that `self` is of a variable.
    adjoint_operator(this, variable, u;) = "AdjointOperator"(this, variable, u);
}

/// Largest number of components that are taken in reverse order.
const REVERSED: usize = 1 << 12;

/// Components of a range, as [`ndarray::s`] takes them.
fn slice<'b>(x: Ex<'b>, range: Slice) -> Result<Ex<'b>, DimError> {
    let d = x.dim();
    let from_end = |k: isize| if k < 0 { k.checked_add_unsigned(d) } else { Some(k) };
    let within = |k: Option<isize>| k.and_then(|k| usize::try_from(k).ok()).filter(|k| *k <= d);
    let (start, end) =
        (within(from_end(range.start)), range.end.map_or(Some(d), |e| within(from_end(e))));
    let step = range.step.unsigned_abs();
    match (start, end) {
        (Some(a), Some(b)) if a < b && range.step > 0 => {
            Ok(x.pick(a, step, (b - a).div_ceil(step)))
        }
        (Some(a), Some(b)) if a < b && range.step < 0 && (b - a).div_ceil(step) <= REVERSED => {
            let parts: Vec<_> = (a..b).rev().step_by(step).map(|k| x.pick(k, 1, 1)).collect();
            Ok(Ex::concat(&parts))
        }
        _ => {
            let expected = format!("a range of at least one of the {d} components, with a step");
            Err(DimError::new("components", expected, format!("{range:?}")))
        }
    }
}

impl<T, P: Place> LazyTensor<T, P> {
    /// Integer power, by repeated multiplication.
    #[track_caller]
    pub fn pow(&self, exponent: i32) -> LazyTensor<T, P> {
        self.call("Pow", &[], &[Literal::from(exponent)])
    }
    /// KeOps' `**`: repeated multiplication for a whole number, `Sqrt` and `Rsqrt` for ±0.5, else
    /// [`LazyTensor::powf`].
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor};
    /// let x = LazyTensor::<f64, Reference>::vi(ndarray::array![2.0]);
    /// assert_eq!(format!("{}", x.power(3).formula()?), "v0 * (v0 * v0)");
    /// assert_eq!(format!("{}", x.power(-0.5).formula()?), "Rsqrt(v0)");
    /// assert_eq!(format!("{}", x.power(0.3).formula()?), "Powf(v0, v1)");
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn power(&self, exponent: impl LazyOperand<T, P>) -> LazyTensor<T, P> {
        let exponent = exponent.lazy();
        let expanded = exponent.number().filter(|v| v.fract() == 0.0 || v.abs() == 0.5);
        let Some(v) = expanded else { return self.call("Powf", &[&exponent], &[]) };
        Self::combine(Location::caller(), &[self], |b, x| match parse::power(x[0], b.lit(v)) {
            Some(power) => Ok(power),
            // A whole number that is too large to be expanded.
            None => super::operation("Powf", &[x[0], b.lit(v)], &[]),
        })
    }
    /// The number that it stands for, if it is one.
    fn number(&self) -> Option<f64> {
        let e = self.state.as_ref().ok()?;
        match (e.graph.node(e.root), &e.sources[..]) {
            (Node::Const(bits), _) => Some(f64::from_bits(*bits)),
            (Node::Var(_), [source]) => match source.value {
                super::Bound::Scalar(v) => Some(v),
                _ => None,
            },
            _ => None,
        }
    }
    /// The components of a range, counted from the end if negative, with the conventions of
    /// [`ndarray::s`]: `x.components(1..3)`, `x.components(-1..)`. With a step,
    /// `Slice::new(0, None, 2)`; a negative one reverses. See [`LazyTensor::elem`] for one.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// use ndarray::{Slice, array};
    /// let x = LazyTensor::<f64, Reference>::vi(array![[1.0, 2.0, 3.0, 4.0]]);
    /// assert_eq!(x.components(-2..).sum(Axis::J)?, array![[3.0, 4.0]].into_dyn());
    /// let backwards = x.components(Slice::new(1, None, -2));
    /// assert_eq!(backwards.sum(Axis::J)?, array![[4.0, 2.0]].into_dyn());
    /// assert!(x.components(3..3).check().is_err());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn components(&self, range: impl Into<Slice>) -> LazyTensor<T, P> {
        let range = range.into();
        Self::combine(Location::caller(), &[self], |_, x| Ok(slice(x[0], range)?))
    }
}

impl<T, P: Place + Default> LazyTensor<T, P> {
    /// The components of all parts, one after the other (KeOps' `concatenate` and `cat`). An empty
    /// list is an error that is carried.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor};
    /// let x = LazyTensor::<f64, Reference>::vi(ndarray::array![[1.0, 2.0]]);
    /// assert_eq!(LazyTensor::concatenate(&[&x, &x.square(), &x.sqnorm2()]).dim()?, 5);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn concatenate(parts: &[&LazyTensor<T, P>]) -> LazyTensor<T, P> {
        match parts {
            [first, others @ ..] => first.call("Concat", others, &[]),
            [] => {
                let e = InputError::Option("Concat: expected at least one part, got none".into());
                LazyTensor::from_state(Err(located(Location::caller(), e)))
            }
        }
    }
}

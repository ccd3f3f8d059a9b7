//! Methods of operations: each is a call of the table by name.

use super::term::{Bound, Rule, Source, Term};
use super::{LazyOperand, LazyTensor};
use crate::composite::Literal;
use crate::error::InputError;
use crate::genred::Place;
use crate::graph::Node;
use ndarray::Slice;
use std::panic::Location as Caller;

/// Methods of operations, each with an example: `name(this, operands; literals) =
/// "Operation"(order of operands) where x = [components], value => [components]`.
macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident($this:ident $(, $x:ident)*; $($l:ident: $t:ty),*)
        = $name:literal($first:ident $(, $arg:ident)*)
        where x = $given:expr, $value:expr => $components:expr;)*) => {
        /// Operations on the entries of a LazyTensor, each of `dim` components. Element-wise ones
        /// take operands of one dimension, or of dimension 1, which is repeated, and keep the
        /// dimension; others say what they give. Where dimensions do not fit, the result carries an
        /// error ([`LazyTensor::check`]).
        ///
        /// ```
        /// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
        /// use ndarray::array;
        /// let x = LazyTensor::<f64, Reference>::vi(array![[3.0, -4.0], [0.0, 2.0]]); // (2, 1, 2)
        /// let y = LazyTensor::vj(array![[0.0, 0.0]]); // (1, 1, 2)
        /// let f = x.sqdist(&y).sqrt() + x.abs().max_components();
        /// assert_eq!(f.shape()?, [2, 1, 1]);
        /// assert_eq!(f.sum(Axis::J)?, array![[9.0], [4.0]].into_dyn());
        /// assert!(x.scalprod([1.0, 2.0, 3.0]).check().is_err());
        /// # Ok::<(), keops_core::error::Error>(())
        /// ```
        impl<T, P: Place> LazyTensor<T, P> {$(
            $(#[$doc])*
            ///
            /// ```
            /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
            /// # use {ndarray::array, std::f64::consts::PI};
            /// # type Lazy = LazyTensor<f64, Reference>;
            #[doc = concat!("let x = Lazy::vi(array![", stringify!($given), "]);")]
            #[doc = concat!("let value = ", stringify!($value), ";")]
            #[doc = concat!("assert_eq!(value.sum(Axis::J)?, array![", stringify!($components), "].into_dyn());")]
            /// # Ok::<(), keops_core::error::Error>(())
            /// ```
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
    abs(this;) = "Abs"(this)
        where x = [3.0, -4.0], x.abs() => [3.0, 4.0];
    /// Exponential.
    exp(this;) = "Exp"(this)
        where x = [0.0, 2f64.ln()], x.exp() => [1.0, 2.0];
    /// Natural logarithm.
    log(this;) = "Log"(this)
        where x = [1.0, 1f64.exp()], x.log() => [0.0, 1.0];
    /// `a log a`, 0 at 0.
    xlogx(this;) = "XLogX"(this)
        where x = [0.0, 1.0, 1f64.exp()], x.xlogx() => [0.0, 0.0, 1f64.exp()];
    /// Sine, of radians.
    sin(this;) = "Sin"(this)
        where x = [0.0, PI / 2.0], x.sin() => [0.0, 1.0];
    /// Cosine, of radians.
    cos(this;) = "Cos"(this)
        where x = [0.0, PI], x.cos() => [1.0, -1.0];
    /// Tangent, of radians.
    tan(this;) = "Tan"(this)
        where x = [0.5, -2.0], x.atan().tan().round(9) => [0.5, -2.0];
    /// Hyperbolic sine.
    sinh(this;) = "Sinh"(this)
        where x = [0.0, 1.0], (2.0 * x.sinh() + (-x).exp()).log().round(9) => [0.0, 1.0];
    /// Hyperbolic cosine.
    cosh(this;) = "Cosh"(this)
        where x = [0.0, 1.0], (2.0 * x.cosh() - (-x).exp()).log().round(9) => [0.0, 1.0];
    /// Hyperbolic tangent.
    tanh(this;) = "Tanh"(this)
        where x = [0.0, 1000.0], x.tanh() => [0.0, 1.0];
    /// `exp(a) - 1`, accurate near 0.
    expm1(this;) = "Expm1"(this)
        where x = [1e-20, -1000.0], x.expm1() => [1e-20, -1.0];
    /// `log(1 + a)`, accurate near 0; NaN below -1.
    log1p(this;) = "Log1p"(this)
        where x = [1e-20, -1.0], x.log1p() => [1e-20, -f64::INFINITY];
    /// Inverse hyperbolic sine.
    asinh(this;) = "Asinh"(this)
        where x = [0.5, -2.0], x.sinh().asinh().round(9) => [0.5, -2.0];
    /// Inverse hyperbolic cosine; NaN below 1.
    acosh(this;) = "Acosh"(this)
        where x = [0.0, 2.0], x.cosh().acosh().round(9) => [0.0, 2.0];
    /// Inverse hyperbolic tangent; infinite at ±1, NaN beyond.
    atanh(this;) = "Atanh"(this)
        where x = [0.5, -2.0], x.tanh().atanh().round(9) => [0.5, -2.0];
    /// `1 / (1 + exp(-a))`.
    sigmoid(this;) = "Sigmoid"(this)
        where x = [0.0, -1000.0], x.sigmoid() => [0.5, 0.0];
    /// `log(1 + exp(a))`, for any `a`.
    softplus(this;) = "Softplus"(this)
        where x = [0.0, 1000.0], x.softplus() => [2f64.ln(), 1000.0];
    /// Error function.
    erf(this;) = "Erf"(this)
        where x = [0.0, 1.0], x.erf().round(12) => [0.0, 0.842700792950];
    /// `1 - erf(a)`, without cancellation.
    erfc(this;) = "Erfc"(this)
        where x = [0.0, 20.0], x.erfc().log().round(6) => [0.0, -403.569343];
    /// Logarithm of the gamma function; NaN below 0.
    lgamma(this;) = "Lgamma"(this)
        where x = [1.0, 5.0], x.lgamma() => [0.0, 24f64.ln()];
    /// Derivative of order `n + 1` of `lgamma`, for an integer `n` up to 8.
    polygamma(this, n;) = "Polygamma"(n, this)
        where x = [1.0, 2.0], x.polygamma(1).round(12) => [1.644934066848, 0.644934066848];
    /// `sin(a) / a`, 1 at 0.
    sinxdivx(this;) = "SinXDivX"(this)
        where x = [0.0, PI / 2.0], x.sinxdivx() => [1.0, 2.0 / PI];
    /// `cos(sqrt(u))`, smooth at 0; `cosh(sqrt(-u))` below.
    cos_sqrt(this;) = "CosSqrt"(this)
        where x = [0.0, PI * PI], x.cos_sqrt() => [1.0, -1.0];
    /// `sin(sqrt(u)) / sqrt(u)`, 1 at 0 and smooth there; `sinh(sqrt(-u)) / sqrt(-u)` below.
    sinc_sqrt(this;) = "SincSqrt"(this)
        where x = [0.0, PI * PI / 4.0], x.sinc_sqrt() => [1.0, 2.0 / PI];
    /// Wendland's kernel of a squared distance `r² / l²`, 2k times differentiable, positive definite
    /// up to dimension 3, 0 from 1 on; `k` within 0..=3. For k = 1, `(1 - r)⁴ (4 r + 1)`.
    wendland(this; k: usize) = "Wendland"(this)
        where x = [0.0, 0.25, 1.0], x.wendland(1).round(12) => [1.0, 0.1875, 0.0];
    /// `(1 + u / (2 α))^-α` of a squared distance `u = r² / l²`.
    rational_quadratic(this, alpha;) = "RationalQuadratic"(this, alpha)
        where x = [0.0, 2.0], x.rational_quadratic(1).round(12) => [1.0, 0.5];
    /// Thin-plate spline `r^(2k) log(r)` of a squared distance `r²`, 0 at 0; `k` within 1..=8.
    thin_plate(this; k: usize) = "ThinPlate"(this)
        where x = [0.0, 1.0, (2f64).exp()], x.thin_plate(1).round(12) => [0.0, 0.0, 7.389056098931];
    /// `u^p` of a squared distance, for any real `p`; where it or a derivative is infinite at 0, 0.
    radial_power(this, exponent;) = "RadialPower"(this, exponent)
        where x = [0.0, 4.0], x.radial_power(1.5) => [0.0, 8.0];
    /// Arcsine, in radians within `[-π/2, π/2]`; NaN outside `[-1, 1]`.
    asin(this;) = "Asin"(this)
        where x = [0.0, 1.0], x.asin() => [0.0, PI / 2.0];
    /// Arccosine, in radians within `[0, π]`; NaN outside `[-1, 1]`.
    acos(this;) = "Acos"(this)
        where x = [1.0, -1.0], x.acos() => [0.0, PI];
    /// Arctangent, in radians within `[-π/2, π/2]`.
    atan(this;) = "Atan"(this)
        where x = [0.0, -1.0], x.atan() => [0.0, -PI / 4.0];
    /// Square root; NaN below 0.
    sqrt(this;) = "Sqrt"(this)
        where x = [9.0, 2.25], x.sqrt() => [3.0, 1.5];
    /// `1 / sqrt(a)`, 0 at 0.
    rsqrt(this;) = "Rsqrt"(this)
        where x = [4.0, 0.0], x.rsqrt() => [0.5, 0.0];
    /// Square.
    square(this;) = "Square"(this)
        where x = [3.0, -4.0], x.square() => [9.0, 16.0];
    /// `1 / a`
    inv(this;) = "Inv"(this)
        where x = [4.0, -0.5], x.inv() => [0.25, -2.0];
    /// -1, 0 or 1.
    sign(this;) = "Sign"(this)
        where x = [-2.0, 0.0, 3.0], x.sign() => [-1.0, 0.0, 1.0];
    /// 0 below 0, else 1.
    step(this;) = "Step"(this)
        where x = [-2.0, 0.0, 3.0], x.step() => [0.0, 1.0, 1.0];
    /// `max(a, 0)`
    relu(this;) = "ReLU"(this)
        where x = [-2.0, 0.0, 3.0], x.relu() => [0.0, 0.0, 3.0];
    /// Largest integer not above.
    floor(this;) = "Floor"(this)
        where x = [-1.5, 2.7], x.floor() => [-2.0, 2.0];
    /// `sin(π a) / (π a)`, 1 at 0.
    sinc(this;) = "Sinc"(this)
        where x = [0.0, 0.5], x.sinc() => [1.0, 2.0 / PI];
    /// Rounded to this many decimal places (before the point, if negative), halves away from 0.
    round(this; digits: i32) = "Round"(this)
        where x = [0.25, -1.06], x.round(1) => [0.3, -1.1];
    /// Squared Euclidean norm, of dimension 1.
    sqnorm2(this;) = "SqNorm2"(this)
        where x = [3.0, -4.0], x.sqnorm2() => [25.0];
    /// Euclidean norm, of dimension 1.
    norm2(this;) = "Norm2"(this)
        where x = [3.0, -4.0], x.norm2() => [5.0];
    /// `a / |a|` with the Euclidean norm, 0 at 0.
    normalize(this;) = "Normalize"(this)
        where x = [1.0, 1.0, -1.0, 1.0], x.normalize() => [0.5, 0.5, -0.5, 0.5];
    /// Sum of the components of each entry, of dimension 1; see [`LazyTensor::sum`] for sums over
    /// rows.
    sum_components(this;) = "Sum"(this)
        where x = [1.0, 2.0, 4.0], x.sum_components() => [7.0];
    /// Smallest component of each entry, of dimension 1.
    min_components(this;) = "Min"(this)
        where x = [3.0, 1.0, 2.0], x.min_components() => [1.0];
    /// Largest component of each entry, of dimension 1.
    max_components(this;) = "Max"(this)
        where x = [3.0, 1.0, 2.0], x.max_components() => [3.0];
    /// Position of the smallest component of each entry, the first of equals, counted from 0: a
    /// real.
    argmin_components(this;) = "ArgMin"(this)
        where x = [3.0, 1.0, 1.0], x.argmin_components() => [1.0];
    /// Position of the largest component of each entry, the first of equals, counted from 0: a
    /// real.
    argmax_components(this;) = "ArgMax"(this)
        where x = [1.0, 3.0, 2.0], x.argmax_components() => [1.0];

    /// Angle of the point (x, self), in radians within `[-π, π]`.
    atan2(this, x;) = "Atan2"(this, x)
        where x = [1.0, 0.0], x.atan2([0.0, -1.0]) => [PI / 2.0, PI];
    /// 1 where equal, else 0.
    equal(this, other;) = "Equal"(this, other)
        where x = [1.0, 2.0], x.equal([1.0, 3.0]) => [1.0, 0.0];
    /// 1 where not equal, else 0.
    not_equal(this, other;) = "NotEqual"(this, other)
        where x = [1.0, 2.0], x.not_equal([1.0, 3.0]) => [0.0, 1.0];
    /// 1 where `self < other`, else 0.
    less_than(this, other;) = "LessThan"(this, other)
        where x = [1.0, 2.0, 3.0], x.less_than(2) => [1.0, 0.0, 0.0];
    /// 1 where `self <= other`, else 0.
    less_or_equal(this, other;) = "LessOrEqual"(this, other)
        where x = [1.0, 2.0, 3.0], x.less_or_equal(2) => [1.0, 1.0, 0.0];
    /// 1 where `self > other`, else 0.
    greater_than(this, other;) = "LessThan"(other, this)
        where x = [1.0, 2.0, 3.0], x.greater_than(2) => [0.0, 0.0, 1.0];
    /// 1 where `self >= other`, else 0.
    greater_or_equal(this, other;) = "LessOrEqual"(other, this)
        where x = [1.0, 2.0, 3.0], x.greater_or_equal(2) => [0.0, 1.0, 1.0];
    /// Squared Euclidean distance, of dimension 1.
    sqdist(this, other;) = "SqDist"(this, other)
        where x = [1.0, 2.0], x.sqdist([4.0, 6.0]) => [25.0];
    /// Scalar product, of dimension 1; also written `a | b`.
    scalprod(this, other;) = "Scalprod"(this, other)
        where x = [1.0, 2.0], x.scalprod([3.0, 4.0]) => [11.0];
    /// Squared norm with weights: a scalar, one for each component, or a symmetric matrix of
    /// `dim²` components. Of dimension 1.
    weightedsqnorm(this, weights;) = "WeightedSqNorm"(weights, this)
        where x = [1.0, 2.0], x.weightedsqnorm([3.0, 5.0]) => [23.0];
    /// Squared distance with weights as in [`LazyTensor::weightedsqnorm`].
    weightedsqdist(this, other, weights;) = "WeightedSqDist"(weights, this, other)
        where x = [1.0, 2.0], x.weightedsqdist([3.0, 5.0], 2) => [26.0];
    /// Matrix `self` (`m · n` components, row-major) times vector (n components): m components.
    matvecmult(this, vector;) = "MatVecMult"(this, vector)
        where x = [1.0, 2.0, 3.0, 4.0], x.matvecmult([1.0, 10.0]) => [21.0, 43.0];
    /// Vector `self` (m components) times matrix (`m · n` components, row-major): n components.
    vecmatmult(this, matrix;) = "VecMatMult"(this, matrix)
        where x = [1.0, 10.0], x.vecmatmult([1.0, 2.0, 3.0, 4.0]) => [31.0, 42.0];
    /// Outer product: all products of a component of `self` and one of `other`, row-major.
    tensorprod(this, other;) = "TensorProd"(this, other)
        where x = [1.0, 2.0], x.tensorprod([3.0, 4.0, 5.0]) => [3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    /// All differences of a component of `self` and one of `other`, row-major.
    difference_matrix(this, other;) = "DifferenceMatrix"(this, other)
        where x = [5.0, 7.0],
        x.difference_matrix([1.0, 2.0, 3.0]) => [4.0, 3.0, 2.0, 6.0, 5.0, 4.0];
    /// Product of two arrays of components, summed over pairs of axes, as NumPy's `tensordot`:
    /// the shapes of both, and the axes of both that are summed. The result has the other axes,
    /// those of `self` first.
    tensordot(this, other; shape: &[usize], other_shape: &[usize], axes: &[usize], other_axes: &[usize])
        = "TensorDot"(this, other)
        where x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        x.tensordot([1.0, 10.0, 100.0], &[2, 3], &[3], &[1], &[0]) => [321.0, 654.0];
    /// Kronecker product of two arrays of components, of these shapes.
    kron(this, other; shape: &[usize], other_shape: &[usize]) = "Kron"(this, other)
        where x = [1.0, 2.0], x.kron([1.0, 10.0], &[2], &[2]) => [1.0, 10.0, 2.0, 20.0];
    /// Determinant of a small square matrix, row-major; of dimension 1.
    matdet(this;) = "MatDet"(this)
        where x = [1.0, 2.0, 3.0, 4.0], x.matdet() => [-2.0];
    /// Inverse of a small square matrix, row-major.
    matinv(this;) = "MatInv"(this)
        where x = [1.0, 2.0, 3.0, 4.0], x.matinv() => [-2.0, 1.0, 1.5, -0.5];
    /// `A⁻¹ b` for a small square matrix `self`, row-major.
    matsolve(this, b;) = "MatSolve"(this, b)
        where x = [1.0, 2.0, 3.0, 4.0], x.matsolve([5.0, 11.0]) => [1.0, 2.0];
    /// The components of `other` after those of `self`.
    concat(this, other;) = "Concat"(this, other)
        where x = [1.0, 2.0], x.concat(3) => [1.0, 2.0, 3.0];
    /// Entries `index` (rounded, counted from 0) of the parameter vector `self`, as many as
    /// `index` has components; NaN out of range.
    gather(this, index;) = "Gather"(this, index)
        where x = [1.0, 0.0, 1.0], Lazy::list(&[10.0, 20.0]).gather(&x) => [20.0, 10.0, 20.0];
    /// Kept within `[low, high]`.
    clamp(this, low, high;) = "Clamp"(this, low, high)
        where x = [-3.0, 0.5, 3.0], x.clamp(-1, 1) => [-1.0, 0.5, 1.0];
    /// `yes` where `self >= 0`, else `no`. A comparison is 0 or 1, never negative: it is refused here, and
    /// taken by [`LazyTensor::select`].
    ifelse(this, yes, no;) = "IfElse"(this, yes, no)
        where x = [-1.0, 0.0, 2.0], x.ifelse(10, [7.0, 8.0, 9.0]) => [7.0, 10.0, 10.0];
    /// `yes` where the mask `self` is not 0, else `no`. Masks are comparisons ([`LazyTensor::equal`],
    /// [`LazyTensor::less_than`], …) and their products; see [`LazyTensor::ifelse`] for signs.
    select(this, yes, no;) = "Select"(this, yes, no)
        where x = [1.0, 2.0, 3.0], x.less_than(2).select(10, &x) => [10.0, 2.0, 3.0];
    /// `self - n floor((self - offset) / n)`, within `[offset, offset + n)` for positive `n`.
    modulo(this, n, offset;) = "Mod"(this, n, offset)
        where x = [-1.0, 5.0, 7.5], x.modulo(3, 0) => [2.0, 2.0, 1.5];
    /// Soft dynamic time warping of two scalar series, with smoothing gamma; of dimension 1.
    softdtw_sqdist(this, other, gamma;) = "SoftDTW_SqDist"(this, other, gamma)
        where x = [1.0], x.softdtw_sqdist([2.0, 4.0], 0.5) => [10.0];

    /// The B-splines of order `k` at the scalar `self`, for ascending knots: as many as there are
    /// knots, less `k + 1`.
    bspline(this, knots; k: usize) = "BSpline"(knots, this)
        where x = [1.25], x.bspline([0.0, 1.0, 2.0, 3.0], 1) => [0.75, 0.25];
    /// `self`: equal parts of a formula are computed once anyway.
    factorize(this, part;) = "Factorize"(this, part)
        where x = [3.0, 4.0], x.square().factorize(&x) => [9.0, 16.0];
    /// `self`: equal parts of a formula are computed once anyway.
    auto_factorize(this;) = "AutoFactorize"(this)
        where x = [3.0, 4.0], x.square().auto_factorize() => [9.0, 16.0];

    /// Component `index`, counted from 0; of dimension 1.
    elem(this; index: usize) = "Elem"(this)
        where x = [5.0, 6.0, 7.0], x.elem(1) => [6.0];
    /// `len` components from `start`, counted from 0.
    extract(this; start: usize, len: usize) = "Extract"(this)
        where x = [5.0, 6.0, 7.0], x.extract(1, 2) => [6.0, 7.0];
    /// A scalar repeated `dim` times.
    sumt(this; dim: usize) = "SumT"(this)
        where x = [2.0], x.sumt(3) => [2.0, 2.0, 2.0];
    /// Of dimension `dim`: 1 at the position that is the value of this scalar, rounded; zeros
    /// where that is out of range.
    one_hot(this; dim: usize) = "OneHot"(this)
        where x = [2.0], x.one_hot(4) => [0.0, 0.0, 1.0, 0.0];

    /// Transposed Jacobian with respect to a variable, times `e`: of the dimension of the
    /// variable.
    grad(this, variable, e;) = "Grad"(this, variable, e)
        where x = [3.0, -4.0], x.sqnorm2().grad(&x, 1) => [6.0, -8.0];
    /// Jacobian with respect to a variable, times `u`, which has its dimension: of that of
    /// `self`.
    diff(this, variable, u;) = "Diff"(this, variable, u)
        where x = [3.0, -4.0], x.sqnorm2().diff(&x, [1.0, 10.0]) => [-74.0];
    /// Jacobian with respect to a variable, row-major: a row for each component of `self`.
    grad_matrix(this, variable;) = "GradMatrix"(this, variable)
        where x = [3.0, 4.0], x.sqnorm2().concat(x.elem(1)).grad_matrix(&x) => [6.0, 8.0, 0.0, 1.0];
    /// Trace of the Jacobian with respect to a variable, of dimension 1.
    divergence(this, variable;) = "Divergence"(this, variable)
        where x = [3.0, 4.0], x.square().divergence(&x) => [14.0];
    /// Sum of the second derivatives of a scalar with respect to a variable, of dimension 1.
    laplacian(this, variable;) = "Laplacian"(this, variable)
        where x = [3.0, 4.0], x.sqnorm2().laplacian(&x) => [4.0];
    /// Trace of the linear map that `self` is of a variable, of dimension 1.
    trace_operator(this, variable;) = "TraceOperator"(this, variable)
        where x = [3.0, 4.0], (&x * [2.0, 5.0]).trace_operator(&x) => [7.0];
    /// Adjoint, at `u`, of the linear map that `self` is of a variable.
    adjoint_operator(this, variable, u;) = "AdjointOperator"(this, variable, u)
        where x = [0.0, 0.0],
        Lazy::list(&[1.0, 2.0, 3.0, 4.0]).matvecmult(&x).adjoint_operator(&x, [1.0, 10.0]) => [31.0, 42.0];
}

impl<T, P: Place> LazyTensor<T, P> {
    /// Matérn kernel of order `nu` of a squared distance `u = r² / l²`: with `s = sqrt(2 nu u)`,
    /// `2^(1-nu) s^nu K_nu(s) / Γ(nu)`. It is 1 at 0, and its derivatives in the points are right
    /// there, of every order that exists. An error is carried if `nu` is not in (0, 50].
    ///
    /// Orders 1/2, 3/2, … up to 41/2 are machine code, others a scalar function. An order that
    /// varies, or that is differentiated, is an operand: `u.call("Matern", &[&order], &[])`.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let (x, y) = (Lazy::vi(array![[0.2, -0.3]]), Lazy::vj(array![[0.2, -0.3]]));
    /// let k = x.sqdist(&y).matern(1.5); // (1 + s) exp(-s) with s = sqrt(3) |x - y|
    /// assert_eq!(k.laplacian(&x).sum(Axis::J)?.round(), array![[-6.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn matern(&self, nu: f64) -> LazyTensor<T, P>
    where
        P: Default,
    {
        self.call("Matern", &[&LazyTensor::constant(nu)], &[])
    }
    /// Integer power of each component, by repeated multiplication; of the inverse if negative.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(array![[2.0, -3.0]]);
    /// assert_eq!(x.pow(3).sum(Axis::J)?, array![[8.0, -27.0]].into_dyn());
    /// assert_eq!(x.elem(0).pow(-2).sum(Axis::J)?, array![[0.25]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
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
        Self::apply(Caller::caller(), Ok(Rule::Power(v)), self, &[], vec![])
    }
    /// Real power; see [`LazyTensor::pow`] for integers.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(array![[4.0, 9.0]]);
    /// assert_eq!(x.powf(1.5).sum(Axis::J)?, array![[8.0, 27.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    #[track_caller]
    pub fn powf(&self, exponent: impl LazyOperand<T, P>) -> LazyTensor<T, P> {
        let exponent = exponent.lazy();
        // What is known of a whole exponent makes better derivatives.
        match &*exponent.term {
            Term::Source(Source { value: Bound::Scalar(v), .. }) if v.fract() == 0.0 => {
                let whole = exponent.with_term(Term::Leaf(Node::Const(v.to_bits())));
                self.call("Powf", &[&whole], &[])
            }
            _ => self.call("Powf", &[&exponent], &[]),
        }
    }
    /// The number that it stands for, if it is one.
    fn number(&self) -> Option<f64> {
        match &*self.term {
            Term::Leaf(Node::Const(bits)) => Some(f64::from_bits(*bits)),
            Term::Source(Source { value: Bound::Scalar(v), .. }) => Some(*v),
            Term::Leaf(_) | Term::Source(_) => None,
            // Operations of constants are constants.
            Term::Apply(_) | Term::Built(_) => {
                let e = self.expression().ok()?;
                e.graph.constant(e.root)
            }
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
        self.groups(1, range.into())
    }
    /// As [`LazyTensor::components`], in groups of this many.
    #[track_caller]
    pub(super) fn groups(&self, group: usize, range: Slice) -> LazyTensor<T, P> {
        Self::apply(Caller::caller(), Ok(Rule::Components(group, range)), self, &[], vec![])
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
                LazyTensor::failed(Caller::caller(), e)
            }
        }
    }
}

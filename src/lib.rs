//! Kernel reductions on symbolic matrices: `out_i = Reduce_j F(params, x_i, y_j)` for formulas F
//! that are compiled when they are first used, with gradients of any order, solvers and
//! registration of shapes. The matrix of all pairs is never stored.
//!
//! ```
//! use keops::prelude::*;
//! use ndarray::Array2;
//!
//! let x = Array2::from_shape_fn((1000, 3), |(i, k)| ((3 * i + k) as f32).sin());
//! let y = Array2::from_shape_fn((2000, 3), |(j, k)| ((5 * j + k) as f32).cos());
//! let b = Array2::from_elem((2000, 2), 1f32);
//! let sigma = 0.5;
//!
//! // With operators:
//! let (x_i, y_j) = (vi(&x), vj(&y));
//! let d2 = x_i.sqdist(&y_j); // symbolic, 1000 × 2000
//! let k = (-&d2 / (2.0 * sigma * sigma)).exp();
//! let v = k.matmul(&b)?; // (1000, 2)
//! let nearest = d2.argkmin(10, Over::J)?; // (1000, 10), of i64
//! # assert_eq!((v.shape(), nearest.shape()), (&[1000, 2][..], &[1000, 10][..]));
//!
//! // As text, in the syntax of KeOps:
//! let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"];
//! let conv = Genred::new("Exp(-2 * SqDist(x, y)) * b", aliases, Sum, Over::J)?;
//! let out = conv.call((&x, &y, &b))?;
//! assert!((&out - &v).iter().all(|d| d.abs() < 1e-2));
//!
//! // The gradient of Σ_i <out_i, e_i> in x:
//! let e = Array2::from_elem((1000, 2), 1f32);
//! let gx = conv.vjp("x")?.call((&x, &y, &b, &e))?; // (1000, 3)
//! # assert_eq!(gx.shape(), [1000, 3]);
//! # Ok::<(), keops::Error>(())
//! ```
//!
//! # Where things are
//! | | |
//! |---|---|
//! | [`LazyTensor`], [`ComplexLazyTensor`], [`vi`], [`vj`], [`pm`] | formulas with operators, over arrays |
//! | [`Genred`] | formulas as text ([`parse`]), as functions of arrays, with [`Genred::vjp`](keops_core::genred::Genred::vjp) and [`jvp`](keops_core::genred::Genred::jvp) |
//! | [`reduction`] | every reduction |
//! | [`genred`], [`lazy`] | the types and traits behind these |
//! | [`error`] | what can go wrong |
//! | [`ops`], [`composite`] | every operation |
//! | [`ranges`] | block-sparse reductions |
//! | [`linalg`] | kernel matrices as linear operators, and solvers |
//! | [`shapes`] | shapes: geometry, files, distances, pictures |
//! | [`lddmm`] | shooting and registration of shapes |
//! | [`cpu`], [`cuda`], [`interp`] | the backends; [`Auto`] chooses |
//! | [`ndarray`], [`half`], [`num_complex`] | the crates whose types are arguments and results, in the versions that fit |
//!
//! # Features
//! `cpu`, `cuda`, `linalg`, `shapes` and `lddmm`, all on by default. `cuda` builds and runs without a GPU.
//! Without `cpu`, reductions run in the (slow) reference interpreter. `conformance` adds
//! `keops::conformance`, the suite that your own backend is tested with.
#![forbid(unsafe_code)]

pub mod error;
mod place;

pub use error::Error;
#[cfg(feature = "conformance")]
pub use keops_core::conformance;
pub use keops_core::spec::Axis;
pub use keops_core::{
    composite, data, genred, graph, interp, lazy, ops, outer, parse, ranges, reduce, spec,
};
#[cfg(feature = "cpu")]
pub use keops_cpu as cpu;
#[cfg(feature = "cuda")]
pub use keops_cuda as cuda;
#[cfg(feature = "lddmm")]
pub use keops_lddmm as lddmm;
#[cfg(feature = "linalg")]
pub use keops_linalg as linalg;
#[cfg(feature = "shapes")]
pub use keops_shapes as shapes;
#[cfg(feature = "linalg")]
pub use linalg::Solve;
pub use place::Auto;
pub use {half, ndarray, num_complex};

use keops_core::data::Element;
use keops_core::graph::Category;
use keops_core::lazy::{IntoArray, IntoComplexArray};

/// A reduction of a formula as a function of arrays, on the device that [`Auto`] chooses. See
/// [`keops_core::genred::Genred`].
pub type Genred = keops_core::genred::Genred<Auto>;
/// A symbolic matrix, reduced on the device that [`Auto`] chooses. See
/// [`keops_core::lazy::LazyTensor`].
pub type LazyTensor<T> = keops_core::lazy::LazyTensor<T, Auto>;
/// A symbolic matrix of complex numbers. See [`keops_core::lazy::ComplexLazyTensor`].
pub type ComplexLazyTensor<T> = keops_core::lazy::ComplexLazyTensor<T, Auto>;

/// Rows indexed by `i`: an array of shape `(batch…, M, dim)`, or `(M)` for dimension 1. Errors are
/// carried to where the LazyTensor is evaluated.
///
/// ```
/// use keops::prelude::*;
/// use ndarray::array;
/// let (x, y, scale) = (array![1.0, 2.0], array![3.0, 5.0, 7.0], array![10.0]);
/// let all = pm(&scale) * vi(&x) * vj(&y); // symbolic, 2 × 3
/// assert_eq!(all.sum(Over::J)?, array![[150.0], [300.0]].into_dyn());
/// assert_eq!(all.sum(Over::I)?, array![[90.0], [150.0], [210.0]].into_dyn());
/// # Ok::<(), keops::Error>(())
/// ```
#[track_caller]
pub fn vi<A: IntoArray>(array: A) -> LazyTensor<A::Elem> {
    LazyTensor::vi(array)
}
/// Rows indexed by `j`: an array of shape `(batch…, N, dim)`, or `(N)` for dimension 1. See [`vi`].
///
/// ```
/// use keops::prelude::*;
/// use ndarray::array;
/// let d = (vi(array![0.0, 6.0]) - vj(array![1.0, 4.0, 9.0])).abs();
/// assert_eq!(d.shape()?, [2, 3, 1]);
/// assert_eq!(d.argmin(Over::J)?, array![[0], [1]].into_dyn());
/// # Ok::<(), keops::Error>(())
/// ```
#[track_caller]
pub fn vj<A: IntoArray>(array: A) -> LazyTensor<A::Elem> {
    LazyTensor::vj(array)
}
/// A parameter: an array of shape `(batch…, dim)`, or without axes for dimension 1. See
/// [`vi`].
///
/// ```
/// use keops::prelude::*;
/// use ndarray::array;
/// let weights = pm(array![2.0, 3.0]); // of dimension 2, for all rows
/// let scaled = vi(array![[1.0, 1.0], [4.0, 5.0]]) * weights;
/// assert_eq!(scaled.sum(Over::J)?, array![[2.0, 3.0], [8.0, 15.0]].into_dyn());
/// # Ok::<(), keops::Error>(())
/// ```
#[track_caller]
pub fn pm<A: IntoArray>(array: A) -> LazyTensor<A::Elem> {
    LazyTensor::pm(array)
}
/// As [`vi`], of complex numbers.
///
/// ```
/// use keops::prelude::*;
/// use ndarray::array;
/// use num_complex::Complex64 as C;
/// let z = complex_vi(array![C::new(3.0, 4.0), C::i()]);
/// assert_eq!(z.square_abs().sum(Over::J)?, array![[25.0], [1.0]].into_dyn());
/// # Ok::<(), keops::Error>(())
/// ```
#[track_caller]
pub fn complex_vi<A: IntoComplexArray>(array: A) -> ComplexLazyTensor<A::Elem> {
    ComplexLazyTensor::vi(array)
}
/// As [`vj`], of complex numbers.
///
/// ```
/// use keops::prelude::*;
/// use ndarray::array;
/// use num_complex::Complex64 as C;
/// let k = complex_vi(array![C::i()]) * complex_vj(array![C::new(2.0, 0.0), C::i()]); // 2i and -1
/// assert_eq!(k.sum(Over::J)?, array![[C::new(-1.0, 2.0)]].into_dyn());
/// # Ok::<(), keops::Error>(())
/// ```
#[track_caller]
pub fn complex_vj<A: IntoComplexArray>(array: A) -> ComplexLazyTensor<A::Elem> {
    ComplexLazyTensor::vj(array)
}
/// Argument `position` of a function that
/// [`LazyTensor::genred`](keops_core::lazy::LazyTensor::genred) makes.
///
/// ```
/// use keops::prelude::*;
/// use ndarray::array;
/// let (x, y) = (var::<f64>(0, 1, Category::I), var(1, 1, Category::J));
/// let nearest = x.sqdist(y).genred(ArgMin, Over::J)?;
/// let found = nearest.call_indices((&array![[0.0], [4.0]], &array![[3.0], [1.0]]))?;
/// assert_eq!(found, array![[1], [0]].into_dyn());
/// # Ok::<(), keops::Error>(())
/// ```
#[track_caller]
pub fn var<T: Element>(position: usize, dim: usize, category: Category) -> LazyTensor<T> {
    LazyTensor::var(position, dim, category)
}

/// A registration of `source` to `target` that runs on the device that [`Auto`] chooses. See
/// [`keops_lddmm::registration::Registration::new`].
///
/// # Errors
/// For options and shapes that do not fit, and where there is no memory.
///
/// ```
/// use keops::lddmm::{attachment::varifold, kernel::Kernel};
/// use keops::lddmm::registration::{Limits, Options, Progress, Registration};
/// use keops::shapes::builtin::curve_pair;
/// use std::ops::ControlFlow;
/// let (source, target) = curve_pair(30)?;
/// let kernel = Kernel::gaussian(0.6)?;
/// let options = Options::new(kernel.clone(), varifold(kernel));
/// let options = Options { limits: Limits { iterations: 10, ..Limits::default() }, ..options };
/// let registration: Registration<f32> = keops::registration(&source, &target, &options)?;
/// let outcome = registration.run(None, &mut |_: &Progress<'_>| ControlFlow::Continue(()))?;
/// assert!(outcome.report.after.cost < 0.1 * outcome.report.before.cost);
/// # Ok::<(), keops::Error>(())
/// ```
#[cfg(feature = "lddmm")]
pub fn registration<F: lddmm::Real, D: lddmm::registration::Deformation<F>>(
    source: &shapes::Shape,
    target: &shapes::Shape,
    options: &lddmm::registration::Options<D>,
) -> Result<lddmm::registration::Registration<F>, lddmm::LddmmError> {
    lddmm::registration::Registration::new(source, target, options, &Auto)
}

/// Every reduction, under its name in KeOps; those that take several winners are functions of
/// their number.
///
/// ```
/// use keops::prelude::*;
/// use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)"];
/// let (x, y) = (array![[0.0]], array![[5.0], [1.0], [-2.0]]);
/// let least = Genred::new("Abs(x - y)", aliases, KMinArgKMin(2), Over::J)?;
/// assert_eq!(least.call((&x, &y))?, array![[1.0, 2.0]].into_dyn());
/// assert_eq!(least.call_indices((&x, &y))?, array![[1, 2]].into_dyn());
/// # Ok::<(), keops::Error>(())
/// ```
#[allow(non_upper_case_globals, non_snake_case)]
pub mod reduction {
    use keops_core::genred::Reduce;
    use keops_core::reduce::{self, Definition};

    macro_rules! reductions {
        ($($name:ident $family:ident $def:ident $doc:literal;)*) => {$(
            #[doc = $doc]
            pub const $name: Reduce = Reduce { def: Definition::$family(&reduce::$def), k: 1 };
        )*};
    }
    macro_rules! winners {
        ($($name:ident $def:ident $doc:literal $call:ident $result:literal;)*) => {$(
            #[doc = $doc]
            ///
            /// ```
            /// use keops::prelude::*;
            /// use ndarray::array;
            /// let (x, y) = (array![[0.0]], array![[5.0], [1.0], [-2.0]]);
            /// let aliases = ["x = Vi(1)", "y = Vj(1)"];
            #[doc = concat!("let f = Genred::new(\"Abs(x - y)\", aliases, ", stringify!($name), "(2), Over::J)?;")]
            #[doc = concat!("assert_eq!(f.", stringify!($call), "((&x, &y))?, array![", $result, "].into_dyn());")]
            /// # Ok::<(), keops::Error>(())
            /// ```
            pub const fn $name(k: usize) -> Reduce {
                Reduce { def: Definition::Basic(&reduce::$def), k }
            }
        )*};
    }
    reductions! {
        Sum Basic SUM "`Σ f`";
        Mean Derived MEAN "`Σ f / Σ 1`, or `Σ w f / Σ w`; NaN over nothing.";
        Variance Derived VARIANCE "Mean of the squared distance of f to its mean; NaN over nothing.";
        LogSumExp Basic LOG_SUM_EXP "`log Σ exp f`, or `log Σ w exp f`; -inf over nothing";
        SumSoftMaxWeight Basic SUM_SOFT_MAX_WEIGHT "`Σ w exp f / Σ exp f`; 0 over nothing";
        Min Basic MIN "Smallest f; +inf over nothing.";
        Max Basic MAX "Largest f; -inf over nothing.";
        ArgMin Basic ARG_MIN "Index of the smallest f; -1 over nothing.";
        ArgMax Basic ARG_MAX "Index of the largest f; -1 over nothing.";
        MinArgMin Basic MIN_ARG_MIN "Smallest f and its index.";
        MaxArgMax Basic MAX_ARG_MAX "Largest f and its index.";
    }
    winners! {
        KMin K_MIN "The k smallest f in order; +inf where there are fewer."
            call "[1.0, 2.0]";
        ArgKMin ARG_K_MIN "Indices of the k smallest f in order; -1 where there are fewer."
            call_indices "[1, 2]";
        KMinArgKMin K_MIN_ARG_K_MIN "The k smallest f and their indices."
            call "[1.0, 2.0]";
    }
}

/// The code of the documents, run as tests.
#[cfg(all(doctest, feature = "cpu", feature = "linalg"))]
mod documents {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/migrating-from-keops.md")]
    mod migrating {}
    #[doc = include_str!("../docs/solvers.md")]
    mod solvers {}
}

/// What most programs need. It goes together with `ndarray::prelude::*`: the index that is reduced
/// over is [`Over`](prelude::Over) here, another name of [`Axis`].
///
/// ```
/// use keops::prelude::*;
/// use ndarray::prelude::*;
/// let d = (vi(array![1.0, 5.0]) - vj(array![2.0, 3.0, 7.0])).abs(); // symbolic, 2 × 3
/// let sums = d.sum(Over::J)?; // over j: one for each i
/// assert_eq!(sums, array![[1.0 + 2.0 + 6.0], [3.0 + 2.0 + 2.0]].into_dyn());
/// assert_eq!(sums.sum_axis(Axis(0)), array![16.0].into_dyn()); // an axis of an array
/// # Ok::<(), keops::Error>(())
/// ```
pub mod prelude {
    pub use crate::reduction::*;
    pub use crate::{
        Auto, ComplexLazyTensor, Error, Genred, LazyTensor, complex_vi, complex_vj, pm, var, vi, vj,
    };
    #[cfg(feature = "linalg")]
    pub use crate::{Solve, linalg::SolveOptions};
    pub use keops_core::genred::Shaped;
    pub use keops_core::graph::Category;
    pub use keops_core::ranges::Ranges;
    pub use keops_core::spec::{Axis as Over, Device, ReduceOptions, Scheme};
}

//! Arrays at the boundary: element types, borrowed arguments of any layout, owned results.

use crate::error::OutOfMemory;
use crate::memory;
use half::{bf16, f16};
use ndarray::{Array2, ArrayBase, ArrayD, ArrayView2, ArrayViewD, Axis as NdAxis, IxDyn, ViewRepr};

/// Element type of arrays.
///
/// ```
/// use keops_core::data::{DType, Element};
/// assert_eq!((f32::DTYPE, half::bf16::DTYPE), (DType::F32, DType::BF16));
/// assert!(DType::F32 < DType::F64);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum DType {
    /// IEEE half precision; computed in f32.
    F16,
    /// bfloat16; computed in f32.
    BF16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl DType {
    /// Type that formulas over this type are computed in.
    ///
    /// ```
    /// use keops_core::data::DType;
    /// assert_eq!(DType::F16.compute(), DType::F32);
    /// assert_eq!(DType::F64.compute(), DType::F64);
    /// ```
    pub fn compute(self) -> DType {
        if self == DType::F64 { DType::F64 } else { DType::F32 }
    }
    /// Rust's name.
    ///
    /// ```
    /// assert_eq!(keops_core::data::DType::BF16.name(), "bf16");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Element types of arrays: f16, bf16, f32, f64.
///
/// ```
/// use keops_core::{data::Element, genred::Genred, reduce::SUM, spec::Axis};
/// fn mean<T: Element>(values: &ndarray::Array2<T>) -> Result<f64, keops_core::error::Error> {
///     let sum: Genred = Genred::new("x", ["x = Vj(1)"], &SUM, Axis::J)?;
///     Ok(sum.call((values,))?[[0, 0]].to_f64() / values.len() as f64)
/// }
/// assert_eq!(mean(&ndarray::array![[1f32], [2.0]])?, 1.5);
/// assert_eq!(mean(&ndarray::array![[1f64], [2.0]])?, 1.5);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// The type as a value.
    const DTYPE: DType;
    /// Erases the type of a view.
    ///
    /// ```
    /// use keops_core::data::{ArgView, Element};
    /// let array = ndarray::array![[1f32, 2.0]].into_dyn();
    /// assert!(matches!(f32::erase(array.view()), ArgView::F32(v) if v.shape() == [1, 2]));
    /// ```
    fn erase(view: ArrayViewD<'_, Self>) -> ArgView<'_>;
    /// Exact widening.
    ///
    /// ```
    /// use keops_core::data::Element;
    /// assert_eq!(Element::to_f64(half::f16::from_f32(0.1)), 0.0999755859375); // 1638 / 2^14
    /// ```
    fn to_f64(self) -> f64;
    /// Rounding to the nearest; infinite beyond the range.
    ///
    /// ```
    /// use keops_core::data::Element;
    /// assert_eq!(f32::of_f64(16_777_217.0), 16_777_216.0); // 2^24 + 1
    /// assert_eq!(half::f16::of_f64(1e6), half::f16::INFINITY);
    /// ```
    fn of_f64(v: f64) -> Self;
    /// An owned array of this type; converts (rounds) if the buffer holds another.
    ///
    /// ```
    /// use keops_core::data::{Buffer, Element};
    /// let buffer = Buffer::F64(ndarray::array![0.1, 2.0].into_dyn());
    /// assert_eq!(f32::take(buffer)?, ndarray::array![0.1f32, 2.0].into_dyn());
    /// # Ok::<(), keops_core::error::OutOfMemory>(())
    /// ```
    ///
    /// # Errors
    /// [`OutOfMemory`] if there is no room for the converted array.
    fn take(buffer: Buffer) -> Result<ArrayD<Self>, OutOfMemory>;
    /// A buffer of an owned array.
    ///
    /// ```
    /// use keops_core::data::{Buffer, Element};
    /// assert!(matches!(f64::buffer(ndarray::array![1.0].into_dyn()), Buffer::F64(_)));
    /// ```
    fn buffer(array: ArrayD<Self>) -> Buffer;
}

macro_rules! element {
    ($t:ty, $v:ident, $to:expr, $of:expr) => {
        impl Element for $t {
            const DTYPE: DType = DType::$v;
            fn erase(view: ArrayViewD<'_, Self>) -> ArgView<'_> {
                ArgView::$v(view)
            }
            fn to_f64(self) -> f64 {
                $to(self)
            }
            fn of_f64(v: f64) -> Self {
                $of(v)
            }
            fn buffer(array: ArrayD<Self>) -> Buffer {
                Buffer::$v(array)
            }
            fn take(buffer: Buffer) -> Result<ArrayD<Self>, OutOfMemory> {
                /// Rounds every entry.
                fn round<S: Copy>(
                    a: ArrayD<S>,
                    f: impl Fn(S) -> f64,
                ) -> Result<ArrayD<$t>, OutOfMemory> {
                    let what = concat!("a result in ", stringify!($t));
                    memory::mapped(&a.view(), |v| <$t>::of_f64(f(v)), what)
                }
                #[allow(unreachable_patterns)]
                match buffer {
                    Buffer::$v(a) => Ok(a),
                    Buffer::F16(a) => round(a, Element::to_f64),
                    Buffer::BF16(a) => round(a, Element::to_f64),
                    Buffer::F32(a) => round(a, Element::to_f64),
                    Buffer::F64(a) => round(a, Element::to_f64),
                    Buffer::I64(a) => round(a, |v| v as f64),
                }
            }
        }
    };
}
element!(f16, F16, |v: f16| v.to_f64(), f16::from_f64);
element!(bf16, BF16, |v: bf16| v.to_f64(), bf16::from_f64);
element!(f32, F32, |v: f32| v as f64, |v: f64| v as f32);
element!(f64, F64, |v: f64| v, |v: f64| v);

/// `ArrayViewD`, in words that let [`ArgView`] stand for one of a shorter life.
type View<'a, T> = ArrayBase<ViewRepr<&'a T>, IxDyn, T>;

/// A borrowed array of any shape and layout.
/// [`AsArg::as_arg`](crate::genred::AsArg::as_arg) makes one of any array.
///
/// ```
/// use keops_core::data::{ArgView, DType};
/// use keops_core::genred::AsArg;
/// let array = ndarray::array![[1.0, 2.0], [3.0, 4.0]];
/// let columns = array.t();
/// let arg: ArgView<'_> = columns.as_arg();
/// assert_eq!((arg.dtype(), arg.shape()), (DType::F64, &[2, 2][..]));
/// ```
#[derive(Clone, Debug)]
pub enum ArgView<'a> {
    /// f16
    F16(View<'a, f16>),
    /// bf16
    BF16(View<'a, bf16>),
    /// f32
    F32(View<'a, f32>),
    /// f64
    F64(View<'a, f64>),
}

/// Does the same with whatever type a view has.
///
/// ```
/// use keops_core::{data::Element, genred::AsArg, with_view};
/// let array = ndarray::array![[1f32, 2.0], [3.0, 4.0]];
/// let largest = with_view!(array.as_arg(), v => v.iter().map(|e| e.to_f64()).fold(0.0, f64::max));
/// assert_eq!(largest, 4.0);
/// ```
#[macro_export]
macro_rules! with_view {
    ($arg:expr, $v:ident => $body:expr) => {
        match $arg {
            $crate::data::ArgView::F16($v) => $body,
            $crate::data::ArgView::BF16($v) => $body,
            $crate::data::ArgView::F32($v) => $body,
            $crate::data::ArgView::F64($v) => $body,
        }
    };
}

impl ArgView<'_> {
    /// Element type.
    ///
    /// ```
    /// use keops_core::{data::DType, genred::AsArg};
    /// assert_eq!(ndarray::array![1f32].as_arg().dtype(), DType::F32);
    /// ```
    pub fn dtype(&self) -> DType {
        match self {
            ArgView::F16(_) => DType::F16,
            ArgView::BF16(_) => DType::BF16,
            ArgView::F32(_) => DType::F32,
            ArgView::F64(_) => DType::F64,
        }
    }
    /// Shape.
    ///
    /// ```
    /// use keops_core::genred::AsArg;
    /// assert_eq!(ndarray::array![[1.0, 2.0, 3.0]].as_arg().shape(), [1, 3]);
    /// ```
    pub fn shape(&self) -> &[usize] {
        with_view!(self, v => v.shape())
    }
}

/// The `(rows, dim)` matrix of one batch element: leading axes are indexed by `batch` (counted
/// from the last axis backwards, extent 1 broadcasts). A parameter (`rows` absent) is one row.
/// `batch` is an index into a batch shape that the leading axes fit: another one panics.
///
/// ```
/// use keops_core::data::batch_matrix;
/// use ndarray::{Array3, array};
/// let x = Array3::from_shape_fn((2, 1, 3), |(b, _, k)| (10 * b + k) as f64).into_dyn();
/// let view = x.view(); // two batches of one row
/// assert_eq!(batch_matrix(&view, &[4, 1], true), array![[10.0, 11.0, 12.0]]); // of a shape (5, 2)
/// let p = array![1.0, 2.0].into_dyn(); // a parameter for all batches
/// assert_eq!(batch_matrix(&p.view(), &[4, 1], false), array![[1.0, 2.0]]);
/// ```
pub fn batch_matrix<'a, T>(
    view: &'a ArrayViewD<'_, T>,
    batch: &[usize],
    has_rows: bool,
) -> ArrayView2<'a, T> {
    let own = if has_rows { 2 } else { 1 };
    let lead = view.ndim() - own;
    let mut v = view.view();
    for k in 0..lead {
        let extent = v.shape()[0];
        // Leading axes align with the last axes of the batch shape.
        let at = batch[batch.len() - lead + k];
        v = v.index_axis_move(NdAxis(0), if extent == 1 { 0 } else { at });
    }
    if !has_rows {
        v = v.insert_axis(NdAxis(0));
    }
    let (r, d) = (v.shape()[0], v.shape()[1]);
    match v.into_dimensionality() {
        Ok(m) => m,
        Err(_) => unreachable!("a view with two axes ({r}, {d})"),
    }
}

/// An owned array, row-major.
///
/// ```
/// use keops_core::genred::{AsArg, Genred};
/// use keops_core::{data::Buffer, reduce::MIN_ARG_MIN, spec::Axis};
/// let least: Genred = Genred::new("y", ["y = Vj(1)"], &MIN_ARG_MIN, Axis::J)?;
/// let results = least.run(&[ndarray::array![[4f32], [2.0]].as_arg()])?;
/// assert_eq!(results[0], Buffer::F32(ndarray::array![[2.0]].into_dyn()));
/// assert_eq!(results[1], Buffer::I64(ndarray::array![[1]].into_dyn()));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Buffer {
    /// f16
    F16(ArrayD<f16>),
    /// bf16
    BF16(ArrayD<bf16>),
    /// f32
    F32(ArrayD<f32>),
    /// f64
    F64(ArrayD<f64>),
    /// Indices.
    I64(ArrayD<i64>),
}

impl Buffer {
    /// Zeros (of indices if `dtype` is absent); `None` if memory cannot be had.
    ///
    /// ```
    /// use keops_core::data::{Buffer, DType};
    /// assert_eq!(Buffer::zeros(Some(DType::F32), &[2, 1]).unwrap().shape(), [2, 1]);
    /// assert_eq!(Buffer::zeros(None, &[usize::MAX, 3]), None);
    /// ```
    pub fn zeros(dtype: Option<DType>, shape: &[usize]) -> Option<Buffer> {
        fn make<T: Clone>(zero: T, shape: &[usize]) -> Option<ArrayD<T>> {
            let n = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b))?;
            let all = memory::filled(n, zero, "").ok()?;
            match *shape {
                [rows, columns] => {
                    Some(Array2::from_shape_vec((rows, columns), all).ok()?.into_dyn())
                }
                _ => ArrayD::from_shape_vec(IxDyn(shape), all).ok(),
            }
        }
        Some(match dtype {
            Some(DType::F16) => Buffer::F16(make(f16::ZERO, shape)?),
            Some(DType::BF16) => Buffer::BF16(make(bf16::ZERO, shape)?),
            Some(DType::F32) => Buffer::F32(make(0.0, shape)?),
            Some(DType::F64) => Buffer::F64(make(0.0, shape)?),
            None => Buffer::I64(make(0, shape)?),
        })
    }
    /// Shape.
    ///
    /// ```
    /// use keops_core::data::Buffer;
    /// assert_eq!(Buffer::I64(ndarray::array![[1, 2, 3]].into_dyn()).shape(), [1, 3]);
    /// ```
    pub fn shape(&self) -> &[usize] {
        match self {
            Buffer::F16(a) => a.shape(),
            Buffer::BF16(a) => a.shape(),
            Buffer::F32(a) => a.shape(),
            Buffer::F64(a) => a.shape(),
            Buffer::I64(a) => a.shape(),
        }
    }
    /// As an argument of a further step; `None` for indices, which are no arguments.
    ///
    /// ```
    /// use keops_core::data::Buffer;
    /// assert!(Buffer::F32(ndarray::array![[1.0]].into_dyn()).view().is_some());
    /// assert!(Buffer::I64(ndarray::array![[1]].into_dyn()).view().is_none());
    /// ```
    pub fn view(&self) -> Option<ArgView<'_>> {
        Some(match self {
            Buffer::F16(a) => ArgView::F16(a.view()),
            Buffer::BF16(a) => ArgView::BF16(a.view()),
            Buffer::F32(a) => ArgView::F32(a.view()),
            Buffer::F64(a) => ArgView::F64(a.view()),
            Buffer::I64(_) => return None,
        })
    }
    /// Indices, if it holds indices.
    ///
    /// ```
    /// use keops_core::data::Buffer;
    /// assert_eq!(Buffer::I64(ndarray::array![[7]].into_dyn()).indices().unwrap()[[0, 0]], 7);
    /// ```
    pub fn indices(&self) -> Option<&ArrayD<i64>> {
        if let Buffer::I64(a) = self { Some(a) } else { None }
    }
    /// Values as f64, whatever the type (indices too). For large arrays see [`Element::take`], which
    /// reports memory that cannot be had.
    ///
    /// ```
    /// use keops_core::data::Buffer;
    /// let values = Buffer::F32(ndarray::array![[0.5, 2.0]].into_dyn());
    /// assert_eq!(values.to_f64(), ndarray::array![[0.5, 2.0]].into_dyn());
    /// ```
    pub fn to_f64(&self) -> ArrayD<f64> {
        match self {
            Buffer::F16(a) => a.mapv(|v| v.to_f64()),
            Buffer::BF16(a) => a.mapv(|v| v.to_f64()),
            Buffer::F32(a) => a.mapv(f64::from),
            Buffer::F64(a) => a.clone(),
            Buffer::I64(a) => a.mapv(|v| v as f64),
        }
    }
}

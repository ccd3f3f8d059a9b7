//! Arrays at the boundary: element types, borrowed arguments of any layout, owned results.

use crate::error::{OutOfMemory, RunError};
use crate::memory;
use crate::spec::Resident;
use half::{bf16, f16};
use ndarray::{Array2, ArrayBase, ArrayD, ArrayView2, ArrayViewD, Axis as NdAxis, IxDyn, ViewRepr};
use std::borrow::Cow;

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
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F16 | DType::BF16 => 2,
            DType::F32 => 4,
            DType::F64 => 8,
        }
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
    /// use keops_core::data::{DType, Element};
    /// let array = ndarray::array![[1f32, 2.0]].into_dyn();
    /// assert_eq!(f32::erase(array.view()).dtype(), DType::F32);
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
                HostView::$v(view).into()
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

/// `ArrayViewD`, in words that let [`HostView`] stand for one of a shorter life.
type View<'a, T> = ArrayBase<ViewRepr<&'a T>, IxDyn, T>;

/// A borrowed array of any shape and layout, in memory of the host.
///
/// ```
/// use keops_core::data::{Element, HostView};
/// let array = ndarray::array![[1f32, 2.0]].into_dyn();
/// let arg = f32::erase(array.view());
/// assert!(matches!(&*arg.host()?, HostView::F32(v) if v.shape() == [1, 2]));
/// # Ok::<(), keops_core::error::RunError>(())
/// ```
#[derive(Clone, Debug)]
pub enum HostView<'a> {
    /// f16
    F16(View<'a, f16>),
    /// bf16
    BF16(View<'a, bf16>),
    /// f32
    F32(View<'a, f32>),
    /// f64
    F64(View<'a, f64>),
}

/// Does the same with whatever type a [`HostView`] has.
///
/// ```
/// use keops_core::{data::Element, genred::AsArg, with_view};
/// let array = ndarray::array![[1f32, 2.0], [3.0, 4.0]];
/// let arg = array.as_arg();
/// let all = arg.host()?;
/// let largest = with_view!(&*all, v => v.iter().map(|e| e.to_f64()).fold(0.0, f64::max));
/// assert_eq!(largest, 4.0);
/// # Ok::<(), keops_core::error::RunError>(())
/// ```
#[macro_export]
macro_rules! with_view {
    ($arg:expr, $v:ident => $body:expr) => {
        match $arg {
            $crate::data::HostView::F16($v) => $body,
            $crate::data::HostView::BF16($v) => $body,
            $crate::data::HostView::F32($v) => $body,
            $crate::data::HostView::F64($v) => $body,
        }
    };
}

/// Does the same with whatever type a [`HostView`] has, and erases the type again.
macro_rules! map_view {
    ($arg:expr, $v:ident => $body:expr) => {
        match $arg {
            $crate::data::HostView::F16($v) => $crate::data::HostView::F16($body),
            $crate::data::HostView::BF16($v) => $crate::data::HostView::BF16($body),
            $crate::data::HostView::F32($v) => $crate::data::HostView::F32($body),
            $crate::data::HostView::F64($v) => $crate::data::HostView::F64($body),
        }
    };
}
pub(crate) use map_view;

impl HostView<'_> {
    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            HostView::F16(_) => DType::F16,
            HostView::BF16(_) => DType::BF16,
            HostView::F32(_) => DType::F32,
            HostView::F64(_) => DType::F64,
        }
    }
    /// Shape.
    pub fn shape(&self) -> &[usize] {
        with_view!(self, v => v.shape())
    }
    /// The same view, borrowed.
    pub fn view(&self) -> HostView<'_> {
        map_view!(self, v => v.view())
    }
}

impl<'a> HostView<'a> {
    /// Of a row-major array: the same under another shape of as many elements.
    pub(crate) fn reshaped(self, shape: &[usize]) -> Option<HostView<'a>> {
        if self.shape() == shape {
            return Some(self);
        }
        Some(map_view!(self, v => v.into_shape_with_order(IxDyn(shape)).ok()?))
    }
}

/// An argument of a call: a borrowed array of any shape and layout, or one that a device holds.
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
    /// An array in memory of the host.
    Host(HostView<'a>),
    /// An array that a device holds.
    Resident(Cow<'a, Resident>),
}

impl<'a> From<HostView<'a>> for ArgView<'a> {
    fn from(view: HostView<'a>) -> ArgView<'a> {
        ArgView::Host(view)
    }
}

/// A [`HostView`], or a reference to one.
///
/// ```
/// use keops_core::genred::AsArg;
/// let x = ndarray::array![[1.0, 2.0, 3.0]];
/// assert_eq!(x.as_arg().host()?.shape(), [1, 3]);
/// # Ok::<(), keops_core::error::RunError>(())
/// ```
pub enum OnHost<'s> {
    /// The view of an argument.
    Given(&'s HostView<'s>),
    /// The view of an array that a device holds in memory of the host.
    Made(HostView<'s>),
}
impl<'s> std::ops::Deref for OnHost<'s> {
    type Target = HostView<'s>;
    fn deref(&self) -> &HostView<'s> {
        match self {
            OnHost::Given(view) => view,
            OnHost::Made(view) => view,
        }
    }
}

impl<'s> OnHost<'s> {
    /// The view.
    pub fn into_view(self) -> HostView<'s> {
        match self {
            OnHost::Given(view) => view.view(),
            OnHost::Made(view) => view,
        }
    }
}

impl ArgView<'_> {
    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            ArgView::Host(v) => v.dtype(),
            ArgView::Resident(r) => r.dtype(),
        }
    }
    /// Shape.
    ///
    /// ```
    /// use keops_core::genred::AsArg;
    /// assert_eq!(ndarray::array![[1.0, 2.0, 3.0]].as_arg().shape(), [1, 3]);
    /// ```
    pub fn shape(&self) -> &[usize] {
        match self {
            ArgView::Host(v) => v.shape(),
            ArgView::Resident(r) => r.shape(),
        }
    }
    /// The same argument, borrowed.
    pub fn view(&self) -> ArgView<'_> {
        match self {
            ArgView::Host(v) => ArgView::Host(v.view()),
            ArgView::Resident(r) => ArgView::Resident(Cow::Borrowed(r)),
        }
    }
    /// The same with one more axis, of extent 1, after the others.
    pub fn into_column(self) -> Self {
        match self {
            ArgView::Host(view) => ArgView::Host(map_view!(view, v => {
                let last = NdAxis(v.ndim());
                v.insert_axis(last)
            })),
            ArgView::Resident(r) => {
                let column = r.reshaped(&[r.shape(), &[1]].concat());
                ArgView::Resident(Cow::Owned(column))
            }
        }
    }
    /// The same without its first axis, which has extent 1.
    pub(crate) fn without_first_axis(self) -> Self {
        match self {
            ArgView::Host(view) => {
                ArgView::Host(map_view!(view, v => v.index_axis_move(NdAxis(0), 0)))
            }
            ArgView::Resident(r) => {
                let rest = r.reshaped(&r.shape()[1..]);
                ArgView::Resident(Cow::Owned(rest))
            }
        }
    }
    /// The array that a device holds, if it is one.
    pub fn resident(&self) -> Option<&Resident> {
        match self {
            ArgView::Host(_) => None,
            ArgView::Resident(r) => Some(r),
        }
    }
    /// The array in memory of the host. What a device holds elsewhere is copied when that is asked
    /// for first, and the copy is kept with it.
    ///
    /// # Errors
    /// [`RunError`] if there is no memory for the copy or if the device fails.
    pub fn host(&self) -> Result<OnHost<'_>, RunError> {
        match self {
            ArgView::Host(v) => Ok(OnHost::Given(v)),
            ArgView::Resident(r) => r.host().map(OnHost::Made),
        }
    }
    /// The array, if it is in memory of the host already.
    pub fn on_host(&self) -> Option<OnHost<'_>> {
        match self {
            ArgView::Host(v) => Some(OnHost::Given(v)),
            ArgView::Resident(r) => r.on_host().map(OnHost::Made),
        }
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

/// Does the same with whatever type a buffer has.
macro_rules! map_buffer {
    ($arg:expr, $v:ident => $body:expr) => {
        match $arg {
            Buffer::F16($v) => Buffer::F16($body),
            Buffer::BF16($v) => Buffer::BF16($body),
            Buffer::F32($v) => Buffer::F32($body),
            Buffer::F64($v) => Buffer::F64($body),
            Buffer::I64($v) => Buffer::I64($body),
        }
    };
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
        self.host_view().map(ArgView::Host)
    }
    /// Its values; `None` for indices.
    pub fn host_view(&self) -> Option<HostView<'_>> {
        Some(match self {
            Buffer::F16(a) => HostView::F16(a.view()),
            Buffer::BF16(a) => HostView::BF16(a.view()),
            Buffer::F32(a) => HostView::F32(a.view()),
            Buffer::F64(a) => HostView::F64(a.view()),
            Buffer::I64(_) => return None,
        })
    }
    /// Element type; `None` of indices.
    pub fn dtype(&self) -> Option<DType> {
        Some(match self {
            Buffer::F16(_) => DType::F16,
            Buffer::BF16(_) => DType::BF16,
            Buffer::F32(_) => DType::F32,
            Buffer::F64(_) => DType::F64,
            Buffer::I64(_) => return None,
        })
    }
    /// Bytes of its elements.
    pub(crate) fn size_in_bytes(&self) -> usize {
        self.dtype().map_or(8, DType::bytes) * self.shape().iter().product::<usize>()
    }
    /// A row-major copy of a view.
    pub(crate) fn copy_of(view: &HostView<'_>) -> Result<Buffer, OutOfMemory> {
        let what = "the copy of an argument";
        Ok(match view {
            HostView::F16(v) => Buffer::F16(memory::mapped(v, |e| e, what)?),
            HostView::BF16(v) => Buffer::BF16(memory::mapped(v, |e| e, what)?),
            HostView::F32(v) => Buffer::F32(memory::mapped(v, |e| e, what)?),
            HostView::F64(v) => Buffer::F64(memory::mapped(v, |e| e, what)?),
        })
    }
    /// A copy, row-major.
    pub(crate) fn copied(&self, what: &str) -> Result<Buffer, OutOfMemory> {
        Ok(map_buffer!(self, a => memory::mapped(&a.view(), |v| v, what)?))
    }
    /// The same values under another shape of as many elements.
    pub(crate) fn reshaped(self, shape: &[usize]) -> Buffer {
        map_buffer!(self, a => match a.into_shape_with_order(IxDyn(shape)) {
            Ok(a) => a,
            Err(_) => unreachable!("buffers are row-major and keep their size"),
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

//! Arguments that an operator keeps: as given, widened, or held by a device; elements of batches of them.

use keops_core::data::{ArgView, Buffer, DType, Element, HostView};
use keops_core::error::RunError;
use keops_core::graph::Category;
use keops_core::spec::{Device, Resident};
use keops_core::{memory, with_view};
use ndarray::{ArrayD, ArrayViewD, Axis as NdAxis, IxDyn};
use std::sync::Arc;

/// An argument, or a copy of it: in the type in which it is computed, or where it is.
#[derive(Clone, Debug)]
pub(crate) enum BoundArg<'a> {
    Given(ArgView<'a>),
    Wide(Arc<Buffer>),
    Resident(Resident),
}

impl<'a> BoundArg<'a> {
    /// f16 and bf16 are widened, so that vectors keep the precision of the arithmetic.
    pub fn new(arg: ArgView<'a>) -> Result<BoundArg<'a>, RunError> {
        let what = "an argument in the compute type";
        let wide = match arg.dtype() {
            DType::F16 | DType::BF16 => match &*arg.host()? {
                HostView::F16(v) => memory::mapped(v, |e| e.to_f32(), what)?,
                HostView::BF16(v) => memory::mapped(v, |e| e.to_f32(), what)?,
                _ => unreachable!("the view has the type of the argument"),
            },
            _ => return Ok(BoundArg::Given(arg)),
        };
        Ok(BoundArg::Wide(Arc::new(Buffer::F32(wide))))
    }
    pub fn view(&self) -> ArgView<'_> {
        match self {
            BoundArg::Given(v) => v.view(),
            BoundArg::Wide(b) => values(b),
            BoundArg::Resident(array) => array.into(),
        }
    }
    pub fn host(&self) -> Result<HostView<'_>, RunError> {
        match self {
            BoundArg::Given(v) => Ok(v.host()?.into_view()),
            BoundArg::Wide(b) => match b.host_view() {
                Some(view) => Ok(view),
                None => unreachable!("arguments are values"),
            },
            BoundArg::Resident(array) => array.host(),
        }
    }
    /// BoundArg by a device, where that takes no more memory than the argument.
    pub fn uploaded(&self, device: &Device) -> Result<BoundArg<'_>, RunError> {
        let view = self.view();
        let repeats = match &view {
            ArgView::Host(v) => with_view!(v, v => {
                v.shape().iter().zip(v.strides()).any(|(&n, &stride)| n > 1 && stride == 0)
            }),
            ArgView::Resident(_) => false,
        };
        match repeats {
            true => Ok(BoundArg::Given(view)),
            false => device.upload_view(&view).map(BoundArg::Resident),
        }
    }
}

/// The values of an argument in f64, row-major and broadcast to `shape`; `None` if they do not fit
/// it.
pub(crate) fn wide(
    arg: &ArgView<'_>,
    shape: &[usize],
    what: &str,
) -> Result<Option<ArrayD<f64>>, RunError> {
    with_view!(&*arg.host()?, v => {
        let all = v.broadcast(IxDyn(shape));
        Ok(all.map(|all| memory::mapped(&all, |e| e.to_f64(), what)).transpose()?)
    })
}

/// An element of a batch, of an argument of that category.
pub(crate) fn batch_element<'v>(
    arg: HostView<'v>,
    category: Category,
    index: &[usize],
) -> HostView<'v> {
    let own = if category == Category::Param { 1 } else { 2 };
    match arg {
        HostView::F16(v) => HostView::F16(element_of(v, own, index)),
        HostView::BF16(v) => HostView::BF16(element_of(v, own, index)),
        HostView::F32(v) => HostView::F32(element_of(v, own, index)),
        HostView::F64(v) => HostView::F64(element_of(v, own, index)),
    }
}
/// An element of a batch, whose arrays have this many axes of their own.
fn element_of<'v, T>(mut v: ArrayViewD<'v, T>, own: usize, index: &[usize]) -> ArrayViewD<'v, T> {
    while v.ndim() > own {
        let at = index[index.len() - (v.ndim() - own)];
        let at = if v.shape()[0] == 1 { 0 } else { at };
        v.index_axis_inplace(NdAxis(0), at);
    }
    v
}

pub(crate) fn values(buffer: &Buffer) -> ArgView<'_> {
    match buffer.view() {
        Some(v) => v,
        None => unreachable!("vectors are values"),
    }
}

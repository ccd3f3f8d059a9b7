//! Values while a computation runs.

use crate::data::{ArgView, Buffer, DType, Element, HostView, map_view};
use crate::error::{OutOfMemory, RunError};
use crate::memory;
use crate::with_view;
use ndarray::{ArrayD, Axis as NdAxis, IxDyn, Slice};
use std::borrow::Cow;
use std::sync::Arc;

/// A value while a computation runs.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub(super) held: Origin<'a>,
    /// `(start, step, count)`: only these components, `start, start + step, …`.
    pub(super) columns: Option<(usize, usize, usize)>,
}
#[derive(Clone)]
pub(super) enum Origin<'a> {
    Given(ArgView<'a>),
    Made(Arc<Buffer>),
}

impl<'a> Value<'a> {
    pub(super) fn made(buffer: Buffer) -> Value<'a> {
        Value { held: Origin::Made(Arc::new(buffer)), columns: None }
    }
    /// Values as an argument; `None` for indices.
    pub(super) fn view(&self) -> Option<ArgView<'_>> {
        if let (Origin::Given(a), None) = (&self.held, self.columns) {
            return Some(a.view());
        }
        self.host().map(ArgView::Host)
    }
    /// Sees to it that the value is in memory of the host.
    pub(super) fn load(&self) -> Result<(), RunError> {
        match &self.held {
            Origin::Given(ArgView::Resident(r)) => r.load(),
            _ => Ok(()),
        }
    }
    /// Values in memory of the host, where what a device holds was loaded; `None` for indices.
    pub(super) fn host(&self) -> Option<HostView<'_>> {
        let all = match &self.held {
            Origin::Given(ArgView::Host(v)) => v.view(),
            Origin::Given(ArgView::Resident(r)) => r.on_host()?,
            Origin::Made(b) => b.host_view()?,
        };
        let Some((start, step, len)) = self.columns else { return Some(all) };
        let slice = Slice::new(
            start as isize,
            Some((start + (len - 1) * step + 1) as isize),
            step as isize,
        );
        Some(map_view!(all, v => {
            let mut v = v;
            let last = NdAxis(v.ndim() - 1);
            v.slice_axis_inplace(last, slice);
            v
        }))
    }
    pub(super) fn indices(&self) -> Option<&ArrayD<i64>> {
        match &self.held {
            Origin::Made(b) => b.indices(),
            Origin::Given(_) => None,
        }
    }
    /// An owned buffer of type `dtype` (indices stay indices), row-major.
    pub(super) fn into_buffer(self, dtype: DType, what: &str) -> Result<Buffer, RunError> {
        if let Some(v) = self.host()
            && (self.columns.is_some()
                || v.dtype() != dtype
                || matches!(self.held, Origin::Given(_)))
        {
            return convert(&v, dtype, what);
        }
        match self.held {
            Origin::Made(b) => Arc::try_unwrap(b).or_else(|shared| Ok(shared.copied(what)?)),
            Origin::Given(_) => unreachable!("arguments are values"),
        }
    }
}

pub(super) fn zeros(dtype: DType, shape: &[usize], what: &str) -> Result<Buffer, RunError> {
    Buffer::zeros(Some(dtype), shape).ok_or_else(|| RunError::OutOfMemory {
        what: what.into(),
        bytes: shape.iter().fold(8usize, |a, &b| a.saturating_mul(b)),
    })
}

/// A row-major copy in the given compute type.
pub(super) fn convert(view: &HostView<'_>, dtype: DType, what: &str) -> Result<Buffer, RunError> {
    pub(super) fn copy<O: Element>(out: &mut ArrayD<O>, view: &HostView<'_>) {
        with_view!(view, v => out.zip_mut_with(v, |o, x| *o = O::of_f64(x.to_f64())));
    }
    let mut out = zeros(dtype, view.shape(), what)?;
    match &mut out {
        Buffer::F32(o) => copy(o, view),
        Buffer::F64(o) => copy(o, view),
        _ => unreachable!("compute types are f32 and f64"),
    }
    Ok(out)
}

/// Merges the last axes of an argument, those of one row, into one.
pub(super) fn flatten_rows<'a>(arg: &ArgView<'a>, row: usize) -> Result<Value<'a>, OutOfMemory> {
    macro_rules! flat {
        ($v:expr, $kind:ident) => {{
            let lead = $v.ndim() - row;
            let mut shape = $v.shape()[..lead].to_vec();
            shape.push($v.shape()[lead..].iter().product());
            match $v.clone().into_shape_with_order(IxDyn(&shape)) {
                Ok(v) => Value { held: Origin::Given(HostView::$kind(v).into()), columns: None },
                Err(_) => {
                    let copy = memory::collected($v.iter().copied(), "an argument's rows")?;
                    match ArrayD::from_shape_vec(IxDyn(&shape), copy) {
                        Ok(a) => Value::made(Buffer::$kind(a)),
                        Err(_) => unreachable!("merging axes keeps the size"),
                    }
                }
            }
        }};
    }
    if row == 1 {
        return Ok(Value { held: Origin::Given(arg.clone()), columns: None });
    }
    Ok(match arg {
        ArgView::Host(HostView::F16(v)) => flat!(v, F16),
        ArgView::Host(HostView::BF16(v)) => flat!(v, BF16),
        ArgView::Host(HostView::F32(v)) => flat!(v, F32),
        ArgView::Host(HostView::F64(v)) => flat!(v, F64),
        ArgView::Resident(r) => {
            let (lead, last) = r.shape().split_at(r.shape().len() - row);
            let flat = r.reshaped(&[lead, &[last.iter().product()]].concat());
            Value { held: Origin::Given(ArgView::Resident(Cow::Owned(flat))), columns: None }
        }
    })
}

/// Sums in f64, rounded once to the compute type.
pub(super) fn rounded(sums: Buffer, dtype: DType) -> Result<Buffer, OutOfMemory> {
    Ok(match dtype {
        DType::F64 => sums,
        _ => Buffer::F32(f32::take(sums)?),
    })
}

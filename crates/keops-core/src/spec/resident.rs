//! Arrays that a device holds.

use super::{Device, DeviceId};
use crate::data::{ArgView, Buffer, DType, HostView};
use crate::error::{InputError, RunError};
use ndarray::IxDyn;
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// What a backend keeps of an array that it holds; [`Backend::upload`](super::Backend::upload)
/// makes it. It never changes, so that it may also hold what the backend derives from it, as
/// packed columns.
///
/// ```
/// use keops_core::{data::Buffer, spec::Held};
/// let held: Box<dyn Held> = Box::new(Buffer::F32(ndarray::ArrayD::zeros(vec![10, 3])));
/// assert!(held.host().is_some() && held.bytes() == 120);
/// ```
pub trait Held: Any + Send + Sync {
    /// The array, if it lies in memory of the host.
    fn host(&self) -> Option<&Buffer>;
    /// A copy in memory of the host.
    ///
    /// # Errors
    /// [`RunError`] if there is no memory for it or if the device fails.
    fn fetch(&self) -> Result<Buffer, RunError>;
    /// Bytes that it takes now, derived forms included.
    fn bytes(&self) -> usize;
}

/// An array in memory of the host, of a backend that keeps nothing beside it.
impl Held for Buffer {
    fn host(&self) -> Option<&Buffer> {
        Some(self)
    }
    fn fetch(&self) -> Result<Buffer, RunError> {
        Ok(self.copied("a copy of an array")?)
    }
    fn bytes(&self) -> usize {
        self.size_in_bytes()
    }
}

/// An array of values that a device holds, row-major, of any element type. Clones share it; the
/// memory is freed with the last one. [`DeviceArray`](crate::resident::DeviceArray) is one of a known
/// element type.
///
/// ```
/// use keops_core::{data::DType, interp::Interpreter, spec::Device};
/// let device = Device::new(Interpreter::new());
/// let x = device.upload(ndarray::array![[1.0f32, 2.0, 3.0]])?;
/// assert_eq!((x.resident().dtype(), x.resident().shape()), (DType::F32, &[1, 3][..]));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone)]
pub struct Resident {
    shared: Arc<Shared>,
    shape: IxDyn,
}

struct Shared {
    held: Arc<dyn Held>,
    device: DeviceId,
    dtype: DType,
    /// The copy that a step on the host needed.
    loaded: OnceLock<Buffer>,
}

impl fmt::Debug for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resident({} {:?} of {})", self.dtype().name(), self.shape(), self.place())
    }
}

impl Resident {
    /// What the backend of `device` made; the array has that type and shape.
    pub(crate) fn new(held: Arc<dyn Held>, device: &Device, dtype: DType, shape: IxDyn) -> Self {
        let shared = Shared { held, device: device.id(), dtype, loaded: OnceLock::new() };
        Resident { shared: Arc::new(shared), shape }
    }
    /// Element type.
    pub fn dtype(&self) -> DType {
        self.shared.dtype
    }
    /// Shape.
    pub fn shape(&self) -> &[usize] {
        ndarray::Dimension::slice(&self.shape)
    }
    /// Bytes that it takes now, with all that the backend keeps of it.
    pub fn bytes(&self) -> usize {
        self.shared.held.bytes() + self.shared.loaded.get().map_or(0, Buffer::size_in_bytes)
    }
    /// What the backend keeps: backends downcast it ([`Any`]) to their own type.
    pub fn held(&self) -> &dyn Held {
        &*self.shared.held
    }
    /// The name of the backend that holds it.
    pub fn place(&self) -> String {
        self.shared.device.name()
    }
    /// A copy in memory of the host.
    ///
    /// # Errors
    /// [`RunError`] if there is no memory for it or if the device fails.
    pub fn to_host(&self) -> Result<Buffer, RunError> {
        let copy = match self.shared.loaded.get() {
            Some(loaded) => loaded.copied("a copy of an array")?,
            None => self.shared.held.fetch()?,
        };
        Ok(copy.reshaped(self.shape()))
    }
    /// The array in memory of the host: see [`ArgView::host`].
    ///
    /// # Errors
    /// [`RunError`] if there is no memory for a copy or if the device fails.
    pub fn host(&self) -> Result<HostView<'_>, RunError> {
        self.load()?;
        match self.on_host() {
            Some(view) => Ok(view),
            None => unreachable!("it was loaded"),
        }
    }
    /// The array, if it lies in memory of the host or was loaded.
    pub(crate) fn on_host(&self) -> Option<HostView<'_>> {
        let buffer = self.shared.held.host().or_else(|| self.shared.loaded.get())?;
        buffer.host_view()?.reshaped(self.shape())
    }
    /// Sees to it that the array is in memory of the host, for a step that runs there.
    pub(crate) fn load(&self) -> Result<(), RunError> {
        if self.on_host().is_none() {
            let copy = self.shared.held.fetch()?;
            self.shared.loaded.get_or_init(|| copy);
        }
        Ok(())
    }
    /// The same values under another shape of as many elements.
    pub(crate) fn reshaped(&self, shape: &[usize]) -> Resident {
        debug_assert_eq!(shape.iter().product::<usize>(), self.shape().iter().product::<usize>());
        Resident { shared: self.shared.clone(), shape: IxDyn(shape) }
    }
    /// Is it an array of this device?
    pub(crate) fn check(&self, name: &str, device: &Device) -> Result<(), InputError> {
        if self.shared.device == *device {
            return Ok(());
        }
        Err(InputError::Elsewhere {
            name: name.into(),
            held: self.place(),
            runs: device.backend().name().into(),
        })
    }
}

impl<'a> From<&'a Resident> for ArgView<'a> {
    fn from(resident: &'a Resident) -> ArgView<'a> {
        ArgView::Resident(Cow::Borrowed(resident))
    }
}

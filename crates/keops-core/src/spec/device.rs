//! A backend with what it has compiled.

use super::cache::{Cache, Loaded};
use super::{Backend, Executable, ReduceSpec, Resident};
use crate::data::{ArgView, Buffer};
use crate::error::{CompileError, RunError};
use crate::key::{self, Key};
use crate::outer::Computation;
use ndarray::IxDyn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

/// What the clones of a device share.
struct Shared {
    backend: Box<dyn Backend>,
    /// Compiled reductions, and computations of formulas made by operators, which are made anew for
    /// every call and prepared once.
    cache: RwLock<Cache>,
    /// Number of insertions: the time by which uses are told apart.
    time: AtomicU64,
}

/// Bytes of compiled code and prepared computations that a device keeps unless
/// [`Device::set_cache_limit`] says otherwise: 256 MiB.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::{CACHE_LIMIT, Device}};
/// assert_eq!(Device::new(Interpreter::new()).cache_limit(), CACHE_LIMIT);
/// ```
pub const CACHE_LIMIT: usize = 256 << 20;

/// A backend with its cache of compiled reductions. Cheap to clone; clones share the cache.
///
/// ```
/// use keops_core::spec::{Axis, Device};
/// use keops_core::{genred::Genred, interp::Interpreter, reduce::SUM};
/// let device = Device::new(Interpreter::new());
/// for _ in 0..10 {
///     let sum: Genred = Genred::new("Exp(y)", ["y = Vj(1)"], &SUM, Axis::J)?;
///     sum.at(device.clone()).call((&ndarray::array![[1.0], [2.0]],))?;
/// }
/// assert_eq!(device.cached(), 1); // compiled once
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone)]
pub struct Device {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("backend", &self.backend().name()).finish()
    }
}

/// Clones of one device are equal.
impl PartialEq for Device {
    fn eq(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}
impl Eq for Device {}

/// Which device it was, without keeping it.
pub(crate) struct DeviceId(Weak<Shared>);

impl PartialEq<Device> for DeviceId {
    fn eq(&self, device: &Device) -> bool {
        // The place is not used again while this refers to it.
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&device.shared))
    }
}

impl DeviceId {
    /// The name of its backend.
    pub fn name(&self) -> String {
        let alive = self.0.upgrade();
        alive.map_or("a device that is gone".into(), |shared| shared.backend.name().into())
    }
}

impl Device {
    /// A device over a backend.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// let (a, b) = (Device::new(Interpreter::new()), Device::new(Interpreter::new()));
    /// assert!(a == a.clone() && a != b); // caches of their own
    /// ```
    pub fn new(backend: impl Backend + 'static) -> Device {
        let (cache, time) = (RwLock::new(Cache::new(CACHE_LIMIT)), AtomicU64::new(0));
        Device { shared: Arc::new(Shared { backend: Box::new(backend), cache, time }) }
    }
    pub(crate) fn id(&self) -> DeviceId {
        DeviceId(Arc::downgrade(&self.shared))
    }
    /// The backend.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// assert_eq!(Device::new(Interpreter::new()).backend().name(), "interpreter");
    /// ```
    pub fn backend(&self) -> &dyn Backend {
        &*self.shared.backend
    }
    /// An array of values, held by this device from now on.
    ///
    /// # Errors
    /// [`RunError`] if the device has no memory for it, or fails.
    pub(crate) fn hold(&self, values: Buffer) -> Result<Resident, RunError> {
        let Some(dtype) = values.dtype() else { unreachable!("indices are not uploaded") };
        let shape = IxDyn(values.shape());
        Ok(Resident::new(self.backend().upload(values)?, self, dtype, shape))
    }
    /// An argument, held by this device from now on: a copy, or the same if the device holds it already.
    /// [`Device::upload`] does it with arrays.
    ///
    /// # Errors
    /// [`RunError`] if there is no memory for it or if the device fails.
    pub fn upload_view(&self, arg: &ArgView<'_>) -> Result<Resident, RunError> {
        match arg.resident() {
            Some(held) if held.check("", self).is_ok() => Ok(held.clone()),
            Some(held) => self.hold(held.to_host()?),
            None => self.hold(Buffer::copy_of(&*arg.host()?)?),
        }
    }
    /// Compiles, or finds what was compiled before. Of several threads that ask for one reduction
    /// at once the first compiles, and the others wait for it. Failures are not kept.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # use keops_core::genred::AsArg;
    /// # use keops_core::{interp::Interpreter, spec::{Backend, CheckedArgs, Device}};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM); // of f32, over j
    /// let x = ndarray::Array4::<f32>::zeros((4, 3, 10, 2)); // two batch axes, 10 rows
    /// let y = ndarray::Array2::<f32>::zeros((7, 2));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// let device = Device::new(Interpreter::new());
    /// let (first, second) = (device.compile(&spec)?, device.compile(&spec)?);
    /// assert!(std::sync::Arc::ptr_eq(&first, &second));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`CompileError`] from the backend.
    pub fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
        self.compile_held(spec).map(|held| held.executable.clone())
    }
    /// As [`Device::compile`]. What was dropped from the cache is gone once nobody runs it.
    pub(crate) fn compile_held(&self, spec: &ReduceSpec) -> Result<Arc<Loaded>, CompileError> {
        let key = key::of(spec);
        let known = self.cache().slot(&key);
        let slot = known.unwrap_or_else(|| self.cache_mut().insert_slot(key.clone()));
        let mut new = false;
        let make = || {
            new = true;
            self.backend().compile(spec).map(|executable| Arc::new(Loaded::new(executable)))
        };
        let made = slot.get_or_init(make).clone();
        match &made {
            Ok(held) if new => {
                let now = self.shared.time.fetch_add(1, Ordering::Relaxed) + 1;
                held.touch(now);
                self.cache_mut().grown(held.executable.bytes());
            }
            Ok(held) => self.touch(held),
            Err(_) => self.cache_mut().remove_slot(&key, &slot),
        }
        made
    }
    /// A compiled reduction of this device is about to be run.
    pub(crate) fn touch(&self, held: &Loaded) {
        held.touch(self.shared.time.load(Ordering::Relaxed));
    }
    // A poisoned lock only means that another thread panicked; the cache itself is whole.
    fn cache(&self) -> RwLockReadGuard<'_, Cache> {
        self.shared.cache.read().unwrap_or_else(|p| p.into_inner())
    }
    fn cache_mut(&self) -> RwLockWriteGuard<'_, Cache> {
        self.shared.cache.write().unwrap_or_else(|p| p.into_inner())
    }
    /// Bytes of compiled code and prepared computations that the device keeps at most.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// let device = Device::new(Interpreter::new());
    /// device.set_cache_limit(1 << 20);
    /// assert_eq!(device.clone().cache_limit(), 1 << 20); // clones share it
    /// ```
    pub fn cache_limit(&self) -> usize {
        self.cache().limit()
    }
    /// Limits what is kept to about this many bytes: what was used least recently is dropped, and compiled
    /// again where it is needed. A reduction that takes more by itself is not kept beyond its run.
    ///
    /// ```
    /// use keops_core::spec::{Axis, Device};
    /// use keops_core::{genred::Genred, interp::Interpreter, reduce::SUM};
    /// let device = Device::new(Interpreter::new());
    /// device.set_cache_limit(100_000);
    /// for k in 0..1000 {
    ///     let sum: Genred = Genred::new(&format!("y + {k}"), ["y = Vj(1)"], &SUM, Axis::J)?;
    ///     sum.at(device.clone()).call((&ndarray::array![[1.0], [2.0]],))?;
    /// }
    /// assert!(device.cached() < 1000 && device.cache_bytes() <= 100_000);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn set_cache_limit(&self, bytes: usize) {
        self.cache_mut().set_limit(bytes);
    }
    /// Bytes of compiled code and prepared computations that are kept, about.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// assert_eq!(Device::new(Interpreter::new()).cache_bytes(), 0);
    /// ```
    pub fn cache_bytes(&self) -> usize {
        self.cache().bytes()
    }
    /// Number of compiled reductions in the cache.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// assert_eq!(Device::new(Interpreter::new()).cached(), 0);
    /// ```
    pub fn cached(&self) -> usize {
        self.cache().compiled()
    }
    /// The computation of a key: the one of an earlier call, or what `make` gives.
    pub(crate) fn computation<E>(
        &self,
        key: Key,
        make: impl FnOnce() -> Result<Computation, E>,
    ) -> Result<Arc<Computation>, E> {
        let now = self.shared.time.load(Ordering::Relaxed);
        if let Some(c) = self.cache().computation(&key, now) {
            return Ok(c);
        }
        let made = Arc::new(make()?);
        let now = self.shared.time.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(self.cache_mut().insert_computation(key, made, now))
    }
}

//! A backend with what it has compiled.

use super::{Backend, Executable, ReduceSpec};
use crate::error::CompileError;
use crate::key::{self, Key};
use crate::outer::Computation;
use hashbrown::HashMap;
use std::sync::{Arc, RwLock, Weak};

/// What was compiled, once somebody has done it.
type Slot = Arc<std::sync::OnceLock<Result<Arc<dyn Executable>, CompileError>>>;
/// Compiled reductions by their keys, which are compared on a hit.
type Cache = HashMap<Key, Slot>;

/// What the clones of a device share.
struct Shared {
    backend: Box<dyn Backend>,
    compiled: RwLock<Cache>,
    /// Computations of formulas made by operators, by their keys: made anew for every call, they
    /// are prepared once.
    computations: RwLock<HashMap<Key, Arc<Computation>>>,
}

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

/// Compiled reductions that a device keeps; beyond it the cache starts anew.
const CACHE_ENTRIES: usize = 4096;

impl Device {
    /// A device over a backend.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// let (a, b) = (Device::new(Interpreter::new()), Device::new(Interpreter::new()));
    /// assert!(a == a.clone() && a != b); // caches of their own
    /// ```
    pub fn new(backend: impl Backend + 'static) -> Device {
        let (compiled, computations) = Default::default();
        Device { shared: Arc::new(Shared { backend: Box::new(backend), compiled, computations }) }
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
        let key = key::of(spec);
        // A poisoned lock only means that another thread panicked; the map itself is whole.
        let cache = &self.shared.compiled;
        let known = cache.read().unwrap_or_else(|p| p.into_inner()).get(&key).cloned();
        let slot = known.unwrap_or_else(|| {
            let mut cache = cache.write().unwrap_or_else(|p| p.into_inner());
            if cache.len() >= CACHE_ENTRIES && !cache.contains_key(&key) {
                cache.clear();
            }
            cache.entry(key.clone()).or_default().clone()
        });
        let made = slot.get_or_init(|| self.backend().compile(spec)).clone();
        if made.is_err() {
            let mut cache = cache.write().unwrap_or_else(|p| p.into_inner());
            if cache.get(&key).is_some_and(|s| Arc::ptr_eq(s, &slot)) {
                cache.remove(&key);
            }
        }
        made
    }
    /// Number of compiled reductions in the cache.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// assert_eq!(Device::new(Interpreter::new()).cached(), 0);
    /// ```
    pub fn cached(&self) -> usize {
        self.shared.compiled.read().unwrap_or_else(|p| p.into_inner()).len()
    }
    /// The computation of a key: the one of an earlier call, or what `make` gives.
    pub(crate) fn computation<E>(
        &self,
        key: Key,
        make: impl FnOnce() -> Result<Computation, E>,
    ) -> Result<Arc<Computation>, E> {
        let all = &self.shared.computations;
        if let Some(c) = all.read().unwrap_or_else(|p| p.into_inner()).get(&key) {
            return Ok(c.clone());
        }
        let made = Arc::new(make()?);
        let mut all = all.write().unwrap_or_else(|p| p.into_inner());
        if all.len() >= CACHE_ENTRIES {
            all.clear();
        }
        Ok(all.entry(key).or_insert(made).clone())
    }
}

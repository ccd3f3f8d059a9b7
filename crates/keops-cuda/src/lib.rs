//! Kernel reductions on NVIDIA GPUs: CUDA C++ is generated from the same programs that the CPU
//! backend compiles, and NVRTC makes machine code of it for the device at hand.
//!
//! Nothing of CUDA is needed to build this crate or to start a program that uses it: where driver,
//! device or compiler are missing, [`Cuda::check`](keops_core::spec::Backend::check) says so.

pub mod codegen;
mod device;
mod layout;
pub mod nvrtc;
#[cfg(test)]
mod tests;

pub use codegen::Tuning;

use codegen::generate;
use device::Gpu;
use keops_core::data::Buffer;
use keops_core::error::{CompileError, RunError};
use keops_core::spec::{Backend, Executable, Held, ReduceSpec, Unavailable};
use nvrtc::Nvrtc;
use std::sync::{Arc, OnceLock};

/// The CUDA backend: one device.
///
/// ```
/// use keops_core::genred::Genred;
/// use keops_core::spec::{Axis, Backend, Device};
/// use keops_core::reduce::SUM;
/// use keops_cuda::Cuda;
/// use ndarray::array;
///
/// let g: Genred = Genred::new("x * y", &["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
/// let (x, y) = (array![[1.0_f32], [2.0]], array![[3.0_f32], [4.0]]);
/// let cuda = Cuda::new();
/// match cuda.check() {
///     Ok(()) => {
///         let out = g.at(Device::new(cuda)).call((&x, &y))?;
///         assert_eq!(out, array![[7.0], [14.0]].into_dyn());
///     }
///     // Without a GPU it says why, and what runs on it is an error.
///     Err(e) => {
///         println!("{e}");
///         assert!(g.at(Device::new(cuda)).call((&x, &y)).is_err());
///     }
/// }
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cuda {
    ordinal: usize,
    tuning: Tuning,
    opened: Arc<OnceLock<Result<Opened, Unavailable>>>,
}

#[derive(Debug)]
struct Opened {
    gpu: Gpu,
    nvrtc: Nvrtc,
}

impl Cuda {
    /// The first device. It is opened when it is first needed.
    ///
    /// ```
    /// use keops_core::spec::Backend;
    /// assert_eq!(keops_cuda::Cuda::new().name(), "cuda");
    /// ```
    pub fn new() -> Cuda {
        Cuda::default()
    }
    /// The device of this number, counted from 0. It is opened when it is first needed.
    ///
    /// ```
    /// use keops_core::spec::Backend;
    /// use keops_cuda::Cuda;
    /// // No machine has this many.
    /// let e = Cuda::with_device(1000).check().unwrap_err();
    /// assert_eq!(e.backend, "cuda");
    /// ```
    pub fn with_device(ordinal: usize) -> Cuda {
        Cuda { ordinal, ..Cuda::default() }
    }
    /// The same device, with some choices of the code generator forced.
    ///
    /// ```
    /// use keops_core::spec::Backend;
    /// use keops_cuda::{Cuda, Tuning};
    /// let cuda = Cuda::new();
    /// let staged = cuda.with_tuning(Tuning { staged: Some(true), ..Tuning::default() });
    /// // Where there is a device, it is another target: code is kept apart.
    /// assert_eq!(cuda.check().is_ok(), staged.target() != cuda.target());
    /// ```
    pub fn with_tuning(&self, tuning: Tuning) -> Cuda {
        Cuda { tuning, ..self.clone() }
    }
    fn open(&self) -> Result<&Opened, Unavailable> {
        let made = self.opened.get_or_init(|| {
            let gpu = Gpu::open(self.ordinal)?;
            Ok(Opened { gpu, nvrtc: Nvrtc::load()? })
        });
        made.as_ref().map_err(Unavailable::clone)
    }
}

impl Backend for Cuda {
    fn name(&self) -> &str {
        "cuda"
    }
    fn check(&self) -> Result<(), Unavailable> {
        self.open().map(|_| ())
    }
    fn target(&self) -> String {
        match self.open() {
            Ok(o) => {
                let (major, minor) = o.nvrtc.version();
                format!("cuda {} nvrtc {major}.{minor} {:?}", o.gpu.architecture(), self.tuning)
            }
            Err(_) => "cuda".into(),
        }
    }
    fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
        let opened = self
            .open()
            .map_err(|u| CompileError::Unsupported { backend: "cuda".into(), reason: u.reason })?;
        let code = generate(spec, self.tuning)?;
        let binary = opened.nvrtc.compile(&code.text(), opened.gpu.architecture())?;
        Ok(Arc::new(opened.gpu.load(spec, code, binary.cubin)?))
    }
    fn upload(&self, values: Buffer) -> Result<Arc<dyn Held>, RunError> {
        let failed =
            |u: Unavailable| RunError::Device { backend: "cuda".into(), message: u.reason };
        self.open().map_err(failed)?.gpu.upload(&values)
    }
}

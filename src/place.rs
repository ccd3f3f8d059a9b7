//! Where reductions run unless they are told.

use keops_core::genred::Place;
use keops_core::spec::Device;
use std::sync::OnceLock;

/// Chooses the device by what the machine has and by the size of the problem: an NVIDIA GPU for
/// large problems where there is one (feature `cuda`), else the CPU (feature `cpu`), else the
/// reference interpreter.
///
/// Compiled reductions are kept for the whole process. [`keops_core::genred::Genred::at`] runs
/// elsewhere.
///
/// ```
/// use keops::prelude::*;
/// use keops_core::genred::Place;
/// use ndarray::array;
/// let sum = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], Sum, Over::J)?; // runs at `Auto`
/// assert_eq!(sum.call((&array![[2.0]], &array![[3.0], [4.0]]))?, array![[14.0]].into_dyn());
/// let device = Auto.device(2); // where that was
/// assert_eq!(sum.at(device.clone()).call((&array![[2.0]], &array![[3.0]]))?[[0, 0]], 6.0);
/// assert!(device.cached() > 0);
/// # Ok::<(), keops::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Auto;

/// Pairs of rows from which the GPU is chosen. Compiling for it takes some tenths of a second,
/// about as long as a CPU needs for this many pairs.
#[cfg(feature = "cuda")]
const GPU_PAIRS: u64 = 1 << 28;

impl Place for Auto {
    fn device(&self, pairs: u64) -> Device {
        #[cfg(feature = "cuda")]
        if pairs >= GPU_PAIRS
            && let Some(gpu) = gpu()
        {
            return gpu.clone();
        }
        let _ = pairs;
        cpu().clone()
    }
}

#[cfg(feature = "cuda")]
fn gpu() -> Option<&'static Device> {
    use keops_core::spec::Backend;
    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    let open = || {
        let cuda = keops_cuda::Cuda::new();
        cuda.check().is_ok().then(|| Device::new(cuda))
    };
    GPU.get_or_init(open).as_ref()
}

fn cpu() -> &'static Device {
    static CPU: OnceLock<Device> = OnceLock::new();
    CPU.get_or_init(|| {
        #[cfg(feature = "cpu")]
        return Device::new(keops_cpu::Cpu::new());
        #[cfg(not(feature = "cpu"))]
        return Device::new(keops_core::interp::Interpreter::new());
    })
}

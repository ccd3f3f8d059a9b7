//! A place for tests that name a device.

use keops_core::genred::Place;
use keops_core::spec::Device;
use keops_cpu::Cpu;

/// That device, whatever the work; the best level of the CPU by default.
#[derive(Clone)]
pub struct At(pub Device);
impl Place for At {
    fn device(&self, _: u64) -> Device {
        self.0.clone()
    }
}
impl Default for At {
    fn default() -> At {
        At(Device::new(Cpu::new()))
    }
}

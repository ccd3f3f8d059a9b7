//! What the judges share: devices in turn, and runs over many cases.

use crate::derivatives::Planted;
use keops::cpu::{Cpu, Level};
use keops_core::interp::Interpreter;
use keops_core::spec::Device;
use rayon::prelude::*;

/// Devices in turn: the best level, AVX2, the portable level, the interpreter.
pub struct Devices {
    devices: [Device; 4],
    /// A fault in keops, to judge the judge.
    pub planted: Planted,
}

impl Default for Devices {
    fn default() -> Devices {
        let levels = Level::available();
        let at = |l: Level| Device::new(Cpu::with_level(l).unwrap_or_else(|_| Cpu::new()));
        let best = at(*levels.last().unwrap_or(&Level::Portable));
        let middle = at(levels.get(1).copied().unwrap_or(Level::Portable));
        let interpreter = Device::new(Interpreter::new());
        let devices = [best, middle, at(Level::Portable), interpreter];
        Devices { devices, planted: Planted::default() }
    }
}

impl Devices {
    pub(crate) fn at(&self, number: usize) -> &Device {
        &self.devices[number]
    }
}

/// What a run counts.
pub(crate) trait Count: Default + Send {
    fn add(self, other: Self) -> Self;
}

/// Judges cases by their numbers, some at once.
pub(crate) fn each<T: Count>(cases: u64, judge: impl Fn(u64, &Devices, &mut T) + Sync) -> T {
    const CHUNK: u64 = 500;
    let chunks: Vec<u64> = (0..cases.div_ceil(CHUNK)).collect();
    let of = |chunk: u64| {
        // What was compiled is let go of with the chunk.
        let (devices, mut tally) = (Devices::default(), T::default());
        let numbers = chunk * CHUNK..((chunk + 1) * CHUNK).min(cases);
        numbers.for_each(|number| judge(number, &devices, &mut tally));
        tally
    };
    chunks.into_par_iter().map(of).reduce(T::default, T::add)
}

//! What the fuzz target `run` of `fuzz/` does with its bytes, shared with the test that replays the
//! committed corpus.

use keops_core::conformance::{Case, judge};
use keops_core::interp::evaluate_with_bounds;
use keops_core::spec::Device;
use keops_cpu::{Cpu, Level};
use std::sync::LazyLock;

/// Every level of this processor.
static DEVICES: LazyLock<Vec<(Level, Device)>> = LazyLock::new(|| {
    let device = |l| (l, Device::new(Cpu::with_level(l).expect("available")));
    Level::available().into_iter().map(device).collect()
});

/// Reads any bytes as a case of the conformance suite (a formula, a reduction, small data) and
/// compares every level with the error bounds of the reference interpreter.
pub fn run(data: &[u8]) {
    let number = |b: &[u8]| b.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) % (1 << 20);
    let mut numbers = data.chunks(3).map(number);
    let header = (0..16).map(|_| numbers.next().unwrap_or(0)).collect();
    let mut instructions = vec![];
    while let (Some(a), true) = (numbers.next(), instructions.len() < 8) {
        instructions.push([a, numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)]);
    }
    let case = Case { header, instructions };
    let problem = case.build().expect("every case is valid");
    let plain = problem.checked(true).expect("arguments fit");
    let reference = evaluate_with_bounds(&problem.spec, &plain).expect("the reference runs");
    let args = problem.checked(false).expect("arguments fit");
    for (level, device) in DEVICES.iter() {
        let context = || format!("{}: {}\n{}", level.name(), case.to_text(), problem.text);
        let executable = device.compile(&problem.spec);
        let executable = executable.unwrap_or_else(|e| panic!("{e}\n{}", context()));
        let mut out = args.allocate(&problem.spec).expect("small results");
        executable.run(&args, &mut out).unwrap_or_else(|e| panic!("{e}\n{}", context()));
        for (r, got) in reference.iter().zip(&out) {
            if let Some(wrong) = judge(r, got, problem.spec.k).wrong {
                panic!("{wrong}\n{}", context());
            }
        }
    }
}

//! The portable level on small reductions of every kind: what the address sanitizer can see of this
//! crate.

mod common;

use common::jobs;
use keops_core::reduce;
use keops_core::spec::Device;
use keops_cpu::{Cpu, Level};

#[test]
fn every_reduction_runs_portably() {
    let device = Device::new(Cpu::with_level(Level::Portable).expect("always there"));
    let mut seen = std::collections::BTreeSet::new();
    for job in jobs(3, 400, |k| [[3, 5], [70, 9], [1, 4]][k % 3]) {
        seen.insert(job.spec.reduction.name);
        let wrong = job.judge(&device).expect(&job.text);
        assert_eq!(wrong, None, "{}", job.text);
    }
    assert_eq!(seen.len(), reduce::ALL.len());
}

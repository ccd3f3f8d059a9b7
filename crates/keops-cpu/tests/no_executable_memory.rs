//! A system that grants no executable memory: the default runs as the portable level, which needs
//! none; compiling for another level is an error that says so. The test has a process of its own,
//! which cannot go back.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::jobs;
use keops_core::error::Error;
use keops_core::genred::Genred;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};

/// From now on no memory of this process can become executable (Linux 6.3 and later).
fn refuse_executable_memory() -> bool {
    const PR_SET_MDWE: libc::c_int = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    // SAFETY: the call changes a flag of the process and touches no memory.
    unsafe { libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0 }
}

#[test]
fn denied_executable_memory_is_an_error_and_portable_code_needs_none() {
    let jobs = jobs(5, 8, |_| [40, 50]);
    // Compiled while memory was granted; what few rows need is made later.
    let y = ndarray::Array2::from_shape_fn((5000, 1), |(j, _)| j as f64 % 3.0);
    let one = ndarray::array![[0.0]];
    let aliases = ["x = Vi(1)", "y = Vj(1)"];
    let sum: Genred = Genred::new("Square(x - y)", aliases, &SUM, Axis::J).expect("valid");
    let sum = sum.at(Device::new(Cpu::new()));
    assert_eq!(sum.call((&y, &one)).expect("a row for each")[[2, 0]], 4.0);
    if !refuse_executable_memory() {
        eprintln!("skipped: this system cannot deny executable memory (prctl PR_SET_MDWE)");
        return;
    }
    assert_eq!(sum.call((&one, &y)).expect("interpreted").into_raw_vec_and_offset().0, [8331.0]);
    let device = Device::new(Cpu::new());
    for job in &jobs {
        let wrong = job.judge(&device).unwrap_or_else(|e| panic!("{e}\n{}", job.text));
        assert_eq!(wrong, None, "{}", job.text);
    }
    assert!(!Cpu::new().compile_executable(&jobs[0].spec).expect("falls back").is_native());
    for level in Level::available() {
        let device = Device::new(Cpu::with_level(level).expect("available"));
        for job in &jobs {
            match job.run(&device) {
                Ok(_) => assert_eq!(level, Level::Portable, "{}", job.text),
                Err(Error::Compile(e)) => {
                    assert_ne!(level, Level::Portable, "{e}");
                    let text = e.to_string();
                    assert!(text.contains("no executable memory of"), "{text}");
                    assert!(text.contains("the portable level needs none"), "{text}");
                }
                Err(e) => panic!("{e}\n{}", job.text),
            }
        }
        // Failures are not kept: memory may be granted later.
        assert_eq!(device.cached() > 0, level == Level::Portable);
    }
}

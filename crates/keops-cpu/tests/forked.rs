//! A process forked from one that has computed: its parent's pool has no threads there. The tests have
//! a process of their own, which has one thread but for that pool.

#![cfg(target_os = "linux")]

use keops_core::genred::{Genred, Reference};
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use ndarray::Array2;
use std::time::{Duration, Instant};

/// Runs `work` in a forked process; its exit status, or `None` if that takes a minute.
fn forked(work: impl FnOnce() -> bool) -> Option<i32> {
    // SAFETY: the child has one thread, which runs `work` and leaves by `_exit`; no other thread
    // of this process holds a lock that it could want (the threads of the pool are idle).
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no process");
    if child == 0 {
        let right = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(false);
        // SAFETY: ends the process without running anything else.
        unsafe { libc::_exit(i32::from(!right)) };
    }
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        let mut status = 0;
        // SAFETY: `status` outlives the call; the child is ours and has not been waited for.
        if unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == child {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: the child is ours and has not been waited for, so that its number is its own.
    unsafe { libc::kill(child, libc::SIGKILL) };
    None
}

#[test]
fn a_forked_process_computes() {
    // Square matrices, and one row over many columns: each way to share work.
    let (x, one) = (Array2::from_shape_fn((3000, 1), |(i, _)| i as f64), Array2::zeros((1, 1)));
    let y = Array2::from_shape_fn((20_000, 1), |(j, _)| j as f64);
    let aliases = ["x = Vi(1)", "y = Vj(1)"];
    let f: Genred<Reference> = Genred::new("x + y", aliases, &SUM, Axis::J).expect("valid");
    let f = f.at(Device::new(Cpu::new()));
    let right = || {
        let all = f.call((&x, &y)).expect("sums");
        let few = f.call((&one, &y)).expect("a sum");
        let total = 19_999.0 * 10_000.0;
        (0..3000).all(|i| all[[i, 0]] == total + 20_000.0 * i as f64) && few[[0, 0]] == total
    };
    // Before anything has run, after it has, and in a child of a child.
    assert_eq!(forked(right), Some(0));
    assert!(right());
    assert_eq!(forked(right), Some(0));
    assert_eq!(forked(|| right() && forked(right) == Some(0)), Some(0));
    // On a pool that the child makes itself.
    let own = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
        pool.install(right)
    };
    assert_eq!(forked(own), Some(0));
    // From a thread of a pool that the child does not have.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
    assert_eq!(pool.install(|| right().then(|| forked(right)).flatten()), Some(0));
}

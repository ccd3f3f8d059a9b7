//! Results do not depend on the number of threads, bit for bit.

mod common;

use common::{Watched, jobs, levels};
use keops_core::spec::Device;
use keops_cpu::{Cpu, Level};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::Ordering;

const THREADS: [usize; 4] = [1, 2, 3, 8];

/// Shapes on both sides of every choice of the scheduler: many rows and few, one row, few columns.
fn sizes(k: usize) -> [usize; 2] {
    [[701, 303], [300, 1100], [1, 9000], [5, 6001], [4099, 7], [130, 2000]][k / 3 % 6]
}

fn pools() -> Vec<ThreadPool> {
    let pool = |n| ThreadPoolBuilder::new().num_threads(n).build().expect("threads");
    THREADS.map(pool).into()
}

#[test]
fn bits_are_equal_for_any_number_of_threads() {
    let pools = pools();
    let (mut runs, mut split) = (0, 0);
    let mut names = std::collections::BTreeSet::new();
    for (at, level) in levels().into_iter().enumerate() {
        // The best level runs them all; the others a part, as they schedule in the same way.
        let count = if at == 0 { 1000 } else { 120 };
        let watched = Watched::new(level);
        let tasks = watched.split.clone();
        let device = Device::new(watched);
        // (A hundred exponentials a pair, one lane after the other, say nothing about scheduling.)
        let slow = |text: &str| {
            ["ExtendedGamma", "Matern(", "WendlandIntegral"].iter().any(|op| text.contains(op))
        };
        for job in jobs(7 + at as u64, count, sizes).into_iter().filter(|job| !slow(&job.text)) {
            runs += 1 + THREADS.len();
            names.insert(job.spec.reduction.name);
            let all: Vec<_> = pools.iter().map(|p| p.install(|| job.run(&device))).collect();
            let first = all[0].as_ref().unwrap_or_else(|e| panic!("{e}\n{}", job.text));
            for (threads, other) in THREADS.iter().zip(&all) {
                assert_eq!(
                    other.as_ref().ok(),
                    Some(first),
                    "{} with {threads} threads\n{}",
                    level.name(),
                    job.text
                );
            }
            // From run to run, in the pool with most chances to differ.
            let again = pools[3].install(|| job.run(&device));
            assert_eq!(again.as_ref().ok(), Some(first), "run to run\n{}", job.text);
        }
        split += tasks.load(Ordering::Relaxed);
    }
    println!("{split} of {runs} runs were cut into tasks");
    assert!(2 * split > runs, "{split} of {runs} runs were cut into tasks: too little work");
    for r in keops_core::reduce::ALL {
        assert!(names.contains(r.name), "no case of {}", r.name);
    }
}

#[test]
fn forced_levels_are_what_runs() {
    assert_eq!(Level::available().last(), Some(&Level::Portable));
    assert_eq!(Cpu::new().level(), Level::available()[0]);
    for level in [Level::Avx512, Level::Avx2, Level::Portable] {
        assert_eq!(level.name().parse(), Ok(level));
        match Cpu::with_level(level) {
            Ok(cpu) => assert_eq!(cpu.level(), level),
            Err(e) => {
                assert!(!Level::available().contains(&level));
                assert!(e.to_string().contains(level.name()), "{e}");
            }
        }
    }
    let e = "avx9".parse::<Level>().expect_err("no such level");
    assert_eq!(e.to_string(), "unknown level `avx9`; there are avx512, avx2, portable");
}

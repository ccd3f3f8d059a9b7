//! Many threads evaluate and compile mixed formulas, on shared and on separate objects.

mod common;

use common::{Watched, jobs};
use keops_core::spec::Device;
use keops_cpu::Level;
use rayon::prelude::*;
use std::sync::Barrier;
use std::sync::atomic::Ordering;

const THREADS: usize = 64;
/// Jobs for devices that belong to one thread.
const OWN: usize = 6;

fn sizes(k: usize) -> [usize; 2] {
    [[60, 70], [700, 301], [3, 5000]][k / 3 % 3]
}

#[test]
fn threads_agree_with_one_thread() {
    let jobs = jobs(11, 36, sizes);
    // The best level runs them all, the others the first few.
    let levels = Level::available();
    let alone = |level: usize| {
        let device = Device::new(Watched::new(levels[level]));
        let count = if level == 0 { jobs.len() } else { OWN };
        jobs[..count].iter().map(|j| j.run(&device).expect(&j.text)).collect::<Vec<_>>()
    };
    let alone: Vec<_> = (0..levels.len()).map(alone).collect();
    let expected = &alone[0];
    let watched = Watched::new(Level::available()[0]);
    let compiled = watched.compiled.clone();
    let shared = Device::new(watched);
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for t in 0..THREADS {
            let (jobs, alone, levels) = (&jobs, &alone, &levels);
            let (start, shared) = (&start, &shared);
            scope.spawn(move || {
                // One in eight has a device of its own besides the one for all.
                let level = t % levels.len();
                let own = Device::new(Watched::new(levels[level]));
                start.wait();
                for k in 0..jobs.len() {
                    // Some go through the jobs in one order, so that they meet; others do not.
                    let at = if t % 2 == 0 { k } else { (k * 7 + t) % jobs.len() };
                    let got = jobs[at].run(shared).expect(&jobs[at].text);
                    assert_eq!(got, expected[at], "{}", jobs[at].text);
                    if t % 8 == 0 && k < OWN {
                        let got = jobs[at].run(&own).expect(&jobs[at].text);
                        assert_eq!(got, alone[level][at], "{}", jobs[at].text);
                    }
                }
            });
        }
    });
    // Whoever comes first compiles, the others wait for it.
    assert_eq!(compiled.load(Ordering::Relaxed), shared.cached());
    assert!(shared.cached() <= jobs.len());
}

#[test]
fn pools_inside_pools_do_not_block() {
    let jobs = jobs(13, 12, sizes);
    let device = Device::new(Watched::new(Level::available()[0]));
    let expected: Vec<_> = jobs.iter().map(|j| j.run(&device).expect(&j.text)).collect();
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads");
    let (outer, inner) = (pool(3), pool(2));
    let fresh = Device::new(Watched::new(Level::available()[0]));
    outer.install(|| {
        (0..4 * jobs.len()).into_par_iter().for_each(|k| {
            let (job, expected) = (&jobs[k % jobs.len()], &expected[k % jobs.len()]);
            // In the outer pool itself, or in another one that it waits for.
            let run = || job.run(&fresh).expect(&job.text);
            let got = if k % 2 == 0 { run() } else { inner.install(run) };
            assert_eq!(&got, expected, "{}", job.text);
        });
    });
}

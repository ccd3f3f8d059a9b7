//! Runs a judge over many seeds and prints what it finds:
//! `cargo run --release -p keops-judge -- derivatives --seeds 1..50 --cases 20000`, or `values`.

use keops_core::{composite, ops, reduce};
use keops_judge::Devices;
use keops_judge::derivatives::{Verdict, draw, judge, report, run, shrink};
use keops_judge::values;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: &str| -> String {
        let at = args.iter().position(|a| a == name);
        at.and_then(|k| args.get(k + 1)).cloned().unwrap_or_else(|| default.into())
    };
    let seeds = option("--seeds", "1..1");
    let (from, to) = seeds.split_once("..").unwrap_or((&seeds, &seeds));
    let numbers = (from.parse::<u64>(), to.parse::<u64>(), option("--cases", "20000").parse());
    let (Ok(from), Ok(to), Ok(cases), Some(which @ ("derivatives" | "values"))) =
        (numbers.0, numbers.1, numbers.2, args.first().map(String::as_str))
    else {
        eprintln!(
            "usage: keops-judge derivatives|values [--seeds A..B] [--cases N] [--show N] [--without NAME,NAME]"
        );
        return ExitCode::from(2);
    };
    let show: usize = option("--show", "10").parse().unwrap_or(10);
    let without = option("--without", "");
    let without: Vec<&str> = without.split(',').filter(|n| !n.is_empty()).collect();
    std::panic::set_hook(Box::new(|_| {})); // panics of keops are reported as faults
    if which == "values" {
        return of_values(from..=to, cases, show);
    }
    let mut faults = 0;
    for seed in from..=to {
        let start = std::time::Instant::now();
        let tally = run(seed, cases, &without);
        println!(
            "seed {seed}: {} judged ({} in f32), {} skipped ({:.1} %), {} by convention, {} not drawn, {} faults, {:.1?}",
            tally.judged,
            tally.single,
            tally.skipped,
            100.0 * tally.skip_rate(),
            tally.conventions,
            tally.undrawn,
            tally.faults.len(),
            start.elapsed()
        );
        if seed == from {
            println!("chains: {:?}", tally.chains);
            let names =
                ops::ALL.iter().map(|o| o.name).chain(composite::ALL.iter().map(|c| c.name));
            let names = names.chain(reduce::all().map(|r| r.name())).chain(["KernelSolve"]);
            println!("judged less than 100 times: {:?}", tally.rare(names, 100));
        }
        faults += tally.faults.len();
        for (seed, number, fault) in tally.faults.iter().take(show) {
            let devices = Devices::default();
            let Some(case) = draw(*seed, *number) else { continue };
            let small = shrink(&case, &devices);
            println!("case {number} of seed {seed}: {fault:?}");
            if let Verdict::Fault(f) = judge(&small, &devices) {
                println!("shrunk: {f:?}\n{}", report(&small));
            }
        }
        let rest: Vec<u64> = tally.faults.iter().skip(show).map(|f| f.1).collect();
        if !rest.is_empty() {
            println!("further cases: {rest:?}");
        }
    }
    if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn of_values(seeds: std::ops::RangeInclusive<u64>, cases: u64, show: usize) -> ExitCode {
    let mut wrong = 0;
    for seed in seeds {
        let start = std::time::Instant::now();
        let tally = values::run(seed, cases);
        println!(
            "seed {seed}: {} cases ({} by operators), {} entries judged, {} left to rounding, {} faults, {:.1?}",
            tally.cases,
            tally.lazy,
            tally.judged,
            tally.open,
            tally.faults.len(),
            start.elapsed()
        );
        wrong += tally.faults.len();
        for (number, fault) in tally.faults.iter().take(show) {
            let devices = Devices::default();
            let small = values::shrink(&values::draw(seed, *number), &devices);
            println!(
                "case {number} of seed {seed}: {fault}\n{}",
                values::report(&values::draw(seed, *number))
            );
            if let values::Verdict::Fault(f) = values::judge(&small, &devices) {
                println!("shrunk: {f}\n{}", values::report(&small));
            }
        }
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

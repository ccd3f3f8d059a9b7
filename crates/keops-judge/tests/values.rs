//! Values of keops against naive evaluation, special numbers included: 30,000 cases.

use keops_core::{composite, ops, reduce};
use keops_judge::Devices;
use keops_judge::naive::Op;
use keops_judge::values::{draw, report, run, shrink};

/// Number of cases: `KEOPS_JUDGE_CASES`, or as many as a run of the tests affords.
fn cases() -> u64 {
    std::env::var("KEOPS_JUDGE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(30_000)
}

#[test]
fn values_are_those_of_loops() {
    let tally = run(1, cases());
    println!(
        "{} cases ({} by operators), {} entries judged, {} left to rounding",
        tally.cases, tally.lazy, tally.judged, tally.open
    );
    let devices = Devices::default();
    let show = |(number, fault): &(u64, String)| {
        format!("case {number}: {fault}\n{}", report(&shrink(&draw(1, *number), &devices)))
    };
    let found: Vec<String> = tally.faults.iter().take(5).map(show).collect();
    assert!(tally.faults.is_empty(), "{} faults:\n{}", tally.faults.len(), found.join("\n"));
    assert!(tally.open < tally.judged / 10, "{} of {}", tally.open, tally.judged);
    if cases() >= 30_000 {
        assert!(tally.lazy > 3000, "{} by operators", tally.lazy);
        // Every entry of the tables but differential operators, which are for the other judge.
        let differential = |n: &str| Op::ALL.iter().any(|o| o.name() == n && o.is_differential());
        let names = ops::ALL.iter().map(|o| o.name).chain(composite::ALL.iter().map(|c| c.name));
        let names = names.chain(reduce::all().map(|r| r.name()));
        let count = |n: &str| tally.used.get(n).copied().unwrap_or(0);
        let rare: Vec<&str> = names.filter(|n| !differential(n) && count(n) < 100).collect();
        assert!(rare.is_empty(), "too rarely judged: {rare:?}");
    }
}

/// The soft minimum compares costs with themselves, rounded: with series of size 1e10 in f32 that
/// is an error of many times gamma, which once made -inf of the sum.
#[test]
fn soft_time_warping_of_large_series() {
    use keops::prelude::*;
    use ndarray::array;
    for level in keops::cpu::Level::available() {
        let device = Device::new(keops::cpu::Cpu::with_level(level).unwrap());
        let aliases = ["x = Vi(2)", "y = Vi(2)", "g = Pm(1)"];
        let f = Genred::new("SoftDTW_SqDist(x, y, g)", aliases, Sum, Over::J).unwrap().at(device);
        let x = array![[1e10f32, 1.0]];
        // The path (1, 1), (2, 2) costs 4e20 + 4; every other one as much more.
        let got = f.call((&x, &-&x, &array![1.8])).unwrap()[[0, 0]];
        assert!((got / 4e20 - 1.0).abs() < 1e-6, "{got}");
    }
}

//! Derivatives of keops against differences of values: 30,000 cases.

use keops_core::{composite, ops, reduce};
use keops_judge::Devices;
use keops_judge::derivatives::{draw, report, run, shrink};

/// Number of cases: `KEOPS_JUDGE_CASES`, or as many as a run of the tests affords.
fn cases() -> u64 {
    std::env::var("KEOPS_JUDGE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(30_000)
}

#[test]
fn derivatives_are_differences_of_values() {
    let tally = run(1, cases(), &[]);
    println!(
        "{} judged ({} in f32), {} skipped ({:.1} %), {} by convention, {} not drawn; {:?}",
        tally.judged,
        tally.single,
        tally.skipped,
        100.0 * tally.skip_rate(),
        tally.conventions,
        tally.undrawn,
        tally.chains
    );
    let devices = Devices::default();
    let found: Vec<String> = tally
        .faults
        .iter()
        .take(5)
        .filter_map(|(seed, number, fault)| {
            let small = shrink(&draw(*seed, *number)?, &devices);
            Some(format!("case {number}: {fault:?}\n{}", report(&small)))
        })
        .collect();
    assert!(tally.faults.is_empty(), "{} faults:\n{}", tally.faults.len(), found.join("\n"));
    assert!(tally.skip_rate() < 0.1, "{} skipped", tally.skipped);
    assert!(tally.conventions * 2_000 <= tally.judged, "{} by convention", tally.conventions);
    if cases() >= 30_000 {
        // Every entry of the tables, but the reductions whose results are indices alone.
        let names = ops::ALL.iter().map(|o| o.name).chain(composite::ALL.iter().map(|c| c.name));
        let reductions = reduce::all().map(|r| r.name()).filter(|n| !n.starts_with("Arg"));
        let rare = tally.rare(names.chain(reductions).chain(["KernelSolve"]), 100);
        assert!(rare.is_empty(), "too rarely judged: {rare:?}");
    }
}

/// Where the derivative is zero for want of any dependence it still has the batches of the result.
#[test]
fn zeros_of_saved_derivatives_have_batches() {
    use keops_core::genred::{Genred, Reference};
    let (s, t) = (ndarray::Array3::<f64>::ones((2, 3, 3)), ndarray::Array3::ones((2, 3, 3)));
    let saved = ndarray::Array3::ones((2, 1, 1));
    let aliases = ["s = Vi(3)", "t = Vi(3)", "o = Vj(1)"];
    let text = "Diff_WithSavedForward(Sum_Reduction(2, 1), s, t, o)";
    let along: Genred<Reference> = Genred::from_text(text, aliases).unwrap();
    let got = along.call((&s, &t, &saved)).unwrap();
    assert_eq!(got, ndarray::Array3::<f64>::zeros((2, 1, 1)).into_dyn());
    let text = "Grad_WithSavedForward(Sum_Reduction(2, 1), s, o, o)";
    let gradient: Genred<Reference> = Genred::from_text(text, aliases).unwrap();
    assert_eq!(
        gradient.call((&s, &t, &saved)).unwrap(),
        ndarray::Array3::<f64>::zeros((2, 3, 3)).into_dyn()
    );
}

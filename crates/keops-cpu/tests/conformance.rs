//! Random formulas on every level of this machine against the reference interpreter.

mod common;

use common::{Watched, levels};
use keops_core::conformance::{Config, check_backend};
use keops_core::spec::Device;

/// A full run without debug assertions; with them, enough to see that it works.
const CASES: usize = if cfg!(debug_assertions) { 1000 } else { 20_000 };

#[test]
fn random_formulas_agree_with_the_interpreter() {
    let count = |name: &str, default: usize| {
        std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    // They assert that machine code ran, and the tile interpreter on the portable level only.
    let devices: Vec<(String, Device)> = levels()
        .into_iter()
        .map(|l| (l.name().to_string(), Device::new(Watched::new(l))))
        .collect();
    let named: Vec<(&str, &Device)> = devices.iter().map(|(n, d)| (n.as_str(), d)).collect();
    let config = Config {
        cases: count("KEOPS_CONFORMANCE_CASES", CASES) as u32,
        seed: count("KEOPS_CONFORMANCE_SEED", 1) as u64,
        regressions: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance.txt").into()),
        ..Config::default()
    };
    let report = check_backend(&named, config);
    println!("{report}");
    report.assert_passed();
    if report.cases >= 20_000 {
        report.assert_covered(100);
    }
}

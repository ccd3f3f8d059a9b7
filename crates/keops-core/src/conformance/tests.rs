//! The suite judged: it passes what is right, and catches what is wrong.

use super::*;
use crate::interp::{Interpreter, Rounding};
use crate::ops;

#[test]
fn rounding_to_single_precision_stays_within_the_bounds() {
    let single = Device::new(Interpreter::with_rounding(Rounding::Compute));
    let double = Device::new(Interpreter::new());
    let sloppy = ops::ALL.iter().filter_map(|op| plant(op, Fault::Tolerated)).collect();
    let sloppy = Device::new(Planted::new(single.clone(), sloppy));
    let devices = [("single", &single), ("double", &double), ("sloppy", &sloppy)];
    let report = check_backend(&devices, Config { cases: 1500, ..Config::default() });
    println!("{report}");
    report.assert_passed();
}

#[test]
fn the_table_is_consistent() {
    let wrong = check_table(ops::ALL);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn planted_faults_in_table_entries_are_caught() {
    let mut survivors = vec![];
    for op in ops::ALL {
        let faults = [Fault::Value, Fault::AtZero, Fault::Code];
        let derivatives = (0..op.arity).map(Fault::Derivative);
        for fault in faults.into_iter().chain(derivatives) {
            let copy = plant(op, fault).unwrap();
            if check_table(&[copy]).is_empty() {
                survivors.push(format!("{} {fault:?}", op.name));
            }
        }
    }
    assert!(survivors.is_empty(), "{survivors:#?}");
}

/// (Faults at a single point are for the checks of the table, which go there.)
#[test]
fn planted_faults_in_a_backend_are_caught() {
    let planted: Vec<(&str, Device)> = ops::ALL
        .iter()
        .map(|op| {
            let inner = Device::new(Interpreter::with_rounding(Rounding::Compute));
            let copy = plant(op, Fault::Value).unwrap();
            (op.name, Device::new(Planted::new(inner, vec![copy])))
        })
        .collect();
    let devices: Vec<(&str, &Device)> = planted.iter().map(|(n, d)| (*n, d)).collect();
    let report = check_backend(&devices, Config { cases: 4000, shrink: 0, ..Config::default() });
    let survivors: Vec<&str> =
        report.devices.iter().filter(|d| d.failure.is_none()).map(|d| &d.name[..]).collect();
    assert!(survivors.is_empty(), "{survivors:#?}");
}

#[test]
fn the_table_of_reductions_is_consistent() {
    let wrong = check_reductions(crate::reduce::ALL);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// By the laws of the table, or by a comparison with the reference.
#[test]
fn planted_faults_in_reductions_are_caught() {
    let copies: Vec<(String, &'static crate::reduce::ReductionDef)> = crate::reduce::ALL
        .iter()
        .flat_map(|r| ReductionFault::ALL.map(|fault| (r, fault)))
        .filter_map(|(r, fault)| {
            Some((format!("{} {fault:?}", r.name), plant_reduction(r, fault)?))
        })
        .collect();
    assert!(copies.len() >= 3 * crate::reduce::ALL.len());
    let unlawful = |c: &'static crate::reduce::ReductionDef| !check_reductions(&[c]).is_empty();
    let lawful: Vec<_> = copies.into_iter().filter(|(_, copy)| !unlawful(copy)).collect();
    let planted: Vec<(String, Device)> = lawful
        .into_iter()
        .map(|(name, copy)| {
            let inner = Device::new(Interpreter::with_rounding(Rounding::Compute));
            (name, Device::new(Planted::reductions(inner, vec![copy])))
        })
        .collect();
    let devices: Vec<(&str, &Device)> = planted.iter().map(|(n, d)| (&n[..], d)).collect();
    let report = check_backend(&devices, Config { cases: 600, shrink: 0, ..Config::default() });
    let survivors: Vec<&str> =
        report.devices.iter().filter(|d| d.failure.is_none()).map(|d| &d.name[..]).collect();
    assert!(survivors.is_empty(), "{survivors:#?}");
}

#[test]
fn a_failure_is_shrunk_written_down_and_repeated() {
    let inner = Device::new(Interpreter::with_rounding(Rounding::Compute));
    let copy = plant(&ops::EXP, Fault::Value).unwrap();
    let device = Device::new(Planted::new(inner, vec![copy]));
    let name = format!("keops-conformance-{}.txt", std::process::id());
    let path = std::env::temp_dir().join(name);
    let config = Config { cases: 500, regressions: Some(path.clone()), ..Config::default() };
    let found = |config: Config| {
        let report = check_backend(&[("planted", &device)], config);
        report.devices[0].failure.clone().expect("the fault is found")
    };
    // A faulty exponential needs one operation, perhaps a second that feeds it.
    for seed in 2..=10 {
        let failure = found(Config { seed, regressions: None, ..config.clone() });
        let case = Case::from_text(&failure.case).unwrap();
        assert!(case.instructions.len() <= 2, "seed {seed}: {}", failure.formula);
    }
    let failure = found(config.clone());
    let case = Case::from_text(&failure.case).unwrap();
    assert!(case.instructions.len() <= 2, "{}", failure.formula);
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), failure.case);
    // Operations are written by name.
    let named = |n: &str| failure.case.contains(&format!(";{n},"));
    assert!(operation_names().any(named), "{}", failure.case);
    // The file alone is enough to find it again.
    let again = check_backend(&[("planted", &device)], Config { cases: 0, ..config });
    std::fs::remove_file(&path).unwrap();
    let repeated = again.devices[0].failure.as_ref().expect("the case fails again");
    assert_eq!((&repeated.message, &repeated.case), (&failure.message, &failure.case));
}

//! The judge of derivatives is judged: it finds a fault planted into the rule of every operation, every
//! composite, every reduction, and every kind of node that a derivative appends.

use keops_core::conformance::{
    Fault, ReductionFault, plant, plant_reduction, with_faulty_composite,
};
use keops_core::{composite, ops, reduce};
use keops_judge::derivatives::{Devices, Outer, Planted, Verdict, draw, judge};
use keops_judge::naive::Op;

/// Is there a case that agrees as it is, and does not with the fault?
fn found(
    numbers: impl Iterator<Item = u64>,
    faulty: impl Fn(&dyn Fn() -> bool) -> bool,
    planted: Planted,
) -> bool {
    let right = Devices::default();
    let mut wrong = Devices::default();
    wrong.planted = planted;
    numbers.filter_map(|number| draw(2, number)).any(|case| {
        judge(&case, &right) == Verdict::Agrees
            && faulty(&|| matches!(judge(&case, &wrong), Verdict::Fault(_)))
    })
}
/// Numbers of cases that feature an operation.
fn featuring(name: &str) -> impl Iterator<Item = u64> {
    let n = Op::ALL.len();
    let place = Op::ALL.iter().position(|o| o.name() == name).expect("known here too");
    (0..60).map(move |k| (place + k * n) as u64)
}

#[test]
fn faults_in_derivatives_of_operations_are_found() {
    let missed: Vec<String> = ops::ALL
        .iter()
        .flat_map(|op| (0..op.arity).map(move |k| (*op, k)))
        .filter(|(op, k)| {
            let to = plant(op, Fault::Derivative(*k)).expect("an operand of the operation");
            let planted = Planted { operation: Some((op, to)), ..Planted::default() };
            !found(featuring(op.name), |f| f(), planted)
        })
        .map(|(op, k)| format!("{} in operand {k}", op.name))
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

#[test]
fn faults_in_composites_are_found() {
    let missed: Vec<&str> = composite::ALL
        .iter()
        .filter(|c| !found(featuring(c.name), |f| with_faulty_composite(c, f), Planted::default()))
        .map(|c| c.name)
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

#[test]
fn faults_in_reductions_are_found() {
    let missed: Vec<String> = reduce::ALL
        .iter()
        .filter(|r| !r.name.starts_with("Arg")) // indices have no derivative
        .flat_map(|r| [ReductionFault::Linearise, ReductionFault::Order].map(|f| (*r, f)))
        .filter_map(|(r, fault)| Some((r, fault, plant_reduction(r, fault)?)))
        .filter(|(r, _, to)| {
            let planted = Planted { reduction: Some((r, to)), ..Planted::default() };
            !found(0..3000, |f| f(), planted)
        })
        .map(|(r, fault, _)| format!("{fault:?} of {}", r.name))
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

#[test]
fn faults_in_what_derivatives_append_are_found() {
    let missed: Vec<Outer> = Outer::ALL
        .into_iter()
        .filter(|fault| {
            let planted = Planted { outer: Some(*fault), ..Planted::default() };
            !found(0..3000, |f| f(), planted)
        })
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

//! The judge of derivatives is judged: it finds a fault planted into the rule of every operation, every
//! composite, every reduction, and every kind of node that a derivative appends.

use keops_core::conformance::{
    Fault, ReductionFault, plant, plant_reduction, with_faulty_composite,
};
use keops_core::error::InputError;
use keops_core::outer::Port;
use keops_core::reduce::{DerivedDef, Pairs};
use keops_core::{composite, ops, reduce};
use keops_judge::Devices;
use keops_judge::derivatives::{Outer, Planted, SolveFault, Verdict, draw, judge};
use keops_judge::naive::{Expr, Op};
use keops_judge::values::{self, LazyFault};

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
            let reduction = Some(((*r).into(), (*to).into()));
            let planted = Planted { reduction, ..Planted::default() };
            !found(0..3000, |f| f(), planted)
        })
        .map(|(r, fault, _)| format!("{fault:?} of {}", r.name))
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// An entry of the table of derived reductions, off by a part in a thousand.
fn wrong<const K: usize>(p: &mut Pairs<'_>) -> Result<Port, InputError> {
    let right = (reduce::DERIVED[K].make)(p)?;
    Ok(p.rows(&[right], |v| v[0] * (1.0 + 1.0 / 1024.0)))
}
/// More derived reductions want more entries.
type Derived = fn(&mut Pairs<'_>) -> Result<Port, InputError>;
const WRONG: [Derived; 2] = [wrong::<0>, wrong::<1>];

#[test]
fn faults_in_derived_reductions_are_found() {
    assert_eq!(reduce::DERIVED.len(), WRONG.len());
    let missed: Vec<&str> = reduce::DERIVED
        .iter()
        .zip(WRONG)
        .filter(|(d, make)| {
            let to = DerivedDef { make: *make, ..***d };
            let to: &'static DerivedDef = Box::leak(Box::new(to));
            let reduction = Some(((**d).into(), to.into()));
            let planted = Planted { reduction, ..Planted::default() };
            !found(0..3000, |f| f(), planted)
        })
        .map(|(d, _)| d.name)
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// Derivatives in f32 are judged by wider tolerances, which a part in a thousand exceeds.
#[test]
fn faults_in_single_precision_are_found() {
    let to = plant(&ops::EXP, Fault::Derivative(0)).expect("an operand");
    let mut wrong = Devices::default();
    wrong.planted = Planted { operation: Some((&ops::EXP, to)), ..Planted::default() };
    let right = Devices::default();
    let cases = featuring("Exp").filter_map(|n| draw(2, n)).filter(|c| c.single);
    let found = cases.filter(|c| {
        judge(c, &right) == Verdict::Agrees && matches!(judge(c, &wrong), Verdict::Fault(_))
    });
    assert!(found.count() >= 1, "a part in a thousand is looked over");
}

/// Every part of the rules of a solve and of its transpose: sign, factor, and what is left out.
#[test]
fn faults_in_the_rules_of_solves_are_found() {
    let cases: Vec<u64> = (0..20_000).filter(|n| draw(2, *n).is_some_and(|c| c.solves())).collect();
    let missed: Vec<SolveFault> = SolveFault::all()
        .filter(|fault| {
            let planted = Planted { outer: Some(Outer::SolveRule(*fault)), ..Planted::default() };
            !found(cases.iter().copied(), |f| f(), planted)
        })
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// A method or operator of `LazyTensor` with the wrong sign, order of operands or operation.
#[test]
fn faults_in_lazy_methods_are_found() {
    let symmetric = [
        "Add",
        "Mult",
        "Equal",
        "NotEqual",
        "Scalprod",
        "SqDist",
        "ComplexAdd",
        "ComplexMult",
        "ComplexRealScal",
        "SoftDTW_SqDist",
    ];
    let all = values::featured();
    let n = all.len() as u64;
    let right = Devices::default();
    let mut missed = vec![];
    for (place, op) in all.iter().enumerate() {
        let numbers = (0..300).map(|k| place as u64 + k * n);
        let used = |c: &values::Case| {
            let mut operands = 0;
            let formulas = std::iter::once(&c.reduction.formula).chain(&c.reduction.weight);
            formulas.for_each(|f| {
                f.walk(&mut |e| {
                    if let Expr::Apply(o, x, _) = e
                        && o == op
                    {
                        operands = x.len();
                    }
                })
            });
            operands
        };
        let cases: Vec<(usize, values::Case)> = numbers
            .map(|number| values::draw(2, number))
            .filter(|c| c.lazy)
            .map(|c| (used(&c), c))
            .filter(|(operands, _)| *operands > 0)
            .collect();
        let Some((operands, _)) = cases.first() else { continue };
        let swapped = *operands > 1 && !symmetric.contains(&op.name());
        let faults = [LazyFault::Negated, LazyFault::Other, LazyFault::Swapped];
        for fault in &faults[..if swapped { 3 } else { 2 }] {
            let mut wrong = Devices::default();
            wrong.planted = Planted { lazy: Some((*op, *fault)), ..Planted::default() };
            let found = cases.iter().any(|(_, c)| {
                matches!(values::judge(c, &right), values::Verdict::Agrees(1.., _))
                    && matches!(values::judge(c, &wrong), values::Verdict::Fault(_))
            });
            if !found {
                missed.push(format!("{fault:?} of {} ({} cases)", op.name(), cases.len()));
            }
        }
    }
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

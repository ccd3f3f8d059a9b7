//! Reductions of formula strings against golden cases: through the reference interpreter, and
//! through every level of the CPU backend that this machine has.

#![cfg(feature = "cpu")]

#[path = "support/golden.rs"]
mod golden;
#[allow(dead_code)]
#[path = "../crates/keops-cpu/tests/common/watched.rs"]
mod watched;

use golden::{Case, Dtype, Step};
use keops::Axis;
use keops::Genred;
use keops::cpu::Level;
use keops::data::{ArgView, Buffer, DType, Element};
use keops::prelude::{Device, Ranges, ReduceOptions, Scheme};
use keops_core::conformance::with_faulty_composite;
use keops_core::error::Error;
use keops_core::genred::Reduce;
use keops_core::interp::Interpreter;
use keops_core::{composite, ops, reduce};
use ndarray::{ArrayD, Axis as NdAxis};
use std::path::Path;
use watched::Watched;

/// A case of KeOps in which our conventions (docs/semantics.md) decide otherwise: wherever results
/// differ, `keops` was recorded and `ours` must be given.
struct Exception {
    case: &'static str,
    keops: f64,
    ours: f64,
}
const EXCEPTIONS: &[Exception] = &[
    // No candidate: the index is -1.
    Exception { case: "ranges/someempty_ArgKMin_ax1", keops: 0.0, ours: -1.0 },
    Exception { case: "ranges/someempty_Min_ArgMin_ax1", keops: 0.0, ours: -1.0 },
    Exception { case: "ranges/partial_ArgKMin_ax0", keops: 0.0, ours: -1.0 },
    Exception { case: "ranges/partial_ArgKMin_ax1", keops: 0.0, ours: -1.0 },
    Exception { case: "edge/allnan_ArgMax", keops: 0.0, ours: -1.0 },
    // Gradients at singular points: SinXDivX'(0) and the gradient of Atan2 at (0, 0) are 0.
    Exception { case: "edge_grad/SinXDivX(x-y)", keops: f64::NAN, ours: 0.0 },
    Exception { case: "edge_grad/Atan2(x,y)", keops: f64::NAN, ours: 0.0 },
    // The log-sum-exp of values that are all -inf is -inf.
    Exception { case: "edge/lse_all_neginf", keops: f64::NAN, ours: f64::NEG_INFINITY },
];

/// The case with recorded values replaced by ours, where `got` has them.
fn with_exception(case: &Case, got: &[Buffer]) -> Option<Case> {
    let e = EXCEPTIONS.iter().find(|e| e.case == case.name)?;
    let mut case = case.clone();
    let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
    for b in got {
        let got = b.to_f64();
        let replace =
            |want: f64, got: f64| if same(want, e.keops) && same(got, e.ours) { got } else { want };
        match (b, &mut case.expected.indices, &mut case.expected.values) {
            (Buffer::I64(_), Some(i), _) if i.shape() == got.shape() => {
                i.zip_mut_with(&got, |w, &g| *w = replace(*w as f64, g) as i64);
            }
            (_, None, Some(v)) if v.shape() == got.shape() => {
                v.zip_mut_with(&got, |w, &g| *w = replace(*w, g));
            }
            _ => {}
        }
    }
    Some(case)
}

/// How a case is run.
enum Outcome {
    Passed,
    Exception,
    /// A kernel system, which the tests of keops-linalg solve.
    Solve,
    Failed(String),
}

fn scheme(case: &Case) -> ReduceOptions {
    let scheme = match case.sum_scheme.as_str() {
        "auto" | "block_sum" => Scheme::Block,
        "direct_sum" => Scheme::Direct,
        "kahan_scheme" => Scheme::Kahan,
        other => panic!("{}: unknown sum_scheme {other}", case.name),
    };
    let accumulate = match case.dtype_acc.as_str() {
        "auto" => None,
        "float16" => Some(DType::F16),
        "float32" => Some(DType::F32),
        "float64" => Some(DType::F64),
        other => panic!("{}: unknown dtype_acc {other}", case.name),
    };
    ReduceOptions { accumulate, scheme }
}

/// The pairs of a reduction. Most cases of our own give each axis a pattern of its own, which as one
/// pattern is refused; there the arrays of the case's axis count.
fn ranges(arrays: &[ArrayD<i64>], axis: Axis) -> Ranges {
    let pairs =
        |k: usize| -> Vec<[i64; 2]> { arrays[k].outer_iter().map(|r| [r[[0]], r[[1]]]).collect() };
    let list = |k: usize| -> Vec<i64> { arrays[k].iter().copied().collect() };
    let over_j = (pairs(0), list(1), pairs(2));
    let over_i = (pairs(3), list(4), pairs(5));
    let over_j = (&over_j.0[..], &over_j.1[..], &over_j.2[..]);
    let over_i = (&over_i.0[..], &over_i.1[..], &over_i.2[..]);
    Ranges::from_arrays(Some(over_j), Some(over_i))
        .or_else(|_| match axis {
            Axis::J => Ranges::from_arrays(Some(over_j), None),
            Axis::I => Ranges::from_arrays(None, Some(over_i)),
        })
        .expect("ranges of golden cases are in order")
}

/// The function that a case describes.
fn function(case: &Case) -> Result<Genred, Error> {
    if case.reduction == "RAW" {
        return Genred::from_text(&case.formula, &case.aliases);
    }
    let axis = if case.axis == 1 { Axis::J } else { Axis::I };
    let reduce = Reduce::named(&case.reduction, case.opt_arg)?;
    let mut g = match &case.formula2 {
        None => Genred::new(&case.formula, &case.aliases, reduce, axis)?,
        Some(w) => Genred::weighted(&case.formula, w, &case.aliases, reduce, axis)?,
    };
    let options = scheme(case);
    if options != ReduceOptions::default() {
        g = g.options(options);
    }
    if let Some(r) = &case.ranges {
        g = g.ranges(ranges(r, axis));
    }
    // Cotangents and tangents are arguments after those of the formula, in order of the steps.
    let mut names: Vec<String> = (0..case.aliases.len()).map(|k| case.variable(k).into()).collect();
    for step in &case.steps {
        let (Step::Vjp { wrt, with } | Step::Jvp { wrt, with }) = step;
        let at = names.iter().position(|n| n == wrt).expect("steps name arguments");
        let name = g.arguments().nth(at).expect("arguments are counted").to_string();
        g = match step {
            Step::Vjp { .. } => g.vjp(&name)?,
            Step::Jvp { .. } => g.jvp(&name)?,
        };
        names.push(with.clone());
    }
    Ok(g)
}

fn typed<T: Element>(arrays: &[&ArrayD<f64>]) -> Vec<ArrayD<T>> {
    arrays.iter().map(|a| a.mapv(T::of_f64)).collect()
}

/// The results on a device, from arguments in the type of the case.
fn evaluate(case: &Case, g: &Genred, device: &Device) -> Result<Vec<Buffer>, Error> {
    fn run<T: Element>(
        g: &Genred,
        device: &Device,
        arrays: &[&ArrayD<f64>],
    ) -> Result<Vec<Buffer>, Error> {
        let arrays = typed::<T>(arrays);
        let views: Vec<ArgView<'_>> = arrays.iter().map(|a| T::erase(a.view())).collect();
        g.clone().at(device.clone()).run(&views)
    }
    let with = case.steps.iter().map(|s| {
        let (Step::Vjp { with, .. } | Step::Jvp { with, .. }) = s;
        &case.extra[with]
    });
    let arrays: Vec<&ArrayD<f64>> = case.args.iter().chain(with).collect();
    match case.dtype {
        Dtype::F16 => run::<half::f16>(g, device, &arrays),
        Dtype::F32 => run::<f32>(g, device, &arrays),
        Dtype::F64 => run::<f64>(g, device, &arrays),
    }
}

/// Compares values. Sums of terms of both signs in f32 and f16 are as accurate as their terms are
/// large, not as the sum is: there the tolerance is relative to the largest result.
fn check_values(case: &Case, got: &ArrayD<f64>) -> Result<(), String> {
    if case.dtype == Dtype::F64 {
        return case.check_values(got.view());
    }
    let want = case.expected.values.as_ref().ok_or("the case has no values")?;
    if got.shape() != want.shape() {
        return Err(format!("shape: expected {:?}, got {:?}", want.shape(), got.shape()));
    }
    let finite = want.iter().filter(|v| v.is_finite());
    let scale = finite.fold(1e-3f64, |a, v| a.max(v.abs()));
    for (g, w) in got.iter().zip(want) {
        let equal = g == w || (g.is_nan() && w.is_nan());
        let error = (g - w).abs() / scale;
        if !equal && (error.is_nan() || error > case.rtol) {
            return Err(format!("expected {w:e}, got {g:e}, error {error:.1e} of the largest"));
        }
    }
    Ok(())
}

/// Compares results with the expected ones.
fn compare(case: &Case, made: Vec<Buffer>) -> Result<(), String> {
    let (mut values, mut indices) = (None, None);
    for b in made {
        match b {
            Buffer::I64(a) => indices = Some(a),
            // f16 results are rounded to f16 on the way out.
            b if case.dtype == Dtype::F16 => {
                values = Some(half::f16::take(b).unwrap().mapv(|v| v.to_f64()))
            }
            b => values = Some(b.to_f64()),
        }
    }
    match (&case.expected.values, &case.expected.indices) {
        (Some(expected), None) if values.is_none() => {
            // Indices that a file stores as reals.
            let got = indices.ok_or("no result")?.mapv(|v| v as f64);
            if got == *expected { Ok(()) } else { Err(format!("expected {expected}, got {got}")) }
        }
        (Some(expected), _) => {
            let mut got = values.ok_or("no values")?;
            // KeOps' internal form leaves the gradient of a parameter as one row for each i.
            if case.reduction == "RAW" && got.ndim() + 1 == expected.ndim() {
                let mut summed = case.clone();
                summed.expected.values = Some(expected.sum_axis(NdAxis(0)));
                return check_values(&summed, &got);
            }
            if got.ndim() > expected.ndim() && got.len() == expected.len() {
                got = got.into_shape_with_order(expected.shape()).map_err(|e| e.to_string())?;
            }
            check_values(case, &got)?;
            match (&case.expected.indices, indices) {
                (Some(_), Some(i)) => case.check_indices(i.view()),
                (Some(_), None) => Err("no indices".into()),
                (None, _) => Ok(()),
            }
        }
        (None, Some(_)) => case.check_indices(indices.ok_or("no indices")?.view()),
        (None, None) => Err("the case expects nothing".into()),
    }
}

fn run(case: &Case, devices: &[(String, Device)]) -> Outcome {
    if case.solve.is_some() {
        return Outcome::Solve;
    }
    let g = match function(case) {
        Ok(g) => g,
        Err(e) => return Outcome::Failed(e.to_string()),
    };
    let mut exception = false;
    for (name, device) in devices {
        let checked = evaluate(case, &g, device).map_err(|e| e.to_string()).and_then(|made| {
            let plain = compare(case, made.clone());
            match (&plain, with_exception(case, &made)) {
                (Err(_), Some(case)) => {
                    exception = true;
                    compare(&case, made)
                }
                _ => plain,
            }
        });
        if let Err(e) = checked {
            return Outcome::Failed(format!("{name}: {e}"));
        }
    }
    let listed = EXCEPTIONS.iter().any(|e| e.case == case.name);
    match (exception, listed) {
        (true, _) => Outcome::Exception,
        (false, true) => Outcome::Failed("is listed as an exception, but agrees".into()),
        (false, false) => Outcome::Passed,
    }
}

/// Runs every case of the folders together, so that the list of failures is complete.
#[test]
fn golden_cases() {
    let mut devices = vec![("interpreter".to_string(), Device::new(Interpreter::new()))];
    for level in Level::available() {
        // It asserts that machine code ran, and the tile interpreter on the portable level only.
        devices.push((format!("cpu {}", level.name()), Device::new(Watched::new(level))));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.join("tests/golden"), root.join("../shared/golden/keops")];
    let mut failures = vec![];
    for folder in &folders {
        if !folder.join("manifest.json").exists() {
            println!("{} is not here: skipped", folder.display());
            continue;
        }
        let (mut passed, mut exceptions, mut systems) = (0, 0, 0);
        let cases = golden::read(folder);
        for case in &cases {
            match run(case, &devices) {
                Outcome::Passed => passed += 1,
                Outcome::Exception => {
                    exceptions += 1;
                    println!("exception: {}", case.name);
                }
                Outcome::Solve => systems += 1,
                Outcome::Failed(why) => {
                    failures.push(format!("{} ({}): {why}", case.name, case.formula));
                }
            }
        }
        println!(
            "{}: {passed} of {} cases agree on {} devices, {exceptions} exceptions, {systems} \
             systems are for keops-linalg",
            folder.display(),
            cases.len(),
            devices.len()
        );
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Every entry of the tables is in a committed case.
#[test]
fn every_entry_has_a_case() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases = golden::read(&root);
    let called = |name: &str| {
        let call = format!("{name}(");
        cases.iter().any(|c| {
            // Not only as the end of another name, as Add in ComplexAdd.
            c.formula.match_indices(&call).any(|(at, _)| {
                !c.formula[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            })
        })
    };
    let operations = ops::ALL.iter().map(|o| o.name).chain(composite::ALL.iter().map(|c| c.name));
    let mut missing: Vec<&str> = operations.filter(|name| !called(name)).collect();
    let reduced = |name: &str| cases.iter().any(|c| c.reduction == name);
    missing.extend(reduce::ALL.iter().map(|r| r.name).filter(|name| !reduced(name)));
    assert!(missing.is_empty(), "no golden case for {missing:?}");
}

/// A fault in the expansion of any composite is found by a committed case.
#[test]
fn faults_in_composites_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases = golden::read(&root);
    let devices = [("interpreter".to_string(), Device::new(Interpreter::new()))];
    let survivors: Vec<&str> = composite::ALL
        .iter()
        .filter(|c| {
            // Operators and other composites use some of them too.
            let named = |case: &&Case| case.formula.contains(c.name);
            let (first, rest): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(named);
            let found = |case: &&Case| matches!(run(case, &devices), Outcome::Failed(_));
            !with_faulty_composite(c, || first.iter().chain(&rest).any(found))
        })
        .map(|c| c.name)
        .collect();
    assert!(survivors.is_empty(), "no case notices a fault in {survivors:?}");
}

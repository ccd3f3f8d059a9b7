//! The judge is judged: its evaluation agrees with the golden cases.

#[path = "../../../tests/support/golden.rs"]
mod golden;

use golden::{Case, Dtype};
use keops_judge::naive::{Array, Category, Dd, Declared, Pairs, Real, Reduction, evaluate, parse};
use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;
use std::path::Path;

fn array<T: Real>(a: &ArrayD<f64>) -> Array<T> {
    Array { shape: a.shape().to_vec(), data: a.iter().map(|v| T::from(*v)).collect() }
}

/// Differences of values are slow: the first rows of the result will do.
fn first_rows(mut case: Case) -> Case {
    let kept = if case.axis == 1 { Category::I } else { Category::J };
    let aliases = case.aliases.iter().map(String::as_str);
    let Ok(declared) = Declared::read(aliases) else { return case };
    let plain = case.args.iter().all(|a| a.ndim() <= 2) && case.ranges.is_none();
    let Some(values) = case.expected.values.as_mut().filter(|_| plain) else { return case };
    let first = |a: &ArrayD<f64>| {
        a.slice_axis(ndarray::Axis(0), ndarray::Slice::from(..a.shape()[0].min(2))).to_owned()
    };
    for (a, v) in case.args.iter_mut().zip(&declared.variables) {
        if v.category == kept {
            *a = first(a);
        }
    }
    *values = first(values);
    case
}

/// A case that is judged by values alone.
fn check<T: Real>(case: &Case) -> Result<(), String> {
    let mut declared = Declared::read(case.aliases.iter().map(String::as_str))?;
    let formula = parse(&case.formula, &mut declared)?;
    let weight = match &case.formula2 {
        Some(w) => Some(parse(w, &mut declared)?),
        None => None,
    };
    let over = if case.axis == 1 { Category::J } else { Category::I };
    let args: Vec<Array<T>> = case.args.iter().map(array).collect();
    let rows = |category| {
        let k = declared.variables.iter().position(|v| v.category == category);
        k.map_or(1, |k| args[k].shape[args[k].shape.len() - 2])
    };
    let pairs = case.ranges.as_ref().map(|arrays| {
        let at = if case.axis == 1 { 0 } else { 3 };
        let two = |k: usize| -> Vec<[usize; 2]> {
            let rows = arrays[at + k].outer_iter();
            rows.map(|r| [r[[0]] as usize, r[[1]] as usize]).collect()
        };
        let ends: Vec<usize> = arrays[at + 1].iter().map(|v| *v as usize).collect();
        let sizes = (rows(Category::I), rows(Category::J));
        Pairs::from_ranges(sizes, &two(0), &ends, &two(2), over)
    });
    let name = case.reduction.clone();
    let r = Reduction { name, k: case.opt_arg.unwrap_or(1), over, formula, weight };
    let got = evaluate(&r, &declared.variables, &args, pairs.as_ref())?;
    let shaped = |shape: &[usize], data: Vec<f64>| ArrayD::from_shape_vec(IxDyn(shape), data);
    let indices = got.indices.map(|i| shaped(&i.shape, i.map(|v| v as f64).data).unwrap());
    let values = got.values.map(|v| shaped(&v.shape, v.map(|v| v.f64()).data).unwrap());
    match (&case.expected.values, &case.expected.indices) {
        (Some(want), None) if values.is_none() => {
            let got = indices.ok_or("no result")?;
            if got == *want { Ok(()) } else { Err(format!("indices {want}, got {got}")) }
        }
        (want, wanted_indices) => {
            match (want, values) {
                (None, _) => {}
                (Some(_), None) => return Err("no values".into()),
                (Some(_), Some(got)) if case.dtype == Dtype::F64 => {
                    case.check_values(got.view())?;
                }
                (Some(want), Some(got)) => {
                    // Rounding to f32 and f16 is relative to the largest terms.
                    let scale = want.iter().fold(1e-3f64, |a, v| a.max(v.abs()));
                    for (g, w) in got.iter().zip(want) {
                        let error = (g - w).abs() / scale;
                        if !(g == w || g.is_nan() && w.is_nan() || error <= case.rtol) {
                            return Err(format!("expected {w:e}, got {g:e}"));
                        }
                    }
                }
            }
            match (wanted_indices, indices) {
                (Some(_), Some(i)) => case.check_indices(i.mapv(|v| v as i64).view()),
                (Some(_), None) => Err("no indices".into()),
                (None, _) => Ok(()),
            }
        }
    }
}

/// Cases in which the conventions of docs/semantics.md decide otherwise than what was recorded, or
/// a derivative at a kink is asked for, which differences of values do not give.
fn convention(case: &Case) -> bool {
    let kink = case.tags.iter().any(|t| t == "edge") && case.formula.contains("Grad(");
    // Closed forms, at points where higher derivatives jump, or so near a pole that differences fail.
    let radial = case.tags.iter().any(|t| t == "radial" || t == "special")
        && ["Grad(", "Diff(", "Laplacian("].iter().any(|o| case.formula.contains(o));
    kink || radial
        || [
            "ranges/someempty_ArgKMin_ax1",
            "ranges/someempty_Min_ArgMin_ax1",
            "ranges/partial_ArgKMin_ax0",
            "ranges/partial_ArgKMin_ax1",
            "edge/allnan_ArgMax",
            "edge/lse_all_neginf",
            "unary_grad0/Floor(3*(x-y))",
        ]
        .contains(&case.name.as_str())
}

#[test]
fn naive_evaluation_agrees_with_golden_cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut failures = vec![];
    let folders = [root.join("../../tests/golden"), root.join("../../../shared/golden/keops")];
    for folder in folders.iter().filter(|f| f.join("manifest.json").exists()) {
        let cases = golden::read(folder);
        let judged = cases.par_iter().filter(|case| {
            let other = case.solve.is_some() || !case.steps.is_empty();
            !other && case.reduction != "RAW" && !convention(case)
        });
        let outcomes: Vec<Result<(), String>> = judged
            .map(|case| {
                let operators = ["Grad", "Diff(", "Divergence(", "Laplacian("];
                // Differences want more digits than f64 has.
                let differences = operators.iter().any(|o| case.formula.contains(o));
                let made = if differences {
                    check::<Dd>(&first_rows((*case).clone()))
                } else {
                    check::<f64>(case)
                };
                made.map_err(|why| format!("{} ({}): {why}", case.name, case.formula))
            })
            .collect();
        let passed = outcomes.iter().filter(|o| o.is_ok()).count();
        println!("{}: {passed} of {} cases agree", folder.display(), cases.len());
        failures.extend(outcomes.into_iter().filter_map(Result::err));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

//! Solutions of the golden cases: ours, those inside of computations, and those recorded from KeOps where they are
//! at hand.

#[path = "../../../tests/support/golden.rs"]
mod golden;

use keops_core::genred::{Genred, Reduce};
use keops_core::interp::Interpreter;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use keops_linalg::{KernelSolve, SolveOptions};
use ndarray::ArrayD;
use std::path::Path;

/// Solves every system of a folder; how many there are.
fn solve_all(folder: &Path) -> usize {
    let mut solved = 0;
    for case in golden::read(folder) {
        let Some(system) = &case.solve else { continue };
        let axis = if case.axis == 1 { Axis::J } else { Axis::I };
        let name = &case.name;
        assert!(
            case.ranges.is_none() && case.dtype == golden::Dtype::F64 && case.reduction == SUM.name
        );
        let solve: KernelSolve =
            KernelSolve::new(&case.formula, &case.aliases, &system.unknown, axis)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        let args: Vec<&ArrayD<f64>> = case.args.iter().collect();
        let options = SolveOptions { tolerance: system.eps, ..SolveOptions::ridge(system.alpha) };
        let solution =
            solve.call(&args[..], &options).unwrap_or_else(|e| panic!("{name}: {e}")).value;
        case.check_values(solution.view()).unwrap_or_else(|e| panic!("{name}: {e}"));
        solved += 1;
    }
    solved
}

#[test]
fn our_systems() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    assert!(solve_all(&folder) >= 6);
}

#[test]
fn systems_of_keops() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/keops");
    if folder.exists() {
        assert!(solve_all(&folder) >= 4);
    } else {
        println!("skipped: the recorded cases of KeOps are not at ../shared/golden/keops");
    }
}

/// Solves as nodes of computations, in each other and in sums; ranges, means and variances: gradients and
/// products with Hessians by differences in 50 digits (scripts/golden/computations.py), on each
/// level of the CPU and on the interpreter.
#[test]
fn solves_in_computations() {
    let path = "../../tests/golden/computations.json";
    let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    let levels = Level::available().into_iter().map(|l| Device::new(Cpu::with_level(l).unwrap()));
    let devices: Vec<Device> = levels.chain([Device::new(Interpreter::new())]).collect();
    let mut compared = 0;
    for (device, case) in devices.iter().flat_map(|d| cases.iter().map(move |c| (d, c))) {
        let functions = case["functions"].as_array().unwrap();
        let mut f = function(&functions[0]);
        for inner in &functions[1..] {
            f = f.compose(inner["hole"].as_str().unwrap(), &function(inner)).unwrap();
        }
        let check = |f: &Genred, with: &[ArrayD<f64>], want: &serde_json::Value, what: &str| {
            let f = f.clone().at(device.clone());
            let given = f.arguments().filter_map(|n| case["args"].get(n).map(|a| (n, a)));
            let mut args: Vec<ArrayD<f64>> = given.map(|(n, a)| argument(n, a)).collect();
            args.extend(with.iter().cloned());
            let args: Vec<&ArrayD<f64>> = args.iter().collect();
            let got = f.call(&args[..]).unwrap_or_else(|e| panic!("{what}: {e}"));
            let want = rows(want);
            assert_eq!(got.len(), want.len(), "{what}");
            let scale = want.iter().fold(0f64, |m, v| m.max(v.abs()));
            for (g, w) in got.iter().zip(&want) {
                // (Of what is 0 differences leave 1e-32.)
                assert!((g - w).abs() <= 1e-10 * scale + 1e-20, "{what}: {g} instead of {w}");
            }
        };
        let name = case["name"].as_str().unwrap();
        check(&f, &[], &case["value"], name);
        for d in case["derivatives"].as_array().unwrap() {
            let (mut g, mut with) = (f.clone(), vec![]);
            let steps = d["steps"].as_array().unwrap();
            for (step, along) in steps.iter().zip(d["with"].as_array().unwrap()) {
                let wrt = step[1].as_str().unwrap();
                let back = step[0] == "vjp";
                g = if back { g.vjp(wrt) } else { g.jvp(wrt) }.unwrap();
                with.push(argument(if back { "" } else { wrt }, along));
            }
            check(&g, &with, &d["value"], &format!("{name}, {steps:?}"));
            compared += 1;
        }
    }
    assert!(compared >= 2 * 70, "{compared} derivatives");
}

/// A function of a file: a sum, or the solution of its systems.
fn function(f: &serde_json::Value) -> Genred {
    let text = |key: &str| f[key].as_str().unwrap();
    let aliases: Vec<&str> =
        f["aliases"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
    match text("kind") {
        "solve" => {}
        "sum" => return Genred::new(text("formula"), aliases, &SUM, Axis::J).unwrap(),
        name => {
            let reduce = Reduce::named(name, f["k"].as_u64().map(|k| k as usize)).unwrap();
            return match f["weight"].as_str() {
                Some(w) => Genred::weighted(text("formula"), w, aliases, reduce, Axis::J),
                None => Genred::new(text("formula"), aliases, reduce, Axis::J),
            }
            .unwrap();
        }
    }
    let solve: KernelSolve =
        KernelSolve::new(text("formula"), aliases, text("unknown"), Axis::J).unwrap();
    let ridge = f["ridge"].as_f64().unwrap_or(0.0);
    let solve = solve.function(SolveOptions { tolerance: 1e-13, ..SolveOptions::ridge(ridge) });
    match f["ridge"].as_str() {
        Some(name) => solve.ridge_as(name).genred().unwrap(),
        None => solve.genred().unwrap(),
    }
}

fn rows(a: &serde_json::Value) -> Vec<f64> {
    a.as_array()
        .unwrap()
        .iter()
        .flat_map(|r| r.as_array().unwrap())
        .map(|v| v.as_f64().unwrap())
        .collect()
}
/// Parameters have no rows.
fn argument(name: &str, a: &serde_json::Value) -> ArrayD<f64> {
    let (data, count) = (rows(a), a.as_array().unwrap().len());
    let shape = match name {
        "s" | "alpha" | "q" => vec![data.len()],
        _ => vec![count, data.len() / count],
    };
    ArrayD::from_shape_vec(shape, data).unwrap()
}

//! Solutions of the golden cases: ours, and those recorded from KeOps where they are at hand.

#[path = "../../../tests/support/golden.rs"]
mod golden;

use keops_core::reduce::SUM;
use keops_core::spec::Axis;
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

//! Lowering of formulas to programs.

use keops_core::autodiff;
use keops_core::data::DType;
use keops_core::graph::{Builder, Category, Ex, NodeId, Var};
use keops_core::lower::{LowerOptions, lower};
use keops_core::program::{Program, SInst};
use keops_core::reduce::{self, ReductionDef};
use keops_core::spec::{Axis, ReduceOptions, ReduceSpec};
use keops_core::verify::verify;
use std::sync::Arc;

fn var(b: &Builder, index: u32, dim: usize, category: Category) -> Ex<'_> {
    b.var(Var { index, dim, category })
}

fn program(b: Builder, root: NodeId, reduction: &'static ReductionDef, k: usize) -> Program {
    let graph = b.into_graph();
    let vars = graph.variables(&[root]);
    let names = vars.iter().map(|v| format!("v{}", v.index)).collect();
    let spec = ReduceSpec {
        formula: root,
        weight: None,
        reduction,
        k,
        axis: Axis::J,
        vars,
        names,
        dtype: DType::F32,
        options: ReduceOptions::default(),
        graph: Arc::new(graph),
    };
    lower(&spec, LowerOptions { expand: true, ..Default::default() }).unwrap()
}

fn gaussian(b: &Builder, d: usize) -> (Ex<'_>, Ex<'_>) {
    let (x, y) = (var(b, 0, d, Category::I), var(b, 1, d, Category::J));
    let w = var(b, 2, 1, Category::J);
    let t = x - y;
    ((-t.dot(t)).un(&keops_core::ops::EXP) * w, x)
}

#[test]
fn programs_do_not_grow_with_the_dimension() {
    let size = |d: usize| {
        let b = Builder::default();
        let (f, x) = gaussian(&b, d);
        let e = var(&b, 3, 1, Category::I);
        let g = autodiff::vjp(f, e, &[x])[0].unwrap();
        let u = var(&b, 4, d, Category::I);
        let h = autodiff::vjp(g.dot(u), b.lit(1.0), &[x])[0].unwrap().id;
        let p = program(b, h, &reduce::SUM, 1);
        p.add.insts.len()
    };
    assert_eq!(size(50), size(4096));
}

#[test]
fn programs_pass_the_verifier_and_broken_ones_do_not() {
    for d in [3, 50] {
        for reduction in reduce::ALL {
            if reduction.weight == reduce::WeightRule::Required {
                continue;
            }
            let b = Builder::default();
            let id = gaussian(&b, d).0.id;
            let good = program(b, id, reduction, 3);
            assert_eq!(verify(&good), Ok(()), "{good}");
            let stream = |p: &mut Program| std::mem::take(&mut p.key.insts);
            // An instruction that is missing leaves a value undefined or a loop open.
            let whole = stream(&mut good.clone());
            for (k, inst) in whole.iter().enumerate().take(whole.len().saturating_sub(1)) {
                if matches!(inst, SInst::Emit { .. } | SInst::Update { .. }) {
                    continue;
                }
                let mut bad = good.clone();
                bad.key.insts.remove(k);
                assert!(verify(&bad).is_err(), "without {inst:?}");
            }
            let mut short = good.clone();
            short.reduced.len -= 1;
            assert!(verify(&short).is_err(), "a record that is too short");
        }
    }
}

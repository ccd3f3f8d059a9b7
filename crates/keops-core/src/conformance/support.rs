//! What tests of the core on random formulas share.

use crate::data::{Buffer, DType, Element};
use crate::graph::{Category, Graph, NodeId, Var};
use crate::interp::{Bounded, HyperDual, evaluate_with_bounds, evaluate_with_tangents};
use crate::random::Random;
use crate::reduce;
use crate::spec::{Axis, CheckedArgs, ReduceOptions, ReduceSpec};
use ndarray::{ArrayD, Axis as NdAxis, IxDyn};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::sync::Arc;

/// Runs a law on random values.
pub(super) fn holds<S: Strategy>(
    count: u32,
    strategy: S,
    law: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let persistence = FileFailurePersistence::SourceParallel("proptest-regressions");
    let config = ProptestConfig {
        cases: count,
        source_file: Some(file!()),
        failure_persistence: Some(Box::new(persistence)),
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    if let Err(e) = runner.run(&strategy, law) {
        panic!("{e}");
    }
}

/// A plain sum over one column, in f64.
pub(super) fn one_pair(graph: &Arc<Graph>, formula: NodeId) -> ReduceSpec {
    let vars = graph.variables(&[formula]);
    ReduceSpec {
        graph: graph.clone(),
        formula,
        weight: None,
        reduction: &reduce::SUM,
        k: 1,
        axis: Axis::J,
        names: vars.iter().map(|v| format!("v{}", v.index)).collect(),
        vars,
        dtype: DType::F64,
        options: ReduceOptions::default(),
    }
}

/// Value and bounds of a formula at one pair.
pub(super) fn bounded(
    graph: &Arc<Graph>,
    root: NodeId,
    value_of: &dyn Fn(Var) -> Vec<f64>,
) -> Bounded {
    let spec = one_pair(graph, root);
    let arrays: Vec<ArrayD<f64>> = spec
        .vars
        .iter()
        .map(|v| {
            let shape: &[usize] =
                if v.category == Category::Param { &[v.dim] } else { &[1, v.dim] };
            ArrayD::from_shape_vec(IxDyn(shape), value_of(*v)).unwrap()
        })
        .collect();
    let views = arrays.iter().map(|a| f64::erase(a.view())).collect();
    let args = CheckedArgs::new(&spec, views, None, Some(1), Some(1)).unwrap();
    evaluate_with_bounds(&spec, &args).unwrap().remove(0)
}

/// Data within (0.3, 0.8), where every operation is defined.
pub(super) fn data(seed: u64) -> impl Fn(Var) -> Vec<f64> {
    move |v| {
        let mut random = Random::new(seed ^ (u64::from(v.index) << 32));
        (0..v.dim).map(|_| random.within(0.3, 0.8)).collect()
    }
}

/// A formula at one pair with its derivatives along a direction of one variable each.
pub(super) fn duals(
    graph: &Arc<Graph>,
    root: NodeId,
    value_of: &dyn Fn(Var) -> Vec<f64>,
    directions: [(Var, Vec<f64>); 2],
) -> Vec<HyperDual> {
    let spec = one_pair(graph, root);
    let arrays = |of: &dyn Fn(Var) -> Vec<f64>| -> Vec<ArrayD<f64>> {
        let shape = |v: &Var| match v.category {
            Category::Param => vec![v.dim],
            _ => vec![1, v.dim],
        };
        let array = |v: &Var| ArrayD::from_shape_vec(IxDyn(&shape(v)), of(*v)).unwrap();
        spec.vars.iter().map(array).collect()
    };
    let along =
        |(v, u): &(Var, Vec<f64>)| arrays(&|w| if w == *v { u.clone() } else { vec![0.0; w.dim] });
    let all = [arrays(value_of), along(&directions[0]), along(&directions[1])];
    let [at, a, b] = [0, 1, 2].map(|k: usize| {
        let views = all[k].iter().map(|a| f64::erase(a.view())).collect();
        CheckedArgs::new(&spec, views, None, Some(1), Some(1)).unwrap()
    });
    evaluate_with_tangents(&spec, &at, [&a, &b]).unwrap().remove(0)
}

/// Rows `order` of an array.
pub(super) fn rows(buffer: &Buffer, order: &[usize]) -> Buffer {
    fn select<T: Clone>(a: &ArrayD<T>, order: &[usize]) -> ArrayD<T> {
        a.select(NdAxis(a.ndim() - 2), order)
    }
    match buffer {
        Buffer::F16(a) => Buffer::F16(select(a, order)),
        Buffer::BF16(a) => Buffer::BF16(select(a, order)),
        Buffer::F32(a) => Buffer::F32(select(a, order)),
        Buffer::F64(a) => Buffer::F64(select(a, order)),
        Buffer::I64(a) => Buffer::I64(select(a, order)),
    }
}

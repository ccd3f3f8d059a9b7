//! The work of derivatives: scalar operations of lowered programs.

use super::formula::Pool;
use crate::autodiff;
use crate::data::DType;
use crate::genred::Genred;
use crate::graph::{Builder, Category, Graph, Node, NodeId};
use crate::lower::{LowerOptions, lower};
use crate::ops::{self, OpDef};
use crate::outer::OuterNode;
use crate::program::{Op, Program, SInst, Stream};
use crate::random::Random;
use crate::reduce;
use crate::spec::{Axis, ReduceOptions, ReduceSpec};
use std::collections::HashMap;
use std::sync::Arc;

/// For each pair of rows a reverse-mode derivative does no more operations than the nodes of the
/// formula mean, times this (Baur & Strassen 1983; Griewank & Walther, *Evaluating Derivatives*, §3.3) ...
const FACTOR: usize = 8;
/// ... and this many for each component of the formula and of the variable: the cotangent is
/// multiplied by something also where the formula is free.
const EACH: usize = 5;

/// How often something is executed, with loops over components counted in full.
fn count(s: &Stream, wanted: impl Fn(&Op) -> bool) -> usize {
    let (mut turns, mut total) = (vec![1], 0);
    for inst in &s.insts {
        let now = turns[turns.len() - 1];
        match inst {
            SInst::Begin { extent, .. } => turns.push(now * extent),
            SInst::End(_) => {
                turns.pop();
            }
            SInst::Def { op, .. } if wanted(op) => total += now,
            _ => {}
        }
    }
    total
}
fn works(op: &Op) -> bool {
    matches!(op, Op::Prim(_) | Op::Table(_) | Op::Gather { .. })
}
/// Operations for each pair of rows.
fn operations(p: &Program) -> usize {
    count(&p.key, works) + count(&p.add, works)
}
fn calls(p: &Program, of: &'static OpDef) -> usize {
    let called = |op: &Op| matches!(op, Op::Table(o) if *o == of);
    count(&p.key, called) + count(&p.add, called)
}
/// A sum over j. `expand` counts elementary functions by their primitives.
fn program(graph: &Arc<Graph>, formula: NodeId, axis: Axis, expand: bool) -> Program {
    let vars = graph.variables(&[formula]);
    let spec = ReduceSpec {
        graph: graph.clone(),
        formula,
        weight: None,
        reduction: &reduce::SUM,
        k: 1,
        axis,
        names: vars.iter().map(|v| format!("v{}", v.index)).collect(),
        vars,
        dtype: DType::F32,
        options: ReduceOptions::default(),
    };
    lower(&spec, LowerOptions { expand, factor_sums: true, ..LowerOptions::default() }).unwrap()
}
/// Programs of the reductions of a computation.
fn programs(g: &Genred) -> Vec<Program> {
    let ports: Vec<_> = g.computation().outputs().iter().map(|o| o.port).collect();
    let graph = g.computation().graph();
    let reductions = graph.live(&ports).into_iter().filter_map(|id| match graph.node(id) {
        OuterNode::Reduce(r) => Some(r),
        _ => None,
    });
    let options = LowerOptions { factor_sums: true, ..LowerOptions::default() };
    reductions
        .map(|r| {
            let names = r.bindings.iter().map(|(v, _)| format!("v{}", v.index)).collect();
            lower(&r.spec(DType::F32, names), options).unwrap()
        })
        .collect()
}

const ALIASES: [&str; 5] = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)", "s = Pm(3)"];
/// Kernels of every family that people use; each with one elementary function.
const KERNELS: [(&str, &OpDef); 6] = [
    ("Exp(-g * SqDist(x, y)) * b", &ops::EXP),
    ("Exp(-WeightedSqDist(s, x, y)) * b", &ops::EXP),
    ("Exp(-g * Norm2(x - y)) * b", &ops::EXP),
    ("Exp(x | y) * b", &ops::EXP),
    ("Log(1 + SqDist(x, y)) * b", &ops::LOG),
    ("Sin(x | y) * b", &ops::SIN),
];

#[test]
fn derivatives_of_kernels_share_the_kernel() {
    for (text, function) in KERNELS {
        let g: Genred = Genred::new(text, ALIASES, &reduce::SUM, Axis::J).unwrap();
        let forward = &programs(&g)[0];
        assert_eq!(calls(forward, function), 1, "{text}");
        for name in ["x", "y", "b", "g", "s"] {
            for (mode, first) in [("gradient", g.vjp(name)), ("tangent", g.jvp(name))] {
                let first = first.unwrap();
                for p in programs(&first) {
                    let (cost, most) = (operations(&p), FACTOR * operations(forward));
                    assert!(calls(&p, function) <= 1, "{mode} in {name} of {text}\n{p}");
                    assert!(cost <= most, "{mode} in {name} of {text}: {cost} > {most}\n{p}");
                }
                for other in ["x", "y", "b"] {
                    let second = first.vjp(other).unwrap();
                    for p in programs(&second) {
                        // The exponential of a second derivative is that of the kernel.
                        let most = if std::ptr::eq(function, &ops::EXP) { 1 } else { 2 };
                        let n = calls(&p, function);
                        assert!(n <= most, "{other} of {mode} in {name} of {text}: {n}\n{p}");
                    }
                }
            }
        }
    }
}

/// The Hessian of a kernel in one variable calls the exponential exactly once for each pair.
#[test]
fn second_derivatives_call_the_exponential_once() {
    let text = "Exp(-g * SqDist(x, y)) * b";
    for axis in [Axis::I, Axis::J] {
        let g: Genred = Genred::new(text, ALIASES, &reduce::SUM, axis).unwrap();
        let hessian = g.vjp("x").unwrap().vjp("x").unwrap();
        let found: Vec<usize> = programs(&hessian).iter().map(|p| calls(p, &ops::EXP)).collect();
        assert_eq!(found, [1], "{axis:?}");
    }
}

/// Primitives of one evaluation of an operation, some of whose operands are constants: code of an
/// order that is known is longer than a call.
fn primitives(op: &'static OpDef, known: &[Option<f64>]) -> usize {
    let b = Builder::default();
    // Of both indices, so that the operation is done for each pair.
    let pair = || b.fresh(1, Category::I) + b.fresh(1, Category::J);
    let x: Vec<_> = known.iter().map(|c| c.map_or_else(pair, |c| b.lit(c))).collect();
    let root = b.node(Node::Map { op, args: x.iter().map(|e| e.id).collect() }).id;
    operations(&program(&Arc::new(b.into_graph()), root, Axis::J, true)).max(1)
}
/// Operations that the nodes of a formula mean.
fn meant(
    graph: &Graph,
    root: NodeId,
    costs: &mut HashMap<(&str, Vec<Option<u64>>), usize>,
) -> usize {
    let mut one = |id: NodeId| match graph.node(id) {
        Node::Contract { extents, operands, .. } => {
            extents.iter().product::<usize>() * operands.len()
        }
        Node::Map { op, args } => {
            let known: Vec<_> = args.iter().map(|&a| graph.constant(a)).collect();
            let key = (op.name, known.iter().map(|c| c.map(f64::to_bits)).collect());
            graph.dim(id) * *costs.entry(key).or_insert_with(|| primitives(op, &known))
        }
        Node::Fold { x, .. } => graph.dim(*x),
        Node::Gather { .. } => graph.dim(id),
        _ => 0,
    };
    graph.live(&[root]).into_iter().map(&mut one).sum()
}

#[test]
fn reverse_mode_costs_a_constant_times_the_formula() {
    let mut random = Random::new(11);
    let mut costs = HashMap::new();
    let (mut compared, mut worst) = (0, 0.0f64);
    for seed in 0..1000 {
        let b = Builder::default();
        let mut number = || random.below(super::case::NUMBERS as usize) as u32;
        let mut pool = Pool::new(&b, number(), number());
        (0..5).for_each(|_| pool.apply([number(), number(), number()]));
        let f = pool.last();
        let pool_text = pool.text.join("; ");
        let vars = b.graph().variables(&[f.id]);
        let e = b.fresh(f.dim(), Category::I);
        let roots: Vec<_> = vars
            .iter()
            .filter_map(|v| Some((*v, autodiff::vjp(f, e, &[b.var(*v)])[0]?.id)))
            .collect();
        let (f, dim) = (f.id, f.dim());
        let graph = Arc::new(b.into_graph());
        let forward = meant(&graph, f, &mut costs);
        for (v, root) in roots {
            let axis = if v.category == Category::J { Axis::I } else { Axis::J };
            let reverse = operations(&program(&graph, root, axis, true));
            let most = FACTOR * forward + EACH * (dim + v.dim);
            if reverse as f64 > worst * most as f64 {
                worst = reverse as f64 / most as f64;
                println!("{reverse} of {most}, formula {forward}: {}", pool_text);
            }
            assert!(
                reverse <= most,
                "seed {seed}, variable {}: {reverse} operations, formula {forward}, at most {most}\n{}",
                v.index,
                crate::print::nodes(&graph, &[f, root])
            );
            compared += 1;
        }
    }
    println!("{compared} gradients, the most expensive at {worst:.2} of the bound");
    assert!(compared > 500, "{compared} compared");
}

//! Properties of the core on random formulas: differentiation, simplification, reductions.

use super::case::choose;
use super::cases;
use super::judge::judge;
use super::support::{bounded, data, holds, rows};
use crate::autodiff;
use crate::data::Buffer;
use crate::graph::{Builder, Category, Ex, FoldOp, Graph, Node, NodeId, Operand, Var};
use crate::interp::{Interpreter, evaluate_with_bounds};
use crate::ops;
use crate::random::Random;
use crate::simplify;
use crate::spec::{Backend, CheckedArgs};
use proptest::collection::vec;
use proptest::prelude::prop_assert;
use std::cell::Cell;
use std::sync::Arc;

/// A random graph of plain nodes, and the same built by the simplifying constructors.
fn raw_and_simplified(steps: &[u64]) -> (Graph, NodeId, NodeId) {
    let b = Builder::default();
    let mut pairs: Vec<(Ex<'_>, Ex<'_>)> = vec![];
    for (index, dim) in [1, 2, 4, 6, 4, 3].into_iter().enumerate() {
        let x = b.var(Var { index: index as u32, dim, category: Category::I });
        pairs.push((x, x));
    }
    for v in [0.0, 1.0, -1.0, 2.0, -0.0] {
        pairs.push((b.lit(v), b.lit(v)));
    }
    for &step in steps {
        let random = &mut Random::new(step);
        let recent = |random: &mut Random| {
            let back = random.below(pairs.len()).min(random.below(pairs.len()));
            pairs[pairs.len() - 1 - back]
        };
        let (raw, simple) = recent(random);
        let d = raw.dim();
        let made = match random.below(7) {
            0..=2 => {
                let op = ops::ALL[random.below(ops::ALL.len())];
                let x: Vec<_> = (0..op.arity).map(|_| recent(random)).collect();
                let width = x.iter().map(|p| p.0.dim()).max().unwrap_or(1);
                if x.iter().any(|p| p.0.dim() != 1 && p.0.dim() != width) {
                    continue;
                }
                let args = x.iter().map(|p| p.0.id).collect();
                let plain: Vec<_> = x.iter().map(|p| p.1).collect();
                (b.node(Node::Map { op, args }), Ex::apply(op, &plain))
            }
            3 => {
                let step = 1 + random.below(2);
                let start = random.below(d);
                let len = 1 + random.below((d - 1 - start) / step + 1);
                let node = Node::Pick { x: raw.id, start, step, len };
                (b.node(node), simple.pick(start, step, len))
            }
            4 => {
                let (step, start) = (1 + random.below(2), random.below(3));
                let dim = start + (d - 1) * step + 1 + random.below(2);
                (b.node(Node::Put { x: raw.id, start, step, dim }), simple.put(start, step, dim))
            }
            5 => {
                let (other, same) = recent(random);
                (b.node(Node::Concat(vec![raw.id, other.id])), Ex::concat(&[simple, same]))
            }
            _ => {
                let extents = vec![choose(random.below(9) as u32, &[2, 3, 1]), 2, d];
                let fit = |dim: usize| -> Vec<Vec<u8>> {
                    let mut fits: Vec<Vec<u8>> = if dim == 1 { vec![vec![]] } else { vec![] };
                    for l in 0..3u8 {
                        if extents[l as usize] == dim {
                            fits.push(vec![l]);
                        }
                        for m in (0..3u8).filter(|&m| m != l) {
                            if extents[l as usize] * extents[m as usize] == dim {
                                fits.push(vec![l, m]);
                            }
                        }
                    }
                    fits
                };
                let mut operands = vec![];
                for _ in 0..1 + random.below(3) {
                    let (r, s) = recent(random);
                    let fits = fit(r.dim());
                    if !fits.is_empty() {
                        operands.push((r.id, s.id, fits[random.below(fits.len())].clone()));
                    }
                }
                if operands.is_empty() {
                    continue;
                }
                let mut out: Vec<u8> = (0..3).filter(|_| random.below(2) == 1).collect();
                let turn = random.below(out.len().max(1));
                out.rotate_left(turn);
                let operand = |node: NodeId, axes: &Vec<u8>| Operand { node, axes: axes.clone() };
                let plain = operands.iter().map(|o| operand(o.0, &o.2)).collect();
                let simple = operands.iter().map(|o| operand(o.1, &o.2)).collect();
                let node =
                    Node::Contract { extents: extents.clone(), operands: plain, out: out.clone() };
                (b.node(node), simplify::contract(&b, extents, simple, out))
            }
        };
        if made.0.dim() > 64 {
            continue;
        }
        assert_eq!(made.0.dim(), made.1.dim(), "simplification changed a dimension");
        pairs.push(made);
    }
    let (raw, simple) = pairs[pairs.len() - 1];
    let (raw, simple) = (raw.id, simple.id);
    (b.into_graph(), raw, simple)
}

#[test]
fn simplification_keeps_values() {
    let changed = Cell::new(0);
    let seed = proptest::num::u64::ANY;
    holds(6000, (vec(seed, 1..=10), seed), |(steps, seed)| {
        let (graph, raw, simple) = raw_and_simplified(&steps);
        if raw == simple {
            return Ok(());
        }
        changed.set(changed.get() + 1);
        let graph = Arc::new(graph);
        let (a, b) = (bounded(&graph, raw, &data(seed)), bounded(&graph, simple, &data(seed)));
        for k in 0..a.values.len() {
            let bound = a.bounds[k] + b.bounds[k];
            if !a.values[k].is_finite() || bound == f64::INFINITY {
                continue;
            }
            prop_assert!(
                (a.values[k] - b.values[k]).abs() <= bound,
                "component {k}: {:e} became {:e}\n{}",
                a.values[k],
                b.values[k],
                crate::print::nodes(&graph, &[raw, simple])
            );
        }
        Ok(())
    });
    assert!(changed.get() > 1000, "{} graphs were simplified", changed.get());
}

#[test]
fn a_part_of_a_transposed_matrix_keeps_what_is_summed() {
    let b = Builder::default();
    let x = b.var(Var { index: 0, dim: 4, category: Category::I });
    // The transposed matrix, summed over a label that nothing reads: three times the entries.
    let operands = vec![Operand { node: x.id, axes: vec![2, 1] }];
    let y = simplify::contract(&b, vec![3, 2, 2], operands, vec![1, 2]);
    let part = y.pick(1, 1, 1).id;
    let graph = Arc::new(b.into_graph());
    let y = bounded(&graph, part, &|_| vec![1.0, 2.0, 4.0, 8.0]);
    assert_eq!(y.values, [12.0]);
}

#[test]
fn reductions_do_not_depend_on_the_order_of_rows() {
    let compared = Cell::new(0);
    holds(600, cases(), |mut case| {
        // Over j, without ranges.
        (case.header[0], case.header[15]) = (0, 0);
        case.instructions.truncate(4);
        let problem = case.build().unwrap();
        let spec = &problem.spec;
        let roots: Vec<_> = std::iter::once(spec.formula).chain(spec.weight).collect();
        let counts_rows = |id: &NodeId| matches!(spec.graph.node(*id), Node::Index(Category::J));
        if spec.graph.live(&roots).iter().any(counts_rows) {
            return Ok(());
        }
        let plain = problem.checked(true).unwrap();
        let n = plain.columns();
        let reference = evaluate_with_bounds(spec, &plain).unwrap();
        let mut random = Random::new(case.header[4].into());
        let mut order: Vec<usize> = (0..n).collect();
        (1..n).rev().for_each(|k| order.swap(k, random.below(k + 1)));
        let permuted: Vec<Buffer> =
            spec.vars
                .iter()
                .zip(&problem.arguments)
                .map(|(v, a)| {
                    if v.category == Category::J { rows(&a.plain, &order) } else { a.plain.clone() }
                })
                .collect();
        let views = permuted.iter().filter_map(Buffer::view).collect();
        let [m, n] = problem.sizes;
        let args = CheckedArgs::new(spec, views, None, Some(m), Some(n)).unwrap();
        let mut out = args.allocate(spec).unwrap();
        Interpreter::new().compile(spec).unwrap().run(&args, &mut out).unwrap();
        for (r, got) in reference.iter().zip(&mut out) {
            if let Buffer::I64(a) = got {
                a.mapv_inplace(|j| if j < 0 { j } else { order[j as usize] as i64 });
                // Of equal keys the first row wins, which the permutation changes.
                let tied = (0..r.values.len()).filter(|k| !r.alternatives.contains_key(k));
                if tied.zip(a.iter()).any(|(k, &j)| r.values[k] != j as f64) {
                    continue;
                }
            }
            compared.set(compared.get() + 1);
            let j = judge(r, got, spec.k);
            prop_assert!(j.wrong.is_none(), "{:?}\n{}", j.wrong, problem.text);
        }
        Ok(())
    });
    assert!(compared.get() > 300, "{} compared", compared.get());
}

/// The conventions of Part A at points where the derivative does not exist.
#[test]
fn derivatives_at_kinks_are_as_documented() {
    let inf = f64::INFINITY;
    let cases: [(&ops::OpDef, &[f64], usize, f64); 14] = [
        (&ops::RELU, &[0.0], 0, 1.0),
        (&ops::ABS, &[0.0], 0, 0.0),
        (&ops::SQRT, &[0.0], 0, 0.0),
        (&ops::RSQRT, &[0.0], 0, 0.0),
        (&ops::ASIN, &[1.0], 0, 0.0),
        (&ops::ASIN, &[-1.0], 0, 0.0),
        (&ops::ACOS, &[1.0], 0, 0.0),
        (&ops::ACOS, &[-1.0], 0, 0.0),
        (&ops::SIN_X_DIV_X, &[0.0], 0, 0.0),
        (&ops::ATAN2, &[0.0, 0.0], 0, 0.0),
        (&ops::ATAN2, &[0.0, 0.0], 1, 0.0),
        (&ops::X_LOG_X, &[0.0], 0, -inf),
        (&ops::SIGN, &[0.0], 0, 0.0),
        (&ops::STEP, &[0.0], 0, 0.0),
    ];
    for (op, x, operand, expected) in cases {
        let op = ops::by_name(op.name).unwrap();
        for (seed, expected) in [(1.0, expected), (0.0, 0.0)] {
            let b = Builder::default();
            let v: Vec<_> = (0..op.arity).map(|_| b.fresh(1, Category::I)).collect();
            let e = b.fresh(1, Category::I);
            let Some(g) = autodiff::vjp(Ex::apply(op, &v), e, &[v[operand]])[0] else {
                assert_eq!(expected, 0.0, "{}", op.name);
                continue;
            };
            let root = g.id;
            let graph = b.into_graph();
            let value_of = |v: Var| vec![x.get(v.index as usize).copied().unwrap_or(seed)];
            let got = crate::interp::evaluate_at(&graph, root, value_of)[0];
            assert_eq!(got, expected, "{} at {x:?}, cotangent {seed}", op.name);
        }
    }
    // Clamp has slope 1 at both bounds, but 0 where they agree; the first of equals wins a Max.
    let slope = |x: f64, a: f64, c: f64| {
        let b = Builder::default();
        let v: Vec<_> = (0..3).map(|_| b.fresh(1, Category::I)).collect();
        let clamp = crate::composite::by_name("Clamp").unwrap();
        let y = (clamp.build)(&v, &[]).unwrap();
        let root = autodiff::vjp(y, b.lit(1.0), &[v[0]])[0].unwrap().id;
        let graph = b.into_graph();
        crate::interp::evaluate_at(&graph, root, |v| vec![[x, a, c][v.index as usize]])[0]
    };
    assert_eq!([slope(0.0, 0.0, 1.0), slope(1.0, 0.0, 1.0)], [1.0; 2]);
    assert_eq!(slope(2.0, 2.0, 2.0), 0.0);
    assert_eq!([slope(-1.0, 0.0, 1.0), slope(1.5, 0.0, 1.0)], [0.0; 2]);
    let b = Builder::default();
    let v = b.fresh(3, Category::I);
    let root = autodiff::vjp(v.fold(FoldOp::Max), b.lit(1.0), &[v])[0].unwrap().id;
    let graph = b.into_graph();
    let got = crate::interp::evaluate_at(&graph, root, |_| vec![1.0, 5.0, 5.0]);
    assert_eq!(got, [0.0, 1.0, 0.0]);
}

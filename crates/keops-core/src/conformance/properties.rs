//! Properties of the core on random formulas: differentiation, simplification, reductions.

use super::case::{Case, HEADER, NUMBERS};
use super::formula::Pool;
use super::judge::judge;
use super::random::{Random, choose};
use crate::autodiff;
use crate::data::{Buffer, DType, Element};
use crate::graph::{Builder, Category, Ex, FoldOp, Graph, Node, NodeId, Operand, Var};
use crate::interp::{Bounded, Interpreter, evaluate_with_bounds};
use crate::ops;
use crate::reduce;
use crate::simplify;
use crate::spec::{Axis, Backend, CheckedArgs, ReduceOptions, ReduceSpec};
use ndarray::{ArrayD, Axis as NdAxis, IxDyn};
use std::sync::Arc;

/// A plain sum over one column, in f64.
fn one_pair(graph: &Arc<Graph>, formula: NodeId) -> ReduceSpec {
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
fn bounded(graph: &Arc<Graph>, root: NodeId, value_of: &dyn Fn(Var) -> Vec<f64>) -> Bounded {
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

/// A random formula of up to `n` operations.
fn random_pool<'g>(b: &'g Builder, random: &mut Random, n: usize) -> Pool<'g> {
    let mut number = || random.below(NUMBERS as usize) as u32;
    let mut pool = Pool::new(b, number(), number());
    for _ in 0..n {
        pool.apply([number(), number(), number()]);
    }
    pool
}

/// Data within (0.3, 0.8), where every operation is defined.
fn data(seed: u64) -> impl Fn(Var) -> Vec<f64> {
    move |v| {
        let mut random = Random::new(seed ^ (u64::from(v.index) << 32));
        (0..v.dim).map(|_| random.within(0.3, 0.8)).collect()
    }
}

#[test]
fn reverse_and_forward_mode_are_adjoint() {
    let mut random = Random::new(3);
    let (mut compared, mut total) = (0, 0);
    for seed in 0..1500 {
        let b = Builder::default();
        let f = random_pool(&b, &mut random, 5).last();
        let vars = b.graph().variables(&[f.id]);
        if vars.is_empty() {
            continue;
        }
        let v = b.var(vars[random.below(vars.len())]);
        let (e, u) = (b.fresh(f.dim(), Category::I), b.fresh(v.dim(), Category::J));
        let reverse = autodiff::vjp(f, e, &[v])[0].map(|g| g.dot(u));
        let forward = autodiff::jvp(f, &[(v, u)]).map(|t| t.dot(e));
        let difference = match (reverse, forward) {
            (None, None) => continue,
            (r, t) => r.unwrap_or(b.lit(0.0)) - t.unwrap_or(b.lit(0.0)),
        };
        let (root, f) = (difference.id, f.id);
        let graph = Arc::new(b.into_graph());
        let d = bounded(&graph, root, &data(seed));
        total += 1;
        if d.bounds[0].is_finite() && d.values[0].is_finite() {
            compared += 1;
            assert!(
                d.values[0].abs() <= d.bounds[0],
                "seed {seed}: <e, J u> - <J' e, u> = {:e}, bound {:e}\n{}",
                d.values[0],
                d.bounds[0],
                crate::print::nodes(&graph, &[f])
            );
        }
    }
    assert!(compared * 10 > total * 9 && total > 600, "{compared} of {total} compared");
}

/// Is a formula differentiable in floating point too: no comparison, rounding or selection?
fn smooth(graph: &Graph, root: NodeId) -> bool {
    graph.live(&[root]).into_iter().all(|id| match graph.node(id) {
        Node::Map { op, .. } => {
            let b = Builder::default();
            let x: Vec<_> = (0..op.arity).map(|_| b.fresh(1, Category::I)).collect();
            let d = (op.derivative)(&x, Ex::apply(op, &x), b.fresh(1, Category::I));
            *op != &ops::ABS && *op != &ops::RELU && d.iter().all(|d| d.constant() != Some(0.0))
        }
        Node::Fold { .. } | Node::Gather { .. } => false,
        _ => true,
    })
}

#[test]
fn derivatives_agree_with_differences() {
    let mut random = Random::new(4);
    let mut compared = 0;
    for seed in 0..2000 {
        let b = Builder::default();
        let f = random_pool(&b, &mut random, 3).last();
        let vars = b.graph().variables(&[f.id]);
        if vars.is_empty() || !smooth(&b.graph(), f.id) {
            continue;
        }
        let v = b.var(vars[random.below(vars.len())]);
        let u = b.fresh(v.dim(), Category::I);
        let step = b.fresh(1, Category::Param);
        let Some(tangent) = autodiff::jvp(f, &[(v, u)]) else { continue };
        // f along the line v + s u.
        let source = b.graph().clone();
        let moved = v + step * u;
        let line = b.import_with(&source, f.id, |w| {
            (source.node(v.id) == &Node::Var(w)).then_some(moved.id)
        });
        let (f, tangent, line) = (f.id, tangent.id, line.id);
        let index = match b.graph().node(step.id) {
            Node::Var(w) => w.index,
            _ => unreachable!("a variable"),
        };
        let graph = Arc::new(b.into_graph());
        let values = data(seed);
        let at =
            |s: f64| bounded(&graph, line, &|w| if w.index == index { vec![s] } else { values(w) });
        let h = 1e-3;
        let [p, m, pp, mm] = [at(h), at(-h), at(2.0 * h), at(-2.0 * h)];
        let expected = bounded(&graph, tangent, &values);
        for k in 0..expected.values.len() {
            let noise = [&p, &m, &pp, &mm].iter().map(|o| o.bounds[k]).sum::<f64>() / h;
            let one = (p.values[k] - m.values[k]) / (2.0 * h);
            let two = (pp.values[k] - mm.values[k]) / (4.0 * h);
            let four = (4.0 * one - two) / 3.0;
            // The difference of the two estimates is the error of the worse; the combination is
            // of higher order.
            let tolerance = (one - two).abs() + noise + expected.bounds[k];
            let scale = expected.values[k].abs();
            if tolerance.is_finite() && tolerance < 1e-2 * scale {
                compared += 1;
                assert!(
                    (expected.values[k] - four).abs() <= tolerance,
                    "seed {seed}, component {k}: {:e}, differences {four:e} ± {tolerance:e}\n{}",
                    expected.values[k],
                    crate::print::nodes(&graph, &[f])
                );
            }
        }
    }
    assert!(compared > 2000, "{compared} compared");
}

/// A random graph of plain nodes, and the same built by the simplifying constructors.
fn raw_and_simplified(random: &mut Random) -> (Graph, NodeId, NodeId) {
    let b = Builder::default();
    let mut pairs: Vec<(Ex<'_>, Ex<'_>)> = vec![];
    for (index, dim) in [1, 2, 4, 6, 4, 3].into_iter().enumerate() {
        let x = b.var(Var { index: index as u32, dim, category: Category::I });
        pairs.push((x, x));
    }
    for v in [0.0, 1.0, -1.0, 2.0, -0.0] {
        pairs.push((b.lit(v), b.lit(v)));
    }
    for _ in 0..10 {
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
    let mut random = Random::new(5);
    let mut changed = 0;
    for seed in 0..6000 {
        let (graph, raw, simple) = raw_and_simplified(&mut random);
        if raw == simple {
            continue;
        }
        changed += 1;
        let graph = Arc::new(graph);
        let (a, b) = (bounded(&graph, raw, &data(seed)), bounded(&graph, simple, &data(seed)));
        for k in 0..a.values.len() {
            let bound = a.bounds[k] + b.bounds[k];
            if !a.values[k].is_finite() || bound == f64::INFINITY {
                continue;
            }
            assert!(
                (a.values[k] - b.values[k]).abs() <= bound,
                "seed {seed}, component {k}: {:e} became {:e}\n{}",
                a.values[k],
                b.values[k],
                crate::print::nodes(&graph, &[raw, simple])
            );
        }
    }
    assert!(changed > 2000, "{changed} graphs were simplified");
}

#[test]
fn reductions_do_not_depend_on_the_order_of_rows() {
    let mut random = Random::new(6);
    let mut compared = 0;
    for _ in 0..600 {
        let number = |random: &mut Random| random.below(NUMBERS as usize) as u32;
        let mut case = Case {
            header: (0..HEADER).map(|_| number(&mut random)).collect(),
            instructions: (0..4).map(|_| [(); 3].map(|()| number(&mut random))).collect(),
        };
        // Over j, without ranges.
        (case.header[0], case.header[15]) = (0, 0);
        let problem = case.build().unwrap();
        let spec = &problem.spec;
        let roots: Vec<_> = std::iter::once(spec.formula).chain(spec.weight).collect();
        let counts_rows = |id: &NodeId| matches!(spec.graph.node(*id), Node::Index(Category::J));
        if spec.graph.live(&roots).iter().any(counts_rows) {
            continue;
        }
        let plain = problem.checked(true).unwrap();
        let n = plain.columns();
        let reference = evaluate_with_bounds(spec, &plain).unwrap();
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
            compared += 1;
            let j = judge(r, got, spec.k);
            assert!(j.wrong.is_none(), "{:?}\n{}", j.wrong, problem.text);
        }
    }
    assert!(compared > 300, "{compared} compared");
}

/// An array with its rows in another order.
fn rows(buffer: &Buffer, order: &[usize]) -> Buffer {
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

#[test]
fn parts_of_a_reduction_combine_to_the_whole() {
    let b = Builder::default();
    let x = b.var(Var { index: 0, dim: 1, category: Category::I });
    let y = b.var(Var { index: 1, dim: 1, category: Category::J });
    let f = (x * y).un(&ops::SIN) * 3.0;
    let (f, w) = (f.id, y.id);
    let graph = Arc::new(b.into_graph());
    let mut random = Random::new(8);
    let column = |random: &mut Random, n: usize| {
        ArrayD::from_shape_fn(IxDyn(&[n, 1]), |_| random.within(-2.0, 2.0))
    };
    let (x, y) = (column(&mut random, 5), column(&mut random, 40));
    for reduction in reduce::ALL
        .iter()
        .filter(|r| ["Sum", "Min", "Max", "LogSumExp", "SumSoftMaxWeight"].contains(&r.name))
    {
        let soft = reduction.name == "SumSoftMaxWeight";
        let mut spec = one_pair(&graph, f);
        (spec.reduction, spec.weight) = (reduction, soft.then_some(w));
        let run = |spec: &ReduceSpec, from: usize, to: usize| {
            let part = y.slice_axis(NdAxis(0), ndarray::Slice::from(from..to));
            let views = vec![f64::erase(x.view()), f64::erase(part)];
            let args = CheckedArgs::new(spec, views, None, None, None).unwrap();
            let mut out = args.allocate(spec).unwrap();
            Interpreter::new().compile(spec).unwrap().run(&args, &mut out).unwrap();
            out.remove(0).to_f64()
        };
        let mut lse = one_pair(&graph, f);
        lse.reduction = &reduce::LOG_SUM_EXP;
        for cut in [0, 1, 17, 40] {
            let (left, right, whole) = (run(&spec, 0, cut), run(&spec, cut, 40), run(&spec, 0, 40));
            let (ml, mr) = (run(&lse, 0, cut), run(&lse, cut, 40));
            for k in 0..5 {
                let at = [k, 0];
                let (l, r, pl, pr) = (left[at], right[at], ml[at].exp(), mr[at].exp());
                let expected = match reduction.name {
                    "Sum" => l + r,
                    "Min" => l.min(r),
                    "Max" => l.max(r),
                    "LogSumExp" => (l.exp() + r.exp()).ln(),
                    _ => (l * pl + r * pr) / (pl + pr),
                };
                // 40 terms of size 3 at most.
                let error = (whole[at] - expected).abs();
                assert!(error < 1e-13, "{} cut at {cut}: {error:e}", reduction.name);
            }
        }
    }
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

//! Laws that hold for all formulas and reductions, on random cases that shrink; failing cases are
//! kept in `proptest-regressions` and run first.

use super::case::Case;
use super::cases;
use super::formula::Pool;
use super::strategies::formulas;
use super::support::{bounded, data, duals, holds, rows};
use crate::autodiff;
use crate::data::Buffer;
use crate::graph::{Builder, Category, Ex, Node, NodeId, Var};
use crate::interp::Interpreter;
use crate::parse::parse_formula;
use crate::print;
use crate::ranges::{Pattern, Ranges};
use crate::reduce::{Family, Order};
use crate::spec::{Backend, CheckedArgs, ReduceSpec};
use ndarray::ArrayD;
use proptest::prelude::*;
use std::cell::Cell;
use std::sync::Arc;

/// The formula of a case, of at most `most` operations.
fn formula<'g>(b: &'g Builder, case: &Case, most: usize) -> Ex<'g> {
    let mut pool = Pool::new(b, case.header[1], case.header[2]);
    case.instructions.iter().take(most).for_each(|i| pool.apply(*i));
    pool.last()
}
/// Some variable of a formula.
fn variable(b: &Builder, f: Ex<'_>, choice: u32) -> Option<Var> {
    let vars = b.graph().variables(&[f.id]);
    (!vars.is_empty()).then(|| vars[choice as usize % vars.len()])
}
/// Is a formula 0 at a pair with data within (0.3, 0.8), to rounding? `None` if nothing is known.
fn vanishes(b: Builder, root: NodeId, seed: u64) -> Option<Result<(), String>> {
    let graph = Arc::new(b.into_graph());
    let d = bounded(&graph, root, &data(seed));
    let known = d.values.iter().zip(&d.bounds).all(|(v, b)| v.is_finite() && b.is_finite());
    let zero = d.values.iter().zip(&d.bounds).all(|(v, b)| v.abs() <= *b);
    let text = || {
        format!("{:?} is not 0 within {:?}\n{}", d.values, d.bounds, print::nodes(&graph, &[root]))
    };
    known.then(|| if zero { Ok(()) } else { Err(text()) })
}

#[test]
fn reverse_and_forward_mode_are_adjoint() {
    let (known, total) = (Cell::new(0), Cell::new(0));
    holds(1000, cases(), |case| {
        let b = Builder::default();
        let f = formula(&b, &case, 5);
        let Some(v) = variable(&b, f, case.header[3]) else { return Ok(()) };
        let v = b.var(v);
        let (e, u) = (b.fresh(f.dim(), Category::I), b.fresh(v.dim(), Category::J));
        let reverse = autodiff::vjp(f, e, &[v])[0].map(|g| g.dot(u));
        let forward = autodiff::jvp(f, &[(v, u)]).map(|t| t.dot(e));
        let zero = b.lit(0.0);
        let difference = (reverse.unwrap_or(zero) - forward.unwrap_or(zero)).id;
        total.set(total.get() + 1);
        match vanishes(b, difference, case.header[13].into()) {
            Some(result) => {
                known.set(known.get() + 1);
                result.map_err(TestCaseError::fail)
            }
            None => Ok(()),
        }
    });
    assert!(known.get() * 10 > total.get() * 9 && total.get() > 300, "{known:?} of {total:?}");
}

/// Tangents and cotangents enter linearly: `D(s u + w) = s D u + D w` in both modes.
#[test]
fn derivatives_are_linear() {
    let known = Cell::new(0);
    holds(1000, cases(), |case| {
        let b = Builder::default();
        let f = formula(&b, &case, 4);
        let Some(v) = variable(&b, f, case.header[3]) else { return Ok(()) };
        let v = b.var(v);
        let s = b.fresh(1, Category::Param);
        let forward = case.header[4] % 2 == 0;
        let dim = if forward { v.dim() } else { f.dim() };
        let (u, w) = (b.fresh(dim, Category::I), b.fresh(dim, Category::J));
        let derivative = |x: Ex<'_>| {
            let x = b.ex(x.id);
            let made =
                if forward { autodiff::jvp(f, &[(v, x)]) } else { autodiff::vjp(f, x, &[v])[0] };
            made.unwrap_or(b.lit(0.0))
        };
        let difference = derivative(s * u + w) - (s * derivative(u) + derivative(w));
        let root = difference.id;
        match vanishes(b, root, case.header[13].into()) {
            Some(result) => {
                known.set(known.get() + 1);
                result.map_err(TestCaseError::fail)
            }
            None => Ok(()),
        }
    });
    assert!(known.get() > 250, "{} of 1000 known", known.get());
}

/// First and second derivatives along two directions, against hyper-dual numbers.
#[test]
fn derivatives_agree_with_dual_numbers() {
    let compared = [Cell::new(0), Cell::new(0)];
    holds(1000, cases(), |case| {
        let b = Builder::default();
        let f = formula(&b, &case, 3);
        let [Some(v), Some(w)] = [3, 4].map(|k: usize| variable(&b, f, case.header[k])) else {
            return Ok(());
        };
        let (x, y) = (b.var(v), b.var(w));
        let (u, t) = (b.fresh(v.dim, Category::I), b.fresh(w.dim, Category::J));
        let Some(first) = autodiff::jvp(f, &[(x, u)]) else { return Ok(()) };
        let zero = b.lit(0.0).broadcast(f.dim());
        let second = autodiff::jvp(first, &[(y, t)]).unwrap_or(zero);
        let variable = |e: Ex<'_>| match b.graph().node(e.id) {
            Node::Var(x) => *x,
            _ => unreachable!("a variable"),
        };
        let [u, t] = [u, t].map(variable);
        let (f, first, second) = (f.id, first.id, second.id);
        let graph = Arc::new(b.into_graph());
        let values = data(case.header[13].into());
        let expected = duals(&graph, f, &values, [(v, values(u)), (w, values(t))]);
        for (order, root) in [first, second].into_iter().enumerate() {
            let got = bounded(&graph, root, &values);
            for (k, e) in expected.iter().enumerate() {
                let want = [e.first[0], e.second][order];
                let size = 1.0 + e.value.abs() + e.first[0].abs() + e.first[1].abs() + want.abs();
                // At kinks there is no derivative, differences say nothing of huge slopes, and
                // nothing is known beside singular matrices.
                let known = got.values[k].is_finite() && got.bounds[k] < size;
                if !(want.is_finite() && known && size < 1e6) {
                    continue;
                }
                compared[order].set(compared[order].get() + 1);
                let tolerance = [1e-7, 1e-4][order] * size + got.bounds[k];
                prop_assert!(
                    (got.values[k] - want).abs() <= tolerance,
                    "order {}, component {k}: {:e}, dual numbers {want:e}\n{}",
                    order + 1,
                    got.values[k],
                    print::nodes(&graph, &[f, root])
                );
            }
        }
        Ok(())
    });
    assert!(compared.iter().all(|n| n.get() > 1000), "{compared:?} compared");
}

#[test]
fn formulas_print_and_parse() {
    let refused = Cell::new(0);
    holds(1000, formulas(), |f| {
        let text = f.formula.to_text();
        let aliases: Vec<&str> = text.aliases.iter().map(String::as_str).collect();
        match parse_formula(&text.formula, None, &aliases) {
            Ok(read) => {
                // The text numbers variables in the order of arguments.
                let mut same = crate::graph::Graph::default();
                let place = |v: Var| f.formula.vars.iter().position(|w| *w == v);
                let root = same.import(&f.formula.graph, &[f.formula.root], |g, v| {
                    let index = place(v)? as u32;
                    Some(g.intern(Node::Var(Var { index, ..v })))
                })[0];
                let (made, given) =
                    (print::nodes(&read.graph, &[read.root]), print::nodes(&same, &[root]));
                prop_assert_eq!(made.lines().count(), given.lines().count(), "{}\n{}", made, given);
                prop_assert_eq!(read.graph.dim(read.root), same.dim(root));
            }
            // Deeply nested text is refused, with an error that says so.
            Err(e) => {
                prop_assert!(e.to_string().contains("deep"), "{}\n{}", e, text.formula);
                refused.set(refused.get() + 1);
            }
        }
        Ok(())
    });
    assert!(refused.get() < 50, "{} refused", refused.get());
}

fn interpreted(spec: &ReduceSpec, args: &CheckedArgs<'_>) -> Vec<Buffer> {
    let mut out = args.allocate(spec).unwrap();
    Interpreter::new().compile(spec).unwrap().run(args, &mut out).unwrap();
    out
}
/// Does the formula of a case read the number of a row?
fn numbered(spec: &ReduceSpec) -> bool {
    let roots: Vec<NodeId> = std::iter::once(spec.formula).chain(spec.weight).collect();
    let index = |id: &NodeId| matches!(spec.graph.node(*id), Node::Index(_));
    spec.graph.live(&roots).iter().any(index)
}
fn equal(a: &ArrayD<f64>, b: &ArrayD<f64>) -> bool {
    a.shape() == b.shape() && a.iter().zip(b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()))
}

/// A reduction in ranges is, block by block, the dense reduction of the rows that the block meets;
/// so a union of ranges is that of their rows.
#[test]
fn ranges_are_dense_reductions_of_their_rows() {
    let compared = Cell::new(0);
    holds(1000, cases(), |mut case| {
        case.header[15] = 3;
        let problem = case.build().unwrap();
        let spec = &problem.spec;
        if numbered(spec) {
            return Ok(());
        }
        let args = problem.checked(true).unwrap();
        let whole = interpreted(spec, &args);
        let (kept, reduced) = (spec.axis.kept(), spec.axis.reduced());
        let has = |c: Category| spec.vars.iter().any(|v| v.category == c);
        if !has(kept) || !has(reduced) || !args.batch().is_empty() {
            return Ok(());
        }
        let pattern = problem.ranges.as_ref().map(|r| r.pattern(spec.axis).unwrap()).unwrap();
        let mut inside = vec![false; args.rows()];
        for (k, block) in pattern.blocks.iter().enumerate() {
            let own: Vec<usize> = (block[0]..block[1]).collect();
            inside[block[0]..block[1]].fill(true);
            let met: Vec<usize> = pattern.of_block(k).iter().flat_map(|r| r[0]..r[1]).collect();
            let part: Vec<Buffer> = spec
                .vars
                .iter()
                .zip(&problem.arguments)
                .map(|(v, a)| match v.category {
                    Category::Param => a.plain.clone(),
                    c => rows(&a.plain, if c == kept { &own } else { &met }),
                })
                .collect();
            let views = part.iter().filter_map(Buffer::view).collect();
            let dense = CheckedArgs::new(spec, views, None, None, None).unwrap();
            for (part, whole) in interpreted(spec, &dense).iter_mut().zip(&whole) {
                if let Buffer::I64(a) = part {
                    a.mapv_inplace(|j| if j < 0 { j } else { met[j as usize] as i64 });
                }
                let (got, expected) = (rows(whole, &own).to_f64(), part.to_f64());
                prop_assert!(equal(&got, &expected), "block {k} of {}", problem.text);
                compared.set(compared.get() + 1);
            }
        }
        // Other rows have what a reduction over nothing gives.
        let outside: Vec<usize> = (0..args.rows()).filter(|&r| !inside[r]).collect();
        let pair = |v: &Var, a: &Buffer| match v.category {
            Category::Param => a.clone(),
            c => rows(a, if c == kept { &outside } else { &[] }),
        };
        let part: Vec<Buffer> =
            spec.vars.iter().zip(&problem.arguments).map(|(v, a)| pair(v, &a.plain)).collect();
        let views = part.iter().filter_map(Buffer::view).collect();
        let none = CheckedArgs::new(spec, views, None, None, None).unwrap();
        for (none, whole) in interpreted(spec, &none).iter().zip(&whole) {
            prop_assert!(
                equal(&rows(whole, &outside).to_f64(), &none.to_f64()),
                "{}",
                problem.text
            );
        }
        Ok(())
    });
    assert!(compared.get() > 100, "{} blocks", compared.get());
}

/// The winners of a selection are the winners among those of its parts. (For sums this is a law of
/// the table, see [`super::check_reductions`].)
#[test]
fn selections_of_parts_combine() {
    let compared = Cell::new(0);
    holds(600, cases(), |mut case| {
        // Over j, without ranges, in f64: rounded keys do not tell which was smaller.
        (case.header[0], case.header[6], case.header[15]) = (0, 0, 0);
        let problem = case.build().unwrap();
        let spec = &problem.spec;
        let Family::Select(select) = &spec.reduction.kind else { return Ok(()) };
        if !(select.value && select.index) {
            return Ok(());
        }
        let args = problem.checked(true).unwrap();
        let (n, k) = (args.columns(), spec.winners());
        let cut = case.header[4] as usize % (n + 1);
        let part = |range: [usize; 2]| {
            let all =
                Pattern { blocks: vec![[0, args.rows()]], slices: vec![1], reduced: vec![range] };
            let ranges = Ranges::from_pattern(all).unwrap();
            let views = problem.arguments.iter().filter_map(|a| a.plain.view()).collect();
            let [m, n] = problem.sizes;
            let args = CheckedArgs::new(spec, views, Some(&ranges), Some(m), Some(n)).unwrap();
            let out = interpreted(spec, &args);
            (out[0].to_f64(), out[1].to_f64())
        };
        let (left, right, whole) = (part([0, cut]), part([cut, n]), part([0, n]));
        let width = whole.0.shape().last().copied().unwrap_or(0);
        let dim = width / k;
        let flat = |a: &ArrayD<f64>| -> Vec<f64> { a.iter().copied().collect() };
        let [l, r, w] = [left, right, whole].map(|(v, i)| (flat(&v), flat(&i)));
        for at in 0..w.0.len() / width.max(1) {
            for c in 0..dim {
                let entry = |(v, i): &(Vec<f64>, Vec<f64>), rank: usize| {
                    let place = at * width + rank * dim + c;
                    (v[place], i[place])
                };
                let both = [&l, &r].into_iter().flat_map(|p| (0..k).map(move |q| entry(p, q)));
                let mut found: Vec<(f64, f64)> = both.filter(|e| e.1 >= 0.0).collect();
                let sign = if select.order == Order::Min { 1.0 } else { -1.0 };
                found.sort_by(|a, b| {
                    let by_key = (sign * a.0).partial_cmp(&(sign * b.0)).unwrap();
                    by_key.then(a.1.total_cmp(&b.1))
                });
                for rank in 0..k {
                    let expected = found.get(rank).copied().unwrap_or((sign * f64::INFINITY, -1.0));
                    prop_assert_eq!(
                        entry(&w, rank),
                        expected,
                        "cut at {} of {}: {}",
                        cut,
                        n,
                        problem.text
                    );
                    compared.set(compared.get() + 1);
                }
            }
        }
        Ok(())
    });
    assert!(compared.get() > 500, "{} compared", compared.get());
}

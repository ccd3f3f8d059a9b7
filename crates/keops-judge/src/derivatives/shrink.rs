//! Smaller cases that are still wrong.

use super::case::{Case, complete, rows};
use super::random::Random;
use super::{Verdict, judge, wanted};
use crate::Devices;
use crate::naive::{Array, Category, Env, Expr, Op, value};

/// The smallest case on a greedy way down that is still wrong.
pub fn shrink(case: &Case, devices: &Devices) -> Case {
    let mut best = case.clone();
    let mut budget = 400;
    loop {
        let better = smaller(&best).into_iter().find(|c| {
            budget -= 1;
            budget > 0 && matches!(judge(c, devices), Verdict::Fault(_))
        });
        match better {
            Some(c) => best = c,
            None => return best,
        }
    }
}

/// Fills in cotangents, tangents and seed again; `None` if the function has no value.
fn completed(mut case: Case, plan: &[(bool, Vec<usize>)]) -> Option<Case> {
    let value = wanted::value(&case).ok()?;
    if value.data.iter().any(|v| v.is_nan()) {
        return None;
    }
    complete(&mut case, plan, &value.shape, &mut Random::new(7, 7));
    Some(case)
}
fn plan(case: &Case) -> Vec<(bool, Vec<usize>)> {
    case.steps.iter().map(|s| (s.forward, s.wrt.clone())).collect()
}

fn smaller(case: &Case) -> Vec<Case> {
    let mut all = vec![];
    let mut push = |c: Case, plan: &[(bool, Vec<usize>)]| all.extend(completed(c, plan));
    let whole = plan(case);
    // Fewer derivatives, of fewer variables.
    if whole.len() > 1 {
        push(case.clone(), &whole[..whole.len() - 1]);
    }
    for k in 0..whole.len() {
        if whole[k].1.len() > 1 && k + 1 == whole.len() {
            for v in &whole[k].1 {
                let mut fewer = whole.clone();
                fewer[k].1 = vec![*v];
                push(case.clone(), &fewer);
            }
        }
    }
    if case.single {
        push(Case { single: false, ..case.clone() }, &whole);
    } else if case.device != 3 {
        push(Case { device: 3, ..case.clone() }, &whole);
    }
    if case.infix != u64::MAX {
        push(Case { infix: u64::MAX, ..case.clone() }, &whole);
    }
    if case.blocks.is_some() {
        push(Case { blocks: None, ..case.clone() }, &whole);
    }
    let order: Vec<usize> = (0..case.variables.len()).collect();
    if case.written != order {
        push(Case { written: order, ..case.clone() }, &whole);
    }
    // Without batches, with one row less.
    let own = |k: usize| match case.variables[case.inputs()[k]].category {
        Category::Parameter => 1,
        _ => 2,
    };
    if case.args.iter().enumerate().any(|(k, a)| a.shape.len() > own(k)) {
        let cut = |(k, a): (usize, &Array<f64>)| {
            let shape = a.shape[a.shape.len() - own(k)..].to_vec();
            let n = shape.iter().product();
            Array { shape, data: a.data[..n].to_vec() }
        };
        let args = case.args.iter().enumerate().map(cut).collect();
        push(Case { args, ..case.clone() }, &whole);
    } else if case.blocks.is_none() {
        let (m, n) = rows(case);
        for (category, count) in [(Category::I, m), (Category::J, n)] {
            for gone in (0..count).filter(|_| count > 1) {
                let mut c = case.clone();
                for (k, v) in case.inputs().iter().map(|k| &case.variables[*k]).enumerate() {
                    // (Systems stay square.)
                    if v.category == category
                        || (case.solves() && v.category != Category::Parameter)
                    {
                        c.args[k].data.drain(gone * v.dim..(gone + 1) * v.dim);
                        c.args[k].shape[0] -= 1;
                    }
                }
                push(c, &whole);
            }
        }
    }
    // Without a variable that nothing uses.
    for (at, k) in case.inputs().iter().enumerate() {
        if case.depends_on(*k)
            || whole.iter().any(|s| s.1.contains(&at))
            || case.inner_declares == [*k]
        {
            continue;
        }
        let mut c = case.clone();
        let close = |v: usize| if v > *k { v - 1 } else { v };
        c.variables.remove(*k);
        c.args.remove(at);
        let plan: Vec<(bool, Vec<usize>)> = whole
            .iter()
            .map(|(f, w)| (*f, w.iter().map(|v| if *v > at { v - 1 } else { *v }).collect()))
            .collect();
        let order = |l: &[usize]| -> Vec<usize> {
            l.iter().filter(|v| *v != k).map(|v| close(*v)).collect()
        };
        (c.written, c.inner_declares) = (order(&case.written), order(&case.inner_declares));
        let renamed = |r: &crate::naive::Reduction| crate::naive::Reduction {
            formula: r.formula.renamed(&close),
            weight: r.weight.as_ref().map(|w| w.renamed(&close)),
            ..r.clone()
        };
        c.outer = renamed(&case.outer);
        c.inner = case.inner.as_ref().map(|(h, r)| (close(*h), renamed(r)));
        c.outer_solve = case.outer_solve.map(|s| s.renamed(&close));
        c.inner_solve = case.inner_solve.map(|s| s.renamed(&close));
        push(c, &plan);
    }
    // Simpler formulas.
    let of = |r: &crate::naive::Reduction| {
        let mut made = vec![];
        for f in simpler(&r.formula, case) {
            made.push(crate::naive::Reduction { formula: f, ..r.clone() });
        }
        for w in r.weight.iter().flat_map(|w| simpler(w, case)) {
            made.push(crate::naive::Reduction { weight: Some(w), ..r.clone() });
        }
        made
    };
    // (Of systems most parts are none.)
    for outer in of(&case.outer).into_iter().filter(|_| case.outer_solve.is_none()) {
        push(Case { outer, ..case.clone() }, &whole);
    }
    if let Some((hole, inner)) = case.inner.as_ref().filter(|_| case.inner_solve.is_none()) {
        for inner in of(inner) {
            push(Case { inner: Some((*hole, inner)), ..case.clone() }, &whole);
        }
    }
    // Simpler data.
    let rounded = |digits: f64| {
        let args: Vec<_> =
            case.args.iter().map(|a| a.map(|v| (v * digits).round() / digits)).collect();
        (args != case.args).then(|| Case { args, ..case.clone() })
    };
    // Finest first only if coarse fails: each is tried once.
    for c in [rounded(2.0), rounded(10.0)].into_iter().flatten() {
        push(c, &whole);
    }
    all
}

/// Formulas with one part replaced by a part of it, or by 1.
fn simpler(e: &Expr, case: &Case) -> Vec<Expr> {
    let dim = |e: &Expr| {
        let vars = case.variables.iter().map(|v| vec![0.5; v.dim]).collect();
        value(e, &mut Env::<f64> { vars, i: 0, j: 0 }).map(|v| v.len()).ok()
    };
    let d = dim(e);
    let mut made = vec![];
    if let Expr::Apply(_, x, _) = e {
        made.extend(x.iter().filter(|x| dim(x) == d).cloned());
    }
    if let Expr::Slice(x, ..) = e
        && dim(x) == d
    {
        made.push((**x).clone());
    }
    if !matches!(e, Expr::Num(_) | Expr::Var(_)) {
        for (k, v) in case.variables.iter().enumerate() {
            if Some(v.dim) == d && e.uses(k) {
                made.push(Expr::Var(k));
            }
        }
        match d {
            Some(1) => made.push(Expr::Num(1.0)),
            Some(d) => made.push(Expr::with(Op::SumT, vec![Expr::Num(1.0)], &[d as i64])),
            None => {}
        }
    } else if *e != Expr::Num(1.0) && d == Some(1) {
        made.push(Expr::Num(1.0));
    }
    made.retain(|m| m != e);
    match e {
        Expr::Apply(op, x, l) => {
            // Variables of differential operators stay.
            for k in (0..x.len()).filter(|k| !(*k == 1 && op.is_differential())) {
                for part in simpler(&x[k], case) {
                    let mut x = x.clone();
                    x[k] = part;
                    made.push(Expr::Apply(*op, x, l.clone()));
                }
            }
        }
        Expr::Slice(x, a, b, c) => {
            made.extend(simpler(x, case).into_iter().map(|x| Expr::Slice(Box::new(x), *a, *b, *c)));
        }
        _ => {}
    }
    made
}

//! Cases that solve: systems of symmetric kernels with a ridge, alone, in reductions, with the result of
//! a reduction or of other systems on their right-hand side.
//!
//! `x` and `y` of a kernel have the same data, so that its matrix is symmetric, but move alone.

use super::case::{Blocks, Case, chained, device, filled, reduction, rounded};
use super::random::Random;
use super::wanted;
use crate::naive::reduce::NAMES;
use crate::naive::{Array, Category, Expr, Op, Reduction, Ridge, Solve, Variable, value};

/// Of the relative residuals; of what f32 can reach.
pub fn tolerance(single: bool) -> f64 {
    if single { 1e-6 } else { 1e-13 }
}

/// What solvers may leave in the result, relative to its size: with residuals of the tolerance `t` a
/// solution errs by up to `κ t`, where `κ` bounds the condition, and each derivative solves with
/// what came out of the solve before. 0 without systems.
///
/// # Errors
/// What does not fit.
pub fn left(case: &Case) -> Result<f64, String> {
    if !case.solves() {
        return Ok(0.0);
    }
    let condition = wanted::condition(case)?;
    Ok(tolerance(case.single) * condition.powi(1 + case.steps.len() as i32))
}

fn other(category: Category) -> Category {
    if category == Category::J { Category::I } else { Category::J }
}

/// Variables as they are made up, and pairs of them with the same data.
#[derive(Default)]
struct Made {
    variables: Vec<Variable>,
    twins: Vec<(usize, usize)>,
}

impl Made {
    fn variable(&mut self, name: &str, category: Category, dim: usize) -> usize {
        let twice = self.variables.iter().any(|v| v.name == name);
        let name = if twice { format!("{name}2") } else { name.into() };
        self.variables.push(Variable { name, category, dim });
        self.variables.len() - 1
    }
    /// The same rows for both indices, the kept one first.
    fn pair(&mut self, names: [&str; 2], over: Category, dim: usize) -> [Expr; 2] {
        let kept = self.variable(names[0], other(over), dim);
        let reduced = self.variable(names[1], over, dim);
        self.twins.push((kept, reduced));
        [Expr::Var(kept), Expr::Var(reduced)]
    }
}

fn num(v: f64) -> Expr {
    Expr::Num(v)
}
fn add(a: Expr, b: Expr) -> Expr {
    Expr::of(Op::Add, [a, b])
}
fn times(a: Expr, b: Expr) -> Expr {
    Expr::of(Op::Mult, [a, b])
}

/// A positive semidefinite kernel.
fn kernel(r: &mut Random, [x, y]: &[Expr; 2], scale: &Expr) -> Expr {
    let square = Expr::of(Op::SqDist, [x.clone(), y.clone()]);
    let product = Expr::of(Op::Scalprod, [x.clone(), y.clone()]);
    let scaled = times(square.clone(), scale.clone());
    match r.below(8) {
        0 => Expr::of(Op::Inv, [add(num(1.0), scaled)]),
        1 => product,
        2 => times(num(0.2), Expr::of(Op::Square, [add(scale.clone(), product)])),
        3 => Expr::of(Op::Rsqrt, [add(scale.clone(), square)]),
        4 => Expr::of(Op::Matern, [square, num(3.5)]),
        5 => Expr::of(Op::Exp, [times(num(0.3), product)]),
        6 => Expr::of(
            Op::Exp,
            [Expr::of(Op::Minus, [Expr::of(Op::Divide, [square, scale.clone()])])],
        ),
        _ => Expr::of(Op::Exp, [Expr::of(Op::Minus, [scaled])]),
    }
}

/// A formula that is linear in the right-hand side of dimension `d` and has a symmetric matrix.
fn system(r: &mut Random, made: &mut Made, over: Category, unknown: usize) -> (Expr, Solve) {
    let d = made.variables[unknown].dim;
    let b = Expr::Var(unknown);
    // Those of another system, sometimes.
    let known = made.twins.iter().find(|t| made.variables[t.1].category == over);
    let points = match known.copied().filter(|_| r.chance(0.5)) {
        Some((x, y)) => [Expr::Var(x), Expr::Var(y)],
        None => {
            let dim = if r.chance(0.4) { d } else { 1 + r.below(3) };
            made.pair(["x", "y"], over, dim)
        }
    };
    let scale = match r.chance(0.6) {
        true => {
            let s = made.variable("s", Category::Parameter, 1);
            add(Expr::of(Op::Square, [Expr::Var(s)]), num(0.4))
        }
        false => num(*r.of(&[0.5, 1.0, 2.0])),
    };
    let mut k = kernel(r, &points, &scale);
    match r.below(6) {
        0 => k = add(k, kernel(r, &points, &scale)),
        1 => k = times(k, kernel(r, &points, &num(1.0))),
        2 => {
            let [u, v] = made.pair(["u", "v"], over, 1);
            k = times(times(u, v), k);
        }
        3 => {
            let same = Expr::of(Op::Equal, [Expr::Row(Category::I), Expr::Row(Category::J)]);
            k = add(k, times(num(0.5), same));
        }
        _ => {}
    }
    let mut formula = if r.chance(0.5) { times(k, b.clone()) } else { times(b.clone(), k) };
    if r.chance(0.2) {
        // A matrix for each pair: a diagonal.
        let p = made.variable("p", Category::Parameter, d);
        formula = times(formula, Expr::of(Op::Square, [Expr::Var(p)]));
    }
    let [x, y] = points;
    if let Expr::Var(v) = x
        && made.variables[v].dim == d
        && r.chance(0.4)
    {
        // And x yᵀ.
        formula = add(formula, times(Expr::of(Op::Scalprod, [y, b]), x));
    }
    let ridge = match r.chance(0.5) {
        true => Ridge::Variable(made.variable("alpha", Category::Parameter, 1)),
        false => Ridge::Number(*r.of(&[0.5, 0.7, 1.5])),
    };
    (formula, Solve { unknown, ridge })
}

fn sum(over: Category, formula: Expr) -> Reduction {
    Reduction { name: "Sum".into(), k: 1, over, formula, weight: None }
}

pub fn attempt(r: &mut Random, number: u64) -> Option<Case> {
    let mut made = Made::default();
    let over = *r.of(&[Category::J, Category::I]);
    let kind = r.below(10);
    let (mut outer_solve, mut inner_solve, mut inner) = (None, None, None);
    let outer;
    match kind {
        // A solution.
        0..=2 => {
            let b = made.variable("b", over, 1 + r.below(2));
            let (formula, solve) = system(r, &mut made, over, b);
            (outer, outer_solve) = (sum(over, formula), Some(solve));
        }
        // A reduction of a solution.
        3..=6 => {
            let b = made.variable("b", over, 1 + r.below(2));
            let (formula, solve) = system(r, &mut made, over, b);
            inner_solve = Some(solve);
            let hole = made.variable("h", over, made.variables[b].dim);
            inner = Some((hole, sum(over, formula)));
            if r.chance(0.5) {
                let category = *r.of(&[Category::I, Category::J, Category::Parameter]);
                made.variable("z", category, 1 + r.below(3));
            }
            let usable: Vec<usize> = (0..made.variables.len()).collect();
            let differentiable: Vec<&str> = NAMES
                .iter()
                .copied()
                .filter(|n| !n.starts_with("Arg") && *n != "Max_SumShiftExp")
                .collect();
            let name = if r.chance(0.5) { "Sum" } else { *r.of(&differentiable) };
            let axis = *r.of(&[Category::J, Category::I]);
            let mut made_outer = reduction(r, &made.variables, name, &usable, None, axis);
            if !made_outer.formula.uses(hole) {
                let factor = Expr::of(Op::Sum, [Expr::of(Op::Sin, [Expr::Var(hole)])]);
                made_outer.formula = times(made_outer.formula, factor);
            }
            outer = made_outer;
        }
        // A solution for the result of a reduction.
        7 => {
            let z = made.variable("z", *r.of(&[Category::I, Category::J]), 1 + r.below(3));
            made.variable("w", Category::Parameter, made.variables[z].dim);
            let usable = [0, 1];
            let name = *r.of(&["Sum", "LogSumExp", "SumSoftMaxWeight", "Mean"]);
            let g = reduction(r, &made.variables, name, &usable, None, other(over));
            let what = g.weight.as_ref().filter(|_| name != "Mean").unwrap_or(&g.formula);
            let zeros = made.variables.iter().map(|v| vec![0.0; v.dim]).collect();
            let mut env = crate::naive::Env::<f64> { vars: zeros, i: 0, j: 0 };
            let hole = made.variable("h", over, value(what, &mut env).ok()?.len());
            inner = Some((hole, g));
            let (formula, solve) = system(r, &mut made, over, hole);
            (outer, outer_solve) = (sum(over, formula), Some(solve));
        }
        // A solution for a solution.
        _ => {
            let b = made.variable("b", over, 1 + r.below(2));
            let (formula, solve) = system(r, &mut made, over, b);
            let hole = made.variable("h", over, made.variables[b].dim);
            (inner, inner_solve) = (Some((hole, sum(over, formula))), Some(solve));
            let (formula, solve) = system(r, &mut made, over, hole);
            (outer, outer_solve) = (sum(over, formula), Some(solve));
        }
    }
    let case = Case {
        args: vec![],
        written: vec![],
        inner_declares: vec![],
        steps: vec![],
        blocks: None,
        seed: vec![],
        infix: u64::MAX,
        saved: false,
        device: device(number),
        single: r.chance(0.1),
        variables: made.variables,
        outer,
        outer_solve,
        inner,
        inner_solve,
    };
    let (case, twins) = shuffled(r, case, &made.twins);
    with_data(r, case, &twins)
}

/// Its variables in another order; the ridge of the outer system is the last argument.
fn shuffled(r: &mut Random, case: Case, twins: &[(usize, usize)]) -> (Case, Vec<(usize, usize)>) {
    let n = case.variables.len();
    let mut order: Vec<usize> = (0..n).collect();
    (1..n).rev().for_each(|k| order.swap(k, r.below(k + 1)));
    if let Some(Solve { ridge: Ridge::Variable(k), .. }) = case.outer_solve {
        order.retain(|v| *v != k);
        order.push(k);
    }
    let to = |k: usize| order.iter().position(|v| *v == k).unwrap_or(k);
    let moved = |g: &Reduction| Reduction {
        formula: g.formula.renamed(&to),
        weight: g.weight.as_ref().map(|w| w.renamed(&to)),
        ..g.clone()
    };
    let inner: Option<(usize, Reduction)> = case.inner.as_ref().map(|(h, g)| (to(*h), moved(g)));
    let inner_solve = case.inner_solve.map(|s| s.renamed(&to));
    // The inner function declares what it uses, and some more; its ridge comes by itself.
    let hole = inner.as_ref().map(|i| i.0);
    let mut inner_declares: Vec<usize> = vec![];
    if let Some((hole, g)) = &inner {
        let own = |k: &usize| g.formula.uses(*k) || g.weight.as_ref().is_some_and(|w| w.uses(*k));
        let free =
            |k: &usize| *k != *hole && inner_solve.is_none_or(|s| s.ridge != Ridge::Variable(*k));
        let extra = |r: &mut Random, k: &usize| free(k) && r.chance(0.2);
        inner_declares = (0..n).filter(|k| own(k) || extra(r, k)).collect();
        if inner_declares.is_empty() {
            inner_declares.extend((0..n).find(free));
        }
        let count = inner_declares.len();
        (1..count).rev().for_each(|k| inner_declares.swap(k, r.below(k + 1)));
    }
    let mut written: Vec<usize> = (0..n).collect();
    if r.chance(0.3) {
        (1..n).rev().for_each(|k| written.swap(k, r.below(k + 1)));
    }
    debug_assert!(hole.is_none_or(|h| case.variables[order[h]].name.starts_with('h')));
    let case = Case {
        variables: order.iter().map(|k| case.variables[*k].clone()).collect(),
        outer: moved(&case.outer),
        outer_solve: case.outer_solve.map(|s| s.renamed(&to)),
        inner,
        inner_solve,
        inner_declares,
        written,
        ..case
    };
    (case, twins.iter().map(|(a, b)| (to(*a), to(*b))).collect())
}

fn with_data(r: &mut Random, mut case: Case, twins: &[(usize, usize)]) -> Option<Case> {
    let n = *r.of(&[1, 2, 3, 3, 4, 4, 5, 8]);
    let batch = r.chance(0.15).then_some(2);
    let hole = case.inner.as_ref().map(|i| i.0);
    let mut all: Vec<Option<Array<f64>>> = vec![None; case.variables.len()];
    for (k, v) in case.variables.iter().enumerate() {
        let own = (v.category != Category::Parameter).then_some(n);
        let lead = batch.filter(|_| r.chance(0.5)).map(|b| if r.chance(0.2) { 1 } else { b });
        let mut shape: Vec<usize> = lead.into_iter().chain(own).chain([v.dim]).collect();
        if own.is_none() && shape == [1, 1] {
            shape = vec![1];
        }
        let mut a = filled(r, shape, false);
        let solves = [case.outer_solve, case.inner_solve];
        if solves.iter().flatten().any(|s| s.ridge == Ridge::Variable(k)) {
            a.data.iter_mut().for_each(|v| *v = 0.6 + 0.5 * v.abs());
        }
        all[k] = Some(a);
    }
    for (x, y) in twins {
        all[*y] = all[*x].clone();
    }
    all.iter_mut().enumerate().filter(|(k, _)| Some(*k) == hole).for_each(|(_, a)| *a = None);
    case.args = all.into_iter().flatten().collect();
    if case.single {
        case.single = case.device != 3;
    }
    if case.single {
        case.args.iter_mut().for_each(rounded);
    }
    // Blocks on the diagonal keep the matrix symmetric.
    let there = |c| case.inputs().iter().any(|k| case.variables[*k].category == c);
    if n > 1 && there(Category::I) && there(Category::J) && r.chance(0.1) {
        let cut = 1 + r.below(n - 1);
        let blocks = vec![[0, cut], [cut, n]];
        case.blocks = Some(Blocks { rows: blocks.clone(), ends: vec![1, 2], columns: blocks });
    }
    let lengths: &[usize] = if case.single { &[0, 1] } else { &[0, 1, 1, 1, 2, 2, 2, 2, 2, 3] };
    chained(case, lengths, r)
}

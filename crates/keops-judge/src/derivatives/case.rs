//! A random function of arrays, a chain of derivatives, and the data to evaluate them at.

use super::formula::Maker;
use super::random::Random;
use super::{systems, wanted};
use crate::naive::reduce::{NAMES, canonical};
use crate::naive::{Array, Category, Expr, Op, Reduction, Solve, Variable};

/// One step of differentiation.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// jvp instead of vjp.
    pub forward: bool,
    /// Arguments, counted over inputs and the cotangents and tangents of the steps before.
    pub wrt: Vec<usize>,
    /// The cotangent of the result so far, or a tangent for each argument.
    pub with: Vec<Array<f64>>,
}

/// Ranges as KeOps has them: kept rows, ends, reduced rows; of the reduction over `j`.
#[derive(Clone, PartialEq, Debug)]
pub struct Blocks {
    /// Blocks of rows of i.
    pub rows: Vec<[usize; 2]>,
    /// Ends of their lists of intervals.
    pub ends: Vec<usize>,
    /// Intervals of rows of j.
    pub columns: Vec<[usize; 2]>,
}

/// A case.
#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    /// Declared variables, in the order of arguments.
    pub variables: Vec<Variable>,
    /// The order in which aliases are written.
    pub written: Vec<usize>,
    /// The function, or the outer one of two.
    pub outer: Reduction,
    /// It is not a sum, but the solution of its systems.
    pub outer_solve: Option<Solve>,
    /// A variable that stands for the result of another reduction.
    pub inner: Option<(usize, Reduction)>,
    /// Its systems, if it solves.
    pub inner_solve: Option<Solve>,
    /// Which variables the inner function declares, in its order.
    pub inner_declares: Vec<usize>,
    /// Derivatives, the first first.
    pub steps: Vec<Step>,
    /// The pairs, if not all.
    pub blocks: Option<Blocks>,
    /// Data of every variable but the one that stands for a result.
    pub args: Vec<Array<f64>>,
    /// What the results are multiplied with and summed.
    pub seed: Vec<Array<f64>>,
    /// How operators are written.
    pub infix: u64,
    /// `Grad_WithSavedForward` instead of vjp.
    pub saved: bool,
    /// Number of the device.
    pub device: usize,
    /// Data in f32.
    pub single: bool,
}

/// Rows of i and of j.
pub fn rows(case: &Case) -> (usize, usize) {
    let count = |category| {
        let inputs = case.inputs();
        let k = inputs.iter().position(|k| case.variables[*k].category == category);
        k.map_or(1, |k| case.args[k].shape[case.args[k].shape.len() - 2])
    };
    (count(Category::I), count(Category::J))
}

impl Case {
    /// Variables that are arguments.
    pub fn inputs(&self) -> Vec<usize> {
        let hole = self.inner.as_ref().map(|i| i.0);
        (0..self.variables.len()).filter(|k| Some(*k) != hole).collect()
    }
    /// Does it solve systems?
    pub fn solves(&self) -> bool {
        self.outer_solve.is_some() || self.inner_solve.is_some()
    }
    /// Does the function depend on a variable?
    pub(super) fn depends_on(&self, k: usize) -> bool {
        let of = |r: &Reduction, solve: &Option<Solve>| {
            let formula = r.formula.uses(k) || r.weight.as_ref().is_some_and(|w| w.uses(k));
            formula || solve.is_some_and(|s| s.uses(k))
        };
        let inner = self.inner.as_ref().is_some_and(|i| of(&i.1, &self.inner_solve));
        inner || of(&self.outer, &self.outer_solve)
    }
    /// Operations and reductions in it.
    pub fn uses(&self, see: &mut dyn FnMut(&str)) {
        let inner = self.inner.as_ref().map(|i| (&i.1, &self.inner_solve));
        for (r, solve) in std::iter::once((&self.outer, &self.outer_solve)).chain(inner) {
            see(if solve.is_some() { "KernelSolve" } else { canonical(&r.name) });
            for f in std::iter::once(&r.formula).chain(&r.weight) {
                f.walk(&mut |e| {
                    if let Expr::Apply(op, ..) = e {
                        see(op.name());
                    }
                });
            }
        }
    }
}

fn number(r: &mut Random, grid: bool) -> f64 {
    match grid {
        true => *r.of(&[-1.0, -0.5, 0.0, 0.5, 1.0, 2.0]),
        false => 3.0 * r.unit() - 1.5,
    }
}
pub(super) fn rounded(a: &mut Array<f64>) {
    a.data.iter_mut().for_each(|v| *v = f64::from(*v as f32));
}
pub(super) fn filled(r: &mut Random, shape: Vec<usize>, grid: bool) -> Array<f64> {
    let data = (0..shape.iter().product()).map(|_| number(r, grid)).collect();
    Array { shape, data }
}

const LETTERS: [&str; 8] = ["x", "y", "b", "s", "p", "z", "a", "c"];

fn declare(r: &mut Random) -> Vec<Variable> {
    let n = 1 + r.below(5);
    let mut names = LETTERS.to_vec();
    let mut variables: Vec<Variable> = (0..n)
        .map(|_| {
            let name = names.remove(r.below(names.len())).to_string();
            let category =
                *r.of(&[Category::I, Category::J, Category::J, Category::I, Category::Parameter]);
            Variable { name, category, dim: *r.of(&[1, 1, 2, 2, 3, 3, 4]) }
        })
        .collect();
    // Several of one kind are what confuses.
    if n > 1 && r.chance(0.5) {
        let (a, b) = (r.below(n), r.below(n));
        variables[a].dim = variables[b].dim;
        if r.chance(0.5) {
            variables[a].category = variables[b].category;
        }
    }
    variables
}

/// A reduction of some of the variables; `featured` is made to occur.
pub(super) fn reduction(
    r: &mut Random,
    variables: &[Variable],
    name: &str,
    usable: &[usize],
    featured: Option<Op>,
    over: Category,
) -> Reduction {
    let some = |r: &mut Random| -> Vec<usize> {
        usable.iter().copied().filter(|_| r.chance(0.75)).collect()
    };
    let (mine, others) = (some(r), some(r));
    let scalar = matches!(name, "LogSumExp" | "SumSoftMaxWeight" | "Max_SumShiftExp");
    let dim = if scalar { 1 } else { 1 + r.below(3) };
    let depth = 1 + r.below(3);
    let averages = matches!(name, "Mean" | "Variance");
    let in_weight = scalar && r.chance(0.3);
    let make = |r: &mut Random, usable: &[usize], d: usize, featured: Option<Op>| {
        let budget = 8;
        let mut m = Maker { random: r, variables, usable, budget };
        match featured {
            None => m.formula(d, depth),
            Some(op) => {
                let (e, have) = m.featuring(op, depth);
                m.fit(e, have, d)
            }
        }
    };
    let mut formula = make(r, &mine, dim, featured.filter(|_| !in_weight));
    if scalar {
        // Exponents of moderate size.
        formula = Expr::of(Op::Atan, [formula]);
    }
    let wants =
        name == "SumSoftMaxWeight" || ((scalar || averages) && (in_weight || r.chance(0.5)));
    let weight = wants.then(|| {
        let d = if averages { 1 } else { 1 + r.below(2) };
        let w = make(r, &others, d, featured.filter(|_| in_weight));
        match name {
            "LogSumExp" | "Mean" | "Variance" => {
                Expr::of(Op::Add, [Expr::of(Op::Sin, [w]), Expr::Num(1.5)])
            }
            _ => w,
        }
    });
    Reduction { name: name.into(), k: 1 + r.below(3), over, formula, weight }
}

/// The case of a seed and a number; cases with values that are huge or no numbers are drawn again.
pub fn draw(seed: u64, number: u64) -> Option<Case> {
    // Some are systems, of a stream of choices of their own.
    let mut r = Random::new(seed ^ 0x501e, number);
    if r.chance(0.1) {
        return (0..30).find_map(|_| systems::attempt(&mut r, number));
    }
    let mut r = Random::new(seed, number);
    let featured = Op::ALL[(number as usize) % Op::ALL.len()];
    for _ in 0..30 {
        if let Some(case) = attempt(&mut r, featured, number) {
            return Some(case);
        }
    }
    None
}

fn attempt(r: &mut Random, featured: Op, number_of_case: u64) -> Option<Case> {
    let mut variables = declare(r);
    if featured == Op::Gather {
        // Tables are parameters; with two of them one is hardly ever left out.
        variables[0].category = Category::Parameter;
        // Gradients in tables of 32 entries and more are scattered.
        if r.chance(0.5) {
            variables[0].dim = 40;
        }
        if let Some(v) = variables.get_mut(1) {
            v.category = Category::Parameter;
        }
    }
    let all: Vec<usize> = (0..variables.len()).collect();
    let differentiable: Vec<&str> =
        NAMES.iter().copied().filter(|n| !n.starts_with("Arg")).collect();
    let name = match r.chance(0.35) {
        true => "Sum",
        false => *r.of(&differentiable),
    };
    let over = *r.of(&[Category::J, Category::I]);
    let composed = name != "Max_SumShiftExp" && r.chance(0.2);
    let mut inner = None;
    let mut inner_declares = vec![];
    let mut usable = all.clone();
    if composed {
        let inner_over = *r.of(&[Category::J, Category::I]);
        let kept = if inner_over == Category::J { Category::I } else { Category::J };
        let inner_name =
            *r.of(&["Sum", "LogSumExp", "SumSoftMaxWeight", "Min", "Max", "Sum", "Mean"]);
        let g = reduction(r, &variables, inner_name, &all, None, inner_over);
        let used = |k: &usize| g.formula.uses(*k) || g.weight.as_ref().is_some_and(|w| w.uses(*k));
        inner_declares = all.iter().copied().filter(|k| used(k) || r.chance(0.3)).collect();
        for k in (1..inner_declares.len()).rev() {
            inner_declares.swap(k, r.below(k + 1));
        }
        if inner_declares.is_empty() {
            return None;
        }
        let zeros = variables.iter().map(|v| vec![0.0; v.dim]).collect();
        let mut env = crate::naive::Env::<f64> { vars: zeros, i: 0, j: 0 };
        let what = g.weight.as_ref().filter(|_| inner_name != "Mean").unwrap_or(&g.formula);
        let dim = crate::naive::value(what, &mut env).ok()?.len();
        let at = r.below(variables.len() + 1);
        variables.insert(at, Variable { name: "h".into(), category: kept, dim });
        let shift = |k: usize| if k >= at { k + 1 } else { k };
        let moved = |e: &Expr| e.renamed(&shift);
        let g = Reduction { formula: moved(&g.formula), weight: g.weight.as_ref().map(moved), ..g };
        inner_declares = inner_declares.iter().map(|k| shift(*k)).collect();
        usable = (0..variables.len()).collect();
        inner = Some((at, g));
    }
    let mut outer = reduction(r, &variables, name, &usable, Some(featured), over);
    if let Some((hole, _)) = &inner
        && !outer.formula.uses(*hole)
    {
        let d = variables[*hole].dim;
        let mut m = Maker { random: r, variables: &variables, usable: &usable, budget: 0 };
        let factor = m.fit(Expr::of(Op::Sin, [Expr::Var(*hole)]), d, 1);
        outer.formula = Expr::of(Op::Mult, [outer.formula, factor]);
    }
    // Data.
    let zero_rows = r.chance(0.01);
    let m = if zero_rows && r.chance(0.5) { 0 } else { 1 + r.below(4) };
    let n = if zero_rows && m > 0 { 0 } else { 1 + r.below(4) };
    let batch: Vec<usize> = match r.below(8) {
        0 => vec![2],
        1 if r.chance(0.3) => vec![2, 2],
        _ => vec![],
    };
    let grid = r.chance(0.06);
    let hole = inner.as_ref().map(|i: &(usize, Reduction)| i.0);
    let mut args: Vec<Array<f64>> = vec![];
    let mut kinds: Vec<(usize, Vec<usize>)> = vec![];
    for (k, v) in variables.iter().enumerate() {
        if Some(k) == hole {
            continue;
        }
        let lead = batch.len() - r.below(batch.len() + 1);
        let mut shape: Vec<usize> = batch[batch.len() - lead..].to_vec();
        for d in &mut shape {
            if r.chance(0.3) {
                *d = 1;
            }
        }
        match v.category {
            Category::I => shape.push(m),
            Category::J => shape.push(n),
            Category::Parameter => {}
        }
        shape.push(v.dim);
        // One number in a column is no batch, and its gradient is one number.
        if v.category == Category::Parameter && shape == [1, 1] {
            shape = vec![1];
        }
        let mut a = filled(r, shape.clone(), grid);
        // A cloud against itself.
        if r.chance(0.1)
            && let Some(other) = kinds.iter().position(|(d, _)| *d == v.dim)
        {
            let source: Vec<f64> = args[other].data.clone();
            if !source.is_empty() {
                a.data.iter_mut().enumerate().for_each(|(k, x)| *x = source[k % source.len()]);
            }
        }
        kinds.push((v.dim, shape));
        args.push(a);
    }
    let blocks = (m > 1 && n > 1 && r.chance(0.12)).then(|| {
        let (a, b) = (1 + r.below(m - 1), 1 + r.below(n - 1));
        let columns = [[0, b], [b, n], [0, n]];
        let pick = |r: &mut Random| columns[r.below(3)];
        Blocks { rows: vec![[0, a], [a, m]], ends: vec![1, 2], columns: vec![pick(r), pick(r)] }
    });
    let rows_there =
        |c: Category| variables.iter().enumerate().any(|(k, v)| v.category == c && Some(k) != hole);
    let blocks = blocks.filter(|_| rows_there(Category::I) && rows_there(Category::J));
    let mut written: Vec<usize> = (0..variables.len()).collect();
    if r.chance(0.3) {
        for k in (1..written.len()).rev() {
            written.swap(k, r.below(k + 1));
        }
    }
    let infix = if r.chance(0.8) { u64::MAX } else { (r.unit() * 1e18) as u64 };
    let mut case = Case {
        variables,
        written,
        outer,
        outer_solve: None,
        inner,
        inner_solve: None,
        inner_declares,
        steps: vec![],
        blocks,
        args,
        seed: vec![],
        infix,
        saved: false,
        device: device(number_of_case),
        single: r.chance(0.15),
    };
    // (The interpreter computes in f64 whatever the data are.)
    case.single &= case.device != 3;
    if case.single {
        case.args.iter_mut().for_each(rounded);
    }
    chained(case, &[1, 1, 1, 2, 2, 2, 2, 3], r)
}

/// The case with a random chain of derivatives, of one of these lengths; none if its values are huge
/// or no numbers.
pub(super) fn chained(mut case: Case, lengths: &[usize], r: &mut Random) -> Option<Case> {
    let value = wanted::value(&case).ok()?;
    if value.data.iter().any(|v| v.is_nan() || v.abs() > 1e3)
        && value.data.iter().any(|v| v.is_finite())
    {
        return None;
    }
    if value.data.iter().any(|v| v.is_nan()) {
        return None;
    }
    let depth = *r.of(lengths);
    let used: Vec<usize> = case
        .inputs()
        .iter()
        .enumerate()
        .filter(|(_, k)| case.depends_on(**k))
        .map(|(at, _)| at)
        .collect();
    let mut plan: Vec<(bool, Vec<usize>)> = vec![];
    let mut count = case.args.len();
    for k in 0..depth {
        let forward = r.chance(0.35);
        let pick = |r: &mut Random| match used.is_empty() || r.chance(0.2) {
            true => r.below(count),
            false => *r.of(&used),
        };
        let mut wrt = vec![pick(r)];
        if (forward || k + 1 == depth) && r.chance(0.25) {
            let other = pick(r);
            if !wrt.contains(&other) {
                wrt.push(other);
            }
        }
        count += if forward { wrt.len() } else { 1 };
        plan.push((forward, wrt));
    }
    case.saved = depth == 1
        && plan[0].1.len() == 1
        && case.inner.is_none()
        && !case.solves()
        && case.blocks.is_none()
        && r.chance(0.15)
        && !matches!(canonical(&case.outer.name), "Max_SumShiftExp" | "Mean" | "Variance")
        && !case.outer.name.contains("_Arg");
    complete(&mut case, &plan, &value.shape, r);
    Some(case)
}

/// The device of a case.
pub(super) fn device(number: u64) -> usize {
    match number % 16 {
        0 => 3,
        1 => 2,
        2..=4 => 1,
        _ => 0,
    }
}

/// Draws cotangents, tangents and the seed of a chain of derivatives.
pub fn complete(case: &mut Case, plan: &[(bool, Vec<usize>)], value: &[usize], r: &mut Random) {
    case.steps.clear();
    let mut shapes: Vec<Vec<usize>> = case.args.iter().map(|a| a.shape.clone()).collect();
    let mut results = vec![value.to_vec()];
    for (forward, wrt) in plan {
        let wanted: Vec<Vec<usize>> = match forward {
            true => wrt.iter().map(|k| shapes[*k].clone()).collect(),
            false => results.clone(),
        };
        if !forward {
            results = wrt.iter().map(|k| shapes[*k].clone()).collect();
        }
        shapes.extend(wanted.iter().cloned());
        let mut with: Vec<_> = wanted.into_iter().map(|s| filled(r, s, false)).collect();
        if case.single {
            with.iter_mut().for_each(rounded);
        }
        case.steps.push(Step { forward: *forward, wrt: wrt.clone(), with });
    }
    case.seed = results.into_iter().map(|s| filled(r, s, false)).collect();
}

//! Reductions over the rows of `i` or `j`, for batches and for some of the pairs.

use super::eval::{Env, value};
use super::expr::Expr;
use super::scalar::Real;

/// What a variable has a row for; also the axis that a reduction runs over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Category {
    /// Each i.
    I,
    /// Each j.
    J,
    /// Nothing: one row for all.
    Parameter,
}

/// A declared variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variable {
    /// Name, which may be empty.
    pub name: String,
    /// Category.
    pub category: Category,
    /// Components of a row.
    pub dim: usize,
}

/// Numbers in row-major order: (batch…, rows, dim), or (batch…, dim) of a parameter.
#[derive(Clone, PartialEq, Debug)]
pub struct Array<T> {
    /// Shape.
    pub shape: Vec<usize>,
    /// Entries.
    pub data: Vec<T>,
}

impl<T: Copy> Array<T> {
    /// In another type.
    pub fn map<U>(&self, f: impl FnMut(T) -> U) -> Array<U> {
        Array { shape: self.shape.clone(), data: self.data.iter().copied().map(f).collect() }
    }
    /// Batch axes and rows of an argument.
    pub(super) fn split(&self, category: Category) -> (&[usize], usize) {
        match (category, &self.shape[..]) {
            // One number in a column is a parameter of dimension 1.
            (Category::Parameter, [1, 1]) => (&[], 1),
            (Category::Parameter, [batch @ .., _]) => (batch, 1),
            (_, [batch @ .., rows, _]) => (batch, *rows),
            (_, shape) => (shape, 1),
        }
    }
}

/// Which pairs (i, j) there are.
#[derive(Clone, PartialEq, Debug)]
pub struct Pairs {
    /// Rows of j.
    pub columns: usize,
    /// Is the pair there? By rows.
    pub there: Vec<bool>,
}

impl Pairs {
    /// From ranges as of KeOps: blocks of kept rows, ends in the list of intervals for each block
    /// (counted from 0), and intervals of reduced rows.
    pub fn from_ranges(
        (m, n): (usize, usize),
        kept: &[[usize; 2]],
        ends: &[usize],
        reduced: &[[usize; 2]],
        over: Category,
    ) -> Pairs {
        let mut there = vec![false; m * n];
        for (b, block) in kept.iter().enumerate() {
            let first = if b == 0 { 0 } else { ends[b - 1] };
            for interval in &reduced[first..ends[b]] {
                for k in block[0]..block[1] {
                    for r in interval[0]..interval[1] {
                        there[if over == Category::J { k * n + r } else { r * n + k }] = true;
                    }
                }
            }
        }
        Pairs { columns: n, there }
    }
}

/// A reduction of a formula.
#[derive(Clone, PartialEq, Debug)]
pub struct Reduction {
    /// Name, as in docs/operations.md or another spelling from there.
    pub name: String,
    /// Number of winners.
    pub k: usize,
    /// What it runs over: `I` or `J`.
    pub over: Category,
    /// Formula.
    pub formula: Expr,
    /// Weight.
    pub weight: Option<Expr>,
}

/// Results of a reduction.
#[derive(Clone, PartialEq, Debug)]
pub struct Results<T> {
    /// Values, if there are any.
    pub values: Option<Array<T>>,
    /// Indices, if there are any.
    pub indices: Option<Array<i64>>,
}

/// The names of reductions that are known here.
pub const NAMES: [&str; 16] = [
    "Sum",
    "LogSumExp",
    "SumSoftMaxWeight",
    "Max_SumShiftExp",
    "Zero",
    "Min",
    "Max",
    "ArgMin",
    "ArgMax",
    "Min_ArgMin",
    "Max_ArgMax",
    "KMin",
    "ArgKMin",
    "KMin_ArgKMin",
    "Mean",
    "Variance",
];

/// The name in the first column of the table.
pub fn canonical(name: &str) -> &str {
    match name {
        "LogSumExpWeight" | "LogSumExp_Weight" => "LogSumExp",
        "SoftMax" => "SumSoftMaxWeight",
        "MaxSumShiftExp" | "Max_SumShiftExpWeight" | "MaxSumShiftExpWeight" => "Max_SumShiftExp",
        "MinArgMin" => "Min_ArgMin",
        "MaxArgMax" => "Max_ArgMax",
        "Kmin" => "KMin",
        "ArgKmin" => "ArgKMin",
        "KMinArgKMin" | "Kmin_ArgKmin" => "KMin_ArgKMin",
        other => other,
    }
}

/// Shape that shapes broadcast to, from the right.
pub(super) fn broadcast<'a>(
    shapes: impl Iterator<Item = &'a [usize]>,
) -> Result<Vec<usize>, String> {
    let mut all: Vec<usize> = vec![];
    for shape in shapes {
        if shape.len() > all.len() {
            all.splice(0..0, vec![1; shape.len() - all.len()]);
        }
        let lead = all.len() - shape.len();
        for (a, s) in all[lead..].iter_mut().zip(shape) {
            match (*a, *s) {
                (a, s) if a == s => {}
                (1, s) => *a = s,
                (_, 1) => {}
                _ => return Err("batch axes do not fit".into()),
            }
        }
    }
    Ok(all)
}
/// Number of the batch of an argument for a batch of the whole.
pub(super) fn own_batch(own: &[usize], all: &[usize], mut number: usize) -> usize {
    let mut index = vec![0; all.len()];
    for (k, d) in all.iter().enumerate().rev() {
        index[k] = number % d;
        number /= d;
    }
    let lead = all.len() - own.len();
    own.iter().zip(&index[lead..]).fold(0, |at, (d, k)| at * d + if *d == 1 { 0 } else { *k })
}

/// One row of the formula and of the weight.
struct Row<T> {
    number: usize,
    f: Vec<T>,
    w: Option<Vec<T>>,
    /// The formula, computed once more; of some reductions.
    before: Vec<T>,
}

/// The results of a reduction of arguments; `pairs` are the same in every batch.
///
/// # Errors
/// What does not fit.
pub fn evaluate<T: Real>(
    r: &Reduction,
    variables: &[Variable],
    args: &[Array<T>],
    pairs: Option<&Pairs>,
) -> Result<Results<T>, String> {
    if variables.len() != args.len() {
        return Err("as many arguments as variables".into());
    }
    let split: Vec<(&[usize], usize)> =
        args.iter().zip(variables).map(|(a, v)| a.split(v.category)).collect();
    let batch = broadcast(split.iter().map(|s| s.0))?;
    let rows = |category: Category| -> Result<usize, String> {
        let mut counts = split.iter().zip(variables).filter(|(_, v)| v.category == category);
        let Some(first) = counts.next().map(|(s, _)| s.1) else { return Ok(1) };
        if counts.all(|(s, _)| s.1 == first) { Ok(first) } else { Err("rows do not fit".into()) }
    };
    let (m, n) = (rows(Category::I)?, rows(Category::J)?);
    let batches: usize = batch.iter().product();
    let (kept, reduced) = if r.over == Category::J { (m, n) } else { (n, m) };

    // Dimensions, also where there are no rows: of the formula at zeros.
    let zeros = variables.iter().map(|v| vec![T::from(0.0); v.dim]).collect();
    let mut env = Env { vars: zeros, i: 0, j: 0 };
    let dim = value(&r.formula, &mut env)?.len();
    let weight_dim = match &r.weight {
        Some(w) => Some(value(w, &mut env)?.len()),
        None => None,
    };
    let name = canonical(&r.name);
    let out = (row_shape(name, r.k, dim, weight_dim), has_values(name), has_indices(name));
    let (mut values, mut indices) = (vec![], vec![]);
    for b in 0..batches {
        let own: Vec<usize> = split.iter().map(|s| own_batch(s.0, &batch, b)).collect();
        for at in 0..kept {
            let mut list = vec![];
            for number in 0..reduced {
                let (i, j) = if r.over == Category::J { (at, number) } else { (number, at) };
                if pairs.is_some_and(|p| !p.there[i * p.columns + j]) {
                    continue;
                }
                for (k, v) in variables.iter().enumerate() {
                    let row = own[k] * split[k].1
                        + match v.category {
                            Category::I => i,
                            Category::J => j,
                            Category::Parameter => 0,
                        };
                    env.vars[k].clear();
                    env.vars[k].extend_from_slice(&args[k].data[row * v.dim..(row + 1) * v.dim]);
                }
                (env.i, env.j) = (i, j);
                let f = value(&r.formula, &mut env)?;
                let w = match &r.weight {
                    Some(w) => Some(value(w, &mut env)?),
                    None => None,
                };
                // (A mean is of formulas computed before, which may have been rounded otherwise.)
                let before = match name {
                    "Variance" => value(&r.formula, &mut env)?,
                    _ => vec![],
                };
                list.push(Row { number, f, w, before });
            }
            let (v, k) = reduce(name, r.k, dim, weight_dim, &list)?;
            values.extend(v);
            indices.extend(k);
        }
    }
    let shape = [&batch[..], &[kept], &out.0].concat();
    Ok(Results {
        values: out.1.then(|| Array { shape: shape.clone(), data: values }),
        indices: out.2.then_some(Array { shape, data: indices }),
    })
}

/// Shape of a row of the results.
fn row_shape(name: &str, k: usize, dim: usize, weight: Option<usize>) -> Vec<usize> {
    match name {
        "KMin" | "ArgKMin" | "KMin_ArgKMin" if dim == 1 => vec![k],
        "KMin" | "ArgKMin" | "KMin_ArgKMin" => vec![k, dim],
        "LogSumExp" | "SumSoftMaxWeight" => vec![weight.unwrap_or(dim)],
        "Max_SumShiftExp" => vec![1 + weight.unwrap_or(dim)],
        _ => vec![dim],
    }
}
fn has_values(name: &str) -> bool {
    !matches!(name, "ArgMin" | "ArgMax" | "ArgKMin")
}
fn has_indices(name: &str) -> bool {
    name.contains("Arg")
}

/// One row of the results: values, indices.
fn reduce<T: Real>(
    name: &str,
    k: usize,
    dim: usize,
    weight: Option<usize>,
    rows: &[Row<T>],
) -> Result<(Vec<T>, Vec<i64>), String> {
    let zero = T::from(0.0);
    let total = |d: usize, term: &dyn Fn(&Row<T>, usize) -> T| -> Vec<T> {
        let order = T::order(rows.len());
        (0..d).map(|c| order.iter().fold(zero, |s, &k| s + term(&rows[k], c))).collect()
    };
    match name {
        "Sum" => Ok((total(dim, &|r, c| r.f[c]), vec![])),
        "Zero" => Ok((vec![zero; dim], vec![])),
        "Mean" | "Variance" => {
            if weight.is_some_and(|d| d != 1) {
                return Err(format!("{name} with weights of dimension {weight:?}"));
            }
            let weight_of = |r: &Row<T>| r.w.as_ref().map_or(T::from(1.0), |w| w[0]);
            let whole = total(1, &|r, _| weight_of(r))[0];
            let of = |term: &dyn Fn(&Row<T>, usize) -> T| -> Vec<T> {
                total(dim, &|r, c| term(r, c) * weight_of(r)).iter().map(|s| *s / whole).collect()
            };
            if name == "Mean" {
                return Ok((of(&|r, c| r.f[c]), vec![]));
            }
            let mean = of(&|r, c| r.before[c]);
            let square = |r: &Row<T>, c: usize| (r.f[c] - mean[c]) * (r.f[c] - mean[c]);
            Ok((of(&square), vec![]))
        }
        "LogSumExp" | "SumSoftMaxWeight" | "Max_SumShiftExp" => {
            if dim != 1 {
                return Err(format!("{name} of a formula of dimension {dim}"));
            }
            let top = rows
                .iter()
                .map(|r| r.f[0])
                .fold(T::from(f64::NEG_INFINITY), |m, f| if f > m { f } else { m });
            let infinite = top.f64().is_infinite();
            // exp(-inf - -inf) and exp(inf - inf) have no meaning: shifted by nothing.
            let shift = if infinite { zero } else { top };
            // Beside an infinity whatever is finite vanishes.
            let share = |r: &Row<T>| match infinite && r.f[0] < top {
                true => zero,
                false => (r.f[0] - shift).exp(),
            };
            let weight_of = |r: &Row<T>, c: usize| r.w.as_ref().map_or(T::from(1.0), |w| w[c]);
            let d = weight.unwrap_or(1);
            let sums = total(d, &|r, c| share(r) * weight_of(r, c));
            Ok(match name {
                "LogSumExp" => (sums.iter().map(|s| s.ln() + shift).collect(), vec![]),
                "SumSoftMaxWeight" => {
                    let whole = total(1, &|r, _| share(r))[0];
                    // (What is left of sums of nothing is 0, or NaN from a weight of inf or NaN.)
                    let mean = |s: &T| if whole == zero { *s } else { *s / whole };
                    (sums.iter().map(mean).collect(), vec![])
                }
                _ => ([&[top], &sums[..]].concat(), vec![]),
            })
        }
        _ => {
            let largest = name.starts_with("Max") || name == "ArgMax";
            let many = name.contains('K');
            let k = if many { k } else { 1 };
            let (mut values, mut indices) = (vec![zero; k * dim], vec![-1; k * dim]);
            let nothing = if largest { f64::NEG_INFINITY } else { f64::INFINITY };
            for c in 0..dim {
                let mut order: Vec<&Row<T>> = rows.iter().filter(|r| !r.f[c].is_nan()).collect();
                let before = |a: &&Row<T>, b: &&Row<T>| {
                    let (a, b) = if largest { (b, a) } else { (a, b) };
                    a.f[c].partial_cmp(&b.f[c]).unwrap_or(std::cmp::Ordering::Equal)
                };
                order.sort_by(before); // stable: ties stay in the order of rows
                for rank in 0..k {
                    let winner = order.get(rank);
                    values[rank * dim + c] = winner.map_or(T::from(nothing), |r| r.f[c]);
                    indices[rank * dim + c] = winner.map_or(-1, |r| r.number as i64);
                }
            }
            if !NAMES.contains(&name) {
                return Err(format!("the unknown reduction {name}"));
            }
            Ok(match (has_values(name), has_indices(name)) {
                (true, true) => (values, indices),
                (true, false) => (values, vec![]),
                _ => (vec![], indices),
            })
        }
    }
}

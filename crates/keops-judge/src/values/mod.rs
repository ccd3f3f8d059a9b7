//! A judge of values: reductions of random formulas over ordinary and special numbers.
//!
//! A case is a reduction of a formula as people write it, with zeros, subnormal, huge, infinite and
//! no numbers in data and parameters. It is evaluated naively, once as it is and some times with
//! random rounding (`noisy`). Where all samples are one special value, keops must give it; where
//! they are finite, keops must be as close to them as they are to each other; where they disagree,
//! rounding decides, and the entry is left out and counted.

mod forms;
mod lazy;
mod noisy;

use crate::Devices;
use crate::derivatives::random::Random;
use crate::naive::reduce::{NAMES, canonical};
use crate::naive::{
    Array, Category, Expr, Names, Op, Pairs, Real, Reduction, Results, Variable, evaluate,
};
use crate::runs::{Count, each};
use keops_core::data::{ArgView, Buffer, Element};
use keops_core::genred::{Genred, Reduce};
use keops_core::ranges::Ranges;
use keops_core::spec::Axis;
pub use lazy::LazyFault;
use ndarray::{ArrayD, IxDyn};
use noisy::{Noisy, Rounding};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Samples with random rounding, beside the one without; this many more before a fault is reported, as
/// what scatters may fall on one side six times.
const SAMPLES: u64 = 6;
const MORE: u64 = 60;

/// A case.
#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    /// Declared variables in the order of arguments.
    pub variables: Vec<Variable>,
    /// The reduction.
    pub reduction: Reduction,
    /// Data.
    pub args: Vec<Array<f64>>,
    /// Blocks of rows of i, ends, intervals of rows of j.
    pub blocks: Option<Blocks>,
    /// f32 instead of f64.
    pub single: bool,
    /// Which device.
    pub device: usize,
    /// The formula made by operators instead of text.
    pub lazy: bool,
}
type Blocks = (Vec<[usize; 2]>, Vec<usize>, Vec<[usize; 2]>);

/// Formulas without differential operators: those are for the judge of derivatives, as differences
/// of values mean nothing beside an infinity.
fn plain(e: &Expr) -> bool {
    let mut plain = true;
    e.walk(&mut |e| {
        if let Expr::Apply(op, ..) = e {
            plain &= !op.is_differential();
        }
    });
    plain
}

/// The operations that cases feature in turn.
pub fn featured() -> Vec<Op> {
    Op::ALL.iter().copied().filter(|o| !o.is_differential()).collect()
}

/// The case of a seed and a number.
pub fn draw(seed: u64, number: u64) -> Case {
    let r = &mut Random::new(seed ^ 0x7a1e, number);
    loop {
        let case = attempt(r, number);
        let weight = case.reduction.weight.as_ref();
        if plain(&case.reduction.formula) && weight.is_none_or(plain) {
            return case;
        }
    }
}
fn attempt(r: &mut Random, number: u64) -> Case {
    let count = 1 + r.below(4);
    let categories = [Category::I, Category::J, Category::J, Category::I, Category::Parameter];
    let mut variables: Vec<Variable> = (0..count)
        .map(|k| Variable {
            name: ["x", "y", "b", "g"][k].into(),
            category: *r.of(&categories),
            dim: match r.below(40) {
                0 => 17 + r.below(40),
                1 => 5 + r.below(8),
                n => 1 + n % 3,
            },
        })
        .collect();
    let all = featured();
    let featured = all[number as usize % all.len()];
    let usable: Vec<usize> =
        (0..count).filter(|k| r.chance(0.9) || (*k == 0 && featured == Op::Gather)).collect();
    // A look-up needs a table.
    if featured == Op::Gather {
        variables[0].category = Category::Parameter;
    }
    let name = NAMES[(number as usize / all.len()) % NAMES.len()];
    let name = if r.chance(0.4) { "Sum" } else { name };
    let scalar = matches!(name, "LogSumExp" | "SumSoftMaxWeight" | "Max_SumShiftExp");
    let dim = if scalar { 1 } else { 1 + r.below(3) };
    let formula = forms::formula(r, &variables, &usable, featured, dim);
    let averages = matches!(name, "Mean" | "Variance");
    let wants = name == "SumSoftMaxWeight" || ((scalar || averages) && r.chance(0.4));
    let weight = wants.then(|| {
        let d = if averages { 1 } else { 1 + r.below(2) };
        forms::formula(r, &variables, &usable, *r.clone().of(&all), d)
    });
    let over = *r.of(&[Category::J, Category::J, Category::I]);
    let reduction = Reduction { name: name.into(), k: 1 + r.below(4), over, formula, weight };

    let single = r.chance(0.5);
    let large = r.chance(0.02);
    let rows = |r: &mut Random| if large { 3 + r.below(60) } else { 1 + r.below(5) };
    let (m, n) = (rows(r), rows(r));
    let (m, n) = match r.below(100) {
        0 => (0, n),
        1 => (m, 0),
        _ => (m, n),
    };
    let batch = r.chance(0.1).then(|| 1 + r.below(3));
    let special: f64 = *r.of(&[0.0, 0.0, 0.1, 0.3, 0.6]);
    let args: Vec<Array<f64>> = variables
        .iter()
        .map(|v| {
            let lead = batch.filter(|_| r.chance(0.6)).into_iter();
            let own = match v.category {
                Category::I => Some(m),
                Category::J => Some(n),
                Category::Parameter => None,
            };
            let shape = lead.chain(own).chain([v.dim]).collect();
            let special =
                if v.category == Category::Parameter { special.max(0.2) } else { special };
            forms::array(r, shape, special, single)
        })
        .collect();
    let there = |c| variables.iter().any(|v: &Variable| v.category == c);
    let blocks = (m > 1 && n > 1 && there(Category::I) && there(Category::J) && r.chance(0.1))
        .then(|| {
            let (a, b) = (1 + r.below(m - 1), 1 + r.below(n - 1));
            let columns = [[0, b], [b, n], [0, n]];
            let picked = (0..2).map(|_| *r.of(&columns)).collect();
            (vec![[0, a], [a, m]], vec![1, 2], picked)
        });
    // The interpreter computes in f64 whatever the data are.
    let device = match number % 7 {
        6 if !single => 3,
        5 => 2,
        3 | 4 => 1,
        _ => 0,
    };
    let case = Case { variables, reduction, args, blocks, single, device, lazy: false };
    Case { lazy: r.chance(0.4) && lazy::fits(&case), ..case }
}

fn sizes(case: &Case) -> (usize, usize) {
    let count = |category| {
        let k = case.variables.iter().position(|v| v.category == category);
        k.map_or(1, |k| case.args[k].shape[case.args[k].shape.len() - 2])
    };
    (count(Category::I), count(Category::J))
}

fn naive(case: &Case, noise: u64) -> Result<Results<f64>, String> {
    noisy::with(Rounding { single: case.single, noise, wide: noise % 2 == 1 }, || {
        let args: Vec<Array<Noisy>> = case.args.iter().map(|a| a.map(Noisy::from)).collect();
        let pairs = case.blocks.as_ref().map(|(rows, ends, columns)| {
            Pairs::from_ranges(sizes(case), rows, ends, columns, Category::J)
        });
        let made = evaluate(&case.reduction, &case.variables, &args, pairs.as_ref())?;
        let values = made.values.map(|v| v.map(|v| v.f64()));
        Ok(Results { values, indices: made.indices })
    })
}

fn text(case: &Case) -> (String, Option<String>, Vec<String>) {
    let names: Vec<String> = case.variables.iter().map(|v| v.name.clone()).collect();
    let write = |e: &Expr| e.text(&mut Names { names: &names, infix: &mut || true });
    let alias = |v: &Variable| {
        let kind = match v.category {
            Category::I => "Vi",
            Category::J => "Vj",
            Category::Parameter => "Pm",
        };
        format!("{} = {kind}({})", v.name, v.dim)
    };
    let r = &case.reduction;
    let aliases = case.variables.iter().map(alias).collect();
    (write(&r.formula), r.weight.as_ref().map(write), aliases)
}

fn call<T: Element>(case: &Case, devices: &Devices) -> Result<Vec<Buffer>, String> {
    let (formula, weight, aliases) = text(case);
    let r = &case.reduction;
    let axis = if r.over == Category::J { Axis::J } else { Axis::I };
    let many = r.name.contains('K').then_some(r.k);
    let reduce = Reduce::named(&r.name, many).map_err(|e| e.to_string())?;
    let shaped = |a: &Array<f64>| -> ArrayD<T> {
        let data = a.data.iter().map(|v| T::of_f64(*v)).collect();
        ArrayD::from_shape_vec(IxDyn(&a.shape), data).expect("as many numbers as the shape says")
    };
    let arrays: Vec<ArrayD<T>> = case.args.iter().map(shaped).collect();
    if case.lazy {
        let planted = devices.planted.lazy;
        return lazy::call(case, &arrays, reduce, axis, devices.at(case.device), planted);
    }
    let g: Genred = match weight {
        None => Genred::new(&formula, &aliases, reduce, axis),
        Some(w) => Genred::weighted(&formula, &w, &aliases, reduce, axis),
    }
    .map_err(|e| e.to_string())?;
    let views: Vec<ArgView<'_>> = arrays.iter().map(|a| T::erase(a.view())).collect();
    let ranges = match &case.blocks {
        None => None,
        Some((rows, ends, columns)) => {
            let pairs = |l: &[[usize; 2]]| -> Vec<[i64; 2]> {
                l.iter().map(|r| r.map(|v| v as i64)).collect()
            };
            let ends: Vec<i64> = ends.iter().map(|v| *v as i64).collect();
            let over_j = (&pairs(rows)[..], &ends[..], &pairs(columns)[..]);
            Some(Ranges::from_arrays(Some(over_j), None).map_err(|e| e.to_string())?)
        }
    };
    g.call_with(devices.at(case.device), &views, ranges.as_ref()).map_err(|e| e.to_string())
}

/// What a case shows.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// Numbers of entries that agree, and that rounding decides.
    Agrees(usize, usize),
    /// keops is wrong.
    Fault(String),
    /// The formula has no meaning for the naive evaluation.
    Undrawn,
}

/// Does `got` agree with samples of what it should be? `None` if rounding decides.
fn agrees(
    got: f64,
    center: f64,
    samples: &[f64],
    (single, overflow, selects): (bool, bool, bool),
) -> Option<bool> {
    // A product that overflows keeps its size inside a fused sum: what it leaves is open.
    // (So are soft time warps of infinite costs, and splines at what is no number.)
    let finite = got.is_finite() && center.is_finite();
    if overflow && (selects || !finite) && !(got.is_nan() && center.is_nan()) && got != center {
        return None;
    }
    let all = || samples.iter().copied().chain([center]);
    if all().all(f64::is_nan) {
        return Some(got.is_nan());
    }
    if center.is_infinite() {
        return all().all(|v| v == center).then_some(got == center);
    }
    if !all().all(f64::is_finite) {
        return None;
    }
    let spread = all().fold(0.0f64, |s, v| s.max((v - center).abs()));
    let (eps, least) = match single {
        true => (f64::from(f32::EPSILON), f64::from(f32::MIN_POSITIVE)),
        false => (f64::EPSILON, f64::MIN_POSITIVE),
    };
    // Six samples see most of the range of what rounding does; sums of many roundings
    // scatter less than they can err.
    let allowed = 8.0 * spread + 8.0 * eps * center.abs() + 4.0 * least;
    if spread > 0.05 * center.abs() && spread > 1e3 * eps {
        return None; // not a digit is left
    }
    Some((got - center).abs() <= allowed)
}

/// What the documents leave open beside infinities and what is no number.
fn open(e: &Expr) -> bool {
    matches!(e, Expr::Apply(Op::SoftDTW_SqDist | Op::BSpline, ..))
}

fn has_open(case: &Case) -> bool {
    let mut found = false;
    case.reduction.formula.walk(&mut |e| found |= open(e));
    if let Some(w) = &case.reduction.weight {
        w.walk(&mut |e| found |= open(e));
    }
    found
}
/// What is open may come out as any number: a maximum inside of the formula hides that it was infinite.
fn hides_open(case: &Case) -> bool {
    let limit = if case.single { 1e15 } else { 1e120 };
    let wild = |v: &f64| v.is_nan() || v.abs() >= limit;
    has_open(case) && case.args.iter().any(|a| a.data.iter().any(wild))
}

/// Compares keops with the naive evaluation.
pub fn judge(case: &Case, devices: &Devices) -> Verdict {
    let Ok(center) = naive(case, 0) else { return Verdict::Undrawn };
    let overflow = noisy::overflowed() || has_open(case);
    let samples = |n: u64| -> Vec<Results<f64>> {
        (1..=n).filter_map(|k| naive(case, k.wrapping_mul(0x9e37_79b9_7f4a_7c15)).ok()).collect()
    };
    let made = catch_unwind(AssertUnwindSafe(|| match case.single {
        true => call::<f32>(case, devices),
        false => call::<f64>(case, devices),
    }));
    let made = match made {
        Ok(Ok(made)) => made,
        // A mask is no condition of `IfElse`: it says so.
        Ok(Err(e)) if e.contains("a condition that may be negative") => return Verdict::Undrawn,
        Ok(Err(e)) => return Verdict::Fault(format!("refused: {e}")),
        Err(_) => return Verdict::Fault("panic".into()),
    };
    match compare(case, &made, &center, &samples(SAMPLES), overflow) {
        Verdict::Fault(_) => compare(case, &made, &center, &samples(SAMPLES + MORE), overflow),
        verdict => verdict,
    }
}

/// Compares results with samples of what they should be.
fn compare(
    case: &Case,
    made: &[Buffer],
    center: &Results<f64>,
    samples: &[Results<f64>],
    overflow: bool,
) -> Verdict {
    // What wins beside what overflows is open as well.
    let selects =
        ["Min", "Max"].iter().any(|m| case.reduction.name.contains(m)) || hides_open(case);
    let (mut judged, mut open) = (0, 0);
    for buffer in made {
        match (buffer.indices(), &center.indices, &center.values) {
            (Some(got), Some(want), _) => {
                if got.shape() != want.shape {
                    return Verdict::Fault(format!(
                        "indices of shape {:?}, wanted {:?}",
                        got.shape(),
                        want.shape
                    ));
                }
                for (k, (g, w)) in got.iter().zip(&want.data).enumerate() {
                    let same =
                        |s: &Results<f64>| s.indices.as_ref().is_some_and(|i| i.data[k] == *w);
                    if !samples.iter().all(same) || (overflow && g != w) {
                        open += 1;
                    } else if g != w {
                        return Verdict::Fault(format!("index {k}: {g}, wanted {w}"));
                    } else {
                        judged += 1;
                    }
                }
            }
            (None, _, Some(want)) => {
                let got = buffer.to_f64();
                if got.shape() != want.shape {
                    return Verdict::Fault(format!(
                        "values of shape {:?}, wanted {:?}",
                        got.shape(),
                        want.shape
                    ));
                }
                for (k, (g, w)) in got.iter().zip(&want.data).enumerate() {
                    let of = |s: &Results<f64>| s.values.as_ref().map_or(f64::NAN, |v| v.data[k]);
                    let at: Vec<f64> = samples.iter().map(of).collect();
                    match agrees(*g, *w, &at, (case.single, overflow, selects)) {
                        None => open += 1,
                        Some(true) => judged += 1,
                        Some(false) => {
                            return Verdict::Fault(format!(
                                "value {k}: {g:e}, wanted {w:e}, samples {at:?}"
                            ));
                        }
                    }
                }
            }
            _ => return Verdict::Fault("values instead of indices, or the reverse".into()),
        }
    }
    Verdict::Agrees(judged, open)
}

/// A smaller case with a fault: parts of the formula, fewer variables, fewer special numbers.
pub fn shrink(case: &Case, devices: &Devices) -> Case {
    let wrong =
        |c: &Case| matches!(judge(c, devices), Verdict::Fault(f) if !f.starts_with("refused"));
    let mut best = case.clone();
    loop {
        let mut tries: Vec<Case> = vec![];
        let mut parts = vec![];
        best.reduction.formula.walk(&mut |e| parts.push(e.clone()));
        for part in parts.into_iter().skip(1) {
            let reduction = Reduction { formula: part, ..best.reduction.clone() };
            let c = Case { reduction, ..best.clone() };
            tries.push(Case { lazy: c.lazy && lazy::fits(&c), ..c });
        }
        if best.lazy {
            tries.push(Case { lazy: false, ..best.clone() });
        }
        if best.blocks.is_some() {
            tries.push(Case { blocks: None, ..best.clone() });
        }
        if best.reduction.name != "Sum" {
            let reduction =
                Reduction { name: "Sum".into(), weight: None, ..best.reduction.clone() };
            tries.push(Case { reduction, ..best.clone() });
        }
        for (a, arg) in best.args.iter().enumerate() {
            for k in 0..arg.data.len().min(12) {
                for v in [1.0, 0.5] {
                    if arg.data[k] != v && arg.data[k] != 1.0 {
                        let mut c = best.clone();
                        c.args[a].data[k] = v;
                        tries.push(c);
                    }
                }
            }
        }
        match tries.into_iter().find(wrong) {
            Some(c) => best = c,
            None => return best,
        }
    }
}

/// All that is needed to see it again.
pub fn report(case: &Case) -> String {
    let (formula, weight, aliases) = text(case);
    let r = &case.reduction;
    let mut out = format!("  {} K={} over {:?} of \"{formula}\"", r.name, r.k, r.over);
    if let Some(w) = weight {
        let _ = write!(out, "; weight \"{w}\"");
    }
    let kind = match (case.single, case.lazy) {
        (true, false) => "f32",
        (false, false) => "f64",
        (true, true) => "f32, by operators",
        (false, true) => "f64, by operators",
    };
    let _ = writeln!(
        out,
        " with {aliases:?}, {kind}, device {}, blocks {:?}",
        case.device, case.blocks
    );
    for (v, a) in case.variables.iter().zip(&case.args) {
        let _ = writeln!(out, "  {} {:?} = {:?}", v.name, a.shape, a.data);
    }
    out
}

/// What a run of the judge counts.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Cases.
    pub cases: usize,
    /// Those of them that were made by operators.
    pub lazy: usize,
    /// Entries of results that were held to what they should be.
    pub judged: usize,
    /// Entries that rounding decides.
    pub open: usize,
    /// How many cases have each operation and reduction.
    pub used: BTreeMap<String, usize>,
    /// Cases that are wrong.
    pub faults: Vec<(u64, String)>,
}

impl Count for Tally {
    fn add(mut self, o: Tally) -> Tally {
        self.cases += o.cases;
        self.lazy += o.lazy;
        self.judged += o.judged;
        self.open += o.open;
        for (k, n) in o.used {
            *self.used.entry(k).or_default() += n;
        }
        self.faults.extend(o.faults);
        self
    }
}

/// Judges the cases of a seed.
pub fn run(seed: u64, cases: u64) -> Tally {
    each(cases, |number, devices, tally: &mut Tally| {
        let case = draw(seed, number);
        match judge(&case, devices) {
            Verdict::Undrawn => return,
            Verdict::Fault(f) => tally.faults.push((number, f)),
            Verdict::Agrees(judged, open) => {
                tally.judged += judged;
                tally.open += open;
            }
        }
        tally.cases += 1;
        tally.lazy += case.lazy as usize;
        let mut names = vec![canonical(&case.reduction.name).to_string()];
        for f in std::iter::once(&case.reduction.formula).chain(&case.reduction.weight) {
            f.walk(&mut |e| {
                if let Expr::Apply(op, ..) = e {
                    names.push(op.name().into());
                }
            });
        }
        names.sort();
        names.dedup();
        for name in names {
            *tally.used.entry(name).or_default() += 1;
        }
    })
}

//! What keops makes of a case.

use super::case::{Case, rows};
use super::planted::Planted;
use super::{systems, wanted};
use crate::Devices;
use crate::naive::reduce::canonical;
use crate::naive::{Array, Category, Expr, Names, Reduction, Ridge, Solve, Variable};
use keops_core::data::{ArgView, Element};
use keops_core::genred::{Genred, Reduce};
use keops_core::parse::parse_formula;
use keops_core::ranges::Ranges;
use keops_core::spec::Axis;
use keops_linalg::{KernelSolve, SolveOptions};
use ndarray::{ArrayD, IxDyn};
use std::fmt::Write;

/// Results of keops: their sum against the seed, and the sum of the sizes of its terms.
pub struct Made {
    /// Sum against the seed.
    pub total: f64,
    /// Sum of sizes.
    pub size: f64,
}

fn keyword(v: &Variable) -> &'static str {
    match v.category {
        Category::I => "Vi",
        Category::J => "Vj",
        Category::Parameter => "Pm",
    }
}

/// A function as text: formula, weight and aliases.
struct Text {
    formula: String,
    weight: Option<String>,
    aliases: Vec<String>,
}

/// `declares` are the variables in the order of arguments, `written` the order of their aliases.
fn text(case: &Case, r: &Reduction, declares: &[usize], written: &[usize]) -> Text {
    let names: Vec<String> = case.variables.iter().map(|v| v.name.clone()).collect();
    let mut turn = 0;
    let mut infix = || {
        turn += 1;
        case.infix >> (turn % 63) & 1 == 1
    };
    let mut write = |e: &Expr| e.text(&mut Names { names: &names, infix: &mut infix });
    let (formula, weight) = (write(&r.formula), r.weight.as_ref().map(&mut write));
    let plain = declares == written;
    let alias = |k: &usize| {
        let v = &case.variables[*k];
        let position = declares.iter().position(|d| d == k).unwrap_or(0);
        match plain {
            true => format!("{} = {}({})", v.name, keyword(v), v.dim),
            false => format!("{} = {}({position}, {})", v.name, keyword(v), v.dim),
        }
    };
    Text { formula, weight, aliases: written.iter().map(alias).collect() }
}

fn genred(t: &Text, r: &Reduction, planted: &Planted) -> Result<Genred, String> {
    let axis = if r.over == Category::J { Axis::J } else { Axis::I };
    let many = r.name.contains('K').then_some(r.k);
    let reduce = planted.reduce(Reduce::named(&r.name, many).map_err(|e| e.to_string())?);
    let aliases: Vec<&str> = t.aliases.iter().map(String::as_str).collect();
    let formula = parse_formula(&t.formula, t.weight.as_deref(), &aliases);
    let formula = planted.formula(formula.map_err(|e| e.to_string())?);
    Genred::from_formula(formula, reduce, axis).map_err(|e| e.to_string())
}

/// A sum, or the solution of its systems.
fn function(
    case: &Case,
    (r, solve): (&Reduction, &Option<Solve>),
    (declares, written): (&[usize], &[usize]),
    planted: &Planted,
) -> Result<Genred, String> {
    let Some(solve) = solve else {
        return genred(&text(case, r, declares, written), r, planted);
    };
    // The ridge is no argument of the sum, but one more of the solution.
    let without = |l: &[usize]| -> Vec<usize> {
        l.iter().copied().filter(|k| solve.ridge != Ridge::Variable(*k)).collect()
    };
    let sum = genred(&text(case, r, &without(declares), &without(written)), r, planted)?;
    let unknown = &case.variables[solve.unknown].name;
    let systems = KernelSolve::from_sum(sum, unknown).map_err(|e| e.to_string())?;
    let tolerance = systems::tolerance(case.single);
    let ridge = if let Ridge::Number(ridge) = solve.ridge { ridge } else { 0.0 };
    let mut f = systems.function(SolveOptions { ridge, tolerance, ..SolveOptions::default() });
    if let Ridge::Variable(k) = solve.ridge {
        f = f.ridge_as(&case.variables[k].name);
    }
    f.genred().map_err(|e| e.to_string())
}

fn array(a: &Array<f64>) -> ArrayD<f64> {
    ArrayD::from_shape_vec(IxDyn(&a.shape), a.data.clone()).unwrap_or_default()
}

fn all(case: &Case) -> Vec<usize> {
    (0..case.variables.len()).collect()
}

/// The derivative that keops makes.
///
/// # Errors
/// Its error.
pub fn derivative(case: &Case, devices: &Devices) -> Result<Made, String> {
    let planted = &devices.planted;
    let mut arrays: Vec<ArrayD<f64>> = case.args.iter().map(array).collect();
    let g = if case.saved {
        let mut t = text(case, &case.outer, &all(case), &case.written);
        let step = &case.steps[0];
        let (saved, category) = (wanted::value(case)?, case.outer.over);
        let kept = if category == Category::J { "Vi" } else { "Vj" };
        let v = &case.variables[step.wrt[0]];
        let n = case.variables.len();
        let dim = |a: &Array<f64>| -> usize {
            // (batch, rows, dim) or (batch, rows, K, dim)
            let many = case.outer.name.contains('K') && !is_flat(case, a);
            a.shape[a.shape.len() - if many { 2 } else { 1 }..].iter().product()
        };
        let with_keyword = if step.forward { keyword(v) } else { kept };
        let with_dim = if step.forward { v.dim } else { dim(&saved) };
        let n_aliases = t.aliases.len();
        if case.written == all(case) {
            debug_assert_eq!(n_aliases, n);
        }
        t.aliases.push(format!("e0 = {with_keyword}({n}, {with_dim})"));
        t.aliases.push(format!("o0 = {kept}({}, {})", n + 1, dim(&saved)));
        let tag = if case.outer.over == Category::J { 0 } else { 1 };
        let mut inner = format!("{}_Reduction({}", case.outer.name, t.formula);
        if case.outer.name.contains('K') {
            let _ = write!(inner, ", {}", case.outer.k);
        }
        let _ = write!(inner, ", {tag}");
        if let Some(w) = &t.weight {
            let _ = write!(inner, ", {w}");
        }
        let kind = if step.forward { "Diff" } else { "Grad" };
        let whole = format!("{kind}_WithSavedForward({inner}), {}, e0, o0)", v.name);
        arrays.push(array(&step.with[0]));
        arrays.push(array(&saved));
        // What has K winners is one row of K dim components there.
        if !is_flat(case, &saved) {
            return Err("skipped".into());
        }
        Genred::from_text(&whole, &t.aliases).map_err(|e| format!("{whole}: {e}"))?
    } else {
        let outer = (&case.outer, &case.outer_solve);
        let mut g = function(case, outer, (&all(case), &case.written), planted)?;
        if let Some((hole, inner)) = &case.inner {
            let declares = &case.inner_declares[..];
            let inner = function(case, (inner, &case.inner_solve), (declares, declares), planted)?;
            g = g.compose(&case.variables[*hole].name, &inner).map_err(|e| e.to_string())?;
        }
        let primal = g.computation().graph().len();
        for step in &case.steps {
            let names: Vec<String> = g.arguments().map(String::from).collect();
            if names.len() != arrays.len() {
                return Err(format!("{names:?} are not {} arguments", arrays.len()));
            }
            let wrt: Vec<&str> = step.wrt.iter().map(|k| names[*k].as_str()).collect();
            g = planted.rules(g);
            g = if step.forward { g.jvp_of(&wrt) } else { g.vjp_of(&wrt) }
                .map_err(|e| e.to_string())?;
            arrays.extend(step.with.iter().map(array));
        }
        planted.derivative(g, primal)
    };
    let ranges = match &case.blocks {
        None => None,
        Some(b) => {
            let pairs = |l: &[[usize; 2]]| -> Vec<[i64; 2]> {
                l.iter().map(|r| [r[0] as i64, r[1] as i64]).collect()
            };
            let ends: Vec<i64> = b.ends.iter().map(|v| *v as i64).collect();
            let over_j = (&pairs(&b.rows)[..], &ends[..], &pairs(&b.columns)[..]);
            Some(Ranges::from_arrays(Some(over_j), None).map_err(|e| e.to_string())?)
        }
    };
    let device = devices.at(case.device);
    let out = match case.single {
        true => {
            let arrays: Vec<ArrayD<f32>> = arrays.iter().map(|a| a.mapv(|v| v as f32)).collect();
            let views: Vec<ArgView<'_>> = arrays.iter().map(|a| f32::erase(a.view())).collect();
            g.call_with(device, &views, ranges.as_ref())
        }
        false => {
            let views: Vec<ArgView<'_>> = arrays.iter().map(|a| f64::erase(a.view())).collect();
            g.call_with(device, &views, ranges.as_ref())
        }
    };
    let out = out.map_err(|e| e.to_string())?;
    let out: Vec<ArrayD<f64>> =
        out.iter().filter(|b| b.indices().is_none()).map(|b| b.to_f64()).collect();
    if out.len() != case.seed.len() {
        return Err(format!("{} results instead of {}", out.len(), case.seed.len()));
    }
    let (mut total, mut size) = (0.0, 0.0);
    for (o, s) in out.iter().zip(&case.seed) {
        if o.shape() != s.shape {
            return Err(format!("a result of shape {:?} instead of {:?}", o.shape(), s.shape));
        }
        for (o, s) in o.iter().zip(&s.data) {
            total += o * s;
            size += (o * s).abs();
        }
    }
    Ok(Made { total, size })
}

/// Are results rows of one axis?
fn is_flat(case: &Case, _: &Array<f64>) -> bool {
    !canonical(&case.outer.name).contains('K')
}

/// All that is needed to see it again.
pub fn report(case: &Case) -> String {
    let mut out = String::new();
    let t = text(case, &case.outer, &all(case), &case.written);
    let line = |out: &mut String, what: &str, t: &Text, r: &Reduction, solve: &Option<Solve>| {
        let weight = t.weight.as_ref().map_or(String::new(), |w| format!("; weight \"{w}\""));
        let k = if r.name.contains('K') { format!(" K={}", r.k) } else { String::new() };
        let _ = writeln!(
            out,
            "  {what} {}{k} over {:?} of \"{}\"{weight} with {:?}",
            r.name, r.over, t.formula, t.aliases
        );
        if let Some(solve) = solve {
            let ridge = match solve.ridge {
                Ridge::Number(v) => v.to_string(),
                Ridge::Variable(k) => case.variables[k].name.clone(),
            };
            let unknown = &case.variables[solve.unknown].name;
            let _ = writeln!(out, "    solved for {unknown}, with the ridge {ridge}");
        }
    };
    line(&mut out, "", &t, &case.outer, &case.outer_solve);
    if let Some((hole, inner)) = &case.inner {
        let t = text(case, inner, &case.inner_declares, &case.inner_declares);
        let what = format!("where {} is", case.variables[*hole].name);
        line(&mut out, &what, &t, inner, &case.inner_solve);
    }
    let mut names: Vec<String> =
        case.inputs().iter().map(|k| case.variables[*k].name.clone()).collect();
    for (k, a) in case.args.iter().enumerate() {
        let _ = writeln!(out, "  {} {:?} = {:?}", names[k], a.shape, a.data);
    }
    let (m, n) = rows(case);
    let _ = writeln!(
        out,
        "  rows {m} x {n}, blocks {:?}, device {}{}",
        case.blocks,
        case.device,
        if case.single { ", f32" } else { "" }
    );
    for (k, step) in case.steps.iter().enumerate() {
        let kind = if step.forward { "jvp" } else { "vjp" };
        let kind =
            if case.saved { format!("{kind} (saved forward, as text)") } else { kind.into() };
        let wrt: Vec<&str> = step.wrt.iter().map(|v| names[*v].as_str()).collect();
        let _ = writeln!(out, "  then {kind} in {wrt:?} with");
        let mut more = vec![];
        for (l, a) in step.with.iter().enumerate() {
            let name = if step.forward { format!("t{k}_{l}") } else { format!("e{k}") };
            let _ = writeln!(out, "    {name} {:?} = {:?}", a.shape, a.data);
            more.push(name);
        }
        names.extend(more);
    }
    let seeds: Vec<_> = case.seed.iter().map(|s| (&s.shape, &s.data)).collect();
    let _ = writeln!(out, "  summed against {seeds:?}");
    out
}

//! Checks of table entries on their own: value, derivatives, code and simplification agree.

use crate::autodiff;
use crate::graph::{Builder, Category, Ex, Graph, Node, NodeId, Var};
use crate::interp::{evaluate_at, slopes};
use crate::ops::{Code, OpDef};
use crate::prim_eval::{LaneValue, PrimReal, Scalar};
use crate::random::Random;
use crate::reduce::{Accumulate, Family, ReductionDef, WeightRule};

/// Random operand tuples for each check.
const SAMPLES: usize = 400;

/// Checks entries of the table of element-wise operations; returns what is wrong, in words.
///
/// * the f32 and the f64 value agree to the operation's tolerance class;
/// * so does the code of CPU targets, evaluated by the specification of the primitives;
/// * first and second derivatives agree with differences of the value;
/// * simplified nodes have the value of plain ones;
/// * the CUDA text uses every operand.
///
/// ```
/// use keops_core::conformance::{Fault, check_table, plant};
/// use keops_core::ops;
/// assert!(check_table(&[&ops::SIN, &ops::ATAN2]).is_empty());
/// let wrong = check_table(&[plant(&ops::SIN, Fault::Derivative(0)).unwrap()]);
/// assert!(wrong[0].starts_with("Sin: "));
/// ```
pub fn check_table(entries: &[&'static OpDef]) -> Vec<String> {
    entries.iter().filter_map(|op| check(op).err().map(|e| format!("{}: {e}", op.name))).collect()
}

fn check(op: &'static OpDef) -> Result<(), String> {
    for k in 0..op.arity {
        if !op.cuda.contains(&format!("{{{k}}}")) {
            return Err(format!("the CUDA text does not use operand {k}"));
        }
    }
    let (low, high) = op.domain;
    let mut random = Random::new(7);
    for _ in 0..SAMPLES {
        let x: Vec<f64> = (0..op.arity).map(|_| random.within(low, high) as f32 as f64).collect();
        values(op, &x)?;
        // So far from a kink, differences are meant to be right.
        if x.iter().all(|v| op.kinks.iter().all(|k| (v - k).abs() > 1e-2)) {
            derivatives(op, &x)?;
        }
    }
    let inf = f64::INFINITY;
    let special = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, -3.0, 1e-40, 1e30, inf, -inf, f64::NAN];
    let mut at = vec![0; op.arity];
    loop {
        let x: Vec<f64> = at.iter().map(|&k| special[k]).collect();
        values(op, &x)?;
        simplification(op, &x)?;
        let Some(k) = at.iter().position(|&k| k + 1 < special.len()) else { return Ok(()) };
        at[..k].fill(0);
        at[k] += 1;
    }
}

/// Do two results agree to `ulps` units in the last place of a format?
fn close(a: f64, b: f64, ulps: f64, eps: f64, tiny: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= ulps * (eps * b.abs()).max(tiny)
}

fn values(op: &OpDef, x: &[f64]) -> Result<(), String> {
    let expected = (op.value.f64)(x);
    let x32: Vec<f32> = x.iter().map(|&v| v as f32).collect();
    // The f64 value of the operands that f32 has.
    let expected32 = (op.value.f64)(&x32.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
    let rounded = f64::from(expected32 as f32);
    let (eps32, tiny32) = (f64::from(f32::EPSILON), 2f64.powi(-149));
    let single = f64::from((op.value.f32)(&x32));
    let (eps, tiny) = (f64::EPSILON, f64::from_bits(1));
    // One ulp for the standard library, which is the value.
    if !close(single, rounded, op.ulps + 1.0, eps32, tiny32) {
        return Err(format!("f32 value at {x:?}: {single:e}, f64 value {expected32:e}"));
    }
    let got = coded::<f64>(op, x);
    if !close(got, expected, op.ulps + 1.0, eps, tiny) {
        return Err(format!("f64 code at {x:?}: {got:e}, value {expected:e}"));
    }
    let got = f64::from(coded::<f32>(op, &x32));
    if !close(got, rounded, op.ulps + 1.0, eps32, tiny32) {
        return Err(format!("f32 code at {x:?}: {got:e}, value {expected32:e}"));
    }
    Ok(())
}

/// The code of CPU targets on one lane.
fn coded<R: PrimReal>(op: &OpDef, x: &[R]) -> R {
    use crate::vecmath::PrimBuilder;
    let mut lane = Scalar::<R>::new();
    let x: Vec<_> = x.iter().map(|&v| lane.input(LaneValue::Real(v))).collect();
    let y = match op.code {
        Code::Prim(p) => lane.prim(p, &x),
        Code::Expand(f) => f(&mut lane, &x),
    };
    lane.value(y).real()
}

/// Operands as variables.
fn operands<'g>(b: &'g Builder, op: &OpDef) -> Vec<Ex<'g>> {
    (0..op.arity as u32).map(|index| b.var(Var { index, dim: 1, category: Category::I })).collect()
}
fn scalar(graph: &Graph, root: NodeId, x: &[f64]) -> f64 {
    evaluate_at(graph, root, |v| vec![x[v.index as usize]])[0]
}

fn derivatives(op: &'static OpDef, x: &[f64]) -> Result<(), String> {
    let b = Builder::default();
    let v = operands(&b, op);
    let result = Ex::apply(op, &v);
    let partial = (op.derivative)(&v, result, b.lit(1.0));
    if partial.len() != op.arity {
        return Err(format!("{} derivatives, expected {}", partial.len(), op.arity));
    }
    // The partial derivatives, then those of each.
    let first: Vec<NodeId> = partial.iter().map(|d| d.id).collect();
    let second: Vec<Vec<NodeId>> = partial
        .iter()
        .map(|d| {
            let found = autodiff::vjp(*d, b.lit(1.0), &v);
            found.into_iter().map(|d| d.unwrap_or(b.lit(0.0)).id).collect()
        })
        .collect();
    let graph = b.into_graph();
    let agrees = |which: &str, root: NodeId, expected: f64, tolerance: f64| {
        let got = scalar(&graph, root, x);
        // A kink that is not declared makes NaN, which fails too.
        if (got - expected).abs() <= tolerance * (1.0 + expected.abs()) {
            Ok(())
        } else {
            Err(format!("derivative {which} at {x:?}: {got:e}, differences {expected:e}"))
        }
    };
    let direction = |k: usize| [0, 1, 2].map(|l| f64::from(u8::from(l == k)));
    for (k, row) in second.iter().enumerate() {
        for (l, root) in row.iter().enumerate() {
            let (slope, mixed) = slopes(op, x, direction(k), direction(l));
            if k == l {
                agrees(&format!("{k}"), first[k], slope[0], 1e-7)?;
            }
            agrees(&format!("{k} then {l}"), *root, mixed, 1e-5)?;
        }
    }
    Ok(())
}

/// A constant operand may be folded away, which must not change the value.
fn simplification(op: &'static OpDef, x: &[f64]) -> Result<(), String> {
    for constants in 0..1u32 << op.arity {
        let b = Builder::default();
        let v: Vec<Ex<'_>> = operands(&b, op)
            .into_iter()
            .enumerate()
            .map(|(k, e)| if constants >> k & 1 == 1 { b.lit(x[k]) } else { e })
            .collect();
        let simplified = Ex::apply(op, &v).id;
        let plain = b.node(Node::Map { op, args: v.iter().map(|e| e.id).collect() }).id;
        let graph = b.into_graph();
        let (got, expected) = (scalar(&graph, simplified, x), scalar(&graph, plain, x));
        if got != expected && !(got.is_nan() && expected.is_nan()) {
            return Err(format!("simplified at {x:?}: {got:e}, plain {expected:e}"));
        }
    }
    Ok(())
}

/// Checks entries of the table of reductions; returns what is wrong, in words. Sums under one pivot
/// become those under another; a result does not depend on the pivot unless it shows it; the
/// derivative of a result is that of `Σ ψ` ([`Accumulate::linearise`]), by differences.
///
/// ```
/// use keops_core::{conformance::check_reductions, reduce};
/// assert!(check_reductions(reduce::ALL).is_empty());
/// ```
pub fn check_reductions(entries: &[&'static ReductionDef]) -> Vec<String> {
    let laws = |r: &&'static ReductionDef| match &r.kind {
        Family::Accumulate(a) => {
            let weights: &[bool] = match r.weight {
                WeightRule::Never => &[false],
                WeightRule::Optional => &[false, true],
                WeightRule::Required => &[true],
            };
            let wrong = |w: &bool| accumulates(a, *w).err();
            weights.iter().find_map(wrong).map(|e| format!("{}: {e}", r.name))
        }
        Family::Select(_) => None,
    };
    entries.iter().filter_map(laws).collect()
}

/// A family of three entries, `f + t g` with weights `w + t v`.
const ENTRIES: [[f64; 4]; 3] =
    [[0.3, 0.7, 0.9, -0.4], [-0.6, 0.2, 0.5, 0.3], [0.8, -0.5, 1.2, 0.6]];

fn accumulates(a: &Accumulate, weighted: bool) -> Result<(), String> {
    let b = Builder::default();
    let further = a.saved.and_then(|s| match &s.reduction.kind {
        Family::Accumulate(of) => Some((of, s.weighted && weighted)),
        Family::Select(_) => None,
    });
    let [t, m, n, result, saved] = [0, 1, 2, 3, 4].map(|index| {
        // Results may have two components.
        let dim = match index {
            3 => (a.dim)(1),
            4 => further.map_or(1, |(of, _)| (of.dim)(1)),
            _ => 1,
        };
        b.var(Var { index, dim, category: Category::Param })
    });
    let entry = |[f, g, w, v]: [f64; 4]| (t * g + f, weighted.then(|| t * v + w));
    let sums = |m: Ex<'_>| -> NodeId {
        let pivot = a.pivot.is_some().then_some(b.ex(m.id));
        let terms = ENTRIES.map(|e| {
            let (f, w) = entry(e);
            (a.lift)(f, w, pivot)
        });
        (terms[0] + terms[1] + terms[2]).id
    };
    let finalised = |m: Ex<'_>| {
        let pivot = a.pivot.is_some().then_some(b.ex(m.id));
        (a.finalise)(b.ex(sums(m)), pivot).id
    };
    let (under_m, under_n) = (sums(m), sums(n));
    let moved = a.pivot.as_ref().map(|p| (p.rebase)(b.ex(under_m), m, n).id);
    let (value, other) = (finalised(m), finalised(n));
    let given = further.map(|_| saved);
    let tangents = ENTRIES.map(|e| {
        let (f, w) = entry(e);
        let psi = (a.linearise)(f, w, result, given);
        let zero = t.lit(0.0).broadcast(psi.dim());
        autodiff::jvp(psi, &[(t, t.lit(1.0))]).unwrap_or(zero)
    });
    let tangent = (tangents[0] + tangents[1] + tangents[2]).id;
    // What `saved` reduces to: its own finalised sums.
    let kept = further.map(|(of, with)| {
        let pivot = of.pivot.is_some().then_some(m);
        let terms = ENTRIES.map(|e| {
            let (f, w) = entry(e);
            (of.lift)(f, w.filter(|_| with), pivot)
        });
        (of.finalise)(terms[0] + terms[1] + terms[2], pivot).id
    });
    let graph = b.into_graph();
    let at = |root: NodeId, t: f64, result: &[f64], saved: &[f64]| {
        evaluate_at(&graph, root, |v| match v.index {
            0 => vec![t],
            1 => vec![0.9],
            2 => vec![1.7],
            3 => result.to_vec(),
            _ => saved.to_vec(),
        })
    };
    let same = |what: &str, got: Vec<f64>, expected: Vec<f64>, tolerance: f64| {
        let near = |(g, e): (&f64, &f64)| (g - e).abs() <= tolerance * (1.0 + e.abs());
        if got.len() == expected.len() && got.iter().zip(&expected).all(near) {
            Ok(())
        } else {
            Err(format!("{what}: {got:?}, expected {expected:?}"))
        }
    };
    let nothing = [0.0; 2];
    if let Some(moved) = moved {
        let [got, expected] = [moved, under_n].map(|r| at(r, 0.1, &nothing, &nothing));
        same("sums under a new pivot", got, expected, 1e-13)?;
    }
    if a.pivot.as_ref().is_none_or(|p| !p.shown) {
        let [got, expected] = [other, value].map(|r| at(r, 0.1, &nothing, &nothing));
        same("the result under another pivot", got, expected, 1e-13)?;
    }
    let result = at(value, 0.0, &nothing, &nothing);
    let held = kept.map_or(vec![], |k| at(k, 0.0, &nothing, &nothing));
    let got = at(tangent, 0.0, &result, &held);
    let h = 1e-3;
    let differences = [-2.0, -1.0, 1.0, 2.0].map(|s| at(value, s * h, &nothing, &nothing));
    let expected = (0..result.len())
        .map(|k| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|s: usize| differences[s][k]);
            (8.0 * (c - b) - (d - a)) / (12.0 * h)
        })
        .collect();
    same("the derivative", got, expected, 1e-7)
}

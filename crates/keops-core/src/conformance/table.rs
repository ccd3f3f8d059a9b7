//! Checks of table entries on their own: value, derivatives, code and simplification agree.

use super::random::Random;
use crate::graph::{Builder, Category, Ex, Graph, Node, NodeId, Var};
use crate::interp::evaluate_at;
use crate::ops::{Code, OpDef};
use crate::prim_eval::{LaneValue, PrimReal, Scalar};

/// Random operand tuples for each check.
const SAMPLES: usize = 400;

/// Checks entries of the table of element-wise operations; returns what is wrong, in words.
///
/// * the f32 and the f64 value agree to the operation's tolerance class;
/// * so does the code of CPU targets, evaluated by the specification of the primitives;
/// * derivatives agree with differences of the value;
/// * simplified nodes have the value of plain ones;
/// * the CUDA text uses every operand.
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
        // One part in a hundred away from a kink, differences are meant to be right.
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
    let partial: Vec<NodeId> =
        (op.derivative)(&v, result, b.lit(1.0)).iter().map(|d| d.id).collect();
    if partial.len() != op.arity {
        return Err(format!("{} derivatives, expected {}", partial.len(), op.arity));
    }
    let graph = b.into_graph();
    for (k, &root) in partial.iter().enumerate() {
        let got = scalar(&graph, root, x);
        // Central difference of order 4: truncation below 1e-9 with these steps and domains,
        // rounding about 1e-16 / 1e-3 of the value.
        let h = 1e-3;
        let at = |s: f64| {
            let mut y = x.to_vec();
            y[k] += s * h;
            (op.value.f64)(&y)
        };
        let expected = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * h);
        if (got - expected).abs() > 1e-6 * (1.0 + expected.abs()) {
            return Err(format!("derivative {k} at {x:?}: {got:e}, differences {expected:e}"));
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

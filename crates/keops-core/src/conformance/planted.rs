//! Planted faults: copies of table entries with one thing wrong, to see that the checks see it.

use super::random::Random;
use crate::error::CompileError;
use crate::graph::{Ex, Graph, Node, NodeId};
use crate::ops::{self, Code, OpDef, Value};
use crate::prim::Prim;
use crate::spec::{Backend, Device, Executable, ReduceSpec, Unavailable};
use crate::vecmath::{PrimBuilder, Val};
use std::sync::Arc;

/// What is wrong with a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The value is off by a part in a thousand.
    Value,
    /// The value is off by 1, or 0 instead of an infinity or NaN, where an operand is 0.
    AtZero,
    /// The partial derivative in that operand is off by a part in a thousand.
    Derivative(usize),
    /// The code of CPU targets is off by a part in a thousand.
    Code,
    /// The code of GPU targets is off by a part in a thousand.
    Cuda,
    /// Not a fault: the value is off by as much as the tolerance class of the operation allows.
    /// The checks have to let it pass.
    Tolerated,
}

const OFF: f64 = 1.0 + 1.0 / 1024.0;
/// Operations that faults can be planted in: function pointers carry no data, so there is one
/// instance of every faulty function for each place of the table.
const PLACES: usize = 64;

fn value32<const K: usize>(x: &[f32]) -> f32 {
    (ops::ALL[K].value.f32)(x) * OFF as f32
}
fn value64<const K: usize>(x: &[f64]) -> f64 {
    (ops::ALL[K].value.f64)(x) * OFF
}
fn zero32<const K: usize>(x: &[f32]) -> f32 {
    let y = (ops::ALL[K].value.f32)(x);
    if !x.contains(&0.0) {
        y
    } else if y.is_finite() {
        y + 1.0
    } else {
        0.0
    }
}
fn zero64<const K: usize>(x: &[f64]) -> f64 {
    let y = (ops::ALL[K].value.f64)(x);
    if !x.contains(&0.0) {
        y
    } else if y.is_finite() {
        y + 1.0
    } else {
        0.0
    }
}
/// An error between -1 and 1 that depends on the operands in no simple way.
fn hash(x: &[f64]) -> f64 {
    let seed = x.iter().fold(1u64, |h, v| (h ^ v.to_bits()).wrapping_mul(0x0000_0100_0000_01b3));
    Random::new(seed).within(-1.0, 1.0)
}
fn tolerated32<const K: usize>(x: &[f32]) -> f32 {
    let op = ops::ALL[K];
    let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    let y = (op.value.f64)(&x);
    let ulp = y.abs().log2().floor().max(-126.0).exp2() * f64::from(f32::EPSILON);
    // Half an ulp is lost at the end.
    let off = (op.ulps - 0.5).max(0.0) * ulp * hash(&x);
    (if y == 0.0 || !y.is_finite() { y } else { y + off }) as f32
}
fn tolerated64<const K: usize>(x: &[f64]) -> f64 {
    let op = ops::ALL[K];
    let y = (op.value.f64)(x);
    let ulp = y.abs().log2().floor().max(-1022.0).exp2() * f64::EPSILON;
    // One ulp for the value and the sum.
    let off = (op.ulps - 1.5).max(0.0) * ulp * hash(x);
    if y == 0.0 || !y.is_finite() { y } else { y + off }
}
fn derivative<'g, const K: usize, const P: usize>(
    x: &[Ex<'g>],
    y: Ex<'g>,
    t: Ex<'g>,
) -> Vec<Ex<'g>> {
    let mut d = (ops::ALL[K].derivative)(x, y, t);
    // Wrong also where the derivative is 0, 1 or -1.
    d[P] = d[P] * OFF + t * (2.0 * (OFF - 1.0));
    d
}
fn code<const K: usize>(b: &mut dyn PrimBuilder, x: &[Val]) -> Val {
    let y = match ops::ALL[K].code {
        Code::Prim(p) => b.prim(p, x),
        Code::Expand(f) => f(b, x),
    };
    let off = b.real(OFF);
    b.prim(Prim::Mul, &[y, off])
}

type Derivative = for<'g> fn(&[Ex<'g>], Ex<'g>, Ex<'g>) -> Vec<Ex<'g>>;

/// The faulty functions of one place of the table.
struct Faulty {
    value: Value,
    zero: Value,
    tolerated: Value,
    derivative: [Derivative; 3],
    code: fn(&mut dyn PrimBuilder, &[Val]) -> Val,
}

fn faulty<const K: usize>() -> Faulty {
    Faulty {
        value: Value { f32: value32::<K>, f64: value64::<K> },
        zero: Value { f32: zero32::<K>, f64: zero64::<K> },
        tolerated: Value { f32: tolerated32::<K>, f64: tolerated64::<K> },
        derivative: [derivative::<K, 0>, derivative::<K, 1>, derivative::<K, 2>],
        code: code::<K>,
    }
}

macro_rules! places {
    ($($high:literal)*) => {
        [$(
            faulty::<{ 8 * $high }>, faulty::<{ 8 * $high + 1 }>,
            faulty::<{ 8 * $high + 2 }>, faulty::<{ 8 * $high + 3 }>,
            faulty::<{ 8 * $high + 4 }>, faulty::<{ 8 * $high + 5 }>,
            faulty::<{ 8 * $high + 6 }>, faulty::<{ 8 * $high + 7 }>,
        )*]
    };
}
static FAULTY: [fn() -> Faulty; PLACES] = places!(0 1 2 3 4 5 6 7);

/// A copy of an operation with a fault. It is never freed, as table entries are not; `None` if
/// the operation has no such operand, or is not in the table.
pub fn plant(op: &OpDef, fault: Fault) -> Option<&'static OpDef> {
    let place = ops::ALL.iter().position(|o| *o == op)?;
    let faulty = FAULTY.get(place)?();
    let mut copy = OpDef {
        name: op.name,
        doc: op.doc,
        arity: op.arity,
        value: Value { f32: op.value.f32, f64: op.value.f64 },
        derivative: op.derivative,
        simplify: op.simplify,
        cuda: op.cuda,
        code: op.code,
        domain: op.domain,
        kinks: op.kinks,
        ulps: op.ulps,
    };
    match fault {
        Fault::Value => copy.value = faulty.value,
        Fault::AtZero => copy.value = faulty.zero,
        Fault::Tolerated => copy.value = faulty.tolerated,
        Fault::Derivative(k) if k >= op.arity => return None,
        Fault::Derivative(k) => copy.derivative = faulty.derivative[k],
        Fault::Code => copy.code = Code::Expand(faulty.code),
        Fault::Cuda => copy.cuda = Box::leak(format!("({} * T({OFF}))", op.cuda).into_boxed_str()),
    }
    Some(Box::leak(Box::new(copy)))
}

/// A backend that gets faulty copies of some operations in all its formulas.
pub struct Planted {
    inner: Device,
    copies: Vec<&'static OpDef>,
}

impl Planted {
    /// Each copy replaces the operation of the same name.
    pub fn new(inner: Device, copies: Vec<&'static OpDef>) -> Planted {
        Planted { inner, copies }
    }
}

impl Backend for Planted {
    fn name(&self) -> &str {
        "planted"
    }
    fn check(&self) -> Result<(), Unavailable> {
        self.inner.backend().check()
    }
    fn target(&self) -> String {
        self.inner.backend().target()
    }
    fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
        let mut graph = Graph::default();
        for k in 0..spec.graph.len() {
            let mut node = spec.graph.node(NodeId(k as u32)).clone();
            if let Node::Map { op, .. } = &mut node {
                *op = self.copies.iter().find(|c| *c == op).unwrap_or(op);
            }
            // Nodes are distinct, so each keeps its place.
            graph.intern(node);
        }
        // Not through the cache of the device: the key does not tell a copy from the original.
        self.inner.backend().compile(&ReduceSpec { graph: Arc::new(graph), ..spec.clone() })
    }
}

//! Planted faults: copies of table entries with one thing wrong, to see that the checks see it.

use crate::error::CompileError;
use crate::graph::{Ex, Graph, Node};
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
    /// The value is off by 1 where an operand is 0.
    AtZero,
    /// The partial derivative in that operand is off by a part in a thousand.
    Derivative(usize),
    /// The code of CPU targets is off by a part in a thousand.
    Code,
    /// The code of GPU targets is off by a part in a thousand.
    Cuda,
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
    (ops::ALL[K].value.f32)(x) + x.contains(&0.0) as u8 as f32
}
fn zero64<const K: usize>(x: &[f64]) -> f64 {
    (ops::ALL[K].value.f64)(x) + x.contains(&0.0) as u8 as f64
}
fn derivative<'g, const K: usize, const P: usize>(
    x: &[Ex<'g>],
    y: Ex<'g>,
    t: Ex<'g>,
) -> Vec<Ex<'g>> {
    let mut d = (ops::ALL[K].derivative)(x, y, t);
    d[P] = d[P] * OFF + t * (OFF - 1.0);
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
    derivative: [Derivative; 3],
    code: fn(&mut dyn PrimBuilder, &[Val]) -> Val,
}

fn faulty<const K: usize>() -> Faulty {
    Faulty {
        value: Value { f32: value32::<K>, f64: value64::<K> },
        zero: Value { f32: zero32::<K>, f64: zero64::<K> },
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
        Fault::Derivative(k) if k >= op.arity => return None,
        Fault::Derivative(k) => copy.derivative = faulty.derivative[k],
        Fault::Code => copy.code = Code::Expand(faulty.code),
        Fault::Cuda => copy.cuda = Box::leak(format!("({} * T({OFF}))", op.cuda).into_boxed_str()),
    }
    Some(Box::leak(Box::new(copy)))
}

/// A backend that gets a faulty copy of one operation in all its formulas.
pub struct Planted {
    inner: Device,
    op: &'static OpDef,
}

impl Planted {
    /// `op` replaces the operation of the same name.
    pub fn new(inner: Device, op: &'static OpDef) -> Planted {
        Planted { inner, op }
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
            let mut node = spec.graph.node(crate::graph::NodeId(k as u32)).clone();
            match &mut node {
                Node::Map { op, .. } if *op == self.op => *op = self.op,
                _ => {}
            }
            // Nodes are distinct, so each keeps its place.
            graph.intern(node);
        }
        // Not through the cache of the device: the key does not tell the copy from the original.
        self.inner.backend().compile(&ReduceSpec { graph: Arc::new(graph), ..spec.clone() })
    }
}

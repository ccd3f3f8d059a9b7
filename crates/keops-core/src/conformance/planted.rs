//! Planted faults: copies of table entries with one thing wrong, to see that the checks see it.
//! Everything here runs over the tables, so that a new entry is covered without a word.

use crate::composite::{self, CompositeDef, STAND_IN};
use crate::error::CompileError;
use crate::graph::{Ex, Graph, Node, NodeId};
use crate::ops::{self, Code, OpDef, Value};
use crate::prim::Prim;
use crate::random::Random;
use crate::reduce::{self, Accumulate, Family, Order, Pivot, ReductionDef, Select};
use crate::spec::{Backend, Device, Executable, ReduceSpec, Unavailable};
use crate::vecmath::{PrimBuilder, Val};
use std::cell::Cell;
use std::sync::Arc;

/// What is wrong with a copy.
///
/// ```
/// use keops_core::conformance::{Fault, check_table, plant};
/// use keops_core::ops;
/// let found = |fault| check_table(&[plant(&ops::EXP, fault).unwrap()]).len();
/// let faults = [Fault::Value, Fault::Derivative(0), Fault::Code, Fault::Tolerated];
/// assert_eq!(faults.map(found), [1, 1, 1, 0]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The value is off by a part in a thousand.
    Value,
    /// The value is off by 1 and a part in a thousand, or 0 instead of an infinity or NaN, where an operand
    /// is 0.
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
        (y + 1.0) * OFF as f32
    } else {
        0.0
    }
}
fn zero64<const K: usize>(x: &[f64]) -> f64 {
    let y = (ops::ALL[K].value.f64)(x);
    if !x.contains(&0.0) {
        y
    } else if y.is_finite() {
        (y + 1.0) * OFF
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
// More operations want more places.
const _: () = assert!(ops::ALL.len() <= PLACES);

/// A copy of an operation with a fault. It is never freed, as table entries are not; `None` if
/// the operation has no such operand, or is not in the table.
///
/// ```
/// use keops_core::{conformance::{Fault, plant}, ops};
/// let wrong = plant(&ops::SQRT, Fault::Value).unwrap();
/// assert_eq!((wrong.value.f64)(&[9.0]), 3.0 * (1.0 + 1.0 / 1024.0));
/// assert!(plant(&ops::SQRT, Fault::Derivative(1)).is_none()); // it has one operand
/// ```
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

/// What is wrong with a copy of a reduction.
///
/// ```
/// use keops_core::conformance::{ReductionFault, check_reductions, plant_reduction};
/// use keops_core::reduce::LOG_SUM_EXP;
/// for fault in [ReductionFault::Linearise, ReductionFault::Rebase] {
///     let wrong = check_reductions(&[plant_reduction(&LOG_SUM_EXP, fault).unwrap()]);
///     assert!(wrong[0].starts_with("LogSumExp: "));
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReductionFault {
    /// What is added up is off by parts in a thousand.
    Lift,
    /// The result is off by a part in a thousand.
    Finalise,
    /// The derivative is off by a part in a thousand.
    Linearise,
    /// Sums are off by a part in a thousand whenever the pivot moves.
    Rebase,
    /// The largest entries win instead of the smallest, or the other way round.
    Order,
    /// Values are left out, or given where there should be none.
    Value,
    /// Indices are left out, or given where there should be none.
    Index,
}

impl ReductionFault {
    /// Every fault.
    pub const ALL: [ReductionFault; 7] = [
        ReductionFault::Lift,
        ReductionFault::Finalise,
        ReductionFault::Linearise,
        ReductionFault::Rebase,
        ReductionFault::Order,
        ReductionFault::Value,
        ReductionFault::Index,
    ];
}

fn accumulate<const K: usize>() -> Option<&'static Accumulate> {
    match &reduce::ALL.get(K)?.kind {
        Family::Accumulate(a) => Some(a),
        Family::Select(_) => None,
    }
}
fn wrong(y: Ex<'_>) -> Ex<'_> {
    y * OFF + 2.0 * (OFF - 1.0)
}
fn lift<'g, const K: usize>(f: Ex<'g>, w: Option<Ex<'g>>, m: Option<Ex<'g>>) -> Ex<'g> {
    accumulate::<K>().map_or(f, |a| wrong((a.lift)(f, w, m)))
}
fn finalise<'g, const K: usize>(s: Ex<'g>, m: Option<Ex<'g>>) -> Ex<'g> {
    accumulate::<K>().map_or(s, |a| wrong((a.finalise)(s, m)))
}
fn linearise<'g, const K: usize>(
    f: Ex<'g>,
    w: Option<Ex<'g>>,
    out: Ex<'g>,
    saved: Option<Ex<'g>>,
) -> Ex<'g> {
    // Wrong also where the derivative is 0.
    accumulate::<K>().map_or(f, |a| wrong((a.linearise)(f, w, out, saved)) + f.sum() * (OFF - 1.0))
}
fn rebase<'g, const K: usize>(s: Ex<'g>, old: Ex<'g>, new: Ex<'g>) -> Ex<'g> {
    let pivot = accumulate::<K>().and_then(|a| a.pivot.as_ref());
    pivot.map_or(s, |p| wrong((p.rebase)(s, old, new)))
}

/// The faulty functions of one place of the table of reductions.
struct FaultyReduction {
    lift: for<'g> fn(Ex<'g>, Option<Ex<'g>>, Option<Ex<'g>>) -> Ex<'g>,
    finalise: for<'g> fn(Ex<'g>, Option<Ex<'g>>) -> Ex<'g>,
    linearise: for<'g> fn(Ex<'g>, Option<Ex<'g>>, Ex<'g>, Option<Ex<'g>>) -> Ex<'g>,
    rebase: for<'g> fn(Ex<'g>, Ex<'g>, Ex<'g>) -> Ex<'g>,
}

macro_rules! reductions {
    ($($place:literal)*) => {
        [$(FaultyReduction {
            lift: lift::<$place>,
            finalise: finalise::<$place>,
            linearise: linearise::<$place>,
            rebase: rebase::<$place>,
        }),*]
    };
}
static FAULTY_REDUCTIONS: [FaultyReduction; 24] =
    reductions!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23);
// More reductions want more places.
const _: () = assert!(reduce::ALL.len() <= FAULTY_REDUCTIONS.len());

/// A copy of a reduction with a fault, which is never freed; `None` if it has no such part.
///
/// ```
/// use keops_core::conformance::{ReductionFault, plant_reduction};
/// use keops_core::reduce::{Family, MIN, Order};
/// let largest = plant_reduction(&MIN, ReductionFault::Order).unwrap();
/// assert!(matches!(&largest.kind, Family::Select(s) if s.order == Order::Max));
/// assert!(plant_reduction(&MIN, ReductionFault::Lift).is_none()); // it has no sum
/// ```
pub fn plant_reduction(r: &ReductionDef, fault: ReductionFault) -> Option<&'static ReductionDef> {
    use ReductionFault as F;
    let place = reduce::ALL.iter().position(|o| *o == r)?;
    let faulty = &FAULTY_REDUCTIONS[place];
    let kind = match (&r.kind, fault) {
        (Family::Accumulate(a), F::Lift | F::Finalise | F::Linearise | F::Rebase) => {
            let pivot = match (&a.pivot, fault) {
                (None, F::Rebase) => return None,
                (Some(p), F::Rebase) => Some(Pivot { rebase: faulty.rebase, ..*p }),
                (p, _) => p.as_ref().map(|p| Pivot { ..*p }),
            };
            let mut copy = Accumulate { pivot, ..*a };
            match fault {
                F::Lift => copy.lift = faulty.lift,
                F::Finalise => copy.finalise = faulty.finalise,
                F::Linearise => copy.linearise = faulty.linearise,
                _ => {}
            }
            Family::Accumulate(copy)
        }
        (Family::Select(s), F::Order) => {
            let order = if s.order == Order::Min { Order::Max } else { Order::Min };
            Family::Select(Select { order, ..*s })
        }
        (Family::Select(s), F::Value) => Family::Select(Select { value: !s.value, ..*s }),
        (Family::Select(s), F::Index) => Family::Select(Select { index: !s.index, ..*s }),
        _ => return None,
    };
    Some(Box::leak(Box::new(ReductionDef { kind, ..*r })))
}

thread_local! {
    static COMPOSITE: Cell<Option<&'static CompositeDef>> = const { Cell::new(None) };
}

/// Runs `f` on this thread with a fault in a composite: whatever looks it up by name gets a copy
/// whose value is off by parts in a thousand.
///
/// ```
/// use keops_core::conformance::with_faulty_composite;
/// use keops_core::{composite, genred::Genred, reduce::SUM, spec::Axis};
/// let square = || {
///     let g: Genred = Genred::new("SqNorm2(y)", &["y = Vj(2)"], &SUM, Axis::J).unwrap();
///     g.call((&ndarray::array![[3.0, 4.0]],)).unwrap()[[0, 0]]
/// };
/// assert_eq!(square(), 25.0);
/// let norm = composite::by_name("SqNorm2").unwrap();
/// assert_ne!(with_faulty_composite(norm, square), 25.0);
/// assert_eq!(square(), 25.0);
/// ```
pub fn with_faulty_composite<R>(c: &'static CompositeDef, f: impl FnOnce() -> R) -> R {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            COMPOSITE.set(None);
            STAND_IN.set(None);
        }
    }
    let _restore = Restore;
    COMPOSITE.set(Some(c));
    STAND_IN.set(Some(planted_composite));
    f()
}
/// The faulty copy of that name, if one is planted on this thread.
fn planted_composite(name: &str) -> Option<&'static CompositeDef> {
    let original = COMPOSITE.get().filter(|c| c.name == name)?;
    let build: composite::Build = |x, l| match COMPOSITE.take() {
        Some(c) => {
            // The expansion may use other composites, not the copy.
            let y = (c.build)(x, l);
            COMPOSITE.set(Some(c));
            y.map(wrong)
        }
        None => Err(crate::error::DimError::new("planted", "a composite", "none")),
    };
    Some(Box::leak(Box::new(CompositeDef { build, ..*original })))
}

/// A backend that gets faulty copies of some operations and reductions in all that it compiles.
///
/// ```
/// use keops_core::conformance::{Fault, Planted, plant};
/// use keops_core::{genred::Genred, interp::Interpreter, ops, reduce::SUM, spec::{Axis, Device}};
/// let wrong = plant(&ops::EXP, Fault::Value).into_iter().collect();
/// let device = Device::new(Planted::new(Device::new(Interpreter::new()), wrong));
/// let g: Genred = Genred::new("Exp(y)", &["y = Vj(1)"], &SUM, Axis::J)?;
/// let out = g.at(device).call((&ndarray::array![[0.0]],))?;
/// assert_eq!(out[[0, 0]], 1.0 + 1.0 / 1024.0);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub struct Planted {
    inner: Device,
    copies: Vec<&'static OpDef>,
    reductions: Vec<&'static ReductionDef>,
}

impl Planted {
    /// Each copy replaces the operation of the same name.
    ///
    /// ```
    /// use keops_core::conformance::{Fault, Planted, plant};
    /// use keops_core::{interp::Interpreter, ops, spec::{Backend, Device}};
    /// let wrong = plant(&ops::EXP, Fault::Cuda).into_iter().collect();
    /// assert_eq!(Planted::new(Device::new(Interpreter::new()), wrong).name(), "planted");
    /// ```
    pub fn new(inner: Device, copies: Vec<&'static OpDef>) -> Planted {
        Planted { inner, copies, reductions: vec![] }
    }
    /// Each copy replaces the reduction of the same name.
    ///
    /// ```
    /// use keops_core::conformance::{Planted, ReductionFault, plant_reduction};
    /// # use keops_core::{genred::Genred, interp::Interpreter, reduce::MAX, spec::{Axis, Device}};
    /// let smallest = plant_reduction(&MAX, ReductionFault::Order).into_iter().collect();
    /// let device = Device::new(Planted::reductions(Device::new(Interpreter::new()), smallest));
    /// let g: Genred = Genred::new("y", &["y = Vj(1)"], &MAX, Axis::J)?;
    /// let out = g.at(device).call((&ndarray::array![[1.0], [2.0]],))?;
    /// assert_eq!(out[[0, 0]], 1.0);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn reductions(inner: Device, reductions: Vec<&'static ReductionDef>) -> Planted {
        Planted { inner, copies: vec![], reductions }
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
                *op = self.copies.iter().find(|c| c.name == op.name).unwrap_or(op);
            }
            // Nodes are distinct, so each keeps its place.
            graph.intern(node);
        }
        let copy = self.reductions.iter().find(|r| r.name == spec.reduction.name);
        let reduction = copy.copied().unwrap_or(spec.reduction);
        let outputs = spec.outputs();
        let spec = ReduceSpec { graph: Arc::new(graph), reduction, ..spec.clone() };
        if spec.outputs() != outputs {
            let log = format!("results are {:?}, expected {outputs:?}", spec.outputs());
            return Err(CompileError::Failed { backend: "planted".into(), log });
        }
        self.inner.compile(&spec)
    }
}

//! What a backend is asked to do: one reduction, checked arguments, outputs.
//!
//! Who calls reductions needs [`Axis`], [`ReduceOptions`], [`Scheme`] and [`Device`]; all else is
//! there for backends.

use crate::data::{ArgView, Buffer, DType};
use crate::error::{CompileError, InputError, RunError};
use crate::graph::{Category, Graph, NodeId, Var};
use crate::key;
use crate::outer::Computation;
use crate::ranges::Ranges;
use crate::reduce::{Family, ReductionDef};
use hashbrown::HashMap;
use std::sync::{Arc, RwLock, Weak};

/// The index that a reduction runs over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Axis {
    /// Over `i`: one result for each `j` (KeOps' axis 0).
    I,
    /// Over `j`: one result for each `i` (KeOps' axis 1).
    J,
}

impl Axis {
    /// Category of results.
    pub fn kept(self) -> Category {
        match self {
            Axis::I => Category::J,
            Axis::J => Category::I,
        }
    }
    /// Category that is reduced.
    pub fn reduced(self) -> Category {
        match self {
            Axis::I => Category::I,
            Axis::J => Category::J,
        }
    }
    /// The other index.
    pub fn flip(self) -> Axis {
        match self {
            Axis::I => Axis::J,
            Axis::J => Axis::I,
        }
    }
}

/// How sums inside a reduction are added up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Scheme {
    /// Blocks of columns in the accumulation type, block sums added with compensation: as
    /// accurate as Kahan's summation for long sums, at no cost. The default.
    #[default]
    Block,
    /// One accumulator.
    Direct,
    /// Kahan's compensated summation, element by element.
    Kahan,
}

/// Options of a reduction.
///
/// ```
/// use keops_core::data::DType;
/// use keops_core::{genred::Reference, lazy::LazyTensor};
/// use keops_core::spec::{Axis, ReduceOptions, Scheme};
/// use ndarray::array;
///
/// let large = LazyTensor::<f32, Reference>::vj(array![16_777_216.0, 1.0, 1.0]); // 2^24
/// let wide = ReduceOptions { accumulate: Some(DType::F64), scheme: Scheme::Direct };
/// assert_eq!(large.options(wide).sum(Axis::J)?, array![[16_777_218.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ReduceOptions {
    /// Type of accumulators; `None`: f32 for f16, bf16 and f32 data, f64 for f64.
    pub accumulate: Option<DType>,
    /// See [`Scheme`].
    pub scheme: Scheme,
}

/// How a backend adds up, as [`ReduceOptions`] and the type of the data say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accumulation {
    /// Plain sums of [`BLOCK`] terms, then a compensated addition to the totals.
    Block,
    /// One plain sum.
    Direct,
    /// Kahan's summation.
    Kahan,
    /// Every addition rounded to f16.
    Half,
    /// f32 values, f64 sums, term by term.
    Wide,
}

/// Terms of a block of [`Accumulation::Block`]: sums of so many f32 lose nothing that counts, and
/// the cost of adding them to the totals is small (measured, see docs/performance.md).
pub const BLOCK: usize = 256;

/// A reduction of a formula, before a machine is chosen.
#[derive(Clone, Debug)]
pub struct ReduceSpec {
    /// Graph of both formulas.
    pub graph: Arc<Graph>,
    /// The formula.
    pub formula: NodeId,
    /// The second formula of weighted reductions.
    pub weight: Option<NodeId>,
    /// Which reduction.
    pub reduction: &'static ReductionDef,
    /// How many winners, for reductions that take several; else 1.
    pub k: usize,
    /// The index it runs over.
    pub axis: Axis,
    /// Variables in the order of arguments.
    pub vars: Vec<Var>,
    /// Names of the variables, for messages.
    pub names: Vec<String>,
    /// Element type of the arguments.
    pub dtype: DType,
    /// Options.
    pub options: ReduceOptions,
}

/// What an output holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutputSpec {
    /// Values (of the compute type) or indices (i64)?
    pub index: bool,
    /// Components per row: `k · dim`, row-major.
    pub dim: usize,
}

impl ReduceSpec {
    /// Winners of each component: `k` for selections of several, else 1.
    pub fn winners(&self) -> usize {
        match &self.reduction.kind {
            Family::Select(s) if s.many => self.k,
            _ => 1,
        }
    }
    /// How it adds up.
    pub fn accumulation(&self) -> Accumulation {
        match (self.options.accumulate, self.options.scheme) {
            (Some(DType::F64), _) if self.dtype != DType::F64 => Accumulation::Wide,
            (Some(DType::F16), _) => Accumulation::Half,
            (_, Scheme::Kahan) => Accumulation::Kahan,
            (_, Scheme::Direct) => Accumulation::Direct,
            (_, Scheme::Block) => Accumulation::Block,
        }
    }
    /// The outputs in order.
    pub fn outputs(&self) -> Vec<OutputSpec> {
        let d = self.graph.dim(self.formula);
        match &self.reduction.kind {
            Family::Accumulate(a) => {
                let dim = (a.dim)(self.weight.map_or(d, |w| self.graph.dim(w)));
                vec![OutputSpec { index: false, dim }]
            }
            Family::Select(s) => {
                let dim = d * self.winners();
                let value = s.value.then_some(OutputSpec { index: false, dim });
                let index = s.index.then_some(OutputSpec { index: true, dim });
                value.into_iter().chain(index).collect()
            }
        }
    }
    /// Checks options and formula against each other.
    pub fn check(&self) -> Result<(), InputError> {
        let d = self.graph.dim(self.formula);
        let name = self.reduction.name;
        let fail = |m: String| Err(InputError::Option(m));
        match &self.reduction.kind {
            Family::Accumulate(a) => {
                if a.pivot.is_some() && d != 1 {
                    return fail(format!(
                        "{name} takes a formula of dimension 1, got dimension {d}"
                    ));
                }
            }
            Family::Select(s) => {
                if s.many && self.k == 0 {
                    return fail(format!("{name} needs a positive number of winners, got 0"));
                }
                if self.k.saturating_mul(d) > crate::graph::MAX_DIM {
                    return fail(format!(
                        "{name}: {} winners of dimension {d} are too many",
                        self.k
                    ));
                }
                if self.options != ReduceOptions::default() {
                    return fail(format!(
                        "{name} has no sum inside: it takes neither an accumulation type nor a scheme"
                    ));
                }
            }
        }
        let allowed: &[DType] = match self.dtype {
            DType::F16 => &[DType::F16, DType::F32],
            DType::BF16 => &[DType::F32],
            DType::F32 => &[DType::F32, DType::F64],
            DType::F64 => &[DType::F64],
        };
        match self.options.accumulate {
            Some(t) if !allowed.contains(&t) => fail(format!(
                "{} data cannot be accumulated in {}; allowed: {}",
                self.dtype.name(),
                t.name(),
                allowed.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ")
            )),
            _ => Ok(()),
        }
    }
}

/// Arguments that fit a [`ReduceSpec`]: types, shapes, batches and ranges are checked.
#[derive(Clone, Debug)]
pub struct CheckedArgs<'a> {
    args: Vec<ArgView<'a>>,
    rows: usize,
    columns: usize,
    batch: Vec<usize>,
    ranges: Option<&'a Ranges>,
}

impl<'a> CheckedArgs<'a> {
    /// Checks arguments. `rows_i`, `rows_j` give the numbers of rows where no argument does.
    pub fn new(
        spec: &ReduceSpec,
        args: Vec<ArgView<'a>>,
        ranges: Option<&'a Ranges>,
        rows_i: Option<usize>,
        rows_j: Option<usize>,
    ) -> Result<CheckedArgs<'a>, InputError> {
        if args.len() != spec.vars.len() {
            return Err(InputError::Count {
                expected: spec.vars.len(),
                names: spec.names.join(", "),
                got: args.len(),
            });
        }
        let mut size: [Option<(usize, &str)>; 2] =
            [rows_i.map(|n| (n, "the given size")), rows_j.map(|n| (n, "the given size"))];
        let mut batch: Vec<usize> = vec![];
        let mut batch_of = "";
        for ((var, name), arg) in spec.vars.iter().zip(&spec.names).zip(&args) {
            if arg.dtype() != spec.dtype {
                return Err(InputError::Type {
                    name: name.clone(),
                    expected: spec.dtype.name().into(),
                    got: arg.dtype().name().into(),
                });
            }
            let shape = arg.shape();
            let own = if var.category == Category::Param { 1 } else { 2 };
            let d = var.dim;
            if shape.len() < own || shape[shape.len() - 1] != d {
                let expected = match var.category {
                    Category::Param => format!("shape ({d}) or (batches…, {d})"),
                    Category::I => format!("shape (M, {d}) or (batches…, M, {d})"),
                    Category::J => format!("shape (N, {d}) or (batches…, N, {d})"),
                };
                return Err(InputError::Shape {
                    name: name.clone(),
                    expected,
                    got: shape.to_vec(),
                });
            }
            if own == 2 {
                let n = shape[shape.len() - 2];
                let slot = &mut size[(var.category == Category::J) as usize];
                match slot {
                    Some((m, other)) if *m != n => {
                        return Err(InputError::Disagree {
                            name: name.clone(),
                            what: "rows".into(),
                            other: other.to_string(),
                            expected: *m,
                            got: n,
                        });
                    }
                    _ => *slot = Some((n, name)),
                }
            }
            // Batch axes broadcast from the right.
            for (k, &e) in shape[..shape.len() - own].iter().rev().enumerate() {
                if k == batch.len() {
                    batch.push(1);
                }
                if e != 1 && batch[k] != 1 && batch[k] != e {
                    return Err(InputError::Disagree {
                        name: name.clone(),
                        what: "batch elements".into(),
                        other: batch_of.to_string(),
                        expected: batch[k],
                        got: e,
                    });
                }
                if e != 1 {
                    batch[k] = e;
                    batch_of = name;
                }
            }
        }
        batch.reverse();
        // A formula without variables of a category has one row of it, as in KeOps.
        let [i, j] = size.map(|s| s.map_or(1, |(n, _)| n));
        let (rows, columns) = if spec.axis == Axis::J { (i, j) } else { (j, i) };
        if rows > u32::MAX as usize || columns > u32::MAX as usize {
            return Err(InputError::TooLarge {
                what: "rows".into(),
                detail: format!("{rows} x {columns} (limit 2^32 - 1 each)"),
            });
        }
        let per_row: usize = spec.outputs().iter().map(|o| o.dim).sum();
        // Empty results have batches too, which are counted.
        let extents = batch.iter().copied().filter(|e| *e > 0);
        let total =
            extents.chain([rows.max(1), per_row.max(1)]).try_fold(8usize, |a, b| a.checked_mul(b));
        if total.is_none_or(|t| t > isize::MAX as usize) {
            return Err(InputError::TooLarge {
                what: "result".into(),
                detail: format!("{batch:?} x {rows} x {per_row}"),
            });
        }
        if let Some(r) = ranges {
            r.check(i, j)?;
        }
        Ok(CheckedArgs { args, rows, columns, batch, ranges })
    }
    /// The arguments in order.
    pub fn args(&self) -> &[ArgView<'a>] {
        &self.args
    }
    /// Rows of the result.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Rows that are reduced.
    pub fn columns(&self) -> usize {
        self.columns
    }
    /// Batch shape.
    pub fn batch(&self) -> &[usize] {
        &self.batch
    }
    /// Number of batch elements.
    pub fn batches(&self) -> usize {
        self.batch.iter().product()
    }
    /// Multi-index of a batch element.
    pub fn batch_index(&self, mut b: usize) -> Vec<usize> {
        let mut index = vec![0; self.batch.len()];
        for (k, &e) in self.batch.iter().enumerate().rev() {
            index[k] = b % e;
            b /= e;
        }
        index
    }
    /// Block-sparse ranges.
    pub fn ranges(&self) -> Option<&'a Ranges> {
        self.ranges
    }
    /// Allocates outputs: values in the compute type, indices in i64, shape
    /// `(batch…, rows, dim)`.
    pub fn allocate(&self, spec: &ReduceSpec) -> Result<Vec<Buffer>, RunError> {
        let make = |o: OutputSpec| {
            let mut shape = self.batch.clone();
            shape.extend([self.rows, o.dim]);
            let dtype = (!o.index).then_some(spec.dtype.compute());
            Buffer::zeros(dtype, &shape).ok_or(RunError::OutOfMemory {
                what: "the result".into(),
                bytes: shape.iter().fold(8, |a, b| a.saturating_mul(*b)),
            })
        };
        spec.outputs().into_iter().map(make).collect()
    }
}

/// Why a backend cannot be used here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{backend} is not available: {reason}")]
pub struct Unavailable {
    /// Which.
    pub backend: String,
    /// Why, and what to do.
    pub reason: String,
}

/// A place where reductions run.
pub trait Backend: Send + Sync {
    /// Short name.
    fn name(&self) -> &str;
    /// Can it be used?
    fn check(&self) -> Result<(), Unavailable>;
    /// What code is made for, part of the cache key.
    fn target(&self) -> String;
    /// Makes a reduction runnable.
    fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError>;
}

/// A compiled reduction.
pub trait Executable: Send + Sync {
    /// Runs on checked arguments; `out` was made by [`CheckedArgs::allocate`] or has those shapes.
    fn run(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError>;
    /// The generated code in readable form, where there is one.
    fn source(&self) -> Option<String>;
}

/// What was compiled, once somebody has done it.
type Slot = Arc<std::sync::OnceLock<Result<Arc<dyn Executable>, CompileError>>>;
/// Compiled reductions by their keys, which are compared on a hit.
type Cache = HashMap<Vec<u8>, Slot>;

/// What the clones of a device share.
#[derive(Default)]
struct Shared {
    compiled: RwLock<Cache>,
    /// Computations of formulas made by operators, by their keys: made anew for every call, they
    /// are prepared once.
    computations: RwLock<HashMap<Vec<u8>, Arc<Computation>>>,
}

/// A backend with its cache of compiled reductions. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct Device {
    backend: Arc<dyn Backend>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("backend", &self.backend.name()).finish()
    }
}

/// Clones of one device are equal.
impl PartialEq for Device {
    fn eq(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}
impl Eq for Device {}

/// Which device it was, without keeping it.
pub(crate) struct DeviceId(Weak<Shared>);

impl PartialEq<Device> for DeviceId {
    fn eq(&self, device: &Device) -> bool {
        // The place is not used again while this refers to it.
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&device.shared))
    }
}

/// Compiled reductions that a device keeps; beyond it the cache starts anew.
const CACHE_ENTRIES: usize = 4096;

impl Device {
    /// A device over a backend.
    pub fn new(backend: impl Backend + 'static) -> Device {
        Device { backend: Arc::new(backend), shared: Arc::default() }
    }
    pub(crate) fn id(&self) -> DeviceId {
        DeviceId(Arc::downgrade(&self.shared))
    }
    /// The backend.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }
    /// Compiles, or finds what was compiled before. Of several threads that ask for one reduction
    /// at once the first compiles, and the others wait for it. Failures are not kept.
    ///
    /// # Errors
    /// [`CompileError`] from the backend.
    pub fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
        let key = key::of(spec);
        // A poisoned lock only means that another thread panicked; the map itself is whole.
        let cache = &self.shared.compiled;
        let known = cache.read().unwrap_or_else(|p| p.into_inner()).get(&key).cloned();
        let slot = known.unwrap_or_else(|| {
            let mut cache = cache.write().unwrap_or_else(|p| p.into_inner());
            if cache.len() >= CACHE_ENTRIES && !cache.contains_key(&key) {
                cache.clear();
            }
            cache.entry(key.clone()).or_default().clone()
        });
        let made = slot.get_or_init(|| self.backend.compile(spec)).clone();
        if made.is_err() {
            let mut cache = cache.write().unwrap_or_else(|p| p.into_inner());
            if cache.get(&key).is_some_and(|s| Arc::ptr_eq(s, &slot)) {
                cache.remove(&key);
            }
        }
        made
    }
    /// Number of compiled reductions in the cache.
    pub fn cached(&self) -> usize {
        self.shared.compiled.read().unwrap_or_else(|p| p.into_inner()).len()
    }
    /// The computation of a key: the one of an earlier call, or what `make` gives.
    pub(crate) fn computation(
        &self,
        key: Vec<u8>,
        make: impl FnOnce() -> Result<Computation, InputError>,
    ) -> Result<Arc<Computation>, InputError> {
        let all = &self.shared.computations;
        if let Some(c) = all.read().unwrap_or_else(|p| p.into_inner()).get(&key) {
            return Ok(c.clone());
        }
        let made = Arc::new(make()?);
        let mut all = all.write().unwrap_or_else(|p| p.into_inner());
        if all.len() >= CACHE_ENTRIES {
            all.clear();
        }
        Ok(all.entry(key).or_insert(made).clone())
    }
}

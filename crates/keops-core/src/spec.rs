//! What a backend is asked to do: one reduction, checked arguments, outputs.
//!
//! Callers need [`Axis`], [`ReduceOptions`], [`Scheme`] and [`Device`]; the rest is the interface
//! for backends.

mod agreement;
mod args;
mod cache;
mod device;
mod resident;

pub use agreement::broadcast;
pub(crate) use agreement::{Agreement, disagree, shapes_of};
pub use args::CheckedArgs;
pub(crate) use args::check_numbered;
pub(crate) use cache::Loaded;
pub(crate) use device::DeviceId;
pub use device::{CACHE_LIMIT, Device};
pub use resident::{Held, Resident};

use crate::data::{Buffer, DType};
use crate::error::{CompileError, InputError, RunError};
use crate::graph::{Category, Graph, NodeId, Var};
use crate::reduce::{Family, ReductionDef};
use std::sync::Arc;

/// The index that a reduction runs over.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use ndarray::array;
/// let (x, y) = (array![[1.0], [2.0]], array![[10.0], [20.0], [30.0]]);
/// let sum = |axis| -> Result<_, keops_core::error::Error> {
///     let sum: Genred = Genred::new("x + y", ["x = Vi(1)", "y = Vj(1)"], &SUM, axis)?;
///     sum.call((&x, &y))
/// };
/// assert_eq!(sum(Axis::J)?, array![[63.0], [66.0]].into_dyn()); // a result for each i
/// assert_eq!(sum(Axis::I)?, array![[23.0], [43.0], [63.0]].into_dyn()); // for each j
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Axis {
    /// Over `i`: one result for each `j` (KeOps' axis 0).
    I,
    /// Over `j`: one result for each `i` (KeOps' axis 1).
    J,
}

impl Axis {
    /// Category of results.
    ///
    /// ```
    /// use keops_core::{graph::Category, spec::Axis};
    /// assert_eq!(Axis::J.kept(), Category::I);
    /// ```
    pub fn kept(self) -> Category {
        match self {
            Axis::I => Category::J,
            Axis::J => Category::I,
        }
    }
    /// Category that is reduced.
    ///
    /// ```
    /// use keops_core::{graph::Category, spec::Axis};
    /// assert_eq!(Axis::J.reduced(), Category::J);
    /// ```
    pub fn reduced(self) -> Category {
        match self {
            Axis::I => Category::I,
            Axis::J => Category::J,
        }
    }
    /// The other index.
    ///
    /// ```
    /// use keops_core::spec::Axis;
    /// assert_eq!(Axis::J.flip(), Axis::I);
    /// ```
    pub fn flip(self) -> Axis {
        match self {
            Axis::I => Axis::J,
            Axis::J => Axis::I,
        }
    }
}

/// How sums inside a reduction are added up.
///
/// ```
/// use keops_core::spec::{Axis, ReduceOptions, Scheme};
/// use keops_core::{genred::Genred, reduce::SUM};
/// let sum: Genred = Genred::new("y", ["y = Vj(1)"], &SUM, Axis::J)?;
/// let kahan = ReduceOptions { scheme: Scheme::Kahan, ..ReduceOptions::default() };
/// let y = ndarray::array![[1e16], [1.0], [-1e16]]; // 1e16 + 1 is 1e16
/// assert_eq!(sum.options(kahan).call((&y,))?, ndarray::array![[1.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
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
/// use keops_core::spec::{Axis, ReduceOptions, Scheme};
/// use keops_core::{genred::Reference, lazy::LazyTensor};
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
///
/// ```
#[doc = include_str!("spec/example.txt")]
/// use keops_core::spec::{Accumulation, ReduceOptions};
/// let spec = spec("x * y", &["x = Vi(1)", "y = Vj(1)"], &reduce::SUM);
/// assert_eq!(spec.accumulation(), Accumulation::Block);
/// let options = ReduceOptions { accumulate: Some(DType::F64), ..spec.options };
/// assert_eq!(ReduceSpec { options, ..spec }.accumulation(), Accumulation::Wide); // of f32 data
/// ```
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

/// Terms of a block of [`Accumulation::Block`]: sums of this many f32 lose nothing that counts, and
/// the cost of adding them to the totals is small (measured, see docs/performance.md).
pub const BLOCK: usize = 256;

/// A reduction of a formula, before a machine is chosen.
/// [`outer::Reduction::spec`](crate::outer::Reduction::spec) makes one of a reduction in a
/// computation; a backend is given one.
///
/// ```
/// use keops_core::spec::{Axis, Device, ReduceOptions, ReduceSpec};
/// use keops_core::{data::DType, interp::Interpreter, parse::parse_formula, reduce};
/// let f = parse_formula("SqDist(x, y)", None, &["x = Vi(3)", "y = Vj(3)"])?;
/// let spec = ReduceSpec {
///     graph: f.graph,
///     formula: f.root,
///     weight: None,
///     reduction: &reduce::K_MIN,
///     k: 5,
///     axis: Axis::J,
///     vars: f.vars,
///     names: f.names,
///     dtype: DType::F32,
///     options: ReduceOptions::default(),
/// };
/// spec.check()?;
/// assert_eq!(spec.outputs()[0].dim, 5);
/// Device::new(Interpreter::new()).compile(&spec)?;
/// # Ok::<(), keops_core::error::Error>(())
/// ```
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
///
/// ```
#[doc = include_str!("spec/example.txt")]
/// use keops_core::spec::OutputSpec;
/// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::MIN_ARG_MIN);
/// let (value, index) = (OutputSpec { index: false, dim: 2 }, OutputSpec { index: true, dim: 2 });
/// assert_eq!(spec.outputs(), [value, index]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutputSpec {
    /// Values (of the compute type) or indices (i64)?
    pub index: bool,
    /// Components per row: `k · dim`, row-major.
    pub dim: usize,
}

/// The outputs of a reduction in order: one, or values and indices.
///
/// ```
/// use keops_core::outer::{Computation, OuterNode};
/// # use keops_core::{parse::parse_formula, reduce::MIN_ARG_MIN, spec::Axis};
/// let f = parse_formula("Abs(x - y)", None, &["x = Vi(2)", "y = Vj(2)"])?;
/// let c = Computation::reduction(f, &MIN_ARG_MIN, 1, Axis::J)?;
/// let OuterNode::Reduce(r) = c.graph().node(c.outputs()[0].port.node) else { unreachable!() };
/// let outputs = r.outputs();
/// assert_eq!((outputs.len(), outputs[1].index), (2, true));
/// assert!(outputs.into_iter().all(|o| o.dim == 2));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outputs {
    all: [OutputSpec; 2],
    count: usize,
}

impl Outputs {
    fn one(o: OutputSpec) -> Outputs {
        Outputs { all: [o; 2], count: 1 }
    }
}
impl<const N: usize> PartialEq<[OutputSpec; N]> for Outputs {
    fn eq(&self, other: &[OutputSpec; N]) -> bool {
        **self == other[..]
    }
}
impl std::ops::Deref for Outputs {
    type Target = [OutputSpec];
    fn deref(&self) -> &[OutputSpec] {
        &self.all[..self.count]
    }
}
impl IntoIterator for Outputs {
    type Item = OutputSpec;
    type IntoIter = std::iter::Take<std::array::IntoIter<OutputSpec, 2>>;
    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter().take(self.count)
    }
}

impl ReduceSpec {
    /// Winners of each component: `k` for selections of several, else 1.
    ///
    /// ```
    #[doc = include_str!("spec/example.txt")]
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::MIN);
    /// assert_eq!(spec.winners(), 1);
    /// assert_eq!(ReduceSpec { reduction: &reduce::K_MIN, k: 3, ..spec }.winners(), 3);
    /// ```
    pub fn winners(&self) -> usize {
        match &self.reduction.kind {
            Family::Select(s) if s.many => self.k,
            _ => 1,
        }
    }
    /// How it adds up.
    ///
    /// ```
    #[doc = include_str!("spec/example.txt")]
    /// use keops_core::spec::{Accumulation, ReduceOptions, Scheme};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM);
    /// let options = ReduceOptions { scheme: Scheme::Kahan, accumulate: None };
    /// assert_eq!(ReduceSpec { options, ..spec }.accumulation(), Accumulation::Kahan);
    /// ```
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
    ///
    /// ```
    #[doc = include_str!("spec/example.txt")]
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::K_MIN_ARG_K_MIN);
    /// let outputs = ReduceSpec { k: 3, ..spec }.outputs();
    /// assert_eq!(outputs.iter().map(|o| (o.index, o.dim)).collect::<Vec<_>>(), [(false, 6), (true, 6)]);
    /// ```
    pub fn outputs(&self) -> Outputs {
        let d = self.graph.dim(self.formula);
        match &self.reduction.kind {
            Family::Accumulate(a) => {
                let dim = (a.dim)(self.weight.map_or(d, |w| self.graph.dim(w)));
                Outputs::one(OutputSpec { index: false, dim })
            }
            Family::Select(s) => {
                let dim = d * self.winners();
                let [value, index] = [false, true].map(|index| OutputSpec { index, dim });
                match (s.value, s.index) {
                    (true, true) => Outputs { all: [value, index], count: 2 },
                    (value, _) => Outputs::one(OutputSpec { index: !value, dim }),
                }
            }
        }
    }
    /// Checks options and formula against each other.
    ///
    /// ```
    #[doc = include_str!("spec/example.txt")]
    /// use keops_core::spec::{ReduceOptions, Scheme};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM);
    /// assert!(spec.check().is_ok());
    /// let lse = ReduceSpec { reduction: &reduce::LOG_SUM_EXP, ..spec.clone() };
    /// assert_eq!(lse.check().unwrap_err().to_string(), "LogSumExp takes a formula of dimension 1, got dimension 2, as that of `x` and `y`");
    /// let options = ReduceOptions { scheme: Scheme::Kahan, accumulate: None };
    /// assert!(ReduceSpec { reduction: &reduce::MIN, options, ..spec }.check().is_err()); // no sum
    /// ```
    ///
    /// # Errors
    /// [`InputError::Option`] if a reduction with a pivot has a formula of more than one component, if
    /// the number of winners is 0 or too large, if a selection has options of sums, or if the data cannot
    /// be accumulated in that type.
    pub fn check(&self) -> Result<(), InputError> {
        let d = self.graph.dim(self.formula);
        let name = self.reduction.name;
        let fail = |m: String| Err(InputError::Option(m));
        match &self.reduction.kind {
            Family::Accumulate(a) => {
                if a.pivot.is_some() && d != 1 {
                    // (Numbers for each row, given as (batches…, rows), count as vectors.)
                    let of_formula = self.graph.variables(&[self.formula]);
                    let vars = self.vars.iter().enumerate();
                    let wide = vars.filter(|(_, v)| v.dim == d && of_formula.contains(v));
                    let wide: Vec<_> = wide
                        .map(|(k, v)| match self.names.get(k) {
                            Some(name) => format!("`{name}`"),
                            None => format!("{}({d})", v.category.keyword()),
                        })
                        .collect();
                    let of = match wide.is_empty() {
                        true => String::new(),
                        false => format!(", as that of {}", wide.join(" and ")),
                    };
                    return fail(format!(
                        "{name} takes a formula of dimension 1, got dimension {d}{of}"
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

/// Why a backend cannot be used here.
///
/// ```
/// use keops_core::spec::Unavailable;
/// let e = Unavailable { backend: "cuda".into(), reason: "there is no driver".into() };
/// assert_eq!(e.to_string(), "cuda is not available: there is no driver");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{backend} is not available: {reason}")]
pub struct Unavailable {
    /// Which.
    pub backend: String,
    /// Why, and what to do.
    pub reason: String,
}

/// A place where reductions run.
///
/// ```
/// use keops_core::error::CompileError;
/// use keops_core::spec::{Axis, Backend, Device, Executable, ReduceSpec, Unavailable};
/// use keops_core::{genred::Genred, interp::Interpreter, reduce};
/// use ndarray::array;
/// use std::sync::Arc;
///
/// /// The interpreter under another name.
/// struct Named(&'static str);
/// impl Backend for Named {
///     fn name(&self) -> &str {
///         self.0
///     }
///     fn check(&self) -> Result<(), Unavailable> {
///         Ok(())
///     }
///     fn target(&self) -> String {
///         "any".into()
///     }
///     fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
///         Interpreter::new().compile(spec)
///     }
/// }
/// let device = Device::new(Named("mine"));
/// assert_eq!(format!("{device:?}"), r#"Device { backend: "mine" }"#);
/// let sum: Genred = Genred::new("y", ["y = Vj(1)"], &reduce::SUM, Axis::J)?;
/// assert_eq!(sum.at(device).call((&array![[1.0], [2.0]],))?, array![[3.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait Backend: Send + Sync {
    /// Short name.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Backend};
    /// assert_eq!(Interpreter::new().name(), "interpreter");
    /// ```
    fn name(&self) -> &str;
    /// Can it be used?
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Backend};
    /// assert!(Interpreter::new().check().is_ok()); // wherever this runs
    /// ```
    ///
    /// # Errors
    /// [`Unavailable`] with the reason: no such processor, no driver.
    fn check(&self) -> Result<(), Unavailable>;
    /// What code is made for, part of the cache key.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Backend};
    /// assert_eq!(Interpreter::new().target(), Interpreter::new().target());
    /// ```
    fn target(&self) -> String;
    /// Makes a reduction runnable.
    ///
    /// ```
    #[doc = include_str!("spec/example.txt")]
    /// use keops_core::{interp::Interpreter, spec::Backend};
    /// let spec = spec("x * y", &["x = Vi(1)", "y = Vj(1)"], &reduce::SUM);
    /// let executable = Interpreter::new().compile(&spec)?; // `Device::compile` keeps it
    /// assert_eq!(executable.source(), None);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`CompileError`] naming what is not supported, which limit was reached, or the log of a compiler.
    fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError>;
    /// Takes an array of values, row-major, to be held by the device: its compiled reductions get
    /// it as an argument ([`ArgView::Resident`](crate::data::ArgView)). By default it stays in memory
    /// of the host.
    ///
    /// # Errors
    /// [`RunError`] if there is no memory for it or if the device fails.
    fn upload(&self, values: Buffer) -> Result<Arc<dyn Held>, RunError> {
        Ok(Arc::new(values))
    }
}

/// A compiled reduction.
///
/// ```
#[doc = include_str!("spec/example.txt")]
/// use keops_core::data::{Buffer, Element};
/// use keops_core::error::RunError;
/// use keops_core::spec::{CheckedArgs, Executable};
/// /// What the reduction `Zero` needs: outputs are made of zeros.
/// struct Nothing;
/// impl Executable for Nothing {
///     fn run(&self, _: &CheckedArgs<'_>, _: &mut [Buffer]) -> Result<(), RunError> {
///         Ok(())
///     }
///     fn source(&self) -> Option<String> {
///         None
///     }
/// }
/// let spec = spec("x", &["x = Vi(1)"], &reduce::ZERO);
/// let x = ndarray::array![[1f32], [2.0]].into_dyn();
/// let args = CheckedArgs::new(&spec, vec![f32::erase(x.view())], None, None, None)?;
/// let mut out = args.allocate(&spec)?;
/// Nothing.run(&args, &mut out)?;
/// assert_eq!(out[0].to_f64(), ndarray::array![[0.0], [0.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait Executable: Send + Sync {
    /// Runs on checked arguments; `out` was made by [`CheckedArgs::allocate`] or has those shapes.
    ///
    /// ```
    #[doc = include_str!("spec/example.txt")]
    /// # use keops_core::genred::AsArg;
    /// # use keops_core::{interp::Interpreter, spec::{Backend, CheckedArgs, Device}};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM); // of f32, over j
    /// let x = ndarray::Array4::<f32>::zeros((4, 3, 10, 2)); // two batch axes, 10 rows
    /// let y = ndarray::Array2::<f32>::zeros((7, 2));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// let mut out = args.allocate(&spec)?;
    /// Interpreter::new().compile(&spec)?.run(&args, &mut out)?;
    /// assert!(out[0].to_f64().iter().all(|v| *v == 0.0)); // as all arguments are 0
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`RunError`] if memory cannot be had or if the device fails.
    fn run(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError>;
    /// As [`Executable::run`], with results that stay on the device, in the order of outputs; `None`
    /// if the device has no memory of its own, so that results are made by [`Executable::run`].
    fn run_resident(&self, _: &CheckedArgs<'_>) -> Option<Result<Vec<Arc<dyn Held>>, RunError>> {
        None
    }
    /// The generated code in readable form, where there is one.
    ///
    /// ```
    #[doc = include_str!("spec/example.txt")]
    /// # use keops_core::genred::AsArg;
    /// # use keops_core::{interp::Interpreter, spec::{Backend, CheckedArgs, Device}};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM); // of f32, over j
    /// let x = ndarray::Array4::<f32>::zeros((4, 3, 10, 2)); // two batch axes, 10 rows
    /// let y = ndarray::Array2::<f32>::zeros((7, 2));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// assert!(Interpreter::new().compile(&spec)?.source().is_none()); // it writes no code
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    fn source(&self) -> Option<String>;
    /// Memory that the compiled reduction takes, in bytes, about: a device keeps what fits its
    /// [`Device::cache_limit`].
    ///
    /// ```
    #[doc = include_str!("spec/example.txt")]
    /// # use keops_core::{interp::Interpreter, spec::Backend};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM);
    /// let compiled = Interpreter::new().compile(&spec)?;
    /// assert!(compiled.bytes() > 0);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    fn bytes(&self) -> usize {
        1 << 14
    }
}

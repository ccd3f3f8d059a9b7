//! The rows of `benches/rows.json`: what each one computes, ready to run.

#[cfg(target_arch = "x86_64")]
mod by_hand;

#[cfg(target_arch = "x86_64")]
use crate::handwritten;
use keops::cpu::{Cpu, Level};
use keops::data::{ArgView, Buffer, DType, Element};
use keops::graph::{Node, NodeId};
use keops::linalg::{KernelSolve, SolveOptions};
use keops::parse::parse_formula;
use keops::ranges::{Pattern, Ranges};
use keops::reduce::{self, Definition, ReductionDef};
use keops::spec::{Axis, Device, ReduceOptions, ReduceSpec};
use keops::{pm, vi, vj};
use keops_core::error::Error;
use keops_core::genred::{AsArg, Genred};
use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;

/// Runs by name.
pub type Runs<'p> = Vec<(&'static str, Box<dyn Fn() + 'p>)>;

/// Types that kernels by hand exist for.
#[cfg(target_arch = "x86_64")]
pub trait Real: Element + handwritten::simd::Real {}
#[cfg(target_arch = "x86_64")]
impl<T: Element + handwritten::simd::Real> Real for T {}
/// Types that kernels by hand would exist for.
#[cfg(not(target_arch = "x86_64"))]
pub trait Real: Element {}
#[cfg(not(target_arch = "x86_64"))]
impl<T: Element> Real for T {}

/// What is timed.
#[derive(Clone, Copy, PartialEq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A call of a compiled reduction.
    #[default]
    Reduce,
    /// A call so small that the way there is what takes time.
    Call,
    /// The same, with a formula made by operators for each call.
    Lazy,
    /// A reduction on block-sparse ranges.
    Ranges,
    /// A system, by conjugate gradients.
    Solve,
    /// Parsing, compilation and the first call of a formula not seen before.
    First,
    /// Lowering and code generation alone.
    Compile,
}

/// A row of the table.
#[derive(Clone, Deserialize)]
pub struct Row {
    /// What it is called by filters.
    pub name: String,
    /// What is timed.
    #[serde(default)]
    pub kind: Kind,
    /// In the syntax of KeOps; `{new}` stands for a number that no call before has had.
    formula: String,
    /// `x = Vi(3)` and the like, in order.
    arguments: Vec<String>,
    /// The argument with respect to which the gradient is taken.
    gradient: Option<String>,
    #[serde(default = "sum")]
    reduction: String,
    #[serde(default = "one")]
    k: usize,
    /// Value of the parameter `g`.
    #[serde(default)]
    g: f64,
    /// Numbers of rows of `i` and `j`.
    #[serde(default = "square")]
    rows: [usize; 2],
    /// Number of clusters and rows of each.
    #[serde(default)]
    clusters: [usize; 2],
    /// Part of all pairs of clusters that meet.
    #[serde(default)]
    density: f64,
    /// Nodes of the formula that are neither variables nor constants, where that matters.
    operations: Option<usize>,
    /// The unknown of a system.
    variable: Option<String>,
    #[serde(default)]
    ridge: f64,
    /// Root mean square of the residual, by element type.
    #[serde(default)]
    tolerance: serde_json::Map<String, serde_json::Value>,
}
fn sum() -> String {
    "Sum".into()
}
fn one() -> usize {
    1
}
fn square() -> [usize; 2] {
    [10_000; 2]
}

impl Row {
    fn aliases(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }
    fn reduction(&self) -> &'static ReductionDef {
        match reduce::by_name(&self.reduction) {
            Some(Definition::Basic(def)) => def,
            _ => panic!("{} is no reduction that backends run", self.reduction),
        }
    }
    /// The reduction as a backend gets it.
    fn spec(&self, dtype: DType) -> Result<ReduceSpec, Error> {
        let formula = parse_formula(&self.formula.replace("{new}", "1"), None, &self.aliases())?;
        let leaf = |id: &NodeId| matches!(formula.graph.node(*id), Node::Var(_) | Node::Const(_));
        let operations = formula.graph.live(&[formula.root]).iter().filter(|id| !leaf(id)).count();
        assert_eq!(operations, self.operations.unwrap_or(operations), "{}", formula);
        Ok(ReduceSpec {
            graph: formula.graph,
            formula: formula.root,
            weight: None,
            reduction: self.reduction(),
            k: self.k,
            axis: Axis::J,
            vars: formula.vars,
            names: formula.names,
            dtype,
            options: ReduceOptions::default(),
        })
    }
    /// All rows.
    pub fn all() -> Vec<Row> {
        let mut rows: Vec<Row> =
            serde_json::from_str(include_str!("../rows.json")).expect("rows.json holds rows");
        for row in &mut rows {
            if row.kind == Kind::Ranges {
                row.rows = [row.clusters[0] * row.clusters[1]; 2];
            }
        }
        rows
    }
    /// The reduction of a formula in the place of the row's.
    fn function(&self, formula: &str, device: &Device) -> Result<Genred<Device>, Error> {
        let reduction = (self.reduction(), self.k);
        let function: Genred = Genred::new(formula, self.aliases(), reduction, Axis::J)?;
        Ok(function.at(device.clone()))
    }
    /// Names and shapes of the arguments in order.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes: Vec<_> = self.arguments.iter().map(|a| self.shape(a)).collect();
        if self.gradient.is_some() {
            // The cotangent: as many components as the formula.
            shapes.push(("e".into(), vec![self.rows[0], 1]));
        }
        shapes
    }
    fn shape(&self, argument: &str) -> (String, Vec<usize>) {
        let (name, declared) = argument.split_once(" = ").expect("name = Category(dim)");
        let (category, dim) = declared.split_once('(').expect("Category(dim)");
        let dim: usize = dim.trim_end_matches(')').parse().expect("a dimension");
        let shape = match category {
            "Vi" => vec![self.rows[0], dim],
            "Vj" => vec![self.rows[1], dim],
            _ => vec![dim],
        };
        (name.into(), shape)
    }
    /// Blocks of rows, each with about `density` of the blocks of columns, the same every time.
    fn ranges(&self) -> Ranges {
        let [count, size] = self.clusters;
        let mut random = uniform(1);
        let mut pattern = Pattern::default();
        for block in 0..count {
            pattern.blocks.push([block * size, (block + 1) * size]);
            let met = (0..count).filter(|_| random() < self.density);
            pattern.reduced.extend(met.map(|c| [c * size, (c + 1) * size]));
            pattern.slices.push(pattern.reduced.len());
        }
        Ranges::from_pattern(pattern).expect("blocks in order")
    }
    /// Numbers for an argument: positions uniform in the unit cube, weights around zero.
    pub fn values<T: Element>(&self, name: &str, shape: &[usize]) -> ArrayD<T> {
        // A system is symmetric: its columns are its rows.
        let name = if self.kind == Kind::Solve && name == "y" { "x" } else { name };
        let seed = name.bytes().fold(17, |seed, byte| 31 * seed + u64::from(byte));
        let (mut random, shift) = (uniform(seed), if "beps".contains(name) { 0.5 } else { 0.0 });
        ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            T::of_f64(if name == "g" { self.g } else { random() - shift })
        })
    }
}

/// Uniform numbers in [0, 1): SplitMix64.
fn uniform(mut state: u64) -> impl FnMut() -> f64 {
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A row with its arguments.
pub struct Problem<T> {
    row: Row,
    cpu: Cpu,
    device: Device,
    function: Genred<Device>,
    spec: ReduceSpec,
    arrays: Vec<ArrayD<T>>,
    ranges: Option<Arc<Ranges>>,
    /// Numbers that `{new}` has stood for.
    used: Cell<u32>,
}

impl<T: Real> Problem<T> {
    /// Arguments come from `array`, by name and shape.
    pub fn new(
        row: &Row,
        cpu: Cpu,
        mut array: impl FnMut(&str, &[usize]) -> ArrayD<T>,
    ) -> Result<Self, Error> {
        let device = Device::new(cpu);
        let mut function = row.function(&row.formula.replace("{new}", "0.5"), &device)?;
        if let Some(name) = &row.gradient {
            function = function.vjp(name)?;
        }
        let ranges = (row.kind == Kind::Ranges).then(|| Arc::new(row.ranges()));
        if let Some(ranges) = &ranges {
            function = function.ranges(ranges.clone());
        }
        let arrays = row.shapes().iter().map(|(name, shape)| array(name, shape)).collect();
        let (row, spec, used) = (row.clone(), row.spec(T::DTYPE)?, Cell::new(0));
        Ok(Problem { row, cpu, device, function, spec, arrays, ranges, used })
    }
    /// The row.
    pub fn row(&self) -> &Row {
        &self.row
    }
    /// The values of an argument in order.
    pub fn values(&self, name: &str) -> &[T] {
        let slot = self.row.shapes().iter().position(|(n, _)| n == name).expect("an argument");
        self.arrays[slot].as_slice().expect("row-major")
    }
    /// Pairs of rows that meet.
    pub fn pairs(&self) -> usize {
        let [_, size] = self.row.clusters;
        match &self.ranges {
            Some(ranges) => ranges.pattern(Axis::J).expect("given").reduced.len() * size * size,
            None => self.row.rows.iter().product(),
        }
    }
    /// What can be timed: `ours`, and kernels by hand for a level.
    pub fn runs(&self, level: Level) -> Runs<'_> {
        let ours = || drop(black_box(self.run().expect("it ran before")));
        let mut runs: Runs<'_> = vec![("ours", Box::new(ours))];
        #[cfg(target_arch = "x86_64")]
        match level {
            Level::Avx512 => runs.extend(by_hand::runs(self, handwritten::Level::Avx512)),
            Level::Avx2 => runs.extend(by_hand::runs(self, handwritten::Level::Avx2)),
            Level::Portable => {}
        }
        let _ = level;
        runs
    }
    /// One run of what the row times; what it gives.
    pub fn run(&self) -> Result<Vec<Buffer>, Box<dyn std::error::Error>> {
        let views: Vec<ArgView<'_>> = self.arrays.iter().map(AsArg::as_arg).collect();
        Ok(match self.row.kind {
            Kind::Reduce | Kind::Ranges | Kind::Call => self.function.run(&views)?,
            Kind::Lazy => {
                let [x, y, g, b] = &self.arrays[..] else { return Err("four arguments".into()) };
                let kernel = (-(pm(g) * vi(x).sqdist(vj(y)))).exp();
                vec![Buffer::F64(kernel.matmul(b)?.mapv(Element::to_f64))]
            }
            Kind::First => {
                let new = self.used.replace(self.used.get() + 1);
                let formula = self.row.formula.replace("{new}", &format!("1.{new:07}5"));
                self.row.function(&formula, &self.device)?.run(&views)?
            }
            Kind::Solve => {
                let variable = self.row.variable.as_deref().expect("a system has an unknown");
                let solve = KernelSolve::from_sum(self.function.clone(), variable)?;
                let b = self.values(variable);
                let square: f64 = b.iter().map(|v| Element::to_f64(*v).powi(2)).sum();
                let rms = self.row.tolerance[T::DTYPE.name()].as_f64().expect("a number");
                let options = SolveOptions {
                    tolerance: rms * (b.len() as f64 / square).sqrt(),
                    ..SolveOptions::ridge(self.row.ridge)
                };
                let arrays: Vec<&ArrayD<T>> = self.arrays.iter().collect();
                let solution = solve.call(&arrays[..], &options)?;
                vec![Buffer::F64(solution.value.mapv(Element::to_f64))]
            }
            Kind::Compile => {
                black_box(self.cpu.compile_executable(&self.spec)?);
                vec![]
            }
        })
    }
}

//! One random test case: its numbers, and the reduction and arguments that they mean.

use super::data::{Argument, LAYOUTS, Special, ranges};
use super::formula::{Kind, Pool, operation_name, operation_number};
use crate::data::DType;
use crate::error::InputError;
use crate::graph::{Builder, Category, Graph, Node, NodeId, Var};
use crate::ops::{Code, OpDef};
use crate::prim::Prim;
use crate::random::Random;
use crate::ranges::Ranges;
use crate::reduce::{self, Family, ReductionDef, WeightRule};
use crate::spec::{Axis, CheckedArgs, ReduceOptions, ReduceSpec, Scheme};
use crate::vecmath::{Precision, PrimBuilder, Val};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Numbers of a case besides the instructions.
pub const HEADER: usize = 16;
/// Most instructions of a formula.
pub const INSTRUCTIONS: usize = 8;
/// Numbers are below this; shrinking aims at 0, which always means the simplest choice.
pub const NUMBERS: u32 = 1 << 20;

/// Sizes of both sides: around the widths of vector registers, of blocks, and nothing.
const SIZES: [usize; 20] =
    [3, 2, 5, 16, 17, 1, 15, 64, 65, 63, 0, 31, 33, 100, 128, 129, 200, 256, 257, 300];
const SPECIAL: [Special; 8] = {
    use Special::{Mild, No, Wild};
    [No, No, Mild, No, Wild, No, Mild, No]
};
/// Component evaluations per case, about a tenth of a microsecond each.
const WORK: usize = 200_000;
/// A call of a scalar function, in such evaluations: a quadrature is 20 microseconds, and its error bound
/// takes several.
const CALL: usize = 1000;

/// The numbers of a case: what [`cases`](super::cases) makes and shrinks. All zeros mean the
/// simplest choices.
///
/// ```
/// use keops_core::conformance::Case;
/// use keops_core::reduce::SUM;
/// let simplest = Case { header: vec![0; 16], instructions: vec![[0; 3]] }.build()?;
/// assert_eq!((simplest.spec.reduction, simplest.sizes), (&SUM, [3, 3]));
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// See [`Case::build`].
    pub header: Vec<u32>,
    /// Operations, each a number for which one and two that choose its operands.
    pub instructions: Vec<[u32; 3]>,
}

/// Place of the reduction in the header.
const REDUCTION: usize = 5;

/// The reduction that a number means: for half of them the plain sum.
fn reduction(number: u32) -> &'static ReductionDef {
    if number.is_multiple_of(2) {
        &reduce::SUM
    } else {
        reduce::ALL[(number / 2) as usize % reduce::ALL.len()]
    }
}

impl Case {
    /// As text, for a file of regressions. Operations and reductions are written by name, so that
    /// the text means the same when the tables grow.
    ///
    /// ```
    /// use keops_core::conformance::Case;
    /// let text = Case { header: vec![0; 16], instructions: vec![[0; 3]] }.to_text();
    /// assert!(text.starts_with("0,0,0,0,0,Sum,0,"));
    /// assert_eq!(Case::from_text(&text).unwrap().to_text(), text);
    /// ```
    pub fn to_text(&self) -> String {
        let list = |v: &[u32], place: usize, name: &str| {
            let word = |(k, n): (usize, &u32)| if k == place { name.into() } else { n.to_string() };
            v.iter().enumerate().map(word).collect::<Vec<_>>().join(",")
        };
        let number = self.header.get(REDUCTION).copied().unwrap_or(0);
        let mut parts = vec![list(&self.header, REDUCTION, reduction(number).name)];
        parts.extend(self.instructions.iter().map(|i| list(i, 0, operation_name(i[0]))));
        parts.join(";")
    }
    /// From such text; `None` if it is none, or names an operation or a reduction that is not in
    /// the tables.
    ///
    /// ```
    /// use keops_core::conformance::Case;
    /// let case = Case::from_text("0,0,0,0,0,Min,0,0,0,0,0,0,0,0,0,0;Exp,0,0").unwrap();
    /// assert_eq!(case.build()?.spec.reduction.name, "Min");
    /// assert!(Case::from_text("0,0,0,0,0,Median,0,0,0,0,0,0,0,0,0,0;Exp,0,0").is_none());
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    pub fn from_text(text: &str) -> Option<Case> {
        let read = |part: &str, place: usize, number: &dyn Fn(&str) -> Option<u32>| {
            let one = |(k, n): (usize, &str)| match n.trim().parse() {
                Err(_) if k == place => number(n.trim()),
                number => number.ok(),
            };
            part.split(',').enumerate().map(one).collect::<Option<Vec<u32>>>()
        };
        let numbered = |name: &str| {
            let at = reduce::ALL.iter().position(|r| r.name == name)?;
            Some(2 * at as u32 + 1)
        };
        let mut parts = text.trim().split(';');
        let header = read(parts.next()?, REDUCTION, &numbered)?;
        let instruction = |p| read(p, 0, &operation_number)?.try_into().ok();
        let instructions = parts.map(instruction).collect::<Option<Vec<[u32; 3]>>>()?;
        (header.len() == HEADER).then_some(Case { header, instructions })
    }
}

/// Every feature that [`Problem::features`] may name.
///
/// ```
/// use keops_core::conformance::all_features;
/// assert!(all_features().contains("ranges") && all_features().contains("kahan sums"));
/// ```
pub fn all_features() -> BTreeSet<String> {
    let words = [
        "over I",
        "over J",
        "f16 data in f16",
        "f32 data in f64",
        "no special values",
        "mild special values",
        "wild special values",
        "ranges",
        "batches",
        "weights",
        "no rows of i",
        "no rows of j",
        "more than 128 rows",
        "more than 16 dimensions",
        "more than 128 dimensions",
    ];
    let mut all: BTreeSet<String> = words.into_iter().map(String::from).collect();
    let types = [DType::F16, DType::BF16, DType::F32, DType::F64];
    all.extend(types.map(|t| format!("{} data", t.name())));
    let schemes = [Scheme::Block, Scheme::Direct, Scheme::Kahan];
    all.extend(schemes.map(|s| format!("{s:?} sums").to_lowercase()));
    all.extend(LAYOUTS.map(|l| format!("{l:?} layout").to_lowercase()));
    all
}

/// A case, built: a reduction, arguments for it, and what is special about both.
///
/// ```
/// use keops_core::conformance::Case;
/// let case = Case::from_text("0,0,0,0,0,Max,0,0,0,0,0,0,0,0,0,0;Exp,0,0").unwrap();
/// let problem = case.build()?;
/// assert_eq!(problem.arguments.len(), problem.spec.vars.len());
/// assert!(problem.operations.contains("Exp") && problem.derivatives.is_empty());
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
pub struct Problem {
    /// The reduction.
    pub spec: ReduceSpec,
    /// Its arguments in order.
    pub arguments: Vec<Argument>,
    /// Rows of `i` and of `j`.
    pub sizes: [usize; 2],
    /// Block-sparse ranges.
    pub ranges: Option<Ranges>,
    /// The formula as text.
    pub text: String,
    /// Operations of both tables in it.
    pub operations: BTreeSet<&'static str>,
    /// What is special about it, in words: type of data, scheme, layouts, ranges and so on.
    pub features: BTreeSet<String>,
    /// `Grad` or `Diff`, for each derivative taken.
    pub derivatives: Vec<&'static str>,
}

impl Case {
    /// Builds the case. Deterministic; every choice of numbers is valid.
    ///
    /// # Errors
    /// [`InputError`] if there is no memory for the arguments; whatever else it says is a mistake
    /// in the suite.
    ///
    /// ```
    /// use keops_core::conformance::Case;
    /// let case = Case { header: (0..16).collect(), instructions: vec![[7, 8, 9]] };
    /// assert_eq!(case.build()?.text, case.build()?.text);
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    pub fn build(&self) -> Result<Problem, InputError> {
        let h = |k: usize| self.header.get(k).copied().unwrap_or(0);
        let axis = choose(h(0), &[Axis::J, Axis::J, Axis::I]);
        let kept = axis.kept();
        let b = Builder::default();
        let mut pool = Pool::new(&b, h(1), h(2));
        if let Some((last, rest)) = self.instructions.split_last() {
            rest.iter().for_each(|i| pool.apply(*i));
            pool.apply_surely(*last);
        }
        let mut f = pool.last();
        let mut derivatives = vec![];
        // Most formulas are differentiated where they can be, some two or three times.
        let times = choose(h(3) / 8, &[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3]);
        for t in 0..times {
            let forward = (h(3) >> t) % 2 == 1;
            match pool.differentiate(f, h(4) >> (3 * t), forward, kept) {
                Some(d) => f = d,
                None => break,
            }
            derivatives.push(if forward { "Diff" } else { "Grad" });
        }
        let reduction = reduction(h(REDUCTION));
        let mut k = 1;
        let mut options = ReduceOptions::default();
        let dtype = choose(
            h(6),
            &[DType::F64, DType::F32, DType::F32, DType::F32, DType::F16, DType::BF16],
        );
        match &reduction.kind {
            Family::Accumulate(a) => {
                if a.pivot.is_some() {
                    f = f.sum();
                }
                options.scheme =
                    choose(h(7), &[Scheme::Block, Scheme::Block, Scheme::Direct, Scheme::Kahan]);
                options.accumulate = match (dtype, h(7) / 4 % 3) {
                    (DType::F16, 1) => Some(DType::F16),
                    (DType::F32, 1) => Some(DType::F64),
                    _ => None,
                };
            }
            Family::Select(s) if s.many => k = choose(h(7), &[2, 1, 3, 5, 10, 33, 100]),
            Family::Select(_) => {}
        }
        let weighted = match reduction.weight {
            WeightRule::Never => false,
            WeightRule::Optional => h(8) % 2 == 1,
            WeightRule::Required => true,
        };
        let w = weighted.then(|| pool.some(h(8) / 2));
        let (formula, weight) = (f.id, w.map(|w| w.id));
        let roots: Vec<NodeId> = std::iter::once(formula).chain(weight).collect();
        let mut vars = b.graph().variables(&roots);
        // Arguments come in any order.
        let turn = h(9) as usize % vars.len().max(1);
        vars.rotate_left(turn);
        let names: Vec<String> = vars.iter().map(|v| pool.name(v.index)).collect();
        let kinds = pool.kinds.clone();
        let mut text = pool.text.join("; ");
        // The last operation is the formula; of the others, those that are left in it.
        let mut operations = BTreeSet::from_iter(pool.latest);
        let b = b.into_graph();
        for id in b.live(&roots) {
            if let Node::Map { op, .. } = b.node(id) {
                operations.insert(op.name);
            }
        }
        let batch: &[usize] = choose(h(10), &[&[], &[], &[], &[], &[], &[2], &[3], &[2, 2]]);
        let mut sizes = [choose(h(11), &SIZES), choose(h(11) / 20, &SIZES)];
        let per_pair = cost(&b, &roots) * batch.iter().product::<usize>();
        while sizes[0] * sizes[1] * per_pair > WORK && sizes[0].max(sizes[1]) > 1 {
            let longer = (sizes[1] >= sizes[0]) as usize;
            sizes[longer] = sizes[longer] * 2 / 3;
        }
        let special = choose(h(12), &SPECIAL);
        let mut random = Random::new(u64::from(h(13)));
        let arguments: Vec<Argument> = vars
            .iter()
            .enumerate()
            .map(|(at, v)| {
                let mut shape: Vec<usize> = batch.to_vec();
                // Some arguments have fewer or broadcast batch axes.
                match h(10) / 8 + at as u32 {
                    c if c % 3 == 1 => shape.fill(1),
                    c if c % 5 == 2 => shape.clear(),
                    _ => {}
                }
                match v.category {
                    Category::I => shape.push(sizes[0]),
                    Category::J => shape.push(sizes[1]),
                    Category::Param => {}
                }
                shape.push(v.dim);
                let layout = choose(h(14) >> (3 * (at % 6)), &LAYOUTS);
                let kind = kinds.get(v.index as usize).copied().unwrap_or(Kind::Signed);
                Argument::new(&mut random, dtype, &shape, kind, special, layout)
                    .ok_or_else(|| InputError::Option(format!("no memory for {shape:?}")))
            })
            .collect::<Result<_, _>>()?;
        let ranges = (h(15) % 4 == 3).then(|| ranges(&mut random, sizes[0], sizes[1]));
        text = format!(
            "{text}\n{}(k = {k}) over {axis:?} of {formula:?} weight {weight:?}, {dtype:?} {options:?}, \
             M = {}, N = {}, batch {batch:?}, ranges {}, special data: {special:?}",
            reduction.name,
            sizes[0],
            sizes[1],
            ranges.is_some()
        );
        let mut features: BTreeSet<String> = BTreeSet::from([
            format!("over {axis:?}"),
            format!("{} data", dtype.name()),
            format!("{special:?} special values").to_lowercase(),
        ]);
        if matches!(&reduction.kind, Family::Accumulate(_)) {
            features.insert(format!("{:?} sums", options.scheme).to_lowercase());
            if let Some(t) = options.accumulate {
                features.insert(format!("{} data in {}", dtype.name(), t.name()));
            }
        }
        for (yes, name) in [
            (ranges.is_some(), "ranges"),
            (!batch.is_empty(), "batches"),
            (weight.is_some(), "weights"),
            (sizes[0] == 0, "no rows of i"),
            (sizes[1] == 0, "no rows of j"),
            (sizes[0] > 128 || sizes[1] > 128, "more than 128 rows"),
            (vars.iter().any(|v| v.dim > 16), "more than 16 dimensions"),
            (vars.iter().any(|v| v.dim > 128), "more than 128 dimensions"),
        ] {
            if yes {
                features.insert(name.into());
            }
        }
        features
            .extend(arguments.iter().map(|a| format!("{:?} layout", a.layout()).to_lowercase()));
        let spec = ReduceSpec {
            graph: Arc::new(b),
            formula,
            weight,
            reduction,
            k,
            axis,
            vars,
            names,
            dtype,
            options,
        };
        spec.check()?;
        Ok(Problem { spec, arguments, sizes, ranges, text, operations, features, derivatives })
    }
}

impl Problem {
    /// The arguments in their layouts, or all row-major (`plain`), as a backend gets them.
    ///
    /// # Errors
    /// [`InputError`] if they do not fit, which is a mistake in the suite.
    ///
    /// ```
    /// use keops_core::conformance::{Case, judge};
    /// use keops_core::interp::{Interpreter, evaluate_with_bounds};
    /// use keops_core::spec::Device;
    /// let case = Case::from_text("0,0,0,0,0,Sum,0,0,0,0,0,0,0,0,0,0;Exp,0,0").unwrap();
    /// let problem = case.build()?;
    /// let (spec, args) = (&problem.spec, problem.checked(false)?);
    /// let mut out = args.allocate(spec)?;
    /// Device::new(Interpreter::new()).compile(spec)?.run(&args, &mut out)?;
    /// let expected = evaluate_with_bounds(spec, &problem.checked(true)?)?;
    /// assert_eq!(judge(&expected[0], &out[0], spec.k).wrong, None);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn checked(&self, plain: bool) -> Result<CheckedArgs<'_>, InputError> {
        let views = self
            .arguments
            .iter()
            .filter_map(|a| if plain { a.plain.view() } else { a.view() })
            .collect();
        // Where no argument has rows of a category, there is one of them whatever is said here.
        let size = |c: Category, n: usize| {
            self.spec.vars.iter().any(|v: &Var| v.category == c).then_some(n)
        };
        let [m, n] = self.sizes;
        let [m, n] = [size(Category::I, m).unwrap_or(m), size(Category::J, n).unwrap_or(n)];
        CheckedArgs::new(&self.spec, views, self.ranges.as_ref(), Some(m), Some(n))
    }
}

/// What code an operation is: does it call a scalar function?
struct Calls {
    /// Operands that are constants; those are the first values.
    known: Vec<Option<f64>>,
    values: u32,
    found: bool,
}

impl Calls {
    fn any(op: &OpDef, known: Vec<Option<f64>>) -> bool {
        let Code::Expand(expand) = op.code else { return false };
        let operands: Vec<Val> = (0..op.arity as u32).map(Val).collect();
        let mut code = Calls { known, values: op.arity as u32, found: false };
        expand(&mut code, &operands);
        code.found
    }
    fn next(&mut self) -> Val {
        self.values += 1;
        Val(self.values - 1)
    }
}
impl PrimBuilder for Calls {
    fn precision(&self) -> Precision {
        Precision::F64
    }
    fn real(&mut self, _: f64) -> Val {
        self.next()
    }
    fn int(&mut self, _: i64) -> Val {
        self.next()
    }
    fn prim(&mut self, op: Prim, _: &[Val]) -> Val {
        self.found |= matches!(op, Prim::Call(_));
        self.next()
    }
    fn constant(&self, v: Val) -> Option<f64> {
        self.known.get(v.0 as usize).copied().flatten()
    }
}

/// Component evaluations for one pair.
fn cost(graph: &Graph, roots: &[NodeId]) -> usize {
    let one = |id: NodeId| match graph.node(id) {
        Node::Contract { extents, operands, .. } => {
            extents.iter().product::<usize>() * operands.len()
        }
        Node::Map { op, args } => {
            let known = args.iter().map(|&a| graph.constant(a)).collect();
            graph.dim(id) * if Calls::any(op, known) { CALL } else { 2 }
        }
        _ => graph.dim(id) / 4 + 1,
    };
    graph.live(roots).into_iter().map(one).sum::<usize>().max(1)
}

/// The entry of a table that a number means; 0, at which shrinking aims, is the first.
pub fn choose<T: Copy>(number: u32, table: &[T]) -> T {
    table[number as usize % table.len()]
}

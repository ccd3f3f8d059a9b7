//! The reference interpreter: slow, and as close to the definitions as code can be.
//!
//! It walks the formula graph pair by pair and reduces by definition. It shares no code with the
//! lowering, the planner or any code generator, which are judged by it ([`evaluate_with_bounds`]
//! says how far they may be off). As a [`Backend`] it runs everywhere.

mod arithmetic;
mod bounded;
mod dual;
mod tape;
#[cfg(test)]
mod tests;

pub(crate) use arithmetic::position;
pub use bounded::{Bounded, evaluate_with_bounds};
#[cfg(feature = "conformance")]
pub(crate) use dual::slopes;
pub use dual::{HyperDual, evaluate_with_tangents};

use crate::data::{Buffer, DType, Element, batch_matrix};
use crate::error::{CompileError, OutOfMemory, RunError};
use crate::graph::{Builder, Category, FoldOp, Graph, NodeId, Var};
use crate::memory;
use crate::ranges::Pattern;
use crate::reduce::{Accumulate, Family, Pivot, Select};
use crate::spec::{Axis, Backend, CheckedArgs, Executable, ReduceOptions, ReduceSpec, Unavailable};
use crate::with_view;
use arithmetic::{Arithmetic, Exact, Single, Sum, Winner};
use ndarray::IxDyn;
use std::sync::Arc;
use tape::{Matrix, Scope, Tape};

/// The precision in which the interpreter evaluates.
///
/// ```
/// use keops_core::genred::Genred;
/// use keops_core::interp::{Interpreter, Rounding};
/// use keops_core::{reduce::SUM, spec::{Axis, Device}};
/// // 10⁸ + 1 has no place in f32, whose numbers lie 8 apart there.
/// let g: Genred = Genred::new("(y + z) - z", &["y = Vj(1)", "z = Pm(1)"], &SUM, Axis::J)?;
/// let (y, z) = (ndarray::array![[1.0_f32]], ndarray::array![1e8_f32]);
/// let sum = |rounding| {
///     let device = Device::new(Interpreter::with_rounding(rounding));
///     g.clone().at(device).call((&y, &z)).map(|out| out[[0, 0]])
/// };
/// assert_eq!(sum(Rounding::Double)?, 1.0);
/// assert_eq!(sum(Rounding::Compute)?, 0.0);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rounding {
    /// In f64 whatever the data; outputs are rounded once, to the compute type.
    #[default]
    Double,
    /// Every operation is rounded to the compute type of the data, as in compiled code.
    Compute,
}

/// Most components of all nodes of a formula together: 128 MiB of f64.
pub const MAX_COMPONENTS: usize = 1 << 24;

/// The interpreter as a backend.
///
/// It takes every reduction whose formulas have at most [`MAX_COMPONENTS`] components in all their
/// nodes, on one thread. Its memory is a copy of the arguments of one batch element, and those
/// components.
///
/// ```
/// use keops_core::{genred::Genred, interp::Interpreter, reduce::MAX, spec::{Axis, Device}};
/// let g: Genred = Genred::new("x * y", &["x = Vi(1)", "y = Vj(1)"], &MAX, Axis::J)?;
/// let g = g.at(Device::new(Interpreter::new()));
/// let (x, y) = (ndarray::array![[1.0], [-1.0]], ndarray::array![[3.0], [5.0]]);
/// assert_eq!(g.call((&x, &y))?, ndarray::array![[5.0], [-3.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Interpreter {
    rounding: Rounding,
}

impl Interpreter {
    /// Evaluates in f64 and rounds the outputs.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Backend};
    /// let interpreter = Interpreter::new();
    /// assert_eq!((interpreter.name(), interpreter.check()), ("interpreter", Ok(())));
    /// ```
    pub fn new() -> Self {
        Self::default()
    }
    /// Evaluates with the given rounding: with [`Rounding::Compute`] it is another target.
    ///
    /// ```
    /// use keops_core::{interp::{Interpreter, Rounding}, spec::Backend};
    /// let rounded = Interpreter::with_rounding(Rounding::Compute);
    /// assert_ne!(rounded.target(), Interpreter::new().target());
    /// ```
    pub fn with_rounding(rounding: Rounding) -> Self {
        Interpreter { rounding }
    }
}

impl Backend for Interpreter {
    fn name(&self) -> &str {
        "interpreter"
    }
    fn check(&self) -> Result<(), Unavailable> {
        Ok(())
    }
    fn target(&self) -> String {
        format!("{:?}", self.rounding)
    }
    fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
        Ok(Arc::new(Interpreted { job: Job::new(spec)?, rounding: self.rounding }))
    }
}

struct Interpreted {
    job: Job,
    rounding: Rounding,
}

impl Executable for Interpreted {
    fn run(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError> {
        if self.rounding == Rounding::Compute && self.job.compute == DType::F32 {
            self.write(&Single, args, out)
        } else {
            self.write(&Exact, args, out)
        }
    }
    fn source(&self) -> Option<String> {
        None
    }
}

impl Interpreted {
    fn write<A: Arithmetic>(
        &self,
        a: &A,
        args: &CheckedArgs<'_>,
        out: &mut [Buffer],
    ) -> Result<(), RunError> {
        /// Places of results, in row-major order.
        enum Slots<'o> {
            F16(ndarray::iter::IterMut<'o, half::f16, IxDyn>),
            BF16(ndarray::iter::IterMut<'o, half::bf16, IxDyn>),
            F32(ndarray::iter::IterMut<'o, f32, IxDyn>),
            F64(ndarray::iter::IterMut<'o, f64, IxDyn>),
            I64(ndarray::iter::IterMut<'o, i64, IxDyn>),
        }
        fn put<'o, T: 'o>(mut slots: impl Iterator<Item = &'o mut T>, v: T) {
            if let Some(slot) = slots.next() {
                *slot = v;
            }
        }
        let mut slots: Vec<Slots<'_>> = out
            .iter_mut()
            .map(|buffer| match buffer {
                Buffer::F16(b) => Slots::F16(b.iter_mut()),
                Buffer::BF16(b) => Slots::BF16(b.iter_mut()),
                Buffer::F32(b) => Slots::F32(b.iter_mut()),
                Buffer::F64(b) => Slots::F64(b.iter_mut()),
                Buffer::I64(b) => Slots::I64(b.iter_mut()),
            })
            .collect();
        let input =
            |k: usize, batch: &[usize]| copied(args, k, &self.job.vars[k], batch, |v| a.exact(v));
        self.job.run(a, args, &input, &mut |k, w| {
            let value = a.value(w.value);
            match slots.get_mut(k) {
                Some(Slots::F16(s)) => put(s, Element::of_f64(value)),
                Some(Slots::BF16(s)) => put(s, Element::of_f64(value)),
                Some(Slots::F32(s)) => put(s, Element::of_f64(value)),
                Some(Slots::F64(s)) => put(s, value),
                Some(Slots::I64(s)) => put(s, w.index),
                None => {}
            }
        })
    }
}

/// Argument `k` of one batch element, row-major.
fn copied<V>(
    args: &CheckedArgs<'_>,
    k: usize,
    var: &Var,
    batch: &[usize],
    of: impl Fn(f64) -> V,
) -> Result<Vec<V>, RunError> {
    with_view!(&*args.args()[k].host()?, v => {
        let matrix = batch_matrix(v, batch, var.category != Category::Param);
        Ok(memory::collected(matrix.iter().map(|x| of(x.to_f64())), "a copy of an argument")?)
    })
}

/// The values of an argument (by number) for a batch element.
type Input<'i, V> = &'i dyn Fn(usize, &[usize]) -> Result<Vec<V>, RunError>;

/// A reduction prepared for any arithmetic.
struct Job {
    kind: Kind,
    axis: Axis,
    vars: Vec<Var>,
    compute: DType,
    options: ReduceOptions,
    k: usize,
}

enum Kind {
    Accumulate {
        /// The formula, where its maximum is the pivot, and whether the result shows the pivot.
        pivot: Option<(Tape, bool)>,
        /// The addends; the pivot is one more input.
        addends: Tape,
        /// The result; the inputs are the sums and the pivot.
        finalise: Tape,
        /// Number of addends.
        dim: usize,
    },
    Select {
        select: Select,
        formula: Tape,
    },
}

impl Job {
    fn new(spec: &ReduceSpec) -> Result<Job, CompileError> {
        let unknown = |v: Var| CompileError::Unsupported {
            backend: "interpreter".into(),
            reason: format!("variable {} of the formula is not among the arguments", v.index),
        };
        let kept = spec.axis.kept();
        let argument =
            |v: Var| spec.vars.iter().position(|a| (a.index, a.category) == (v.index, v.category));
        let formula = || Tape::new(&spec.graph, spec.formula, kept, argument).map_err(unknown);
        let kind = match &spec.reduction.kind {
            Family::Select(select) => Kind::Select { select: *select, formula: formula()? },
            Family::Accumulate(a) => {
                let key = |p: &Pivot| formula().map(|f| (f, p.shown));
                let pivot = a.pivot.as_ref().map(key).transpose()?;
                let (addends, dim) = lift(spec, a, &argument).map_err(unknown)?;
                let finalise = finalise(a, dim).map_err(unknown)?;
                Kind::Accumulate { pivot, addends, finalise, dim }
            }
        };
        let size = match &kind {
            Kind::Accumulate { addends, finalise, .. } => addends.size().max(finalise.size()),
            Kind::Select { formula, .. } => formula.size(),
        };
        if size > MAX_COMPONENTS {
            return Err(CompileError::Limit {
                what: "the number of components of all nodes".into(),
                limit: MAX_COMPONENTS,
                got: size,
            });
        }
        Ok(Job {
            kind,
            axis: spec.axis,
            vars: spec.vars.clone(),
            compute: spec.dtype.compute(),
            options: spec.options,
            k: spec.winners(),
        })
    }

    /// Evaluates; `emit(output, entry)` is called for every entry of an output in row-major
    /// order.
    fn run<A: Arithmetic>(
        &self,
        a: &A,
        args: &CheckedArgs<'_>,
        input: Input<'_, A::V>,
        emit: &mut dyn FnMut(usize, Winner<A::V>),
    ) -> Result<(), RunError> {
        if args.rows() == 0 {
            // Nothing to write, for however many batch elements.
            return Ok(());
        }
        let parts = Parts::new(args, self.axis)?;
        for b in 0..args.batches() {
            let batch = args.batch_index(b);
            let matrix = |(k, var): (usize, &Var)| {
                let per_row = var.category != Category::Param;
                Ok(Matrix { dim: var.dim, data: input(k, &batch)?, per_row })
            };
            let inputs: Result<_, RunError> = self.vars.iter().enumerate().map(matrix).collect();
            let mut inputs: Vec<Matrix<A::V>> = inputs?;
            match &self.kind {
                Kind::Accumulate { pivot, addends, finalise, dim } => {
                    // The pivot of the row.
                    inputs.push(Matrix { dim: 1, data: vec![a.exact(0.0)], per_row: false });
                    let tapes = (pivot.as_ref(), addends, finalise, *dim);
                    self.accumulate(a, tapes, &mut inputs, &parts, emit)?;
                }
                Kind::Select { select, formula } => {
                    self.select(a, *select, formula, &inputs, &parts, emit)?;
                }
            }
        }
        Ok(())
    }

    fn accumulate<A: Arithmetic>(
        &self,
        a: &A,
        (pivot, addends, finalise, dim): (Option<&(Tape, bool)>, &Tape, &Tape, usize),
        inputs: &mut [Matrix<A::V>],
        parts: &Parts<'_>,
        emit: &mut dyn FnMut(usize, Winner<A::V>),
    ) -> Result<(), RunError> {
        let ReduceOptions { scheme, accumulate } = self.options;
        let sum = Sum::Rows { scheme, accumulate, pivot: pivot.is_some() };
        let limit = if self.compute == DType::F64 { f64::MAX } else { f64::from(f32::MAX) };
        let mut last = finalise.memory(a)?;
        let mut keys = match pivot {
            Some((tape, shown)) => Some((Walk::new(a, tape, self.axis)?, *shown)),
            None => None,
        };
        let mut terms = Walk::new(a, addends, self.axis)?;
        let place = inputs.len() - 1;
        let mut sums = memory::filled(dim, a.accumulator(sum), "sums")?;
        let mut state = [
            Matrix { dim, data: memory::filled(dim, a.exact(0.0), "sums")?, per_row: false },
            inputs[place].clone(),
        ];
        for row in 0..parts.rows {
            let columns = parts.of_row(row);
            if let Some((keys, shown)) = &mut keys {
                let mut top = a.exact(-limit);
                // The maximum passes over NaN, which then comes in through the addends.
                keys.pairs(a, inputs, row, columns, &mut |_, f| {
                    top = a.fold(FoldOp::Max, &[top, f[0]]);
                    Ok(())
                })?;
                top = a.fold(FoldOp::Min, &[top, a.exact(limit)]);
                // A result that does not show the pivot does not depend on its rounding either.
                inputs[place].data[0] =
                    if *shown { a.shown(top, self.compute) } else { a.exact(a.value(top)) };
            }
            sums.fill(a.accumulator(sum));
            terms.pairs(a, inputs, row, columns, &mut |_, t| {
                sums.iter_mut().zip(t).for_each(|(s, v)| a.add(s, *v));
                Ok(())
            })?;
            state[0].data.iter_mut().zip(&sums).for_each(|(t, s)| *t = a.total(s));
            state[1].data[0] = inputs[place].data[0];
            finalise.eval(a, Scope::Once, &mut last, &state, [0, 0]);
            for &value in finalise.root(&last) {
                emit(0, Winner { value, index: 0, alternatives: vec![] });
            }
        }
        Ok(())
    }

    fn select<A: Arithmetic>(
        &self,
        a: &A,
        select: Select,
        formula: &Tape,
        inputs: &[Matrix<A::V>],
        parts: &Parts<'_>,
        emit: &mut dyn FnMut(usize, Winner<A::V>),
    ) -> Result<(), RunError> {
        let mut walk = Walk::new(a, formula, self.axis)?;
        let dim = formula.root(&walk.memory).len();
        let same = formula.same_for_all_columns();
        let mut candidates: Vec<Vec<(A::V, i64)>> = memory::filled(dim, vec![], "candidates")?;
        for row in 0..parts.rows {
            candidates.iter_mut().for_each(Vec::clear);
            walk.pairs(a, inputs, row, parts.of_row(row), &mut |j, f| {
                for (list, v) in candidates.iter_mut().zip(f) {
                    memory::push(list, (*v, j as i64), "candidates")?;
                    if A::PRUNES && list.len() > 4 * self.k + 256 {
                        let best = a.select(select.order, self.k, list, same)?;
                        list.clear();
                        // Padding is no candidate.
                        let real = best.into_iter().filter(|w| w.index >= 0);
                        list.extend(real.map(|w| (w.value, w.index)));
                    }
                }
                Ok(())
            })?;
            let best: Vec<Vec<Winner<A::V>>> = candidates
                .iter()
                .map(|c| a.select(select.order, self.k, c, same))
                .collect::<Result<_, _>>()?;
            for rank in 0..self.k {
                for list in &best {
                    let w = &list[rank];
                    if select.value {
                        emit(0, w.clone());
                    }
                    if select.index {
                        emit(select.value as usize, w.clone());
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is done with the column and the values of a pair.
type EachPair<'f, V> = dyn FnMut(usize, &[V]) -> Result<(), OutOfMemory> + 'f;

/// The evaluation of one formula over the pairs of one batch element.
struct Walk<'t, A: Arithmetic> {
    tape: &'t Tape,
    axis: Axis,
    memory: Vec<A::V>,
    started: bool,
}

impl<'t, A: Arithmetic> Walk<'t, A> {
    fn new(a: &A, tape: &'t Tape, axis: Axis) -> Result<Self, OutOfMemory> {
        Ok(Walk { tape, axis, memory: tape.memory(a)?, started: false })
    }
    /// Calls `f(column, values)` for every reduced row that the kept row meets.
    fn pairs(
        &mut self,
        a: &A,
        inputs: &[Matrix<A::V>],
        row: usize,
        columns: &[[usize; 2]],
        f: &mut EachPair<'_, A::V>,
    ) -> Result<(), OutOfMemory> {
        let mut new_row = true;
        for column in columns.iter().flat_map(|[start, end]| *start..*end) {
            let at = if self.axis == Axis::J { [row, column] } else { [column, row] };
            let mut eval = |level| self.tape.eval(a, level, &mut self.memory, inputs, at);
            if !std::mem::replace(&mut self.started, true) {
                eval(Scope::Once);
            }
            if std::mem::take(&mut new_row) {
                eval(Scope::Row);
            }
            eval(Scope::Pair);
            f(column, self.tape.root(&self.memory))?;
        }
        Ok(())
    }
}

/// The ranges of reduced rows that each kept row meets.
struct Parts<'p> {
    rows: usize,
    all: [[usize; 2]; 1],
    /// With ranges, the block of each row, if it lies in one.
    blocks: Option<(&'p Pattern, Vec<Option<usize>>)>,
}

impl<'p> Parts<'p> {
    fn new(args: &CheckedArgs<'p>, axis: Axis) -> Result<Parts<'p>, OutOfMemory> {
        let (rows, all) = (args.rows(), [[0, args.columns()]]);
        let Some(ranges) = args.ranges() else { return Ok(Parts { rows, all, blocks: None }) };
        let pattern = ranges.pattern(axis)?;
        let mut of_row = memory::filled(rows, None, "the block of each row")?;
        for (k, [start, end]) in pattern.blocks.iter().enumerate() {
            of_row[*start..*end].fill(Some(k));
        }
        Ok(Parts { rows, all, blocks: Some((pattern, of_row)) })
    }
    fn of_row(&self, row: usize) -> &[[usize; 2]] {
        match &self.blocks {
            None => &self.all,
            Some((pattern, of_row)) => of_row[row].map_or(&[], |k| pattern.of_block(k)),
        }
    }
}

/// The addends of a reduction as one formula; the pivot is the input after the arguments.
fn lift(
    spec: &ReduceSpec,
    a: &Accumulate,
    argument: &dyn Fn(Var) -> Option<usize>,
) -> Result<(Tape, usize), Var> {
    let kept = spec.axis.kept();
    let b = Builder::default();
    let f = b.import(&spec.graph, spec.formula);
    let w = spec.weight.map(|w| b.import(&spec.graph, w));
    let m = b.fresh(1, kept);
    let pivot = match b.graph().node(m.id) {
        crate::graph::Node::Var(v) => *v,
        _ => unreachable!("a fresh variable"),
    };
    let addends = (a.lift)(f, w, a.pivot.is_some().then_some(m)).id;
    let graph = b.into_graph();
    let source = |v: Var| if v == pivot { Some(spec.vars.len()) } else { argument(v) };
    let dim = graph.dim(addends);
    Ok((Tape::new(&graph, addends, kept, source)?, dim))
}

/// The result from the sums (input 0) and the pivot (input 1).
fn finalise(a: &Accumulate, dim: usize) -> Result<Tape, Var> {
    let b = Builder::default();
    let sums = b.fresh(dim, Category::Param);
    let pivot = b.fresh(1, Category::Param);
    let result = (a.finalise)(sums, a.pivot.is_some().then_some(pivot)).id;
    let (first, second) = (sums.id, pivot.id);
    let graph = b.into_graph();
    let index = |id| match graph.node(id) {
        crate::graph::Node::Var(v) => v.index,
        _ => unreachable!("a fresh variable"),
    };
    let place = [index(first), index(second)];
    Tape::new(&graph, result, Category::I, |v| place.iter().position(|&p| p == v.index))
}

/// The value of one formula at one pair, in f64: `value_of` gives the components of a variable.
/// Index nodes are row 0.
///
/// ```
/// use keops_core::{interp::evaluate_at, parse::parse_formula};
/// let f = parse_formula("Exp(-SqDist(x, y)) * y", None, &["x = Vi(2)", "y = Vj(2)"])?;
/// let points = [vec![1.0, 0.0], vec![1.0, 2.0]];
/// let value = evaluate_at(&f.graph, f.root, |v| points[v.index as usize].clone());
/// let k = (-4.0_f64).exp();
/// assert_eq!(value, [k, 2.0 * k]);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub fn evaluate_at(graph: &Graph, root: NodeId, value_of: impl Fn(Var) -> Vec<f64>) -> Vec<f64> {
    let vars = graph.variables(&[root]);
    let inputs: Vec<Matrix<f64>> =
        vars.iter().map(|v| Matrix { dim: v.dim, data: value_of(*v), per_row: false }).collect();
    let source = |v: Var| vars.iter().position(|w| *w == v);
    let Ok(tape) = Tape::new(graph, root, Category::I, source) else {
        unreachable!("every variable of the formula is in the list of its variables")
    };
    // Formulas of one pair are small; a formula that fills the memory is the caller's.
    let mut memory = vec![0.0; tape.len()];
    for level in [Scope::Once, Scope::Row, Scope::Pair] {
        tape.eval(&Exact, level, &mut memory, &inputs, [0, 0]);
    }
    tape.root(&memory).to_vec()
}

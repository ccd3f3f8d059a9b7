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

pub use bounded::{Bounded, evaluate_with_bounds};
pub use dual::{HyperDual, evaluate_with_tangents};

use crate::data::{Buffer, DType, Element, batch_matrix};
use crate::error::{CompileError, RunError};
use crate::graph::{Builder, Category, FoldOp, Graph, NodeId, Var};
use crate::reduce::{Accumulate, Family, Pivot, Select};
use crate::spec::{Axis, Backend, CheckedArgs, Executable, ReduceOptions, ReduceSpec, Unavailable};
use crate::with_view;
use arithmetic::{Arithmetic, Exact, Single, Sum, Winner};
use ndarray::IxDyn;
use std::ops::Range;
use std::sync::Arc;
use tape::{Level, Matrix, Tape};

/// The precision in which the interpreter evaluates.
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
#[derive(Clone, Copy, Debug, Default)]
pub struct Interpreter {
    rounding: Rounding,
}

impl Interpreter {
    /// Evaluates in f64 and rounds the outputs.
    pub fn new() -> Self {
        Self::default()
    }
    /// Evaluates with the given rounding.
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
    with_view!(&args.args()[k], v => {
        let matrix = batch_matrix(v, batch, var.category != Category::Param);
        let mut data = vec![];
        let bytes = matrix.len().saturating_mul(size_of::<V>());
        let refused = |_| RunError::OutOfMemory { what: "a copy of an argument".into(), bytes };
        data.try_reserve_exact(matrix.len()).map_err(refused)?;
        data.extend(matrix.iter().map(|x| of(x.to_f64())));
        Ok(data)
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
        let parts = parts_of_rows(args, self.axis);
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
                    self.accumulate(a, tapes, &mut inputs, &parts, emit);
                }
                Kind::Select { select, formula } => {
                    self.select(a, *select, formula, &inputs, &parts, emit);
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
        parts: &[Vec<Range<usize>>],
        emit: &mut dyn FnMut(usize, Winner<A::V>),
    ) {
        let ReduceOptions { scheme, accumulate } = self.options;
        let sum = Sum::Rows { scheme, accumulate, pivot: pivot.is_some() };
        let limit = if self.compute == DType::F64 { f64::MAX } else { f64::from(f32::MAX) };
        let mut last = finalise.memory(a);
        let mut keys = pivot.map(|(tape, shown)| (Walk::new(a, tape, self.axis), *shown));
        let mut terms = Walk::new(a, addends, self.axis);
        let place = inputs.len() - 1;
        for (row, columns) in parts.iter().enumerate() {
            if let Some((keys, shown)) = &mut keys {
                let mut top = a.exact(-limit);
                // The maximum passes over NaN, which then comes in through the addends.
                keys.pairs(a, inputs, row, columns, &mut |_, f| {
                    top = a.fold(FoldOp::Max, &[top, f[0]]);
                });
                top = a.fold(FoldOp::Min, &[top, a.exact(limit)]);
                // A result that does not show the pivot does not depend on its rounding either.
                inputs[place].data[0] = if *shown { top } else { a.exact(a.value(top)) };
            }
            let mut sums = vec![a.accumulator(sum); dim];
            terms.pairs(a, inputs, row, columns, &mut |_, t| {
                sums.iter_mut().zip(t).for_each(|(s, v)| a.add(s, *v));
            });
            let data = sums.iter().map(|s| a.total(s)).collect();
            let state = [Matrix { dim, data, per_row: false }, inputs[place].clone()];
            finalise.eval(a, Level::Once, &mut last, &state, [0, 0]);
            for &value in finalise.root(&last) {
                emit(0, Winner { value, index: 0, alternatives: vec![] });
            }
        }
    }

    fn select<A: Arithmetic>(
        &self,
        a: &A,
        select: Select,
        formula: &Tape,
        inputs: &[Matrix<A::V>],
        parts: &[Vec<Range<usize>>],
        emit: &mut dyn FnMut(usize, Winner<A::V>),
    ) {
        let mut walk = Walk::new(a, formula, self.axis);
        let dim = formula.root(&walk.memory).len();
        let same = formula.same_for_all_columns();
        for (row, columns) in parts.iter().enumerate() {
            let mut candidates: Vec<Vec<(A::V, i64)>> = vec![vec![]; dim];
            walk.pairs(a, inputs, row, columns, &mut |j, f| {
                for (list, v) in candidates.iter_mut().zip(f) {
                    list.push((*v, j as i64));
                    if A::PRUNES && list.len() > 4 * self.k + 256 {
                        let best = a.select(select.order, self.k, list, same);
                        *list = best.into_iter().map(|w| (w.value, w.index)).collect();
                        // Padding is no candidate.
                        list.retain(|c| c.1 >= 0);
                    }
                }
            });
            let best: Vec<Vec<Winner<A::V>>> =
                candidates.iter().map(|c| a.select(select.order, self.k, c, same)).collect();
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
    }
}

/// The evaluation of one formula over the pairs of one batch element.
struct Walk<'t, A: Arithmetic> {
    tape: &'t Tape,
    axis: Axis,
    memory: Vec<A::V>,
    started: bool,
}

impl<'t, A: Arithmetic> Walk<'t, A> {
    fn new(a: &A, tape: &'t Tape, axis: Axis) -> Self {
        Walk { tape, axis, memory: tape.memory(a), started: false }
    }
    /// Calls `f(column, values)` for every reduced row that the kept row meets.
    fn pairs(
        &mut self,
        a: &A,
        inputs: &[Matrix<A::V>],
        row: usize,
        columns: &[Range<usize>],
        f: &mut dyn FnMut(usize, &[A::V]),
    ) {
        let mut new_row = true;
        for column in columns.iter().cloned().flatten() {
            let at = if self.axis == Axis::J { [row, column] } else { [column, row] };
            let mut eval = |level| self.tape.eval(a, level, &mut self.memory, inputs, at);
            if !std::mem::replace(&mut self.started, true) {
                eval(Level::Once);
            }
            if std::mem::take(&mut new_row) {
                eval(Level::Row);
            }
            eval(Level::Pair);
            f(column, self.tape.root(&self.memory));
        }
    }
}

/// The ranges of reduced rows that each kept row meets.
fn parts_of_rows(args: &CheckedArgs<'_>, axis: Axis) -> Vec<Vec<Range<usize>>> {
    let Some(ranges) = args.ranges() else {
        return vec![vec![0..args.columns()]; args.rows()];
    };
    let pattern = ranges.pattern(axis);
    let mut parts = vec![vec![]; args.rows()];
    for (k, block) in pattern.blocks.iter().enumerate() {
        for row in &mut parts[block[0]..block[1]] {
            *row = pattern.of_block(k).iter().map(|r| r[0]..r[1]).collect();
        }
    }
    parts
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
pub fn evaluate_at(graph: &Graph, root: NodeId, value_of: impl Fn(Var) -> Vec<f64>) -> Vec<f64> {
    let vars = graph.variables(&[root]);
    let inputs: Vec<Matrix<f64>> =
        vars.iter().map(|v| Matrix { dim: v.dim, data: value_of(*v), per_row: false }).collect();
    let source = |v: Var| vars.iter().position(|w| *w == v);
    let Ok(tape) = Tape::new(graph, root, Category::I, source) else {
        unreachable!("every variable of the formula is in the list of its variables")
    };
    let mut memory = tape.memory(&Exact);
    for level in [Level::Once, Level::Row, Level::Pair] {
        tape.eval(&Exact, level, &mut memory, &inputs, [0, 0]);
    }
    tape.root(&memory).to_vec()
}

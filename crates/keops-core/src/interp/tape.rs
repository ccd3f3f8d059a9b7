//! A formula graph laid out for evaluation: nodes in topological order with places in one memory,
//! grouped by what they depend on.

use super::arithmetic::{Arithmetic, Sum};
use crate::error::OutOfMemory;
use crate::graph::{Category, Dependence, FoldOp, Graph, Node, NodeId, Var, for_each_arg};
use crate::memory;
use crate::ops::OpDef;
use std::collections::HashMap;
use std::ops::Range;

/// Where the values of a variable come from: row-major rows of `dim` numbers.
#[derive(Clone, Debug)]
pub struct Matrix<V> {
    /// Components per row.
    pub dim: usize,
    /// Rows.
    pub data: Vec<V>,
    /// Is there a row for each index, or one for all?
    pub per_row: bool,
}

#[derive(Debug)]
enum Code {
    Input { source: usize, category: Category },
    Const(f64),
    Index(Category),
    Iota,
    Map(&'static OpDef),
    Contract(Einsum),
    Pick { start: usize, step: usize },
    Put { start: usize, step: usize },
    Concat,
    Fold(FoldOp),
    Gather,
}

#[derive(Debug)]
struct Step {
    code: Code,
    args: Vec<Range<usize>>,
    out: Range<usize>,
}

/// A contraction with strides worked out.
#[derive(Debug)]
struct Einsum {
    kept: Vec<Axis>,
    summed: Vec<Axis>,
    /// Operands with a summed label, whose products are added up.
    inside: Vec<usize>,
    /// The others, whose product multiplies the sum.
    outside: Vec<usize>,
}

/// One label: its extent, its stride in the result and in every operand.
#[derive(Debug)]
struct Axis {
    extent: usize,
    out: usize,
    operands: Vec<usize>,
}

/// See the module.
#[derive(Debug)]
pub struct Tape {
    steps: Vec<Step>,
    /// Ends in `steps` of what depends on nothing, on the kept index, and on the rest.
    levels: [usize; 3],
    root: Range<usize>,
    size: usize,
}

/// What has to be evaluated anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Constants and parameters.
    Once,
    /// What depends on the kept row only.
    Row,
    /// The rest.
    Pair,
}

impl Tape {
    /// Lays out `root`; `source` numbers the matrices of variables, `None` if one is unknown
    /// (it is returned as the error).
    pub fn new(
        graph: &Graph,
        root: NodeId,
        kept: Category,
        source: impl Fn(Var) -> Option<usize>,
    ) -> Result<Tape, Var> {
        let level = |id: NodeId| {
            let d = graph.dependence(id);
            if d == Dependence::NONE { 0 } else { 2 - d.within(kept.dependence()) as usize }
        };
        let mut order = graph.live(&[root]);
        // Stable: arguments depend on no more than their users.
        order.sort_by_key(|&id| level(id));
        let mut place: HashMap<NodeId, Range<usize>> = HashMap::new();
        let mut tape = Tape { steps: vec![], levels: [0; 3], root: 0..0, size: 0 };
        for id in order {
            let node = graph.node(id);
            let mut args = vec![];
            for_each_arg(node, |a| args.push(place[&a].clone()));
            let code = match node {
                Node::Var(v) => Code::Input { source: source(*v).ok_or(*v)?, category: v.category },
                Node::Const(bits) => Code::Const(f64::from_bits(*bits)),
                Node::Index(c) => Code::Index(*c),
                Node::Iota(_) => Code::Iota,
                Node::Map { op, .. } => Code::Map(op),
                Node::Contract { extents, operands, out } => {
                    let axes: Vec<&[u8]> = operands.iter().map(|o| &o.axes[..]).collect();
                    Code::Contract(Einsum::new(extents, &axes, out))
                }
                Node::Pick { start, step, .. } => Code::Pick { start: *start, step: *step },
                Node::Put { start, step, .. } => Code::Put { start: *start, step: *step },
                Node::Concat(_) => Code::Concat,
                Node::Fold { op, .. } => Code::Fold(*op),
                Node::Gather { .. } => Code::Gather,
            };
            let out = tape.size..tape.size + graph.dim(id);
            tape.size = out.end;
            place.insert(id, out.clone());
            tape.steps.push(Step { code, args, out });
            for end in &mut tape.levels[level(id)..] {
                *end = tape.steps.len();
            }
        }
        tape.root = place[&root].clone();
        Ok(tape)
    }
    /// Numbers in that memory.
    pub fn size(&self) -> usize {
        self.size
    }
    /// Memory for evaluation.
    pub fn memory<A: Arithmetic>(&self, a: &A) -> Result<Vec<A::V>, OutOfMemory> {
        memory::filled(self.size, a.exact(0.0), "the values of a formula")
    }
    /// Number of values.
    pub fn len(&self) -> usize {
        self.size
    }
    /// Does the root depend on the kept row at most?
    pub fn same_for_all_columns(&self) -> bool {
        self.levels[Scope::Pair as usize] == self.levels[Scope::Row as usize]
    }
    /// The root after evaluation.
    pub fn root<'m, V>(&self, memory: &'m [V]) -> &'m [V] {
        &memory[self.root.clone()]
    }
    /// Evaluates one level at the pair `(i, j)`; the levels before it are in `memory`.
    pub fn eval<A: Arithmetic>(
        &self,
        a: &A,
        level: Scope,
        memory: &mut [A::V],
        inputs: &[Matrix<A::V>],
        [i, j]: [usize; 2],
    ) {
        let start = if level == Scope::Once { 0 } else { self.levels[level as usize - 1] };
        let row = |c: Category| if c == Category::I { i } else { j };
        let mut x = Vec::with_capacity(3);
        for step in &self.steps[start..self.levels[level as usize]] {
            // Arguments lie before the result.
            let (before, rest) = memory.split_at_mut(step.out.start);
            let out = &mut rest[..step.out.len()];
            let arg = |k: usize| &before[step.args[k].clone()];
            match &step.code {
                Code::Input { source, category } => {
                    let m = &inputs[*source];
                    let r = if m.per_row { row(*category) } else { 0 };
                    out.copy_from_slice(&m.data[r * m.dim..(r + 1) * m.dim]);
                }
                Code::Const(v) => out[0] = a.constant(*v),
                Code::Index(c) => out[0] = a.exact(row(*c) as f64),
                Code::Iota => {
                    for (k, o) in out.iter_mut().enumerate() {
                        *o = a.exact(k as f64);
                    }
                }
                Code::Map(op) => {
                    for (k, o) in out.iter_mut().enumerate() {
                        x.clear();
                        // An operand of dimension 1 broadcasts.
                        x.extend(
                            (0..step.args.len())
                                .map(|q| arg(q)[if step.args[q].len() == 1 { 0 } else { k }]),
                        );
                        *o = a.map(op, &x);
                    }
                }
                Code::Contract(e) => {
                    let operands: Vec<&[A::V]> = (0..step.args.len()).map(arg).collect();
                    e.eval(a, &operands, out);
                }
                Code::Pick { start, step } => {
                    for (k, o) in out.iter_mut().enumerate() {
                        *o = arg(0)[start + k * step];
                    }
                }
                Code::Put { start, step } => {
                    out.fill(a.exact(0.0));
                    for (k, v) in arg(0).iter().enumerate() {
                        out[start + k * step] = *v;
                    }
                }
                Code::Concat => {
                    let parts = (0..step.args.len()).flat_map(arg);
                    out.iter_mut().zip(parts).for_each(|(o, v)| *o = *v);
                }
                Code::Fold(op) => out[0] = a.fold(*op, arg(0)),
                Code::Gather => {
                    out.iter_mut().zip(arg(1)).for_each(|(o, k)| *o = a.gather(arg(0), *k));
                }
            }
        }
    }
}

impl Einsum {
    fn new(extents: &[usize], operands: &[&[u8]], out: &[u8]) -> Einsum {
        // Stride of a label: the product of the extents after each place where it occurs.
        let stride = |axes: &[u8], label: usize| -> usize {
            let mut stride = 1;
            let mut total = 0;
            for &l in axes.iter().rev() {
                if l as usize == label {
                    total += stride;
                }
                stride *= extents[l as usize];
            }
            total
        };
        let axis = |l: usize| Axis {
            extent: extents[l],
            out: stride(out, l),
            operands: operands.iter().map(|o| stride(o, l)).collect(),
        };
        let (kept, summed): (Vec<usize>, Vec<usize>) =
            (0..extents.len()).partition(|&l| out.contains(&(l as u8)));
        let (inside, outside) = (0..operands.len())
            .partition(|&q| operands[q].iter().any(|l| summed.contains(&(*l as usize))));
        Einsum {
            kept: kept.into_iter().map(axis).collect(),
            summed: summed.into_iter().map(axis).collect(),
            inside,
            outside,
        }
    }
    fn eval<A: Arithmetic>(&self, a: &A, operands: &[&[A::V]], out: &mut [A::V]) {
        out.fill(a.exact(0.0));
        for_each_index(&self.kept, &mut |outer| {
            let at = |axes: &[Axis], index: &[usize], q: usize| -> usize {
                axes.iter().zip(index).map(|(x, k)| k * x.operands[q]).sum()
            };
            let mut acc = a.accumulator(Sum::Components);
            for_each_index(&self.summed, &mut |inner| {
                let value =
                    |&q: &usize| operands[q][at(&self.kept, outer, q) + at(&self.summed, inner, q)];
                let term = self.inside.iter().map(value).reduce(|p, v| a.multiply(p, v));
                a.add(&mut acc, term.unwrap_or_else(|| a.exact(1.0)));
            });
            let factor = |&q: &usize| operands[q][at(&self.kept, outer, q)];
            let factor = self.outside.iter().map(factor).reduce(|p, v| a.multiply(p, v));
            let place: usize = self.kept.iter().zip(outer).map(|(x, k)| k * x.out).sum();
            out[place] = match factor {
                Some(f) if self.summed.is_empty() => f,
                Some(f) => a.multiply(a.total(&acc), f),
                None => a.total(&acc),
            };
        });
    }
}

/// Counts through all indices, the last label fastest.
fn for_each_index(axes: &[Axis], f: &mut dyn FnMut(&[usize])) {
    let mut index = vec![0; axes.len()];
    if axes.iter().any(|x| x.extent == 0) {
        return;
    }
    loop {
        f(&index);
        let mut k = axes.len();
        loop {
            if k == 0 {
                return;
            }
            k -= 1;
            index[k] += 1;
            if index[k] < axes[k].extent {
                break;
            }
            index[k] = 0;
        }
    }
}

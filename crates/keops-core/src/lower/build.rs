//! From graph nodes to scalar values.

use super::derived::{Action, Derived};
use super::gather::decisive;
use super::schedule::schedule;
use super::ssa::{Arena, Def, Division, FoldKind};
use super::{LowerOptions, MAX_VALUES, Section};
use crate::error::CompileError;
use crate::graph::{Category, Dependence, FoldOp, Graph, Node, NodeId, Operand};
use crate::ops::{self, Code, OpDef};
use crate::prim::{Args, Prim};
use crate::program::{Affine, Loop, Op, Source, Space, Stream};
use crate::spec::{Accumulation, BLOCK, ReduceSpec};
use crate::vecmath::{Precision, PrimBuilder, Val};
use hashbrown::{HashMap, HashSet};

/// Inlining of vector expressions stops at this depth; the vector is then stored.
const MAX_INLINE_DEPTH: usize = 48;

/// A part of a sum over labels: loops over some, all values of the others.
#[derive(Clone)]
struct Summand {
    loops: Vec<Loop>,
    case: Vec<Option<Affine>>,
    /// Labels that take values one by one, and from where to where.
    unrolled: Vec<(usize, [usize; 2])>,
}

impl Summand {
    fn terms(&self) -> usize {
        self.unrolled.iter().fold(1, |n, (_, [start, end])| n.saturating_mul(end - start))
    }
    /// Gives labels the values of this term; the last ones change fastest.
    fn choose(&mut self, mut term: usize) {
        for &(l, [start, end]) in self.unrolled.iter().rev() {
            self.case[l] = Some(Affine::constant((start + term % (end - start)) as i64));
            term /= end - start;
        }
    }
}

/// Components that need others are computed inside each other up to this depth; beyond it, what is
/// needed is computed first, from a list ([`Lowerer::settle`]). A formula nests deeper than any stack.
const MAX_NESTED: usize = 4;

/// Why a component was not computed.
pub enum Stop {
    Failed(CompileError),
    /// This one has to be there first.
    Deep(NodeId, Affine),
}
impl From<CompileError> for Stop {
    fn from(e: CompileError) -> Stop {
        Stop::Failed(e)
    }
}

pub struct Lowerer<'a> {
    pub graph: &'a Graph,
    pub arena: Arena,
    pub options: LowerOptions,
    /// How components are summed: as rows are.
    scheme: Accumulation,
    pub(super) kept: Dependence,
    pub(super) derived: Derived,
    /// Nodes whose value is given.
    pub fixed: HashMap<NodeId, Val>,
    /// Components of small nodes, in the current stream.
    pub small: HashMap<NodeId, Vec<Val>>,
    memo: HashMap<(NodeId, Affine), Val>,
    /// Large nodes that were stored, by space and first element.
    pub stored: HashMap<NodeId, (Space, i64)>,
    /// Dependence of the nodes of the current stream: what is loaded as the pair's key depends on
    /// both indices, whatever it is made of.
    classes: HashMap<NodeId, Dependence>,
    /// Large nodes that have to be stored.
    store_wanted: HashMap<NodeId, bool>,
    /// The stream being built.
    pub(super) section: Section,
    pub(super) actions: Vec<Action>,
    pub(super) buffer: usize,
    /// See [`decisive`].
    decisive: Vec<bool>,
    /// Components that are being computed, one for the other.
    nested: usize,
    /// May exponentials whose argument carries rounding errors be the cheap ones?
    pub(super) cheap_exp: bool,
    /// Factors of emitted values that no column changes, by component: the results are
    /// multiplied by them, instead of every pair.
    pub factors: Vec<(Affine, Vec<Val>)>,
    /// 1, or NaN where a factor that was merged has lost its value: the results are multiplied by
    /// them, so that the target sees it.
    pub(super) guards: Vec<Val>,
    /// Are such factors taken out?
    pub factoring: bool,
    /// Was there one?
    pub factored: bool,
}

impl<'a> Lowerer<'a> {
    pub fn new(
        graph: &'a Graph,
        spec: &ReduceSpec,
        precision: Precision,
        options: LowerOptions,
        state: &[(NodeId, Space, i64)],
    ) -> Result<Self, CompileError> {
        let (kept, reduced) = (spec.axis.kept().dependence(), spec.axis.reduced().dependence());
        let mut arena = Arena::new(precision, kept, reduced);
        arena.scaling = options.scaling;
        let mut l = Lowerer {
            graph,
            arena,
            options,
            // (The target computes in f64 where that is to be had.)
            scheme: match spec.accumulation() {
                Accumulation::Wide | Accumulation::Half => Accumulation::Block,
                scheme => scheme,
            },
            kept,
            derived: Derived::new(graph, spec),
            fixed: HashMap::new(),
            small: HashMap::new(),
            memo: HashMap::new(),
            stored: HashMap::new(),
            classes: HashMap::new(),
            store_wanted: HashMap::new(),
            section: Section::Key,
            actions: vec![],
            buffer: 0,
            decisive: decisive(graph),
            nested: 0,
            cheap_exp: false,
            factors: vec![],
            guards: vec![],
            factoring: false,
            factored: false,
        };
        // Addresses of arguments.
        for (category, space) in [
            (Category::Param, Space::Param),
            (spec.axis.kept(), Space::Kept),
            (spec.axis.reduced(), Space::Reduced),
        ] {
            for piece in l.derived.arguments(category.dependence()) {
                let id = match piece.source {
                    Source::Argument(k) => {
                        let var = spec.vars[k];
                        (0..graph.len() as u32)
                            .map(NodeId)
                            .find(|&n| *graph.node(n) == Node::Var(var))
                    }
                    Source::RowNumber => (0..graph.len() as u32)
                        .map(NodeId)
                        .find(|&n| *graph.node(n) == Node::Index(category)),
                };
                if let Some(id) = id {
                    l.stored.insert(id, (space, piece.offset as i64));
                }
            }
        }
        for &(id, space, at) in state {
            l.stored.insert(id, (space, at));
        }
        Ok(l)
    }
    /// From now on the formula of the pair's key is loaded, not computed (or computed again).
    pub fn key_is(&mut self, key: Option<NodeId>) {
        self.fixed.clear();
        if let Some(k) = key {
            let v = self.arena.load(Space::Key, Affine::constant(0));
            self.fixed.insert(k, v);
        }
    }
    /// Lowers a formula as the root of a stream.
    pub fn root(&mut self, root: NodeId, section: Section) -> Result<Stream, CompileError> {
        self.cheap_exp = section == Section::Add;
        self.begin(root, section)?;
        let space = match section {
            Section::Row(space) => Some(space),
            _ => None,
        };
        self.emit(root, 0, space)?;
        self.finish(section)
    }
    pub(super) fn finish(&mut self, section: Section) -> Result<Stream, CompileError> {
        let mut actions = std::mem::take(&mut self.actions);
        if self.factoring && section == Section::Add {
            self.take_factors(&mut actions);
        }
        let hoist = match section {
            Section::Key | Section::Add => Some(Dependence::IJ),
            Section::Derived(class) => Some(class),
            Section::Row(_) => None,
        };
        let mut s = schedule(&mut self.arena, &mut self.derived, &actions, hoist);
        s.buffer = self.buffer;
        Ok(s)
    }
    /// Streams of the row sections and of the parameters, from what the others left to them.
    pub fn derived_sections(&mut self) -> Result<(Stream, Stream, Stream), CompileError> {
        let (kept, reduced) = (self.kept, self.arena.classes[1]);
        let per_kept = self.derived_section(kept)?;
        let per_reduced = self.derived_section(reduced)?;
        let once = self.derived_section(Dependence::NONE)?;
        Ok((per_kept, per_reduced, once))
    }
    fn derived_section(&mut self, class: Dependence) -> Result<Stream, CompileError> {
        self.actions = self.derived.take(class);
        self.buffer = 0;
        self.finish(Section::Derived(class))
    }
    /// Prepares a stream: decides what is stored, computes the components of small nodes.
    fn begin(&mut self, root: NodeId, section: Section) -> Result<(), CompileError> {
        self.section = section;
        self.buffer = 0;
        self.small.clear();
        self.memo.clear();
        self.stored.retain(|_, p| p.0 != Space::Buffer);
        self.store_wanted.clear();
        let hoists = !matches!(section, Section::Row(_));
        let nodes = self.live(root);
        self.classes.clear();
        for &id in &nodes {
            let mut class = self.graph.dependence(id);
            if self.fixed.contains_key(&id) {
                class = Dependence::IJ;
            } else if !self.given(id) {
                crate::graph::for_each_arg(self.graph.node(id), |a| {
                    class = class.union(self.class(a));
                });
            }
            self.classes.insert(id, class);
        }
        let mut used_higher = vec![false; root.0 as usize + 1];
        used_higher[root.0 as usize] = true;
        for &u in &nodes {
            crate::graph::for_each_arg(self.graph.node(u), |a| {
                used_higher[a.0 as usize] |= self.class(u) != self.class(a);
            });
        }
        let table = |&id: &NodeId| match self.graph.node(id) {
            Node::Gather { table, .. } => Some(*table),
            _ => None,
        };
        let tables: HashSet<NodeId> = nodes.iter().filter_map(table).collect();
        let mut depth: HashMap<NodeId, usize> = HashMap::new();
        for &id in &nodes {
            let node = self.graph.node(id);
            if self.graph.dim(id) < self.options.roll || self.given(id) {
                continue;
            }
            let mut d = 0;
            crate::graph::for_each_arg(node, |a| {
                d = d.max(depth.get(&a).copied().unwrap_or(0) + 1)
            });
            let trivial = match node {
                Node::Var(_)
                | Node::Const(_)
                | Node::Index(_)
                | Node::Iota(_)
                | Node::Pick { .. } => true,
                // A broadcast or an outer product is recomputed where it is used.
                Node::Contract { extents, out, operands } => {
                    out.len() == extents.len() && operands.len() == 1
                }
                _ => false,
            };
            let sums =
                matches!(node, Node::Contract { extents, out, .. } if out.len() < extents.len());
            let pieces = id != root && matches!(node, Node::Concat(_) | Node::Put { .. });
            let class = self.class(id);
            let higher = used_higher[id.0 as usize];
            let hoisted = hoists && class != Dependence::IJ && !trivial && higher;
            // Tables are looked up in memory; entries of tables of entries would be loops in loops.
            let table = tables.contains(&id)
                && (class == Dependence::NONE || matches!(node, Node::Gather { .. }));
            let want = sums || pieces || hoisted || table || d > MAX_INLINE_DEPTH;
            self.store_wanted.insert(id, want);
            depth.insert(id, if want { 0 } else { d });
        }
        for id in nodes {
            if self.graph.dim(id) >= self.options.roll || self.given(id) {
                continue;
            }
            let c = self.settle(|l| l.components(id))?;
            self.small.insert(id, c);
        }
        Ok(())
    }
    /// Computes what needs components: those that nest too deep first.
    fn settle<T>(&mut self, f: impl Fn(&mut Self) -> Result<T, Stop>) -> Result<T, CompileError> {
        let mut waiting: Vec<(NodeId, Affine)> = vec![];
        loop {
            self.nested = 0;
            let stop = match waiting.last().cloned() {
                None => match f(self) {
                    Ok(v) => return Ok(v),
                    Err(stop) => stop,
                },
                Some((id, idx)) => match self.component(id, &idx) {
                    Ok(_) => {
                        waiting.pop();
                        continue;
                    }
                    Err(stop) => stop,
                },
            };
            match stop {
                Stop::Deep(id, idx) => waiting.push((id, idx)),
                Stop::Failed(e) => return Err(e),
            }
        }
    }
    pub fn class(&self, id: NodeId) -> Dependence {
        self.classes.get(&id).copied().unwrap_or(self.graph.dependence(id))
    }
    /// Is the value of a node loaded?
    fn given(&self, id: NodeId) -> bool {
        self.fixed.contains_key(&id) || self.stored.contains_key(&id)
    }
    /// Nodes that have to be computed for `root`, in order.
    fn live(&self, root: NodeId) -> Vec<NodeId> {
        let mut mark = vec![false; root.0 as usize + 1];
        mark[root.0 as usize] = true;
        for k in (0..mark.len()).rev() {
            if mark[k] && !self.given(NodeId(k as u32)) {
                crate::graph::for_each_arg(self.graph.node(NodeId(k as u32)), |a| {
                    mark[a.0 as usize] = true;
                });
            }
        }
        (0..mark.len()).filter(|&k| mark[k]).map(|k| NodeId(k as u32)).collect()
    }

    /// Emits (or stores to `space`) a root vector from component `base` on.
    fn emit(&mut self, id: NodeId, base: i64, space: Option<Space>) -> Result<(), CompileError> {
        let mut rest = vec![(id, base)];
        while let Some((id, base)) = rest.pop() {
            let dim = self.graph.dim(id);
            if dim >= self.options.roll && !self.given(id) {
                match self.graph.node(id) {
                    Node::Concat(parts) => {
                        let (first, mut end) = (rest.len(), base);
                        for &p in parts {
                            rest.push((p, end));
                            end += self.graph.dim(p) as i64;
                        }
                        rest[first..].reverse();
                        continue;
                    }
                    // What is added up starts from zero.
                    &Node::Put { x, start, step, .. } if self.section == Section::Add => {
                        for idx in self.positions(&self.shape(x), self.graph.dim(x)) {
                            let value = self.settle(|l| l.component(x, &idx))?;
                            let at = idx.scaled(step as i64, base + start as i64);
                            self.put(space, at, value);
                        }
                        continue;
                    }
                    _ => {}
                }
            }
            for idx in self.positions(&self.shape(id), dim) {
                let value = self.settle(|l| l.component(id, &idx))?;
                self.put(space, idx.scaled(1, base), value);
            }
        }
        Ok(())
    }
    fn put(&mut self, space: Option<Space>, at: Affine, value: Val) {
        self.actions.push(Action { space, at, value });
    }
    /// Components that an affine index runs over.
    pub(super) fn positions_of(&self, at: &Affine) -> usize {
        at.terms.iter().map(|t| self.arena.extents[t.0.0 as usize]).product()
    }
    /// Flat indices that together run over a vector of this shape: loops over long axes, constants
    /// over short ones.
    pub(super) fn positions(&mut self, shape: &[usize], dim: usize) -> Vec<Affine> {
        let mut all = vec![Affine::constant(0)];
        if dim == 0 {
            return vec![];
        }
        let mut stride = dim as i64;
        for (k, &e) in shape.iter().enumerate() {
            stride /= e as i64;
            if e >= self.options.roll {
                let l = self.arena.loop_of(e, k);
                let c = Affine::counter(l).scaled(stride, 0);
                all = all.iter().map(|a| a.plus(&c)).collect();
            } else {
                all = all
                    .iter()
                    .flat_map(|a| (0..e as i64).map(move |v| a.plus(&Affine::constant(v * stride))))
                    .collect();
            }
        }
        all
    }
    /// The natural axes of a vector.
    fn shape(&self, mut id: NodeId) -> Vec<usize> {
        let dim = self.graph.dim(id);
        if dim < self.options.roll {
            return vec![dim];
        }
        for _ in 0..MAX_INLINE_DEPTH {
            if self.given(id) {
                break;
            }
            match self.graph.node(id) {
                Node::Contract { extents, out, .. } => {
                    return out.iter().map(|&l| extents[l as usize]).collect();
                }
                Node::Map { args, .. } => {
                    let Some(&a) = args.iter().find(|&&a| self.graph.dim(a) == dim) else { break };
                    id = a;
                }
                _ => break,
            }
        }
        vec![dim]
    }
    /// Stores all components of a node where they can be loaded from.
    pub fn store(&mut self, id: NodeId) -> Result<(), Stop> {
        // All values first: one of them may have to wait for others.
        let mut values: Vec<(Affine, Val)> = vec![];
        match self.graph.node(id) {
            Node::Concat(parts) => {
                let mut start = 0;
                for &p in parts {
                    for idx in self.positions(&self.shape(p), self.graph.dim(p)) {
                        let v = self.component(p, &idx)?;
                        values.push((idx.scaled(1, start), v));
                    }
                    start += self.graph.dim(p) as i64;
                }
            }
            &Node::Put { x, start, step, dim } => {
                let zero = self.arena.real(0.0);
                values.extend(self.positions(&[dim], dim).into_iter().map(|idx| (idx, zero)));
                for idx in self.positions(&self.shape(x), self.graph.dim(x)) {
                    let v = self.component(x, &idx)?;
                    values.push((idx.scaled(step as i64, start as i64), v));
                }
            }
            _ => {
                for idx in self.positions(&self.shape(id), self.graph.dim(id)) {
                    let v = match self.small.get(&id) {
                        Some(c) => c[idx.offset as usize],
                        None => self.inline(id, &idx)?,
                    };
                    values.push((idx, v));
                }
            }
        }
        // (What was needed may have stored it.)
        if self.stored.contains_key(&id) {
            return Ok(());
        }
        let (dim, class) = (self.graph.dim(id), self.class(id));
        let derive = class != Dependence::IJ && !matches!(self.section, Section::Row(_));
        let (space, base) = if derive {
            self.derived.reserve(class, dim)
        } else {
            self.buffer += dim;
            (Space::Buffer, (self.buffer - dim) as i64)
        };
        for (at, value) in values {
            let action = Action { space: Some(space), at: at.scaled(1, base), value };
            if derive { self.derived.push(class, action) } else { self.actions.push(action) }
        }
        self.stored.insert(id, (space, base));
        Ok(())
    }
    /// Component `idx` of a node.
    pub fn component(&mut self, id: NodeId, idx: &Affine) -> Result<Val, Stop> {
        if let Some(&v) = self.fixed.get(&id) {
            return Ok(v);
        }
        if let (Some(c), []) = (self.small.get(&id), &idx.terms[..]) {
            return Ok(c[idx.offset as usize]);
        }
        if let Some(&(space, base)) = self.stored.get(&id) {
            return Ok(self.arena.load(space, idx.scaled(1, base)));
        }
        if let Some(&v) = self.memo.get(&(id, idx.clone())) {
            return Ok(v);
        }
        if self.nested == MAX_NESTED {
            return Err(Stop::Deep(id, idx.clone()));
        }
        let got = self.arena.values.len();
        if got > MAX_VALUES {
            let what = "the number of scalar operations of the formula".into();
            return Err(CompileError::Limit { what, limit: MAX_VALUES, got }.into());
        }
        self.nested += 1;
        // (A short vector under a loop counter is stored too.)
        let short = self.graph.dim(id) < self.options.roll;
        let v = if short || self.store_wanted.get(&id) == Some(&true) {
            self.through_memory(id, idx)?
        } else {
            let v = self.inline(id, idx)?;
            self.memo.insert((id, idx.clone()), v);
            v
        };
        self.nested -= 1;
        Ok(v)
    }
    /// Component of a large node, computed in place.
    fn inline(&mut self, id: NodeId, idx: &Affine) -> Result<Val, Stop> {
        match self.graph.node(id).clone() {
            Node::Iota(_) => Ok(if idx.terms.is_empty() {
                self.arena.real(idx.offset as f64)
            } else {
                let c = self.arena.define(Def::Op(Op::Counter(idx.clone()), Args::default()));
                self.arena.prim(Prim::FromInt, &[c])
            }),
            Node::Map { op, args } => {
                let zero = Affine::constant(0);
                let mut v = Vec::with_capacity(args.len());
                for a in args {
                    let at = if self.graph.dim(a) == 1 { &zero } else { idx };
                    v.push(self.component(a, at)?);
                }
                let division = match self.decisive[id.0 as usize] {
                    true => Division::Exact,
                    false => Division::MayMultiply,
                };
                Ok(self.apply(op, &v, division))
            }
            Node::Contract { extents, operands, out } => {
                let shape: Vec<usize> = out.iter().map(|&l| extents[l as usize]).collect();
                let Some(parts) = self.decompose(idx, &shape) else {
                    return self.through_memory(id, idx);
                };
                let mut labels = vec![None; extents.len()];
                for (l, p) in out.iter().zip(parts) {
                    labels[*l as usize] = Some(p);
                }
                self.contract(&extents, &operands, labels)
            }
            Node::Pick { x, start, step, .. } => {
                self.component(x, &idx.scaled(step as i64, start as i64))
            }
            Node::Gather { table, index } => {
                let at = if self.graph.dim(index) == 1 { Affine::constant(0) } else { idx.clone() };
                let k = self.component(index, &at)?;
                self.gather(table, k)
            }
            Node::Concat(_) | Node::Put { .. } => self.through_memory(id, idx),
            Node::Var(_) | Node::Const(_) | Node::Index(_) | Node::Fold { .. } => {
                unreachable!("scalars and arguments are not inlined")
            }
        }
    }
    fn through_memory(&mut self, id: NodeId, idx: &Affine) -> Result<Val, Stop> {
        if !self.stored.contains_key(&id) {
            self.store(id)?;
        }
        let (space, base) = self.stored[&id];
        Ok(self.arena.load(space, idx.scaled(1, base)))
    }
    /// Splits a flat index into indices of the axes of `shape`, where that is affine.
    fn decompose(&self, idx: &Affine, shape: &[usize]) -> Option<Vec<Affine>> {
        let mut parts = vec![Affine::constant(0); shape.len()];
        let mut strides = vec![1i64; shape.len()];
        for k in (0..shape.len().saturating_sub(1)).rev() {
            strides[k] = strides[k + 1] * shape[k + 1] as i64;
        }
        let mut left = idx.offset;
        for k in 0..shape.len() {
            parts[k].offset = left / strides[k];
            left %= strides[k];
        }
        for &(l, c) in &idx.terms {
            let k = strides.iter().position(|&s| c >= s && c % s == 0)?;
            parts[k] = parts[k].plus(&Affine::counter(l).scaled(c / strides[k], 0));
        }
        let top = |p: &Affine| -> i64 {
            p.terms
                .iter()
                .map(|&(l, c)| c * (self.arena.extents[l.0 as usize] as i64 - 1))
                .sum::<i64>()
                + p.offset
        };
        parts.iter().zip(shape).all(|(p, &e)| top(p) < e as i64).then_some(parts)
    }
    /// All components of a small node.
    fn components(&mut self, id: NodeId) -> Result<Vec<Val>, Stop> {
        let dim = self.graph.dim(id);
        let at = |k: usize| Affine::constant(k as i64);
        let mut out = Vec::with_capacity(dim);
        match self.graph.node(id).clone() {
            Node::Const(bits) => out.push(self.arena.real(f64::from_bits(bits))),
            Node::Iota(_) => {
                for k in 0..dim {
                    out.push(self.arena.real(k as f64));
                }
            }
            Node::Fold { op, x } => out.push(self.fold(op, x)?),
            Node::Concat(parts) => {
                for p in parts {
                    for k in 0..self.graph.dim(p) {
                        out.push(self.component(p, &at(k))?);
                    }
                }
            }
            Node::Put { x, start, step, .. } => {
                let zero = self.arena.real(0.0);
                out = vec![zero; dim];
                for k in 0..self.graph.dim(x) {
                    out[start + k * step] = self.component(x, &at(k))?;
                }
            }
            Node::Gather { table, index } => {
                for k in 0..dim {
                    let i = self.component(index, &at(k))?;
                    out.push(self.gather(table, i)?);
                }
            }
            _ => {
                for k in 0..dim {
                    out.push(self.inline(id, &at(k))?);
                }
            }
        }
        Ok(out)
    }
    fn apply(&mut self, op: &'static OpDef, args: &[Val], division: Division) -> Val {
        match op.code {
            Code::Prim(Prim::Div) => self.arena.quotient(args[0], args[1], division),
            Code::Prim(p) => self.arena.arith(p, args),
            Code::Expand(_) if !self.options.expand => {
                self.arena.define(Def::Op(Op::Table(op), args.into()))
            }
            Code::Expand(_) if *op == ops::EXP && self.exp_may_be_cheap(args[0]) => {
                let t = self.times_log2e(args[0]);
                self.arena.exp2_cheap(t)
            }
            Code::Expand(f) => f(&mut self.arena, args),
        }
    }
    fn fold(&mut self, op: FoldOp, x: NodeId) -> Result<Val, Stop> {
        let dim = self.graph.dim(x);
        let kind = match op {
            FoldOp::Min => FoldKind::Min,
            FoldOp::Max => FoldKind::Max,
            FoldOp::ArgMin => FoldKind::ArgMin,
            FoldOp::ArgMax => FoldKind::ArgMax,
        };
        if dim >= self.options.roll {
            let l = self.arena.loop_of(dim, 0);
            let idx = Affine::counter(l);
            let v = self.component(x, &idx)?;
            let position = matches!(kind, FoldKind::ArgMin | FoldKind::ArgMax).then(|| {
                let c = self.arena.define(Def::Op(Op::Counter(idx), Args::default()));
                self.arena.prim(Prim::FromInt, &[c])
            });
            return Ok(self.arena.define(Def::Fold { loops: vec![l], kind, x: v, position }));
        }
        let least = matches!(op, FoldOp::Min | FoldOp::ArgMin);
        let mut key = self.arena.real(if least { f64::INFINITY } else { f64::NEG_INFINITY });
        let mut at = self.arena.real(0.0);
        // From the last on, so that the first of equals is the one that stays, also among infinities
        // (which a strict comparison with the first bound would never take).
        for k in (0..dim).rev() {
            let v = self.component(x, &Affine::constant(k as i64))?;
            let (lo, hi) = if least { (v, key) } else { (key, v) };
            let better = self.arena.prim(Prim::Le, &[lo, hi]);
            let position = self.arena.real(k as f64);
            at = self.arena.prim(Prim::Select, &[better, position, at]);
            key = self.arena.prim(if least { Prim::Min } else { Prim::Max }, &[v, key]);
        }
        Ok(if matches!(op, FoldOp::Min | FoldOp::Max) { key } else { at })
    }
    /// A generalised product at given values of some labels, summed over the others.
    fn contract(
        &mut self,
        extents: &[usize],
        operands: &[Operand],
        labels: Vec<Option<Affine>>,
    ) -> Result<Val, Stop> {
        let open: Vec<usize> = (0..extents.len()).filter(|&l| labels[l].is_none()).collect();
        // Factors that no sum touches come out of it.
        let (inside, outside): (Vec<&Operand>, Vec<&Operand>) =
            operands.iter().partition(|o| o.axes.iter().any(|a| open.contains(&(*a as usize))));
        let mut factor = 1.0;
        let mut summed = vec![];
        for &l in &open {
            if inside.iter().any(|o| o.axes.contains(&(l as u8))) {
                summed.push(l);
            } else {
                factor *= extents[l] as f64;
            }
        }
        let mut product: Option<Val> = None;
        if !inside.is_empty() {
            for mut part in self.summands(extents, &summed, &labels)? {
                let mut sum: Option<Val> = None;
                for term in 0..part.terms() {
                    part.choose(term);
                    let term = self.factors(extents, &inside, &part.case)?;
                    sum = Some(match sum {
                        Some(s) => self.arena.arith(Prim::Add, &[term, s]),
                        None => term,
                    });
                }
                let Some(sum) = sum else { unreachable!("labels have positive extents") };
                let sum = self.summed(sum, part.loops);
                product = Some(product.map_or(sum, |p| self.arena.arith(Prim::Add, &[p, sum])));
            }
        }
        if !outside.is_empty() {
            let f = self.factors(extents, &outside, &labels)?;
            product = Some(product.map_or(f, |p| self.arena.arith(Prim::Mul, &[p, f])));
        }
        let factor = self.arena.real(factor);
        Ok(match product {
            Some(p) => self.arena.arith(Prim::Mul, &[p, factor]),
            None => factor,
        })
    }
    fn factors(
        &mut self,
        extents: &[usize],
        operands: &[&Operand],
        labels: &[Option<Affine>],
    ) -> Result<Val, Stop> {
        let mut product: Option<Val> = None;
        for o in operands {
            let mut idx = Affine::constant(0);
            for a in &o.axes {
                let Some(at) = &labels[*a as usize] else { unreachable!("labels are set") };
                idx = idx.scaled(extents[*a as usize] as i64, 0).plus(at);
            }
            let v = self.component(o.node, &idx)?;
            product = Some(product.map_or(v, |p| self.arena.arith(Prim::Mul, &[p, v])));
        }
        let Some(p) = product else { unreachable!("products have factors") };
        Ok(p)
    }
    /// The values of the summed labels: loops over long ones, in blocks, the others one by one.
    fn summands(
        &mut self,
        extents: &[usize],
        summed: &[usize],
        labels: &[Option<Affine>],
    ) -> Result<Vec<Summand>, CompileError> {
        let mut parts = vec![Summand { loops: vec![], case: labels.to_vec(), unrolled: vec![] }];
        for &l in summed {
            let e = extents[l];
            let block = if self.scheme == Accumulation::Block { BLOCK } else { usize::MAX };
            let mut next = vec![];
            for part in parts {
                let (turns, rest) = (e / block, e % block);
                if turns > 0 {
                    let mut whole = part.clone();
                    let inner = self.open_loop(&mut whole, block);
                    let mut at = Affine::counter(inner);
                    if turns > 1 {
                        let outer = self.open_loop(&mut whole, turns);
                        let n = whole.loops.len();
                        whole.loops.swap(n - 2, n - 1);
                        at = Affine::counter(outer).scaled(block as i64, 0).plus(&at);
                    }
                    whole.case[l] = Some(at);
                    next.push(whole);
                }
                let (start, mut part) = (e - rest, part);
                if rest >= self.options.roll {
                    let counter = Affine::counter(self.open_loop(&mut part, rest));
                    part.case[l] = Some(counter.scaled(1, start as i64));
                    next.push(part);
                } else if rest > 0 {
                    part.unrolled.push((l, [start, e]));
                    next.push(part);
                }
            }
            parts = next;
        }
        let terms = parts.iter().map(Summand::terms).fold(0, usize::saturating_add);
        if terms > MAX_VALUES {
            let what = "the number of terms of a sum over short axes".into();
            return Err(CompileError::Limit { what, limit: MAX_VALUES, got: terms });
        }
        Ok(parts)
    }
    /// A loop variable that neither the part nor the labels use.
    fn open_loop(&mut self, part: &mut Summand, extent: usize) -> Loop {
        let used = |l: Loop| {
            part.case.iter().flatten().any(|a| a.terms.iter().any(|t| t.0 == l))
                || part.loops.contains(&l)
        };
        let mut ordinal = 0;
        let v = loop {
            let v = self.arena.loop_of(extent, ordinal);
            if !used(v) {
                break v;
            }
            ordinal += 1;
        };
        part.loops.push(v);
        v
    }
    /// The sum of `x` over loops: a plain one of up to [`BLOCK`] terms, and a compensated one of such
    /// blocks, as sums over rows are made.
    fn summed(&mut self, mut x: Val, mut loops: Vec<Loop>) -> Val {
        let mut inner = loops.len();
        match self.scheme {
            Accumulation::Block => {
                let mut terms = 1usize;
                while inner > 0 {
                    terms = terms.saturating_mul(self.arena.extents[loops[inner - 1].0 as usize]);
                    if terms > BLOCK {
                        break;
                    }
                    inner -= 1;
                }
            }
            Accumulation::Kahan => {}
            _ => inner = 0,
        }
        for (loops, kind) in [(loops.split_off(inner), FoldKind::Sum), (loops, FoldKind::Kahan)] {
            if !loops.is_empty() {
                x = self.arena.define(Def::Fold { loops, kind, x, position: None });
            }
        }
        x
    }
}

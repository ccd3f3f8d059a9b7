//! What operators leave behind: a tree of operations, which becomes a graph where one is needed.
//! Equal trees make equal formulas, so that a call whose tree is known needs no graph.

use super::kept::Stored;
use super::located;
use crate::composite::{self, CompositeDef, Literal};
use crate::error::{DimError, Error, InputError};
use crate::graph::{Builder, Category, Ex, Graph, MAX_NODES, Node, NodeId, Var};
use crate::key;
use crate::ops::{self, OpDef};
use crate::parse;
use crate::spec::Agreement;
use hashbrown::HashMap;
use ndarray::Slice;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A place in the caller's source.
pub(super) type Location = &'static std::panic::Location<'static>;

/// A formula over variables that are bound to data: variable number k is source number k.
#[derive(Clone)]
pub(super) struct Expression {
    pub graph: Arc<Graph>,
    pub root: NodeId,
    pub sources: Vec<Source>,
}

/// What a variable stands for.
#[derive(Clone)]
pub(super) struct Source {
    pub var: Var,
    pub value: Bound,
    pub name: Name,
}
#[derive(Clone)]
pub(super) enum Bound {
    /// An array, shared.
    Array(Arc<dyn Stored>),
    /// A parameter of dimension 1.
    Scalar(f64),
    /// An argument, by position, of the function that is to be made.
    Symbol(usize),
}

/// What a source is called in messages: text is made when it is read.
#[derive(Clone)]
pub(super) enum Name {
    Given(Arc<str>),
    Array(Category, usize, Location),
    Scalar(f64, Location),
    Symbol(usize),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Given(name) => f.write_str(name),
            Name::Array(category, dim, at) => write!(f, "{}({dim}) at {at}", category.keyword()),
            Name::Scalar(value, at) => write!(f, "the scalar {value} at {at}"),
            Name::Symbol(position) => write!(f, "v{position}"),
        }
    }
}

/// What makes two sources one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Identity {
    Array(*const (), Category),
    Scalar(u64),
    Symbol(usize, usize, Category),
}

impl Source {
    fn identity(&self) -> Identity {
        match &self.value {
            Bound::Array(a) => Identity::Array(Arc::as_ptr(a).cast(), self.var.category),
            Bound::Scalar(v) => Identity::Scalar(v.to_bits()),
            Bound::Symbol(at) => Identity::Symbol(*at, self.var.dim, self.var.category),
        }
    }
    pub fn same(&self, other: &Source) -> bool {
        self.identity() == other.identity()
    }
}

/// Numbers of sources, in the order in which they were met; empty as long as they are few, and the
/// list of them is searched.
#[derive(Default)]
struct Numbers(HashMap<Identity, u32>);

impl Numbers {
    /// The number of a source, and whether it is new: not among those that are `known` so far.
    fn of<'s>(
        &mut self,
        known: impl ExactSizeIterator<Item = &'s Source>,
        source: &Source,
    ) -> (u32, bool) {
        let (identity, next) = (source.identity(), known.len() as u32);
        let mut known = known.map(|s| s.identity());
        if known.len() <= SMALL {
            let number = known.position(|o| o == identity).map_or(next, |k| k as u32);
            return (number, number == next);
        }
        if self.0.is_empty() {
            self.0.extend(known.zip(0..));
        }
        let number = *self.0.entry(identity).or_insert(next);
        (number, number == next)
    }
}

/// Sources of a common graph: variable number k is source number k.
#[derive(Default)]
pub(super) struct Sources {
    pub all: Vec<Source>,
    numbers: Numbers,
    /// Number of the first source of each position.
    symbols: HashMap<usize, u32>,
}

impl Sources {
    pub fn new(all: Vec<Source>) -> Sources {
        let mut sources = Sources::default();
        for s in &all {
            sources.add(s);
        }
        sources
    }
    /// The variable of a source, and its position where that is the one of another symbol.
    fn add(&mut self, s: &Source) -> (Var, Option<usize>) {
        let (number, new) = self.numbers.of(self.all.iter(), s);
        if !new {
            return (self.all[number as usize].var, None);
        }
        let var = Var { index: number, ..s.var };
        self.all.push(Source { var, ..s.clone() });
        let Bound::Symbol(at) = s.value else { return (var, None) };
        let first = *self.symbols.entry(at).or_insert(number);
        (var, (first != number).then_some(at))
    }
    /// The error of two symbols at one position.
    fn clash(&self, position: usize) -> Error {
        let here = |s: &&Source| matches!(s.value, Bound::Symbol(at) if at == position);
        let shown = |s: &Source| format!("{}({})", s.var.category.keyword(), s.var.dim);
        let all: Vec<String> = self.all.iter().filter(here).map(shown).collect();
        InputError::Option(format!("position {position} is {}", all.join(" and "))).into()
    }
}

impl Expression {
    /// The value as a node of a common graph, with its sources among the common ones; the position
    /// beside it as of [`Sources::add`].
    fn import<'b>(&self, b: &'b Builder, sources: &mut Sources) -> (Ex<'b>, Option<usize>) {
        let mut clash = None;
        let mut places: Vec<NodeId> = Vec::with_capacity(self.sources.len());
        for s in &self.sources {
            let (var, other) = sources.add(s);
            clash = clash.or(other);
            places.push(b.var(var).id);
        }
        let place = |v: Var| places.get(v.index as usize).copied();
        (b.import_with(&self.graph, self.root, place), clash)
    }
    /// The value as a node of a common graph, with its sources among the common ones.
    pub fn join<'b>(&self, b: &'b Builder, sources: &mut Sources) -> Result<Ex<'b>, Error> {
        match self.import(b, sources) {
            (value, None) => Ok(value),
            (_, Some(position)) => Err(sources.clash(position)),
        }
    }
    pub fn dim(&self) -> usize {
        self.graph.dim(self.root)
    }
    /// Batch shape, M and N (1 where nothing gives a number).
    pub fn sizes(&self) -> Result<(Vec<usize>, [usize; 2]), InputError> {
        let mut common: Agreement<'_, Name> = Agreement::new([None; 2]);
        for s in &self.sources {
            let Bound::Array(a) = &s.value else { continue };
            let view = a.view();
            let mut lead = &view.shape()[..view.shape().len() - 1];
            if s.var.category != Category::Param
                && let Some((rows, batch)) = lead.split_last()
            {
                lead = batch;
                common.rows(&s.name, s.var.category, *rows)?;
            }
            common.batch(&s.name, lead)?;
        }
        let rows = [Category::I, Category::J].map(|c| common.rows_of(c).unwrap_or(1));
        Ok((common.batch_shape(), rows))
    }
}

/// How an operation is built.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    Map(&'static OpDef),
    Composite(&'static CompositeDef),
    /// `x ** v` for the exponents that have an expansion.
    Power(f64),
    /// A range of groups of this many components.
    Components(usize, Slice),
}

impl Rule {
    /// The operation of the tables.
    pub fn by_name(name: &str, literals: &[Literal]) -> Result<Rule, Error> {
        if let Some(op) = ops::by_name(name).filter(|_| literals.is_empty()) {
            return Ok(Rule::Map(op));
        }
        let unknown = || DimError::new(name, "the name of an operation", name);
        composite::by_name(name).map(Rule::Composite).ok_or_else(|| unknown().into())
    }
    fn build<'b>(self, x: &[Ex<'b>], literals: &[Literal]) -> Result<Ex<'b>, Error> {
        let op = match self {
            Rule::Map(op) => return Ok(Ex::map(op, x)?),
            Rule::Composite(op) => op,
            Rule::Components(group, range) => return Ok(slice(x[0], group, range)?),
            Rule::Power(v) => {
                let exponent = x[0].lit(v);
                return match parse::power(x[0], exponent) {
                    Some(power) => Ok(power),
                    // A whole number that is too large to be expanded.
                    None => Rule::by_name("Powf", &[])?.build(&[x[0], exponent], &[]),
                };
            }
        };
        let within = |n: usize, (low, high): (usize, usize)| (low..=high).contains(&n);
        if !within(x.len(), op.operands) || !within(literals.len(), op.literals) {
            let got = format!("{} operands and {} parameters", x.len(), literals.len());
            return Err(DimError::new(op.name, op.doc, got).into());
        }
        Ok(op.expand(x, literals)?)
    }
}

impl Hash for Rule {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Rule::Map(op) => (0u8, op).hash(state),
            Rule::Composite(op) => {
                state.write_u8(1);
                std::ptr::hash(*op, state);
            }
            Rule::Power(v) => (2u8, v.to_bits()).hash(state),
            Rule::Components(group, Slice { start, end, step }) => {
                (3u8, group, start, end, step).hash(state);
            }
        }
    }
}

/// A formula that is not yet a graph.
pub(super) enum Term {
    /// A variable; its number is that of its place among all.
    Source(Source),
    /// A node without operands that is no variable.
    Leaf(Node),
    Apply(Apply),
    /// What had to be made already, or an error.
    Built(Built),
}
/// A graph, or the first error on the way to it.
pub(super) type Built = Arc<Result<Expression, Error>>;

/// An operation of other terms.
pub(super) struct Apply {
    rule: Rule,
    literals: Vec<Literal>,
    /// Two of them take no memory of their own.
    first: Arc<Term>,
    second: Option<Arc<Term>>,
    others: Vec<Arc<Term>>,
    place: Location,
    /// Operations above the leaves.
    depth: u32,
}

impl Apply {
    pub fn new(
        rule: Rule,
        literals: Vec<Literal>,
        first: Arc<Term>,
        mut others: impl Iterator<Item = Arc<Term>>,
        place: Location,
    ) -> Apply {
        let (second, others) = (others.next(), others.collect());
        let mut made = Apply { rule, literals, first, second, others, place, depth: 0 };
        made.depth = 1 + made.operands().map(|t| t.depth()).max().unwrap_or(0);
        made
    }
    fn operands(&self) -> impl DoubleEndedIterator<Item = &Arc<Term>> {
        std::iter::once(&self.first).chain(&self.second).chain(&self.others)
    }
}

impl Term {
    fn depth(&self) -> u32 {
        if let Term::Apply(a) = self { a.depth } else { 0 }
    }
}

/// Terms deeper than this are taken apart one by one: destructors call each other.
const NESTED: u32 = 64;

impl Drop for Apply {
    fn drop(&mut self) {
        if self.depth <= NESTED {
            return;
        }
        let leaf = || Arc::new(Term::Leaf(Node::Iota(1)));
        let mut waiting: Vec<Arc<Term>> = vec![];
        let take = |a: &mut Apply, waiting: &mut Vec<Arc<Term>>| {
            waiting.push(std::mem::replace(&mut a.first, leaf()));
            waiting.extend(a.second.take());
            waiting.append(&mut a.others);
            a.depth = 0;
        };
        take(self, &mut waiting);
        while let Some(term) = waiting.pop() {
            if let Some(Term::Apply(mut a)) = Arc::into_inner(term) {
                take(&mut a, &mut waiting);
            }
        }
    }
}

/// The terms that some terms are made of, each once, operands first.
pub(super) struct Walk<'t> {
    steps: Vec<Step<'t>>,
    /// Numbers of the operands of all steps, one after the other.
    operands: Vec<u32>,
    /// Numbers of the terms that were asked for.
    roots: Vec<u32>,
}
struct Step<'t> {
    term: &'t Term,
    /// Where its operands end.
    end: usize,
}

/// Terms, and sources, of most formulas.
const SMALL: usize = 16;

/// Nodes that nobody uses, before they are left behind.
const SLACK: usize = 1 << 10;

/// Numbers of terms by their places.
#[derive(Default)]
struct Known {
    few: Vec<(*const Term, u32)>,
    many: HashMap<*const Term, u32>,
}
impl Known {
    fn get(&self, term: &Arc<Term>) -> Option<u32> {
        let place = Arc::as_ptr(term);
        let found = self.few.iter().find(|(p, _)| *p == place).map(|(_, k)| *k);
        found.or_else(|| self.many.get(&place).copied())
    }
    fn insert(&mut self, term: &Arc<Term>, k: u32) {
        if self.few.len() < SMALL {
            self.few.push((Arc::as_ptr(term), k));
        } else {
            self.many.insert(Arc::as_ptr(term), k);
        }
    }
}

impl<'t> Walk<'t> {
    pub fn new(roots: impl DoubleEndedIterator<Item = &'t Arc<Term>>) -> Walk<'t> {
        enum Visit<'t> {
            Before(&'t Arc<Term>),
            After(&'t Arc<Term>, &'t Apply),
        }
        let (steps, operands) = (Vec::with_capacity(SMALL), Vec::with_capacity(SMALL));
        let mut walk = Walk { steps, operands, roots: vec![] };
        // A term that only one place holds is visited once: only the others have to be recognised.
        let shared = |t: &Arc<Term>| Arc::strong_count(t) > 1;
        let mut known = Known::default();
        let mut made: Vec<u32> = Vec::with_capacity(SMALL);
        let mut stack: Vec<Visit<'t>> = Vec::with_capacity(SMALL);
        stack.extend(roots.rev().map(Visit::Before));
        while let Some(visit) = stack.pop() {
            let term = match visit {
                Visit::Before(t) => {
                    if let Some(k) = known.get(t).filter(|_| shared(t)) {
                        made.push(k);
                        continue;
                    }
                    if let Term::Apply(a) = &**t {
                        stack.push(Visit::After(t, a));
                        stack.extend(a.operands().rev().map(Visit::Before));
                        continue;
                    }
                    t
                }
                Visit::After(t, a) => {
                    let first = made.len() - a.operands().count();
                    walk.operands.extend(made.drain(first..));
                    t
                }
            };
            let k = walk.steps.len() as u32;
            walk.steps.push(Step { term, end: walk.operands.len() });
            made.push(k);
            if shared(term) {
                known.insert(term, k);
            }
        }
        walk.roots = made;
        walk
    }
    /// Operands of each step.
    fn with_operands(&self) -> impl Iterator<Item = (&'t Term, &[u32])> {
        let mut start = 0;
        self.steps.iter().map(move |s| {
            let operands = &self.operands[start..s.end];
            start = s.end;
            (s.term, operands)
        })
    }
    /// The graph of the only root. All values are made in one graph, so that a long formula takes
    /// no more than its length.
    pub fn build(&self) -> Result<Expression, Error> {
        let mut last = vec![usize::MAX; self.steps.len()];
        for (k, (_, operands)) in self.with_operands().enumerate() {
            operands.iter().for_each(|&o| last[o as usize] = k);
        }
        let mut b = Builder::default();
        let mut sources = Sources::default();
        let mut values: Vec<NodeId> = Vec::with_capacity(self.steps.len());
        // Of symbols at one position: the step where they meet, and the position.
        let mut clash: Option<(usize, usize)> = None;
        let mut room = SLACK;
        for (k, (term, operands)) in self.with_operands().enumerate() {
            if let Some((_, position)) = clash.filter(|(at, _)| *at == k) {
                return Err(self.located(k, sources.clash(position)));
            }
            let (value, other) = match term {
                Term::Source(s) => {
                    let (var, other) = sources.add(s);
                    (b.var(var).id, other)
                }
                Term::Leaf(node) => (b.node(node.clone()).id, None),
                Term::Built(built) => {
                    let built = (**built).as_ref().map_err(Error::clone)?;
                    let (x, other) = built.import(&b, &mut sources);
                    (x.id, other)
                }
                Term::Apply(a) => {
                    let x: Vec<Ex<'_>> =
                        operands.iter().map(|&o| b.ex(values[o as usize])).collect();
                    let made = a.rule.build(&x, &a.literals).map_err(|e| located(a.place, e))?;
                    (made.id, None)
                }
            };
            values.push(value);
            if let (Some(position), None) = (other, clash) {
                clash = Some((self.meeting(position), position));
            }
            if b.graph().is_full() {
                let m = format!("the formula has more than {MAX_NODES} nodes");
                return Err(self.located(k, InputError::Option(m).into()));
            }
            // What was simplified away is left behind now and then.
            let len = b.graph().len();
            if len > room {
                let wanted: Vec<usize> = (0..=k).filter(|&o| last[o] > k).collect();
                let roots: Vec<NodeId> = wanted.iter().map(|&o| values[o]).collect();
                let mut graph = Graph::default();
                let places = graph.import(&b.into_graph(), &roots, |_, _| None);
                wanted.iter().zip(places).for_each(|(&o, place)| values[o] = place);
                let left = MAX_NODES.saturating_sub(graph.len());
                room = graph.len() + SLACK.max(graph.len().min(left / 2));
                b = Builder::from_graph(graph);
            }
        }
        let Some(&root) = values.last() else { unreachable!("there is a root") };
        let all = b.into_graph();
        let (graph, root) = if all.live(&[root]).len() == all.len() {
            (all, root)
        } else {
            let mut graph = Graph::default();
            let root = graph.import(&all, &[root], |_, _| None)[0];
            (graph, root)
        };
        Ok(Expression { graph: graph.into(), root, sources: sources.all })
    }
    /// An error with the place of a step.
    fn located(&self, step: usize, e: Error) -> Error {
        match self.steps[step].term {
            Term::Apply(a) => located(a.place, e),
            _ => e,
        }
    }
    /// The first step in which two symbols of one position meet.
    fn meeting(&self, position: usize) -> usize {
        // Of each step, a symbol of that position.
        let mut seen: Vec<Option<Identity>> = Vec::with_capacity(self.steps.len());
        for (k, (term, operands)) in self.with_operands().enumerate() {
            let own: Vec<Identity> = match term {
                Term::Source(s) => vec![s.identity()],
                Term::Built(built) => match &**built {
                    Ok(e) => e.sources.iter().map(Source::identity).collect(),
                    Err(_) => vec![],
                },
                Term::Leaf(_) => vec![],
                Term::Apply(_) => operands.iter().filter_map(|&o| seen[o as usize]).collect(),
            };
            let like = |i: &&Identity| matches!(i, Identity::Symbol(at, ..) if *at == position);
            let mut own = own.iter().filter(like);
            let first = own.next().copied();
            if own.any(|i| Some(*i) != first) {
                return k;
            }
            seen.push(first);
        }
        self.steps.len() - 1
    }
    /// What the terms are about, each once, in the order of [`Walk::build`]; adds to `state` what
    /// else there is to know about them. `scalars` tells whether their values belong to it.
    pub fn sources(&self, scalars: bool, state: &mut impl Hasher) -> Vec<&'t Source> {
        let mut all: Vec<&'t Source> = Vec::with_capacity(8);
        let mut numbers = Numbers::default();
        let mut number = |s: &'t Source| -> (u32, Category, usize, Option<u64>) {
            let (k, new) = numbers.of(all.iter().copied(), s);
            if new {
                all.push(s);
            }
            let value = match s.value {
                Bound::Scalar(v) if scalars => Some(v.to_bits()),
                _ => None,
            };
            (k, s.var.category, s.var.dim, value)
        };
        self.steps.len().hash(state);
        for (term, operands) in self.with_operands() {
            match term {
                Term::Source(s) => (0u8, number(s)).hash(state),
                Term::Leaf(node) => (1u8, node).hash(state),
                Term::Apply(Apply { rule, literals, .. }) => {
                    (2u8, rule, literals, operands).hash(state);
                }
                Term::Built(built) => {
                    3u8.hash(state);
                    // What failed is never kept.
                    let Ok(e) = &**built else { continue };
                    key::formulas(&e.graph, &[e.root], state);
                    e.sources.len().hash(state);
                    e.sources.iter().for_each(|s| number(s).hash(state));
                }
            }
        }
        self.roots.hash(state);
        all
    }
}

/// Largest number of components that are taken one by one: in reverse order, or some of a complex
/// entry.
const APART: usize = 1 << 12;

/// A range, as [`ndarray::s`] takes it, of groups of this many components.
fn slice<'b>(x: Ex<'b>, group: usize, range: Slice) -> Result<Ex<'b>, DimError> {
    let d = x.dim() / group;
    let from_end = |k: isize| if k < 0 { k.checked_add_unsigned(d) } else { Some(k) };
    let within = |k: Option<isize>| k.and_then(|k| usize::try_from(k).ok()).filter(|k| *k <= d);
    let (start, end) =
        (within(from_end(range.start)), range.end.map_or(Some(d), |e| within(from_end(e))));
    let step = range.step.unsigned_abs();
    let (a, b) = match (start, end) {
        (Some(a), Some(b)) if a < b && step > 0 => (a, b),
        _ => {
            let expected = format!("a range of at least one of the {d} components, with a step");
            let end = range.end.map_or(String::new(), |e| e.to_string());
            let by = if range.step == 1 { String::new() } else { format!(" by {}", range.step) };
            let got = format!("{}..{end}{by}", range.start);
            return Err(DimError::new("components", expected, got));
        }
    };
    let len = (b - a).div_ceil(step);
    if range.step == 1 || range.step > 0 && group == 1 {
        return Ok(x.pick(group * a, step, group * len));
    }
    if len > APART {
        let got = format!("{len} of {range:?}");
        return Err(DimError::new("components", format!("at most {APART} in this order"), got));
    }
    let one = |k: usize| x.pick(group * k, 1, group);
    let parts: Vec<_> = match range.step > 0 {
        true => (a..b).step_by(step).map(one).collect(),
        false => (a..b).rev().step_by(step).map(one).collect(),
    };
    Ok(Ex::concat(&parts))
}

//! Graphs of whole computations: reductions, and what happens to their results row by row.
//!
//! A formula graph ([`crate::graph`]) lives inside one reduction; an [`OuterGraph`] connects
//! reductions. Differentiation closes on it ([`crate::outer_diff`]): the gradient of a sum is
//! another sum, that of a log-sum-exp reads the saved result, that of a minimum gathers the rows
//! that won and scatters back to them. Every node but the gathers and scatters is evaluated as a
//! reduction, so that a backend implements reductions only.
//!
//! # Rows and batches
//! A value of category [`Category::I`] has shape `(batch…, M, dim)`, of category
//! [`Category::J`] `(batch…, N, dim)`, of category [`Category::Param`] `(batch…, dim)`; M and N
//! are the same throughout a computation. Batch axes broadcast from the right, as in
//! [`crate::spec::CheckedArgs`]. The gradient with respect to a value that was broadcast over
//! batch axes is summed over them, to the value's own shape: every cotangent passes through
//! [`OuterNode::Rebatch`].

use crate::error::InputError;
use crate::eval::Prepared;
use crate::genred::Reduce;
use crate::graph::{Builder, Category, Ex, Graph, MAX_DIM, MAX_NODES, Node, NodeId, Var};
use crate::key;
use crate::print;
use crate::reduce::{Family, ReductionDef, WeightRule};
use crate::spec::{Axis, Device, OutputSpec, ReduceOptions, ReduceSpec};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Most operands of a generated row map: kernels have a bounded number of arguments.
const FAN_IN: usize = 16;

/// A node of an [`OuterGraph`]. Operands come before their users.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OuterId(pub u32);

/// One result of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Port {
    /// The node.
    pub node: OuterId,
    /// Which of its results, in the order of [`ReduceSpec::outputs`] (0 for all other nodes).
    pub output: u32,
}

/// What a [`Port`] carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortInfo {
    /// Components per row.
    pub dim: usize,
    /// What its rows are indexed by.
    pub category: Category,
    /// Indices (i64) rather than values?
    pub index: bool,
}

/// A reduction whose variables are bound to values of the graph.
#[derive(Clone, Debug)]
pub struct Reduction {
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
    /// Options of the sums inside.
    pub options: ReduceOptions,
    /// What each variable stands for.
    pub bindings: Vec<(Var, Port)>,
}

impl Reduction {
    /// The specification for a backend; `names` are those of the bindings.
    pub fn spec(&self, dtype: crate::data::DType, names: Vec<String>) -> ReduceSpec {
        ReduceSpec {
            graph: self.graph.clone(),
            formula: self.formula,
            weight: self.weight,
            reduction: self.reduction,
            k: self.k,
            axis: self.axis,
            vars: self.bindings.iter().map(|(v, _)| *v).collect(),
            names,
            dtype,
            options: self.options,
        }
    }
    /// The results in order.
    pub fn outputs(&self) -> Vec<OutputSpec> {
        self.spec(crate::data::DType::F64, vec![]).outputs()
    }
    /// The formula, and the weight if there is one.
    pub fn roots(&self) -> Vec<NodeId> {
        std::iter::once(self.formula).chain(self.weight).collect()
    }
}

impl Hash for Reduction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        key::formulas(&self.graph, &self.roots(), state);
        let Reduction { reduction, k, axis, options, bindings, .. } = self;
        (reduction, k, axis, options, bindings).hash(state);
    }
}

/// A formula evaluated row by row.
#[derive(Clone, Debug)]
pub struct RowMap {
    /// Graph of the formula.
    pub graph: Arc<Graph>,
    /// The formula, of variables of `category` and parameters.
    pub root: NodeId,
    /// What each variable stands for.
    pub bindings: Vec<(Var, Port)>,
    /// What the rows are indexed by; `Param` is one row.
    pub category: Category,
    /// A variable that is negative in rows without meaning (no entry was selected there): there
    /// every derivative is exactly 0, whatever the formula does.
    pub present: Option<Var>,
}

impl Hash for RowMap {
    fn hash<H: Hasher>(&self, state: &mut H) {
        key::formulas(&self.graph, &[self.root], state);
        (&self.bindings, self.category, self.present).hash(state);
    }
}

/// One column of an index result: for each row, the number of a row of the other category, or -1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Selected {
    /// The indices.
    pub index: Port,
    /// Which column of them.
    pub column: usize,
}

/// A node.
#[derive(Clone, Debug, Hash)]
pub enum OuterNode {
    /// An argument of the computation.
    Input {
        /// Its number.
        slot: usize,
        /// Components per row.
        dim: usize,
        /// What its rows are indexed by.
        category: Category,
    },
    /// A reduction.
    Reduce(Reduction),
    /// A formula row by row.
    RowMap(RowMap),
    /// The rows added up, a parameter.
    SumRows {
        /// Source, with rows.
        x: Port,
    },
    /// `out[r] = x[at[r]]`, zeros where the index is -1.
    GatherRows {
        /// Source, of the category that the indices refer to.
        x: Port,
        /// The indices; the result has their rows.
        at: Selected,
    },
    /// Adjoint of [`OuterNode::GatherRows`]: `out[at[r]] += x[r]`, rows in ascending order of r,
    /// added in f64.
    ScatterAddRows {
        /// Source, of the category of the indices.
        x: Port,
        /// The indices.
        at: Selected,
        /// What the rows of the result are indexed by.
        category: Category,
    },
    /// The indices as reals, of dimension 1, -1 where there is none.
    RowIndex {
        /// The indices.
        at: Selected,
    },
    /// `x` with the batch shape of `like`: repeated along batch axes that only `like` has, summed
    /// over those that only `x` has. It is its own adjoint with the roles exchanged.
    Rebatch {
        /// Source.
        x: Port,
        /// Only its batch shape is read.
        like: Port,
    },
}

impl OuterNode {
    /// Values that the node reads ([`OuterNode::Rebatch`] does not read `like`).
    pub fn operands(&self) -> Vec<Port> {
        match self {
            OuterNode::Input { .. } => vec![],
            OuterNode::Reduce(r) => r.bindings.iter().map(|(_, p)| *p).collect(),
            OuterNode::RowMap(m) => m.bindings.iter().map(|(_, p)| *p).collect(),
            OuterNode::SumRows { x } | OuterNode::Rebatch { x, .. } => vec![*x],
            OuterNode::GatherRows { x, at } | OuterNode::ScatterAddRows { x, at, .. } => {
                vec![*x, at.index]
            }
            OuterNode::RowIndex { at } => vec![at.index],
        }
    }
}

/// A node of a computation takes as much time and memory as so many nodes of a formula.
const NODE: usize = 16;

/// Nodes of whole computations; structurally equal nodes are one node. Nodes are only ever
/// appended, so that ports stay valid in every graph that was derived from theirs. Methods take
/// ports of this graph and bindings that fit their variables.
#[derive(Clone, Default, Debug)]
pub struct OuterGraph {
    nodes: Vec<OuterNode>,
    ports: Vec<Vec<PortInfo>>,
    /// Inputs that determine the batch shape of a node: equal sets mean equal shapes.
    support: Vec<Arc<BTreeSet<usize>>>,
    index: HashMap<Vec<u8>, OuterId>,
    /// Nodes of all formulas.
    size: usize,
    full: bool,
}

impl OuterGraph {
    /// The node.
    pub fn node(&self, id: OuterId) -> &OuterNode {
        &self.nodes[id.0 as usize]
    }
    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    /// Has it no node?
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
    /// Do its formulas have more than [`MAX_NODES`] nodes together?
    pub fn is_full(&self) -> bool {
        self.full
    }
    /// What a port carries.
    pub fn info(&self, port: Port) -> PortInfo {
        self.ports[port.node.0 as usize][port.output as usize]
    }
    /// The results of a node.
    pub fn ports(&self, id: OuterId) -> &[PortInfo] {
        &self.ports[id.0 as usize]
    }
    /// Inputs that determine the batch shape of a node.
    pub(crate) fn support(&self, id: OuterId) -> &Arc<BTreeSet<usize>> {
        &self.support[id.0 as usize]
    }
    /// Nodes whose values `roots` need, operands first.
    pub fn live(&self, roots: &[Port]) -> Vec<OuterId> {
        let Some(top) = roots.iter().map(|p| p.node.0 as usize).max() else { return vec![] };
        let mut mark = vec![false; top + 1];
        for p in roots {
            mark[p.node.0 as usize] = true;
        }
        for k in (0..=top).rev() {
            if mark[k] {
                self.nodes[k].operands().iter().for_each(|p| mark[p.node.0 as usize] = true);
            }
        }
        (0..=top).filter(|&k| mark[k]).map(|k| OuterId(k as u32)).collect()
    }

    fn intern(&mut self, node: OuterNode) -> OuterId {
        let key = key::of(&node);
        if let Some(&id) = self.index.get(&key) {
            return id;
        }
        let port = |dim, category, index| PortInfo { dim, category, index };
        let ports = match &node {
            OuterNode::Input { dim, category, .. } => vec![port(*dim, *category, false)],
            OuterNode::Reduce(r) => {
                r.outputs().iter().map(|o| port(o.dim, r.axis.kept(), o.index)).collect()
            }
            OuterNode::RowMap(m) => vec![port(m.graph.dim(m.root), m.category, false)],
            OuterNode::SumRows { x } => vec![port(self.info(*x).dim, Category::Param, false)],
            OuterNode::GatherRows { x, at } => {
                vec![port(self.info(*x).dim, self.info(at.index).category, false)]
            }
            OuterNode::ScatterAddRows { x, category, .. } => {
                vec![port(self.info(*x).dim, *category, false)]
            }
            OuterNode::RowIndex { at } => vec![port(1, self.info(at.index).category, false)],
            OuterNode::Rebatch { x, .. } => vec![self.info(*x)],
        };
        let support = match &node {
            OuterNode::Input { slot, .. } => Arc::new(BTreeSet::from([*slot])),
            OuterNode::Rebatch { like, .. } => self.support(like.node).clone(),
            other => {
                let mut all = BTreeSet::new();
                other.operands().iter().for_each(|p| all.extend(self.support(p.node).iter()));
                Arc::new(all)
            }
        };
        let formula = match &node {
            OuterNode::Reduce(Reduction { graph, .. })
            | OuterNode::RowMap(RowMap { graph, .. }) => {
                self.full |= graph.is_full();
                graph.len()
            }
            _ => 0,
        };
        self.size = self.size.saturating_add(NODE + formula);
        self.full |= self.size > MAX_NODES;
        let id = OuterId(self.nodes.len() as u32);
        self.nodes.push(node);
        self.ports.push(ports);
        self.support.push(support);
        self.index.insert(key, id);
        id
    }
    fn single(&mut self, node: OuterNode) -> Port {
        Port { node: self.intern(node), output: 0 }
    }
    /// Argument number `slot`.
    pub fn input(&mut self, slot: usize, dim: usize, category: Category) -> Port {
        self.single(OuterNode::Input { slot, dim, category })
    }
    /// A reduction; its results are ports 0 and, if it has two, 1.
    pub fn reduce(&mut self, r: Reduction) -> OuterId {
        self.single(OuterNode::Reduce(r)).node
    }
    /// A formula row by row. Bindings that the formula does not use are dropped.
    pub fn row_map(&mut self, mut m: RowMap) -> Port {
        let used = m.graph.variables(&[m.root]);
        m.bindings.retain(|(v, _)| used.contains(v));
        self.single(OuterNode::RowMap(m))
    }
    /// The rows of `x` added up.
    pub fn sum_rows(&mut self, x: Port) -> Port {
        self.single(OuterNode::SumRows { x })
    }
    /// See [`OuterNode::GatherRows`].
    pub fn gather_rows(&mut self, x: Port, at: Selected) -> Port {
        self.single(OuterNode::GatherRows { x, at })
    }
    /// See [`OuterNode::ScatterAddRows`].
    pub fn scatter_add_rows(&mut self, x: Port, at: Selected, category: Category) -> Port {
        self.single(OuterNode::ScatterAddRows { x, at, category })
    }
    /// See [`OuterNode::RowIndex`].
    pub fn row_index(&mut self, at: Selected) -> Port {
        self.single(OuterNode::RowIndex { at })
    }
    /// See [`OuterNode::Rebatch`]; `x` itself where both surely have the same batch shape.
    pub fn rebatch(&mut self, x: Port, like: Port) -> Port {
        if self.support(x.node) == self.support(like.node) {
            return x;
        }
        self.single(OuterNode::Rebatch { x, like })
    }
    /// A row map of several values of one category; `f` gets one handle for each.
    pub fn map_rows(
        &mut self,
        category: Category,
        operands: &[Port],
        f: impl for<'g> FnOnce(&'g Builder, &[Ex<'g>]) -> Ex<'g>,
    ) -> Port {
        let builder = Builder::default();
        let vars: Vec<Var> = operands
            .iter()
            .enumerate()
            .map(|(k, p)| {
                let info = self.info(*p);
                Var { index: k as u32, dim: info.dim, category: info.category }
            })
            .collect();
        let root = {
            let x: Vec<Ex<'_>> = vars.iter().map(|v| builder.var(*v)).collect();
            f(&builder, &x).id
        };
        let bindings = vars.into_iter().zip(operands.iter().copied()).collect();
        let graph = Arc::new(builder.into_graph());
        self.row_map(RowMap { graph, root, bindings, category, present: None })
    }
    /// Components `start..start + len` of each row.
    pub fn columns(&mut self, x: Port, start: usize, len: usize) -> Port {
        let info = self.info(x);
        if start == 0 && len == info.dim {
            return x;
        }
        self.map_rows(info.category, &[x], |_, x| x[0].pick(start, 1, len))
    }
    /// The sum of values of one category and dimension (at least one of them).
    pub fn add(&mut self, terms: &[Port]) -> Port {
        self.tree(terms, |_, x| x[1..].iter().fold(x[0], |s, &e| s + e))
    }
    /// Components of values of one category, one after the other (at least one value).
    pub fn concat(&mut self, parts: &[Port]) -> Port {
        self.tree(parts, |_, x| Ex::concat(x))
    }
    fn tree(
        &mut self,
        operands: &[Port],
        f: impl for<'g> Fn(&'g Builder, &[Ex<'g>]) -> Ex<'g> + Copy,
    ) -> Port {
        let mut level = operands.to_vec();
        while level.len() > 1 {
            let category = self.info(level[0]).category;
            let join = |g: &mut Self, c: &[Port]| {
                if c.len() == 1 { c[0] } else { g.map_rows(category, c, f) }
            };
            level = level.chunks(FAN_IN).map(|c| join(self, c)).collect();
        }
        level[0]
    }
    /// Zeros with rows of `category`.
    pub fn zeros(&mut self, dim: usize, category: Category) -> Port {
        self.map_rows(category, &[], |b, _| b.lit(0.0).broadcast(dim))
    }
    /// The column of `x` if `node` is nothing but [`OuterGraph::columns`]: `(x, start, step, len)`.
    pub(crate) fn as_columns(node: &OuterNode) -> Option<(Port, usize, usize, usize)> {
        let OuterNode::RowMap(m) = node else { return None };
        let Node::Pick { x, start, step, len } = m.graph.node(m.root) else { return None };
        let Node::Var(v) = m.graph.node(*x) else { return None };
        if v.category != m.category || m.present.is_some() {
            return None;
        }
        let (_, port) = m.bindings.iter().find(|(w, _)| w == v)?;
        Some((*port, *start, *step, *len))
    }
    /// Copies all nodes of `other`, with inputs replaced (an input replaced by nothing stays) and
    /// other options for the sums inside reductions; returns where their results went.
    pub(crate) fn import(
        &mut self,
        other: &OuterGraph,
        input: &dyn Fn(usize) -> Option<Port>,
        options: Option<ReduceOptions>,
    ) -> impl Fn(Port) -> Port + use<> {
        // Nodes that differ only in their options may become one: places are looked up. Only an
        // input, which has one result, may become a result other than the first of a node.
        let mut place: Vec<Port> = Vec::with_capacity(other.len());
        for node in &other.nodes {
            let mut node = node.clone();
            let moved = |p: &mut Port| *p = at(&place, *p);
            let replaced = match &mut node {
                OuterNode::Input { slot, .. } => input(*slot),
                OuterNode::Reduce(r) => {
                    r.options = options.unwrap_or(r.options);
                    r.bindings.iter_mut().for_each(|(_, p)| moved(p));
                    None
                }
                OuterNode::RowMap(m) => {
                    m.bindings.iter_mut().for_each(|(_, p)| moved(p));
                    None
                }
                OuterNode::SumRows { x } => {
                    moved(x);
                    None
                }
                OuterNode::GatherRows { x, at } | OuterNode::ScatterAddRows { x, at, .. } => {
                    moved(x);
                    moved(&mut at.index);
                    None
                }
                OuterNode::RowIndex { at } => {
                    moved(&mut at.index);
                    None
                }
                OuterNode::Rebatch { x, like } => {
                    moved(x);
                    moved(like);
                    None
                }
            };
            place.push(replaced.unwrap_or_else(|| self.single(node)));
        }
        move |p| at(&place, p)
    }
}

fn at(place: &[Port], p: Port) -> Port {
    let first = place[p.node.0 as usize];
    Port { node: first.node, output: first.output + p.output }
}

impl fmt::Display for OuterGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |p: &Port| match p.output {
            0 => format!("#{}", p.node.0),
            k => format!("#{}.{k}", p.node.0),
        };
        let bound = |b: &[(Var, Port)]| {
            let each = b.iter().map(|(v, p)| format!("{} = {}", v.index, port(p)));
            each.collect::<Vec<_>>().join(", ")
        };
        for (k, node) in self.nodes.iter().enumerate() {
            let info = self.ports[k][0];
            write!(f, "#{k}: {}({}) = ", info.category.keyword(), info.dim)?;
            match node {
                OuterNode::Input { slot, .. } => writeln!(f, "input {slot}")?,
                OuterNode::Reduce(r) => {
                    let name = r.reduction.name;
                    writeln!(f, "{name} over {:?}, {}", r.axis, bound(&r.bindings))?;
                    write!(f, "{}", indented(&print::nodes(&r.graph, &r.roots())))?;
                }
                OuterNode::RowMap(m) => {
                    writeln!(f, "row map, {}", bound(&m.bindings))?;
                    write!(f, "{}", indented(&print::nodes(&m.graph, &[m.root])))?;
                }
                OuterNode::SumRows { x } => writeln!(f, "sum of rows of {}", port(x))?,
                OuterNode::GatherRows { x, at } => {
                    writeln!(f, "{}[{} column {}]", port(x), port(&at.index), at.column)?;
                }
                OuterNode::ScatterAddRows { x, at, .. } => {
                    let (x, i) = (port(x), port(&at.index));
                    writeln!(f, "scatter {x} to {i} column {}", at.column)?;
                }
                OuterNode::RowIndex { at } => {
                    writeln!(f, "index {} column {}", port(&at.index), at.column)?;
                }
                OuterNode::Rebatch { x, like } => {
                    writeln!(f, "{} with the batches of {}", port(x), port(like))?;
                }
            }
        }
        Ok(())
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|l| format!("    {l}\n")).collect()
}

/// A formula with its variables in the order of arguments.
#[derive(Clone, Debug)]
pub struct Formula {
    /// Graph of the formula and of its weight.
    pub graph: Arc<Graph>,
    /// The formula.
    pub root: NodeId,
    /// The second formula of weighted reductions.
    pub weight: Option<NodeId>,
    /// Variables in the order of arguments; some may be unused.
    pub vars: Vec<Var>,
    /// Their names.
    pub names: Vec<String>,
}

/// An argument of a [`Computation`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InputDef {
    /// Name.
    pub name: String,
    /// What its rows are indexed by.
    pub category: Category,
    /// Shape of one row: `[dim]`, or `[k, dim]` for what belongs to k selected entries.
    pub row: Vec<usize>,
    /// For cotangents and tangents, the value whose rows and batches they follow; the variables
    /// of the formula have none, and give the numbers of rows.
    pub like: Option<Port>,
}

/// A result of a [`Computation`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputDef {
    /// What is computed.
    pub port: Port,
    /// Shape of one row, as in [`InputDef`].
    pub row: Vec<usize>,
}

/// A function of named arrays: a reduction, its gradients, or any [`OuterGraph`].
///
/// Immutable and cheap to clone. See [`crate::genred::Genred`] for the convenient way in.
#[derive(Clone, Debug)]
pub struct Computation {
    pub(crate) graph: Arc<OuterGraph>,
    pub(crate) inputs: Vec<InputDef>,
    pub(crate) outputs: Vec<OutputDef>,
    /// Results of the computation that this one was derived from.
    pub(crate) primal: Vec<OutputDef>,
    pub(crate) prepared: Arc<Prepared>,
}

impl Computation {
    /// From a graph: input `k` is argument number `k`.
    ///
    /// # Errors
    /// [`InputError::Option`] if the graph has an input that is not described, or described with
    /// another dimension or category, or if two inputs have one name.
    pub fn new(
        graph: OuterGraph,
        inputs: Vec<InputDef>,
        outputs: Vec<OutputDef>,
    ) -> Result<Computation, InputError> {
        let fail = |m: String| Err(InputError::Option(m));
        for (k, input) in inputs.iter().enumerate() {
            if inputs[..k].iter().any(|other| other.name == input.name) {
                return fail(format!("two arguments are named `{}`", input.name));
            }
        }
        let ports = outputs.iter().map(|o| o.port).chain(inputs.iter().filter_map(|i| i.like));
        for p in ports {
            let known = graph.ports.get(p.node.0 as usize).map_or(0, |o| o.len());
            if p.output as usize >= known {
                return fail(format!("result {} of node {} does not exist", p.output, p.node.0));
            }
        }
        if graph.is_full() {
            return fail(format!("the formulas have more than {MAX_NODES} nodes"));
        }
        for node in &graph.nodes {
            let OuterNode::Input { slot, dim, category } = node else { continue };
            match inputs.get(*slot) {
                Some(d) if d.category == *category && d.row.iter().product::<usize>() == *dim => {}
                Some(d) => {
                    return fail(format!(
                        "argument `{}` is described as {:?} {:?}, but used as {}({dim})",
                        d.name,
                        d.category,
                        d.row,
                        category.keyword()
                    ));
                }
                None => return fail(format!("argument number {slot} is not described")),
            }
        }
        let (graph, prepared) = (Arc::new(graph), Arc::default());
        Ok(Computation { graph, inputs, outputs, primal: vec![], prepared })
    }
    /// One reduction of a formula. `k` is the number of winners of reductions that take several,
    /// else 1.
    ///
    /// # Errors
    /// [`InputError::Option`] if formula, weight, reduction and `k` do not fit each other.
    pub fn reduction(
        formula: Formula,
        reduction: &'static ReductionDef,
        k: usize,
        axis: Axis,
    ) -> Result<Computation, InputError> {
        let fail = |m: String| Err(InputError::Option(m));
        let Formula { graph, root, weight, vars, names } = formula;
        let name = reduction.name;
        match (reduction.weight, weight) {
            (WeightRule::Never, Some(_)) => {
                return fail(format!("{name} takes no second formula"));
            }
            (WeightRule::Required, None) => {
                return fail(format!("{name} needs a second formula, the weight"));
            }
            _ => {}
        }
        let many = matches!(&reduction.kind, Family::Select(s) if s.many);
        if !many && k != 1 {
            return fail(format!("{name} has one winner, got k = {k}"));
        }
        if names.len() != vars.len() {
            return fail(format!("{} variables with {} names", vars.len(), names.len()));
        }
        for (k, (v, name)) in vars.iter().zip(&names).enumerate() {
            if v.dim == 0 || v.dim > MAX_DIM {
                return fail(format!("`{name}` has dimension {}, not in 1..={MAX_DIM}", v.dim));
            }
            if vars[..k].iter().any(|w| w.index == v.index) {
                return fail(format!("two variables have number {}", v.index));
            }
        }
        let roots: Vec<NodeId> = std::iter::once(root).chain(weight).collect();
        if let Some(v) = graph.variables(&roots).into_iter().find(|v| !vars.contains(v)) {
            return fail(format!(
                "the formula uses {}({}, {}), which is no argument",
                v.category.keyword(),
                v.index,
                v.dim
            ));
        }
        let mut g = OuterGraph::default();
        let mut inputs = Vec::with_capacity(vars.len());
        let mut bindings = Vec::with_capacity(vars.len());
        for (slot, (v, name)) in vars.iter().zip(names).enumerate() {
            bindings.push((*v, g.input(slot, v.dim, v.category)));
            inputs.push(InputDef { name, category: v.category, row: vec![v.dim], like: None });
        }
        let options = ReduceOptions::default();
        let r = Reduction { graph, formula: root, weight, reduction, k, axis, options, bindings };
        r.spec(crate::data::DType::F64, vec![]).check()?;
        let (dims, node) = (r.outputs(), g.reduce(r));
        let row = |dim: usize| if many && dim != k { vec![k, dim / k] } else { vec![dim] };
        let outputs = (0..)
            .zip(dims)
            .map(|(output, o)| OutputDef { port: Port { node, output }, row: row(o.dim) })
            .collect();
        Computation::new(g, inputs, outputs)
    }
    /// As [`Computation::reduction`] with options, prepared and compiled once for all formulas
    /// that are the same but for the names of their variables.
    pub(crate) fn reduction_kept(
        formula: Formula,
        reduction: Reduce,
        axis: Axis,
        options: ReduceOptions,
        device: &Device,
    ) -> Result<Computation, InputError> {
        let Reduce { def, k } = reduction;
        struct Key<'f>(&'f Formula);
        impl Hash for Key<'_> {
            fn hash<H: Hasher>(&self, state: &mut H) {
                let Formula { graph, root, weight, vars, .. } = self.0;
                match weight {
                    None => key::formulas(graph, &[*root], state),
                    Some(weight) => key::formulas(graph, &[*root, *weight], state),
                }
                vars.hash(state);
            }
        }
        let key = key::of(&(Key(&formula), def, k, axis, options));
        let names = formula.names.clone();
        let kept = device.computation(key, || {
            let made = Computation::reduction(formula, def, k, axis)?;
            let given = options == ReduceOptions::default();
            Ok(if given { made } else { made.with_options(options) })
        })?;
        let named = |(i, name): (&InputDef, String)| InputDef { name, row: i.row.clone(), ..*i };
        Ok(Computation {
            graph: kept.graph.clone(),
            inputs: kept.inputs.iter().zip(names).map(named).collect(),
            outputs: kept.outputs.clone(),
            primal: kept.primal.clone(),
            prepared: kept.prepared.clone(),
        })
    }
    /// The graph.
    pub fn graph(&self) -> &OuterGraph {
        &self.graph
    }
    /// The arguments in order.
    pub fn inputs(&self) -> &[InputDef] {
        &self.inputs
    }
    /// The results in order.
    pub fn outputs(&self) -> &[OutputDef] {
        &self.outputs
    }
    /// Does result `k` hold indices?
    pub fn is_index(&self, k: usize) -> bool {
        self.outputs.get(k).is_some_and(|o| self.graph.info(o.port).index)
    }
    /// The same computation with other options for the sums inside its reductions.
    pub fn with_options(mut self, options: ReduceOptions) -> Computation {
        let mut graph = OuterGraph::default();
        let place = graph.import(&self.graph, &|_| None, Some(options));
        let moved = |p: &mut Port| *p = place(*p);
        self.inputs.iter_mut().filter_map(|i| i.like.as_mut()).for_each(moved);
        let outputs = self.outputs.iter_mut().chain(&mut self.primal);
        outputs.for_each(|o| moved(&mut o.port));
        (self.graph, self.prepared) = (Arc::new(graph), Arc::default());
        self
    }
    /// Adds the results of the computation that this one was derived from, after its own: what
    /// both need is computed once.
    pub fn with_primal(mut self) -> Computation {
        self.outputs.append(&mut self.primal);
        self.prepared = Arc::default();
        self
    }
}

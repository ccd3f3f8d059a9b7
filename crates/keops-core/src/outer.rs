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

mod computation;
mod function;
mod nodes;
mod recast;

pub use computation::{Computation, Formula, InputDef, OutputDef};
pub use function::{Application, Applied, Call, Function};
pub use nodes::{
    OuterId, OuterNode, OwnRanges, Port, PortInfo, Reduction, RowMap, Scatter, Selected,
};

use crate::graph::{Builder, Category, Ex, MAX_NODES, Node, Var};
use crate::key::{self, Key};
use crate::print;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Most operands of a generated row map: kernels have a bounded number of arguments.
const FAN_IN: usize = 16;

/// Cost of an outer node, in nodes of a formula.
const NODE: usize = 16;

/// Nodes of whole computations; structurally equal nodes are one node. Nodes are only ever
/// appended, so that ports stay valid in every graph that was derived from theirs.
///
/// Methods take ports of this graph and bindings that fit their variables, and panic for ports of
/// another graph. A graph becomes a function of arrays by [`Computation::new`].
///
/// ```
/// use keops_core::{graph::Category, outer::OuterGraph};
/// let mut g = OuterGraph::default();
/// let x = g.input(0, 3, Category::I);
/// let total = g.sum_rows(x);
/// assert_eq!(g.sum_rows(x), total); // found, not added again
/// assert_eq!(g.to_string(), "#0: Vi(3) = input 0\n#1: Pm(3) = sum of rows of #0\n");
/// ```
#[derive(Clone, Default, Debug)]
pub struct OuterGraph {
    nodes: Vec<OuterNode>,
    ports: Vec<Vec<PortInfo>>,
    /// Inputs that determine the batch shape of a node: equal sets mean equal shapes.
    support: Vec<Arc<BTreeSet<usize>>>,
    index: HashMap<Key, OuterId>,
    /// Nodes of all formulas.
    size: usize,
    full: bool,
    /// Does a function need as many rows of i as of j?
    square: bool,
}

impl OuterGraph {
    /// The node. Panics if it is none of this graph.
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::{OuterGraph, OuterNode}};
    /// let mut g = OuterGraph::default();
    /// let x = g.input(0, 3, Category::I);
    /// assert!(matches!(g.node(x.node), OuterNode::Input { slot: 0, dim: 3, .. }));
    /// ```
    pub fn node(&self, id: OuterId) -> &OuterNode {
        &self.nodes[id.0 as usize]
    }
    /// Number of nodes.
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// g.input(0, 3, Category::I);
    /// g.input(1, 3, Category::J);
    /// g.input(0, 3, Category::I); // the same
    /// assert_eq!(g.len(), 2);
    /// ```
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    /// Has it no node?
    ///
    /// ```
    /// use keops_core::outer::OuterGraph;
    /// assert!(OuterGraph::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
    /// Do its formulas have more than [`MAX_NODES`] nodes together? Every node of the computation
    /// counts as 16 more. [`Computation::new`] and derivatives refuse a full graph.
    ///
    /// ```
    /// use keops_core::graph::{Category, MAX_NODES};
    /// use keops_core::outer::{Computation, OuterGraph};
    /// let mut g = OuterGraph::default();
    /// (0..=MAX_NODES / 16).for_each(|slot| _ = g.input(slot, 1, Category::I));
    /// assert!(g.is_full());
    /// assert!(Computation::new(g, vec![], vec![]).unwrap_err().to_string().contains("nodes"));
    /// ```
    pub fn is_full(&self) -> bool {
        self.full
    }
    pub(crate) fn is_square(&self) -> bool {
        self.square
    }
    /// What a port carries. Panics if it is none of this graph.
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// let weights = g.input(0, 7, Category::Param);
    /// assert_eq!((g.info(weights).dim, g.info(weights).category), (7, Category::Param));
    /// ```
    pub fn info(&self, port: Port) -> PortInfo {
        self.ports[port.node.0 as usize][port.output as usize]
    }
    /// The results of a node: one, or two for a reduction that gives values and indices.
    ///
    /// ```
    /// use keops_core::outer::Computation;
    /// # use keops_core::{parse::parse_formula, reduce::MAX_ARG_MAX, spec::Axis};
    /// let f = parse_formula("x * y", None, &["x = Vi(2)", "y = Vj(2)"])?;
    /// let c = Computation::reduction(f, &MAX_ARG_MAX, 1, Axis::J)?;
    /// let ports = c.graph().ports(c.outputs()[0].port.node);
    /// assert_eq!([ports[0].index, ports[1].index], [false, true]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn ports(&self, id: OuterId) -> &[PortInfo] {
        &self.ports[id.0 as usize]
    }
    /// Inputs that determine the batch shape of a node.
    pub(crate) fn support(&self, id: OuterId) -> &Arc<BTreeSet<usize>> {
        &self.support[id.0 as usize]
    }
    /// Nodes whose values `roots` need, operands first.
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// let (x, unused) = (g.input(0, 2, Category::I), g.input(1, 2, Category::I));
    /// let total = g.sum_rows(x);
    /// assert_eq!(g.live(&[total]), [x.node, total.node]);
    /// assert!(!g.live(&[total]).contains(&unused.node));
    /// ```
    pub fn live(&self, roots: &[Port]) -> Vec<OuterId> {
        self.live_until(roots, &|_| false)
    }
    /// The same, without the operands of nodes where it stops.
    pub(crate) fn live_until(
        &self,
        roots: &[Port],
        stop: &dyn Fn(OuterId) -> bool,
    ) -> Vec<OuterId> {
        let Some(top) = roots.iter().map(|p| p.node.0 as usize).max() else { return vec![] };
        let mut mark = vec![false; top + 1];
        for p in roots {
            mark[p.node.0 as usize] = true;
        }
        for k in (0..=top).rev() {
            if mark[k] && !stop(OuterId(k as u32)) {
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
            OuterNode::Scatter(s) => vec![port(s.dim, Category::Param, false)],
            OuterNode::RowIndex { at } => vec![port(1, self.info(at.index).category, false)],
            OuterNode::Rebatch { x, .. } => vec![self.info(*x)],
            OuterNode::Apply(a) => a.results.clone(),
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
            | OuterNode::RowMap(RowMap { graph, .. })
            | OuterNode::Scatter(Scatter { graph, .. }) => {
                self.full |= graph.is_full();
                graph.len()
            }
            _ => 0,
        };
        self.square |= matches!(&node, OuterNode::Apply(a) if a.function.square());
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
    /// Argument number `slot`: `dim` components in each row.
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// let x = g.input(0, 2, Category::I);
    /// assert_eq!(g.input(0, 2, Category::I), x);
    /// assert_ne!(g.input(1, 2, Category::I), x);
    /// ```
    pub fn input(&mut self, slot: usize, dim: usize, category: Category) -> Port {
        self.single(OuterNode::Input { slot, dim, category })
    }
    /// A reduction; its results are ports 0 and, if it has two, 1.
    ///
    /// ```
    /// use keops_core::outer::{Computation, OuterGraph, OuterNode};
    /// # use keops_core::{parse::parse_formula, reduce::MIN_ARG_MIN, spec::Axis};
    /// let f = parse_formula("Abs(x - y)", None, &["x = Vi(1)", "y = Vj(1)"])?;
    /// let c = Computation::reduction(f, &MIN_ARG_MIN, 1, Axis::J)?;
    /// let mut g = c.graph().clone();
    /// let OuterNode::Reduce(nearest) = g.node(c.outputs()[0].port.node) else { unreachable!() };
    /// // The same the other way round: for each y the nearest x, in rows of j.
    /// let back = g.reduce(keops_core::outer::Reduction { axis: Axis::I, ..nearest.clone() });
    /// assert_eq!(g.ports(back).len(), 2);
    /// assert_eq!(g.ports(back)[0].category, Axis::I.kept());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn reduce(&mut self, r: Reduction) -> OuterId {
        self.single(OuterNode::Reduce(r)).node
    }
    /// A formula row by row. Bindings that the formula does not use are dropped.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category, Var};
    /// use keops_core::outer::{OuterGraph, RowMap};
    /// let mut g = OuterGraph::default();
    /// let category = Category::J;
    /// let ports = [g.input(0, 2, category), g.input(1, 2, category)];
    /// let vars = [0, 1].map(|index| Var { index, dim: 2, category });
    /// let b = Builder::default();
    /// let root = b.var(vars[1]).sum().id;
    /// let bindings = vars.into_iter().zip(ports).collect();
    /// let graph = b.into_graph().into();
    /// let sum = g.row_map(RowMap { graph, root, bindings, category, present: None });
    /// assert_eq!(g.node(sum.node).operands(), [ports[1]]);
    /// ```
    pub fn row_map(&mut self, mut m: RowMap) -> Port {
        let used = m.graph.variables(&[m.root]);
        m.bindings.retain(|(v, _)| used.contains(v));
        self.single(OuterNode::RowMap(m))
    }
    /// The rows of `x` added up: `(batch…, rows, dim)` to `(batch…, dim)`.
    ///
    /// ```
    /// use keops_core::data::Element;
    /// use keops_core::graph::Category;
    /// use keops_core::outer::{Computation, InputDef, OuterGraph, OutputDef};
    /// # use keops_core::{interp::Interpreter, spec::Device};
    /// let mut g = OuterGraph::default();
    /// let x = g.input(0, 2, Category::I);
    /// let port = g.sum_rows(x);
    /// let input = InputDef { name: "x".into(), category: Category::I, row: vec![2], like: None };
    /// let c = Computation::new(g, vec![input], vec![OutputDef { port, row: vec![2], like: None }])?;
    /// let x = ndarray::array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
    /// let device = Device::new(Interpreter::new());
    /// let out = c.run(&device, &[f64::erase(x.view().into_dyn())], None)?;
    /// assert_eq!(out[0].to_f64(), ndarray::array![9.0, 12.0].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn sum_rows(&mut self, x: Port) -> Port {
        self.single(OuterNode::SumRows { x })
    }
    /// `out[r] = x[at[r]]`, zeros where the index is -1: see [`OuterNode::GatherRows`]. The result
    /// has the rows of the indices and the dimension of `x`.
    ///
    /// ```
    /// use keops_core::data::Element;
    /// use keops_core::outer::{Computation, OutputDef, Selected};
    /// # use keops_core::{parse::parse_formula, reduce::ARG_MIN, spec::{Axis, Device}};
    /// # use keops_core::{graph::Category, interp::Interpreter};
    /// # use ndarray::array;
    /// // The nearest of y for each x.
    /// let f = parse_formula("SqDist(x, y)", None, &["x = Vi(1)", "y = Vj(1)"])?;
    /// let nearest = Computation::reduction(f, &ARG_MIN, 1, Axis::J)?;
    /// let (mut g, index) = (nearest.graph().clone(), nearest.outputs()[0].port);
    /// let y = g.input(1, 1, Category::J);
    /// let port = g.gather_rows(y, Selected { index, column: 0 });
    /// let outputs = vec![OutputDef { port, row: vec![1], like: None }];
    /// let c = Computation::new(g, nearest.inputs().to_vec(), outputs)?;
    /// let (x, y) = (array![[0.1], [2.9], [0.8]], array![[0.0], [1.0], [3.0]]);
    /// let args = [&x, &y].map(|a| f64::erase(a.view().into_dyn()));
    /// let out = c.run(&Device::new(Interpreter::new()), &args, None)?;
    /// assert_eq!(out[0].to_f64(), array![[0.0], [3.0], [1.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn gather_rows(&mut self, x: Port, at: Selected) -> Port {
        self.single(OuterNode::GatherRows { x, at })
    }
    /// `out[at[r]] += x[r]`, the adjoint of a gather: see [`OuterNode::ScatterAddRows`]. The result
    /// has rows of `category`, to which the indices refer; rows that no index names are 0.
    ///
    /// ```
    /// use keops_core::data::Element;
    /// use keops_core::outer::{Computation, OutputDef, Selected};
    /// # use keops_core::{parse::parse_formula, reduce::ARG_MIN, spec::{Axis, Device}};
    /// # use keops_core::{graph::Category, interp::Interpreter};
    /// # use ndarray::array;
    /// // How many of x are nearest to each y: a one for each x, added where its nearest is.
    /// let f = parse_formula("SqDist(x, y)", None, &["x = Vi(1)", "y = Vj(1)"])?;
    /// let nearest = Computation::reduction(f, &ARG_MIN, 1, Axis::J)?;
    /// let (mut g, index) = (nearest.graph().clone(), nearest.outputs()[0].port);
    /// let one = g.map_rows(Category::I, &[], |b, _| b.lit(1.0));
    /// let port = g.scatter_add_rows(one, Selected { index, column: 0 }, Category::J);
    /// let outputs = vec![OutputDef { port, row: vec![1], like: None }];
    /// let c = Computation::new(g, nearest.inputs().to_vec(), outputs)?;
    /// let (x, y) = (array![[0.1], [-3.0], [0.8]], array![[0.0], [1.0], [3.0]]);
    /// let args = [&x, &y].map(|a| f64::erase(a.view().into_dyn()));
    /// let out = c.run(&Device::new(Interpreter::new()), &args, None)?;
    /// assert_eq!(out[0].to_f64(), array![[2.0], [1.0], [0.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn scatter_add_rows(&mut self, x: Port, at: Selected, category: Category) -> Port {
        self.single(OuterNode::ScatterAddRows { x, at, category })
    }
    /// Values scattered over a table of parameters: see [`Scatter`].
    ///
    /// ```
    /// use keops_core::genred::Genred;
    /// use keops_core::{reduce::SUM, spec::Axis};
    /// use ndarray::array;
    /// // The gradient of look-ups in a table: how often each of 40 entries was looked up.
    /// let sum: Genred = Genred::new("Gather(t, i + y)", ["t = Pm(40)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// let counts = sum.vjp("t")?.call((&ndarray::Array1::zeros(40), &array![[1.0], [7.0], [1.0]], &array![[1.0]]))?;
    /// assert_eq!((counts[[1]], counts[[7]], counts.sum()), (2.0, 1.0, 3.0));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn scatter(&mut self, mut s: Scatter) -> Port {
        let used = s.graph.variables(&[s.index, s.value]);
        s.bindings.retain(|(v, _)| used.contains(v));
        self.single(OuterNode::Scatter(s))
    }
    /// The indices as reals, one in each row: see [`OuterNode::RowIndex`].
    ///
    /// ```
    /// use keops_core::outer::{Computation, Selected};
    /// # use keops_core::{parse::parse_formula, reduce::ARG_MAX, spec::Axis};
    /// let f = parse_formula("x | y", None, &["x = Vi(2)", "y = Vj(2)"])?;
    /// let best = Computation::reduction(f, &ARG_MAX, 1, Axis::I)?; // for each j
    /// let (mut g, index) = (best.graph().clone(), best.outputs()[0].port);
    /// let number = g.row_index(Selected { index, column: 0 });
    /// assert_eq!((g.info(index).index, g.info(number).index), (true, false));
    /// assert_eq!(g.info(number).category, Axis::I.kept());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn row_index(&mut self, at: Selected) -> Port {
        self.single(OuterNode::RowIndex { at })
    }
    /// `x` with the batch shape of `like`, see [`OuterNode::Rebatch`]; `x` itself where both surely
    /// have the same batch shape.
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// let (x, y) = (g.input(0, 2, Category::I), g.input(1, 3, Category::J));
    /// // Arguments may have any batch axes, results have those of what they are made of.
    /// assert_ne!(g.rebatch(x, y), x);
    /// let total = g.sum_rows(x);
    /// assert_eq!(g.rebatch(total, x), total);
    /// ```
    pub fn rebatch(&mut self, x: Port, like: Port) -> Port {
        if self.support(x.node) == self.support(like.node) {
            return x;
        }
        self.single(OuterNode::Rebatch { x, like })
    }
    /// A row map of several values of `category` or parameters; `f` gets one handle for each. The
    /// result has rows of `category` and the dimension of what `f` returns.
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// let (x, scale) = (g.input(0, 3, Category::I), g.input(1, 1, Category::Param));
    /// let square = g.map_rows(Category::I, &[x, scale], |_, v| v[0].dot(v[0]) * v[1]);
    /// assert_eq!((g.info(square).dim, g.info(square).category), (1, Category::I));
    /// ```
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
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// let x = g.input(0, 5, Category::I);
    /// let middle = g.columns(x, 1, 3);
    /// assert_eq!(g.info(middle).dim, 3);
    /// assert_eq!(g.columns(x, 0, 5), x);
    /// ```
    pub fn columns(&mut self, x: Port, start: usize, len: usize) -> Port {
        let info = self.info(x);
        if start == 0 && len == info.dim {
            return x;
        }
        self.map_rows(info.category, &[x], |_, x| x[0].pick(start, 1, len))
    }
    /// The sum of values of one category and dimension (at least one of them).
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// let x: Vec<_> = (0..3).map(|slot| g.input(slot, 2, Category::J)).collect();
    /// let sum = g.add(&x);
    /// assert_eq!(g.info(sum), g.info(x[0]));
    /// assert_eq!(g.node(sum.node).operands(), x);
    /// assert_eq!(g.add(&x[..1]), x[0]);
    /// ```
    pub fn add(&mut self, terms: &[Port]) -> Port {
        self.tree(terms, |_, x| x[1..].iter().fold(x[0], |s, &e| s + e))
    }
    /// Components of values of one category, one after the other (at least one value).
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// let (x, y) = (g.input(0, 2, Category::I), g.input(1, 3, Category::I));
    /// let both = g.concat(&[x, y]);
    /// assert_eq!(g.info(both).dim, 5);
    /// ```
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
    /// Zeros of dimension `dim` with rows of `category`.
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// let z = g.zeros(4, Category::J);
    /// assert_eq!((g.info(z).dim, g.info(z).category), (4, Category::J));
    /// ```
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
    /// nodes changed (not in operands and results); returns where their results went.
    pub(crate) fn import(
        &mut self,
        other: &OuterGraph,
        input: &dyn Fn(usize) -> Option<Port>,
        change: &dyn Fn(&mut OuterNode),
    ) -> impl Fn(Port) -> Port + use<> {
        // Nodes that differ only in their options may become one: places are looked up. Only an
        // input, which has one result, may become a result other than the first of a node.
        let mut place: Vec<Port> = Vec::with_capacity(other.len());
        for node in &other.nodes {
            let mut node = node.clone();
            change(&mut node);
            let moved = |p: &mut Port| *p = at(&place, *p);
            let replaced = match &mut node {
                OuterNode::Input { slot, .. } => input(*slot),
                OuterNode::Reduce(r) => {
                    r.bindings.iter_mut().for_each(|(_, p)| moved(p));
                    None
                }
                OuterNode::RowMap(m) => {
                    m.bindings.iter_mut().for_each(|(_, p)| moved(p));
                    None
                }
                OuterNode::Scatter(s) => {
                    s.bindings.iter_mut().for_each(|(_, p)| moved(p));
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
                OuterNode::Apply(a) => {
                    a.operands.iter_mut().for_each(moved);
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
                OuterNode::Scatter(s) => {
                    let over = s.rows.map_or("pairs".into(), |c| format!("rows of {c:?}"));
                    writeln!(f, "scatter over {over}, {}", bound(&s.bindings))?;
                    write!(f, "{}", indented(&print::nodes(&s.graph, &[s.index, s.value])))?;
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
                OuterNode::Apply(a) => {
                    let of: Vec<String> = a.operands.iter().map(port).collect();
                    writeln!(f, "{}({})", a.function.name(), of.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|l| format!("    {l}\n")).collect()
}

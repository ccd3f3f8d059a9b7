//! The formula graph: hash-consed vector nodes.
//!
//! A node is a vector of known dimension that depends on the row index `i`, on the column index
//! `j`, on both, or on neither. Nodes are never expanded into scalars here: the graph of a formula
//! in dimension 4,096 has as many nodes as in dimension 3. The set of node kinds is closed under
//! differentiation.

mod expression;

pub use expression::{Builder, Ex};

use crate::ops::OpDef;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use std::sync::Arc;

/// Largest dimension of a node.
///
/// ```
/// use keops_core::{graph::MAX_DIM, parse::parse_formula};
/// assert!(parse_formula("x", None, &[&format!("x = Vi({MAX_DIM})")]).is_ok());
/// assert!(parse_formula("x", None, &[&format!("x = Vi({})", MAX_DIM + 1)]).is_err());
/// ```
pub const MAX_DIM: usize = 1 << 20;
/// Most entries of a parameter that is nothing but the table of [`Node::Gather`].
///
/// ```
/// use keops_core::{genred::Genred, graph::MAX_TABLE, reduce::SUM, spec::Axis};
/// let make = |text: &str| -> Result<Genred, _> {
///     Genred::new(text, [format!("t = Pm({MAX_TABLE})"), "k = Vj(1)".into()], &SUM, Axis::J)
/// };
/// assert!(make("Gather(t, k)").is_ok());
/// assert!(make("Sum(t) * k").is_err()); // a vector of at most 2^20 components
/// ```
pub const MAX_TABLE: usize = 1 << 27;
/// Entries of a table up to which indices may be computed in f32: those that are made integers
/// ([`Prim::ToInt`](crate::prim::Prim::ToInt)) have 22 bits. With longer tables, everything is
/// computed in f64.
pub const EXACT_INDEX: usize = 1 << 22;
/// Largest number of nodes of a formula, and of all formulas of a computation together. Derivatives
/// of derivatives grow without bound: whatever is written in a line is refused after about a
/// second at most. With [`MAX_DIM`] and [`crate::parse::MAX_DEPTH`] these are all the limits.
pub const MAX_NODES: usize = 1 << 18;

/// Category of a variable: what its rows are indexed by.
///
/// ```
/// use keops_core::graph::Category;
/// use keops_core::parse::parse_formula;
/// let formula = parse_formula("p * x * y", None, &["p = Pm(1)", "x = Vi(3)", "y = Vj(3)"])?;
/// let categories: Vec<_> = formula.vars.iter().map(|v| v.category).collect();
/// assert_eq!(categories, [Category::Param, Category::I, Category::J]);
/// # Ok::<(), keops_core::error::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Category {
    /// One row for each `i`: `Vi`.
    I,
    /// One row for each `j`: `Vj`.
    J,
    /// One vector for all: `Pm`.
    Param,
}

impl Category {
    /// Dependence of a variable of this category.
    ///
    /// ```
    /// use keops_core::graph::{Category, Dependence};
    /// assert_eq!(Category::J.dependence(), Dependence::J);
    /// assert_eq!(Category::Param.dependence(), Dependence::NONE);
    /// ```
    pub fn dependence(self) -> Dependence {
        match self {
            Category::I => Dependence::I,
            Category::J => Dependence::J,
            Category::Param => Dependence::NONE,
        }
    }
    /// KeOps' name of the category.
    ///
    /// ```
    /// use keops_core::graph::Category::{I, J, Param};
    /// assert_eq!([I, J, Param].map(|c| c.keyword()), ["Vi", "Vj", "Pm"]);
    /// ```
    pub fn keyword(self) -> &'static str {
        match self {
            Category::I => "Vi",
            Category::J => "Vj",
            Category::Param => "Pm",
        }
    }
}

/// Which of the two indices a value depends on.
///
/// ```
/// use keops_core::graph::{Builder, Category, Dependence};
/// let b = Builder::default();
/// let (x, y) = (b.fresh(3, Category::I), b.fresh(3, Category::J));
/// assert_eq!((x + 1.0).dependence(), Dependence::I);
/// assert_eq!((x - y).dependence(), Dependence::IJ);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Dependence(u8);

impl Dependence {
    /// On neither index: constants and parameters.
    pub const NONE: Dependence = Dependence(0);
    /// On `i` only.
    pub const I: Dependence = Dependence(1);
    /// On `j` only.
    pub const J: Dependence = Dependence(2);
    /// On both.
    pub const IJ: Dependence = Dependence(3);
    /// Dependence of a value computed from two.
    ///
    /// ```
    /// use keops_core::graph::Dependence;
    /// assert_eq!(Dependence::I.union(Dependence::J), Dependence::IJ);
    /// assert_eq!(Dependence::I.union(Dependence::NONE), Dependence::I);
    /// ```
    pub fn union(self, other: Dependence) -> Dependence {
        Dependence(self.0 | other.0)
    }
    /// Does everything `self` depends on belong to `other`?
    ///
    /// ```
    /// use keops_core::graph::Dependence;
    /// assert!(Dependence::NONE.within(Dependence::I) && Dependence::I.within(Dependence::IJ));
    /// assert!(!Dependence::IJ.within(Dependence::I));
    /// ```
    pub fn within(self, other: Dependence) -> bool {
        self.0 & !other.0 == 0
    }
}

/// Position of a node in its graph. Arguments always come before their users.
///
/// ```
/// use keops_core::graph::{Graph, Node, NodeId};
/// let mut graph = Graph::default();
/// assert_eq!(graph.intern(Node::Iota(3)), NodeId(0));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u32);

/// A variable of a formula.
///
/// ```
/// use keops_core::graph::{Builder, Category, Var};
/// let b = Builder::default();
/// let x = b.var(Var { index: 0, dim: 3, category: Category::I });
/// assert_eq!(x.dim(), 3);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Var {
    /// Identity of the variable within a formula.
    pub index: u32,
    /// Components.
    pub dim: usize,
    /// What its rows are indexed by.
    pub category: Category,
}

/// Reduction over the components of a vector.
///
/// ```
/// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
/// let x = LazyTensor::<f64, Reference>::vi(ndarray::array![[3.0, f64::NAN, 1.0]]);
/// // `min_components` is the fold `Min`, `argmin_components` the fold `ArgMin`.
/// assert_eq!(x.min_components().sum(Axis::J)?, ndarray::array![[1.0]].into_dyn());
/// assert_eq!(x.argmin_components().sum(Axis::J)?, ndarray::array![[2.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FoldOp {
    /// Smallest component; NaN never wins, all NaN gives +inf.
    Min,
    /// Largest component; NaN never wins, all NaN gives -inf.
    Max,
    /// Position of the first smallest component, as a real.
    ArgMin,
    /// Position of the first largest component, as a real.
    ArgMax,
}

/// One operand of a [`Node::Contract`]: a node, row-major over these index labels.
///
/// ```
/// use keops_core::graph::{Graph, Node, Operand};
/// // The outer product of 0 1 2 and 0 1: out_kl = x_k y_l.
/// let mut graph = Graph::default();
/// let (x, y) = (graph.intern(Node::Iota(3)), graph.intern(Node::Iota(2)));
/// let operands = vec![Operand { node: x, axes: vec![0] }, Operand { node: y, axes: vec![1] }];
/// let outer = graph.intern(Node::Contract { extents: vec![3, 2], operands, out: vec![0, 1] });
/// assert_eq!(graph.dim(outer), 6);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Operand {
    /// The node.
    pub node: NodeId,
    /// Labels of its axes, into `extents`.
    pub axes: Vec<u8>,
}

/// A node.
///
/// ```
/// use keops_core::{graph::Node, parse::parse_formula};
/// let f = parse_formula("Extract(x, 1, 2)", None, &["x = Vi(3)"])?;
/// let Node::Pick { x, start, step, len } = f.graph.node(f.root) else { unreachable!() };
/// assert_eq!((*start, *step, *len), (1, 1, 2));
/// assert!(matches!(f.graph.node(*x), Node::Var(v) if v.dim == 3));
/// # Ok::<(), keops_core::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Node {
    /// A variable.
    Var(Var),
    /// A constant (bits of an f64), of dimension 1.
    Const(u64),
    /// The row index `i` or the column index `j` itself, of dimension 1, exact.
    Index(Category),
    /// `0, 1, …, dim - 1`.
    Iota(usize),
    /// An element-wise operation; operands of dimension 1 broadcast.
    Map {
        /// Operation.
        op: &'static OpDef,
        /// Operands.
        args: Vec<NodeId>,
    },
    /// A generalised product, as `einsum`: the sum over all labels that are not in `out` of the
    /// products of the operands with such labels, multiplied from left to right; the product of
    /// the other operands multiplies the sum.
    Contract {
        /// Extent of every label.
        extents: Vec<usize>,
        /// Operands.
        operands: Vec<Operand>,
        /// Labels of the result, row-major.
        out: Vec<u8>,
    },
    /// `x[start + k * step]` for `k < len`.
    Pick {
        /// Source.
        x: NodeId,
        /// First component.
        start: usize,
        /// Distance of components.
        step: usize,
        /// Number of components.
        len: usize,
    },
    /// Adjoint of [`Node::Pick`]: zeros of dimension `dim` with `out[start + k * step] = x[k]`.
    Put {
        /// Source.
        x: NodeId,
        /// First component.
        start: usize,
        /// Distance of components.
        step: usize,
        /// Dimension of the result.
        dim: usize,
    },
    /// The operands one after the other.
    Concat(Vec<NodeId>),
    /// Reduction over components, of dimension 1.
    Fold {
        /// Which.
        op: FoldOp,
        /// Source.
        x: NodeId,
    },
    /// `table[index[k]]`: entries of a parameter vector; NaN where the rounded index is out of
    /// range or not a number.
    Gather {
        /// A node that depends on no index.
        table: NodeId,
        /// Integer-valued reals.
        index: NodeId,
    },
}

/// Hash-consed nodes: structurally equal nodes are one node.
///
/// ```
/// use keops_core::parse::parse_formula;
/// // `x - y` occurs twice and is one node: x, y, their difference, two functions and the product.
/// let f = parse_formula("Exp(x - y) * Sin(x - y)", None, &["x = Vi(3)", "y = Vj(3)"])?;
/// assert_eq!((f.graph.len(), f.graph.dim(f.root)), (6, 3));
/// # Ok::<(), keops_core::error::ParseError>(())
/// ```
#[derive(Clone, Default, Debug)]
pub struct Graph {
    /// Shared with the graphs that were made from this one.
    nodes: Vec<Arc<Node>>,
    info: Vec<(u32, Dependence)>,
    /// Places of nodes, by their hashes.
    index: HashTable<NodeId>,
    hasher: DefaultHashBuilder,
    full: bool,
}

impl Graph {
    /// Adds a node, or finds it. The caller has checked dimensions.
    ///
    /// Beyond [`MAX_NODES`] nothing is added but placeholders of the right dimension, and the graph
    /// [is full](Graph::is_full): rules need not fail, and whoever hands out a formula checks once.
    ///
    /// ```
    /// use keops_core::graph::{Graph, Node};
    /// let mut graph = Graph::default();
    /// let (a, b) = (graph.intern(Node::Iota(3)), graph.intern(Node::Iota(3)));
    /// assert_eq!((a, graph.len()), (b, 1)); // found
    /// ```
    pub fn intern(&mut self, mut node: Node) -> NodeId {
        let mut hash = self.hasher.hash_one(&node);
        if let Some(id) = self.find(hash, &node) {
            return id;
        }
        let dim = self.node_dim(&node);
        if self.nodes.len() >= MAX_NODES {
            self.full = true;
            node = Node::Iota(dim);
            hash = self.hasher.hash_one(&node);
            if let Some(id) = self.find(hash, &node) {
                return id;
            }
        }
        let mut dependence = match &node {
            Node::Var(v) => v.category.dependence(),
            Node::Index(c) => c.dependence(),
            _ => Dependence::NONE,
        };
        for_each_arg(&node, |a| dependence = dependence.union(self.dependence(a)));
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Arc::new(node));
        self.info.push((dim as u32, dependence));
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.index.insert_unique(hash, id, |id| hasher.hash_one(&*nodes[id.0 as usize]));
        id
    }
    fn find(&self, hash: u64, node: &Node) -> Option<NodeId> {
        self.index.find(hash, |id| *self.nodes[id.0 as usize] == *node).copied()
    }
    fn node_dim(&self, node: &Node) -> usize {
        match node {
            Node::Var(v) => v.dim,
            Node::Const(_) | Node::Index(_) | Node::Fold { .. } => 1,
            Node::Iota(d) => *d,
            Node::Map { args, .. } => args.iter().map(|&a| self.dim(a)).max().unwrap_or(1),
            Node::Contract { extents, out, .. } => {
                out.iter().map(|&l| extents[l as usize]).product()
            }
            Node::Pick { len, .. } => *len,
            Node::Put { dim, .. } => *dim,
            Node::Concat(parts) => parts.iter().map(|&p| self.dim(p)).sum(),
            Node::Gather { index, .. } => self.dim(*index),
        }
    }
    /// The node at `id`.
    ///
    /// ```
    /// use keops_core::graph::{Graph, Node};
    /// let mut graph = Graph::default();
    /// let id = graph.intern(Node::Iota(3));
    /// assert_eq!(graph.node(id), &Node::Iota(3));
    /// ```
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }
    /// Number of components of a node.
    ///
    /// ```
    /// use keops_core::parse::parse_formula;
    /// let f = parse_formula("TensorProd(x, x)", None, &["x = Vi(3)"])?;
    /// assert_eq!(f.graph.dim(f.root), 9);
    /// # Ok::<(), keops_core::error::ParseError>(())
    /// ```
    pub fn dim(&self, id: NodeId) -> usize {
        self.info[id.0 as usize].0 as usize
    }
    /// What a node depends on.
    ///
    /// ```
    /// use keops_core::{graph::Dependence, parse::parse_formula};
    /// let f = parse_formula("p * Exp(y)", None, &["p = Pm(1)", "y = Vj(1)"])?;
    /// assert_eq!(f.graph.dependence(f.root), Dependence::J);
    /// # Ok::<(), keops_core::error::ParseError>(())
    /// ```
    pub fn dependence(&self, id: NodeId) -> Dependence {
        self.info[id.0 as usize].1
    }
    /// Among what these nodes are made of, one of more than `most` components that is not just a
    /// parameter and the table of [`Node::Gather`].
    pub(crate) fn too_long(&self, roots: &[NodeId], most: usize) -> Option<NodeId> {
        let long = |id: NodeId| self.dim(id) > most;
        let parameter = |id| matches!(self.node(id), Node::Var(v) if v.category == Category::Param);
        let used = |id: NodeId| {
            let (node, mut found) = (self.node(id), None);
            for_each_arg(node, |a| {
                let table =
                    matches!(node, Node::Gather { table, index } if *table == a && *index != a);
                if long(a) && !(table && parameter(a)) {
                    found = Some(a);
                }
            });
            found
        };
        let root = roots.iter().copied().find(|&id| long(id));
        root.or_else(|| self.live(roots).into_iter().find_map(used))
    }
    /// Number of nodes.
    ///
    /// ```
    /// use keops_core::parse::parse_formula;
    /// let f = parse_formula("x + x + x", None, &["x = Vi(3)"])?;
    /// assert_eq!(f.graph.len(), 3); // x, x + x, and the sum of both
    /// # Ok::<(), keops_core::error::ParseError>(())
    /// ```
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    /// The same formulas with concatenations of concatenations as one, where nothing else uses the inner
    /// ones; `None` if there are none.
    pub(crate) fn flat(&self, roots: &[NodeId]) -> Option<(Graph, Vec<NodeId>)> {
        let live = self.live(roots);
        let top = live.last()?.0 as usize + 1;
        let mut uses = vec![0u8; top];
        let mut used = |a: NodeId, by: u8| {
            let all = &mut uses[a.0 as usize];
            *all = all.saturating_add(by);
        };
        roots.iter().for_each(|&r| used(r, 2));
        for &id in &live {
            let by = if matches!(self.node(id), Node::Concat(_)) { 1 } else { 2 };
            for_each_arg(self.node(id), |a| used(a, by));
        }
        let inner = |id: NodeId| match self.node(id) {
            Node::Concat(parts) if uses[id.0 as usize] == 1 => Some(parts),
            _ => None,
        };
        if !live.iter().any(|&id| inner(id).is_some()) {
            return None;
        }
        let mut flat = Graph { full: self.full, ..Graph::default() };
        let mut place = vec![NodeId(0); top];
        for id in live {
            let node = match self.node(id) {
                Node::Concat(_) if inner(id).is_some() => continue,
                Node::Concat(parts) => {
                    let (mut rest, mut all) = (vec![parts.iter()], vec![]);
                    while let Some(open) = rest.last_mut() {
                        match open.next() {
                            None => drop(rest.pop()),
                            Some(&part) => match inner(part) {
                                Some(parts) => rest.push(parts.iter()),
                                None => all.push(place[part.0 as usize]),
                            },
                        }
                    }
                    Node::Concat(all)
                }
                node => {
                    let mut node = node.clone();
                    map_args(&mut node, |a| place[a.0 as usize]);
                    node
                }
            };
            place[id.0 as usize] = flat.intern(node);
        }
        Some((flat, roots.iter().map(|r| place[r.0 as usize]).collect()))
    }
    /// Memory that it takes, about; nodes may be shared with other graphs.
    pub(crate) fn bytes(&self) -> usize {
        let lists = |node: &Node| match node {
            Node::Map { args, .. } | Node::Concat(args) => size_of::<NodeId>() * args.len(),
            Node::Contract { extents, operands, out } => {
                let axes = operands.iter().map(|o| size_of::<Operand>() + o.axes.len());
                size_of::<usize>() * extents.len() + axes.sum::<usize>() + out.len()
            }
            _ => 0,
        };
        // A node with its counts, its place in three tables, and the slack of allocations.
        let node = size_of::<Node>() + 96;
        self.nodes.iter().map(|n| node + lists(n)).sum()
    }
    /// Has it no node?
    ///
    /// ```
    /// assert!(keops_core::graph::Graph::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
    /// Has it, or a graph that it was made from, met more than [`MAX_NODES`] nodes? Then its
    /// formulas are not what they were meant to be.
    ///
    /// ```
    /// use keops_core::graph::{Builder, MAX_NODES};
    /// let b = Builder::default();
    /// for k in 0..=MAX_NODES {
    ///     b.lit(k as f64);
    /// }
    /// assert!(b.graph().is_full());
    /// ```
    pub fn is_full(&self) -> bool {
        self.full
    }
    /// The value of a constant node.
    ///
    /// ```
    /// use keops_core::parse::parse_formula;
    /// let f = parse_formula("2 + 3 * 4", None, &[])?;
    /// assert_eq!(f.graph.constant(f.root), Some(14.0)); // constants are folded
    /// # Ok::<(), keops_core::error::ParseError>(())
    /// ```
    pub fn constant(&self, id: NodeId) -> Option<f64> {
        match self.node(id) {
            Node::Const(bits) => Some(f64::from_bits(*bits)),
            _ => None,
        }
    }
    /// Nodes that `roots` need, in topological order.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// let (x, y) = (b.fresh(1, Category::I), b.fresh(1, Category::J));
    /// let (sum, product) = (x + y, x * x);
    /// let graph = b.graph();
    /// assert_eq!(graph.live(&[product.id]), [x.id, product.id]); // not y, not the sum
    /// assert_eq!(graph.live(&[product.id, sum.id]).len(), 4);
    /// ```
    pub fn live(&self, roots: &[NodeId]) -> Vec<NodeId> {
        let Some(top) = roots.iter().map(|r| r.0 as usize).max() else { return vec![] };
        let mut mark = vec![false; top + 1];
        for r in roots {
            mark[r.0 as usize] = true;
        }
        for k in (0..=top).rev() {
            if mark[k] {
                for_each_arg(&self.nodes[k], |a| mark[a.0 as usize] = true);
            }
        }
        (0..=top).filter(|&k| mark[k]).map(|k| NodeId(k as u32)).collect()
    }
    /// Variables that `roots` need, by index.
    ///
    /// ```
    /// use keops_core::parse::parse_formula;
    /// let f = parse_formula("y * 2", None, &["x = Vi(1)", "y = Vj(3)"])?;
    /// assert_eq!(f.graph.variables(&[f.root]), [f.vars[1]]);
    /// # Ok::<(), keops_core::error::ParseError>(())
    /// ```
    pub fn variables(&self, roots: &[NodeId]) -> Vec<Var> {
        let mut vars: Vec<Var> = self
            .live(roots)
            .iter()
            .filter_map(|&id| if let Node::Var(v) = self.node(id) { Some(*v) } else { None })
            .collect();
        vars.sort();
        vars
    }
    /// Copies what `roots` of `other` need into `self`, with variables replaced by `var`
    /// (`None` keeps them); returns the new places of the roots.
    ///
    /// ```
    /// use keops_core::graph::{Category, Graph, Node, Var};
    /// use keops_core::{parse::parse_formula, print};
    /// let f = parse_formula("Exp(x)", None, &["x = Vi(3)"])?;
    /// // exp(x) with x a parameter.
    /// let mut graph = Graph::default();
    /// let p = graph.intern(Node::Var(Var { index: 0, dim: 3, category: Category::Param }));
    /// let root = graph.import(&f.graph, &[f.root], |_, _| Some(p))[0];
    /// assert_eq!(print::nodes(&graph, &[root]), "%0: 3 = Pm(0, 3)\n%1: 3 = Exp %0\nroot %1\n");
    /// # Ok::<(), keops_core::error::ParseError>(())
    /// ```
    pub fn import(
        &mut self,
        other: &Graph,
        roots: &[NodeId],
        mut var: impl FnMut(&mut Graph, Var) -> Option<NodeId>,
    ) -> Vec<NodeId> {
        self.import_nodes(other, roots, |g, node| match node {
            Node::Var(v) => var(g, *v),
            _ => None,
        })
    }
    /// As [`Graph::import`], with any nodes replaced.
    ///
    /// ```
    /// use keops_core::graph::{Graph, Node};
    /// use keops_core::parse::parse_formula;
    /// // Other constants: 2 becomes 3.
    /// let f = parse_formula("x * 2", None, &["x = Vi(1)"])?;
    /// let mut graph = Graph::default();
    /// let root = graph.import_nodes(&f.graph, &[f.root], |g, node| match node {
    ///     Node::Const(_) => Some(g.intern(Node::Const(3f64.to_bits()))),
    ///     _ => None,
    /// })[0];
    /// let other = parse_formula("x * 3", None, &["x = Vi(1)"])?;
    /// assert_eq!(graph.node(root), other.graph.node(other.root));
    /// # Ok::<(), keops_core::error::ParseError>(())
    /// ```
    pub fn import_nodes(
        &mut self,
        other: &Graph,
        roots: &[NodeId],
        mut replace: impl FnMut(&mut Graph, &Node) -> Option<NodeId>,
    ) -> Vec<NodeId> {
        self.full |= other.full;
        let live = other.live(roots);
        // Only places of live nodes are read, and arguments are live before their users.
        let mut place = vec![NodeId(0); live.last().map_or(0, |id| id.0 as usize + 1)];
        for id in live {
            let new = replace(self, other.node(id)).unwrap_or_else(|| {
                let mut node = other.node(id).clone();
                map_args(&mut node, |a| place[a.0 as usize]);
                self.intern(node)
            });
            place[id.0 as usize] = new;
        }
        roots.iter().map(|r| place[r.0 as usize]).collect()
    }
}

/// Calls `f` with every argument of a node.
///
/// ```
/// use keops_core::graph::{Builder, Category, for_each_arg};
/// let b = Builder::default();
/// let (x, y) = (b.fresh(2, Category::I), b.fresh(2, Category::J));
/// let (z, mut args) = (x + y, vec![]);
/// for_each_arg(b.graph().node(z.id), |a| args.push(a));
/// assert_eq!(args, [x.id, y.id]);
/// ```
pub fn for_each_arg(node: &Node, mut f: impl FnMut(NodeId)) {
    match node {
        Node::Var(_) | Node::Const(_) | Node::Index(_) | Node::Iota(_) => {}
        Node::Map { args, .. } => args.iter().for_each(|&a| f(a)),
        Node::Contract { operands, .. } => operands.iter().for_each(|o| f(o.node)),
        Node::Pick { x, .. } | Node::Put { x, .. } | Node::Fold { x, .. } => f(*x),
        Node::Concat(parts) => parts.iter().for_each(|&p| f(p)),
        Node::Gather { table, index } => {
            f(*table);
            f(*index);
        }
    }
}

/// Replaces every operand of a node.
pub(crate) fn map_args(node: &mut Node, mut f: impl FnMut(NodeId) -> NodeId) {
    match node {
        Node::Var(_) | Node::Const(_) | Node::Index(_) | Node::Iota(_) => {}
        Node::Map { args, .. } => args.iter_mut().for_each(|a| *a = f(*a)),
        Node::Contract { operands, .. } => operands.iter_mut().for_each(|o| o.node = f(o.node)),
        Node::Pick { x, .. } | Node::Put { x, .. } | Node::Fold { x, .. } => *x = f(*x),
        Node::Concat(parts) => parts.iter_mut().for_each(|p| *p = f(*p)),
        Node::Gather { table, index } => {
            *table = f(*table);
            *index = f(*index);
        }
    }
}

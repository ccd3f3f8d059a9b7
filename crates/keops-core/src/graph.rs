//! The formula graph: hash-consed vector nodes.
//!
//! A node is a vector of known dimension that depends on the row index `i`, on the column index
//! `j`, on both, or on neither. Nodes are never expanded into scalars here: the graph of a formula
//! in dimension 4,096 has as many nodes as in dimension 3. The set of node kinds is closed under
//! differentiation.

use crate::error::DimError;
use crate::ops::OpDef;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::cell::RefCell;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Largest dimension of a node.
pub const MAX_DIM: usize = 1 << 20;
/// Largest number of nodes of a formula, and of all formulas of a computation together. Derivatives
/// of derivatives grow without bound: whatever is written in a line is refused after about a
/// second at most. With [`MAX_DIM`] and [`crate::parse::MAX_DEPTH`] these are all the limits.
pub const MAX_NODES: usize = 1 << 18;

/// Category of a variable: what its rows are indexed by.
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
    pub fn dependence(self) -> Dependence {
        match self {
            Category::I => Dependence::I,
            Category::J => Dependence::J,
            Category::Param => Dependence::NONE,
        }
    }
    /// KeOps' name of the category.
    pub fn keyword(self) -> &'static str {
        match self {
            Category::I => "Vi",
            Category::J => "Vj",
            Category::Param => "Pm",
        }
    }
}

/// Which of the two indices a value depends on.
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
    pub fn union(self, other: Dependence) -> Dependence {
        Dependence(self.0 | other.0)
    }
    /// Does everything `self` depends on belong to `other`?
    pub fn within(self, other: Dependence) -> bool {
        self.0 & !other.0 == 0
    }
}

/// Position of a node in its graph. Arguments always come before their users.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u32);

/// A variable of a formula.
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
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Operand {
    /// The node.
    pub node: NodeId,
    /// Labels of its axes, into `extents`.
    pub axes: Vec<u8>,
}

/// A node.
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
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }
    /// Number of components of a node.
    pub fn dim(&self, id: NodeId) -> usize {
        self.info[id.0 as usize].0 as usize
    }
    /// What a node depends on.
    pub fn dependence(&self, id: NodeId) -> Dependence {
        self.info[id.0 as usize].1
    }
    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    /// Has it no node?
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
    /// Has it, or a graph that it was made from, met more than [`MAX_NODES`] nodes? Then its
    /// formulas are not what they were meant to be.
    pub fn is_full(&self) -> bool {
        self.full
    }
    /// The value of a constant node.
    pub fn constant(&self, id: NodeId) -> Option<f64> {
        match self.node(id) {
            Node::Const(bits) => Some(f64::from_bits(*bits)),
            _ => None,
        }
    }
    /// Nodes that `roots` need, in topological order.
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

/// A graph under construction; [`Ex`] handles refer to it.
#[derive(Default, Debug)]
pub struct Builder(RefCell<Graph>);

impl Builder {
    /// Continues an existing graph.
    pub fn from_graph(graph: Graph) -> Self {
        Builder(RefCell::new(graph))
    }
    /// The finished graph.
    pub fn into_graph(self) -> Graph {
        self.0.into_inner()
    }
    /// Read access.
    pub fn graph(&self) -> std::cell::Ref<'_, Graph> {
        self.0.borrow()
    }
    /// Handle of a node.
    pub fn ex(&self, id: NodeId) -> Ex<'_> {
        Ex { b: self, id }
    }
    /// Adds a node.
    pub fn node(&self, node: Node) -> Ex<'_> {
        let id = self.0.borrow_mut().intern(node);
        Ex { b: self, id }
    }
    /// A variable.
    pub fn var(&self, var: Var) -> Ex<'_> {
        self.node(Node::Var(var))
    }
    /// A constant of dimension 1.
    pub fn lit(&self, v: f64) -> Ex<'_> {
        self.node(Node::Const(v.to_bits()))
    }
    /// A variable with an index that nobody uses yet.
    pub fn fresh(&self, dim: usize, category: Category) -> Ex<'_> {
        let index = self
            .0
            .borrow()
            .nodes
            .iter()
            .filter_map(|n| if let Node::Var(v) = &**n { Some(v.index + 1) } else { None })
            .max()
            .unwrap_or(0);
        self.var(Var { index, dim, category })
    }
    /// Imports a formula of another graph.
    pub fn import(&self, other: &Graph, root: NodeId) -> Ex<'_> {
        let id = self.0.borrow_mut().import(other, &[root], |_, _| None)[0];
        Ex { b: self, id }
    }
    /// Imports a formula with some variables replaced.
    pub fn import_with(
        &self,
        other: &Graph,
        root: NodeId,
        replace: impl Fn(Var) -> Option<NodeId>,
    ) -> Ex<'_> {
        let id = self.0.borrow_mut().import(other, &[root], |_, v| replace(v))[0];
        Ex { b: self, id }
    }
}

/// A node of a graph under construction, with operators, so that rules read as mathematics.
///
/// Operators broadcast dimension 1 and expect operands that were checked: they are for the rules
/// of this crate. User input goes through [`Ex::map`] and the composites, which return errors.
#[derive(Clone, Copy, Debug)]
pub struct Ex<'g> {
    /// The graph.
    pub b: &'g Builder,
    /// The node.
    pub id: NodeId,
}

impl<'g> Ex<'g> {
    /// Dimension.
    pub fn dim(self) -> usize {
        self.b.graph().dim(self.id)
    }
    /// Dependence.
    pub fn dependence(self) -> Dependence {
        self.b.graph().dependence(self.id)
    }
    /// Value if it is a constant.
    pub fn constant(self) -> Option<f64> {
        self.b.graph().constant(self.id)
    }
    /// A constant of the same graph.
    pub fn lit(self, v: f64) -> Ex<'g> {
        self.b.lit(v)
    }
    /// An element-wise operation on checked operands, simplified.
    pub fn apply(op: &'static OpDef, args: &[Ex<'g>]) -> Ex<'g> {
        debug_assert_eq!(args.len(), op.arity, "{}: wrong number of operands", op.name);
        let b = args[0].b;
        if let Some(c) = args.iter().map(|a| a.constant()).collect::<Option<Vec<_>>>() {
            let v = (op.value.f64)(&c);
            // A constant that would be NaN keeps its formula, for the message and the sign of it.
            if !v.is_nan() {
                return b.lit(v);
            }
        }
        if let Some(e) = (op.simplify)(args) {
            return e;
        }
        b.node(Node::Map { op, args: args.iter().map(|a| a.id).collect() })
    }
    /// An element-wise operation; an error if dimensions neither agree nor are 1.
    pub fn map(op: &'static OpDef, args: &[Ex<'g>]) -> Result<Ex<'g>, DimError> {
        if args.len() != op.arity {
            return Err(DimError::new(op.name, format!("{} operands", op.arity), args.len()));
        }
        let d = args.iter().map(|a| a.dim()).max().unwrap_or(1);
        if args.iter().any(|a| a.dim() != 1 && a.dim() != d) {
            let dims: Vec<_> = args.iter().map(|a| a.dim()).collect();
            return Err(DimError::new(
                op.name,
                "operands of one dimension (or of dimension 1)",
                format!("dimensions {dims:?}"),
            ));
        }
        Ok(Self::apply(op, args))
    }
    /// A one-operand operation.
    pub fn un(self, op: &'static OpDef) -> Ex<'g> {
        Self::apply(op, &[self])
    }
    /// Sum of components, dimension 1.
    pub fn sum(self) -> Ex<'g> {
        let d = self.dim();
        if d == 1 {
            return self;
        }
        self.contract(vec![d], &[(self, &[0])], &[])
    }
    /// Scalar product; a factor of dimension 1 multiplies the sum of the other.
    pub fn dot(self, other: Ex<'g>) -> Ex<'g> {
        match (self.dim(), other.dim()) {
            (1, 1) => self * other,
            (1, _) => self * other.sum(),
            (_, 1) => self.sum() * other,
            (d, _) => self.contract(vec![d], &[(self, &[0]), (other, &[0])], &[]),
        }
    }
    /// A scalar repeated `d` times.
    pub fn broadcast(self, d: usize) -> Ex<'g> {
        if self.dim() == d { self } else { self.contract(vec![d], &[(self, &[])], &[0]) }
    }
    /// A generalised product, see [`Node::Contract`].
    pub fn contract(self, extents: Vec<usize>, operands: &[(Ex<'g>, &[u8])], out: &[u8]) -> Ex<'g> {
        let operands =
            operands.iter().map(|(e, a)| Operand { node: e.id, axes: a.to_vec() }).collect();
        crate::simplify::contract(self.b, extents, operands, out.to_vec())
    }
    /// Components `start, start + step, …`, `len` of them.
    pub fn pick(self, start: usize, step: usize, len: usize) -> Ex<'g> {
        crate::simplify::pick(self, start, step, len)
    }
    /// Adjoint of [`Ex::pick`] into dimension `dim`.
    pub fn put(self, start: usize, step: usize, dim: usize) -> Ex<'g> {
        if self.dim() == dim && start == 0 {
            return self;
        }
        let step = if self.dim() == 1 { 1 } else { step };
        self.b.node(Node::Put { x: self.id, start, step, dim })
    }
    /// Operands one after the other.
    pub fn concat(parts: &[Ex<'g>]) -> Ex<'g> {
        if parts.len() == 1 {
            return parts[0];
        }
        parts[0].b.node(Node::Concat(parts.iter().map(|p| p.id).collect()))
    }
    /// Reduction over components.
    pub fn fold(self, op: FoldOp) -> Ex<'g> {
        self.b.node(Node::Fold { op, x: self.id })
    }
    /// `0, 1, …, d - 1`
    pub fn iota(self, d: usize) -> Ex<'g> {
        self.b.node(Node::Iota(d))
    }
    /// Entries of a table, `self` being the index.
    pub fn gather(self, table: Ex<'g>) -> Ex<'g> {
        self.b.node(Node::Gather { table: table.id, index: self.id })
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $op:ident) => {
        impl<'g> std::ops::$trait for Ex<'g> {
            type Output = Ex<'g>;
            fn $method(self, o: Ex<'g>) -> Ex<'g> {
                Ex::apply(&crate::ops::$op, &[self, o])
            }
        }
        impl<'g> std::ops::$trait<f64> for Ex<'g> {
            type Output = Ex<'g>;
            fn $method(self, o: f64) -> Ex<'g> {
                Ex::apply(&crate::ops::$op, &[self, self.lit(o)])
            }
        }
    };
}
operator!(Add, add, ADD);
operator!(Sub, sub, SUBTRACT);
operator!(Mul, mul, MULT);
operator!(Div, div, DIVIDE);
impl<'g> std::ops::Neg for Ex<'g> {
    type Output = Ex<'g>;
    fn neg(self) -> Ex<'g> {
        self.un(&crate::ops::MINUS)
    }
}

//! Graphs under construction, and their nodes as expressions.

use super::{Category, Dependence, FoldOp, Graph, Node, NodeId, Operand, Var};
use crate::error::DimError;
use crate::ops::{IF_ELSE, OpDef, When};
use std::cell::RefCell;

/// A graph under construction; [`Ex`] handles refer to it.
///
/// ```
/// use keops_core::genred::Genred;
/// use keops_core::graph::{Builder, Category};
/// use keops_core::{outer::Formula, reduce::SUM, spec::Axis};
/// use ndarray::array;
/// let b = Builder::default();
/// let (x, y) = (b.fresh(2, Category::I), b.fresh(2, Category::J));
/// let root = (x - y).dot(x - y).id; // |x - y|²
/// let vars = b.graph().variables(&[root]);
/// let names = vec!["x".into(), "y".into()];
/// let formula = Formula { graph: b.into_graph().into(), root, weight: None, vars, names };
/// let sum: Genred = Genred::from_formula(formula, &SUM, Axis::J)?;
/// let out = sum.call((&array![[1.0, 2.0]], &array![[4.0, 6.0], [1.0, 2.0]]))?;
/// assert_eq!(out, array![[25.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Default, Debug)]
pub struct Builder(RefCell<Graph>);

impl Builder {
    /// Continues an existing graph.
    ///
    /// ```
    /// use keops_core::{graph::Builder, parse::parse_formula};
    /// let f = parse_formula("Exp(x)", None, &["x = Vi(3)"])?;
    /// let b = Builder::from_graph((*f.graph).clone());
    /// let sum = b.ex(f.root).sum();
    /// assert_eq!(sum.dim(), 1);
    /// # Ok::<(), keops_core::error::ParseError>(())
    /// ```
    pub fn from_graph(graph: Graph) -> Self {
        Builder(RefCell::new(graph))
    }
    /// The finished graph.
    ///
    /// ```
    /// use keops_core::graph::Builder;
    /// let b = Builder::default();
    /// let id = b.lit(0.5).id;
    /// assert_eq!(b.into_graph().constant(id), Some(0.5));
    /// ```
    pub fn into_graph(self) -> Graph {
        self.0.into_inner()
    }
    /// Read access.
    /// No node can be added while it is held.
    ///
    /// ```
    /// use keops_core::graph::Builder;
    /// let b = Builder::default();
    /// b.lit(0.5);
    /// assert_eq!(b.graph().len(), 1);
    /// ```
    pub fn graph(&self) -> std::cell::Ref<'_, Graph> {
        self.0.borrow()
    }
    /// Handle of a node.
    ///
    /// ```
    /// use keops_core::graph::{Builder, NodeId};
    /// let b = Builder::default();
    /// b.lit(0.5);
    /// assert_eq!(b.ex(NodeId(0)).constant(), Some(0.5));
    /// ```
    pub fn ex(&self, id: NodeId) -> Ex<'_> {
        Ex { b: self, id }
    }
    /// Adds a node, or finds it: see [`Graph::intern`].
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category, Dependence, Node};
    /// let b = Builder::default();
    /// let row = b.node(Node::Index(Category::I)); // the number i
    /// assert_eq!((row.dim(), row.dependence()), (1, Dependence::I));
    /// ```
    pub fn node(&self, node: Node) -> Ex<'_> {
        let id = self.0.borrow_mut().intern(node);
        Ex { b: self, id }
    }
    /// A variable.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category, Dependence, Var};
    /// let b = Builder::default();
    /// let p = b.var(Var { index: 0, dim: 3, category: Category::Param });
    /// assert_eq!((p.dim(), p.dependence()), (3, Dependence::NONE));
    /// ```
    pub fn var(&self, var: Var) -> Ex<'_> {
        self.node(Node::Var(var))
    }
    /// A constant of dimension 1.
    ///
    /// ```
    /// use keops_core::graph::Builder;
    /// let b = Builder::default();
    /// assert_eq!((b.lit(2.0) * b.lit(21.0)).constant(), Some(42.0));
    /// ```
    pub fn lit(&self, v: f64) -> Ex<'_> {
        self.node(Node::Const(v.to_bits()))
    }
    /// A variable with an index that nobody uses yet.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// let (x, y) = (b.fresh(3, Category::I), b.fresh(3, Category::I));
    /// assert_ne!(x.id, y.id);
    /// let numbers: Vec<u32> = b.graph().variables(&[x.id, y.id]).iter().map(|v| v.index).collect();
    /// assert_eq!(numbers, [0, 1]);
    /// ```
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
    ///
    /// ```
    /// use keops_core::{graph::Builder, parse::parse_formula};
    /// let (f, g) = (
    ///     parse_formula("Exp(x)", None, &["x = Vi(3)"])?,
    ///     parse_formula("Sin(x)", None, &["x = Vi(3)"])?,
    /// );
    /// let b = Builder::default();
    /// let sum = b.import(&f.graph, f.root) + b.import(&g.graph, g.root);
    /// assert_eq!((sum.dim(), b.graph().len()), (3, 4)); // x is one node
    /// # Ok::<(), keops_core::error::ParseError>(())
    /// ```
    pub fn import(&self, other: &Graph, root: NodeId) -> Ex<'_> {
        let id = self.0.borrow_mut().import(other, &[root], |_, _| None)[0];
        Ex { b: self, id }
    }
    /// Imports a formula with some variables replaced; `None` keeps one.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// use keops_core::parse::parse_formula;
    /// let f = parse_formula("Exp(x) * a", None, &["x = Vi(3)", "a = Pm(1)"])?;
    /// let b = Builder::default();
    /// let zero = b.lit(0.0);
    /// let at_zero = b.import_with(&f.graph, f.root, |v| (v.index == 0).then_some(zero.id));
    /// assert_eq!(b.graph().variables(&[at_zero.id]), [f.vars[1]]); // a alone is left
    /// # Ok::<(), keops_core::error::ParseError>(())
    /// ```
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
///
/// ```
/// use keops_core::graph::{Builder, Category};
/// use keops_core::ops;
/// let b = Builder::default();
/// let (x, y) = (b.fresh(3, Category::I), b.fresh(3, Category::J));
/// let kernel = (-(x - y).dot(x - y)).un(&ops::EXP); // exp(-|x - y|²)
/// assert_eq!(kernel.dim(), 1);
/// assert_eq!((kernel * x).dim(), 3);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ex<'g> {
    /// The graph.
    pub b: &'g Builder,
    /// The node.
    pub id: NodeId,
}

impl<'g> Ex<'g> {
    /// Dimension.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// assert_eq!(b.fresh(3, Category::I).broadcast(3).dim(), 3);
    /// ```
    pub fn dim(self) -> usize {
        self.b.graph().dim(self.id)
    }
    /// Dependence.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category, Dependence};
    /// let b = Builder::default();
    /// let (p, y) = (b.fresh(1, Category::Param), b.fresh(3, Category::J));
    /// assert_eq!((p * y).dependence(), Dependence::J);
    /// ```
    pub fn dependence(self) -> Dependence {
        self.b.graph().dependence(self.id)
    }
    /// Value if it is a constant.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// assert_eq!((b.lit(1.0) / b.lit(4.0)).constant(), Some(0.25));
    /// assert_eq!(b.fresh(1, Category::I).constant(), None);
    /// ```
    pub fn constant(self) -> Option<f64> {
        self.b.graph().constant(self.id)
    }
    /// A constant of the same graph.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// let x = b.fresh(1, Category::I);
    /// assert_eq!((x.lit(2.0) + 1.0).constant(), Some(3.0));
    /// ```
    pub fn lit(self, v: f64) -> Ex<'g> {
        self.b.lit(v)
    }
    /// An element-wise operation on checked operands, simplified.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category, Ex};
    /// use keops_core::ops;
    /// let b = Builder::default();
    /// let x = b.fresh(3, Category::I);
    /// let larger = Ex::apply(&ops::LESS_THAN, &[b.lit(0.0), x]);
    /// assert_eq!(Ex::apply(&ops::IF_ELSE, &[larger, x, -x]).dim(), 3);
    /// assert_eq!(Ex::apply(&ops::MULT, &[x, b.lit(1.0)]).id, x.id); // simplified
    /// ```
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
        if let Some(e) = (op.simplify)(args, When::Built) {
            return e;
        }
        b.node(Node::Map { op, args: args.iter().map(|a| a.id).collect() })
    }
    /// An element-wise operation; operands of dimension 1 broadcast.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category, Ex};
    /// use keops_core::ops;
    /// let b = Builder::default();
    /// let (x, y) = (b.fresh(3, Category::I), b.fresh(2, Category::J));
    /// assert_eq!(Ex::map(&ops::ADD, &[x, b.lit(1.0)])?.dim(), 3);
    /// let e = Ex::map(&ops::ADD, &[x, y]).unwrap_err();
    /// assert_eq!((e.op.as_str(), e.got.as_str()), ("Add", "dimensions [3, 2]"));
    /// # Ok::<(), keops_core::error::DimError>(())
    /// ```
    ///
    /// # Errors
    /// [`DimError`] if there is another number of operands, if dimensions neither agree nor are 1, or
    /// if a constant order is out of range.
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
        if op == &IF_ELSE && is_mask(args[0]) {
            return Err(DimError::new(
                op.name,
                "a condition that may be negative (the first value is taken where it is >= 0)",
                "a mask of 0 and 1, for which there is `Select(mask, a, b)`",
            ));
        }
        let constants = || args.iter().enumerate().filter_map(|(k, a)| Some((k, a.constant()?)));
        match constants().find(|&(k, c)| op.undefined_order(k, c)) {
            Some((k, c)) => {
                let expected = format!("a valid operand {} ({})", k + 1, op.doc);
                Err(DimError::new(op.name, expected, c))
            }
            None => Ok(Self::apply(op, args)),
        }
    }
    /// A one-operand operation.
    ///
    /// ```
    /// use keops_core::{graph::Builder, ops};
    /// let b = Builder::default();
    /// assert_eq!(b.lit(9.0).un(&ops::SQRT).constant(), Some(3.0));
    /// ```
    pub fn un(self, op: &'static OpDef) -> Ex<'g> {
        Self::apply(op, &[self])
    }
    /// Sum of components, dimension 1.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// let (x, s) = (b.fresh(3, Category::I), b.fresh(1, Category::I));
    /// assert_eq!((x.sum().dim(), s.sum().id), (1, s.id));
    /// ```
    pub fn sum(self) -> Ex<'g> {
        let d = self.dim();
        if d == 1 {
            return self;
        }
        self.contract(vec![d], &[(self, &[0])], &[])
    }
    /// Scalar product; a factor of dimension 1 multiplies the sum of the other.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// let (x, y) = (b.fresh(3, Category::I), b.fresh(3, Category::J));
    /// assert_eq!(x.dot(y).dim(), 1);
    /// assert_eq!(x.dot(b.lit(2.0)).id, (x.sum() * 2.0).id);
    /// ```
    pub fn dot(self, other: Ex<'g>) -> Ex<'g> {
        match (self.dim(), other.dim()) {
            (1, 1) => self * other,
            (1, _) => self * other.sum(),
            (_, 1) => self.sum() * other,
            (d, _) => self.contract(vec![d], &[(self, &[0]), (other, &[0])], &[]),
        }
    }
    /// A scalar repeated `d` times.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// assert_eq!(b.fresh(1, Category::I).broadcast(5).dim(), 5);
    /// ```
    pub fn broadcast(self, d: usize) -> Ex<'g> {
        if self.dim() == d { self } else { self.contract(vec![d], &[(self, &[])], &[0]) }
    }
    /// A generalised product, see [`Node::Contract`].
    /// Extents and labels are those of the operands, which are not checked. (`self` says which graph.)
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// let (a, x) = (b.fresh(6, Category::I), b.fresh(3, Category::J)); // 2 × 3, and 3
    /// let product = a.contract(vec![2, 3], &[(a, &[0, 1]), (x, &[1])], &[0]); // Σ_l a_kl x_l
    /// assert_eq!(product.dim(), 2);
    /// ```
    pub fn contract(self, extents: Vec<usize>, operands: &[(Ex<'g>, &[u8])], out: &[u8]) -> Ex<'g> {
        let operands =
            operands.iter().map(|(e, a)| Operand { node: e.id, axes: a.to_vec() }).collect();
        crate::simplify::contract(self.b, extents, operands, out.to_vec())
    }
    /// Components `start, start + step, …`, `len` of them.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// let x = b.fresh(6, Category::I);
    /// let even = x.pick(0, 2, 3);
    /// assert_eq!(even.pick(1, 1, 2).id, x.pick(2, 2, 2).id); // components 2 and 4
    /// ```
    pub fn pick(self, start: usize, step: usize, len: usize) -> Ex<'g> {
        crate::simplify::pick(self, start, step, len)
    }
    /// Adjoint of [`Ex::pick`] into dimension `dim`.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// let x = b.fresh(2, Category::I);
    /// assert_eq!(x.put(1, 2, 5).dim(), 5); // 0 x_0 0 x_1 0
    /// ```
    pub fn put(self, start: usize, step: usize, dim: usize) -> Ex<'g> {
        if self.dim() == dim && start == 0 {
            return self;
        }
        let step = if self.dim() == 1 { 1 } else { step };
        self.b.node(Node::Put { x: self.id, start, step, dim })
    }
    /// Operands one after the other; there is at least one.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category, Ex};
    /// let b = Builder::default();
    /// let x = b.fresh(3, Category::I);
    /// assert_eq!(Ex::concat(&[x, x.sum(), b.lit(1.0)]).dim(), 5);
    /// ```
    pub fn concat(parts: &[Ex<'g>]) -> Ex<'g> {
        if parts.len() == 1 {
            return parts[0];
        }
        parts[0].b.node(Node::Concat(parts.iter().map(|p| p.id).collect()))
    }
    /// Reduction over components.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category, FoldOp};
    /// let b = Builder::default();
    /// assert_eq!(b.fresh(3, Category::I).fold(FoldOp::Max).dim(), 1);
    /// ```
    pub fn fold(self, op: FoldOp) -> Ex<'g> {
        self.b.node(Node::Fold { op, x: self.id })
    }
    /// `0, 1, …, d - 1`
    /// (`self` says which graph.)
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// let x = b.fresh(1, Category::I);
    /// assert_eq!((x.iota(4) * x).dim(), 4); // 0, x, 2x, 3x
    /// ```
    pub fn iota(self, d: usize) -> Ex<'g> {
        self.b.node(Node::Iota(d))
    }
    /// Entries of a table, `self` being the index.
    /// The table depends on no index; the result has the dimension of `self`.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category};
    /// let b = Builder::default();
    /// let (table, class) = (b.fresh(10, Category::Param), b.fresh(1, Category::J));
    /// assert_eq!(class.gather(table).dim(), 1);
    /// ```
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

/// Values that tell what an operation does with whatever it is given.
const PROBES: [f64; 4] = [-2.0, 0.0, 1.0, 2.5];

/// Is it 0 or 1 by its operations, and not always the same: a comparison, or made of such?
fn is_mask(x: Ex<'_>) -> bool {
    let values = few_values(x, 8);
    values.is_some_and(|v| v.len() > 1 && v.iter().all(|v| *v == 0.0 || *v == 1.0))
}

/// The values that it can have, where they are a handful: those of a comparison, and of operations
/// of such; at most `depth` operations are looked into.
fn few_values(x: Ex<'_>, depth: usize) -> Option<Vec<f64>> {
    const MOST: usize = 4;
    let node = x.b.graph().node(x.id).clone();
    let Node::Map { op, args } = node else { return x.constant().map(|c| vec![c]) };
    let known: Option<Vec<Vec<f64>>> = match depth {
        0 => None,
        _ => args.iter().map(|&a| few_values(x.b.ex(a), depth - 1)).collect(),
    };
    let known_all = known.is_some();
    let of = known.unwrap_or_else(|| vec![PROBES.to_vec(); op.arity]);
    let mut values: Vec<f64> = vec![];
    let mut at = vec![0; of.len()];
    loop {
        let given: Vec<f64> = at.iter().zip(&of).map(|(&k, v)| v[k]).collect();
        let v = (op.value.f64)(&given);
        if !values.contains(&v) {
            values.push(v);
        }
        let Some(k) = (0..at.len()).find(|&k| at[k] + 1 < of[k].len()) else { break };
        at[..k].fill(0);
        at[k] += 1;
    }
    // Of operands of any value: a test has two values, and takes both.
    let test = values.len() == 2 && values.iter().all(|v| *v == 0.0 || *v == 1.0);
    (test || known_all && values.len() <= MOST).then_some(values)
}

//! Nodes of an [`OuterGraph`](super::OuterGraph), and what they carry.

use super::function::Applied;
use crate::data::DType;
use crate::graph::{Category, Graph, NodeId, Var};
use crate::key;
use crate::ranges::Ranges;
use crate::reduce::ReductionDef;
use crate::spec::{Axis, Outputs, ReduceOptions, ReduceSpec};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A node of an [`OuterGraph`](super::OuterGraph), by its position. Operands come before their
/// users.
///
/// ```
/// use keops_core::{graph::Category, outer::{OuterGraph, OuterId}};
/// let mut g = OuterGraph::default();
/// let x = g.input(0, 3, Category::J);
/// let total = g.sum_rows(x);
/// assert_eq!([x.node, total.node], [OuterId(0), OuterId(1)]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OuterId(pub u32);

/// One result of a node.
///
/// ```
/// use keops_core::{outer::Computation, parse::parse_formula, reduce::MIN_ARG_MIN, spec::Axis};
/// let f = parse_formula("SqDist(x, y)", None, &["x = Vi(2)", "y = Vj(2)"])?;
/// let c = Computation::reduction(f, &MIN_ARG_MIN, 1, Axis::J)?;
/// let (minimum, place) = (c.outputs()[0].port, c.outputs()[1].port);
/// assert_eq!(minimum.node, place.node);
/// assert_eq!([minimum.output, place.output], [0, 1]);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Port {
    /// The node.
    pub node: OuterId,
    /// Which of its results, in the order of [`ReduceSpec::outputs`] (0 for all other nodes).
    pub output: u32,
}

/// What a [`Port`] carries: an array of shape `(batch…, M, dim)`, `(batch…, N, dim)` or `(batch…,
/// dim)` for the categories `I`, `J` and `Param`.
///
/// ```
/// use keops_core::{graph::Category, outer::{OuterGraph, PortInfo}};
/// let mut g = OuterGraph::default();
/// let x = g.input(0, 3, Category::I); // (batch…, M, 3)
/// let total = g.sum_rows(x); // (batch…, 3)
/// assert_eq!(g.info(total), PortInfo { dim: 3, category: Category::Param, index: false });
/// ```
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
///
/// ```
/// use keops_core::graph::Category;
/// use keops_core::outer::{OuterGraph, Reduction};
/// use keops_core::parse::parse_formula;
/// use keops_core::{reduce::SUM, spec::{Axis, ReduceOptions}};
///
/// // Σ_j <x_i, x_j>: the two variables of the formula are one value with rows of i and of j.
/// let f = parse_formula("x | y", None, &["x = Vi(2)", "y = Vj(2)"])?;
/// let mut g = OuterGraph::default();
/// let (x_i, x_j) = (g.input(0, 2, Category::I), g.input(1, 2, Category::J));
/// let (reduction, axis, options) = (&SUM, Axis::J, ReduceOptions::default());
/// let bindings = vec![(f.vars[0], x_i), (f.vars[1], x_j)];
/// let (graph, formula) = (f.graph, f.root);
/// let (weight, k, ranges) = (None, 1, None);
/// let r = Reduction { graph, formula, weight, reduction, k, axis, options, bindings, ranges };
/// let node = g.reduce(r);
/// assert_eq!((g.ports(node)[0].dim, g.ports(node)[0].category), (1, Category::I));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
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
    /// The pairs that it runs over, here and in derivatives; `None`: those of the run. So one
    /// computation can sum near pairs by one pattern and far ones by another.
    pub ranges: Option<OwnRanges>,
}

/// Ranges that belong to one reduction; they are the same if they are one object.
///
/// ```
/// use keops_core::{outer::OwnRanges, ranges::Ranges};
/// let near = OwnRanges::from(Ranges::same_labels(&[0, 1], &[0, 1])?);
/// assert_eq!(near, near.clone());
/// assert_ne!(near, Ranges::same_labels(&[0, 1], &[0, 1])?.into());
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
#[derive(Clone, Debug)]
pub struct OwnRanges(pub Arc<Ranges>);

impl<R: Into<Arc<Ranges>>> From<R> for OwnRanges {
    fn from(ranges: R) -> OwnRanges {
        OwnRanges(ranges.into())
    }
}
impl PartialEq for OwnRanges {
    fn eq(&self, other: &OwnRanges) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for OwnRanges {}
/// The address is not used again while a node holds the ranges.
impl Hash for OwnRanges {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl OuterNode {
    /// Where the ranges of the node stand, if it runs over pairs.
    pub(crate) fn ranges_mut(&mut self) -> Option<&mut Option<OwnRanges>> {
        match self {
            OuterNode::Reduce(r) => Some(&mut r.ranges),
            OuterNode::Scatter(s) => Some(&mut s.ranges),
            _ => None,
        }
    }
    /// Gives the node ranges if it has none.
    pub(crate) fn pin(&mut self, ranges: &OwnRanges) {
        if let Some(own) = self.ranges_mut() {
            own.get_or_insert_with(|| ranges.clone());
        }
    }
}

impl Reduction {
    /// The specification for a backend, for arguments of type `dtype`; `names` are those of the
    /// bindings, for messages.
    ///
    /// ```
    /// use keops_core::outer::{Computation, OuterNode};
    /// # use keops_core::{data::DType, parse::parse_formula, reduce::SUM, spec::Axis};
    /// let f = parse_formula("x * y", None, &["x = Vi(2)", "y = Vj(2)"])?;
    /// let c = Computation::reduction(f, &SUM, 1, Axis::J)?;
    /// let OuterNode::Reduce(r) = c.graph().node(c.outputs()[0].port.node) else { unreachable!() };
    /// let spec = r.spec(DType::F32, vec!["x".into(), "y".into()]);
    /// assert_eq!((spec.reduction, spec.axis, spec.vars.len()), (&SUM, Axis::J, 2));
    /// spec.check()?;
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn spec(&self, dtype: DType, names: Vec<String>) -> ReduceSpec {
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
    /// The results in order, as [`ReduceSpec::outputs`].
    ///
    /// ```
    /// use keops_core::outer::{Computation, OuterNode};
    /// # use keops_core::{parse::parse_formula, reduce::K_MIN_ARG_K_MIN, spec::{Axis, OutputSpec}};
    /// let f = parse_formula("Abs(x - y)", None, &["x = Vi(2)", "y = Vj(2)"])?;
    /// let c = Computation::reduction(f, &K_MIN_ARG_K_MIN, 3, Axis::J)?;
    /// let OuterNode::Reduce(r) = c.graph().node(c.outputs()[0].port.node) else { unreachable!() };
    /// // Three winners of each of two components: values, then indices.
    /// let [values, indices] = [false, true].map(|index| OutputSpec { index, dim: 6 });
    /// assert_eq!(r.outputs(), [values, indices]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn outputs(&self) -> Outputs {
        self.spec(DType::F64, vec![]).outputs()
    }
    /// The formula, and the weight if there is one.
    ///
    /// ```
    /// use keops_core::outer::{Computation, OuterNode};
    /// # use keops_core::{parse::parse_formula, reduce::SUM_SOFT_MAX_WEIGHT, spec::Axis};
    /// let f = parse_formula("x | y", Some("y"), &["x = Vi(2)", "y = Vj(2)"])?;
    /// let c = Computation::reduction(f, &SUM_SOFT_MAX_WEIGHT, 1, Axis::J)?;
    /// let OuterNode::Reduce(r) = c.graph().node(c.outputs()[0].port.node) else { unreachable!() };
    /// let dims: Vec<usize> = r.roots().iter().map(|&id| r.graph.dim(id)).collect();
    /// assert_eq!(dims, [1, 2]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn roots(&self) -> Vec<NodeId> {
        std::iter::once(self.formula).chain(self.weight).collect()
    }
}

impl Hash for Reduction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        key::formulas(&self.graph, &self.roots(), state);
        let Reduction { reduction, k, axis, options, bindings, ranges, .. } = self;
        (reduction, k, axis, options, bindings, ranges).hash(state);
    }
}

/// A formula evaluated row by row.
///
/// ```
/// use keops_core::graph::{Builder, Category, Var};
/// use keops_core::outer::{OuterGraph, RowMap};
/// let mut g = OuterGraph::default();
/// let (x, category) = (g.input(0, 2, Category::I), Category::I);
/// let (b, v) = (Builder::default(), Var { index: 0, dim: 2, category });
/// let root = (b.var(v) * 3.0).id;
/// let (graph, bindings) = (b.into_graph().into(), vec![(v, x)]);
/// let tripled = g.row_map(RowMap { graph, root, bindings, category, present: None });
/// // Most often it is written like this.
/// assert_eq!(tripled, g.map_rows(category, &[x], |_, x| x[0] * 3.0));
/// ```
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

/// Values added up by an index that comes with them: `out[index_k] += value_k`, a parameter of
/// dimension `dim`, for every pair of rows or every row. Indices are real numbers that are rounded;
/// those out of range are left out. Sums are in f64, in the order of i, j and k whatever the device
/// and its threads do.
///
/// ```
/// use keops_core::graph::{Builder, Category, Var};
/// use keops_core::outer::{OuterGraph, Scatter};
/// let mut g = OuterGraph::default();
/// let (at, x) = (g.input(0, 1, Category::I), g.input(1, 1, Category::I));
/// let var = |index| Var { index, dim: 1, category: Category::I };
/// let b = Builder::default();
/// let (index, value) = (b.var(var(0)).id, b.var(var(1)).id);
/// let (graph, bindings) = (b.into_graph().into(), vec![(var(0), at), (var(1), x)]);
/// // A histogram of 10 bins.
/// let rows = Some(Category::I);
/// let (dim, ranges) = (10, None);
/// let sums = g.scatter(Scatter { graph, index, value, dim, rows, bindings, ranges });
/// assert_eq!((g.info(sums).dim, g.info(sums).category), (10, Category::Param));
/// ```
#[derive(Clone, Debug)]
pub struct Scatter {
    /// Graph of index and value.
    pub graph: Arc<Graph>,
    /// The indices, real numbers.
    pub index: NodeId,
    /// What is added: of the dimension of the index, or 1 for all of them.
    pub value: NodeId,
    /// Entries of the result.
    pub dim: usize,
    /// The rows that are gone through; all pairs where there is none (within the ranges).
    pub rows: Option<Category>,
    /// What each variable stands for.
    pub bindings: Vec<(Var, Port)>,
    /// As [`Reduction::ranges`].
    pub ranges: Option<OwnRanges>,
}

impl Hash for Scatter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        key::formulas(&self.graph, &[self.index, self.value], state);
        (self.dim, self.rows, &self.bindings, &self.ranges).hash(state);
    }
}

/// One column of an index result: for each row, the number of a row of the other category, or -1.
///
/// ```
/// use keops_core::outer::{Computation, Selected};
/// # use keops_core::{parse::parse_formula, reduce::ARG_K_MIN, spec::Axis};
/// let f = parse_formula("SqDist(x, y)", None, &["x = Vi(2)", "y = Vj(2)"])?;
/// let nearest = Computation::reduction(f, &ARG_K_MIN, 4, Axis::J)?; // indices (M, 4)
/// let mut g = nearest.graph().clone();
/// let second = Selected { index: nearest.outputs()[0].port, column: 1 };
/// let number = g.row_index(second); // the second nearest y of each x: (M, 1)
/// assert_eq!((g.info(number).dim, g.info(number).index), (1, false));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Selected {
    /// The indices.
    pub index: Port,
    /// Which column of them.
    pub column: usize,
}

/// A node of an [`OuterGraph`](super::OuterGraph).
///
/// ```
/// use keops_core::genred::{Genred, Reduce};
/// use keops_core::outer::OuterNode;
/// use keops_core::{reduce::{LOG_SUM_EXP, SUM}, spec::Axis};
///
/// // The gradient of a sum is a sum; that of a log-sum-exp also needs the result itself.
/// let reductions = |r: Reduce| {
///     let g: Genred = Genred::new("-SqDist(x, y)", &["x = Vi(3)", "y = Vj(3)"], r, Axis::J)?;
///     let gradient = g.vjp("x")?;
///     let c = gradient.computation();
///     let live = c.graph().live(&[c.outputs()[0].port]);
///     let is_reduction = |id: &&_| matches!(c.graph().node(**id), OuterNode::Reduce(_));
///     Ok::<_, keops_core::error::Error>(live.iter().filter(is_reduction).count())
/// };
/// assert_eq!(reductions((&SUM).into())?, 1);
/// assert_eq!(reductions((&LOG_SUM_EXP).into())?, 2);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
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
    /// Values scattered over a table.
    Scatter(Scatter),
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
    /// A function that another crate defines.
    Apply(Applied),
}

impl OuterNode {
    /// Values that the node reads ([`OuterNode::Rebatch`] does not read `like`).
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::{OuterGraph, OuterNode}};
    /// let mut g = OuterGraph::default();
    /// let (x, like) = (g.input(0, 2, Category::I), g.input(1, 1, Category::J));
    /// assert_eq!(OuterNode::SumRows { x }.operands(), [x]);
    /// assert_eq!(OuterNode::Rebatch { x, like }.operands(), [x]);
    /// ```
    pub fn operands(&self) -> Vec<Port> {
        match self {
            OuterNode::Input { .. } => vec![],
            OuterNode::Reduce(r) => r.bindings.iter().map(|(_, p)| *p).collect(),
            OuterNode::RowMap(m) => m.bindings.iter().map(|(_, p)| *p).collect(),
            OuterNode::Scatter(s) => s.bindings.iter().map(|(_, p)| *p).collect(),
            OuterNode::SumRows { x } | OuterNode::Rebatch { x, .. } => vec![*x],
            OuterNode::GatherRows { x, at } | OuterNode::ScatterAddRows { x, at, .. } => {
                vec![*x, at.index]
            }
            OuterNode::RowIndex { at } => vec![at.index],
            OuterNode::Apply(a) => a.operands.clone(),
        }
    }
}

//! Computations: functions of named arrays, over an [`OuterGraph`].

use super::{OuterGraph, OuterNode, OwnRanges, Port, Reduction};
use crate::data::DType;
use crate::error::InputError;
use crate::eval::Prepared;
use crate::genred::Reduce;
use crate::graph::{Category, Graph, MAX_DIM, MAX_NODES, MAX_TABLE, Node, NodeId, Var};
use crate::key;
use crate::reduce::{Definition, ReductionDef, SUM, WeightRule};
use crate::spec::{Axis, Device, ReduceOptions, ReduceSpec};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A formula with its variables in the order of arguments: what parsing gives, and what reductions
/// are made of.
///
/// ```
/// use keops_core::graph::{Builder, Category, Var};
/// use keops_core::outer::Formula;
/// // a x + y, built node by node; `parse_formula("a * x + y", None, …)` gives the same.
/// let categories = [Category::Param, Category::I, Category::J];
/// let var = |k: usize| Var { index: k as u32, dim: [1, 3, 3][k], category: categories[k] };
/// let (b, vars) = (Builder::default(), [0, 1, 2].map(var).to_vec());
/// let root = (b.var(vars[0]) * b.var(vars[1]) + b.var(vars[2])).id;
/// let names = ["a", "x", "y"].map(String::from).to_vec();
/// let f = Formula { graph: b.into_graph().into(), root, weight: None, vars, names };
/// assert_eq!(f.to_string(), "a * x + y");
/// ```
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

impl Formula {
    /// A reduction of it as backends take them, of arguments of one type, without options and, where
    /// there are several winners, of one.
    ///
    /// ```
    /// use keops_core::{data::DType, lower::{LowerOptions, lower}, parse::parse_formula};
    /// use keops_core::{reduce::SUM, spec::Axis};
    /// let f = parse_formula("Exp(-SqDist(x, y))", None, &["x = Vi(3)", "y = Vj(3)"])?;
    /// let program = lower(&f.spec(&SUM, Axis::J, DType::F32), LowerOptions::default())?;
    /// assert!(program.to_string().starts_with("program f32 sum"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spec(&self, reduction: &'static ReductionDef, axis: Axis, dtype: DType) -> ReduceSpec {
        ReduceSpec {
            graph: self.graph.clone(),
            formula: self.root,
            weight: self.weight,
            reduction,
            k: 1,
            axis,
            vars: self.vars.clone(),
            names: self.names.clone(),
            dtype,
            options: ReduceOptions::default(),
        }
    }
}

/// An argument of a [`Computation`].
///
/// ```
/// use keops_core::{genred::Genred, graph::Category, reduce::SUM, spec::Axis};
/// let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"];
/// let g: Genred = Genred::new("b / (1 + SqDist(x, y))", &aliases, &SUM, Axis::J)?;
/// let gradient = g.vjp("y")?;
/// let [.., e] = gradient.computation().inputs() else { unreachable!() };
/// // The cotangent of the result: an array of its shape, (M, 2).
/// assert_eq!((e.name.as_str(), e.category, &e.row[..]), ("e", Category::I, &[2][..]));
/// assert_eq!(e.like, Some(g.computation().outputs()[0].port));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
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
///
/// ```
/// use keops_core::{genred::Genred, reduce::K_MIN, spec::Axis};
/// let g: Genred = Genred::new("Abs(x - y)", &["x = Vi(3)", "y = Vj(3)"], (&K_MIN, 5), Axis::J)?;
/// // Results are (M, 5, 3); the port itself carries 15 components.
/// let [out] = g.computation().outputs() else { unreachable!() };
/// assert_eq!(out.row, [5, 3]);
/// assert_eq!(g.computation().graph().info(out.port).dim, 15);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputDef {
    /// What is computed.
    pub port: Port,
    /// Shape of one row, as in [`InputDef`].
    pub row: Vec<usize>,
    /// For a gradient, the argument that it belongs to: it comes in the shape in which that is given.
    pub like: Option<Port>,
}

/// A function of named arrays: a reduction, its gradients, or any [`OuterGraph`].
///
/// Immutable and cheap to clone. See [`crate::genred::Genred`] for the convenient way in.
///
/// ```
/// use keops_core::data::Element;
/// use keops_core::outer::Computation;
/// use keops_core::parse::parse_formula;
/// use keops_core::{interp::Interpreter, reduce::SUM, spec::{Axis, Device}};
/// use ndarray::array;
///
/// let f = parse_formula("x * y", None, &["x = Vi(1)", "y = Vj(1)"])?;
/// let products = Computation::reduction(f, &SUM, 1, Axis::J)?; // x_i Σ_j y_j
/// let (x, y, e) = (array![[1.0], [2.0]], array![[3.0], [4.0], [5.0]], array![[1.0], [10.0]]);
/// let args = [&x, &y, &e].map(|a| f64::erase(a.view().into_dyn()));
/// let device = Device::new(Interpreter::new());
/// let out = products.run(&device, &args[..2], None)?;
/// assert_eq!(out[0].to_f64(), array![[12.0], [24.0]].into_dyn());
/// let gradient = products.vjp(&["y"])?.run(&device, &args, None)?; // Σ_i e_i x_i
/// assert_eq!(gradient[0].to_f64(), array![[21.0], [21.0], [21.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
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
    /// another dimension or category, if two inputs have one name, if a result does not exist, or
    /// if the graph [is full](OuterGraph::is_full).
    ///
    /// ```
    /// use keops_core::graph::Category;
    /// use keops_core::outer::{Computation, InputDef, OuterGraph, OutputDef};
    /// let mut g = OuterGraph::default();
    /// let x = g.input(0, 3, Category::I);
    /// let port = g.sum_rows(x);
    /// let described = |dim| InputDef {
    ///     name: "x".into(),
    ///     category: Category::I,
    ///     row: vec![dim],
    ///     like: None,
    /// };
    /// let outputs = vec![OutputDef { port, row: vec![3], like: None }];
    /// assert!(Computation::new(g.clone(), vec![described(3)], outputs.clone()).is_ok());
    /// assert_eq!(
    ///     Computation::new(g, vec![described(2)], outputs).unwrap_err().to_string(),
    ///     "argument `x` is described as I [2], but used as Vi(3)"
    /// );
    /// ```
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
        let like =
            outputs.iter().filter_map(|o| o.like).chain(inputs.iter().filter_map(|i| i.like));
        for p in outputs.iter().map(|o| o.port).chain(like) {
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
    /// One reduction of a formula; its arguments are the variables of the formula in order. `k` is
    /// the number of winners of reductions that take several, else 1.
    ///
    /// # Errors
    /// [`InputError::Option`] if formula, weight, reduction and `k` do not fit each other.
    ///
    /// ```
    /// use keops_core::outer::Computation;
    /// use keops_core::parse::parse_formula;
    /// use keops_core::{reduce::{K_MIN, MIN}, spec::Axis};
    /// let f = parse_formula("SqDist(x, y)", None, &["x = Vi(2)", "y = Vj(2)"])?;
    /// let c = Computation::reduction(f.clone(), &K_MIN, 3, Axis::J)?;
    /// assert_eq!(c.outputs()[0].row, [3]);
    /// assert_eq!(
    ///     Computation::reduction(f, &MIN, 3, Axis::J).unwrap_err().to_string(),
    ///     "Min has one winner, got k = 3"
    /// );
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn reduction(
        formula: Formula,
        reduction: impl Into<Definition>,
        k: usize,
        axis: Axis,
    ) -> Result<Computation, InputError> {
        let fail = |m: String| Err(InputError::Option(m));
        let Formula { graph, root, weight, vars, names } = formula;
        let reduction = reduction.into();
        let name = reduction.name();
        match (reduction.weight(), weight) {
            (WeightRule::Never, Some(_)) => {
                return fail(format!("{name} takes no second formula"));
            }
            (WeightRule::Required, None) => {
                return fail(format!("{name} needs a second formula, the weight"));
            }
            _ => {}
        }
        let many = reduction.takes_winners();
        if !many && k != 1 {
            return fail(format!("{name} has one winner, got k = {k}"));
        }
        if names.len() != vars.len() {
            return fail(format!("{} variables with {} names", vars.len(), names.len()));
        }
        for (k, (v, name)) in vars.iter().zip(&names).enumerate() {
            let most = if v.category == Category::Param { MAX_TABLE } else { MAX_DIM };
            if v.dim == 0 || v.dim > most {
                return fail(format!("`{name}` has dimension {}, not in 1..={most}", v.dim));
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
        if let Some(id) = graph.too_long(&roots, MAX_DIM) {
            let name = match graph.node(id) {
                Node::Var(v) => vars.iter().zip(&names).find(|(w, _)| *w == v),
                _ => None,
            };
            return fail(format!(
                "{} has {} components; what is not just the table of Gather has at most {MAX_DIM}",
                name.map_or("a part of the formula".into(), |(_, name)| format!("`{name}`")),
                graph.dim(id)
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
        // `add` puts the reduction in its place.
        let (formula, of) = (root, &SUM);
        let ranges = None;
        let r =
            Reduction { graph, formula, weight, reduction: of, k, axis, options, bindings, ranges };
        let made = reduction.add(&mut g, r)?;
        let rows_of_winners = many && matches!(reduction, Definition::Basic(_));
        let row = |dim: usize| match rows_of_winners && dim != k {
            true => vec![k, dim / k],
            false => vec![dim],
        };
        let outputs = made
            .into_iter()
            .map(|port| OutputDef { port, row: row(g.info(port).dim), like: None })
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
        struct Form<'f>(&'f Formula);
        impl Hash for Form<'_> {
            fn hash<H: Hasher>(&self, state: &mut H) {
                let Formula { graph, root, weight, vars, .. } = self.0;
                match weight {
                    None => key::formulas(graph, &[*root], state),
                    Some(weight) => key::formulas(graph, &[*root, *weight], state),
                }
                vars.hash(state);
            }
        }
        let key = key::of(&(key::GRAPH, Form(&formula), def, k, axis, options));
        let names = formula.names.clone();
        let kept = device.computation(key, || -> Result<_, InputError> {
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
    /// Memory that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        let formula = |node: &OuterNode| match node {
            OuterNode::Reduce(r) => r.graph.bytes(),
            OuterNode::RowMap(m) => m.graph.bytes(),
            OuterNode::Scatter(s) => s.graph.bytes(),
            _ => 0,
        };
        let nodes = self.graph.nodes.iter().map(|n| size_of::<OuterNode>() + 64 + formula(n));
        let inputs = self.inputs.iter().map(|i| size_of::<InputDef>() + i.name.capacity() + 64);
        size_of::<Computation>()
            + nodes.sum::<usize>()
            + inputs.sum::<usize>()
            + self.prepared.bytes()
    }
    /// The graph.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// let g: Genred = Genred::new("x - y", &["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J)?;
    /// assert_eq!(g.computation().graph().len(), 3); // two arguments and a sum
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn graph(&self) -> &OuterGraph {
        &self.graph
    }
    /// The arguments in order.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// let g: Genred = Genred::new("x - y", &["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J)?;
    /// let along = g.jvp("x")?;
    /// let names: Vec<&str> = along.computation().inputs().iter().map(|i| &i.name[..]).collect();
    /// assert_eq!(names, ["x", "y", "d_x"]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn inputs(&self) -> &[InputDef] {
        &self.inputs
    }
    /// The results in order.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// let g: Genred = Genred::new("x - y", &["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J)?;
    /// let c = g.computation();
    /// assert_eq!((c.outputs().len(), &c.outputs()[0].row[..]), (1, &[2][..]));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn outputs(&self) -> &[OutputDef] {
        &self.outputs
    }
    /// Does result `k` hold indices? (No if there is no such result.)
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::MIN_ARG_MIN, spec::Axis};
    /// let aliases = ["x = Vi(1)", "y = Vj(1)"];
    /// let g: Genred = Genred::new("Abs(x - y)", &aliases, &MIN_ARG_MIN, Axis::J)?;
    /// assert_eq!([0, 1, 2].map(|k| g.computation().is_index(k)), [false, true, false]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn is_index(&self, k: usize) -> bool {
        self.outputs.get(k).is_some_and(|o| self.graph.info(o.port).index)
    }
    /// The same computation with other options for the sums inside its reductions. Options that do
    /// not fit the type of the arguments are refused when it runs ([`InputError::Option`]).
    ///
    /// ```
    /// use keops_core::data::{DType, Element};
    /// use keops_core::outer::Computation;
    /// # use keops_core::{interp::Interpreter, parse::parse_formula, reduce::SUM};
    /// # use keops_core::spec::{Axis, Device, ReduceOptions};
    /// let f = parse_formula("x * y", None, &["x = Vi(1)", "y = Vj(1)"])?;
    /// let half = ReduceOptions { accumulate: Some(DType::F16), ..ReduceOptions::default() };
    /// let c = Computation::reduction(f, &SUM, 1, Axis::J)?.with_options(half);
    /// let x = ndarray::array![[1.0]];
    /// let args = [f64::erase(x.view().into_dyn()), f64::erase(x.view().into_dyn())];
    /// let e = c.run(&Device::new(Interpreter::new()), &args, None).unwrap_err();
    /// assert_eq!(e.to_string(), "f64 data cannot be accumulated in f16; allowed: f64");
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn with_options(self, options: ReduceOptions) -> Computation {
        self.changed(&|node| {
            if let OuterNode::Reduce(r) = node {
                r.options = options;
            }
        })
    }
    /// The same computation with ranges of its own for every reduction that has none yet: they
    /// hold whatever ranges it runs with, also as a part of other computations
    /// ([`Genred::compose`](crate::genred::Genred::compose)). That they fit the arguments is
    /// checked when it runs.
    ///
    /// ```
    /// use keops_core::genred::Genred;
    /// use keops_core::{ranges::Ranges, reduce::SUM, spec::Axis};
    /// use ndarray::array;
    /// let sum: Genred = Genred::new("x + y", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
    /// let near = Ranges::same_labels(&[0, 1], &[0, 0, 1])?;
    /// let near: Genred = sum.computation().clone().with_ranges(near).into();
    /// let (x, y) = (array![[0.0], [10.0]], array![[1.0], [2.0], [3.0]]);
    /// assert_eq!(near.call((&x, &y))?, array![[3.0], [13.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn with_ranges(self, ranges: impl Into<OwnRanges>) -> Computation {
        let ranges = ranges.into();
        self.changed(&|node| node.pin(&ranges))
    }
    /// Changes every node.
    fn changed(mut self, change: &dyn Fn(&mut OuterNode)) -> Computation {
        let mut graph = OuterGraph::default();
        let place = graph.import(&self.graph, &|_| None, change);
        let moved = |p: &mut Port| *p = place(*p);
        self.inputs.iter_mut().filter_map(|i| i.like.as_mut()).for_each(moved);
        for o in self.outputs.iter_mut().chain(&mut self.primal) {
            moved(&mut o.port);
            o.like.iter_mut().for_each(moved);
        }
        (self.graph, self.prepared) = (Arc::new(graph), Arc::default());
        self
    }
    /// Adds the results of the computation that this one was derived from, after its own: what
    /// both need is computed once.
    ///
    /// ```
    /// use keops_core::outer::Computation;
    /// # use keops_core::{parse::parse_formula, reduce::LOG_SUM_EXP, spec::Axis};
    /// let f = parse_formula("-SqDist(x, y)", None, &["x = Vi(3)", "y = Vj(3)"])?;
    /// let soft = Computation::reduction(f, &LOG_SUM_EXP, 1, Axis::J)?;
    /// let both = soft.vjp(&["x"])?.with_primal();
    /// let rows: Vec<&[usize]> = both.outputs().iter().map(|o| &o.row[..]).collect();
    /// assert_eq!(rows, [&[3][..], &[1]]); // the gradient, then the log-sum-exp
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn with_primal(mut self) -> Computation {
        self.outputs.append(&mut self.primal);
        self.prepared = Arc::default();
        self
    }
}

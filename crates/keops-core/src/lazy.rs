//! Symbolic matrices: formulas over arrays, written with operators and reduced when asked.
//!
//! ```
//! use keops_core::lazy::LazyTensor as Lazy;
//! use keops_core::{genred::Reference, spec::Axis};
//! use ndarray::array;
//!
//! type LazyTensor<T> = Lazy<T, Reference>; // where it runs: here the reference interpreter
//!
//! let x = array![[0.0], [1.0]]; // (M, 1)
//! let y = array![[0.0], [1.0], [2.0]]; // (N, 1)
//! let b = array![[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]; // (N, 2)
//! let sigma = 0.5;
//!
//! let (x_i, y_j) = (LazyTensor::vi(&x), LazyTensor::vj(&y));
//! let d2 = x_i.sqdist(&y_j); // symbolic (M, N)
//! let k = (-&d2 / (2.0 * sigma * sigma)).exp();
//! assert_eq!(k.shape()?, [2, 3, 1]);
//!
//! let v = k.matmul(&b)?; // (M, 2)
//! assert!((v[[0, 1]] - (-2f64).exp()).abs() < 1e-15);
//! let nearest = d2.argkmin(2, Axis::J)?; // (M, 2)
//! assert_eq!(nearest, array![[0, 1], [1, 0]].into_dyn());
//! # Ok::<(), keops_core::error::Error>(())
//! ```
//!
//! # Errors
//! Operators cannot return a `Result`: a LazyTensor carries its first error, with the place in the
//! caller's source, to the method that evaluates it; [`LazyTensor::check`] gives it at once.

mod methods;
mod operators;

pub use operators::LazyOperand;

use crate::composite::{self, Literal};
use crate::data::{ArgView, Buffer, DType, Element};
use crate::error::{DimError, Error, InputError};
use crate::genred::{Genred, IntoArgs, Place, Reduce, Reference};
use crate::graph::{Builder, Category, Ex, Graph, MAX_DIM, MAX_NODES, Node, NodeId, Var};
use crate::ops;
use crate::outer::Formula;
use crate::ranges::Ranges;
use crate::spec::{Axis, ReduceOptions};
use ndarray::{ArrayBase, ArrayD, Axis as NdAxis, Data, Dimension, arr1};
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

/// A symbolic matrix with entries in R^dim: a formula and the arrays that it is about.
///
/// Cheap to clone (arrays are shared), immutable, and safe to share between threads. `T` is the
/// element type of the arrays, `P` says where reductions run. Methods are named as in KeOps; each
/// gives the LazyTensor of the formula in its name, or reduces.
///
/// Whole numbers are constants of the formula; other scalars become parameters, so that a new
/// bandwidth does not mean new code.
pub struct LazyTensor<T, P = Reference> {
    state: Result<Expression, Error>,
    options: ReduceOptions,
    ranges: Option<Arc<Ranges>>,
    place: P,
    element: PhantomData<T>,
}

impl<T, P: Clone> Clone for LazyTensor<T, P> {
    fn clone(&self) -> Self {
        LazyTensor {
            state: self.state.clone(),
            options: self.options,
            ranges: self.ranges.clone(),
            place: self.place.clone(),
            element: PhantomData,
        }
    }
}

/// A formula over variables that are bound to data: variable number k is source number k.
#[derive(Clone)]
struct Expression {
    graph: Arc<Graph>,
    root: NodeId,
    sources: Vec<Source>,
}

/// What a variable stands for.
#[derive(Clone)]
struct Source {
    var: Var,
    value: Bound,
    name: Arc<str>,
}
#[derive(Clone)]
enum Bound {
    /// An array, shared.
    Array(Arc<dyn Stored>),
    /// A parameter of dimension 1.
    Scalar(f64),
    /// An argument, by position, of the function that is to be made.
    Symbol(usize),
}

/// An array of any element type.
trait Stored: Send + Sync {
    fn view(&self) -> ArgView<'_>;
}
impl<T: Element> Stored for ArrayD<T> {
    fn view(&self) -> ArgView<'_> {
        T::erase(ndarray::ArrayRef::view(self))
    }
}

/// An array to take over or to copy: any owned array, view or reference, of any layout. Owned
/// arrays are moved; what is borrowed is copied once, so that no LazyTensor has a lifetime.
pub trait IntoArray {
    /// Element type.
    type Elem: Element;
    /// The array.
    fn into_array(self) -> ArrayD<Self::Elem>;
}
impl<T: Element, S: Data<Elem = T>, D: Dimension> IntoArray for ArrayBase<S, D, T> {
    type Elem = T;
    fn into_array(self) -> ArrayD<T> {
        self.into_owned().into_dyn()
    }
}
impl<T: Element, S: Data<Elem = T>, D: Dimension> IntoArray for &ArrayBase<S, D, T> {
    type Elem = T;
    fn into_array(self) -> ArrayD<T> {
        self.to_owned().into_dyn()
    }
}

impl Source {
    fn same(&self, other: &Source) -> bool {
        let like = self.var.category == other.var.category;
        match (&self.value, &other.value) {
            (Bound::Array(a), Bound::Array(b)) => like && Arc::ptr_eq(a, b),
            (Bound::Scalar(a), Bound::Scalar(b)) => a.to_bits() == b.to_bits(),
            (Bound::Symbol(a), Bound::Symbol(b)) => a == b && self.var.dim == other.var.dim && like,
            _ => false,
        }
    }
}

impl Expression {
    /// The value as a node of a common graph, with its sources among the common ones.
    fn join<'b>(&self, b: &'b Builder, sources: &mut Vec<Source>) -> Result<Ex<'b>, Error> {
        let mut places: Vec<NodeId> = Vec::with_capacity(self.sources.len());
        for s in &self.sources {
            let known = sources.iter().position(|o| o.same(s));
            if let (None, Bound::Symbol(at)) = (known, &s.value) {
                let clash = |o: &&Source| matches!(o.value, Bound::Symbol(p) if p == *at);
                if let Some(other) = sources.iter().find(clash) {
                    return Err(InputError::Option(format!(
                        "position {at} is {}({}) and {}({})",
                        other.var.category.keyword(),
                        other.var.dim,
                        s.var.category.keyword(),
                        s.var.dim
                    ))
                    .into());
                }
            }
            let index = known.unwrap_or_else(|| {
                let index = sources.len();
                sources.push(Source { var: Var { index: index as u32, ..s.var }, ..s.clone() });
                index
            });
            places.push(b.var(sources[index].var).id);
        }
        Ok(b.import_with(&self.graph, self.root, |v| places.get(v.index as usize).copied()))
    }
    fn dim(&self) -> usize {
        self.graph.dim(self.root)
    }
    /// Batch shape, M and N (1 where nothing gives a number).
    fn sizes(&self) -> Result<(Vec<usize>, [usize; 2]), InputError> {
        let mut rows: [Option<(usize, &str)>; 2] = [None; 2];
        let mut batch: Vec<(usize, &str)> = vec![];
        let disagree = |name: &str, what: &str, (expected, other): (usize, &str), got| {
            let (name, what, other) = (name.into(), what.into(), other.into());
            Err(InputError::Disagree { name, what, other, expected, got })
        };
        for s in &self.sources {
            let Bound::Array(a) = &s.value else { continue };
            let view = a.view();
            let mut lead = &view.shape()[..view.shape().len() - 1];
            if s.var.category != Category::Param {
                let (n, rest) = (lead[lead.len() - 1], &lead[..lead.len() - 1]);
                lead = rest;
                match &mut rows[(s.var.category == Category::J) as usize] {
                    Some(known) if known.0 != n => return disagree(&s.name, "rows", *known, n),
                    slot => *slot = Some((n, &s.name)),
                }
            }
            // Batch axes broadcast, aligned at the last one.
            for (k, &e) in lead.iter().rev().enumerate() {
                if k == batch.len() {
                    batch.push((1, &s.name));
                }
                if e != 1 && batch[k].0 != 1 && batch[k].0 != e {
                    return disagree(&s.name, "batch elements", batch[k], e);
                }
                if e != 1 {
                    batch[k] = (e, &s.name);
                }
            }
        }
        let batch = batch.iter().rev().map(|b| b.0).collect();
        Ok((batch, rows.map(|r| r.map_or(1, |(n, _)| n))))
    }
}

fn located(location: &Location<'_>, e: impl Into<Error>) -> Error {
    Error::Lazy { location: location.to_string(), source: Box::new(e.into()) }
}

impl<T, P: Place + Default> LazyTensor<T, P> {
    fn from_state(state: Result<Expression, Error>) -> Self {
        LazyTensor {
            state,
            options: ReduceOptions::default(),
            ranges: None,
            place: P::default(),
            element: PhantomData,
        }
    }
    fn source(category: Category, dim: usize, value: Bound, name: String) -> Self {
        let var = Var { index: 0, dim, category };
        let b = Builder::default();
        let root = b.var(var).id;
        let sources = vec![Source { var, value, name: name.into() }];
        LazyTensor::from_state(Ok(Expression { graph: b.into_graph().into(), root, sources }))
    }
    fn leaf(f: impl for<'b> FnOnce(&'b Builder) -> Ex<'b>) -> Self {
        let b = Builder::default();
        let root = f(&b).id;
        let graph = b.into_graph().into();
        LazyTensor::from_state(Ok(Expression { graph, root, sources: vec![] }))
    }
    /// The number of a row, `i`.
    pub fn i() -> Self {
        LazyTensor::leaf(|b| b.node(Node::Index(Category::I)))
    }
    /// The number of a column, `j`.
    pub fn j() -> Self {
        LazyTensor::leaf(|b| b.node(Node::Index(Category::J)))
    }
    /// A constant of the formula, of dimension 1.
    pub fn constant(value: f64) -> Self {
        LazyTensor::leaf(|b| b.lit(value))
    }
    /// A scalar: a constant if it is a whole number, else a parameter.
    #[track_caller]
    pub fn scalar(value: f64) -> Self {
        // As in KeOps; infinities and NaN are constants too.
        if value.fract() == 0.0 || !value.is_finite() {
            return LazyTensor::constant(value);
        }
        let name = format!("the scalar {value} at {}", Location::caller());
        LazyTensor::source(Category::Param, 1, Bound::Scalar(value), name)
    }
    /// Argument `position`, of so many components, of a function that [`LazyTensor::genred`]
    /// makes: one row for each i, one for each j, or a parameter. Its name there is `v0`, `v1`, ….
    #[track_caller]
    pub fn var(position: usize, dim: usize, category: Category) -> Self {
        if dim == 0 || dim > MAX_DIM {
            let e = DimError::new("Var", format!("a dimension in 1..={MAX_DIM}"), dim);
            return LazyTensor::from_state(Err(located(Location::caller(), e)));
        }
        LazyTensor::source(category, dim, Bound::Symbol(position), format!("v{position}"))
    }
}

impl<T: Element, P: Place + Default> LazyTensor<T, P> {
    /// Rows indexed by `i`: an array of shape `(batch…, M, dim)`, or `(M)` for dimension 1.
    #[track_caller]
    pub fn vi(array: impl IntoArray<Elem = T>) -> Self {
        Self::array(array.into_array(), Category::I, Location::caller())
    }
    /// Rows indexed by `j`: an array of shape `(batch…, N, dim)`, or `(N)` for dimension 1.
    #[track_caller]
    pub fn vj(array: impl IntoArray<Elem = T>) -> Self {
        Self::array(array.into_array(), Category::J, Location::caller())
    }
    /// A parameter: an array of shape `(batch…, dim)`, or without axes for dimension 1.
    #[track_caller]
    pub fn pm(array: impl IntoArray<Elem = T>) -> Self {
        Self::array(array.into_array(), Category::Param, Location::caller())
    }
    fn array(array: ArrayD<T>, category: Category, location: &Location<'_>) -> Self {
        let own = if category == Category::Param { 1 } else { 2 };
        let given = array.shape().to_vec();
        let keyword = category.keyword();
        let array = match array.ndim() + 1 {
            n if n == own => array.insert_axis(NdAxis(own - 1)),
            _ => array,
        };
        let dim = array.shape().last().copied().unwrap_or(0);
        if array.ndim() < own || dim == 0 || dim > MAX_DIM {
            let letters = ["(batches…, dim)", "(batches…, rows, dim)"][own - 1];
            let e = InputError::Shape {
                name: keyword.into(),
                expected: format!("shape {letters} with a dimension in 1..={MAX_DIM}"),
                got: given,
            };
            return LazyTensor::from_state(Err(located(location, e)));
        }
        let name = format!("{keyword}({dim}) at {location}");
        LazyTensor::source(category, dim, Bound::Array(Arc::new(array)), name)
    }
}

impl<T, P: Place> LazyTensor<T, P> {
    /// A formula of several LazyTensors.
    fn combine(
        location: &Location<'_>,
        operands: &[&LazyTensor<T, P>],
        f: impl for<'b> FnOnce(&'b Builder, &[Ex<'b>]) -> Result<Ex<'b>, Error>,
    ) -> LazyTensor<T, P> {
        let mut out = operands[0].clone();
        for o in &operands[1..] {
            if out.options == ReduceOptions::default() {
                out.options = o.options;
            }
            match (&out.ranges, &o.ranges) {
                (None, r) => out.ranges = r.clone(),
                (Some(a), Some(b)) if a != b && out.state.is_ok() => {
                    let m = "the operands have different ranges".to_string();
                    out.state = Err(located(location, InputError::Ranges(m)));
                }
                _ => {}
            }
        }
        let made = || -> Result<Expression, Error> {
            let b = Builder::default();
            let mut sources = vec![];
            let mut x = Vec::with_capacity(operands.len());
            for o in operands {
                let e = o.state.as_ref().map_err(Error::clone)?;
                x.push(e.join(&b, &mut sources).map_err(|e| located(location, e))?);
            }
            let root = f(&b, &x).map_err(|e| located(location, e))?.id;
            let graph = b.into_graph();
            if graph.len() > MAX_NODES {
                let m = format!("the formula has more than {MAX_NODES} nodes");
                return Err(located(location, InputError::Option(m)));
            }
            Ok(Expression { graph: graph.into(), root, sources })
        };
        out.state = out.state.and_then(|_| made());
        out
    }
    /// An operation of the tables by its name: operands, then literal parameters.
    ///
    /// ```
    /// use keops_core::{composite::Literal, genred::Reference, lazy::LazyTensor};
    /// let x = LazyTensor::<f64, Reference>::vi(ndarray::array![[1.0, 2.0]]);
    /// let y = LazyTensor::call("Extract", &[&x], &[Literal::Int(1), Literal::Int(1)]);
    /// assert_eq!(y.dim()?, 1);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// An unknown name, a wrong number of operands or parameters, or operands whose dimensions do
    /// not fit are an error that the result carries.
    ///
    /// # Panics
    /// If there are no operands.
    #[track_caller]
    pub fn call(
        name: &str,
        operands: &[&LazyTensor<T, P>],
        literals: &[Literal],
    ) -> LazyTensor<T, P> {
        assert!(!operands.is_empty(), "{name}: an operation has operands");
        Self::combine(Location::caller(), operands, |_, x| {
            if let Some(op) = ops::by_name(name).filter(|_| literals.is_empty()) {
                return Ok(Ex::map(op, x)?);
            }
            let Some(op) = composite::by_name(name) else {
                return Err(DimError::new(name, "the name of an operation", name).into());
            };
            let within = |n: usize, (low, high): (usize, usize)| (low..=high).contains(&n);
            if !within(x.len(), op.operands) || !within(literals.len(), op.literals) {
                let got = format!("{} operands and {} parameters", x.len(), literals.len());
                return Err(DimError::new(name, op.doc, got).into());
            }
            Ok((op.build)(x, literals)?)
        })
    }

    /// The error that it carries, or that its arrays do not fit each other.
    ///
    /// # Errors
    /// The first error, with its place in the caller's source.
    pub fn check(&self) -> Result<(), Error> {
        self.shape().map(|_| ())
    }
    fn expression(&self) -> Result<&Expression, Error> {
        self.state.as_ref().map_err(Error::clone)
    }
    /// Number of components of an entry.
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn dim(&self) -> Result<usize, Error> {
        Ok(self.expression()?.dim())
    }
    /// `(batch…, M, N, dim)`; M and N are 1 where no array gives a number of rows.
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn shape(&self) -> Result<Vec<usize>, Error> {
        let e = self.expression()?;
        let (mut shape, rows) = e.sizes()?;
        shape.extend(rows);
        shape.push(e.dim());
        Ok(shape)
    }
    /// The formula, over variables `v0`, `v1`, … in the order of their appearance.
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn formula(&self) -> Result<Formula, Error> {
        let e = self.expression()?;
        Ok(Formula {
            graph: e.graph.clone(),
            root: e.root,
            weight: None,
            vars: e.sources.iter().map(|s| s.var).collect(),
            names: (0..e.sources.len()).map(|k| format!("v{k}")).collect(),
        })
    }
    /// The transposed matrix: `i` and `j` exchanged.
    pub fn t(&self) -> LazyTensor<T, P> {
        let mut out = self.clone();
        out.ranges = self
            .ranges
            .as_ref()
            .map(|r| Arc::new(Ranges { over_j: r.over_i.clone(), over_i: r.over_j.clone() }));
        if let Ok(e) = &mut out.state {
            let flip = |c: Category| match c {
                Category::I => Category::J,
                Category::J => Category::I,
                Category::Param => Category::Param,
            };
            let mut graph = Graph::default();
            e.root = graph.import_nodes(&e.graph, &[e.root], |g, node| match node {
                Node::Var(v) => Some(g.intern(Node::Var(Var { category: flip(v.category), ..*v }))),
                Node::Index(c) => Some(g.intern(Node::Index(flip(*c)))),
                _ => None,
            })[0];
            e.graph = graph.into();
            e.sources.iter_mut().for_each(|s| s.var.category = flip(s.var.category));
        }
        out
    }
    /// Accumulation type and scheme of sums.
    pub fn options(self, options: ReduceOptions) -> LazyTensor<T, P> {
        LazyTensor { options, ..self }
    }
    /// Block-sparse ranges: entries outside count as absent.
    pub fn ranges(self, ranges: impl Into<Arc<Ranges>>) -> LazyTensor<T, P> {
        LazyTensor { ranges: Some(ranges.into()), ..self }
    }
    /// The same matrix, to be reduced elsewhere.
    pub fn at<Q: Place>(self, place: Q) -> LazyTensor<T, Q> {
        let LazyTensor { state, options, ranges, element, .. } = self;
        LazyTensor { state, options, ranges, place, element }
    }

    /// Formula and weight over common sources.
    fn joined(&self, weight: Option<&LazyTensor<T, P>>) -> Result<(Formula, Vec<Source>), Error> {
        let b = Builder::default();
        let mut sources = vec![];
        let root = self.expression()?.join(&b, &mut sources)?.id;
        let weight = match weight {
            Some(w) => Some(w.expression()?.join(&b, &mut sources)?.id),
            None => None,
        };
        let vars = sources.iter().map(|s| s.var).collect();
        let names = sources.iter().map(|s| s.name.to_string()).collect();
        Ok((Formula { graph: b.into_graph().into(), root, weight, vars, names }, sources))
    }
}

/// Scalars as constants of the formula.
fn scalars_as_constants((mut f, sources): (Formula, Vec<Source>)) -> (Formula, Vec<Source>) {
    let roots: Vec<NodeId> = std::iter::once(f.root).chain(f.weight).collect();
    let mut graph = Graph::default();
    let made = graph.import(&f.graph, &roots, |g, v| match sources[v.index as usize].value {
        Bound::Scalar(s) => Some(g.intern(Node::Const(s.to_bits()))),
        _ => None,
    });
    let kept = |s: &Source| !matches!(s.value, Bound::Scalar(_));
    let keep: Vec<bool> = sources.iter().map(kept).collect();
    let mut at = keep.iter();
    f.vars.retain(|_| at.next() == Some(&true));
    let mut at = keep.iter();
    f.names.retain(|_| at.next() == Some(&true));
    let weight = made.get(1).copied();
    (
        Formula { graph: graph.into(), root: made[0], weight, ..f },
        sources.into_iter().filter(kept).collect(),
    )
}

impl<T: Element, P: Place + Default> LazyTensor<T, P> {
    /// A function of arrays from a formula of [`LazyTensor::var`]s: its arguments, named `v0`,
    /// `v1`, …, are in the order of positions, which must have no gaps. Scalars are constants.
    ///
    /// # Errors
    /// As [`LazyTensor::check`]; [`Error::Input`] if it holds arrays or if a position is missing.
    pub fn genred(&self, reduction: impl Into<Reduce>, axis: Axis) -> Result<Genred<P>, Error> {
        self.function(None, reduction.into(), axis)
    }
    /// As [`LazyTensor::genred`], for reductions that take a weight.
    ///
    /// # Errors
    /// As [`LazyTensor::genred`].
    pub fn genred_weighted(
        &self,
        weight: &LazyTensor<T, P>,
        reduction: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<Genred<P>, Error> {
        self.function(Some(weight), reduction.into(), axis)
    }
    fn function(
        &self,
        weight: Option<&LazyTensor<T, P>>,
        reduction: Reduce,
        axis: Axis,
    ) -> Result<Genred<P>, Error> {
        let (f, sources) = scalars_as_constants(self.joined(weight)?);
        let fail = |m: String| Err(Error::from(InputError::Option(m)));
        let mut order: Vec<(usize, Var)> = vec![];
        for s in &sources {
            match s.value {
                Bound::Symbol(p) => order.push((p, s.var)),
                _ => {
                    return fail(format!(
                        "{} is bound to an array: only symbolic variables make a function",
                        s.name
                    ));
                }
            }
        }
        order.sort();
        if let Some(k) = (0..order.len()).find(|&k| order[k].0 != k) {
            return fail(format!("no variable has position {k}: positions must have no gaps"));
        }
        let names = (0..order.len()).map(|k| format!("v{k}")).collect();
        let f = Formula { vars: order.into_iter().map(|(_, v)| v).collect(), names, ..f };
        Ok(self.placed(Genred::from_formula(f, reduction, axis)?))
    }
    fn placed(&self, g: Genred<P>) -> Genred<P> {
        let g = g.at(self.place.clone());
        let g = if self.options == ReduceOptions::default() { g } else { g.options(self.options) };
        match &self.ranges {
            Some(r) => g.ranges(r.clone()),
            None => g,
        }
    }

    /// Reduces over one index: all results, values in the compute type (f32 for f16 and bf16),
    /// indices in i64; shapes as for [`Genred`].
    ///
    /// # Errors
    /// The error that it carries; [`Error::Input`] if formula, reduction and arrays do not fit;
    /// [`Error::Compile`] and [`Error::Run`] from the device.
    pub fn reduce(&self, reduction: impl Into<Reduce>, axis: Axis) -> Result<Vec<Buffer>, Error> {
        self.evaluate(None, reduction.into(), axis)
    }
    fn evaluate(
        &self,
        weight: Option<&LazyTensor<T, P>>,
        reduction: Reduce,
        axis: Axis,
    ) -> Result<Vec<Buffer>, Error> {
        let bound = self.bind(weight, reduction, axis)?;
        if let Some(name) = bound.free.first() {
            let m = format!("{name} is symbolic: `genred` makes a function of it");
            return Err(InputError::Option(m).into());
        }
        bound.function.run(&(&bound).into_args())
    }
    /// A reduction together with its arrays. Symbolic variables are arguments that are left open:
    /// that is how solvers get at a kernel matrix.
    ///
    /// # Errors
    /// As [`LazyTensor::check`]; [`Error::Input`] if formula and reduction do not fit.
    pub fn bound(
        &self,
        reduction: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<BoundReduction<T, P>, Error> {
        self.bind(None, reduction.into(), axis)
    }
    fn bind(
        &self,
        weight: Option<&LazyTensor<T, P>>,
        reduction: Reduce,
        axis: Axis,
    ) -> Result<BoundReduction<T, P>, Error> {
        let mut joined = self.joined(weight)?;
        // Parameters have the type of the data: what it cannot hold goes into the formula.
        if matches!(T::DTYPE, DType::F16 | DType::BF16) {
            joined = scalars_as_constants(joined);
        }
        let (mut formula, sources) = joined;
        for k in 0..formula.names.len() {
            if formula.names[..k].contains(&formula.names[k]) {
                formula.names[k] += &format!(" (number {k})");
            }
        }
        let (mut values, mut free): (Vec<Arc<dyn Stored>>, Vec<String>) = (vec![], vec![]);
        for (s, name) in sources.iter().zip(&formula.names) {
            match &s.value {
                Bound::Array(a) => values.push(a.clone()),
                Bound::Scalar(v) => values.push(Arc::new(arr1(&[T::of_f64(*v)]).into_dyn())),
                Bound::Symbol(_) => free.push(name.clone()),
            }
        }
        let function = self.placed(Genred::from_formula(formula, reduction, axis)?);
        Ok(BoundReduction { function, values, free, element: PhantomData })
    }
}

/// A reduction together with the arrays of its formula, see [`LazyTensor::bound`]. A reference to
/// it stands for those arrays where arguments are expected.
pub struct BoundReduction<T, P = Reference> {
    function: Genred<P>,
    values: Vec<Arc<dyn Stored>>,
    free: Vec<String>,
    element: PhantomData<T>,
}

impl<T, P> BoundReduction<T, P> {
    /// The reduction as a function of all arrays, in order, open ones included.
    pub fn function(&self) -> &Genred<P> {
        &self.function
    }
    /// Names of the arguments that are left open.
    pub fn free(&self) -> &[String] {
        &self.free
    }
}
impl<'a, T: Element, P> IntoArgs<'a> for &'a BoundReduction<T, P> {
    type Elem = T;
    fn into_args(self) -> Vec<ArgView<'a>> {
        self.values.iter().map(|v| v.view()).collect()
    }
}

impl<T, P: Place> fmt::Debug for LazyTensor<T, P> {
    /// The formula and what its variables are, or the error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.state, &self.formula()) {
            (Ok(e), Ok(formula)) => {
                write!(f, "{formula}")?;
                for (k, s) in e.sources.iter().enumerate() {
                    write!(f, "{}v{k} = {}", if k == 0 { " where " } else { ", " }, s.name)?;
                }
                Ok(())
            }
            (Err(e), _) | (_, Err(e)) => write!(f, "{e}"),
        }
    }
}

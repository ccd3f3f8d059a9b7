//! Functions of whole values that other crates define: solves, iterations, transport plans.
//!
//! A [`Function`] is a node of an [`OuterGraph`] that brings its own evaluation and its own rules
//! of differentiation. The rules append nodes (reductions, row maps, the function itself), so that
//! a derivative is differentiated again like everything else.

use super::{OuterGraph, OuterNode, Port, PortInfo};
use crate::data::{ArgView, Buffer, DType, Element, batch_matrix};
use crate::error::{DimError, Error, Foreign, GradError, RunError};
use crate::graph::Category;
use crate::ranges::Ranges;
use crate::spec::Device;
use crate::{memory, with_view};
use ndarray::{Array2, ArrayView2, IxDyn};
use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A function of values of a computation. [`OuterGraph::apply`] makes a node of it.
///
/// The implicit function theorem makes most of them short: where `F(x, z) = 0` defines `z`, the
/// derivative of `z` is made of reductions and row maps of `x` and of the result itself.
///
/// ```
/// use keops_core::error::{DimError, Error, GradError};
/// use keops_core::genred::Genred;
/// use keops_core::graph::Category;
/// use keops_core::ops::{COS, SIN};
/// use keops_core::outer::{Application, Call, Computation, Function, InputDef, OutputDef};
/// use keops_core::outer::{OuterGraph, Port, PortInfo};
/// use keops_core::data::Buffer;
/// use ndarray::array;
/// use std::{convert::Infallible, hash::Hasher, sync::Arc};
///
/// /// Kepler's equation `E - e sin E = M` in each row, by Newton's method.
/// #[derive(Debug)]
/// struct Kepler;
/// impl Function for Kepler {
///     fn name(&self) -> &str {
///         "Kepler"
///     }
///     fn key(&self, _: &mut dyn Hasher) {} // it has no options
///     fn results(&self, operands: &[PortInfo]) -> Result<Vec<PortInfo>, DimError> {
///         Ok(vec![operands[1]]) // the rows and components of M
///     }
///     fn run(&self, call: &Call<'_>) -> Result<Vec<Buffer>, Error> {
///         call.each(|operands| {
///             let e = operands[0][[0, 0]];
///             let solve = |m: f64| {
///                 (0..50).fold(m, |x, _| x - (x - e * x.sin() - m) / (1.0 - e * x.cos()))
///             };
///             Ok::<_, Infallible>(vec![operands[1].mapv(solve)])
///         })
///     }
///     // (1 - e cos E) dE = dM + sin E de
///     fn vjp(
///         &self,
///         graph: &mut OuterGraph,
///         at: &Application<'_>,
///         cotangents: &[Option<Port>],
///     ) -> Result<Vec<(Port, Port)>, GradError> {
///         let (Some(g), [e, m]) = (cotangents[0], at.operands) else { return Ok(vec![]) };
///         let category = graph.info(*m).category;
///         let of_m = graph.map_rows(category, &[*e, at.results[0], g], |b, v| {
///             v[2] / (b.lit(1.0) - v[0] * v[1].un(&COS))
///         });
///         let rows = graph.map_rows(category, &[at.results[0], of_m], |_, v| v[0].un(&SIN).dot(v[1]));
///         let of_e = graph.sum_rows(rows);
///         Ok(vec![(*e, of_e), (*m, of_m)])
///     }
///     fn jvp(
///         &self,
///         graph: &mut OuterGraph,
///         at: &Application<'_>,
///         tangents: &[Option<Port>],
///     ) -> Result<Vec<Option<Port>>, GradError> {
///         let category = graph.info(at.operands[1]).category;
///         let mut terms: Vec<Port> = tangents[1].into_iter().collect();
///         if let Some(d_e) = tangents[0] {
///             let z = at.results[0];
///             terms.push(graph.map_rows(category, &[z, d_e], |_, v| v[0].un(&SIN) * v[1]));
///         }
///         if terms.is_empty() {
///             return Ok(vec![None]);
///         }
///         let right = graph.add(&terms);
///         Ok(vec![Some(graph.map_rows(category, &[at.operands[0], at.results[0], right], |b, v| {
///             v[2] / (b.lit(1.0) - v[0] * v[1].un(&COS))
///         }))])
///     }
/// }
///
/// let mut g = OuterGraph::default();
/// let (e, m) = (g.input(0, 1, Category::Param), g.input(1, 1, Category::I));
/// let port = g.apply(Arc::new(Kepler), &[e, m])?[0];
/// let input = |name: &str, category| InputDef { name: name.into(), category, row: vec![1], like: None };
/// let inputs = vec![input("e", Category::Param), input("m", Category::I)];
/// let anomaly: Genred = Computation::new(g, inputs, vec![OutputDef { port, row: vec![1], like: None }])?.into();
/// let (e, m) = (array![0.5f64], array![[1.0f64], [2.0]]);
/// let out = anomaly.call((&e, &m))?;
/// assert!((out[[0, 0]] - 0.5 * out[[0, 0]].sin() - 1.0).abs() < 1e-15);
/// // dE/dM = 1 / (1 - e cos E)
/// let d = anomaly.vjp("m")?.call((&e, &m, &array![[1.0], [1.0]]))?;
/// assert!((d[[1, 0]] * (1.0 - 0.5 * out[[1, 0]].cos()) - 1.0).abs() < 1e-15);
/// # Ok::<(), Error>(())
/// ```
pub trait Function: fmt::Debug + Any + Send + Sync {
    /// Name, for messages and printed graphs.
    fn name(&self) -> &str;
    /// Writes everything that tells this function from others of its Rust type: options,
    /// formulas, tolerances. Functions of one type that write the same are the same function.
    fn key(&self, state: &mut dyn Hasher);
    /// Dimension and category of each result.
    ///
    /// # Errors
    /// [`DimError`] if the number, dimension or category of the operands does not fit.
    fn results(&self, operands: &[PortInfo]) -> Result<Vec<PortInfo>, DimError>;
    /// Does it take as many rows of i as of j? Then an index that no argument of a computation has
    /// gets its number of rows from the other one, and [`Function::run`] is only called where they are as many.
    fn square(&self) -> bool {
        false
    }
    /// Evaluates. Results come in the compute type of the call, of shape `(batch…, rows, dim)`
    /// ([`Call::shape`]); other shapes and types are refused.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::function`] carries an error of another type to the caller.
    fn run(&self, call: &Call<'_>) -> Result<Vec<Buffer>, Error>;
    /// Reverse mode: contributions to the cotangents of operands, for the cotangents of the
    /// results (`None` where it is zero). A contribution has the dimension and category of its
    /// operand; batch axes along which an operand was broadcast are summed by the caller.
    ///
    /// # Errors
    /// [`GradError`] if the function has no derivative.
    fn vjp(
        &self,
        graph: &mut OuterGraph,
        at: &Application<'_>,
        cotangents: &[Option<Port>],
    ) -> Result<Vec<(Port, Port)>, GradError>;
    /// Forward mode: the tangent of each result, for the tangents of the operands (`None` where
    /// it is zero).
    ///
    /// # Errors
    /// [`GradError`] if the function has no derivative.
    fn jvp(
        &self,
        graph: &mut OuterGraph,
        at: &Application<'_>,
        tangents: &[Option<Port>],
    ) -> Result<Vec<Option<Port>>, GradError>;
}

/// One application of a [`Function`], as its rules of differentiation see it.
///
/// ```
/// use keops_core::{graph::Category, outer::{Application, OuterGraph}};
/// let mut g = OuterGraph::default();
/// let (x, z) = (g.input(0, 1, Category::I), g.input(1, 1, Category::I));
/// let at = Application { operands: &[x], results: &[z] };
/// assert_eq!(at.operands, [x]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Application<'a> {
    /// The values that it was applied to.
    pub operands: &'a [Port],
    /// Its results, which rules may read.
    pub results: &'a [Port],
}

/// A [`Function`] with its operands: what a node of an [`OuterGraph`] holds.
///
/// ```
/// use keops_core::outer::{Applied, OuterNode};
/// /// The name of what a node applies, if it applies a function.
/// fn name(node: &OuterNode) -> Option<&str> {
///     match node {
///         OuterNode::Apply(Applied { function, .. }) => Some(function.name()),
///         _ => None,
///     }
/// }
/// # let mut g = keops_core::outer::OuterGraph::default();
/// # let x = g.input(0, 1, keops_core::graph::Category::I);
/// assert_eq!(name(g.node(x.node)), None);
/// ```
#[derive(Clone, Debug)]
pub struct Applied {
    /// The function.
    pub function: Arc<dyn Function>,
    /// Values that it reads.
    pub operands: Vec<Port>,
    /// What it returns.
    pub results: Vec<PortInfo>,
}

/// A function is known by its type and by what it writes of itself.
impl Hash for Applied {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let function: &dyn Function = &*self.function;
        function.type_id().hash(state);
        function.key(state);
        self.operands.hash(state);
    }
}

/// The operands of one evaluation of a [`Function`], with all that a result depends on.
///
/// ```
/// use keops_core::{data::Buffer, error::Error, outer::Call};
/// /// The body of a function that doubles its first operand.
/// fn run(call: &Call<'_>) -> Result<Vec<Buffer>, Error> {
///     call.each(|v| Ok::<_, std::convert::Infallible>(vec![&v[0] * 2.0]))
/// }
/// ```
#[derive(Debug)]
pub struct Call<'a> {
    pub(crate) name: &'a str,
    /// Values of the compute type in memory of the host, each of shape `(batch…, rows, dim)`, parameters `(batch…, dim)`;
    /// their batch shapes broadcast to [`Call::batch`].
    pub operands: Vec<ArgView<'a>>,
    pub(crate) categories: Vec<Category>,
    pub(crate) results: &'a [PortInfo],
    /// Rows of category `I`.
    pub rows_i: usize,
    /// Rows of category `J`.
    pub rows_j: usize,
    /// Batch shape of the results.
    pub batch: Vec<usize>,
    /// Type of operands and results: f32 or f64.
    pub dtype: DType,
    /// Where the computation runs.
    pub device: &'a Device,
    /// The ranges of the run.
    pub ranges: Option<&'a Ranges>,
}

impl Call<'_> {
    /// Shape of result `k`: `(batch…, rows, dim)`, or `(batch…, dim)` of a parameter. Panics if
    /// there is no such result.
    pub fn shape(&self, k: usize) -> Vec<usize> {
        let PortInfo { dim, category, .. } = self.results[k];
        let rows = match category {
            Category::I => Some(self.rows_i),
            Category::J => Some(self.rows_j),
            Category::Param => None,
        };
        self.batch.iter().copied().chain(rows).chain([dim]).collect()
    }
    /// Results made of zeros, in order.
    ///
    /// # Errors
    /// [`RunError::OutOfMemory`].
    pub fn allocate(&self) -> Result<Vec<Buffer>, Error> {
        let make = |k| {
            let shape = self.shape(k);
            let bytes = shape.iter().fold(8usize, |a, &b| a.saturating_mul(b));
            let what = format!("results of {}", self.name);
            Ok(Buffer::zeros(Some(self.dtype), &shape)
                .ok_or(RunError::OutOfMemory { what, bytes })?)
        };
        (0..self.results.len()).map(make).collect()
    }
    /// Evaluates batch element by batch element: `f` gets the operands of one element as f64
    /// matrices (of one row for parameters) and returns the results likewise.
    ///
    /// # Errors
    /// What `f` returns, as [`Error::Function`]; a result of another shape.
    pub fn each<E: std::error::Error + Send + Sync + 'static>(
        &self,
        mut f: impl FnMut(&[Array2<f64>]) -> Result<Vec<Array2<f64>>, E>,
    ) -> Result<Vec<Buffer>, Error> {
        let mut out = self.allocate()?;
        for (number, index) in ndarray::indices(IxDyn(&self.batch)).into_iter().enumerate() {
            let index = ndarray::Dimension::slice(&index).to_vec();
            let mut operands = vec![];
            for (arg, category) in self.operands.iter().zip(&self.categories) {
                let rows = *category != Category::Param;
                operands.push(with_view!(&*arg.host()?, v => wide(batch_matrix(v, &index, rows))?));
            }
            let made = f(&operands).map_err(|e| Error::function(self.name, e))?;
            if made.len() != out.len() {
                return Err(self.misshapen(format!("{} results", made.len())));
            }
            for (k, (made, out)) in made.iter().zip(&mut out).enumerate() {
                let shape = self.shape(k);
                let rows = shape[self.batch.len()..shape.len() - 1].first().copied().unwrap_or(1);
                if made.dim() != (rows, self.results[k].dim) {
                    return Err(self.misshapen(format!("result {k} of shape {:?}", made.dim())));
                }
                let at = number * made.len();
                match out {
                    Buffer::F32(o) => copy(o.as_slice_mut(), at, made),
                    Buffer::F64(o) => copy(o.as_slice_mut(), at, made),
                    _ => unreachable!("compute types are f32 and f64"),
                }
            }
        }
        Ok(out)
    }
    /// Are these the results that were promised?
    pub(crate) fn check(&self, made: &[Buffer]) -> Result<(), Error> {
        if made.len() != self.results.len() {
            return Err(self.misshapen(format!("{} results", made.len())));
        }
        for (k, b) in made.iter().enumerate() {
            let dtype = b.view().map(|v| v.dtype());
            if dtype != Some(self.dtype) || b.shape() != self.shape(k) {
                let of = dtype.map_or("indices", |t| t.name());
                return Err(self.misshapen(format!("result {k} of shape {:?} in {of}", b.shape())));
            }
        }
        Ok(())
    }
    fn misshapen(&self, got: String) -> Error {
        let expected: Vec<_> = (0..self.results.len()).map(|k| self.shape(k)).collect();
        let name = self.dtype.name();
        let m = format!("the function returned {got}; it promised {expected:?} in {name}");
        Error::Function { name: self.name.into(), source: Foreign::message(m) }
    }
}

fn wide<T: Element>(m: ArrayView2<'_, T>) -> Result<Array2<f64>, Error> {
    let all = memory::collected(m.iter().map(|v| v.to_f64()), "operands in f64")?;
    match Array2::from_shape_vec(m.dim(), all) {
        Ok(m) => Ok(m),
        Err(_) => unreachable!("as many entries as the matrix has"),
    }
}

fn copy<T: Element>(out: Option<&mut [T]>, at: usize, from: &Array2<f64>) {
    let to = out.and_then(|o| o.get_mut(at..at + from.len())).unwrap_or_default();
    to.iter_mut().zip(from).for_each(|(o, v)| *o = T::of_f64(*v));
}

impl OuterGraph {
    /// Applies a function that is defined elsewhere; returns its results.
    ///
    /// # Errors
    /// [`DimError`] from [`Function::results`], or if an operand is indices.
    pub fn apply(
        &mut self,
        function: Arc<dyn Function>,
        operands: &[Port],
    ) -> Result<Vec<Port>, DimError> {
        let infos: Vec<PortInfo> = operands.iter().map(|p| self.info(*p)).collect();
        if infos.iter().any(|i| i.index) {
            return Err(DimError::new(function.name(), "operands of values", "indices"));
        }
        let results = function.results(&infos)?;
        if results.is_empty() || results.iter().any(|r| r.index || r.dim == 0) {
            let expected = "results of values, of dimension 1 or more";
            return Err(DimError::new(function.name(), expected, format!("{results:?}")));
        }
        let count = results.len() as u32;
        let applied = Applied { function, operands: operands.to_vec(), results };
        let node = self.single(OuterNode::Apply(applied)).node;
        Ok((0..count).map(|output| Port { node, output }).collect())
    }
}

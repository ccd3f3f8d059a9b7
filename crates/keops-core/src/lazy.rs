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
//! # KeOps' names
//! | KeOps | here |
//! |---|---|
//! | `LazyTensor(x, axis=0)`, `Vi(x)`, `x[:, None, :]` | [`LazyTensor::vi`], or [`LazyTensor::new`] of an array with a dummy axis |
//! | `LazyTensor(x, axis=1)`, `Vj(x)`; `Pm(p)`; `Var(ind, dim, cat)` | [`LazyTensor::vj`]; [`LazyTensor::pm`]; [`LazyTensor::var`] |
//! | numbers and lists beside a LazyTensor | the same ([`LazyOperand`]), arrays too |
//! | `K @ b`, `K.T @ b`, `matvec`, `rmatvec` | [`LazyTensor::matmul`], [`LazyTensor::rmatvec`] |
//! | `x[2:5]`, `x[1]` | [`LazyTensor::components`], [`LazyTensor::elem`] |
//! | `x ** p` | [`LazyTensor::power`]; [`LazyTensor::pow`], [`LazyTensor::powf`] |
//! | `sum(-1)`, `min(-1)`, … | `sum_components`, `min_components`, … |
//! | `sum(axis)`, `min(axis)`, …; with `call=False` or symbolic variables | `sum(axis)`, …; `sum_reduction(axis)`, …: a [`BoundReduction`] to call |
//! | `unary`, `binary`, `ternary`, `concatenate` | [`LazyTensor::call`], [`LazyTensor::concatenate`] |
//! | `dtype_acc`, `sum_scheme`; `ranges` | [`LazyTensor::options`]; [`LazyTensor::ranges`] |
//! | `ComplexLazyTensor` | [`ComplexLazyTensor`] |
//!
//! # Errors
//! Operators cannot return a `Result`: a LazyTensor carries its first error, with the place in the
//! caller's source, to the method that evaluates it; [`LazyTensor::check`] gives it at once.

mod bound;
mod complex;
mod construct;
mod kept;
mod methods;
mod operators;
mod reductions;
mod term;
#[cfg(test)]
mod tests;

pub use bound::{BoundArgs, BoundReduction, OpenArgs};
pub use complex::{ComplexLazyTensor, ComplexOperand, IntoComplexArray};
pub use kept::{IntoArray, Kept};
pub use operators::{LazyOperand, RealOperand};
pub use reductions::Factor;

use crate::composite::Literal;
use crate::data::DType;
use crate::data::Element;
use crate::error::{FormulaError, InputError};
use crate::genred::{Place, Reference};
use crate::graph::{Builder, Category, Graph, Node, Var};
use crate::outer::Formula;
use crate::ranges::Ranges;
use crate::spec::ReduceOptions;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location as Caller;
use std::sync::{Arc, OnceLock};
use term::{Apply, Bound, Built, Expression, Location, Name, Rule, Source, Sources, Term, Walk};

/// A symbolic matrix with entries in R^dim: a formula and the arrays that it is about.
///
/// Cheap to clone (arrays are shared), immutable, and safe to share between threads. `T` is the
/// element type of the arrays, `P` says where reductions run. Methods are named as in KeOps; each
/// gives the LazyTensor of the formula in its name, or reduces.
///
/// Scalars become parameters, so that a new bandwidth does not mean new code; whole exponents, 0, 1
/// and -1 are constants of the formula.
///
/// ```
/// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
/// # use ndarray::array;
/// # type Lazy = LazyTensor<f64, Reference>;
/// let x = Lazy::vi(array![[1.0, 2.0], [0.0, 1.0]]); // rows of i: (2, 2)
/// let y = Lazy::vj(array![[1.0, 1.0]]); // rows of j: (1, 2)
/// let f = (&x - &y).sqnorm2() + 0.5; // nothing is computed yet
/// assert_eq!(f.shape()?, [2, 1, 1]);
/// assert_eq!(f.sum(Axis::J)?, array![[1.5], [1.5]].into_dyn()); // one result for each i
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub struct LazyTensor<T, P = Reference> {
    term: Arc<Term>,
    /// Its graph, or the error that it carries, where somebody has asked.
    built: OnceLock<Built>,
    options: ReduceOptions,
    ranges: Option<Arc<Ranges>>,
    place: P,
    element: PhantomData<T>,
}

impl<T, P: Clone> Clone for LazyTensor<T, P> {
    fn clone(&self) -> Self {
        LazyTensor {
            term: self.term.clone(),
            built: self.built.clone(),
            options: self.options,
            ranges: self.ranges.clone(),
            place: self.place.clone(),
            element: PhantomData,
        }
    }
}

/// Nodes of a graph from which further operations continue it, where it is there already; smaller
/// ones are made again sooner than their keys.
const CONTINUED: usize = 64;

/// The first place that an error met is the one it is told with.
fn located(location: Location, e: impl Into<FormulaError>) -> FormulaError {
    match e.into() {
        e @ FormulaError::Lazy { .. } => e,
        e => FormulaError::Lazy { location: location.to_string(), source: Box::new(e) },
    }
}

impl<T, P: Place> LazyTensor<T, P> {
    /// An operation of several LazyTensors.
    fn apply(
        location: Location,
        rule: Result<Rule, FormulaError>,
        first: &LazyTensor<T, P>,
        others: &[&LazyTensor<T, P>],
        literals: Vec<Literal>,
    ) -> LazyTensor<T, P> {
        let (mut options, mut ranges) = (first.options, first.ranges.clone());
        let mut failed = None;
        for o in others {
            if options == ReduceOptions::default() {
                options = o.options;
            }
            match (&ranges, &o.ranges) {
                (None, r) => ranges = r.clone(),
                (Some(a), Some(b)) if a != b => {
                    let m = "the operands have different ranges".to_string();
                    failed = Some(InputError::Ranges(m).into());
                }
                _ => {}
            }
        }
        let term = match (rule, failed) {
            (Ok(rule), None) => {
                let others = others.iter().map(|o| o.operand());
                Term::Apply(Apply::new(rule, literals, first.operand(), others, location))
            }
            // Errors of operands come first.
            (Err(e), None) | (_, Some(e)) => {
                let carried = std::iter::once(&first).chain(others);
                let carried = carried.map(|o| o.expression()).find_map(Result::err);
                Term::Built(Arc::new(Err(carried.unwrap_or_else(|| located(location, e)))))
            }
        };
        let (term, place) = (Arc::new(term), first.place.clone());
        LazyTensor { term, built: OnceLock::new(), options, ranges, place, element: PhantomData }
    }
    fn operand(&self) -> Arc<Term> {
        match self.built.get() {
            Some(built) if (**built).as_ref().map_or(0, |e| e.graph.len()) > CONTINUED => {
                Arc::new(Term::Built(built.clone()))
            }
            _ => self.term.clone(),
        }
    }
    /// An operation of the tables ([`crate::ops::ALL`], [`crate::composite::ALL`]) by its name, of
    /// this and other operands, in order, and of literal parameters. Every method of an operation
    /// is a call of this one.
    ///
    /// ```
    /// use keops_core::{composite::Literal, genred::Reference, lazy::LazyTensor};
    /// let x = LazyTensor::<f64, Reference>::vi(ndarray::array![[1.0, 2.0]]);
    /// let y = x.call("Extract", &[], &[Literal::Int(1), Literal::Int(1)]);
    /// assert_eq!(y.dim()?, 1);
    /// assert_eq!(x.call("SqDist", &[&y.call("SumT", &[], &[Literal::Int(2)])], &[]).dim()?, 1);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// An unknown name, a wrong number of operands or parameters, or operands whose dimensions do
    /// not fit are an error that the result carries.
    #[track_caller]
    pub fn call(
        &self,
        name: &str,
        others: &[&LazyTensor<T, P>],
        literals: &[Literal],
    ) -> LazyTensor<T, P> {
        let rule = Rule::by_name(name, literals);
        Self::apply(Caller::caller(), rule, self, others, literals.to_vec())
    }

    /// The error that it carries, or that its arrays do not fit each other.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let (x, y) = (Lazy::vi(array![[1.0, 2.0]]), Lazy::vj(array![[1.0, 2.0, 3.0]]));
    /// assert!((&x * 2).check().is_ok());
    /// let e = (x - y).check().unwrap_err().to_string();
    /// assert!(e.contains("dimensions [2, 3]"), "{e}"); // and where that was written
    /// ```
    ///
    /// # Errors
    /// The first error, with its place in the caller's source.
    pub fn check(&self) -> Result<(), FormulaError> {
        self.shape().map(|_| ())
    }
    fn expression(&self) -> Result<&Expression, FormulaError> {
        let built = self.built.get_or_init(|| match &*self.term {
            Term::Built(built) => built.clone(),
            _ => Arc::new(Walk::new(std::iter::once(&self.term)).build()),
        });
        (**built).as_ref().map_err(FormulaError::clone)
    }
    /// The same with another formula, or with an error.
    fn with(&self, formula: Result<Expression, FormulaError>) -> LazyTensor<T, P> {
        self.with_term(Term::Built(Arc::new(formula)))
    }
    fn with_term(&self, term: Term) -> LazyTensor<T, P> {
        LazyTensor { term: Arc::new(term), built: OnceLock::new(), ..self.clone() }
    }
    /// Number of components of an entry (KeOps' `ndim`).
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(array![[1.0, 2.0, 3.0]]);
    /// assert_eq!((x.dim()?, x.sqnorm2().dim()?, x.tensorprod([1.0, 2.0]).dim()?), (3, 1, 6));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn dim(&self) -> Result<usize, FormulaError> {
        Ok(self.expression()?.dim())
    }
    /// `(batch…, M, N, dim)`; M and N are 1 where no array gives a number of rows.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use ndarray::{Array2, Array3};
    /// let (x, y) = (Lazy::vi(Array2::zeros((5, 3))), Lazy::vj(Array3::zeros((2, 7, 3))));
    /// assert_eq!(x.shape()?, [5, 1, 3]);
    /// assert_eq!(x.sqdist(&y).shape()?, [2, 5, 7, 1]); // two batches
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn shape(&self) -> Result<Vec<usize>, FormulaError> {
        let e = self.expression()?;
        let (mut shape, rows) = e.sizes()?;
        shape.extend(rows);
        shape.push(e.dim());
        Ok(shape)
    }
    /// Shape of the batches, before M and N in [`LazyTensor::shape`].
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use ndarray::{Array3, Array4};
    /// let x = Lazy::vi(Array4::zeros((4, 1, 5, 3))); // batch axes (4, 1)
    /// let y = Lazy::vj(Array3::zeros((2, 7, 3))); // batch axis (2)
    /// assert_eq!((x - y).batch_shape()?, [4, 2]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn batch_shape(&self) -> Result<Vec<usize>, FormulaError> {
        Ok(self.expression()?.sizes()?.0)
    }
    /// Position, dimension and category of the symbolic variables ([`LazyTensor::var`]) in it, by
    /// position.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::graph::Category;
    /// let (x, y) = (Lazy::var(1, 3, Category::I), Lazy::var(0, 3, Category::J));
    /// let variables = (x - y).sqnorm2().symbolic_variables()?;
    /// assert_eq!(variables, [(0, 3, Category::J), (1, 3, Category::I)]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn symbolic_variables(&self) -> Result<Vec<(usize, usize, Category)>, FormulaError> {
        let symbol = |s: &Source| match s.value {
            Bound::Symbol(position) => Some((position, s.var.dim, s.var.category)),
            _ => None,
        };
        let mut all: Vec<_> = self.expression()?.sources.iter().filter_map(symbol).collect();
        all.sort_unstable();
        Ok(all)
    }
    /// The options of sums that it was given.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::spec::{ReduceOptions, Scheme};
    /// let x = Lazy::vi(array![1.0, 2.0]);
    /// assert_eq!(x.current_options(), ReduceOptions::default());
    /// let kahan = x.options(ReduceOptions { scheme: Scheme::Kahan, ..Default::default() });
    /// assert_eq!((kahan + 1).current_options().scheme, Scheme::Kahan); // formulas keep them
    /// ```
    pub fn current_options(&self) -> ReduceOptions {
        self.options
    }
    /// The block-sparse ranges that it was given.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::ranges::Ranges;
    /// let x = Lazy::vi(array![1.0, 2.0]);
    /// assert!(x.current_ranges().is_none());
    /// let diagonal = Ranges::same_labels(&[0, 1], &[0, 1])?;
    /// let masked = (&x * x.t()).ranges(diagonal);
    /// assert_eq!(masked.current_ranges().map(|r| r.pairs()), Some(2));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn current_ranges(&self) -> Option<&Ranges> {
        self.ranges.as_deref()
    }
    /// A name for a variable, which messages and functions made of it use instead of its place in
    /// the source. What is not a variable carries an error then.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// use ndarray::Array2;
    /// type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(Array2::zeros((3, 2))).named("points");
    /// let y = Lazy::vi(Array2::zeros((4, 2))).named("targets");
    /// let e = (x - y).sum(Axis::J).unwrap_err().to_string();
    /// assert!(e.starts_with("argument `targets` has 4 rows, but `points` has 3"), "{e}");
    /// ```
    #[track_caller]
    pub fn named(&self, name: &str) -> LazyTensor<T, P> {
        let Ok(e) = self.expression() else { return self.clone() };
        match (e.graph.node(e.root), &e.sources[..]) {
            (Node::Var(_), [source]) => {
                let source = Source { name: Name::Given(name.into()), ..source.clone() };
                self.with_term(Term::Source(source))
            }
            _ => {
                let m = format!("only a variable can be named `{name}`");
                self.with(Err(located(Caller::caller(), InputError::Option(m))))
            }
        }
    }
    /// The formula, over variables `v0`, `v1`, … in the order of their appearance.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let (x, y) = (Lazy::vi(array![[1.0, 2.0]]), Lazy::vj(array![[0.0, 0.0]]));
    /// let formula = (&x * &y).exp().formula()?;
    /// assert_eq!(formula.to_string(), "Exp(v0 * v1)");
    /// assert_eq!(formula.vars[1].dim, 2);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn formula(&self) -> Result<Formula, FormulaError> {
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
    /// Arrays are shared, ranges are exchanged too.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let k = Lazy::vi(array![1.0, 2.0]) - Lazy::vj(array![0.0, 5.0, 7.0]);
    /// assert_eq!(k.t().shape()?, [3, 2, 1]);
    /// assert_eq!(k.t().sum(Axis::J)?, k.sum(Axis::I)?);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn t(&self) -> LazyTensor<T, P> {
        let flip = |c: Category| match c {
            Category::I => Category::J,
            Category::J => Category::I,
            Category::Param => Category::Param,
        };
        let flipped = |e: &Expression| {
            let mut graph = Graph::default();
            let root = graph.import_nodes(&e.graph, &[e.root], |g, node| match node {
                Node::Var(v) => Some(g.intern(Node::Var(Var { category: flip(v.category), ..*v }))),
                Node::Index(c) => Some(g.intern(Node::Index(flip(*c)))),
                _ => None,
            })[0];
            let mut sources = e.sources.clone();
            sources.iter_mut().for_each(|s| s.var.category = flip(s.var.category));
            Expression { graph: graph.into(), root, sources }
        };
        let mut out = match &*self.term {
            Term::Source(s) => {
                let mut source = s.clone();
                source.var.category = flip(s.var.category);
                self.with_term(Term::Source(source))
            }
            _ => self.with(self.expression().map(flipped)),
        };
        out.ranges = self.ranges.as_ref().map(|r| Arc::new(r.swap_axes()));
        out
    }
    /// Accumulation type and scheme of sums.
    /// They hold for every formula that it goes into; of two operands the options of the first count,
    /// unless they are the default.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::spec::{ReduceOptions, Scheme};
    /// let y = Lazy::vj(array![1e16, 1.0, -1e16]); // 1e16 + 1 is 1e16
    /// let kahan = ReduceOptions { scheme: Scheme::Kahan, accumulate: None };
    /// assert_eq!(y.options(kahan).sum(Axis::J)?, array![[1.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn options(self, options: ReduceOptions) -> LazyTensor<T, P> {
        LazyTensor { options, ..self }
    }
    /// Block-sparse ranges: entries outside count as absent.
    /// They hold for every formula that it goes into; operands with different ranges are an error that
    /// is carried.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::ranges::Ranges;
    /// let x = Lazy::vi(array![1.0, 2.0, 3.0]);
    /// let y = Lazy::vj(array![1.0, 10.0]);
    /// let same = Ranges::same_labels(&["a", "a", "b"], &["a", "b"])?;
    /// assert_eq!((x * y).ranges(same).sum(Axis::J)?, array![[1.0], [2.0], [30.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn ranges(self, ranges: impl Into<Arc<Ranges>>) -> LazyTensor<T, P> {
        LazyTensor { ranges: Some(ranges.into()), ..self }
    }
    /// Where it is reduced.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::genred::Place;
    /// let x = Lazy::vi(array![1.0, 2.0]);
    /// assert_eq!(x.place().device(4).backend().name(), "interpreter");
    /// ```
    pub fn place(&self) -> &P {
        &self.place
    }
    /// The same matrix, to be reduced elsewhere, such as on your own device.
    ///
    /// ```
    /// use keops_core::spec::{Axis, Device};
    /// use keops_core::{genred::Reference, interp::Interpreter, lazy::LazyTensor};
    /// let device = Device::new(Interpreter::new());
    /// let x = LazyTensor::<f64, Reference>::vi(ndarray::array![1.0, 2.0]).at(device);
    /// assert_eq!((&x + x.t()).sum(Axis::J)?, ndarray::array![[5.0], [7.0]].into_dyn());
    /// let first = (&x * x.t()).matmul(ndarray::array![1.0, 0.0])?;
    /// assert_eq!(first, ndarray::array![1.0, 2.0]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn at<Q: Place>(self, place: Q) -> LazyTensor<T, Q> {
        let LazyTensor { term, built, options, ranges, element, .. } = self;
        LazyTensor { term, built, options, ranges, place, element }
    }

    /// Formula and weight over common sources.
    fn joined(
        &self,
        weight: Option<&LazyTensor<T, P>>,
    ) -> Result<(Formula, Vec<Source>), FormulaError> {
        let own = self.expression()?;
        let (root, mut sources) = (own.root, Sources::new(own.sources.clone()));
        let (graph, weight) = match weight {
            Some(w) => {
                let b = Builder::from_graph((*own.graph).clone());
                let weight = w.expression()?.join(&b, &mut sources)?.id;
                (Arc::new(b.into_graph()), Some(weight))
            }
            None => (own.graph.clone(), None),
        };
        let sources = sources.all;
        let vars = sources.iter().map(|s| s.var).collect();
        let names = sources.iter().map(|s| s.name.to_string()).collect();
        Ok((Formula { graph, root, weight, vars, names }, sources))
    }
}

impl<T: Element, P> LazyTensor<T, P> {
    /// Element type of the arrays.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::data::DType;
    /// assert_eq!(Lazy::vi(array![1.0]).dtype(), DType::F64);
    /// assert_eq!(LazyTensor::<f32, Reference>::vi(array![1.0]).dtype(), DType::F32);
    /// ```
    pub fn dtype(&self) -> DType {
        T::DTYPE
    }
}

impl<T, P: Place> fmt::Debug for LazyTensor<T, P> {
    /// The formula and what its variables are, or the error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.expression(), &self.formula()) {
            (Ok(e), Ok(formula)) => {
                write!(f, "{formula}")?;
                for (k, s) in e.sources.iter().enumerate() {
                    write!(f, "{}v{k} = {}", if k == 0 { " where " } else { ", " }, s.name)?;
                }
                Ok(())
            }
            (Err(e), _) => write!(f, "{e}"),
            (_, Err(e)) => write!(f, "{e}"),
        }
    }
}

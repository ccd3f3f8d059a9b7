//! Reductions with their arrays, not yet called; functions of symbolic variables.

use super::kept::Stored;
use super::term::{Bound, Location, Source, Walk};
use super::{LazyTensor, located};
use crate::data::{ArgView, Buffer, DType, Element};
use crate::error::{FormulaError, GradError, InputError};
use crate::genred::{AsArg, Genred, IntoArgs, IntoOutput, Place, Reduce, Reference};
use crate::graph::{Graph, Node, NodeId, Var};
use crate::key::{self, Key};
use crate::outer::{Computation, Formula};
use crate::spec::Axis;
use hashbrown::HashSet;
use ndarray::{ArrayD, ArrayView1, arr1};
use std::hash::Hash;
use std::marker::PhantomData;
use std::panic::Location as Caller;
use std::sync::Arc;

/// A reduction together with the arrays of its formula, to be called once or often: what
/// [`LazyTensor::bound`] and the `…_reduction` methods give. Symbolic variables
/// ([`LazyTensor::var`]) are its arguments, in the order of their positions; a derivative has its
/// cotangent or tangents as further ones.
///
/// ```
/// use keops_core::{genred::Reference, graph::Category, lazy::LazyTensor, spec::Axis};
/// use ndarray::array;
/// type Lazy = LazyTensor<f64, Reference>;
///
/// let (x, y) = (Lazy::vi(array![[0.0], [1.0]]), Lazy::vj(array![[0.0], [2.0]]));
/// let b = Lazy::var(0, 1, Category::J);
/// let product = (x.sqdist(&y) * &b).sum_reduction(Axis::J)?; // a function of b
/// assert_eq!(product.call((&array![[1.0], [1.0]],))?, array![[4.0], [2.0]].into_dyn());
///
/// // The gradient of Σ_i <out_i, e_i> in x: a function of b and e.
/// let gradient = product.vjp(&x)?;
/// let (b_j, e_i) = (array![[1.0], [1.0]], array![[1.0], [10.0]]);
/// assert_eq!(gradient.call((&b_j, &e_i))?, array![[-4.0], [0.0]].into_dyn());
/// // Its derivative along a tangent of y, a function of b, e and the tangent.
/// let mixed = gradient.jvp(&y)?;
/// let d_y = array![[0.0], [1.0]];
/// assert_eq!(mixed.call((&b_j, &e_i, &d_y))?, array![[-2.0], [-20.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub struct BoundReduction<T, P = Reference> {
    function: Genred<P>,
    /// What the first arguments of the function are bound to; those after them are open.
    sources: Vec<Source>,
    values: Vec<Option<Arc<dyn Stored>>>,
    /// Numbers of the open arguments, in the order of calls.
    open: Vec<usize>,
    element: PhantomData<T>,
}

impl<T, P: Clone> Clone for BoundReduction<T, P> {
    fn clone(&self) -> Self {
        let BoundReduction { function, sources, values, open, element } = self;
        BoundReduction {
            function: function.clone(),
            sources: sources.clone(),
            values: values.clone(),
            open: open.clone(),
            element: *element,
        }
    }
}

/// Parameters have the type of the data: of a narrow type, what it cannot hold goes into the
/// formula.
fn narrow<T: Element>() -> bool {
    matches!(T::DTYPE, DType::F16 | DType::BF16)
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

/// Symbolic variables by position, which must have no gaps: number among the sources and variable.
fn symbols(sources: &[Source]) -> Result<Vec<(usize, Var)>, InputError> {
    let symbol = |(k, s): (usize, &Source)| match s.value {
        Bound::Symbol(position) => Some((position, k, s.var)),
        _ => None,
    };
    let mut all: Vec<_> = sources.iter().enumerate().filter_map(symbol).collect();
    all.sort_unstable();
    match (0..all.len()).find(|&k| all[k].0 != k) {
        None => Ok(all.into_iter().map(|(_, k, v)| (k, v)).collect()),
        Some(k) => Err(InputError::Option(format!(
            "no variable has position {k}: positions must have no gaps"
        ))),
    }
}

impl<T: Element, P: Place> LazyTensor<T, P> {
    /// A function of arrays from a formula of [`LazyTensor::var`]s: its arguments, named `v0`,
    /// `v1`, … or as they were named, are in the order of positions, which must have no gaps.
    /// Scalars are constants.
    ///
    /// ```
    /// use keops_core::{genred::Reference, graph::Category, lazy::LazyTensor};
    /// use keops_core::{reduce::LOG_SUM_EXP, spec::Axis};
    /// use ndarray::array;
    /// let x = LazyTensor::<f64, Reference>::var(0, 1, Category::I).named("x");
    /// let y = LazyTensor::var(1, 1, Category::J);
    /// let lse = (x * y).genred(&LOG_SUM_EXP, Axis::J)?;
    /// assert_eq!(lse.arguments().collect::<Vec<_>>(), ["x", "v1"]);
    /// let gradient = lse.vjp("x")?.call((&array![[0.0]], &array![[1.0], [3.0]], &array![[1.0]]))?;
    /// assert_eq!(gradient, array![[2.0]].into_dyn()); // the mean of y
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::check`]; [`FormulaError::Input`] if it holds arrays or if a position is missing.
    #[track_caller]
    pub fn genred(
        &self,
        reduction: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<Genred<P>, FormulaError> {
        let location = Caller::caller();
        self.function(None, reduction.into(), axis).map_err(|e| located(location, e))
    }
    /// As [`LazyTensor::genred`], for reductions that take a weight.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::{graph::Category, reduce::SUM_SOFT_MAX_WEIGHT};
    /// let (q, k) = (Lazy::var(0, 2, Category::I), Lazy::var(1, 2, Category::J));
    /// let v = Lazy::var(2, 1, Category::J);
    /// let attention = (q | k).genred_weighted(&v, &SUM_SOFT_MAX_WEIGHT, Axis::J)?;
    /// let (q, k, v) = (array![[0.0, 0.0]], array![[1.0, 2.0], [3.0, 4.0]], array![[10.0], [30.0]]);
    /// assert_eq!(attention.call((&q, &k, &v))?, array![[20.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::genred`].
    #[track_caller]
    pub fn genred_weighted(
        &self,
        weight: &LazyTensor<T, P>,
        reduction: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<Genred<P>, FormulaError> {
        let location = Caller::caller();
        self.function(Some(weight), reduction.into(), axis).map_err(|e| located(location, e))
    }
    fn function(
        &self,
        weight: Option<&LazyTensor<T, P>>,
        reduction: Reduce,
        axis: Axis,
    ) -> Result<Genred<P>, FormulaError> {
        let (f, sources) = scalars_as_constants(self.joined(weight)?);
        if let Some(s) = sources.iter().find(|s| !matches!(s.value, Bound::Symbol(_))) {
            return Err(InputError::Option(format!(
                "{} is bound to an array: only symbolic variables make a function; `bound` makes \
                 one that keeps the arrays",
                s.name
            ))
            .into());
        }
        let order = symbols(&sources)?;
        let names = order.iter().map(|(k, _)| sources[*k].name.to_string()).collect();
        let f = Formula { vars: order.into_iter().map(|(_, v)| v).collect(), names, ..f };
        Ok(self.placed(f, reduction, axis)?)
    }
    fn placed(&self, f: Formula, r: Reduce, axis: Axis) -> Result<Genred<P>, InputError> {
        // What is kept is found at the device of small problems: large ones do not notice.
        let device = self.place.device(0);
        let computation = Computation::reduction_kept(f, r, axis, self.options, &device)?;
        let g = Genred::of(computation, self.place.clone());
        Ok(match &self.ranges {
            Some(r) => g.ranges(r.clone()),
            None => g,
        })
    }
    /// A reduction together with its arrays, not yet called. Symbolic variables are arguments that
    /// are left open: that is how solvers get at a kernel matrix. There is a method for each
    /// reduction, as [`LazyTensor::sum_reduction`].
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::{graph::Category, reduce::SUM};
    /// let (x, b) = (Lazy::vi(array![1.0, 2.0]), Lazy::var(0, 1, Category::J));
    /// let product = (&x * &x.t() * b).bound(&SUM, Axis::J)?; // a matrix, as a function
    /// assert_eq!(product.call((&array![[1.0], [0.0]],))?, array![[1.0], [2.0]].into_dyn());
    /// assert_eq!(product.call((&array![[0.0], [1.0]],))?, array![[2.0], [4.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::check`]; [`FormulaError::Input`] if formula and reduction do not fit or if the
    /// positions of symbolic variables have gaps.
    #[track_caller]
    pub fn bound(
        &self,
        reduction: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<BoundReduction<T, P>, FormulaError> {
        self.bind(None, reduction.into(), axis, Caller::caller())
    }
    /// As [`LazyTensor::bound`], for reductions that take a weight.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::reduce::LOG_SUM_EXP;
    /// let x = Lazy::vi(array![0.0, 2.0]);
    /// let lse = x.bound_weighted(Lazy::vj(array![1.0, 3.0]), &LOG_SUM_EXP, Axis::J)?;
    /// assert_eq!(lse.call(())?, array![[4f64.ln()], [2.0 + 4f64.ln()]].into_dyn());
    /// let e = array![[1.0], [10.0]];
    /// let gradient = lse.vjp(&x)?.call((&e,))?;
    /// assert!((gradient - e).iter().all(|d| d.abs() < 1e-14)); // d out_i / d x_i = 1
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::bound`].
    #[track_caller]
    pub fn bound_weighted(
        &self,
        weight: impl super::LazyOperand<T, P>,
        reduction: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<BoundReduction<T, P>, FormulaError> {
        self.bind(Some(&weight.lazy()), reduction.into(), axis, Caller::caller())
    }
    /// Formula and sources, under names no two of which are alike.
    fn data(
        &self,
        weight: Option<&LazyTensor<T, P>>,
    ) -> Result<(Formula, Vec<Source>), FormulaError> {
        let mut joined = self.joined(weight)?;
        if narrow::<T>() {
            joined = scalars_as_constants(joined);
        }
        let (mut formula, sources) = joined;
        let mut known = HashSet::with_capacity(formula.names.len());
        for (k, name) in formula.names.iter_mut().enumerate() {
            if !known.insert(name.clone()) {
                *name += &format!(" (number {k})");
                known.insert(name.clone());
            }
        }
        Ok((formula, sources))
    }
    pub(super) fn bind(
        &self,
        weight: Option<&LazyTensor<T, P>>,
        reduction: Reduce,
        axis: Axis,
        location: Location,
    ) -> Result<BoundReduction<T, P>, FormulaError> {
        let bind = || -> Result<BoundReduction<T, P>, FormulaError> {
            let (formula, sources) = self.data(weight)?;
            let value = |s: &Source| -> Option<Arc<dyn Stored>> {
                match &s.value {
                    Bound::Array(a) => Some(a.clone()),
                    Bound::Scalar(v) => Some(Arc::new(arr1(&[T::of_f64(*v)]).into_dyn())),
                    Bound::Symbol(_) => None,
                }
            };
            Ok(BoundReduction {
                values: sources.iter().map(value).collect(),
                open: symbols(&sources)?.into_iter().map(|(k, _)| k).collect(),
                sources,
                function: self.placed(formula, reduction, axis)?,
                element: PhantomData,
            })
        };
        bind().map_err(|e| located(location, e))
    }
    /// Calls a reduction at once. A formula that was called before is not built again.
    pub(super) fn evaluate(
        &self,
        weight: Option<&LazyTensor<T, P>>,
        reduction: Reduce,
        axis: Axis,
        location: Location,
    ) -> Result<Vec<Buffer>, FormulaError> {
        let narrow = narrow::<T>();
        let terms = [Some(&self.term), weight.map(|w| &w.term)];
        let mut key = Key::default();
        key::TERMS.hash(&mut key);
        let sources = Walk::new(terms.into_iter().flatten()).sources(narrow, &mut key);
        let symbol = |s: &&Source| matches!(s.value, Bound::Symbol(_));
        if sources.iter().any(symbol) {
            let bound = self.bind(weight, reduction, axis, location)?;
            let name = &bound.sources[bound.open[0]].name;
            let m = format!("{name} is symbolic: `genred` or `bound` make a function of it");
            return Err(located(location, InputError::Option(m)));
        }
        (narrow, reduction.def, reduction.k, axis, self.options).hash(&mut key);
        // What is kept is found at the device of small problems: large ones do not notice.
        let device = self.place.device(0);
        let make = || -> Result<Computation, FormulaError> {
            let (formula, _) = self.data(weight)?;
            Ok(Computation::reduction_kept(formula, reduction, axis, self.options, &device)?)
        };
        let kept = device.computation(key, make).map_err(|e| located(location, e))?;
        let scalar = |s: &&Source| match s.value {
            Bound::Scalar(v) => Some(T::of_f64(v)),
            _ => None,
        };
        let scalars: Vec<T> = sources.iter().filter_map(scalar).collect();
        let mut next = scalars.chunks_exact(1);
        let mut args: Vec<ArgView<'_>> = Vec::with_capacity(sources.len());
        args.extend(sources.iter().filter_map(|s| match &s.value {
            Bound::Array(a) => Some(a.view()),
            Bound::Scalar(_) if narrow => None,
            _ => next.next().map(|v| T::erase(ArrayView1::from(v).into_dyn())),
        }));
        match kept.sizes(&args) {
            Ok(sizes) => {
                let device = self.place.device(sizes.pairs());
                kept.run_sized(&sizes, &device, &args, self.ranges.as_deref(), None)
            }
            // Messages have the names of this call.
            Err(_) => self.bind(weight, reduction, axis, location)?.function.run(&args),
        }
        .map_err(|e| located(location, e))
    }
}

/// Values for the open arguments of a [`BoundReduction`]: as [`IntoArgs`], or `()` for none.
///
/// ```
/// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
/// # use ndarray::array;
/// # type Lazy = LazyTensor<f64, Reference>;
/// use keops_core::graph::Category;
/// let (x, b) = (Lazy::vi(array![1.0, 2.0]), Lazy::var(0, 1, Category::J));
/// let closed = x.sum_reduction(Axis::I)?;
/// let open = (x * b).sum_reduction(Axis::I)?;
/// assert_eq!(closed.call(())?, array![[3.0]].into_dyn());
/// assert_eq!(open.call((&array![[10.0], [100.0]],))?, array![[30.0], [300.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait OpenArgs<'a, T> {
    /// The arrays in order.
    ///
    /// ```
    /// use keops_core::lazy::OpenArgs;
    /// let (a, b) = (ndarray::array![1.0, 2.0], ndarray::array![[3.0]]);
    /// let args = OpenArgs::<f64>::open_args((&a, &b));
    /// assert_eq!((args[0].shape(), args[1].shape()), (&[2][..], &[1, 1][..]));
    /// ```
    fn open_args(self) -> Vec<ArgView<'a>>;
}
impl<'a, T> OpenArgs<'a, T> for () {
    fn open_args(self) -> Vec<ArgView<'a>> {
        vec![]
    }
}
impl<'a, T: Element, A: IntoArgs<'a, Elem = T>> OpenArgs<'a, T> for A {
    fn open_args(self) -> Vec<ArgView<'a>> {
        self.into_args()
    }
}

/// All arguments of a [`BoundReduction`], those that it holds and others.
///
/// ```
/// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
/// # use ndarray::array;
/// # type Lazy = LazyTensor<f64, Reference>;
/// let double = (Lazy::vi(array![1.0, 2.0]) * 2).sum_reduction(Axis::J)?;
/// let all = double.arguments(())?;
/// assert_eq!(double.function().call(all)?, array![[2.0], [4.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub struct BoundArgs<'a, T>(Vec<ArgView<'a>>, PhantomData<T>);
impl<'a, T: Element> IntoArgs<'a> for BoundArgs<'a, T> {
    type Elem = T;
    fn into_args(self) -> Vec<ArgView<'a>> {
        self.0
    }
}

impl<T, P: Place> BoundReduction<T, P> {
    /// The reduction as a function of all arrays, in order, open ones included.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::graph::Category;
    /// let (x, b) = (Lazy::vi(array![1.0, 2.0]).named("x"), Lazy::var(0, 1, Category::J).named("b"));
    /// let product = (&x * b).sum_reduction(Axis::J)?;
    /// let function = product.function(); // of arrays that need not be those above
    /// assert_eq!(function.arguments().collect::<Vec<_>>(), ["x", "b"]);
    /// assert_eq!(function.call((&array![[5.0]], &array![[2.0]]))?, array![[10.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn function(&self) -> &Genred<P> {
        &self.function
    }
    /// Names of the arguments that are left open, in the order of calls.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::graph::Category;
    /// let (x, b) = (Lazy::vi(array![1.0, 2.0]), Lazy::var(0, 1, Category::J).named("b"));
    /// let product = (&x * b).sum_reduction(Axis::J)?;
    /// assert_eq!(product.free(), ["b"]);
    /// assert_eq!(product.vjp(&x)?.free(), ["b", "e"]); // and the cotangent
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn free(&self) -> Vec<&str> {
        let all: Vec<&str> = self.function.arguments().collect();
        self.open.iter().map(|&k| all[k]).collect()
    }
    /// Name of the argument that a variable is.
    fn name_of(&self, variable: &LazyTensor<T, P>) -> Result<&str, FormulaError> {
        let e = variable.expression()?;
        let inputs = self.function.computation().inputs();
        let found = match (e.graph.node(e.root), &e.sources[..]) {
            (Node::Var(_), [source]) => self.sources.iter().position(|s| s.same(source)),
            _ => None,
        };
        found.map(|k| inputs[k].name.as_str()).ok_or_else(|| {
            let mut known: Vec<_> = inputs.iter().map(|i| format!("`{}`", i.name)).collect();
            if let [Source { value: Bound::Array(_), .. }] = e.sources[..]
                && let Some(last) = known.last_mut()
            {
                last.push_str(" (a new LazyTensor of an array is another variable: keep a clone of the one in the formula)");
            }
            let name = match &e.sources[..] {
                [source] => source.name.to_string(),
                _ => "a formula".into(),
            };
            GradError::UnknownVariable { name, known: known.join(", ") }.into()
        })
    }
    fn derive(
        &self,
        wrt: &[&LazyTensor<T, P>],
        location: Location,
        rule: impl FnOnce(&Genred<P>, &[&str]) -> Result<Genred<P>, GradError>,
    ) -> Result<BoundReduction<T, P>, FormulaError> {
        let derive = || -> Result<BoundReduction<T, P>, FormulaError> {
            let names = wrt.iter().map(|v| self.name_of(v)).collect::<Result<Vec<_>, _>>()?;
            let function = rule(&self.function, &names)?;
            let count = function.computation().inputs().len();
            let mut out = BoundReduction { function, ..self.clone() };
            out.open.extend(out.values.len()..count);
            out.values.resize(count, None);
            Ok(out)
        };
        derive().map_err(|e| located(location, e))
    }
    /// The gradient of `Σ <result, e>` with respect to a variable of the formula, which may be a
    /// parameter; the cotangent `e` is a further open argument. It can be derived again.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// use ndarray::array;
    /// let x = LazyTensor::<f64, Reference>::vi(array![2.0, 3.0]);
    /// let y = LazyTensor::vj(array![5.0, 7.0]);
    /// let sum = (x.square() * &y).sum_reduction(Axis::J)?; // 12 x_i²
    /// let e = array![[1.0], [10.0]];
    /// assert_eq!(sum.vjp(&x)?.call((&e,))?, array![[48.0], [720.0]].into_dyn());
    /// assert_eq!(sum.jvp(&x)?.call((&e,))?, array![[48.0], [720.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`FormulaError::Grad`] if it is no variable of the formula, or if the result is indices.
    #[track_caller]
    pub fn vjp(&self, wrt: &LazyTensor<T, P>) -> Result<BoundReduction<T, P>, FormulaError> {
        self.derive(&[wrt], Caller::caller(), |g, names| g.vjp_of(names))
    }
    /// The gradients with respect to several variables, which share their kernel evaluations: one
    /// result for each.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let (x, y) = (Lazy::vi(array![2.0, 3.0]), Lazy::vj(array![5.0, 7.0]));
    /// let sum = (&x * &y).sum_reduction(Axis::J)?;
    /// let gradients = sum.vjp_of(&[&x, &y])?.call_all((&array![[1.0], [10.0]],))?;
    /// assert_eq!(gradients[0], array![[12.0], [120.0]].into_dyn()); // e_i Σ_j y_j
    /// assert_eq!(gradients[1], array![[32.0], [32.0]].into_dyn()); // Σ_i e_i x_i
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`BoundReduction::vjp`].
    #[track_caller]
    pub fn vjp_of(&self, wrt: &[&LazyTensor<T, P>]) -> Result<BoundReduction<T, P>, FormulaError> {
        self.derive(wrt, Caller::caller(), |g, names| g.vjp_of(names))
    }
    /// The derivative of the result along a tangent of a variable of the formula; the tangent is a
    /// further open argument. It can be derived again.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(array![2.0, 3.0]);
    /// let sum = (&x.square() * Lazy::vj(array![5.0, 7.0])).sum_reduction(Axis::J)?; // 12 x_i²
    /// let along = sum.jvp(&x)?;
    /// assert_eq!(along.call((&array![[1.0], [10.0]],))?, array![[48.0], [720.0]].into_dyn());
    /// assert!(sum.jvp(&Lazy::vi(array![2.0, 3.0])).is_err()); // not in the formula
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`BoundReduction::vjp`].
    #[track_caller]
    pub fn jvp(&self, wrt: &LazyTensor<T, P>) -> Result<BoundReduction<T, P>, FormulaError> {
        self.derive(&[wrt], Caller::caller(), |g, names| g.jvp_of(names))
    }
    /// The derivative along tangents of several variables at once.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let (x, y) = (Lazy::vi(array![2.0, 3.0]), Lazy::vj(array![5.0, 7.0]));
    /// let sum = (&x * &y).sum_reduction(Axis::J)?;
    /// let (d_x, d_y) = (array![[1.0], [0.0]], array![[0.0], [1.0]]);
    /// let along = sum.jvp_of(&[&x, &y])?.call((&d_x, &d_y))?;
    /// assert_eq!(along, array![[12.0 + 2.0], [3.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`BoundReduction::vjp`].
    #[track_caller]
    pub fn jvp_of(&self, wrt: &[&LazyTensor<T, P>]) -> Result<BoundReduction<T, P>, FormulaError> {
        self.derive(wrt, Caller::caller(), |g, names| g.jvp_of(names))
    }
    /// All that a call goes through, as text: see [`Genred::explain`].
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(array![2.0, 3.0]);
    /// let text = x.exp().sum_reduction(Axis::J)?.vjp(&x)?.explain()?;
    /// assert!(text.contains("Exp") && text.contains("f64"), "{text}");
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::explain`].
    pub fn explain(&self) -> Result<String, FormulaError>
    where
        T: Element,
    {
        self.function.explain(T::DTYPE)
    }
    /// After the results of a derivative, also those of what was derived: see
    /// [`Genred::with_primal`].
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(array![2.0, 3.0]);
    /// let sum = x.square().sum_reduction(Axis::J)?;
    /// let both = sum.vjp(&x)?.with_primal().call_all((&array![[1.0], [1.0]],))?;
    /// assert_eq!(both[0], array![[4.0], [6.0]].into_dyn()); // the gradient
    /// assert_eq!(both[1], array![[4.0], [9.0]].into_dyn()); // the value
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn with_primal(mut self) -> BoundReduction<T, P> {
        self.function = self.function.with_primal();
        self
    }
}

impl<T: Element, P: Place> BoundReduction<T, P> {
    /// All arguments of [`BoundReduction::function`], for these values of the open ones.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// use keops_core::graph::Category;
    /// let b = Lazy::var(0, 1, Category::J);
    /// let product = (Lazy::vi(array![1.0, 2.0]) * b).sum_reduction(Axis::J)?;
    /// let b = array![[3.0]];
    /// let all = product.arguments((&b,))?;
    /// assert_eq!(product.function().call(all)?, array![[3.0], [6.0]].into_dyn());
    /// assert!(product.arguments(()).is_err()); // b is open
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Count`] if there are too many or too few.
    pub fn arguments<'a>(
        &'a self,
        open: impl OpenArgs<'a, T>,
    ) -> Result<BoundArgs<'a, T>, FormulaError> {
        let open = open.open_args();
        if open.len() != self.open.len() {
            let names = self.free().join(", ");
            let (expected, got) = (self.open.len(), open.len());
            return Err(InputError::Count { expected, names, got }.into());
        }
        let mut all: Vec<Option<ArgView<'a>>> =
            self.values.iter().map(|v| v.as_ref().map(|v| v.view())).collect();
        for (&k, arg) in self.open.iter().zip(open) {
            all[k] = Some(arg);
        }
        Ok(BoundArgs(all.into_iter().flatten().collect(), PhantomData))
    }
    /// The result, for these values of the open arguments: see [`Genred::call`].
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let d = (Lazy::vi(array![1.0, 5.0]) - Lazy::vj(array![2.0, 3.0])).abs();
    /// assert_eq!(d.min_reduction(Axis::J)?.call(())?, array![[1.0], [2.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::call`].
    pub fn call<'a>(&'a self, open: impl OpenArgs<'a, T>) -> Result<ArrayD<T>, FormulaError> {
        self.function.call(self.arguments(open)?)
    }
    /// All results that are values.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let x = Lazy::vi(array![1.0, 5.0]);
    /// let sum = x.sum_reduction(Axis::I)?; // 6
    /// let both = sum.vjp(&x)?.with_primal().call_all((&array![[1.0]],))?;
    /// assert_eq!(both, [array![[1.0], [1.0]].into_dyn(), array![[6.0]].into_dyn()]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::call`].
    pub fn call_all<'a>(
        &'a self,
        open: impl OpenArgs<'a, T>,
    ) -> Result<Vec<ArrayD<T>>, FormulaError> {
        self.function.call_all(self.arguments(open)?)
    }
    /// The result that is indices.
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let d = (Lazy::vi(array![1.0, 5.0]) - Lazy::vj(array![2.0, 3.0])).abs();
    /// assert_eq!(d.argmin_reduction(Axis::J)?.call_indices(())?, array![[0], [1]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::call_indices`].
    pub fn call_indices<'a>(
        &'a self,
        open: impl OpenArgs<'a, T>,
    ) -> Result<ArrayD<i64>, FormulaError> {
        self.function.call_indices(self.arguments(open)?)
    }
    /// The result, written into an array: see [`Genred::call_into`].
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor, spec::Axis};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let sum = Lazy::vi(array![1.0, 5.0]).sum_reduction(Axis::J)?;
    /// let mut out = ndarray::Array2::zeros((2, 1));
    /// sum.call_into((), &mut out)?;
    /// assert_eq!(out, array![[1.0], [5.0]]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::call_into`].
    pub fn call_into<'a>(
        &'a self,
        open: impl OpenArgs<'a, T>,
        out: &mut impl IntoOutput<Elem = T>,
    ) -> Result<(), FormulaError> {
        self.function.call_into(self.arguments(open)?, out)
    }
}

/// The arrays that it holds, in order; open arguments are left out.
impl<'a, T: Element, P> IntoArgs<'a> for &'a BoundReduction<T, P> {
    type Elem = T;
    fn into_args(self) -> Vec<ArgView<'a>> {
        self.values.iter().flatten().map(|v| v.view()).collect()
    }
}

impl<T: Element> AsArg for super::Kept<T> {
    type Elem = T;
    fn as_arg(&self) -> ArgView<'_> {
        Stored::view(self)
    }
}

impl<T, P: Place> std::fmt::Debug for BoundReduction<T, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let arguments: Vec<_> = self.function.arguments().collect();
        f.debug_struct("BoundReduction")
            .field("arguments", &arguments)
            .field("open", &self.free())
            .finish()
    }
}

//! Solves as nodes of computations, which are differentiated like everything else.
//!
//! With `A = K + αI`, the solution of `A a = b` has the tangent `da = A⁻¹ (db - dK a - dα a)`: a
//! solve again. For a cotangent `ā` of the solution, `λ = A⁻ᵀ ā` is the cotangent of `b`, `-<λ, a>`
//! that of `α`, and that of an argument is the gradient of `-<λ, K a>` with `λ` and `a` held fixed.
//! A second derivative differentiates `λ`, the solution of a system with the *transpose*, so that
//! both systems are functions here. Only symmetric matrices are solved with, whose transpose has
//! the same solutions; but `x` and `y` of `K(x, y)` move alone, and the derivatives of `Kᵀ` are not
//! those of `K`.

use crate::control::Control;
use crate::entries::{Diagonal, Rows};
use crate::info::{SolveInfo, SolveOptions};
use crate::linear::Linear;
use crate::operator::{KernelOperator, batch_element};
use crate::precondition::Preconditioner;
use crate::solve::{KernelSolve, block};
use crate::solver::Settings;
use crate::{OperatorError, SolveError};
use keops_core::data::{ArgView, Buffer, Element};
use keops_core::error::{DimError, Error, GradError};
use keops_core::genred::{Genred, Place, Reference};
use keops_core::graph::Category;
use keops_core::outer::{
    Application, Call, Computation, Function, InputDef, OuterGraph, OuterNode, OutputDef, Port,
    PortInfo, Reduction,
};
use keops_core::ranges::Ranges;
use keops_core::spec::Device;
use keops_core::with_view;
use ndarray::{ArrayD, IxDyn};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

/// An operator that gives its diagonal and its rows: what preconditioners are made from.
///
/// ```
/// use keops_linalg::{Diag, Entries};
/// let d = Diag::new(ndarray::array![1.0, 2.0], 1);
/// let entries: &dyn Entries = &d;
/// assert_eq!(entries.diagonal()?, ndarray::array![[1.0, 2.0]]);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub trait Entries: Diagonal + Rows {}
impl<O: Diagonal + Rows + ?Sized> Entries for O {}

/// What a preconditioner of a solve is, and how long it lives.
type Kept = Arc<dyn Preconditioner + Send + Sync>;
type Recipe = Arc<dyn Fn(&dyn Entries) -> Result<Kept, Error> + Send + Sync>;
type Watch = Arc<dyn Fn(&SolveInfo) + Send + Sync>;

/// What a solve shares with those in its derivatives.
#[derive(Default)]
struct Shared {
    recipe: Option<Recipe>,
    watch: Option<Watch>,
    /// The preconditioner made last, and the hash of the arguments that it was made for. (Whether
    /// it fits decides how fast a solve is, not its result.)
    kept: Mutex<Option<(u64, Kept)>>,
    last: Mutex<Option<SolveInfo>>,
}

/// The solution of `(K + αI) a = b` as a function of all its arguments, b and, on request, the
/// ridge: a node of computations. [`KernelSolve::function`] begins one.
///
/// It composes with reductions and with other solves, and has derivatives of any order in both
/// modes and in every argument. A preconditioner is made once for the arguments of a kernel, and
/// serves the solves of derivatives with them too. All solves have the same options; an error of
/// one is the source of [`Error::Function`].
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{KernelSolve, SolveOptions};
/// use ndarray::array;
///
/// // Kernel interpolation: f(z) = Σ_j k(z, y_j) a_j where (K + αI) a = b.
/// let k = "Exp(-SqDist(x, y))";
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
/// let solve: KernelSolve = KernelSolve::new(&format!("{k} * b"), aliases, "b", Axis::J)?;
/// let a = solve.function(SolveOptions { tolerance: 1e-12, ..SolveOptions::default() });
/// let a = a.ridge_as("alpha");
/// let sum: Genred = Genred::new("Exp(-SqDist(z, y)) * a", ["z = Vi(1)", "y = Vj(1)", "a = Vj(1)"], &SUM, Axis::J)?;
/// let f = sum.compose("a", &a.genred()?)?;
/// assert_eq!(f.arguments().collect::<Vec<_>>(), ["z", "y", "x", "b", "alpha"]);
///
/// // One point: f(z) = k(z, y) b / (1 + α), and its derivative in α.
/// let (x, z, b, alpha) = (array![[0.5]], array![[0.5]], array![[3.0]], array![0.5]);
/// let args = (&z, &x, &x, &b, &alpha, &array![[1.0]]);
/// let slope = f.vjp("alpha")?.call(args)?;
/// assert!((slope[[0]] + 3.0f64 / 1.5 / 1.5).abs() < 1e-9);
/// assert!(a.last_report().is_some_and(|info| info.converged()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SolveFunction<P = Reference> {
    system: System,
    inputs: Vec<InputDef>,
    ridge: Option<String>,
    place: P,
}

impl<P> fmt::Debug for SolveFunction<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SolveFunction").field("system", &self.system).finish_non_exhaustive()
    }
}

impl<P: Place> KernelSolve<P> {
    /// These systems as a node of computations: see [`SolveFunction`].
    pub fn function(&self, options: SolveOptions) -> SolveFunction<P> {
        SolveFunction::of(self.sum(), self.linear().clone(), options)
    }
}

impl<P: Place> SolveFunction<P> {
    fn of(sum: &Genred<P>, linear: Linear, options: SolveOptions) -> SolveFunction<P> {
        let mut computation = sum.computation().clone();
        if let Some(ranges) = sum.given_ranges() {
            computation = computation.with_ranges(ranges.clone());
        }
        let inputs = computation.inputs().to_vec();
        let system = System {
            sum: computation.into(),
            linear,
            options,
            transposed: false,
            ridge: false,
            shared: Arc::default(),
        };
        SolveFunction { system, inputs, ridge: None, place: sum.place().clone() }
    }
    /// The ridge is an argument of this name and of dimension 1, the last one, instead of the
    /// number in the options.
    pub fn ridge_as(mut self, name: &str) -> Self {
        self.ridge = Some(name.into());
        self.system.ridge = true;
        self
    }
    /// How to make a preconditioner of the matrix; it serves all solves with the same arguments
    /// that follow each other, those of derivatives included.
    ///
    /// ```
    /// use keops_core::spec::Axis;
    /// use keops_linalg::{KernelSolve, PivotedCholesky, SolveOptions};
    /// use std::sync::Arc;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let solve: KernelSolve = KernelSolve::new("Exp(-SqDist(x, y)) * b", aliases, "b", Axis::J)?;
    /// let f = solve.function(SolveOptions::ridge(1e-3));
    /// let f = f.preconditioner(|k| Ok(Arc::new(PivotedCholesky::new(k, 20)?)));
    /// let x = ndarray::Array2::from_shape_fn((40, 1), |(k, _)| k as f64 / 20.0);
    /// f.genred()?.call((&x, &x, &x))?;
    /// assert!(f.last_report().is_some_and(|info| info.iterations <= 3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn preconditioner(
        mut self,
        recipe: impl Fn(&dyn Entries) -> Result<Kept, Error> + Send + Sync + 'static,
    ) -> Self {
        let watch = self.system.shared.watch.clone();
        self.system.shared =
            Shared { recipe: Some(Arc::new(recipe)), watch, ..Shared::default() }.into();
        self
    }
    /// Calls a function with the report of each solve, those of derivatives included.
    pub fn observe(mut self, watch: impl Fn(&SolveInfo) + Send + Sync + 'static) -> Self {
        let recipe = self.system.shared.recipe.clone();
        self.system.shared =
            Shared { watch: Some(Arc::new(watch)), recipe, ..Shared::default() }.into();
        self
    }
    /// The report of the last solve, of derivatives too; none before the first, and of what failed:
    /// the error has it.
    pub fn last_report(&self) -> Option<SolveInfo> {
        self.system.shared.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Applies it to values of a computation: those of the arguments of the sum in order, with the
    /// right-hand side in the place of the variable, then the ridge if it is an argument. The
    /// solution has the rows and the dimension of the right-hand side.
    ///
    /// # Errors
    /// [`DimError`] if number, dimension or category of the operands does not fit.
    pub fn apply(&self, graph: &mut OuterGraph, operands: &[Port]) -> Result<Port, DimError> {
        self.system.apply(graph, operands)
    }
    /// The solution as a function of named arrays, which [`Genred::compose`] puts into others.
    ///
    /// # Errors
    /// [`Error::Input`] if the name of the ridge is that of another argument;
    /// [`Error::Dim`] if the systems are not square.
    pub fn genred(&self) -> Result<Genred<P>, Error> {
        let mut inputs = self.inputs.clone();
        if let Some(name) = &self.ridge {
            let (name, category) = (name.clone(), Category::Param);
            inputs.push(InputDef { name, category, row: vec![1], like: None });
        }
        let mut graph = OuterGraph::default();
        let dim = |i: &InputDef| i.row.iter().product();
        let operands: Vec<Port> =
            inputs.iter().enumerate().map(|(k, i)| graph.input(k, dim(i), i.category)).collect();
        let port = self.apply(&mut graph, &operands)?;
        let row = inputs[self.system.linear.slot].row.clone();
        let made = Computation::new(graph, inputs, vec![OutputDef { port, row, like: None }])?;
        Ok(Genred::<Reference>::from(made).at(self.place.clone()))
    }
}

/// `(K + αI) a = b`, or with the transpose of `K`: what a node applies.
#[derive(Clone)]
struct System {
    sum: Genred,
    linear: Linear,
    options: SolveOptions,
    transposed: bool,
    /// Is the ridge an operand?
    ridge: bool,
    shared: Arc<Shared>,
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let System { linear, options, transposed, ridge, .. } = self;
        let mut f = f.debug_struct("System");
        f.field("linear", linear).field("options", options);
        f.field("transposed", transposed).field("ridge_is_operand", ridge).finish()
    }
}

impl System {
    fn apply(&self, graph: &mut OuterGraph, operands: &[Port]) -> Result<Port, DimError> {
        Ok(graph.apply(Arc::new(self.clone()), operands)?[0])
    }
    /// The other index: that of the rows of K a.
    fn kept(&self) -> Category {
        if self.linear.category == Category::I { Category::J } else { Category::I }
    }
    fn reduction(&self) -> &Reduction {
        let c = self.sum.computation();
        match c.graph().node(c.outputs()[0].port.node) {
            OuterNode::Reduce(r) => r,
            _ => unreachable!("the function is a sum, as was checked"),
        }
    }
    /// `K u`, of the kept index.
    fn product(&self, graph: &mut OuterGraph, operands: &[Port], u: Port) -> Port {
        let own = self.reduction();
        let bind = |port: &Port| match self.sum.computation().graph().node(port.node) {
            OuterNode::Input { slot, .. } if *slot == self.linear.slot => u,
            OuterNode::Input { slot, .. } => operands[*slot],
            _ => unreachable!("the sum is of its arguments, as was checked"),
        };
        let bindings = own.bindings.iter().map(|(v, p)| (*v, bind(p))).collect();
        Port { node: graph.reduce(Reduction { bindings, ..own.clone() }), output: 0 }
    }
    /// Operands of the sum but the right-hand side, each once.
    fn arguments(&self, operands: &[Port]) -> Vec<Port> {
        let mut all: Vec<Port> = vec![];
        for (k, p) in operands.iter().enumerate().take(operands.len() - usize::from(self.ridge)) {
            if k != self.linear.slot && !all.contains(p) {
                all.push(*p);
            }
        }
        all
    }
    /// The tangent of the product with the matrix of the system, the vector `a` held fixed.
    fn along(
        &self,
        graph: &mut OuterGraph,
        operands: &[Port],
        a: Port,
        tangents: &[(Port, Port)],
    ) -> Result<Option<Port>, GradError> {
        let mut product = self.product(graph, operands, a);
        let mut held = operands.to_vec();
        held.push(a);
        if self.transposed {
            let a_kept = graph.recast(a, self.kept())?;
            let terms: Vec<Port> =
                graph.pull_back_one(product, a_kept, &[a])?.into_iter().map(|(_, p)| p).collect();
            if terms.is_empty() {
                return Ok(None);
            }
            (product, _) = (graph.add(&terms), held.push(a_kept));
        }
        let made = graph.push_forward(&[product], tangents, &held)?[0];
        Ok(made.map(|t| graph.recast(t, self.linear.category)).transpose()?)
    }

    /// Solves with one ridge; the preconditioner that is kept, if it was made for these arguments.
    fn solve(
        &self,
        device: &Device,
        ranges: Option<&Ranges>,
        mut args: Vec<ArgView<'_>>,
        ridge: f64,
    ) -> Result<ArrayD<f64>, SolveError> {
        let mut sum = self.sum.clone().at(device.clone());
        if let Some(ranges) = ranges {
            sum = sum.ranges(ranges.clone());
        }
        let b = args.remove(self.linear.slot);
        let kept = self.shared.recipe.as_ref().map(|_| fingerprint(&args));
        let rows = b.shape().iter().rev().nth(1).copied();
        let operator = match KernelOperator::bind(&sum, self.linear.clone(), args, rows) {
            Ok(operator) => operator,
            Err(OperatorError::Core(e)) => return Err(e.into()),
            Err(e) => unreachable!("linearity was checked: {e}"),
        };
        let mut held = None;
        if let (Some(recipe), Some(key)) = (&self.shared.recipe, kept) {
            let lock = || self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let known = lock().as_ref().filter(|(k, _)| *k == key).map(|(_, p)| p.clone());
            held = Some(match known {
                Some(known) => known,
                None => {
                    *lock() = None; // two of them may not fit in memory
                    let made = recipe(&operator)?;
                    *lock() = Some((key, made.clone()));
                    made
                }
            });
        }
        let options = SolveOptions { ridge, ..self.options };
        let preconditioner = held.as_deref().map(|p| p as &dyn Preconditioner);
        let control = Control { preconditioner, ..Control::default() };
        let settings = Settings { options, control, ..Settings::default() };
        let (value, info) = block(&operator, &b, settings)?;
        if let Some(watch) = &self.shared.watch {
            watch(&info);
        }
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(info);
        Ok(value)
    }
}

/// A number that tells arguments from others.
fn fingerprint(args: &[ArgView<'_>]) -> u64 {
    let mut state = DefaultHasher::new();
    for arg in args {
        arg.shape().hash(&mut state);
        let Some(view) = arg.on_host() else { unreachable!("operands are in memory of the host") };
        with_view!(&*view, v => v.iter().for_each(|e| state.write_u64(e.to_f64().to_bits())));
    }
    state.finish()
}

impl Function for System {
    fn name(&self) -> &str {
        "KernelSolve"
    }
    fn key(&self, state: &mut dyn Hasher) {
        let SolveOptions { ridge, tolerance, max_iterations, check_symmetry, method } =
            self.options;
        let mut state = state;
        self.reduction().hash(&mut state);
        (self.linear.slot, ridge.to_bits(), tolerance.to_bits()).hash(&mut state);
        (max_iterations, check_symmetry, method, self.transposed, self.ridge).hash(&mut state);
        Arc::as_ptr(&self.shared).hash(&mut state);
    }
    fn results(&self, operands: &[PortInfo]) -> Result<Vec<PortInfo>, DimError> {
        let inputs = self.sum.computation().inputs();
        let expected = inputs.len() + usize::from(self.ridge);
        if operands.len() != expected {
            return Err(DimError::new(
                "KernelSolve",
                format!("{expected} operands"),
                operands.len(),
            ));
        }
        let text = |category: Category, dim: usize| format!("{}({dim})", category.keyword());
        let of_sum = inputs.iter().map(|i| (i.name.as_str(), i.category, i.row.iter().product()));
        let ridge = self.ridge.then_some(("the ridge", Category::Param, 1));
        for ((name, category, dim), got) in of_sum.chain(ridge).zip(operands) {
            if (category, dim) != (got.category, got.dim) {
                let (expected, got) = (text(category, dim), text(got.category, got.dim));
                return Err(DimError::new(name, expected, got));
            }
        }
        let (dim, made) = (self.linear.variable_dim, self.linear.result_dim);
        if dim != made {
            let (expected, got) = ("as many components as the right-hand side has", made);
            return Err(DimError::new("KernelSolve", format!("{expected}, {dim}"), got));
        }
        Ok(vec![operands[self.linear.slot]])
    }
    fn square(&self) -> bool {
        true
    }
    fn run(&self, call: &Call<'_>) -> Result<Vec<Buffer>, Error> {
        let fail = |e: SolveError| match e {
            SolveError::Core(e) => e,
            e => Error::function("KernelSolve", e),
        };
        let mut args = call.operands.clone();
        let given = if self.ridge { args.pop() } else { None };
        let ridges: Vec<f64> = match &given {
            Some(v) => with_view!(&*v.host()?, v => v.iter().map(|e| e.to_f64()).collect()),
            None => vec![self.options.ridge],
        };
        let shape = call.shape(0);
        let mut out = call.allocate()?;
        let (device, ranges) = (call.device, call.ranges);
        if let Some(&ridge) = ridges.first().filter(|first| ridges.iter().all(|r| r == *first)) {
            let value = self.solve(device, ranges, args, ridge).map_err(fail)?;
            let Some(value) = value.broadcast(IxDyn(&shape)) else {
                unreachable!("solutions have the batch shape of operands")
            };
            write(&mut out[0], 0, value.iter());
            return Ok(out);
        }
        // A ridge of its own for each batch element: one after the other.
        let inputs = self.sum.computation().inputs();
        let size: usize = shape[call.batch.len()..].iter().product();
        for (number, index) in ndarray::indices(IxDyn(&call.batch)).into_iter().enumerate() {
            let index = ndarray::Dimension::slice(&index);
            let mut own: Vec<ArgView<'_>> = vec![];
            for (v, i) in args.iter().zip(inputs) {
                own.push(batch_element(v.host()?.into_view(), i.category, index).into());
            }
            let ridge = given.as_ref().map(|v| v.host()).transpose()?;
            let ridge = ridge.map(|v| batch_element(v.into_view(), Category::Param, index));
            let ridge = ridge.and_then(|v| with_view!(&v, v => v.first().map(|e| e.to_f64())));
            let value = self.solve(device, ranges, own, ridge.unwrap_or_default()).map_err(fail)?;
            write(&mut out[0], number * size, value.iter());
        }
        Ok(out)
    }
    fn vjp(
        &self,
        graph: &mut OuterGraph,
        at: &Application<'_>,
        cotangents: &[Option<Port>],
    ) -> Result<Vec<(Port, Port)>, GradError> {
        let (Some(g), [a]) = (cotangents[0], at.results) else { return Ok(vec![]) };
        let category = self.linear.category;
        let mut operands = at.operands.to_vec();
        operands[self.linear.slot] = g;
        let other = System { transposed: !self.transposed, ..self.clone() };
        let lambda = other.apply(graph, &operands)?;
        let mut list = vec![(at.operands[self.linear.slot], lambda)];
        if let (true, Some(ridge)) = (self.ridge, at.operands.last()) {
            let rows = graph.map_rows(category, &[lambda, *a], |_, v| -v[0].dot(v[1]));
            list.push((*ridge, graph.sum_rows(rows)));
        }
        // -<λ, K a>, or -<λ, Kᵀ a> = -<a, K λ>.
        let (mut u, w) = if self.transposed { (lambda, *a) } else { (*a, lambda) };
        let arguments = self.arguments(at.operands);
        if arguments.contains(&u) {
            // A vector that is an argument too: the latter alone is differentiated.
            u = graph.recast(u, self.kept())?;
            u = graph.recast(u, category)?;
        }
        let product = self.product(graph, at.operands, u);
        let minus = graph.map_rows(category, &[w], |_, v| -v[0]);
        let weight = graph.recast(minus, self.kept())?;
        // One after the other: a derivative in one of them does not compute the others.
        for argument in arguments {
            list.extend(graph.pull_back_one(product, weight, &[argument])?);
        }
        Ok(list)
    }
    fn jvp(
        &self,
        graph: &mut OuterGraph,
        at: &Application<'_>,
        tangents: &[Option<Port>],
    ) -> Result<Vec<Option<Port>>, GradError> {
        let (category, a) = (self.linear.category, at.results[0]);
        let moved: Vec<(Port, Port)> = self
            .arguments(at.operands)
            .into_iter()
            .filter_map(|p| {
                let k = at.operands.iter().position(|o| *o == p)?;
                tangents[k].map(|t| (p, t))
            })
            .collect();
        let mut minus = vec![];
        if !moved.is_empty() {
            minus.extend(self.along(graph, at.operands, a, &moved)?);
        }
        if let (true, Some(Some(t))) = (self.ridge, tangents.last()) {
            minus.push(graph.map_rows(category, &[*t, a], |_, v| v[0] * v[1]));
        }
        let of_b = tangents[self.linear.slot];
        let right = match (of_b, &minus[..]) {
            (None, []) => return Ok(vec![None]),
            (Some(of_b), []) => of_b,
            (of_b, _) => {
                let all: Vec<Port> = of_b.into_iter().chain(minus).collect();
                let plus = usize::from(of_b.is_some());
                graph.map_rows(category, &all, |b, v| {
                    let start = if plus == 1 { v[0] } else { b.lit(0.0) };
                    v[plus..].iter().fold(start, |s, &e| s - e)
                })
            }
        };
        let mut operands = at.operands.to_vec();
        operands[self.linear.slot] = right;
        Ok(vec![Some(self.apply(graph, &operands)?)])
    }
}

/// Writes numbers from a position on.
fn write<'v>(out: &mut Buffer, at: usize, from: impl Iterator<Item = &'v f64>) {
    match out {
        Buffer::F32(o) => o.iter_mut().skip(at).zip(from).for_each(|(o, v)| *o = *v as f32),
        Buffer::F64(o) => o.iter_mut().skip(at).zip(from).for_each(|(o, v)| *o = *v),
        _ => unreachable!("compute types are f32 and f64"),
    }
}

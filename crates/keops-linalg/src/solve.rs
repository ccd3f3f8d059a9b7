//! Linear systems of kernel matrices: `(K + αI) a = b`, and their derivatives.

use crate::error::{OperatorError, SolveError};
use crate::info::{SolveInfo, SolveOptions};
use crate::layout::VECTOR;
use crate::linear::Linear;
use crate::operator::{KernelOperator, values, wide};
use crate::solver::{Settings, Solver};
use keops_core::data::{ArgView, Buffer, DType, Element};
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::genred::{AsArg, Genred, IntoArgs, Place, Reference};
use keops_core::outer::Formula;
use keops_core::reduce::SUM;
use keops_core::spec::Axis;
use keops_core::{memory, with_view};
use ndarray::{Array, Array3, ArrayD, Axis as NdAxis, Dimension, IxDyn};

/// The solution of linear systems.
///
/// ```
/// use keops_core::spec::Axis;
/// use keops_linalg::{KernelSolve, Solution, SolveOptions};
/// use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(2)"];
/// let solve: KernelSolve = KernelSolve::new("Exp(-SqDist(x, y)) * b", aliases, "b", Axis::J)?;
/// let (x, b) = (array![[0.0], [9.0]], array![[1.0, 4.0], [2.0, 6.0]]);
/// let Solution { value, info } = solve.call((&x, &x, &b), &SolveOptions::ridge(1.0))?;
/// // The points are so far apart that K is the identity.
/// assert!((value - &b / 2.0).iter().all(|gap: &f64| gap.abs() < 1e-12));
/// assert_eq!(info.systems.len(), 2); // a column each
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Solution<T, D: Dimension = IxDyn> {
    /// The solution, of the shape of the right-hand side, broadcast to the batch shape of the
    /// kernel.
    pub value: Array<T, D>,
    /// How it was found.
    pub info: SolveInfo,
}

/// The gradient of `<a, e>` for the solution `a` of a system and a cotangent `e`.
/// See [`KernelSolve::vjp`].
///
/// ```
/// use keops_core::spec::Axis;
/// use keops_linalg::{KernelSolve, SolveGradient, SolveOptions};
/// use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
/// let solve: KernelSolve = KernelSolve::new("x * y * b", aliases, "b", Axis::J)?;
/// let (x, b, options) = (array![[1.0], [2.0]], array![[5.0], [0.0]], SolveOptions::ridge(5.0));
/// let a = solve.call((&x, &x, &b), &options)?.value;
/// let e = array![[1.0], [1.0]];
/// let g: SolveGradient<f64> = solve.vjp((&x, &x, &b), &a, &e, &["y", "b"], &options)?;
/// assert_eq!((g.arguments[0].shape(), g.arguments[1].shape()), (x.shape(), b.shape()));
/// assert!(g.info.converged());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct SolveGradient<T> {
    /// For each argument asked for, of its shape; for the variable, with respect to the
    /// right-hand side.
    pub arguments: Vec<ArrayD<T>>,
    /// With respect to the ridge.
    pub ridge: f64,
    /// Report of the solve for the cotangent.
    pub info: SolveInfo,
}

/// Solves `(K + αI) a = b`, where `K v` is a sum of a formula that is linear in the variable `v`:
/// kernel times `v`, or a matrix-valued kernel times the vectors of `v`.
///
/// Arguments come in the order of the formula, with the right-hand side `b` in the place of the
/// variable, as in KeOps; `α` is [`SolveOptions::ridge`]. `K + αI` has to be symmetric, and
/// positive definite unless the method is [`crate::Method::Minres`]. Each column of `b` is a system of its own where the formula keeps columns apart
/// (kernel times variable), else a whole `b` is one; batch elements are systems of their own. All
/// share each product with `K`.
///
/// ```
/// use keops_core::spec::Axis;
/// use keops_linalg::{KernelSolve, SolveOptions};
/// use ndarray::array;
///
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
/// let solve: KernelSolve = KernelSolve::new("Exp(-SqDist(x, y)) * b", aliases, "b", Axis::J)?;
/// let (x, b) = (array![[0.0], [1.0]], array![[1.0], [0.0]]);
/// let a = solve.call((&x, &x, &b), &SolveOptions::ridge(1.0))?.value;
/// let e = (-1f64).exp(); // [2 e; e 2] a = [1; 0]
/// assert!((a[[0, 0]] - 2.0 / (4.0 - e * e)).abs() < 1e-12);
/// assert!((a[[1, 0]] + e / (4.0 - e * e)).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KernelSolve<P = Reference> {
    sum: Genred<P>,
    linear: Linear,
}

impl<P: Place + Default> KernelSolve<P> {
    /// Systems of the sum of a formula, given as text, over an index. Aliases declare the
    /// variables in the order of arguments; `variable` is the one to solve for (KeOps'
    /// `varinvalias`).
    ///
    /// # Errors
    /// As [`KernelSolve::from_sum`]; [`OperatorError::Core`] if the text cannot be read.
    ///
    /// ```
    /// use keops_core::spec::Axis;
    /// use keops_linalg::KernelSolve;
    /// let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"];
    /// let solve: KernelSolve = KernelSolve::new("b / (1 + SqDist(x, y))", aliases, "b", Axis::J)?;
    /// assert_eq!(solve.sum().arguments().collect::<Vec<_>>(), ["x", "y", "b"]);
    /// type Solve = KernelSolve; // on the reference interpreter
    /// let e = Solve::new("Square(b)", aliases, "b", Axis::J).unwrap_err();
    /// assert!(e.to_string().contains("not linear in `b`"));
    /// # Ok::<(), keops_linalg::OperatorError>(())
    /// ```
    pub fn new(
        formula: &str,
        aliases: impl IntoIterator<Item = impl AsRef<str>>,
        variable: &str,
        axis: Axis,
    ) -> Result<KernelSolve<P>, OperatorError> {
        KernelSolve::from_sum(Genred::new(formula, aliases, &SUM, axis)?, variable)
    }
    /// As [`KernelSolve::new`], from a formula that is already a graph.
    ///
    /// # Errors
    /// As [`KernelSolve::from_sum`]; [`OperatorError::Core`] if the formula is inconsistent.
    ///
    /// ```
    /// use keops_core::{parse::parse_formula, spec::Axis};
    /// use keops_linalg::KernelSolve;
    /// let f = parse_formula("(x | y) * b", None, &["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"])?;
    /// let solve: KernelSolve = KernelSolve::from_formula(f, "b", Axis::J)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_formula(
        formula: Formula,
        variable: &str,
        axis: Axis,
    ) -> Result<KernelSolve<P>, OperatorError> {
        KernelSolve::from_sum(Genred::from_formula(formula, &SUM, axis)?, variable)
    }
}

impl<P: Place> KernelSolve<P> {
    /// Systems of a sum, which may have a place, options and ranges; `variable` is the argument
    /// to solve for.
    ///
    /// # Errors
    /// [`OperatorError`] if the reduction is not a sum that is linear in the variable, or if the
    /// variable is not indexed by the reduced index.
    ///
    /// ```
    /// use keops_core::genred::Genred;
    /// use keops_core::{interp::Interpreter, reduce::SUM, spec::{Axis, Device}};
    /// use keops_linalg::KernelSolve;
    /// let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"];
    /// let sum: Genred = Genred::new("b / (1 + SqDist(x, y))", aliases, &SUM, Axis::J)?;
    /// let there = sum.at(Device::new(Interpreter::new())); // where its products are computed
    /// let solve: KernelSolve<Device> = KernelSolve::from_sum(there, "b")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_sum(sum: Genred<P>, variable: &str) -> Result<KernelSolve<P>, OperatorError> {
        let linear = Linear::of(sum.computation(), variable)?;
        Ok(KernelSolve { sum, linear })
    }
    /// The sum whose matrix it solves with.
    ///
    /// ```
    /// use keops_core::spec::Axis;
    /// use keops_linalg::KernelSolve;
    /// let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"];
    /// let solve: KernelSolve = KernelSolve::new("(x | y) * b", aliases, "b", Axis::J)?;
    /// let x = ndarray::array![[1.0, 2.0, 2.0]];
    /// let product = solve.sum().call((&x, &x, &ndarray::array![[2.0]]))?;
    /// assert_eq!(product[[0, 0]], 18.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sum(&self) -> &Genred<P> {
        &self.sum
    }

    /// Solves; the right-hand side stands in the place of the variable. f16 and bf16 data are
    /// computed in f32 and the solution is rounded once, at the end (the residuals reported are
    /// those before; [`KernelOperator::solve`] takes and returns wider vectors).
    ///
    /// # Errors
    /// [`SolveError`], with the last iterate in it where there is one.
    ///
    /// ```
    /// use keops_core::spec::Axis;
    /// use keops_linalg::{KernelSolve, SolveError, SolveOptions};
    /// use ndarray::array;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let solve: KernelSolve = KernelSolve::new("x * y * b", aliases, "b", Axis::J)?;
    /// let (x, b) = (array![[1.0], [2.0]], array![[5.0], [0.0]]);
    /// let solution = solve.call((&x, &x, &b), &SolveOptions::ridge(5.0))?; // [6 2; 2 9] a = b
    /// let gap = solution.value - array![[0.9], [-0.2]];
    /// assert!(gap.iter().all(|g: &f64| g.abs() < 1e-12));
    /// // Of rank 1 and without a ridge, the matrix reaches multiples of (1, 2) only.
    /// let e = solve.call((&x, &x, &b), &SolveOptions::ridge(0.0)).unwrap_err();
    /// assert!(matches!(e, SolveError::Singular { .. }), "{e}");
    /// assert!(e.partial().unwrap().info.residual() <= 1.0); // never worse than zero
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call<'a, A: IntoArgs<'a>>(
        &self,
        args: A,
        options: &SolveOptions,
    ) -> Result<Solution<A::Elem>, SolveError> {
        self.solver().options(*options).call(args)
    }
    /// A solver of these systems, whose options are to be given.
    ///
    /// ```
    /// use keops_core::spec::Axis;
    /// use keops_linalg::KernelSolve;
    /// use ndarray::array;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let solve: KernelSolve = KernelSolve::new("x * y * b", aliases, "b", Axis::J)?;
    /// let x = array![[1.0], [2.0]];
    /// let a = solve.solver().ridge(5.0).call((&x, &x, &array![[5.0], [0.0]]))?.value;
    /// assert!((a - array![[0.9], [-0.2]]).iter().all(|g: &f64| g.abs() < 1e-12));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn solver(&self) -> Solver<'_, KernelSolve<P>> {
        Solver::of(self)
    }
    pub(crate) fn linear(&self) -> &Linear {
        &self.linear
    }
    pub(crate) fn call_with<'a, A: IntoArgs<'a>>(
        &self,
        args: A,
        settings: Settings<'_>,
    ) -> Result<Solution<A::Elem>, SolveError> {
        let (operator, b) = self.bind(args.into_args())?;
        let (value, info) = block(&operator, &b, settings)?;
        Ok(Solution { value: A::Elem::take(Buffer::F64(value)).map_err(Error::from)?, info })
    }

    /// The gradient of `<a, e>` with respect to the arguments named in `wrt` (the name of the
    /// variable means the right-hand side) and to the ridge, where `a` is the solution that
    /// [`KernelSolve::call`] returned for these arguments.
    ///
    /// By the implicit function theorem `da = (K + αI)⁻¹ (db - dK a - dα a)`: one more solve,
    /// `λ = (K + αI)⁻¹ e`, gives `λ` for b, `-<λ, a>` for α, and for all others the gradient of
    /// `-<K a, λ>` with `a` and `λ` held fixed. It is as accurate as both solves are.
    ///
    /// # Errors
    /// As [`KernelSolve::call`]; a [`keops_core::error::GradError`] for an unknown name.
    ///
    /// ```
    /// use keops_core::spec::Axis;
    /// use keops_linalg::{KernelSolve, SolveOptions};
    /// use ndarray::array;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let solve: KernelSolve = KernelSolve::new("x * y * b", aliases, "b", Axis::J)?;
    /// // One point: (x y + α) a = b, so that a = 8 / (3 · 5 + 1).
    /// let (x, y, b) = (array![[3.0]], array![[5.0]], array![[8.0]]);
    /// let options = SolveOptions::ridge(1.0);
    /// let a = solve.call((&x, &y, &b), &options)?.value;
    /// assert_eq!(a[[0, 0]], 0.5);
    /// let g = solve.vjp((&x, &y, &b), &a, &array![[1.0]], &["x", "b"], &options)?;
    /// let close = |got: f64, want: f64| (got - want).abs() < 1e-12;
    /// assert!(close(g.arguments[0][[0, 0]], -0.5 * 5.0 / 16.0)); // da/dx = -a y / (x y + α)
    /// assert!(close(g.arguments[1][[0, 0]], 1.0 / 16.0));
    /// assert!(close(g.ridge, -0.5 / 16.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn vjp<'a, A: IntoArgs<'a>, S: AsArg + ?Sized, E: AsArg + ?Sized>(
        &self,
        args: A,
        solution: &S,
        cotangent: &E,
        wrt: &[&str],
        options: &SolveOptions,
    ) -> Result<SolveGradient<A::Elem>, SolveError> {
        self.solver().options(*options).vjp(args, solution, cotangent, wrt)
    }
    pub(crate) fn vjp_with<'a, A: IntoArgs<'a>, S: AsArg + ?Sized, E: AsArg + ?Sized>(
        &self,
        args: A,
        solution: &S,
        cotangent: &E,
        wrt: &[&str],
        settings: Settings<'_>,
    ) -> Result<SolveGradient<A::Elem>, SolveError> {
        let (operator, b) = self.bind(args.into_args())?;
        let (solution, cotangent) = (solution.as_arg(), cotangent.as_arg());
        let batch = operator.full_batch(b.shape())?;
        let full = [&batch[..], &[operator.columns(), operator.domain_dim()]].concat();
        for (name, arg) in [("the solution", &solution), ("the cotangent", &cotangent)] {
            if arg.shape() != full {
                let (name, expected) = (name.into(), format!("shape {full:?} of the solution"));
                return Err(InputError::Shape { name, expected, got: arg.shape().to_vec() }.into());
            }
        }
        let others: Vec<&str> =
            wrt.iter().copied().filter(|&n| n != self.linear.variable).collect();
        // Unknown names are found before the work begins.
        let gradient = self.sum.vjp_of(&others)?;
        let (lambda, info) = block(&operator, &cotangent, settings)?;
        let solution = solution.host().map_err(Error::from)?;
        let products = |l: &ArrayD<f64>| -> f64 {
            with_view!(&*solution, a => l.iter().zip(a).map(|(l, a)| l * a.to_f64()).sum())
        };
        let ridge = -products(&lambda);
        let mut made = vec![];
        if !others.is_empty() {
            let a = with_view!(&*solution, a => operator.vector(a)).map_err(Error::from)?;
            let minus = memory::mapped(&lambda.view(), |l| -l, VECTOR).map_err(Error::from)?;
            let weight = operator.vector(&minus.view()).map_err(Error::from)?;
            let mut args = operator.arguments(values(&a));
            args.push(values(&weight));
            made = gradient.run(&args).map_err(SolveError::Core)?;
        }
        let mut made = made.into_iter();
        let rhs = || sum_to(&lambda, b.shape()).map(Buffer::F64);
        let arguments = wrt
            .iter()
            .filter_map(
                |&n| if n == self.linear.variable { Some(rhs()) } else { made.next().map(Ok) },
            )
            .map(|made| A::Elem::take(made?))
            .collect::<Result<_, _>>()
            .map_err(Error::from)?;
        Ok(SolveGradient { arguments, ridge, info })
    }

    fn bind<'a>(
        &self,
        mut args: Vec<ArgView<'a>>,
    ) -> Result<(KernelOperator<'a, P>, ArgView<'a>), SolveError> {
        let inputs = self.sum.computation().inputs();
        if args.len() != inputs.len() {
            let names: Vec<_> = inputs.iter().map(|i| i.name.as_str()).collect();
            let (expected, names, got) = (inputs.len(), names.join(", "), args.len());
            return Err(InputError::Count { expected, names, got }.into());
        }
        let b = args.remove(self.linear.slot);
        let rows = b.shape().iter().rev().nth(1).copied();
        match KernelOperator::bind(&self.sum, self.linear.clone(), args, rows) {
            Ok(operator) => Ok((operator, b)),
            Err(OperatorError::Core(e)) => Err(e.into()),
            Err(e) => unreachable!("linearity was checked: {e}"),
        }
    }
}

/// Solves for right-hand sides of any batch shape.
pub(crate) fn block<P: Place>(
    operator: &KernelOperator<'_, P>,
    b: &ArgView<'_>,
    mut settings: Settings<'_>,
) -> Result<(ArrayD<f64>, SolveInfo), SolveError> {
    let (rows, row_dim) = (operator.rows(), operator.range_dim());
    let (columns, column_dim) = (operator.columns(), operator.domain_dim());
    if (rows, row_dim) != (columns, column_dim) {
        return Err(SolveError::NotSquare { rows, row_dim, columns, column_dim });
    }
    let batch = operator.full_batch(b.shape())?;
    let full = [&batch[..], &[rows, row_dim]].concat();
    let count = batch.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    let Some(count) = count.filter(|c| c.checked_mul(rows.saturating_mul(row_dim)).is_some())
    else {
        let (what, detail) = ("the solution".into(), format!("{full:?}"));
        return Err(InputError::TooLarge { what, detail }.into());
    };
    let copy = |name: &str, arg: &ArgView<'_>| -> Result<Array3<f64>, Error> {
        let block = wide(arg, &full, name)?;
        let block = block.and_then(|v| v.into_shape_with_order((count, rows, row_dim)).ok());
        Ok(block.ok_or_else(|| InputError::Shape {
            name: name.into(),
            expected: format!("shape {full:?} of the solution"),
            got: arg.shape().to_vec(),
        })?)
    };
    let output = b.dtype();
    let b = copy("the right-hand side", b)?;
    let guess = settings.guess.take();
    let guess = guess.as_ref().map(|g| copy("the first guess", g)).transpose()?;
    let back = |x: ArrayD<f64>| match x.into_shape_with_order(IxDyn(&full)) {
        Ok(x) => x,
        Err(_) => unreachable!("the solution has the size of the right-hand side"),
    };
    let held = operator.resident(count).map_err(Error::from)?;
    let over = held.over(batch.clone());
    match settings.solve(&over, &b, guess.as_ref(), output) {
        Ok((x, info)) => Ok((back(Array3::into_dyn(x)), info)),
        Err(mut e) => {
            if let Some(partial) = e.partial_mut() {
                partial.solution = back(std::mem::take(&mut partial.solution));
            }
            Err(e)
        }
    }
}

/// Sums over the batch axes along which `shape` was broadcast.
fn sum_to(v: &ArrayD<f64>, shape: &[usize]) -> Result<ArrayD<f64>, OutOfMemory> {
    let mut sums = match Buffer::zeros(Some(DType::F64), shape) {
        Some(Buffer::F64(sums)) => sums,
        _ => return Err(memory::refused::<f64>(v.len(), VECTOR)),
    };
    let batch = v.shape().len() - 2;
    let more = v.ndim() - shape.len();
    for index in ndarray::indices(&v.shape()[..batch]) {
        let (mut from, mut to) = (v.view(), sums.view_mut());
        for (k, &at) in index.slice().iter().enumerate() {
            from.index_axis_inplace(NdAxis(0), at);
            if k >= more {
                let shared = to.shape()[0] == 1;
                to.index_axis_inplace(NdAxis(0), if shared { 0 } else { at });
            }
        }
        to += &from;
    }
    Ok(sums)
}

//! The one way to a solution: an operator, options, and a right-hand side.

use crate::cg::Conjugate;
use crate::control::{Control, control_method};
use crate::error::SolveError;
use crate::harness::{self, Harness};
use crate::info::{Method, SolveInfo, SolveOptions};
use crate::lazy::LazySolve;
use crate::minres::Minres;
use crate::operator::{KernelOperator, LinearOperator, wide};
use crate::solve::{KernelSolve, Solution, SolveGradient};
use keops_core::data::{ArgView, DType, Element};
use keops_core::error::{Error, InputError};
use keops_core::genred::{AsArg, IntoArgs, Place};
use keops_core::lazy::{LazyTensor, OpenArgs};
use ndarray::{Array3, ArrayRef, Dimension};
use std::fmt;

/// All that a solver is told.
#[derive(Default)]
pub(crate) struct Settings<'s> {
    pub options: SolveOptions,
    pub guess: Option<ArgView<'s>>,
    pub control: Control<'s>,
}

impl Settings<'_> {
    /// Solves for block vectors; the solution is returned in a type.
    pub fn solve(
        self,
        operator: &dyn LinearOperator,
        b: &Array3<f64>,
        guess: Option<&Array3<f64>>,
        output: DType,
    ) -> Result<(Array3<f64>, SolveInfo), SolveError> {
        harness::check(operator, b, guess, &self.options)?;
        let (options, control) = (self.options, self.control);
        match self.options.method {
            Method::ConjugateGradients => {
                Harness::new(operator, b, options, control, output, Conjugate::new)?.solve(guess)
            }
            Method::Minres => {
                Harness::new(operator, b, options, control, output, Minres::new)?.solve(guess)
            }
        }
    }
}

/// A solver of `(K + αI) a = b`: by conjugate gradients, for symmetric positive definite `K + αI`,
/// or by another [`Method`].
///
/// `K` is a [`KernelOperator`], a [`KernelSolve`], a [`LazyTensor`], a [`LazySolve`], or a `dyn`
/// [`LinearOperator`] of your own: their `solver` methods, and [`Solver::of`], begin. What is not
/// given is as [`SolveOptions::default`] has it.
///
/// ```
/// use keops_core::{genred::Reference, lazy::LazyTensor};
/// use keops_linalg::Solve;
/// use ndarray::array;
/// use std::ops::ControlFlow;
///
/// let x = array![[0.0], [0.5], [1.0]];
/// let k = (-LazyTensor::<f64, Reference>::vi(&x).sqdist(LazyTensor::vj(&x))).exp();
/// let (b, a0) = (array![1.0, 0.0, 2.0], array![1.0, -2.0, 3.0]);
/// let mut seen = vec![];
/// let solution = k
///     .solver()
///     .ridge(0.1)
///     .tolerance(1e-8)
///     .first_guess(&a0)
///     .observe(|progress| {
///         seen.push(progress.residual());
///         ControlFlow::Continue(())
///     })
///     .solve(&b)?;
/// assert_eq!(seen.len(), solution.info.iterations);
/// assert!(solution.info.residual() <= 1e-8);
/// # Ok::<(), keops_linalg::SolveError>(())
/// ```
pub struct Solver<'s, K: ?Sized> {
    operator: &'s K,
    settings: Settings<'s>,
}

impl<K: ?Sized> fmt::Debug for Solver<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Solver").field("options", &self.settings.options).finish_non_exhaustive()
    }
}

impl<'s, K: ?Sized> Solver<'s, K> {
    /// With an operator, and the default options.
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// use keops_linalg::Solver;
    /// let operator: &dyn LinearOperator = &Diagonal(2);
    /// let (a, _) = Solver::of(operator).ridge(1.0).solve(&Array3::from_elem((1, 2, 1), 6.0))?;
    /// assert!((a[[0, 0, 0]] - 3.0).abs() < 1e-12 && (a[[0, 1, 0]] - 2.0).abs() < 1e-12);
    /// # Ok::<(), keops_linalg::SolveError>(())
    /// ```
    pub fn of(operator: &'s K) -> Solver<'s, K> {
        Solver { operator, settings: Settings::default() }
    }
    /// What methods have in common, at once.
    pub(crate) fn control(mut self, control: Control<'s>) -> Self {
        self.settings.control = control;
        self
    }
    /// All options at once; those given before are replaced.
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// use keops_linalg::{SolveOptions, Solver};
    /// let options = SolveOptions { max_iterations: Some(5), ..SolveOptions::ridge(1.0) };
    /// assert!(format!("{:?}", Solver::of(&Diagonal(2)).options(options)).contains("Some(5)"));
    /// ```
    pub fn options(mut self, options: SolveOptions) -> Self {
        self.settings.options = options;
        self
    }
    /// See [`SolveOptions::ridge`].
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// let solver = keops_linalg::Solver::of(&Diagonal(2)).ridge(0.25);
    /// assert!(format!("{solver:?}").contains("ridge: 0.25"));
    /// ```
    pub fn ridge(mut self, ridge: f64) -> Self {
        self.settings.options.ridge = ridge;
        self
    }
    /// See [`SolveOptions::tolerance`].
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// let solver = keops_linalg::Solver::of(&Diagonal(2)).tolerance(0.25);
    /// assert!(format!("{solver:?}").contains("tolerance: 0.25"));
    /// ```
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.settings.options.tolerance = tolerance;
        self
    }
    /// See [`SolveOptions::max_iterations`].
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// let solver = keops_linalg::Solver::of(&Diagonal(2)).max_iterations(7);
    /// assert!(format!("{solver:?}").contains("max_iterations: Some(7)"));
    /// ```
    pub fn max_iterations(mut self, limit: usize) -> Self {
        self.settings.options.max_iterations = Some(limit);
        self
    }
    /// See [`SolveOptions::method`].
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// let solver = keops_linalg::Solver::of(&Diagonal(2)).method(keops_linalg::Method::Minres);
    /// assert!(format!("{solver:?}").contains("method: Minres"));
    /// ```
    pub fn method(mut self, method: Method) -> Self {
        self.settings.options.method = method;
        self
    }
    control_method! {
        /// An approximate inverse, which saves iterations. It does not change what is solved, nor the
        /// meaning of residuals.
        ///
        /// ```
        /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
        /// use keops_linalg::{KernelOperator, PivotedCholesky};
        /// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
        /// let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J)?;
        /// let x = ndarray::Array2::from_shape_fn((30, 1), |(k, _)| k as f64 / 30.0);
        /// let k = KernelOperator::new(&sum, "b", (&x, &x))?;
        /// let all = PivotedCholesky::new(&k, 30)?; // the whole matrix, to its precision
        /// let info = k.solver().ridge(1e-3).preconditioner(&all).solve(&x)?.info;
        /// assert!(info.iterations <= 2);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        preconditioner of settings.control
    }
    /// Where to begin, of the shape of the solution. A guess that is worse than zero is not used.
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// use keops_linalg::Solver;
    /// let operator: &dyn LinearOperator = &Diagonal(2);
    /// let b = Array3::from_elem((1, 2, 1), 6.0);
    /// let (a, _) = Solver::of(operator).solve(&b)?;
    /// let (_, info) = Solver::of(operator).first_guess(&a).solve(&b)?;
    /// assert_eq!(info.iterations, 0); // nothing is left to do
    /// # Ok::<(), keops_linalg::SolveError>(())
    /// ```
    pub fn first_guess<G: AsArg + ?Sized>(mut self, guess: &'s G) -> Self {
        self.settings.guess = Some(guess.as_arg());
        self
    }
    control_method! {
        /// Calls a function after each iteration; `Break` ends the solver with
        /// [`SolveError::Cancelled`], which has what was reached.
        ///
        /// ```
        #[doc = include_str!("operator_example.txt")]
        /// use keops_linalg::{SolveError, Solver};
        /// use std::ops::ControlFlow;
        /// let operator: &dyn LinearOperator = &Diagonal(50);
        /// let two = |p: &keops_linalg::Progress<'_>| match p.iteration {
        ///     2 => ControlFlow::Break(()),
        ///     _ => ControlFlow::Continue(()),
        /// };
        /// let e = Solver::of(operator).observe(two).solve(&Array3::ones((1, 50, 1))).unwrap_err();
        /// assert!(matches!(e, SolveError::Cancelled { iteration: 2, .. }), "{e}");
        /// ```
        observe of settings.control
    }
}

impl Solver<'_, dyn LinearOperator + '_> {
    /// Solves for a block vector, of shape `(batches, rows, components)`. Of an operator with
    /// independent columns, each column of each batch element is a system, else each batch
    /// element.
    ///
    /// # Errors
    /// [`SolveError`]: [`SolveError::NotSquare`], [`SolveError::Core`] for shapes and options that
    /// do not fit, else what went wrong at which iteration, with the iterate of smallest residual.
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// use keops_linalg::Solver;
    /// let operator: &dyn LinearOperator = &Diagonal(2);
    /// let (a, info) = Solver::of(operator).ridge(1.0).solve(&Array3::from_elem((1, 2, 1), 6.0))?;
    /// assert!((a[[0, 0, 0]] - 3.0).abs() < 1e-12 && (a[[0, 1, 0]] - 2.0).abs() < 1e-12);
    /// assert_eq!(info.iterations, 2); // as many as there are eigenvalues
    /// # Ok::<(), keops_linalg::SolveError>(())
    /// ```
    pub fn solve(self, b: &Array3<f64>) -> Result<(Array3<f64>, SolveInfo), SolveError> {
        let guess = match &self.settings.guess {
            None => None,
            Some(guess) => {
                let block = match guess.shape() == b.shape() {
                    true => wide(guess, b.shape(), "a vector").map_err(Error::from)?,
                    false => None,
                };
                let block = block.and_then(|v| v.into_dimensionality().ok());
                let wrong = || InputError::Shape {
                    name: "first guess".into(),
                    expected: format!("{:?} as the right-hand side", b.shape()),
                    got: guess.shape().to_vec(),
                };
                Some(block.ok_or_else(wrong)?)
            }
        };
        self.settings.solve(self.operator, b, guess.as_ref(), DType::F64)
    }
}

impl<P: Place> Solver<'_, KernelOperator<'_, P>> {
    /// Solves for `b` of shape `(batch…, rows, dim)`; the solution has the type of `b` and its
    /// shape, broadcast to the batch shape of the kernel.
    ///
    /// # Errors
    /// [`SolveError`], which tells what went wrong at which iteration, with the iterate of
    /// smallest residual.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use keops_linalg::KernelOperator;
    /// use ndarray::array;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
    /// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?;
    /// let x = array![[1.0], [2.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &x))?; // [1 2; 2 4], of rank 1
    /// let a = k.solver().ridge(1.0).solve(&array![[3.0], [0.0]])?.value; // [2 2; 2 5] a = b
    /// assert!((a - array![[2.5], [-1.0]]).iter().all(|g: &f64| g.abs() < 1e-12));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn solve<B: AsArg + ?Sized>(self, b: &B) -> Result<Solution<B::Elem>, SolveError> {
        self.operator.solve_with(b, self.settings)
    }
}

impl<T: Element, P: Place> Solver<'_, LazyTensor<T, P>> {
    /// Solves for `b` of shape `(batch…, M, columns)`, or `(M)`, as has the solution.
    ///
    /// # Errors
    /// As [`crate::Solve::solve`].
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor};
    /// use keops_linalg::Solve;
    /// use ndarray::array;
    /// let x = array![[1.0], [2.0]];
    /// let k = LazyTensor::<f64, Reference>::vi(&x) * LazyTensor::vj(&x); // [1 2; 2 4]
    /// let a = k.solver().ridge(1.0).solve(&array![3.0, 0.0])?.value; // [2 2; 2 5] a = b
    /// assert!((a[[0]] - 2.5).abs() < 1e-12 && (a[[1]] + 1.0).abs() < 1e-12);
    /// # Ok::<(), keops_linalg::SolveError>(())
    /// ```
    #[track_caller]
    pub fn solve<D: Dimension>(self, b: &ArrayRef<T, D>) -> Result<Solution<T, D>, SolveError> {
        crate::lazy::solve(self.operator, b, self.settings)
    }
}

impl<'s, T: Element, P: Place> Solver<'s, LazySolve<T, P>> {
    /// As [`LazySolve::call`].
    ///
    /// # Errors
    /// As [`LazySolve::call`].
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor};
    /// use keops_linalg::Solve;
    /// use ndarray::array;
    /// let x = array![[1.0], [2.0]];
    /// let k = LazyTensor::<f64, Reference>::vi(&x) * LazyTensor::vj(&x); // [1 2; 2 4]
    /// let (open, b) = (k.system(1)?, array![[3.0], [0.0]]);
    /// let a = open.solver().ridge(1.0).call((&b,))?.value; // [2 2; 2 5] a = b
    /// assert!((a[[0, 0]] - 2.5).abs() < 1e-12);
    /// # Ok::<(), keops_linalg::SolveError>(())
    /// ```
    pub fn call(self, arguments: impl OpenArgs<'s, T>) -> Result<Solution<T>, SolveError> {
        self.operator.call_with(arguments, self.settings)
    }
}

impl<P: Place> Solver<'_, KernelSolve<P>> {
    /// Solves; the right-hand side stands in the place of the variable. f16 and bf16 data are
    /// computed in f32 and the solution is rounded once, at the end (the residuals reported are
    /// those before).
    ///
    /// # Errors
    /// [`SolveError`], with the iterate of smallest residual in it where there is one.
    ///
    /// ```
    /// use keops_core::spec::Axis;
    /// use keops_linalg::KernelSolve;
    /// use ndarray::array;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let solve: KernelSolve = KernelSolve::new("Exp(-SqDist(x, y)) * b", aliases, "b", Axis::J)?;
    /// let (x, b) = (array![[0.0], [0.5], [2.0]], array![[1.0], [0.0], [3.0]]);
    /// let first = solve.solver().ridge(0.1).call((&x, &x, &b))?;
    /// // A step of an outer iteration has moved the points a little.
    /// let moved = array![[0.0], [0.501], [2.0]];
    /// let next = solve.solver().ridge(0.1).first_guess(&first.value).call((&moved, &moved, &b))?;
    /// assert!(next.info.iterations <= first.info.iterations);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call<'a, A: IntoArgs<'a>>(self, args: A) -> Result<Solution<A::Elem>, SolveError> {
        self.operator.call_with(args, self.settings)
    }
    /// The gradient of a solution: as [`KernelSolve::vjp`]. A first guess is one of the solution
    /// for the cotangent.
    ///
    /// # Errors
    /// As [`KernelSolve::vjp`].
    ///
    /// ```
    /// use keops_core::spec::Axis;
    /// use keops_linalg::KernelSolve;
    /// use ndarray::array;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    /// let solve: KernelSolve = KernelSolve::new("x * y * b", aliases, "b", Axis::J)?;
    /// // One point: (x y + α) a = b, so that a = 8 / (3 · 5 + 1) and da/db = 1 / 16.
    /// let (x, y, b, a) = (array![[3.0]], array![[5.0]], array![[8.0]], array![[0.5]]);
    /// let solver = solve.solver().ridge(1.0);
    /// let g = solver.vjp((&x, &y, &b), &a, &array![[1.0]], &["b"])?;
    /// assert!((g.arguments[0][[0, 0]] - 1.0f64 / 16.0).abs() < 1e-12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn vjp<'a, A: IntoArgs<'a>, S: AsArg + ?Sized, E: AsArg + ?Sized>(
        self,
        args: A,
        solution: &S,
        cotangent: &E,
        wrt: &[&str],
    ) -> Result<SolveGradient<A::Elem>, SolveError> {
        self.operator.vjp_with(args, solution, cotangent, wrt, self.settings)
    }
}

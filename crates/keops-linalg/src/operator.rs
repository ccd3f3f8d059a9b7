//! Linear operators, and sums of formulas seen as such.

use crate::algebra::Cost;
use crate::error::{OperatorError, SolveError};
use crate::info::SolveOptions;
use crate::layout::VECTOR;
use crate::linear::Linear;
use crate::solve::{self, Solution};
use crate::solver::{Settings, Solver};
use keops_core::data::{ArgView, Buffer, DType, Element, HostView};
use keops_core::error::{Error, GradError, InputError, OutOfMemory, RunError};
use keops_core::genred::{AsArg, Genred, IntoArgs, Place, Reference};
use keops_core::graph::Category;
use keops_core::ranges::Ranges;
use keops_core::spec::{Axis, Device, broadcast};
use keops_core::{memory, with_view};
use ndarray::{Array3, ArrayD, ArrayView0, ArrayViewD, IxDyn, aview0};
use std::sync::{Arc, OnceLock};

mod arguments;
mod over;

use arguments::BoundArg;
pub(crate) use arguments::{batch_element, values, wide};
use over::Over;

/// A linear map of block vectors, of shape `(batches, rows, components)`, as solvers see it.
///
/// ```
/// use keops_core::{data::DType, error::Error};
/// use keops_linalg::{LinearOperator, Solver};
/// use ndarray::Array3;
///
/// /// Multiplies row k by k + 1.
/// struct Diagonal(usize);
/// impl LinearOperator for Diagonal {
///     fn domain(&self) -> [usize; 2] {
///         [self.0, 1]
///     }
///     fn range(&self) -> [usize; 2] {
///         self.domain()
///     }
///     fn precision(&self) -> DType {
///         DType::F64
///     }
///     fn columns_independent(&self) -> bool {
///         true
///     }
///     fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
///         Ok(Array3::from_shape_fn(v.dim(), |(b, k, c)| (k + 1) as f64 * v[[b, k, c]]))
///     }
/// }
/// let b = Array3::ones((1, 4, 1));
/// let operator: &dyn LinearOperator = &Diagonal(4);
/// let (a, info) = Solver::of(operator).ridge(0.0).solve(&b)?;
/// assert!((0..4).all(|k| (a[[0, k, 0]] - 1.0 / (k + 1) as f64).abs() < 1e-6));
/// assert!(info.converged() && info.iterations <= 4); // as many as there are eigenvalues
/// # Ok::<(), keops_linalg::SolveError>(())
/// ```
pub trait LinearOperator {
    /// Rows and components of arguments.
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// assert_eq!(Diagonal(4).domain(), [4, 1]); // as in the example of the trait
    /// ```
    fn domain(&self) -> [usize; 2];
    /// Rows and components of results; of a system they are those of arguments.
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// assert_eq!(Diagonal(4).range(), Diagonal(4).domain());
    /// ```
    fn range(&self) -> [usize; 2];
    /// Type in which products are computed: arguments are rounded to it.
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// assert_eq!(Diagonal(4).precision(), DType::F64);
    /// ```
    fn precision(&self) -> DType;
    /// Does component c of a result depend on component c of the argument only? Then each column
    /// is a system of its own.
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// assert!(Diagonal(4).columns_independent());
    /// ```
    fn columns_independent(&self) -> bool;
    /// Number of matrices: 1, or that of batch elements that have one of their own.
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// assert_eq!(Diagonal(4).matrices(), 1); // the same for all batch elements
    /// ```
    fn matrices(&self) -> usize {
        1
    }
    /// The matrix that multiplies a batch element of arguments.
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// assert_eq!(Diagonal(4).matrix_of(7), 0);
    /// ```
    fn matrix_of(&self, _batch: usize) -> usize {
        0
    }
    /// What a product with one vector takes; NaN where that is not known.
    fn cost(&self) -> Cost {
        Cost { flops: f64::NAN, bytes: f64::NAN }
    }
    /// The product with a block vector, of shape `(batches, rows, components)` as
    /// [`LinearOperator::domain`] says; the result is as [`LinearOperator::range`] says.
    ///
    /// # Errors
    /// From the device.
    ///
    /// ```
    #[doc = include_str!("operator_example.txt")]
    /// let product = Diagonal(3).apply(&Array3::ones((1, 3, 1)))?; // diag(1, 2, 3) times ones
    /// assert_eq!(product, Array3::from_shape_fn((1, 3, 1), |(_, k, _)| (k + 1) as f64));
    /// # Ok::<(), Error>(())
    /// ```
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error>;
}

/// Zeros of both compute types: an array of zeros is one of them, broadcast.
const ZEROS: (ArrayView0<'static, f32>, ArrayView0<'static, f64>) = (aview0(&0.0), aview0(&0.0));

/// A sum of a formula that is linear in one variable, with all other arguments given: a matrix,
/// or one for each batch element, that is never stored.
///
/// `out_i = Σ_j F(x_i, y_j, v_j)` maps `columns` rows of dimension `domain_dim` to `rows` rows of
/// dimension `range_dim`. For formulas "kernel times `v`" all columns of `v` share each kernel
/// evaluation. Batch axes of `v` broadcast with those of the arguments.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::KernelOperator;
/// use ndarray::array;
///
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
/// let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * v", aliases, &SUM, Axis::J)?;
/// let (x, y) = (array![[0.0], [1.0]], array![[0.0], [1.0], [2.0]]);
/// let k = KernelOperator::new(&sum, "v", (&x, &y))?;
/// assert_eq!((k.rows(), k.columns()), (2, 3));
/// let second = k.apply(&array![[0.0], [1.0], [0.0]])?;
/// assert!((second[[0, 0]] - (-1f64).exp()).abs() < 1e-15);
/// let row = k.transpose()?.apply(&array![[1.0], [0.0]])?;
/// assert!((row[[2, 0]] - (-4f64).exp()).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KernelOperator<'a, P = Reference> {
    sum: Genred<P>,
    /// The gradient of the sum in the variable, if this is the transpose.
    adjoint: Option<Genred<P>>,
    /// The same, made when it is first asked for, for this operator and its copies.
    gradient: Arc<OnceLock<Genred<P>>>,
    linear: Linear,
    /// All arguments but the variable, in order.
    args: Vec<BoundArg<'a>>,
    /// What holds them, if a device does.
    device: Option<Device>,
    dtype: DType,
    rows: usize,
    columns: usize,
    batch: Vec<usize>,
}

impl<'a, P: Place> KernelOperator<'a, P> {
    /// The matrix of `sum` in `variable`; `args` are the values of all other arguments in order.
    ///
    /// # Errors
    /// [`OperatorError`] if the reduction is not a sum, if it is not linear in the variable (the
    /// message names the operation), if the variable is not indexed by the reduced index, or if
    /// an argument does not fit.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use keops_linalg::KernelOperator;
    /// let aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"];
    /// let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J)?;
    /// let x = ndarray::Array2::<f64>::zeros((4, 2));
    /// assert_eq!(KernelOperator::new(&sum, "b", (&x, &x))?.rows(), 4);
    /// let e = KernelOperator::new(&sum, "y", (&x, &x)).unwrap_err();
    /// assert!(e.to_string().starts_with("the formula is not linear in `y`: "), "{e}");
    /// # Ok::<(), keops_linalg::OperatorError>(())
    /// ```
    pub fn new(
        sum: &Genred<P>,
        variable: &str,
        args: impl IntoArgs<'a>,
    ) -> Result<KernelOperator<'a, P>, OperatorError> {
        let linear = Linear::of(sum.computation(), variable)?;
        KernelOperator::bind(sum, linear, args.into_args(), None)
    }

    /// `columns` is the number of rows of the variable, where it is known.
    pub(crate) fn bind(
        sum: &Genred<P>,
        linear: Linear,
        args: Vec<ArgView<'a>>,
        columns: Option<usize>,
    ) -> Result<KernelOperator<'a, P>, OperatorError> {
        let inputs = sum.computation().inputs();
        let others = inputs.iter().filter(|i| i.name != linear.variable);
        if args.len() + 1 != inputs.len() {
            let names: Vec<_> = others.map(|i| i.name.as_str()).collect();
            let names = format!("all but `{}`: {}", linear.variable, names.join(", "));
            return Err(
                InputError::Count { expected: inputs.len() - 1, names, got: args.len() }.into()
            );
        }
        let dtype = args.first().map_or(DType::F64, |a| a.dtype());
        let alike = |(input, arg): (&keops_core::outer::InputDef, &ArgView<'a>)| {
            if arg.dtype() == dtype {
                return Ok(());
            }
            Err(InputError::Type {
                name: input.name.clone(),
                expected: dtype.name().into(),
                got: arg.dtype().name().into(),
            })
        };
        others.clone().zip(&args).try_for_each(alike)?;
        // Rows of an argument that is indexed like the variable.
        let like = others.clone().zip(&args).find(|(i, _)| i.category == linear.category);
        let rows_of = |arg: &ArgView<'_>| arg.shape().iter().rev().nth(1).copied();
        let columns = columns.or_else(|| like.and_then(|(_, arg)| rows_of(arg)));
        let Some(columns) = columns else {
            return Err(InputError::NoSize {
                what: format!("columns: rows of `{}`", linear.variable),
                hint: format!("use an argument of category {}", linear.category.keyword()),
            }
            .into());
        };
        let args =
            args.into_iter().map(BoundArg::new).collect::<Result<_, _>>().map_err(Error::from)?;
        let dtype = dtype.compute();
        let mut operator = KernelOperator {
            sum: sum.clone(),
            adjoint: None,
            gradient: Arc::default(),
            linear,
            args,
            device: None,
            dtype,
            rows: 0,
            columns,
            batch: vec![],
        };
        let (zeros, shape) = (ZEROS, [columns, operator.linear.variable_dim]);
        let sizes =
            sum.computation().sizes(&operator.arguments(operator.zeros(&zeros, &shape)?))?;
        operator.rows = match operator.linear.category {
            Category::I => sizes.rows_j,
            _ => sizes.rows_i,
        };
        operator.batch = sizes.batch;
        Ok(operator)
    }

    /// Rows of results.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::KernelOperator;
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(3)"];
    /// # let sum: Genred = Genred::new("(x | y) * v", aliases, &SUM, Axis::J)?;
    /// # let x = ndarray::array![[1.0], [2.0]];
    /// # let y = ndarray::array![[1.0], [3.0], [5.0], [7.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &y))?; // x yᵀ, 2 × 4, for v of shape (4, 3)
    /// assert_eq!((k.rows(), k.transpose()?.rows()), (2, 4));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rows(&self) -> usize {
        if self.adjoint.is_some() { self.columns } else { self.rows }
    }
    /// Rows of arguments.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::KernelOperator;
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(3)"];
    /// # let sum: Genred = Genred::new("(x | y) * v", aliases, &SUM, Axis::J)?;
    /// # let x = ndarray::array![[1.0], [2.0]];
    /// # let y = ndarray::array![[1.0], [3.0], [5.0], [7.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &y))?; // x yᵀ, 2 × 4, for v of shape (4, 3)
    /// assert_eq!(k.columns(), 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn columns(&self) -> usize {
        if self.adjoint.is_some() { self.rows } else { self.columns }
    }
    /// Components of each row of results.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::KernelOperator;
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(3)"];
    /// # let sum: Genred = Genred::new("(x | y) * v", aliases, &SUM, Axis::J)?;
    /// # let x = ndarray::array![[1.0], [2.0]];
    /// # let y = ndarray::array![[1.0], [3.0], [5.0], [7.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &y))?; // x yᵀ, 2 × 4, for v of shape (4, 3)
    /// assert_eq!(k.range_dim(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range_dim(&self) -> usize {
        match self.adjoint {
            None => self.linear.result_dim,
            Some(_) => self.linear.variable_dim,
        }
    }
    /// Components of each row of arguments.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::KernelOperator;
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(3)"];
    /// # let sum: Genred = Genred::new("(x | y) * v", aliases, &SUM, Axis::J)?;
    /// # let x = ndarray::array![[1.0], [2.0]];
    /// # let y = ndarray::array![[1.0], [3.0], [5.0], [7.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &y))?; // x yᵀ, 2 × 4, for v of shape (4, 3)
    /// assert_eq!(k.domain_dim(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn domain_dim(&self) -> usize {
        match self.adjoint {
            None => self.linear.variable_dim,
            Some(_) => self.linear.result_dim,
        }
    }
    /// Batch shape of the kernel: each batch element is a matrix.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::KernelOperator;
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(3)"];
    /// # let sum: Genred = Genred::new("(x | y) * v", aliases, &SUM, Axis::J)?;
    /// # let x = ndarray::array![[1.0], [2.0]];
    /// # let y = ndarray::array![[1.0], [3.0], [5.0], [7.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &y))?; // x yᵀ, 2 × 4, for v of shape (4, 3)
    /// assert!(k.batch().is_empty()); // one matrix
    /// let many = ndarray::Array3::from_elem((5, 2, 1), 1.0);
    /// let five = KernelOperator::new(&sum, "v", (&many, &y))?; // y is one for all
    /// assert_eq!(five.batch(), [5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn batch(&self) -> &[usize] {
        &self.batch
    }
    /// Type in which products are computed: f32 or f64.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::KernelOperator;
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(3)"];
    /// # let sum: Genred = Genred::new("(x | y) * v", aliases, &SUM, Axis::J)?;
    /// # let x = ndarray::array![[1.0], [2.0]];
    /// # let y = ndarray::array![[1.0], [3.0], [5.0], [7.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &y))?; // x yᵀ, 2 × 4, for v of shape (4, 3)
    /// assert_eq!(k.precision(), keops_core::data::DType::F64);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn precision(&self) -> DType {
        self.dtype
    }
    /// Does component c of results depend on component c of arguments only (kernel times
    /// variable), so that each column is a system of its own?
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::KernelOperator;
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(3)"];
    /// # let sum: Genred = Genred::new("(x | y) * v", aliases, &SUM, Axis::J)?;
    /// # let x = ndarray::array![[1.0], [2.0]];
    /// # let y = ndarray::array![[1.0], [3.0], [5.0], [7.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &y))?; // x yᵀ, 2 × 4, for v of shape (4, 3)
    /// assert!(k.columns_independent());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn columns_independent(&self) -> bool {
        self.linear.independent
    }

    /// The transposed matrix: the gradient of the sum in its variable.
    ///
    /// # Errors
    /// [`GradError`] if an operation of the formula has no derivative in the variable.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::KernelOperator;
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(3)"];
    /// # let sum: Genred = Genred::new("(x | y) * v", aliases, &SUM, Axis::J)?;
    /// # let x = ndarray::array![[1.0], [2.0]];
    /// # let y = ndarray::array![[1.0], [3.0], [5.0], [7.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &y))?; // x yᵀ, 2 × 4, for v of shape (4, 3)
    /// let t = k.transpose()?;
    /// let product = t.apply(&ndarray::array![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])?;
    /// let last = product.select(ndarray::Axis(0), &[3]);
    /// assert_eq!(last, ndarray::array![[7.0, 14.0, 0.0]].into_dyn());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transpose(mut self) -> Result<KernelOperator<'a, P>, GradError> {
        self.adjoint = match self.adjoint {
            Some(_) => None,
            None => Some(self.gradient()?.clone()),
        };
        Ok(self)
    }
    fn gradient(&self) -> Result<&Genred<P>, GradError> {
        if let Some(made) = self.gradient.get() {
            return Ok(made);
        }
        let made = self.sum.vjp(&self.linear.variable)?;
        Ok(self.gradient.get_or_init(|| made))
    }

    /// The product with `v`, of shape `(batch…, columns, domain_dim)`; the result has shape
    /// `(batch…, rows, range_dim)` and the type of `v`, whatever that of the arguments (`v` is
    /// rounded to [`KernelOperator::precision`]).
    ///
    /// # Errors
    /// [`Error::Input`] if the shape does not fit, else from the device.
    ///
    /// ```
    /// # use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// # use keops_linalg::KernelOperator;
    /// # let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(3)"];
    /// # let sum: Genred = Genred::new("(x | y) * v", aliases, &SUM, Axis::J)?;
    /// # let x = ndarray::array![[1.0], [2.0]];
    /// # let y = ndarray::array![[1.0], [3.0], [5.0], [7.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &y))?; // x yᵀ, 2 × 4, for v of shape (4, 3)
    /// let v = ndarray::array![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]];
    /// let product = k.apply(&v)?;
    /// assert_eq!(product, ndarray::array![[8.0, 10.0, 12.0], [16.0, 20.0, 24.0]].into_dyn());
    /// let e = k.apply(&x).unwrap_err();
    /// assert!(e.to_string().contains("expected shape (4, 3)"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn apply<V: AsArg + ?Sized>(&self, v: &V) -> Result<ArrayD<V::Elem>, Error> {
        let arg = v.as_arg();
        self.full_batch(arg.shape())?;
        let vector = with_view!(&*arg.host()?, v => self.vector(v))?;
        Ok(V::Elem::take(self.product(&vector)?)?)
    }

    /// Solves `(K + αI) a = b` by conjugate gradients, for a symmetric positive definite `K + αI`
    /// and `b` of shape `(batch…, rows, dim)`; `a` has the type of `b` and its shape, broadcast
    /// to the batch shape of the kernel. See [`crate::KernelSolve`].
    ///
    /// # Errors
    /// [`SolveError`], which tells what went wrong at which iteration, with the last iterate.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use keops_linalg::{KernelOperator, SolveOptions};
    /// use ndarray::array;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
    /// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?;
    /// let x = array![[1.0], [2.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &x))?; // [1 2; 2 4], of rank 1
    /// let b = array![[3.0], [0.0]];
    /// let a = k.solve(&b, &SolveOptions::ridge(1.0))?.value; // [2 2; 2 5] a = b
    /// let gap = a - array![[2.5], [-1.0]];
    /// assert!(gap.iter().all(|g: &f64| g.abs() < 1e-12));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn solve<B: AsArg + ?Sized>(
        &self,
        b: &B,
        options: &SolveOptions,
    ) -> Result<Solution<B::Elem>, SolveError> {
        self.solver().options(*options).solve(b)
    }
    /// A solver with this operator, whose options are to be given.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use keops_linalg::KernelOperator;
    /// use ndarray::array;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
    /// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?;
    /// let x = array![[1.0], [2.0]];
    /// let k = KernelOperator::new(&sum, "v", (&x, &x))?; // [1 2; 2 4], of rank 1
    /// let guess = array![[2.5], [-1.0]]; // the solution itself
    /// let solver = k.solver().ridge(1.0).first_guess(&guess);
    /// assert_eq!(solver.solve(&array![[3.0], [0.0]])?.info.iterations, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn solver(&self) -> Solver<'_, KernelOperator<'a, P>> {
        Solver::of(self)
    }
    /// As [`Solver::solve`] does it.
    pub(crate) fn solve_with<B: AsArg + ?Sized>(
        &self,
        b: &B,
        settings: Settings<'_>,
    ) -> Result<Solution<B::Elem>, SolveError> {
        let (value, info) = solve::block(self, &b.as_arg(), settings)?;
        Ok(Solution { value: B::Elem::take(Buffer::F64(value)).map_err(Error::from)?, info })
    }
    /// Checks the shape of an argument; the batch shape of the product.
    pub(crate) fn full_batch(&self, shape: &[usize]) -> Result<Vec<usize>, InputError> {
        let own = [self.columns(), self.domain_dim()];
        let fits = shape.strip_suffix(&own).and_then(|lead| broadcast(&self.batch, lead));
        fits.ok_or_else(|| {
            let [n, d] = own;
            let expected = match &self.batch[..] {
                [] => format!("shape ({n}, {d}) or (batches…, {n}, {d})"),
                batch => format!("shape ({n}, {d}), or batches that fit {batch:?} before it"),
            };
            InputError::Shape { name: self.linear.variable.clone(), expected, got: shape.to_vec() }
        })
    }
    /// The index that the sum reduces over.
    pub(crate) fn axis(&self) -> Axis {
        if self.linear.category == Category::I { Axis::I } else { Axis::J }
    }
    pub(crate) fn is_transposed(&self) -> bool {
        self.adjoint.is_some()
    }
    /// Ranges that the sum was given.
    pub(crate) fn ranges(&self) -> Option<&Ranges> {
        self.sum.given_ranges()
    }
    /// The part of the matrix within ranges.
    pub(crate) fn with_ranges(&self, ranges: Arc<Ranges>) -> KernelOperator<'a, P> {
        let adjoint = self.adjoint.clone().map(|a| a.ranges(ranges.clone()));
        let (sum, gradient) = (self.sum.clone().ranges(ranges), Arc::default());
        KernelOperator { sum, adjoint, gradient, ..self.clone() }
    }
    /// One of the matrices of a batch.
    pub(crate) fn element(&self, matrix: usize) -> Result<KernelOperator<'_, P>, RunError> {
        let (mut index, mut rest) = (vec![0; self.batch.len()], matrix);
        for (at, &n) in index.iter_mut().zip(&self.batch).rev() {
            (*at, rest) = (rest % n.max(1), rest / n.max(1));
        }
        let inputs = self.sum.computation().inputs().iter();
        let others = inputs.filter(|i| i.name != self.linear.variable);
        let mut args = vec![];
        for (input, held) in others.zip(&self.args) {
            args.push(BoundArg::Given(batch_element(held.host()?, input.category, &index).into()));
        }
        Ok(KernelOperator {
            sum: self.sum.clone(),
            adjoint: self.adjoint.clone(),
            gradient: self.gradient.clone(),
            linear: self.linear.clone(),
            args,
            device: self.device.clone(),
            dtype: self.dtype,
            rows: self.rows,
            columns: self.columns,
            batch: vec![],
        })
    }
    /// The operator on block vectors of a batch shape, which includes its own.
    pub(crate) fn over(&self, batch: Vec<usize>) -> Over<'_, 'a, P> {
        Over { operator: self, batch }
    }
    /// Arguments of the sum, with a value of the variable.
    pub(crate) fn arguments<'s>(&'s self, vector: ArgView<'s>) -> Vec<ArgView<'s>> {
        let mut all: Vec<_> = self.args.iter().map(BoundArg::view).collect();
        all.insert(self.linear.slot, vector);
        all
    }
    /// A vector in the type of the operator.
    pub(crate) fn vector<T: Element>(&self, v: &ArrayViewD<'_, T>) -> Result<Buffer, OutOfMemory> {
        Ok(match self.dtype {
            DType::F64 => Buffer::F64(memory::mapped(v, |e| e.to_f64(), VECTOR)?),
            _ => Buffer::F32(memory::mapped(v, |e| e.to_f64() as f32, VECTOR)?),
        })
    }
    /// A value of the variable, all zeros.
    fn zeros<'z>(
        &self,
        (single, double): &'z (ArrayView0<'_, f32>, ArrayView0<'_, f64>),
        shape: &[usize],
    ) -> Result<ArgView<'z>, InputError> {
        let zeros = match self.dtype {
            DType::F64 => double.broadcast(IxDyn(shape)).map(HostView::F64),
            _ => single.broadcast(IxDyn(shape)).map(HostView::F32),
        };
        zeros.map(ArgView::Host).ok_or_else(|| InputError::TooLarge {
            what: format!("`{}`", self.linear.variable),
            detail: format!("{shape:?}"),
        })
    }
    /// Operations of the formula for each pair of rows that is summed, and bytes of arguments, of
    /// one matrix. The transpose takes about as much.
    pub(crate) fn estimate(&self) -> Cost {
        let pairs = match self.ranges() {
            Some(ranges) => ranges.pairs() as f64,
            None => self.rows as f64 * self.columns as f64,
        };
        let size = |a: ArgView<'_>| a.shape().iter().product::<usize>() * a.dtype().bytes();
        let bytes: usize = self.args.iter().map(|a| size(a.view())).sum();
        Cost { flops: pairs * self.linear.operations as f64, bytes: bytes as f64 }
    }
    /// The same operator with its arguments held by the device that multiplies this many vectors at once:
    /// they are sent there and packed once, not for every product.
    pub(crate) fn resident(&self, vectors: usize) -> Result<KernelOperator<'_, P>, RunError> {
        let sizes = [self.rows, self.columns, vectors];
        let pairs = sizes.into_iter().fold(1u64, |a, n| a.saturating_mul(n as u64));
        let device = self.sum.place().device(pairs);
        let args = self.args.iter().map(|a| a.uploaded(&device)).collect::<Result<_, _>>()?;
        Ok(KernelOperator {
            sum: self.sum.clone(),
            adjoint: self.adjoint.clone(),
            gradient: self.gradient.clone(),
            linear: self.linear.clone(),
            args,
            device: Some(device),
            dtype: self.dtype,
            rows: self.rows,
            columns: self.columns,
            batch: self.batch.clone(),
        })
    }
    /// What [`KernelOperator::form_with`] evaluates: the gradient of the sum in arguments.
    pub(crate) fn form_gradient_of(&self, wrt: &[&str]) -> Result<Genred<P>, Error> {
        if let Some(name) = wrt.iter().find(|n| **n == self.linear.variable) {
            let what = format!("`{name}` is what the operator multiplies, not an argument of it");
            return Err(InputError::Option(what).into());
        }
        Ok(self.sum.vjp_of(wrt)?)
    }
    /// The gradient of `<u, K v>` with respect to arguments, `u` and `v` held fixed.
    pub(crate) fn form_with(
        &self,
        gradient: &Genred<P>,
        u: &ArrayD<f64>,
        v: &ArrayD<f64>,
    ) -> Result<Vec<ArrayD<f64>>, Error> {
        let (u, v) = if self.is_transposed() { (v, u) } else { (u, v) };
        let (u, v) = (self.vector(&u.view())?, self.vector(&v.view())?);
        let mut args = self.arguments(values(&v));
        args.push(values(&u));
        Ok(self.run(gradient, &args)?.iter().map(Buffer::to_f64).collect())
    }
    fn run(&self, sum: &Genred<P>, args: &[ArgView<'_>]) -> Result<Vec<Buffer>, Error> {
        match &self.device {
            Some(device) => sum.call_with(device, args, sum.given_ranges()),
            None => sum.run(args),
        }
    }
    /// The product with a vector that fits.
    fn product(&self, v: &Buffer) -> Result<Buffer, Error> {
        let made = match &self.adjoint {
            None => self.run(&self.sum, &self.arguments(values(v)))?,
            Some(adjoint) => {
                // The gradient has the batch shape of the variable, the cotangent that of the sum.
                let (own, zeros) = (v.shape().len() - 2, ZEROS);
                let full = broadcast(&self.batch, &v.shape()[..own]).unwrap_or_default();
                let shape = [&full[..], &[self.columns, self.linear.variable_dim]].concat();
                let wide = IxDyn(&[&full[..], &v.shape()[own..]].concat());
                let cotangent = match v {
                    Buffer::F32(v) => v.broadcast(wide).map(HostView::F32),
                    Buffer::F64(v) => v.broadcast(wide).map(HostView::F64),
                    _ => unreachable!("compute types are f32 and f64"),
                };
                let mut args = self.arguments(self.zeros(&zeros, &shape)?);
                args.extend(cotangent.map(ArgView::Host)); // batch shapes are checked: there is one
                self.run(adjoint, &args)?
            }
        };
        match <[Buffer; 1]>::try_from(made) {
            Ok([out]) => Ok(out),
            Err(all) => unreachable!("one result, not {}", all.len()),
        }
    }
}

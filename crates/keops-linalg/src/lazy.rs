//! Systems of symbolic matrices.

use crate::error::{OperatorError, SolveError};
use crate::info::SolveOptions;
use crate::operator::KernelOperator;
use crate::solve::{KernelSolve, Solution};
use crate::solver::{Settings, Solver};
use keops_core::data::Element;
use keops_core::error::{Error, InputError};
use keops_core::genred::{Place, Reference, Shaped};
use keops_core::graph::Category;
use keops_core::lazy::{BoundReduction, LazyTensor, OpenArgs};
use keops_core::reduce::SUM;
use keops_core::spec::Axis;
use ndarray::{ArrayD, ArrayRef, Axis as NdAxis, Dimension};

/// Systems of a symbolic matrix: a trait of [`LazyTensor`].
///
/// ```
/// use keops_core::{genred::Reference, lazy::LazyTensor};
/// use keops_linalg::{Solve, SolveOptions};
/// # use ndarray::array;
/// let x = array![[1.0], [2.0]];
/// let k = LazyTensor::<f64, Reference>::vi(&x) * LazyTensor::vj(&x); // [1 2; 2 4]
/// let b = array![3.0, 0.0];
/// let a = k.solve(&b, &SolveOptions::ridge(1.0))?.value; // [2 2; 2 5] a = b
/// assert!((a[[0]] - 2.5).abs() < 1e-12 && (a[[1]] + 1.0).abs() < 1e-12);
/// # Ok::<(), keops_linalg::SolveError>(())
/// ```
pub trait Solve<T: Element, P> {
    /// Solves `(K + ridge I) a = b` by conjugate gradients, for a symmetric positive definite K;
    /// `b` has shape `(batch…, M, columns)`, or `(M)`, as has the solution, in its type too. Where the
    /// matrix has more batch axes than `b`, give `b` as an array of `IxDyn`.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor};
    /// use keops_linalg::{Solve, SolveOptions};
    /// use ndarray::{Array1, array};
    ///
    /// let x = array![[0.0], [0.5], [1.0]];
    /// let k = (-LazyTensor::<f64, Reference>::vi(&x).sqdist(LazyTensor::vj(&x))).exp();
    /// let b = Array1::ones(3);
    /// let a = k.solve(&b, &SolveOptions::ridge(0.1))?.value;
    /// let residual = k.matmul(&a)? + 0.1 * &a - &b;
    /// assert!(residual.iter().all(|r| r.abs() < 1e-4));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SolveError`]: if the matrix or `b` do not fit, if the iteration breaks down or does not
    /// converge.
    #[track_caller]
    fn solve<D: Dimension>(
        &self,
        b: &ArrayRef<T, D>,
        options: &SolveOptions,
    ) -> Result<Solution<T, D>, SolveError>;
    /// A solver with this matrix, whose options are to be given.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor};
    /// use keops_linalg::Solve;
    /// # use ndarray::array;
    /// let x = array![[1.0], [2.0]];
    /// let k = LazyTensor::<f64, Reference>::vi(&x) * LazyTensor::vj(&x); // [1 2; 2 4]
    /// let a = k.solver().ridge(1.0).tolerance(1e-9).solve(&array![3.0, 0.0])?.value;
    /// assert!((a[[0]] - 2.5).abs() < 1e-8); // [2 2; 2 5] a = b
    /// # Ok::<(), keops_linalg::SolveError>(())
    /// ```
    fn solver(&self) -> Solver<'_, LazyTensor<T, P>>;
    /// The same, not yet called: a function of the symbolic variables of K, if it has any, and of a
    /// right-hand side of this many columns.
    ///
    /// ```
    /// use keops_core::{genred::Reference, graph::Category, lazy::LazyTensor};
    /// use keops_linalg::{Solve, SolveOptions};
    /// use ndarray::array;
    ///
    /// let x = array![[0.0], [0.5], [1.0]];
    /// let distances = LazyTensor::<f64, Reference>::vi(&x).sqdist(LazyTensor::vj(&x));
    /// let gamma = LazyTensor::var(0, 1, Category::Param);
    /// let solver = (-distances * gamma).exp().system(1)?;
    /// let b = array![[1.0], [2.0], [3.0]];
    /// for gamma in [1.0, 2.0] {
    ///     let a = solver.call((&array![gamma], &b), &SolveOptions::ridge(0.1))?.value;
    ///     assert_eq!(a.shape(), [3, 1]);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SolveError::Core`] if the matrix does not fit this many columns.
    #[track_caller]
    fn system(&self, columns: usize) -> Result<LazySolve<T, P>, SolveError>;
}

/// A system of a symbolic matrix, not yet solved: see [`Solve::system`].
///
/// ```
/// use keops_core::{genred::Reference, lazy::LazyTensor};
/// use keops_linalg::{LazySolve, Solve, SolveOptions};
/// # use ndarray::array;
/// let x = array![[0.0], [5.0]]; // so far apart that K is the identity, to 11 digits
/// let k = (-LazyTensor::<f64, Reference>::vi(&x).sqdist(LazyTensor::vj(&x))).exp();
/// let solver: LazySolve<f64> = k.system(1)?;
/// for b in [array![[2.0], [4.0]], array![[6.0], [8.0]]] {
///     let a = solver.call((&b,), &SolveOptions::ridge(1.0))?.value;
///     assert!((a - b / 2.0).iter().all(|gap| gap.abs() < 1e-9));
/// }
/// # Ok::<(), keops_linalg::SolveError>(())
/// ```
pub struct LazySolve<T, P = Reference> {
    bound: BoundReduction<T, P>,
    solve: KernelSolve<P>,
}

impl<T, P: Place> std::fmt::Debug for LazySolve<T, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LazySolve").field("product", &self.bound).finish()
    }
}

impl<T: Element, P: Place> LazySolve<T, P> {
    /// Names of the arguments of calls: the symbolic variables of the matrix by position, then the
    /// right-hand side.
    ///
    /// ```
    /// use keops_core::{genred::Reference, graph::Category, lazy::LazyTensor};
    /// use keops_linalg::Solve;
    /// let x = ndarray::array![[0.0], [0.5], [1.0]];
    /// let distances = LazyTensor::<f64, Reference>::vi(&x).sqdist(LazyTensor::vj(&x));
    /// let gamma = LazyTensor::var(0, 1, Category::Param);
    /// assert_eq!((-distances * gamma).exp().system(2)?.arguments().len(), 2); // gamma, then b
    /// # Ok::<(), keops_linalg::SolveError>(())
    /// ```
    pub fn arguments(&self) -> Vec<&str> {
        self.bound.free()
    }
    /// Solves; the right-hand side, of shape `(batch…, M, columns)`, is the last argument.
    ///
    /// # Errors
    /// As [`KernelSolve::call`].
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor};
    /// use keops_linalg::{Solve, SolveOptions};
    /// # use ndarray::array;
    /// let x = array![[1.0], [2.0]];
    /// let k = LazyTensor::<f64, Reference>::vi(&x) * LazyTensor::vj(&x); // [1 2; 2 4]
    /// let solver = k.system(1)?;
    /// let b = array![[3.0], [0.0]];
    /// let a = solver.call((&b,), &SolveOptions::ridge(1.0))?.value; // [2 2; 2 5] a = b
    /// assert!((a[[0, 0]] - 2.5).abs() < 1e-12);
    /// # Ok::<(), keops_linalg::SolveError>(())
    /// ```
    pub fn call<'a>(
        &'a self,
        arguments: impl OpenArgs<'a, T>,
        options: &SolveOptions,
    ) -> Result<Solution<T>, SolveError> {
        self.solver().options(*options).call(arguments)
    }
    /// A solver of this system, whose options are to be given.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor};
    /// use keops_linalg::Solve;
    /// # use ndarray::array;
    /// let x = array![[1.0], [2.0]];
    /// let k = LazyTensor::<f64, Reference>::vi(&x) * LazyTensor::vj(&x); // [1 2; 2 4]
    /// let (open, b) = (k.system(1)?, array![[3.0], [0.0]]);
    /// assert!(open.solver().ridge(1.0).call((&b,))?.info.converged());
    /// # Ok::<(), keops_linalg::SolveError>(())
    /// ```
    pub fn solver(&self) -> Solver<'_, LazySolve<T, P>> {
        Solver::of(self)
    }
    pub(crate) fn call_with<'a>(
        &'a self,
        arguments: impl OpenArgs<'a, T>,
        settings: Settings<'_>,
    ) -> Result<Solution<T>, SolveError> {
        let all = self.bound.arguments(arguments).map_err(SolveError::Core)?;
        self.solve.call_with(all, settings)
    }
}

/// The error of a right-hand side that no matrix of `rows` rows takes (`M` where that is not known).
fn not_a_side(rows: Option<usize>, vector: bool, got: &[usize]) -> SolveError {
    let m = rows.map_or("M".to_string(), |n| n.to_string());
    let expected = match vector {
        true => format!("shape ({m})"),
        false => format!("shape ({m}) or (batches…, {m}, columns), with a column at least"),
    };
    let name = "the right-hand side".into();
    InputError::Shape { name, expected, got: got.to_vec() }.into()
}

/// The product of a matrix with vectors of this many columns, and the name of these.
#[track_caller]
fn product<T: Element, P: Place>(
    k: &LazyTensor<T, P>,
    columns: usize,
) -> Result<(BoundReduction<T, P>, String), SolveError> {
    let position = k.symbolic_variables().map_err(SolveError::Core)?.len();
    let b = LazyTensor::<T, Reference>::var(position, columns, Category::J).named("b");
    let bound = (k * b.at(k.place().clone())).bound(&SUM, Axis::J).map_err(SolveError::Core)?;
    let name = bound.free().last().map_or("b".to_string(), |n| n.to_string());
    Ok((bound, name))
}
/// A block of one column becomes a vector.
fn drop_column<T>(a: &mut ArrayD<T>) {
    if a.ndim() > 1 {
        a.index_axis_inplace(NdAxis(a.ndim() - 1), 0);
    }
}
fn core(e: OperatorError) -> SolveError {
    match e {
        OperatorError::Core(e) => SolveError::Core(e),
        e => unreachable!("a product is linear in its second factor: {e}"),
    }
}

/// As [`Solve::solve`].
#[track_caller]
pub(crate) fn solve<T: Element, P: Place, D: Dimension>(
    k: &LazyTensor<T, P>,
    b: &ArrayRef<T, D>,
    mut settings: Settings<'_>,
) -> Result<Solution<T, D>, SolveError> {
    let (vector, given) = (b.ndim() == 1, b.shape());
    if matches!(given, [] | [.., _, 0]) {
        return Err(not_a_side(None, false, given));
    }
    let mut b = b.view().into_dyn();
    if vector {
        b.insert_axis_inplace(NdAxis(1));
        settings.guess = settings.guess.map(|g| match g.shape().len() {
            1 => g.into_column(),
            _ => g,
        });
    }
    let (bound, name) = product(k, b.shape().last().copied().unwrap_or(0))?;
    if let [symbol, _, ..] = bound.free()[..] {
        let m = format!("{symbol} is symbolic: `system` makes a function of it");
        return Err(InputError::Option(m).into());
    }
    let operator = KernelOperator::new(bound.function(), &name, &bound).map_err(core)?;
    let square = operator.rows() == operator.columns();
    let (batch, axes) = (operator.batch(), given.len());
    if square && batch.is_empty() && b.shape()[b.ndim() - 2] != operator.rows() {
        return Err(not_a_side(Some(operator.rows()), vector, given));
    }
    if D::NDIM.is_some() && batch.len() + 2 > b.ndim() {
        let m = format!(
            "the matrix has batches {batch:?}, and the right-hand side has {axes} axes: give it as \
             many, or `into_dyn()` for a solution whose number of axes is found when it runs"
        );
        return Err(InputError::Option(m).into());
    }
    let mut solved = operator.solve_with(&b, settings);
    if vector {
        match &mut solved {
            Ok(solution) => drop_column(&mut solution.value),
            Err(e) => {
                if let Some(partial) = e.partial_mut() {
                    drop_column(&mut partial.solution);
                }
            }
        }
    }
    let Solution { value, info } = solved?;
    Ok(Solution { value: value.shaped().map_err(Error::from)?, info })
}

impl<T: Element, P: Place> Solve<T, P> for LazyTensor<T, P> {
    #[track_caller]
    fn solve<D: Dimension>(
        &self,
        b: &ArrayRef<T, D>,
        options: &SolveOptions,
    ) -> Result<Solution<T, D>, SolveError> {
        self.solver().options(*options).solve(b)
    }
    fn solver(&self) -> Solver<'_, LazyTensor<T, P>> {
        Solver::of(self)
    }
    #[track_caller]
    fn system(&self, columns: usize) -> Result<LazySolve<T, P>, SolveError> {
        if columns == 0 {
            let m = "a system of no columns has nothing to solve for: `columns` is at least 1";
            return Err(InputError::Option(m.into()).into());
        }
        let (bound, name) = product(self, columns)?;
        let solve = KernelSolve::from_sum(bound.function().clone(), &name).map_err(core)?;
        Ok(LazySolve { bound, solve })
    }
}

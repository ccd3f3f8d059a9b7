//! Least squares with operators that need not be square: LSMR (D. Fong, M. Saunders, LSMR: an
//! iterative algorithm for sparse least-squares problems, SIAM J. Sci. Comput. 33, 2011), with the
//! names and the stopping rules of its implementation in SciPy.
//!
//! The Golub-Kahan process of A and b makes a lower bidiagonal matrix, which two sequences of plane
//! rotations factorise as it grows. `‖Aᵀr‖` falls in every iteration. All systems share products, and
//! what is reported is recomputed with the operator and its adjoint.

use crate::algebra::Adjoint;
use crate::entries::AdjointOperator;
use crate::info::SystemId;
use crate::krylov::epsilon;
use crate::layout::{Layout, SYSTEMS, VECTOR, copy, exponent, scaled};
use crate::operator::LinearOperator;
use crate::solver::{Observer, Progress};
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::memory;
use ndarray::{Array, Array3, ArrayD, ArrayRef, Dimension, IxDyn};
use std::fmt;
use std::ops::ControlFlow;

/// Recomputed residuals may be above what the iteration has by this factor, and by so many units of
/// rounding of products.
const SLACK: f64 = 2.0;
const ROUNDING: f64 = 100.0;

/// Why the iteration ended with a right-hand side.
///
/// ```
/// use keops_linalg::{Diag, Lsmr, LsmrReason};
/// let d = Diag::new(ndarray::array![2.0, 0.0], 1);
/// let fit = Lsmr::of(&d).solve(&ndarray::array![4.0, 0.0])?;
/// assert_eq!(fit.info.systems[0].reason, LsmrReason::Compatible);
/// let fit = Lsmr::of(&d).solve(&ndarray::array![4.0, 1.0])?;
/// assert_eq!(fit.info.systems[0].reason, LsmrReason::LeastSquares);
/// # Ok::<(), keops_linalg::LsmrError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LsmrReason {
    /// `‖A x - b‖` is small: the system has a solution.
    Compatible,
    /// `‖Aᵀ (b - A x) - δ² x‖` is small: the least squares problem is solved.
    LeastSquares,
    /// See [`LsmrError::Condition`].
    Condition,
    /// See [`LsmrError::IterationLimit`].
    IterationLimit,
    /// See [`LsmrError::Inaccurate`].
    Inaccurate,
    /// See [`LsmrError::NotFinite`].
    NotFinite,
    /// See [`LsmrError::Cancelled`].
    Cancelled,
}

impl LsmrReason {
    /// The gravest failure is the smallest; `None` for a success.
    fn gravity(self) -> Option<u8> {
        match self {
            LsmrReason::Compatible | LsmrReason::LeastSquares => None,
            LsmrReason::NotFinite => Some(0),
            LsmrReason::Inaccurate => Some(1),
            LsmrReason::Condition => Some(2),
            LsmrReason::IterationLimit => Some(3),
            LsmrReason::Cancelled => Some(4),
        }
    }
}

/// Report about one right-hand side.
///
/// ```
/// use keops_linalg::{Diag, Lsmr};
/// let fit = Lsmr::of(&Diag::new(ndarray::array![2.0, 0.0], 1)).solve(&ndarray::array![4.0, 1.0])?;
/// let system = &fit.info.systems[0];
/// assert!((system.residual - 1.0).abs() < 1e-12 && system.gradient < 1e-12);
/// # Ok::<(), keops_linalg::LsmrError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct LsmrSystem {
    /// Which.
    pub system: SystemId,
    /// Iterations that it took part in: one product with the operator and one with its adjoint each.
    pub iterations: usize,
    /// `‖b - A x‖`, recomputed.
    pub residual: f64,
    /// `‖Aᵀ (b - A x) - δ² x‖`, recomputed: half the slope of what is minimised.
    pub gradient: f64,
    /// Estimate of the Frobenius norm of A above δI.
    pub norm: f64,
    /// Estimate of the condition number of A above δI, from below.
    pub condition: f64,
    /// Why the iteration ended.
    pub reason: LsmrReason,
}

/// Report of [`Lsmr`].
///
/// ```
/// use keops_linalg::{Diag, Lsmr};
/// let d = Diag::new(ndarray::array![2.0, 3.0], 2);
/// let info = Lsmr::of(&d).solve(&ndarray::array![[4.0, 0.0], [0.0, 3.0]])?.info;
/// assert_eq!((info.iterations, info.systems.len()), (1, 2)); // both are eigenvectors
/// # Ok::<(), keops_linalg::LsmrError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct LsmrInfo {
    /// Iterations of the slowest system.
    pub iterations: usize,
    /// Products with the operator and with its adjoint, checks included; all systems share each.
    pub products: usize,
    /// Each right-hand side: batch elements in row-major order, within them columns.
    pub systems: Vec<LsmrSystem>,
}

/// What minimises `‖A x - b‖² + δ² ‖x‖²`.
///
/// ```
/// use keops_linalg::{Diag, LeastSquares, Lsmr};
/// let d = Diag::new(ndarray::array![2.0, 3.0], 1);
/// let LeastSquares { solution, .. } = Lsmr::of(&d).solve(&ndarray::array![4.0, 3.0])?;
/// assert!((solution - ndarray::array![2.0, 1.0]).iter().all(|g| g.abs() < 1e-12));
/// # Ok::<(), keops_linalg::LsmrError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct LeastSquares<D: Dimension = IxDyn> {
    /// With the rows of the operator's domain, in the shape of the right-hand side otherwise. Where
    /// there are many minimisers, the one of smallest norm.
    pub solution: Array<f64, D>,
    /// How it was found.
    pub info: LsmrInfo,
}

/// A least squares problem was not solved: of several, the variant tells about the gravest failure.
///
/// ```
/// use keops_linalg::{Diag, Lsmr, LsmrError};
/// let d = Diag::new(ndarray::Array1::from_shape_fn(50, |k| (k + 1) as f64), 1);
/// let e = Lsmr::of(&d).max_iterations(3).solve(&ndarray::Array1::ones(50)).unwrap_err();
/// assert!(matches!(e, LsmrError::IterationLimit { limit: 3, .. }), "{e}");
/// assert_eq!(e.partial().unwrap().solution.shape(), [50]);
/// ```
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LsmrError {
    /// NaN or infinity in the right-hand side or in a product.
    #[error(
        "{system}: NaN or infinity at iteration {iteration} (check the arguments of the kernel and the right-hand side)"
    )]
    NotFinite {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed before.
        iteration: usize,
        /// What there is.
        partial: Box<LeastSquares>,
    },
    /// The estimate of the condition number is above the limit.
    #[error(
        "{system}: the condition number of the problem is above {condition:.1e} at iteration \
         {iteration}: what is returned would be mostly noise; add damping, or allow a larger \
         condition"
    )]
    Condition {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed.
        iteration: usize,
        /// The estimate.
        condition: f64,
        /// The iterate, which is a regularised solution.
        partial: Box<LeastSquares>,
    },
    /// The iteration limit was reached.
    #[error(
        "{system}: ‖Aᵀr‖ is {gradient:.1e} of ‖A‖ ‖r‖ after the limit of {limit} iterations \
         (condition about {condition:.0e}); allow more iterations or a larger tolerance, or add \
         damping"
    )]
    IterationLimit {
        /// Which right-hand side.
        system: SystemId,
        /// The limit.
        limit: usize,
        /// `‖Aᵀr‖ / (‖A‖ ‖r‖)`, recomputed.
        gradient: f64,
        /// Estimate of the condition number.
        condition: f64,
        /// What there is.
        partial: Box<LeastSquares>,
    },
    /// The iteration has converged, but recomputed residuals are larger.
    #[error(
        "{system}: ‖Aᵀr‖ is {gradient:.1e} of ‖A‖ ‖r‖ where the iteration had converged, at \
         iteration {iteration}: rounding limits it (allow a larger tolerance, or use a wider type), \
         or what the operator calls its adjoint is not (laws::adjoint tells)"
    )]
    Inaccurate {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed.
        iteration: usize,
        /// `‖Aᵀr‖ / (‖A‖ ‖r‖)`, recomputed.
        gradient: f64,
        /// What there is.
        partial: Box<LeastSquares>,
    },
    /// The observer asked for it.
    #[error("{system}: cancelled at iteration {iteration}")]
    Cancelled {
        /// Which right-hand side.
        system: SystemId,
        /// Iterations completed.
        iteration: usize,
        /// What there is.
        partial: Box<LeastSquares>,
    },
    /// An argument or option does not fit, or the device failed.
    #[error(transparent)]
    Core(#[from] Error),
}
impl From<InputError> for LsmrError {
    fn from(e: InputError) -> LsmrError {
        LsmrError::Core(e.into())
    }
}
impl From<OutOfMemory> for LsmrError {
    fn from(e: OutOfMemory) -> LsmrError {
        LsmrError::Core(e.into())
    }
}
impl LsmrError {
    /// Iterates and what is known of them; `None` for what was refused before.
    pub fn partial(&self) -> Option<&LeastSquares> {
        match self {
            LsmrError::NotFinite { partial, .. }
            | LsmrError::Condition { partial, .. }
            | LsmrError::IterationLimit { partial, .. }
            | LsmrError::Inaccurate { partial, .. }
            | LsmrError::Cancelled { partial, .. } => Some(partial),
            LsmrError::Core(_) => None,
        }
    }
    fn of(worst: LsmrSystem, limit: usize, partial: Box<LeastSquares>) -> LsmrError {
        let LsmrSystem { system, iterations: iteration, condition, .. } = worst;
        let gradient = worst.gradient / (worst.norm * worst.residual);
        match worst.reason {
            LsmrReason::NotFinite => LsmrError::NotFinite { system, iteration, partial },
            LsmrReason::Condition => LsmrError::Condition { system, iteration, condition, partial },
            LsmrReason::IterationLimit => {
                LsmrError::IterationLimit { system, limit, gradient, condition, partial }
            }
            LsmrReason::Cancelled => LsmrError::Cancelled { system, iteration, partial },
            LsmrReason::Inaccurate | LsmrReason::Compatible | LsmrReason::LeastSquares => {
                LsmrError::Inaccurate { system, iteration, gradient, partial }
            }
        }
    }
}

/// A solver of least squares problems: minimises `‖A x - b‖² + δ² ‖x‖²` for any operator that
/// multiplies by its transpose, as kernels do.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{KernelOperator, Lsmr};
/// use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
/// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?;
/// let (x, y) = (array![[1.0], [2.0], [2.0]], array![[3.0]]);
/// let k = KernelOperator::new(&sum, "v", (&x, &y))?; // (3, 6, 6), a column
/// let fit = Lsmr::of(&k).solve(&array![3.0, 6.0, 15.0])?;
/// assert!((fit.solution[0] - (9.0 + 36.0 + 90.0) / 81.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lsmr<'s> {
    operator: &'s dyn AdjointOperator,
    damping: f64,
    gradient: f64,
    residual: f64,
    condition: f64,
    limit: Option<usize>,
    observer: Option<Observer<'s>>,
}

impl fmt::Debug for Lsmr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Lsmr");
        f.field("damping", &self.damping).field("tolerance", &self.gradient);
        f.finish_non_exhaustive()
    }
}

impl<'s> Lsmr<'s> {
    /// With an operator, without damping.
    pub fn of(operator: &'s dyn AdjointOperator) -> Lsmr<'s> {
        Lsmr {
            operator,
            damping: 0.0,
            gradient: 1e-6,
            residual: 1e-6,
            condition: 1e8,
            limit: None,
            observer: None,
        }
    }
    /// `δ`, at least 0: the square root of the ridge of the normal equations.
    pub fn damping(mut self, damping: f64) -> Self {
        self.damping = damping;
        self
    }
    /// `atol` of SciPy: a problem is solved where `‖Aᵀr‖ ≤ tolerance ‖A‖ ‖r‖`, with the residual r of
    /// A above δI; 1e-6 by default, in [0, 1). With 0 it is the rounding of the operator.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.gradient = tolerance;
        self
    }
    /// `btol` of SciPy: a system is solved where `‖r‖ ≤ this ‖b‖ + tolerance ‖A‖ ‖x‖`; 1e-6 by default,
    /// in [0, 1).
    pub fn residual_tolerance(mut self, tolerance: f64) -> Self {
        self.residual = tolerance;
        self
    }
    /// `conlim` of SciPy: the iteration ends where the estimate of the condition number is above this;
    /// 1e8 by default, infinite for no limit.
    pub fn max_condition(mut self, condition: f64) -> Self {
        self.condition = condition;
        self
    }
    /// Most iterations; by default ten times the smaller number of unknowns, 100 at least.
    pub fn max_iterations(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
    /// Calls a function after each iteration, with `‖r‖ / ‖b‖` of each system as the iteration has
    /// it; `Break` ends with [`LsmrError::Cancelled`].
    pub fn observe(mut self, observer: impl FnMut(&Progress<'_>) -> ControlFlow<()> + 's) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// The minimiser, for `b` of shape `(rows)`, `(rows, columns)` or `(batches, rows, columns)`. Each
    /// column is a problem, or each batch element where columns are not independent.
    ///
    /// # Errors
    /// [`LsmrError`]: what went wrong at which iteration, with the iterate.
    pub fn solve<D: Dimension>(self, b: &ArrayRef<f64, D>) -> Result<LeastSquares<D>, LsmrError> {
        let (range, domain) = (self.operator.range(), self.operator.domain());
        let shape = b.shape();
        let batches = match shape {
            [rows] if [*rows, 1] == range => 1,
            [rows, dim] if [*rows, *dim] == range => 1,
            [batches, rows, dim] if [*rows, *dim] == range => *batches,
            _ => {
                let expected = format!("({}, {}), or a batch of such", range[0], range[1]);
                let (name, got) = ("right-hand side".into(), shape.to_vec());
                return Err(InputError::Shape { name, expected, got }.into());
            }
        };
        let mut made = D::zeros(shape.len());
        let new = [batches, domain[0], domain[1]];
        let new = match shape.len() {
            1 if domain[1] != 1 => {
                let what = format!("solutions have {} columns: give b as a matrix", domain[1]);
                return Err(InputError::Option(what).into());
            }
            1 => &new[1..2],
            2 => &new[1..],
            _ => &new[..],
        };
        made.slice_mut().copy_from_slice(new);
        let b = memory::collected(b.iter().copied(), VECTOR)?;
        self.run(b, batches, made)
    }

    fn check(&self) -> Result<(), InputError> {
        let option = |what: &str, got: f64| Err(InputError::Option(format!("{what}, got {got}")));
        if !(self.damping.is_finite() && self.damping >= 0.0) {
            return option("the damping must be finite and at least 0", self.damping);
        }
        for tolerance in [self.gradient, self.residual] {
            if !(0.0..1.0).contains(&tolerance) {
                return option("tolerances must be at least 0 and below 1", tolerance);
            }
        }
        if self.condition.is_nan() || self.condition < 1.0 {
            return option("the largest condition must be at least 1", self.condition);
        }
        let ([_, from], [_, to]) = (self.operator.domain(), self.operator.range());
        if self.operator.columns_independent() && from != to {
            let what = "an operator with independent columns has as many on both sides";
            return Err(InputError::Option(format!("{what}, got {from} and {to}")));
        }
        Ok(())
    }

    fn run<D: Dimension>(
        mut self,
        b: Vec<f64>,
        batches: usize,
        shape: D,
    ) -> Result<LeastSquares<D>, LsmrError> {
        self.check()?;
        let ([n, _], [m, _]) = (self.operator.domain(), self.operator.range());
        let limit = self.limit.unwrap_or(n.min(m).saturating_mul(10).max(100));
        let mut process = Process::new(&self, b, batches)?;
        process.start()?;
        for iteration in 1..=limit {
            if process.states.iter().all(|s| s.ended.is_some()) {
                break;
            }
            process.step(&self, iteration)?;
            let Some(observer) = &mut self.observer else { continue };
            let residual = |s: &State| if s.b > 0.0 { s.residual / s.b } else { 0.0 };
            let residuals = memory::collected(process.states.iter().map(residual), SYSTEMS)?;
            let products = process.products;
            if observer(&Progress { iteration, products, residuals: &residuals }).is_break() {
                process.end(LsmrReason::Cancelled);
            }
        }
        process.end(LsmrReason::IterationLimit);
        let (x, info) = process.finish(&self)?;
        let solution = match Array::from_shape_vec(shape, x) {
            Ok(solution) => solution,
            Err(_) => unreachable!("as many unknowns as the domain has"),
        };
        let failed = info.systems.iter().filter(|s| s.reason.gravity().is_some());
        match failed.min_by_key(|s| s.reason.gravity()).cloned() {
            None => Ok(LeastSquares { solution, info }),
            Some(worst) => {
                let solution: ArrayD<f64> = solution.into_dyn();
                Err(LsmrError::of(worst, limit, Box::new(LeastSquares { solution, info })))
            }
        }
    }
}

/// Scalars of a system, named as in SciPy's implementation. Right-hand sides and operator are scaled
/// by powers of two.
#[derive(Clone, Copy)]
struct State {
    ended: Option<LsmrReason>,
    iterations: usize,
    /// Norm of b, its exponent, and that of the operator.
    b: f64,
    exponents: [i32; 2],
    damping: f64,
    alpha: f64,
    beta: f64,
    alpha_bar: f64,
    zeta: f64,
    zeta_bar: f64,
    rho: f64,
    rho_bar: f64,
    rotation_bar: (f64, f64),
    // The estimate of ‖r‖.
    beta_dd: f64,
    beta_d: f64,
    rho_d: f64,
    tau_tilde: f64,
    theta_tilde: f64,
    d: f64,
    residual: f64,
    // The estimates of ‖A‖² and of the condition number.
    square: f64,
    extremes: [f64; 2],
    condition: f64,
}

/// How the vectors of a system move.
#[derive(Clone, Copy, Default)]
struct Move {
    h_bar: f64,
    x: f64,
    h: f64,
}

/// The rotation that makes (a, b) a multiple of the first unit vector: its cosine, its sine, and the
/// length.
fn rotation(a: f64, b: f64) -> (f64, f64, f64) {
    let r = a.hypot(b);
    if r > 0.0 { (a / r, b / r, r) } else { (1.0, 0.0, 0.0) }
}

/// The Golub-Kahan process, and the iterates.
struct Process<'o> {
    operator: &'o dyn AdjointOperator,
    /// Of the range and of the domain.
    range: Layout,
    domain: Layout,
    states: Vec<State>,
    b: Vec<f64>,
    u: Vec<f64>,
    v: Vec<f64>,
    h: Vec<f64>,
    h_bar: Vec<f64>,
    x: Vec<f64>,
    products: usize,
}

impl<'o> Process<'o> {
    fn new(how: &Lsmr<'o>, mut b: Vec<f64>, batches: usize) -> Result<Process<'o>, OutOfMemory> {
        let operator = how.operator;
        let independent = operator.columns_independent();
        let layout = |[rows, dim]: [usize; 2]| Layout { batches, rows, dim, independent };
        let (range, domain) = (layout(operator.range()), layout(operator.domain()));
        let sizes = range.largest(&b)?;
        range.each(|s, k| {
            let finite = sizes[s].is_finite();
            b[k] = if finite { scaled(b[k], -exponent(sizes[s])) } else { 0.0 };
        });
        let norms = range.norms(&b)?;
        let state = |s: usize| State {
            ended: match sizes[s] {
                size if !size.is_finite() => Some(LsmrReason::NotFinite),
                0.0 => Some(LsmrReason::Compatible),
                _ => None,
            },
            iterations: 0,
            b: norms[s],
            exponents: [exponent(sizes[s]), 0],
            damping: how.damping,
            alpha: 0.0,
            beta: norms[s],
            alpha_bar: 0.0,
            zeta: 0.0,
            zeta_bar: 0.0,
            rho: 1.0,
            rho_bar: 1.0,
            rotation_bar: (1.0, 0.0),
            beta_dd: norms[s],
            beta_d: 0.0,
            rho_d: 1.0,
            tau_tilde: 0.0,
            theta_tilde: 0.0,
            d: 0.0,
            residual: norms[s],
            square: 0.0,
            extremes: [f64::INFINITY, 0.0],
            condition: 1.0,
        };
        let states = memory::collected((0..range.systems()).map(state), SYSTEMS)?;
        let zeros = || memory::filled(batches * domain.rows * domain.dim, 0.0, VECTOR);
        let (v, h, h_bar, x) = (zeros()?, zeros()?, zeros()?, zeros()?);
        let u = copy(&b)?;
        Ok(Process { operator, range, domain, states, b, u, v, h, h_bar, x, products: 0 })
    }
    fn end(&mut self, reason: LsmrReason) {
        for s in &mut self.states {
            s.ended = s.ended.or(Some(reason));
        }
    }

    /// The product of the operator or its adjoint, over the powers of two.
    fn product(&mut self, v: &[f64], adjoint: bool) -> Result<Vec<f64>, Error> {
        let transposed = Adjoint::of(self.operator);
        let operator: &dyn LinearOperator = if adjoint { &transposed } else { self.operator };
        let (from, to) =
            if adjoint { (self.range, self.domain) } else { (self.domain, self.range) };
        let block = Array3::from_shape_vec(from.shape(), copy(v)?);
        let Ok(block) = block else { unreachable!("block vectors have the size of the layout") };
        self.products += 1;
        let product = operator.apply(&block)?;
        if product.dim() != to.shape() {
            let (name, got) = ("product of the operator".into(), product.shape().to_vec());
            let expected = format!("shape {:?}", to.shape());
            return Err(InputError::Shape { name, expected, got }.into());
        }
        let mut out = memory::collected(product.iter().copied(), VECTOR)?;
        to.each(|s, k| out[k] = scaled(out[k], -self.states[s].exponents[1]));
        Ok(out)
    }

    /// The first vectors, and the scale of the operator.
    fn start(&mut self) -> Result<(), Error> {
        let (range, domain) = (self.range, self.domain);
        let states = &self.states;
        range.each(|s, k| {
            if states[s].beta > 0.0 {
                self.u[k] /= states[s].beta;
            }
        });
        let u = copy(&self.u)?;
        let mut v = self.product(&u, true)?;
        let sizes = range.largest(&u)?.into_iter().zip(domain.largest(&v)?);
        for (s, (argument, made)) in self.states.iter_mut().zip(sizes) {
            if s.ended.is_none() && !made.is_finite() {
                s.ended = Some(LsmrReason::NotFinite);
            }
            let size = (made / argument).max(s.damping);
            s.exponents[1] = if argument > 0.0 { exponent(size) } else { 0 };
            s.damping = scaled(s.damping, -s.exponents[1]);
        }
        let states = &self.states;
        domain.each(|s, k| {
            let taken = states[s].ended.is_none();
            v[k] = if taken { scaled(v[k], -states[s].exponents[1]) } else { 0.0 };
        });
        for (s, alpha) in self.states.iter_mut().zip(domain.norms(&v)?) {
            (s.alpha, s.alpha_bar, s.zeta_bar) = (alpha, alpha, alpha * s.beta);
            s.square = alpha * alpha;
            if s.ended.is_none() && alpha == 0.0 {
                s.ended = Some(LsmrReason::LeastSquares); // of nothing that the operator reaches
            }
        }
        let states = &self.states;
        domain.each(|s, k| {
            if states[s].alpha > 0.0 {
                v[k] /= states[s].alpha;
            }
        });
        self.h.copy_from_slice(&v);
        self.v = v;
        Ok(())
    }

    fn step(&mut self, how: &Lsmr<'_>, iteration: usize) -> Result<(), Error> {
        let (range, domain, unit) = (self.range, self.domain, epsilon(self.operator));
        let v = copy(&self.v)?;
        let product = self.product(&v, false)?;
        let states = &self.states;
        let mut u = std::mem::take(&mut self.u);
        range.each(|s, k| u[k] = product[k] - states[s].alpha * u[k]);
        let betas = range.norms(&u)?;
        range.each(|s, k| {
            // (What has ended waits; its vectors are zeros.)
            let taken = self.states[s].ended.is_none() && betas[s].is_finite() && betas[s] > 0.0;
            u[k] = if taken { u[k] / betas[s] } else { 0.0 };
        });
        let product = self.product(&u, true)?;
        self.u = u;
        let mut v = std::mem::take(&mut self.v);
        domain.each(|s, k| {
            if betas[s] > 0.0 {
                v[k] = product[k] - betas[s] * v[k];
            }
        });
        let alphas = domain.norms(&v)?;
        let mut moves = domain.each_system(Move::default())?;
        let mut active = domain.each_system(false)?;
        for (k, s) in self.states.iter_mut().enumerate().filter(|(_, s)| s.ended.is_none()) {
            let alpha = if betas[k] > 0.0 { alphas[k] } else { s.alpha };
            if !(alpha.is_finite() && betas[k].is_finite()) {
                s.ended = Some(LsmrReason::NotFinite);
                continue;
            }
            (moves[k], active[k], s.iterations) = (s.advance(alpha, betas[k]), true, iteration);
        }
        domain.each(|s, k| {
            let alpha = self.states[s].alpha;
            if !active[s] {
                v[k] = 0.0;
                return;
            }
            if betas[s] > 0.0 && alpha > 0.0 {
                v[k] /= alpha;
            }
            let Move { h_bar, x, h } = moves[s];
            self.h_bar[k] = self.h[k] - h_bar * self.h_bar[k];
            self.x[k] += x * self.h_bar[k];
            self.h[k] = v[k] - h * self.h[k];
        });
        self.v = v;
        let sizes = domain.norms(&self.x)?;
        for (k, s) in self.states.iter_mut().enumerate().filter(|(k, _)| active[*k]) {
            s.ended = s.stops(how, sizes[k], unit);
        }
        Ok(())
    }

    /// Solutions, and what is true of them.
    fn finish(mut self, how: &Lsmr<'_>) -> Result<(Vec<f64>, LsmrInfo), Error> {
        let (range, domain, unit) = (self.range, self.domain, epsilon(self.operator));
        let x = copy(&self.x)?;
        let mut r = self.product(&x, false)?;
        r.iter_mut().zip(&self.b).for_each(|(r, b)| *r = b - *r);
        let mut gradient = self.product(&r, true)?;
        domain.each(|s, k| gradient[k] -= self.states[s].damping.powi(2) * x[k]);
        let (residuals, gradients) = (range.norms(&r)?, domain.norms(&gradient)?);
        let sizes = domain.norms(&x)?;
        let mut systems = memory::room(self.states.len(), SYSTEMS)?;
        for (k, s) in self.states.iter().enumerate() {
            let (norm, size) = (s.square.sqrt(), sizes[k]);
            let above = residuals[k].hypot(s.damping * size);
            let noise = ROUNDING * unit * (norm * size + s.b);
            // What the rules say, of true residuals.
            let small = above <= SLACK * (how.residual * s.b + how.gradient * norm * size) + noise;
            let flat = gradients[k] <= SLACK * how.gradient * norm * above + norm * noise;
            let [b, a] = s.exponents;
            let finite = scaled(size, b - a).is_finite() && residuals[k].is_finite();
            let reason = match s.ended.unwrap_or(LsmrReason::IterationLimit) {
                LsmrReason::Compatible | LsmrReason::LeastSquares if !finite => {
                    LsmrReason::NotFinite
                }
                LsmrReason::Compatible if !small => LsmrReason::Inaccurate,
                LsmrReason::LeastSquares if !flat => LsmrReason::Inaccurate,
                reason => reason,
            };
            systems.push(LsmrSystem {
                system: range.id(k),
                iterations: s.iterations,
                residual: scaled(residuals[k], b),
                gradient: scaled(gradients[k], a + b),
                norm: scaled(norm, a),
                condition: s.condition,
                reason,
            });
        }
        let mut x = x;
        domain.each(|s, k| {
            let [b, a] = self.states[s].exponents;
            x[k] = scaled(x[k], b - a);
        });
        let iterations = systems.iter().map(|s| s.iterations).max().unwrap_or(0);
        Ok((x, LsmrInfo { iterations, products: self.products, systems }))
    }
}

impl State {
    /// The next column of the bidiagonal matrix.
    fn advance(&mut self, alpha: f64, beta: f64) -> Move {
        (self.alpha, self.beta) = (alpha, beta);
        // Damping is a row of its own, which a rotation takes in.
        let (c_hat, s_hat, alpha_hat) = rotation(self.alpha_bar, self.damping);
        let old_rho = self.rho;
        let (c, s, rho) = rotation(alpha_hat, beta);
        self.rho = rho;
        let theta_new = s * alpha;
        self.alpha_bar = c * alpha;
        let (c_bar, s_bar) = self.rotation_bar;
        let (old_rho_bar, old_zeta) = (self.rho_bar, self.zeta);
        let (theta_bar, rho_temp) = (s_bar * rho, c_bar * rho);
        let (c_bar, s_bar, rho_bar) = rotation(rho_temp, theta_new);
        (self.rotation_bar, self.rho_bar) = ((c_bar, s_bar), rho_bar);
        self.zeta = c_bar * self.zeta_bar;
        self.zeta_bar *= -s_bar;
        let over = |a: f64, b: f64| if b == 0.0 { 0.0 } else { a / b };
        let moved = Move {
            h_bar: over(theta_bar * rho, old_rho * old_rho_bar),
            x: over(self.zeta, rho * rho_bar),
            h: over(theta_new, rho),
        };
        // ‖r‖.
        let (acute, check) = (c_hat * self.beta_dd, -s_hat * self.beta_dd);
        let beta_hat = c * acute;
        self.beta_dd = -s * acute;
        let old_theta_tilde = self.theta_tilde;
        let (c_tilde, s_tilde, rho_tilde) = rotation(self.rho_d, theta_bar);
        self.theta_tilde = s_tilde * rho_bar;
        self.rho_d = c_tilde * rho_bar;
        self.beta_d = c_tilde * beta_hat - s_tilde * self.beta_d;
        self.tau_tilde = over(old_zeta - old_theta_tilde * self.tau_tilde, rho_tilde);
        let tau_d = over(self.zeta - self.theta_tilde * self.tau_tilde, self.rho_d);
        self.d += check * check;
        self.residual = (self.d + (self.beta_d - tau_d).powi(2) + self.beta_dd.powi(2)).sqrt();
        // ‖A‖ and the condition number. (The damping is part of the matrix from its first row on.)
        self.square += beta * beta;
        let [low, high] = self.extremes;
        if self.iterations > 0 {
            self.extremes = [low.min(old_rho_bar), high.max(old_rho_bar)];
        }
        let [low, high] = self.extremes;
        self.condition = high.max(rho_temp) / low.min(rho_temp);
        moved
    }

    /// The rules of SciPy, the last of which decides.
    fn stops(&mut self, how: &Lsmr<'_>, size: f64, unit: f64) -> Option<LsmrReason> {
        let norm = self.square.sqrt();
        let (residual, gradient) = (self.residual / self.b, self.zeta_bar.abs());
        let (reach, relative) = (norm * size / self.b, gradient / (norm * self.residual));
        let singular = self.condition >= how.condition.min(2.0 / unit);
        // (Below half a unit of rounding nothing changes any more.)
        let (gradient, own) = (how.gradient.max(0.5 * unit), how.residual.max(0.5 * unit));
        let own = own + gradient * reach;
        self.square += self.alpha * self.alpha;
        match () {
            _ if residual <= own => Some(LsmrReason::Compatible),
            _ if relative <= gradient || self.zeta_bar == 0.0 => Some(LsmrReason::LeastSquares),
            _ if singular => Some(LsmrReason::Condition),
            _ => None,
        }
    }
}

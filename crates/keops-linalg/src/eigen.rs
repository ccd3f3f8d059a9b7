//! Eigenpairs of symmetric operators: thick-restart Lanczos (K. Wu, H. Simon, Thick-restart Lanczos
//! method for large symmetric eigenvalue problems, SIAM J. Matrix Anal. 22, 2000), by blocks of as
//! many vectors as a product takes, orthogonalised twice against all others.
//!
//! A Krylov space of w vectors holds at most w eigenvectors of one eigenvalue. So once as many pairs
//! as are wanted have converged, they are locked, and an iteration from random vectors orthogonal
//! to them looks for one that was missed, until there is none.

mod nearest;
mod run;

pub(crate) use run::{Ended, Failure, Found, Run};

use crate::control::{Control, control_method};
use crate::error::SolveError;
use crate::krylov::{Products, epsilon, single};
use crate::operator::LinearOperator;
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::random::Random;
use ndarray::{Array1, Array2};
use nearest::{Inverse, Shifted};
use std::cell::RefCell;
use std::fmt;

/// Which eigenvalues.
///
/// ```
/// use keops_linalg::{Diag, Eigsh, Which};
/// let d = Diag::new(ndarray::array![5.0, -7.0, 1.0, 2.5], 1);
/// let values = |which| Eigsh::of(&d).which(which, 2).run().map(|pairs| pairs.values.to_vec());
/// let close = |got: Vec<f64>, want: [f64; 2]| got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-9);
/// assert!(close(values(Which::Largest)?, [5.0, 2.5]));
/// assert!(close(values(Which::Smallest)?, [-7.0, 1.0]));
/// assert!(close(values(Which::Nearest(2.0))?, [2.5, 1.0]));
/// # Ok::<(), keops_linalg::EigenError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Which {
    /// The largest, in descending order.
    Largest,
    /// The smallest (not in magnitude), in ascending order.
    Smallest,
    /// Those nearest a number, the nearest first. Each product of the iteration is a solve by
    /// MINRES with the shifted operator.
    Nearest(f64),
}

/// How eigenpairs are found.
///
/// ```
/// use keops_linalg::{Diag, EigenMethod, Eigsh, Jacobi};
/// let d = Diag::new(ndarray::Array1::from_shape_fn(100, |k| ((k + 1) as f64).powi(3)), 1);
/// let p = Jacobi::new(&d)?; // the inverse
/// let eigsh = Eigsh::of(&d).smallest(2).method(EigenMethod::Lobpcg).preconditioner(&p);
/// let pairs = eigsh.run()?;
/// assert!((pairs.values[0] - 1.0).abs() < 1e-4 && (pairs.values[1] - 8.0).abs() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum EigenMethod {
    /// Thick-restart Lanczos: the fewest products without a preconditioner.
    #[default]
    Lanczos,
    /// LOBPCG, for the largest or the smallest: three blocks of vectors in memory, and a preconditioner
    /// where there is one, an approximate inverse of the operator (for the smallest ones).
    Lobpcg,
}

/// Eigenpairs of a symmetric operator.
///
/// ```
/// use keops_linalg::{Diag, Eigsh};
/// let pairs = Eigsh::of(&Diag::new(ndarray::array![1.0, 3.0, 2.0], 1)).largest(1).run()?;
/// assert!((pairs.values[0] - 3.0).abs() < 1e-12 && pairs.vectors[[1, 0]].abs() > 1.0 - 1e-12);
/// assert!(pairs.residuals[0] < 1e-9);
/// # Ok::<(), keops_linalg::EigenError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Eigenpairs {
    /// The eigenvalues, in the order of [`Which`].
    pub values: Array1<f64>,
    /// Orthonormal eigenvectors, of shape (unknowns, pairs). Unknowns are as in
    /// [`crate::Diagonal::diagonal`].
    pub vectors: Array2<f64>,
    /// `‖A v - λ v‖` of each pair, recomputed with products of the operator. An eigenvalue of `A` is
    /// as near to λ.
    pub residuals: Array1<f64>,
    /// Estimate of the norm of the operator, from below.
    pub norm: f64,
    /// Products with the operator; one takes as many vectors as it has independent columns.
    pub products: usize,
    /// Restarts of the iteration.
    pub restarts: usize,
}

/// No eigenpairs, or not all of them.
///
/// ```
/// use keops_linalg::{Diag, EigenError, Eigsh};
/// let d = Diag::new(ndarray::array![1.0, f64::NAN], 1);
/// let e = Eigsh::of(&d).largest(1).run().unwrap_err();
/// assert!(matches!(e, EigenError::NotFinite { product: 1 }), "{e}");
/// ```
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EigenError {
    /// NaN or infinity in a product.
    #[error("NaN or infinity in product {product} (check the arguments of the kernel)")]
    NotFinite {
        /// Number of the product, from 1.
        product: usize,
    },
    /// `<u, A v>` differs from `<A u, v>` by more than rounding.
    #[error(
        "the operator is not symmetric (relative asymmetry {asymmetry:.1e}, seen at product \
         {product}): the same points on both sides, and a formula that does not change when they \
         are exchanged, make it so; singular values need no symmetry"
    )]
    NotSymmetric {
        /// Number of the product.
        product: usize,
        /// Difference relative to the norm of the operator.
        asymmetry: f64,
    },
    /// The limit was reached.
    #[error(
        "{converged} of {wanted} eigenpairs have converged after the limit of {limit} products, \
         the largest residual is {residual:.1e} of the norm; allow more products, a larger \
         subspace, or a larger tolerance"
    )]
    Limit {
        /// The limit.
        limit: usize,
        /// Pairs within the tolerance.
        converged: usize,
        /// Pairs wanted.
        wanted: usize,
        /// Largest residual relative to the norm.
        residual: f64,
        /// The pairs as they are.
        partial: Box<Eigenpairs>,
    },
    /// The iteration has converged, but recomputed residuals are larger.
    #[error(
        "the residual of eigenpair {pair} is {residual:.1e} of the norm where the iteration had \
         {tolerance:.1e}: rounding in {precision} limits it (allow a larger tolerance, or use a \
         wider type), or the operator is not linear"
    )]
    Inaccurate {
        /// The pair, from 0.
        pair: usize,
        /// Its residual relative to the norm.
        residual: f64,
        /// The tolerance.
        tolerance: f64,
        /// Type in which the operator computes.
        precision: &'static str,
        /// The pairs as they are.
        partial: Box<Eigenpairs>,
    },
    /// The observer asked for it.
    #[error("cancelled at product {product}, with {converged} of {wanted} eigenpairs")]
    Cancelled {
        /// Products done.
        product: usize,
        /// Pairs within the tolerance.
        converged: usize,
        /// Pairs wanted.
        wanted: usize,
        /// The pairs as they are; none before the first restart.
        partial: Box<Eigenpairs>,
    },
    /// A system with the shifted operator was not solved.
    #[error(
        "the operator minus {shift} was not solved with (move the shift off eigenvalues; where one is far \
         larger than their distances, a preconditioner that knows it helps): {source}"
    )]
    Shift {
        /// The shift.
        shift: f64,
        /// Why.
        source: SolveError,
    },
    /// An argument or option does not fit, or the device failed.
    #[error(transparent)]
    Core(#[from] Error),
}
impl From<InputError> for EigenError {
    fn from(e: InputError) -> EigenError {
        EigenError::Core(e.into())
    }
}
impl From<OutOfMemory> for EigenError {
    fn from(e: OutOfMemory) -> EigenError {
        EigenError::Core(e.into())
    }
}

/// Finds some eigenpairs of a symmetric operator, which is known by its products alone, by thick-restart
/// Lanczos or LOBPCG ([`EigenMethod`]).
///
/// Multiple eigenvalues come out as often as they are. What one product takes in addition for more
/// vectors is little where it is a kernel's: an operator with several independent columns
/// (`v = Vj(4)`) iterates on as many vectors at once.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{Eigsh, KernelOperator};
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
/// let sum: Genred = Genred::new("x * y * v", aliases, &SUM, Axis::J)?; // x xᵀ
/// let x = ndarray::array![[1.0], [2.0], [2.0]];
/// let k = KernelOperator::new(&sum, "v", (&x, &x))?;
/// let pairs = Eigsh::of(&k).largest(2).run()?;
/// assert!((pairs.values[0] - 9.0).abs() < 1e-12 && pairs.values[1].abs() < 1e-12);
/// assert!((pairs.vectors[[1, 0]].abs() - 2.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Eigsh<'s> {
    operator: &'s dyn LinearOperator,
    which: Which,
    method: EigenMethod,
    count: usize,
    tolerance: Option<f64>,
    subspace: Option<usize>,
    limit: Option<usize>,
    control: Control<'s>,
}

impl fmt::Debug for Eigsh<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Eigsh");
        f.field("which", &self.which).field("count", &self.count).finish_non_exhaustive()
    }
}

impl<'s> Eigsh<'s> {
    /// Of an operator: the largest eigenvalue, until told otherwise.
    pub fn of(operator: &'s dyn LinearOperator) -> Eigsh<'s> {
        Eigsh {
            operator,
            which: Which::Largest,
            method: EigenMethod::default(),
            count: 1,
            tolerance: None,
            subspace: None,
            limit: None,
            control: Control::default(),
        }
    }
    /// As many eigenvalues as that, and which.
    pub fn which(mut self, which: Which, count: usize) -> Self {
        (self.which, self.count) = (which, count);
        self
    }
    /// The largest ones.
    pub fn largest(self, count: usize) -> Self {
        self.which(Which::Largest, count)
    }
    /// The smallest ones, not in magnitude.
    pub fn smallest(self, count: usize) -> Self {
        self.which(Which::Smallest, count)
    }
    /// Those nearest a number.
    pub fn nearest(self, shift: f64, count: usize) -> Self {
        self.which(Which::Nearest(shift), count)
    }
    /// How they are found.
    pub fn method(mut self, method: EigenMethod) -> Self {
        self.method = method;
        self
    }
    /// A pair has converged when its residual is at most this many times the norm of the operator;
    /// by default the rounding of its type to the power of 2/3: 4e-11 in f64, 2e-5 in f32.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = Some(tolerance);
        self
    }
    /// Vectors that are kept at a time: more memory, fewer products. By default twice as many as are
    /// wanted and 30.
    pub fn subspace(mut self, vectors: usize) -> Self {
        self.subspace = Some(vectors);
        self
    }
    /// Most products, at least one; by default ten times the number of unknowns, 1,000 at least.
    pub fn max_products(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
    control_method! {
        /// An approximate inverse that is positive definite, of the operator for [`EigenMethod::Lobpcg`],
        /// of the operator minus the shift for the solves of [`Which::Nearest`]; it is asked with a ridge
        /// of 0.
        preconditioner of control
    }
    control_method! {
        /// Calls a function after each product, with residuals relative to the norm as they were at the
        /// last restart; `Break` ends with [`EigenError::Cancelled`].
        observe of control
    }
    control_method! {
        /// Other seeds begin with other random vectors; one seed gives the same result.
        seed of control
    }

    /// The eigenpairs.
    ///
    /// # Errors
    /// [`EigenError`]: what went wrong at which product, with the pairs as they are.
    pub fn run(self) -> Result<Eigenpairs, EigenError> {
        let [n, columns] = single(self.operator)?;
        let option = |what: String| Err(InputError::Option(what).into());
        if n != columns || self.operator.domain() != self.operator.range() {
            return option(format!(
                "eigenpairs are of square operators, this one maps {columns} unknowns to {n}"
            ));
        }
        if self.count > n {
            return option(format!("{} eigenpairs of an operator of {n} unknowns", self.count));
        }
        if self.limit == Some(0) && self.count > 0 {
            return option("no eigenpairs come of 0 products: allow one at least".into());
        }
        let unit = epsilon(self.operator);
        let tolerance = self.tolerance.unwrap_or(unit.powf(2.0 / 3.0));
        if !(tolerance > 0.0 && tolerance < 1.0) {
            return option(format!("the tolerance must be between 0 and 1, got {tolerance}"));
        }
        if let Which::Nearest(shift) = self.which
            && !shift.is_finite()
        {
            return option(format!("the shift must be finite, got {shift}"));
        }
        if self.method == EigenMethod::Lobpcg && matches!(self.which, Which::Nearest(_)) {
            let what = "LOBPCG finds the largest or the smallest eigenvalues: those nearest a number \
                        are found by EigenMethod::Lanczos";
            return option(what.into());
        }
        let size = self.subspace.unwrap_or(2 * self.count + 30).max(self.count + 2);
        let limit = self.limit.unwrap_or(n.saturating_mul(10).max(1000));
        let mut own = Products::new(self.operator);
        let preconditioner = self.control.preconditioner;
        let mut run = Run {
            which: self.which,
            want: self.count,
            tolerance,
            unit,
            size,
            limit,
            n,
            norm: 0.0,
            whole: 0.0,
            restarts: 0,
            residuals: vec![],
            random: Random::new(self.control.seed),
            control: self.control,
        };
        let failed = match self.which {
            Which::Nearest(shift) => {
                // The pairs found say nothing of it, null vectors least: a few steps of the power method do.
                run.whole = run.power(&mut own)?;
                let shifted = Shifted { of: self.operator, shift };
                let inverse = Inverse {
                    tolerance: (0.1 * tolerance).max(4.0 * unit),
                    enough: 0.1 * tolerance * own.unscaled(run.whole),
                    of: &shifted,
                    preconditioner,
                    failure: RefCell::default(),
                    products: RefCell::default(),
                };
                let mut products = Products::new(&inverse);
                let made = run.all(&mut products);
                own.count += *inverse.products.borrow();
                match (made, inverse.failure.take()) {
                    (Err(_), Some(source)) => return Err(EigenError::Shift { shift, source }),
                    (made, _) => made?,
                }
            }
            _ if self.method == EigenMethod::Lobpcg => run.lobpcg(&mut own, preconditioner)?,
            _ => run.all(&mut own)?,
        };
        run.finish(&mut own, failed)
    }
}

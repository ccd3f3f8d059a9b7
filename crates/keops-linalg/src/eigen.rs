//! Eigenpairs of symmetric operators: thick-restart Lanczos (K. Wu, H. Simon, Thick-restart Lanczos
//! method for large symmetric eigenvalue problems, SIAM J. Matrix Anal. 22, 2000), by blocks of as
//! many vectors as a product takes, orthogonalised twice against all others.
//!
//! A Krylov space of w vectors holds at most w eigenvectors of one eigenvalue. So once as many pairs
//! as are wanted have converged, they are locked, and an iteration from random vectors orthogonal
//! to them looks for one that was missed, until there is none.

use crate::control::{Control, Progress, control_method};
use crate::error::SolveError;
use crate::info::Method;
use crate::krylov::{
    Products, epsilon, finite, orthonormal, part, part_mut, project, random, rows, rows_mut,
    single, small,
};
use crate::layout::{VECTOR, dense};
use crate::operator::LinearOperator;
use crate::precondition::Preconditioner;
use crate::solver::Solver;
use keops_core::data::DType;
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::random::Random;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis};
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
        "the operator minus {shift} was not solved with (move the shift off eigenvalues): {source}"
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
    /// Most products; by default ten times the number of unknowns, 1,000 at least.
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
            restarts: 0,
            residuals: vec![],
            random: Random::new(self.control.seed),
            control: self.control,
        };
        let failed = match self.which {
            Which::Nearest(shift) => {
                let shifted = Shifted { of: self.operator, shift };
                let inverse = Inverse {
                    tolerance: (0.1 * tolerance).max(4.0 * unit),
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

/// The operator minus a number.
struct Shifted<'o> {
    of: &'o dyn LinearOperator,
    shift: f64,
}
impl LinearOperator for Shifted<'_> {
    fn domain(&self) -> [usize; 2] {
        self.of.domain()
    }
    fn range(&self) -> [usize; 2] {
        self.of.range()
    }
    fn precision(&self) -> DType {
        self.of.precision()
    }
    fn columns_independent(&self) -> bool {
        self.of.columns_independent()
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let mut product = self.of.apply(v)?;
        product.scaled_add(-self.shift, v);
        Ok(product)
    }
}

/// The inverse of an operator, by solving.
struct Inverse<'o> {
    of: &'o dyn LinearOperator,
    tolerance: f64,
    preconditioner: Option<&'o dyn Preconditioner>,
    failure: RefCell<Option<SolveError>>,
    products: RefCell<usize>,
}
impl LinearOperator for Inverse<'_> {
    fn domain(&self) -> [usize; 2] {
        self.of.range()
    }
    fn range(&self) -> [usize; 2] {
        self.of.domain()
    }
    fn precision(&self) -> DType {
        self.of.precision()
    }
    fn columns_independent(&self) -> bool {
        self.of.columns_independent()
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let solver =
            Solver::of(self.of).method(Method::Minres).ridge(0.0).tolerance(self.tolerance);
        let solver = match self.preconditioner {
            Some(p) => solver.preconditioner(p),
            None => solver,
        };
        match solver.solve(v) {
            Ok((a, info)) => {
                *self.products.borrow_mut() += info.products;
                Ok(a)
            }
            Err(e) => {
                *self.failure.borrow_mut() = Some(e.clone());
                Err(match e {
                    SolveError::Core(e) => e,
                    e => Error::function("the inverse of an operator", e),
                })
            }
        }
    }
}

/// Vectors found, as rows, by the order of their values.
pub(crate) struct Found {
    pub values: Vec<f64>,
    pub vectors: Array2<f64>,
}

/// Products that estimate the norm of an operator whose inverse was looked at.
const POWER: usize = 5;

/// How a sweep, or all of them, ended before their end.
pub(crate) enum Failure {
    Limit,
    Cancelled,
}

pub(crate) struct Run<'s> {
    which: Which,
    pub want: usize,
    pub tolerance: f64,
    unit: f64,
    size: usize,
    pub limit: usize,
    pub n: usize,
    /// Largest magnitude of a Ritz value, as products are scaled.
    pub norm: f64,
    pub restarts: usize,
    /// Relative residuals at the last restart.
    pub residuals: Vec<f64>,
    control: Control<'s>,
    pub random: Random,
}

/// The pairs as they are, and why there are no better ones.
pub(crate) type Ended = (Found, Option<Failure>);

impl Run<'_> {
    /// Larger is wanted before smaller.
    fn key(&self, value: f64) -> f64 {
        match self.which {
            Which::Largest => value,
            Which::Smallest => -value,
            Which::Nearest(_) => value.abs(),
        }
    }
    /// Numbers of values, the wanted first.
    pub fn order(&self, values: &Array1<f64>) -> Vec<usize> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| self.key(values[b]).total_cmp(&self.key(values[a])));
        order
    }
    /// Between the rounding of long sums and any asymmetry that would disturb the iteration.
    pub fn asymmetry_bound(&self) -> f64 {
        self.unit.powf(2.0 / 3.0) * (self.n as f64).sqrt().max(8.0)
    }
    /// What a residual is compared with.
    fn scale(&self, value: f64) -> f64 {
        match self.which {
            Which::Nearest(_) => value.abs(), // by (A - σ) r / θ, see `Inverse`
            _ => self.norm,
        }
    }

    fn all(&mut self, products: &mut Products<'_>) -> Result<Ended, EigenError> {
        let mut found = Found { values: vec![], vectors: dense(0, self.n, VECTOR)? };
        if self.want == 0 {
            return Ok((found, None));
        }
        let (mut new, mut failed) = self.sweep(products, &found, self.want, None)?;
        loop {
            found.values.extend(new.values);
            let joined = ndarray::concatenate(Axis(0), &[found.vectors.view(), new.vectors.view()]);
            let Ok(joined) = joined else { unreachable!("vectors of as many unknowns") };
            let mut order: Vec<usize> = (0..found.values.len()).collect();
            order.sort_by(|&a, &b| self.key(found.values[b]).total_cmp(&self.key(found.values[a])));
            order.truncate(self.want);
            let values: Vec<f64> = order.iter().map(|&k| found.values[k]).collect();
            found = Found { vectors: joined.select(Axis(0), &order), values };
            if failed.is_some() || self.n == found.values.len() {
                return Ok((found, failed));
            }
            let last = found.values.last().map(|v| self.key(*v));
            (new, failed) = self.sweep(products, &found, 1, last)?;
            if new.values.is_empty() {
                return Ok((found, failed));
            }
        }
    }

    /// Iterates orthogonally to what is found until `want` more pairs have converged; with a
    /// threshold, which must be wanted more than that, none if there is no such pair.
    fn sweep(
        &mut self,
        products: &mut Products<'_>,
        found: &Found,
        want: usize,
        threshold: Option<f64>,
    ) -> Result<Ended, EigenError> {
        let n = self.n;
        let space = n - found.values.len();
        let none = || Found { values: vec![], vectors: Array2::zeros((0, n)) };
        let want = want.min(space);
        if want == 0 {
            return Ok((none(), None));
        }
        let mut width = products.width().min(space);
        let size = self.size.max(want + 2 * width).min(space);
        let capacity = (size + 2 * width).min(space + width);
        let mut v = dense(capacity, n, VECTOR)?;
        let mut t = dense(capacity, capacity, VECTOR)?;
        let locked = found.vectors.view();
        let mut start = random(&mut self.random, width, n)?;
        project(locked, start.view_mut())?;
        let (q, _) = orthonormal(start, &[locked], 0.0, space, &mut self.random)?;
        rows_mut(&mut v, ..width).assign(&q);
        let mut made = 0;
        loop {
            // The coefficients of the last residuals in the next block.
            let mut coupling = dense(0, 0, VECTOR)?;
            let mut last = (made, 0);
            while made < size && width > 0 {
                if products.count >= self.limit {
                    return self.ended(rows(&v, ..made), &t, made, want, Failure::Limit);
                }
                let to = made + width;
                let mut w = products.apply(rows(&v, made..to))?;
                if !finite(&w) {
                    return Err(EigenError::NotFinite { product: products.count });
                }
                project(locked, w.view_mut())?;
                let own = project(rows(&v, ..to), w.view_mut())?;
                self.symmetric(&own, &t, made, products.count)?;
                for (i, row) in own.outer_iter().enumerate() {
                    for (k, h) in row.indexed_iter() {
                        let mirrored = if k >= made { own[[k - made, made + i]] } else { *h };
                        let h = 0.5 * (h + mirrored);
                        (t[[made + i, k]], t[[k, made + i]]) = (h, h);
                    }
                }
                let size = own.iter().fold(0.0f64, |m, h| m.max(h.abs()));
                self.norm = self.norm.max(size);
                let noise = 4.0 * self.unit * self.norm;
                let bases = [locked, rows(&v, ..to)];
                let (q, r) = orthonormal(w, &bases, noise, space - to, &mut self.random)?;
                let next = q.nrows();
                rows_mut(&mut v, to..to + next).assign(&q);
                part_mut(&mut t, to..to + next, ..to).fill(0.0);
                part_mut(&mut t, to..to + next, made..to).assign(&r.t());
                (last, made, width, coupling) = ((made, to), to, next, r);
                if self.cancelled(products) {
                    return self.ended(rows(&v, ..made), &t, made, want, Failure::Cancelled);
                }
            }
            let (values, y) = small(part(&t, ..made, ..made))?;
            let mut order = self.order(&values);
            let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            self.norm = self.norm.max(largest);
            let tail = |k: usize| part(&y, k..k + 1, last.0..last.1).row(0).dot(&coupling);
            let residual = |k: usize| tail(k).dot(&tail(k)).sqrt();
            let relative = |k: &usize| residual(*k) / self.scale(values[*k]).max(f64::MIN_POSITIVE);
            let now: Vec<f64> = order.iter().take(want).map(relative).collect();
            let done = now.iter().all(|r| *r <= self.tolerance);
            if let Some(threshold) = threshold {
                // A pair that does not reach the threshold once it is known well enough.
                let (first, r) = (order[0], residual(order[0]));
                let gap = threshold - self.key(values[first]);
                let slack = self.tolerance * self.scale(values[first]);
                if (gap > 0.0 && r <= 0.1 * gap) || (gap >= -slack && r <= slack) {
                    return Ok((none(), None));
                }
            } else {
                self.residuals = now;
            }
            if done || width == 0 {
                order.truncate(want);
                return Ok((ritz(&v, &values, &y, &order, made)?, None));
            }
            // Restart from the best Ritz vectors and the block that follows.
            let keep = (want + (size - want) * 2 / 5).min(size - width.min(size)).max(want);
            order.truncate(keep.min(made));
            let kept = ritz(&v, &values, &y, &order, made)?;
            let keep = order.len();
            let block = rows(&v, made..made + width).to_owned();
            let tails: Vec<Array1<f64>> = order.iter().map(|&k| tail(k)).collect();
            rows_mut(&mut v, ..keep).assign(&kept.vectors);
            rows_mut(&mut v, keep..keep + width).assign(&block);
            t.fill(0.0);
            for (k, tail) in tails.iter().enumerate() {
                t[[k, k]] = kept.values[k];
                part_mut(&mut t, keep..keep + width, k..k + 1).column_mut(0).assign(tail);
            }
            made = keep;
            self.restarts += 1;
        }
    }

    /// Compares products with the coefficients that symmetry makes known before.
    fn symmetric(
        &self,
        own: &Array2<f64>,
        t: &Array2<f64>,
        made: usize,
        product: usize,
    ) -> Result<(), EigenError> {
        if let Which::Nearest(_) = self.which {
            return Ok(()); // MINRES looks
        }
        let mut gap = 0.0f64;
        for ((i, k), h) in own.indexed_iter() {
            let mirrored = if k >= made { own[[k - made, made + i]] } else { t[[made + i, k]] };
            gap = gap.max((h - mirrored).abs());
        }
        let size = own.iter().fold(self.norm, |m, h| m.max(h.abs()));
        let asymmetry = gap / size;
        match asymmetry > self.asymmetry_bound() {
            true => Err(EigenError::NotSymmetric { product, asymmetry }),
            false => Ok(()),
        }
    }

    pub fn cancelled(&mut self, products: &Products<'_>) -> bool {
        let (iteration, residuals) = (products.count, &self.residuals[..]);
        self.control.ends(&Progress { iteration, products: iteration, residuals })
    }

    /// What there is where the iteration is ended.
    fn ended(
        &self,
        v: ArrayView2<'_, f64>,
        t: &Array2<f64>,
        made: usize,
        want: usize,
        why: Failure,
    ) -> Result<Ended, EigenError> {
        let (values, y) = small(part(t, ..made, ..made))?;
        let mut order = self.order(&values);
        order.truncate(want);
        Ok((ritz(&v.to_owned(), &values, &y, &order, made)?, Some(why)))
    }

    /// Rayleigh's and Ritz's procedure once more, with products of the operator itself, and the
    /// verdict.
    fn finish(
        mut self,
        products: &mut Products<'_>,
        (found, failed): Ended,
    ) -> Result<Eigenpairs, EigenError> {
        let count = found.values.len();
        let images = products.apply(found.vectors.view())?;
        if !finite(&images) {
            return Err(EigenError::NotFinite { product: products.count });
        }
        let (values, y) = small(found.vectors.dot(&images.t()).view())?;
        let rank = |v: f64| match self.which {
            Which::Nearest(shift) => -(products.unscaled(v) - shift).abs(),
            _ => self.key(v),
        };
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|&a, &b| rank(values[b]).total_cmp(&rank(values[a])));
        let y = y.select(Axis(0), &order);
        let values = values.select(Axis(0), &order);
        let (vectors, images) = (y.dot(&found.vectors), y.dot(&images));
        let residual = |k: usize| {
            let r = &images.row(k) - &(values[k] * &vectors.row(k));
            r.dot(&r).sqrt()
        };
        let residuals = Array1::from_shape_fn(count, residual);
        let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let norm = match self.which {
            // The pairs found say nothing of it, null vectors least: a few steps of the power method do.
            Which::Nearest(_) => self.power(products)?.max(largest),
            _ => self.norm.max(largest),
        };
        let worst = (0..count).max_by(|&a, &b| residuals[a].total_cmp(&residuals[b]));
        let relative = |k: usize| if residuals[k] == 0.0 { 0.0 } else { residuals[k] / norm };
        let converged = (0..count).filter(|&k| relative(k) <= self.tolerance).count();
        let largest = worst.map_or(0.0, relative);
        let pairs = Eigenpairs {
            values: values.mapv(|v| products.unscaled(v)),
            vectors: vectors.reversed_axes(),
            residuals: residuals.mapv(|v| products.unscaled(v)),
            norm: products.unscaled(norm),
            products: products.count,
            restarts: self.restarts,
        };
        let (wanted, partial) = (self.want, Box::new(pairs));
        match (failed, worst) {
            (Some(Failure::Limit), _) => Err(EigenError::Limit {
                limit: self.limit,
                converged,
                wanted,
                residual: largest,
                partial,
            }),
            (Some(Failure::Cancelled), _) => {
                let product = partial.products;
                Err(EigenError::Cancelled { product, converged, wanted, partial })
            }
            // (Rounding of the last products and rotations.)
            (None, Some(pair)) if largest > 2.0 * self.tolerance => {
                let (residual, tolerance) = (largest, self.tolerance);
                Err(EigenError::Inaccurate {
                    pair,
                    residual,
                    tolerance,
                    precision: self.precision(),
                    partial,
                })
            }
            _ => Ok(*partial),
        }
    }
    /// The norm of the operator from below, by the power method from a random vector.
    fn power(&mut self, products: &mut Products<'_>) -> Result<f64, EigenError> {
        let mut v = random(&mut self.random, 1, self.n)?;
        let mut norm = 0.0f64;
        for _ in 0..POWER {
            let size = v.iter().map(|v| v * v).sum::<f64>().sqrt();
            if size == 0.0 {
                break;
            }
            v /= size;
            v = products.apply(v.view())?;
            if !finite(&v) {
                return Err(EigenError::NotFinite { product: products.count });
            }
            norm = norm.max(v.iter().map(|v| v * v).sum::<f64>().sqrt());
        }
        Ok(norm)
    }
    fn precision(&self) -> &'static str {
        if self.unit == f64::EPSILON { DType::F64.name() } else { DType::F32.name() }
    }
}

/// The Ritz vectors of the numbers given.
fn ritz(
    v: &Array2<f64>,
    values: &Array1<f64>,
    y: &Array2<f64>,
    order: &[usize],
    made: usize,
) -> Result<Found, OutOfMemory> {
    let mut vectors = dense(order.len(), v.ncols(), VECTOR)?;
    let y = y.select(Axis(0), order);
    general_mat_mul(1.0, &y, &rows(v, ..made), 0.0, &mut vectors);
    Ok(Found { values: order.iter().map(|&k| values[k]).collect(), vectors })
}

//! Functions of symmetric operators by the Lanczos process: products `f(A) v`, and stochastic Lanczos
//! quadrature of traces (S. Ubaru, J. Chen, Y. Saad, Fast estimation of tr(f(A)) via stochastic
//! Lanczos quadrature, SIAM J. Matrix Anal. 38, 2017).

use crate::control::{Control, Progress, control_method};
use crate::error::SolveError;
use crate::krylov::{Products, epsilon, finite, project, rows, single, small};
use crate::layout::{VECTOR, dense};
use crate::operator::{KernelOperator, LinearOperator};
use crate::solver::Solver;
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::genred::Place;
use keops_core::random::Random;
use ndarray::{Array1, Array2, Array3, ArrayD, Axis};
use std::fmt;
use unseen::Measure;

mod unseen;

/// Steps between looks at whether more change anything.
const LOOK: usize = 5;

/// A trace, and how sure it is.
///
/// ```
/// use keops_linalg::{Diag, MatrixFunction};
/// let d = Diag::new(ndarray::array![1.0, 2.0, 4.0], 1);
/// let estimate = MatrixFunction::of(&d).trace(f64::sqrt)?;
/// // Probes of signs are exact for diagonal matrices.
/// assert!((estimate.value - 3.0 - 2f64.sqrt()).abs() < 1e-12 && estimate.standard_error < 1e-12);
/// # Ok::<(), keops_linalg::FunctionError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    /// The mean over probes.
    pub value: f64,
    /// Its standard error, which is that of the probes: of many estimates, two in three are as near to
    /// the truth. Infinite for one probe.
    pub standard_error: f64,
    /// Products with the operator.
    pub products: usize,
}

/// Derivatives of `log det (K + αI)`, estimated: see [`MatrixFunction::log_det_gradient`].
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{KernelOperator, LogDetGradient, MatrixFunction};
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "c = Pm(1)", "v = Vj(1)"];
/// let sum: Genred = Genred::new("c * (i == j) * v", aliases, &SUM, Axis::J)?; // c I
/// let (x, c) = (ndarray::array![[0.0], [0.0], [0.0]], ndarray::array![3.0]);
/// let k = KernelOperator::new(&sum, "v", (&x, &x, &c))?;
/// let LogDetGradient { arguments, ridge, .. } =
///     MatrixFunction::of(&k).ridge(1.0).log_det_gradient(&["c"])?;
/// assert!((arguments[0][[0]] - 3.0 / 4.0).abs() < 1e-12 && (ridge - 3.0 / 4.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct LogDetGradient {
    /// For each argument asked for, of its shape.
    pub arguments: Vec<ArrayD<f64>>,
    /// Standard errors of their entries, infinite for one probe.
    pub standard_errors: Vec<ArrayD<f64>>,
    /// With respect to the ridge.
    pub ridge: f64,
    /// Its standard error, infinite for one probe.
    pub ridge_error: f64,
}

/// A function of an operator was not found.
///
/// ```
/// use keops_linalg::{Diag, FunctionError, MatrixFunction};
/// let d = Diag::new(ndarray::array![1.0, -2.0], 1);
/// let e = MatrixFunction::of(&d).log_det().unwrap_err();
/// assert!(matches!(e, FunctionError::Undefined { .. }) && e.to_string().contains("ridge"), "{e}");
/// ```
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionError {
    /// NaN or infinity in a product.
    #[error("NaN or infinity in product {product} (check the arguments of the kernel)")]
    NotFinite {
        /// Number of the product, from 1.
        product: usize,
    },
    /// `<u, A v>` differs from `<A u, v>` by more than rounding.
    #[error(
        "the operator is not symmetric (relative asymmetry {asymmetry:.1e}, seen at product \
         {product}): take the same points on both sides, and a formula that does not change when \
         they are exchanged"
    )]
    NotSymmetric {
        /// Number of the product.
        product: usize,
        /// Difference relative to the size of products.
        asymmetry: f64,
    },
    /// The function has no finite value on the spectrum.
    #[error(
        "the function is not finite at {at:.3e}, an estimate of an eigenvalue (the ridge included): \
         logarithms and roots need a positive definite operator, a larger ridge makes it so"
    )]
    Undefined {
        /// The estimate.
        at: f64,
    },
    /// More steps would change the result.
    #[error("{}; allow more steps, a larger tolerance, or a larger ridge", changed(*.steps, *.change))]
    Steps {
        /// Steps done.
        steps: usize,
        /// Change relative to the size of the result, for traces `tr |f(A + αI)|`. Infinite where steps
        /// were too few to compare two results.
        change: f64,
        /// The result as it is: an estimate of a trace.
        partial: Option<Estimate>,
    },
    /// The result does not change, but the function does where no step has looked.
    #[error(
        "the function leaves its values at the estimates of eigenvalues, after {steps} steps, by what \
         may be {unseen:.1e} of the result between or beyond them: allow more steps, or take a smooth \
         function"
    )]
    Unresolved {
        /// Steps done.
        steps: usize,
        /// What may be missing, relative to the size of the result; infinite where that is 0.
        unseen: f64,
        /// The result as it is: an estimate of a trace.
        partial: Option<Estimate>,
    },
    /// The observer asked for it.
    #[error("cancelled at product {product}")]
    Cancelled {
        /// Products done.
        product: usize,
    },
    /// A system of a gradient was not solved.
    #[error(transparent)]
    Solve(#[from] SolveError),
    /// An argument or option does not fit, or the device failed.
    #[error(transparent)]
    Core(#[from] Error),
}
fn changed(steps: usize, change: f64) -> String {
    match change.is_finite() {
        true => format!(
            "the last {LOOK} of {steps} steps have changed the result by {change:.1e} of it"
        ),
        false => format!("{steps} steps give one result, and nothing to compare it with"),
    }
}
impl From<InputError> for FunctionError {
    fn from(e: InputError) -> FunctionError {
        FunctionError::Core(e.into())
    }
}
impl From<OutOfMemory> for FunctionError {
    fn from(e: OutOfMemory) -> FunctionError {
        FunctionError::Core(e.into())
    }
}

/// Functions of `A + αI` for a symmetric operator A: traces with an error bar, log-determinants with
/// gradients, and products with vectors, such as the square root that makes samples.
///
/// An operator with several independent columns (`v = Vj(8)`) takes as many probes or vectors at
/// once. Memory is a vector for each step and each of these.
///
/// Steps go on until they change the result no more. Where the function is not smooth on the spectrum
/// that says little: a function that is 0 at all estimates of eigenvalues is 0 in all results. What it
/// does between them is looked at too, and [`FunctionError::Unresolved`] says where it may matter. A
/// function that differs from a smooth one on a few thousandths of the spectrum may still pass unseen;
/// eigenvalues beyond a number are counted by [`crate::Eigsh`].
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{KernelOperator, MatrixFunction};
/// use ndarray::{Array2, Array3};
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(4)"];
/// let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * v", aliases, &SUM, Axis::J)?;
/// let x = Array2::from_shape_fn((50, 1), |(k, _)| k as f64 / 5.0);
/// let k = KernelOperator::new(&sum, "v", (&x, &x))?;
/// let log_det = MatrixFunction::of(&k).ridge(0.1).probes(16).log_det()?;
/// assert!(log_det.value < 0.0 && log_det.standard_error < 0.1 * log_det.value.abs());
/// // With normal z, a sample of the Gaussian process.
/// let z = Array3::from_shape_fn((1, 50, 4), |(_, k, c)| ((k * 7 + c * 3) as f64).sin());
/// let sample = MatrixFunction::of(&k).ridge(0.1).apply(f64::sqrt, &z)?;
/// assert_eq!(sample.dim(), (1, 50, 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MatrixFunction<'s, K: ?Sized> {
    operator: &'s K,
    ridge: f64,
    probes: usize,
    steps: usize,
    tolerance: f64,
    control: Control<'s>,
}

impl<K: ?Sized> fmt::Debug for MatrixFunction<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("MatrixFunction");
        f.field("ridge", &self.ridge).field("probes", &self.probes).finish_non_exhaustive()
    }
}

/// The Lanczos process of one vector.
struct Chain {
    /// Orthonormal vectors, as rows.
    basis: Array2<f64>,
    diagonal: Vec<f64>,
    off: Vec<f64>,
    norm: f64,
    ended: bool,
}

impl<'s, K: ?Sized> MatrixFunction<'s, K> {
    /// Of an operator; without a ridge, with 32 probes of at most 200 steps.
    pub fn of(operator: &'s K) -> MatrixFunction<'s, K> {
        MatrixFunction {
            operator,
            ridge: 0.0,
            probes: 32,
            steps: 200,
            tolerance: 1e-8,
            control: Control::default(),
        }
    }
    /// Adds `α` to the diagonal; it may be negative, but for gradients, which solve positive definite
    /// systems.
    pub fn ridge(mut self, ridge: f64) -> Self {
        self.ridge = ridge;
        self
    }
    /// Random vectors of a trace. The standard error falls with the root of their number.
    pub fn probes(mut self, probes: usize) -> Self {
        self.probes = probes;
        self
    }
    /// Most steps of the Lanczos process, which is most vectors that are kept of each.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }
    /// Steps end where five of them change the result by at most this part of it (of `tr |f(A + αI)|`
    /// for a trace, which may be 0), and what they cannot see is below its root; solves of
    /// gradients have this tolerance too. 1e-8 by default.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }
    control_method! {
        /// Other seeds draw other probes; one seed draws the same.
        seed of control
    }
    control_method! {
        /// An approximate inverse of the operator for the solves of gradients.
        preconditioner of control
    }
    control_method! {
        /// Calls a function after each product, with the last relative change as the residual; `Break`
        /// ends with [`FunctionError::Cancelled`].
        observe of control
    }
    /// Signs: among probes with independent entries they have the least variance.
    fn signs(
        &self,
        random: &mut Random,
        count: usize,
        n: usize,
    ) -> Result<Array2<f64>, OutOfMemory> {
        let mut z = dense(count, n, VECTOR)?;
        z.mapv_inplace(|_| if random.unit() < 0.5 { -1.0 } else { 1.0 });
        Ok(z)
    }
    fn check(&self, probes: usize) -> Result<(), InputError> {
        let option = |what: String| Err(InputError::Option(what));
        if !self.ridge.is_finite() {
            return option(format!("the ridge must be finite, got {}", self.ridge));
        }
        if !(self.tolerance > 0.0 && self.tolerance < 1.0) {
            return option(format!(
                "the tolerance must be between 0 and 1, got {}",
                self.tolerance
            ));
        }
        if probes == 0 || self.steps == 0 {
            return option("a trace needs a probe, and a step, at least".into());
        }
        Ok(())
    }
}

impl<K: LinearOperator> MatrixFunction<'_, K> {
    /// `tr f(A + αI)`.
    ///
    /// # Errors
    /// [`FunctionError`]; [`FunctionError::Undefined`] where `f` is not finite on the spectrum.
    pub fn trace(mut self, f: impl Fn(f64) -> f64) -> Result<Estimate, FunctionError> {
        self.check(self.probes)?;
        let n = square(self.operator)?;
        let mut products = Products::new(self.operator);
        let (mut random, mut samples) = (Random::new(self.control.seed), vec![]);
        let (mut worst, mut blind, mut most) = (0.0f64, 0.0f64, 0);
        while samples.len() < self.probes {
            let count = products.width().min(self.probes - samples.len());
            let starts = self.signs(&mut random, count, n)?;
            let (ridge, tolerance) = (self.ridge, self.tolerance);
            let of = |v: f64| f(v + ridge);
            let unit = |products: &Products<'_>, c: &Chain| {
                let (values, first, y) = ritz(c, products)?;
                let own = values.iter().zip(&first);
                let sum: f64 = own.map(|(v, w)| w * w * of(*v)).sum();
                if !sum.is_finite() {
                    return Err(undefined(&values, ridge, &f));
                }
                let (size, unseen) = sight(tolerance, products, c, (&values, &first, &y), &of);
                let square = c.norm * c.norm;
                Ok(Look { result: Array1::from_elem(1, square * sum), size: square * size, unseen })
            };
            let run = Lanczos { steps: self.steps, tolerance: self.tolerance };
            let Ran { results: made, change, unseen, steps } =
                run.run(&mut products, starts, unit, &mut self.control)?;
            samples.extend(made.iter().map(|v| v.first().copied().unwrap_or(0.0)));
            (worst, blind, most) = (worst.max(change), blind.max(unseen), most.max(steps));
        }
        let (value, standard_error) = mean(&samples);
        let estimate = Estimate { value, standard_error, products: products.count };
        let partial = Some(estimate);
        if worst > self.tolerance {
            return Err(FunctionError::Steps { steps: most, change: worst, partial });
        }
        match blind > 0.0 {
            true => Err(FunctionError::Unresolved { steps: most, unseen: blind, partial }),
            false => Ok(estimate),
        }
    }
    /// `log det (A + αI)`, of a positive definite operator.
    ///
    /// # Errors
    /// As [`MatrixFunction::trace`].
    pub fn log_det(self) -> Result<Estimate, FunctionError> {
        self.trace(f64::ln)
    }
    /// `f(A + αI) v` for a block vector, of shape `(batches, rows, components)`.
    ///
    /// # Errors
    /// As [`MatrixFunction::trace`].
    pub fn apply(
        mut self,
        f: impl Fn(f64) -> f64,
        v: &Array3<f64>,
    ) -> Result<Array3<f64>, FunctionError> {
        self.check(1)?;
        let n = square(self.operator)?;
        let [rows, dim] = self.operator.domain();
        if v.shape()[1..] != [rows, dim] {
            let (name, got) = ("the vector".into(), v.shape().to_vec());
            let expected = format!("(batches, {rows}, {dim})");
            return Err(InputError::Shape { name, expected, got }.into());
        }
        if v.iter().any(|v| !v.is_finite()) {
            return Err(InputError::Option("the vector is not finite".into()).into());
        }
        let mut products = Products::new(self.operator);
        let mut out = v.clone();
        for mut block in out.outer_iter_mut() {
            let independent = self.operator.columns_independent();
            let mut starts = dense(if independent { dim } else { 1 }, n, VECTOR)?;
            if independent {
                starts.assign(&block.t());
            } else {
                starts.iter_mut().zip(&block).for_each(|(s, v)| *s = *v);
            }
            let (ridge, tolerance) = (self.ridge, self.tolerance);
            let of = |products: &Products<'_>, c: &Chain| {
                let (values, first, y) = ritz(c, products)?;
                let of_values = values.mapv(|v| f(v + ridge));
                if of_values.iter().any(|v| !v.is_finite()) {
                    return Err(undefined(&values, ridge, &f));
                }
                let weights = (&of_values * &first).dot(&y) * c.norm;
                let result = weights.dot(&crate::krylov::rows(&c.basis, ..c.diagonal.len()));
                let size = result.dot(&result).sqrt();
                let function = |v: f64| f(v + ridge);
                let (_, unseen) = sight(tolerance, products, c, (&values, &first, &y), &function);
                Ok(Look { result, size, unseen })
            };
            let run = Lanczos { steps: self.steps, tolerance: self.tolerance };
            let Ran { results: made, change, unseen, steps } =
                run.run(&mut products, starts, of, &mut self.control)?;
            if unseen > 0.0 && change <= self.tolerance {
                return Err(FunctionError::Unresolved { steps, unseen, partial: None });
            }
            if change > self.tolerance {
                return Err(FunctionError::Steps { steps, change, partial: None });
            }
            for (c, made) in made.iter().enumerate() {
                match independent {
                    true => block.column_mut(c).assign(made),
                    false => block.iter_mut().zip(made).for_each(|(o, v)| *o = *v),
                }
            }
        }
        Ok(out)
    }
}

impl<P: Place> MatrixFunction<'_, KernelOperator<'_, P>> {
    /// The gradient of `log det (K + αI) = tr log (K + αI)` with respect to arguments of the formula,
    /// by their names, and to the ridge: `tr (K + αI)⁻¹ dK`, by Hutchinson's estimator with a solve
    /// for each probe.
    ///
    /// An argument that stands on both sides of the kernel has two names: its gradient is the sum
    /// of both.
    ///
    /// # Errors
    /// As [`MatrixFunction::trace`]; [`FunctionError::Solve`]; [`keops_core::error::GradError`] for a
    /// name that there is not.
    pub fn log_det_gradient(mut self, wrt: &[&str]) -> Result<LogDetGradient, FunctionError> {
        self.check(self.probes)?;
        square(self.operator)?;
        // Unknown names are found before the work begins.
        let gradient = match wrt.is_empty() {
            true => None,
            false => Some(self.operator.form_gradient_of(wrt)?),
        };
        let [n, dim] = LinearOperator::domain(self.operator);
        let mut random = Random::new(self.control.seed);
        let operator: &dyn LinearOperator = self.operator;
        let width = if operator.columns_independent() { dim.max(1) } else { 1 };
        let mut samples: Vec<(Vec<ArrayD<f64>>, f64)> = vec![];
        // One probe for each result, so that they tell how far they are apart.
        let mut left = self.probes;
        while left > 0 {
            let count = width.min(left);
            left -= count;
            let mut z = Array3::zeros((1, n, dim));
            for mut row in z.index_axis_mut(Axis(0), 0).rows_mut() {
                let all = if operator.columns_independent() { count } else { dim };
                row.iter_mut().take(all).for_each(|z| {
                    *z = if random.unit() < 0.5 { -1.0 } else { 1.0 };
                });
            }
            let solver = Solver::of(operator).ridge(self.ridge).tolerance(self.tolerance);
            let solver = solver.control(self.control.lend());
            let (w, _) = solver.solve(&z)?;
            let (z, w) = (z.index_axis_move(Axis(0), 0), w.index_axis_move(Axis(0), 0));
            for c in 0..count {
                let (mut u, mut v) = (w.clone(), z.clone());
                if operator.columns_independent() {
                    // The columns of other probes take no part.
                    for other in (0..dim).filter(|k| *k != c) {
                        u.column_mut(other).fill(0.0);
                        v.column_mut(other).fill(0.0);
                    }
                }
                let ridge = (&u * &v).sum();
                let (u, v) = (u.into_dyn(), v.into_dyn());
                let made = match &gradient {
                    Some(gradient) => self.operator.form_with(gradient, &u, &v)?,
                    None => vec![],
                };
                samples.push((made, ridge));
            }
        }
        let count = samples.len() as f64;
        let (mut arguments, mut standard_errors) = (vec![], vec![]);
        for k in 0..wrt.len() {
            let mut total = samples[0].0[k].clone();
            samples[1..].iter().for_each(|(s, _)| total += &s[k]);
            total /= count;
            let mut squares = total.mapv(|_| 0.0);
            for (s, _) in &samples {
                squares.zip_mut_with(&(&s[k] - &total), |q, d| *q += d * d);
            }
            standard_errors.push(squares.mapv(|q| match count > 1.0 {
                true => (q / (count * (count - 1.0))).sqrt(),
                false => f64::INFINITY,
            }));
            arguments.push(total);
        }
        let (ridge, ridge_error) = mean(&samples.iter().map(|(_, r)| *r).collect::<Vec<_>>());
        Ok(LogDetGradient { arguments, standard_errors, ridge, ridge_error })
    }
}

/// Unknowns of a square operator of one matrix.
fn square(operator: &dyn LinearOperator) -> Result<usize, InputError> {
    let [n, columns] = single(operator)?;
    match operator.domain() == operator.range() {
        true => Ok(n),
        false => Err(InputError::Option(format!(
            "functions are of square operators, this one maps {columns} unknowns to {n}"
        ))),
    }
}
/// Mean, and its standard error.
fn mean(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|s| (s - mean) * (s - mean)).sum();
    (mean, if count > 1.0 { (squares / (count * (count - 1.0))).sqrt() } else { f64::INFINITY })
}
fn undefined(values: &Array1<f64>, ridge: f64, f: impl Fn(f64) -> f64) -> FunctionError {
    let at = values.iter().map(|v| v + ridge).find(|v| !f(*v).is_finite());
    FunctionError::Undefined { at: at.unwrap_or(f64::NAN) }
}
/// Ritz values as the operator has them, the first components of the eigenvectors of the
/// tridiagonal matrix, and these as rows.
type Ritz = (Array1<f64>, Array1<f64>, Array2<f64>);

fn ritz(chain: &Chain, products: &Products<'_>) -> Result<Ritz, FunctionError> {
    let m = chain.diagonal.len();
    let mut t = dense(m, m, VECTOR)?;
    for k in 0..m {
        t[[k, k]] = chain.diagonal[k];
        if k + 1 < m {
            (t[[k, k + 1]], t[[k + 1, k]]) = (chain.off[k], chain.off[k]);
        }
    }
    let (values, y) = small(t.view())?;
    Ok((values.mapv(|v| products.unscaled(v)), y.column(0).to_owned(), y))
}

/// What a number of steps makes of a vector.
struct Look {
    result: Array1<f64>,
    /// What a change is compared with.
    size: f64,
    /// What may be missing, relative to the size; 0 where that does not matter.
    unseen: f64,
}
/// What came of vectors: results, the last relative change, what may be missing, and the steps.
struct Ran {
    results: Vec<Array1<f64>>,
    change: f64,
    unseen: f64,
    steps: usize,
}

/// The size of an integral, and what may be missing of it, relative to that: 0 where it does not
/// matter.
fn sight(
    tolerance: f64,
    products: &Products<'_>,
    chain: &Chain,
    (values, first, y): (&Array1<f64>, &Array1<f64>, &Array2<f64>),
    f: &dyn Fn(f64) -> f64,
) -> (f64, f64) {
    let weights = first.mapv(|w| w * w).to_vec();
    let m = values.len();
    // ‖A v - θ v‖ of the outermost Ritz vectors: an eigenvalue is that near.
    let off = if chain.ended { 0.0 } else { chain.off.last().copied().unwrap_or(0.0) };
    let residual = |k: usize| products.unscaled(off * y[[k, m - 1]].abs());
    let residuals = if m == 0 { [0.0; 2] } else { [residual(0), residual(m - 1)] };
    let values = values.to_vec();
    let measure = Measure { values: &values, weights: &weights, residuals };
    let size = measure.size(f);
    if chain.ended {
        return (size, 0.0);
    }
    // (The error of a smooth function is of second order in what is unseen.)
    let enough = tolerance.sqrt();
    let unseen = measure.unseen(f);
    match unseen <= enough * size || measure.is_polynomial(f, enough) {
        true => (size, 0.0),
        false => (size, unseen / size),
    }
}
/// How long the process goes on.
struct Lanczos {
    steps: usize,
    tolerance: f64,
}

impl Lanczos {
    /// Runs from several vectors at once until what `of` makes of each changes no more, and nothing
    /// that matters is unseen.
    fn run(
        &self,
        products: &mut Products<'_>,
        starts: Array2<f64>,
        of: impl Fn(&Products<'_>, &Chain) -> Result<Look, FunctionError>,
        control: &mut Control<'_>,
    ) -> Result<Ran, FunctionError> {
        let (count, n) = starts.dim();
        let steps = self.steps.min(n);
        let unit = epsilon(products.operator());
        let mut chains = vec![];
        for start in starts.outer_iter() {
            let norm = start.dot(&start).sqrt();
            let mut basis = dense(steps + 1, n, VECTOR)?;
            if norm > 0.0 {
                basis.row_mut(0).assign(&(&start / norm));
            }
            let (diagonal, off) = (vec![], vec![]);
            chains.push(Chain { basis, diagonal, off, norm, ended: norm == 0.0 });
        }
        let mut results = vec![Array1::zeros(n); count];
        let (mut change, mut size) = (if n == 0 { 0.0 } else { f64::INFINITY }, 0.0f64);
        let mut unseen = 0.0f64;
        for step in 0..steps {
            if chains.iter().all(|c| c.ended) {
                (change, unseen) = (0.0, 0.0);
                break;
            }
            let mut v = dense(count, n, VECTOR)?;
            for (mut v, c) in v.outer_iter_mut().zip(&chains).filter(|(_, c)| !c.ended) {
                v.assign(&c.basis.row(step));
            }
            let mut w = products.apply(v.view())?;
            if !finite(&w) {
                return Err(FunctionError::NotFinite { product: products.count });
            }
            for (k, c) in chains.iter_mut().enumerate().filter(|(_, c)| !c.ended) {
                let mut own = crate::krylov::rows_mut(&mut w, k..k + 1);
                let h = project(rows(&c.basis, ..step + 1), own.view_mut())?;
                let before = if step > 0 { h[[0, step - 1]] - c.off[step - 1] } else { 0.0 };
                size = h.iter().fold(size, |m, h| m.max(h.abs()));
                let asymmetry = before.abs() / size;
                if asymmetry > unit.powf(2.0 / 3.0) * (n as f64).sqrt().max(8.0) {
                    return Err(FunctionError::NotSymmetric { product: products.count, asymmetry });
                }
                c.diagonal.push(h[[0, step]]);
                let norm = own.iter().map(|v| v * v).sum::<f64>().sqrt();
                if norm <= 4.0 * unit * size || step + 1 == n {
                    c.ended = true; // an invariant subspace: all is known
                } else {
                    c.off.push(norm);
                    own /= norm;
                    c.basis.row_mut(step + 1).assign(&own.row(0));
                }
            }
            let last = step + 1 == steps || chains.iter().all(|c| c.ended);
            if last || (step + 1) % LOOK == 0 {
                (change, unseen) = (0.0, 0.0);
                for (result, c) in results.iter_mut().zip(&chains).filter(|(_, c)| c.norm > 0.0) {
                    let Look { result: new, size, unseen: own } = of(products, c)?;
                    unseen = unseen.max(own);
                    if !c.ended {
                        let gap = match result.len() == new.len() {
                            true => new
                                .iter()
                                .zip(result.iter())
                                .map(|(a, b)| (a - b) * (a - b))
                                .sum::<f64>()
                                .sqrt(),
                            false => f64::INFINITY,
                        };
                        change = f64::max(change, if gap == 0.0 { 0.0 } else { gap / size });
                    }
                    *result = new;
                }
            }
            let (iteration, residuals) = (products.count, &[change][..]);
            if control.ends(&Progress { iteration, products: iteration, residuals }) {
                return Err(FunctionError::Cancelled { product: products.count });
            }
            if change <= self.tolerance && unseen == 0.0 {
                break;
            }
        }
        let steps = chains.iter().map(|c| c.diagonal.len()).max().unwrap_or(0);
        Ok(Ran { results, change, unseen, steps })
    }
}

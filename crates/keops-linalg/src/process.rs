//! Gaussian processes: regression with a covariance that is any formula of two points and parameters.
//!
//! Equations are those of C. Rasmussen, C. Williams, Gaussian Processes for Machine Learning, 2006:
//! prediction 2.25 and 2.26, marginal likelihood 5.8 and 5.9, leave-one-out 5.10 to 5.12. The matrix
//! of the training points is factorised (faer's Cholesky), so that values and gradients are exact.

use crate::entries::{Diagonal, Rows};
use crate::error::OperatorError;
use crate::krylov::small;
use crate::layout::{VECTOR, dense};
use crate::linear::{Linear, row_number};
use crate::operator::{KernelOperator, LinearOperator};
use crate::stack::roomy;
use faer::linalg::solvers::{DenseSolveCore, Llt};
use faer::{Mat, Side};
use keops_core::data::{ArgView, HostView};
use keops_core::error::{Error, InputError, OutOfMemory};
use keops_core::genred::{Genred, Place, Reference};
use keops_core::graph::Category;
use keops_core::random::Random;
use keops_core::reduce::SUM;
use keops_core::spec::Axis;
use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2, ArrayView2, Axis as NdAxis};

#[cfg(feature = "argmin")]
mod fit;

/// The variable that the covariance is multiplied with: no name that a formula could have is one of
/// its own.
const WEIGHT: &str = "__weight";

/// A Gaussian process was not fitted, or did not predict.
///
/// ```
/// use keops_linalg::{GaussianProcess, ProcessError};
/// use ndarray::array;
/// let process: GaussianProcess = GaussianProcess::new("-Exp(-SqDist(x, y))", ["x = Vi(1)", "y = Vj(1)"])?;
/// let x = array![[0.0], [1.0]];
/// let e = process.condition(&x, &array![1.0, 2.0], &[], 0.1).unwrap_err();
/// assert!(matches!(e, ProcessError::NotDefinite { noise: 0.1 }), "{e}");
/// # Ok::<(), ProcessError>(())
/// ```
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// No Cholesky factor.
    #[error(
        "the covariance plus the noise of {noise:.1e} is not positive definite: points that coincide \
         need noise, and the formula has to be a covariance"
    )]
    NotDefinite {
        /// Variance of the noise.
        noise: f64,
    },
    /// NaN or infinity in an argument, or in the covariance.
    #[error("{what} is not finite")]
    NotFinite {
        /// What is not.
        what: String,
    },
    /// The covariance is not the same with both points exchanged.
    #[error("the covariance is not symmetric: {asymmetry:.1e} relative to its size")]
    NotSymmetric {
        /// Largest difference relative to the largest entry.
        asymmetry: f64,
    },
    /// The formula is not one of two points and parameters.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// An argument does not fit, or the device failed.
    #[error(transparent)]
    Core(#[from] Error),
}
impl From<InputError> for ProcessError {
    fn from(e: InputError) -> ProcessError {
        ProcessError::Core(e.into())
    }
}
impl From<OutOfMemory> for ProcessError {
    fn from(e: OutOfMemory) -> ProcessError {
        ProcessError::Core(e.into())
    }
}

/// A Gaussian process of mean 0, whose covariance is a formula.
///
/// Of the aliases one declares the point of a row (`Vi`), one that of a column (`Vj`), all others
/// are parameters (`Pm`). Time is n³ / 3 operations and memory a few matrices of n², for n points to
/// learn from.
///
/// ```
/// use keops_linalg::GaussianProcess;
/// use ndarray::{Array1, Array2};
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Pm(1)", "l = Pm(1)"];
/// let process: GaussianProcess =
///     GaussianProcess::new("v * Exp(-SqDist(x / l, y / l) / 2)", aliases)?;
/// let x = Array2::from_shape_fn((30, 1), |(k, _)| k as f64 / 5.0);
/// let y = Array1::from_iter(x.iter().map(|x| x.sin()));
/// # #[cfg(feature = "argmin")] {
/// let fitted = process.fit(&x, &y, &[Array1::ones(1), Array1::ones(1)], 0.01)?;
/// let (mean, variance) = fitted.predict(&ndarray::array![[2.5], [40.0]])?;
/// assert!((mean[0] - 2.5f64.sin()).abs() < 1e-2 && variance[0] < 1e-3);
/// assert!(mean[1].abs() < 1e-6); // far from all points: the prior
/// # }
/// # Ok::<(), keops_linalg::ProcessError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GaussianProcess<P = Reference> {
    covariance: Genred<P>,
    linear: Linear,
    dim: usize,
    /// Names and dimensions.
    parameters: Vec<(String, usize)>,
    /// Is the row's point declared first?
    rows_first: bool,
    /// Positions of the points among the arguments but the weight.
    positions: [usize; 2],
}

impl<P: Place + Default> GaussianProcess<P> {
    /// Of a covariance, a scalar formula of two points and parameters.
    ///
    /// # Errors
    /// [`ProcessError::Operator`] if it cannot be read; [`InputError`] if it is not of dimension 1,
    /// or not of one point of each kind, of one dimension, or if it has row numbers (`i == j`): rows of
    /// new points are not those of known ones. White noise is an argument of its own.
    pub fn new(
        covariance: &str,
        aliases: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<GaussianProcess<P>, ProcessError> {
        let mut aliases: Vec<String> = aliases.into_iter().map(|a| a.as_ref().into()).collect();
        aliases.push(format!("{WEIGHT} = Vj(1)"));
        let text = format!("({covariance}) * {WEIGHT}");
        let sum: Genred<P> = Genred::new(&text, &aliases, &SUM, Axis::J)?;
        let option = |what: String| Err(InputError::Option(what).into());
        let inputs = sum.computation().inputs();
        let others: Vec<_> = inputs.iter().filter(|i| i.name != WEIGHT).collect();
        let of = |category: Category| {
            let mut all = others.iter().enumerate().filter(|(_, i)| i.category == category);
            match (all.next(), all.next()) {
                (Some((at, one)), None) => Ok((at, one.name.clone(), one.row.iter().product())),
                _ => Err(InputError::Option(format!(
                    "a covariance is of one point of category {}, of one of {}, and of parameters",
                    Category::I.keyword(),
                    Category::J.keyword()
                ))),
            }
        };
        let (row_at, row, dim) = of(Category::I)?;
        let (column_at, column, other): (_, _, usize) = of(Category::J)?;
        if dim != other {
            return option(format!("`{row}` has {dim} components, `{column}` has {other}"));
        }
        let parameters = others.iter().filter(|i| i.category == Category::Param);
        let parameters = parameters.map(|i| (i.name.clone(), i.row.iter().product())).collect();
        if let Some(category) = row_number(sum.computation()) {
            let number = if category == Category::I { "i" } else { "j" };
            return option(format!(
                "a covariance is a function of two points, got the row number `{number}`: rows of new \
                 points are not those of known ones; the noise is an argument of its own"
            ));
        }
        let linear = Linear::of(sum.computation(), WEIGHT)?;
        Ok(GaussianProcess {
            covariance: sum,
            linear,
            dim,
            parameters,
            rows_first: row_at < column_at,
            positions: [row_at, column_at],
        })
    }
}

impl<P: Place> GaussianProcess<P> {
    /// The same, computed elsewhere.
    pub fn at<Q: Place>(self, place: Q) -> GaussianProcess<Q> {
        let GaussianProcess { covariance, linear, dim, parameters, rows_first, positions } = self;
        let covariance = covariance.at(place);
        GaussianProcess { covariance, linear, dim, parameters, rows_first, positions }
    }

    /// Arguments in their order: points among parameters.
    fn bind<'a>(
        &self,
        rows: &'a ArrayRef2<f64>,
        columns: &'a ArrayRef2<f64>,
        parameters: &'a [Array1<f64>],
    ) -> Result<KernelOperator<'a, P>, ProcessError> {
        let view = |a: ArrayView2<'a, f64>| ArgView::from(HostView::F64(a.into_dyn()));
        let mut args: Vec<ArgView<'a>> =
            parameters.iter().map(|p| ArgView::from(HostView::F64(p.view().into_dyn()))).collect();
        let [row, column] = self.positions;
        let first = if self.rows_first {
            (row, rows, column, columns)
        } else {
            (column, columns, row, rows)
        };
        args.insert(first.0, view(first.1.view()));
        args.insert(first.2, view(first.3.view()));
        let count = Some(columns.nrows());
        Ok(KernelOperator::bind(&self.covariance, self.linear.clone(), args, count)?)
    }
    fn check(&self, name: &str, x: &ArrayRef2<f64>) -> Result<(), ProcessError> {
        if x.ncols() != self.dim {
            let (expected, got) = (format!("shape (points, {})", self.dim), x.shape().to_vec());
            return Err(InputError::Shape { name: name.into(), expected, got }.into());
        }
        match x.iter().all(|v| v.is_finite()) {
            true => Ok(()),
            false => Err(ProcessError::NotFinite { what: format!("an entry of {name}") }),
        }
    }

    /// Conditions on values `y` at points `x`, of shape (points, dimension), with the variance of
    /// their noise, at least 0. Parameters come in the order of the aliases.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn condition(
        &self,
        x: &ArrayRef2<f64>,
        y: &ArrayRef1<f64>,
        parameters: &[Array1<f64>],
        noise: f64,
    ) -> Result<FittedProcess<P>, ProcessError> {
        self.check("the points", x)?;
        let n = x.nrows();
        if y.len() != n {
            let (name, expected) = ("the values".into(), format!("one for each of {n} points"));
            return Err(InputError::Shape { name, expected, got: y.shape().to_vec() }.into());
        }
        let own: Vec<usize> = self.parameters.iter().map(|(_, dim)| *dim).collect();
        if !own.iter().copied().eq(parameters.iter().map(|p| p.len())) {
            let got: Vec<usize> = parameters.iter().map(|p| p.len()).collect();
            let what = format!("parameters {:?}, got dimensions {got:?}", self.parameters);
            return Err(InputError::Option(what).into());
        }
        if !(noise.is_finite() && noise >= 0.0) {
            let what =
                format!("the variance of the noise must be finite and at least 0, got {noise}");
            return Err(InputError::Option(what).into());
        }
        if !y.iter().chain(parameters.iter().flatten()).all(|v| v.is_finite()) {
            return Err(ProcessError::NotFinite { what: "a value or a parameter".into() });
        }
        let operator = self.bind(x, x, parameters)?;
        let k = operator.rows_at(0, &(0..n).collect::<Vec<_>>())?;
        if k.iter().any(|v| !v.is_finite()) {
            return Err(ProcessError::NotFinite { what: "the covariance".into() });
        }
        let size = k.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let gap = (&k - &k.t()).iter().fold(0.0f64, |m, v| m.max(v.abs()));
        if gap > 1e-9 * size {
            return Err(ProcessError::NotSymmetric { asymmetry: gap / size });
        }
        let system = Mat::from_fn(n, n, |i, j| k[[i, j]] + if i == j { noise } else { 0.0 });
        let factorised = || system.llt(Side::Lower).map(|f| (f.inverse(), f));
        let Ok((made, factor)) = roomy(factorised)? else {
            return Err(ProcessError::NotDefinite { noise });
        };
        let l = factor.L();
        let mut half_log_det = 0.0;
        for i in 0..n {
            half_log_det += l[(i, i)].ln();
        }
        let mut inverse = dense(n, n, VECTOR)?;
        inverse.indexed_iter_mut().for_each(|((i, j), v)| *v = made[(i, j)]);
        // (Solved with the factor: the inverse loses a few digits more.)
        let alpha = solve(&factor, y.view().insert_axis(NdAxis(1)))?.index_axis_move(NdAxis(1), 0);
        let log_likelihood =
            -0.5 * y.dot(&alpha) - half_log_det - 0.5 * n as f64 * std::f64::consts::TAU.ln();
        if !log_likelihood.is_finite() {
            let what = "the likelihood of these values (their squares over the covariance overflow: \
                        scale them)";
            return Err(ProcessError::NotFinite { what: what.into() });
        }
        Ok(FittedProcess {
            process: self.clone(),
            x: x.to_owned(),
            y: y.to_owned(),
            parameters: parameters.to_vec(),
            noise,
            factor,
            inverse,
            alpha,
            log_likelihood,
            evaluations: 1,
            converged: true,
        })
    }
}

/// The product of the inverse with columns.
fn solve(factor: &Llt<f64>, b: ArrayView2<'_, f64>) -> Result<Array2<f64>, OutOfMemory> {
    use faer::linalg::solvers::Solve;
    let (rows, columns) = b.dim();
    let b = Mat::from_fn(rows, columns, |i, j| b[[i, j]]);
    let made = roomy(|| factor.solve(&b))?;
    let mut out = dense(rows, columns, VECTOR)?;
    out.indexed_iter_mut().for_each(|((i, j), v)| *v = made[(i, j)]);
    Ok(out)
}

/// A process that knows values at some points.
///
/// ```
/// use keops_linalg::{FittedProcess, GaussianProcess};
/// use ndarray::array;
/// let process: GaussianProcess = GaussianProcess::new("x * y", ["x = Vi(1)", "y = Vj(1)"])?;
/// // The line through 0 with a normal slope, and one value: 2 at 1, of variance 1.
/// let fitted: FittedProcess = process.condition(&array![[1.0]], &array![2.0], &[], 1.0)?;
/// let (mean, variance) = fitted.predict(&array![[3.0]])?;
/// assert!((mean[0] - 3.0).abs() < 1e-12 && (variance[0] - 4.5).abs() < 1e-12);
/// # Ok::<(), keops_linalg::ProcessError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FittedProcess<P = Reference> {
    process: GaussianProcess<P>,
    x: Array2<f64>,
    y: Array1<f64>,
    parameters: Vec<Array1<f64>>,
    noise: f64,
    factor: Llt<f64>,
    inverse: Array2<f64>,
    alpha: Array1<f64>,
    log_likelihood: f64,
    evaluations: usize,
    converged: bool,
}

impl<P: Place> FittedProcess<P> {
    /// Parameters, in the order of the aliases.
    pub fn parameters(&self) -> &[Array1<f64>] {
        &self.parameters
    }
    /// Variance of the noise.
    pub fn noise(&self) -> f64 {
        self.noise
    }
    /// The logarithm of the marginal likelihood of the values.
    pub fn log_likelihood(&self) -> f64 {
        self.log_likelihood
    }
    /// Likelihoods that a fit has computed; 1 without one.
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }
    /// Is the likelihood stationary? Of a fit: is its derivative with respect to the logarithm of each
    /// parameter and of the noise at most 1e-6 for each point, so that likelihoods of parameters
    /// nearby differ by less than can be told from the values? Otherwise a limit or rounding ended the
    /// fit, and parameters are the best that it met. Without a fit it is true.
    pub fn converged(&self) -> bool {
        self.converged
    }

    /// The gradient of the log-likelihood in the parameters, and in the noise.
    ///
    /// # Errors
    /// From the device.
    pub fn gradient(&self) -> Result<(Vec<Array1<f64>>, f64), ProcessError> {
        // ½ <α αᵀ - (K + σ²I)⁻¹, dK>.
        let mut weights = self.inverse.mapv(|v| -0.5 * v);
        for (mut row, a) in weights.outer_iter_mut().zip(&self.alpha) {
            row.scaled_add(0.5 * a, &self.alpha);
        }
        let names: Vec<&str> = self.process.parameters.iter().map(|(n, _)| n.as_str()).collect();
        let operator = self.process.bind(&self.x, &self.x, &self.parameters)?;
        let made = operator.weighted_gradient(&names, &weights)?;
        let flat = made.into_iter().map(|g| Array1::from_iter(g.iter().copied())).collect();
        Ok((flat, weights.diag().sum()))
    }

    /// Means and variances of the values without noise at points of shape (points, dimension).
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn predict(&self, z: &ArrayRef2<f64>) -> Result<(Array1<f64>, Array1<f64>), ProcessError> {
        let (cross, solved) = self.cross(z)?;
        let prior = self.process.bind(z, z, &self.parameters)?.diagonal()?;
        let known = (&cross * &solved.t()).sum_axis(NdAxis(1));
        // (Rounding may leave less than nothing where a value is known exactly.)
        let variance = (&prior.row(0) - &known).mapv(|v| v.max(0.0));
        Ok((cross.dot(&self.alpha), variance))
    }
    /// Samples of the values without noise at points, of shape (points, samples); one seed makes the
    /// same ones.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn sample(
        &self,
        z: &ArrayRef2<f64>,
        count: usize,
        seed: u64,
    ) -> Result<Array2<f64>, ProcessError> {
        let (cross, solved) = self.cross(z)?;
        let m = z.nrows();
        let operator = self.process.bind(z, z, &self.parameters)?;
        let prior = operator.rows_at(0, &(0..m).collect::<Vec<_>>())?;
        let (values, vectors) = small((&prior - &cross.dot(&solved)).view())?;
        let roots = values.mapv(|v| v.max(0.0).sqrt()).insert_axis(NdAxis(1));
        let (mut random, mut normal) = (Random::new(seed), dense(m, count, VECTOR)?);
        // Box and Muller.
        normal.mapv_inplace(|_| {
            let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
            radius * (std::f64::consts::TAU * random.unit()).cos()
        });
        let mean = cross.dot(&self.alpha).insert_axis(NdAxis(1));
        Ok((&vectors * &roots).t().dot(&normal) + mean)
    }
    /// For each value the mean and the variance, noise included, that the others predict.
    pub fn leave_one_out(&self) -> (Array1<f64>, Array1<f64>) {
        let diagonal = self.inverse.diag();
        (&self.y - &(&self.alpha / &diagonal), diagonal.mapv(|d| 1.0 / d))
    }

    /// Covariances of new points with the known ones, and the inverse's products with them.
    fn cross(&self, z: &ArrayRef2<f64>) -> Result<(Array2<f64>, Array2<f64>), ProcessError> {
        self.process.check("the points", z)?;
        let operator = self.process.bind(z, &self.x, &self.parameters)?;
        let rows = LinearOperator::range(&operator)[0];
        let cross = operator.rows_at(0, &(0..rows).collect::<Vec<_>>())?;
        let solved = solve(&self.factor, cross.t())?;
        Ok((cross, solved))
    }
}

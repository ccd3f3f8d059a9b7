//! Gaussian mixtures with full covariances, by expectation and maximisation (A. Dempster, N. Laird,
//! D. Rubin, Maximum likelihood from incomplete data via the EM algorithm, J. R. Stat. Soc. B 39,
//! 1977), with the stopping rule and the regularisation of scikit-learn.
//!
//! The density at all points is a log-sum-exp over components, and the moments that the next
//! components are made of are sums over points, of deviations from the last means.

use crate::kmeans::{Clustering, KMeans};
use crate::layout::dense;
use crate::stack::roomy;
use faer::{Mat, Side};
use keops_core::data::{Buffer, Element};
use keops_core::error::{Error, InputError};
use keops_core::genred::{AsArg, Genred, Place, Reference};
use keops_core::memory;
use keops_core::reduce::{ARG_MAX, LOG_SUM_EXP, SUM};
use keops_core::spec::Axis;
use ndarray::{Array1, Array2, Array3, Axis as NdAxis};
use std::marker::PhantomData;

const MIXTURE: &str = "a Gaussian mixture";

/// A sum of Gaussian densities.
///
/// ```
/// use keops_linalg::{GaussianMixture, Mixture};
/// let x = ndarray::array![[-1.0], [1.0], [9.0], [11.0]];
/// let mixture: GaussianMixture = GaussianMixture::new(2);
/// let Mixture { weights, means, covariances, .. } = mixture.fit(&x)?;
/// let (first, second) = if means[[0, 0]] < means[[1, 0]] { (0, 1) } else { (1, 0) };
/// assert!(means[[first, 0]].abs() < 1e-3 && (means[[second, 0]] - 10.0).abs() < 1e-3);
/// assert!((weights[0] - 0.5).abs() < 1e-3 && (covariances[[0, 0, 0]] - 1.0).abs() < 1e-3);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Mixture {
    /// Weights of the components, which add up to 1.
    pub weights: Array1<f64>,
    /// Their means, of shape (components, dimension).
    pub means: Array2<f64>,
    /// Their covariances, of shape (components, dimension, dimension).
    pub covariances: Array3<f64>,
    /// The component of each point that most likely made it.
    pub labels: Vec<usize>,
    /// The mean over points of the logarithm of the density.
    pub log_likelihood: f64,
    /// Iterations.
    pub iterations: usize,
    /// Did the last iteration change the likelihood by less than the tolerance? Else it was ended by the
    /// limit.
    pub converged: bool,
}

/// Fits mixtures of Gaussian densities.
///
/// ```
/// use keops_linalg::GaussianMixture;
/// let x = ndarray::Array2::from_shape_fn((40, 1), |(k, _)| (k % 2) as f64 * 5.0 + 0.01 * k as f64);
/// let mixture: GaussianMixture = GaussianMixture::new(2);
/// let found = mixture.fit(&x)?;
/// assert!(found.converged && (0..40).all(|k| found.labels[k] == found.labels[k % 2]));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GaussianMixture<P = Reference> {
    components: usize,
    seed: u64,
    tolerance: f64,
    regularisation: f64,
    limit: usize,
    start: Option<Vec<usize>>,
    place: PhantomData<P>,
}

/// Components as the sums take them.
struct State {
    weights: Array1<f64>,
    means: Array2<f64>,
    covariances: Array3<f64>,
    /// Inverses of the covariances, a row each, and the logarithms of the factors of the exponentials.
    precisions: Array2<f64>,
    factors: Array2<f64>,
}

impl<P: Place + Default> GaussianMixture<P> {
    /// With this many components.
    pub fn new(components: usize) -> GaussianMixture<P> {
        GaussianMixture {
            components,
            seed: 0,
            tolerance: 1e-3,
            regularisation: 1e-6,
            limit: 100,
            start: None,
            place: PhantomData,
        }
    }
    /// Of the k-means that begins; the same one in every run by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
    /// The iteration ends where the mean log-likelihood changes by less; 1e-3 by default.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }
    /// Is added to the diagonals of covariances, so that they stay positive definite; 1e-6 by default.
    pub fn regularisation(mut self, regularisation: f64) -> Self {
        self.regularisation = regularisation;
        self
    }
    /// Most iterations; 100 by default.
    pub fn max_iterations(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
    /// The component of each point to begin with, instead of the clusters of k-means.
    pub fn first_labels(mut self, labels: &[usize]) -> Self {
        self.start = Some(labels.to_vec());
        self
    }

    /// The mixture of points, of shape (points, dimension).
    ///
    /// # Errors
    /// As [`KMeans::fit`]; [`InputError::Option`] for labels that do not fit, and for a component whose
    /// covariance is not positive definite (a larger regularisation makes it so).
    pub fn fit<T: Element>(&self, points: &Array2<T>) -> Result<Mixture, Error> {
        let (n, dim) = points.dim();
        let option = |what: String| Err(Error::from(InputError::Option(what)));
        let right = |v: f64| v.is_finite() && v >= 0.0;
        if !(right(self.tolerance) && right(self.regularisation)) {
            let (a, b) = (self.tolerance, self.regularisation);
            return option(format!(
                "tolerance and regularisation are finite and at least 0, got {a} and {b}"
            ));
        }
        let means: KMeans<P> = KMeans::new(self.components).seed(self.seed);
        let labels = match &self.start {
            None => means.fit(points)?.labels,
            Some(labels) => {
                let Clustering { .. } = means.max_iterations(0).fit(points)?; // checks the points
                let wrong = labels.iter().find(|l| **l >= self.components);
                match (labels.len() == n, wrong) {
                    (false, _) => return option(format!("{} labels of {n} points", labels.len())),
                    (_, Some(l)) => {
                        return option(format!("label {l} of {} components", self.components));
                    }
                    _ => labels.clone(),
                }
            }
        };
        let sums = Sums::<P>::new(dim)?;
        // Hard labels make the first moments: means, and deviations from them.
        let k = self.components;
        let (mut counts, mut first) = (memory::filled(k, 0.0, MIXTURE)?, dense(k, dim, MIXTURE)?);
        for (row, &label) in points.rows().into_iter().zip(&labels) {
            counts[label] += 1.0;
            first.row_mut(label).iter_mut().zip(row).for_each(|(m, v)| *m += v.to_f64());
        }
        for (mut mean, count) in first.outer_iter_mut().zip(&counts) {
            mean /= if *count > 0.0 { *count } else { 1.0 };
        }
        let mut totals = dense(k, 1 + dim + dim * dim, MIXTURE)?;
        for (row, &label) in points.rows().into_iter().zip(&labels) {
            let mut own = totals.row_mut(label);
            own[0] += 1.0;
            let gap = |a: usize| row[a].to_f64() - first[[label, a]];
            for a in 0..dim {
                (0..dim).for_each(|b| own[1 + dim + a * dim + b] += gap(a) * gap(b));
            }
        }
        let mut state = self.state(&totals, &first, n)?;
        let (mut before, mut iterations, mut converged) = (f64::NEG_INFINITY, 0, false);
        while !converged && iterations < self.limit {
            iterations += 1;
            let logs = sums.logs(points, &state)?;
            totals = sums.moments(points, &state, &logs)?;
            let mean = logs.iter().map(|v| v.to_f64()).sum::<f64>() / n as f64;
            state = self.state(&totals, &state.means, n)?;
            converged = (mean - before).abs() < self.tolerance;
            before = mean;
        }
        let logs = sums.logs(points, &state)?;
        let log_likelihood = logs.iter().map(|v| v.to_f64()).sum::<f64>() / n as f64;
        let labels = sums.labels(points, &state)?;
        let State { weights, means, covariances, .. } = state;
        Ok(Mixture { weights, means, covariances, labels, log_likelihood, iterations, converged })
    }

    /// The components with these moments about the last means.
    fn state(&self, totals: &Array2<f64>, last: &Array2<f64>, n: usize) -> Result<State, Error> {
        let (k, dim) = last.dim();
        let mut state = State {
            weights: memory::filled(k, 0.0, MIXTURE)?.into(),
            means: dense(k, dim, MIXTURE)?,
            covariances: Array3::zeros((k, dim, dim)),
            precisions: dense(k, dim * dim, MIXTURE)?,
            factors: dense(k, 1, MIXTURE)?,
        };
        for (c, row) in totals.outer_iter().enumerate() {
            let fail = |what: &str| {
                let what = format!("component {c} {what}: take fewer components");
                Error::from(InputError::Option(what))
            };
            let count = row[0];
            if !(count > 0.0 && count.is_finite()) {
                return Err(fail("has no points"));
            }
            let shift: Vec<f64> = (0..dim).map(|a| row[1 + a] / count).collect();
            for a in 0..dim {
                state.means[[c, a]] = last[[c, a]] + shift[a];
                for b in 0..dim {
                    let own = row[1 + dim + a * dim + b] / count - shift[a] * shift[b];
                    let ridge = if a == b { self.regularisation } else { 0.0 };
                    state.covariances[[c, a, b]] = own + ridge;
                }
            }
            let own = state.covariances.index_axis(NdAxis(0), c);
            let own = Mat::from_fn(dim, dim, |a, b| 0.5 * (own[[a, b]] + own[[b, a]]));
            let eigen = roomy(|| own.self_adjoint_eigen(Side::Lower))?;
            let eigen = eigen.map_err(|_| fail("has a covariance that is not finite"))?;
            let mut log_det = 0.0;
            for e in 0..dim {
                let value = eigen.S()[e];
                if !(value > 0.0 && value.is_finite()) {
                    let what = "has a covariance that is not positive definite (a larger \
                                regularisation makes it so)";
                    return Err(fail(what));
                }
                log_det += value.ln();
                for a in 0..dim {
                    for b in 0..dim {
                        let entry = eigen.U()[(a, e)] * eigen.U()[(b, e)] / value;
                        state.precisions[[c, a * dim + b]] += entry;
                    }
                }
            }
            state.weights[c] = count / n as f64;
            let tau = dim as f64 * std::f64::consts::TAU.ln();
            state.factors[[c, 0]] = state.weights[c].ln() - 0.5 * (log_det + tau);
        }
        let total = state.weights.sum();
        state.weights /= total;
        Ok(state)
    }
}

/// The reductions over points and components.
struct Sums<P> {
    logs: Genred<P>,
    moments: Genred<P>,
    best: Genred<P>,
}

impl<P: Place + Default> Sums<P> {
    fn new(dim: usize) -> Result<Sums<P>, Error> {
        let mut aliases = vec![
            format!("x = Vi({dim})"),
            format!("m = Vj({dim})"),
            format!("p = Vj({})", dim * dim),
            "f = Vj(1)".into(),
        ];
        let log = "f - WeightedSqDist(p, x, m) / 2";
        let logs = Genred::new(log, &aliases, &LOG_SUM_EXP, Axis::J)?;
        let best = Genred::new(log, &aliases, &ARG_MAX, Axis::J)?;
        aliases.push("l = Vi(1)".into());
        let moments = format!("Exp({log} - l) * Concat(1, x - m, TensorProd(x - m, x - m))");
        let moments = Genred::new(&moments, &aliases, &SUM, Axis::I)?;
        Ok(Sums { logs, moments, best })
    }
    /// Logarithms of the density, of shape (points, 1).
    fn logs<T: Element>(&self, x: &Array2<T>, state: &State) -> Result<Array2<T>, Error> {
        let made = self.run(&self.logs, x, state, None)?;
        let values = made.first().map(Buffer::to_f64).unwrap_or_default();
        let own = memory::collected(values.iter().map(|v| T::of_f64(*v)), MIXTURE)?;
        match Array2::from_shape_vec((x.nrows(), 1), own) {
            Ok(own) => Ok(own),
            Err(_) => unreachable!("a number for each point"),
        }
    }
    fn moments<T: Element>(
        &self,
        x: &Array2<T>,
        state: &State,
        logs: &Array2<T>,
    ) -> Result<Array2<f64>, Error> {
        let made = self.run(&self.moments, x, state, Some(logs))?;
        let values = made.first().map(Buffer::to_f64).unwrap_or_default();
        match values.into_dimensionality() {
            Ok(own) => Ok(own),
            Err(_) => unreachable!("a row for each component"),
        }
    }
    fn labels<T: Element>(&self, x: &Array2<T>, state: &State) -> Result<Vec<usize>, Error> {
        let made = self.run(&self.best, x, state, None)?;
        let mut labels = memory::filled(x.nrows(), 0, MIXTURE)?;
        if let Some(indices) = made.first().and_then(Buffer::indices) {
            for (label, j) in labels.iter_mut().zip(indices) {
                *label = usize::try_from(*j).unwrap_or(0);
            }
        }
        Ok(labels)
    }
    fn run<T: Element>(
        &self,
        sum: &Genred<P>,
        x: &Array2<T>,
        state: &State,
        logs: Option<&Array2<T>>,
    ) -> Result<Vec<Buffer>, Error> {
        let own = |a: &Array2<f64>| a.mapv(T::of_f64);
        let (m, p, f) = (own(&state.means), own(&state.precisions), own(&state.factors));
        let mut args = vec![x.as_arg(), m.as_arg(), p.as_arg(), f.as_arg()];
        args.extend(logs.map(AsArg::as_arg));
        sum.run(&args)
    }
}

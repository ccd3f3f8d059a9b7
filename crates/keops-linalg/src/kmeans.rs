//! Clusters of points by k-means: Lloyd's iteration (S. Lloyd, Least squares quantization in PCM, IEEE
//! Trans. Inf. Theory 28, 1982), started by k-means++ (D. Arthur, S. Vassilvitskii, k-means++: the
//! advantages of careful seeding, SODA 2007).
//!
//! Which centre is nearest is one search of all points; means are summed in f64.

use keops_core::data::{Buffer, Element};
use keops_core::error::{Error, InputError};
use keops_core::genred::{AsArg, Genred, Place, Reference};
use keops_core::memory;
use keops_core::random::Random;
use keops_core::reduce::MIN_ARG_MIN;
use keops_core::spec::Axis;
use ndarray::{Array2, Axis as NdAxis};
use std::marker::PhantomData;

const LABELS: &str = "labels of points";

/// What k-means found.
///
/// ```
/// use keops_linalg::{Clustering, KMeans};
/// let x = ndarray::array![[0.0], [1.0], [10.0], [12.0]];
/// let means: KMeans = KMeans::new(2).first_centres(&ndarray::array![[0.0], [1.0]]);
/// let Clustering { centres, labels, inertia, .. } = means.fit(&x)?;
/// assert_eq!((centres, labels), (ndarray::array![[0.5], [11.0]], vec![0, 0, 1, 1]));
/// assert_eq!(inertia, 2.5);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Clustering<T> {
    /// The centres, of shape (clusters, components).
    pub centres: Array2<T>,
    /// The cluster of each point: the nearest centre, of those as near the first one.
    pub labels: Vec<usize>,
    /// The sum over points of squared distances to their centres, or of `1 - cos` of the angles.
    pub inertia: f64,
    /// Iterations.
    pub iterations: usize,
    /// Has the last iteration changed no label? Else it was ended by the limit.
    pub converged: bool,
}

/// Clusters points so that the sum of squared distances to the mean of their cluster is small.
///
/// ```
/// use keops_linalg::KMeans;
/// let x = ndarray::array![[0.0, 0.0], [0.0, 1.0], [10.0, 0.0], [10.0, 1.0]];
/// let means: KMeans = KMeans::new(2);
/// let found = means.fit(&x)?;
/// assert!(found.converged && found.labels[0] == found.labels[1]);
/// assert_eq!(found.inertia, 1.0); // four times 1/4
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct KMeans<P = Reference> {
    clusters: usize,
    cosine: bool,
    seed: u64,
    limit: usize,
    start: Option<Array2<f64>>,
    place: PhantomData<P>,
}

impl<P: Place + Default> KMeans<P> {
    /// With this many clusters.
    pub fn new(clusters: usize) -> KMeans<P> {
        let place = PhantomData;
        KMeans { clusters, cosine: false, seed: 0, limit: 300, start: None, place }
    }
    /// By angles: points and centres are normalised (spherical k-means).
    pub fn cosine(mut self) -> Self {
        self.cosine = true;
        self
    }
    /// Of the first centres; the same ones in every run by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
    /// Most iterations; 300 by default.
    pub fn max_iterations(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
    /// Where to begin, of shape (clusters, components), instead of k-means++.
    pub fn first_centres<T: Element>(mut self, centres: &Array2<T>) -> Self {
        self.start = Some(centres.mapv(Element::to_f64));
        self
    }

    /// The clusters of points, of shape (points, components).
    ///
    /// # Errors
    /// [`InputError::Option`] for more clusters than points, or none; for points without columns, that
    /// are not finite, or have no direction where angles are asked for; [`InputError::Shape`] for first centres of another
    /// shape; from the device.
    pub fn fit<T: Element>(&self, points: &Array2<T>) -> Result<Clustering<T>, Error> {
        let (n, dim) = points.dim();
        let option = |what: String| Err(Error::from(InputError::Option(what)));
        if self.clusters == 0 || self.clusters > n {
            return option(format!("{} clusters of {n} points", self.clusters));
        }
        if dim == 0 {
            return option(format!("points of shape ({n}, 0): expected one column at least"));
        }
        let finite = |row: &ndarray::ArrayView1<'_, T>| row.iter().all(|v| v.to_f64().is_finite());
        if let Some(k) = points.rows().into_iter().position(|row| !finite(&row)) {
            return option(format!("point {k} is not finite"));
        }
        let mut x = memory::collected(points.iter().map(|v| v.to_f64()), "points")?;
        if self.cosine {
            for (k, row) in x.chunks_mut(dim.max(1)).enumerate() {
                if !normalise(row) {
                    return option(format!("point {k} is zero: it has no direction"));
                }
            }
        }
        let Ok(x) = Array2::from_shape_vec((n, dim), x) else {
            unreachable!("as many numbers as entries")
        };
        let mut centres = match &self.start {
            Some(start) if start.dim() == (self.clusters, dim) => start.clone(),
            Some(start) => {
                let (name, got) = ("first centres".into(), start.shape().to_vec());
                let expected = format!("({}, {dim})", self.clusters);
                return Err(InputError::Shape { name, expected, got }.into());
            }
            None => self.seeds(&x)?,
        };
        if let Some(k) = centres.rows().into_iter().position(|r| r.iter().any(|v| !v.is_finite())) {
            return option(format!("first centre {k} is not finite"));
        }
        if self.cosine {
            centres.rows_mut().into_iter().for_each(|mut r| {
                if let Some(own) = r.as_slice_mut() {
                    normalise(own);
                }
            });
        }
        self.lloyd(&x, centres)
    }

    /// First centres: the first is any point, others with probabilities proportional to the squared
    /// distance from the nearest so far.
    fn seeds(&self, x: &Array2<f64>) -> Result<Array2<f64>, Error> {
        let n = x.nrows();
        let mut random = Random::new(self.seed);
        let mut near = memory::filled(n, f64::INFINITY, LABELS)?;
        let mut chosen = memory::room(self.clusters, LABELS)?;
        let mut next = random.below(n);
        loop {
            chosen.push(next);
            if chosen.len() == self.clusters {
                return Ok(x.select(NdAxis(0), &chosen));
            }
            let own = x.row(next);
            for (near, row) in near.iter_mut().zip(x.rows()) {
                let d = row.iter().zip(own).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
                *near = near.min(d);
            }
            let mut target = random.unit() * near.iter().sum::<f64>();
            let reached = |d: &f64| {
                target -= d;
                target < 0.0 && *d > 0.0
            };
            // (Of points that all coincide with centres, any one; rounding may leave the last.)
            let last = || near.iter().rposition(|d| *d > 0.0).unwrap_or(chosen.len());
            next = near.iter().position(reached).unwrap_or_else(last);
        }
    }

    fn lloyd<T: Element>(
        &self,
        x: &Array2<f64>,
        mut centres: Array2<f64>,
    ) -> Result<Clustering<T>, Error> {
        let (n, dim) = x.dim();
        let points = x.mapv(T::of_f64);
        let (x_alias, y_alias) = (format!("x = Vi({dim})"), format!("y = Vj({dim})"));
        let formula = if self.cosine { "1 - (x | y)" } else { "SqDist(x, y)" };
        let nearest: Genred<P> = Genred::new(formula, [&x_alias, &y_alias], &MIN_ARG_MIN, Axis::J)?;
        let mut labels = vec![];
        let mut iterations = 0;
        loop {
            let own = centres.mapv(T::of_f64);
            let results = nearest.run(&[points.as_arg(), own.as_arg()])?;
            let mut now = memory::filled(n, 0, LABELS)?;
            let mut distances = memory::filled(n, 0.0, LABELS)?;
            for result in &results {
                match result.indices() {
                    Some(indices) => now.iter_mut().zip(indices).for_each(|(l, j)| {
                        *l = usize::try_from(*j).unwrap_or(0);
                    }),
                    None => {
                        let values = Buffer::to_f64(result);
                        distances.iter_mut().zip(&values).for_each(|(d, v)| *d = *v);
                    }
                }
            }
            let converged = now == labels;
            if converged || iterations == self.limit {
                let inertia = distances.iter().sum();
                let centres = own;
                return Ok(Clustering { centres, labels: now, inertia, iterations, converged });
            }
            iterations += 1;
            labels.clone_from(&now);
            self.fill(&mut now, &mut distances)?;
            self.means(x, &now, &mut centres)?;
        }
    }

    /// Clusters without points take those that are farthest from their centres.
    fn fill(&self, labels: &mut [usize], distances: &mut [f64]) -> Result<(), Error> {
        let mut counts = memory::filled(self.clusters, 0usize, LABELS)?;
        labels.iter().for_each(|l| counts[*l] += 1);
        for cluster in 0..self.clusters {
            if counts[cluster] > 0 {
                continue;
            }
            let spare = (0..labels.len()).filter(|&k| counts[labels[k]] > 1);
            let farthest = spare.max_by(|&a, &b| distances[a].total_cmp(&distances[b]));
            if let Some(k) = farthest {
                counts[labels[k]] -= 1;
                (labels[k], counts[cluster], distances[k]) = (cluster, 1, 0.0);
            }
        }
        Ok(())
    }

    fn means(
        &self,
        x: &Array2<f64>,
        labels: &[usize],
        centres: &mut Array2<f64>,
    ) -> Result<(), Error> {
        let mut sums = crate::layout::dense(self.clusters, x.ncols(), "centres")?;
        let mut counts = memory::filled(self.clusters, 0usize, LABELS)?;
        for (row, &label) in x.rows().into_iter().zip(labels) {
            let mut sum = sums.row_mut(label);
            sum += &row;
            counts[label] += 1;
        }
        for ((mut centre, sum), &count) in
            centres.rows_mut().into_iter().zip(sums.rows()).zip(&counts)
        {
            let mut mean = sum.to_owned();
            if count > 0 {
                mean /= count as f64;
            }
            let kept = count == 0 || (self.cosine && !mean.as_slice_mut().is_some_and(normalise));
            // (Directions that cancel have no mean.)
            if !kept {
                centre.assign(&mean);
            }
        }
        Ok(())
    }
}

/// Divides by the norm; `false` where that is 0.
fn normalise(row: &mut [f64]) -> bool {
    let largest = row.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if largest == 0.0 {
        return false;
    }
    row.iter_mut().for_each(|v| *v /= largest);
    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
    row.iter_mut().for_each(|v| *v /= norm);
    true
}

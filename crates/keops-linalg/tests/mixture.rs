//! Gaussian mixtures from the same start as scikit-learn's, the likelihood rising, and what goes wrong.
//! Expected values: scripts/golden/krylov.py.

mod common;
use common::*;
use keops_linalg::{GaussianMixture, Mixture};
use ndarray::{Array1, Array2, Ix1, Ix2, Ix3, array, s};

fn labels() -> Vec<usize> {
    golden::<Ix1>("mixture_labels").iter().map(|l| *l as usize).collect()
}
/// The mean log-density of points, by inverses in two dimensions.
fn likelihood(x: &Array2<f64>, mixture: &Mixture) -> f64 {
    let density = |i: usize, k: usize| {
        let (d, c) = (&x.row(i) - &mixture.means.row(k), mixture.covariances.slice(s![k, .., ..]));
        let det = c[[0, 0]] * c[[1, 1]] - c[[0, 1]] * c[[1, 0]];
        let form =
            c[[1, 1]] * d[0] * d[0] + c[[0, 0]] * d[1] * d[1] - 2.0 * c[[0, 1]] * d[0] * d[1];
        mixture.weights[k] * (-0.5 * form / det).exp() / (std::f64::consts::TAU * det.sqrt())
    };
    let log = |i: usize| (0..mixture.weights.len()).map(|k| density(i, k)).sum::<f64>().ln();
    (0..x.nrows()).map(log).sum::<f64>() / x.nrows() as f64
}

#[test]
fn as_scikit_learn_from_the_same_start() {
    let x = golden::<Ix2>("mixture_points");
    let mixture: GaussianMixture = GaussianMixture::new(3).first_labels(&labels());
    let found = mixture.clone().tolerance(1e-8).max_iterations(1000).fit(&x).unwrap();
    let want = golden::<Ix1>("mixture_likelihood");
    assert!(found.converged && found.iterations == want[1] as usize, "{}", found.iterations);
    assert!((found.log_likelihood - want[0]).abs() < 1e-10);
    assert!(distance(&found.weights, &golden::<Ix1>("mixture_weights")) < 1e-8);
    assert!(distance(&found.means, &golden::<Ix2>("mixture_means")) < 1e-8);
    assert!(distance(&found.covariances, &golden::<Ix3>("mixture_covariances")) < 1e-8);
    assert!((likelihood(&x, &found) - found.log_likelihood).abs() < 1e-12);
    // f32, far from the origin.
    let far = x.mapv(|v| (v + 64.0) as f32);
    let single = mixture.clone().tolerance(1e-5).max_iterations(1000).fit(&far).unwrap();
    assert!((single.log_likelihood - want[0]).abs() < 2e-2, "{}", single.log_likelihood);
    // The likelihood rises with each iteration.
    let mut before = f64::NEG_INFINITY;
    for limit in 0..30 {
        let now = mixture.clone().tolerance(0.0).max_iterations(limit).fit(&x).unwrap();
        assert!(now.log_likelihood >= before - 1e-9 && now.iterations == limit && !now.converged);
        before = now.log_likelihood;
    }
}

#[test]
fn components_and_errors() {
    let mut random = Random::new(5);
    // Two far blobs, with weights, found from k-means; one component has the moments of all.
    let x = Array2::from_shape_fn((200, 2), |(k, _)| {
        random.normal() + if k % 4 == 0 { 50.0 } else { 0.0 }
    });
    let two: GaussianMixture = GaussianMixture::new(2);
    let found = two.fit(&x).unwrap();
    assert!((0..200).all(|k| (found.labels[k] == found.labels[0]) == (k % 4 == 0)));
    assert!((found.weights[found.labels[0]] - 0.25).abs() < 1e-9);
    let one: GaussianMixture = GaussianMixture::new(1).regularisation(0.0);
    let found = one.fit(&x).unwrap();
    let mean = x.mean_axis(ndarray::Axis(0)).unwrap();
    let gap = &x - &mean;
    assert!(distance(&found.means, &mean) < 1e-12);
    assert!(distance(&found.covariances, &(gap.t().dot(&gap) / 200.0)) < 1e-12);
    assert!((likelihood(&x, &found) - found.log_likelihood).abs() < 1e-12);
    let says = |mixture: GaussianMixture, x: &Array2<f64>, what: &str| {
        let e = mixture.fit(x).unwrap_err().to_string();
        assert!(e.contains(what), "{e}");
    };
    let same = Array2::<f64>::ones((5, 2));
    says(GaussianMixture::new(1).regularisation(0.0), &same, "not positive definite");
    says(GaussianMixture::new(6), &same, "6 clusters of 5 points");
    says(GaussianMixture::new(2).first_labels(&[0; 4]), &same, "4 labels of 5 points");
    says(GaussianMixture::new(2).first_labels(&[2; 5]), &same, "label 2 of 2 components");
    says(GaussianMixture::new(2).first_labels(&[1; 5]), &same, "component 0 has no points");
    says(GaussianMixture::new(1).tolerance(-1.0), &same, "at least 0");
    says(GaussianMixture::new(1), &array![[f64::NAN, 1.0]], "point 0 is not finite");
    let line = Array1::from_shape_fn(40, |k| k as f64).insert_axis(ndarray::Axis(1));
    let one: GaussianMixture = GaussianMixture::new(1);
    assert!((one.fit(&line).unwrap().covariances[[0, 0, 0]] - 133.25 - 1e-6).abs() < 1e-9);
}

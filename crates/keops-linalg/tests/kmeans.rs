//! k-means from the same start as a reference in NumPy (which scikit-learn agrees with), fixed points,
//! seeds, empty clusters, and what goes wrong. Expected values: scripts/golden/krylov.py.

mod common;
use common::*;
use keops_linalg::{Clustering, KMeans};
use ndarray::{Array1, Array2, Axis, Ix1, Ix2, array, s};
use proptest::prelude::*;

fn squares(x: &Array2<f64>, centres: &Array2<f64>) -> Array2<f64> {
    Array2::from_shape_fn((x.nrows(), centres.nrows()), |(i, k)| {
        let d = &x.row(i) - &centres.row(k);
        d.dot(&d)
    })
}

#[test]
fn as_scikit_learn_from_the_same_start() {
    let x = golden::<Ix2>("x");
    let first = x.slice(s![..5, ..]).to_owned();
    let means: KMeans = KMeans::new(5).first_centres(&first);
    let found = means.fit(&x).unwrap();
    assert!(found.converged && found.iterations > 1);
    assert!(distance(&found.centres, &golden::<Ix2>("kmeans_centres")) < 1e-12);
    assert!((found.inertia / golden::<Ix1>("kmeans_inertia")[0] - 1.0).abs() < 1e-12);
    let single = means.fit(&x.mapv(|v| v as f32)).unwrap();
    assert!((single.inertia / found.inertia - 1.0).abs() < 1e-5);
    // By angles.
    let x = x - 0.5;
    let means: KMeans = KMeans::new(5).cosine().first_centres(&x.slice(s![..5, ..]).to_owned());
    let found = means.fit(&x).unwrap();
    assert!(distance(&found.centres, &golden::<Ix2>("kmeans_cosine_centres")) < 1e-12);
    assert!((found.inertia / golden::<Ix1>("kmeans_cosine_inertia")[0] - 1.0).abs() < 1e-9);
    let longer = Array1::from_shape_fn(80, |k| 1.0 + k as f64).insert_axis(Axis(1));
    assert_eq!(means.fit(&(&x * &longer)).unwrap().labels, found.labels); // lengths are nothing to it
}

/// Blobs far from each other are found whatever the seed, as k-means++ spreads its centres.
#[test]
fn seeds_spread() {
    let mut random = Random::new(8);
    let x = Array2::from_shape_fn((90, 2), |(k, c)| {
        let blob = k % 6;
        let centre = if c == 0 { (blob % 3) as f64 } else { (blob / 3) as f64 };
        1000.0 * centre + random.next()
    });
    for seed in 0..20 {
        let means: KMeans = KMeans::new(6).seed(seed);
        let found = means.fit(&x).unwrap();
        assert!((0..90).all(|k| found.labels[k] == found.labels[k % 6]), "{seed}");
        assert!(found.inertia < 90.0 && found.converged);
    }
}

#[test]
fn empty_clusters_limits_and_errors() {
    // The third centre is far from all: it takes the farthest point.
    let x = array![[0.0], [1.0], [2.0], [9.0]];
    let means: KMeans = KMeans::new(3).first_centres(&array![[0.0], [2.0], [1e6]]);
    let found = means.fit(&x).unwrap();
    assert_eq!(found.labels[3], 2);
    assert_eq!((found.inertia, found.centres[[2, 0]]), (0.5, 9.0));
    // Points that coincide: fewer places than clusters.
    let same: KMeans = KMeans::new(3);
    assert_eq!(same.fit(&Array2::<f64>::ones((4, 2))).unwrap().inertia, 0.0);
    let none = KMeans::<keops_core::genred::Reference>::new(2).max_iterations(0);
    let found = none.first_centres(&array![[0.0], [2.0]]).fit(&x).unwrap();
    assert_eq!((found.iterations, found.converged, found.labels), (0, false, vec![0, 0, 1, 1]));
    let says = |means: KMeans, x: &Array2<f64>, what: &str| {
        let e = means.fit(x).unwrap_err().to_string();
        assert!(e.contains(what), "{e}");
    };
    says(KMeans::new(0), &x, "0 clusters of 4 points");
    says(KMeans::new(5), &x, "5 clusters of 4 points");
    says(KMeans::new(2).first_centres(&x), &x, "first centres");
    says(KMeans::new(1).first_centres(&array![[f64::NAN]]), &x, "first centre 0 is not finite");
    says(KMeans::new(1), &array![[1.0], [f64::INFINITY]], "point 1 is not finite");
    let flat = Array2::zeros((4, 0));
    says(KMeans::new(1), &flat, "points of shape (4, 0): expected one column at least");
    says(KMeans::new(1).cosine(), &array![[1.0], [0.0]], "point 1 is zero");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Labels are those of nearest centres, centres means of their points, and the inertia is that of
    /// both, below that of the first centres; a shift of all points shifts the centres.
    #[test]
    fn fixed_points(seed in 0u64..1000, n in 2usize..60, k in 1usize..6) {
        let mut random = Random::new(seed);
        let (x, k) = (random.matrix(n, 3), k.min(n));
        let first = x.slice(s![..k, ..]).to_owned();
        let means: KMeans = KMeans::new(k).first_centres(&first);
        let Clustering { centres, labels, inertia, converged, .. } = means.fit(&x).unwrap();
        prop_assert!(converged);
        let d = squares(&x, &centres);
        for (i, row) in d.rows().into_iter().enumerate() {
            prop_assert!(row.iter().all(|v| row[labels[i]] <= v + 1e-14));
        }
        let own: f64 = (0..n).map(|i| d[[i, labels[i]]]).sum();
        prop_assert!((own - inertia).abs() < 1e-12);
        let before = squares(&x, &first).rows().into_iter().map(|r| r.iter().fold(f64::INFINITY, |m, v| m.min(*v))).sum::<f64>();
        prop_assert!(inertia <= before + 1e-12);
        for c in 0..k {
            let members: Vec<usize> = (0..n).filter(|i| labels[*i] == c).collect();
            prop_assert!(!members.is_empty());
            let mean = x.select(Axis(0), &members).mean_axis(Axis(0)).unwrap();
            prop_assert!((mean - centres.row(c)).iter().all(|g| g.abs() < 1e-13));
        }
        let moved: KMeans = KMeans::new(k).first_centres(&(&first + 8.0));
        let moved = moved.fit(&(&x + 8.0)).unwrap();
        prop_assert!((moved.inertia - inertia).abs() < 1e-9);
    }
}

//! Clusters of points against plain loops.

mod common;

use common::Random;
use keops_core::error::InputError;
use keops_core::genred::Genred;
use keops_core::ranges::{Ranges, cluster_centroids, cluster_ranges, grid_cluster, sort_clusters};
use keops_core::reduce::SUM;
use keops_core::spec::Axis;
use ndarray::{Array1, Array2, Axis as NdAxis, array, aview1, s};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of a grid against a map of cells, centres and weights against plain means.
#[test]
fn clusters_of_a_grid() {
    let mut random = Random::new(3);
    for (d, edges) in [(1, vec![0.3]), (2, vec![0.7]), (3, vec![0.5, 2.0, 0.9]), (5, vec![1.1])] {
        let n = 200;
        let x = Array2::from_shape_simple_fn((n, d), || random.within(-2.0, 2.0));
        let labels = grid_cluster(x.view(), &edges).unwrap();
        let cell = |i: usize| -> Vec<i64> {
            (0..d).map(|k| (x[[i, k]] / edges[k % edges.len()]).floor() as i64).collect()
        };
        let cells: BTreeSet<Vec<i64>> = (0..n).map(cell).collect();
        let place: BTreeMap<Vec<i64>, usize> = cells.into_iter().zip(0..).collect();
        assert!((0..n).all(|i| labels[i] == place[&cell(i)]), "{d} axes");
        // Any layout of the same points.
        let mut other = Array2::zeros((d, 2 * n));
        other.slice_mut(s![.., ..;2]).assign(&x.t());
        assert_eq!(grid_cluster(other.slice(s![.., ..;2]).t(), &edges).unwrap(), labels);
        // In single precision the cells are those of the rounded points.
        let single = x.mapv(|v| v as f32);
        let same = grid_cluster(single.mapv(f64::from).view(), &edges).unwrap();
        assert_eq!(grid_cluster(single.view(), &edges).unwrap(), same);

        let weights = Array1::from_shape_simple_fn(n, || random.within(0.0, 3.0));
        let (plain, sizes) = cluster_centroids(x.view(), &labels, None).unwrap();
        let (centres, totals) = cluster_centroids(x.view(), &labels, Some(weights.view())).unwrap();
        for c in 0..place.len() {
            let rows: Vec<usize> = (0..n).filter(|&i| labels[i] == c).collect();
            assert_eq!(sizes[c], rows.len() as f64);
            let total: f64 = rows.iter().map(|&i| weights[i]).sum();
            assert!((totals[c] - total).abs() < 1e-12);
            for k in 0..d {
                let mean = rows.iter().map(|&i| x[[i, k]]).sum::<f64>() / rows.len() as f64;
                assert!((plain[[c, k]] - mean).abs() < 1e-14);
                let mean = rows.iter().map(|&i| weights[i] * x[[i, k]]).sum::<f64>() / total;
                assert!((centres[[c, k]] - mean).abs() < 1e-13);
            }
        }
    }
}

/// Cells that meet where their centres are near: the pairs that are left out do not matter.
#[test]
fn a_sum_over_near_cells() {
    let mut random = Random::new(4);
    let points = Array2::from_shape_simple_fn((300, 2), || random.within(-4.0, 4.0));
    let labels = grid_cluster(points.view(), &[0.5]).unwrap();
    let order = sort_clusters(&labels).unwrap();
    let x = points.select(NdAxis(0), &order);
    let labels: Vec<usize> = order.iter().map(|&k| labels[k]).collect();
    let rows = cluster_ranges(&labels).unwrap();
    let (centres, sizes) = cluster_centroids(x.view(), &labels, None).unwrap();
    assert_eq!(rows.iter().map(|[a, b]| (b - a) as f64).collect::<Vec<_>>(), sizes.to_vec());
    let near = |k: usize, l: usize| {
        (&centres.row(k) - &centres.row(l)).mapv(|v| v * v).sum() < 4f64.powi(2)
    };
    let ranges = Ranges::where_clusters(&rows, &rows, near).unwrap();
    assert!(ranges.pairs() < 300 * 300 * 2 / 3, "{}", ranges.pairs());
    let gauss: Genred =
        Genred::new("Exp(-4*SqDist(x, y))", ["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J).unwrap();
    let all = gauss.call((&x, &x)).unwrap();
    let some = gauss.ranges(ranges).call((&x, &x)).unwrap();
    // Points are within 0.71 of their centres: what is left out is beyond 4 - 1.42.
    let bound = 300.0 * (-4.0 * 2.58f64.powi(2)).exp();
    assert!(all.iter().zip(&some).all(|(a, s)| (a - s).abs() <= bound));
}

#[test]
fn clusters_of_anything() {
    let text = |e: Result<Vec<usize>, InputError>| e.unwrap_err().to_string();
    let x = array![[0.0, 1.0], [2.0, 3.0]];
    let at = |v: f64, edge: f64| {
        let mut x = x.clone();
        x[[1, 0]] = v;
        grid_cluster(x.view(), &[edge, 1.0])
    };
    assert_eq!(at(-0.0, 1.0).unwrap(), [0, 1]);
    assert_eq!(at(-1e-300, 1.0).unwrap(), [1, 0]);
    assert_eq!(at(1e300, 1e290).unwrap(), [0, 1]);
    assert_eq!(text(at(f64::NAN, 1.0)), "ranges: coordinate 0 of row 1 is NaN: no cell of edge 1");
    for (v, edge) in [(f64::INFINITY, 1.0), (1e300, 1.0), (-1e19, 1.0), (1.0, 5e-324)] {
        assert!(text(at(v, edge)).contains("coordinate 0 of row 1"), "{v}, {edge}");
    }
    for edge in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(text(at(0.0, edge)).contains("expected a positive number"), "{edge}");
    }
    assert!(text(grid_cluster(x.view(), &[1.0; 3])).contains("expected 1 or 2"));
    assert!(text(grid_cluster(x.view(), &[])).contains("0 edges"));
    let none = Array2::<f64>::zeros((0, 3));
    assert!(grid_cluster(none.view(), &[1.0]).unwrap().is_empty());
    assert_eq!(cluster_centroids(none.view(), &[], None).unwrap().0.dim(), (0, 3));
    assert_eq!(grid_cluster(Array2::<f32>::zeros((2, 0)).view(), &[1.0]).unwrap(), [0, 0]);

    // Centres of huge points and weights, and of weight 0.
    let huge = array![[f64::MAX], [f64::MAX], [-f64::MAX]];
    let centre = |labels: &[usize], w: [f64; 3]| {
        let weights = aview1(&w);
        let made = cluster_centroids(huge.view(), labels, Some(weights)).unwrap();
        (made.0[[0, 0]], made.1[0])
    };
    assert_eq!(centre(&[0, 0, 1], [1.0; 3]), (f64::MAX, 2.0));
    assert_eq!(centre(&[0, 0, 1], [1e308, 1e308, 0.0]), (f64::MAX, f64::INFINITY));
    assert_eq!(centre(&[0, 1, 0], [2.0, 1.0, 2.0]), (0.0, 4.0));
    assert_eq!(centre(&[0, 0, 0], [0.0, 0.0, 5e-324]), (-f64::MAX, 5e-324));
    assert_eq!(centre(&[0, 1, 0], [0.0; 3]), (0.0, 0.0));
    let refused = |x: &Array2<f64>, labels: &[usize], w: Option<&[f64]>| {
        let made = cluster_centroids(x.view(), labels, w.map(aview1));
        made.unwrap_err().to_string()
    };
    assert!(refused(&x, &[0], None).contains("1 labels of 2 points"));
    assert!(refused(&x, &[0, 0], Some(&[1.0])).contains("1 weights of 2 points"));
    assert!(refused(&x, &[0, usize::MAX], None).contains("too large"));
    for w in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(refused(&x, &[0, 0], Some(&[1.0, w])).contains("the weight of row 1"));
    }
    assert!(refused(&array![[f64::NAN]], &[0], None).contains("coordinate 0 of row 0 is NaN"));
}

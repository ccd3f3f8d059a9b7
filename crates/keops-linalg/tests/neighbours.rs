//! Neighbour graphs beside sorted lists of all distances, with ties, other metrics and types.

#![cfg(feature = "sprs")]

mod common;
use common::*;
use keops_linalg::Neighbours;
use ndarray::{Array2, array};
use proptest::prelude::*;
use sprs::CsMat;

const POINTS: [&str; 2] = ["x = Vi(2)", "y = Vj(2)"];
fn metric(formula: &str) -> Neighbours {
    Neighbours::new(formula, POINTS).unwrap()
}
fn edges(graph: &CsMat<f64>) -> Vec<(usize, usize, f64)> {
    graph.iter().map(|(d, (i, j))| (i, j, *d)).collect()
}
/// All pairs of each row that are wanted, ordered by distance and index, then cut, then by columns.
fn expected(
    x: &Array2<f64>,
    y: &Array2<f64>,
    distance: impl Fn(usize, usize) -> f64,
    itself: bool,
    keep: impl Fn(usize, f64) -> bool,
) -> Vec<(usize, usize, f64)> {
    let mut all = vec![];
    for i in 0..x.nrows() {
        let own = (0..y.nrows()).filter(|j| itself || i != *j);
        let mut own: Vec<_> = own.map(|j| (distance(i, j), j)).collect();
        own.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut own: Vec<_> =
            own.iter().enumerate().filter(|(k, (d, _))| keep(*k, *d)).map(|(_, e)| *e).collect();
        own.sort_by_key(|e| e.1);
        all.extend(own.iter().map(|&(d, j)| (i, j, d)));
    }
    all
}
/// On a lattice, where there are many ties, and points coincide.
fn lattice(random: &mut Random, n: usize) -> Array2<f64> {
    Array2::from_shape_simple_fn((n, 2), || (5.0 * random.next()).floor())
}
fn manhattan(x: &Array2<f64>, y: &Array2<f64>) -> impl Fn(usize, usize) -> f64 {
    |i, j| (&x.row(i) - &y.row(j)).mapv(f64::abs).sum()
}

#[test]
fn ties_go_to_the_smallest_index() {
    let x = array![[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 0.0]];
    let squares = metric("SqDist(x, y)");
    let graph = squares.nearest(3, (&x, &x)).unwrap();
    let row = |graph: &CsMat<f64>, i| {
        edges(graph).iter().filter(|e| e.0 == i).map(|e| e.1).collect::<Vec<_>>()
    };
    assert_eq!(row(&graph, 0), [0, 1, 4]);
    assert_eq!(row(&graph, 4), [0, 1, 4]);
    let others = squares.clone().excluding_self();
    // Of points that coincide, only the own one is left out, wherever it stands.
    let graph = others.nearest(2, (&x, &x)).unwrap();
    assert_eq!((row(&graph, 0), row(&graph, 4)), (vec![1, 4], vec![0, 1]));
    let graph = others.within(1.0, (&x, &x)).unwrap();
    assert_eq!((row(&graph, 0), row(&graph, 4)), (vec![1, 2, 3, 4], vec![0, 1, 2, 3]));
    assert_eq!(graph.get(0, 4), Some(&0.0)); // stored
    assert_eq!((graph.shape(), graph.is_csr()), ((5, 5), true));
    // More than there are; none; nothing.
    assert_eq!(squares.nearest(9, (&x, &x)).unwrap().nnz(), 25);
    assert_eq!(others.nearest(9, (&x, &x)).unwrap().nnz(), 20);
    assert_eq!(others.nearest(0, (&x, &x)).unwrap().nnz(), 0);
    assert_eq!(squares.within(-1.0, (&x, &x)).unwrap().nnz(), 0);
    assert_eq!(squares.within(f64::INFINITY, (&x, &x)).unwrap().nnz(), 25);
    let none = Array2::<f64>::zeros((0, 2));
    assert_eq!(squares.nearest(2, (&x, &none)).unwrap().shape(), (5, 0));
    assert_eq!(squares.within(1.0, (&none, &x)).unwrap().shape(), (0, 5));
}

#[test]
fn metrics_types_and_errors() {
    let mut random = Random::new(3);
    let (x, y) = (random.matrix(30, 2), random.matrix(40, 2));
    // A metric with a parameter and row numbers, which may not be those of a group of rows.
    let aliases = ["x = Vi(2)", "y = Vj(2)", "s = Pm(1)"];
    let numbered: Neighbours = Neighbours::new("s * Norm2(x - y) + (i == j)", aliases).unwrap();
    let norm = |i: usize, j: usize| {
        let d = &x.row(i) - &y.row(j);
        2.0 * d.dot(&d).sqrt() + f64::from(i == j)
    };
    let want = expected(&x, &y, norm, true, |_, d| d <= 0.5);
    let graph = numbered.within(0.5, (&x, &y, &array![2.0])).unwrap();
    let counts: Vec<usize> = (0..30).map(|i| want.iter().filter(|e| e.0 == i).count()).collect();
    assert!(counts.iter().min() != counts.iter().max());
    assert_eq!(edges(&graph).len(), want.len());
    for (own, want) in edges(&graph).iter().zip(&want) {
        assert!((own.0, own.1) == (want.0, want.1) && (own.2 - want.2).abs() < 1e-14);
    }
    // f32, and points of one component without their axis.
    let line: Neighbours = Neighbours::new("Abs(x - y)", ["x = Vi(1)", "y = Vj(1)"]).unwrap();
    let t = array![0.0f32, 0.25, 0.75, 1.0];
    let graph = line.clone().excluding_self().within(0.25, (&t, &t)).unwrap();
    assert_eq!(edges(&graph), [(0, 1, 0.25), (1, 0, 0.25), (2, 3, 0.25), (3, 2, 0.25)]);
    // NaN is near nothing.
    let t = array![0.0, f64::NAN, 1.0];
    assert_eq!(edges(&line.nearest(2, (&t, &t)).unwrap()).len(), 4);
    assert_eq!(edges(&line.within(0.5, (&t, &t)).unwrap()), [(0, 0, 0.0), (2, 2, 0.0)]);
    // What does not fit.
    let says =
        |e: keops_core::error::Error, what: &str| assert!(e.to_string().contains(what), "{e}");
    says(Neighbours::<keops_core::genred::Reference>::new("x", ["x = Vi(1)"]).unwrap_err(), "Vj");
    says(metric("x - y").nearest(2, (&x, &y)).unwrap_err(), "dimension 1");
    says(metric("x - y").within(2.0, (&x, &y)).unwrap_err(), "dimension 1");
    says(metric("SqDist(x, y)").nearest(2, (&x,)).unwrap_err(), "2 arguments expected, got 1");
    says(metric("SqDist(x, y)").within(f64::NAN, (&x, &y)).unwrap_err(), "NaN");
    says(metric("SqDist(x, y)").excluding_self().nearest(2, (&x, &y)).unwrap_err(), "30 and 40");
    let batch = random.array(&[2, 4, 2]);
    says(metric("SqDist(x, y)").nearest(2, (&batch, &batch)).unwrap_err(), "without batches");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn as_sorted_lists_have_it(
        seed in 0u64..1000, n in 1usize..40, m in 1usize..40, k in 1usize..8, radius in 0usize..9,
        same in any::<bool>(),
    ) {
        let mut random = Random::new(seed);
        let x = lattice(&mut random, n);
        let y = if same { x.clone() } else { lattice(&mut random, m) };
        let search = metric("Sum(Abs(x - y))");
        let search = if same { search.excluding_self() } else { search };
        let want = expected(&x, &y, manhattan(&x, &y), !same, |rank, _| rank < k);
        prop_assert_eq!(edges(&search.nearest(k, (&x, &y)).unwrap()), want);
        let radius = radius as f64;
        let want = expected(&x, &y, manhattan(&x, &y), !same, |_, d| d <= radius);
        prop_assert_eq!(edges(&search.within(radius, (&x, &y)).unwrap()), want);
    }
}

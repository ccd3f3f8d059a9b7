//! Systems of symbolic matrices, and ranges from sparse ones.

mod common;
use common::*;
use keops_core::genred::Reference;
use keops_core::graph::Category;
use keops_core::lazy::LazyTensor;
use keops_core::ranges::Ranges;
use keops_core::spec::Axis;
use keops_linalg::{Solve, SolveOptions, SparseRanges};
use ndarray::{Array2, Axis as NdAxis, array};
use sprs::TriMat;

type Lazy = LazyTensor<f64, Reference>;

fn tight(ridge: f64) -> SolveOptions {
    SolveOptions { tolerance: 1e-12, ..SolveOptions::ridge(ridge) }
}

#[test]
fn systems_of_lazy_tensors_are_those_of_dense_matrices() {
    let mut random = Random::new(21);
    let (x, b) = (random.matrix(40, 2), random.matrix(40, 3));
    let k = (-3.0 * Lazy::vi(&x).sqdist(Lazy::vj(&x))).exp();
    let dense = gaussian_matrix(&x, &x, 3.0);
    let expected = cholesky_solve(&dense, 0.2, &b.view());
    let all = k.solve(&b, &tight(0.2)).unwrap().value;
    assert!(distance(&all, &expected) < 1e-10);
    let one = k.solve(&b.column(1), &tight(0.2)).unwrap().value;
    assert_eq!(one.shape(), [40]);
    assert!(distance(&one, &expected.column(1).to_owned()) < 1e-10);
    // Left uncalled, with a symbol in the matrix: called for two widths.
    let gamma = Lazy::var(0, 1, Category::Param).named("gamma");
    let open = (-Lazy::vi(&x).sqdist(Lazy::vj(&x)) * gamma).exp();
    let solver = open.system(3).unwrap();
    assert_eq!(solver.arguments(), ["gamma", "b"]);
    for g in [3.0, 5.0] {
        let a = solver.call((&array![g], &b), &tight(0.2)).unwrap().value;
        let expected = cholesky_solve(&gaussian_matrix(&x, &x, g), 0.2, &b.view());
        assert!(distance(&a, &expected) < 1e-10);
    }
    let message = |e: keops_linalg::SolveError| e.to_string();
    let e = message(open.solve(&b, &tight(0.2)).unwrap_err());
    assert!(e.contains("gamma is symbolic: `system` makes a function of it"), "{e}");
    let e = message(solver.call((&b,), &tight(0.2)).unwrap_err());
    assert!(e.contains("expected 2 arguments (gamma, b), got 1"), "{e}");
    let e = message(k.solve(&random.matrix(39, 1), &tight(0.2)).unwrap_err());
    assert!(e.contains("the right-hand side") && e.contains("[39, 1]"), "{e}");
    assert!(k.solve(&ndarray::arr0(1.0), &tight(0.2)).is_err());
    assert!(k.system(0).is_err());
    let wide = Lazy::vi(&x).sqdist(Lazy::vj(random.matrix(30, 2)));
    assert!(message(wide.solve(&b, &tight(0.2)).unwrap_err()).contains("not square"));
    assert!((Lazy::vi(&x) + Lazy::vj(random.matrix(3, 3))).solve(&b, &tight(0.2)).is_err());
}

#[test]
fn sparse_matrices_of_clusters_are_ranges() {
    let (rows, columns) = ([[0, 3], [3, 4], [4, 9]], [[0, 2], [2, 7], [7, 8], [8, 9]]);
    let pairs = [(0, 0), (0, 3), (2, 1), (2, 2), (2, 0)];
    let mut matrix = TriMat::new((3, 4));
    pairs.iter().for_each(|&(k, l)| matrix.add_triplet(k, l, 0.5));
    let dense = Array2::from_shape_fn((9, 9), |(i, j)| {
        pairs.iter().any(|&(k, l): &(usize, usize)| {
            (rows[k][0]..rows[k][1]).contains(&i) && (columns[l][0]..columns[l][1]).contains(&j)
        })
    });
    let by_rows = Ranges::from_csmat(&rows, &columns, matrix.to_csr::<usize>().view()).unwrap();
    let by_columns = Ranges::from_csmat(&rows, &columns, matrix.to_csc::<usize>().view()).unwrap();
    assert_eq!(by_rows, by_columns);
    // Sums of ones count the pairs of each row and of each column.
    let ones = Lazy::vi(Array2::ones((9, 1))) * Lazy::vj(Array2::ones((9, 1)));
    let ones = ones.ranges(by_rows.clone());
    let count = dense.mapv(f64::from);
    for (axis, other) in [(Axis::J, 1), (Axis::I, 0)] {
        let want = count.sum_axis(NdAxis(other)).insert_axis(NdAxis(1)).into_dyn();
        assert_eq!(ones.sum(axis).unwrap(), want);
    }
    let (r, c, back) = by_rows.to_csmat().unwrap();
    assert!(back.is_csr());
    let again = Ranges::from_csmat(&r, &c, back.view()).unwrap();
    assert_eq!(again, by_rows);
    let found: Vec<(usize, usize)> = back.iter().map(|(_, at)| at).collect();
    assert_eq!((r.len(), c, found.len()), (3, columns.to_vec(), pairs.len()));
    let empty = TriMat::<f64>::new((0, 0)).to_csr::<usize>();
    let none = Ranges::from_csmat(&[], &[], empty.view()).unwrap();
    assert_eq!((none.pairs(), none.to_csmat().unwrap().2.nnz()), (0, 0));
    let e = Ranges::from_csmat(&rows, &columns[..3], matrix.to_csr::<usize>().view()).unwrap_err();
    assert!(e.to_string().contains("shape (3, 4), expected (3, 3)"), "{e}");
    let overlap = [[0, 4], [3, 4], [4, 9]];
    assert!(Ranges::from_csmat(&overlap, &columns, matrix.to_csr::<usize>().view()).is_err());
}

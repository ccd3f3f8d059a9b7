//! Operators made of operators: laws, and equality with the same algebra of dense matrices.

mod common;
use common::*;
use keops_core::data::DType;
use keops_core::error::Error;
use keops_linalg::{
    AdjointOperator, Algebra, Blocks, Diag, Diagonal, KernelOperator, LinearOperator, Rows, Solver,
    Sparse, laws, to_dense,
};
use ndarray::{Array1, Array2, Array3, Axis as NdAxis, array, s};
use proptest::prelude::*;
use sprs::TriMat;

/// A dense matrix as an operator, with columns of its own.
#[derive(Clone)]
struct Dense(Array2<f64>, usize);
impl LinearOperator for Dense {
    fn domain(&self) -> [usize; 2] {
        [self.0.ncols(), self.1]
    }
    fn range(&self) -> [usize; 2] {
        [self.0.nrows(), self.1]
    }
    fn precision(&self) -> DType {
        DType::F64
    }
    fn columns_independent(&self) -> bool {
        true
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let each = v.outer_iter().map(|v| self.0.dot(&v));
        let mut out = Array3::zeros((v.dim().0, self.0.nrows(), self.1));
        each.zip(out.outer_iter_mut()).for_each(|(m, mut o)| o.assign(&m));
        Ok(out)
    }
}
impl AdjointOperator for Dense {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        Dense(self.0.t().to_owned(), self.1).apply(v)
    }
}
impl Diagonal for Dense {
    fn diagonal(&self) -> Result<Array2<f64>, Error> {
        Ok(self.0.diag().to_owned().insert_axis(NdAxis(0)))
    }
}
impl Rows for Dense {
    fn rows_at(&self, _: usize, indices: &[usize]) -> Result<Array2<f64>, Error> {
        Ok(self.0.select(NdAxis(0), indices))
    }
}

/// Obeys the laws and is that matrix.
fn is(o: &(impl AdjointOperator + ?Sized), want: &Array2<f64>, seed: u64) {
    laws::all(o, seed).unwrap();
    let got = to_dense(o).unwrap();
    assert_eq!(got.dim(), (1, want.nrows(), want.ncols()));
    let gap = (&got.index_axis(NdAxis(0), 0) - want).mapv(f64::abs);
    assert!(gap.iter().all(|g| *g < 1e-12), "{gap}");
}
fn kron(a: &Array2<f64>, b: &Array2<f64>) -> Array2<f64> {
    let ((m, n), (p, q)) = (a.dim(), b.dim());
    Array2::from_shape_fn((m * p, n * q), |(r, c)| a[[r / p, c / q]] * b[[r % p, c % q]])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn as_of_dense_matrices(n in 1usize..6, m in 1usize..6, p in 1usize..5, q in 1usize..5, dim in 1usize..3, seed: u64) {
        let mut random = Random::new(seed);
        let (a, b, c) = (random.matrix(n, m), random.matrix(n, m), random.matrix(m, p));
        let (square, other) = (random.matrix(n, n), random.matrix(p, q));
        let o = |m: &Array2<f64>| Dense(m.clone(), dim);
        is(&o(&a).plus(o(&b)).unwrap(), &(&a + &b), seed);
        is(&o(&a).times(o(&c)).unwrap(), &a.dot(&c), seed);
        is(&o(&a).scaled(-1.5), &(&a * -1.5), seed);
        let eye = Array2::<f64>::eye(n);
        let shifted = o(&square).shifted(-0.3).unwrap();
        is(&shifted, &(&square - &(&eye * 0.3)), seed);
        let d = Diag::new(Array1::from_shape_fn(n, |k| k as f64 - 0.5), dim);
        let sum = shifted.plus(&d).unwrap();
        is(&sum, &(&square - &(&eye * 0.3) + &Array2::from_diag(&d.diagonal().unwrap().row(0))), seed);
        laws::diagonal(&sum).unwrap();
        laws::rows(&sum).unwrap();
        is(&o(&a).kronecker(o(&other)).unwrap(), &kron(&a, &other), seed);
        laws::diagonal(&o(&square).kronecker(&d).unwrap()).unwrap();
        // Rows and columns, with repetition, and as a mask.
        let pick = |random: &mut Random, n: usize| -> Vec<usize> {
            (0..n).map(|_| (random.next() * n as f64) as usize).collect()
        };
        let (rows, columns) = (pick(&mut random, n), pick(&mut random, m));
        let part = a.select(NdAxis(0), &rows).select(NdAxis(1), &columns);
        is(&o(&a).restricted(rows.clone(), columns.clone()).unwrap(), &part, seed);
        laws::diagonal(&o(&square).restricted(rows.clone(), rows.clone()).unwrap()).unwrap();
        let seen = |(i, j)| if rows.contains(&i) && columns.contains(&j) { a[[i, j]] } else { 0.0 };
        let masked = Array2::from_shape_fn((n, m), seen);
        is(&o(&a).masked(rows.clone(), columns.clone()).unwrap(), &masked, seed);
        laws::diagonal(&o(&square).masked(rows.clone(), rows.clone()).unwrap()).unwrap();
        let others = pick(&mut random, n);
        laws::diagonal(&o(&square).masked(rows.clone(), others).unwrap()).unwrap();
        // [a c'; 0 other]
        let corner = random.matrix(n, q);
        let blocks: Vec<Vec<Option<Box<dyn AdjointOperator>>>> = vec![
            vec![Some(Box::new(o(&a))), Some(Box::new(o(&corner)))],
            vec![None, Some(Box::new(o(&other)))],
        ];
        let mut whole = Array2::zeros((n + p, m + q));
        whole.slice_mut(s![..n, ..m]).assign(&a);
        whole.slice_mut(s![..n, m..]).assign(&corner);
        whole.slice_mut(s![n.., m..]).assign(&other);
        is(&Blocks::new(blocks).unwrap(), &whole, seed);
        // A sparse matrix, in both storages.
        let mut triplets = TriMat::new((n, m));
        a.indexed_iter().filter(|(_, v)| **v > 0.5).for_each(|((i, j), v)| triplets.add_triplet(i, j, *v));
        let thin = a.mapv(|v| if v > 0.5 { v } else { 0.0 });
        for matrix in [triplets.to_csr(), triplets.to_csc()] {
            let sparse = Sparse::new(matrix, dim);
            is(&sparse, &thin, seed);
            laws::rows(&sparse).unwrap();
        }
    }
}

/// `2 K + S + D`: a kernel, its nearest neighbours and noise, solved and compared with Cholesky.
#[test]
fn a_kernel_plus_a_sparse_matrix() {
    let mut random = Random::new(1);
    let n = 40;
    let (x, b) = (random.matrix(n, 2), random.matrix(n, 1));
    let k_sum = gaussian(2, 1);
    let one = array![3.0];
    let k = KernelOperator::new(&k_sum, "b", (&x, &x, &one)).unwrap();
    laws::all(&k, 5).unwrap();
    laws::symmetric(&k, 5).unwrap();
    laws::diagonal(&k).unwrap();
    laws::rows(&k).unwrap();
    let mut triplets = TriMat::new((n, n));
    for i in 0..n - 1 {
        triplets.add_triplet(i, i + 1, 0.25);
        triplets.add_triplet(i + 1, i, 0.25);
    }
    let sparse: sprs::CsMat<f64> = triplets.to_csr();
    let noise = Array1::from_shape_fn(n, |i| 1.0 + i as f64 / n as f64);
    let system = (&k)
        .scaled(2.0)
        .plus(Sparse::new(sparse.clone(), 1))
        .unwrap()
        .plus(Diag::new(noise.clone(), 1))
        .unwrap();
    let dense = gaussian_matrix(&x, &x, 3.0) * 2.0 + sparse.dense() + Array2::from_diag(&noise);
    is(&system, &dense, 3);
    laws::symmetric(&system, 3).unwrap();
    laws::diagonal(&system).unwrap();
    let vector = b.clone().insert_axis(NdAxis(0));
    let operator: &dyn LinearOperator = &system;
    let (a, info) = Solver::of(operator).ridge(0.0).tolerance(1e-12).solve(&vector).unwrap();
    assert!(info.converged());
    let want = cholesky_solve(&dense, 0.0, &b.view());
    assert!(a.iter().zip(&want).all(|(a, w)| (a - w).abs() < 1e-9));
    // 1,600 pairs of a few operations, 78 entries, 40 of a diagonal: the kernel is most of it.
    let (own, kernel) = (system.cost(), k.cost());
    assert!(own.flops > kernel.flops && own.flops < 1.1 * kernel.flops);
    assert!(kernel.flops >= 1600.0 * 6.0 && kernel.flops < 1600.0 * 60.0, "{kernel:?}");
}

trait IntoDense {
    fn dense(&self) -> Array2<f64>;
}
impl IntoDense for sprs::CsMat<f64> {
    fn dense(&self) -> Array2<f64> {
        let mut all = Array2::zeros((self.rows(), self.cols()));
        self.iter().for_each(|(v, (i, j))| all[[i, j]] += v);
        all
    }
}

#[test]
fn laws_find_what_breaks_them() {
    /// Adds a constant, is not symmetric, and has another adjoint.
    struct Wrong(f64);
    impl LinearOperator for Wrong {
        fn domain(&self) -> [usize; 2] {
            [2, 1]
        }
        fn range(&self) -> [usize; 2] {
            [2, 1]
        }
        fn precision(&self) -> DType {
            DType::F64
        }
        fn columns_independent(&self) -> bool {
            true
        }
        fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
            let mut out = v.clone();
            out.swap([0, 0, 0], [0, 1, 0]);
            out[[0, 0, 0]] *= 2.0;
            Ok(out + self.0)
        }
    }
    impl AdjointOperator for Wrong {
        fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
            self.apply(v)
        }
    }
    assert!(laws::linear(&Wrong(1e-6), 1).is_err());
    laws::linear(&Wrong(0.0), 1).unwrap();
    assert!(laws::adjoint(&Wrong(0.0), 1).is_err());
    let e = laws::symmetric(&Wrong(0.0), 1).unwrap_err();
    assert!(e.to_string().starts_with("symmetric: <u, A v> = <A u, v>: the difference is"), "{e}");
}

#[test]
fn what_does_not_fit() {
    let d = |n| Diag::new(Array1::ones(n), 1);
    let e = d(2).plus(d(3)).unwrap_err().to_string();
    assert!(
        e.contains("a sum of operators: expected from [2, 1] to [2, 1], got [3, 1] to [3, 1]"),
        "{e}"
    );
    assert!(d(2).times(d(3)).is_err());
    assert!(d(2).restricted(vec![2], vec![0]).unwrap_err().to_string().contains("below 2, got 2"));
    assert!(d(2).kronecker(Diag::new(Array1::ones(2), 2)).is_err());
    assert!(Dense(Array2::ones((2, 3)), 1).shifted(1.0).is_err());
    for shift in [f64::NAN, f64::INFINITY] {
        assert!(Dense(Array2::ones((2, 2)), 1).shifted(shift).is_err());
    }
    assert!(
        Blocks::new(vec![vec![Some(d(1)), None]]).unwrap_err().to_string().contains("in column 1")
    );
    assert!(d(2).apply(&Array3::ones((1, 3, 1))).is_err());
    // More rows than a number holds, and vectors of no columns.
    let large = d(1 << 16);
    let half = (&large).kronecker(&large).unwrap();
    let e = (&half).kronecker(&half).unwrap_err().to_string();
    assert!(e.contains("got 4294967296 x 4294967296"), "{e}");
    let e = to_dense(&Diag::new(Array1::ones(2), 0)).unwrap_err().to_string();
    assert!(e.contains("at least one column, got none"), "{e}");
}

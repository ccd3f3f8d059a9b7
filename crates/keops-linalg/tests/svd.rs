//! Singular values beside SciPy's and closed forms; orthonormality, residuals and the error bound
//! recomputed. Expected values: scripts/golden/krylov.py.

mod common;
use common::*;
use faer::Mat;
use keops_core::data::DType;
use keops_core::error::Error;
use keops_core::spec::Axis;
use keops_linalg::{
    AdjointOperator, Algebra, Diag, KernelOperator, LinearOperator, SvdError, Svds,
};
use ndarray::{Array1, Array2, Array3, Axis as NdAxis, Ix1, Ix2, array, s};
use proptest::prelude::*;
use std::ops::ControlFlow;

/// A matrix and what it calls its transpose.
struct Dense(Array2<f64>, Array2<f64>);
impl LinearOperator for Dense {
    fn domain(&self) -> [usize; 2] {
        [self.0.ncols(), 1]
    }
    fn range(&self) -> [usize; 2] {
        [self.0.nrows(), 1]
    }
    fn precision(&self) -> DType {
        DType::F64
    }
    fn columns_independent(&self) -> bool {
        true
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let product: Array2<f64> = self.0.dot(&v.slice(s![0, .., ..]));
        Ok(product.insert_axis(NdAxis(0)))
    }
}
impl AdjointOperator for Dense {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let product: Array2<f64> = self.1.dot(&v.slice(s![0, .., ..]));
        Ok(product.insert_axis(NdAxis(0)))
    }
}
/// With orthonormal columns.
fn orthogonal(random: &mut Random, n: usize, m: usize) -> Array2<f64> {
    let own = Mat::from_fn(n, m, |_, _| random.normal());
    let q = own.qr().compute_thin_Q();
    Array2::from_shape_fn((n, m), |(i, j)| q[(i, j)])
}
fn norm2(a: &Array2<f64>) -> f64 {
    let own = Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]]);
    own.singular_values().unwrap().into_iter().fold(0.0, f64::max)
}

#[test]
fn singular_values_are_those_of_scipy() {
    let (x, y) = (golden::<Ix2>("x"), golden::<Ix2>("y"));
    let want = golden::<Ix1>("cross_singular");
    let dense = gaussian_matrix(&x, &y, 1.0 / 0.18);
    for columns in [1, 4] {
        let aliases = ["x = Vi(2)".into(), "y = Vj(2)".into(), format!("v = Vj({columns})")];
        let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
        let gauss = sum("Exp(-SqDist(x, y) / 0.18) * v", &aliases, Axis::J);
        let k = KernelOperator::new(&gauss, "v", (&x, &y)).unwrap();
        let svd = Svds::of(&k).rank(6).run().unwrap();
        assert!(distance(&svd.values, &want) < 1e-10, "{} and {want}", svd.values);
        assert!(svd.residuals.iter().all(|r| *r < 1e-9), "{}", svd.residuals);
        let fit = (&svd.u * &svd.values).dot(&svd.v.t());
        let left = norm2(&(&dense - &fit));
        assert!(left <= svd.error && svd.error <= 30.0 * left, "{left} {}", svd.error);
        // Passes of 16 vectors, checks of 6 and of 10.
        let passes = |vectors: usize| vectors.div_ceil(columns);
        assert_eq!(svd.products, 10 * passes(16) + passes(6) + passes(10));
        // Of the transpose, the sides are exchanged.
        let other = Svds::of(&(&k).adjoint()).rank(6).run().unwrap();
        assert!(distance(&other.values, &want) < 1e-10);
        for (u, v) in other.v.columns().into_iter().zip(svd.u.columns()) {
            assert!((u.dot(&v).abs() - 1.0).abs() < 1e-9);
        }
    }
    // f32.
    let gauss =
        sum("Exp(-SqDist(x, y) / 0.18) * v", &["x = Vi(2)", "y = Vj(2)", "v = Vj(1)"], Axis::J);
    let (x, y) = (x.mapv(|v| v as f32), y.mapv(|v| v as f32));
    let svd = Svds::of(&KernelOperator::new(&gauss, "v", (&x, &y)).unwrap()).rank(6).run().unwrap();
    assert!(distance(&svd.values, &want) < 1e-5);
}

#[test]
fn sizes_scales_and_what_goes_wrong() {
    for scale in [1e-200, 1.0, 1e200] {
        let d = Diag::new(array![1.0, -5.0, 3.0, 0.5] * scale, 1);
        let svd = Svds::of(&d).rank(2).run().unwrap();
        assert!(distance(&svd.values, &(array![5.0, 3.0] * scale)) < 1e-12);
        assert!((scale..20.0 * scale).contains(&svd.error));
    }
    let zero = Svds::of(&Diag::new(Array1::zeros(5), 1)).rank(2).run().unwrap();
    assert_eq!((zero.values, zero.error), (array![0.0, 0.0], 0.0));
    assert!((zero.u.t().dot(&zero.u) - Array2::<f64>::eye(2)).iter().all(|g| g.abs() < 1e-12));
    let d = Diag::new(array![2.0, 1.0], 1);
    assert_eq!(Svds::of(&d).rank(0).run().unwrap().u.dim(), (2, 0));
    let e = Svds::of(&d).rank(3).run().unwrap_err().to_string();
    assert_eq!(e, "3 singular values of an operator of 2 × 2 unknowns");
    let e = Svds::of(&Diag::new(array![1.0, f64::INFINITY], 1)).run().unwrap_err();
    assert!(matches!(e, SvdError::NotFinite { product: 2 }), "{e}");
    let e = Svds::of(&d).observe(|_| ControlFlow::Break(())).run().unwrap_err();
    assert!(matches!(e, SvdError::Cancelled { product: 2 }), "{e}");
    let mut random = Random::new(4);
    let (a, b) = (random.matrix(20, 15), random.matrix(15, 20));
    let e = Svds::of(&Dense(a, b)).rank(3).run().unwrap_err();
    assert!(matches!(e, SvdError::NotAdjoint { .. }), "{e}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn vectors_residuals_and_bounds(
        seed in 0u64..1000, n in 1usize..50, m in 1usize..50, rank in 1usize..8, fall in 0.1f64..2.0,
    ) {
        let mut random = Random::new(seed);
        let (less, rank) = (n.min(m), rank.min(n.min(m)));
        let values = Array1::from_shape_fn(less, |k| (-fall * k as f64).exp());
        let a = (&orthogonal(&mut random, n, less) * &values).dot(&orthogonal(&mut random, m, less).t());
        let svd = Svds::of(&Dense(a.clone(), a.t().to_owned())).rank(rank).seed(seed).run().unwrap();
        for (side, n) in [(&svd.u, n), (&svd.v, m)] {
            let gram = side.t().dot(side) - Array2::<f64>::eye(rank);
            prop_assert!(gram.iter().all(|g| g.abs() < 1e-13 * (n as f64).max(10.0)));
        }
        // Singular values of a projection are below those of the matrix.
        prop_assert!(svd.values.iter().zip(&values).all(|(s, w)| *s <= w * (1.0 + 1e-12) + 1e-14));
        let forward = a.dot(&svd.v) - &svd.u * &svd.values;
        let back = a.t().dot(&svd.u) - &svd.v * &svd.values;
        for k in 0..rank {
            let norm = |r: &Array2<f64>| r.column(k).dot(&r.column(k)).sqrt();
            prop_assert!((norm(&forward) - svd.residuals[k]).abs() < 1e-13);
            prop_assert!(norm(&back) < 1e-13);
            prop_assert!((svd.values[k] - values[k]).abs() <= svd.residuals[k] + 1e-13);
        }
        let left = norm2(&(&a - &(&svd.u * &svd.values).dot(&svd.v.t())));
        prop_assert!(left <= svd.error + 1e-14, "{left} {}", svd.error);
    }
}

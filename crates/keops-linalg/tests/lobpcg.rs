//! LOBPCG beside SciPy's values, Lanczos and closed forms, with preconditioners, and what goes wrong.
//! Expected values: scripts/golden/krylov.py.

mod common;
use common::*;
use faer::Mat;
use keops_core::data::DType;
use keops_core::error::Error;
use keops_core::spec::Axis;
use keops_linalg::{
    Diag, EigenError, EigenMethod, Eigenpairs, Eigsh, KernelOperator, LinearOperator,
    Preconditioner, Which,
};
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis as NdAxis, Ix1, Ix2, array, s};
use proptest::prelude::*;
use std::ops::ControlFlow;

fn lobpcg(operator: &dyn LinearOperator) -> Eigsh<'_> {
    Eigsh::of(operator).method(EigenMethod::Lobpcg)
}
struct Dense(Array2<f64>);
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

/// A multiple of the identity, which is given vectors in the shape of their operator.
struct Double;
impl Preconditioner for Double {
    fn apply(&self, _: usize, _: f64, r: ArrayView2<'_, f64>) -> Result<Array2<f64>, Error> {
        assert_eq!(r.dim(), (80, 2));
        Ok(&r * 2.0)
    }
}

#[test]
fn eigenvalues_are_those_of_scipy() {
    let x: Array2<f64> = golden("x");
    let gauss =
        sum("Exp(-SqDist(x, y) / 0.18) * v", &["x = Vi(2)", "y = Vj(2)", "v = Vj(1)"], Axis::J);
    let k = KernelOperator::new(&gauss, "v", (&x, &x)).unwrap();
    let pairs = lobpcg(&k).largest(5).run().unwrap();
    let want = golden::<Ix1>("gauss_largest");
    assert!(distance(&pairs.values, want.slice(s![..;-1])) < 1e-11);
    let vectors = golden::<Ix2>("gauss_vectors");
    for (own, want) in pairs.vectors.columns().into_iter().zip(vectors.columns().into_iter().rev())
    {
        assert!((own.dot(&want).abs() - 1.0).abs() < 1e-9);
    }
    assert!(pairs.residuals.iter().all(|r| *r <= 4e-11 * pairs.norm));
    let multi =
        sum("Sqrt(1 + SqDist(x, y)) * v", &["x = Vi(2)", "y = Vj(2)", "v = Vj(4)"], Axis::J);
    let k = KernelOperator::new(&multi, "v", (&x, &x)).unwrap();
    let pairs = lobpcg(&k).smallest(4).run().unwrap();
    assert!(distance(&pairs.values, &golden::<Ix1>("multi_smallest")) < 1e-10);
    // f32, and components that belong together: z zᵀ for z, all of x.
    let x32 = x.mapv(|v| v as f32);
    let pairs = lobpcg(&KernelOperator::new(&gauss, "v", (&x32, &x32)).unwrap()).largest(5).run();
    assert!(distance(&pairs.unwrap().values, want.slice(s![..;-1])) < 1e-5);
    let blocks = sum("(y | v) * x", &["x = Vi(2)", "y = Vj(2)", "v = Vj(2)"], Axis::J);
    let k = KernelOperator::new(&blocks, "v", (&x, &x)).unwrap();
    let pairs = lobpcg(&k).largest(1).preconditioner(&Double).run().unwrap();
    assert!((pairs.values[0] - x.iter().map(|v| v * v).sum::<f64>()).abs() < 1e-9);
}

/// `-u''` by differences: eigenvalues `2 - 2 cos(kπ / (n + 1))`, condition 10⁵; its inverse, by
/// elimination, as preconditioner.
struct Chain(usize);
impl LinearOperator for Chain {
    fn domain(&self) -> [usize; 2] {
        [self.0, 2]
    }
    fn range(&self) -> [usize; 2] {
        self.domain()
    }
    fn precision(&self) -> DType {
        DType::F64
    }
    fn columns_independent(&self) -> bool {
        true
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        Ok(Array3::from_shape_fn(v.dim(), |(b, k, c)| {
            let at = |k: usize| v.get([b, k, c]).copied().unwrap_or(0.0);
            2.0 * at(k) - at(k.wrapping_sub(1)) - at(k + 1)
        }))
    }
}
impl Preconditioner for Chain {
    fn apply(&self, _: usize, _: f64, r: ArrayView2<'_, f64>) -> Result<Array2<f64>, Error> {
        let mut z = r.to_owned();
        for mut z in z.columns_mut() {
            let mut pivots = vec![2.0];
            for k in 1..self.0 {
                let before = z[k - 1];
                z[k] += before / pivots[k - 1];
                pivots.push(2.0 - 1.0 / pivots[k - 1]);
            }
            for k in (0..self.0).rev() {
                let after = if k + 1 < self.0 { z[k + 1] } else { 0.0 };
                z[k] = (z[k] + after) / pivots[k];
            }
        }
        Ok(z)
    }
}

#[test]
fn a_preconditioner_saves_products() {
    let (n, chain) = (500, Chain(500));
    let want = Array1::from_shape_fn(6, |k| {
        2.0 - 2.0 * ((k + 1) as f64 * std::f64::consts::PI / (n + 1) as f64).cos()
    });
    let with = lobpcg(&chain).smallest(6).preconditioner(&chain).run().unwrap();
    assert!((&with.values - &want).iter().all(|g| g.abs() < 1e-10), "{}", with.values);
    assert!(with.residuals.iter().all(|r| *r <= 4e-11 * with.norm));
    // (Two vectors a product.)
    assert!(with.products < 120, "{}", with.products);
    let lanczos = Eigsh::of(&chain).smallest(6).run().unwrap();
    assert!(with.products * 4 < lanczos.products, "{} {}", with.products, lanczos.products);
    let without = lobpcg(&chain).smallest(6).max_products(20_000).run().unwrap();
    assert!((&without.values - &want).iter().all(|g| g.abs() < 1e-10), "{}", without.values);
    assert!(with.products * 4 < without.products, "{} {}", with.products, without.products);
    let gram = with.vectors.t().dot(&with.vectors) - Array2::<f64>::eye(6);
    assert!(gram.iter().all(|g| g.abs() < 1e-12));
}

#[test]
fn multiplicities_and_sizes() {
    let mut d = vec![3.0; 5];
    d.extend([7.0, 7.0]);
    d.extend((0..200).map(|k| k as f64 / 100.0));
    let operator = Diag::new(Array1::from(d), 1);
    let pairs = lobpcg(&operator).largest(8).run().unwrap();
    let want = [7.0, 7.0, 3.0, 3.0, 3.0, 3.0, 3.0, 1.99];
    assert!(distance(&pairs.values, &want) < 1e-10, "{}", pairs.values);
    for n in [1, 2, 5, 9] {
        let d = Diag::new(Array1::from_shape_fn(n, |k| k as f64 - 1.5), 1);
        for count in 0..=n {
            let pairs = lobpcg(&d).smallest(count).run().unwrap();
            let want = Array1::from_shape_fn(count, |k| k as f64 - 1.5);
            assert!((&pairs.values - &want).iter().all(|g| g.abs() < 1e-9), "{n} {count}");
        }
    }
    let pairs = lobpcg(&Diag::new(Array1::ones(50), 2)).largest(50).run().unwrap();
    assert!(distance(&pairs.values, &[1.0; 50]) < 1e-12);
    let zeros = lobpcg(&Diag::new(Array1::zeros(20), 1)).smallest(3).run().unwrap();
    assert_eq!(zeros.values, Array1::<f64>::zeros(3));
    for size in [1e-200, 1e200] {
        let d = Diag::new(array![size, -3.0 * size, 2.0 * size], 1);
        let pairs = lobpcg(&d).largest(2).run().unwrap();
        assert!((pairs.values[0] / size - 2.0).abs() < 1e-12, "{}", pairs.values);
    }
}

#[test]
fn what_goes_wrong_is_said() {
    let mut random = Random::new(2);
    let skew = Dense(random.matrix(50, 50));
    let e = lobpcg(&skew).largest(2).run().unwrap_err();
    assert!(matches!(e, EigenError::NotSymmetric { .. }), "{e}");
    let e = lobpcg(&Diag::new(array![1.0, f64::INFINITY, 2.0], 1)).largest(1).run().unwrap_err();
    assert!(matches!(e, EigenError::NotFinite { .. }), "{e}");
    let d = Diag::new(Array1::from_shape_fn(4000, |k| (k as f64 / 4000.0).powi(3)), 1);
    let e = lobpcg(&d).smallest(4).max_products(90).run().unwrap_err();
    let EigenError::Limit { limit: 90, wanted: 4, partial, .. } = &e else { panic!("{e}") };
    assert_eq!(partial.vectors.dim(), (4000, 4));
    let e = lobpcg(&d).smallest(4).observe(|p| match p.products > 30 {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    let e = e.run().unwrap_err();
    assert!(matches!(e, EigenError::Cancelled { product: 31.., .. }), "{e}");
    let e = lobpcg(&d).which(Which::Nearest(0.5), 1).run().unwrap_err().to_string();
    assert!(e.contains("found by EigenMethod::Lanczos"), "{e}");
    struct Bad(f64);
    impl Preconditioner for Bad {
        fn apply(&self, _: usize, _: f64, r: ArrayView2<'_, f64>) -> Result<Array2<f64>, Error> {
            Ok(if self.0.is_nan() { &r * self.0 } else { Array2::zeros((1, 1)) })
        }
    }
    for bad in [Bad(f64::NAN), Bad(1.0)] {
        let e = lobpcg(&d).smallest(2).preconditioner(&bad).run().unwrap_err().to_string();
        assert!(e.contains("result of the preconditioner"), "{e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Orthogonality stays below the threshold of LAPACK's tests, 30, for random spectra with clusters,
    /// residuals below the tolerance; values are those of Lanczos.
    #[test]
    fn ratios(seed in 0u64..1000, n in 5usize..60, count in 1usize..6, kind in 0u8..2) {
        let mut random = Random::new(seed);
        let d = Array1::from_shape_fn(n, |k| match kind {
            0 => random.normal(),
            _ => (k / 3) as f64,
        });
        let own = Mat::from_fn(n, n, |_, _| random.normal());
        let q = own.qr().compute_Q();
        let q = Array2::from_shape_fn((n, n), |(i, j)| q[(i, j)]);
        let a = (&q * &d).dot(&q.t());
        let a = (&a + &a.t()) / 2.0;
        let which = if seed % 2 == 0 { Which::Largest } else { Which::Smallest };
        let own = Dense(a.clone());
        let pairs: Eigenpairs = lobpcg(&own).which(which, count).tolerance(1e-13).run().unwrap();
        let size = |m: &Array2<f64>| m.iter().map(|v| v * v).sum::<f64>().sqrt();
        let (v, unit) = (&pairs.vectors, n as f64 * f64::EPSILON);
        let residual = size(&(a.dot(v) - v * &pairs.values)) / size(&a);
        let gram = size(&(v.t().dot(v) - Array2::<f64>::eye(count))) / unit;
        prop_assert!(residual < 5e-13 && gram < 30.0, "{residual} {gram}");
        let other = Eigsh::of(&own).which(which, count).tolerance(1e-13).run().unwrap();
        prop_assert!((other.values - &pairs.values).iter().all(|g| g.abs() < 1e-11 * pairs.norm.max(1.0)));
    }
}

//! Eigenpairs beside SciPy's, closed forms and dense references; multiplicities, ratios as LAPACK's
//! tests have them, and what goes wrong. Expected values: scripts/golden/krylov.py.

mod common;
use common::*;
use faer::{Mat, Side};
use keops_core::data::DType;
use keops_core::error::Error;
use keops_core::genred::Genred;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use keops_linalg::{
    Algebra, Diag, EigenError, Eigenpairs, Eigsh, KernelOperator, LinearOperator, Which,
};
use ndarray::{Array1, Array2, Array3, Axis as NdAxis, Ix1, Ix2, array, s};
use proptest::prelude::*;
use std::ops::ControlFlow;

fn kernel(formula: &str, columns: usize) -> Genred<Device> {
    let aliases = ["x = Vi(2)".into(), "y = Vj(2)".into(), format!("v = Vj({columns})")];
    let sum: Genred = Genred::new(&format!("{formula} * v"), &aliases, &SUM, Axis::J).unwrap();
    sum.at(Device::new(Cpu::new()))
}
const GAUSS: &str = "Exp(-SqDist(x, y) / 0.18)";

/// `‖A V - V Λ‖ / (n ε ‖A‖)` and `‖VᵀV - I‖ / (n ε)`, as dsyevx is tested.
fn ratios(a: &Array2<f64>, pairs: &Eigenpairs) -> [f64; 2] {
    let (v, n) = (&pairs.vectors, a.nrows() as f64);
    let size = |m: &Array2<f64>| m.iter().map(|v| v * v).sum::<f64>().sqrt();
    let residual = a.dot(v) - v * &pairs.values;
    let gram = v.t().dot(v) - Array2::<f64>::eye(v.ncols());
    [size(&residual) / (n * f64::EPSILON * size(a)), size(&gram) / (n * f64::EPSILON)]
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

#[test]
fn eigenvalues_are_those_of_scipy() {
    let x: Array2<f64> = golden("x");
    let gauss = kernel(GAUSS, 1);
    let k = KernelOperator::new(&gauss, "v", (&x, &x)).unwrap();
    let pairs = Eigsh::of(&k).largest(5).run().unwrap();
    let want = golden::<Ix1>("gauss_largest");
    assert!(distance(&pairs.values, want.slice(s![..;-1])) < 1e-11);
    let vectors = golden::<Ix2>("gauss_vectors");
    for (own, want) in pairs.vectors.columns().into_iter().zip(vectors.columns().into_iter().rev())
    {
        assert!((own.dot(&want).abs() - 1.0).abs() < 1e-9);
    }
    assert!(pairs.residuals.iter().all(|r| *r <= 4e-11 * pairs.norm));
    let near = Eigsh::of(&k).nearest(2.0, 3).run().unwrap();
    let mut values = near.values.to_vec();
    assert!(values.windows(2).all(|w| (w[0] - 2.0).abs() <= (w[1] - 2.0).abs()));
    values.sort_by(f64::total_cmp);
    assert!(distance(&values, &golden::<Ix1>("gauss_near_2")) < 1e-9);
    // A kernel with one positive eigenvalue; four vectors at once.
    let multi = kernel("Sqrt(1 + SqDist(x, y))", 4);
    let k = KernelOperator::new(&multi, "v", (&x, &x)).unwrap();
    let pairs = Eigsh::of(&k).smallest(4).run().unwrap();
    assert!(distance(&pairs.values, &golden::<Ix1>("multi_smallest")) < 1e-10);
    let pairs = Eigsh::of(&k).run().unwrap();
    assert!(distance(&pairs.values, &golden::<Ix1>("multi_largest")) < 1e-11);
}

/// exp(-|x - y|² / 2) under the normal distribution has the eigenvalues `(1 - B) B^k`, k + 1 times
/// each, with `B = (3 - √5) / 2` (C. Rasmussen, C. Williams, Gaussian Processes for Machine
/// Learning, section 4.3.1, in each of two dimensions).
#[test]
fn normal_points_have_the_spectrum_of_the_integral_operator() {
    let mut random = Random::new(5);
    let n = 10_000;
    let x = Array2::from_shape_simple_fn((n, 2), || random.normal());
    let gauss = kernel("Exp(-SqDist(x, y) / 2)", 4);
    let k = KernelOperator::new(&gauss, "v", (&x, &x)).unwrap();
    let pairs = Eigsh::of(&k).largest(6).tolerance(1e-8).run().unwrap();
    let b = 0.5 * (3.0 - 5f64.sqrt());
    for (value, power) in pairs.values.iter().zip([0, 1, 1, 2, 2, 2]) {
        let want = n as f64 * b * b.powi(power);
        assert!((value / want - 1.0).abs() < 0.06, "{value} and {want}");
    }
    assert!(pairs.residuals.iter().all(|r| *r <= 1e-8 * pairs.norm));
    // Some of the points, by a dense method.
    let some = x.slice(s![..300, ..]).to_owned();
    let dense = gaussian_matrix(&some, &some, 0.5);
    let own = Mat::from_fn(300, 300, |i, j| dense[[i, j]]);
    let all = own.self_adjoint_eigenvalues(Side::Lower).unwrap();
    let k = KernelOperator::new(&gauss, "v", (&some, &some)).unwrap();
    let pairs = Eigsh::of(&k).largest(6).run().unwrap();
    assert!(distance(&pairs.values, all[294..].iter().rev()) < 1e-12);
}

/// A spiral, as a chain of points, has a slowly varying Laplacian spectrum near 0.
#[test]
fn a_spiral_has_its_smallest_laplacian_eigenvalues() {
    let mut random = Random::new(7);
    let n = 10_000;
    let x = Array2::from_shape_fn((n, 2), |(k, c)| {
        let t = std::f64::consts::TAU * k as f64 / n as f64;
        let noise = 0.02 * random.normal();
        noise + if c == 0 { 0.4 + 0.4 * (t / 7.0) * (1.5 * t).cos() } else { 0.5 + 0.3 * t.sin() }
    });
    let gauss = kernel("Exp(-SqDist(x, y) / (2 * 0.05 * 0.05))", 4);
    let k = KernelOperator::new(&gauss, "v", (&x, &x)).unwrap();
    let degrees = k.apply(&Array2::<f64>::ones((n, 4))).unwrap();
    let scale = degrees.column_of(0).mapv(|d| 1.0 / d.sqrt());
    let d = || Diag::new(scale.clone(), 4);
    let laplacian = d().times(&k).unwrap().times(d()).unwrap().scaled(-1.0).shifted(1.0).unwrap();
    let clock = std::time::Instant::now();
    let pairs = Eigsh::of(&laplacian).smallest(7).tolerance(1e-7).run().unwrap();
    println!("{} products in {:?}: {}", pairs.products, clock.elapsed(), pairs.values);
    assert!(pairs.residuals.iter().all(|r| *r <= 1e-6), "{}", pairs.residuals);
    // The first is 0, for the roots of degrees.
    let root = scale.mapv(|s| 1.0 / s);
    let overlap = pairs.vectors.column(0).dot(&root).abs() / root.dot(&root).sqrt();
    assert!(pairs.values[0].abs() < 1e-9 && overlap > 1.0 - 1e-6);
    assert!(pairs.values.windows(2).into_iter().all(|w| w[0] < w[1]) && pairs.values[6] < 0.9);
}
trait ColumnOf {
    fn column_of(&self, c: usize) -> Array1<f64>;
}
impl ColumnOf for ndarray::ArrayD<f64> {
    fn column_of(&self, c: usize) -> Array1<f64> {
        two(self).column(c).to_owned()
    }
}

#[test]
fn multiple_eigenvalues_come_as_often_as_they_are() {
    // One column: a Krylov space holds one vector of each eigenvalue.
    let mut d = vec![3.0; 5];
    d.extend([7.0, 7.0]);
    d.extend((0..200).map(|k| k as f64 / 100.0));
    let operator = Diag::new(Array1::from(d), 1);
    let pairs = Eigsh::of(&operator).largest(8).run().unwrap();
    let want = [7.0, 7.0, 3.0, 3.0, 3.0, 3.0, 3.0, 1.99];
    assert!(distance(&pairs.values, &want) < 1e-10, "{}", pairs.values);
    let pairs = Eigsh::of(&Diag::new(Array1::ones(50), 2)).largest(50).run().unwrap();
    assert!(distance(&pairs.values, &[1.0; 50]) < 1e-12);
    let zeros = Eigsh::of(&Diag::new(Array1::zeros(20), 1)).smallest(3).run().unwrap();
    assert_eq!(zeros.values, Array1::<f64>::zeros(3));
    let pairs = Eigsh::of(&operator).nearest(6.0, 3).run().unwrap();
    assert!(distance(&pairs.values, &[7.0, 7.0, 3.0]) < 1e-9);
}

#[test]
fn sizes_and_types() {
    let one = Diag::new(array![-2.0], 1);
    for which in [Which::Largest, Which::Smallest, Which::Nearest(0.0)] {
        let pairs = Eigsh::of(&one).which(which, 1).run().unwrap();
        assert!((pairs.values[0] + 2.0).abs() < 1e-12 && pairs.vectors[[0, 0]].abs() == 1.0);
    }
    assert_eq!(Eigsh::of(&one).largest(0).run().unwrap().values.len(), 0);
    let empty = Diag::new(Array1::zeros(0), 1);
    assert_eq!(Eigsh::of(&empty).largest(0).run().unwrap().vectors.dim(), (0, 0));
    let e = Eigsh::of(&one).largest(2).run().unwrap_err().to_string();
    assert_eq!(e, "2 eigenpairs of an operator of 1 unknowns");
    // Scales beyond squares.
    for size in [1e-200, 1e200] {
        let d = Diag::new(array![size, -3.0 * size, 2.0 * size], 1);
        let pairs = Eigsh::of(&d).largest(2).run().unwrap();
        assert!((pairs.values[0] / size - 2.0).abs() < 1e-12, "{}", pairs.values);
    }
    // f32, and blocks x yᵀ whose components belong together.
    let x: Array2<f64> = golden("x");
    let x32 = x.mapv(|v| v as f32);
    let gauss = kernel(GAUSS, 1);
    let pairs =
        Eigsh::of(&KernelOperator::new(&gauss, "v", (&x32, &x32)).unwrap()).largest(5).run();
    let want = golden::<Ix1>("gauss_largest");
    assert!(distance(&pairs.unwrap().values, want.slice(s![..;-1])) < 1e-5);
    let blocks = sum("(y | v) * x", &["x = Vi(2)", "y = Vj(2)", "v = Vj(2)"], Axis::J);
    let k = KernelOperator::new(&blocks, "v", (&x, &x)).unwrap(); // z zᵀ for z, all of x
    let pairs = Eigsh::of(&k).largest(1).run().unwrap();
    assert!((pairs.values[0] - x.iter().map(|v| v * v).sum::<f64>()).abs() < 1e-9);
    assert_eq!(pairs.vectors.dim(), (160, 1));
}

#[test]
fn what_goes_wrong_is_said() {
    let run = |o: &dyn LinearOperator| Eigsh::of(o).largest(2).run().unwrap_err();
    let mut random = Random::new(2);
    let skew = random.matrix(50, 50);
    let e = run(&Dense(skew));
    assert!(matches!(e, EigenError::NotSymmetric { .. }), "{e}");
    let e = run(&Dense(Array2::ones((3, 2)))).to_string();
    assert!(e.contains("square operators, this one maps 2 unknowns to 3"), "{e}");
    let e = run(&Diag::new(array![1.0, f64::INFINITY, 2.0], 1));
    assert!(matches!(e, EigenError::NotFinite { product: 1 }), "{e}");
    /// Squares.
    struct Squares;
    impl LinearOperator for Squares {
        fn domain(&self) -> [usize; 2] {
            [100, 1]
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
            Ok(v * v)
        }
    }
    let e = run(&Squares);
    assert!(matches!(e, EigenError::NotSymmetric { .. } | EigenError::Inaccurate { .. }), "{e}");
    let d = Diag::new(Array1::from_shape_fn(4000, |k| (k as f64 / 4000.0).powi(3)), 1);
    let e = Eigsh::of(&d).smallest(4).max_products(90).run().unwrap_err();
    let EigenError::Limit { limit: 90, wanted: 4, partial, .. } = &e else { panic!("{e}") };
    assert!(partial.values.len() == 4 && partial.vectors.dim() == (4000, 4));
    let worst = partial.residuals.iter().fold(0.0f64, |m, v| m.max(*v));
    assert!(worst > 4e-11 && worst < 1.0);
    let e = Eigsh::of(&d).smallest(4).max_products(0).run().unwrap_err().to_string();
    assert!(e.contains("no eigenpairs come of 0 products"), "{e}");
    let mut seen = 0;
    let observed = Eigsh::of(&d).smallest(4).observe(|p| {
        seen = p.products;
        if p.products == 50 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let e = observed.run().unwrap_err();
    assert!(matches!(e, EigenError::Cancelled { product: 50.., .. }), "{e}");
    assert_eq!(seen, 50);
    // A shift that is an eigenvalue.
    let d = Diag::new(array![1.0, 2.0, 3.0, 4.0], 1);
    let e = Eigsh::of(&d).nearest(2.0, 1).run().unwrap_err();
    assert!(matches!(e, EigenError::Shift { shift: 2.0, .. }), "{e}");
    assert!(Eigsh::of(&d).nearest(f64::NAN, 1).run().is_err());
    assert!(Eigsh::of(&d).tolerance(0.0).run().is_err());
    let batches = Array3::<f64>::ones((2, 4, 1));
    let sum = sum("x * y * v", &["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"], Axis::J);
    let k = KernelOperator::new(&sum, "v", (&batches, &batches)).unwrap();
    assert!(run(&k).to_string().contains("a batch of 2 matrices"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Ratios stay below LAPACK's threshold of 30 for random spectra with clusters, and the order
    /// of unknowns is nothing to the values.
    #[test]
    fn ratios_and_permutations(seed in 0u64..1000, n in 5usize..60, count in 1usize..6, kind in 0u8..3) {
        let mut random = Random::new(seed);
        let d = Array1::from_shape_fn(n, |k| match kind {
            0 => random.normal(),
            1 => (k / 3) as f64,
            _ => (-0.5 * k as f64).exp(),
        });
        let own = Mat::from_fn(n, n, |_, _| random.normal());
        let q = own.qr().compute_Q();
        let q = Array2::from_shape_fn((n, n), |(i, j)| q[(i, j)]);
        let a = (&q * &d).dot(&q.t());
        let a = (&a + &a.t()) / 2.0;
        let which = if seed % 2 == 0 { Which::Largest } else { Which::Smallest };
        let run = |a: &Array2<f64>| {
            let own = Dense(a.clone());
            let pairs = Eigsh::of(&own).which(which, count).tolerance(1e-14);
            // (Eigenvalues of 1e-10 beside 1 are told apart in the whole space alone.)
            if kind == 2 { pairs.subspace(n) } else { pairs }.run().unwrap()
        };
        let pairs = run(&a);
        let [residual, gram] = ratios(&a, &pairs);
        prop_assert!(residual < 30.0 && gram < 30.0, "{residual} {gram}");
        let mut want = d.to_vec();
        want.sort_by(|a, b| if seed % 2 == 0 { b.total_cmp(a) } else { a.total_cmp(b) });
        for (own, want) in pairs.values.iter().zip(&want) {
            prop_assert!((own - want).abs() < 1e-12 * pairs.norm.max(1.0), "{own} {want}");
        }
        let order: Vec<usize> = (0..n).map(|k| (k * 7 + 3) % n).collect();
        prop_assume!(n % 7 != 0);
        let turned = a.select(NdAxis(0), &order).select(NdAxis(1), &order);
        let values = run(&turned).values;
        prop_assert!((values - &pairs.values).iter().all(|g| g.abs() < 1e-12 * pairs.norm.max(1.0)));
    }
}

/// Products with the operator round to 1e-8 of what the eigenvalues near the shift are: solves stop
/// there, and the values are still those of the diagonal. Where rounding hides them there may be an error.
#[test]
fn the_nearest_beside_one_that_is_huge() {
    for huge in [1e4, 1e8, 1e11] {
        let diagonal = Array1::from_iter((1..=50).map(f64::from).chain([huge]));
        let pairs = Eigsh::of(&Diag::new(diagonal, 1)).nearest(7.3, 3).run();
        let pairs = match pairs {
            Ok(pairs) => pairs,
            Err(e) => {
                assert!(huge > 1e8, "{huge}: {e}");
                continue;
            }
        };
        for (k, expected) in [7.0, 8.0, 6.0].into_iter().enumerate() {
            let (value, residual) = (pairs.values[k], pairs.residuals[k]);
            assert!((value - expected).abs() < 1e-9 * huge.max(1e4).sqrt(), "{huge}: {value}");
            assert!(residual <= 4e-11 * pairs.norm, "{huge}: {residual:e}");
            assert!(pairs.vectors[[expected as usize - 1, k]].abs() > 1.0 - 1e-6);
        }
    }
}

//! Diagonals and rows against dense matrices; preconditioners change the number of iterations and
//! nothing else.

mod common;
use common::*;
use keops_core::error::Error;
use keops_core::genred::Genred;
use keops_core::ranges::Ranges;
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use keops_linalg::{
    AdjointOperator, Algebra, BlockJacobi, Diagonal, Jacobi, KernelOperator, PivotedCholesky,
    Preconditioner, Rows, SolveError, SolveOptions, laws,
};
use ndarray::{Array2, Array3, ArrayView2, Axis as NdAxis, array, s};
use std::ops::ControlFlow;

fn close(a: &ArrayView2<'_, f64>, b: &ArrayView2<'_, f64>, tolerance: f64) {
    assert_eq!(a.dim(), b.dim());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance), "{a} and {b}");
}

/// Checks diagonal, rows and products of the transpose against a matrix over unknowns.
fn check(k: &KernelOperator<'_>, dense: &Array2<f64>, tolerance: f64) {
    let diagonal = k.diagonal().unwrap();
    close(&diagonal.view(), &dense.diag().insert_axis(NdAxis(0)), tolerance);
    let indices = [dense.nrows() - 1, 0, 2];
    let rows = k.rows_at(0, &indices).unwrap();
    close(&rows.view(), &dense.select(NdAxis(0), &indices).view(), tolerance);
    let transposed = k.clone().transpose().unwrap();
    let columns = transposed.rows_at(0, &indices).unwrap();
    close(&columns.view(), &dense.t().select(NdAxis(0), &indices).view(), tolerance);
    close(&transposed.diagonal().unwrap().view(), &diagonal.view(), tolerance);
}

#[test]
fn diagonals_and_rows_are_those_of_dense_matrices() {
    let mut random = Random::new(1);
    let (x, y) = (random.matrix(7, 2), random.matrix(7, 2));
    let aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vj(3)"];
    let plain = sum("Exp(-2 * SqDist(x, y)) * b", &aliases, Axis::J);
    let dense = gaussian_matrix(&x, &y, 2.0);
    check(&KernelOperator::new(&plain, "b", (&x, &y)).unwrap(), &dense, 1e-14);
    // Of f32, over i, of row numbers, of blocks, of ranges.
    let (x32, y32) = (x.mapv(|v| v as f32), y.mapv(|v| v as f32));
    check(&KernelOperator::new(&plain, "b", (&x32, &y32)).unwrap(), &dense, 1e-6);
    let over_i =
        sum("Exp(-2 * SqDist(x, y)) * b", &["x = Vi(2)", "y = Vj(2)", "b = Vi(1)"], Axis::I);
    check(&KernelOperator::new(&over_i, "b", (&x, &y)).unwrap(), &dense.t().to_owned(), 1e-14);
    let numbers = sum("(2 * i + j) * b", &["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"], Axis::J);
    let expected = Array2::from_shape_fn((7, 7), |(i, j)| (2 * i + j) as f64);
    check(&KernelOperator::new(&numbers, "b", (&x, &y)).unwrap(), &expected, 0.0);
    let blocks = sum(
        "Exp(-2 * SqDist(x, y)) * b + (y | b) * x",
        &["x = Vi(2)", "y = Vj(2)", "b = Vj(2)"],
        Axis::J,
    );
    let expected = Array2::from_shape_fn((14, 14), |(p, q)| {
        let ((i, c), (j, d)) = ((p / 2, p % 2), (q / 2, q % 2));
        (c == d) as u8 as f64 * dense[[i, j]] + x[[i, c]] * y[[j, d]]
    });
    check(&KernelOperator::new(&blocks, "b", (&x, &y)).unwrap(), &expected, 1e-14);
    let ranges = Ranges::from_clusters(&[3, 7], &[2, 7], &[true, false, true, true]).unwrap();
    let sparse =
        Array2::from_shape_fn((7, 7), |(i, j)| if i < 3 && j >= 2 { 0.0 } else { dense[[i, j]] });
    let within = plain.clone().ranges(ranges);
    check(&KernelOperator::new(&within, "b", (&x, &y)).unwrap(), &sparse, 1e-14);
    // Of a batch: each matrix has its own.
    let (many, one) = (random.array(&[3, 7, 2]), y.clone());
    let k = KernelOperator::new(&plain, "b", (&many, &one)).unwrap();
    let diagonal = k.diagonal().unwrap();
    for m in 0..3 {
        let own = two(&many.index_axis(NdAxis(0), m).to_owned()).to_owned();
        let dense = gaussian_matrix(&own, &y, 2.0);
        close(&diagonal.slice(s![m..m + 1, ..]), &dense.diag().insert_axis(NdAxis(0)), 1e-14);
        close(&k.rows_at(m, &[4]).unwrap().view(), &dense.slice(s![4..5, ..]), 1e-14);
    }
    assert!(k.rows_at(3, &[0]).is_err() && k.rows_at(0, &[7]).is_err());
    // Products of the transpose.
    let v = Array3::from_shape_simple_fn((1, 7, 3), || random.next());
    let k = KernelOperator::new(&plain, "b", (&x, &y)).unwrap();
    let product = k.apply_adjoint(&v).unwrap();
    let expected = dense.t().dot(&v.index_axis(NdAxis(0), 0));
    close(&product.index_axis(NdAxis(0), 0), &expected.view(), 1e-13);
    // There is no diagonal of what is not square.
    let few = random.matrix(5, 2);
    assert!(KernelOperator::new(&plain, "b", (&few, &y)).unwrap().diagonal().is_err());
}

/// Solutions do not depend on preconditioners, in batches of matrices with right-hand sides of
/// their own, with blocks, and of singular matrices.
#[test]
fn solutions_are_the_same_with_any_preconditioner() {
    let mut random = Random::new(2);
    let (x, s, b) =
        (random.array(&[3, 20, 2]), random.array(&[3, 1]) + 1.0, random.array(&[2, 1, 20, 2]));
    let sum = gaussian(2, 2);
    let k = KernelOperator::new(&sum, "b", (&x, &x, &s)).unwrap();
    let options = SolveOptions { tolerance: 1e-11, ..SolveOptions::ridge(0.05) };
    let plain = k.solve(&b, &options).unwrap().value;
    let cholesky = PivotedCholesky::new(&k, 8).unwrap();
    assert_eq!((0..4).map(|m| cholesky.rank(m)).collect::<Vec<_>>(), [8, 8, 8, 0]);
    let greedy = PivotedCholesky::greedy(&k, 8).unwrap();
    let jacobi = Jacobi::new(&k).unwrap();
    for p in [&cholesky as &dyn Preconditioner, &greedy, &jacobi] {
        // Residuals of any layout.
        let r = random.matrix(2, 20);
        let rows = r.t().as_standard_layout().to_owned();
        close(
            &p.apply(1, 0.05, r.t()).unwrap().view(),
            &p.apply(1, 0.05, rows.view()).unwrap().view(),
            0.0,
        );
        let solution = k.solver().options(options).preconditioner(p).solve(&b).unwrap();
        assert!(distance(&solution.value, &plain) < 1e-9);
        assert!(solution.info.residual() <= 1e-11 && solution.info.systems.len() == 12);
    }
    let x = random.matrix(10, 2);
    let aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)"];
    let blocks = sum_of("Exp(-SqDist(x, y)) * b + (y | b) * x", &aliases);
    let k = KernelOperator::new(&blocks, "b", (&x, &x)).unwrap();
    let b = random.matrix(10, 2);
    let plain = k.solve(&b, &options).unwrap();
    let p = PivotedCholesky::new(&k, 15).unwrap();
    let solution = k.solver().options(options).preconditioner(&p).solve(&b).unwrap();
    assert!(distance(&solution.value, &plain.value) < 1e-9);
    assert!(solution.info.iterations < plain.info.iterations);
    // All that there is, of a matrix of rank 2, with a right-hand side that it reaches.
    let low = sum_of("(x | y) * b", &["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"]);
    let k = KernelOperator::new(&low, "b", (&x, &x)).unwrap();
    let p = PivotedCholesky::new(&k, 10).unwrap();
    assert_eq!(p.rank(0), 2);
    let b = x.dot(&array![[1.0], [2.0]]);
    let a = k.solver().ridge(0.0).preconditioner(&p).solve(&b).unwrap().value;
    assert!(residuals(&x.dot(&x.t()), 0.0, &two(&a), &b.view())[0] <= 1e-6);
}
fn sum_of(formula: &str, aliases: &[&str]) -> Genred {
    sum(formula, aliases, Axis::J)
}

/// Turns signs around.
struct Negative;
impl Preconditioner for Negative {
    fn apply(&self, _: usize, _: f64, r: ArrayView2<'_, f64>) -> Result<Array2<f64>, Error> {
        Ok(-&r)
    }
}

#[test]
fn what_goes_wrong_with_preconditioners() {
    let mut random = Random::new(3);
    let (x, y, one) = (random.matrix(12, 2), random.matrix(9, 2), array![1.0]);
    let sum = gaussian(2, 1);
    let k = KernelOperator::new(&sum, "b", (&x, &x, &one)).unwrap();
    let b = random.matrix(12, 1);
    let e = k.solver().ridge(0.1).preconditioner(&Negative).solve(&b).unwrap_err();
    assert!(matches!(e, SolveError::Preconditioner { iteration: 0, .. }), "{e}");
    assert!(e.partial().unwrap().solution.iter().all(|&v| v == 0.0));
    let other = KernelOperator::new(&sum, "b", (&y, &y, &one)).unwrap();
    let made = [
        Box::new(Jacobi::new(&other).unwrap()) as Box<dyn Preconditioner>,
        Box::new(PivotedCholesky::new(&other, 4).unwrap()),
    ];
    for p in made {
        let e = k.solver().preconditioner(&*p).solve(&b).unwrap_err();
        assert!(e.to_string().contains("made for another operator"), "{e}");
    }
    let negative = sum_of("-b * (x | y)", &["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"]);
    let k = KernelOperator::new(&negative, "b", (&x, &x)).unwrap();
    assert!(PivotedCholesky::new(&k, 3).unwrap_err().to_string().contains("semi-definite"));
    let k = KernelOperator::new(&sum, "b", (&x, &x, &one)).unwrap();
    for ridge in [f64::NAN, -1.0, f64::INFINITY, f64::NEG_INFINITY] {
        let e = PivotedCholesky::automatic(&k, ridge).unwrap_err().to_string();
        assert!(
            e.contains(&format!("the ridge must be finite and at least 0, got {ridge}")),
            "{e}"
        );
    }
    assert_eq!(PivotedCholesky::automatic(&k, 0.0).unwrap().rank(1), 0);
}

#[test]
fn an_observer_sees_all_and_may_end_it() {
    let mut random = Random::new(4);
    let (x, one) = (random.matrix(40, 2), array![1.0]);
    let b = random.matrix(40, 2);
    let sum = gaussian(2, 2);
    let k = KernelOperator::new(&sum, "b", (&x, &x, &one)).unwrap();
    let mut seen = vec![];
    let observe = |p: &keops_linalg::Progress<'_>| {
        assert_eq!(p.residuals.len(), 2);
        seen.push(p.residual());
        if p.iteration == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let e = k.solver().ridge(1e-4).observe(observe).solve(&b).unwrap_err();
    let SolveError::Cancelled { iteration: 7, partial, .. } = e else { panic!("{e}") };
    assert_eq!(seen.len(), 7);
    assert!(seen.windows(2).all(|w| w[1] <= w[0])); // smallest so far
    let own = residuals(&gaussian_matrix(&x, &x, 1.0), 1e-4, &two(&partial.solution), &b.view());
    for (own, system) in own.iter().zip(&partial.info.systems) {
        assert!((own - system.residual).abs() < 1e-12 && *own < 1.0);
    }
}

/// 3,000 uniform points in the unit cube, σ = 0.3, ridge 1e-3, a smooth right-hand side and noise,
/// to 1e-6: with NumPy, 1,460 iterations become about 30 with 300 pivots drawn at random; of
/// Matérn's kernel of 3/2, `(1 + r/σ) exp(-r/σ)`, 1,207 become 75 to 79; in dimension 10 with
/// σ = 0.55, 174 become 104 to 112. Ours take at most a fifth more.
#[test]
fn iterations_with_three_hundred_pivots() {
    let mut random = Random::new(16);
    let n = 3000;
    let cpu = Device::new(Cpu::new());
    for (dim, formula, s, without, most) in [
        (3, "Exp(-s * SqDist(x, y)) * b", 1.0 / 0.09, 1460, 30),
        (3, "(1 + s * Norm2(x - y)) * Exp(-s * Norm2(x - y)) * b", 1.0 / 0.3, 1207, 79),
        (10, "Exp(-s * SqDist(x, y)) * b", 1.0 / (0.55 * 0.55), 174, 112),
    ] {
        let x = random.matrix(n, dim);
        let b = Array2::from_shape_fn((n, 1), |(i, _)| {
            let p = x.row(i);
            (4.0 * p[0]).sin() + (3.0 * p[1]).cos() * p[2] + 0.1 * random.normal()
        });
        let aliases = [
            format!("x = Vi({dim})"),
            format!("y = Vj({dim})"),
            "b = Vj(1)".into(),
            "s = Pm(1)".into(),
        ];
        let sum: Genred =
            Genred::new(formula, &aliases, &keops_core::reduce::SUM, Axis::J).unwrap();
        let sum = sum.at(cpu.clone());
        let s = array![s];
        let k = KernelOperator::new(&sum, "b", (&x, &x, &s)).unwrap();
        let plain = k.solver().ridge(1e-3).solve(&b).unwrap().info;
        println!("{formula}, {dim} dimensions: {} iterations", plain.iterations);
        assert!(plain.iterations * 5 <= without * 6, "{}", plain.iterations);
        for p in [PivotedCholesky::new(&k, 300), PivotedCholesky::greedy(&k, 300)] {
            let p = p.unwrap();
            let info = k.solver().ridge(1e-3).preconditioner(&p).solve(&b).unwrap().info;
            println!("{formula}, {dim} dimensions, rank 300: {} iterations", info.iterations);
            assert!(
                info.iterations * 5 <= most * 6 && info.residual() <= 1e-6,
                "{}",
                info.iterations
            );
        }
    }
}

/// Blocks are those of dense matrices ([`laws::rows`]): of transposes, ranges, batches, components
/// that belong together, and of operators that have rows alone.
#[test]
fn diagonal_blocks_are_those_of_dense_matrices() {
    let mut random = Random::new(41);
    let (x, y, s) = (random.matrix(8, 2), random.matrix(8, 2), array![2.0]);
    let gauss = gaussian(2, 2);
    let k = KernelOperator::new(&gauss, "b", (&x, &y, &s)).unwrap();
    laws::rows(&k).unwrap();
    laws::rows(&k.clone().transpose().unwrap()).unwrap();
    laws::rows(&(&k).plus((&k).scaled(2.0)).unwrap()).unwrap();
    let ranges = Ranges::from_clusters(&[3, 8], &[2, 8], &[true, false, true, true]).unwrap();
    let within = gauss.clone().ranges(ranges);
    let k = KernelOperator::new(&within, "b", (&x, &y, &s)).unwrap();
    laws::rows(&k).unwrap();
    laws::rows(&k.transpose().unwrap()).unwrap();
    let aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)"];
    let blocks = sum_of("Exp(-SqDist(x, y)) * b + (y | b) * x", &aliases);
    let k = KernelOperator::new(&blocks, "b", (&x, &y)).unwrap();
    laws::rows(&k).unwrap();
    laws::rows(&k.transpose().unwrap()).unwrap();
    let over_i = sum("Exp(-SqDist(x, y)) * b", &["x = Vi(2)", "y = Vj(2)", "b = Vi(1)"], Axis::I);
    laws::rows(&KernelOperator::new(&over_i, "b", (&x, &y)).unwrap()).unwrap();
    let many = random.array(&[3, 8, 2]);
    laws::rows(&KernelOperator::new(&gauss, "b", (&many, &y, &s)).unwrap()).unwrap();
    // What is wrong with groups.
    let k = KernelOperator::new(&gauss, "b", (&x, &x, &s)).unwrap();
    let e = |groups: &[Vec<usize>]| k.diagonal_blocks(0, groups).unwrap_err().to_string();
    assert!(e(&[vec![0, 1], vec![1]]).contains("row 1 is in groups 0 and 1"));
    assert!(e(&[vec![8]]).contains("row 8 of 8"));
    assert!(k.diagonal_blocks(1, &[vec![0]]).is_err());
}

/// `diag(blocks of K + ridge)⁻¹ r`, by Cholesky's factorisations; sharp kernels of clustered points
/// take fewer iterations with it.
#[test]
fn block_jacobi_inverts_blocks() {
    let mut random = Random::new(42);
    let labels: Vec<usize> = (0..60).map(|k| (7 * k) % 5).collect();
    let x =
        Array2::from_shape_fn((60, 2), |(k, c)| (labels[k] * (c + 1)) as f64 + 0.3 * random.next());
    let s = array![3.0];
    let gauss = gaussian(2, 2);
    let k = KernelOperator::new(&gauss, "b", (&x, &x, &s)).unwrap();
    let p = BlockJacobi::new(&k, &labels).unwrap();
    let r = random.matrix(60, 2);
    let dense = Array2::from_shape_fn((60, 60), |(i, j)| {
        let d = &x.row(i) - &x.row(j);
        if labels[i] == labels[j] { (-3.0 * d.dot(&d)).exp() } else { 0.0 }
    });
    let z = p.apply(0, 0.01, r.view()).unwrap();
    close(&z.view(), &cholesky_solve(&dense, 0.01, &r.view()).view(), 1e-9);
    let options = SolveOptions { tolerance: 1e-10, ..SolveOptions::ridge(0.01) };
    let plain = k.solver().options(options).solve(&r).unwrap();
    let fast = k.solver().options(options).preconditioner(&p).solve(&r).unwrap();
    assert!(distance(&fast.value, &plain.value) < 1e-7);
    let [plain, fast] = [plain.info.iterations, fast.info.iterations];
    assert!(fast * 3 <= plain, "{plain} and {fast}");
    // The same by clusters of sorted rows; rows outside of clusters are left alone.
    let order = keops_core::ranges::sort_clusters(&labels).unwrap();
    let sorted = x.select(NdAxis(0), &order);
    let k = KernelOperator::new(&gauss, "b", (&sorted, &sorted, &s)).unwrap();
    let clusters: Vec<[usize; 2]> = (0..4).map(|c| [12 * c, 12 * c + 12]).collect();
    let some = BlockJacobi::from_clusters(&k, &clusters).unwrap();
    let own = some.apply(0, 0.01, r.select(NdAxis(0), &order).view()).unwrap();
    let want = z.select(NdAxis(0), &order);
    close(&own.slice(s![..48, ..]), &want.slice(s![..48, ..]), 1e-9);
    close(&own.slice(s![48.., ..]), &r.select(NdAxis(0), &order).slice(s![48.., ..]), 0.0);
    // Components that belong together, without a ridge, and a block that is singular.
    let blocks =
        sum_of("Exp(-SqDist(x, y)) * b + (y | b) * x", &["x = Vi(2)", "y = Vj(2)", "b = Vj(2)"]);
    let twice = ndarray::concatenate![NdAxis(0), x, x];
    let k = KernelOperator::new(&blocks, "b", (&twice, &twice)).unwrap();
    let p = BlockJacobi::new(&k, &[labels.clone(), labels].concat()).unwrap();
    let b = random.matrix(120, 2);
    let plain = k.solver().ridge(0.1).solve(&b).unwrap();
    let fast = k.solver().ridge(0.1).preconditioner(&p).solve(&b).unwrap();
    assert!(distance(&fast.value, &plain.value) < 1e-4);
    assert!(fast.info.iterations < plain.info.iterations);
    assert!(p.apply(0, 0.0, b.view()).unwrap().iter().all(|v| v.is_finite()));
    // What is wrong with blocks.
    assert!(p.apply(0, 0.1, r.view()).unwrap_err().to_string().contains("another operator"));
    let e = BlockJacobi::new(&k, &[0, 1]).unwrap_err().to_string();
    assert_eq!(e, "2 labels of 120 rows");
    assert!(BlockJacobi::from_clusters(&k, &[[0, 121]]).is_err());
    assert!(BlockJacobi::from_clusters(&k, &[[0, 3], [2, 4]]).is_err());
    let negative = sum_of("-b * (x | y)", &["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"]);
    let k = KernelOperator::new(&negative, "b", (&x, &x)).unwrap();
    assert!(BlockJacobi::new(&k, &[0; 60]).unwrap_err().to_string().contains("semi-definite"));
}

/// `K_nc K_cc⁻¹ K_cn` of chosen centres c: the preconditioner inverts it, with the ridge.
#[test]
fn nystrom_on_chosen_centres() {
    let mut random = Random::new(31);
    let (x, s) = (random.matrix(12, 2), array![2.0]);
    let g = gaussian(2, 1);
    let k = KernelOperator::new(&g, "b", (&x, &x, &s)).unwrap();
    let centres = [7, 2, 9, 4];
    let p = PivotedCholesky::nystrom(&k, &centres).unwrap();
    let dense = gaussian_matrix(&x, &x, 2.0);
    let rows = dense.select(ndarray::Axis(0), &centres);
    let own = rows.select(ndarray::Axis(1), &centres);
    let mut inner = Array2::zeros(rows.dim());
    for (c, column) in rows.axis_iter(ndarray::Axis(1)).enumerate() {
        let column = column.insert_axis(ndarray::Axis(1));
        inner.column_mut(c).assign(&cholesky_solve(&own, 0.0, &column).column(0));
    }
    let low = rows.t().dot(&inner);
    let r = random.matrix(12, 1);
    let z = p.apply(0, 0.3, r.view()).unwrap();
    close(&z.view(), &cholesky_solve(&low, 0.3, &r.view()).view(), 1e-9);
    let e = PivotedCholesky::nystrom(&k, &[12]).unwrap_err();
    assert!(e.to_string().contains("centre 12, but there are 12 unknowns"), "{e}");
}

/// The rank follows the spectrum and the ridge; solutions are the same.
#[test]
fn a_rank_that_is_found() {
    let mut random = Random::new(32);
    let (x, b, s) = (random.matrix(400, 2), random.matrix(400, 1), array![4.0]);
    let g = gaussian(2, 1);
    let k = KernelOperator::new(&g, "b", (&x, &x, &s)).unwrap();
    let mut before = usize::MAX;
    for ridge in [1e-4, 1e-2, 1.0, 1e4] {
        let p = PivotedCholesky::automatic(&k, ridge).unwrap();
        let rank = p.rank(0);
        assert!(rank <= before, "{rank} at {ridge}");
        before = rank;
        let plain = k.solver().ridge(ridge).tolerance(1e-10).solve(&b).unwrap();
        let fast = k.solver().ridge(ridge).tolerance(1e-10).preconditioner(&p).solve(&b).unwrap();
        println!(
            "ridge {ridge}: rank {rank}, {} to {} iterations",
            plain.info.iterations, fast.info.iterations
        );
        assert!(fast.info.iterations <= plain.info.iterations);
        assert!(distance(&fast.value, &plain.value) < 1e-6);
        if ridge < 1.0 {
            assert!(fast.info.iterations * 3 < plain.info.iterations);
        }
    }
    assert_eq!(before, 0); // all is below the ridge
}

//! An attachment, a model of deformations, a radial kernel and an optimiser: registered with, gradients compared
//! with differences.

use std::ops::ControlFlow;
use std::sync::Arc;

use downstream::affine::Affine;
use downstream::chamfer::Chamfer;
use downstream::descent::Descent;
use downstream::kernel;
use keops::Auto;
use keops::lddmm::attachment::{Landmarks, Matching, WeightedSum, varifold};
use keops::lddmm::kernel::Kernel;
use keops::lddmm::model::Model;
use keops::lddmm::registration::{Limits, Observer, Options, Progress, Registration, Stop};
use keops::lddmm::shooting::Integrator;
use keops::ndarray::{Array2, ArrayView2, array};
use keops::shapes::builtin::{closed_curve, curve_pair};

fn go_on(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
fn wave(dim: (usize, usize), phase: f64) -> Array2<f64> {
    Array2::from_shape_fn(dim, |(i, k)| (1.7 * i as f64 + 2.9 * k as f64 + phase).sin())
}
/// Is `gradient` that of `value`, along a direction, by differences of order 4?
fn agrees(gradient: &Array2<f64>, at: ArrayView2<'_, f64>, value: impl Fn(&Array2<f64>) -> f64) {
    let (along, h) = (wave(at.dim(), 0.4), 1e-4);
    let f = |h: f64| value(&(&at + &(h * &along)));
    let expected = (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h);
    let got = (gradient * &along).sum();
    assert!((got - expected).abs() < 1e-8 * expected.abs().max(1.0), "{got}, not {expected}");
}

#[test]
fn an_attachment_of_another_crate() {
    let (source, target) = curve_pair(30).unwrap();
    let matching = Matching::<f64>::new(&Chamfer, &source, &target, &Auto).unwrap();
    let (x, y) = (source.vertices(), target.vertices());
    let (value, gradient) = matching.value_and_gradient(x).unwrap();
    let square = |i: usize, j: usize| {
        let gap = &x.row(i) - &y.row(j);
        gap.dot(&gap)
    };
    let least = |of: &dyn Fn(usize) -> f64| (0..30).map(of).fold(f64::INFINITY, f64::min);
    let expected: f64 = (0..30).map(|i| least(&|j| square(i, j)) + least(&|j| square(j, i))).sum();
    assert!((value - expected).abs() < 1e-12 * expected);
    agrees(&gradient, x, |v| matching.value(v.view()).unwrap());
    // Where the nearest vertices stay, the Hessian is twice the number of pairs of a vertex.
    let along = wave(x.dim(), 1.0);
    let product = matching.hessian_product(x, along.view()).unwrap();
    for (p, a) in product.outer_iter().zip(along.outer_iter()) {
        let twice = 0.5 * p[0] / a[0];
        assert!((twice - twice.round()).abs() < 1e-6 && twice > 0.9, "{twice}");
    }

    // Registered, alone and beside one of ours.
    let kernel = || Kernel::gaussian(0.6).unwrap();
    let sum = WeightedSum::new(1.0, varifold(kernel())).unwrap().and(0.1, Chamfer).unwrap();
    let limits = Limits { iterations: 30, ..Limits::default() };
    for options in [Options::new(kernel(), Chamfer), Options::new(kernel(), sum)] {
        let options = Options { limits, ..options };
        let r = Registration::<f64>::new(&source, &target, &options, &Auto).unwrap();
        let report = r.run(None, &mut go_on).unwrap().report;
        assert!(report.settings.attachment.contains("chamfer"));
        assert!(report.after.attachment < 0.1 * report.before.attachment, "{report}");
        assert!(report.distances_after.mean() < 0.4 * report.distances_before.mean(), "{report}");
        let p = 0.1 * wave((30, 2), 2.0);
        let cost = |p: &Array2<f64>| r.evaluate(p.view()).unwrap().cost;
        agrees(&r.evaluate(p.view()).unwrap().momenta, p.view(), cost);
        let single = Registration::<f32>::new(&source, &target, &options, &Auto).unwrap();
        let (a, b) = (single.evaluate(p.view()).unwrap().cost, cost(&p));
        assert!((a / b - 1.0).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn a_model_of_another_crate() {
    // A circle, turned (which moves its vertices), stretched and moved.
    let source = closed_curve(24, |t| [t.cos(), t.sin()]).unwrap();
    let map = array![[1.1, -0.6], [0.5, 0.9]];
    let moved = source.vertices().dot(&map.t()) + array![0.7, -0.2];
    let target = source.with_vertices(moved).unwrap();
    let model: Arc<dyn Model<f64>> = Arc::new(Affine);
    let options = Options {
        gamma: 0.0,
        integrator: Integrator::Rk4,
        steps: 20,
        limits: Limits { iterations: 200, cost_tolerance: 0.0, ..Limits::default() },
        ..Options::with_model(model, Landmarks)
    };
    let r = Registration::new(&source, &target, &options, &Auto).unwrap();
    let p = 0.3 * wave((2, 3), 0.0);
    let cost = |p: &Array2<f64>| r.evaluate(p.view()).unwrap().cost;
    agrees(&r.evaluate(p.view()).unwrap().momenta, p.view(), cost);
    let found = r.run(None, &mut go_on).unwrap();
    assert!(found.report.after.attachment < 1e-12, "{}", found.report);
    assert_eq!(found.report.settings.kernel, "affine");
    // det of the flow is exp of the trace of its field, and that of the map.
    let trace = found.momenta[[0, 0]] + found.momenta[[1, 1]];
    let det = map[[0, 0]] * map[[1, 1]] - map[[0, 1]] * map[[1, 0]];
    assert!((trace.exp() - det).abs() < 1e-5, "{trace} {det}");
    for found in [found.report.jacobian.min, found.report.jacobian.max] {
        assert!((found - det).abs() < 1e-5, "{found} {det}");
    }
    // A checkpoint goes on, bit for bit; of another model it is refused.
    let limits = Limits { iterations: 3, ..options.limits };
    let short = Registration::new(&source, &target, &Options { limits, ..options }, &Auto).unwrap();
    let part = short.run(None, &mut go_on).unwrap().checkpoint;
    assert_eq!(r.resume(&part, &mut go_on).unwrap().momenta, found.momenta);
    let other = Options::new(Kernel::gaussian(1.0).unwrap(), Landmarks);
    let other = Registration::<f64>::new(&source, &target, &other, &Auto).unwrap();
    assert!(other.resume(&part, &mut go_on).is_err());
}

#[test]
fn a_kernel_of_another_crate() {
    let (source, target) = curve_pair(20).unwrap();
    let options =
        Options::new(kernel::student(0.8).unwrap(), varifold(kernel::student(0.5).unwrap()));
    let r = Registration::<f64>::new(&source, &target, &options, &Auto).unwrap();
    let p = 0.1 * wave((20, 2), 1.0);
    let e = r.evaluate(p.view()).unwrap();
    agrees(&e.momenta, p.view(), |p| r.evaluate(p.view()).unwrap().cost);
    // The energy is Σ_ij k(x_i, x_j) <p_i, p_j> / 2.
    let x = source.vertices();
    let k = |i: usize, j: usize| {
        let gap = &x.row(i) - &x.row(j);
        (1.0 + gap.dot(&gap) / 0.64).powi(-2)
    };
    let pairs = (0..20).flat_map(|i| (0..20).map(move |j| (i, j)));
    let energy: f64 = pairs.map(|(i, j)| 0.5 * k(i, j) * p.row(i).dot(&p.row(j))).sum();
    assert!((e.hamiltonian / energy - 1.0).abs() < 1e-12, "{} {energy}", e.hamiltonian);
}

#[test]
fn an_optimiser_of_another_crate() {
    // Landmarks so far apart that steepest descent gets there: the Hessian is nearly a multiple of one.
    let source = closed_curve(8, |t| [2.0 * t.cos(), 2.0 * t.sin()]).unwrap();
    let target = closed_curve(8, |t| [2.5 * t.cos() + 0.3, 1.8 * t.sin()]).unwrap();
    let limits = Limits {
        iterations: 2000,
        evaluations: 5000,
        gradient_tolerance: 1e-6,
        cost_tolerance: 0.0,
        ..Limits::default()
    };
    let kernel = Kernel::gaussian(0.8).unwrap();
    let options = Options { gamma: 0.1, steps: 6, limits, ..Options::new(kernel, Landmarks) };
    let with = |limits| {
        let options = Options { limits, ..options.clone() };
        Registration::<f64>::new(&source, &target, &options, &Auto).unwrap()
    };
    let r = with(limits);
    let best = r.run(None, &mut go_on).unwrap().report;
    let mut costs = vec![];
    let mut watch = |p: &Progress<'_>| {
        costs.push(p.cost);
        ControlFlow::Continue(())
    };
    let whole = r.run_with(&mut Descent, None, &mut watch).unwrap();
    assert!(costs.windows(2).all(|c| c[1] < c[0]) && costs.len() == whole.report.iterations);
    // Both end at the same minimum, L-BFGS in far fewer steps.
    let (a, b) = (whole.report.after.cost, best.after.cost);
    assert!((a / b - 1.0).abs() < 1e-6, "{a} {b}");
    assert_eq!(whole.report.stop, Stop::GradientTolerance);
    assert!(best.iterations < whole.report.iterations, "{best}");
    // It remembers nothing, so that it goes on from a checkpoint bit for bit.
    let part = with(Limits { iterations: 7, ..limits }).run_with(&mut Descent, None, &mut go_on);
    let part = part.unwrap();
    assert_eq!((part.report.iterations, part.report.stop), (7, Stop::IterationLimit));
    let rest = r.resume_with(&mut Descent, &part.checkpoint, &mut go_on).unwrap();
    assert_eq!(rest.momenta, whole.momenta);
    assert_eq!(rest.report.evaluations, whole.report.evaluations);
    // L-BFGS goes on from it too.
    let other = r.resume(&part.checkpoint, &mut go_on).unwrap().report.after.cost;
    assert!((other / b - 1.0).abs() < 1e-6, "{other} {b}");

    // Limits and observers end it, with the best point.
    let few = with(Limits { evaluations: 9, ..limits });
    let few = few.run_with(&mut Descent, None, &mut go_on).unwrap().report;
    assert_eq!((few.evaluations, few.stop), (9, Stop::EvaluationLimit));
    struct Until(usize);
    impl Observer for Until {
        fn iteration(&mut self, _: &Progress<'_>) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
        fn evaluation(&mut self, made: usize) -> ControlFlow<()> {
            if made < self.0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
    }
    let few = r.run_with(&mut Descent, None, &mut Until(5)).unwrap().report;
    assert_eq!((few.evaluations, few.stop), (5, Stop::Interrupted));
    assert!(few.after.cost < few.before.cost);
}

/// What it costs a contributor: one file each.
#[test]
fn they_are_short() {
    let lines = |text: &str| text.lines().filter(|l| !l.trim().is_empty()).count();
    let attachment = lines(include_str!("../src/chamfer.rs"));
    let model = lines(include_str!("../src/affine.rs"));
    let kernel = lines(include_str!("../src/kernel.rs"));
    let preconditioner = lines(include_str!("../src/pairs.rs"));
    let optimiser = lines(include_str!("../src/descent.rs"));
    assert!(kernel <= 12, "{kernel} lines");
    assert!((10..=60).contains(&preconditioner), "{preconditioner} lines");
    assert!(attachment <= 40, "{attachment} lines");
    assert!(model <= 60, "{model} lines");
    assert!(optimiser <= 40, "{optimiser} lines");
}

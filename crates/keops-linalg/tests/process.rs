//! Gaussian processes beside scikit-learn's equations, differences and dense algebra.
//! Expected values: scripts/golden/krylov.py, which scikit-learn confirms where it is installed.

mod common;
use common::*;
use keops_core::spec::Device;
use keops_cpu::Cpu;
use keops_linalg::{FittedProcess, GaussianProcess, ProcessError};
use ndarray::{Array1, Array2, Axis, Ix1, Ix2, array};

const ALIASES: [&str; 4] = ["x = Vi(2)", "y = Vj(2)", "v = Pm(1)", "l = Pm(2)"];
fn process() -> GaussianProcess<Device> {
    let own: GaussianProcess =
        GaussianProcess::new("v * Exp(-SqDist(x / l, y / l) / 2)", ALIASES).unwrap();
    own.at(Device::new(Cpu::new()))
}
fn values() -> Array1<f64> {
    golden::<Ix2>("b").index_axis_move(Axis(1), 0)
}
fn fitted() -> FittedProcess<Device> {
    let parameters = [array![1.7], array![0.4, 0.9]];
    process().condition(&golden::<Ix2>("x"), &values(), &parameters, 0.1).unwrap()
}

#[test]
fn likelihood_gradient_and_predictions_are_those_of_scikit_learn() {
    let own = fitted();
    let want = golden::<Ix1>("gp_likelihood")[0];
    assert!((own.log_likelihood() / want - 1.0).abs() < 1e-10);
    let (parameters, noise) = own.gradient().unwrap();
    let all: Vec<f64> = parameters.iter().flatten().copied().chain([noise]).collect();
    assert!(distance(&all, &golden::<Ix1>("gp_slope")) < 1e-9);
    let (mean, variance) = own.predict(&golden::<Ix2>("y")).unwrap();
    assert!(distance(&mean, &golden::<Ix2>("gp_mean")) < 1e-9);
    assert!(distance(&variance, &golden::<Ix1>("gp_variance")) < 1e-9);
    let (mean, variance) = own.leave_one_out();
    assert!(distance(&mean, &golden::<Ix1>("gp_loo_mean")) < 1e-9);
    assert!(distance(&variance, &golden::<Ix1>("gp_loo_variance")) < 1e-9);
}

#[test]
fn the_order_of_points_and_of_names_is_nothing_to_it() {
    let own = fitted();
    let order: Vec<usize> = (0..80).map(|k| (k * 7) % 80).collect();
    let x = golden::<Ix2>("x").select(Axis(0), &order);
    let parameters = [array![1.7], array![0.4, 0.9]];
    let y = values().select(Axis(0), &order);
    let turned = process().condition(&x, &y, &parameters, 0.1).unwrap();
    assert!((turned.log_likelihood() - own.log_likelihood()).abs() < 1e-9);
    // Parameters before points, and the column's point before the row's.
    let aliases = ["l = Pm(2)", "y = Vj(2)", "v = Pm(1)", "x = Vi(2)"];
    let other: GaussianProcess =
        GaussianProcess::new("v * Exp(-SqDist(x / l, y / l) / 2)", aliases).unwrap();
    let parameters = [array![0.4, 0.9], array![1.7]];
    let other = other.condition(&golden::<Ix2>("x"), &values(), &parameters, 0.1).unwrap();
    assert!((other.log_likelihood() - own.log_likelihood()).abs() < 1e-9);
    let (want, noise) = own.gradient().unwrap();
    let (made, same) = other.gradient().unwrap();
    assert!(distance(&made[0], &want[1]) < 1e-9 && distance(&made[1], &want[0]) < 1e-9);
    assert!((noise - same).abs() < 1e-9 * noise.abs());
}

#[test]
fn samples_have_the_moments_of_the_posterior() {
    let (own, z) = (fitted(), array![[0.2, 0.3], [0.25, 0.3], [2.0, 2.0]]);
    let (mean, variance) = own.predict(&z).unwrap();
    let count = 20_000;
    let samples = own.sample(&z, count, 3).unwrap();
    assert_eq!(samples.dim(), (3, count));
    for ((s, m), v) in samples.outer_iter().zip(&mean).zip(&variance) {
        let own = s.mean().unwrap();
        assert!((own - m).abs() < 4.0 * (v / count as f64).sqrt(), "{own} {m} {v}");
        let square = s.mapv(|s| (s - m) * (s - m)).mean().unwrap();
        assert!((square / v - 1.0).abs() < 4.0 * (2.0 / count as f64).sqrt(), "{square} {v}");
    }
    // Near points vary together, far ones do not.
    let gaps = &samples - &mean.clone().insert_axis(Axis(1));
    let correlation = |a: usize, b: usize| {
        (&gaps.row(a) * &gaps.row(b)).mean().unwrap() / (variance[a] * variance[b]).sqrt()
    };
    assert!(correlation(0, 1) > 0.8 && correlation(0, 2).abs() < 0.04);
    assert_eq!(own.sample(&z, count, 3).unwrap(), samples);
}

/// The fit of lengths ends where the gradient of the likelihood in their logarithms is 0, and no
/// lower than scikit-learn's grid around it: all neighbours are worse.
#[test]
fn a_fit_ends_at_a_maximum() {
    let (x, y) = (golden::<Ix2>("x"), values());
    let start = [array![1.0], array![1.0, 1.0]];
    let begun = process().condition(&x, &y, &start, 0.1).unwrap();
    let own = process().fit(&x, &y, &start, 0.1).unwrap();
    assert!(own.log_likelihood() > begun.log_likelihood() + 1.0);
    assert!(own.converged() && own.evaluations() > 3);
    let (slopes, noise) = own.gradient().unwrap();
    let logs = slopes.iter().flatten().zip(own.parameters().iter().flatten());
    for (slope, value) in logs.chain([(&noise, &own.noise())]) {
        assert!((slope * value).abs() < 1e-3 || *value > 20.0, "{slope} at {value}");
    }
    // The noise that was added has a deviation of 0.1.
    assert!((own.noise().sqrt() / 0.1 - 1.0).abs() < 0.3, "{}", own.noise());
    for factor in [0.97, 1.03] {
        let moved = [own.parameters()[0].clone(), &own.parameters()[1] * &array![factor, 1.0]];
        let other = process().condition(&x, &y, &moved, own.noise()).unwrap();
        assert!(other.log_likelihood() < own.log_likelihood());
    }
}

/// Values of a wave with noise, of any size.
fn wave(size: f64) -> (Array2<f64>, Array1<f64>) {
    let x = Array2::from_shape_fn((40, 1), |(k, _)| k as f64 / 10.0);
    let of = |k: usize| size * (x[[k, 0]].sin() + 0.2 * ((k * 37) as f64).sin());
    let y = Array1::from_shape_fn(40, of);
    (x, y)
}
fn line() -> GaussianProcess<Device> {
    let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Pm(1)", "l = Pm(1)"];
    let own: GaussianProcess =
        GaussianProcess::new("v * Exp(-SqDist(x / l, y / l) / 2)", aliases).unwrap();
    own.at(Device::new(Cpu::new()))
}

/// The scale of values and starts may be anything: the gradient at the start is up to 1e7 then, and
/// exponentials of a step along it overflow. The likelihood is looked at by differences of its own
/// values, in logarithms.
#[test]
fn fits_converge_from_starts_of_any_scale_or_say_that_they_do_not() {
    let p = line();
    let (mut fits, mut ended) = (0, 0);
    for size in [1e-3, 0.1, 1.0, 10.0, 100.0, 1e4] {
        let (x, y) = wave(size);
        for (v, l, noise) in [(1.0, 1.0, 0.01), (3.0, 0.3, 0.1), (0.3, 3.0, 1.0)] {
            let start = [array![v], array![l]];
            let begun = p.condition(&x, &y, &start, noise).unwrap();
            let own = p.fit(&x, &y, &start, noise).unwrap();
            assert!(own.log_likelihood() > begun.log_likelihood());
            fits += 1;
            if !own.converged() {
                // The likelihood grows as the noise falls, until rounding hides the Cholesky factor.
                assert!(own.noise() / own.parameters()[0][0] < 1e-14, "{size} {start:?} {noise}");
                continue;
            }
            ended += 1;
            let logs = [own.parameters()[0][0].ln(), own.parameters()[1][0].ln(), own.noise().ln()];
            for k in 0..3 {
                let at = |h: f64| {
                    let mut logs = logs;
                    logs[k] += h;
                    let [v, l, noise] = logs.map(f64::exp);
                    let moved = p.condition(&x, &y, &[array![v], array![l]], noise).unwrap();
                    moved.log_likelihood()
                };
                let slope = (at(1e-3) - at(-1e-3)) / 2e-3;
                // 1e-6 for each of 40 points, and the error of the difference.
                assert!(slope.abs() < 2e-3, "{size} {start:?} {noise}: {slope} of logarithm {k}");
            }
        }
    }
    assert!(fits == 18 && ended >= 12, "{ended} of {fits}");
}

/// Points that do not see each other: values are independent, of variance v + noise, which at the
/// maximum is the mean of their squares.
#[test]
fn a_fit_of_independent_values_has_their_variance() {
    let x = Array2::from_shape_fn((30, 1), |(k, _)| 1e3 * k as f64);
    let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Pm(1)"];
    let p: GaussianProcess = GaussianProcess::new("v * Exp(-SqDist(x, y))", aliases).unwrap();
    for size in [1e-6, 1.0, 30.0, 1e6, 1e30] {
        let y = Array1::from_shape_fn(30, |k| size * ((k * k) as f64).cos());
        let own = p.fit(&x, &y, &[array![1.0]], 0.5).unwrap();
        let want = y.mapv(|y| y * y).mean().unwrap();
        let got = own.parameters()[0][0] + own.noise();
        assert!(own.converged() && (got / want - 1.0).abs() < 1e-4, "{size}: {got} not {want}");
    }
    // Equal values are likelier the smoother they are.
    let (x, _) = wave(1.0);
    for value in [5.0, 1000.0] {
        let y = Array1::from_elem(40, value);
        let start = [array![1.0], array![1.0]];
        let begun = line().condition(&x, &y, &start, 0.01).unwrap();
        let own = line().fit(&x, &y, &start, 0.01).unwrap();
        assert!(own.log_likelihood() > begun.log_likelihood() + 10.0);
    }
}

#[test]
fn what_goes_wrong_is_said() {
    let (x, y) = (golden::<Ix2>("x"), values());
    let parameters = [array![1.7], array![0.4, 0.9]];
    let p = process();
    let twice = ndarray::concatenate![Axis(0), x, x];
    let both = ndarray::concatenate![Axis(0), y, y];
    let e = p.condition(&twice, &both, &parameters, 0.0).unwrap_err();
    assert!(matches!(e, ProcessError::NotDefinite { noise: 0.0 }), "{e}");
    p.condition(&twice, &both, &parameters, 1e-6).unwrap();
    let e = p.condition(&x, &y, &parameters, -1.0).unwrap_err().to_string();
    assert!(e.contains("at least 0, got -1"), "{e}");
    assert!(
        p.condition(&x, &y, &parameters[..1], 0.1).unwrap_err().to_string().contains("\"l\", 2")
    );
    assert!(p.condition(&x, &Array1::ones(3), &parameters, 0.1).is_err());
    assert!(p.condition(&Array2::ones((80, 3)), &y, &parameters, 0.1).is_err());
    let mut nan = y.clone();
    nan[7] = f64::NAN;
    let e = p.condition(&x, &nan, &parameters, 0.1).unwrap_err();
    assert!(matches!(e, ProcessError::NotFinite { .. }), "{e}");
    let e = p.fit(&x, &y, &[array![1.0], array![0.0, 1.0]], 0.1).unwrap_err().to_string();
    assert!(e.contains("must be positive, got 0"), "{e}");
    assert!(fitted().predict(&Array2::ones((1, 3))).is_err());
    type Process = GaussianProcess;
    let e = Process::new("x - y", ["x = Vi(1)", "y = Vj(1)"]).unwrap();
    let e = e.condition(&array![[0.0], [1.0]], &array![1.0, 2.0], &[], 0.1).unwrap_err();
    assert!(matches!(e, ProcessError::NotSymmetric { .. }), "{e}");
    assert!(Process::new("SqDist(x, y)", ["x = Vi(1)", "y = Vj(1)", "z = Vj(1)"]).is_err());
    assert!(Process::new("Exp(x)", ["x = Vi(1)"]).is_err());
    assert!(Process::new("Exp(-SqDist(x, z))", ["x = Vi(1)", "y = Vj(1)"]).is_err());
    let numbered = |covariance: &str| {
        let e = Process::new(covariance, ["x = Vi(1)", "y = Vj(1)"]).unwrap_err().to_string();
        assert!(e.contains("got the row number `i`"), "{e}");
    };
    numbered("(i == j) * x * y");
    let e = p.condition(&(&x * f64::NAN), &y, &parameters, 0.1).unwrap_err().to_string();
    assert_eq!(e, "an entry of the points is not finite");
    // No point, and one.
    let none = p.condition(&Array2::zeros((0, 2)), &Array1::zeros(0), &parameters, 0.1).unwrap();
    assert_eq!(none.log_likelihood(), 0.0);
    let (mean, variance) = none.predict(&x).unwrap();
    assert!(mean.iter().all(|m| *m == 0.0) && variance.iter().all(|v| (v - 1.7).abs() < 1e-12));
    let one = p.condition(&array![[0.0, 0.0]], &array![2.0], &parameters, 0.3).unwrap();
    let want = -0.5 * (4.0 / 2.0 + 2f64.ln() + std::f64::consts::TAU.ln());
    assert!((one.log_likelihood() - want).abs() < 1e-12);
}

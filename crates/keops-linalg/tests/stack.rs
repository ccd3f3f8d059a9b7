//! Threads with stacks of 64 KiB: every method that factorises dense matrices.

mod common;
use common::*;
use keops_core::genred::Genred;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use keops_linalg::{
    Eigsh, GaussianMixture, GaussianProcess, KernelOperator, KernelSolve, MatrixFunction,
    PivotedCholesky, SolveOptions, Svds,
};
use ndarray::{Array2, array};
use std::sync::Arc;
use std::thread;

/// Runs on 64 KiB; an overflow ends the process.
fn small(work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(64 << 10).spawn(work).unwrap().join().unwrap();
}
fn points() -> Array2<f64> {
    Random::new(5).array(&[60, 2]).into_dimensionality().unwrap()
}
fn sum() -> Genred<Device> {
    let aliases = ["x = Vi(2)", "y = Vj(2)", "v = Vj(1)"];
    let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * v", aliases, &SUM, Axis::J).unwrap();
    sum.at(Device::new(Cpu::new()))
}

#[test]
fn eigenpairs_functions_and_preconditioners() {
    small(|| {
        let (sum, x) = (sum(), points());
        let k = KernelOperator::new(&sum, "v", (&x, &x)).unwrap();
        let largest = Eigsh::of(&k).largest(5).run().unwrap();
        assert!(largest.values[0] > 1.0 && largest.values[0] <= 60.0);
        let trace = MatrixFunction::of(&k).ridge(0.1).trace(|x| x).unwrap();
        assert!((trace.value - 66.0).abs() < 6.0 * trace.standard_error + 1e-6); // 60 (1 + 0.1)
        let p = PivotedCholesky::new(&k, 20).unwrap();
        assert!(p.rank(0) > 10);
    });
}

#[test]
fn singular_values_and_mixtures() {
    small(|| {
        let (sum, x) = (sum(), points());
        let k = KernelOperator::new(&sum, "v", (&x, &x)).unwrap();
        let found = Svds::of(&k).rank(5).run().unwrap();
        assert!(found.values[0] > 1.0 && found.values[0] <= 60.0);
        let mixture: GaussianMixture = GaussianMixture::new(3);
        assert!(mixture.fit(&x).unwrap().log_likelihood.is_finite());
    });
}

#[test]
fn solves_as_functions_with_a_preconditioner() {
    small(|| {
        let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
        let k: KernelSolve =
            KernelSolve::new("Exp(-SqDist(x, y)) * b", aliases, "b", Axis::J).unwrap();
        let of = k.function(SolveOptions::ridge(1e-3));
        let f = of.preconditioner(|k| Ok(Arc::new(PivotedCholesky::new(k, 20)?)));
        let x = Array2::from_shape_fn((40, 1), |(k, _)| k as f64 / 20.0);
        let a = f.genred().unwrap().call((&x, &x, &x)).unwrap();
        assert!(a.iter().all(|a| a.is_finite()));
    });
}

#[test]
fn gaussian_processes() {
    small(|| {
        let aliases = ["x = Vi(2)", "y = Vj(2)", "v = Pm(1)", "l = Pm(1)"];
        let p: GaussianProcess =
            GaussianProcess::new("v * Exp(-SqDist(x / l, y / l) / 2)", aliases).unwrap();
        let (x, start) = (points(), [array![1.0], array![1.0]]);
        let y = x.column(0).to_owned();
        let own = p.condition(&x, &y, &start, 0.1).unwrap();
        assert_eq!(own.sample(&x, 2, 0).unwrap().dim(), (60, 2));
        #[cfg(feature = "argmin")]
        assert!(p.fit(&x, &y, &start, 0.1).unwrap().log_likelihood() > own.log_likelihood());
    });
}

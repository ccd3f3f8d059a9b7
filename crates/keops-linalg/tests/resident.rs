//! Solvers send the points to the device once, and take arrays that it holds already.

use keops_core::data::Buffer;
use keops_core::error::{CompileError, RunError};
use keops_core::genred::Genred;
use keops_core::interp::Interpreter;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Backend, Device, Executable, Held, ReduceSpec, Unavailable};
use keops_linalg::{KernelOperator, KernelSolve, SolveOptions};
use ndarray::{Array2, Array3};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The interpreter, with the number of arrays that it was sent.
struct Counting(Arc<AtomicUsize>);

impl Backend for Counting {
    fn name(&self) -> &str {
        "counting"
    }
    fn check(&self) -> Result<(), Unavailable> {
        Ok(())
    }
    fn target(&self) -> String {
        "any".into()
    }
    fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
        Interpreter::new().compile(spec)
    }
    fn upload(&self, values: Buffer) -> Result<Arc<dyn Held>, RunError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(values))
    }
}

#[test]
fn points_are_sent_once_for_a_solve() -> Result<(), Box<dyn std::error::Error>> {
    let sent = Arc::new(AtomicUsize::new(0));
    let device = Device::new(Counting(sent.clone()));
    let aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"];
    let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J)?;
    let solve = KernelSolve::from_sum(sum.at(device.clone()), "b")?;
    let x = Array2::from_shape_fn((30, 2), |(i, k)| ((5 * i + 3 * k) as f64).sin());
    let b = Array2::from_shape_fn((30, 1), |(i, _)| (i as f64).cos());
    let options = SolveOptions::ridge(0.5);
    let plain = solve.call((&x, &x, &b), &options)?;
    assert!(plain.info.iterations > 2);
    assert_eq!(sent.load(Ordering::SeqCst), 2); // x and y, not once a product
    let points = device.upload(&x)?;
    let held = solve.call((&points, &points, &b), &options)?;
    assert_eq!(sent.load(Ordering::SeqCst), 3); // nothing more
    assert_eq!(held.value, plain.value);

    let (e, wrt) = (Array2::<f64>::ones((30, 1)), ["x", "b"]);
    let given = solve.vjp((&x, &x, &b), &plain.value, &e, &wrt, &options)?;
    let held = solve.vjp((&points, &points, &b), &plain.value, &e, &wrt, &options)?;
    assert_eq!((held.arguments, held.ridge), (given.arguments, given.ridge));

    let operator = KernelOperator::new(solve.sum(), "b", (&points, &points))?;
    let plain = KernelOperator::new(solve.sum(), "b", (&x, &x))?;
    let right = device.upload(&b)?;
    assert_eq!(operator.apply(&right)?, plain.apply(&b)?);
    assert_eq!(operator.transpose()?.apply(&b)?, plain.transpose()?.apply(&b)?);
    Ok(())
}

/// Points that repeat along batches (of stride 0) are not copied out.
#[test]
fn repeated_points_are_not_multiplied() -> Result<(), Box<dyn std::error::Error>> {
    let sent = Arc::new(AtomicUsize::new(0));
    let device = Device::new(Counting(sent.clone()));
    let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J)?;
    let solve = KernelSolve::from_sum(sum.at(device), "b")?;
    let x = Array2::from_shape_fn((6, 1), |(i, _)| i as f64);
    let repeated = x.broadcast((50, 6, 1)).expect("one more axis");
    let b = Array3::<f64>::ones((50, 6, 1));
    let many = solve.call((&repeated, &repeated, &b), &SolveOptions::ridge(0.5))?.value;
    assert_eq!(sent.load(Ordering::SeqCst), 0);
    let one = Array2::<f64>::ones((6, 1));
    let one = solve.call((&x, &x, &one), &SolveOptions::ridge(0.5))?.value;
    for solution in many.outer_iter() {
        assert!((&solution - &one).iter().all(|d| d.abs() < 1e-6));
    }
    Ok(())
}

//! Momenta from velocities: kernel interpolation.

use crate::error::LddmmError;
use crate::hamiltonian::State;
use crate::kernel::Kernel;
use crate::sum::Real;
use keops_core::genred::Genred;
use keops_core::graph::{Builder, Category, Var};
use keops_core::outer::Formula;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_linalg::{KernelSolve, OperatorError, SolveOptions};
use ndarray::{ArrayView2, Ix2};

/// The state of landmarks `q`, shape (n, d), whose velocities are `v`, of the same shape: momenta
/// with `Σ_j k(|q_i − q_j|²) p_j + ridge p_i = v_i`, by conjugate gradients. The velocity of
/// other points then interpolates `v` (with ridge 0) or smooths it. Displacements to
/// corresponding points, as `v`, give registrations a start.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::hamiltonian::Dynamics;
/// use keops_lddmm::{kernel::Kernel, momenta::with_velocities};
/// use keops_linalg::SolveOptions;
/// use ndarray::array;
///
/// let (kernel, device) = (Kernel::gaussian(1.0)?, Device::new(Interpreter::new()));
/// let (q, v) = (array![[0.0, 0.0], [1.0, 0.5]], array![[0.0, 1.0], [2.0, 0.0]]);
/// let options = SolveOptions { ridge: 0.0, tolerance: 1e-12, ..SolveOptions::default() };
/// let state = with_velocities(&kernel, q.view(), v.view(), &options, &device)?;
/// let moved = Dynamics::new(&kernel, 2, &device)?.velocity(&state, q.view())?;
/// assert!((moved - v).iter().all(|gap: &f64| gap.abs() < 1e-10));
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
///
/// # Errors
/// [`LddmmError::Array`] for shapes that differ, [`LddmmError::Solve`] if the system has no
/// solution within the iterations allowed (landmarks that coincide need a ridge).
pub fn with_velocities<F: Real>(
    kernel: &Kernel,
    q: ArrayView2<'_, F>,
    v: ArrayView2<'_, F>,
    options: &SolveOptions,
    device: &Device,
) -> Result<State<F>, LddmmError> {
    // (Checks both.)
    let state = State::new(q, v)?;
    let dim = state.dim();
    let b = Builder::default();
    let vars = [(0, Category::I), (1, Category::J), (2, Category::J)]
        .map(|(index, category)| Var { index, dim, category });
    let root = {
        let [x, y, p] = vars.map(|v| b.var(v));
        (kernel.formula((x - y).dot(x - y)) * p).id
    };
    let names = ["q", "q (columns)", "p"].map(String::from).to_vec();
    let formula =
        Formula { graph: b.into_graph().into(), root, weight: None, vars: vars.to_vec(), names };
    let sum: Genred =
        Genred::from_formula(formula, &SUM, Axis::J).map_err(keops_core::error::Error::from)?;
    let solve = match KernelSolve::from_sum(sum.at(device.clone()), "p") {
        Ok(s) => s,
        Err(OperatorError::Core(e)) => return Err(e.into()),
        Err(e) => unreachable!("a kernel times momenta is linear in them: {e}"),
    };
    let solution = solve.call((&q, &q, &v), options)?;
    match solution.value.into_dimensionality::<Ix2>() {
        Ok(p) => State::new(q, p.view()),
        Err(_) => unreachable!("the solution has the shape of the velocities"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hamiltonian::Dynamics;
    use keops_core::interp::Interpreter;
    use ndarray::{Array2, Axis};

    #[test]
    fn velocities_return() {
        let device = Device::new(Interpreter::new());
        let n = 12;
        let q = Array2::from_shape_fn((n, 3), |(i, k)| (1.7 * i as f64 + 5.1 * k as f64).sin());
        let p = Array2::from_shape_fn((n, 3), |(i, k)| (2.3 * i as f64 - 1.1 * k as f64).cos());
        let options = SolveOptions { ridge: 0.0, tolerance: 1e-13, ..SolveOptions::default() };
        for kernel in [Kernel::gaussian(0.6).unwrap(), Kernel::cauchy(0.5).unwrap()] {
            let dynamics = Dynamics::new(&kernel, 3, &device).unwrap();
            let state = State::new(q.view(), p.view()).unwrap();
            let v = dynamics.velocity(&state, q.view()).unwrap();
            let found = with_velocities(&kernel, q.view(), v.view(), &options, &device).unwrap();
            let gap = (&found.p() - &p).fold(0.0, |m: f64, g| m.max(g.abs()));
            assert!(gap < 1e-8, "{kernel}: {gap:e}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let device = Device::new(Interpreter::new());
        let kernel = Kernel::gaussian(1.0).unwrap();
        let q = Array2::<f64>::from_shape_fn((3, 2), |(i, k)| (i * (k + 1)) as f64);
        let options = SolveOptions::ridge(0.0);
        let run = |q: ArrayView2<'_, f64>, v: ArrayView2<'_, f64>| {
            with_velocities(&kernel, q, v, &options, &device)
        };
        let e = run(q.view(), q.slice_axis(Axis(0), (..2).into())).unwrap_err();
        assert!(matches!(e, LddmmError::Array { .. }), "{e}");
        // One landmark twice, at two velocities.
        let twice = q.select(ndarray::Axis(0), &[0, 0]);
        let v = q.select(ndarray::Axis(0), &[1, 2]);
        let e = run(twice.view(), v.view()).unwrap_err();
        assert!(matches!(e, LddmmError::Solve(_)), "{e}");
    }
}

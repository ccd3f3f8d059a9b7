//! Memory that shooting cannot have is an error, wherever the amount grows with the points: see
//! the test of that name of keops-cpu.

#[path = "../../../tests/support/refusing.rs"]
mod refusing;

use keops_core::error::Error;
use keops_core::spec::Device;
use keops_cpu::Cpu;
use keops_lddmm::LddmmError;
use keops_lddmm::hamiltonian::State;
use keops_lddmm::kernel::Kernel;
use keops_lddmm::shooting::{Integrator, Shooting};
use ndarray::{Array2, array};
use refusing::refuse_each;

fn device<R>(made: Result<R, LddmmError>) -> Result<R, Error> {
    made.map_err(|e| match e {
        LddmmError::Device(e) => e,
        other => panic!("{other}"),
    })
}

// One test: the allocator is one for all threads of the process.
#[test]
fn refused_memory_is_an_error() {
    let kernel = Kernel::gaussian(1.0).expect("a width");
    let cpu = Device::new(Cpu::new());
    // Two landmarks carry many points in the plane.
    let (q, p) = (array![[0.0, 0.0], [1.0, 0.0]], array![[0.0, 1.0], [1.0, 0.0]]);
    let points = Array2::from_shape_fn((70_000, 2), |(k, c)| ((2 * k + c) as f64).sin());
    let start = || -> Result<State<f64>, LddmmError> {
        State::new(q.view(), p.view())?.with_silent(points.view())
    };
    for scheme in [Integrator::Heun, Integrator::Rk4] {
        let shooting = Shooting::new(&kernel, 2, scheme, 3, &cpu).expect("parameters");
        let name = |what: &str| format!("{scheme}, {what}");
        refuse_each(&name("shoot"), 7, || device(start().and_then(|s| shooting.shoot(s))));
        let trajectory = shooting.shoot(start().expect("memory")).expect("memory");
        refuse_each(&name("adjoint"), 7, || {
            device(start().and_then(|s| shooting.pull_back(&trajectory, s)))
        });
        refuse_each(&name("carried points"), 7, || {
            device(shooting.carry(&trajectory, points.view()))
        });
        refuse_each(&name("Jacobians"), 7, || {
            device(shooting.carry_with_jacobian(&trajectory, points.view()))
        });
    }
    // Many landmarks: their state is copied, before any sum over pairs.
    let many = Array2::<f64>::zeros((70_000, 2));
    refuse_each("landmarks", 1, || device(State::new(many.view(), many.view())));
}

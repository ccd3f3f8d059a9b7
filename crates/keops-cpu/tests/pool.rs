//! All work is done on the pool of the caller.

use keops_core::genred::Genred;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use ndarray::Array2;

/// (A process of its own: the global pool is one for all tests of a program.)
#[test]
fn the_global_pool_is_not_touched() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
    // Enough for several threads.
    let y = Array2::from_shape_fn((3000, 3), |(j, k)| (j * 3 + k) as f32 * 1e-4);
    for level in Level::available() {
        let device = Device::new(Cpu::with_level(level).expect("available"));
        let aliases = ["x = Vi(3)", "y = Vj(3)"];
        let f: Genred = Genred::new("Exp(-SqDist(x, y))", aliases, &SUM, Axis::J).expect("valid");
        let f = f.at(device);
        let gradient = f.vjp("y").expect("differentiable");
        pool.install(|| {
            let out = f.call((&y, &y)).expect("sums");
            gradient.call((&y, &y, &out)).expect("a gradient");
        });
    }
    // Fails if something has started the global pool.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("nothing did");
}

//! What a device keeps is bounded in bytes, however many formulas it meets and however long their
//! vectors are.

use keops_core::genred::{Genred, Reference};
use keops_core::lazy::LazyTensor;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use ndarray::{Array2, array};

/// Sum of `k x` over two columns, which is known.
fn sum_of(k: usize, d: usize, device: &Device) -> f64 {
    let aliases = [format!("x = Vi({d})"), "y = Vj(1)".into()];
    let g: Genred = Genred::new(&format!("x * {k} * y"), aliases, &SUM, Axis::J).expect("");
    let (x, y) = (Array2::<f64>::ones((2, d)), array![[1.0], [2.0]]);
    g.at(device.clone()).call((&x, &y)).expect("a value")[[1, d - 1]]
}

#[test]
fn ten_thousand_formulas() {
    for level in Level::available() {
        let device = Device::new(Cpu::with_level(level).expect("available"));
        device.set_cache_limit(8 << 20);
        for k in 2..10_002 {
            assert_eq!(sum_of(k, 3, &device), 3.0 * k as f64);
            if k % 500 == 0 {
                assert!(device.cache_bytes() <= 9 << 20, "{} bytes", device.cache_bytes());
            }
        }
        assert!(device.cached() > 100, "{} of 10,000 are kept", device.cached());
        // Those that were dropped are compiled again.
        assert_eq!(sum_of(2, 3, &device), 6.0);
    }
}

#[test]
fn long_vectors() {
    let device = Device::new(Cpu::new());
    device.set_cache_limit(4 << 20);
    for k in 2..300 {
        assert_eq!(sum_of(k, 5000, &device), 3.0 * k as f64);
    }
    assert!(device.cache_bytes() <= 5 << 20, "{} bytes", device.cache_bytes());
}

#[test]
fn recent_use_stays() {
    let device = Device::new(Cpu::new());
    device.set_cache_limit(1 << 20);
    let hot: Genred = Genred::new("x * 0.5", ["x = Vj(1)"], &SUM, Axis::J).expect("a formula");
    let hot = hot.at(device.clone());
    let x = array![[1.0], [3.0]];
    for k in 2..500 {
        assert_eq!(hot.call((&x,)).expect("a value")[[0, 0]], 2.0);
        let before = device.cached();
        // It was not compiled again: nothing new is kept.
        assert_eq!(hot.call((&x,)).expect("a value")[[0, 0]], 2.0);
        assert_eq!(device.cached(), before);
        sum_of(k, 3, &device);
    }
    // A limit that holds nothing still computes.
    device.set_cache_limit(0);
    assert_eq!(device.cached(), 0);
    assert_eq!(hot.call((&x,)).expect("a value")[[0, 0]], 2.0);
    assert_eq!(device.cached(), 0);
}

#[test]
fn formulas_of_operators() {
    let device = Device::new(Cpu::new());
    device.set_cache_limit(2 << 20);
    let x = LazyTensor::<f64, Reference>::vj(array![[1.0], [3.0]]);
    for k in 1..2_000 {
        let formula = (&x * k as f64 + 1.0).at(device.clone());
        let sum = formula.sum_reduction(Axis::J).and_then(|r| r.call(()));
        assert_eq!(sum.expect("a value")[[0, 0]], 4.0 * k as f64 + 2.0);
    }
    assert!(device.cache_bytes() <= 3 << 20, "{} bytes", device.cache_bytes());
}

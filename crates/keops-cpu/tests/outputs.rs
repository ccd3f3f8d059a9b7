//! Results in memory of the caller: nothing of what was there before remains.

use keops_core::data::Element;
use keops_core::genred::Genred;
use keops_core::ranges::Ranges;
use keops_core::reduce;
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use ndarray::{ArrayD, IxDyn};

fn fill<T: Element>(shape: &[usize]) -> ArrayD<T> {
    let mut k = 0.0f64;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        k += 1.0;
        T::of_f64((k * 0.7).sin())
    })
}

fn check<T: Element + PartialEq + std::fmt::Debug>(device: &Device, dim: usize) {
    let aliases = [format!("x = Vi({dim})"), format!("y = Vj({dim})"), "b = Vj(2)".into()];
    let sums = (&reduce::SUM, "Exp(-SqDist(x, y)) * b");
    let least = (&reduce::MIN, "SqDist(x, y) * b");
    let few = (&reduce::K_MIN, "SqDist(x, y)");
    for (def, formula) in [sums, least, few] {
        let k = if def == &reduce::K_MIN { 4 } else { 1 };
        for (m, n) in [(1, 3), (37, 70), (300, 0), (5, 900)] {
            for axis in [Axis::I, Axis::J] {
                let f: Genred = Genred::new(formula, &aliases, (def, k), axis).unwrap();
                let f = f.at(device.clone());
                let (x, y) = (fill::<T>(&[2, m, dim]), fill::<T>(&[n, dim]));
                let b = fill::<T>(&[n, 2]);
                // Some rows meet nothing.
                let ranges =
                    Ranges::from_clusters(&[m / 2, m], &[n / 3, n], &[false, false, true, false]);
                for f in [f.clone(), f.ranges(ranges.unwrap())] {
                    let want = f.call((&x, &y, &b)).unwrap();
                    let mut out = ArrayD::from_elem(want.raw_dim(), T::of_f64(f64::NAN));
                    let memory = out.as_ptr();
                    f.call_into((&x, &y, &b), &mut out).unwrap();
                    assert_eq!(out, want, "{} {axis:?} {m} x {n}, dimension {dim}", def.name);
                    assert!(out.is_empty() || out.as_ptr() == memory);
                }
            }
        }
    }
}

#[test]
fn memory_of_the_caller_is_overwritten() {
    for level in Level::available() {
        let device = Device::new(Cpu::with_level(level).unwrap());
        for dim in [3, 40] {
            check::<f32>(&device, dim);
            check::<f64>(&device, dim);
        }
    }
}

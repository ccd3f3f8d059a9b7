//! Sizes that no memory could hold, and sizes of nothing.

mod common;

use common::levels;
use keops_core::data::{ArgView, Element};
use keops_core::genred::Genred;
use keops_core::interp::Interpreter;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;

/// Views of no memory that pretend to be enormous.
#[test]
fn sizes_that_overflow_are_errors() {
    let one = ndarray::arr0(1.0f64);
    let devices = levels().into_iter().map(|l| Device::new(Cpu::with_level(l).expect("available")));
    for device in devices.chain([Device::new(Interpreter::new())]) {
        let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
        let sum: Genred =
            Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J).expect("a formula");
        let sum = sum.at(device);
        let huge = |rows: usize| one.broadcast((rows, 1)).expect("a view");
        let small = huge(3);
        let call = |x: &[ArgView<'_>]| sum.run(x).expect_err("too large").to_string();
        let erased = |rows: usize| f64::erase(huge(rows).into_dyn());
        for rows in [1 << 40, 1 << 33, u32::MAX as usize + 1] {
            let e = call(&[erased(rows), erased(3), erased(3)]);
            assert!(e.contains("too large"), "{e}");
            let e = call(&[erased(3), erased(rows), erased(rows)]);
            assert!(e.contains("too large"), "{e}");
        }
        // Batch axes whose product overflows, of arguments that each fit; also where all else is
        // empty.
        let axis = |shape: [usize; 4]| f64::erase(one.broadcast(shape).expect("a view").into_dyn());
        for rows in [0, 1, 3] {
            let e =
                call(&[axis([1 << 40, 1, rows, 1]), axis([1, 1 << 40, 3, 1]), axis([1, 1, 3, 1])]);
            assert!(e.contains("too large"), "{e}");
        }
        // Nothing of something enormous is nothing.
        let empty = [axis([1 << 20, 1 << 20, 0, 1]), axis([1, 1, 3, 1]), axis([1, 1, 3, 1])];
        let out = sum.run(&empty).expect("an empty result");
        assert_eq!(out[0].shape(), [1 << 20, 1 << 20, 0, 1]);
        assert_eq!(sum.call((&small, &small, &small)).expect("three rows").len(), 3);
    }
}

/// `i == j` is not true of neighbours, however many rows there are.
#[test]
fn numbers_of_rows_are_exact_or_refused() {
    let last = 1u32 << 24;
    let text = format!("y * (j == {last}) + y * (j == {}) * 10", last - 1);
    for level in levels() {
        let device = Device::new(Cpu::with_level(level).expect("available"));
        let g: Genred = Genred::new(&text, ["y = Vj(1)"], &SUM, Axis::J).expect("a formula");
        let g = g.at(device);
        // All rows are one, with stride 0.
        let (one, single) = (ndarray::arr0(1.0f64), ndarray::arr0(1.0f32));
        let rows = |n: u32| one.broadcast((n as usize, 1)).expect("a view");
        let singles = |n: u32| single.broadcast((n as usize, 1)).expect("a view");
        assert_eq!(g.call((&rows(last + 1),)).expect("exact")[[0, 0]], 11.0);
        assert_eq!(g.call((&singles(last),)).expect("exact")[[0, 0]], 10.0);
        let e = g.call((&singles(last + 1),)).expect_err("not exact").to_string();
        assert!(e.contains("rows that `j` numbers in f32: the size 16777217"), "{e}");
    }
    // Rows that no number counts are as many as they like.
    let plain: Genred = Genred::new("y", ["y = Vj(1)"], &SUM, Axis::J).expect("a formula");
    let one = ndarray::arr0(1.0f32);
    let plain = plain.at(Device::new(Cpu::new()));
    let sum = plain.call((&one.broadcast((last as usize + 2, 1)).expect("a view"),));
    assert_eq!(sum.expect("a sum")[[0, 0]], last as f32 + 2.0);
}

//! What nobody should ask for, on every level: each gives a documented value or an error that says
//! what was wrong. (Built with debug assertions, arithmetic that overflows would panic.)

mod common;

use common::levels;
use keops_core::data::Element;
use keops_core::error::{Error, InputError};
use keops_core::genred::{AsArg, Genred, Reduce, Reference};
use keops_core::interp::Interpreter;
use keops_core::lazy::LazyTensor;
use keops_core::ranges::{Pattern, Ranges};
use keops_core::reduce::{self, Family, ReductionDef, SUM};
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use ndarray::{Array2, Array3, ArrayD, IxDyn, ShapeBuilder, s};

const XY: [&str; 2] = ["x = Vi(1)", "y = Vj(1)"];

fn devices() -> Vec<(&'static str, Device)> {
    let cpu = |l: keops_cpu::Level| {
        (l.name(), Device::new(Cpu::with_level(l).expect("available on this processor")))
    };
    let interpreter = ("interpreter", Device::new(Interpreter::new()));
    levels().into_iter().map(cpu).chain([interpreter]).collect()
}

fn takes_several(def: &ReductionDef) -> bool {
    matches!(&def.kind, Family::Select(s) if s.many)
}

fn column(n: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, 1), |(k, _)| ((7 * k % 5) as f64).sin())
}

#[test]
fn numbers_of_winners() {
    let x = column(3);
    for def in reduce::ALL.iter().copied().filter(|d| takes_several(d)) {
        for k in [0, (1 << 20) + 1, 1 << 40, usize::MAX] {
            let run = || {
                let g = Genred::<Reference>::new("x - y", XY, (def, k), Axis::J)?;
                g.run(&[x.as_arg(), x.as_arg()])
            };
            let e = run().expect_err(def.name);
            assert!(
                matches!(&e, Error::Input(InputError::Option(m)) if m.contains(def.name)),
                "{e}"
            );
            let (xi, yj) = (LazyTensor::<f64, Reference>::vi(&x), LazyTensor::vj(&x));
            let e = (xi - yj).reduce((def, k), Axis::J).expect_err(def.name).to_string();
            assert!(e.contains(def.name), "{e}");
        }
        // Far more than there are: the others are nobody.
        for (name, device) in devices() {
            let k = 1 << 20;
            let g = Genred::<Reference>::new("x - y", XY, (def, k), Axis::J);
            let out = g.expect("a formula").at(device).run(&[x.as_arg(), x.as_arg()]);
            for out in out.expect(name) {
                assert_eq!(out.shape(), [3, k]);
                let none = if out.indices().is_some() { -1.0 } else { f64::INFINITY };
                let found: Vec<bool> = out.to_f64().iter().map(|v| *v != none).collect();
                assert!(
                    found.chunks(k).all(|row| row[..3] == [true; 3] && !row[3..].contains(&true))
                );
            }
        }
    }
}

#[test]
fn declared_sizes() {
    let sizes = [
        "0",
        "-1",
        "1048577",
        "2147483648",
        "4294967296",
        "9223372036854775807",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "1e30",
        "1e400",
        "0.5",
        "NaN",
    ];
    let texts = [
        ["x = Vi(#)", "x"],
        ["x = Vi(0, #)", "x"],
        ["x = Var(0, #, 1)", "x"],
        ["x = Vi(4)", "x[#:#]"],
        ["x = Vi(4)", "x[::#]"],
        ["x = Vi(4)", "Extract(x, 1, #)"],
        ["x = Vi(4)", "ExtractT(x, #, 3)"],
        ["x = Vi(1)", "OneHot(x, #)"],
        ["x = Vi(4)", "Zero(#) * x"],
        ["x = Vi(4)", "Iota(#)"],
        ["x = Vi(4)", "Put(x, 0, #, 9)"],
        ["x = Vi(4)", "Put(x, #, #, #)"],
        ["x = Vi(4)", "Einsum([4, #, #], x, [0], [1, 2])"],
        ["x = Vi(4)", "TensorDot(x, x, [#, 4], [4], [0], [0])"],
    ];
    for [alias, formula] in texts {
        for size in sizes {
            let [alias, formula] = [alias, formula].map(|t| t.replace('#', size));
            let made = Genred::<Reference>::new(&formula, [&alias], &SUM, Axis::J);
            assert!(matches!(made, Err(Error::Parse(_))), "{alias}; {formula}: {made:?}");
        }
    }
}

/// A formula of everything there is, with a weight where one is needed.
fn mixed(def: &'static ReductionDef, axis: Axis) -> Genred<Reference> {
    let aliases = ["x = Vi(2)", "y = Vj(2)", "p = Pm(1)"];
    let of = Reduce::from((def, if takes_several(def) { 2 } else { 1 }));
    let (f, w) = ("SqDist(x, y) * p", "x + y");
    Genred::new(f, aliases, of, axis)
        .or_else(|_| Genred::weighted(f, w, aliases, of, axis))
        .unwrap_or_else(|e| panic!("{}: {e}", def.name))
}

#[test]
fn empty_arrays_everywhere() {
    let batches: [&[usize]; 5] = [&[], &[0], &[1], &[2, 0], &[0, 2]];
    let mut seen = 0;
    for def in reduce::ALL.iter().copied() {
        for axis in [Axis::I, Axis::J] {
            for (m, n) in [(0, 0), (0, 3), (3, 0), (1, 1), (20, 0), (0, 20)] {
                for batch in batches {
                    let zeros = |own: &[usize]| ArrayD::<f64>::zeros([batch, own].concat());
                    let (x, y, p) = (zeros(&[m, 2]) + 1.0, zeros(&[n, 2]), zeros(&[1]));
                    let name = format!("{} over {axis:?}, {m} x {n}, {batch:?}", def.name);
                    let g = mixed(def, axis);
                    let mut all = devices().into_iter().map(|(level, device)| {
                        let name = format!("{name} ({level})");
                        let g = g.clone().at(device);
                        let mut out = g.run(&[&x, &y, &p].map(|a| a.as_arg())).expect(&name);
                        let rows = if axis == Axis::J { m } else { n };
                        assert!(out.iter().all(|o| o.shape().starts_with(batch)), "{name}");
                        assert!(out.iter().all(|o| o.shape()[batch.len()] == rows), "{name}");
                        if out[0].indices().is_some() {
                            return out;
                        }
                        let e = out[0].to_f64().mapv(|_| 1.0);
                        let made = g.vjp_all().and_then(|v| v.vjp("y").map(|w| (v, w)));
                        let (gradient, second) = made.expect(&name);
                        let e2 = zeros(&[m, 2]);
                        let gradients = gradient.call_all((&x, &y, &p, &e)).expect(&name);
                        for (g, a) in gradients.iter().zip([&x, &y, &p]) {
                            assert_eq!(g.shape(), a.shape(), "{name}");
                            assert!(m * n > 0 || g.iter().all(|v| *v == 0.0), "{name}: {g}");
                        }
                        let args = (&x, &y, &p, &e, &e2, &zeros(&[n, 2]), &zeros(&[1]));
                        assert_eq!(second.call(args).expect(&name).shape(), y.shape(), "{name}");
                        let along = g.jvp("x").expect(&name).call((&x, &y, &p, &x)).expect(&name);
                        out.extend(gradients.into_iter().chain([along]).map(f64::buffer));
                        seen += 1;
                        out
                    });
                    let first = all.next().expect("a device");
                    assert!(all.all(|other| same(&first, &other)), "{name}");
                }
            }
        }
    }
    assert!(seen > 1000, "{seen}");
}

/// Equal, with NaN equal to NaN.
fn same(a: &[keops_core::data::Buffer], b: &[keops_core::data::Buffer]) -> bool {
    let equal = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
    let alike =
        |a: ArrayD<f64>, b: ArrayD<f64>| a.shape() == b.shape() && a.iter().zip(&b).all(equal);
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a.to_f64(), b.to_f64()))
}

#[test]
fn layouts_of_arguments_and_results() {
    let g = Genred::<Reference>::new(
        "Exp(-SqDist(x, y) * p) * b",
        ["x = Vi(3)", "y = Vj(3)", "p = Pm(1)", "b = Vj(2)"],
        &SUM,
        Axis::J,
    )
    .expect("a formula");
    let big = Array3::from_shape_fn((2, 150, 24), |(a, b, c)| ((a * 7 + b * 3 + c) as f64).sin());
    let one = ndarray::arr0(0.5);
    let p = one.broadcast(1).expect("a view");
    // The same rows through any strides: zero, negative, large, of columns, transposed.
    let row = big.slice(s![0, 3, ..3]);
    let turned = big.slice(s![1, .., ..]).reversed_axes();
    let views = [
        row.broadcast((75, 3)).expect("a view"),
        big.slice(s![1, ..;2, 4..7]),
        big.slice(s![0, ..;-2, ..;-8]),
        big.slice(s![1, 75.., ..;8]),
        turned.slice(s![..3, ..75]).reversed_axes(),
        one.broadcast((75, 3)).expect("a view"),
    ];
    for (name, device) in devices() {
        let (g, gradient) = (g.clone().at(device.clone()), g.vjp("y").expect("smooth").at(device));
        for (k, x) in views.iter().enumerate() {
            for (l, y) in views.iter().enumerate() {
                let name = format!("{name}, layouts {k} and {l}");
                let b = views[(k + l) % views.len()].slice(s![.., ..;-2]);
                let copy = |v: &ndarray::ArrayView2<'_, f64>| {
                    Array2::from_shape_vec(v.dim(), v.iter().copied().collect()).expect("a copy")
                };
                let (cx, cy, cb) = (copy(x), copy(y), copy(&b));
                let expected = g.call((&cx, &cy, &ndarray::arr1(&[0.5]), &cb)).expect(&name);
                assert_eq!(g.call((x, y, &p, &b)).expect(&name), expected, "{name}");
                let made = gradient.call((x, y, &p, &b, &b)).expect(&name);
                let copied = gradient.call((&cx, &cy, &p, &cb, &cb)).expect(&name);
                assert_eq!(made, copied, "{name}");
                // Results into a transposed array, every second row backwards, and one column more.
                let mut columns = Array2::<f64>::zeros((75, 2).f());
                g.call_into((x, y, &p, &b), &mut columns).expect(&name);
                let mut sparse = Array2::<f64>::from_elem((150, 3), 9.0);
                g.call_into((x, y, &p, &b), &mut sparse.slice_mut(s![..;-2, ..;2])).expect(&name);
                let part = sparse.slice(s![..;-2, ..;2]);
                assert!(columns.into_dyn() == expected && part.into_dyn() == expected, "{name}");
                assert_eq!(sparse.iter().filter(|v| **v == 9.0).count(), 150 * 3 - 150, "{name}");
            }
        }
        let x = &views[1];
        let mut out = Array2::<f64>::zeros((75, 3));
        let e = g.call_into((x, x, &p, &x.slice(s![.., ..2])), &mut out).expect_err(name);
        assert!(e.to_string().contains("the output"), "{e}");
    }
}

#[test]
fn ranges_of_any_kind() {
    let most = usize::MAX;
    let pattern = |blocks: &[[usize; 2]], slices: &[usize], reduced: &[[usize; 2]]| Pattern {
        blocks: blocks.to_vec(),
        slices: slices.to_vec(),
        reduced: reduced.to_vec(),
    };
    // Sums of y over the pairs that there are, or a word of the error.
    let cases = [
        (pattern(&[], &[], &[]), Ok([0.0, 0.0, 0.0])),
        (pattern(&[[0, most]], &[1], &[[0, most]]), Err("not within the 3 rows")),
        (pattern(&[[0, 3]], &[1], &[[1, 4]]), Err("not within the 3 rows")),
        (pattern(&[[3, 4]], &[1], &[[0, 1]]), Err("not within the 3 rows")),
        (pattern(&[[300, 300]], &[1], &[[0, 1]]), Err("not within the 3 rows")),
        (pattern(&[[3, 1]], &[1], &[[0, 2]]), Err("ends before it starts")),
        (pattern(&[[0, 1]], &[1], &[[most, 0]]), Err("ends before it starts")),
        (pattern(&[[2, 3], [0, 2]], &[1, 2], &[[0, 2], [1, 3]]), Ok([6.0, 6.0, 3.0])),
        (pattern(&[[0, 3]], &[2], &[[2, 3], [0, 1]]), Ok([5.0, 5.0, 5.0])),
        (pattern(&[[0, 1], [1, 2]], &[2, 1], &[[2, 3], [0, 1]]), Err("must lie between")),
        (pattern(&[[0, 1]], &[most], &[[2, 3]]), Err("must lie between")),
        (pattern(&[[0, 1]], &[], &[[2, 3]]), Err("must agree")),
        (pattern(&[[0, 1]], &[1], &[[2, 3], [0, 1]]), Ok([4.0, 0.0, 0.0])),
        (pattern(&[[1, 1], [0, 3]], &[1, 3], &[[0, 2], [0, 3], [2, 2]]), Ok([7.0, 7.0, 7.0])),
        (pattern(&[[0, 2], [1, 3]], &[1, 2], &[[0, 1], [0, 1]]), Err("two results")),
        (pattern(&[[0, 3]], &[2], &[[0, 2], [1, 3]]), Err("count twice")),
    ];
    let (x, y) = (Array2::<f64>::ones((3, 1)), ndarray::array![[1.0], [2.0], [4.0]]);
    for (pattern, expected) in cases {
        for (name, device) in devices() {
            let run = || -> Result<_, Error> {
                let ranges = Ranges::from_pattern(pattern.clone())?;
                let g = Genred::<Reference>::new("x * y", XY, &SUM, Axis::J)?.at(device.clone());
                let g = g.ranges(ranges);
                let out = g.call((&x, &y))?;
                // The adjoint of the same pairs.
                let e = Array2::ones((3, 1));
                let gradients = g.vjp_all()?.call_all((&x, &y, &e))?;
                assert_eq!(gradients[0], out, "{name}: {pattern:?}");
                assert_eq!((&gradients[1] * &y).sum(), out.sum(), "{name}: {pattern:?}");
                Ok(out)
            };
            match (run(), expected) {
                (Ok(out), Ok(v)) => {
                    assert_eq!(out.into_iter().collect::<Vec<_>>(), v, "{name}: {pattern:?}")
                }
                (Err(e), Err(word)) => assert!(e.to_string().contains(word), "{name}: {e}"),
                (got, _) => panic!("{name}: {pattern:?}: {got:?}"),
            }
        }
    }
}

/// Views of no memory whose sizes overflow in products, also of derivatives.
#[test]
fn derivatives_of_overflowing_batches() {
    let one = ndarray::arr0(1.0f64);
    let view = |shape: &[usize]| one.broadcast(IxDyn(shape)).expect("a view");
    let far = 1 << 40;
    let (x, y, e) = (view(&[far, 1, 3, 1]), view(&[1, far, 3, 1]), view(&[far, 1, 3, 1]));
    for (name, device) in devices() {
        let g = Genred::<Reference>::new("x * y", XY, &SUM, Axis::J).expect("a formula");
        let g = g.at(device);
        for made in [
            g.jvp("x").map(|g| g.run(&[&x, &y, &x].map(|a| f64::erase(a.view())))),
            g.vjp("x").map(|g| g.run(&[&x, &y, &e].map(|a| f64::erase(a.view())))),
            g.vjp("y").map(|g| g.run(&[&y, &y, &y].map(|a| f64::erase(a.view())))),
        ] {
            let made = made.expect("differentiable");
            assert!(made.is_err(), "{name}: {made:?}");
        }
    }
}

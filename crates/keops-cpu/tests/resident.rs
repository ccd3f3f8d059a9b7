//! Arguments that the CPU holds: the same bits as with arrays of the caller, whatever was packed
//! before and by whom.

mod common;

use common::{jobs, levels};
use keops_core::data::Element;
use keops_core::error::{Error, InputError};
use keops_core::genred::{Genred, Reference};
use keops_core::lazy::LazyTensor;
use keops_core::random::Random;
use keops_core::ranges::Ranges;
use keops_core::reduce::{self, Definition};
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use ndarray::{Array2, Array3, ArrayD};
use std::collections::BTreeSet;

/// Shapes on both sides of every choice of the scheduler: few columns and many, few rows.
fn sizes(k: usize) -> [usize; 2] {
    [[201, 103], [60, 700], [1, 5000], [5, 4500], [1030, 7], [33, 300]][k / 3 % 6]
}

#[test]
fn bits_are_equal_for_all_reductions() {
    let mut names = BTreeSet::new();
    for (at, level) in levels().into_iter().enumerate() {
        let device = Device::new(Cpu::with_level(level).expect("available"));
        // (A hundred exponentials a pair say nothing about packing.)
        let slow = |text: &str| {
            ["ExtendedGamma", "Matern(", "WendlandIntegral"].iter().any(|op| text.contains(op))
        };
        let all = jobs(31 + at as u64, if at == 0 { 150 } else { 30 }, sizes);
        for job in all.into_iter().filter(|job| !slow(&job.text)) {
            names.insert(job.spec.reduction.name);
            let parts: [&dyn Fn(usize) -> bool; 3] = [&|_| true, &|k| k % 2 == 0, &|k| k % 2 == 1];
            let plain = job.run(&device).unwrap_or_else(|e| panic!("{e}\n{}", job.text));
            let held = parts.map(|which| job.upload(&device, which));
            for held in held.iter().chain(&held) {
                let got = job.run_with(&device, held).expect("it ran before");
                assert_eq!(got, plain, "{}\n{}", level.name(), job.text);
            }
            // What the device does not hold may change from call to call.
            let [_, even, odd] = &held;
            let job = job.changed(|k| k % 2 == 0);
            let plain = job.run(&device).expect("it ran before");
            assert_eq!(job.run_with(&device, odd).expect("it ran before"), plain, "{}", job.text);
            let job = job.changed(|k| k % 2 == 1);
            let mut all = job.upload(&device, |k| k % 2 == 1);
            all.iter_mut().zip(even).for_each(|(a, e)| *a = a.take().or(e.clone()));
            for _ in 0..2 {
                let mixed = job.run_with(&device, &all).expect("it ran before");
                let again = job.run_with(&device, even).expect("it ran before");
                assert_eq!(mixed, again, "{}", job.text);
            }
        }
    }
    let basic = reduce::ALL.iter().map(|r| r.name);
    assert_eq!(names, basic.collect(), "a reduction never came up");
}

fn random(seed: u64, shape: &[usize]) -> ArrayD<f32> {
    let mut random = Random::new(seed);
    ArrayD::from_shape_fn(shape, |_| 2.0 * random.unit() as f32 - 1.0)
}

#[test]
fn gradients_ranges_and_batches_give_equal_bits() -> Result<(), Error> {
    let device = Device::new(Cpu::new());
    let aliases = ["s = Pm(1)", "x = Vi(3)", "y = Vj(3)", "w = Vj(2)"];
    for (definition, formula, weight) in [
        (Definition::from(&reduce::SUM), "Exp(-s * SqDist(x, y)) * w", None),
        ((&reduce::LOG_SUM_EXP).into(), "s * (x | y)", Some("Exp(w)")),
        ((&reduce::SUM_SOFT_MAX_WEIGHT).into(), "s * (x | y)", Some("Exp(w)")),
        ((&reduce::MIN).into(), "s * SqDist(x, y) + w", None),
        ((&reduce::K_MIN).into(), "s * SqDist(x, y) + Elem(w, 0)", None),
        ((&reduce::MEAN).into(), "Exp(-s * SqDist(x, y)) * w", None),
        ((&reduce::VARIANCE).into(), "s * SqDist(x, y) * w", None),
    ] {
        let k = if definition.name() == "KMin" { 3 } else { 1 };
        let f: Genred<Device> = match weight {
            None => Genred::<Reference>::new(formula, aliases, (definition, k), Axis::J)?,
            Some(w) => Genred::weighted(formula, w, aliases, definition, Axis::J)?,
        }
        .at(device.clone());
        let thirds = Ranges::from_clusters(
            &[13, 20, 41],
            &[30, 31, 67],
            &[true, false, true, false, true, true, true, false, false],
        )?;
        for (batch, ranges) in [(None, false), (None, true), (Some(2), false)] {
            let f = if ranges { f.clone().ranges(thirds.clone()) } else { f.clone() };
            let lead: Vec<usize> = batch.into_iter().collect();
            let shape = |own: &[usize]| [&lead[..], own].concat();
            // One set of columns for all batches.
            let all = [
                random(1, &[1]),
                random(2, &shape(&[41, 3])),
                random(3, &[67, 3]),
                random(4, &shape(&[67, 2])),
            ];
            let value = f.call(&all.each_ref()[..])?;
            let e = random(5, value.shape());
            let gradients = f.vjp_all()?.with_primal();
            let given = [&all[..], &[e]].concat();
            let plain = gradients.call_all(&given.iter().collect::<Vec<_>>()[..])?;
            let held: Vec<_> = given.iter().map(|a| device.upload(a)).collect::<Result<_, _>>()?;
            for _ in 0..2 {
                let got = gradients.call_all(&held.iter().collect::<Vec<_>>()[..])?;
                assert_eq!(got, plain, "{formula}");
            }
            let kept = f.call_resident(&held[..4].iter().collect::<Vec<_>>()[..])?;
            assert_eq!(kept.to_host()?, value, "{formula}");
            // Results are arguments.
            let twice = gradients.call_all((&held[0], &held[1], &held[2], &held[3], &kept))?;
            let plain = gradients.call_all((&all[0], &all[1], &all[2], &all[3], &value))?;
            assert_eq!(twice, plain, "{formula}");
        }
    }
    Ok(())
}

type Lazy = LazyTensor<f32, Reference>;

#[test]
fn lazy_tensors_take_arrays_of_the_device() -> Result<(), Error> {
    let device = Device::new(Cpu::new());
    let (x, y) = (random(1, &[50, 3]), random(2, &[80, 3]));
    let (x_i, y_j) = (device.upload(&x)?, device.upload(&y)?);
    let plain = Lazy::vi(&x).at(device.clone());
    let held = Lazy::vi(&x_i).at(device.clone());
    let plain = (-plain.sqdist(Lazy::vj(&y).at(device.clone()))).exp();
    let held = (-held.sqdist(Lazy::vj(&y_j).at(device.clone()))).exp();
    assert_eq!(held.sum(Axis::J)?, plain.sum(Axis::J)?);
    let bound = held.sum_reduction(Axis::I)?;
    assert_eq!(bound.call_resident(())?.to_host()?, plain.sum(Axis::I)?);
    let scale = device.upload(ndarray::arr0(0.5f32))?;
    let scaled = &held * Lazy::pm(&scale).at(device.clone());
    let half = &plain * Lazy::pm(ndarray::arr0(0.5f32)).at(device.clone());
    assert_eq!(scaled.sum(Axis::J)?, half.sum(Axis::J)?);
    Ok(())
}

#[test]
fn narrow_types_round_once() -> Result<(), Error> {
    let device = Device::new(Cpu::new());
    let x = Array2::from_shape_fn((40, 2), |(i, k)| half::f16::of_f64((i + k) as f64 / 16.0));
    let sum: Genred = Genred::new("x * y", ["x = Vi(2)", "y = Vj(2)"], &reduce::SUM, Axis::J)?;
    let sum = sum.at(device.clone());
    let held = device.upload(&x)?;
    let kept = sum.call_resident((&held, &held))?;
    assert_eq!(kept.to_host()?, sum.call((&x, &x))?);
    Ok(())
}

#[test]
fn threads_share_an_array() -> Result<(), Error> {
    let device = Device::new(Cpu::new());
    let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"];
    let f: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &reduce::SUM, Axis::J)?;
    let f = f.at(device.clone());
    let points = random(1, &[500, 3]);
    let held = device.upload(&points)?;
    let wanted: Vec<_> = (0..16)
        .map(|k| {
            let b = random(10 + k, &[500, 1]);
            let out = f.call((&points, &points, &b))?;
            Ok((b, out))
        })
        .collect::<Result<_, Error>>()?;
    std::thread::scope(|scope| {
        for (b, out) in &wanted {
            let (f, held) = (&f, held.clone());
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(f.call((&held, &held, b)).expect("it ran before"), *out);
                }
            });
        }
    });
    Ok(())
}

#[test]
fn packed_columns_are_bounded_and_freed() -> Result<(), Error> {
    let device = Device::new(Cpu::new());
    let points = device.upload(random(1, &[5000, 3]))?;
    let own = 5000 * 3 * 4;
    assert_eq!(points.bytes(), own);
    for k in 0..40 {
        // Records of many layouts: other components beside those of the points.
        let aliases = ["x = Vi(3)".to_string(), "y = Vj(3)".into(), format!("b = Vj({})", k + 1)];
        let f: Genred = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &reduce::SUM, Axis::J)?;
        let (x, b) = (random(2, &[40, 3]), random(3, &[5000, k + 1]));
        f.at(device.clone()).call((&x, &points, &b))?;
        assert!(points.bytes() <= 9 * own, "{} bytes after {k} formulas", points.bytes());
    }
    assert!(points.bytes() > own, "nothing was kept");
    Ok(())
}

#[test]
fn what_does_not_fit_is_named() -> Result<(), Error> {
    let (device, other) = (Device::new(Cpu::new()), Device::new(Cpu::new()));
    let f: Genred = Genred::new("x * y", ["x = Vi(2)", "y = Vj(2)"], &reduce::SUM, Axis::J)?;
    let f = f.at(device.clone());
    let x = Array2::<f64>::zeros((4, 2));
    let there = other.upload(&x)?;
    let e = f.call((&x, &there)).unwrap_err();
    assert!(matches!(&e, Error::Input(InputError::Elsewhere { name, .. }) if name == "y"), "{e}");
    assert_eq!(
        e.to_string(),
        "argument `y` is held by another device (cpu) than the one that runs this (cpu): \
         `upload` the array to this device, or pass what `to_host` returns"
    );
    assert!(f.call_resident((&x, &there)).is_err());
    assert!(f.vjp("y")?.call((&x, &there, &x)).is_err());
    let here = device.upload(there)?; // moved
    assert_eq!(f.call((&x, &here))?, Array2::<f64>::zeros((4, 2)).into_dyn());
    let wide = device.upload(Array3::<f64>::zeros((1, 4, 3)))?;
    let e = f.call((&x, &wide)).unwrap_err();
    assert!(matches!(&e, Error::Input(InputError::Shape { name, .. }) if name == "y"), "{e}");
    let rows = device.upload(Array2::<f64>::zeros((3, 2)))?;
    let e = f.ranges(Ranges::from_clusters(&[4], &[4], &[true])?).call((&x, &rows)).unwrap_err();
    assert!(matches!(e, Error::Input(InputError::Ranges(_))), "{e}");
    Ok(())
}

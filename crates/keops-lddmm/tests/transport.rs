//! The Sinkhorn divergence from blurs far below to blurs far above the size of shapes. Expected are the
//! linear program of transport (SciPy's HiGHS, and by hand), Sinkhorn's iteration with 40 digits and more
//! (mpmath), and limits in closed form.

use keops_core::spec::Device;
use keops_cpu::Cpu;
use keops_lddmm::LddmmError;
use keops_lddmm::attachment::{Matching, Sinkhorn};
use keops_lddmm::shape::{Cells, Shape};
use ndarray::{Array2, Axis, array};

type Evaluated = Result<(f64, Array2<f64>), LddmmError>;

fn points(x: Array2<f64>) -> Shape {
    Shape::new(x, Cells::Points).unwrap()
}
fn divergence(blur: f64, a: &Shape, b: &Shape) -> Evaluated {
    let device = Device::new(Cpu::new());
    Matching::<f64>::new(&Sinkhorn::new(blur)?, a, b, &device)?.value_and_gradient(a.vertices())
}
fn gap(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    (a - b).fold(0.0, |m, v| if v.abs() <= m { m } else { v.abs() })
}
fn three_and_two() -> (Shape, Shape) {
    (points(array![[0.0, 0.0], [1.0, 0.0], [0.5, 2.0]]), points(array![[3.0, 0.0], [1.0, 4.0]]))
}
/// Points on a curve that goes to and fro.
fn wave(count: usize, phase: f64) -> Shape {
    points(Array2::from_shape_fn((count, 2), |(i, k)| {
        ((i as f64 + 1.0) * (1.7 + k as f64) + phase).sin()
    }))
}

/// The first point goes in halves to both of the others, whose rests the other two fill. With that plan the
/// divergence is its cost, 85/24, and ε times the difference of the plans' entropies.
#[test]
fn small_blurs_give_transport_or_say_that_they_cannot() {
    let (a, b) = three_and_two();
    let plan = array![[-4.0, -4.0], [-4.0, 0.0], [-1.0, -4.0]] / 6.0;
    for blur in [1e-2, 1e-3, 1e-4, 1e-5] {
        let (value, gradient) = divergence(blur, &a, &b).unwrap();
        let entropies = 2.0 / 3.0 * 2f64.ln() - 0.5 * 3f64.ln() - 0.5 * 2f64.ln();
        let expected = 85.0 / 24.0 + blur * blur * entropies;
        assert!((value - expected).abs() < 1e-11, "blur {blur:e}: {value}, expected {expected}");
        // (Rounding in costs of 12 beside the square of the blur.)
        let far = gap(&gradient, &plan);
        assert!(far < 1e-9 + 1e-14 / (blur * blur), "blur {blur:e}: gradient {far:e}");
    }
    // The plan of five points to seven, by SciPy's linear program.
    let program = array![
        [0.07311798938447772, 0.08812146668328232],
        [0.05995194378751854, -0.00032485098865495],
        [-0.01838932210684244, 0.09334955602084376],
        [0.07728009904399843, -0.0734860106903333],
        [0.0649971787571864, -0.01733465283496147]
    ];
    for blur in [1e-3, 1e-4, 3e-5, 1e-5] {
        let (value, gradient) = divergence(blur, &wave(5, 0.0), &wave(7, 2.0)).unwrap();
        // (The entropies of plans are at most log 35.)
        let near = 4.0 * blur * blur + 1e-12;
        assert!((value - 0.24253074476678).abs() < near, "blur {blur:e}: {value}");
        let far = gap(&gradient, &program);
        assert!(far < 1e-9 + 1e-15 / (blur * blur), "blur {blur:e}: gradient {far:e}");
    }
    // Below, rounding hides the plan; the error names a blur with which there is an answer.
    for (a, b) in [three_and_two(), (wave(5, 0.0), wave(7, 2.0))] {
        for blur in [1e-7, 1e-8, 1e-9, 1e-12, 1e-20] {
            let Err(e @ LddmmError::Parameter { .. }) = divergence(blur, &a, &b) else {
                panic!("blur {blur:e} has an answer");
            };
            let text = e.to_string();
            let least = text.strip_prefix("blur: expected at least ").expect(&text);
            let least: f64 = least.split(' ').next().unwrap().parse().unwrap();
            assert!((1e-7..1e-4).contains(&least), "{text}");
            assert!(divergence(1.1 * least, &a, &b).is_ok(), "{text}");
        }
    }
    // A shape is where it is, however small the blur; shapes too far apart for squares are refused.
    let (value, gradient) = divergence(1e-3, &a, &a).unwrap();
    assert!(value.abs() < 1e-14 && gap(&gradient, &Array2::zeros((3, 2))) < 1e-9, "{value}");
    let device = Device::new(Cpu::new());
    let m = Matching::<f64>::new(&Sinkhorn::new(1.0).unwrap(), &a, &b, &device).unwrap();
    let far = m.value(array![[1e200, 0.0], [0.0, 0.0], [0.0, 1.0]].view());
    assert!(matches!(far, Err(LddmmError::Mismatch { .. })), "{far:?}");
}

/// Blurs about the size of the shapes and far above it: in the limit half the square of the distance of the
/// means, 145/72, whose gradient is the same for all points.
#[test]
fn large_blurs_keep_their_digits() {
    let (a, b) = three_and_two();
    let expected = [
        (0.5, 3.443_802_487_102_517),
        (1.0, 3.288_799_202_749_474_5),
        (3.0, 2.493_904_485_737_52),
        (4.0, 2.295_312_569_935_69),
        (100.0, 2.014_348_225_607_786_5),
        (1e4, 2.013_888_934_822_531),
        (1e7, 2.013_888_888_888_935),
    ];
    for (blur, expected) in expected {
        let (value, _) = divergence(blur, &a, &b).unwrap();
        assert!((value - expected).abs() < 2e-12, "blur {blur:e}: {value}, expected {expected}");
    }
    let means = array![[-1.5, -4.0 / 3.0], [-1.5, -4.0 / 3.0], [-1.5, -4.0 / 3.0]] / 3.0;
    for blur in [1e8, 1e9, 1e10, 1e14, 1e20] {
        let (value, gradient) = divergence(blur, &a, &b).unwrap();
        assert!((value - 145.0 / 72.0).abs() < 2e-12, "blur {blur:e}: {value}");
        assert!(gap(&gradient, &means) < 1e-12, "blur {blur:e}: {gradient}");
        let (value, gradient) = divergence(blur, &wave(5, 0.0), &wave(5, 0.0)).unwrap();
        assert!(value.abs() < 1e-14, "blur {blur:e}: a shape is {value} from itself");
        assert!(gap(&gradient, &Array2::zeros((5, 2))) < 1e-14, "blur {blur:e}: {gradient}");
    }
    // Coordinates need not be near 0; moving one shape costs what moves its mean.
    let away = 1e3;
    let shifted = |s: &Shape| points(&s.vertices() + away);
    for blur in [0.5, 4.0, 1e6] {
        let near = divergence(blur, &a, &b).unwrap();
        let moved = divergence(blur, &shifted(&a), &shifted(&b)).unwrap();
        assert!((near.0 - moved.0).abs() < 1e-11 && gap(&near.1, &moved.1) < 1e-9, "blur {blur:e}");
        let sum = near.1.sum_axis(Axis(0));
        assert!((sum[0] + 1.5).abs() < 1e-10 && (sum[1] + 4.0 / 3.0).abs() < 1e-10, "{sum}");
    }
}

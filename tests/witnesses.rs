//! The witness formulas with operators: the same results as the same formulas given as text, on
//! the default device. (Text is compared with independent values in `golden.rs`.)
#![cfg(feature = "cpu")]

use keops::prelude::*;
use keops::ranges::Ranges;
use keops::spec::{ReduceOptions, Scheme};
use ndarray::{Array2, Array3, ArrayD};

fn points(n: usize, d: usize, phase: f64) -> Array2<f64> {
    Array2::from_shape_fn((n, d), |(i, k)| ((i * d + k) as f64 * 0.7 + phase).sin())
}
fn close(name: &str, got: &ArrayD<f64>, want: &ArrayD<f64>) {
    assert_eq!(got.shape(), want.shape(), "{name}");
    let size = want.iter().fold(1e-300, |m: f64, v| m.max(v.abs()));
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= 1e-12 * size, "{name}: {g} instead of {w}");
    }
}

#[test]
fn operators_and_text_agree_on_the_witnesses() -> Result<(), Error> {
    for d in [3, 50, 4096] {
        let scale = 1.0 / (d as f64).sqrt();
        let (x, y) = (points(7, d, 0.1) * scale, points(9, d, 0.5) * scale);
        let b = points(9, 1, 0.3);
        let aliases = [format!("x = Vi({d})"), format!("y = Vj({d})"), "b = Vj(1)".to_string()];
        let k = (-vi(&x).sqdist(vj(&y))).exp() * vj(&b);
        let text = Genred::new("Exp(-SqDist(x, y)) * b", &aliases, Sum, Over::J)?;
        close("Gaussian", &k.sum(Over::J)?, &text.call((&x, &y, &b))?);

        let f = -vi(&x).sqdist(vj(&y));
        let aliases = [format!("x = Vi({d})"), format!("y = Vj({d})")];
        let lse = Genred::new("-SqDist(x, y)", &aliases, LogSumExp, Over::J)?;
        close("log-sum-exp", &f.logsumexp(Over::J)?, &lse.call((&x, &y))?);
    }
    let (x, y) = (points(20, 3, 0.1), points(130, 3, 0.5));
    for k in [10, 100] {
        let arg = Genred::new("SqDist(x, y)", ["x = Vi(3)", "y = Vj(3)"], ArgKMin(k), Over::J)?;
        let nearest = vi(&x).sqdist(vj(&y)).argkmin(k, Over::J)?;
        assert_eq!(nearest, arg.call_indices((&x, &y))?);
    }
    let options = ReduceOptions { scheme: Scheme::Kahan, ..Default::default() };
    let text = Genred::new("Exp(-SqDist(x, y))", ["x = Vi(3)", "y = Vj(3)"], Sum, Over::J)?;
    let k = (-vi(&x).sqdist(vj(&y))).exp();
    let kahan = k.clone().options(options).sum(Over::J)?;
    close("Kahan", &kahan, &text.clone().options(options).call((&x, &y))?);

    let ranges =
        Ranges::from_clusters(&[5, 12, 20], &[30, 130], &[true, false, false, true, false, false])?;
    let (bx, by) = (Array3::from_shape_fn((2, 20, 3), |(b, i, k)| x[[i, k]] + b as f64), y.clone());
    let sparse = (-vi(&bx).sqdist(vj(&by))).exp().ranges(ranges.clone()).sum(Over::J)?;
    close("ranges", &sparse, &text.ranges(ranges).call((&bx, &by))?);
    Ok(())
}

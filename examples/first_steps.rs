//! First steps: `cargo run --release --example first_steps`
//!
//! A Gaussian kernel between two clouds of points, three ways: with operators, as text, and with
//! its derivatives. The matrix of all pairs is never stored.

use keops::prelude::*;
use ndarray::{Array1, Array2, Axis};
use std::time::Instant;

/// Points on a spiral in the unit cube.
fn cloud(n: usize, turns: f32) -> Array2<f32> {
    Array2::from_shape_fn((n, 3), |(i, k)| {
        let t = i as f32 / n as f32;
        let angle = turns * std::f32::consts::TAU * t;
        [0.5 + 0.5 * t * angle.cos(), 0.5 + 0.5 * t * angle.sin(), t][k]
    })
}

fn main() -> Result<(), Error> {
    let (m, n) = (20_000, 30_000);
    let (x, y) = (cloud(m, 7.0), cloud(n, 11.0));
    let b = Array2::from_shape_fn((n, 1), |(j, _)| if j % 2 == 0 { 1.0 } else { -0.5 });
    let sigma = 0.1;

    // 1. With operators. Nothing is computed before a reduction asks for it.
    let (x_i, y_j) = (vi(&x), vj(&y));
    let d2 = x_i.sqdist(&y_j); // symbolic, M × N
    let k = (-&d2 / (2.0 * sigma * sigma)).exp();
    println!("k has shape {:?}: {k:?}", k.shape()?);
    let start = Instant::now();
    let v = k.matmul(&b)?;
    let (first, compiled) = (start.elapsed(), Instant::now());
    let again = k.matmul(&b)?;
    println!("k·b: {first:.1?}, and {:.1?} once it is compiled", compiled.elapsed());
    assert_eq!(v, again, "results do not depend on the run");

    // 2. Other reductions: nearest neighbours, log-sum-exp, over either index.
    let (distance, nearest) = d2.kmin_argkmin(3, Over::J)?;
    println!("x[7] is nearest to y{}", nearest.index_axis(Axis(0), 7));
    println!("at squared distances {}", distance.index_axis(Axis(0), 7));
    let potential = (-&d2 / 0.02).logsumexp(Over::I)?;
    println!("the soft minimum for y[0] is {:.4}", -0.02 * potential[[0, 0]]);

    // 3. As text, in the syntax of KeOps: a function of arrays, to be derived.
    let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "g = Pm(1)"];
    let conv = Genred::new("Exp(-g * SqDist(x, y)) * b", aliases, Sum, Over::J)?;
    let g = Array1::from_elem(1, 1.0 / (2.0 * sigma * sigma));
    let value = conv.call((&x, &y, &b, &g))?;
    let energy = |v: &ndarray::ArrayD<f32>| v.iter().map(|v| f64::from(*v)).sum::<f64>();

    // The gradient of the sum of all values in x and in g, from one pass over the pairs each.
    let e = Array2::ones((m, 1));
    let gradient = conv.vjp_of(&["x", "g"])?.call_all((&x, &y, &b, &g, &e))?;
    let largest = gradient[0].iter().fold(0f32, |m, v| m.max(v.abs()));
    let step = 1e-4 / largest;
    let moved = &x + &(&gradient[0] * step);
    let change = energy(&conv.call((&moved, &y, &b, &g))?) - energy(&value);
    let predicted = f64::from(step) * gradient[0].iter().map(|v| f64::from(v * v)).sum::<f64>();
    println!("a step along the gradient changes the sum by {change:.3}, predicted {predicted:.3}");
    println!("d/dg of the sum is {:.3}", gradient[1][[0]]);

    // 4. Mistakes are errors that say where.
    let mistake = x_i.sqdist(vj(&b)).exp().sum(Over::J);
    println!("\n{}", mistake.expect_err("dimensions 3 and 1"));
    let mistake = Genred::new("Exp(-g * SqDist(x, b))", aliases, Sum, Over::J);
    println!("\n{}", mistake.expect_err("dimensions 3 and 1"));
    Ok(())
}

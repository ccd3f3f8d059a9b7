//! Kernel ridge regression in one dimension: `a = (K + αI)⁻¹ b`, predictions `Σ_j k(t, x_j) a_j`.
//!
//! `cargo run --release --example kernel_interpolation [points]` (10,000 points in the tutorial of
//! KeOps; 2,000 by default).

use keops_core::genred::Genred;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use keops_linalg::{KernelOperator, KernelSolve, SolveOptions};
use ndarray::{Array2, array};
use std::error::Error;
use std::f64::consts::TAU;
use std::time::Instant;

const SIGMA: f64 = 0.1;
const RIDGE: f64 = 1.0;
const NOISE: f64 = 0.05;

/// What the noisy values are taken from.
fn signal(x: f64) -> f64 {
    x + 0.5 * (6.0 * x).sin() + 0.1 * (20.0 * x).sin()
}

/// Uniform numbers in [0, 1): SplitMix64.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    let n: usize = std::env::args().nth(1).map_or(Ok(2_000), |a| a.parse())?;
    let mut seed = 1;
    let x = Array2::from_shape_simple_fn((n, 1), || uniform(&mut seed));
    let normal =
        |seed: &mut u64| (-2.0 * (1.0 - uniform(seed)).ln()).sqrt() * (TAU * uniform(seed)).cos();
    let b = x.mapv(|x| signal(x) + NOISE * normal(&mut seed));

    // The kernel, once; `g` is 1 / (2 σ²).
    let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)", "g = Pm(1)"];
    let sum: Genred = Genred::new("Exp(-g * SqDist(x, y)) * b", aliases, &SUM, Axis::J)?;
    let sum = sum.at(Device::new(Cpu::new()));
    let g = array![0.5 / (SIGMA * SIGMA)];

    let clock = Instant::now();
    let solve = KernelSolve::from_sum(sum.clone(), "b")?;
    let solution = solve.call((&x, &x, &b, &g), &SolveOptions::ridge(RIDGE))?;
    let seconds = clock.elapsed().as_secs_f64();

    let t = Array2::from_shape_fn((1_001, 1), |(i, _)| i as f64 / 1_000.0);
    let predicted = KernelOperator::new(&sum, "b", (&t, &x, &g))?.apply(&solution.value)?;

    let info = &solution.info;
    println!("{n} points, kernel exp(-|x - y|² / (2 σ²)), σ = {SIGMA}, ridge {RIDGE}");
    println!(
        "solved in {seconds:.2} s: {} iterations, {} products",
        info.iterations, info.products
    );
    println!("residual {:.1e}, condition about {:.0}", info.residual(), info.condition());
    println!("\n     t    signal  predicted");
    for k in (0..=1_000).step_by(100) {
        println!("{:6.2}  {:8.4}   {:8.4}", t[[k, 0]], signal(t[[k, 0]]), predicted[[k, 0]]);
    }
    let error = t.iter().zip(&predicted).map(|(&t, &p)| (signal(t) - p).powi(2)).sum::<f64>();
    let error = (error / 1_001.0).sqrt();
    println!("\nroot mean square error {error:.4} (noise {NOISE})");
    if error > NOISE {
        return Err(format!("the prediction error {error:.4} exceeds the noise").into());
    }
    Ok(())
}

//! A kernel of small support, block-sparse: `cargo run --release --example block_sparse`
//!
//! Points are sorted into the cells of a grid; a Gaussian of width σ is summed over pairs of cells
//! that are nearer than 4 σ. All other pairs are never looked at.

use keops::prelude::*;
use keops::ranges::{cluster_ranges, sort_clusters};
use ndarray::{Array2, ArrayView1, Axis};
use std::time::Instant;

const CELLS: usize = 16;
const SIGMA: f32 = 0.02;

/// Points that fill the unit square evenly (the R2 sequence).
fn points(n: usize, shift: f64) -> Array2<f32> {
    let step = [0.754_877_666_246_693, 0.569_840_290_998_053_2];
    Array2::from_shape_fn((n, 2), |(i, k)| ((i as f64 + shift) * step[k]).fract() as f32)
}

/// Points by cell, and the range of rows of each cell.
fn sorted(x: &Array2<f32>) -> Result<(Array2<f32>, Vec<[usize; 2]>), Error> {
    let cell = |p: ArrayView1<'_, f32>| {
        let at = |v: f32| ((v * CELLS as f32) as usize).min(CELLS - 1);
        at(p[0]) * CELLS + at(p[1])
    };
    let labels: Vec<usize> = x.rows().into_iter().map(cell).collect();
    let order = sort_clusters(&labels)?;
    let labels: Vec<usize> = order.iter().map(|&k| labels[k]).collect();
    Ok((x.select(Axis(0), &order), cluster_ranges(&labels)?))
}

fn main() -> Result<(), Error> {
    let (m, n) = (40_000, 40_000);
    let (x, cells_i) = sorted(&points(m, 0.0))?;
    let (y, cells_j) = sorted(&points(n, 0.5))?;
    let b = Array2::ones((n, 1));

    // Cells meet if their nearest corners are within 4 σ.
    let reach = 4.0 * SIGMA * CELLS as f32;
    let gap = |a: usize, b: usize| a.abs_diff(b).saturating_sub(1) as f32;
    let near =
        |k: usize, l: usize| gap(k / CELLS, l / CELLS).hypot(gap(k % CELLS, l % CELLS)) <= reach;
    let ranges = Ranges::where_clusters(&cells_i, &cells_j, near)?;
    let share = ranges.pairs() as f64 / (m * n) as f64;
    println!("{} and {} cells, {:.1} % of all pairs", cells_i.len(), cells_j.len(), 100.0 * share);

    let k = (-vi(&x).sqdist(vj(&y)) / (2.0 * f64::from(SIGMA) * f64::from(SIGMA))).exp();
    let sparse = k.clone().ranges(ranges);
    // Compiled before they are timed.
    let (all, few) = (k.matmul(&b)?, sparse.matmul(&b)?);
    let clock = Instant::now();
    k.matmul(&b)?;
    let dense = clock.elapsed();
    let clock = Instant::now();
    sparse.matmul(&b)?;
    println!("all pairs: {dense:.1?}, near cells: {:.1?}", clock.elapsed());
    let largest = all.iter().fold(0f32, |m, v| m.max(v.abs()));
    let error = (&all - &few).iter().fold(0f32, |m, v| m.max(v.abs())) / largest;
    println!("largest difference: {error:.1e} of the largest value");
    assert!(error < 1e-3, "what is left out is below exp(-8) for each pair");
    Ok(())
}

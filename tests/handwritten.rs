//! The kernels that `benches/against_handwritten.rs` measures against, checked against plain loops
//! in double precision: every level that this CPU has, in sizes that leave partial tiles, blocks
//! and groups.
#![cfg(target_arch = "x86_64")]

#[path = "../benches/handwritten/mod.rs"]
mod handwritten;

use handwritten::simd::Real;
use handwritten::{
    ArgKMinD3, ArgMinD3, DistanceForm, Error, GaussianD3, GaussianGradientD3, GaussianWide, K,
    Level, LogSumExpD3, Selection,
};

const SIZES: [(usize, usize); 5] = [(1, 1), (7, 33), (50, 64), (131, 700), (97, 1291)];

/// On AVX2 exponentials do not fall under the smallest normal f32, 1.2e-38; weights, their number
/// and 2γ|x − y| are each below 10⁴ here.
const UNDERFLOW: f64 = 1e-30;

/// Levels that this CPU can run.
fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

/// Numbers in [−1, 1), rounded to `T` (xorshift64*).
fn numbers<T: Real>(seed: u64, len: usize) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..len).map(|_| T::of(next())).collect()
}

fn squared_distance<T: Real>(x: &[T], y: &[T]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x.to_f64() - y.to_f64()).powi(2)).sum()
}

/// What the rounding of t = γ|x − y|² leaves of an exponential: its relative error in units of
/// the machine precision ε, where coordinates are rounded to ε/2 after scaling by √γ.
fn condition<T: Real>(gamma: f64, x: &[T], y: &[T]) -> f64 {
    let norm = |x: &[T]| x.iter().map(|x| x.to_f64().powi(2)).sum::<f64>().sqrt();
    let distance = squared_distance(x, y).sqrt();
    4.0 + 2.0 * gamma * distance * (distance + norm(x) + norm(y))
}

/// Asserts that `got` is the sum of `terms` (values and their relative errors in units of
/// `epsilon`) up to twice those errors.
fn assert_sum<T: Real>(got: T, terms: impl Iterator<Item = (f64, f64)>, epsilon: f64, place: &str) {
    let (sum, error) =
        terms.fold((0.0, 0.0), |(sum, error), (t, c)| (sum + t, error + t.abs() * c));
    let allowed = 2.0 * epsilon * error + UNDERFLOW;
    let got = got.to_f64();
    assert!((got - sum).abs() <= allowed, "{place}: got {got:e}, expected {sum:e} ± {allowed:e}");
}

fn gaussian<T: Real>(epsilon: f64) {
    for level in levels() {
        for (m, n) in SIZES {
            let (x, y, b) = (numbers::<T>(1, 3 * m), numbers::<T>(2, 3 * n), numbers::<T>(3, n));
            for gamma in [0.3, 12.5, 400.0] {
                let gamma = T::of(gamma);
                let g = gamma.to_f64();
                let out = GaussianD3::pack(level, &x, &y, &b, gamma).unwrap().run();
                let gradient = GaussianGradientD3::pack(level, &x, &y, &b, gamma).unwrap().run();
                assert_eq!((out.len(), gradient.len()), (m, 3 * m));
                for (i, x) in x.chunks_exact(3).enumerate() {
                    let place = format!("{level:?} {m}×{n} γ={g} row {i}");
                    let terms = || {
                        y.chunks_exact(3).zip(&b).map(|(y, b)| {
                            let k = (-g * squared_distance(x, y)).exp();
                            (y, k * b.to_f64(), condition(g, x, y))
                        })
                    };
                    assert_sum(out[i], terms().map(|(_, k, c)| (k, c)), epsilon, &place);
                    for d in 0..3 {
                        // A difference of rounded coordinates: ε/2·(|x| + |y|), absolutely.
                        let terms = terms().map(|(y, k, c)| {
                            let (x, y) = (x[d].to_f64(), y[d].to_f64());
                            let slack = (x.abs() + y.abs()) / (x - y).abs();
                            (-2.0 * g * (x - y) * k, c + slack)
                        });
                        assert_sum(gradient[3 * i + d], terms, epsilon, &place);
                    }
                }
            }
        }
    }
}

#[test]
fn gaussian_f32() {
    gaussian::<f32>(f32::EPSILON.into());
}

#[test]
fn gaussian_f64() {
    gaussian::<f64>(f64::EPSILON);
}

#[test]
fn gaussian_of_distant_points_is_zero_or_negligible() {
    for level in levels() {
        let out =
            GaussianD3::pack(level, &[0.0f32; 3], &[1e4, 0.0, 0.0], &[1.0], 1.0).unwrap().run();
        assert!((0.0..=f32::MIN_POSITIVE).contains(&out[0]), "{level:?}: {}", out[0]);
        let out =
            GaussianD3::pack(level, &[0.0f64; 3], &[1e9, 0.0, 0.0], &[1.0], 1.0).unwrap().run();
        assert!((0.0..=f64::MIN_POSITIVE).contains(&out[0]), "{level:?}: {}", out[0]);
    }
}

#[test]
fn gaussian_of_no_columns_is_zero_and_of_no_rows_empty() {
    for level in levels() {
        assert_eq!(
            GaussianD3::<f32>::pack(level, &[1.0; 6], &[], &[], 1.0).unwrap().run(),
            vec![0.0; 2]
        );
        assert_eq!(
            GaussianD3::<f32>::pack(level, &[], &[1.0; 6], &[1.0; 2], 1.0).unwrap().run(),
            vec![]
        );
    }
}

fn wide<T: Real>(epsilon: f64) {
    for level in levels() {
        for form in [DistanceForm::Differences, DistanceForm::InnerProducts] {
            for dim in [1, 16, 50] {
                for (m, n) in SIZES {
                    let (x, y, b) =
                        (numbers::<T>(4, dim * m), numbers::<T>(5, dim * n), numbers::<T>(6, n));
                    let gamma = T::of(1.5 / dim as f64);
                    let g = gamma.to_f64();
                    let out =
                        GaussianWide::pack(level, form, dim, (&x, &y, &b), gamma).unwrap().run();
                    assert_eq!(out.len(), m);
                    for (i, x) in x.chunks_exact(dim).enumerate() {
                        let terms = y.chunks_exact(dim).zip(&b).map(|(y, b)| {
                            let k = (-g * squared_distance(x, y)).exp();
                            // Inner products: |x|² + |y|² ≤ 4·dim about the centroid, summed
                            // with random errors.
                            let extra = 4.0 * g * dim as f64;
                            (k * b.to_f64(), condition(g, x, y) + extra)
                        });
                        let place = format!("{level:?} {form:?} {m}×{n}×{dim} row {i}");
                        assert_sum(out[i], terms, epsilon, &place);
                    }
                }
            }
        }
    }
}

#[test]
fn wide_gaussian_f32() {
    wide::<f32>(f32::EPSILON.into());
}

#[test]
fn wide_gaussian_f64() {
    wide::<f64>(f64::EPSILON);
}

fn log_sum_exp<T: Real>(epsilon: f64) {
    for level in levels() {
        for (m, n) in SIZES {
            let (x, mut y) = (numbers::<T>(7, 3 * m), numbers::<T>(8, 3 * n));
            // The first half of the columns is far away: the running maximum must be raised.
            for y in &mut y[..3 * (n / 2)] {
                *y = T::of(y.to_f64() + 3.0);
            }
            for gamma in [0.3, 12.5, 400.0] {
                let gamma = T::of(gamma);
                let g = gamma.to_f64();
                let out = LogSumExpD3::pack(level, &x, &y, gamma).unwrap().run();
                assert_eq!(out.len(), m);
                for (i, x) in x.chunks_exact(3).enumerate() {
                    let terms = || y.chunks_exact(3).map(|y| (-g * squared_distance(x, y), y));
                    let max = terms().map(|(t, _)| t).fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = terms().map(|(t, _)| (t - max).exp()).sum();
                    let error: f64 = terms()
                        .map(|(t, y)| (t - max).exp() * (condition(g, x, y) + max.abs()))
                        .sum();
                    let (got, expected) = (out[i].to_f64(), max + sum.ln());
                    let allowed = 2.0 * epsilon * (error / sum + expected.abs());
                    assert!(
                        (got - expected).abs() <= allowed,
                        "{level:?} {m}×{n} γ={g} row {i}: got {got}, expected {expected} ± {allowed}"
                    );
                }
            }
        }
    }
}

#[test]
fn log_sum_exp_f32() {
    log_sum_exp::<f32>(f32::EPSILON.into());
}

#[test]
fn log_sum_exp_f64() {
    log_sum_exp::<f64>(f64::EPSILON);
}

/// Points of a coarse grid: distances are exact, and many are equal.
fn grid<T: Real>(seed: u64, len: usize) -> Vec<T> {
    numbers::<T>(seed, len).into_iter().map(|x| T::of((x.to_f64() * 16.0).round())).collect()
}

fn nearest<T: Real>() {
    for level in levels() {
        for (m, n) in [(1, 10), (7, 33), (50, 64), (131, 700), (97, 1291), (5, 40_000)] {
            for points in [numbers::<T>, grid::<T>] {
                let (x, y) = (points(9, 3 * m), points(10, 3 * n));
                let first = ArgMinD3::pack(level, &x, &y).unwrap().run();
                let insertion = ArgKMinD3::pack(level, Selection::Insertion, &x, &y).unwrap().run();
                let groups = ArgKMinD3::pack(level, Selection::GroupMinima, &x, &y).unwrap().run();
                assert_eq!((first.len(), insertion.len()), (m, K * m));
                assert_eq!(insertion, groups, "{level:?} {m}×{n}");
                for i in 0..m {
                    // The order of operations of the kernels, so that ties are the same.
                    let d = |j: usize| {
                        let d = |k: usize| T::of(x[3 * i + k].to_f64() - y[3 * j + k].to_f64());
                        let square = |x: T| x.to_f64() * x.to_f64();
                        (square(d(0)) + square(d(1)) + square(d(2)), j)
                    };
                    let mut order: Vec<(f64, usize)> = (0..n).map(d).collect();
                    order.sort_by(|a, b| a.partial_cmp(b).unwrap());
                    let place = format!("{level:?} {m}×{n} row {i}");
                    // Distances that differ by rounding only may change places.
                    let same = |j: u32, k: usize| {
                        let (got, expected) = (d(j as usize).0, order[k].0);
                        assert!((got - expected).abs() <= 4e-7 * expected, "{place}, place {k}");
                    };
                    same(first[i], 0);
                    for k in 0..K {
                        same(insertion[K * i + k], k);
                    }
                    if points(0, 1)[0].to_f64().fract() == 0.0 {
                        assert_eq!(first[i] as usize, order[0].1, "{place}");
                        let expected = order[..K].iter().map(|&(_, j)| j as u32);
                        assert!(insertion[K * i..][..K].iter().copied().eq(expected), "{place}");
                    }
                }
            }
        }
    }
}

#[test]
fn nearest_f32() {
    nearest::<f32>();
}

#[test]
fn nearest_f64() {
    nearest::<f64>();
}

#[test]
fn bad_arguments_are_named() {
    for level in levels() {
        let length = |variable, expected: &str, got| Error::Length {
            variable,
            expected: expected.to_owned(),
            got,
        };
        assert_eq!(
            GaussianD3::<f32>::pack(level, &[0.0; 4], &[0.0; 3], &[0.0], 1.0).err(),
            Some(length("x", "a multiple of 3", 4))
        );
        assert_eq!(
            GaussianD3::<f32>::pack(level, &[0.0; 3], &[0.0; 3], &[0.0; 2], 1.0).err(),
            Some(length("b", "1", 2))
        );
        assert_eq!(
            GaussianD3::<f64>::pack(level, &[0.0; 3], &[0.0; 3], &[0.0], -1.0).err(),
            Some(Error::Gamma(-1.0))
        );
        assert_eq!(
            LogSumExpD3::<f32>::pack(level, &[0.0; 3], &[], 1.0).err(),
            Some(length("y", "at least 3", 0))
        );
        assert_eq!(
            ArgKMinD3::<f32>::pack(level, Selection::GroupMinima, &[0.0; 3], &[0.0; 27]).err(),
            Some(length("y", "30 to 3221225472", 27))
        );
    }
}

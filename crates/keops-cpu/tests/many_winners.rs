//! Many winners, up to all rows, against a stable sort.

mod common;

use common::levels;
use half::{bf16, f16};
use keops_core::data::Element;
use keops_core::genred::{Genred, Reference};
use keops_core::ranges::{Pattern, Ranges};
use keops_core::reduce::{ARG_K_MIN, K_MIN, K_MIN_ARG_K_MIN};
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use ndarray::{ArrayD, IxDyn};

/// Values with ties, both zeros, infinities and NaN.
fn value(k: usize) -> f64 {
    match k * 7919 % 101 {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => -0.0,
        4 => 0.0,
        r => (r % 17) as f64 * 0.25 - 2.0,
    }
}

/// The `k` least of `x + y[j]` over some columns: values, then columns.
fn sorted(
    x: f64,
    y: &[f64],
    columns: impl Iterator<Item = usize>,
    k: usize,
) -> (Vec<f64>, Vec<i64>) {
    let mut all: Vec<usize> = columns.filter(|&j| !(x + y[j]).is_nan()).collect();
    all.sort_by(|&a, &b| (x + y[a]).partial_cmp(&(x + y[b])).expect("numbers"));
    all.truncate(k);
    let mut keys: Vec<f64> = all.iter().map(|&j| x + y[j]).collect();
    let mut places: Vec<i64> = all.iter().map(|&j| j as i64).collect();
    keys.resize(k, f64::INFINITY);
    places.resize(k, -1);
    (keys, places)
}

/// Does a row meet a column?
type Meets<'f> = &'f dyn Fn(usize, usize) -> bool;

fn check<T: Element>(
    rows: usize,
    n: usize,
    k: usize,
    batch: usize,
    ranges: Option<(&Ranges, Meets<'_>)>,
    axis: Axis,
) {
    let x: Vec<f64> = (0..batch * rows).map(|i| (i % 5) as f64 * 0.5).collect();
    let y: Vec<f64> = (0..batch * n).map(value).collect();
    let array = |v: &[f64], n: usize| {
        let v = v.iter().map(|v| T::of_f64(*v)).collect();
        ArrayD::from_shape_vec(IxDyn(&[batch, n, 1]), v).expect("columns")
    };
    let (xs, ys) = (array(&x, rows), array(&y, n));
    let aliases = match axis {
        Axis::J => ["x = Vi(1)", "y = Vj(1)"],
        Axis::I => ["x = Vj(1)", "y = Vi(1)"],
    };
    for level in levels() {
        let device = Device::new(Cpu::with_level(level).expect("available"));
        let make = |def| -> Genred<Reference> {
            Genred::new("x + y", aliases, (def, k), axis).expect("valid")
        };
        let at = |g: Genred<Reference>| {
            let g = g.at(device.clone());
            match ranges {
                Some((r, _)) => g.ranges(r.clone()),
                None => g,
            }
        };
        let keys: ArrayD<T> = at(make(&K_MIN)).call((&xs, &ys)).expect("keys");
        let places = at(make(&ARG_K_MIN)).call_indices((&xs, &ys)).expect("places");
        if size_of::<T>() >= 4 {
            let both = at(make(&K_MIN_ARG_K_MIN));
            let (all, columns) = (both.call((&xs, &ys)), both.call_indices((&xs, &ys)));
            let same = |a: &T, b: &T| a.to_f64() == b.to_f64();
            assert!(all.expect("keys").iter().zip(&keys).all(|(a, b)| same(a, b)), "keys of both");
            assert_eq!(columns.expect("places"), places);
        }
        for b in 0..batch {
            for i in 0..rows {
                let met = (0..n).filter(|&j| ranges.is_none_or(|(_, meets)| meets(i, j)));
                let (want, columns) = sorted(x[b * rows + i], &y[b * n..(b + 1) * n], met, k);
                for q in 0..k {
                    let (key, place) = (keys[[b, i, q]].to_f64(), places[[b, i, q]]);
                    assert_eq!(
                        (key, place),
                        (want[q], columns[q]),
                        "{} winner {q} of {k}, row {i} of {rows}, {n} columns, {}",
                        std::any::type_name::<T>(),
                        level.name()
                    );
                }
            }
        }
    }
}

#[test]
fn many_winners_are_those_of_a_stable_sort() {
    // (Few rows, many columns: lanes along the columns.)
    for (rows, n) in [(40, 300), (3, 300), (1, 9000), (20, 5000)] {
        for k in [47, 48, 49, 50, 120, n / 2, n - 1, n, n + 3] {
            check::<f32>(rows, n, k, 1, None, Axis::J);
        }
        check::<f64>(rows, n, 100, 1, None, Axis::I);
        check::<f64>(rows, n, n, 2, None, Axis::J);
    }
    check::<f16>(40, 700, 120, 2, None, Axis::J);
    check::<bf16>(40, 700, 120, 1, None, Axis::I);
    let halves = Ranges::from_clusters(&[20, 40], &[350, 700], &[true, false, false, true]);
    let halves = halves.expect("clusters in order");
    for k in [60, 120, 350, 360] {
        let met: Meets<'_> = &|i, j| (i < 20) == (j < 350);
        check::<f32>(40, 700, k, 1, Some((&halves, met)), Axis::J);
        check::<f64>(40, 700, k, 1, Some((&halves, met)), Axis::J);
    }
}

/// Ranges of one row and of a few rows, which start and end anywhere, several for a row.
#[test]
fn winners_of_few_rows() {
    let n = 1_000;
    let cuts = [0, 1, 2, 5, 6, 14, 15];
    let ranges_of = |block: usize| match block % 3 {
        0 => vec![[17 * block, 17 * block + 130]],
        1 => vec![[3, 4], [9, 300], [511, 513], [800 + block, n]],
        _ => vec![],
    };
    let blocks: Vec<[usize; 2]> = cuts.windows(2).map(|c| [c[0], c[1]]).collect();
    let (mut reduced, mut slices) = (vec![], vec![]);
    for block in 0..blocks.len() {
        reduced.extend(ranges_of(block));
        slices.push(reduced.len());
    }
    let ranges = Ranges::from_pattern(Pattern { blocks, slices, reduced }).expect("ranges");
    let met = |i: usize, j: usize| {
        let block = cuts.iter().filter(|&&c| c <= i).count() - 1;
        ranges_of(block).iter().any(|r| (r[0]..r[1]).contains(&j))
    };
    for k in [1, 2, 5, 60] {
        check::<f32>(15, n, k, 1, Some((&ranges, &met)), Axis::J);
        check::<f64>(15, n, k, 2, Some((&ranges, &met)), Axis::J);
    }
}

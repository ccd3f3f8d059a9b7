//! Rows that meet one range of columns each (bands, triangles, windows of any kind) share tiles: each
//! must come to what it would alone.

use keops_core::data::DType;
use keops_core::genred::{Genred, Reduce, Reference};
use keops_core::ranges::{Pattern, Ranges};
use keops_core::reduce::{ARG_MIN, LOG_SUM_EXP, MIN, SUM, SUM_SOFT_MAX_WEIGHT};
use keops_core::spec::{Axis, Device, ReduceOptions, Scheme};
use keops_cpu::Cpu;
use ndarray::{Array2, ArrayD};

const ROWS: usize = 53;
const COLUMNS: usize = 300;

/// The range of columns of each row.
fn windows() -> Vec<(&'static str, Vec<[usize; 2]>)> {
    let rows = |window: fn(usize) -> [usize; 2]| (0..ROWS).map(window).collect();
    vec![
        ("band", rows(|i| [(5 * i).saturating_sub(20), (5 * i + 21).min(COLUMNS)])),
        ("triangle", rows(|i| [0, 5 * i + 1])),
        ("upper triangle", rows(|i| [5 * i, COLUMNS])),
        ("long", rows(|i| [i, COLUMNS - ROWS + i])),
        // Rows between them are in no block.
        ("gaps", rows(|i| if i % 5 == 2 { [7, 7] } else { [3 * i, 3 * i + 40] })),
        ("some are empty", rows(|i| if i % 7 == 3 { [4, 4] } else { [i, 2 * i + 9] })),
        ("back and forth", rows(|i| [(37 * i) % 101, 101 + (53 * i) % 199])),
        ("apart", rows(|i| [5 * i, 5 * i + 2])),
    ]
}

fn points(n: usize, phase: f64) -> Array2<f64> {
    Array2::from_shape_fn((n, 3), |(i, k)| ((i * 3 + k) as f64 * 0.7 + phase).sin())
}

fn close(what: &str, got: &ArrayD<f64>, want: &ArrayD<f64>, tolerance: f64) {
    assert_eq!(got.shape(), want.shape(), "{what}");
    for (k, (g, w)) in got.iter().zip(want).enumerate() {
        let fits =
            g == w || (g - w).abs() <= tolerance * w.abs().max(1.0) || g.is_nan() && w.is_nan();
        assert!(fits, "{what}: entry {k} is {g} instead of {w}");
    }
}

#[test]
fn rows_of_one_tile_do_not_see_each_others_columns() {
    let cpu = Device::new(Cpu::new());
    let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"];
    let reductions: [(&str, Option<&str>, Reduce); 5] = [
        ("Exp(-SqDist(x, y)) * b", None, (&SUM).into()),
        ("Elem(b, 0) - SqDist(x, y)", None, (&LOG_SUM_EXP).into()),
        ("3 * (x | y)", Some("b"), (&SUM_SOFT_MAX_WEIGHT).into()),
        ("SqDist(x, y)", None, (&MIN).into()),
        ("SqDist(x, y)", None, (&ARG_MIN).into()),
    ];
    let schemes = [
        ReduceOptions::default(),
        ReduceOptions { scheme: Scheme::Kahan, accumulate: None },
        ReduceOptions { scheme: Scheme::Direct, accumulate: None },
        ReduceOptions { scheme: Scheme::Block, accumulate: Some(DType::F64) },
    ];
    let (x, y) = (points(ROWS, 0.1), points(COLUMNS, 0.4));
    let mut b = Array2::from_shape_fn((COLUMNS, 2), |(j, k)| ((j + 7 * k) as f64).cos());
    // What only some rows meet, and must stay there.
    (b[[150, 0]], b[[75, 1]], b[[10, 0]]) = (f64::INFINITY, f64::NAN, f64::NAN);
    let narrow = [x.mapv(|v| v as f32), y.mapv(|v| v as f32), b.mapv(|v| v as f32)];
    for (name, windows) in windows() {
        let there = (0..ROWS).filter(|i| name != "gaps" || windows[*i] != [7, 7]);
        let pattern = Pattern {
            blocks: there.clone().map(|i| [i, i + 1]).collect(),
            slices: (1..=there.clone().count()).collect(),
            reduced: there.map(|i| windows[i]).collect(),
        };
        let ranges = std::sync::Arc::new(Ranges::from_pattern(pattern).expect("in order"));
        for (formula, weight, reduce) in &reductions {
            let sums = !reduce.def.name().contains("Min");
            for options in schemes.iter().take(if sums { 4 } else { 1 }) {
                let function: Genred<Reference> = match weight {
                    Some(w) => Genred::weighted(formula, w, aliases, *reduce, Axis::J),
                    None => Genred::new(formula, aliases, *reduce, Axis::J),
                }
                .expect("a formula");
                let function = function.options(*options).ranges(ranges.clone());
                let fast = function.clone().at(cpu.clone());
                let what = format!("{name}, {formula}, {options:?}");
                if reduce.def.name() == "ArgMin" {
                    let (got, want) =
                        (fast.call_indices((&x, &y, &b)), function.call_indices((&x, &y, &b)));
                    assert_eq!(got.expect("runs"), want.expect("runs"), "{what}");
                    continue;
                }
                let want = function.call((&x, &y, &b)).expect("runs");
                if options.accumulate.is_none() {
                    close(&what, &fast.call((&x, &y, &b)).expect("runs"), &want, 1e-12);
                }
                let [x, y, b] = &narrow;
                let got = fast.call((x, y, b)).expect("runs").mapv(f64::from);
                close(&what, &got, &want, 2e-5);
            }
        }
    }
}

#[test]
fn ranges_serve_calls_of_other_sizes() {
    let device = Device::new(Cpu::new());
    let sum: Genred<Device> =
        Genred::<Reference>::new("Exp(-SqDist(x, y))", ["x = Vi(3)", "y = Vj(3)"], &SUM, Axis::J)
            .expect("a formula")
            .at(device);
    let (gradient, by_columns) =
        (sum.vjp("y").expect("a gradient"), sum.vjp("x").expect("a gradient"));
    let band = Ranges::band(ROWS, COLUMNS, 20, 20).expect("a band");
    let call = |ranges: &Ranges, rows: usize, columns: usize| {
        let (x, y) = (points(rows, 0.1), points(columns, 0.4));
        let e = Array2::from_shape_fn((rows, 1), |(i, _)| (i as f64).cos());
        let with = |f: &Genred<Device>| f.clone().ranges(ranges.clone());
        let value = with(&sum).call((&x, &y)).expect("a value");
        let both = [&gradient, &by_columns].map(|f| with(f).call((&x, &y, &e)).expect("a value"));
        (value, both)
    };
    for (rows, columns) in [(ROWS, COLUMNS), (ROWS + 9, COLUMNS + 70), (ROWS, COLUMNS)] {
        let fresh = Ranges::band(ROWS, COLUMNS, 20, 20).expect("a band");
        let again = call(&band, rows, columns);
        assert_eq!(again, call(&fresh, rows, columns), "{rows} x {columns}");
        let beyond = again.0.slice(ndarray::s![ROWS.., ..]);
        assert!(beyond.iter().all(|v| *v == 0.0), "rows that meet nothing: {beyond}");
    }
    // Fewer rows than ranges speak of are refused, also after a call that fitted.
    let (x, y) = (points(ROWS - 1, 0.1), points(COLUMNS, 0.4));
    let e = sum.ranges(band).call((&x, &y)).unwrap_err().to_string();
    assert!(e.contains("is not within the 52 rows"), "{e}");
}

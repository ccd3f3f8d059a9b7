//! Selections among many columns, and reductions of few rows: every level against a search by
//! brute force and against the interpreter's definition of the sums.

use keops_core::data::{Buffer, DType, Element};
use keops_core::genred::Genred;
use keops_core::graph::{Builder, Category, Ex, NodeId, Var};
use keops_core::interp::Interpreter;
use keops_core::ops::EXP;
use keops_core::ranges::{Pattern, Ranges};
use keops_core::reduce::{self, LOG_SUM_EXP, ReductionDef, SUM};
use keops_core::spec::{Axis, Backend, CheckedArgs, Device, Executable, ReduceOptions, ReduceSpec};
use keops_cpu::{Cpu, Level};
use ndarray::{Array2, ArrayD, array};
use std::sync::Arc;

fn numbers(seed: u64, rows: usize, columns: usize) -> Array2<f64> {
    let mut s = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    Array2::from_shape_simple_fn((rows, columns), || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        2.0 * (s >> 11) as f64 / (1u64 << 53) as f64 - 1.0
    })
}

fn var(b: &Builder, index: u32, dim: usize, category: Category) -> Ex<'_> {
    b.var(Var { index, dim, category })
}

fn squared_distance<'b>(x: Ex<'b>, y: Ex<'b>) -> Ex<'b> {
    (x - y).dot(x - y)
}

fn spec(
    b: Builder,
    formula: NodeId,
    weight: Option<NodeId>,
    reduction: &'static ReductionDef,
    k: usize,
    dtype: DType,
) -> ReduceSpec {
    let graph = b.into_graph();
    let roots: Vec<NodeId> = std::iter::once(formula).chain(weight).collect();
    let vars = graph.variables(&roots);
    ReduceSpec {
        formula,
        weight,
        reduction,
        k,
        axis: Axis::J,
        names: vars.iter().map(|v| format!("v{}", v.index)).collect(),
        vars,
        dtype,
        options: ReduceOptions::default(),
        graph: Arc::new(graph),
    }
}

fn run(
    exe: &dyn Executable,
    spec: &ReduceSpec,
    arrays: &[Array2<f64>],
    ranges: Option<&Ranges>,
) -> Vec<Buffer> {
    let f32s: Vec<ArrayD<f32>> = arrays.iter().map(|a| a.mapv(|v| v as f32).into_dyn()).collect();
    let f64s: Vec<ArrayD<f64>> = arrays.iter().map(|a| a.clone().into_dyn()).collect();
    let view = |v: &Var| {
        let k = v.index as usize;
        if spec.dtype == DType::F64 {
            f64::erase(f64s[k].view())
        } else {
            f32::erase(f32s[k].view())
        }
    };
    let views = spec.vars.iter().map(view).collect();
    let args = CheckedArgs::new(spec, views, ranges, None, None).unwrap();
    let mut out = args.allocate(spec).unwrap();
    exe.run(&args, &mut out).unwrap();
    out
}

/// Indices of the best `k` keys of a row, in order, NaN left out.
fn winners(keys: impl Iterator<Item = (usize, f64)>, k: usize, max: bool) -> Vec<i64> {
    let sign = if max { -1.0 } else { 1.0 };
    let mut all: Vec<(usize, f64)> = keys.filter(|e| !e.1.is_nan()).collect();
    all.sort_by(|a, b| (sign * a.1).partial_cmp(&(sign * b.1)).unwrap().then(a.0.cmp(&b.0)));
    let mut found: Vec<i64> = all.iter().take(k).map(|e| e.0 as i64).collect();
    found.resize(k, -1);
    found
}

/// Keys are `x_i + y_j` on a coarse grid, so that they are exact and many of them are equal, with
/// infinities and NaN among them.
/// One number in a column is a number, not a batch of one; the same for vectors is a batch.
#[test]
fn a_number_is_a_parameter() {
    let device = Device::new(Cpu::new());
    let f: Genred =
        Genred::new("g * x * y", ["g = Pm(1)", "x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)
            .expect("a formula");
    let (x, y) = (array![[1.0], [2.0]], array![[3.0], [4.0]]);
    let f = f.at(device.clone());
    let want = array![[35.0], [70.0]].into_dyn();
    assert_eq!(f.call((&array![[5.0]], &x, &y)).expect("a value"), want);
    assert_eq!(f.call((&array![5.0], &x, &y)).expect("a value"), want);
    let e = array![[1.0], [1.0]];
    let slope =
        f.vjp("g").expect("a gradient").call((&array![[5.0]], &x, &y, &e)).expect("a value");
    assert_eq!(slope, array![[21.0]].into_dyn());
    // A gradient has the shape of what was given, also for a vector for rows of one component.
    let (xs, es) = (array![1.0, 2.0], array![1.0, 1.0]);
    for given in [array![5.0].into_dyn(), array![[5.0]].into_dyn(), ndarray::arr0(5.0).into_dyn()] {
        let (g, e) = (f.vjp("g").expect("a gradient"), &es);
        let args =
            [given.clone(), xs.clone().into_dyn(), y.clone().into_dyn(), e.clone().into_dyn()];
        let got = g.call(&args.each_ref()[..]).expect("a value");
        assert_eq!((got.shape(), got.sum()), (given.shape(), 21.0));
        let mut into = ArrayD::zeros(given.raw_dim());
        g.call_into(&args.each_ref()[..], &mut into).expect("a value");
        assert_eq!(into, got);
        let of_x = f.vjp("x").expect("a gradient").call(&args.each_ref()[..]).expect("a value");
        assert_eq!(of_x, array![35.0, 35.0].into_dyn());
    }
    let of_vectors: Genred =
        Genred::new("(g | g) * x * y", ["g = Pm(2)", "x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)
            .expect("a formula");
    let batch = of_vectors.at(device).call((&array![[1.0, 2.0]], &x, &y)).expect("a value");
    assert_eq!(batch.shape(), [1, 2, 1]);
}

/// Numbers of rows without their axis of components are vectors: the error says of whom.
#[test]
fn vectors_under_a_pivot_are_named() {
    let made: Result<Genred, _> =
        Genred::new("i0 - j0", ["i0 = Vi(1)", "j0 = Vj(7)"], &LOG_SUM_EXP, Axis::J);
    let text = made.map(|_| ()).expect_err("vectors").to_string();
    assert!(text.contains("dimension 7, as that of Vj(7)"), "{text}");
}

#[test]
fn selections_among_many_columns() {
    for (m, n) in [(40, 3000), (3, 6001), (1, 140_001)] {
        let mut x = numbers(1, m, 1).mapv(|v| (8.0 * v).round());
        let mut y = numbers(2, n, 1).mapv(|v| (3000.0 * v).round());
        x[[m / 2, 0]] = if m > 3 { f64::INFINITY } else { 0.0 };
        for (k, v) in [(7, f64::NAN), (70, f64::INFINITY), (700, f64::NEG_INFINITY)] {
            y[[k, 0]] = v;
        }
        let halves = Ranges::from_pattern(Pattern {
            blocks: vec![[0, m]],
            slices: vec![2],
            reduced: vec![[3, n / 2], [n / 2 + 5, n - 1]],
        })
        .unwrap();
        for (reduction, k) in [
            (&reduce::ARG_MIN, 1),
            (&reduce::ARG_MAX, 1),
            (&reduce::ARG_K_MIN, 2),
            (&reduce::ARG_K_MIN, 10),
            (&reduce::ARG_K_MIN, 16),
            (&reduce::ARG_K_MIN, 60),
        ] {
            for dtype in [DType::F32, DType::F64] {
                let b = Builder::default();
                let f = (var(&b, 0, 1, Category::I) + var(&b, 1, 1, Category::J)).id;
                let spec = spec(b, f, None, reduction, k, dtype);
                let max = reduction.name.contains("Max");
                let arrays = [x.clone(), y.clone()];
                for ranges in [None, Some(&halves)] {
                    let inside = |j: usize| {
                        ranges.is_none()
                            || (3..n / 2).contains(&j)
                            || (n / 2 + 5..n - 1).contains(&j)
                    };
                    for level in Level::available() {
                        let exe = Cpu::with_level(level).unwrap().compile(&spec).unwrap();
                        let out = run(&*exe, &spec, &arrays, ranges);
                        let found = out[0].indices().unwrap();
                        for i in 0..m {
                            let keys =
                                (0..n).filter(|j| inside(*j)).map(|j| (j, x[[i, 0]] + y[[j, 0]]));
                            let expected = winners(keys, k, max);
                            let got: Vec<i64> = found.iter().skip(i * k).take(k).copied().collect();
                            assert_eq!(
                                got,
                                expected,
                                "{} {k} of {m} x {n}, row {i}, {dtype:?}, {level:?}, ranges {}",
                                reduction.name,
                                ranges.is_some()
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn sums_of_few_rows() {
    for (m, d) in [(1, 3), (2, 3), (3, 20), (7, 3)] {
        let n = 9003;
        let arrays = [numbers(1, m, d), numbers(2, n, d), numbers(3, n, 2), numbers(4, 1, 5)];
        for (reduction, weighted) in [
            (&reduce::SUM, false),
            (&reduce::LOG_SUM_EXP, false),
            (&reduce::LOG_SUM_EXP, true),
            (&reduce::SUM_SOFT_MAX_WEIGHT, true),
            (&reduce::MAX, false),
            (&reduce::MIN_ARG_MIN, false),
        ] {
            for dtype in [DType::F32, DType::F64] {
                let b = Builder::default();
                let (x, y) = (var(&b, 0, d, Category::I), var(&b, 1, d, Category::J));
                let sq = squared_distance(x, y);
                let p = var(&b, 3, 5, Category::Param);
                let f = -sq * p.pick(1, 1, 1).un(&EXP);
                let (f, w) = match reduction.name {
                    "Sum" => (f.un(&EXP) * var(&b, 2, 2, Category::J), None),
                    _ => (
                        f,
                        weighted.then(|| var(&b, 2, 2, Category::J).un(&keops_core::ops::ABS).id),
                    ),
                };
                let f = f.id;
                let spec = spec(b, f, w, reduction, 1, dtype);
                spec.check().unwrap();
                let reference = Interpreter::new().compile(&spec).unwrap();
                let expected = run(&*reference, &spec, &arrays, None);
                for level in Level::available() {
                    let exe = Cpu::with_level(level).unwrap().compile(&spec).unwrap();
                    let got = run(&*exe, &spec, &arrays, None);
                    let name = format!("{} {m} x {d} {dtype:?} {level:?}", reduction.name);
                    for (g, e) in got.iter().zip(&expected) {
                        let (g, e) = (g.to_f64(), e.to_f64());
                        let scale = e.iter().fold(1.0f64, |a, v| a.max(v.abs()));
                        let tolerance = if dtype == DType::F64 { 1e-13 } else { 2e-6 };
                        for (g, e) in g.iter().zip(&e) {
                            assert!(
                                (g - e).abs() <= tolerance * scale,
                                "{name}: {g} instead of {e}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// The columns are shared among the threads; the bits are the same for any number of them.
#[test]
fn threads_do_not_change_few_rows() {
    let (m, n) = (2, 100_001);
    let arrays = [numbers(1, m, 3), numbers(2, n, 3)];
    for reduction in [&reduce::SUM, &reduce::LOG_SUM_EXP, &reduce::ARG_K_MIN] {
        let b = Builder::default();
        let f = (-squared_distance(var(&b, 0, 3, Category::I), var(&b, 1, 3, Category::J))).id;
        let k = if reduction.name == "ArgKMin" { 7 } else { 1 };
        let spec = spec(b, f, None, reduction, k, DType::F32);
        let exe = Cpu::new().compile(&spec).unwrap();
        let bits = |threads: usize| -> Vec<u64> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let out = pool.install(|| run(&*exe, &spec, &arrays, None));
            match out[0].indices() {
                Some(i) => i.iter().map(|v| *v as u64).collect(),
                None => out[0].to_f64().iter().map(|v| v.to_bits()).collect(),
            }
        };
        let one = bits(1);
        for threads in [2, 3, 8] {
            assert_eq!(bits(threads), one, "{} on {threads} threads", reduction.name);
        }
    }
}

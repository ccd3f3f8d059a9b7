//! The statements of docs/semantics.md; each test is named after its section.

use keops_core::data::{ArgView, DType, Element};
use keops_core::error::{Error, InputError};
use keops_core::genred::{Genred, Reduce, Reference};
use keops_core::graph::{MAX_DIM, MAX_NODES};
use keops_core::interp::Interpreter;
use keops_core::lower::MAX_VALUES;
use keops_core::ranges::{Pattern, Ranges};
use keops_core::reduce::*;
use keops_core::spec::{Axis, Device, ReduceOptions, Scheme};
use keops_cpu::{Cpu, Level};
use ndarray::{ArrayD, array};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

fn devices() -> Vec<Device> {
    let levels = Level::available().into_iter().map(|l| Device::new(Cpu::with_level(l).unwrap()));
    std::iter::once(Device::new(Interpreter::default())).chain(levels).collect()
}

fn rows(v: &[f64]) -> ArrayD<f64> {
    ArrayD::from_shape_vec(vec![v.len(), 1], v.to_vec()).unwrap()
}

fn genred(formula: &str, aliases: &[&str], reduction: impl Into<Reduce>) -> Genred<Reference> {
    Genred::new(formula, aliases, reduction, Axis::J).unwrap_or_else(|e| panic!("{e}"))
}

/// Results of `g` on every device.
fn everywhere(g: &Genred<Reference>, args: &[&ArrayD<f64>]) -> Vec<Vec<f64>> {
    let run = |d: Device| {
        let out = g.clone().at(d).call(args).unwrap_or_else(|e| panic!("{e}"));
        out.into_iter().collect()
    };
    devices().into_iter().map(run).collect()
}
fn indices_everywhere(g: &Genred<Reference>, args: &[&ArrayD<f64>]) -> Vec<Vec<i64>> {
    let run = |d: Device| g.clone().at(d).call_indices(args).unwrap().into_iter().collect();
    devices().into_iter().map(run).collect()
}

fn same(got: &[f64], expected: &[f64]) -> bool {
    let equal = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() < 1e-13;
    got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| equal(*a, *b))
}

/// A formula of x (one row each), on every device.
#[track_caller]
fn value(formula: &str, x: &[f64], expected: &[f64]) {
    for got in everywhere(&genred(formula, &["x = Vi(1)"], &SUM), &[&rows(x)]) {
        assert!(same(&got, expected), "{formula} at {x:?}: {got:?}, not {expected:?}");
    }
}
/// Its derivative, times the cotangent e.
#[track_caller]
fn slope(formula: &str, x: &[f64], e: f64, expected: &[f64]) {
    let g = genred(formula, &["x = Vi(1)"], &SUM).vjp("x").unwrap();
    for got in everywhere(&g, &[&rows(x), &rows(&vec![e; x.len()])]) {
        assert!(same(&got, expected), "{formula}' at {x:?}: {got:?}, not {expected:?}");
    }
}
/// A reduction of y over j.
#[track_caller]
fn reduced(reduction: impl Into<Reduce>, y: &[f64], expected: &[f64]) {
    let reduction = reduction.into();
    for got in everywhere(&genred("y", &["y = Vj(1)"], reduction), &[&rows(y)]) {
        assert!(same(&got, expected), "{reduction:?} of {y:?}: {got:?}, not {expected:?}");
    }
}
#[track_caller]
fn index(reduction: impl Into<Reduce>, y: &[f64], expected: &[i64]) {
    for got in indices_everywhere(&genred("y", &["y = Vj(1)"], reduction), &[&rows(y)]) {
        assert_eq!(got, expected, "{y:?}");
    }
}

fn erased<T: Element>(x: &ArrayD<T>) -> ArgView<'_> {
    T::erase(x.view())
}

#[test]
fn compute_types() {
    value("x / 3 - 0.1", &[1.0, 7.0], &[1.0 / 3.0 - 0.1, 7.0 / 3.0 - 0.1]);
    value("x**3", &[1.1], &[1.1 * 1.1 * 1.1]);
    value("x**-2", &[3.0], &[1.0 / 9.0]);
    value("x**0.5", &[2.0], &[2f64.sqrt()]);
    value("x**0.3", &[2.0], &[2f64.powf(0.3)]);
    let x16 = array![[half::f16::from_f32(0.1)], [half::f16::from_f32(3.0)]].into_dyn();
    let xb = x16.mapv(|v| half::bf16::from_f32(v.to_f32()));
    for d in devices() {
        let g = genred("x * x", &["x = Vi(1)"], &SUM).at(d.clone());
        // Squares in f32, rounded once at the end.
        let squares = x16.mapv(|v| half::f16::from_f32(v.to_f32() * v.to_f32()));
        assert_eq!(g.call(&[&x16][..]).unwrap(), squares);
        let squares = xb.mapv(|v| half::bf16::from_f32(v.to_f32() * v.to_f32()));
        assert_eq!(g.call(&[&xb][..]).unwrap(), squares);
        let least = genred("y", &["y = Vj(1)"], &ARG_MIN).at(d);
        let out: ArrayD<i64> = least.call_indices(&[&x16][..]).unwrap();
        assert_eq!(out, array![[0i64]].into_dyn());
    }
}

#[test]
fn accumulation() {
    let (h, b) = (half::f16::from_f32(1.0), half::bf16::from_f32(1.0));
    let ones = |n: usize| vec![n, 1];
    let x16 = ArrayD::from_elem(ones(3000), h);
    let xb = ArrayD::from_elem(ones(3000), b);
    let x32 = ArrayD::from_elem(ones(3000), 1f32);
    let x64 = ArrayD::from_elem(ones(3000), 1f64);
    let all = [DType::F16, DType::BF16, DType::F32, DType::F64];
    let data = [
        (erased(&x16), &[DType::F16, DType::F32][..]),
        (erased(&xb), &[DType::F32][..]),
        (erased(&x32), &[DType::F32, DType::F64][..]),
        (erased(&x64), &[DType::F64][..]),
    ];
    for d in devices() {
        for (x, allowed) in &data {
            for accumulate in all {
                for scheme in [Scheme::Block, Scheme::Direct, Scheme::Kahan] {
                    let options = ReduceOptions { accumulate: Some(accumulate), scheme };
                    let g = genred("y", &["y = Vj(1)"], &SUM).options(options).at(d.clone());
                    let out = g.run(std::slice::from_ref(x));
                    assert_eq!(
                        out.is_ok(),
                        allowed.contains(&accumulate),
                        "{accumulate:?} {out:?}"
                    );
                }
            }
        }
        // f16 sums of ones stop where the next number is two away; f32 sums do not.
        let sum = |accumulate| {
            let options = ReduceOptions { accumulate, scheme: Scheme::Direct };
            let g = genred("y", &["y = Vj(1)"], &SUM).options(options).at(d.clone());
            g.call(&[&x16][..]).unwrap()[[0, 0]].to_f32()
        };
        assert_eq!(sum(None), 3000.0);
        assert_eq!(sum(Some(DType::F16)), 2048.0);
        // Kahan's summation and f64 sums keep what f32 sums lose.
        let mut y = ArrayD::from_elem(ones(1001), 1e-8f32);
        y[[0, 0]] = 1.0;
        let sum = |accumulate, scheme| {
            let options = ReduceOptions { accumulate, scheme };
            let g = genred("y", &["y = Vj(1)"], &SUM).options(options).at(d.clone());
            f64::from(g.call(&[&y][..]).unwrap()[[0, 0]])
        };
        assert!((sum(None, Scheme::Kahan) - 1.00001).abs() < 1e-7);
        assert!((sum(Some(DType::F64), Scheme::Direct) - 1.00001).abs() < 1e-7);
    }
}

#[test]
fn rounding_and_reproducibility() {
    let x = ArrayD::from_shape_fn(vec![300, 3], |i| ((7 * i[0] + i[1]) as f64).sin());
    let g = genred("Exp(-SqDist(x, y)) * g", &["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"], &SUM);
    let gamma = array![0.7].into_dyn();
    for d in devices() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| g.clone().at(d.clone()).call(&[&x, &x, &gamma][..]).unwrap())
        };
        let one = run(1);
        assert!([1, 2, 3, 5].into_iter().all(|n| run(n) == one));
    }
    // A factor that is not finite acts on every term: 0 · inf is NaN, whatever the sum is.
    let g = genred("y * x", &["x = Vi(1)", "y = Vj(1)"], &SUM);
    for got in everywhere(&g, &[&rows(&[INF, 2.0]), &rows(&[0.0, 1.0])]) {
        assert!(same(&got, &[NAN, 2.0]), "{got:?}");
    }
    // A sum that overflows without its small factor.
    for got in everywhere(&g, &[&rows(&[1e-300]), &rows(&[1e308, 1e308])]) {
        assert!(((got[0] - 2e8) / 2e8).abs() < 1e-14, "{got:?}");
    }
}

#[test]
fn nan_infinities_and_zeros() {
    value("0 * x", &[1.0, INF, NAN], &[0.0, NAN, NAN]);
    value("x - x", &[1.0, INF, NAN], &[0.0, NAN, NAN]);
    value("Exp(x)", &[-INF, INF, NAN], &[0.0, INF, NAN]);
    value("x + 0", &[-0.0, NAN], &[0.0, NAN]);
    reduced(&SUM, &[1.0, NAN, 2.0], &[NAN]);
    reduced(&SUM, &[1.0, INF, 2.0], &[INF]);
    reduced(&SUM, &[INF, -INF], &[NAN]);
}

#[test]
fn comparisons_and_selections() {
    value("x < 1", &[0.0, 1.0, 2.0, NAN], &[1.0, 0.0, 0.0, 0.0]);
    value("x <= 1", &[0.0, 1.0, 2.0, NAN], &[1.0, 1.0, 0.0, 0.0]);
    value("x == 1", &[0.0, 1.0, NAN], &[0.0, 1.0, 0.0]);
    value("x != 1", &[0.0, 1.0, NAN], &[1.0, 0.0, 1.0]);
    value("IfElse(x, 5, 7)", &[-1.0, -0.0, 0.0, 1.0, NAN], &[7.0, 5.0, 5.0, 5.0, 7.0]);
    value("IfElse(x, 5, Log(x))", &[1.0, 2.0], &[5.0, 5.0]);
    value("IfElse(x - 1, Log(x - 1), 3)", &[0.0, 2.0], &[3.0, 0.0]);
    slope("IfElse(x - 1, Log(x - 1), 3 * x)", &[0.0, 3.0], 1.0, &[3.0, 0.5]);
    slope("IfElse(x - 1, Log(x), 3 * x)", &[0.0, 4.0], 1.0, &[3.0, 0.25]);
    slope("ReLU(Log(x))", &[0.0], 1.0, &[0.0]);
    slope("0 * Log(x)", &[0.0], 1.0, &[NAN]);
    value("Step(x)", &[-1.0, 0.0, 1.0], &[0.0, 1.0, 1.0]);
    value("Sign(x)", &[-2.0, 0.0, 3.0], &[-1.0, 0.0, 1.0]);
    value("Clamp(x, -1, 1)", &[-2.0, 0.5, 3.0, NAN], &[-1.0, 0.5, 1.0, NAN]);
    value("ReLU(x)", &[-2.0, 3.0, NAN], &[0.0, 3.0, NAN]);
}

#[test]
fn components() {
    let ties = "[x, 2 * x, x + 1, 0]"; // at x = 1: 1, 2, 2, 0
    value(&format!("Max({ties})"), &[1.0], &[2.0]);
    value(&format!("ArgMax({ties})"), &[1.0], &[1.0]);
    value(&format!("ArgMin({ties})"), &[1.0, -1.0], &[3.0, 1.0]);
    slope(&format!("Max({ties})"), &[1.0], 1.0, &[2.0]);
    // Derivatives of a component beside others whose derivatives are infinite.
    slope("Elem(Log([x, x - 1]), 0)", &[1.0], 1.0, &[1.0]);
    slope("([1 / x, x] * 2)[1]", &[0.0], 1.0, &[2.0]);
    slope("(SqDist(x, 0) * [Inv(x) * x, 1])[1]", &[0.0], 1.0, &[0.0]);
    slope("Extract(Exp(Sqrt([x, x - 1, x - 1, x])), 0, 2)[0]", &[1.0], 2.0, &[1f64.exp()]);
    slope("Elem(MatVecMult([Log(x), 0, 0, 1], [x, 1]), 1)", &[0.0], 1.0, &[0.0]);
    let g = genred("Elem(Log(x), 0)", &["x = Vi(2)"], &SUM).vjp("x").unwrap();
    let x = ArrayD::from_shape_vec(vec![1, 2], vec![2.0, 0.0]).unwrap();
    for got in everywhere(&g, &[&x, &rows(&[1.0])]) {
        assert!(same(&got, &[0.5, 0.0]), "{got:?}");
    }
    // NaN is passed over, an infinity is not: few components, and many in a loop.
    for dim in [4, 40] {
        for (f, infinity) in [("ArgMin", INF), ("ArgMax", -INF)] {
            let g = genred(&format!("{f}(x)"), &[&format!("x = Vi({dim})")], &SUM);
            let none = vec![NAN; dim];
            let mut two = none.clone();
            two[2..4].fill(infinity);
            let x = ArrayD::from_shape_vec(vec![2, dim], [none, two].concat()).unwrap();
            for got in everywhere(&g, &[&x]) {
                assert!(same(&got, &[0.0, 2.0]), "{f} of {dim}: {got:?}");
            }
        }
    }
    let hot = |x: f64, expected: [f64; 3]| value("OneHot(x, 3)", &[x], &expected);
    hot(0.5, [0.0, 1.0, 0.0]);
    hot(1.4, [0.0, 1.0, 0.0]);
    hot(-0.6, [0.0; 3]);
    hot(2.5, [0.0; 3]);
    hot(NAN, [0.0; 3]);
    let gather = genred("Gather(t, x)", &["x = Vi(1)", "t = Pm(3)"], &SUM);
    let table = array![10.0, 20.0, 30.0].into_dyn();
    let x = rows(&[0.0, 1.5, 2.4, 2.5, -0.6, NAN]);
    for got in everywhere(&gather, &[&x, &table]) {
        assert!(same(&got, &[10.0, 30.0, 30.0, NAN, NAN, NAN]), "{got:?}");
    }
    for wrong in ["Elem(x, 1)", "Elem(x, -1)", "Extract(x, 0, 2)"] {
        assert!(Genred::<Reference>::new(wrong, ["x = Vi(1)"], &SUM, Axis::J).is_err(), "{wrong}");
    }
}

#[test]
fn derivatives_at_kinks() {
    slope("ReLU(x)", &[-1.0, 0.0, 1.0], 1.0, &[0.0, 1.0, 1.0]);
    slope("Abs(x)", &[-2.0, 0.0, 3.0], 1.0, &[-1.0, 0.0, 1.0]);
    for f in ["Sign(x)", "Step(x)", "Floor(x)", "x < 0", "x <= 0", "x == 0", "x != 0"] {
        slope(&format!("{f} + 0 * x"), &[-1.0, 0.0, 1.0], 1.0, &[0.0; 3]);
    }
    slope("Clamp(x, -1, 2)", &[-1.5, -1.0, 0.0, 2.0, 2.5], 1.0, &[0.0, 1.0, 1.0, 1.0, 0.0]);
    slope("Clamp(x, 1, 1)", &[0.0, 1.0, 2.0], 1.0, &[0.0; 3]);
    for f in ["Sqrt(x)", "Rsqrt(x)", "Norm2([x, 0 * x])", "Normalize([x, 0 * x])[0]", "SinXDivX(x)"]
    {
        slope(f, &[0.0], 1.0, &[0.0]);
    }
    value("Rsqrt(x)", &[0.0, 4.0], &[0.0, 0.5]);
    value("Normalize([x, 0])", &[0.0], &[0.0, 0.0]);
    slope("Asin(x)", &[-1.0, 1.0], 1.0, &[0.0, 0.0]);
    slope("Acos(x)", &[-1.0, 1.0], 1.0, &[0.0, 0.0]);
    slope("Atan2(x, 0 * x)", &[0.0], 1.0, &[0.0]);
    value("Atan2(x, 0 * x)", &[0.0], &[0.0]);
    slope("XLogX(x)", &[0.0], 1.0, &[-INF]);
    slope("XLogX(x)", &[0.0], 0.0, &[0.0]);
    // More of powers and of branches is in derivatives.rs.
    slope("Powf(x, 0.3)", &[0.0], 1.0, &[0.0]);
    slope("Powf(x, -0.5)", &[0.0], 1.0, &[-INF]);
    slope("Powf(Abs(x), x + 1)", &[0.0], 1.0, &[0.0]);
    slope("Pow(x, -2)", &[0.0, 2.0], 1.0, &[-INF, -0.25]);
    slope("Pow(x * x, -1)", &[0.0], 1.0, &[NAN]);
}

#[test]
fn extreme_entries() {
    let y = [2.0, NAN, 1.0, INF, 1.0];
    reduced(&MIN, &y, &[1.0]);
    reduced(&MAX, &y, &[INF]);
    index(&ARG_MIN, &y, &[2]);
    index(&ARG_MAX, &y, &[3]);
    reduced((&K_MIN, 6), &y, &[1.0, 1.0, 2.0, INF, INF, INF]);
    index((&ARG_K_MIN, 6), &y, &[2, 4, 0, 3, -1, -1]);
    for nothing in [&[][..], &[NAN, NAN][..]] {
        reduced(&MIN, nothing, &[INF]);
        reduced(&MAX, nothing, &[-INF]);
        index(&ARG_MIN, nothing, &[-1]);
        index(&ARG_MAX, nothing, &[-1]);
        index((&ARG_K_MIN, 2), nothing, &[-1, -1]);
    }
    index(&ARG_MIN, &[INF, INF], &[0]);
    index(&ARG_MAX, &[-INF, -INF], &[0]);
    // The first winner gets the gradient; where there is none, nobody.
    let g = genred("y", &["y = Vj(1)"], &MIN).vjp("y").unwrap();
    for got in everywhere(&g, &[&rows(&y), &rows(&[5.0])]) {
        assert!(same(&got, &[0.0, 0.0, 5.0, 0.0, 0.0]), "{got:?}");
    }
    for got in everywhere(&g, &[&rows(&[NAN, NAN]), &rows(&[5.0])]) {
        assert!(same(&got, &[0.0, 0.0]), "{got:?}");
    }
    assert!(genred("y", &["y = Vj(1)"], &ARG_MIN).vjp("y").is_err());
}

#[test]
fn log_sum_exp() {
    let log2 = 2f64.ln();
    reduced(&LOG_SUM_EXP, &[1000.0, 1000.0], &[1000.0 + log2]);
    reduced(&LOG_SUM_EXP, &[-1000.0, -1000.0], &[-1000.0 + log2]);
    reduced(&LOG_SUM_EXP, &[], &[-INF]);
    reduced(&LOG_SUM_EXP, &[-INF, -INF], &[-INF]);
    reduced(&LOG_SUM_EXP, &[-INF, 0.0, 0.0], &[log2]);
    reduced(&LOG_SUM_EXP, &[0.0, INF], &[INF]);
    reduced(&LOG_SUM_EXP, &[0.0, NAN], &[NAN]);
    let g = genred("y", &["y = Vj(1)"], &LOG_SUM_EXP).vjp("y").unwrap();
    for got in everywhere(&g, &[&rows(&[-INF, -INF]), &rows(&[1.0])]) {
        assert!(same(&got, &[0.0, 0.0]), "{got:?}");
    }
    let weighted = |reduction: &'static ReductionDef, w: &[f64]| {
        let aliases = ["y = Vj(1)", "w = Vj(1)"];
        let g = Genred::<Reference>::weighted("y", "w", aliases, reduction, Axis::J).unwrap();
        everywhere(&g, &[&rows(&vec![0.0; w.len()]), &rows(w)])
    };
    for got in weighted(&LOG_SUM_EXP, &[1.0, -3.0]) {
        assert!(got[0].is_nan(), "{got:?}");
    }
    for got in weighted(&LOG_SUM_EXP, &[3.0, -1.0]) {
        assert!(same(&got, &[log2]), "{got:?}");
    }
    for got in weighted(&SUM_SOFT_MAX_WEIGHT, &[]) {
        assert_eq!(got, [0.0]);
    }
    // A weight of 0 does not mask.
    let aliases = ["y = Vj(1)", "w = Vj(1)"];
    let g = Genred::weighted("y", "w", aliases, &LOG_SUM_EXP, Axis::J).unwrap();
    for got in everywhere(&g, &[&rows(&[10.0, 0.0]), &rows(&[0.0, 2.0])]) {
        assert!((got[0] - log2).abs() < 1e-11, "{got:?}");
    }
    for got in everywhere(&g, &[&rows(&[1000.0, 0.0]), &rows(&[0.0, 2.0])]) {
        assert_eq!(got, [-INF]);
    }
    for got in everywhere(&g, &[&rows(&[-INF, 0.0]), &rows(&[1.0, 2.0])]) {
        assert!(same(&got, &[log2]), "{got:?}");
    }
}

#[test]
fn empty_ranges_and_rows_outside() {
    reduced(&SUM, &[], &[0.0]);
    // Row 1 has an empty range, row 2 has none.
    let pattern =
        Pattern { blocks: vec![[0, 1], [1, 2]], slices: vec![1, 1], reduced: vec![[0, 2]] };
    let ranges = Ranges::from_pattern(pattern).unwrap();
    let (x, y) = (rows(&[1.0, 1.0, 1.0]), rows(&[3.0, 4.0]));
    for (reduction, expected) in [
        (&SUM, [7.0, 0.0, 0.0]),
        (&MIN, [3.0, INF, INF]),
        (&MAX, [4.0, -INF, -INF]),
        (&LOG_SUM_EXP, [4.0 + (-1f64).exp().ln_1p(), -INF, -INF]),
    ] {
        let g = genred("x * y", &["x = Vi(1)", "y = Vj(1)"], reduction).ranges(ranges.clone());
        for got in everywhere(&g, &[&x, &y]) {
            assert!(same(&got, &expected), "{}: {got:?}", reduction.name);
        }
    }
    let overlap =
        Pattern { blocks: vec![[0, 2], [1, 3]], slices: vec![1, 2], reduced: vec![[0, 2], [0, 2]] };
    assert!(matches!(Ranges::from_pattern(overlap), Err(InputError::Ranges(_))));
}

#[test]
fn shapes_and_batches() {
    let out = everywhere(&genred("y", &["y = Vj(1)"], &SUM), &[&rows(&[1.0, 2.0])]);
    assert!(out.iter().all(|o| o == &[3.0]));
    let out = everywhere(&genred("x", &["x = Vi(1)"], &SUM), &[&rows(&[1.0, 2.0])]);
    assert!(out.iter().all(|o| o == &[1.0, 2.0]));
    let g = genred("x * y * p", &["x = Vi(1)", "y = Vj(1)", "p = Pm(1)"], &SUM);
    let x = ArrayD::from_shape_vec(vec![2, 1, 1, 1], vec![1.0, 10.0]).unwrap();
    let y = ArrayD::from_shape_vec(vec![3, 2, 1], vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0]).unwrap();
    let p = array![0.5].into_dyn();
    for d in devices() {
        let out = g.clone().at(d).call(&[&x, &y, &p][..]).unwrap();
        assert_eq!(out.shape(), [2, 3, 1, 1]);
        assert!(same(out.as_slice().unwrap(), &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]));
    }
    let error = g.call(&[&x, &y, &rows(&[1.0, 2.0])][..]).unwrap_err().to_string();
    assert!(error.contains("`p`"), "{error}");
}

#[test]
fn limits() {
    assert_eq!((MAX_DIM, MAX_NODES, MAX_VALUES), (1 << 20, 1 << 18, 1 << 21));
    let make = |formula: &str, alias: &str| {
        Genred::<Reference>::new(formula, [alias], &SUM, Axis::J).map(|_| ())
    };
    assert!(make("x", &format!("x = Vi({MAX_DIM})")).is_ok());
    assert!(make("x", &format!("x = Vi({})", MAX_DIM + 1)).is_err());
    assert!(make("TensorProd(x, x)", "x = Vi(1025)").is_err());
    assert!(make(&format!("{}x{}", "(".repeat(100), ")".repeat(100)), "x = Vi(1)").is_ok());
    assert!(make(&format!("{}x{}", "(".repeat(200), ")".repeat(200)), "x = Vi(1)").is_err());
    assert!(make("SoftDTW_SqDist(x, x, 1)", "x = Vi(32)").is_ok());
    assert!(make("SoftDTW_SqDist(x, x, 1)", "x = Vi(33)").is_err());
    // (Zero strides: no memory.)
    let far = ArrayD::<f64>::zeros(vec![1, 1]);
    let far = far.broadcast(vec![1 << 32, 1]).unwrap();
    let g = genred("y", &["y = Vj(1)"], &SUM);
    assert!(matches!(g.run(&[f64::erase(far.view())]), Err(Error::Input(_))));
}

#[test]
fn every_section_is_tested() {
    let (text, code) = (include_str!("../../../docs/semantics.md"), include_str!("semantics.rs"));
    for section in text.lines().filter_map(|l| l.strip_prefix("## ")) {
        let name = section.to_lowercase().replace(", ", "_").replace([' ', '-'], "_");
        assert!(code.contains(&format!("#[test]\nfn {name}()")), "{section}: no test {name}");
    }
}

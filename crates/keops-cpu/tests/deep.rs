//! Formulas that nest deeper than any stack: they give a result, or an error, on a small one.

use keops_core::genred::{AsArg, Genred, Place};
use keops_core::lazy::LazyTensor;
use keops_core::parse::{MAX_DEPTH, parse_formula, parse_reduction};
use keops_core::reduce::{LOG_SUM_EXP, SUM};
use keops_core::spec::{Axis, Device};
use keops_cpu::Cpu;
use ndarray::{Array1, Array2, ArrayD};
use std::sync::LazyLock;

/// The stack of a thread that runs all this. (Frames of code that is not optimised are several
/// times as large.)
const STACK: usize = if cfg!(debug_assertions) { 512 << 10 } else { 64 << 10 };

static CPU: LazyLock<Device> = LazyLock::new(|| Device::new(Cpu::new()));

#[derive(Clone, Copy, Default, Debug)]
struct OnCpu;
impl Place for OnCpu {
    fn device(&self, _: u64) -> Device {
        CPU.clone()
    }
}

/// Runs on a small stack.
fn small<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(f).expect("a thread");
    thread.join().expect("no panic")
}

/// `t0 = …; t1 = …; …` so often, where `{}` stands for the value before.
fn chain(first: &str, step: &str, times: usize) -> String {
    let mut text = format!("t0 = {first}; ");
    for k in 1..=times {
        text += &format!("t{k} = {}; ", step.replace("{}", &format!("t{}", k - 1)));
    }
    text + &format!("t{times}")
}

const ALIASES: [&str; 6] =
    ["x = Vi(20)", "y = Vj(3)", "b = Vj(1)", "p = Pm(49)", "v = Vj(7)", "w = Vi(7)"];

fn arguments() -> Vec<ArrayD<f64>> {
    let rows = |n: usize, d: usize| {
        Array2::from_shape_fn((n, d), |(i, c)| ((i * d + c) as f64 * 0.7).sin()).into_dyn()
    };
    // A rotation of the components: powers of it stay finite.
    let p = Array1::from_shape_fn(49, |k| ((k / 7 + 1) % 7 == k % 7) as u8 as f64);
    vec![rows(2, 20), rows(3, 3), rows(3, 1), p.into_dyn(), rows(3, 7), rows(2, 7)]
}

/// Everything that is done with a formula, derivatives where `twice` says so; the values.
fn all_of(text: String, wrt: &'static str, twice: bool) -> ArrayD<f64> {
    small(move || {
        let g: Genred<OnCpu> =
            Genred::new(&text, ALIASES, &SUM, Axis::J).unwrap_or_else(|e| panic!("{e}"));
        let mut args = arguments();
        let run = |g: &Genred<OnCpu>, args: &[ArrayD<f64>]| {
            let views: Vec<_> = args.iter().map(|a| a.as_arg()).collect();
            g.run(&views).map(|all| all[0].to_f64())
        };
        // Derivatives may have too many operations.
        let derived = |g: &Genred<OnCpu>, args: &[ArrayD<f64>]| match run(g, args) {
            Err(e) if !e.to_string().contains("limit") => panic!("{e}"),
            other => other.ok(),
        };
        let value = run(&g, &args).unwrap_or_else(|e| panic!("{e}"));
        let f = parse_formula(&text, None, &ALIASES).expect("parsed before");
        let written = f.to_text();
        parse_formula(&written.formula, None, &ALIASES).unwrap_or_else(|e| panic!("{e}"));
        assert!(!keops_core::print::nodes(&f.graph, &[f.root]).is_empty());
        assert!(!format!("{}", g.computation().graph()).is_empty());
        let along = g.jvp(wrt).expect("a derivative");
        let at = ALIASES.iter().position(|a| a.starts_with(wrt)).expect("a variable");
        let mut with = args.clone();
        with.push(args[at].clone());
        derived(&along, &with);
        let gradient = g.vjp(wrt).expect("a derivative");
        args.push(value.clone());
        if let Some(first) = derived(&gradient, &args).filter(|_| twice) {
            args.push(first);
            derived(&gradient.vjp(wrt).expect("a derivative"), &args);
        }
        value
    })
}

#[test]
fn brackets_nest_as_deep_as_documented() {
    let nested = |open: &str, inner: &str, close: &str, n: usize| {
        format!("{}{inner}{}", open.repeat(n), close.repeat(n))
    };
    for (open, inner, close, most) in [
        ("(", "x", ")", MAX_DEPTH - 1),
        ("[", "x", "]", MAX_DEPTH - 1),
        ("-", "x", "", MAX_DEPTH - 1),
        ("Sin(", "x", ")", MAX_DEPTH - 1),
        ("x[0:2] * (1 + ", "b", ")", MAX_DEPTH / 3),
        ("b ** ", "b", "", MAX_DEPTH - 1),
        ("Concat(", "x", ", b)", MAX_DEPTH - 1),
        ("x[", "0", "]", 1),
        ("Grad(", "x", ", x, x)", 40),
    ] {
        let parse = |n: usize| {
            let text = nested(open, inner, close, n);
            small(move || parse_formula(&text, None, &ALIASES).map(|f| f.to_string()))
        };
        parse(most).unwrap_or_else(|e| panic!("{open}: {e}"));
        for n in [MAX_DEPTH + 1, 100_000] {
            let e = parse(n).expect_err(open);
            assert!(e.message.contains("deep") || open == "x[", "{open}: {e}");
        }
    }
    let open = "Grad_WithSavedForward(";
    let reduction = |n: usize| {
        let inner = "Sum_Reduction(b * b, 1)";
        let text = nested(open, inner, ", b, b, b)", n);
        small(move || parse_reduction(&text, &["b = Vj(1)"]).map(|_| ()))
    };
    reduction(5).expect("a few derivatives");
    let e = reduction(100_000).expect_err("too deep");
    assert!(e.to_string().contains("deep"), "{e}");
}

#[test]
fn chains_of_operations() {
    let ones = |v: &ArrayD<f64>, expected: f64| {
        assert!(v.iter().all(|a| (a - expected).abs() < 1e-9), "{v:?} is not {expected}");
    };
    // 600 times the tanh of a vector, and of its sum.
    all_of(chain("x", "Sin({})", 2_000), "x", true);
    all_of(chain("b", "Tanh({}) * b + x[3]", 2_000), "b", true);
    // Rotations: seven of them are none; 3 rows are summed.
    let rotated = all_of(chain("w", "MatVecMult(p, {})", 1_400), "w", true);
    let w = &arguments()[5];
    assert!(rotated.iter().zip(w).all(|(a, b)| (a - 3.0 * b).abs() < 1e-12), "{rotated:?}");
    // Halves of halves of powers of two.
    ones(&all_of(chain("SumT(b * 0 + 1, 9)", "({} + {}) * 0.5", 3_000), "b", true), 3.0);
    ones(&all_of(chain("SumT(b * 0 + 1, 9)", "[{}[1:9], {}[0]]", 1_000), "b", true), 3.0);
    ones(
        &all_of(chain("SumT(b * 0 + 1, 9)", "Put({}[0:4], 1, 2, 9) * 0 + 1", 500), "b", true),
        3.0,
    );
    ones(&all_of(chain("SumT(b * 0 + 1, 9)", "{} + Max({}) - Min({})", 1_000), "b", false), 3.0);
    ones(&all_of(chain("SumT(b * 0 + 1, 8)", "TensorProd({}, {})[0:64:9]", 300), "b", false), 3.0);
    ones(&all_of(chain("p * 0 + 1", "Gather({}, Iota(49))", 300), "p", false), 3.0);
    ones(&all_of(chain("SumT(b * 0 + 1, 7)", "{} * Sum({}) / 7", 1_000), "b", false), 3.0);
}

#[test]
fn concatenations_of_concatenations() {
    // As written by who appends in a loop: 4,001 components, the first one deepest.
    let total: f64 = arguments()[2].sum();
    for (step, first) in [("[{}, b]", "b"), ("[b, {}]", "b"), ("Concat({}, b, b)", "b")] {
        let text = chain(first, step, 4_000);
        let (definitions, last) = text.rsplit_once("; ").expect("definitions");
        for (function, expected) in [("Sum", 4_001.0 * total), ("Max", total)] {
            let text = format!("{definitions}; {function}({last})");
            let got = small(move || {
                let g: Genred<OnCpu> =
                    Genred::new(&text, ALIASES, &SUM, Axis::J).expect("a formula");
                let args = arguments();
                let views: Vec<_> = args.iter().map(|a| a.as_arg()).collect();
                g.run(&views).unwrap_or_else(|e| panic!("{e}"))[0].to_f64()
            });
            let twice =
                if step.starts_with('C') && function == "Sum" { 4_000.0 * total } else { 0.0 };
            assert!((got[[0, 0]] - expected - twice).abs() < 1e-8, "{step}: {got}, not {expected}");
        }
    }
}

#[test]
fn splines_of_high_order() {
    small(|| {
        let text = "BSpline(SumT(b, 700), b, 600)";
        let g: Genred<OnCpu> = Genred::new(text, ["b = Vj(1)"], &SUM, Axis::J).expect("a formula");
        let out = g.call((&ndarray::array![[0.5], [0.25]],)).expect("a value");
        // All knots coincide: every basis function is 0.
        assert!(out.iter().all(|v| *v == 0.0), "{out:?}");
    });
}

#[test]
fn pivoted_chains() {
    small(|| {
        let text = chain("b", "Sin({})", 3_000);
        let g: Genred<OnCpu> = Genred::new(&text, ["b = Vj(1)"], &LOG_SUM_EXP, Axis::J).expect("");
        let b = ndarray::array![[0.0], [0.0]];
        let out = g.call((&b,)).expect("a value");
        assert!((out[[0, 0]] - 2f64.ln()).abs() < 1e-12);
        let gradient = g.vjp("b").expect("a derivative");
        let slope = gradient.call((&b, &ndarray::array![[1.0]])).expect("a value");
        assert!(slope.iter().all(|v| (v - 0.5).abs() < 1e-12), "{slope:?}");
    });
}

#[test]
fn lazy_chains() {
    small(|| {
        let x = LazyTensor::<f64, OnCpu>::vj(Array2::from_elem((3, 1), 0.5));
        let mut l = x.clone();
        for _ in 0..100_000 {
            l = l.sin();
        }
        let copy = l.clone();
        drop(l);
        // Of more instructions than code may have.
        let sum = copy.sum_reduction(Axis::J).and_then(|r| r.call(()));
        let e = sum.expect_err("a limit").to_string();
        assert!(e.contains("limit"), "{e}");
        // 100,000 operations.
        let mut l = x.clone();
        for _ in 0..50_000 {
            l = (l + &x) * 0.5;
        }
        let sum = l.sum_reduction(Axis::J).and_then(|r| r.call(())).expect("a value");
        assert!((sum[[0, 0]] - 1.5).abs() < 1e-12);
        // Shared operands: a tree of 2^200 leaves.
        let mut l = x.clone() * 0.0;
        for _ in 0..200 {
            l = &l + &l;
        }
        let sum = l.sum_reduction(Axis::J).and_then(|r| r.call(())).expect("a value");
        assert_eq!(sum[[0, 0]], 0.0);
    });
}

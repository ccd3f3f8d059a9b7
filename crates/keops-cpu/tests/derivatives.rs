//! Derivatives where rules are easily wrong: variables that a formula does not use, definitions of
//! one name, branches that are not taken, powers at 0, offsets that round. On the interpreter and
//! on every level of the CPU backend, in both modes, to second and third order. Expected values
//! are closed forms, or central differences.

use keops_core::data::Element;
use keops_core::genred::{Genred, Place, Reduce, Reference};
use keops_core::graph::{Builder, Category, Ex, Var};
use keops_core::interp::Interpreter;
use keops_core::ops::{self, Code, OpDef, Value};
use keops_core::outer::{Computation, Formula};
use keops_core::prim::{Prim, ScalarFn};
use keops_core::reduce::*;
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use ndarray::{ArrayD, IxDyn};

fn devices() -> Vec<Device> {
    let levels = Level::available().into_iter().map(|l| Device::new(Cpu::with_level(l).unwrap()));
    std::iter::once(Device::new(Interpreter::default())).chain(levels).collect()
}
fn rows<T: Element>(v: &[f64]) -> ArrayD<T> {
    ArrayD::from_shape_vec(vec![v.len(), 1], v.iter().map(|&v| T::of_f64(v)).collect()).unwrap()
}
fn genred(formula: &str, aliases: &[&str], reduction: impl Into<Reduce>) -> Genred<Reference> {
    Genred::new(formula, aliases, reduction, Axis::J).unwrap_or_else(|e| panic!("{e}"))
}
fn call<T: Element>(g: &Genred<impl Place>, args: &[ArrayD<T>]) -> ArrayD<T> {
    g.call(&args.iter().collect::<Vec<_>>()[..]).unwrap_or_else(|e| panic!("{e}"))
}
#[track_caller]
fn near(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    let close = |g: f64, e: f64| g == e || (g - e).abs() <= tolerance * (1.0 + e.abs());
    let all = got.len() == expected.len() && got.iter().zip(expected).all(|(g, e)| close(*g, *e));
    assert!(all, "{what}: {got:?}, expected {expected:?}");
}

/// `vjp` (or `jvp`) in one variable.
fn derived<P: Place>(g: &Genred<P>, mode: char, of: &str) -> Genred<P> {
    if mode == 'v' { g.vjp(of) } else { g.jvp(of) }.unwrap_or_else(|e| panic!("{e}"))
}

const M: usize = 3;
const N: usize = 4;

/// Values for each argument of a function, by its name; `shift` moves one along a tangent.
fn arguments(c: &Computation, shift: Option<(&str, &ArrayD<f64>, f64)>) -> Vec<ArrayD<f64>> {
    let make = |i: &keops_core::outer::InputDef| {
        let lead = match i.category {
            Category::I => vec![M],
            Category::J => vec![N],
            Category::Param => vec![],
        };
        let seed = i.name.bytes().fold(7u32, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let shape = [&lead[..], &i.row].concat();
        let mut next = f64::from(seed % 1000);
        let mut array = ArrayD::from_shape_simple_fn(IxDyn(&shape), || {
            next += 1.7;
            (next * next).sin()
        });
        if let Some((name, along, h)) = shift.filter(|s| s.0 == i.name) {
            assert!(!name.is_empty());
            array = array + along * h;
        }
        array
    };
    c.inputs().iter().map(make).collect()
}

/// One more derivative of `g`, against central differences of `g`.
fn against_differences(label: &str, g: &Genred<impl Place>, mode: char, of: &str) {
    let d = derived(g, mode, of);
    let args = arguments(d.computation(), None);
    let got = call(&d, &args);
    let at = g.arguments().position(|n| n == of).unwrap();
    // The tangent is the last argument of a jvp.
    let t =
        if mode == 'j' { args[args.len() - 1].clone() } else { args[at].mapv(|v| (3.0 * v).cos()) };
    let h = 1e-5;
    let moved = |h: f64| call(g, &arguments(g.computation(), Some((of, &t, h))));
    let difference = (moved(h) - moved(-h)) / (2.0 * h);
    match mode {
        'j' => near(label, got.as_slice().unwrap(), difference.as_slice().unwrap(), 1e-7),
        _ => {
            let e = &args[args.len() - 1];
            near(label, &[(&got * &t).sum()], &[(e * &difference).sum()], 1e-7);
        }
    }
}

const DECLARED: [&str; 8] = [
    "x = Vi(1)",
    "y = Vj(1)",
    "s = Vi(1)",
    "b = Vj(1)",
    "p = Pm(1)",
    "u = Vi(1)",
    "v = Vj(1)",
    "q = Pm(1)",
];

/// Derivatives do not depend on the order in which variables are declared, nor on variables that
/// are declared and not used (by the formula, by the weight, or by both).
#[test]
fn any_order_of_declaration_and_unused_variables() {
    let f = "-SqDist(x, y) * p";
    let cases: [(&str, Option<&str>, Reduce); 11] = [
        (f, None, (&SUM).into()),
        (f, None, (&LOG_SUM_EXP).into()),
        ("y", None, (&LOG_SUM_EXP).into()),
        (f, Some("Exp(s * b)"), (&LOG_SUM_EXP).into()),
        ("y", Some("1 + y * y"), (&LOG_SUM_EXP).into()),
        (f, Some("s * b"), (&SUM_SOFT_MAX_WEIGHT).into()),
        ("y", Some("y * s"), (&SUM_SOFT_MAX_WEIGHT).into()),
        ("b", Some("[x, y * y]"), (&SUM_SOFT_MAX_WEIGHT).into()),
        (f, None, (&MIN).into()),
        (f, None, (&K_MIN, 2).into()),
        ("y * y", None, (&MAX).into()),
    ];
    let names = ["x", "y", "s", "b", "p", "u", "v", "q"];
    let devices = devices();
    for (k, (f, w, reduction)) in cases.into_iter().enumerate() {
        for turn in 0..4 {
            let mut declared = DECLARED;
            declared.rotate_left(2 * turn + k % 2);
            if turn % 2 == 1 {
                declared.reverse();
            }
            let g = match w {
                None => genred(f, &declared, reduction),
                Some(w) => Genred::weighted(f, w, declared, reduction, Axis::J).unwrap(),
            };
            for first in names {
                for (which, mode) in ['v', 'j'].into_iter().enumerate() {
                    let label = format!("{reduction:?} {f} {w:?} {declared:?} {mode}{first}");
                    let device = devices[(turn + which) % devices.len()].clone();
                    let g = g.clone().at(device);
                    against_differences(&label, &g, mode, first);
                    let d = derived(&g, mode, first);
                    for (n, second) in names.into_iter().enumerate() {
                        let mode = if (n + turn) % 2 == 0 { 'v' } else { 'j' };
                        let label = format!("{label} {mode}{second}");
                        against_differences(&label, &d, mode, second);
                        if (n + which + turn) % 5 == 0 {
                            let d = derived(&d, mode, second);
                            for third in ["x", "y", "s"] {
                                against_differences(&format!("{label} v{third}"), &d, 'v', third);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The softmax mean of b times s is linear in s: its second derivative is 0. And log-sum-exp of y
/// does not depend on x, also where the result is given.
#[test]
fn softmax_mean_is_linear_in_its_weight() {
    let aliases = ["x = Vi(1)", "y = Vj(1)", "s = Vi(1)", "b = Vj(1)"];
    let args = [
        &[0.3, 0.7][..],
        &[1.0, 0.2, -0.4],
        &[2.0, 3.0],
        &[1.0, 5.0, 2.0],
        &[1.0, 1.0],
        &[1.0, 1.0],
    ];
    let args = args.map(rows::<f64>);
    for device in devices() {
        let g = Genred::weighted("-SqDist(x, y)", "s * b", aliases, &SUM_SOFT_MAX_WEIGHT, Axis::J);
        let g = Genred::<Reference>::at(g.unwrap(), device.clone());
        let second = g.vjp("s").unwrap().vjp("s").unwrap();
        assert_eq!(call(&second, &args), rows(&[0.0, 0.0]));
        let mixed = call(&g.vjp("x").unwrap().vjp("s").unwrap(), &args);
        let closed = |x: f64| {
            // d/dx of E[b] under exp(-(x - y)²) is Cov(b, -2 (x - y)).
            let (y, b) = ([1.0, 0.2, -0.4], [1.0, 5.0, 2.0]);
            let k = y.map(|y: f64| (-(x - y) * (x - y)).exp());
            let total: f64 = k.iter().sum();
            let mean = |f: &dyn Fn(usize) -> f64| (0..3).map(|j| k[j] * f(j)).sum::<f64>() / total;
            let d = |j: usize| -2.0 * (x - y[j]);
            mean(&|j| b[j] * d(j)) - mean(&|j| b[j]) * mean(&d)
        };
        near("mixed", mixed.as_slice().unwrap(), &[closed(0.3), closed(0.7)], 1e-12);
        let text = "Grad_WithSavedForward(LogSumExp_Reduction(y, 0), x, e, saved)";
        let aliases = ["y = Vj(1)", "x = Vi(1)", "e = Vi(1)", "saved = Vi(1)"];
        let given = keops_core::parse::parse_reduction(text, &aliases).unwrap();
        let given = Genred::<Reference>::from(given).at(device);
        let args = [&[1.0, 0.2, -0.4][..], &[0.3, 0.7], &[1.0, 1.0], &[1.7, 1.7]].map(rows::<f64>);
        assert_eq!(call(&given, &args), rows(&[0.0, 0.0]));
    }
}

macro_rules! norm {
    ($id:ident, |$f:ident| $lift:expr) => {
        static $id: ReductionDef = ReductionDef {
            name: "Norm",
            spellings: &[],
            doc: "a norm",
            weight: WeightRule::Never,
            kind: Family::Accumulate(Accumulate {
                pivot: None,
                lift: |$f, _, _| $lift,
                dim: |d| d,
                finalise: |s, _| s,
                linearise: |$f, _, _, _| $lift,
                saved: None,
            }),
        };
    };
}
norm!(SQUARES, |f| f * f);
norm!(ABSOLUTE, |f| f.un(&ops::ABS));

macro_rules! scaled {
    ($op:ident, $function:ident, $by:literal) => {
        static $function: ScalarFn =
            ScalarFn { name: "scaled", arity: 1, f32: |a| a[0] * $by, f64: |a| a[0] * $by };
        static $op: OpDef = OpDef {
            name: "Scaled",
            doc: "a number of times a",
            arity: 1,
            value: Value { f32: |a| a[0] * $by, f64: |a| a[0] * $by },
            derivative: |_, _, t| vec![t * $by],
            simplify: |_, _| None,
            cuda: "({0})",
            code: Code::Expand(|b, a| b.prim(Prim::Call(&$function), a)),
            domain: (-1.0, 1.0),
            kinks: &[],
            ulps: 1.0,
        };
    };
}
scaled!(TWICE, TWO_TIMES, 2.0);
scaled!(THRICE, THREE_TIMES, 3.0);

/// A definition is itself, whatever its name: in formulas, in caches, in compiled code.
#[test]
fn definitions_of_one_name() {
    assert!(SQUARES != ABSOLUTE && TWICE != THRICE && TWO_TIMES != THREE_TIMES);
    let y = [rows::<f64>(&[3.0, -4.0])];
    let with_e = [&y[..], &[rows(&[1.0])]].concat();
    let var = Var { index: 0, dim: 1, category: Category::J };
    let of = |root: &dyn for<'g> Fn(Ex<'g>) -> Ex<'g>| {
        let b = Builder::default();
        let root = root(b.var(var)).id;
        let (graph, names) = (b.into_graph().into(), vec!["y".into()]);
        let f = Formula { graph, root, weight: None, vars: vec![var], names };
        Genred::<Reference>::from(Computation::reduction(f, &SUM, 1, Axis::J).unwrap())
    };
    for device in devices() {
        for (norm, value, slopes) in [(&SQUARES, 25.0, [6.0, -8.0]), (&ABSOLUTE, 7.0, [1.0, -1.0])]
        {
            let g = genred("y", &["y = Vj(1)"], norm).at(device.clone());
            assert_eq!(call(&g, &y), rows(&[value]));
            assert_eq!(call(&g.vjp("y").unwrap(), &with_e), rows(&slopes));
        }
        let each: [(f64, Genred); 3] = [
            (2.0, of(&|x| x.un(&TWICE))),
            (3.0, of(&|x| x.un(&THRICE))),
            (5.0, of(&|x| x.un(&TWICE) + x.un(&THRICE))),
        ];
        for (by, g) in each {
            let g = g.at(device.clone());
            assert_eq!(call(&g, &y), rows(&[-by]));
            assert_eq!(call(&g.vjp("y").unwrap(), &with_e), rows(&[by, by]));
        }
    }
}

/// `[f, f', f'']` of a formula of x, by all ways to differentiate.
#[track_caller]
fn slopes(formula: &str, x: f64, expected: [f64; 3]) {
    let one = rows::<f64>(&[1.0]);
    for device in devices() {
        let g = genred(formula, &["x = Vi(1)"], &SUM).at(device.clone());
        let name = device.backend().name().to_string();
        let at = |g: &Genred<Device>| {
            let mut args = vec![one.clone(); g.arguments().count()];
            args[0] = rows(&[x]);
            call(g, &args)[[0, 0]]
        };
        near(&format!("{formula} at {x}, {name}"), &[at(&g)], &[expected[0]], 1e-12);
        for first in ['v', 'j'] {
            let d = derived(&g, first, "x");
            near(&format!("{formula} {first} at {x}, {name}"), &[at(&d)], &[expected[1]], 1e-12);
            for second in ['v', 'j'] {
                let label = format!("{formula} {first}{second} at {x}, {name}");
                near(&label, &[at(&derived(&d, second, "x"))], &[expected[2]], 1e-12);
            }
        }
    }
}

/// A derivative is linear in its first cotangent or tangent also where that is 0.
#[test]
fn derivatives_in_cotangents_that_are_zero() {
    // d/dt of t (log x + 1) at x = 2, t = 0; 0 where x is 0 as well.
    for (x, expected) in [(2.0, 2f64.ln() + 1.0), (0.5, 1.0 - 2f64.ln()), (0.0, 0.0)] {
        let (x, zero, one) = (rows::<f64>(&[x]), rows(&[0.0]), rows(&[1.0]));
        for device in devices() {
            let g = genred("XLogX(x)", &["x = Vi(1)"], &SUM).at(device);
            for first in ['v', 'j'] {
                let once = derived(&g, first, "x");
                let t = once.arguments().last().unwrap().to_string();
                for second in ['v', 'j'] {
                    let twice = derived(&once, second, &t);
                    let got = call(&twice, &[x.clone(), zero.clone(), one.clone()]);
                    near(&format!("{first}{second} at {x}"), &[got[[0, 0]]], &[expected], 1e-12);
                }
            }
        }
    }
}

/// The derivative is that of the branch that is taken, whatever that of the other one is.
#[test]
fn branches_that_are_not_taken() {
    let (ln2, e1) = (2f64.ln(), (-1f64).exp());
    let none = [0.0; 3];
    for (guarded, expected) in [
        ("1 / x", [0.5, -0.25, 0.25]),
        ("Inv(x)", [0.5, -0.25, 0.25]),
        ("Log(x)", [ln2, 0.5, -0.25]),
        ("x * Log(x)", [2.0 * ln2, ln2 + 1.0, 0.5]),
        ("XLogX(x)", [2.0 * ln2, ln2 + 1.0, 0.5]),
        ("Sqrt(x)", [2f64.sqrt(), 0.5 / 2f64.sqrt(), -0.25 / 8f64.sqrt()]),
        ("Rsqrt(x)", [0.5f64.sqrt(), -0.5 / 8f64.sqrt(), 0.75 / 32f64.sqrt()]),
        ("Powf(x, 0.3)", [2f64.powf(0.3), 0.3 * 2f64.powf(-0.7), -0.21 * 2f64.powf(-1.7)]),
        ("Powf(x, -1.5)", [2f64.powf(-1.5), -1.5 * 2f64.powf(-2.5), 3.75 * 2f64.powf(-3.5)]),
        ("Pow(x, -2)", [0.25, -0.25, 0.375]),
        ("Exp(-1 / x)", [(-0.5f64).exp(), 0.25 * (-0.5f64).exp(), -0.1875 * (-0.5f64).exp()]),
        (
            "Sin(Log(x)) + Square(Log(x))",
            [
                ln2.sin() + ln2 * ln2,
                (ln2.cos() + 2.0 * ln2) / 2.0,
                (-ln2.sin() + 2.0 - ln2.cos() - 2.0 * ln2) / 4.0,
            ],
        ),
        ("Sum(Log([x, x + 0, 2]))", [3.0 * ln2, 1.0, -0.5]),
        ("SqNorm2(1 / [x, 2 * x])", [0.3125, -0.3125, 0.46875]),
    ] {
        for (f, at) in [
            (format!("IfElse(x - 0.5, {guarded}, 0)"), none),
            (format!("IfElse(0.5 - x, 3, {guarded})"), [3.0, 0.0, 0.0]),
        ] {
            slopes(&f, 2.0, expected);
            slopes(&f, 0.0, at);
            slopes(&f, -1.0, at);
            // Guarded again, and within other functions.
            slopes(&format!("IfElse(x - 0.25, {f}, 3 * x)"), 0.0, [0.0, 3.0, 0.0]);
            slopes(&format!("x + 2 * ({f})"), 0.0, [2.0 * at[0], 1.0, 0.0]);
            slopes(&format!("Exp({f} - {})", at[0]), 0.0, [1.0, 0.0, 0.0]);
        }
    }
    slopes("IfElse(1 - Abs(x), Acos(x), 0)", 4.0, none);
    slopes("IfElse(1 - Abs(x), Acos(x), 0)", 0.0, [std::f64::consts::FRAC_PI_2, -1.0, 0.0]);
    slopes("IfElse(-x, Exp(1000 * x), 0)", 4.0, none);
    slopes("IfElse(-x, Exp(1000 * x), 0)", -1e-3, [e1, 1e3 * e1, 1e6 * e1]);
    slopes("IfElse(Log(x), 3, x)", -1.0, [-1.0, 1.0, 0.0]); // the condition is NaN
    // What both branches share, and what two selections share.
    slopes("IfElse(x - 1, 2 * Log(x), 3 * Log(x))", 0.5, [-3.0 * ln2, 6.0, -12.0]);
    slopes("IfElse(x - 1, 2 * Log(x), 3 * Log(x))", 2.0, [2.0 * ln2, 1.0, -0.5]);
    slopes("IfElse(x - 1, Log(x), 2) + IfElse(x - 2, Sin(Log(x)), 5)", 0.0, [7.0, 0.0, 0.0]);
    slopes(
        "IfElse(x - 1, Log(x), 2) + IfElse(x - 3, Sin(Log(x)), 5)",
        2.0,
        [ln2 + 5.0, 0.5, -0.25],
    );
    // Other selections.
    slopes("ReLU(Log(x))", 0.0, none);
    slopes("ReLU(Log(x))", 2.0, [ln2, 0.5, -0.25]);
    slopes("Clamp(Log(x), -1, 1)", 0.0, [-1.0, 0.0, 0.0]);
    slopes("Clamp(Log(x), -1, 1)", 2.0, [ln2, 0.5, -0.25]);
    slopes("Clamp(1 / x, -1, 1)", 0.0, [1.0, 0.0, 0.0]);
    slopes("Max([Log(x), -1])", 0.0, [-1.0, 0.0, 0.0]);
    slopes("Max(Log([x, x + 2]))", 0.0, [ln2, 0.5, -0.25]);
    slopes("Min([1 / x, 3])", 0.0, [3.0, 0.0, 0.0]);
    // Component by component.
    slopes("Sum(IfElse([x - 1, x + 1], Log([x, x + 2]), 0))", 0.0, [ln2, 0.5, -0.25]);
    slopes("Sum(IfElse([x - 1, x - 2], Log(x) * [1, 2], 4))", 0.0, [8.0, 0.0, 0.0]);
    slopes("IfElse([x - 1, x + 1], Log([x, x + 2]), 0)[1]", 0.0, [ln2, 0.5, -0.25]);
    slopes("IfElse([x - 1, x + 1], [Log(x), Log(x + 2)], 0)[1]", 0.0, [ln2, 0.5, -0.25]);
}

/// As parts of reductions, with weights: of x - y over the y that are near, of the past.
#[test]
fn guards_within_reductions() {
    let aliases = ["x = Vi(1)", "y = Vj(1)"];
    let guarded = "IfElse(x - y - 0.5, Log(x - y), -2)"; // 0 and -2 at x = 1, y = 0, 1
    let args = [&[1.0][..], &[0.0, 1.0], &[1.0], &[1.0]].map(rows::<f64>);
    let weighted = |f: &str, w: &str, r: &'static ReductionDef| -> Genred<Reference> {
        Genred::weighted(f, w, aliases, r, Axis::J).unwrap()
    };
    let p = 1.0 / (1.0 + (-2f64).exp());
    for device in devices() {
        // log(e^f + e^-2), f = log(x): p f', p f'' + p (1 - p) f'².
        for (g, first, second) in [
            (genred(guarded, &aliases, &SUM), 1.0, -1.0),
            (genred(guarded, &aliases, &LOG_SUM_EXP), p, p * (1.0 - p) - p),
            (weighted(guarded, "1 + 0 * y", &LOG_SUM_EXP), p, p * (1.0 - p) - p),
            // log of w / w, w = log(x - y) + 2, or 2 + 2 where that is not taken.
            (
                weighted("0 * y", &format!("{guarded} + 4"), &LOG_SUM_EXP),
                1.0 / 6.0,
                -1.0 / 6.0 - 1.0 / 36.0,
            ),
            (weighted("0 * y", guarded, &SUM_SOFT_MAX_WEIGHT), 0.5, -0.5),
            (genred(guarded, &aliases, &MAX), 1.0, -1.0),
        ] {
            let g = g.at(device.clone());
            for mode in ['v', 'j'] {
                let d = derived(&g, mode, "x");
                let label =
                    format!("{mode} {} {}", g.computation().graph(), device.backend().name());
                near(&label, &[call(&d, &args[..3])[[0, 0]]], &[first], 1e-12);
                for more in ['v', 'j'] {
                    let d = derived(&d, more, "x");
                    near(&format!("{more}{label}"), &[call(&d, &args)[[0, 0]]], &[second], 1e-12);
                }
            }
            // As the formula is one of x - y, and the second row is not differentiated.
            let gy = call(&derived(&g, 'v', "y"), &args[..3]);
            near("in y", gy.as_slice().unwrap(), &[-first, 0.0], 1e-12);
        }
        // A Hawkes process: the future does not count, and exp(2000) is infinite.
        let hawkes = genred("IfElse(x - y, Exp(-1000 * (x - y)), 0)", &aliases, &SUM).at(device);
        let d = hawkes.vjp("x").unwrap();
        let args = [&[1.0][..], &[0.999, 3.0], &[1.0], &[1.0]];
        let e1 = (-1000.0 * (1.0 - 0.999f64)).exp();
        let args64 = args.map(rows::<f64>);
        near("Hawkes", &[call(&d, &args64[..3])[[0, 0]]], &[-1e3 * e1], 1e-12);
        near("Hawkes", &[call(&d.jvp("x").unwrap(), &args64)[[0, 0]]], &[1e6 * e1], 1e-12);
        let gy = call(&hawkes.vjp("y").unwrap(), &args64[..3]);
        near("Hawkes", gy.as_slice().unwrap(), &[1e3 * e1, 0.0], 1e-12);
        let got = call(&d, &args.map(rows::<f32>)[..3])[[0, 0]];
        near("Hawkes in f32", &[got.into()], &[-1e3 * e1], 1e-4); // 1 - 0.999 is rounded
    }
}

/// Powers where the base is 0: see docs/semantics.md.
#[test]
fn powers_at_zero() {
    const INF: f64 = f64::INFINITY;
    for (f, expected) in [
        ("Powf(x, 0.3)", [0.0, 0.0, 0.0]),
        ("Powf(x, 1.5)", [0.0, 0.0, 0.0]),
        ("Powf(x, 2.5)", [0.0, 0.0, 0.0]),
        ("Powf(Square(x), 0.3)", [0.0, 0.0, 0.0]),
        ("Powf(Square(x), 1.5)", [0.0, 0.0, 0.0]),
        ("Powf(x, -0.5)", [INF, -INF, INF]),
        ("Pow(x, -1)", [INF, -INF, INF]),
        ("Pow(x, -2)", [INF, -INF, INF]),
        ("Pow(x, -3)", [INF, -INF, INF]),
        ("Pow(x, 3)", [0.0, 0.0, 0.0]),
        ("x ** -2", [INF, -INF, INF]),
    ] {
        slopes(f, 0.0, expected);
    }
    // Exponents that are known when it runs.
    for (f, p, expected) in [
        ("Powf(x, p)", 0.0, [1.0, 0.0, 0.0]),
        ("Powf(x, p)", 0.3, [0.0, 0.0, 0.0]),
        ("Powf(x, p)", 1.0, [0.0, 1.0, 0.0]),
        ("Powf(x, p)", 1.5, [0.0, 0.0, 0.0]),
        ("Powf(x, p)", 2.0, [0.0, 0.0, 2.0]),
        ("Powf(x, p)", -0.5, [INF, -INF, INF]),
        ("Powf(Square(x), p)", 1.0, [0.0, 0.0, 2.0]),
        ("Powf(Square(x), p)", 0.3, [0.0, 0.0, 0.0]),
    ] {
        let args = [&[0.0][..], &[p], &[1.0], &[1.0]].map(rows::<f64>);
        for device in devices() {
            let label = format!("{f} for p = {p}, {}", device.backend().name());
            let g = genred(f, &["x = Vi(1)", "p = Vi(1)"], &SUM).at(device);
            near(&label, &[call(&g, &args[..2])[[0, 0]]], &expected[..1], 0.0);
            for a in ['v', 'j'] {
                let d = derived(&g, a, "x");
                near(&label, &[call(&d, &args[..3])[[0, 0]]], &expected[1..2], 0.0);
                for b in ['v', 'j'] {
                    let second = call(&derived(&d, b, "x"), &args)[[0, 0]];
                    near(&label, &[second], &expected[2..], 0.0);
                }
            }
        }
    }
    // Generalised energy distances: |x - y|^2p over all pairs, those of a point with itself too.
    let x = ArrayD::from_shape_vec(vec![2, 2], vec![0.0, 0.0, 1.0, 2.0]).unwrap();
    let (e, p) = (rows::<f64>(&[1.0, 1.0]), rows::<f64>(&[0.3])[[0, 0]]);
    for device in devices() {
        let g =
            genred("Powf(SqDist(x, y), 0.3)", &["x = Vi(2)", "y = Vj(2)"], &SUM).at(device.clone());
        let got = call(&g.vjp("x").unwrap(), &[x.clone(), x.clone(), e.clone()]);
        let c = 2.0 * p * 5f64.powf(p - 1.0); // times x - y
        near("energy", got.as_slice().unwrap(), &[-c, -2.0 * c, c, 2.0 * c], 1e-12);
        // The Hessian of |x - y|³ is 3 |d| (1 + d dᵀ / |d|²), 0 at 0.
        let g =
            genred("Powf(SqDist(x, y), 1.5)", &["x = Vi(2)", "y = Vj(2)"], &SUM).at(device.clone());
        let (v, r) = ([0.5, -2.0, 1.0, 1.0], 5f64.sqrt());
        let t = ArrayD::from_shape_vec(vec![2, 2], v.to_vec()).unwrap();
        let along = |v: &[f64]| {
            let d = v[0] + 2.0 * v[1];
            [3.0 * (r * v[0] + d / r), 3.0 * (r * v[1] + 2.0 * d / r)]
        };
        let expected = [along(&v[..2]), along(&v[2..])].concat();
        for first in ['v', 'j'] {
            let more = if first == 'v' { 'j' } else { 'v' };
            let h = derived(&derived(&g, first, "x"), more, "x");
            let between =
                if first == 'v' { [e.clone(), t.clone()] } else { [t.clone(), e.clone()] };
            let args = [&[x.clone(), x.clone()][..], &between].concat();
            near("Hessian", call(&h, &args).as_slice().unwrap(), &expected, 1e-12);
        }
        // In the exponent: Σ s^p log s, with limit 0 for s = 0; and log² s.
        let aliases = ["x = Vi(2)", "y = Vj(2)", "p = Pm(1)"];
        let g = genred("Powf(SqDist(x, y), p)", &aliases, &SUM).at(device);
        let at = |g: &Genred<Device>, more: usize| {
            let mut args = vec![x.clone(), x.clone(), ArrayD::from_elem(IxDyn(&[1]), 0.5)];
            args.push(e.clone());
            args.extend(vec![ArrayD::from_elem(IxDyn(&[1]), 1.0); more]);
            call(g, &args)[[0]]
        };
        let d = g.vjp("p").unwrap();
        near("in the exponent", &[at(&d, 0)], &[2.0 * r * 5f64.ln()], 1e-12);
        near("twice", &[at(&d.jvp("p").unwrap(), 1)], &[2.0 * r * 5f64.ln().powi(2)], 1e-12);
    }
}

/// Weights of a log-sum-exp add up to 1, however large what they have in common is.
#[test]
fn common_offsets() {
    let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    let lse: Genred = genred("x + y", &aliases[..2], &LOG_SUM_EXP);
    let weighted = Genred::weighted("x + y", "b", aliases, &LOG_SUM_EXP, Axis::J).unwrap();
    let mean = Genred::weighted("x + y", "b * x", aliases, &SUM_SOFT_MAX_WEIGHT, Axis::J).unwrap();
    for device in devices() {
        for offset in [0.0, 1e3, 1e5, 1e6, 1e7, 3e7] {
            let y: Vec<f64> = (0..6).map(|j| offset + f64::from(j % 3) * 4.0).collect();
            let b = [3.0, -0.5, 0.5, 1.0, 2.0, 0.25];
            let k: Vec<f64> = y.iter().map(|y| (y - offset).exp()).collect();
            let (total, sum) =
                (k.iter().sum::<f64>(), k.iter().zip(b).map(|(k, b)| k * b).sum::<f64>());
            let args = [&[1.0][..], &y, &b].map(rows::<f32>);
            let one = rows::<f32>(&[1.0]);
            // x = 1 is lost in the sum from 3e7 on, and rounded alike for all y before.
            for (g, count, slope, in_y) in [
                (&lse, 2, 1.0, k.iter().map(|k| k / total).collect::<Vec<_>>()),
                (&weighted, 3, 1.0, k.iter().zip(b).map(|(k, b)| k * b / sum).collect()),
                (
                    &mean,
                    3,
                    sum / total,
                    k.iter().zip(b).map(|(k, b)| k / total * (b - sum / total)).collect(),
                ),
            ] {
                let g = g.clone().at(device.clone());
                let at = [&args[..count], std::slice::from_ref(&one)].concat();
                let label = format!("offset {offset}, {}", device.backend().name());
                for mode in ['v', 'j'] {
                    let d = derived(&g, mode, "x");
                    near(&label, &[call(&d, &at)[[0, 0]].into()], &[slope], 2e-6);
                    let twice = [&at[..], std::slice::from_ref(&one)].concat();
                    for more in ['v', 'j'] {
                        let got = call(&derived(&d, more, "x"), &twice)[[0, 0]];
                        near(&format!("{label} {mode}{more}"), &[got.into()], &[0.0], 1e-5);
                    }
                }
                let got: Vec<f64> =
                    call(&g.vjp("y").unwrap(), &at).iter().map(|v| (*v).into()).collect();
                near(&label, &got, &in_y, 2e-6);
            }
        }
    }
}

//! The front door: arguments, errors, shapes of results, and what is shared.

use keops_core::data::{ArgView, Buffer, DType, Element};
use keops_core::error::{CompileError, Error, GradError, InputError, RunError};
use keops_core::genred::{Genred, Place, Reference};
use keops_core::graph::{Builder, Category, Ex, Var};
use keops_core::interp::Interpreter;
use keops_core::ops::EXP;
use keops_core::outer::{Computation, Formula, InputDef, OuterId, OutputDef, Port};
use keops_core::ranges::{Pattern, Ranges};
use keops_core::reduce::*;
use keops_core::spec::{
    Axis, Backend, CheckedArgs, Device, Executable, ReduceOptions, ReduceSpec, Scheme, Unavailable,
};
use ndarray::{Array1, Array2, ArrayD, array, s};
use std::sync::{Arc, Mutex};

const X: Var = Var { index: 0, dim: 2, category: Category::I };
const Y: Var = Var { index: 1, dim: 2, category: Category::J };
const S: Var = Var { index: 2, dim: 1, category: Category::Param };

fn formula(root: impl for<'g> Fn([Ex<'g>; 3]) -> Ex<'g>, weighted: bool) -> Formula {
    let b = Builder::default();
    let (root, weight) = {
        let v = [X, Y, S].map(|v| b.var(v));
        (root(v).id, weighted.then_some(v[1].id))
    };
    let names = ["x", "y", "s"].map(String::from).to_vec();
    Formula { graph: b.into_graph().into(), root, weight, vars: vec![X, Y, S], names }
}
/// -s |x - y|²
fn distance<'g>([x, y, s]: [Ex<'g>; 3]) -> Ex<'g> {
    -(s * (x - y).dot(x - y))
}
fn gauss() -> Genred {
    let f = formula(|v| distance(v).un(&EXP), false);
    Genred::from_formula(f, &SUM, Axis::J).unwrap()
}
fn data() -> (Array2<f64>, Array2<f64>, Array1<f64>) {
    let x = array![[0.0, 0.1], [0.5, 0.4], [1.0, -0.3]];
    let y = array![[0.2, 0.3], [-0.4, 0.6], [0.9, 0.8], [0.1, -0.7]];
    (x, y, array![0.8])
}
fn input_error<T: std::fmt::Debug>(r: Result<T, Error>) -> InputError {
    match r {
        Err(Error::Input(e)) => e,
        other => panic!("expected an input error, got {other:?}"),
    }
}

#[test]
fn arguments_of_any_layout() {
    let (x, y, s) = data();
    let g = gauss();
    let out = g.call((&x, &y, &s)).unwrap();
    assert_eq!(out.shape(), [3, 1]);
    let sum: f64 =
        y.rows().into_iter().map(|y| (-0.8 * (&y - &x.row(1)).mapv(|d| d * d).sum()).exp()).sum();
    assert!((out[[1, 0]] - sum).abs() < 1e-15);
    // Views, references, dynamic dimensions, and a slice of references.
    let same = g.call((&x.view(), &y.clone().into_dyn(), &*s)).unwrap();
    assert_eq!(same, out);
    let all = [x.clone().into_dyn(), y.clone().into_dyn(), s.clone().into_dyn()];
    assert_eq!(g.call(&all.iter().collect::<Vec<_>>()[..]).unwrap(), out);
    // Columns of a wider array, in reverse order of rows.
    let mut wide = Array2::from_elem((3, 6), f64::NAN);
    wide.slice_mut(s![..;-1, 1..5;3]).assign(&x);
    assert_eq!(g.call((&wide.slice(s![..;-1, 1..5;3]), &y, &s)).unwrap(), out);
}

#[test]
fn arguments_that_do_not_fit() {
    let (x, y, s) = data();
    let g = gauss();
    let e = input_error(g.call((&x, &y)));
    assert_eq!(e, InputError::Count { expected: 3, names: "x, y, s".into(), got: 2 });
    let e = input_error(g.call((&x, &y.slice(s![.., ..1]), &s)));
    assert!(
        matches!(&e, InputError::Shape { name, got, .. } if name == "y" && got == &[4, 1]),
        "{e}"
    );
    let e = input_error(g.call((&x.row(0), &y, &s)));
    assert!(matches!(&e, InputError::Shape { name, .. } if name == "x"), "{e}");
    let (x32, s32) = (x.mapv(|v| v as f32), s.mapv(|v| v as f32));
    let mixed = [
        f32::erase(x32.view().into_dyn()),
        f64::erase(y.view().into_dyn()),
        f32::erase(s32.view().into_dyn()),
    ];
    let e = input_error(g.run(&mixed));
    assert!(matches!(&e, InputError::Type { name, got, .. } if name == "y" && got == "f64"), "{e}");
    let far = Array2::<f64>::zeros((3, 2)).broadcast((2, 3, 2)).unwrap().to_owned();
    let three = Array2::<f64>::zeros((4, 2)).broadcast((3, 4, 2)).unwrap().to_owned();
    let e = input_error(g.call((&far, &three, &s)));
    assert_eq!(
        e,
        InputError::Disagree {
            name: "y".into(),
            what: "batch elements".into(),
            other: "x".into(),
            expected: 2,
            got: 3
        }
    );
    // Cotangents and tangents follow what they belong to.
    let gradient = g.vjp("x").unwrap();
    assert_eq!(gradient.arguments().collect::<Vec<_>>(), ["x", "y", "s", "e"]);
    let e = input_error(gradient.call((&x, &y, &s, &Array2::<f64>::zeros((4, 1)))));
    assert_eq!(e.to_string(), "argument `e` has 4 rows, but `the result` has 3");
    let e = input_error(gradient.call((&x, &y, &s, &ndarray::Array3::<f64>::zeros((2, 3, 1)))));
    assert!(matches!(&e, InputError::Shape { name, .. } if name == "e"), "{e}");
    let along = g.jvp("y").unwrap();
    let e = input_error(along.call((&x, &y, &s, &x)));
    assert_eq!(e.to_string(), "argument `d_y` has 3 rows, but `y` has 4");
    // Ranges are checked once, before anything runs.
    let pattern = Pattern { blocks: vec![[0, 9]], slices: vec![0], reduced: vec![] };
    let e =
        input_error(g.clone().ranges(Ranges::from_pattern(pattern).unwrap()).call((&x, &y, &s)));
    assert!(matches!(e, InputError::Ranges(_)), "{e}");
}

#[test]
fn formulas_that_do_not_fit() {
    let option = |f: Formula, r: &'static ReductionDef, k| match Genred::<Reference>::from_formula(
        f,
        (r, k),
        Axis::J,
    ) {
        Err(InputError::Option(m)) => m,
        other => panic!("{other:?}"),
    };
    let f = |weighted| formula(distance, weighted);
    assert!(option(f(true), &SUM, 1).contains("no second formula"));
    assert!(option(f(false), &SUM_SOFT_MAX_WEIGHT, 1).contains("the weight"));
    assert!(option(f(false), &MIN, 2).contains("one winner"));
    assert!(option(f(false), &K_MIN, 0).contains("got 0"));
    assert!(option(formula(|[x, y, _]| x - y, false), &LOG_SUM_EXP, 1).contains("dimension 2"));
    let mut fewer = f(false);
    (fewer.vars, fewer.names) = (fewer.vars[..2].to_vec(), fewer.names[..2].to_vec());
    assert!(option(fewer, &SUM, 1).contains("Pm(2, 1)"));
    let mut twice = f(false);
    twice.names[1] = "x".into();
    assert!(option(twice, &SUM, 1).contains("`x`"));
}

#[test]
fn derivatives_that_do_not_exist() {
    let g = gauss();
    assert_eq!(
        g.vjp("z").unwrap_err(),
        GradError::UnknownVariable { name: "z".into(), known: "`x`, `y`, `s`".into() }
    );
    let nearest = Genred::<Reference>::from_formula(formula(distance, false), &ARG_MAX, Axis::J);
    let nearest = nearest.unwrap();
    for e in [nearest.vjp("x").unwrap_err(), nearest.jvp("x").unwrap_err()] {
        assert!(matches!(&e, GradError::NotDifferentiable { what, .. } if what == "ArgMax"), "{e}");
    }
}

#[test]
fn results_of_selections() {
    let (x, y, s) = data();
    let make = |f: Formula, r, k| Genred::<Reference>::from_formula(f, (r, k), Axis::J).unwrap();
    let scalar = || formula(|v| -distance(v), false);
    let nearest = make(scalar(), &K_MIN_ARG_K_MIN, 2);
    let (values, indices) =
        (nearest.call((&x, &y, &s)).unwrap(), nearest.call_indices((&x, &y, &s)).unwrap());
    assert_eq!((values.shape(), indices.shape()), (&[3, 2][..], &[3, 2][..]));
    for i in 0..3 {
        let mut all: Vec<(f64, i64)> = (0..4)
            .map(|j| (0.8 * (&x.row(i) - &y.row(j)).mapv(|d| d * d).sum(), j as i64))
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        for k in 0..2 {
            assert!((values[[i, k]] - all[k].0).abs() < 1e-15);
            assert_eq!(indices[[i, k]], all[k].1);
        }
    }
    // Vectors: (rows, k, dim), in results as in cotangents.
    let g = make(formula(|[x, y, s]| (x - y) * s, false), &K_MIN, 3);
    let out = g.call((&x, &y, &s)).unwrap();
    assert_eq!(out.shape(), [3, 3, 2]);
    let e = ArrayD::from_shape_fn(out.shape(), |i| (1 + i[0] + 2 * i[1] + 5 * i[2]) as f64);
    let gx = g.vjp("x").unwrap().call((&x, &y, &s, &e)).unwrap();
    // d/dx of each winner is s: the sum over winners, whatever the layout of the cotangent.
    let by_hand = e.sum_axis(ndarray::Axis(1)) * 0.8;
    assert!((&gx - &by_hand).iter().all(|d| d.abs() < 1e-13));
    let transposed = e.view().permuted_axes(ndarray::IxDyn(&[0, 2, 1]));
    let transposed = transposed.as_standard_layout().into_owned();
    let strided = transposed.view().permuted_axes(ndarray::IxDyn(&[0, 2, 1]));
    assert_eq!(g.vjp("x").unwrap().call((&x, &y, &s, &strided)).unwrap(), gx);
    // Each kind of result has its method.
    let indices = make(scalar(), &ARG_MIN, 1);
    assert!(input_error(indices.call((&x, &y, &s))).to_string().contains("call_indices"));
    assert!(input_error(gauss().call_indices((&x, &y, &s))).to_string().contains("`call`"));
    let both = gauss().vjp_of(&["x", "y"]).unwrap();
    let e = Array2::ones((3, 1));
    assert!(input_error(both.call((&x, &y, &s, &e))).to_string().contains("call_all"));
}

/// The interpreter, with a record of the reductions over pairs that ran.
struct Recording(Interpreter, Arc<Mutex<Vec<String>>>);
struct Recorded(Arc<dyn Executable>, String, Arc<Mutex<Vec<String>>>);
impl Backend for Recording {
    fn name(&self) -> &str {
        "recording"
    }
    fn check(&self) -> Result<(), Unavailable> {
        Ok(())
    }
    fn target(&self) -> String {
        "recording".into()
    }
    fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
        let label = format!("{} over {:?}, {}", spec.reduction.name, spec.axis, spec.dtype.name());
        Ok(Arc::new(Recorded(self.0.compile(spec)?, label, self.1.clone())))
    }
}
impl Executable for Recorded {
    fn run(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError> {
        if args.rows() > 1 && args.columns() > 1 {
            self.2.lock().unwrap().push(self.1.clone());
        }
        self.0.run(args, out)
    }
    fn source(&self) -> Option<String> {
        None
    }
}

#[test]
fn common_work_is_done_once() {
    let (x, y, s) = data();
    let log = Arc::new(Mutex::new(vec![]));
    let device = Device::new(Recording(Interpreter::new(), log.clone()));
    let taken = || std::mem::take(&mut *log.lock().unwrap());
    let e = Array2::ones((3, 1));
    let at: Genred<Device> = gauss().at(device.clone());
    at.vjp_of(&["x", "s"]).unwrap().call_all((&x, &y, &s, &e)).unwrap();
    assert_eq!(taken(), ["Sum over J, f64"]);
    at.vjp_all().unwrap().call_all((&x, &y, &s, &e)).unwrap();
    assert_eq!(taken(), ["Sum over J, f64", "Sum over I, f64"]);
    // A log-sum-exp and its gradient.
    let f = formula(distance, false);
    let lse =
        Genred::<Reference>::from_formula(f, &LOG_SUM_EXP, Axis::J).unwrap().at(device.clone());
    let both = lse.vjp("x").unwrap().with_primal();
    let found = both.call_all((&x, &y, &s, &e)).unwrap();
    // (The gradient reads the maximum and its sum: log-sum-exp itself is rounded.)
    let maximum = "Max_SumShiftExp over J, f64";
    assert_eq!(taken(), ["LogSumExp over J, f64", maximum, "Sum over J, f64"]);
    assert_eq!(found[1], lse.call((&x, &y, &s)).unwrap());
    taken();
    // Nothing of the first gradient is evaluated again for the second.
    let more = [
        &x.clone().into_dyn(),
        &y.clone().into_dyn(),
        &s.clone().into_dyn(),
        &e.clone().into_dyn(),
        &x.clone().into_dyn(),
    ];
    lse.vjp("x").unwrap().vjp("x").unwrap().call(&more[..]).unwrap();
    let runs = taken();
    assert_eq!(runs.iter().filter(|r| **r == maximum).count(), 1, "{runs:?}");
    assert!(runs.len() <= 4, "{runs:?}");
    // Half precision: the value is computed from f16 data, the gradient from f32 copies.
    let half =
        [x.mapv(half::f16::from_f64), y.mapv(half::f16::from_f64), e.mapv(half::f16::from_f64)];
    let s16 = s.mapv(half::f16::from_f64);
    let value = lse.vjp("x").unwrap().call((&half[0], &half[1], &s16, &half[2])).unwrap();
    assert_eq!(taken(), ["Max_SumShiftExp over J, f16", "Sum over J, f32"]);
    assert_eq!(value.shape(), [3, 2]);
    let views: Vec<ArgView<'_>> =
        [half[0].view().into_dyn(), half[1].view().into_dyn()].map(Element::erase).into();
    let wide = lse.run(&[&views[..], &[half::f16::erase(s16.view().into_dyn())]].concat()).unwrap();
    assert!(matches!(&wide[0], Buffer::F32(_)));
}

#[test]
fn options_reach_every_sum() {
    let (x, y, s) = data();
    let e = Array2::ones((3, 1));
    let options = ReduceOptions { accumulate: Some(DType::F64), scheme: Scheme::Kahan };
    let single = |a: &Array2<f64>| a.mapv(|v| v as f32);
    let (x32, y32, s32, e32) = (single(&x), single(&y), s.mapv(|v| v as f32), single(&e));
    let gradient = gauss().options(options).vjp("x").unwrap();
    let got = gradient.call((&x32, &y32, &s32, &e32)).unwrap();
    let exact = gauss().vjp("x").unwrap().call((&x, &y, &s, &e)).unwrap();
    assert!(got.iter().zip(&exact).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6));
    // Forbidden combinations are found before anything runs, also when set after deriving.
    let f16 = ReduceOptions { accumulate: Some(DType::F16), scheme: Scheme::Direct };
    for g in [gauss().options(f16).vjp("x").unwrap(), gauss().vjp("x").unwrap().options(f16)] {
        let m = input_error(g.call((&x, &y, &s, &e))).to_string();
        assert!(m.contains("f64 data cannot be accumulated in f16"), "{m}");
    }
    let nearest =
        Genred::<Reference>::from_formula(formula(distance, false), &MIN, Axis::J).unwrap();
    let m = input_error(nearest.options(options).call((&x, &y, &s))).to_string();
    assert!(m.contains("no sum inside"), "{m}");
}

/// A computation built by hand: one reduction reads columns of the result of another.
#[test]
fn graphs_by_hand() {
    let (x, y, s) = data();
    let f = formula(|[x, y, s]| (x - y) * (s * x.dot(y)).un(&EXP), false);
    let first = Genred::<Reference>::from_formula(f, &SUM, Axis::J).unwrap();
    let mut g = first.computation().graph().clone();
    let v = first.computation().outputs()[0].port;
    // p = v0 v1² + v0, from all of v and from its columns.
    let (a, b, c) = (v, g.columns(v, 1, 1), g.columns(v, 0, 1));
    let product = g.map_rows(Category::I, &[a, b, c], |_, e| {
        e[0].pick(0, 1, 1) * e[0].pick(1, 1, 1) * e[1] + e[2]
    });
    let three = g.concat(&[product, b, c]);
    let again = [(0, 2), (1, 2), (1, 1)].map(|(start, len)| g.columns(three, start, len));
    let total = g.map_rows(Category::I, &again, |_, e| e[0].sum() * e[1].sum() + e[2]);
    let all = g.sum_rows(total);
    let text = g.to_string();
    assert!(text.contains("Sum over J") && text.contains("sum of rows of"), "{text}");
    let inputs = first.computation().inputs().to_vec();
    let output = OutputDef { port: all, row: vec![1], like: None };
    let whole: Genred = Computation::new(g.clone(), inputs.clone(), vec![output]).unwrap().into();
    // From overlapping columns of (p, v1, v0): Σ_i (p + v1) (v1 + v0) + v1.
    let value = |x: &Array2<f64>| -> f64 {
        let v = first.call((x, &y, &s)).unwrap();
        let each = |i: usize| {
            let (v0, v1) = (v[[i, 0]], v[[i, 1]]);
            let p = v0 * v1 * v1 + v0;
            (p + v1) * (v1 + v0) + v1
        };
        (0..3).map(each).sum()
    };
    let got = whole.call((&x, &y, &s)).unwrap();
    assert_eq!(got.shape(), [1]);
    assert!((got[0] - value(&x)).abs() < 1e-11 * got[0].abs());
    let gx = whole.vjp("x").unwrap().call((&x, &y, &s, &array![1.0])).unwrap();
    for (at, g) in gx.indexed_iter() {
        let moved = |h: f64| {
            let mut x = x.clone();
            x[[at[0], at[1]]] += h;
            value(&x)
        };
        let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((g - difference).abs() < 1e-6 * (1.0 + g.abs()), "{at:?}: {g} {difference}");
    }
    // Descriptions that do not fit.
    let fails = |inputs: Vec<InputDef>, outputs| {
        let e = Computation::new(g.clone(), inputs, outputs).unwrap_err();
        matches!(e, InputError::Option(_))
    };
    let nowhere = Port { node: OuterId(99), output: 0 };
    assert!(fails(inputs.clone(), vec![OutputDef { port: nowhere, row: vec![1], like: None }]));
    assert!(fails(inputs[..2].to_vec(), vec![]));
    let mut wrong = inputs.clone();
    wrong[0].row = vec![3];
    assert!(fails(wrong, vec![]));
}

#[test]
fn shared_between_threads() {
    fn is<T: Send + Sync + 'static>() {}
    is::<Genred>();
    is::<Genred<Device>>();
    is::<Error>();
    let (x, y, s) = data();
    let g = gauss();
    let expected = g.call((&x, &y, &s)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(g.call((&x, &y, &s)).unwrap(), expected));
        }
    });
    // The device is chosen by the number of pairs.
    #[derive(Clone, Default)]
    struct Choosing(Arc<Mutex<Vec<u64>>>, Reference);
    impl Place for Choosing {
        fn device(&self, pairs: u64) -> Device {
            self.0.lock().unwrap().push(pairs);
            self.1.device(pairs)
        }
    }
    let place = Choosing::default();
    gauss().at(place.clone()).call((&x, &y, &s)).unwrap();
    assert_eq!(*place.0.lock().unwrap(), [12]);
}

//! Compiled reductions against the reference interpreter, on every level of this machine.

use keops_core::autodiff;
use keops_core::composite::{self, Literal};
use keops_core::conformance::Random;
use keops_core::data::{Buffer, DType, Element};
use keops_core::graph::{Builder, Category, Ex, NodeId, Var};
use keops_core::interp::Interpreter;
use keops_core::ranges::Ranges;
use keops_core::reduce::{self, ReductionDef};
use keops_core::spec::{Axis, Backend, CheckedArgs, Executable, ReduceOptions, ReduceSpec, Scheme};
use keops_cpu::{Cpu, Level};
use ndarray::{Array, ArrayD, IxDyn};
use std::sync::Arc;

fn numbers(seed: u64, n: usize) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.within(-1.0, 1.0)).collect()
}

struct Case {
    spec: ReduceSpec,
    m: usize,
    n: usize,
    batch: Vec<usize>,
    ranges: Option<Ranges>,
    scale: f64,
}

impl Case {
    fn new(
        b: Builder,
        root: NodeId,
        weight: Option<NodeId>,
        reduction: &'static ReductionDef,
        k: usize,
    ) -> Case {
        let graph = b.into_graph();
        let roots: Vec<NodeId> = std::iter::once(root).chain(weight).collect();
        let vars = graph.variables(&roots);
        let names = vars.iter().map(|v| format!("v{}", v.index)).collect();
        let spec = ReduceSpec {
            formula: root,
            weight,
            reduction,
            k,
            axis: Axis::J,
            vars,
            names,
            dtype: DType::F64,
            options: ReduceOptions::default(),
            graph: Arc::new(graph),
        };
        Case { spec, m: 37, n: 301, batch: vec![], ranges: None, scale: 1.0 }
    }
    fn run(&self, exe: &dyn Executable, spec: &ReduceSpec, arrays: &[ArrayD<f64>]) -> Vec<Buffer> {
        let f32s: Vec<ArrayD<f32>> = arrays.iter().map(|a| a.mapv(|v| v as f32)).collect();
        let f16s: Vec<ArrayD<half::f16>> =
            arrays.iter().map(|a| a.mapv(half::f16::from_f64)).collect();
        let views = (0..arrays.len())
            .map(|k| match spec.dtype {
                DType::F64 => f64::erase(arrays[k].view()),
                DType::F32 => f32::erase(f32s[k].view()),
                _ => half::f16::erase(f16s[k].view()),
            })
            .collect();
        let args = CheckedArgs::new(spec, views, self.ranges.as_ref(), Some(self.m), Some(self.n))
            .unwrap();
        let mut out = args.allocate(spec).unwrap();
        exe.run(&args, &mut out).unwrap();
        out
    }
    /// Compares all levels with the interpreter, for f32 and f64 and both axes.
    fn check(&self, name: &str, tolerance: f64) {
        for axis in [Axis::J, Axis::I] {
            for dtype in [DType::F64, DType::F32, DType::F16] {
                if dtype == DType::F16 && self.spec.options != ReduceOptions::default() {
                    continue;
                }
                let accumulate = self.spec.options.accumulate.filter(|_| dtype == DType::F32);
                let options = ReduceOptions { accumulate, ..self.spec.options };
                let spec = ReduceSpec { dtype, axis, options, ..self.spec.clone() };
                spec.check().unwrap();
                let arrays: Vec<ArrayD<f64>> = spec
                    .vars
                    .iter()
                    .map(|v| {
                        let mut shape = self.batch.clone();
                        match v.category {
                            Category::I => shape.push(self.m),
                            Category::J => shape.push(self.n),
                            Category::Param => {}
                        }
                        shape.push(v.dim);
                        let n = shape.iter().product();
                        let data = numbers(v.index as u64 + 7, n);
                        let a = Array::from_shape_vec(IxDyn(&shape), data).unwrap();
                        // The same numbers in every type.
                        a.mapv(|x| half::f16::from_f64(x * self.scale).to_f64())
                    })
                    .collect();
                let want = self.run(&*Interpreter::new().compile(&spec).unwrap(), &spec, &arrays);
                for level in Level::available() {
                    let exe = Cpu::with_level(level).unwrap().compile_executable(&spec).unwrap();
                    assert_eq!(exe.is_native(), level != Level::Portable);
                    let got = self.run(&exe, &spec, &arrays);
                    for (q, (g, w)) in got.iter().zip(&want).enumerate() {
                        assert_eq!(g.shape(), w.shape());
                        let (g, w) = (g.to_f64(), w.to_f64());
                        let size =
                            w.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
                        let eps = if dtype == DType::F64 { 2.3e-16 } else { 1.2e-7 };
                        for (i, (a, b)) in g.iter().zip(w.iter()).enumerate() {
                            let bad = if b.is_finite() {
                                (a - b).is_nan()
                                    || (a - b).abs() > tolerance * eps * size.max(1e-30)
                            } else {
                                !(a == b || a.is_nan() && b.is_nan())
                            };
                            assert!(
                                !bad,
                                "{name} {} {dtype:?} over {axis:?}, output {q} entry {i}: {a} instead of {b} (largest {size})\n{}",
                                level.name(),
                                keops_core::lower::lower(
                                    &spec,
                                    keops_core::lower::LowerOptions {
                                        expand: true,
                                        ..Default::default()
                                    }
                                )
                                .unwrap()
                            );
                        }
                    }
                }
            }
        }
    }
}

fn var(b: &Builder, index: u32, dim: usize, category: Category) -> Ex<'_> {
    b.var(Var { index, dim, category })
}
fn call<'g>(name: &str, x: &[Ex<'g>], l: &[Literal]) -> Ex<'g> {
    (composite::by_name(name).unwrap().build)(x, l).unwrap()
}
fn gaussian(b: &Builder, d: usize, e: usize) -> (Ex<'_>, Ex<'_>, Ex<'_>) {
    let (x, y) = (var(b, 0, d, Category::I), var(b, 1, d, Category::J));
    let w = var(b, 2, e, Category::J);
    let g = var(b, 3, 1, Category::Param);
    let k = (-(g * g) * call("SqDist", &[x, y], &[])).un(&keops_core::ops::EXP);
    (k * w, x, y)
}

#[test]
fn gaussian_sums() {
    for (d, e) in [(3, 1), (1, 3), (50, 1), (50, 2), (3, 40), (50, 17), (4096, 1)] {
        let b = Builder::default();
        let f = gaussian(&b, d, e).0.id;
        let mut c = Case::new(b, f, None, &reduce::SUM, 1);
        c.scale = (3.0 / d as f64).sqrt().min(1.0);
        if d > 1000 {
            (c.m, c.n) = (5, 7);
        }
        c.check(&format!("gaussian {d} {e}"), 200.0);
    }
}

#[test]
fn gaussian_gradients() {
    for d in [3, 50] {
        let b = Builder::default();
        let (f, x, y) = gaussian(&b, d, 2);
        let e = var(&b, 5, 2, Category::I);
        let g = autodiff::vjp(f, e, &[x, y]);
        let u = var(&b, 6, d, Category::I);
        let h = autodiff::vjp(g[0].unwrap().dot(u), b.lit(1.0), &[x])[0].unwrap();
        for root in
            [g[0].unwrap().id, g[1].unwrap().id, h.id, Ex::concat(&[g[0].unwrap(), f, h]).id]
        {
            let b = Builder::from_graph(b.graph().clone());
            let mut c = Case::new(b, root, None, &reduce::SUM, 1);
            c.scale = (3.0 / d as f64).sqrt();
            c.check(&format!("gradient {d}"), 400.0);
        }
    }
}

#[test]
fn log_sum_exp() {
    for d in [3, 50] {
        for e in [0, 1, 3, 20] {
            let b = Builder::default();
            let (x, y) = (var(&b, 0, d, Category::I), var(&b, 1, d, Category::J));
            let f = (-call("SqDist", &[x, y], &[])).id;
            let w = (e > 0).then(|| call("Square", &[var(&b, 2, e, Category::J)], &[]).id);
            let mut c = Case::new(b, f, w, &reduce::LOG_SUM_EXP, 1);
            c.check(&format!("log-sum-exp {d} {e}"), 200.0);
            c.scale = 30.0;
            c.check(&format!("log-sum-exp {d} {e} large"), 200.0);
            if w.is_some() {
                c.spec.reduction = &reduce::SUM_SOFT_MAX_WEIGHT;
                c.scale = 1.0;
                c.check(&format!("soft max {d} {e}"), 200.0);
            }
        }
    }
}

#[test]
fn selections() {
    for d in [3, 50] {
        for reduction in reduce::ALL {
            let reduce::Family::Select(s) = reduction.kind else { continue };
            for k in [1, 10, 100, 400] {
                if k > 1 && !s.many {
                    continue;
                }
                let b = Builder::default();
                let (x, y) = (var(&b, 0, d, Category::I), var(&b, 1, d, Category::J));
                let f = call("SqDist", &[x, y], &[]).id;
                let vector = (x - y).id;
                let other = Builder::from_graph(b.graph().clone());
                Case::new(b, f, None, reduction, k)
                    .check(&format!("{} {d} {k}", reduction.name), 100.0);
                if k <= 10 {
                    Case::new(other, vector, None, reduction, k)
                        .check(&format!("{} {d} {k} of vectors", reduction.name), 100.0);
                }
            }
        }
    }
}

#[test]
fn schemes_and_accumulation_types() {
    for d in [3, 20] {
        for scheme in [Scheme::Block, Scheme::Direct, Scheme::Kahan] {
            for accumulate in [None, Some(DType::F32), Some(DType::F64)] {
                let b = Builder::default();
                let f = gaussian(&b, 3, d).0.id;
                let mut c = Case::new(b, f, None, &reduce::SUM, 1);
                c.spec.options = ReduceOptions { accumulate, scheme };
                c.check(&format!("{:?} {d}", c.spec.options), 300.0);
                let b = Builder::default();
                let (x, y) = (var(&b, 0, 3, Category::I), var(&b, 1, 3, Category::J));
                let f = (-call("SqDist", &[x, y], &[])).id;
                let w = var(&b, 2, d, Category::J).un(&keops_core::ops::ABS).id;
                let mut c = Case::new(b, f, Some(w), &reduce::LOG_SUM_EXP, 1);
                c.spec.options = ReduceOptions { accumulate, scheme };
                c.check(&format!("log-sum-exp {:?} {d}", c.spec.options), 300.0);
            }
        }
    }
}

#[test]
fn gather_and_soft_dtw() {
    let b = Builder::default();
    let (t, x, y) =
        (var(&b, 0, 35, Category::Param), var(&b, 1, 1, Category::I), var(&b, 2, 1, Category::J));
    let w = var(&b, 3, 1, Category::J);
    let at = (x * 3.0 + 3.0).un(&keops_core::ops::FLOOR) * 5.0
        + (y * 2.5 + 2.5).un(&keops_core::ops::FLOOR);
    let f = at.gather(t) * w;
    let table = autodiff::vjp(f, var(&b, 4, 1, Category::I), &[t])[0].unwrap().id;
    let value = f.id;
    let other = Builder::from_graph(b.graph().clone());
    Case::new(b, value, None, &reduce::SUM, 1).check("gather", 100.0);
    Case::new(other, table, None, &reduce::SUM, 1).check("gather: gradient of the table", 100.0);

    let b = Builder::default();
    let (x, y) = (var(&b, 0, 20, Category::I), var(&b, 1, 20, Category::J));
    let gamma = var(&b, 2, 1, Category::Param);
    let f = call("SoftDTW_SqDist", &[x, y, gamma * gamma + 0.1], &[]);
    let g = autodiff::vjp(f, b.lit(1.0), &[x])[0].unwrap().id;
    let value = f.id;
    let other = Builder::from_graph(b.graph().clone());
    for (b, root) in [(b, value), (other, g)] {
        let mut c = Case::new(b, root, None, &reduce::SUM, 1);
        (c.m, c.n) = (19, 23);
        c.check("soft-DTW", 1e4);
    }
}

#[test]
fn ranges_and_batches() {
    let mask: Vec<bool> = (0..12).map(|k| k % 3 != 1).collect();
    for reduction in
        [&reduce::SUM, &reduce::MIN_ARG_MIN, &reduce::K_MIN_ARG_K_MIN, &reduce::LOG_SUM_EXP]
    {
        let b = Builder::default();
        let (x, y) = (var(&b, 0, 3, Category::I), var(&b, 1, 3, Category::J));
        let f = (-call("SqDist", &[x, y], &[])).id;
        let mut c = Case::new(b, f, None, reduction, 5);
        (c.m, c.n) = (90, 70);
        c.batch = vec![2, 3];
        c.ranges = Some(Ranges::from_clusters(&[20, 21, 60], &[5, 5, 40, 64], &mask).unwrap());
        c.check(reduction.name, 100.0);
    }
}

#[test]
fn sizes() {
    for (m, n) in [
        (0, 5),
        (5, 0),
        (0, 0),
        (1, 1),
        (15, 2),
        (16, 63),
        (17, 64),
        (33, 65),
        (64, 257),
        (65, 1030),
    ] {
        for reduction in reduce::ALL {
            let b = Builder::default();
            let (x, y) = (var(&b, 0, 2, Category::I), var(&b, 1, 2, Category::J));
            let w = (reduction.weight != reduce::WeightRule::Never)
                .then(|| var(&b, 2, 2, Category::J).un(&keops_core::ops::ABS).id);
            let f = call("SqDist", &[x, y], &[]).id;
            let mut c = Case::new(b, f, w, reduction, 3);
            (c.m, c.n) = (m, n);
            c.check(&format!("{} {m} x {n}", reduction.name), 200.0);
        }
    }
}

#[test]
fn values_of_lower_classes() {
    for d in [3, 17] {
        let b = Builder::default();
        let c = var(&b, 8, d, Category::Param);
        let e = var(&b, 11, d, Category::I);
        let y = var(&b, 12, d, Category::J);
        let s = c * c;
        let u = s / (s + 1.0);
        let l = (u * 2.9 + 0.1).un(&keops_core::ops::LOG) + 1.0;
        for root in [l, e * l * c, y * l * c, e * l * y, e * l + y * c] {
            let id = root.id;
            Case::new(Builder::from_graph(b.graph().clone()), id, None, &reduce::SUM, 1)
                .check("lower classes", 300.0);
            let (kept, other) = (root.sum().id, Builder::from_graph(b.graph().clone()));
            Case::new(other, kept, None, &reduce::LOG_SUM_EXP, 1).check("lower classes", 300.0);
        }
    }
}

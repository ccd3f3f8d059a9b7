//! Formulas that go through everything.

use keops_core::autodiff;
use keops_core::composite::{self, Literal};
use keops_core::data::DType;
use keops_core::graph::{Builder, Category, Ex, FoldOp, NodeId, Var};
use keops_core::ops;
use keops_core::ranges::Ranges;
use keops_core::reduce::{self, Family, ReductionDef};
use keops_core::spec::{Axis, ReduceOptions, ReduceSpec, Scheme};
use std::sync::Arc;

/// A reduction with sizes to run it at.
#[derive(Clone)]
pub struct Witness {
    pub name: String,
    pub spec: ReduceSpec,
    /// Sizes of both indices.
    pub rows: [usize; 2],
    pub batch: Vec<usize>,
    pub ranges: Option<Ranges>,
    /// Arguments are drawn from `[-scale, scale]`.
    pub scale: f64,
    /// Tolerance in units of rounding of the largest result.
    pub tolerance: f64,
    /// May the compiler not spill its registers?
    pub small: bool,
}

impl Witness {
    fn new(
        name: &str,
        b: &Builder,
        root: Ex<'_>,
        weight: Option<Ex<'_>>,
        reduction: &'static ReductionDef,
        k: usize,
    ) -> Witness {
        let graph = b.graph().clone();
        let (formula, weight) = (root.id, weight.map(|w| w.id));
        let roots: Vec<NodeId> = std::iter::once(formula).chain(weight).collect();
        let vars = graph.variables(&roots);
        let names = vars.iter().map(|v| format!("v{}", v.index)).collect();
        let spec = ReduceSpec {
            formula,
            weight,
            reduction,
            k,
            axis: Axis::J,
            vars,
            names,
            dtype: DType::F32,
            options: ReduceOptions::default(),
            graph: Arc::new(graph),
        };
        Witness {
            name: name.into(),
            spec,
            rows: [37, 70],
            batch: vec![],
            ranges: None,
            scale: 1.0,
            tolerance: 100.0,
            small: true,
        }
    }
    fn options(mut self, accumulate: Option<DType>, scheme: Scheme) -> Self {
        self.spec.options = ReduceOptions { accumulate, scheme };
        self
    }
    fn dtype(mut self, dtype: DType) -> Self {
        self.spec.dtype = dtype;
        self
    }
    fn axis(mut self, axis: Axis) -> Self {
        self.spec.axis = axis;
        self
    }
    fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }
    fn rows(mut self, m: usize, n: usize) -> Self {
        self.rows = [m, n];
        self
    }
    fn large(mut self) -> Self {
        self.small = false;
        self
    }
}

fn var(b: &Builder, index: u32, dim: usize, category: Category) -> Ex<'_> {
    b.var(Var { index, dim, category })
}
fn call<'g>(name: &str, x: &[Ex<'g>], l: &[Literal]) -> Ex<'g> {
    (composite::by_name(name).unwrap().build)(x, l).unwrap()
}
fn sq_dist(b: &Builder, d: usize) -> (Ex<'_>, Ex<'_>, Ex<'_>) {
    let (x, y) = (var(b, 0, d, Category::I), var(b, 1, d, Category::J));
    (call("SqDist", &[x, y], &[]), x, y)
}
fn gaussian(b: &Builder, d: usize, e: usize) -> (Ex<'_>, Ex<'_>) {
    let (s, x, _) = sq_dist(b, d);
    let (w, g) = (var(b, 2, e, Category::J), var(b, 3, 1, Category::Param));
    ((-(g * g) * s).un(&ops::EXP) * w, x)
}

/// The ten witness formulas, some in several variants.
pub fn all() -> Vec<Witness> {
    let mut out = vec![];
    // 1, 2, 3: Gaussians with gradient and Hessian-vector product.
    for d in [3, 50, 4096] {
        let b = Builder::default();
        let (f, x) = gaussian(&b, d, if d == 50 { 2 } else { 1 });
        let g = autodiff::vjp(f, var(&b, 5, f.dim(), Category::I), &[x])[0].unwrap();
        let h = autodiff::vjp(g.dot(var(&b, 6, d, Category::I)), b.lit(1.0), &[x])[0].unwrap();
        for (name, root) in [("", f), (" gradient", g), (" hessian", h)] {
            let w = Witness::new(&format!("gaussian {d}{name}"), &b, root, None, &reduce::SUM, 1);
            let w = w.scale((3.0 / d as f64).sqrt().min(1.0));
            let w = Witness { tolerance: 400.0, ..w };
            match d {
                3 => {
                    out.push(Witness {
                        name: format!("{} over i", w.name),
                        ..w.clone().axis(Axis::I)
                    });
                    out.push(w);
                }
                50 => out.push(w.large()),
                _ => out.push(w.rows(3, 5).large()),
            }
        }
    }
    // A signal of many components, and no variable of the reduced rows.
    let b = Builder::default();
    let f = gaussian(&b, 3, 40).0;
    out.push(Witness::new("wide signal", &b, f, None, &reduce::SUM, 1).large());
    let b = Builder::default();
    let f = var(&b, 0, 2, Category::I) + b.node(keops_core::graph::Node::Index(Category::I));
    out.push(Witness::new("kept only", &b, f, None, &reduce::SUM, 1));
    let b = Builder::default();
    let f = var(&b, 0, 2, Category::J) * b.node(keops_core::graph::Node::Index(Category::J));
    out.push(Witness::new("reduced only", &b, f, None, &reduce::SUM, 1));
    // 4: log-sum-exp and its derivatives, which are sums.
    for scale in [1.0, 30.0] {
        let b = Builder::default();
        let (s, x, _) = sq_dist(&b, 3);
        let f = -s;
        let w = var(&b, 2, 2, Category::J).un(&ops::ABS);
        let name = |n: &str| format!("{n}, scale {scale}");
        out.push(
            Witness::new(&name("log-sum-exp"), &b, f, None, &reduce::LOG_SUM_EXP, 1).scale(scale),
        );
        out.push(
            Witness::new(&name("weighted"), &b, f, Some(w), &reduce::LOG_SUM_EXP, 1).scale(scale),
        );
        out.push(
            Witness::new(&name("softmax"), &b, f, Some(w), &reduce::SUM_SOFT_MAX_WEIGHT, 1)
                .scale(scale),
        );
        let Family::Accumulate(a) = &reduce::LOG_SUM_EXP.kind else { unreachable!() };
        let psi = (a.linearise)(f, None, var(&b, 3, 1, Category::I), None);
        let first = autodiff::vjp(psi, b.lit(1.0), &[x])[0].unwrap();
        let second =
            autodiff::vjp(first.dot(var(&b, 4, 3, Category::I)), b.lit(1.0), &[x])[0].unwrap();
        if scale == 1.0 {
            out.push(Witness::new(
                "log-sum-exp, second derivative",
                &b,
                second,
                None,
                &reduce::SUM,
                1,
            ));
        }
    }
    // 5: selections.
    let b = Builder::default();
    let (s, x, y) = sq_dist(&b, 3);
    for reduction in reduce::ALL {
        let Family::Select(select) = reduction.kind else { continue };
        for k in if select.many { vec![1, 10, 100] } else { vec![1] } {
            let w = Witness::new(&format!("{} {k}", reduction.name), &b, s, None, reduction, k);
            out.push(if k > 10 { w.large() } else { w });
        }
        let w =
            Witness::new(&format!("{} of vectors", reduction.name), &b, x - y, None, reduction, 3);
        out.push(w.axis(Axis::I));
    }
    let b = Builder::default();
    let (_, x, y) = sq_dist(&b, 20);
    out.push(
        Witness::new("ArgKMin of long vectors", &b, x - y, None, &reduce::K_MIN_ARG_K_MIN, 5)
            .large(),
    );
    // Nothing but infinite and NaN keys: log of squares that are often 0, and of negative numbers.
    let b = Builder::default();
    let (_, x, y) = sq_dist(&b, 1);
    let zero = ((x - y) * 0.0).un(&ops::ABS).un(&ops::LOG);
    let some = (x + y - 0.5).un(&ops::LOG);
    for (name, f) in
        [("infinite keys", zero), ("NaN keys", some), ("infinite keys, largest", -zero)]
    {
        for reduction in [&reduce::MIN_ARG_MIN, &reduce::MAX_ARG_MAX, &reduce::K_MIN_ARG_K_MIN] {
            out.push(Witness::new(
                &format!("{name} {}", reduction.name),
                &b,
                f,
                None,
                reduction,
                4,
            ));
        }
    }
    // 6: schemes and types of accumulation.
    let b = Builder::default();
    let f = gaussian(&b, 3, 2).0;
    let (s, ..) = sq_dist(&b, 3);
    for scheme in [Scheme::Block, Scheme::Direct, Scheme::Kahan] {
        for accumulate in [None, Some(DType::F64)] {
            let name = format!("{scheme:?} {accumulate:?}");
            out.push(
                Witness::new(&name, &b, f, None, &reduce::SUM, 1)
                    .options(accumulate, scheme)
                    .rows(20, 700),
            );
            let w =
                Witness::new(&format!("{name} log-sum-exp"), &b, -s, None, &reduce::LOG_SUM_EXP, 1);
            out.push(w.options(accumulate, scheme).rows(20, 700));
        }
    }
    // Sums of a block are whole numbers that are exact in f32, totals are not: what they lose is
    // kept, so that the result is the nearest number to the exact one.
    let b = Builder::default();
    let f = (var(&b, 0, 1, Category::J) * 1000.0).un(&ops::FLOOR) + 60000.0;
    let w = Witness::new("compensated totals", &b, f, None, &reduce::SUM, 1).rows(2, 5130);
    out.push(Witness { tolerance: 0.6, ..w });
    // 7: a table and its gradient.
    let b = Builder::default();
    let (t, x) = (var(&b, 0, 35, Category::Param), var(&b, 1, 1, Category::I));
    let (y, w) = (var(&b, 2, 1, Category::J), var(&b, 3, 1, Category::J));
    let at = (x * 3.0 + 3.0).un(&ops::FLOOR) * 5.0 + (y * 2.5 + 2.5).un(&ops::FLOOR);
    let f = at.gather(t) * w;
    let table = autodiff::vjp(f, var(&b, 4, 1, Category::I), &[t])[0].unwrap();
    let squared = at.gather(t * t) * w;
    out.push(Witness::new("gather", &b, f, None, &reduce::SUM, 1));
    out.push(Witness::new("gather from derived values", &b, squared, None, &reduce::SUM, 1));
    out.push(
        Witness::new("gather, gradient of the table", &b, table, None, &reduce::SUM, 1).large(),
    );
    // 8: soft-DTW.
    let b = Builder::default();
    let (x, y) = (var(&b, 0, 20, Category::I), var(&b, 1, 20, Category::J));
    let gamma = var(&b, 2, 1, Category::Param);
    let f = call("SoftDTW_SqDist", &[x, y, gamma * gamma + 0.1], &[]);
    let w = Witness::new("soft-DTW", &b, f, None, &reduce::SUM, 1).rows(7, 9).large();
    out.push(Witness { tolerance: 1e4, ..w });
    // 9: storage and accumulation types.
    let b = Builder::default();
    let f = gaussian(&b, 3, 1).0;
    for dtype in [DType::F16, DType::BF16] {
        out.push(
            Witness::new(&format!("{dtype:?} storage"), &b, f, None, &reduce::SUM, 1).dtype(dtype),
        );
    }
    let w = Witness::new("f16 accumulation", &b, f, None, &reduce::SUM, 1).dtype(DType::F16);
    // The order of additions decides roundings to 11 bits.
    out.push(Witness { tolerance: 70.0 * 4096.0, ..w.options(Some(DType::F16), Scheme::Direct) });
    // 10: batches and ranges.
    let mask: Vec<bool> = (0..12).map(|k| k % 3 != 1).collect();
    let b = Builder::default();
    let (s, ..) = sq_dist(&b, 3);
    let g = var(&b, 3, 1, Category::Param);
    for reduction in
        [&reduce::SUM, &reduce::MIN_ARG_MIN, &reduce::K_MIN_ARG_K_MIN, &reduce::LOG_SUM_EXP]
    {
        let f = g * s;
        for axis in [Axis::J, Axis::I] {
            let mut w = Witness::new(
                &format!("ranges {} {axis:?}", reduction.name),
                &b,
                f,
                None,
                reduction,
                5,
            )
            .axis(axis);
            w.rows = [650, 70];
            w.batch = vec![2, 3];
            // Of 650 rows 590 meet nothing or little: tiles end at blocks.
            w.ranges = Some(Ranges::from_clusters(&[20, 21, 600], &[5, 5, 40, 64], &mask).unwrap());
            out.push(w);
        }
    }
    // Sizes at the edges of tiles and blocks.
    for (m, n) in [(0, 5), (5, 0), (1, 1), (128, 8), (513, 257), (129, 1030)] {
        let b = Builder::default();
        let (s, ..) = sq_dist(&b, 2);
        out.push(Witness::new(&format!("sum {m} x {n}"), &b, s, None, &reduce::SUM, 1).rows(m, n));
        out.push(
            Witness::new(&format!("log-sum-exp {m} x {n}"), &b, s, None, &reduce::LOG_SUM_EXP, 1)
                .rows(m, n),
        );
        out.push(
            Witness::new(&format!("argkmin {m} x {n}"), &b, s, None, &reduce::K_MIN_ARG_K_MIN, 3)
                .rows(m, n),
        );
    }
    // Every operation of the table, and every fold.
    for op in ops::ALL {
        let b = Builder::default();
        let (low, high) = op.domain;
        let (x, y) = (var(&b, 0, 2, Category::I), var(&b, 1, 2, Category::J));
        // Between the ends of the domain, whatever the pair.
        let operands = [(x, y), (y, x * 0.5), (x * 0.25, y)]
            .map(|(u, v)| (u + v) * ((high - low) / 4.0) + (high + low) / 2.0);
        let f = Ex::apply(op, &operands[..op.arity]);
        let w = Witness::new(&format!("operation {}", op.name), &b, f, None, &reduce::SUM, 1);
        out.push(Witness { tolerance: 300.0, ..w });
    }
    for d in [5, 30] {
        let b = Builder::default();
        let (_, x, y) = sq_dist(&b, d);
        let folds =
            [FoldOp::Min, FoldOp::Max, FoldOp::ArgMin, FoldOp::ArgMax].map(|f| (x * y).fold(f));
        out.push(Witness::new(
            &format!("folds {d}"),
            &b,
            Ex::concat(&folds),
            None,
            &reduce::SUM,
            1,
        ));
    }
    out
}

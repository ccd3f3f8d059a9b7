//! From formulas to graphs, gradients and programs, as text. A file of `golden_text/` starts with
//! what is computed, one `key: value` a line; the rest is compared with what comes out, and is
//! rewritten where `KEOPS_BLESS=1` is set. A new case is a file with its first lines.
//!
//! The witness formulas are among them (of the batch with ranges, nothing would show: a program
//! does not know of either; soft-DTW is shorter).

use keops_core::data::DType;
use keops_core::graph::{Graph, NodeId};
use keops_core::lower::{LowerOptions, lower};
use keops_core::outer::{Computation, OuterNode};
use keops_core::parse::parse_formula;
use keops_core::program::Program;
use keops_core::reduce;
use keops_core::spec::{Axis, ReduceOptions, Scheme};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The first lines of a file.
struct Header<'t>(BTreeMap<&'t str, &'t str>);

impl<'t> Header<'t> {
    fn get(&self, key: &str, default: &'t str) -> &'t str {
        self.0.get(key).copied().unwrap_or(default)
    }
    fn list(&self, key: &str, separator: char) -> Vec<&'t str> {
        self.get(key, "").split(separator).map(str::trim).filter(|s| !s.is_empty()).collect()
    }
}

fn dtype(name: &str) -> DType {
    let all = [DType::F16, DType::BF16, DType::F32, DType::F64];
    all.into_iter().find(|d| d.name() == name).unwrap_or_else(|| panic!("no dtype {name}"))
}

/// The programs of the reductions of a computation.
fn programs(out: &mut String, c: &Computation, h: &Header<'_>) {
    let roots: Vec<_> = c.outputs().iter().map(|o| o.port).collect();
    for id in c.graph().live(&roots) {
        let OuterNode::Reduce(r) = c.graph().node(id) else { continue };
        writeln!(out, "## #{}: {} over {:?}", id.0, r.reduction.name, r.axis).unwrap();
        let names = r.bindings.iter().map(|(v, _)| format!("v{}", v.index)).collect();
        let options = LowerOptions {
            expand: h.get("expand", "no") == "yes",
            factor_sums: true,
            ..Default::default()
        };
        let p = lower(&r.spec(dtype(h.get("dtype", "f32")), names), options).unwrap();
        let text = p.to_string();
        let back: Program = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert!(back == p && back.to_string() == text, "{text}");
        out.push_str(&text);
    }
}

fn case(h: &Header<'_>) -> String {
    let weight = h.0.get("weight").copied();
    let f = parse_formula(h.get("formula", ""), weight, &h.list("aliases", ';'))
        .unwrap_or_else(|e| panic!("{e}"));
    let reduction = reduce::by_name(h.get("reduction", "Sum")).unwrap();
    let axis = if h.get("axis", "J") == "J" { Axis::J } else { Axis::I };
    let k = h.get("k", "1").parse().unwrap();
    let options = ReduceOptions {
        accumulate: h.0.get("accumulate").map(|a| dtype(a)),
        scheme: match h.get("scheme", "block") {
            "Kahan" => Scheme::Kahan,
            "direct" => Scheme::Direct,
            _ => Scheme::Block,
        },
    };
    let mut c = Computation::reduction(f, reduction, k, axis).unwrap().with_options(options);
    let mut out = format!("# value\n{}", c.graph());
    programs(&mut out, &c, h);
    for step in h.list("derive", ',') {
        let (mode, name) = step.split_once(' ').unwrap();
        c = if mode == "jvp" { c.jvp(&[name]) } else { c.vjp(&[name]) }.unwrap();
        write!(out, "\n# {step}\n{}", c.graph()).unwrap();
        programs(&mut out, &c, h);
    }
    out
}

#[test]
fn golden_text() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_text");
    let bless = std::env::var_os("KEOPS_BLESS").is_some_and(|v| v == "1");
    let mut paths: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "cases are missing: {paths:?}");
    let mut different = vec![];
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let head: Vec<&str> =
            text.lines().take_while(|l| !l.is_empty() && !l.starts_with('#')).collect();
        let pairs = head.iter().map(|l| l.split_once(": ").expect("lines are `key: value`"));
        let made = format!("{}\n\n{}", head.join("\n"), case(&Header(pairs.collect())));
        if made == text {
            continue;
        }
        if bless {
            fs::write(&path, &made).unwrap();
        } else {
            let line = made.lines().zip(text.lines()).position(|(a, b)| a != b);
            let at = line.unwrap_or(made.lines().count().min(text.lines().count()));
            let got = made.lines().nth(at).unwrap_or("the end");
            different.push(format!("{}:{}: now {got}", path.display(), at + 1));
        }
    }
    assert!(
        different.is_empty(),
        "differences (KEOPS_BLESS=1 accepts them):\n{}",
        different.join("\n")
    );
}

/// Instructions of all sections.
fn size(p: &Program) -> usize {
    p.sections().iter().map(|(_, s)| s.insts.len()).sum()
}

#[test]
fn programs_do_not_grow_with_the_dimension() {
    let sizes = |d: usize| {
        let aliases = [format!("x = Vi({d})"), format!("y = Vj({d})"), "b = Vj(1)".into()];
        let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
        let f = parse_formula("Exp(-SqDist(x, y)) * b", None, &aliases).unwrap();
        let value = Computation::reduction(f, &reduce::SUM, 1, Axis::J).unwrap();
        let gradient = value.vjp(&["x"]).unwrap();
        let hessian = gradient.jvp(&["x"]).unwrap();
        let count = |c: &Computation| -> Vec<(usize, usize)> {
            let roots: Vec<_> = c.outputs().iter().map(|o| o.port).collect();
            let graph = c.graph();
            let reductions = graph.live(&roots).into_iter().filter_map(|id| match graph.node(id) {
                OuterNode::Reduce(r) => Some(r),
                _ => None,
            });
            let one = |r: &keops_core::outer::Reduction| {
                let names = vec![String::new(); r.bindings.len()];
                let options = LowerOptions { expand: true, ..Default::default() };
                let p = lower(&r.spec(DType::F32, names), options).unwrap();
                (live(&r.graph, &r.roots()), size(&p))
            };
            reductions.map(one).collect()
        };
        [count(&value), count(&gradient), count(&hessian)]
    };
    // (Beyond a block of components there is a loop of blocks, and one of what is left.)
    assert_eq!(sizes(50), sizes(200));
    assert_eq!(sizes(512), sizes(4096));
}

fn live(g: &Graph, roots: &[NodeId]) -> usize {
    g.live(roots).len()
}

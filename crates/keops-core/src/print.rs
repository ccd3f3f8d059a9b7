//! The text form of formulas.

use crate::graph::{Graph, Node, NodeId};
use std::collections::HashMap;
use std::fmt::Write;

/// The nodes that `roots` need, one a line, renumbered from 0.
///
/// ```
/// use keops_core::{parse::parse_formula, print};
/// let f = parse_formula("Square(x + 1)", None, &["x = Vi(3)"])?;
/// let text = print::nodes(&f.graph, &[f.root]);
/// assert_eq!(text.lines().next(), Some("%0: 3 = Vi(0, 3)")); // its dimension is 3
/// assert!(text.ends_with("root %3\n"), "{text}");
/// # Ok::<(), keops_core::error::ParseError>(())
/// ```
pub fn nodes(graph: &Graph, roots: &[NodeId]) -> String {
    let mut place: HashMap<NodeId, usize> = HashMap::new();
    let mut s = String::new();
    for (k, id) in graph.live(roots).into_iter().enumerate() {
        place.insert(id, k);
        let p = |a: &NodeId| format!("%{}", place[a]);
        let list = |v: &[NodeId]| v.iter().map(p).collect::<Vec<_>>().join(", ");
        let text = match graph.node(id) {
            Node::Var(v) => format!("{}({}, {})", v.category.keyword(), v.index, v.dim),
            Node::Const(bits) => format!("const {:?} #{bits:016x}", f64::from_bits(*bits)),
            Node::Index(c) => format!("index {}", c.keyword()),
            Node::Iota(d) => format!("iota {d}"),
            Node::Map { op, args } => format!("{} {}", op.name, list(args)),
            Node::Contract { extents, operands, out } => {
                let o: Vec<_> =
                    operands.iter().map(|o| format!("{}{:?}", p(&o.node), o.axes)).collect();
                format!("contract {extents:?} {} -> {out:?}", o.join(" "))
            }
            Node::Pick { x, start, step, len } => format!("pick {} {start}+{step}k<{len}", p(x)),
            Node::Put { x, start, step, dim } => format!("put {} {start}+{step}k of {dim}", p(x)),
            Node::Concat(parts) => format!("concat {}", list(parts)),
            Node::Fold { op, x } => format!("fold {op:?} {}", p(x)),
            Node::Gather { table, index } => format!("gather {}[{}]", p(table), p(index)),
        };
        let _ = writeln!(s, "%{k}: {} = {text}", graph.dim(id));
    }
    for r in roots {
        let _ = writeln!(s, "root %{}", place[r]);
    }
    s
}

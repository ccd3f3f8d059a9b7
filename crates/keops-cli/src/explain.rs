//! `keops explain`: what becomes of a formula.

use crate::data::TypeName;
use crate::failure::{About, Done};
use crate::inputs::{Reduction, declared};
use crate::session::{Genred, Session, say};
use keops::data::DType;
use keops::graph::{Graph, Node, NodeId, for_each_arg};
use keops::outer::{OuterId, OuterNode};
use serde_json::json;
use std::fmt::Write;

const EXAMPLES: &str = "\
Examples:
  keops explain 'Exp(-SqDist(x, y)) * b' 'x = Vi(3)' 'y = Vj(3)' 'b = Vj(1)'
  keops explain 'Exp(-SqDist(x, y)) * b' 'x = Vi(3)' 'y = Vj(3)' 'b = Vj(1)' \\
      --gradient x --dot | dot -Tsvg > gradient.svg";

/// Show the graph, the program, the plan and the machine code of a formula
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Command {
    /// Formula in the syntax of KeOps
    #[arg(allow_hyphen_values = true)]
    formula: String,
    /// Its variables: \"x = Vi(3)\", \"y = Vj(3)\", \"p = Pm(1)\"
    #[arg(value_name = "ALIAS")]
    aliases: Vec<String>,
    #[command(flatten)]
    reduction: Reduction,
    /// Explain the gradient in this variable; again for higher derivatives
    #[arg(long, value_name = "NAME")]
    gradient: Vec<String>,
    /// Type of the arrays
    #[arg(long, value_enum, default_value_t = TypeName::F32, value_name = "TYPE")]
    dtype: TypeName,
    /// The graph alone, in the language of Graphviz
    #[arg(long)]
    dot: bool,
}

pub fn run(c: &Command, session: &Session) -> Done {
    let mut f = c.reduction.of(&c.formula, &declared(&c.aliases)?)?;
    for name in &c.gradient {
        f = f.vjp(name).about(format!("--gradient {name}"))?;
    }
    if c.dot {
        return say(&dot(&f));
    }
    let text = f.explain(DType::from(c.dtype))?;
    let arguments: Vec<&str> = f.arguments().collect();
    let json = json!({"formula": c.formula, "arguments": arguments, "explanation": text});
    session.report(&json, &text)
}

/// The computation as a graph: a box for each reduction, with the nodes of its formula in it.
fn dot(f: &Genred) -> String {
    let computation = f.computation();
    let graph = computation.graph();
    let names: Vec<&str> = f.arguments().collect();
    let ports: Vec<_> = computation.outputs().iter().map(|o| o.port).collect();
    let mut s = String::from("digraph keops {\n  node [fontname=\"sans-serif\"];\n");
    // Writing to a string does not fail.
    for id in graph.live(&ports) {
        let OuterId(k) = id;
        match graph.node(id) {
            OuterNode::Input { slot, category, dim } => {
                let name = names.get(*slot).copied().unwrap_or("?");
                let label = format!("{name} = {}({dim})", category.keyword());
                let _ = writeln!(s, "  o{k} [shape=box, label=\"{}\"];", escaped(&label));
            }
            OuterNode::Reduce(r) => {
                let title = format!("{} over {:?}", r.reduction.name, r.axis);
                let _ = writeln!(s, "  subgraph cluster{k} {{\n    label=\"{}\";", escaped(&title));
                let mut roots = vec![r.formula];
                roots.extend(r.weight);
                nodes(&mut s, k, &r.graph, &roots);
                let _ = writeln!(s, "    o{k} [shape=doubleoctagon, label=\"{}\"];\n  }}", title);
                for root in roots {
                    let _ = writeln!(s, "  n{k}_{} -> o{k};", root.0);
                }
                bindings(&mut s, k, &r.graph, &r.bindings);
            }
            OuterNode::RowMap(m) => {
                let _ = writeln!(s, "  subgraph cluster{k} {{\n    label=\"each row\";");
                nodes(&mut s, k, &m.graph, &[m.root]);
                let _ = writeln!(s, "    o{k} [shape=octagon, label=\"each row\"];\n  }}");
                let _ = writeln!(s, "  n{k}_{} -> o{k};", m.root.0);
                bindings(&mut s, k, &m.graph, &m.bindings);
            }
            other => {
                let text = format!("{other:?}");
                let end = text.find([' ', '(', '{']).unwrap_or(text.len());
                let _ = writeln!(s, "  o{k} [shape=octagon, label=\"{}\"];", escaped(&text[..end]));
                for p in other.operands() {
                    let _ = writeln!(s, "  o{} -> o{k};", p.node.0);
                }
            }
        }
    }
    s.push_str("}\n");
    s
}

/// The nodes that roots need, with their edges.
fn nodes(s: &mut String, k: u32, graph: &Graph, roots: &[NodeId]) {
    for id in graph.live(roots) {
        let node = graph.node(id);
        let label = match node {
            Node::Var(v) => format!("{}({}, {})", v.category.keyword(), v.index, v.dim),
            Node::Const(bits) => format!("{:?}", f64::from_bits(*bits)),
            Node::Index(c) => c.keyword().to_string(),
            Node::Iota(d) => format!("0 … {}", d.saturating_sub(1)),
            Node::Map { op, .. } => op.name.to_string(),
            Node::Contract { .. } => "Contract".into(),
            Node::Pick { start, len, .. } => format!("Pick {start}, {len}"),
            Node::Put { start, dim, .. } => format!("Put {start}, {dim}"),
            Node::Concat(_) => "Concat".into(),
            Node::Fold { op, .. } => format!("{op:?}"),
            Node::Gather { .. } => "Gather".into(),
        };
        let dim = graph.dim(id);
        let _ = writeln!(s, "    n{k}_{} [label=\"{}\\ndim {dim}\"];", id.0, escaped(&label));
        for_each_arg(node, |a| {
            let _ = writeln!(s, "    n{k}_{} -> n{k}_{};", a.0, id.0);
        });
    }
}

/// What variables stand for.
fn bindings(
    s: &mut String,
    k: u32,
    graph: &Graph,
    all: &[(keops::graph::Var, keops::outer::Port)],
) {
    for n in 0..graph.len() {
        let Node::Var(v) = graph.node(NodeId(n as u32)) else { continue };
        if let Some((_, port)) = all.iter().find(|(own, _)| own == v) {
            let _ = writeln!(s, "  o{} -> n{k}_{n};", port.node.0);
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

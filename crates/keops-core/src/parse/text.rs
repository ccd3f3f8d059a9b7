//! Formulas written as text that reads back as the same graph.

use super::lexer::is_name;
use super::{MAX_DEPTH, SIGN, inline_name, strength};
use crate::graph::{Category, FoldOp, Graph, Node, NodeId, Operand, Var, for_each_arg};
use crate::ops::OpDef;
use crate::outer::Formula;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// A formula as text: what [`super::parse_formula`] takes.
///
/// ```
/// use keops_core::parse::{FormulaText, parse_formula};
/// let text = parse_formula("x * x", None, &["x = Vi(3)"])?.to_text();
/// let aliases = vec!["x = Vi(0, 3)".to_string()];
/// assert_eq!(text, FormulaText { formula: "x * x".into(), weight: None, aliases });
/// # Ok::<(), keops_core::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormulaText {
    /// The formula.
    pub formula: String,
    /// The weight, if there is one.
    pub weight: Option<String>,
    /// A declaration for each variable, in the order of arguments.
    pub aliases: Vec<String>,
}

impl Formula {
    /// As text. Values that occur several times are defined first: `t0 = …; `. Reading it gives
    /// the same graph, with variables numbered in the order of arguments.
    ///
    /// ```
    /// use keops_core::{genred::Reference, lazy::LazyTensor, parse::parse_formula};
    /// let x = LazyTensor::<f64, Reference>::vi(ndarray::array![[1.0, 2.0]]);
    /// let text = (&x * LazyTensor::constant(3.0)).exp().formula()?.to_text();
    /// assert_eq!(
    ///     (text.formula.as_str(), &text.aliases[..]),
    ///     ("Exp(v0 * 3)", &["v0 = Vi(0, 2)".into()][..])
    /// );
    /// assert_eq!(parse_formula(&text.formula, None, &["v0 = Vi(0, 2)"])?.to_text(), text);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn to_text(&self) -> FormulaText {
        let names = self.printable_names();
        let aliases = self.vars.iter().zip(&names).enumerate().map(|(k, (v, name))| {
            let declared = format!("{}({k}, {})", v.category.keyword(), v.dim);
            if is_name(name) { format!("{name} = {declared}") } else { declared }
        });
        FormulaText {
            formula: self.write(self.root, &names),
            weight: self.weight.map(|w| self.write(w, &names)),
            aliases: aliases.collect(),
        }
    }
    /// Names as declared; a variable whose name is none, or hides another, is written on the spot.
    fn printable_names(&self) -> Vec<String> {
        let roots: Vec<_> = std::iter::once(self.root).chain(self.weight).collect();
        let live = self.graph.live(&roots);
        let uses = |hidden: &str| {
            live.iter().any(|&id| match self.graph.node(id) {
                Node::Index(Category::I) => hidden == "i",
                Node::Index(Category::J) => hidden == "j",
                Node::Const(bits) if !f64::from_bits(*bits).is_finite() => {
                    hidden == "Inf" || hidden == "NaN"
                }
                _ => false,
            })
        };
        let unique = |name: &String| self.names.iter().filter(|n| *n == name).count() == 1;
        let name = |(k, (name, v)): (usize, (&String, &Var))| {
            if is_name(name) && unique(name) && !uses(name) {
                name.clone()
            } else {
                inline_name(Var { index: k as u32, ..*v })
            }
        };
        self.names.iter().zip(&self.vars).enumerate().map(name).collect()
    }
    fn write(&self, root: NodeId, names: &[String]) -> String {
        let names = self.vars.iter().copied().zip(names.iter().map(String::as_str)).collect();
        Writer { graph: &self.graph, names }.write(root)
    }
}

impl fmt::Display for Formula {
    /// The formula without its weight; see [`Formula::to_text`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.write(self.root, &self.printable_names()))
    }
}

/// Text of a value, how strongly it binds, and how deep it nests.
#[derive(Clone)]
struct Piece {
    text: String,
    strength: u8,
    depth: usize,
}
/// Binding strength of names, calls and brackets.
const PRIMARY: u8 = 7;

struct Writer<'f> {
    graph: &'f Graph,
    names: HashMap<Var, &'f str>,
}

impl Writer<'_> {
    fn write(&self, root: NodeId) -> String {
        let live = self.graph.live(&[root]);
        let mut uses: HashMap<NodeId, usize> = HashMap::new();
        for &id in &live {
            let node = self.graph.node(id);
            let mut add = |a| *uses.entry(a).or_default() += 1;
            match squared(node) {
                Some(a) => add(a),
                None => for_each_arg(node, add),
            }
        }
        let taken: HashSet<&str> = self.names.values().copied().collect();
        let mut fresh = (0..).map(|k| format!("t{k}")).filter(|n| !taken.contains(n.as_str()));
        let mut pieces: HashMap<NodeId, Piece> = HashMap::new();
        let mut out = String::new();
        for id in live {
            let mut piece = self.piece(self.graph.node(id), &pieces);
            let leaf = matches!(
                self.graph.node(id),
                Node::Var(_) | Node::Const(_) | Node::Index(_) | Node::Iota(_)
            );
            let deep = piece.depth + 4 > MAX_DEPTH;
            let shared = uses.get(&id).is_some_and(|&n| n > 1);
            if id != root
                && !leaf
                && (shared || deep)
                && let Some(name) = fresh.next()
            {
                out += &format!("{name} = {}; ", piece.text);
                piece = Piece { text: name, strength: PRIMARY, depth: 0 };
            }
            pieces.insert(id, piece);
        }
        out + &pieces[&root].text
    }

    fn piece(&self, node: &Node, pieces: &HashMap<NodeId, Piece>) -> Piece {
        let p = |id: &NodeId| &pieces[id];
        // An operand takes up to two levels of the reader: its own and a parenthesis.
        let mut depth = 0;
        for_each_arg(node, |a| depth = depth.max(p(&a).depth + 2));
        let made = |strength: u8, text: String| Piece { text, strength, depth };
        let tight = |id: &NodeId, least: u8| {
            let piece = p(id);
            if piece.strength < least { format!("({})", piece.text) } else { piece.text.clone() }
        };
        let call = |name: &str, args: &[NodeId]| {
            let args: Vec<&str> = args.iter().map(|a| p(a).text.as_str()).collect();
            made(PRIMARY, format!("{name}({})", args.join(", ")))
        };
        match node {
            Node::Var(v) => {
                let name = self.names.get(v);
                made(PRIMARY, name.map_or_else(|| inline_name(*v), |n| n.to_string()))
            }
            Node::Const(bits) => number(f64::from_bits(*bits)),
            Node::Index(Category::J) => made(PRIMARY, "j".into()),
            Node::Index(_) => made(PRIMARY, "i".into()),
            Node::Iota(d) => made(PRIMARY, format!("Iota({d})")),
            Node::Map { op, args } => match (operator(op), &args[..]) {
                (Some("-"), [a]) => made(SIGN, format!("-{}", tight(a, SIGN))),
                (Some(symbol), [a, b]) => match strength(symbol) {
                    Some(s) => {
                        // Operators group from the left; comparisons do not chain at all.
                        let left = s + (s == super::COMPARISON) as u8;
                        made(s, format!("{} {symbol} {}", tight(a, left), tight(b, s + 1)))
                    }
                    None => call(op.name, args),
                },
                _ => call(op.name, args),
            },
            Node::Contract { extents, operands, out } => match (&operands[..], &out[..]) {
                ([a], []) if a.axes == [0] && extents.len() == 1 => call("Sum", &[a.node]),
                ([a, b], []) if a.axes == [0] && b.axes == [0] && extents.len() == 1 => {
                    if let Some(x) = squared(node) {
                        return call("SqNorm2", &[x]);
                    }
                    made(2, format!("{} | {}", tight(&a.node, 2), tight(&b.node, 3)))
                }
                ([a], [0]) if a.axes.is_empty() && extents.len() == 1 => {
                    made(PRIMARY, format!("SumT({}, {})", p(&a.node).text, extents[0]))
                }
                _ => {
                    let operand = |o: &Operand| format!("{}, {:?}, ", p(&o.node).text, o.axes);
                    let operands: String = operands.iter().map(operand).collect();
                    made(PRIMARY, format!("Einsum({extents:?}, {operands}{out:?})"))
                }
            },
            Node::Pick { x, start, step, len } => {
                let stop = start + (len - 1) * step + 1;
                let what = match (len, step) {
                    (1, _) => format!("{start}"),
                    (_, 1) => format!("{start}:{stop}"),
                    _ => format!("{start}:{stop}:{step}"),
                };
                made(PRIMARY, format!("{}[{what}]", tight(x, PRIMARY)))
            }
            Node::Put { x, start, step, dim } => {
                let text = &p(x).text;
                made(PRIMARY, format!("Put({text}, {start}, {step}, {dim})"))
            }
            Node::Concat(parts) => {
                let parts: Vec<&str> = parts.iter().map(|a| p(a).text.as_str()).collect();
                made(PRIMARY, format!("[{}]", parts.join(", ")))
            }
            Node::Fold { op, x } => {
                let name = match op {
                    FoldOp::Min => "Min",
                    FoldOp::Max => "Max",
                    FoldOp::ArgMin => "ArgMin",
                    FoldOp::ArgMax => "ArgMax",
                };
                call(name, &[*x])
            }
            Node::Gather { table, index } => call("Gather", &[*table, *index]),
        }
    }
}

/// The vector of which a node is the scalar product with itself.
fn squared(node: &Node) -> Option<NodeId> {
    let Node::Contract { extents, operands, out } = node else { return None };
    match &operands[..] {
        [a, b] if a == b && a.axes == [0] && extents.len() == 1 && out.is_empty() => Some(a.node),
        _ => None,
    }
}

/// The operator of an operation that has one.
fn operator(op: &OpDef) -> Option<&'static str> {
    let pairs: [(&OpDef, &str); 9] = [
        (&crate::ops::ADD, "+"),
        (&crate::ops::SUBTRACT, "-"),
        (&crate::ops::MINUS, "-"),
        (&crate::ops::MULT, "*"),
        (&crate::ops::DIVIDE, "/"),
        (&crate::ops::LESS_THAN, "<"),
        (&crate::ops::LESS_OR_EQUAL, "<="),
        (&crate::ops::EQUAL, "=="),
        (&crate::ops::NOT_EQUAL, "!="),
    ];
    pairs.into_iter().find(|(o, _)| *o == op).map(|(_, s)| s)
}

/// The shortest text that reads back as the same number.
fn number(v: f64) -> Piece {
    let text = match v.abs() {
        a if a.is_nan() => "NaN".into(),
        a if a.is_infinite() => "Inf".into(),
        a => format!("{a:?}").trim_end_matches(".0").to_string(),
    };
    let negative = v.is_sign_negative() && !v.is_nan();
    match negative {
        true => Piece { text: format!("-{text}"), strength: SIGN, depth: 0 },
        false => Piece { text, strength: PRIMARY, depth: 0 },
    }
}

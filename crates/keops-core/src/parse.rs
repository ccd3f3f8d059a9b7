//! Formulas as text, in the syntax of KeOps.
//!
//! ```
//! use keops_core::parse::parse_formula;
//!
//! let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)"];
//! let f = parse_formula("Exp(-g * SqDist(x, y)) * b", None, &aliases)?;
//! assert_eq!(f.graph.dim(f.root), 2);
//! assert_eq!(f.to_string(), "Exp(-g * SqNorm2(x - y)) * b");
//!
//! let e = parse_formula("Exp(-g * SqDist(x, b)) * b", None, &aliases).unwrap_err();
//! assert_eq!(
//!     e.to_string(),
//!     "SqDist: expected operands of one dimension, got dimensions [3, 2]
//! where x has dimension 3 (Vi), b has dimension 2 (Vj)
//!   | Exp(-g * SqDist(x, b)) * b
//!   |          ^^^^^^^^^^^^"
//! );
//! # Ok::<(), keops_core::error::ParseError>(())
//! ```
//!
//! # Grammar
//! From the loosest to the tightest:
//!
//! | syntax | meaning |
//! |---|---|
//! | `d = …; e = …; formula` | definitions for use in what follows |
//! | `a < b`, `<=`, `>`, `>=`, `==`, `!=` | 1 or 0; comparisons do not chain |
//! | `a \| b` | scalar product |
//! | `a + b`, `a - b` | |
//! | `a * b`, `a / b` | |
//! | `-a`, `+a` | so that `-x**2` is `-(x**2)` |
//! | `a ** b` | from the right; `Square` or `Pow` for an integer `b`, `Sqrt` and `Rsqrt` for 0.5 and -0.5, else `Powf` |
//! | `a[2]`, `a[1:3]`, `a[0:6:2]` | components, counted from 0 |
//! | `(a)`, `[a, b]` | grouping; concatenation |
//! | `Exp(a)`, `Pow(a, 3)`, `TensorDot(a, b, [2, 3], (3, 2), Ind(1), Ind(0))` | an operation of [`crate::ops::ALL`] or [`crate::composite::ALL`]: operands, then literal integers and lists |
//! | `Grad(f, v)`, `Diff(f, (v, w), (u, t))` | a gradient whose cotangent is a further variable; the sum of derivatives along several variables |
//! | `x` | a variable that an alias declares: `x = Vi(dim)` or `x = Vi(position, dim)` (one row for each i), `Vj` (for each j), `Pm` (a parameter), `Var(position, dim, category)` with category 0, 1 or 2 |
//! | `Var(0, 3, 0)`, `Vi(0, 3)`, `Vi(3)` | the variable at a position (the next free one), declared on the spot |
//! | `0.5`, `1e-3`, `2`, `Inf`, `NaN`, `IntCst(2)`, `RatCst(1, 3)`, `IntInv(3)`, `Zero(dim)` | constants, exact in the compute type |
//! | `i`, `j` | the row and the column index, unless a variable has that name |
//! | `Iota(d)`, `Put(a, start, step, d)`, `Einsum([2, 3], A, [0, 1], b, [1], [0])` | `0, …, d - 1`; zeros of dimension d with `out[start + k step] = a[k]`; a generalised product: extents of the indices, each operand with its indices, indices of the result |
//!
//! The k-th alias is argument k unless it says another position; positions must be `0, 1, …`
//! without gaps. Variables that the formula does not use are arguments all the same.
//!
//! Any text gives a formula or a [`ParseError`] with the place; brackets, signs and powers nest to
//! a depth of [`MAX_DEPTH`].

mod constructors;
mod forms;
mod lexer;
mod nest;
mod raw;
mod spelling;
mod text;

pub use raw::parse_reduction;
pub use text::FormulaText;

use crate::composite::{self, CompositeDef, Literal};
use crate::error::{DimError, ParseError, Span};
use crate::graph::{
    Builder, Category, Dependence, Ex, Graph, MAX_DIM, MAX_NODES, MAX_TABLE, Node, Var,
};
use crate::ops::{self, OpDef};
use crate::outer::Formula;
use forms::FORMS;
use lexer::{Token, words};
use spelling::closest;
use std::collections::{BTreeMap, HashMap};

/// Deepest nesting of brackets, signs and powers.
///
/// ```
/// use keops_core::parse::{MAX_DEPTH, parse_formula};
/// let nested = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
/// assert!(parse_formula(&nested(MAX_DEPTH / 2), None, &[]).is_ok());
/// let e = parse_formula(&nested(MAX_DEPTH + 1), None, &[]).unwrap_err();
/// assert!(e.message.contains("deep"), "{e}");
/// ```
pub const MAX_DEPTH: usize = 128;
/// Largest number of variables.
const MAX_VARIABLES: usize = 1 << 12;

/// Reads a formula, and for weighted reductions also the weight, of the variables that `aliases`
/// declare. See the [module](self) for the syntax.
///
/// ```
/// use keops_core::parse::parse_formula;
/// let formula =
///     parse_formula("Exp(-SqDist(x, y)) * b", None, &["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"])?;
/// assert_eq!(formula.names, ["x", "y", "b"]);
/// assert_eq!(formula.graph.dim(formula.root), 2);
///
/// let e = parse_formula("x + z", None, &["x = Vi(3)"]).unwrap_err();
/// assert_eq!((e.span.start, e.span.end), (4, 5)); // where z is
/// # Ok::<(), keops_core::error::ParseError>(())
/// ```
///
/// # Errors
/// [`ParseError`] with the place in the formula or alias: unknown names, syntax, operands whose
/// dimensions do not fit, contradictory positions.
pub fn parse_formula(
    text: &str,
    weight: Option<&str>,
    aliases: &[&str],
) -> Result<Formula, ParseError> {
    let builder = Builder::default();
    let mut variables = Variables::from_aliases(aliases)?;
    let root = Parser::new(&builder, text, &mut variables)?.whole()?.id;
    let weight = match weight {
        Some(w) => Some(Parser::new(&builder, w, &mut variables)?.whole()?.id),
        None => None,
    };
    let (vars, names) = variables.in_order(text)?;
    // Literals and everything that was simplified away stay behind.
    let roots: Vec<_> = std::iter::once(root).chain(weight).collect();
    let mut graph = Graph::default();
    let roots = graph.import(&builder.into_graph(), &roots, |_, _| None);
    Ok(Formula { graph: graph.into(), root: roots[0], weight: roots.get(1).copied(), vars, names })
}

/// What is declared so far.
struct Variables {
    by_position: BTreeMap<usize, (String, Var)>,
    by_name: HashMap<String, Var>,
}

impl Variables {
    fn from_aliases(aliases: &[&str]) -> Result<Variables, ParseError> {
        let mut v = Variables { by_position: BTreeMap::new(), by_name: HashMap::new() };
        for (k, alias) in aliases.iter().enumerate() {
            v.alias(k, alias)?;
        }
        Ok(v)
    }
    fn alias(&mut self, number: usize, alias: &str) -> Result<(), ParseError> {
        let builder = Builder::default();
        let mut nothing = Variables { by_position: BTreeMap::new(), by_name: HashMap::new() };
        let mut p = Parser::new(&builder, alias, &mut nothing)?;
        let name = match p.tokens[..] {
            [(Token::Name, name), (Token::Symbol("="), _), ..] => {
                p.at = 2;
                Some((p.slice(name).to_string(), name))
            }
            _ => None,
        };
        let start = p.span();
        let hint = "an alias declares a variable: name = Vi(dim), Vj(dim) or Pm(dim), \
                    or with its position, Vi(position, dim)";
        let keyword = p.slice(start);
        if p.peek() != Token::Name || p.ahead(1) != Token::Symbol("(") {
            return Err(p.error(start, hint));
        }
        p.at += 2;
        let arguments = p.arguments()?;
        let span = Span { start: start.start, end: p.last_end() };
        p.end()?;
        let Some((position, dim, category)) = p.declaration(keyword, &arguments, span)? else {
            return Err(p.error(start, hint));
        };
        let var = Var { index: position.unwrap_or(number) as u32, dim, category };
        match name {
            Some((name, at)) if self.by_name.contains_key(&name) => {
                Err(p.error(at, &format!("a second variable is named `{name}`")))
            }
            Some((name, _)) => {
                self.declare(var, Some(name)).map_err(|m| p.error(span, &m)).map(|_| ())
            }
            None => self.declare(var, None).map_err(|m| p.error(span, &m)).map(|_| ()),
        }
    }
    /// Adds a variable, or finds it if it was declared in the same way.
    fn declare(&mut self, var: Var, name: Option<String>) -> Result<Var, String> {
        let position = var.index as usize;
        if let Some((other, known)) = self.by_position.get(&position) {
            if *known == var && name.is_none() {
                return Ok(var);
            }
            return Err(format!(
                "position {position} belongs to `{other}`, which is {}",
                declaration_text(*known)
            ));
        }
        let name = name.unwrap_or_else(|| inline_name(var));
        self.by_name.insert(name.clone(), var);
        self.by_position.insert(position, (name, var));
        Ok(var)
    }
    fn next_position(&self) -> usize {
        self.by_position.last_key_value().map_or(0, |(p, _)| p + 1)
    }
    /// Variables and names in the order of positions, which must have no gaps.
    fn in_order(&self, text: &str) -> Result<(Vec<Var>, Vec<String>), ParseError> {
        let gap = self.by_position.keys().enumerate().find(|(k, p)| k != *p);
        if let Some((k, _)) = gap {
            return Err(ParseError {
                message: format!("no variable has position {k}: positions must have no gaps"),
                text: text.into(),
                span: Span { start: 0, end: text.len() },
            });
        }
        Ok(self.by_position.values().map(|(name, v)| (*v, name.clone())).unzip())
    }
}

fn declaration_text(v: Var) -> String {
    format!("{}({}, {})", v.category.keyword(), v.index, v.dim)
}
/// How a variable is written on the spot.
fn inline_name(v: Var) -> String {
    format!("Var({}, {}, {})", v.index, v.dim, v.category as u8)
}

/// A piece of a formula.
#[derive(Clone)]
enum Value<'b> {
    /// A formula.
    Formula(Ex<'b>),
    /// `[1, 2]`: a concatenation, or a literal list.
    Brackets(Vec<Located<'b>>),
    /// `(1, 2)` or `Ind(1, 2)`: a literal list.
    Tuple(Vec<Located<'b>>),
}

/// A piece of a formula with its place.
#[derive(Clone)]
struct Located<'b> {
    value: Value<'b>,
    span: Span,
}

impl Located<'_> {
    /// As an integer literal. Beyond 2^53 a number is not exact, and no integer.
    fn integer(&self) -> Option<i64> {
        let Value::Formula(e) = &self.value else { return None };
        let v = e.constant()?;
        (v.fract() == 0.0 && v.abs() <= (1u64 << 53) as f64).then_some(v as i64)
    }
    fn literal(&self) -> Option<Literal> {
        match &self.value {
            Value::Formula(_) => self.integer().map(Literal::Int),
            Value::Brackets(items) | Value::Tuple(items) => {
                items.iter().map(Located::integer).collect::<Option<_>>().map(Literal::List)
            }
        }
    }
}

/// Binding strength of an operator between two operands.
fn strength(symbol: &str) -> Option<u8> {
    Some(match symbol {
        "<" | "<=" | ">" | ">=" | "==" | "!=" => COMPARISON,
        "|" => 2,
        "+" | "-" => 3,
        "*" | "/" => 4,
        "**" => 6,
        _ => return None,
    })
}
const COMPARISON: u8 = 1;
const NO_FORMULA: &str = "a list of numbers is no formula; [a, b] concatenates";
const SIGN: u8 = 5;

struct Parser<'b, 't> {
    builder: &'b Builder,
    text: &'t str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    variables: &'t mut Variables,
    definitions: HashMap<&'t str, Ex<'b>>,
}

impl<'b, 't> Parser<'b, 't> {
    fn new(
        builder: &'b Builder,
        text: &'t str,
        variables: &'t mut Variables,
    ) -> Result<Parser<'b, 't>, ParseError> {
        let tokens = words(text)?;
        let definitions = HashMap::new();
        Ok(Parser { builder, text, tokens, at: 0, depth: 0, variables, definitions })
    }
    fn ahead(&self, n: usize) -> Token {
        self.tokens.get(self.at + n).map_or(Token::End, |(t, _)| *t)
    }
    fn peek(&self) -> Token {
        self.ahead(0)
    }
    /// Place of the next word; the last word is [`Token::End`].
    fn span(&self) -> Span {
        self.tokens[self.at.min(self.tokens.len() - 1)].1
    }
    /// End of the word before.
    fn last_end(&self) -> usize {
        if self.at == 0 { 0 } else { self.tokens[self.at.min(self.tokens.len()) - 1].1.end }
    }
    fn slice(&self, span: Span) -> &'t str {
        &self.text[span.start..span.end]
    }
    fn error(&self, span: Span, message: &str) -> ParseError {
        ParseError { message: message.into(), text: self.text.into(), span }
    }
    /// The next word, which is not what it should be.
    fn unexpected(&self, expected: &str) -> ParseError {
        let got = match self.peek() {
            Token::End => "the end".to_string(),
            _ => format!("`{}`", self.slice(self.span())),
        };
        self.error(self.span(), &format!("expected {expected}, got {got}"))
    }
    fn eat(&mut self, symbol: &'static str) -> bool {
        let yes = self.peek() == Token::Symbol(symbol);
        self.at += yes as usize;
        yes
    }
    fn require(&mut self, symbol: &'static str, expected: &str) -> Result<(), ParseError> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected(expected)) }
    }
    fn end(&self) -> Result<(), ParseError> {
        if self.peek() == Token::End {
            Ok(())
        } else {
            Err(self.unexpected("an operator or the end"))
        }
    }

    /// `d = …; e = …; formula`
    fn whole(&mut self) -> Result<Ex<'b>, ParseError> {
        while self.peek() == Token::Name && self.ahead(1) == Token::Symbol("=") {
            let (name, span) = (self.slice(self.span()), self.span());
            if self.variables.by_name.contains_key(name) || self.definitions.contains_key(name) {
                return Err(self.error(span, &format!("`{name}` is already defined")));
            }
            self.at += 2;
            let value = self.formula(0)?;
            self.definitions.insert(name, value);
            self.require(";", "an operator or `;` after the definition")?;
        }
        let value = self.formula(0)?;
        self.end()?;
        Ok(value)
    }
    fn formula(&mut self, least: u8) -> Result<Ex<'b>, ParseError> {
        let value = self.expression(least)?;
        self.as_formula(&value)
    }
    fn name(&mut self, span: Span) -> Result<Located<'b>, ParseError> {
        let name = self.slice(span);
        let b = self.builder;
        let value = match name {
            _ if self.definitions.contains_key(name) => self.definitions[name],
            _ if self.variables.by_name.contains_key(name) => b.var(self.variables.by_name[name]),
            "i" => b.node(Node::Index(Category::I)),
            "j" => b.node(Node::Index(Category::J)),
            "Inf" => b.lit(f64::INFINITY),
            "NaN" => b.lit(f64::NAN),
            _ => {
                let names = self.variables.by_name.keys().map(String::as_str);
                let near = closest(name, names.chain(self.definitions.keys().copied()));
                let known: Vec<_> =
                    self.variables.by_position.values().map(|(n, _)| n.as_str()).collect();
                let hint = match near {
                    _ if is_operation(name) => format!("the operation is written `{name}(…)`"),
                    Some(n) => format!("did you mean `{n}`?"),
                    None if known.is_empty() => "no variable is declared".into(),
                    None => format!("the variables are {}", known.join(", ")),
                };
                return Err(self.error(span, &format!("unknown variable `{name}`; {hint}")));
            }
        };
        self.made(span.start, value)
    }
    /// A formula that ends before the next word.
    fn made(&self, start: usize, value: Ex<'b>) -> Result<Located<'b>, ParseError> {
        let span = Span { start, end: self.last_end() };
        if self.builder.graph().is_full() {
            return Err(self.error(span, &format!("the formula has more than {MAX_NODES} nodes")));
        }
        if value.dim() > MAX_DIM && !matches!(self.builder.graph().node(value.id), Node::Var(_)) {
            let m = format!("expected at most {MAX_DIM} components, got {}", value.dim());
            return Err(self.error(span, &m));
        }
        Ok(Located { value: Value::Formula(value), span })
    }
    fn as_formula(&self, x: &Located<'b>) -> Result<Ex<'b>, ParseError> {
        match &x.value {
            Value::Formula(e) => Ok(*e),
            Value::Tuple(_) => Err(self.error(x.span, NO_FORMULA)),
            Value::Brackets(items) if items.is_empty() => {
                Err(self.error(x.span, "nothing to concatenate"))
            }
            Value::Brackets(items) => {
                let parts = items.iter().map(|i| self.as_formula(i));
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                let total = parts.iter().map(|p| p.dim()).sum::<usize>();
                if total > MAX_DIM {
                    let m = format!(
                        "concatenation: expected at most {MAX_DIM} components, got {total}"
                    );
                    return Err(self.error(x.span, &m));
                }
                Ok(Ex::concat(&parts))
            }
        }
    }

    fn infix(
        &self,
        symbol: &str,
        left: &Located<'b>,
        right: &Located<'b>,
    ) -> Result<Located<'b>, ParseError> {
        let operands = [left.clone(), right.clone()];
        let swapped = || [right.clone(), left.clone()];
        let start = left.span.start;
        match symbol {
            "+" => self.operation(&ops::ADD, &operands, start),
            "-" => self.operation(&ops::SUBTRACT, &operands, start),
            "*" => self.operation(&ops::MULT, &operands, start),
            "/" => self.operation(&ops::DIVIDE, &operands, start),
            "<" => self.operation(&ops::LESS_THAN, &operands, start),
            "<=" => self.operation(&ops::LESS_OR_EQUAL, &operands, start),
            ">" => self.operation(&ops::LESS_THAN, &swapped(), start),
            ">=" => self.operation(&ops::LESS_OR_EQUAL, &swapped(), start),
            "==" => self.operation(&ops::EQUAL, &operands, start),
            "!=" => self.operation(&ops::NOT_EQUAL, &operands, start),
            "|" => match composite::by_name("Scalprod") {
                Some(c) => self.composite(c, &operands, start),
                None => unreachable!("Scalprod is in the table"),
            },
            "**" => {
                let (x, exponent) = (self.as_formula(left)?, self.as_formula(right)?);
                match power(x, exponent) {
                    Some(e) => self.made(start, e),
                    None => self.operation(&ops::POWF, &operands, start),
                }
            }
            _ => unreachable!("{symbol} is not between operands"),
        }
    }
    fn operation(
        &self,
        op: &'static OpDef,
        args: &[Located<'b>],
        start: usize,
    ) -> Result<Located<'b>, ParseError> {
        let x = args.iter().map(|a| self.as_formula(a)).collect::<Result<Vec<_>, _>>()?;
        let made = Ex::map(op, &x).map_err(|e| self.dim_error(e, &x, args, start))?;
        self.made(start, made)
    }
    fn composite(
        &self,
        op: &CompositeDef,
        args: &[Located<'b>],
        start: usize,
    ) -> Result<Located<'b>, ParseError> {
        // As many operands as possible: what comes after them must be literals.
        let (n, literal) = (args.len(), |a: &Located<'b>| a.literal());
        let fits = |k: &usize| {
            (op.literals.0..=op.literals.1).contains(&(n - k))
                && (n - k == 0 || args[*k..].iter().all(|a| literal(a).is_some()))
        };
        let most = op.operands.1.min(n);
        let Some(count) = (op.operands.0..=most).rev().find(fits) else {
            let span = Span { start, end: self.last_end() };
            return Err(self.error(span, &wrong_arguments(op, n)));
        };
        let (operands, literals) = args.split_at(count);
        let x = operands.iter().map(|a| self.as_formula(a)).collect::<Result<Vec<_>, _>>()?;
        let literals: Vec<Literal> = literals.iter().filter_map(literal).collect();
        let made = op.expand(&x, &literals).map_err(|e| self.dim_error(e, &x, operands, start))?;
        self.made(start, made)
    }
    fn dim_error(
        &self,
        e: DimError,
        x: &[Ex<'b>],
        args: &[Located<'b>],
        start: usize,
    ) -> ParseError {
        let describe = |(x, a): (&Ex<'b>, &Located<'b>)| {
            let text: String = self.slice(a.span).chars().take(40).collect();
            let of = match x.dependence() {
                Dependence::I => "Vi",
                Dependence::J => "Vj",
                Dependence::NONE => "Pm",
                _ => "Vi and Vj",
            };
            format!("{text} has dimension {} ({of})", x.dim())
        };
        let operands: Vec<_> = x.iter().zip(args).take(6).map(describe).collect();
        let operands = match &operands[..] {
            [] => String::new(),
            some => format!("\nwhere {}", some.join(", ")),
        };
        let message = format!("{e}{operands}");
        self.error(Span { start, end: self.last_end() }, &message)
    }

    /// `Grad(f, v)`: the cotangent is a further variable, at the next free position, of the other
    /// category than `v`, as in KeOps.
    fn cotangent(&mut self, args: &[Located<'b>], start: usize) -> Result<Located<'b>, ParseError> {
        let (f, v) = (self.as_formula(&args[0])?, self.as_formula(&args[1])?);
        let span = Span { start, end: self.last_end() };
        let category = match self.builder.graph().node(v.id) {
            Node::Var(Var { category: Category::I, .. }) => Category::J,
            Node::Var(Var { category: Category::J, .. }) => Category::I,
            Node::Var(_) => {
                let m = "the gradient in a parameter needs a cotangent: Grad(f, v, e)";
                return Err(self.error(span, m));
            }
            _ => return Err(self.error(args[1].span, "expected a variable")),
        };
        let index = self.variables.next_position() as u32;
        let var = self.variables.declare(Var { index, dim: f.dim(), category }, None);
        self.made(start, self.builder.var(var.map_err(|m| self.error(span, &m))?))
    }
    /// `Diff(f, (v, w), (u, t))`: the sum of the derivatives along each.
    fn diff_along_all(&self, args: &[Located<'b>]) -> Option<Vec<[Located<'b>; 3]>> {
        match args {
            [f, Located { value: Value::Tuple(v), .. }, Located { value: Value::Tuple(u), .. }]
                if v.len() == u.len() && !v.is_empty() =>
            {
                let one = |(v, u): (&Located<'b>, &Located<'b>)| [f.clone(), v.clone(), u.clone()];
                Some(v.iter().zip(u).map(one).collect())
            }
            _ => None,
        }
    }

    /// A call of these arguments.
    fn call(
        &mut self,
        name_span: Span,
        mut args: Vec<Located<'b>>,
    ) -> Result<Located<'b>, ParseError> {
        let name = self.slice(name_span);
        let start = name_span.start;
        if name == "Grad" && args.len() == 2 {
            args.push(self.cotangent(&args, start)?);
        }
        if let Some(terms) = self.diff_along_all(&args).filter(|_| name == "Diff") {
            let diff = composite::by_name(name).ok_or_else(|| self.unexpected("Diff"))?;
            let mut sum = self.composite(diff, &terms[0], start)?;
            for t in &terms[1..] {
                let next = self.composite(diff, t, start)?;
                sum = self.operation(&ops::ADD, &[sum, next], start)?;
            }
            return Ok(sum);
        }
        if let Some(op) = ops::by_name(name) {
            return self.operation(op, &args, start);
        }
        if let Some(op) = composite::by_name(name) {
            return self.composite(op, &args, start);
        }
        let span = Span { start, end: self.last_end() };
        if let Some((position, dim, category)) = self.declaration(name, &args, span)? {
            let index = position.unwrap_or(self.variables.next_position()) as u32;
            let var = self.variables.declare(Var { index, dim, category }, None);
            let var = var.map_err(|m| self.error(span, &m))?;
            return self.made(start, self.builder.var(var));
        }
        if name == "Ind" {
            return self.tuple(args, span);
        }
        if let Some(value) = self.form(name, &args, span)? {
            return self.made(start, value);
        }
        let tables = ops::ALL.iter().map(|o| o.name).chain(composite::ALL.iter().map(|c| c.name));
        let hint = if self.variables.by_name.contains_key(name) {
            "; it is a variable".into()
        } else {
            closest(name, tables.chain(FORMS))
                .map_or(String::new(), |n| format!("; did you mean `{n}`?"))
        };
        Err(self.error(name_span, &format!("unknown operation `{name}`{hint}")))
    }
    /// Position, dimension and category if `keyword` declares a variable.
    fn declaration(
        &self,
        keyword: &str,
        args: &[Located<'b>],
        span: Span,
    ) -> Result<Option<(Option<usize>, usize, Category)>, ParseError> {
        let category = match keyword {
            "Vi" | "Vx" => Some(Category::I),
            "Vj" | "Vy" => Some(Category::J),
            "Pm" => Some(Category::Param),
            "Var" => None,
            _ => return Ok(None),
        };
        let usage = match category {
            None => "Var(position, dim, category) with category 0 (Vi), 1 (Vj) or 2 (Pm)".into(),
            Some(_) => format!("{keyword}(dim) or {keyword}(position, dim)"),
        };
        let fail = |got: &str| Err(self.error(span, &format!("expected {usage}{got}")));
        let Some(v) = args.iter().map(Located::integer).collect::<Option<Vec<i64>>>() else {
            return fail(" with integers");
        };
        let (position, dim, category) = match (category, &v[..]) {
            (Some(c), [dim]) => (None, *dim, c),
            (Some(c), [position, dim]) => (Some(*position), *dim, c),
            (None, [position, dim, c @ 0..=2]) => {
                let c = [Category::I, Category::J, Category::Param][*c as usize];
                (Some(*position), *dim, c)
            }
            _ => return fail(""),
        };
        let most = if category == Category::Param { MAX_TABLE } else { MAX_DIM };
        if dim < 1 || dim > most as i64 {
            return fail(&format!(" with a dimension in 1..={most}, got {dim}"));
        }
        match position {
            Some(p) if p < 0 || p >= MAX_VARIABLES as i64 => {
                fail(&format!(" with a position in 0..{MAX_VARIABLES}, got {p}"))
            }
            p => Ok(Some((p.map(|p| p as usize), dim as usize, category))),
        }
    }
}

fn is_operation(name: &str) -> bool {
    ops::by_name(name).is_some() || composite::by_name(name).is_some() || FORMS.contains(&name)
}

/// `x ** exponent` for the constant exponents that have an expansion.
pub(crate) fn power<'b>(x: Ex<'b>, exponent: Ex<'b>) -> Option<Ex<'b>> {
    let e = exponent.constant()?;
    if e == 0.5 {
        return Some(x.un(&ops::SQRT));
    }
    if e == -0.5 {
        return Some(x.un(&ops::RSQRT));
    }
    let integer = e.fract() == 0.0 && e.abs() <= f64::from(i32::MAX);
    let pow = composite::by_name("Pow").filter(|_| integer)?;
    (pow.build)(&[x], &[Literal::Int(e as i64)]).ok()
}

fn wrong_arguments(op: &CompositeDef, got: usize) -> String {
    let range = |(a, b): (usize, usize)| match (a, b) {
        (a, b) if a == b => a.to_string(),
        (a, usize::MAX) => format!("at least {a}"),
        (a, b) => format!("{a} to {b}"),
    };
    let literals = match op.literals {
        (_, 0) => String::new(),
        l => format!(" and then {} integers or lists", range(l)),
    };
    let operands = range(op.operands);
    format!("{}: expected {operands} operands{literals}, got {got} arguments ({})", op.name, op.doc)
}

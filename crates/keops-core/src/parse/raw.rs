//! Whole reductions as text, in the form that KeOps uses inside.

use super::lexer::Token;
use super::{Located, MAX_DEPTH, Parser, Variables};
use crate::error::{Error, ParseError, Span};
use crate::graph::{Builder, NodeId, Var};
use crate::outer::{Computation, Formula, InputDef, OuterGraph, OutputDef, Port};
use crate::reduce::{self, Definition, WeightRule};
use crate::spec::Axis;
use std::sync::Arc;

/// What a reduction string begins with.
const REDUCTION: &str = "a reduction, as Sum_Reduction(formula, tag)";

/// What a reduction string says.
struct Raw {
    formula: NodeId,
    weight: Option<NodeId>,
    reduction: Definition,
    k: usize,
    axis: Axis,
    span: Span,
    /// Derivatives of it, from the innermost on.
    derivatives: Vec<Derivative>,
}

/// `Grad_WithSavedForward(reduction, variable, cotangent, saved result)`, or in forward mode
/// `Diff_WithSavedForward(reduction, variable, tangent, saved result)`.
struct Derivative {
    forward: bool,
    variable: Var,
    with: Var,
    saved: Var,
    span: Span,
}

/// Reads a reduction in KeOps' internal form, such as `Sum_Reduction(Exp(-SqDist(x,y))*b,0)`:
/// the formula, the number of winners of KMin and its like, the tag (0 reduces over j, 1 over i)
/// and the weight of weighted reductions; or
/// `Grad_WithSavedForward(reduction, variable, cotangent, saved)`, its gradient, in which
/// cotangent and saved result are variables (the latter is read where the derivative is one of the
/// result, as that of a log-sum-exp, and may be anything otherwise), or
/// `Diff_WithSavedForward(reduction, variable, tangent, saved)`, its derivative along a tangent.
/// Gradients with respect to parameters are summed over all rows.
///
/// ```
/// use keops_core::genred::{Genred, Reference};
/// use keops_core::parse::parse_reduction;
/// use ndarray::array;
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "e = Vi(1)", "saved = Vi(1)"];
/// let (x, y, e) = (array![[2.0]], array![[5.0], [7.0]], array![[10.0]]);
/// let sum: Genred<Reference> =
///     parse_reduction("Sum_Reduction(Square(x) * y, 0)", &aliases[..2])?.into();
/// assert_eq!(sum.call((&x, &y))?, array![[48.0]].into_dyn());
/// let gradient = "Grad_WithSavedForward(Sum_Reduction(Square(x) * y, 0), x, e, saved)";
/// let gradient: Genred<Reference> = parse_reduction(gradient, &aliases)?.into();
/// assert_eq!(gradient.call((&x, &y, &e, &array![[48.0]]))?, array![[480.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parse`] with the place; [`Error::Grad`] where there is no derivative; [`Error::Input`]
/// if formula and reduction do not fit.
pub fn parse_reduction(text: &str, aliases: &[&str]) -> Result<Computation, Error> {
    let builder = Builder::default();
    let mut variables = Variables::from_aliases(aliases)?;
    let mut parser = Parser::new(&builder, text, &mut variables)?;
    let raw = parser.reduction()?;
    parser.end()?;
    let (vars, names) = variables.in_order(text)?;
    let formula = Formula {
        graph: Arc::new(builder.into_graph()),
        root: NodeId(0),
        weight: None,
        vars,
        names,
    };
    build(&raw, &formula, text)
}

fn build(raw: &Raw, all: &Formula, text: &str) -> Result<Computation, Error> {
    let fail = |span: &Span, message: String| {
        Err(Error::Parse(ParseError { message, text: text.into(), span: *span }))
    };
    let Raw { formula, weight, reduction, k, axis, span, derivatives } = raw;
    let formula = Formula { root: *formula, weight: *weight, ..all.clone() };
    let mut made = Computation::reduction(formula, *reduction, *k, *axis)
        .or_else(|e| fail(span, e.to_string()))?;
    for Derivative { forward, variable, with, saved, span } in derivatives {
        let [OutputDef { port, row, .. }] = made.outputs() else {
            return fail(span, "expected a reduction with one result to differentiate".into());
        };
        let mut graph: OuterGraph = made.graph().clone();
        let mut input = |v: &Var| graph.input(v.index as usize, v.dim, v.category);
        let (x, e, saved): (Port, Port, Port) = (input(variable), input(with), input(saved));
        let derived = graph.derivative_with_saved((*port, saved), (x, e), *forward)?;
        let like = if *forward { *port } else { x };
        let derived = derived.unwrap_or_else(|| {
            // Nothing depends on it: zeros, with the batches of what they are the derivative of.
            let info = graph.info(like);
            let zeros = graph.zeros(info.dim, info.category);
            graph.rebatch(zeros, like)
        });
        let inputs: Vec<InputDef> = made.inputs().to_vec();
        let row = if *forward { row.clone() } else { vec![variable.dim] };
        let like = (!*forward).then_some(x);
        made = Computation::new(graph, inputs, vec![OutputDef { port: derived, row, like }])?;
    }
    Ok(made)
}

impl<'b> Parser<'b, '_> {
    /// A reduction inside any number of derivatives.
    fn reduction(&mut self) -> Result<Raw, ParseError> {
        let mut open = vec![];
        let mut raw = loop {
            let start = self.span();
            let name = self.slice(start);
            if self.peek() != Token::Name || self.ahead(1) != Token::Symbol("(") {
                return Err(self.unexpected(REDUCTION));
            }
            if self.depth + open.len() == MAX_DEPTH {
                let m = format!("gradients are nested more than {MAX_DEPTH} deep");
                return Err(self.error(start, &m));
            }
            let forward = name == "Diff_WithSavedForward";
            if !forward && name != "Grad_WithSavedForward" {
                break self.innermost(start, name)?;
            }
            self.at += 2;
            open.push((start, name, forward));
        };
        while let Some((start, name, forward)) = open.pop() {
            self.require(",", "`,`")?;
            let rest = self.arguments()?;
            let span = Span { start: start.start, end: self.last_end() };
            let [variable, with, saved] = &rest[..] else {
                let along = if forward { "tangent" } else { "cotangent" };
                let m = format!("expected {name}(reduction, variable, {along}, saved)");
                return Err(self.error(span, &m));
            };
            let [variable, with, saved] = [variable, with, saved].map(|v| self.variable(v));
            let (variable, with, saved) = (variable?, with?, saved?);
            raw.derivatives.push(Derivative { forward, variable, with, saved, span });
        }
        Ok(raw)
    }
    /// `Sum_Reduction(formula, tag)` and its like.
    fn innermost(&mut self, start: Span, name: &str) -> Result<Raw, ParseError> {
        let Some(reduction) = name.strip_suffix("_Reduction") else {
            return Err(self.unexpected(REDUCTION));
        };
        let Some(reduction) = reduce::by_name(reduction) else {
            return Err(self.error(start, &format!("unknown reduction `{reduction}`")));
        };
        self.at += 2;
        let args = self.arguments()?;
        let span = Span { start: start.start, end: self.last_end() };
        let many = reduction.takes_winners();
        let parameters = if many { "formula, K, tag" } else { "formula, tag" };
        let usage = match reduction.weight() {
            WeightRule::Never => format!("expected {name}({parameters})"),
            _ => format!("expected {name}({parameters}, weight)"),
        };
        let fail = |got: &str| Err(self.error(span, &format!("{usage}{got}")));
        let (formula, rest) = match &args[..] {
            [f, rest @ ..] => (self.as_formula(f)?.id, rest),
            [] => return fail(""),
        };
        let (k, rest) = match rest {
            [k, rest @ ..] if many => match k.integer().and_then(|k| usize::try_from(k).ok()) {
                Some(k) => (k, rest),
                None => return fail(" with a positive integer K"),
            },
            rest => (1, rest),
        };
        let (tag, weight) = match rest {
            [tag] => (tag, None),
            [tag, w] => (tag, Some(self.as_formula(w)?.id)),
            _ => return fail(""),
        };
        let axis = match tag.integer() {
            Some(0) => Axis::J,
            Some(1) => Axis::I,
            _ => return fail(" with tag 0 (over j) or 1 (over i)"),
        };
        Ok(Raw { formula, weight, reduction, k, axis, span, derivatives: vec![] })
    }
    fn variable(&self, x: &Located<'b>) -> Result<Var, ParseError> {
        let e = self.as_formula(x)?;
        match *self.builder.graph().node(e.id) {
            crate::graph::Node::Var(v) => Ok(v),
            _ => Err(self.error(x.span, "expected a variable")),
        }
    }
}

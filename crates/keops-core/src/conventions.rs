//! Where the derivatives of a formula are a convention and not those of mathematics.
//!
//! The table says where an operation has a kink ([`crate::ops::OpDef::kinks`]), its rule of
//! differentiation what is taken there; both are asked here, so that nothing is listed by hand.

use crate::genred::{Genred, Place};
use crate::graph::{Builder, Category, Graph, Node, NodeId};
use crate::interp::evaluate_at;
use crate::lazy::LazyTensor;
use crate::ops::OpDef;
use crate::outer::{Formula, OuterNode, Port};
use crate::simplify::smoothed;
use std::fmt;
use std::sync::Arc;

/// An operation of a formula that may meet a point at which it has no derivative, and what is
/// taken there. Found by [`Formula::conventions`], [`Genred::conventions`] and
/// [`LazyTensor::conventions`].
///
/// ```
/// use keops_core::parse::parse_formula;
/// let distance = parse_formula("Norm2(x - y)", None, &["x = Vi(3)", "y = Vj(3)"])?;
/// let found = distance.conventions();
/// assert_eq!((found[0].operation, found[0].at, found[0].derivative), ("Sqrt", 0.0, 0.0));
/// assert_eq!(found[0].place, "Sqrt(SqNorm2(x - y))");
/// assert!(found[0].to_string().contains("where its operand is 0: the derivative is taken as 0"));
/// // An even function of it has none: it is one of the squared distance.
/// let even = parse_formula("Cos(Norm2(x - y))", None, &["x = Vi(3)", "y = Vj(3)"])?;
/// assert!(even.conventions().is_empty());
/// # Ok::<(), keops_core::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Convention {
    /// Name of the operation in the table of operations.
    pub operation: &'static str,
    /// The part of the formula that it computes, as text.
    pub place: String,
    /// Which operand.
    pub operand: usize,
    /// The value of that operand.
    pub at: f64,
    /// What the derivative in the operand is there.
    pub derivative: f64,
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Convention { place, operand, at, derivative, .. } = self;
        let which = if *operand == 0 { String::new() } else { format!(" {operand}") };
        write!(
            f,
            "{place} where its operand{which} is {at}: the derivative is taken as {derivative}. A \
             function that is smooth there is better written without this operation: kernels as \
             functions of a squared distance (Matern, Wendland, RationalQuadratic, ThinPlate, \
             RadialPower, CosSqrt, SincSqrt), whose derivatives are right at 0"
        )
    }
}

/// Operands of an operation: the constants among them.
type Known = Vec<Option<f64>>;

/// What the rule of differentiation gives, in one operand.
fn rule(op: &'static OpDef, known: &Known, operand: usize, at: &[f64]) -> f64 {
    let b = Builder::default();
    let x: Vec<_> =
        known.iter().map(|c| c.map_or_else(|| b.fresh(1, Category::I), |c| b.lit(c))).collect();
    let y = b.node(Node::Map { op, args: x.iter().map(|e| e.id).collect() });
    let root = (op.derivative)(&x, y, b.lit(1.0))[operand].id;
    let variable: Vec<f64> =
        known.iter().zip(at).filter(|(c, _)| c.is_none()).map(|(_, v)| *v).collect();
    evaluate_at(&b.into_graph(), root, |v| vec![variable[v.index as usize]])[0]
}

/// The derivative in an operand at a kink, if it is not that of both sides.
fn taken(op: &'static OpDef, known: &Known, operand: usize, at: &[f64]) -> Option<f64> {
    const H: f64 = 1e-6;
    let value = |shift: f64| {
        let mut x = at.to_vec();
        x[operand] += shift;
        (op.value.f64)(&x)
    };
    let derivative = rule(op, known, operand, at);
    let sides = [(value(0.0) - value(-H)) / H, (value(H) - value(0.0)) / H];
    // (On one side it may not be defined.)
    let smooth = |s: &f64| (s - derivative).abs() <= 1e-3 * (1.0 + s.abs());
    let mut defined = sides.iter().filter(|s| !s.is_nan()).peekable();
    let agrees = defined.peek().is_some() && defined.all(smooth);
    (!agrees).then_some(derivative)
}

/// The conventions that one operation may meet.
fn of_operation(op: &'static OpDef, known: &Known) -> Vec<(usize, f64, f64)> {
    let (low, high) = op.domain;
    let open: Vec<usize> = (0..op.arity).filter(|&k| known[k].is_none()).collect();
    let mut found = vec![];
    for &operand in &open {
        for &kink in op.kinks {
            // The others somewhere in the domain, no two alike, or at the kink too.
            let at = |others: &dyn Fn(usize) -> f64| -> Vec<f64> {
                let value = |k: usize| if k == operand { kink } else { others(k) };
                (0..op.arity).map(|k| known[k].unwrap_or_else(|| value(k))).collect()
            };
            let apart = at(&|k| low + (high - low) * (0.37 + 0.2 * k as f64));
            let together = at(&|_| kink);
            let all = [apart, together];
            let distinct = if open.len() > 1 { &all[..] } else { &all[..1] };
            let first = distinct.iter().find_map(|x| taken(op, known, operand, x));
            found.extend(first.map(|d| (operand, kink, d)));
        }
    }
    found
}

/// The conventions of what `roots` need.
fn of_graph(graph: &Graph, roots: &[NodeId], text: impl Fn(NodeId) -> String) -> Vec<Convention> {
    let mut found = vec![];
    for id in graph.live(roots) {
        let Node::Map { op, args } = graph.node(id) else { continue };
        if op.kinks.is_empty() {
            continue;
        }
        let known: Known = args.iter().map(|&a| graph.constant(a)).collect();
        let convention = |(operand, at, derivative)| Convention {
            operation: op.name,
            place: text(id),
            operand,
            at,
            derivative,
        };
        found.extend(of_operation(op, &known).into_iter().map(convention));
    }
    found
}

impl Formula {
    /// Where a derivative of this formula may be a convention: operations with a kink, in the order
    /// of the formula. A formula that is already a derivative says where the next one may be.
    ///
    /// The list is of operations, not of arguments: whether one lies at a kink depends on these, and a
    /// factor beside it may vanish there, so that nothing is lost.
    ///
    /// ```
    /// use keops_core::parse::parse_formula;
    /// let aliases = ["x = Vi(3)", "y = Vj(3)"];
    /// let by_hand = "(1 + Norm2(x - y)) * Exp(-Norm2(x - y))";
    /// assert_eq!(parse_formula(by_hand, None, &aliases)?.conventions().len(), 1);
    /// let kernel = parse_formula("Matern(3 * SqDist(x, y), 1.5)", None, &aliases)?;
    /// assert!(kernel.conventions().is_empty());
    /// # Ok::<(), keops_core::error::ParseError>(())
    /// ```
    pub fn conventions(&self) -> Vec<Convention> {
        // What is differentiated.
        let b = Builder::from_graph((*self.graph).clone());
        let roots = std::iter::once(self.root).chain(self.weight);
        let roots: Vec<NodeId> = roots.map(|root| smoothed(b.ex(root), &[]).id).collect();
        let graph = Arc::new(b.into_graph());
        let of = |root| Formula { root, weight: None, graph: graph.clone(), ..self.clone() };
        of_graph(&graph, &roots, |root| of(root).to_string())
    }
}

impl<P: Place> Genred<P> {
    /// Where derivatives of this function may be conventions: see [`Formula::conventions`].
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// let g: Genred = Genred::new("Sqrt(x)", ["x = Vj(1)"], &SUM, Axis::J)?;
    /// let of_gradient = g.vjp("x")?.conventions();
    /// assert_eq!(of_gradient[0].place, "Rsqrt(x)");
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn conventions(&self) -> Vec<Convention> {
        let computation = self.computation();
        let outer = computation.graph();
        let inputs: Vec<&str> = self.arguments().collect();
        let name = |(k, port): (usize, &Port)| match outer.node(port.node) {
            OuterNode::Input { slot, .. } => inputs[*slot].to_string(),
            // A result on the way.
            _ => format!("r{k}"),
        };
        let results: Vec<Port> = computation.outputs().iter().map(|o| o.port).collect();
        let mut found: Vec<Convention> = vec![];
        for id in outer.live(&results) {
            let (graph, root, weight, bindings) = match outer.node(id) {
                OuterNode::Reduce(r) => (&r.graph, r.formula, r.weight, &r.bindings),
                OuterNode::RowMap(m) => (&m.graph, m.root, None, &m.bindings),
                _ => continue,
            };
            let vars = bindings.iter().map(|b| b.0).collect();
            let names = bindings.iter().map(|b| &b.1).enumerate().map(name).collect();
            let formula = Formula { graph: graph.clone(), root, weight, vars, names };
            for c in formula.conventions() {
                if !found.contains(&c) {
                    found.push(c);
                }
            }
        }
        found
    }
}

impl<T, P: Place> LazyTensor<T, P> {
    /// Where derivatives of this formula may be conventions: see [`Formula::conventions`].
    ///
    /// ```
    /// # use keops_core::{genred::Reference, lazy::LazyTensor};
    /// # use ndarray::array;
    /// # type Lazy = LazyTensor<f64, Reference>;
    /// let (x, y) = (Lazy::vi(array![[1.0, 2.0]]), Lazy::vj(array![[0.0, 0.0]]));
    /// let s = x.sqdist(&y).sqrt();
    /// assert_eq!(((1.0 + &s) * (-&s).exp()).conventions()?[0].operation, "Sqrt");
    /// assert!(x.sqdist(&y).matern(1.5).conventions()?.is_empty());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LazyTensor::check`].
    pub fn conventions(&self) -> Result<Vec<Convention>, crate::error::Error> {
        Ok(self.formula()?.conventions())
    }
}

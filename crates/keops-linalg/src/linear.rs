//! Is a formula linear in a variable? Decided on the graph, before any number is computed.

use crate::error::OperatorError;
use keops_core::graph::{Category, Graph, Node, NodeId, Var, for_each_arg};
use keops_core::ops::{ADD, DIVIDE, IF_ELSE, MINUS, MULT, SUBTRACT};
use keops_core::outer::{Computation, OuterNode, OutputDef};
use keops_core::reduce::SUM;
use std::collections::{HashMap, HashSet};

/// A sum that is linear in one of its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Linear {
    /// Name of the argument.
    pub variable: String,
    /// Its position.
    pub slot: usize,
    /// What it is indexed by: the reduced index.
    pub category: Category,
    /// Components of a row of the argument.
    pub variable_dim: usize,
    /// Components of a row of results.
    pub result_dim: usize,
    /// Does component c of the result depend on component c of the argument only?
    pub independent: bool,
    /// Scalar operations for each pair of rows.
    pub operations: usize,
}

impl Linear {
    pub fn of(computation: &Computation, variable: &str) -> Result<Linear, OperatorError> {
        let graph = computation.graph();
        let not = |got: &str| Err(OperatorError::NotASum { got: got.into() });
        let [output] = computation.outputs() else { return not("several results") };
        let OuterNode::Reduce(r) = graph.node(output.port.node) else {
            return not("a derived computation");
        };
        if r.reduction != &SUM {
            return not(r.reduction.name);
        }
        let inputs = computation.inputs();
        let Some(slot) = inputs.iter().position(|i| i.name == variable) else {
            let known: Vec<_> = inputs.iter().map(|i| i.name.as_str()).collect();
            return Err(OperatorError::UnknownVariable {
                name: variable.into(),
                known: known.join(", "),
            });
        };
        let mut own = None;
        for (var, port) in &r.bindings {
            match graph.node(port.node) {
                OuterNode::Input { slot: s, .. } if *s == slot => own = Some(*var),
                OuterNode::Input { .. } => {}
                _ => return not("a formula of intermediate results"),
            }
        }
        let (category, expected) = (inputs[slot].category, r.axis.reduced());
        if category != expected {
            return Err(OperatorError::Category {
                variable: variable.into(),
                expected: expected.keyword(),
                got: category.keyword(),
            });
        }
        let present = own.filter(|v| r.graph.variables(&[r.formula]).contains(v));
        let Some(var) = present else {
            return Err(OperatorError::NotLinear {
                variable: variable.into(),
                operation: "it".into(),
                reason: format!("does not contain `{variable}`"),
            });
        };
        let independent = components_independent(&r.graph, r.formula, var, variable)?;
        let (variable_dim, result_dim) = (var.dim, r.graph.dim(r.formula));
        Ok(Linear {
            variable: variable.into(),
            slot,
            category,
            variable_dim,
            result_dim,
            independent,
            operations: operations(&r.graph, r.formula) + result_dim,
        })
    }
}

/// The category whose row number a formula of a computation has.
pub(crate) fn row_number(of: &Computation) -> Option<Category> {
    let graph = of.graph();
    let numbers = |o: &OutputDef| match graph.node(o.port.node) {
        OuterNode::Reduce(r) => r.graph.live(&[r.formula]).into_iter().find_map(|id| {
            if let Node::Index(category) = r.graph.node(id) { Some(*category) } else { None }
        }),
        _ => None,
    };
    of.outputs().iter().find_map(numbers)
}

/// Scalar operations of a formula that both indices take part in.
fn operations(graph: &Graph, root: NodeId) -> usize {
    let mut sides: HashMap<NodeId, [bool; 2]> = HashMap::new();
    let mut total = 0usize;
    for id in graph.live(&[root]) {
        let node = graph.node(id);
        let mut own = [false; 2];
        if let Node::Var(Var { category, .. }) | Node::Index(category) = node {
            own = [*category == Category::I, *category == Category::J];
        }
        for_each_arg(node, |a| {
            let [i, j] = sides.get(&a).copied().unwrap_or_default();
            own = [own[0] || i, own[1] || j];
        });
        sides.insert(id, own);
        let count = match node {
            Node::Map { .. } | Node::Gather { .. } => graph.dim(id),
            Node::Fold { x, .. } => graph.dim(*x),
            // A product and a sum for each combination of labels.
            Node::Contract { extents, operands, out } => {
                let all = extents.iter().product::<usize>();
                let sums = if extents.len() > out.len() { all } else { 0 };
                all * operands.len().saturating_sub(1) + sums
            }
            _ => 0,
        };
        if own == [true, true] {
            total = total.saturating_add(count);
        }
    }
    total
}

/// How a node depends on the variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Constant,
    /// Linear and homogeneous; `own`: each component depends on the same component of the
    /// variable only.
    Linear {
        own: bool,
    },
}

/// Checks that `root` is linear in `var`; are its components independent?
fn components_independent(
    graph: &Graph,
    root: NodeId,
    var: Var,
    variable: &str,
) -> Result<bool, OperatorError> {
    let mut parts: HashMap<NodeId, Part> = HashMap::new();
    for id in graph.live(&[root]) {
        let part = part(graph, id, var, &parts).map_err(|(operation, reason)| {
            let reason = reason.replace('$', &format!("`{variable}`"));
            OperatorError::NotLinear { variable: variable.into(), operation, reason }
        })?;
        parts.insert(id, part);
    }
    Ok(parts[&root] == Part::Linear { own: true })
}

/// What is wrong with an operation; `$` stands for the variable.
type Fault = (String, String);

fn part(graph: &Graph, id: NodeId, var: Var, parts: &HashMap<NodeId, Part>) -> Result<Part, Fault> {
    let node = graph.node(id);
    if *node == Node::Var(var) {
        return Ok(Part::Linear { own: true });
    }
    let linear = |a: NodeId| matches!(parts[&a], Part::Linear { .. });
    let own = |a: NodeId| parts[&a] == Part::Linear { own: true } && graph.dim(a) == graph.dim(id);
    let mut any = false;
    for_each_arg(node, |a| any |= linear(a));
    if !any {
        return Ok(Part::Constant);
    }
    // Terms of a sum, branches, pieces: each is linear or zero.
    let terms = |name: &str, terms: &[NodeId]| match terms
        .iter()
        .all(|&a| linear(a) || is_zero(graph, a))
    {
        true => Ok(Part::Linear { own: terms.iter().all(|&a| own(a) || !linear(a)) }),
        false => Err((name.into(), "has a part without $".into())),
    };
    let fault = |name: &str, reason: &str| Err((name.into(), reason.into()));
    match node {
        Node::Var(_) | Node::Const(_) | Node::Index(_) | Node::Iota(_) => Ok(Part::Constant),
        Node::Map { op, args } => match *op {
            op if *op == ADD || *op == SUBTRACT || *op == MINUS => terms(op.name, args),
            op if *op == MULT => match (linear(args[0]), linear(args[1])) {
                (true, true) => fault(op.name, "has $ in both factors"),
                (first, _) => Ok(Part::Linear { own: own(args[!first as usize]) }),
            },
            op if *op == DIVIDE => match linear(args[1]) {
                true => fault(op.name, "has $ in the denominator"),
                false => Ok(Part::Linear { own: own(args[0]) }),
            },
            op if *op == IF_ELSE => match linear(args[0]) {
                true => fault(op.name, "has $ in the condition"),
                false => terms(op.name, &args[1..]),
            },
            op => fault(op.name, "of an expression with $ is not linear"),
        },
        Node::Contract { operands, out, .. } => {
            let with: Vec<_> = operands.iter().filter(|o| linear(o.node)).collect();
            let [operand] = with[..] else {
                return fault("the product", "has $ in several factors");
            };
            Ok(Part::Linear { own: own(operand.node) && operand.axes == *out })
        }
        Node::Pick { .. } | Node::Put { .. } => Ok(Part::Linear { own: false }),
        Node::Concat(pieces) => match terms("Concat", pieces)? {
            Part::Linear { .. } => Ok(Part::Linear { own: false }),
            Part::Constant => Ok(Part::Constant),
        },
        Node::Fold { op, .. } => {
            fault(&format!("{op:?}"), "over components of an expression with $ is not linear")
        }
        Node::Gather { index, .. } => match linear(*index) {
            true => fault("Gather", "has $ in the index"),
            false => Ok(Part::Linear { own: false }),
        },
    }
}

/// Is a node 0 by its structure?
fn is_zero(graph: &Graph, id: NodeId) -> bool {
    // (Formulas nest deeper than any stack.)
    let (mut rest, mut seen) = (vec![id], HashSet::from([id]));
    while let Some(id) = rest.pop() {
        let zero = match graph.node(id) {
            Node::Const(bits) => f64::from_bits(*bits) == 0.0,
            Node::Map { op, .. } => *op == &MINUS,
            // A broadcast.
            Node::Contract { operands, .. } => operands.len() == 1,
            Node::Pick { .. } | Node::Put { .. } | Node::Concat(_) => true,
            _ => false,
        };
        if !zero {
            return false;
        }
        for_each_arg(graph.node(id), |a| {
            if seen.insert(a) {
                rest.push(a);
            }
        });
    }
    true
}

//! Faults in the rules of a solve, planted around it: each rule contributes for the right-hand side, the
//! ridge and each argument of the kernel, of a system and of its transpose.

use keops_core::data::Buffer;
use keops_core::error::{DimError, Error, GradError};
use keops_core::outer::{Application, Call, Function, OuterGraph, Port, PortInfo};
use std::hash::Hasher;
use std::sync::Arc;

/// Which operand of a solve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// What is solved for.
    RightHandSide,
    /// The ridge, where it is an argument.
    Ridge,
    /// The arguments of the kernel.
    Kernel,
}

/// What is done to its part of a derivative.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is off by a part in a thousand.
    Scaled,
    /// It has the other sign.
    Negated,
    /// It is left out.
    Missing,
}

/// A fault in a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SolveFault {
    /// In the part of this operand.
    pub operand: Operand,
    /// What is wrong.
    pub change: Change,
    /// Of jvp instead of vjp.
    pub forward: bool,
    /// Of the system with the transpose, which derivatives append.
    pub transposed: bool,
}

impl SolveFault {
    /// All of them.
    pub fn all() -> impl Iterator<Item = SolveFault> {
        let operands = [Operand::RightHandSide, Operand::Ridge, Operand::Kernel];
        let changes = [Change::Scaled, Change::Negated, Change::Missing];
        (0..36).map(move |k| SolveFault {
            operand: operands[k % 3],
            change: changes[k / 3 % 3],
            forward: k / 9 % 2 == 1,
            transposed: k / 18 == 1,
        })
    }
    fn changed(&self, graph: &mut OuterGraph, part: Port) -> Option<Port> {
        let factor = match self.change {
            Change::Scaled => 1.0 + 1.0 / 1024.0,
            Change::Negated => -1.0,
            Change::Missing => return None,
        };
        let category = graph.info(part).category;
        Some(graph.map_rows(category, &[part], |_, v| v[0] * factor))
    }
}

/// Is it a solve with the transpose? (The type is private: it says so where it is printed.)
pub fn is_transposed(f: &dyn Function) -> bool {
    format!("{f:?}").contains("transposed: true")
}

/// A solve with a fault in one of its rules.
#[derive(Debug)]
pub struct Faulty {
    right: Arc<dyn Function>,
    fault: SolveFault,
    slot: usize,
    ridge: bool,
}

impl Faulty {
    /// The function with the fault, if it is one of those that can have it.
    pub fn of(right: &Arc<dyn Function>, fault: SolveFault) -> Arc<dyn Function> {
        let text = format!("{right:?}");
        let number = text.split("slot: ").nth(1).and_then(|t| t.split(',').next());
        let slot = number.and_then(|n| n.parse().ok());
        let solve = text.starts_with("System") && is_transposed(&**right) == fault.transposed;
        match slot.filter(|_| solve) {
            Some(slot) => {
                let ridge = text.contains("ridge_is_operand: true");
                Arc::new(Faulty { right: Arc::clone(right), fault, slot, ridge })
            }
            None => Arc::clone(right),
        }
    }
    fn kind(&self, k: usize, operands: usize) -> Operand {
        match () {
            _ if k == self.slot => Operand::RightHandSide,
            _ if self.ridge && k + 1 == operands => Operand::Ridge,
            _ => Operand::Kernel,
        }
    }
}

impl Function for Faulty {
    fn name(&self) -> &str {
        self.right.name()
    }
    fn key(&self, state: &mut dyn Hasher) {
        self.right.key(state);
    }
    fn results(&self, operands: &[PortInfo]) -> Result<Vec<PortInfo>, DimError> {
        self.right.results(operands)
    }
    fn square(&self) -> bool {
        self.right.square()
    }
    fn run(&self, call: &Call<'_>) -> Result<Vec<Buffer>, Error> {
        self.right.run(call)
    }
    fn vjp(
        &self,
        graph: &mut OuterGraph,
        at: &Application<'_>,
        cotangents: &[Option<Port>],
    ) -> Result<Vec<(Port, Port)>, GradError> {
        let parts = self.right.vjp(graph, at, cotangents)?;
        let mut made = vec![];
        for (operand, part) in parts {
            let k = at.operands.iter().position(|o| *o == operand);
            let hit = k.map(|k| self.kind(k, at.operands.len())) == Some(self.fault.operand);
            let part = match hit && !self.fault.forward {
                true => self.fault.changed(graph, part),
                false => Some(part),
            };
            made.extend(part.map(|p| (operand, p)));
        }
        Ok(made)
    }
    fn jvp(
        &self,
        graph: &mut OuterGraph,
        at: &Application<'_>,
        tangents: &[Option<Port>],
    ) -> Result<Vec<Option<Port>>, GradError> {
        // (The rule is linear in the tangents, each of which has a part of its own.)
        let mut wrong = vec![];
        for (k, tangent) in tangents.iter().enumerate() {
            let hit = self.kind(k, tangents.len()) == self.fault.operand && self.fault.forward;
            wrong.push(match tangent {
                Some(t) if hit => self.fault.changed(graph, *t),
                other => *other,
            });
        }
        self.right.jvp(graph, at, &wrong)
    }
}

//! What is computed once a row, or once a call, and loaded by the pairs.

use super::pieces;
use crate::graph::{Category, Dependence, Graph};
use crate::program::{Affine, Field, Space};
use crate::spec::ReduceSpec;
use crate::vecmath::Val;

/// A value that a section has to put somewhere.
#[derive(Clone, Debug)]
pub struct Action {
    /// `None`: emitted by a pair.
    pub space: Option<Space>,
    pub at: Affine,
    pub value: Val,
}

/// The records of parameters, kept and reduced rows, in this order: arguments at virtual addresses
/// (all that the formula may read), then derived values, each with the action that computes it.
pub struct Derived {
    kept: Dependence,
    arguments: [Vec<Field>; 3],
    lens: [usize; 3],
    actions: [Vec<Action>; 3],
}

impl Derived {
    pub fn new(graph: &Graph, spec: &ReduceSpec) -> Derived {
        let categories = [Category::Param, spec.axis.kept(), spec.axis.reduced()];
        Derived {
            kept: spec.axis.kept().dependence(),
            arguments: categories.map(|c| pieces(graph, spec, c)),
            lens: [0; 3],
            actions: Default::default(),
        }
    }
    fn slot(&self, class: Dependence) -> usize {
        match class {
            Dependence::NONE => 0,
            class if class == self.kept => 1,
            _ => 2,
        }
    }
    /// The arguments in the record of a class.
    pub fn arguments(&self, class: Dependence) -> &[Field] {
        &self.arguments[self.slot(class)]
    }
    /// First address after the arguments of a class.
    pub fn start(&self, class: Dependence) -> usize {
        self.arguments(class).last().map_or(0, |p| p.offset + p.dim)
    }
    /// Number of derived elements of a class.
    pub fn len(&self, class: Dependence) -> usize {
        self.lens[self.slot(class)]
    }
    /// Reserves `len` elements of a class; their address.
    pub fn reserve(&mut self, class: Dependence, len: usize) -> (Space, i64) {
        let (slot, at) = (self.slot(class), self.start(class) + self.len(class));
        self.lens[slot] += len;
        ([Space::Param, Space::Kept, Space::Reduced][slot], at as i64)
    }
    pub fn push(&mut self, class: Dependence, action: Action) {
        let slot = self.slot(class);
        self.actions[slot].push(action);
    }
    /// The actions of a class so far.
    pub fn take(&mut self, class: Dependence) -> Vec<Action> {
        let slot = self.slot(class);
        std::mem::take(&mut self.actions[slot])
    }
}

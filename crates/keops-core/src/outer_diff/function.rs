//! Derivatives of functions that are defined elsewhere: their own rules, checked.

use super::{Part, Wanted};
use crate::error::{DimError, GradError};
use crate::outer::{Application, Applied, OuterGraph, OuterId, Port};
use std::collections::HashMap;

impl OuterGraph {
    /// The tangents of the results of a function that is defined elsewhere.
    pub(super) fn apply_jvp(
        &mut self,
        a: &Applied,
        id: OuterId,
        tangent: &mut HashMap<Port, Port>,
    ) -> Result<(), GradError> {
        let own: Vec<_> = a.operands.iter().map(|p| tangent.get(p).copied()).collect();
        if own.iter().all(|t| t.is_none()) {
            return Ok(());
        }
        let results = self.results(id);
        let at = Application { operands: &a.operands, results: &results };
        let made = a.function.jvp(self, &at, &own)?;
        for (value, t) in results.into_iter().zip(made) {
            if let Some(t) = t.filter(|_| !tangent.contains_key(&value)) {
                self.check_pair(value, t, &format!("tangent from {}", a.function.name()))?;
                let t = self.rebatch(t, value);
                tangent.insert(value, t);
            }
        }
        Ok(())
    }
    /// The cotangents of the operands of a function that is defined elsewhere.
    pub(super) fn apply_vjp(
        &mut self,
        a: &Applied,
        id: OuterId,
        needed: &Wanted,
        parts: &mut HashMap<Port, Vec<Part>>,
        total: &mut HashMap<Port, Port>,
    ) -> Result<(), GradError> {
        let results = self.results(id);
        let mut cotangents = vec![];
        for &value in &results {
            let g = parts.remove(&value).map(|list| self.total(value, list));
            g.map(|g| total.insert(value, g));
            cotangents.push(g);
        }
        if cotangents.iter().all(|g| g.is_none()) {
            return Ok(());
        }
        let at = Application { operands: &a.operands, results: &results };
        let wanted = |p: &Port| needed.has(p.node);
        for (target, p) in a.function.vjp(self, &at, &cotangents)? {
            if !a.operands.contains(&target) {
                let m = format!("cotangent from {}", a.function.name());
                return Err(DimError::new(&m, "one of an operand", "one of another value").into());
            }
            if wanted(&target) {
                self.check_pair(target, p, &format!("cotangent from {}", a.function.name()))?;
                let p = self.rebatch(p, target);
                parts.entry(target).or_default().push(Part::Whole(p));
            }
        }
        Ok(())
    }
}

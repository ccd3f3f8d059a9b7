//! Factors that move: out of sums, and into the argument of an exponential.

use super::Section;
use super::build::Lowerer;
use super::derived::Action;
use super::ssa::{Arena, Def};
use crate::error::CompileError;
use crate::graph::Dependence;
use crate::prim::Prim;
use crate::program::{Affine, Op, Space, Stream};
use crate::vecmath::{PrimBuilder, Val};

/// Most arguments that are taken out of a sum together.
const MAX_FACTORS: usize = 3;

impl Lowerer<'_> {
    /// Takes factors that no column changes out of what is added up.
    pub(super) fn take_factors(&mut self, actions: &mut [Action]) {
        let stored = actions.iter().filter(|a| a.space.is_some());
        let stored: Vec<Val> = stored.map(|a| a.value).collect();
        // Another form of an exponential is worth having only where it replaces the other one
        // everywhere.
        let mut taken = self.factors_of(actions, true);
        let replaced: Vec<Val> = taken.iter().flat_map(|t| &t.2).copied().collect();
        if self.arena.reaches(taken.iter().map(|t| t.0).chain(stored), &replaced) {
            taken = self.factors_of(actions, false);
        }
        let emitted = actions.iter_mut().filter(|a| a.space.is_none());
        for (action, (core, factors, exponentials)) in emitted.zip(taken) {
            self.factored |= !factors.is_empty() || !exponentials.is_empty();
            self.factors.push((action.at.clone(), factors));
            action.value = core;
        }
        self.factored |= !self.guards.is_empty();
    }
    /// What is left of each value that is added up, its factors, and the exponentials that
    /// `watched` replaced.
    fn factors_of(&mut self, actions: &[Action], watched: bool) -> Vec<(Val, Vec<Val>, Vec<Val>)> {
        // Only arguments themselves: the target can tell whether they are harmless. Only a few: the
        // product of more could vanish where the formula's does not.
        let ends = [Dependence::NONE, self.kept].map(|class| self.derived.start(class) as i64);
        let accept = |a: &Arena, v: Val, have: &[Val]| {
            have.len() < MAX_FACTORS
                && match &a.value(v).def {
                    Def::Op(Op::Load(Space::Param, at), _) => at.offset < ends[0],
                    Def::Op(Op::Load(Space::Kept, at), _) => at.offset < ends[1],
                    _ => false,
                }
        };
        let emitted = actions.iter().filter(|a| a.space.is_none());
        emitted
            .map(|a| {
                let mut replaced = vec![];
                let exponentials = watched.then_some(&mut replaced);
                let (core, factors) = self.arena.factor_out(a.value, exponentials, accept);
                (core, factors, replaced)
            })
            .collect()
    }
    /// The results of a plain sum: the sums times the factors that were taken out of them.
    pub fn factored_results(&mut self, sums: usize) -> Result<Stream, CompileError> {
        self.section = Section::Row(Space::Result);
        self.buffer = 0;
        let all = std::mem::take(&mut self.factors);
        // Components that nothing is emitted to stay zero.
        if all.iter().map(|(at, _)| self.positions_of(at)).sum::<usize>() < sums {
            let zero = self.arena.real(0.0);
            for idx in self.positions(&[sums], sums) {
                self.actions.push(Action { space: Some(Space::Result), at: idx, value: zero });
            }
        }
        let mut guards = vec![];
        for value in std::mem::take(&mut self.guards) {
            let class = self.arena.value(value).class;
            let (space, at) = self.derived.reserve(class, 1);
            let at = Affine::constant(at);
            self.derived.push(class, Action { space: Some(space), at: at.clone(), value });
            guards.push(self.arena.load(space, at));
        }
        for (at, factors) in all {
            let mut value = self.arena.load(Space::Sums, at.clone());
            // Constants last, which may undo what has raised the sums. Arguments are multiplied
            // with each other first: harmless ones have a harmless product.
            let (constant, free): (Vec<Val>, Vec<Val>) =
                factors.into_iter().partition(|&f| self.arena.is_real(f));
            let product = free.into_iter().reduce(|p, f| self.arena.arith(Prim::Mul, &[p, f]));
            for f in product.into_iter().chain(constant).chain(guards.iter().copied()) {
                value = self.arena.arith(Prim::Mul, &[value, f]);
            }
            self.actions.push(Action { space: Some(Space::Result), at, value });
        }
        self.finish(Section::Row(Space::Result))
    }
    /// `x log2(e)` with the constant merged into a factor of `x`: a constant or, where there is a
    /// program to fall back on, a value that is not of the pair. Other products stay as they are.
    pub(super) fn times_log2e(&mut self, x: Val) -> Val {
        let (kept, joins, a) = (self.kept, self.factoring, &mut self.arena);
        let (mut core, mut scale) = a.constants_off(x, std::f64::consts::LOG2_E);
        let mut free = None;
        if let (true, Some((Prim::Mul, &[p, q]))) = (joins, a.as_prim(core)) {
            let is_free = |v: Val| {
                let value = a.value(v);
                value.class.within(kept) && value.loops.is_empty() && !a.is_real(v)
            };
            let of_pair = |v: Val| a.value(v).class == Dependence::IJ;
            if let Some((p, q)) =
                [(p, q), (q, p)].into_iter().find(|&(p, q)| of_pair(p) && is_free(q))
            {
                free = Some(q);
                (core, scale) = a.constants_off(p, scale);
            }
        }
        let grows = scale.abs() >= 1.0;
        let scale = a.real(scale);
        let Some(free) = free else { return a.arith(Prim::Mul, &[core, scale]) };
        let factor = a.arith(Prim::Mul, &[free, scale]);
        // As part of the factor alone, the constant makes a large finite factor infinite, or a
        // small one 0, where the product with the rest of `x` is neither: NaN then, and the results
        // with it. A factor that is infinite, 0 or NaN itself stays what it is.
        let [zero, one, inf, nan] = [0.0, 1.0, f64::INFINITY, f64::NAN].map(|v| a.real(v));
        let (was, is) = (a.prim(Prim::Abs, &[free]), a.prim(Prim::Abs, &[factor]));
        let (end, before) = if grows { (inf, [was, inf]) } else { (zero, [zero, was]) };
        let (at_end, not) = (a.prim(Prim::Eq, &[is, end]), a.prim(Prim::Lt, &before));
        let lost = a.prim(Prim::MaskAnd, &[at_end, not]);
        let guard = a.prim(Prim::Select, &[lost, nan, one]);
        if !self.guards.contains(&guard) {
            self.guards.push(guard);
        }
        self.arena.arith(Prim::Mul, &[core, factor])
    }
    /// Inside a sum, the exponential of a computed argument: the error of the cheap form is of the
    /// order of what the rounding of the argument has done already.
    pub(super) fn exp_may_be_cheap(&self, x: Val) -> bool {
        self.cheap_exp && self.arena.value(x).class == Dependence::IJ && !self.arena.is_load(x)
    }
}

//! An executable specification of programs. An error is always a fault of the lowering.

use crate::prim::Kind;
use crate::program::{Affine, Loop, Op, Program, SInst, Space, Stream};
use crate::vecmath::Val;
use std::collections::{HashMap, HashSet};

/// What is wrong with a program.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("section {section}, instruction {at}: {fault}")]
pub struct VerifyError {
    /// The stream.
    pub section: &'static str,
    /// Index of the instruction.
    pub at: usize,
    /// What is wrong.
    pub fault: String,
}

/// Checks a program: every value is defined before it is used and within the loops that are open
/// there, kinds fit the primitives, loops nest, and addresses stay within their memory.
///
/// # Errors
/// [`VerifyError`] names the first instruction that is wrong.
pub fn verify(p: &Program) -> Result<(), VerifyError> {
    let streams: [(&'static str, &Stream); 7] = [
        ("once", &p.once),
        ("per kept", &p.per_kept),
        ("per reduced", &p.per_reduced),
        ("key", &p.key),
        ("add", &p.add),
        ("rebase", &p.rebase),
        ("finalise", &p.finalise),
    ];
    for (section, s) in streams {
        let mut check = Check { p, s, open: vec![], defined: HashSet::new(), scopes: vec![vec![]] };
        for (at, inst) in s.insts.iter().enumerate() {
            check.inst(section, inst).map_err(|fault| VerifyError { section, at, fault })?;
        }
        if !check.open.is_empty() {
            return Err(VerifyError { section, at: s.insts.len(), fault: "an open loop".into() });
        }
    }
    Ok(())
}

struct Check<'p> {
    p: &'p Program,
    s: &'p Stream,
    open: Vec<(Loop, usize)>,
    defined: HashSet<Val>,
    scopes: Vec<Vec<Val>>,
}

impl Check<'_> {
    fn used(&self, v: Val) -> Result<Kind, String> {
        if !self.defined.contains(&v) {
            return Err(format!("%{} is not defined here", v.0));
        }
        Ok(self.s.kinds[v.0 as usize])
    }
    fn define(&mut self, v: Val) {
        self.defined.insert(v);
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(v);
        }
    }
    fn within(&self, a: &Affine, len: usize, what: &str) -> Result<(), String> {
        let extents: HashMap<Loop, usize> = self.open.iter().copied().collect();
        let (mut low, mut high) = (a.offset, a.offset);
        for (l, s) in &a.terms {
            let Some(&e) = extents.get(l) else { return Err(format!("loop l{} is not open", l.0)) };
            let far = s * (e as i64 - 1);
            low += far.min(0);
            high += far.max(0);
        }
        if low < 0 || high >= len as i64 {
            return Err(format!("{what} {low}..={high} of {len}"));
        }
        Ok(())
    }
    fn place(&self, space: Space, a: &Affine) -> Result<(), String> {
        let p = self.p;
        let len = match space {
            Space::Param => p.param.len,
            Space::Kept => p.kept.len,
            Space::Reduced => p.reduced.len,
            Space::KeptInput => p.kept.input_len,
            Space::ReducedInput => p.reduced.input_len,
            Space::Sums => p.sums,
            Space::Pivot => 2,
            Space::Key => 1,
            Space::Buffer => self.s.buffer,
            Space::Result => p.results,
        };
        self.within(a, len, &format!("{space:?}"))
    }
    fn inst(&mut self, section: &str, inst: &SInst) -> Result<(), String> {
        match inst {
            SInst::Def { dst, op, args } => {
                let kinds = args.iter().map(|a| self.used(*a)).collect::<Result<Vec<_>, _>>()?;
                match op {
                    Op::Prim(prim) => {
                        let (expected, _) = prim.signature();
                        if kinds != expected {
                            return Err(format!("{prim:?} takes {expected:?}, got {kinds:?}"));
                        }
                    }
                    Op::Table(o) if args.len() != o.arity => {
                        return Err(format!("{} takes {} operands", o.name, o.arity));
                    }
                    Op::Load(space, a) => self.place(*space, a)?,
                    Op::Gather { offset, len } => {
                        self.within(
                            &Affine::constant(offset + *len as i64 - 1),
                            self.p.param.len,
                            "table",
                        )?;
                    }
                    Op::Counter(a) => self.within(a, usize::MAX >> 1, "counter")?,
                    Op::Table(_) | Op::Real(_) | Op::Int(_) => {}
                }
                self.define(*dst);
            }
            SInst::Begin { id, extent } => {
                if *extent == 0 || self.open.iter().any(|o| o.0 == *id) {
                    return Err(format!("loop l{} of {extent} turns", id.0));
                }
                self.open.push((*id, *extent));
                self.scopes.push(vec![]);
            }
            SInst::End(id) => {
                if self.open.pop().map(|o| o.0) != Some(*id) {
                    return Err(format!("loop l{} is not the innermost", id.0));
                }
                for v in self.scopes.pop().unwrap_or_default() {
                    self.defined.remove(&v);
                }
            }
            SInst::Start { acc, value } => {
                self.used(*value)?;
                self.define(*acc);
            }
            SInst::Update { acc, value } => {
                self.used(*acc)?;
                self.used(*value)?;
            }
            SInst::Emit { slot, value } => {
                self.used(*value)?;
                let len = match section {
                    "key" => self.p.keys,
                    "add" => self.p.sums,
                    _ => return Err("rows emit nothing".into()),
                };
                self.within(slot, len, "slot")?;
            }
            SInst::Store { space, at, value } => {
                self.used(*value)?;
                self.place(*space, at)?;
            }
        }
        Ok(())
    }
}

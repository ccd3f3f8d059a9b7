//! An executable specification of programs. An error in what [`crate::lower`] made is always a
//! fault of the lowering.

use crate::data::DType;
use crate::graph::{Category, MAX_DIM};
use crate::prim::{Kind, Prim};
use crate::program::{
    Affine, Field, Loop, Mode, Op, Program, Record, SInst, Source, Space, Stream,
};
use crate::reduce::Family;
use crate::spec::ReduceSpec;
use crate::vecmath::{Precision, Val};
use std::collections::{HashMap, HashSet};

/// What is wrong with a program.
///
/// ```
/// use keops_core::program::{Program, TextError};
/// let text = "
/// program f32 sum, keys 0, sums 1, results 1
/// param 0
/// kept 0
/// reduced 1 = argument 0 at 0 of 1
/// add, buffer 0:
///   %0 = Reduced[0]
///   emit [1] %0
/// finalise, buffer 0:
///   %0 = Sums[0]
///   Result[0] = %0
/// ";
/// let Err(TextError::Rule(e)) = text.parse::<Program>() else { unreachable!() };
/// assert_eq!((e.section, e.at), ("add", 1)); // there is one sum, number 0
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{section}, instruction {at}: {fault}")]
pub struct VerifyError {
    /// The section, or `program` for what concerns all of it.
    pub section: &'static str,
    /// Index of the instruction; the number of instructions for what concerns all of them.
    pub at: usize,
    /// What is wrong.
    pub fault: String,
}

/// Largest number of keys, sums or results of a program: a reduction of a vector of the largest
/// dimension may sum one more.
const MAX_SLOTS: usize = 2 * MAX_DIM;
/// Rules that look at every element of a memory are left out where it is larger than this.
const MAX_TRACKED: usize = 4 * MAX_SLOTS;
/// Elements of a record; what is larger is a mistake, and arithmetic on it could overflow.
const MAX_RECORD: usize = 1 << 40;

/// Checks a program. The rules:
///
/// 1. *Sizes.* Keys, sums and results fit the mode: plain sums have no keys, pivoted ones have one,
///    selections have no sums, no results and at least one winner.
/// 2. *Records.* Fields stand one after the other from 0, each source once; input records hold
///    nothing else, the others derived values behind the fields.
/// 3. *Sections.* Each is there only in the modes that run it.
/// 4. *Loops* nest, run at least once, and each is open once at a time.
/// 5. *Values* are defined before they are used, within loops that are still open, once at a time,
///    and numbered without gaps; only accumulators change.
/// 6. *Kinds* of operands and results are those of the operations; accumulators keep theirs;
///    what is emitted and stored is real. Shifts are shorter than a value.
/// 7. *Memory.* Addresses stay within their memory for every turn of the open loops; a section
///    loads and stores only where it may; arguments are not overwritten; the buffer and derived
///    values are stored to before their section loads from them.
/// 8. *Results.* Every derived value, key, rebased sum and result is written; a key or an addend
///    is emitted at most once: each loop around an emission moves its slot. (Addends that nothing
///    is emitted to stay 0.)
/// 9. *Factors.* Only a plain sum is factored; tame arguments are in the kept record or among the
///    parameters; only the finalise section of a factored program loads the kept record.
///
/// # Errors
/// [`VerifyError`] names the first instruction that is wrong.
///
/// ```
/// use keops_core::program::{Mode, Program};
/// use keops_core::verify::verify;
/// # let mut p: Program = "
/// # program f32 sum, keys 0, sums 1, results 1
/// # param 0
/// # kept 0
/// # reduced 1 = argument 0 at 0 of 1
/// # add, buffer 0:
/// #   %0 = Reduced[0]
/// #   emit [0] %0
/// # finalise, buffer 0:
/// #   %0 = Sums[0]
/// #   Result[0] = %0
/// # "
/// # .parse()?;
/// assert_eq!(verify(&p), Ok(()));
/// p.mode = Mode::PivotSum; // which has a key
/// assert_eq!(verify(&p).unwrap_err().section, "program");
/// # Ok::<(), keops_core::program::TextError>(())
/// ```
pub fn verify(p: &Program) -> Result<(), VerifyError> {
    program(p).map_err(|fault| VerifyError { section: "program", at: 0, fault })?;
    for (section, s) in p.sections() {
        let mut check = Check {
            p,
            s,
            section,
            open: vec![],
            defined: HashMap::new(),
            numbers: HashSet::new(),
            scopes: vec![vec![]],
            written: HashMap::new(),
            stored: HashMap::new(),
        };
        let error = |at, fault| VerifyError { section, at, fault };
        for (at, inst) in s.insts.iter().enumerate() {
            check.inst(inst).map_err(|fault| error(at, fault))?;
        }
        check.end().map_err(|fault| error(s.insts.len(), fault))?;
    }
    Ok(())
}

/// Checks that a program is one for this reduction: compute type, mode and results, and fields that
/// are its arguments.
///
/// # Errors
/// [`VerifyError`] says what differs.
///
/// ```
/// use keops_core::verify::verify_for;
/// # use keops_core::{data::DType, lower::*, parse::parse_formula, reduce::SUM, spec::Axis};
/// let f = parse_formula("x * y", None, &["x = Vi(1)", "y = Vj(1)"])?;
/// let spec = |dtype| f.spec(&SUM, Axis::J, dtype);
/// let p = lower(&spec(DType::F32), LowerOptions::default())?;
/// assert_eq!(verify_for(&p, &spec(DType::F32)), Ok(()));
/// assert_eq!(verify_for(&p, &spec(DType::F64)).unwrap_err().fault, "F32 for F64 data");
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub fn verify_for(p: &Program, spec: &ReduceSpec) -> Result<(), VerifyError> {
    fits(p, spec).map_err(|fault| VerifyError { section: "program", at: 0, fault })
}

fn fits(p: &Program, spec: &ReduceSpec) -> Checked {
    let precision = match spec.dtype.compute() {
        DType::F64 => Precision::F64,
        _ => Precision::F32,
    };
    rule(p.precision == precision, || format!("{:?} for {:?} data", p.precision, spec.dtype))?;
    let expected = match &spec.reduction.kind {
        Family::Accumulate(a) if a.pivot.is_some() => Mode::PivotSum,
        Family::Accumulate(_) => Mode::Sum,
        Family::Select(select) => Mode::Select { select: *select, k: spec.winners() },
    };
    rule(p.mode == expected, || format!("{:?} for {}", p.mode, spec.reduction.name))?;
    let dims: usize = spec.outputs().iter().map(|o| o.dim).sum();
    let made = match p.mode {
        Mode::Select { select, k } => {
            p.keys * k * (usize::from(select.value) + usize::from(select.index))
        }
        _ => p.results,
    };
    rule(made == dims, || format!("{made} results of {dims}"))?;
    for (r, category) in [
        (&p.param, Category::Param),
        (&p.kept, spec.axis.kept()),
        (&p.reduced, spec.axis.reduced()),
    ] {
        for f in r.fields.iter().chain(&r.input_fields) {
            let good = match f.source {
                Source::Argument(k) => {
                    spec.vars.get(k).is_some_and(|v| v.dim == f.dim && v.category == category)
                }
                Source::RowNumber => category != Category::Param,
            };
            rule(good, || format!("{category:?} has no {f:?}"))?;
        }
    }
    Ok(())
}

type Checked = Result<(), String>;

fn rule(holds: bool, fault: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(fault()) }
}

/// Rules 1, 2, 3 and 9.
fn program(p: &Program) -> Checked {
    let sizes = [p.keys, p.sums, p.results];
    let fits = match p.mode {
        Mode::Sum => p.keys == 0 && p.sums > 0 && p.results > 0,
        Mode::PivotSum => p.keys == 1 && p.sums > 0 && p.results > 0,
        Mode::Select { select, k } => {
            p.keys > 0
                && (p.sums, p.results) == (0, 0)
                && (k == 1 || select.many && k > 1)
                && (select.value || select.index)
        }
    };
    rule(fits && sizes.iter().all(|&n| n <= MAX_SLOTS), || {
        format!("keys, sums, results {sizes:?} for {:?}", p.mode)
    })?;
    for (name, r) in [("param", &p.param), ("kept", &p.kept), ("reduced", &p.reduced)] {
        record(r).map_err(|e| format!("{name} record: {e}"))?;
    }
    rule(p.param.input_len == 0, || "parameters have no input record".into())?;
    let runs = |name: &str| match p.mode {
        Mode::Sum => !matches!(name, "key" | "rebase"),
        Mode::PivotSum => true,
        Mode::Select { .. } => !matches!(name, "add" | "rebase" | "finalise"),
    };
    for (name, s) in p.sections() {
        rule(runs(name) || s.insts.is_empty(), || format!("{:?} has no section {name}", p.mode))?;
    }
    rule(!p.factored || p.mode == Mode::Sum, || format!("factors taken out of {:?}", p.mode))?;
    for k in &p.tame {
        let there = [&p.kept, &p.param]
            .iter()
            .any(|r| r.fields.iter().any(|f| f.source == Source::Argument(*k)));
        rule(there, || format!("tame argument {k} is neither kept nor a parameter"))?;
    }
    Ok(())
}

/// Rule 2.
fn record(r: &Record) -> Checked {
    let fill = |fields: &[Field], len: usize| {
        let (mut at, mut sources) = (0usize, HashSet::new());
        for f in fields {
            let source = match f.source {
                Source::Argument(k) => Some(k),
                Source::RowNumber => None,
            };
            let good = f.offset == at && f.dim > 0 && f.dim <= len && sources.insert(source);
            rule(good && (source.is_some() || f.dim == 1), || format!("field {f:?} at {at}"))?;
            at += f.dim;
        }
        rule(at <= len && len <= MAX_RECORD, || format!("{at} elements of {len}"))?;
        Ok::<usize, String>(at)
    };
    fill(&r.fields, r.len)?;
    let filled = fill(&r.input_fields, r.input_len)?;
    rule(filled == r.input_len, || format!("input fields fill {filled} of {}", r.input_len))
}

fn fields_end(r: &Record) -> usize {
    r.fields.last().map_or(0, |f| f.offset + f.dim)
}

/// What is known of a value.
#[derive(Clone, Copy)]
struct Known {
    kind: Kind,
    accumulator: bool,
}

/// Addresses that a section writes: `(low, turns of each loop with its stride)`.
type Written = Vec<(i64, Vec<(usize, i64)>)>;

struct Check<'p> {
    p: &'p Program,
    s: &'p Stream,
    section: &'static str,
    open: Vec<(Loop, usize)>,
    defined: HashMap<Val, Known>,
    numbers: HashSet<Val>,
    scopes: Vec<Vec<Val>>,
    /// By memory; slots count as [`Space::Key`].
    written: HashMap<Space, Written>,
    /// Elements of the buffer, and of the memory of derived values, that were stored to.
    stored: HashMap<Space, Vec<bool>>,
}

/// Number of elements that an address runs over, or more.
fn count(loops: &[(usize, i64)]) -> usize {
    loops.iter().fold(1, |n, l| n.saturating_mul(l.0))
}
/// The elements that an address runs over.
fn elements(low: i64, loops: &[(usize, i64)]) -> Vec<usize> {
    loops.iter().fold(vec![low as usize], |at, &(turns, stride)| {
        at.iter().flat_map(|a| (0..turns).map(move |k| a + k * stride as usize)).collect()
    })
}

impl Check<'_> {
    fn used(&self, v: Val) -> Result<Known, String> {
        self.defined.get(&v).copied().ok_or_else(|| format!("%{} is not defined here", v.0))
    }
    fn real(&self, v: Val) -> Checked {
        let kind = self.used(v)?.kind;
        rule(kind == Kind::Real, || format!("%{} is {kind:?}, not Real", v.0))
    }
    fn define(&mut self, v: Val, known: Known) -> Checked {
        let declared = self.s.kinds.get(v.0 as usize);
        rule(declared == Some(&known.kind), || {
            format!("%{} is {:?}, declared as {declared:?}", v.0, known.kind)
        })?;
        rule(self.defined.insert(v, known).is_none(), || format!("%{} is defined twice", v.0))?;
        self.numbers.insert(v);
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(v);
        }
        Ok(())
    }
    /// The lowest element that an address runs over, and turns and strides from there (positive,
    /// several turns); all of them within `len` elements.
    fn within(
        &self,
        a: &Affine,
        len: usize,
        what: &str,
    ) -> Result<(i64, Vec<(usize, i64)>), String> {
        let (mut low, mut high) = (i128::from(a.offset), i128::from(a.offset));
        let mut loops = vec![];
        for &(l, stride) in &a.terms {
            let Some(&(_, turns)) = self.open.iter().find(|o| o.0 == l) else {
                return Err(format!("loop l{} is not open", l.0));
            };
            let far = i128::from(stride) * (turns as i128 - 1);
            low += far.min(0);
            high += far.max(0);
            if turns > 1 && stride != 0 {
                loops.push((turns, stride.saturating_abs()));
            }
        }
        rule(low >= 0 && high < len as i128, || format!("{what} {low}..={high} of {len}"))?;
        Ok((low as i64, loops))
    }
    fn len(&self, space: Space) -> usize {
        let p = self.p;
        match space {
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
        }
    }
    /// Rule 7: may this section load from there?
    fn loads(&self, space: Space, at: &Affine) -> Checked {
        use Space::*;
        let pair = matches!(self.section, "key" | "add");
        let may = match space {
            Param | Buffer => true,
            Kept => {
                pair || self.section == "per kept" || self.section == "finalise" && self.p.factored
            }
            Reduced => pair || self.section == "per reduced",
            KeptInput => self.section == "per kept",
            ReducedInput => self.section == "per reduced",
            Sums => matches!(self.section, "rebase" | "finalise"),
            Pivot => {
                // The old pivot is there only while sums are rebased.
                let old = *at != Affine::constant(0);
                self.p.mode == Mode::PivotSum
                    && match self.section {
                        "add" | "finalise" => !old,
                        "rebase" => true,
                        _ => false,
                    }
            }
            Key => self.section == "add" && self.p.mode == Mode::PivotSum,
            Result => false,
        };
        rule(may, || format!("{} loads from {space:?}", self.section))?;
        let (low, loops) = self.within(at, self.len(space), &format!("{space:?}"))?;
        rule(self.known(space, low, &loops), || {
            format!("{space:?}[{at}] is loaded before it is stored to")
        })
    }
    /// The memory that the section makes: only there can a load come before its store.
    fn own(&self) -> Option<Space> {
        match self.section {
            "once" => Some(Space::Param),
            "per kept" => Some(Space::Kept),
            "per reduced" => Some(Space::Reduced),
            _ => None,
        }
    }
    /// Is everything stored to that an address of this section's own memory runs over?
    fn known(&self, space: Space, low: i64, loops: &[(usize, i64)]) -> bool {
        if space != Space::Buffer && self.own() != Some(space)
            || self.len(space).max(count(loops)) > MAX_TRACKED
        {
            return true;
        }
        let (first, stored) = (self.derived_from(space), self.stored.get(&space));
        let there = |&k: &usize| k < first || stored.is_some_and(|s| s[k]);
        elements(low, loops).iter().all(there)
    }
    fn stores(&mut self, space: Space, at: &Affine) -> Checked {
        let may = match self.section {
            "once" => space == Space::Param,
            "per kept" => space == Space::Kept,
            "per reduced" => space == Space::Reduced,
            "rebase" => space == Space::Sums,
            "finalise" => space == Space::Result,
            _ => false,
        };
        rule(may || space == Space::Buffer, || format!("{} stores to {space:?}", self.section))?;
        self.writes(space, at, self.len(space))
    }
    fn writes(&mut self, space: Space, at: &Affine, len: usize) -> Checked {
        let (low, loops) = self.within(at, len, &format!("{space:?}"))?;
        let first = self.derived_from(space);
        rule(low >= first as i64, || format!("{space:?} {low} is an argument"))?;
        if (space == Space::Buffer || self.own() == Some(space)) && len <= MAX_TRACKED {
            let stored = self.stored.entry(space).or_insert_with(|| vec![false; len]);
            if count(&loops) > MAX_TRACKED {
                stored.fill(true);
            } else {
                elements(low, &loops).into_iter().for_each(|k| stored[k] = true);
            }
        }
        if space == Space::Buffer {
            return Ok(());
        }
        self.written.entry(space).or_default().push((low, loops));
        Ok(())
    }
    /// First element of a memory that a section may write.
    fn derived_from(&self, space: Space) -> usize {
        match space {
            Space::Param => fields_end(&self.p.param),
            Space::Kept => fields_end(&self.p.kept),
            Space::Reduced => fields_end(&self.p.reduced),
            _ => 0,
        }
    }
    fn inst(&mut self, inst: &SInst) -> Checked {
        match inst {
            SInst::Def { dst, op, args } => {
                let kinds = args
                    .iter()
                    .map(|a| Ok(self.used(*a)?.kind))
                    .collect::<Result<Vec<_>, String>>()?;
                let expected = match op {
                    Op::Prim(p) => p.signature().0,
                    Op::Table(o) => &[Kind::Real; 8][..o.arity.min(8)],
                    Op::Gather { .. } => &[Kind::Int][..],
                    Op::Real(_) | Op::Int(_) | Op::Load(..) | Op::Counter(_) => &[],
                };
                rule(kinds == expected, || format!("{op} takes {expected:?}, got {kinds:?}"))?;
                match op {
                    Op::Prim(Prim::IntShl(by) | Prim::IntShr(by)) => {
                        let bits = if self.p.precision == Precision::F32 { 32 } else { 64 };
                        rule(*by < bits, || format!("{op} of {bits} bits"))?;
                    }
                    Op::Load(space, at) => self.loads(*space, at)?,
                    Op::Gather { offset, len } => {
                        let end = i128::from(*offset) + *len as i128;
                        rule(*offset >= 0 && *len > 0 && end <= self.p.param.len as i128, || {
                            format!("table {offset}..{end} of {}", self.p.param.len)
                        })?;
                        rule(self.known(Space::Param, *offset, &[(*len, 1)]), || {
                            format!("table {offset}..{end} is read before it is stored to")
                        })?;
                    }
                    Op::Counter(at) => {
                        self.within(at, MAX_DIM, "counter")?;
                    }
                    Op::Prim(_) | Op::Table(_) | Op::Real(_) | Op::Int(_) => {}
                }
                self.define(*dst, Known { kind: op.kind(), accumulator: false })
            }
            SInst::Begin { id, extent } => {
                let fresh = !self.open.iter().any(|o| o.0 == *id);
                rule(fresh && *extent > 0 && *extent <= MAX_DIM, || {
                    format!("loop l{} of {extent} turns", id.0)
                })?;
                self.open.push((*id, *extent));
                self.scopes.push(vec![]);
                Ok(())
            }
            SInst::End(id) => {
                rule(self.open.pop().map(|o| o.0) == Some(*id), || {
                    format!("loop l{} is not the innermost", id.0)
                })?;
                for v in self.scopes.pop().unwrap_or_default() {
                    self.defined.remove(&v);
                }
                Ok(())
            }
            SInst::Start { acc, value } => {
                let kind = self.used(*value)?.kind;
                self.define(*acc, Known { kind, accumulator: true })
            }
            SInst::Update { acc, value } => {
                let (a, v) = (self.used(*acc)?, self.used(*value)?);
                rule(a.accumulator && a.kind == v.kind, || {
                    format!("%{} is no accumulator of {:?}", acc.0, v.kind)
                })
            }
            SInst::Emit { slot, value } => {
                self.real(*value)?;
                let len = match self.section {
                    "key" => self.p.keys,
                    "add" => self.p.sums,
                    _ => return Err("rows emit nothing".into()),
                };
                let moves = |l: &Loop| slot.terms.iter().any(|t| t.0 == *l && t.1 != 0);
                if let Some((l, _)) = self.open.iter().find(|(l, turns)| *turns > 1 && !moves(l)) {
                    return Err(format!("[{slot}] is emitted to in each turn of loop l{}", l.0));
                }
                self.writes(Space::Key, slot, len)
            }
            SInst::Store { space, at, value } => {
                self.real(*value)?;
                self.stores(*space, at)
            }
        }
    }
    /// What holds at the end of a section; rule 8 among it.
    fn end(&self) -> Checked {
        rule(self.open.is_empty(), || "an open loop".into())?;
        let (declared, defined) = (self.s.kinds.len(), self.numbers.len());
        rule(declared == defined, || format!("{declared} kinds of {defined} values"))?;
        let (space, len) = match self.section {
            "once" => (Space::Param, self.p.param.len),
            "per kept" => (Space::Kept, self.p.kept.len),
            "per reduced" => (Space::Reduced, self.p.reduced.len),
            "rebase" if self.p.mode == Mode::PivotSum => (Space::Sums, self.p.sums),
            "finalise" => (Space::Result, self.p.results),
            "key" => (Space::Key, self.p.keys),
            "add" => (Space::Key, self.p.sums),
            _ => return Ok(()),
        };
        let first = self.derived_from(space);
        let written = self.written.get(&space).map_or(&[][..], |w| w);
        // (A count first: no memory is spent on what cannot be covered.)
        let count = written.iter().fold(0usize, |n, w| n.saturating_add(count(&w.1)));
        let wanted = len - first;
        let pair = matches!(self.section, "key" | "add");
        if self.section != "add" {
            rule(count >= wanted, || format!("{space:?}: {count} of {wanted} are written"))?;
        }
        if pair {
            rule(count <= wanted, || format!("{count} components for {wanted} slots"))?;
        }
        if count > MAX_TRACKED {
            return Ok(());
        }
        let mut seen = vec![false; wanted];
        for (low, loops) in written {
            for k in elements(low - first as i64, loops) {
                let again = std::mem::replace(&mut seen[k], true);
                rule(!(again && pair), || format!("slot {k} is emitted to twice"))?;
            }
        }
        match seen.iter().position(|s| !s) {
            Some(k) if self.section != "add" => {
                Err(format!("{space:?} {} is never written", k + first))
            }
            _ => Ok(()),
        }
    }
}

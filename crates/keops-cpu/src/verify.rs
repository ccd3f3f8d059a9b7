//! Executable specification of vector code.
//!
//! [`verify`] accepts exactly the code that every executor has to run, and finds what memory it
//! touches ([`Extents`]). It takes time linear in the size of the code; a refusal is always a
//! fault of the planner, never of a user.

mod extents;

pub use extents::Extents;

use keops_core::prim::{Kind, Prim};

use crate::vcode::{Addr, Base, Inst, LoopId, LoopKind, Ty, VCode, VReg};
use extents::Phase;

/// A broken rule and where.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("vector code is wrong at {place}: {fault}")]
pub struct VerifyError {
    /// Index of the instruction, `None` where the code as a whole is wrong.
    pub at: Option<usize>,
    /// `instruction 7, "r2 = Sub r0, r1"`, or `the end`.
    pub place: String,
    /// The rule.
    pub fault: Fault,
}

/// The rules of vector code, by what breaks them.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The number of lanes is not a power of two.
    #[error("lanes: expected a power of two, got {got}")]
    Lanes {
        /// Number of lanes.
        got: usize,
    },
    /// A register number is not below the number of registers.
    #[error("register {reg}: the code has only {registers}")]
    NoSuchRegister {
        /// Register.
        reg: u32,
        /// Registers declared.
        registers: usize,
    },
    /// A register is read where some path has not assigned it. A loop over columns may run no
    /// time at all, so that nothing assigned only there is defined behind it.
    #[error("register {reg} is read before it is assigned")]
    Undefined {
        /// Register.
        reg: u32,
    },
    /// A register has another kind than its place asks for.
    #[error("register {reg}: expected {expected}, got {got:?}")]
    KindMismatch {
        /// Register.
        reg: u32,
        /// Kinds allowed here.
        expected: &'static str,
        /// Declared kind.
        got: Kind,
    },
    /// An operation has the wrong number of arguments.
    #[error("{op:?}: expected {expected} arguments, got {got}")]
    Arity {
        /// Operation.
        op: Prim,
        /// Arguments it takes.
        expected: usize,
        /// Arguments given.
        got: usize,
    },
    /// A scalar function does not have 1 to 3 arguments.
    #[error("scalar function {name}: expected 1 to 3 arguments, got {got}")]
    CallArity {
        /// Function.
        name: &'static str,
        /// Its arity.
        got: usize,
    },
    /// A shift is not below the width of the integers.
    #[error("shift: expected less than {bits}, got {got}")]
    Shift {
        /// Bits of an integer.
        bits: usize,
        /// Shift.
        got: u8,
    },
    /// Loops are not numbered 0, 1, 2 … in order of appearance.
    #[error("loop number: expected {expected}, got {got}")]
    LoopNumber {
        /// Next number.
        expected: u32,
        /// Number given.
        got: u32,
    },
    /// `End` names another loop than the innermost open one.
    #[error("end of loop {got}: the innermost open loop is {open:?}")]
    BadNesting {
        /// Loop ended.
        got: u32,
        /// Innermost open loop.
        open: Option<u32>,
    },
    /// A loop has no end.
    #[error("loop {id} is never closed")]
    Unclosed {
        /// Loop.
        id: u32,
    },
    /// A fixed loop that never runs, or one over columns with step 0.
    #[error("loop {id}: count or step is 0")]
    EmptyLoop {
        /// Loop.
        id: u32,
    },
    /// A loop over columns stands inside another loop.
    #[error("loop {id} over columns is not at top level")]
    NestedColumns {
        /// Loop.
        id: u32,
    },
    /// `ColumnIndex` or `StoreMask` outside of the loops over columns.
    #[error("there is no current column here")]
    NoColumn,
    /// An address term names a loop that is not an open fixed loop.
    #[error("address {addr}: loop {id} is not an enclosing fixed loop")]
    BadTerm {
        /// Address.
        addr: String,
        /// Loop.
        id: u32,
    },
    /// An address that has to be constant has terms.
    #[error("address {addr} has to be constant")]
    NotConstant {
        /// Address.
        addr: String,
    },
    /// A load from, or a store to, memory that does not allow it.
    #[error("{base} memory cannot be {access} here")]
    BadBase {
        /// Memory.
        base: Base,
        /// `read`, `written` or `gathered from`.
        access: &'static str,
    },
    /// A scratch address leaves the declared extent.
    #[error("address {addr} covers elements {first}..{end} of a scratch memory of {scratch}")]
    ScratchExtent {
        /// Address.
        addr: String,
        /// First element touched.
        first: i64,
        /// One past the last element touched.
        end: i64,
        /// Elements declared.
        scratch: usize,
    },
    /// An address lies before the memory that it is relative to.
    #[error("address {addr} begins at element {first}")]
    BeforeStart {
        /// Address.
        addr: String,
        /// First element touched.
        first: i64,
    },
    /// Nothing bounds the indices of a gather.
    #[error(
        "index {reg} of a gather is not the bitwise and with a constant of 0 or more, both \
         assigned once"
    )]
    Unbounded {
        /// Register.
        reg: u32,
    },
    /// A mask index is not within the masks of the turn's columns.
    #[error("mask index: expected 0 to below {limit}, got {got}")]
    MaskIndex {
        /// Index.
        got: i32,
        /// Step times mask stride.
        limit: u64,
    },
    /// Wide accumulation in double precision code.
    #[error("wide accumulators exist only beside single precision")]
    WideInF64,
    /// A half of a wide accumulator is used as an ordinary register, started with anything but
    /// +0, or paired in two ways.
    #[error("register {reg} is a half of a wide accumulator: {why}")]
    WideMisuse {
        /// Register.
        reg: u32,
        /// Which of the three.
        why: &'static str,
    },
}

/// Checks every rule of vector code for vectors of `lanes` lanes, and finds what it touches.
///
/// # Errors
/// The first broken rule, with the instruction that breaks it.
pub fn verify(code: &VCode, lanes: usize) -> Result<Extents, VerifyError> {
    let whole = |fault| VerifyError { at: None, place: "the whole".into(), fault };
    if !lanes.is_power_of_two() {
        return Err(whole(Fault::Lanes { got: lanes }));
    }
    let mut checker = Checker {
        code,
        lanes: lanes as i64,
        defined: vec![false; code.kinds.len()],
        defined_in_columns: Vec::new(),
        halves: vec![None; code.kinds.len()],
        loops: Vec::new(),
        open: Vec::new(),
        place: Phase::Before,
        once: None,
        extents: Extents::new(code, lanes),
    };
    let place_error = |at: usize, fault| VerifyError {
        at: Some(at),
        place: format!("instruction {at}, \"{}\"", code.inst_text(&code.insts[at])),
        fault,
    };
    for (at, inst) in code.insts.iter().enumerate() {
        checker.pair_halves(inst).map_err(|fault| place_error(at, fault))?;
    }
    for (at, inst) in code.insts.iter().enumerate() {
        checker.inst(inst).map_err(|fault| place_error(at, fault))?;
    }
    match checker.open.last() {
        Some(&id) => Err(VerifyError {
            at: None,
            place: "the end".into(),
            fault: Fault::Unclosed { id: id.0 },
        }),
        None => Ok(checker.extents),
    }
}

/// Which memory access an address is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Gather,
}

struct Checker<'a> {
    code: &'a VCode,
    lanes: i64,
    defined: Vec<bool>,
    /// Registers first assigned in the open loop over columns.
    defined_in_columns: Vec<VReg>,
    /// For a half of a wide accumulator: its pair.
    halves: Vec<Option<[VReg; 2]>>,
    /// Kinds of the loops begun so far.
    loops: Vec<LoopKind>,
    open: Vec<LoopId>,
    /// Where the loops over columns are, seen from here.
    place: Phase,
    /// For every register the only instruction that assigns it, if there is only one; found when
    /// first needed.
    once: Option<Vec<Option<usize>>>,
    extents: Extents,
}

impl Checker<'_> {
    fn pair_halves(&mut self, inst: &Inst) -> Result<(), Fault> {
        let pair = match inst {
            Inst::WideAdd { acc, .. } => *acc,
            Inst::WideStore { src, .. } => *src,
            _ => return Ok(()),
        };
        if self.code.ty != Ty::F32 {
            return Err(Fault::WideInF64);
        }
        let misuse = |reg: VReg| Fault::WideMisuse { reg: reg.0, why: "paired in two ways" };
        if pair[0] == pair[1] {
            return Err(misuse(pair[0]));
        }
        for reg in pair {
            self.kind(reg, &[Kind::Real])?;
            match &mut self.halves[reg.0 as usize] {
                Some(other) if *other != pair => return Err(misuse(reg)),
                half => *half = Some(pair),
            }
        }
        Ok(())
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), Fault> {
        match inst {
            Inst::Op { dst, op, args } => {
                let bits = 8 * self.code.ty.size();
                match op {
                    Prim::IntShl(n) | Prim::IntShr(n) if usize::from(*n) >= bits => {
                        return Err(Fault::Shift { bits, got: *n });
                    }
                    Prim::Call(f) | Prim::CallIf(f) if !(1..=3).contains(&f.arity) => {
                        return Err(Fault::CallArity { name: f.name, got: f.arity });
                    }
                    _ => {}
                }
                let (kinds, result) = op.signature();
                if args.len() != kinds.len() {
                    return Err(Fault::Arity { op: *op, expected: kinds.len(), got: args.len() });
                }
                for (arg, kind) in args.iter().zip(kinds) {
                    self.read(*arg, &[*kind])?;
                }
                self.write(*dst, result)
            }
            Inst::Const { dst, value } => {
                self.kind(*dst, &[Kind::Real])?;
                if self.halves[dst.0 as usize].is_some() {
                    if value.to_bits() != 0 {
                        let why = "it starts with a constant other than +0";
                        return Err(Fault::WideMisuse { reg: dst.0, why });
                    }
                    self.define(*dst);
                    return Ok(());
                }
                self.write(*dst, Kind::Real)
            }
            Inst::ConstInt { dst, .. } => self.write(*dst, Kind::Int),
            Inst::Load { dst, addr, broadcast } => {
                self.addr(addr, Access::Read, if *broadcast { 1 } else { self.lanes })?;
                self.write(*dst, Kind::Real)
            }
            Inst::Store { addr, src } => {
                self.read(*src, &[Kind::Real, Kind::Int])?;
                self.addr(addr, Access::Write, self.lanes)
            }
            Inst::StoreMask { index, src } => {
                self.read(*src, &[Kind::Mask])?;
                let step = self.columns_step().ok_or(Fault::NoColumn)?;
                let limit = u64::from(step) * u64::from(self.code.mask_stride);
                match u64::try_from(*index) {
                    Ok(index) if index < limit => {
                        self.extents.mask(self.place, i64::try_from(index).unwrap_or(i64::MAX));
                        Ok(())
                    }
                    _ => Err(Fault::MaskIndex { got: *index, limit }),
                }
            }
            Inst::Gather { dst, addr, idx } => {
                self.read(*idx, &[Kind::Int])?;
                let last = self.bound(*idx);
                self.addr(addr, Access::Gather, last.unwrap_or(0).saturating_add(1))?;
                last.ok_or(Fault::Unbounded { reg: idx.0 })?;
                self.write(*dst, Kind::Real)
            }
            Inst::ColumnIndex { dst } => {
                self.columns_step().ok_or(Fault::NoColumn)?;
                self.write(*dst, Kind::Int)
            }
            Inst::WideAdd { acc, src } => {
                self.read_halves(acc)?;
                self.read(*src, &[Kind::Real])
            }
            Inst::WideStore { addr, src } => {
                self.read_halves(src)?;
                self.addr(addr, Access::Write, 2 * self.lanes)
            }
            Inst::Begin { id, kind } => self.begin(*id, *kind),
            Inst::End { id } => self.end(*id),
        }
    }

    fn begin(&mut self, id: LoopId, kind: LoopKind) -> Result<(), Fault> {
        let expected = self.loops.len() as u32;
        if id.0 != expected {
            return Err(Fault::LoopNumber { expected, got: id.0 });
        }
        match kind {
            LoopKind::Fixed(0) | LoopKind::Columns { step: 0 } => {
                return Err(Fault::EmptyLoop { id: id.0 });
            }
            LoopKind::Columns { .. } if !self.open.is_empty() => {
                return Err(Fault::NestedColumns { id: id.0 });
            }
            LoopKind::Fixed(_) | LoopKind::Columns { .. } => {}
        }
        if let LoopKind::Columns { step } = kind {
            self.place = Phase::Turn(step);
        }
        self.loops.push(kind);
        self.open.push(id);
        Ok(())
    }

    fn end(&mut self, id: LoopId) -> Result<(), Fault> {
        let open = self.open.pop();
        if open != Some(id) {
            return Err(Fault::BadNesting { got: id.0, open: open.map(|l| l.0) });
        }
        if let LoopKind::Columns { .. } = self.loops[id.0 as usize] {
            self.place = Phase::After;
        }
        // Only a loop over columns has ended where none is open any more but registers are listed.
        if self.open.is_empty() {
            for reg in self.defined_in_columns.drain(..) {
                self.defined[reg.0 as usize] = false;
            }
        }
        Ok(())
    }

    /// Columns per turn of the open loop over columns.
    fn columns_step(&self) -> Option<u32> {
        match self.loops[self.open.first()?.0 as usize] {
            LoopKind::Columns { step } => Some(step),
            LoopKind::Fixed(_) => None,
        }
    }

    fn kind(&self, reg: VReg, expected: &[Kind]) -> Result<(), Fault> {
        let registers = self.code.kinds.len();
        let got = *self
            .code
            .kinds
            .get(reg.0 as usize)
            .ok_or(Fault::NoSuchRegister { reg: reg.0, registers })?;
        if expected.contains(&got) {
            return Ok(());
        }
        let expected = match expected {
            [Kind::Real] => "Real",
            [Kind::Mask] => "Mask",
            [Kind::Int] => "Int",
            _ => "Real or Int",
        };
        Err(Fault::KindMismatch { reg: reg.0, expected, got })
    }

    fn read(&self, reg: VReg, kinds: &[Kind]) -> Result<(), Fault> {
        self.kind(reg, kinds)?;
        if self.halves[reg.0 as usize].is_some() {
            return Err(Fault::WideMisuse { reg: reg.0, why: "it is read as a vector" });
        }
        self.check_defined(reg)
    }

    fn read_halves(&self, pair: &[VReg; 2]) -> Result<(), Fault> {
        pair.iter().try_for_each(|reg| self.check_defined(*reg))
    }

    fn check_defined(&self, reg: VReg) -> Result<(), Fault> {
        if self.defined[reg.0 as usize] { Ok(()) } else { Err(Fault::Undefined { reg: reg.0 }) }
    }

    fn write(&mut self, reg: VReg, kind: Kind) -> Result<(), Fault> {
        self.kind(reg, &[kind])?;
        if self.halves[reg.0 as usize].is_some() {
            return Err(Fault::WideMisuse { reg: reg.0, why: "it is assigned a vector" });
        }
        self.define(reg);
        Ok(())
    }

    fn define(&mut self, reg: VReg) {
        let defined = &mut self.defined[reg.0 as usize];
        if !*defined {
            *defined = true;
            if self.columns_step().is_some() {
                self.defined_in_columns.push(reg);
            }
        }
    }

    /// The largest value of a register that is assigned once, by a bitwise and with a constant of 0
    /// or more.
    fn bound(&mut self, reg: VReg) -> Option<i64> {
        let code = self.code;
        let once = self.once.get_or_insert_with(|| {
            let mut once = vec![None; code.kinds.len()];
            let mut seen = vec![false; code.kinds.len()];
            for (at, inst) in code.insts.iter().enumerate() {
                // Numbers that are too large are found where they are used.
                if let Some(dst) = inst.dst().filter(|dst| (dst.0 as usize) < once.len()) {
                    let again = std::mem::replace(&mut seen[dst.0 as usize], true);
                    once[dst.0 as usize] = (!again).then_some(at);
                }
            }
            once
        });
        let assigned = |reg: VReg| Some(&code.insts[(*once.get(reg.0 as usize)?)?]);
        let constant = |reg: &VReg| match assigned(*reg) {
            Some(Inst::ConstInt { value, .. }) if *value >= 0 => Some(*value),
            _ => None,
        };
        match assigned(reg) {
            Some(Inst::Op { op: Prim::IntAnd, args, .. }) => args.iter().find_map(constant),
            _ => None,
        }
    }

    /// Checks an access to `len` elements.
    fn addr(&mut self, addr: &Addr, access: Access, len: i64) -> Result<(), Fault> {
        let allowed = match (access, addr.base) {
            (Access::Gather, base) => base == Base::Param,
            (_, Base::State | Base::Scratch) => true,
            (Access::Read, base) => base != Base::Out,
            (Access::Write, base) => base == Base::Out,
        };
        if !allowed {
            let access = match access {
                Access::Read => "read",
                Access::Write => "written",
                Access::Gather => "gathered from",
            };
            return Err(Fault::BadBase { base: addr.base, access });
        }
        if access == Access::Gather && !addr.terms.is_empty() {
            return Err(Fault::NotConstant { addr: addr.to_string() });
        }
        let (mut first, mut last) = (i64::from(addr.offset), i64::from(addr.offset));
        for &(id, stride) in &addr.terms {
            let count = match self.loops.get(id.0 as usize) {
                Some(LoopKind::Fixed(count)) if self.open.contains(&id) => *count,
                _ => return Err(Fault::BadTerm { addr: addr.to_string(), id: id.0 }),
            };
            // Below 2^63: |stride| <= 2^31, count < 2^32; saturation keeps many terms in range.
            let reach = i64::from(stride) * i64::from(count - 1);
            first = first.saturating_add(reach.min(0));
            last = last.saturating_add(reach.max(0));
        }
        let end = last.saturating_add(len);
        if addr.base == Base::Scratch
            && (first < 0 || u64::try_from(end).is_ok_and(|end| end > self.code.scratch as u64))
        {
            return Err(Fault::ScratchExtent {
                addr: addr.to_string(),
                first,
                end,
                scratch: self.code.scratch,
            });
        }
        if first < 0 {
            return Err(Fault::BeforeStart { addr: addr.to_string(), first });
        }
        self.extents.touch(self.place, addr.base, end);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

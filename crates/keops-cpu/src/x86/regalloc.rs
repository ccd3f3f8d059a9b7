//! Registers and spill slots while code is being emitted.
//!
//! One pass over the instructions. A value is in a register, in a spill slot, or *lazy*: a load
//! or constant that costs nothing until it is used and then usually becomes a memory operand.
//! When registers run out, the value with the furthest next use gives way (Belady 1966), clean
//! values (lazy ones, or stored before) in preference to those that would have to be stored.
//!
//! See `loops` for what happens at the heads of loops.

use super::asm::{Asm, Mem, Op, RAX, RSP, Rm, Size, wide};
use super::liveness::{Address, Liveness, NONE};
use super::registers::{Home, POOL, SPILL, pointer};
use crate::vcode::{Ty, VCode, VReg};
use hashbrown::HashMap;
use keops_core::prim::Kind;

/// Spill slots of calls, the first ones: three arguments, the result, and in
/// [`SAVED_SLOT`] and behind it the registers that a conditional call saves.
const CALL_SLOTS: u32 = SAVED_SLOT + 40;
/// See [`CALL_SLOTS`].
const SAVED_SLOT: u32 = 4;
/// A place in memory; if `index` is given, that stack word has to be brought to `rax` first.
#[derive(Clone, Copy, PartialEq)]
pub struct Source {
    mem: Mem,
    index: Option<i32>,
}

/// An operand: register or memory.
#[derive(Clone, Copy, PartialEq)]
pub enum Loc {
    /// Physical register.
    Reg(u8),
    /// Memory.
    Mem(Source),
}

/// First mask register in the numbering of all registers; `k0` is not used, since as a write
/// mask it means "no mask".
const K0: u8 = 32;
const MASK_CLASS: u64 = 0xFE << K0;

/// Where the value of a virtual register is.
#[derive(Clone, Copy)]
pub struct Val {
    /// Register, or [`NO_REG`].
    pub reg: u8,
    /// Does the slot hold the value?
    pub stored: bool,
    /// Loops that need the slot to stay this value's.
    pub held: u16,
    /// Register to prefer for the next assignment: where the loop wants the value.
    pub hint: u8,
    /// Spill slot or [`NONE`].
    pub slot: u32,
    /// Index in `sources` or [`NONE`].
    pub lazy: u32,
    /// Next use or [`NONE`].
    pub next: u32,
    /// Last loop that has looked at this value.
    pub seen: u32,
}

/// No register.
pub const NO_REG: u8 = u8::MAX;

/// Code that is jumped to in rare cases and lies behind the routine.
type SlowPath = Box<dyn FnOnce(&mut Gen<'_>)>;

/// The generator's state.
pub struct Gen<'a> {
    /// What is being compiled.
    pub code: &'a VCode,
    /// What is known about it.
    pub live: &'a Liveness,
    /// Output.
    pub asm: Asm,
    /// AVX-512?
    pub evex: bool,
    /// Position of the current instruction.
    pub pos: u32,
    slow_paths: Vec<SlowPath>,
    /// Values by virtual register.
    pub vals: Vec<Val>,
    /// Virtual register by physical one.
    pub file: [u32; 40],
    free: u64,
    temps: u64,
    pins: u64,
    sources: Vec<Source>,
    free_slots: Vec<u32>,
    dead_slots: Vec<u32>,
    slots: u32,
    spill_stores: usize,
    pool: Vec<u64>,
    pool_index: HashMap<u64, i32>,
    /// Homes of address terms.
    pub terms: Vec<Home>,
    /// Homes of loop counters.
    pub counters: Vec<Home>,
    /// Ends of the bodies of open loops, the innermost last.
    pub turn_ends: Vec<u32>,
    /// Loops begun so far.
    pub loops_begun: usize,
}

impl<'a> Gen<'a> {
    /// Nothing emitted yet; `terms` and `counters` are the homes of address terms and counters.
    pub fn new(
        code: &'a VCode,
        live: &'a Liveness,
        evex: bool,
        terms: Vec<Home>,
        counters: Vec<Home>,
    ) -> Gen<'a> {
        let val = Val {
            reg: NO_REG,
            stored: false,
            held: 0,
            hint: NO_REG,
            slot: NONE,
            lazy: NONE,
            next: NONE,
            seen: NONE,
        };
        let vectors = if evex { 0xFFFF_FFFF } else { 0xFFFF };
        Gen {
            code,
            live,
            asm: Asm::new(evex, 256 + 8 * code.insts.len()),
            evex,
            pos: 0,
            slow_paths: Vec::new(),
            vals: vec![val; code.kinds.len()],
            file: [NONE; 40],
            free: vectors | MASK_CLASS,
            temps: 0,
            pins: 0,
            sources: Vec::new(),
            free_slots: Vec::new(),
            dead_slots: Vec::new(),
            slots: if live.calls { CALL_SLOTS } else { 0 },
            spill_stores: 0,
            pool: Vec::new(),
            pool_index: HashMap::new(),
            terms,
            counters,
            turn_ends: Vec::new(),
            loops_begun: 0,
        }
    }

    /// Appends code behind the routine, when that is complete.
    pub fn later(&mut self, path: impl FnOnce(&mut Gen<'_>) + 'static) {
        self.slow_paths.push(Box::new(path));
    }

    /// Emits what [`Gen::later`] was given.
    pub fn append_slow_paths(&mut self) {
        for path in std::mem::take(&mut self.slow_paths) {
            path(self);
        }
    }

    /// Registers that hold values, as a set.
    pub fn occupied(&self) -> u64 {
        (0..self.file.len()).filter(|&r| self.file[r] != NONE).fold(0, |set, r| set | 1 << r)
    }

    /// Saves the registers of a set to the slots of calls, or restores them.
    pub fn save_set(&mut self, mut set: u64, restore: bool) {
        while set != 0 {
            let reg = set.trailing_zeros() as u8;
            set &= set - 1;
            let place = self.spill_place(SAVED_SLOT + u32::from(reg));
            if restore {
                self.load_to(reg, Loc::Mem(place));
            } else {
                self.store_from(reg, place);
            }
        }
    }

    /// Compute type.
    pub fn ty(&self) -> Ty {
        self.code.ty
    }

    /// Bytes of a vector register.
    pub fn vector_bytes(&self) -> i32 {
        if self.evex { 64 } else { 32 }
    }

    /// Register class of a value: 1 for mask registers, 0 for vectors.
    pub fn class(&self, v: VReg) -> usize {
        usize::from(self.evex && self.code.kinds[v.0 as usize] == Kind::Mask)
    }

    pub fn val(&mut self, v: VReg) -> &mut Val {
        &mut self.vals[v.0 as usize]
    }

    /// Spill slots in use at the peak, and the number of instructions that store to one.
    pub fn spill_counts(&self) -> (u32, usize) {
        (self.slots, self.spill_stores)
    }

    // ---- emission -------------------------------------------------------------------------

    /// Emits a vector instruction; `reg` and `src` may be mask registers.
    pub fn emit(&mut self, op: Op, reg: u8, src: u8, rm: Loc) {
        self.emit_full(op, reg, src, rm, 0, None);
    }

    /// [`Gen::emit`] with an immediate.
    pub fn emit_imm(&mut self, op: Op, reg: u8, src: u8, rm: Loc, imm: u8) {
        self.emit_full(op, reg, src, rm, 0, Some(imm));
    }

    /// [`Gen::emit`] with a write mask and an immediate.
    pub fn emit_full(&mut self, op: Op, reg: u8, src: u8, rm: Loc, k: u8, imm: Option<u8>) {
        let rm = match rm {
            Loc::Reg(r) => Rm::Reg(r & 31),
            Loc::Mem(s) => Rm::Mem(self.prepare(s)),
        };
        self.asm.vector(op, reg & 31, src & 31, &rm, k & 7, imm);
    }

    /// The memory operand, ready for the next instruction only.
    fn prepare(&mut self, s: Source) -> Mem {
        if let Some(slot) = s.index {
            self.asm.load(RAX, Mem::at(RSP, slot));
        }
        s.mem
    }

    /// `kmovw k, mem` or `kmovw mem, k`, and between mask registers.
    fn move_mask(&mut self, store: bool, k: u8, rm: Rm) {
        self.asm.vex(1, 0, 0, 0, 0x90 | u8::from(store), k & 7, 0, &rm);
    }

    pub fn move_reg(&mut self, dst: u8, src: u8) {
        if dst >= K0 {
            self.move_mask(false, dst, Rm::Reg(src & 7));
        } else {
            self.emit(Op::classic(self.ty(), 0x28), dst, 0, Loc::Reg(src));
        }
    }

    /// `dst = src` for vectors, from anywhere.
    pub fn load_to(&mut self, dst: u8, src: Loc) {
        match src {
            Loc::Reg(r) => self.move_reg(dst, r),
            Loc::Mem(s) if dst >= K0 => {
                let m = self.prepare(s);
                self.move_mask(false, dst, Rm::Mem(m));
            }
            Loc::Mem(s) if self.is_zero(s.mem) => {
                self.emit(Op::classic(self.ty(), 0x57), dst, dst, Loc::Reg(dst));
            }
            Loc::Mem(s) => {
                let op = if s.mem.bcast {
                    let w = wide(self.ty());
                    Op::new(2, 1, w, 0x18 + w).sized(Size::Elem)
                } else {
                    Op::classic(self.ty(), 0x10)
                };
                self.emit(op, dst, 0, src);
            }
        }
    }

    /// Stores a vector register to `[base + disp]` or another place.
    pub fn store_from(&mut self, src: u8, to: Source) {
        if src >= K0 {
            let m = self.prepare(to);
            self.move_mask(true, src, Rm::Mem(m));
        } else {
            self.emit(Op::classic(self.ty(), 0x11), src, 0, Loc::Mem(to));
        }
    }

    // ---- memory ---------------------------------------------------------------------------

    /// A constant given by its bits, in every lane.
    pub fn constant(&mut self, bits: u64) -> Loc {
        let size = if self.evex { self.ty().size() as i32 } else { 32 };
        let next = self.pool.len() as i32 * size;
        let disp = *self.pool_index.entry(bits).or_insert(next);
        if disp == next {
            self.pool.push(bits);
        }
        let mem = Mem { bcast: self.evex, ..Mem::at(POOL, disp) };
        Loc::Mem(Source { mem, index: None })
    }

    /// A real constant of the compute type.
    pub fn real(&mut self, v: f64) -> Loc {
        let bits = match self.ty() {
            Ty::F32 => u64::from((v as f32).to_bits()),
            Ty::F64 => v.to_bits(),
        };
        self.constant(bits)
    }

    fn is_zero(&self, m: Mem) -> bool {
        m.base == POOL && self.pool_index.get(&0) == Some(&m.disp)
    }

    /// Bytes of the pool: one element per constant under EVEX, which broadcasts, else a vector.
    pub fn pool_bytes(&self) -> Vec<u8> {
        let size = self.ty().size();
        let copies = if self.evex { 1 } else { 32 / size };
        let mut out = Vec::with_capacity(self.pool.len() * size * copies);
        for bits in &self.pool {
            for _ in 0..copies {
                out.extend_from_slice(&bits.to_le_bytes()[..size]);
            }
        }
        out
    }

    /// The operand of a place.
    pub fn source(&self, place: Address, bcast: bool) -> Source {
        let mut mem = Mem { bcast, ..Mem::at(pointer(place.base), place.disp) };
        let mut index = None;
        if let Some((t, scale)) = place.term {
            mem.scale = scale;
            mem.index = Some(match self.terms[t] {
                Home::Reg(r) => r,
                Home::Stack(d) => {
                    index = Some(d);
                    RAX
                }
            });
        }
        Source { mem, index }
    }

    /// A word relative to the stack pointer, broadcast.
    pub fn stack_word(&self, disp: i32) -> Source {
        Source { mem: Mem { bcast: true, ..Mem::at(RSP, disp) }, index: None }
    }

    /// A place in the spill area.
    pub fn spill_place(&self, slot: u32) -> Source {
        Source { mem: Mem::at(SPILL, slot as i32 * self.vector_bytes()), index: None }
    }

    /// The same place `bytes` further on.
    pub fn displaced(&self, s: Source, bytes: i32) -> Source {
        Source { mem: Mem { disp: s.mem.disp + bytes, ..s.mem }, ..s }
    }

    /// Base of a gather: the operand `[place + index * element]` over a vector of indices.
    pub fn indexed(&self, s: Source, index: u8) -> Loc {
        let scale = 2 + wide(self.ty());
        Loc::Mem(Source { mem: Mem { index: Some(index), scale, ..s.mem }, index: None })
    }

    /// Can the instruction read this operand from memory?
    pub fn foldable(&self, s: Source) -> bool {
        self.evex || !s.mem.bcast
    }

    /// A slot of its own.
    pub fn new_slot(&mut self) -> u32 {
        self.free_slots.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        })
    }

    // ---- values ---------------------------------------------------------------------------

    /// `v` becomes a load or constant that happens when it is needed.
    pub fn define_lazy(&mut self, v: VReg, source: Loc, next: u32) {
        self.release(v);
        if let (Loc::Mem(s), true) = (source, next != NONE) {
            self.sources.push(s);
            let lazy = self.sources.len() as u32 - 1;
            let val = self.val(v);
            val.lazy = lazy;
            val.next = next;
        }
    }

    /// Forgets the value of `v`.
    pub fn release(&mut self, v: VReg) {
        let val = self.val(v);
        let (reg, slot) = (val.reg, val.slot);
        val.reg = NO_REG;
        val.stored = false;
        val.lazy = NONE;
        val.next = NONE;
        if val.held == 0 {
            val.slot = NONE;
            if slot != NONE {
                // Not before the end of the instruction, which may still read it.
                self.dead_slots.push(slot);
            }
        }
        if reg != NO_REG {
            self.vacate(reg);
        }
    }

    fn vacate(&mut self, reg: u8) {
        self.free |= 1 << reg;
        self.file[reg as usize] = NONE;
    }

    pub fn occupy(&mut self, v: VReg, reg: u8) {
        self.free &= !(1 << reg);
        self.temps &= !(1 << reg);
        self.file[reg as usize] = v.0;
        self.val(v).reg = reg;
    }

    /// A place of the value in memory, if it has one.
    pub fn in_memory(&self, v: VReg) -> Option<Source> {
        let val = self.vals[v.0 as usize];
        if val.lazy != NONE {
            Some(self.sources[val.lazy as usize])
        } else if val.stored {
            Some(self.spill_place(val.slot))
        } else {
            None
        }
    }

    /// Makes sure that the value survives the loss of its register.
    pub fn save(&mut self, v: VReg) {
        if self.in_memory(v).is_none() {
            self.save_to_slot(v);
        }
    }

    /// Makes sure that the value, which is in a register, is in its slot.
    pub fn save_to_slot(&mut self, v: VReg) {
        let val = self.vals[v.0 as usize];
        if val.stored {
            return;
        }
        debug_assert!(val.reg != NO_REG, "nothing to save");
        if val.slot == NONE {
            let slot = self.new_slot();
            self.val(v).slot = slot;
        }
        self.val(v).stored = true;
        let place = self.spill_place(self.vals[v.0 as usize].slot);
        self.spill_stores += 1;
        self.store_from(val.reg, place);
    }

    /// Takes the register of `v` away.
    pub fn drop_reg(&mut self, v: VReg) {
        let reg = self.vals[v.0 as usize].reg;
        self.val(v).reg = NO_REG;
        self.vacate(reg);
    }

    pub fn class_mask(&self, class: usize) -> u64 {
        match (class, self.evex) {
            (1, _) => MASK_CLASS,
            (_, true) => 0xFFFF_FFFF,
            (_, false) => 0xFFFF,
        }
    }

    /// Is a register free?
    fn has_free(&self, class: usize) -> bool {
        self.free & self.class_mask(class) != 0
    }

    /// A register for the current instruction, evicting a value if necessary.
    pub fn take(&mut self, class: usize) -> u8 {
        let mask = self.class_mask(class);
        if self.free & mask == 0 {
            self.evict(mask);
        }
        let reg = (self.free & mask).trailing_zeros() as u8;
        self.free &= !(1 << reg);
        self.temps |= 1 << reg;
        reg
    }

    /// A vector register until the end of the instruction.
    pub fn temp(&mut self) -> u8 {
        self.take(0)
    }

    /// A register of the class of masks until the end of the instruction.
    pub fn temp_mask(&mut self) -> u8 {
        self.take(usize::from(self.evex))
    }

    fn evict(&mut self, mask: u64) {
        let mut candidates = mask & !self.free & !self.temps & !self.pins;
        let (mut best, mut victim) = (-1, None);
        while candidates != 0 {
            let reg = candidates.trailing_zeros();
            candidates &= candidates - 1;
            let v = VReg(self.file[reg as usize]);
            let distance = i64::from(self.vals[v.0 as usize].next.saturating_sub(self.pos));
            // A store costs more than the reload that both kinds may need.
            let score = if self.in_memory(v).is_some() { 4 * distance + 3 } else { distance };
            if score > best {
                (best, victim) = (score, Some(v));
            }
        }
        // An instruction pins and takes at most eight registers of a class.
        let v = victim.expect("some register is neither pinned nor temporary");
        self.save(v);
        self.drop_reg(v);
    }

    /// Keeps arguments that are in registers there during the instruction.
    pub fn pin(&mut self, args: &[(VReg, u32)]) {
        for &(v, _) in args {
            let reg = self.vals[v.0 as usize].reg;
            if reg != NO_REG {
                self.pins |= 1 << reg;
            }
        }
    }

    /// The value in a register, which the instruction will not lose.
    pub fn in_reg(&mut self, v: VReg) -> u8 {
        let mut reg = self.vals[v.0 as usize].reg;
        if reg == NO_REG {
            let from = self.in_memory(v).expect("a live value is somewhere");
            reg = self.take(self.class(v));
            self.load_to(reg, Loc::Mem(from));
            self.occupy(v, reg);
        }
        self.pins |= 1 << reg;
        reg
    }

    /// The value as an operand that may be in memory. It is brought to a register if it is used
    /// again in this turn of the loop and a register is free.
    pub fn operand(&mut self, v: VReg, next: u32) -> Loc {
        let val = self.vals[v.0 as usize];
        if val.reg == NO_REG {
            let turn_ends = self.turn_ends.last().copied().unwrap_or(NONE);
            let from = self.in_memory(v).expect("a live value is somewhere");
            let again = next < turn_ends && self.has_free(self.class(v));
            if !again && self.foldable(from) && self.class(v) == 0 {
                return Loc::Mem(from);
            }
        }
        Loc::Reg(self.in_reg(v))
    }

    /// Is the value in a register now?
    pub fn is_in_reg(&self, v: VReg) -> bool {
        self.vals[v.0 as usize].reg != NO_REG
    }

    /// After the operands have been looked up: sets next uses, and frees what is not used again.
    pub fn used(&mut self, args: &[(VReg, u32)]) {
        for &(v, next) in args {
            if next == NONE {
                self.release(v);
            } else {
                self.val(v).next = next;
            }
        }
    }

    /// A register for the result of the instruction. It may be that of an operand that has died.
    pub fn result(&mut self, v: VReg) -> u8 {
        self.release(v);
        let hint = self.vals[v.0 as usize].hint;
        if hint != NO_REG && self.free >> hint & 1 == 1 {
            self.free &= !(1 << hint);
            self.temps |= 1 << hint;
            return hint;
        }
        self.take(self.class(v))
    }

    /// Where the enclosing loop wants `v`.
    pub fn hint(&self, v: VReg) -> Option<u8> {
        Some(self.vals[v.0 as usize].hint).filter(|&h| h != NO_REG)
    }

    /// Takes the free register `reg`, which an operand has just left.
    pub fn retake(&mut self, reg: u8) {
        debug_assert!(self.free >> reg & 1 == 1);
        self.free &= !(1 << reg);
        self.temps |= 1 << reg;
    }

    /// The result is in `reg`.
    pub fn bind(&mut self, v: VReg, reg: u8, next: u32) {
        self.release(v);
        if next == NONE {
            return; // `end_instruction` frees the register
        }
        self.occupy(v, reg);
        self.val(v).next = next;
    }

    /// The value of `v` in `reg` has changed in place.
    pub fn changed(&mut self, v: VReg, next: u32) {
        let val = self.val(v);
        val.stored = false;
        val.lazy = NONE;
        val.next = next;
        if next == NONE {
            self.release(v);
        }
    }

    /// Frees temporaries and dead slots.
    pub fn end_instruction(&mut self) {
        self.free |= self.temps;
        self.temps = 0;
        self.pins = 0;
        self.free_slots.append(&mut self.dead_slots);
    }

    /// Empties all registers, as a call does: values that are still needed go to memory.
    pub fn spill_all(&mut self) {
        for reg in 0..self.file.len() {
            if self.file[reg] != NONE {
                let v = VReg(self.file[reg]);
                self.save(v);
                self.drop_reg(v);
            }
        }
    }
}

//! Loops: where values are at their heads, and the instructions that make them turn.
//!
//! The places of all values at the head of a loop are fixed when the loop is entered and restored
//! before the jump back. Values that the loop changes come first, then those that its body reads
//! most, as many as the peak pressure of the body leaves room for; the others are read from
//! memory where they are used.

use super::asm::{Cond, Mem, Patch, RSP, Rm};
use super::liveness::NONE;
use super::regalloc::{Gen, Loc, NO_REG};
use super::registers::{COLUMN_SLOT, MASKS, REMAINING, pointer};
use crate::vcode::{Base, LoopKind, VReg};

/// Place of a value at the head of an open loop.
struct AtHead {
    v: VReg,
    /// Does the loop change it?
    carried: bool,
    /// Register, or [`NO_REG`] for a value that the loop changes in its slot.
    reg: u8,
    stored: bool,
    hint: u8,
}

/// A value that would like a register at the head.
struct Candidate {
    weight: f64,
    v: VReg,
    carried: bool,
}

/// A loop that is being emitted.
pub struct Open {
    number: usize,
    head: Vec<AtHead>,
    label: usize,
    exit: Option<Patch>,
}

impl Gen<'_> {
    /// Enters a loop: fixes the places at its head.
    pub fn begin_loop(&mut self) -> Open {
        let number = self.loops_begun;
        self.loops_begun += 1;
        let live = self.live;
        let lp = &live.loops[number];
        let in_regs = self.file.iter().filter(|&&v| v != NONE).map(|&v| (VReg(v), false));
        let in_regs: Vec<_> = in_regs.collect();
        let mut candidates: [Vec<Candidate>; 2] = [Vec::new(), Vec::new()];
        for (v, carried) in lp.head.iter().map(|h| (h.v, h.carried)).chain(in_regs) {
            let val = self.val(v);
            if val.next == NONE || val.seen == number as u32 {
                continue;
            }
            val.seen = number as u32;
            let reads = live.weight(v, lp.begin, lp.end);
            let weight = if carried {
                1e18 + reads
            } else if self.in_memory(v).is_some_and(|s| !self.foldable(s)) {
                2.0 * reads
            } else {
                reads
            };
            if weight > 0.0 || self.is_in_reg(v) {
                candidates[self.class(v)].push(Candidate { weight, v, carried });
            }
        }
        let mut chosen = Vec::new();
        let mut in_slots = Vec::new();
        for (class, mut list) in candidates.into_iter().enumerate() {
            list.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.v.cmp(&b.v)));
            // One register more than the peak: for an operand that cannot stay in memory.
            let left = |peak| self.class_mask(class).count_ones().saturating_sub(peak + 1) as usize;
            let with_loads = lp.peak[class].max(if class == 0 { lp.peak_with_loads } else { 0 });
            // What the loop changes takes precedence over loads, which cost little.
            let carried = list.iter().filter(|c| c.carried).count().min(left(lp.peak[class]));
            let budget = carried.max(left(with_loads));
            let leave = list.split_off(budget.min(list.len()));
            chosen.extend(list);
            for c in leave {
                if c.carried {
                    in_slots.push(c.v);
                } else if self.is_in_reg(c.v) {
                    self.save(c.v);
                    self.drop_reg(c.v);
                }
            }
        }
        for &v in &in_slots {
            if !self.vals[v.0 as usize].stored {
                self.in_reg(v);
                self.save_to_slot(v);
            }
            if self.is_in_reg(v) {
                self.drop_reg(v);
            }
            self.end_instruction();
        }
        for c in &chosen {
            self.in_reg(c.v);
        }
        let mut head = Vec::with_capacity(chosen.len() + in_slots.len());
        for &Candidate { v, carried, .. } in &chosen {
            let val = self.val(v);
            let hint = val.hint;
            if carried {
                val.stored = false;
                val.lazy = NONE;
                val.hint = val.reg;
            }
            head.push(AtHead { v, carried, reg: val.reg, stored: val.stored, hint });
        }
        for v in in_slots {
            let val = self.val(v);
            val.lazy = NONE;
            val.held += 1;
            head.push(AtHead { v, carried: true, reg: NO_REG, stored: true, hint: val.hint });
        }
        self.end_instruction();
        // What only flows around the loop is dead in its body.
        for h in lp.head.iter().filter(|h| h.around) {
            self.release(h.v);
        }
        self.end_instruction();
        let exit = match lp.kind {
            LoopKind::Fixed(n) => {
                if live.term_counter(number).is_none() {
                    self.asm.set(self.counters[number].rm(), n as i32);
                }
                None
            }
            LoopKind::Columns { step } => {
                self.asm.arith(7, Rm::Reg(REMAINING), step as i32);
                Some(self.asm.jump_forward(Cond::Below))
            }
        };
        if lp.innermost {
            self.asm.align(64);
        }
        self.turn_ends.push(lp.end);
        Open { number, head, label: self.asm.code.len(), exit }
    }

    /// Restores the places at the head of the innermost loop and jumps back.
    pub fn end_loop(&mut self, open: Open) {
        let Open { number, head, label, exit } = open;
        self.turn_ends.pop();
        let live = self.live;
        let lp = &live.loops[number];
        let columns = matches!(lp.kind, LoopKind::Columns { .. });
        for h in head.iter().filter(|h| h.reg == NO_REG) {
            if self.is_in_reg(h.v) {
                self.save_to_slot(h.v);
                self.drop_reg(h.v);
            } else if let (Some(from), false) =
                (self.in_memory(h.v), self.vals[h.v.0 as usize].stored)
            {
                // A delayed load that was assigned last: through a register to the slot.
                let reg = self.take(self.class(h.v));
                self.load_to(reg, Loc::Mem(from));
                self.occupy(h.v, reg);
                self.val(h.v).lazy = NONE;
                self.save_to_slot(h.v);
                self.drop_reg(h.v);
            }
            self.val(h.v).held -= 1;
        }
        // What else is in registers gives way to the values of the head; after a loop over
        // columns, which may not have run, nothing else may be in registers at all.
        let mut target = [NONE; 40];
        let mut stays = 0u64;
        for h in head.iter().filter(|h| h.reg != NO_REG) {
            target[h.reg as usize] = h.v.0;
            let reg = self.vals[h.v.0 as usize].reg;
            if reg != NO_REG {
                stays |= 1 << reg;
            }
        }
        for (reg, &wanted) in target.iter().enumerate() {
            let v = self.file[reg];
            if v != NONE && stays >> reg & 1 == 0 && (columns || wanted != NONE) {
                self.save(VReg(v));
                self.drop_reg(VReg(v));
            }
        }
        // Moves first, those whose target is free; a cycle is broken through memory.
        let mut moves: Vec<(VReg, u8)> = head
            .iter()
            .filter(|h| h.reg != NO_REG && self.is_in_reg(h.v))
            .map(|h| (h.v, h.reg))
            .filter(|&(v, r)| self.vals[v.0 as usize].reg != r)
            .collect();
        while !moves.is_empty() {
            match moves.iter().position(|&(_, r)| self.file[r as usize] == NONE) {
                Some(k) => {
                    let (v, r) = moves.swap_remove(k);
                    self.move_reg(r, self.vals[v.0 as usize].reg);
                    self.drop_reg(v);
                    self.occupy(v, r);
                }
                None => {
                    let (v, _) = moves.swap_remove(0);
                    self.save(v);
                    self.drop_reg(v);
                }
            }
        }
        for h in head.iter().filter(|h| h.reg != NO_REG) {
            if !self.is_in_reg(h.v) {
                let from = self.in_memory(h.v).expect("a live value is somewhere");
                self.load_to(h.reg, Loc::Mem(from));
                self.occupy(h.v, h.reg);
            }
        }
        for h in &head {
            let val = self.val(h.v);
            val.stored = h.stored;
            val.hint = h.hint;
            // A carried value comes out of the last turn: what it was before is no source of it.
            if h.carried {
                val.lazy = NONE;
            }
        }
        for h in &lp.head {
            if h.after == NONE {
                self.release(h.v);
            } else {
                self.val(h.v).next = h.after;
            }
        }
        self.end_instruction();
        match lp.kind {
            LoopKind::Fixed(n) => self.next_turn(number, n, label),
            LoopKind::Columns { step } => self.next_columns(step, label),
        }
        if let Some(e) = exit {
            self.asm.land(e);
        }
    }

    fn next_turn(&mut self, number: usize, n: u32, label: usize) {
        let live = self.live;
        let lp = &live.loops[number];
        for &(t, step) in &lp.steps {
            self.asm.arith(0, self.terms[t].rm(), step);
        }
        match live.term_counter(number) {
            Some((t, step)) => self.asm.arith(7, self.terms[t].rm(), step * n as i32),
            None => self.asm.arith(5, self.counters[number].rm(), 1),
        }
        self.asm.jump_back(Cond::NotEqual, label);
        for &(t, step) in &lp.steps {
            self.asm.arith(5, self.terms[t].rm(), step * n as i32);
        }
    }

    fn next_columns(&mut self, step: u32, label: usize) {
        let size = self.ty().size() as i32;
        let step = step as i32;
        // The register of a pointer that the code does not use may serve another purpose.
        let used = |b: Base| self.live.bases[b as usize];
        let (reduced, out) = (Base::Reduced, Base::Out);
        let moves = [
            (used(reduced), Rm::Reg(pointer(reduced)), self.code.reduced_stride as i32 * size),
            (used(out), Rm::Reg(pointer(out)), self.code.out_stride as i32 * size),
            (self.live.stores_masks, Rm::Reg(MASKS), self.code.mask_stride as i32 * 4),
            (self.live.numbers_columns, Rm::Mem(Mem::at(RSP, COLUMN_SLOT)), 1),
        ];
        for (used, what, by) in moves {
            if used && by != 0 {
                self.asm.arith(0, what, by * step);
            }
        }
        self.asm.arith(5, Rm::Reg(REMAINING), step);
        if step == 1 {
            self.asm.jump_back(Cond::NotEqual, label);
        } else {
            self.asm.arith(7, Rm::Reg(REMAINING), step);
            self.asm.jump_back(Cond::AboveEqual, label);
        }
    }
}

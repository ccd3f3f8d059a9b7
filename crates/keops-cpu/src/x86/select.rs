//! Instruction selection: what every instruction of vector code becomes.

use super::asm::{Cond, Mem, Op, RAX, RCX, RDI, RDX, RSI, Rm, Size, wide};
use super::liveness::{self, NONE};
use super::loops::Open;
use super::regalloc::{Gen, Loc};
use super::registers::{COLUMN_SLOT, MASKS, SPILL};
use crate::vcode::{Inst, Ty, VReg};
use Loc::Reg;
use keops_core::prim::{Prim, ScalarFn};

/// Registers that the code of an operation needs besides operands and result.
pub fn scratch(op: Prim, evex: bool, ty: Ty) -> u32 {
    match op {
        Prim::Scale if !evex => 3,
        Prim::Exponent if !evex => 2,
        Prim::Significand if !evex => 1,
        Prim::RoundF16 if ty == Ty::F64 => 1,
        _ => 0,
    }
}

/// The spill slot of the result of a call, behind the three of its arguments.
const RESULT_SLOT: u32 = 3;

/// Applies a scalar function in the lanes whose bit in `set` is 1: up to three argument vectors,
/// then the result vector.
///
/// # Safety
/// `f` points to a scalar function and `buffer` to four vectors of `lanes` numbers.
unsafe extern "sysv64" fn apply<T: Lane>(
    f: *const ScalarFn,
    buffer: *mut T,
    lanes: usize,
    set: u32,
) {
    // SAFETY: the caller's contract. A panic of the function aborts here, at a boundary that
    // does not unwind.
    let (f, lane) = unsafe { (&*f, std::slice::from_raw_parts_mut(buffer, 4 * lanes)) };
    for i in (0..lanes).filter(|i| set >> i & 1 == 1) {
        let args = [lane[i], lane[lanes + i], lane[2 * lanes + i]];
        lane[3 * lanes + i] = T::apply(f, &args[..f.arity]);
    }
}

trait Lane: Copy {
    fn apply(f: &ScalarFn, args: &[Self]) -> Self;
}
impl Lane for f32 {
    fn apply(f: &ScalarFn, args: &[f32]) -> f32 {
        (f.f32)(args)
    }
}
impl Lane for f64 {
    fn apply(f: &ScalarFn, args: &[f64]) -> f64 {
        (f.f64)(args)
    }
}

impl Gen<'_> {
    /// Emits the instruction at `self.pos`, inside these loops.
    pub fn instruction(&mut self, loops: &mut Vec<Open>) {
        let p = self.pos as usize;
        let inst = &self.code.insts[p];
        let first = self.live.first[p] as usize;
        let next = &self.live.next[first..];
        let (_, nd) = liveness::defs(inst);
        let mut args = [(VReg(0), NONE); liveness::MAX_USES];
        let used = liveness::uses(inst);
        for (to, (&v, &n)) in args.iter_mut().zip(used.iter().zip(&next[nd..])) {
            *to = (v, n);
        }
        let args = &args[..used.len()];
        self.pin(args);
        match inst {
            Inst::Begin { .. } => loops.push(self.begin_loop()),
            Inst::End { .. } => self.end_loop(loops.pop().expect("verified structure")),
            // What is never used is not computed.
            _ if nd == 1 && next[0] == NONE => self.used(args),
            Inst::Op { dst, op, .. } => self.operation(*op, *dst, next[0], args),
            Inst::Const { dst, value } => {
                let c = self.real(*value);
                self.define_lazy(*dst, c, next[0]);
            }
            Inst::ConstInt { dst, value } => {
                let c = self.constant(match self.ty() {
                    Ty::F32 => u64::from(*value as u32),
                    Ty::F64 => *value as u64,
                });
                self.define_lazy(*dst, c, next[0]);
            }
            Inst::Load { dst, broadcast, .. } => {
                let source = self.source(self.live.place_of(self.pos), *broadcast);
                self.define_load(*dst, Loc::Mem(source), next[0]);
            }
            Inst::ColumnIndex { dst } => {
                let source = self.stack_word(COLUMN_SLOT);
                self.define_load(*dst, Loc::Mem(source), next[0]);
            }
            Inst::Store { .. } => {
                let reg = self.in_reg(args[0].0);
                let to = self.source(self.live.place_of(self.pos), false);
                self.store_from(reg, to);
                self.used(args);
            }
            Inst::StoreMask { index, .. } => {
                let reg = self.in_reg(args[0].0);
                self.mask_bits(reg);
                self.asm.store32(Mem::at(MASKS, 4 * index), RAX);
                self.used(args);
            }
            Inst::Gather { dst, .. } => self.gather(*dst, next[0], args),
            Inst::WideAdd { acc, .. } => self.wide_add(*acc, [next[0], next[1]], args),
            Inst::WideStore { .. } => {
                let to = self.source(self.live.place_of(self.pos), false);
                for (k, a) in args.iter().enumerate() {
                    let reg = self.in_reg(a.0);
                    let half = self.displaced(to, k as i32 * self.vector_bytes());
                    self.store_from(reg, half);
                }
                self.used(args);
            }
        }
        self.end_instruction();
    }

    fn define_load(&mut self, dst: VReg, source: Loc, next: u32) {
        if self.live.lazy[self.pos as usize] {
            self.define_lazy(dst, source, next);
        } else {
            let reg = self.result(dst);
            self.load_to(reg, source);
            self.bind(dst, reg, next);
        }
    }

    fn operation(&mut self, op: Prim, dst: VReg, next: u32, args: &[(VReg, u32)]) {
        use Prim::*;
        let ty = self.ty();
        let classic = |o| Op::classic(ty, o);
        let int = |narrow, wide_op| Op::int(ty, narrow, wide_op);
        let round = Op::map3(ty, 0x08 + wide(ty));
        let masks = self.evex;
        match op {
            Add => self.binary(classic(0x58), true, dst, next, args),
            Sub => self.binary(classic(0x5C), false, dst, next, args),
            Mul => self.binary(classic(0x59), true, dst, next, args),
            Div => self.binary(classic(0x5E), false, dst, next, args),
            // `a < b ? a : b` is what the instructions do: the second operand if unordered.
            Min => self.binary(classic(0x5D), false, dst, next, args),
            Max => self.binary(classic(0x5F), false, dst, next, args),
            Fma => self.fused(0x98, dst, next, args),
            Fms => self.fused(0x9A, dst, next, args),
            Fnma => self.fused(0x9C, dst, next, args),
            Neg | Abs => {
                let sign = 1u64 << (8 * ty.size() - 1);
                let (op, mask) = if op == Neg { (0x57, sign) } else { (0x54, sign - 1) };
                let mask = self.constant(mask);
                let a = self.in_reg(args[0].0);
                self.used(args);
                let r = self.result(dst);
                self.emit(classic(op), r, a, mask);
                self.bind(dst, r, next);
            }
            Sqrt => self.unary(classic(0x51), None, dst, next, args),
            RoundEven => self.unary(round, Some(8), dst, next, args),
            Floor => self.unary(round, Some(9), dst, next, args),
            Trunc => self.unary(round, Some(11), dst, next, args),
            Scale if masks => self.binary(Op::map2(ty, 0x2C), false, dst, next, args),
            Exponent if masks => self.unary(Op::map2(ty, 0x42), None, dst, next, args),
            // Interval [1, 2), sign of the source.
            Significand if masks => self.unary(Op::map3(ty, 0x26), Some(0), dst, next, args),
            Scale => self.expanded(dst, next, args, |g, d, a| {
                let t = [g.temp(), g.temp(), g.temp()];
                g.scale_by_exponent(d, a[0], a[1], t);
            }),
            Exponent => self.expanded(dst, next, args, |g, d, a| {
                let t = [g.temp(), g.temp()];
                g.exponent(d, a[0], t);
            }),
            Significand => self.expanded(dst, next, args, |g, d, a| {
                let t = g.temp();
                g.significand(d, a[0], t);
            }),
            RoundF16 => self.expanded(dst, next, args, |g, d, a| g.round_f16(d, a[0])),
            Lt => self.compare_real(0x11, 0x1E, dst, next, args),
            Le => self.compare_real(0x12, 0x1D, dst, next, args),
            Eq => self.compare_real(0x00, 0x00, dst, next, args),
            IntEq => {
                let op =
                    if ty == Ty::F32 { Op::new(1, 1, 0, 0x76) } else { Op::new(2, 1, 1, 0x29) };
                self.binary(op, true, dst, next, args);
            }
            IntLt => {
                let op =
                    if ty == Ty::F32 { Op::new(1, 1, 0, 0x66) } else { Op::new(2, 1, 1, 0x37) };
                self.binary(op, false, dst, next, &[args[1], args[0]]);
            }
            MaskAnd if masks => self.mask_binary(0x41, dst, next, args),
            MaskOr if masks => self.mask_binary(0x45, dst, next, args),
            MaskNot if masks => {
                let a = self.in_reg(args[0].0);
                self.used(args);
                let r = self.result(dst);
                self.asm.vex(1, 0, 0, 0, 0x44, r & 7, 0, &Rm::Reg(a & 7));
                self.bind(dst, r, next);
            }
            MaskAnd | IntAnd => self.binary(classic(0x54), true, dst, next, args),
            MaskOr | IntOr => self.binary(classic(0x56), true, dst, next, args),
            IntXor => self.binary(classic(0x57), true, dst, next, args),
            MaskNot => {
                let ones = self.constant(u64::MAX);
                let a = self.in_reg(args[0].0);
                self.used(args);
                let r = self.result(dst);
                self.emit(classic(0x57), r, a, ones);
                self.bind(dst, r, next);
            }
            Select | SelectInt => {
                let mask = self.in_reg(args[0].0);
                let no = self.in_reg(args[2].0);
                let yes = self.operand(args[1].0, args[1].1);
                self.used(args);
                let r = self.result(dst);
                if masks {
                    self.emit_full(Op::map2(ty, 0x65), r, no, yes, mask, None);
                } else {
                    self.select_by_vector(r, mask, yes, no);
                }
                self.bind(dst, r, next);
            }
            ToBits | FromBits => self.rename(dst, next, args),
            ToInt | FromInt => match (ty, masks, op) {
                (Ty::F32, _, ToInt) => self.unary(Op::new(1, 1, 0, 0x5B), None, dst, next, args),
                (Ty::F32, _, _) => self.unary(Op::new(1, 0, 0, 0x5B), None, dst, next, args),
                (Ty::F64, true, ToInt) => {
                    self.unary(Op::new(1, 1, 1, 0x7B), None, dst, next, args);
                }
                (Ty::F64, true, _) => self.unary(Op::new(1, 2, 1, 0xE6), None, dst, next, args),
                (Ty::F64, false, ToInt) => {
                    self.expanded(dst, next, args, |g, d, a| g.double_to_int(d, a[0]));
                }
                (Ty::F64, false, _) => {
                    self.expanded(dst, next, args, |g, d, a| g.int_to_double(d, a[0]));
                }
            },
            IntAdd => self.binary(int(0xFE, 0xD4), true, dst, next, args),
            IntSub => self.binary(int(0xFA, 0xFB), false, dst, next, args),
            IntShl(by) | IntShr(by) => {
                let a = self.in_reg(args[0].0);
                self.used(args);
                let r = self.result(dst);
                self.shift(matches!(op, IntShl(_)), r, a, by);
                self.bind(dst, r, next);
            }
            Call(f) => self.call(f, dst, next, args),
            CallIf(f) => self.call_if(f, dst, next, args),
        }
    }

    /// One instruction over one operand.
    fn unary(&mut self, op: Op, imm: Option<u8>, dst: VReg, next: u32, args: &[(VReg, u32)]) {
        let a = self.operand(args[0].0, args[0].1);
        self.used(args);
        let r = self.result(dst);
        self.emit_full(op, r, 0, a, 0, imm);
        self.bind(dst, r, next);
    }

    /// Two operands, the second possibly in memory; the better order if they commute.
    fn operands(&mut self, commutes: bool, args: &[(VReg, u32)]) -> (u8, Loc, bool) {
        let (a, b) = (args[0], args[1]);
        let swap = commutes && !self.is_in_reg(a.0) && self.is_in_reg(b.0);
        let (x, y) = if swap { (b, a) } else { (a, b) };
        let rx = self.in_reg(x.0);
        (rx, self.operand(y.0, y.1), swap)
    }

    /// One instruction over two operands.
    fn binary(&mut self, op: Op, commutes: bool, dst: VReg, next: u32, args: &[(VReg, u32)]) {
        let (a, b, _) = self.operands(commutes, args);
        self.used(args);
        let r = self.result(dst);
        self.emit(op, r, a, b);
        self.bind(dst, r, next);
    }

    /// A comparison by its predicate, or the mirrored one.
    fn compare_real(
        &mut self,
        predicate: u8,
        mirrored: u8,
        dst: VReg,
        next: u32,
        args: &[(VReg, u32)],
    ) {
        let (a, b, swapped) = self.operands(true, args);
        self.used(args);
        let r = self.result(dst);
        let predicate = if swapped { mirrored } else { predicate };
        self.emit_imm(Op::classic(self.ty(), 0xC2), r, a, b, predicate);
        self.bind(dst, r, next);
    }

    fn mask_binary(&mut self, op: u8, dst: VReg, next: u32, args: &[(VReg, u32)]) {
        let (a, b) = (self.in_reg(args[0].0), self.in_reg(args[1].0));
        self.used(args);
        let r = self.result(dst);
        self.asm.vex(1, 0, 0, 1, op, r & 7, a & 7, &Rm::Reg(b & 7));
        self.bind(dst, r, next);
    }

    /// A sequence of instructions whose result register is none of the operands'.
    fn expanded(
        &mut self,
        dst: VReg,
        next: u32,
        args: &[(VReg, u32)],
        body: impl FnOnce(&mut Self, u8, &[u8]),
    ) {
        let mut regs = [0; 3];
        for (r, a) in regs.iter_mut().zip(args) {
            *r = self.in_reg(a.0);
        }
        let r = self.temp();
        body(self, r, &regs[..args.len()]);
        self.used(args);
        self.bind(dst, r, next);
    }

    /// The same bits under another name.
    fn rename(&mut self, dst: VReg, next: u32, args: &[(VReg, u32)]) {
        let (a, after) = args[0];
        let from = self.operand(a, after);
        self.used(args);
        let r = match from {
            // The operand has died: its register goes over.
            Reg(r) if after == NONE || a == dst => {
                self.retake(r);
                r
            }
            _ => {
                let r = self.result(dst);
                self.load_to(r, from);
                r
            }
        };
        self.bind(dst, r, next);
    }

    /// `dst = ±(a b) ± c`. The instruction overwrites one of its operands: one that dies if there
    /// is one, else one that comes from memory anyway, else a copy.
    fn fused(&mut self, op132: u8, dst: VReg, next: u32, args: &[(VReg, u32)]) {
        let mut loc = [Reg(0); 3];
        // Registers first, so that loads do not evict them.
        for in_reg in [true, false] {
            for (l, a) in loc.iter_mut().zip(args) {
                if self.is_in_reg(a.0) == in_reg || !in_reg {
                    *l = self.operand(a.0, a.1);
                }
            }
        }
        let dies = |k: usize| args[k].1 == NONE || args[k].0 == dst;
        let wanted = self.hint(dst);
        let dying = |l: &[Loc; 3]| {
            // The addend first: accumulators.
            let mut found = None;
            for k in [0, 1, 2] {
                if let (Reg(r), true) = (l[k], dies(k))
                    && (found.is_none() || wanted == Some(r) || k == 2 && wanted.is_none())
                {
                    found = Some((k, r));
                }
            }
            found
        };
        let mut lost = dying(&loc);
        let mut copy = None;
        if lost.is_none() {
            // A fresh register for the operand to lose: from memory at best.
            let k = [2, 0, 1].into_iter().find(|&k| matches!(loc[k], Loc::Mem(_))).unwrap_or(2);
            let r = self.temp();
            self.load_to(r, loc[k]);
            let same = loc[k];
            for l in &mut loc {
                // A memory operand that occurs twice is in the register now.
                if *l == same && matches!(same, Loc::Mem(_)) {
                    *l = Reg(r);
                }
            }
            loc[k] = Reg(r);
            lost = Some((k, r));
            copy = Some(r);
        }
        let (k, r) = lost.unwrap_or_default();
        // One operand of the other two may stay in memory.
        let others: [usize; 2] = [[1, 2], [0, 2], [0, 1]][k];
        if let [Loc::Mem(_), Loc::Mem(_)] = others.map(|o| loc[o]) {
            let o = others[0];
            let same = loc[o];
            let reg = Reg(self.in_reg(args[o].0));
            for l in &mut loc {
                if *l == same {
                    *l = reg;
                }
            }
        }
        self.used(args);
        if copy.is_none() {
            self.retake(r);
        }
        let factor = |l: Loc| match l {
            Reg(r) => Some(r),
            Loc::Mem(_) => None,
        };
        let op = |form: u8| Op::map2(self.ty(), op132 + form);
        if k == 2 {
            let (x, y) = match factor(loc[0]) {
                Some(x) => (x, loc[1]),
                None => (factor(loc[1]).unwrap_or_default(), loc[0]),
            };
            self.emit(op(0x20), r, x, y);
        } else {
            let y = loc[1 - k];
            match factor(y) {
                Some(y) => self.emit(op(0x10), r, y, loc[2]),
                None => self.emit(op(0x00), r, factor(loc[2]).unwrap_or_default(), y),
            }
        }
        self.bind(dst, r, next);
    }

    fn gather(&mut self, dst: VReg, next: u32, args: &[(VReg, u32)]) {
        let idx = self.in_reg(args[0].0);
        let r = self.temp();
        let table = self.source(self.live.place_of(self.pos), false);
        let from = self.indexed(table, idx);
        let ty = self.ty();
        let op = Op::map2(ty, 0x92 + wide(ty)).sized(Size::Elem);
        let mask = self.temp_mask();
        // No false dependency on the old content of the result.
        self.emit(Op::classic(ty, 0x57), r, r, Reg(r));
        if self.evex {
            // kxnorw: all lanes.
            self.asm.vex(1, 0, 0, 1, 0x46, mask & 7, mask & 7, &Rm::Reg(mask & 7));
            self.emit_full(op, r, 0, from, mask, None);
        } else {
            self.emit(Op::new(1, 1, 0, 0x76), mask, mask, Reg(mask));
            self.emit(op, r, mask, from);
        }
        self.used(args);
        self.bind(dst, r, next);
    }

    fn round_f16(&mut self, dst: u8, a: u8) {
        // Half-width registers and memory: 66 0F3A 1D and 66 0F38 13.
        let narrow = Op::new(3, 1, 0, 0x1D).sized(Size::Half);
        let widen = Op::new(2, 1, 0, 0x13).sized(Size::Half);
        if self.ty() == Ty::F32 {
            self.emit_imm(narrow, a, 0, Reg(dst), 0);
            self.emit(widen, dst, 0, Reg(dst));
            return;
        }
        // To single precision by rounding to odd (Boldo & Melquiond 2008), after which the
        // rounding to 11 bits is that of the double: the low 29 bits are cleared, and the bit
        // above them is set if they were not all zero.
        let low = self.constant((1 << 29) - 1);
        let high = self.constant(!((1 << 29) - 1));
        let t = self.temp();
        self.emit(Op::classic(Ty::F64, 0x54), t, a, low);
        self.emit(Op::int(Ty::F64, 0xFE, 0xD4), t, t, low);
        self.emit(Op::classic(Ty::F64, 0x56), t, t, Reg(a));
        self.emit(Op::classic(Ty::F64, 0x54), t, t, high);
        self.emit(Op::classic(Ty::F64, 0x5A), t, 0, Reg(t));
        self.emit_imm(narrow, t, 0, Reg(t), 0);
        self.emit(widen, t, 0, Reg(t));
        self.emit(Op::new(1, 0, 0, 0x5A).sized(Size::Half), dst, 0, Reg(t));
    }

    /// Adds the two halves, converted to double precision, in place.
    fn wide_add(&mut self, acc: [VReg; 2], next: [u32; 2], args: &[(VReg, u32)]) {
        let src = self.in_reg(args[2].0);
        let t = self.temp();
        let convert = Op::new(1, 0, 0, 0x5A).sized(Size::Half);
        let add = Op::classic(Ty::F64, 0x58);
        for (k, (&v, &n)) in acc.iter().zip(&next).enumerate() {
            let sum = self.in_reg(v);
            if k == 0 {
                self.emit(convert, t, 0, Reg(src));
            } else {
                // vextractf64x4 or vextractf128: the upper half.
                let high = if self.evex { Op::new(3, 1, 1, 0x1B) } else { Op::new(3, 1, 0, 0x19) };
                self.emit_imm(high, src, 0, Reg(t), 1);
                self.emit(convert, t, 0, Reg(t));
            }
            self.emit(add, sum, sum, Reg(t));
            self.changed(v, n);
        }
        self.used(&args[2..]);
    }

    fn call(&mut self, f: &'static ScalarFn, dst: VReg, next: u32, args: &[(VReg, u32)]) {
        for (k, a) in args.iter().enumerate() {
            let reg = self.in_reg(a.0);
            let to = self.spill_place(k as u32);
            self.store_from(reg, to);
        }
        self.used(args);
        self.end_instruction();
        self.spill_all();
        self.asm.set(Rm::Reg(RAX), -1);
        self.emit_call(f);
        let r = self.result(dst);
        let from = self.spill_place(RESULT_SLOT);
        self.load_to(r, Loc::Mem(from));
        self.bind(dst, r, next);
    }

    /// Calls `f` for the lanes in `eax`; all vector registers are lost.
    fn emit_call(&mut self, f: &'static ScalarFn) {
        type Apply<T> = unsafe extern "sysv64" fn(*const ScalarFn, *mut T, usize, u32);
        let entry = match self.ty() {
            Ty::F32 => apply::<f32> as Apply<f32> as usize,
            Ty::F64 => apply::<f64> as Apply<f64> as usize,
        };
        // What a call may change and this routine still needs; eight words keep the alignment.
        const SAVED: [u8; 8] = [RCX, RDX, RSI, RDI, 8, 9, 10, 11];
        for r in SAVED {
            self.asm.push(r);
        }
        self.asm.set64(RDI, std::ptr::from_ref(f) as u64);
        self.asm.copy(RSI, SPILL);
        let lanes = self.vector_bytes() / self.ty().size() as i32;
        self.asm.set(Rm::Reg(RDX), lanes);
        self.asm.copy(RCX, RAX);
        self.asm.vzeroupper();
        self.asm.set64(RAX, entry as u64);
        self.asm.call(RAX);
        for r in SAVED.into_iter().rev() {
            self.asm.pop(r);
        }
    }

    /// The bits of a mask in `eax`, nothing above them.
    fn mask_bits(&mut self, mask: u8) {
        if self.evex {
            // Of eight lanes the byte form: it drops what a negation has left above.
            let pp = wide(self.ty());
            self.asm.vex(1, pp, 0, 0, 0x93, RAX, 0, &Rm::Reg(mask & 7));
        } else {
            self.emit(Op::classic(self.ty(), 0x50), RAX, 0, Reg(mask));
        }
    }

    /// Only the test for lanes that need the call lies in the way; the call and the saving of
    /// all registers around it lie behind the routine.
    fn call_if(&mut self, f: &'static ScalarFn, dst: VReg, next: u32, args: &[(VReg, u32)]) {
        let mut regs = [0; liveness::MAX_USES];
        for (r, a) in regs.iter_mut().zip(args) {
            *r = self.in_reg(a.0);
        }
        let [mask, fast, values @ ..] = regs;
        let arity = args.len() - 2;
        let r = if args[1].1 == NONE {
            self.used(args);
            self.retake(fast);
            fast
        } else {
            let r = self.temp();
            self.load_to(r, Reg(fast));
            self.used(args);
            r
        };
        self.bind(dst, r, next);
        let saved = self.occupied() & !(1 << r);
        self.mask_bits(mask);
        self.asm.test32(RAX);
        let enter = self.asm.jump_forward(Cond::NotEqual);
        let back = self.asm.code.len();
        self.later(move |g| {
            g.asm.land(enter);
            for (k, &value) in values[..arity].iter().enumerate() {
                let to = g.spill_place(k as u32);
                g.store_from(value, to);
            }
            let result = g.spill_place(RESULT_SLOT);
            g.store_from(r, result);
            g.save_set(saved, false);
            g.emit_call(f);
            g.save_set(saved, true);
            g.load_to(r, Loc::Mem(result));
            g.asm.jump_always(back);
        });
    }
}

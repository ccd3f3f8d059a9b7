//! Encoder of the instructions in use, after the Intel Software Developer's Manual, volume 2,
//! chapter 2 (prefixes REX, VEX and EVEX).
//!
//! One [`Op`] describes an instruction under both vector prefixes: VEX.256 and EVEX.512 share
//! opcode map, mandatory prefix and opcode. That is why the two levels of the code generator are
//! one, and why this is not a table of the thousand typed methods of a full assembler. Its
//! output is checked against the decoder of iced-x86, operand by operand.

use crate::vcode::Ty;

/// A general register by its number.
pub type Gpr = u8;
/// `rax`, never an operand of longer life: the scratch register of addresses and masks.
pub const RAX: Gpr = 0;
/// `rcx`
pub const RCX: Gpr = 1;
/// `rdx`
pub const RDX: Gpr = 2;
/// `rbx`
pub const RBX: Gpr = 3;
/// `rsp`
pub const RSP: Gpr = 4;
/// `rbp`
pub const RBP: Gpr = 5;
/// `rsi`
pub const RSI: Gpr = 6;
/// `rdi`
pub const RDI: Gpr = 7;

/// A memory operand: `[base + (index << scale) + disp]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mem {
    /// Base register.
    pub base: Gpr,
    /// Index register (a general one, or a vector register of a gather).
    pub index: Option<u8>,
    /// Logarithm of the scale.
    pub scale: u8,
    /// Displacement in bytes.
    pub disp: i32,
    /// One element for all lanes?
    pub bcast: bool,
}

impl Mem {
    /// `[base + disp]`
    pub fn at(base: Gpr, disp: i32) -> Mem {
        Mem { base, index: None, scale: 0, disp, bcast: false }
    }
}

/// A register or memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rm {
    /// Vector (or mask) register.
    Reg(u8),
    /// Memory.
    Mem(Mem),
}

/// Size of a memory operand; scales the short displacements of EVEX.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// A vector, or one broadcast element.
    Full,
    /// Half a vector.
    Half,
    /// One element.
    Elem,
}

/// Opcode map, mandatory prefix, width bit, opcode and memory size of a vector instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op {
    map: u8,
    pp: u8,
    w: u8,
    op: u8,
    size: Size,
}

impl Op {
    /// An instruction of map 1, 2 or 3 (0F, 0F38, 0F3A) with mandatory prefix 0 to 3 (none, 66,
    /// F3, F2) and width bit.
    pub const fn new(map: u8, pp: u8, w: u8, op: u8) -> Op {
        Op { map, pp, w, op, size: Size::Full }
    }

    /// The same with another memory size.
    pub const fn sized(self, size: Size) -> Op {
        Op { size, ..self }
    }

    /// Classical arithmetic: `ps` without prefix, `pd` with 66.
    pub fn classic(ty: Ty, op: u8) -> Op {
        let w = wide(ty);
        Op::new(1, w, w, op)
    }

    /// Map 0F38 with 66; the width bit tells the type.
    pub fn map2(ty: Ty, op: u8) -> Op {
        Op::new(2, 1, wide(ty), op)
    }

    /// Map 0F3A with 66; the width bit tells the type.
    pub fn map3(ty: Ty, op: u8) -> Op {
        Op::new(3, 1, wide(ty), op)
    }

    /// Map 0F with 66; the width bit tells the type, and so does the opcode.
    pub fn int(ty: Ty, narrow: u8, wide_op: u8) -> Op {
        match ty {
            Ty::F32 => Op::new(1, 1, 0, narrow),
            Ty::F64 => Op::new(1, 1, 1, wide_op),
        }
    }
}

/// The width bit of a type.
pub fn wide(ty: Ty) -> u8 {
    match ty {
        Ty::F32 => 0,
        Ty::F64 => 1,
    }
}

/// Condition codes of jumps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cond {
    /// Unsigned below.
    Below = 2,
    /// Unsigned above or equal.
    AboveEqual = 3,
    /// Not equal, not zero.
    NotEqual = 5,
}

/// A forward jump whose target is not known yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Patch(usize);

/// The growing machine code.
pub struct Asm {
    /// Bytes so far.
    pub code: Vec<u8>,
    evex: bool,
}

impl Asm {
    /// An empty routine whose vector instructions are EVEX.512 (`evex`) or VEX.256.
    pub fn new(evex: bool, capacity: usize) -> Asm {
        Asm { code: Vec::with_capacity(capacity), evex }
    }

    fn byte(&mut self, b: u8) {
        self.code.push(b);
    }

    fn imm32(&mut self, v: i32) {
        self.code.extend_from_slice(&v.to_le_bytes());
    }

    /// ModRM, SIB and displacement; `shift` is the logarithm of the unit of short displacements.
    fn modrm(&mut self, reg: u8, rm: &Rm, shift: u8) {
        let reg = (reg & 7) << 3;
        let m = match rm {
            Rm::Reg(r) => return self.byte(0xC0 | reg | (r & 7)),
            Rm::Mem(m) => m,
        };
        let short = m.disp >> shift;
        let mode = if m.disp == 0 && m.base & 7 != 5 {
            0
        } else if short << shift == m.disp && i8::try_from(short).is_ok() {
            1
        } else {
            2
        };
        let base = m.base & 7;
        if let Some(i) = m.index {
            self.byte(mode << 6 | reg | 4);
            self.byte(m.scale << 6 | (i & 7) << 3 | base);
        } else if base == 4 {
            self.byte(mode << 6 | reg | 4);
            self.byte(0x24);
        } else {
            self.byte(mode << 6 | reg | base);
        }
        match mode {
            1 => self.byte(short as u8),
            2 => self.imm32(m.disp),
            _ => {}
        }
    }

    /// The extension bits of `rm`: base or register (bit 3), index or register (bit 4, as an
    /// index bit 3), vector index bit 4.
    fn extensions(rm: &Rm) -> (u8, u8, u8) {
        match rm {
            Rm::Reg(r) => (r >> 3 & 1, r >> 4 & 1, 0),
            Rm::Mem(m) => {
                let i = m.index.unwrap_or(0);
                (m.base >> 3 & 1, i >> 3 & 1, i >> 4 & 1)
            }
        }
    }

    /// A vector instruction `reg, src, rm [, imm]`, under write mask `k` where EVEX is in use.
    pub fn vector(&mut self, o: Op, reg: u8, src: u8, rm: &Rm, k: u8, imm: Option<u8>) {
        if self.evex {
            let (b, x, v) = Self::extensions(rm);
            let gather_v = if matches!(rm, Rm::Mem(m) if m.index.is_some()) { v } else { 0 };
            let bcast = matches!(rm, Rm::Mem(m) if m.bcast) && o.size == Size::Full;
            self.byte(0x62);
            self.byte(((reg >> 3 & 1) << 7 | x << 6 | b << 5 | (reg >> 4 & 1) << 4) ^ 0xF0 | o.map);
            self.byte(o.w << 7 | (!src & 15) << 3 | 4 | o.pp);
            let v_high = (src >> 4 & 1) | gather_v;
            self.byte(2 << 5 | u8::from(bcast) << 4 | (v_high ^ 1) << 3 | k);
            self.byte(o.op);
            let element = 2 + o.w;
            let shift = match o.size {
                Size::Full if bcast => element,
                Size::Full => 6,
                Size::Half => 5,
                Size::Elem => element,
            };
            self.modrm(reg, rm, shift);
        } else {
            // The width bit distinguishes only fused multiply-adds and gathers; elsewhere it is
            // ignored, and 0 allows the short prefix.
            let w = if o.map == 2 && o.op >= 0x90 { o.w } else { 0 };
            self.vex(o.map, o.pp, w, 1, o.op, reg, src, rm);
        }
        if let Some(i) = imm {
            self.byte(i);
        }
    }

    /// A VEX instruction (also those of the mask registers).
    #[allow(clippy::too_many_arguments)] // the fields of the prefix
    pub fn vex(&mut self, map: u8, pp: u8, w: u8, l: u8, op: u8, reg: u8, src: u8, rm: &Rm) {
        let (b, x, _) = Self::extensions(rm);
        let x = if matches!(rm, Rm::Reg(_)) { 0 } else { x };
        let r = reg >> 3 & 1;
        let tail = (!src & 15) << 3 | l << 2 | pp;
        if b | x | w == 0 && map == 1 {
            self.byte(0xC5);
            self.byte((r ^ 1) << 7 | tail);
        } else {
            self.byte(0xC4);
            self.byte((r << 7 | x << 6 | b << 5) ^ 0xE0 | map);
            self.byte(w << 7 | tail);
        }
        self.byte(op);
        self.modrm(reg, rm, 0);
    }

    /// A general instruction `op reg, rm` (64 bits wide if `w`).
    fn general(&mut self, w: u8, op: u8, reg: u8, rm: &Rm) {
        let (b, x, _) = Self::extensions(rm);
        let x = if matches!(rm, Rm::Reg(_)) { 0 } else { x };
        let rex = 0x40 | w << 3 | (reg >> 3 & 1) << 2 | x << 1 | b;
        if rex != 0x40 {
            self.byte(rex);
        }
        self.byte(op);
        self.modrm(reg, rm, 0);
    }

    /// `mov dst, [m]`, 64 bits.
    pub fn load(&mut self, dst: Gpr, m: Mem) {
        self.general(1, 0x8B, dst, &Rm::Mem(m));
    }

    /// `mov [m], src`, 64 bits.
    pub fn store(&mut self, m: Mem, src: Gpr) {
        self.general(1, 0x89, src, &Rm::Mem(m));
    }

    /// `mov [m], src`, 32 bits.
    pub fn store32(&mut self, m: Mem, src: Gpr) {
        self.general(0, 0x89, src, &Rm::Mem(m));
    }

    /// `mov dst, src`, 64 bits.
    pub fn copy(&mut self, dst: Gpr, src: Gpr) {
        self.general(1, 0x8B, dst, &Rm::Reg(src));
    }

    /// `mov rm, imm`, 64 bits, sign-extended.
    pub fn set(&mut self, rm: Rm, imm: i32) {
        self.general(1, 0xC7, 0, &rm);
        self.imm32(imm);
    }

    /// `mov dst, imm`, all 64 bits.
    pub fn set64(&mut self, dst: Gpr, imm: u64) {
        self.byte(0x48 | dst >> 3);
        self.byte(0xB8 | dst & 7);
        self.code.extend_from_slice(&imm.to_le_bytes());
    }

    /// Arithmetic with an immediate: `digit` 0 adds, 5 subtracts, 7 compares; 64 bits.
    pub fn arith(&mut self, digit: u8, rm: Rm, imm: i32) {
        let short = i8::try_from(imm);
        self.general(1, if short.is_ok() { 0x83 } else { 0x81 }, digit, &rm);
        match short {
            Ok(i) => self.byte(i as u8),
            Err(_) => self.imm32(imm),
        }
    }

    /// `test r, r`, 32 bits.
    pub fn test32(&mut self, r: Gpr) {
        self.general(0, 0x85, r, &Rm::Reg(r));
    }

    /// `push r`
    pub fn push(&mut self, r: Gpr) {
        if r >= 8 {
            self.byte(0x41);
        }
        self.byte(0x50 | r & 7);
    }

    /// `pop r`
    pub fn pop(&mut self, r: Gpr) {
        if r >= 8 {
            self.byte(0x41);
        }
        self.byte(0x58 | r & 7);
    }

    /// `call r`
    pub fn call(&mut self, r: Gpr) {
        self.general(0, 0xFF, 2, &Rm::Reg(r));
    }

    /// `lea dst, [rip + ...]` with the target to be patched.
    pub fn lea_rip(&mut self, dst: Gpr) -> Patch {
        self.byte(0x48 | (dst >> 3) << 2);
        self.byte(0x8D);
        self.byte((dst & 7) << 3 | 5);
        self.imm32(0);
        Patch(self.code.len())
    }

    /// Jump forward if `c` holds.
    pub fn jump_forward(&mut self, c: Cond) -> Patch {
        self.byte(0x0F);
        self.byte(0x80 | c as u8);
        self.imm32(0);
        Patch(self.code.len())
    }

    /// Jump to an earlier position (or a later one, in the long form) if `c` holds.
    pub fn jump_back(&mut self, c: Cond, target: usize) {
        let near = target as i64 - (self.code.len() as i64 + 2);
        match i8::try_from(near) {
            Ok(d) => self.code.extend([0x70 | c as u8, d as u8]),
            Err(_) => {
                self.code.extend([0x0F, 0x80 | c as u8]);
                self.imm32((near - 4) as i32);
            }
        }
    }

    /// Jump to an earlier position always.
    pub fn jump_always(&mut self, target: usize) {
        self.byte(0xE9);
        let d = target as i64 - (self.code.len() as i64 + 4);
        self.imm32(d as i32);
    }

    /// The position after the last byte becomes the target of `p`.
    pub fn land(&mut self, p: Patch) {
        let d = (self.code.len() - p.0) as i32;
        self.code[p.0 - 4..p.0].copy_from_slice(&d.to_le_bytes());
    }

    /// `ret`
    pub fn ret(&mut self) {
        self.byte(0xC3);
    }

    /// `vzeroupper`
    pub fn vzeroupper(&mut self) {
        self.code.extend([0xC5, 0xF8, 0x77]);
    }

    /// Pads with no-operations to a multiple of `n`.
    pub fn align(&mut self, n: usize) {
        // The recommended sequences of the Intel manual, entry NOP.
        const NOPS: [&[u8]; 9] = [
            &[0x90],
            &[0x66, 0x90],
            &[0x0F, 0x1F, 0x00],
            &[0x0F, 0x1F, 0x40, 0x00],
            &[0x0F, 0x1F, 0x44, 0x00, 0x00],
            &[0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00],
            &[0x0F, 0x1F, 0x80, 0x00, 0x00, 0x00, 0x00],
            &[0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
            &[0x66, 0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        ];
        let mut gap = self.code.len().next_multiple_of(n) - self.code.len();
        while gap > 0 {
            let k = gap.min(NOPS.len());
            self.code.extend_from_slice(NOPS[k - 1]);
            gap -= k;
        }
    }
}

//! Operations that AVX-512 has as instructions and AVX2 has not, bit for bit the same.

use super::asm::{Cond, Op, RAX};
use super::regalloc::{Gen, Loc};
use crate::vcode::Ty;
use Loc::Reg;

/// Parameters of a floating-point format.
struct Format {
    /// Bits of the stored significand.
    mantissa: u8,
    bias: f64,
    /// Bit patterns.
    sign: u64,
    infinity: u64,
    min_normal: u64,
    one: u64,
    /// `2^mantissa` as a bit pattern: or-ed with a small integer it is that integer plus
    /// `2^mantissa`.
    integer: u64,
    /// Added to a small integer, leaves it in the low bits: `1.5 * 2^mantissa`.
    magic: f64,
}

const SINGLE: Format = Format {
    mantissa: 23,
    bias: 127.0,
    sign: 1 << 31,
    infinity: 0x7F80_0000,
    min_normal: 0x0080_0000,
    one: 0x3F80_0000,
    integer: 0x4B00_0000,
    magic: 12_582_912.0,
};
const DOUBLE: Format = Format {
    mantissa: 52,
    bias: 1023.0,
    sign: 1 << 63,
    infinity: 0x7FF0 << 48,
    min_normal: 0x0010 << 48,
    one: 0x3FF0 << 48,
    integer: 0x4330 << 48,
    magic: 6_755_399_441_055_744.0,
};

fn format(ty: Ty) -> &'static Format {
    match ty {
        Ty::F32 => &SINGLE,
        Ty::F64 => &DOUBLE,
    }
}

/// Predicates of compare instructions.
const EQ: u8 = 0x00;
const UNORDERED: u8 = 0x03;
const LESS: u8 = 0x11;
const NOT_LESS: u8 = 0x15;
const NOT_LESS_EQUAL: u8 = 0x16;

impl Gen<'_> {
    fn arith(&mut self, op: u8, dst: u8, a: u8, b: Loc) {
        self.emit(Op::classic(self.ty(), op), dst, a, b);
    }
    fn add(&mut self, dst: u8, a: u8, b: Loc) {
        self.arith(0x58, dst, a, b);
    }
    fn mul(&mut self, dst: u8, a: u8, b: Loc) {
        self.arith(0x59, dst, a, b);
    }
    fn sub(&mut self, dst: u8, a: u8, b: Loc) {
        self.arith(0x5C, dst, a, b);
    }
    fn min(&mut self, dst: u8, a: u8, b: Loc) {
        self.arith(0x5D, dst, a, b);
    }
    fn max(&mut self, dst: u8, a: u8, b: Loc) {
        self.arith(0x5F, dst, a, b);
    }
    fn and(&mut self, dst: u8, a: u8, b: Loc) {
        self.arith(0x54, dst, a, b);
    }
    fn or(&mut self, dst: u8, a: u8, b: Loc) {
        self.arith(0x56, dst, a, b);
    }
    fn compare(&mut self, dst: u8, a: u8, b: Loc, predicate: u8) {
        self.emit_imm(Op::classic(self.ty(), 0xC2), dst, a, b, predicate);
    }
    /// `dst = mask ? yes : no` over vector masks.
    fn blend(&mut self, dst: u8, no: u8, yes: Loc, mask: u8) {
        let op = Op::map3(self.ty(), if self.ty() == Ty::F32 { 0x4A } else { 0x4B });
        self.emit_imm(op, dst, no, yes, mask << 4);
    }

    /// Shift of integer lanes by a constant.
    pub fn shift(&mut self, left: bool, dst: u8, a: u8, by: u8) {
        let op = Op::int(self.ty(), 0x72, 0x73);
        self.emit_imm(op, if left { 6 } else { 2 }, dst, Loc::Reg(a), by);
    }

    /// `dst = a * 2^b`; `dst` and the temporaries are none of the operands.
    ///
    /// The fast path takes two exact-or-final products, `a 2^(b + c) 2^-c`. With
    /// `b' = max(b, lowest)` its condition is `a^2 + b' <= highest`, which bounds `|a|` too (below
    /// 2^4 or 2^6): then the first product does not overflow; where it is subnormal the result is
    /// below half the smallest subnormal, as it is for all `b < lowest`. NaN fails the condition.
    pub fn scale_by_exponent(&mut self, dst: u8, a: u8, b: u8, t: [u8; 3]) {
        let f = format(self.ty());
        let (c, lowest, highest) = match self.ty() {
            Ty::F32 => (30, -155.0, 93.0),
            Ty::F64 => (62, -1082.0, 950.0),
        };
        let down = self.real(f64::from(-c).exp2());
        let (lowest, highest) = (self.real(lowest), self.real(highest));
        let magic = self.real(f.magic + f.bias + f64::from(c));
        self.load_to(t[0], lowest);
        self.max(t[0], t[0], Reg(b));
        self.load_to(t[1], Reg(t[0]));
        self.emit(Op::map2(self.ty(), 0xB8), t[1], a, Reg(a));
        self.compare(t[1], t[1], highest, NOT_LESS_EQUAL);
        self.emit(Op::classic(self.ty(), 0x50), RAX, 0, Reg(t[1]));
        self.asm.test32(RAX);
        let enter = self.asm.jump_forward(Cond::NotEqual);
        self.add(dst, t[0], magic);
        self.shift(true, dst, dst, f.mantissa);
        self.mul(dst, a, Reg(dst));
        self.mul(dst, dst, down);
        let back = self.asm.code.len();
        self.later(move |g| {
            g.asm.land(enter);
            g.scale_generally(dst, a, b, t);
            g.asm.jump_always(back);
        });
    }

    /// `dst = a * 2^b` in all cases.
    ///
    /// `b` is split into three exponents of normal numbers, each as large as possible; the last
    /// ones are applied first, so that a product before the last can only be inexact where the
    /// result is zero or infinite anyway. Infinite and NaN `b` multiply as 0, infinity and NaN.
    fn scale_generally(&mut self, dst: u8, a: u8, b: u8, t: [u8; 3]) {
        let f = format(self.ty());
        let (lo, hi) = (self.real(1.0 - f.bias), self.real(f.bias));
        let magic = self.real(f.magic + f.bias);
        let mut rest = b;
        for (k, &t) in t.iter().enumerate() {
            self.max(t, rest, lo);
            self.min(t, t, hi);
            if k < 2 {
                self.sub(dst, rest, Reg(t));
                rest = dst;
            }
        }
        for &t in &t {
            self.add(t, t, magic);
            self.shift(true, t, t, f.mantissa);
        }
        self.mul(dst, a, Reg(t[2]));
        self.mul(dst, dst, Reg(t[1]));
        self.mul(dst, dst, Reg(t[0]));
        self.sub(t[0], b, Reg(b));
        self.compare(t[0], t[0], Reg(t[0]), UNORDERED);
        self.arith(0x57, t[1], t[1], Reg(t[1]));
        self.max(t[1], t[1], Reg(b));
        self.mul(t[1], a, Reg(t[1]));
        self.blend(dst, dst, Reg(t[1]), t[0]);
    }

    /// `dst = floor(log2 |a|)`; needs two temporaries.
    pub fn exponent(&mut self, dst: u8, a: u8, t: [u8; 2]) {
        let f = format(self.ty());
        let up = f64::from(f.mantissa) + 1.0;
        let abs = self.constant(f.sign - 1);
        let (normal, infinity) = (self.constant(f.min_normal), self.constant(f.infinity));
        let (two_up, up) = (self.real(up.exp2()), self.real(up));
        let (integer, zero) = (self.constant(f.integer), self.real(0.0));
        let bias = self.real(f64::from(f.mantissa).exp2() + f.bias);
        let minus_infinity = self.real(f64::NEG_INFINITY);
        self.load_to(t[0], abs);
        self.and(t[0], t[0], Reg(a));
        // Subnormal numbers are scaled to normal ones.
        self.compare(t[1], t[0], normal, LESS);
        self.mul(dst, t[0], two_up);
        self.blend(dst, t[0], Reg(dst), t[1]);
        self.and(t[1], t[1], up);
        self.shift(false, dst, dst, f.mantissa);
        self.or(dst, dst, integer);
        self.sub(dst, dst, bias);
        self.sub(dst, dst, Reg(t[1]));
        self.compare(t[1], t[0], zero, EQ);
        self.blend(dst, dst, minus_infinity, t[1]);
        self.compare(t[1], t[0], infinity, NOT_LESS);
        self.blend(dst, dst, Reg(t[0]), t[1]);
    }

    /// `dst = a / 2^exponent(a)`; needs a temporary. Zeros and infinities become 1 with their
    /// sign, as with `vgetmant`.
    pub fn significand(&mut self, dst: u8, a: u8, t: u8) {
        let f = format(self.ty());
        let (abs, normal) = (self.constant(f.sign - 1), self.constant(f.min_normal));
        let up = self.real((f64::from(f.mantissa) + 1.0).exp2());
        let keep = self.constant(f.sign | ((1 << f.mantissa) - 1));
        let one = self.constant(f.one);
        self.and(t, a, abs);
        self.compare(t, t, normal, LESS);
        self.mul(dst, a, up);
        self.blend(dst, a, Reg(dst), t);
        self.and(dst, dst, keep);
        self.or(dst, dst, one);
        self.compare(t, a, Reg(a), UNORDERED);
        self.or(dst, dst, Reg(t));
    }

    /// Nearest integer of a double with `|a| < 2^51`, as an integer.
    pub fn double_to_int(&mut self, dst: u8, a: u8) {
        let magic = self.real(DOUBLE.magic);
        self.add(dst, a, magic);
        self.emit(Op::int(Ty::F64, 0xFA, 0xFB), dst, dst, magic);
    }

    /// Double of an integer with `|a| < 2^51`.
    pub fn int_to_double(&mut self, dst: u8, a: u8) {
        let magic = self.real(DOUBLE.magic);
        self.emit(Op::int(Ty::F64, 0xFE, 0xD4), dst, a, magic);
        self.sub(dst, dst, magic);
    }

    /// Vector-mask selection.
    pub fn select_by_vector(&mut self, dst: u8, mask: u8, yes: Loc, no: u8) {
        self.blend(dst, no, yes, mask);
    }
}

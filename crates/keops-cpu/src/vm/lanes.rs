//! The primitives on one lane, written without branches so that loops over them become vector
//! code.

use std::ops::{BitAnd, BitOr, BitXor};

/// An integer lane; masks are integers with all bits set or none.
pub(super) trait IntLane:
    Copy
    + Default
    + PartialEq
    + PartialOrd
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
{
    fn mask(value: bool) -> Self;
    fn is_set(self) -> bool;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn shl(self, by: u8) -> Self;
    fn shr(self, by: u8) -> Self;
    fn index(self) -> usize;
    fn of_i64(value: i64) -> Self;
}

/// A real lane.
pub(super) trait Lane: Copy + Default + PartialEq + PartialOrd {
    type Int: IntLane;
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn div(self, b: Self) -> Self;
    fn fma(self, b: Self, c: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
    fn floor(self) -> Self;
    fn round_even(self) -> Self;
    fn trunc(self) -> Self;
    fn scale<const W: usize>(a: [Self; W], b: [Self; W]) -> [Self; W];
    fn exponent(self) -> Self;
    fn significand(self) -> Self;
    fn round_f16(self) -> Self;
    fn to_int(self) -> Self::Int;
    fn of_int(value: Self::Int) -> Self;
    fn call(f: &keops_core::prim::ScalarFn, args: &[Self]) -> Self;
}

/// `a < b ? a : b`
#[inline(always)]
pub(super) fn min<T: PartialOrd>(a: T, b: T) -> T {
    if a < b { a } else { b }
}

/// `a > b ? a : b`
#[inline(always)]
pub(super) fn max<T: PartialOrd>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

macro_rules! lane {
    ($real:ident, $int:ident, $uint:ident, mantissa $mantissa:literal, scale $scale:ident) => {
        impl IntLane for $int {
            #[inline(always)]
            fn mask(value: bool) -> $int {
                -$int::from(value)
            }
            #[inline(always)]
            fn is_set(self) -> bool {
                self != 0
            }
            #[inline(always)]
            fn add(self, other: $int) -> $int {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: $int) -> $int {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn shl(self, by: u8) -> $int {
                self.wrapping_shl(u32::from(by))
            }
            #[inline(always)]
            fn shr(self, by: u8) -> $int {
                (self as $uint).wrapping_shr(u32::from(by)) as $int
            }
            #[inline(always)]
            fn index(self) -> usize {
                self as usize
            }
            #[inline(always)]
            fn of_i64(value: i64) -> $int {
                value as $int
            }
        }

        impl Lane for $real {
            type Int = $int;
            #[inline(always)]
            fn add(self, b: $real) -> $real {
                self + b
            }
            #[inline(always)]
            fn sub(self, b: $real) -> $real {
                self - b
            }
            #[inline(always)]
            fn mul(self, b: $real) -> $real {
                self * b
            }
            #[inline(always)]
            fn div(self, b: $real) -> $real {
                self / b
            }
            #[inline(always)]
            fn fma(self, b: $real, c: $real) -> $real {
                self.mul_add(b, c)
            }
            #[inline(always)]
            fn neg(self) -> $real {
                -self
            }
            #[inline(always)]
            fn abs(self) -> $real {
                $real::abs(self)
            }
            #[inline(always)]
            fn sqrt(self) -> $real {
                $real::sqrt(self)
            }
            #[inline(always)]
            fn floor(self) -> $real {
                $real::floor(self)
            }
            #[inline(always)]
            fn round_even(self) -> $real {
                self.round_ties_even()
            }
            #[inline(always)]
            fn trunc(self) -> $real {
                $real::trunc(self)
            }
            #[inline(always)]
            fn scale<const W: usize>(a: [$real; W], b: [$real; W]) -> [$real; W] {
                $scale(a, b)
            }
            #[inline(always)]
            fn exponent(self) -> $real {
                const BIAS: $real = ($real::MAX_EXP - 1) as $real;
                // 2^mantissa: its bits plus a small integer are the bits of 2^mantissa plus that
                // integer, a conversion that every vector unit has.
                const BIG: $real = ((1 as $uint) << $mantissa) as $real;
                let abs = $real::abs(self);
                let subnormal = abs < $real::MIN_POSITIVE;
                let normal = if subnormal { abs * LIFT as $real } else { abs };
                let field = normal.to_bits() >> $mantissa;
                let biased = $real::from_bits(field | BIG.to_bits()) - BIG;
                let e = biased - if subnormal { BIAS + LIFT_EXP as $real } else { BIAS };
                let e = if abs == 0.0 { $real::NEG_INFINITY } else { e };
                if abs < $real::INFINITY { e } else { abs }
            }
            #[inline(always)]
            fn significand(self) -> $real {
                const FIELD: $uint = $real::INFINITY.to_bits();
                let subnormal = $real::abs(self) < $real::MIN_POSITIVE;
                let normal = if subnormal { self * LIFT as $real } else { self };
                let m = $real::from_bits((normal.to_bits() & !FIELD) | (1.0 as $real).to_bits());
                if self == self { m } else { self }
            }
            #[inline(always)]
            fn round_f16(self) -> $real {
                // Bits of the mantissa that f16, with 10, does not have.
                const EXTRA: u32 = $mantissa - 10;
                // In [QUANTUM, 2 QUANTUM) numbers lie 2^-24 apart, as f16 does below 2^-14.
                const QUANTUM: $real = ((1 as $uint) << ($mantissa - 23)) as $real * 0.5;
                const MIN_NORMAL: $real = 1.0 / 16384.0;
                let abs = $real::abs(self);
                let bits = abs.to_bits();
                let half = ((1 as $uint) << (EXTRA - 1)) - 1 + ((bits >> EXTRA) & 1);
                let rounded = $real::from_bits(bits.wrapping_add(half) >> EXTRA << EXTRA);
                let rounded = if rounded > 65504.0 { $real::INFINITY } else { rounded };
                let tiny = (abs + QUANTUM) - QUANTUM;
                let rounded = if abs < MIN_NORMAL { tiny } else { rounded };
                if self == self { rounded.copysign(self) } else { self }
            }
            #[inline(always)]
            fn to_int(self) -> $int {
                const BIG: $real = ((3 as $uint) << ($mantissa - 1)) as $real;
                (self + BIG).to_bits().wrapping_sub(BIG.to_bits()) as $int
            }
            #[inline(always)]
            fn of_int(value: $int) -> $real {
                const BIG: $real = ((3 as $uint) << ($mantissa - 1)) as $real;
                $real::from_bits((value as $uint).wrapping_add(BIG.to_bits())) - BIG
            }
            #[inline(always)]
            fn call(f: &keops_core::prim::ScalarFn, args: &[$real]) -> $real {
                (f.$real)(args)
            }
        }
    };
}

/// Exponent of the factor that makes subnormal numbers normal.
const LIFT_EXP: i32 = 64;
const LIFT: f64 = 18_446_744_073_709_551_616.0;

lane!(f32, i32, u32, mantissa 23, scale scale_piece_f32);
lane!(f64, i64, u64, mantissa 52, scale scale_piece_f64);

#[inline(always)]
fn scale_piece_f32<const W: usize>(a: [f32; W], b: [f32; W]) -> [f32; W] {
    let mut r = [0.0; W];
    for k in 0..W {
        r[k] = scale_f32(a[k], b[k]);
    }
    r
}

/// Adds exponents if all lanes have normal arguments and results.
#[inline(always)]
fn scale_piece_f64<const W: usize>(a: [f64; W], b: [f64; W]) -> [f64; W] {
    // Biased exponents of normal numbers are 1 to NORMALS.
    const NORMALS: u64 = 2046;
    let mut r = [0.0; W];
    let mut all = !0;
    for k in 0..W {
        let field = (a[k].to_bits() >> 52) as i64 & 0x7ff;
        let shift = b[k].to_int();
        let normal = |field: i64| i64::mask((field.wrapping_sub(1) as u64) < NORMALS);
        all &= normal(field) & normal(field.wrapping_add(shift)) & i64::mask(b[k].abs() <= 4096.0);
        r[k] = f64::from_bits(a[k].to_bits().wrapping_add((shift as u64) << 52));
    }
    if all == 0 {
        for k in 0..W {
            r[k] = scale_f64(a[k], b[k]);
        }
    }
    r
}

/// `a * 2^b` through double precision, where the product is exact, so that the conversion back
/// rounds once.
#[inline(always)]
fn scale_f32(a: f32, b: f32) -> f32 {
    // 2^300 takes every finite single to infinity, 2^-300 to zero.
    let product = (f64::from(a) * pow2(f64::from(min(max(b, -300.0), 300.0)))) as f32;
    finish_scale(a, b, product, f32::INFINITY)
}

/// `a * 2^b`: the significand of `a` times two powers of two, of which the first product is exact
/// and the second the only one that can round.
#[inline(always)]
fn scale_f64(a: f64, b: f64) -> f64 {
    let e = a.exponent();
    // Beyond ±2200 every non-zero finite number overflows or vanishes.
    let total = e + min(max(b, -2200.0), 2200.0);
    let first = min(max(total, -1022.0), 1023.0);
    let second = min(max(total - first, -1022.0), 1023.0);
    let product = a.significand() * pow2(first) * pow2(second);
    // Zeros, infinities and NaN have no exponent.
    let product = if e.abs() < f64::INFINITY { product } else { a };
    finish_scale(a, b, product, f64::INFINITY)
}

/// `2^e` for an integer-valued `e` within the exponents of normal numbers.
#[inline(always)]
fn pow2(e: f64) -> f64 {
    // The low bits of 1.5 * 2^52 + n are those of n.
    const BIG: f64 = 1.5 * 4_503_599_627_370_496.0 + 1023.0;
    f64::from_bits((e + BIG).to_bits() << 52)
}

/// The cases of `a * 2^b` where the factor is not a number between 0 and infinity.
#[inline(always)]
fn finish_scale<T: Lane>(a: T, b: T, product: T, infinity: T) -> T {
    // 0 * inf and inf * 0
    let undefined = (b == infinity && a == a.neg()) || (b == infinity.neg() && a.abs() == infinity);
    let number = b.abs() <= infinity;
    if undefined || !number { b.sub(b).add(b) } else { product }
}

//! Trigonometric functions of large arguments, lane by lane: reduction after Payne and Hanek.

use super::Val;
use super::coef::{HALF_PI_PARTS, TWO_OVER_PI};
use super::math::Math;
use super::trig::{sin_reduced, tan_reduced};
use crate::prim::ScalarFn;
use crate::prim_eval::{LaneValue, PrimReal, Scalar};
use std::f64::consts::FRAC_PI_2;

/// Sine of any argument.
pub(super) static SINE: ScalarFn = ScalarFn {
    name: "sine_of_large",
    arity: 1,
    f32: |a| shifted_sine(a[0], 0),
    f64: |a| shifted_sine(a[0], 0),
};

/// Cosine of any argument.
pub(super) static COSINE: ScalarFn = ScalarFn {
    name: "cosine_of_large",
    arity: 1,
    f32: |a| shifted_sine(a[0], 1),
    f64: |a| shifted_sine(a[0], 1),
};

/// Tangent of any argument.
pub(super) static TANGENT: ScalarFn =
    ScalarFn { name: "tangent_of_large", arity: 1, f32: |a| tangent(a[0]), f64: |a| tangent(a[0]) };

/// The expansion `f` at `x`, by the same primitives as in vector code.
fn expand<R: PrimReal>(f: fn(&Math, Val) -> Val, x: R) -> R {
    let mut machine = Scalar::new();
    let x = machine.input(LaneValue::Real(x));
    let y = f(&Math::new(&mut machine), x);
    machine.value(y).real()
}

/// `sin(x + quarters pi/2)`
fn shifted_sine<R: PrimReal>(x: R, quarters: u32) -> R {
    let Some((n, r)) = quadrant(x.to_f64()) else { return R::from_f64(f64::NAN) };
    let n = n + quarters;
    // cos(r) = sin(pi/2 - |r|)
    let angle = if n & 1 == 1 { FRAC_PI_2 - r.abs() } else { r };
    let y = expand(sin_reduced, R::from_f64(angle));
    if n & 2 == 2 { -y } else { y }
}

fn tangent<R: PrimReal>(x: R) -> R {
    let Some((n, r)) = quadrant(x.to_f64()) else { return R::from_f64(f64::NAN) };
    let t = expand(tan_reduced, R::from_f64(r));
    if n & 1 == 1 { R::from_f64(-1.0) / t } else { t }
}

/// `(n mod 4, r)` with `x = n pi/2 + r` and `|r| <= pi / 4` rounded to double precision, for
/// normal `x`; none for infinities and NaN.
///
/// Payne and Hanek, Radian reduction for trigonometric functions (1983): only a window of the bits
/// of 2/pi matters, those above it give multiples of four, those below it less than 2^-137, while
/// no double is nearer than 2^-61 to a multiple of pi/2.
fn quadrant(x: f64) -> Option<(u32, f64)> {
    if !x.is_finite() {
        return None;
    }
    let bits = x.abs().to_bits();
    let significand = (bits & ((1 << 52) - 1)) | (1 << 52);
    // |x| = significand 2^e. The window starts at weight 2^-(e - 1), of whose product with the
    // significand's last place the integer part needs two bits.
    let e = (bits >> 52) as i32 - 1075;
    let start = (e - 1 + 63) as usize;
    let (word, shift) = (start / 64, start % 64);
    let window = |k: usize| {
        let w = u128::from(TWO_OVER_PI[word + k]) << 64 | u128::from(TWO_OVER_PI[word + k + 1]);
        (w >> (64 - shift)) as u64
    };
    // The low 192 bits of the product; their weights fall from 2^1 to 2^-190.
    let mut product = [0u64; 3];
    let mut carry = 0u128;
    for k in (0..3).rev() {
        let p = u128::from(window(k)) * u128::from(significand) + carry;
        product[k] = p as u64;
        carry = p >> 64;
    }
    let mut n = (product[0] >> 62) as u32;
    // Fraction in units of 2^-128, and the next 64 bits below.
    let mut high =
        u128::from(product[0]) << 66 | u128::from(product[1]) << 2 | u128::from(product[2] >> 62);
    let mut low = product[2] << 2;
    let up = high >> 127 == 1;
    if up {
        // Beyond one half: the distance to the next integer.
        n += 1;
        low = low.wrapping_neg();
        high = (!high).wrapping_add(u128::from(low == 0));
    }
    // 128 significant bits of the fraction, as high and low double.
    let zeros = high.leading_zeros();
    if (1..64).contains(&zeros) {
        high = high << zeros | u128::from(low >> (64 - zeros));
    }
    let power = 2f64.powi(-128 - zeros as i32);
    let head = (high >> 75 << 75) as f64;
    let (head, tail) = (head * power, (high << 53 >> 53) as f64 * power);
    let [pi_hi, pi_lo] = [HALF_PI_PARTS.double[0], HALF_PI_PARTS.double[1]];
    let r = head * pi_hi;
    let r = r + (head.mul_add(pi_hi, -r) + head.mul_add(pi_lo, tail * pi_hi));
    let negative = x < 0.0;
    let n = if negative { n.wrapping_neg() } else { n } & 3;
    Some((n, if negative != up { -r } else { r }))
}

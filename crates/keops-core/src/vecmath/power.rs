//! Powers: `x^y` with the corner cases of IEEE 754-2019, 9.2.1, and integer and inverse ones.

use super::coef::{EXP2, POW_C, POW_D, POW_Q};
use super::log::centred;
use super::math::Math;
use super::{PrimBuilder, Val};
use crate::prim::ScalarFn;
use crate::prim_eval::{LaneValue, PrimReal, Scalar};
use std::f64::consts::SQRT_2;

/// `hi + lo = log2(x)` to about 1.3 times the digits of the type, for finite `x > 0`.
///
/// `log2(m) = s (C + z (D + z Q(z)))` with `s = (m - 1) / (m + 1)`, `z = s^2`; every quantity but
/// `Q` is an unevaluated sum of two numbers, with error-free products by fused multiply-add and
/// Dekker's fast two-sum.
fn log2_parts(m: &Math, x: Val) -> (Val, Val) {
    let (e, f) = centred(m, x, SQRT_2);
    let two = m.c(2.0);
    let d = m.add(f, two);
    let d_lo = m.sub(f, m.sub(d, two));
    let inverse = m.div(m.c(1.0), d);
    let s = m.mul(f, inverse);
    let remainder = m.fnma(s, d_lo, m.fnma(s, d, f));
    let s_lo = m.mul(remainder, inverse);

    let z = m.mul(s, s);
    let z_lo = m.fma(m.add(s, s), s_lo, m.fms(s, s, z));
    let w = m.mul(z, m.poly(z, m.list(&POW_Q)));
    let (t, t_lo) = fast_two_sum(m, m.coef(&POW_D, 0), w);
    let t_lo = m.add(t_lo, m.coef(&POW_D, 1));
    let u = m.mul(z, t);
    let u_lo = m.fma(z_lo, t, m.fma(z, t_lo, m.fms(z, t, u)));
    let (v, v_lo) = fast_two_sum(m, m.coef(&POW_C, 0), u);
    let v_lo = m.add(v_lo, m.add(u_lo, m.coef(&POW_C, 1)));
    let p = m.mul(s, v);
    let p_lo = m.fma(s_lo, v, m.fma(s, v_lo, m.fms(s, v, p)));
    let (l, l_lo) = fast_two_sum(m, e, p);
    (l, m.add(l_lo, p_lo))
}

/// `a + b` as rounded sum and error, for `|a| >= |b|` or `a = 0`.
fn fast_two_sum(m: &Math, a: Val, b: Val) -> (Val, Val) {
    let sum = m.add(a, b);
    (sum, m.add(m.sub(a, sum), b))
}

/// `x^y` with the corner cases of IEEE 754-2019, 9.2.1 (C's `pow`).
///
/// ```
/// use keops_core::{prim_eval::eval2, vecmath::pow};
/// assert_eq!([eval2(pow, 2.0_f64, 10.0), eval2(pow, -2.0_f64, 3.0)], [1024.0, -8.0]);
/// assert_eq!([eval2(pow, f64::NAN, 0.0), eval2(pow, 1.0, f64::NAN)], [1.0, 1.0]);
/// assert!(eval2(pow, -2.0_f64, 0.5).is_nan());
/// ```
pub fn pow(b: &mut dyn PrimBuilder, x: Val, y: Val) -> Val {
    let m = &Math::new(b);
    let (product, value) = positive_power(m, x, y);
    // Beyond the bound the error of the product exceeds its integer part. The comparison also
    // finds infinite and NaN arguments and x = 0.
    let inside = m.lt(m.abs(product), m.c(POWER_BOUND));
    let rest = m.not(m.and(inside, m.lt(m.c(0.0), x)));
    m.call_if(&POWER, rest, value, &[x, y])
}

/// Largest `|y log2(x)|` of [`positive_power`], far beyond overflow.
const POWER_BOUND: f64 = 1048576.0;

/// `(y log2(x), x^y)` for finite `x > 0` and products up to [`POWER_BOUND`].
fn positive_power(m: &Math, x: Val, y: Val) -> (Val, Val) {
    let (l, l_lo) = log2_parts(m, x);
    let q = m.mul(y, l);
    let q_lo = m.fma(y, l_lo, m.fms(y, l, q));
    let n = m.round(q);
    let f = m.add(m.sub(q, n), q_lo);
    (q, m.scale(m.one_plus(f, m.list(&EXP2)), n))
}

/// `x^n` by binary powering: repeated multiplication, then the inverse for `n < 0`; `x^0 = 1`.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::powi};
/// assert_eq!([3, 0, -2].map(|n| eval1(|m, x| powi(m, x, n), -2.0_f32)), [-8.0, 1.0, 0.25]);
/// ```
pub fn powi(b: &mut dyn PrimBuilder, x: Val, n: i32) -> Val {
    let m = &Math::new(b);
    let mut rest = n.unsigned_abs();
    let (mut square, mut product) = (x, None);
    while rest != 0 {
        if rest & 1 == 1 {
            product = Some(product.map_or(square, |p| m.mul(p, square)));
        }
        rest >>= 1;
        if rest != 0 {
            square = m.mul(square, square);
        }
    }
    let one = m.c(1.0);
    match product {
        None => one,
        Some(p) if n < 0 => m.div(one, p),
        Some(p) => p,
    }
}

/// `1 / sqrt(x)`: infinity for 0, NaN below.
///
/// ```
/// use keops_core::{prim_eval::eval1, vecmath::rsqrt};
/// assert_eq!([4.0_f32, 0.0, f32::INFINITY].map(|x| eval1(rsqrt, x)), [0.5, f32::INFINITY, 0.0]);
/// assert!(eval1(rsqrt, -1.0_f32).is_nan());
/// ```
pub fn rsqrt(b: &mut dyn PrimBuilder, x: Val) -> Val {
    let m = &Math::new(b);
    m.div(m.c(1.0), m.sqrt(x))
}

/// `x^y` for all arguments that the vector code leaves over.
static POWER: ScalarFn = ScalarFn {
    name: "power_corner_cases",
    arity: 2,
    f32: |a| power(a[0], a[1]),
    f64: |a| power(a[0], a[1]),
};

/// `x^y` by the table of IEEE 754-2019, 9.2.1.
fn power<R: PrimReal>(x: R, y: R) -> R {
    let number = R::from_f64;
    let (zero, one, infinity) = (number(0.0), number(1.0), number(f64::INFINITY));
    if y == zero || x == one {
        return one;
    }
    let a = x.magnitude();
    if !(a <= infinity && y.magnitude() <= infinity) {
        return number(f64::NAN);
    }
    let integer = y.trunc_int() == y;
    let half = y * number(0.5);
    let odd = integer && y.magnitude() < infinity && half.trunc_int() != half;
    let negative = x.to_int_bits() < 0;
    if negative && !integer && a > zero && a < infinity {
        return number(f64::NAN);
    }
    let result = if a == one {
        one
    } else if a == zero || a == infinity || y.magnitude() == infinity {
        if (a > one) == (y > zero) { infinity } else { zero }
    } else {
        let mut machine = Scalar::new();
        let (a, y) = (machine.input(LaneValue::Real(a)), machine.input(LaneValue::Real(y)));
        let (product, value) = positive_power(&Math::new(&mut machine), a, y);
        let product = machine.value(product).real().to_f64();
        if product.abs() < POWER_BOUND {
            machine.value(value).real()
        } else if product > 0.0 {
            infinity
        } else {
            zero
        }
    };
    if negative && odd { -result } else { result }
}

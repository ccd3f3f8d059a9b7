//! Powers, bounds and roundings, component by component.

use super::{Below, Built, CompositeDef, Drawn, Literal, broadcast, dim, entry, fail, int};
use crate::error::DimError;
use crate::graph::Ex;
use crate::ops::*;
use std::f64::consts::PI;

pub(super) const ALL: &[CompositeDef] = &[
    entry("Square", 1, "Square(a): a²", |x, _| Ok(x[0] * x[0])),
    entry("Inv", 1, "Inv(a): 1 / a", |x, _| Ok(x[0].lit(1.0) / x[0])),
    entry("Pow", 1, "Pow(a, n): a to the integer power n, by repeated multiplication", |x, l| {
        Ok(power(x[0], int("Pow", &l[0])?))
    })
    .literals(1, 1, |below| {
        (vec![dim(below)], vec![Literal::Int([2, 3, 1, 0, -1, -2, 5, 12][below(8)])])
    }),
    entry("Sinc", 1, "Sinc(a): sin(π a) / (π a), 1 at 0, where its derivative is 0", |x, _| {
        Ok((x[0] * PI).un(&SIN_X_DIV_X))
    }),
    entry("Round", 1, "Round(a, d): a to d decimal places, halves away from 0", |x, l| {
        round(x[0], int("Round", &l[0])?)
    })
    .literals(1, 1, |below| (vec![dim(below)], vec![Literal::Int([0, 1, 2, -1][below(4)])])),
    entry("Clamp", 3, "Clamp(x, a, b): x kept within [a, b]; has slope 1 at both bounds", clamped),
    entry("ClampInt", 1, "ClampInt(x, a, b): Clamp with integer bounds", |x, l| {
        let bound = |k: usize| Ok(x[0].lit(int("ClampInt", &l[k])? as f64));
        Ok(clamp(x[0], bound(0)?, bound(1)?))
    })
    .literals(2, 2, sample_bounds),
    entry("DiffClampInt", 1, "DiffClampInt(x, a, b): 0 if x < a or x > b, else 1", |x, l| {
        let bound = |k: usize| Ok(x[0].lit(int("DiffClampInt", &l[k])? as f64));
        let (below, above) = (less(x[0], bound(0)?), less(bound(1)?, x[0]));
        Ok((-below + 1.0) * (-above + 1.0))
    })
    .literals(2, 2, sample_bounds),
    entry("Select", 3, "Select(mask, a, b): a where mask != 0, else b", |x, _| {
        broadcast("Select", x)?;
        Ok(Ex::apply(&IF_ELSE, &[-x[0].un(&ABS), x[2], x[1]]))
    }),
    entry("Mod", 3, "Mod(x, n, d): x - n floor((x - d) / n)", |x, _| {
        broadcast("Mod", x)?;
        Ok(x[0] - x[1] * ((x[0] - x[2]) / x[1]).un(&FLOOR))
    }),
];

fn clamped<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    broadcast("Clamp", x)?;
    Ok(clamp(x[0], x[1], x[2]))
}
fn sample_bounds(below: Below<'_>) -> Drawn {
    (vec![dim(below)], vec![Literal::Int(-(below(2) as i64)), Literal::Int(1)])
}
fn less<'g>(a: Ex<'g>, b: Ex<'g>) -> Ex<'g> {
    Ex::apply(&LESS_THAN, &[a, b])
}

/// `x` to an integer power by repeated squaring, of `1 / x` for negative powers: every factor of
/// their derivatives is then infinite at 0, as the limit is. (That of `1 / x²` is `-∞ · 2x` there.)
fn power<'g>(x: Ex<'g>, n: i64) -> Ex<'g> {
    let x = if n < 0 { x.lit(1.0) / x } else { x };
    let (mut base, mut left, mut result) = (x, n.unsigned_abs(), None::<Ex<'g>>);
    while left > 0 {
        if left & 1 == 1 {
            result = Some(result.map_or(base, |r| r * base));
        }
        left >>= 1;
        if left > 0 {
            base = base * base;
        }
    }
    result.unwrap_or(x.lit(1.0).broadcast(x.dim()))
}

/// `x` kept within `[a, b]`: NaN stays NaN, and `x` has the gradient at both bounds unless they
/// are equal.
pub(super) fn clamp<'g>(x: Ex<'g>, a: Ex<'g>, b: Ex<'g>) -> Ex<'g> {
    let unless = |test: Ex<'g>, yes, no| Ex::apply(&IF_ELSE, &[-test, yes, no]);
    let inside = match (a.constant(), b.constant()) {
        (Some(a), Some(b)) if a < b => x,
        _ => unless(Ex::apply(&LESS_OR_EQUAL, &[b, a]), x, b),
    };
    unless(less(x, a), unless(less(b, x), inside, b), a)
}

/// `x` to `d` decimal places. Powers of ten to 22 are exact in f64, and keep what is not an
/// integer yet within the range of f32.
fn round<'g>(x: Ex<'g>, d: i64) -> Result<Ex<'g>, DimError> {
    if d.unsigned_abs() > 22 {
        return fail("Round", "decimal places within -22..=22", d);
    }
    let scale = 10f64.powi(d.unsigned_abs() as i32);
    let size = x.un(&ABS);
    let scaled = if d < 0 { size / scale } else { size * scale };
    let (whole, half) = (scaled.un(&FLOOR), x.lit(0.5));
    let rounded = whole + Ex::apply(&LESS_OR_EQUAL, &[half, scaled - whole]);
    let sign = x.un(&SIGN);
    if d <= 0 {
        return Ok(sign * rounded * scale);
    }
    // From 2^53 on every number is an integer (of slope 0, as all of the result).
    let large = size - 2f64.powi(53);
    Ok(Ex::apply(&IF_ELSE, &[large, x.un(&FLOOR), sign * (rounded / scale)]))
}

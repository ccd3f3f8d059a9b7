//! Kernels as functions of a squared distance `u = |x - y|² / l²`: their derivatives in the points
//! are right where points coincide, of every order (see [`crate::ops`]).

use super::{Built, CompositeDef, Literal, broadcast, dim, entry, fail, size};
use crate::graph::Ex;
use crate::ops::*;

pub(super) const ALL: &[CompositeDef] = &[
    entry(
        "Matern",
        2,
        "Matern(u, ν): Matérn kernel of order ν of u = r² / l², with s = sqrt(2 ν u); 1 at 0",
        |x, _| matern(x[0], x[1]),
    ),
    entry(
        "Wendland",
        1,
        "Wendland(u, k): positive definite up to dimension 3, 2k times differentiable, 0 from u = 1; 1 at 0",
        wendland,
    )
    .literals(1, 1, |below| (vec![dim(below)], vec![below(4).into()])),
    entry(
        "RationalQuadratic",
        2,
        "RationalQuadratic(u, α): (1 + u / (2 α))^-α",
        rational_quadratic,
    ),
    entry(
        "ThinPlate",
        1,
        "ThinPlate(u, k): r^(2k) log(r) of u = r², 0 at 0",
        thin_plate,
    )
    .literals(1, 1, |below| (vec![dim(below)], vec![(1 + below(3)).into()])),
    entry("RadialPower", 2, "RadialPower(u, p): u^p of u = r², see PowLog", |x, _| {
        broadcast("RadialPower", x)?;
        Ok(Ex::apply(&POW_LOG, &[x[0], x[1], x[0].lit(0.0)]))
    }),
];

/// Half-integer orders have code, others are quotients of integrals.
fn rational_quadratic<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    broadcast("RationalQuadratic", x)?;
    Ok((-(x[1] * (x[0] / (x[1] * 2.0)).un(&LOG1P))).un(&EXP))
}
fn thin_plate<'g>(x: &[Ex<'g>], l: &[Literal]) -> Built<'g> {
    let k = size("ThinPlate", &l[0], 1, 8)?;
    Ok(Ex::apply(&POW_LOG, &[x[0], x[0].lit(k as f64), x[0].lit(1.0)]) * 0.5)
}
fn matern<'g>(u: Ex<'g>, order: Ex<'g>) -> Built<'g> {
    broadcast("Matern", &[u, order])?;
    match order.constant() {
        Some(nu) if !(nu > 0.0 && nu <= 50.0) => {
            let expected = "an order in (0, 50] (beyond, Exp(-u / 2) is near)";
            fail("Matern", expected, nu)
        }
        Some(nu) if (nu - 0.5).fract() == 0.0 && nu - 0.5 <= f64::from(MOST_HALF_ORDER) => {
            Ok(Ex::apply(&MATERN_HALF, &[u * (2.0 * nu), u.lit(nu - 0.5)]))
        }
        _ => {
            // 2^(1-ν) s^ν K_ν(s) / Γ(ν) with s²/4 = ν u / 2, both over 20^ν
            let of = |b: Ex<'g>| Ex::apply(&EXTENDED_GAMMA, &[b, order, u.lit(0.0)]);
            Ok(of(u * order * 0.5) / of(u.lit(0.0)))
        }
    }
}

/// Wendland (1995), with the least exponent for dimensions up to 3, `l = k + 2`.
fn wendland<'g>(x: &[Ex<'g>], l: &[Literal]) -> Built<'g> {
    let k = size("Wendland", &l[0], 0, 3)? as f64;
    let of = |u: Ex<'g>| Ex::apply(&WENDLAND_INTEGRAL, &[u, u.lit(k + 2.0), u.lit(k)]);
    Ok(of(x[0]) / of(x[0].lit(0.0)))
}

//! Code for orders that are constants against the values of the table, which golden cases confirm.

use keops_core::ops::{
    COS_SQRT, EXTENDED_GAMMA, MATERN_HALF, OpDef, POW_LOG, SINC_SQRT, WENDLAND_INTEGRAL,
};
use keops_core::prim::{Prim, ScalarFn};
use keops_core::prim_eval::{PrimReal, eval1};
use keops_core::vecmath::{self, PrimBuilder, Val};

/// Squared distances over the whole range, special ones first.
fn points() -> impl Iterator<Item = f64> {
    let special = [0.0, -0.0, 1.0, -1.0, f64::INFINITY, f64::NAN, 1e-45, 1e-40, 1e38, 0.25, 4.0];
    let spread = (0..3000).map(|k| {
        let t = f64::from(k);
        (-60.0 + 0.05 * t + 0.01 * (t * 1.7).sin()).exp()
    });
    special.into_iter().chain(spread)
}

/// Largest error in units in the last place of a function of one operand, the others given.
fn worst<R: PrimReal>(
    op: &OpDef,
    orders: &[f64],
    code: impl Fn(&mut dyn PrimBuilder, Val) -> Val,
) -> f64 {
    let (eps, tiny) = if R::BITS == 32 {
        (f64::from(f32::EPSILON), 2f64.powi(-149))
    } else {
        (f64::EPSILON, 5e-324)
    };
    let mut worst = 0.0f64;
    for u in points() {
        let u = R::from_f64(u);
        let operands: Vec<f64> =
            std::iter::once(u.to_f64()).chain(orders.iter().copied()).collect();
        let want = R::from_f64((op.value.f64)(&operands)).to_f64();
        let got = eval1(&code, u).to_f64();
        if got == want || (got.is_nan() && want.is_nan()) {
            continue;
        }
        let error = (got - want).abs() / (eps * want.abs()).max(tiny);
        assert!(error < 1e3, "{} of {operands:?}: {got:e}, value {want:e}", op.name);
        worst = worst.max(error);
    }
    worst
}

/// Both precisions, within the tolerance of the entry and the rounding of the value.
fn check(op: &OpDef, orders: &[f64], code: impl Fn(&mut dyn PrimBuilder, Val) -> Val) {
    let errors = [worst::<f32>(op, orders, &code), worst::<f64>(op, orders, &code)];
    println!("{} {orders:?}: {errors:.2?} ulp", op.name);
    assert!(errors.iter().all(|&e| e <= op.ulps + 1.0), "{} {orders:?}: {errors:?}", op.name);
}

#[test]
fn matern_of_every_half_order() {
    for p in 0..=20 {
        check(&MATERN_HALF, &[f64::from(p)], |b, w| vecmath::matern(b, w, p));
    }
}

#[test]
fn wendland_of_every_order() {
    for (l, k) in (0..=12).flat_map(|l| (0..=4).map(move |k| (l, k))).filter(|(l, k)| l + k > 0) {
        check(&WENDLAND_INTEGRAL, &[f64::from(l), f64::from(k)], |b, u| {
            vecmath::wendland(b, u, l, k)
        });
    }
}

#[test]
fn powers_and_logarithms() {
    for p in [0.0, 1.0, 2.0, 0.5, 1.5, -0.5, -1.0, -2.5, 0.3125, -1.6875, 8.0] {
        for k in 0..=3 {
            // The exponent as a constant and as a value that is not known.
            check(&POW_LOG, &[p, f64::from(k)], |b, u| {
                let v = b.real(p);
                vecmath::pow_log(&mut Knowing(b, v, p), u, v, k)
            });
            check(&POW_LOG, &[p, f64::from(k)], |b, u| {
                let v = b.real(p);
                vecmath::pow_log(b, u, v, k)
            });
        }
    }
}

/// A builder that remembers one constant.
struct Knowing<'b>(&'b mut dyn PrimBuilder, Val, f64);
impl PrimBuilder for Knowing<'_> {
    fn precision(&self) -> vecmath::Precision {
        self.0.precision()
    }
    fn real(&mut self, v: f64) -> Val {
        self.0.real(v)
    }
    fn int(&mut self, v: i64) -> Val {
        self.0.int(v)
    }
    fn prim(&mut self, op: Prim, args: &[Val]) -> Val {
        self.0.prim(op, args)
    }
    fn constant(&self, v: Val) -> Option<f64> {
        (v == self.1).then_some(self.2)
    }
}

#[test]
fn functions_of_a_root() {
    static COS: ScalarFn =
        ScalarFn { name: "c", arity: 1, f32: COS_SQRT.value.f32, f64: COS_SQRT.value.f64 };
    static SINC: ScalarFn =
        ScalarFn { name: "s", arity: 1, f32: SINC_SQRT.value.f32, f64: SINC_SQRT.value.f64 };
    check(&COS_SQRT, &[], |b, u| vecmath::cos_sqrt(b, u, &COS));
    check(&SINC_SQRT, &[], |b, u| vecmath::sinc_sqrt(b, u, &SINC));
}

/// `Γ(a)` where b is 0, and `2 b^(a/2) K_a(2 sqrt(b))` for half-integer a, over `20^a`.
#[test]
fn extended_gamma_in_closed_form() {
    let at = |b: f64, a: f64| (EXTENDED_GAMMA.value.f64)(&[b, a, 0.0]) * 20f64.powf(a);
    // (Of small orders by mpmath.)
    for (a, gamma) in [
        (1e-12, 999999999999.4228),
        (0.01, 99.432_585_119_150_6),
        (0.3, 2.991_568_987_687_590_6),
        (1.0, 1.0),
        (5.0, 24.0),
        (20.0, 121645100408832000.0),
    ] {
        assert!((at(0.0, a) / gamma - 1.0).abs() < 1e-14, "{a}");
    }
    for b in [1e-8, 0.3, 4.0, 900.0, 100000.0] {
        // sqrt(π) exp(-2 sqrt(b)), and the same over sqrt(b) for the order -1/2.
        let expected = std::f64::consts::PI.sqrt() * (-2.0 * f64::sqrt(b)).exp();
        assert!((at(b, 0.5) / expected - 1.0).abs() < 2e-13, "{b}");
        assert!((at(b, -0.5) * b.sqrt() / expected - 1.0).abs() < 2e-13, "{b}");
    }
}

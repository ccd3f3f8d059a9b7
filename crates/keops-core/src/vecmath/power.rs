//! Corner cases of powers, lane by lane.

use super::log::{POWER_BOUND, positive_power};
use super::math::Math;
use crate::prim::ScalarFn;
use crate::prim_eval::{LaneValue, PrimReal, Scalar};

/// `x^y` for all arguments that the vector code leaves over.
pub(super) static POWER: ScalarFn = ScalarFn {
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

//! The power of two that keeps a square within the range of its type, for norms, moduli, angles and quotients
//! of complex numbers: `p = RangeScale(a)`, then `(p a)²` instead of `a²`, and the result is divided by `p`.

use super::{ABS, Code, OpDef, RELU, Value, keep};
use crate::graph::Ex;
use crate::prim::Prim;
use crate::vecmath::{Precision, PrimBuilder, Val};

/// Levels of [`RANGE_SCALE`]: exponents of the size from which on it scales, and of its factor. The second
/// is beyond f32. Squares of what is in between, or scaled, subnormal numbers included, are normal numbers with
/// room for sums of 2^20.
const SCALES: [[i32; 2]; 2] = [[50, 88], [400, 600]];

/// 2^88 at 0 and 2^-88 at infinity, as in f32.
fn scaled_range(a: f64) -> f64 {
    let size = a.abs();
    let beyond = |[from, by]: [i32; 2]| {
        let (limit, scale) = (2f64.powi(from), 2f64.powi(by));
        if size > limit {
            1.0 / scale
        } else if size < 1.0 / limit {
            scale
        } else {
            1.0
        }
    };
    let level = usize::from(size > 0.0 && size.is_finite() && beyond(SCALES[1]) != 1.0);
    beyond(SCALES[level])
}
fn range_scale_code(b: &mut dyn PrimBuilder, a: &[Val]) -> Val {
    let size = b.prim(Prim::Abs, a);
    let mut scale = b.real(1.0);
    for [from, by] in SCALES {
        let [limit, least, down, up] = [from, -from, -by, by].map(|e| b.real(2f64.powi(e)));
        let mut large = b.prim(Prim::Lt, &[limit, size]);
        let mut small = b.prim(Prim::Lt, &[size, least]);
        if from > SCALES[0][0] {
            let (zero, infinite) = (b.real(0.0), b.real(f64::INFINITY));
            let (some, finite) =
                (b.prim(Prim::Lt, &[zero, size]), b.prim(Prim::Lt, &[size, infinite]));
            large = b.prim(Prim::MaskAnd, &[large, finite]);
            small = b.prim(Prim::MaskAnd, &[small, some]);
        }
        scale = b.prim(Prim::Select, &[small, up, scale]);
        scale = b.prim(Prim::Select, &[large, down, scale]);
        if b.precision() == Precision::F32 {
            break;
        }
    }
    scale
}
const RANGE_SCALE_CUDA: &str = "[](T a) -> T { \
    const double s = abs(double(a)); \
    if (s > 0x1p400 && s - s == 0) return T(0x1p-600); \
    if (s > 0 && s < 0x1p-400) return T(0x1p600); \
    return s > 0x1p50 ? T(0x1p-88) : s < 0x1p-50 ? T(0x1p88) : T(1); }({0})";
/// The power of two that takes the squares of both into range, component by component (Blue, "A
/// portable Fortran program to find the Euclidean norm of a vector", 1978). It is constant but for jumps, so
/// that what it is multiplied by and divided by again keeps its derivatives, of every order.
pub(crate) fn range_scale<'g>(a: Ex<'g>, b: Ex<'g>) -> Ex<'g> {
    // The larger: a sum may overflow where neither does.
    let b = b.un(&ABS);
    ((a.un(&ABS) - b).un(&RELU) + b).un(&RANGE_SCALE)
}
/// Power of two that takes a square into range.
pub static RANGE_SCALE: OpDef = OpDef {
    name: "RangeScale",
    doc: "power of two by which to multiply a number of the size of a before it is squared; 1 for sizes from 2^-50 to 2^50",
    arity: 1,
    value: in_f64!(scaled_range, a),
    derivative: |_, _, t| vec![t.lit(0.0)],
    simplify: keep,
    cuda: RANGE_SCALE_CUDA,
    code: Code::Expand(range_scale_code),
    domain: (0.3, 2.0),
    kinks: &[],
    ulps: 0.0,
};

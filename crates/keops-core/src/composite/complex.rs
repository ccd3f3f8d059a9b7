//! Complex numbers, interleaved: `(re, im, re, im, …)`, so that `d` of them have dimension `2d`.
//! One complex number (dimension 2) broadcasts.

use super::{Below, Built, CompositeDef, Drawn, Literal, dim, dims, entry, fail, limit, size};
use crate::error::DimError;
use crate::graph::{Ex, MAX_DIM};
use crate::ops::*;

pub(super) const ALL: &[CompositeDef] = &[
    entry("Real2Complex", 1, "Real2Complex(a): a + 0i", |x, _| {
        limit("Real2Complex", x[0].dim().checked_mul(2))?;
        Ok(x[0].put(0, 2, 2 * x[0].dim()))
    }),
    entry("Imag2Complex", 1, "Imag2Complex(a): 0 + ai", |x, _| {
        limit("Imag2Complex", x[0].dim().checked_mul(2))?;
        Ok(x[0].put(1, 2, 2 * x[0].dim()))
    }),
    entry("ComplexReal", 1, "ComplexReal(z): real part", |x, _| {
        Ok(Complex::new("ComplexReal", x[0])?.re)
    })
    .drawn(one),
    entry("ComplexImag", 1, "ComplexImag(z): imaginary part", |x, _| {
        Ok(Complex::new("ComplexImag", x[0])?.im)
    })
    .drawn(one),
    entry("Conj", 1, "Conj(z): conjugate", |x, _| {
        let z = Complex::new("Conj", x[0])?;
        Ok(join(z.re, -z.im))
    })
    .drawn(one),
    entry("ComplexExp1j", 1, "ComplexExp1j(a): exp(ia) of a real a", |x, _| {
        limit("ComplexExp1j", x[0].dim().checked_mul(2))?;
        Ok(join(x[0].un(&COS), x[0].un(&SIN)))
    }),
    entry("ComplexExp", 1, "ComplexExp(z): exponential", |x, _| {
        let z = Complex::new("ComplexExp", x[0])?;
        let size = z.re.un(&EXP);
        Ok(join(size * z.im.un(&COS), size * z.im.un(&SIN)))
    })
    .drawn(one),
    entry("ComplexSquareAbs", 1, "ComplexSquareAbs(z): |z|²", |x, _| {
        Ok(Complex::new("ComplexSquareAbs", x[0])?.square())
    })
    .drawn(one),
    entry("ComplexAbs", 1, "ComplexAbs(z): |z|; its gradient at 0 is taken as 0", |x, _| {
        let z = Complex::new("ComplexAbs", x[0])?;
        let scale = range_scale(z.re, z.im);
        Ok(Complex { re: z.re * scale, im: z.im * scale }.square().un(&SQRT) / scale)
    })
    .drawn(one),
    entry("ComplexAngle", 1, "ComplexAngle(z): angle, in [-π, π]", |x, _| {
        let z = Complex::new("ComplexAngle", x[0])?;
        Ok(Ex::apply(&ATAN2, &[z.im, z.re]))
    })
    .drawn(one),
    entry("ComplexAdd", 2, "ComplexAdd(z, w): z + w", |x, _| {
        let [z, w] = pair("ComplexAdd", x)?;
        if x[0].dim() == x[1].dim() { Ok(x[0] + x[1]) } else { Ok(join(z.re + w.re, z.im + w.im)) }
    })
    .drawn(two),
    entry("ComplexSubtract", 2, "ComplexSubtract(z, w): z - w", |x, _| {
        let [z, w] = pair("ComplexSubtract", x)?;
        if x[0].dim() == x[1].dim() { Ok(x[0] - x[1]) } else { Ok(join(z.re - w.re, z.im - w.im)) }
    })
    .drawn(two),
    entry("ComplexMult", 2, "ComplexMult(z, w): z w", |x, _| {
        let [z, w] = pair("ComplexMult", x)?;
        Ok(join(z.re * w.re - z.im * w.im, z.re * w.im + z.im * w.re))
    })
    .drawn(two),
    entry("ComplexDivide", 2, "ComplexDivide(z, w): z / w", |x, _| {
        let [z, w] = pair("ComplexDivide", x)?;
        Ok(quotient(&z, &w))
    })
    .drawn(two),
    entry(
        "ComplexRealScal",
        2,
        "ComplexRealScal(s, z) or (z, s): real s, of dimension 1 or one for each, times complex z",
        real_times_complex,
    )
    .drawn(sample_real_times_complex),
    entry("ComplexSum", 1, "ComplexSum(z): sum of the components, one complex number", |x, _| {
        let z = Complex::new("ComplexSum", x[0])?;
        Ok(join(z.re.sum(), z.im.sum()))
    })
    .drawn(one),
    entry(
        "ComplexSumT",
        1,
        "ComplexSumT(z, n): one complex number repeated to dimension n",
        repeated,
    )
    .literals(1, 1, |below| (vec![2], vec![(2 * dim(below)).into()])),
];

fn repeated<'g>(x: &[Ex<'g>], l: &[Literal]) -> Built<'g> {
    let n = size("ComplexSumT", &l[0], 2, MAX_DIM)?;
    if x[0].dim() != 2 || n % 2 == 1 {
        return fail("ComplexSumT", "an operand of dimension 2 and an even n", dims(x));
    }
    Ok(x[0].contract(vec![n / 2, 2], &[(x[0], &[1])], &[0, 1]))
}

fn real_times_complex<'g>(x: &[Ex<'g>], _: &[Literal]) -> Built<'g> {
    let (s, z) = if x[0].dim() < x[1].dim() { (x[0], x[1]) } else { (x[1], x[0]) };
    let w = Complex::new("ComplexRealScal", z)?;
    match s.dim() {
        1 => Ok(s * z),
        d if 2 * d == z.dim() => Ok(join(s * w.re, s * w.im)),
        _ => fail("ComplexRealScal", "dimensions 1 or d, and 2d", dims(x)),
    }
}
fn sample_real_times_complex(below: Below<'_>) -> Drawn {
    let d = dim(below);
    ([vec![1, 2 * d], vec![2 * d, 1], vec![d, 2 * d]][below(3)].clone(), vec![])
}

struct Complex<'g> {
    re: Ex<'g>,
    im: Ex<'g>,
}

impl<'g> Complex<'g> {
    fn new(op: &str, z: Ex<'g>) -> Result<Self, DimError> {
        if z.dim() % 2 == 1 {
            return fail(
                op,
                "complex numbers, of even dimension",
                format!("dimension {}", z.dim()),
            );
        }
        let d = z.dim() / 2;
        Ok(Complex { re: z.pick(0, 2, d), im: z.pick(1, 2, d) })
    }
    fn square(&self) -> Ex<'g> {
        self.re * self.re + self.im * self.im
    }
    /// Half of each number whose parts have no sum in the type, the others as they are; 1 for those, else 0.
    fn within_range(&self) -> (Complex<'g>, Ex<'g>) {
        let size = self.re.un(&ABS) + self.im.un(&ABS);
        let fits = Ex::apply(&LESS_THAN, &[size, size.lit(f64::INFINITY)]);
        let by = (fits + 1.0) * 0.5;
        (Complex { re: self.re * by, im: self.im * by }, fits)
    }
}

/// `z / w` by the ratio of the parts of w (Smith, "Algorithm 116: complex division", 1962): no square is taken,
/// neither here nor in derivatives.
fn quotient<'g>(z: &Complex<'g>, w: &Complex<'g>) -> Ex<'g> {
    let ((z, z_fits), (w, w_fits)) = (z.within_range(), w.within_range());
    let undo = (w_fits + 1.0) * (-z_fits + 2.0) * 0.5;
    let larger = w.re.un(&ABS) - w.im.un(&ABS);
    let either = |a, b| Ex::apply(&IF_ELSE, &[larger, a, b]);
    let (large, small) = (either(w.re, w.im), either(w.im, w.re));
    let ratio = small / large;
    let whole = large + small * ratio;
    let (along, across) = (either(z.re, z.im), either(z.im, z.re));
    let im = (across - along * ratio) / whole * undo;
    join((along + across * ratio) / whole * undo, either(im, -im))
}

/// Real and imaginary parts (either may have dimension 1), interleaved: a transposition.
fn join<'g>(re: Ex<'g>, im: Ex<'g>) -> Ex<'g> {
    let d = re.dim().max(im.dim());
    let parts = Ex::concat(&[re.broadcast(d), im.broadcast(d)]);
    parts.contract(vec![2, d], &[(parts, &[0, 1])], &[1, 0])
}
fn pair<'g>(op: &str, x: &[Ex<'g>]) -> Result<[Complex<'g>; 2], DimError> {
    let numbers = [Complex::new(op, x[0])?, Complex::new(op, x[1])?];
    if x[0].dim() == x[1].dim() || x.iter().any(|e| e.dim() == 2) {
        Ok(numbers)
    } else {
        fail(op, "operands of one dimension (or of dimension 2)", dims(x))
    }
}
fn one(below: Below<'_>) -> Drawn {
    (vec![2 * dim(below)], vec![])
}
fn two(below: Below<'_>) -> Drawn {
    let d = 2 * dim(below);
    ([vec![d, d], vec![2, d], vec![d, 2]][below(3)].clone(), vec![])
}

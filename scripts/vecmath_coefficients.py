#!/usr/bin/env python3
"""Polynomial coefficients of crates/keops-core/src/vecmath: writes vecmath/coef.rs to stdout.

Weighted minimax fits by Lawson's iteration in 80-digit arithmetic (mpmath). Rounding to
the compute type would spoil the fit, so coefficients are fixed from the lowest order on: the
lowest free coefficient is rounded, and the others are fitted again to the remainder.

    pip install mpmath gmpy2   # gmpy2 is optional, for speed
    python3 scripts/vecmath_coefficients.py > crates/keops-core/src/vecmath/coef.rs
"""

from mpmath import mp, mpf, matrix, lu_solve

mp.dps = 80
LN2 = mp.log(2)


def round_to(v, bits):
    """Nearest f32 or f64 number to v (all values here are normal numbers)."""
    if v == 0:
        return mpf(0)
    m, e = mp.frexp(v)
    p = 24 if bits == 32 else 53
    return mp.ldexp(mp.nint(mp.ldexp(m, p)), e - p)


def minimax(g, w, lo, hi, powers, steps=20):
    """Nearly minimises max |w (sum_k c_k x^k - g)| over [lo, hi]; returns the c_k.

    Lawson's iteration: least squares whose weights are multiplied by the errors. Unlike exchange
    algorithms it needs no Haar condition, which a common factor x^k of all powers breaks."""
    n = len(powers)
    m = 8 * n + 8
    mid, half = (lo + hi) / 2, (hi - lo) / 2
    table = []
    for k in range(m):
        x = mid - half * mp.cos(mp.pi * (k + mpf("0.5")) / m)
        wx = w(x)
        table.append(([wx * x**p for p in powers], wx * g(x)))
    lawson = [mpf(1) / m] * m
    best = None
    for _ in range(steps):
        a, y = matrix(n, n), matrix(n, 1)
        for i in range(n):
            for j in range(i, n):
                a[i, j] = a[j, i] = mp.fsum(l * row[i] * row[j] for l, (row, _) in zip(lawson, table))
            y[i] = mp.fsum(l * row[i] * v for l, (row, v) in zip(lawson, table))
        c = list(lu_solve(a, y))
        err = [abs(mp.fdot(row, c) - v) for row, v in table]
        if best is None or max(err) < best[0]:
            best = (max(err), c)
        total = mp.fsum(l * e for l, e in zip(lawson, err))
        if total == 0:
            break
        lawson = [l * e / total for l, e in zip(lawson, err)]
    return best[1]


def fit(g, w, lo, hi, powers, bits, keep_exact=()):
    """Coefficients rounded to the compute type, except those of the powers in keep_exact."""
    lo, hi = mpf(lo), mpf(hi)
    fixed, free = {}, list(powers)
    while free:
        rest = lambda x: g(x) - sum(c * x**k for k, c in fixed.items())
        c = minimax(rest, w, lo, hi, free)
        k = free.pop(0)
        fixed[k] = c[0] if k in keep_exact else round_to(c[0], bits)
    grid = [lo + (hi - lo) * i / 2000 for i in range(2001)]
    worst = max(abs(w(x) * (sum(c * x**k for k, c in fixed.items()) - g(x))) for x in grid)
    return [fixed[k] for k in powers], worst


def literal(v):
    return repr(float(v))


def array(cs):
    return "&[" + ", ".join(literal(c) for c in cs) + "]"


def emit(name, doc, single, double):
    """One constant; single and double are (coefficients, maximum relative error)."""
    print(f"\n/// {doc}")
    print(f"/// Relative error {mp.nstr(single[1], 3)} (f32), {mp.nstr(double[1], 3)} (f64).")
    print(f"pub(super) const {name}: Coefs = Coefs {{ single: {array(single[0])}, double: {array(double[0])} }};")


def emit_array(name, doc, coefs):
    print(f"\n/// {doc}")
    print(f"/// Relative error {mp.nstr(coefs[1], 3)}.")
    print(f"pub(super) const {name}: &[f64] = {array(coefs[0])};")


def emit_parts(name, doc, v, single_bits=None, double_bits=None, parts=2):
    """A constant as an unevaluated sum of numbers of the compute type; the first part of each can
    be cut to fewer bits so that its products with small integers are exact (cut, not rounded: no
    part is negative, so that sums of their products with infinities are not NaN)."""
    def split(bits, first):
        out, rest = [], v
        for i in range(parts):
            if i == 0 and first:
                m, e = mp.frexp(rest)
                p = mp.ldexp(mp.floor(mp.ldexp(m, first)), e - first)
            else:
                p = round_to(rest, bits)
            out.append(p)
            rest -= p
        return out
    print(f"\n/// {doc}")
    print(f"pub(super) const {name}: Coefs = Coefs {{ single: {array(split(32, single_bits))}, double: {array(split(64, double_bits))} }};")


def monic_exp2(degree, bits, near):
    """`(coefficients, leading, error)`: `2^f` divided by the leading coefficient of its polynomial,
    constant term first. The leading coefficient is one near `near` whose rounded reciprocal is
    almost exact, so that the value at 0 times it rounds to 1."""
    p = 24 if bits == 32 else 53
    leading = round_to(mpf(near), bits)
    step = mp.ldexp(1, mp.frexp(leading)[1] - p)
    best = min((leading + k * step for k in range(-4000, 4001)),
               key=lambda v: abs(round_to(1 / v, bits) * v - 1))
    g = lambda x: ((2**x - 1) / x if abs(x) > TINY else LN2 + LN2**2 * x / 2) / best - x ** (degree - 1)
    cs, worst = fit(g, lambda x: x * best / 2**x, -0.5, 0.5, range(0, degree - 1), bits)
    return [round_to(1 / best, bits)] + cs, best, worst


def both(g, w, lo, hi, single_powers, double_powers, **kw):
    return fit(g, w, lo, hi, single_powers, 32, **kw), fit(g, w, lo, hi, double_powers, 64, **kw)


TINY = mpf("1e-8")


def main():
    print("//! Polynomial coefficients, lowest order first. Written by")
    print("//! `scripts/vecmath_coefficients.py`; do not edit.")
    print("// Standard constants are parts of sums here, and fitted values close to them are not them.")
    print("#![allow(clippy::approx_constant)]")
    print("\nuse super::math::Coefs;")

    h = LN2 / 2 * mpf("1.0001")
    emit("EXP", "`e^r`, |r| <= ln 2 / 2, constant term 1.",
         *both(lambda x: (mp.exp(x) - 1) / x if abs(x) > TINY else 1 + x / 2, lambda x: x / mp.exp(x), -h, h,
               range(0, 6), range(0, 11)))
    emit("EXP2", "`2^f`, |f| <= 1/2, constant term 1.",
         *both(lambda x: (2**x - 1) / x if abs(x) > TINY else LN2 + LN2**2 * x / 2, lambda x: x / 2**x, -0.5, 0.5,
               range(0, 6), range(0, 11)))
    emit("EXP2_CHEAP", "`2^f`, |f| <= 1/2, constant term 1, one degree less.",
         *both(lambda x: (2**x - 1) / x if abs(x) > TINY else LN2 + LN2**2 * x / 2, lambda x: x / 2**x, -0.5, 0.5,
               range(0, 5), range(0, 10)))
    single, double = monic_exp2(5, 32, "0.0013271465431898832"), monic_exp2(10, 64, "7.0379063380526365e-09")
    emit("EXP2_MONIC", "The same divided by its leading coefficient, without that term (which is f^n).",
         (single[0], single[2]), (double[0], double[2]))
    print("\n/// That leading coefficient; its product with the constant term rounds to 1.")
    print(f"pub(super) const EXP2_LEADING: Coefs = Coefs {{ single: {array([single[1]])}, double: {array([double[1]])} }};")
    g = lambda x: (mp.exp(x) - 1 - x) / x**2
    emit("EXPM1", "`(e^r - 1 - r) / r^2`, |r| <= ln 2 / 2.",
         *both(lambda x: g(x) if abs(x) > TINY else mpf(1) / 2 + x / 6,
               lambda x: x**2 / (mp.exp(x) - 1) if x else x, -h, h, range(0, 5), range(0, 10)))

    third = mpf(1) / 3
    q = lambda x: (mp.log1p(x) - x) / x**2 if abs(x) > TINY else -mpf(1) / 2 + x / 3
    emit_array("LOG_SINGLE", "`(log(1 + f) - f) / f^2`, |f| <= 1/3.",
               fit(q, lambda x: x**2 / mp.log1p(x) if x else x, -third, third, range(0, 9), 32))
    smax = (mp.sqrt(2) - 1) ** 2  # s = f / (2 + f) at f = sqrt(2) - 1
    zmax = smax**2
    # log(1 + f) = 2 atanh(s) = 2 s + s R(s^2).
    ratio = lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z if z > TINY else mpf(2) / 3 + 2 * z / 5
    wr = lambda z: z * mp.sqrt(z) / (2 * mp.atanh(mp.sqrt(z))) if z else z
    emit_array("LOG_DOUBLE", "`R(z) / z` with `2 atanh(s) = 2 s + s R(s^2)`, |s| <= (sqrt(2) - 1)^2.",
               fit(ratio, wr, 0, zmax, range(0, 7), 64))
    # Power: log2(m) = s (C + z (D + z Q(z))), C = 2 / ln 2. D stays exact, as hi + lo.
    s32 = fit(lambda z: ratio(z) / LN2, wr, 0, zmax, range(0, 5), 32, keep_exact=(0,))
    s64 = fit(lambda z: ratio(z) / LN2, wr, 0, zmax, range(0, 9), 64, keep_exact=(0,))
    emit("POW_Q", "Terms from z^2 on of `log2((1 + s) / (1 - s)) / s` in `z = s^2`.",
         (s32[0][1:], s32[1]), (s64[0][1:], s64[1]))
    print("\n/// Coefficient of z in the same, as high and low part.")
    parts = lambda v, b: [round_to(v, b), round_to(v - round_to(v, b), b)]
    print(f"pub(super) const POW_D: Coefs = Coefs {{ single: {array(parts(s32[0][0], 32))}, double: {array(parts(s64[0][0], 64))} }};")
    emit_parts("POW_C", "`2 / ln 2` in two parts.", 2 / LN2)
    emit_parts("LN2_PARTS", "`ln 2` in two parts, the first short: its product with an exponent is exact.",
               LN2, single_bits=15, double_bits=41)
    emit_parts("LOG2E", "`log2(e)` in two parts.", 1 / LN2)

    half = mp.pi / 2 + mpf("0.01")  # the reduction of cos overshoots
    sinc = lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z if z > TINY else -mpf(1) / 6 + z / 120
    emit("SIN", "`(sin(r) / r - 1) / z` in `z = r^2`, |r| <= pi / 2 + 0.01.",
         *both(sinc, lambda z: z * mp.sqrt(z) / mp.sin(mp.sqrt(z)) if z else z, 0, half**2,
               range(0, 4), range(0, 8)))
    quarter = mp.pi / 4 * mpf("1.0001")
    tanc = lambda z: (mp.tan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z if z > TINY else third + 2 * z / 15
    emit("TAN", "`(tan(r) / r - 1) / z` in `z = r^2`, |r| <= pi / 4.",
         *both(tanc, lambda z: z * mp.sqrt(z) / mp.tan(mp.sqrt(z)) if z else z, 0, quarter**2,
               range(0, 7), range(0, 14)))
    emit_parts("PI_PARTS", "`pi` in three parts.", +mp.pi, parts=3)
    emit_parts("HALF_PI_PARTS", "`pi / 2` in three parts.", mp.pi / 2, parts=3)
    atanc = lambda z: (mp.atan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z if z > TINY else -third + z / 5
    emit("ATAN", "`(atan(t) / t - 1) / z` in `z = t^2`, |t| <= 1.",
         *both(atanc, lambda z: z * mp.sqrt(z) / mp.atan(mp.sqrt(z)) if z else z, 0, 1,
               range(0, 9), range(0, 20)))
    asinc = lambda z: (mp.asin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z if z > TINY else mpf(1) / 6 + 3 * z / 40
    emit("ASIN", "`(asin(t) / t - 1) / z` in `z = t^2`, |t| <= 1/2.",
         *both(asinc, lambda z: z * mp.sqrt(z) / mp.asin(mp.sqrt(z)) if z else z, 0, 0.25,
               range(0, 5), range(0, 12)))

    # Payne-Hanek: 2/pi to more bits than the largest exponent plus the precision wanted. The
    # leading zero word lets small exponents index in front of the binary point.
    words = 20
    bits = int(mp.floor(mp.ldexp(two_over_pi(64 * words + 64), 64 * words)))
    print("\n/// The first fractional bits of `2 / pi`, most significant word first, after a word of zeros.")
    print(f"pub(super) const TWO_OVER_PI: [u64; {words + 1}] = [0, " +
          ", ".join(f"0x{(bits >> (64 * (words - 1 - i))) & (2**64 - 1):016x}" for i in range(words)) + "];")


def two_over_pi(bits):
    mp.prec = bits
    return 2 / mp.pi


if __name__ == "__main__":
    main()

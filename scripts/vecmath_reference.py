#!/usr/bin/env python3
"""Reference values of crates/keops-core/tests/vecmath_accuracy.rs, in double precision.

One line per point: function, bits of x, bits of y (0 for functions of x alone), bits of the
rounded value, and the exact value minus the rounded one in units of its last place, all from
60-digit and wider arithmetic.

    pip install mpmath gmpy2
    python3 scripts/vecmath_reference.py 120 > crates/keops-core/tests/data/vecmath_f64.txt
"""
import math
import random
import struct
import sys

from mpmath import mp, mpf

mp.prec = 1400  # an argument of 2^1023 is reduced by 2 pi without loss


def bits(v):
    return struct.unpack("<Q", struct.pack("<d", v))[0]


def rounded(v):
    """Nearest double to v and (v - nearest) / ulp; halves to even, gradual underflow."""
    if v == 0:
        return 0.0, 0.0
    _, e = mp.frexp(v)
    unit = max(e - 53, -1074)
    n = mp.nint(mp.ldexp(v, -unit))
    r = mp.ldexp(n, unit)
    if abs(r) >= mpf(2) ** 1024:
        return math.copysign(math.inf, v), 0.0
    # math.ldexp rounds subnormal results, but n is already on their grid.
    return math.ldexp(int(n), unit), float(mp.ldexp(v - r, -unit))


def any_double(rng):
    while True:
        v = struct.unpack("<d", struct.pack("<Q", rng.getrandbits(64)))[0]
        if math.isfinite(v):
            return v


def spread(lo, hi, signed=True):
    """Random sign and exponent with |x| in [2^lo, 2^hi)."""
    def draw(rng):
        v = math.ldexp(1 + rng.random(), rng.randrange(lo, hi))
        return -v if signed and rng.random() < 0.5 else v
    return draw


def uniform(lo, hi):
    return lambda rng: rng.uniform(lo, hi)


def near_multiple(rng):
    """A double next to a multiple of pi/2, where the reduction cancels."""
    n = int(math.ldexp(1 + rng.random(), rng.randrange(0, 60)))
    return float(n * mp.pi / 2) * rng.choice([1, -1])


# 6381956970095103 * 2^797 is the double closest to a multiple of pi/2 (Kahan, Muller).
WORST_ANGLES = [math.ldexp(6381956970095103, 797), math.ldexp(6381956970095103, 798),
                math.pi, math.pi / 2, 3 * math.pi / 2, 1e22, 1.7976931348623157e308]
ANGLES = ([spread(-30, 3), spread(3, 40), spread(39, 1023), near_multiple], WORST_ANGLES)
POSITIVE = ([spread(-1074, 1023, signed=False), uniform(0.5, 2), uniform(0.99, 1.01)],
            [5e-324, 2.2250738585072014e-308, 1 - 2**-53, 1 + 2**-52, 1.7976931348623157e308])

FUNCTIONS = {
    "exp": (mp.exp, [uniform(-746, 710), uniform(-1, 1), spread(-60, 0)], [-745.13, -708.4, 709.782712893384]),
    "exp2": (lambda x: mpf(2) ** x, [uniform(-1076, 1024), uniform(-1, 1)], [-1074.0, -1022.5]),
    "expm1": (mp.expm1, [uniform(-40, 710), uniform(-1, 1), spread(-60, 0)], []),
    "log": (mp.log, *POSITIVE),
    "log2": (lambda x: mp.log(x) / mp.log(2), *POSITIVE),
    "log1p": (mp.log1p, [spread(-60, 1023, signed=False), uniform(-1, 1), spread(-60, 0)], [2**-53 - 1]),
    "sin": (mp.sin, *ANGLES),
    "cos": (mp.cos, *ANGLES),
    "tan": (mp.tan, *ANGLES),
    "asin": (mp.asin, [uniform(-1, 1), spread(-60, 0)], [0.5, 1 - 2**-53]),
    "acos": (mp.acos, [uniform(-1, 1), spread(-60, 0)], [0.5, 1 - 2**-53]),
    "atan": (mp.atan, [uniform(-3, 3), spread(-60, 60)], [1 - 2**-53]),
    "sinh": (mp.sinh, [uniform(-710.5, 710.5), uniform(-3, 3), spread(-60, 0)], [710.47]),
    "cosh": (mp.cosh, [uniform(-710.5, 710.5), uniform(-3, 3), spread(-60, 0)], [710.47]),
    "tanh": (mp.tanh, [uniform(-22, 22), uniform(-1, 1), spread(-60, 0)], []),
    "asinh": (mp.asinh, [uniform(-3, 3), spread(-60, 0), spread(0, 1023)], [1.7976931348623157e308]),
    "acosh": (mp.acosh, [uniform(1, 1.1), uniform(1, 4), spread(0, 1023, signed=False)], [1 + 2**-52]),
    "atanh": (mp.atanh, [uniform(-1, 1), spread(-60, -1), uniform(0.99, 1)], [1 - 2**-53]),
    "sigmoid": (lambda x: 1 / (1 + mp.exp(-x)), [uniform(-740, 40), uniform(-3, 3), spread(-60, 0)], []),
    "softplus": (lambda x: mp.log1p(mp.exp(x)), [uniform(-740, 740), uniform(-3, 3), spread(-60, 0)], []),
}


def power_point(rng):
    """x, y with x^y anywhere in the range, often near its ends, and x often near 1."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.uniform(0, 10), rng.uniform(-10, 10)
    x = math.ldexp(1 + rng.random(), rng.randrange(-1074, 1023)) if kind == 1 else \
        1 + math.ldexp(rng.random() - 0.5, -rng.randrange(0, 50))
    if x == 1:
        x = 2.0
    return x, float(rng.uniform(-1074, 1024) / mp.log(x, 2))


def point(name, f, x, y=None):
    v = f(mpf(x)) if y is None else f(mpf(x), mpf(y))
    r, residual = rounded(v)
    print(f"{name} {bits(x):016x} {0 if y is None else bits(y):016x} {bits(r):016x} {residual:.6f}")


def main():
    n = int(sys.argv[1])
    for name, (f, draws, extra) in FUNCTIONS.items():
        rng = random.Random(name)
        for x in extra + [draws[k % len(draws)](rng) for k in range(n)]:
            point(name, f, x)
    rng = random.Random("atan2")
    for _ in range(n):
        draw = rng.choice([spread(-2, 2), spread(-60, 60), uniform(-1, 1)])
        y, x = draw(rng), draw(rng)
        point("atan2", mp.atan2, y, x)
    rng = random.Random("pow")
    for _ in range(n):
        point("pow", mp.power, *power_point(rng))


if __name__ == "__main__":
    main()

"""Inverse hyperbolic functions, sigmoids, error and gamma functions: values and derivatives to third
order, by mpmath in 50 digits, from tiny to huge arguments.
"""

import mpmath as mp
import numpy as np

from cases import single

mp.mp.dps = 50




def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def sigmoid_at(x, m):
    s = sigmoid(x)
    c = sigmoid(-x)
    return [s, s * c, s * c * (c - s), s * c * ((c - s) ** 2 - 2 * s * c)][m]


def asinh_at(x, m):
    h = mp.sqrt(1 + x * x)
    return [mp.asinh(x), 1 / h, -x / h**3, (2 * x * x - 1) / h**5][m]


def acosh_at(x, m):
    h = mp.sqrt(x * x - 1)
    return [mp.acosh(x), 1 / h, -x / h**3, (2 * x * x + 1) / h**5][m]


def atanh_at(x, m):
    h = 1 - x * x
    return [mp.atanh(x), 1 / h, 2 * x / h**2, (6 * x * x + 2) / h**3][m]


def softplus_at(x, m):
    return sigmoid_at(x, m - 1) if m else mp.log1p(mp.exp(x))


def erf_at(x, m):
    g = 2 / mp.sqrt(mp.pi) * mp.exp(-x * x)
    return [mp.erf(x), g, -2 * x * g, (4 * x * x - 2) * g][m]


def erfc_at(x, m):
    return -erf_at(x, m) if m else mp.erfc(x)


def range_scale_at(x, m):
    # Powers of two, the same in both precisions for sizes from 2^-400 to 2^400.
    size = abs(x)
    if m:
        return mp.mpf(0)
    if size > 2.0**50:
        return mp.mpf(2) ** -76
    return mp.mpf(2) ** 76 if size < 2.0**-50 else mp.mpf(1)


def lgamma_at(x, m):
    return mp.polygamma(m - 1, x) if m else mp.loggamma(x)


TINY = [2.0**-100, 2.0**-30, 1e-3]
WIDE = TINY + [0.25, 0.875, 1.5, 3, 8]
SIGNED = [-x for x in reversed(WIDE)] + [0.0] + WIDE
FUNCTIONS = {
    "Asinh": ("Asinh(x)", asinh_at, SIGNED + [-40, 1e5, 2.0**100]),
    "Acosh": ("Acosh(x)", acosh_at, [1 + 2.0**-20, 1.0625, 1.5, 3, 8, 1e5, 2.0**100]),
    "Atanh": ("Atanh(x)", atanh_at, [-x for x in reversed(TINY)] + [0.0] + TINY + [-0.5, 0.25, 0.875, 0.9990234375, -0.9990234375]),
    "Sigmoid": ("Sigmoid(x)", sigmoid_at, SIGNED + [-80, -30, 20, 85, 300]),
    "Softplus": ("Softplus(x)", softplus_at, SIGNED + [-80, -30, 20, 85, 300]),
    "Erf": ("Erf(x)", erf_at, SIGNED + [-5, 5.5]),
    "Erfc": ("Erfc(x)", erfc_at, SIGNED + [-5, 5.5]),
    "Lgamma": ("Lgamma(x)", lgamma_at, [2.0**-20, 1e-3, 0.25, 0.875, 1.125, 2.5, 7, 19.5, 21, 1e3, 1e10]),
    "Polygamma0": ("Polygamma(0,x)", lambda x, m: mp.polygamma(m, x), [2.0**-10, 0.25, 0.875, 2.5, 7, 19.5, 21, 1e3]),
    "Polygamma3": ("Polygamma(3,x)", lambda x, m: mp.polygamma(3 + m, x), [2.0**-6, 0.25, 0.875, 2.5, 7, 19.5, 21, 100]),
    "RangeScale": ("RangeScale(x)", range_scale_at, [-x for x in WIDE] + WIDE + [2.0**60, -(2.0**100), 2.0**-51, 2.0**-49, 2.0**49]),
}


def add(book):
    for name, (formula, exact, points) in FUNCTIONS.items():
        x = single(np.array(points))[:, None]
        b = single(0.5 + 0.125 * np.arange(len(points)))[:, None]
        op = formula[: formula.index("(")]
        for dtype in "float64", "float32":
            quantities = {
                "value": (formula, [], 0),
                "grad": (f"Grad({formula},x,b)", [b], 1),
                "second": (f"Diff(Grad({formula},x,b),x,b)", [b], 2),
                "third": (f"Grad(Diff(Grad({formula},x,b),x,b),x,b)", [b], 3),
            }
            for quantity, (text, more, m) in quantities.items():
                if dtype == "float32" and m > 1:
                    continue
                factor = lambda k: mp.mpf(float(b[k, 0])) ** m
                want = [factor(k) * mp.re(exact(mp.mpf(float(x[k, 0])), m)) for k in range(len(points))]
                rows = [k for k, w in enumerate(want) if w == 0 or 1e-30 < abs(w) < 1e30]
                book.case(
                    f"special/{name}/{quantity}" + ("" if dtype == "float64" else "/f32"),
                    text,
                    ["x=Vi(1)"] + ["b=Vi(1)"] * len(more),
                    [x[rows]] + [a[rows] for a in more],
                    dtype=dtype,
                    expected=np.array([[float(want[k])] for k in rows]),
                    check=False,
                    tags=["special", f"op:{op}"],
                )

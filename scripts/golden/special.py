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
        return mp.mpf(2) ** -88
    return mp.mpf(2) ** 88 if size < 2.0**-50 else mp.mpf(1)


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
    add_quotients(book)


def add_quotients(book):
    """Quotients of complex numbers, also where sums or squares of parts leave the type, with derivatives."""
    parts = {
        "float64": [
            (1.5e308, 1.2e308, 1.1e308, -1.6e308), (1.5e308, 1.4e308, 3, 4), (1.7e308, -1.7e308, 1e160, 2e160),
            (1e-310, 3e-309, 2e-310, 1e-309), (3, -1, 1e160, 2e160), (1, 1 + 2.0**-40, 1, -1), (0.5, 2, 0.25, 8),
        ],
        "float32": [
            (3e38, 2e38, 2.5e38, -3.2e38), (3e38, 2e38, 3, 4), (1e-40, 3e-40, 2e-40, 1e-39),
            (1, 1 + 2.0**-20, 1, -1), (0.5, 2, 0.25, 8),
        ],
    }
    for dtype, points in parts.items():
        rounded = np.array(points, dtype=dtype).astype(np.float64)
        least, most = (1e-290, 1e290) if dtype == "float64" else (1e-30, 1e37)
        z, w = rounded[:, :2], rounded[:, 2:]
        e = np.tile([0.75, -1.25], (len(points), 1))
        exact = []
        for (a, b), (c, d), (r, s) in zip(z, w, e):
            z_, w_, e_ = mp.mpc(a, b), mp.mpc(c, d), mp.mpc(r, -s)
            q, p, second = z_ / w_, e_ * z_ / w_**2, -2 * e_ * z_ * mp.mpc(r, s) / w_**3
            of_z = e_ / w_
            exact.append([(q.real, q.imag), (of_z.real, -of_z.imag), (-p.real, p.imag), (-second.real, second.imag)])
        texts = [
            ("value", "ComplexDivide(z,w)", []),
            ("grad_z", "Grad(ComplexDivide(z,w),z,e)", [e]),
            ("grad_w", "Grad(ComplexDivide(z,w),w,e)", [e]),
            ("second", "Diff(Grad(ComplexDivide(z,w),w,e),w,e)", [e]),
        ]
        for m, (quantity, text, more) in enumerate(texts):
            fits = lambda v: v == 0 or least < abs(v) < most
            rows = [k for k in range(len(points)) if all(fits(v) for v in exact[k][m])]
            book.case(
                f"special/ComplexDivide/{quantity}" + ("" if dtype == "float64" else "/f32"),
                text,
                ["z=Vi(2)", "w=Vi(2)"] + ["e=Vi(2)"] * len(more),
                [z[rows], w[rows]] + [a[rows] for a in more],
                dtype=dtype,
                expected=np.array([[float(v) for v in exact[k][m]] for k in rows]),
                check=False,
                tags=["special", "op:ComplexDivide"],
            )
    # Where the sum of the parts overflows.
    large = np.array([[1.5e308, 1.2e308], [-1.7e308, 1.7e308], [3e-308, 1.7e308], [-1.1e308, 0]])
    norms = [mp.sqrt(mp.mpf(a) ** 2 + mp.mpf(b) ** 2) for a, b in large]
    unit = np.array([[float(mp.mpf(v) / n) for v in row] for row, n in zip(large, norms)])
    book.case("special/Normalize/large", "Normalize(x)", ["x=Vi(2)"], [large], expected=unit, check=False, tags=["special", "op:Normalize"])
    book.case(
        "special/ComplexAbs/large", "ComplexAbs(0.5*x)", ["x=Vi(2)"], [large],
        expected=np.array([[float(n / 2)] for n in norms]), check=False, tags=["special", "op:ComplexAbs"],
    )

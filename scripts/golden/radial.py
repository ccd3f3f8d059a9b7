"""Functions of a squared distance: values and derivatives to third order, at coincident points,
near them, and where results underflow.

Every function f(u) comes with its derivatives in closed form, in 50 digits; derivatives in the
points follow by the chain rule with d = x - y, u = |d|²:

    gradient                2 f' d
    Hessian times v         2 f' v + 4 f'' (d·v) d
    Laplacian               2 D f' + 4 f'' u
    third along v, v        4 f'' (2 (d·v) v + (v·v) d) + 8 f''' (d·v)² d

Where f'' or f''' is infinite at u = 0, its term vanishes there (d = 0), or no derivative exists and
the convention is 0.
"""

import math

import mpmath as mp
import numpy as np

from cases import single

mp.mp.dps = 50


def matern(nu):
    nu = mp.mpf(nu)

    def f(u, m):
        scale = (-nu) ** m * 2 ** (1 - nu) / mp.gamma(nu)
        if u == 0:
            return scale * 2 ** (nu - m - 1) * mp.gamma(nu - m) if nu > m else mp.mpf(0)
        s = mp.sqrt(2 * nu * u)
        return scale * s ** (nu - m) * mp.besselk(nu - m, s)

    return f


def matern_half(p):
    """As a function of w = s²."""
    return lambda w, m: matern(p + 0.5)(w / (2 * p + 1), m) / mp.mpf(2 * p + 1) ** m


def of_r(*c):
    """Σ c_j r^j for r < 1, else 0: derivatives in u = r² term by term; 0 where one is infinite."""

    def f(u, m):
        if u >= 1:
            return mp.mpf(0)
        if u == 0 and any(c[1 : 2 * m : 2]):
            return mp.mpf(0)
        falling = lambda a: mp.fprod([a - i for i in range(m)])
        power = lambda a: mp.mpf(a == 0) if u == 0 else u**a
        return mp.fsum(
            mp.mpf(cj) * falling(mp.mpf(j) / 2) * power(mp.mpf(j) / 2 - m) for j, cj in enumerate(c)
        )

    return f


def wendland(k):
    """The polynomials of Wendland (1995), table 1."""
    power, q, by = [(2, [1], 1), (4, [1, 4], 1), (6, [3, 18, 35], 3), (8, [1, 8, 25, 32], 1)][k]
    p = np.polynomial.Polynomial([1, -1]) ** power * np.polynomial.Polynomial(q)
    return of_r(*[mp.mpf(int(round(c))) / by for c in p.coef])


def scaled(f, by):
    return lambda u, m: by * f(u, m)


def rational_quadratic(alpha):
    a = mp.mpf(alpha)
    return lambda u, m: (-1) ** m * mp.rf(a, m) / (2 * a) ** m * (1 + u / (2 * a)) ** (-a - m)


def pow_log(p, k):
    """u^p log(u)^k with k of 0 and 1."""
    p = mp.mpf(p)

    def f(u, m):
        # d^m: falling factorial c u^(p-m) log u + its derivative in p times u^(p-m)
        c = mp.fprod(p - i for i in range(m))
        slope = mp.fsum(mp.fprod(p - i for i in range(m) if i != q) for q in range(m))
        if u == 0:
            # Limits where finite; without what is infinite.
            return mp.mpf(p == m) * (slope if k else c)
        return u ** (p - m) * (c * mp.log(u) + slope if k else c)

    return f


def root_series(f, first):
    """d^m of an entire function of u, Σ (-1)^j u^j / (2j + first)!; `first` is 0 or 1."""

    def g(u, m):
        if abs(u) > 1e5:
            # Few derivatives, far away: differences in 50 digits.
            return mp.diff(f, u, m) if m else f(u)
        with mp.workdps(400):
            term = mp.mpf((-1) ** m * math.factorial(m)) / math.factorial(2 * m + first)
            total = mp.mpf(0)
            for j in range(m, m + 1200):
                total += term
                term *= -u * (j + 1) / mp.mpf((j + 1 - m) * (2 * j + 1 + first) * (2 * j + 2 + first))
            return +total

    return g


cos_root = root_series(lambda u: mp.cos(mp.sqrt(u)), 0)
sinc_root = root_series(lambda u: mp.sin(mp.sqrt(u)) / mp.sqrt(u), 1)


def stretched(f, by):
    """f(by u)"""
    by = mp.mpf(by)
    return lambda u, m: by**m * f(by * u, m)


def polynomial(n):
    """u^n"""
    return lambda u, m: mp.ff(n, m) * u ** (n - m) if n >= m else mp.mpf(0)


def gauss(u, m):
    return (-1) ** m * mp.exp(-u)


D = "SqDist(x,y)"
N = "Norm2(x-y)"
FUNCTIONS = {
    "matern_1_2": (f"Matern({D},0.5)", matern(0.5)),
    "matern_3_2": (f"Matern({D},1.5)", matern(1.5)),
    "matern_5_2": (f"Matern({D},2.5)", matern(2.5)),
    "matern_7_2": (f"Matern({D},3.5)", matern(3.5)),
    "matern_21_2": (f"Matern({D},10.5)", matern(10.5)),
    "matern_41_2": (f"Matern({D},20.5)", matern(20.5)),
    "matern_1": (f"Matern({D},1)", matern(1)),
    "matern_2": (f"Matern({D},2)", matern(2)),
    "matern_0.8": (f"Matern({D},0.8)", matern("0.8")),
    "matern_3.3": (f"Matern({D},3.3)", matern("3.3")),
    "matern_0.05": (f"Matern({D},0.05)", matern("0.05")),
    "matern_36": (f"Matern({D},36)", matern(36)),
    "matern_50": (f"Matern({D},50)", matern(50)),
    "matern_half": (f"MaternHalf({D},2)", matern_half(2)),
    "wendland_0": (f"Wendland({D},0)", wendland(0)),
    "wendland_1": (f"Wendland({D},1)", wendland(1)),
    "wendland_2": (f"Wendland({D},2)", wendland(2)),
    "wendland_3": (f"Wendland({D},3)", wendland(3)),
    # φ_{3,1}(0) is 1/20.
    "wendland_integral": (f"WendlandIntegral({D},3,1)", scaled(wendland(1), mp.mpf(1) / 20)),
    "rational_quadratic": (f"RationalQuadratic({D},1.5)", rational_quadratic(1.5)),
    "thin_plate_1": (f"ThinPlate({D},1)", scaled(pow_log(1, 1), mp.mpf(1) / 2)),
    "thin_plate_2": (f"ThinPlate({D},2)", scaled(pow_log(2, 1), mp.mpf(1) / 2)),
    "radial_power_0.3": (f"RadialPower({D},0.3)", pow_log("0.3", 0)),
    "radial_power_1": (f"RadialPower({D},1)", pow_log(1, 0)),
    "radial_power_1.5": (f"RadialPower({D},1.5)", pow_log(1.5, 0)),
    "pow_log": (f"PowLog({D},2.5,1)", pow_log(2.5, 1)),
    "cos_sqrt": (f"CosSqrt({D})", cos_root),
    "sinc_sqrt": (f"SincSqrt({D})", sinc_root),
    "norm2_squared": (f"Square({N})", polynomial(1)),
    "norm2_times_itself": (f"{N}*{N}", polynomial(1)),
    "norm2_fourth": (f"Pow({N},4)", polynomial(2)),
    "norm2_multiple": (f"Square(3*{N}/2)", scaled(polynomial(1), mp.mpf(9) / 4)),
    "abs_squared": ("Sum(Square(Abs(x-y)))", polynomial(1)),
    "abs_abs": ("(Abs(x-y)|Abs(x-y))", polynomial(1)),
    "norm2_gauss": (f"Exp(-Square({N}))", gauss),
    "norm2_cos": (f"Cos({N})", cos_root),
    "norm2_cos_multiple": (f"Cos(-2*{N})", stretched(cos_root, 4)),
    "norm2_sinxdivx": (f"SinXDivX({N})", sinc_root),
    "norm2_sinc": (f"Sinc({N})", stretched(sinc_root, mp.pi**2)),
    "norm2_cosh": (f"Cosh({N})", stretched(cos_root, -1)),
}
# Distances: none, tiny, small, to both sides of 1, moderate, and where exponentials underflow.
LENGTHS = {"float64": [0, 2.0**-30, 1e-3, 0.4, 0.875, 1.5, 20, 2000], "float32": [0, 2.0**-16, 1e-2, 0.4, 0.875, 1.5, 9, 300]}
GROWING = ("norm2_cosh",)


def quantities(f, d, v, b):
    """Value, gradient times b, Hessian times v, Laplacian, third derivative, all times b."""
    u = mp.fdot(d, d)
    f0, f1, f2, f3 = [f(u, m) for m in range(4)]
    if u == 0:
        f2 = f3 = mp.mpf(0)
    dv, vv = mp.fdot(d, v), mp.fdot(v, v)
    return {
        "value": [f0],
        "grad": [b * 2 * f1 * dk for dk in d],
        "hessian": [b * (2 * f1 * vk + 4 * f2 * dv * dk) for dk, vk in zip(d, v)],
        "laplacian": [2 * len(d) * f1 + 4 * f2 * u],
        "third": [b * (4 * f2 * (2 * dv * vk + vv * dk) + 8 * f3 * dv * dv * dk) for dk, vk in zip(d, v)],
    }


def radial(book):
    y = np.array([[0.25, -0.5]])
    direction = np.array([0.8, -0.6])
    for dtype, lengths in LENGTHS.items():
        x = single(y + np.outer(lengths, direction)) if dtype == "float32" else y + np.outer(lengths, direction)
        v = single(np.stack([np.cos(np.arange(len(lengths))), np.sin(1 + np.arange(len(lengths)))], -1))
        b = single(0.5 + 0.125 * np.arange(len(lengths)))[:, None]
        for name, (f, exact) in FUNCTIONS.items():
            rows = [k for k, l in enumerate(lengths) if not (name in GROWING and l > 10)]
            formulas = {
                "value": (f, []),
                "grad": (f"Grad({f},x,b)", [b]),
                "hessian": (f"Diff(Grad({f},x,b),x,v)", [b, v]),
                "laplacian": (f"Laplacian({f},x)", []),
                "third": (f"Diff(Diff(Grad({f},x,b),x,v),x,v)", [b, v]),
            }
            exactly = lambda a: [mp.mpf(float(c)) for c in a]
            want = [quantities(exact, exactly(x[k] - y[0]), exactly(v[k]), mp.mpf(float(b[k, 0]))) for k in rows]
            for quantity, (formula, more) in formulas.items():
                if dtype == "float32" and quantity in ("grad", "hessian"):
                    continue
                aliases = ["x=Vi(2)", "y=Vj(2)"] + ["b=Vi(1)", "v=Vi(2)"][: len(more)]
                out = np.array([[float(c) for c in w[quantity]] for w in want])
                limit = np.finfo(dtype).max
                assert np.isfinite(out).all() and np.abs(out).max() < limit, (name, quantity)
                book.case(
                    f"radial/{name}/{quantity}" + ("" if dtype == "float64" else "/f32"),
                    formula,
                    aliases,
                    [x[rows], y] + [a[rows] for a in more],
                    dtype=dtype,
                    expected=out,
                    # The Laplacian of a small order is a twentieth of its two terms.
                    rtol=3e-4 if (name, quantity, dtype) == ("matern_0.05", "laplacian", "float32") else None,
                    check=False,
                    tags=["radial"],
                )


def extended_gamma(book):
    """Values and derivatives in both arguments, by Bessel functions, over 20^a; where infinite, 0."""
    b = np.array([0, 2.0**-40, 0.01, 0.5, 3, 40, 2500])[:, None]
    a = np.array([-2.5, -1, 0, 0.3, 1, 2.75, 12])[:, None]

    def exact(b, a, k):
        b, a = mp.mpf(float(b)), mp.mpf(float(a))
        if b == 0:
            return mp.diff(lambda t: mp.gamma(t) / 20**t, a, k) if a > 0 else mp.mpf(0)
        f = lambda t: 2 * b ** (t / 2) * mp.besselk(t, 2 * mp.sqrt(b)) / mp.mpf(20) ** t
        return mp.diff(f, a, k) if k else f(a)

    table = lambda k, shift=0: np.array([[float(exact(bi, aj - shift, k)) for aj in a[:, 0]] for bi in b[:, 0]])
    one = np.ones_like(b)
    # Columns are summed with weights that keep them of one size.
    w = 1 / np.abs(table(0)).max(0)[:, None]
    sums = lambda t: t @ w
    args = [b, a, w]
    aliases = ["b=Vi(1)", "a=Vj(1)", "w=Vj(1)"]
    given = dict(check=False, tags=["radial"])
    book.case("radial/extended_gamma/value", "ExtendedGamma(b,a,0)*w", aliases, args, expected=sums(table(0)), **given)
    book.case("radial/extended_gamma/log", "ExtendedGamma(b,a,1)*w", aliases, args, expected=sums(table(1)), **given)
    book.case("radial/extended_gamma/order", "Diff(ExtendedGamma(b,a,0)*w,a,w)", aliases, args, expected=table(1) @ (w * w), **given)
    book.case("radial/extended_gamma/slope", "Diff(ExtendedGamma(b,a,0)*w,b,e)", aliases + ["e=Vi(1)"], args + [one], expected=sums(-table(0, 1)) / 20, **given)


def order_of_matern(book):
    """The Matérn kernel of an order that is an argument, and its derivative in the order."""
    x, y, nu = single(np.linspace(-1.5, 2.5, 9))[:, None], np.array([[0.5]]), np.array([1.25])
    f = lambda r, n: matern_at(r, n)

    def matern_at(r, n):
        if r == 0:
            return mp.mpf(1)
        s = mp.sqrt(2 * n) * r
        return 2 ** (1 - n) / mp.gamma(n) * s**n * mp.besselk(n, s)

    r = [abs(mp.mpf(float(c)) - mp.mpf(0.5)) for c in x[:, 0]]
    value = np.array([[float(f(q, mp.mpf(1.25)))] for q in r])
    slope = np.array([[float(mp.diff(lambda n: f(q, n), mp.mpf(1.25)))] for q in r])
    aliases = ["x=Vi(1)", "y=Vj(1)", "n=Pm(1)"]
    given = dict(check=False, tags=["radial"])
    book.case("radial/matern_order/value", f"Matern({D},n)", aliases, [x, y, nu], expected=value, **given)
    e = np.ones((9, 1))
    book.case("radial/matern_order/grad", f"Grad(Matern({D},n),n,e)", aliases + ["e=Vi(1)"], [x, y, nu, e], expected=slope, **given)


def add(book):
    radial(book)
    extended_gamma(book)
    order_of_matern(book)

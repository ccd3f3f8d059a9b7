"""The witness set: ten formulas that go through every layer.

Expected values come from direct dense formulas in this file (derivatives by
hand), and are compared with the dense evaluator (forward-mode duals).
"""

import itertools
import math

import numpy as np
from scipy.special import logsumexp

from cases import Data, random, single
from dual import LD, ld


def vjp(wrt, cotangent="e"):
    return {"kind": "vjp", "wrt": wrt, "with": cotangent}


def jvp(wrt, direction="u"):
    return {"kind": "jvp", "wrt": wrt, "with": direction}


def gaussian(x, y, b, g):
    """r_ij = x_i - y_j, k_ij = exp(-g |r_ij|^2) and the sum over j of k_ij b_j."""
    r = x[:, None] - y[None]
    k = np.exp(-g * (r * r).sum(-1))
    return r, k, k @ b


def gaussian_family(book, group, d, db, m, n, scale, wrt, tags):
    D = Data(f"witness/{group}", m, n)
    aliases = [f"x=Vi({d})", f"y=Vj({d})", f"b=Vj({db})", "g=Pm(1)"]
    x, y, b = [D.rows(a, s) for a, s in zip(aliases, (scale, scale, 1))]
    g = np.array([0.75]) if d == 3 else single([0.5 / d / scale**2])
    e, ux = D.rows(f"e=Vi({db})"), D.rows(f"u=Vi({d})")
    X, Y, B, G, E, U = map(ld, (x, y, b, g, e, ux))
    r, k, out = gaussian(X, Y, B, G[0])
    eb = k * (E @ B.T)  # k_ij <e_i, b_j>
    add = lambda what, expected, steps=None, extra=None, check=False: book.case(
        f"witness/{group}/{what}",
        "Exp(-SqDist(x,y)*g)*b",
        aliases,
        [x, y, b, g],
        derive_steps=steps,
        extra=extra,
        expected=expected,
        check=check,
        tags=["witness", *tags],
    )
    full = None if d <= 50 else False
    add("value", out, check=None)
    force = 2 * G[0] * np.einsum("ij,ijd->ijd", eb, r)
    exact = {"x": -force.sum(1), "y": force.sum(0), "b": k.T @ E, "g": -(eb * (r * r).sum(-1)).sum()[None]}
    for v in wrt:
        add(f"vjp_{v}", exact[v], [vjp(v)], {"e": e}, check=full)
    add("jvp_x", (-2 * G[0] * k * np.einsum("ijd,id->ij", r, U)) @ B, [jvp("x")], {"u": ux}, check=full)
    return D, aliases, (x, y, b, g, e, ux), (r, k, eb)


def gaussian_large(book):
    """D = 4096: value, gradient and Hessian-vector product in x."""
    d, m, n = 4096, 5, 7
    rng = random("witness/gaussian_d4096")
    sixteenths = lambda *s: rng.integers(-16, 17, s) / 16.0  # few bits: small files
    x, y, w = sixteenths(m, d), sixteenths(n, d), sixteenths(m, d)
    b, e, g = single(rng.standard_normal((n, 1))), single(rng.standard_normal((m, 1))), np.array([2.0**-12])
    X, Y, B, E, W, G = map(ld, (x, y, b, e, w, g))
    r, k, out = gaussian(X, Y, B, G[0])
    c = k * (E @ B.T)
    rw = np.einsum("ijd,id->ij", r, W)
    gradient = -2 * G[0] * np.einsum("ij,ijd->id", c, r)
    hessian = 4 * G[0] ** 2 * np.einsum("ij,ij,ijd->id", c, rw, r) - 2 * G[0] * c.sum(1)[:, None] * W

    # Second method: the gradient against differences of <out, e> along w, the
    # Hessian-vector product against differences of the gradient along w.
    h = LD(2) ** -6

    def differences(f):
        points = [(4, 5), (-1, 5), (4, 105), (-1, 280)]
        return sum(LD(p) / q * (f(X + s * h * W) - f(X - s * h * W)) / h for s, (p, q) in enumerate(points, 1))

    def first(x):
        r, k, _ = gaussian(x, Y, B, G[0])
        return -2 * G[0] * np.einsum("ij,ijd->id", k * (E @ B.T), r)

    value_gap = abs(differences(lambda x: (gaussian(x, Y, B, G[0])[2] * E).sum()) / (gradient * W).sum() - 1)
    hessian_gap = np.abs(differences(first) - hessian).max() / np.abs(hessian).max()
    assert value_gap < 1e-13 and hessian_gap < 1e-13, (value_gap, hessian_gap)
    aliases = [f"x=Vi({d})", f"y=Vj({d})", "b=Vj(1)", "g=Pm(1)"]
    for what, steps, extra, expected in [
        ("value", None, {}, out),
        ("vjp_x", [vjp("x")], {"e": e}, gradient),
        ("hvp_x", [vjp("x"), vjp("x", "w")], {"e": e, "w": w}, hessian),
    ]:
        book.case(
            f"witness/gaussian_d4096/{what}",
            "Exp(-SqDist(x,y)*g)*b",
            aliases,
            [x, y, b, g],
            derive_steps=steps,
            extra=extra,
            expected=np.asarray(expected),
            check=False,
            tags=["witness", "large"],
            note="x, y, w are multiples of 1/16",
        )


def logsumexp_family(book):
    """Log-sum-exp of -|x_i - y_j|^2, plain and weighted, to second order."""
    for kind in ("plain", "weighted"):
        D = Data(f"witness/logsumexp_{kind}", 19, 23)
        aliases = ["x=Vi(3)", "y=Vj(3)"] + (["v=Vj(1)"] if kind == "weighted" else [])
        x, y = D.rows(aliases[0]), D.rows(aliases[1])
        args = [x, y]
        e, wx, wy, u = D.rows("e=Vi(1)"), D.rows("w=Vi(3)"), D.rows("w=Vj(3)"), D.rows("u=Vi(3)")
        X, Y, E, WX, WY, U = map(ld, (x, y, e, wx, wy, u))
        V = np.ones(D.n, LD)
        if kind == "weighted":
            args.append(D.rows("v=Vj(1)", positive=True))
            V = ld(args[2])[:, 0]
        r = X[:, None] - Y[None]
        f = -(r * r).sum(-1)
        out = logsumexp(f, axis=1, b=V[None])[:, None]
        p = V * np.exp(f - out)  # the softmax weights, rows sum to one
        gx = -2 * E * np.einsum("ij,ijd->id", p, r)
        gy = 2 * np.einsum("ij,ijd->jd", E * p, r)

        # d p_ij = p_ij (df_ij - sum_l p_il df_il), with df = -2 <r, dr>.
        def second(dx, dy):
            dr = dx[:, None] - dy[None]
            df = -2 * (r * dr).sum(-1)
            dp = p * (df - (p * df).sum(1, keepdims=True))
            both = dp[..., None] * r + p[..., None] * dr
            return -2 * E * both.sum(1), 2 * (E[:, None] * both).sum(0)

        zx, zy = np.zeros_like(X), np.zeros_like(Y)
        xx, xy = second(WX, zy)[0], second(WX, zy)[1]
        yy, yx = second(zx, WY)[1], second(zx, WY)[0]
        extra_x, extra_y = {"e": e, "w": wx}, {"e": e, "w": wy}
        table = [
            ("value", None, {}, out),
            ("vjp_x", [vjp("x")], {"e": e}, gx),
            ("vjp_y", [vjp("y")], {"e": e}, gy),
            ("jvp_x", [jvp("x")], {"u": u}, (p * -2 * (r * U[:, None]).sum(-1)).sum(1)[:, None]),
            ("hessian_xx", [vjp("x"), vjp("x", "w")], extra_x, xx),
            ("hessian_xy", [vjp("x"), vjp("y", "w")], extra_x, xy),
            ("hessian_yy", [vjp("y"), vjp("y", "w")], extra_y, yy),
            ("hessian_yx", [vjp("y"), vjp("x", "w")], extra_y, yx),
        ]
        if kind == "weighted":
            table.append(("vjp_v", [vjp("v")], {"e": e}, ((E * p).sum(0) / V)[:, None]))
        for what, steps, extra, expected in table:
            book.case(
                f"witness/logsumexp_{kind}/{what}",
                "-SqDist(x,y)",
                aliases,
                args,
                op="LogSumExp",
                formula2="v" if kind == "weighted" else None,
                derive_steps=steps,
                extra=extra,
                expected=expected,
                check=None,
                tags=["witness"],
            )


def nearest(book):
    """ArgKMin and KMin of squared distances by full sorting."""
    D = Data("witness/kmin", 17, 150)
    x, y = D.rows("x=Vi(3)"), D.rows("y=Vj(3)")
    d2 = ((ld(x)[:, None] - ld(y)[None]) ** 2).sum(-1)
    order = np.argsort(d2, axis=1, kind="stable")
    gap = np.diff(np.sort(d2, axis=1), axis=1).min()
    assert gap > 1e-7, gap  # far above rounding in float64
    for k in (10, 100):
        index = order[:, :k]
        value = np.take_along_axis(d2, index, 1)
        for op, expected in [("ArgKMin", index), ("KMin", value), ("KMin_ArgKMin", (value, index))]:
            book.case(
                f"witness/{op.lower()}_{k}",
                "SqDist(x,y)",
                ["x=Vi(3)", "y=Vj(3)"],
                [x, y],
                op=op,
                opt_arg=k,
                expected=expected,
                check=None,
                tags=["witness"],
            )
    # Gradient through the selected entries: 2 (x_i - y_j) for each of them.
    e = single(D.rng.standard_normal((17, 10)))
    sel, E = order[:, :10], ld(e)
    r = ld(x)[:, None] - ld(y)[sel]
    gy = np.zeros_like(ld(y))
    np.add.at(gy, sel, -2 * E[..., None] * r)
    for v, expected in [("x", (2 * E[..., None] * r).sum(1)), ("y", gy)]:
        book.case(
            f"witness/kmin_10/vjp_{v}",
            "SqDist(x,y)",
            ["x=Vi(3)", "y=Vj(3)"],
            [x, y],
            op="KMin",
            opt_arg=10,
            derive_steps=[vjp(v)],
            extra={"e": e},
            expected=expected,
            check=None,
            tags=["witness"],
        )


def accumulation(book):
    """Long float32 sums: compensated (Kahan) and accumulated in float64.

    b repeats a table of 997 values of 24 significant bits, which keeps the
    files small; the running sum makes every addition round differently. The
    tolerances are the error bounds of the two methods, plus one rounding of
    the result to float32: Kahan's |error| <= 2 u sum|b| (Higham, Accuracy and
    Stability of Numerical Algorithms, section 4.3), and u |sum|.
    """
    n, u = 100_000, 2.0**-24
    rng = random("witness/accumulation")
    table = rng.uniform(0.5, 1.5, (997, 2)).astype(np.float32)
    positive = table[np.arange(n) % 997]
    signed = positive.copy()
    signed[n // 2 :] *= np.float32(-0.99)  # rises to 50,000 and falls back to 500
    for what, b in [("positive", positive), ("signed", signed)]:
        exact = np.array([[math.fsum(map(float, b[:, c])) for c in range(2)]])
        size = np.array([[math.fsum(map(abs, map(float, b[:, c]))) for c in range(2)]])
        plain = b.astype(np.float32).cumsum(axis=0, dtype=np.float32)[-1]
        for scheme, field, bound in [
            ("kahan", {"sum_scheme": "kahan_scheme"}, 2 * u * size + u * abs(exact)),
            ("acc_f64", {"dtype_acc": "float64"}, n * 2.0**-53 * size + u * abs(exact)),
        ]:
            rtol = 1.1 * float((bound / abs(exact)).max())
            # A plain float32 sum must miss the tolerance, or the case proves nothing.
            missed = abs(plain - exact) / abs(exact)
            assert (missed > 2 * rtol).all(), (what, scheme, missed, rtol)
            book.case(
                f"witness/sum_{scheme}_{what}",
                "b",
                ["b=Vj(2)"],
                [b],
                expected=exact,
                check=False,
                dtype="float32",
                rtol=rtol,
                tags=["witness", "accumulation"],
                note=f"a plain float32 sum is off by {float(missed.min()):.1e} relative",
                **field,
            )


def gather(book):
    """Values A[x_i, y_j] of a parameter table, through a flat index."""
    D = Data("witness/gather", 17, 23)
    rows, cols = 7, 5
    x = D.rng.integers(0, rows, (17, 1)).astype(float)
    y = D.rng.integers(0, cols, (23, 1)).astype(float)
    b, e, table = D.rows("b=Vj(2)"), D.rows("e=Vi(2)"), single(D.rng.standard_normal(rows * cols))
    xi, yj = x[:, 0].astype(int), y[:, 0].astype(int)
    flat = xi[:, None] * cols + yj[None]
    picked = ld(table)[flat]
    B, E = ld(b), ld(e)
    gt = np.zeros(rows * cols, LD)
    np.add.at(gt, flat, E @ B.T)
    u = single(D.rng.standard_normal(rows * cols))
    aliases = [f"A=Pm({rows * cols})", "x=Vi(1)", "y=Vj(1)", "b=Vj(2)"]
    for what, steps, extra, expected in [
        ("value", None, {}, picked @ B),
        ("vjp_A", [vjp("A")], {"e": e}, gt),
        ("vjp_b", [vjp("b")], {"e": e}, picked.T @ E),
        ("jvp_A", [jvp("A")], {"u": u}, ld(u)[flat] @ B),
    ]:
        book.case(
            f"witness/gather/{what}",
            "Gather(A,x*5+y)*b",
            aliases,
            [table, x, y, b],
            derive_steps=steps,
            extra=extra,
            expected=expected,
            check=None,
            tags=["witness", "gather"],
            note="A is a 7 x 5 table in row-major order; row from i, column from j",
        )
    for op, axis in [("Min", 1), ("Max", 0)]:
        w = picked if axis == 1 else picked.T
        value = (w.min(1) if op == "Min" else w.max(1))[:, None]
        book.case(
            f"witness/gather/{op.lower()}",
            "Gather(A,x*5+y)",
            aliases[:3],
            [table, x, y],
            op=op,
            axis=axis,
            expected=value,
            check=None,
            tags=["witness", "gather"],
        )


def soft_dtw_pair(x, y, gamma):
    """Value of soft-DTW and gradients in x, y and gamma.

    Forward recursion and backward alignment matrix of Cuturi and Blondel
    (2017), algorithms 1 and 2. The value is the minimum over distributions of
    paths of <p, cost> - gamma H(p); so its derivative in gamma is -H(p), and
    value = <A, cost> - gamma H with the expected alignment A, which gives
    d/dgamma = (value - <A, cost>) / gamma.
    """
    n, m = len(x), len(y)
    cost = (x[:, None] - y[None]) ** 2
    r = np.full((n + 2, m + 2), np.inf, LD)
    r[0, 0] = 0
    for i, j in itertools.product(range(1, n + 1), range(1, m + 1)):
        prev = np.array([r[i - 1, j], r[i, j - 1], r[i - 1, j - 1]])
        low = prev.min()
        r[i, j] = cost[i - 1, j - 1] + low - gamma * np.log(np.exp((low - prev) / gamma).sum())
    value = r[n, m]
    d = np.zeros((n + 2, m + 2), LD)
    d[1 : n + 1, 1 : m + 1] = cost
    r[n + 1, :] = r[:, m + 1] = -np.inf
    r[n + 1, m + 1] = value
    align = np.zeros((n + 2, m + 2), LD)
    align[n + 1, m + 1] = 1
    for i, j in itertools.product(range(n, 0, -1), range(m, 0, -1)):
        weight = lambda s, t: np.exp((r[s, t] - r[i, j] - d[s, t]) / gamma)
        align[i, j] = (
            align[i + 1, j] * weight(i + 1, j)
            + align[i, j + 1] * weight(i, j + 1)
            + align[i + 1, j + 1] * weight(i + 1, j + 1)
        )
    a = align[1 : n + 1, 1 : m + 1]
    diff = 2 * a * (x[:, None] - y[None])
    return value, diff.sum(1), -diff.sum(0), (value - (a * cost).sum()) / gamma


def soft_dtw(book):
    m, n, t = 4, 5, 20
    rng = random("witness/softdtw")
    series = lambda k: single(np.cumsum(rng.standard_normal((k, t)), axis=1) / 3)
    x, y, b, g = series(m), series(n), single(rng.uniform(0.5, 1.5, (n, 1))), np.array([0.5])
    e, ux = single(rng.standard_normal((m, 1))), single(rng.standard_normal((m, t)))
    X, Y, B, E, G, U = map(ld, (x, y, b, e, g, ux))
    value, gx, gy, gg = np.zeros((m, n), LD), np.zeros((m, n, t), LD), np.zeros((m, n, t), LD), np.zeros((m, n), LD)
    for i, j in itertools.product(range(m), range(n)):
        value[i, j], gx[i, j], gy[i, j], gg[i, j] = soft_dtw_pair(X[i], Y[j], G[0])
    c = E * B.T  # cotangent of pair (i, j)
    aliases = [f"x=Vi({t})", f"y=Vj({t})", "g=Pm(1)", "b=Vj(1)"]
    for what, steps, extra, expected in [
        ("value", None, {}, value @ B),
        ("vjp_x", [vjp("x")], {"e": e}, np.einsum("ij,ijt->it", c, gx)),
        ("vjp_y", [vjp("y")], {"e": e}, np.einsum("ij,ijt->jt", c, gy)),
        ("vjp_g", [vjp("g")], {"e": e}, (c * gg).sum()[None]),
        ("vjp_b", [vjp("b")], {"e": e}, value.T @ E),
        ("jvp_x", [jvp("x")], {"u": ux}, np.einsum("ijt,it->ij", gx, U) @ B),
    ]:
        book.case(
            f"witness/softdtw_20/{what}",
            "SoftDTW_SqDist(x,y,g)*b",
            aliases,
            [x, y, g, b],
            derive_steps=steps,
            extra=extra,
            expected=expected,
            check=None,
            tags=["witness"],
        )
    book.case(
        "witness/softdtw_20/hvp_x",
        "SoftDTW_SqDist(x,y,g)*b",
        aliases,
        [x, y, g, b],
        derive_steps=[vjp("x"), vjp("x", "w")],
        extra={"e": e, "w": ux},
        tags=["witness"],
    )


def half(book):
    """Data stored as f16, arithmetic in f32."""
    D = Data("witness/half", 29, 37)
    f16 = lambda a: a.astype(np.float16).astype(np.float64)
    x, y, b = f16(D.rows("x=Vi(3)")), f16(D.rows("y=Vj(3)")), f16(D.rows("b=Vj(2)"))
    e, g = f16(D.rows("e=Vi(2)")), np.array([0.75])
    X, Y, B, E = map(ld, (x, y, b, e))
    r, k, out = gaussian(X, Y, B, LD(0.75))
    gx = -2 * LD(0.75) * np.einsum("ij,ijd->id", k * (E @ B.T), r)
    aliases = ["x=Vi(3)", "y=Vj(3)", "b=Vj(2)", "g=Pm(1)"]
    note = "inputs are exact in f16 and lie in the file as f32; rtol covers f32 arithmetic and one rounding of the result to f16"
    # Half-precision results: 2^-11 relative, and f32 arithmetic below that.
    common = dict(dtype="float16", rtol=6e-4, check=False, tags=["witness", "f16"], note=note)
    book.case("witness/half/value", "Exp(-SqDist(x,y)*g)*b", aliases, [x, y, b, g], expected=out, **common)
    book.case(
        "witness/half/vjp_x",
        "Exp(-SqDist(x,y)*g)*b",
        aliases,
        [x, y, b, g],
        derive_steps=[vjp("x")],
        extra={"e": e},
        expected=gx,
        **common,
    )
    lse = logsumexp(-(r * r).sum(-1), axis=1)[:, None]
    book.case("witness/half/logsumexp", "-SqDist(x,y)", aliases[:2], [x, y], op="LogSumExp", expected=lse, **common)
    d2 = (r * r).sum(-1)
    order = np.argsort(d2, axis=1, kind="stable")
    sorted_ = np.sort(d2, axis=1)[:, :5]
    assert (np.diff(sorted_, axis=1) > 1e-6 * sorted_[:, 1:]).all()
    book.case(
        "witness/half/argkmin_4",
        "SqDist(x,y)",
        aliases[:2],
        [x, y],
        op="ArgKMin",
        opt_arg=4,
        expected=order[:, :4],
        **common,
    )


# Output blocks with rows outside (rows 8..11 and, for j, columns 20..22) and
# one block whose list is empty.
BLOCKS_I = [[0, 5], [5, 8], [12, 15], [15, 17]]
SLICES_I = [2, 3, 3, 5]
REDUCED_J = [[0, 4], [9, 13], [4, 9], [0, 7], [18, 23]]
BLOCKS_J = [[0, 9], [9, 13], [13, 20]]
SLICES_J = [2, 3, 4]
REDUCED_I = [[0, 3], [10, 17], [5, 8], [15, 17]]
RANGES = [BLOCKS_I, SLICES_I, REDUCED_J, BLOCKS_J, SLICES_J, REDUCED_I]


def visited(axis):
    """Lists of the columns visited by each output row, by hand."""
    blocks, slices, reduced, size = (
        (BLOCKS_I, SLICES_I, REDUCED_J, 17) if axis == 1 else (BLOCKS_J, SLICES_J, REDUCED_I, 23)
    )
    lists = [[] for _ in range(size)]
    start = 0
    for (a, b), end in zip(blocks, slices):
        columns = [c for lo, hi in reduced[start:end] for c in range(lo, hi)]
        for row in range(a, b):
            lists[row] = sorted(columns)
        start = end
    return lists


def batch_ranges(book):
    """Batches that share one list of ranges; rows outside get the neutral element."""
    for batch in [(2,), (2, 3)]:
        name = "x".join(map(str, batch))
        D = Data(f"witness/batch_{name}", 17, 23)
        x, y = D.rows("x=Vi(3)", batch=batch), D.rows("y=Vj(3)", batch=batch)
        b = {1: D.rows("b=Vj(2)", batch=batch), 0: D.rows("b=Vi(2)", batch=batch)}
        r = ld(x)[..., :, None, :] - ld(y)[..., None, :, :]
        d2 = (r * r).sum(-1)
        for axis in (1, 0):
            lists = visited(axis)
            table = d2 if axis == 1 else np.swapaxes(d2, -1, -2)
            side = ["x=Vi(3)", "y=Vj(3)", "b=Vj(2)" if axis == 1 else "b=Vi(2)"]
            total = np.zeros(batch + (len(lists), 2), LD)
            low = np.full(batch + (len(lists), 1), np.inf, LD)
            arg = np.full(batch + (len(lists), 1), -1, np.int64)
            for row, cols in enumerate(lists):
                if cols:
                    d = table[..., row, cols]
                    total[..., row, :] = (np.exp(-d)[..., None] * ld(b[axis])[..., cols, :]).sum(-2)
                    low[..., row, 0] = d.min(-1)
                    arg[..., row, 0] = np.array(cols)[d.argmin(-1)]
            shape = list(batch)
            common = dict(axis=axis, ranges=RANGES, check=None, tags=["witness", "batch", "ranges"])
            book.case(
                f"witness/batch_{name}/sum_ax{axis}",
                "Exp(-SqDist(x,y))*b",
                side,
                [x, y, b[axis]],
                batch={"x": shape, "y": shape, "b": shape},
                expected=total,
                **common,
            )
            common["batch"] = {"x": shape, "y": shape}
            xy = ("SqDist(x,y)", side[:2], [x, y])
            book.case(f"witness/batch_{name}/argmin_ax{axis}", *xy, op="ArgMin", expected=arg, **common)
            book.case(f"witness/batch_{name}/min_argmin_ax{axis}", *xy, op="Min_ArgMin", expected=(low, arg), **common)
        # Gradient in x of the sum over j.
        e = single(D.rng.standard_normal(batch + (17, 2)))
        keep = np.zeros((17, 23))
        for row, cols in enumerate(visited(1)):
            keep[row, cols] = 1
        c = ld(keep) * np.exp(-d2) * np.einsum("...id,...jd->...ij", ld(e), ld(b[1]))
        book.case(
            f"witness/batch_{name}/vjp_x",
            "Exp(-SqDist(x,y))*b",
            ["x=Vi(3)", "y=Vj(3)", "b=Vj(2)"],
            [x, y, b[1]],
            batch={"x": shape, "y": shape, "b": shape},
            ranges=RANGES,
            derive_steps=[vjp("x")],
            extra={"e": e},
            expected=-2 * np.einsum("...ij,...ijd->...id", c, r),
            check=None,
            tags=["witness", "batch", "ranges"],
        )


def add(book):
    for db in (1, 2):
        gaussian_family(book, f"gaussian_d3_b{db}", 3, db, 37, 50, 0.8, ["x", "y", "b", "g"], [])
    gaussian_family(book, "gaussian_d50", 50, 1, 17, 23, 1.0, ["x", "y"], [])
    gaussian_large(book)
    logsumexp_family(book)
    nearest(book)
    accumulation(book)
    gather(book)
    soft_dtw(book)
    half(book)
    batch_ranges(book)

"""Cases for every reduction: values, ties, ranges, edge values, derivatives,
summation schemes and kernel systems."""

import math

import numpy as np

from cases import Data, single
from dual import LD, ld
from witness import RANGES, jvp, vjp, visited

inf, nan = math.inf, math.nan
XY = ["x=Vi(3)", "y=Vj(3)"]
M, N = 17, 23
K = 4
ARGS = {
    "Sum": {},
    "Min": {},
    "Max": {},
    "ArgMin": {},
    "ArgMax": {},
    "Min_ArgMin": {},
    "Max_ArgMax": {},
    "KMin": {"opt_arg": K},
    "ArgKMin": {"opt_arg": K},
    "KMin_ArgKMin": {"opt_arg": K},
}
WEIGHTED = ["LogSumExp", "SumSoftMaxWeight", "SoftMax", "Max_SumShiftExpWeight"]


def weight(axis, dim):
    return f"w={'Vj' if axis == 1 else 'Vi'}({dim})"


def values(book):
    for axis in (1, 0):
        for op, opts in ARGS.items():
            for kind, f in [("scalar", "SqDist(x,y)"), ("vector", "x*y")]:
                D = Data("reductions", M, N)
                book.case(
                    f"red/{op}_{kind}_ax{axis}",
                    f,
                    XY,
                    [D.rows(a) for a in XY],
                    op=op,
                    axis=axis,
                    tags=[f"red:{op}"],
                    **opts,
                )
        D = Data("red/lse", M, N)
        x, y = D.rows("x=Vi(3)"), D.rows("y=Vj(3)")
        for op in ["LogSumExp", "Max_SumShiftExp"]:
            for label, f in [
                ("", "-SqDist(x,y)"),
                ("_large", "1000-100*SqDist(x,y)"),
                ("_low", "-1000-100*SqDist(x,y)"),
            ]:
                book.case(
                    f"red/{op}{label}_ax{axis}",
                    f,
                    XY,
                    [x, y],
                    op=op,
                    axis=axis,
                    tags=[f"red:{op}"],
                    **({"note": "raw pair (maximum m, sum of exp(f - m))"} if op != "LogSumExp" else {}),
                )
        for op in WEIGHTED:
            for dim in [1, 2]:
                positive = op == "LogSumExp"
                if op == "LogSumExp" and dim == 2:
                    continue
                a = weight(axis, dim)
                w = D.rows(a, positive=positive)
                book.case(
                    f"red/{op}_w{dim}_ax{axis}",
                    "-SqDist(x,y)",
                    XY + [a],
                    [x, y, w],
                    op=op,
                    axis=axis,
                    formula2="w",
                    tags=[f"red:{op}"],
                )
        a = weight(axis, 2)
        book.case(
            f"red/LogSumExp_w2_ax{axis}",
            "-SqDist(x,y)",
            XY + [a],
            [x, y, D.rows(a, positive=True)],
            op="LogSumExp",
            axis=axis,
            formula2="w*w+SqDist(x,y)",
            tags=["red:LogSumExp"],
            note="weight of two components that depends on i and j",
        )
        D = Data("reductions", M, N)
        for formula in ["x*y", "Log(x*y)"]:
            book.case(
                f"red/Zero_{formula}_ax{axis}",
                formula,
                XY,
                [D.rows(a) for a in XY],
                op="Zero",
                axis=axis,
                expected=np.zeros((M if axis == 1 else N, 3)),
                check=False,
                tags=["red:Zero"],
                note="0 whatever the formula is",
            )
    # Sizes around lane and tile widths.
    for m, n in [(1, 1), (1, 40), (40, 1), (3, 7), (8, 8), (64, 65), (5, 600)]:
        D = Data(f"size/{m}x{n}", m, n)
        for axis, b in [(1, "b=Vj(2)"), (0, "b=Vi(2)")]:
            book.case(
                f"size/sum_{m}x{n}_ax{axis}",
                "Exp(-SqDist(x,y))*b",
                XY + [b],
                [D.rows(a) for a in XY + [b]],
                axis=axis,
                tags=["size"],
            )
    D = Data("size/min", 7, 600)
    book.case("size/min_argmin_7x600", "SqDist(x,y)", XY, [D.rows(a) for a in XY], op="Min_ArgMin", tags=["size"])
    book.case("size/lse_7x600", "-5*SqDist(x,y)", XY, [D.rows(a) for a in XY], op="LogSumExp", tags=["size"])


def ties(book):
    """Small integers, so that many pairs tie: the lowest index wins."""
    D = Data("ties", M, N)
    x, y = (D.rng.integers(0, 4, (k, 2)).astype(float) for k in (M, N))
    for axis in (1, 0):
        for op, opts in ARGS.items():
            if op != "Sum":
                book.case(
                    f"ties/{op}_ax{axis}",
                    "Abs(x-y)",
                    ["x=Vi(2)", "y=Vj(2)"],
                    [x, y],
                    op=op,
                    axis=axis,
                    tags=[f"red:{op}", "ties"],
                    **opts,
                )
    x, y = D.rows("x=Vi(3)"), D.rows("y=Vj(3)")[:5]
    for op in ["KMin", "ArgKMin", "KMin_ArgKMin"]:
        book.case(
            f"ties/{op}_K_above_N",
            "SqDist(x,y)",
            XY,
            [x, y],
            op=op,
            opt_arg=8,
            tags=[f"red:{op}"],
            note="missing entries are (+inf, -1)",
        )
        book.case(f"ties/{op}_K_equals_N", "SqDist(x,y)", XY, [x, y], op=op, opt_arg=5, tags=[f"red:{op}"])
        book.case(f"ties/{op}_K1", "SqDist(x,y)", XY, [x, y], op=op, opt_arg=1, tags=[f"red:{op}"])


def ranged(book):
    """Block ranges with an empty list and rows outside every range."""
    lists = {axis: visited(axis) for axis in (0, 1)}
    for axis in (1, 0):
        for op, opts in ARGS.items():
            D = Data("reductions", M, N)
            v = book.case(
                f"ranges/{op}_ax{axis}",
                "SqDist(x,y)",
                XY,
                [D.rows(a) for a in XY],
                op=op,
                axis=axis,
                ranges=RANGES,
                tags=[f"red:{op}", "ranges"],
                **opts,
            )
            empty = [k for k, l in enumerate(lists[axis]) if not l]
            neutral = {
                "Sum": 0,
                "Min": inf,
                "Min_ArgMin": inf,
                "KMin": inf,
                "KMin_ArgKMin": inf,
                "Max": -inf,
                "Max_ArgMax": -inf,
            }.get(op, -1)
            assert empty and (v[empty] == neutral).all(), (op, axis)
        D = Data("ranges/lse", M, N)
        a = weight(axis, 2)
        x, y, w = D.rows("x=Vi(3)"), D.rows("y=Vj(3)"), D.rows(a, positive=True)
        v = book.case(
            f"ranges/LogSumExp_ax{axis}",
            "-SqDist(x,y)",
            XY,
            [x, y],
            op="LogSumExp",
            axis=axis,
            ranges=RANGES,
            tags=["ranges"],
        )
        assert (v[[k for k, l in enumerate(lists[axis]) if not l]] == -inf).all()
        v = book.case(
            f"ranges/SumSoftMaxWeight_ax{axis}",
            "-SqDist(x,y)",
            XY + [a],
            [x, y, w],
            op="SumSoftMaxWeight",
            formula2="w",
            axis=axis,
            ranges=RANGES,
            tags=["ranges"],
            note="an empty list gives 0",
        )
        assert (v[[k for k, l in enumerate(lists[axis]) if not l]] == 0).all()
    D = Data("ranges/grad", M, N)
    x, y, b, e = D.rows("x=Vi(3)"), D.rows("y=Vj(3)"), D.rows("b=Vj(2)"), D.rows("e=Vi(2)")
    for v in "xyb":
        book.case(
            f"ranges/Sum/vjp_{v}",
            "Exp(-SqDist(x,y))*b",
            XY + ["b=Vj(2)"],
            [x, y, b],
            ranges=RANGES,
            derive_steps=[vjp(v)],
            extra={"e": e},
            tags=["ranges", "vjp"],
            note="the reduction over i uses the same pairs as the forward one",
        )
    # Cotangent zero in the rows that have no pair: there the gradient is 0.
    e1 = D.rows("e=Vi(1)")
    e1[[k for k, l in enumerate(lists[1]) if not l]] = 0
    book.case(
        "ranges/LogSumExp/vjp_y",
        "-SqDist(x,y)",
        XY,
        [x, y],
        op="LogSumExp",
        ranges=[r for r in RANGES],
        derive_steps=[vjp("y")],
        extra={"e": e1},
        expected=lse_gradient_y(x, y, e1, lists[1]),
        check=False,
        tags=["ranges", "vjp"],
    )


def lse_gradient_y(x, y, e, lists):
    g = np.zeros_like(ld(y))
    for i, cols in enumerate(lists):
        if cols:
            r = ld(x)[i] - ld(y)[cols]
            f = -(r * r).sum(-1)
            p = np.exp(f - f.max())
            g[cols] += 2 * e[i, 0] * (p / p.sum())[:, None] * r
    return g


def edges(book):
    col = lambda *v: np.array(v, float)[:, None]
    x1 = ["x=Vi(1)", "y=Vj(1)"]
    rows = col(1, 2, -1)

    def case(name, f, x, y, op, want, opts=None, **kw):
        book.case(
            f"red_edge/{name}",
            f,
            kw.pop("aliases", x1),
            kw.pop("args", [x, y]),
            op=op,
            expected=want,
            check=None,
            tags=["edge", f"red:{op}"],
            **(opts or {}),
            **kw,
        )

    n3 = col(nan, 4, 2, nan, 3)
    k3 = {"opt_arg": 3}
    case("nan_Sum", "x*y", rows, n3, "Sum", col(nan, nan, nan))
    case("nan_Min", "x+y", rows, n3, "Min", col(3, 4, 1))
    case("nan_Max", "x+y", rows, n3, "Max", col(5, 6, 3))
    case("nan_ArgMin", "x+y", rows, n3, "ArgMin", np.array([[2], [2], [2]]))
    case("nan_ArgMax", "x+y", rows, n3, "ArgMax", np.array([[1], [1], [1]]))
    case("nan_Min_ArgMin", "x+y", rows, n3, "Min_ArgMin", (col(3, 4, 1), np.array([[2]] * 3)))
    case(
        "nan_KMin_ArgKMin",
        "x+y",
        rows,
        n3,
        "KMin_ArgKMin",
        (np.array([[3, 4, 5], [4, 5, 6], [1, 2, 3.0]]), np.array([[2, 4, 1]] * 3)),
        k3,
    )
    case(
        "nan_KMin_short",
        "x+y",
        rows,
        col(nan, 1, nan),
        "KMin_ArgKMin",
        (np.array([[2, inf, inf], [3, inf, inf], [0, inf, inf]]), np.array([[1, -1, -1]] * 3)),
        k3,
        note="NaN is no candidate: padding",
    )
    all_nan = col(nan, nan)
    case("allnan_Min_ArgMin", "x+y", rows, all_nan, "Min_ArgMin", (col(inf, inf, inf), col(-1, -1, -1).astype(int)))
    case("allnan_Max_ArgMax", "x+y", rows, all_nan, "Max_ArgMax", (col(-inf, -inf, -inf), col(-1, -1, -1).astype(int)))
    case("allnan_ArgKMin", "x+y", rows, all_nan, "ArgKMin", np.full((3, 3), -1), k3)
    high = col(inf, inf)
    case(
        "inf_Min_ArgMin",
        "x+y",
        rows,
        high,
        "Min_ArgMin",
        (col(inf, inf, inf), col(0, 0, 0).astype(int)),
        note="+inf is a candidate",
    )
    case("inf_ArgKMin", "x+y", rows, high, "ArgKMin", np.array([[0, 1, -1]] * 3), k3)
    case(
        "inf_KMin_mixed",
        "x+y",
        rows,
        col(inf, 2, nan, inf, 1),
        "KMin_ArgKMin",
        (np.array([[2, 3, inf], [3, 4, inf], [0, 1, inf]]), np.array([[4, 1, 0]] * 3)),
        k3,
    )
    case(
        "inf_Max_ArgMax", "x+y", rows, col(-inf, -inf), "Max_ArgMax", (col(-inf, -inf, -inf), col(0, 0, 0).astype(int))
    )
    case("inf_Sum", "x*y", rows, col(inf, 1), "Sum", col(inf, inf, -inf))
    case("inf_minus_inf", "x*y", rows, col(inf, -inf), "Sum", col(nan, nan, nan))
    case(
        "lse_begins_with_neginf",
        "x+y",
        col(0, 1),
        col(-inf, -inf, 0, 0),
        "LogSumExp",
        col(math.log(2), 1 + math.log(2)),
    )
    case("lse_all_neginf", "x+y", col(0, 1), col(-inf, -inf), "LogSumExp", col(-inf, -inf))
    case("lse_nan", "x+y", col(0, 1), col(0, nan, 0), "LogSumExp", col(nan, nan))
    lse = dict(op="LogSumExp", check=False, tags=["edge", "red:LogSumExp"])
    book.case("red_edge/lse_posinf", "x+y", x1, [col(0, 1), col(0, inf, 0)], expected=col(inf, inf), **lse)
    weighted = dict(aliases=x1 + ["w=Vj(1)"], opts={"formula2": "w"})
    y3 = col(0, 0, 0)
    case(
        "lse_weight_negative_sum",
        "x+y",
        None,
        None,
        "LogSumExp",
        col(nan),
        args=[col(0), y3, col(1, -3, 1)],
        **weighted,
    )
    case(
        "lse_weight_some_negative",
        "x+y",
        None,
        None,
        "LogSumExp",
        col(math.log(2)),
        args=[col(0), y3, col(4, -3, 1)],
        **weighted,
    )
    case("lse_weight_zero_sum", "x+y", None, None, "LogSumExp", col(-inf), args=[col(0), y3, col(2, -3, 1)], **weighted)
    case(
        "lse_weight_zero_at_max",
        "x+y",
        None,
        None,
        "LogSumExp",
        col(5 + math.log(2)),
        args=[col(0), col(5, 300, 5), col(1, 0, 1)],
        **weighted,
    )
    case(
        "softmax_dominated",
        "x+y",
        None,
        None,
        "SumSoftMaxWeight",
        col(7),
        args=[col(0), col(0, 800, -800), col(1, 7, 3)],
        **weighted,
    )
    # No pair at all.
    empty = np.zeros((0, 3))
    x = Data("empty").rows("x=Vi(3)")[:4]
    for op, want in [
        ("Sum", np.zeros((4, 1))),
        ("Min", np.full((4, 1), inf)),
        ("Max", np.full((4, 1), -inf)),
        ("ArgMin", np.full((4, 1), -1)),
        ("LogSumExp", np.full((4, 1), -inf)),
        ("Max_SumShiftExp", np.full((4, 2), [-inf, 0])),
        ("Zero", np.zeros((4, 1))),
        ("KMin", np.full((4, 2), inf)),
        ("ArgKMin", np.full((4, 2), -1)),
    ]:
        book.case(
            f"red_edge/empty_{op}",
            "-SqDist(x,y)",
            XY,
            [x, empty],
            op=op,
            opt_arg=2 if "K" in op else None,
            expected=want,
            check=False,
            tags=["edge", "empty"],
            note="N = 0: the neutral element",
        )
    book.case(
        "red_edge/no_rows",
        "-SqDist(x,y)",
        XY,
        [empty, x],
        expected=np.zeros((0, 1)),
        check=False,
        tags=["edge", "empty"],
        note="M = 0: no output row",
    )


def shifted(book):
    """Derivatives of the raw pair (m, S), m being held fixed: only the cotangents of S count."""
    D = Data("shifted", 11, 13)
    x, y, v = D.rows("x=Vi(3)"), D.rows("y=Vj(3)"), D.rows("v=Vj(2)")
    lx, ly = ld(x)[:, None], ld(y)[None]
    f = -((lx - ly) ** 2).sum(-1)
    e = np.exp(f - f.max(1, keepdims=True))
    for op, aliases, args, g in [
        ("Max_SumShiftExp", XY, [x, y], D.rows("e=Vi(2)")),
        ("Max_SumShiftExpWeight", [*XY, "v=Vj(2)"], [x, y, v], D.rows("e=Vi(3)")),
    ]:
        weights = ld(v) if len(args) == 3 else np.ones((13, 1), LD)
        pair = (e[:, :, None] * weights * ld(g)[:, None, 1:]).sum(-1)
        slope = -2 * pair[..., None] * (lx - ly)
        wanted = {"x": slope.sum(1), "y": -slope.sum(0)}
        if len(args) == 3:
            wanted["v"] = np.einsum("ij,ik->jk", e, ld(g)[:, 1:])
        for name, want in wanted.items():
            book.case(
                f"derive/{op}/vjp_{name}",
                "-SqDist(x,y)",
                aliases,
                args,
                op=op,
                formula2="v" if len(args) == 3 else None,
                derive_steps=[vjp(name)],
                extra={"e": g},
                expected=want,
                tags=[f"red:{op}", "derive"],
            )


def derivatives(book):
    """Reductions as functions of whole arrays: gradients, directional and second derivatives."""
    D = Data("derive", 11, 13)
    xyb = XY + ["b=Vj(2)", "g=Pm(1)"]
    x, y, b, g = D.rows("x=Vi(3)"), D.rows("y=Vj(3)"), D.rows("b=Vj(2)"), np.array([0.75])
    ux, uy, ub, ug = D.rows("u=Vi(3)"), D.rows("u=Vj(3)"), D.rows("u=Vj(2)"), np.array([1.25])
    along = {"x": ux, "y": uy, "b": ub, "g": ug}
    f = "Exp(-g*SqDist(x,y))*b"

    def family(label, f, aliases, args, op, e, wrt, second, axis=1, mixed=True, **opts):
        common = dict(op=op, axis=axis, tags=[f"red:{op}", "derive"], **opts)
        for v in wrt:
            book.case(f"derive/{label}/vjp_{v}", f, aliases, args, derive_steps=[vjp(v)], extra={"e": e}, **common)
        v = wrt[0]
        book.case(f"derive/{label}/jvp_{v}", f, aliases, args, derive_steps=[jvp(v)], extra={"u": along[v]}, **common)
        for v, w in second:
            book.case(
                f"derive/{label}/second_{v}{w}",
                f,
                aliases,
                args,
                derive_steps=[vjp(v), vjp(w, "w")],
                extra={"e": e, "w": along[v]},
                **common,
            )
        v = wrt[-1]
        if mixed:
            book.case(
                f"derive/{label}/jvp_of_vjp_{v}",
                f,
                aliases,
                args,
                derive_steps=[vjp(v), jvp(v)],
                extra={"e": e, "u": along[v]},
                **common,
            )

    family("Sum", f, xyb, [x, y, b, g], "Sum", D.rows("e=Vi(2)"), "xybg", ["xx", "xy", "xb", "bx", "gx", "gg", "yg"])
    family(
        "Sum_ax0",
        "Exp(-g*SqDist(x,y))*x",
        XY + ["g=Pm(1)"],
        [x, y, g],
        "Sum",
        D.rows("e=Vj(3)"),
        "xyg",
        ["xx", "yx"],
        axis=0,
    )
    along = {"x": ux, "y": uy}
    e1 = D.rows("e=Vi(1)")
    family("LogSumExp", "-SqDist(x,y)", XY, [x, y], "LogSumExp", e1, "xy", ["xx", "xy", "yy"])
    family("LogSumExp_ax0", "-Norm2(x-y)", XY, [x, y], "LogSumExp", D.rows("e=Vj(1)"), "yx", ["xy"], axis=0)
    w = D.rows("v=Vj(2)", positive=True)
    along["v"] = D.rows("u=Vj(2)")
    family(
        "LogSumExp_weighted",
        "-SqDist(x,y)",
        XY + ["v=Vj(2)"],
        [x, y, w],
        "LogSumExp",
        D.rows("e=Vi(2)"),
        "xyv",
        ["xv", "vv"],
        formula2="v",
    )
    family(
        "SumSoftMaxWeight",
        "-SqDist(x,y)",
        XY + ["v=Vj(2)"],
        [x, y, D.rows("v=Vj(2)")],
        "SumSoftMaxWeight",
        D.rows("e=Vi(2)"),
        "xyv",
        ["xy", "vx"],
        formula2="v",
    )
    family("Min", "SqDist(x,y)", XY, [x, y], "Min", e1, "xy", ["xy"])
    family("Max", "x*y", XY, [x, y], "Max", D.rows("e=Vi(3)"), "xy", ["xy"])
    family("Min_ax0", "SqDist(x,y)", XY, [x, y], "Min", D.rows("e=Vj(1)"), "yx", ["yx"], axis=0)
    e4 = single(D.rng.standard_normal((11, 4)))
    D = Data("derive/kmin", 11, 13)
    x, y = D.rows("x=Vi(3)"), D.rows("y=Vj(3)")
    family("KMin", "SqDist(x,y)", XY, [x, y], "KMin", e4, "xy", ["xy", "yy"], opt_arg=4)
    family(
        "KMin_vector",
        "x*y",
        XY,
        [x, y],
        "KMin",
        single(D.rng.standard_normal((11, 4, 3))),
        "xy",
        [],
        opt_arg=4,
        mixed=False,
    )
    # Ties: all of the gradient goes to the first index.
    tx, ty = np.array([[0.0], [1.0]]), np.array([[1.0], [-1.0], [1.0]])
    e2 = np.array([[2.0], [3.0]])
    for op, f, want in [
        ("Min", "Square(x-y)", [[2 * 2 * 1 + 0], [0], [0]]),
        ("Max", "-Square(x-y)", [[-4 + 0], [0], [0]]),
    ]:
        book.case(
            f"derive/{op}_ties/vjp_y",
            f,
            ["x=Vi(1)", "y=Vj(1)"],
            [tx, ty],
            op=op,
            derive_steps=[vjp("y")],
            extra={"e": e2},
            expected=np.array(want, float),
            check=None,
            tags=["derive", "ties"],
        )
    # Parameters and batches.
    D = Data("derive/batch", 7, 9)
    batch = (2, 3)
    x, y = D.rows("x=Vi(2)", batch=batch), D.rows("y=Vj(2)", batch=batch)
    e = single(D.rng.standard_normal(batch + (7, 1)))
    sizes = {"x": [2, 3], "y": [2, 3]}
    xy = ["x=Vi(2)", "y=Vj(2)"]
    for v in "xy":
        book.case(
            f"derive/batch/Sum_vjp_{v}",
            "Exp(-SqDist(x,y))",
            xy,
            [x, y],
            batch=sizes,
            derive_steps=[vjp(v)],
            extra={"e": e},
            tags=["batch", "derive"],
        )
        book.case(
            f"derive/batch/LogSumExp_vjp_{v}",
            "-SqDist(x,y)",
            xy,
            [x, y],
            op="LogSumExp",
            batch=sizes,
            derive_steps=[vjp(v)],
            extra={"e": e},
            tags=["batch", "derive"],
        )
    pm = xy + ["g=Pm(1)"]
    gb = D.rng.uniform(0.5, 1.5, batch + (1,))
    book.case(
        "derive/batch/parameter",
        "Exp(-g*SqDist(x,y))",
        pm,
        [x, y, gb],
        batch=sizes | {"g": [2, 3]},
        derive_steps=[vjp("g")],
        extra={"e": e},
        tags=["batch", "derive"],
    )
    # Batch dimensions of length 1 and missing ones broadcast; their gradient is summed.
    y1 = D.rows("y=Vj(2)", batch=(1, 3))
    g0 = np.array([0.75])
    some = {"x": [2, 3], "y": [1, 3], "g": []}
    book.case("batch/broadcast_Sum", "Exp(-g*SqDist(x,y))", pm, [x, y1, g0], batch=some, tags=["batch"])
    book.case(
        "batch/broadcast_ArgMin",
        "SqDist(x,y)",
        xy,
        [x, y1],
        op="ArgMin",
        batch={"x": [2, 3], "y": [1, 3]},
        tags=["batch"],
    )
    for v in "yg":
        book.case(
            f"batch/broadcast_vjp_{v}",
            "Exp(-g*SqDist(x,y))",
            pm,
            [x, y1, g0],
            batch=some,
            derive_steps=[vjp(v)],
            extra={"e": e},
            tags=["batch", "derive"],
        )
    for op, opts in [("Min", {}), ("LogSumExp", {}), ("KMin_ArgKMin", {"opt_arg": 3}), ("Max_ArgMax", {})]:
        for axis in (0, 1):
            book.case(
                f"batch/{op}_ax{axis}",
                "-SqDist(x,y)",
                xy,
                [x, y],
                op=op,
                axis=axis,
                batch=sizes,
                tags=["batch"],
                **opts,
            )


def precision(book):
    """Single precision, half precision and the summation schemes."""
    D = Data("f32", 37, 41)
    x, y, b, e = D.rows("x=Vi(3)"), D.rows("y=Vj(3)"), D.rows("b=Vj(3)"), D.rows("e=Vi(3)")
    f32 = dict(dtype="float32", tags=["f32"])
    book.case("f32/gaussian", "Exp(-SqDist(x,y))*b", XY + ["b=Vj(3)"], [x, y, b], **f32)
    book.case(
        "f32/gaussian_grad",
        "Grad(Exp(-SqDist(x,y))*b,x,e)",
        XY + ["b=Vj(3)", "e=Vi(3)"],
        [x, y, b, e],
        rtol=2e-4,
        **f32,
    )
    book.case("f32/laplace", "Exp(-Norm2(x-y))*b", XY + ["b=Vj(3)"], [x, y, b], rtol=2e-4, **f32)
    book.case("f32/LogSumExp", "-SqDist(x,y)", XY, [x, y], op="LogSumExp", **f32)
    book.case("f32/Min", "Norm2(x-y)", XY, [x, y], op="Min", rtol=1e-6, **f32)
    book.case("f32/KMin", "SqDist(x,y)", XY, [x, y], op="KMin", opt_arg=5, rtol=1e-6, **f32)
    far = D.rows("x=Vi(3)")
    d2 = ((ld(far)[:, None] - ld(y)[None]) ** 2).sum(-1)
    s = np.sort(d2, axis=1)[:, :5]
    assert (np.diff(s, axis=1) > 4e-6 * s[:, 1:]).all(), "order is not safe in float32"
    book.case("f32/ArgKMin", "SqDist(x,y)", XY, [far, y], op="ArgKMin", opt_arg=4, **f32)
    D = Data("schemes", 3, 3000)
    x, y, b = D.rows("x=Vi(3)"), D.rows("y=Vj(3)"), D.rows("b=Vj(1)", positive=True)
    u = 2.0**-24
    for scheme in ["direct_sum", "block_sum", "kahan_scheme"]:
        rtol = 3e-5 if scheme != "kahan_scheme" else 2e-6
        book.case(
            f"scheme/{scheme}",
            "Exp(-SqDist(x,y))*b",
            XY + ["b=Vj(1)"],
            [x, y, b],
            sum_scheme=scheme,
            dtype="float32",
            rtol=rtol,
            tags=["scheme"],
        )
        book.case(
            f"scheme/{scheme}_lse",
            "-SqDist(x,y)",
            XY,
            [x, y],
            op="LogSumExp",
            sum_scheme=scheme,
            dtype="float32",
            rtol=rtol,
            tags=["scheme"],
        )
    # All sums inside reductions are compensated: the softmax mean of weights that cancel.
    w = single(D.rng.standard_normal((3000, 1)) + 3)
    book.case(
        "scheme/kahan_softmax",
        "-SqDist(x,y)",
        XY + ["w=Vj(1)"],
        [x, y, w],
        op="SumSoftMaxWeight",
        formula2="w",
        sum_scheme="kahan_scheme",
        dtype="float32",
        rtol=2e-6,
        tags=["scheme"],
    )
    # Accumulation in f64 of float32 terms that are exact: only the final rounding remains.
    ints = D.rng.integers(1, 4096, (3000, 1)).astype(float)
    xi = D.rng.integers(1, 4096, (3, 1)).astype(float)
    book.case(
        "scheme/acc_f64_exact",
        "x*y",
        ["x=Vi(1)", "y=Vj(1)"],
        [xi, ints],
        dtype="float32",
        dtype_acc="float64",
        rtol=1.01 * u,
        tags=["scheme"],
        note="products below 2^24 are exact in float32, so the sum may be wrong by its final rounding only",
    )


def solves(book):
    """(alpha I + K) a = c by dense factorisation with refinement in extended precision."""

    def solve(A, c):
        a = ld(np.linalg.solve(A.astype(float), c.astype(float)))
        for _ in range(3):
            a = a + np.linalg.solve(A.astype(float), (c - A @ a).astype(float))
        assert np.abs(A @ a - c).max() < 1e-16 * max(1, np.abs(a).max())
        return a

    kernels = {
        "gauss": ("Exp(-g*SqDist(x,y))", lambda d: np.exp(-LD(1.5) * d)),
        "laplace": ("Exp(-g*Norm2(x-y))", lambda d: np.exp(-LD(1.5) * np.sqrt(d))),
        "cauchy": ("Inv(1+g*SqDist(x,y))", lambda d: 1 / (1 + LD(1.5) * d)),
    }
    for name, (f, k) in kernels.items():
        for axis, dim in [(1, 1), (0, 2)]:
            D = Data(f"solve/{name}", 40, 40)
            x = D.rows("x=Vi(3)")
            c = D.rows(f"c=Vi({dim})")
            d2 = ((ld(x)[:, None] - ld(x)[None]) ** 2).sum(-1)
            alpha = 0.1
            a = solve(LD(alpha) * np.eye(40) + k(d2), ld(c))
            side = "Vj" if axis == 1 else "Vi"
            book.case(
                f"solve/{name}_ax{axis}",
                f"{f}*b",
                ["x=Vi(3)", "y=Vj(3)", f"b={side}({dim})", "g=Pm(1)"],
                [x, x, c, np.array([1.5])],
                axis=axis,
                expected=a,
                check=False,
                kind="solve",
                varinvalias="b",
                alpha=alpha,
                eps=1e-10,
                rtol=1e-7,
                tags=["solve"],
                note="the slot of b holds the right-hand side; eps is relative to it",
            )


def add(book):
    for part in (values, ties, ranged, edges, shifted, derivatives, precision, solves):
        part(book)

"""Computations of several functions: values by SciPy and NumPy, derivatives by differences in 50 digits.

`python computations.py` writes tests/golden/computations.json: (K + alpha I)^-1 b, the solve of a solve, and a
sum of a solution; the range, weighted mean and variance, and the mean of the three nearest; with
gradients and products with Hessians. The matrices of K lose their symmetry where x or y moves
alone, so that differences are of general dense solves.
"""

import json
from pathlib import Path

import mpmath as mp
import numpy as np
import scipy.linalg

mp.mp.dps = 50
OUT = Path(__file__).parents[2] / "tests/golden/computations.json"
N, D = 6, 2
SOLVE = {"kind": "solve", "formula": "Exp(-s * SqDist(x, y)) * b", "unknown": "b", "ridge": "alpha"}
SOLVE["aliases"] = ["s = Pm(1)", "x = Vi(2)", "y = Vj(2)", "b = Vj(1)"]
INNER = {"kind": "solve", "formula": "c / (1 + SqDist(x, y))", "unknown": "c", "ridge": 0.5, "hole": "b"}
INNER["aliases"] = ["x = Vi(2)", "y = Vj(2)", "c = Vj(1)"]
SUM = {"kind": "sum", "formula": "Exp(-SqDist(z, y)) * a", "aliases": ["z = Vi(2)", "y = Vj(2)", "a = Vj(1)"]}


F = "Sin(x | y) + q * SqDist(x, y)"
FA = ["q = Pm(1)", "x = Vi(2)", "y = Vj(2)"]
ROW = {"kind": "sum", "aliases": ["u = Vi(1)", "v = Vi(1)", "w = Vj(1)"], "formula": "(u - v) * w"}
MAX = {"kind": "Max", "formula": F, "aliases": FA, "hole": "u"}
MIN = {"kind": "Min", "formula": F, "aliases": FA, "hole": "v"}
NEAR = {"kind": "sum", "aliases": ["n = Vi(3)", "w = Vj(1)"], "formula": "Sum(n) / 3 * w"}
KMIN = {"kind": "KMin", "k": 3, "formula": F, "aliases": FA, "hole": "n"}
MEAN = {"kind": "Mean", "formula": F, "weight": "Exp(-SqDist(x, y)) * w", "aliases": FA + ["w = Vj(1)"]}


def squares(x, y):
    return [[sum((a - b) ** 2 for a, b in zip(p, q)) for q in y] for p in x]


def gaussian(v):
    return [[mp.exp(-v["s"][0][0] * r) for r in row] for row in squares(v["x"], v["y"])]


def cauchy(v):
    return [[1 / (1 + r) for r in row] for row in squares(v["x"], v["y"])]


def dense(k, ridge, b):
    m = mp.matrix(k)
    for i in range(m.rows):
        m[i, i] += ridge
    return [[a] for a in mp.lu_solve(m, mp.matrix([row[0] for row in b]))]


def solve(v):
    return dense(gaussian(v), v["alpha"][0][0], v["b"])


def of_a_solve(v):
    return dense(gaussian(v), v["alpha"][0][0], dense(cauchy(v), mp.mpf(0.5), v["c"]))


def sum_of_a_solve(v):
    a = solve(v)
    return [[sum(mp.exp(-r) * w[0] for r, w in zip(row, a))] for row in squares(v["z"], v["y"])]


def formula(v):
    """F by rows."""
    dots = [[sum(a * b for a, b in zip(p, r)) for r in v["y"]] for p in v["x"]]
    pairs = zip(dots, squares(v["x"], v["y"]))
    return [[mp.sin(d) + v["q"][0][0] * r for d, r in zip(*rows)] for rows in pairs]


def total(v):
    return sum(row[0] for row in v["w"])


def value_range(v):
    return [[(max(row) - min(row)) * total(v)] for row in formula(v)]


def nearest(v):
    return [[sum(sorted(row)[:3]) / 3 * total(v)] for row in formula(v)]


def averages(v):
    """Of each row: values, their weights and their mean."""
    for f, squared in zip(formula(v), squares(v["x"], v["y"])):
        w = [mp.exp(-r) * b[0] for r, b in zip(squared, v["w"])]
        yield f, w, sum(a * b for a, b in zip(f, w)) / sum(w)


def mean(v):
    return [[m] for _, _, m in averages(v)]


def variance(v):
    return [[sum(b * (a - m) ** 2 for a, b in zip(f, w)) / sum(w)] for f, w, m in averages(v)]


def moved(v, along, h):
    """The variables, some of them moved."""
    return {
        n: [[a + h * b for a, b in zip(p, q)] for p, q in zip(rows, along[n])] if n in along else rows
        for n, rows in v.items()
    }


def paired(f, v, e):
    return sum(a * b for p, q in zip(f(v), e) for a, b in zip(p, q))


def slope(f, v, along):
    """The derivative of a number along a direction, by a difference of the fourth order."""
    h = mp.mpf(10) ** -8
    return (8 * (f(moved(v, along, h)) - f(moved(v, along, -h))) - f(moved(v, along, 2 * h)) + f(moved(v, along, -2 * h))) / (12 * h)


def units(rows):
    for i, row in enumerate(rows):
        for k in range(len(row)):
            yield [[mp.mpf((p, q) == (i, k)) for q in range(len(r))] for p, r in enumerate(rows)]


def gradient(f, v, name):
    entries = [slope(f, v, {name: u}) for u in units(v[name])]
    width = len(v[name][0])
    return [entries[k : k + width] for k in range(0, len(entries), width)]


def plain(rows):
    return [[float(a) for a in row] for row in rows]


def case(name, functions, f, names, rng):
    x = rng.uniform(-1, 1, (N, D))
    given = {
        "x": x,
        "y": x,
        "z": rng.uniform(-1, 1, (N, D)),
        "b": rng.uniform(-1, 1, (N, 1)),
        "c": rng.uniform(-1, 1, (N, 1)),
        "w": rng.uniform(0.5, 1.5, (N, 1)),
        "q": np.array([[0.4]]),
        "s": np.array([[0.9]]),
        "alpha": np.array([[0.7]]),
    }
    if "q" in names:
        given["y"] = rng.uniform(-1, 1, (N, D))
    given = {n: given[n] for n in names}
    v = {n: [[mp.mpf(float(a)) for a in row] for row in rows] for n, rows in given.items()}
    e = [[mp.mpf(float(a))] for a in rng.uniform(-1, 1, N)]
    value = f(v)
    if name == "solve":
        k = np.exp(-0.9 * ((x[:, None] - x[None]) ** 2).sum(-1)) + 0.7 * np.eye(N)
        direct = scipy.linalg.solve(k, given["b"], assume_a="pos")
        np.testing.assert_allclose(plain(value), direct, rtol=1e-12)
        value = direct
    if name == "variance":
        for (row, weights, _), (got,) in zip(averages(v), value):
            row, weights = np.array(row, float), np.array(weights, float)
            center = np.average(row, weights=weights)
            plain_variance = np.average((row - center) ** 2, weights=weights)
            np.testing.assert_allclose(float(got), plain_variance, rtol=1e-12)
    number = lambda w: paired(f, w, e)
    derivatives = []
    for n in names:
        derivatives.append({"steps": [["vjp", n]], "with": [plain(e)], "value": plain(gradient(number, v, n))})
        # Forward over reverse: the gradient in n along a direction of the first variable and of n.
        for other in sorted({n, "x"}):
            u = [[mp.mpf(float(a)) for a in row] for row in rng.uniform(-1, 1, np.shape(given[other]))]
            along = lambda w: slope(number, w, {other: u})
            product = {"steps": [["vjp", n], ["jvp", other]], "with": [plain(e), plain(u)]}
            derivatives.append({**product, "value": plain(gradient(along, v, n))})
    args = {n: rows.tolist() for n, rows in given.items()}
    return {"name": name, "functions": functions, "args": args, "value": plain(value), "derivatives": derivatives}


def main():
    rng = np.random.default_rng(10)
    cases = [
        case("solve", [SOLVE], solve, ["s", "x", "y", "b", "alpha"], rng),
        case("solve of a solve", [SOLVE, INNER], of_a_solve, ["s", "x", "y", "c", "alpha"], rng),
        case("sum of a solve", [SUM, {**SOLVE, "hole": "a"}], sum_of_a_solve, ["z", "y", "s", "x", "b", "alpha"], rng),
        case("range", [ROW, MAX, MIN], value_range, ["w", "q", "x", "y"], rng),
        case("mean of the three nearest", [NEAR, KMIN], nearest, ["w", "q", "x", "y"], rng),
        case("mean", [MEAN], mean, ["q", "x", "y", "w"], rng),
        case("variance", [{**MEAN, "kind": "Variance"}], variance, ["q", "x", "y", "w"], rng),
    ]
    OUT.write_text(json.dumps(cases) + "\n")
    print(f"{len(cases)} cases with {sum(len(c['derivatives']) for c in cases)} derivatives to {OUT}")


if __name__ == "__main__":
    main()

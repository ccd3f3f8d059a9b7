"""Dense evaluation of reductions, their ranges and their derivatives."""

import re

import numpy as np

from dual import LD, bcast, concat, directional, exp, ld, lift, log, primal, stack, total, where, wrap
from formula import Formula

# A name may have a default position (order of declaration).
ALIAS = re.compile(r"\s*(\w+)\s*=\s*(V[ij]|Pm)\((?:(\d+)\s*,\s*)?(\d+)\)\s*$")
CATEGORY = {"Vi": 0, "Vj": 1, "Pm": 2}


class Variable:
    def __init__(self, text, position):
        m = ALIAS.match(text)
        self.name, self.category = m[1], CATEGORY[m[2]]
        self.position = int(m[3]) if m[3] else position
        self.dim = int(m[4])

    def pairwise(self, a):
        """Raw array (..., rows, D) or (..., D) to (..., M, N, D)."""
        axis = {0: (-2,), 1: (-3,), 2: (-2, -3)}[self.category]
        return lift(lambda x: np.expand_dims(x, axis), a)


def ranges_mask(ranges, axis, m, n):
    """Pairs (i, j) that the ranges visit: bool (M, N)."""
    rows, slices, cols = ranges[:3] if axis == 1 else ranges[3:]
    mask = np.zeros((m, n) if axis == 1 else (n, m), bool)
    start = 0
    for (a, b), end in zip(rows, slices):
        for c, d in cols[start:end]:
            mask[a:b, c:d] = True
        start = end
    return mask if axis == 1 else mask.T


# -- reductions: f (..., rows, cols, D) with candidate mask (rows, cols) -------


def r_sum(f, mask, w, k):
    return total(where(mask, f, LD(0)), axis=-2)


def extremum(sense):
    def r(f, mask, w, k):
        p = primal(f)
        candidate = mask & ~np.isnan(p)
        worst = sense * np.inf
        key = np.where(candidate, sense * p, np.inf)
        # An entry at +inf is a candidate; a pair that is none must lose to it.
        index = first_of(key, candidate)
        some = candidate.any(axis=-2)
        picked = lift(lambda x: np.take_along_axis(x, index[..., None, :], axis=-2)[..., 0, :], f)
        return where(some, picked, LD(worst)), np.where(some, index, -1)

    return r


def first_of(key, candidate):
    order = np.lexsort((np.broadcast_to(~candidate, key.shape), key), axis=-2)
    # lexsort is stable: lowest index first among equal (key, candidate).
    return order[..., 0, :]


def kmin(f, mask, w, k):
    p = primal(f)
    candidate = np.broadcast_to(mask & ~np.isnan(p), p.shape)
    key = np.where(candidate, p, np.inf)
    order = np.lexsort((~candidate, key), axis=-2)[..., :k, :]
    ok = np.take_along_axis(candidate, order, axis=-2)
    picked = lift(lambda x: np.take_along_axis(x, order, axis=-2), f)
    value, index = where(ok, picked, LD(np.inf)), np.where(ok, order, -1)
    missing = k - index.shape[-2]
    if missing > 0:
        pad = lambda a, c: np.concatenate([a, np.full(a.shape[:-2] + (missing, a.shape[-1]), c, a.dtype)], -2)
        value = lift(lambda a: pad(a, np.inf if a is primal(value) else 0), value)
        index = pad(index, -1)
    if index.shape[-1] == 1:
        value, index = value[..., 0], index[..., 0]
    return value, index


def shifted_sum(f, mask, w):
    """Maximum m of f and sum of w exp(f - m); m is not differentiated."""
    p = np.where(mask, primal(f), -np.inf)
    m = p.max(axis=-2, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(m), m, LD(0))
    e = exp(f - shift)
    s = total(where(mask, e if w is None else e * w, LD(0)), axis=-2)
    return m[..., 0, :], shift[..., 0, :], s


def logsumexp(f, mask, w, k):
    m, shift, s = shifted_sum(f, mask, w)
    return shift + log(s)


def softmax(f, mask, w, k):
    _, _, s = shifted_sum(f, mask, w)
    _, _, t = shifted_sum(f, mask, None)
    empty = ~mask.any(axis=-2)
    return where(empty, LD(0), s / where(empty, LD(1), t))


def max_sumshiftexp(f, mask, w, k):
    m, _, s = shifted_sum(f, mask, w)
    return concat([wrap(m), s])


def value_of(r):
    return lambda *a: r(*a)[0]


def index_of(r):
    return lambda *a: r(*a)[1]


MIN, MAX = extremum(1), extremum(-1)
REDUCTIONS = {
    "Sum": r_sum,
    "Min": value_of(MIN),
    "Max": value_of(MAX),
    "ArgMin": index_of(MIN),
    "ArgMax": index_of(MAX),
    "Min_ArgMin": MIN,
    "Max_ArgMax": MAX,
    "KMin": value_of(kmin),
    "ArgKMin": index_of(kmin),
    "KMin_ArgKMin": kmin,
    "LogSumExp": logsumexp,
    "SumSoftMaxWeight": softmax,
    "SoftMax": softmax,
    "Max_SumShiftExp": max_sumshiftexp,
    "Max_SumShiftExpWeight": max_sumshiftexp,
    "Zero": lambda f, mask, w, k: total(f * 0, axis=-2),
}


class Reduction:
    """A reduction of a formula over one axis: a function of named raw arrays."""

    def __init__(self, formula, aliases, op="Sum", axis=1, opt_arg=None, formula2=None, ranges=None):
        self.vars = {v.name: v for v in (Variable(a, k) for k, a in enumerate(aliases))}
        by_position = {v.position: v.name for v in self.vars.values()}
        named = lambda pos, dim, cat: by_position[pos]
        self.formula = Formula(formula, named)
        self.weight = Formula(formula2, named) if formula2 else None
        self.op, self.axis, self.k, self.ranges = op, axis, opt_arg, ranges

    def sizes(self, env):
        m = n = 1
        for v in self.vars.values():
            if v.category == 0:
                m = env[v.name].shape[-2]
            elif v.category == 1:
                n = env[v.name].shape[-2]
        return m, n

    def value(self, env):
        m, n = self.sizes(env)
        pairs = {name: v.pairwise(env[name]) for name, v in self.vars.items()}
        pairs["i"] = ld(np.arange(m))[:, None, None]
        pairs["j"] = ld(np.arange(n))[None, :, None]

        def table(formula):
            f = formula(pairs)
            batch = np.broadcast_shapes(*[p.shape[:-3] for p in pairs.values()])
            f = bcast(f, np.broadcast_shapes(f.shape, batch + (m, n, f.shape[-1])))
            return f if self.axis == 1 else lift(lambda a: np.swapaxes(a, -3, -2), f)

        mask = np.ones((m, n), bool) if self.ranges is None else ranges_mask(self.ranges, self.axis, m, n)
        mask = mask if self.axis == 1 else mask.T
        w = table(self.weight) if self.weight else None
        with np.errstate(all="ignore"):
            return REDUCTIONS[self.op](table(self.formula), mask[..., None], w, self.k)

    def paired(self, env, cotangent):
        return total(self.value(env) * cotangent)


class Jvp:
    """Derivative of a function of named arrays along `direction` in `wrt`."""

    def __init__(self, inner, wrt, direction):
        self.inner, self.wrt, self.direction = inner, wrt, direction

    def value(self, env):
        f = lambda x: self.inner.value({**env, self.wrt: x})
        return directional(f, env[self.wrt], env[self.direction])

    def paired(self, env, cotangent):
        return total(self.value(env) * cotangent)


class Vjp:
    """Gradient of <inner, cotangent> with respect to `wrt`: same shape as it."""

    def __init__(self, inner, wrt, cotangent):
        self.inner, self.wrt, self.cotangent = inner, wrt, cotangent

    def paired(self, env, direction):
        f = lambda x: self.inner.paired({**env, self.wrt: x}, env[self.cotangent])
        return directional(f, env[self.wrt], direction)

    def value(self, env):
        shape = env[self.wrt].shape
        units = np.eye(int(np.prod(shape)), dtype=LD)
        if not units.size:
            return np.zeros(shape, LD)
        parts = stack([self.paired(env, u.reshape(shape)) for u in units])
        return lift(lambda a: a.reshape(shape), parts)


def derive(reduction, steps):
    """Applies steps {"kind": "vjp" | "jvp", "wrt": name, "with": name} in order."""
    for s in steps or []:
        reduction = {"vjp": Vjp, "jvp": Jvp}[s["kind"]](reduction, s["wrt"], s["with"])
    return reduction

"""Nested forward-mode dual numbers over numpy arrays of extended precision.

A dual number of tag t carries a value and one tangent. Tags nest: the tangent
of the highest tag is separated first, so that derivatives of derivatives do
not confuse their perturbations (Siskind and Pearlmutter, 2005). Values and
tangents of the lowest level are `np.longdouble` arrays.

`directional` is the only place where a derivative is taken. Under
`finite_differences()` it uses a nine-point central difference instead of
duals: a second method for every derivative of the golden cases.
"""

import contextlib
import itertools
import os

import numpy as np

# GOLDEN_FLOAT is for check_precision.py only.
LD = getattr(np, os.environ.get("GOLDEN_FLOAT", "longdouble"))
_tags = itertools.count(1)
_difference_step = None


def ld(a):
    return np.asarray(a, dtype=LD)


class Dual:
    __slots__ = ("v", "d", "tag")
    __array_ufunc__ = None

    def __init__(self, v, d, tag):
        self.v, self.d, self.tag = v, d, tag

    @property
    def shape(self):
        return self.v.shape

    def __add__(self, o):
        return add(self, o)

    __radd__ = __add__

    def __neg__(self):
        return lift(np.negative, self)

    def __sub__(self, o):
        return add(self, -wrap(o))

    def __rsub__(self, o):
        return add(wrap(o), -self)

    def __mul__(self, o):
        return mul(self, o)

    __rmul__ = __mul__

    def __truediv__(self, o):
        return mul(self, inv(wrap(o)))

    def __rtruediv__(self, o):
        return mul(wrap(o), inv(self))

    def __getitem__(self, key):
        return lift(lambda a: a[key], self)


def wrap(a):
    return a if isinstance(a, Dual) else ld(a)


def primal(a):
    while isinstance(a, Dual):
        a = a.v
    return a


def _tag(a):
    return a.tag if isinstance(a, Dual) else 0


def split(a, tag):
    """Value and tangent (None where it is zero) of `a` with respect to `tag`."""
    if _tag(a) == tag:
        return a.v, a.d
    return a, None


def bcast(a, shape):
    return lift(lambda x: np.broadcast_to(x, shape), a)


def lift(f, a):
    """Applies a function that is linear in `a`."""
    if isinstance(a, Dual):
        return Dual(lift(f, a.v), lift(f, a.d), a.tag)
    return f(a)


def lift_many(f, parts):
    """Applies a function that is linear in the list `parts` jointly."""
    tag = max(_tag(p) for p in parts)
    if tag == 0:
        return f(parts)
    vals, tans = [], []
    for p in parts:
        v, d = split(p, tag)
        vals.append(v)
        tans.append(d if d is not None else lift(np.zeros_like, primal(v)))
    return Dual(lift_many(f, vals), lift_many(f, tans), tag)


def add(a, b):
    a, b = wrap(a), wrap(b)
    tag = max(_tag(a), _tag(b))
    if tag == 0:
        return a + b
    (av, ad), (bv, bd) = split(a, tag), split(b, tag)
    v = add(av, bv)
    d = ad if bd is None else bd if ad is None else add(ad, bd)
    return Dual(v, bcast(d, v.shape), tag)


def mul(a, b):
    return bilinear(np.multiply, a, b)


def bilinear(f, a, b):
    """Applies a function that is linear in `a` and in `b`."""
    a, b = wrap(a), wrap(b)
    tag = max(_tag(a), _tag(b))
    if tag == 0:
        return f(a, b)
    (av, ad), (bv, bd) = split(a, tag), split(b, tag)
    parts = []
    if ad is not None:
        parts.append(bilinear(f, ad, bv))
    if bd is not None:
        parts.append(bilinear(f, av, bd))
    v = bilinear(f, av, bv)
    return Dual(v, bcast(parts[0] if len(parts) == 1 else add(*parts), v.shape), tag)


def unary(value, derivative):
    def f(a):
        a = wrap(a)
        if isinstance(a, Dual):
            return Dual(f(a.v), mul(derivative(a.v), a.d), a.tag)
        with np.errstate(all="ignore"):
            return value(a)

    return f


def where(mask, a, b):
    """Selects by a mask that is not differentiated."""
    a, b = wrap(a), wrap(b)
    tag = max(_tag(a), _tag(b))
    if tag == 0:
        return np.where(mask, a, b)
    (av, ad), (bv, bd) = split(a, tag), split(b, tag)
    zero = LD(0)
    v = where(mask, av, bv)
    d = where(mask, zero if ad is None else ad, zero if bd is None else bd)
    return Dual(v, bcast(d, v.shape), tag)


def const(f):
    """A function whose derivative is zero everywhere."""
    return lambda a: ld(f(primal(a)))


inv = unary(lambda x: 1 / x, lambda x: -mul(inv(x), inv(x)))
exp = unary(np.exp, lambda x: exp(x))
log = unary(np.log, lambda x: inv(x))
sin = unary(np.sin, lambda x: cos(x))
cos = unary(np.cos, lambda x: -sin(x))
tan = unary(np.tan, lambda x: 1 + tan(x) * tan(x))
sinh = unary(np.sinh, lambda x: cosh(x))
cosh = unary(np.cosh, lambda x: sinh(x))
tanh = unary(np.tanh, lambda x: inv(cosh(x)) * inv(cosh(x)))
expm1 = unary(np.expm1, lambda x: exp(x))
log1p = unary(np.log1p, lambda x: inv(1 + x))
atan = unary(np.arctan, lambda x: inv(1 + x * x))
asin = unary(np.arcsin, lambda x: rsqrt(1 - x * x))
acos = unary(np.arccos, lambda x: -rsqrt(1 - x * x))
# Rsqrt(0) = 0 by convention, hence Sqrt'(0) = 0 and Rsqrt'(0) = 0.
rsqrt = unary(
    lambda x: np.where(x == 0, LD(0), 1 / np.sqrt(x)),
    lambda x: LD(-0.5) * rsqrt(x) * rsqrt(x) * rsqrt(x),
)
sqrt = unary(np.sqrt, lambda x: LD(0.5) * rsqrt(x))
sign = const(np.sign)
step = const(lambda x: np.where(x < 0, 0, 1))
floor = const(np.floor)
absolute = unary(np.abs, sign)
relu = unary(lambda x: np.where(x < 0, LD(0), x), step)
xlogx = unary(lambda x: np.where(x == 0, LD(0), x * np.log(x)), lambda x: log(x) + 1)


def _sinc_derivative(x):
    # (x cos x - sin x) / x^2, with its limit 0 at 0.
    at0 = primal(x) == 0
    y = where(at0, LD(1), x)
    return where(at0, LD(0), (cos(y) - sin(y) / y) / y)


sinxdivx = unary(
    lambda x: np.where(x == 0, LD(1), np.sin(x) / np.where(x == 0, LD(1), x)),
    _sinc_derivative,
)


def powi(a, m):
    """Integer power by repeated multiplication."""
    if m < 0:
        return inv(powi(a, -m))
    r = bcast(LD(1), a.shape)
    for _ in range(m):
        r = r * a
    return r


def atan2(a, b):
    """atan2 with a zero gradient at the origin."""
    a, b = wrap(a), wrap(b)
    tag = max(_tag(a), _tag(b))
    if tag == 0:
        return np.arctan2(a, b)
    (av, ad), (bv, bd) = split(a, tag), split(b, tag)
    r2 = av * av + bv * bv
    origin = primal(r2) == 0
    r2 = where(origin, LD(1), r2)
    d = LD(0)
    if ad is not None:
        d = d + ad * where(origin, LD(0), bv / r2)
    if bd is not None:
        d = d - bd * where(origin, LD(0), av / r2)
    v = atan2(av, bv)
    return Dual(v, bcast(d, v.shape), tag)


def powf(a, b):
    return exp(b * log(a))


def total(a, axis=None, keepdims=False):
    return lift(lambda x: np.sum(x, axis=axis, keepdims=keepdims), wrap(a))


def concat(parts):
    """Concatenation along the last axis after broadcasting the others."""
    lead = np.broadcast_shapes(*[p.shape[:-1] for p in parts])
    parts = [bcast(p, lead + p.shape[-1:]) for p in parts]
    return lift_many(lambda ps: np.concatenate(ps, axis=-1), parts)


def stack(parts):
    """Stacks along a new last axis after broadcasting."""
    shape = np.broadcast_shapes(*[p.shape for p in parts])
    return lift_many(lambda ps: np.stack(ps, axis=-1), [bcast(p, shape) for p in parts])


def einsum(spec, a, b):
    return bilinear(lambda x, y: np.einsum(spec, x, y), a, b)


# Weights of the eighth-order central first difference at +-1, ..., +-4 steps.
_WEIGHTS = [LD(4) / 5, LD(-1) / 5, LD(4) / 105, LD(-1) / 280]


def directional(f, x, dx):
    """d/dt f(x + t dx) at t = 0."""
    if _difference_step is not None:
        h = LD(_difference_step)
        r = LD(0)
        for k, w in enumerate(_WEIGHTS, start=1):
            r = r + (f(x + k * h * dx) - f(x - k * h * dx)) * (w / h)
        return r
    tag = next(_tags)
    y = f(Dual(wrap(x), bcast(wrap(dx), x.shape), tag))
    v, d = split(y, tag)
    return d if d is not None else lift(np.zeros_like, primal(v))


@contextlib.contextmanager
def finite_differences(step):
    global _difference_step
    _difference_step = step
    try:
        yield
    finally:
        _difference_step = None

"""Dense evaluation of formula strings on numpy arrays of extended precision.

A formula value is an array (..., M, N, D) in which any of the leading axes may
have length 1. The string is parsed with Python's `ast` (operator precedence is
Python's) and walked; nothing is executed. Every operation is one short
function of the table OPS.
"""

import ast
import itertools

import numpy as np

from dual import (
    LD,
    absolute,
    acos,
    asin,
    atan,
    atan2,
    bcast,
    concat,
    cos,
    cosh,
    directional,
    einsum,
    exp,
    expm1,
    floor,
    inv,
    ld,
    lift,
    log,
    log1p,
    mul,
    powf,
    powi,
    primal,
    relu,
    rsqrt,
    sign,
    sin,
    sinh,
    sinxdivx,
    sqrt,
    stack,
    step,
    tan,
    tanh,
    total,
    where,
    wrap,
    xlogx,
)

OPS = {}


def op(f):
    OPS[f.__name__] = f
    return f


def define(**table):
    OPS.update(table)


def vsum(a):
    return total(a, axis=-1, keepdims=True)


def dot(a, b):
    return vsum(a * b)


def matrix(a, rows):
    """Row-major (..., rows * cols) to (..., rows, cols)."""
    return lift(lambda x: x.reshape(x.shape[:-1] + (rows, -1)), a)


def flat(a, naxes):
    return lift(lambda x: x.reshape(x.shape[: x.ndim - naxes] + (-1,)), a)


def compare(relation):
    return lambda a, b: ld(relation(primal(a), primal(b)))


# -- constants ---------------------------------------------------------------

define(
    IntCst=lambda n: ld([n]),
    RatCst=lambda p, q: ld([LD(p) / LD(q)]),
    IntInv=lambda n: ld([LD(1) / LD(n)]),
    Zero=lambda d: ld(np.zeros(d)),
)

# -- element-wise ------------------------------------------------------------

define(
    Add=lambda a, b: a + b,
    Subtract=lambda a, b: a - b,
    Minus=lambda a: -a,
    Mult=lambda a, b: a * b,
    Divide=lambda a, b: a / b,
    Inv=inv,
    Square=lambda a: a * a,
    Pow=powi,
    Powf=powf,
    Exp=exp,
    Log=log,
    Sin=sin,
    Cos=cos,
    Tan=tan,
    Sinh=sinh,
    Cosh=cosh,
    Tanh=tanh,
    Expm1=expm1,
    Log1p=log1p,
    Asin=asin,
    Acos=acos,
    Atan=atan,
    Atan2=atan2,
    Sqrt=sqrt,
    Rsqrt=rsqrt,
    XLogX=xlogx,
    SinXDivX=sinxdivx,
    Abs=absolute,
    Sign=sign,
    Step=step,
    ReLU=relu,
    Floor=floor,
    Sinc=lambda a: sinxdivx(a * (4 * np.arctan(LD(1)))),
    Equal=compare(np.equal),
    NotEqual=compare(np.not_equal),
    LessThan=compare(np.less),
    LessOrEqual=compare(np.less_equal),
    DiffClampInt=lambda a, lo, hi: ld((primal(a) >= lo) & (primal(a) <= hi)),
    ClampInt=lambda a, lo, hi: OPS["Clamp"](a, ld([lo]), ld([hi])),
    IfElse=lambda f, a, b: where(primal(f) >= 0, a, b),
    Select=lambda mask, a, b: where(primal(mask) != 0, a, b),
    Mod=lambda x, n, d: x - n * floor((x - d) / n),
)


@op
def Round(a, digits):
    # Half away from zero, as C's round.
    scale = LD(10) ** digits
    x = primal(a) * scale
    return np.copysign(np.floor(np.abs(x) + LD(0.5)), x) / scale


@op
def Clamp(x, lo, hi):
    px, pl, ph = primal(x), primal(lo), primal(hi)
    inside = ~(px < pl) & ~(px > ph) & (pl < ph)  # NaN stays NaN
    return where(inside, x, where(px < pl, lo, hi))


# -- vectors -----------------------------------------------------------------

define(
    Sum=vsum,
    SumT=lambda a, d: bcast(a, a.shape[:-1] + (d,)),
    Scalprod=dot,
    SqNorm2=lambda a: dot(a, a),
    Norm2=lambda a: sqrt(dot(a, a)),
    Normalize=lambda a: rsqrt(dot(a, a)) * a,
    SqDist=lambda a, b: dot(a - b, a - b),
    SqNormIso=lambda s, x: s * dot(x, x),
    SqNormDiag=lambda s, x: dot(s * x, x),
    WeightedSqDist=lambda s, x, y: OPS["WeightedSqNorm"](s, x - y),
    Concat=lambda a, b: concat([a, b]),
    Elem=lambda a, m: a[..., m : m + 1],
    Extract=lambda a, s, d: a[..., s : s + d],
    ElemT=lambda a, n, m: OPS["ExtractT"](a, m, n),
    Max=lambda a: select(a, np.argmax(primal(a), axis=-1)),
    Min=lambda a: select(a, np.argmin(primal(a), axis=-1)),
    ArgMax=lambda a: ld(np.argmax(primal(a), axis=-1)[..., None]),
    ArgMin=lambda a: ld(np.argmin(primal(a), axis=-1)[..., None]),
    MatVecMult=lambda A, b: einsum("...kl,...l->...k", matrix(A, A.shape[-1] // b.shape[-1]), b),
    VecMatMult=lambda b, A: einsum("...k,...kl->...l", b, matrix(A, b.shape[-1])),
    TensorProd=lambda a, b: flat(einsum("...k,...l->...kl", a, b), 2),
    DifferenceMatrix=lambda a, b: concat([a[..., k : k + 1] - b for k in range(a.shape[-1])]),
)


def select(a, index):
    return lift(lambda x: np.take_along_axis(x, index[..., None], axis=-1), a)


@op
def SymSqNorm(A, x):
    return dot(x, OPS["MatVecMult"](A, x))


@op
def WeightedSqNorm(s, x):
    ds, dx = s.shape[-1], x.shape[-1]
    kind = "SqNormIso" if ds == 1 else "SqNormDiag" if ds == dx else "SymSqNorm"
    return OPS[kind](s, x)


@op
def ExtractT(a, start, n):
    d = a.shape[-1]
    return lift(
        lambda x: np.concatenate(
            [np.zeros(x.shape[:-1] + (start,), LD), x, np.zeros(x.shape[:-1] + (n - start - d,), LD)], -1
        ),
        a,
    )


@op
def OneHot(a, d):
    # index = floor(a + 1/2); out of range gives zeros.
    k = np.floor(primal(a) + LD(0.5))
    return ld(k == np.arange(d))


@op
def TensorDot(a, b, da, db, ca, cb, perm=None):
    ka = [i for i in range(len(da)) if i not in ca]
    kb = [i for i in range(len(db)) if i not in cb]
    names = iter("abcdefghijklmnop")
    sa = [next(names) for _ in da]
    sb = [next(names) for _ in db]
    for i, j in zip(ca, cb):
        sb[j] = sa[i]
    kept = [sa[i] for i in ka] + [sb[j] for j in kb]
    out = list(kept)
    if perm is not None:  # kept axis i goes to output axis perm[i]
        for i, p in enumerate(perm):
            out[p] = kept[i]
    spec = f"...{''.join(sa)},...{''.join(sb)}->...{''.join(out)}"
    shaped = lambda x, dims: lift(lambda v: v.reshape(v.shape[:-1] + tuple(dims)), x)
    return (
        flat(einsum(spec, shaped(a, da), shaped(b, db)), len(out))
        if out
        else lift(lambda v: v[..., None], einsum(spec, shaped(a, da), shaped(b, db)))
    )


@op
def Kron(a, b, da, db):
    r = len(da)
    perm = [2 * i for i in range(r)] + [2 * i + 1 for i in range(r)]
    return TensorDot(a, b, da, db, [], [], perm)


@op
def BSpline(knots, x, k):
    """Cox-de Boor recursion on half-open intervals, 0/0 = 0."""
    t = lambda i: knots[..., i : i + 1]
    n = knots.shape[-1]
    basis = [
        where((primal(x) >= primal(t(i))) & (primal(x) < primal(t(i + 1))), LD(1) + 0 * x, LD(0)) for i in range(n - 1)
    ]

    def ratio(num, den):
        zero = primal(den) == 0
        return where(zero, LD(0), num / where(zero, LD(1), den))

    for p in range(1, k + 1):
        basis = [
            ratio(x - t(i), t(i + p) - t(i)) * basis[i]
            + ratio(t(i + p + 1) - x, t(i + p + 1) - t(i + 1)) * basis[i + 1]
            for i in range(n - p - 1)
        ]
    return concat(basis)


@op
def SoftDTW_SqDist(x, y, gamma):
    """Soft-DTW of the series x and y of scalars with squared differences
    (Cuturi and Blondel, 2017): r_ij = (x_i - y_j)^2 + softmin of its three
    predecessors."""
    n, m = x.shape[-1], y.shape[-1]
    r = {(0, 0): 0 * x[..., :1] * y[..., :1] * gamma}
    for i, j in itertools.product(range(1, n + 1), range(1, m + 1)):
        prev = [r[p] for p in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if p in r]
        low = primal(prev[0])
        for p in prev[1:]:
            low = np.minimum(low, primal(p))
        s = LD(0)
        for p in prev:
            s = s + exp((low - p) / gamma)
        d = x[..., i - 1 : i] - y[..., j - 1 : j]
        r[i, j] = d * d + low - gamma * log(s)
    return r[n, m]


@op
def Gather(table, index):
    """Entry floor(index + 1/2) of a parameter table."""
    k = np.floor(primal(index) + LD(0.5)).astype(int)
    return lift(lambda t: t.reshape(-1)[k], table)


# -- small dense matrices (row-major n x n) ----------------------------------


def _side(a):
    n = int(round(a.shape[-1] ** 0.5))
    assert n * n == a.shape[-1]
    return n


def determinant(a, n):
    """Laplace expansion along the first row; `a` maps (row, col) to entries."""
    if n == 1:
        return a[0][0]
    r = LD(0)
    for c in range(n):
        minor = [row[:c] + row[c + 1 :] for row in a[1:]]
        r = r + (-1) ** c * a[0][c] * determinant(minor, n - 1)
    return r


def _entries(a):
    n = _side(a)
    return n, [[a[..., n * i + j : n * i + j + 1] for j in range(n)] for i in range(n)]


@op
def MatDet(a):
    n, e = _entries(a)
    return determinant(e, n)


@op
def MatInv(a):
    """Cramer's rule: transposed cofactors over the determinant."""
    n, e = _entries(a)
    det = determinant(e, n)
    cof = lambda i, j: (
        LD((-1) ** (i + j))
        * (determinant([r[:j] + r[j + 1 :] for k, r in enumerate(e) if k != i], n - 1) if n > 1 else LD(1))
    )
    return concat([cof(j, i) / det for i in range(n) for j in range(n)])


@op
def MatSolve(a, b):
    n = _side(a)
    p = b.shape[-1] // n
    inverse = MatInv(a)
    row = lambda m, k, p: m[..., p * k : p * k + p]
    entry = lambda i: sum((inverse[..., n * i + k : n * i + k + 1] * row(b, k, p) for k in range(1, n)), inverse[..., n * i : n * i + 1] * row(b, 0, p))
    return concat([entry(i) for i in range(n)])


# -- complex numbers, interleaved --------------------------------------------


def _parts(z):
    return z[..., 0::2], z[..., 1::2]


def _join(re, im):
    return flat(stack([re, im]), 2)


def _complex(f):
    return lambda a, b: _join(*f(*_parts(a), *_parts(b)))


define(
    ComplexReal=lambda z: _parts(z)[0],
    ComplexImag=lambda z: _parts(z)[1],
    Real2Complex=lambda a: _join(a, 0 * a),
    Imag2Complex=lambda a: _join(0 * a, a),
    ComplexExp1j=lambda a: _join(cos(a), sin(a)),
    ComplexAdd=_complex(lambda a, b, c, d: (a + c, b + d)),
    ComplexSubtract=_complex(lambda a, b, c, d: (a - c, b - d)),
    ComplexMult=_complex(lambda a, b, c, d: (a * c - b * d, a * d + b * c)),
    ComplexDivide=_complex(lambda a, b, c, d: ((a * c + b * d) / (c * c + d * d), (b * c - a * d) / (c * c + d * d))),
    ComplexSumT=lambda z, d: _join(*[bcast(p, p.shape[:-1] + (d // 2,)) for p in _parts(z)]),
    ComplexSum=lambda z: concat([vsum(p) for p in _parts(z)]),
)


@op
def ComplexExp(z):
    a, b = _parts(z)
    return _join(exp(a) * cos(b), exp(a) * sin(b))


@op
def Conj(z):
    a, b = _parts(z)
    return _join(a, -b)


@op
def ComplexSquareAbs(z):
    a, b = _parts(z)
    return a * a + b * b


@op
def ComplexAbs(z):
    return sqrt(ComplexSquareAbs(z))


@op
def ComplexAngle(z):
    a, b = _parts(z)
    return atan2(b, a)


@op
def ComplexRealScal(a, b):
    s, z = (a, b) if a.shape[-1] < b.shape[-1] else (b, a)
    re, im = _parts(z)
    return _join(s * re, s * im)


# -- the walk ----------------------------------------------------------------

BINARY = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: mul,
    ast.Div: lambda a, b: wrap(a) / wrap(b),
    ast.BitOr: dot,
}
COMPARE = {
    ast.Lt: compare(np.less),
    ast.LtE: compare(np.less_equal),
    ast.Gt: compare(np.greater),
    ast.GtE: compare(np.greater_equal),
    ast.Eq: compare(np.equal),
    ast.NotEq: compare(np.not_equal),
}


class Formula:
    def __init__(self, text, var=None):
        self.tree = ast.parse(text.strip(), mode="eval").body
        self.var = var or (lambda pos, dim, cat: None)

    def __call__(self, env):
        return self.walk(self.tree, env)

    def literal(self, node):
        return ast.literal_eval(node)

    def walk(self, n, env):
        go = lambda m: self.walk(m, env)
        if isinstance(n, ast.Constant):
            return ld([LD(n.value)])
        if isinstance(n, ast.Name):
            return env[n.id]
        if isinstance(n, ast.UnaryOp):
            return -go(n.operand)
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Pow):
            return self.power(go(n.left), n.right, env)
        if isinstance(n, ast.BinOp):
            return BINARY[type(n.op)](go(n.left), go(n.right))
        if isinstance(n, ast.Compare):
            return COMPARE[type(n.ops[0])](go(n.left), go(n.comparators[0]))
        if isinstance(n, ast.Call):
            name = n.func.id
            if name in DIFFERENTIAL:
                return DIFFERENTIAL[name](self, n.args, env)
            if name == "Var":
                return env[self.var(*[self.literal(a) for a in n.args])]
            return OPS[name](*self.arguments(name, n.args, env))
        raise ValueError(ast.dump(n))

    def power(self, base, exponent, env):
        try:
            m = self.literal(exponent)
        except ValueError:
            return powf(base, self.walk(exponent, env))
        if m == 0.5:
            return sqrt(base)
        if m == -0.5:
            return rsqrt(base)
        return powi(base, m) if isinstance(m, int) else powf(base, ld([m]))

    # Positions of arguments that are integers or lists, not formulas.
    STATIC = {
        "IntCst": [0],
        "RatCst": [0, 1],
        "IntInv": [0],
        "Zero": [0],
        "Pow": [1],
        "Round": [1],
        "ClampInt": [1, 2],
        "DiffClampInt": [1, 2],
        "SumT": [1],
        "Elem": [1],
        "ElemT": [1, 2],
        "Extract": [1, 2],
        "ExtractT": [1, 2],
        "OneHot": [1],
        "TensorDot": [2, 3, 4, 5, 6],
        "Kron": [2, 3],
        "BSpline": [2],
        "ComplexSumT": [1],
    }

    def arguments(self, name, args, env):
        static = self.STATIC.get(name, [])
        return [self.literal(a) if k in static else self.walk(a, env) for k, a in enumerate(args)]


def _with(env, v, x):
    return {**env, v: x}


def _unit(d, k):
    return ld(np.arange(d) == k)


def _columns(self, f, v, env):
    """Directional derivatives of f along every component of the variable v."""
    d = env[v].shape[-1]
    along = lambda k: directional(lambda x: self.walk(f, _with(env, v, x)), env[v], bcast(_unit(d, k), env[v].shape))
    return [along(k) for k in range(d)]


def _name(self, node):
    if isinstance(node, ast.Name):
        return node.id
    return self.var(*[self.literal(a) for a in node.args])


def _grad(self, args, env):
    e = self.walk(args[2], env)
    return concat([dot(c, e) for c in _columns(self, args[0], _name(self, args[1]), env)])


def _diff(self, args, env):
    if isinstance(args[1], ast.Tuple):
        terms = [_diff(self, [args[0], v, u], env) for v, u in zip(args[1].elts, args[2].elts, strict=True)]
        return sum(terms[1:], terms[0])
    v, u = _name(self, args[1]), self.walk(args[2], env)
    shape = np.broadcast_shapes(u.shape, env[v].shape)
    return directional(lambda x: self.walk(args[0], _with(env, v, x)), bcast(env[v], shape), bcast(u, shape))


def _grad_matrix(self, args, env):
    cols = _columns(self, args[0], _name(self, args[1]), env)
    return concat([c[..., o : o + 1] for o in range(cols[0].shape[-1]) for c in cols])


def _divergence(self, args, env):
    r = LD(0)
    for k, c in enumerate(_columns(self, args[0], _name(self, args[1]), env)):
        r = r + c[..., k : k + 1]
    return r


def _trace(self, args, env):
    """Trace of diag(w) M for f(v) = M v; one row M is repeated."""
    weight = self.walk(args[2], env) if len(args) > 2 else ld([1])
    r = LD(0)
    for k, c in enumerate(_columns(self, args[0], _name(self, args[1]), env)):
        w = weight[..., min(k, weight.shape[-1] - 1) :][..., :1]
        r = r + w * c[..., min(k, c.shape[-1] - 1) :][..., :1]
    return r


def _sum_lin(self, args, env):
    """Sum of l_i M_ij r_j for f(v) = M v."""
    left, right = [self.walk(a, env) for a in args[2:]] + [ld([1])] * (4 - len(args))
    r = LD(0)
    for k, c in enumerate(_columns(self, args[0], _name(self, args[1]), env)):
        r = r + vsum(left * c) * right[..., min(k, right.shape[-1] - 1) :][..., :1]
    return r


def _laplacian(self, args, env):
    v = _name(self, args[1])
    d = env[v].shape[-1]
    r = LD(0)
    for k in range(d):
        u = bcast(_unit(d, k), env[v].shape)
        first = lambda x: directional(lambda y: self.walk(args[0], _with(env, v, y)), x, u)
        r = r + directional(first, env[v], u)
    return r


DIFFERENTIAL = {
    "Grad": _grad,
    "Diff": _diff,
    "GradMatrix": _grad_matrix,
    "Divergence": _divergence,
    "Laplacian": _laplacian,
    "TraceOperator": _trace,
    "SumLinOperator": _sum_lin,
    "AdjointOperator": _grad,
    "Factorize": lambda self, a, env: self.walk(a[0], env),
    "AutoFactorize": lambda self, a, env: self.walk(a[0], env),
}

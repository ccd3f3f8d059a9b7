"""Cases for every operation: value, gradient and second derivative.

Values come from the dense evaluator, derivatives are confirmed there by
finite differences. Values at kinks, singular points and signed zeros are
written out by hand.
"""

import math

import numpy as np

from cases import Data, single
from reduction import Variable

inf, nan = math.inf, math.nan
M, N = 17, 23


def grid(rng, shape, offset):
    """Multiples of 1/8 plus an offset: differences stay 1/16 away from kinks."""
    return rng.integers(-16, 17, shape) / 8.0 + offset


def arrays(aliases, kinked=False, positive=(), small=(), m=M, n=N, salt=""):
    """Arrays of the variables: the same ones in every case that asks for the same kind."""
    out = []
    for text in aliases:
        v = Variable(text, 0)
        D = Data(salt + text, m, n)
        a = D.rows(text, positive=v.name in positive, scale=0.3 if v.name in small else 1.0)
        if kinked and v.name in "xyst":
            a = grid(D.rng, a.shape, 1 / 16 if v.category == 1 else 0.0)
        out.append(a)
    return out


def simple(book, name, formula, aliases, axis=1, kinked=False, positive=(), small=(), tags=(), m=M, n=N, salt="", **kw):
    book.case(name, formula, aliases, arrays(aliases, kinked, positive, small, m, n, salt), axis=axis, tags=tags, **kw)


# name: (formula of x and y, kinked data, positive variables, derivatives)
UNARY = {
    "Minus": ("Minus(x-y)", False, "", 1),
    "Inv": ("Inv(x+y)", False, "xy", 2),
    "Square": ("Square(x-y)", False, "", 2),
    "Pow3": ("Pow(x-y,3)", False, "", 2),
    "Pow-2": ("Pow(x+y,-2)", False, "xy", 2),
    "Pow1": ("Pow(x-y,1)", False, "", 1),
    "Pow0": ("Pow(x-y,0)", False, "", 0),
    "Exp": ("Exp(x*y)", False, "", 2),
    "Log": ("Log(x+y)", False, "xy", 2),
    "Sin": ("Sin(x-y)", False, "", 2),
    "Cos": ("Cos(x-y)", False, "", 2),
    "Tan": ("Tan(x*y)", False, "small", 2),
    "Sinh": ("Sinh(x-y)", False, "", 2),
    "Cosh": ("Cosh(x-y)", False, "", 2),
    "Tanh": ("Tanh(x-y)", False, "", 2),
    "Expm1": ("Expm1(x-y)", False, "", 2),
    "Log1p": ("Log1p(x*y)", False, "small", 2),
    "Atan": ("Atan(x-y)", False, "", 2),
    "Asin": ("Asin(x*y)", False, "small", 2),
    "Acos": ("Acos(x*y)", False, "small", 2),
    "Sqrt": ("Sqrt(x+y)", False, "xy", 2),
    "Rsqrt": ("Rsqrt(x+y)", False, "xy", 2),
    "XLogX": ("XLogX(x+y)", False, "xy", 2),
    "SinXDivX": ("SinXDivX(x-y)", True, "", 2),
    "Sinc": ("Sinc(x-y)", True, "", 2),
    "Abs": ("Abs(x-y)", True, "", 1),
    "Sign": ("Sign(x-y)", True, "", 0),
    "Step": ("Step(x-y)", True, "", 0),
    "ReLU": ("ReLU(x-y)", True, "", 1),
    "Floor": ("Floor(3*(x-y))", True, "", 0),
    "Round0": ("Round(3*(x-y),0)", True, "", 0),
    "Round1": ("Round(x-y,1)", True, "", 0),
    "Round-1": ("Round(20*(x-y),-1)", True, "", 0),
    "ClampInt": ("ClampInt(x-y,-1,1)", True, "", 1),
    "DiffClampInt": ("DiffClampInt(x-y,-1,1)", True, "", 0),
}


def unary(book):
    for name, (f, kinked, domain, derivatives) in UNARY.items():
        op = f[: f.index("(")]
        opts = dict(
            kinked=kinked,
            positive=() if domain == "small" else domain,
            small="xy" if domain == "small" else (),
            tags=[f"op:{op}"],
        )
        xy = ["x=Vi(3)", "y=Vj(3)"]
        simple(book, f"unary/{name}", f + "*b", xy + ["b=Vj(1)"], **opts)
        if derivatives >= 1:
            simple(book, f"unary/{name}/grad", f"Grad({f},x,e)", xy + ["e=Vi(3)"], **opts)
        else:
            # A derivative that vanishes: kept alive by a product with zero dimension-wise.
            simple(book, f"unary/{name}/grad", f"Grad({f}+x*y,x,e)", xy + ["e=Vi(3)"], **opts)
        if derivatives >= 2:
            simple(book, f"unary/{name}/grad2", f"Grad(Grad({f},x,e),y,h)", xy + ["e=Vi(3)", "h=Vi(3)"], axis=0, **opts)
    for name in """Exp Log Sin Tan Sinh Cosh Tanh Expm1 Log1p Atan Sqrt Rsqrt SinXDivX Asin""".split():
        f, kinked, domain, _ = UNARY[name]
        simple(
            book,
            f"unary/{name}/f32",
            f,
            ["x=Vi(3)", "y=Vj(3)"],
            n=1,
            dtype="float32",
            rtol=1e-6,
            kinked=kinked,
            positive=() if domain == "small" else domain,
            small="xy" if domain == "small" else (),
            tags=[f"op:{name}"],
            note="one pair per row: the tolerance is a few units in the last place",
        )


def binary(book):
    domains = {"Divide": "y", "Powf": "x", "Atan2": ""}
    for op in ["Add", "Subtract", "Mult", "Divide", "Powf", "Atan2"]:
        for dx, dy in [(3, 3), (1, 3), (3, 1)]:
            opts = dict(positive=domains.get(op, ""), tags=[f"op:{op}"])
            # Dimensions away from the branch cut of atan2, and from its origin.
            f = "Atan2(x,y*y+1)" if op == "Atan2" else f"{op}(x,y)"
            xy = [f"x=Vi({dx})", f"y=Vj({dy})"]
            name = f"binary/{op}_{dx}_{dy}"
            simple(book, name, f + "*b", xy + ["b=Vj(1)"], **opts)
            simple(book, name + "/grad_x", f"Grad({f},x,e)", xy + ["e=Vi(3)"], **opts)
            simple(book, name + "/grad_y", f"Grad({f},y,e)", xy + ["e=Vi(3)"], axis=0, **opts)
        simple(
            book,
            f"binary/{op}/grad2",
            f"Grad(Grad({f},x,e),y,h)",
            ["x=Vi(3)", "y=Vj(1)", "e=Vi(3)", "h=Vi(3)"],
            axis=0,
            **opts,
        )
    for op in ["Equal", "NotEqual", "LessThan", "LessOrEqual"]:
        for dx, dy in [(3, 3), (1, 3), (3, 1)]:
            name = f"binary/{op}_{dx}_{dy}"
            D = Data(name, M, N)  # small integers, so that all three relations occur
            x, y = (D.rng.integers(0, 4, s).astype(float) for s in ((M, dx), (N, dy)))
            book.case(
                name,
                f"{op}(x,y)*b",
                [f"x=Vi({dx})", f"y=Vj({dy})", "b=Vj(1)"],
                [x, y, D.rows("b=Vj(1)")],
                tags=[f"op:{op}"],
            )


def infix(book):
    xy = ["x=Vi(3)", "y=Vj(3)"]
    D = Data("infix", M, N)
    ints = [D.rng.integers(-2, 3, (k, 3)).astype(float) for k in (M, N)]
    reals = [D.rows(a) for a in xy]
    positive = [D.rows(a, positive=True) for a in xy]
    for f in [
        "x+y",
        "x-y",
        "-x-y",
        "x*y",
        "x|y",
        "x|y+x",
        "-x**2+y",
        "2+x-3*y+1",
        "(x-y)**5",
        "x-y-1",
        "x-(y-1)",
        "2*x*y/4*x",
        "x*y**2",
        "-(x|y)**3",
        "x|y|x",
        "1-x*y+0.5",
        "1e-3*x+2.5e0*y",
        "(x-y)*-1",
        "x+-y",
    ]:
        book.case(f"infix/{f}", f, xy, reals, tags=["syntax"])
    for f in [
        "x/y",
        "1/(x+y)",
        "x/y/2",
        "x**0.5*y",
        "(x+y)**-1",
        "(x*y)**-0.5",
        "x**1.5-y",
        "(x+y)**-2",
        "x**y",
        "2**x+y",
    ]:
        book.case(
            f"infix/{f}",
            f,
            xy,
            positive,
            tags=["syntax"],
            **({"note": "the exponent is a formula: Powf"} if f in ("x**y", "2**x+y") else {}),
        )
    for f in ["x<y", "x<=y", "x>y", "x>=y", "x==y", "x!=y", "x<y+1", "x+1>=y*2", "(x<y)*x+(x>=y)*y"]:
        book.case(f"infix/{f}", f, xy, ints, tags=["syntax"])
    book.case(
        "infix/Var",
        "Exp(-SqDist(Var(0,3,0),Var(1,3,1)))*Var(2,1,1)",
        [*xy, "b=Vj(1)"],
        [*reals, D.rows("b=Vj(1)")],
        tags=["syntax"],
    )
    book.case(
        "infix/alias_position",
        "x*b+y",
        ["b=Vj(1,3)", "x=Vi(0,3)"][::-1] + ["y=Vj(2,3)"],
        [reals[0], D.rows("b=Vj(3)"), reals[1]],
        tags=["syntax"],
    )
    # Constants are exact in the type: one pair per row, a tolerance of a few units.
    one = [reals[0], reals[1][:1]]
    for f in [
        "x/3+0*y",
        "0.1*x+0*y",
        "16777217*x+0*y",
        "RatCst(1,3)*x+0*y",
        "IntInv(7)*x+0*y",
        "IntCst(123456789)*x+0*y",
        "1e-3*x+0*y",
        "RatCst(22,7)-x+0*y",
        "3.141592653589793*x+0*y",
    ]:
        book.case(
            f"constants/{f}", f, xy, one, rtol=2e-15, tags=["constants"], note="constants are exact in the compute type"
        )


def ternary(book):
    xy = ["x=Vi(3)", "y=Vj(3)"]
    pm = ["l=Pm(1)", "u=Pm(1)"]

    def case(name, f, aliases, axis=1, fixed=None, **kw):
        a = arrays(aliases, kinked=True)
        names = [Variable(t, 0).name for t in aliases]
        for k, v in (fixed or {}).items():
            a[names.index(k)] = np.asarray(v, float)
        book.case(name, f, aliases, a, axis=axis, tags=[f"op:{f.replace('Grad(', '').split('(')[0]}"], **kw)

    bounds = {"l": [-0.53], "u": [0.77]}
    case("ternary/Clamp", "Clamp(x-y,l,u)*y", xy + pm, fixed=bounds)
    for v in "xlu":
        case(f"ternary/Clamp/grad_{v}", f"Grad(Clamp(x-y,l,u),{v},e)", xy + pm + ["e=Vi(3)"], fixed=bounds)
    # Bounds per component, and bounds that depend on i and j.
    case(
        "ternary/Clamp_vector/grad_l",
        "Grad(Clamp(x-y,l,u),l,e)",
        xy + ["l=Pm(3)", "u=Pm(3)", "e=Vi(3)"],
        fixed={"l": [-0.53, -1.03, 0.03], "u": [0.28, 0.77, 1.97]},
    )
    case("ternary/IfElse_scalar", "IfElse(s-t,x*y,x+y)", xy + ["s=Vi(1)", "t=Vj(1)"])
    case("ternary/IfElse_scalar/grad_x", "Grad(IfElse(s-t,x*y,x+Sin(y)),x,e)", xy + ["s=Vi(1)", "t=Vj(1)", "e=Vi(3)"])
    case(
        "ternary/IfElse_scalar/grad_cond", "Grad(IfElse(s-t,s*x,x+Sin(y)),s,e)", xy + ["s=Vi(1)", "t=Vj(1)", "e=Vi(3)"]
    )
    case("ternary/IfElse_vector", "IfElse(x-y,x*y,x+y)", xy)
    case("ternary/IfElse_vector/grad_y", "Grad(IfElse(x-y,x*y,x+Sin(y)),y,e)", xy + ["e=Vi(3)"], axis=0)
    case(
        "ternary/IfElse_vector/grad2",
        "Grad(Grad(IfElse(x-y,x*x*y,x+x*Sin(y)),x,e),y,h)",
        xy + ["e=Vi(3)", "h=Vi(3)"],
        axis=0,
    )
    # A vector condition over branches whose Jacobian is not diagonal: the cotangent is masked first.
    case(
        "ternary/IfElse_full_jacobian/grad_x",
        "Grad(IfElse(x-y,MatVecMult(A,x),Norm2(x)*y),x,e)",
        xy + ["A=Pm(9)", "e=Vi(3)"],
    )
    case("ternary/IfElse_broadcast/grad_s", "Grad(IfElse(x-y,s,x),s,e)", xy + ["s=Vi(1)", "e=Vi(3)"])
    # The mask is a comparison, and any number of either sign.
    case("ternary/Select", "Select(LessThan(s,t),x*y,x+y)", xy + ["s=Vi(1)", "t=Vj(1)"])
    case(
        "ternary/Select/grad_x",
        "Grad(Select(LessThan(s,t),x*y,x+Sin(y)),x,e)",
        xy + ["s=Vi(1)", "t=Vj(1)", "e=Vi(3)"],
    )
    case("ternary/Select_vector", "Select(Sign(x-y)-Step(x-y),x*y,x+Sin(y))", xy)
    case("ternary/Mod", "Mod(x,n,d)*y", xy + ["n=Pm(1)", "d=Pm(1)"], fixed={"n": [0.7], "d": [0.21]})
    case("ternary/Mod_negative", "Mod(x,n,d)*y", xy + ["n=Pm(1)", "d=Pm(1)"], fixed={"n": [-0.7], "d": [0.21]})
    for v, dim in [("x", 3), ("n", 1)]:
        case(
            f"ternary/Mod/grad_{v}",
            f"Grad(Mod(x,n,d)*y,{v},e)",
            xy + ["n=Pm(1)", "d=Pm(1)", "e=Vi(3)"],
            fixed={"n": [0.7], "d": [0.21]},
        )
    case(
        "ternary/Mod_vector/grad_n",
        "Grad(Mod(x,n,d)*y,n,e)",
        ["x=Vi(1)", "y=Vj(3)", "n=Pm(3)", "d=Pm(1)", "e=Vi(3)"],
        fixed={"n": [0.7, 1.1, 1.7], "d": [0.21]},
    )


# Data in which no two components of a product come close to a tie.
APART = {"salt": "apart7"}

# name: (formula, aliases, dimension, variables to differentiate, options)
VECTOR = [
    ("Sum", "Sum(x*y)*b", "x=Vi(3) y=Vj(3) b=Vj(1)", 1, "xy", {}),
    ("SumT", "SumT(s*t,4)", "s=Vi(1) t=Vj(1)", 4, "st", {}),
    ("Scalprod", "Scalprod(x,y)*b", "x=Vi(3) y=Vj(3) b=Vj(1)", 1, "xy", {}),
    ("Scalprod_1_3", "Scalprod(s,y)", "s=Vi(1) y=Vj(3)", 1, "sy", {}),
    ("SqNorm2", "SqNorm2(x-y)*b", "x=Vi(3) y=Vj(3) b=Vj(1)", 1, "x", {}),
    ("Norm2", "Norm2(x-y)*b", "x=Vi(3) y=Vj(3) b=Vj(1)", 1, "xy", {}),
    ("Normalize", "Normalize(x-y)*b", "x=Vi(3) y=Vj(3) b=Vj(1)", 3, "xy", {}),
    ("SqDist", "SqDist(x,y)*b", "x=Vi(3) y=Vj(3) b=Vj(1)", 1, "xy", {}),
    ("SqDist_d1", "SqDist(x,y)*b", "x=Vi(1) y=Vj(1) b=Vj(1)", 1, "y", {}),
    ("SqNormIso", "SqNormIso(s,x-y)", "x=Vi(3) y=Vj(3) s=Vi(1)", 1, "xs", {}),
    ("SqNormDiag", "SqNormDiag(s,x-y)", "x=Vi(3) y=Vj(3) s=Vj(3)", 1, "xs", {}),
    ("SymSqNorm", "SymSqNorm(A,x-y)", "x=Vi(3) y=Vj(3) A=Pm(9)", 1, "yA", {}),
    ("WeightedSqNorm_iso", "WeightedSqNorm(s,x-y)", "x=Vi(3) y=Vj(3) s=Pm(1)", 1, "xs", {}),
    ("WeightedSqNorm_diag", "WeightedSqNorm(s,x-y)", "x=Vi(3) y=Vj(3) s=Pm(3)", 1, "xs", {}),
    ("WeightedSqNorm_full", "WeightedSqNorm(A,x-y)", "x=Vi(3) y=Vj(3) A=Vi(9)", 1, "yA", {}),
    ("WeightedSqDist_diag", "WeightedSqDist(s,x,y)", "x=Vi(3) y=Vj(3) s=Vj(3)", 1, "xs", {}),
    ("WeightedSqDist_full", "WeightedSqDist(A,x,y)", "x=Vi(3) y=Vj(3) A=Pm(9)", 1, "xA", {}),
    ("Concat", "Concat(x,Square(y))", "x=Vi(3) y=Vj(2)", 5, "xy", {}),
    ("Elem", "Elem(x*y,2)", "x=Vi(3) y=Vj(3)", 1, "xy", {}),
    ("ElemT", "ElemT(s*t,5,3)", "s=Vi(1) t=Vj(1)", 5, "st", {}),
    ("Extract", "Extract(x*y,1,2)", "x=Vi(3) y=Vj(3)", 2, "x", {}),
    ("ExtractT", "ExtractT(x*y,2,7)", "x=Vi(3) y=Vj(3)", 7, "y", {}),
    ("Max", "Max(x*y)", "x=Vi(4) y=Vj(4)", 1, "xy", APART),
    ("Min", "Min(x*y)", "x=Vi(4) y=Vj(4)", 1, "xy", APART),
    ("ArgMax", "ArgMax(x*y)*b", "x=Vi(4) y=Vj(4) b=Vj(1)", 1, "", {}),
    ("ArgMin", "ArgMin(x*y)*b", "x=Vi(4) y=Vj(4) b=Vj(1)", 1, "", {}),
    ("MatVecMult", "MatVecMult(A,y)", "A=Vi(6) y=Vj(3)", 2, "Ay", {}),
    ("MatVecMult_square", "MatVecMult(A,x-y)", "A=Pm(9) x=Vi(3) y=Vj(3)", 3, "xA", {}),
    ("VecMatMult", "VecMatMult(x,A)", "x=Vi(2) A=Vj(6)", 3, "xA", {}),
    ("TensorProd", "TensorProd(x,y)*b", "x=Vi(2) y=Vj(3) b=Vj(1)", 6, "xy", {}),
    ("DifferenceMatrix", "DifferenceMatrix(x,y)*b", "x=Vi(2) y=Vj(3) b=Vj(1)", 6, "xy", {}),
    ("matrix_chain", "VecMatMult(x,TensorProd(x,y))", "x=Vi(2) y=Vj(3)", 3, "xy", {}),
    ("TensorDot_a", "TensorDot(x,y,[2,2,2],[2,2],[2],[0])", "x=Vi(8) y=Vj(4)", 8, "xy", {}),
    ("TensorDot_full", "TensorDot(x,y,[2,3],[2,3],[0,1],[0,1])", "x=Vi(6) y=Vj(6)", 1, "x", {}),
    ("TensorDot_outer", "TensorDot(x,y,[2,3],[4],[],[])", "x=Vi(6) y=Vj(4)", 24, "y", {}),
    ("TensorDot_crossed", "TensorDot(x,y,[2,3,4],[4,2],[2,0],[0,1])", "x=Vi(24) y=Vj(8)", 3, "xy", {}),
    ("TensorDot_perm", "TensorDot(x,y,[2,3],[3,2],[1],[0],[1,0])", "x=Vi(6) y=Vj(6)", 4, "xy", {}),
    ("TensorDot_perm3", "TensorDot(x,y,[2,3,2],[2,2],[2],[0],[2,0,1])", "x=Vi(12) y=Vj(4)", 12, "xy", {}),
    ("TensorDot_perm4", "TensorDot(x,y,[2,3,2],[2,4],[2],[0],[1,2,0])", "x=Vi(12) y=Vj(8)", 24, "y", {}),
    ("Kron_1", "Kron(x,y,[2],[3])", "x=Vi(2) y=Vj(3)", 6, "x", {}),
    ("Kron_2", "Kron(x,y,[2,2],[2,3])", "x=Vi(4) y=Vj(6)", 24, "xy", {}),
    ("Kron_3", "Kron(x,y,[1,2,3],[2,1,2])", "x=Vi(6) y=Vj(4)", 24, "y", {}),
    ("ComplexReal", "ComplexReal(x)*b", "x=Vi(4) b=Vj(2)", 2, "x", {}),
    ("ComplexImag", "ComplexImag(x)*b", "x=Vi(4) b=Vj(2)", 2, "x", {}),
    ("Real2Complex", "Real2Complex(x*y)", "x=Vi(3) y=Vj(3)", 6, "x", {}),
    ("Imag2Complex", "Imag2Complex(x*y)", "x=Vi(3) y=Vj(3)", 6, "y", {}),
    ("ComplexExp1j", "ComplexExp1j(x*y)", "x=Vi(3) y=Vj(3)", 6, "xy", {}),
    ("ComplexExp", "ComplexExp(ComplexMult(x,y))", "x=Vi(4) y=Vj(4)", 4, "x", {}),
    ("ComplexMult", "ComplexMult(x,y)", "x=Vi(4) y=Vj(4)", 4, "xy", {}),
    ("ComplexMult_2_4", "ComplexMult(x,y)", "x=Vi(2) y=Vj(4)", 4, "xy", {}),
    ("ComplexMult_6_2", "ComplexMult(x,y)", "x=Vi(6) y=Vj(2)", 6, "xy", {}),
    ("ComplexAdd", "ComplexAdd(x,y)", "x=Vi(4) y=Vj(4)", 4, "x", {}),
    ("ComplexAdd_2_6", "ComplexAdd(x,y)", "x=Vi(2) y=Vj(6)", 6, "x", {}),
    ("ComplexSubtract", "ComplexSubtract(x,y)", "x=Vi(4) y=Vj(2)", 4, "xy", {}),
    ("ComplexDivide", "ComplexDivide(x,y)", "x=Vi(4) y=Vj(4)", 4, "xy", {"positive": "y"}),
    ("ComplexDivide_2_4", "ComplexDivide(x,y)", "x=Vi(2) y=Vj(4)", 4, "xy", {"positive": "y"}),
    ("Conj", "ComplexMult(Conj(x),y)", "x=Vi(4) y=Vj(4)", 4, "x", {}),
    ("ComplexSquareAbs", "ComplexSquareAbs(ComplexAdd(x,y))", "x=Vi(4) y=Vj(4)", 2, "xy", {}),
    ("ComplexAbs", "ComplexAbs(ComplexMult(x,y))", "x=Vi(4) y=Vj(4)", 2, "x", {"positive": "xy"}),
    ("ComplexAngle", "ComplexAngle(ComplexMult(x,y))", "x=Vi(4) y=Vj(4)", 2, "xy", {"positive": "xy"}),
    ("ComplexSum", "ComplexSum(ComplexMult(x,y))", "x=Vi(6) y=Vj(6)", 2, "x", {}),
    ("ComplexSumT", "ComplexSumT(ComplexMult(x,y),6)", "x=Vi(2) y=Vj(2)", 6, "y", {}),
    ("ComplexRealScal", "ComplexRealScal(s,y)", "s=Vi(1) y=Vj(4)", 4, "sy", {}),
    ("ComplexRealScal_swapped", "ComplexRealScal(y,s)", "s=Vi(1) y=Vj(6)", 6, "sy", {}),
    ("ComplexRealScal_vector", "ComplexRealScal(x,y)", "x=Vi(3) y=Vj(6)", 6, "xy", {}),
    ("complex_wide", "ComplexMult(x,ComplexDivide(y,ComplexAdd(z,x)))", "x=Vi(34) y=Vj(34) z=Vj(2)", 34, "z", {"positive": "xyz", "m": 3, "n": 5}),
    ("complex_odd", "ComplexMult(ComplexExp1j(x|y),Real2Complex(b))", "x=Vi(3) y=Vj(3) b=Vj(1)", 2, "xb", {}),
    ("complex_odd3", "ComplexMult(ComplexExp1j(x-y),Real2Complex(b))", "x=Vi(3) y=Vj(3) b=Vj(3)", 6, "xb", {}),
    ("cauchy", "Inv(1+SqDist(x,y))*b", "x=Vi(3) y=Vj(3) b=Vj(1)", 1, "xy", {}),
    ("laplace", "Exp(-Norm2(x-y))*b", "x=Vi(3) y=Vj(3) b=Vj(2)", 2, "xy", {}),
    ("inverse_multiquadric", "Rsqrt(1+SqDist(x,y))*b", "x=Vi(3) y=Vj(3) b=Vj(1)", 1, "y", {}),
    ("rational_quadratic", "Powf(1+SqDist(x,y),g)*b", "x=Vi(3) y=Vj(3) b=Vj(1) g=Pm(1)", 1, "xg", {}),
    ("gaussian_param", "Exp(-g*SqDist(x,y))*b", "x=Vi(2) y=Vj(2) b=Vj(2) g=Pm(1)", 2, "xyg", {}),
    ("varifold", "(u|v)**2*Exp(-SqDist(x,y))*b", "x=Vi(3) y=Vj(3) u=Vi(3) v=Vj(3) b=Vj(1)", 1, "xv", {}),
    ("oriented_varifold", "Exp(2*(u|v)-2)*Exp(-SqDist(x,y))*b", "x=Vi(3) y=Vj(3) u=Vi(3) v=Vj(3) b=Vj(1)", 1, "yu", {}),
    ("softdtw", "SoftDTW_SqDist(x,y,g)", "x=Vi(4) y=Vj(3) g=Pm(1)", 1, "xyg", {"positive": "g"}),
]


def vector(book):
    for name, f, text, dim, wrt, opts in VECTOR:
        aliases = text.split()
        tags = [f"op:{f.split('(')[0]}"]
        simple(book, f"vector/{name}", f, aliases, tags=tags, **opts)
        for v in wrt:
            axis = 0 if any(a.startswith(f"{v}=Vj") for a in aliases) else 1
            simple(
                book,
                f"vector/{name}/grad_{v}",
                f"Grad({f},{v},e)",
                aliases + [f"e=Vi({dim})"],
                axis=axis,
                tags=tags,
                **opts,
            )
    second = {
        "SqDist": "xy",
        "DifferenceMatrix": "xy",
        "TensorDot_crossed": "xy",
        "complex_odd3": "xb",
        "Norm2": "xy",
        "Normalize": "xx",
        "MatVecMult": "Ay",
        "TensorDot_a": "xy",
        "Kron_2": "xy",
        "ComplexMult": "xy",
        "ComplexDivide": "yy",
        "ComplexAbs": "xx",
        "ComplexAngle": "xy",
        "ComplexExp": "xx",
        "complex_odd": "xb",
        "laplace": "xy",
        "varifold": "uv",
        "softdtw": "xy",
        "Max": "xy",
    }
    for name, f, text, dim, _, opts in VECTOR:
        if name in second:
            v, w = second[name]
            aliases = text.split()
            dims = {Variable(a, 0).name: Variable(a, 0) for a in aliases}
            axis = 0 if dims[w].category == 1 else 1
            simple(
                book,
                f"vector/{name}/grad_{v}{w}",
                f"Grad(Grad({f},{v},e),{w},h)",
                aliases + [f"e=Vi({dim})", f"h=Vi({dims[v].dim})"],
                axis=axis,
                tags=[f"op:{f.split('(')[0]}"],
                **opts,
            )
    # One-hot vectors of integers, rounding half up, zeros out of range.
    s = np.array([[-2, -1, -0.4, 0, 0.4, 0.5, 0.6, 1.49, 2.4, 2.5, 3, 3.4, 3.5, 4, 100, 1e9, 0]]).T
    t = np.arange(5.0)[:, None]
    book.case("vector/OneHot", "OneHot(s,4)*(1+t)", ["s=Vi(1)", "t=Vj(1)"], [s, t], tags=["op:OneHot"])
    book.case("vector/OneHot_pair", "OneHot(s,4)|OneHot(t,4)", ["s=Vi(1)", "t=Vj(1)"], [s, t], tags=["op:OneHot"])
    # B-splines with distinct and with repeated knots; x inside, outside and on knots.
    D = Data("bspline", M, N)
    for label, knots in [
        ("uniform", np.arange(8.0)),
        ("clamped", np.array([0, 0, 0, 1, 2.5, 4, 4, 4.0])),
        ("uneven", np.array([0, 0.5, 1.25, 2, 3.5, 4, 5.25, 6])),
    ]:
        s = single(D.rng.uniform(-0.5, 5, (M, 1)))
        t = single(D.rng.uniform(0, 1, (N, 1)))
        # Sums that meet a knot would make differences one-sided.
        near = np.abs((s + t.T)[..., None] - knots).min()
        assert near > 1e-4, near
        for k in range(4):
            book.case(
                f"vector/BSpline_{label}_{k}",
                f"BSpline(k,s+t,{k})",
                ["k=Pm(8)", "s=Vi(1)", "t=Vj(1)"],
                [knots, s, t],
                tags=["op:BSpline"],
            )
        book.case(
            f"vector/BSpline_{label}/grad_ss",
            "Grad(Grad(BSpline(k,s+t,3),s,e),s,h)",
            ["k=Pm(8)", "s=Vi(1)", "t=Vj(1)", "e=Vi(4)", "h=Vi(1)"],
            [knots, s, t, D.rows("e=Vi(4)"), D.rows("h=Vi(1)")],
            tags=["op:BSpline"],
        )
        # e is random; steps that stay between knots.
        e = D.rows("e=Vi(4)")
        book.case(
            f"vector/BSpline_{label}/grad_s",
            "Grad(BSpline(k,s+t,3),s,e)",
            ["k=Pm(8)", "s=Vi(1)", "t=Vj(1)", "e=Vi(4)"],
            [knots, s, t, e],
            tags=["op:BSpline"],
        )
        if label != "clamped":  # coinciding knots cannot be moved apart smoothly
            book.case(
                f"vector/BSpline_{label}/grad_k",
                "Grad(BSpline(k,s+t,3),k,e)",
                ["k=Pm(8)", "s=Vi(1)", "t=Vj(1)", "e=Vi(4)"],
                [knots, s, t, e],
                tags=["op:BSpline"],
            )
    on = np.arange(-1.0, 9)[:, None]
    for k in range(3):
        book.case(
            f"vector/BSpline_on_knots_{k}",
            f"BSpline(k,s+t,{k})",
            ["k=Pm(8)", "s=Vi(1)", "t=Vj(1)"],
            [np.arange(8.0), on, np.zeros((1, 1))],
            tags=["op:BSpline"],
            note="intervals are half-open: a knot belongs to the interval on its right",
        )


def differential(book):
    g2 = "x=Vi(2) y=Vj(2) b=Vj(2) g=Pm(1)".split()
    f = "Exp(-SqDist(x,y)*g)*b"
    xyb = "x=Vi(3) y=Vj(3) b=Vj(1)".split()
    for name, formula, aliases, axis in [
        ("Diff", f"Diff({f},x,u)", g2 + ["u=Vi(2)"], 1),
        ("Diff_y", f"Diff({f},y,u)", g2 + ["u=Vj(2)"], 0),
        ("Diff_param", f"Diff({f},g,u)", g2 + ["u=Pm(1)"], 1),
        ("Diff_Diff", f"Diff(Diff({f},x,u),x,w)", g2 + ["u=Vi(2)", "w=Vi(2)"], 1),
        ("Diff_norm", "Diff(Norm2(x-y),x,u)", ["x=Vi(2)", "y=Vj(2)", "u=Vi(2)"], 1),
        ("Diff_Concat", "Diff(Concat(x*y,x),x,u)", ["x=Vi(3)", "y=Vj(3)", "u=Vi(3)"], 1),
        ("Diff_MatVecMult", "Diff(MatVecMult(A,Sin(x))*b,x,u)", ["A=Pm(9)", "x=Vi(3)", "b=Vj(1)", "u=Vi(3)"], 1),
        ("Diff_TensorProd", "Diff(TensorProd(x,x*y),x,u)", ["x=Vi(3)", "y=Vj(3)", "u=Vi(3)"], 1),
        ("Diff_complex", "Diff(ComplexMult(x,ComplexMult(x,y)),x,u)", ["x=Vi(4)", "y=Vj(4)", "u=Vi(4)"], 1),
        ("Diff_IfElse", "Diff(IfElse(t,x*y,Sin(x)),x,u)", ["x=Vi(3)", "y=Vj(3)", "t=Vj(1)", "u=Vi(3)"], 1),
        ("Divergence", f"Divergence({f},x)", g2, 1),
        ("Divergence_y", f"Divergence({f},y)", g2, 0),
        ("Divergence_field", "Divergence((x-y)/(1+SqDist(x,y)),x)", xyb[:2], 1),
        ("Divergence_sin", "Divergence(Sin(x-y)*b,x)", xyb, 1),
        ("Divergence_MatVecMult", "Divergence(MatVecMult(A,x)*b,x)", ["A=Pm(9)", "x=Vi(3)", "b=Vj(1)"], 1),
        ("Laplacian", "Laplacian(Exp(-SqDist(x,y)),x)", xyb[:2], 1),
        ("Laplacian_cauchy", "Laplacian(Inv(1+SqDist(x,y)),x)*b", xyb, 1),
        ("Laplacian_dot", "Laplacian((x|y)**2,x)", xyb[:2], 1),
        ("Laplacian_y", "Laplacian(Exp(-Norm2(x-y)),y)", xyb[:2], 0),
        ("Laplacian_sin", "Laplacian(Sum(Sin(x*y)),x)", xyb[:2], 1),
        ("Grad_of_Laplacian", "Grad(Laplacian(Exp(-SqDist(x,y)),x),x,e)", xyb[:2] + ["e=Vi(1)"], 1),
        ("GradMatrix", f"GradMatrix({f},x)", g2, 1),
        ("GradMatrix_scalar", "GradMatrix(SqDist(x,y),x)", xyb[:2], 1),
        ("GradMatrix_rect", "GradMatrix(MatVecMult(A,x*y),x)", ["A=Pm(6)", "x=Vi(3)", "y=Vj(3)"], 1),
        ("TraceOperator", "TraceOperator(MatVecMult(A,x)*b,x)", ["A=Pm(9)", "x=Vi(3)", "b=Vj(1)"], 1),
        ("TraceOperator_w", "TraceOperator(MatVecMult(A,x)*b,x,w)", ["A=Pm(9)", "x=Vi(3)", "b=Vj(1)", "w=Vi(3)"], 1),
        ("TraceOperator_row", "TraceOperator((a|x)*b,x,w)", ["a=Pm(3)", "x=Vi(3)", "b=Vj(1)", "w=Vi(3)"], 1),
        ("SumLinOperator", "SumLinOperator(MatVecMult(A,x)*b,x)", ["A=Pm(6)", "x=Vi(3)", "b=Vj(1)"], 1),
        ("SumLinOperator_l", "SumLinOperator(MatVecMult(A,x)*b,x,l)", ["A=Pm(6)", "x=Vi(3)", "b=Vj(1)", "l=Vi(2)"], 1),
        (
            "SumLinOperator_lr",
            "SumLinOperator(MatVecMult(A,x)*b,x,l,r)",
            ["A=Pm(6)", "x=Vi(3)", "b=Vj(1)", "l=Vj(2)", "r=Vi(3)"],
            1,
        ),
        ("Diff_tuple", f"Diff({f},(x,y,g),(u,w,h))", g2 + ["u=Vi(2)", "w=Vj(2)", "h=Pm(1)"], 1),
        ("AdjointOperator", "AdjointOperator(MatVecMult(A,x)*b,x,u)", ["A=Pm(6)", "x=Vi(3)", "b=Vj(1)", "u=Vi(2)"], 1),
        ("Grad_in_gradin", f"Grad(Grad({f},x,e),e,h)", g2 + ["e=Vi(2)", "h=Vi(2)"], 1),
        ("Grad_param", f"Grad({f},g,e)", g2 + ["e=Vi(2)"], 1),
        ("Grad_y_axis1", f"Grad({f},y,e)", g2 + ["e=Vi(2)"], 1),
        (
            "Grad3",
            "Grad(Grad(Grad(Exp(-SqDist(x,y)),x,IntCst(1)),x,u),y,h)",
            ["x=Vi(2)", "y=Vj(2)", "u=Vi(2)", "h=Vj(2)"],
            0,
        ),
        ("Grad_of_Diff", f"Grad(Diff({f},x,u),y,h)", g2 + ["u=Vi(2)", "h=Vi(2)"], 0),
        ("Factorize", "Factorize(Exp(-SqDist(x,y))*b+SqDist(x,y)*b,SqDist(x,y))", xyb, 1),
        ("AutoFactorize", "AutoFactorize(Exp(-SqDist(x,y))*b+SqDist(x,y)*b)", xyb, 1),
        ("hamiltonian", "(p|(Exp(-g*SqDist(x,y))*s))", "x=Vi(3) p=Vi(3) y=Vj(3) s=Vj(3) g=Pm(1)".split(), 1),
        ("dHdq", "Grad((p|(Exp(-g*SqDist(x,y))*s)),x,IntCst(1))", "x=Vi(3) p=Vi(3) y=Vj(3) s=Vj(3) g=Pm(1)".split(), 1),
        (
            "d2Hdq2",
            "Grad(Grad((p|(Exp(-g*SqDist(x,y))*s)),x,IntCst(1)),y,e)",
            "x=Vi(3) p=Vi(3) y=Vj(3) s=Vj(3) g=Pm(1) e=Vi(3)".split(),
            0,
        ),
    ]:
        simple(book, f"differential/{name}", formula, aliases, axis=axis, positive="g", tags=["differential"])
    # Grad of a formula without the variable is zero.
    simple(
        book,
        "differential/Grad_absent",
        "Grad(y*y,x,e)+0*x*y",
        ["x=Vi(3)", "y=Vj(3)", "e=Vi(3)"],
        tags=["differential"],
    )


def indices(book):
    """Index expressions i and j, and gathers with clipped or repeated entries."""
    xyb = ["x=Vi(3)", "y=Vj(3)"]
    for name, f in [
        ("self_exclusion", "IfElse(-Abs(i-j),0*SqDist(x,y),Exp(-SqDist(x,y)))"),
        ("triangular", "(j<=i)*Exp(-SqDist(x,y))"),
        ("banded", "(Abs(i-j)<=2)*SqDist(x,y)"),
        ("values", "i*x+j*y"),
    ]:
        for axis in (0, 1):
            simple(
                book, f"index/{name}_ax{axis}", f, xyb, axis=axis, tags=["index"], note="i and j are row numbers from 0"
            )
    D = Data("index/gather", M, N)
    table, k, l = (
        single(D.rng.standard_normal(12)),
        D.rng.integers(0, 3, (M, 2)).astype(float),
        D.rng.integers(0, 4, (N, 2)).astype(float),
    )
    book.case(
        "index/gather_vector",
        "Gather(A,k*4+l)",
        ["A=Pm(12)", "k=Vi(2)", "l=Vj(2)"],
        [table, k, l],
        tags=["gather"],
        note="an index of two components gathers two entries",
    )
    book.case(
        "index/gather_grad2",
        "Square(Gather(A,k*4+l))",
        ["A=Pm(12)", "k=Vi(2)", "l=Vj(2)"],
        [table, k, l],
        tags=["gather"],
        derive_steps=[{"kind": "vjp", "wrt": "A", "with": "e"}, {"kind": "vjp", "wrt": "A", "with": "w"}],
        extra={"e": D.rows("e=Vi(2)"), "w": single(D.rng.standard_normal(12))},
    )


def matrices(book):
    """Small dense matrices, row-major; diagonally dominant data."""
    for n in (1, 2, 3, 4):
        D = Data(f"matrix/{n}", M, N)
        x, y = D.rows(f"x=Vi({n * n})", 0.3), D.rows(f"y=Vj({n * n})", 0.3)
        y += 2 * np.eye(n).reshape(-1)
        b, e1, e, v = D.rows(f"b=Vj({n})"), D.rows("e=Vi(1)"), D.rows(f"e=Vi({n * n})"), D.rows(f"e=Vi({n})")
        xy = [f"x=Vi({n * n})", f"y=Vj({n * n})"]
        note = dict(tags=["matrix"])
        book.case(f"matrix/det_{n}", "MatDet(x+y)", xy, [x, y], **note)
        book.case(f"matrix/det_{n}/grad_x", "Grad(MatDet(x+y),x,e)", xy + ["e=Vi(1)"], [x, y, e1], **note)
        book.case(f"matrix/inv_{n}", "MatInv(x+y)", xy, [x, y], **note)
        book.case(f"matrix/inv_{n}/grad_x", "Grad(MatInv(x+y),x,e)", xy + [f"e=Vi({n * n})"], [x, y, e], **note)
        book.case(f"matrix/solve_{n}", "MatSolve(x+y,b)", xy + [f"b=Vj({n})"], [x, y, b], **note)
        book.case(
            f"matrix/solve_{n}/grad_b",
            "Grad(MatSolve(x+y,b),b,e)",
            xy + [f"b=Vj({n})", f"e=Vi({n})"],
            [x, y, b, v],
            axis=0,
            **note,
        )
        first = len(book.outputs)
        book.case(
            f"matrix/solve_{n}/grad_x", "Grad(MatSolve(x+y,b),x,e)", xy + [f"b=Vj({n})", f"e=Vi({n})"], [x, y, b, v], **note
        )
        B = D.rows(f"B=Vj({2 * n})")
        book.case(f"matrix/solve_{n}_2", "MatSolve(x+y,b)", xy + [f"b=Vj({2 * n})"], [x, y, B], **note)
        for op, dim, cotangent in [("MatDet", 1, e1), ("MatInv", n * n, e)]:
            book.case(
                f"matrix/{op}_{n}/grad_xy",
                f"Grad(Grad({op}(x+y),x,e),y,h)",
                xy + [f"e=Vi({dim})", f"h=Vi({n * n})"],
                [x, y, cotangent, D.rows(f"h=Vi({n * n})")],
                axis=0,
                **note,
            )
        A = (x[:, None] + y[None]).reshape(M, N, n, n)
        assert np.allclose(book.outputs[first - 4], np.linalg.inv(A).sum(1).reshape(M, -1), rtol=1e-12)
        assert np.allclose(
            book.outputs[first - 2],
            np.linalg.solve(A, np.broadcast_to(b[None, :, :, None], (M, N, n, 1)))[..., 0].sum(1),
            rtol=1e-11,
        )


# formula of x (one row per value): points, values, derivatives (None: not stated)
EDGES = [
    ("Sqrt(x)", [0, 4, -1, inf], [0, 2, nan, inf], [0, 0.25, nan, 0]),
    ("Rsqrt(x)", [0, 4, inf], [0, 0.5, 0], [0, -1 / 16, 0]),
    ("x**0.5", [0, 4, -1], [0, 2, nan], [0, 0.25, nan]),
    ("x**-0.5", [0, 4], [0, 0.5], [0, -1 / 16]),
    ("Abs(x)", [-2, -0.0, 0, 3, inf, -inf, nan], [2, 0, 0, 3, inf, inf, nan], [-1, 0, 0, 1, 1, -1, None]),
    ("Sign(x)", [-2, -0.0, 0, 3, inf, -inf], [-1, 0, 0, 1, 1, -1], [0] * 6),
    ("Step(x)", [-2, -1e-300, -0.0, 0, 3], [0, 0, 1, 1, 1], [0] * 5),
    ("ReLU(x)", [-2, -0.0, 0, 3, nan, inf, -inf], [0, 0, 0, 3, nan, inf, 0], [0, 1, 1, 1, None, 1, 0]),
    ("ClampInt(x,-1,1)", [-2, -1, 0, 1, 2, inf, -inf, nan], [-1, -1, 0, 1, 1, 1, -1, nan], [0, 1, 1, 1, 0, 0, 0, None]),
    ("DiffClampInt(x,-1,1)", [-2, -1, 0, 1, 2], [0, 1, 1, 1, 0], [0] * 5),
    ("Asin(x)", [-1, 0, 1, 2], [-math.pi / 2, 0, math.pi / 2, nan], [0, 1, 0, None]),
    ("Acos(x)", [-1, 0, 1, 2], [math.pi, math.pi / 2, 0, nan], [0, -1, 0, None]),
    ("SinXDivX(x)", [0, -0.0, 1e-9, 1], [1, 1, 1, math.sin(1)], [0, 0, None, math.cos(1) - math.sin(1)]),
    ("Sinc(x)", [0, 0.5, 1, -3], [1, 2 / math.pi, 0, 0], [0, -4 / math.pi, -1, -1 / 3 * -1]),
    ("XLogX(x)", [0, 1, math.e], [0, 0, math.e], [-inf, 1, 2]),
    ("Log(x)", [0, 1, -1, inf, 5e-324], [-inf, 0, nan, inf, math.log(5e-324)], [inf, 1, None, 0, None]),
    ("Exp(x)", [0, 709, -750, inf, -inf, nan, 710], [1, math.exp(709), 0, inf, 0, nan, inf], None),
    ("Inv(x)", [0, -0.0, 4, inf, -inf], [inf, -inf, 0.25, 0, 0], None),
    ("Floor(x)", [-1.5, -0.0, 2, 2.999, 1e300, -inf], [-2, 0, 2, 2, 1e300, -inf], [0] * 6),
    (
        "Round(x,0)",
        [0.5, 1.5, 2.5, -0.5, -2.5, 0.49999999999999994, 4503599627370497.0],
        [1, 2, 3, -1, -3, 0, 4503599627370497.0],
        [0] * 7,
    ),
    ("Round(x,2)", [0.125, -0.125, 0.375, 1.234, 99.999], [0.13, -0.13, 0.38, 1.23, 100], [0] * 5),
    ("Round(x,-1)", [5, -5, 14.9, 25], [10, -10, 10, 30], [0] * 4),
    ("Round(x,9)", [1e300, -1e20, inf, -inf, nan, 0, 1e-300], [1e300, -1e20, inf, -inf, nan, 0, 0], [0] * 7),
    ("Round(x,-22)", [1e300, 4e21, 6e21, -5e21, inf], [1e300, 0, 1e22, -1e22, inf], [0] * 5),
    ("DiffClampInt(x,0,2)", [nan, -0.0, inf, -inf], [1, 1, 0, 0], [0] * 4),
    ("Sinc(x)*2", [inf, nan], [nan, nan], None),
    ("Mod(x,IntCst(3),IntCst(0))", [-1, 7, 3, -3, 2.5], [2, 1, 0, 0, 2.5], [1] * 5),
    ("Mod(x,IntCst(3),IntCst(-1))", [-1, 1.5, 2, 5], [-1, 1.5, -1, -1], [1] * 4),
    ("Pow(x,0)", [0, 2, -3], [1, 1, 1], [0, 0, 0]),
    ("Pow(x,1)", [0, -3], [0, -3], [1, 1]),
    ("Pow(x,2)", [0, -3, 1e200], [0, 9, inf], [0, -6, 2e200]),
    ("Pow(x,-1)", [0, 2, -4], [inf, 0.5, -0.25], None),
    ("Pow(x,20)", [3, -3, 0], [3486784401, 3486784401, 0], [20 * 1162261467, -20 * 1162261467, 0]),
    ("Powf(x,0.5)", [0, 4, inf], [0, 2, inf], None),
    ("Powf(x,IntCst(0))", [0, 5], [1, 1], None),
    ("Powf(x,IntCst(2))", [-2, 3, 0], [4, 9, 0], None),
    ("Powf(x,RatCst(-1,2))", [4, 0.25], [0.5, 2], [-1 / 16, -4]),
    ("Powf(x,0.3)", [2, 1e10, -2], [2**0.3, 1e3, nan], [0.3 * 2**-0.7, 0.3e-7, None]),
    ("IfElse(x,IntCst(2),IntCst(3))", [-1, -0.0, 0, 1, nan], [3, 2, 2, 2, 3], None),
    ("x==0", [0, -0.0, 1, nan], [1, 1, 0, 0], None),
    ("x!=0", [0, -0.0, 1, nan], [0, 0, 1, 1], None),
    ("x<=0", [0, 1, nan, -inf], [1, 0, 0, 1], None),
    ("x<0", [0, 1, nan, -inf], [0, 0, 0, 1], None),
    ("Sinh(x)", [0, 1e-300, 800, -800, inf, nan], [0, 1e-300, inf, -inf, inf, nan], [1, 1, inf, inf, inf, nan]),
    ("Cosh(x)", [0, 1e-300, 800, -800, -inf, nan], [1, 1, inf, inf, inf, nan], [0, 1e-300, inf, -inf, -inf, nan]),
    ("Tanh(x)", [0, 1e-300, 40, -800, inf, -inf, nan], [0, 1e-300, 1, -1, 1, -1, nan], [1, 1, 0, 0, 0, 0, nan]),
    ("Expm1(x)", [0, 1e-20, -800, 800, inf, -inf, nan], [0, 1e-20, -1, inf, inf, -1, nan], [1, 1, 0, inf, inf, 0, nan]),
    ("Log1p(x)", [0, 1e-20, -1, -2, inf, nan], [0, 1e-20, -inf, nan, inf, nan], [1, 1, inf, -1, 0, nan]),
    ("Tan(x)*2", [0, 1e-300, inf, nan], [0, 2e-300, nan, nan], [2, 2, nan, nan]),
    ("Atan(x)", [0, inf, -inf, 1e300], [0, math.pi / 2, -math.pi / 2, math.pi / 2], [1, 0, 0, 0]),
]


def large_arguments():
    """sin, cos and tan far from 0, to 40 digits by mpmath."""
    import mpmath

    mpmath.mp.dps = 60
    points = [1e5, -3e7, 1e15, 1e22, 710.5, 2.0**60]
    return [
        (f"{name}(x)", points, [float(f(mpmath.mpf(p))) for p in points], [float(g(mpmath.mpf(p))) for p in points])
        for name, f, g in [
            ("Sin", mpmath.sin, mpmath.cos),
            ("Cos", mpmath.cos, lambda p: -mpmath.sin(p)),
            ("Tan", mpmath.tan, lambda p: 1 + mpmath.tan(p) ** 2),
        ]
    ]


def edges(book):
    for f, points, values, slopes in EDGES + large_arguments():
        column = lambda v: np.array(v, float)[:, None]
        name = f"edge/{f}"
        book.case(name, f, ["x=Vi(1)"], [column(points)], expected=column(values), check=False, tags=["edge"])
        if slopes:
            keep = [k for k, s in enumerate(slopes) if s is not None]
            x, e = column([points[k] for k in keep]), np.ones((len(keep), 1))
            book.case(
                name + "/grad",
                f"Grad({f},x,e)",
                ["x=Vi(1)", "e=Vi(1)"],
                [x, e],
                expected=column([slopes[k] for k in keep]),
                check=False,
                tags=["edge"],
            )
    plain = dict(check=False, tags=["edge"])
    col = lambda *v: np.array(v, float)[:, None]
    book.case(
        "edge/XLogX_zero_cotangent",
        "Grad(XLogX(x),x,e)",
        ["x=Vi(1)", "e=Vi(1)"],
        [col(0, 0, 1), col(0, 2, 3)],
        expected=col(0, -inf, 3),
        **plain,
    )
    # Cancellation in cos(x)/x - sin(x)/x^2 near 0; the series is -x/3 + x^3/30 - x^5/840.
    near = [1e-9, -1e-6, 1e-4, 1e-2]
    book.case(
        "edge/SinXDivX_near_zero/grad",
        "Grad(SinXDivX(x),x,e)",
        ["x=Vi(1)", "e=Vi(1)"],
        [col(*near), col(*[1] * 4)],
        expected=col(*[-p / 3 + p**3 / 30 - p**5 / 840 for p in near]),
        **plain,
    )
    zero = np.array([[0.0, 0.0], [3.0, 4.0]])
    xy = ["x=Vi(2)", "y=Vj(2)"]
    origin = np.zeros((1, 2))
    e1 = col(2, 5)
    e2 = np.array([[1.0, 2.0], [3.0, -1.0]])
    book.case("edge/Norm2", "Norm2(x-y)", xy, [zero, origin], expected=col(0, 5), **plain)
    book.case(
        "edge/Norm2/grad",
        "Grad(Norm2(x-y),x,e)",
        xy + ["e=Vi(1)"],
        [zero, origin, e1],
        expected=np.array([[0, 0], [3.0, 4.0]]),
        **plain,
    )
    book.case("edge/Normalize", "Normalize(x-y)", xy, [zero, origin], expected=np.array([[0, 0], [0.6, 0.8]]), **plain)
    # (I - u u^T) e / |x| at (3, 4), e = (3, -1): u.e = 1.
    book.case(
        "edge/Normalize/grad",
        "Grad(Normalize(x-y),x,e)",
        xy + ["e=Vi(2)"],
        [zero, origin, e2],
        expected=np.array([[0, 0], [(3 - 0.6) / 5, (-1 - 0.8) / 5]]),
        **plain,
    )
    knots = np.array([0.0, 0, 1, 2, 2])
    for k, want in [
        (0, [[0, 0, 0, 0]] * 2 + [[0, 1, 0, 0], [0, 0, 1, 0]] + [[0, 0, 0, 0]] * 2),
        # Hats; on coinciding knots half a hat, of which the end belongs to no interval.
        (1, [[0, 0, 0]] * 2 + [[1, 0, 0], [0, 1, 0]] + [[0, 0, 0]] * 2),
    ]:
        book.case(
            f"edge/BSpline_{k}",
            f"BSpline(k,x,{k})",
            ["k=Pm(5)", "x=Vi(1)"],
            [knots, col(-inf, -1, 0, 1, 2, inf)],
            expected=np.array(want, float),
            note="0 outside all knots, infinities included",
            **plain,
        )
    book.case(
        "edge/ComplexAbs/grad",
        "Grad(ComplexAbs(x),x,e)",
        ["x=Vi(2)", "e=Vi(1)"],
        [zero, e1],
        expected=np.array([[0, 0], [3.0, 4.0]]),
        **plain,
    )
    book.case(
        "edge/ComplexAngle/grad",
        "Grad(ComplexAngle(x),x,e)",
        ["x=Vi(2)", "e=Vi(1)"],
        [zero, e1],
        expected=np.array([[0, 0], [-4 / 5, 3 / 5]]),
        **plain,
    )
    yx = col(0, 0, -0.0, 1, -1, 0), col(0, -1, -1, 0, 0, 2)
    two = ["x=Vi(1)", "z=Vi(1)"]
    pi = math.pi
    book.case("edge/Atan2", "Atan2(x,z)", two, list(yx), expected=col(0, pi, -pi, pi / 2, -pi / 2, 0), **plain)
    book.case(
        "edge/Atan2/grad_x",
        "Grad(Atan2(x,z),x,e)",
        two + ["e=Vi(1)"],
        [*yx, col(*[1] * 6)],
        expected=col(0, -1, -1, 0, 0, 0.5),
        **plain,
    )
    book.case(
        "edge/Atan2/grad_z",
        "Grad(Atan2(x,z),z,e)",
        two + ["e=Vi(1)"],
        [*yx, col(*[1] * 6)],
        expected=col(0, 0, 0, -1, 1, 0),
        **plain,
    )
    lu = ["x=Vi(1)", "l=Pm(1)", "u=Pm(1)"]
    half = np.array([0.5])
    book.case(
        "edge/Clamp_equal_bounds",
        "Clamp(x,l,u)",
        lu,
        [col(0, 0.5, 1), half, half],
        expected=col(0.5, 0.5, 0.5),
        **plain,
    )
    book.case(
        "edge/Clamp_equal_bounds/grad",
        "Grad(Clamp(x,l,u),x,e)",
        lu + ["e=Vi(1)"],
        [col(0, 0.5, 1), half, half, col(1, 1, 1)],
        expected=col(0, 0, 0),
        **plain,
    )
    at = [col(0, 0.25, 0.5, 1, 1.5), np.array([0.25]), np.array([1.0])]
    e5 = col(1, 2, 3, 4, 5)
    for v, want in [("x", col(0, 2, 3, 4, 0)), ("l", col(1, 0, 0, 0, 0)), ("u", col(0, 0, 0, 0, 5))]:
        book.case(
            f"edge/Clamp_bounds/grad_{v}",
            f"Grad(Clamp(x,l,u),{v},e)",
            lu + ["e=Vi(1)"],
            [*at, e5],
            expected=want,
            **plain,
        )
    ties = np.array([[2.0, 2, 1], [1, 3, 3], [1, 1, 1]])
    for f, want, arg in [
        ("Max", [[1, 0, 0], [0, 1, 0], [1, 0, 0]], [0, 1, 0]),
        ("Min", [[0, 0, 1], [1, 0, 0], [1, 0, 0]], [2, 0, 0]),
    ]:
        book.case(
            f"edge/{f}_ties/grad",
            f"Grad({f}(x),x,e)",
            ["x=Vi(3)", "e=Vi(1)"],
            [ties, col(1, 1, 1)],
            expected=np.array(want, float),
            **plain,
        )
        book.case(f"edge/Arg{f}_ties", f"Arg{f}(x)", ["x=Vi(3)"], [ties], expected=col(*arg), **plain)
    book.case("edge/only_j", "Square(y)", ["y=Vj(3)"], [Data("only_j").rows("y=Vj(3)")], axis=0, tags=["edge"])
    book.case(
        "edge/only_parameter",
        "p*y",
        ["y=Vj(3)", "p=Pm(3)"],
        [Data("only_p").rows("y=Vj(3)"), np.array([1.0, 2, 3])],
        tags=["edge"],
    )
    book.case(
        "edge/zero",
        "Zero(3)+x*0+y*0",
        ["x=Vi(3)", "y=Vj(3)"],
        [Data("zero").rows("x=Vi(3)"), Data("zero").rows("y=Vj(3)")],
        tags=["edge"],
    )
    book.case(
        "edge/unused_alias",
        "x*y",
        ["x=Vi(3)", "y=Vj(3)", "z=Vj(2)"],
        [Data("z").rows("x=Vi(3)"), Data("z").rows("y=Vj(3)"), Data("z").rows("z=Vj(2)")],
        tags=["edge"],
    )
    book.case(
        "edge/nan_sum", "x*y", ["x=Vi(1)", "y=Vj(1)"], [col(1, 2), col(1, nan, 3)], expected=col(nan, nan), **plain
    )


def add(book):
    for part in (unary, binary, infix, ternary, vector, differential, indices, matrices, edges):
        part(book)

"""Evaluates, checks and writes golden cases.

`manifest.json` lists the cases; `arrays.npz` holds their arrays, each distinct
array once. The field `arrays` of a case maps the roles of its arrays (arg0,
arg1, … in the order of the aliases, the further inputs of `derive`, ranges0..5
where `ranges` is not null, `out`, and `out_idx` for reductions that return a
value and an index) to names in the npz.
"""

import json
import pathlib
import re
import zlib

import numpy as np

from dual import finite_differences, ld
from reduction import Reduction, derive

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
DIFFERENTIATED = re.compile(r"\b(Grad|Diff|GradMatrix|Divergence|Laplacian|TraceOperator|AdjointOperator|SumLinOperator)\(")
# Steps of the confirming differences: large ones round less, small ones keep
# away from kinks and high derivatives. The best must agree.
STEPS = [2.0**-9, 2.0**-12, 2.0**-15]


def relative_gap(a, b):
    """max |a - b| / max(|b|, 1e-3), equal infinities and NaN counting as equal."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    assert a.shape == b.shape, (a.shape, b.shape)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(a - b) / np.maximum(np.abs(b), 1e-3))
    return float(np.max(gap, initial=0.0))


class Book:
    """Collects cases of one run."""

    def __init__(self):
        self.cases, self.outputs, self.arrays = [], [], {}
        self.names = set()

    def case(
        self,
        name,
        formula,
        aliases,
        args,
        *,
        op="Sum",
        axis=1,
        opt_arg=None,
        formula2=None,
        derive_steps=None,
        extra=None,
        ranges=None,
        batch=None,
        dtype="float64",
        rtol=None,
        expected=None,
        check=None,
        tags=(),
        note="",
        sum_scheme="auto",
        dtype_acc="auto",
        **fields,
    ):
        """Adds a case.

        args: arrays in the order of the aliases, in the precision of the case;
        expected: a value (or pair value, index) from elsewhere, compared with
        the dense evaluator; None takes the evaluator's. check: whether finite
        differences must confirm the derivatives (default: where there are any).
        """
        assert name not in self.names, name  # names are unique
        self.names.add(name)
        extra = extra or {}
        reduction = Reduction(formula, aliases, op, axis, opt_arg, formula2, ranges)
        env = {v.name: ld(a) for v, a in zip(reduction.vars.values(), args, strict=True)}
        env |= {k: ld(a) for k, a in extra.items()}
        function = derive(reduction, derive_steps)
        gap = None
        differentiated = bool(derive_steps) or DIFFERENTIATED.search(formula) is not None
        # Gaps of an outside value and of finite differences are both to be small.
        if expected is None or check is not False:
            value = function.value(env)
            index = None
            if isinstance(value, tuple):
                value, index = value
            if expected is not None:
                want = expected if isinstance(expected, tuple) else (expected, None)
                gap = relative_gap(value, want[0])
                assert gap < 1e-11, (name, "outside value", gap)
                assert want[1] is None or np.array_equal(index, want[1]), name
        if expected is not None:
            value, index = expected if isinstance(expected, tuple) else (expected, None)
        if check is None:
            check = differentiated and expected is None
        if check:
            gap = min(self.gap(function, env, value, derive_steps, name, h) for h in STEPS)
            assert gap < 1e-9, (name, "finite differences", gap)
        value = np.asarray(value)
        stored = np.int64 if value.dtype.kind == "i" else np.float32 if dtype == "float32" else np.float64
        arrays = {f"arg{k}": a for k, a in enumerate(args)} | extra
        arrays = {k: np.asarray(a, np.float32 if dtype != "float64" else np.float64) for k, a in arrays.items()}
        for k, r in enumerate(ranges or []):
            arrays[f"ranges{k}"] = np.asarray(r, np.int64)
        # Float16 data lie in float32 arrays, expected values always in float64.
        arrays["out"] = value.astype(np.int64 if stored is np.int64 else np.float64)
        if index is not None:
            arrays["out_idx"] = np.asarray(index, np.int64)
        m, n = reduction.sizes(env)
        entry = {
            "name": name,
            "file": "arrays.npz",
            "kind": fields.pop("kind", "genred"),
            "formula": formula,
            "aliases": list(aliases),
            "reduction_op": op,
            "axis": axis,
            "opt_arg": opt_arg,
            "formula2": formula2,
            "dtype": dtype,
            "sum_scheme": None if sum_scheme == "auto" else sum_scheme,
            "dtype_acc": None if dtype_acc == "auto" else dtype_acc,
            "M": m,
            "N": n,
            "batch": batch,
            "ranges": "blocks" if ranges else None,
            "varinvalias": fields.pop("varinvalias", None),
            "alpha": fields.pop("alpha", None),
            "eps": fields.pop("eps", None),
            "nargs": len(args),
            "derive": derive_steps,
            "out_shape": list(value.shape),
            "rtol": rtol if rtol is not None else {"float64": 1e-10, "float32": 3e-5, "float16": 6e-4}[dtype],
            "second_method_gap": None if gap is None else float(f"{gap:.1e}"),
            "tags": list(tags),
            "note": note,
            "arrays": {role: self.store(a) for role, a in arrays.items()},
            **fields,
        }
        # A field that is absent is null (sum_scheme and dtype_acc: "auto").
        self.cases.append({k: v for k, v in entry.items() if v not in (None, "", [])})
        self.outputs.append(arrays["out"])
        return value

    @staticmethod
    def gap(function, env, value, derive_steps, name, step):
        """Discrepancy between a value and the one of finite differences."""
        with finite_differences(step), np.errstate(all="ignore"):
            if derive_steps and derive_steps[-1]["kind"] == "vjp":
                # One random direction is enough: <gradient, d> against a difference along d.
                d = ld(random(name).uniform(0.5, 1.5, np.shape(value)))
                return float(abs(function.paired(env, d) - (value * d).sum()) / np.abs(value * d).sum())
            return relative_gap(function.value(env), value)

    def store(self, a):
        """Name of an array in the container; equal arrays share one."""
        key = (a.dtype.str, a.shape, a.tobytes())
        return self.arrays.setdefault(key, (f"a{len(self.arrays):04}", a))[0]

    def write(self):
        ROOT.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(ROOT / "arrays.npz", **dict(self.arrays.values()))
        lines = ",\n  ".join(json.dumps(dict(id=k, **c)) for k, c in enumerate(self.cases))
        (ROOT / "manifest.json").write_text('{\n "format": 1,\n "cases": [\n  ' + lines + "\n ]\n}\n")
        size = sum(f.stat().st_size for f in ROOT.glob("*.*"))
        print(f"{len(self.cases)} cases, {len(self.arrays)} arrays, {size / 1e6:.2f} MB")


def random(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def single(a):
    """Rounds to float32, so that a case is the same in float32 and float64."""
    return np.asarray(a, np.float32).astype(np.float64)


class Data:
    """Named random arrays, rounded to float32."""

    def __init__(self, name, m=17, n=31):
        self.rng, self.m, self.n = random(name), m, n

    def rows(self, alias, scale=1.0, positive=False, batch=()):
        from reduction import Variable

        v = Variable(alias, 0)
        shape = tuple(batch) + {0: (self.m, v.dim), 1: (self.n, v.dim), 2: (v.dim,)}[v.category]
        a = self.rng.uniform(0.5, 1.5, shape) if positive else self.rng.standard_normal(shape)
        return single(scale * a)

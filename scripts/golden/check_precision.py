"""Evaluates the written cases in plain float64 or float32 (GOLDEN_FLOAT).

A tolerance that ordinary arithmetic of the case's type cannot reach would
blame an implementation for rounding. Compensated and f64-accumulated cases are
left out: reaching them is what they test.
"""

import json
import os
import sys

import numpy as np

from cases import ROOT, relative_gap
from dual import ld
from reduction import Reduction, derive

# Values written out by hand, where this evaluator is too simple.
BY_HAND = {
    "edge/Round(x,0)": "floor(x + 1/2) rounds just below 1/2 and above 2^52",
    "edge/Powf(x,IntCst(0))": "exp(b log a)",
    "edge/Powf(x,IntCst(2))": "exp(b log a)",
    "edge/XLogX_zero_cotangent": "zero times infinity",
    "edge/SinXDivX_near_zero/grad": "cancellation in cos(x)/x - sin(x)/x^2",
    "ranges/LogSumExp/vjp_y": "zero times NaN in rows without a pair",
}


def main():
    dtype = os.environ["GOLDEN_FLOAT"]
    z = np.load(ROOT / "arrays.npz")
    worst, failed, count = {}, [], 0
    for c in json.loads((ROOT / "manifest.json").read_text())["cases"]:
        plain = "sum_scheme" not in c and "dtype_acc" not in c and c["kind"] == "genred"
        half = c["dtype"] == "float16" and dtype == "float32"
        if not plain or {"large", "empty"} & set(c["tags"]) or not (c["dtype"] == dtype or half):
            continue
        a = {role: z[name] for role, name in c["arrays"].items()}
        ranges = [a[f"ranges{k}"] for k in range(6)] if "ranges" in c else None
        r = Reduction(
            c["formula"], c["aliases"], c["reduction_op"], c["axis"], c.get("opt_arg"), c.get("formula2"), ranges
        )
        env = {v.name: ld(a[f"arg{k}"]) for k, v in enumerate(r.vars.values())}
        env |= {s["with"]: ld(a[s["with"]]) for s in c.get("derive", [])}
        value = derive(r, c.get("derive")).value(env)
        value, index = value if isinstance(value, tuple) else (value, None)
        gap = relative_gap(value, a["out"])
        count += 1
        share = gap / c["rtol"]
        worst[c["name"]] = share
        if c["name"] in BY_HAND:
            del worst[c["name"]]
        elif not share <= 1 or (index is not None and not np.array_equal(index, a["out_idx"])):
            failed.append((c["name"], gap, c["rtol"]))
    close = sorted(worst.items(), key=lambda p: -p[1])[:8]
    print(f"{count} cases in {dtype}; largest shares of the tolerance: {[(n, float(f'{s:.2g}')) for n, s in close]}")
    for f in failed:
        print("out of reach:", *f)
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())

"""Every row of benches/rows.json: ours, kernels by hand, and other libraries, interleaved in one run.

    python3 scripts/bench/compare.py [--rows gaussian,nearest] [--types f32] [--only ours,pykeops]
    python3 scripts/bench/compare.py --before v0.1.0

The second form times ours as it was at an earlier revision in the same rounds (its rows must be the
same) and says of each row whether ours became slower by more than 5 %.

Makes a virtual environment under target/ with pykeops, NumPy, scikit-learn and faiss-cpu from PyPI
(pykeops compiles with g++ on the first call of a formula, about ten seconds each), builds the
benchmark `goals`, checks that all contenders agree, times them in turn and prints a table of
nanoseconds per pair (or seconds per call), ratios and goals. A ratio is the smaller of that of the
minima and that of the medians: on a busy machine long runs are never left alone, short ones are.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "target" / "compare"
PACKAGES = ["numpy", "pykeops", "scikit-learn", "faiss-cpu"]

# How each contender is called in the table: the process that runs it, and its environment there.
WORKERS = {
    "ours": ("ours", {}),
    "before": ("before", {}),
    "ours, AVX2": ("ours", {}),
    "by hand": ("ours", {}),
    "by hand, insertion": ("ours", {}),
    "by hand, group minima": ("ours", {}),
    "by hand, differences": ("ours", {}),
    "by hand, inner products": ("ours", {}),
    "pykeops": ("pykeops", {}),
    # KeOps' code as a compiler would vectorise it: what its users could have, but do not by default.
    "native": ("native", {"CXXFLAGS": "-march=native -ffast-math"}),
    "numpy": ("python", {}),
    "sklearn": ("python", {}),
    "faiss": ("python", {}),
}

# Rows of so many pairs that the time for one of them is what counts.
PER_PAIR = ("reduce", "ranges")


def rows():
    for row in json.loads((ROOT / "benches" / "rows.json").read_text()):
        count, size = row.get("clusters", (0, 0))
        row.setdefault("kind", "reduce")
        row.setdefault("reduction", "Sum")
        row["rows"] = [count * size] * 2 if count else row.get("rows", [10_000, 10_000])
        yield row


def arguments(row):
    """Name, category and dimension of every argument; the cotangent of a gradient last."""
    for argument in row["arguments"]:
        name, category, dim = argument.replace("(", " = ").rstrip(")").split(" = ")
        yield name, category, int(dim)
    if "gradient" in row:
        yield "e", "Vi", 1


# In the virtual environment, one process per contender.


def keops_runner(row, dtype, data):
    """A run of pykeops."""
    from pykeops.numpy import Genred, KernelSolve

    formula = row["formula"]
    if "gradient" in row:
        formula = f"Grad({formula}, {row['gradient']}, e)"
    aliases = [f"{name} = {category}({dim})" for name, category, dim in arguments(row)]
    if row["kind"] == "solve":
        solve = KernelSolve(formula, aliases, row["variable"], axis=1)
        options = {"alpha": row["ridge"], "eps": row["tolerance"][dtype], "backend": "CPU"}
        return lambda: solve(*data, **options)
    if row["kind"] == "lazy":
        x, y, g, b = data
        from pykeops.numpy import LazyTensor

        def call():
            d2 = ((LazyTensor(x[:, None, :]) - LazyTensor(y[None, :, :])) ** 2).sum(-1)
            return (-LazyTensor(g) * d2).exp() @ b

        return call
    options = {"reduction_op": row["reduction"], "axis": 1}
    if "k" in row:
        options["opt_arg"] = row["k"]
    if row["kind"] == "first":
        import time

        # Every call with another constant, never seen in this or an earlier process.
        new = lambda: formula.replace("{new}", f"RatCst({time.time_ns() % 10**8},{10**8})")
        return lambda: Genred(new(), aliases, **options)(*data, backend="CPU")
    reduce = Genred(formula, aliases, **options)
    return lambda: reduce(*data, backend="CPU")


def dense_runner(row, dtype, data):
    """The reduction with a dense matrix in NumPy."""
    import numpy as np

    if row["kind"] not in ("reduce", "call") or row["formula"] != "Exp(-g * SqDist(x, y)) * b" or "gradient" in row:
        return None
    x, y, g, b = data

    def run():
        k = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T
        k *= -g
        np.exp(k, out=k)
        return k @ b

    return run


def nearest_runner(contender, row, dtype, data):
    """Nearest neighbours by brute force in scikit-learn or faiss."""
    if row["reduction"] != "ArgKMin":
        return None
    x, y = data
    if contender == "sklearn":
        from sklearn.neighbors import NearestNeighbors

        fitted = NearestNeighbors(n_neighbors=row["k"], algorithm="brute").fit(y)
        return lambda: fitted.kneighbors(x, return_distance=False)
    if dtype != "f32":
        return None
    import faiss

    def run():
        index = faiss.IndexFlatL2(y.shape[1])
        index.add(y)
        return index.search(x, row["k"])[1]

    return run


def work():
    """Answers requests like those of `benches/goals.rs`."""
    import time
    from contextlib import redirect_stdout

    import numpy as np

    answers, sys.stdout = sys.stdout, sys.stderr
    all_rows = {row["name"]: row for row in rows()}
    known = {}
    for line in sys.stdin:
        request = json.loads(line)
        row, dtype, contender = (request[key] for key in ("row", "dtype", "contender"))
        row = all_rows[row]
        answer = {"seconds": [], "pairs": row["rows"][0] * row["rows"][1], "error": None}
        try:
            key = (row["name"], dtype, contender)
            if key not in known:
                data = [np.load(f"{request['data']}/{name}.npy") for name, _, _ in arguments(row)]
                make = {"numpy": dense_runner, "pykeops": keops_runner, "native": keops_runner}
                if row["kind"] in ("ranges", "compile"):
                    known[key] = None
                elif contender in make:
                    known[key] = make[contender](row, dtype, data)
                else:
                    known[key] = nearest_runner(contender, row, dtype, data)
            run = known[key]
            if run and request.get("result"):
                np.save(request["result"], run())
            elif run:
                start = time.perf_counter()
                begin = start
                many = 1
                while not answer["seconds"] or time.perf_counter() - begin < request["seconds"]:
                    start = time.perf_counter()
                    for _ in range(many):
                        run()
                    once = (time.perf_counter() - start) / many
                    answer["seconds"].append(once)
                    many = max(1, min(1000, int(1e-3 / once)))
        except Exception as e:  # A contender that fails is reported, the others go on.
            answer["error"] = f"{type(e).__name__}: {e}"
        print(json.dumps(answer), file=answers, flush=True)


# The driver.


def benchmark(tree=ROOT):
    """Builds the benchmark of a checkout; its path."""
    command = ["cargo", "bench", "--locked", "--bench", "goals", "--no-run", "--message-format=json"]
    out = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, check=True, text=True).stdout
    messages = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    made = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "goals"]
    return made[-1]


def benchmark_of(revision):
    """Builds the benchmark of an earlier revision, in a work tree of its own; its path."""
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    commit = git("rev-parse", "--verify", f"{revision}^{{commit}}").strip()
    tree = TARGET / "before" / commit[:12]
    if not tree.exists():
        git("worktree", "prune")
        git("worktree", "add", "--detach", str(tree), commit)
    return benchmark(tree)


class Workers:
    """A process for each kind of contender, started when first needed."""

    def __init__(self, options):
        self.processes = {}
        self.threads = str(options.threads)
        self.before = options.before

    def ask(self, contender, **request):
        name, extra = WORKERS[contender]
        if name not in self.processes:
            command = [sys.executable, __file__, "--work"]
            if name == "ours":
                command = [benchmark(), "--serve"]
            elif name == "before":
                command = [benchmark_of(self.before), "--serve"]
            env = os.environ | extra | {
                "OMP_NUM_THREADS": self.threads,
                "OPENBLAS_NUM_THREADS": self.threads,
                "RAYON_NUM_THREADS": self.threads,
                # Threads of idle contenders must not spin beside the one that runs.
                "OMP_WAIT_POLICY": "passive",
                "KEOPS_CACHE_FOLDER": str(TARGET / f"keops-{name}"),
            }
            pipe = subprocess.PIPE
            self.processes[name] = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, text=True, env=env, cwd=ROOT
            )
        process = self.processes[name]
        asked = "ours" if name == "before" else contender
        print(json.dumps(request | {"contender": asked}), file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{name} ended with status {process.wait()}")
        answer = json.loads(line)
        if answer["error"]:
            print(f"{request['row']} {request['dtype']} {contender}: {answer['error']}", file=sys.stderr)
        return answer


def save_arguments(row, dtype):
    """Points uniform in the unit cube, weights around zero."""
    import numpy as np

    folder = TARGET / "data" / f"{row['name']}-{dtype}"
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    sizes = {"Vi": row["rows"][:1], "Vj": row["rows"][1:], "Pm": []}
    for name, category, dim in arguments(row):
        values = random.uniform(size=[*sizes[category], dim]) - 0.5 * (name in "beps")
        if name == "g":
            values[:] = row.get("g", 1)
        if row["kind"] == "solve" and name == "y":
            values = np.load(folder / "x.npy")
        np.save(folder / f"{name}.npy", values.astype({"f32": "f4", "f64": "f8"}[dtype]))
    return folder


def disagreement(a, b):
    """Largest difference over largest value; for indices, the part of rows that differ."""
    import numpy as np

    a, b = (np.load(p).reshape(-1) for p in (a, b))
    if a.dtype.kind == "i" or b.dtype.kind == "i":
        return float(np.mean(a != b.astype(a.dtype)))
    return float(np.abs(a - b).max() / np.abs(b).max())


def median(values):
    return sorted(values)[len(values) // 2]


def measure(row, dtype, contenders, workers, options):
    """Seconds per pair of every contender (per run where there are no pairs to speak of)."""
    folder = save_arguments(row, dtype)
    ask = lambda c, **more: workers.ask(
        c, row=row["name"], dtype=dtype, data=str(folder), seconds=options.seconds, **more
    )
    differ = {}
    if row["kind"] in ("reduce", "ranges", "call", "lazy"):
        results = {}
        for c in contenders:
            path = folder / f"result-{c.replace(' ', '-').replace(',', '')}.npy"
            path.unlink(missing_ok=True)
            if not c.startswith("by hand"):
                ask(c, result=str(path))
            if path.exists():
                results[c] = path
        against = next((results[c] for c in ("pykeops", "native", "numpy") if c in results), None)
        differ = {c: disagreement(p, against) for c, p in results.items() if against}
    if row["kind"] == "ranges":
        # What a pair costs without ranges, in the same rounds.
        dense = {key: row[key] for key in ("arguments", "g")}
        dense |= {"name": "gaussian", "kind": "reduce", "rows": [10_000, 10_000]}
        dense = dict(row="gaussian", dtype=dtype, data=str(save_arguments(dense, dtype)))
        contenders = [*contenders, "dense"]
    seconds = {}
    slow = row["kind"] in ("first", "solve")
    for round in range(options.rounds):
        for c in contenders:
            if slow and round and not (c.startswith("ours") or c == "before"):
                continue
            if c == "dense":
                answer = workers.ask("ours", **dense, seconds=options.seconds)
            else:
                answer = ask(c)
            if answer["seconds"]:
                scale = answer["pairs"] if row["kind"] in PER_PAIR else 1
                seconds.setdefault(c, []).extend(s / scale for s in answer["seconds"])
    return seconds, differ


def report(row, dtype, seconds, differ):
    """Prints the line of a row."""
    per_pair = row["kind"] in PER_PAIR
    show = lambda s: f"{s * 1e9:.4g} ns" if per_pair else f"{s * 1e3:.4g} ms"
    best = {c: (min(s), median(s)) for c, s in seconds.items()}
    ours = best.pop("ours", None)
    if not ours:
        return
    ratio = {c: min(s[0] / ours[0], s[1] / ours[1]) for c, s in best.items()}
    cells, verdicts = [], []
    for c, r in ratio.items():
        goal = row.get("goals", {}).get(c, {}).get(dtype)
        text = f"{c} {show(best[c][0])}: {r:.3g}×"
        if goal:
            verdicts.append(f"{'met' if r >= goal else 'SHORT'} {c} {r:.3g}/{goal}")
        if differ.get(c, 0) > 1e-3:
            text += f" (differs by {differ[c]:.1e})"
        cells.append(text)
    if "before" in best:
        # Slower only if both the minimum and the median are: each alone moves by some percent.
        now_over_before = min(ours[0] / best["before"][0], ours[1] / best["before"][1])
        if now_over_before > 1.05:
            verdicts.append(f"SLOWER than before by {(now_over_before - 1) * 100:.0f} %")
    limit = row.get("goals", {}).get("seconds")
    if limit:
        verdicts.append(f"{'met' if ours[1] <= limit else 'SHORT'} {show(ours[1])} of {show(limit)}")
    error = f", {differ['ours']:.0e} off" if "ours" in differ else ""
    print(
        f"| {row['title']} | {dtype} | {show(ours[0])} ({show(ours[1])}{error}) | "
        f"{'; '.join(cells)} | {'; '.join(verdicts)} |",
        flush=True,
    )


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return "unknown processor"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    listed = lambda text: [word.strip() for word in text.split(";" if ";" in text else ",")]
    parser.add_argument("--rows", type=listed, help="names in benches/rows.json; all by default")
    parser.add_argument("--types", type=listed, default=["f32", "f64"])
    parser.add_argument("--only", type=listed, help=f"contenders, apart by `;`: {'; '.join(WORKERS)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="a contender's time per round")
    parser.add_argument("--before", help="an earlier revision to time beside; no other contender by default")
    options = parser.parse_args()
    workers = Workers(options)
    if options.before:
        contenders = [*dict.fromkeys(["ours", "before", *(options.only or [])])]
    else:
        contenders = options.only or [name for name in WORKERS if name != "before"]
    print(f"{processor()}, {options.threads} threads\n")
    print("| row | type | ours: minimum (median, difference from pykeops) | others: minimum, ratio | goals |")
    print("|---|---|---|---|---|")
    for row in rows():
        for dtype in options.types:
            if options.rows and row["name"] not in options.rows:
                continue
            seconds, differ = measure(row, dtype, contenders, workers, options)
            report(row, dtype, seconds, differ)


if __name__ == "__main__":
    python = TARGET / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(TARGET / "venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    if Path(sys.prefix).resolve() != (TARGET / "venv").resolve():
        os.execv(python, [str(python), *sys.argv])
    work() if sys.argv[1:] == ["--work"] else main()

"""Golden cases of LDDMM: shooting, its gradients, attachments, registration costs.

Dense numpy code in extended precision. Gradients are taken by the complex
step, which is exact to rounding because every function below is analytic in
its arguments (no conjugate, no modulus), and are confirmed by central
differences. Conventions are those of `manifest.json`, written at the end.
"""

import json
import zlib

import mpmath
import numpy as np

from cases import ROOT, single

LD, CLD = np.longdouble, np.clongdouble
OUT = ROOT / "lddmm"
SCHEMES = ["euler", "midpoint", "heun", "ralston", "rk4", "implicit_midpoint"]


def rng_of(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


# -- kernels of D = |x - y|^2, and their derivatives in D ----------------------


def kernel(spec):
    if spec["type"] == "sum_gaussian":
        parts = [(LD(w), LD(s) ** 2) for w, s in zip(spec["weights"], spec["sigmas"])]
        return (
            lambda D: sum(w * np.exp(-D / s2) for w, s2 in parts),
            lambda D: sum(-w / s2 * np.exp(-D / s2) for w, s2 in parts),
        )
    s2 = LD(spec["sigma"]) ** 2
    return {
        "gaussian": (lambda D: np.exp(-D / s2), lambda D: -np.exp(-D / s2) / s2),
        "cauchy": (lambda D: 1 / (1 + D / s2), lambda D: -1 / (s2 * (1 + D / s2) ** 2)),
        "inverse_multiquadric": (lambda D: (1 + D / s2) ** LD(-0.5), lambda D: -((1 + D / s2) ** LD(-1.5)) / (2 * s2)),
    }[spec["type"]]


# Arrays carry a leading batch axis: (B, n, d).


def pairs(x, y):
    r = x[:, :, None] - y[:, None]
    return r, (r * r).sum(-1)


def dots(a, b):
    return np.einsum("bid,bjd->bij", a, b)


def hamiltonian(k, q, p):
    _, D = pairs(q, q)
    return (k[0](D) * dots(p, p)).sum((1, 2)) / 2


def flow(k, state):
    """Velocities of (q, p, x): q' = H_p, p' = -H_q, x' = K(x, q) p."""
    q, p, x = state
    r, D = pairs(q, q)
    qdot = np.einsum("bij,bjd->bid", k[0](D), p)
    pdot = -2 * np.einsum("bij,bijd->bid", k[1](D) * dots(p, p), r)
    xdot = np.einsum("bij,bjd->bid", k[0](pairs(x, q)[1]), p)
    return qdot, pdot, xdot


def axpy(s, h, v):
    return tuple(a + h * b for a, b in zip(s, v))


def step(scheme, f, y, h):
    if scheme == "implicit_midpoint":
        v = f(y)
        for _ in range(200):  # fixed point; contraction of order h
            new = f(axpy(y, h / 2, v))
            change = max(np.abs(a - b).max(initial=0) for a, b in zip(new, v))
            v = new
            if change == 0:
                break
        return axpy(y, h, v)
    k1 = f(y)
    if scheme == "euler":
        return axpy(y, h, k1)
    if scheme == "midpoint":
        return axpy(y, h, f(axpy(y, h / 2, k1)))
    if scheme == "heun":
        k2 = f(axpy(y, h, k1))
        return axpy(axpy(y, h / 2, k1), h / 2, k2)
    if scheme == "ralston":
        k2 = f(axpy(y, 2 * h / 3, k1))
        return axpy(axpy(y, h / 4, k1), 3 * h / 4, k2)
    k2 = f(axpy(y, h / 2, k1))
    k3 = f(axpy(y, h / 2, k2))
    k4 = f(axpy(y, h, k3))
    for w, v in zip((1, 2, 2, 1), (k1, k2, k3, k4)):
        y = axpy(y, h * w / 6, v)
    return y


def shoot(k, q, p, x, scheme, nt):
    y, path = (q, p, x), [(q, p, x)]
    for _ in range(nt):
        y = step(scheme, lambda s: flow(k, s), y, LD(1) / nt)
        path.append(y)
    return path


# -- derivatives ---------------------------------------------------------------


def gradient(f, arrays):
    """Gradient of a function of batched arrays to (B,), by the complex step."""
    h = LD(10) ** -1000
    sizes = [a.size for a in arrays]
    total = sum(sizes)
    batch = [np.broadcast_to(a.astype(CLD), (total,) + a.shape).copy() for a in arrays]
    start = 0
    for a, size in zip(batch, sizes):
        rows = a.reshape(total, -1)
        rows[start + np.arange(size), np.arange(size)] += 1j * h
        start += size
    g = f(*batch).imag / h
    g = [v.reshape(a.shape) for v, a in zip(np.split(g, np.cumsum(sizes)[:-1]), arrays)]
    # Confirmed along one direction by fourth-order central differences.
    rng = np.random.default_rng(0)
    u = [rng.standard_normal(a.shape).astype(LD) for a in arrays]
    e = LD(2) ** -12
    at = lambda t: f(*[(a + t * e * v)[None] for a, v in zip(arrays, u)])[0]
    slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * e)
    exact = sum((a * b).sum() for a, b in zip(g, u))
    size = sum(np.abs(a * b).sum() for a, b in zip(g, u))
    assert abs(slope - exact) < 1e-8 * size, (slope, exact, size)
    return g


# -- attachments ---------------------------------------------------------------


def cells(v, faces):
    """Centres, lengths or areas, and unit directions or normals."""
    corners = [v[:, faces[:, c]] for c in range(faces.shape[1])]
    centre = sum(corners) / len(corners)
    if len(corners) == 2:
        n = corners[1] - corners[0]
    else:
        a, b = corners[1] - corners[0], corners[2] - corners[0]
        cross = [
            a[..., (i + 1) % 3] * b[..., (i + 2) % 3] - a[..., (i + 2) % 3] * b[..., (i + 1) % 3] for i in range(3)
        ]
        n = np.stack(cross, -1) / 2
    length = np.sqrt((n * n).sum(-1))
    return centre, length, n / length[..., None]


def orientation(spec):
    sn2 = LD(spec.get("sigma_n", 1)) ** 2
    return {
        "current": lambda s: s,
        "varifold": lambda s: s * s,
        "measure": lambda s: 0 * s + 1,
        "varifold_oriented": lambda s: np.exp(2 * (s - 1) / sn2),
        "varifold_unoriented_gauss": lambda s: np.exp(2 * (s * s - 1) / sn2),
    }[spec["type"]]


def product(spec, s, t):
    k = kernel(spec.get("kernel", {"type": "gaussian", "sigma": spec.get("sigma")}))[0]
    (cs, ls, us), (ct, lt, ut) = s, t
    return (k(pairs(cs, ct)[1]) * orientation(spec)(dots(us, ut)) * ls[:, :, None] * lt[:, None]).sum((1, 2))


def attachment(spec, v, faces, w, target):
    """A(v) against the target, and its terms <S,S>, <T,T>, <S,T>."""
    if spec["type"] == "landmark":
        return ((v - w) ** 2).sum((1, 2)), (None, None, None)
    s, t = cells(v, faces), cells(np.broadcast_to(w, v.shape[:1] + w.shape[-2:]), target)
    ss, tt, st = product(spec, s, s), product(spec, t, t), product(spec, s, t)
    return ss + tt - 2 * st, (ss, tt, st)


def sinkhorn(x, y, blur):
    """Sinkhorn divergence of points with cell weights; cost |x - y|^2 / 2,
    eps = blur^2, potentials iterated to their fixed point."""
    eps = LD(blur) ** 2

    def softmin(c, f, w):  # -eps log sum_j w_j exp((f_j - c_ij) / eps)
        z = (f[None] - c) / eps + np.log(w)[None]
        m = z.max(1, keepdims=True)
        return -eps * (m[:, 0] + np.log(np.exp(z - m).sum(1)))

    def ot(a, xa, b, xb):
        c = ((xa[:, None] - xb[None]) ** 2).sum(-1) / 2
        f, g = np.zeros(len(a), LD), np.zeros(len(b), LD)
        for _ in range(20000):
            new_f = softmin(c, g, b)
            new_g = softmin(c.T, new_f, a)
            change = max(np.abs(new_f - f).max(), np.abs(new_g - g).max())
            f, g = new_f, new_g
            if change < 1e-17:
                return (a * f).sum() + (b * g).sum()
        raise AssertionError("no convergence")

    (a, xa), (b, xb) = x, y
    return ot(a, xa, b, xb) - ot(a, xa, a, xa) / 2 - ot(b, xb, b, xb) / 2


# -- shapes ----------------------------------------------------------------------


def curve(rng, n, d):
    t = 2 * np.pi * np.arange(n) / n
    v = np.stack([np.cos(t), np.sin(t)] + [0.3 * np.cos(2 * t)] * (d - 2), -1)
    return single(v + 0.15 * rng.standard_normal(v.shape)), np.stack([np.arange(n), (np.arange(n) + 1) % n], -1)


def surface(rng):
    """A perturbed icosahedron: 12 vertices, 20 triangles, oriented outwards."""
    g = (1 + 5**0.5) / 2
    v = np.array([p for s in (1, -1) for t in (g, -g) for p in [(0, s, t), (s, t, 0), (t, 0, s)]])
    faces = []
    for i in range(12):
        for j in range(i + 1, 12):
            for k in range(j + 1, 12):
                sides = [np.linalg.norm(v[a] - v[b]) for a, b in ((i, j), (j, k), (i, k))]
                if max(sides) < 2.1:
                    out = np.dot(np.cross(v[j] - v[i], v[k] - v[i]), v[i] + v[j] + v[k]) > 0
                    faces.append((i, j, k) if out else (i, k, j))
    assert len(faces) == 20
    v = v / np.linalg.norm(v[0])
    return single(v * (1 + 0.3 * rng.random(3)) + 0.1 * rng.standard_normal(v.shape)), np.array(faces)


# -- the sets --------------------------------------------------------------------

GAUSSIAN = {"type": "gaussian", "sigma": 0.5}
KERNELS = [
    GAUSSIAN,
    {"type": "cauchy", "sigma": 0.7},
    {"type": "inverse_multiquadric", "sigma": 0.6},
    {"type": "sum_gaussian", "weights": [1.0, 0.5, 0.25], "sigmas": [0.8, 0.4, 0.2]},
]
SHOTS = [(2, 2, GAUSSIAN), (3, 2, KERNELS[1])] + [(d, 5, k) for d in (2, 3) for k in KERNELS]
NT = 8


def shooting():
    npz, entries = {}, []
    for case, (d, n, spec) in enumerate(SHOTS):
        rng, k = rng_of(f"shooting/{case}"), kernel(spec)
        inputs = {
            name: single(rng.standard_normal((m, d)) * scale)
            for name, m, scale in [
                ("q0", n, 0.5),
                ("p0", n, 0.5),
                ("x0", 3, 0.5),
                ("wq", n, 1),
                ("wp", n, 1),
                ("wx", 3, 1),
            ]
        }
        q, p, x, wq, wp, wx = (a.astype(LD) for a in inputs.values())
        key = f"c{case:02}"
        arrays = dict(inputs)
        arrays["qdot0"], arrays["pdot0"], _ = (a[0] for a in flow(k, (q[None], p[None], x[None])))
        # The flow is the Hamiltonian one: H_p and -H_q by the complex step.
        hq, hp = gradient(lambda q, p: hamiltonian(k, q, p), [q, p])
        assert np.abs(arrays["qdot0"] - hp).max() < 1e-17 and np.abs(arrays["pdot0"] + hq).max() < 1e-17
        schemes = {}
        for scheme in SCHEMES:
            path = shoot(k, q[None], p[None], x[None], scheme, NT)
            for i, name in enumerate(("qt", "pt", "xt")):
                arrays[f"{scheme}_{name}"] = np.stack([s[i][0] for s in path])
            H = [float(hamiltonian(k, s[0], s[1])[0]) for s in path]

            def loss(q, p, x):
                q1, p1, x1 = shoot(k, q, p, x, scheme, NT)[-1]
                return (wq * q1).sum((1, 2)) + (wp * p1).sum((1, 2)) + (wx * x1).sum((1, 2))

            g = gradient(loss, [q, p, x])
            arrays |= {f"{scheme}_{name}": v for name, v in zip(("gq", "gp", "gx"), g)}
            schemes[scheme] = {
                "nt": NT,
                "L": float(loss(q[None], p[None], x[None])[0]),
                "H": H,
                "H_rel_drift": max(abs(h / H[0] - 1) for h in H),
            }
            # Every scheme conserves the linear momentum; the order shows in the drift.
            assert np.abs(path[-1][1].sum(1) - p.sum(0)).max() < 1e-17
        assert schemes["rk4"]["H_rel_drift"] < schemes["euler"]["H_rel_drift"] / 10
        npz |= {f"{key}_{name}": v for name, v in arrays.items()}
        entries.append({"case": case, "d": d, "n": n, "kernel": spec, "schemes": schemes, "H0": H[0]})
    save("shooting", npz, entries)
    return len(entries) * len(SCHEMES)


SPECS = [
    {"type": "landmark"},
    {"type": "current", "sigma": 0.8},
    {"type": "varifold", "sigma": 0.8},
    {"type": "varifold_oriented", "sigma": 0.8, "sigma_n": 0.5},
    {"type": "varifold_unoriented_gauss", "sigma": 0.8, "sigma_n": 0.7},
    {"type": "measure", "sigma": 0.8},
    {"type": "varifold", "kernel": KERNELS[3]},
    {"type": "current", "kernel": KERNELS[1]},
]


def shapes():
    r = [rng_of(f"shape/{k}") for k in range(6)]
    return {
        "curves_2d": (curve(r[0], 9, 2), curve(r[1], 9, 2)),
        "curves_3d": (curve(r[2], 8, 3), curve(r[3], 11, 3)),
        "surfaces": (surface(r[4]), surface(r[5])),
    }


def attachments():
    npz, entries = {}, []
    for label, ((v, f), (w, t)) in shapes().items():
        npz |= {f"{label}_source": v, f"{label}_source_cells": f, f"{label}_target": w, f"{label}_target_cells": t}
        for k, spec in enumerate(SPECS):
            if spec["type"] == "landmark" and v.shape != w.shape:
                continue
            V, W = v.astype(LD), w.astype(LD)
            value, terms = attachment(spec, V[None], f, W[None], t)
            (g,) = gradient(lambda a: attachment(spec, a, f, W[None], t)[0], [V])
            key = f"{label}_{k}"
            npz[f"{key}_grad"] = g
            entry = {
                "key": key,
                "data": label,
                "spec": spec,
                "value": float(value[0]),
                "grad_norm": float(np.sqrt((g * g).sum())),
                "rtol": 1e-10,
            }
            entry |= {n: float(a[0]) for n, a in zip(("ss", "tt", "st"), terms) if a is not None}
            entries.append(entry)

        # Sinkhorn divergence of the cell centres, weights normalised to one.
        def points(v, f):
            c, length, _ = cells(v.astype(LD)[None], f)
            return length[0] / length[0].sum(), c[0]

        a, ca = points(v, f)
        b, cb = points(w, t)
        blur = 0.3
        S = lambda c: sinkhorn((a, c), (b, cb), blur)
        g = np.zeros_like(ca)
        h = LD(2) ** -10
        for at in np.ndindex(*ca.shape):
            e = np.zeros_like(ca)
            e[at] = h
            g[at] = (8 * (S(ca + e) - S(ca - e)) - (S(ca + 2 * e) - S(ca - 2 * e))) / (12 * h)
        key = f"{label}_sinkhorn"
        npz[f"{key}_points"], npz[f"{key}_weights"], npz[f"{key}_target_points"], npz[f"{key}_target_weights"] = (
            ca,
            a,
            cb,
            b,
        )
        npz[f"{key}_grad"] = g
        entries.append(
            {
                "key": key,
                "data": label,
                "spec": {"type": "sinkhorn_divergence", "cost": "|x-y|^2/2", "blur": blur, "eps": "blur^2"},
                "value": float(S(ca)),
                "grad_norm": float(np.sqrt((g * g).sum())),
                "rtol": 1e-8,
                "note": "potentials at their fixed point; gradient in the points at fixed weights, by fourth-order differences",
            }
        )
    save("attachments", npz, entries)
    return len(entries)


def costs():
    """gamma H(q0, p0) + A(q1) and its gradients in p0 and q0."""
    npz, entries = {}, []
    sets = shapes()
    for label, scheme, spec, k, gamma in [
        ("curves_2d", "ralston", SPECS[2], GAUSSIAN, 0.0),
        ("curves_2d", "rk4", SPECS[0], KERNELS[3], 0.5),
        ("curves_3d", "heun", SPECS[1], KERNELS[1], 1.0),
        ("surfaces", "midpoint", SPECS[3], {"type": "gaussian", "sigma": 1.0}, 0.2),
        ("surfaces", "ralston", SPECS[2], {"type": "gaussian", "sigma": 1.0}, 1.0),
        ("surfaces", "euler", SPECS[5], KERNELS[2], 0.1),
    ]:
        (v, f), (w, t) = sets[label]
        key = f"{label}_{scheme}"
        p0 = single(0.1 * rng_of(f"cost/{key}").standard_normal(v.shape))
        kern, W = kernel(k), w.astype(LD)[None]

        def cost(q, p):
            q1 = shoot(kern, q, p, q[:, :0], scheme, NT)[-1][0]
            return LD(gamma) * hamiltonian(kern, q, p) + attachment(spec, q1, f, W, t)[0]

        q, p = v.astype(LD), p0.astype(LD)
        gq, gp = gradient(cost, [q, p])
        npz |= {f"{key}_p0": p0, f"{key}_gq": gq, f"{key}_gp": gp}
        entries.append(
            {
                "key": key,
                "data": label,
                "scheme": scheme,
                "nt": NT,
                "kernel": k,
                "attachment": spec,
                "gamma": gamma,
                "value": float(cost(q[None], p[None])[0]),
                "rtol": 1e-9,
            }
        )
    save("costs", npz, entries)
    return len(entries)


def two_landmarks():
    """Two landmarks on a line, by Taylor integration in 30 digits; the reduced
    quadrature t = int du / sqrt((1-k)(4H - P^2 (1+k))) must give t = 1."""
    mpmath.mp.dps = 30
    entries = []
    for q, p, sigma in [
        ((0, 1), (0.4, -0.2), 0.9),
        ((0, 1.5), (0.7, 0.1), 0.8),
        ((-0.5, 0.75), (0.3, 0.8), 1.1),
        ((0, 1.25), (0.9, -0.8), 1.0),
    ]:
        q, p, s2 = [mpmath.mpf(a) for a in q], [mpmath.mpf(a) for a in p], mpmath.mpf(sigma) ** 2
        k = lambda u: mpmath.exp(-u * u / s2)

        def rhs(t, y):
            u = y[0] - y[1]
            force = 2 * k(u) / s2 * y[2] * y[3] * u
            return [y[2] + k(u) * y[3], y[3] + k(u) * y[2], force, -force]

        y1 = mpmath.odefun(rhs, 0, q + p)(1)
        H = (p[0] ** 2 + p[1] ** 2) / 2 + k(q[0] - q[1]) * p[0] * p[1]
        P = p[0] + p[1]
        speed = lambda u: mpmath.sqrt((1 - k(u)) * (4 * H - P * P * (1 + k(u))))
        time = abs(mpmath.quad(lambda u: 1 / speed(u), [q[0] - q[1], y1[0] - y1[1]]))
        assert abs(time - 1) < mpmath.mpf(10) ** -12, time
        entries.append(
            {
                "kind": "1d_two_landmarks",
                "q": [float(a) for a in q],
                "p": [float(a) for a in p],
                "sigma": sigma,
                "H": float(H),
                "P": float(P),
                "q1": [float(a) for a in y1[:2]],
                "p1": [float(a) for a in y1[2:]],
                "quadrature_time": float(time),
            }
        )
    write("two_landmarks", entries)
    return len(entries)


def write(name, entries):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text("[\n " + ",\n ".join(json.dumps(e) for e in entries) + "\n]\n")


def save(name, npz, entries):
    write(name, entries)
    store = lambda a: np.asarray(a, np.int64 if np.asarray(a).dtype.kind == "i" else np.float64)
    np.savez_compressed(OUT / f"{name}.npz", **{k: store(a) for k, a in npz.items()})


MANIFEST = {
    "format": 1,
    "conventions": {
        "kernels": "D=|x-y|^2: gaussian exp(-D/sigma^2); cauchy 1/(1+D/sigma^2); inverse_multiquadric (1+D/sigma^2)^(-1/2); sum_gaussian sum_m w_m exp(-D/sigma_m^2)",
        "H": "1/2 sum_ij k(q_i,q_j) <p_i,p_j>",
        "flow": "qdot=dH/dp, pdot=-dH/dq, silent points xdot=K(x,q)p, T=1, nt equal steps, state (q,p,x) integrated jointly by one scheme",
        "schemes": "euler; midpoint; heun=(k1+k2)/2; ralston=(k1+3 k2)/4 with predictor 2/3; rk4 classical; implicit_midpoint at its fixed point",
        "cells": "triangles: centre (a+b+c)/3, normal n=(b-a)x(c-a)/2; segments: centre (a+b)/2, n=b-a; l=|n|, u=n/l",
        "attachment": "<S,S>+<T,T>-2<S,T>; current k <n,n'>; varifold l l' k <u,u'>^2; varifold_oriented l l' k exp(2(<u,u'>-1)/sigma_n^2); varifold_unoriented_gauss l l' k exp(2(<u,u'>^2-1)/sigma_n^2); measure l l' k; landmark sum |x-y|^2",
        "cost": "gamma H(q0,p0) + A(q1); gradients gq (with q0 moving the shape) and gp",
    },
    "files": {
        "shooting": "cNN_: q0,p0,x0,wq,wp,wx,qdot0,pdot0; per scheme SCHEME_qt,_pt,_xt (nt+1 states) and gradients _gq,_gp,_gx of L=<wq,q1>+<wp,p1>+<wx,x1>; 1e-12 absolute, gradients 1e-11",
        "attachments": "LABEL_source, _source_cells, _target, _target_cells; KEY_grad in the source vertices; Sinkhorn: KEY_points, _weights, _target_points, _target_weights, _grad",
        "costs": "shapes are those of attachments.npz; KEY_p0, KEY_gq, KEY_gp; 1e-9 relative to the largest entry",
        "two_landmarks": "geodesics on a line to 1e-15",
    },
}


def main():
    parts = {f.__name__: f() for f in (shooting, attachments, costs, two_landmarks)}
    (OUT / "manifest.json").write_text(json.dumps(MANIFEST, indent=1) + "\n")
    size = sum(f.stat().st_size for f in OUT.glob("*"))
    print(f"{sum(parts.values())} LDDMM cases {parts}, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

"""Expected values of crates/keops-linalg/tests/{minres,eigen,trace,least_squares,svd,process,kmeans,mixture}.rs, by SciPy.

Writes tests/golden/linalg/krylov.npz: points, right-hand sides, and what SciPy's solvers of the dense matrices give
(each is confirmed by a direct method of NumPy). Names say what is what; the matrices are

    gauss  exp(-|x - x'|² / (2 · 0.3²))         square, positive definite
    multi  sqrt(1 + |x - x'|²)                  square, one positive eigenvalue, all others negative
    cross  exp(-|x - y|² / (2 · 0.3²))          rectangular
"""

from pathlib import Path

import numpy as np
import scipy.linalg as sla
import scipy.sparse.linalg as spl
from scipy.spatial.distance import cdist

rng = np.random.default_rng(12)
x, y = rng.uniform(size=(80, 2)), rng.uniform(size=(30, 2))
gauss = np.exp(-cdist(x, x, "sqeuclidean") / (2 * 0.3**2))
cross = np.exp(-cdist(x, y, "sqeuclidean") / (2 * 0.3**2))
multi = np.sqrt(1 + cdist(x, x, "sqeuclidean"))
b = np.sin(5 * x[:, :1]) + 0.1 * rng.standard_normal((80, 1))
out = {"x": x, "y": y, "b": b}


def agree(a, b, tolerance):
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), np.abs(a - b).max() / np.abs(b).max()


# MINRES: (gauss - 0.5) a = b, indefinite; and with a positive definite diagonal as preconditioner.
shifted = gauss - 0.5 * np.eye(80)
values = np.linalg.eigvalsh(shifted)
assert values[0] < -0.4 and values[-1] > 1
a, info = spl.minres(shifted, b[:, 0], rtol=1e-13, maxiter=2000)
assert info == 0
agree(a, np.linalg.solve(shifted, b[:, 0]), 1e-8)
out["minres"] = a[:, None]

# Eigenvalues, in ascending order, and the eigenvectors of the largest.
values, vectors = spl.eigsh(gauss, k=5, which="LA", tol=0)
agree(values, np.linalg.eigvalsh(gauss)[-5:], 1e-12)
out["gauss_largest"], out["gauss_vectors"] = values, vectors
values = np.sort(spl.eigsh(multi, k=4, which="SA", tol=0, return_eigenvectors=False))
agree(values, np.linalg.eigvalsh(multi)[:4], 1e-12)
out["multi_smallest"] = values
out["multi_largest"] = np.sort(spl.eigsh(multi, k=1, which="LA", tol=0, return_eigenvectors=False))
values = np.sort(spl.eigsh(gauss, k=3, sigma=2.0, which="LM", tol=0, return_eigenvectors=False))
everything = np.linalg.eigvalsh(gauss)
agree(values, np.sort(everything[np.argsort(np.abs(everything - 2.0))[:3]]), 1e-12)
out["gauss_near_2"] = values

# Least squares, plain and damped, and singular values.
for name, damp in [("lsmr", 0.0), ("lsmr_damped", 0.5)]:
    a = spl.lsmr(cross, b[:, 0], damp=damp, atol=1e-15, btol=1e-15, conlim=0, maxiter=5000)[0]
    stacked = np.vstack([cross, damp * np.eye(30)])
    agree(cross @ a, cross @ np.linalg.lstsq(stacked, np.append(b[:, 0], np.zeros(30)), rcond=None)[0], 1e-7)
    if damp > 0:
        out[name] = a[:, None]
    out[name + "_fit"] = (cross @ a)[:, None]
# What SciPy reports at its default tolerances: iterations, ‖r‖ with the damping, ‖Aᵀr‖, ‖A‖, the condition, ‖x‖.
for name, damp in [("lsmr_report", 0.0), ("lsmr_damped_report", 5.0)]:
    a, _, *report = spl.lsmr(cross, b[:, 0], damp=damp, atol=1e-6, btol=1e-6, conlim=1e8, maxiter=300)
    out[name] = np.array(report, dtype=float)
out["cross_singular"] = np.sort(spl.svds(cross, k=6, return_singular_vectors=False))[::-1]
agree(out["cross_singular"], np.linalg.svd(cross, compute_uv=False)[:6], 1e-12)

# Functions of matrices.
system = gauss + 0.1 * np.eye(80)
out["log_det"] = np.array([np.linalg.slogdet(system)[1]])
out["trace_inverse"] = np.array([np.trace(np.linalg.inv(system))])
out["root"] = np.real(sla.sqrtm(system)) @ b
agree(np.real(sla.sqrtm(system)) @ out["root"], system @ b, 1e-10)
# The derivative of log_det in s of exp(-s |x - x'|²), s = 1 / (2 · 0.3²).
slope = np.trace(np.linalg.solve(system, -cdist(x, x, "sqeuclidean") * gauss))
out["log_det_slope"] = np.array([slope])

# A Gaussian process: kernel v exp(-|(x - x') / l|² / 2) with a length per dimension, noise 0.1 (a variance).
v, lengths, noise = 1.7, np.array([0.4, 0.9]), 0.1
new = y


def covariance(p, q, v, lengths):
    return v * np.exp(-0.5 * cdist(p / lengths, q / lengths, "sqeuclidean"))


def log_likelihood(v, lengths, noise):
    factor = sla.cho_factor(covariance(x, x, v, lengths) + noise * np.eye(80), lower=True)
    alpha = sla.cho_solve(factor, b[:, 0])
    return -0.5 * b[:, 0] @ alpha - np.log(np.diag(factor[0])).sum() - 40 * np.log(2 * np.pi)


system = covariance(x, x, v, lengths) + noise * np.eye(80)
inverse = np.linalg.inv(system)
alpha = inverse @ b[:, 0]
k = covariance(new, x, v, lengths)
out["gp_likelihood"] = np.array([log_likelihood(v, lengths, noise)])
out["gp_mean"] = (k @ alpha)[:, None]
out["gp_variance"] = v - np.einsum("ij,jk,ik->i", k, inverse, k)
weight = np.outer(alpha, alpha) - inverse
own = covariance(x, x, v, lengths)
by_length = [0.5 * np.sum(weight * own * (x[:, d, None] - x[None, :, d]) ** 2 / l**3) for d, l in enumerate(lengths)]
out["gp_slope"] = np.array([0.5 * np.sum(weight * own / v), *by_length, 0.5 * np.trace(weight)])
h = 1e-5
numbers = []
for step in np.eye(4) * h:
    high = log_likelihood(v + step[0], lengths + step[1:3], noise + step[3])
    low = log_likelihood(v - step[0], lengths - step[1:3], noise - step[3])
    numbers.append((high - low) / (2 * h))
agree(np.array(numbers), out["gp_slope"], 1e-7)
# Leave-one-out means and variances (Rasmussen, Williams, equation 5.12), confirmed by leaving one out.
diagonal = np.diag(inverse)
out["gp_loo_mean"], out["gp_loo_variance"] = b[:, 0] - alpha / diagonal, 1 / diagonal
rest = np.arange(1, 80)
one = np.linalg.solve(system[np.ix_(rest, rest)], np.column_stack([b[rest, 0], system[rest, 0]]))
agree(system[0, rest] @ one, np.array([out["gp_loo_mean"][0], v + noise - out["gp_loo_variance"][0]]), 1e-9)
try:  # scikit-learn agrees where it is installed.
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(v) * RBF(lengths) + WhiteKernel(noise)
    fitted = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0).fit(x, b[:, 0])
    value, gradient = fitted.log_marginal_likelihood(kernel.theta, eval_gradient=True)
    agree(np.array([value]), out["gp_likelihood"], 1e-9)
    agree(gradient, out["gp_slope"] * np.array([v, *lengths, noise]), 1e-9)
    mean, deviation = fitted.predict(new, return_std=True)
    agree(mean, out["gp_mean"][:, 0], 1e-9)
    agree(deviation**2 - noise, out["gp_variance"], 1e-6)
    print("scikit-learn agrees")
except ImportError:
    print("scikit-learn is not installed: not compared")

# k-means from the first five points, until no label changes: by squared distances, and by angles of what is centred.


def lloyd(x, centres, cosine):
    unit = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True) if cosine else v
    x, centres, labels = unit(x), unit(centres), None
    while True:
        now = cdist(x, centres, "cosine" if cosine else "sqeuclidean")
        if labels is not None and (now.argmin(1) == labels).all():
            return centres, labels, now.min(1).sum()
        labels = now.argmin(1)
        centres = unit(np.array([x[labels == k].mean(0) for k in range(len(centres))]))


for name, points, cosine in [("kmeans", x, False), ("kmeans_cosine", x - 0.5, True)]:
    centres, labels, inertia = lloyd(points, points[:5], cosine)
    out[name + "_centres"], out[name + "_inertia"] = centres, np.array([inertia])
try:  # scikit-learn agrees where it is installed.
    from sklearn.cluster import KMeans

    fitted = KMeans(5, init=x[:5], n_init=1, tol=0, algorithm="lloyd").fit(x)
    agree(fitted.cluster_centers_, out["kmeans_centres"], 1e-12)
    agree(np.array([fitted.inertia_]), out["kmeans_inertia"], 1e-12)
    print("scikit-learn agrees on k-means")
except ImportError:
    print("scikit-learn is not installed: k-means not compared")

# A Gaussian mixture from hard labels, as scikit-learn has it: EM until the mean log-likelihood changes by less than 1e-8.
labels = np.arange(150) % 3
points = rng.standard_normal((150, 2)) @ np.array([[0.5, 0.3], [0.0, 0.4]]) + np.array([[0, 0], [1.5, 1], [0, 2]])[labels]
labels[::7] = 0


def maximise(r):
    total = r.sum(0)
    means = r.T @ points / total[:, None]
    own = [(r[:, k] * (points - means[k]).T) @ (points - means[k]) / total[k] + 1e-6 * np.eye(2) for k in range(3)]
    return total / 150, means, np.array(own)


def logs(weights, means, covariances):
    gap = points[:, None] - means[None]
    form = np.einsum("nka,kab,nkb->nk", gap, np.linalg.inv(covariances), gap)
    return np.log(weights) - 0.5 * (form + np.linalg.slogdet(covariances)[1] + 2 * np.log(2 * np.pi))


mixture, before, count = maximise(np.eye(3)[labels]), -np.inf, 0
start = mixture
while True:
    own = logs(*mixture)
    now = np.logaddexp.reduce(own, axis=1)
    mixture, count = maximise(np.exp(own - now[:, None])), count + 1
    if abs(now.mean() - before) < 1e-8:
        break
    before = now.mean()
out["mixture_points"], out["mixture_labels"] = points, labels.astype(float)
out["mixture_weights"], out["mixture_means"], out["mixture_covariances"] = mixture
out["mixture_likelihood"] = np.array([np.logaddexp.reduce(logs(*mixture), axis=1).mean(), count])
try:
    from sklearn.mixture import GaussianMixture

    inverse = np.linalg.inv(start[2])
    fitted = GaussianMixture(3, tol=1e-8, max_iter=1000, weights_init=start[0], means_init=start[1], precisions_init=inverse)
    fitted.fit(points)
    agree(fitted.means_, mixture[1], 1e-9)
    agree(np.array([fitted.score(points), fitted.n_iter_]), out["mixture_likelihood"], 1e-9)
    print("scikit-learn agrees on mixtures")
except ImportError:
    print("scikit-learn is not installed: mixtures not compared")

np.savez_compressed(Path(__file__).parents[2] / "tests/golden/linalg/krylov.npz", **out)

"""MOCHA as its paper has it, one task and one row at a time, float64; and the gradient method on its primal.

Common arguments:
    x: features, float64 [M, d]; a column of ones if the model has a bias.
    targets: [M, K]: numbers, -1 or 1, or one-hot labels.
    held: rows of the pool that each task holds.
    cohorts: [round] -> task numbers.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import lambertw


def _squared(alpha, z, y, s):
    return alpha + (y - z - alpha) / (1 + s)


def _hinge(alpha, z, y, s):
    return y * np.clip((1 - y * z) / s + y * alpha, 0.0, 1.0)


def _logistic(alpha, z, y, s):
    """b = y alpha solves log(b / (1 - b)) + y z + s (b - b_0) = 0; by its logit, so that ends do not matter."""
    m, before = float(y[0] * z[0]), float(y[0] * alpha[0])

    def slope(v):
        return v + m + s * (1 / (1 + np.exp(-v)) - before)

    v = brentq(slope, -m - s - 1, -m + s + 1, xtol=1e-14)
    return y / (1 + np.exp(-v))


def _softmax(alpha, z, y, s):
    """p = y - alpha is softmax(z + s (p_0 - p)); p_j = W(s e^(u_j - nu)) / s with Lambert's function."""
    u = z + s * (y - alpha)

    def shares(nu):
        return np.real(lambertw(s * np.exp(u - nu))) / s

    nu = brentq(lambda nu: shares(nu).sum() - 1, u.max() - s - 1, u.max() + np.log(len(u)) + 1, xtol=1e-14)
    return y - shares(nu)


STEPS = {"squared": _squared, "hinge": _hinge, "logistic": _logistic, "softmax": _softmax}


def covariance(models, floor):
    """(W'W)^(1/2) over its trace, from the eigenvalues of W'W; one task a row of `models`."""
    values, vectors = np.linalg.eigh(models @ models.T)
    roots = np.sqrt(np.maximum(values, floor))
    root = (vectors * roots) @ vectors.T
    return root / np.trace(root)


def _rho(sigma):
    return max(sum(abs(s) for s in sigma[t]) / sigma[t, t] for t in range(len(sigma)))


def mocha(x, targets, held, visits, cohorts, *, strength, loss, sigma, inner=None, floor=1e-7, work=None):
    """(W [N, K, d], Sigma, alpha [M, K]).

    Args:
        visits: [round][task] -> the row of each coordinate step.
        sigma: the first Sigma, or the only one.
        inner: rounds between two Sigma-steps, or None for none.
        work: [round][task] -> how many of the steps are done; None for all.
    """
    tasks, outputs, features = len(held), targets.shape[1], x.shape[1]
    alpha = np.zeros((len(x), outputs))
    images = np.zeros((tasks, outputs, features))
    models = np.zeros_like(images)
    rho = _rho(sigma)
    for t, cohort in enumerate(cohorts):
        changes = np.zeros_like(images)
        for k in cohort:
            n = len(held[k])
            rows = visits[t][k] if work is None else visits[t][k][: work[t][k]]
            for row in rows:
                i = int(row[0])
                at = models[k] + rho * sigma[k, k] / strength * changes[k]
                s = rho * sigma[k, k] * float(x[i] @ x[i]) / (strength * n)
                new = STEPS[loss](alpha[i], at @ x[i], targets[i], s)
                changes[k] += np.outer(new - alpha[i], x[i]) / n
                alpha[i] = new
        images = images + changes
        if inner is not None and (t + 1) % inner == 0:
            before = np.tensordot(sigma, images, 1) / strength
            sigma = covariance(before.reshape(tasks, -1), floor)
            rho = _rho(sigma)
        models = np.tensordot(sigma, images, 1) / strength
    return models, sigma, alpha


def ridges(x, y, held, *, strength, precision):
    """argmin of sum_t 1/(2 n_t) |X_t w_t - y_t|^2 + lambda/2 tr(W P W'), by one linear system; [N, d]."""
    tasks, features = len(held), x.shape[1]
    matrix = strength * np.kron(precision, np.eye(features))
    right = np.zeros(tasks * features)
    for t, rows in enumerate(held):
        block = slice(t * features, (t + 1) * features)
        if len(rows):
            matrix[block, block] += x[rows].T @ x[rows] / len(rows)
            right[block] = x[rows].T @ y[rows] / len(rows)
    return np.linalg.solve(matrix, right).reshape(tasks, features)


def primal(model, start, x, y, held, batches, cohorts, *, rate, strength, precision, inner=None, **covering):
    """SGD on F_t + lambda/2 tr(W P W') with the client's own column fresh: ([params of each task], P).

    Args:
        model: from `reference.models`.
        start: everybody's params before round 0.
        batches: [round][task] -> rows of each local step.
        precision: the first P, or the only one.
        inner: rounds between two Sigma-steps, or None.
        covering: floor and jitter of the Sigma-step.
    """
    own = [{name: value.copy() for name, value in start.items()} for _ in held]
    for t, cohort in enumerate(cohorts):
        ends = list(own)
        for k in cohort:
            params = {name: value.copy() for name, value in own[k].items()}
            for rows in batches[t][k]:
                gradient = model.gradient(params, x[rows], y[rows])
                for name in params:
                    others = sum(precision[k, j] * own[j][name] for j in range(len(held)) if j != k)
                    pull = strength * (precision[k, k] * params[name] + others)
                    params[name] = params[name] - rate * (gradient[name] + pull)
            ends[k] = params
        own = ends
        if inner is not None and (t + 1) % inner == 0:
            flat = np.stack([np.concatenate([one[name].ravel() for name in sorted(one)]) for one in own])
            sigma = covariance(flat, covering["floor"])
            precision = np.linalg.inv(sigma + covering["jitter"] * np.eye(len(held)))
    return own, precision

"""pFedMe, Ditto, mean-regularised models and L2GD as their papers have them, one client, one step at a time.

Common arguments: see `reference.methods`. `done` says how many steps each client takes of its batches,
[round][client]; all of them if None.
"""

import numpy as np


def _zero(params):
    return {name: np.zeros_like(value) for name, value in params.items()}


def _towards(model, params, x, y, steps, rate, anchor, lam, momentum=0.0):
    """Steps on F + lam/2 |v - anchor|^2."""
    velocity = _zero(params)
    for rows in steps:
        slope = model.gradient(params, x[rows], y[rows])
        velocity = {n: momentum * velocity[n] + slope[n] + lam * (params[n] - anchor[n]) for n in params}
        params = {n: params[n] - rate * velocity[n] for n in params}
    return params


def _mean(models, weights):
    return {n: sum(w * m[n] for w, m in zip(weights, models)) / sum(weights) for n in models[0]}


def _taken(batches, done, t, k):
    return batches[t][k] if done is None else batches[t][k][: done[t][k]]


def local_rounds(
    model, start, x, y, steps, *, rate, lam, inner_rate, inner_steps, carry_over=False, momentum=0.0
):
    """pFedMe at one client, a local round for every batch: (w_k, theta_k)."""
    w, theta, velocity = start, start, _zero(start)
    for rows in steps:
        if not carry_over:
            theta = w
        for _ in range(inner_steps):
            slope = model.gradient(theta, x[rows], y[rows])
            theta = {n: theta[n] - inner_rate * (slope[n] + lam * (theta[n] - w[n])) for n in w}
        velocity = {n: momentum * velocity[n] + lam * (w[n] - theta[n]) for n in w}
        w = {n: w[n] - rate * velocity[n] for n in w}
    return w, theta


def pfedme(model, start, x, y, held, batches, cohorts, *, beta, weights="proportional", done=None, **numbers):
    """The global model after the rounds, by n_k over the cohort or uniformly."""
    w = start
    for t, cohort in enumerate(cohorts):
        present = [k for k in cohort if len(held[k]) > 0]
        ends = [local_rounds(model, w, x, y, _taken(batches, done, t, k), **numbers)[0] for k in present]
        mean = _mean(ends, [len(held[k]) if weights == "proportional" else 1 for k in present])
        w = {n: (1 - beta) * w[n] + beta * mean[n] for n in w}
    return w


def ditto(
    model,
    start,
    x,
    y,
    held,
    batches,
    personal,
    cohorts,
    *,
    rate,
    lam,
    personal_rate,
    weights="uniform",
    momentum=0.0,
):
    """(w, [v_k]); `personal` are the batches of the personal track."""
    w, own = start, [start] * len(held)
    for t, cohort in enumerate(cohorts):
        present = [k for k in cohort if len(held[k]) > 0]
        ends = [_towards(model, w, x, y, batches[t][k], rate, w, 0.0, momentum) for k in present]
        for k in present:
            own[k] = _towards(model, own[k], x, y, personal[t][k], personal_rate, w, lam, momentum)
        w = _mean(ends, [len(held[k]) if weights == "proportional" else 1 for k in present])
    return w, own


def meanreg(model, start, x, y, held, batches, cohorts, *, rate, lam, momentum=0.0, done=None):
    """(w_bar, [w_k]): the server keeps every w_k and takes their mean by n_k / n over all clients."""
    own, sizes = [start] * len(held), [len(rows) for rows in held]
    mean = start
    for t, cohort in enumerate(cohorts):
        for k in cohort:
            own[k] = _towards(model, own[k], x, y, _taken(batches, done, t, k), rate, mean, lam, momentum)
        mean = _mean(own, sizes)
    return mean, own


def l2gd(model, start, x, y, held, batches, cohorts, *, rate, lam, p, coins, done=None):
    """(w_bar, [w_k]): with coins[t], as many steps towards the mean as there would have been local ones."""
    own, members = [start] * len(held), [k for k in range(len(held)) if len(held[k]) > 0]
    share = rate * lam * (1 - p) / p
    mean = start
    for t, cohort in enumerate(cohorts):
        for k in cohort:
            steps = _taken(batches, done, t, k)
            if coins[t]:
                for _ in steps:
                    own[k] = {n: (1 - share) * own[k][n] + share * mean[n] for n in mean}
            else:
                own[k] = _towards(model, own[k], x, y, steps, rate, mean, 0.0)
        mean = _mean([own[k] for k in members], [1] * len(members))
    return mean, own


def joint_minimum(A, a, weights, lam):
    """(w_bar, [w_k]) of min sum_k p_k F_k(w_k) + lam/2 sum_k p_k |w_k - w_bar|^2 on quadratics.

    One linear system in all w_k at once: p_k A_k (w_k - a_k) + lam p_k (w_k - sum_j p_j w_j) = 0.
    """
    count, dimension = a.shape
    p = np.asarray(weights, float) / np.sum(weights)
    left = np.zeros((count, dimension, count, dimension))
    for k in range(count):
        left[k, :, k, :] += A[k] + lam * np.eye(dimension)
        for j in range(count):
            left[k, :, j, :] -= lam * p[j] * np.eye(dimension)
    right = np.einsum("nij,nj->ni", A, a)
    own = np.linalg.solve(left.reshape(count * dimension, -1), right.ravel()).reshape(count, dimension)
    return p @ own, own

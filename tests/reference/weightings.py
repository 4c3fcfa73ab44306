"""Weights of a cohort as their definitions read, float64 and whole numbers, one client at a time."""

import math
from fractions import Fraction

import numpy as np


def capped(shares, cap):
    """min(cap, s p) that sums to 1, of shares that do: the largest are put at the cap one after the other."""
    shares = [float(p) for p in shares]
    positive = [k for k, p in enumerate(shares) if p > 0]
    cap = max(cap, 1 / max(len(positive), 1))
    weights = [0.0] * len(shares)
    order = sorted(positive, key=lambda k: -shares[k])
    for full in range(len(order)):
        scale = (1 - full * cap) / sum(shares[k] for k in order[full:])
        if full == len(order) - 1 or scale * shares[order[full]] <= cap:
            for k in order[:full]:
                weights[k] = cap
            for k in order[full:]:
                weights[k] = scale * shares[k]
            break
    return np.array(weights)


def divergence(weights, shares):
    """KL(weights | shares) where both are positive."""
    return sum(w * math.log(w / p) for w, p in zip(weights, shares) if w > 0)


def bucket(size, base):
    """floor(log_base size) in exact arithmetic; `base` a whole number or a Fraction."""
    power, number = Fraction(base), 0
    while power <= size:
        power, number = power * base, number + 1
    return number


def geometric(ratio, most):
    """P(Z = z) for z in -most..most of the two-sided geometric distribution."""
    return np.array([(1 - ratio) / (1 + ratio) * ratio ** abs(z) for z in range(-most, most + 1)])


def laplace(scale, z):
    """The density of the Laplace distribution."""
    return np.exp(-np.abs(z) / scale) / (2 * scale)


def averaged(model, start, x, y, held, batches, cohorts, weights, *, local):
    """FedAvg with weights [round][position in the cohort] that need not sum to 1, in delta form.

    `local(server, rows)` is a client's model after its local steps on these batches.
    """
    server = start
    for t, cohort in enumerate(cohorts):
        step = {name: np.zeros_like(value) for name, value in server.items()}
        for k, weight in zip(cohort, weights[t]):
            if len(held[k]) == 0:
                continue
            end = local(server, batches[t][k])
            for name in step:
                step[name] = step[name] + weight * (end[name] - server[name])
        server = {name: server[name] + step[name] for name in server}
    return server

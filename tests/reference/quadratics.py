"""Fixed points and trajectories on F_k(w) = 1/2 (w - a_k)' A_k (w - a_k), full batches, everyone present."""

import numpy as np


def functions(clients=4, dimension=3, seed=0):
    """(A [N, d, d], a [N, d]) with different eigenvectors and eigenvalues in about [0.3, 3]."""
    rng = np.random.default_rng(seed)
    matrices = []
    for _ in range(clients):
        turn, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
        matrices.append(turn @ np.diag(rng.uniform(0.3, 3.0, dimension)) @ turn.T)
    return np.array(matrices), rng.normal(size=(clients, dimension))


def optimum(A, a, weights):
    """argmin of sum_k p_k F_k."""
    return _balance(A, a, weights)


def _balance(pulls, a, weights):
    left = sum(p * P for p, P in zip(weights, pulls))
    right = sum(p * P @ point for p, P, point in zip(weights, pulls, a))
    return np.linalg.solve(left, right)


def fedprox_limit(A, a, weights, *, rate, steps, mu):
    """(sum p M)^-1 sum p M a, M = (I - (I - eta H)^E) H^-1 A, H = A + mu I; FedAvg for mu = 0."""
    pulls = []
    for matrix in A:
        identity = np.eye(len(matrix))
        held = matrix + mu * identity
        left = np.linalg.matrix_power(identity - rate * held, steps)
        pulls.append((identity - left) @ np.linalg.inv(held) @ matrix)
    return _balance(pulls, a, weights)


def unequal_steps_limit(a, weights, *, rate, steps):
    """FedAvg with tau_k steps and every A = I (Wang et al. 2020, Lemma 1)."""
    pulls = np.array([p * (1 - (1 - rate) ** tau) for p, tau in zip(weights, steps)])
    return (pulls[:, None] * a).sum(axis=0) / pulls.sum()

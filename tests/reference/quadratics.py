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


def descent(matrix, linear, start, *, rates, mu=0.0, rho=0.0, prox="outside", tilt=0.0):
    """Local steps on 1/2 y'Ay - b'y + tilt'y with a proximal term at the start: where they end."""
    y, velocity = start.copy(), np.zeros_like(start)
    for rate in rates:
        pull = mu * (y - start)
        velocity = rho * velocity + matrix @ y - linear + tilt + (pull if prox == "inside" else 0.0)
        y = y - rate * (velocity + (pull if prox == "outside" else 0.0))
    return y


def _cohort_mean(vectors, weights):
    return sum(p * v for p, v in zip(weights, vectors)) / sum(weights)


def averaging_round(A, b, weights, w, *, schedules, present, server_rate=1.0, **local):
    """FedAvg and FedProx: schedules[k] holds the rates of client k's steps."""
    ends = [descent(A[k], b[k], w, rates=schedules[k], **local) - w for k in present]
    return w + server_rate * _cohort_mean(ends, [weights[k] for k in present])


def nova_round(A, b, weights, w, *, schedules, present, effective="norm", **local):
    """FedNova: |a_k| is how far unit gradients carry local steps, in units of the first rate."""
    present = [k for k in present if len(schedules[k])]
    shares = [weights[k] for k in present]
    unit = (np.zeros((1, 1)), np.ones(1), np.zeros(1))
    lengths = [descent(*unit, rates=schedules[k], **local)[0] / schedules[k][0] for k in present]
    counts = lengths if effective == "norm" else [sum(schedules[k]) / schedules[k][0] for k in present]
    ends = [descent(A[k], b[k], w, rates=schedules[k], **local) for k in present]
    moves = [(end - w) / length for end, length in zip(ends, lengths)]
    return w + _cohort_mean(counts, shares) * _cohort_mean(moves, shares)


def scaffold_round(A, b, weights, state, *, schedules, present, option, server_rate=1.0):
    """SCAFFOLD on (x, c, [c_k]), c kept by itself."""
    x, shared, own = state
    shares, moves, shifts = [weights[k] for k in present], [], np.zeros_like(x)
    after = [control.copy() for control in own]
    for k in present:
        end = descent(A[k], b[k], x, rates=schedules[k], tilt=shared - own[k])
        if len(schedules[k]):
            mean = (x - end) / sum(schedules[k])
            after[k] = A[k] @ x - b[k] if option == "I" else own[k] - shared + mean
        moves.append(end - x)
        shifts = shifts + weights[k] * (after[k] - own[k])
    return x + server_rate * _cohort_mean(moves, shares), shared + shifts, after


def dynamic_round(A, b, weights, state, *, alpha, present, schedules=None):
    """FedDyn on (th, h, [lambda_k]), h kept by itself; exact local solves without schedules."""
    th, h, own = state
    ends, after = [], [dual.copy() for dual in own]
    for k in present:
        if schedules is None:
            end = np.linalg.solve(A[k] + alpha * np.eye(len(th)), b[k] + own[k] + alpha * th)
        else:
            end = descent(A[k], b[k], th, rates=schedules[k], mu=alpha, tilt=-own[k])
        after[k] = own[k] - alpha * (end - th)
        h = h - alpha * weights[k] * (end - th)
        ends.append(end)
    return _cohort_mean(ends, [weights[k] for k in present]) - h / alpha, h, after

"""SCAFFOLD as its paper prints it, with both weightings, options and starts, one client and one step at a time.

Written apart from `reference.methods`, whose arguments it shares, and on vectors: a model's arrays in one row.
"""

import numpy as np


def _flat(params):
    return np.concatenate([params[name].ravel() for name in sorted(params)])


def _shaped(vector, like):
    shaped, at = {}, 0
    for name in sorted(like):
        shaped[name] = vector[at : at + like[name].size].reshape(like[name].shape)
        at += like[name].size
    return shaped


def scaffold(
    model,
    start,
    x,
    y,
    held,
    batches,
    cohorts,
    *,
    rate,
    option,
    weights="uniform",
    begin="zero",
    server_rate=1.0,
    done=None,
):
    """(x, c, [c_i]) after the rounds.

    Args:
        rate: eta, or a function (round, local step) -> eta.
        weights: "uniform" or "proportional".
        begin: "zero" or "gradients".
        done: [round][client] -> steps that the client takes of its batches; all of them if None.
    """
    count, rows = len(held), sum(len(own) for own in held)
    eta = rate if callable(rate) else lambda t, j: rate
    point = _flat(start)

    def slope(at, which):
        return _flat(model.gradient(_shaped(at, start), x[which], y[which]))

    def part(k):
        return len(held[k]) / rows if weights == "proportional" else 1 / count

    own = [np.zeros_like(point) for _ in range(count)]
    if begin == "gradients":
        own = [slope(point, held[k]) if len(held[k]) else own[k] for k in range(count)]
    shared = sum(part(k) * own[k] for k in range(count))

    for t, cohort in enumerate(cohorts):
        present = [k for k in cohort if len(held[k]) > 0]
        moves, says, shift = [], [], np.zeros_like(point)
        for k in present:
            steps = batches[t][k] if done is None else batches[t][k][: done[t][k]]
            local, travelled = point.copy(), 0.0
            for j, which in enumerate(steps):
                local = local - eta(t, j) * (slope(local, which) - own[k] + shared)
                travelled += eta(t, j)
            new = own[k]
            if steps:
                new = slope(point, held[k]) if option == "I" else own[k] - shared + (point - local) / travelled
            shift = shift + part(k) * (new - own[k])
            own[k] = new
            moves.append(local - point)
            says.append(len(held[k]) if weights == "proportional" else 1)
        if present:
            mean = sum(say * move for say, move in zip(says, moves)) / sum(says)
            point, shared = point + server_rate * mean, shared + shift
    return _shaped(point, start), _shaped(shared, start), [_shaped(c, start) for c in own]


def joint_map(A, b, weights, *, rate, steps, option):
    """One round on F_k = 1/2 (w - b_k)' A_k (w - b_k), everyone present, as a matrix on (e, d_1 .. d_N).

    e = x - w* and d_k = c_k - grad F_k(w*), whose weighted sum is that of the c_k. Local work ends at
    y_k - x = -P_k (A_k e - d_k + sum_j p_j d_j), P_k = eta sum_{j < E} (I - eta A_k)^j.
    """
    count, size = b.shape
    whole = np.zeros(((count + 1) * size,) * 2)
    identity = np.eye(size)
    place = [slice((k + 1) * size, (k + 2) * size) for k in range(count)]
    top = slice(0, size)
    whole[top, top] = identity
    for k in range(count):
        P = rate * sum(np.linalg.matrix_power(identity - rate * A[k], j) for j in range(steps))
        move = np.zeros((size, len(whole)))
        move[:, top] = -P @ A[k]
        move[:, place[k]] += P
        for j in range(count):
            move[:, place[j]] -= weights[j] * P
        whole[top] += weights[k] * move
        if option == "I":
            whole[place[k], top] = A[k]
        else:
            whole[place[k], place[k]] += identity
            for j in range(count):
                whole[place[k], place[j]] -= weights[j] * identity
            whole[place[k]] -= move / (steps * rate)
    return whole

"""Softmax regression in plain NumPy: gradients row by row, and minima by a long gradient descent."""

import numpy as np


def shares(at, x):
    logits = x @ at
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def row_gradients(at, x, y):
    """Of -log softmax(W'x)[y], one matrix a row, without the ridge term."""
    off = shares(at, x)
    off[np.arange(len(y)), y] -= 1
    return np.array([np.outer(row, error) for row, error in zip(x, off)]).reshape(len(y), *at.shape)


def gradient(at, x, y, l2):
    off = shares(at, x)
    off[np.arange(len(y)), y] -= 1
    return x.T @ off / len(y) + l2 * at


def descend(clients, share, l2, classes):
    """(w*, F*) of sum_k p_k F_k by 1500 steps of 1/L."""
    at = np.zeros((clients[0][0].shape[1], classes))
    top = max(np.linalg.eigvalsh(x.T @ x / len(y))[-1] for x, y in clients) / 2 + l2
    for _ in range(1500):
        at = at - sum(p * gradient(at, x, y, l2) for p, (x, y) in zip(share, clients)) / top
    loss = [-np.log(shares(at, x)[np.arange(len(y)), y]).mean() for x, y in clients]
    return at, float(np.dot(share, loss) + l2 / 2 * (at**2).sum())


def local_limit(clients, share, l2, start, rate, steps):
    """Where rounds of full-batch local steps and an average end."""
    at = start
    for _ in range(1200):
        ends = []
        for x, y in clients:
            own = at
            for _ in range(steps):
                own = own - rate * gradient(own, x, y, l2)
            ends.append(own)
        new = sum(p * end for p, end in zip(share, ends))
        if np.abs(new - at).max() < 1e-14:
            return new
        at = new
    return at

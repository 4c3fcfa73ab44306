"""FedProx to its end, float64: partial work, inexact solutions, a mu that follows the loss.

Arguments as in `reference.methods`; `work` [round][client] is the fraction of its steps that a client takes.
"""

import math

import numpy as np


class Follower:
    """mu after each round's loss: up on a rise, down after so many falls in a row, never below 0."""

    def __init__(self, start, step, patience):
        self.mu, self.step, self.patience = start, step, patience
        self.before, self.falls = None, 0

    def see(self, loss):
        if self.before is not None:
            if loss > self.before:
                self.mu += self.step
                self.falls = 0
            elif loss < self.before:
                self.falls += 1
                if self.falls == self.patience:
                    self.mu = max(self.mu - self.step, 0.0)
                    self.falls = 0
            else:
                self.falls = 0
        self.before = loss


def _norm(tree):
    return math.sqrt(sum(float((value**2).sum()) for value in tree.values()))


def _solve(model, anchor, x, y, rows, steps, per_epoch, rate, momentum, mu, gamma):
    """(y_k, steps taken): epochs until the gradient of h over all rows is down to gamma of what it was."""

    def slope(params):
        gradient = model.gradient(params, x[rows], y[rows])
        return _norm({name: gradient[name] + mu * (params[name] - anchor[name]) for name in params})

    params = {name: value.copy() for name, value in anchor.items()}
    velocity = {name: np.zeros_like(value) for name, value in anchor.items()}
    for j, batch in enumerate(steps):
        gradient = model.gradient(params, x[batch], y[batch])
        for name in params:
            pull = mu * (params[name] - anchor[name])
            velocity[name] = momentum * velocity[name] + gradient[name] + pull
            params[name] = params[name] - rate * velocity[name]
        if gamma is not None and (j + 1) % per_epoch == 0 and slope(params) <= gamma * slope(anchor):
            return params, j + 1
    return params, len(steps)


def fedprox(
    model,
    start,
    x,
    y,
    held,
    batches,
    cohorts,
    *,
    rate,
    batch_size,
    mu,
    momentum=0.0,
    work=None,
    gamma=None,
):
    """(params after the rounds, mu of each round and of the next, steps of each cohort).

    `mu` is a number or a `Follower`; n_k weights over those with rows.
    """
    server, mus, taken = start, [], []
    for t, cohort in enumerate(cohorts):
        now = mu.mu if isinstance(mu, Follower) else mu
        mus.append(now)
        ends, sizes, losses, steps_of = [], [], [], []
        for k in cohort:
            rows = held[k]
            steps = batches[t][k]
            if work is not None:
                steps = steps[: int(np.round(work[t][k] * len(steps)))]
            if len(rows) == 0:
                steps_of.append(0)
                continue
            per_epoch = -(-len(rows) // batch_size)
            end, count = _solve(model, server, x, y, rows, steps, per_epoch, rate, momentum, now, gamma)
            ends.append(end)
            sizes.append(len(rows))
            losses.append(model.loss(server, x[rows], y[rows]))
            steps_of.append(count)
        taken.append(steps_of)
        if not ends:
            continue
        shares = np.array(sizes) / sum(sizes)
        server = {name: sum(p * end[name] for p, end in zip(shares, ends)) for name in start}
        if isinstance(mu, Follower):
            mu.see(float(shares @ np.array(losses)))
    mus.append(mu.mu if isinstance(mu, Follower) else mu)
    return server, mus, taken

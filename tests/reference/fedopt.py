"""The server's rules of the FedOpt family as the papers print them, one entry at a time, float64.

A rule is a generator: it is sent one Delta (float64 [d]) a round and yields the change of w.
"""

import math

import numpy as np

from reference import methods


def fedavgm(size, *, rate, beta=0.9, nesterov=False):
    """Hsu et al. 2019: m <- beta m + Delta; Nesterov's variant goes on by one more step of the recursion."""
    m = [0.0] * size
    change = None
    while True:
        delta = yield change
        change = np.zeros(size)
        for i in range(size):
            m[i] = beta * m[i] + delta[i]
            change[i] = rate * (beta * m[i] + delta[i] if nesterov else m[i])


def _second_moment(name, v, delta, b2):
    if name == "fedadagrad":
        return v + delta**2
    if name == "fedadam":
        return b2 * v + (1 - b2) * delta**2
    if v > delta**2:
        return v - (1 - b2) * delta**2
    return v + (1 - b2) * delta**2 if v < delta**2 else v


def paper(size, name, *, rate, b1=0.9, b2=0.99, tau=1e-3):
    """Reddi et al. 2021, Algorithm 2: m_{-1} = 0, v_{-1} = tau^2, no bias correction."""
    m, v = [0.0] * size, [tau**2] * size
    change = None
    while True:
        delta = yield change
        change = np.zeros(size)
        for i in range(size):
            m[i] = b1 * m[i] + (1 - b1) * delta[i]
            v[i] = _second_moment(name, v[i], delta[i], b2)
            change[i] = rate * m[i] / (math.sqrt(v[i]) + tau)


def keras(size, name, *, rate, b1=0.9, b2=0.999, tau=1e-3):
    """The authors' runs: accumulators start at 0; Adam and Yogi have the corrected rate, Adagrad has no m."""
    m, v = [0.0] * size, [0.0] * size
    change, s = None, 0
    while True:
        delta = yield change
        change = np.zeros(size)
        s += 1
        for i in range(size):
            v[i] = _second_moment(name, v[i], delta[i], b2)
            if name == "fedadagrad":
                change[i] = rate * delta[i] / (math.sqrt(v[i]) + tau)
            else:
                m[i] = b1 * m[i] + (1 - b1) * delta[i]
                corrected = rate * math.sqrt(1 - b2**s) / (1 - b1**s)
                change[i] = corrected * m[i] / (math.sqrt(v[i]) + tau)


def begun(rule):
    """A rule that can be sent its first Delta."""
    next(rule)
    return rule


def path(rule, deltas):
    """The changes of w that a rule makes of a script of Deltas, float64 [T, d]."""
    rule = begun(rule)
    return np.array([rule.send(np.asarray(delta, np.float64)) for delta in deltas])


def _flat(params):
    return np.concatenate([params[name].ravel() for name in sorted(params)])


def _shaped(flat, like):
    params, begin = {}, 0
    for name in sorted(like):
        end = begin + like[name].size
        params[name] = flat[begin:end].reshape(like[name].shape)
        begin = end
    return params


def fedopt(model, start, x, y, held, batches, cohorts, *, rate, rule):
    """Every round: federated averaging from w gives w + Delta; the rule makes of Delta what w moves by.

    `rule` is size -> generator; the other arguments are those of `reference.methods`.
    """
    w, rule = _flat(start), begun(rule(_flat(start).size))
    for clients, cohort in zip(batches, cohorts):
        average = methods.fedavg(model, _shaped(w, start), x, y, held, [clients], [cohort], rate=rate)
        w = w + rule.send(_flat(average) - w)
    return _shaped(w, start)

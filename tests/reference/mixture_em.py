"""FedEM as its paper has it, one client, one component and one row at a time, float64."""

import numpy as np


def expect(model, components, weights, x, y):
    """q [n, M]: the posterior of each row's component."""
    q = np.zeros((len(y), len(components)))
    for i in range(len(y)):
        for m, params in enumerate(components):
            q[i, m] = weights[m] * np.exp(-model.loss(params, x[i : i + 1], y[i : i + 1]))
        q[i] /= q[i].sum()
    return q


def likelihood(model, components, weights, x, y):
    """Sum over rows of log sum_m pi_m p_m."""
    total = 0.0
    for i in range(len(y)):
        rows = (x[i : i + 1], y[i : i + 1])
        total += np.log(sum(w * np.exp(-model.loss(p, *rows)) for w, p in zip(weights, components)))
    return total


def newcomer(model, components, x, y, steps):
    """pi of a client with these rows, after so many E and pi-steps."""
    weights = np.full(len(components), 1 / len(components))
    for _ in range(steps):
        weights = expect(model, components, weights, x, y).mean(axis=0)
    return weights


def fedem(model, start, x, y, held, batches, cohorts, *, rate, momentum=0.0):
    """(components, [pi of each client]); means by n_t over those who took part and have rows.

    Args:
        model: from `reference.models`.
        start: [component] -> params before round 0.
        x, y: the pool.
        held: rows of the pool that each client holds.
        batches: [round][client] -> rows of each local step.
        cohorts: [round] -> client numbers.
        rate: eta.
        momentum: of local work, anew every round.
    """
    components = list(start)
    mixtures = [np.full(len(start), 1 / len(start)) for _ in held]
    for t, cohort in enumerate(cohorts):
        sums = [{name: np.zeros_like(value) for name, value in one.items()} for one in components]
        rows_seen = 0
        for k in cohort:
            rows = held[k]
            if len(rows) == 0:
                continue
            q = expect(model, components, mixtures[k], x[rows], y[rows])
            mixtures[k] = q.mean(axis=0)
            share = dict(zip(rows.tolist(), q))
            rows_seen += len(rows)
            for m, component in enumerate(components):
                params = {name: value.copy() for name, value in component.items()}
                velocity = {name: np.zeros_like(value) for name, value in params.items()}
                for batch in batches[t][k]:
                    gradient = {name: np.zeros_like(value) for name, value in params.items()}
                    for i in batch.tolist():
                        one = model.gradient(params, x[i : i + 1], y[i : i + 1])
                        for name in gradient:
                            gradient[name] += share[i][m] * one[name] / len(batch)
                    for name in params:
                        velocity[name] = momentum * velocity[name] + gradient[name]
                        params[name] = params[name] - rate * velocity[name]
                for name in params:
                    sums[m][name] += len(rows) * params[name]
        if rows_seen:
            components = [{name: value / rows_seen for name, value in one.items()} for one in sums]
    return components, mixtures

"""The methods as their papers print them, one client and one step at a time, float64.

Common arguments:
    model: from `reference.models`.
    start: params before round 0 (IFCA: a list of them).
    x, y: the pool, float64 [M, d] and int [M].
    held: rows of the pool that each client holds.
    batches: [round][client] -> rows of each local step, see `reference.batches`.
    cohorts: [round] -> client numbers.
    rate: eta.
"""

import numpy as np


def _descend(model, params, x, y, steps, rate, momentum=0.0, extra=None):
    """Local SGD; `extra(params)` is added to every gradient."""
    params = {name: value.copy() for name, value in params.items()}
    velocity = {name: np.zeros_like(value) for name, value in params.items()}
    for rows in steps:
        gradient = model.gradient(params, x[rows], y[rows])
        more = extra(params) if extra is not None else {}
        for name in params:
            velocity[name] = momentum * velocity[name] + gradient[name] + more.get(name, 0.0)
            params[name] = params[name] - rate * velocity[name]
    return params


def _with_rows(cohort, held):
    return [k for k in cohort if len(held[k]) > 0]


def _weighted_mean(models, weights):
    whole = sum(weights)
    return {name: sum(w * m[name] for w, m in zip(weights, models)) / whole for name in models[0]}


def fedavg(model, start, x, y, held, batches, cohorts, *, rate, momentum=0.0, mu=0.0):
    """FedAvg, or FedProx for mu > 0: n_k weights over the cohort."""
    server = start
    for t, cohort in enumerate(cohorts):
        anchor, ends, sizes = server, [], []
        for k in _with_rows(cohort, held):

            def pull(params, anchor=anchor):
                return {name: mu * (params[name] - anchor[name]) for name in params}

            ends.append(_descend(model, anchor, x, y, batches[t][k], rate, momentum, pull))
            sizes.append(len(held[k]))
        if ends:
            server = _weighted_mean(ends, sizes)
    return server


def fedprox(model, start, x, y, held, batches, cohorts, *, rate, mu, momentum=0.0):
    """FedAvg with mu/2 |y - w|^2 on every client."""
    return fedavg(model, start, x, y, held, batches, cohorts, rate=rate, momentum=momentum, mu=mu)


def scaffold(
    model, start, x, y, held, batches, cohorts, *, rate, option, momentum=0.0, server_rate=1.0, control=None
):
    """SCAFFOLD: (x, c, [c_i]); uniform over the cohort, c by 1/N with N counting the empty client."""
    server, count = start, len(held)
    zero = {name: np.zeros_like(value) for name, value in start.items()}
    own = [zero] * count if control is None else list(control)
    shared = {name: sum(c[name] for c in own) / count for name in zero}
    for t, cohort in enumerate(cohorts):
        deltas, shifts = [], []
        for k in _with_rows(cohort, held):
            correction = {name: shared[name] - own[k][name] for name in zero}
            end = _descend(model, server, x, y, batches[t][k], rate, momentum, lambda _, c=correction: c)
            if option == "I":
                new = model.gradient(server, x[held[k]], y[held[k]])
            else:
                steps = len(batches[t][k])
                new = {
                    name: own[k][name] - shared[name] + (server[name] - end[name]) / (steps * rate)
                    for name in zero
                }
            deltas.append({name: end[name] - server[name] for name in zero})
            shifts.append({name: new[name] - own[k][name] for name in zero})
            own[k] = new
        server = {
            name: server[name] + server_rate * sum(d[name] for d in deltas) / len(deltas) for name in zero
        }
        shared = {name: shared[name] + sum(s[name] for s in shifts) / count for name in zero}
    return server, shared, own


def ifca(model, start, x, y, held, batches, cohorts, *, rate, momentum=0.0):
    """IFCA, model averaging with n_k weights within a cluster: (centres, last choice of each client or -1)."""
    centres, choices = list(start), [-1] * len(held)
    for t, cohort in enumerate(cohorts):
        members = [[] for _ in centres]
        for k in _with_rows(cohort, held):
            losses = [model.loss(centre, x[held[k]], y[held[k]]) for centre in centres]
            j = choices[k] = int(np.argmin(losses))
            end = _descend(model, centres[j], x, y, batches[t][k], rate, momentum)
            members[j].append((end, len(held[k])))
        for j, group in enumerate(members):
            if group:
                centres[j] = _weighted_mean([end for end, _ in group], [size for _, size in group])
    return centres, choices


def fedper(model, start, x, y, held, batches, cohorts, *, rate, personal, momentum=0.0):
    """FedPer: (shared leaves, [personal leaves of each client]); the leaves named in `personal` stay."""
    shared = {name: value for name, value in start.items() if name not in personal}
    own = [{name: start[name] for name in personal} for _ in held]
    for t, cohort in enumerate(cohorts):
        ends, sizes = [], []
        for k in _with_rows(cohort, held):
            end = _descend(model, {**shared, **own[k]}, x, y, batches[t][k], rate, momentum)
            own[k] = {name: end[name] for name in personal}
            ends.append({name: end[name] for name in shared})
            sizes.append(len(held[k]))
        if ends:
            shared = _weighted_mean(ends, sizes)
    return shared, own


def local_only(model, start, x, y, held, batches, cohorts, *, rate, momentum=0.0):
    """Everyone for himself, in the rounds that draw him: [params of each client]."""
    return fedper(
        model, start, x, y, held, batches, cohorts, rate=rate, personal=list(start), momentum=momentum
    )[1]

"""The fairness methods as their papers have them, float64: q-FFL, AFL, agnostic FedAvg, TERM.

Arguments as in `reference.methods`. Powers and exponentials are taken as they stand, without a shift, so use
numbers that float64 holds.
"""

import numpy as np

FLOOR = 1e-10
"""Added to a loss inside a power."""


def _trained(model, start, x, y, steps, rate, scaled=None):
    """Local SGD; `scaled(params, rows)` takes the place of the batch's mean gradient."""
    params = {name: value.copy() for name, value in start.items()}
    for rows in steps:
        gradient = model.gradient(params, x[rows], y[rows]) if scaled is None else scaled(params, rows)
        params = {name: params[name] - rate * gradient[name] for name in params}
    return params


def _present(cohort, held):
    return [k for k in cohort if len(held[k]) > 0]


def _combined(weights, trees):
    return {name: sum(w * t[name] for w, t in zip(weights, trees)) for name in trees[0]}


def _ratio_step(server, q, smooth, weights, losses, grads):
    """w - sum p F^q g / sum p h, with h = q F^(q-1) |g|^2 + L F^q."""
    numerator = {name: np.zeros_like(value) for name, value in server.items()}
    denominator = 0.0
    for weight, loss, g in zip(weights, losses, grads):
        square = sum(float((leaf**2).sum()) for leaf in g.values())
        power = (loss + FLOOR) ** q
        for name in numerator:
            numerator[name] = numerator[name] + weight * power * g[name]
        denominator += weight * (q * (loss + FLOOR) ** (q - 1) * square + smooth * power)
    return {name: server[name] - numerator[name] / denominator for name in server}


def _weights(base, cohort, held):
    return [len(held[k]) if base == "proportional" else 1 for k in cohort]


def qfedavg(model, start, x, y, held, batches, cohorts, *, rate, q, base="uniform", decay=1.0, smooth=None):
    """q-FedAvg; the local rate is `rate` times `decay` to the round, L stays 1/rate unless given."""
    server, smooth = start, 1 / rate if smooth is None else smooth
    for t, cohort in enumerate(cohorts):
        present = _present(cohort, held)
        losses = [model.loss(server, x[held[k]], y[held[k]]) for k in present]
        grads = []
        for k in present:
            end = _trained(model, server, x, y, batches[t][k], rate * decay**t)
            grads.append({name: smooth * (server[name] - end[name]) for name in server})
        server = _ratio_step(server, q, smooth, _weights(base, present, held), losses, grads)
    return server


def qfedsgd(model, start, x, y, held, batches, cohorts, *, rate, q, base="uniform"):
    """q-FedSGD on each client's first batch of the round, F_k and its gradient both."""
    server = start
    for t, cohort in enumerate(cohorts):
        present = _present(cohort, held)
        rows = [batches[t][k][0] for k in present]
        losses = [model.loss(server, x[r], y[r]) for r in rows]
        grads = [model.gradient(server, x[r], y[r]) for r in rows]
        server = _ratio_step(server, q, 1 / rate, _weights(base, present, held), losses, grads)
    return server


def term(model, start, x, y, held, batches, cohorts, *, rate, t, base="proportional"):
    """FedAvg with weights p_k exp(t F_k(w)), F_k before training."""
    server = start
    for round_, cohort in enumerate(cohorts):
        present = _present(cohort, held)
        raised = [
            weight * np.exp(t * model.loss(server, x[held[k]], y[held[k]]))
            for k, weight in zip(present, _weights(base, present, held))
        ]
        ends = [_trained(model, server, x, y, batches[round_][k], rate) for k in present]
        server = _combined([r / sum(raised) for r in raised], ends)
    return server


def nearest_in_simplex(values):
    """The projection, its threshold found by bisection."""
    values = np.asarray(values, np.float64)
    low, high = values.min() - 1, values.max()
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(values - middle, 0).sum() > 1:
            low = middle
        else:
            high = middle
    return np.maximum(values - (low + high) / 2, 0)


def afl(model, start, x, y, held, batches, rounds, *, rate, gamma, mixture=None, missing=()):
    """AFL, every client a domain: (w, lambda, mean of w_1..w_T, [lambda after each round]).

    `missing` [round] -> clients left out of that round, who keep their lambda.
    """
    server, domains = start, _present(range(len(held)), held)
    share = np.zeros(len(held))
    share[domains] = 1.0 if mixture is None else np.asarray(mixture, np.float64)[domains]
    share /= share.sum()
    iterates, path = [], []
    for t in range(rounds):
        losses, grads = np.zeros(len(held)), []
        there = [k for k in domains if t >= len(missing) or k not in missing[t]]
        for k in there:
            rows = batches[t][k][0]
            losses[k] = model.loss(server, x[rows], y[rows])
            grads.append(model.gradient(server, x[rows], y[rows]))
        mixed = _combined([share[k] for k in there], grads)
        server = {name: server[name] - rate * mixed[name] for name in server}
        moved, rest = share.copy(), share[there].sum()
        moved[there] = rest * nearest_in_simplex((share + gamma * losses)[there] / rest)
        share = moved
        iterates.append(server)
        path.append(share)
    mean = _combined([1 / rounds] * rounds, iterates)
    return server, share, mean, path


def agnostic(model, start, x, y, held, batches, cohorts, *, rate, gamma, domain, domains, window=1, full=False):
    """Agnostic FedAvg: (w, lambda, window [W, K]).

    `domain(client, rows)` -> domain of each row; `full`: one step on all rows instead of the batches.
    """
    server, share = start, np.full(domains, 1 / domains)
    counts = [np.ones(domains) for _ in range(window)]
    rows_of = np.ones(domains)
    for t, cohort in enumerate(cohorts):
        alpha = share / rows_of
        ends, betas = [], []
        losses, seen = np.zeros(domains), np.zeros(domains)
        for k in _present(cohort, held):
            beta = 0.0
            for row, j in zip(held[k], domain(k, held[k])):
                losses[j] += model.loss(server, x[[row]], y[[row]])
                seen[j] += 1
                beta += alpha[j]

            def scaled(params, rows, k=k, alpha=alpha, beta=beta):
                parts = [model.gradient(params, x[[row]], y[[row]]) for row in rows]
                return _combined([alpha[j] / beta for j in domain(k, rows)], parts)

            steps = [held[k]] if full else batches[t][k]
            ends.append(_trained(model, server, x, y, steps, rate, scaled))
            betas.append(beta)
        server = _combined([beta / sum(betas) for beta in betas], ends)
        mean_loss = [losses[j] / seen[j] if seen[j] else 0.0 for j in range(domains)]
        share = share * np.exp(gamma * np.array(mean_loss))
        share = share / share.sum()
        counts = [*counts[1:], seen]
        mean = np.mean(counts, axis=0)
        rows_of = np.where(mean > 0, mean, rows_of)
    return server, share, np.array(counts)

"""FedNova as its paper has it, float64: one client, one step and one gradient's weight at a time.

Arguments as in `reference.methods`; `work` [round][client] is the fraction of its steps that a client takes,
and `rates` the step sizes of a round's local steps, instead of `rate`.
"""

import numpy as np


def weights_of_gradients(rates, momentum=0.0, mu=0.0, prox="outside"):
    """a, in units of the first rate: how much of each unit gradient is in the displacement at the end.

    Each gradient is followed on its own through all later steps, as an impulse.
    """
    weights = []
    for i in range(len(rates)):
        velocity = displacement = 0.0
        for j, rate in enumerate(rates):
            velocity = momentum * velocity + (1.0 if j == i else 0.0)
            if prox == "inside":
                velocity -= mu * displacement
                displacement += rate * velocity
            else:
                displacement += rate * (velocity - mu * displacement)
        weights.append(displacement / rates[0])
    return np.array(weights)


def authors_count(rate, steps, momentum, mu):
    """What the authors' optimiser takes for |a|_1; right unless both momentum and mu are there."""
    counter = total = 0.0
    for _ in range(steps):
        if momentum:
            counter = counter * momentum + 1
            total += counter
        if mu:
            total = total * (1 - rate * mu) + 1
        if not momentum and not mu:
            total += 1
    return total


def local_work(model, start, x, y, steps, rates, momentum, mu, prox):
    """y_k."""
    params = {name: value.copy() for name, value in start.items()}
    velocity = {name: np.zeros_like(value) for name, value in start.items()}
    for rows, rate in zip(steps, rates):
        gradient = model.gradient(params, x[rows], y[rows])
        for name in params:
            back = mu * (params[name] - start[name])
            velocity[name] = momentum * velocity[name] + gradient[name]
            if prox == "inside":
                velocity[name] = velocity[name] + back
                back = 0.0
            params[name] = params[name] - rate * (velocity[name] + back)
    return params


def fednova(
    model,
    start,
    x,
    y,
    held,
    batches,
    cohorts,
    *,
    rate,
    rates=None,
    momentum=0.0,
    mu=0.0,
    prox="outside",
    effective_steps="norm",
    server_momentum=0.0,
    work=None,
):
    """The server's params after the rounds; n_k weights over those who took a step."""
    server = start
    buffer = {name: np.zeros_like(value) for name, value in start.items()}
    for t, cohort in enumerate(cohorts):
        sizes, directions, effective = [], [], []
        for k in cohort:
            steps = batches[t][k]
            if work is not None:
                steps = steps[: int(np.round(work[t][k] * len(steps)))]
            if not steps:
                continue
            own = [rate] * len(steps) if rates is None else [float(r) for r in rates[: len(steps)]]
            end = local_work(model, server, x, y, steps, own, momentum, mu, prox)
            norm = weights_of_gradients(own, momentum, mu, prox).sum()
            directions.append({name: (server[name] - end[name]) / (own[0] * norm) for name in start})
            effective.append(norm if effective_steps == "norm" else len(steps))
            sizes.append(len(held[k]))
        if not sizes:
            continue
        first = rate if rates is None else rates[0]
        shares = np.array(sizes) / sum(sizes)
        tau = float(shares @ np.array(effective))
        for name in start:
            mean = sum(share * direction[name] for share, direction in zip(shares, directions))
            buffer[name] = server_momentum * buffer[name] + first * tau * mean
        server = {name: server[name] - buffer[name] for name in start}
    return server

"""Methods with personal leaves as their papers print them, one client and one step at a time, float64.

Arguments are those of `reference.methods`; params are dicts: name -> array.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het import keys


def orders(plan, federation, key_of):
    """Rows of the pool of every batch of one pass: [client] -> list of int arrays, from each client's key."""
    index, clients = np.asarray(federation.train.index), []

    @jax.jit
    def batch(plan, key, k, j):
        data = federation.data("train", federation.locate("train", jnp.int32(0), k))
        return data.offset, plan.steps(data), *plan.positions(data, keys.seed(keys.stream(key, "order")), j)

    for k in range(federation.num_clients):
        steps, j = [], 0
        while True:
            offset, many, position, counts = batch(plan, key_of(k), jnp.int32(k), jnp.int32(j))
            if j >= int(many):
                break
            steps.append(index[int(offset) + np.asarray(position)[np.asarray(counts)]])
            j += 1
        clients.append(steps)
    return clients


def passes(plan, federation, key, rounds, name=None):
    """[round][client] -> batches of the pass called `name` of a round, or of the round's own."""

    def of(t):
        def key_of(k):
            own = keys.client(keys.stream(keys.round_(key, jnp.int32(t)), "client"), jnp.int32(k))
            return own if name is None else keys.stream(own, name)

        return orders(plan, federation, key_of)

    return [of(t) for t in range(rounds)]


def descend(model, params, x, y, steps, rate, moved, momentum=0.0, ridge=0.0):
    """SGD on the leaves named in `moved`; nothing touches the others."""
    params = dict(params)
    velocity = {name: np.zeros_like(params[name]) for name in moved}
    for rows in steps:
        gradient = model.gradient(params, x[rows], y[rows])
        velocity = {n: momentum * velocity[n] + gradient[n] + ridge * params[n] for n in moved}
        params = {**params, **{n: params[n] - rate * velocity[n] for n in moved}}
    return params


def partial(
    model,
    start,
    x,
    y,
    held,
    batches,
    cohorts,
    *,
    rate,
    personal,
    own=None,
    momentum=0.0,
    ridge=0.0,
    weights="proportional",
    task=None,
):
    """(u, [v of each client, or of each task]) after the rounds.

    Args:
        personal: names of the leaves that are not everybody's.
        own: batches of the pass on them alone, which comes first; None trains jointly.
        weights: "proportional" or "uniform".
        task: whose head each client uses, [N]; None for one a client.
    """
    shared = [name for name in start if name not in personal]
    whose = list(range(len(held))) if task is None else list(task)
    u = {name: start[name] for name in shared}
    v = [{name: start[name] for name in personal} for _ in range(max(whose) + 1)]
    for t, cohort in enumerate(cohorts):
        ends = []
        for k in cohort:
            if len(held[k]) == 0:
                continue
            w = {**u, **v[whose[k]]}
            if own is None:
                w = descend(model, w, x, y, batches[t][k], rate, list(start), momentum, ridge)
            else:
                w = descend(model, w, x, y, own[t][k], rate, personal, momentum, ridge)
                w = descend(model, w, x, y, batches[t][k], rate, shared, momentum, ridge)
            ends.append((whose[k], len(held[k]) if weights == "proportional" else 1, w))
        if not ends:
            continue
        everybody = sum(say for _, say, _ in ends)
        u = {name: sum(say * w[name] for _, say, w in ends) / everybody for name in shared}
        for j in {whom for whom, _, _ in ends}:
            members = [(say, w) for whom, say, w in ends if whom == j]
            voices = sum(say for say, _ in members)
            v[j] = {name: sum(say * w[name] for say, w in members) / voices for name in personal}
    return u, v


class NormalisedNetwork:
    """Dense (in_kernel, in_bias), normalisation over the batch (scale, shift), tanh, dense (out_...)."""

    EPSILON, MEMORY = 1e-5, 0.9

    @classmethod
    def gradient(cls, params, x, y):
        """(gradients, mean, variance) of the batch."""
        before = x @ params["in_kernel"] + params["in_bias"]
        mean, variance = before.mean(axis=0), before.var(axis=0)
        deviation = np.sqrt(variance + cls.EPSILON)
        unit = (before - mean) / deviation
        hidden = np.tanh(unit * params["scale"] + params["shift"])
        logits = hidden @ params["out_kernel"] + params["out_bias"]
        error = np.exp(logits - logits.max(axis=1, keepdims=True))
        error /= error.sum(axis=1, keepdims=True)
        for i, label in enumerate(y):
            error[i, label] -= 1
        error /= len(y)
        back = (error @ params["out_kernel"].T) * (1 - hidden**2)
        inner = back * params["scale"]
        outer = (inner - inner.mean(axis=0) - unit * (inner * unit).mean(axis=0)) / deviation
        slopes = {
            "in_kernel": x.T @ outer,
            "in_bias": outer.sum(axis=0),
            "scale": (back * unit).sum(axis=0),
            "shift": back.sum(axis=0),
            "out_kernel": hidden.T @ error,
            "out_bias": error.sum(axis=0),
        }
        return slopes, mean, variance


def fedbn(model, start, x, y, held, batches, cohorts, *, rate):
    """(u, [(scale and shift, running mean, running variance) of each client]), every client alike."""
    local = ("scale", "shift")
    u = {name: value for name, value in start.items() if name not in local}
    width = start["scale"].shape
    own = [({name: start[name] for name in local}, np.zeros(width), np.ones(width)) for _ in held]
    for t, cohort in enumerate(cohorts):
        ends = []
        for k in cohort:
            if len(held[k]) == 0:
                continue
            layer, mean, variance = own[k]
            w = {**u, **layer}
            for rows in batches[t][k]:
                slopes, batch_mean, batch_variance = model.gradient(w, x[rows], y[rows])
                w = {name: w[name] - rate * slopes[name] for name in w}
                mean = model.MEMORY * mean + (1 - model.MEMORY) * batch_mean
                variance = model.MEMORY * variance + (1 - model.MEMORY) * batch_variance
            own[k] = ({name: w[name] for name in local}, mean, variance)
            ends.append(w)
        if ends:
            u = {name: sum(w[name] for w in ends) / len(ends) for name in u}
    return u, own

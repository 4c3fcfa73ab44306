"""Fine-tuning, APFL and Per-FedAvg as their papers print them, one client and one step at a time, float64.

Common arguments: see `reference.methods`. Parameters are dicts: name -> array.
"""

import numpy as np


def _plus(a, factor, b):
    return {name: a[name] + factor * b[name] for name in a}


def _uniform_mean(models):
    return {name: sum(m[name] for m in models) / len(models) for name in models[0]}


def _zero(params):
    return {name: np.zeros_like(value) for name, value in params.items()}


def _flow(velocity, momentum, slope):
    return {name: momentum * velocity[name] + slope[name] for name in slope}


def _inner(a, b):
    return sum(float((a[name] * b[name]).sum()) for name in a)


def tune(model, w, x, y, epochs, valid, *, rate, patience, min_delta=0.0, momentum=0.0, leaves=None):
    """(the tuned params, the epoch that they are of, epochs done).

    Args:
        epochs: [epoch] -> [step] -> rows; as many as may be done.
        valid: validation rows, or None to do all epochs and score none.
        leaves: names of what is tuned; all if None.
    """
    now, velocity = w, _zero(w)
    best, when, waited, done = w, 0, 0, 0
    least = None if valid is None else model.loss(w, x[valid], y[valid])
    for number, steps in enumerate(epochs, 1):
        if valid is not None and waited >= patience:
            break
        for rows in steps:
            slope = model.gradient(now, x[rows], y[rows])
            velocity = _flow(velocity, momentum, slope)
            now = {
                name: now[name] - rate * velocity[name] if leaves is None or name in leaves else now[name]
                for name in now
            }
        done = number
        loss = None if valid is None else model.loss(now, x[valid], y[valid])
        if valid is None or loss < least - min_delta:
            best, when, least, waited = now, number, loss, 0
        else:
            waited += 1
    return best, when, done


def apfl(
    model, start, x, y, held, batches, cohorts, *, rate, alpha, adaptive=False, momentum=0.0, mixed_with="own"
):
    """(w, [v_k], [alpha_k], [the mixture that each client uses]) after the rounds."""
    count = len(held)
    w, v, last, share = start, [start] * count, [start] * count, [alpha] * count

    def mixture(k, other):
        return {name: share[k] * v[k][name] + (1 - share[k]) * other[name] for name in other}

    for t, cohort in enumerate(cohorts):
        present = [k for k in cohort if len(held[k]) > 0]
        for k in present:
            own, shared, velocity, flow = v[k], w, _zero(w), _zero(w)
            for j, rows in enumerate(batches[t][k]):
                v[k] = own
                pull = model.gradient(mixture(k, shared), x[rows], y[rows])
                slope = model.gradient(shared, x[rows], y[rows])
                turn = _inner({name: own[name] - shared[name] for name in own}, pull)
                flow = _flow(flow, momentum, {name: share[k] * pull[name] for name in pull})
                own = _plus(own, -rate, flow)
                velocity = _flow(velocity, momentum, slope)
                shared = _plus(shared, -rate, velocity)
                if adaptive and j == 0:
                    share[k] = min(1.0, max(0.0, share[k] - rate * turn))
            v[k], last[k] = own, shared
        if present:
            w = _uniform_mean([last[k] for k in present])
    used = [mixture(k, last[k] if mixed_with == "own" else w) for k in range(count)]
    return w, v, share, used


def curvature(model, params, direction, x, y):
    """The Hessian of the mean loss times a direction, by a complex step through the gradient by hand."""
    tiny = 1e-20
    aside = {name: params[name] + 1j * tiny * direction[name] for name in params}
    return {name: value.imag / tiny for name, value in _complex_gradient(model, aside, x, y).items()}


def _complex_gradient(model, params, x, y):
    return model.gradient(params, x.astype(complex), y)


def perfedavg(
    model,
    start,
    x,
    y,
    held,
    batches,
    cohorts,
    *,
    rate,
    alpha,
    variant,
    separate,
    delta=1e-3,
    momentum=0.0,
    steps=None,
):
    """w after the rounds.

    Args:
        batches: [round][client] -> rows of consecutive batches, enough of them.
        steps: [client] -> local steps.
    """
    w, each = start, 2 if variant == "fo" else 3
    for t, cohort in enumerate(cohorts):
        ends = []
        for k in (k for k in cohort if len(held[k]) > 0):
            here, velocity = w, _zero(w)
            for j in range(steps[k]):
                read = [batches[t][k][each * j + i if separate else j] for i in range(each)]
                first, second, third = (read + read[-1:])[:3]
                ahead = _plus(here, -alpha, model.gradient(here, x[first], y[first]))
                slope = model.gradient(ahead, x[second], y[second])
                if variant == "exact":
                    bend = curvature(model, here, slope, x[third], y[third])
                    slope = _plus(slope, -alpha, bend)
                elif variant == "hf":
                    right = model.gradient(_plus(here, delta, slope), x[third], y[third])
                    left = model.gradient(_plus(here, -delta, slope), x[third], y[third])
                    bend = {name: (right[name] - left[name]) / (2 * delta) for name in slope}
                    slope = _plus(slope, -alpha, bend)
                velocity = _flow(velocity, momentum, slope)
                here = _plus(here, -rate, velocity)
            ends.append(here)
        if ends:
            w = _uniform_mean(ends)
    return w


def adapted(model, w, x, y, rows, *, alpha, steps):
    """w after gradient steps of alpha on these rows; w where there are none."""
    for _ in range(steps if len(rows) else 0):
        w = _plus(w, -alpha, model.gradient(w, x[rows], y[rows]))
    return w


def perfedavg_limit(A, a, *, rate, alpha, steps, variant):
    """Where Per-FedAvg ends on F_k(w) = 1/2 (w - a_k)' A_k (w - a_k), full batches, everyone, uniform.

    The meta-gradient is M_k (w - a_k); E steps go to a_k + (I - beta M_k)^E (w - a_k).
    """
    pulls = []
    for matrix in A:
        identity = np.eye(len(matrix))
        ahead = identity - alpha * matrix
        bent = matrix @ ahead if variant == "fo" else ahead @ matrix @ ahead
        pulls.append(identity - np.linalg.matrix_power(identity - rate * bent, steps))
    return np.linalg.solve(sum(pulls), sum(pull @ point for pull, point in zip(pulls, a)))

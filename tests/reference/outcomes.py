"""Every outcome of a round of FedAvg on quadratics with noisy gradients and a drawn cohort, one by one."""

import itertools

import numpy as np


def orders(values, steps):
    """All equally likely sequences of draws without replacement from `values`, which begin anew when empty."""
    if steps == 0:
        return [()]
    length = min(int(steps), len(values))
    epoch = list(itertools.permutations(range(len(values)), length))
    later = orders(values, steps - length)
    return [tuple(values[i] for i in first) + rest for first in epoch for rest in later]


def signs(noise, steps):
    """All equally likely sequences of independent draws from +noise and -noise."""
    return [tuple(sign * noise for sign in pick) for pick in itertools.product((1, -1), repeat=steps)]


def end(A, b, w, noises, *, rate, mu=0.0):
    """Where local steps end that add `noises` to the gradients, one after another."""
    y = np.array(w, float)
    for noise in noises:
        y = y - rate * (A @ y - b + mu * (y - w) + noise)
    return y


def everyone(p, w, ends):
    """(probability, w+) of every outcome; ends[k] holds client k's equally likely ends."""
    for each in itertools.product(*ends):
        yield 1 / np.prod([len(choices) for choices in ends]), sum(pk * y for pk, y in zip(p, each))


def with_replacement(p, w, ends, draws, fresh):
    """The mean over draws with probabilities p; one run a client, or one a draw."""
    for drawn in itertools.product(range(len(p)), repeat=draws):
        chance = np.prod([p[k] for k in drawn])
        if fresh:
            for each in itertools.product(*[ends[k] for k in drawn]):
                yield chance / np.prod([len(ends[k]) for k in drawn]), sum(each) / draws
        else:
            members = sorted(set(drawn))
            for each in itertools.product(*[ends[k] for k in members]):
                run = dict(zip(members, each))
                yield chance / np.prod([len(ends[k]) for k in members]), sum(run[k] for k in drawn) / draws


def without_replacement(p, w, ends, draws):
    """w + (N/K) sum over the cohort of p_k (y_k - w)."""
    cohorts = list(itertools.combinations(range(len(p)), draws))
    for cohort in cohorts:
        chance = 1 / len(cohorts) / np.prod([len(ends[k]) for k in cohort])
        for each in itertools.product(*[ends[k] for k in cohort]):
            yield chance, w + len(p) / draws * sum(p[k] * (y - w) for k, y in zip(cohort, each))


def mean_and_covariance(weighted):
    """Of (probability, vector) pairs, which sum to 1."""
    weighted = list(weighted)
    assert abs(sum(chance for chance, _ in weighted) - 1) < 1e-12
    mean = sum(chance * vector for chance, vector in weighted)
    return mean, sum(chance * np.outer(vector - mean, vector - mean) for chance, vector in weighted)

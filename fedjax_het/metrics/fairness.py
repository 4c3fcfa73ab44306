"""How evenly a metric is spread over clients.

Everywhere: values [..., N], one a client; `held` bool [..., N], whether the client counts; `weight` [..., N],
how much it counts (its rows, say), by default all alike, so that every user's experience counts the same.
Below, x_k is the value of client k and p_k its share of the weight, 1/N by default. Results are [...], NaN if
nobody counts. What compares shares of a whole (Gini, Jain, entropy, divergence) is NaN also where the mean is 0
or infinite, or a value negative.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "best_decile",
    "deviation",
    "divergence",
    "entropy",
    "gini",
    "jain",
    "mean",
    "sampling_error",
    "spread",
    "variance",
    "worst_decile",
]


def _mass(held: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Non-negative weights that sum to 1 over the clients that count, [..., N]; zeros if nobody does."""
    mass = np.where(held, 1.0 if weight is None else np.asarray(weight, float), 0.0)
    total = mass.sum(-1, keepdims=True)
    return np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)


def _counted(value: np.ndarray, mass: np.ndarray) -> np.ndarray:
    return np.where(mass.sum(-1) > 0, value, np.nan)


def mean(values: np.ndarray, held: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Mean over clients."""
    mass = _mass(held, weight)
    return _counted(np.where(mass > 0, values * mass, 0).sum(-1), mass)


def deviation(values: np.ndarray, held: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Standard deviation over clients: they are all there are, so the divisor is their number."""
    return np.sqrt(variance(values, held, weight))


def variance(
    values: np.ndarray, held: np.ndarray, weight: np.ndarray | None = None, *, percent: bool = False
) -> np.ndarray:
    """Variance over clients, sum_k p_k (x_k - mean)^2: they are all there are, so the divisor is their number.

    Args:
        values: see above.
        held: see above.
        weight: see above.
        percent: of 100 x_k, in percent squared, as the variance of accuracies is usually printed.

    Reference: Li, Sanjabi, Beirami, Smith, Fair Resource Allocation in Federated Learning, ICLR 2020, whose
    tables have the unweighted variance of accuracies in percent: clients count alike, whatever their rows.
    """
    mass = _mass(held, weight)
    scale = 100.0**2 if percent else 1.0
    with np.errstate(invalid="ignore"):  # of an infinite value: NaN says it
        centre = np.where(mass > 0, values * mass, 0).sum(-1, keepdims=True)
        return _counted(scale * np.where(mass > 0, (values - centre) ** 2 * mass, 0).sum(-1), mass)


def _shares(
    values: np.ndarray, held: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(p_k, x_k / mean, whether those are shares of a whole); 0 in the first two where a client has none."""
    mass = _mass(held, weight)
    x = np.where(mass > 0, values, 0.0)
    centre = np.sum(mass * x, -1, keepdims=True)
    real = (centre > 0) & np.isfinite(centre)
    relative = np.divide(x, centre, out=np.zeros_like(x), where=real)
    return mass, relative, real[..., 0] & (x >= 0).all(-1)


def jain(values: np.ndarray, held: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Jain's index of a metric that is not negative: (sum_k p_k x_k)^2 / sum_k p_k x_k^2.

    1 where all are alike, 1/N where one of N clients has everything (its p_k, if weighted). Without weights it
    is the square of the cosine between (x_1, ..., x_N) and (1, ..., 1).

    Reference: Jain, Chiu, Hawe, A Quantitative Measure of Fairness and Discrimination for Resource Allocation
    in Shared Computer Systems, DEC Research Report TR-301, 1984. Li et al., ICLR 2020, appendix, have the
    cosine itself.
    """
    mass, relative, whole = _shares(values, held, weight)
    square = np.sum(mass * relative**2, -1)
    return np.divide(1.0, square, out=np.full(square.shape, np.nan), where=whole)


def divergence(values: np.ndarray, held: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Kullback-Leibler divergence, in nats, of the clients' shares of the metric from their weights.

    KL(s || p) = sum_k s_k log(s_k / p_k) with s_k = p_k x_k / sum_j p_j x_j; without weights, from the uniform
    distribution. 0 where all are alike, log N where one of N clients has everything (-log p_k, if weighted).

    Reference: Theil, Economics and Information Theory, 1967, chapter 4: it is his index of inequality.
    """
    mass, relative, whole = _shares(values, held, weight)
    safe = np.where(relative > 0, relative, 1.0)  # 0 log 0 is 0
    return np.where(whole, np.sum(mass * relative * np.log(safe), -1), np.nan)


def entropy(values: np.ndarray, held: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Entropy, in nats, of the clients' shares of the metric: -sum_k s_k log s_k with s_k = x_k / sum_j x_j.

    log N if and only if all N clients are alike, 0 where one has everything. With weights it is
    log N - `divergence`, which is still log N for equal clients, and may fall below 0.

    Reference: Li, Sanjabi, Beirami, Smith, Fair Resource Allocation in Federated Learning, ICLR 2020, appendix,
    uniformity by the entropy of the normalised performance. Departure: theirs has no weights.
    """
    count = np.sum(_mass(held, weight) > 0, -1)
    return np.log(np.maximum(count, 1)) - divergence(values, held, weight)


def gini(values: np.ndarray, held: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Gini coefficient of a metric that is not negative: half the mean difference of two clients over the mean.

    0 where all are alike, towards 1 where one has everything: 1 - 1/N (1 - p_k, if weighted).

    Reference: Gini, Variabilità e mutabilità, 1912; Sen, On Economic Inequality, 1973, section 2.8.
    """
    mass = _mass(held, weight)
    order = np.argsort(np.where(mass > 0, values, np.inf), axis=-1, kind="stable")
    x = np.take_along_axis(np.where(mass > 0, values, 0), order, -1)
    p = np.take_along_axis(mass, order, -1)
    x = np.where(np.isfinite(x).all(-1, keepdims=True), x, np.nan)  # infinity has no share
    # sum_i sum_j p_i p_j |x_i - x_j| = 2 sum_i p_i x_i (2 F_i - p_i - 1) with F the cumulated mass
    half = np.sum(p * x * (2 * np.cumsum(p, -1) - p - 1), -1)
    centre = np.sum(p * x, -1)
    return np.divide(half, centre, out=np.full_like(centre, np.nan), where=(centre != 0) & (x >= 0).all(-1))


def _decile(
    values: np.ndarray, held: np.ndarray, weight: np.ndarray | None, low_is_good: bool, worst: bool
) -> np.ndarray:
    """The mean over a tenth of the clients at one end."""
    sign = 1.0 if low_is_good != worst else -1.0
    mass = _mass(held, weight)
    order = np.argsort(np.where(mass > 0, sign * values, np.inf), axis=-1, kind="stable")
    x = np.take_along_axis(np.where(mass > 0, values, 0), order, -1)
    p = np.take_along_axis(mass, order, -1)
    if weight is None:
        count = np.ceil(np.asarray(held).sum(-1, keepdims=True) / 10)
        share = (np.arange(values.shape[-1]) < count).astype(float)
    else:
        share = np.clip(0.1 - (np.cumsum(p, -1) - p), 0, p)
    total = share.sum(-1)
    return _counted(np.divide((x * share).sum(-1), total, out=np.zeros_like(total), where=total > 0), mass)


def worst_decile(
    values: np.ndarray, held: np.ndarray, weight: np.ndarray | None = None, *, low_is_good: bool = False
) -> np.ndarray:
    """Mean over the worst tenth of clients, rounded up; with weights, over a tenth of the weight exactly."""
    return _decile(values, held, weight, low_is_good, True)


def best_decile(
    values: np.ndarray, held: np.ndarray, weight: np.ndarray | None = None, *, low_is_good: bool = False
) -> np.ndarray:
    """Mean over the best tenth of clients, rounded up; with weights, over a tenth of the weight exactly."""
    return _decile(values, held, weight, low_is_good, False)


def spread(
    values: np.ndarray, held: np.ndarray, weight: np.ndarray | None = None, *, low_is_good: bool = False
) -> dict[str, np.ndarray]:
    """All of them by name: mean, sd, variance, worst and best decile, Gini, Jain, entropy, divergence."""
    return {
        "mean": mean(values, held, weight),
        "sd": deviation(values, held, weight),
        "variance": variance(values, held, weight),
        "worst decile": worst_decile(values, held, weight, low_is_good=low_is_good),
        "best decile": best_decile(values, held, weight, low_is_good=low_is_good),
        "Gini": gini(values, held, weight),
        "Jain": jain(values, held, weight),
        "entropy": entropy(values, held, weight),
        "divergence": divergence(values, held, weight),
    }


def sampling_error(
    values: np.ndarray, held: np.ndarray, population: int, weight: np.ndarray | None = None
) -> np.ndarray:
    """Standard error of the mean over a simple random sample of clients, as an estimate for all of them.

    Args:
        values: of the m clients sampled without replacement, [..., m].
        held: whether a sampled client counts, bool [..., m].
        population: N, of whom they were sampled.
        weight: of each sampled client, [..., m], such as its rows: the mean is then the ratio of two sums.

    Returns:
        s / (mean weight * sqrt(k)) * sqrt(1 - m / N), with k the clients that count and s the standard
        deviation (divisor k - 1) of weight * (value - mean); NaN for fewer than two.

    Reference: Cochran, Sampling Techniques, 3rd ed., 1977, eq. 2.20 and 6.13.
    """
    held = np.asarray(held)
    weight = np.ones_like(values) if weight is None else np.asarray(weight, float)
    centre = mean(values, held, weight)[..., None]
    residual = np.where(held, weight * (values - centre), 0)
    count = held.sum(-1)
    variance = (residual**2).sum(-1) / np.where(count > 1, count - 1, np.nan)
    size = mean(weight, held)
    left = 1 - values.shape[-1] / population
    return np.sqrt(variance / np.maximum(count, 1) * left) / size

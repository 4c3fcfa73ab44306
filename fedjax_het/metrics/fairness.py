"""How evenly a metric is spread over clients.

Everywhere: values [..., N], one a client; `held` bool [..., N], whether the client counts; `weight` [..., N],
how much it counts (its rows, say), by default all alike. Results are [...], NaN if nobody counts.
"""

from __future__ import annotations

import numpy as np

__all__ = ["best_decile", "deviation", "gini", "mean", "sampling_error", "spread", "worst_decile"]


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
    mass = _mass(held, weight)
    centre = np.where(mass > 0, values * mass, 0).sum(-1, keepdims=True)
    return _counted(np.sqrt(np.where(mass > 0, (values - centre) ** 2 * mass, 0).sum(-1)), mass)


def gini(values: np.ndarray, held: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Gini coefficient of a metric that is not negative: half the mean difference of two clients over the mean.

    0 where all are alike, towards 1 where one has everything; NaN also where the mean is 0 or a value negative.
    """
    mass = _mass(held, weight)
    order = np.argsort(np.where(mass > 0, values, np.inf), axis=-1, kind="stable")
    x = np.take_along_axis(np.where(mass > 0, values, 0), order, -1)
    p = np.take_along_axis(mass, order, -1)
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
    """mean, sd, worst decile, best decile and Gini by name."""
    return {
        "mean": mean(values, held, weight),
        "sd": deviation(values, held, weight),
        "worst decile": worst_decile(values, held, weight, low_is_good=low_is_good),
        "best decile": best_decile(values, held, weight, low_is_good=low_is_good),
        "Gini": gini(values, held, weight),
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

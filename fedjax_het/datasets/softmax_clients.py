"""Clients with Gaussian features and labels by a softmax model of their own: rows of all the Synthetic sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedjax_het.check import positive_int, require, scalar
from fedjax_het.pool import Pool, pool

__all__ = ["SoftmaxModel", "normal_model", "published_seed", "softmax_clients", "spread"]

SoftmaxModel = tuple[np.ndarray, np.ndarray]
"""(kernel [d, K], bias [K])."""


def spread(name: str, value: float) -> float:
    """`value` as the standard deviation of a draw, >= 0.

    Raises:
        TypeError: it is not one number.
        ValueError: it is negative or not finite.
    """
    what = "models" if name == "alpha" else "features"
    return scalar(name, value, least=0, remedy=f"it is a standard deviation, 0 for like {what}")


def published_seed(seed: int) -> np.random.RandomState:
    """The generator of the published scripts.

    Raises:
        TypeError: the seed is not a whole number.
        ValueError: it is not in 0 .. 2**32 - 1.
    """
    seed = positive_int("seed", seed, least=0, remedy="the published generator takes 0 .. 2**32 - 1")
    require(seed < 2**32, f"seed must be < 2**32, got {seed}: the published generator takes no larger one")
    return np.random.RandomState(seed)


def normal_model(rng: np.random.RandomState, mean: float, features: int, classes: int) -> SoftmaxModel:
    """W ~ N(mean, 1) [features, classes], then b ~ N(mean, 1) [classes]."""
    return rng.normal(mean, 1, (features, classes)), rng.normal(mean, 1, classes)


def softmax_clients(
    rng: np.random.RandomState,
    sizes: np.ndarray,
    mean: np.ndarray,
    model: Callable[[int], SoftmaxModel],
    *,
    classes: int,
    name: str,
) -> tuple[Pool, list[np.ndarray], dict[str, np.ndarray]]:
    """Draw the rows of all clients, one client after the other.

    x ~ N(mean_k, diag(j^-1.2)),  y = argmax(W_k' x + b_k),  (W_k, b_k) = model(k)

    Args:
        rng: where the features come from; `model` may draw from it too, which it does before client k's rows.
        sizes: n_k, int [N].
        mean: centres of the features [N, d].
        model: client -> (kernel [d, K], bias [K]); called once for each client in order.
        classes: K.
        name: of the pool.

    Returns:
        (pool of x float [M, d] and y int32 [M]; the rows of each client; truth: "kernel" [N, d, K], "bias"
        [N, K], "feature_mean" [N, d]).

    Raises:
        ValueError: nobody has a row.
    """
    clients, features = mean.shape
    require(
        int(sizes.sum()) > 0,
        f"sizes must add up to at least 1, got 0 for all {clients} clients: draw larger ones",
    )
    scale = np.sqrt(np.arange(1, features + 1) ** -1.2)
    x = np.empty((int(sizes.sum()), features))
    y = np.empty(len(x), np.int32)
    kernel, bias = np.empty((clients, features, classes)), np.empty((clients, classes))
    parts = np.split(np.arange(len(x)), np.cumsum(sizes)[:-1])
    for k, rows in enumerate(parts):
        kernel[k], bias[k] = model(k)
        # A diagonal covariance of falling entries is its own singular value decomposition, so this is
        # multivariate_normal to the last bit.
        own = rng.standard_normal((len(rows), features)) * scale + mean[k]
        x[rows], y[rows] = own, np.argmax(own @ kernel[k] + bias[k], axis=1)
    truth = {"kernel": kernel, "bias": bias, "feature_mean": mean}
    return pool(x, y, num_classes=classes, name=name), parts, truth

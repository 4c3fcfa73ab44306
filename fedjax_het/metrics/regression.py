"""Root mean squared error and the coefficient of determination."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.metrics.metric import Metric
from fedjax_het.typing import Array, Metrics

__all__ = ["r2", "rmse"]


def _flat(values: Array) -> Array:
    return values.reshape(values.shape[0], -1).astype(jnp.result_type(float))


def _squares(out: Array, y: Array) -> Array:
    return jnp.mean((_flat(out) - _flat(y)) ** 2, axis=1)


def _root(sums: Array, count: Array) -> Metrics:
    return {"rmse": jnp.sqrt(sums / count.astype(sums.dtype))}


def rmse() -> Metric:
    """sqrt(mean (out - y)^2) over rows and the target's entries: "rmse"."""
    return Metric(jax.tree_util.Partial(_squares), jax.tree_util.Partial(_root), "regression")


def _moments(centre: Array, out: Array, y: Array) -> tuple[Array, Array, Array]:
    target = _flat(y) - centre.reshape(1, -1)
    return jnp.sum((_flat(out) - _flat(y)) ** 2, axis=1), target, target**2


def _determination(sums: tuple[Array, Array, Array], count: Array) -> Metrics:
    residual, target, square = sums
    spread = jnp.sum(square - target**2 / count.astype(target.dtype), axis=-1)
    # rounding leaves a little of the spread of rows that are all equal
    flat = spread <= 1e-6 * jnp.sum(square, axis=-1)
    return {"r2": jnp.where(flat, jnp.nan, 1 - residual / jnp.where(flat, 1, spread))}


def r2(centre: Any = 0.0) -> Metric:
    """1 - sum (out - y)^2 / sum (y - mean y)^2: "r2"; NaN for rows whose targets are all equal.

    Args:
        centre: a number near the targets' mean, or one for each entry of the target. The result does not
            depend on it, but float32 sums of squares far from zero lose their digits.
    """
    centre = jnp.asarray(centre, jnp.result_type(float))
    return Metric(jax.tree_util.Partial(_moments, centre), jax.tree_util.Partial(_determination), "regression")

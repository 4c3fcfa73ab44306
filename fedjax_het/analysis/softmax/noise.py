"""Noise of minibatch gradients: at a point, at most anywhere, and Li's G^2 before a run.

The gradient of one row has rank one, x (s - e_y)', so that its square is |x|^2 |s - e_y|^2 and no gradient of a
single row is ever formed.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.analysis.softmax.regression import Regression, fold, of_client
from fedjax_het.analysis.threads import one_thread
from fedjax_het.check import positive_int, require
from fedjax_het.typing import Array

__all__ = ["largest_noise", "of_batches", "row_variance", "second_moment"]


def row_variance(model: Regression, at: Any) -> np.ndarray:
    """sigma_{k,1}^2(W) = 1/n_k sum_i |x_i|^2 |s_i - e_y|^2 - |grad CE_k(W)|^2: of the gradient of one row.

    CE_k is F_k without its ridge term, which is the same for all rows.

    Args:
        model: from `fedjax_het.analysis.softmax.regression`.
        at: W [m, K], or [.., m, K] for several points.

    Returns:
        Float64 [.., N]; 0 for a client without rows.
    """
    with one_thread(), jax.enable_x64(True):
        at = jnp.asarray(np.asarray(at, np.float64))
        require(
            at.shape[-2:] == model.shape,
            f"at must have shape {list(model.shape)}, got {list(at.shape)}: see Regression.matrix",
        )
        found = jax.device_get(_variances(model, at.reshape(-1, *model.shape)))
    return found.reshape(*at.shape[:-2], -1)


def of_batches(
    model: Regression, variance: np.ndarray, batch_size: int | None, replacement: bool
) -> np.ndarray:
    """The variance of a mean of B rows out of that of one, [.., N]; 0 for full batches.

        with replacement:     sigma_{k,1}^2 / B
        without:              sigma_{k,1}^2 / B (n_k - B) / (n_k - 1), and 0 where B >= n_k

    Args:
        model: from `fedjax_het.analysis.softmax.regression`.
        variance: of one row [.., N].
        batch_size: B, or None for all rows.
        replacement: how the rows of a batch are drawn.

    Raises:
        TypeError, ValueError: a batch size that is no whole number of at least 1.
    """
    if batch_size is None:
        return np.zeros_like(variance)
    rows = positive_int("batch_size", batch_size, remedy="None is full batches")
    size = np.asarray(model.federation.train.size[0], np.float64)
    left = 1.0 if replacement else np.maximum(size - rows, 0) / np.maximum(size - 1, 1)
    return variance / rows * left


def largest_noise(model: Regression) -> np.ndarray:
    """2/n_k sum_i |x_i|^2 >= sigma_{k,1}^2(W) for every W, float64 [N], since |s - e_y|^2 <= 2."""
    return 2 * _squares(model)[0]


def second_moment(model: Regression, start: Any = None) -> float:
    """Li's G^2 before a run: (sqrt(2) x + max(l2 |W_0|, sqrt(2) x))^2, x = max_i |x_i|; 8 x^2 from zeros.

    It bounds the squared gradient of any batch at every local iterate of any client, as long as l2 times every
    step size is at most 1 and the server takes weighted means of local models, of weights that sum to 1: a
    gradient of the loss is at most sqrt(2) x long, so that the step W (1 - eta l2) - eta g keeps l2 |W| below
    the larger of l2 |W_0| and sqrt(2) x. It is loose: G^2 along the run is the number to plot with.

    Args:
        model: from `fedjax_het.analysis.softmax.regression`.
        start: W_0 [m, K]; None for zeros.
    """
    slope = np.sqrt(2 * _squares(model)[1].max())
    begin = 0.0 if start is None else float(np.linalg.norm(np.asarray(start, np.float64)))
    return float((slope + max(float(model.l2) * begin, slope)) ** 2)


def _squares(model: Regression) -> tuple[np.ndarray, np.ndarray]:
    """(mean, maximum) of |x|^2 over each client's rows, [N] each."""
    with one_thread(), jax.enable_x64(True):
        return jax.device_get(_lengths(model))


@jax.jit
def _lengths(model: Regression) -> tuple[Array, Array]:
    at = jnp.zeros(model.shape)

    def one(client: Array) -> tuple[Array, Array]:
        data = of_client(model, client)

        def lengths(x: Array, label: Array, share: Array, counts: Array) -> Array:
            return jnp.sum(x**2)

        def visit(longest: Array, batch: Any) -> Array:
            x = batch.x.reshape(batch.x.shape[0], -1).astype(at.dtype)
            own = jnp.sum(x**2, axis=1) + float(model.bias)
            return jnp.maximum(longest, jnp.max(jnp.where(batch.weight > 0, own, 0)))

        zero = jnp.zeros(())
        return fold(model, data, at, lengths, zero), data.fold_full(visit, zero)

    return jax.lax.map(one, jnp.arange(model.federation.num_clients, dtype=jnp.int32))


@jax.jit
def _variances(model: Regression, at: Array) -> Array:
    def one(point: Array, client: Array) -> Array:
        def step(x: Array, label: Array, share: Array, counts: Array) -> tuple[Array, Array]:
            off = share - label
            return jnp.sum(jnp.sum(x**2, axis=1) * jnp.sum(off**2, axis=1)), x.T @ off

        zero = (jnp.zeros(()), jnp.zeros_like(point))
        square, slope = fold(model, of_client(model, client), point, step, zero)
        return jnp.maximum(square - jnp.sum(slope**2), 0)

    clients = jnp.arange(model.federation.num_clients, dtype=jnp.int32)
    return jax.lax.map(lambda point: jax.lax.map(lambda client: one(point, client), clients), at)

"""Gradient dissimilarity from minibatches, without bias.

The dissimilarity of minibatch gradients is too large: their noise is counted as heterogeneity. With ghat_k the
mean gradient of client k's batch, v_k = tr Cov(ghat_k), ghat = sum_k p_k ghat_k and independent clients,

    E sum_k p_k |ghat_k - ghat|^2 = G^2 + sum_k p_k (1 - p_k) v_k
    E |ghat|^2                    = |grad F|^2 + sum_k p_k^2 v_k

and what is too much can be estimated from the same batch, or left out by taking two. In a simulation all of a
client's rows are at hand: `gradient_dissimilarity` is exact, and these are for what a real system would see.

An unbiased estimate can be negative: average over draws before clipping. A ratio of unbiased estimates, B^2 or
a cosine, is not unbiased: average numerator and denominator first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_het.analysis.gradients import rows, shares
from fedjax_het.check import number, require
from fedjax_het.typing import Array, PyTree

__all__ = ["Estimate", "batch_noise", "corrected", "naive", "split_batch"]


class Estimate(NamedTuple):
    """Of all clients, scalars; loss^2 / parameter^2.

    Attributes:
        G2: estimates sum_k p_k |g_k - gbar|^2.
        mean_gradient_squared: estimates |gbar|^2.
    """

    G2: Array
    mean_gradient_squared: Array


def _samples(samples: PyTree) -> Array:
    """Gradients of single rows, float [N, B, d]."""
    leaves = jax.tree.leaves(samples)
    require(
        bool(leaves) and all(jnp.ndim(leaf) >= 2 for leaf in leaves),
        "samples must hold gradients of single rows, leaves [N, B, ...], got leaves of fewer axes: one "
        "gradient for each row of each client's batch",
    )
    return jax.vmap(rows)(jax.tree.map(jnp.asarray, samples))


def _kept(p: Array, values: Array) -> Array:
    return jnp.where(p.reshape(-1, *[1] * (values.ndim - 1)) > 0, values, 0)


def _parts(means: Array, p: Array) -> Estimate:
    centre = p @ means
    return Estimate(p @ jnp.sum((means - centre[None, :]) ** 2, axis=1), jnp.sum(centre**2))


def naive(samples: PyTree, p: Any = None) -> Estimate:
    """(sum_k p_k |ghat_k - ghat|^2, |ghat|^2): too large by the noise of the batches.

    Args:
        samples: gradients of single rows, float [N, B, d], or a tree of leaves [N, B, ...].
        p: shares [N], scaled to sum to 1; uniform if None.
    """
    g = _samples(samples)
    p = shares(p, g.shape[0])
    return _parts(jnp.mean(_kept(p, g), axis=1), p)


def batch_noise(samples: PyTree, sizes: Any = None) -> Array:
    """An unbiased estimate of v_k = tr Cov(ghat_k), float [N].

    With s_k^2 = sum_b |g_kb - ghat_k|^2 / (B - 1): s_k^2 / B for draws with replacement, and
    s_k^2 / B (1 - B / n_k) for draws without, which is 0 for a batch of all rows.

    Args:
        samples: gradients of single rows, float [N, B, d], or a tree of leaves [N, B, ...].
        sizes: n_k, rows of each client, [N], for draws without replacement; None for draws with replacement.

    Raises:
        ValueError: batches of a single row, or more rows drawn than a client holds.
    """
    g = _samples(samples)
    batch = g.shape[1]
    require(batch > 1, f"samples must hold at least 2 rows a client, got {batch}: one row shows no noise")
    spread = jnp.sum((g - jnp.mean(g, axis=1, keepdims=True)) ** 2, axis=(1, 2)) / (batch - 1)
    if sizes is None:
        return spread / batch
    sizes = number(
        "sizes", sizes, least=batch, remedy="without replacement a batch is at most all of a client's rows"
    )
    return spread / batch * (1 - batch / sizes.astype(spread.dtype))


def corrected(samples: PyTree, p: Any = None, sizes: Any = None) -> Estimate:
    """Unbiased estimates from one batch a client: `naive` less the noise that the batches show.

        G2:                     sum_k p_k |ghat_k - ghat|^2 - sum_k p_k (1 - p_k) vhat_k
        mean_gradient_squared:  |ghat|^2 - sum_k p_k^2 vhat_k

    Args:
        samples: gradients of single rows, float [N, B, d] with B >= 2, or a tree of leaves [N, B, ...];
            clients draw independently of each other.
        p: shares [N], scaled to sum to 1; uniform if None.
        sizes: n_k [N] for draws without replacement; None for draws with replacement.

    Raises:
        ValueError: see `batch_noise`.
    """
    g = _samples(samples)
    p = shares(p, g.shape[0])
    noise = _kept(p, batch_noise(g, sizes))
    found = _parts(jnp.mean(_kept(p, g), axis=1), p)
    return Estimate(found.G2 - (p * (1 - p)) @ noise, found.mean_gradient_squared - p**2 @ noise)


def split_batch(first: PyTree, second: PyTree, p: Any = None) -> Estimate:
    """Unbiased estimates from two independent batches a client; no variance is needed.

        G2:                     sum_k p_k <g1_k - g1, g2_k - g2>
        mean_gradient_squared:  <g1, g2>

    Args:
        first: mean gradient of each client's first batch, float [N, d], or a tree of leaves [N, ...].
        second: of its second, drawn independently. The halves of one batch drawn without replacement are not
            independent: their estimate is too low by sum_k p_k (1 - p_k) S_k^2 / n_k with S_k^2 the variance
            of single rows over n_k - 1.
        p: shares [N], scaled to sum to 1; uniform if None.
    """
    a, b = rows(first), rows(second)
    p = shares(p, a.shape[0])
    a, b = _kept(p, a), _kept(p, b)
    centre, other = p @ a, p @ b
    inner = jnp.sum((a - centre[None, :]) * (b - other[None, :]), axis=1)
    return Estimate(p @ inner, centre @ other)

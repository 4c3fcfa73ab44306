"""How far gradients disagree at one point: plain functions of all clients' gradients.

Everywhere: `gradients` holds one gradient a client, float [N, d], or a tree of leaves [N, ...] such as
`jax.vmap(jax.grad(...))` returns; `p` holds their shares, float [N], which are scaled to sum to 1 (uniform if
None). A client of share 0 leaves by `where`, whatever its gradient holds. gbar = sum_k p_k g_k. All functions
are pure and run under `jit` and `vmap`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.check import number, require
from fedjax_het.similarity import flatten
from fedjax_het.typing import Array, PyTree

__all__ = [
    "NOTHING",
    "b_squared",
    "dissimilarity",
    "diversity",
    "mean",
    "one_plus_ratio",
    "pairwise",
    "rows",
    "shares",
]

NOTHING = 32
"""A mean gradient that is so many units of rounding of the gradients' own size counts as none."""


def rows(gradients: PyTree) -> Array:
    """One gradient a row, float [N, d] in the default float type.

    Raises:
        TypeError: no arrays of a leading axis.
        ValueError: leading axes that differ.
    """
    leaves = jax.tree.leaves(gradients)
    if not leaves or any(jnp.ndim(leaf) == 0 for leaf in leaves):
        raise TypeError(
            f"gradients must hold one gradient a client, got {len(leaves)} leaves, not all with a client axis: "
            "stack them along a leading axis"
        )
    counts = sorted({jnp.shape(leaf)[0] for leaf in leaves})
    require(
        len(counts) == 1,
        f"gradients must have one leading axis of all clients, got lengths {counts}: stack every leaf alike",
    )
    return jax.vmap(flatten)(jax.tree.map(jnp.asarray, gradients))


def shares(p: Any, count: int) -> Array:
    """p scaled to sum to 1, float [N]; 1/N if None.

    Raises:
        TypeError, ValueError: p is not `count` numbers >= 0.
    """
    real = jnp.result_type(float)
    if p is None:
        return jnp.full((count,), 1 / count, real)
    p = number("p", p, least=0, remedy="shares are rows or weights of clients")
    require(
        p.shape == (count,), f"p must be one share for each of {count} clients, got shape {p.shape}: pass [N]"
    )
    total = jnp.sum(p.astype(real))
    return p.astype(real) / jnp.where(total > 0, total, 1)


def _held(gradients: PyTree, p: Any) -> tuple[Array, Array]:
    g = rows(gradients)
    p = shares(p, g.shape[0])
    return jnp.where(p[:, None] > 0, g, 0), p


def _squares(vectors: Array) -> Array:
    return jnp.sum(vectors**2, axis=-1)


def mean(gradients: PyTree, p: Any = None) -> Array:
    """gbar = sum_k p_k g_k, float [d]."""
    g, p = _held(gradients, p)
    return p @ g


def dissimilarity(gradients: PyTree, p: Any = None) -> Array:
    """G^2 = sum_k p_k |g_k - gbar|^2, scalar; loss^2 / parameter^2.

    The differences are squared, not subtracted as squares, so that digits are kept where clients are alike.
    At a minimiser of F it is zeta_*^2. It is not the G^2 of Li et al., a bound of stochastic gradients, which
    is positive for clients that are alike.

    Reference:
        Koloskova, Loizou, Boreiri, Jaggi, Stich, ICML 2020, Assumption 3.
    """
    g, p = _held(gradients, p)
    return p @ _squares(g - (p @ g)[None, :])


def pairwise(gradients: PyTree, p: Any = None) -> Array:
    """1/2 sum_kl p_k p_l |g_k - g_l|^2, scalar: `dissimilarity` written as differences of pairs; N^2 d work."""
    g, p = _held(gradients, p)
    return p @ jax.lax.map(lambda one: p @ _squares(g - one[None, :]), g) / 2


def one_plus_ratio(spread: Array, squared: Array) -> Array:
    """1 + spread / squared; infinity where |gbar| is rounding beside the gradients that it is the mean of.

    Args:
        spread: G^2.
        squared: |gbar|^2, of the same shape.
    """
    eps = jnp.asarray(NOTHING * float(jnp.finfo(spread.dtype).eps), spread.dtype)
    real = squared > eps**2 * (spread + squared)
    return jnp.where(real, 1 + spread / jnp.where(real, squared, 1), jnp.inf)


def b_squared(gradients: PyTree, p: Any = None) -> Array:
    """B^2 = sum_k p_k |g_k|^2 / |gbar|^2 = 1 + G^2 / |gbar|^2, scalar.

    At a stationary point of F, where the clients' own gradients need not vanish, it does not exist: infinity
    where |gbar| is within `NOTHING` units of rounding of the root mean square gradient, or zero.

    Reference:
        Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, MLSys 2020, Definition 3.

    Departures:
        The paper sets B = 1 at a point where every client's gradient vanishes; here 0 / 0 is infinity as any
        x / 0, since such a point says nothing of its neighbours.
    """
    g, p = _held(gradients, p)
    centre = p @ g
    return one_plus_ratio(p @ _squares(g - centre[None, :]), _squares(centre))


def diversity(gradients: PyTree, present: Any = None) -> Array:
    """sum_k |g_k|^2 / |sum_k g_k|^2 of unweighted sums, scalar; B^2 / N for N clients of equal shares.

    Between 1/N, all alike, and infinity, where the sum vanishes. Mini-batches up to N times this number act as
    single examples do, by the reference.

    Args:
        gradients: see above.
        present: bool [N], who counts; everybody if None.

    Reference:
        Yin, Pananjady, Lam, Papailiopoulos, Ramchandran, Bartlett, AISTATS 2018, the definition of gradient
        diversity.
    """
    g = rows(gradients)
    here = jnp.ones((g.shape[0],), bool) if present is None else jnp.asarray(present, bool)
    count = jnp.sum(here).astype(g.dtype)
    return b_squared(g, here.astype(g.dtype)) / jnp.maximum(count, 1)

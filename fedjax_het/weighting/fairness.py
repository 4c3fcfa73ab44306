"""Weights that losses decide, as pure functions: q-FFL, tilted weights, the probability simplex.

No engine calls them: a cohort's losses are known only after its clients have worked. Methods build on them,
and they say what a method's sums amount to.
"""

from __future__ import annotations

import jax.numpy as jnp

from fedjax_het.typing import Array

__all__ = ["POSITIVE", "fair", "simplex", "tilted"]

POSITIVE = 1e-10
"""What q-FFL adds to a loss before it takes a power of it, as the authors' code does."""

OUTSIDE = -2.0
"""Below the highest value by more than 1, so outside the support of the projection."""


def tilted(losses: Array, t: Array, base: Array | None = None) -> Array:
    """omega_k proportional to base_k exp(t F_k): the gradient weights of TERM, and exponentiated gradient.

    The highest exponent is subtracted first, so nothing overflows whatever t and F.

    Args:
        losses: F_k, float [K].
        t: the tilt, scalar of any sign; 0 gives `base`, scaled.
        base: non-negative, float [K], all one if None. Where it is 0 the loss is not read.

    Returns:
        float [K], sums to 1; zeros if `base` is all zero.

    Reference:
        Li, Beirami, Sanjabi, Smith, ICLR 2021, Lemma 1.
    """
    base = jnp.ones_like(losses) if base is None else base.astype(losses.dtype)
    counts = base > 0
    exponent = jnp.asarray(t, losses.dtype) * jnp.where(counts, losses, 0) + jnp.log(jnp.where(counts, base, 1))
    highest = jnp.max(jnp.where(counts, exponent, -jnp.inf))
    raised = jnp.where(counts, jnp.exp(jnp.where(counts, exponent - highest, 0)), 0)
    return raised / jnp.maximum(jnp.sum(raised), 1)


def fair(losses: Array, q: Array, base: Array | None = None) -> Array:
    """omega_k proportional to base_k F_k^q: the gradient weights of q-FFL.

    Args:
        losses: F_k > 0, float [K].
        q: >= 0, scalar; 0 gives `base`, scaled; the larger, the nearer to the worst client alone.
        base: p_k >= 0, float [K], all one if None. Where it is 0 the loss is not read.

    Returns:
        float [K], sums to 1; zeros if `base` is all zero.

    Reference:
        Li, Sanjabi, Beirami, Smith, ICLR 2020, equation (2) and its gradient.
    """
    read = losses if base is None else jnp.where(base > 0, losses, 1)
    return tilted(jnp.log(read + jnp.asarray(POSITIVE, losses.dtype)), q, base)


def simplex(values: Array, among: Array | None = None) -> Array:
    """The point of the probability simplex nearest to `values`: max(v - theta, 0) for one theta.

    With u the values in falling order and theta_j = (u_1 + ... + u_j - 1)/j, theta is that of the last j with
    u_j > theta_j. Adding a number to all values changes nothing, so the highest is subtracted first.

    Args:
        values: float [K].
        among: bool [K], the coordinates that may be positive; all of them if None. The others come out 0, and
            what `values` holds there is not read.

    Returns:
        float [K], non-negative, sums to 1; zeros if `among` is all False.

    Reference:
        Held, Wolfe, Crowder, Mathematical Programming 1974; Duchi, Shalev-Shwartz, Singer, Chandra, ICML 2008,
        figure 1.
    """
    among = jnp.ones(values.shape, bool) if among is None else among
    highest = jnp.max(jnp.where(among, values, -jnp.inf))
    # what lies this far below the highest is 0 in the answer; as it is, it would drown the sums
    v = jnp.where(among, jnp.maximum(values - jnp.where(among, highest, 0), OUTSIDE), OUTSIDE)
    u = -jnp.sort(-v)
    place = jnp.arange(1, v.size + 1, dtype=v.dtype)
    theta = (jnp.cumsum(u) - 1) / place
    rho = jnp.sum(u > theta) - 1
    return jnp.where(among, jnp.maximum(v - theta[rho], 0), 0)

"""Convex losses and their conjugates: what stochastic dual coordinate ascent asks of a loss.

z is a row's output and alpha its dual variable, both [..., K]; y is the row's target in the same shape (the
one-hot label for "softmax"). One coordinate step maximises, over the change c of one row's alpha,

    -loss*(-(alpha + c)) - <z, c> - s/2 |c|^2,        s: the curvature that the row sees, >= 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from fedjax_het.typing import Array

__all__ = ["LOSSES", "DualLoss", "tempered"]

OUTER, INNER = 12, 6
"""Newton steps for the multiplier of the simplex, and for each logarithm within one of them: 8 and 5 reach the
last digits in double precision for up to 60 classes, scores up to 1e3 and curvatures up to 1e4 (measured)."""


@dataclasses.dataclass(frozen=True)
class DualLoss:
    """One loss.

    Attributes:
        primal: (z, y) -> loss [...].
        conjugate: (alpha, y) -> loss*(-alpha) [...]; alpha must be feasible.
        change: (alpha, z, y, s) -> the best change of alpha [..., K].
        signs: whether y is -1 or 1, one a row.
        labels: whether y is a class number, to be made one-hot.
    """

    primal: Callable[[Array, Array], Array]
    conjugate: Callable[[Array, Array], Array]
    change: Callable[[Array, Array, Array, Array], Array]
    signs: bool = False
    labels: bool = False

    def target(self, y: Array, outputs: int) -> Array:
        """The targets of rows [B, ...] in the shape of their outputs, float [B, K]."""
        real = jnp.result_type(float)
        if self.labels:
            return jax.nn.one_hot(y, outputs, dtype=real)
        return y.reshape(y.shape[0], outputs).astype(real)


def tempered(u: Array, s: Array) -> Array:
    """argmin over the simplex of sum_j p_j log p_j - <u, p> + s/2 |p|^2, which is softmax(u - s p).

    With s = 0 it is the softmax of u, with s without bound the projection of u / s. log p_j solves
    v + s e^v = u_j - nu for the nu at which the p_j sum to 1: Newton's method from the side where both
    functions are convex, so that it cannot overshoot.

    Args:
        u: [..., K].
        s: >= 0, a scalar.

    Returns:
        p [..., K].
    """
    s = jnp.maximum(s, jnp.finfo(u.dtype).tiny)
    width = jnp.log1p(s)

    def shares(nu: Array) -> Array:
        t = u - nu
        start = jnp.minimum(jnp.minimum(t, 0), jnp.log((jnp.maximum(t, 0) + width) / s))

        def newton(_: int, v: Array) -> Array:
            e = s * jnp.exp(v)
            return v - (v + e - t) / (1 + e)

        return jnp.exp(jax.lax.fori_loop(0, INNER, newton, start))

    def multiplier(_: int, nu: Array) -> Array:
        p = shares(nu)
        return nu + (jnp.sum(p, axis=-1, keepdims=True) - 1) / jnp.sum(p / (1 + s * p), axis=-1, keepdims=True)

    lowest = jnp.max(u, axis=-1, keepdims=True) - s  # where the largest p_j is 1
    p = shares(jax.lax.fori_loop(0, OUTER, multiplier, lowest))
    return p / jnp.sum(p, axis=-1, keepdims=True)


def _entropy(p: Array) -> Array:
    """sum_j p_j log p_j, 0 at a corner."""
    p = jnp.maximum(p, 0)
    return jnp.sum(xlogy(p, p), axis=-1)


def _squared_change(alpha: Array, z: Array, y: Array, s: Array) -> Array:
    return (y - z - alpha) / (1 + s)


def _hinge_change(alpha: Array, z: Array, y: Array, s: Array) -> Array:
    free = (1 - y * z) / jnp.maximum(s, jnp.finfo(z.dtype).tiny) + y * alpha
    return y * jnp.clip(free, 0, 1) - alpha


def _logistic_change(alpha: Array, z: Array, y: Array, s: Array) -> Array:
    # the softmax of two classes with scores (y z, 0), whose change is (-b, b)
    share, half = y * alpha, s / 2
    u = jnp.concatenate([y * z + half * (1 - share), half * share], axis=-1)
    return y * (tempered(u, half)[..., 1:] - share)


def _softmax_change(alpha: Array, z: Array, y: Array, s: Array) -> Array:
    before = y - alpha
    return before - tempered(z + s * before, s)


LOSSES = {
    "squared": DualLoss(
        primal=lambda z, y: jnp.sum((z - y) ** 2, axis=-1) / 2,
        conjugate=lambda alpha, y: jnp.sum((alpha / 2 - y) * alpha, axis=-1),
        change=_squared_change,
    ),
    "hinge": DualLoss(
        primal=lambda z, y: jnp.sum(jnp.maximum(1 - y * z, 0), axis=-1),
        conjugate=lambda alpha, y: -jnp.sum(y * alpha, axis=-1),
        change=_hinge_change,
        signs=True,
    ),
    "logistic": DualLoss(
        primal=lambda z, y: jnp.sum(jax.nn.softplus(-y * z), axis=-1),
        conjugate=lambda alpha, y: _entropy(y * alpha) + _entropy(1 - y * alpha),
        change=_logistic_change,
        signs=True,
    ),
    "softmax": DualLoss(
        primal=lambda z, y: jax.nn.logsumexp(z, axis=-1) - jnp.sum(y * z, axis=-1),
        conjugate=lambda alpha, y: _entropy(y - alpha),
        change=_softmax_change,
        labels=True,
    ),
}
"""The losses by name.

squared: 1/2 |z - y|^2. hinge: max(0, 1 - y z), alpha y in [0, 1]. logistic: log(1 + e^(-y z)), alpha y in
[0, 1]. softmax: -log softmax(z)[y], y - alpha on the simplex.
"""

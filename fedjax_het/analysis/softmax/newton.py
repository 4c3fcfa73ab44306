"""Newton's method with Armijo's backtracking, to a certificate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_het.typing import Array

__all__ = ["Minimum", "newton"]

DECREASE = 1e-4
"""Of the decrease that the slope promises, the share that a step must bring."""

HALVINGS = 50
STEPS = 100


class Minimum(NamedTuple):
    """Where Newton's method ended.

    Attributes:
        point: W, of the shape of the start.
        value: F(W), scalar.
        gradient: grad F(W).
        steps: Newton steps taken, int32 scalar.
    """

    point: Any
    value: Any
    gradient: Any
    steps: Any


def newton(
    pull: Callable[[Array], tuple[Array, Array]],
    hessian: Callable[[Array], Array],
    start: Array,
    *,
    mu: Array,
    tolerance: Array,
) -> Minimum:
    """Minimise a mu-strongly convex function until |grad|^2 / (2 mu) <= tolerance.

        d = -hess^-1 grad;  W <- W + t d with the largest t = 1, 1/2, 1/4, .. for which
        F(W + t d) <= F(W) + 1e-4 t <grad, d>

    One step more follows, which is kept if it shortens the gradient. Pure. It stops as well where no t brings a
    decrease, or after 100 steps: look at the gradient.

    Args:
        pull: W -> (F(W), grad F(W)).
        hessian: W -> hess F(W) [D, D], in the order of W.reshape(-1).
        start: W, any shape.
        mu: strong convexity, scalar.
        tolerance: of F(W) - F*, which the certificate bounds; scalar.

    Reference:
        Nocedal, Wright, "Numerical optimization", 2nd edition, algorithm 3.1; Boyd, Vandenberghe, "Convex
        optimization", (9.9) for the certificate.
    """

    def goes_on(carry: tuple[Minimum, Array]) -> Array:
        at, stuck = carry
        return ~stuck & (jnp.sum(at.gradient**2) > 2 * mu * tolerance) & (at.steps < STEPS)

    def step(carry: tuple[Minimum, Array]) -> tuple[Minimum, Array]:
        at, _ = carry
        factor = jax.scipy.linalg.cho_factor(hessian(at.point))
        along = -jax.scipy.linalg.cho_solve(factor, at.gradient.reshape(-1)).reshape(at.point.shape)
        slope = jnp.sum(at.gradient * along)
        # near the end a decrease is smaller than the rounding of F
        slack = 10 * jnp.finfo(at.value.dtype).eps * jnp.abs(at.value)

        def enough(t: Array) -> Array:
            return pull(at.point + t * along)[0] <= at.value + DECREASE * t * slope + slack

        def shorter(tried: tuple[Array, Array]) -> tuple[Array, Array]:
            return tried[0] / 2, tried[1] + 1

        one = jnp.ones((), at.value.dtype)
        t, halvings = jax.lax.while_loop(
            lambda tried: ~enough(tried[0]) & (tried[1] < HALVINGS), shorter, (one, jnp.zeros((), jnp.int32))
        )
        stuck = halvings == HALVINGS
        point = jnp.where(stuck, at.point, at.point + t * along)
        return Minimum(point, *pull(point), at.steps + 1), stuck

    begin = Minimum(start, *pull(start), jnp.zeros((), jnp.int32))
    found, stuck = jax.lax.while_loop(goes_on, step, (begin, jnp.zeros((), bool)))
    # quadratic convergence makes one step more the difference between half the digits and all of them
    last, _ = step((found, stuck))
    better = jnp.sum(last.gradient**2) < jnp.sum(found.gradient**2)
    return jax.tree.map(lambda a, b: jnp.where(better, a, b), last, found)

"""Filters: what local work does to a quadratic, as a function of its curvature.

From w, local work on F_k ends at y_k with y_k - w = -S(A_k) grad F_k(w), whatever the gradient: S is a
function of the eigenvalues alone. One gradient step is S(a) = eta.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from fedjax_het.check import known, number, require, short, whole
from fedjax_het.typing import Array

__all__ = [
    "PROX",
    "Work",
    "constant_work",
    "local_filter",
    "norm",
    "preconditioned",
    "spectral",
    "times",
    "work",
]

PROX = ("outside", "inside")
"""Where the proximal term goes.

outside: v <- rho v + g, y <- y - eta (v + mu (y - w)); inside: v <- rho v + g + mu (y - w), y <- y - eta v.
"""


class Work(NamedTuple):
    """What each client does in a round.

    Attributes:
        rates: eta_j of local step j, the last one for all that follow, float [J].
        steps: tau_k, int32 [N].
        mu: of a proximal term, float scalar.
        momentum: rho, or None for none.
        prox: one of `PROX`; without momentum they are the same.
    """

    rates: Array
    steps: Array
    mu: Array
    momentum: Array | None
    prox: str

    @property
    def step_sum(self) -> Array:
        """sum_{j < tau_k} eta_j, float [N]."""
        last = self.rates.shape[0]
        before = jnp.concatenate([jnp.zeros_like(self.rates[:1]), jnp.cumsum(self.rates)])
        beyond = jnp.maximum(self.steps - last, 0).astype(self.rates.dtype)
        return before[jnp.minimum(self.steps, last)] + beyond * self.rates[-1]


def constant_work(count: int, learning_rate: Any, steps: Any) -> Work:
    """`work` at one rate.

    Raises:
        TypeError, ValueError: as in `work`; a schedule.
    """
    require(
        jnp.ndim(learning_rate) == 0,
        f"learning_rate must be a scalar here, got {short(learning_rate)}: the formula is for a constant rate",
    )
    return work(count, learning_rate, steps)


def work(
    count: int,
    learning_rate: Any,
    steps: Any,
    *,
    mu: Any = 0.0,
    momentum: Any = None,
    prox: str = "outside",
) -> Work:
    """Check what `count` clients are to do.

    Args:
        count: N.
        learning_rate: eta > 0, a scalar, or one for each local step [J].
        steps: tau >= 0, a scalar or [N]; None with rates [J] for J steps each.
        mu: >= 0, of a proximal term.
        momentum: rho in [0, 1), or None; the velocity starts at 0 every round.
        prox: one of `PROX`.

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape; more steps than rates.
    """
    rates = number("learning_rate", learning_rate, above=0, remedy="a step size is positive")
    require(
        jnp.ndim(rates) == 0 or (jnp.ndim(rates) == 1 and rates.shape[0] > 0),
        f"learning_rate must be a scalar or one rate a step [J], got {short(rates)}: sweep by jax.vmap",
    )
    if steps is None:
        require(
            jnp.ndim(rates) == 1, "steps must be given, got None: say how many local steps, such as steps=5"
        )
        steps = rates.shape[0]
    steps = whole("steps", steps, least=0, remedy="it is the number of local steps, or one a client [N]")
    require(
        jnp.shape(steps) in ((), (count,)),
        f"steps must be a scalar or one for each of {count} clients, got {short(steps)}: sweep by jax.vmap",
    )
    if jnp.ndim(rates) == 1 and not isinstance(steps, Tracer):
        require(
            int(jnp.max(steps)) <= rates.shape[0],
            f"steps must be <= the {rates.shape[0]} rates given, got {short(steps)}: a rate for every step",
        )
    if momentum is not None:
        momentum = number("momentum", momentum, least=0, below=1, remedy="0.9 is usual, None is plain SGD")
    mu = number("mu", mu, least=0, remedy="0 is no proximal term")
    known("prox", prox, PROX)
    return Work(jnp.atleast_1d(rates), jnp.broadcast_to(steps, (count,)), mu, momentum, prox)


def spectral(A: Array, function: Callable[[Array], Array]) -> Array:
    """function(A_k) for symmetric A_k [N, d, d], by their eigenvalues [N, d]; symmetric [N, d, d]."""
    values, vectors = jnp.linalg.eigh(A)
    return jnp.einsum("nij,nj,nkj->nik", vectors, function(values), vectors, precision="highest")


def times(matrices: Array, vectors: Array) -> Array:
    """Each client's matrix [N, d, d] times its vector [N, d]; float [N, d]."""
    return jnp.einsum("nij,nj->ni", matrices, vectors, precision="highest")


def local_filter(spectrum: Array, done: Work) -> Array:
    """S at the eigenvalues a of the A_k.

    Plain steps at one rate have S(a) = eta sum_{j < tau} (1 - eta h)^j = (1 - (1 - eta h)^tau) / h, h = a + mu.
    In general, with S = V = 0 at first, step j does

        V <- rho V + 1 - a S [- mu S, inside];   S <- S + eta_j (V [- mu S, outside]).

    Args:
        spectrum: a, float [N, d].
        done: what the clients do; numbers may be tracers.

    Returns:
        Float [N, d]; eta tau where a = mu = 0.
    """
    if done.momentum is None and done.rates.shape[0] == 1:
        return _geometric(spectrum + done.mu, done.rates[0], done.steps[:, None])
    rho = jnp.zeros_like(done.mu) if done.momentum is None else done.momentum
    inside, outside = (done.mu, 0.0) if done.prox == "inside" else (0.0, done.mu)
    last = done.rates.shape[0] - 1

    def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        total, velocity = carry
        moving = rho * velocity + 1 - (spectrum + inside) * total
        further = total + done.rates[jnp.minimum(j, last)] * (moving - outside * total)
        on = (j < done.steps)[:, None]
        return jnp.where(on, further, total), jnp.where(on, moving, velocity)

    zero = jnp.zeros_like(spectrum)
    return jax.lax.fori_loop(0, jnp.max(done.steps), step, (zero, zero))[0]


def preconditioned(spectrum: Array, pull: Array, done: Work) -> Array:
    """S of local steps along P(A_k) grad F_k(y), at the eigenvalues a of the A_k.

    They are plain steps on a function of curvature a P(a): S(a) = P(a) S'(a P(a)), S' that of plain steps.

    Args:
        spectrum: a, float [N, d].
        pull: P(a), float [N, d].
        done: what the clients do; its proximal term is not P's business, and is 0.

    Returns:
        Float [N, d].
    """
    return pull * local_filter(spectrum * pull, done)


def norm(done: Work) -> Array:
    """||a_k||_1: the weight of all gradients in the displacement, in units of the first rate, float [N].

    It is S(0) / eta_0, since on a function without curvature every gradient is the same.
    """
    flat = jnp.zeros((done.steps.shape[0], 1), done.rates.dtype)
    return local_filter(flat, done)[:, 0] / done.rates[0]


def _geometric(curvature: Array, rate: Array, steps: Array) -> Array:
    """eta sum_{j < tau} (1 - eta h)^j, to full precision however small eta h is."""
    count = steps.astype(curvature.dtype)
    shrink = 1 - rate * curvature
    flat, below = curvature == 0, shrink > 0
    # 1 - r^tau by expm1 keeps the digits of a small eta h; a negative r has none to lose
    inward = -jnp.expm1(count * jnp.log1p(-rate * jnp.where(below, curvature, 0)))
    size = jnp.where(below | (shrink == 0), 1, -shrink)
    power = jnp.exp(count * jnp.log(size)) * jnp.where(steps % 2 == 0, 1, -1).astype(curvature.dtype)
    # at r = 0 and at h = 0 the terms of first order are there for their derivatives
    at_zero = jnp.where(steps == 1, shrink, (steps == 0).astype(curvature.dtype))
    across = 1 - jnp.where(shrink == 0, at_zero, power)
    still = rate * count * (1 - rate * curvature * (count - 1) / 2)
    return jnp.where(flat, still, jnp.where(below, inward, across) / jnp.where(flat, 1, curvature))

"""How large a local step may be, how fast a round contracts, and how well clients solve their problem."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import constant_work, local_filter, spectral, times, work
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.check import number
from fedjax_het.typing import Array

__all__ = ["contraction", "extremes", "inexactness", "step_limit"]


@double
def extremes(functions: Quadratics) -> tuple[Array, Array]:
    """(mu, L): the least and the largest curvature of any client, scalars."""
    values = jnp.linalg.eigvalsh(functions.A)
    return jnp.min(values), jnp.max(values)


@double
def step_limit(functions: Quadratics, *, mu: Any = 0.0) -> Array:
    """The largest eta at which no number of local steps diverges: 2 / (L + mu), scalar.

    Below it FedAvg (mu = 0) and FedProx converge for every number of steps; above it they diverge for all large
    even ones. SCAFFOLD may diverge below it.

    Args:
        functions: the clients', strictly convex.
        mu: >= 0, of a proximal term.

    Raises:
        TypeError, ValueError: `mu` is not a number >= 0.
    """
    return 2 / (extremes(functions)[1] + number("mu", mu, least=0, remedy="0 is FedAvg"))


@double
def contraction(functions: Quadratics, *, learning_rate: Any, steps: Any) -> Array:
    """max(|1 - eta mu|, |1 - eta L|)^E >= rho of a FedAvg round with equal steps; scalar.

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape.
    """
    done = constant_work(functions.count, learning_rate, steps)
    least, largest = extremes(functions)
    shrink = jnp.maximum(jnp.abs(1 - done.rates[0] * least), jnp.abs(1 - done.rates[0] * largest))
    return jnp.max(shrink ** done.steps.astype(shrink.dtype))


@double
def inexactness(
    functions: Quadratics, w: Any, *, mu: Any = 0.0, learning_rate: Any, steps: Any = None
) -> tuple[Array, Array]:
    """gamma_k of FedProx by gradient steps from w, and the most it can be from anywhere.

    h_k(y) = F_k(y) + mu/2 |y - w|^2 has the gradient (I - eta H_k)^tau_k grad F_k(w) where local work ends,
    H_k = A_k + mu I, so that gamma_k = |grad h_k(y_k)| / |grad h_k(w)| <= max |1 - eta h|^tau_k over
    eigenvalues h.

    Args:
        functions: the clients'.
        w: where the round starts [d].
        mu: >= 0.
        learning_rate: eta > 0, or eta_j of each local step [J].
        steps: >= 0, equal or one for each client [N]; J if None.

    Returns:
        (gamma, most), float [N]; gamma is 0 for a client that starts at its minimum.

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape.

    Reference:
        Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, MLSys 2020, Definition 2.
    """
    mu = number("mu", mu, least=0, remedy="0 is FedAvg")
    done = work(functions.count, learning_rate, steps, mu=mu)

    def left(values: Array) -> Array:
        return 1 - (values + mu) * local_filter(values, done)

    before = functions.gradients(jnp.asarray(w, functions.b.dtype))
    after = times(spectral(functions.A, left), before)
    length = jnp.linalg.norm(before, axis=1)
    gamma = jnp.linalg.norm(after, axis=1) / jnp.where(length > 0, length, 1)
    return gamma, jnp.max(jnp.abs(left(jnp.linalg.eigvalsh(functions.A))), axis=1)

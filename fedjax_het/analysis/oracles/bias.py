"""Where methods without memory end, to first order: a covariance of curvature and gradient across clients.

With H_k = A_k, H = sum_k p_k H_k and g_k* = grad F_k(w*), a filter S_k = s (I - e_k A_k + ..) moves the limit
by H^-1 sum_k p_k e_k H_k g_k*. It stays where curvatures agree, where local minima agree, or where they do
not vary together, since sum_k p_k g_k* = 0.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import constant_work
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.check import number
from fedjax_het.typing import Array

__all__ = ["drift_bias", "prox_bias"]


def _moved(functions: Quadratics, coefficient: Array) -> Array:
    own = functions.gradients(functions.optimum)
    pulls = jnp.einsum("n,nij,nj->i", functions.p * coefficient, functions.A, own, precision="highest")
    return jnp.linalg.solve(functions.hessian, pulls)


@double
def drift_bias(functions: Quadratics, *, learning_rate: Any, steps: Any) -> Array:
    """w_inf - w* of local steps, to first order in eta: eta/2 H^-1 sum_k p_k (tau_k - 1) H_k g_k*.

    It is FedAvg's with equal steps, ((E - 1) eta / 2) H^-1 sum_k p_k H_k g_k*, and FedNova's with any. FedAvg
    with unequal ones goes elsewhere even as eta -> 0.

    Args:
        functions: the clients'.
        learning_rate: eta > 0, scalar.
        steps: E, or tau_k [N], >= 1.

    Returns:
        Float [d]. The error left out is of order eta^2.

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape.

    Reference:
        Its length over (E - 1) eta is the constant of the lower bound in Li, Huang, Yang, Wang, Zhang, ICLR
        2020, Theorem 4.
    """
    done = constant_work(functions.count, learning_rate, steps)
    return _moved(functions, done.rates[0] * (done.steps - 1).astype(done.rates.dtype) / 2)


@double
def prox_bias(functions: Quadratics, *, mu: Any) -> Array:
    """w_inf - w* of FedProx with exact solves, to first order in 1/mu: (1/mu) H^-1 sum_k p_k H_k g_k*.

    Args:
        functions: the clients'.
        mu: > 0.

    Returns:
        Float [d]. The error left out is of order 1/mu^2.

    Raises:
        TypeError, ValueError: `mu` is not a positive number.
    """
    mu = number("mu", mu, above=0, remedy="without the term exact solves end at the mean of the minima")
    return _moved(functions, jnp.ones_like(functions.p) / mu)

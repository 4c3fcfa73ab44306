"""Optima: w*, every client's own w_k*, and what certifies them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.analysis.softmax.newton import Minimum, newton
from fedjax_het.analysis.softmax.regression import Regression, hessian, of_client, pull, total
from fedjax_het.analysis.threads import one_thread
from fedjax_het.check import require, scalar
from fedjax_het.typing import Array

__all__ = ["Optima", "optima"]


@dataclasses.dataclass(frozen=True)
class Optima:
    """Where F and each F_k are smallest; float64 on the host.

    Attributes:
        point: w* [m, K]; `Regression.params` makes a model's params of it.
        value: F*.
        certificate: |grad F(w*)|^2 / (2 mu) >= F(w*) - F*.
        own_points: w_k* [N, m, K]; zeros for a client without rows.
        own_values: F_k* [N].
        own_certificates: |grad F_k(w_k*)|^2 / (2 mu) >= F_k(w_k*) - F_k* [N].
        steps: Newton steps to w*.
        own_steps: Newton steps to each w_k*, int [N].
    """

    point: np.ndarray
    value: float
    certificate: float
    own_points: np.ndarray
    own_values: np.ndarray
    own_certificates: np.ndarray
    steps: int
    own_steps: np.ndarray


def optima(model: Regression, *, tolerance: float = 1e-16) -> Optima:
    """Solve for w* and for every w_k* by Newton's method, in double precision whatever the session's.

    The problem has D = m K unknowns, and a step factors D x D matrices: made for D up to about a thousand. One
    client is solved after the other, so that memory holds one Hessian.

    Args:
        model: from `regression`.
        tolerance: of F(w) - F* <= |grad F(w)|^2 / (2 mu), > 0, absolute, in units of the loss.

    Raises:
        TypeError, ValueError: a tolerance that is no positive number.
        ValueError: a certificate that was not reached, with the number that was.
    """
    tolerance = scalar("tolerance", tolerance, above=0, remedy="1e-16 is near the rounding of the loss")
    with one_thread(), jax.enable_x64(True):
        best, own = jax.device_get(_solve(model, np.float64(tolerance)))
    certificate = (best.gradient**2).sum() / (2 * model.l2)
    each = (own.gradient**2).sum((1, 2)) / (2 * model.l2)
    worst = max(certificate, each.max())
    require(
        worst <= tolerance,
        f"tolerance must be reachable, got {tolerance:.3g} where Newton's method ended with {worst:.3g} after "
        f"{max(int(best.steps), int(own.steps.max()))} steps: rounding limits it to about "
        "(1e-16 max|x|)^2 / l2; allow more, scale the features down, or take a larger l2",
    )
    return Optima(
        best.point,
        float(best.value),
        float(certificate),
        own.point,
        own.value,
        each,
        int(best.steps),
        own.steps,
    )


@jax.jit
def _solve(model: Regression, tolerance: Array) -> tuple[Minimum, Minimum]:
    """(minimum of F, minima of the F_k with a leading axis N)."""
    mu, zero = jnp.asarray(model.l2), jnp.zeros(model.shape)
    flat = jnp.zeros((zero.size, zero.size))

    def pull_all(at: Array) -> tuple[Array, Array]:
        return total(model, lambda data: pull(model, data, at), (jnp.zeros(()), zero))

    def hessian_all(at: Array) -> Array:
        return total(model, lambda data: hessian(model, data, at), flat)

    def alone(client: Array) -> Minimum:
        data = of_client(model, client)
        return newton(
            lambda at: pull(model, data, at),
            lambda at: hessian(model, data, at),
            zero,
            mu=mu,
            tolerance=tolerance,
        )

    clients: Any = jnp.arange(model.federation.num_clients, dtype=jnp.int32)
    best = newton(pull_all, hessian_all, zero, mu=mu, tolerance=tolerance)
    return best, jax.lax.map(alone, clients)

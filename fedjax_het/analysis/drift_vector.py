"""The drift-bias vector b1 of any model: where FedAvg stops, to first order, by Hessian-vector products."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.analysis.at_optimum import FAR, at_optimum
from fedjax_het.analysis.landscape import landscape
from fedjax_het.check import number, whole
from fedjax_het.federation import Federation
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, Params

__all__ = ["DriftVector", "drift_vector"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DriftVector:
    """See `drift_vector`.

    Attributes:
        params: b1, a tree like the parameters, per unit of (E - 1) eta.
        length: |b1|, parameter / (steps x step size), scalar.
        residual: |H b1 - r| / |r| of the equation solved, scalar: above 1e-3, say, the vector is not to be
            trusted. 0 where r = 0.
        gradient: |grad F(w)|, loss / parameter, scalar.
        zeta: (sum_k p_k |grad F_k(w) - grad F(w)|^2)^(1/2), scalar. Where w was traced, see that `gradient` is
            far below it.
    """

    params: Params
    length: Array
    residual: Array
    gradient: Array
    zeta: Array


def drift_vector(
    problem: Problem,
    federation: Federation,
    model: Model,
    *,
    weights: Any = None,
    damping: Any = 0.0,
    iterations: Any = 200,
    tolerance: Any = None,
    most: Any = FAR,
    round_: Any = 0,
) -> DriftVector:
    """b1 = 1/2 H^-1 sum_k p_k H_k (g_k - g), with H_k = hess F_k(w), g_k = grad F_k(w) at an optimum w*; pure.

    The limit of FedAvg with E local steps of size eta is w* + (E - 1) eta b1 + O(eta^2): the drift bias is a
    covariance of curvature and gradient across clients. Exact FedProx has 2 b1 / mu. One Hessian-vector product
    a client, and conjugate gradients with H, each step of which is another one; no matrix is made.

    Args:
        problem: what is learned.
        federation: whose rows.
        model: w, an optimum of F: elsewhere b1 is no prediction.
        weights: as in `landscape`.
        damping: c >= 0, solves with H + c I; for a Hessian that is singular or, of a network, indefinite,
            where conjugate gradients may fail: look at `residual`.
        iterations: the most steps of conjugate gradients.
        tolerance: their relative residual; default 100 units of rounding.
        most: |grad F(w)| / zeta up to which w counts as an optimum, as in `zeta_star_sq`; what is left of the
            gradient errs b1 by about that much.
        round_: in whose phase the rows are read.

    Returns:
        DriftVector.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, range or shape.
        ValueError: a point that is no optimum; the message has both numbers. What is traced is not refused.

    Reference:
        Its length is the constant of the lower bound in Li, Huang, Yang, Wang, Zhang, ICLR 2020, Theorem 4.

    Departures:
        g = sum_k p_k g_k is taken off the gradients. It is 0 at the optimum; beside it, clients of like
        curvature still have b1 = 0.
    """
    damping = number("damping", damping, least=0, remedy="0 solves with the Hessian itself")
    iterations = whole("iterations", iterations, remedy="give the most steps of conjugate gradients")
    most = number("most", most, above=0, remedy="1e-3 of zeta, say")
    around = landscape(problem, federation, model, weights=weights, round_=round_)
    dtype = around.point.dtype
    least = 100 * float(jnp.finfo(dtype).eps)
    limit: Any = least if tolerance is None else number("tolerance", tolerance, above=0, remedy="1e-6, say")
    gradient = around.mean_gradient()

    def own(client: Array) -> tuple[Array, Array]:
        slope = around.gradient(around.point, client)
        return jnp.sum((slope - gradient) ** 2), jnp.sum(slope**2)

    apart, size = around.each(own)
    longest = jnp.sqrt(jnp.max(jnp.where(around.p > 0, size, 0)))
    squared = jnp.sum(jnp.where(around.p > 0, around.p * apart, 0))
    at_optimum(jnp.linalg.norm(gradient), squared, longest, most)  # before the costly part

    def pull(client: Array) -> Array:
        return around.hessian_times(around.gradient(around.point, client) - gradient, client)

    right = around.mean(pull)
    right = right / 2

    def times(vector: Array) -> Array:
        return around.mean_hessian_times(vector) + damping.astype(dtype) * vector

    found, _ = jax.scipy.sparse.linalg.cg(times, right, tol=limit, maxiter=iterations)
    size = jnp.linalg.norm(right)
    left = jnp.linalg.norm(times(found) - right)
    return DriftVector(
        params=around.unflatten(found),
        length=jnp.linalg.norm(found),
        residual=jnp.where(size > 0, left / jnp.where(size > 0, size, 1), 0),
        gradient=jnp.linalg.norm(gradient),
        zeta=jnp.sqrt(squared),
    )

"""What heterogeneity is at the optimum: Gamma, zeta_*^2, the drift bias and the spread of curvatures."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.analysis.softmax.optima import Optima
from fedjax_het.analysis.softmax.regression import Regression, curve, hessian, of_client, pull, total
from fedjax_het.analysis.threads import one_thread
from fedjax_het.typing import Array

__all__ = ["AtOptimum", "at_optimum"]


@dataclasses.dataclass(frozen=True)
class AtOptimum:
    """Heterogeneity at w*, with H_k = hess F_k(w*), H = sum_k p_k H_k and g_k* = grad F_k(w*); on the host.

    Attributes:
        gradients: g_k* [N, m, K]; zeros for clients of weight 0.
        zeta_star_sq: sum_k p_k |g_k*|^2.
        gamma_gap: Gamma = F* - sum_k p_k F_k*.
        gamma_error: how far rounding and the certificates can put Gamma off.
        drift_bias: b_1 = 1/2 H^-1 sum_k p_k H_k g_k* [m, K]: FedAvg with E full-batch steps of size eta ends at
            w* + (E - 1) eta b_1 + O(eta^2).
        mu_star: the smallest eigenvalue of H.
        apart: |H_k - H|_2 [N]; 0 for clients of weight 0.
    """

    gradients: np.ndarray
    zeta_star_sq: float
    gamma_gap: float
    gamma_error: float
    drift_bias: np.ndarray
    mu_star: float
    apart: np.ndarray

    @property
    def delta(self) -> float:
        """max_k |H_k - H|_2."""
        return float(self.apart.max())


def at_optimum(model: Regression, found: Optima) -> AtOptimum:
    """Heterogeneity at w*, from dense Hessians of the clients one after the other, in double precision.

    Args:
        model: from `fedjax_het.analysis.softmax.regression`.
        found: from `fedjax_het.analysis.softmax.optima` of the same regression.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, section 3.1 (Gamma), Theorem 4 (whose constant is |b_1|);
        Karimireddy et al., ICML 2020, assumption A2 (delta).
    """
    with one_thread(), jax.enable_x64(True):
        gradients, bias, least, apart = jax.device_get(_spread(model, found.point))
    square = (gradients**2).sum((1, 2))
    error = found.certificate + model.p @ found.own_certificates + 8 * np.finfo(float).eps * abs(found.value)
    return AtOptimum(
        gradients,
        float(model.p @ square),
        float(max(found.value - model.p @ found.own_values, 0)),
        float(error),
        bias,
        float(least),
        apart,
    )


@jax.jit
def _spread(model: Regression, at: Array) -> tuple[Array, Array, Array, Array]:
    """(g_k*, b_1, lambda_min(H), |H_k - H|_2)."""
    p = jnp.asarray(model.p)
    clients = jnp.arange(model.federation.num_clients, dtype=jnp.int32)

    def slope(client: Array) -> Array:
        return jnp.where(p[client] > 0, pull(model, of_client(model, client), at)[1], 0)

    def moved(client: Array) -> Array:
        return p[client] * curve(model, of_client(model, client), at, slope(client))

    mean = total(model, lambda data: hessian(model, data, at), jnp.zeros((at.size, at.size)))

    def apart(client: Array) -> Array:
        def widest() -> Array:
            return jnp.max(jnp.abs(jnp.linalg.eigvalsh(hessian(model, of_client(model, client), at) - mean)))

        return jax.lax.cond(p[client] > 0, widest, lambda: jnp.zeros(()))

    gradients = jax.lax.map(slope, clients)
    push = jnp.sum(jax.lax.map(moved, clients), axis=0)
    bias = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(mean), push.reshape(-1)) / 2
    return gradients, bias.reshape(at.shape), jnp.linalg.eigvalsh(mean)[0], jax.lax.map(apart, clients)

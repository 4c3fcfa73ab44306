"""L_k and mu of softmax regression: the extreme curvatures over all of space."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.analysis.softmax.regression import Regression, fold, of_client
from fedjax_het.analysis.threads import one_thread
from fedjax_het.typing import Array

__all__ = ["smoothness", "strong_convexity"]


def smoothness(model: Regression) -> np.ndarray:
    """L_k = lambda_max(X_k'X_k / n_k) / 2 + l2, with X_k the client's rows (and the ones of the bias).

    The covariance diag(s) - ss' of one draw out of K classes is at most 1/2 in every direction. It is 1/2 along
    (1, -1) where two classes are equally likely and all others impossible. With a bias, or with two classes, a
    W comes as near as one likes to that for all rows at once, so that L_k is the supremum of |hess F_k|_2;
    otherwise it is an upper bound.

    Args:
        model: from `fedjax_het.analysis.softmax.regression`.

    Returns:
        Float64 [N]; l2 for a client without rows.

    Reference:
        Boehning, "Multinomial logistic regression algorithm", Annals of the Institute of Statistical
        Mathematics 1992 (the bound).
    """
    with one_thread(), jax.enable_x64(True):
        return jax.device_get(_largest(model)) / 2 + model.l2


def strong_convexity(model: Regression) -> float:
    """mu = l2, of every F_k and of F: the infimum of the smallest curvature, and no more.

    Adding one vector to the columns of all classes changes no probability, so that the loss is flat along m
    directions everywhere, and it is flat in all directions far away.

    Args:
        model: from `fedjax_het.analysis.softmax.regression`.
    """
    return float(model.l2)


@jax.jit
def _largest(model: Regression) -> Array:
    at = jnp.zeros(model.shape)

    def one(client: Array) -> Array:
        square = jnp.zeros((model.shape[0], model.shape[0]))
        moments = fold(model, of_client(model, client), at, lambda x, label, share, counts: x.T @ x, square)
        return jnp.linalg.eigvalsh(moments)[-1]

    return jax.lax.map(one, jnp.arange(model.federation.num_clients, dtype=jnp.int32))

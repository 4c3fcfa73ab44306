"""All constants of a softmax regression at once, as bounds take them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from fedjax_het.analysis.constants import Constants, given
from fedjax_het.analysis.softmax.at_optimum import AtOptimum, at_optimum
from fedjax_het.analysis.softmax.noise import largest_noise, of_batches, row_variance, second_moment
from fedjax_het.analysis.softmax.optima import Optima, optima
from fedjax_het.analysis.softmax.regression import Regression, pull, regression, total
from fedjax_het.analysis.softmax.smoothness import smoothness, strong_convexity
from fedjax_het.analysis.threads import one_thread
from fedjax_het.federation import Federation
from fedjax_het.problem import Problem
from fedjax_het.typing import Array, Params

__all__ = ["Exact", "constants", "value"]


@dataclasses.dataclass(frozen=True)
class Exact:
    """The constants, and what they were made of.

    Attributes:
        constants: for `fedjax_het.analysis.bounds`.
        model: the regression.
        optima: w*, w_k* and their certificates.
        heterogeneity: what holds at w*.
    """

    constants: Constants
    model: Regression
    optima: Optima
    heterogeneity: AtOptimum


def constants(
    problem: Problem,
    federation: Federation,
    *,
    start: Params | None = None,
    batch_size: int | None = None,
    replacement: bool = False,
    weights: Any = None,
    tolerance: float = 1e-16,
) -> Exact:
    """What is exact of an l2-regularised softmax regression, in double precision whatever the session's.

    L is the largest smoothness of a client, mu = l2; w* and w_k* come from Newton's method with certificates.
    sigma_k^2 and Li's G^2 are proved to hold wherever a run may go, so that they are exact but loose; replace
    them by the largest met on a run:

        fedjax_het.analysis.constants.replace(made, provenance="trajectory_max", li_G_sq=..., sigma_sq=...)

    (G^2, B^2) = (2 zeta_*^2, 2) holds of all convex functions.

    Args:
        problem: from `fedjax_het.models.softmax(pool, l2=...)`, l2 > 0.
        federation: the clients.
        start: params w_0; None for zeros, where this problem starts.
        batch_size: B of the stochastic gradients; None for full batches.
        replacement: whether the rows of a batch are drawn with replacement.
        weights: see `regression`.
        tolerance: see `optima`.

    Returns:
        Exact; its `constants` are all of provenance "exact".

    Raises:
        TypeError, ValueError: as `regression` and `optima`.
    """
    model = regression(problem, federation, weights=weights)
    begin = np.zeros(model.shape) if start is None else model.matrix(start)
    found = optima(model, tolerance=tolerance)
    here = at_optimum(model, found)
    counts = model.p > 0

    def batches(variance: np.ndarray) -> np.ndarray:
        return of_batches(model, variance, batch_size, replacement)

    made = given(
        provenance="exact",
        p=model.p,
        L=smoothness(model)[counts].max(),
        mu=strong_convexity(model),
        zeta_star_sq=here.zeta_star_sq,
        gamma_gap=here.gamma_gap,
        sigma_sq=batches(largest_noise(model)),
        sigma_star_sq=batches(row_variance(model, found.point)),
        li_G_sq=second_moment(model, begin),
        delta=here.delta,
        distance_sq=((begin - found.point) ** 2).sum(),
        gap=max(value(model, begin) - found.value, 0.0),
        dissimilarity_G_sq=2 * here.zeta_star_sq,
        dissimilarity_B_sq=2.0,
        lower_curvature=0.0,
        dimension=float(begin.size),
    )
    return Exact(made, model, found, here)


def value(model: Regression, at: Any) -> Any:
    """F(W) in double precision, of W [m, K] or of several [.., m, K].

    Args:
        model: from `fedjax_het.analysis.softmax.regression`.
        at: the points.
    """
    at = np.asarray(at, np.float64)
    with one_thread(), jax.enable_x64(True):
        found = jax.device_get(_values(model, at.reshape(-1, *model.shape)))
    return found.reshape(at.shape[:-2]) if at.ndim > 2 else float(found[0])


@jax.jit
def _values(model: Regression, at: Array) -> Array:
    def one(point: Array) -> Array:
        return total(model, lambda data: pull(model, data, point)[0], jax.numpy.zeros(()))

    return jax.lax.map(one, at)

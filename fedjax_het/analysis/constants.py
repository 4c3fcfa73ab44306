"""Constants: the numbers that theorems ask for, and how each of them came to be known."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.analysis.oracles.filters import spectral, times
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.check import known, number, require, short
from fedjax_het.typing import Array, static

__all__ = ["PROVENANCE", "Constant", "Constants", "constant", "given", "of_quadratics", "replace"]

PROVENANCE = ("exact", "trajectory_max", "estimate", "assumed")
"""exact: of the functions themselves; trajectory_max: the largest met on a run; estimate: from samples, or a
local value that stands for a supremum; assumed: somebody said so."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Constant:
    """A number, or one for each client, and how it is known.

    Attributes:
        value: float scalar, or [N]; double precision wherever it was made of concrete numbers.
        provenance: one of `PROVENANCE`; static.
    """

    value: Any
    provenance: str = static(default="assumed")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Constants:
    """What theorems ask for, of F = sum_k p_k F_k; None for what is not known.

    l is the unit of the loss, w that of the parameters.

    Attributes:
        p: p_k, of sum 1 [N].
        L: max_k smoothness of F_k, the largest |eigenvalue| of a Hessian, l/w^2.
        mu: min_k strong convexity of F_k, l/w^2; 0 for functions that are only convex, nan if some is not.
        zeta_star_sq: zeta_*^2 = sum_k p_k |grad F_k(w*)|^2, l^2/w^2.
        zeta_bar_sq: sup_w sum_k p_k |grad F_k(w) - grad F(w)|^2, l^2/w^2.
        gamma_gap: Gamma = F* - sum_k p_k F_k*, l.
        sigma_sq: sigma_k^2 >= E|g_k - grad F_k|^2 of one local gradient [N], l^2/w^2.
        sigma_star_sq: the same at w* alone [N].
        li_G_sq: Li's G^2 >= E|g_k|^2 of the stochastic gradients on local iterates, l^2/w^2.
        delta: max_k |hess F_k - hess F|_2, l/w^2.
        distance_sq: |w_0 - w*|^2, w^2.
        gap: F(w_0) - F*, l.
        dissimilarity_G_sq: G^2 of a pair with sum_k p_k |grad F_k(w)|^2 <= G^2 + 2 L B^2 (F(w) - F*).
        dissimilarity_B_sq: B^2 of that pair.
        ratio_B_sq: FedProx's B^2(w) = sum_k p_k |grad F_k(w)|^2 / |grad F(w)|^2 at the point in question.
        lower_curvature: L_- >= 0 with hess F_k >= -L_- I, l/w^2; 0 for convex functions.
        coordinate_G: bound of every coordinate of a stochastic gradient, l/w.
        dimension: d.
    """

    p: Constant | None = None
    L: Constant | None = None
    mu: Constant | None = None
    zeta_star_sq: Constant | None = None
    zeta_bar_sq: Constant | None = None
    gamma_gap: Constant | None = None
    sigma_sq: Constant | None = None
    sigma_star_sq: Constant | None = None
    li_G_sq: Constant | None = None
    delta: Constant | None = None
    distance_sq: Constant | None = None
    gap: Constant | None = None
    dissimilarity_G_sq: Constant | None = None
    dissimilarity_B_sq: Constant | None = None
    ratio_B_sq: Constant | None = None
    lower_curvature: Constant | None = None
    coordinate_G: Constant | None = None
    dimension: Constant | None = None


NAMES = tuple(field.name for field in dataclasses.fields(Constants))
EACH = ("p", "sigma_sq", "sigma_star_sq")
ENDLESS = ("zeta_bar_sq", "gamma_gap", "gap")
"""Suprema and infima, for which infinity is an answer."""


def constant(name: str, value: Any, provenance: str) -> Constant:
    """A checked `Constant` in double precision.

    Args:
        name: a field of `Constants`, for messages.
        value: >= 0; [N] for p, sigma_sq and sigma_star_sq, else a scalar. Infinity in `ENDLESS` alone.
        provenance: one of `PROVENANCE`.

    Raises:
        TypeError: not a number.
        ValueError: no such constant or provenance, a value that is negative or nan, a wrong shape, or p whose
            sum is not 1.
    """
    known("constant", name, NAMES)
    known("provenance", provenance, PROVENANCE)
    if isinstance(value, Tracer):
        return Constant(value, provenance)
    remedy = "see fedjax_het.analysis.constants.Constants"
    value = np.asarray(value) if isinstance(value, jax.Array) else value
    endless = name in ENDLESS and np.ndim(value) == 0 and value == np.inf
    with jax.enable_x64(True):
        number(name, 0 if endless else value, least=0, remedy=remedy)
    array = np.asarray(value, np.float64)
    rank = 1 if name in EACH else 0
    require(
        array.ndim == rank,
        f"{name} must be {'one number a client [N]' if rank else 'one number'}, got {short(value)}: {remedy}",
    )
    if name == "p":
        require(
            bool(np.isclose(array.sum(), 1, rtol=0, atol=1e-5)),
            f"p must have sum 1, got {array.sum():.6g}: divide the sizes by their sum",
        )
        array = array / array.sum()
    return Constant(array, provenance)


def given(*, provenance: str = "assumed", **values: Any) -> Constants:
    """`Constants` of numbers that are known somehow, all in the same way.

    Args:
        provenance: one of `PROVENANCE`.
        values: fields of `Constants`.

    Raises:
        TypeError, ValueError: as `constant`.
    """
    return replace(Constants(), provenance=provenance, **values)


def replace(constants: Constants, *, provenance: str, **values: Any) -> Constants:
    """`constants` with some of them put in place: `replace(c, provenance="trajectory_max", li_G_sq=G2)`.

    Raises:
        TypeError, ValueError: as `constant`.
    """
    made = {name: constant(name, value, provenance) for name, value in values.items()}
    return dataclasses.replace(constants, **made)


def of_quadratics(functions: Quadratics, start: Any, noise: Any = None) -> Constants:
    """What is exact of quadratic functions from a start, computed in double precision.

    Gamma = 1/2 sum_k p_k g_k*' A_k^+ g_k* with g_k* = grad F_k(w*), infinite where an F_k has no minimum. The
    pair (G^2, B^2) is (2 zeta_*^2, 2), which holds of all convex functions. Where some A_k has a negative
    eigenvalue there is neither mu nor such a pair: both are nan. Where sum_k p_k A_k has one, or F slopes for
    ever, there is no optimum: what is measured at it is nan, and F(w_0) - F* infinite. Where F is flat in some
    direction, w* is the optimum that is nearest to the start. zeta_bar^2 is infinite unless all
    curvatures agree. Li's G^2 depends on a run: see `fedjax_het.analysis.local_gradients`. Clients of weight 0
    do not count.

    Args:
        functions: quadratics; tracers are welcome here and below, in the precision they have.
        start: w_0 [d].
        noise: added to a local gradient, independent of the point: covariance [N, d, d], or its trace [N].
            None for full batches.

    Returns:
        Constants, all exact.

    Raises:
        TypeError, ValueError: not Quadratics, a start or a noise of the wrong kind or shape, variances < 0.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020 (Gamma); Karimireddy et al., ICML 2020, Assumptions A1, A2.
    """
    if not isinstance(functions, Quadratics):
        raise TypeError(
            f"functions must be Quadratics, got {short(functions)}: see analysis.oracles.quadratics"
        )
    count, dimension = functions.b.shape
    noise = np.zeros(count) if noise is None else noise
    away = number("start", start, remedy="the parameters before the first round [d]")
    spread = number("noise", noise, remedy="a covariance or its trace for each client")
    require(
        jnp.shape(away) == (dimension,), f"start must have shape [{dimension}], got {short(start)}: w_0, flat"
    )
    require(
        jnp.shape(spread) in ((count,), (count, dimension, dimension)),
        f"noise must have shape [{count}] or [{count}, {dimension}, {dimension}], got {short(noise)}: the "
        "covariance of a local gradient, or its trace, for each client",
    )
    traces = spread if jnp.ndim(spread) == 1 else jnp.trace(spread, axis1=1, axis2=2)
    require(
        isinstance(spread, Tracer) or bool(jnp.all(traces >= 0)),
        f"noise must be >= 0, got {short(noise)}: a variance is the mean of a square",
    )
    if any(isinstance(leaf, Tracer) for leaf in (*jax.tree.leaves(functions), away, spread)):
        return _made(_exact(functions, away, spread))
    with jax.enable_x64(True):
        A, b, p, start, noise = (
            jnp.asarray(np.asarray(each, np.float64))
            for each in (functions.A, functions.b, functions.p, start, noise)
        )
        return _made(jax.device_get(_exact(Quadratics(A, b, p), start, noise)))


def _made(values: dict[str, Any]) -> Constants:
    return Constants(**{name: Constant(value, "exact") for name, value in values.items()})


@jax.jit
def _exact(functions: Quadratics, start: Array, spread: Array) -> dict[str, Any]:
    p = functions.p / jnp.sum(functions.p)
    functions = dataclasses.replace(functions, p=p)
    counts = p > 0
    values = jnp.linalg.eigvalsh(functions.A)
    top = jnp.max(jnp.where(counts[:, None], jnp.abs(values), 0))
    least = jnp.min(jnp.where(counts[:, None], values, jnp.inf))
    rounding = 1e-13 if values.dtype == jnp.float64 else 1e-6
    bent = least < -1e-6 * top  # some client curves downwards, by more than single precision rounds
    hessian = functions.hessian
    lowest_mean = jnp.linalg.eigvalsh(hessian)[0]

    def inverted(matrices: Array) -> Array:
        return spectral(matrices, lambda a: jnp.where(a > rounding * top, 1 / jnp.where(a > 0, a, 1), 0))

    linear = jnp.matmul(p, functions.b, precision="highest")
    ahead = jnp.matmul(hessian, start, precision="highest")
    near = start - jnp.matmul(inverted(hessian[None])[0], ahead - linear, precision="highest")
    slope = jnp.matmul(hessian, near, precision="highest") - linear
    scale = jnp.linalg.norm(linear) + jnp.linalg.norm(ahead)
    flat = lowest_mean <= rounding * top
    sloping = flat & (jnp.linalg.norm(slope) > rounding**0.5 * scale)
    none = sloping | (lowest_mean < -rounding * top)  # F has no minimum
    best = jnp.where(none, jnp.nan, jnp.where(flat, near, functions.optimum))
    own = functions.gradients(best)
    inverse = inverted(functions.A)
    lowest = times(inverse, own)
    left = jnp.sum((own - times(functions.A, lowest)) ** 2, axis=1)
    size = jnp.sum(own**2, axis=1)
    bottomless = bent | none | jnp.any(counts & (left > 1e6 * rounding * jnp.max(size)))
    gap = jnp.sum(jnp.where(counts, p * jnp.sum(own * lowest, axis=1), 0)) / 2
    apart = jnp.max(
        jnp.where(counts, jnp.max(jnp.abs(jnp.linalg.eigvalsh(functions.A - hessian[None])), axis=1), 0)
    )
    zeta = jnp.sum(p * size)
    away = start - best
    sigma = jnp.trace(spread, axis1=1, axis2=2) if spread.ndim == 3 else spread
    return {
        "p": p,
        "L": top,
        "mu": jnp.where(bent, jnp.nan, jnp.where(least > rounding * top, least, 0)),
        "zeta_star_sq": zeta,
        "zeta_bar_sq": jnp.where(apart > rounding * top, jnp.inf, zeta),
        "gamma_gap": jnp.where(bottomless, jnp.inf, jnp.maximum(gap, 0)),
        "sigma_sq": sigma,
        "sigma_star_sq": sigma,
        "delta": apart,
        "distance_sq": jnp.sum(away**2),
        "gap": jnp.where(
            none, jnp.inf, jnp.maximum(away @ jnp.matmul(hessian, away, precision="highest") / 2, 0)
        ),
        "dissimilarity_G_sq": jnp.where(bent, jnp.nan, 2 * zeta),
        "dissimilarity_B_sq": jnp.where(bent, jnp.nan, 2.0).astype(zeta.dtype),
        "lower_curvature": jnp.where(bent, -least, 0),
        "dimension": jnp.asarray(functions.dimension, zeta.dtype),
    }

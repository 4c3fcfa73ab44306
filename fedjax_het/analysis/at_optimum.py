"""What heterogeneity is at an optimum: zeta_*^2, and Gamma."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from fedjax_het.analysis.gradients import dissimilarity, mean, rows, shares
from fedjax_het.analysis.landscape import landscape
from fedjax_het.check import number, require, short
from fedjax_het.federation import Federation
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array

__all__ = ["FAR", "at_optimum", "dissimilarity_at_optimum", "gamma_gap", "zeta_star_sq"]

FAR = 1e-3
"""|grad F(w)| over zeta above which w is not an optimum: it then errs by at most 1e-6 of zeta^2."""


def zeta_star_sq(gradients: Any, p: Any = None, *, most: Any = FAR) -> Array:
    """zeta_*^2 = sum_k p_k |grad F_k(w*)|^2 of gradients at an optimum w* of F = sum_k p_k F_k.

    It is taken as sum_k p_k |g_k - g|^2 with g = sum_k p_k g_k, the same at an optimum.

    Args:
        gradients: g_k, float [N, d], or a tree of leaves [N, ...].
        p: shares, >= 0 [N], which are scaled to sum to 1; uniform if None.
        most: |g| / zeta_* up to which the point counts as an optimum.

    Returns:
        (loss / parameter)^2, scalar. Gradients of which none is longer than 1000 units of rounding are zero:
        one point is everybody's minimum. What is traced is not refused: nan stands where it would be.

    Raises:
        TypeError, ValueError: gradients or shares of the wrong kind or shape.
        ValueError: a point that is no optimum; the message has both numbers.

    Reference:
        Koloskova, Loizou, Boreiri, Jaggi, Stich, ICML 2020, Assumption 3a (at the optimum).
    """
    most = number("most", most, above=0, remedy="1e-3 of zeta_*, say")
    stacked = rows(gradients)
    p = shares(p, stacked.shape[0])
    squared = dissimilarity(stacked, p)
    longest = jnp.sqrt(jnp.max(jnp.where(p > 0, jnp.sum(stacked**2, axis=1), 0)))
    return at_optimum(jnp.linalg.norm(mean(stacked, p)), squared, longest, most)


def dissimilarity_at_optimum(
    problem: Problem,
    federation: Federation,
    model: Model,
    *,
    weights: Any = None,
    most: Any = FAR,
    round_: Any = 0,
) -> Array:
    """`zeta_star_sq` of any model's clients at w*: two passes of gradients over all rows; pure.

    Args:
        problem: what is learned.
        federation: whose rows.
        model: w*.
        weights: as in `landscape`.
        most: as in `zeta_star_sq`.
        round_: in whose phase the rows are read.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, or a point that is no optimum.
    """
    most = number("most", most, above=0, remedy="1e-3 of zeta_*, say")
    around = landscape(problem, federation, model, weights=weights, round_=round_)
    centre = around.mean_gradient()

    def own(client: Array) -> tuple[Array, Array]:
        gradient = around.gradient(around.point, client)
        return jnp.sum((gradient - centre) ** 2), jnp.sum(gradient**2)

    apart, size = around.each(own)
    longest = jnp.sqrt(jnp.max(jnp.where(around.p > 0, size, 0)))
    squared = jnp.sum(jnp.where(around.p > 0, around.p * apart, 0))
    return at_optimum(jnp.linalg.norm(centre), squared, longest, most)


def gamma_gap(value: Any, own: Any, p: Any) -> float:
    """Gamma = F* - sum_k p_k F_k*: what the clients lose by having one model.

    Args:
        value: F* = min F, of F = sum_k p_k F_k.
        own: F_k* = min F_k [N].
        p: shares, >= 0 [N], which are scaled to sum to 1.

    Returns:
        Gamma >= 0, in the loss's unit; computed in double precision.

    Raises:
        TypeError, ValueError: no numbers, or shapes that do not fit.
        ValueError: a negative gap, which minima have not.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, section 3.1.
    """
    with jax.enable_x64(True):
        total = number("value", value, remedy="the minimum of F")
        lowest = number("own", own, remedy="the minimum of each F_k [N]")
        require(
            total.ndim == 0 and lowest.ndim == 1,
            f"own must be one minimum a client beside one value, got {short(own)} beside {short(value)}: [N]",
        )
        p = shares(p, lowest.shape[0])
        gap = float(jnp.sum(jnp.where(p > 0, p * (total - lowest), 0)))
        scale = float(jnp.max(jnp.abs(jnp.append(lowest, total))))
    require(
        gap >= -1e-6 * scale,
        f"value must be >= sum_k p_k F_k*, got a gap of {gap:g}: a client's minimum was not reached",
    )
    return max(gap, 0.0)


def at_optimum(gradient: Array, squared: Array, longest: Array, most: Array) -> Array:
    """zeta^2; refused, or nan if it is traced, unless |grad F| <= `most` zeta or all gradients are zero.

    Args:
        gradient: |grad F(w)|, scalar.
        squared: zeta^2 = sum_k p_k |grad F_k(w) - grad F(w)|^2, scalar.
        longest: the largest |grad F_k(w)|, scalar.
        most: the ratio up to which w counts as an optimum.

    Raises:
        ValueError: the point is no optimum; the message has both numbers.
    """
    zeta = jnp.sqrt(squared)
    nothing = longest <= 1000 * float(jnp.finfo(squared.dtype).eps)
    fits = (gradient <= most.astype(squared.dtype) * zeta) | nothing
    if not isinstance(fits, Tracer):
        require(
            bool(fits),
            f"model must be an optimum, |grad F| <= {float(most):g} zeta_*, got |grad F| = "
            f"{float(gradient):.3g} and zeta_* = {float(zeta):.3g}: train on, all clients "
            "in one step a round, or ask gradient_dissimilarity, which is meant for any point",
        )
    return jnp.where(fits, squared, jnp.nan)

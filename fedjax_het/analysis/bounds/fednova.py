"""Wang, Liu, Liang, Joshi, Poor, "Tackling the Objective Inconsistency Problem", NeurIPS 2020 (FedNova)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import number, require, scalar, short

__all__ = ["inconsistency", "mismatch"]


def mismatch(p: Any, accumulated: Any) -> tuple[np.ndarray, float]:
    """The objective that FedAvg minimises with unequal local work, and how far it is from F.

    F~ = sum_k w_k F_k with w_k = p_k |a_k|_1 / sum_l p_l |a_l|_1, and chi^2 = sum_k (p_k - w_k)^2 / w_k.
    FedNova has w = p and chi^2 = 0.

    Args:
        p: the clients' shares, of sum 1 [N].
        accumulated: |a_k|_1 [N]: the number of plain local steps; `oracles.averages` and reports have others.

    Returns:
        (w, chi^2): float [N], float; chi^2 is infinite where a client of weight p_k > 0 does no work.

    Raises:
        TypeError, ValueError: not numbers >= 0, unequal shapes, or p whose sum is not 1.

    Reference:
        Wang, Liu, Liang, Joshi, Poor, NeurIPS 2020, Theorems 1 and 2.
    """
    number("p", p, least=0, remedy="shares of sum 1")
    number("accumulated", accumulated, least=0, remedy="local steps, or the norms that FedNova sends")
    p, work = np.asarray(p, np.float64), np.asarray(accumulated, np.float64)
    require(
        p.ndim == 1 and p.shape == work.shape,
        f"accumulated must have one number for each of {p.size} clients, got {short(accumulated)}: [N]",
    )
    require(
        bool(np.isclose(p.sum(), 1, rtol=0, atol=1e-5)),
        f"p must have sum 1, got {p.sum():.6g}: divide the sizes by their sum",
    )
    require(
        bool(np.sum(p * work) > 0), f"accumulated must have a sum > 0, got {short(accumulated)}: let one work"
    )
    weights = p * work / np.sum(p * work)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(p > 0, (p - weights) ** 2 / weights, 0.0)
    return weights, float(parts.sum())


def inconsistency(
    constants: Constants, local_steps: Any, surrogate_sq: Any, *, beta_sq: Any, kappa_sq: Any
) -> Curve:
    """FedAvg with unequal local steps reaches a stationary point of F~, not of F: at any point

        |grad F|^2 <= 2 [chi^2 (beta^2 - 1) + 1] |grad F~|^2 + 2 chi^2 kappa^2.

    The last term stays when |grad F~| is 0, however small the step size; with equal work it is 0.

    Args:
        constants: p.
        local_steps: tau_k, the plain local steps of each client [N], or the |a_k|_1 of another solver.
        surrogate_sq: |grad F~|^2 after each round, from the start on [m].
        beta_sq: beta^2 >= 1 with sum_k w_k |grad F_k|^2 <= beta^2 |grad F~|^2 + kappa^2 at those points.
        kappa_sq: kappa^2 >= 0 of that pair.

    Returns:
        The bound at each of the m points; a round has sum_k p_k tau_k steps.

    Raises:
        TypeError, ValueError: a constant is missing, or a number of the wrong kind.

    Reference:
        Wang, Liu, Liang, Joshi, Poor, NeurIPS 2020, Theorem 2. Pointwise, by Cauchy and Schwarz: grad F -
        grad F~ = sum_k (p_k - w_k) (grad F_k - grad F~), since p and w have the same sum.
    """
    (p,), told = conditions.read(constants, "p")
    weights, chi = mismatch(p, local_steps)
    number("surrogate_sq", surrogate_sq, least=0, remedy="squared norms of the gradient of sum_k w_k F_k")
    seen = np.atleast_1d(np.asarray(surrogate_sq, np.float64))
    require(
        seen.ndim == 1 and seen.size > 0,
        f"surrogate_sq must have shape [m], got {short(surrogate_sq)}: one squared norm after each round",
    )
    beta = scalar("beta_sq", beta_sq, least=0, remedy="1 and a kappa_sq hold at one point")
    kappa = scalar("kappa_sq", kappa_sq, least=0, remedy="the dissimilarity that is left at grad F~ = 0")
    violated = conditions.at_least("dissimilarity", "beta_sq", beta, 1.0, "1")
    if not np.isfinite(chi):
        idle = [int(k) for k in np.flatnonzero((p > 0) & (weights == 0))]
        violated.append(
            f"work: each client with p_k > 0 must do some, got none by {short(idle)}: the nearest legal is one "
            "step"
        )
    steps = np.round(np.arange(seen.size) * np.sum(p * np.asarray(local_steps, np.float64))).astype(int)
    safe = chi if np.isfinite(chi) else np.nan
    terms = {"surrogate": 2 * (safe * (beta - 1) + 1) * seen, "mismatch": 2 * safe * kappa}
    statement = Statement(
        "FedNova's inconsistency", "|grad F(w_t)|^2", "l^2/w^2", "D", "Wang et al., NeurIPS 2020, Theorem 2"
    )
    return curve(statement, steps, terms, violated, told)

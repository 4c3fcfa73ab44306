"""Yu, Yang, Zhu, "Parallel Restarted SGD with Faster Convergence and Less Communication", AAAI 2019."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.rates import after_rounds, lengths, rates
from fedjax_het.analysis.constants import Constants

__all__ = ["yu2019"]


def yu2019(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """Non-convex, everyone takes part: of the mean over steps s < t of E|grad F(wbar_s)|^2,

        2 (F(w_0) - F*) / (gamma t) + 4 gamma^2 E^2 G^2 L^2 + L gamma sigma^2 / N.

    This is what is wanted where a squared gradient is bounded: see `tutorial` for what is quoted instead.

    Args:
        constants: p, L, gap, li_G_sq, sigma_sq; sigma^2 = mean_k sigma_k^2.
        schedule: gamma, constant, at most 1 / L.
        local_steps: E.
        horizon: T.

    Returns:
        The bound after each round, from the first on.

    Raises:
        TypeError, ValueError: a constant is missing, or a number of the wrong kind.

    Reference:
        Yu, Yang, Zhu, AAAI 2019, Theorem 1; derived again here: the descent lemma along wbar_s, and
        |w_k,s - wbar_s|^2 <= 4 gamma^2 E^2 G^2.
    """
    E, horizon = lengths(local_steps, horizon)
    (p, L, gap, squares, sigma), told = conditions.read(constants, "p", "L", "gap", "li_G_sq", "sigma_sq")
    eta, steps = rates(schedule, E, horizon), after_rounds(E, horizon, first=1)
    violated = [
        *conditions.divisible(horizon, E),
        *conditions.constant_step(eta, 1 / L),
        *conditions.uniform(p),
        *conditions.at_most("step size", "the step size", eta, 1 / L, "1 / L"),
    ]
    gamma = eta[0]
    terms = {
        "start": 2 * gap / (gamma * steps),
        "drift": 4 * gamma**2 * E**2 * squares * L**2,
        "noise": L * gamma * float(np.mean(sigma)) / len(p),
    }
    statement = Statement(
        "Yu 2019",
        "mean over s < t of E|grad F(wbar_s)|^2",
        "l^2/w^2",
        "D",
        "Yu, Yang, Zhu, AAAI 2019, Theorem 1",
    )
    return curve(statement, steps, terms, violated, told)

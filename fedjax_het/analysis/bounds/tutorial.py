"""A bound that a widely read tutorial quotes, kept under its own name because people look for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.rates import after_rounds, lengths, rates
from fedjax_het.analysis.constants import Constants

__all__ = ["simplified"]


def simplified(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """1 / sqrt(K t) + eta^2 E^2 G^2 with K = 1, said to bound |grad F|^2 and to be of Li et al. 2020.

    It is no theorem, and nothing should be read off it. What is wrong: the left side is a squared gradient,
    eta^2 G^2 is a squared distance, for want of a factor L^2, and 1 / sqrt(K t) has no unit at all. K stands
    for the number of clients and is 1. Smoothness and noise are arguments that nothing uses. Li et al. state
    something else, of F - F*: `li2020.theorem1`. The G^2 of its text is called a dissimilarity, which is 0 for
    equal clients, while Li's G^2 bounds stochastic gradients and is not. And that the second term does not
    shrink with more rounds is a matter of constant step sizes: with eta ~ 1/t it goes to 0.

    Args:
        constants: li_G_sq.
        schedule: eta, constant.
        local_steps: E.
        horizon: T.

    Returns:
        Its values after each round, from the first on, of the tag X: a shape that bounds nothing. In place of
        it: `yu2019.yu2019` for |grad F|^2, `li2020` for F - F*, `explicit` for constants that mean something.

    Raises:
        TypeError, ValueError: the constant is missing, or a number of the wrong kind.
    """
    E, horizon = lengths(local_steps, horizon)
    (squares,), told = conditions.read(constants, "li_G_sq")
    eta, steps = rates(schedule, E, horizon), after_rounds(E, horizon, first=1)
    violated = [*conditions.divisible(horizon, E), *conditions.constant_step(eta)]
    terms = {"start": 1 / np.sqrt(steps), "drift": (eta[0] * E) ** 2 * squares}
    statement = Statement("tutorial (no theorem)", "|grad F|^2, it says", "none", "X", "no source states it")
    return curve(statement, steps, terms, violated, told)

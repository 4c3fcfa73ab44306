"""Rates known up to a constant, as curves: what an order O(..) of rounds says of the error after R rounds.

A complexity R = a / eps^2 + b / eps^(3/2) + c / eps becomes the error sqrt(a / R) + (b / R)^(2/3) + c / R,
which differs from its inverse by a constant.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.rates import after_rounds, lengths, rates
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import positive_int

__all__ = ["REGIMES", "inverted", "setting"]

REGIMES = ("strongly_convex", "convex", "nonconvex")


def inverted(rounds: np.ndarray, **orders: tuple[float, float]) -> dict[str, np.ndarray]:
    """name -> the error after R rounds of a term a / eps^power, float [m].

    Args:
        rounds: R >= 1 [m].
        orders: name -> (a, power).
    """
    return {name: (amount / rounds) ** (1 / power) for name, (amount, power) in orders.items()}


def setting(
    constants: Constants,
    schedule: Any,
    local_steps: int,
    horizon: int,
    clients: int | None,
    limit: float,
    words: str,
) -> tuple[np.ndarray, np.ndarray, int, int, list[str]]:
    """What all these theorems ask for: equal weights, whole rounds, a constant step size that is small enough.

    Args:
        constants: p.
        schedule: the step size; None for the theorem's own.
        local_steps: K.
        horizon: T.
        clients: S; everyone if None.
        limit: of the step size.
        words: the limit as a formula.

    Returns:
        (steps, rounds, K, S, violated): the steps and the rounds at the end of each round [m].
    """
    K, horizon = lengths(local_steps, horizon)
    (p,), _ = conditions.read(constants, "p")
    chosen = len(p) if clients is None else positive_int("clients", clients, remedy="the clients of a round")
    steps = after_rounds(K, horizon, first=1)
    violated = [
        *conditions.divisible(horizon, K),
        *conditions.uniform(p),
        *conditions.at_most("sampled clients", "clients", chosen, len(p), "N"),
    ]
    if schedule is not None:
        eta = rates(schedule, K, horizon)
        violated += conditions.constant_step(eta, limit) + conditions.at_most(
            "step size", "the step size", eta, limit, words
        )
    return steps, steps / K, K, chosen, violated

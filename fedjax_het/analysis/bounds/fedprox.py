"""Li, Sahu et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020 (FedProx)."""

from __future__ import annotations

from decimal import ROUND_CEILING, Context
from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.rates import after_rounds, lengths
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import number, positive_int, scalar

__all__ = ["fedprox", "rho"]

PAPER = "Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, MLSys 2020, Theorem 4"


def rho(constants: Constants, *, mu: Any, clients: int, inexactness: Any = 0.0) -> np.ndarray:
    """FedProx's decrease: E F(w_+) <= F(w) - rho |grad F(w)|^2, with g the inexactness and m = mu - L_-,

        rho = 1/mu - g B/mu - B (1+g) sqrt(2) / (m sqrt(K)) - L B (1+g) / (m mu) - L (1+g)^2 B^2 / (2 m^2)
              - L B^2 (1+g)^2 (2 sqrt(2 K) + 2) / (m^2 K).

    Args:
        constants: L, lower_curvature (L_-), ratio_B_sq (B^2 at w).
        mu: of the proximal term, > L_-; not strong convexity. Any shape.
        clients: K, drawn by p with replacement.
        inexactness: g in [0, 1): |grad h_k(w_k)| <= g |grad F_k(w)|; 0 for exact solves.

    Returns:
        rho, w^2/l, in the shape of mu; it decreases F only where it is positive. Of the tag M.

    Raises:
        TypeError, ValueError: a constant is missing, or a number of the wrong kind or range.

    Reference:
        Li, Sahu et al., MLSys 2020, Theorem 4.
    """
    (L, lower, squared), _ = conditions.read(constants, "L", "lower_curvature", "ratio_B_sq")
    number("mu", mu, above=lower, remedy="the proximal term must outweigh the functions' negative curvature")
    number("inexactness", inexactness, below=1, remedy="0 is an exact local solve")
    g = scalar("inexactness", inexactness, least=0, remedy="0 is an exact local solve")
    K = positive_int("clients", clients, remedy="the draws in a round")
    return _decrease(np.asarray(mu, np.float64), L, lower, np.sqrt(squared), g, K)


def _decrease(mu: Any, L: float, lower: float, B: float, g: float, K: int) -> Any:
    m, one = mu - lower, 1 + g
    return (
        (1 - g * B) / mu
        - B * one * np.sqrt(2 / K) / m
        - L * B * one / (m * mu)
        - L * (one * B / m) ** 2 / 2
        - L * (one * B / m) ** 2 * (2 * np.sqrt(2 * K) + 2) / K
    )


def _least(mu: float, L: float, lower: float, B: float, g: float, K: int) -> float | None:
    """The least legal mu in six digits, above one that is too small; None if none is large enough.

    mu rho rises with mu, from what is not positive at `mu` to 1 - g B - B (1 + g) sqrt(2 / K).
    """
    if 1 - g * B - B * (1 + g) * np.sqrt(2 / K) <= 0:
        return None
    high = 2 * max(mu, L)
    for _ in range(100):  # doublings, as far as double precision resolves a limit above 0
        if _decrease(high, L, lower, B, g, K) > 0:
            break
        high *= 2
    else:
        return None
    for _ in range(60):  # halvings, to the last digit
        middle = (mu + high) / 2
        mu, high = (mu, middle) if _decrease(middle, L, lower, B, g, K) > 0 else (middle, high)
    return float(Context(prec=6, rounding=ROUND_CEILING).create_decimal_from_float(float(high)))


def fedprox(
    constants: Constants,
    schedule: Any,
    local_steps: int,
    horizon: int,
    *,
    mu: Any,
    clients: int,
    inexactness: Any = 0.0,
) -> Curve:
    """`rho` summed over rounds: the mean over r < R of E|grad F(w_r)|^2 is at most (F(w_0) - F*) / (rho R).

    Args:
        constants: L, lower_curvature, gap, and ratio_B_sq as its largest value on the run.
        schedule: not read: local solves are told by their inexactness.
        local_steps: E, for the axis of steps alone.
        horizon: T = E R.
        mu: of the proximal term, a number.
        clients: K.
        inexactness: g.

    Returns:
        The bound after each round, from the first on; of the tag M.

    Raises:
        TypeError, ValueError: as `rho`.

    Reference:
        Li, Sahu et al., MLSys 2020, Theorems 4 and 6.
    """
    E, horizon = lengths(local_steps, horizon)
    (gap, lower), told = conditions.read(constants, "gap", "lower_curvature")
    (L, squared), more = conditions.read(constants, "L", "ratio_B_sq")
    mu = scalar(
        "mu", mu, above=lower, remedy="the proximal term must outweigh the functions' negative curvature"
    )
    falls = float(rho(constants, mu=mu, clients=clients, inexactness=inexactness))
    violated = [
        *conditions.divisible(horizon, E),
        *conditions.at_most("curvatures", "lower_curvature", lower, L, "L"),
    ]
    if falls <= 0:
        least = _least(mu, L, lower, float(np.sqrt(squared)), float(inexactness), clients)
        near = "none: solve more exactly, or sample more clients" if least is None else f"mu = {least:.6g}"
        violated.append(
            f"decrease: rho must be > 0, got {falls:.6g} at mu = {mu:.6g}: the nearest legal is {near}"
        )
    steps = after_rounds(E, horizon, first=1)
    statement = Statement("FedProx 2020", "mean over r < R of E|grad F(w_r)|^2", "l^2/w^2", "M", PAPER)
    return curve(
        statement, steps, {"start": gap / (falls if falls > 0 else np.nan) * E / steps}, violated, told | more
    )

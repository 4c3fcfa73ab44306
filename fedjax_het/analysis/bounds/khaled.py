"""Khaled, Mishchenko, Richtarik: local gradient descent (2019), local SGD on equal and on other data (2020)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.rates import after_rounds, lengths, rates
from fedjax_het.analysis.constants import Constants

__all__ = ["heterogeneous", "identical", "local_gd"]

FIRST = "Khaled, Mishchenko, Richtarik, First Analysis of Local GD, NeurIPS workshop 2019, Theorem 1"
SECOND = "Khaled, Mishchenko, Richtarik, Tighter Theory for Local SGD, AISTATS 2020"
MEAN = "E F(mean over s < t of wbar_s) - F*"


def local_gd(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """Full batches, convex: F(xbar_t) - F* <= 2 |x_0 - x*|^2 / (gamma t) + 24 gamma^2 zeta_*^2 H^2 L.

    xbar_t is the mean over steps s < t of the clients' mean wbar_s; H is the number of local steps.

    Args:
        constants: L, zeta_star_sq, distance_sq; sigma_sq, which is 0; lower_curvature = 0 or mu, without which
            convexity is assumed.
        schedule: gamma, constant, at most 1 / (4 L H).
        local_steps: H.
        horizon: T.

    Returns:
        The bound after each round, from the first on.

    Raises:
        TypeError, ValueError: a constant is missing, or a number of the wrong kind.

    Reference:
        Khaled, Mishchenko, Richtarik, "First Analysis of Local GD on Heterogeneous Data", NeurIPS workshop
        2019, Theorem 1.
    Departures:
        Stated there for equal weights; the proof uses no more of them than that they sum to 1.
    """
    H, horizon = lengths(local_steps, horizon)
    (L, zeta, away, sigma), told = conditions.read(constants, "L", "zeta_star_sq", "distance_sq", "sigma_sq")
    eta, steps = rates(schedule, H, horizon), after_rounds(H, horizon, first=1)
    limit = 1 / (4 * L * H)
    violated = [
        *conditions.convex(constants),
        *conditions.divisible(horizon, H),
        *conditions.constant_step(eta, limit),
        *conditions.noiseless(sigma),
        *conditions.at_most("step size", "the step size", eta, limit, "1 / (4 L H)"),
    ]
    gamma = eta[0]
    terms = {"start": 2 * away / (gamma * steps), "drift": 24 * gamma**2 * zeta * H**2 * L}
    told |= conditions.convexity(constants)
    return curve(Statement("Khaled 2019", MEAN, "l", "S", FIRST), steps, terms, violated, told)


def identical(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """Equal functions, mu > 0: E|x_t - x*|^2 <= (1 - gamma mu)^t r_0 + gamma sigma^2 / (mu M)
    + 2 L gamma^2 (H - 1) sigma^2 / mu.

    Args:
        constants: p, L, mu, distance_sq, sigma_sq; zeta_star_sq and delta, which are 0.
        schedule: gamma, constant, at most 1 / (4 L).
        local_steps: H.
        horizon: T.

    Returns:
        The bound after each round; of the tag M, so that its constants may be off.

    Raises:
        TypeError, ValueError: as `local_gd`.

    Reference:
        Khaled, Mishchenko, Richtarik, AISTATS 2020, the theorem for identical data and mu > 0.
    """
    H, horizon = lengths(local_steps, horizon)
    names = ("p", "L", "mu", "distance_sq", "sigma_sq", "zeta_star_sq", "delta")
    (p, L, mu, away, sigma, zeta, delta), told = conditions.read(constants, *names)
    eta, steps = rates(schedule, H, horizon), after_rounds(H, horizon)
    violated = [
        *conditions.convex(constants),
        *conditions.strongly_convex(mu, L),
        *conditions.divisible(horizon, H),
        *conditions.constant_step(eta, 1 / (4 * L)),
        *conditions.uniform(p),
        *conditions.identical("zeta_star_sq", zeta, L**2 * max(away, 1e-300)),
        *conditions.identical("delta", delta, L),
        *conditions.at_most("step size", "the step size", eta, 1 / (4 * L), "1 / (4 L)"),
    ]
    statement = Statement("Khaled 2020, identical data", "E|w_t - w*|^2", "w^2", "M", SECOND)
    if violated:
        return curve(statement, steps, {"bound": np.nan}, violated, told)
    gamma, noise = eta[0], sigma.max()
    terms = {
        "start": (1 - gamma * mu) ** steps * away,
        "noise": gamma * noise / (mu * len(p)),
        "local noise": 2 * L * gamma**2 * (H - 1) * noise / mu,
    }
    return curve(statement, steps, terms, violated, told)


def heterogeneous(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """Convex, other functions: E F(xbar_t) - F* <= 4 r_0 / (gamma t) + 20 gamma sigma_dif^2 / M
    + 16 gamma^2 L (H - 1)^2 sigma_dif^2.

    sigma_dif^2 = mean_m E|grad f_m(x*, z)|^2 = zeta_*^2 + mean_m sigma_m^2(x*).

    Args:
        constants: p, L, distance_sq, zeta_star_sq, sigma_star_sq. L is of every f_m(., z).
        schedule: gamma, constant, at most 1 / (4 L) and 1 / (8 L (H - 1)).
        local_steps: H.
        horizon: T.

    Returns:
        The bound after each round, from the first on; of the tag M, so that its constants may be off.

    Raises:
        TypeError, ValueError: as `local_gd`.

    Reference:
        Khaled, Mishchenko, Richtarik, AISTATS 2020, the theorem for heterogeneous data and mu = 0.
    """
    H, horizon = lengths(local_steps, horizon)
    names = ("p", "L", "distance_sq", "zeta_star_sq", "sigma_star_sq")
    (p, L, away, zeta, sigma), told = conditions.read(constants, *names)
    eta, steps = rates(schedule, H, horizon), after_rounds(H, horizon, first=1)
    limit = min(1 / (4 * L), 1 / (8 * L * (H - 1)) if H > 1 else np.inf)
    violated = [
        *conditions.convex(constants),
        *conditions.divisible(horizon, H),
        *conditions.constant_step(eta, limit),
        *conditions.uniform(p),
        *conditions.at_most("step size", "the step size", eta, limit, "min(1 / (4 L), 1 / (8 L (H - 1)))"),
    ]
    gamma, apart = eta[0], zeta + float(np.mean(sigma))
    terms = {
        "start": 4 * away / (gamma * steps),
        "noise": 20 * gamma * apart / len(p),
        "drift": 16 * gamma**2 * L * (H - 1) ** 2 * apart,
    }
    return curve(Statement("Khaled 2020", MEAN, "l", "M", SECOND), steps, terms, violated, told)

"""Clients of equal data: what averaging gains, and what local steps cost when there is only noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.explicit import e1
from fedjax_het.analysis.bounds.rates import after_rounds, lengths, rates
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import number, require, short

__all__ = ["averaged_variance", "equal_clients", "equal_curvatures"]


def averaged_variance(sigma_sq: Any, weights: Any = None) -> np.ndarray:
    """The variance of an averaged gradient, E|sum_k w_k (g_k - grad F_k)|^2 = sum_k w_k^2 sigma_k^2.

    K clients of equal noise and weight: sigma^2 / K, the gain of averaging. Unequal weights gain less: sigma^2
    sum w_k^2, as if there were 1 / sum w_k^2 clients. An equality, of independent noise.

    Args:
        sigma_sq: sigma_k^2 >= 0 [..., K].
        weights: of sum 1 [K]; equal if None.

    Returns:
        Float [...].

    Raises:
        TypeError, ValueError: not numbers >= 0, weights of another number or sum.
    """
    number("sigma_sq", sigma_sq, least=0, remedy="the variances of the clients' gradients [K]")
    sigma = np.atleast_1d(np.asarray(sigma_sq, np.float64))
    count = sigma.shape[-1]
    require(count > 0, f"sigma_sq must have one number for each client, got {short(sigma_sq)}: [..., K]")
    if weights is None:
        return np.mean(sigma, axis=-1) / count
    number("weights", weights, least=0, remedy="shares of sum 1")
    shares = np.asarray(weights, np.float64)
    require(
        shares.shape == (count,),
        f"weights must have one number for each of {count} clients, got {short(weights)}: [K]",
    )
    require(
        bool(np.isclose(shares.sum(), 1, rtol=0, atol=1e-5)),
        f"weights must have sum 1, got {shares.sum():.6g}: divide them by their sum",
    )
    return np.sum(sigma * shares**2, axis=-1)


def equal_clients(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """Equal local optima, and noise: `e1` with zeta_* = 0, where only noise makes extra local steps cost.

    The floor is [4 gamma^2 L (E - 1) sigma^2 + gamma sbar^2] / mu: of second order in gamma, against the noise
    of a step, gamma sigma^2 / (mu N). So up to about 1 / (4 gamma L N) extra local steps are nearly free.

    Args:
        constants: as in `e1`, with zeta_star_sq = 0.
        schedule: at most 1 / (4 L E).
        local_steps: E.
        horizon: T.

    Returns:
        The bound after each round.

    Raises:
        TypeError, ValueError: as `e1`.

    Reference:
        Derived here: see `fedjax_het.analysis.bounds.explicit`.
    """
    (L, zeta, away), _ = conditions.read(constants, "L", "zeta_star_sq", "distance_sq")
    made = e1(constants, schedule, local_steps, horizon)
    violated = [*made.validity, *conditions.identical("zeta_star_sq", zeta, L**2 * max(away, 1e-300))]
    statement = Statement("E1, equal clients", made.quantity, "w^2", "D", made.statement.reference)
    return curve(statement, made.steps, made.terms, violated, made.provenance)


def equal_curvatures(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """Quadratics of one curvature, noise that does not depend on the point: E does not enter at all.

    The mean of the local models then walks as SGD on F does, whatever E and wherever the local minima are:

        r_t <= (1 - gamma mu)^(2t) r_0 + gamma sbar^2 / (mu (2 - gamma mu)).

    So such clients show no drift, no bias, and local steps for nothing.

    Args:
        constants: p, L, mu, sigma_sq, distance_sq; delta, which is 0.
        schedule: gamma, constant, at most 2 / (L + mu).
        local_steps: E, for the times of averaging alone.
        horizon: T.

    Returns:
        The bound after each round, from the start on.

    Raises:
        TypeError, ValueError: a constant is missing, or a number of the wrong kind.

    Reference:
        Derived here: wbar_{s+1} - w* = (I - gamma A) (wbar_s - w*) - gamma sum_k p_k noise_k.
    """
    E, horizon = lengths(local_steps, horizon)
    names = ("p", "L", "mu", "sigma_sq", "distance_sq", "delta")
    (p, L, mu, sigma, away, delta), told = conditions.read(constants, *names)
    eta, steps = rates(schedule, E, horizon), after_rounds(E, horizon)
    limit = 2 / (L + mu)
    violated = [
        *conditions.convex(constants),
        *conditions.strongly_convex(mu, L),
        *conditions.divisible(horizon, E),
        *conditions.constant_step(eta, limit if mu >= 0 else np.inf),
        *conditions.identical("delta", delta, L),
        *conditions.at_most("step size", "the step size", eta, limit, "2 / (L + mu)"),
    ]
    statement = Statement("equal curvatures", "E|w_t - w*|^2", "w^2", "D", "derived here")
    if violated:
        return curve(statement, steps, {"bound": np.nan}, violated, told)
    gamma = eta[0]
    kept = (1 - gamma * mu) ** (2 * steps)
    shrink = gamma * mu * (2 - gamma * mu)
    gone = 1 - kept if shrink > 0.5 else -np.expm1(steps * np.log1p(-shrink))  # 1 - kept is 0 for small mu
    floor = gamma * float(averaged_variance(sigma, p)) / (mu * (2 - gamma * mu))
    terms = {"start": kept * away, "noise": gone * floor}
    return curve(statement, steps, terms, violated, told)

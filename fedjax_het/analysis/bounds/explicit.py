"""Bounds of local SGD with every constant written out, in terms of zeta_* and of the noise alone.

Each F_k is convex and L-smooth, the weights p are any. No bounded gradients, no bounded dissimilarity: what
the published rates of Koloskova, Khaled and Karimireddy say up to constants, here with constants, so that it
can be laid beside a measured error.

Proof, for D_s = F(wbar_s) - F*, V_s = sum p_k E|w_k,s - wbar_s|^2, step sizes eta_s at most gamma in a round:
(i) r_{s+1} <= (1 - eta_s mu) r_s - eta_s D_s + 3/2 eta_s L V_s + eta_s^2 sbar^2, from smoothness, strong
convexity and |sum p_k grad F_k(w_k)|^2 <= 2 L^2 V + 4 L D, for gamma <= 1 / (4 L).
(ii) V_j <= 2 gamma j sum_{i<j} eta_i (3 L^2 V_i + 6 L D_i + 3 zeta_*^2) + 2 gamma^2 j sigma^2.
(iii) (i) unrolled over the round weighs step j with om_j eta_j, om_j = prod_{i>j} (1 - eta_i mu), and
om_i >= (1 - gamma mu (E - 1)) om_j for i < j; put (ii) in and solve for sum om_j eta_j V_j. With gamma
<= 1 / (4 L E) what it has of the D_i is at most what (i) takes away. Since sum om_j eta_j = (1 - Q) / mu, the
rest is E1. For mu = 0 the weights are equal, and a third of the D_i is left over: E1f. Sampling adds
f V_E / K, by (ii): E2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.rates import after_rounds, lengths, rates
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import known, positive_int

__all__ = ["best_step", "e1", "e1f", "e2"]

NEEDS = ("p", "L", "mu", "zeta_star_sq", "sigma_sq", "distance_sq")
SOURCE = "derived here; the form is that of Khaled, Mishchenko, Richtarik 2019, Lemma 1, and Koloskova 2020"


def _recursion(
    statement: Statement,
    constants: Constants,
    schedule: Any,
    local_steps: int,
    horizon: int,
    factor: int,
    weights: tuple[float, float],
    sampling: float,
    violated: list[str],
) -> Curve:
    """r <- Q r + (1 - Q) / mu (a gamma^2 L E (E - 1) zeta^2 + ..) + sampling gamma^2 (..), by terms.

    Args:
        factor: gamma <= 1 / (factor L E).
        weights: a of zeta_*^2 and of sigma^2.
        sampling: f / K.
        violated: conditions of the scheme.
    """
    (p, L, mu, zeta, sigma, away), told = conditions.read(constants, *NEEDS)
    eta, steps = rates(schedule, local_steps, horizon), after_rounds(local_steps, horizon)
    violated = [
        *conditions.convex(constants),
        *conditions.strongly_convex(mu, L),
        *conditions.divisible(horizon, local_steps),
        *conditions.at_most(
            "step size", "the step size", eta, 1 / (factor * L * local_steps), f"1 / ({factor} L E)"
        ),
        *violated,
    ]
    if violated:
        return curve(statement, steps, {"bound": np.nan}, violated, told)
    by_round = eta.reshape(-1, local_steps)
    largest, kept = by_round.max(axis=1), np.prod(1 - mu * by_round, axis=1)
    mean, sharp = np.sum(p * sigma), np.sum(p**2 * sigma)
    E = local_steps
    left = -np.expm1(np.sum(np.log1p(-mu * by_round), axis=1)) / mu  # 1 - kept would be 0 for small mu
    added = {
        "start": np.zeros_like(kept),
        "drift": left * weights[0] * largest**2 * L * E * (E - 1) * zeta,
        "local noise": left * weights[1] * largest**2 * L * (E - 1) * mean,
        "noise": left * largest * sharp,
        "sampling": sampling * largest**2 * (6.1 * E**2 * zeta + 2.1 * E * mean),
    }
    terms = {
        name: _unrolled(away if name == "start" else 0.0, kept, add)
        for name, add in added.items()
        if name != "sampling" or sampling > 0
    }
    return curve(statement, steps, terms, violated, told)


def _unrolled(value: float, kept: np.ndarray, added: np.ndarray) -> np.ndarray:
    """x_0 = value, x_{r+1} = kept_r x_r + added_r, float [R + 1]."""
    values = [value]
    for shrink, more in zip(kept.tolist(), added.tolist()):
        values.append(shrink * values[-1] + more)
    return np.array(values)


def e1(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """Everyone takes part: after round r, with gamma the round's largest step and Q = prod_s (1 - eta_s mu),

        r <- Q r + (1 - Q)/mu [8 gamma^2 L E (E - 1) zeta_*^2 + 4 gamma^2 L (E - 1) sigma^2 + gamma sbar^2],

    r = E|w - w*|^2, sigma^2 = sum p_k sigma_k^2, sbar^2 = sum p_k^2 sigma_k^2. For a constant step

        r_t <= (1 - gamma mu)^t r_0 + [8 gamma^2 L E (E - 1) zeta_*^2 + ...] / mu.

    Args:
        constants: p, L, mu > 0, zeta_star_sq, sigma_sq, distance_sq.
        schedule: at most 1 / (4 L E); it may change from step to step.
        local_steps: E.
        horizon: T, a multiple of E.

    Returns:
        The bound after each round, from the start on.

    Raises:
        TypeError, ValueError: a constant is missing, or a number of the wrong kind.

    Reference:
        Derived here, see the module's text; the form is that of Koloskova et al., ICML 2020, Theorem 2.
    """
    local_steps, horizon = lengths(local_steps, horizon)
    statement = Statement("E1", "E|w_t - w*|^2", "w^2", "D", SOURCE)
    return _recursion(statement, constants, schedule, local_steps, horizon, 4, (8.0, 4.0), 0.0, [])


def e2(
    constants: Constants, schedule: Any, local_steps: int, horizon: int, *, clients: int, scheme: str = "I"
) -> Curve:
    """K clients a round: as `e1` with 5 and 3.1 in place of 8 and 4, and sampling's variance,

        r <- Q r + (1 - Q)/mu [5 gamma^2 L E (E - 1) zeta_*^2 + 3.1 gamma^2 L (E - 1) sigma^2 + gamma sbar^2]
             + f gamma^2 / K [6.1 E^2 zeta_*^2 + 2.1 E sigma^2].

    Args:
        constants: as in `e1`.
        schedule: at most 1 / (16 L E).
        local_steps: E.
        horizon: T, a multiple of E.
        clients: K.
        scheme: "I", drawn by p with replacement, the mean of the draws, f = 1; "II", without replacement, equal
            weights, f = (N - K)/(N - 1).

    Returns:
        The bound after each round.

    Raises:
        TypeError, ValueError: as `e1`; no such scheme.

    Reference:
        Derived here, see the module's text.
    """
    local_steps, horizon = lengths(local_steps, horizon)
    known("scheme", scheme, ("I", "II"))
    clients = positive_int("clients", clients, remedy="the clients of a round")
    (p,), _ = conditions.read(constants, "p")
    statement = Statement(f"E2 (scheme {scheme})", "E|w_t - w*|^2", "w^2", "D", SOURCE)
    violated, spread = [], 1.0
    if scheme == "II":
        violated = [
            *conditions.uniform(p),
            *conditions.at_most("sampled clients", "clients", clients, len(p), "N"),
        ]
        spread = max(len(p) - clients, 0) / max(len(p) - 1, 1)
    return _recursion(
        statement, constants, schedule, local_steps, horizon, 16, (5.0, 3.1), spread / clients, violated
    )


def e1f(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """Everyone takes part, F_k convex: of the mean over steps s < t of E F(wbar_s) - F*,

        3 |w_0 - w*|^2 / (2 gamma t) + 9 gamma^2 L E (E - 1) zeta_*^2 + 5 gamma^2 L (E - 1) sigma^2
        + 3/2 gamma sbar^2.

    wbar_s = sum p_k w_k,s is the mean of the local models, also between averagings.

    Args:
        constants: p, L, zeta_star_sq, sigma_sq, distance_sq; lower_curvature = 0 or mu, without which convexity
            is assumed.
        schedule: gamma, constant, at most 1 / (6 L E).
        local_steps: E.
        horizon: T.

    Returns:
        The bound after each round, from the first on.

    Raises:
        TypeError, ValueError: as `e1`.

    Reference:
        Derived here, see the module's text; Koloskova et al., ICML 2020, Theorem 2, has the form.
    """
    E, horizon = lengths(local_steps, horizon)
    (p, L, zeta, sigma, away), told = conditions.read(
        constants, "p", "L", "zeta_star_sq", "sigma_sq", "distance_sq"
    )
    eta, steps = rates(schedule, E, horizon), after_rounds(E, horizon, first=1)
    statement = Statement("E1f", "mean over s < t of E F(wbar_s) - F*", "l", "D", SOURCE)
    limit = 1 / (6 * L * E)
    violated = [
        *conditions.convex(constants),
        *conditions.divisible(horizon, E),
        *conditions.constant_step(eta, limit),
        *conditions.at_most("step size", "the step size", eta, limit, "1 / (6 L E)"),
    ]
    gamma = eta[0]
    terms = {
        "start": 1.5 * away / (gamma * steps),
        "drift": 9 * gamma**2 * L * E * (E - 1) * zeta,
        "local noise": 5 * gamma**2 * L * (E - 1) * np.sum(p * sigma),
        "noise": 1.5 * gamma * np.sum(p**2 * sigma),
    }
    return curve(statement, steps, terms, violated, told | conditions.convexity(constants))


def best_step(
    bound: Callable[..., Curve],
    constants: Constants,
    local_steps: int,
    horizon: int,
    *,
    points: int = 200,
    **options: Any,
) -> tuple[float, Curve]:
    """The constant step size of the least bound at the horizon, and that bound.

    Args:
        bound: `e1`, `e1f`, `e2`, or any other of a constant step.
        constants: what it needs.
        local_steps: E.
        horizon: T.
        points: step sizes tried, evenly in the logarithm, from 1e-6 / (4 L E) to 2 / L.
        options: of `bound`.

    Returns:
        (gamma, curve); the curve is nan where no step size is legal.

    Raises:
        TypeError, ValueError: as `bound`.
    """
    points = positive_int("points", points, least=2, remedy="a few hundred are fine enough")
    E, horizon = lengths(local_steps, horizon)
    (L,), _ = conditions.read(constants, "L")
    tried = np.concatenate(
        [np.geomspace(1e-6 / (4 * L * E), 2 / L, points), 1 / (np.array([4.0, 6.0, 16.0]) * L * E)]
    )
    curves = [bound(constants, gamma, E, horizon, **options) for gamma in tried.tolist()]
    last = np.array([each.values[-1] for each in curves])
    best = int(np.nanargmin(last)) if np.isfinite(last).any() else 0
    return float(tried[best]), curves[best]

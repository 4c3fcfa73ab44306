"""Karimireddy et al., "SCAFFOLD", ICML 2020, on SCAFFOLD: its rate, and that on quadratics."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.rates import lengths
from fedjax_het.analysis.bounds.shapes import REGIMES, inverted, setting
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import known, positive_int, scalar

__all__ = ["quadratics", "scaffold"]

PAPER = "Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, ICML 2020"
GAP, SLOPE = "E F(w_t) - F*", "E|grad F(w_t)|^2"


def scaffold(
    constants: Constants,
    schedule: Any,
    local_steps: int,
    horizon: int,
    *,
    clients: int | None = None,
    regime: str = "strongly_convex",
    server_learning_rate: Any = 1.0,
) -> Curve:
    """SCAFFOLD, up to constants and logarithms: no measure of heterogeneity enters. Strongly convex:

        sigma^2 / (mu R K S) + mu D^2 exp(-min(S / (30 N), mu / (162 beta)) R);

    convex and non-convex: the orders of R in Theorem III turned round.

    Args:
        constants: p, L, sigma_sq; mu and distance_sq, or distance_sq and gap, or gap, by regime.
        schedule: eta_l, at most 1 / (81 beta K eta_g), and S / (15 mu N K eta_g) if strongly convex; None for
            the theorem's own.
        local_steps: K.
        horizon: T = K R.
        clients: S; everyone if None.
        regime: "strongly_convex", "convex" or "nonconvex".
        server_learning_rate: eta_g.

    Returns:
        Its shape after each round.

    Raises:
        TypeError, ValueError: a constant is missing, a number of the wrong kind, no such regime.

    Reference:
        Karimireddy et al., ICML 2020, Theorem III.
    Departures:
        D^2 is |w_0 - w*|^2; the first control variates' distance from their limits is left out of it.
    """
    known("regime", regime, REGIMES)
    more = {"strongly_convex": ("mu", "distance_sq"), "convex": ("distance_sq", "gap"), "nonconvex": ("gap",)}
    (p, beta, sigma, *rest), told = conditions.read(constants, "p", "L", "sigma_sq", *more[regime])
    local_steps, horizon = lengths(local_steps, horizon)
    server = scalar("server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean")
    N = len(p)
    S = N if clients is None else positive_int("clients", clients, remedy="the clients of a round")
    limit, words = 1 / (81 * beta * local_steps * server), "1 / (81 beta K eta_g)"
    if regime == "strongly_convex" and rest[0] > 0:
        limit = min(limit, S / (15 * rest[0] * N * local_steps * server))
        words = f"min({words}, S / (15 mu N K eta_g))"
    steps, R, K, _, violated = setting(constants, schedule, local_steps, horizon, S, limit, words)
    noise = float(sigma.max()) / (K * S)
    quantity, unit = (SLOPE, "l^2/w^2") if regime == "nonconvex" else (GAP, "l")
    statement = Statement(
        f"SCAFFOLD ({regime.replace('_', ' ')})", quantity, unit, "O", f"{PAPER}, Theorem III"
    )
    if regime != "nonconvex":
        violated += conditions.convex(constants)
    if regime == "strongly_convex":
        mu, away = rest
        violated += conditions.strongly_convex(mu, beta)
        rate = min(S / (30 * N), mu / (162 * beta))
        terms = {
            "noise": noise / ((mu if mu > 0 else np.nan) * R),
            "start": mu * away * np.exp(-rate * R),
        }
    elif regime == "convex":
        away, gap = rest
        terms = inverted(R, noise=(noise * away, 2.0), start=(beta * away + N * gap / S, 1.0))
    else:
        scale = beta * rest[0]
        terms = inverted(R, noise=(noise * scale, 2.0), start=((N / S) ** (2 / 3) * scale, 1.0))
    return curve(statement, steps, terms, violated, told)


def quadratics(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """SCAFFOLD on quadratics, everyone, eta_g = 1: local steps help as far as Hessians agree.

        beta sigma^2 / (mu K N R) + beta (F(w_0) - F*) exp(-mu K R / (beta + delta K)).

    Args:
        constants: p, L, mu, delta, sigma_sq, gap.
        schedule: not read; the theorem's own.
        local_steps: K.
        horizon: T = K R.

    Returns:
        Its shape after each round, of E|grad F|^2, whose unit the theorem's orders have.

    Raises:
        TypeError, ValueError: as `scaffold`.

    Reference:
        Karimireddy et al., ICML 2020, Theorem IV.
    """
    (p, beta, mu, delta, sigma, gap), told = conditions.read(
        constants, "p", "L", "mu", "delta", "sigma_sq", "gap"
    )
    steps, R, K, _, violated = setting(constants, None, local_steps, horizon, None, np.inf, "")
    violated += conditions.convex(constants) + conditions.strongly_convex(mu, beta)
    terms = {
        "noise": beta * float(sigma.max()) / ((mu if mu > 0 else np.nan) * K * len(p) * R),
        "start": beta * gap * np.exp(-mu * K * R / (beta + delta * K)),
    }
    statement = Statement("SCAFFOLD (quadratics)", SLOPE, "l^2/w^2", "O", f"{PAPER}, Theorem IV")
    return curve(statement, steps, terms, violated, told)

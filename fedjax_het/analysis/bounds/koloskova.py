"""Koloskova, Loizou, Boreiri, Jaggi, Stich, "A Unified Theory of Decentralized SGD", ICML 2020."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.shapes import inverted, setting
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import known

__all__ = ["koloskova"]


def koloskova(
    constants: Constants, schedule: Any, local_steps: int, horizon: int, *, regime: str = "strongly_convex"
) -> Curve:
    """Exact averaging every tau steps, up to constants and logarithms. Strongly convex, after T steps:

        sbar^2 / (mu n T) + L (zeta_* tau + sbar sqrt(tau))^2 / (mu T)^2 + L D^2 exp(-mu T / (L tau)).

    Convex: the orders of T turned round. `explicit.e1` and `explicit.e1f` are such bounds with constants.

    Args:
        constants: p, L, distance_sq, zeta_star_sq, sigma_star_sq (sbar^2 is its mean); mu if strongly convex.
        schedule: not read; the step size that the theorem tunes.
        local_steps: tau.
        horizon: T.
        regime: "strongly_convex" or "convex".

    Returns:
        Its shape after each round.

    Raises:
        TypeError, ValueError: a constant is missing, a number of the wrong kind, no such regime.

    Reference:
        Koloskova et al., ICML 2020, Theorem 2, with mixing parameter 1 every tau steps.
    """
    known("regime", regime, ("strongly_convex", "convex"))
    names = ("p", "L", "distance_sq", "zeta_star_sq", "sigma_star_sq")
    (p, L, away, zeta, sigma), told = conditions.read(constants, *names)
    steps, _, tau, _, violated = setting(constants, None, local_steps, horizon, None, np.inf, "")
    violated += conditions.convex(constants)
    noise = float(np.mean(sigma))
    apart = np.sqrt(zeta) * tau + np.sqrt(noise * tau)
    statement = Statement(
        f"Koloskova 2020 ({regime.replace('_', ' ')})",
        "E F(w_t) - F*",
        "l",
        "O",
        "Koloskova, Loizou, Boreiri, Jaggi, Stich, ICML 2020, Theorem 2",
    )
    if regime == "convex":
        orders = {
            "noise": (noise * away / len(p), 2.0),
            "drift": (np.sqrt(L) * apart * away, 1.5),
            "start": (L * tau * away, 1.0),
        }
        return curve(statement, steps, inverted(steps, **orders), violated, told)
    (mu,), more = conditions.read(constants, "mu")
    violated += conditions.strongly_convex(mu, L)
    convex = mu if mu > 0 else np.nan
    terms = {
        "noise": noise / (convex * len(p) * steps),
        "drift": L * apart**2 / (convex * steps) ** 2,
        "start": L * away * np.exp(-mu * steps / (L * tau)),
    }
    return curve(statement, steps, terms, violated, told | more)

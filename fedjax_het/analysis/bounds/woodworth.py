"""Woodworth, Patel, Srebro, "Minibatch vs Local SGD for Heterogeneous Distributed Learning", NeurIPS 2020."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.shapes import setting
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import known

__all__ = ["local_sgd", "local_sgd_lower", "minibatch"]

PAPER = "Woodworth, Patel, Srebro, NeurIPS 2020"
GAP = "E F(w_t) - F*"


def _statement(name: str, regime: str, side: str = "upper") -> Statement:
    known("regime", regime, ("strongly_convex", "convex"))
    return Statement(f"Woodworth 2020, {name} ({regime.replace('_', ' ')})", GAP, "l", "O", PAPER, side)


def minibatch(
    constants: Constants, schedule: Any, local_steps: int, horizon: int, *, regime: str = "strongly_convex"
) -> Curve:
    """R steps of SGD with batches K times larger in place of K local steps: heterogeneity does not enter.

    Convex H B^2 / R + sigma_* B / sqrt(M K R); strongly convex with lambda
    (H Delta / lambda) exp(-lambda R / H) + sigma_*^2 / (lambda M K R), up to constants.

    Args:
        constants: p, L (H), distance_sq (B^2), sigma_star_sq; mu (lambda) and gap (Delta) if strongly convex.
        schedule: not read; the step size that the theorem tunes.
        local_steps: K.
        horizon: T = K R.
        regime: "strongly_convex" or "convex".

    Returns:
        Its shape after each round.

    Raises:
        TypeError, ValueError: a constant is missing, a number of the wrong kind, no such regime.

    Reference:
        Woodworth, Patel, Srebro, NeurIPS 2020, Theorem 1.
    """
    statement = _statement("minibatch SGD", regime)
    (p, H, away, sigma), told = conditions.read(constants, "p", "L", "distance_sq", "sigma_star_sq")
    steps, R, _, _, violated = setting(constants, None, local_steps, horizon, None, np.inf, "")
    violated += conditions.convex(constants)
    noise = float(np.mean(sigma)) / (len(p) * steps)
    if regime == "convex":
        terms = {"start": H * away / R, "noise": np.sqrt(noise * away)}
        return curve(statement, steps, terms, violated, told)
    (convex, gap), more = conditions.read(constants, "mu", "gap")
    violated += conditions.strongly_convex(convex, H)
    safe = convex if convex > 0 else np.nan
    terms = {"start": H * gap / safe * np.exp(-safe * R / H), "noise": noise / safe}
    return curve(statement, steps, terms, violated, told | more)


def local_sgd(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """Local SGD, convex, up to constants: H B^2 / (K R) + (H zeta_bar^2 B^4)^(1/3) / R^(2/3)

        + (H sigma^2 B^4)^(1/3) / (K^(1/3) R^(2/3)) + sigma B / sqrt(M K R).

    Args:
        constants: p, L, distance_sq, sigma_sq, and zeta_bar_sq, which bounds dissimilarity everywhere: infinite
            for quadratics unless their curvatures agree.
        schedule: not read.
        local_steps: K.
        horizon: T = K R.

    Returns:
        Its shape after each round.

    Raises:
        TypeError, ValueError: as `minibatch`.

    Reference:
        Woodworth, Patel, Srebro, NeurIPS 2020, Theorem 3.
    """
    names = ("p", "L", "distance_sq", "sigma_sq", "zeta_bar_sq")
    (p, H, away, sigma, apart), told = conditions.read(constants, *names)
    steps, R, K, _, violated = setting(constants, None, local_steps, horizon, None, np.inf, "")
    violated += conditions.convex(constants)
    violated += conditions.finite("zeta_bar_sq", apart)
    noise, far = float(np.mean(sigma)), H * away**2
    terms = {
        "start": H * away / steps,
        "drift": np.cbrt(far * apart) / R ** (2 / 3),
        "local noise": np.cbrt(far * noise / K) / R ** (2 / 3),
        "noise": np.sqrt(noise * away / (len(p) * steps)),
    }
    return curve(_statement("local SGD", "convex"), steps, terms, violated, told)


def local_sgd_lower(
    constants: Constants, schedule: Any, local_steps: int, horizon: int, *, regime: str = "strongly_convex"
) -> Curve:
    """What local SGD cannot beat on some problem, whatever its constant step size, up to constants.

    Strongly convex: min(Delta exp(-6 lambda R / H), H zeta_*^2 / (lambda R)^2) + min(Delta, H sigma^2 /
    (lambda K R)^2) + sigma^2 / (lambda M K R). Convex: min(H B^2 / R, (H zeta_*^2 B^4)^(1/3) / R^(2/3)), and
    what noise adds left out.

    Args:
        constants: p, L, zeta_star_sq; mu, gap and sigma_sq, or distance_sq, by regime.
        schedule: not read.
        local_steps: K.
        horizon: T = K R.
        regime: "strongly_convex" or "convex".

    Returns:
        Its shape after each round, a lower bound.

    Raises:
        TypeError, ValueError: as `minibatch`.

    Reference:
        Woodworth, Patel, Srebro, NeurIPS 2020, Theorem 2.
    """
    statement = _statement("local SGD, lower bound", regime, "lower")
    (p, H, zeta), told = conditions.read(constants, "p", "L", "zeta_star_sq")
    steps, R, _, _, violated = setting(constants, None, local_steps, horizon, None, np.inf, "")
    violated += conditions.convex(constants)
    if regime == "convex":
        (away,), more = conditions.read(constants, "distance_sq")
        value = np.minimum(H * away / R, np.cbrt(H * zeta * away**2) / R ** (2 / 3))
        return curve(statement, steps, {"drift": value}, violated, told | more)
    (convex, gap, sigma), more = conditions.read(constants, "mu", "gap", "sigma_sq")
    violated += conditions.strongly_convex(convex, H)
    safe, noise = convex if convex > 0 else np.nan, float(np.mean(sigma))
    terms = {
        "drift": np.minimum(gap * np.exp(-6 * safe * R / H), H * zeta / (safe * R) ** 2),
        "local noise": np.minimum(gap, H * noise / (safe * steps) ** 2),
        "noise": noise / (safe * len(p) * steps),
    }
    return curve(statement, steps, terms, violated, told | more)

"""Karimireddy et al., "SCAFFOLD", ICML 2020, on FedAvg: its rate, a lower bound, and one round of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.rates import lengths, rates
from fedjax_het.analysis.bounds.shapes import REGIMES, inverted, setting
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import known, scalar

__all__ = ["fedavg", "lower_bound", "one_round"]

PAPER = "Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, ICML 2020"
PAIR = ("dissimilarity_G_sq", "dissimilarity_B_sq")
GAP, SLOPE = "E F(w_t) - F*", "E|grad F(w_t)|^2"


def fedavg(
    constants: Constants,
    schedule: Any,
    local_steps: int,
    horizon: int,
    *,
    clients: int | None = None,
    regime: str = "strongly_convex",
    server_learning_rate: Any = 1.0,
) -> Curve:
    """FedAvg of K local steps by S of N clients, up to constants and logarithms. Strongly convex:

        M^2 / (mu R K S) + beta G^2 / (mu^2 R^2) + mu D^2 exp(-mu R / (16 (1 + B^2) beta)),
        M^2 = sigma^2 (1 + S / eta_g^2) + K (1 - S/N) G^2.

    Convex and non-convex: the orders of R in Theorem I turned round, with D = |w_0 - w*| or F(w_0) - F*.

    Args:
        constants: p, L (beta), sigma_sq and the pair dissimilarity_G_sq, dissimilarity_B_sq; by regime mu
            and distance_sq, or distance_sq, or gap. For "nonconvex" the pair is of sum p_k |grad F_k|^2
            <= G^2 + B^2 |grad F|^2.
        schedule: eta_l, at most 1 / (8 (1 + B^2) beta K eta_g); None for the one that the theorem tunes.
        local_steps: K.
        horizon: T = K R.
        clients: S; everyone if None.
        regime: "strongly_convex", "convex" or "nonconvex".
        server_learning_rate: eta_g >= 1.

    Returns:
        Its shape after each round; the quantity is E|grad F|^2 for "nonconvex".

    Raises:
        TypeError, ValueError: a constant is missing, a number of the wrong kind, no such regime.

    Reference:
        Karimireddy et al., ICML 2020, Theorem I; the strongly convex form is that of its appendix.
    Departures:
        Theorem I's D is the distance, not its square. Its non-convex orders (1 - S/N) G^2 F / (S eps^2) and
        sqrt(beta) G / eps^(3/2), and its convex sqrt(beta) G / eps^(3/2), lack the units of a number of rounds:
        here beta (1 - S/N) G^2 F / (S eps^2), beta G F / eps^(3/2) and sqrt(beta) G D^2 / eps^(3/2).
    """
    known("regime", regime, REGIMES)
    more = {"strongly_convex": ("mu", "distance_sq"), "convex": ("distance_sq",), "nonconvex": ("gap",)}[regime]
    (p, beta, sigma, G, B, *rest), told = conditions.read(constants, "p", "L", "sigma_sq", *PAIR, *more)
    local_steps, horizon = lengths(local_steps, horizon)
    server = scalar("server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean")
    inverse = 8 * (1 + B) * beta
    steps, R, K, S, violated = setting(
        constants,
        schedule,
        local_steps,
        horizon,
        clients,
        1 / (inverse * local_steps * server),
        "1 / (8 (1 + B^2) beta K eta_g)",
    )
    violated += conditions.at_least("server step", "server_learning_rate", server, 1.0, "1")
    noise, missed = float(sigma.max()), 1 - S / len(p)
    name = f"SCAFFOLD paper, FedAvg ({regime.replace('_', ' ')})"
    statement = Statement(name, SLOPE if regime == "nonconvex" else GAP, "l", "O", f"{PAPER}, Theorem I")
    if regime != "nonconvex":
        violated += conditions.convex(constants)
    if regime == "strongly_convex":
        mu, away = rest
        violated += conditions.strongly_convex(mu, beta)
        if not mu > 0:
            return curve(statement, steps, {"bound": np.nan}, violated, told)
        violated += conditions.enough_rounds(R[-1], inverse / mu, "8 (1 + B^2) beta / mu")
        spread = noise * (1 + S / server**2) + K * missed * G
        terms = {
            "noise and sampling": spread / (mu * R * K * S),
            "drift": beta * G / (mu * R) ** 2,
            "start": mu * away * np.exp(-mu * R / (2 * inverse)),
        }
        return curve(statement, steps, terms, violated, told)
    scale = rest[0] if regime == "convex" else beta * rest[0]
    drift = (np.sqrt(beta * G) if regime == "convex" else np.sqrt(G)) * scale
    terms = inverted(
        R,
        noise=(noise * scale / (K * S), 2.0),
        sampling=(missed * G * scale / S, 2.0),
        drift=(drift, 1.5),
        start=(B * (beta * scale if regime == "convex" else scale), 1.0),
    )
    if regime == "nonconvex":
        statement = Statement(name, SLOPE, "l^2/w^2", "O", f"{PAPER}, Theorem I")
    return curve(statement, steps, terms, violated, told)


def lower_bound(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """For some pair of functions, whatever the step size: F(w_R) - F* >= c min(F(w_0) - F*, G^2 / (mu R^2)).

    The pair is mu x^2 + G x and -G x: FedAvg with full batches, everyone, and two or more local steps.

    Args:
        constants: p, mu, gap, dissimilarity_G_sq; sigma_sq, which is 0.
        schedule: not read; the best one.
        local_steps: K >= 2.
        horizon: T = K R.

    Returns:
        Its shape after each round, a lower bound.

    Raises:
        TypeError, ValueError: as `fedavg`.

    Reference:
        Karimireddy et al., ICML 2020, Theorem II; the minimum with the start is of its later version.
    """
    (mu, gap, G, sigma), told = conditions.read(constants, "mu", "gap", PAIR[0], "sigma_sq")
    steps, R, K, _, violated = setting(constants, None, local_steps, horizon, None, np.inf, "")
    violated += [
        *conditions.convex(constants),
        *conditions.strongly_convex(mu),
        *conditions.noiseless(sigma),
        *conditions.at_least("local steps", "local_steps", K, 2, "2"),
    ]
    value = np.minimum(gap, G / ((mu if mu > 0 else np.nan) * R**2))
    statement = Statement("SCAFFOLD paper, lower bound", GAP, "l", "O", f"{PAPER}, Theorem II", "lower")
    return curve(statement, steps, {"drift": value}, violated, told)


def one_round(
    constants: Constants,
    schedule: Any,
    local_steps: int,
    *,
    drift: Any,
    clients: int | None = None,
    server_learning_rate: Any = 1.0,
) -> Curve:
    """One round of FedAvg, with eta = K eta_l eta_g: E|w_+ - w*|^2 is at most

        (1 - mu eta / 2) |w - w*|^2 - eta (F(w) - F*) + 3 beta eta Eps + eta^2 sigma^2 / (K S)
        + (1 - S/N) 4 eta^2 G^2 / S.

    Args:
        constants: p, L, mu, sigma_sq, the pair; distance_sq and gap at the round's start.
        schedule: eta_l, at most 1 / (8 (1 + B^2) beta K eta_g).
        local_steps: K.
        drift: Eps = 1/K sum_j sum_k p_k E|w_k,j - w|^2 of that round.
        clients: S; everyone if None.
        server_learning_rate: eta_g >= 1.

    Returns:
        The bound after the round; of the tag M, so that its constants may be off.

    Raises:
        TypeError, ValueError: as `fedavg`.

    Reference:
        Karimireddy et al., ICML 2020, Lemma 7.
    """
    names = ("p", "L", "mu", "sigma_sq", *PAIR, "distance_sq", "gap")
    (p, beta, mu, sigma, G, B, away, gap), told = conditions.read(constants, *names)
    local_steps, _ = lengths(local_steps, 1)
    server = scalar("server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean")
    apart = scalar("drift", drift, least=0, remedy="the mean squared drift from the round's start")
    limit = 1 / (8 * (1 + B) * beta * local_steps * server)
    steps, _, K, S, violated = setting(
        constants, schedule, local_steps, local_steps, clients, limit, "1 / (8 (1 + B^2) beta K eta_g)"
    )
    violated += [
        *conditions.convex(constants),
        *([] if mu == 0 else conditions.strongly_convex(mu, beta)),
        *conditions.at_least("server step", "server_learning_rate", server, 1.0, "1"),
    ]
    eta = K * server * rates(schedule, K, K)[0]
    terms = {
        "start": (1 - mu * eta / 2) * away,
        "progress": -eta * gap,
        "drift": 3 * beta * eta * apart,
        "noise": eta**2 * float(sigma.max()) / (K * S),
        "sampling": (1 - S / len(p)) * 4 * eta**2 * G / S,
    }
    statement = Statement(
        "SCAFFOLD paper, one round of FedAvg", "E|w_+ - w*|^2", "w^2", "M", f"{PAPER}, Lemma 7"
    )
    return curve(statement, steps, terms, violated, told)

"""Reddi et al., "Adaptive Federated Optimization", ICLR 2021: FedAdagrad."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.rates import lengths, rates
from fedjax_het.analysis.bounds.shapes import setting
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import scalar

__all__ = ["fedadagrad"]


def fedadagrad(
    constants: Constants,
    schedule: Any,
    local_steps: int,
    horizon: int,
    *,
    server_learning_rate: Any,
    adaptivity: Any,
) -> Curve:
    """FedAdagrad, everyone, up to a constant: of min_r E|grad F(w_r)|^2,

        [G / sqrt(R) + tau / (eta_l K R)] (Psi + Psi_var),
        Psi = (F(w_0) - F*) / eta + 5 eta_l^3 K^2 L^2 R sigma^2 / (2 tau), sigma^2 = sigma_l^2 + 6 K sigma_g^2,
        Psi_var = d eta_l K (4 G^2 + eta L G) / tau [1 + log((tau^2 + eta_l^2 K^2 G^2 R) / tau^2)].

    This one is remembered with the least certainty of all: a shape, and no more.

    Args:
        constants: p, L, gap, sigma_sq (sigma_l^2), zeta_bar_sq (sigma_g^2), coordinate_G (G), dimension (d).
        schedule: eta_l, constant, at most 1 / (8 L K).
        local_steps: K.
        horizon: T = K R.
        server_learning_rate: eta.
        adaptivity: tau, added to the root of the second moments.

    Returns:
        Its shape after each round.

    Raises:
        TypeError, ValueError: a constant is missing, or a number of the wrong kind.

    Reference:
        Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan, ICLR 2021, Theorem 1.
    Departures:
        Where memory left tau / (eta eta_l K R), and no eta_l K in Psi_var, the sides have different units; the
        root of a sum of R squared updates of at most eta_l K G, plus tau, over eta_l K R, is what stands here.
    """
    names = ("L", "gap", "sigma_sq", "zeta_bar_sq", "coordinate_G", "dimension")
    (L, gap, sigma, apart, G, d), told = conditions.read(constants, *names)
    local_steps, horizon = lengths(local_steps, horizon)
    eta = scalar("server_learning_rate", server_learning_rate, above=0, remedy="the paper's eta")
    tau = scalar("adaptivity", adaptivity, above=0, remedy="the paper's tau, such as 1e-3")
    steps, R, K, _, violated = setting(
        constants, schedule, local_steps, horizon, None, 1 / (8 * L * local_steps), "1 / (8 L K)"
    )
    violated += conditions.finite("zeta_bar_sq", apart)
    local = rates(schedule, K, horizon)[0]
    spread = float(np.max(sigma)) + 6 * K * apart
    start = gap / eta
    drift = 2.5 * local**3 * (K * L) ** 2 * R * spread / tau
    adapted = d * local * K * (4 * G**2 + eta * L * G) / tau * (1 + np.log1p((local * K * G / tau) ** 2 * R))
    front = G / np.sqrt(R) + tau / (local * K * R)
    terms = {"start": front * start, "drift": front * drift, "adaptation": front * adapted}
    statement = Statement(
        "FedAdagrad 2021",
        "min over r < R of E|grad F(w_r)|^2",
        "l^2/w^2",
        "O",
        "Reddi et al., ICLR 2021, Theorem 1",
    )
    return curve(statement, steps, terms, violated, told)

"""Li, Huang, Yang, Wang, Zhang, "On the Convergence of FedAvg on Non-IID Data", ICLR 2020: Theorems 1 to 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.analysis.bounds import conditions
from fedjax_het.analysis.bounds.curve import Curve, Statement, curve
from fedjax_het.analysis.bounds.rates import after_rounds, lengths, rates
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import positive_int, require
from fedjax_het.local.schedules import Schedule, inverse_time

__all__ = ["step_sizes", "theorem1", "theorem2", "theorem3", "theorem4"]

PAPER = "Li, Huang, Yang, Wang, Zhang, ICLR 2020"
GAP = "E F(w_t) - F*"


def step_sizes(constants: Constants, local_steps: int, *, transformed: bool = False) -> Schedule:
    """The theorems' step sizes, eta_s = 2 / (mu (gamma + s)) with gamma = max(8 L / mu, E), s = 0, 1, ...

    Args:
        constants: L, mu; and p when transformed.
        local_steps: E.
        transformed: for transformed scheme II, see `theorem3`.

    Raises:
        TypeError, ValueError: constants missing, mu = 0, a client without weight, or not a number of steps.
    """
    steps, _ = lengths(local_steps, 1)
    (L, mu), _ = conditions.read(constants, "L", "mu")
    if transformed:
        (p,), _ = conditions.read(constants, "p")
        require(bool(p.min() > 0), f"p must be > 0 for each client, got {p.min()}: leave idle clients out")
        L, mu = len(p) * p.max() * L, len(p) * p.min() * mu
    require(bool(mu > 0), f"mu must be > 0, got {mu}: the step sizes are 2 / (mu (gamma + s))")
    return inverse_time(2 / mu, max(8 * L / mu, steps))


def _bound(
    statement: Statement,
    constants: Constants,
    schedule: Any,
    local_steps: int,
    horizon: int,
    sampling: float,
    violated: list[str],
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Curve:
    """kappa / (gamma + s) (2 B / mu + mu gamma / 2 r_0), by terms.

    Args:
        sampling: C / G^2.
        violated: conditions of the scheme.
        stretch: by which L, mu and G^2 are multiplied.
    """
    names = ["p", "L", "mu", "gamma_gap", "sigma_sq", "distance_sq"]
    drifts = local_steps > 1 or sampling > 0
    (p, L, mu, apart, sigma, away), told = conditions.read(constants, *names)
    (squares,), more = conditions.read(constants, "li_G_sq") if drifts else ([0.0], {})
    violated = [
        *conditions.convex(constants),
        *conditions.strongly_convex(mu, L),
        *conditions.divisible(horizon, local_steps),
        *conditions.finite("gamma_gap", apart),
        *violated,
    ]
    L, mu, squares = L * stretch[0], mu * stretch[1], squares * stretch[2]
    steps = after_rounds(local_steps, horizon)
    if not mu > 0:
        return curve(statement, steps, {"bound": np.nan}, violated, told | more)
    eta = rates(schedule, local_steps, horizon)
    least = max(8 * L / mu, local_steps)
    gamma = 2 / (mu * eta[0])
    violated += conditions.at_most(
        "step size", "schedule at step 0", eta[0], 2 / (mu * least), "2 / (mu gamma)"
    )
    wanted = 2 / (mu * (gamma + np.arange(horizon)))
    off = np.abs(eta / wanted - 1)
    if off.max() > 1e-5:
        at = int(np.argmax(off))
        violated.append(
            f"schedule: step sizes must be 2 / (mu (gamma + s)) with mu = {mu:.6g}, gamma = {gamma:.6g}, got "
            f"{eta[at]:.6g} at step {at}: the nearest legal there is {wanted[at]:.6g}, see li2020.step_sizes"
        )
    front = L / mu / (gamma + steps)
    terms = {
        "start": front * mu * gamma / 2 * away,
        "noise": front * 2 / mu * np.sum(p**2 * sigma),
        "Gamma": front * 2 / mu * 6 * L * apart,
        "drift": front * 2 / mu * 8 * (local_steps - 1) ** 2 * squares,
        "sampling": front * 2 / mu * sampling * squares,
    }
    return curve(statement, steps, terms, violated, told | more)


def theorem1(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """Everyone takes part: E F(w_s) - F* <= kappa / (gamma + s) (2 B / mu + mu gamma / 2 |w_0 - w*|^2).

    B = sum p_k^2 sigma_k^2 + 6 L Gamma + 8 (E - 1)^2 G^2, kappa = L / mu. The terms are those of B, and the
    start. Expect it far above the truth, by 1e5 and more for E > 1, where G^2 rules; for E = 1 with full
    batches, which is gradient descent, 6 L Gamma is there only because the proof needs it.

    Args:
        constants: p, L, mu, gamma_gap, sigma_sq, distance_sq; li_G_sq for E > 1. Bounded gradients contradict
            strong convexity on the whole space, so that G^2 means the largest E|g_k|^2 on the local iterates
            of the run that is bounded, of all clients.
        schedule: `step_sizes`, or 2 / (mu (gamma + s)) with a larger gamma.
        local_steps: E.
        horizon: T, a multiple of E.

    Returns:
        The bound after each round, from the start on.

    Raises:
        TypeError, ValueError: a constant is missing, or a number of the wrong kind.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, Theorem 1.
    Departures:
        Steps count from 0, where the paper's w_1 is the start: the same proof. A larger gamma than the
        theorem's is taken too, since its induction asks for no more than gamma >= max(8 kappa, E).
    """
    local_steps, horizon = lengths(local_steps, horizon)
    statement = Statement("Li 2020, Theorem 1", GAP, "l", "S", f"{PAPER}, Theorem 1")
    return _bound(statement, constants, schedule, local_steps, horizon, 0.0, [])


def theorem2(constants: Constants, schedule: Any, local_steps: int, horizon: int, *, clients: int) -> Curve:
    """Scheme I, K clients drawn by p with replacement, averaged: Theorem 1 with B + 4/K E^2 G^2.

    Args:
        constants: as in `theorem1`, and li_G_sq.
        schedule: as in `theorem1`.
        local_steps: E.
        horizon: T.
        clients: K.

    Returns:
        The bound after each round.

    Raises:
        TypeError, ValueError: as `theorem1`.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, Theorem 2.
    """
    local_steps, horizon = lengths(local_steps, horizon)
    clients = positive_int("clients", clients, remedy="the draws in a round")
    statement = Statement("Li 2020, Theorem 2 (scheme I)", GAP, "l", "S", f"{PAPER}, Theorem 2")
    return _bound(statement, constants, schedule, local_steps, horizon, 4 / clients * local_steps**2, [])


def theorem3(
    constants: Constants,
    schedule: Any,
    local_steps: int,
    horizon: int,
    *,
    clients: int,
    transformed: bool = False,
) -> Curve:
    """Scheme II, K of N clients without replacement: Theorem 1 with B + (N - K)/(N - 1) 4/K E^2 G^2.

    The weights are equal. Others are run as "transformed scheme II", on N p_k F_k with equal weights: L
    becomes nu L and mu becomes varsigma mu, with nu = N max p_k and varsigma = N min p_k. F, its optimum and
    Gamma stay.

    Args:
        constants: as in `theorem2`, of the F_k themselves, also when transformed.
        schedule: as in `theorem1`; when transformed with varsigma mu and nu L in place of mu and L.
        local_steps: E.
        horizon: T.
        clients: K <= N.
        transformed: whether the run is on N p_k F_k.

    Returns:
        The bound after each round.

    Raises:
        TypeError, ValueError: as `theorem1`.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, Theorem 3 and Section 3.3.
    Departures:
        The gradients of N p_k F_k are N p_k times those of F_k, so that sigma_k^2 is multiplied by (N p_k)^2
        and G^2 by nu^2. The paper puts sqrt(nu) sigma and sqrt(nu) G in their place, which is less, and less
        than is true for a client of weight nu / N.
    """
    local_steps, horizon = lengths(local_steps, horizon)
    clients = positive_int("clients", clients, remedy="the clients of a round")
    (p,), _ = conditions.read(constants, "p")
    count = len(p)
    label = "transformed scheme II" if transformed else "scheme II"
    statement = Statement(f"Li 2020, Theorem 3 ({label})", GAP, "l", "S", f"{PAPER}, Theorem 3")
    violated = conditions.at_most("sampled clients", "clients", clients, count, "N")
    stretch = (count * p.max(), count * p.min(), (count * p.max()) ** 2) if transformed else (1.0, 1.0, 1.0)
    if not transformed:
        violated += conditions.uniform(p)
    elif not p.min() > 0:
        violated.append(
            "positive weights: p must be > 0 for each client, got 0: the nearest legal is any above 0; leave "
            "idle clients out"
        )
    sampling = max(count - clients, 0) / max(count - 1, 1) * 4 / clients * local_steps**2
    return _bound(statement, constants, schedule, local_steps, horizon, sampling, violated, stretch)


def theorem4(constants: Constants, schedule: Any, local_steps: int, horizon: int) -> Curve:
    """There is a problem whose error stays: |w_t - w*| >= c (E - 1) eta |w*|, full batches, constant step.

    So a constant step does not converge for E > 1: local steps need step sizes that fall. How far a given
    problem ends is not this but `oracles.fedavg(..).fixed_point`, to first order `oracles.drift_bias`.

    Args:
        constants: mu, distance_sq with w_0 = 0; sigma_sq, which is 0.
        schedule: eta, constant.
        local_steps: E > 1.
        horizon: T.

    Returns:
        mu (E - 1) eta |w_0 - w*| after each round, a lower bound up to a constant; mu gives it its unit.

    Raises:
        TypeError, ValueError: as `theorem1`.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, Theorem 4.
    """
    local_steps, horizon = lengths(local_steps, horizon)
    (mu, away, sigma), told = conditions.read(constants, "mu", "distance_sq", "sigma_sq")
    eta = rates(schedule, local_steps, horizon)
    statement = Statement("Li 2020, Theorem 4", "|w_t - w*|", "w", "O", f"{PAPER}, Theorem 4", "lower")
    violated = [
        *conditions.convex(constants),
        *conditions.strongly_convex(mu),
        *conditions.constant_step(eta),
        *conditions.noiseless(sigma),
        *conditions.at_least("local steps", "local_steps", local_steps, 2, "2"),
    ]
    floor = mu * (local_steps - 1) * eta[0] * np.sqrt(away)
    return curve(statement, after_rounds(local_steps, horizon), {"floor": floor}, violated, told)

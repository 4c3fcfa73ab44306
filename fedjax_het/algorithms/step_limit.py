"""The longest step towards a model that another one is held near."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.core import Tracer

from fedjax_het.algorithms.qfedavg import first_rate
from fedjax_het.check import number
from fedjax_het.local import Gradient, Solver
from fedjax_het.typing import Array

__all__ = ["check_held", "lipschitz_of"]

SLACK = 1e-6
"""How far below the limit a step counts as there: 100 times 0.02 in single precision."""


def lipschitz_of(lipschitz: Any) -> Array | None:
    """L > 0 of every F_k, or None where it is not known.

    Raises:
        TypeError, ValueError: neither None nor a positive number.
    """
    if lipschitz is None:
        return None
    return number("lipschitz", lipschitz, above=0, remedy="None if it is not known")


def check_held(solver: Solver, lam: Any, lipschitz: Any) -> None:
    """Refuse local steps on F_k(v) + lambda/2 |v - w|^2 that are known to diverge.

    Along a slope of curvature h, steps of rate eta and momentum rho settle for eta h < 2 (1 + rho) only. A
    convex F_k has h >= lambda; with L, h may be lambda + L. A schedule counts with its first rate, numbers that
    are not known before the run and optax transformations are not checked.

    Args:
        solver: the local steps.
        lam: lambda >= 0, an array.
        lipschitz: L, or None.

    Raises:
        ValueError: eta (lambda + L) >= 2 (1 + rho), L = 0 if not given; the message says what to use.
    """
    if not isinstance(solver.rule, Gradient):
        return
    rho = 0.0 if solver.rule.momentum is None else solver.rule.momentum
    given = (first_rate(solver), rho, lam, 0.0 if lipschitz is None else lipschitz)
    if any(isinstance(value, Tracer) for value in given):
        return
    eta, rho, lam, steep = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in given))
    used = eta * (lam + steep) / (2 * (1 + rho))
    if np.all(used < 1 - SLACK):
        return
    worst = np.unravel_index(np.argmax(used), used.shape)
    eta, rho, lam, steep = (float(value[worst]) for value in (eta, rho, lam, steep))
    limit, less = 2 * (1 + rho), "" if lipschitz is None else " - lipschitz"
    most = 2 / eta - steep  # within it momentum that begins anew every round settles too
    remedy = (f"a lam < {most:.4g}, or " if most > 0 else "") + f"a learning_rate < {2 / (lam + steep):.4g}"
    bound, rate = limit / eta - steep, limit / (lam + steep)
    must, got = f"lam must be < {limit:.4g} / eta{less} = {bound:.4g} for this solver", lam
    if bound <= 0:  # no lambda settles
        must, got = f"learning_rate must be < {limit:.4g} / (lam + lipschitz) = {rate:.4g}", eta
    raise ValueError(
        f"{must}, got {got:.4g}: local steps would jump past the model that they are held near, farther each "
        f"time; take {remedy}"
    )

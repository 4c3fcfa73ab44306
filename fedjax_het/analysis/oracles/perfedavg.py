"""Per-FedAvg: FedAvg on what clients' functions become once each has made a step of its own."""

from __future__ import annotations

from typing import Any

from fedjax_het.analysis.oracles.affine import Affine
from fedjax_het.analysis.oracles.averages import filtered, shares
from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import preconditioned, spectral, work
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.check import known, number
from fedjax_het.typing import Array

__all__ = ["VARIANTS", "perfedavg"]

VARIANTS = {"exact": 2, "hf": 2, "fo": 1}
"""How many factors I - alpha A_k a local gradient has: of the step before it, and of its derivative."""


@double
def perfedavg(
    functions: Quadratics,
    *,
    alpha: Any,
    learning_rate: Any,
    steps: Any = None,
    variant: str = "exact",
    server_learning_rate: Any = 1.0,
    present: Any = None,
) -> Affine:
    """A round of Per-FedAvg with full batches: FedAvg on F_k(w - alpha grad F_k(w)).

    grad F_k at w - alpha grad F_k(w) is (I - alpha A_k) grad F_k(w), and the derivative of that step is one
    more such factor. So a local step is y <- y - beta P_k grad F_k(y) with P_k = (I - alpha A_k)^2, or
    I - alpha A_k where the derivative is left out. Difference quotients of quadratics are exact, so that the
    Hessian-free variant is the exact one. With one local step the limit is the minimum of F with p_k P_k in
    place of p_k.

    Args:
        functions: the clients'; equal p are the paper's method.
        alpha: >= 0, the rate of a client's own step; 0 is FedAvg.
        learning_rate: beta > 0, or one rate a local step [J].
        steps: >= 0, equal or one for each client [N]; J if None.
        variant: "exact", "fo" (first order) or "hf" (Hessian-free).
        server_learning_rate: eta_g > 0.
        present: who takes part, bool [N]; everyone if None.

    Returns:
        The map of w [d].

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape; an unknown variant.

    Reference:
        Fallah, Mokhtari, Ozdaglar, NeurIPS 2020, Algorithm 1.
    """
    known("variant", variant, VARIANTS)
    omega, _ = shares(functions, present)
    alpha = number("alpha", alpha, least=0, remedy="0 is FedAvg")
    done = work(functions.count, learning_rate, steps)

    def local(values: Array) -> Array:
        return preconditioned(values, (1 - alpha * values) ** VARIANTS[variant], done)

    return filtered(functions, spectral(functions.A, local), omega, server_learning_rate)

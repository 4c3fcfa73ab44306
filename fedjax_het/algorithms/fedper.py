"""FedPer: a common body, and a head of each client's own, trained jointly."""

from __future__ import annotations

from fedjax_het.algorithms.partial import Partial, partial
from fedjax_het.algorithms.parts import check_parts
from fedjax_het.local import Optax, Solver
from fedjax_het.models import selectors
from fedjax_het.models.selectors import Selector
from fedjax_het.problem import Problem

__all__ = ["fedper"]


def fedper(
    problem: Problem,
    solver: Solver,
    *,
    personal: Selector | None = None,
    server: Optax | None = None,
) -> Partial:
    """FedPer: (u, v_k) <- joint local work on F_k;  u <- u + sum_k omega_k (u_k - u);  v_k stays.

    A newcomer trains a fresh head on its rows for as long as a member does in a round, the body held.

    Args:
        problem: what to learn.
        solver: local work.
        personal: path -> whether the leaf is personal, such as `fh.models.selectors.head(problem)` (the
            default: the paper's last layer). Function objects are static; selectors compare by value.
        server: the server's optimiser; default: u + mean update.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: the selector takes no leaf or every leaf; the problem does not say which its head is.

    Reference:
        Arivazhagan, Aggarwal, Singh, Choudhary, arXiv 1912.00818, 2019, Algorithms 1 and 2.

    Departures:
        All heads begin alike, as in every other method; the paper's clients draw their own. Newcomers are not
        in the paper.
    """
    check_parts(problem, solver)
    personal = selectors.head(problem) if personal is None else personal
    return partial(problem, solver, personal=personal, newcomer=solver, server=server)

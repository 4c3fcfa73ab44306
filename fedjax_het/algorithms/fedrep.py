"""FedRep: each client fits its head to the common body first, then the body to its head."""

from __future__ import annotations

import dataclasses
from typing import Any

from fedjax_het.algorithms.partial import Partial, partial
from fedjax_het.algorithms.parts import check_parts
from fedjax_het.check import whole
from fedjax_het.local import Optax, Solver
from fedjax_het.models import selectors
from fedjax_het.models.selectors import Selector
from fedjax_het.problem import Problem
from fedjax_het.typing import Array

__all__ = ["fedrep"]


def _epochs(solver: Solver, amount: Array) -> Solver:
    """The solver, for so many passes over the rows."""
    return dataclasses.replace(solver, plan=dataclasses.replace(solver.plan, amount=amount, unit="epochs"))


def fedrep(
    problem: Problem,
    solver: Solver,
    *,
    personal: Selector | None = None,
    head_epochs: Any = 10,
    body_epochs: Any = 1,
    final_epochs: Any = 10,
    server: Optax | None = None,
) -> Partial:
    """FedRep: v_k <- head_epochs of F_k(u, .) from v_k;  u_k <- body_epochs of F_k(., v_k) from u.

    The server averages, u <- sum_k omega_k u_k, and heads stay. Before a client's model is used, its head is
    tuned to the body as it is now for `final_epochs`; nothing of that is kept. A newcomer's is tuned in the
    same way, from a fresh head. Momentum, schedules and the order of rows begin anew in each of the two
    passes; the held part is not moved by momentum or a ridge term.

    Args:
        problem: what to learn.
        solver: the step rule and the batches; how long it works is said here.
        personal: path -> whether the leaf is personal; default: the head.
        head_epochs: passes over the rows for the head, >= 1, an int32 leaf like the two below.
        body_epochs: passes for the body, >= 1.
        final_epochs: passes for the head before its model is used, >= 0; with 0 newcomers have a fresh head.
        server: the server's optimiser; default: u + mean update.

    Raises:
        TypeError, ValueError: a number of epochs that is not whole, or too small.
        ValueError: the selector takes no leaf or every leaf; the problem does not say which its head is.

    Reference:
        Collins, Hassani, Mokhtari, Shakkottai, ICML 2021, Algorithm 1. Epochs are those of the authors' code.

    Departures:
        Weights are n_k over the cohort, as in that code; the paper's are uniform. It counts 11 local epochs of
        which the last is the body's: here 10 and 1. It has one optimiser for both passes, so momentum of the
        head can move it while the body is trained; here each pass has its own. It tunes all heads in one more
        round after the last; here whenever a model is used, so that every evaluation is made like its last
        one. Its weight decay (1e-4, on weights alone) is the problem's or the solver's matter.
    """
    check_parts(problem, solver)
    personal = selectors.head(problem) if personal is None else personal
    remedy = "the authors' code has 10 for the head and 1 for the body"
    return partial(
        problem,
        _epochs(solver, whole("body_epochs", body_epochs, remedy=remedy)),
        personal=personal,
        own=_epochs(solver, whole("head_epochs", head_epochs, remedy=remedy)),
        final=_epochs(solver, whole("final_epochs", final_epochs, least=0, remedy="0 uses heads as they are")),
        server=server,
    )

"""What a method is made of, checked where it is made."""

from __future__ import annotations

from typing import Any

import optax

from fedjax_het import tree
from fedjax_het.local import Optax, Solver, optimizer
from fedjax_het.problem import Problem
from fedjax_het.typing import Array, PyTree
from fedjax_het.weighting import proportional, uniform

__all__ = ["WEIGHTS", "averaged", "averaging", "check_parts"]

WEIGHTS = {"uniform": uniform, "proportional": proportional}
"""The weightings that an algorithm's `weights` may name."""


def check_parts(problem: Any, solver: Any) -> None:
    """Raise `TypeError` unless they are a Problem and a Solver, in this order."""
    if isinstance(problem, Solver) and isinstance(solver, Problem):
        raise TypeError("problem must come before solver, got them the other way round: swap the two arguments")
    if not isinstance(problem, Problem):
        raise TypeError(
            f"problem must be a Problem, got {type(problem).__name__}: make one with fh.models, "
            "such as fh.models.softmax(pool)"
        )
    if not isinstance(solver, Solver):
        raise TypeError(
            f"solver must be a Solver, got {type(solver).__name__}: make one with fh.local.sgd or "
            "fh.local.from_optax"
        )


def averaging(server: Any) -> Optax:
    """The server's optimiser, by default the step that adds the mean update as it is.

    Raises:
        TypeError: neither None nor made by `fh.local.optimizer`.
    """
    if server is None:
        return optimizer(optax.sgd, learning_rate=1.0)
    if not isinstance(server, Optax):
        raise TypeError(
            f"server must be made by fh.local.optimizer, got {type(server).__name__}: pass "
            "fh.local.optimizer(optax.adam, learning_rate=0.01)"
        )
    return server


def averaged(total: PyTree, weight: Array, before: PyTree) -> PyTree:
    """total / weight, or what was there before where nobody who took part weighs anything."""
    return tree.where(weight > 0, tree.divide(total, weight), before)

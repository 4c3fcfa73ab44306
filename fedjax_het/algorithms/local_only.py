"""Local training: every client on its own, the baseline that a federation has to beat."""

from __future__ import annotations

from fedjax_het.algorithms.partial import Partial
from fedjax_het.algorithms.parts import averaging, check_parts
from fedjax_het.local import Solver
from fedjax_het.problem import Problem
from fedjax_het.weighting import proportional

__all__ = ["local_only"]


def _everything(path: str) -> bool:
    return True


def local_only(problem: Problem, solver: Solver) -> Partial:
    """v_k <- local work on F_k from v_k, in the rounds that draw the client; nothing is sent.

    Args:
        problem: what to learn.
        solver: local work.

    Raises:
        TypeError: an argument of the wrong kind.
    """
    check_parts(problem, solver)
    return Partial(problem, solver, averaging(None), proportional(), _everything)

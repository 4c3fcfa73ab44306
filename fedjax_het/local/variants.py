"""The same solver, another way: as a static loop, watched, inexact, or with its schedules begun anew."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from fedjax_het.check import number, positive_int
from fedjax_het.local.schedules import Schedule
from fedjax_het.local.solver import Probe, Solver

__all__ = ["inexact", "restarted", "scanned", "traced"]


def scanned(solver: Solver, most: int) -> Solver:
    """The same solver as a static loop of `most` steps, bit for bit, which reverse mode can differentiate.

    Args:
        solver: any.
        most: at least the steps of the client with the most work. A client with more reports a loss of NaN,
            which stops the run by name.

    Raises:
        TypeError, ValueError: `most` is not a whole number of at least 1.
    """
    most = positive_int("most", most, remedy="give the steps of the client with the most work")
    return dataclasses.replace(solver, plan=dataclasses.replace(solver.plan, most=most))


def traced(solver: Solver, probe: Probe, room: int) -> Solver:
    """The same solver, recording `probe` at each of its first `room` local steps.

    Raises:
        TypeError, ValueError: `room` is not a whole number of at least 1.
    """
    room = positive_int("room", room, remedy="give the number of local steps to record")
    return dataclasses.replace(solver, probe=probe, room=room)


def inexact(solver: Solver, gamma: Any) -> Solver:
    """The same solver, which stops once |grad h(y)| <= gamma |grad h(w)|: a gamma-inexact solution.

    h is the objective over all of the client's rows, terms such as FedProx's included; w is the start. The
    question is put after every epoch, which costs one more pass over the rows each time, and the plan is the
    most that is done: a client whose plan ends first is as exact as it came. Where an objective draws
    (dropout), h has the same draws every time.

    Args:
        solver: any.
        gamma: in [0, 1), a leaf; 0 does the whole plan unless the gradient vanishes.

    Raises:
        TypeError, ValueError: gamma is not a number in [0, 1).

    Reference:
        Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, MLSys 2020, Definitions 1 and 2.
    """
    gamma = number("gamma", gamma, least=0, below=1, remedy="0 is exact, near 1 is hardly any work")
    return dataclasses.replace(solver, gamma=gamma)


def restarted(solver: Solver) -> Solver:
    """The same solver, whose schedules over the run's steps begin anew every round."""

    def anew(leaf: Any) -> Any:
        over_steps = isinstance(leaf, Schedule) and leaf.unit == "step"
        return dataclasses.replace(leaf, unit="local") if over_steps else leaf

    rule = jax.tree.map(anew, solver.rule, is_leaf=lambda leaf: isinstance(leaf, Schedule))
    return dataclasses.replace(solver, rule=rule)

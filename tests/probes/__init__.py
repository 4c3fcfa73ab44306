"""Probes: algorithms, samplers, weightings and hooks that ask of the engine what later methods will.

None of them is part of the package and none needs a change in `fedjax_het.engine`. `PROBES` lists them by name
in a form that a suite can run without knowing any of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

__all__ = ["PROBES", "Case"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One probe, ready to run. Every field that makes something is a function, called anew under the precision
    in force, so that the table holds no arrays; None means the caller's default.

    Attributes:
        build: (problem, solver) -> algorithm.
        federation: () -> Federation, of classification unless `problem` is given too.
        problem: federation -> Problem; the caller's default must be of classification.
        sampler: cohort size -> sampler; the size is the number of slots unless the sampler says otherwise.
        weighting: number of clients -> weighting that replaces the algorithm's own.
        hook: () -> upload hook.
        full_participation: the method is defined only when every client takes part in every round; `sampler`
            is None then, and cohorts smaller than N, absent slots and "drop" do not apply.
        capacity_in_state: client states have an axis of the federation's capacity, so states of a federation
            padded to another capacity are compared on the rows that exist.
        joins: whether `join` serves unseen clients; if not it raises ValueError with the reason.
        learns: whether some rounds at sensible rates lower the training loss of a convex problem.
        notes: what the probe asks of the contract.
    """

    build: Callable[[Any, Any], Any]
    federation: Callable[[], Any] | None = None
    problem: Callable[[Any], Any] | None = None
    sampler: Callable[[int], Any] | None = None
    weighting: Callable[[int], Any] | None = None
    hook: Callable[[], Any] | None = None
    full_participation: bool = False
    capacity_in_state: bool = False
    joins: bool = True
    learns: bool = True
    notes: str = ""


PROBES: dict[str, Case] = {}

"""ALGORITHMS: every method by name. A new one is one file and one line here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from fedjax_het.algorithms.fedavg import fedavg
from fedjax_het.algorithms.fedper import fedper
from fedjax_het.algorithms.fedprox import fedprox
from fedjax_het.algorithms.ifca import ifca
from fedjax_het.algorithms.local_only import local_only
from fedjax_het.algorithms.scaffold import scaffold
from fedjax_het.check import known

__all__ = ["ALGORITHMS", "Entry", "make"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One method.

    Attributes:
        factory: (problem, solver, *, ...) -> algorithm.
        family: "global", "personal", "clustered", "multi-task" or "baseline".
        learns: what it learns.
        state: what a client keeps from one round to its next.
        cost: what a client sends a round, and what it receives if that differs (d: parameters, K: clusters).
        work: what a client computes in a round of E epochs (a pass: gradients of all its rows; F: a forward
            pass).
        best_for: where to reach for it.
        paper: authors and year.
        grid: what tuning tries of the method's own: (keyword argument, values) each. Only numbers that are
            leaves; what fixes a shape makes another method.
        everyone: whether the method is defined only when every client takes part in every round.
    """

    factory: Callable[..., Any]
    family: str
    learns: str
    state: str
    cost: str
    work: str
    best_for: str
    paper: str
    grid: tuple[tuple[str, tuple[float, ...]], ...] = ()
    everyone: bool = False


ALGORITHMS: dict[str, Entry] = {
    "fedavg": Entry(
        fedavg, "global", "one model", "nothing", "d", "E passes", "the reference", "McMahan et al. 2017"
    ),
    "fedprox": Entry(
        fedprox,
        "global",
        "one model",
        "nothing",
        "d",
        "E passes",
        "uneven local work",
        "Li et al. 2020",
        (("mu", (0.1, 1.0)),),
    ),
    "scaffold": Entry(
        scaffold, "global", "one model", "d (control)", "2d", "E passes", "drift", "Karimireddy et al. 2020"
    ),
    "ifca": Entry(
        ifca,
        "clustered",
        "K models",
        "its cluster",
        "d (K d down)",
        "E passes + K F",
        "concept clusters",
        "Ghosh et al. 2020",
    ),
    "fedper": Entry(
        fedper,
        "personal",
        "body + own heads",
        "head",
        "body",
        "E passes",
        "label skew",
        "Arivazhagan et al. 2019",
    ),
    "local_only": Entry(
        local_only, "baseline", "N models", "d", "nothing", "E passes", "much data per client", "-"
    ),
}


def make(name: str, problem: Any, solver: Any, **numbers: Any) -> Any:
    """The algorithm called `name`.

    Args:
        name: a key of `ALGORITHMS`.
        problem: what to learn.
        solver: local work.
        numbers: the factory's keyword arguments.

    Raises:
        ValueError: no method of this name; the nearest one is suggested.
    """
    known("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name].factory(problem, solver, **numbers)

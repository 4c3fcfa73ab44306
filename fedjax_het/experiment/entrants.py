"""Entrants: the methods of a run or a comparison, built, and those that do not fit it told apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from fedjax_het.engine import sampling
from fedjax_het.experiment.central import check_central
from fedjax_het.experiment.choices import CENTRALISED
from fedjax_het.experiment.config import Config, ConfigError
from fedjax_het.experiment.fitting import check_cohorts, demands_everyone
from fedjax_het.experiment.making import agree, as_written, begun, made
from fedjax_het.experiment.pace import unfailing
from fedjax_het.experiment.values import Choice, make
from fedjax_het.federation import Federation
from fedjax_het.local import Solver
from fedjax_het.problem import Problem

__all__ = ["Entrant", "drawn", "fitting", "gathered"]


@dataclasses.dataclass(frozen=True)
class Entrant:
    """One method, ready to run.

    Attributes:
        label: its name in tables.
        choice: the algorithm's name and options.
        problem: what to learn.
        solver: its local work.
        algorithm: built from the three.
    """

    label: str
    choice: Choice
    problem: Problem
    solver: Solver
    algorithm: Any

    @property
    def centralised(self) -> bool:
        """Whether it runs on the pooled data."""
        return self.choice.name == CENTRALISED

    @property
    def everyone(self) -> bool:
        """Whether the method is defined only when every client takes part in every round."""
        return demands_everyone(self.choice)

    def rebuilt(self, solver: Solver) -> Any:
        """The algorithm with another solver."""
        return make("method", self.choice, {"problem": self.problem, "solver": solver})


def drawn(entrant: Entrant, sampler: Any, many: int) -> Any:
    """Who takes part when a method runs: whom `sampler` draws, or all where the method demands it."""
    few = entrant.everyone and not unfailing(sampler, many)
    return sampling.everyone() if few or entrant.centralised else sampler


def fitting(
    labels: Sequence[str], config: Config, make: Callable[[str], Entrant]
) -> tuple[dict[str, Entrant], dict[str, str]]:
    """(label -> method; label -> why it was left out).

    Args:
        labels: in order.
        config: whose `optional` are left out where they cannot be made.
        make: label -> method.

    Raises:
        ConfigError: another method cannot be made; nothing is left.
    """
    entrants, left_out = {}, {}
    for label in labels:
        try:
            entrants[label] = make(label)
        except (TypeError, ValueError) as error:
            if label not in config.optional:
                raise
            cause = error.__cause__ if isinstance(error, ConfigError) else None
            left_out[label] = as_written(cause if isinstance(cause, Exception) else error)
    if not entrants:
        told = "; ".join(f"{label}: {reason}" for label, reason in left_out.items())
        raise ConfigError(f"compare must hold a method that fits the study, got none: {told}", "compare")
    return entrants, left_out


def gathered(
    config: Config,
    labels: Sequence[str],
    problem: Problem,
    solver: Solver,
    federation: Federation,
    sampler: Any,
) -> tuple[dict[str, Entrant], dict[str, str]]:
    """The methods of a comparison and those that are left out, see `fitting`; none has computed anything.

    Raises:
        ConfigError: a label that the configuration does not have; a method that refuses its options, the model
            or the clients.
    """
    named = dict.fromkeys(labels)
    for label in named:
        if label not in config.methods:
            raise ConfigError(f"labels must be methods of the configuration, got {label!r}", "compare")

    def one(label: str) -> Entrant:
        method, key = config.methods[label], f"methods.{label}"
        told = f"{label} does not fit the clients"
        if method.algorithm.name == CENTRALISED:
            agree(("compare", "shifts"), told, check_central, federation)
        own = solver if method.local is None else made("local", method.local, f"{key}.local")
        algorithm = made("method", method.algorithm, key, problem=problem, solver=own)
        entrant = Entrant(label, method.algorithm, problem, own, algorithm)
        if not entrant.centralised:
            places = drawn(entrant, sampler, federation.num_clients)
            begun((key, "compare"), method.algorithm, told, check_cohorts, algorithm, federation, places, None)
        return entrant

    return fitting(list(named), config, one)

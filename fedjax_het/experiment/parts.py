"""A study of parts made in Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from fedjax_het.check import positive_int
from fedjax_het.engine import sampling
from fedjax_het.experiment.build import Entrant, Study, around
from fedjax_het.experiment.config import Config
from fedjax_het.experiment.values import Choice
from fedjax_het.federation import Federation
from fedjax_het.local import Solver
from fedjax_het.problem import Problem

__all__ = ["study_of"]


def study_of(
    methods: Sequence[str],
    *,
    federation: Federation,
    problem: Problem,
    solver: Solver,
    rounds: int = 100,
    cohort: int = 10,
    seeds: int = 3,
    **more: Any,
) -> Study:
    """A study of parts made in Python.

    Args:
        methods: keys of `ALGORITHMS`, or "centralised".
        federation: whom to train.
        problem: what to learn.
        solver: local work of every method.
        rounds: of every method.
        cohort: clients of a round, drawn uniformly.
        seeds: runs of every method, seeds 0, 1, ...
        more: other fields of `Config`, which say nothing of these parts: `every`, `measures`, `executor`,
            `weighting`, `evaluation`, `checkpoint`, `tuning`.

    Raises:
        ConfigError: an unknown method; numbers out of range.
    """
    seeds = positive_int("seeds", seeds, remedy="every method runs at least once")
    rounds = positive_int("rounds", rounds, remedy="a run has at least one")
    fields = {"every": max(1, rounds // 10), **more}
    uniform = Choice("uniform", {"size": cohort})
    config = Config(
        rounds=rounds, seeds=tuple(range(seeds)), compare=tuple(methods), sampling=uniform, **fields
    )
    sampler = sampling.uniform(cohort)
    sampler.init(federation.num_clients)
    entrants = {}
    for label in config.compare:
        choice = config.methods[label].algorithm
        bare = Entrant(label, choice, problem, solver, None)
        entrants[label] = dataclasses.replace(bare, algorithm=bare.rebuilt(solver))
    rest = around(config, federation, problem)
    return Study(config, federation, problem, solver, sampler, **rest, entrants=entrants, given=True)

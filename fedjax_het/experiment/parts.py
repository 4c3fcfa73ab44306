"""A study of parts made in Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from fedjax_het.check import positive_int
from fedjax_het.engine import sampling
from fedjax_het.experiment.build import Study, around
from fedjax_het.experiment.config import Config
from fedjax_het.experiment.entrants import Entrant, drawn, fitting
from fedjax_het.experiment.fitting import check_cohorts
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
        methods: keys of `ALGORITHMS`, families such as "all-personal", or "centralised". A method that a
            family brought and that does not fit the parts is left out, see `Study.left_out`.
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
        TypeError, ValueError: a method that was named does not fit the parts.
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

    def entrant(label: str) -> Entrant:
        bare = Entrant(label, config.methods[label].algorithm, problem, solver, None)
        made = dataclasses.replace(bare, algorithm=bare.rebuilt(solver))
        if not made.centralised:
            places = drawn(made, sampler, federation.num_clients)
            check_cohorts(made.algorithm, federation, places, None)
        return made

    entrants, left_out = fitting(config.compare, config, entrant)
    rest = around(config, federation, problem)
    return Study(
        config, federation, problem, solver, sampler, **rest, entrants=entrants, given=True, left_out=left_out
    )

"""build: from a Config to the records that a run is made of, before anything is compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_het.engine.fit import check_fit
from fedjax_het.engine.scoring import check_metrics
from fedjax_het.experiment.choices import CHOICES
from fedjax_het.experiment.config import Config, ConfigError
from fedjax_het.experiment.entrants import Entrant, drawn, gathered
from fedjax_het.experiment.fitting import check_cohorts, check_everyone, check_listed, check_rows
from fedjax_het.experiment.making import agree, begun, made
from fedjax_het.experiment.shifts import shifted
from fedjax_het.experiment.values import Choice
from fedjax_het.federation import Federation
from fedjax_het.local import Solver
from fedjax_het.metrics import row_means
from fedjax_het.pool import Pool
from fedjax_het.problem import Problem

__all__ = ["Entrant", "Study", "around", "build", "federation_of"]


@dataclasses.dataclass(frozen=True)
class Study:
    """The parts of a configuration.

    Attributes:
        config: what they were built from.
        federation: the clients and their rows.
        problem: what to learn.
        solver: local work, for entrants without their own.
        sampler: who takes part.
        executor: how clients are mapped.
        weighting: None for the algorithm's own.
        measures: name -> Measure.
        metrics: of evaluations; None for those usual for the task.
        entrants: label -> method.
        given: whether parts were given in Python, of which the configuration says nothing.
        left_out: label -> why a method does not fit the study; only of those that `config.optional` names.
    """

    config: Config
    federation: Federation
    problem: Problem
    solver: Solver
    sampler: Any
    executor: Any
    weighting: Any
    measures: dict[str, Any]
    metrics: tuple[Any, ...] | None
    entrants: dict[str, Entrant]
    given: bool = False
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """What is evaluated: the configuration's split, and validation rows where there are some."""
        main = self.config.evaluation.split
        valid = main != "valid" and bool(np.any(np.asarray(self.federation.valid.size) > 0))
        return (main, "valid") if valid else (main,)

    def sampler_of(self, entrant: Entrant) -> Any:
        """Who takes part when a method runs: whom the study draws, or all where the method demands it."""
        return drawn(entrant, self.sampler, self.federation.num_clients)


def build(config: Config, labels: Sequence[str] | None = None) -> Study:
    """Build every part and check that they fit.

    Args:
        config: complete, as every Config is.
        labels: methods to build, keys of `config.methods`; None for the single run's `config.algorithm`, under
            its name.

    Raises:
        ConfigError: a part refuses its options, or parts do not fit each other. The message has the file and
            line or the override, and what the library says.
    """
    try:
        return _build(config, labels)
    except ConfigError as error:
        raise error.at(config.source) from error.__cause__


def federation_of(config: Config) -> Federation:
    """The clients and their rows alone, shifts applied.

    Raises:
        ConfigError: see `build`.
    """
    try:
        return shifted(_unshifted(config), config.shifts)
    except ConfigError as error:
        raise error.at(config.source) from error.__cause__


def _unshifted(config: Config) -> Federation:
    data = made("data", config.data)
    if isinstance(data, Pool):
        return _dealt(config, data)
    if config.clients is not None:
        raise ConfigError(
            f"clients must be left out, got {config.clients.name!r}: data {config.data.name!r} hold a "
            "federation, whose rows are dealt out",
            "clients",
            "data",
        )
    return data


def _build(config: Config, labels: Sequence[str] | None) -> Study:
    federation = shifted(_unshifted(config), config.shifts)
    problem = made("model", config.model, pool=federation.pool)
    agree(("model", "data"), "model and data do not fit", check_fit, problem, federation)
    sampler = made("sampling", config.sampling, federation=federation)
    counts = ("clients.clients",) if config.clients is not None else ("data.clients", "data")
    usual = CHOICES["sampling"][config.sampling.name].options
    said = [
        f"sampling.{name}" for name, value in config.sampling.options.items() if value != usual[name].default
    ]
    keys = [*(said or ["sampling"]), *counts]
    told = f"sampling {config.sampling.name!r} does not fit {federation.num_clients} clients"
    agree(keys, told, sampler.init, federation.num_clients)
    if labels is None:
        check_everyone(config, sampler, federation)
    check_rows(config, federation)
    solver = made("local", config.local)
    if labels is None:
        algorithm = made("algorithm", config.algorithm, problem=problem, solver=solver)
        name = config.algorithm.name
        told = f"{name} does not fit the clients"
        begun(("algorithm",), config.algorithm, told, check_cohorts, algorithm, federation, sampler, None)
        entrants, left_out = {name: Entrant(name, config.algorithm, problem, solver, algorithm)}, {}
    else:
        entrants, left_out = gathered(config, labels, problem, solver, federation, sampler)
    rest = around(config, federation, problem)
    study = Study(config, federation, problem, solver, sampler, **rest, entrants=entrants, left_out=left_out)
    keys, told = ("weighting", "sampling"), "weighting and cohorts do not fit"
    for entrant in entrants.values() if study.weighting is not None else ():
        if not entrant.centralised:
            drawn = study.sampler_of(entrant)
            agree(keys, told, check_cohorts, entrant.algorithm, federation, drawn, study.weighting)
    return study


def around(config: Config, federation: Federation, problem: Problem) -> dict[str, Any]:
    """What a Study has beside clients, model, work and methods: executor, weighting, measures, metrics.

    Raises:
        ConfigError: see `build`.
    """
    names = config.evaluation.metrics
    chosen = None if names is None else tuple(made("metric", Choice(name)) for name in names)
    keys, told = ("evaluation.metrics", "data"), "metrics and data do not fit"
    agree(keys, told, check_metrics, chosen, federation)
    check_listed(config.weighting, "weighting", federation.num_clients)
    return {
        "executor": made("executor", config.executor),
        "weighting": made("weighting", config.weighting, federation=federation),
        "measures": {name: made("measure", Choice(name)) for name in config.measures},
        "metrics": None if chosen is None else (row_means(problem.metrics), *chosen),
    }


def _dealt(config: Config, pool: Pool) -> Federation:
    if config.clients is None:
        raise ConfigError(
            f"clients must say how the rows are dealt out, got none: data {config.data.name!r} hold a pool; "
            f"name one of {', '.join(CHOICES['clients'])}",
            "clients",
            "data",
        )
    return made("clients", config.clients, pool=pool, source=pool)

"""build: from a Config to the records that a run is made of, before anything is compiled."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.engine import sampling
from fedjax_het.engine.fit import check_fit
from fedjax_het.engine.scoring import check_metrics
from fedjax_het.experiment.central import check_central
from fedjax_het.experiment.choices import CENTRALISED, CHOICES
from fedjax_het.experiment.config import Config, ConfigError
from fedjax_het.experiment.fitting import check_cohorts, check_everyone, check_listed, check_rows
from fedjax_het.experiment.pace import unfailing
from fedjax_het.experiment.shifts import shifted
from fedjax_het.experiment.values import NONE, Choice, make
from fedjax_het.federation import Federation
from fedjax_het.local import Solver
from fedjax_het.metrics import row_means
from fedjax_het.pool import Pool
from fedjax_het.problem import Problem

__all__ = ["Entrant", "Study", "around", "build", "federation_of"]


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
        return not self.centralised and ALGORITHMS[self.choice.name].everyone

    def rebuilt(self, solver: Solver) -> Any:
        """The algorithm with another solver."""
        return make("method", self.choice, {"problem": self.problem, "solver": solver})


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

    @property
    def splits(self) -> tuple[str, ...]:
        """What is evaluated: the configuration's split, and validation rows where there are some."""
        main = self.config.evaluation.split
        valid = main != "valid" and bool(np.any(np.asarray(self.federation.valid.size) > 0))
        return (main, "valid") if valid else (main,)

    def sampler_of(self, entrant: Entrant) -> Any:
        """Who takes part when a method runs: whom the study draws, or all where the method demands it."""
        few = entrant.everyone and not unfailing(self.sampler, self.federation.num_clients)
        return sampling.everyone() if few or entrant.centralised else self.sampler


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
    data = _made("data", config.data)
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
    problem = _made("model", config.model, pool=federation.pool)
    _agree(("model", "data"), "model and data do not fit", check_fit, problem, federation)
    sampler = _made("sampling", config.sampling, federation=federation)
    counts = ("clients.clients",) if config.clients is not None else ("data.clients", "data")
    usual = CHOICES["sampling"][config.sampling.name].options
    said = [
        f"sampling.{name}" for name, value in config.sampling.options.items() if value != usual[name].default
    ]
    keys = [*(said or ["sampling"]), *counts]
    told = f"sampling {config.sampling.name!r} does not fit {federation.num_clients} clients"
    _agree(keys, told, sampler.init, federation.num_clients)
    if labels is None:
        check_everyone(config, sampler, federation)
    check_rows(config, federation)
    solver = _made("local", config.local)
    entrants = _entrants(config, labels, problem, solver, federation)
    study = Study(
        config, federation, problem, solver, sampler, **around(config, federation, problem), entrants=entrants
    )
    keys, told = ("weighting", "sampling"), "weighting and cohorts do not fit"
    for entrant in entrants.values() if study.weighting is not None else ():
        if not entrant.centralised:
            drawn = study.sampler_of(entrant)
            _agree(keys, told, check_cohorts, entrant.algorithm, federation, drawn, study.weighting)
    return study


def around(config: Config, federation: Federation, problem: Problem) -> dict[str, Any]:
    """What a Study has beside clients, model, work and methods: executor, weighting, measures, metrics.

    Raises:
        ConfigError: see `build`.
    """
    names = config.evaluation.metrics
    chosen = None if names is None else tuple(_made("metric", Choice(name)) for name in names)
    keys, told = ("evaluation.metrics", "data"), "metrics and data do not fit"
    _agree(keys, told, check_metrics, chosen, federation)
    check_listed(config.weighting, "weighting", federation.num_clients)
    return {
        "executor": _made("executor", config.executor),
        "weighting": _made("weighting", config.weighting, federation=federation),
        "measures": {name: _made("measure", Choice(name)) for name in config.measures},
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
    return _made("clients", config.clients, pool=pool, source=pool)


def _entrants(
    config: Config, labels: Sequence[str] | None, problem: Problem, solver: Solver, federation: Federation
) -> dict[str, Entrant]:
    if labels is None:
        algorithm = _made("algorithm", config.algorithm, problem=problem, solver=solver)
        name = config.algorithm.name
        return {name: Entrant(name, config.algorithm, problem, solver, algorithm)}
    entrants = {}
    for label in labels:
        if label not in config.methods:
            raise ConfigError(f"labels must be methods of the configuration, got {label!r}", "compare")
        method, key = config.methods[label], f"methods.{label}"
        if method.algorithm.name == CENTRALISED:
            _agree(("compare", "shifts"), f"{label} does not fit the clients", check_central, federation)
        own = solver if method.local is None else _made("local", method.local, f"{key}.local")
        algorithm = _made("method", method.algorithm, key, problem=problem, solver=own)
        entrants[label] = Entrant(label, method.algorithm, problem, own, algorithm)
    return entrants


def _agree(keys: Sequence[str], told: str, check: Any, *arguments: Any) -> None:
    try:
        check(*arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{told}: {_as_written(error)}", *keys) from error


def _made(section: str, choice: Choice, key: str | None = None, **context: Any) -> Any:
    """Call a factory; its complaint is said of the key that holds the argument."""
    key = section if key is None else key
    try:
        return make(section, choice, context)
    except (TypeError, ValueError, OSError) as error:
        word = str(error).split(" ", 1)[0]
        blamed = _holder(choice.options, word, key)
        if blamed is None:
            raise ConfigError(f"{key} = {choice.name!r} cannot be built: {_as_written(error)}", key) from error
        raise ConfigError(f"{blamed.removesuffix(word)}{_as_written(error)}", blamed) from error


def _as_written(error: Exception) -> str:
    """What the library says, in the words of a file: it has no None, and small letters in true and false."""
    words = {"None": f'"{NONE}"', "True": "true", "False": "false"}
    return re.sub(rf"\b({'|'.join(words)})\b", lambda found: words[found[0]], str(error))


def _holder(options: Mapping[str, Any], name: str, key: str) -> str | None:
    """The dotted key of the option called `name`, outermost first."""
    if name in options:
        return f"{key}.{name}"
    nested = (
        _holder(value.options, name, f"{key}.{option}")
        for option, value in options.items()
        if isinstance(value, Choice)
    )
    return next((found for found in nested if found is not None), None)

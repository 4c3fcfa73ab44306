"""Config: everything that fixes a run's result, from a TOML file, overrides or Python."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedjax_het.check import known, positive_int, positive_ints, require
from fedjax_het.experiment.choices import CENTRALISED, CHOICES, DEFAULTS
from fedjax_het.experiment.families import expanded
from fedjax_het.experiment.options import factory
from fedjax_het.experiment.overrides import override, parse
from fedjax_het.experiment.sections import (
    Checkpoint,
    Evaluation,
    Tuning,
    checkpoint,
    different,
    evaluation,
    tuning,
)
from fedjax_het.experiment.shifts import listed
from fedjax_het.experiment.source import ConfigError, Source, about, nearest, read
from fedjax_het.experiment.toml import dump
from fedjax_het.experiment.values import NONE, Choice, complete, convert, plain, table_of
from fedjax_het.federation import Federation
from fedjax_het.pool import Pool

__all__ = ["Checkpoint", "Choice", "Config", "ConfigError", "Evaluation", "Method", "Tuning", "to_toml"]

NAME = re.compile(r"[^\W_.-][\w .+=,-]*")
"""Names that are folders on every system."""

LABEL = re.compile(r"[^\W_][\w-]*")
"""Names of methods, which stand in dotted keys."""

COMPARED = ("fedavg", "fedprox", "scaffold", "ifca", "fedper", "local_only", CENTRALISED)
"""What `compare` runs unless told otherwise."""


@dataclasses.dataclass(frozen=True)
class Method:
    """One line of a comparison.

    Attributes:
        algorithm: of the section "method": an algorithm, or centralised training.
        local: its local work where that differs from the configuration's.
    """

    algorithm: Choice
    local: Choice | None = None


@dataclasses.dataclass(frozen=True)
class Config:
    """A run or a comparison. Whatever is left out is filled in when it is made, so a Config is always complete.

    Attributes:
        name: of the run, and of its folder.
        rounds: of every method.
        seeds: one run each.
        every: rounds between evaluations.
        measures: names of the section "measure".
        compare: the methods of a comparison, labels of `methods` or names of algorithms; "all-global" stands
            for every algorithm of the family "global" and is replaced by their names, see `families.brought`.
        optional: methods of `compare` that are left out, and why is told, where they do not fit the study;
            others are refused. Those that a family brought and no table of `methods` configures are among them;
            names that are not compared are dropped.
        data: where the rows come from.
        clients: how they are dealt out; None for data that come with clients.
        shifts: what is done to the clients then, in order: entries of the section "shift".
        model: what is learnt.
        local: what one client does.
        algorithm: what a single run runs.
        sampling: who takes part.
        executor: how clients are mapped.
        weighting: instead of the algorithm's own.
        evaluation: how models are judged.
        checkpoint: when a run is saved.
        tuning: what is tried of every method before a comparison.
        methods: label -> the algorithm of that line with its options.
        source: where all this was read, for messages.

    Raises:
        ConfigError: an unknown name or option, a value of the wrong kind or range, parts that exclude each
            other.
    """

    name: str = "run"
    rounds: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)
    every: int = 10
    measures: tuple[str, ...] = ()
    compare: tuple[str, ...] = COMPARED
    optional: tuple[str, ...] = ()
    data: Choice = Choice(DEFAULTS["data"])
    clients: Choice | None = None
    shifts: tuple[Choice, ...] = ()
    model: Choice = Choice(DEFAULTS["model"])
    local: Choice = Choice(DEFAULTS["local"])
    algorithm: Choice = Choice(DEFAULTS["algorithm"])
    sampling: Choice = Choice(DEFAULTS["sampling"])
    executor: Choice = Choice(DEFAULTS["executor"])
    weighting: Choice = Choice(DEFAULTS["weighting"])
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    tuning: Tuning = Tuning()
    methods: Mapping[str, Method] = dataclasses.field(default_factory=dict, hash=False)
    source: Source = dataclasses.field(default=Source(), compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check and complete every part, in the order of the fields."""
        for option in _OWN.options.values():
            self._set(option.name, convert(option, getattr(self, option.name), option.name))
        given = self.methods if isinstance(self.methods, Mapping) else table_of(self.methods, "methods")
        compare, brought = expanded(self.compare, given)
        for name in self.optional:
            with about("optional"):
                known("optional", name, [*compare, *given, *CHOICES["method"]])
        optional = [*self.optional, *(name for name in brought if name not in given)]
        self._set("compare", compare)
        self._set("optional", tuple(name for name in compare if name in optional))
        _check_numbers(self)
        for section, name in DEFAULTS.items():
            if section != "clients":
                self._set(section, complete(section, getattr(self, section), section, Choice(name)))
        self._set("clients", _clients(self.data, self.clients))
        self._set("shifts", listed(self.shifts))
        self._set("evaluation", evaluation(self.evaluation))
        self._set("checkpoint", checkpoint(self.checkpoint))
        self._set("tuning", tuning(self.tuning))
        labels = dict.fromkeys((*self.compare, *given))
        self._set("methods", {label: _method(label, given, self.local) for label in labels})

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def load(cls, path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
        """Read a file and apply overrides; without either, the default study.

        Args:
            path: a TOML file.
            overrides: `key=value`, such as "algorithm=fedprox", "algorithm.mu=0.3", "seeds=[0,1]",
                "shifts.0=rotate", "shifts.0.spread=30". Values are TOML, words need no quotes. Naming another
                choice drops the options of the one in the file.

        Raises:
            ConfigError: see `Config`; the message begins with the file and line, or the override.
        """
        table, text = ({}, "") if path is None else read(path)
        changes = [parse(given) for given in overrides]
        said = tuple((key, given) for (key, _), given in zip(changes, overrides))
        source = Source("" if path is None else str(path), text, said)
        try:
            return cls.from_table(override(table, changes), source)
        except ConfigError as error:
            raise error.at(source) from error.__cause__

    @classmethod
    def from_table(cls, table: Mapping[str, Any], source: Source | None = None) -> Config:
        """The Config of a table as `resolved` returns it, with or without its defaults.

        Raises:
            ConfigError: see `Config`.
        """
        fields = [field.name for field in dataclasses.fields(cls) if field.name != "source"]
        for key in table:
            if key not in fields:
                raise ConfigError(_stray(key, fields, table), key)
        return cls(**table, source=source or Source())

    def resolved(self) -> dict[str, Any]:
        """All of it as tables, lists and values that TOML and JSON have; every default is written out."""
        table = {name: plain(getattr(self, name)) for name in _OWN.options}
        table |= {name: plain(getattr(self, name)) for name in DEFAULTS if getattr(self, name) is not None}
        table["shifts"] = plain(self.shifts)
        for name in ("evaluation", "checkpoint", "tuning"):
            record = getattr(self, name)
            table[name] = {
                field.name: plain(getattr(record, field.name)) for field in dataclasses.fields(record)
            }
        table["methods"] = {
            label: {
                **plain(method.algorithm),
                **({} if method.local is None else {"local": plain(method.local)}),
            }
            for label, method in self.methods.items()
        }
        return table


def to_toml(config: Config) -> str:
    """The resolved configuration as a file; `Config.load` of it gives an equal Config."""
    return dump(config.resolved())


_OWN = factory(Config)


def _check_numbers(config: Config) -> None:
    with about("name"):
        require(
            NAME.fullmatch(config.name) is not None,
            f"name must be usable as a folder's, got {config.name!r}: begin with a letter or digit, then "
            "letters, digits, spaces and . + = , _ -",
        )
    with about("rounds"):
        positive_int("rounds", config.rounds, remedy="a run has at least one")
    with about("every"):
        positive_int("every", config.every, remedy="it is the rounds between evaluations, such as 10")
    with about("seeds"):
        positive_ints("seeds", config.seeds, least=0, remedy="a seed is a whole number such as 0")
        different("seeds", config.seeds)
        require(
            max(config.seeds) < 2**32, f"seeds must be < 2**32, got {max(config.seeds)}: take a smaller one"
        )
    with about("measures"):
        for name in config.measures:
            known("measures", name, CHOICES["measure"])
        if config.measures:
            different("measures", config.measures)
    with about("compare"):
        different("compare", config.compare)


def _clients(data: Choice, given: Any) -> Choice | None:
    """The section "clients", or None where the data come with clients of their own."""
    returns = CHOICES["data"][data.name].returns
    kinds = typing.get_args(returns) or (returns,)
    given = NONE if isinstance(given, Mapping) and given.get("name") == NONE else given
    if Federation in kinds and (given is None or given == NONE):
        return None
    if Pool not in kinds:
        raise ConfigError(
            f"clients must be left out with data {data.name!r}, got {plain(given)!r}: these data come with "
            f"clients of their own, whose options are in [data]; write clients={NONE} to undo a file's",
            "clients",
            "data",
        )
    if given == NONE:
        raise ConfigError(
            f"clients must say how the rows of data {data.name!r} are dealt out, got {NONE!r}: one of "
            f"{', '.join(CHOICES['clients'])}",
            "clients",
        )
    return complete("clients", {} if given is None else given, "clients", Choice(DEFAULTS["clients"]))


def _method(label: str, given: Mapping[str, Any], local: Choice) -> Method:
    key = f"methods.{label}"
    if LABEL.fullmatch(label) is None:
        raise ConfigError(
            f"compare must hold plain labels, got {label!r}: letters, digits, _ and -", "compare", key
        )
    if label not in given and label not in CHOICES["method"]:
        near = nearest(label, [*CHOICES["method"], *given])
        raise ConfigError(
            f"compare must list methods, got {label!r}: {near}{', '.join(CHOICES['method'])}, or a label of "
            f"yours with a table [{key}] whose name is one of these",
            "compare",
        )
    said = given.get(label, label)
    if isinstance(said, Method):
        said = {"name": said.algorithm.name, **said.algorithm.options, "local": said.local}
    said = {"name": said} if isinstance(said, str) else table_of(said, key)
    own = said.pop("local", None)
    base = Choice(label) if label in CHOICES["method"] else None
    work = None if own is None else complete("local", own, f"{key}.local", local)
    return Method(complete("method", said, key, base), work)


def _stray(key: str, fields: Sequence[str], table: Mapping[str, Any]) -> str:
    """What to say of a key that no Config has."""
    chosen = {section: table.get(section, name) for section, name in DEFAULTS.items()}
    names = {
        section: str(value.get("name", DEFAULTS[section]) if isinstance(value, dict) else value)
        for section, value in chosen.items()
    }
    inside = [
        f"{section}.{key}"
        for section, name in names.items()
        if name in CHOICES[section] and key in CHOICES[section][name].options
    ]
    near = nearest(key, fields)
    likely = [*([repr(near.split("'")[1])] if near else []), *inside]
    hint = f"did you mean {' or '.join(likely)}? " if likely else ""
    return f"{key} must be a key of a configuration, got {key!r}: {hint}It has {', '.join(fields)}"

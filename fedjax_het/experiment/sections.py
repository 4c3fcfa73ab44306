"""Evaluation, Tuning and Checkpoint: the sections of a configuration in which nothing is chosen by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from fedjax_het.check import known, positive_int, require, scalar
from fedjax_het.experiment.choices import CHOICES
from fedjax_het.experiment.options import factory
from fedjax_het.experiment.source import about
from fedjax_het.experiment.values import fill, table_of
from fedjax_het.federation import SPLITS

__all__ = ["Checkpoint", "Evaluation", "Tuning", "checkpoint", "different", "evaluation", "tuning"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How models are judged.

    Attributes:
        split: the rows: "train", "valid" or "test".
        metrics: names of the section "metric", beside the model's own; None for those usual for the task.
        sample: clients scored at each evaluation; None for all.
        local: whether also after a round of local work.
    """

    split: str = "test"
    metrics: tuple[str, ...] | None = None
    sample: int | None = None
    local: bool = False


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """When a run is saved.

    Attributes:
        seconds: at least so long between two saves.
        keep: how many saves are kept.
    """

    seconds: float = 10.0
    keep: int = 2


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What is tried of every method of a comparison before it runs.

    Attributes:
        candidates: how many, the same for every method; 0 runs them as configured.
        seeds: runs of each candidate, under keys of their own.
    """

    candidates: int = 0
    seeds: int = 2


def different(name: str, values: Sequence[Any]) -> None:
    """Raise `ValueError` unless there is a value, and none is there twice."""
    wanted = f"{name} must list at least one entry, each once, got {list(values)}"
    require(bool(values) and len(set(values)) == len(values), f"{wanted}: leave out what is there twice")


def _record(kind: Callable[..., Any], given: Any, key: str) -> Any:
    said = (
        dataclasses.asdict(given)
        if isinstance(given, (Evaluation, Checkpoint, Tuning))
        else table_of(given, key)
    )
    return kind(**fill(factory(kind), said, key, {}, f"[{key}]"))


def evaluation(given: Any) -> Evaluation:
    """An Evaluation from a table or an unchecked one.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind or range.
    """
    how = _record(Evaluation, given, "evaluation")
    with about("evaluation.split"):
        known("evaluation.split", how.split, SPLITS)
    with about("evaluation.metrics"):
        for name in how.metrics or ():
            known("evaluation.metrics", name, CHOICES["metric"])
        if how.metrics:
            different("evaluation.metrics", how.metrics)
    with about("evaluation.sample"):
        if how.sample is not None:
            positive_int("evaluation.sample", how.sample, remedy="none scores all clients")
    return how


def checkpoint(given: Any) -> Checkpoint:
    """A Checkpoint from a table or an unchecked one.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind or range.
    """
    saves = _record(Checkpoint, given, "checkpoint")
    with about("checkpoint.seconds"):
        scalar("checkpoint.seconds", saves.seconds, least=0, remedy="0 saves as often as possible")
    with about("checkpoint.keep"):
        positive_int("checkpoint.keep", saves.keep, remedy="2 leaves one to go back to")
    return saves


def tuning(given: Any) -> Tuning:
    """A Tuning from a table or an unchecked one.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind or range.
    """
    how = _record(Tuning, given, "tuning")
    with about("tuning.candidates"):
        positive_int("tuning.candidates", how.candidates, least=0, remedy="8 is usual, 0 tunes nothing")
    with about("tuning.seeds"):
        positive_int("tuning.seeds", how.seeds, remedy="2 is usual")
    return how

"""Candidates: what tuning tries of a method, as a configuration says it."""

from __future__ import annotations

import itertools
from typing import Any

from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.check import positive_int
from fedjax_het.experiment.build import Study
from fedjax_het.experiment.config import ConfigError, Method
from fedjax_het.experiment.entrants import Entrant
from fedjax_het.experiment.values import Choice

__all__ = ["factors", "grid", "numbers"]

OCTAVES = 8
"""The span of the learning rates: a factor of 2**8 from the lowest to just past the highest."""


def factors(count: int) -> tuple[float, ...]:
    """`count` factors of the configured rate, ascending, equally far apart in logarithm, 1 among them.

    They run from 1/16 to (just below) 16: 1/16, 1/8, ..., 8 for eight, 1/16, 1/4, 1, 4 for four.
    """
    return tuple(2.0 ** (OCTAVES * (place - count // 2) / count) for place in range(count))


def grid(study: Study, entrant: Entrant, candidates: int) -> tuple[Method, ...]:
    """What would be tried: `factors` of the configured learning rate, times the values of `Entry.grid`.

    Args:
        study: the study.
        entrant: one of its methods.
        candidates: how many, the same for every method; a multiple of the number of combinations of the
            method's own values.

    Raises:
        TypeError: `candidates` is not a whole number.
        ConfigError: a learning rate that is a schedule; a number of candidates that cannot be divided.
    """
    candidates = positive_int("candidates", candidates, remedy="8 is usual")
    key, local = _local(study, entrant)
    rate = _rate(local)
    if isinstance(rate, Choice):
        raise ConfigError(
            f"{key}.learning_rate must be a number to be tuned, got the schedule {rate.name!r}: write its "
            "first value as a number, or tuning.candidates=0 to run with the schedule as it is",
            key,
        ).at(study.config.source)
    own = _own(entrant.choice.name)
    names, choices = [name for name, _ in own], list(itertools.product(*(values for _, values in own)))
    each = -(-candidates // len(choices))
    if each * len(choices) != candidates:
        raise ConfigError(
            f"tuning.candidates must be a multiple of {len(choices)}, the values of {' and '.join(names)} that "
            f"{entrant.label!r} tries with every rate, got {candidates}: take {each * len(choices)}",
            "tuning.candidates",
        ).at(study.config.source)
    methods = []
    for factor in factors(each):
        work = _with_rate(local, rate * factor)
        for values in choices:
            options = {**entrant.choice.options, **dict(zip(names, values))}
            methods.append(Method(Choice(entrant.choice.name, options), work))
    return tuple(methods)


def numbers(method: Method) -> dict[str, Any]:
    """The numbers of a candidate that tuning chooses, by name: "learning_rate", and those of `Entry.grid`."""
    own = _own(method.algorithm.name)
    return {"learning_rate": _rate(method.local), **{name: method.algorithm.options[name] for name, _ in own}}


def _own(name: str) -> tuple[tuple[str, tuple[float, ...]], ...]:
    return ALGORITHMS[name].grid if name in ALGORITHMS else ()


def _local(study: Study, entrant: Entrant) -> tuple[str, Choice]:
    """(dotted key, choice) of the entrant's local work."""
    method = study.config.methods.get(entrant.label)
    if entrant.solver is study.solver or method is None or method.local is None:
        return "local", study.config.local
    return f"methods.{entrant.label}.local", method.local


def _rate(local: Choice | None) -> Any:
    """The learning rate of a section "local", which an optimizer of optax holds itself."""
    options = {} if local is None else local.options
    return (
        options["learning_rate"]
        if "learning_rate" in options
        else options["optimizer"].options["learning_rate"]
    )


def _with_rate(local: Choice, rate: float) -> Choice:
    if "learning_rate" in local.options:
        return Choice(local.name, {**local.options, "learning_rate": rate})
    rule = local.options["optimizer"]
    rule = Choice(rule.name, {**rule.options, "learning_rate": rate})
    return Choice(local.name, {**local.options, "optimizer": rule})

"""What a factory may be configured with: its options, read from its signature."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NewType, Union

from fedjax_het.algorithm import Algorithm, Weighting
from fedjax_het.algorithms.adaptive_prox import AdaptiveMu
from fedjax_het.engine.executors import Executor
from fedjax_het.engine.sampling import Sampler
from fedjax_het.federation import Federation
from fedjax_het.local import Optax, Schedule, Solver, optimizer
from fedjax_het.models.selectors import Selector
from fedjax_het.typing import Array, Bound

__all__ = [
    "GIVEN",
    "RECORDS",
    "REQUIRED",
    "UNFIT",
    "Factory",
    "Option",
    "Relation",
    "factory",
    "fit",
    "list_of",
    "step_rule",
]

GIVEN = ("pool", "source", "problem", "solver", "federation")
"""Required arguments of these names are what was built before, and no options."""

Relation = NewType("Relation", Array)
"""The covariance of tasks, [N, N]."""

RECORDS: dict[Any, str] = {
    Algorithm: "algorithm",
    Optax: "optimizer",
    Solver: "local",
    Executor: "executor",
    Schedule: "schedule",
    Selector: "selector",
    Sampler: "sampling",
    Weighting: "weighting",
    AdaptiveMu: "rule",
    Relation: "relation",
    Callable[[Federation], Federation]: "shift",
}
"""Annotations whose values are chosen by name in turn, and the section of `choices.CHOICES` that has them."""

REQUIRED: Any = inspect.Parameter.empty
"""The default of an option that has none."""

UNFIT: Any = inspect.Parameter.empty
"""What `fit` returns for a value of another kind."""

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Any: "a number"}


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a factory.

    Attributes:
        name: of the argument.
        kinds: the annotations that a value may fit, without None.
        optional: whether it may be None, written "none".
        default: its value if nobody gives one, or `REQUIRED`.
    """

    name: str
    kinds: tuple[Any, ...]
    optional: bool
    default: Any = REQUIRED

    @property
    def words(self) -> str:
        """What it takes, for a message."""
        words = [_words(kind) for kind in self.kinds] + ['"none"'] * self.optional
        return " or ".join(dict.fromkeys(words))


@dataclasses.dataclass(frozen=True)
class Factory:
    """Something that can be chosen by name.

    Attributes:
        call: builds it from keyword arguments.
        options: what a configuration may say, by name.
        given: the arguments that the build supplies, names of `GIVEN`.
        either: options of which only one has a value: giving one takes away the default of the others.
        returns: its return annotation.
    """

    call: Callable[..., Any]
    options: Mapping[str, Option]
    given: tuple[str, ...] = ()
    either: tuple[str, ...] = ()
    returns: Any = Any


def factory(
    call: Callable[..., Any],
    /,
    *,
    either: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    kinds: Mapping[str, Any] | None = None,
    **defaults: Any,
) -> Factory:
    """Read a factory's options from its signature.

    An argument without an annotation, or annotated `Any`, takes a number: the library's mark of one that may
    be a tracer. An argument that no configuration can write (a function, a mesh) keeps its default.

    Args:
        call: the function or dataclass.
        either: see `Factory`.
        without: arguments that are no options and keep their defaults.
        kinds: better annotations than the signature's; one without None takes no "none".
        defaults: for arguments without one, or instead of the signature's.

    Raises:
        TypeError: a required argument that cannot be written, or a default for one that does not exist.
    """
    better = kinds or {}
    hints = {**typing.get_type_hints(call), **better}
    parameters = inspect.signature(call).parameters
    where = getattr(call, "__name__", repr(call))
    strangers = {*defaults, *either, *without, *better} - set(parameters)
    if strangers:
        raise TypeError(f"defaults must be for arguments of {where}, got {sorted(strangers)}: see its help")
    given = tuple(name for name in parameters if name in GIVEN and parameters[name].default is REQUIRED)
    options = {}
    for name, parameter in parameters.items():
        if name in (*given, *without) or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        members = _members(hints.get(name, Any))
        written = tuple(kind for kind in members if _writable(kind))
        optional = type(None) in members or (parameter.default is None and name not in better)
        default = defaults.get(name, parameter.default)
        if written:
            options[name] = Option(name, written, optional, default)
        elif default is REQUIRED:
            raise TypeError(f"{where} must take what a file can say, got {name}: {hints[name]}: pass kinds=")
    return Factory(call, options, given, either, hints.get("return", Any))


def step_rule(transformation: Callable[..., Any], /, **defaults: Any) -> Factory:
    """A `Factory` of one optax transformation.

    Args:
        transformation: such as `optax.adam`.
        defaults: what may be configured of it: numbers, true or false, or None for a number that may be left
            out.
    """
    options = {
        name: Option(name, (bool if isinstance(value, bool) else float,), value is None, value)
        for name, value in defaults.items()
    }
    if "learning_rate" in options:
        options["learning_rate"] = dataclasses.replace(options["learning_rate"], kinds=(float, Schedule))
    return Factory(Bound(optimizer, (transformation,)), options, returns=Optax)


def fit(kind: Any, value: Any) -> Any:
    """`value` as the annotation has it (lists become tuples, whole numbers floats), or `UNFIT`."""
    if kind is Any:
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else UNFIT
    if kind is float:
        try:
            return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else UNFIT
        except OverflowError:
            return UNFIT
    if kind in (bool, int, str):
        return value if type(value) is kind else UNFIT
    if typing.get_origin(kind) is Literal:
        return value if value in typing.get_args(kind) and not isinstance(value, bool) else UNFIT
    entry = _entry(kind)
    if entry is None or not isinstance(value, (list, tuple)):
        return UNFIT
    fitted = []
    for item in value:
        fits = [one for member in _members(entry) if (one := fit(member, item)) is not UNFIT]
        if not fits:
            return UNFIT
        fitted.append(fits[0])
    return tuple(fitted)


def list_of(kind: Any) -> str | None:
    """The section of `RECORDS` from which the entries of such a list are chosen, or None."""
    entry = _entry(kind)
    return None if entry is None else RECORDS.get(entry)


def _members(kind: Any) -> tuple[Any, ...]:
    union = typing.get_origin(kind) in (Union, types.UnionType)
    return typing.get_args(kind) if union else (kind,)


def _entry(kind: Any) -> Any:
    """What a list of this annotation holds, or None for other annotations."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (list, Sequence) or arguments[1:] == (Ellipsis,):
        return arguments[0]
    return None


def _writable(kind: Any) -> bool:
    if kind in RECORDS or kind in WORDS or typing.get_origin(kind) is Literal:
        return True
    entry = _entry(kind)
    if entry is None:
        return False
    return entry in RECORDS or all(_writable(one) and one not in RECORDS for one in _members(entry))


def _words(kind: Any) -> str:
    if kind in RECORDS:
        return f"a {RECORDS[kind]}" if RECORDS[kind][0] not in "aeiou" else f"an {RECORDS[kind]}"
    if kind in WORDS:
        return WORDS[kind]
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    entries = [_words(member) for member in _members(_entry(kind))]
    return "a list, each entry " + " or ".join(entries)

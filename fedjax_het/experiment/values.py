"""Choices: a name and its options, checked against what its factory takes and completed with its defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from fedjax_het.check import short
from fedjax_het.experiment.choices import CHOICES
from fedjax_het.experiment.options import RECORDS, REQUIRED, UNFIT, Factory, Option, fit, list_of
from fedjax_het.experiment.source import ConfigError, nearest

__all__ = [
    "NONE",
    "Choice",
    "complete",
    "convert",
    "default_words",
    "fill",
    "make",
    "plain",
    "table_of",
    "usage",
]

NONE = "none"
"""None in a file: TOML has no word for it."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """One entry of a section of `choices.CHOICES`, with its options.

    Attributes:
        name: of the entry.
        options: name -> value: a bool, number, text, None, a Choice, or a tuple of such.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)


def complete(section: str, given: Any, key: str, base: Choice | None = None) -> Choice:
    """What was written, as a Choice with a value for every option.

    Args:
        section: of `CHOICES`.
        given: a name, a table that may have a "name", or a Choice.
        key: where it stands, dotted, for messages.
        base: what is meant without a name, and the defaults of its own options.

    Raises:
        ConfigError: an unknown name or option, a value of the wrong kind, an option that must be given.
    """
    name, options = _split(given, key, base)
    entries = CHOICES[section]
    if name not in entries:
        raise ConfigError(
            f"{key} must be one of the names below, got {name!r}: {nearest(name, entries)}{', '.join(entries)}",
            key,
        )
    held = base.options if base is not None and base.name == name else {}
    return Choice(name, fill(entries[name], options, key, held, f"{name!r}", entries))


def fill(
    factory: Factory,
    options: Mapping[str, Any],
    key: str,
    held: Mapping[str, Any],
    owner: str,
    others: Mapping[str, Factory] | None = None,
) -> dict[str, Any]:
    """A value for every option: as given, as held, or the default, in the order of the signature.

    Args:
        factory: whose options.
        options: as given.
        key: where they stand, dotted.
        held: values to prefer to the factory's defaults.
        owner: what has these options, in words.
        others: factories that may have an option that this one lacks, by name.

    Raises:
        ConfigError: see `complete`.
    """
    for name in options:
        if name not in factory.options:
            raise ConfigError(_unknown(name, factory, key, owner, others or {}), f"{key}.{name}")
    said = [name for name in factory.either if options.get(name) not in (None, NONE)]
    if len(said) > 1:
        raise ConfigError(
            f"{' and '.join(f'{key}.{name}' for name in said)} must not both be given, got "
            f"{' and '.join(repr(options[name]) for name in said)}: leave one out, or set "
            f"{key}.{said[0]}={NONE}",
            *(f"{key}.{name}" for name in said),
        )
    filled = {}
    for name, option in factory.options.items():
        if name in options:
            value = options[name]
        elif said and name in factory.either:
            value = None
        else:
            value = held.get(name, option.default)
        if value is REQUIRED:
            raise ConfigError(
                f"{key}.{name} must be given for {owner}, got nothing: it is {option.words}", f"{key}.{name}"
            )
        filled[name] = convert(option, value, f"{key}.{name}")
    return filled


def convert(option: Option, value: Any, key: str) -> Any:
    """A value as the option has it.

    Raises:
        ConfigError: it is of another kind.
    """
    if option.optional and (value is None or value == NONE):
        return None
    for kind in option.kinds:
        if kind in RECORDS:
            if isinstance(value, (str, Mapping, Choice)):
                usual = Choice(option.default) if isinstance(option.default, str) else None
                return complete(RECORDS[kind], value, key, usual)
        elif (section := list_of(kind)) is not None:
            if isinstance(value, (list, tuple)):
                return tuple(complete(section, one, f"{key}[{place}]") for place, one in enumerate(value))
        elif (fitted := fit(kind, value)) is not UNFIT:
            return fitted
    raise ConfigError(f"{key} must be {option.words}, got {short(value)}", key)


def make(section: str, choice: Choice, context: Mapping[str, Any]) -> Any:
    """Call the factory of a completed Choice.

    Args:
        section: of `CHOICES`.
        choice: as `complete` returns it.
        context: what was built before, under the names of `options.GIVEN`.

    Raises:
        Exception: whatever the factory raises.
    """
    factory = CHOICES[section][choice.name]
    arguments = {name: context[name] for name in factory.given}
    for name, value in choice.options.items():
        if isinstance(value, Choice):
            records = [RECORDS[kind] for kind in factory.options[name].kinds if kind in RECORDS]
            value = make(records[0], value, context)
        arguments[name] = value
    return factory.call(**arguments)


def plain(value: Any) -> Any:
    """A value as TOML and JSON have it: lists, tables, "none"."""
    if isinstance(value, Choice):
        return {"name": value.name, **{name: plain(entry) for name, entry in value.options.items()}}
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    return NONE if value is None else value


def usage(factory: Factory) -> str:
    """The options in words: "mu (a number, default 0.1), ..."."""
    words = []
    for name, option in factory.options.items():
        default = "" if option.default is REQUIRED else "default "
        words.append(f"{name} ({option.words}; {default}{default_words(option)})")
    return ", ".join(words) if words else "no options"


def default_words(option: Option) -> str:
    """The default as a file has it, or "required"."""
    value = option.default
    if value is REQUIRED:
        return "required"
    if value is None:
        return f'"{NONE}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(list(value) if isinstance(value, tuple) else value)


def table_of(given: Any, key: str) -> dict[str, Any]:
    """`given` if it is a table.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(given, Mapping):
        return dict(given)
    raise ConfigError(f"{key} must be a table of options, got {short(given)}: begin it with [{key}]", key)


def _split(given: Any, key: str, base: Choice | None) -> tuple[str, dict[str, Any]]:
    if isinstance(given, Choice):
        return given.name, dict(given.options)
    if isinstance(given, str):
        return given, {}
    options = table_of(given, key)
    name = options.pop("name", None if base is None else base.name)
    if not isinstance(name, str):
        got = "nothing" if name is None else short(name)
        raise ConfigError(f"{key}.name must say what is meant, as text, got {got}", f"{key}.name")
    return name, options


def _unknown(name: str, factory: Factory, key: str, owner: str, others: Mapping[str, Factory]) -> str:
    homes = [other for other, entry in others.items() if name in entry.options]
    hint = f"it is one of {_listed(homes)}; " if homes else nearest(name, factory.options)
    return f"{key}.{name} must be an option of {owner}, got {name!r}: {hint}{owner} takes {usage(factory)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))

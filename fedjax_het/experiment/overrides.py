"""Overrides: `key=value` on a table that was read from a file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from fedjax_het.experiment.choices import DEFAULTS
from fedjax_het.experiment.source import ConfigError

__all__ = ["override", "parse"]

KEY = re.compile(r"[\w-]+(\.[\w-]+|\[\d+\])*")
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|(?<![\w.+-])[A-Za-z_][\w-]*')
"""A quoted string, or a bare word: no part of a number such as 1e-3."""

LITERALS = ("true", "false", "inf", "nan")

LISTS = ("shifts",)
"""Keys whose values are lists of choices: what follows may be the number of an entry."""


def parse(text: str) -> tuple[str, Any]:
    """(dotted key, value) of `key=value`: a TOML value, in which words need no quotes.

    The entry of a list may be written `shifts.0.rate` or `shifts[0].rate`; it comes back as the latter.

    Raises:
        ConfigError: there is no key, no value, or brackets or quotes that do not close.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not KEY.fullmatch(key):
        raise ConfigError(
            f"override must be key=value, got {text!r}: such as algorithm=fedprox algorithm.mu=0.3 seeds=[0,1]"
        )
    if key.split(".")[0] in LISTS:  # elsewhere a number may be a name, such as a method's
        key = re.sub(r"\.(\d+)(?=[.\[]|$)", r"[\1]", key)
    if not value:
        raise ConfigError(f'override must give a value, got {text!r}: an empty text is {key}=""')
    for candidate in (value, TOKEN.sub(_in_quotes, value)):
        try:
            found = tomllib.loads(f"value = {candidate}")
        except tomllib.TOMLDecodeError:
            continue
        if len(found) == 1:
            return key, found["value"]
    if value[0] in "[{\"'" or "\n" in value:
        raise ConfigError(f"override must give a TOML value, got {text!r}: a list is [0, 1], a text 'a b'")
    return key, value


def _in_quotes(token: re.Match[str]) -> str:
    word = token[0]
    return word if word[0] in "\"'" or word in LITERALS else f'"{word}"'


def override(table: Mapping[str, Any], changes: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The table with some keys set; naming another choice drops the options of the one that was there.

    Whole sections are set before their options, whatever the order, so that `algorithm.mu=0.3
    algorithm=fedprox` is what it says. One past the last entry of a list is a new entry.

    Args:
        table: as read.
        changes: (dotted key, value); of two for one key the later counts.

    Raises:
        ConfigError: a key inside of what is no table, an entry past the end of a list.
    """
    paths = [(_path(key), key, value) for key, value in changes]
    result: Any = dict(table)
    for path, key, value in sorted(paths, key=lambda change: len(change[0])):
        result = _changed(result, path, 0, key, value)
    return result


def _changed(held: Any, path: Sequence[str | int], depth: int, key: str, value: Any) -> Any:
    """What lies at path[:depth], with the value of `key` set in it."""
    if depth == len(path):
        return _merged(path, held, value)
    part, above = path[depth], path[depth - 1]
    if isinstance(part, int):
        entries = [] if held is None else held
        if not isinstance(entries, list):
            raise ConfigError(f"{key} must name an entry of a list, got one of {above} = {held!r}", key)
        if part > len(entries):
            raise ConfigError(
                f"{key} must name an entry that there is, or the next one, got number {part} of "
                f"{len(entries)}: entries are numbered from 0",
                key,
            )
        old = entries[part] if part < len(entries) else None
        return [*entries[:part], _changed(old, path, depth + 1, key, value), *entries[part + 1 :]]
    if isinstance(held, list) or (held is None and above in LISTS):
        raise ConfigError(
            f"{key} must name an entry by its number, got {part!r}: such as {above}.0.{part}", key
        )
    plain = depth == 1 and isinstance(held, str) and above not in DEFAULTS
    if plain or not (held is None or isinstance(held, (str, dict))):
        raise ConfigError(f"{key} must name an option, got an option of {above} = {held!r}", key)
    inner = {} if held is None else _table(held)
    return {**inner, part: _changed(inner.get(part), path, depth + 1, key, value)}


def _path(key: str) -> tuple[str | int, ...]:
    """`algorithm.name=fedprox` is `algorithm=fedprox`; "shifts[0].rate" is ("shifts", 0, "rate")."""
    parts = re.findall(r"[\w-]+|\[\d+\]", key)
    path = tuple(int(part[1:-1]) if part[0] == "[" else part for part in parts)
    named = len(path) > 1 and path[-1] == "name" and path[0] in (*DEFAULTS, *LISTS, "methods")
    return path[:-1] if named else path


def _table(value: str | dict[str, Any]) -> dict[str, Any]:
    return {"name": value} if isinstance(value, str) else dict(value)


def _merged(path: Sequence[str | int], old: Any, new: Any) -> Any:
    if isinstance(old, str) and isinstance(new, dict):
        old = _table(old)
    if not isinstance(old, dict) or not isinstance(new, (str, dict)):
        return new
    new = _table(new)
    unsaid = DEFAULTS.get(str(path[0])) if len(path) == 1 else path[-1] if path[0] == "methods" else None
    held = old.get("name", unsaid)
    return {**old, **new} if new.get("name", held) == held else new

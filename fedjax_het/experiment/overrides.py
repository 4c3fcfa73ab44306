"""Overrides: `key=value` on a table that was read from a file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from fedjax_het.experiment.choices import DEFAULTS
from fedjax_het.experiment.source import ConfigError

__all__ = ["override", "parse"]

KEY = re.compile(r"[\w-]+(\.[\w-]+)*")
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|(?<![\w.+-])[A-Za-z_][\w-]*')
"""A quoted string, or a bare word: no part of a number such as 1e-3."""

LITERALS = ("true", "false", "inf", "nan")


def parse(text: str) -> tuple[str, Any]:
    """(dotted key, value) of `key=value`: a TOML value, in which words need no quotes.

    Raises:
        ConfigError: there is no key, no value, or brackets or quotes that do not close.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not KEY.fullmatch(key):
        raise ConfigError(
            f"override must be key=value, got {text!r}: such as algorithm=fedprox algorithm.mu=0.3 seeds=[0,1]"
        )
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
    algorithm=fedprox` is what it says.

    Args:
        table: as read.
        changes: (dotted key, value); of two for one key the later counts.

    Raises:
        ConfigError: a key inside of what is no table.
    """
    paths = [(_path(key), key, value) for key, value in changes]
    result: dict[str, Any] = dict(table)
    for path, key, value in sorted(paths, key=lambda change: len(change[0])):
        at = result
        for depth, part in enumerate(path[:-1]):
            child = at.get(part, {})
            if not isinstance(child, (str, dict)) or (depth == 0 and _plain(part, child)):
                raise ConfigError(f"{key} must name an option, got an option of {part} = {child!r}", key)
            at[part] = _table(child)
            at = at[part]
        at[path[-1]] = _merged(path, at.get(path[-1]), value)
    return result


def _path(key: str) -> tuple[str, ...]:
    """`algorithm.name=fedprox` is `algorithm=fedprox`."""
    path = tuple(key.split("."))
    named = len(path) > 1 and path[-1] == "name" and path[0] in (*DEFAULTS, "methods")
    return path[:-1] if named else path


def _plain(part: str, child: Any) -> bool:
    return isinstance(child, str) and part not in DEFAULTS


def _table(value: str | dict[str, Any]) -> dict[str, Any]:
    return {"name": value} if isinstance(value, str) else dict(value)


def _merged(path: tuple[str, ...], old: Any, new: Any) -> Any:
    if isinstance(old, str) and isinstance(new, dict):
        old = _table(old)
    if not isinstance(old, dict) or not isinstance(new, (str, dict)):
        return new
    new = _table(new)
    unsaid = DEFAULTS.get(path[0]) if len(path) == 1 else path[-1] if path[0] == "methods" else None
    held = old.get("name", unsaid)
    return {**old, **new} if new.get("name", held) == held else new

"""TOML with the line of every key, and a writer for plain tables. Reading itself is `tomllib`'s."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["dump", "key_lines", "literal"]

BARE = re.compile(r"[A-Za-z0-9_-]+")

MULTILINE = re.compile("\"\"\"|'''")

MUTE = re.compile(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|#.*")
"""Strings of one line, and comments: where a bracket means nothing."""


def key_lines(text: str) -> list[tuple[str, int]]:
    """(dotted key, line from 1) of every table header and every key, in the order of the text.

    The entries of an array of tables are `name[0]`, `name[1]` ... What lies in a list that is written inline
    has no line of its own.

    A statement ends where its lines, taken alone, first parse; so `tomllib` decides what a key is.

    Args:
        text: valid TOML.
    """
    found: list[tuple[str, int]] = []
    arrays: dict[str, int] = {}
    table, pending, begin, depth = "", [], 0, 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not pending:
            begin, depth = number, 0
        pending.append(line)
        if MULTILINE.search(line):  # may hold any brackets
            depth = -len(text)
        heard = MUTE.sub("", line)
        depth += heard.count("[") - heard.count("]")
        if depth > 0:  # a long array: not worth a try
            continue
        try:
            statement = tomllib.loads("\n".join(pending))
        except tomllib.TOMLDecodeError:
            continue
        header = pending[0].lstrip().startswith("[")
        names = list(_names(statement))
        if header:
            if pending[0].lstrip().startswith("[["):
                latest = names[-1]
                arrays = {name: many for name, many in arrays.items() if not name.startswith(f"{latest}.")}
                arrays[latest] = arrays.get(latest, -1) + 1
            names = [_numbered(name, arrays) for name in names]
        found += [(name if header or not table else f"{table}.{name}", begin) for name in names]
        table = names[-1] if header else table
        pending = []
    return found


def _names(statement: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in statement.items():
        yield above + key
        if isinstance(value, dict):
            yield from _names(value, f"{above}{key}.")


def _numbered(name: str, arrays: Mapping[str, int]) -> str:
    """A header's key, in which every array of tables is followed by the number of its latest entry."""
    numbered, above = [], ""
    for part in name.split("."):
        above = f"{above}.{part}" if above else part
        numbered.append(f"{part}[{arrays[above]}]" if above in arrays else part)
    return ".".join(numbered)


def literal(value: Any) -> str:
    """One value as TOML writes it; floats read back to the same bits, tables are inline.

    Raises:
        TypeError: TOML has no such value.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(name)} = {literal(entry)}" for name, entry in value.items())
        return f"{{{pairs}}}"
    raise TypeError(f"value must be one that TOML has, got {type(value).__name__}: convert it first")


def _quoted(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    letters = (
        escapes.get(letter, letter if letter >= " " and letter != "\x7f" else f"\\u{ord(letter):04x}")
        for letter in text
    )
    return f'"{"".join(letters)}"'


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else _quoted(name)


def dump(table: Mapping[str, Any]) -> str:
    """A table of values and tables as TOML text; a table that holds only tables gets a header for each.

    So does each entry of a list of tables at the top.

    Raises:
        TypeError: a value that TOML does not have.
    """
    return "\n\n".join(_blocks(table, "")) + "\n"


def _blocks(table: Mapping[str, Any], header: str) -> Iterator[str]:
    nested: dict[str, Any] = {
        name: value
        for name, value in table.items()
        if isinstance(value, Mapping) and (not header or all(isinstance(v, Mapping) for v in table.values()))
    }
    if not header:
        nested |= {name: value for name, value in table.items() if _tables(value)}
    values = {name: value for name, value in table.items() if name not in nested}
    lines = [f"[{header}]"] if header and (values or not nested) else []
    lines += [f"{_key(name)} = {literal(value)}" for name, value in values.items()]
    if lines:
        yield "\n".join(lines)
    for name, value in nested.items():
        if not isinstance(value, Mapping):
            for entry in value:
                pairs = [f"{_key(key)} = {literal(held)}" for key, held in entry.items()]
                yield "\n".join([f"[[{_key(name)}]]", *pairs])
            continue
        yield from _blocks(value, f"{header}.{_key(name)}" if header else _key(name))


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)

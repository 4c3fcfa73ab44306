"""What a configuration can name: data, ways to deal them out, shifts, samplers, weightings."""

from __future__ import annotations

import inspect
from typing import Any

from fedjax_het.check import require
from fedjax_het.experiment.choices import CHOICES
from fedjax_het.experiment.options import Factory
from fedjax_het.experiment.source import nearest
from fedjax_het.experiment.values import default_words

__all__ = ["SECTIONS", "kinds", "table"]

SECTIONS = {
    "data": "data",
    "clients": "clients",
    "shifts": "shift",
    "sampling": "sampling",
    "weighting": "weighting",
}
"""Key of a configuration -> section of `CHOICES`."""


def kinds(name: str | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """What can be named, as JSON: section -> name -> {"what", "options": {name: {"takes", "default"}}}.

    Args:
        name: a section, or an entry of one or several; None for all.

    Raises:
        ValueError: neither a section nor an entry; the nearest one is suggested.
    """
    told = {
        key: {
            entry: _facts(key, factory)
            for entry, factory in CHOICES[section].items()
            if name in (None, key, entry)
        }
        for key, section in SECTIONS.items()
    }
    told = {key: entries for key, entries in told.items() if entries}
    names = [*SECTIONS, *dict.fromkeys(entry for section in SECTIONS.values() for entry in CHOICES[section])]
    require(
        bool(told),
        f"name must be a section or an entry of one, got {name!r}: {nearest(name or '', names)}sections are "
        f"{', '.join(SECTIONS)}",
    )
    return told


def _facts(key: str, factory: Factory) -> dict[str, Any]:
    what = (inspect.getdoc(factory.call) or "").split("\n\n")[0].replace("\n", " ")
    if key == "shifts" and "source" in factory.given:
        what = f"Deal the rows anew. {what}"
    options = {
        name: {"takes": option.words, "default": default_words(option)}
        for name, option in factory.options.items()
    }
    return {"what": what, "options": options}


def table(name: str | None = None) -> Any:
    """The same as rich tables, one a section; a single name has a line for each option.

    Raises:
        ValueError: see `kinds`.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    told = kinds(name)
    made: list[Any] = []
    if name is None or name in SECTIONS:
        for key, entries in told.items():
            part = Table()
            for column in ("name", "what it is", "options"):
                part.add_column(column)
            for entry, facts in entries.items():
                part.add_row(entry, Text(facts["what"]), Text(", ".join(facts["options"]) or "-"))
            made += [Text(_title(key)), part]
        return Group(*made, Text("What an option takes: fedjax-het kinds NAME"))
    for key, entries in told.items():
        for entry, facts in entries.items():
            part = Table()
            for column in ("option", "takes", "default"):
                part.add_column(column)
            for option, said in facts["options"].items():
                part.add_row(option, Text(said["takes"]), Text(said["default"]))
            made += [Text(f"{key}: {entry}. {facts['what']}"), part]
    return Group(*made)


def _title(key: str) -> str:
    return {
        "data": 'data = "NAME", or data.OPTION=VALUE',
        "clients": "clients = {name = ..., ...}: how the rows of a pool are dealt out",
        "shifts": "shifts = [{name = ..., ...}, ...], or shifts.0=NAME shifts.0.OPTION=VALUE: done in order",
        "sampling": "sampling = {name = ..., ...}: who takes part in a round; inner = {name = ..., ...} nests",
        "weighting": "weighting = {name = ..., ...}: instead of the method's own; base = {...} nests",
    }[key]

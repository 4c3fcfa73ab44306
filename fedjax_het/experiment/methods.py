"""What there is to run, from the table of algorithms."""

from __future__ import annotations

from typing import Any

from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.check import known
from fedjax_het.experiment.choices import CHOICES
from fedjax_het.experiment.values import usage

__all__ = ["about", "table"]

COLUMNS = ("family", "learns", "state", "sends", "work", "best for", "paper")


def about(name: str | None = None) -> dict[str, dict[str, str]]:
    """Facts of every method, or of one with its options, as JSON.

    Raises:
        ValueError: no method of this name; the nearest one is suggested.
    """
    if name is not None:
        known("name", name, ALGORITHMS)
    facts = {}
    for key, entry in ALGORITHMS.items():
        if name in (None, key):
            values = (
                entry.family,
                entry.learns,
                entry.state,
                entry.cost,
                entry.work,
                entry.best_for,
                entry.paper,
            )
            facts[key] = dict(zip(COLUMNS, values))
    if name is not None:
        facts[name]["options"] = usage(CHOICES["algorithm"][name])
    return facts


def table(name: str | None = None) -> Any:
    """The same as a rich table.

    Raises:
        ValueError: no method of this name.
    """
    from rich.table import Table

    facts = about(name)
    if name is not None:
        made = Table(show_header=False, title=name, title_justify="left")
        for key, value in facts[name].items():
            made.add_row(key, value)
        return made
    made = Table(
        caption="d: parameters of the model. K: clusters. F: one forward pass over a client's rows. "
        "Options: fedjax-het methods NAME",
        caption_justify="left",
    )
    for column in ("method", *COLUMNS):
        made.add_column(column)
    for key, values in facts.items():
        made.add_row(key, *values.values())
    return made

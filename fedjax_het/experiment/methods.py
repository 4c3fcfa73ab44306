"""What there is to run, from the table of algorithms."""

from __future__ import annotations

from typing import Any

from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.check import known
from fedjax_het.experiment.choices import CHOICES
from fedjax_het.experiment.families import families
from fedjax_het.experiment.values import usage

__all__ = ["about", "table"]

COLUMNS = ("family", "learns", "state", "sends", "work", "cohorts", "best for", "paper")

MODELS = {"": "any", "linear": "linear and convex", "normalisation": "with normalisation layers"}
"""`Entry.needs` -> which models a method takes, in words."""


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
                "all" if entry.everyone else "any",
                entry.best_for,
                entry.paper,
            )
            facts[key] = dict(zip(COLUMNS, values))
    if name is not None:
        facts[name]["model"] = MODELS[ALGORITHMS[name].needs]
        facts[name]["options"] = usage(CHOICES["algorithm"][name])
    return facts


def table(name: str | None = None) -> Any:
    """The same as a rich table.

    Raises:
        ValueError: no method of this name.
    """
    from rich import box
    from rich.table import Table

    facts = about(name)
    if name is not None:
        made = Table(show_header=False, title=name, title_justify="left")
        for key, value in facts[name].items():
            made.add_row(key, value)
        return made
    made = Table(
        caption="d: parameters of the model. K: clusters or domains. F: one forward pass over a client's rows. "
        "cohorts: whether any do, or all clients must take part in every round. Options: fedjax-het methods "
        "NAME. A whole family: fedjax-het compare --methods all-global; all-personal brings the clustered and "
        "the multi-task methods too, with fedavg and local_only to read them against",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    made.add_column("method", no_wrap=True)
    shown = COLUMNS[1:]  # the family leads its methods
    for column in shown:
        words = [word for values in facts.values() for word in values[column].split()]
        made.add_column(column, min_width=max(map(len, words)))  # no word is cut on a narrow terminal
    for family, names in families().items():
        made.add_section()
        made.add_row(f"[bold]{family}[/]")
        for key in names:
            made.add_row(key, *(facts[key][column] for column in shown))
    return made

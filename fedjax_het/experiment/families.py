"""Families: "all-global" in a comparison stands for every method of the family "global"."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.experiment.source import ConfigError, nearest

__all__ = ["expanded", "families"]

PREFIX = "all-"


def families() -> dict[str, tuple[str, ...]]:
    """The families as a comparison names them -> their methods, in the order of the table of algorithms."""
    kinds = dict.fromkeys(entry.family for entry in ALGORITHMS.values())
    return {
        PREFIX + kind: tuple(name for name, entry in ALGORITHMS.items() if entry.family == kind)
        for kind in kinds
    }


def expanded(compare: Sequence[str], labels: Collection[str]) -> tuple[str, ...]:
    """A list of methods in which every family is replaced by its methods.

    A method that the list names itself, or that an earlier family brought, is not brought again.

    Args:
        compare: methods and families.
        labels: names that the configuration gives to methods of its own, which may look like a family's.

    Raises:
        ConfigError: no such family; the message lists those that there are.
    """
    there = families()
    names: list[str] = []
    for name in compare:
        if name in labels or not name.startswith(PREFIX):
            names.append(name)
        elif name in there:
            names += [member for member in there[name] if member not in names and member not in compare]
        else:
            told = "; ".join(f"{family} ({', '.join(members)})" for family, members in there.items())
            raise ConfigError(
                f"compare must list methods and families, got {name!r}: {nearest(name, there)}{told}", "compare"
            )
    return tuple(names)

"""Families: "all-global" in a comparison stands for every method of the family "global"."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.experiment.source import ConfigError, nearest

__all__ = ["brought", "expanded", "families"]

PREFIX = "all-"

WIDER = {"all-personal": (("fedavg", "local_only", "finetune"), ("personal", "clustered", "multi-task"))}
"""What stands for more than its family: the methods that come first, for reference, and the families."""


def families() -> dict[str, tuple[str, ...]]:
    """The families as a comparison names them -> their methods, in the order of the table of algorithms."""
    kinds = dict.fromkeys(entry.family for entry in ALGORITHMS.values())
    return {PREFIX + kind: _members(kind) for kind in kinds}


def brought() -> dict[str, tuple[str, ...]]:
    """What each name of a family brings to a comparison.

    Its methods; "all-personal" brings the clustered and the multi-task ones too, which are personal methods as
    well, and before them what they are read against: FedAvg, local training alone, and FedAvg fine-tuned.
    """
    wider = {
        name: tuple(dict.fromkeys((*first, *(member for kind in kinds for member in _members(kind)))))
        for name, (first, kinds) in WIDER.items()
    }
    return families() | wider


def expanded(compare: Sequence[str], labels: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(a list of methods in which every family is replaced by what it brings; those that a family brought).

    A method that the list names itself, or that an earlier family brought, is not brought again.

    Args:
        compare: methods and families.
        labels: names that the configuration gives to methods of its own, which may look like a family's.

    Raises:
        ConfigError: no such family; the message lists those that there are.
    """
    there = brought()
    names: list[str] = []
    extra: list[str] = []
    for name in compare:
        if name in labels or not name.startswith(PREFIX):
            names.append(name)
        elif name in there:
            new = [member for member in there[name] if member not in names and member not in compare]
            names += new
            extra += new
        else:
            told = "; ".join(f"{family} ({', '.join(members)})" for family, members in there.items())
            raise ConfigError(
                f"compare must list methods and families, got {name!r}: {nearest(name, there)}{told}", "compare"
            )
    return tuple(names), tuple(extra)


def _members(kind: str) -> tuple[str, ...]:
    return tuple(name for name, entry in ALGORITHMS.items() if entry.family == kind)

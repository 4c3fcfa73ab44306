"""Named clients: the rows of each client by its name, one source a split, made into a federation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fedjax_het.check import known, require
from fedjax_het.construct import from_clients
from fedjax_het.federation import Federation
from fedjax_het.frames import Names
from fedjax_het.pool import TASKS
from fedjax_het.split import fraction

__all__ = ["Block", "joined", "sources"]


class Block(NamedTuple):
    """The rows of one client in one split.

    Attributes:
        x: features [n, ...].
        y: targets [n, ...].
        source: where they come from, for messages: a file, say.
    """

    x: np.ndarray
    y: np.ndarray
    source: str


def sources(train: Any, valid: Any, test: Any, kinds: tuple[type, ...], task: str) -> dict[str, Any]:
    """The splits that have a source of their own; a `valid` or `test` that is none is a fraction to cut.

    Called before anything is read, hence it also looks at the task.

    Raises:
        TypeError: a `valid` or `test` that is neither.
        ValueError: a fraction out of range, an unknown task.
    """
    known("task", task, TASKS)
    opened = {"train": train}
    for split, value in (("valid", valid), ("test", test)):
        if isinstance(value, kinds):
            opened[split] = value
        else:
            fraction(split, value, len(value) if isinstance(value, (list, tuple, np.ndarray)) else 1)
    return opened


def joined(
    splits: Mapping[str, Mapping[Any, Block]],
    *,
    test: Any,
    valid: Any,
    seed: int,
    who: str = "client",
    **facts: Any,
) -> tuple[Federation, Names]:
    """A federation with one client for each name in `train`, in sorted order.

    A split that is in `splits` is kept as it is, and a client may have no rows in it; one that is not is cut
    from the training rows.

    Args:
        splits: "train", and "valid" and "test" where they were brought; the block of each client by its name.
        test: fraction to cut, [0, 1); anything if "test" was brought.
        valid: the same for validation.
        seed: of the cut.
        who: what the source calls a client, for messages.
        facts: task, num_classes, name and scale of `pool`.

    Raises:
        TypeError: see `from_clients`; the message names source and client.
        ValueError: a client that train does not have, no training rows, labels or tokens below 0, and see
            `from_clients`; the message names source and client.
    """
    train = splits["train"]
    names = tuple(sorted(train))
    for split, held in splits.items():
        strangers = sorted(set(held) - set(names))
        if strangers:
            raise ValueError(
                f"{split} must hold clients of train only, got {strangers[0]!r} and {len(strangers) - 1} more "
                f"in {held[strangers[0]].source}: load clients who do not train as a federation of their own"
            )
    files = sorted({block.source for block in train.values()})
    require(
        any(len(block.y) for block in train.values()),
        f"train must hold rows, got none for the {who}s of {', '.join(files[:2])}: give one of them rows",
    )
    for held in splits.values():
        for name, block in held.items():
            _from_zero(f"{block.source}: {who} {name!r}", block, facts["task"])
    clients = {
        name: {split: held[name][:2] for split, held in splits.items() if name in held} for name in names
    }
    cut = {split: 0.0 if split in splits else share for split, share in (("valid", valid), ("test", test))}
    try:
        return from_clients(clients, seed=seed, **cut, **facts), Names(names, (), ())
    except (TypeError, ValueError) as error:
        raise _located(error, splits, who) from None


def _from_zero(where: str, block: Block, task: str) -> None:
    """Refuse labels and tokens below 0; a wrong K would be blamed for them otherwise."""
    numbered = {"classification": {"labels": block.y}, "tokens": {"labels": block.y, "tokens": block.x}}
    for what, values in numbered.get(task, {}).items():
        if values.size and values.dtype.kind == "i":
            least = int(values.min())
            require(least >= 0, f"{where} must have {what} >= 0, got {least}: renumber the {what} 0..K-1")


def _located(error: Exception, splits: Mapping[str, Mapping[Any, Block]], who: str) -> Exception:
    """What `from_clients` says about the x or y of a client, with their source in front."""
    for split, held in splits.items():
        for name, block in held.items():
            start, said = f"client {name!r} {split}: ", str(error)
            if said.startswith((f"{start}x ", f"{start}y ")):
                return type(error)(f"{block.source}: {who} {name!r}: {said.removeprefix(start)}")
    return error

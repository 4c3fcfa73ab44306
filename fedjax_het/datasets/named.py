"""Named clients: the rows of each client by its name, one source a split, made into a federation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fedjax_het.check import known
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
        facts: task, num_classes, name and scale of `pool`.

    Raises:
        ValueError: a client that train does not have, and see `from_clients`.
    """
    names = tuple(sorted(splits["train"]))
    for split, held in splits.items():
        strangers = sorted(set(held) - set(names))
        if strangers:
            raise ValueError(
                f"{split} must hold clients of train only, got {strangers[0]!r} and {len(strangers) - 1} more "
                f"in {held[strangers[0]].source}: load clients who do not train as a federation of their own"
            )
    clients = {
        name: {split: held[name][:2] for split, held in splits.items() if name in held} for name in names
    }
    cut = {split: 0.0 if split in splits else share for split, share in (("valid", valid), ("test", test))}
    return from_clients(clients, seed=seed, **cut, **facts), Names(names, (), ())

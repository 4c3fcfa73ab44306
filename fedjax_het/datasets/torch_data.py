"""PyTorch: federations from map-style datasets, anything with `len(dataset)` and `dataset[i] -> (x, y)`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_het.check import require, short
from fedjax_het.construct import from_clients, from_index_lists
from fedjax_het.federation import Federation
from fedjax_het.frames import Names

__all__ = ["from_torch"]


def from_torch(
    dataset: Any,
    parts: Any = None,
    *,
    replacement: bool = False,
    test: float = 0.2,
    valid: float = 0.0,
    seed: int = 0,
    task: str = "classification",
    num_classes: int | None = None,
    name: str = "torch",
    scale: float | None = None,
) -> tuple[Federation, Names]:
    """A federation from a dataset and index lists, or from one dataset a client.

    `federation, names = from_torch(images, [[0, 5, 2], [1, 3]])`, or `from_torch(random_split(images, sizes))`,
    or `from_torch({"Oslo": oslo, "Bergen": bergen})`. Every row is read once, so a random transform (an
    augmentation) is drawn once and stays. A TensorDataset of x and y is read in one piece, everything else
    row by row. PyTorch itself is never imported.

    Args:
        dataset: a dataset; or, without `parts`, a list of datasets, one a client, or a dict of them. When they
            are Subsets of one dataset, that one is read once.
        parts: N arrays of row numbers of the dataset, or a dict of them whose keys name the clients.
        replacement: whether a row of the one dataset may be listed twice, by two clients or by one.
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.
        seed: of the cut.
        task: see `pool`, as are the arguments below.
        num_classes: K; the largest label plus one if not given.
        name: for tables and messages.
        scale: factor for integer features.

    Returns:
        (federation, names). `names.clients` are the keys, or 0..N-1 for lists. Row i of the pool is row i of
        the one dataset; of several, their rows follow each other.

    Raises:
        TypeError: no dataset of this kind (an IterableDataset, say), rows that are not (x, y).
        ValueError: rows of different shapes, named by client and row, a row in two parts, and see
            `from_index_lists` and `from_clients`.
    """
    facts = {"task": task, "num_classes": num_classes, "name": name, "scale": scale}
    cut = {"test": test, "valid": valid, "seed": seed}
    listed = {"replacement": replacement, **cut, **facts}
    if parts is not None:
        names, lists = _named("parts", parts)
        return from_index_lists(*_arrays("dataset", dataset), lists, **listed), Names(names, (), ())
    names, held = _named("dataset", dataset)
    bases, lists = zip(*(_resolved(each) for each in held))
    if all(rows is not None and base is bases[0] for base, rows in zip(bases, lists)):
        return from_index_lists(*_arrays("dataset", bases[0]), lists, **listed), Names(names, (), ())
    arrays = {key: _arrays(f"client {key!r}", each) for key, each in zip(names, held)}
    return from_clients(arrays, **cut, **facts), Names(names, (), ())


def _named(argument: str, value: Any) -> tuple[tuple[Any, ...], list[Any]]:
    """(names, values) of a dict or a list of clients."""
    if isinstance(value, Mapping):
        names, held = tuple(value), list(value.values())
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        names, held = tuple(range(len(value))), list(value)
    else:
        remedy = "pass parts=, a list of row numbers a client" if argument == "dataset" else "pass lists"
        raise TypeError(f"{argument} must be a list or dict, one entry a client, got {short(value)}: {remedy}")
    require(len(held) > 0, f"{argument} must list at least one client, got none: pass one entry a client")
    return names, held


def _is(dataset: Any, kind: str) -> bool:
    """Whether this is PyTorch's own `kind`: a class that derives from it may give other rows."""
    utils = sys.modules.get("torch.utils.data")
    return utils is not None and type(dataset) is getattr(utils, kind)


def _resolved(dataset: Any) -> tuple[Any, np.ndarray | None]:
    """(the dataset behind Subsets of Subsets, which of its rows); no rows for a dataset that is no Subset."""
    rows = None
    while _is(dataset, "Subset"):
        own = np.asarray(dataset.indices, np.int64).reshape(-1)
        dataset, rows = dataset.dataset, own if rows is None else own[rows]
    return dataset, rows


def _arrays(where: str, dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """All rows of a dataset: x [M, ...] and y [M, ...]."""
    base, rows = _resolved(dataset)
    if _is(base, "TensorDataset") and len(base.tensors) == 2:
        x, y = map(_numpy, base.tensors)
        return (x, y) if rows is None else (x[rows], y[rows])
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(
            f"{where} must have a length and rows by number, got {type(dataset).__name__}: make a map-style "
            "dataset of it, such as list(dataset)"
        )
    pairs = [_pair(where, row, dataset[row]) for row in range(len(dataset))]
    if not pairs:
        return np.zeros(0), np.zeros(0, np.int64)
    x, y = (_stack(where, part, entries) for part, entries in zip("xy", zip(*pairs)))
    return x, y


def _pair(where: str, row: int, entry: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(entry, (tuple, list)) or len(entry) != 2:
        raise TypeError(
            f"{where}: row {row} must be (x, y), got {short(entry)}: wrap the dataset in one of such pairs"
        )
    return _numpy(entry[0]), _numpy(entry[1])


def _numpy(value: Any) -> np.ndarray:
    """A tensor, on whatever device, a picture or a number as an array."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _stack(where: str, part: str, entries: Sequence[np.ndarray]) -> np.ndarray:
    first = entries[0]
    for row, entry in enumerate(entries):
        require(
            entry.shape == first.shape,
            f"{where}: {part} of row {row} must have shape {first.shape} as row 0 has, got {entry.shape}: "
            "resize, cut or pad it",
        )
    return np.stack(entries)

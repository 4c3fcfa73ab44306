"""Hugging Face: federations from a `datasets.Dataset` with a column that says whose row it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedjax_het.check import known, require, short
from fedjax_het.construct import from_groups
from fedjax_het.datasets.named import Block, joined, sources
from fedjax_het.extras import need
from fedjax_het.federation import Federation
from fedjax_het.frames import Names

__all__ = ["from_hugging_face"]


def from_hugging_face(
    dataset: Any,
    test: Any = 0.2,
    *,
    client: str,
    x: str | Sequence[str],
    y: str,
    valid: Any = 0.0,
    seed: int = 0,
    task: str = "classification",
    num_classes: int | None = None,
    name: str = "hugging_face",
    scale: float | None = None,
) -> tuple[Federation, Names]:
    """A federation with one client for each value of a column of a `datasets.Dataset`.

    `federation, names = from_hugging_face(data["train"], data["test"], client="writer_id", x="image",
    y="character")`. The rows are those that the dataset shows: select, shuffle, filter and sort count. A
    format or a transform that was set on it does not: columns are read as numbers of the type that the
    features declare. To draw clients from a dataset without such a column, take its columns as arrays and
    a partitioner of `heterogeneity`, or `from_flower`.

    Args:
        dataset: a `datasets.Dataset`, in memory or mapped.
        test: another one with the same columns for the test rows; or a fraction of each client's rows to hold
            out, stratified by label.
        valid: the same for validation.
        client: the column that says whose row it is: numbers, text or classes.
        x: a column of images, arrays or lists of one shape, or of numbers; or a list of columns of numbers,
            which are set side by side.
        y: the column to predict: whole numbers or classes, or numbers for regression.
        seed: of the cut.
        task: see `pool`, as are the arguments below.
        num_classes: K; the number of names if `y` is a ClassLabel, else the largest label plus one.
        name: for tables and messages.
        scale: factor for integer features.

    Returns:
        (federation, names). Client k is `names.clients[k]`, in sorted order (by number for a ClassLabel);
        `names.features` lists the columns of x if there are several, `names.labels` the classes of a
        ClassLabel. Without a dataset for `test` or `valid`, row i of the pool is row i of `dataset`.

    Raises:
        ModuleNotFoundError: the package datasets is not installed.
        TypeError: no `datasets.Dataset`, columns that are not numbers.
        ValueError: an unknown column, missing values, rows of different shapes, features that differ from
            dataset to dataset, a client with test rows only; the message names the column. And see
            `from_groups`.
    """
    datasets = need("datasets", "hf")
    columns = [x] if isinstance(x, str) else list(x)
    require(len(columns) > 0, "x must list at least one column, got none: pass what to predict from")
    kinds = (datasets.Dataset, datasets.DatasetDict, datasets.IterableDataset)
    opened = sources(dataset, valid, test, kinds, task)
    for split, held in opened.items():
        _expect(split if split != "train" else "dataset", held, datasets.Dataset, [client, *columns, y])
        for column in [client, *columns, y]:
            wanted, got = dataset.features[column], held.features[column]
            require(
                got == wanted,
                f"{split} must have {short(wanted)} in column {column!r} as dataset has, got {short(got)}: "
                f"cast it, as by {split}.cast(dataset.features)",
            )
    classes = () if task == "regression" else tuple(getattr(dataset.features[y], "names", ()))
    if classes and num_classes is None:
        num_classes = len(classes)
    facts = {"task": task, "num_classes": num_classes, "name": name, "scale": scale}
    features = () if isinstance(x, str) else tuple(columns)
    arrays = {
        split: (_features(held, x), _numbers(held, y), _column(held, client)) for split, held in opened.items()
    }
    spelt = getattr(dataset.features[client], "names", None)
    for split, (_, _, group) in arrays.items():
        require(
            not spelt or int(group.min()) >= 0,
            f"column {client!r} must name a client in every row, got -1 in {split}: filter these rows out",
        )
    if len(opened) == 1:
        federation = from_groups(*arrays["train"], test=test, valid=valid, seed=seed, **facts)
        clients = tuple(np.unique(arrays["train"][2]).tolist())
    else:
        splits = {split: _blocks(split, *held) for split, held in arrays.items()}
        federation, names = joined(splits, test=test, valid=valid, seed=seed, **facts)
        clients = names.clients
    if spelt:
        clients = tuple(spelt[value] for value in clients)
    return federation, Names(clients, features, classes)


def _expect(name: str, held: Any, kind: type, columns: list[str]) -> None:
    """Raise unless `held` is a dataset with these columns and rows."""
    if not isinstance(held, kind):
        splits = list(held) if isinstance(held, dict) else []
        remedy = f"pass one of its splits, such as [{splits[0]!r}]" if splits else "load it without streaming"
        raise TypeError(f"{name} must be a datasets.Dataset, got {type(held).__name__}: {remedy}")
    for column in columns:
        known(f"column of {name}", column, held.column_names)
    require(len(held) > 0, f"{name} must have rows, got none: check how it was filtered")


def _column(dataset: Any, name: str) -> np.ndarray:
    """A column as an array of the type its features declare, complete and of rows of one shape."""
    # only this column, so that images elsewhere are not decoded; the slice reads it in one piece
    alone = dataset.select_columns([name])
    try:
        values = alone.with_format("numpy", **_kind(dataset.features[name]))[name][:]
    except ValueError:  # arrays with a hole among them
        values = np.zeros(0, object)
    if values.dtype.kind == "O":
        _even(name, alone.with_format(None)[name][:])
    return values


def _even(name: str, entries: list[Any]) -> None:
    """Raise if an entry is missing or differs in shape, either of which keeps NumPy from one array."""
    holes = [row for row, entry in enumerate(entries) if entry is None]
    if holes:
        raise ValueError(
            f"column {name!r} must have no missing values, got {len(holes)}, the first in row {holes[0]}: drop "
            "these rows, as by dataset.filter, or fill them in"
        )
    shapes: dict[tuple[int, ...], int] = {}
    for row, entry in enumerate(entries):
        shapes.setdefault(_shape(entry), row)
    (first, _), *others = shapes.items()
    for shape, row in others:
        raise ValueError(
            f"column {name!r} must have rows of one shape, got {first} in row 0 and {shape} in row {row}: "
            "resize, cut or pad them, as by dataset.map"
        )


def _shape(entry: Any) -> tuple[int, ...]:
    try:
        return np.shape(entry)
    except ValueError:  # ragged inside
        return (len(entry), -1)


def _kind(feature: Any) -> dict[str, str]:
    """The type of a feature's numbers; none given, datasets makes int64 and float32 of all."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    try:
        return {"dtype": np.dtype(feature.dtype).name}
    except (AttributeError, TypeError):
        return {}


def _numbers(dataset: Any, name: str) -> np.ndarray:
    values = _column(dataset, name)
    if values.dtype.kind not in "biuf":
        raise TypeError(
            f"column {name!r} must hold numbers, got {short(dataset.features[name])}: number text by "
            f"dataset.class_encode_column({name!r}), or tokens by dataset.map"
        )
    return values


def _features(dataset: Any, x: str | Sequence[str]) -> np.ndarray:
    """One column as it is, or several side by side."""
    if isinstance(x, str):
        return _numbers(dataset, x)
    held = [_numbers(dataset, column) for column in x]
    wrong = [column for column, values in zip(x, held) if values.ndim != 1]
    require(
        not wrong,
        f"x must list columns of one number a row, got {wrong} of arrays: pass one such column by its name",
    )
    return np.stack(held, axis=1)


def _blocks(split: str, x: np.ndarray, y: np.ndarray, group: np.ndarray) -> dict[Any, Block]:
    """The rows of each client of one dataset."""
    found, code, sizes = np.unique(group, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(code, kind="stable"), np.cumsum(sizes)[:-1])
    return {name: Block(x[own], y[own], f"the {split} dataset") for name, own in zip(found.tolist(), rows)}

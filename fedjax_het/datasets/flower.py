"""Flower: federations from the partitioners of the package flwr-datasets."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedjax_het.check import known, require, short
from fedjax_het.construct import from_index_lists
from fedjax_het.extras import need
from fedjax_het.federation import Federation
from fedjax_het.frames import Names
from fedjax_het.pool import Pool

__all__ = ["from_flower"]

INDEX = "idx"
"""The column of row numbers."""


def from_flower(
    partitioner: Any,
    x: Any,
    y: Any = None,
    *,
    columns: Mapping[str, Any] | None = None,
    test: float = 0.2,
    valid: float = 0.0,
    seed: int = 0,
    **facts: Any,
) -> tuple[Federation, Names]:
    """A federation in which client k holds the rows of `partitioner.load_partition(k)`.

    `federation, names = from_flower(DirichletPartitioner(num_partitions=100, partition_by="label", alpha=0.1),
    x, y)`. The partitioner sees a dataset of row numbers ("idx"), labels ("label") and what else `columns`
    holds, never the features: no image goes through Arrow. A copy of it does the work, so it may be used
    again.

    A partitioner that has a dataset already is used as it is. The dataset must have a column "idx" with the
    row of x that each of its rows stands for; `columns` is then of no use.

    Args:
        partitioner: any partitioner of flwr-datasets that splits rows.
        x: features [M, ...], or a Pool (then `y` is None and no facts are given).
        y: targets [M, ...].
        columns: more columns for the partitioner, name -> M values, as for `partition_by="writer"`. "label" is
            y if y is one number a row.
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.
        seed: of the cut; the partition comes from the partitioner's own seed.
        facts: task, num_classes, name and scale of `pool`.

    Returns:
        (federation, names). `names.clients` are the values that a partitioner by natural ids splits by (a
        tuple of them for each client of a grouped one), else 0..N-1.

    Raises:
        ModuleNotFoundError: flwr-datasets is not installed.
        TypeError: no partitioner.
        ValueError: a column that the partitioner needs and does not get, columns of another length, a
            partitioner that splits columns, a row in two partitions, and see `from_index_lists`.

    Reference: Beutel et al., "Flower: a friendly federated learning framework", arXiv:2007.14390, 2020.
    """
    partitioners = need("flwr_datasets.partitioner", "hf")
    if not isinstance(partitioner, partitioners.Partitioner):
        raise TypeError(
            f"partitioner must be one of flwr_datasets.partitioner, got {type(partitioner).__name__}: for "
            "index lists use fh.from_index_lists(x, y, parts)"
        )
    num_rows = x.num_rows if isinstance(x, Pool) else len(x)
    if partitioner.is_dataset_assigned():
        require(
            columns is None,
            f"columns must be None for a partitioner that has a dataset, got {short(columns)}: add them to it",
        )
        known("column of the partitioner's dataset", INDEX, partitioner.dataset.column_names)
    else:
        labels = np.asarray(x.y if isinstance(x, Pool) else y)
        partitioner = copy.deepcopy(partitioner)
        partitioner.dataset = _dataset(partitioner, num_rows, labels, columns or {})
    parts = [_rows(partitioner, client) for client in range(partitioner.num_partitions)]
    federation = from_index_lists(x, y, parts, test=test, valid=valid, seed=seed, **facts)
    return federation, Names(_names(partitioner, len(parts)), (), ())


def _dataset(partitioner: Any, num_rows: int, labels: np.ndarray, columns: Mapping[str, Any]) -> Any:
    """Row numbers, labels and more columns."""
    given = ({"label": labels} if labels.shape == (num_rows,) else {}) | dict(columns)
    require(INDEX not in given, f"columns must not hold {INDEX!r}, got it: it is the column of row numbers")
    for name, values in given.items():
        require(
            len(values) == num_rows,
            f"columns must have one value for each of the {num_rows} rows, got {len(values)} in {name!r}: "
            "align them",
        )
    wanted = getattr(partitioner, "_partition_by", None)
    if isinstance(wanted, str):
        known("partition_by", wanted, given)
    return need("datasets", "hf").Dataset.from_dict({INDEX: np.arange(num_rows), **given})


def _rows(partitioner: Any, client: int) -> np.ndarray:
    """The row numbers of one partition."""
    part = partitioner.load_partition(client)
    require(
        INDEX in part.column_names,
        f"partitioner must split rows, got {type(partitioner).__name__}, which splits columns: take another",
    )
    return np.asarray(part.select_columns([INDEX])[INDEX][:], np.int64)


def _names(partitioner: Any, clients: int) -> tuple[Any, ...]:
    """What the partitioner calls its clients."""
    for attribute in ("partition_id_to_natural_id", "partition_id_to_natural_ids"):
        named = getattr(partitioner, attribute, None)
        if named:
            listed = [named[client] for client in range(clients)]
            return tuple(tuple(value) if isinstance(value, list) else value for value in listed)
    return tuple(range(clients))

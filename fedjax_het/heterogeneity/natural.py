"""Natural clients: those whom a column of the data names."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.assembly import partition
from fedjax_het.check import positive_int, require, short
from fedjax_het.federation import Federation
from fedjax_het.pool import Pool, expect_pool
from fedjax_het.split import Held

__all__ = ["groups"]


def groups(
    pool: Pool,
    *,
    group: Any,
    least: int = 1,
    seed: int = 0,
    test: float = 0.2,
    valid: float = 0.0,
) -> Federation:
    """One client for each value of a column that has at least so many rows.

    Args:
        pool: M rows.
        group: whose each row is, M values that can be sorted.
        least: rows that a client must have; the rows of smaller ones belong to nobody.
        seed: of the cut.
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.

    Returns:
        The federation; client k holds the k-th of the values kept, in sorted order. truth: "value", which
        value that is, as its place in `numpy.unique(group)`, int32 [N]; "sizes", int32 [N], before the cut,
        and "size_alone", who is known by its size, bool [N].

    Raises:
        TypeError: `pool` is not a Pool, values that cannot be sorted.
        ValueError: not one value a row, a NaN, no client with so many rows (the largest is named).
    """
    rows = expect_pool("pool", pool).num_rows
    least = positive_int("least", least, remedy="1 keeps every client")
    column = np.asarray(group) if hasattr(group, "__array__") else np.fromiter(group, object, len(group))
    require(
        column.shape == (rows,),
        f"group must have one value for each of the {rows} rows, got shape {column.shape}: align it",
    )
    missing = int(np.sum(column != column))
    require(missing == 0, f"group must hold no NaN, got {missing}: drop these rows, or give them a value")
    try:
        _, value, size = np.unique(column, return_inverse=True, return_counts=True)
    except TypeError as error:
        raise TypeError(f"group must hold values that can be sorted, got {error}: use one type") from None
    kept = np.flatnonzero(size >= least)
    require(
        len(kept) > 0,
        f"least must be <= {size.max()}, got {short(least)}: no value has more rows than that",
    )
    order = np.argsort(value, kind="stable")
    held = Held(order[np.isin(value[order], kept)], size[kept])
    truth = {"value": kept.astype(np.int32)}
    return partition(pool, held, test=test, valid=valid, seed=seed, truth=truth)

"""Row numbers of each client made into a Federation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any

import jax
import numpy as np

from fedjax_het.buffers import room, taken
from fedjax_het.check import require
from fedjax_het.federation import Federation, FederationSpec, Rows, Transform
from fedjax_het.pool import Pool, expect_pool
from fedjax_het.split import Drawn, Held, every_client
from fedjax_het.transforms import check_transforms, numbers

__all__ = ["assemble", "flatten", "partition", "size_truth", "strata"]

LIMIT = 2**31 - 1
"""The most rows that int32 numbers can tell apart."""


def assemble(
    pool: Pool,
    train: Sequence[Any] | Held,
    valid: Sequence[Any] | Held | None = None,
    test: Sequence[Any] | Held | None = None,
    *,
    truth: Mapping[str, Any] | None = None,
    transforms: Sequence[Transform] = (),
    schedule: Any = None,
) -> Federation:
    """A federation from each client's row numbers; the constructor that all others end in.

    Rows may be shared by clients and by splits: whoever wants each row once checks it before. A split without
    any row stores one filler row number that no client owns.

    Args:
        pool: the examples, M rows.
        train: N arrays of row numbers, int [n_k], not all empty; empty ones are empty clients. Or a Held.
        valid: the same for validation; nobody has any if None.
        test: the same for testing; nobody has any if None.
        truth: what was done to make it, name -> numbers, array.
        transforms: per-client changes of x or y, arguments [T, N, ...].
        schedule: round -> phase; see `Federation`.

    Returns:
        The federation: one phase of rows, capacity the largest client of each split.

    Raises:
        TypeError: `pool` is not a Pool, row numbers or truths that are not numbers, a transform that is none.
        ValueError: no clients, no training rows, lists of different lengths, row numbers outside the pool,
            more than 2**31 - 1 of them, transform arguments whose second axis is not N, a transform that does
            not keep shapes and dtypes.
    """
    expect_pool("pool", pool)
    clients = len(train.size if isinstance(train, Held) else _listed("train", train))
    require(clients > 0, "train must list at least one client, got none: pass one array of rows a client")
    rows, capacity = [], []
    for name, parts in (("train", train), ("valid", valid), ("test", test)):
        held = flatten(name, [()] * clients if parts is None else parts, pool.num_rows)
        require(
            len(held.size) == clients,
            f"{name} must list all {clients} clients of train, got {len(held.size)}: give empty arrays to "
            "others",
        )
        rows.append(_rows(held))
        capacity.append(int(held.size.max()))
    require(
        capacity[0] > 0,
        f"train must hold at least one row, got none for any of {clients} clients: give one client rows to "
        "train on",
    )
    check_transforms(transforms, clients, pool.spec, pool.y.dtype, pool.x.dtype)
    leaves = jax.tree.leaves([transform.arguments for transform in transforms])
    phases = max((leaf.shape[0] for leaf in leaves), default=1)
    return Federation(
        x=pool.x,
        y=pool.y,
        train=rows[0],
        valid=rows[1],
        test=rows[2],
        transforms=tuple(transforms),
        schedule=schedule,
        truth={name: numbers(name, value) for name, value in (truth or {}).items()},
        spec=FederationSpec(pool.spec, clients, phases, (capacity[0], capacity[1], capacity[2])),
    )


def partition(
    pool: Pool,
    parts: Sequence[np.ndarray] | Held | Drawn,
    *,
    test: float = 0.2,
    valid: float = 0.0,
    seed: int = 0,
    truth: Mapping[str, Any] | None = None,
    transforms: Sequence[Transform] = (),
) -> Federation:
    """A federation in which each client's own rows are cut into train, valid and test (see `split`).

    Args:
        pool: the examples, M rows.
        parts: N arrays of row numbers, int [n_k]: all that a client holds. Or a Held, or a Drawn.
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.
        seed: of the cut.
        truth: see `assemble`; added are "cut", the fractions (valid, test), float [2], and what `size_truth`
            says.
        transforms: see `assemble`.

    Raises:
        TypeError: see `assemble`.
        ValueError: a fraction out of range, and see `assemble`.
    """
    held = parts if isinstance(parts, Drawn) else flatten("parts", parts, expect_pool("pool", pool).num_rows)
    splits = every_client(strata(pool), held, test=test, valid=valid, seed=seed)
    told = {**(truth or {}), "cut": np.array([valid, test], np.float32), **size_truth(held.size)}
    return assemble(pool, *splits, truth=told, transforms=transforms)


def size_truth(size: np.ndarray) -> dict[str, np.ndarray]:
    """What a federation's truth says of sizes, with a warning: who can be told by them.

    Args:
        size: rows of each client before its cut, int [N].

    Returns:
        "sizes", int32 [N]; "size_alone", bool [N]: whether nobody else has this size, so that whoever sees
        exact sizes, as a server that weighs by them does, knows the client by it.
    """
    _, place, count = np.unique(size, return_inverse=True, return_counts=True)
    return {"sizes": size.astype(np.int32), "size_alone": count[place] == 1}


def strata(pool: Pool) -> np.ndarray | None:
    """The labels that a cut is stratified by, int [M]; None if the rows have no label each."""
    labelled = pool.spec.task == "classification" and pool.spec.target_shape == ()
    return pool.labels if labelled else None


def flatten(name: str, parts: Sequence[Any] | Held, num_rows: int) -> Held:
    """Lists of row numbers, one after the other, checked.

    Args:
        name: the argument's name, for messages.
        parts: N arrays of row numbers; or a Held, which is checked too.
        num_rows: M.

    Raises:
        TypeError: row numbers that are not whole numbers.
        ValueError: a number outside 0..M-1, or too many of them.
    """
    if not isinstance(parts, Held):
        _listed(name, parts)
        total = sum(map(len, parts))
        require(max(total, num_rows) <= LIMIT, _too_many(name, max(total, num_rows)))
        parts = Held.of(parts)
    flat, sizes = parts
    require(max(len(flat), num_rows) <= LIMIT, _too_many(name, max(len(flat), num_rows)))
    if flat.dtype.kind not in "iu" or flat.ndim != 1:
        raise TypeError(
            f"{name} must hold one-dimensional arrays of row numbers, got dtype {flat.dtype} and {flat.ndim} "
            "dimensions: turn masks into numbers with numpy.flatnonzero"
        )
    if len(flat) and (flat.min() < 0 or flat.max() >= num_rows):
        place = int(np.argmax((flat < 0) | (flat >= num_rows)))
        client = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
        raise ValueError(
            f"{name} must hold row numbers in 0..{num_rows - 1}, got {flat[place]} for client {client}: "
            "number the rows of the pool"
        )
    return Held(flat.astype(np.int32, copy=False), sizes)


def _too_many(name: str, rows: int) -> str:
    return (
        f"{name} must hold at most {LIMIT} rows, got {rows}: row numbers are int32, so make several federations"
    )


def _listed(name: str, parts: Any) -> Any:
    """`parts`, which must be a list with one array of row numbers a client."""
    form = f"{name} must be a list of arrays of row numbers, one a client"
    if not isinstance(parts, Collection) or isinstance(parts, (Mapping, Set, str, bytes)):
        remedy = f"pass list({name}.values())" if isinstance(parts, Mapping) else "pass a list of arrays"
        raise TypeError(f"{form}, got {type(parts).__name__}: {remedy}")
    for client, part in enumerate(parts):
        array = hasattr(part, "__array__") and np.ndim(part) > 0
        if not array and not (isinstance(part, Sequence) and not isinstance(part, (str, bytes))):
            raise TypeError(
                f"{form}, got {type(part).__name__} for client {client}: pass one array a client, such as "
                "[[0, 1], [2, 3]]"
            )
    return parts


def _rows(held: Held) -> Rows:
    size = room((1, len(held.size)), np.int32)
    size[0] = held.size
    offset = size  # of nobody's rows: all zero
    if len(held.index):
        offset = room(size.shape, np.int32)
        np.cumsum(held.size, out=offset[0], dtype=np.int32)
        offset -= size
        offset.flags.writeable = False
    size.flags.writeable = False
    index = held.index if len(held.index) else np.zeros(1, np.int32)
    return Rows(taken(index), taken(offset), taken(size))

"""Row numbers of each client made into a Federation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import require
from fedjax_het.federation import Federation, FederationSpec, Rows, Transform
from fedjax_het.pool import Pool, expect_pool
from fedjax_het.split import every_client
from fedjax_het.transforms import check_transforms, numbers

__all__ = ["assemble", "flatten", "partition", "strata"]

LIMIT = 2**31 - 1
"""The most rows that int32 numbers can tell apart."""


def assemble(
    pool: Pool,
    train: Sequence[Any],
    valid: Sequence[Any] | None = None,
    test: Sequence[Any] | None = None,
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
        train: N arrays of row numbers, int [n_k], not all empty; empty ones are empty clients.
        valid: the same for validation; nobody has any if None.
        test: the same for testing; nobody has any if None.
        truth: what was done to make it, name -> numbers, array.
        transforms: per-client changes of x or y, arguments [T, N, ...].
        schedule: round -> phase; see `Federation`.

    Returns:
        The federation: one phase of rows, capacity the largest client of each split.

    Raises:
        TypeError: `pool` is not a Pool, row numbers or truths that are not numbers.
        ValueError: no clients, no training rows, lists of different lengths, row numbers outside the pool,
            more than 2**31 - 1 of them, transform arguments whose second axis is not N.
    """
    expect_pool("pool", pool)
    _listed("train", train)
    clients = len(train)
    require(clients > 0, "train must list at least one client, got none: pass one array of rows a client")
    rows = []
    for name, parts in (("train", train), ("valid", valid), ("test", test)):
        parts = [()] * clients if parts is None else parts
        _listed(name, parts)
        require(
            len(parts) == clients,
            f"{name} must list all {clients} clients of train, got {len(parts)}: give empty arrays to others",
        )
        rows.append(_rows(*flatten(name, parts, pool.num_rows)))
    require(
        int(rows[0].size.max()) > 0,
        f"train must hold at least one row, got none for any of {clients} clients: give one client rows to "
        "train on",
    )
    check_transforms(transforms, clients, pool.spec, pool.y.dtype, pool.x.dtype)
    leaves = jax.tree.leaves([transform.arguments for transform in transforms])
    phases = max((leaf.shape[0] for leaf in leaves), default=1)
    most_train, most_valid, most_test = (int(split.size.max()) for split in rows)
    return Federation(
        x=pool.x,
        y=pool.y,
        train=rows[0],
        valid=rows[1],
        test=rows[2],
        transforms=tuple(transforms),
        schedule=schedule,
        truth={name: numbers(name, value) for name, value in (truth or {}).items()},
        spec=FederationSpec(pool.spec, clients, phases, (most_train, most_valid, most_test)),
    )


def partition(
    pool: Pool,
    parts: Sequence[np.ndarray],
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
        parts: N arrays of row numbers, int [n_k]: all that a client holds.
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.
        seed: of the cut.
        truth: see `assemble`.
        transforms: see `assemble`.

    Raises:
        TypeError: see `assemble`.
        ValueError: a fraction out of range, and see `assemble`.
    """
    flatten("parts", parts, expect_pool("pool", pool).num_rows)
    splits = every_client(strata(pool), parts, test=test, valid=valid, seed=seed)
    return assemble(pool, *splits, truth=truth, transforms=transforms)


def strata(pool: Pool) -> np.ndarray | None:
    """The labels that a cut is stratified by, int [M]; None if the rows have no label each."""
    labelled = pool.spec.task == "classification" and pool.spec.target_shape == ()
    return pool.labels if labelled else None


def flatten(name: str, parts: Sequence[Any], num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists of row numbers as one array, checked.

    Args:
        name: the argument's name, for messages.
        parts: N arrays of row numbers.
        num_rows: M.

    Returns:
        (index int32 [R], sizes int64 [N]).

    Raises:
        TypeError: row numbers that are not whole numbers.
        ValueError: a number outside 0..M-1, or too many of them.
    """
    _listed(name, parts)
    sizes = np.fromiter(map(len, parts), np.int64, len(parts))
    total = int(sizes.sum())
    require(
        max(total, num_rows) <= LIMIT,
        f"{name} must hold at most {LIMIT} rows, got {max(total, num_rows)}: row numbers are int32, "
        "so make several federations",
    )
    held = [part for part in parts if len(part)]
    flat = np.concatenate(held) if held else np.zeros(0, np.int32)
    if flat.dtype.kind not in "iu" or flat.ndim != 1:
        raise TypeError(
            f"{name} must hold one-dimensional arrays of row numbers, got dtype {flat.dtype} and {flat.ndim} "
            "dimensions: turn masks into numbers with numpy.flatnonzero"
        )
    wrong = (flat < 0) | (flat >= num_rows)
    if wrong.any():
        place = int(np.argmax(wrong))
        client = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
        raise ValueError(
            f"{name} must hold row numbers in 0..{num_rows - 1}, got {flat[place]} for client {client}: "
            "number the rows of the pool"
        )
    return flat.astype(np.int32), sizes


def _listed(name: str, parts: Any) -> None:
    """Raise unless `parts` is a list with one array of row numbers a client."""
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


def _rows(index: np.ndarray, sizes: np.ndarray) -> Rows:
    offset = np.cumsum(sizes) - sizes
    index = index if len(index) else np.zeros(1, np.int32)
    return Rows(jnp.asarray(index), jnp.asarray(offset[None], jnp.int32), jnp.asarray(sizes[None], jnp.int32))

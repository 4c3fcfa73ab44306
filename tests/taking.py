"""What a client of a federation sees, on the host."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.federation import Batch, Federation

__all__ = ["of_client", "pictures", "rows_of", "taken"]


@functools.partial(jax.jit, static_argnames="split")
def of_client(federation: Federation, client: jax.Array, position: jax.Array, split: str = "train") -> Batch:
    """Rows of one client in phase 0 by their positions; compiled once for all federations of one kind."""
    return federation.data(split, federation.locate(split, jnp.int32(0), client)).take(position)


def rows_of(federation: Federation, client: int, split: str = "train") -> np.ndarray:
    """The row numbers of one client in phase 0, int [n]."""
    rows = federation.rows(split)
    start, size = int(rows.offset[0, client]), int(rows.size[0, client])
    return np.asarray(rows.index)[start : start + size]


def taken(federation: Federation, client: int, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of all rows of one client in phase 0."""
    rows = len(rows_of(federation, client, split))
    capacity = max(1, int(federation.rows(split).size.max()))
    batch = of_client(federation, np.int32(client), np.arange(capacity, dtype=np.int32), split=split)
    return np.asarray(batch.x)[:rows], np.asarray(batch.y)[:rows]


def pictures(
    rng: np.random.Generator, rows: int, shape: tuple[int, ...], *, integers: bool = False
) -> np.ndarray:
    """Random images, floats in 0..1 or uint8."""
    return rng.integers(0, 256, (rows, *shape), dtype=np.uint8) if integers else rng.random((rows, *shape))

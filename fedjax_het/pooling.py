"""All clients' rows in the hands of one: the data of centralised training."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.assembly import assemble
from fedjax_het.federation import SPLITS, Batch, Federation, Rows
from fedjax_het.pool import Pool
from fedjax_het.typing import Array

__all__ = ["pooled"]

GROUP = 65536
"""Rows that are transformed at a time when a federation is pooled."""


def pooled(federation: Federation) -> Federation:
    """One client that owns every row of phase 0, split by split: the data of centralised training.

    A row that k clients hold is held k times, so the training loss is the clients' mean loss weighted by
    their sizes. Transforms are carried out once, into a pool of their own; it holds floats where `take` would
    have cast integers.

    Args:
        federation: of N clients.

    Returns:
        A federation of one client, without transforms, schedule and truth.

    Raises:
        TypeError: `federation` is none.
        ValueError: nobody has a row to train on in phase 0.
    """
    if not isinstance(federation, Federation):
        raise TypeError(
            f"federation must be a Federation, got {type(federation).__name__}: build one with from_clients, "
            "from_groups or from_index_lists"
        )
    spec = federation.spec
    if not federation.transforms:
        source = Pool(federation.x, federation.y, spec.pool)
        return assemble(source, *([_held(federation.rows(split))] for split in SPLITS))
    batches = [_transformed(federation, split) for split in SPLITS]
    x = np.concatenate([batch.x for batch in batches])
    y = np.concatenate([batch.y for batch in batches])
    source = Pool(jnp.asarray(x), jnp.asarray(y), dataclasses.replace(spec.pool, scale=None))
    ends = np.cumsum([len(batch.x) for batch in batches])
    return assemble(source, *([part] for part in np.split(np.arange(len(x)), ends[:-1])))


def _held(rows: Rows) -> np.ndarray:
    offset, size = np.asarray(rows.offset[0], np.int64), np.asarray(rows.size[0], np.int64)
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return np.asarray(rows.index)[np.repeat(offset, size) + within]


def _transformed(federation: Federation, split: str) -> Batch:
    """All rows of a split as clients see them in phase 0, on the host."""
    capacity = federation.spec.capacity[SPLITS.index(split)]
    size = np.asarray(federation.rows(split).size[0])
    slots = max(1, capacity)

    def take(federation: Federation, client: Array) -> Batch:
        located = federation.locate(split, jnp.zeros((), jnp.int32), client)
        return federation.data(split, located).take(jnp.arange(slots, dtype=jnp.int32))

    many = jax.jit(jax.vmap(take, in_axes=(None, 0)))
    step = min(len(size), max(1, GROUP // slots))
    pieces = []
    for start in range(0, len(size), step):
        clients = np.arange(start, start + step)
        batch = many(federation, jnp.asarray(np.minimum(clients, len(size) - 1), jnp.int32))
        count = np.where(clients < len(size), size[np.minimum(clients, len(size) - 1)], 0)
        kept = np.arange(slots) < count[:, None]
        pieces.append(jax.tree.map(lambda leaf, kept=kept: np.asarray(leaf)[kept], batch))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)

"""Rows that a client holds out of its own training rows, on the device: shuffled, stratified by label."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from fedjax_het.federation import Data
from fedjax_het.typing import Array, Key

__all__ = ["held_out", "holdout"]


def held_out(labels: Array, size: Array, fraction: Array, key: Key) -> Array:
    """Which of a client's rows to hold out; bool [n].

    The rows are sorted by label and shuffled within each; then every (1/fraction)-th of them is taken, from a
    random start. So every set of labels that are next to each other, one label and all of them included, gives
    its share of rows to within one.

    Args:
        labels: int [n]; those from `size` on are fillers.
        size: rows that the client has, int32 scalar.
        fraction: of its rows, in [0, 1], scalar.
        key: consumed.
    """
    count = labels.shape[0]
    place = jnp.arange(count, dtype=jnp.int32)
    real = place < size
    start, shuffle = jax.random.split(key)
    draws = jax.random.uniform(shuffle, (count,), fraction.dtype)
    order = jnp.lexsort((draws, labels, ~real))
    offset = jax.random.uniform(start, (), fraction.dtype)
    passed = jnp.floor(jnp.arange(count + 1).astype(fraction.dtype) * fraction + offset)
    taken = jnp.zeros((count,), bool).at[order].set(passed[1:] > passed[:-1])
    return taken & real


def holdout(data: Data, fraction: Array, wanted: Array, key: Key) -> tuple[Data, Data]:
    """(rows to train on, rows held out) of one client's rows; each part keeps their order.

    If nothing were left to train on, nothing is held out.

    Targets that are whole numbers, one a row, are labels; the rows of other targets count as of one label.

    Args:
        data: the client's rows.
        fraction: to hold out, in [0, 1], scalar.
        wanted: whether to hold out any, bool scalar.
        key: consumed.
    """
    place = jnp.arange(max(1, data.capacity), dtype=jnp.int32)
    y = data.take(place).y
    labelled = y.ndim == 1 and jnp.issubdtype(y.dtype, jnp.integer)
    labels = y if labelled else jnp.zeros(place.shape, jnp.int32)
    out = held_out(labels, data.size, fraction, key) & wanted
    out = out & jnp.any(~out & (place < data.size))
    # rows to train on first, then those held out, fillers last
    order = jnp.argsort(jnp.where(place < data.size, out.astype(jnp.int32), 2), stable=True).astype(jnp.int32)
    index = data.index.at[data.offset + order].get(mode="clip")
    count = jnp.sum(out, dtype=jnp.int32)
    zero = jnp.zeros_like(data.offset)
    train = dataclasses.replace(data, index=index, offset=zero, size=data.size - count)
    return train, dataclasses.replace(train, offset=train.size, size=count)

"""Small clients, ways in which they change, and what they hold and see in a phase, read with NumPy."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from probes.blobs import blobs

import fedjax_het as fh
from fedjax_het.assembly import assemble
from fedjax_het.transforms import transformed

__all__ = ["SPLITS", "add", "cut", "dealt", "moved", "poisoned", "rows_of", "scaled", "seen"]

SPLITS = ("train", "valid", "test")


def cut(sizes=(12, 7, 0, 20, 3), *, seed=0):
    """Clients of these sizes; every fifth of their rows is for validation, the next for testing."""
    pool = blobs(sum(sizes), seed=seed)
    rows = np.random.default_rng(seed).permutation(sum(sizes))
    parts = np.split(rows, np.cumsum(sizes)[:-1])
    return assemble(
        pool,
        [np.concatenate([part[0::5], part[1::5], part[2::5]]) for part in parts],
        [part[3::5] for part in parts],
        [part[4::5] for part in parts],
        truth={"marker": np.arange(len(sizes))},
    )


def add(x, y, amount, row):
    """x + amount (scalar)."""
    return x + amount.astype(x.dtype), y


def times_(x, y, factor, row):
    return x * factor.astype(x.dtype), y


def moved(federation, by=1.0):
    """Client k's features moved by `by` (k + 1)."""
    amount = by * np.arange(1, federation.num_clients + 1)[None]
    argument = jnp.asarray(amount, jnp.result_type(float))
    return transformed(federation, fh.Transform(argument, add), truth={"moved": amount[0]})


def scaled(federation, by=3.0):
    """All features times `by`."""
    argument = jnp.full((1, federation.num_clients), by, jnp.result_type(float))
    return transformed(federation, fh.Transform(argument, times_), truth={"scaled": np.asarray(argument[0])})


def dealt(federation, seed=5):
    """Rows exchanged at random among the clients, split by split; sizes stay."""
    rng = np.random.default_rng(seed)
    rows = {split: federation.rows(split) for split in SPLITS}
    new = {
        split: dataclasses.replace(held, index=jnp.asarray(rng.permutation(np.asarray(held.index))))
        for split, held in rows.items()
    }
    return dataclasses.replace(federation, **new)


def rows_of(federation, split, phase=0):
    """The pool's row numbers of every client in a phase, one array a client."""
    rows = federation.rows(split)
    assert rows.offset.shape == rows.size.shape
    at = min(phase, rows.offset.shape[0] - 1)
    index, offset, size = np.asarray(rows.index), np.asarray(rows.offset)[at], np.asarray(rows.size)[at]
    assert offset.shape == size.shape == (federation.num_clients,)
    assert np.all(offset >= 0) and np.all((offset + size <= len(index)) | (size == 0))
    assert size.max() <= federation.spec.capacity[SPLITS.index(split)]
    return [index[start : start + count] for start, count in zip(offset, size)]


_take = jax.jit(
    lambda federation, phase, client, places, split: federation.data(
        split, federation.locate(split, phase, client)
    ).take(places),
    static_argnames="split",
)


def seen(federation, split, phase, client):
    """(x, y) of a client's rows in a phase, as the library takes them."""
    places = jnp.arange(max(1, federation.spec.capacity[SPLITS.index(split)]), dtype=jnp.int32)
    batch = jax.device_get(
        _take(federation, jnp.asarray(phase, jnp.int32), jnp.asarray(client, jnp.int32), places, split)
    )
    held = batch.weight > 0
    return batch.x[held], batch.y[held]


def poisoned(federation, rows):
    """The same with NaN for the features of these rows."""
    return dataclasses.replace(federation, x=federation.x.at[np.asarray(rows, int)].set(jnp.nan))

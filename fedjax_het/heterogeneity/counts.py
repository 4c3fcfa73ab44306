"""How many rows each client holds, and how many of each class."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import known, positive_int, require
from fedjax_het.federation import CHUNK, SPLITS, Batch, Federation
from fedjax_het.transforms import expect_federation
from fedjax_het.typing import Array

__all__ = ["expect_labels", "held_rows", "label_counts", "labelled", "pool_counts", "row_chunk", "sizes_of"]

SMALLEST = 16
"""The fewest rows of one step of a pass over small clients."""


def label_counts(federation: Federation, *, split: str = "train", phase: int = 0) -> np.ndarray:
    """How many rows of each class each client holds, int [N, K], as local work sees them.

    Labels are counted after the federation's transforms, so a client that swaps two labels is seen to.

    Args:
        federation: of labelled rows.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Raises:
        TypeError: `federation` is not a Federation.
        ValueError: its rows have no label each, or there is no such split or phase.
    """
    size = _located(federation, split, phase)[1]
    expect_labels(federation)
    if not federation.transforms:
        return pool_counts(federation, split=split, phase=phase)
    at, classes = jnp.asarray(phase, jnp.int32), int(federation.spec.pool.num_classes or 0)
    return np.asarray(_transformed_counts(federation, at, split, classes, row_chunk(size)), np.int64)


def pool_counts(federation: Federation, *, split: str = "train", phase: int = 0) -> np.ndarray:
    """As `label_counts`, before any transform: the labels that the pool has, int [N, K].

    Raises:
        TypeError, ValueError: see `label_counts`.
    """
    size = _located(federation, split, phase)[1]
    expect_labels(federation)
    classes = int(federation.spec.pool.num_classes or 0)
    owner, row = held_rows(federation, split=split, phase=phase)
    flat = owner * classes + np.asarray(federation.y)[row]
    return np.bincount(flat, minlength=len(size) * classes).reshape(len(size), classes)


def sizes_of(federation: Federation, *, split: str = "train", phase: int = 0) -> np.ndarray:
    """How many rows each client holds, int64 [N].

    Args:
        federation: any.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Raises:
        TypeError: `federation` is not a Federation.
        ValueError: no such split or phase.
    """
    return _located(federation, split, phase)[1]


def held_rows(federation: Federation, *, split: str = "train", phase: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Who holds which rows: (client, row number of the pool), int64 and int32 [R], client by client.

    Raises:
        TypeError, ValueError: see `sizes_of`.
    """
    offset, size = _located(federation, split, phase)
    owner = np.repeat(np.arange(len(size)), size)
    begins = np.repeat(offset - (np.cumsum(size) - size), size)
    return owner, np.asarray(federation.rows(split).index)[begins + np.arange(len(owner))]


def labelled(federation: Federation) -> bool:
    """Whether each row has one label, so that labels can be counted."""
    pool = federation.spec.pool
    return pool.task == "classification" and pool.num_classes is not None and pool.target_shape == ()


def expect_labels(federation: Federation) -> None:
    """Raise unless each row has one label.

    Raises:
        ValueError: they have not.
    """
    pool = federation.spec.pool
    require(
        labelled(federation),
        f"federation must hold one label a row, got task {pool.task!r} of {pool.name!r}: use client_sizes, or "
        "pass counts [N, K] of your own",
    )


def row_chunk(size: np.ndarray) -> int:
    """Rows of one step of a pass over clients of these sizes: about a client's, a power of two."""
    typical = size[size > 0].mean() if (size > 0).any() else 1
    return int(np.clip(2 ** np.ceil(np.log2(typical)), SMALLEST, CHUNK))


def _located(federation: Any, split: str, phase: int) -> tuple[np.ndarray, np.ndarray]:
    """(offset, size) of each client's rows, int64 [N]."""
    expect_federation("federation", federation)
    known("split", split, SPLITS)
    phase = positive_int("phase", phase, least=0, remedy="the first is 0")
    phases = federation.spec.phases
    require(phase < phases, f"phase must be < {phases}, got {phase}: the federation has no later one")
    rows = federation.rows(split)
    at = min(phase, rows.size.shape[0] - 1)
    return np.asarray(rows.offset[at], np.int64), np.asarray(rows.size[at], np.int64)


def _count(federation: Federation, phase: Array, split: str, classes: int, chunk: int) -> Array:
    """Counts of the labels that come out of the transforms, int32 [N, K]."""

    def one(client: Array) -> Array:
        data = federation.data(split, federation.locate(split, phase, client))

        def add(counts: Array, batch: Batch) -> Array:
            return counts.at[batch.y].add((batch.weight > 0).astype(jnp.int32), mode="drop")

        return data.fold_full(add, jnp.zeros((classes,), jnp.int32), chunk=chunk)

    return jax.lax.map(one, jnp.arange(federation.num_clients, dtype=jnp.int32))


_transformed_counts = jax.jit(_count, static_argnames=("split", "classes", "chunk"))

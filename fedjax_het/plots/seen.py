"""Rows of a few clients as they see them, brought to the host."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import known, positive_int, require
from fedjax_het.federation import SPLITS, Federation, pool_rows
from fedjax_het.heterogeneity.counts import held_rows, sizes_of
from fedjax_het.plots.truth import clusters_of, numbers_of
from fedjax_het.typing import Array

__all__ = ["expect_rows", "few", "flat", "labels_of_rows", "labels_seen", "spread_out", "taken"]

AT_ONCE = 4096
"""Rows whose labels are followed through the transforms at a time."""


def taken(
    federation: Federation, ids: np.ndarray, position: np.ndarray, *, split: str, phase: int
) -> tuple[np.ndarray, np.ndarray]:
    """(x [m, n, ...], y [m, n, ...]) at these positions of each client's rows, after all transforms.

    Args:
        federation: any.
        ids: who, int [m].
        position: which of its rows, int [m, n]; those past a client's end go round.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.
    """
    x, y = _taken(federation, _whole(ids), _whole(position), _whole(phase), split)
    return np.asarray(x), np.asarray(y)


def labels_seen(federation: Federation, ids: np.ndarray, longest: int, *, split: str, phase: int) -> np.ndarray:
    """The labels of each client's first `longest` rows, after all transforms, int [m, longest]; see `taken`."""
    position = np.broadcast_to(np.arange(longest), (len(ids), longest))
    return np.asarray(_labels(federation, _whole(ids), _whole(position), _whole(phase), split))


def labels_of_rows(
    federation: Federation, *, split: str, phase: int, pad: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(client, label in the pool, label after all transforms) of every row that a client holds, int [R].

    Of tokens the labels are all targets of a row, [R, ...].

    Args:
        federation: of labelled rows, or of tokens.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.
        pad: rows that the compiled program takes at least, so that one does for several phases.
    """
    owner, row = held_rows(federation, split=split, phase=phase)
    before = np.asarray(federation.y)[row]
    if not federation.transforms or not len(row):
        return owner, before, before
    more = (0, max(0, pad - len(row)))
    after = _relabelled(federation, _whole(np.pad(owner, more)), _whole(np.pad(row, more)), _whole(phase))
    return owner, before, np.asarray(after)[: len(row)]


def expect_rows(federation: Federation, *, split: str, phase: int, least: int = 1) -> np.ndarray:
    """Which clients hold rows, int [n].

    Raises:
        TypeError: `federation` is not a Federation.
        ValueError: no such split or phase, fewer than `least` clients with rows.
    """
    holders = np.flatnonzero(sizes_of(federation, split=split, phase=phase))
    require(
        len(holders) >= least,
        f"federation must have {least} or more clients with rows of {split!r} in phase {phase}, got "
        f"{len(holders)}: take another split or phase",
    )
    return holders


def few(federation: Federation, clients: object, *, split: str, phase: int, most: int) -> np.ndarray:
    """The clients to be shown, int [m].

    Args:
        federation: any.
        clients: their numbers; or how many, chosen by `spread_out`.
        split: "train", "valid" or "test"; only clients with rows of it are chosen.
        phase: of a federation that changes over time.
        most: m at most.

    Raises:
        TypeError: `federation` is not a Federation, clients that are not whole numbers.
        ValueError: no client with rows, numbers that no client has, none or too many of them.
    """
    known("split", split, SPLITS)
    holders = expect_rows(federation, split=split, phase=phase)
    if np.ndim(clients) == 0:  # pyright: ignore[reportArgumentType]
        many = positive_int("clients", clients, remedy="say how many are shown, or which")
        require(many <= most, f"clients must be <= {most}, got {many}: more do not fit in the picture")
        return spread_out(federation, holders, many)
    ids = np.asarray(clients)
    if ids.dtype.kind not in "iu" and ids.size:
        raise TypeError(f"clients must be whole numbers, got dtype {ids.dtype}: pass their numbers")
    require(
        ids.ndim == 1 and 0 < len(ids) <= most and bool(np.isin(ids, np.arange(federation.num_clients)).all()),
        f"clients must be 1..{most} numbers in 0..{federation.num_clients - 1}, got {ids.tolist()}: pass such",
    )
    return ids.astype(np.int64)


def spread_out(federation: Federation, holders: np.ndarray, many: int) -> np.ndarray:
    """`many` of these clients, int [m]: from all clusters in turn; else from the lowest to the highest number
    that tells them apart; else evenly over their ids."""
    if len(holders) <= many:
        chosen = holders
    elif (cluster := clusters_of(federation)) is not None:
        _, group = np.unique(cluster[holders], return_inverse=True)
        order = np.argsort(group, kind="stable")
        count = np.bincount(group)
        within = np.empty(len(holders), int)
        within[order] = np.arange(len(holders)) - np.repeat(np.cumsum(count) - count, count)
        chosen = holders[np.lexsort((group, within))[:many]]
    else:
        numbers = list(numbers_of(federation).values())
        ranked = holders[np.argsort(numbers[0][holders], kind="stable")] if numbers else holders
        return ranked[np.linspace(0, len(ranked) - 1, many).round().astype(int)]
    cluster = clusters_of(federation)
    return np.sort(chosen) if cluster is None else chosen[np.lexsort((chosen, cluster[chosen]))]


def flat(x: np.ndarray) -> np.ndarray:
    """Rows as vectors, float64 [n, d]."""
    return x.reshape(len(x), -1).astype(np.float64)


def _whole(values: object) -> Array:
    return jnp.asarray(values, jnp.int32)  # pyright: ignore[reportArgumentType]


@functools.partial(jax.jit, static_argnames="split")
def _taken(
    federation: Federation, ids: Array, position: Array, phase: Array, split: str
) -> tuple[Array, Array]:
    def one(client: Array, place: Array) -> tuple[Array, Array]:
        batch = federation.data(split, federation.locate(split, phase, client)).take(place)
        return batch.x, batch.y

    return jax.lax.map(lambda given: one(*given), (ids, position))


@functools.partial(jax.jit, static_argnames="split")
def _labels(federation: Federation, ids: Array, position: Array, phase: Array, split: str) -> Array:
    # the features are not asked for, so that no image is ever turned
    return _taken(federation, ids, position, phase, split)[1]


@jax.jit
def _relabelled(federation: Federation, owner: Array, row: Array, phase: Array) -> Array:
    def one(given: tuple[Array, Array]) -> Array:
        client, number = given
        x, y = pool_rows(federation.x, federation.y, federation.spec.pool.scale, number[None])
        for transform in federation.transforms:
            x, y = transform.function(x, y, transform.of(phase, client), number[None])
        return y[0]

    return jax.lax.map(one, (owner, row), batch_size=AT_ONCE)

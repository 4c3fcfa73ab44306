"""How the clients of a federation change from phase to phase."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.counts import held_rows, sizes_of
from fedjax_het.plots.seen import labels_of_rows
from fedjax_het.typing import Array, PyTree

__all__ = ["changed_share", "label_totals", "phase_by_round", "sizes_by_phase"]

BUDGET = 20_000
"""Rows that are compared where transforms change, about."""


def phase_by_round(federation: Federation, rounds: int) -> np.ndarray:
    """The phase of rounds 0, 1, ..., int [rounds]; phases past the last repeat it."""
    phase = jax.vmap(federation.phase)(jnp.arange(rounds, dtype=jnp.int32))
    return np.minimum(np.asarray(phase), federation.spec.phases - 1)


def sizes_by_phase(federation: Federation, *, split: str) -> np.ndarray:
    """Rows of each client in each phase, int [T, N]."""
    return np.stack([sizes_of(federation, split=split, phase=t) for t in range(federation.spec.phases)])


def label_totals(federation: Federation, *, split: str) -> np.ndarray:
    """Rows of each class that all clients hold together in each phase, as they see them, int [T, K]."""
    classes = int(federation.spec.pool.num_classes or 0)
    most = int(sizes_by_phase(federation, split=split).sum(1).max())
    told = []
    for phase in range(federation.spec.phases):
        _, _, label = labels_of_rows(federation, split=split, phase=phase, pad=most)
        told.append(np.bincount(label, minlength=classes))
    return np.stack(told)


def changed_share(federation: Federation, ids: np.ndarray, *, split: str) -> np.ndarray:
    """Share of a client's rows in phase t that it did not hold in phase 0 or saw otherwise there, float [n, T].

    Exact where transforms stay what they are; else of evenly spaced rows of each client, at least four. NaN
    where a client holds no rows.

    Args:
        federation: of several phases.
        ids: who, int [n].
        split: "train", "valid" or "test".
    """
    phases = federation.spec.phases
    size = sizes_by_phase(federation, split=split)[:, ids]
    moved = _arguments_moved(federation)[:, ids]
    most = int(size.max(initial=1))
    if moved.any():
        most = min(most, max(4, BUDGET // (len(ids) * phases)))
    table = federation.rows(split)
    index, offset = np.asarray(table.index), np.asarray(table.offset)
    first = _pairs(federation, *held_rows(federation, split=split, phase=0))
    some = np.flatnonzero(moved.any(0))
    share = np.full((len(ids), phases), np.nan)
    for phase in range(phases):
        many = np.minimum(size[phase], most)
        owner = np.repeat(np.arange(len(ids)), many)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(many) - many, many)
        place = number * size[phase][owner] // np.maximum(many, 1)[owner]
        row = index[offset[min(phase, len(offset) - 1)][ids][owner] + place]
        changed = ~np.isin(_pairs(federation, ids[owner], row), first)
        if moved[phase].any():
            spread = np.arange(most) * size[phase][some, None] // np.maximum(many, 1)[some, None]
            at, who, where = (jnp.asarray(each, jnp.int32) for each in (phase, ids[some], spread))
            other = np.zeros((len(ids), most), bool)
            other[some] = np.asarray(_otherwise(federation, at, who, where, split))
            changed |= other[owner, number]
        held = many > 0
        share[held, phase] = np.bincount(owner, changed, minlength=len(ids))[held] / many[held]
    return share


def _pairs(federation: Federation, owner: np.ndarray, row: np.ndarray) -> np.ndarray:
    """One number for each (client, row)."""
    return owner * federation.x.shape[0] + row.astype(np.int64)


def _arguments_moved(federation: Federation) -> np.ndarray:
    """Whether a client's transforms have other arguments than in phase 0, bool [T, N]."""
    moved = np.zeros((federation.spec.phases, federation.num_clients), bool)
    for leaf in jax.tree.leaves([transform.arguments for transform in federation.transforms]):
        if leaf.shape[0] > 1:
            values = np.asarray(leaf)
            moved |= (values != values[:1]).reshape(*values.shape[:2], -1).any(2)
    return moved


@functools.partial(jax.jit, static_argnames="split")
def _otherwise(federation: Federation, phase: Array, ids: Array, position: Array, split: str) -> Array:
    """Whether rows of this phase look otherwise than with the arguments of phase 0, bool [m, n]."""

    def one(given: tuple[Array, Array]) -> Array:
        client, place = given
        offset, size, now = federation.locate(split, phase, client)
        before: tuple[PyTree, ...] = tuple(
            transform.of(jnp.zeros((), jnp.int32), client) for transform in federation.transforms
        )
        a, b = (federation.data(split, (offset, size, told)).take(place) for told in (now, before))
        return jnp.logical_or(
            jnp.any((a.x != b.x).reshape(len(a.x), -1), 1), jnp.any((a.y != b.y).reshape(len(a.y), -1), 1)
        )

    return jax.lax.map(one, (ids, position))

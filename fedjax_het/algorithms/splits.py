"""The tree of a clustering by splits, in fixed shape.

Splits are numbered in the order in which they happen. Split i divides cluster `origin[i]`: one side keeps that
number, the other becomes cluster i + 1. So at most K - 1 splits make at most K clusters, and to read the tree
is to go through its splits in order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.similarity import project
from fedjax_het.typing import Array, Params, PyTree

__all__ = ["REMEMBERED", "Splits", "lineage", "nothing_split", "remember", "split_off", "walk"]

REMEMBERED = 1024
"""Numbers by which a member's update is remembered at most; longer ones are projected."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Splits:
    """What is kept of every split; leading axis K - 1 (1 where K is 1). Splits to come have origin -1.

    Attributes:
        origin: the cluster that was divided, int32 [K-1].
        cross: alpha_cross of the cut, float [K-1]; 1 before.
        round: when, int32 [K-1].
        params: the model that the members had received, [K-1, ...].
        buffers: its buffers, or ().
        side: 1 for clients that left for the new cluster, 0 for those that stayed, -1 for clients whose update
            had no part in the cut; int32 [K-1, N].
        unit: the unit updates of the members, float [K-1, N, r].
    """

    origin: Array
    cross: Array
    round: Array
    params: Params
    buffers: PyTree
    side: Array
    unit: Array


def remember(updates: Array, seed: Array) -> Array:
    """Unit vectors along these updates [..., r], by at most `REMEMBERED` numbers each; zero stays zero."""
    short = jnp.vectorize(lambda row: project(row, REMEMBERED, seed), signature="(d)->(r)")(updates)
    length = jnp.sqrt(jnp.sum(short**2, axis=-1, keepdims=True))
    return short / jnp.where(length > 0, length, 1)


def nothing_split(clusters: int, clients: int, length: int, params: Params, buffers: PyTree) -> Splits:
    """Before the first split.

    Args:
        clusters: K.
        clients: N.
        length: r, of an update.
        params: of one model.
        buffers: of one model, or ().
    """
    room, real = max(clusters - 1, 1), jnp.result_type(float)
    return Splits(
        jnp.full((room,), -1, jnp.int32),
        jnp.ones((room,), real),
        jnp.full((room,), -1, jnp.int32),
        tree.stack(params, room),
        tree.stack(buffers, room),
        jnp.full((room, clients), -1, jnp.int32),
        jnp.zeros((room, clients, min(length, REMEMBERED)), real),
    )


def split_off(
    splits: Splits,
    place: Array,
    cross: Array,
    round_: Array,
    models: tuple[Params, PyTree],
    sides: Array,
    unit: Array,
) -> Splits:
    """The record after a round.

    Args:
        splits: before it.
        place: the number of the split that each cluster made, int32 [K]; past the end for those that made none.
        cross: float [K].
        round_: the round, int32 scalar.
        models: params and buffers of the clusters, [K, ...], as their members had received them.
        sides: as `Splits.side`, int32 [K, N].
        unit: what `remember` makes of everyone's update, float [N, r].
    """
    clusters = jnp.arange(place.shape[0], dtype=jnp.int32)
    mine = jnp.where((sides >= 0)[:, :, None], unit[None], 0)
    params, buffers = tree.put((splits.params, splits.buffers), place, models)
    return Splits(
        tree.put(splits.origin, place, clusters),
        tree.put(splits.cross, place, cross),
        tree.put(splits.round, place, jnp.full(place.shape, round_)),
        params,
        buffers,
        tree.put(splits.side, place, sides),
        tree.put(splits.unit, place, mine),
    )


def lineage(splits: Splits, cluster: Array) -> Array:
    """Which splits led to a cluster, bool [K-1]."""

    def back(cluster: Array, i: Array) -> tuple[Array, Array]:
        new, old = cluster == i + 1, splits.origin[i] == cluster
        return jnp.where(new, splits.origin[i], cluster), new | old

    numbers = jnp.arange(splits.origin.shape[0], dtype=jnp.int32)
    return jax.lax.scan(back, cluster, numbers, reverse=True)[1]


def walk(splits: Splits, update: Callable[[Params, PyTree, Array, Array], Array]) -> Array:
    """The cluster that a newcomer reaches from the root.

    At every split on its way it makes an update from the model of that split, and goes where the member went
    whose update is most similar to it. One whose update is zero stays.

    Args:
        splits: the tree.
        update: (params, buffers, round, number of the split) -> its update, float [r].

    Returns:
        int32 scalar.
    """

    def step(cluster: Array, i: Array) -> tuple[Array, None]:
        def compare() -> Array:
            params, buffers = tree.take((splits.params, splits.buffers), i)
            own = update(params, buffers, splits.round[i], i)
            alike = jnp.sum(splits.unit[i] * own[None], axis=1)
            nearest = jnp.argmax(jnp.where(splits.side[i] >= 0, alike, -jnp.inf))
            leaves = (splits.side[i, nearest] == 1) & jnp.any(own != 0)
            return jnp.where(leaves, i + 1, cluster)

        return jax.lax.cond(splits.origin[i] == cluster, compare, lambda: cluster), None

    numbers = jnp.arange(splits.origin.shape[0], dtype=jnp.int32)
    return jax.lax.scan(step, jnp.zeros((), jnp.int32), numbers)[0]

"""Clusters of directions from their cosines alone: leader clustering and spherical k-means.

A cluster's centroid is the normalised sum of its unit vectors, so every cosine to it is a sum of entries of the
N x N matrix: cos(u_k, c) = sum_{j in c} A_kj / sqrt(sum_{i, j in c} A_ij).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_het.typing import Array

__all__ = ["attraction", "leaders", "sweep"]

CANCELLED = 1e-6
"""A sum of m unit vectors whose squared length is below m times this has no direction."""


def _cosine(sums: Array, squared: Array, count: Array) -> Array:
    """Cosines to centroids from the sums; 0 to one without a direction, -inf to one without members."""
    directed = squared > CANCELLED * count
    cosine = jnp.where(directed, sums / jnp.sqrt(jnp.where(directed, squared, 1)), 0)
    return jnp.where(count > 0, jnp.clip(cosine, -1, 1), -jnp.inf)


def attraction(similarity: Array, label: Array, clusters: int) -> Array:
    """The cosine of every client to every centroid.

    Args:
        similarity: A, float [N, N]; zero rows for clients without a direction.
        label: int32 [N]; -1 for clients that belong to no cluster.
        clusters: K.

    Returns:
        Float [N, K]; -inf for a cluster without members.
    """
    hot = jax.nn.one_hot(label, clusters, dtype=similarity.dtype)
    sums = jnp.dot(similarity, hot, precision=jax.lax.Precision.HIGHEST)
    squared, count = jnp.sum(hot * sums, axis=0), jnp.sum(hot, axis=0)
    return _cosine(sums, squared[None, :], count[None, :])


def leaders(similarity: Array, member: Array, threshold: Array, clusters: int) -> Array:
    """Leader clustering in the order of ids: join the nearest centroid if its cosine is at least `threshold`.

    Otherwise open a new cluster, as long as there are fewer than K; else join the nearest all the same.

    Args:
        similarity: A, float [N, N].
        member: whom to cluster, bool [N].
        threshold: scalar; -1 puts everyone into one cluster.
        clusters: K, the most clusters.

    Returns:
        Labels, int32 [N]; -1 for the others.
    """
    count = member.shape[0]
    real = similarity.dtype
    zero = jnp.zeros((clusters,), real)

    def place(k: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        label, squared, held = carry
        hot = jax.nn.one_hot(label, clusters, dtype=real)
        sums = jnp.dot(similarity[k], hot, precision=jax.lax.Precision.HIGHEST)
        cosine = _cosine(sums, squared, held)
        used = jnp.sum(held > 0, dtype=jnp.int32)
        nearest = jnp.argmax(cosine).astype(jnp.int32)
        joins = (used == clusters) | (jnp.max(cosine) >= threshold)
        mine = jnp.where(joins, nearest, used)
        there = member[k].astype(real)
        squared = squared.at[mine].add(there * (2 * sums[mine] + similarity[k, k]), mode="drop")
        return label.at[k].set(jnp.where(member[k], mine, -1)), squared, held.at[mine].add(there, mode="drop")

    start = (jnp.full((count,), -1, jnp.int32), zero, zero)
    return jax.lax.fori_loop(0, count, place, start)[0]


def sweep(similarity: Array, label: Array, member: Array, clusters: int, sweeps: Array) -> Array:
    """Spherical k-means: everyone moves to the nearest centroid, all at once, `sweeps` times.

    Args:
        similarity: A, float [N, N].
        label: where they begin, int32 [N]; -1 for who is not a member.
        member: bool [N].
        clusters: K.
        sweeps: int32 scalar.

    Returns:
        Labels, int32 [N]; -1 for the others.
    """

    def once(_: Array, label: Array) -> Array:
        nearest = jnp.argmax(attraction(similarity, label, clusters), axis=1).astype(jnp.int32)
        return jnp.where(member, nearest, -1)

    return jax.lax.fori_loop(0, sweeps, once, jnp.where(member, label, -1))

"""A survey: everyone's update from one model, and who belongs together by their directions."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.algorithms.leaders import attraction, leaders, sweep
from fedjax_het.problem import Model
from fedjax_het.similarity import cosines
from fedjax_het.typing import Array, static

__all__ = ["Placing", "Survey", "directions", "largest"]

ALIKE = 1e-5
"""A unit update nearer than this to the mean of all of them has no direction of its own."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Survey:
    """What the last survey found; newcomers are placed by it.

    Attributes:
        round: when, int32 scalar; -1 before the first.
        model: the reference model.
        mean: the mean of the unit updates, float [r]; 0 where they are not centred.
        centroid: unit vectors, float [K, r]; 0 for a cluster without members.
    """

    round: Array
    model: Model
    mean: Array
    centroid: Array

    def nearest(self, update: Array, otherwise: Array) -> Array:
        """The cluster of the centroid nearest to an update [r]; `otherwise` if that is 0 or there is none."""
        length = jnp.sqrt(jnp.sum(update**2))
        cosine = self.centroid @ (update / jnp.where(length > 0, length, 1) - self.mean)
        directed = jnp.any(self.centroid != 0, axis=1)
        nearest = jnp.argmax(jnp.where(directed, cosine, -jnp.inf)).astype(jnp.int32)
        return jnp.where((length > 0) & jnp.any(directed), nearest, otherwise)


def directions(updates: Array, centre: bool) -> tuple[Array, Array, Array]:
    """Unit vectors along the updates, after their mean direction has been taken away.

    Args:
        updates: float [N, r]; zero for who is missing.
        centre: whether it is.

    Returns:
        (directions [N, r], zero for who has none; who has one, bool [N]; the mean [r], 0 unless `centre`).
    """
    length = jnp.sqrt(jnp.sum(updates**2, axis=1, keepdims=True))
    seen = length > 0
    unit = updates / jnp.where(seen, length, 1)
    mean = tree.divide(jnp.sum(unit, axis=0), jnp.sum(seen).astype(unit.dtype))
    mean = mean if centre else jnp.zeros_like(mean)
    rest = jnp.where(seen, unit - mean[None], 0)
    length = jnp.sqrt(jnp.sum(rest**2, axis=1, keepdims=True))
    told = length > ALIKE
    return jnp.where(told, rest / jnp.where(told, length, 1), 0), told[:, 0], mean


def largest(label: Array, clusters: int) -> Array:
    """The cluster with the most clients, int32 scalar; labels of -1 do not count."""
    held = jnp.sum(jax.nn.one_hot(label, clusters, dtype=jnp.int32), axis=0)
    return jnp.argmax(held).astype(jnp.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Placing:
    """The rule of threshold clustering; see `cosine_cfl` for the numbers."""

    threshold: Array
    hysteresis: Array
    sweeps: Array
    clusters: int = static()
    centre: bool = static()

    def apply(
        self, updates: Array, label: Array, placed: Array, model: Model, round_: Array
    ) -> tuple[Array, Array, Survey]:
        """(labels int32 [N], who has been placed by now bool [N], the survey).

        Args:
            updates: float [N, r], all from one model; zero for who is missing.
            label: int32 [N].
            placed: whom a survey has placed before, bool [N].
            model: the reference.
            round_: int32 scalar.
        """
        own, told, mean = directions(updates, self.centre)
        alike = cosines(own)

        def first() -> Array:
            found = leaders(alike, told, self.threshold, self.clusters)
            found = sweep(alike, found, told, self.clusters, self.sweeps)
            return jnp.where(told, found, largest(found, self.clusters))

        def again() -> Array:
            cosine = attraction(alike, jnp.where(told & placed, label, -1), self.clusters)
            now = jnp.take_along_axis(cosine, label[:, None], axis=1)[:, 0]
            best = jnp.max(cosine, axis=1)
            moves = told & (best > -jnp.inf) & (~placed | (best > now + self.hysteresis))
            return jnp.where(moves, jnp.argmax(cosine, axis=1).astype(jnp.int32), label)

        found = jax.lax.cond(jnp.any(placed), again, first)
        hot = jax.nn.one_hot(jnp.where(told, found, -1), self.clusters, dtype=own.dtype)
        sums = jnp.dot(hot.T, own, precision=jax.lax.Precision.HIGHEST)
        centroid = jax.vmap(tree.divide)(sums, jnp.sqrt(jnp.sum(sums**2, axis=1)))
        return found, placed | told, Survey(round_, model, mean, centroid)

"""When a cluster is cut in two, and where."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.similarity import LINKAGES, cosines
from fedjax_het.typing import Array, static

__all__ = ["Cuts", "Members"]

FEWEST = 3
"""A cluster of fewer members is final."""

EARLY = 0.9
"""What eps2 is by default, as a fraction of the largest update of the first round."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Members:
    """What the server knows of the clusters' members after a round.

    Attributes:
        member: who is in each cluster and has an update that is not zero, bool [K, N].
        awaited: whether a member that has rows is missing, bool [K].
        norm: |Delta_k|, 0 for who is missing, float [N].
        mean: |sum_c omega_k Delta_k| of each cluster, float [K].
        gamma: the relative noise that each client estimates, float [N]; None where the user gave a bound.
        early: the largest update of the first round, scalar.
    """

    member: Array
    awaited: Array
    norm: Array
    mean: Array
    gamma: Array | None
    early: Array

    def most(self, values: Array) -> Array:
        """The largest of the members' values float [N] in each cluster, at least 0; float [K]."""
        return jnp.max(jnp.where(self.member, values[None, :], 0), axis=1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cuts:
    """The rule of CFL; see `cfl` for the numbers.

    Attributes:
        eps1: what the mean update's norm must be below: a norm, or a fraction of the largest one.
        eps2: what the largest update's norm must exceed; None for `EARLY` of the first round's largest.
        gamma: the bound on the relative noise, or None to take the clients' estimates.
        warm_up: the first round that may cut, int32 scalar.
        relative: whether eps1 is a fraction; static.
        linkage: a key of `similarity.LINKAGES`; static.
    """

    eps1: Array
    eps2: Array | None
    gamma: Array | None
    warm_up: Array
    relative: bool = static()
    linkage: str = static()

    def ready(self, members: Members, round_: Array) -> Array:
        """Which clusters have settled while their members have not, bool [K]."""
        longest = members.most(members.norm)
        limit = self.eps1 * longest if self.relative else self.eps1
        least = EARLY * members.early if self.eps2 is None else self.eps2
        settled = (members.mean < limit) & (longest > least)
        enough = jnp.sum(members.member, axis=1) >= FEWEST
        return settled & enough & ~members.awaited & (round_ >= self.warm_up)

    def apply(self, updates: Array, members: Members, ready: Array) -> tuple[Array, Array, Array]:
        """(which clusters are cut bool [K], who leaves each bool [K, N], alpha_cross float [K]).

        Args:
            updates: float [N, r].
            members: of the clusters.
            ready: which of them to try, bool [K].
        """
        alike = cosines(updates)
        nobody = (jnp.zeros(updates.shape[:1], bool), jnp.ones((), alike.dtype))

        def one(cluster: tuple[Array, Array]) -> tuple[Array, Array]:
            tried, member = cluster
            return jax.lax.cond(tried, lambda: LINKAGES[self.linkage](alike, member), lambda: nobody)

        leaves, cross = jax.lax.map(one, (ready, members.member))
        noise: Any = self.gamma if members.gamma is None else members.most(members.gamma)
        return ready & (noise < jnp.sqrt((1 - jnp.clip(cross, -1, 1)) / 2)), leaves, cross

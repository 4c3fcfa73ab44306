"""When a cluster is cut in two, and where."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.check import known, number, whole
from fedjax_het.similarity import LINKAGES, cosines
from fedjax_het.typing import Array, static

__all__ = ["Cuts", "Members", "averaged", "checked", "gathered"]

FEWEST = 3
"""A cluster of fewer members is final."""

EARLY = 0.5
"""What eps2 is by default, as a fraction of the largest update of the first round."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Members:
    """What the server knows of the clusters' members after a round.

    Attributes:
        member: who is in each cluster and has an update that is not zero, bool [K, N].
        awaited: whether a member is missing that has rows in some phase, bool [K].
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


def averaged(recent: Array, update: Array, present: Array, memory: Array) -> tuple[Array, Array]:
    """Everyone's average update after a round [N, r], and its norm, 0 for who is missing [N].

    Args:
        recent: the averages before, float [N, r]; 0 for who never made an update that is not zero.
        update: those of the round, float [N, r].
        present: who answered, bool [N]; the averages of the others stay.
        memory: the weight of the average before, scalar; none in an average that begins.
    """
    begun = jnp.any(recent != 0, axis=1)
    kept = jnp.where(present, jnp.where(begun, memory, 0), 1)[:, None].astype(recent.dtype)
    # by where, so that a memory of 0 forgets whatever there was
    recent = jnp.where(kept > 0, kept * recent, 0) + jnp.where(kept < 1, (1 - kept) * update, 0)
    return recent, jnp.where(present, jnp.sqrt(jnp.sum(recent**2, axis=1)), 0)


def gathered(
    belongs: Array,
    missing: Array,
    recent: Array,
    norm: Array,
    weight: Array,
    gamma: Array | None,
    early: Array,
) -> Members:
    """What is known of the clusters from what is known of the clients.

    Args:
        belongs: who is in each cluster, bool [K, N].
        missing: who has rows and did not answer, bool [N].
        recent: Delta_k, float [N, r].
        norm: of these, 0 for who is to be left out, float [N].
        weight: omega_k up to a factor, 0 for who did not answer, float [N].
        gamma: as `Members.gamma`.
        early: as `Members.early`.
    """
    share = jnp.where(belongs, weight[None, :], 0)
    mean = jax.vmap(tree.divide)(
        jnp.dot(share, recent, precision=jax.lax.Precision.HIGHEST), jnp.sum(share, axis=1)
    )
    return Members(
        belongs & (norm > 0)[None, :],
        jnp.any(belongs & missing[None, :], axis=1),
        norm,
        jnp.sqrt(jnp.sum(mean**2, axis=1)),
        gamma,
        early,
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cuts:
    """The rule of CFL; see `cfl` for the numbers.

    Attributes:
        eps1: what the mean update's norm must be below: a norm, or a fraction of the largest one.
        eps2: what the largest update's norm must exceed; None for `EARLY` of the first round's largest.
        gamma: the bound on the relative noise, or None to take the clients' estimates.
        gap: how much nearer than the other part everyone's nearest member must be.
        warm_up: the first round that may cut, int32 scalar.
        relative: whether eps1 is a fraction; static.
        linkage: a key of `similarity.LINKAGES`; static.
    """

    eps1: Array
    eps2: Array | None
    gamma: Array | None
    gap: Array
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
        others = ~jnp.eye(alike.shape[0], dtype=bool)
        one = jnp.ones((), alike.dtype)
        nobody = (jnp.zeros(updates.shape[:1], bool), one, one)

        def divide(cluster: tuple[Array, Array]) -> tuple[Array, Array, Array]:
            tried, member = cluster

            def cut() -> tuple[Array, Array, Array]:
                nearest = jnp.max(jnp.where(member[None, :] & others, alike, -1), axis=1)
                return *LINKAGES[self.linkage](alike, member), jnp.min(jnp.where(member, nearest, 1))

            return jax.lax.cond(tried, cut, lambda: nobody)

        leaves, cross, nearest = jax.lax.map(divide, (ready, members.member))
        noise: Any = self.gamma if members.gamma is None else members.most(members.gamma)
        clear = jnp.maximum(nearest - cross, 0) >= self.gap
        return ready & clear & (noise < jnp.sqrt((1 - jnp.clip(cross, -1, 1)) / 2)), leaves, cross


def checked(eps1: Any, eps2: Any, gamma: Any, gap: Any, warm_up: Any, relative: bool, linkage: str) -> Cuts:
    """The rule of these numbers, which are those of `cfl`.

    Raises:
        TypeError: a number of the wrong kind.
        ValueError: one out of range, or an unknown linkage.
    """
    known("linkage", linkage, LINKAGES)
    scale = "updates scale with learning rate times steps"
    return Cuts(
        number("eps1", eps1, above=0, remedy=scale),
        None if eps2 is None else number("eps2", eps2, least=0, remedy=scale),
        None if gamma is None else number("gamma", gamma, least=0, below=1, remedy="None estimates it"),
        number("gap", gap, least=0, most=2, remedy="0 asks for none"),
        whole("warm_up", warm_up, least=0, remedy="0 may cut from the first round on"),
        bool(relative),
        linkage,
    )

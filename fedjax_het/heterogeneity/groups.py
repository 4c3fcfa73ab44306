"""Who shares a draw: each client has its own, or the clients of a latent cluster have one together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import number, positive_int, positive_ints, require, short
from fedjax_het.split import generator
from fedjax_het.typing import Array

__all__ = ["Clusters", "Groups", "given", "groups", "one_of"]

Clusters = int | Sequence[int] | np.ndarray | Array
"""How many latent clusters there are; or which one each client is in, N of 0, 1, ..., such as the "cluster" of
a federation's truth, so that two shifts share their clusters."""


@dataclasses.dataclass(frozen=True)
class Groups:
    """Which clients share a draw.

    Attributes:
        member: the group of each client, int32 [N].
        count: how many groups there are, G.
        latent: whether they are clusters, rather than the clients themselves.
    """

    member: np.ndarray
    count: int
    latent: bool

    @property
    def noun(self) -> str:
        """What a group is called in messages."""
        return "cluster" if self.latent else "client"

    @property
    def truth(self) -> dict[str, np.ndarray]:
        """ "cluster", int32 [N]; nothing if each client is its own group."""
        return {"cluster": self.member} if self.latent else {}

    def each(self, values: np.ndarray) -> np.ndarray:
        """Values [G, ...] of the groups as values [N, ...] of their clients."""
        return values[self.member]

    def argument(self, values: np.ndarray) -> Array:
        """Values [G, ...] of the groups as a transform's argument [1, N, ...]; floats of the default type."""
        dtype = jnp.result_type(float) if values.dtype.kind == "f" else values.dtype
        return jnp.asarray(self.each(values)[None], dtype)


def groups(
    clients: int, clusters: Clusters | None, *, seed: int, name: str, time: int, option: str = "clusters"
) -> Groups:
    """Clusters of sizes that differ by at most one, with members at random; or every client on its own.

    Args:
        clients: N.
        clusters: see `Clusters`; None for clients on their own.
        seed: of the membership.
        name: of the draw, so that two shifts draw their clusters independently.
        time: how often it has been drawn before.
        option: what the caller calls `clusters`, for messages.

    Raises:
        TypeError: clusters that are not whole numbers.
        ValueError: more clusters than clients, a membership that is not one number >= 0 a client.
    """
    if clusters is None:
        return Groups(np.arange(clients, dtype=np.int32), clients, False)
    if np.ndim(clusters) == 0:
        many = positive_int(option, clusters, remedy="say how many there are, or which one each client is in")
        require(
            many <= clients,
            f"{option} must be <= {clients}, got {many}: a cluster has one client at least",
        )
        even = np.arange(clients, dtype=np.int32) % many
        return Groups(generator(seed, f"{name} cluster", time).permutation(even), many, True)
    member = positive_ints(option, clusters, least=0, remedy="number the clusters 0, 1, ...")
    require(
        len(member) == clients,
        f"{option} must name the cluster of each of the {clients} clients, got {len(member)} numbers: pass one "
        "number a client, or how many clusters there are",
    )
    return Groups(np.array(member, np.int32), max(member) + 1, True)


def one_of(remedy: str, **options: Any) -> str:
    """The name of the one option that is not None.

    Args:
        remedy: what to pass, for the message.
        options: name -> value.

    Raises:
        ValueError: none of them is given, or several are.
    """
    chosen = [name for name, value in options.items() if value is not None]
    *most, last = options
    listed = f"{', '.join(most)} or {last}" if most else last
    require(
        len(chosen) == 1, f"{listed} must be given, one of them, got {' and '.join(chosen) or 'none'}: {remedy}"
    )
    return chosen[0]


def given(
    name: str,
    values: Any,
    group: Groups,
    *,
    shape: tuple[int, ...] = (),
    least: float | None = None,
    most: float | None = None,
    remedy: str,
) -> np.ndarray:
    """Numbers that the caller has chosen for each group, float64 [G, *shape].

    Raises:
        TypeError: no numbers.
        ValueError: numbers that are not finite or out of range, or not one entry a group.
    """
    wanted = (group.count, *shape)
    number(name, values, least=least, most=most, remedy=remedy)
    told = np.asarray(values, np.float64)
    require(
        told.shape == wanted,
        f"{name} must have shape {wanted}, one entry a {group.noun}, got "
        f"{short(values) if told.ndim == 0 else f'shape {told.shape}'}: {remedy}",
    )
    return told

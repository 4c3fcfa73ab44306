"""K models stacked along a leading axis: what the clustered methods do with them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.algorithm import Client
from fedjax_het.local import Solution
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, PyTree

__all__ = ["Member", "averages", "by_client", "centre", "label_of", "spread", "upload"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Member:
    """What a client keeps where the server knows who belongs where.

    Attributes:
        cluster: the cluster that a newcomer was given, int32 scalar; -1 where the server's label holds.
        buffers: its own buffers, or ().
    """

    cluster: Array
    buffers: PyTree


def label_of(label: Array, client: Client) -> Array:
    """The client's cluster by the server's labels int32 [N], or by its own if a newcomer; int32 scalar."""
    return jnp.where(client.state.cluster < 0, label.at[client.id].get(mode="clip"), client.state.cluster)


def centre(problem: Problem, server: Any, cluster: Array, own: PyTree) -> Model:
    """The model of one cluster; `server` has params and buffers [K, ...]."""
    params, buffers = tree.take((server.params, server.buffers), cluster)
    return problem.model(params, buffers, own)


def spread(share: Array, leaves: PyTree) -> PyTree:
    """share_j * leaf for every cluster j: leaves [...] become [K, ...].

    Args:
        share: float [K], zero but at the client's cluster.
        leaves: any tree of floats.
    """

    def place(leaf: Array) -> Array:
        return share.reshape(-1, *[1] * leaf.ndim).astype(leaf.dtype) * leaf[None]

    return jax.tree.map(place, leaves)


def upload(problem: Problem, start: Model, solution: Solution, share: Array) -> dict[str, PyTree]:
    """The total of one client: its update and buffers in its cluster's place, and the shares [K]."""
    return {
        "delta": spread(share, tree.subtract(solution.params, start.params)),
        "buffers": spread(share, problem.shared(solution.buffers)),
        "weight": share,
    }


def averages(total: PyTree, server: Any) -> tuple[PyTree, PyTree]:
    """(mean update of each cluster [K, ...], 0 for a cluster without members; its buffers after the round)."""
    mean = jax.vmap(tree.divide)(total["delta"], total["weight"])
    buffers = jax.vmap(tree.divide)(total["buffers"], total["weight"])
    return mean, jax.vmap(tree.where)(total["weight"] > 0, buffers, server.buffers)


def by_client(values: PyTree, place: Array, count: int) -> PyTree:
    """Rows of a cohort [C, ...] as rows of all clients [N, ...]; zeros for those who are not there.

    Args:
        values: one a slot.
        place: client numbers, int32 [C]; N in absent slots.
        count: N.
    """
    return jax.tree.map(
        lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype).at[place].set(leaf, mode="drop"), values
    )

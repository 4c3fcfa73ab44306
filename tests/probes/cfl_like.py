"""Clusters found by splitting: clients are told apart by the directions of their updates.

The server reads one flattened update a client, and every split has a fixed shape: K models whether in use or
not, labels of all clients, one matrix product for all similarities.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import fedjax_het as fh
from fedjax_het import keys, tree
from fedjax_het.local import Solver
from fedjax_het.problem import Model, Problem, full_loss, objective
from fedjax_het.typing import Array, Key, Params, PyTree, static

__all__ = ["CflLike", "Member", "Server", "cfl_like", "two_parts"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """params and buffers [K, ...]; label of each client, int32 [N]; clusters in use, int32 scalar."""

    params: Params
    buffers: PyTree
    label: Array
    used: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Member:
    """label: -1 for members, whose label the server keeps; that of the nearest cluster for newcomers."""

    label: Array
    buffers: PyTree


def two_parts(similarity: Array, member: Array) -> tuple[Array, Array]:
    """The split of the members whose largest similarity across is smallest (Kruskal, stopped at two parts).

    Args:
        similarity: float [C, C], symmetric.
        member: bool [C].

    Returns:
        (the smaller part bool [C], the largest similarity across, scalar; -inf with fewer than two members).
    """
    count = member.shape[0]
    pairs = member[:, None] & member[None, :]

    def across(part: Array) -> Array:
        return jnp.where(pairs & (part[:, None] != part[None, :]), similarity, -jnp.inf)

    def merge(_: Array, part: Array) -> Array:
        nearest = jnp.argmax(across(part))
        return jnp.where(part == part[nearest % count], part[nearest // count], part)

    members = jnp.sum(member, dtype=jnp.int32)
    part = jax.lax.fori_loop(0, members - 2, merge, jnp.arange(count, dtype=jnp.int32))
    side = member & (part != part[jnp.argmax(member)])
    smaller = jnp.where(2 * jnp.sum(side, dtype=jnp.int32) > members, member & ~side, side)
    return smaller, jnp.max(across(part))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CflLike:
    """Inside a cluster FedAvg; a cluster splits when |mean update| < ratio * (largest |update|), the largest
    |update| > least, and gamma < sqrt((1 - alpha_cross) / 2).

    Attributes:
        problem: what to learn.
        solver: local work.
        weighting: the default weighting.
        ratio: of the mean update's norm to the largest one.
        least: what the largest update's norm must exceed.
        gamma: bound on the relative noise of an update.
        clusters: K, the most clusters; static.
    """

    problem: Problem
    solver: Solver
    weighting: Any
    ratio: Array
    least: Array
    gamma: Array
    clusters: int = static()

    def init(self, key: Key, federation: fh.Federation) -> tuple[Server, Member]:
        """Everyone in cluster 0."""
        model = self.problem.init(keys.stream(key, "params"))
        stacked = tree.stack((model.params, self.problem.shared(model.buffers)), self.clusters)
        label = jnp.zeros((federation.num_clients,), jnp.int32)
        member = Member(jnp.full((), -1, jnp.int32), self.problem.own(model.buffers))
        server = Server(*stacked, label, jnp.ones((), jnp.int32))
        return server, tree.stack(member, federation.num_clients)

    def personalise(self, server: Server, client: fh.Client) -> Model:
        """The model of the client's cluster."""
        params, buffers = tree.take((server.params, server.buffers), self.label(server, client))
        return self.problem.model(params, buffers, client.state.buffers)

    def label(self, server: Server, client: fh.Client) -> Array:
        """The client's cluster, int32 scalar."""
        return jnp.where(client.state.label < 0, server.label[client.id], client.state.label)

    def client_update(self, server: Server, client: fh.Client) -> fh.Report:
        """Local work from the cluster's model; summed in its place, and flat for the server to compare."""
        start, label = self.personalise(server, client), self.label(server, client)
        solution = self.solver.solve(
            client.key, objective(self.problem), start, client.data, round_=client.round, work=client.work
        )
        delta = tree.subtract(solution.params, start.params)
        share = jax.nn.one_hot(label, self.clusters, dtype=client.weight.dtype) * client.weight
        summed = (delta, self.problem.shared(solution.buffers))
        total = jax.tree.map(lambda leaf: share.reshape(-1, *[1] * leaf.ndim) * leaf[None], summed)
        flat = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(delta)])
        state = Member(client.state.label, self.problem.own(solution.buffers))
        info = {**solution.info, "label": label}
        return fh.Report(state, (*total, share), each=flat, info=info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: fh.Cohort, key: Key) -> Server:
        """The mean in every cluster that stays whole; two copies of the model where one splits."""
        if cohort.id.shape != server.label.shape:
            raise ValueError(f"cohort must hold everyone, got {cohort.id.shape[0]} slots: use everyone()")
        label = server.label.at[cohort.id].get(mode="clip")
        length = jnp.sqrt(jnp.sum(each**2, axis=1))
        moved = cohort.present & (length > 0)  # the others follow the larger part
        unit = each / jnp.where(moved, length, 1)[:, None]
        member = moved[None, :] & (label[None, :] == jnp.arange(self.clusters, dtype=jnp.int32)[:, None])
        smaller, cross = jax.vmap(two_parts, (None, 0))(unit @ unit.T, member)
        delta, buffers, weight = total
        mean, blend = jax.vmap(tree.divide)((delta, buffers), weight)
        most = jnp.max(jnp.where(member, length[None, :], 0), axis=1)
        still = jnp.sqrt(jax.vmap(tree.sum_of_squares)(mean)) < self.ratio * most
        splits = still & (jnp.sum(member, axis=1) > 2)
        splits = splits & (most > self.least) & (self.gamma < jnp.sqrt((1 - jnp.minimum(cross, 1)) / 2))
        child = server.used - 1 + jnp.cumsum(splits, dtype=jnp.int32)
        splits = splits & (child < self.clusters)
        leaves = splits[label] & jnp.any(smaller, axis=0)
        target = jnp.where(cohort.present, cohort.id, cohort.population)
        labels = server.label.at[target].set(jnp.where(leaves, child[label], label), mode="drop")
        received = (server.params, server.buffers)
        stepped = (tree.add(server.params, mean), blend)
        models = jax.vmap(tree.where)((weight > 0) & ~splits, stepped, received)
        rows = jnp.arange(self.clusters, dtype=jnp.int32)
        origin = rows.at[jnp.where(splits, child, self.clusters)].set(rows, mode="drop")
        used = server.used + jnp.sum(splits, dtype=jnp.int32)
        return Server(*tree.take(models, origin), labels, used)

    def predict(self, model: Model, x: Array) -> PyTree:
        """The model's outputs."""
        return self.problem.apply(model.params, model.buffers, x)[0]

    def consensus(self, server: Server) -> None:
        """There is no one global model."""
        return

    def join(self, server: Server, client: fh.Client) -> Member:
        """The cluster in use whose model fits the newcomer's training rows best."""
        own = self.problem.own(self.problem.init(client.key).buffers)

        def loss(params: Params, buffers: PyTree) -> Array:
            return full_loss(self.problem, self.problem.model(params, buffers, own), client.data)

        losses = jax.vmap(loss)(server.params, server.buffers)
        in_use = jnp.arange(self.clusters, dtype=jnp.int32) < server.used
        return Member(jnp.argmin(jnp.where(in_use, losses, jnp.inf)).astype(jnp.int32), own)

    def traffic(self, server: Server) -> fh.Traffic:
        """d down, d up."""
        size = tree.num_bytes((server.params, server.buffers)) // self.clusters
        return fh.Traffic(size, size)


def cfl_like(
    problem: Problem,
    solver: Solver,
    *,
    clusters: int = 3,
    ratio: Any = 0.3,
    least: Any = 0.05,
    gamma: Any = 0.1,
) -> CflLike:
    """Clustering by splits, everyone in every round; see `CflLike`."""
    numbers = [
        fh.check.number(n, v, least=0) for n, v in (("ratio", ratio), ("least", least), ("gamma", gamma))
    ]
    return CflLike(problem, solver, fh.weighting.proportional(), *numbers, clusters)

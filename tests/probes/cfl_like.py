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
from probes.two_parts import two_parts

__all__ = ["CflLike", "Server", "cfl_like"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """params [K, ...]; label of each client, int32 [N]; clusters in use, int32 scalar."""

    params: Params
    label: Array
    used: Array


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

    def init(self, key: Key, federation: fh.Federation) -> tuple[Server, Array]:
        """Everyone in cluster 0. A client's state is -1 (the server keeps its label), or a newcomer's label."""
        params = tree.stack(self.problem.init(keys.stream(key, "params")).params, self.clusters)
        label = jnp.zeros((federation.num_clients,), jnp.int32)
        return Server(params, label, jnp.ones((), jnp.int32)), label - 1

    def label(self, server: Server, client: fh.Client) -> Array:
        """The client's cluster, int32 scalar."""
        return jnp.where(client.state < 0, server.label.at[client.id].get(mode="clip"), client.state)

    def personalise(self, server: Server, client: fh.Client) -> Model:
        """The model of the client's cluster."""
        return Model(tree.take(server.params, self.label(server, client)), ())

    def client_update(self, server: Server, client: fh.Client) -> fh.Report:
        """Local work from the cluster's model; summed in its place, and flat for the server to compare."""
        start, label = self.personalise(server, client), self.label(server, client)
        f = objective(self.problem)
        solution = self.solver.solve(client.key, f, start, client.data, round_=client.round, work=client.work)
        delta = tree.subtract(solution.params, start.params)
        share = jax.nn.one_hot(label, self.clusters, dtype=client.weight.dtype) * client.weight
        total = jax.tree.map(lambda leaf: share.reshape(-1, *[1] * leaf.ndim) * leaf[None], delta)
        flat = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(delta)])
        info = {**solution.info, "label": label}
        return fh.Report(client.state, (total, share), each=flat, info=info, local=solution.model)

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
        mean = jax.vmap(tree.divide)(*total)
        most = jnp.max(jnp.where(member, length[None, :], 0), axis=1)
        still = jnp.sqrt(jax.vmap(tree.sum_of_squares)(mean)) < self.ratio * most
        splits = still & (jnp.sum(member, axis=1) > 2)
        splits = splits & (most > self.least) & (self.gamma < jnp.sqrt((1 - jnp.minimum(cross, 1)) / 2))
        child = server.used - 1 + jnp.cumsum(splits, dtype=jnp.int32)
        splits = splits & (child < self.clusters)
        leaves = splits[label] & jnp.any(smaller, axis=0)
        target = jnp.where(cohort.present, cohort.id, cohort.population)
        labels = server.label.at[target].set(jnp.where(leaves, child[label], label), mode="drop")
        stepped = jax.vmap(tree.where)(splits, server.params, tree.add(server.params, mean))
        rows = jnp.arange(self.clusters, dtype=jnp.int32)
        origin = rows.at[jnp.where(splits, child, self.clusters)].set(rows, mode="drop")
        used = server.used + jnp.sum(splits, dtype=jnp.int32)
        return Server(tree.take(stepped, origin), labels, used)

    def predict(self, model: Model, x: Array) -> PyTree:
        """The model's outputs."""
        return self.problem.apply(model.params, model.buffers, x)[0]

    def consensus(self, server: Server) -> None:
        """There is no one global model."""
        return

    def join(self, server: Server, client: fh.Client) -> Array:
        """The cluster in use whose model fits the newcomer's training rows best."""

        def loss(params: Params) -> Array:
            return full_loss(self.problem, Model(params, ()), client.data)

        in_use = jnp.arange(self.clusters, dtype=jnp.int32) < server.used
        losses = jnp.where(in_use, jax.vmap(loss)(server.params), jnp.inf)
        return jnp.argmin(losses).astype(jnp.int32)

    def traffic(self, server: Server) -> fh.Traffic:
        """d down, d up."""
        size = tree.num_bytes(server.params) // self.clusters
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

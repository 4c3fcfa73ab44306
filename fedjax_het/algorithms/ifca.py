"""IFCA: K models; every client trains the one that fits its data best."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.parts import check_parts
from fedjax_het.check import positive_int
from fedjax_het.federation import Federation
from fedjax_het.local import Solver
from fedjax_het.problem import Model, Problem, full_loss, objective
from fedjax_het.typing import Array, Key, Params, PyTree, static
from fedjax_het.weighting import proportional

__all__ = ["Ifca", "Member", "Server", "ifca"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The cluster models.

    Attributes:
        params: theta_1..theta_K, stacked [K, ...].
        buffers: their buffers [K, ...], or () where clients own theirs.
    """

    params: Params
    buffers: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Member:
    """What a client keeps.

    Attributes:
        cluster: the cluster it last chose, int32 scalar; -1 before its first round.
        buffers: its own buffers, or ().
    """

    cluster: Array
    buffers: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ifca:
    """See `ifca`."""

    problem: Problem
    solver: Solver
    weighting: Any
    clusters: int = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, Member]:
        """K independent fresh models, the first one every other method's start; nobody has chosen."""
        key = keys.stream(key, "params")
        first = self.problem.fresh(key)
        others = jax.vmap(lambda j: self.problem.fresh(jax.random.fold_in(key, j)))(
            jnp.arange(1, self.clusters, dtype=jnp.int32)
        )
        centres = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, others)
        server = Server(centres.params, self.problem.shared(centres.buffers))
        member = Member(jnp.full((), -1, jnp.int32), self.problem.own(first.buffers))
        return server, tree.stack(member, federation.num_clients)

    def choose(self, server: Server, client: Client) -> Array:
        """argmin_j F_i(theta_j) over all training rows, ties broken at random; int32 scalar."""

        def loss(params: Params, buffers: PyTree) -> Array:
            model = self.problem.model(params, buffers, client.state.buffers)
            return full_loss(self.problem, model, client.data)

        losses = jax.vmap(loss)(server.params, server.buffers)
        draws = jax.random.uniform(keys.stream(client.key, "tie"), losses.shape, losses.dtype)
        return jnp.argmin(jnp.where(losses == jnp.min(losses), draws, jnp.inf)).astype(jnp.int32)

    def centre(self, server: Server, cluster: Array, own: PyTree) -> Model:
        """The model of one cluster."""
        params, buffers = tree.take((server.params, server.buffers), cluster)
        return self.problem.model(params, buffers, own)

    def client_update(self, server: Server, client: Client) -> Report:
        """Local work from the centre that fits best; the upload is in that centre's place, zeros elsewhere."""
        cluster = self.choose(server, client)
        start = self.centre(server, cluster, client.state.buffers)
        solution = self.solver.solve(
            client.key,
            objective(self.problem),
            start,
            client.data,
            round_=client.round,
            work=client.work,
        )
        share = jax.nn.one_hot(cluster, self.clusters, dtype=client.weight.dtype) * client.weight

        def place(leaf: Array) -> Array:
            return share.reshape(-1, *[1] * leaf.ndim).astype(leaf.dtype) * leaf[None]

        total = {
            "delta": jax.tree.map(place, tree.subtract(solution.params, start.params)),
            "buffers": jax.tree.map(place, self.problem.shared(solution.buffers)),
            "weight": share,
        }
        state = Member(cluster, self.problem.own(solution.buffers))
        info = {**solution.info, "cluster": cluster}
        return Report(state, total, info=info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """theta_j <- mean of its members' models; a cluster that nobody chose stays as it was."""
        mean = jax.vmap(tree.divide)(total["delta"], total["weight"])
        buffers = jax.vmap(tree.divide)(total["buffers"], total["weight"])
        chosen = total["weight"] > 0
        return Server(
            tree.add(server.params, mean),
            jax.vmap(tree.where)(chosen, buffers, server.buffers),
        )

    def personalise(self, server: Server, client: Client) -> Model:
        """The centre that fits the client's training rows best now."""
        return self.centre(server, self.choose(server, client), client.state.buffers)

    def consensus(self, server: Server) -> None:
        """There is no one global model."""
        return

    def join(self, server: Server, client: Client) -> Member:
        """A newcomer chooses by its training rows, as members do."""
        own = self.problem.own(self.problem.fresh(client.key).buffers)
        member = Member(jnp.full((), -1, jnp.int32), own)
        chosen = self.choose(server, dataclasses.replace(client, state=member))
        return Member(chosen, own)

    predict = one_model.predict

    def traffic(self, server: Server) -> Traffic:
        """K d down; d up and the cluster's number."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size // self.clusters + 4)


def ifca(problem: Problem, solver: Solver, *, clusters: int = 2) -> Ifca:
    """IFCA, model averaging: j = argmin_j F_i(theta_j); y_i <- local work from theta_j; theta_j <- mean of y_i.

    Starts are independent and full-scale; the outcome depends on them, so run several seeds and keep the one
    with the lowest training loss. Models that start at zero (softmax regression) separate only through the
    random tie-break of the first round.

    Args:
        problem: what to learn.
        solver: local work.
        clusters: K; static.

    Raises:
        TypeError, ValueError: clusters is not a whole number of at least 1.

    Reference:
        Ghosh, Chung, Yin, Ramchandran, NeurIPS 2020, Algorithm 1, option II.

    Departures:
        Members are weighted by n_k within their cluster by default, so that K = 1 is FedAvg (the authors'
        FEMNIST code does the same, their MNIST code weights uniformly). Ties are broken at random.
    """
    check_parts(problem, solver)
    return Ifca(problem, solver, proportional(), positive_int("clusters", clusters, remedy="1 is FedAvg"))

"""IFCA: K models; every client trains the one that fits its data best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import clusters as stacked
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.parts import WEIGHTS, check_parts
from fedjax_het.check import known, positive_int, require, whole
from fedjax_het.federation import Federation
from fedjax_het.local import Solver
from fedjax_het.models import selectors
from fedjax_het.problem import Model, Problem, full_loss, objective
from fedjax_het.typing import Array, Key, Params, PyTree, static

__all__ = ["Ifca", "Member", "Server", "ifca"]

AVERAGES = ("models", "gradients")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The cluster models.

    Attributes:
        params: theta_1..theta_K, stacked [K, ...]; shared leaves are alike in all of them.
        buffers: their buffers [K, ...], or () where clients own theirs.
        idle: rounds since anybody chose each cluster, int32 [K].
    """

    params: Params
    buffers: PyTree
    idle: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Member:
    """What a client keeps.

    Attributes:
        cluster: the cluster it last chose, int32 scalar; -1 before its first round.
        group: the cluster that it trains in the warm-up, int32 scalar.
        buffers: its own buffers, or ().
    """

    cluster: Array
    group: Array
    buffers: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ifca:
    """See `ifca`."""

    problem: Problem
    solver: Solver
    weighting: Any
    warm_up: Array
    clusters: int = static()
    average: str = static()
    shared: Callable[[str], bool] | None = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, Member]:
        """K independent fresh models, the first one every other method's start; nobody has chosen."""
        count = federation.num_clients
        require(
            self.clusters <= count,
            f"clusters must be at most the number of clients, {count}, got {self.clusters}: one client trains "
            f"one model a round; set clusters={count} or fewer",
        )
        groups = jax.random.permutation(keys.stream(key, "groups"), jnp.arange(count, dtype=jnp.int32))
        key = keys.stream(key, "params")
        first = self.problem.fresh(key)
        others = jax.vmap(lambda j: self.problem.fresh(jax.random.fold_in(key, j)))(
            jnp.arange(1, self.clusters, dtype=jnp.int32)
        )
        centres = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, others)
        params = self.joined(tree.stack(first.params, self.clusters), centres.params)
        idle = jnp.zeros((self.clusters,), jnp.int32)
        server = Server(params, self.problem.shared(centres.buffers), idle)
        nobody, own = jnp.full((count,), -1, jnp.int32), tree.stack(self.problem.own(first.buffers), count)
        return server, Member(nobody, groups % self.clusters, own)

    def joined(self, common: Params, own: Params) -> Params:
        """The shared leaves of `common`, the others of `own`."""
        if self.shared is None:
            return own
        return tree.combine(tree.partition(common, self.shared)[0], tree.partition(own, self.shared)[1])

    def choose(self, server: Server, client: Client) -> Array:
        """argmin_j F_i(theta_j) over all training rows, ties broken at random; int32 scalar."""

        def loss(params: Params, buffers: PyTree) -> Array:
            model = self.problem.model(params, buffers, client.state.buffers)
            return full_loss(self.problem, model, client.data)

        losses = jax.vmap(loss)(server.params, server.buffers)
        draws = jax.random.uniform(keys.stream(client.key, "tie"), losses.shape, losses.dtype)
        return jnp.argmin(jnp.where(losses == jnp.min(losses), draws, jnp.inf)).astype(jnp.int32)

    def client_update(self, server: Server, client: Client) -> Report:
        """Local work from the centre that fits best; the upload is in that centre's place, zeros elsewhere."""
        cluster = self.choose(server, client)
        cluster = jnp.where(client.round < self.warm_up, client.state.group, cluster)
        start = stacked.centre(self.problem, server, cluster, client.state.buffers)
        f, work = objective(self.problem), 1.0 if self.average == "gradients" else client.work
        solution = self.solver.solve(client.key, f, start, client.data, round_=client.round, work=work)
        share = jax.nn.one_hot(cluster, self.clusters, dtype=client.weight.dtype) * client.weight
        total = stacked.upload(self.problem, start, solution, share)
        state = Member(cluster, client.state.group, self.problem.own(solution.buffers))
        empty = jnp.sum(server.idle > 0, dtype=jnp.int32)
        info = {**solution.info, "cluster": cluster, "empty_clusters": empty}
        return Report(state, total, info=info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """theta_j <- mean of its members' models; a cluster that nobody chose stays as it was."""
        everyone, chosen = jnp.sum(total["weight"]), total["weight"] > 0
        mean, buffers = stacked.averages(total, server)
        if self.average == "gradients":
            mean = tree.divide(total["delta"], everyone)
        if self.shared is not None:
            whole_sum = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), total["delta"])
            mean = self.joined(tree.stack(tree.divide(whole_sum, everyone), self.clusters), mean)
        idle = jnp.where(chosen, 0, server.idle + 1)
        return Server(tree.add(server.params, mean), buffers, idle)

    def personalise(self, server: Server, client: Client) -> Model:
        """The centre that fits the client's training rows best now."""
        chosen = self.choose(server, client)
        return stacked.centre(self.problem, server, chosen, client.state.buffers)

    def consensus(self, server: Server) -> None:
        """There is no one global model."""
        return

    def join(self, server: Server, client: Client) -> Member:
        """A newcomer chooses by its training rows, as members do."""
        own = self.problem.own(self.problem.fresh(client.key).buffers)
        member = Member(jnp.full((), -1, jnp.int32), jnp.zeros((), jnp.int32), own)
        chosen = self.choose(server, dataclasses.replace(client, state=member))
        return dataclasses.replace(member, cluster=chosen)

    predict = one_model.predict

    def traffic(self, server: Server) -> Traffic:
        """K models down, what they share only once; d up and the cluster's number."""
        size = tree.num_bytes((server.params, server.buffers))
        once = 0
        if self.shared is not None:
            once = tree.num_bytes(tree.partition(server.params, self.shared)[0])
        return Traffic(size - once + once // self.clusters, size // self.clusters + 4)


def ifca(
    problem: Problem,
    solver: Solver,
    *,
    clusters: int = 2,
    average: str = "models",
    weights: str | None = None,
    shared: Callable[[str], bool] | None = None,
    warm_up: Any = 0,
) -> Ifca:
    """IFCA: j = argmin_j F_i(theta_j) on the client's training rows; then one of

        models:     y_i <- local work from theta_j;  theta_j <- mean of the y_i of those who chose it
        gradients:  theta_j <- theta_j - (eta / m) sum of grad F_i(theta_j) over those who chose it,

    where m counts all participants, so that a small cluster takes small steps. A model that nobody chose stays
    as it was; `Server.idle` says for how long, and `info["empty_clusters"]` how many the last round left.

    Starts are independent and full-scale. The outcome depends on them: run several and keep the one with the
    lowest training loss (`fh.experiment.restarts`), or begin with a warm-up, in which a
    random partition of the clients into K groups says who trains what. Models that start at zero (softmax
    regression) separate only through the random tie-break of the first round, or through a warm-up.

    Args:
        problem: what to learn.
        solver: local work. With gradients: its batch size and its rate eta, which must be plain SGD's; a round
            is one step whatever it plans, and a straggler does its one batch. Full batches are the paper's.
        clusters: K; static. 1 is FedAvg, or with gradients uniform FedSGD.
        average: "models" or "gradients"; static.
        weights: "proportional" (n_k; the default for models) or "uniform" (for gradients).
        shared: path -> whether a leaf is one and the same in all K models, the mean over all participants, such
            as `fh.models.selectors.body(problem)`; static. None shares nothing.
        warm_up: rounds of the warm-up, int32 leaf.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: one out of range; gradients with a solver with momentum or of optax; a selector that takes
            no leaf or all of them; when a run begins, more clusters than clients.

    Reference:
        Ghosh, Chung, Yin, Ramchandran, NeurIPS 2020, Algorithm 1, options I and II; its experiments for shared
        layers, random starts and restarts.

    Departures:
        With models, members are weighted by n_k within their cluster by default, so that K = 1 is FedAvg (the
        authors' FEMNIST code does the same, their MNIST code weights uniformly). Ties are broken at random, not
        for the first model. Their FEMNIST code only begins with a common body and then averages all leaves by
        cluster; here what is shared stays shared. Its warm-up trains one group after the other and chooses each
        cohort within the group; here all groups train at once. Their "em" scores are left out, since they grow
        with the loss.
    """
    check_parts(problem, solver)
    known("average", average, AVERAGES)
    weights = {"models": "proportional", "gradients": "uniform"}[average] if weights is None else weights
    known("weights", weights, WEIGHTS)
    if average == "gradients":
        require(
            solver.kind == "sgd",
            f"solver must be plain SGD to average gradients, got one of kind {solver.kind!r}: use fh.local.sgd "
            "without momentum, or average='models'",
        )
        most = None if solver.plan.most is None else 1
        plan = dataclasses.replace(solver.plan, amount=jnp.ones((), jnp.int32), unit="steps", most=most)
        solver = dataclasses.replace(solver, plan=plan, gamma=None)
    if shared is not None:
        if not callable(shared):
            raise TypeError(
                f"shared must be a function of a leaf's path, got {shared!r}: pass "
                "fh.models.selectors.body(problem)"
            )
        selectors.split(problem, shared)
    clusters = positive_int("clusters", clusters, remedy="1 is FedAvg")
    warm_up = whole("warm_up", warm_up, least=0, remedy="0 lets clients choose from the first round on")
    return Ifca(problem, solver, WEIGHTS[weights](), warm_up, clusters, average, shared)

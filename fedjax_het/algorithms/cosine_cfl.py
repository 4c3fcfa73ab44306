"""Clusters by the cosine of updates: leader clustering after a warm-up, reconsidered from time to time."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, similarity, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import clusters as stacked
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.clusters import Member
from fedjax_het.algorithms.parts import check_parts
from fedjax_het.algorithms.surveys import Placing, Survey, largest
from fedjax_het.check import number, positive_int, require, whole
from fedjax_het.federation import Federation
from fedjax_het.local import Solver
from fedjax_het.problem import Model, Problem, objective
from fedjax_het.typing import Array, Key, Params, PyTree, static
from fedjax_het.weighting import proportional

__all__ = ["CosineCfl", "Server", "cosine_cfl"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The clusters.

    Attributes:
        params: the clusters' models, [K, ...].
        buffers: their buffers [K, ...], or () where clients own theirs.
        label: everyone's cluster, int32 [N].
        placed: whose cluster a survey has found, bool [N].
        rows: everyone's training rows when last seen, float [N].
        seed: of the projection, uint32 [2].
        survey: the last one.
    """

    params: Params
    buffers: PyTree
    label: Array
    placed: Array
    rows: Array
    seed: Array
    survey: Survey


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CosineCfl:
    """See `cosine_cfl`."""

    problem: Problem
    solver: Solver
    weighting: Any
    placing: Placing
    warm_up: Array
    every: Array
    clusters: int = static()
    projection: int | None = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, Member]:
        """One fresh model, and everyone in cluster 0."""
        model = self.problem.fresh(keys.stream(key, "params"))
        shared, count = self.problem.shared(model.buffers), federation.num_clients
        d = sum(leaf.size for leaf in jax.tree.leaves(model.params))
        length = d if self.projection is None else min(d, self.projection)
        real, never = jnp.result_type(float), jnp.full((), -1, jnp.int32)
        mean, centroid = jnp.zeros((length,), real), jnp.zeros((self.clusters, length), real)
        rows = federation.train.size.at[federation.phase(jnp.zeros((), jnp.int32))].get(mode="clip")
        server = Server(
            tree.stack(model.params, self.clusters),
            tree.stack(shared, self.clusters),
            jnp.zeros((count,), jnp.int32),
            jnp.zeros((count,), bool),
            rows.astype(real),
            keys.seed(keys.stream(key, "projection")),
            Survey(never, Model(model.params, shared), mean, centroid),
        )
        return server, tree.stack(Member(never, self.problem.own(model.buffers)), count)

    def surveys(self, server: Server, round_: Array) -> Array:
        """Whether a round is a survey; bool scalar."""
        if self.clusters == 1:
            return jnp.zeros((), bool)
        due = (server.survey.round < 0) | ((round_ - self.warm_up) % self.every == 0)
        return (round_ >= self.warm_up) & due

    def reference(self, server: Server) -> Model:
        """sum_c (n_c / n) theta_c, and the buffers likewise."""
        hot = jax.nn.one_hot(server.label, self.clusters, dtype=server.rows.dtype)
        share = tree.divide(server.rows @ hot, jnp.sum(server.rows))

        def mix(leaf: Array) -> Array:
            return jnp.tensordot(share.astype(leaf.dtype), leaf, 1, precision=jax.lax.Precision.HIGHEST)

        return Model(*jax.tree.map(mix, (server.params, server.buffers)))

    def direction(self, server: Server, update: Array) -> Array:
        """An update [d] as it is compared, [r]."""
        if self.projection is None:
            return update
        return similarity.project(update, self.projection, server.seed)

    def client_update(self, server: Server, client: Client) -> Report:
        """Local work from the cluster's model, or in a survey from the reference: then its direction counts."""
        survey, own = self.surveys(server, client.round), client.state.buffers
        label = stacked.label_of(server.label, client)
        common = self.reference(server)
        start = tree.where(
            survey,
            self.problem.model(common.params, common.buffers, own),
            stacked.centre(self.problem, server, label, own),
        )
        f = objective(self.problem)
        solution = self.solver.solve(client.key, f, start, client.data, round_=client.round, work=client.work)
        share = jax.nn.one_hot(label, self.clusters, dtype=client.weight.dtype) * client.weight
        update = similarity.flatten(tree.subtract(solution.params, start.params))
        each = {
            "update": self.direction(server, update),
            "rows": client.data.size.astype(server.rows.dtype),
        }
        total = stacked.upload(self.problem, start, solution, share)
        kept = tree.where(survey, own, self.problem.own(solution.buffers))
        info = {**solution.info, "cluster": label, "survey": survey.astype(jnp.int32)}
        return Report(Member(client.state.cluster, kept), total, each, info=info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """The mean in every cluster; or, in a survey, who belongs where."""
        slots, count = cohort.id.shape[0], cohort.population
        require(
            slots >= count,
            f"cohort must hold all {count} clients, got {slots} slots: a survey compares everyone's update, so "
            "sample with sampling.everyone()",
        )
        place = jnp.where(cohort.present, cohort.id, count)
        server = dataclasses.replace(server, rows=server.rows.at[place].set(each["rows"], mode="drop"))

        def trained() -> Server:
            mean, buffers = stacked.averages(total, server)
            return dataclasses.replace(server, params=tree.add(server.params, mean), buffers=buffers)

        def surveyed() -> Server:
            updates, model = stacked.by_client(each["update"], place, count), self.reference(server)
            found = self.placing.apply(updates, server.label, server.placed, model, cohort.round)
            label, placed, survey = found
            common = tree.stack((model.params, model.buffers), self.clusters)
            first = server.survey.round < 0  # what the warm-up has trained is where all clusters begin
            params, buffers = tree.where(first, common, (server.params, server.buffers))
            return dataclasses.replace(
                server, params=params, buffers=buffers, label=label, placed=placed, survey=survey
            )

        return jax.lax.cond(self.surveys(server, cohort.round), surveyed, trained)

    def personalise(self, server: Server, client: Client) -> Model:
        """The cluster's model."""
        label = stacked.label_of(server.label, client)
        return stacked.centre(self.problem, server, label, client.state.buffers)

    def consensus(self, server: Server) -> None:
        """There is no one global model."""
        return

    def join(self, server: Server, client: Client) -> Member:
        """A newcomer makes an update from the last survey's model and joins the nearest centroid."""
        own, survey = self.problem.own(self.problem.fresh(client.key).buffers), server.survey
        start = self.problem.model(survey.model.params, survey.model.buffers, own)
        f, key = objective(self.problem), keys.stream(client.key, "survey")
        solution = self.solver.solve(key, f, start, client.data, round_=survey.round)
        update = self.direction(server, similarity.flatten(tree.subtract(solution.params, start.params)))
        return Member(survey.nearest(update, largest(server.label, self.clusters)), own)

    predict = one_model.predict

    def traffic(self, server: Server) -> Traffic:
        """d down, d up."""
        size = tree.num_bytes((server.params, server.buffers)) // self.clusters
        return Traffic(size, size)


def cosine_cfl(
    problem: Problem,
    solver: Solver,
    *,
    clusters: int = 4,
    threshold: Any = 0.2,
    hysteresis: Any = 0.1,
    warm_up: Any = 20,
    every: Any = 20,
    sweeps: Any = 3,
    centre: bool = True,
    projection: int | None = None,
) -> CosineCfl:
    """Clustered federated averaging by a threshold on cosines.

    Rounds before `warm_up` are FedAvg on one model. Then round `warm_up`, and every `every`-th after it, is a
    survey: nobody trains; all clients make an update Delta_k from one reference model, sum_c (n_c/n) theta_c,
    and u_k = Delta_k / |Delta_k| less the plain mean of all u is turned to unit length. In the first survey,
    in the order of ids, each client joins the cluster whose centroid has the largest cosine with u_k if that is
    at least `threshold`, or opens a new one while there are fewer than K; `sweeps` sweeps of spherical k-means
    then take most of the order's influence away. In later ones clients move, all at once, where the cosine to
    another centroid exceeds that to their own by more than `hysteresis`. A centroid is the normalised mean.
    All other rounds are FedAvg in every cluster, which begins with the model of the warm-up.

    Every client takes part in every round. One whose update is zero or missing in the first survey goes with
    the largest cluster of that survey until another one sees it. Newcomers make an update from the last
    survey's model and join the nearest centroid.

    Args:
        problem: what to learn.
        solver: local work.
        clusters: K, the most clusters; static. 1 is FedAvg, and has no surveys.
        threshold: in [-1, 1], a leaf; -1 puts everyone into one cluster. Nothing here asks whether there are
            clusters at all: clients that are alike are dealt to K of them. On digits with four label
            permutations the defaults found exactly these in 6 of 6 runs of ten full steps a round, in 4 of 6
            of few steps on small batches.
        hysteresis: >= 0, a leaf.
        warm_up: rounds before the first survey, int32 leaf.
        every: rounds from one survey to the next, at least 2, int32 leaf.
        sweeps: int32 leaf; 0 leaves what the leaders gave.
        centre: whether the mean direction is taken away, which all clients share while the model is far from
            its optimum; static.
        projection: as in `cfl`.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: one out of range; when a run begins, a cohort that cannot hold every client.

    Reference:
        A textbook variant of clustered federated learning, after Sattler, Mueller, Samek, IEEE TNNLS 2021.
        Leader clustering: Hartigan, "Clustering Algorithms", 1975, chapter 3. Spherical k-means: Dhillon and
        Modha, Machine Learning 42, 2001.

    Departures:
        As it is commonly sketched, a cluster without members has no centroid and is never joined, updates of
        different models and rounds are compared, and the result depends on who comes first: here clusters are
        opened by clients that are far from all others, and a survey compares updates of one model.
    """
    check_parts(problem, solver)
    if projection is not None:
        projection = positive_int("projection", projection, remedy="None compares whole updates")
    clusters = positive_int("clusters", clusters, remedy="1 is FedAvg")
    placing = Placing(
        number("threshold", threshold, least=-1, most=1, remedy="it is a cosine, -1 is one cluster"),
        number("hysteresis", hysteresis, least=0, remedy="0 moves to any nearer centroid"),
        whole("sweeps", sweeps, least=0, remedy="0 leaves what the leaders gave"),
        clusters,
        bool(centre),
    )
    warm_up = whole("warm_up", warm_up, least=0, remedy="it counts rounds")
    every = whole("every", every, least=2, remedy="a survey trains nobody, so there must be rounds in between")
    return CosineCfl(problem, solver, proportional(), placing, warm_up, every, clusters, projection)

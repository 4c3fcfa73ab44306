"""MOCHA: related linear models, one a client, by dual coordinate ascent."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.core import Tracer

from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model, task_covariance
from fedjax_het.algorithms.dual import LOSSES
from fedjax_het.algorithms.linear_tasks import check_convex, dual_loss, dual_shape, flattened, outputs
from fedjax_het.algorithms.parts import check_parts
from fedjax_het.check import known, number, require, whole
from fedjax_het.federation import Batch, Federation
from fedjax_het.local import Plan, Solver, fold
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, Key, PyTree, static
from fedjax_het.weighting import uniform

__all__ = ["Mocha", "Server", "mocha"]

PRIORS = ("learned", "independent")
"""The priors that have a name; others are matrices."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """What the tasks have in common.

    Attributes:
        images: B', row t being b_t = X_t' alpha_t / n_t, float [N, d]. W = B Sigma / lambda follows from it, so
            that it cannot fall out of step with Sigma.
        relation: Sigma [N, N], of trace 1.
        safety: rho of Sigma, scalar.
        rounds: rounds that changed B, int32 scalar.
    """

    images: Array
    relation: Array
    safety: Array
    rounds: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mocha:
    """See `mocha`.

    Attributes:
        problem: what each client learns.
        plan: how many rows a client visits, one a step.
        weighting: only for measures: the objective counts every task once.
        strength: lambda, scalar.
        prior: Sigma [N, N], or () for the two that have a name.
        inner: rounds between two steps of Sigma, int32 scalar.
        floor: least eigenvalue of W'W, scalar.
        loss: a key of `LOSSES`; static.
        learns: whether Sigma is learned; static.
    """

    problem: Problem
    plan: Plan
    weighting: Any
    strength: Array
    prior: Any
    inner: Array
    floor: Array
    loss: str = static()
    learns: bool = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, Array]:
        """No dual variable has moved, so that all models are zero; alpha is [N, n, K]."""
        width, size = dual_shape(self.problem, self.loss, federation)
        clients, real = federation.num_clients, jnp.result_type(float)
        relation = task_covariance.independent(clients) if isinstance(self.prior, tuple) else self.prior
        require(
            relation.shape == (clients, clients),
            f"prior must have a row for each of the {clients} clients, got shape {relation.shape}: "
            "build it for this federation",
        )
        images = jnp.zeros((clients, size), real)
        server = Server(images, relation, task_covariance.safety(relation), jnp.zeros((), jnp.int32))
        return server, jnp.zeros((clients, federation.spec.capacity[0], width), real)

    def weights(self, server: Server, client: Client) -> Array:
        """w_t = (B Sigma)_t / lambda, float [d]."""
        return server.relation[client.id] @ server.images / self.strength

    def client_update(self, server: Server, client: Client) -> Report:
        """Coordinate ascent on the local dual, as many rows as the work allows; upload the change of b_t."""
        rule, w = LOSSES[self.loss], self.weights(server, client)
        own = server.relation[client.id, client.id] / self.strength
        size = jnp.maximum(client.data.size, 1).astype(w.dtype)

        def step(carry: Any, batch: Batch, key: Key, j: Array) -> Any:
            alpha, image, loss = carry
            at = batch.position[0]
            rows: Array = jax.jacrev(lambda flat: outputs(self.problem, flat, batch.x)[0])(w)  # [K, d]
            y = rule.target(batch.y, rows.shape[0])[0]
            # the largest eigenvalue of the row's curvature; for a layer x @ kernel + bias all are equal
            stiff = jnp.max(jnp.sum(jnp.abs(rows @ rows.T), axis=1))
            z = rows @ (w + server.safety * own * image)
            change = rule.change(alpha[at], z, y, server.safety * own * stiff / size)
            loss = loss + rule.primal(rows @ w, y)
            return alpha.at[at].add(change), image + change @ rows / size, loss

        start = (client.state, jnp.zeros_like(w), jnp.zeros((), w.dtype))
        carry, steps = fold(step, start, client.key, client.data, self.plan, work=client.work)
        alpha, image, loss = carry
        loss = loss / jnp.maximum(steps, 1).astype(w.dtype)
        if self.plan.most is not None:  # a plan longer than its static loop must not pass unseen
            loss = jnp.where(steps <= self.plan.most, loss, jnp.nan)
        local = self._model(w + own * image)
        return Report(alpha, (), each=image, info={"loss": loss, "steps": steps}, local=local)

    def server_update(self, server: Server, total: PyTree, each: Array, cohort: Cohort, key: Key) -> Server:
        """B gains the cohort's changes; every `inner` rounds Sigma is refitted, and with it rho."""
        images, rounds = server.images.at[cohort.id].add(each, mode="drop"), server.rounds + 1
        if not self.learns:
            return Server(images, server.relation, server.safety, rounds)
        models = server.relation @ images / self.strength
        relation = jax.lax.cond(
            rounds % self.inner == 0,
            lambda: task_covariance.learned(models, self.floor),
            lambda: server.relation,
        )
        return Server(images, relation, task_covariance.safety(relation), rounds)

    def _model(self, flat: Array) -> Model:
        return Model(flattened(self.problem)[1](flat), ())

    def personalise(self, server: Server, client: Client) -> Model:
        """The client's own model w_t."""
        return self._model(self.weights(server, client))

    def consensus(self, server: Server) -> None:
        """There is one model a client."""
        return

    def join(self, server: Server, client: Client) -> NoReturn:
        """Refused."""
        raise ValueError(
            "mocha cannot serve unseen clients: Sigma has no row that relates them to the others: train with "
            "them, or use a method with a global model"
        )

    predict = one_model.predict

    def traffic(self, server: Server) -> Traffic:
        """w_t and rho Sigma_tt down, the change of b_t up."""
        size, item = server.images.shape[1], server.images.dtype.itemsize
        return Traffic((size + 1) * item, size * item)


def _prior(prior: Any) -> tuple[Any, bool]:
    """(Sigma or (), whether it is learned) of a name or a matrix.

    Raises:
        TypeError, ValueError: neither one of `PRIORS` nor a covariance.
    """
    if isinstance(prior, str):
        return (), known("prior", prior, PRIORS) == "learned"
    return prior if isinstance(prior, Tracer) else task_covariance.covariance(prior), False


def mocha(
    problem: Problem,
    solver: Solver,
    *,
    strength: Any = 0.001,
    prior: str | Sequence[Sequence[float]] | Array = "learned",
    loss: str | None = None,
    inner: Any = 10,
    floor: Any = 1e-7,
) -> Mocha:
    """MOCHA: min over W, Sigma of sum_t 1/n_t sum_i loss(w_t . x_i, y_i) + lambda/2 tr(W Sigma^-1 W').

    W-step, a round: client t raises its part of the dual by coordinate steps on its rows,
    alpha_i <- argmax -loss*(-alpha_i) - ..., with sigma' = rho, and uploads the change of
    b_t = X_t' alpha_t / n_t; B <- B + change; W = B Sigma / lambda. Sigma-step, every `inner` rounds:
    Sigma <- (W'W)^(1/2) / tr (W'W)^(1/2), after which W and rho are those of the new Sigma.

    Clients that are absent, or that do a part of their work (theta_t), slow the ascent and cannot break it: the
    dual objective never falls while Sigma stands. `duality_gap` measures the distance to the optimum.

    Args:
        problem: a linear, convex one without an l2 term; a bias in it is regularised like every weight.
        solver: of it only how much work there is: epochs are passes over the client's rows, steps are rows.
        strength: lambda > 0.
        prior: "learned", "independent" (I/N), or a covariance [N, N] such as `mean_regularised`, `clustered` or
            `laplacian` of `fh.algorithms.task_covariance` make; it is divided by its trace.
        loss: "squared", "softmax", "hinge" or "logistic"; None for the problem's own. The last two need targets
            of -1 and 1 and one output.
        inner: rounds between two Sigma-steps; of the authors' 100, a run of fewer would never learn Sigma.
        floor: least eigenvalue of W'W, > 0.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a problem that is not linear and convex, or that has an l2 term; a loss whose conjugate is
            not known; a number out of range.

    Reference:
        Smith, Chiang, Sanjabi, Talwalkar, NeurIPS 2017, Algorithm 1, with the dual and its data-local
        subproblems of section 3. Coordinate steps: Shalev-Shwartz, Zhang, JMLR 2013.

    Departures:
        The authors' code leaves W as it was after a Sigma-step, so that W no longer is the primal point of
        alpha; here it is recomputed. They take half a pass a round in one fixed order of seeds, here the solver
        says how many, in a fresh permutation every epoch. Eigenvalues are floored whenever they are below the
        floor, not only if one is negative. "softmax" is the same method with a vector of dual variables a row.
    """
    check_parts(problem, solver)
    check_convex("mocha", problem)
    given, learns = _prior(prior)
    return Mocha(
        problem,
        dataclasses.replace(solver.plan, batch_size=1),
        uniform(),
        number("strength", strength, above=0, remedy="lambda of the penalty"),
        given,
        whole("inner", inner, remedy="rounds between two Sigma-steps"),
        number("floor", floor, above=0, remedy="the least eigenvalue of W'W"),
        dual_loss(problem, loss),
        learns,
    )

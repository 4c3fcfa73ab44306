"""MOCHA's objective by stochastic gradients: for those who want autodiff and no dual variables."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model, task_covariance
from fedjax_het.algorithms.linear_tasks import check_convex
from fedjax_het.algorithms.parts import check_parts
from fedjax_het.check import known, number, require, short, whole
from fedjax_het.federation import Federation
from fedjax_het.local import Solver
from fedjax_het.problem import Model, Problem, objective, prox, tilt
from fedjax_het.typing import Array, Key, Params, PyTree, static
from fedjax_het.weighting import uniform

__all__ = ["MochaPrimal", "Tasks", "mocha_primal"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tasks:
    """The models and how they are related.

    Attributes:
        params: w_t, stacked [N, ...].
        precision: Sigma^-1 [N, N].
        rounds: rounds that changed W, int32 scalar.
    """

    params: Params
    precision: Array
    rounds: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MochaPrimal:
    """See `mocha_primal`.

    Attributes:
        problem: what each client learns.
        solver: local work.
        weighting: only for measures: the objective counts every task once.
        strength: lambda, scalar.
        given: the precision [N, N], or () where Sigma is learned.
        inner: rounds between two steps of Sigma, int32 scalar.
        floor: least eigenvalue of W'W, scalar.
        jitter: epsilon of (Sigma + epsilon I)^-1, scalar.
        learns: whether Sigma is learned; static.
    """

    problem: Problem
    solver: Solver
    weighting: Any
    strength: Array
    given: Any
    inner: Array
    floor: Array
    jitter: Array
    learns: bool = static()

    def init(self, key: Key, federation: Federation) -> tuple[Tasks, tuple[()]]:
        """One fresh model for all; tasks that are learned to be related start unrelated, Sigma = I/N."""
        params = self.problem.fresh(keys.stream(key, "params")).params
        clients = federation.num_clients
        if self.learns:
            precision = self._inverse(task_covariance.independent(clients))
        else:
            precision = self.given
            require(
                precision.shape == (clients, clients),
                f"precision must have a row for each of the {clients} clients, got shape {precision.shape}: "
                "build it for this federation",
            )
        return Tasks(tree.stack(params, clients), precision, jnp.zeros((), jnp.int32)), ()

    def _inverse(self, relation: Array) -> Array:
        eye = jnp.eye(relation.shape[0], dtype=relation.dtype)
        return jnp.linalg.inv(relation + self.jitter * eye)

    def client_update(self, server: Tasks, client: Client) -> Report:
        """Local work on F_t + lambda (P_tt/2 |w|^2 + <s_t, w>), s_t = sum_{j != t} P_jt w_j; upload the delta.

        The client's own column is the one that it is moving; only the others' are of the round's start.
        """
        start = tree.take(server.params, client.id)
        column = server.precision[client.id]
        others = column.at[client.id].set(0)
        pull = jax.tree.map(lambda leaf: jnp.tensordot(others.astype(leaf.dtype), leaf, 1), server.params)
        f = prox(objective(self.problem), tree.zeros_like(start), self.strength * column[client.id])
        f = tilt(f, tree.scale(self.strength, pull))
        solution = self.solver.solve(
            client.key, f, Model(start, ()), client.data, round_=client.round, work=client.work
        )
        delta = tree.subtract(solution.params, start)
        return Report((), (), each=delta, info=solution.info, local=solution.model)

    def server_update(self, server: Tasks, total: PyTree, each: Params, cohort: Cohort, key: Key) -> Tasks:
        """W gains the cohort's changes; every `inner` rounds Sigma is refitted and inverted."""
        params = jax.tree.map(lambda leaf, new: leaf.at[cohort.id].add(new, mode="drop"), server.params, each)
        rounds = server.rounds + 1
        if not self.learns:
            return Tasks(params, server.precision, rounds)
        models = jax.vmap(lambda one: ravel_pytree(one)[0])(params).astype(server.precision.dtype)
        precision = jax.lax.cond(
            rounds % self.inner == 0,
            lambda: self._inverse(task_covariance.learned(models, self.floor)),
            lambda: server.precision,
        )
        return Tasks(params, precision, rounds)

    def personalise(self, server: Tasks, client: Client) -> Model:
        """The client's own model w_t."""
        return Model(tree.take(server.params, client.id), ())

    def consensus(self, server: Tasks) -> None:
        """There is one model a client."""
        return

    def join(self, server: Tasks, client: Client) -> NoReturn:
        """Refused."""
        raise ValueError(
            "mocha_primal cannot serve unseen clients: Sigma has no row that relates them to the others: train "
            "with them, or use a method with a global model"
        )

    predict = one_model.predict

    def traffic(self, server: Tasks) -> Traffic:
        """w_t, s_t and P_tt down, the change of w_t up."""
        size = tree.num_bytes(server.params) // server.precision.shape[0]
        return Traffic(2 * size + server.precision.dtype.itemsize, size)


def mocha_primal(
    problem: Problem,
    solver: Solver,
    *,
    strength: Any = 0.001,
    precision: str | Sequence[Sequence[float]] | Array = "learned",
    inner: Any = 10,
    floor: Any = 1e-7,
    jitter: Any = 1e-3,
) -> MochaPrimal:
    """min over W, Sigma of sum_t F_t(w_t) + lambda/2 tr(W Sigma^-1 W') by local SGD, one model a client.

    With P = Sigma^-1 the penalty's gradient in w_t is lambda sum_j P_jt w_j, of which the client needs P_tt,
    its own w_t and s_t = sum_{j != t} P_jt w_j: two models down, one up, and no other client's model. Every
    `inner` rounds Sigma <- (W'W)^(1/2) / tr (W'W)^(1/2) and P <- (Sigma + jitter I)^-1.

    Steps are stable while eta (L + lambda P_tt) < 2; the models move together only while all clients' steps are
    small, since the others' columns are those of the round's start.

    Args:
        problem: a linear, convex one; any loss and l2 term.
        solver: local work.
        strength: lambda > 0.
        precision: "learned", or Sigma^-1 [N, N], symmetric and at least positive semi-definite, taken as it is:
            I - 11'/N is mean regularisation, lambda/2 sum_t |w_t - mean|^2.
        inner: rounds between two Sigma-steps.
        floor: least eigenvalue of W'W, > 0.
        jitter: epsilon > 0, what is added to Sigma before it is inverted.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a problem that is not linear and convex; a number or matrix out of range.

    Reference:
        The objective of Smith, Chiang, Sanjabi, Talwalkar, NeurIPS 2017; Zhang, Yeung, UAI 2010.

    Departures:
        The paper solves the dual (`mocha`), which needs no step size. Its authors' own gradient baseline
        multiplies W by the precision at the server, without lambda.
    """
    check_parts(problem, solver)
    check_convex("mocha_primal", problem)
    if isinstance(precision, str):
        known("precision", precision, ("learned",))
    learns = isinstance(precision, str)
    return MochaPrimal(
        problem,
        solver,
        uniform(),
        number("strength", strength, above=0, remedy="lambda of the penalty"),
        () if learns else _matrix(precision),
        whole("inner", inner, remedy="rounds between two Sigma-steps"),
        number("floor", floor, above=0, remedy="the least eigenvalue of W'W"),
        number("jitter", jitter, above=0, remedy="it keeps the inverse of Sigma bounded"),
        learns,
    )


def _matrix(precision: Any) -> Array:
    """A precision, symmetric and without negative eigenvalues."""
    if isinstance(precision, Tracer):
        return precision
    matrix = number("precision", precision)
    values = np.asarray(matrix, np.float64)
    square = values.ndim == 2 and values.shape[0] == values.shape[1]
    require(
        square and bool(np.allclose(values, values.T, rtol=1e-5)),
        f"precision must be a symmetric matrix [N, N], got {short(precision)}: one row and column a client",
    )
    least, most = np.linalg.eigvalsh(values)[[0, -1]]
    require(
        least >= -1e-6 * most,
        f"precision must have no negative eigenvalue, got {least:.3g}: the penalty would have no minimum",
    )
    return matrix

"""L2GD: one coin for all says whether clients train alone this time, or move towards their mean."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.meanreg import moved
from fedjax_het.algorithms.parts import check_parts
from fedjax_het.algorithms.qfedavg import first_rate
from fedjax_het.check import number, require
from fedjax_het.federation import Batch, Federation
from fedjax_het.local import Clock, Solver, fold
from fedjax_het.problem import Model, Problem, objective
from fedjax_het.typing import Array, Key, Params, PyTree
from fedjax_het.weighting import uniform

__all__ = ["L2gd", "Server", "l2gd"]

SLACK = 1e-6
"""How far past 1 a share may lie: 10 times 0.1 in single precision."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The mean of all clients' models, and the next round's coin.

    Attributes:
        params: w_bar.
        buffers: the mean of their buffers, or () where clients own theirs.
        holders: which clients have rows in any phase, bool [N].
        together: whether the next round moves clients towards w_bar, bool scalar.
    """

    params: Params
    buffers: PyTree
    holders: Array
    together: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class L2gd:
    """See `l2gd`; a client keeps its whole model, a `Model`."""

    problem: Problem
    solver: Solver
    weighting: Any
    lam: Array
    p: Array

    def init(self, key: Key, federation: Federation) -> tuple[Server, Model]:
        """One fresh model, everyone's and their mean; the first coin."""
        model = self.problem.fresh(keys.stream(key, "params"))
        holders = jnp.any(federation.train.size > 0, axis=0)
        server = Server(model.params, self.problem.shared(model.buffers), holders, self.coin(key))
        return server, tree.stack(model, federation.num_clients)

    def coin(self, key: Key) -> Array:
        """True with probability p; bool scalar."""
        return jax.random.bernoulli(keys.stream(key, "coin"), self.p)

    def kept(self, client: Client, work: Array) -> tuple[Array, Array]:
        """What a round's steps leave of w_k - w_bar, prod_j (1 - eta_j lambda (1 - p) / p), and their mean loss
        at w_k, which shows that a client is well although nothing is learned from it; scalars."""
        plan, f, model = self.solver.plan, objective(self.problem), client.state
        full, real = plan.steps(client.data), jnp.result_type(float)

        def shrink(carry: tuple[Array, Array], batch: Batch, key: Key, j: Array) -> tuple[Array, Array]:
            eta = self.solver.rule.rate(Clock(client.round * full + j, client.round, j))
            loss = f(model.params, model.buffers, batch, key)[1].loss.astype(real)
            return carry[0] * (1 - eta * self.lam * (1 - self.p) / self.p), carry[1] + loss

        start = (jnp.ones((), real), jnp.zeros((), real))
        key = keys.stream(client.key, "together")
        (left, loss), steps = fold(shrink, start, key, client.data, plan, work=work)
        return left, loss / jnp.maximum(steps, 1).astype(real)

    def client_update(self, server: Server, client: Client) -> Report:
        """Local steps on F_k, or steps towards w_bar; upload what w_k moved by."""
        solution = self.solver.solve(
            client.key,
            objective(self.problem),
            client.state,
            client.data,
            round_=client.round,
            work=jnp.where(server.together, 0, client.work),
        )
        left, loss = self.kept(client, jnp.where(server.together, client.work, 0))
        mean = self.problem.model(server.params, server.buffers, client.state.buffers)
        drawn = tree.add(client.state, tree.scale(1 - left, tree.subtract(mean, client.state)))
        model = tree.where(server.together, drawn, solution.model)
        loss = jnp.where(server.together, loss, solution.loss)
        info = {**solution.info, "loss": loss, "together": server.together}
        return Report(model, moved(self.problem, client.state, model), info=info, local=model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """w_bar <- w_bar + (1/N) sum_k (new w_k - old w_k); then the next coin."""
        members = jnp.sum(server.holders.astype(jnp.result_type(float)))
        params, buffers = tree.add((server.params, server.buffers), tree.divide(total, members))
        return Server(params, buffers, server.holders, self.coin(key))

    def personalise(self, server: Server, client: Client) -> Model:
        """w_k as its last round left it; w_bar for a client that never has rows."""
        mean = self.problem.model(server.params, server.buffers, client.state.buffers)
        # a newcomer's number is nobody's here, so its rows speak for it
        holds = server.holders.at[client.id].get(mode="clip") | (client.data.size > 0)
        return tree.where(holds, client.state, mean)

    def join(self, server: Server, client: Client) -> Model:
        """A newcomer does one round of local steps from w_bar; it is no part of the mean."""
        own = self.problem.own(self.problem.fresh(client.key).buffers)
        start = self.problem.model(server.params, server.buffers, own)
        f = objective(self.problem)
        solution = self.solver.solve(client.key, f, start, client.data, round_=client.round, work=client.work)
        return solution.model

    predict = one_model.predict
    consensus = one_model.consensus

    def traffic(self, server: Server) -> Traffic:
        """d down, d up, in every round."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size)


def l2gd(problem: Problem, solver: Solver, *, lam: Any = 0.1, p: Any = 0.2) -> L2gd:
    """L2GD: min (1/N) sum_k F_k(w_k) + lambda/(2N) sum_k |w_k - w_bar|^2 by random steps on either term.

    One coin a round, the same for everybody. With probability 1 - p, w_k <- w_k - eta grad F_k(w_k); with
    probability p, w_k <- (1 - c) w_k + c w_bar, c = eta lambda (1 - p) / p. In the paper's terms eta is
    alpha / (N (1 - p)) and c is alpha lambda / (N p), so that the mean step is alpha times the objective's
    gradient: stochastic gradient descent, whose noise vanishes with alpha. A round of several local steps has
    as many steps towards w_bar if the coin falls the other way: the paper's two moves, with one coin for all of
    them; `steps=1` is the paper's method.

    lambda = 0 is local training. With c = 1 a round together replaces every model by the mean, and a round
    alone followed by one together is uniform FedAvg. w_bar is the mean of the last known w_k of all clients but
    those that never have rows: they would only follow it, and are served w_bar itself. A client that is not in
    the cohort keeps its w_k, whatever the coin. A run's own `weighting` has no part in it.

    Args:
        problem: what to learn.
        solver: local steps, plain SGD.
        lam: lambda >= 0, with c <= 1, a leaf; the paper's analysis has c <= 1/2.
        p: in (0, 1), a leaf; the paper's analysis is best at p = lambda / (L + lambda).

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: lambda negative, p not in (0, 1), c > 1 (the message says which lambda is possible), or a
            solver with momentum or an adaptive one.

    Reference:
        Hanzely, Richtarik, arXiv 2002.05516, 2020, Algorithm 1 and equation (2).

    Departures:
        Gradients are of minibatches, and not all clients need to take part. The paper sends models only when a
        round together follows one alone, in p (1 - p) of all rounds; here clients report in every round, and
        `traffic` counts that. N leaves out clients that never have rows, see above.
    """
    check_parts(problem, solver)
    if solver.kind != "sgd":
        raise ValueError(
            f"solver must be plain SGD, got kind {solver.kind!r}, whose steps those towards the mean cannot "
            "match: pass fh.local.sgd without momentum"
        )
    lam = number("lam", lam, least=0, remedy="0 is local training, 0.1 is a good start")
    p = number("p", p, above=0, below=1, remedy="0.2 moves everybody towards the mean once in five rounds")
    eta = first_rate(solver)
    if not any(isinstance(value, Tracer) for value in (eta, lam, p)):
        rates, strengths, chances = (np.asarray(value, np.float64) for value in (eta, lam, p))
        with np.errstate(divide="ignore"):  # a schedule may begin at 0
            most = chances / (1 - chances) / rates
        require(
            bool(np.all(strengths <= most * (1 + SLACK))),
            f"lam must be <= p / ((1 - p) eta) = {np.min(most):.4g} for this solver, got "
            f"{np.max(strengths):.4g}: a step towards the mean would go past it; take a smaller lam or "
            "learning_rate, or a larger p",
        )
    return L2gd(problem, solver, uniform(), lam, p)

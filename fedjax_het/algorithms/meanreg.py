"""Mean-regularised multi-task learning: a model for everyone, held near the mean of all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.parts import check_parts
from fedjax_het.algorithms.step_limit import check_held, lipschitz_of
from fedjax_het.check import number
from fedjax_het.federation import Federation
from fedjax_het.local import Solution, Solver
from fedjax_het.problem import Model, Problem, objective, prox
from fedjax_het.typing import Array, Key, Params, PyTree
from fedjax_het.weighting import proportional

__all__ = ["MeanReg", "Server", "meanreg", "moved"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The mean of all clients' models.

    Attributes:
        params: w_bar.
        buffers: the mean of their buffers, or () where clients own theirs.
    """

    params: Params
    buffers: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeanReg:
    """See `meanreg`; a client keeps its whole model, a `Model`."""

    problem: Problem
    solver: Solver
    weighting: Any
    lam: Array

    def init(self, key: Key, federation: Federation) -> tuple[Server, Model]:
        """One fresh model, everyone's and their mean."""
        model = self.problem.fresh(keys.stream(key, "params"))
        server = Server(model.params, self.problem.shared(model.buffers))
        return server, tree.stack(model, federation.num_clients)

    def train(self, server: Server, client: Client, start: Model) -> Solution:
        """Local work on F_k(w_k) + lambda/2 |w_k - w_bar|^2."""
        f = prox(objective(self.problem), server.params, self.lam)
        return self.solver.solve(client.key, f, start, client.data, round_=client.round, work=client.work)

    def client_update(self, server: Server, client: Client) -> Report:
        """Local work from w_k; upload n_k times what it moved by."""
        solution = self.train(server, client, client.state)
        total = tree.scale(client.data.size, moved(self.problem, client.state, solution.model))
        return Report(solution.model, total, info=solution.info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """w_bar <- w_bar + sum_k (n_k / n) (new w_k - old w_k), n of all clients."""
        return Server(*tree.add((server.params, server.buffers), tree.divide(total, cohort.rows)))

    def personalise(self, server: Server, client: Client) -> Model:
        """w_k as its last round left it."""
        return client.state

    def join(self, server: Server, client: Client) -> Model:
        """A newcomer trains from w_bar, once; it is no part of the mean."""
        own = self.problem.own(self.problem.fresh(client.key).buffers)
        start = self.problem.model(server.params, server.buffers, own)
        return self.train(server, client, start).model

    predict = one_model.predict
    consensus = one_model.consensus

    def traffic(self, server: Server) -> Traffic:
        """d down, d up."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size)


def moved(problem: Problem, old: Model, new: Model) -> tuple[Params, PyTree]:
    """(params, shared buffers): how far a client's model went, which is what a mean of them all needs."""
    buffers = tree.subtract(problem.shared(new.buffers), problem.shared(old.buffers))
    return tree.subtract(new.params, old.params), buffers


def meanreg(problem: Problem, solver: Solver, *, lam: Any = 1.0, lipschitz: Any = None) -> MeanReg:
    """Mean-regularised multi-task learning: min sum_k p_k F_k(w_k) + lambda/2 sum_k p_k |w_k - w_bar|^2.

    p_k = n_k / n and w_bar = sum_k p_k w_k, over all clients. A client of the cohort does local work on
    F_k(w_k) + lambda/2 |w_k - w_bar|^2 from its last w_k; the server keeps w_bar, with the last known w_k of
    those who are absent. The gradient of the penalty with respect to w_k is p_k lambda (w_k - w_bar) exactly,
    since sum_k p_k (w_k - w_bar) = 0.

    Its fixed point is the joint minimum however short or long local work is and whoever takes part: w_bar
    minimises sum_k p_k min_v F_k(v) + lambda/2 |v - w|^2, and w_k is the v there. lambda = 0 is local training;
    as lambda grows all models tend to the minimum of sum_k p_k F_k. (If the federation's sizes change with its
    phases, w_bar keeps the p_k of the rounds in which each w_k moved.) A run's own `weighting` has no part in
    it.

    Args:
        problem: what to learn.
        solver: local work; eta (lambda + L) < 2 keeps it stable.
        lam: lambda >= 0, a leaf.
        lipschitz: L > 0 of every F_k, if known: only for the check.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: lambda negative; eta (lambda + L) >= 2 (L = 0 if not given; times 1 + rho with momentum rho;
            the message says what to use).

    Reference:
        Evgeniou, Pontil, KDD 2004 (the regulariser, there with equal weights); Hanzely, Richtarik,
        arXiv 2002.05516, 2020, equation (2) (federated).

    Departures:
        Evgeniou and Pontil solve a support vector machine centrally. Public code for rounds with few clients
        adds (1/N) sum (w_k - w_bar) of the cohort to w_bar, which forgets who is absent and is then not the
        mean of anything; here it stays the mean.
    """
    check_parts(problem, solver)
    lam = number("lam", lam, least=0, remedy="0 is local training, 1 is a good start")
    check_held(solver, lam, lipschitz_of(lipschitz))
    return MeanReg(problem, solver, proportional(), lam)

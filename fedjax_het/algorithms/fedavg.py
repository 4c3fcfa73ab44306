"""FedAvg: local SGD and a weighted mean of the updates, with any optimiser at the server."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.parts import averaged, averaging, check_parts
from fedjax_het.federation import Federation
from fedjax_het.local import Clock, Optax, Solver
from fedjax_het.problem import Objective, Problem, objective
from fedjax_het.typing import Key, Params, PyTree
from fedjax_het.weighting import proportional

__all__ = ["FedAvg", "Server", "average_step", "fedavg", "local_update", "plain"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The global model and the server's optimiser.

    Attributes:
        params: w.
        buffers: the global buffers, or () where clients own theirs.
        opt: the server optimiser's state.
    """

    params: Params
    buffers: PyTree
    opt: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FedAvg:
    """Local work from the global model on any objective, and a weighted mean; see `fedavg`.

    Attributes:
        problem: what to learn.
        solver: local work.
        server: the server's optimiser, fed minus the mean update.
        weighting: the default weighting.
        objective: (problem, server, client) -> Objective, a `jax.tree_util.Partial` whose numbers are leaves:
            the one thing in which FedProx differs.
    """

    problem: Problem
    solver: Solver
    server: Optax
    weighting: Any
    objective: Any

    def init(self, key: Key, federation: Federation) -> tuple[Server, PyTree]:
        """A fresh model; clients keep nothing but buffers that they own."""
        model = self.problem.fresh(keys.stream(key, "params"))
        server = Server(model.params, self.problem.shared(model.buffers), self.server.init(model.params))
        return server, tree.stack(self.problem.own(model.buffers), federation.num_clients)

    def client_update(self, server: Server, client: Client) -> Report:
        """Local work from w; upload omega_k (y_k - w) and omega_k."""
        f = self.objective(self.problem, server, client)
        return local_update(self.problem, self.solver, f, server, client)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """w <- w + server step on the mean update."""
        return average_step(self.server, server, total, cohort)

    personalise = one_model.personalise
    predict = one_model.predict
    consensus = one_model.consensus
    join = one_model.join

    def traffic(self, server: Server) -> Traffic:
        """d down, d up."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size)


def local_update(problem: Problem, solver: Solver, f: Objective, server: Server, client: Client) -> Report:
    """Solve `f` from the global model; total: omega * delta, omega * buffers, omega."""
    start = problem.model(server.params, server.buffers, client.state)
    solution = solver.solve(client.key, f, start, client.data, round_=client.round, work=client.work)
    total = {
        "delta": tree.scale(client.weight, tree.subtract(solution.params, server.params)),
        "buffers": tree.scale(client.weight, problem.shared(solution.buffers)),
        "weight": client.weight,
    }
    return Report(problem.own(solution.buffers), total, info=solution.info, local=solution.model)


def average_step(rule: Optax, server: Server, total: PyTree, cohort: Cohort) -> Server:
    """One step of the server's optimiser on minus the cohort's mean update; buffers are averaged plainly.

    The mean is over the clients whose upload arrived, times the mass of the weights drawn, so that schemes
    whose weights do not sum to 1 (scheme II) keep their scale.
    """
    mean = tree.divide(total["delta"], total["weight"])
    grads = tree.scale(-cohort.mass, mean)
    zero = jnp.zeros((), jnp.int32)
    clock = Clock(cohort.round, cohort.round, zero)
    params, opt = rule.step(server.params, grads, server.opt, clock)
    return Server(params, averaged(total["buffers"], total["weight"], server.buffers), opt)


def plain(problem: Problem, server: Server, client: Client) -> Objective:
    """F_k itself, whatever the server holds."""
    return objective(problem)


def fedavg(problem: Problem, solver: Solver, *, server: Optax | None = None) -> FedAvg:
    """FedAvg: y_k <- local work from w;  w <- w + server step on sum_k omega_k (y_k - w).

    Weights are n_k over the cohort by default. With full batches and one epoch it is FedSGD, exact gradient
    descent.

    Args:
        problem: what to learn.
        solver: local work.
        server: the server's optimiser, fed minus the mean update as a gradient
            (`fh.local.optimizer(optax.adam, learning_rate=0.01)`); default: w + mean update.

    Raises:
        TypeError: an argument of the wrong kind.

    Reference:
        McMahan, Moore, Ramage, Hampson, Aguera y Arcas, AISTATS 2017, Algorithm 1. Server optimisers: Reddi et
        al., ICLR 2021, Algorithm 1.

    Departures:
        The mean is over the cohort's rows, not over all n (the listing's sum over all K is an erratum).
        optax's adaptive transformations correct their bias, unlike Reddi et al.'s.
    """
    check_parts(problem, solver)
    return FedAvg(problem, solver, averaging(server), proportional(), jax.tree_util.Partial(plain))

"""TERM: FedAvg whose weights are tilted by the clients' losses."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.fedavg import Server as Average
from fedjax_het.algorithms.fedavg import average_step, local_update
from fedjax_het.algorithms.parts import WEIGHTS, averaging, check_parts
from fedjax_het.algorithms.tilted_sum import highest, raised
from fedjax_het.check import known, number
from fedjax_het.federation import Federation
from fedjax_het.local import Optax, Solver
from fedjax_het.problem import Problem, full_loss, objective
from fedjax_het.typing import Array, Key, Params, PyTree

__all__ = ["Server", "Term", "term"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The global model, the server's optimiser, and what exponents are measured from.

    Attributes:
        params: w.
        buffers: the global buffers, or () where clients own theirs.
        opt: the server optimiser's state.
        reference: the highest t F_k of the last cohort, scalar; 0 before the first.
    """

    params: Params
    buffers: PyTree
    opt: PyTree
    reference: Array

    @property
    def average(self) -> Average:
        """What FedAvg's server holds."""
        return Average(self.params, self.buffers, self.opt)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Term:
    """See `term`."""

    problem: Problem
    solver: Solver
    server: Optax
    t: Array
    weighting: Any

    def init(self, key: Key, federation: Federation) -> tuple[Server, PyTree]:
        """A fresh model; clients keep nothing but buffers that they own."""
        model = self.problem.fresh(keys.stream(key, "params"))
        opt, zero = self.server.init(model.params), jnp.zeros((), jnp.result_type(float))
        server = Server(model.params, self.problem.shared(model.buffers), opt, zero)
        return server, tree.stack(self.problem.own(model.buffers), federation.num_clients)

    def client_update(self, server: Server, client: Client) -> Report:
        """F_k at w, then local work from w, weighted by omega_k exp(t F_k - reference)."""
        start = self.problem.model(server.params, server.buffers, client.state)
        exponent = self.t * full_loss(self.problem, start, client.data)
        heavier = dataclasses.replace(client, weight=client.weight * raised(exponent, server.reference))
        report = local_update(self.problem, self.solver, objective(self.problem), server.average, heavier)
        return dataclasses.replace(report, each=exponent)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """w <- w + server step on the tilted mean update."""
        moved = average_step(self.server, server.average, total, cohort)
        return Server(moved.params, moved.buffers, moved.opt, highest(each, cohort))

    personalise = one_model.personalise
    predict = one_model.predict
    consensus = one_model.consensus
    join = one_model.join

    def traffic(self, server: Server) -> Traffic:
        """d down; d and F_k up."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size + server.reference.dtype.itemsize)


def term(
    problem: Problem,
    solver: Solver,
    *,
    t: Any = 1.0,
    weights: str = "proportional",
    server: Optax | None = None,
) -> Term:
    """TERM: minimise (1/t) log sum_k p_k exp(t F_k(w)), so omega_k is proportional to p_k exp(t F_k(w)).

    F_k is the loss over all local rows at the received w, before local work; y_k <- local work from w;
    w <- w + sum_k omega_k (y_k - w), with omega normalised over the cohort. t -> 0 is FedAvg, t -> infinity
    minimax (fair), t < 0 turns away from clients with high losses (robust).

    Exponents t F_k are measured from the highest of the last cohort (from 0 in the first round), so nothing
    overflows; the mean does not see it. Only one more than 59 above or below (473 in double precision) counts
    as 59 above or below. So where |t| is so large that |t| F_k moves by more in a round, clients out of reach
    weigh alike for that round.

    Args:
        problem: what to learn.
        solver: local work.
        t: the tilt, of any sign, a leaf; 0 is FedAvg. The authors' federated runs use 0.1.
        weights: p_k, "proportional" to n_k or "uniform". A round's own weighting takes its place.
        server: the server's optimiser; default: w + mean update.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: t not finite; unknown weights.

    Reference:
        Li, Beirami, Sanjabi, Smith, ICLR 2021, equation (2) with clients as groups, Lemma 1.

    Departures:
        The softmax is over the cohort. The authors' federated code divides by a moving average of
        sum exp(t (F_k - max F)) that starts at 0, so that its first step is doubled and its weights do not sum
        to 1, and it mixes maxima of different rounds. p_k is uniform there.
    """
    check_parts(problem, solver)
    t = number("t", t, remedy="above 0 is fair, 0 is FedAvg, below 0 is robust")
    known("weights", weights, WEIGHTS)
    return Term(problem, solver, averaging(server), t, WEIGHTS[weights]())

"""AFL: one model for the worst mixture of the clients, by descent on it and ascent on the mixture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.domains import mixture
from fedjax_het.algorithms.parts import averaged, check_parts
from fedjax_het.algorithms.qfedsgd import batch_gradient
from fedjax_het.check import number, require
from fedjax_het.federation import Federation
from fedjax_het.local import Clock, Solver
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, Key, Params, PyTree
from fedjax_het.weighting import simplex, uniform

__all__ = ["Afl", "Server", "afl"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The iterate, the mixture, and the mean of the iterates.

    Attributes:
        params: w_t.
        buffers: the global buffers, or () where clients own theirs.
        mixture: lambda, float [N], on the simplex; 0 for clients that are no domain.
        domain: which clients have rows in some phase, bool [N].
        mean: the mean of w_1..w_t and of their buffers; w_0 before the first round.
        rounds: t, int32 scalar.
    """

    params: Params
    buffers: PyTree
    mixture: Array
    domain: Array
    mean: Model
    rounds: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Afl:
    """See `afl`."""

    problem: Problem
    solver: Solver
    domain_learning_rate: Array
    start: Array | None
    weighting: Any

    def init(self, key: Key, federation: Federation) -> tuple[Server, PyTree]:
        """A fresh model, lambda uniform over the clients with rows, or in proportion to `start`."""
        model = self.problem.fresh(keys.stream(key, "params"))
        domain = jnp.any(federation.train.size > 0, axis=0)
        start = jnp.ones(domain.shape, jnp.result_type(float)) if self.start is None else self.start
        require(
            start.shape == domain.shape,
            f"start must be one number for each of the {domain.size} clients, got shape {start.shape}: "
            "every client is a domain",
        )
        kept = jnp.where(domain, start, 0)
        weights = simplex(tree.divide(kept, jnp.sum(kept)), domain)
        buffers = self.problem.shared(model.buffers)
        mean = Model(model.params, buffers)
        server = Server(model.params, buffers, weights, domain, mean, jnp.zeros((), jnp.int32))
        return server, tree.stack(self.problem.own(model.buffers), federation.num_clients)

    def client_update(self, server: Server, client: Client) -> Report:
        """lambda_k g_k at w, and the loss of the same batch."""
        start = self.problem.model(server.params, server.buffers, client.state)
        grads, solution = batch_gradient(self.problem, self.solver, start, client)
        weight = server.mixture.at[client.id].get(mode="clip")
        total = {
            "grads": tree.scale(weight, grads),
            "buffers": tree.scale(weight, self.problem.shared(solution.buffers)),
            "weight": weight,
        }
        info = {**solution.info, "mixture": weight}
        own = self.problem.own(solution.buffers)
        return Report(own, total, each=solution.loss, info=info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """w <- w - eta sum lambda_k g_k;  lambda <- projection of lambda + gamma F, the losses by client."""
        slots, population = cohort.id.shape[0], cohort.population
        require(
            slots >= population,
            f"cohort must hold all {population} clients, got {slots} slots: "
            "AFL moves every lambda_k in every round, so sample with sampling.everyone()",
        )
        rate = self.solver.rule.rate(Clock(cohort.round, cohort.round, jnp.zeros((), jnp.int32)))
        params = tree.subtract(server.params, tree.scale(rate, total["grads"]))
        buffers = averaged(total["buffers"], total["weight"], server.buffers)
        place = jnp.where(cohort.present, cohort.id, population)
        seen = jnp.zeros_like(server.domain).at[place].set(True, mode="drop") & server.domain
        losses = jnp.zeros_like(server.mixture).at[place].set(each, mode="drop")
        # who is missing keeps its lambda, the others share the rest
        rest = 1 - jnp.sum(jnp.where(seen, 0, server.mixture))
        shared = jnp.where(rest > 0, rest, 1)
        moved = simplex((server.mixture + self.domain_learning_rate * losses) / shared, seen)
        weights = jnp.where(seen & (rest > 0), rest * moved, server.mixture)
        share = 1 / (server.rounds + 1).astype(weights.dtype)
        latest = Model(params, buffers)
        mean = tree.add(server.mean, tree.scale(share, tree.subtract(latest, server.mean)))
        return Server(params, buffers, weights, server.domain, mean, server.rounds + 1)

    def personalise(self, server: Server, client: Client) -> Model:
        """The mean of the iterates; buffers are the client's own where it owns them."""
        return self.problem.model(server.mean.params, server.mean.buffers, client.state)

    def consensus(self, server: Server) -> Model | None:
        """The mean of the iterates; None if clients own its buffers."""
        return None if self.problem.facts.buffers == "local" else server.mean

    predict = one_model.predict
    join = one_model.join

    def traffic(self, server: Server) -> Traffic:
        """d down; d and the loss up (lambda_k may be applied at the server)."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size + server.mixture.dtype.itemsize)


def afl(
    problem: Problem,
    solver: Solver,
    *,
    domain_learning_rate: Any = 0.1,
    start: Sequence[float] | Array | None = None,
) -> Afl:
    """AFL: min over w of max over lambda in the simplex of sum_k lambda_k F_k(w), every client a domain.

    Each round, from one batch a client at the received w: w <- w - eta sum_k lambda_k g_k;
    lambda <- Pi(lambda + gamma [F_k(w)]_k), with Pi the Euclidean projection onto the simplex and F_k on the
    same batch as g_k. What is served is the mean of w_1..w_T, for which the paper's bound holds; w_0 before the
    first round. With gamma = 0 and lambda = n_k/n it is gradient descent on all rows.

    Every client takes part in every round. One that is missing all the same (it drops out, has no rows in this
    phase, or reports NaN under "drop") contributes no gradient and keeps its lambda, for its loss is not known;
    the others share the rest. A client without rows in any phase is no domain: its lambda is 0. A straggler
    does its one batch. A round's weighting is not used, lambda takes its place.

    Args:
        problem: what to learn.
        solver: its batch size and its rate eta, which must be plain SGD's; a round is one step whatever it
            plans.
        domain_learning_rate: gamma >= 0, a leaf; 0 holds lambda where it starts.
        start: lambda before the first round, one non-negative number a client [N], scaled to sum to 1 over the
            clients with rows; uniform if None.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: gamma negative; a solver with momentum or of optax; a start that is negative or all zero;
            when a run begins, a start of another length than N, or a cohort that cannot hold every client.

    Reference:
        Mohri, Sivek, Suresh, ICML 2019, algorithm Stochastic-AFL with its averaged output.

    Departures:
        All domains every step, as in the code with which Li et al. (ICLR 2020) compare, not a drawn domain. The
        set of mixtures is the whole simplex, and w is not projected.
    """
    check_parts(problem, solver)
    require(
        solver.kind == "sgd",
        f"solver must be plain SGD, got one of kind {solver.kind!r}: w moves by eta times the mixed gradient; "
        "use fh.local.sgd without momentum",
    )
    gamma = number("domain_learning_rate", domain_learning_rate, least=0, remedy="0 holds the mixture still")
    begin = mixture("start", start, "one share for each client, 0 for none")
    return Afl(problem, solver, gamma, begin, uniform())

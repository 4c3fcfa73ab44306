"""q-FedAvg: clients with higher losses pull harder, by a step size that no q needs tuned anew."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.parts import WEIGHTS, averaged, check_parts
from fedjax_het.algorithms.tilted_sum import highest, raised
from fedjax_het.check import known, number
from fedjax_het.federation import Federation
from fedjax_het.local import Clock, Solution, Solver
from fedjax_het.problem import Model, Problem, full_loss, objective
from fedjax_het.typing import Array, Key, Params, PyTree
from fedjax_het.weighting.fairness import POSITIVE

__all__ = ["QFedAvg", "Server", "first_rate", "fair_method", "qfedavg"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The global model, and what exponents are measured from.

    Attributes:
        params: w.
        buffers: the global buffers, or () where clients own theirs.
        reference: the highest q log F_k of the last cohort, scalar; 0 before the first.
    """

    params: Params
    buffers: PyTree
    reference: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class QFedAvg:
    """See `qfedavg`.

    Attributes:
        problem: what to learn.
        solver: local work.
        q: the exponent, scalar.
        lipschitz: L, scalar; None for 1/eta of the run's first step.
        weighting: the default weighting.
        evidence: (problem, solver, L, start, client) -> (g_k like params, F_k, Solution), a
            `jax.tree_util.Partial`: the one thing in which q-FedSGD differs.
    """

    problem: Problem
    solver: Solver
    q: Array
    lipschitz: Array | None
    weighting: Any
    evidence: Any

    def init(self, key: Key, federation: Federation) -> tuple[Server, PyTree]:
        """A fresh model; clients keep nothing but buffers that they own."""
        model = self.problem.fresh(keys.stream(key, "params"))
        server = Server(model.params, self.problem.shared(model.buffers), jnp.zeros((), jnp.result_type(float)))
        return server, tree.stack(self.problem.own(model.buffers), federation.num_clients)

    def client_update(self, server: Server, client: Client) -> Report:
        """F_k at w, then g_k; upload F_k^q g_k and h_k, both times omega_k / exp(reference)."""
        start = self.problem.model(server.params, server.buffers, client.state)
        smooth = 1 / first_rate(self.solver) if self.lipschitz is None else self.lipschitz
        grads, loss, solution = self.evidence(self.problem, self.solver, smooth, start, client)
        positive = loss + POSITIVE
        exponent = self.q * jnp.log(positive)
        weight = client.weight * raised(exponent, server.reference)
        total = {
            "step": tree.scale(weight, grads),
            "curvature": weight * (self.q * tree.sum_of_squares(grads) / positive + smooth),
            "buffers": tree.scale(weight, self.problem.shared(solution.buffers)),
            "weight": weight,
        }
        own = self.problem.own(solution.buffers)
        return Report(own, total, each=exponent, info=solution.info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """w <- w - sum F_k^q g_k / sum h_k."""
        step = tree.divide(total["step"], total["curvature"])
        buffers = averaged(total["buffers"], total["weight"], server.buffers)
        return Server(tree.subtract(server.params, step), buffers, highest(each, cohort))

    personalise = one_model.personalise
    predict = one_model.predict
    consensus = one_model.consensus
    join = one_model.join

    def traffic(self, server: Server) -> Traffic:
        """d down; d and h_k up."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size + server.reference.dtype.itemsize)


def first_rate(solver: Solver) -> Array:
    """eta of the first step of the run, scalar; nan for an optax transformation without a learning rate."""
    zero = jnp.zeros((), jnp.int32)
    return solver.rule.rate(Clock(zero, zero, zero))


def _displacement(
    problem: Problem, solver: Solver, smooth: Array, start: Model, client: Client
) -> tuple[Params, Array, Solution]:
    """g_k = L (w - y_k) after local work, and F_k over all rows before it."""
    loss = full_loss(problem, start, client.data)
    solution = solver.solve(
        client.key, objective(problem), start, client.data, round_=client.round, work=client.work
    )
    return tree.scale(smooth, tree.subtract(start.params, solution.params)), loss, solution


def fair_method(
    problem: Problem, solver: Solver, q: Any, lipschitz: Any, weights: str, evidence: Any
) -> QFedAvg:
    """A method of the q-FFL objective, its arguments checked as `qfedavg` says."""
    check_parts(problem, solver)
    q = number("q", q, least=0, remedy="0 averages uniformly, 1 is a good start")
    if lipschitz is not None:
        lipschitz = number("lipschitz", lipschitz, above=0, remedy="None takes 1 / the solver's first rate")
    elif solver.kind == "adaptive":
        raise ValueError(
            "lipschitz must be given for an optax solver, got None: its steps are not a rate times a gradient; "
            "pass 1 / the rate that suits plain SGD"
        )
    known("weights", weights, WEIGHTS)
    return QFedAvg(problem, solver, q, lipschitz, WEIGHTS[weights](), jax.tree_util.Partial(evidence))


def qfedavg(
    problem: Problem, solver: Solver, *, q: Any = 1.0, lipschitz: Any = None, weights: str = "uniform"
) -> QFedAvg:
    """q-FedAvg: minimise sum_k p_k F_k(w)^(q+1) / (q+1), which spreads losses more evenly the larger q.

    F_k is the loss over all local rows at the received w, before local work; y_k <- local work from w;
    g_k = L (w - y_k);  h_k = q F_k^(q-1) |g_k|^2 + L F_k^q;  w <- w - sum_k F_k^q g_k / sum_k h_k.
    L = 1/eta, fixed by the rate tuned at q = 0, serves every q: that is what h_k is for. q = 0 is the uniform
    mean of the y_k, whatever their sizes; with weights="proportional" it is FedAvg. q -> infinity is minimax.

    Losses must be positive. Powers are measured from the highest of the last cohort (from F = 1 in the first
    round), so none overflows; the quotient does not see it. Only a power beyond e^59 of that (e^473 in double
    precision) is cut to e^59, and one below e^-59 raised to it. At q = 15 clients whose losses exceed 51 times
    the last cohort's highest weigh alike for a round, and so does everybody if nobody comes within a 51st of
    it.

    Args:
        problem: what to learn.
        solver: local work.
        q: >= 0, a leaf; the paper uses 0.001 to 15.
        lipschitz: L > 0, a leaf; None for 1 / the solver's rate at the first step of the run, also under a
            schedule. An optax solver needs it.
        weights: "uniform": no weights in the sums, as the paper has it for clients drawn with probability p_k;
            "proportional": n_k in both sums, for clients drawn uniformly. A round's own weighting takes its
            place. Only ratios of weights matter; a client drawn twice counts twice.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: q negative, L not positive, an optax solver without L, unknown weights.

    Reference:
        Li, Sanjabi, Beirami, Smith, ICLR 2020, Algorithm 2.

    Departures:
        1e-10 is added to F_k inside the powers, as in the authors' code; the shift cancels in the quotient.
        The paper draws clients with probability p_k, here the sampler does.
    """
    return fair_method(problem, solver, q, lipschitz, weights, _displacement)

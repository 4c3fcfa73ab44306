"""FedDyn: each client's objective is tilted from round to round until all of them have one minimum."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.parts import averaged, check_parts
from fedjax_het.check import known, number
from fedjax_het.federation import Federation
from fedjax_het.local import Solver
from fedjax_het.problem import Model, Problem, objective, prox, tilt
from fedjax_het.typing import Array, Key, Params, PyTree, static
from fedjax_het.weighting import proportional, uniform

__all__ = ["Dual", "FedDyn", "Server", "feddyn"]

WEIGHTS = {"uniform": uniform, "proportional": proportional, "scaled_alpha": uniform}
SERVED = ("cohort", "all", "broadcast")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The model that is sent out, its correction, and the model that is served.

    Attributes:
        params: w, where local work begins.
        buffers: the global buffers, or () where clients own theirs.
        dual: h, like params; the mean of all N clients' lambda_k.
        served: the model for predictions, like params; () where that is w.
        rows: n/N, mean training rows of a client in the last round, float scalar.
        members: clients that have rows in any phase, float scalar.
    """

    params: Params
    buffers: PyTree
    dual: Params
    served: PyTree
    rows: Array
    members: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dual:
    """What a client keeps.

    Attributes:
        dual: lambda_k, like params: its estimate of its own gradient.
        last: theta_k of its last round, like params, kept where the mean over all clients is served; else ().
        buffers: its own buffers, or ().
    """

    dual: Params
    last: PyTree
    buffers: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FedDyn:
    """See `feddyn`."""

    problem: Problem
    solver: Solver
    alpha: Array
    weighting: Any
    weights: str = static()
    serve: str = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, Dual]:
        """A fresh model, served as it is; lambda_k and h zero."""
        model = self.problem.fresh(keys.stream(key, "params"))
        zero, count = tree.zeros_like(model.params), federation.num_clients
        served = () if self.serve == "broadcast" else model.params
        last = model.params if self.serve == "all" else ()
        real, size = jnp.result_type(float), federation.train.size
        rows = jnp.mean(size.at[federation.phase(jnp.zeros((), jnp.int32))].get(mode="clip").astype(real))
        members = jnp.sum(jnp.any(size > 0, axis=0).astype(real))
        server = Server(model.params, self.problem.shared(model.buffers), zero, served, rows, members)
        return server, tree.stack(Dual(zero, last, self.problem.own(model.buffers)), count)

    def strength(self, server: Server, size: Array) -> Array:
        """alpha, or alpha n / (N n_k) where it is scaled; scalar."""
        if self.weights != "scaled_alpha":
            return self.alpha
        return self.alpha * server.rows / jnp.maximum(size, 1).astype(server.rows.dtype)

    def client_update(self, server: Server, client: Client) -> Report:
        """Local work on F_k(y) - <lambda_k, y> + alpha/2 |y - w|^2 from w, then a new lambda_k."""
        start = self.problem.model(server.params, server.buffers, client.state.buffers)
        alpha = self.strength(server, client.data.size)
        f = tilt(prox(objective(self.problem), server.params, alpha), tree.scale(-1, client.state.dual))
        solution = self.solver.solve(client.key, f, start, client.data, round_=client.round, work=client.work)
        delta = tree.subtract(solution.params, server.params)  # zero without a step, and lambda_k stays
        share = client.data.size if self.weights == "proportional" else 1
        total = {
            "delta": tree.scale(client.weight, delta),
            "buffers": tree.scale(client.weight, self.problem.shared(solution.buffers)),
            "weight": client.weight,
            "drift": tree.scale(share, delta),
        }
        last = solution.params if self.serve == "all" else ()
        if self.serve == "all":
            total["moved"] = tree.scale(share, tree.subtract(last, client.state.last))
        dual = tree.subtract(client.state.dual, tree.scale(alpha, delta))
        state = Dual(dual, last, self.problem.own(solution.buffers))
        return Report(state, total, info=solution.info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """h <- h - alpha * sum of drifts / everyone's part;  w <- mean theta_k - h / alpha."""
        real = cohort.rows.dtype
        everyone, members = jnp.asarray(cohort.population, real), server.members
        if self.weights == "proportional":
            everyone = members = cohort.rows
        dual = tree.subtract(server.dual, tree.scale(self.alpha, tree.divide(total["drift"], everyone)))
        moved = tree.scale(cohort.mass, tree.divide(total["delta"], total["weight"]))
        mean = tree.add(server.params, moved)
        served: PyTree = mean if self.serve == "cohort" else ()
        if self.serve == "all":
            served = tree.add(server.served, tree.divide(total["moved"], members))
        return Server(
            tree.subtract(mean, tree.divide(dual, self.alpha)),
            averaged(total["buffers"], total["weight"], server.buffers),
            dual,
            served,
            cohort.rows / jnp.asarray(cohort.population, real),
            server.members,
        )

    def point(self, server: Server) -> Params:
        """The parameters that predictions are made with."""
        return server.params if self.serve == "broadcast" else server.served

    def personalise(self, server: Server, client: Client) -> Model:
        """The served model; buffers are the client's own where it owns them."""
        return self.problem.model(self.point(server), server.buffers, client.state.buffers)

    def consensus(self, server: Server) -> Model | None:
        """The served model; None if clients own its buffers."""
        if self.problem.facts.buffers == "local":
            return None
        return Model(self.point(server), server.buffers)

    def join(self, server: Server, client: Client) -> Dual:
        """A zero lambda_k, and the served model as the last one."""
        own = self.problem.own(self.problem.fresh(client.key).buffers)
        last = server.served if self.serve == "all" else ()
        return Dual(tree.zeros_like(server.params), last, own)

    predict = one_model.predict

    def traffic(self, server: Server) -> Traffic:
        """d down, d up: h stays at the server."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size)


def feddyn(
    problem: Problem,
    solver: Solver,
    *,
    alpha: Any = 0.01,
    weights: str = "uniform",
    serve: str = "cohort",
) -> FedDyn:
    """FedDyn: theta_k <- local work on F_k(y) - <lambda_k, y> + alpha/2 |y - w|^2 from w.

    Then lambda_k <- lambda_k - alpha (theta_k - w) at each client of the cohort S, and at the server
    h <- h - (alpha/N) sum_S (theta_k - w),  w <- mean_S theta_k - h / alpha. lambda_k and h start at zero; N
    counts every registered client. h is the mean of all lambda_k after every round, whoever took part. Where
    theta_k is the exact minimiser, lambda_k = grad F_k(theta_k); the fixed point w*, lambda_k = grad F_k(w*),
    h = 0 has no bias, be local work exact or not, and be everyone present or not.

    | weights | mean over S | h | lambda_k | minimum found |
    |---|---|---|---|---|
    | uniform | 1/abs(S) | by 1/N | alpha | of the plain mean of the F_k |
    | proportional | n_k / sum_S n | by n_k / n | alpha | of sum_k (n_k / n) F_k |
    | scaled_alpha | 1/abs(S) | by 1/N | alpha_k = alpha n / (N n_k) | of sum_k (n_k / n) F_k |

    The second is the first with p_k = n_k / n for 1/N. The third is the authors' code for unbalanced clients:
    the first one applied to N p_k F_k. The two reach one limit by different ways, and in both
    h = sum_k p_k lambda_k, as long as sizes do not change with the federation's phases. A run's own
    `weighting` changes the mean over S and nothing else.

    alpha -> 0 is not FedAvg: h / alpha, minus the mean of all the drifts so far, stays as large as it was. With
    lambda_k and h held at zero the method is FedProx with mu = alpha, uniform. lambda_k moves by alpha times
    a drift, in the client's own rounds only: small alpha with few clients a round is slow to lose its bias.

    Which model is served (`consensus`, `personalise`): the mean of the cohort's theta_k, the mean over all
    clients of the theta_k of their last rounds, or w, which is ahead of both by h / alpha.

    Args:
        problem: what to learn.
        solver: local work.
        alpha: > 0, loss / parameter^2, a leaf; the paper tunes it over {0.001, 0.01, 0.1}.
        weights: "uniform" (the paper's), "proportional", or "scaled_alpha".
        serve: "cohort" (what the authors report), "all" (d more at each client; a client that has not been
            drawn yet counts with the first model, one that never has rows not at all), or "broadcast".

    Raises:
        TypeError, ValueError: alpha is not a positive number.
        ValueError: unknown weights or serve.

    Reference:
        Acar, Zhao, Matas, Mattina, Whatmough, Saligrama, ICLR 2021, Algorithm 1.

    Departures:
        The paper minimises exactly; local work here is the solver's, as in the authors' code, but without its
        clipping of gradients to norm 10. That code draws a cohort anew until somebody is in it; here an empty
        round changes nothing. It stores -lambda_k / alpha_k in place of lambda_k. Proportional weights are in
        neither.
    """
    check_parts(problem, solver)
    remedy = "0.01 is usual; towards 0 the method is not FedAvg, for which there is fedavg"
    known("weights", weights, WEIGHTS)
    known("serve", serve, SERVED)
    alpha = number("alpha", alpha, above=0, remedy=remedy)
    return FedDyn(problem, solver, alpha, WEIGHTS[weights](), weights, serve)

"""Agnostic FedAvg: FedAvg on the worst mixture of domains, which rows belong to, whoever holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.domains import count_domains, domain_objective, domain_sums, labels, mixture
from fedjax_het.algorithms.fedavg import Server as Average
from fedjax_het.algorithms.fedavg import average_step, local_update
from fedjax_het.algorithms.parts import averaging, check_parts
from fedjax_het.check import number, positive_int, require
from fedjax_het.federation import Federation
from fedjax_het.local import Optax, Solver
from fedjax_het.problem import Problem
from fedjax_het.typing import Array, Key, Params, PyTree, static
from fedjax_het.weighting import tilted, uniform

__all__ = ["Agnostic", "Server", "agnostic"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The global model, the mixture of domains, and how many rows of each a cohort has.

    Attributes:
        params: w.
        buffers: the global buffers, or () where clients own theirs.
        opt: the server optimiser's state.
        mixture: lambda, float [K], sums to 1.
        window: rows of each domain in the last W cohorts, float [W, K], ones before the first.
        rows: the mean of the window, float [K]; for a domain of which the window has none, its last mean.
    """

    params: Params
    buffers: PyTree
    opt: PyTree
    mixture: Array
    window: Array
    rows: Array

    @property
    def average(self) -> Average:
        """What FedAvg's server holds."""
        return Average(self.params, self.buffers, self.opt)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Agnostic:
    """See `agnostic`.

    Attributes:
        problem: what to learn.
        solver: local work.
        server: the server's optimiser.
        domain_learning_rate: gamma, scalar.
        start: lambda before the first round, float [K], or None.
        domains: (client's number, Batch) -> domain of each row int32 [B], a `jax.tree_util.Partial`.
        weighting: the default weighting.
        num_domains: K, or None for the number of classes; static.
        window: W; static.
    """

    problem: Problem
    solver: Solver
    server: Optax
    domain_learning_rate: Array
    start: Array | None
    domains: Any
    weighting: Any
    num_domains: int | None = static()
    window: int = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, PyTree]:
        """A fresh model; lambda uniform, or in proportion to `start`; every count 1."""
        domains = count_domains(self.domains, self.num_domains, federation)
        start = jnp.ones((domains,), jnp.result_type(float)) if self.start is None else self.start
        require(
            start.shape == (domains,),
            f"start must be one number for each of the {domains} domains, got shape {start.shape}: "
            "0 leaves a domain out",
        )
        model = self.problem.fresh(keys.stream(key, "params"))
        ones = jnp.ones((self.window, domains), start.dtype)
        server = Server(
            model.params,
            self.problem.shared(model.buffers),
            self.server.init(model.params),
            tree.divide(start, jnp.sum(start)),
            ones,
            ones[0],
        )
        return server, tree.stack(self.problem.own(model.buffers), federation.num_clients)

    def client_update(self, server: Server, client: Client) -> Report:
        """L_k and N_k of each domain at w, then local work on the scaled loss, weighted by beta_k."""
        start = self.problem.model(server.params, server.buffers, client.state)
        losses, counts = domain_sums(self.problem, self.domains, server.mixture.size, start, client)
        alpha = server.mixture / server.rows
        beta = jnp.sum(alpha * counts)
        f = domain_objective(self.problem, self.solver, self.domains, alpha, beta, client)
        heavier = dataclasses.replace(client, weight=client.weight * beta)
        report = local_update(self.problem, self.solver, f, server.average, heavier)
        seen = {"losses": client.weight * losses, "counts": client.weight * counts, "omega": client.weight}
        return dataclasses.replace(report, total=report.total | seen)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """w <- w + server step on the mean update;  lambda_j <- lambda_j exp(gamma L_j), scaled to sum to 1."""
        moved = average_step(self.server, server.average, total, cohort)
        weights = tilted(
            tree.divide(total["losses"], total["counts"]), self.domain_learning_rate, server.mixture
        )
        drawn = jnp.sum(jnp.where(cohort.present, cohort.multiplicity, 0))
        counts = tree.divide(total["counts"] * drawn, total["omega"])
        window = jnp.concatenate([server.window[1:], counts[None]])
        mean = jnp.mean(window, axis=0)
        rows = jnp.where(mean > 0, mean, server.rows)
        return Server(moved.params, moved.buffers, moved.opt, weights, window, rows)

    personalise = one_model.personalise
    predict = one_model.predict
    consensus = one_model.consensus
    join = one_model.join

    def traffic(self, server: Server) -> Traffic:
        """d and alpha down; d, beta_k, and a loss and a count of each domain up."""
        size, domains = tree.num_bytes((server.params, server.buffers)), tree.num_bytes(server.mixture)
        return Traffic(size + domains, size + 2 * domains + server.mixture.dtype.itemsize)


def agnostic(
    problem: Problem,
    solver: Solver,
    *,
    domains: Sequence[int] | Array | Callable[[Array, Array], Array] | None = None,
    num_domains: int | None = None,
    domain_learning_rate: Any = 0.1,
    start: Sequence[float] | Array | None = None,
    window: int = 1,
    server: Optax | None = None,
) -> Agnostic:
    """Agnostic FedAvg: min over w of max over lambda in the simplex of sum_j lambda_j L_j(w), j over domains.

    The server sends w and alpha_j = lambda_j / (mean rows of domain j in the last W cohorts). A client finds
    the sum L_kj of its losses at w and the number N_kj of its rows by domain, and beta_k = sum_j alpha_j N_kj;
    y_k <- local work from w on batches b with loss sum over b of alpha_domain loss / beta_k;
    w <- w + sum_k beta_k (y_k - w) / sum_k beta_k;
    lambda_j <- lambda_j exp(gamma sum_k L_kj / sum_k N_kj), scaled to sum to 1.

    beta_k is the whole client's, so the steps of an epoch make up one mean over its rows: with a batch size B a
    step is about B/n_k of what FedAvg's is at the same rate. With gamma = 0, one domain and full batches it is
    FedAvg.

    Args:
        problem: what to learn.
        solver: local work.
        domains: what a row belongs to: None for its class; whole numbers [N], the domain of each client; or a
            function (x [B, ...], y [B, ...]) -> int [B], static. A row outside 0..num_domains - 1 belongs to no
            domain, and nothing is learned from it.
        num_domains: K; needed for a function, else found from the classes or from `domains`.
        domain_learning_rate: gamma >= 0, a leaf; 0 holds lambda where it starts.
        start: lambda before the first round, one non-negative number a domain [K], scaled to sum to 1; uniform
            if None.
        window: W, in cohorts; static.
        server: the server's optimiser; default: w + mean update.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: domains negative, not below num_domains, or a function without num_domains; gamma negative;
            a start that is negative or all zero; when a run begins, no domains where a row has no class, or
            not as many numbers as there are clients or domains.

    Reference:
        Ro, Chen, Mathews, Mohri, Suresh, Interspeech 2021, and the authors' code in fedjax.

    Departures:
        A domain of which the window has no row keeps its last mean; the authors' code divides by 0. The losses
        L_kj are the model's as it predicts, without dropout. Weights multiply beta_k, L_kj and N_kj alike, so a
        client drawn twice counts twice.
    """
    check_parts(problem, solver)
    label, count = labels(domains, num_domains)
    gamma = number("domain_learning_rate", domain_learning_rate, least=0, remedy="0 holds the mixture still")
    begin = mixture("start", start, "one share for each domain, 0 for none")
    width = positive_int("window", window, remedy="1 looks at the last cohort")
    rule = averaging(server)
    return Agnostic(problem, solver, rule, gamma, begin, label, uniform(), count, width)

"""FedProx whose mu follows the training loss: up when it rises, down when it keeps falling."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import fedavg
from fedjax_het.algorithms.fedavg import FedAvg, local_update
from fedjax_het.check import number, whole
from fedjax_het.federation import Federation
from fedjax_het.problem import Model, Objective, Problem, full_loss, objective, prox
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["AdaptiveMu", "AdaptiveProx", "Server", "adaptive_mu"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaptiveMu:
    """See `adaptive_mu`.

    Attributes:
        start: mu of the first round, scalar.
        step: by how much it changes, scalar.
        patience: falls in a row before it goes down, int32 scalar.
    """

    start: Array
    step: Array
    patience: Array

    def next(self, mu: Array, before: Array, loss: Array, falls: Array) -> tuple[Array, Array]:
        """(mu, falls in a row) after a loss that followed `before` (infinity: nothing yet)."""
        rises = loss > before
        falls = jnp.where((loss < before) & ~jnp.isinf(before), falls + 1, 0)
        enough = falls >= self.patience
        lower = jnp.where(enough, jnp.maximum(mu - self.step, 0), mu)
        return jnp.where(rises, mu + self.step, lower), jnp.where(enough, 0, falls).astype(jnp.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Server:
    """The global model, and what mu depends on.

    Attributes:
        average: FedAvg's server: the model and the optimiser.
        mu: of the next round, scalar.
        loss: the cohort's training loss at the model that the last round received, infinity before; scalar.
        falls: how often in a row it has fallen since mu last changed, int32 scalar.
    """

    average: fedavg.Server
    mu: Array
    loss: Array
    falls: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaptiveProx:
    """FedProx with `adaptive_mu`.

    Attributes:
        average: what is not the client's objective: FedAvg.
        rule: how mu follows the loss.
    """

    average: FedAvg
    rule: AdaptiveMu

    @property
    def problem(self) -> Problem:
        """What is learned."""
        return self.average.problem

    @property
    def weighting(self) -> Any:
        """The default weighting."""
        return self.average.weighting

    def objective(self, problem: Problem, server: Server, client: Client) -> Objective:
        """F_k(y) + mu/2 |y - w|^2 with this round's mu."""
        return prox(objective(problem), server.average.params, server.mu)

    def init(self, key: Key, federation: Federation) -> tuple[Server, PyTree]:
        """A fresh model, and mu as it starts."""
        average, clients = self.average.init(key, federation)
        mu = jnp.asarray(self.rule.start)
        return Server(average, mu, jnp.full_like(mu, jnp.inf), jnp.zeros((), jnp.int32)), clients

    def client_update(self, server: Server, client: Client) -> Report:
        """Local work as FedProx; also upload omega_k F_k(w), from one pass before it."""
        f = self.objective(self.problem, server, client)
        report = local_update(self.problem, self.average.solver, f, server.average, client)
        loss = full_loss(self.problem, self.personalise(server, client), client.data)
        return dataclasses.replace(report, total=report.total | {"loss": client.weight * loss})

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """FedAvg's step, then the next mu, which a cohort without weight does not change."""
        average = self.average.server_update(server.average, total, each, cohort, key)
        loss = tree.divide(total["loss"], total["weight"])
        mu, falls = self.rule.next(server.mu, server.loss, loss, server.falls)
        weighs = total["weight"] > 0
        return Server(average, *tree.where(weighs, (mu, loss, falls), (server.mu, server.loss, server.falls)))

    def personalise(self, server: Server, client: Client) -> Model:
        """The global model; buffers are the client's own where it owns them."""
        return self.average.personalise(server.average, client)

    def predict(self, model: Model, x: Array) -> PyTree:
        """The model's outputs."""
        return self.average.predict(model, x)

    def consensus(self, server: Server) -> Model | None:
        """The global model; None if clients own its buffers."""
        return self.average.consensus(server.average)

    def join(self, server: Server, client: Client) -> PyTree:
        """Nothing to set up; buffers that clients own start as a fresh model's."""
        return self.average.join(server.average, client)

    def traffic(self, server: Server) -> Traffic:
        """d and mu down; d and the loss up."""
        plain, scalar = self.average.traffic(server.average), jnp.result_type(float).itemsize
        return Traffic(plain.down + scalar, plain.up + scalar)


def adaptive_mu(*, start: Any = 0.0, step: Any = 0.1, patience: Any = 5) -> AdaptiveMu:
    """A mu for `fedprox` that follows the loss: up by `step` on a rise, down after `patience` falls in a row.

    The loss of a round is that of the cohort at the model which it received, sum_k omega_k F_k(w), over all of
    the clients' training rows and before local work; it is compared with the loss of the round before. A
    round in which nobody takes part changes nothing. Whatever is no fall ends a row of falls, and so does a
    step down. mu does not go below 0.

    Args:
        start: mu of the first round, >= 0, a leaf.
        step: > 0, a leaf.
        patience: whole number >= 1, a leaf.

    Raises:
        TypeError, ValueError: numbers of the wrong kind or range.

    Reference:
        Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, MLSys 2020, section 5.3 (step 0.1, five rounds).

    Departures:
        The paper's loss is over all clients; here it is over the cohort, since nobody else is asked, and
        moves with who was drawn. The authors' code has no adaptive mu.
    """
    return AdaptiveMu(
        number("start", start, least=0, remedy="0 begins as FedAvg"),
        number("step", step, above=0, remedy="0.1 is the paper's"),
        whole("patience", patience, remedy="5 is the paper's"),
    )

"""A personal method that trains when it is asked for the model: a global track, then a held-back solve."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.algorithms.fedavg import FedAvg, Server
from fedjax_het.local import Solver
from fedjax_het.problem import Model, Problem, full_loss, objective, prox
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["PersonalTraining", "personal_training"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PersonalTraining:
    """theta_k <- local work on F_k(v) + mu/2 |v - w|^2 from w, the epoch best on the validation rows kept.

    Attributes:
        inner: the global track, untouched.
        solver: the work between two looks at the validation rows.
        mu: how strongly a client is held near w.
        patience: looks without an improvement before it stops, int32 scalar.
        looks: looks at most; static.
    """

    inner: FedAvg
    solver: Solver
    mu: Array
    patience: Array
    looks: int = static()

    @property
    def problem(self) -> Problem:
        """The inner method's, as is all else but the personal model."""
        return self.inner.problem

    @property
    def weighting(self) -> Any:
        """See `Algorithm`."""
        return self.inner.weighting

    def init(self, key: Key, federation: fh.Federation) -> tuple[Server, PyTree]:
        """See `Algorithm`."""
        return self.inner.init(key, federation)

    def client_update(self, server: Server, client: fh.Client) -> fh.Report:
        """See `Algorithm`."""
        return self.inner.client_update(server, client)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: fh.Cohort, key: Key) -> Server:
        """See `Algorithm`."""
        return self.inner.server_update(server, total, each, cohort, key)

    def personalise(self, server: Server, client: fh.Client) -> Model:
        """Train from w; w itself is the first candidate. Without validation rows the last look wins."""
        start = self.inner.personalise(server, client)
        f = prox(objective(self.problem), server.params, self.mu)
        blind = client.valid.size == 0

        def look(carry: Any, j: Array) -> tuple[Any, Array]:
            now, best, least, waited = carry
            key = jax.random.fold_in(client.key, j)
            new = self.solver.solve(key, f, now, client.data, round_=client.round, work=client.work).model
            loss = full_loss(self.problem, new, client.valid)
            running = waited < self.patience
            better = running & ((loss < least) | blind)
            waited = jnp.where(better, 0, waited + 1).astype(waited.dtype)
            best, least = tree.where(better, (new, loss), (best, least))
            return (tree.where(running, new, now), best, least, waited), loss

        first = (start, start, full_loss(self.problem, start, client.valid), jnp.zeros((), jnp.int32))
        return jax.lax.scan(look, first, jnp.arange(self.looks, dtype=jnp.int32))[0][1]

    def predict(self, model: Model, x: Array) -> PyTree:
        """See `Algorithm`."""
        return self.inner.predict(model, x)

    def consensus(self, server: Server) -> Model | None:
        """See `Algorithm`."""
        return self.inner.consensus(server)

    def join(self, server: Server, client: fh.Client) -> PyTree:
        """See `Algorithm`."""
        return self.inner.join(server, client)

    def traffic(self, server: Server) -> fh.Traffic:
        """See `Algorithm`."""
        return self.inner.traffic(server)


def personal_training(
    problem: Problem, solver: Solver, *, mu: Any = 0.1, patience: int = 2, looks: int = 4
) -> PersonalTraining:
    """FedAvg, and a personal solve on top; see `PersonalTraining`."""
    inner = fh.algorithms.fedavg(problem, solver)
    mu = fh.check.number("mu", mu, least=0)
    return PersonalTraining(inner, solver, mu, fh.check.whole("patience", patience), looks)

"""FedAvg whose clients go on in their rows where their last round ended."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import fedjax_het as fh
from fedjax_het.algorithms.fedavg import FedAvg, Server
from fedjax_het.local import Plan
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["Later", "Onward", "onward"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Later:
    """A plan whose step 0 is step `taken` of another plan."""

    plan: Plan
    taken: Array

    @property
    def batch_size(self) -> int | None:
        return self.plan.batch_size

    @property
    def most(self) -> int | None:
        return self.plan.most

    def steps(self, data: fh.Data) -> Array:
        return self.plan.steps(data)

    def batches(self, data: fh.Data) -> Array:
        return self.plan.batches(data)

    def positions(self, data: fh.Data, seed: Array, step: Array) -> tuple[Array, Array]:
        return self.plan.positions(data, seed, self.taken + step)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Onward:
    """See `onward`."""

    inner: FedAvg

    @property
    def problem(self) -> fh.Problem:
        """FedAvg's, as all that follows but the clients' states and their work."""
        return self.inner.problem

    @property
    def weighting(self) -> Any:
        """FedAvg's."""
        return self.inner.weighting

    def init(self, key: Key, federation: fh.Federation) -> tuple[Server, Array]:
        """FedAvg's, and how many steps each client has taken, int32 [N]."""
        return self.inner.init(key, federation)[0], jnp.zeros((federation.num_clients,), jnp.int32)

    def client_update(self, server: Server, client: fh.Client) -> fh.Report:
        """FedAvg's on the batches that come next."""
        solver = self.inner.solver
        later = dataclasses.replace(solver, plan=Later(solver.plan, client.state))
        report = dataclasses.replace(self.inner, solver=later).client_update(
            server, dataclasses.replace(client, state=())
        )
        return dataclasses.replace(report, state=client.state + report.info["steps"])

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: fh.Cohort, key: Key) -> Server:
        """FedAvg's."""
        return self.inner.server_update(server, total, each, cohort, key)

    def personalise(self, server: Server, client: fh.Client) -> fh.Model:
        """The global model."""
        return fh.Model(server.params, server.buffers)

    def predict(self, model: fh.Model, x: Array) -> PyTree:
        """The model's outputs."""
        return self.inner.predict(model, x)

    def consensus(self, server: Server) -> fh.Model | None:
        """The global model."""
        return self.inner.consensus(server)

    def join(self, server: Server, client: fh.Client) -> Array:
        """A newcomer begins at its first row."""
        return jnp.zeros((), jnp.int32)

    def traffic(self, server: Server) -> fh.Traffic:
        """FedAvg's."""
        return self.inner.traffic(server)


def onward(inner: FedAvg) -> Onward:
    """FedAvg with batches in the stored order, each round beginning where the client's last one ended.

    That is a data loader without shuffling which a client keeps from round to round, as in the authors' code
    of pFedMe. `fh.local.sgd(..., shuffle=False)` alone begins at the first row in every round.

    Args:
        inner: `fh.algorithms.fedavg` on a problem without buffers, its solver without shuffling.
    """
    return Onward(inner)

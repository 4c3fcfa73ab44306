"""Ditto: federated averaging, and beside it a personal model for everyone that is held near the global one."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Report
from fedjax_het.algorithms import wrapped
from fedjax_het.algorithms.fedavg import FedAvg, Server, fedavg
from fedjax_het.algorithms.parts import WEIGHTS
from fedjax_het.algorithms.step_limit import check_held, lipschitz_of
from fedjax_het.check import known, number, short
from fedjax_het.federation import Federation
from fedjax_het.local import Optax, Solution, Solver
from fedjax_het.problem import Model, Problem, objective, prox
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["Ditto", "Kept", "ditto"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kept:
    """What a client keeps.

    Attributes:
        personal: v_k and the buffers that go with it, whoever owns those of the global model.
        shared: what the global track keeps at the client: buffers that it owns, or ().
    """

    personal: Model
    shared: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ditto:
    """See `ditto`.

    Attributes:
        inner: the global track; any `FedAvg`, FedProx included.
        personal: local work of the personal track.
        lam: lambda, scalar.
    """

    inner: FedAvg
    personal: Solver
    lam: Array

    def init(self, key: Key, federation: Federation) -> tuple[Server, Kept]:
        """The global track's start, which is everyone's v_k too."""
        server, shared = self.inner.init(key, federation)
        first = jax.tree.map(lambda leaf: leaf[0], shared)
        model = self.problem.model(server.params, server.buffers, first)
        return server, Kept(tree.stack(model, federation.num_clients), shared)

    def train(self, server: Server, client: Client, start: Model) -> Solution:
        """Local work on F_k(v) + lambda/2 |v - w|^2, a pass of its own over the client's rows."""
        f = prox(objective(self.problem), server.params, self.lam)
        key = keys.stream(client.key, "personal")
        return self.personal.solve(key, f, start, client.data, round_=client.round, work=client.work)

    def client_update(self, server: Server, client: Client) -> Report:
        """The global track's report as it is; v_k is trained beside it and stays."""
        kept: Kept = client.state
        report = self.inner.client_update(server, dataclasses.replace(client, state=kept.shared))
        solution = self.train(server, client, kept.personal)
        info = {**report.info, "personal_loss": solution.loss}
        return dataclasses.replace(report, state=Kept(solution.model, report.state), info=info)

    def personalise(self, server: Server, client: Client) -> Model:
        """v_k as its last round left it."""
        return client.state.personal

    def join(self, server: Server, client: Client) -> Kept:
        """A newcomer trains its v_k from w, once; without rows it keeps w."""
        shared = self.inner.join(server, client)
        start = self.problem.model(server.params, server.buffers, shared)
        return Kept(self.train(server, client, start).model, shared)

    problem = wrapped.problem
    weighting = wrapped.weighting
    server_update = wrapped.server_update
    predict = wrapped.predict
    consensus = wrapped.consensus
    traffic = wrapped.traffic  # v_k is never sent


def ditto(
    problem: Problem,
    solver: Solver,
    *,
    lam: Any = 1.0,
    personal: Solver | None = None,
    server: Optax | None = None,
    weights: str = "uniform",
    lipschitz: Any = None,
) -> Ditto:
    """Ditto: w by FedAvg; and v_k <- local work on F_k(v) + lambda/2 |v - w|^2 from the last v_k.

    Whoever is in the cohort does both from the w that it received; w's own course is that of FedAvg to the last
    bit, whatever lambda is. v_k starts at the first w, stays from round to round and never leaves its client:
    one that has not been drawn yet is served the first w. With w and the rows held, v_k tends to the minimum of
    its objective, however short its local work. lambda = 0 is local training, lambda -> infinity is w.

    Where clients' optima have variance tau^2 about w and estimates from n rows of variance sigma^2 are at hand,
    the best lambda of a squared loss is sigma^2 / (n tau^2).

    Args:
        problem: what to learn.
        solver: local work of the global track.
        lam: lambda >= 0, a leaf; eta (lambda + L) < 2 keeps the personal track stable. The paper tries 0.05,
            0.1, 0.2, 1 and 2.
        personal: local work of the personal track; default: as `solver`.
        server: the global track's server optimiser, as in `fedavg`; default: w + mean update.
        weights: "uniform" (the paper's) or "proportional", of the global track.
        lipschitz: L > 0 of every F_k, if known: only for the check.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: lambda negative; eta (lambda + L) >= 2 in the personal track (L = 0 if not given; times
            1 + rho with momentum rho; the message says what to use); unknown weights.

    Reference:
        Li, Hu, Beirami, Smith, ICML 2021, Algorithm 1; the best lambda: its analysis of point estimation.

    Departures:
        The two tracks draw their batches independently; the authors' code gives both the same batch. That code
        draws clients with probability n_k / n. Its choice of lambda by validation loss in every step is not
        here: compare several lambda by validation rows.
    """
    known("weights", weights, WEIGHTS)
    lam = number("lam", lam, least=0, remedy="0 is local training, 1 is a good start")
    if not (personal is None or isinstance(personal, Solver)):
        raise TypeError(
            f"personal must be a Solver, got {short(personal)}: make one with fh.local.sgd, or leave it out to "
            "train as the global track does"
        )
    lipschitz = lipschitz_of(lipschitz)
    average = dataclasses.replace(fedavg(problem, solver, server=server), weighting=WEIGHTS[weights]())
    personal = solver if personal is None else personal
    check_held(personal, lam, lipschitz)
    return Ditto(average, personal, lam)

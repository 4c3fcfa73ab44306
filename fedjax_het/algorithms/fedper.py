"""FedPer: some leaves of the model are shared, the rest never leave their client."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Traffic
from fedjax_het.algorithms import one_model
from fedjax_het.algorithms.fedavg import Server, average_step
from fedjax_het.algorithms.parts import averaging, check_parts
from fedjax_het.federation import Federation
from fedjax_het.local import Optax, Solver
from fedjax_het.models import selectors
from fedjax_het.problem import Model, Problem, objective
from fedjax_het.typing import Key, Params, PyTree, static
from fedjax_het.weighting import proportional

__all__ = ["FedPer", "Personal", "fedper"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Personal:
    """What a client keeps.

    Attributes:
        params: its personal leaves, `Absent` elsewhere.
        buffers: its own buffers, or ().
    """

    params: Params
    buffers: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FedPer:
    """See `fedper`. With every leaf personal it is local training, with none it is FedAvg.

    Attributes:
        problem: what to learn.
        solver: local work.
        server: the server's optimiser, on the shared leaves.
        weighting: the default weighting.
        personal: path -> whether the leaf is personal; static.
    """

    problem: Problem
    solver: Solver
    server: Optax
    weighting: Any
    personal: Callable[[str], bool] = static()

    def init(self, key: Key, federation: Federation) -> tuple[Server, Personal]:
        """One fresh model, split: all clients start with the same personal leaves."""
        model = self.problem.fresh(keys.stream(key, "params"))
        personal, shared = tree.partition(model.params, self.personal)
        server = Server(shared, self.problem.shared(model.buffers), self.server.init(shared))
        own = Personal(personal, self.problem.own(model.buffers))
        return server, tree.stack(own, federation.num_clients)

    def client_update(self, server: Server, client: Client) -> Report:
        """Joint local work on all leaves; only the shared ones are uploaded."""
        start = self.personalise(server, client)
        f = objective(self.problem)
        solution = self.solver.solve(client.key, f, start, client.data, round_=client.round, work=client.work)
        personal, shared = tree.partition(solution.params, self.personal)
        total = {
            "delta": tree.scale(client.weight, tree.subtract(shared, server.params)),
            "buffers": tree.scale(client.weight, self.problem.shared(solution.buffers)),
            "weight": client.weight,
        }
        state = Personal(personal, self.problem.own(solution.buffers))
        return Report(state, total, info=solution.info, local=solution.model)

    def server_update(self, server: Server, total: PyTree, each: PyTree, cohort: Cohort, key: Key) -> Server:
        """The shared leaves gain the weighted mean of their updates."""
        return average_step(self.server, server, total, cohort)

    def personalise(self, server: Server, client: Client) -> Model:
        """Shared leaves from the server, personal ones from the client."""
        params = tree.combine(client.state.params, server.params)
        return self.problem.model(params, server.buffers, client.state.buffers)

    def consensus(self, server: Server) -> None:
        """There is no global model: the server lacks the personal leaves."""
        return

    def join(self, server: Server, client: Client) -> Personal:
        """Fresh personal leaves; the newcomer should train them before use."""
        model = self.problem.fresh(client.key)
        personal, _ = tree.partition(model.params, self.personal)
        return Personal(personal, self.problem.own(model.buffers))

    predict = one_model.predict

    def traffic(self, server: Server) -> Traffic:
        """The shared leaves, down and up."""
        size = tree.num_bytes((server.params, server.buffers))
        return Traffic(size, size)


def fedper(
    problem: Problem,
    solver: Solver,
    *,
    personal: Callable[[str], bool] | None = None,
    server: Optax | None = None,
) -> FedPer:
    """FedPer: (u, v_k) <- joint local work on F_k;  u <- u + sum_k omega_k (u_k - u);  v_k stays.

    Args:
        problem: what to learn.
        solver: local work.
        personal: path -> whether the leaf is personal, such as `fh.models.selectors.head(problem)` (the
            default: the paper's last layer). Function objects are static; selectors compare by value.
        server: the server's optimiser; default: u + mean update.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: the selector takes no leaf or every leaf; the problem does not say which its head is.

    Reference:
        Arivazhagan, Aggarwal, Singh, Choudhary, arXiv 1912.00818, 2019, Algorithms 1 and 2.
    """
    check_parts(problem, solver)
    if not (personal is None or callable(personal)):
        raise TypeError(
            f"personal must be a function of a leaf's path, got {personal!r}: pass "
            "fh.models.selectors.head(problem) "
            "or fh.models.selectors.matching('head/.*')"
        )
    personal = selectors.head(problem) if personal is None else personal
    params = jax.eval_shape(problem.init, jax.random.key(0)).params
    selectors.select(params, personal)
    return FedPer(problem, solver, averaging(server), proportional(), personal)

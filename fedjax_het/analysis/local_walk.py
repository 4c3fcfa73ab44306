"""One client's local work, walked once more and watched."""

from __future__ import annotations

from typing import Any

import jax

from fedjax_het.algorithm import Client
from fedjax_het.local import Solver
from fedjax_het.local.solver import Probe, Solution
from fedjax_het.local.variants import traced
from fedjax_het.problem import Model, objective
from fedjax_het.typing import PyTree

__all__ = ["check_walk", "start_of", "walk"]


def check_walk(algorithm: Any, plain: bool) -> None:
    """Raise `TypeError` unless it is known what the algorithm's clients minimise."""
    if not (plain or callable(getattr(algorithm, "objective", None))):
        raise TypeError(
            f"algorithm must have an objective (problem, server, client) -> h_k, got "
            f"{type(algorithm).__name__}: pass plain=True to walk on F_k itself"
        )


def start_of(algorithm: Any, server: PyTree, client: Client) -> Model:
    """The consensus model, or the client's own for methods without one.

    Raises:
        TypeError: that is not one model.
    """
    model = algorithm.consensus(server)
    start = algorithm.personalise(server, client) if model is None else model
    if not isinstance(start, Model):
        raise TypeError(
            f"algorithm must have one model a client, got {type(start).__name__} from "
            f"{type(algorithm).__name__}: local work of it does not begin at one point"
        )
    return start


def walk(
    algorithm: Any,
    server: PyTree,
    client: Client,
    *,
    solver: Solver,
    probe: Probe,
    room: int,
    plain: bool,
) -> tuple[Solution, Model]:
    """(what local work produced, where it began), from `start_of` and with the client's own key.

    It takes the batches that FedAvg takes in this round.

    Args:
        algorithm: for the problem and, unless `plain`, the objective.
        server: the server's state.
        client: who; its key is not consumed.
        solver: the steps.
        probe: what to record.
        room: local steps recorded.
        plain: whether to minimise F_k itself, not what the algorithm has its clients minimise.
    """
    f = objective(algorithm.problem) if plain else algorithm.objective(algorithm.problem, server, client)
    start, key = start_of(algorithm, server, client), jax.random.clone(client.key)
    watched = traced(solver, probe, room)
    return watched.solve(key, f, start, client.data, round_=client.round, work=client.work), start

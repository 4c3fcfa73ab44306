"""FedBN: each client keeps its normalisation layers, statistics included."""

from __future__ import annotations

import dataclasses

from fedjax_het.algorithms.partial import Partial, partial
from fedjax_het.algorithms.parts import WEIGHTS, check_parts
from fedjax_het.check import known, require
from fedjax_het.local import Optax, Solver
from fedjax_het.models import selectors
from fedjax_het.problem import Problem

__all__ = ["fedbn"]


def fedbn(
    problem: Problem, solver: Solver, *, weights: str = "uniform", server: Optax | None = None
) -> Partial:
    """FedBN: FedAvg in which scale, shift and running statistics of normalisation layers stay at their client.

    (u, v_k) <- joint local work on F_k;  u <- u + sum_k omega_k (u_k - u), v_k the normalisation layers

    Layers are told by their type (`problem.facts.norm`), not by their names. A model whose layers keep no
    statistics (LayerNorm, GroupNorm) is served as well: scale and shift stay.

    A newcomer's statistics are those of its own training rows, without their labels. Its scale and shift are
    as a fresh model has them; with `mean_start`, called on a trained run, they are the mean of the clients'.

    Args:
        problem: a model with normalisation layers. Running statistics must be its clients' own
            (buffers="local" where it is built).
        solver: local work; the authors' is one epoch of batches of 32 at rate 0.01.
        weights: "uniform" (the authors') or "proportional".
        server: the server's optimiser; default: u + mean update.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: no normalisation layers that the problem knows of, or nothing else; statistics that are
            averaged; unknown weights.

    Reference:
        Li, Jiang, Zhang, Kamp, Dou, ICLR 2021, Algorithm 1. Newcomers: as its appendix suggests.

    Departures:
        The authors' code tells layers by "bn" in their names and has every client in every round; here a part
        of them may take part, and whoever does not keeps its layers as they were.
    """
    check_parts(problem, solver)
    known("weights", weights, WEIGHTS)
    norm = selectors.norm(problem)
    require(
        problem.facts.buffers != "averaged",
        f"problem must leave statistics to its clients, got buffers='averaged' of {problem.facts.name!r}: "
        "pass buffers='local' where it is built",
    )
    algorithm = partial(problem, solver, personal=norm, server=server)
    return dataclasses.replace(algorithm, weighting=WEIGHTS[weights]())

"""FedProx: FedAvg whose clients are held near the global model."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from fedjax_het.algorithm import Client
from fedjax_het.algorithms.adaptive_prox import AdaptiveMu, AdaptiveProx
from fedjax_het.algorithms.fedavg import FedAvg, Server, fedavg
from fedjax_het.algorithms.parts import check_parts
from fedjax_het.check import number
from fedjax_het.local import Optax, Solver
from fedjax_het.problem import Objective, Problem, objective, prox
from fedjax_het.typing import Array

__all__ = ["fedprox"]


def _held(mu: Array, problem: Problem, server: Server, client: Client) -> Objective:
    return prox(objective(problem), server.params, mu)


def fedprox(
    problem: Problem, solver: Solver, *, mu: Any = 0.1, server: Optax | None = None
) -> FedAvg | AdaptiveProx:
    """FedProx: y_k <- local work on F_k(y) + mu/2 |y - w|^2 from w;  w <- w + sum_k omega_k (y_k - w).

    Its fixed point is biased for every finite mu when curvatures differ; it steadies training, it does not
    cure drift. Stragglers are the sampler's `work`: their partial solutions are kept. A solver made by
    `fh.local.inexact` stops where the paper's gamma allows; `fh.analysis.inexactness` tells what was reached.

    Args:
        problem: what to learn.
        solver: local work; with momentum, the proximal gradient goes through the buffer.
        mu: >= 0, a leaf; the paper tunes it over {0.001, 0.01, 0.1, 0.5, 1}. Or `adaptive_mu()`.
        server: the server's optimiser; default: w + mean update.

    Raises:
        TypeError, ValueError: mu is not a number, or negative.

    Reference:
        Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, MLSys 2020, Algorithm 2.

    Departures:
        Weights n_k over a cohort drawn without replacement, as in the authors' code; the paper's listing draws
        with probability n_k/n and averages uniformly. Rows are in a new order every epoch, round and client;
        the authors' code goes through them in the same order every time.
    """
    check_parts(problem, solver)
    if isinstance(mu, AdaptiveMu):
        return AdaptiveProx(fedavg(problem, solver, server=server), mu)
    mu = number("mu", mu, least=0, remedy="0 is FedAvg")
    average = fedavg(problem, solver, server=server)
    return dataclasses.replace(average, objective=jax.tree_util.Partial(_held, mu))

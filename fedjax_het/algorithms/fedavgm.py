"""FedAvgM: momentum at the server."""

from __future__ import annotations

from typing import Any

import optax

from fedjax_het.algorithms.fedavg import FedAvg, fedavg
from fedjax_het.check import number, short
from fedjax_het.local import Solver, optimizer
from fedjax_het.local.optimizers import rate
from fedjax_het.problem import Problem

__all__ = ["fedavgm"]


def fedavgm(
    problem: Problem,
    solver: Solver,
    *,
    server_learning_rate: Any = 1.0,
    momentum: Any = 0.9,
    nesterov: bool = False,
) -> FedAvg:
    """FedAvgM: Delta = sum_k omega_k (y_k - w);  m <- beta m + Delta;  w <- w + eta_g m.

    With `nesterov`, w <- w + eta_g (beta m + Delta) for the new m. In the long run a steady Delta counts
    1/(1 - beta) times. m outlives the round; a round in which nobody takes part leaves it as it is.

    Args:
        problem: what to learn.
        solver: local work; its own momentum, if any, starts anew every round.
        server_learning_rate: eta_g > 0, a leaf, or a schedule over rounds. 1 as in Hsu et al. and in four of
            the six tasks that Reddi et al. tuned; the other two have 0.3.
        momentum: beta in [0, 1), a leaf; 0 is FedAvg.
        nesterov: whether to look ahead.

    Raises:
        TypeError, ValueError: a number of the wrong kind or range; `nesterov` is no bool.

    Reference:
        Hsu, Qi, Brown, arXiv:1909.06335, 2019, section 4.2; Reddi et al., ICLR 2021, Algorithm 1 with SGD and
        momentum 0.9 at the server.

    Departures:
        The rate multiplies m when it is applied, as in optax, not Delta when it enters m, as in Keras: the same
        for a constant rate.
    """
    eta = rate("server_learning_rate", server_learning_rate)
    beta = number("momentum", momentum, least=0, below=1, remedy="0.9 is usual, 0 is FedAvg")
    if not isinstance(nesterov, bool):
        raise TypeError(f"nesterov must be True or False, got {short(nesterov)}: False is plain momentum")
    server = optimizer(optax.sgd, learning_rate=eta, momentum=beta, nesterov=nesterov)
    return fedavg(problem, solver, server=server)

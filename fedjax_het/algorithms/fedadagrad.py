"""FedAdagrad: Adagrad at the server."""

from __future__ import annotations

from typing import Any

from fedjax_het.algorithms.adaptive_server import adaptive_server
from fedjax_het.algorithms.fedavg import FedAvg, fedavg
from fedjax_het.check import require, short
from fedjax_het.local import Solver
from fedjax_het.problem import Problem
from fedjax_het.typing import Array

__all__ = ["fedadagrad"]


def _second(v: Array, square: Array, b2: None) -> Array:
    return v + square


def fedadagrad(
    problem: Problem,
    solver: Solver,
    *,
    server_learning_rate: Any = 0.1,
    b1: Any = None,
    tau: Any = 1e-3,
    mode: str = "paper",
) -> FedAvg:
    """FedAdagrad: m <- b1 m + (1-b1) Delta;  v <- v + Delta^2;  w <- w + eta_g m / (sqrt(v) + tau).

    Delta = sum_k omega_k (y_k - w), and squares and roots are taken leaf by leaf, entry by entry. m starts at 0
    and v at tau^2. v never falls, so an entry's steps shrink like one over the root of the rounds.

    Args:
        problem: what to learn.
        solver: local work.
        server_learning_rate: eta_g > 0, a leaf, or a schedule over rounds. 0.1 is what the paper's tuning chose
            most often, and the middle of what it chose (0.03 to 10 over six tasks).
        b1: in [0, 1), a leaf; None for 0.9 in mode "paper". 0 is what the paper's runs had.
        tau: > 0, a leaf; the paper tunes it from 1e-4 to 1e-1.
        mode: "paper", Algorithm 2 as printed; or "keras", the optimiser of the paper's runs: no m, v starts at
            0, and w <- w + eta_g Delta / (sqrt(v) + tau).

    Raises:
        TypeError, ValueError: a number of the wrong kind or range; unknown mode; b1 in mode "keras".

    Reference:
        Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan, ICLR 2021, Algorithm 2. Mode "keras":
        the authors' code, google-research/federated, optimization, with the initial accumulator 0 of the
        paper's runs.

    Departures:
        Clients weigh n_k, as in the paper's runs; the listing has them equal, as with `fh.weighting.uniform()`.
        `optax.adagrad` differs from both modes: its constant is under the root, and v starts at 0.1.
    """
    if mode == "keras":
        require(
            b1 is None,
            f"b1 must be None in mode 'keras', got {short(b1)}: Adagrad has no first moment there; b1=0 in "
            "mode 'paper' is the same but for the start of v",
        )
    elif b1 is None:
        b1 = 0.9
    server = adaptive_server(server_learning_rate, b1=b1, b2=None, tau=tau, second=_second, mode=mode)
    return fedavg(problem, solver, server=server)

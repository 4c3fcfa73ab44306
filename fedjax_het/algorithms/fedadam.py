"""FedAdam: Adam at the server."""

from __future__ import annotations

from typing import Any

from fedjax_het.algorithms.adaptive_server import adaptive_server
from fedjax_het.algorithms.fedavg import FedAvg, fedavg
from fedjax_het.local import Solver
from fedjax_het.problem import Problem
from fedjax_het.typing import Array

__all__ = ["fedadam"]


def _second(v: Array, square: Array, b2: Array) -> Array:
    return b2 * v + (1 - b2) * square


def fedadam(
    problem: Problem,
    solver: Solver,
    *,
    server_learning_rate: Any = 0.01,
    b1: Any = 0.9,
    b2: Any = None,
    tau: Any = 1e-3,
    mode: str = "paper",
) -> FedAvg:
    """FedAdam: m <- b1 m + (1-b1) Delta;  v <- b2 v + (1-b2) Delta^2;  w <- w + eta_g m / (sqrt(v) + tau).

    Delta = sum_k omega_k (y_k - w), and squares and roots are taken leaf by leaf, entry by entry. m starts at 0
    and v at tau^2. No bias is corrected, so that with little momentum the first steps are long: the first is
    eta_g (1-b1) / sqrt(1-b2) for |Delta| far above tau.

    Args:
        problem: what to learn.
        solver: local work.
        server_learning_rate: eta_g > 0, a leaf, or a schedule over rounds: about how far an entry moves in a
            round. 0.01 is what the paper's tuning chose most often (two of six tasks, one of them with the tau
            of 0.001 that is the default here; the others lie between 0.003 and 1).
        b1: in [0, 1), a leaf.
        b2: in [0, 1), a leaf; None for 0.99 in mode "paper" and 0.999 in mode "keras".
        tau: > 0, a leaf: how adaptive the step is; the paper tunes it from 1e-5 to 1e-1.
        mode: "paper", Algorithm 2 as printed; or "keras", the optimiser of the paper's runs: v starts at 0 and
            the s-th step has the rate eta_g sqrt(1-b2^s) / (1-b1^s). Rounds without anybody are no steps.

    Raises:
        TypeError, ValueError: a number of the wrong kind or range; unknown mode.

    Reference:
        Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan, ICLR 2021, Algorithm 2. Mode "keras":
        the authors' code, google-research/federated, optimization.

    Departures:
        Clients weigh n_k, as in the paper's runs; the listing has them equal, as with `fh.weighting.uniform()`.
        v holds squares of Delta: some printings square m, which the authors call a slip. `optax.adam` differs
        from both modes: it adds its constant to the root of the corrected v.
    """
    if b2 is None:
        b2 = 0.999 if mode == "keras" else 0.99
    server = adaptive_server(server_learning_rate, b1=b1, b2=b2, tau=tau, second=_second, mode=mode)
    return fedavg(problem, solver, server=server)

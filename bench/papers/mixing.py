"""LG-FedAvg's linear theory: how much of a local model, and how much of the global one, predicts best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import fedjax_het as fh
from papers.rows import Row, near, told

__all__ = ["fitted", "mixing"]

SPREADS = (0.02, 0.06, 0.1, 0.5)
"""rho, from "the global model is much better" to "the local models are much better"."""

RATE, STEPS = 2.0, 40
"""The Hessian is near I/3; the slowest direction shrinks by 0.4 a step, so that 40 steps leave nothing."""


def mixing(
    rounds: int = STEPS,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    clients: int = 100,
    rows: int = 2000,
    test_rows: int = 1000,
) -> list[Row]:
    """alpha* of alpha local + (1 - alpha) global within 0.1 of A / (A + B), and errors within 1.5 %.

    Settings, the authors' script's: d = 20, M = 100 clients, n = 2000 training and 1000 test rows each,
    v ~ U[0, 1]^d, u_m = v + N(0, rho^2 I), x ~ U[-1, 1]^d, noise of deviation sigma^2 = 2.25,
    rho in {.02, .06, .1, .5}. The claim is of predictors that are mixed, alpha <u_m, x> + (1 - alpha) <v, x>,
    each the least squares of its rows; a linear model has no representation apart from its head, so LG-FedAvg
    itself is not run. Both least squares are the engine's: `local_only` for T = 40 full steps of 2.0 in each
    client, FedAvg for as many rounds of one such step. Asked for, in the mean over seeds, of other data each:
    the squared test errors of the global models, of the local models and of the best mixture within 1.5 % of

        global  sigma^4 + A,    A = rho^2 d/3 (1 - 1/M)
        local   sigma^4 (1 + d/(n - d - 1)),  B = sigma^4 d/n
        best    sigma^4 + A B/(A + B)

    and the best alpha within 0.1 of A/(A + B). Errors are quadratic in alpha, so that its best value is exact.

    Reference: Liang, Liu, Ziyin, Allen, Auerbach, Brent, Salakhutdinov, Morency, "Think locally, act globally:
    federated learning with local and global representations", arXiv 2001.01523, 2020, the analysis of linear
    models and its figure.

    Departures: the figure tries alpha = 0, .1, ..., 1; the best of these is printed.
    """
    noise, features = 2.25, 20
    expected_local = noise**2 * (1 + features / (rows - features - 1))
    found = []
    for rho in SPREADS:
        excess, variance = rho**2 * features / 3 * (1 - 1 / clients), noise**2 * features / rows
        ours = np.mean(
            [_mixed(rho, seed, rounds, clients, rows, test_rows) for seed in seeds],
            axis=0,
        )
        share = excess / (excess + variance)
        found += [
            near(f"rho={rho}: best alpha", ours[0], share, 0.1),
            told(f"rho={rho}: best alpha of 0, .1, ..., 1", ours[1], round(share, 1)),
        ]
        best = noise**2 + excess * variance / (excess + variance)
        for name, error, value in zip(
            ("global", "local", "best mixture"), ours[2:], (noise**2 + excess, expected_local, best)
        ):
            found.append(near(f"rho={rho}: squared error, {name}", error, value, 0.015 * value))
    return found


def fitted(federation: fh.Federation, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """(the local least squares [M, d], the global one [d])."""
    problem = fh.models.linear(federation.pool, bias=False)
    alone: Any = fh.algorithms.local_only(problem, fh.local.sgd(RATE, batch_size=None, steps=rounds))
    together: Any = fh.algorithms.fedavg(problem, fh.local.sgd(RATE, batch_size=None, steps=1))
    key = jax.random.key(0)
    own, _ = fh.simulate(alone, federation, key=key, rounds=1, progress=False)
    common, _ = fh.simulate(together, federation, key=key, rounds=rounds, progress=False)
    local = np.asarray(own.clients.params["head"]["kernel"], np.float64)
    return local.reshape(len(local), -1), np.asarray(common.server.params["head"]["kernel"], np.float64).ravel()


def _mixed(rho: float, seed: int, rounds: int, clients: int, rows: int, test_rows: int) -> np.ndarray:
    """Best alpha, best of a coarse grid, and squared errors: global, local, best mixture [5]."""
    federation = fh.datasets.local_global_regression(
        rho, clients=clients, rows=rows, test_rows=test_rows, seed=seed
    )
    local, common = fitted(federation, rounds)
    x, y = (np.asarray(values, np.float64)[clients * rows :] for values in (federation.x, federation.y))
    x = x.reshape(clients, test_rows, -1)
    far = (x @ common).ravel() - y.ravel()
    near_by = np.einsum("mnd,md->mn", x, local).ravel() - y.ravel()
    toward = near_by - far
    best = -np.mean(far * toward) / np.mean(toward**2)

    def error(alpha: float) -> float:
        return float(np.mean((far + alpha * toward) ** 2))

    grid = np.linspace(0, 1, 11)
    return np.array([best, grid[np.argmin([error(alpha) for alpha in grid])], error(0), error(1), error(best)])

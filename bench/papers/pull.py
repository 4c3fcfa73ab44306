"""Ditto on federated point estimation: which lambda is best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import fedjax_het as fh
from papers.rows import Row, near, told

__all__ = ["GRID", "estimates", "federation_of", "pull"]

CELLS = {"close": (1.0, 10, 0.2), "between": (1.0, 10, 0.5), "apart": (2.0, 20, 1.0)}
"""Name -> sigma, n, tau: lambda* = 2.5, 0.4 and 0.2."""

GRID = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
"""lambda over lambda*."""


def federation_of(
    sigma: float, rows: int, tau: float, *, clients: int, coordinates: int, seed: int
) -> tuple[fh.Federation, np.ndarray]:
    """Clients with rows y = theta_k + N(0, sigma^2), and their theta_k = theta + N(0, tau^2) [K, coordinates].

    Coordinates are independent problems, side by side.
    """
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=coordinates) + tau * rng.normal(size=(clients, coordinates))
    y = truth[:, None, :] + sigma * rng.normal(size=(clients, rows, coordinates))
    ones = np.ones((rows, 1))
    federation = fh.from_clients([(ones, own) for own in y], test=0.0, task="regression", name="points")
    return federation, truth


def pull(
    rounds: int = 20,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    *,
    clients: int = 50,
    coordinates: int = 100,
) -> list[Row]:
    """Ditto's best lambda is sigma^2 / (n tau^2), within 10 %.

    Settings: K = 50 clients whose theta_k ~ N(theta, tau^2) are estimated from n rows of deviation sigma,
    F_k(v) = 1/2 mean |v - y_i|^2, in three cells: (sigma, n, tau) = (1, 10, .2), (1, 10, .5), (2, 20, 1), that
    is lambda* = 2.5, .4 and .2. Ditto with everybody in each of 20 rounds of 20 full steps, of 1/2 for w and of
    1/(2 (1 + lambda)) for v_k, lambda in {1/4, 1/2, 3/4, 1, 3/2, 2, 4} lambda*. The mean squared distance of
    v_k to theta_k, over clients, 100 independent coordinates and five draws, is quadratic in
    lambda/(1 + lambda), the share of w in the optimum (y_k + lambda w)/(1 + lambda): a parabola through the
    seven points gives the best lambda, asked for within 10 % of sigma^2/(n tau^2), which holds for every K.
    At lambda* the error is asked for within 5 % of that of the best estimator, with v = sigma^2/n:
    v tau^2/(v + tau^2), and (v/(v + tau^2)) v/K for a theta that nobody knows.

    Reference: Li, Hu, Beirami, Smith, "Ditto: fair and robust federated learning through personalization",
    ICML 2021, the analysis of federated point estimation.

    Departures: the paper proves this and runs nothing. Its theta has a flat prior; here it is N(0, 1), which
    no estimator looks at.
    """
    rows = []
    for name, (sigma, many, tau) in CELLS.items():
        best = sigma**2 / (many * tau**2)
        errors = np.zeros(len(GRID))
        for seed in seeds:
            federation, truth = federation_of(
                sigma, many, tau, clients=clients, coordinates=coordinates, seed=seed
            )
            for place, times in enumerate(GRID):
                own = estimates(federation, times * best, rounds)
                errors[place] += np.mean((own - truth) ** 2) / len(seeds)
        shares = np.array([times * best / (1 + times * best) for times in GRID])
        second, first, _ = np.polyfit(shares, errors, 2)
        share = -first / (2 * second)
        noise = sigma**2 / many
        least = noise * tau**2 / (noise + tau**2) + noise / (noise + tau**2) * noise / clients
        reached = errors[GRID.index(1.0)]
        rows += [
            near(f"{name}: best lambda", share / (1 - share), best, 0.1 * best),
            told(f"{name}: best lambda of the grid", GRID[int(np.argmin(errors))] * best, best),
            near(f"{name}: squared error at lambda*", reached, least, 0.05 * least),
            told(f"{name}: squared error at lambda*/4 over that at lambda*", errors[0] / reached),
            told(f"{name}: squared error at 4 lambda* over that at lambda*", errors[-1] / reached),
        ]
    return rows


def estimates(federation: fh.Federation, lam: float, rounds: int) -> np.ndarray:
    """v_k at the end of a run of Ditto [K, coordinates]."""
    problem = fh.models.linear(federation.pool, bias=False)
    shared = fh.local.sgd(0.5, batch_size=None, steps=20)
    personal = fh.local.sgd(0.5 / (1 + lam), batch_size=None, steps=20)
    algorithm: Any = fh.algorithms.ditto(problem, shared, lam=lam, personal=personal)
    state, _ = fh.simulate(
        algorithm, federation, key=jax.random.key(0), rounds=rounds, split="train", progress=False
    )
    return np.asarray(state.clients.personal.params["head"]["kernel"], np.float64)[:, 0]

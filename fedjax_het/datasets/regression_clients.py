"""Clients with a linear regression each, and fresh rows to train and to test on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedjax_het.assembly import assemble
from fedjax_het.federation import Federation
from fedjax_het.pool import pool
from fedjax_het.split import generator

__all__ = ["fresh_rows", "regression_clients"]


def fresh_rows(clients: int, rows: int, test_rows: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Row numbers (train, test) of N clients in a pool that lists all training rows first, client by client."""
    train = np.arange(clients * rows).reshape(clients, rows)
    test = clients * rows + np.arange(clients * test_rows).reshape(clients, test_rows)
    return list(train), list(test)


def regression_clients(
    parameters: np.ndarray,
    features: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray],
    *,
    rows: int,
    test_rows: int,
    noise: float,
    seed: int,
    name: str,
    truth: Mapping[str, Any],
) -> Federation:
    """y = <x, theta_k> + N(0, noise^2) for every client k, training and test rows drawn afresh.

    Args:
        parameters: theta_k [N, d].
        features: (generator, shape [N, n, d]) -> x.
        rows: training rows of each client.
        test_rows: test rows of each client; their number does not change the training rows.
        noise: standard deviation of the targets about the line.
        seed: whole number >= 0.
        name: of the pool and of the random streams.
        truth: see `assemble`.

    Returns:
        N clients on a regression pool of x float [M, d], y float [M].
    """
    clients, dimension = parameters.shape
    x, y = [], []
    for which, count in enumerate((rows, test_rows)):
        rng = generator(seed, name, which)
        drawn = features(rng, (clients, count, dimension))
        target = (drawn @ parameters[:, :, None])[..., 0] + noise * rng.standard_normal((clients, count))
        x.append(drawn.reshape(-1, dimension))
        y.append(target.ravel())
    source = pool(np.concatenate(x), np.concatenate(y), task="regression", name=name)
    train, test = fresh_rows(clients, rows, test_rows)
    return assemble(source, train, None, test, truth=truth)

"""Leading directions of rows, found without finding all of them."""

from __future__ import annotations

import numpy as np

from fedjax_het.split import generator

__all__ = ["leading", "standardised"]

SPARE = 8
"""Directions beside those asked for, which let the iteration settle sooner."""

ROUNDS = 6
"""Of the iteration."""


def leading(z: np.ndarray, most: int) -> np.ndarray:
    """Leading right singular vectors of z [n, d] as columns, float [d, min(most, n, d)], by subspace iteration.

    Args:
        z: centred rows.
        most: how many at most.

    Reference: Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 53(2), 2011, algorithm
        4.4.
    """
    begin = generator(0, "directions").standard_normal((z.shape[1], min(most + SPARE, *z.shape)))
    axes = np.linalg.qr(begin)[0]
    for _ in range(ROUNDS):
        axes = np.linalg.qr(z.T @ (z @ axes))[0]
    return axes @ np.linalg.svd(z @ axes, full_matrices=False)[2][: min(most, *z.shape)].T


def standardised(x: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(mean, factor) [d] that make features comparable: 1 over the deviation, 0 for a constant feature; pixels
    have one unit, and keep it.

    Args:
        x: rows, float [n, d].
        shape: of a row before it was flattened.
    """
    mean, spread = x.mean(0), x.std(0)
    if len(shape) > 1:
        return mean, np.ones_like(spread)
    varies = spread > 1e-6 * np.abs(x).max(0)
    return mean, np.where(varies, 1 / np.where(varies, spread, 1), 0)

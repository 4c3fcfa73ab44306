"""Leading principal components of standardised features."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import require

__all__ = ["components"]

CONSTANT = 1e-9
"""Standard deviation, relative to the largest value, below which a feature is constant."""


def components(x: np.ndarray, most: int) -> np.ndarray:
    """Scores of at most `most` principal components, float64 [n, r], of mean 0 and average variance 1.

    Features are standardised first, so that no unit counts more than another, and constant ones left out.
    Nothing here knows whose a row is, so a null distribution by permutation stays exact.

    Args:
        x: float [n, d].
        most: r at most.

    Raises:
        ValueError: no feature varies.
    """
    spread = x.std(axis=0)
    varies = spread > CONSTANT * np.abs(x).max(axis=0)
    require(
        bool(varies.any()),
        "federation must have features that vary, got the same x in all rows: see its transforms",
    )
    z = (x[:, varies] - x[:, varies].mean(axis=0)) / spread[varies]
    if z.shape[1] <= len(z):
        _, axes = np.linalg.eigh(z.T @ z)
        scores = z @ axes[:, ::-1][:, :most]
    else:
        power, rows = np.linalg.eigh(z @ z.T)
        scores = rows[:, ::-1][:, :most] * np.sqrt(np.maximum(power[::-1][:most], 0))
    return scores / np.sqrt((scores**2).mean())

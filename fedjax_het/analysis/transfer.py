"""How the models of some clients serve the others: what every kind of model answers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["PRIOR", "Scores", "crossed", "halves"]

PRIOR = 10.0
"""Rows that the prior of a covariance or of a kernel is worth; components have variance 1 on average."""


class Scores(NamedTuple):
    """What the models of m clients do; each client has two, one fitted on either half of its rows.

    Attributes:
        score: of client i's models on client j's rows, each row by the model of the half that it is not in,
            float [m, m].
        gap: what client j's own models score more on the same rows, float [m, m].
        disagreement: of two clients' models on the common rows, beyond that of a client's own two, float
            [m, m].
    """

    score: np.ndarray
    gap: np.ndarray
    disagreement: np.ndarray


def halves(cell: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which half a row is in, 0 or 1, int [n]: each cell is cut at random, an odd row going to half 0."""
    order = np.lexsort((rng.random(len(cell)), cell))
    size = np.bincount(cell)
    place = np.empty(len(cell), np.int64)
    place[order] = np.arange(len(cell)) - np.repeat(np.cumsum(size) - size, size)
    return (place >= size[cell] - size[cell] // 2).astype(np.int64)


def crossed(apart: np.ndarray) -> np.ndarray:
    """Disagreement of two clients beyond that within them, float [m, m].

    With d_ij = apart[i, j], between i's model of half 0 and j's of half 1:
        (d_ij + d_ji - d_ii - d_jj) / 2
    All four terms have the same mean where clients are alike, so this is 0 on average, and for squared
    differences it is an unbiased estimate of that between what the models are fitted to.
    """
    own = np.diagonal(apart)
    return (apart + apart.T - own[:, None] - own) / 2

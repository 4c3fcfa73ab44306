"""Ridge regressions of each client, in closed form, and how well they serve the others."""

from __future__ import annotations

import dataclasses

import numpy as np

from fedjax_het.analysis.transfer import PRIOR, Scores, crossed

__all__ = ["Ridges"]


@dataclasses.dataclass(frozen=True, eq=False)
class Ridges:
    """Linear models with an intercept.

    From the rows Z_k and targets Y_k of one half of client k, both less their means:
        W_k = (Z_k' Z_k + PRIOR I)^-1 Z_k' Y_k
    The score is 1 - |y - prediction|^2 / q, a mean over rows: R^2 with the variance of everybody's targets, 1
    for each of the q, in place of the client's own. So a gap is an excess error in units of that variance, and
    a client of nearly constant targets cannot blow it up. Disagreement is the mean squared difference of two
    predictions on everybody's rows, in the same units.

    Attributes:
        owner: whose row, int [n].
        target: float [n, q], each of variance 1.
        half: 0 or 1, int [n].
        clients: m.
    """

    owner: np.ndarray
    target: np.ndarray
    half: np.ndarray
    clients: int

    def scores(self, z: np.ndarray, order: np.ndarray) -> Scores:
        """What the models do where row r has the components z[order[r]] and that row's target with them."""
        rows, target = z[order], self.target[order]
        models = [self._models(rows, target, half) for half in (0, 1)]
        error = np.empty((self.clients, len(rows)))
        for half, (kernel, bias) in enumerate(models):
            asked = self.half != half
            said = rows[asked] @ kernel + bias[:, None]
            error[:, asked] = ((said - target[asked]) ** 2).mean(2)
        count = np.bincount(self.owner, minlength=self.clients)
        score = 1 - np.stack([np.bincount(self.owner, row, self.clients) for row in error]) / count
        first, second = ((rows @ kernel + bias[:, None]).reshape(self.clients, -1) for kernel, bias in models)
        squares = (first**2).sum(1)[:, None] + (second**2).sum(1)
        apart = (squares - 2 * first @ second.T) / target.size
        return Scores(score, np.diagonal(score) - score, crossed(apart))

    def _models(self, rows: np.ndarray, target: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
        """(kernel [m, r, q], bias [m, q]) fitted on one half."""
        fits = [_ridge(rows[fit], target[fit]) for fit in self._parts(half)]
        return np.stack([kernel for kernel, _ in fits]), np.stack([bias for _, bias in fits])

    def _parts(self, half: int) -> list[np.ndarray]:
        return [(self.owner == k) & (self.half == half) for k in range(self.clients)]


def _ridge(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(kernel [r, q], bias [q])."""
    centre, level = z.mean(0), y.mean(0)
    rows = z - centre
    kernel = np.linalg.solve(rows.T @ rows + PRIOR * np.eye(z.shape[1]), rows.T @ (y - level))
    return kernel, level - centre @ kernel

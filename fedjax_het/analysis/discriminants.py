"""Linear discriminants of each client, in closed form, and how well they serve the others."""

from __future__ import annotations

import dataclasses

import numpy as np

from fedjax_het.analysis.transfer import PRIOR, Scores, crossed

__all__ = ["Discriminants"]


@dataclasses.dataclass(frozen=True, eq=False)
class Discriminants:
    """Linear discriminants, compared on the labels that both clients hold.

    From the rows of one half of client k, with m_kc the mean of label c and R_k the sum of squares about these
    means on f_k degrees of freedom:
        S_k = (R_k + PRIOR I) / (f_k + PRIOR),  score_kc(z) = m_kc' S_k^-1 z - m_kc' S_k^-1 m_kc / 2
    All labels have the same prior, so the border between two of them does not depend on how many rows of each a
    client holds.

    For two clients both models choose among the labels that both clients hold, and only rows of these labels
    count; the score is the share of hits, averaged over the labels. Fewer than two such labels compare
    nothing. Disagreement is the share of the common rows for which two models choose differently.

    Attributes:
        owner: whose row, int [n].
        label: int [n], 0..K-1; nobody holds a single row of a label.
        half: 0 or 1, int [n].
        common: numbers of the common rows, int [c].
        clients: m.
        classes: K.
    """

    owner: np.ndarray
    label: np.ndarray
    half: np.ndarray
    common: np.ndarray
    clients: int
    classes: int

    @property
    def count(self) -> np.ndarray:
        """Rows of each client and label, int [m, K]."""
        flat = self.owner * self.classes + self.label
        return np.bincount(flat, minlength=self.clients * self.classes).reshape(self.clients, self.classes)

    def scores(self, z: np.ndarray, order: np.ndarray) -> Scores:
        """What the models do where row r has the components z[order[r]] and keeps its own label."""
        rows, count = z[order], self.count
        known = count > 0
        both = known[:, None] & known
        enough = both.sum(2) >= 2
        models = [self._models(rows, half) for half in (0, 1)]
        answers = np.empty((self.clients, len(rows), self.classes))
        for half, (kernel, bias) in enumerate(models):
            asked = self.half != half
            answers[:, asked] = rows[asked] @ kernel + bias[:, None]
        own = answers[self.owner, np.arange(len(rows))]
        cell = self.owner * self.classes + self.label

        def hits(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
            right = np.where(allowed[self.owner], scores, -np.inf).argmax(1) == self.label
            share = np.bincount(cell, right, count.size).reshape(count.shape) / np.maximum(count, 1)
            return (share * allowed).sum(1) / np.maximum(allowed.sum(1), 1)

        pairs = list(zip(answers, both))
        score = np.where(enough, [hits(scores, allowed) for scores, allowed in pairs], np.nan)
        mine = np.where(enough, [hits(own, allowed) for _, allowed in pairs], np.nan)
        said = [rows[self.common] @ kernel + bias[:, None] for kernel, bias in models]
        return Scores(score, mine - score, np.where(enough, _disagreement(said, known), np.nan))

    def _models(self, rows: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
        """(kernel [m, r, K], bias [m, K]) fitted on one half; bias -inf for labels that a client lacks."""
        m, classes, width = self.clients, self.classes, rows.shape[1]
        fit = self.half == half
        rows, owner, cell = rows[fit], self.owner[fit], (self.owner * classes + self.label)[fit]
        count = np.bincount(cell, minlength=m * classes)
        present = np.flatnonzero(count)
        starts = (np.cumsum(count) - count)[present]
        mean = np.zeros((m * classes, width))
        sums = np.add.reduceat(rows[np.argsort(cell, kind="stable")], starts, axis=0)
        mean[present] = sums / count[present, None]
        residual = rows - mean[cell]
        squares = np.stack([part.T @ part for part in (residual[owner == k] for k in range(m))])
        count, mean = count.reshape(m, classes), mean.reshape(m, classes, width)
        free = (count.sum(1) - (count > 0).sum(1))[:, None, None]
        spread = (squares + PRIOR * np.eye(width)) / (free + PRIOR)
        kernel = np.linalg.solve(spread, mean.transpose(0, 2, 1))
        bias = -np.einsum("mkr,mrk->mk", mean, kernel) / 2
        return kernel, np.where(count > 0, bias, -np.inf)


def _disagreement(said: list[np.ndarray], known: np.ndarray) -> np.ndarray:
    """Beyond that within clients, float [m, m], from the scores [m, c, K] by the models of either half."""
    clients = len(known)
    free = [scores.argmax(2) for scores in said]
    excess = np.zeros((clients, clients))
    for i in range(clients):
        for j in range(i):
            allowed = known[i] & known[j]
            # who knows these labels alone has chosen among them already
            chosen = [
                [
                    free[half][k] if np.array_equal(known[k], allowed)
                    else np.where(allowed, said[half][k], -np.inf).argmax(1)
                    for k in (i, j)
                ]
                for half in (0, 1)
            ]  # fmt: skip
            apart = np.array([[np.mean(a != b) for b in chosen[1]] for a in chosen[0]])
            excess[i, j] = excess[j, i] = crossed(apart)[0, 1]
    return excess

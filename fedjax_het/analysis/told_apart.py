"""How well a classifier tells clients apart from their features, within strata."""

from __future__ import annotations

import warnings

import numpy as np

from fedjax_het.analysis.null_band import Measured, compared, measured, shuffled

__all__ = ["told_apart"]

STEPS = 100
"""Iterations of a fit at most; the test holds for any classifier, converged or not."""


def told_apart(
    z: np.ndarray,
    owner: np.ndarray,
    stratum: np.ndarray,
    *,
    clients: int,
    draws: int,
    rng: np.random.Generator,
) -> tuple[Measured, np.ndarray] | None:
    """A classifier two-sample test between many clients.

    Half of the rows of each cell (client k in stratum s, as far as there are two rows) trains a multinomial
    logistic regression for its stratum, on the components and their squares, all clients counting alike. On
    the other half, with h_ks the share of the cell's rows that it gives to their own client, and m_s cells in
    the stratum:
        value = sum_s (n_s / n) mean_k (h_ks - 1 / m_s) / (1 - 1 / m_s)
    0 is chance, 1 is all told apart. The squares let it see clients whose rows spread differently about the
    same mean.

    The null shuffles the held-out rows among the clients within each stratum while the classifiers stay as
    they are. This is exact, since given the classifiers and the features the owners of the held-out rows are
    exchangeable where clients are alike; averaging over both ways to cut the halves would not be.

    Args:
        z: components, float [n, r].
        owner: whose row, int [n], 0..m-1.
        stratum: int [n]; all 0 for the marginal distributions, labels for those given the label.
        clients: m.
        draws: of the null.
        rng: of the cut and of the null.

    Returns:
        (the value, its band and the mean over each client's cells, weighted by rows; the confusion, float
        [m, m]: which share of the held-out rows of client i is given to client j); None if no stratum holds
        two rows of each of two clients.

    Reference: Lopez-Paz, Oquab, "Revisiting classifier two-sample tests", ICLR 2017, section 3.

    Departures: many classes instead of two, balanced accuracy normalised by chance, the null by permutation
        rather than by the normal approximation.
    """
    kept = compared(owner, stratum)
    if not kept.any():
        return None
    features = np.concatenate([z, z**2], axis=1)[kept]
    features = (features - features.mean(0)) / np.maximum(features.std(0), 1e-12)
    owner, stratum = owner[kept], stratum[kept]
    _, cell = np.unique(stratum * clients + owner, return_inverse=True)
    order = np.lexsort((rng.random(len(cell)), cell))
    size = np.bincount(cell)
    place = np.empty(len(cell), np.int64)
    place[order] = np.arange(len(cell)) - np.repeat(np.cumsum(size) - size, size)
    held = place >= size[cell] - size[cell] // 2
    guess = np.full(len(cell), -1)
    for layer in np.unique(stratum):
        fit, ask = (stratum == layer) & ~held, (stratum == layer) & held
        guess[ask] = _classified(features[fit], owner[fit], features[ask])
    confusion = np.zeros((clients, clients))
    np.add.at(confusion, (owner[held], guess[held]), 1)
    total = confusion.sum(1, keepdims=True)
    confusion = np.divide(confusion, total, out=np.full_like(confusion, np.nan), where=total > 0)
    first = np.unique(cell, return_index=True)[1]
    layers = np.unique(stratum[first], return_inverse=True)[1]
    chance = 1 / np.bincount(layers)[layers]
    share = np.bincount(layers, size)[layers] * chance / len(cell)  # a stratum's, in equal parts to its cells
    cell, guess, owner, stratum = cell[held], guess[held], owner[held], stratum[held]
    asked = np.bincount(cell)

    def cells(order: np.ndarray) -> np.ndarray:
        """Normalised share of hits of every cell, its rows being given the guesses at `order`."""
        hits = np.bincount(cell, guess[order] == owner) / asked
        return (hits - chance) / (1 - chance)

    found = cells(np.arange(len(cell)))
    null = np.array([share @ cells(shuffled(stratum, rng)) for _ in range(draws)])
    whose = owner[np.unique(cell, return_index=True)[1]]
    with np.errstate(invalid="ignore"):
        client = np.bincount(whose, size * found, clients) / np.bincount(whose, size, clients)
    return measured(float(share @ found), client, null), confusion


def _classified(x: np.ndarray, owner: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """To whom a logistic regression fitted on (x, owner) gives the rows that are asked about."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # that a fit is cut short, or that there are few rows a client: the test holds all the same
        warnings.simplefilter("ignore", UserWarning)
        model = LogisticRegression(C=1 / x.shape[1], class_weight="balanced", max_iter=STEPS, tol=1e-3)
        return model.fit(x, owner).predict(asked)

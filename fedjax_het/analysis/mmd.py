"""Linear maximum mean discrepancy between clients, within strata."""

from __future__ import annotations

import numpy as np

from fedjax_het.analysis.null_band import Measured, compared, measured, shuffled

__all__ = ["linear_mmd"]

FLOOR = 1e-12
"""Least variance within clients, in units of the variance of all rows."""


def linear_mmd(
    z: np.ndarray,
    owner: np.ndarray,
    stratum: np.ndarray,
    *,
    clients: int,
    draws: int,
    rng: np.random.Generator,
) -> Measured | None:
    """How far the clients' means lie apart, in units of the variance within clients.

    With cells (k, s) of client k in stratum s, n_ks rows of mean m_ks and variance v_ks (summed over the
    components), p_k|s = n_ks / n_s, m_s the mean of the stratum:
        u_ks  = |m_ks - m_s|^2 - (1 - 2 p_k|s) v_ks / n_ks - sum_l p_l|s^2 v_ls / n_ls
        value = sum_ks (n_ks / n) u_ks / W,  W = sum_ks (n_ks - 1) v_ks / sum_ks (n_ks - 1)
    u_ks is an unbiased estimate of |mu_ks - mu_s|^2, the squared MMD between a client and the stratum under
    the linear kernel, so the value is about 0 where clients are alike, on either side of it. Only means
    count: a change that leaves them alone is not seen.

    The null shuffles the rows among the clients within each stratum, all cells keeping their sizes.

    Args:
        z: components, float [n, r].
        owner: whose row, int [n], 0..m-1.
        stratum: int [n]; all 0 for the marginal distributions, labels for those given the label.
        clients: m.
        draws: of the null.
        rng: of the null.

    Returns:
        The value, its band, and sum_s n_ks u_ks / (W sum_s n_ks) of each client; None if no stratum holds two
        rows of each of two clients.

    Reference: Gretton, Borgwardt, Rasch, Schölkopf, Smola, "A kernel two-sample test", JMLR 2012, Lemma 6
        (MMD^2 and its unbiased estimate) with k(x, x') = <x, x'>.

    Departures: several samples against their mixture rather than two against each other; divided by W, which
        makes it free of scale; the null by permutation.
    """
    kept = compared(owner, stratum)
    if not kept.any():
        return None
    z, owner, stratum = z[kept], owner[kept], stratum[kept]
    order = np.lexsort((owner, stratum))
    extended = np.concatenate([z, (z**2).sum(1, keepdims=True)], axis=1)
    floor = FLOOR * extended[:, -1].mean()
    free, owner, stratum = stratum, owner[order], stratum[order]
    change = (np.diff(owner, prepend=-1) != 0) | (np.diff(stratum, prepend=stratum[0] - 1) != 0)
    starts = np.flatnonzero(change)
    size = np.diff(starts, append=len(z)).astype(np.float64)
    whose = owner[starts]
    layer = np.unique(stratum[starts], return_inverse=True)[1]
    share = size / np.bincount(layer, size)[layer]
    member = (layer[:, None] == np.arange(layer.max() + 1)).astype(np.float64)

    def cells(rows: np.ndarray) -> np.ndarray:
        """u_ks / W of every cell."""
        sums = np.add.reduceat(rows, starts, axis=0) / size[:, None]
        mean, square = sums[:, :-1], sums[:, -1]
        variance = np.maximum(square - (mean**2).sum(1), 0) * size / (size - 1)
        centre = member.T @ (share[:, None] * mean)
        noise = member.T @ (share**2 * variance / size)
        apart = ((mean - centre[layer]) ** 2).sum(1)
        unbiased = apart - (1 - 2 * share) * variance / size - noise[layer]
        within = ((size - 1) * variance).sum() / (size - 1).sum()
        return unbiased / max(within, floor)

    weight = size / size.sum()
    found = cells(extended[order])
    null = np.array([weight @ cells(extended[shuffled(free, rng)[order]]) for _ in range(draws)])
    total = np.bincount(whose, size, clients)
    with np.errstate(invalid="ignore"):
        client = np.bincount(whose, size * found, clients) / total
    return measured(float(weight @ found), client, null)

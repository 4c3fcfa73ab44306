"""How well the clusters found agree with the clusters that are there, and mixtures with the true mixtures.

Everywhere: `assigned` int [..., N], the cluster of each client by any whole numbers, and `truth` int [N] or
[..., N], the latent cluster; `held` bool [..., N], whether the client counts. A negative number says that a
client is in no cluster: it does not count. Below, n_ij clients of the n that count are in found cluster i and
latent cluster j. Results are [...], NaN if nobody counts. No measure depends on how clusters are numbered.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.check import require, short

__all__ = [
    "adjusted_rand",
    "centre_coverage",
    "centre_error",
    "contingency",
    "coverage",
    "match_components",
    "mixture_distance",
    "purity",
]


def contingency(assigned: Any, truth: Any, held: Any = None) -> np.ndarray:
    """n_ij, int [..., I, J]: a row for each found cluster of any leading index, a column for each latent one.

    Rows and columns are in ascending order of the clusters' numbers.

    Args:
        assigned: see above; so are the others.
        truth: see above.
        held: see above.

    Raises:
        TypeError: clusters that are no whole numbers.
        ValueError: shapes that do not fit.
    """
    found, latent = _labels("assigned", assigned), _labels("truth", truth)
    require(
        found.shape[-1:] == latent.shape[-1:],
        f"truth must have one entry a client, {found.shape[-1:]} of them, got shape {latent.shape}: pass the "
        "latent cluster of every client",
    )
    found, latent = np.broadcast_arrays(found, latent)
    counts = (found >= 0) & (latent >= 0)
    if held is not None:
        counts = counts & np.broadcast_to(np.asarray(held, bool), found.shape)
    lead = found.shape[:-1]
    groups = int(np.prod(lead, dtype=np.int64))
    owner = np.broadcast_to(np.arange(groups).reshape(*lead, 1), found.shape)[counts]
    rows, i = np.unique(found[counts], return_inverse=True)
    columns, j = np.unique(latent[counts], return_inverse=True)
    place = (owner * len(rows) + i.reshape(-1)) * len(columns) + j.reshape(-1)
    shape = (groups, len(rows), len(columns))
    return np.bincount(place, minlength=int(np.prod(shape))).reshape(*lead, *shape[1:])


def purity(assigned: Any, truth: Any, held: Any = None) -> np.ndarray:
    """Share of the clients that belong to the commonest latent cluster of theirs: (1/n) sum_i max_j n_ij.

    1 if no cluster mixes latent ones. Clusters of one client each are pure as well: read it beside
    `adjusted_rand`.

    Args:
        assigned: see above; so are the others.
        truth: see above.
        held: see above.

    Reference: Manning, Raghavan, Schütze, Introduction to Information Retrieval, 2008, eq. 16.1.
    """
    table = contingency(assigned, truth, held)
    total = table.sum((-2, -1))
    return _over(table.max(-1, initial=0).sum(-1), total)


def adjusted_rand(assigned: Any, truth: Any, held: Any = None) -> np.ndarray:
    """Adjusted Rand index: agreement over pairs of clients, 1 if the clusters are the same, 0 by chance.

    With S = sum_ij C(n_ij, 2), A = sum_i C(n_i., 2), B = sum_j C(n_.j, 2) and P = C(n, 2) pairs:
    (S - A B / P) / ((A + B) / 2 - A B / P); 1 where both have one cluster, or both only clusters of one.

    Args:
        assigned: see above; so are the others.
        truth: see above.
        held: see above.

    Reference: Hubert, Arabie, Comparing partitions, Journal of Classification 2, 1985, eq. 5.
    """
    table = contingency(assigned, truth, held).astype(float)
    total = table.sum((-2, -1))
    both, mine, theirs, pairs = (
        _pairs(table).sum((-2, -1)),
        _pairs(table.sum(-1)).sum(-1),
        _pairs(table.sum(-2)).sum(-1),
        _pairs(total),
    )
    expected = mine * theirs / np.maximum(pairs, 1)
    span = (mine + theirs) / 2 - expected
    trivial = (mine == theirs) & ((mine == 0) | (mine == pairs))
    index = np.divide(both - expected, span, out=np.ones_like(span), where=~trivial)
    return np.where(total > 0, index, np.nan)


def coverage(assigned: Any, truth: Any, held: Any = None) -> np.ndarray:
    """Share of the latent clusters that are the commonest one of some found cluster, each of another.

    1 if every latent cluster has a cluster of its own; two latent clusters merged into one are one of two.
    Where latent clusters are tied in a found cluster, it stands for whichever covers most.

    Args:
        assigned: see above; so are the others.
        truth: see above.
        held: see above.
    """
    table = contingency(assigned, truth, held)
    stands = (table == table.max(-1, keepdims=True, initial=0)) & (table > 0)
    covered = np.zeros(table.shape[:-2])
    for place in np.ndindex(covered.shape):
        covered[place] = _matched(stands[place])
    return _over(covered, (table.sum(-2) > 0).sum(-1))


def match_components(weights: Any, truth: Any, held: Any = None) -> np.ndarray:
    """The component that stands for each true one, int [P] with P = max(M, M'): a permutation of 0..P - 1.

    It minimises sum_k |pi_k,place - pi*_k|_1 over all permutations, by assignment. With fewer components on one
    side, what is missing there has weight 0: a number >= M says that none stands for the true one.

    Args:
        weights: pi, what was learned: float [N, M], a mixture each client.
        truth: pi*, float [N, M'].
        held: whether the client counts, bool [N]; by default all do.

    Raises:
        TypeError: no numbers.
        ValueError: shapes that do not fit, or weights of clients that count that are not finite.
    """
    pi, star, counts = _mixtures(weights, truth, held)
    return _place(pi[counts], star[counts])


def mixture_distance(weights: Any, truth: Any, held: Any = None) -> np.ndarray:
    """|pi_k - pi*_k|_1 of each client after `match_components`, float [N]: 0 if equal, at most 2.

    One permutation serves all clients. NaN where a client does not count.

    Args:
        weights: see `match_components`; so are the others.
        truth: see `match_components`.
        held: see `match_components`.

    Raises:
        TypeError, ValueError: see `match_components`.
    """
    pi, star, counts = _mixtures(weights, truth, held)
    distance = np.full(len(pi), np.nan)
    place = _place(pi[counts], star[counts])
    distance[counts] = np.abs(pi[counts][:, place] - star[counts]).sum(-1)
    return distance


def centre_error(centres: Any, truth: Any) -> float:
    """Mean distance of a learned model to the nearest true one: (1/K) sum_j min_i |theta_j - theta*_i|_2.

    Two models may be nearest to the same true one, so that the error is small although a true one is missed:
    read it beside `centre_coverage`.

    Args:
        centres: theta, float [K, d].
        truth: theta*, float [K', d].

    Reference: Ghosh, Chung, Yin, Ramchandran, An Efficient Framework for Clustered Federated Learning, NeurIPS
        2020, section 6.1: a run succeeds where this is below 0.6 sigma.
    """
    return float(_distances(centres, truth).min(-1).mean())


def centre_coverage(centres: Any, truth: Any) -> float:
    """Share of the true models that are the nearest one of some learned model; 1 if none is missed.

    Args:
        centres: theta, float [K, d].
        truth: theta*, float [K', d].
    """
    distance = _distances(centres, truth)
    return len(np.unique(distance.argmin(-1))) / distance.shape[1]


def _labels(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold whole numbers, got {short(values)}: number the clusters")
    require(array.ndim >= 1, f"{name} must have shape [..., N], got {array.shape}: one entry a client")
    return array.astype(np.int64)


def _over(value: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.divide(value, total, out=np.full(np.shape(total), np.nan), where=np.asarray(total) > 0)


def _pairs(count: np.ndarray) -> np.ndarray:
    return count * (count - 1) / 2


def _matched(allowed: np.ndarray) -> int:
    """The most pairs (row, column) that are allowed, no row or column in two."""
    from scipy.optimize import linear_sum_assignment

    return int(allowed[linear_sum_assignment(allowed, maximize=True)].sum())


def _mixtures(weights: Any, truth: Any, held: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pi, pi*, who counts), the first two with equally many components."""
    given = []
    for name, values in (("weights", weights), ("truth", truth)):
        array = np.asarray(values)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{name} must hold numbers, got {short(values)}: a mixture each client, [N, M]")
        require(
            array.ndim == 2 and array.shape[1] > 0,
            f"{name} must have shape [N, M], got {array.shape}: a mixture each client",
        )
        given.append(array.astype(float))
    pi, star = given
    require(
        len(pi) == len(star), f"truth must have {len(pi)} rows, got {len(star)}: one a client, as in weights"
    )
    counts = np.ones(len(pi), bool) if held is None else np.asarray(held, bool)
    require(
        counts.shape == (len(pi),), f"held must have shape [{len(pi)}], got {counts.shape}: one entry a client"
    )
    finite = np.isfinite(pi[counts]).all() and np.isfinite(star[counts]).all()
    require(bool(finite), "weights and truth must be finite, got others: leave such clients out by held=")
    most = max(pi.shape[1], star.shape[1])
    pi, star = (np.pad(each, ((0, 0), (0, most - each.shape[1]))) for each in (pi, star))
    return pi, star, counts


def _place(pi: np.ndarray, star: np.ndarray) -> np.ndarray:
    """See `match_components`: |.|_1 is a sum over components, so the best permutation is an assignment."""
    from scipy.optimize import linear_sum_assignment

    cost = np.stack([np.abs(pi - column[:, None]).sum(0) for column in star.T])
    return linear_sum_assignment(cost)[1]


def _distances(centres: Any, truth: Any) -> np.ndarray:
    """Euclidean distances [K, K']."""
    mine, theirs = np.asarray(centres, float), np.asarray(truth, float)
    require(
        mine.ndim == 2 and theirs.ndim == 2 and mine.size > 0 and theirs.size > 0,
        f"centres and truth must have shapes [K, d] and [K', d], got {mine.shape} and {theirs.shape}: flatten "
        "each model",
    )
    require(
        mine.shape[1] == theirs.shape[1],
        f"truth must have d = {mine.shape[1]} parameters a model, got {theirs.shape[1]}: as in centres",
    )
    return np.linalg.norm(mine[:, None] - theirs[None], axis=-1)

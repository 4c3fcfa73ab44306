"""An order of clients in which alike ones are neighbours."""

from __future__ import annotations

import numpy as np

__all__ = ["by_relation", "by_similarity", "side_by_side"]

EXACT = 200
"""Clients up to which the branches of a tree are turned so that neighbours are as alike as they can be."""


def by_similarity(shares: np.ndarray, group: np.ndarray | None = None) -> np.ndarray:
    """Row numbers of `shares` group by group, alike rows next to each other within a group, int [N].

    The leaves of Ward's tree on the roots of the shares, whose Euclidean distance is Hellinger's but for a
    factor; of every two branches the one with the lower mean column comes first.

    Args:
        shares: float [N, K], >= 0; a few thousand rows at most, since all pairs are compared.
        group: int [N]; by default all are in one.

    Reference: Ward, "Hierarchical grouping to optimize an objective function", JASA 58, 1963.
    """
    group = np.zeros(len(shares), int) if group is None else group
    members = [np.flatnonzero(group == one) for one in np.unique(group)]
    return np.concatenate([member[_leaves(shares[member])] for member in members])


def side_by_side(
    shares: np.ndarray, total: np.ndarray, cluster: np.ndarray | None = None, most: int | None = None
) -> np.ndarray:
    """The clients from left to right, int [n]: cluster by cluster, alike ones next to each other.

    Clients without rows have nothing to be alike in: they come last.

    Args:
        shares: of each class or token in a client's, float [N, K].
        total: what each client holds, [N].
        cluster: of each client, int [N]; None for none.
        most: clients that are kept; of more, evenly spaced ones of each cluster, by their most frequent class.
    """
    group = np.zeros(len(shares), int) if cluster is None else cluster
    group = np.where(total > 0, group, group.max() + 1)
    order = np.lexsort((-shares.max(1), shares.argmax(1), group))
    if most is not None and len(order) > most:
        order = order[np.linspace(0, len(order) - 1, most).round().astype(int)]
    return order[by_similarity(shares[order], group[order])]


def _leaves(shares: np.ndarray) -> np.ndarray:
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import pdist

    middle = shares @ np.arange(shares.shape[1]) / np.maximum(shares.sum(1), 1e-30)
    if len(shares) < 3:
        return np.argsort(middle, kind="stable")
    leaves, middles = [[i] for i in range(len(shares))], middle.tolist()
    # distances rather than rows: a square table of shares may look like distances itself, which warns
    for one, other, _, many in linkage(pdist(np.sqrt(shares)), "ward"):
        first, second = sorted((int(one), int(other)), key=middles.__getitem__)
        joint = middles[first] * len(leaves[first]) + middles[second] * len(leaves[second])
        leaves.append(leaves[first] + leaves[second])
        middles.append(joint / many)
    return np.array(leaves[-1])


def by_relation(similarity: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Places in `similarity` group by group, alike ones next to each other within a group, int [N].

    The leaves of the tree of average linkage on (largest similarity - similarity); a pair without a similarity
    is as far apart as any.

    Args:
        similarity: float [N, N], symmetric; NaN where there is none.
        group: int [N].

    Reference: Sokal, Michener, "A statistical method for evaluating systematic relationships", University of
        Kansas Science Bulletin 38, 1958 (average linkage).
    """
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    largest = np.nanmax(similarity, initial=0.0)
    least = np.nanmin(similarity, initial=largest)
    apart = largest - np.where(np.isnan(similarity), least, similarity)
    apart = np.maximum((apart + apart.T) / 2, 0.0)
    np.fill_diagonal(apart, 0.0)
    parts = []
    for one in np.unique(group):
        member = np.flatnonzero(group == one)
        if len(member) > 2:
            pairs = squareform(apart[np.ix_(member, member)], checks=False)
            tree = linkage(pairs, "average")
            if len(member) <= EXACT:
                tree = optimal_leaf_ordering(tree, pairs)
            member = member[leaves_list(tree)]
        parts.append(member)
    return np.concatenate(parts)

"""An order of clients in which alike ones are neighbours."""

from __future__ import annotations

import numpy as np

__all__ = ["by_similarity"]


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


def _leaves(shares: np.ndarray) -> np.ndarray:
    from scipy.cluster.hierarchy import linkage

    middle = shares @ np.arange(shares.shape[1]) / np.maximum(shares.sum(1), 1e-30)
    if len(shares) < 3:
        return np.argsort(middle, kind="stable")
    leaves, middles = [[i] for i in range(len(shares))], middle.tolist()
    for one, other, _, many in linkage(np.sqrt(shares), "ward"):
        first, second = sorted((int(one), int(other)), key=middles.__getitem__)
        joint = middles[first] * len(leaves[first]) + middles[second] * len(leaves[second])
        leaves.append(leaves[first] + leaves[second])
        middles.append(joint / many)
    return np.array(leaves[-1])

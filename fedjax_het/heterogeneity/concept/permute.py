"""Permuted labels: each latent cluster has its own names for the classes."""

from __future__ import annotations

import math

import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.federation import Federation, Transform
from fedjax_het.heterogeneity.concept.order import classes
from fedjax_het.heterogeneity.concept.relabel import relabelled
from fedjax_het.heterogeneity.groups import Clusters, groups
from fedjax_het.split import generator
from fedjax_het.transforms import times, transformed

__all__ = ["permute"]


def permute(
    federation: Federation, *, clusters: Clusters, moved: int | None = None, seed: int = 0
) -> Federation:
    """Permute the labels by latent cluster: y -> pi_c(y) for a client of cluster c.

    Cluster 0 keeps its labels. The others have random permutations, all different and none the identity.

    Args:
        federation: one label a row, K classes.
        clusters: how many there are, C; or the cluster of each client.
        moved: how many classes change their label in clusters 1, 2, ...: exactly so many, 2 .. K, chosen at
            random for each cluster; 0 for none. By default all permutations are equally likely.
        seed: of the permutations and of the clusters. Classes draw in the order of their first rows in the
            pool, so renaming the labels renames the result.

    Returns:
        The federation; truth: "cluster", int32 [N]; "permutation", int32 [C, K], what each label becomes.

    Raises:
        TypeError: not a federation, counts that are not whole numbers.
        ValueError: rows without one label each, more clusters than clients or than there are permutations, a
            `moved` that no permutation has.

    Reference: Sattler, Müller, Samek, "Clustered federated learning: model-agnostic distributed multitask
        optimization under privacy constraints", IEEE TNNLS 2021 (experiments with groups of clients that
        permute the labels, each group in its own way).

    Departures: the first cluster keeps its labels, so that a single cluster changes nothing.
    """
    order = classes(federation)
    time = times(federation.truth, "permutation")
    if clusters is None:
        raise TypeError(
            "clusters must be a whole number, got None: say how many share a permutation, such as 2"
        )
    group = groups(federation.num_clients, clusters, seed=seed, name="permute", time=time)
    drawn = _permutations(generator(seed, "permute", time), len(order), group.count, _moved(moved, len(order)))
    table = np.empty((group.count, len(order)), np.int32)
    table[:, order] = order[drawn]
    truth = {"permutation": table, **group.truth}
    return transformed(federation, Transform(group.argument(table), relabelled), truth=truth)


def _moved(moved: int | None, many: int) -> int | None:
    if moved is None:
        return None
    remedy = "it is how many classes change their label"
    moved = positive_int("moved", moved, least=0, remedy=remedy)
    require(
        moved == 0 or 2 <= moved <= many,
        f"moved must be 0 or 2..{many}, got {moved}: {remedy}, and no permutation moves just one",
    )
    return moved


def _permutations(rng: np.random.Generator, many: int, count: int, moved: int | None) -> np.ndarray:
    """The identity and `count` - 1 other permutations of 0..many-1, all different, int [count, many]."""
    identity = np.arange(many)
    if moved == 0:
        return np.tile(identity, (count, 1))
    there = math.factorial(many) if moved is None else 1 + math.comb(many, moved) * _derangements(moved)
    require(
        count <= there,
        f"clusters must be <= {there}, got {count}: {many} classes have no more permutations"
        + ("" if moved is None else f" that move {moved} of them"),
    )
    drawn = {tuple(identity.tolist()): None}
    while len(drawn) < count:
        if moved is None:
            permutation = rng.permutation(many)
        else:
            chosen = rng.permutation(many)[:moved]
            permutation = identity.copy()
            permutation[chosen] = rng.permutation(chosen)
            if (permutation != identity).sum() != moved:
                continue
        drawn[tuple(permutation.tolist())] = None
    return np.array(list(drawn))


def _derangements(many: int) -> int:
    """Permutations of so many things that leave none in its place."""
    before, count = 0, 1
    for i in range(1, many + 1):
        before, count = count, (i - 1) * (before + count)
    return count

"""Swapped labels: each client exchanges the names of some pairs of classes."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import require, scalar
from fedjax_het.federation import Federation, Transform
from fedjax_het.heterogeneity.concept.order import classes
from fedjax_het.heterogeneity.concept.relabel import relabelled
from fedjax_het.heterogeneity.groups import Clusters, groups
from fedjax_het.split import generator
from fedjax_het.transforms import times, transformed

__all__ = ["swap"]


def swap(federation: Federation, *, rate: float, clusters: Clusters | None = None, seed: int = 0) -> Federation:
    """Swap labels in pairs: a client splits the classes into pairs and exchanges each with probability `rate`.

    The K // 2 pairs of a client are disjoint and random; with K odd one class at random stays alone. Pairs
    that are swapped at some rate are swapped at every higher one. Two clients of different pairs give a label
    the same name with probability (1 - r)^2 + r^2 / (K - 1), K even: they differ most at r = (K - 1) / K, and
    a little less where every pair is swapped.

    Args:
        federation: one label a row, K classes.
        rate: 0 leaves all labels, 1 swaps every pair.
        clusters: latent clusters whose clients swap the same pairs.
        seed: of the pairs, of which are swapped and of the clusters. Classes draw in the order of their first
            rows in the pool, so renaming the labels renames the result.

    Returns:
        The federation; truth: "permutation", int32 [N, K], what each label becomes; "cluster", int32 [N], if
        there are clusters.

    Raises:
        TypeError: not a federation, a rate that is no number.
        ValueError: rows without one label each, a rate outside [0, 1], more clusters than clients.

    Reference: Sattler, Müller, Samek, "Clustered federated learning: model-agnostic distributed multitask
        optimization under privacy constraints", IEEE TNNLS 2021 (experiments with groups of clients that
        permute the labels; pairs do so by degrees).
    """
    order = classes(federation)
    rate = scalar("rate", rate, least=0, remedy="it is the share of pairs that are swapped")
    require(rate <= 1, f"rate must be <= 1, got {rate}: it is the share of pairs that are swapped")
    time = times(federation.truth, "permutation")
    group = groups(federation.num_clients, clusters, seed=seed, name="swap", time=time)
    rng = generator(seed, "swap", time)
    half = len(order) // 2
    shuffled = rng.random((group.count, len(order))).argsort(axis=1)
    one, other = shuffled[:, :half], shuffled[:, half : 2 * half]
    swapped = rng.random((group.count, half)) < rate
    drawn = np.tile(np.arange(len(order)), (group.count, 1))
    np.put_along_axis(drawn, one, np.where(swapped, other, one), axis=1)
    np.put_along_axis(drawn, other, np.where(swapped, one, other), axis=1)
    table = np.empty((group.count, len(order)), np.int32)
    table[:, order] = order[drawn]
    truth = {"permutation": group.each(table), **group.truth}
    return transformed(federation, Transform(group.argument(table), relabelled), truth=truth)

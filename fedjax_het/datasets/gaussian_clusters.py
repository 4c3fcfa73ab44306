"""Clusters of clients whose classes lie in different places."""

from __future__ import annotations

import numpy as np

from fedjax_het.assembly import assemble
from fedjax_het.check import positive_int, require, scalar
from fedjax_het.datasets.regression_clients import fresh_rows
from fedjax_het.federation import Federation
from fedjax_het.pool import pool
from fedjax_het.split import generator

__all__ = ["gaussian_clusters"]


def gaussian_clusters(
    *,
    clients: int = 20,
    clusters: int = 2,
    rows: int = 50,
    classes: int = 2,
    features: int = 2,
    classes_apart: float = 4.0,
    clusters_apart: float = 4.0,
    noise: float = 1.0,
    test_rows: int = 50,
    seed: int = 0,
) -> Federation:
    """Labels y ~ U{0..K-1}; x given y on a client of cluster c is N(mean[c, y], noise^2 I).

    mean[c, y] = a_y + b_cy,  a and b normal, centred over the classes and over the clusters, and scaled so that
        |a_y - a_y'|    has root mean square `classes_apart` over pairs of classes
        |b_cy - b_c'y|  has root mean square `clusters_apart` over pairs of clusters and all classes

    Both distances are exact for every seed. clusters_apart = 0 is IID data. classes_apart = 0 leaves nothing
    that the clusters have in common, so that a rule for one says nothing about another; between the two, one
    model for all is the worse the farther apart the clusters are. A pair of classes at distance D is told
    apart with an error of Phi(-D / (2 noise)) by the best rule.

    The clusters are blocks of consecutive clients, whose sizes differ by at most one client.

    Args:
        clients: N, at least `clusters`.
        clusters: how many there are.
        rows: training rows of each client.
        classes: K, at least 2.
        features: d.
        classes_apart: distance of the classes that all clusters share, >= 0.
        clusters_apart: distance of a class in one cluster from the same class in another, >= 0; without
            effect if there is one cluster.
        noise: standard deviation of the features about their mean, >= 0.
        test_rows: fresh rows of each client to test on, >= 0.
        seed: whole number >= 0; means, training rows and test rows are separate draws.

    Returns:
        N clients on a pool of x float [M, d], y int32 [M]. truth: "cluster" int32 [N], "means" [clusters, K,
        d] and "noise".

    Raises:
        TypeError: counts that are not whole numbers, distances that are not numbers.
        ValueError: fewer clients than clusters, fewer than two classes, a negative distance.

    Reference: none; Gaussian classes with a random effect of the cluster.
    """
    clients = positive_int("clients", clients, remedy="say how many there are, such as 20")
    clusters = positive_int("clusters", clusters, remedy="1 makes the clients alike")
    rows = positive_int("rows", rows, remedy="say how many each client trains on, such as 50")
    classes = positive_int("classes", classes, least=2, remedy="there must be something to tell apart")
    features = positive_int("features", features, remedy="it is the dimension of x, such as 2")
    test_rows = positive_int("test_rows", test_rows, least=0, remedy="0 draws none")
    classes_apart = scalar("classes_apart", classes_apart, least=0, remedy="it is a distance")
    clusters_apart = scalar("clusters_apart", clusters_apart, least=0, remedy="it is a distance")
    noise = scalar("noise", noise, least=0, remedy="it is a standard deviation")
    require(
        clusters <= clients,
        f"clusters must be <= {clients}, got {clusters}: every cluster needs a client; take more clients",
    )
    rng = generator(seed, "gaussian_clusters means")
    shared = _apart(rng.standard_normal((classes, 1, features)), classes_apart)[:, 0]
    means = shared + _apart(rng.standard_normal((clusters, classes, features)), clusters_apart)
    cluster = np.arange(clients) * clusters // clients
    x, y = [], []
    for which, count in enumerate((rows, test_rows)):
        rng = generator(seed, "gaussian_clusters", which)
        label = rng.integers(0, classes, (clients, count))
        drawn = means[cluster[:, None], label] + noise * rng.standard_normal((clients, count, features))
        x.append(drawn.reshape(-1, features))
        y.append(label.ravel())
    source = pool(np.concatenate(x), np.concatenate(y), num_classes=classes, name="gaussian_clusters")
    train, test = fresh_rows(clients, rows, test_rows)
    truth = {"cluster": cluster.astype(np.int32), "means": means, "noise": noise}
    return assemble(source, train, None, test, truth=truth)


def _apart(points: np.ndarray, distance: float) -> np.ndarray:
    """Points [G, P, d] centred over G and scaled: pairs of G, over all P, are `distance` apart (rms)."""
    centred = points - points.mean(0)
    groups, places = points.shape[:2]
    if groups == 1:
        return centred
    # The mean square over the pairs of G points is 2 / (G - 1) times their squares about the centre.
    rms = np.sqrt(2 * np.sum(centred**2) / ((groups - 1) * places))
    return centred * (distance / rms)

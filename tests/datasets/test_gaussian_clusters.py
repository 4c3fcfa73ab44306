"""Gaussian clusters: exact distances of the means, moments of the rows, seeds."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.datasets import gaussian_clusters

quick = settings(max_examples=25, derandomize=True, deadline=None)


def rms(points):
    """Root mean square distance of pairs of points [G, d]."""
    squares = np.sum((points[:, None] - points[None]) ** 2, axis=-1)
    return np.sqrt(squares[np.triu_indices(len(points), 1)].mean())


@quick
@given(
    clusters=st.integers(2, 5),
    classes=st.integers(2, 5),
    features=st.integers(1, 6),
    near=st.floats(0, 10),
    far=st.floats(0, 10),
    seed=st.integers(0, 1000),
)
def test_distances_are_exact(clusters, classes, features, near, far, seed):
    federation = gaussian_clusters(
        clients=5,
        clusters=clusters,
        classes=classes,
        features=features,
        classes_apart=near,
        clusters_apart=far,
        rows=1,
        test_rows=0,
        seed=seed,
    )
    means = np.asarray(federation.truth["means"], float)
    assert means.shape == (clusters, classes, features)
    np.testing.assert_allclose(rms(means.mean(0)), near, rtol=1e-5, atol=1e-5)
    within = np.sqrt(np.mean([rms(means[:, y]) ** 2 for y in range(classes)]))
    np.testing.assert_allclose(within, far, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("split", ["train", "test"])
def test_rows_are_normal_about_their_mean(split):
    federation = gaussian_clusters(
        clients=6, clusters=3, rows=900, test_rows=900, classes=3, features=4, noise=0.7, seed=3
    )
    cluster, means = (np.asarray(federation.truth[name]) for name in ("cluster", "means"))
    assert cluster.tolist() == [0, 0, 1, 1, 2, 2]
    index = np.asarray(federation.rows(split).index).reshape(6, 900)
    x, y = np.asarray(federation.x, float)[index], np.asarray(federation.y)[index]
    assert abs(np.bincount(y.ravel()) - 1800).max() < 5 * np.sqrt(5400 * 2 / 9)
    for k in range(6):
        for label in range(3):
            own = x[k][y[k] == label] - means[cluster[k], label]
            assert abs(own.mean(0)).max() < 5 * 0.7 / np.sqrt(len(own))
            covariance = own.T @ own / len(own)
            assert abs(covariance - 0.49 * np.eye(4)).max() < 5 * 0.49 * np.sqrt(2 / len(own))


def test_clusters_at_no_distance_are_alike():
    means = np.asarray(gaussian_clusters(clusters=4, clusters_apart=0).truth["means"])
    assert np.ptp(means, axis=0).max() == 0
    one = np.asarray(gaussian_clusters(clusters=1, clusters_apart=9).truth["means"])
    np.testing.assert_allclose(rms(one[0]), 4, rtol=1e-6)


def test_classes_at_no_distance_share_nothing():
    means = np.asarray(gaussian_clusters(clusters=4, classes_apart=0).truth["means"])
    np.testing.assert_allclose(means.mean(0), 0, atol=1e-6)
    assert np.ptp(means, axis=1).max() > 0


def test_seeds():
    same = [gaussian_clusters(seed=2), gaussian_clusters(seed=2)]
    for a, b in zip(*map(jax.tree.leaves, same), strict=True):
        np.testing.assert_array_equal(a, b)
    other = gaussian_clusters(seed=3)
    assert not np.array_equal(other.truth["means"], same[0].truth["means"])
    np.testing.assert_array_equal(gaussian_clusters(seed=2, test_rows=0).x, same[0].x[: 20 * 50])
    doubled = gaussian_clusters(seed=2, classes_apart=8.0, clusters_apart=8.0, noise=2.0)
    np.testing.assert_allclose(doubled.x, 2 * same[0].x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"clusters": 21}, ValueError, "clusters must be <= 20, got 21: every cluster needs a client"),
        ({"classes": 1}, ValueError, "classes must be >= 2, got 1: there must be something to tell apart"),
        ({"classes_apart": -1}, ValueError, "classes_apart must be >= 0, got -1: it is a distance"),
        ({"clusters_apart": "far"}, TypeError, "clusters_apart must be a number, got 'far'"),
        ({"noise": -1}, ValueError, "noise must be >= 0, got -1: it is a standard deviation"),
        ({"rows": 0}, ValueError, "rows must be >= 1, got 0: say how many each client trains on"),
        ({"features": 1.5}, TypeError, "features must be a whole number, got 1.5"),
    ],
)
def test_refusals(changes, error, message):
    with pytest.raises(error, match=message):
        gaussian_clusters(**changes)

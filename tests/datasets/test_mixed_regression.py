"""Linear regressions of clusters and of clients: truths against least squares, closed-form errors, seeds."""

import jax
import numpy as np
import pytest

from fedjax_het.datasets import local_global_regression, mixed_regression


def arrays(federation, split):
    """x [N, n, d] and y [N, n] of clients that all hold as many rows."""
    rows = federation.rows(split)
    index = np.asarray(rows.index)[: int(rows.size.sum())].reshape(federation.num_clients, -1)
    return np.asarray(federation.x, float)[index], np.asarray(federation.y, float)[index]


def fitted(x, y):
    return np.linalg.solve(x.T @ x, x.T @ y)


def test_least_squares_finds_each_cluster():
    federation = mixed_regression(clients=21, rows=15, clusters=3, features=20, noise=0.3, seed=4)
    cluster, models = (np.asarray(federation.truth[name]) for name in ("cluster", "parameters"))
    assert np.bincount(cluster).tolist() == [7, 7, 7]
    assert models.shape == (3, 20)
    assert set(np.unique(models)) == {0, 1}
    x, y = arrays(federation, "train")
    for k in range(3):
        own, target = x[cluster == k].reshape(-1, 20), y[cluster == k].ravel()
        error = np.sum((fitted(own, target) - models[k]) ** 2)
        spectrum = 0.3**2 / np.linalg.eigvalsh(own.T @ own)
        assert abs(error - spectrum.sum()) < 5 * np.sqrt(2 * np.sum(spectrum**2))


@pytest.mark.parametrize("split", ["train", "test"])
def test_noise_and_features_of_both_splits(split):
    federation = mixed_regression(clients=10, rows=200, test_rows=300, features=8, noise=0.5, seed=1)
    x, y = arrays(federation, split)
    models = np.asarray(federation.truth["parameters"], float)[np.asarray(federation.truth["cluster"])]
    residual = y - np.einsum("nrd,nd->nr", x, models)
    count = residual.size
    assert count == 10 * (200 if split == "train" else 300)
    assert abs(residual.mean()) < 5 * 0.5 / np.sqrt(count)
    assert abs(residual.std() - 0.5) < 5 * 0.5 / np.sqrt(2 * count)
    assert abs(x.mean()) < 5 / np.sqrt(x.size)
    assert abs(x.std() - 1) < 5 / np.sqrt(2 * x.size)


def test_radius_and_separation():
    plain = mixed_regression(clients=4, rows=1, clusters=4, features=500, radius=0.25, seed=0, test_rows=0)
    models = np.asarray(plain.truth["parameters"], float)
    assert set(np.unique(models)) == {0, 0.25}
    assert abs(np.mean(models > 0) - 0.5) < 5 * 0.5 / np.sqrt(models.size)
    gaps = np.linalg.norm(models[:, None] - models[None], axis=2)
    np.testing.assert_allclose(plain.truth["separation"], gaps[np.triu_indices(4, 1)].min(), rtol=1e-6)
    # The squared distance of two models is radius^2 times a Binomial(d, 1/2).
    assert abs(gaps[0, 1] ** 2 / 0.25**2 - 250) < 5 * np.sqrt(125)
    rescaled = mixed_regression(
        clients=4, rows=1, clusters=4, features=500, radius=0.25, seed=0, test_rows=0, rescaled=True
    )
    scaled = np.asarray(rescaled.truth["parameters"], float)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 0.25, rtol=1e-6)
    np.testing.assert_array_equal(scaled > 0, models > 0)
    alone = mixed_regression(clients=2, rows=1, clusters=1, features=3, test_rows=0)
    assert float(alone.truth["separation"]) == 0


def test_clusters_are_blocks():
    federation = mixed_regression(clients=7, clusters=3, rows=2, features=2, test_rows=0)
    cluster = np.asarray(federation.truth["cluster"])
    assert np.all(np.diff(cluster) >= 0)
    assert sorted(np.bincount(cluster)) == [2, 2, 3]
    assert int(federation.test.size.sum()) == 0


@pytest.mark.parametrize("make", [mixed_regression, local_global_regression])
def test_seeds(make):
    sizes = {"clients": 4, "rows": 5, "features": 6}
    same = [make(**sizes, test_rows=2, seed=3) for _ in range(2)]
    for a, b in zip(*map(jax.tree.leaves, same), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(make(**sizes, test_rows=2, seed=4).x, same[0].x)
    more = make(**sizes, test_rows=9, seed=3)
    for a, b in zip(arrays(more, "train"), arrays(same[0], "train")):
        np.testing.assert_array_equal(a, b)
    assert not set(arrays(more, "train")[1].ravel()) & set(arrays(more, "test")[1].ravel())


def test_local_models_lie_around_the_common_one():
    federation = local_global_regression(0.3, clients=200, rows=1, features=25, test_rows=0, seed=2)
    parameters, common = (np.asarray(federation.truth[name], float) for name in ("parameters", "common"))
    assert parameters.shape == (200, 25)
    assert 0 <= common.min() <= common.max() <= 1
    apart = parameters - common
    assert abs(apart.std() - 0.3) < 5 * 0.3 / np.sqrt(2 * apart.size)
    assert abs(apart.mean()) < 5 * 0.3 / np.sqrt(apart.size)


@pytest.mark.parametrize("rho", [0.02, 0.3])
def test_errors_of_local_and_global_models(rho):
    """The closed forms, on test rows drawn afresh; tolerances are five standard errors."""
    clients, rows, tested, d, noise = 50, 200, 400, 10, 1.2
    federation = local_global_regression(
        rho, clients=clients, rows=rows, features=d, noise=noise, test_rows=tested, seed=5
    )
    (x, y), (fresh, target) = arrays(federation, "train"), arrays(federation, "test")
    assert abs(x).max() <= 1
    assert abs(x.var() - 1 / 3) < 5 * np.sqrt(4 / 45 / x.size)
    one = fitted(x.reshape(-1, d), y.ravel())
    each = np.stack([fitted(*pair) for pair in zip(x, y)])
    truth = np.asarray(federation.truth["parameters"], float)
    excess = [np.sum((models - truth) ** 2, axis=1).mean() / 3 for models in (np.tile(one, (clients, 1)), each)]
    apart, shared = rho**2 * d / 3 * (1 - 1 / clients), noise**2 * d / (clients * rows)
    own = noise**2 * d / (rows - d - 1)
    # Sums of squares of d normal errors, drawn once for each client, or once for all of them (`shared`).
    assert abs(excess[0] - apart - shared) < 5 * np.sqrt(2 / d) * (apart / np.sqrt(clients) + shared)
    assert abs(excess[1] - own) < 5 * np.sqrt(2 / d) * own / np.sqrt(clients)
    measured = []
    for models, value in zip((np.tile(one, (clients, 1)), each), excess):
        measured.append(np.mean((target - np.einsum("nrd,nd->nr", fresh, models)) ** 2))
        total = noise**2 + value
        assert abs(measured[-1] - total) < 5 * total * np.sqrt(2 / (clients * tested))
    assert (measured[0] < measured[1]) == (apart + shared < own)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mixed_regression(clients=3, clusters=4), ValueError, "clusters must be <= 3, got 4: every"),
        (lambda: mixed_regression(radius=-1), ValueError, "radius must be >= 0, got -1: it is the size"),
        (lambda: mixed_regression(noise="a"), TypeError, "noise must be a number, got 'a': it is a standard"),
        (lambda: mixed_regression(rows=0), ValueError, "rows must be >= 1, got 0: say how many each client"),
        (lambda: mixed_regression(test_rows=-1), ValueError, "test_rows must be >= 0, got -1: 0 draws none"),
        (lambda: mixed_regression(features=0), ValueError, "features must be >= 1, got 0: it is the dim"),
        (
            lambda: mixed_regression(clients=9, clusters=9, rows=1, features=1, rescaled=True),
            ValueError,
            "features must be large enough for models that are not zero, got 1: take more features",
        ),
        (lambda: local_global_regression(-0.1), ValueError, "rho must be >= 0, got -0.1: it is a standard"),
        (lambda: local_global_regression(clients=True), TypeError, "clients must be a whole number, got True"),
        (lambda: local_global_regression(seed=-1), ValueError, "seed must be >= 0, got -1"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()

"""Synthetic(alpha, beta) paper by paper: draw order, sizes, cuts, and FedDyn's three switches."""

import jax
import numpy as np
import pytest

from fedjax_het import datasets
from fedjax_het.datasets import synthetic, synthetic_feddyn, synthetic_hybrid, synthetic_li_iid

SPLITS = ("train", "valid", "test")


def held(federation):
    return sum(np.asarray(federation.rows(split).size[0]) for split in SPLITS)


def same(one, other):
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_array_equal(a, b)


def rows_of(federation):
    """(x, y) of each client, in the order in which they were drawn."""
    ends = np.cumsum(held(federation))
    return zip(np.split(np.asarray(federation.x), ends[:-1]), np.split(np.asarray(federation.y), ends[:-1]))


def test_pfedme_is_the_published_data():
    federation = datasets.synthetic_pfedme()
    size = held(federation)
    assert size[:5].tolist() == [9545, 855, 2180, 24380, 11685]
    assert (size.min(), size.max(), size.sum()) == (250, 25810, 205795)
    np.testing.assert_allclose(federation.x[0, :3], [-0.17788088, 2.02323045, -0.40719019], rtol=1e-6)
    assert np.bincount(federation.y).tolist() == [
        20440, 15477, 13612, 7703, 17542, 21572, 9409, 48331, 32221, 19488,
    ]  # fmt: skip
    assert abs(int(federation.test.size.sum()) - 205795 / 4) <= 50


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("synthetic_fedprox", {"clients": 30}),
        ("synthetic_li", {"clients": 100}),
        ("synthetic_qffl", {"clients": 100, "valid": 0.1}),
    ],
)
def test_settings_of_the_papers(name, settings):
    federation = getattr(datasets, name)(0.5, 0.5, seed=4)
    same(federation, synthetic(0.5, 0.5, seed=4, **settings))


def labels_follow(federation):
    """Whether y is the argmax of each client's own model, up to ties within float32."""
    kernel, bias = (np.asarray(federation.truth[name], float) for name in ("kernel", "bias"))
    wrong = 0
    for k, (x, y) in enumerate(rows_of(federation)):
        scores = x.astype(float) @ kernel[k] + bias[k]
        wrong += np.sum(scores.max(1, initial=-np.inf) - scores[np.arange(len(y)), y] > 1e-4)
    return wrong == 0


@pytest.mark.parametrize(
    ("name", "clients", "sigma", "shares"),
    [
        ("synthetic_fedprox_iid", 30, 2, (0.9, 0, 0.1)),
        ("synthetic_li_iid", 100, 2, (0.9, 0, 0.1)),
        ("synthetic_qffl_iid", 100, 1, (0.8, 0.1, 0.1)),
        ("synthetic_hybrid", 100, 1, (0.8, 0.1, 0.1)),
    ],
)
def test_sizes_and_cuts(name, clients, sigma, shares):
    federation = getattr(datasets, name)(seed=11)
    drawn = np.random.RandomState(11).lognormal(4, sigma, clients)
    np.testing.assert_array_equal(held(federation), np.floor(drawn).astype(int) + 50)
    for split, share in zip(SPLITS, shares):
        size = np.asarray(federation.rows(split).size[0])
        assert np.all(abs(size - share * held(federation)) <= 1)
    assert labels_follow(federation)


@pytest.mark.parametrize("name", ["synthetic_fedprox_iid", "synthetic_li_iid", "synthetic_qffl_iid"])
def test_iid_sets_have_one_model_and_centred_features(name):
    federation = getattr(datasets, name)(seed=2)
    assert np.ptp(np.asarray(federation.truth["kernel"]), axis=0).max() == 0
    assert np.ptp(np.asarray(federation.truth["bias"]), axis=0).max() == 0
    x = np.asarray(federation.x, float)
    scale = np.arange(1, 61) ** -0.6
    assert abs(x.mean(0) / scale).max() < 5 / np.sqrt(len(x))
    np.testing.assert_allclose(x.std(0) / scale, 1, atol=5 / np.sqrt(2 * len(x)))


def test_fedprox_iid_follows_its_own_script():
    rng = np.random.RandomState(3)
    sizes = rng.lognormal(4, 2, 30).astype(int) + 50
    kernel, bias = rng.normal(0, 1, (60, 10)), rng.normal(0, 1, 10)
    first = rng.multivariate_normal(np.zeros(60), np.diag(np.arange(1, 61) ** -1.2), sizes[0])
    federation = datasets.synthetic_fedprox_iid(seed=3)
    np.testing.assert_array_equal(federation.x[: sizes[0]], first.astype(federation.x.dtype))
    np.testing.assert_array_equal(federation.y[: sizes[0]], np.argmax(first @ kernel + bias, axis=1))


def test_li_moves_features_along_ones():
    federation = synthetic_li_iid(2.0, seed=0)
    mean = np.asarray(federation.truth["feature_mean"])
    assert np.ptp(mean, axis=1).max() == 0
    assert abs(mean[:, 0].std() - 2) < 5 * 2 / np.sqrt(2 * 100)
    assert np.ptp(np.asarray(federation.truth["kernel"]), axis=0).max() == 0
    for k, (x, _) in enumerate(rows_of(federation)):
        apart = (x.astype(float).mean(0) - mean[k]) / np.arange(1, 61) ** -0.6
        assert abs(apart).max() < 6 / np.sqrt(len(x))
    assert labels_follow(federation)


def test_half_of_hybrid_is_iid():
    federation = synthetic_hybrid(seed=1)
    shared = np.asarray(federation.truth["shared"])
    assert shared.tolist() == [True] * 50 + [False] * 50
    kernel = np.asarray(federation.truth["kernel"])
    assert np.ptp(kernel[:50], axis=0).max() == 0
    assert np.ptp(kernel[50:], axis=0).min() > 0
    centre = np.asarray(federation.truth["feature_mean"])
    assert not centre[:50].any()
    # The others' centres vary by N(B_k, 1) within a client and by N(0, 1) between clients.
    assert abs(centre[50:].std(1).mean() - 1) < 5 / np.sqrt(2 * 60 * 50)


def test_hybrid_follows_its_script():
    rng = np.random.RandomState(8)
    sizes = rng.lognormal(4, 1, 100).astype(int) + 50
    _, context = rng.normal(0, 1, 100), rng.normal(0, 1, 100)
    means = [rng.normal(context[k], 1, 60) for k in range(50, 100)]
    kernel = rng.normal(0, 1, (60, 10))
    federation = synthetic_hybrid(seed=8)
    np.testing.assert_allclose(federation.truth["feature_mean"][50:], means, rtol=1e-6)
    np.testing.assert_allclose(federation.truth["kernel"][0], kernel, rtol=1e-6)
    np.testing.assert_array_equal(held(federation), sizes)


def test_feddyn_tests_on_what_it_trains_on():
    federation = synthetic_feddyn(None, None)
    assert held(federation).tolist() == [400] * 20
    same(federation.train, federation.test)
    assert federation.spec.pool.feature_shape == (30,)
    assert federation.spec.pool.num_classes == 5


@pytest.mark.parametrize("alpha", [None, 0.0, 3.0])
@pytest.mark.parametrize("beta", [None, 0.0, 3.0])
def test_feddyn_switches_are_separate(alpha, beta):
    federation = synthetic_feddyn(alpha, beta, clients=60, average=5, seed=6)
    kernel, mean = (np.asarray(federation.truth[name]) for name in ("kernel", "feature_mean"))
    for value, spread in ((kernel, alpha), (mean, beta)):
        per_client = value.reshape(60, -1)
        if spread is None:
            assert np.ptp(per_client, axis=0).max() == 0
        else:
            width = np.sqrt(spread**2 + 1 / per_client.shape[1])
            assert abs(per_client.mean(1).std() / width - 1) < 5 / np.sqrt(2 * 60)
            assert abs(per_client.std(1).mean() - 1) < 5 / np.sqrt(2 * per_client.size)
    if beta is None:
        assert not mean.any()
    y = np.asarray(federation.y)
    for k, rows in enumerate(np.split(np.asarray(federation.x, float), 60)):
        scores = rows @ kernel[k] + np.asarray(federation.truth["bias"])[k]
        np.testing.assert_array_equal(y[5 * k : 5 * k + 5], scores.argmax(1))


def test_feddyn_sizes():
    size = np.asarray(synthetic_feddyn(theta=1.5, clients=400, average=90, features=2).train.size[0])
    logs = np.log(size + 0.5)
    assert abs(logs.mean() - np.log(90)) < 5 * 1.5 / np.sqrt(400)
    assert abs(logs.std() - 1.5) < 5 * 1.5 / np.sqrt(800)


def test_feddyn_follows_its_code():
    rng = np.random.RandomState(2)
    rng.lognormal(np.log(7.001), 0, 3)
    centre, context = rng.normal(0, 2, 3), rng.normal(0, 0.5, 3)
    means = np.stack([rng.normal(context[k], 1, 4) for k in range(3)])
    rng.normal(centre[0], 1, (4, 2)), rng.normal(centre[0], 1, (1, 2))
    kernel, bias = rng.normal(centre[0], 1, (4, 2)), rng.normal(centre[0], 1, (1, 2))
    first = rng.multivariate_normal(means[0], np.diag(np.arange(1, 5) ** -1.2), 7)
    federation = synthetic_feddyn(2, 0.5, clients=3, average=7, features=4, classes=2, seed=2)
    np.testing.assert_array_equal(federation.x[:7], first.astype(federation.x.dtype))
    np.testing.assert_array_equal(federation.y[:7], np.argmax(first @ kernel + bias, axis=1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: synthetic_feddyn(-1), ValueError, "alpha must be >= 0, got -1: it is a standard deviation"),
        (lambda: synthetic_feddyn(beta="1"), TypeError, "beta must be a number, got '1'"),
        (lambda: synthetic_feddyn(theta=-0.1), ValueError, "theta must be >= 0, got -0.1: it spreads the"),
        (lambda: synthetic_feddyn(average=0.5), ValueError, "average must be >= 1, got 0.5: it is the median"),
        (lambda: synthetic_feddyn(clients=0), ValueError, "clients must be >= 1, got 0: say how many"),
        (lambda: synthetic_feddyn(features=0), ValueError, "features must be >= 1, got 0: it is the dim"),
        (lambda: synthetic_feddyn(classes=1.5), TypeError, "classes must be a whole number, got 1.5"),
        (lambda: synthetic_feddyn(seed=-1), ValueError, "seed must be >= 0, got -1: the published"),
        (lambda: synthetic_feddyn(theta=40, clients=1), ValueError, "theta must be small enough for less"),
        (
            lambda: synthetic_feddyn(theta=9, clients=1, average=1, seed=2),
            ValueError,
            "sizes must add up to at least 1",
        ),
        (lambda: synthetic_li_iid(-1), ValueError, "beta must be >= 0, got -1: it is a standard deviation"),
        (lambda: synthetic_hybrid(seed=2**32), ValueError, "seed must be < 2\\*\\*32, got 4294967296"),
        (lambda: datasets.synthetic_pfedme(test=1), ValueError, "test must be >= 0 and < 1, got 1"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()

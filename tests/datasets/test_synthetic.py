"""Synthetic(alpha, beta): the published data to the last digit, its settings, refusals."""

import jax
import numpy as np
import pytest

from fedjax_het.datasets import synthetic


def held(federation):
    return sum(np.asarray(federation.rows(split).size[0]) for split in ("train", "valid", "test"))


def test_published_checksums():
    federation = synthetic(0.5, 0.5, clients=100, multiplier=5, seed=0, test=0.25)
    size = held(federation)
    assert size[:5].tolist() == [9545, 855, 2180, 24380, 11685]
    assert (size.min(), size.max(), size.sum()) == (250, 25810, 205795)
    np.testing.assert_allclose(federation.x[0, :3], [-0.17788088, 2.02323045, -0.40719019], rtol=1e-6)
    assert np.bincount(federation.y).tolist() == [
        20440, 15477, 13612, 7703, 17542, 21572, 9409, 48331, 32221, 19488,
    ]  # fmt: skip
    assert abs(int(federation.test.size.sum()) - 205795 / 4) <= 50
    assert federation.spec.pool.name == "synthetic(0.5,0.5)"


def test_rows_are_those_of_multivariate_normal():
    rng = np.random.RandomState(3)
    rng.lognormal(4, 2, 2), rng.normal(0, 1, 2), rng.normal(0, 1, 2)
    mean = [rng.normal(0, 1, 5) for _ in range(2)]
    federation = synthetic(0, 0, clients=2, features=5, classes=3, seed=3, sizes=[4, 6])
    kernel, bias = rng.normal(0, 1, (5, 3)), rng.normal(0, 1, 3)
    rows = rng.multivariate_normal(mean[0], np.diag(np.arange(1, 6) ** -1.2), 4)
    np.testing.assert_array_equal(federation.x[:4], rows.astype(federation.x.dtype))
    np.testing.assert_array_equal(federation.y[:4], np.argmax(rows @ kernel + bias, axis=1))
    np.testing.assert_allclose(federation.truth["kernel"][0], kernel, rtol=1e-6)


def test_seeds_and_sizes():
    same = [synthetic(clients=3, seed=5, sizes=[7, 0, 9]) for _ in range(2)]
    for a, b in zip(*map(jax.tree.leaves, same)):
        np.testing.assert_array_equal(a, b)
    assert held(same[0]).tolist() == [7, 0, 9]
    other = synthetic(clients=3, seed=6, sizes=[7, 0, 9])
    assert not np.array_equal(other.x, same[0].x)
    np.testing.assert_array_equal(
        held(synthetic(clients=3, seed=5)) * 2, held(synthetic(clients=3, seed=5, multiplier=2))
    )


def test_iid_has_one_model_and_one_distribution():
    federation = synthetic(1, 1, clients=4, sizes=[50] * 4, iid=True)
    assert np.ptp(np.asarray(federation.truth["kernel"]), axis=0).max() == 0
    assert not np.any(federation.truth["feature_mean"])
    spread = synthetic(1, 5, clients=4, sizes=[50] * 4)
    means = [np.asarray(f.x).reshape(4, 50, 60).mean(1) for f in (federation, spread)]
    assert means[1].std(0).mean() > 10 * means[0].std(0).mean()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": -1}, ValueError, "alpha must be >= 0, got -1: it is a standard deviation"),
        ({"beta": float("nan")}, ValueError, "beta must be finite, got nan: it is a standard deviation"),
        ({"alpha": [1, 1]}, TypeError, "alpha must be one number, got \\[1, 1\\]: it is"),
        ({"clients": 0}, ValueError, "clients must be >= 1, got 0: say how many"),
        ({"features": 0}, ValueError, "features must be >= 1, got 0: it is the dimension"),
        ({"classes": "2"}, TypeError, "classes must be a whole number, got '2': it is the number"),
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1: the published generator"),
        ({"sizes": 3}, TypeError, "sizes must be a sequence of whole numbers, got 3: pass one size"),
        ({"clients": 1, "sizes": [-3]}, ValueError, "sizes must be >= 0, got -3: pass one size a client"),
        ({"sizes": [1] * 99}, ValueError, "sizes must list 30 clients .* got list of length 99: pass"),
        ({"seed": 2**32}, ValueError, "seed must be < 2\\*\\*32, got 4294967296"),
        ({"multiplier": 2.5}, TypeError, "multiplier must be a whole number, got 2.5: 1 leaves"),
        ({"clients": 2, "sizes": [3]}, ValueError, "sizes must list 2 clients that hold rows, got \\[3\\]"),
        ({"clients": 1, "sizes": [3], "test": 1}, ValueError, "test must be >= 0 and < 1, got 1"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        synthetic(**arguments)

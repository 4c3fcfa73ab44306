"""FedEM's mixture: published draws, labels against the components, proportions."""

import math

import jax
import numpy as np
import pytest

from fedjax_het.datasets import mixture


def small(**changes):
    settings = {"clients": 40, "components": 3, "features": 12, "test_rows": 60, "seed": 7}
    return mixture(**(settings | changes))


def scores(federation):
    """<x, theta_z> of every row."""
    rule = np.asarray(federation.truth["components"], float)[np.asarray(federation.truth["component"])]
    return np.sum(np.asarray(federation.x, float) * rule, axis=1)


def test_draws_follow_the_published_order():
    rng = np.random.RandomState(12345)
    sizes = np.minimum(rng.lognormal(4, 2, 5).astype(int) + 50, 1000)
    weights = np.stack([rng.dirichlet([0.4] * 3) for _ in range(5)])
    theta = rng.uniform(-1, 1, (3, 150))
    counts = rng.multinomial(sizes[0], weights[0])
    drawn = rng.uniform(-1, 1, (sizes[0], 150))
    noise = [rng.normal(size=count, scale=0.1) for count in counts]
    z = np.repeat(np.arange(3), counts)
    order = np.arange(sizes[0])
    rng.shuffle(order)
    federation = mixture(clients=5, test_rows=10)
    np.testing.assert_array_equal(federation.train.size[0], sizes)
    np.testing.assert_allclose(federation.truth["mixture"], weights, rtol=1e-6)
    np.testing.assert_allclose(federation.truth["components"], theta, rtol=1e-6)
    np.testing.assert_array_equal(federation.x[: sizes[0]], drawn[order].astype(federation.x.dtype))
    label = np.sum(drawn * theta[z], axis=1) + np.concatenate(noise) > 0
    np.testing.assert_array_equal(federation.y[: sizes[0]], label[order])
    np.testing.assert_array_equal(federation.truth["component"][: sizes[0]], z[order])


def test_sizes_and_splits():
    federation = small(clients=400, features=1)
    size = np.asarray(federation.train.size[0])
    assert (size.min(), size.max()) == (50, 1000)
    # P(floor(lognormal(4, 2)) + 50 >= 1000) = P(normal > (log 950 - 4) / 2)
    share = math.erfc((math.log(950) - 4) / 2 / math.sqrt(2)) / 2
    assert abs(np.mean(size == 1000) - share) < 5 * np.sqrt(share / 400)
    assert np.all(np.asarray(federation.test.size[0]) == 60)
    train = np.asarray(federation.train.index)
    assert not set(train) & set(np.asarray(federation.test.index))


def test_without_noise_every_label_is_its_components():
    federation = small(noise=0)
    margin = scores(federation)
    clear = abs(margin) > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(np.asarray(federation.y)[clear], margin[clear] > 0)


def test_noise_flips_labels_as_often_as_it_should():
    federation = small(noise=0.8)
    margin = scores(federation)
    flipped = np.asarray(federation.y) != (margin > 0)
    chance = np.array([math.erfc(abs(m) / 0.8 / math.sqrt(2)) / 2 for m in margin])
    assert abs(flipped.sum() - chance.sum()) < 5 * np.sqrt(np.sum(chance * (1 - chance)))
    assert flipped.mean() > 0.05


@pytest.mark.parametrize("split", ["train", "test"])
def test_components_come_in_the_clients_proportions(split):
    federation = small(test_rows=400)
    rows = federation.rows(split)
    z = np.asarray(federation.truth["component"])[np.asarray(rows.index)]
    size = np.asarray(rows.size[0])
    client = np.repeat(np.arange(40), size)
    counts = np.zeros((40, 3))
    np.add.at(counts, (client, z), 1)
    weights = np.asarray(federation.truth["mixture"], float)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    error = np.sqrt(size[:, None] * weights * (1 - weights))
    assert np.all(abs(counts - size[:, None] * weights) < 5 * error + 1)


def test_alpha_spreads_the_proportions():
    # The variance of one of M proportions is (M - 1) / (M^2 (M alpha + 1)).
    for alpha in (0.1, 10.0):
        weights = np.asarray(mixture(clients=2000, features=1, test_rows=0, alpha=alpha).truth["mixture"])
        expected = 2 / (9 * (3 * alpha + 1))
        assert abs(weights.var() / expected - 1) < 5 * np.sqrt(4 / 2000)


def test_as_published_labels_overlap():
    sound, published = small(noise=0), small(noise=0, as_published=True)
    np.testing.assert_array_equal(sound.x, published.x)
    z = np.asarray(published.truth["component"])
    assert np.all(np.asarray(published.y)[z < 0] == 0)
    assert np.asarray(sound.truth["component"]).min() == 0
    margin = scores(published)
    clear = (z >= 0) & (abs(margin) > 1e-5)
    np.testing.assert_array_equal(np.asarray(published.y)[clear], margin[clear] > 0)
    # Rows beyond the largest component's count are left over.
    first = int(published.train.size[0, 0])
    counts = np.bincount(np.asarray(sound.truth["component"])[:first], minlength=3)
    assert np.sum(z[:first] < 0) == first - counts.max()
    assert np.sum(z[:first] == 2) == counts[2]


def test_a_quarter_is_unlabelled_at_the_published_settings():
    federation = mixture(features=1, as_published=True)
    assert abs(np.mean(np.asarray(federation.truth["component"]) < 0) - 0.25) < 0.01


def test_features_are_uniform_everywhere():
    x = np.asarray(small().x, float)
    assert abs(x).max() <= 1
    assert abs(x.mean()) < 5 / np.sqrt(3 * x.size)
    assert abs(x.var() - 1 / 3) < 5 * np.sqrt(4 / 45 / x.size)


def test_seeds():
    same = [small(), small()]
    for a, b in zip(*map(jax.tree.leaves, same), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(small(seed=8).truth["mixture"], same[0].truth["mixture"])
    np.testing.assert_array_equal(small(test_rows=0).truth["components"], same[0].truth["components"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"alpha": 0}, ValueError, "alpha must be > 0.*, got 0: small values make the clients differ"),
        ({"alpha": 1e-6}, ValueError, "alpha must be large enough for proportions that are numbers, got 1e-06"),
        ({"noise": -1}, ValueError, "noise must be >= 0, got -1: it is a standard deviation"),
        ({"components": 0}, ValueError, "components must be >= 1, got 0: say how many rules"),
        ({"clients": 2.0}, TypeError, "clients must be a whole number, got 2.0: say how many"),
        ({"test_rows": -1}, ValueError, "test_rows must be >= 0, got -1: 0 draws none"),
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1: the published generator"),
    ],
)
def test_refusals(changes, error, message):
    with pytest.raises(error, match=message):
        small(**changes)

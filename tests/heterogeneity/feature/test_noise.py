"""Noise: whose it is, how much of it, and what it is drawn from."""

import numpy as np
import pytest
from scipy import stats
from taking import of_client, pictures, rows_of, taken

import fedjax_het as fh
from fedjax_het.heterogeneity.feature import noise


def federation_of(shape=(50,), clients=3, rows=40, shared=False):
    x = pictures(np.random.default_rng(0), rows * clients, shape)
    parts = [np.arange(rows)] * clients if shared else np.split(np.arange(rows * clients), clients)
    return fh.from_index_lists(x, np.arange(rows * clients) % 2, parts, replacement=shared, test=0.0)


def added(federation, client, **arguments):
    return taken(noise(federation, **arguments), client)[0] - taken(federation, client)[0]


def test_is_normal_with_the_level_of_the_client():
    federation = federation_of()
    for client, level in enumerate([0.5, 1.0, 2.0]):
        values = added(federation, client, levels=[0.5, 1.0, 2.0]).ravel().astype(float)
        assert stats.kstest(values / level, "norm").pvalue > 1e-3
        assert abs(values.std() / level - 1) < 4 / np.sqrt(2 * len(values))


def test_belongs_to_the_client_and_the_row():
    federation = noise(federation_of(shared=True), levels=[1.0, 1.0, 1.0])
    whole = [taken(federation, client)[0] for client in range(3)]
    position = np.random.default_rng(1).integers(0, 40, 40).astype(np.int32)
    for client in range(3):
        again = of_client(federation, np.int32(client), position)
        np.testing.assert_array_equal(again.x, whole[client][position])
    plain = taken(federation_of(shared=True), 0)[0]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        correlation = np.corrcoef((whole[one] - plain).ravel(), (whole[other] - plain).ravel())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(plain.size)
    within = np.corrcoef(whole[0] - plain)
    assert np.abs(within - np.eye(40)).max() < 6 / np.sqrt(50)


def test_the_same_row_has_the_same_noise_in_every_split():
    x = pictures(np.random.default_rng(0), 20, (5,))
    one, other = (
        noise(fh.from_index_lists(x, np.arange(20) % 2, [np.arange(20)], test=test), levels=[1.0])
        for test in (0.0, 0.5)
    )
    held_out = taken(other, 0, "test")[0]
    np.testing.assert_array_equal(held_out, taken(one, 0)[0][rows_of(other, 0, "test")])


def test_levels():
    federation = federation_of(clients=5, rows=2)
    np.testing.assert_allclose(
        noise(federation, ramp=0.2).truth["level"], np.sqrt(0.2 * np.arange(1, 6) / 5), rtol=1e-6
    )
    clustered = noise(federation, ramp=0.2, clusters=[0, 1, 1, 0, 0]).truth["level"]
    np.testing.assert_allclose(clustered, np.sqrt(0.2 * np.array([1, 2, 2, 1, 1]) / 2), rtol=1e-6)
    many = federation_of(clients=300, rows=1, shape=(2,))
    level = np.asarray(noise(many, most=2).truth["level"])
    assert level.min() >= 0 and 1.9 < level.max() <= 2
    assert abs(level.mean() - 1) < 4 * 2 / np.sqrt(12 * 300)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "most, ramp or levels must be given, one of them, got none: pass most=0.5"),
        ({"most": 1, "ramp": 1}, "got most and ramp"),
        ({"most": -1}, "most must be >= 0, got -1: it is the largest level"),
        ({"ramp": -1}, "ramp must be >= 0, got -1: it is the variance"),
        ({"levels": [1, 1, -1]}, "levels must be >= 0"),
        ({"levels": [1]}, r"levels must have shape \(3,\), one entry a client"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        noise(federation_of(), **arguments)

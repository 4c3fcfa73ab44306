"""Rotated images against NumPy and SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from taking import pictures, taken

import fedjax_het as fh
from fedjax_het.heterogeneity.feature import rotate


def federation_of(shape, clients=4, integers=False, rows=3):
    x = pictures(np.random.default_rng(0), rows * clients, shape, integers=integers)
    parts = np.split(np.arange(rows * clients), clients)
    return fh.from_index_lists(x, np.arange(rows * clients) % 2, parts, test=0.0)


@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (28, 28, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("integers", [False, True], ids=["floats", "uint8"])
def test_quarter_turns_are_exact(shape, integers):
    federation = federation_of(shape, clients=6, integers=integers)
    turned = rotate(federation, angles=[0, 90, 180, 270, -90, 810])
    for client, quarters in enumerate([0, 1, 2, 3, 3, 1]):
        before, after = taken(federation, client)[0], taken(turned, client)[0]
        np.testing.assert_array_equal(after, np.rot90(before, quarters, axes=(1, 2)))
        assert after.dtype == np.float32


@settings(max_examples=25, derandomize=True, deadline=None)
@given(angle=st.floats(-400, 400), shape=st.sampled_from([(5, 9), (8, 8), (6, 4, 2)]))
def test_any_angle_is_a_bilinear_interpolation(angle, shape):
    federation = federation_of(shape, clients=1)
    height, width = shape[:2]
    i, j = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    # a point (right, up) comes from where a clockwise turn takes it
    right = cosine * j + sine * -i
    up = -sine * j + cosine * -i
    source = np.stack([-up + (height - 1) / 2, right + (width - 1) / 2])
    before, after = taken(federation, 0)[0], taken(rotate(federation, angles=[angle]), 0)[0]
    for one, other in zip(before, after):
        layers = one.reshape(height, width, -1)
        wanted = np.stack(
            [
                ndimage.map_coordinates(layers[..., c].astype(float), source, order=1, mode="grid-constant")
                for c in range(layers.shape[-1])
            ],
            axis=-1,
        )
        np.testing.assert_allclose(other.reshape(layers.shape), wanted, atol=2e-5)


def test_clusters_share_the_circle():
    turned = rotate(federation_of((4, 4), clients=8), clusters=4, seed=3)
    cluster, angle = np.asarray(turned.truth["cluster"]), np.asarray(turned.truth["angle"])
    np.testing.assert_array_equal(angle, 90.0 * cluster)
    assert np.bincount(cluster).tolist() == [2, 2, 2, 2]
    halves = rotate(federation_of((4, 4)), clusters=2).truth["angle"]
    assert sorted(np.asarray(halves).tolist()) == [0, 0, 180, 180]


def test_clusters_with_angles_of_their_own():
    turned = rotate(federation_of((4, 4)), clusters=[1, 0, 1, 0], angles=[10, 20])
    assert np.asarray(turned.truth["angle"]).tolist() == [20, 10, 20, 10]
    drawn = rotate(federation_of((4, 4)), clusters=2, spread=30)
    assert len(np.unique(drawn.truth["angle"])) == 2


def test_a_spread_of_angles():
    federation = federation_of((4, 4), clients=400, rows=1)
    angle = np.asarray(rotate(federation, spread=30).truth["angle"])
    assert np.abs(angle).max() <= 30 and np.abs(angle).max() > 29
    # the mean of 400 draws from U(-30, 30) has a deviation of 0.87
    assert abs(angle.mean()) < 4 * 30 / np.sqrt(3 * 400)
    np.testing.assert_allclose(np.asarray(rotate(federation, spread=60).truth["angle"]), 2 * angle, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "spread or angles must be given, one of them, got none: pass spread=30"),
        (
            {"spread": 1, "angles": [0] * 4},
            ValueError,
            "spread or angles must be given, .* got spread and angles",
        ),
        ({"spread": -1}, ValueError, "spread must be >= 0, got -1"),
        ({"spread": "wide"}, TypeError, "spread must be a number, got 'wide'"),
        (
            {"angles": [0, 90]},
            ValueError,
            r"angles must have shape \(4,\), one entry a client, got shape \(2,\)",
        ),
        ({"clusters": 5}, ValueError, "clusters must be <= 4, got 5"),
        ({"spread": 1, "seed": -1}, ValueError, "seed must be >= 0, got -1"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        rotate(federation_of((4, 4)), **arguments)


def test_refuses_what_holds_no_images():
    with pytest.raises(ValueError, match=r"must hold images .*got rows of shape \(5,\) .*digits\(flat=False\)"):
        rotate(federation_of((5,)), spread=10)
    with pytest.raises(TypeError, match="federation must be a Federation, got Pool"):
        rotate(fh.datasets.digits(flat=False), spread=10)

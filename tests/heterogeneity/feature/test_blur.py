"""Blurred images against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from taking import pictures, taken

import fedjax_het as fh
from fedjax_het.heterogeneity.feature import blur


def federation_of(shape, clients=1, rows=3):
    x = pictures(np.random.default_rng(0), rows * clients, shape)
    parts = np.split(np.arange(rows * clients), clients)
    return fh.from_index_lists(x, np.arange(rows * clients) % 2, parts, test=0.0)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(sigma=st.floats(0.3, 4), shape=st.sampled_from([(5, 9), (8, 8), (6, 4, 2)]))
def test_is_a_gaussian_over_the_pixels_of_the_image(sigma, shape):
    federation = federation_of(shape)
    before = taken(federation, 0)[0].astype(float)
    after = taken(blur(federation, sigmas=[sigma]), 0)[0]

    def smooth(image):
        # far beyond the image, so that nothing is cut off
        return ndimage.gaussian_filter(image, sigma, mode="constant", radius=40, axes=(0, 1))

    for one, other in zip(before, after):
        np.testing.assert_allclose(other, smooth(one) / smooth(np.ones(shape)), rtol=1e-4, atol=1e-5)


def test_even_images_stay_even_and_blur_grows():
    x = np.full((2, 9, 7), 0.3)
    federation = fh.from_index_lists(x, [0, 1], [[0], [1]], test=0.0)
    np.testing.assert_allclose(taken(blur(federation, sigmas=[1, 5]), 1)[0], x[:1], rtol=1e-5)
    federation = federation_of((8, 8))
    before = taken(federation, 0)[0]
    moved = [
        np.abs(taken(blur(federation, sigmas=[sigma]), 0)[0] - before).sum() for sigma in (0, 0.5, 1, 2, 4)
    ]
    assert moved[0] == 0 and np.all(np.diff(moved) > 0)


def test_widths():
    federation = federation_of((3, 3), clients=300, rows=1)
    sigma = np.asarray(blur(federation, most=2).truth["sigma"])
    assert sigma.min() >= 0 and 1.9 < sigma.max() <= 2
    assert abs(sigma.mean() - 1) < 4 * 2 / np.sqrt(12 * 300)
    assert len(np.unique(blur(federation, most=2, clusters=3).truth["sigma"])) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "most or sigmas must be given, one of them, got none: pass most=2"),
        ({"most": -1}, "most must be >= 0, got -1: it is the largest width"),
        ({"sigmas": [-1]}, "sigmas must be >= 0"),
        ({"sigmas": [1, 1]}, r"sigmas must have shape \(1,\), one entry a client, got shape \(2,\)"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        blur(federation_of((3, 3)), **arguments)


def test_refuses_what_holds_no_images():
    with pytest.raises(ValueError, match=r"must hold images .*got rows of shape \(5,\)"):
        blur(federation_of((5,)), most=1)

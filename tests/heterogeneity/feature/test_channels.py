"""Mixed channels: rotations, by how much, and what they do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm, logm
from taking import pictures, taken

import fedjax_het as fh
from fedjax_het.heterogeneity.feature import channels


def federation_of(shape, clients=3, rows=4):
    x = pictures(np.random.default_rng(0), rows * clients, shape)
    parts = np.split(np.arange(rows * clients), clients)
    return fh.from_index_lists(x, np.arange(rows * clients) % 2, parts, test=0.0)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(shape=st.sampled_from([(2,), (3,), (10,), (4, 5, 3)]), spread=st.floats(0, 180), seed=st.integers(0, 9))
def test_turns_the_last_axis(shape, spread, seed):
    federation = federation_of(shape)
    mixed = channels(federation, spread=spread, seed=seed)
    matrix = np.asarray(mixed.truth["mixing"], np.float64)
    for client, own in enumerate(matrix):
        np.testing.assert_allclose(own @ own.T, np.eye(shape[-1]), atol=1e-5)
        # the eigenvalues are exp(i angle): no plane turns further than asked, and one as far
        angles = np.abs(np.angle(np.linalg.eigvals(own)))
        assert abs(np.rad2deg(angles.max()) - spread) < 0.1
        before, after = taken(federation, client)[0], taken(mixed, client)[0]
        np.testing.assert_allclose(after, before @ own.T, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            np.linalg.norm(after, axis=-1), np.linalg.norm(before, axis=-1), rtol=1e-4, atol=1e-5
        )


def test_is_the_exponential_of_one_direction():
    federation = federation_of((5,))
    one, twice = (np.asarray(channels(federation, spread=s).truth["mixing"], float) for s in (40, 80))
    for small, large in zip(one, twice):
        skew = logm(small)
        np.testing.assert_allclose(skew, -skew.T, atol=1e-5)
        np.testing.assert_allclose(expm(2 * skew), large, atol=1e-5)


def test_matrices_may_be_given():
    federation = federation_of((2,))
    matrix = np.array([[[0, 1], [1, 0]], [[1, 0], [0, 1]]])
    mixed = channels(federation, mixing=matrix, clusters=[0, 1, 0])
    for client, exchanged in enumerate([True, False, True]):
        before = taken(federation, client)[0]
        np.testing.assert_array_equal(taken(mixed, client)[0], before[:, ::-1] if exchanged else before)


def test_clusters_share_a_matrix():
    truth = channels(federation_of((3,), clients=6), spread=20, clusters=2).truth
    assert len(np.unique(np.asarray(truth["mixing"]).reshape(6, -1), axis=0)) == 2
    for k in range(2):
        own = np.asarray(truth["mixing"])[np.asarray(truth["cluster"]) == k]
        assert np.all(own == own[0])


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        (
            (4, 4),
            {"spread": 1},
            r"must hold vectors \(d,\) or images .*got rows of shape \(4, 4\) .* use affine",
        ),
        ((4, 4, 1), {"spread": 1}, "grey images have no colours to mix"),
        ((1,), {"spread": 1}, "with at least 2 channels"),
        ((300,), {"spread": 1}, "must have at most 256 channels to mix, got 300: use gaussian"),
        ((3,), {}, "spread or mixing must be given, one of them, got none: pass spread=45"),
        ((3,), {"spread": 200}, "spread must be <= 180, got 200"),
        ((3,), {"spread": -1}, "spread must be >= 0, got -1"),
        (
            (3,),
            {"mixing": np.eye(3)},
            r"mixing must have shape \(3, 3, 3\), one entry a client, got shape \(3, 3\)",
        ),
    ],
)
def test_refusals(shape, arguments, message):
    with pytest.raises(ValueError, match=message):
        channels(federation_of(shape), **arguments)

"""Shifted features: by what, and for whom."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from taking import pictures, taken

import fedjax_het as fh
from fedjax_het.heterogeneity.feature import gaussian


def federation_of(shape, clients=3, rows=4):
    x = pictures(np.random.default_rng(0), rows * clients, shape)
    parts = np.split(np.arange(rows * clients), clients)
    return fh.from_index_lists(x, np.arange(rows * clients) % 2, parts, test=0.0)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(shape=st.sampled_from([(), (7,), (4, 5), (3, 2, 2)]), spread=st.floats(0, 10), seed=st.integers(0, 9))
def test_every_row_of_a_client_moves_alike(shape, spread, seed):
    federation = federation_of(shape)
    moved = gaussian(federation, spread=spread, seed=seed)
    shift = np.asarray(moved.truth["shift"])
    assert shift.shape == (3, *shape)
    for client in range(3):
        before, after = taken(federation, client)[0], taken(moved, client)[0]
        np.testing.assert_array_equal(after, before + shift[client])


def test_shifts_are_normal():
    shift = np.asarray(gaussian(federation_of((40,), clients=50), spread=3).truth["shift"], float)
    assert stats.kstest(shift.ravel() / 3, "norm").pvalue > 1e-3
    assert abs(shift.std() / 3 - 1) < 4 / np.sqrt(2 * shift.size)
    assert np.abs(np.corrcoef(shift) - np.eye(50)).max() < 6 / np.sqrt(40)


def test_clusters_and_shifts_that_are_given():
    federation = federation_of((2,))
    truth = gaussian(federation, shifts=[[1, 2], [3, 4]], clusters=[1, 0, 1]).truth
    assert np.asarray(truth["shift"]).tolist() == [[3, 4], [1, 2], [3, 4]]
    assert len(np.unique(gaussian(federation, spread=1, clusters=2).truth["shift"], axis=0)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "spread or shifts must be given, one of them, got none: pass spread=0.5"),
        ({"spread": -1}, "spread must be >= 0, got -1: it is a standard deviation"),
        ({"shifts": [[1, 2]]}, r"shifts must have shape \(3, 2\), one entry a client, got shape \(1, 2\)"),
        ({"shifts": [[1, np.inf]] * 3}, "shifts must be finite"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        gaussian(federation_of((2,)), **arguments)

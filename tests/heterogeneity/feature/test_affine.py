"""Contrast and brightness against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taking import pictures, taken

import fedjax_het as fh
from fedjax_het.heterogeneity.feature import affine


def federation_of(shape=(6,), clients=4, rows=3):
    x = pictures(np.random.default_rng(0), rows * clients, shape)
    parts = np.split(np.arange(rows * clients), clients)
    return fh.from_index_lists(x, np.arange(rows * clients) % 2, parts, test=0.0)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(spread=st.floats(0, 2), offset=st.floats(0, 1), centre=st.floats(-1, 1), seed=st.integers(0, 9))
def test_scales_about_the_centre_and_moves(spread, offset, centre, seed):
    federation = federation_of((3, 2))
    changed = affine(federation, spread=spread, offset=offset, centre=centre, seed=seed)
    gain, move = (np.asarray(changed.truth[name], np.float64) for name in ("gain", "offset"))
    assert np.abs(np.log(gain)).max() <= spread + 1e-6 and np.abs(move).max() <= offset
    for client in range(4):
        before, after = taken(federation, client)[0], taken(changed, client)[0]
        np.testing.assert_allclose(
            after, gain[client] * (before - centre) + centre + move[client], rtol=1e-5, atol=1e-5
        )


def test_values_are_cut():
    federation = federation_of()
    changed = affine(federation, gains=[5.0] * 4, clip=(0.25, 0.75))
    for client in range(4):
        before, after = taken(federation, client)[0], taken(changed, client)[0]
        np.testing.assert_allclose(after, np.clip(5 * (before - 0.5) + 0.5, 0.25, 0.75), atol=1e-6)
        assert after.min() == 0.25 and after.max() == 0.75


def test_gains_and_offsets_are_drawn_apart_and_alike_for_a_cluster():
    federation = federation_of(clients=300, rows=1)
    truth = affine(federation, spread=1, offset=1).truth
    log, move = np.log(np.asarray(truth["gain"])), np.asarray(truth["offset"])
    assert abs(np.corrcoef(log, move)[0, 1]) < 4 / np.sqrt(300)
    for values in (log, move):
        assert abs(values.mean()) < 4 / np.sqrt(3 * 300)
    only = affine(federation, spread=1).truth
    np.testing.assert_array_equal(only["gain"], truth["gain"])
    assert not np.asarray(only["offset"]).any()
    shared = affine(federation, offset=1, clusters=3).truth
    assert len(np.unique(shared["offset"])) == 3 and np.all(np.asarray(shared["gain"]) == 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "spread, offset, gains or offsets must be given, got none: pass spread=0.5"),
        ({"spread": 1, "gains": [1] * 4}, ValueError, "spread or gains must be given, .* got spread and gains"),
        ({"offset": 1, "offsets": [1] * 4}, ValueError, "offset or offsets must be given, one of them"),
        ({"gains": [1, 1, 1, -1]}, ValueError, "gains must be >= 0"),
        ({"offsets": [1]}, ValueError, r"offsets must have shape \(4,\)"),
        ({"offset": -1}, ValueError, "offset must be >= 0, got -1: it is the largest offset"),
        ({"spread": -1}, ValueError, "spread must be >= 0, got -1"),
        ({"spread": 1, "clip": (1, 0)}, ValueError, r"clip must be in ascending order, got \(1, 0\)"),
        ({"spread": 1, "clip": 1}, ValueError, r"clip must be \(low, high\), got 1: pass the two ends"),
        ({"spread": 1, "clip": ("a", 1)}, TypeError, "clip must be a number, got 'a'"),
        ({"spread": 1, "centre": None}, TypeError, "centre must be a number, got None"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        affine(federation_of(), **arguments)


def test_refuses_tokens():
    x = np.zeros((4, 5), np.int32)
    federation = fh.from_index_lists(x, x, [[0, 1], [2, 3]], task="tokens", test=0.0)
    with pytest.raises(ValueError, match="must hold numbers as features, got tokens of 'pool'"):
        affine(federation, spread=1)

"""The null band and the shuffles and cuts that it rests on."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.analysis.null_band import compared, measured, shuffled
from fedjax_het.analysis.transfer import crossed, halves

few = settings(max_examples=25, derandomize=True, deadline=None)


@pytest.mark.parametrize(("draws", "place", "level"), [(199, 0, 0.99), (399, 1, 0.99), (19, 0, 0.9)])
def test_band_by_order_statistics(draws, place, level):
    null = np.random.default_rng(0).permutation(draws) / draws
    found = measured(0.5, np.zeros(2), null)
    assert found.low == place / draws and found.high == (draws - 1 - place) / draws
    assert found.level == pytest.approx(level) and found.mean == pytest.approx((draws - 1) / 2 / draws)
    assert found.inside and not found.above
    assert found.p == pytest.approx((1 + np.sum(null >= 0.5)) / (draws + 1))


def test_verdicts_and_words():
    null = np.linspace(-1, 1, 199)
    over, under = measured(1.01, np.array([1.0, np.nan]), null), measured(-1.01, np.zeros(1), null)
    assert over.above and not over.inside and over.p == 1 / 200
    assert not under.above and not under.inside and under.p == 1
    assert str(over).endswith("ABOVE the band") and str(under).endswith("below the band")
    told = json.loads(json.dumps(over.as_dict(), allow_nan=False))
    assert told["client"] == [1.0, None] and told["value"] == 1.01 and told["above"] is True


@few
@given(stratum=st.lists(st.integers(0, 4), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_shuffles_stay_within_strata(stratum, seed):
    stratum = np.array(stratum)
    order = shuffled(stratum, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(stratum)))
    np.testing.assert_array_equal(stratum[order], stratum)
    renamed = shuffled(np.array([3, 0, 4, 1, 2])[stratum], np.random.default_rng(seed))
    np.testing.assert_array_equal(order, renamed)


def test_all_shuffles_are_alike_likely():
    rng = np.random.default_rng(1)
    seen = [tuple(shuffled(np.array([0, 1, 0, 0]), rng)) for _ in range(6000)]
    kinds, counts = np.unique(seen, axis=0, return_counts=True)
    assert len(kinds) == 6 and abs(counts / 1000 - 1).max() < 0.12


@few
@given(cell=st.lists(st.integers(0, 3), min_size=1, max_size=30), seed=st.integers(0, 99))
def test_cells_are_cut_in_halves(cell, seed):
    cell = np.unique(cell, return_inverse=True)[1]
    half = halves(cell, np.random.default_rng(seed))
    size, second = np.bincount(cell), np.bincount(cell, half)
    np.testing.assert_array_equal(second, size // 2)


def test_what_can_be_compared():
    owner = np.array([0, 0, 1, 1, 2, 0, 0, 1, 2, 2])
    label = np.array([5, 5, 5, 5, 5, 7, 7, 7, 9, 9])
    # of label 7 client 1 holds one row, so client 0 is alone with it, as client 2 is with label 9
    np.testing.assert_array_equal(compared(owner, label), [True] * 4 + [False] * 6)
    assert not compared(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])).any()


def test_disagreement_beyond_that_within():
    apart = np.array([[0.2, 0.5], [0.7, 0.4]])
    np.testing.assert_allclose(crossed(apart), [[0, 0.3], [0.3, 0]])

"""What clients gain by size: by hand, against NumPy and SciPy."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fedjax_het.metrics import gain


def test_less_of_a_loss_is_a_gain():
    np.testing.assert_allclose(gain.gain([0.7, 0.4], [0.5, 0.6]), [0.2, -0.2])
    np.testing.assert_allclose(gain.gain([0.7, 0.4], [0.5, 0.6], low_is_good=True), [-0.2, 0.2])


def test_groups_by_hand():
    rows = np.array([100, 5, 5, 40, 7, 60, 0, 8])
    gains = np.array([-0.1, 0.4, 0.2, 0.0, 0.3, np.nan, 0.9, 0.1])
    small, large = gain.by_size(gains, rows, groups=2)
    assert (small.least, small.most, small.clients) == (5, 7, 3)
    assert (large.least, large.most, large.clients) == (8, 100, 3)
    np.testing.assert_allclose([small.mean, large.mean], [0.3, 0.0], atol=1e-12)
    np.testing.assert_allclose(small.quartiles, [0.25, 0.3, 0.35])
    np.testing.assert_allclose([small.losers, large.losers], [0, 1 / 3])


@given(rows=st.lists(st.integers(0, 12), max_size=40), groups=st.integers(1, 8))
def test_groups_part_the_clients_by_size(rows, groups):
    rows = np.array(rows, int)
    gains = np.linspace(-1, 1, len(rows)) if len(rows) else np.zeros(0)
    found = gain.by_size(gains, rows, groups=groups)
    assert len(found) <= groups
    assert sum(each.clients for each in found) == (rows > 0).sum()
    for one, other in itertools.pairwise(found):
        assert one.most < other.least, "equal sizes are in one group"
    for each in found:
        inside = gains[(rows >= each.least) & (rows <= each.most) & (rows > 0)]
        assert len(inside) == each.clients
        np.testing.assert_allclose(each.mean, inside.mean())


def test_without_ties_groups_are_equally_large():
    found = gain.by_size(np.zeros(100), np.random.default_rng(0).permutation(100) + 1, groups=5)
    assert [each.clients for each in found] == [20] * 5


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 9, 50)
    gains = np.round(rng.normal(size=50) - 0.1 * rows, 1)
    expected = np.asarray(scipy.stats.spearmanr(gains, rows), float)[0]
    np.testing.assert_allclose(gain.size_correlation(gains, rows), expected, rtol=1e-12)
    np.testing.assert_allclose(gain.size_correlation(-np.exp(rows), rows), -1)
    spoiled = np.append(gains, [np.nan, 5.0]), np.append(rows, [3, 0])
    np.testing.assert_allclose(gain.size_correlation(*spoiled), gain.size_correlation(gains, rows))


def test_without_a_spread_there_is_no_correlation():
    assert np.isnan(gain.size_correlation([1.0, 2.0], [3, 3]))
    assert np.isnan(gain.size_correlation([], []))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="rows must have one entry"):
        gain.by_size([1.0, 2.0], [3])
    with pytest.raises(ValueError, match="groups must be >= 1"):
        gain.by_size([1.0], [3], groups=0)
    with pytest.raises(TypeError, match="groups must be a whole number"):
        gain.by_size([1.0], [3], groups=2.5)  # pyright: ignore[reportArgumentType]

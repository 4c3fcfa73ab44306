"""Sizes of clients: by hand, ranges, and agreement with the metrics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.heterogeneity.sizes import effective_clients, gini, unique_sizes, variation
from fedjax_het.metrics import fairness

SIZES = st.lists(st.integers(0, 50), min_size=1, max_size=12)


def test_by_hand():
    assert gini([0, 0, 0, 9]) == pytest.approx(0.75) and gini([7] * 10) == pytest.approx(0)
    assert gini([1, 3]) == pytest.approx(0.25)
    assert variation([1, 3]) == pytest.approx(0.5)
    assert effective_clients([1, 3]) == pytest.approx(16 / 10)
    assert effective_clients([0, 0, 5]) == 1 and effective_clients([4] * 6) == pytest.approx(6)
    assert unique_sizes([3, 3, 4, 0]) == 0.5 and unique_sizes([2, 2]) == 0 and unique_sizes([2]) == 1


def test_nobody_holds_a_row():
    assert all(np.isnan(measure([0, 0])) for measure in (gini, variation, effective_clients))
    assert unique_sizes([0, 0]) == 0


@settings(max_examples=25, derandomize=True, deadline=None)
@given(SIZES.filter(any), st.integers(0, 99), st.integers(1, 7))
def test_ranges_order_and_scale(sizes, seed, factor):
    clients = len(sizes)
    shuffled = np.random.default_rng(seed).permutation(sizes) * factor
    for measure in (gini, variation, effective_clients, unique_sizes):
        assert measure(shuffled) == pytest.approx(measure(sizes), abs=1e-12)
    assert -1e-12 <= gini(sizes) <= 1 - 1 / clients + 1e-12
    assert 0 <= variation(sizes) <= np.sqrt(clients - 1) + 1e-12
    assert effective_clients(sizes) == pytest.approx(clients / (1 + variation(sizes) ** 2))
    n = np.array(sizes, float)
    assert gini(sizes) == pytest.approx(np.abs(n[:, None] - n).mean() / (2 * n.mean()), abs=1e-12)
    assert gini(sizes) == pytest.approx(float(fairness.gini(n, n >= 0)), abs=1e-12)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([1, -1], ValueError, "sizes must be finite and >= 0"),
        ([[1, 2]], ValueError, r"sizes must have one number a client, got shape \(1, 2\)"),
        ([], ValueError, r"sizes must have one number a client, got shape \(0,\)"),
        (["a"], TypeError, "sizes must hold numbers"),
    ],
)
def test_refusals(sizes, error, message):
    for measure in (gini, variation, effective_clients, unique_sizes):
        with pytest.raises(error, match=message):
            measure(sizes)

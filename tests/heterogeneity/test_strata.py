"""Tables of rows: both sums are met whatever was wanted, and what is wanted is met where it can be."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.heterogeneity.deal import deal
from fedjax_het.heterogeneity.strata import appearance, fitted, moved, rounded


@settings(max_examples=80, derandomize=True, deadline=None)
@given(data=st.data())
def test_sizes_are_met_and_no_stratum_is_overdrawn(data):
    clients, strata = data.draw(st.integers(1, 12), "clients"), data.draw(st.integers(1, 6), "strata")
    rng = np.random.default_rng(data.draw(st.integers(0, 999), "seed"))
    totals = rng.integers(0, 40, strata)
    totals[0] += 1
    spare = data.draw(st.sampled_from([0.0, 0.3, 0.9]), "spare")
    use = max(1, int(totals.sum() * (1 - spare)))
    sizes = rng.multinomial(use, rng.dirichlet(np.ones(clients)))
    power = data.draw(st.sampled_from([0.0, 1.0, 60.0, 3000.0]), "power")
    log = power * np.log(rng.random((clients, strata)))
    wanted = np.exp(log - log.max(1, keepdims=True)) * (rng.random((clients, strata)) < 0.8)
    wanted /= np.maximum(wanted.sum(1, keepdims=True), 1e-300)
    table = fitted(wanted, sizes, totals, rng)
    assert (table >= 0).all() and (table.sum(0) <= totals).all()
    np.testing.assert_array_equal(table.sum(1), sizes)
    rows = rng.permutation(int(totals.sum()))
    stratum = np.repeat(np.arange(strata), totals)
    held = deal(rows, stratum, table, rng)
    np.testing.assert_array_equal(held.size, sizes)
    assert len(np.unique(held.index)) == use
    of = np.empty(len(rows), int)
    of[rows] = stratum
    for part, count in zip(held.parts(), table):
        np.testing.assert_array_equal(np.bincount(of[part], minlength=strata), count)
        assert (np.diff(part) > 0).all()


def test_what_can_be_met_is():
    wanted = np.array([[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]])
    sizes, totals = np.array([20, 50, 30]), np.array([50, 50])
    np.testing.assert_array_equal(
        fitted(wanted, sizes, totals, np.random.default_rng(0)), [[10, 10], [10, 40], [30, 0]]
    )
    # the table of least relative entropy to what was wanted keeps its odds ratios
    wanted = np.array([[0.7, 0.3], [0.4, 0.6]])
    table = fitted(wanted, np.array([50_000, 50_000]), np.array([50_000, 50_000]), np.random.default_rng(0))
    odds = table[0, 0] * table[1, 1] / (table[0, 1] * table[1, 0])
    assert abs(odds - 0.7 * 0.6 / (0.3 * 0.4)) < 0.01


def test_rounding_and_moving_keep_their_sums():
    rng = np.random.default_rng(1)
    exact = rng.random((5, 7)) * 10
    total = np.round(exact.sum(1)).astype(int)
    exact *= (total / exact.sum(1))[:, None]
    count = rounded(exact, total)
    np.testing.assert_array_equal(count.sum(1), total)
    assert np.abs(count - exact).max() < 1
    change = np.array([-3, 2, 0, 4, -3])
    after = moved(count, exact, change, rng)
    np.testing.assert_array_equal(after.sum(1), total + change)
    np.testing.assert_array_equal(after.sum(0), count.sum(0))
    np.testing.assert_array_equal(after[2], count[2])


def test_values_are_numbered_as_they_appear():
    number, found = appearance(np.array([7, 2, 7, 9, 2]))
    assert number.tolist() == [0, 1, 0, 2, 1] and found.tolist() == [7, 2, 9]

"""Variance, Jain's index, entropy and divergence: by hand, against SciPy and NumPy, and their bounds."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedjax_het.metrics import fairness

ACCURACY = np.array([0.9, 0.2, np.nan, 0.5, 0.75, 0.75, 1.0, 0.0])
HELD = ~np.isnan(ACCURACY)
ROWS = np.array([5, 1, 0, 10, 2, 2, 7, 4])
X = ACCURACY[HELD]
INDICES = (fairness.gini, fairness.jain, fairness.entropy, fairness.divergence)

values = arrays.arrays(
    np.float64,
    st.integers(1, 30),
    elements=st.floats(0, 1, allow_subnormal=False).filter(lambda v: v == 0 or v > 1e-6),
).filter(lambda x: x.sum() > 0)
weights = st.integers(0, 2**31 - 1)


def repeated(x, rows):
    """As many clients of equal weight as there are rows: what weights mean."""
    return np.repeat(x, rows)


def test_the_variance_of_accuracies_is_in_percent_squared_and_unweighted():
    """As the authors of q-FFL print it: the variance over clients, divisor N, times 10,000."""
    accuracies = [0.25, 0.5, 1.0, 0.25]  # by hand: mean 0.5, squares 0.0625 + 0 + 0.25 + 0.0625
    everyone = np.ones(4, bool)
    assert fairness.variance(np.array(accuracies), everyone, percent=True) == 937.5
    assert fairness.variance(np.array(accuracies), everyone) == 0.09375
    np.testing.assert_allclose(fairness.variance(ACCURACY, HELD, percent=True), np.var(100 * X))
    np.testing.assert_allclose(fairness.variance(ACCURACY, HELD, percent=True), np.var(X) * 10000)
    np.testing.assert_allclose(fairness.deviation(ACCURACY, HELD), np.std(X))


def test_the_variance_of_an_infinite_value_is_nan_and_nothing_warns():
    assert np.isnan(fairness.variance(np.array([np.inf, 1.0]), np.ones(2, bool)))


def test_a_client_of_many_rows_counts_more_only_if_asked():
    """Three clients with accuracies 0, 0, 1; the last has 98 of 100 rows."""
    x, rows, everyone = np.array([0.0, 0.0, 1.0]), np.array([1, 1, 98]), np.ones(3, bool)
    np.testing.assert_allclose(fairness.variance(x, everyone, percent=True), 10000 * 2 / 9)
    np.testing.assert_allclose(fairness.variance(x, everyone, rows, percent=True), 10000 * 0.98 * 0.02)


@pytest.mark.parametrize("index", [fairness.variance, *INDICES], ids=lambda index: index.__name__)
def test_weights_are_what_repeated_clients_are(index):
    long = repeated(X, ROWS[HELD])
    alone = index(long, np.ones(len(long), bool))
    if index is fairness.entropy:  # of log N - divergence the first counts clients
        alone += np.log(len(X)) - np.log(len(long))
    np.testing.assert_allclose(index(ACCURACY, HELD, ROWS), alone, rtol=1e-12)


def test_against_scipy_and_by_hand():
    shares = X / X.sum()
    uniform = np.full(len(X), 1 / len(X))
    np.testing.assert_allclose(fairness.entropy(ACCURACY, HELD), scipy.stats.entropy(shares))
    np.testing.assert_allclose(fairness.divergence(ACCURACY, HELD), scipy.stats.entropy(shares, uniform))
    rows = ROWS[HELD] / ROWS.sum()
    shares = X * rows / (X * rows).sum()
    np.testing.assert_allclose(fairness.divergence(ACCURACY, HELD, ROWS), scipy.stats.entropy(shares, rows))
    cosine = X.sum() / np.sqrt(len(X) * (X**2).sum())
    np.testing.assert_allclose(fairness.jain(ACCURACY, HELD), cosine**2)
    np.testing.assert_allclose(fairness.jain(np.array([1.0, 2.0, 3.0]), np.ones(3, bool)), 36 / 42)
    np.testing.assert_allclose(
        fairness.entropy(np.array([1.0, 1.0, 2.0]), np.ones(3, bool)), 0.5 * np.log(4) + 0.5 * np.log(2)
    )


@given(x=values, scale=st.floats(1e-3, 1e3), seed=weights)
def test_shares_do_not_depend_on_the_unit(x, scale, seed):
    rows = np.random.default_rng(seed).integers(1, 50, len(x))
    everyone = np.ones(len(x), bool)
    for index in INDICES:
        for weight in (None, rows):
            np.testing.assert_allclose(
                index(scale * x, everyone, weight), index(x, everyone, weight), rtol=1e-9, atol=1e-12
            )


@given(x=values, seed=weights)
def test_bounds(x, seed):
    many, everyone = len(x), np.ones(len(x), bool)
    rows = np.random.default_rng(seed).integers(1, 50, many)
    least = rows.min() / rows.sum()
    slack = 1e-12
    assert 1 / many - slack <= fairness.jain(x, everyone) <= 1 + slack
    assert least - slack <= fairness.jain(x, everyone, rows) <= 1 + slack
    assert -slack <= fairness.gini(x, everyone) <= 1 - 1 / many + slack
    assert -slack <= fairness.entropy(x, everyone) <= np.log(many) + slack
    assert -slack <= fairness.divergence(x, everyone, rows) <= -np.log(least) + slack


@given(x=values)
def test_only_equal_clients_reach_the_best_value(x):
    everyone = np.ones(len(x), bool)
    equal = np.ptp(x) <= 1e-12 * x.max()
    apart = np.ptp(x) > 1e-3 * x.max()
    best = {
        "jain": fairness.jain(x, everyone) >= 1 - 1e-10,
        "entropy": fairness.entropy(x, everyone) >= np.log(len(x)) - 1e-10,
        "gini": fairness.gini(x, everyone) <= 1e-10,
        "variance": fairness.variance(x, everyone) <= 1e-20,
    }
    for name, reached in best.items():
        assert reached or not equal, name
        assert not (reached and apart), name


@pytest.mark.parametrize("weight", [None, ROWS], ids=["alike", "by rows"])
def test_one_client_has_everything(weight):
    x = np.where(np.arange(len(ACCURACY)) == 3, 0.5, 0.0)
    share = 1 / HELD.sum() if weight is None else 10 / ROWS.sum()
    np.testing.assert_allclose(fairness.jain(x, HELD, weight), share)
    np.testing.assert_allclose(fairness.divergence(x, HELD, weight), -np.log(share))
    np.testing.assert_allclose(fairness.gini(x, HELD, weight), 1 - share)
    if weight is None:
        np.testing.assert_allclose(fairness.entropy(x, HELD), 0, atol=1e-15)


@pytest.mark.parametrize("index", INDICES, ids=lambda index: index.__name__)
def test_what_has_no_shares_is_nan(index):
    nobody = np.zeros(3, bool)
    assert np.isnan(index(np.array([1.0, 2.0, 3.0]), nobody))
    assert np.isnan(index(np.zeros(3), ~nobody))
    assert np.isnan(index(np.array([-1.0, 2.0, 3.0]), ~nobody))
    assert np.isnan(index(np.array([np.inf, 2.0, 3.0]), ~nobody)), "and nothing warns"
    both = index(np.stack([X, np.zeros_like(X)]), np.ones((2, len(X)), bool))
    assert np.isfinite(both[0]) and np.isnan(both[1]), "each by itself"


@pytest.mark.parametrize("index", [fairness.variance, *INDICES], ids=lambda index: index.__name__)
def test_who_does_not_count_changes_nothing(index):
    weight = np.where(HELD, 1, 0)
    there = index(X, np.ones(len(X), bool))
    np.testing.assert_allclose(index(ACCURACY, HELD), there)
    np.testing.assert_allclose(index(np.where(HELD, ACCURACY, 7.0), np.ones(len(HELD), bool), weight), there)


def test_spread_has_them_all():
    spread = fairness.spread(ACCURACY, HELD)
    for name in ("variance", "Gini", "Jain", "entropy", "divergence"):
        np.testing.assert_allclose(spread[name], getattr(fairness, name.lower())(ACCURACY, HELD), err_msg=name)

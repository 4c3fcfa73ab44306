"""Spread over clients against plain definitions."""

import numpy as np
import pytest

from fedjax_het.metrics import fairness

VALUES = np.array([0.9, 0.2, np.nan, 0.5, 0.7, 0.7, 1.0, 0.4, 0.6, 0.8, 0.3, 0.95])
HELD = ~np.isnan(VALUES)
ROWS = np.array([5, 1, 0, 10, 2, 2, 7, 1, 3, 3, 4, 2])


def double_sum(x, p):
    """Gini by its definition."""
    p = p / p.sum()
    return (p[:, None] * p * np.abs(x[:, None] - x)).sum() / (2 * (p * x).sum())


@pytest.mark.parametrize("weight", [None, ROWS], ids=["alike", "by rows"])
def test_the_definitions(weight):
    x = VALUES[HELD]
    p = np.ones(len(x)) if weight is None else weight[HELD]
    spread = fairness.spread(VALUES, HELD, weight)
    np.testing.assert_allclose(spread["mean"], np.average(x, weights=p))
    np.testing.assert_allclose(spread["sd"], np.sqrt(np.cov(x, aweights=p, ddof=0)))
    np.testing.assert_allclose(spread["Gini"], double_sum(x, p))


def test_unweighted_deciles_round_up():
    assert fairness.worst_decile(VALUES, HELD) == np.mean([0.2, 0.3])  # 11 clients: two
    assert fairness.best_decile(VALUES, HELD) == np.mean([1.0, 0.95])
    assert fairness.worst_decile(VALUES[:4], HELD[:4]) == 0.2
    assert fairness.worst_decile(VALUES, HELD, low_is_good=True) == np.mean([1.0, 0.95])


def test_weighted_deciles_take_a_tenth_of_the_weight():
    # 40 rows: the worst four are 1 of 0.2 and 3 of the 4 at 0.3
    np.testing.assert_allclose(fairness.worst_decile(VALUES, HELD, ROWS), (0.2 + 3 * 0.3) / 4)
    np.testing.assert_allclose(fairness.best_decile(VALUES, HELD, ROWS), 1.0)


def test_leading_axes_and_nobody():
    values, held = np.stack([VALUES, VALUES[::-1]]), np.stack([HELD, HELD[::-1]])
    for name, one in fairness.spread(values, held).items():
        assert one.shape == (2,), name
        np.testing.assert_allclose(one[0], one[1], err_msg=name)
    for name, none in fairness.spread(values, np.zeros_like(held)).items():
        assert np.isnan(none).all(), name


def test_weights_that_are_all_alike_are_no_weights():
    alike = np.full(len(VALUES), 3)
    for name in ("mean", "deviation", "gini"):
        function = getattr(fairness, name)
        np.testing.assert_allclose(function(VALUES, HELD, alike), function(VALUES, HELD), err_msg=name)


@pytest.mark.parametrize("weighted", [False, True])
def test_sampling_error_is_what_resampling_shows(weighted):
    """The mean of the estimated variance over all samples is the variance of the estimate."""
    rng = np.random.default_rng(0)
    population, size = 60, 25
    values = rng.random(population)
    weight = rng.integers(50, 60, population) if weighted else None
    held = np.ones(size, bool)
    estimates, variances = [], []
    for _ in range(4000):
        who = rng.permutation(population)[:size]
        w = None if weight is None else weight[who]
        estimates.append(fairness.mean(values[who], held, w))
        variances.append(fairness.sampling_error(values[who], held, population, w) ** 2)
    np.testing.assert_allclose(np.mean(variances), np.var(estimates), rtol=0.06)


def test_sampling_everyone_leaves_no_error():
    held = np.ones(11, bool)
    assert fairness.sampling_error(VALUES[HELD], held, 11) == 0
    assert np.isnan(fairness.sampling_error(VALUES[:1], held[:1], 11))

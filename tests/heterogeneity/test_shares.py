"""Dirichlet draws: the right distribution, and common random numbers."""

import numpy as np
import pytest
from scipy import stats

from fedjax_het.heterogeneity.shares import dirichlet_shares, draw_shares
from fedjax_het.split import generator


@pytest.mark.parametrize("concentration", [[0.05, 0.05, 0.05], [0.5, 2.0, 0.1], [3.0, 3.0], [200.0, 1.0, 30.0]])
def test_each_share_has_a_beta_distribution(concentration):
    """Kolmogorov and Smirnov at the level 0.001, 20,000 draws."""
    a = np.array(concentration)
    drawn = dirichlet_shares(generator(0, "test"), a, 20_000)
    np.testing.assert_allclose(drawn.sum(1), 1, rtol=1e-12)
    for part, share in zip(a, drawn.T):
        assert stats.kstest(share, stats.beta(part, a.sum() - part).cdf).pvalue > 0.001
    covariance = -a[0] * a[1] / (a.sum() ** 2 * (a.sum() + 1))
    product = (drawn[:, 0] - drawn[:, 0].mean()) * (drawn[:, 1] - drawn[:, 1].mean())
    assert abs(product.mean() - covariance) < 5 * product.std() / np.sqrt(20_000)


def test_a_draw_follows_its_concentration():
    draws = [
        dirichlet_shares(generator(3, "test"), np.full(10, alpha), 500) for alpha in (0.1, 0.1001, 0.2, 5.0)
    ]
    close, apart, far = (np.abs(draws[0] - other).sum(1).mean() for other in draws[1:])
    assert close < 0.01 < apart < far
    same = dirichlet_shares(generator(3, "test"), np.full(10, 0.1), 500)
    np.testing.assert_array_equal(draws[0], same)


def test_extremes_stay_finite():
    tiny = dirichlet_shares(generator(0, "test"), np.full(4, 1e-6), 1000)
    assert np.isfinite(tiny).all() and (tiny.max(1) > 0.999).mean() > 0.99
    np.testing.assert_allclose(tiny.mean(0), 0.25, atol=0.07)
    even = dirichlet_shares(generator(0, "test"), np.full(4, 1e9), 10)
    np.testing.assert_allclose(even, 0.25, atol=1e-3)
    some = dirichlet_shares(generator(0, "test"), np.array([1.0, 0.0, 1.0]), 10)
    assert (some[:, 1] == 0).all()


def test_columns_are_put_in_place():
    placed = draw_shares(generator(1, "test"), np.array([1.0, 5.0]), 7, np.array([3, 0]), 4)
    straight = dirichlet_shares(generator(1, "test"), np.array([1.0, 5.0]), 7)
    np.testing.assert_allclose(placed[:, [3, 0]], straight, rtol=1e-6)
    assert (placed[:, 1:3] == 0).all() and not placed.flags.writeable

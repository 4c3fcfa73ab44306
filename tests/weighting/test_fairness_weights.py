"""Weights that losses decide: against loops, bisection, and numbers that overflow if taken as they stand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.fair import nearest_in_simplex

from fedjax_het import weighting

both = pytest.mark.parametrize("x64", [True, False], ids=["x64", "float32"])

_tilted = jax.jit(weighting.tilted)
_fair = jax.jit(weighting.fair)
_simplex = jax.jit(jax.vmap(weighting.simplex))


def call(function, *arguments, x64=False):
    """Compiled, its numbers as arrays of the precision; the answer as NumPy has it."""
    with jax.enable_x64(x64):
        real = jnp.result_type(float)
        given = [jnp.asarray(a, bool if np.asarray(a).dtype == bool else real) for a in arguments]
        return np.asarray(function(*given))


def nearest(rows, among=None, x64=False):
    """`simplex` of each row."""
    rows = np.asarray(rows, np.float64)
    return call(_simplex, rows, np.ones(rows.shape, bool) if among is None else np.asarray(among), x64=x64)


def precision(x64):
    return 1e-12 if x64 else 2e-6


@both
@pytest.mark.parametrize("t", [-2.0, 0.0, 0.5, 3.0])
def test_tilted_is_the_softmax(x64, t):
    losses, base = np.array([0.2, 1.5, 0.7, 2.0]), np.array([4.0, 1.0, 0.0, 2.5])
    got = call(_tilted, losses, t, base, x64=x64)
    raised = base * np.exp(t * losses)
    np.testing.assert_allclose(got, raised / raised.sum(), atol=precision(x64))
    assert got[2] == 0


@pytest.mark.parametrize("t", [50.0, -50.0, 1e4])
def test_no_tilt_overflows(t):
    got = call(_tilted, [0.0, 3.0, 1e3, 998.0], t, np.ones(4))
    assert np.isfinite(got).all() and abs(got.sum() - 1) < 1e-6
    np.testing.assert_array_equal(got, [0, 0, 1, 0] if t > 0 else [1, 0, 0, 0])


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0, 5.0])
def test_fair_is_the_power(q):
    losses, base = np.array([0.2, 1.5, 0.7, 1.1]), np.array([1.0, 3.0, 2.0, 0.0])
    raised = base * losses**q
    np.testing.assert_allclose(call(_fair, losses, q, base), raised / raised.sum(), atol=2e-6)


def test_a_power_of_fifteen_over_six_decades():
    losses = np.geomspace(1e-3, 1e3, 4)
    got = call(_fair, losses, 15.0, np.ones(4))
    raised = losses**15
    np.testing.assert_allclose(got, raised / raised.sum(), rtol=1e-3, atol=1e-37)
    assert np.isfinite(got).all() and got[2] > 0
    np.testing.assert_allclose(call(_fair, np.zeros(4), 15.0, np.ones(4)), 0.25, atol=1e-6)


def test_uneven_losses_draw_more_weight_the_larger_q():
    worst = [call(_fair, [0.5, 1.0, 2.0, 0.5], q, np.ones(4))[2] for q in (0.0, 0.1, 1.0, 5.0, 15.0)]
    assert worst[0] == pytest.approx(1 / 4) and worst == sorted(worst) and worst[-1] > 0.9999


@pytest.mark.parametrize("weigh", [_tilted, _fair], ids=["tilted", "fair"])
def test_who_has_no_base_is_not_read(weigh):
    base = [1.0, 0.0, 1.0, 0.0]
    spoiled = call(weigh, [1.0, np.nan, 2.0, np.inf], 2.0, base)
    np.testing.assert_array_equal(spoiled, call(weigh, [1.0, 5.0, 2.0, 7.0], 2.0, base))
    assert spoiled.sum() == pytest.approx(1)
    np.testing.assert_array_equal(call(weigh, [1.0, np.nan, 2.0, 1.0], 2.0, np.zeros(4)), np.zeros(4))


@both
@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_simplex_is_the_nearest_point(x64, spread):
    """By bisection, and nearer than any other point tried."""
    rng = np.random.default_rng(0)
    values, among = spread * rng.normal(size=(40, 7)), rng.random((40, 7)) < 0.8
    among[:, 0] = True
    values[:, 3] = np.where(among[:, 3], values[:, 3], np.nan)
    got, tolerance = nearest(values, among, x64=x64), precision(x64) * max(1.0, spread)
    for row, mask, point in zip(values, among, got):
        np.testing.assert_allclose(point[mask], nearest_in_simplex(row[mask]), atol=tolerance)
        assert (point[~mask] == 0).all()
        for _ in range(5):
            other = rng.dirichlet(np.ones(mask.sum()))
            mine = np.sum((row[mask] - point[mask]) ** 2)
            assert mine <= np.sum((row[mask] - other) ** 2) + 10 * tolerance * spread
    assert (got >= 0).all()
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=tolerance)
    np.testing.assert_allclose(nearest(got, among, x64=x64), got, atol=precision(x64))
    np.testing.assert_allclose(nearest(values + 7.5, among, x64=x64), got, atol=10 * tolerance)


def test_simplex_by_hand():
    cases = {
        (0.2, 0.3, 0.5): (0.2, 0.3, 0.5),
        (1.2, 0.2, -9.0): (1.0, 0.0, 0.0),
        (0.9, 0.3, -0.5): (0.8, 0.2, 0.0),
        (-5.0, -5.0, -5.0): (1 / 3, 1 / 3, 1 / 3),
        (2.0, 2.0, 0.0): (0.5, 0.5, 0.0),
        (1e6, 1e6 + 0.5, -1e8): (0.25, 0.75, 0.0),
    }
    np.testing.assert_allclose(nearest(list(cases)), list(cases.values()), atol=1e-6)
    np.testing.assert_array_equal(nearest(np.ones((2, 3)), np.zeros((2, 3), bool)), np.zeros((2, 3)))
    np.testing.assert_array_equal(weighting.simplex(jnp.asarray([-3.0], jnp.float32)), [1.0])


def test_weights_are_differentiable():
    """Also where a client has no base and its loss is nothing: 0, not NaN."""
    losses, base = jnp.asarray([0.5, 1.0, jnp.inf], jnp.float32), jnp.asarray([1.0, 2.0, 0.0], jnp.float32)
    slope = jax.grad(lambda t: weighting.tilted(losses, t, base)[1])(jnp.float32(0.3))
    weight = float(weighting.tilted(losses, jnp.float32(0.3), base)[1])
    assert float(slope) == pytest.approx(weight * (1 - weight) * 0.5, rel=1e-5)

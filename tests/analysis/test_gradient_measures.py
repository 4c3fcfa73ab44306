"""Functions of stacked gradients against plain NumPy, their identities, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het.analysis import gradients

N, D = 7, 5
P = np.array([3.0, 1, 0, 4, 2, 2, 5])


def drawn(seed=0, count=N):
    return np.random.default_rng(seed).normal(size=(count, D)) + 1


def by_hand(g, p):
    """(G^2, |gbar|^2) by loops."""
    p = np.asarray(p, float) / np.sum(p)
    mean = sum(p[k] * g[k] for k in range(len(g)))
    return sum(p[k] * np.sum((g[k] - mean) ** 2) for k in range(len(g))), float(np.sum(mean**2))


@pytest.mark.parametrize("double, tolerance", [(True, 1e-12), (False, 1e-5)])
def test_against_loops(double, tolerance):
    with jax.enable_x64(double):
        g = drawn()
        for p in (None, P):
            spread, norm = by_hand(g, np.ones(N) if p is None else P)
            np.testing.assert_allclose(gradients.dissimilarity(g, p), spread, rtol=tolerance)
            np.testing.assert_allclose(gradients.pairwise(g, p), spread, rtol=tolerance)
            np.testing.assert_allclose(gradients.b_squared(g, p), 1 + spread / norm, rtol=tolerance)
            np.testing.assert_allclose(np.sum(np.asarray(gradients.mean(g, p)) ** 2), norm, rtol=tolerance)
        found = gradients.diversity(g)
        np.testing.assert_allclose(found, (g**2).sum() / (g.sum(axis=0) ** 2).sum(), rtol=tolerance)
        np.testing.assert_allclose(found, gradients.b_squared(g) / N, rtol=tolerance)
        here = P > 1
        kept = (g[here] ** 2).sum() / (g[here].sum(axis=0) ** 2).sum()
        np.testing.assert_allclose(gradients.diversity(g, here), kept, rtol=tolerance)


def test_a_tree_is_its_leaves_side_by_side(x64):
    g = drawn()
    tree = {"a": jnp.asarray(g[:, :2]).reshape(N, 1, 2), "b": jnp.asarray(g[:, 2:])}
    np.testing.assert_allclose(gradients.dissimilarity(tree, P), by_hand(g, P)[0], rtol=1e-12)


def test_the_scale_of_p_does_not_matter_and_its_square_does_to_the_measure(x64):
    """G^2 is a sum of squares with weights, not a sum of norms."""
    g = drawn()
    once = gradients.dissimilarity(g, P)
    np.testing.assert_allclose(gradients.dissimilarity(g, 10 * P), once, rtol=1e-12)
    np.testing.assert_allclose(gradients.dissimilarity(3 * g, P), 9 * once, rtol=1e-12)
    assert float(gradients.dissimilarity(np.ones((N, D)), P)) < 1e-30


def test_absent_clients_leave_whatever_they_hold():
    g = drawn()
    g[2] = np.nan
    assert np.isfinite(gradients.dissimilarity(g, P)) and np.isfinite(gradients.pairwise(g, P))
    assert np.isfinite(gradients.b_squared(g, P))


def test_digits_are_kept_near_iid_gradients():
    """|gbar|^2 / G^2 = 10^6 in float32: the difference of squares has none left."""
    apart = np.random.default_rng(1).integers(-3, 4, (64, 8)).astype(np.float32)
    g = apart + np.float32(2**11)
    spread, norm = by_hand(g.astype(np.float64), np.ones(64))
    assert 5e5 < norm / spread < 5e6
    np.testing.assert_allclose(gradients.dissimilarity(g), spread, rtol=1e-6)
    squares = float(np.mean((g**2).sum(axis=1)) - (g.mean(axis=0) ** 2).sum())
    assert abs(squares / spread - 1) > 1e-3, "the other form would have done"


@pytest.mark.parametrize("double", [False, True])
def test_b_is_infinite_where_only_rounding_is_left_of_the_mean(double):
    with jax.enable_x64(double):
        g = drawn(2, 1000)
        stationary = g - g.mean(axis=0)
        assert np.isinf(gradients.b_squared(stationary)) and np.isinf(gradients.diversity(stationary))
        assert np.isinf(gradients.b_squared(np.zeros((3, 2))))
        near = stationary + 1e-3
        ratio = by_hand(near, np.ones(1000))
        np.testing.assert_allclose(gradients.b_squared(near), 1 + ratio[0] / ratio[1], rtol=1e-2)


def test_under_jit_and_vmap(x64):
    many = np.stack([drawn(seed) for seed in range(3)])
    found = jax.jit(jax.vmap(lambda g: gradients.dissimilarity(g, P)))(many)
    np.testing.assert_allclose(found, [by_hand(g, P)[0] for g in many], rtol=1e-12)


def test_bad_input():
    g = drawn()
    with pytest.raises(ValueError, match=r"p must be one share for each of 7 clients, got shape \(3,\)"):
        gradients.dissimilarity(g, np.ones(3))
    with pytest.raises(ValueError, match="p must be >= 0"):
        gradients.b_squared(g, -P)
    with pytest.raises(TypeError, match="gradients must hold one gradient a client"):
        gradients.dissimilarity(jnp.zeros(()))
    with pytest.raises(ValueError, match="one leading axis of all clients"):
        gradients.dissimilarity({"a": jnp.zeros((2, 1)), "b": jnp.zeros((3, 1))})

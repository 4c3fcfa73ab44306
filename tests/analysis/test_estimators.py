"""Estimates from minibatches: unbiased, over every batch that can be drawn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het.analysis import alignment, estimators, gradients, variances

SIZES, B, D = (3, 4, 2), 2, 3
P = np.array([0.5, 0.3, 0.2])


def made():
    """Gradients of every row of three clients, and the true (G^2, |gbar|^2)."""
    rng = np.random.default_rng(3)
    rows = [rng.normal(size=(n, D)) + rng.normal(size=D) for n in SIZES]
    means = np.array([g.mean(axis=0) for g in rows])
    centre = P @ means
    return rows, float(P @ ((means - centre) ** 2).sum(axis=1)), float((centre**2).sum())


def outcomes(rows, replacement, draws=1):
    """Every outcome of `draws` batches of B rows a client, all equally likely: [O, draws, N, B, D]."""
    batches = []
    for g in rows:
        places = range(len(g))
        picked = itertools.product(places, repeat=B) if replacement else itertools.combinations(places, B)
        batches.append([g[list(batch)] for batch in picked])
    each = [list(itertools.product(one, repeat=draws)) for one in batches]
    return np.array([np.stack(outcome, axis=1) for outcome in itertools.product(*each)])


@pytest.mark.parametrize("replacement", [True, False])
def test_corrected_estimates_are_unbiased_and_naive_ones_are_not(x64, replacement):
    rows, spread, norm = made()
    sizes = None if replacement else np.array(SIZES)
    batches = outcomes(rows, replacement)[:, 0]
    assert len(batches) == (9 * 16 * 4 if replacement else 3 * 6 * 1)
    found = jax.jit(jax.vmap(lambda g: estimators.corrected(g, P, sizes)))(batches)
    np.testing.assert_allclose(np.mean(found.G2), spread, rtol=1e-12)
    np.testing.assert_allclose(np.mean(found.mean_gradient_squared), norm, rtol=1e-12)
    single = np.array([((g - g.mean(axis=0)) ** 2).sum(axis=1).mean() for g in rows])
    noise = np.asarray(variances.of_batches(single, np.array(SIZES), B, replacement=replacement))
    seen = jax.vmap(lambda g: estimators.batch_noise(g, sizes))(batches)
    np.testing.assert_allclose(np.mean(seen, axis=0), noise, rtol=1e-12, atol=1e-15)
    plain = jax.vmap(lambda g: estimators.naive(g, P))(batches)
    np.testing.assert_allclose(np.mean(plain.G2), spread + P * (1 - P) @ noise, rtol=1e-12)
    np.testing.assert_allclose(np.mean(plain.mean_gradient_squared), norm + P**2 @ noise, rtol=1e-12)
    assert np.mean(plain.G2) > 1.05 * spread


def test_corrected_estimates_can_be_negative(x64):
    """Clipping them before the average would bring the bias back."""
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(n, D)) for n in SIZES]
    found = jax.vmap(lambda g: estimators.corrected(g, P).G2)(outcomes(rows, True)[:, 0])
    assert float(jnp.min(found)) < 0


@pytest.mark.parametrize("replacement", [True, False])
def test_split_batches_are_unbiased(x64, replacement):
    """Two independent batches a client, clients taken two at a time to keep the outcomes few."""
    rows, _, _ = made()
    p = np.array([0.7, 0.3])
    means = np.array([g.mean(axis=0) for g in rows[:2]])
    centre = p @ means
    halves = outcomes(rows[:2], replacement, draws=2).mean(axis=3)
    found = jax.jit(jax.vmap(lambda h: estimators.split_batch(h[0], h[1], p)))(halves)
    np.testing.assert_allclose(np.mean(found.G2), p @ ((means - centre) ** 2).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(np.mean(found.mean_gradient_squared), (centre**2).sum(), rtol=1e-12)


def test_halves_of_one_batch_without_replacement_are_biased_as_documented(x64):
    rng = np.random.default_rng(5)
    rows = [rng.normal(size=(4, D)), rng.normal(size=(4, D))]
    p = np.array([0.6, 0.4])
    orders = list(itertools.permutations(range(4), 2))  # one row in each half
    halves = np.array([[[rows[0][a[h]], rows[1][b[h]]] for h in (0, 1)] for a in orders for b in orders])
    found = jax.vmap(lambda h: estimators.split_batch(h[0], h[1], p).G2)(halves)
    means = np.array([g.mean(axis=0) for g in rows])
    spread = p @ ((means - p @ means) ** 2).sum(axis=1)
    over = np.array([((g - g.mean(axis=0)) ** 2).sum() / 3 for g in rows]) / 4
    np.testing.assert_allclose(np.mean(found), spread - p * (1 - p) @ over, rtol=1e-12)


def test_split_cosines_take_the_attenuation_away(x64):
    """Averages of numerators and of factors give the cosine; that of one batch is attenuated."""
    rows, _, _ = made()
    halves = outcomes(rows[:2], True, draws=2).mean(axis=3)
    means = np.array([g.mean(axis=0) for g in rows[:2]])
    exact = alignment.cosine_matrix(means)[0, 1]
    numerator = np.mean((halves[:, 0, 0] * halves[:, 1, 1]).sum(axis=1))
    factors = [np.mean((halves[:, 0, k] * halves[:, 1, k]).sum(axis=1)) for k in (0, 1)]
    np.testing.assert_allclose(numerator / np.sqrt(factors[0] * factors[1]), exact, rtol=1e-12)
    np.testing.assert_allclose(alignment.split_cosines(means, means)[0, 1], exact, rtol=1e-12)
    opposed = alignment.split_cosines(np.array([[1.0, 0], [0, 1]]), np.array([[-1.0, 0], [0, 1]]))
    assert np.isnan(opposed[0]).all() and float(opposed[1, 1]) == 1


def test_a_batch_of_all_rows_is_exact(x64):
    g = np.random.default_rng(1).normal(size=(3, 4, D))
    found = estimators.corrected(g, P, np.full(3, 4))
    np.testing.assert_allclose(found.G2, gradients.dissimilarity(g.mean(axis=1), P), rtol=1e-12)


def test_float32_and_absent_clients():
    g = np.random.default_rng(1).normal(size=(3, 4, D)).astype(np.float32)
    g[1] = np.nan
    p = np.array([0.5, 0, 0.5])
    kept = estimators.corrected(g[[0, 2]])
    for ours, theirs in zip(estimators.corrected(g, p), kept):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_bad_input():
    g = np.zeros((3, 1, D))
    with pytest.raises(ValueError, match="at least 2 rows a client, got 1"):
        estimators.corrected(g)
    with pytest.raises(ValueError, match="sizes must be >= 2"):
        estimators.corrected(np.zeros((3, 2, D)), None, [4, 1, 2])
    with pytest.raises(ValueError, match="samples must hold gradients of single rows"):
        estimators.corrected(np.zeros((3,)))

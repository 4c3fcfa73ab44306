"""Cosines of updates and linear CKA: identities, invariances, bias."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.analysis.alignment import alignment, cosine_matrix, linear_cka


def updates(seed=0):
    return np.random.default_rng(seed).normal(size=(6, 9)) + 0.5


@pytest.mark.parametrize("double, tolerance", [(True, 1e-12), (False, 1e-5)])
def test_cosines_and_the_norm_of_their_mean(double, tolerance):
    with jax.enable_x64(double):
        d, p = updates(), np.arange(1, 7) / 21
        found = np.asarray(cosine_matrix(d), np.float64)
        length = np.linalg.norm(d, axis=1)
        np.testing.assert_allclose(found, d @ d.T / np.outer(length, length), rtol=tolerance, atol=tolerance)
        assert (np.diagonal(found) == 1).all() and (found == found.T).all()
        weights = np.outer(p * length, p * length)
        np.testing.assert_allclose((weights * found).sum(), ((p @ d) ** 2).sum(), rtol=10 * tolerance)
        seen = alignment(cosine_matrix(d))
        np.testing.assert_allclose(seen.mean, (found.sum() - 6) / 30, rtol=10 * tolerance)
        spectrum = np.linalg.eigvalsh(found)[::-1]
        np.testing.assert_allclose(seen.eigenvalues, spectrum, rtol=1e-9 if double else 1e-4, atol=tolerance)


def test_clients_that_did_not_move_have_no_direction(x64):
    d = updates()
    d[[1, 4]] = 0
    found = np.asarray(cosine_matrix(d))
    assert np.isnan(found[[1, 4]]).all() and np.isnan(found[:, [1, 4]]).all()
    here = [0, 2, 3, 5]
    rest, kept = alignment(cosine_matrix(d[here])), alignment(found)
    np.testing.assert_allclose(kept.mean, rest.mean, rtol=1e-12)
    np.testing.assert_allclose(kept.eigenvalues[:4], rest.eigenvalues, rtol=1e-9)
    assert np.isnan(kept.eigenvalues[4:]).all()
    nobody = alignment(cosine_matrix(np.zeros((3, 2))))
    assert np.isnan(nobody.mean) and np.isnan(nobody.eigenvalues).all()


def test_groups_show_in_the_eigenvalues(x64):
    d = np.repeat(np.eye(3), [4, 2, 2], axis=0)
    np.testing.assert_allclose(alignment(cosine_matrix(d)).eigenvalues, [4, 2, 2, 0, 0, 0, 0, 0], atol=1e-12)


def test_tiny_updates_keep_their_direction():
    """Squares of 1e-25 vanish in float32."""
    d = (1e-25 * np.array([[1.0, 0], [1, 1], [-1, 0]])).astype(np.float32)
    expected = [[1, 0.5**0.5, -1], [0.5**0.5, 1, -(0.5**0.5)], [-1, -(0.5**0.5), 1]]
    np.testing.assert_allclose(cosine_matrix(d), expected, rtol=1e-6)


def test_the_measure_in_a_round(x64):
    rng = np.random.default_rng(4)
    sizes = (7, 0, 12, 9, 5)
    pool = fh.pool(rng.normal(size=(33, 3)), rng.integers(0, 3, 33), num_classes=3)
    parts = np.split(np.arange(33), np.cumsum(sizes)[:-1])
    federation = fh.from_index_lists(pool, None, parts, test=0.0)
    algorithm = fh.algorithms.fedavg(fh.models.softmax(pool), fh.local.sgd(0.3, batch_size=4))
    measures = {"all": fh.analysis.update_cosines(), "some": fh.analysis.update_cosines(8)}
    sampler = fh.sampling.fixed([0, 1, 3, 4])
    round_fn = fh.make_round(sampler, fh.executors.vmapped(), measures)
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    _, log = jax.jit(round_fn)(algorithm, state, federation)
    found = np.asarray(log["measures"]["all"]["cosines"])
    plain = fh.make_round(sampler, fh.executors.vmapped())
    ends = [fh.replay(plain, algorithm, state, federation, k).local.params for k in (0, 3, 4)]
    d = np.array([np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(end)]) for end in ends])
    here = [0, 2, 3]
    np.testing.assert_allclose(found[np.ix_(here, here)], cosine_matrix(d), rtol=1e-9)
    assert np.isnan(found[1]).all() and log["measures"]["some"]["cosines"].shape == (4, 4)
    np.testing.assert_allclose(log["measures"]["all"]["mean"], alignment(cosine_matrix(d)).mean, rtol=1e-9)
    with pytest.raises(TypeError, match="measure update cosines in a round"):
        fh.survey(fh.analysis.update_cosines(), algorithm, state, federation)
    with pytest.raises(ValueError, match="size must be >= 1"):
        fh.analysis.update_cosines(0)


def test_cka_by_hand_and_its_invariances(x64):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    gram = lambda u: u @ u.T  # noqa: E731
    expected = (gram(a) * gram(b)).sum() / np.linalg.norm(gram(a)) / np.linalg.norm(gram(b))
    np.testing.assert_allclose(linear_cka(x, y), expected, rtol=1e-12)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    for unbiased in (False, True):
        once = linear_cka(x, y, unbiased=unbiased)
        np.testing.assert_allclose(linear_cka(3 * x @ turn + 7, y, unbiased=unbiased), once, rtol=1e-10)
        np.testing.assert_allclose(linear_cka(x, 5 * x @ turn, unbiased=unbiased), 1, rtol=1e-10)


def test_the_unbiased_hsic_over_all_samples_of_a_population(x64):
    """Its average over every ordered 4-sample of six points is that of the population's distinct quadruples.

    For distinct i, j, q, r the kernel of the U-statistic is k_ij (l_ij + l_qr - 2 l_iq).
    """
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))
    k, l_ = x @ x.T, y @ y.T
    terms = [
        k[i, j] * (l_[i, j] + l_[q, r] - 2 * l_[i, q]) for i, j, q, r in itertools.permutations(range(6), 4)
    ]
    own = [k[i, j] * (k[i, j] + k[q, r] - 2 * k[i, q]) for i, j, q, r in itertools.permutations(range(6), 4)]
    other = [
        l_[i, j] * (l_[i, j] + l_[q, r] - 2 * l_[i, q]) for i, j, q, r in itertools.permutations(range(6), 4)
    ]
    expected = np.mean(terms) / np.sqrt(np.mean(own) * np.mean(other))
    np.testing.assert_allclose(linear_cka(x, y, unbiased=True), expected, rtol=1e-10)


def test_few_examples_of_many_features_look_alike_unless_unbiased(x64):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 50, 10, 40))
    plain = np.asarray(jax.vmap(linear_cka)(x, y))
    fair = np.asarray(jax.vmap(lambda a, b: linear_cka(a, b, unbiased=True))(x, y))
    assert plain.mean() > 0.7 and abs(np.nanmean(fair)) < 0.1


def test_cka_of_a_constant_and_bad_input():
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    assert np.isnan(linear_cka(jnp.ones((5, 3)), x))
    with pytest.raises(ValueError, match="of the same n >= 2 examples"):
        linear_cka(x, x[:4])
    with pytest.raises(ValueError, match="of the same n >= 4 examples"):
        linear_cka(x[:3], x[:3], unbiased=True)

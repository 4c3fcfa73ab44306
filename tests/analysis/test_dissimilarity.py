"""Gradient dissimilarity against NumPy, in a round and in a survey."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.models import Softmax

import fedjax_het as fh
from fedjax_het.models import quadratic, quadratic_federation

SIZES = (7, 0, 12, 300, 5)
FEATURES, CLASSES = 3, 3
survey = jax.jit(fh.survey)


def data():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(sum(SIZES), FEATURES)), rng.integers(0, CLASSES, sum(SIZES))
    pool = fh.pool(x, y, num_classes=CLASSES)
    parts = np.split(rng.permutation(len(y)), np.cumsum(SIZES)[:-1])
    return pool, fh.from_index_lists(pool, None, parts, test=0.0), parts


def by_hand(pool, parts, params, ids, weights):
    """(G^2, |mean gradient|^2) from every client's full gradient."""
    x, y = np.asarray(pool.x, np.float64), np.asarray(pool.y)
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    found = [Softmax.gradient(params, x[parts[k]], y[parts[k]]) for k in ids]
    flat = np.array([np.concatenate([g["kernel"].ravel(), g["bias"]]) for g in found])
    weights = np.asarray(weights, float) / np.sum(weights)
    mean = weights @ flat
    return float(weights @ ((flat - mean) ** 2).sum(axis=1)), float((mean**2).sum())


def started(algorithm, federation, sampler, executor=None):
    measures = {"spread": fh.analysis.gradient_dissimilarity()}
    round_fn = fh.make_round(sampler, executor or fh.executors.vmapped(), measures)
    return round_fn, fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)


def same(values, spread, norm, tolerance=1e-9):
    np.testing.assert_allclose(values["G2"], spread, rtol=tolerance)
    np.testing.assert_allclose(values["mean_gradient_squared"], norm, rtol=tolerance)
    np.testing.assert_allclose(values["B2"], 1 + spread / norm, rtol=tolerance)


def test_in_a_round_and_in_a_survey(x64):
    """Partial participation, an empty client, one of more rows than a chunk; two rounds."""
    pool, federation, parts = data()
    algorithm = fh.algorithms.fedavg(fh.models.softmax(pool), fh.local.sgd(0.3, batch_size=8))
    cohorts = [[0, 1, 3], [2, 3, 4]]
    round_fn, state = started(algorithm, federation, fh.sampling.scripted(cohorts))
    for cohort in cohorts:
        ids = [k for k in cohort if SIZES[k]]
        expected = by_hand(pool, parts, state.server.params["head"], ids, [SIZES[k] for k in ids])
        asked = survey(
            fh.analysis.gradient_dissimilarity(), algorithm, state, federation, jnp.array(cohort, jnp.int32)
        )
        same(asked, *expected)
        state, log = jax.jit(round_fn)(algorithm, state, federation)
        same(log["measures"]["spread"], *expected)
    everyone = survey(fh.analysis.gradient_dissimilarity(), algorithm, state, federation)
    held = [k for k in range(5) if SIZES[k]]
    same(everyone, *by_hand(pool, parts, state.server.params["head"], held, [SIZES[k] for k in held]))


def test_weights_are_the_cohorts(x64):
    pool, federation, parts = data()
    algorithm = fh.algorithms.scaffold(fh.models.softmax(pool), fh.local.sgd(0.3, batch_size=8))
    expected = by_hand(pool, parts, algorithm_start(algorithm, federation), [0, 2, 3, 4], np.ones(4))
    round_fn, state = started(algorithm, federation, fh.sampling.everyone(), fh.executors.chunked(2))
    _, log = jax.jit(round_fn)(algorithm, state, federation)
    same(log["measures"]["spread"], *expected)


def algorithm_start(algorithm, federation):
    _, state = started(algorithm, federation, fh.sampling.everyone())
    return state.server.params["head"]


def test_each_clients_own_model_where_there_is_no_other(x64):
    pool, federation, parts = data()
    algorithm = fh.algorithms.local_only(fh.models.softmax(pool), fh.local.sgd(0.3, batch_size=8))
    round_fn, state = started(algorithm, federation, fh.sampling.everyone())
    state, _ = jax.jit(round_fn)(algorithm, state, federation)
    values = survey(fh.analysis.gradient_dissimilarity(), algorithm, state, federation)
    x, y = np.asarray(pool.x), np.asarray(pool.y)
    flat, weights = [], []
    for k in (0, 2, 3, 4):
        own = {name: np.asarray(leaf)[k] for name, leaf in state.clients.params["head"].items()}
        gradient = Softmax.gradient(own, x[parts[k]], y[parts[k]])
        flat.append(np.concatenate([gradient["kernel"].ravel(), gradient["bias"]]))
        weights.append(SIZES[k] / sum(SIZES))
    mean = np.array(weights) @ np.array(flat)
    spread = np.array(weights) @ ((np.array(flat) - mean) ** 2).sum(axis=1)
    same(values, spread, (mean**2).sum())


def test_it_changes_nothing_of_the_training():
    pool, federation, _ = data()
    algorithm = fh.algorithms.fedavg(fh.models.softmax(pool), fh.local.sgd(0.3, batch_size=8))
    round_fn, state = started(algorithm, federation, fh.sampling.everyone())
    measured, _ = jax.jit(round_fn)(algorithm, state, federation)
    plain = dataclasses.replace(round_fn, measures={})
    unmeasured, _ = jax.jit(plain)(algorithm, state, federation)
    for a, b in zip(jax.tree.leaves(measured.server), jax.tree.leaves(unmeasured.server)):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("how", ["vmapped", "looped", "chunked", "sharded"])
@pytest.mark.parametrize("clients", [8, 5])
def test_six_digits_are_kept_near_iid_data(how, clients):
    """|mean gradient|^2 / G^2 = 10^6 in float32, in each of six rounds from the first on, and in a survey.

    The gradients w - a_k are one rounding each, the same in NumPy (sizes are powers of two, so that the means
    over rows add none): what is compared is what the sums over clients keep.
    """
    apart = np.array([-2.0, -1, 0, 1, 3, 5, -3, -1])[:, None] * [[1.0, -1.0]]
    points, sizes = np.float32(4096 + apart), np.array([1, 2, 1, 4, 1, 1, 2, 1])
    federation = quadratic_federation(np.tile(np.eye(2), (8, 1, 1)), points, sizes=sizes)
    problem = quadratic(fh.Pool(federation.x, federation.y, federation.spec.pool))
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.03, batch_size=None))
    executor = getattr(fh.executors, how)(*[3] if how == "chunked" else [])
    round_fn, state = started(algorithm, federation, fh.sampling.uniform(clients), executor)
    run = jax.jit(round_fn)
    for _ in range(6):
        w = np.asarray(state.server.params["w"])
        assert w.dtype == np.float32
        after, log = run(algorithm, state, federation)
        ids = np.asarray(log["id"])
        asked = survey(fh.analysis.gradient_dissimilarity(), algorithm, state, federation, jnp.asarray(ids))
        g, weights = np.float64(w - points[ids]), sizes[ids] / sizes[ids].sum()
        mean = weights @ g
        spread = weights @ ((g - mean) ** 2).sum(axis=1)
        assert 4e5 < (mean**2).sum() / spread < 2e7
        for values in (log["measures"]["spread"], asked):
            assert values["G2"].dtype == jnp.float32
            np.testing.assert_allclose(values["G2"], spread, rtol=1e-6)
            np.testing.assert_allclose(values["mean_gradient_squared"], (mean**2).sum(), rtol=1e-6)
        state = after


def test_a_reference_of_an_outlier_costs_no_digits_that_matter():
    """The heaviest client may be the one that is apart: 1/p_s bounds what that costs."""
    points = np.float32(4096 + np.array([[0.0], [0], [0], [0], [1], [2], [1], [100]]))
    sizes = np.array([1, 1, 1, 1, 1, 1, 1, 2])
    federation = quadratic_federation(np.ones((8, 1, 1)), points, sizes=sizes)
    problem = quadratic(fh.Pool(federation.x, federation.y, federation.spec.pool))
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.03, batch_size=None))
    round_fn, state = started(algorithm, federation, fh.sampling.everyone())
    _, log = jax.jit(round_fn)(algorithm, state, federation)
    weights = sizes / sizes.sum()
    spread = weights @ ((np.float64(points) - weights @ np.float64(points)) ** 2)
    np.testing.assert_allclose(log["measures"]["spread"]["G2"], spread[0], rtol=1e-6)


def test_no_gradient_at_all():
    federation = quadratic_federation(np.ones((2, 1, 1)), np.zeros((2, 1)))
    problem = quadratic(fh.Pool(federation.x, federation.y, federation.spec.pool))
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.1, batch_size=None))
    _, state = started(algorithm, federation, fh.sampling.everyone())
    values = survey(fh.analysis.gradient_dissimilarity(), algorithm, state, federation)
    assert float(values["G2"]) == 0 and float(values["mean_gradient_squared"]) == 0
    assert np.isinf(values["B2"])


@pytest.mark.parametrize("cohort", [[1], [1, 2]])
def test_empty_clients_have_no_say(cohort):
    pool, federation, _ = data()
    algorithm = fh.algorithms.fedavg(fh.models.softmax(pool), fh.local.sgd(0.3, batch_size=8))
    round_fn, state = started(algorithm, federation, fh.sampling.fixed(cohort))
    _, log = jax.jit(round_fn)(algorithm, state, federation)
    values = log["measures"]["spread"]
    assert float(values["G2"]) == pytest.approx(0, abs=1e-6)
    assert (float(values["mean_gradient_squared"]) > 0) == (len(cohort) == 2)

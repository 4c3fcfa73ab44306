"""Who takes part: draws, and the cohort that a round makes of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_het as fh
from fedjax_het import sampling
from fedjax_het.engine.rounds import draw

SIZES = np.array([4, 0, 3, 8, 1, 6])


@pytest.fixture(scope="module")
def federation():
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(SIZES.sum(), 2)), rng.integers(0, 2, SIZES.sum()), num_classes=2)
    parts = np.split(np.arange(SIZES.sum()), np.cumsum(SIZES)[:-1])
    return fh.from_index_lists(pool, None, parts, test=0.0)


def cohorts(sampler, federation, rounds=6, factory=fh.algorithms.fedavg, weighting=None, key=0, **numbers):
    """Cohorts of the first rounds."""
    pool = fh.Pool(federation.x, federation.y, federation.spec.pool)
    algorithm = factory(fh.models.softmax(pool), fh.local.sgd(0.1, batch_size=2), **numbers)
    round_fn = fh.make_round(sampler, fh.executors.vmapped(), weighting=weighting)
    state = fh.initial_state(algorithm, federation, key=jax.random.key(key), round_fn=round_fn)

    @jax.jit
    @jax.vmap
    def at(t):
        return draw(round_fn, algorithm, dataclasses.replace(state, round=t), federation)[0]

    return at(jnp.arange(rounds, dtype=jnp.int32))


def test_everyone_but_the_empty(federation):
    cohort = cohorts(sampling.everyone(), federation)
    np.testing.assert_array_equal(cohort.id, np.tile(np.arange(6), (6, 1)))
    np.testing.assert_array_equal(cohort.present, np.tile(SIZES > 0, (6, 1)))
    np.testing.assert_allclose(cohort.weight, np.tile(SIZES / SIZES.sum(), (6, 1)), rtol=1e-6)
    assert (np.asarray(cohort.work) == 1).all() and (np.asarray(cohort.multiplicity) == 1).all()
    assert (np.asarray(cohort.population) == 6).all() and (np.asarray(cohort.rows) == SIZES.sum()).all()


def test_uniform_draws_different_clients_in_ascending_order(federation):
    ids = np.asarray(cohorts(sampling.uniform(3), federation, rounds=50).id)
    assert (np.diff(ids, axis=1) > 0).all() and ids.min() == 0 and ids.max() == 5
    assert len({tuple(row) for row in ids}) > 10


def test_cohorts_depend_on_the_run_and_the_round_alone(federation):
    one = np.asarray(cohorts(sampling.uniform(3), federation).id)
    other = np.asarray(cohorts(sampling.uniform(3), federation, factory=fh.algorithms.scaffold).id)
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, np.asarray(cohorts(sampling.uniform(3), federation, key=1).id))


def test_weights_are_over_those_present(federation):
    cohort = cohorts(sampling.fixed([0, 1, 3]), federation, rounds=1)
    np.testing.assert_allclose(cohort.weight[0], [4 / 12, 0, 8 / 12], rtol=1e-6)
    np.testing.assert_array_equal(cohort.present[0], [True, False, True])
    assert float(cohort.mass) == pytest.approx(1)
    uniform = cohorts(sampling.fixed([0, 1, 3]), federation, rounds=1, weighting=fh.weighting.uniform())
    np.testing.assert_allclose(uniform.weight[0], [0.5, 0, 0.5], rtol=1e-6)
    given = fh.weighting.given([1.0, 9, 9, 3, 9, 9])
    weighted = cohorts(sampling.fixed([0, 1, 3]), federation, rounds=1, weighting=given)
    np.testing.assert_allclose(weighted.weight[0], [0.25, 0, 0.75], rtol=1e-6)


def test_a_cohort_of_empty_clients_is_no_cohort(federation):
    cohort = cohorts(sampling.fixed([1]), federation, rounds=1)
    assert not bool(cohort.present[0, 0]) and float(cohort.weight[0, 0]) == 0


def test_fixed_and_scripted_are_sorted(federation):
    np.testing.assert_array_equal(cohorts(sampling.fixed([5, 0, 2]), federation, rounds=2).id, [[0, 2, 5]] * 2)
    ids = cohorts(sampling.scripted([[5, 0], [1, 2], [4, 3]]), federation, rounds=4).id
    np.testing.assert_array_equal(ids, [[0, 5], [1, 2], [3, 4], [0, 5]])


def test_the_whole_population_may_be_drawn(federation):
    ids = np.asarray(cohorts(sampling.uniform(6), federation).id)
    np.testing.assert_array_equal(ids, np.tile(np.arange(6), (6, 1)))


def test_a_round_without_anybody_changes_only_its_number(federation):
    pool = fh.Pool(federation.x, federation.y, federation.spec.pool)
    algorithm = fh.algorithms.fedavg(
        fh.models.softmax(pool),
        fh.local.sgd(0.1, batch_size=2),
        server=fh.local.optimizer(optax.sgd, learning_rate=1.0, momentum=0.9),
    )
    round_fn = fh.make_round(sampling.scripted([[0, 3]]), fh.executors.vmapped())
    empty = fh.make_round(sampling.fixed([1]), fh.executors.vmapped())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    state, _ = jax.jit(round_fn)(algorithm, state, federation)
    after, log = jax.jit(empty)(algorithm, state, federation)
    assert int(after.round) == 2 and not np.asarray(log["present"]).any()
    for a, b in zip(jax.tree.leaves(state.server), jax.tree.leaves(after.server)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(after.seen.round, state.seen.round)

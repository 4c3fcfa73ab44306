"""Drawn clients that are late or never answer: the same ones for every policy and method."""

import jax
import numpy as np
import pytest
from drawing import SIZES, N, compiled, in_numpy

import fedjax_het as fh
from fedjax_het import sampling
from fedjax_het.engine.rounds import draw


def drawn(sampler, rounds=40, sizes=SIZES):
    return in_numpy(compiled(sampler, jax.random.key(3), rounds=rounds, sizes=sizes)[0])


@pytest.mark.parametrize("precision", ["single", "double"])
def test_as_many_are_late_as_in_the_authors_code(precision):
    """Their count of active clients, for every cohort up to 20 and all fractions that their runs have."""
    with jax.enable_x64(precision == "double"):
        for fraction in (0.0, 0.1, 0.25, 0.5, 0.9, 1.0):
            for many in (5, 10, 19, 20):
                late = drawn(
                    sampling.stragglers(sampling.everyone(), fraction, epochs=20), rounds=1, sizes=(1,) * many
                )
                assert (late.work[0] == 1).sum() == round(many * (1 - fraction)), (fraction, many)


def test_both_policies_have_the_same_stragglers():
    inner = sampling.uniform(5)
    plain = drawn(inner)
    kept, dropped = (
        drawn(sampling.stragglers(inner, 0.4, epochs=4, policy=policy)) for policy in ("keep", "drop")
    )
    np.testing.assert_array_equal(plain.id, kept.id)
    late = kept.work < 1
    np.testing.assert_array_equal(late.sum(axis=1), 2)
    assert set(np.round(4 * kept.work[late]).astype(int)) == {1, 2, 3}
    for row, ids, out in zip(dropped.id, plain.id, late):
        assert row.tolist() == [*ids[~out].tolist(), N, N]
    np.testing.assert_array_equal(dropped.work[dropped.id < N], 1)


def test_stragglers_are_counted_among_those_drawn():
    inner = sampling.bernoulli(0.4, slots=7)
    there, left = (drawn(s).id < N for s in (inner, sampling.stragglers(inner, 0.5, epochs=3, policy="drop")))
    expected = [round(int(many) * 0.5) for many in there.sum(axis=1)]
    np.testing.assert_array_equal(left.sum(axis=1), expected)
    assert len(set(expected)) > 2


def test_a_coin_belongs_to_the_client_not_to_the_cohort():
    everyone, some = (drawn(sampling.dropout(s, 0.5)) for s in (sampling.everyone(), sampling.uniform(5)))
    plain = drawn(sampling.uniform(5))
    for answering, ids, kept in zip(everyone.id, plain.id, some.id):
        np.testing.assert_array_equal(kept[kept < N], [k for k in ids if k in answering])


def test_chances_of_dropping_out_by_client():
    chance = np.arange(N) % 2
    ids = drawn(sampling.dropout(sampling.everyone(), chance.astype(float)))
    np.testing.assert_array_equal(ids.id, np.tile([0, 2, 4, 6, 8] + [N] * 5, (40, 1)))


def test_layers_multiply():
    """Stragglers around stragglers are late twice, and a client that drops out is nobody's straggler."""
    inner = sampling.stragglers(sampling.everyone(), 0.5, epochs=2)
    twice = drawn(sampling.stragglers(inner, 0.5, epochs=2))
    assert set(np.unique(twice.work).tolist()) == {0.25, 0.5, 1.0}  # own coins, so not just 1/4 and 1
    np.testing.assert_array_equal((drawn(inner).work < 1).sum(axis=1), 5)
    nested = drawn(sampling.stragglers(sampling.dropout(sampling.everyone(), 0.5), 1.0, epochs=2))
    assert (nested.work[nested.id < N] == 0.5).all() and (nested.work[nested.id == N] == 1).all()


@pytest.fixture(scope="module")
def round_of():
    """sampler, method -> (cohort, log of the first round)."""
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(sum(SIZES), 2)), rng.integers(0, 2, sum(SIZES)), num_classes=2)
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    federation = fh.from_index_lists(pool, None, parts, test=0.0)

    def one(sampler, method, **options):
        solver = fh.local.sgd(0.1, batch_size=5, epochs=4)
        algorithm = method(fh.models.softmax(pool), solver, **options)
        round_fn = fh.make_round(sampler, fh.executors.vmapped())
        state = fh.initial_state(algorithm, federation, key=jax.random.key(1), round_fn=round_fn)

        @jax.jit
        def first(state):
            return draw(round_fn, algorithm, state, federation)[0], round_fn(algorithm, state, federation)[1]

        return first.lower(state).compile()(state)

    return one


def test_stragglers_are_the_same_for_every_method_and_do_whole_epochs(round_of):
    keep = sampling.stragglers(sampling.uniform(6), 0.5, epochs=4)
    cohort, log = round_of(keep, fh.algorithms.fedprox, mu=0.1)
    work = np.asarray(cohort.work)
    sizes = np.asarray(SIZES)[np.asarray(cohort.id)]
    np.testing.assert_array_equal(log["info"]["steps"], np.round(4 * work) * np.ceil(sizes / 5))
    assert (work < 1).sum() == 3
    other, other_log = round_of(keep, fh.algorithms.scaffold)
    np.testing.assert_array_equal(cohort.id, other.id)
    np.testing.assert_array_equal(cohort.work, other.work)
    np.testing.assert_array_equal(log["info"]["steps"], other_log["info"]["steps"])


def test_weights_are_over_those_left(round_of):
    drop = sampling.stragglers(sampling.uniform(6), 0.5, epochs=4, policy="drop")
    cohort, log = round_of(drop, fh.algorithms.fedavg)
    assert 0 < int(log["present"].sum()) <= 3
    assert float(cohort.weight.sum()) == pytest.approx(1)
    assert not np.asarray(cohort.weight)[~np.asarray(log["present"])].any()

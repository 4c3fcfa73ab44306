"""Clients that did worst when last seen, in a run and by themselves."""

import jax
import jax.numpy as jnp
import numpy as np
from drawing import compiled, in_numpy

import fedjax_het as fh
from fedjax_het import sampling

ONES = (1,) * 6


def drawn(sampler, loss, sizes=ONES, rounds=20):
    draws, _ = compiled(
        sampler, jax.random.key(0), sizes=sizes, loss=np.asarray(loss, np.float32), rounds=rounds
    )
    return in_numpy(draws)


def test_of_all_candidates_the_largest_losses():
    ids = drawn(sampling.power_of_choice(2, candidates=6), [0.3, 0.9, 0.1, 0.5, 0.8, 0.2]).id
    np.testing.assert_array_equal(ids, np.tile([1, 4], (20, 1)))


def test_whoever_never_reported_goes_first():
    ids = drawn(sampling.power_of_choice(3, candidates=6), [0.3, 9e9, np.inf, 0.5, np.inf, 0.2]).id
    np.testing.assert_array_equal(ids, np.tile([1, 2, 4], (20, 1)))
    unseen = drawn(sampling.power_of_choice(2, candidates=6), [np.inf] * 6).id
    assert len({tuple(row) for row in unseen.tolist()}) > 5  # not by number


def test_as_many_candidates_as_places_ask_for_no_losses():
    sampler = sampling.power_of_choice(3, candidates=3)
    one, other = drawn(sampler, np.arange(6)), drawn(sampler, -np.arange(6))
    np.testing.assert_array_equal(one.id, other.id)


def test_an_empty_client_is_no_candidate():
    draws = drawn(sampling.power_of_choice(3, candidates=6), [np.inf] * 6, sizes=(5, 0, 0, 7, 0, 0))
    np.testing.assert_array_equal(draws.id, np.tile([0, 3, 6], (20, 1)))


def test_in_a_run_it_reads_what_clients_report():
    sizes = (24, 17, 9, 30, 12, 5)
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(sum(sizes), 3)), rng.integers(0, 3, sum(sizes)), num_classes=3)
    federation = fh.from_index_lists(
        pool, None, np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]), test=0.0
    )
    algorithm = fh.algorithms.fedavg(fh.models.softmax(pool), fh.local.sgd(0.1, batch_size=5))
    round_fn = fh.make_round(sampling.power_of_choice(2, candidates=6), fh.executors.vmapped())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    step = jax.jit(round_fn)
    for round_ in range(7):
        seen = np.asarray(state.seen.loss)
        state, log = step(algorithm, state, federation)
        ids = np.asarray(log["id"])
        if round_ < 3:
            assert np.isinf(seen[ids]).all()  # six clients, two a round
        else:
            assert seen[ids].min() >= np.delete(seen, ids).max()
        np.testing.assert_array_equal(state.seen.loss[ids], log["info"]["loss"])
    assert np.isfinite(state.seen.loss).all() and jnp.all(log["present"])

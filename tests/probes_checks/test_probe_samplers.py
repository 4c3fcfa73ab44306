"""Samplers with a memory, and with a random number of clients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes.bernoulli import bernoulli
from probes.blobs import SIZES, cut, pool_of
from probes.power_of_choice import power_of_choice
from probes.running import begin, one_round

import fedjax_het as fh

SOLVER = fh.local.sgd(0.1, batch_size=5)


def _start(sampler, sizes=SIZES):
    federation = cut(sizes)
    algorithm = fh.algorithms.scaffold(fh.models.softmax(pool_of(federation)), SOLVER)
    round_fn = fh.make_round(sampler, fh.executors.looped())
    state = begin(round_fn, algorithm, federation)
    return federation, algorithm, round_fn, state


def test_power_of_choice_remembers_and_prefers_the_worst():
    federation, algorithm, round_fn, state = _start(power_of_choice(2, candidates=6))
    drawn = np.zeros(6, int)
    for round_ in range(8):
        seen = np.asarray(state.seen.loss)
        state, log = one_round(round_fn, algorithm, state, federation)
        ids = np.asarray(log["id"])
        drawn[ids] += 1
        if round_ < 3:
            assert np.all(np.isinf(seen[ids]))  # whoever was never seen goes first
        else:
            assert seen[ids].min() >= np.delete(seen, ids).max()
    np.testing.assert_array_equal(state.sampler, drawn)
    assert state.sampler.dtype == jnp.int32


def test_power_of_choice_never_asks_an_empty_client_first():
    federation, algorithm, round_fn, state = _start(power_of_choice(3, candidates=5), (20, 0, 18, 17, 15, 0))
    for _ in range(4):
        state, log = one_round(round_fn, algorithm, state, federation)
        assert log["present"].all()


def test_power_of_choice_checks_its_numbers():
    with pytest.raises(ValueError, match="candidates must be >= 4"):
        power_of_choice(4, candidates=3)
    with pytest.raises(ValueError, match="candidates must be <= the number of clients, got 7 of 6"):
        _start(power_of_choice(4, candidates=7))


def test_bernoulli_cohorts_fit_their_slots():
    sampler = bernoulli(3, chance=0.3)
    ones = jnp.ones((8,), jnp.int32)
    losses = jnp.ones((8,), jnp.result_type(float))

    def one(round_):
        return sampler.draw((), jax.random.fold_in(jax.random.key(1), round_), round_, ones, losses)[0].id

    ids = np.asarray(jax.vmap(one)(jnp.arange(300, dtype=jnp.int32)))
    assert np.all(np.diff(ids, axis=1)[ids[:, 1:] < 8] > 0) and ids.max() == 8
    present = (ids < 8).sum(axis=1)
    # Binomial(8, 0.3) capped at 3: mean 2.1 - sum of the tail; none with probability 0.0576
    assert (present == 0).mean() == pytest.approx(0.0576, abs=0.045)
    times = np.bincount(ids[ids < 8], minlength=8)
    assert times.min() > 0.6 * times.mean() and times.max() < 1.4 * times.mean()


def test_an_empty_round_changes_the_round_number_alone():
    federation, algorithm, round_fn, state = _start(bernoulli(4, chance=0.0))
    after, log = one_round(round_fn, algorithm, state, federation)
    assert not log["present"].any() and int(after.round) == 1 and bool(log["sound"])
    for name in ("server", "clients", "seen"):
        for a, b in zip(jax.tree.leaves(getattr(state, name)), jax.tree.leaves(getattr(after, name))):
            np.testing.assert_array_equal(a, b)


def test_absent_slots_do_not_matter():
    results = []
    for slots in (4, 6):
        federation, algorithm, round_fn, state = _start(bernoulli(slots, chance=0.4))
        for _ in range(3):
            state, log = one_round(round_fn, algorithm, state, federation)
            assert log["present"].sum() <= 4
        results.append((state.server, state.clients, state.seen))
    for a, b in zip(*map(jax.tree.leaves, results)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

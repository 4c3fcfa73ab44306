"""Absent slots and empty rounds: a random number of clients in a fixed number of slots."""

import jax
import numpy as np
from probes.blobs import cut, pool_of
from probes.running import begin, one_round

import fedjax_het as fh

SOLVER = fh.local.sgd(0.1, batch_size=5)


def _start(sampler):
    federation = cut()
    algorithm = fh.algorithms.scaffold(fh.models.softmax(pool_of(federation)), SOLVER)
    round_fn = fh.make_round(sampler, fh.executors.looped())
    return federation, algorithm, round_fn, begin(round_fn, algorithm, federation)


def test_an_empty_round_changes_the_round_number_alone():
    federation, algorithm, round_fn, state = _start(fh.sampling.bernoulli(0.0, slots=4))
    after, log = one_round(round_fn, algorithm, state, federation)
    assert not log["present"].any() and int(after.round) == 1 and bool(log["sound"])
    for name in ("server", "clients", "seen"):
        for a, b in zip(jax.tree.leaves(getattr(state, name)), jax.tree.leaves(getattr(after, name))):
            np.testing.assert_array_equal(a, b)


def test_absent_slots_do_not_matter():
    results = []
    for slots in (4, 6):
        federation, algorithm, round_fn, state = _start(fh.sampling.bernoulli(0.4, slots=slots))
        for _ in range(3):
            state, log = one_round(round_fn, algorithm, state, federation)
            assert log["present"].sum() <= 4
        results.append((state.server, state.clients, state.seen))
    for a, b in zip(*map(jax.tree.leaves, results)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

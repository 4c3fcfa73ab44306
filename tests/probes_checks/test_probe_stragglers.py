"""Stragglers without work: the cohort's slots name them, and nothing else knows of them."""

import numpy as np
import pytest
from probes.blobs import cut, pool_of
from probes.running import begin, one_round
from probes.stragglers import idle

import fedjax_het as fh
from fedjax_het.engine.rounds import draw

SOLVER = fh.local.sgd(0.1, batch_size=5, epochs=4)


def _one_round(sampler):
    federation = cut()
    algorithm = fh.algorithms.fedavg(fh.models.softmax(pool_of(federation)), SOLVER)
    round_fn = fh.make_round(sampler, fh.executors.vmapped())
    state = begin(round_fn, algorithm, federation, seed=1)
    cohort, _ = draw(round_fn, algorithm, state, federation)
    after, log = one_round(round_fn, algorithm, state, federation)
    return cohort, after.server.params["head"]["kernel"], log


def test_no_work_is_the_same_as_an_absent_slot():
    everyone = fh.sampling.everyone()
    cohort, left, log = _one_round(idle(everyone, 0.5))
    _, dropped, drop_log = _one_round(fh.sampling.stragglers(everyone, 0.5, epochs=4, policy="drop"))
    worked = np.asarray(cohort.work) > 0
    np.testing.assert_array_equal(cohort.id, np.arange(6))
    np.testing.assert_array_equal(log["present"], worked)
    assert worked.sum() == drop_log["present"].sum() == 3
    assert float(cohort.weight.sum()) == pytest.approx(1) and not np.asarray(cohort.weight)[~worked].any()
    np.testing.assert_allclose(left, dropped, rtol=1e-5, atol=1e-7)

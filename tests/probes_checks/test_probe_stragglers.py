"""Stragglers: same cohorts, same coins for every method; keep, idle and drop are three different means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes.blobs import cut, pool_of
from probes.running import begin, one_round
from probes.stragglers import stragglers

import fedjax_het as fh
from fedjax_het.engine.rounds import draw

SOLVER = fh.local.sgd(0.1, batch_size=5, epochs=4)


def _draws(sampler, rounds=40, clients=8):
    key, ones = jax.random.key(3), jnp.ones((clients,), jnp.int32)
    losses = jnp.ones((clients,), jnp.result_type(float))

    def one(round_):
        return sampler.draw((), jax.random.fold_in(key, round_), round_, ones, losses)[0]

    return jax.tree.map(np.asarray, jax.vmap(one)(jnp.arange(rounds, dtype=jnp.int32)))


def test_cohorts_are_the_inner_samplers():
    inner = fh.sampling.uniform(5)
    plain, kept, idle, dropped = (
        _draws(s) for s in (inner, *(stragglers(inner, policy=p) for p in ("keep", "idle", "drop")))
    )
    np.testing.assert_array_equal(plain.id, kept.id)
    np.testing.assert_array_equal(plain.id, idle.id)
    late = idle.work == 0
    np.testing.assert_array_equal(late, kept.work < 1)
    assert 0.2 < late.mean() < 0.4 and np.all(kept.work[late] > 0)
    for row, drawn, out in zip(dropped.id, plain.id, late):
        assert row.tolist() == [*drawn[~out].tolist(), *[8] * out.sum()]  # ascending, absent slots last


def test_a_coin_belongs_to_the_client_not_to_the_slot():
    everyone, some = (
        _draws(stragglers(s, policy="idle")) for s in (fh.sampling.everyone(), fh.sampling.uniform(5))
    )
    for row, ids, work in zip(everyone.work, some.id, some.work):
        np.testing.assert_array_equal(row[ids], work)


def _one_round(policy):
    federation = cut()
    algorithm = fh.algorithms.fedavg(fh.models.softmax(pool_of(federation)), SOLVER)
    sampler = stragglers(fh.sampling.everyone(), fraction=0.5, policy=policy)
    round_fn = fh.make_round(sampler, fh.executors.vmapped())
    state = begin(round_fn, algorithm, federation, seed=1)
    cohort, _ = draw(round_fn, algorithm, state, federation)
    after, log = one_round(round_fn, algorithm, state, federation)
    return cohort, after.server.params["head"]["kernel"], log


def test_no_work_is_the_same_as_an_absent_slot():
    (idle, left, idle_log), (_, dropped, drop_log) = _one_round("idle"), _one_round("drop")
    worked = np.asarray(idle.work) > 0
    np.testing.assert_array_equal(idle_log["present"], worked)
    assert worked.sum() == drop_log["present"].sum() and not worked.all()
    assert float(idle.weight.sum()) == pytest.approx(1) and not np.asarray(idle.weight)[~worked].any()
    np.testing.assert_allclose(left, dropped, rtol=1e-5, atol=1e-7)


def test_partial_work_is_rounded_to_steps_and_kept():
    cohort, _, log = _one_round("keep")
    steps, work = np.asarray(log["info"]["steps"]), np.asarray(cohort.work)
    full = 4 * np.ceil(np.asarray(cut().train.size[0]) / 5)
    np.testing.assert_array_equal(steps, np.round(work * full))
    assert log["present"].all() and np.any(work < 1)


def test_unknown_policy():
    with pytest.raises(ValueError, match="policy must be one of"):
        stragglers(fh.sampling.everyone(), policy="late")

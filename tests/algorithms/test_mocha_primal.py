"""MOCHA's objective by gradients: against a loop, a linear system and the dual method."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes.blobs import pool_of, tasks
from reference import mocha as loops
from reference.models import Softmax
from reference.setting import COHORTS, RATE, SIZES, softmax_start, to_numpy
from taking import rows_of

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.algorithms import mocha, mocha_primal, task_covariance
from fedjax_het.engine.blocks import block
from fedjax_het.models import linear

many_rounds = jax.jit(block, static_argnames="rounds")


def begin(algorithm, federation, sampler, key):
    """(round, state)."""
    round_fn = fh.make_round(sampler, fh.executors.vmapped())
    return round_fn, fh.initial_state(algorithm, federation, key=key, round_fn=round_fn)


@pytest.mark.parametrize(("given", "x64"), [("learned", True), ("mean", True), ("learned", False)])
def test_the_primal_is_the_loop(settings, given, x64):
    """A client's own column is fresh at each of its steps, the others' of the round's start."""
    setting, count = settings[x64], len(SIZES)
    mean = np.eye(count) - 1 / count
    with jax.enable_x64(x64):
        algorithm = mocha_primal(
            setting.problem,
            setting.solver(),
            strength=0.02,
            precision="learned" if given == "learned" else mean,
            inner=2,
            jitter=0.05,
        )
        round_fn, state = begin(algorithm, setting.federation, fh.sampling.scripted(COHORTS), setting.key)
        start = jax.tree.map(
            lambda value: jnp.asarray(np.tile(value, (count, *[1] * np.ndim(value))), jnp.result_type(float)),
            {"head": softmax_start()},
        )
        state = dataclasses.replace(state, server=dataclasses.replace(state.server, params=start))
        first = np.asarray(state.server.precision, np.float64)
        state, _ = many_rounds(round_fn, algorithm, state, setting.federation, rounds=3)
    covering = {"inner": 2, "floor": 1e-7, "jitter": 0.05} if given == "learned" else {}
    own, precision = loops.primal(
        Softmax,
        softmax_start(),
        setting.x,
        setting.y,
        setting.held,
        setting.batches,
        COHORTS,
        rate=RATE,
        strength=0.02,
        precision=first,
        **covering,
    )
    for k, params in enumerate(own):
        setting.same(to_numpy(tree.take(state.server.params, k)["head"]), params)
    loose = {"rtol": setting.tolerance * 10, "atol": setting.tolerance * 10} if not x64 else {"rtol": 1e-9}
    np.testing.assert_allclose(state.server.precision, precision, **loose)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["mean", "covariance"])
def test_the_primal_ends_where_the_linear_system_and_the_dual_do(kind):
    """I - 11'/N has no Sigma, so only the primal can take it: mean-regularised multi-task learning."""
    federation = tasks()
    held = [rows_of(federation, k) for k in range(6)]
    x, y = np.asarray(federation.x), np.asarray(federation.y)
    problem = linear(pool_of(federation), bias=False)
    prior = task_covariance.mean_regularised(6, ridge=0.2)
    precision = np.eye(6) - 1 / 6 if kind == "mean" else np.linalg.inv(np.asarray(prior))
    strength = 0.5 if kind == "mean" else 0.05
    algorithm = mocha_primal(
        problem, fh.local.sgd(0.15, batch_size=None, epochs=1), strength=strength, precision=precision
    )
    key = jax.random.key(0)
    round_fn, state = begin(algorithm, federation, fh.sampling.everyone(), key)
    state, _ = many_rounds(round_fn, algorithm, state, federation, rounds=1500)
    got = np.asarray(state.server.params["head"]["kernel"])[..., 0]
    best = loops.ridges(x, y, held, strength=strength, precision=precision)
    np.testing.assert_allclose(got, best, 0, 1e-9)
    if kind == "covariance":
        solver = fh.local.sgd(0.1, batch_size=4, epochs=3)
        twin = mocha(problem, solver, prior=prior, strength=strength)
        round_fn, other = begin(twin, federation, fh.sampling.everyone(), key)
        other, _ = many_rounds(round_fn, twin, other, federation, rounds=400)
        served = np.asarray(other.server.relation) @ np.asarray(other.server.images) / strength
        np.testing.assert_allclose(served, got, 0, 1e-9)

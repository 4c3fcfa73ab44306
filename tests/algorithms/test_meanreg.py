"""Mean-regularised models: against a NumPy loop, and at the joint minimum of quadratics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import quadratics
from reference.late import late
from reference.models import Softmax, TanhNetwork
from reference.regularised import joint_minimum, meanreg
from reference.setting import COHORTS, RATE, SIZES, flat_network, to_numpy

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.analysis import oracles
from fedjax_het.engine.blocks import block
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.models.losses import defaults
from fedjax_het.pool import Pool
from fedjax_het.problem import Facts, Model, Problem

many_rounds = jax.jit(block, static_argnames="rounds")
_initial = jax.jit(
    lambda round_fn, algorithm, federation, key: fh.initial_state(
        algorithm, federation, key=key, round_fn=round_fn
    )
)

ROWS = np.array([1, 2, 3, 6])


def close(got, expected, digits=1e-9):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=0, atol=digits)


def of(federation):
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool))


# --- against the loop -----------------------------------------------------------------------------------------

WORK = [[1, 1, 0.1, 1, 0.5], [0.2, 0.5, 1, 1, 0.7], [1, 0.3, 0.5, 0.1, 1]]
"""Fractions of work in `COHORTS`; client 1 takes none of its two steps in the second round."""


@pytest.mark.parametrize(
    ("lam", "momentum", "x64", "partial"),
    [(0.8, None, True, True), (0.8, 0.5, True, False), (0.8, 0.5, False, True)],
)
def test_it_is_the_loop(settings, lam, momentum, x64, partial):
    """`partial`: clients stop part of the way, or before the first step."""
    setting = settings[x64]
    network, model = (setting.network, TanhNetwork) if x64 else (setting.problem, Softmax)
    flat = flat_network if x64 else (lambda params: to_numpy(params["head"]))
    done = [[0] * len(SIZES) for _ in COHORTS]
    for t, cohort in enumerate(COHORTS):
        for k, work in zip(cohort, WORK[t]):
            done[t][k] = int(np.round((work if partial else 1) * len(setting.batches[t][k])))
    with jax.enable_x64(x64):
        algorithm = fh.algorithms.meanreg(network, setting.solver(momentum), lam=lam)
        sampler = late(COHORTS, WORK) if partial else fh.sampling.scripted(COHORTS)
        round_fn = fh.make_round(sampler, fh.executors.vmapped(), weighting=fh.weighting.uniform())
        first = _initial(round_fn, algorithm, setting.federation, setting.key)
        state, log = many_rounds(round_fn, algorithm, first, setting.federation, rounds=len(COHORTS))
    numbers = {"rate": RATE, "lam": lam, "momentum": momentum or 0.0, "done": done}
    start = flat(first.server.params)
    mean, own = meanreg(model, start, setting.x, setting.y, setting.held, setting.batches, COHORTS, **numbers)
    setting.same(flat(state.server.params), mean)
    for k, params in enumerate(own):
        setting.same(flat(tree.take(state.clients.params, k)), params)
    taken = [[done[t][k] for k in cohort] for t, cohort in enumerate(COHORTS)]
    np.testing.assert_array_equal(log["info"]["steps"], taken)


# --- quadratics -----------------------------------------------------------------------------------------------


def placed(state, mean, own):
    """The state with these models."""
    server = dataclasses.replace(state.server, params={"w": jnp.asarray(mean)})
    return dataclasses.replace(state, server=server, clients=Model({"w": jnp.asarray(own)}, ()))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("lam", "steps"), [(0.6, 1), (0.6, 7), (30.0, 2)])
def test_its_fixed_point_is_the_joint_minimum_whoever_takes_part(lam, steps):
    """And w_bar is the minimum of the envelopes."""
    A, a = quadratics.functions()
    mean, own = joint_minimum(A, a, ROWS, lam)
    functions = oracles.quadratics(A, a, weights=ROWS)
    close(oracles.envelope(functions, lam).optimum, mean, 1e-12)
    federation = quadratic_federation(A, a, sizes=ROWS)
    round_fn = fh.make_round(fh.sampling.uniform(2), fh.executors.vmapped())
    solver = fh.local.sgd(1.5 / (lam + 3), batch_size=None, steps=steps)
    algorithm = fh.algorithms.meanreg(of(federation), solver, lam=lam)
    start = _initial(round_fn, algorithm, federation, jax.random.key(0))
    stayed, _ = many_rounds(round_fn, algorithm, placed(start, mean, own), federation, rounds=50)
    close(stayed.server.params["w"], mean, 1e-12)
    close(stayed.clients.params["w"], own, 1e-12)
    reached, _ = many_rounds(round_fn, algorithm, start, federation, rounds=3000 if lam > 1 else 600)
    close(reached.server.params["w"], mean)
    close(reached.clients.params["w"], own)


@pytest.mark.usefixtures("x64")
def test_lambda_moves_everyone_from_alone_to_the_one_minimum():
    A, a = quadratics.functions()
    best = quadratics.optimum(A, a, ROWS / ROWS.sum())
    spread, bias = [], []
    for lam in (1e-3, 1e-1, 1e1, 1e3):
        mean, own = joint_minimum(A, a, ROWS, lam)
        spread.append(np.linalg.norm(own - mean))
        bias.append(np.linalg.norm(mean - best))
        federation = quadratic_federation(A, a, sizes=ROWS)
        round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
        solver = fh.local.sgd(1 / (lam + 3), batch_size=None, steps=3)
        algorithm = fh.algorithms.meanreg(of(federation), solver, lam=lam)
        state = placed(_initial(round_fn, algorithm, federation, jax.random.key(0)), mean, own)
        state, _ = many_rounds(round_fn, algorithm, state, federation, rounds=20)
        close(state.clients.params["w"], own, 1e-11)
    assert spread == sorted(spread, reverse=True) and spread[-1] < 0.01
    assert bias == sorted(bias, reverse=True) and bias[-1] < 0.01


# --- who keeps what -------------------------------------------------------------------------------------------


def _init(key):
    return Model({"w": jax.random.normal(key, (2,))}, {"batches": jnp.ones(())})


def _apply(params, buffers, x, key=None, train=False):
    return x @ params["w"][:, None], {"batches": buffers["batches"] + float(train)}


@pytest.mark.parametrize("buffers", ["averaged", "local"])
def test_buffers_go_with_the_models_and_newcomers_train_at_once(buffers):
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(12, 2)), rng.normal(size=(12, 1)), task="regression")
    federation = fh.from_index_lists(pool, None, np.split(np.arange(12), [5, 6, 10]), test=0.0)
    losses, metrics = defaults("regression")
    problem = Problem(_init, _apply, losses, metrics, Facts("counting", buffers=buffers))
    algorithm = fh.algorithms.meanreg(problem, fh.local.sgd(0.1, batch_size=2))
    round_fn = fh.make_round(fh.sampling.fixed([0, 1]), fh.executors.vmapped())
    first = _initial(round_fn, algorithm, federation, jax.random.key(0))
    after, _ = many_rounds(round_fn, algorithm, first, federation, rounds=1)
    np.testing.assert_array_equal(after.clients.buffers["batches"], [4, 2, 1, 1])
    if buffers == "averaged":
        close(after.server.buffers["batches"], (5 * 4 + 1 * 2 + 6 * 1) / 12, 1e-6)
    else:
        assert after.server.buffers == () and algorithm.consensus(after.server) is None
    newcomers = fh.adapt(algorithm, after.server, federation, key=jax.random.key(1))
    moved = np.abs(np.asarray(newcomers.params["w"]) - np.asarray(after.server.params["w"])).max(axis=1)
    assert moved.min() > 1e-3
    size = 4 * (2 + (buffers == "averaged"))
    assert algorithm.traffic(after.server) == fh.Traffic(size, size)


def test_bad_input_is_told(settings):
    problem, solver = settings[False].problem, fh.local.sgd(0.1, batch_size=4)
    with pytest.raises(ValueError, match=r"lam must be >= 0, got -1: 0 is local training"):
        fh.algorithms.meanreg(problem, solver, lam=-1)
    with pytest.raises(TypeError, match="lam must be a number"):
        fh.algorithms.meanreg(problem, solver, lam="1")
    with pytest.raises(TypeError, match="problem must come before solver"):
        fh.algorithms.meanreg(solver, problem)

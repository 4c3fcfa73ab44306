"""AFL against its NumPy loop, at its saddle point, and with clients missing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import fair, methods
from reference.models import Softmax
from reference.setting import RATE, SIZES, server_start, softmax_start

import fedjax_het as fh
from fedjax_het.algorithms import afl, qfedsgd
from fedjax_het.engine.blocks import block
from fedjax_het.engine.state import initial_state
from fedjax_het.federation import Rows
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

many_rounds = jax.jit(block, static_argnames="rounds")
GAMMA = 0.3
EMPTY = SIZES.index(0)


def path_of(setting, algorithm, start, federation=None, **options):
    """[state before the first and after each of three rounds]."""
    federation = setting.federation if federation is None else federation
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped(), **options)
    states = [initial_state(algorithm, federation, key=setting.key, round_fn=round_fn)]
    states[0] = server_start(start)(states[0])
    for _ in range(3):
        states.append(many_rounds(round_fn, algorithm, states[-1], federation, rounds=1)[0])
    return states


def loop(setting, start, **numbers):
    return fair.afl(
        Softmax, start, setting.x, setting.y, setting.held, setting.batches, 3, rate=RATE, **numbers
    )


@pytest.mark.parametrize(("started", "x64"), [(False, True), (True, True), (False, False)])
def test_it_is_the_loop(settings, started, x64):
    setting, start = settings[x64], softmax_start()
    begin = np.arange(1.0, 10.0) if started else None
    with jax.enable_x64(x64):
        algorithm = afl(setting.problem, setting.solver(), domain_learning_rate=GAMMA, start=begin)
        states = path_of(setting, algorithm, start)
        served = algorithm.consensus(states[-1].server)
    end, share, mean, path = loop(setting, start, gamma=GAMMA, mixture=begin)
    setting.same(states[-1].server.params["head"], end)
    setting.same(served.params["head"], mean)
    assert np.abs(mean["kernel"] - end["kernel"]).max() > 1e-3
    for state, expected in zip(states[1:], path):
        np.testing.assert_allclose(state.server.mixture, expected, atol=setting.tolerance)
    assert (np.asarray(share) == 0).sum() > 1, "a projection that cuts nobody off is not tested"


def test_the_mixture_stays_on_the_simplex_and_off_empty_clients(settings):
    setting, start = settings[False], softmax_start()
    for gamma in (0.0, 0.1, 50.0):
        algorithm = afl(setting.problem, setting.solver(), domain_learning_rate=gamma)
        for state in path_of(setting, algorithm, start):
            share = np.asarray(state.server.mixture)
            assert (share >= 0).all() and abs(share.sum() - 1) < 1e-6
            assert share[EMPTY] == 0
            assert np.asarray(state.server.domain).tolist() == [size > 0 for size in SIZES]


def test_nothing_is_averaged_before_the_first_round(settings):
    setting = settings[False]
    algorithm = afl(setting.problem, setting.solver())
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
    np.testing.assert_array_equal(
        algorithm.consensus(state.server).params["head"]["kernel"], state.server.params["head"]["kernel"]
    )
    after = many_rounds(round_fn, algorithm, state, setting.federation, rounds=1)[0].server
    np.testing.assert_allclose(after.mean.params["head"]["kernel"], after.params["head"]["kernel"], atol=1e-7)


def test_a_mixture_held_at_the_shares_of_rows_is_fedsgd(settings):
    setting, start = settings[True], softmax_start()
    everyone = [list(range(len(SIZES)))] * 3
    first = [[steps[:1] for steps in clients] for clients in setting.batches]
    expected = methods.fedavg(Softmax, start, setting.x, setting.y, setting.held, first, everyone, rate=RATE)
    with jax.enable_x64(True):
        algorithm = afl(setting.problem, setting.solver(), domain_learning_rate=0, start=SIZES)
        state = path_of(setting, algorithm, start)[-1]
    setting.same(state.server.params["head"], expected)
    np.testing.assert_allclose(state.server.mixture, np.array(SIZES) / sum(SIZES), atol=1e-12)


def test_every_loss_goes_to_its_own_client(settings):
    """One client is lost in the second round: the others' losses stay theirs, it keeps its lambda."""
    setting, start, lost = settings[True], softmax_start(), 2
    _, _, mean, path = loop(setting, start, gamma=0.05, missing=[[], [lost], []])
    with jax.enable_x64(True):
        algorithm = afl(setting.problem, setting.solver(), domain_learning_rate=0.05)
        options = {"on_nonfinite": "drop"}
        states = path_of(setting, algorithm, start, **options)[:2]
        rows = jnp.asarray(setting.held[lost], jnp.int32)
        spoiled = dataclasses.replace(setting.federation, x=setting.federation.x.at[rows].set(jnp.nan))
        round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped(), **options)
        for federation in (spoiled, setting.federation):
            states.append(many_rounds(round_fn, algorithm, states[-1], federation, rounds=1)[0])
        served = algorithm.consensus(states[-1].server)
    for state, expected in zip(states[1:], path):
        np.testing.assert_allclose(state.server.mixture, expected, atol=1e-9)
    setting.same(served.params["head"], mean)
    full = loop(setting, start, gamma=0.05)[1]
    assert np.abs(full - path[-1]).max() > 1e-3
    assert path[1][lost] == path[0][lost]


def test_clients_that_drop_out_keep_their_lambda(settings):
    """A sampler with a slot for everybody may still bring few; whom it does not bring is not judged."""
    setting = settings[False]
    algorithm = afl(setting.problem, setting.solver(), domain_learning_rate=0.3)
    sampler = fh.sampling.dropout(fh.sampling.everyone(), 0.5)
    round_fn = fh.make_round(sampler, fh.executors.vmapped())
    state = initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
    away = moved = 0
    for _ in range(5):
        before = np.asarray(state.server.mixture)
        state, logs = many_rounds(round_fn, algorithm, state, setting.federation, rounds=1)
        there = np.zeros(len(SIZES), bool)
        there[np.asarray(logs["id"])[0][np.asarray(logs["present"])[0]]] = True
        after = np.asarray(state.server.mixture)
        np.testing.assert_array_equal(after[~there], before[~there])
        moved += not np.allclose(after[there], before[there], atol=1e-6)
        np.testing.assert_allclose(after.sum(), 1, atol=1e-6)
        away += (~there).sum()
    assert away > 5 and moved > 0


def test_stragglers_do_their_one_batch(settings):
    setting = settings[False]
    late = fh.sampling.stragglers(fh.sampling.everyone(), 1.0, epochs=20)
    for build in (afl, qfedsgd):
        algorithm, ends = build(setting.problem, setting.solver()), []
        for sampler in (fh.sampling.everyone(), late):
            round_fn = fh.make_round(sampler, fh.executors.vmapped())
            state = initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
            ends.append(many_rounds(round_fn, algorithm, state, setting.federation, rounds=3)[0].server.params)
        np.testing.assert_array_equal(ends[0]["head"]["kernel"], ends[1]["head"]["kernel"])
        assert np.abs(ends[0]["head"]["kernel"]).max() > 0


def test_partial_participation_is_refused_before_anything_runs(settings):
    setting = settings[False]
    algorithm = afl(setting.problem, setting.solver())
    for sampler in (fh.sampling.uniform(8), fh.sampling.fixed([0, 1, 2])):
        with pytest.raises(ValueError, match=r"cohort must hold all 9 clients, got \d slots: .*everyone\(\)"):
            fh.simulate(algorithm, setting.federation, key=setting.key, rounds=1, sampler=sampler)


def test_a_client_with_rows_later_is_a_domain_from_the_start():
    """Two phases: client 1 has its row only in the second."""
    held = quadratic_federation(np.ones((3, 1, 1)), np.array([[0.0], [1.0], [2.0]]))
    offset = jnp.asarray([[0, 0, 2], [0, 1, 2]], jnp.int32)
    size = jnp.asarray([[1, 0, 1], [1, 1, 1]], jnp.int32)
    federation = dataclasses.replace(
        held,
        train=Rows(held.train.index, offset, size),
        schedule=jax.tree_util.Partial(lambda round_: jnp.minimum(round_, 1)),
        spec=dataclasses.replace(held.spec, phases=2),
    )
    problem = quadratic(Pool(held.x, held.y, held.spec.pool))
    algorithm = afl(problem, fh.local.sgd(0.1, batch_size=None), domain_learning_rate=0.1)
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    np.testing.assert_allclose(state.server.mixture, 1 / 3, rtol=1e-6)
    w = float(state.server.params["w"][0])
    after = many_rounds(round_fn, algorithm, state, federation, rounds=1)[0].server
    losses = np.array([w**2 / 2, 0, (w - 2) ** 2 / 2])
    there = fair.nearest_in_simplex((1 / 3 + 0.1 * losses[[0, 2]]) * 3 / 2) * 2 / 3
    np.testing.assert_allclose(after.mixture, [there[0], 1 / 3, there[1]], atol=1e-6)
    np.testing.assert_allclose(after.params["w"][0], w - 0.1 / 3 * (w + w - 2), rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_it_finds_the_saddle_point():
    """F_1 = w^2/2, F_2 = (w - 1)^2/2 + 0.2 and one that never matters: they cross at 0.7, where F_1 alone pulls
    with lambda_1 * 0.7 = lambda_2 * 0.3. The mean of all clients' losses is least elsewhere."""
    m, c = np.array([0.0, 1.0, 0.5]), np.array([0.0, 0.2, -1.0])
    federation = quadratic_federation(np.ones((3, 1, 1)), b=m[:, None], c=m**2 / 2 + c)
    problem = quadratic(Pool(federation.x, federation.y, federation.spec.pool))
    algorithm = afl(problem, fh.local.sgd(0.05, batch_size=None), domain_learning_rate=0.05)
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    server = many_rounds(round_fn, algorithm, state, federation, rounds=4000)[0].server
    assert abs(float(server.mean.params["w"][0]) - 0.7) < 5e-3
    np.testing.assert_allclose(server.mixture, [0.3, 0.7, 0.0], atol=1e-2)
    assert abs(m.mean() - 0.7) > 0.1


def test_what_is_refused(settings):
    problem, solver = settings[False].problem, settings[False].solver()
    with pytest.raises(ValueError, match=r"domain_learning_rate must be >= 0, got -1: 0 holds"):
        afl(problem, solver, domain_learning_rate=-1)
    with pytest.raises(ValueError, match=r"solver must be plain SGD, got one of kind .momentum.: .*without"):
        afl(problem, settings[False].solver(0.9))
    for start in ([-1.0, 2.0], [[1.0]], [0.0, 0.0]):
        with pytest.raises(ValueError, match=r"start must be .*one share for each client"):
            afl(problem, solver, start=start)
    with pytest.raises(TypeError, match=r"start must be a number, got 'even'"):
        afl(problem, solver, start="even")
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    with pytest.raises(
        ValueError, match=r"start must be one number for each of the 9 clients, got shape \(2,\)"
    ):
        initial_state(
            afl(problem, solver, start=[1.0, 2.0]),
            settings[False].federation,
            key=jax.random.key(0),
            round_fn=round_fn,
        )

"""L2GD: against a NumPy loop, without bias, and one coin for everybody."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import quadratics
from reference.late import late
from reference.models import Softmax, TanhNetwork
from reference.regularised import l2gd
from reference.setting import COHORTS, RATE, SIZES, flat_network, to_numpy

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.engine.blocks import block
from fedjax_het.engine.evaluate import every_client
from fedjax_het.engine.slots import make_client
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool
from fedjax_het.problem import Model, objective

many_rounds = jax.jit(block, static_argnames="rounds")
_initial = jax.jit(
    lambda round_fn, algorithm, federation, key: fh.initial_state(
        algorithm, federation, key=key, round_fn=round_fn
    )
)

EVERYONE = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())


def close(got, expected, digits=1e-9):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=0, atol=digits)


def of(federation):
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool))


def with_coin(state, together):
    """The state whose next round is together, or alone."""
    return dataclasses.replace(state, server=dataclasses.replace(state.server, together=jnp.asarray(together)))


# --- against the loop -----------------------------------------------------------------------------------------

WORK = [[1, 1, 0.1, 1, 0.5], [0.2, 0.5, 1, 1, 0.7], [1, 0.3, 0.5, 0.1, 1]]
"""Fractions of work in `COHORTS`; client 1 takes none of its two steps in the second round."""


@pytest.mark.parametrize(
    ("coins", "x64", "partial"),
    [
        ((False, True, False), True, True),
        ((False, True, True), True, False),
        ((False, True, False), False, False),
    ],
)
def test_it_is_the_loop_of_the_paper(settings, coins, x64, partial):
    """`partial`: clients stop part of the way, or before the first step; the coins are given."""
    setting, lam, p = settings[x64], 0.9, 0.4
    network, model = (setting.network, TanhNetwork) if x64 else (setting.problem, Softmax)
    flat = flat_network if x64 else (lambda params: to_numpy(params["head"]))
    done = [[0] * len(SIZES) for _ in COHORTS]
    for t, cohort in enumerate(COHORTS):
        for k, work in zip(cohort, WORK[t]):
            done[t][k] = int(np.round((work if partial else 1) * len(setting.batches[t][k])))
    with jax.enable_x64(x64):
        algorithm = fh.algorithms.l2gd(network, setting.solver(), lam=lam, p=p)
        sampler = late(COHORTS, WORK) if partial else fh.sampling.scripted(COHORTS)
        round_fn = fh.make_round(sampler, fh.executors.vmapped())
        state = _initial(round_fn, algorithm, setting.federation, setting.key)
        start = flat(state.server.params)
        for t, together in enumerate(coins):
            state, log = many_rounds(
                round_fn, algorithm, with_coin(state, together), setting.federation, rounds=1
            )
            steps = [0 if together else done[t][k] for k in COHORTS[t]]
            np.testing.assert_array_equal(log["info"]["steps"][0], steps)
            np.testing.assert_array_equal(log["info"]["together"][0], [together] * len(steps))
    given = (setting.x, setting.y, setting.held, setting.batches, COHORTS)
    mean, own = l2gd(model, start, *given, rate=RATE, lam=lam, p=p, coins=coins, done=done)
    setting.same(flat(state.server.params), mean)
    for k, params in enumerate(own):
        setting.same(flat(tree.take(state.clients.params, k)), params)
    np.testing.assert_array_equal(state.server.holders, np.asarray(SIZES) > 0)


# --- quadratics -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_a_round_is_on_average_a_step_of_alpha_on_the_objective():
    """alpha = eta N (1 - p), the gradient (1/N) (grad F_k(w_k) + lambda (w_k - w_bar)), whatever the sizes."""
    A, a = quadratics.functions()
    federation = quadratic_federation(A, a, sizes=[1, 2, 3, 6])
    rate, lam, p = 0.2, 0.7, 0.3
    algorithm = fh.algorithms.l2gd(of(federation), fh.local.sgd(rate, batch_size=None, steps=1), lam=lam, p=p)
    own = np.random.default_rng(4).normal(size=a.shape)
    state = _initial(EVERYONE, algorithm, federation, jax.random.key(0))
    server = dataclasses.replace(state.server, params={"w": jnp.asarray(own.mean(axis=0))})
    state = dataclasses.replace(state, server=server, clients=Model({"w": jnp.asarray(own)}, ()))
    moved = []
    for together in (False, True):
        after, _ = many_rounds(EVERYONE, algorithm, with_coin(state, together), federation, rounds=1)
        moved.append(np.asarray(after.clients.params["w"]) - own)
        close(after.server.params["w"], (own + moved[-1]).mean(axis=0), 1e-14)
    gradient = (np.einsum("nij,nj->ni", A, own - a) + lam * (own - own.mean(axis=0))) / 4
    close((1 - p) * moved[0] + p * moved[1], -rate * 4 * (1 - p) * gradient, 1e-14)
    close(moved[1].mean(axis=0), 0, 1e-14)


@pytest.mark.usefixtures("x64")
def test_several_steps_have_one_coin():
    """Together, w_k - w_bar shrinks by a factor for each step that there would have been; rates may change."""
    A, a = quadratics.functions()
    federation = quadratic_federation(A, a, sizes=[1, 2, 3, 6])
    lam, p = 0.9, 0.6
    solver = fh.local.sgd(fh.local.geometric(0.4, 0.5, unit="local"), batch_size=2, epochs=2)
    algorithm = fh.algorithms.l2gd(of(federation), solver, lam=lam, p=p)
    own = np.random.default_rng(4).normal(size=a.shape)
    state = with_coin(_initial(EVERYONE, algorithm, federation, jax.random.key(0)), True)
    state = dataclasses.replace(state, clients=Model({"w": jnp.asarray(own)}, ()))
    after, _ = many_rounds(EVERYONE, algorithm, state, federation, rounds=1)
    for k, steps in enumerate((2, 2, 4, 6)):
        left = np.prod([1 - 0.4 * 0.5**j * lam * (1 - p) / p for j in range(steps)])
        close(after.clients.params["w"][k], left * own[k], 1e-14)  # w_bar is still at its start, 0


@pytest.mark.usefixtures("x64")
def test_alone_then_together_is_uniform_fedavg():
    """With c = 1: w_bar and every model are the uniform mean of local models. The empty client has no part."""
    rng = np.random.default_rng(1)
    pool = fh.pool(rng.normal(size=(12, 3)), rng.integers(0, 3, 12), num_classes=3)
    federation = fh.from_index_lists(pool, None, np.split(np.arange(12), [5, 6, 6]), test=0.0)
    problem, solver = fh.models.softmax(pool), fh.local.sgd(0.1, batch_size=None, steps=3)
    algorithm = fh.algorithms.l2gd(problem, solver, lam=10.0, p=0.5)
    average = fh.algorithms.fedavg(problem, solver)
    uniform = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped(), weighting=fh.weighting.uniform())
    state = _initial(EVERYONE, algorithm, federation, jax.random.key(0))
    plain = _initial(uniform, average, federation, jax.random.key(0))
    for _ in range(3):
        for together in (False, True):
            state, _ = many_rounds(EVERYONE, algorithm, with_coin(state, together), federation, rounds=1)
        plain, _ = many_rounds(uniform, average, plain, federation, rounds=1)
        for ours, own, theirs in zip(
            *map(jax.tree.leaves, (state.server.params, state.clients.params, plain.server.params)), strict=True
        ):
            close(ours, theirs, 1e-13)
            for k in (0, 1, 3):
                close(own[k], theirs, 1e-13)
    assert max(np.abs(np.asarray(leaf)).max() for leaf in jax.tree.leaves(plain.server.params)) > 1e-2


# --- the coin -------------------------------------------------------------------------------------------------


def test_one_coin_for_all_falls_as_often_as_it_should(settings):
    setting = settings[False]
    algorithm = fh.algorithms.l2gd(setting.problem, setting.solver(), p=0.3)
    round_fn = fh.make_round(fh.sampling.scripted(COHORTS), fh.executors.vmapped())
    state = _initial(round_fn, algorithm, setting.federation, setting.key)
    coins = np.asarray(jax.jit(jax.vmap(algorithm.coin))(jax.random.split(jax.random.key(0), 4000)))
    assert abs(coins.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)
    seen = [bool(state.server.together)]
    _, log = many_rounds(round_fn, algorithm, state, setting.federation, rounds=40)
    steps, present = np.asarray(log["info"]["steps"]), np.asarray(log["present"])
    together = np.asarray(log["info"]["together"])
    assert seen[0] == together[0, 0]
    for t in range(40):
        assert len(set(together[t])) == 1
        worked = steps[t][present[t]] > 0
        assert not worked.any() if together[t, 0] else worked.all()
    fallen = together[:, 0].mean()
    assert abs(fallen - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 40) and 0 < fallen < 1
    other = _initial(round_fn, algorithm, setting.federation, jax.random.key(12))
    _, again = many_rounds(round_fn, algorithm, other, setting.federation, rounds=40)
    assert not np.array_equal(again["info"]["together"], together), "another run has other coins"


def test_without_lambda_being_together_moves_nobody(settings):
    setting = settings[False]
    algorithm = fh.algorithms.l2gd(setting.problem, setting.solver(), lam=0.0)
    round_fn = fh.make_round(fh.sampling.scripted(COHORTS), fh.executors.vmapped())
    state = _initial(round_fn, algorithm, setting.federation, setting.key)
    state, _ = many_rounds(round_fn, algorithm, with_coin(state, False), setting.federation, rounds=1)
    after, _ = many_rounds(round_fn, algorithm, with_coin(state, True), setting.federation, rounds=1)
    for a, b in zip(jax.tree.leaves(after.clients), jax.tree.leaves(state.clients), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_round_without_anybody_keeps_the_coin(settings):
    setting = settings[False]
    algorithm = fh.algorithms.l2gd(setting.problem, setting.solver())
    nobody = fh.make_round(fh.sampling.fixed([SIZES.index(0)]), fh.executors.vmapped())
    state = _initial(nobody, algorithm, setting.federation, setting.key)
    for together in (False, True):
        after, _ = many_rounds(nobody, algorithm, with_coin(state, together), setting.federation, rounds=3)
        assert bool(after.server.together) == together


def test_a_client_without_rows_is_served_the_mean(settings):
    """Members are served their own, and so is a newcomer of the number of a client without rows."""
    setting, empty = settings[False], SIZES.index(0)
    algorithm = fh.algorithms.l2gd(setting.problem, setting.solver())
    state = with_coin(_initial(EVERYONE, algorithm, setting.federation, setting.key), False)
    state, _ = many_rounds(EVERYONE, algorithm, state, setting.federation, rounds=1)

    @jax.jit
    def served(state, data_of):
        slots = every_client(algorithm, state, setting.federation, jnp.zeros((), jnp.int32))
        client = make_client(setting.federation, tree.take(slots, empty), setting.key, jnp.int32(0))
        data = setting.federation.data("train", setting.federation.locate("train", jnp.int32(0), data_of))
        return algorithm.personalise(state.server, dataclasses.replace(client, data=data)).params

    own = tree.take(state.clients.params, empty)
    for params, expected in ((served(state, empty), state.server.params), (served(state, 0), own)):
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(state.server.params), strict=True)
    )


def test_newcomers_take_local_steps_from_the_mean(settings):
    setting = settings[False]
    algorithm = fh.algorithms.l2gd(setting.problem, setting.solver())
    state = _initial(EVERYONE, algorithm, setting.federation, setting.key)
    newcomers = fh.adapt(algorithm, state.server, setting.federation, key=jax.random.key(1))
    for own, mean in zip(jax.tree.leaves(newcomers.params), jax.tree.leaves(state.server.params), strict=True):
        for k, size in enumerate(SIZES):
            assert np.array_equal(own[k], mean) == (size == 0)


def test_a_newcomers_steps_are_those_of_its_round_and_its_work(settings):
    """Rates go on from the round's place in the run, and work that is not there is not done."""
    setting = settings[False]
    clocked = fh.local.sgd(fh.local.geometric(0.4, 0.5), batch_size=4)
    algorithm = fh.algorithms.l2gd(setting.problem, clocked)
    state = _initial(EVERYONE, algorithm, setting.federation, setting.key)

    @jax.jit
    def joined(round_, work):
        slots = every_client(algorithm, state, setting.federation, jnp.zeros((), jnp.int32))
        client = make_client(setting.federation, tree.take(slots, 0), setting.key, jnp.int32(0))
        client = dataclasses.replace(client, round=round_, work=work)
        f, start = objective(algorithm.problem), Model(state.server.params, ())
        expected = clocked.solve(client.key, f, start, client.data, round_=round_, work=work)
        return algorithm.join(state.server, client).params["head"]["bias"], expected.params["head"]["bias"]

    ends = {(t, work): joined(jnp.int32(t), jnp.float32(work)) for t, work in ((0, 1), (3, 1), (0, 0))}
    for got, expected in ends.values():
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(ends[0, 0][0], state.server.params["head"]["bias"])
    assert np.abs(ends[3, 1][0]).max() < 0.3 * np.abs(ends[0, 1][0]).max()


# --- numbers --------------------------------------------------------------------------------------------------


def test_bad_input_is_told(settings):
    problem, solver = settings[False].problem, fh.local.sgd(0.5, batch_size=4)
    build = fh.algorithms.l2gd
    with pytest.raises(ValueError, match=r"lam must be >= 0, got -0\.1"):
        build(problem, solver, lam=-0.1)
    for p in (0, 1, 1.5):
        with pytest.raises(ValueError, match="p must be"):
            build(problem, solver, p=p)
    with pytest.raises(ValueError, match=r"lam must be <= p / \(\(1 - p\) eta\) = 0\.5 for .* got 0\.6: "):
        build(problem, solver, lam=0.6, p=0.2)
    build(problem, solver, lam=0.5, p=0.2)
    jax.jit(lambda lam: build(problem, solver, lam=lam).lam)(9.0)  # not known before the run
    with pytest.raises(ValueError, match="solver must be plain SGD, got kind 'momentum'"):
        build(problem, fh.local.sgd(0.1, batch_size=4, momentum=0.9))
    with pytest.raises(TypeError, match="problem must come before solver"):
        build(solver, problem)

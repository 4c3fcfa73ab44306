"""APFL: against a NumPy loop, its global track, its limits, and what public code gets wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import quadratics
from reference.meta import apfl as loop
from reference.models import Softmax, TanhNetwork
from reference.setting import COHORTS, SIZES, flat_network, in_jax, softmax_start, three_rounds, to_numpy
from reference.used import of_each, trained, used

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.algorithms import apfl
from fedjax_het.engine.blocks import block
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

many_rounds = jax.jit(block, static_argnames="rounds")


def equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def begun(start):
    """Softmax: the server, every own part and every last w_k begin at `start`."""

    def change(state):
        params = {"head": in_jax(start)}
        server = dataclasses.replace(state.server, params=params)
        everywhere = tree.stack(params, len(SIZES))
        last = state.clients.last if state.clients.last == () else everywhere
        return dataclasses.replace(
            state, server=server, clients=dataclasses.replace(state.clients, params=everywhere, last=last)
        )

    return change


@pytest.mark.parametrize(
    ("alpha", "adaptive", "momentum", "mixed_with", "x64"),
    [
        (0.25, False, None, "own", True),
        (0.5, True, 0.9, "own", True),
        (0.75, True, None, "global", True),
        (0.5, True, None, "own", False),
        (0.75, False, 0.9, "global", False),
    ],
)
def test_it_is_the_loop_of_the_paper(settings, alpha, adaptive, momentum, mixed_with, x64):
    setting, seen = settings[x64], {}
    network = mixed_with == "own"
    flat = flat_network if network else (lambda params: to_numpy(params["head"]))

    def look(state):
        state = state if network else begun(softmax_start())(state)
        seen.update(flat(state.server.params))
        return state

    with jax.enable_x64(x64):
        algorithm = apfl(
            setting.network if network else setting.problem,
            setting.solver(momentum),
            alpha=alpha,
            adaptive=adaptive,
            mixed_with=mixed_with,
        )
        state, log = three_rounds(algorithm, setting.federation, setting.key, look)
        models = used(algorithm, state, setting.federation)
    w, own, shares, mixtures = setting.reference(
        loop,
        TanhNetwork if network else Softmax,
        seen,
        alpha=alpha,
        adaptive=adaptive,
        momentum=momentum or 0.0,
        mixed_with=mixed_with,
    )
    setting.same(flat(state.server.params), w)
    for k in range(len(SIZES)):
        setting.same(flat(tree.take(state.clients.params, k)), own[k])
        setting.same(flat(tree.take(models.params, k)), mixtures[k])
    setting.same({"alpha": state.clients.alpha}, {"alpha": np.array(shares)})
    assert (len(set(shares)) > 1) == adaptive
    told = np.asarray(log["info"]["alpha"])[-1][np.asarray(log["present"])[-1]]
    np.testing.assert_array_equal(told, np.asarray(state.clients.alpha)[[k for k in COHORTS[-1] if SIZES[k]]])


@pytest.mark.parametrize("x64", [True, False], ids=["x64", "float32"])
def test_the_global_track_is_federated_averaging_to_the_bit(settings, x64):
    """Whatever alpha does, with momentum and an optimiser at the server."""
    setting = settings[x64]
    with jax.enable_x64(x64):
        solver, server = setting.solver(0.9), fh.local.optimizer(optax.adam, learning_rate=0.1)
        average = dataclasses.replace(
            fh.algorithms.fedavg(setting.network, solver, server=server), weighting=fh.weighting.uniform()
        )
        expected, plain = trained(average, setting.federation, setting.key)
        algorithm = apfl(setting.network, solver, alpha=0.7, adaptive=True, server=server)
        got, log = trained(algorithm, setting.federation, setting.key)
    equal(got.server, expected.server)
    for name in plain["info"]:
        np.testing.assert_array_equal(log["info"][name], plain["info"][name])
    assert len(set(np.asarray(got.clients.alpha).tolist())) > 1


@pytest.mark.parametrize("full", [False, True], ids=["batches of four", "full batches"])
def test_alpha_one_is_local_training_and_alpha_zero_is_the_local_end_of_the_global_track(settings, full):
    setting = settings[True]
    with jax.enable_x64(True):
        solver = fh.local.sgd(0.15, batch_size=None, epochs=3) if full else setting.solver()
        alone, _ = trained(fh.algorithms.local_only(setting.network, solver), setting.federation, setting.key)
        own = apfl(setting.network, solver, alpha=1.0)
        got, _ = trained(own, setting.federation, setting.key)
        models = used(own, got, setting.federation)
        equal(models.params, got.clients.params)
        for a, b in zip(jax.tree.leaves(got.clients.params), jax.tree.leaves(alone.clients.params)):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
        none = apfl(setting.network, solver, alpha=0.0, mixed_with="global")
        got, _ = trained(none, setting.federation, setting.key)
        models = used(none, got, setting.federation)
    for k in range(len(SIZES)):
        equal(tree.take(models.params, k), got.server.params)
    equal(
        got.clients.params, tree.stack(tree.take(got.clients.params, 4), len(SIZES))
    )  # nobody's own part moved


def test_the_gradient_of_the_own_part_has_the_factor_alpha(settings):
    """In a first round of one step v_k and w_k start together, so v_k goes alpha times as far."""
    setting, alpha = settings[True], 0.3
    with jax.enable_x64(True):
        solver = fh.local.sgd(0.15, batch_size=None, steps=1)
        algorithm = apfl(setting.network, solver, alpha=alpha)
        round_fn = fh.make_round(fh.sampling.fixed([5]), fh.executors.vmapped())
        first = fh.initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
        state, _ = many_rounds(round_fn, algorithm, first, setting.federation, rounds=1)
        moved = tree.subtract(tree.take(state.clients.params, 5), first.server.params)
        whole = tree.subtract(state.server.params, first.server.params)
    for a, b in zip(*(map(np.asarray, jax.tree.leaves(part)) for part in (moved, whole))):
        np.testing.assert_allclose(a, alpha * b, rtol=0, atol=1e-14)
        assert np.abs(b).max() > 1e-4


def test_alpha_moves_once_a_round_and_stays_in_the_unit_interval(settings):
    """Not in a client's first step, where v_k = w_k; a huge rate ends in a corner."""
    setting = settings[True]
    with jax.enable_x64(True):
        algorithm = apfl(setting.problem, setting.solver(), adaptive=True)
        round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
        state = fh.initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
        first, _ = many_rounds(round_fn, algorithm, state, setting.federation, rounds=1)
        np.testing.assert_array_equal(first.clients.alpha, 0.5)
        later, _ = many_rounds(round_fn, algorithm, first, setting.federation, rounds=1)
        moved = np.asarray(later.clients.alpha) != 0.5
        np.testing.assert_array_equal(moved, np.array(SIZES) > 0)
        wild = apfl(setting.problem, fh.local.sgd(30.0, batch_size=4, epochs=2), adaptive=True)
        wild, _ = many_rounds(round_fn, wild, state, setting.federation, rounds=6)
    shares = np.asarray(wild.clients.alpha)
    assert shares.min() >= 0 and shares.max() <= 1 and {0.0, 1.0} & set(shares.tolist())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("alpha", [0.2, 0.9])
def test_on_quadratics_the_mixture_is_the_clients_own_minimum(alpha):
    """With one full step a round and w at its limit, alpha v_k + (1 - alpha) w = a_k, however small alpha."""
    A, a = quadratics.functions()
    federation = quadratic_federation(A, a)
    best = quadratics.optimum(A, a, np.full(4, 0.25))
    pool = Pool(federation.x, federation.y, federation.spec.pool)
    solver = fh.local.sgd(0.3, batch_size=None, steps=1)
    algorithm = apfl(quadratic(pool), solver, alpha=alpha, mixed_with="global")
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    state, _ = many_rounds(round_fn, algorithm, state, federation, rounds=6000)
    np.testing.assert_allclose(state.server.params["w"], best, rtol=0, atol=1e-9)
    expected = (a - (1 - alpha) * best) / alpha
    np.testing.assert_allclose(state.clients.params["w"], expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(used(algorithm, state, federation).params["w"], a, rtol=0, atol=1e-8)


def test_parameters_are_mixed_and_not_outputs_and_evaluation_scores_the_mixture(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        algorithm = apfl(setting.network, setting.solver())
        state, _ = trained(algorithm, setting.federation, setting.key)
        models, k = used(algorithm, state, setting.federation), 5
        x = jnp.asarray(setting.x[setting.held[k]])
        y = jnp.asarray(setting.y[setting.held[k]])

        def outputs(params):
            return setting.network.apply(params, (), x)[0]

        own, last = tree.take((state.clients.params, state.clients.last), k)
        served = algorithm.predict(tree.take(models, k), x)
        halves = jax.tree.map(lambda u, v: (u + v) / 2, own, last)
        np.testing.assert_allclose(served, outputs(halves), rtol=0, atol=1e-12)
        assert np.abs(served - (outputs(own) + outputs(last)) / 2).max() > 1e-6
        seen = jax.jit(fh.evaluate, static_argnames="split")(
            algorithm, state, setting.federation, split="train"
        )
        loss = float(setting.network.losses(served, y).mean())
    personal, shared = (np.asarray(scores["loss"])[k] for scores in (seen.personal, seen.shared))
    np.testing.assert_allclose(personal, loss, rtol=1e-9)
    assert abs(personal - shared) > 1e-3


def _sent(algorithm, server, client):
    return algorithm.client_update(server, client).total


def test_nothing_of_the_own_part_is_uploaded(settings):
    """NaN in v_k and alpha_k does not reach the upload."""
    setting = settings[False]
    algorithm = apfl(setting.network, setting.solver(), adaptive=True)
    state, _ = trained(algorithm, setting.federation, setting.key)
    clients = dataclasses.replace(
        state.clients,
        params=jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), state.clients.params),
        alpha=jnp.full_like(state.clients.alpha, jnp.nan),
    )
    tainted = dataclasses.replace(state, clients=clients)
    clean, sent = (of_each(_sent, algorithm, each, setting.federation) for each in (state, tainted))
    equal(sent, clean)
    assert bool(tree.all_finite(clean))


def test_a_newcomer_uses_the_global_model(settings):
    setting = settings[False]
    algorithm = apfl(setting.network, setting.solver(), alpha=0.25)
    state, _ = trained(algorithm, setting.federation, setting.key)
    clients = fh.adapt(algorithm, state.server, setting.federation, key=jax.random.key(4))
    models = used(algorithm, dataclasses.replace(state, clients=clients), setting.federation)
    for a, b in zip(jax.tree.leaves(models.params), jax.tree.leaves(state.server.params)):
        np.testing.assert_allclose(a, np.broadcast_to(b, a.shape), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(clients.alpha, np.float32(0.25))


@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        ({"alpha": 1.1}, ValueError, "alpha must be <= 1.*1 is local training"),
        ({"alpha": -0.1}, ValueError, "alpha must be >= 0.*0 is FedAvg"),
        ({"alpha": "half"}, TypeError, "alpha must be a number"),
        ({"adaptive": 0.1}, TypeError, "adaptive must be true or false, got 0.1"),
        ({"mixed_with": "globl"}, ValueError, "did you mean 'global'"),
        ({"server": optax.sgd(1.0)}, TypeError, "server must be made by fh.local.optimizer"),
    ],
)
def test_bad_input(settings, numbers, error, message):
    with pytest.raises(error, match=message):
        apfl(settings[False].problem, settings[False].solver(), **numbers)


def test_an_adaptive_alpha_needs_a_rate(settings):
    problem = settings[False].problem
    finished = fh.local.from_optax(optax.adam(0.1), batch_size=4)
    assert not apfl(problem, finished).adaptive
    assert apfl(
        problem, fh.local.from_optax(optax.adam, learning_rate=0.1, batch_size=4), adaptive=True
    ).adaptive
    with pytest.raises(ValueError, match="solver must have a learning rate for an adaptive alpha"):
        apfl(problem, finished, adaptive=True)

"""LG-FedAvg: local representations under a common head, warm starts, and the ensemble for newcomers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import partial as by_hand
from reference.models import TanhNetwork
from reference.setting import SIZES, flat_network, three_rounds

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.models import mlp, selectors

BODY = ["in_kernel", "in_bias"]


def seen(start):
    """A change of the first state that notes its params."""

    def look(state):
        start.update(flat_network(tree.combine(tree.take(state.clients.params, 0), state.server.params)))
        return state

    return look


@pytest.fixture(scope="module")
def run(settings):
    """(algorithm, state) after three rounds, in double precision."""
    setting = settings[True]
    with jax.enable_x64(True):
        algorithm = fh.algorithms.lgfedavg(setting.network, setting.solver())
        return algorithm, three_rounds(algorithm, setting.federation, setting.key)[0]


@pytest.mark.parametrize(
    ("x64", "weights", "momentum"),
    [(True, "proportional", 0.5), (True, "uniform", 0.0), (False, "proportional", 0.5)],
)
def test_against_loops(settings, x64, weights, momentum):
    setting, start = settings[x64], {}
    with jax.enable_x64(x64):
        algorithm = fh.algorithms.lgfedavg(setting.network, setting.solver(momentum), weights=weights)
        state, _ = three_rounds(algorithm, setting.federation, setting.key, seen(start))
    shared, own = setting.reference(
        by_hand.partial, TanhNetwork, start, personal=BODY, momentum=momentum, weights=weights
    )
    assert set(shared) == {"out_kernel", "out_bias"}, "the head is what travels, not the representation"
    for k, body in enumerate(own):
        params = tree.combine(tree.take(state.clients.params, k), state.server.params)
        setting.same(flat_network(params), {**shared, **body})


def test_only_the_head_travels(run):
    algorithm, state = run
    assert selectors.leaf_paths(state.server.params) == ["head/bias", "head/kernel"]
    cost = algorithm.traffic(state.server)
    assert cost.up == cost.down == 8 * 3 * (5 + 1)


def test_a_warm_start_is_where_everybody_begins(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        average = fh.algorithms.fedavg(setting.network, setting.solver())
        trained, _ = three_rounds(average, setting.federation, setting.key)
        start = average.consensus(trained.server)
        algorithm = fh.algorithms.lgfedavg(setting.network, setting.solver(), start=start)
        server, clients = algorithm.init(jax.random.key(5), setting.federation)
        for k in range(len(SIZES)):
            got = tree.combine(tree.take(clients.params, k), server.params)
            jax.tree.map(np.testing.assert_array_equal, got, start.params)
        after, _ = three_rounds(algorithm, setting.federation, setting.key)
    expected, own = setting.reference(by_hand.partial, TanhNetwork, flat_network(start.params), personal=BODY)
    for k, body in enumerate(own):
        params = tree.combine(tree.take(after.clients.params, k), after.server.params)
        setting.same(flat_network(params), {**expected, **body})


def test_another_start_is_the_same_program(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        fresh = setting.network.init(jax.random.key(1))
        a, b = (
            fh.algorithms.lgfedavg(setting.network, setting.solver(), start=fh.Model(params, ()))
            for params in (fresh.params, tree.scale(2.0, fresh.params))
        )
    assert jax.tree.structure(a) == jax.tree.structure(b)
    plain = fh.Model(jax.tree.map(np.asarray, fresh.params), ())
    with jax.enable_x64(True):
        jax.tree.map(
            np.testing.assert_array_equal,
            fh.algorithms.lgfedavg(setting.network, setting.solver(), start=plain),
            a,
        )


def test_starts_that_do_not_fit(settings):
    setting = settings[False]
    network, solver = setting.network, setting.solver()
    fresh = network.init(jax.random.key(0))
    with pytest.raises(TypeError, match=r"start must be a Model, got dict.*consensus"):
        fh.algorithms.lgfedavg(network, solver, start={"a": 1, **fresh.params, "b": np.ones((9, 9))})
    with pytest.raises(ValueError, match=r"params/dense_0/bias of shape \(5,\), got \(7,\)"):
        other = mlp(setting.federation.pool, hidden=(7,)).init(jax.random.key(0))
        fh.algorithms.lgfedavg(network, solver, start=other)
    with pytest.raises(ValueError, match=r"params/dense_0/bias of shape .*got no such leaf"):
        fh.algorithms.lgfedavg(network, solver, start=fh.Model({"head": fresh.params["head"]}, ()))


def test_weights_are_named(settings):
    setting = settings[False]
    with pytest.raises(ValueError, match=r"weights must be .*did you mean 'uniform'"):
        fh.algorithms.lgfedavg(setting.network, setting.solver(), weights="unifrom")


@pytest.mark.parametrize("vote", [False, True])
def test_the_ensemble_asks_every_trained_model(settings, run, vote):
    setting, (algorithm, state) = settings[True], run
    trained = [k for k in range(len(SIZES)) if SIZES[k]]
    assert (np.asarray(state.seen.round)[trained] >= 0).all() and state.seen.round[4] == -1
    x = setting.x[:6]
    with jax.enable_x64(True):
        together, asked = fh.algorithms.ensemble(algorithm, state, vote=vote)
        got = np.asarray(together.predict(together.consensus(asked.server), jnp.asarray(x)))
    outs = []
    for k in trained:
        p = flat_network(tree.combine(tree.take(state.clients.params, k), state.server.params))
        outs.append(np.tanh(x @ p["in_kernel"] + p["in_bias"]) @ p["out_kernel"] + p["out_bias"])
    if vote:
        votes = np.zeros_like(outs[0])
        for out in outs:
            votes[np.arange(len(x)), out.argmax(axis=1)] += 1
        np.testing.assert_array_equal(got, votes)
        assert (got.sum(axis=1) == len(trained)).all()
    else:
        np.testing.assert_allclose(got, np.mean(outs, axis=0), rtol=1e-12)


def test_the_ensemble_serves_newcomers_without_their_labels(settings, run):
    """More newcomers than there were clients; none counts as trained, and other labels change no prediction."""
    setting, (algorithm, state) = settings[True], run
    with jax.enable_x64(True):
        together, asked = fh.algorithms.ensemble(algorithm, state)
        pool = setting.federation.pool
        parts = np.array_split(np.arange(setting.x.shape[0]), 20)
        strangers = fh.from_index_lists(pool, None, parts, test=0.5)
        scores = fh.evaluate(together, asked, strangers)
        out = together.predict(asked.server, setting.federation.x)
        rows = np.asarray(strangers.test.index)
        right = np.argmax(np.asarray(out), 1) == np.asarray(setting.federation.y)
    assert not np.asarray(scores.trained).any() and len(scores.client) == 20
    np.testing.assert_allclose(scores.union["accuracy"], right[rows].mean(), atol=1e-12)
    for name in scores.shared:
        np.testing.assert_array_equal(scores.shared[name], scores.personal[name])


def test_ensembles_that_cannot_be(run):
    algorithm, state = run
    nobody = dataclasses.replace(state.seen, round=jnp.full_like(state.seen.round, -1))
    with pytest.raises(ValueError, match="state must be of a run in which clients took part"):
        fh.algorithms.ensemble(algorithm, dataclasses.replace(state, seen=nobody))
    losses = dataclasses.replace(algorithm.problem.facts, log_likelihood=False)
    other = dataclasses.replace(algorithm, problem=dataclasses.replace(algorithm.problem, facts=losses))
    with pytest.raises(ValueError, match="vote must be False for 'mlp'"):
        fh.algorithms.ensemble(other, state, vote=True)


def test_a_newcomer_fits_its_representation_and_the_head_stays(settings, run):
    setting, (algorithm, state) = settings[True], run
    with jax.enable_x64(True):
        clients = fh.adapt(algorithm, state.server, setting.federation, key=jax.random.key(9))
        loss = {}
        for k in (4, 5):
            model = algorithm.combined(state.server, tree.take(clients, k))
            jax.tree.map(np.testing.assert_array_equal, model.params["head"], state.server.params["head"])
            out, _ = setting.network.apply(*model, setting.federation.x[setting.held[5]])
            loss[k] = float(jnp.mean(setting.network.losses(out, setting.federation.y[setting.held[5]])))
    assert loss[5] < loss[4], "client 5 has trained on its rows; client 4 has none to train on"

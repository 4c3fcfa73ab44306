"""Every method against its NumPy loop: ragged clients, an empty one, short batches, five of nine a round."""

import jax
import numpy as np
import pytest
from reference import methods
from reference.models import Softmax, TanhNetwork
from reference.setting import (
    BATCH,
    COHORTS,
    EPOCHS,
    SIZES,
    flat_network,
    server_start,
    softmax_start,
    three_rounds,
)

import fedjax_het as fh
from fedjax_het import tree

both = pytest.mark.parametrize("x64", [True, False], ids=["x64", "float32"])


def test_recorded_batches_cover_the_clients(settings):
    setting = settings[True]
    for clients in setting.batches:
        for k, steps in enumerate(clients):
            assert len(steps) == EPOCHS * -(-SIZES[k] // BATCH)
            per_epoch = len(steps) // EPOCHS
            for epoch in range(EPOCHS):
                seen = steps[epoch * per_epoch : (epoch + 1) * per_epoch]
                assert all(len(rows) == BATCH for rows in seen[:-1])
                visited = np.concatenate(seen) if seen else np.zeros(0, int)
                np.testing.assert_array_equal(np.sort(visited), np.sort(setting.held[k]))
    assert any(len(rows) < BATCH for clients in setting.batches for steps in clients for rows in steps)
    assert not np.array_equal(setting.batches[0][5][0], setting.batches[1][5][0])


@pytest.mark.parametrize(
    ("mu", "momentum", "x64"),
    [(None, None, True), (None, None, False), (0.7, None, True), (0.7, 0.9, True), (0.7, 0.9, False)],
)
def test_fedavg_and_fedprox(settings, x64, momentum, mu):
    setting, start = settings[x64], softmax_start()
    with jax.enable_x64(x64):
        solver = setting.solver(momentum)
        if mu is None:
            algorithm = fh.algorithms.fedavg(setting.problem, solver)
        else:
            algorithm = fh.algorithms.fedprox(setting.problem, solver, mu=mu)
        state, log = three_rounds(algorithm, setting.federation, setting.key, server_start(start))
    numbers = {"momentum": momentum or 0.0}
    if mu is None:
        expected = setting.reference(methods.fedavg, Softmax, start, **numbers)
    else:
        expected = setting.reference(methods.fedprox, Softmax, start, mu=mu, **numbers)
    setting.same(state.server.params["head"], expected)
    np.testing.assert_array_equal(log["id"], COHORTS)
    steps = [[len(setting.batches[t][k]) for k in cohort] for t, cohort in enumerate(COHORTS)]
    np.testing.assert_array_equal(log["info"]["steps"], steps)


@pytest.mark.parametrize(
    ("option", "momentum", "x64"),
    [("I", None, True), ("I", 0.9, True), ("I", None, False), ("II", None, True), ("II", None, False)],
)
def test_scaffold(settings, x64, option, momentum):
    setting, start = settings[x64], softmax_start()
    with jax.enable_x64(x64):
        algorithm = fh.algorithms.scaffold(
            setting.problem, setting.solver(momentum), option=option, server_learning_rate=0.8
        )
        state, _ = three_rounds(algorithm, setting.federation, setting.key, server_start(start))
    server, shared, own = setting.reference(
        methods.scaffold, Softmax, start, option=option, momentum=momentum or 0.0, server_rate=0.8
    )
    setting.same(state.server.params["head"], server)
    setting.same(state.server.control["head"], shared)
    for k, control in enumerate(own):
        setting.same(tree.take(state.clients.control, k)["head"], control)
    mean = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64).mean(axis=0), state.clients.control)
    setting.same(state.server.control["head"], mean["head"])


@both
def test_ifca(settings, x64):
    setting = settings[x64]
    starts = [softmax_start(seed) for seed in (0, 1, 2)]
    centres = {name: np.stack([start[name] for start in starts]) for name in starts[0]}
    with jax.enable_x64(x64):
        algorithm = fh.algorithms.ifca(setting.problem, setting.solver(), clusters=3)
        state, log = three_rounds(algorithm, setting.federation, setting.key, server_start(centres))
    expected, choices = setting.reference(methods.ifca, Softmax, starts)
    for j, centre in enumerate(expected):
        setting.same(tree.take(state.server.params, j)["head"], centre)
    np.testing.assert_array_equal(state.clients.cluster, choices)
    assert len({j for j in choices if j >= 0}) > 1, "a test of clusters needs more than one in use"
    last = [choices[k] for k in COHORTS[-1] if SIZES[k]]
    np.testing.assert_array_equal(np.asarray(log["info"]["cluster"])[-1][np.asarray(log["present"])[-1]], last)


@both
def test_fedper(settings, x64):
    setting, seen = settings[x64], {}

    def look(state):
        params = tree.combine(tree.take(state.clients.params, 0), state.server.params)
        seen.update(flat_network(params))
        return state

    with jax.enable_x64(x64):
        algorithm = fh.algorithms.fedper(setting.network, setting.solver(0.9))
        state, _ = three_rounds(algorithm, setting.federation, setting.key, look)
    shared, own = setting.reference(
        methods.fedper, TanhNetwork, seen, personal=["out_kernel", "out_bias"], momentum=0.9
    )
    for k, personal in enumerate(own):
        params = tree.combine(tree.take(state.clients.params, k), state.server.params)
        setting.same(flat_network(params), {**shared, **personal})


def test_local_only(settings):
    setting, seen = settings[True], {}

    def look(state):
        seen.update(flat_network(tree.take(state.clients.params, 0)))
        return state

    with jax.enable_x64(True):
        algorithm = fh.algorithms.local_only(setting.network, setting.solver())
        state, _ = three_rounds(algorithm, setting.federation, setting.key, look)
    for k, params in enumerate(setting.reference(methods.local_only, TanhNetwork, seen)):
        setting.same(flat_network(tree.take(state.clients.params, k)), params)


def test_fedavg_on_a_network(settings):
    setting, seen = settings[True], {}

    def look(state):
        seen.update(flat_network(state.server.params))
        return state

    with jax.enable_x64(True):
        algorithm = fh.algorithms.fedavg(setting.network, setting.solver())
        state, _ = three_rounds(algorithm, setting.federation, setting.key, look)
    setting.same(flat_network(state.server.params), setting.reference(methods.fedavg, TanhNetwork, seen))
